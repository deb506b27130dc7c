"""Random flag sets and contexts for LaunchDarkly that meet each edge case often.

Values come from small pools, so that flags and contexts often have the same values, or nearly so: a
few strings have a character more or less, a few fields any type.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from differential.python_values import VALUES

if TYPE_CHECKING:
    from random import Random

FLAGS = [f"flag-{number}" for number in range(7)]
SEGMENTS = ["s-0", "s-1", "s-2", "s-3"]
CONTEXTS = 12

# fmt: off
TEXTS = [
    "", "a", "ab", "abc", "b", "c", "A", "é", "日本", "a\n", "٣", "3", "1", "true", "user", "a.c",
]
NUMBERS = [0, 1, 2, 3, -1, 99, 1.0, 1.5, 2.0, -0.0, 0.1 + 0.2, 0.3, 1e300]
NUMBERS += [2**53, 2**53 + 1, 2**53 + 1, 2.0**53] * 2  # no float has the odd ones
DATES = [
    "2017-12-06T00:00:00Z", "2017-12-06T00:00:00.000-07:00", "2017-12-06T07:00:00.000Z",
    "2017-12-06T07:00:00.001z", "2017-12-06T06:59:59z", "2017-12-06 07:00:00+00:00",
    "20171206T070000Z", "2017-12-06T07:00Z", "2017-12-06T07:00:00,5Z", "2017-W49-3T07:00:00Z",
    "2017-12-05T23:30:00-07:00", "2017-12-06T07:00:00", "2017-12-06", "2017-12-06T25:00:00Z",
    "2017-12-06T07:00:60Z", "2017-12-06T07:00:00Z\n", "1512543600000",
    "2017-12-06T07:00:00.1234567Z", 1512543600000, 1512543600000.0, 1512543600001, 0,
]
VERSIONS = [
    "2.0.0", "2", "2.0", "2.0.1", "2.1.0", "10.0.0", "2.0.0-rc.1", "2.0.0-rc", "2-rc1", "2.0-rc.1",
    "2.0.0+build", "2+build", "2.0.0-rc.1+b.1", "v2", "02.0.0", "2.0.0.0", "2.", "", "2.0.0-",
    "2.0.0-01", "2.0.0-1a", "2.0.0-1", "2.0.0-a..b", "2\nx", " 2", "2.0.0-é", "٢.0.0", "2.0.0-A",
    "2.0.0--", "2.0.0+", "2.0.0+a_b", *["2.0.0-rc.2", "2.0.0-rc.10", "2.0.0-9", "2.0.0-10"] * 7,
]
PATTERNS = [
    "a", "^a", "c$", "^$", "b|c", r"\d", r"^\w+$", "a.c", "(", "[", "(?i)A", r"(?=a)ab", "é",
]
# fmt: on
TYPES: list[list[Any]] = [
    *(TEXTS[:6], [0, 1, 2, 3], [0.0, 1.0, 1.5, 2.0], [True, False], [None]),
    *([{}, {"x": 1}, {"x": True}], [[], ["a"], [1], [True], [[1]], ["a", 1]]),
]
"""A few values of each type that JSON has: all of them meet all operators."""
POOLS: dict[str, list[Any]] = {"text": TEXTS, "number": NUMBERS, "date": DATES, "version": VERSIONS}
SUBJECTS = {
    **dict.fromkeys(["startsWith", "endsWith", "contains", "matches"], "text"),
    **dict.fromkeys(["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"], "number"),
    **dict.fromkeys(["before", "after"], "date"),
    **dict.fromkeys(["semVerEqual", "semVerLessThan", "semVerGreaterThan"], "version"),
    **dict.fromkeys(["in", "unknownOperator"], "any"),
}
OPERATORS = [*SUBJECTS, "in", "segmentMatch", "segmentMatch"]
ODD: list[Any] = [None, True, 1.5, "x", [], {}, ["x"], {"x": 1}]
"""Values of damaged fields of contexts."""
KEYS = ["a", "b", "c", "d", "é", "user-1", "user-2", "user-3", "user-4", "user-5", "3", "\ud800"]
KINDS = ["user", "user", "user", "org", "device"]
VARIATIONS = [True, False, None, 0, 1, 1.0, "a", "", {"x": [1]}, [1, "b"]]
# fmt: off
REFERENCES = [
    *["/nested/text", "/nested/number", "/nested/any", "/nested/deep/date", "text", "any"] * 2,
    *["/nested", "/nested/gone", "/~1slash", "/til~0de", "/til~01de", "/any", "/any/x", "/kind"],
    *["/key", "number", "/version"],
]
BAD_REFERENCES = ["", "/", "//", "/text/", "/til~2de", "/til~", "/a//b"]
WEIGHTS: list[list[int]] = [
    [50_000, 50_000], [0, 100_000], [10_000, 20_000, 70_000], [0, 0, 100_000], [1, 1], [],
    [33_333, 33_333, 33_334], [100_000, 0], [60_000, 10_000, 0],
]
# fmt: on


def pick(r: Random, *values: Any) -> Any:
    """Draw a copy of one of some values, so that a flag and a context share nothing."""
    return copy.deepcopy(r.choice(values))


def some(r: Random, values: list[Any], most: int, least: int = 0) -> list[Any]:
    """Draw a list of some values."""
    return [pick(r, *values) for _ in range(r.randint(least, most))]


def chance(r: Random, percent: int) -> bool:
    """Return true in a percentage of calls."""
    return r.randrange(100) < percent


def one_of(r: Random, subject: str) -> Any:
    """Draw a value of a subject, with a character of some strings changed; or of any type."""
    if subject == "any":
        return pick(r, *r.choice(TYPES))
    value = pick(r, *POOLS[subject])
    if not isinstance(value, str) or chance(r, 80):
        return value
    at = r.randint(0, len(value))
    character = r.choice(["", *"0129.-+:,TZzWa é٣\n"])
    return value[:at] + character + value[at + r.randint(0, 1) :]


def required(r: Random, operator: str) -> Any:
    """Draw a value for a clause."""
    return pick(r, *PATTERNS) if operator == "matches" else one_of(r, SUBJECTS[operator])


def value_for(r: Random, subject: str) -> Any:
    """Make a value of a context: one of the subject, of any type, or a list of such."""
    dice = r.randrange(100)
    if chance(r, 14):
        return pick(r, *VALUES)
    if dice < 70:
        return one_of(r, subject if dice < 40 else "any")
    values = [one_of(r, "any") for _ in range(r.randint(0, 4))]
    if chance(r, 50):
        values.append(one_of(r, subject))
    return tuple(values) if chance(r, 20) else values


def a_part(r: Random, kind: str | None) -> dict[str, Any]:
    """Make a context of one kind that is well-formed, with a kind if one is given."""
    made = {} if kind is None else {"kind": kind}
    made["key"] = pick(r, *KEYS)
    for subject in (*POOLS, "any"):
        if not chance(r, 8):
            made[subject] = value_for(r, subject)
    made["mixed"] = [pick(r, *values) for values in TYPES]
    r.shuffle(made["mixed"])
    made["nested"] = {subject: value_for(r, subject) for subject in ("text", "number", "any")}
    made["nested"]["deep"] = {"date": value_for(r, "date")}
    if chance(r, 75):
        made |= {"/slash": value_for(r, "text"), "til~de": value_for(r, "number")}
        made["til~1de"] = value_for(r, "text")
    if chance(r, 20):
        made["name"] = pick(r, "a", "abc", None)
    if chance(r, 20):
        made |= {"anonymous": chance(r, 50), "_meta": {"privateAttributes": ["text"]}}
    if chance(r, 10):
        made["nested"] = pick(r, *ODD)
    return made


def a_context(r: Random) -> dict[str, Any]:
    """Make a context of one or several kinds; a few are malformed."""
    if chance(r, 65):
        made = a_part(r, pick(r, *KINDS, None))
    else:
        kinds = sorted({*some(r, KINDS, 4, 1)})
        made = {kind: a_part(r, "org" if chance(r, 5) else None) for kind in kinds}
        made["kind"] = "multi"
    if chance(r, 3):
        field = pick(r, "key", "kind", "name", "anonymous", "", "user", "org")
        made[field] = pick(r, *ODD)
    if chance(r, 1):
        made["kind"] = pick(r, "", "kind", "multi", "a b", "é", "a.b-c_D9")
    return made


def a_clause(r: Random) -> dict[str, Any]:
    """Make a clause, mostly a meaningful one."""
    operator = pick(r, *OPERATORS)
    made: dict[str, Any] = {"op": operator, "negate": chance(r, 25)}
    if operator == "segmentMatch":
        return made | {"attribute": "", "values": some(r, [*SEGMENTS, "gone"], 3)}
    made["values"] = [
        one_of(r, "any") if chance(r, 15) else required(r, operator)
        for _ in range(pick(r, 0, 1, 1, 1, 2, 2, 3))
    ]
    made["attribute"] = SUBJECTS[operator] if chance(r, 75) else pick(r, *POOLS, "any")
    dice = r.randrange(100)
    if dice < 15:
        literals = ["key", "kind", "name", "anonymous", "/slash", "gone", "_meta", "custom"]
        made["attribute"] = pick(r, *literals)
    elif dice < 40:
        made |= {"contextKind": pick(r, "user", "user", "org", ""), "attribute": a_reference(r)}
    elif dice < 50:
        made["contextKind"] = pick(r, *KINDS)
    if made["attribute"] in {"key", "kind", "/kind", "/key", "name"}:
        made["values"] += some(r, [*KINDS, *KEYS], 2)
    return made


def a_reference(r: Random) -> str:
    """Make a reference to an attribute; a few are invalid."""
    made: str = pick(r, *(BAD_REFERENCES if chance(r, 6) else REFERENCES))
    return made


def a_choice(r: Random) -> dict[str, Any]:
    """Make the result of a rule: a variation, rollout or experiment."""
    dice = r.randrange(100)
    if dice < 52:
        return {"variation": dice % 3 if dice < 50 else pick(r, 3, -1, None)}
    rollout: dict[str, Any] = {
        "variations": [
            {"variation": pick(r, *[0, 1, 2] * 8, 5), "weight": weight}
            for weight in pick(r, *WEIGHTS)
        ],
        "kind": pick(r, "rollout", "experiment", "experiment"),
    }
    for share in rollout["variations"]:
        if chance(r, 20):
            share["untracked"] = True
    rollout |= a_place(r, "contextKind")
    if chance(r, 40):
        rollout["seed"] = pick(r, 0, 1, 61, -5, None)
    return {"rollout": rollout} | ({"variation": 1} if chance(r, 5) else {})


def a_place(r: Random, kind: str) -> dict[str, Any]:
    """Make the fields that say how contexts are placed for a rollout or in a segment."""
    made: dict[str, Any] = {}
    if chance(r, 40):
        made[kind] = pick(r, "user", "org", "device", "")
    if chance(r, 50):
        names = ["text", "number", "any", "key", "kind", "anonymous", "gone", "", "/slash"]
        made["bucketBy"] = pick(r, *names) if chance(r, 70) else a_reference(r)
    return made


def a_target(r: Random, **kind: str | None) -> dict[str, Any]:
    """Make an entry of targets."""
    return {"variation": pick(r, *[0, 1, 2] * 5, 7), "values": some(r, KEYS, 4), **kind}


def a_rule(r: Random) -> dict[str, Any]:
    """Make a rule of a flag."""
    clauses = [a_clause(r) for _ in range(pick(r, *[1, 2] * 6, 3, 0))]
    return a_choice(r) | {"id": pick(r, "r", "é", None), "clauses": clauses}


def a_flag(r: Random, key: str) -> dict[str, Any]:
    """Make a flag."""
    made: dict[str, Any] = {
        "key": key,
        "version": pick(r, 1, 2, 30),
        "on": not chance(r, 14),
        "salt": pick(r, "salt", "é", "", None),
        "variations": some(r, VARIATIONS, 3, 3),
        "offVariation": pick(r, 0, 1, 2, 0, 1, 2, 0, 1, 2, None, None, 3),
        "fallthrough": a_choice(r),
        "rules": [a_rule(r) for _ in range(r.randint(1, 7))],
    }
    if chance(r, 36):
        made["targets"] = [a_target(r) for _ in range(r.randint(0, 3))]
        if chance(r, 55):
            kinds = some(r, ["user", "org", "", None], 3)
            made["contextTargets"] = [a_target(r, contextKind=kind) for kind in kinds]
    if chance(r, 28):
        needed = some(r, [*FLAGS, "gone"], 2, 1)
        made["prerequisites"] = [{"key": one, "variation": pick(r, 0, 1, 2, 1)} for one in needed]
    return {**made, "deleted": True} if chance(r, 1) else made


def a_probe(r: Random, key: str) -> dict[str, Any]:
    """Make a flag whose rules bring each operator to a value of each type."""
    rules = []
    for operator, subject in SUBJECTS.items():
        values = [required(r, operator) for _ in range(r.randint(1, 2))]
        clause = {"op": operator, "attribute": pick(r, "mixed", subject), "values": values}
        seldom = {"op": "in", "attribute": "key", "values": some(r, KEYS, 2)}
        clauses = [clause | {"negate": chance(r, 40)}, seldom]
        rules.append({"id": operator, "variation": len(rules) % 3, "clauses": clauses})
    r.shuffle(rules)
    return a_flag(r, key) | {"on": True, "rules": rules, "prerequisites": [], "targets": []}


def a_segment(r: Random, key: str) -> dict[str, Any]:
    """Make a segment."""
    made: dict[str, Any] = {"key": key, "version": 1, "salt": "salt", "rules": []}
    for field in ("included", "excluded"):
        if chance(r, 40):
            made[field] = some(r, KEYS, 4)
        if chance(r, 30):
            kind = pick(r, "user", "org", "", None)
            made[f"{field}Contexts"] = [{"contextKind": kind, "values": some(r, KEYS, 4)}]
    for _ in range(r.randint(0, 2)):
        rule: dict[str, Any] = {"clauses": [a_clause(r) for _ in range(pick(r, 1, 1, 2, 0))]}
        if chance(r, 40):
            rule |= a_place(r, "rolloutContextKind")
            rule["weight"] = pick(r, 0, 0, 0, 50_000, 100_000, 1, None)
        made["rules"].append(rule)
    return {**made, "deleted": True} if chance(r, 1) else made


def make(r: Random) -> Any:
    """Make a flag set, and contexts for it."""
    flags = {key: a_flag(r, key) for key in FLAGS} | {"probe": a_probe(r, "probe")}
    segments = {key: a_segment(r, key) for key in SEGMENTS}
    return flags, segments, [a_context(r) for _ in range(CONTEXTS)]
