"""Flags of every kind on a real Unleash server, made by its admin API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .unleash_server import UnleashServer

OPERATORS: dict[str, tuple[str, Any]] = {
    "IN": ("country", ["DE", "FR"]),
    "NOT_IN": ("plan", ["free", "pro"]),
    "STR_CONTAINS": ("email", ["@EXAMPLE"]),
    "STR_STARTS_WITH": ("email", ["anna", "bob"]),
    "STR_ENDS_WITH": ("email", [".com"]),
    "NUM_EQ": ("seats", "50"),
    "NUM_GT": ("age", "30"),
    "NUM_GTE": ("age", "30"),
    "NUM_LT": ("seats", "2.75"),
    "NUM_LTE": ("age", "65"),
    "DATE_AFTER": ("currentTime", "2020-01-01T00:00:00Z"),
    "DATE_BEFORE": ("currentTime", "2020-01-01T00:00:00Z"),
    "SEMVER_EQ": ("appVersion", "2.4.0"),
    "SEMVER_GT": ("appVersion", "2.4.0"),
    "SEMVER_LT": ("appVersion", "2.5.0"),
}
"""Operator → context field, and value or values."""
UNLIKE = "child.of-off"
"""On while its parent is off: for all SDKs, but not for the server's own frontend API, which knows
no flags that are off."""


def constraint(operator: str, **more: Any) -> dict[str, Any]:
    name, given = OPERATORS[operator]
    kind = "values" if isinstance(given, list) else "value"
    return {"contextName": name, "operator": operator, kind: given, **more}


def rollout(percent: int, stickiness: str = "default", **more: Any) -> dict[str, Any]:
    parameters = {"rollout": str(percent), "stickiness": stickiness, "groupId": "group"}
    return {"name": "flexibleRollout", "parameters": parameters, "constraints": [], **more}


def strategy(name: str = "default", *constraints: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "parameters": {}, "constraints": [*constraints], **more}


def variants(stickiness: str = "default") -> list[dict[str, Any]]:
    values = {"string": "grün 🎨", "json": '{"limit": [1, null]}', "number": "7.5", "csv": "a,b"}
    return [
        {
            "name": kind,
            "weight": 1000 // len(values),
            "weightType": "variable",
            "stickiness": stickiness,
            "payload": {"type": kind, "value": value},
        }
        for kind, value in values.items()
    ]


def strategies(segments: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the name of each flag, and its strategies."""
    for operator in OPERATORS:
        for suffix, more in {"": {}, ".not": {"inverted": True}}.items():
            yield (
                f"con.{operator.lower()}{suffix}",
                [strategy("default", constraint(operator, **more))],
            )
    insensitive = constraint("STR_CONTAINS", caseInsensitive=True)
    yield "con.insensitive", [strategy("default", insensitive)]
    yield "con.two", [strategy("default", constraint("IN"), constraint("NUM_GT"))]
    for percent in (0, 1, 25, 50, 99, 100):
        yield f"roll.{percent}", [rollout(percent)]
    for stickiness in ("userId", "sessionId", "plan"):
        yield f"roll.by-{stickiness}", [rollout(50, stickiness)]
    yield "either", [rollout(20, constraints=[constraint("IN")]), strategy("default", insensitive)]
    yield "disabled-strategy", [strategy(disabled=True), rollout(30)]
    yield "address", [strategy("remoteAddress") | {"parameters": {"IPs": "10.1.0.0/16, 192.0.2.7"}}]
    yield "host", [strategy("applicationHostname") | {"parameters": {"hostNames": "no-such-host"}}]
    yield "variants", [rollout(100, variants=variants())]
    yield "variants.half", [rollout(50, "userId", variants=variants("userId"))]
    yield "segment.one", [strategy(segments=segments[:1])]
    yield "segment.both", [rollout(60, segments=segments, constraints=[constraint("NUM_LT")])]
    yield "parent", [rollout(50, variants=variants())]
    yield "child", [strategy()]
    yield "child.of-variant", [strategy()]
    yield "child.of-none", [strategy()]
    yield UNLIKE, [strategy()]
    yield "off", [strategy()]
    yield "impressions", [strategy()]


PARENTS: dict[str, dict[str, Any]] = {
    "child": {"feature": "parent"},
    "child.of-variant": {"feature": "parent", "variants": ["json", "csv"]},
    "child.of-none": {"feature": "roll.0", "enabled": False},
    UNLIKE: {"feature": "off", "enabled": False},
}


def seed(server: UnleashServer) -> list[str]:
    """Create all flags and their segments, and return their names, sorted."""
    segments = [
        server.put_segment("people", [constraint("IN"), constraint("STR_ENDS_WITH")]),
        server.put_segment("grown-up", [constraint("NUM_GTE")]),
    ]
    made = dict(strategies(segments))
    for name, listed in made.items():
        server.create_flag(name, description=f"für {name}", impressionData=name == "impressions")
        for one in listed:
            server.change_flag("POST", f"{name}/environments/development/strategies", one)
        if name != "off":
            server.switch(name, "on")
    for name, parent in PARENTS.items():
        server.change_flag("POST", f"{name}/dependencies", parent)
    return sorted(made)
