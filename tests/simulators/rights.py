"""What calls of AWS need, and what the template allows, by an action and a resource."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from simulators.alarms import Stack
from simulators.template import read_template

if TYPE_CHECKING:
    from simulators.recorder import Call

TEMPLATE = read_template()
ACCOUNT = "arn:aws:{service}:eu-west-1:000000000000:{name}"
TABLE, QUEUE = "table/flags", "requests"
BY_AWS = {
    "webhook": {"logs:CreateLogStream", "logs:PutLogEvents"},
    "sync": {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
    },
    "serve": {"logs:CreateLogStream", "logs:PutLogEvents"},
    "reader": set(),
}
"""What Lambda and its poller do with the role of a function."""
POLICIES = {
    "webhook": "WebhookRole",
    "sync": "SyncRole",
    "serve": "ServeRole",
    "reader": "FlagReaderPolicy",
}


@dataclass(frozen=True)
class Use:
    action: str
    resource: str
    keyed: bool = True
    """Whether the request names the partition keys it is about."""


def arn(service: str, name: str) -> str:
    return ACCOUNT.format(service=service, name=name)


def uses(call: Call) -> set[Use]:
    """Return the rights that AWS asks for a call (service authorization reference)."""
    if call.service == "sqs":
        return {Use(f"sqs:{call.operation.removesuffix('Batch')}", arn("sqs", QUEUE))}
    if call.service == "ssm":
        paths = [call.sent["Path"], *(each["Name"] for each in call.response.get("Parameters", []))]
        return {
            Use(f"ssm:{call.operation}", arn("ssm", f"parameter/flagstore{_below(path)}"))
            for path in paths
        }
    if call.operation == "TransactWriteItems":
        names = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}
        names["ConditionCheck"] = "ConditionCheckItem"
        parts = {kind for item in call.sent["TransactItems"] for kind in item}
        return {Use(f"dynamodb:{names[part]}", arn("dynamodb", TABLE)) for part in parts}
    keyed = "Key" in call.sent or "= :" in call.sent.get("KeyConditionExpression", "")
    return {Use(f"dynamodb:{call.operation}", arn("dynamodb", TABLE), keyed)}


def _below(path: str) -> str:
    """Return what follows the prefix: a kind of parameters, and perhaps the name of one."""
    found = re.search(r"/(sources|credentials|webhooks|clients)(/.*)?$", path)
    assert found
    return found[0]


@dataclass(frozen=True)
class Grant:
    """One action on one resource that a statement allows."""

    action: str
    resource: str
    keyed: bool
    """Whether the request must name its partition keys."""

    def allows(self, use: Use) -> bool:
        fits = self.action == use.action and fnmatchcase(use.resource, self.resource)
        return fits and (use.keyed or not self.keyed)


def grants(who: str) -> list[Grant]:
    """Return what the template allows a function or a reader, by its defaults: in no VPC."""
    stack = Stack(
        TEMPLATE,
        {
            "AWS::Partition": "aws",
            "AWS::Region": "eu-west-1",
            "AWS::AccountId": "000000000000",
            "Table.Arn": arn("dynamodb", TABLE),
            "Queue.Arn": arn("sqs", QUEUE),
            "WebhookLogs.Arn": arn("logs", "webhook"),
            "SyncLogs.Arn": arn("logs", "sync"),
            "ServeLogs.Arn": arn("logs", "serve"),
        },
    )
    properties = TEMPLATE["Resources"][POLICIES[who]]["Properties"]
    found = []
    policies = properties.get("Policies", [properties])
    for policy in stack.value([each for each in policies if "Fn::If" not in each]):
        for statement in policy["PolicyDocument"]["Statement"]:
            condition = statement.get("Condition")
            assert condition in (None, {"Null": {"dynamodb:LeadingKeys": "false"}})
            found += [
                Grant(action, resource, condition is not None)
                for action in _listed(statement["Action"])
                for resource in _listed(statement["Resource"])
            ]
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
