"""Flags and segments as LaunchDarkly's SDKs would get them, in any number."""

from __future__ import annotations

from random import Random
from typing import Any

_AREAS = ("checkout", "search", "profile", "billing", "mail", "reports", "mobile", "admin")
_PLANS = ("free", "team", "business")
_COUNTRIES = ("DE", "FR", "JP", "BR", "US", "KE")
_SEGMENTS = ("beta-testers", "employees", "large-accounts")
_FULL = 100_000
_VARIATIONS: list[list[Any]] = [
    [True, False],
    [True, False],
    [True, False],
    ["blue", "green", "grün", "青"],
    [0, 1, 2.5],
    [{"limit": 10, "tags": ["a", "b"]}, {"limit": 0, "tags": []}],
]


def new_flag(key: str) -> dict[str, Any]:
    return {
        "key": key,
        "on": True,
        "prerequisites": [],
        "targets": [],
        "contextTargets": [],
        "rules": [],
        "fallthrough": {"variation": 0},
        "offVariation": 1,
        "variations": [True, False],
        "clientSideAvailability": {"usingMobileKey": False, "usingEnvironmentId": False},
        "clientSide": False,
        "salt": f"salt-of-{key}",
        "trackEvents": False,
        "trackEventsFallthrough": False,
        "debugEventsUntilDate": None,
        "version": 1,
        "deleted": False,
    }


def new_segment(key: str) -> dict[str, Any]:
    return {
        "key": key,
        "included": [],
        "excluded": [],
        "includedContexts": [],
        "excludedContexts": [],
        "salt": f"salt-of-{key}",
        "rules": [],
        "version": 1,
        "generation": 1,
        "deleted": False,
    }


def large_segment(key: str, *members: str) -> dict[str, Any]:
    """Return a segment that is stored apart from the flags."""
    others = (f"long-user-key-to-fill-a-chunk-{number}" for number in range(9_000))
    return new_segment(key) | {"included": [*others, *members]}


def rich_flags(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return *count* flags and three segments, always the same ones.

    Among them: targets, rules with clauses, percentage rollouts, an experiment, segments,
    prerequisites, and values of every type.
    """
    random = Random(1)
    flags: dict[str, Any] = {}
    for number in range(count):
        key = f"{random.choice(_AREAS)}-{number:05d}"
        flags[key] = _rich_flag(key, number, list(flags), random)
    return flags, {key: _rich_segment(key, random) for key in _SEGMENTS}


def _rich_flag(key: str, number: int, earlier: list[str], random: Random) -> dict[str, Any]:
    flag = new_flag(key)
    flag["version"] = random.randint(1, 90)
    flag["on"] = random.random() < 0.8
    flag["variations"] = _VARIATIONS[number % 7 % len(_VARIATIONS)]
    shape = number % 6
    if shape == 1:
        people = [f"user-{random.randint(1, 9999)}" for _ in range(random.randint(1, 12))]
        flag["targets"] = [{"variation": 0, "values": people}]
        flag["contextTargets"] = [{"contextKind": "user", "variation": 0, "values": []}]
    if shape in {2, 5}:
        flag["rules"] = [_rule(f"{key}-{index}", random) for index in range(random.randint(1, 3))]
    if shape == 3:
        flag["fallthrough"] = {"rollout": _rollout(len(flag["variations"]), random)}
    if shape == 4 and earlier:
        flag["prerequisites"] = [{"key": random.choice(earlier), "variation": 0}]
    if shape == 5:
        clause = _clause("", "segmentMatch", [random.choice(_SEGMENTS)])
        del clause["contextKind"]
        rule = {"id": f"{key}-segment", "variation": 1, "clauses": [clause], "trackEvents": False}
        flag["rules"].append(rule)
    return flag


def _rule(identifier: str, random: Random) -> dict[str, Any]:
    clauses: list[dict[str, Any]] = [
        _clause("plan", "in", random.sample(_PLANS, 2)),
        _clause("email", "endsWith", ["@example.com"]),
        _clause("country", "in", random.sample(_COUNTRIES, 3)),
        _clause("appVersion", "semVerGreaterThan", ["2.4.0"]),
        _clause("seats", "greaterThanOrEqual", [50]),
        _clause("signedUpAt", "after", ["2026-01-01T00:00:00Z"]),
    ]
    chosen = random.sample(clauses, random.randint(1, 2))
    return {"id": identifier, "variation": 0, "clauses": chosen, "trackEvents": False}


def _clause(attribute: str, operator: str, values: list[Any]) -> dict[str, Any]:
    return {
        "contextKind": "user",
        "attribute": attribute,
        "op": operator,
        "values": values,
        "negate": False,
    }


def _rollout(count: int, random: Random) -> dict[str, Any]:
    cuts = sorted(random.randint(0, _FULL) for _ in range(count - 1))
    edges = [0, *cuts, _FULL]
    weights = [
        {"variation": index, "weight": edges[index + 1] - edges[index]} for index in range(count)
    ]
    kind = "experiment" if random.random() < 0.2 else "rollout"
    return {"kind": kind, "contextKind": "user", "variations": weights, "bucketBy": "key"}


def _rich_segment(key: str, random: Random) -> dict[str, Any]:
    segment = new_segment(key)
    segment["version"] = random.randint(1, 40)
    segment["included"] = [f"user-{number}" for number in range(0, 120, 3)]
    segment["excluded"] = ["user-7"]
    accounts = [f"account-{number}" for number in range(10)]
    segment["includedContexts"] = [{"contextKind": "organisation", "values": accounts}]
    clauses = [_clause("email", "endsWith", ["@example.org"])]
    segment["rules"] = [{"id": f"{key}-1", "clauses": clauses, "weight": 50_000}]
    return segment
