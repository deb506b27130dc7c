"""What the template promises. tests/functions/test_least_privilege.py covers its policies."""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from flagserve.app import PREFLIGHTS, ROUTES
from flagstore.lines import COUNTS
from simulators.deployment import MAX_RECEIVES
from storesync import sync, webhook
from storesync.config import SyncSettings, UsageSettings, WebhookSettings
from storesync.sync import MAX_DELAY_S, Schedule, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

type Template = Mapping[str, Any]

MOST_PARAMETERS = 21
ARN = "arn:${{AWS::Partition}}:{}:${{AWS::Region}}:${{AWS::AccountId}}:"
PARAMETERS = ARN.format("ssm") + "parameter${ParameterPrefix}/"
PROFILE = ARN.format("appconfig") + "application/${Application}/configurationprofile/${Profile}"
ENVIRONMENT = ARN.format("appconfig") + "application/${Application}/environment/${Environment}"
WILDCARDS = {
    *(f"{PARAMETERS}{kind}/*" for kind in ("clients", "credentials", "sources", "webhooks")),
    # Versions and deployments are not known in advance.
    *(f"{PROFILE}/hostedconfigurationversion/*", f"{ENVIRONMENT}/deployment/*"),
    *("*:$usage", "*:$usage_claims"),  # of any source
    "*",  # ec2:DescribeSubnets supports no narrower resource
}
USAGE = {
    *("UsageDeadLetterAlarm", "UsageDeadLetters", "UsageErrorAlarm", "UsageFunction", "UsageLogs"),
    *("UsagePermission", "UsageQueue", "UsageRefusedAlarm", "UsageRole"),
}
SERVING = {
    *("ServeApi", "ServeApiLogs", "ServeErrorAlarm", "ServeFunction", "ServeLogs", "ServeRole"),
}
APPCONFIG = {
    "AppConfigPolicy",
    "AppConfigNotifications",
    "AppConfigRule",
    "AppConfigMayRequestSync",
    "AppConfigMayLeaveDeadLetters",
}
BOUNDS = {
    "Number": {"MinValue", "MaxValue"},
    "String": {"AllowedPattern", "MaxLength"},
    "CommaDelimitedList": {"AllowedPattern"},  # of each; CloudFormation knows no length of a list
}


def get_att(name: str) -> dict[str, list[str]]:
    return {"Fn::GetAtt": [name, "Arn"]}


def resources(template: Template, kind: str) -> dict[str, Any]:
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == kind
    }


def at(template: Template, path: str) -> Any:
    """Return a resource's property, such as ``Queue.RedrivePolicy.maxReceiveCount``."""
    name, *rest = path.split(".")
    value = template["Resources"][name]["Properties"]
    for each in rest:
        value = value[each]
    return value


def statements(template: Template, name: str) -> list[dict[str, Any]]:
    """Return the statements of a role's policies, or of a managed policy."""
    found = at(template, name)
    policies = [policy.get("Fn::If", ("", policy))[1] for policy in found.get("Policies", [found])]
    return [each for policy in policies for each in policy["PolicyDocument"]["Statement"]]


def texts(value: Any) -> Iterator[str]:
    """Yield every string within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts([*value, *value.values()])
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def test_parameters(template: Template) -> None:
    """Each is described, bounded, used and in a group of the console, and has a valid default."""
    assert len(template["Parameters"]) <= MOST_PARAMETERS
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    used = " ".join(texts([template["Resources"], template["Conditions"]]))
    assert [name for name in grouped if not re.search(rf"\b{name}\b", used)] == []
    for name, parameter in template["Parameters"].items():
        default = parameter["Default"]
        assert parameter["Description"], name
        if "AllowedValues" in parameter:
            assert default in parameter["AllowedValues"], name
            continue
        assert BOUNDS[parameter["Type"]] <= set(parameter), name
        if parameter["Type"] == "Number":
            assert parameter["MinValue"] <= default <= parameter["MaxValue"], name
        else:
            assert re.fullmatch(parameter["AllowedPattern"], default), name


@pytest.mark.parametrize(
    ("parameter", "accepted", "rejected"),
    [
        (
            "ParameterPrefix",
            ["/flagstore", "/team/flags-2"],
            ["flags", "/flags/", "/", "/fl*gs", "/flags//prod"],
        ),
        (
            "AppConfigProfile",
            ["", "ba8toh7/pgil2o7/ga3tqep"],
            ["ba8toh7/pgil2o7", "ba8toh7/pgil2o7/*", "a/b/c/d", "Shop/production/flags"],
        ),
    ],
)
def test_parameter_cannot_widen_a_policy(
    template: Template, parameter: str, accepted: list[str], rejected: list[str]
) -> None:
    """It becomes part of ARNs, so wildcards and empty parts are rejected."""
    pattern = re.compile(template["Parameters"][parameter]["AllowedPattern"])
    assert [each for each in (*accepted, *rejected) if pattern.search(each)] == accepted


def test_outputs(template: Template) -> None:
    """Everything needed after a deployment is an output."""
    assert set(template["Outputs"]) == {
        "DlqUrl", "FlagReaderPolicyArn", "LayerArn", "NodeLayerArn", "QueueUrl", "ServeBaseUrl",
        "SyncFunctionName", "TableName", "UsageDlqUrl", "UsageFunctionArn", "WebhookBaseUrl",
        "WebhookFunctionName",
    }  # fmt: skip


SETTINGS: dict[str, Any] = {
    "SyncFunction.Timeout": {"Ref": "SyncTimeout"},
    "Queue.VisibilityTimeout": {
        "Fn::FindInMap": ["VisibilityOfSyncTimeout", {"Ref": "SyncTimeout"}, "Seconds"]
    },
    "Queue.RedrivePolicy.deadLetterTargetArn": get_att("DeadLetterQueue"),
    "Queue.RedrivePolicy.maxReceiveCount": MAX_RECEIVES,
    "DeadLetterQueue.MessageRetentionPeriod": 14 * 24 * 60 * 60,
    "UsageQueue.RedrivePolicy": {
        "deadLetterTargetArn": get_att("UsageDeadLetters"),
        "maxReceiveCount": MAX_RECEIVES,
    },
    "UsageDeadLetters.MessageRetentionPeriod": 14 * 24 * 60 * 60,
    # Six times the function's timeout, as of Queue.
    "UsageQueue.VisibilityTimeout": 360,
    "UsageFunction.Timeout": 60,
    # What Lambda gives up on is not lost.
    "UsageFunction.EventInvokeConfig.DestinationConfig.OnFailure": {
        "Type": "SQS",
        "Destination": get_att("UsageQueue"),
    },
    # Log groups of this account and region only.
    "UsagePermission.Principal": "logs.amazonaws.com",
    "UsagePermission.SourceAccount": {"Ref": "AWS::AccountId"},
    "UsagePermission.SourceArn": {"Fn::Sub": ARN.format("logs") + "log-group:*"},
    # No batching in time: a single request is not delayed, a failed one repeats no others.
    "SyncFunction.Events.SyncRequests.Properties": {
        "Queue": get_att("Queue"),
        "BatchSize": 10,
        "ScalingConfig": {"MaximumConcurrency": 5},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    },
    # Follow-up syncs alternate with webhooks, which looks like a loop.
    "SyncFunction.RecursiveLoop": "Allow",
    # SAM would give it a fixed name, which a second stack could not use.
    "SyncFunction.Events.Reconcile.Properties.OmitName": True,
    "Table.DeletionProtectionEnabled": True,
    # The keys of LaunchDarkly's published layout; old chunks expire.
    "Table.KeySchema": [
        {"AttributeName": "namespace", "KeyType": "HASH"},
        {"AttributeName": "key", "KeyType": "RANGE"},
    ],
    "Table.TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
    "FlagstoreLayer.CompatibleArchitectures": ["arm64", "x86_64"],
    "FlagstoreLayer.CompatibleRuntimes": ["python3.11", "python3.12", "python3.13"],
    "FlagstoreNodeLayer.CompatibleArchitectures": ["arm64", "x86_64"],
    "FlagstoreNodeLayer.CompatibleRuntimes": ["nodejs22.x", "nodejs24.x"],
}


@pytest.mark.parametrize("path", SETTINGS)
def test_setting(template: Template, path: str) -> None:
    """Each of them was chosen for a reason; see the template's comments."""
    assert at(template, path) == SETTINGS[path]


def test_visibility_and_retries(template: Template) -> None:
    """A batch returns once no function can still work on it; half an hour passes between tries."""
    timeouts = template["Parameters"]["SyncTimeout"]["AllowedValues"]
    assert template["Mappings"]["VisibilityOfSyncTimeout"] == {
        str(timeout): {"Seconds": 6 * timeout} for timeout in timeouts
    }
    pauses = [min(sync.RETRY_S * 2**n, MAX_DELAY_S) for n in range(MAX_RECEIVES - 1)]
    assert 30 * 60 < sum(pauses) < 60 * 60


def test_schedule(template: Template) -> None:
    """It sends the schedule event, with a unit that fits its number."""
    schedule = at(template, "SyncFunction.Events.Reconcile.Properties")
    assert isinstance(parse(json.loads(schedule["Input"])), Schedule)
    minutes = {"Fn::Sub": "rate(${ReconcileMinutes} minutes)"}
    assert schedule["ScheduleExpression"] == {
        "Fn::If": ["ReconcileEveryMinute", "rate(1 minute)", minutes]
    }
    assert template["Conditions"]["ReconcileEveryMinute"] == {
        "Fn::Equals": [{"Ref": "ReconcileMinutes"}, "1"]
    }
    assert schedule["RetryPolicy"]["MaximumRetryAttempts"] <= 1


def test_data_outlives_the_stack(template: Template) -> None:
    """Deleting the stack deletes no flags, no layer in use and no policy that others attach."""
    found = {
        name: (each.get("DeletionPolicy"), each.get("UpdateReplacePolicy"))
        for name, each in template["Resources"].items()
    }
    assert found["Table"] == ("Retain", "Retain")
    assert found["FlagReaderPolicy"] == ("RetainExceptOnCreate", "Retain")
    for layer in ("FlagstoreLayer", "FlagstoreNodeLayer"):
        assert found[layer][0] == "RetainExceptOnCreate"
    # Without a name or a path, updates change the policy in place.
    assert set(at(template, "FlagReaderPolicy")) == {"PolicyDocument"}


def test_names_are_generated(template: Template) -> None:
    """Two stacks fit into one account and region."""
    named = {"FunctionName", "QueueName", "TableName", "RoleName", "ManagedPolicyName",
             "LogGroupName", "LayerName", "Name"}  # fmt: skip
    given = {
        name: each["Properties"][property_name]["Fn::Sub"]
        for name, each in template["Resources"].items()
        if not name.startswith("Usage")  # those name other resources
        for property_name in named & set(each["Properties"])
    }
    assert given == {
        "FlagstoreLayer": "${AWS::StackName}-flagstore",
        "FlagstoreNodeLayer": "${AWS::StackName}-flagstore-node",
        "ServeApiLogs": "/aws/vendedlogs/${AWS::StackName}/serve",
        "WebhookApiLogs": "/aws/vendedlogs/${AWS::StackName}/webhooks",
    }


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        ("WebhookFunction", WebhookSettings),
        ("SyncFunction", SyncSettings),
        ("UsageFunction", UsageSettings),
    ],
)
def test_function(template: Template, function: str, settings: Any) -> None:
    """Its handler exists, and it gets the variables that the code reads, and no other."""
    module, _, name = at(template, f"{function}.Handler").rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))

    environ = Mock()
    environ.get.side_effect = lambda name, default="": (
        "/flagstore" if name == "FLAGSTORE_PARAMETER_PREFIX" else default or "1"
    )
    settings.from_env(environ)
    asked = {call.args[0] for call in environ.get.call_args_list}
    variables = at(template, f"{function}.Environment.Variables")
    powertools = {"SERVICE_NAME", "METRICS_NAMESPACE", "LOG_LEVEL"}
    assert set(variables) == asked | {f"POWERTOOLS_{each}" for each in powertools}


def test_serve_function(template: Template) -> None:
    """It reads what SyncFunction writes, and its client keys from beside the sources."""
    assert at(template, "ServeFunction.Handler") == "flagserve.function.handler"
    theirs = at(template, "SyncFunction.Environment.Variables")
    names = ("FLAGSTORE_PARAMETER_PREFIX", "FLAGSTORE_TABLE", "FLAGSTORE_SNAPSHOT_REPLICAS")
    variables = dict(at(template, "ServeFunction.Environment.Variables"))
    assert variables.pop("FLAGSTORE_SERVE_USAGE") == {"Ref": "CollectUsage"}
    assert variables == {name: theirs[name] for name in names}


def assert_optional(
    template: Template, parameter: str, conditions: set[str], resources: set[str], *outputs: str
) -> None:
    """Assert that these are created with the parameter only, and that nothing else names them."""
    assert template["Parameters"][parameter]["Default"] == "false"
    parts = [*template["Resources"].items(), *template["Outputs"].items()]
    conditional = {name for name, each in parts if each.get("Condition") in conditions}
    assert conditional == resources.union(outputs)
    words = {name: set(re.findall(r"\w+", " ".join(texts(each)))) for name, each in parts}
    using = {name for name in words if resources & words[name]}
    # The dashboard has conditions of its own: test_dashboard_shows_every_function.
    assert using <= conditional | {"Dashboard", "UsageOfClients"}


def test_nothing_is_served_by_default(template: Template) -> None:
    """Without the parameter, none of its resources are created, and nothing refers to them."""
    assert_optional(template, "ServeFlags", {"Serves"}, SERVING, "ServeBaseUrl")


def test_no_usage_is_collected_by_default(template: Template) -> None:
    """The same applies; the subscription to ServeFunction's log needs both parameters."""
    collecting = {"CollectsUsage", "CollectsUsageInFull"}
    assert_optional(template, "CollectUsage", collecting, USAGE, "UsageDlqUrl", "UsageFunctionArn")
    assert template["Resources"]["UsageOfClients"]["Condition"] == "CollectsUsageOfClients"
    for name, other in (("OfClients", "Serves"), ("InFull", "FullMonitoring")):
        both = template["Conditions"][f"CollectsUsage{name}"]["Fn::And"]
        assert {each["Condition"] for each in both} == {"CollectsUsage", other}
    assert COUNTS in at(template, "UsageOfClients.FilterPattern")


def test_bounds_match_the_settings(template: Template) -> None:
    """The code accepts the smallest and the largest value of each parameter."""
    variables = at(template, "SyncFunction.Environment.Variables")
    limits = {}
    for name, value in variables.items():
        parameter = (
            template["Parameters"].get(value.get("Ref")) if isinstance(value, dict) else None
        )
        if parameter and parameter["Type"] == "Number":
            bounds = [parameter.get("MinValue"), parameter.get("MaxValue")]
            limits[name] = parameter.get("AllowedValues", bounds)
    assert limits
    for bound in (min, max):
        numbers = {name: str(bound(values)) for name, values in limits.items()}
        mode = bound(template["Parameters"]["Monitoring"]["AllowedValues"])
        environ = dict.fromkeys(variables, "/x") | numbers | {"FLAGSTORE_MONITORING": mode}
        assert SyncSettings.from_env(environ).full_monitoring == (mode == "full")


def test_functions_share_the_python_of_the_tests(template: Template) -> None:
    """And none of them shares its role, or lacks a log group of the stack."""
    runtime = template["Globals"]["Function"]["Runtime"]
    assert runtime == f"python3.{sys.version_info.minor}"
    functions = resources(template, "AWS::Serverless::Function")
    assert len({json.dumps(each["Role"]) for each in functions.values()}) == len(functions)
    used = [each["LoggingConfig"]["LogGroup"]["Ref"] for each in functions.values()]
    assert sorted([*used, "ServeApiLogs", "WebhookApiLogs"]) == sorted(
        resources(template, "AWS::Logs::LogGroup")
    )


def test_reserved_concurrency_is_optional(template: Template) -> None:
    """Accounts with a low limit cannot reserve any."""
    for name in ("Sync", "Webhook"):
        reserved = at(template, f"{name}Function.ReservedConcurrentExecutions")
        assert reserved["Fn::If"][2] == {"Ref": "AWS::NoValue"}
        assert template["Parameters"][f"{name}Concurrency"]["Default"] == 0


def test_routes(template: Template) -> None:
    """Routes that a function knows are served; all others are rejected without running code."""
    routes = [
        (name, f"{event['Properties']['Method']} {event['Properties']['Path']}")
        for name, function in resources(template, "AWS::Serverless::Function").items()
        for event in function["Events"].values()
        if event["Type"] == "HttpApi"
    ]
    served = [("ServeFunction", route) for route in (*ROUTES, *PREFLIGHTS)]
    assert sorted(routes) == sorted(
        [*served, *(("WebhookFunction", route) for route in webhook.ROUTES)]
    )
    assert webhook.ROUTES == ("POST /webhooks/{source}", "POST /webhooks/{source}/{token}")


def test_access_logs_omit_the_path(template: Template) -> None:
    """The path may contain a webhook's secret, or a person's context."""
    for api in ("WebhookApi", "ServeApi"):
        settings = at(template, f"{api}.AccessLogSettings")
        assert settings["DestinationArn"] == get_att(f"{api}Logs")
        assert "$context.routeKey" in settings["Format"]
        assert not re.search(r"path|uri|query|authorizer", settings["Format"], re.IGNORECASE)


def test_policies_only_allow_named_actions_and_resources(template: Template) -> None:
    """No statement uses NotAction, NotResource or an unexpected wildcard."""
    found = []
    for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy"):
        for name in resources(template, kind):
            for each in statements(template, name):
                assert each["Effect"] == "Allow"
                assert set(each) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
                assert each["Resource"] != "*" or each["Action"] == "ec2:DescribeSubnets"
                found += [text for text in texts(each) if "*" in text]
    assert sorted({*found}) == sorted(WILDCARDS)


def test_appconfig_resources_need_a_profile(template: Template) -> None:
    """Without the parameter, none of them are created."""
    parts = template["Resources"].items()
    conditional = {name for name, each in parts if each.get("Condition") == "FromAppConfig"}
    assert conditional == APPCONFIG
    using = {name for name, each in parts if {"AppConfigProfile", "FromAppConfig"} & {*texts(each)}}
    assert using <= APPCONFIG
    assert at(template, "AppConfigPolicy.Roles") == [{"Ref": "SyncRole"}]


@pytest.mark.parametrize(
    ("policy", "queue"),
    [("AppConfigMayRequestSync", "Queue"), ("AppConfigMayLeaveDeadLetters", "DeadLetterQueue")],
)
def test_only_the_rule_sends_events_to_the_queues(
    template: Template, policy: str, queue: str
) -> None:
    """Undeliverable events go to the dead-letter queue."""
    found = at(template, policy)
    assert found["Queues"] == [{"Ref": queue}]
    (statement,) = found["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Resource"] == get_att(queue)
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": get_att("AppConfigRule")}}


def test_rule_matches_deployments_that_change_flags(template: Template) -> None:
    """Of this profile only: completion and both spellings of a rollback, but not the start."""
    rule = at(template, "AppConfigRule")
    (target,) = rule["Targets"]
    assert target["Arn"] == get_att("Queue")
    assert target["DeadLetterConfig"]["Arn"] == get_att("DeadLetterQueue")
    pattern = rule["EventPattern"]
    assert pattern["source"] == ["aws.appconfig"]
    for index, what in enumerate(("Application", "Environment", "ConfigurationProfile")):
        part = {"Fn::Select": [index, {"Fn::Split": ["/", {"Ref": "AppConfigProfile"}]}]}
        assert pattern["detail"][what]["Id"] == [part]
    kinds = pattern["detail-type"]
    prefixes = tuple(each["prefix"] for each in kinds if isinstance(each, dict))
    for words in ("Complete", "Baking", "Rollback", "Rolled Back", "Reverted", "Something New"):
        event = f"On Deployment {words}"
        assert event in kinds or event.startswith(prefixes)


def test_schedule_invokes_sync_function_only(template: Template) -> None:
    """Its role accepts schedules of this account only."""
    (statement,) = statements(template, "ScheduleRole")
    assert statement["Action"] == "lambda:InvokeFunction"
    assert statement["Resource"] == get_att("SyncFunction")
    trust = at(template, "ScheduleRole.AssumeRolePolicyDocument.Statement")
    assert all(each["Condition"]["StringEquals"]["aws:SourceAccount"] for each in trust)


def test_network_interfaces_need_a_vpc(template: Template) -> None:
    """Without subnets there is no such permission; WebhookFunction never has it."""
    for name in ("Sync", "Serve", "Usage"):
        (policy,) = at(template, f"{name}Role.ManagedPolicyArns")["Fn::If"][1]
        assert policy["Fn::Sub"].endswith("/AWSLambdaENIManagementAccess")
        describe = at(template, f"{name}Role.Policies")[1]["Fn::If"]
        assert (describe[0], describe[2]) == ("InVpc", {"Ref": "AWS::NoValue"})
        for path in (f"{name}Function.VpcConfig", f"{name}Role.ManagedPolicyArns"):
            assert at(template, path)["Fn::If"][0] == "InVpc"
    others = resources(template, "AWS::IAM::Role").keys() - {"SyncRole", "ServeRole", "UsageRole"}
    assert [name for name in others if "ManagedPolicyArns" in at(template, name)] == []
    assert "VpcConfig" not in at(template, "WebhookFunction")
