"""Repairs of a stack on the stand-in for AWS, whose CloudFormation and IAM have gaps.

CloudFormation ignores the ``Body`` of an HTTP API, where SAM writes the routes: ``_add_routes``
creates them from the processed template. The other repairs are for ``StandIn(auth=True)``, which
refuses some calls that the template's policies allow.
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
    """The deployed stack lacks a part of the template."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A deployed stack, as described by CloudFormation.

    Attributes:
        stand_in: runs the stack.
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
        """Read the stack of this name."""
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
            # boto3 parses only JSON.
            template=(json.loads(template) if isinstance(template, str) else template)["Resources"],
        )

    def physical(self, logical_id: str) -> str:
        """Return the physical id of a resource.

        Raises:
            StackError: it does not exist.

        """
        try:
            return self.resources[logical_id][1]
        except KeyError:
            message = f"the stack has no resource {logical_id}"
            raise StackError(message) from None

    def output(self, key: str) -> str:
        """Return an output's value.

        Raises:
            StackError: it does not exist.

        """
        try:
            return self.outputs[key]
        except KeyError:
            message = f"the stack has no output {key}"
            raise StackError(message) from None


def repair(stack: Stack) -> None:
    """Make all repairs. Idempotent."""
    _add_routes(stack)
    if stack.stand_in.auth:
        _widen_grants(stack)
        _allow_leading_keys(stack)


def local_url(stack: Stack, output: str) -> str:
    """Return the URL of an output on the stand-in, which takes the API's id in the path."""
    url = urlsplit(stack.output(output))
    api_id = str(url.hostname).partition(".")[0]
    return f"{stack.stand_in.endpoint}/_aws/execute-api/{api_id}{url.path}"


def _add_routes(stack: Stack) -> None:
    gateway = stack.stand_in.client("apigatewayv2")
    for logical_id, resource in stack.template.items():
        is_made = logical_id in stack.resources  # unless it has a condition
        if resource["Type"] != "AWS::ApiGatewayV2::Api" or not is_made:
            continue
        api_id = stack.physical(logical_id)
        # An update of the stack keeps the old routes.
        for route in gateway.get_routes(ApiId=api_id)["Items"]:
            gateway.delete_route(ApiId=api_id, RouteId=route["RouteId"])
        for integration in gateway.get_integrations(ApiId=api_id)["Items"]:
            gateway.delete_integration(ApiId=api_id, IntegrationId=integration["IntegrationId"])
        for key, operation in _operations(resource["Properties"]["Body"]["paths"]):
            integration = operation["x-amazon-apigateway-integration"]
            uri = _chosen(integration["uri"])
            made = gateway.create_integration(
                ApiId=api_id,
                IntegrationType="AWS_PROXY",
                IntegrationUri=_function_arn(stack, uri),
                PayloadFormatVersion=integration["payloadFormatVersion"],
            )
            target = f"integrations/{made['IntegrationId']}"
            gateway.create_route(ApiId=api_id, RouteKey=key, Target=target)


def _operations(paths: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            verb = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
            yield (path if path == "$default" else f"{verb} {path}"), _chosen(operation)


def _chosen(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return what a condition chooses: a conditional API's parts have the condition that it has."""
    return value["Fn::If"][1] if "Fn::If" in value else value


def _function_arn(stack: Stack, uri: Mapping[str, str]) -> str:
    found = FUNCTION_IN_URI.search(uri["Fn::Sub"])
    if found is None:
        message = f"an HTTP API's integration is not a Lambda function: {uri}"
        raise StackError(message)
    physical = stack.physical(found["logical_id"])
    if found["arn"] is None:  # an alias, whose Ref is its ARN
        return physical
    configuration = stack.stand_in.client("lambda").get_function_configuration(
        FunctionName=physical
    )
    return str(configuration["FunctionArn"])


ALSO_GRANTED = {
    # The stand-in checks it against the resource "*" instead of the path.
    "ssm:GetParametersByPath": "ssm:GetParametersByPath",
    # On AWS, sqs:SendMessage covers batches.
    "sqs:SendMessage": "sqs:SendMessageBatch",
}


def _widen_grants(stack: Stack) -> None:
    """Grant roles the actions that AWS derives from their policies."""
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
    """Drop conditions on ``dynamodb:LeadingKeys``, which the stand-in does not evaluate."""
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
    """Return the policy without these conditions, or "" if it has none."""
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
