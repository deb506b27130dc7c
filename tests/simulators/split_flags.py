"""Flags, rule-based segments and segments as Split's SDKs would get them, and its webhook."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

START = 1_750_000_000_000
"""The change number before the first one: milliseconds since the epoch."""
_TEAMS = ("checkout", "search", "profile", "billing", "mail", "reports", "mobile", "admin")
_COUNTRIES = ("DE", "FR", "JP", "BR", "US", "KE")
_KINDS = ("userDefinedSegment", "whitelist", "unaryNumeric", "between", "dependency")
_DATA = [f"{kind}MatcherData" for kind in (*_KINDS, "boolean", "string")]


def new_flag(name: str) -> dict[str, Any]:
    return {
        "trafficTypeName": "user",
        "name": name,
        "trafficAllocation": 100,
        "trafficAllocationSeed": -1_364_119_282,
        "seed": 747_392_551,
        "status": "ACTIVE",
        "killed": False,
        "defaultTreatment": "off",
        "changeNumber": START,
        "algo": 2,
        "configurations": {},
        "sets": [],
        "impressionsDisabled": False,
        "prerequisites": [],
        "conditions": [rollout(on=100)],
    }


def new_rule_based(name: str) -> dict[str, Any]:
    """Return a rule-based segment of everybody at example.com."""
    ends = matcher("ENDS_WITH", "email", whitelistMatcherData={"whitelist": ["@example.com"]})
    return {
        "changeNumber": START,
        "name": name,
        "status": "ACTIVE",
        "trafficTypeName": "user",
        "excluded": {"keys": [], "segments": []},
        "conditions": [{"conditionType": "ROLLOUT", "matcherGroup": _group(ends)}],
    }


def rich_flags(count: int) -> tuple[dict[str, Any], dict[str, list[str]], dict[str, Any]]:
    """Return *count* flags, three segments and two rule-based ones, always the same.

    Among the flags: individual targets, rules, segments of both kinds, rollouts, dependencies,
    prerequisites, configurations and flag sets. Segments are lists of keys.
    """
    random = Random(1)
    flags: dict[str, Any] = {}
    for number in range(count):
        name = f"{random.choice(_TEAMS)}_feature-{number:05d}"
        flags[name] = _rich_flag(name, number, list(flags), random)
    segments = {
        "beta-testers": [f"user-{number}" for number in range(0, 150, 3)],
        "employees": [f"empleado-{number}@müller.example" for number in range(40)],
        "blocked": ["user-3", "user-9"],
    }
    insiders, outsiders = new_rule_based("insiders"), new_rule_based("outsiders")
    insiders["conditions"][0]["matcherGroup"] = _group(in_segment("employees"))
    blocked = {"name": "blocked", "type": "standard"}
    insiders["excluded"] = {"keys": ["user-6"], "segments": [blocked]}
    outsiders["excluded"] = {"keys": None, "segments": [{"name": "insiders", "type": "rule-based"}]}
    return flags, segments, {"insiders": insiders, "outsiders": outsiders}


def rollout(**sizes: int) -> dict[str, Any]:
    return rule(matcher("ALL_KEYS"), label="default rule", **sizes)


def rule(*matchers: dict[str, Any], label: str, kind: str = "ROLLOUT", **sizes: int) -> Any:
    return {
        "conditionType": kind,
        "matcherGroup": _group(*matchers),
        "partitions": [{"treatment": name, "size": size} for name, size in sizes.items()],
        "label": label,
    }


def matcher(kind: str, attribute: str | None = None, **data: Any) -> dict[str, Any]:
    """Return a matcher, with every other kind's data null, as Split sends it."""
    return {
        "keySelector": {"trafficType": "user", "attribute": attribute},
        "matcherType": kind,
        "negate": False,
        **dict.fromkeys(_DATA),
        **data,
    }


def in_segment(name: str, kind: str = "IN_SEGMENT") -> dict[str, Any]:
    return matcher(kind, userDefinedSegmentMatcherData={"segmentName": name})


def event(
    flag: Mapping[str, Any],
    *,
    environment: str,
    previous: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build a webhook's body by the documented schema of the audit log webhook."""
    told = {
        "name": flag["name"],
        "type": "split",
        "changeNumber": flag["changeNumber"],
        "time": flag["changeNumber"],
        "definition": f"if user is in segment all then split 100%:{flag['defaultTreatment']}",
        "description": f"Changed {flag['name']} in {environment}",
        "link": None,
        "environmentName": environment,
        "editor": "Ada Lovelace",
        "schemaVersion": 1,
    }
    before = event(previous, environment=environment) if previous else None
    return {**told, "previous": before}


def _group(*matchers: dict[str, Any]) -> dict[str, Any]:
    return {"combiner": "AND", "matchers": list(matchers)}


def _rich_flag(name: str, number: int, earlier: list[str], random: Random) -> dict[str, Any]:
    flag = new_flag(name)
    share = random.randint(0, 100)
    flag |= {
        "changeNumber": START + 1 + number,
        "seed": random.randint(-(2**31), 2**31 - 1),
        "trafficAllocationSeed": random.randint(-(2**31), 2**31 - 1),
        "killed": random.random() < 0.1,
        "sets": random.sample(["backend", "frontend", "mobile"], number % 3),
    }
    special: list[Any] = []
    shape = number % 7
    if shape == 1:
        countries = {"whitelist": random.sample(_COUNTRIES, 3)}
        age = {"dataType": "NUMBER", "value": 18}
        both = (
            matcher("WHITELIST", "country", whitelistMatcherData=countries),
            matcher("GREATER_THAN_OR_EQUAL_TO", "age", unaryNumericMatcherData=age),
        )
        special = [rule(*both, label="country in list and age >= 18", on=100)]
    if shape == 2:
        special = [rule(in_segment("beta-testers"), label="in segment beta-testers", on=100)]
    if shape == 3:
        insiders = in_segment("insiders", "IN_RULE_BASED_SEGMENT")
        special = [rule(insiders, label="in rule based segment insiders", on=50, off=50)]
    if shape == 4:
        flag["configurations"] = {"on": '{"color":"grün","size":3}'}
        people = {"whitelist": [f"user-{random.randint(0, 999)}" for _ in range(3)]}
        listed = matcher("WHITELIST", whitelistMatcherData=people)
        special = [rule(listed, label="whitelisted", kind="WHITELIST", on=100)]
    if shape == 5:
        data = {"split": random.choice(earlier), "treatments": ["on"]}
        depends = matcher("IN_SPLIT_TREATMENT", dependencyMatcherData=data)
        special = [rule(depends, label=f"in split {data['split']}", on=100)]
    if shape == 6:
        flag["prerequisites"] = [{"n": random.choice(earlier), "ts": ["on"]}]
        flag["trafficAllocation"] = 50
    return flag | {"conditions": [*special, rollout(on=share, off=100 - share)]}
