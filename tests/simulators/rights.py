"""What calls of AWS need, and what the template allows, by an action and a resource."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from simulators.alarms import Stack
from simulators.template import read_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulators.recorder import Call

TEMPLATE = read_template()
ACCOUNT = "arn:aws:{service}:eu-west-1:000000000000:{name}"
TABLE, QUEUE, USAGE_QUEUE = "table/flags", "requests", "usage"
POLLED = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
LOGGED = {"logs:CreateLogStream", "logs:PutLogEvents"}
BY_AWS = {
    "webhook": LOGGED,
    "sync": LOGGED | POLLED,
    "serve": LOGGED,
    "usage": LOGGED | POLLED,
    "reader": set(),
}
"""What Lambda and its poller do with the role of a function."""
POLICIES = {
    "webhook": "WebhookRole",
    "sync": "SyncRole",
    "serve": "ServeRole",
    "usage": "UsageRole",
    "reader": "FlagReaderPolicy",
}


@dataclass(frozen=True)
class Use:
    action: str
    resource: str
    namespaces: tuple[str, ...] = ("prod:any",)
    """The partition keys that the request names; empty if it names none."""


def arn(service: str, name: str) -> str:
    return ACCOUNT.format(service=service, name=name)


def uses(call: Call) -> set[Use]:
    """Return the rights that AWS asks for a call (service authorization reference)."""
    if call.service == "sqs":
        queue = USAGE_QUEUE if f"/{USAGE_QUEUE}-" in call.sent["QueueUrl"] else QUEUE
        return {Use(f"sqs:{call.operation.removesuffix('Batch')}", arn("sqs", queue))}
    if call.service == "ssm":
        paths = [call.sent["Path"], *(each["Name"] for each in call.response.get("Parameters", []))]
        return {
            Use(f"ssm:{call.operation}", arn("ssm", f"parameter/flagstore{_below(path)}"))
            for path in paths
        }
    if call.operation == "TransactWriteItems":
        names = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}
        names["ConditionCheck"] = "ConditionCheckItem"
        parts = [part for item in call.sent["TransactItems"] for part in item.items()]
        return {
            Use(f"dynamodb:{names[kind]}", arn("dynamodb", TABLE), _namespaces(part))
            for kind, part in parts
        }
    return {Use(f"dynamodb:{call.operation}", arn("dynamodb", TABLE), _namespaces(call.sent))}


def _namespaces(sent: Mapping[str, Any]) -> tuple[str, ...]:
    if sent.get("KeyConditionExpression", "").startswith("#n = :n"):
        return (sent["ExpressionAttributeValues"][":n"]["S"],)
    if batches := sent.get("RequestItems"):
        items = [part["PutRequest"]["Item"] for batch in batches.values() for part in batch]
    else:
        items = [sent[name] for name in ("Key", "Item") if name in sent]
    return tuple(sorted({item["namespace"]["S"] for item in items}))


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
    namespaces: tuple[str, ...] = ("*",)
    """Patterns of the partition keys."""

    def allows(self, use: Use) -> bool:
        fits = self.action == use.action and fnmatchcase(use.resource, self.resource)
        return (
            fits
            and (bool(use.namespaces) or not self.keyed)
            and all(any(fnmatchcase(n, each) for each in self.namespaces) for n in use.namespaces)
        )


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
            "UsageQueue.Arn": arn("sqs", USAGE_QUEUE),
            "WebhookLogs.Arn": arn("logs", "webhook"),
            "SyncLogs.Arn": arn("logs", "sync"),
            "ServeLogs.Arn": arn("logs", "serve"),
            "UsageLogs.Arn": arn("logs", "usage"),
        },
    )
    properties = TEMPLATE["Resources"][POLICIES[who]]["Properties"]
    found = []
    policies = properties.get("Policies", [properties])
    for policy in stack.value([each for each in policies if "Fn::If" not in each]):
        for statement in policy["PolicyDocument"]["Statement"]:
            condition = dict(statement.get("Condition") or {})
            like = condition.pop("ForAllValues:StringLike", {"dynamodb:LeadingKeys": ["*"]})
            assert condition in ({}, {"Null": {"dynamodb:LeadingKeys": "false"}})
            found += [
                Grant(action, resource, bool(condition), tuple(like["dynamodb:LeadingKeys"]))
                for action in _listed(statement["Action"])
                for resource in _listed(statement["Resource"])
            ]
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
