"""Documents of feature flags as AppConfig keeps and serves them, and events of deployments.

Source: AWS AppConfig user guide, "type reference for AWS.AppConfig.FeatureFlags" and
"Understanding AWS AppConfig extensions".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEAMS = ("checkout", "search", "profil", "billing")


def rich_flags(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return values and definitions: flags that are on and off, with attributes or variants."""
    values: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for number in range(count):
        key = f"{_TEAMS[number % len(_TEAMS)]}-flag-{number:04d}"
        definitions[key] = definition(f"Flag {number} für alle 🚩")
        values[key] = {"enabled": number % 3 > 0, "limit": number, "greeting": "grüezi 👋"}
        if number % 4 == 3:
            values[key] = multi_variant(
                f'(ends_with $email "@team{number}.example")',
                f'(and (eq $country "CH") (split by::$userId pct::{number % 100} seed::"s"))',
            )
    return values, definitions


def definition(name: str = "") -> dict[str, Any]:
    """Return a document's data about a flag besides its value."""
    return {
        "name": name or "A flag",
        "attributes": {
            "limit": {"constraints": {"type": "number", "required": False}},
            "greeting": {"constraints": {"type": "string"}},
        },
    }


def multi_variant(*rules: str) -> dict[str, Any]:
    """Return a value with a variant for each rule, and a default one that is off."""
    chosen = [
        {
            "name": f"Variant {number}",
            "enabled": True,
            "rule": rule,
            "attributeValues": {"limit": number},
        }
        for number, rule in enumerate(rules)
    ]
    return {"_variants": [*chosen, {"name": "Default", "enabled": False}]}


def experiment(value: Mapping[str, Any], audience: str, exposure: float) -> dict[str, Any]:
    """Return a basic flag's value while an experiment of two treatments and a control runs on it.

    The guide has the names of the variants, and no document: the rules are those of an emulator.
    """

    def below(percentage: float) -> str:
        return f'(split pct::{percentage} by::$entityId seed::"123456789012:ba8toh7:x1:1")'

    variants, low = [_treatment("__t1_override__", '(in $entityId ["tester"])', 1)], 0.0
    for number, name in enumerate(("__t1__", "__t2__", "__c__"), 1):
        high = low + exposure / 3
        share = f"(and {below(high)} (not {below(low)}))" if low else below(high)
        rule = f'(and (exists key::"entityId") {audience} {share})'
        variants.append(_treatment(name, rule, number))
        low = high
    attributes = {name: each for name, each in value.items() if name != "enabled"}
    default = {"name": "__default__", "enabled": value["enabled"], "attributeValues": attributes}
    return {"_variants": [*variants, default]}


def _treatment(name: str, rule: str, number: int) -> dict[str, Any]:
    return {"name": name, "enabled": True, "rule": rule, "attributeValues": {"limit": number}}


def document(values: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": "1", "flags": dict(definitions), "values": dict(values)}


def event(
    kind: str, number: int, *, version: int, ids: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """Return what the extension of AppConfig puts on a queue; *ids* are pairs of id and name."""
    return {
        "InvocationId": "5tfjcig",
        "Parameters": {},
        **{what: {"Id": each[0], "Name": each[1]} for what, each in ids.items()},
        "Description": None,
        "DeploymentNumber": str(number),
        "ConfigurationVersion": str(version),
        "Type": kind,
    }


_TITLES = {"OnDeploymentRolledBack": "On Deployment Rollback"}
"""What EventBridge's own page calls it; the others are the type in words."""


def over_eventbridge(
    event: Mapping[str, Any], *, delivery: str, account: str, region: str, time: str
) -> dict[str, Any]:
    """Return the same event as EventBridge carries it: there a deployment's number is a number."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(event["Type"]))
    return {
        "version": "0",
        "id": delivery,
        "detail-type": _TITLES.get(str(event["Type"]), words),
        "source": "aws.appconfig",
        "account": account,
        "time": time,
        "region": region,
        "resources": [f"arn:aws:appconfig:{region}:{account}:extensionassociation/z763ff5"],
        "detail": {
            **{name: value for name, value in event.items() if name != "Description"},
            "DeploymentNumber": int(event["DeploymentNumber"]),
        },
    }
