"""Unleash features that use all that its SDKs know, and contexts that reach every part of it."""

from __future__ import annotations

from random import Random
from typing import Any

from simulators.unleash_flags import new_flag, new_segment, rich_flags

MAIN = "main"
"""The feature that tests change."""
ARCHIVED = "archived-later"
LARGE = 4
"""The segment that is kept apart from the others, for its size."""

_DAY = "2026-01-01T00:00:00Z"
_CONSTRAINTS: dict[str, list[dict[str, Any]]] = {
    "IN": [{"contextName": "country", "values": ["DE", "FR"]}],
    "NOT_IN": [{"contextName": "country", "values": ["JP", "US"]}],
    "STR_STARTS_WITH": [{"contextName": "city", "values": ["k", "東"], "caseInsensitive": True}],
    "STR_ENDS_WITH": [{"contextName": "email", "values": ["@example.com"]}],
    "STR_CONTAINS": [{"contextName": "email", "values": ["an", "ü"]}],
    "NUM_EQ": [{"contextName": "seats", "value": "5"}],
    "NUM_GT": [{"contextName": "seats", "value": "2.5"}],
    "NUM_GTE": [{"contextName": "seats", "value": "50"}],
    "NUM_LT": [{"contextName": "seats", "value": "10"}],
    "NUM_LTE": [{"contextName": "seats", "value": "2.5"}],
    "DATE_AFTER": [{"contextName": "currentTime", "value": _DAY}],
    "DATE_BEFORE": [{"contextName": "signedUpAt", "value": _DAY}],
    "SEMVER_EQ": [{"contextName": "appVersion", "value": "2.4.0"}],
    "SEMVER_GT": [{"contextName": "appVersion", "value": "2.3.0"}],
    "SEMVER_LT": [{"contextName": "appVersion", "value": "2.5.0"}],
    "IN_CIDR": [{"contextName": "remoteAddress", "values": ["10.1.0.0/16", "2001:db8::/32"]}],
    "REGEX": [{"contextName": "email", "value": r"^[a-m].*\.(com|org)$"}],
}
OPERATORS = [f"{'not-' * inverted}{name}" for name in _CONSTRAINTS for inverted in (False, True)]
"""The features that test one operator, or its opposite."""


def flag_set() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return features and segments, always the same ones."""
    flags, segments = rich_flags(40)
    large = new_segment(LARGE)
    large["constraints"][0]["values"] = [f"user-{number}" for number in range(0, 6_000, 2)]
    made = [*_operators(), *_strategies(), *_variants(), *_dependencies()]
    made += [_flag(MAIN, _rollout("50")), _flag(ARCHIVED)]
    return flags | {flag["name"]: flag for flag in made}, segments | {str(LARGE): large}


def contexts(count: int = 200, seed: int = 1) -> list[dict[str, Any]]:
    """Return so many contexts. All name a user and a session: without, Unleash draws lots."""
    random = Random(seed)
    return [_context(random) for _ in range(count)]


def _flag(name: str, *strategies: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**new_flag(name), "strategies": list(strategies) or [_strategy("default")]} | fields


def _strategy(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "constraints": [], "parameters": {}, "variants": []} | fields


def _rollout(share: str, stickiness: str = "default", **fields: Any) -> dict[str, Any]:
    parameters = {"rollout": share, "stickiness": stickiness, "groupId": "group"}
    return _strategy("flexibleRollout", parameters=parameters) | fields


def _operators() -> list[dict[str, Any]]:
    made = []
    for operator, constraints in _CONSTRAINTS.items():
        for inverted in (False, True):
            listed = [
                {"values": [], "caseInsensitive": False, "operator": operator}
                | constraint
                | {"inverted": inverted}
                for constraint in constraints
            ]
            name = f"{'not-' * inverted}{operator}"
            made.append(_flag(name, _strategy("default", constraints=listed)))
    return made


def _strategies() -> list[dict[str, Any]]:
    ids = ",".join(f"user-{number}" for number in range(0, 300, 2))
    return [
        _flag("users", _strategy("userWithId", parameters={"userIds": ids})),
        _flag(
            "addresses",
            _strategy("remoteAddress", parameters={"IPs": "10.1.0.0/16, 2001:db8::1,192.0.2.7"}),
        ),
        _flag(
            "by-user",
            _strategy("gradualRolloutUserId", parameters={"percentage": "40", "groupId": "g"}),
        ),
        _flag(
            "by-session",
            _strategy("gradualRolloutSessionId", parameters={"percentage": "60", "groupId": "g"}),
        ),
        _flag("by-country", _rollout("50", "country")),
        _flag("several", _rollout("10"), _rollout("20", "country", segments=[1, 3])),
        _flag("segment", _rollout("100", segments=[2])),
        _flag("large-segment", _rollout("100", segments=[LARGE])),
        _flag("unknown-strategy", _strategy("of-our-own")),
        _flag(
            "unknown-operator",
            _rollout("100", constraints=[{"operator": "ROUND", "contextName": "seats"}]),
        ),
        _flag("off", enabled=False),
        _flag("without-strategies", strategies=[]),
        _flag("Ünï.çødé_日本-🎌", _rollout("50")),
    ]


def _variants() -> list[dict[str, Any]]:
    def variant(name: str, weight: int, kind: str, value: str, **fields: Any) -> dict[str, Any]:
        payload = {"type": kind, "value": value}
        return {
            "name": name,
            "weight": weight,
            "stickiness": "default",
            "payload": payload,
        } | fields

    several = [
        variant("text", 250, "string", "grün 青 🎨"),
        variant("json", 250, "json", '{"limit": 10, "tags": ["a", "b"]}'),
        variant("number", 250, "number", "1.50"),
        variant("csv", 250, "csv", "a,b", stickiness="country"),
    ]
    override = {"contextName": "country", "values": ["JP", "KE"]}
    preferred = [several[0], {**several[1], "overrides": [override]}]
    return [
        _flag("variants", variants=several),
        _flag("variants-of-a-strategy", _rollout("70", "country", variants=several)),
        _flag("variants-with-overrides", variants=preferred),
        _flag("variant-without-payload", variants=[{"name": "plain", "weight": 1_000}]),
    ]


def _dependencies() -> list[dict[str, Any]]:
    def needs(feature: str, **fields: Any) -> list[dict[str, Any]]:
        return [{"feature": feature, "enabled": True, "variants": []} | fields]

    return [
        _flag("needs-on", dependencies=needs("by-user")),
        _flag("needs-off", dependencies=needs("by-user", enabled=False)),
        _flag("needs-variant", dependencies=needs("variants", variants=["text", "json"])),
        _flag("needs-missing", dependencies=needs("no-such-feature")),
        _flag("needs-two-deep", dependencies=needs("needs-on")),
    ]


def _context(random: Random) -> dict[str, Any]:
    name = random.choice(("anna", "bob", "jürgen", "mei", "zoe", "dan"))
    properties = {
        "country": random.choice(("DE", "FR", "JP", "BR", "US", "KE")),
        "city": random.choice(("Köln", "東京", "Lyon")),
        "email": f"{name}@example.{random.choice(('com', 'org', 'net'))}",
        "seats": random.choice(("1", "5", "50", "2.5", "many", 7, True)),
        "age": str(random.randint(10, 60)),
        "appVersion": random.choice(("2.3.9", "2.4.0", "2.5.0-rc.1", "10.0.0", "v2", "2.4")),
        "signedUpAt": random.choice(("2025-12-31T23:59:59Z", "2026-07-01T00:00:00Z", "never")),
    }
    now = random.choice(("2025-06-01T00:00:00Z", "2026-06-01T00:00:00Z"))
    addresses = ("10.1.2.3", "10.2.0.1", "192.0.2.7", "2001:db8::1", "nowhere")
    return {
        "userId": random.choice((str(random.randint(0, 200)), f"user-{random.randint(0, 300)}")),
        "sessionId": f"session-{random.randint(0, 99)}",
        "remoteAddress": random.choice(addresses),
        "currentTime": now,
        "properties": {key: value for key, value in properties.items() if random.random() < 0.9},
    }
