"""examples/deployer-policy.json: enough to deploy the template, and limited to its stack."""

from __future__ import annotations

import functools
import json
import re
from fnmatch import fnmatchcase
from typing import Any

from local.stand_in import REPOSITORY
from simulators.template import read_template
from tests.build.tooling import tool

POLICY = json.loads((REPOSITORY / "examples" / "deployer-policy.json").read_text("utf-8"))


def _listed(values: str | list[str]) -> list[str]:
    return [values] if isinstance(values, str) else values


ACTIONS = {action for each in POLICY["Statement"] for action in _listed(each["Action"])}
MANAGED_POLICY_CHARS = 6_144
MADE_BY_SAM = {
    "AWS::Serverless::Function": [
        "AWS::Lambda::Function",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Permission",
        "AWS::Scheduler::Schedule",
    ],
    "AWS::Serverless::HttpApi": ["AWS::ApiGatewayV2::Api", "AWS::ApiGatewayV2::Stage"],
    "AWS::Serverless::LayerVersion": ["AWS::Lambda::LayerVersion"],
}
NOT_USED = re.compile(
    # keys in KMS, code signing, capacity providers, versions and scaling of functions
    r"(kms|firehose|kinesis|elasticfilesystem|s3files):.*|s3:(REST|GetObjectMetadata|getObject).*"
    r"|lambda:(.*(Capacity|RuntimeAlias).*|PublishVersion|GetCodeSigningConfig)"
    r"|lambda:(Put|Delete)Function(CodeSigning|Scaling)Config|lambda:PutRuntimeManagementConfig"
    # replicas with their rows, imports, streams and resource policies of tables
    r"|dynamodb:(Associate|CreateTableReplica|Import|DescribeImport|Enable|Disable|UpdateKinesis).*"
    r"|dynamodb:((Put|Delete)ResourcePolicy|UpdateContributorInsights|.*Item|Query|Scan)"
    # settings of log groups that the template leaves alone, and their streams
    r"|logs:(Associate|Disassociate|PutBearer|PutLog|.*LogStream|DeleteResourcePolicy).*"
    r"|logs:(Put|Delete)(DataProtection|Index)Policy"
    # groups and users, boundaries, service-linked roles
    r"|iam:.*(Group|User)Policy|iam:.*PermissionsBoundary|iam:CreateServiceLinkedRole"
)
"""Actions in AWS' registry of resource types that belong to features the template does not use."""


@functools.cache
def registered(kind: str) -> frozenset[str]:
    """Return the actions in AWS' registry for creating, changing and deleting a resource type."""
    data = tool(".venv-sam", "sam").parents[1] / "lib/python3.13/site-packages/cfnlint/data"
    schemas = data / "schemas"
    name = json.loads((schemas / "providers" / "eu-west-1.json").read_text("utf-8"))[kind]
    path = schemas / "resources" / f"{name.removesuffix('.json')}.json"
    handlers: dict[str, Any] = json.loads(path.read_text("utf-8"))["handlers"]
    verbs = ("create", "read", "update", "delete")
    return frozenset(
        each for verb in verbs if verb in handlers for each in handlers[verb]["permissions"]
    )


def test_deployer_policy_covers_what_cloudformation_does() -> None:
    """It has every action of the template's resource types, and none of unused features."""
    written = {resource["Type"] for resource in read_template()["Resources"].values()}
    kinds = {made for kind in written for made in MADE_BY_SAM.get(kind, [kind])}
    listed = {action for kind in kinds for action in registered(kind)}
    needed = {action for action in listed if not NOT_USED.fullmatch(action)}
    assert len(needed) > 100
    assert needed - ACTIONS == set()
    assert [each for each in ACTIONS if NOT_USED.fullmatch(each)] == []


def test_deployer_policy_covers_what_the_template_names() -> None:
    """Layers and log groups, as resources of the stack flagstore."""
    allowed = [each for one in POLICY["Statement"] for each in _listed(one["Resource"])]
    names = [
        value["Fn::Sub"].replace("${AWS::StackName}", "flagstore")
        for resource in read_template()["Resources"].values()
        for key, value in resource["Properties"].items()
        if key in {"LayerName", "LogGroupName"} and "Fn::Sub" in value
    ]
    assert "flagstore-flagstore-node" in names
    for name in names:
        kind = "log-group" if name.startswith("/") else "layer"
        for arn in (f"{kind}:{name}", f"{kind}:{name}:1"):
            assert any(fnmatchcase(arn, each.split(":", 5)[-1]) for each in allowed if each != "*")


def test_deployer_policy_fits_into_a_managed_policy() -> None:
    """Also with the longest region and a real account."""
    text = json.dumps(POLICY).replace("<region>", "ap-southeast-4").replace("<account>", "1" * 12)
    assert len(re.sub(r"\s", "", text)) <= MANAGED_POLICY_CHARS


def test_deployer_policy_reaches_this_stack_only() -> None:
    """Where AWS lets a policy name resources, they are those of the stack flagstore."""
    wide = {
        "Template",
        "Poller",
        "WebhookApi",
        "AccessLogAlarmsAndDashboard",
        "AppConfigProfileExtension",
        "SubnetIds",
    }
    for statement in POLICY["Statement"]:
        if statement["Sid"] not in wide | {"Code"}:
            for arn in _listed(statement["Resource"]):
                assert re.search(r"[:/]flagstore[-/]|:aws:transform/", arn), arn
