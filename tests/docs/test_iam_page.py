"""docs/iam.md: policies that exist, are enough, and are those of the template and the example."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from simulators.template import as_text, read_template
from tests.build.tooling import run, tool
from tests.docs.pages import REPOSITORY, blocks, read

PAGE = "docs/iam.md"
TEMPLATE = read_template()
DATA = ("lib", "python3.13", "site-packages", "cfnlint", "data")
POLICY_CHARS = 6_144
"""IAM: of a managed policy, white space not counted."""
ACTION = re.compile(r"`([a-z0-9-]+:[A-Z]\w+)`")
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
    # keys in KMS; firehose, S3 and Kinesis as places for logs, imports and streams
    r"kms:.*|firehose:.*|kinesis:.*|s3:(REST|GetObjectMetadata|getObject).*"
    # file systems, code signing, capacity providers, versions and scaling of functions
    r"|elasticfilesystem:.*|s3files:.*|lambda:.*(Capacity|RuntimeAlias).*"
    r"|lambda:(PublishVersion|GetCodeSigningConfig|(Put|Delete)FunctionCodeSigningConfig"
    r"|Put(FunctionScaling|RuntimeManagement)Config)"
    # replicas, imports, streams, resource policies and contributor insights of tables
    r"|dynamodb:(Associate|CreateTableReplica|Import|DescribeImport|Enable|Disable|UpdateKinesis).*"
    r"|dynamodb:(Put|Delete)ResourcePolicy|dynamodb:UpdateContributorInsights"
    # what DynamoDB does with a table's rows while it makes a replica
    r"|dynamodb:(BatchWriteItem|DeleteItem|GetItem|PutItem|Query|Scan|UpdateItem)"
    # settings of log groups that the template leaves alone
    r"|logs:(Associate|Disassociate).*|logs:(Put|Delete)(DataProtection|Index)Policy"
    r"|logs:(DeleteResourcePolicy|PutBearer\w+|PutLogGroupDeletionProtection|PutLogEvents"
    r"|DescribeLogStreams|CreateLogStream)"
    # groups and users, boundaries, service-linked roles
    r"|iam:.*(Group|User)Policy|iam:.*PermissionsBoundary|iam:CreateServiceLinkedRole"
)
"""What AWS' registry lists for these types, but for features that the template does not use."""


def policies() -> list[dict[str, Any]]:
    """Return the policies in JSON on the page."""
    return [json.loads(block.text) for block in blocks(PAGE) if block.kind == "json"]


def actions(policy: dict[str, Any]) -> set[str]:
    """Return the actions of a policy."""
    return {
        action
        for statement in policy["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    }


@functools.cache
def known_by_aws() -> dict[str, Any]:
    """Return the actions of IAM by service, as cfn-lint has them from AWS."""
    path = tool(".venv-sam", "sam").parents[1].joinpath(*DATA, "AdditionalSpecs", "Policies.json")
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@functools.cache
def of_type(kind: str) -> frozenset[str]:
    """Return the actions that AWS' registry lists for making, changing and removing a resource."""
    schemas = tool(".venv-sam", "sam").parents[1].joinpath(*DATA, "schemas")
    name = json.loads((schemas / "providers" / "eu-west-1.json").read_text("utf-8"))[kind]
    path = schemas / "resources" / f"{name.removesuffix('.json')}.json"
    handlers = json.loads(path.read_text("utf-8"))["handlers"]
    verbs = ("create", "read", "update", "delete")
    return frozenset(
        each for verb in verbs if verb in handlers for each in handlers[verb]["permissions"]
    )


def types_of_the_template() -> set[str]:
    """Return the resource types that CloudFormation sees."""
    written = {resource["Type"] for resource in TEMPLATE["Resources"].values()}
    assert {kind for kind in written if kind.startswith("AWS::Serverless")} == set(MADE_BY_SAM)
    return {made for kind in written for made in MADE_BY_SAM.get(kind, [kind])}


def test_every_action_exists() -> None:
    """One of AWS' two lists knows each action of the policies."""
    registered = {action for kind in types_of_the_template() for action in of_type(kind)}
    for action in sorted(set().union(*(actions(policy) for policy in policies()))):
        service, _, name = action.partition(":")
        assert name.lower() in known_by_aws()[service]["Actions"] or action in registered, action


def test_who_deploys_may_do_all_that_cloudformation_does() -> None:
    """And not what belongs to features that the template does not use."""
    (deploys,) = (policy for policy in policies() if policy["Statement"][0]["Sid"] == "Stack")
    more = set(
        ACTION.findall(read(PAGE).partition("| with the parameter |")[2].partition("\n\n")[0])
    )
    needed = {
        action
        for kind in types_of_the_template()
        for action in of_type(kind)
        if not NOT_USED.fullmatch(action)
    }
    assert len(needed) > 100
    assert needed - actions(deploys) - more == set()
    assert [each for each in actions(deploys) | more if NOT_USED.fullmatch(each)] == []
    assert len(re.sub(r"\s", "", json.dumps(deploys))) <= POLICY_CHARS


def test_whoever_deploys_reaches_this_stack_only() -> None:
    """Where AWS lets resources be named, they are those of a stack named flagstore."""
    (deploys,) = (policy for policy in policies() if policy["Statement"][0]["Sid"] == "Stack")
    wide = {
        statement["Sid"]
        for statement in deploys["Statement"]
        if statement["Resource"] == "*" or "apigateway" in str(statement["Resource"])
    }
    assert wide == {"Template", "Poller", "WebhookApi", "AccessLogAlarmsAndDashboard"}
    for statement in deploys["Statement"]:
        if statement["Sid"] not in wide | {"Code"}:
            listed = statement["Resource"]
            for arn in [listed] if isinstance(listed, str) else listed:
                assert re.search(r"[:/]flagstore[-/]|:aws:transform/", arn), arn


def test_the_policy_for_one_source_is_the_examples() -> None:
    """But for names: what is tested and deployed there is what the page gives to be copied."""
    (shown,) = (
        statement
        for policy in policies()
        for statement in policy["Statement"]
        if statement["Sid"] == "ReadFlagsOfOneSource"
    )
    path = REPOSITORY / "examples" / "consumer" / "template.yaml"
    example = as_text(path.read_text("utf-8"))
    (policy,) = example["Resources"]["CheckoutFunction"]["Properties"]["Policies"]
    (statement,) = policy["Statement"]
    assert statement.pop("Resource").endswith(":table/${FlagTable}")
    assert shown.pop("Resource").endswith(":table/<table>")
    written = json.dumps(statement).replace("${FlagSource}", "prod")
    assert json.loads(written) == shown


def test_terraforms_snippet_names_what_there_is() -> None:
    """It is HCL, takes outputs of the stack, and sets the variables that a reader reads."""
    (block,) = (block for block in blocks(PAGE) if block.kind == "hcl")
    code = "import hcl2, json, sys; print(json.dumps(hcl2.loads(sys.argv[1])))"
    parsed = json.loads(run(tool(".venv-checkov", "python"), "-c", code, block.text).stdout)
    assert set(parsed) == {"data", "resource"}
    outputs = set(re.findall(r"outputs\[\"(\w+)\"\]", block.text))
    assert outputs == {"FlagReaderPolicyArn", "LayerArn", "TableName"}
    assert outputs <= set(TEMPLATE["Outputs"])


def test_the_cdks_snippet_names_what_there_is() -> None:
    """It takes outputs of the stack."""
    (block,) = (block for block in blocks(PAGE) if block.kind == "python")
    outputs = set(re.findall(r"outputs\[\"(\w+)\"\]", block.text))
    assert outputs == {"FlagReaderPolicyArn", "LayerArn", "TableName"}
    assert outputs <= set(TEMPLATE["Outputs"])
