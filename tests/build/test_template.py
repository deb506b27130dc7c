"""What the template promises, read from the template itself."""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from simulators.deployment import MAX_RECEIVES
from storesync import sync, webhook
from storesync.config import SyncSettings, WebhookSettings
from storesync.sync import MAX_DELAY_S, Schedule, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

type Template = Mapping[str, Any]

MOST_PARAMETERS = 16
PARAMETER_PATH = "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter"
PARAMETER_PATHS = [
    f"{PARAMETER_PATH}${{ParameterPrefix}}/{kind}/*"
    for kind in ("credentials", "sources", "webhooks")
]
VERSIONS = (
    "arn:${AWS::Partition}:appconfig:${AWS::Region}:${AWS::AccountId}:application/${Application}"
    "/configurationprofile/${Profile}/hostedconfigurationversion/*"
)
APPCONFIG = {
    "AppConfigPolicy",
    "AppConfigNotifications",
    "AppConfigRule",
    "AppConfigMayRequestSync",
    "AppConfigMayLeaveDeadLetters",
}


def resources(template: Template, kind: str) -> dict[str, Any]:
    """Return the properties of all resources of one type, by logical id."""
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == kind
    }


def properties(template: Template, name: str) -> dict[str, Any]:
    """Return the properties of one resource."""
    found: dict[str, Any] = template["Resources"][name]["Properties"]
    return found


def listed(value: Any) -> list[Any]:
    """Return what may be one value or a list as a list."""
    return value if isinstance(value, list) else [value]


def statements(template: Template, name: str) -> list[dict[str, Any]]:
    """Return the statements of a role's policies, or of a managed policy."""
    found = properties(template, name)
    policies = [policy.get("Fn::If", ("", policy))[1] for policy in found.get("Policies", [found])]
    return [each for policy in policies for each in policy["PolicyDocument"]["Statement"]]


def all_statements(template: Template) -> Iterator[dict[str, Any]]:
    """Yield every statement of every policy in the template."""
    for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy"):
        for name in resources(template, kind):
            yield from statements(template, name)


def texts(value: Any) -> Iterator[str]:
    """Yield every string within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def actions(template: Template, name: str, resource: Any) -> set[str]:
    """Return what a role or policy allows on one resource."""
    return {
        action
        for each in statements(template, name)
        if resource in listed(each["Resource"])
        for action in listed(each["Action"])
    }


def get_att(name: str, attribute: str = "Arn") -> dict[str, list[str]]:
    """Return ``!GetAtt name.Arn``."""
    return {"Fn::GetAtt": [name, attribute]}


BOUNDS = {
    "Number": {"MinValue", "MaxValue"},
    "String": {"AllowedPattern", "MaxLength"},
    "CommaDelimitedList": {"AllowedPattern"},  # of each; CloudFormation knows no length of a list
}


# -- parameters and outputs ------------------------------------------------------------------------


def test_parameters_are_described_and_bounded(template: Template) -> None:
    """Each has a description, and its type or bounds reject invalid values."""
    assert len(template["Parameters"]) <= MOST_PARAMETERS
    for name, parameter in template["Parameters"].items():
        assert {"Type", "Default", "Description"} <= set(parameter), name
        assert len(parameter["Description"]) > len("a few words"), name
        if "AllowedValues" not in parameter:
            assert BOUNDS[parameter["Type"]] <= set(parameter), name


def test_defaults_are_valid(template: Template) -> None:
    """A deployment without any parameter is valid."""
    for name, parameter in template["Parameters"].items():
        default = parameter["Default"]
        if "AllowedValues" in parameter:
            assert default in parameter["AllowedValues"], name
        elif parameter["Type"] == "Number":
            assert parameter["MinValue"] <= default <= parameter["MaxValue"], name
        else:
            assert re.fullmatch(parameter["AllowedPattern"], default), name


@pytest.mark.parametrize(
    ("prefix", "accepted"),
    [("/flagstore", True), ("/team/flags-2", True), ("flags", False), ("/flags/", False),
     ("/", False), ("/fl*gs", False), ("/flags//prod", False)],
)  # fmt: skip
def test_prefix_cannot_widen_a_policy(template: Template, prefix: str, *, accepted: bool) -> None:
    """It becomes part of ARNs, so it is a path without wildcards or empty parts."""
    pattern = template["Parameters"]["ParameterPrefix"]["AllowedPattern"]
    assert bool(re.search(pattern, prefix)) is accepted


def test_parameters_are_used_and_grouped(template: Template) -> None:
    """The console shows all of them in groups, and each has an effect."""
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    used = " ".join(texts([template["Resources"], template["Conditions"]]))
    assert not [name for name in grouped if not re.search(rf"\b{name}\b", used)]


def test_api_is_throttled(template: Template) -> None:
    """tests/faults/test_cold_burst.py covers the default limits."""
    settings = properties(template, "WebhookApi")["DefaultRouteSettings"]
    assert settings == {
        "ThrottlingBurstLimit": {"Ref": "ThrottleBurst"},
        "ThrottlingRateLimit": {"Ref": "ThrottleRate"},
    }


def test_outputs_are_described(template: Template) -> None:
    """Everything needed after a deployment is an output with a description."""
    outputs = template["Outputs"]
    assert set(outputs) == {
        "DlqUrl", "FlagReaderPolicyArn", "LayerArn", "QueueUrl", "SyncFunctionName", "TableName",
        "WebhookBaseUrl", "WebhookFunctionName",
    }  # fmt: skip
    assert all(output["Description"] for output in outputs.values())


# -- rights ----------------------------------------------------------------------------------------


def test_wildcards_are_parameter_paths_and_versions(template: Template) -> None:
    """No policy allows an unnamed action or resource, except below the parameters' paths.

    Versions of an AppConfig profile are not known in advance; the profile is named. EC2 describes
    subnets to whoever may describe all.
    """
    found = [text for each in all_statements(template) for text in texts(each) if "*" in text]
    assert sorted(found) == sorted([*PARAMETER_PATHS, VERSIONS, "*"])
    assert actions(template, "SyncRole", "*") == {"ec2:DescribeSubnets"}


def test_policies_only_allow(template: Template) -> None:
    """No statement uses NotAction or NotResource."""
    for each in all_statements(template):
        assert each["Effect"] == "Allow"
        assert set(each) <= {"Sid", "Effect", "Action", "Resource", "Condition"}


def test_webhook_function_has_no_access_to_flags(template: Template) -> None:
    """It has no permission on the table or on a provider's credential."""
    allowed = {
        (action, json.dumps(resource))
        for each in statements(template, "WebhookRole")
        for action in listed(each["Action"])
        for resource in listed(each["Resource"])
    }
    webhooks = f"{PARAMETER_PATH}${{ParameterPrefix}}/webhooks"
    assert allowed == {
        ("ssm:GetParametersByPath", json.dumps({"Fn::Sub": webhooks})),
        ("ssm:GetParametersByPath", json.dumps({"Fn::Sub": f"{webhooks}/*"})),
        ("sqs:SendMessage", json.dumps(get_att("Queue"))),
        ("logs:CreateLogStream", json.dumps(get_att("WebhookLogs"))),
        ("logs:PutLogEvents", json.dumps(get_att("WebhookLogs"))),
    }


def test_webhook_function_does_not_know_the_table(template: Template) -> None:
    """None of its variables names the table."""
    function = properties(template, "WebhookFunction")
    assert "Table" not in set(texts([function, properties(template, "WebhookRole")]))


def test_sync_function_has_item_actions_only(template: Template) -> None:
    """On its table alone, without Scan."""
    on_table = actions(template, "SyncRole", get_att("Table"))
    assert on_table == {
        f"dynamodb:{name}"
        for name in ("GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem",
                     "ConditionCheckItem")
    }  # fmt: skip
    assert actions(template, "SyncRole", get_att("Queue")) == {
        f"sqs:{name}"
        for name in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes",
                     "ChangeMessageVisibility", "SendMessage")
    }  # fmt: skip
    assert "webhooks" not in " ".join(texts(statements(template, "SyncRole")))


def test_appconfig_resources_need_a_profile(template: Template) -> None:
    """Without the parameter none of them is created."""
    conditional = {
        name
        for name, each in template["Resources"].items()
        if each.get("Condition") == "FromAppConfig"
    }
    using = {
        name
        for name, each in template["Resources"].items()
        if {"AppConfigProfile", "FromAppConfig"} & set(texts(each))
    }
    assert conditional == APPCONFIG
    assert using <= APPCONFIG
    assert properties(template, "AppConfigPolicy")["Roles"] == [{"Ref": "SyncRole"}]


@pytest.mark.parametrize(
    ("profile", "accepted"),
    [("", True), ("ba8toh7/pgil2o7/ga3tqep", True), ("ba8toh7/pgil2o7", False),
     ("ba8toh7/pgil2o7/*", False), ("a/b/c/d", False), ("Shop/production/flags", False)],
)  # fmt: skip
def test_profile_cannot_widen_a_policy(template: Template, profile: str, *, accepted: bool) -> None:
    """It becomes part of ARNs, so it is three ids."""
    pattern = template["Parameters"]["AppConfigProfile"]["AllowedPattern"]
    assert bool(re.search(pattern, profile)) is accepted


@pytest.mark.parametrize(
    ("policy", "queue"),
    [("AppConfigMayRequestSync", "Queue"), ("AppConfigMayLeaveDeadLetters", "DeadLetterQueue")],
)
def test_only_the_rule_sends_events_to_the_queues(
    template: Template, policy: str, queue: str
) -> None:
    """Undeliverable events go to the dead-letter queue."""
    found = properties(template, policy)
    assert found["Queues"] == [{"Ref": queue}]
    (statement,) = found["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Resource"] == get_att(queue)
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": get_att("AppConfigRule")}}


def test_rule_matches_deployments_that_change_flags(template: Template) -> None:
    """Of this profile only: completion and both spellings of a rollback, but not the start."""
    rule = properties(template, "AppConfigRule")
    (target,) = rule["Targets"]
    assert target["Arn"] == get_att("Queue")
    assert target["DeadLetterConfig"]["Arn"] == get_att("DeadLetterQueue")
    pattern = rule["EventPattern"]
    assert pattern["source"] == ["aws.appconfig"]
    ids = [pattern["detail"][what]["Id"] for what in
           ("Application", "Environment", "ConfigurationProfile")]  # fmt: skip
    assert ids == [
        [{"Fn::Select": [index, {"Fn::Split": ["/", {"Ref": "AppConfigProfile"}]}]}]
        for index in range(3)
    ]

    def requests(words: str) -> bool:
        return any(
            words.startswith(each["prefix"]) if isinstance(each, dict) else words == each
            for each in pattern["detail-type"]
        )

    for words in ("Complete", "Baking", "Rollback", "Rolled Back", "Reverted", "Something New"):
        assert requests(f"On Deployment {words}")


def test_schedule_invokes_sync_function_only(template: Template) -> None:
    """Its role accepts schedules of this account only."""
    assert actions(template, "ScheduleRole", get_att("SyncFunction")) == {"lambda:InvokeFunction"}
    assert len(statements(template, "ScheduleRole")) == 1
    trust = properties(template, "ScheduleRole")["AssumeRolePolicyDocument"]["Statement"]
    assert all(each["Condition"]["StringEquals"]["aws:SourceAccount"] for each in trust)


def test_network_interfaces_need_a_vpc(template: Template) -> None:
    """Without subnets there is no such permission; WebhookFunction never has it."""
    function = template["Resources"]["SyncFunction"]["Properties"]
    role = template["Resources"]["SyncRole"]["Properties"]
    assert function["VpcConfig"]["Fn::If"][0] == role["ManagedPolicyArns"]["Fn::If"][0] == "InVpc"
    (policy,) = role["ManagedPolicyArns"]["Fn::If"][1]
    assert policy["Fn::Sub"].endswith("/AWSLambdaENIManagementAccess")
    describe = role["Policies"][1]["Fn::If"]
    assert (describe[0], describe[2]) == ("InVpc", {"Ref": "AWS::NoValue"})
    others = [
        name
        for name, each in template["Resources"].items()
        if name != "SyncRole" and "ManagedPolicyArns" in each.get("Properties", {})
    ]
    assert others == []
    assert "VpcConfig" not in template["Resources"]["WebhookFunction"]["Properties"]


def test_reader_policy_reads_by_key(template: Template) -> None:
    """GetItem and Query on this table, on named keys only."""
    (statement,) = statements(template, "FlagReaderPolicy")
    assert set(statement["Action"]) == {"dynamodb:GetItem", "dynamodb:Query"}
    assert statement["Resource"] == get_att("Table")
    assert statement["Condition"] == {"Null": {"dynamodb:LeadingKeys": "false"}}


def test_reader_policy_keeps_its_arn(template: Template) -> None:
    """Updates change it in place, and it is retained with the stack's table."""
    policy = template["Resources"]["FlagReaderPolicy"]
    assert set(policy["Properties"]) == {"PolicyDocument"}
    assert policy["DeletionPolicy"] == "RetainExceptOnCreate"
    assert policy["UpdateReplacePolicy"] == "Retain"


def test_functions_have_their_own_roles(template: Template) -> None:
    """None is shared or generated by SAM."""
    functions = resources(template, "AWS::Serverless::Function")
    roles = [json.dumps(function["Role"]) for function in functions.values()]
    assert len(set(roles)) == len(functions)


# -- functions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "settings"), [("WebhookFunction", WebhookSettings), ("SyncFunction", SyncSettings)]
)
def test_functions_get_the_variables_that_they_read(
    template: Template, function: str, settings: Any
) -> None:
    """Every variable that the code reads is set, and no other."""

    class Recorder(dict[str, str]):
        """Notes which variables are asked for."""

        asked: set[str]

        def get(self, key: str, default: Any = None) -> Any:
            self.asked.add(key)
            return {"FLAGSTORE_PARAMETER_PREFIX": "/flagstore"}.get(key, default) or "1"

    recorder = Recorder()
    recorder.asked = set()
    settings.from_env(recorder)
    variables = properties(template, function)["Environment"]["Variables"]
    ours = {name for name in variables if not name.startswith("POWERTOOLS_")}
    assert ours == recorder.asked
    assert set(variables) - ours == {
        "POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_LOG_LEVEL",
    }  # fmt: skip


def test_bounds_match_the_settings(template: Template) -> None:
    """The code accepts the smallest and the largest value of each parameter."""
    variables = properties(template, "SyncFunction")["Environment"]["Variables"]
    numbers = {
        name: template["Parameters"][value["Ref"]]
        for name, value in variables.items()
        if value.__class__ is dict
        and template["Parameters"].get(value.get("Ref"), {}).get("Type") == "Number"
    }
    assert numbers
    for bound in (min, max):
        environ = dict.fromkeys(variables, "/x")
        environ |= {name: str(bound(limits(parameter))) for name, parameter in numbers.items()}
        SyncSettings.from_env(environ)


def limits(parameter: dict[str, Any]) -> list[int]:
    """Return the values of a number that bound what it may be."""
    allowed: list[int] = parameter.get("AllowedValues", [])
    return allowed or [parameter["MinValue"], parameter["MaxValue"]]


@pytest.mark.parametrize("function", ["WebhookFunction", "SyncFunction"])
def test_handlers_exist(template: Template, function: str) -> None:
    """The template names functions of this code."""
    module, _, name = properties(template, function)["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))


def test_runtime_is_the_compiled_python(template: Template) -> None:
    """Runtime, builds and tests use one version."""
    runtime = template["Globals"]["Function"]["Runtime"]
    assert runtime == f"python3.{sys.version_info.minor}"


def test_api_has_two_routes(template: Template) -> None:
    """Two POST routes to WebhookFunction; neither is greedy."""
    routes = [
        (name, event["Properties"]["Method"], event["Properties"]["Path"])
        for name, function in resources(template, "AWS::Serverless::Function").items()
        for event in function["Events"].values()
        if event["Type"] == "HttpApi"
    ]
    assert routes == [
        ("WebhookFunction", "POST", "/webhooks/{source}"),
        ("WebhookFunction", "POST", "/webhooks/{source}/{token}"),
    ]
    assert tuple(f"{method} {path}" for _, method, path in routes) == webhook.ROUTES


# -- logs ------------------------------------------------------------------------------------------


def test_access_logs_omit_the_path(template: Template) -> None:
    """The path may contain a webhook's secret."""
    settings = properties(template, "WebhookApi")["AccessLogSettings"]
    logged = json.loads(settings["Format"])
    assert settings["DestinationArn"] == get_att("WebhookApiLogs")
    assert set(logged.values()) == {
        "$context.requestId", "$context.requestTime", "$context.routeKey", "$context.status",
        "$context.identity.sourceIp", "$context.identity.userAgent", "$context.responseLength",
        "$context.responseLatency", "$context.integration.integrationStatus",
        "$context.integrationLatency", "$context.integrationErrorMessage",
    }  # fmt: skip


def test_logs_expire(template: Template) -> None:
    """Functions and API write to log groups of the stack, with a retention."""
    groups = resources(template, "AWS::Logs::LogGroup")
    assert all(group["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())
    functions = resources(template, "AWS::Serverless::Function").values()
    used = [function["LoggingConfig"]["LogGroup"]["Ref"] for function in functions]
    assert sorted([*used, "WebhookApiLogs"]) == sorted(groups)


# -- queue and schedule ----------------------------------------------------------------------------


def test_visibility_is_six_times_the_timeout(template: Template) -> None:
    """A batch returns only when no function can still be working on it."""
    timeouts = template["Parameters"]["SyncTimeout"]["AllowedValues"]
    assert template["Mappings"]["VisibilityOfSyncTimeout"] == {
        str(timeout): {"Seconds": 6 * timeout} for timeout in timeouts
    }
    assert properties(template, "SyncFunction")["Timeout"] == {"Ref": "SyncTimeout"}
    assert properties(template, "Queue")["VisibilityTimeout"] == {
        "Fn::FindInMap": ["VisibilityOfSyncTimeout", {"Ref": "SyncTimeout"}, "Seconds"]
    }


def test_requests_are_not_batched_in_time(template: Template) -> None:
    """A single request is not delayed, and a failed one does not repeat the others."""
    assert properties(template, "SyncFunction")["Events"]["SyncRequests"] == {
        "Type": "SQS",
        "Properties": {
            "Queue": get_att("Queue"),
            "BatchSize": 10,
            "ScalingConfig": {"MaximumConcurrency": 5},
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        },
    }


def test_recursion_detection_is_off(template: Template) -> None:
    """Follow-up syncs alternate with webhooks, which looks like a loop."""
    assert properties(template, "SyncFunction")["RecursiveLoop"] == "Allow"


def test_failed_requests_are_kept_for_two_weeks(template: Template) -> None:
    """After half an hour of tries; both queues are encrypted."""
    queue, dead = properties(template, "Queue"), properties(template, "DeadLetterQueue")
    redrive = queue["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == get_att("DeadLetterQueue")
    assert redrive["maxReceiveCount"] == MAX_RECEIVES
    # Between the first attempt and the last one.
    pauses = [min(sync.RETRY_S * 2**n, MAX_DELAY_S) for n in range(redrive["maxReceiveCount"] - 1)]
    assert 30 * 60 < sum(pauses) < 60 * 60
    assert dead["MessageRetentionPeriod"] == 14 * 24 * 60 * 60
    assert queue["SqsManagedSseEnabled"] is dead["SqsManagedSseEnabled"] is True


def test_schedule_sends_the_schedule_event(template: Template) -> None:
    """With a unit that fits its number."""
    schedule = properties(template, "SyncFunction")["Events"]["Reconcile"]["Properties"]
    assert isinstance(parse(json.loads(schedule["Input"])), Schedule)
    assert schedule["ScheduleExpression"] == {
        "Fn::If": [
            "ReconcileEveryMinute",
            "rate(1 minute)",
            {"Fn::Sub": "rate(${ReconcileMinutes} minutes)"},
        ]
    }
    assert template["Conditions"]["ReconcileEveryMinute"] == {
        "Fn::Equals": [{"Ref": "ReconcileMinutes"}, "1"]
    }
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert schedule["RetryPolicy"]["MaximumRetryAttempts"] <= 1
    # SAM would give it a fixed name, which a second stack could not use.
    assert schedule["OmitName"] is True


def test_reserved_concurrency_is_optional(template: Template) -> None:
    """Accounts with a low limit cannot reserve any."""
    for name in ("Sync", "Webhook"):
        reserved = properties(template, f"{name}Function")["ReservedConcurrentExecutions"]
        assert reserved["Fn::If"][2] == {"Ref": "AWS::NoValue"}
        assert template["Parameters"][f"{name}Concurrency"]["Default"] == 0


# -- table and layer -------------------------------------------------------------------------------


def test_table_is_retained(template: Template) -> None:
    """Deleting the stack, or replacing the table, deletes no flags."""
    table = template["Resources"]["Table"]
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    assert table["Properties"]["DeletionProtectionEnabled"] is True
    recovery = table["Properties"]["PointInTimeRecoverySpecification"]
    assert recovery == {"PointInTimeRecoveryEnabled": True}


def test_table_has_the_keys_of_the_layout(template: Template) -> None:
    """Those of LaunchDarkly's published layout; old chunks expire."""
    table = properties(template, "Table")
    assert table["KeySchema"] == [
        {"AttributeName": "namespace", "KeyType": "HASH"},
        {"AttributeName": "key", "KeyType": "RANGE"},
    ]
    assert {each["AttributeType"] for each in table["AttributeDefinitions"]} == {"S"}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"


def test_layer_versions_are_retained(template: Template) -> None:
    """For both architectures; an update deletes no version that a function uses."""
    layer = properties(template, "FlagstoreLayer")
    assert template["Resources"]["FlagstoreLayer"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert set(layer["CompatibleArchitectures"]) == {"arm64", "x86_64"}
    assert layer["CompatibleRuntimes"] == ["python3.11", "python3.12", "python3.13"]
    assert layer["LicenseInfo"] == "Apache-2.0"


# -- the file --------------------------------------------------------------------------------------


def test_skipped_checks_have_a_reason(template: Template) -> None:
    """The template gives it next to the check."""
    for name, resource in template["Resources"].items():
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", []):
            assert len(skip["comment"].split()) > 5, (name, skip["id"])


def test_names_are_generated(template: Template) -> None:
    """Two stacks fit into one account and region."""
    named = {"FunctionName", "QueueName", "TableName", "RoleName", "ManagedPolicyName",
             "LogGroupName", "LayerName", "Name"}  # fmt: skip
    given = {
        name: properties(template, name)[property_name]["Fn::Sub"]
        for name, resource in template["Resources"].items()
        for property_name in named & set(resource["Properties"])
    }
    assert given == {
        "FlagstoreLayer": "${AWS::StackName}-flagstore",
        "WebhookApiLogs": "/aws/vendedlogs/${AWS::StackName}/webhooks",
    }
