"""LaunchDarkly flags that use all that its SDKs know, and contexts that reach every part of it."""

from __future__ import annotations

from random import Random
from typing import Any

from simulators.launchdarkly_flags import new_flag, new_segment, rich_flags

FULL = 100_000
GONE = "deleted-long-ago"
"""A flag that the provider still names, as deleted."""
MAIN = "checkout-colour"
"""The flag that tests change."""
NAMED_IN_ADVANCE = ("removed-later", "archived-later")
"""Flags that tests remove."""

_DAY = "2026-01-01T00:00:00Z"
_DAY_MS = 1_767_225_600_000
_CLAUSES: dict[str, list[tuple[str, list[Any]]]] = {
    "in": [
        ("plan", ["free", "team"]),
        ("seats", [5, 50, 2.5]),
        ("beta", [True]),
        ("/address/city", ["Köln", "東京"]),
        ("tags", ["a", "ü"]),
        ("kind", ["organisation"]),
        ("anonymous", [True]),
        ("/odd~1name", ["x"]),
    ],
    "startsWith": [("country", ["D", "F"]), ("/address/city", ["K", "東"]), ("seats", ["5"])],
    "endsWith": [("email", ["@example.com"]), ("tags", ["b", "ü"])],
    "contains": [("email", ["an", "ü"]), ("plan", ["e"])],
    "matches": [("email", [r"^[a-m].*\.(com|org)$", "("]), ("appVersion", [r"\d\.\d+\.0", "rc"])],
    "lessThan": [("seats", [10]), ("ratio", [0.5]), ("tags", [3])],
    "lessThanOrEqual": [("seats", [5]), ("ratio", [0.25])],
    "greaterThan": [("seats", [10]), ("ratio", [0.5, 0.9])],
    "greaterThanOrEqual": [("seats", [50]), ("ratio", [0.75])],
    "before": [("signedUpAt", [_DAY]), ("signedUpAt", [_DAY_MS])],
    "after": [("signedUpAt", [_DAY]), ("signedUpAt", [_DAY_MS, "2026-03-01T12:00:00.5+01:00"])],
    "semVerEqual": [("appVersion", ["2.4.0"]), ("appVersion", ["2", "2.5.0-rc.1"])],
    "semVerLessThan": [("appVersion", ["2.4.0"]), ("appVersion", ["2.5.0-rc.2"])],
    "semVerGreaterThan": [("appVersion", ["2.4.0"]), ("appVersion", ["2.4", "not one"])],
    "segmentMatch": [
        ("", [segment])
        for segment in (
            "beta-testers",
            "large-accounts",
            "nested",
            "nested-twice",
            "half-of-users",
            "half-by-country",
            "half-of-organisations",
            "not-these",
            "very-large",
            "kept-elsewhere",
            "missing",
        )
    ],
}
RULES = [
    f"{operator}/{number}/{negate}"
    for operator, cases in _CLAUSES.items()
    for number in range(len(cases))
    for negate in (False, True)
]
"""The rules that test one case of one operator, or its opposite; see :func:`_operators`."""
ALIKE = {f"segmentMatch/{number}/{negate}" for number in (9, 10) for negate in (False, True)}
"""Those that are the same for everybody: the segments are not there to be read."""
_VALUES: list[list[Any]] = [
    [True, False],
    ["blue", "grün", "青", "🎨"],
    [0, 1.5, -3, 12_345_678_901],
    [{"limit": 10, "tags": ["a", {"b": None}]}, {}, [], [1, "two", False]],
]


def flag_set() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return flags and segments, always the same ones."""
    flags, segments = rich_flags(18)
    for make in (_operators, _targets, _rollouts, _prerequisites, _faulty):
        flags |= {flag["key"]: flag for flag in make()}
    for key in (MAIN, *NAMED_IN_ADVANCE):
        flags[key] = _flag(key, _VALUES[1], fallthrough=_split(4))
    flags[GONE] = {**new_flag(GONE), "version": 7, "deleted": True}
    return flags, segments | {segment["key"]: segment for segment in _segments()}


def contexts(count: int = 200, seed: int = 1) -> list[dict[str, Any]]:
    """Return so many contexts, of one kind and of several, each with attributes missing."""
    random = Random(seed)
    return [_context(random) for _ in range(count)]


# -- flags ------------------------------------------------------------------------------------


def _flag(key: str, values: list[Any], **fields: Any) -> dict[str, Any]:
    return {**new_flag(key), "variations": values, "offVariation": len(values) - 1} | fields


def _rule(identifier: str, *clauses: dict[str, Any], **result: Any) -> dict[str, Any]:
    return {"id": identifier, "clauses": list(clauses), "trackEvents": False} | result


def _clause(operator: str, attribute: str, values: list[Any], **fields: Any) -> dict[str, Any]:
    clause = {"attribute": attribute, "op": operator, "values": values, "negate": False}
    return clause | ({} if attribute in {"", "kind"} else {"contextKind": "user"}) | fields


def _split(count: int, **fields: Any) -> dict[str, Any]:
    share = FULL // count
    weights = [{"variation": index, "weight": share} for index in range(count)]
    return {"rollout": {"kind": "rollout", "contextKind": "user", "variations": weights} | fields}


def _operators() -> list[dict[str, Any]]:
    """Make a flag for each case of each operator, and one for its opposite; rules tell which."""
    made = []
    for operator, cases in _CLAUSES.items():
        for number, (attribute, values) in enumerate(cases):
            for negate in (False, True):
                key = f"{'not-' * negate}{operator}-{number}"
                clause = _clause(operator, attribute, values, negate=negate)
                rules = [_rule(f"{operator}/{number}/{negate}", clause, variation=0)]
                variations = _VALUES[number % len(_VALUES)]
                made.append(_flag(key, variations, rules=rules, fallthrough={"variation": 1}))
    several = _rule(
        "several",
        _clause("in", "plan", ["team", "business"]),
        _clause("greaterThan", "seats", [3]),
        _clause("in", "region", ["eu"], contextKind="organisation"),
        variation=2,
    )
    first = _rule("first", _clause("in", "country", ["JP"]), variation=1)
    made.append(_flag("several-clauses", _VALUES[1], rules=[first, several]))
    return made


def _targets() -> list[dict[str, Any]]:
    users = [f"user-{number}" for number in range(0, 200, 2)]
    organisations = [f"organisation-{number}" for number in range(0, 20, 2)]
    both = [
        {"contextKind": "organisation", "variation": 1, "values": organisations},
        {"contextKind": "user", "variation": 0, "values": []},
    ]
    return [
        _flag("targets", _VALUES[1], targets=[{"variation": 2, "values": users}]),
        _flag(
            "targets-of-kinds",
            _VALUES[3],
            targets=[{"variation": 0, "values": ["user-1", *users]}],
            contextTargets=both,
            fallthrough={"variation": 2},
        ),
    ]


def _rollouts() -> list[dict[str, Any]]:
    plain = _clause("in", "beta", [True, False])
    weights = [
        {"variation": 0, "weight": 30_000, "untracked": False},
        {"variation": 1, "weight": 50_000, "untracked": False},
        {"variation": 1, "weight": 20_000, "untracked": True},
    ]
    experiment = {"kind": "experiment", "variations": weights}
    return [
        _flag("rollout", _VALUES[0], fallthrough=_split(2)),
        _flag("rollout-by-country", _VALUES[1], fallthrough=_split(4, bucketBy="country")),
        _flag("rollout-by-number", _VALUES[2], fallthrough=_split(4, bucketBy="seats")),
        _flag("rollout-by-part", _VALUES[2], fallthrough=_split(4, bucketBy="/address/city")),
        _flag("rollout-by-fraction", _VALUES[2], fallthrough=_split(4, bucketBy="ratio")),
        _flag("rollout-with-seed", _VALUES[3], fallthrough=_split(4, seed=61)),
        _flag(
            "rollout-of-organisations",
            _VALUES[1],
            fallthrough=_split(4, contextKind="organisation"),
        ),
        _flag("rollout-in-a-rule", _VALUES[1], rules=[_rule("split", plain, **_split(3))]),
        _flag(
            "experiment",
            _VALUES[0],
            fallthrough={"rollout": {**experiment, "contextKind": "user", "seed": 61}},
        ),
        _flag(
            "experiment-in-a-rule",
            _VALUES[0],
            rules=[
                _rule("trial", plain, rollout={**experiment, "contextKind": "organisation"}),
            ],
        ),
    ]


def _prerequisites() -> list[dict[str, Any]]:
    def needs(key: str, variation: int) -> list[dict[str, Any]]:
        return [{"key": key, "variation": variation}]

    root = _rule("root", _clause("in", "plan", ["team", "business"]), variation=0)
    return [
        _flag("first", _VALUES[0], rules=[root], fallthrough={"variation": 1}),
        _flag("second", _VALUES[1], prerequisites=needs("first", 0), fallthrough=_split(2)),
        _flag(
            "third",
            _VALUES[3],
            prerequisites=[*needs("second", 1), *needs("in-1", 1)],
            rules=[_rule("last", _clause("in", "beta", [True]), variation=1)],
        ),
        _flag("needs-what-is-missing", _VALUES[0], prerequisites=needs("no-such-flag", 0)),
        _flag("needs-what-is-off", _VALUES[0], prerequisites=needs("off", 0)),
        _flag("needs-itself", _VALUES[0], prerequisites=needs("needs-itself-too", 0)),
        _flag("needs-itself-too", _VALUES[0], prerequisites=needs("needs-itself", 0)),
    ]


def _faulty() -> list[dict[str, Any]]:
    """Make flags that are off or wrong, or whose names are unusual."""
    return [
        _flag("off", _VALUES[1], on=False),
        _flag("off-without-value", _VALUES[1], on=False, offVariation=None),
        _flag("no-such-variation", _VALUES[0], fallthrough={"variation": 9}),
        _flag("empty-rollout", _VALUES[0], fallthrough={"rollout": {"variations": []}}),
        _flag("wrong-reference", _VALUES[0], rules=[_rule("r", _clause("in", "//", ["x"]))]),
        _flag("null-value", [None, "text"]),
        _flag("Üñï.çødé_日本-🎌", _VALUES[1], fallthrough=_split(4)),
        _flag("$inited", _VALUES[0]),
        _flag("k" * 256, _VALUES[2], fallthrough=_split(4), version=2**53 - 1),
    ]


def _segments() -> list[dict[str, Any]]:
    def members(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {"rules": list(rules), "version": 3} | fields

    def rule(*clauses: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {"id": "r", "clauses": list(clauses)} | fields

    everybody = _clause("in", "kind", ["user", "organisation", "device"])
    organisations = [f"organisation-{number}" for number in range(0, 20, 3)]
    users = [f"user-{number}" for number in range(0, 200, 2)]
    listed: dict[str, dict[str, Any]] = {
        "large-accounts": members(
            includedContexts=[{"contextKind": "organisation", "values": organisations}],
            excludedContexts=[{"contextKind": "device", "values": ["device-1", "device-2"]}],
        ),
        "nested": members(
            rule(_clause("segmentMatch", "", ["beta-testers"]), _clause("in", "beta", [True])),
        ),
        "nested-twice": members(
            rule(_clause("segmentMatch", "", ["nested", "half-of-users"])), excluded=["user-5"]
        ),
        "half-of-users": members(rule(everybody, weight=50_000)),
        "half-by-country": members(rule(everybody, weight=50_000, bucketBy="country")),
        "half-of-organisations": members(
            rule(everybody, weight=50_000, rolloutContextKind="organisation")
        ),
        "not-these": members(
            rule(everybody),
            excluded=users,
            excludedContexts=[{"contextKind": "organisation", "values": organisations}],
        ),
        # More than a store keeps among the others, but within what one row holds.
        "very-large": members(
            included=[f"somebody-with-a-long-name-{n}" for n in range(3_000)] + users
        ),
        "kept-elsewhere": members(unbounded=True, unboundedContextKind="user", generation=2),
        "used-by-no-flag": members(included=["user-1"]),
    }
    return [{**new_segment(key), **fields} for key, fields in listed.items()]


# -- contexts ---------------------------------------------------------------------------------


def _context(random: Random) -> dict[str, Any]:
    kinds = {"user": _user, "organisation": _organisation, "device": _device}
    shape = random.random()
    if shape < 0.6:
        return _user(random)
    if shape < 0.7:
        return _organisation(random)
    chosen = random.sample(sorted(kinds), random.choice((2, 2, 3)))
    parts = {kind: kinds[kind](random) for kind in chosen}
    for part in parts.values():
        del part["kind"]
    return {"kind": "multi", **parts}


def _some(random: Random, attributes: dict[str, Any]) -> dict[str, Any]:
    """Leave out some of the attributes."""
    return {name: value for name, value in attributes.items() if random.random() < 0.88}


def _user(random: Random) -> dict[str, Any]:
    name = random.choice(("anna", "bob", "jürgen", "mei", "zoe", "dan"))
    attributes = {
        "anonymous": random.random() < 0.3,
        "plan": random.choice(("free", "team", "business", 1)),
        "seats": random.choice((1, 5, 50, 500, 2.5, "5", True)),
        "ratio": random.choice((0, 0.25, 0.5, 0.75, 1)),
        "beta": random.choice((True, False, "true")),
        "country": random.choice(("DE", "FR", "JP", "BR", "US", "KE")),
        "email": f"{name}@example.{random.choice(('com', 'org', 'net'))}",
        "appVersion": random.choice(("2", "2.3.9", "2.4.0", "2.5.0-rc.1", "10.0.0", "v2", 2)),
        "signedUpAt": random.choice(
            (
                "2025-12-31T23:59:59Z",
                "2026-03-01T12:00:00.25+01:00",
                "2026-07-01T00:00:00Z",
                "2026-01-01",
                _DAY_MS - 1,
                _DAY_MS + 86_400_000,
            )
        ),
        "tags": random.sample(["a", "b", "ü", 1, True], random.randint(0, 3)),
        "address": _some(random, {"city": random.choice(("Köln", "東京", "Lyon")), "zip": 1}),
        "odd/name": random.choice(("x", "y")),
    }
    often = f"user-{random.randint(0, 199)}"
    key = random.choice((often, often, often, f"ключ-{random.randint(0, 99)}", "😀"))
    return {"kind": "user", "key": key, **_some(random, attributes)}


def _organisation(random: Random) -> dict[str, Any]:
    attributes = {"region": random.choice(("eu", "us")), "seats": random.randint(1, 90)}
    key = f"organisation-{random.randint(0, 19)}"
    return {"kind": "organisation", "key": key, **_some(random, attributes)}


def _device(random: Random) -> dict[str, Any]:
    attributes = {"appVersion": random.choice(("1.0.0", "2.4.0")), "beta": True}
    key = f"device-{random.randint(0, 9)}"
    return {"kind": "device", "key": key, **_some(random, attributes)}
