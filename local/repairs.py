"""What the stand-in's CloudFormation leaves out, made up for after a deployment. AWS needs none.

It ignores the ``Body`` of an HTTP API, in which SAM writes the routes, so the API comes out without
any. ``_add_routes`` reads that very ``Body`` from the processed template and makes the routes
through the API Gateway API. The other repairs are for ``StandIn(auth=True)``, which judges two
grants of the template wrongly.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.stand_in import StandIn

FUNCTION_IN_URI = re.compile(r"/functions/\$\{(?P<logical_id>\w+)(?P<arn>\.Arn)?\}/invocations$")
LEADING_KEYS = "dynamodb:LeadingKeys"


class StackError(RuntimeError):
    """The deployed stack lacks something that the template promises."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The deployed stack as CloudFormation describes it.

    Attributes:
        stand_in: where it lives.
        resources: logical id to (type, physical id).
        outputs: key to value.
        template: the processed template's resources, by logical id.

    """

    stand_in: StandIn
    resources: Mapping[str, tuple[str, str]]
    outputs: Mapping[str, str]
    template: Mapping[str, Any]

    @classmethod
    def read(cls, stand_in: StandIn, name: str) -> Stack:
        """Ask CloudFormation for the stack of that name."""
        formation = stand_in.client("cloudformation")
        stack = formation.describe_stacks(StackName=name)["Stacks"][0]
        listed = formation.get_paginator("list_stack_resources").paginate(StackName=name)
        body = formation.get_template(StackName=name, TemplateStage="Processed")
        template = body["TemplateBody"]
        return cls(
            stand_in=stand_in,
            resources={
                each["LogicalResourceId"]: (each["ResourceType"], each["PhysicalResourceId"])
                for page in listed
                for each in page["StackResourceSummaries"]
            },
            outputs={each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())},
            # boto3 parses a body that is JSON, and hands out anything else as it came.
            template=(json.loads(template) if isinstance(template, str) else template)["Resources"],
        )

    def physical(self, logical_id: str) -> str:
        """Return what a resource is called.

        Raises:
            StackError: if there is none.

        """
        try:
            return self.resources[logical_id][1]
        except KeyError:
            message = f"the stack has no resource {logical_id}"
            raise StackError(message) from None

    def output(self, key: str) -> str:
        """Return an output's value.

        Raises:
            StackError: if there is none.

        """
        try:
            return self.outputs[key]
        except KeyError:
            message = f"the stack has no output {key}"
            raise StackError(message) from None


def repair(stack: Stack) -> None:
    """Make up for everything; again over what an earlier deployment left."""
    _add_routes(stack)
    if stack.stand_in.auth:
        _widen_grants(stack)
        _allow_leading_keys(stack)


def local_url(stack: Stack) -> str:
    """Return the webhook output's URL, leading to the stand-in.

    On AWS the API's id is part of the host name; the stand-in takes it in the path as well, so
    that nothing has to resolve a made-up name.
    """
    url = urlsplit(stack.output("WebhookBaseUrl"))
    api_id = str(url.hostname).partition(".")[0]
    return f"{stack.stand_in.endpoint}/_aws/execute-api/{api_id}{url.path}"


def _add_routes(stack: Stack) -> None:
    gateway = stack.stand_in.client("apigatewayv2")
    for logical_id, resource in stack.template.items():
        if resource["Type"] != "AWS::ApiGatewayV2::Api":
            continue
        api_id = stack.physical(logical_id)
        # After an update of the stack the routes of before are still there.
        for route in gateway.get_routes(ApiId=api_id)["Items"]:
            gateway.delete_route(ApiId=api_id, RouteId=route["RouteId"])
        for integration in gateway.get_integrations(ApiId=api_id)["Items"]:
            gateway.delete_integration(ApiId=api_id, IntegrationId=integration["IntegrationId"])
        for key, operation in _operations(resource["Properties"]["Body"]["paths"]):
            integration = operation["x-amazon-apigateway-integration"]
            made = gateway.create_integration(
                ApiId=api_id,
                IntegrationType="AWS_PROXY",
                IntegrationUri=_function_arn(stack, integration["uri"]),
                PayloadFormatVersion=integration["payloadFormatVersion"],
            )
            target = f"integrations/{made['IntegrationId']}"
            gateway.create_route(ApiId=api_id, RouteKey=key, Target=target)


def _operations(paths: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            verb = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
            yield (path if path == "$default" else f"{verb} {path}"), operation


def _function_arn(stack: Stack, uri: Mapping[str, str]) -> str:
    found = FUNCTION_IN_URI.search(uri["Fn::Sub"])
    if found is None:
        message = f"an HTTP API's integration is no Lambda function: {uri}"
        raise StackError(message)
    physical = stack.physical(found["logical_id"])
    if found["arn"] is None:  # an alias: its Ref is its ARN already
        return physical
    configuration = stack.stand_in.client("lambda").get_function_configuration(
        FunctionName=physical
    )
    return str(configuration["FunctionArn"])


ALSO_GRANTED = {
    # The stand-in checks it against the resource "*" instead of the requested path.
    "ssm:GetParametersByPath": "ssm:GetParametersByPath",
    # AWS has no action of this name: whoever may send one message may send a batch.
    "sqs:SendMessage": "sqs:SendMessageBatch",
}


def _widen_grants(stack: Stack) -> None:
    """Grant roles what AWS grants them by their policies, and the stand-in would refuse."""
    iam = stack.stand_in.client("iam")
    for kind, role in stack.resources.values():
        if kind != "AWS::IAM::Role":
            continue
        names = iam.list_role_policies(RoleName=role)["PolicyNames"]
        granted = [iam.get_role_policy(RoleName=role, PolicyName=name) for name in names]
        text = json.dumps([each["PolicyDocument"] for each in granted])
        also = [more for action, more in ALSO_GRANTED.items() if f'"{action}"' in text]
        if also:
            statement = {"Effect": "Allow", "Action": also, "Resource": "*"}
            document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_role_policy(RoleName=role, PolicyName="StandInOnly", PolicyDocument=document)


def _allow_leading_keys(stack: Stack) -> None:
    """Drop conditions on ``dynamodb:LeadingKeys`` from managed policies and those of roles.

    The stand-in knows no such key of a request, so what AWS grants, it would refuse.
    """
    iam = stack.stand_in.client("iam")
    for kind, physical in stack.resources.values():
        if kind == "AWS::IAM::ManagedPolicy":
            _rewrite_managed(iam, physical)
        elif kind == "AWS::IAM::Role":
            _rewrite_inline(iam, physical)


def _rewrite_managed(iam: Any, arn: str) -> None:  # noqa: ANN401 - as StandIn.client
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    found = iam.get_policy_version(PolicyArn=arn, VersionId=version)
    if rewritten := _without_leading_keys(found["PolicyVersion"]["Document"]):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=rewritten, SetAsDefault=True)


def _rewrite_inline(iam: Any, role: str) -> None:  # noqa: ANN401 - as StandIn.client
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        found = iam.get_role_policy(RoleName=role, PolicyName=name)
        if rewritten := _without_leading_keys(found["PolicyDocument"]):
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=rewritten)


def _without_leading_keys(document: dict[str, Any]) -> str:
    """Return the policy as text, without these conditions; empty if it has none."""
    if LEADING_KEYS not in json.dumps(document):
        return ""
    for statement in document["Statement"]:
        _drop_leading_keys(statement)
    return json.dumps(document)


def _drop_leading_keys(statement: dict[str, Any]) -> None:
    conditions: dict[str, dict[str, Any]] = statement.pop("Condition", {})
    kept = {
        operator: {key: value for key, value in keys.items() if key != LEADING_KEYS}
        for operator, keys in conditions.items()
    }
    if remaining := {operator: keys for operator, keys in kept.items() if keys}:
        statement["Condition"] = remaining
