"""The tables of docs/parameters.md and docs/iam.md that template.yaml gives.

``make docs`` writes them, by :mod:`tools.doc_figures`. What a template cannot say is here: what a
parameter costs, and what a statement of a policy is for.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.simulators.template import read_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    type Template = Mapping[str, Any]

COST = {
    "ReconcileMinutes": "each check is one run of SyncFunction, one request to each provider and "
    "two small writes to the table for each source: with 5 some 8,600 runs a month, with 1 five "
    "times as many",
    "FollowUpSyncSeconds": "one message and one check more for each webhook or burst of them",
    "AppConfigProfile": "the calls of AppConfig's API at each check",
    "SnapshotReplicas": "each copy is one more write of the whole compressed set for each change",
    "SyncMemorySize": "Lambda bills memory times duration",
    "SyncTimeout": "a provider that hangs is paid for as long as a run may take",
    "ThrottleRate": "the most that a flood can cost: each request that passes is billed, and runs "
    "WebhookFunction ([how much](cost.md#what-a-flood-costs))",
    "ThrottleBurst": "as `ThrottleRate`",
    "SubnetIds": "a NAT gateway, or an interface endpoint for each service, by the hour",
    "LogLevel": "CloudWatch bills what is logged; `DEBUG` is the most",
    "LogRetentionDays": "CloudWatch bills what is kept",
    "AlarmTopicArn": "what the topic's subscriptions cost; the alarms are there, and billed, "
    "without it too",
}
"""What a parameter changes on the bill; the others change nothing there."""

WHY = {
    "ReadWebhookSecrets": "how the webhooks of each source are checked",
    "SendSyncRequest": "puts a sync request on the queue",
    "WriteOwnLogs": "its own log group, which the stack makes: it may make none",
    "ReadSources": "what is synced, and with which key",
    "TakeAndRepeatSyncRequests": "Lambda's poller takes sync requests with this role; the function "
    "puts one back that should come again, and one that follows a webhook",
    "PublishFlags": "reads what is published, writes what is new. No `Scan`: every key is known",
    "DescribeSubnets": "Lambda, before it makes network interfaces; EC2 knows no narrower resource",
    "InvokeSync": "the schedule calls SyncFunction",
    "FindWhatIsDeployed": "which version of the profile is live",
    "ReadItsDocument": "that version, with its rules",
    "ReadFlags": "the flags and how new they are; a request has to name the partition keys it "
    "reads, so it can never walk over the table",
    "SyncRequestFromThisRule": "deployments of the AppConfig profile sync request",
    "KeepWhatThisRuleCannotDeliver": "what could not be put on the queue for an hour",
}
"""What each statement is for, by its Sid."""
IF = {"": "", "InVpc": "with `SubnetIds`"}
"""What a condition of the template says, by its name."""
ARN = re.compile(r"arn:[^:]*:([\w-]+):[^:]*:[^:]*:(.+)")


# -- parameters and outputs ------------------------------------------------------------------------


def parameters(template: Template) -> Iterator[str]:
    """Yield the lines of the parameters, group by group as the console shows them."""
    for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        yield from ("", f"## {group['Label']['default']}", "")
        yield "| parameter | default | allowed | what it does | on the bill |"
        yield "| --- | --- | --- | --- | --- |"
        for name in group["Parameters"]:
            parameter = template["Parameters"][name]
            default = str(parameter["Default"])
            yield _row(
                f"`{name}`",
                f"`{default}`" if default else "empty",
                allowed(parameter),
                _sentences(parameter["Description"]),
                COST.get(name, ""),
            )
    yield ""


def allowed(parameter: Mapping[str, Any]) -> str:
    """Return what a parameter takes, in words where the template has some."""
    if "AllowedValues" in parameter:
        return ", ".join(f"`{value}`" for value in parameter["AllowedValues"])
    if "MinValue" in parameter:
        return f"{parameter['MinValue']:,} to {parameter['MaxValue']:,}"
    said: str = parameter["ConstraintDescription"]
    return said


def outputs(template: Template) -> Iterator[str]:
    """Yield the table of the outputs."""
    yield from ("", "| output | what it is |", "| --- | --- |")
    for name, output in template["Outputs"].items():
        yield _row(f"`{name}`", _sentences(output["Description"]))
    yield ""


# -- rights ----------------------------------------------------------------------------------------


def rights(name: str) -> Callable[[Template], Iterator[str]]:
    """Return what yields the table of a role's or a policy's statements."""

    def table(template: Template) -> Iterator[str]:
        resource = template["Resources"][name]["Properties"]
        yield from ("", "| what for | actions | on | if |", "| --- | --- | --- | --- |")
        for policy in resource.get("Policies", [resource]):
            only_if, given, _ = policy.get("Fn::If", ("", policy, None))
            for statement in given["PolicyDocument"]["Statement"]:
                yield _row(
                    f"`{statement['Sid']}`: {WHY[statement['Sid']]}",
                    ", ".join(f"`{action}`" for action in _listed(statement["Action"])),
                    "; ".join(place(each) for each in _listed(statement["Resource"])),
                    condition(statement.get("Condition", {})) or IF[only_if],
                )
        for arn in _managed(resource):
            yield _row("network interfaces in a VPC", f"AWS' policy `{arn}`", "", IF["InVpc"])
        yield ""

    return table


def place(resource: Any) -> str:  # noqa: ANN401 - any value of a template
    """Return a resource in short: a name of the template, or an ARN without region and account."""
    if resource == "*":
        return "everything"
    if "Fn::GetAtt" in resource:
        return f"`{resource['Fn::GetAtt'][0]}`"
    text = resource["Fn::Sub"]
    text = text if isinstance(text, str) else text[0]
    found = ARN.fullmatch(re.sub(r"\$\{AWS::\w+\}", "", text))
    if found is None:
        message = f"no ARN: {text}"
        raise ValueError(message)
    return "`" + re.sub(r"\$\{(\w+)\}", r"<\1>", f"{found[1]}:{found[2]}") + "`"


def condition(value: Mapping[str, Any]) -> str:
    """Return a condition in one line; empty where there is none."""
    parts = []
    for operator, tested in value.items():
        for key, required in tested.items():
            if (operator, required) == ("Null", "false"):
                parts.append(f"`{key}` is there")
            else:
                shown = place(required) if isinstance(required, dict) else f"`{required}`"
                parts.append(f"`{operator}` `{key}` {shown}")
    return "; ".join(parts)


def _managed(resource: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of AWS' own policies that a role may have."""
    for arn in re.findall(r"iam::aws:policy/([\w/-]+)", json.dumps(resource)):
        yield arn.rpartition("/")[2]


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - any value of a template
    return value if isinstance(value, list) else [value]


# -- pages -----------------------------------------------------------------------------------------


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '\\|') for cell in cells)} |"


def _sentences(text: str) -> str:
    """Return a description for a page: what is named in it as code or as a link."""
    text = re.sub(r"\(docs/([\w-]+\.md)\)", r"([\1](\1))", text.strip())
    text = re.sub(r"(?<![\[/\w])docs/([\w-]+\.md)", r"[\1](\1)", text)
    return re.sub(r"(?<![\w`])(FLAGSTORE_[A-Z_]+|/prod\b)", r"`\1`", text)


PARAMETERS: Mapping[str, Callable[[Template], Iterator[str]]] = {
    "parameters": parameters,
    "outputs": outputs,
}
RIGHTS: Mapping[str, Callable[[Template], Iterator[str]]] = {
    "webhook-role": rights("WebhookRole"),
    "sync-role": rights("SyncRole"),
    "appconfig-policy": rights("AppConfigPolicy"),
    "schedule-role": rights("ScheduleRole"),
    "request-from-appconfig": rights("AppConfigMayRequestSync"),
    "dead-letters-of-appconfig": rights("AppConfigMayLeaveDeadLetters"),
    "reader-policy": rights("FlagReaderPolicy"),
}


def of_parameters() -> dict[str, str]:
    """Return the generated parts of docs/parameters.md by their names."""
    return _made(PARAMETERS)


def of_rights() -> dict[str, str]:
    """Return the generated parts of docs/iam.md by their names."""
    return _made(RIGHTS)


def _made(tables: Mapping[str, Callable[[Template], Iterator[str]]]) -> dict[str, str]:
    template = read_template()
    return {name: "\n".join(lines(template)).strip() for name, lines in tables.items()}
