"""Features and segments as Unleash's SDKs would get them, in any number."""

from __future__ import annotations

from random import Random
from typing import Any

_TEAMS = ("checkout", "search", "profile", "billing", "mail", "reports", "mobile", "admin")
_KINDS = ("release", "experiment", "operational", "kill-switch", "permission")
_COUNTRIES = ("DE", "FR", "JP", "BR", "US", "KE")


def new_flag(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "release",
        "enabled": True,
        "project": "default",
        "stale": False,
        "strategies": [_rollout(name, 100)],
        "variants": [],
        "description": None,
        "impressionData": False,
    }


def new_segment(identifier: int) -> dict[str, Any]:
    return {
        "id": identifier,
        "name": f"segment-{identifier}",
        "constraints": [_constraint("userId", "IN", ["1", "2"])],
    }


def rich_flags(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return so many features and three segments, always the same ones.

    Among them: gradual rollouts, constraints, strategy variants with payloads, segments and
    dependencies.
    """
    random = Random(1)
    flags: dict[str, Any] = {}
    for number in range(count):
        name = f"{random.choice(_TEAMS)}.feature-{number:05d}"
        flags[name] = _rich_flag(name, number, list(flags), random)
    people = [str(number) for number in range(0, 150, 3)]
    constraints = (
        [_constraint("userId", "IN", people)],
        [_constraint("email", "STR_ENDS_WITH", ["@example.com"])],
        [_constraint("country", "NOT_IN", ["US"]), _number("age", "NUM_GTE", "18")],
    )
    segments = {
        str(identifier): {**new_segment(identifier), "constraints": listed}
        for identifier, listed in enumerate(constraints, start=1)
    }
    return flags, segments


def _rich_flag(name: str, number: int, earlier: list[str], random: Random) -> dict[str, Any]:
    flag = new_flag(name)
    flag["type"] = random.choice(_KINDS)
    flag["enabled"] = random.random() < 0.8
    flag["description"] = f"Schaltet Teil {number} von {name.partition('.')[0]} (レポート)"
    strategy = _rollout(name, random.randint(0, 100))
    shape = number % 5
    if shape == 1:
        values = random.sample(_COUNTRIES, 3)
        strategy["constraints"] = [_constraint("country", "IN", values)]
    if shape == 2:
        strategy["variants"] = [
            _variant("blue", 400, {"type": "string", "value": "#00f"}),
            _variant("green", 600, {"type": "json", "value": '{"limit": 10}'}),
        ]
    if shape == 3:
        strategy["segments"] = [1 + number % 3]
    if shape == 4 and earlier:
        parent = {"feature": random.choice(earlier), "enabled": True, "variants": []}
        flag["dependencies"] = [parent]
    flag["strategies"] = [strategy]
    return flag


def _rollout(name: str, percentage: int) -> dict[str, Any]:
    return {
        "name": "flexibleRollout",
        "constraints": [],
        "parameters": {"groupId": name, "rollout": str(percentage), "stickiness": "default"},
        "variants": [],
    }


def _constraint(field: str, operator: str, values: list[str]) -> dict[str, Any]:
    return {
        "values": values,
        "inverted": False,
        "operator": operator,
        "contextName": field,
        "caseInsensitive": False,
    }


def _number(field: str, operator: str, value: str) -> dict[str, Any]:
    return {**_constraint(field, operator, []), "value": value}


def _variant(name: str, weight: int, payload: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "weight": weight,
        "weightType": "variable",
        "stickiness": "default",
        "payload": payload,
    }
