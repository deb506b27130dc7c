"""Random flag sets and contexts for Split in which each matcher meets each type of value.

All choices are even, so that rare cases come up as often as planned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from differential.python_values import VALUES

if TYPE_CHECKING:
    from random import Random

WORDS = ["a", "b", "c", "ab", "cab", "true", "5", "é", "\U0001d4b3", "", "control"]
SECONDS = [0, 59, 60, 61, 86_399, 86_400, 1_458_240_947, 1_458_240_959, 1_458_172_800]
NUMBERS = [-1, 0, 1, 4, 5, 6, 10**18]
VERSIONS = ["1.0.0", "1.0.0-rc.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0-alpha", "1.2.3", "1.10.0"]
VERSIONS += ["1.0.0+m", "01.0.0", "1.0.0-rc.01", "1.0.0-rc", "1.0.0-rc.beta", "1.0.0-rc.1+m"]
ODD_VERSIONS = ["1.0", "1.0.0-", "1.0.0+", "a.b.c", " 1.0.0", "1.0.0-²", "1.0.0-٣", "1_0.0.0", ""]
NUMERALS = ["5", " 5", "\u0665", "5_0", "5.0", "-1", "six", "60", "86400", "1458240947", "0"]
TRUTHS = ["true", "TRUE", " true", "false", "False\n", "yes", "1", "\u00a0true", "tru e", '"true"']
TEXTS = {
    "word": WORDS,
    "number": NUMERALS,
    "date": NUMERALS,
    "version": VERSIONS + ODD_VERSIONS,
    "truth": TRUTHS,
    "set": ["", "a", "ab", "cab", "ba", "xyz", "c"],
}
INTS = {"number": NUMBERS, "date": SECONDS}
TYPES = ("str", "int", "float", "bool", "list", "dict", "missing", "text", "other", "None")
LISTS = [[], ["a"], ["b", "a"], ["a", "b", "c"], ["x"], [1], [["a"]], ["a", None], ["ab", "a"]]
DICTS: list[Any] = [{}, {"a": 1}, {"a": 1, "b": 2}, {"x": {1: 2}}, {1: "a"}]
OTHERS: list[Any] = [("a", "b"), {"a"}, frozenset("abc"), b"a", b"true", 5 + 0j, range(2), object]
OTHERS += VALUES


def pick(draw: Random, *choices: Any) -> Any:
    """Draw one of some."""
    return draw.choice(choices)


def some(draw: Random, choices: list[Any], most: int = 3) -> list[Any]:
    """Draw a few of some."""
    return draw.sample(choices, draw.randint(0, min(most, len(choices))))


def value_of(draw: Random, kind: str, attribute: str) -> Any:
    """Make up a value of a type for an attribute."""
    pools: dict[str, list[Any]] = {
        "str": TEXTS[attribute],
        "text": TEXTS[attribute],
        "int": INTS.get(attribute, [0, 1, 5]),
        "float": [5.0, 5.5, 0.0, -1.0, float("nan"), float("inf"), 60.0],
        "bool": [True, False],
        "list": LISTS,
        "dict": DICTS,
        "other": OTHERS,
        "None": [None],
    }
    return draw.choice(pools[kind])


# fmt: off
KEYS: list[Any] = [
    "a", "b", "ab", "user-1", "user-2", "user-3", "user-33", "ключ", "é", "日本", "k" * 250, " a ",
    "5", "control", "true", "1.0.0", "60", "abc",
]
ODD_KEYS: list[Any] = [
    5, 5.5, 10**20, "", "  ", None, True, "k" * 251, float("nan"), ["a"], 1j, b"a", *VALUES,
    10**400, "\u2003", float("inf"), {"a": 1},
]
# fmt: on

FITTING = {
    **dict.fromkeys(["WHITELIST", "STARTS_WITH", "ENDS_WITH", "CONTAINS_STRING"], "word"),
    **dict.fromkeys(["MATCHES_STRING", "IN_SEGMENT"], "word"),
    "EQUAL_TO_BOOLEAN": "truth",
    **dict.fromkeys(["EQUAL_TO_SET", "CONTAINS_ALL_OF_SET", "CONTAINS_ANY_OF_SET"], "set"),
    "PART_OF_SET": "set",
    **dict.fromkeys(["EQUAL_TO", "GREATER_THAN_OR_EQUAL_TO"], "number"),
    **dict.fromkeys(["LESS_THAN_OR_EQUAL_TO", "BETWEEN"], "number"),
    **dict.fromkeys(["EQUAL_TO_SEMVER", "GREATER_THAN_OR_EQUAL_TO_SEMVER"], "version"),
    **dict.fromkeys(["LESS_THAN_OR_EQUAL_TO_SEMVER", "BETWEEN_SEMVER"], "version"),
    "IN_LIST_SEMVER": "version",
}
"""Matchers that look at an attribute, and the one that suits them."""
WHOLE = ("ALL_KEYS", "IN_SPLIT_TREATMENT", "IN_RULE_BASED_SEGMENT")
KINDS = (*FITTING, *WHOLE)
FLAGS = [f"f{number}" for number in range(12)]
RULE_BASED = ["r0", "r1", "r2", "r3"]
SEGMENTS = {"s0": ["a", "user-1", "ключ"], "s1": ["b", "ab", "5", "user-2"], "s2": []}
TREATMENTS = ["on", "off", "a", "b", "control"]
PATTERNS = ["a", "^a", "b$", "^(a|b)$", "[0-9]", "", r"\d", "(?i)A", "é", "^.$", "a(?=b)", r"^\w+$"]
REACHED = [
    f"{kind}/{name}"
    for kind in FITTING
    for name in ("key", "str", "int", "float", "bool", "list", "dict", "NoneType", "other")
] + [f"{kind}/key" for kind in WHOLE]


def dated(draw: Random, step: int) -> int:
    """Draw milliseconds near the seconds that contexts have."""
    return 1000 * (draw.choice(SECONDS) + pick(draw, 0, 0, 1, -1, step, -step)) + pick(
        draw, 0, 0, 1, 999
    )


def data_of(draw: Random, kind: str, after: int) -> tuple[dict[str, Any], str | None]:  # noqa: PLR0911 - one each
    """Make up a matcher's data; returns it with the attribute that it suits."""
    attribute = FITTING.get(kind)
    if kind == "IN_SEGMENT":
        return {
            "userDefinedSegmentMatcherData": {"segmentName": pick(draw, *SEGMENTS, "s9")}
        }, attribute
    if kind == "IN_RULE_BASED_SEGMENT":
        name = pick(draw, *RULE_BASED * 5, "r9")
        return {"userDefinedSegmentMatcherData": {"segmentName": name}}, None
    if kind == "IN_SPLIT_TREATMENT":
        data = {"split": another(draw, after), "treatments": some(draw, TREATMENTS, 4)}
        return {"dependencyMatcherData": data}, None
    if kind == "EQUAL_TO_BOOLEAN":
        return {"booleanMatcherData": draw.random() < 0.5}, attribute
    if kind == "MATCHES_STRING":
        return {"stringMatcherData": draw.choice(PATTERNS)}, attribute
    if kind == "BETWEEN_SEMVER":
        low, high = pick(draw, *VERSIONS, "1.0"), pick(draw, *VERSIONS, *VERSIONS, "2.0.0")
        return {"betweenStringMatcherData": {"start": low, "end": high}}, attribute
    if kind == "IN_LIST_SEMVER":
        return {
            "whitelistMatcherData": {"whitelist": some(draw, [*VERSIONS, "1.0", ""], 5)}
        }, attribute
    if kind.endswith("SEMVER"):
        return {"stringMatcherData": pick(draw, *VERSIONS, *VERSIONS, "1.0")}, attribute
    if kind in {"EQUAL_TO", "GREATER_THAN_OR_EQUAL_TO", "LESS_THAN_OR_EQUAL_TO", "BETWEEN"}:
        return numeric(draw, kind)
    words = ["a", "b", "c", "x", ""] if kind.endswith("OF_SET") or kind == "EQUAL_TO_SET" else WORDS
    extra = ["[]", "1", "true", "5.0"] if kind == "WHITELIST" else []
    return {"whitelistMatcherData": {"whitelist": some(draw, words + extra, 4)}}, attribute


def numeric(draw: Random, kind: str) -> tuple[dict[str, Any], str]:
    """Make up the data of a matcher of numbers or dates."""
    date = draw.random() < 0.5
    step = 86_400 if kind == "EQUAL_TO" else 60

    def number() -> int:
        return dated(draw, step) if date else pick(draw, *NUMBERS)

    data = {"dataType": "DATETIME" if date else "NUMBER"}
    attribute = "date" if date else "number"
    if kind == "BETWEEN":
        low, high = sorted((number(), number()))
        return {"betweenMatcherData": {**data, "start": low, "end": high}}, attribute
    return {"unaryNumericMatcherData": {**data, "value": number()}}, attribute


def matcher(draw: Random, kind: str, after: int = 0) -> dict[str, Any]:
    """Make up a matcher."""
    data, attribute = data_of(draw, kind, after)
    chance = draw.randint(0, 9)
    if chance == 0:
        attribute = draw.choice([*TEXTS, ""])
    elif chance == 1:
        attribute = None
    selector = {"trafficType": "user", "attribute": attribute}
    if attribute is None and draw.random() < 0.5:
        selector = pick(draw, None, {"trafficType": "user"})
    negate = draw.randint(0, 3) == 0
    return {"matcherType": kind, "negate": negate, "keySelector": selector, **data}


# fmt: off
PARTITIONS: list[dict[Any, float]] = [
    {"on": 100}, {"on": 100, "off": 0}, {"on": 0, "off": 100}, {"on": 50, "off": 50},
    {"on": 1, "off": 99}, {"a": 33, "b": 33, "on": 34}, {"on": 33.5, "off": 66.5},
]
# fmt: on


def parts_of(shares: dict[Any, float]) -> list[dict[str, Any]]:
    """Return partitions."""
    return [{"treatment": name, "size": size} for name, size in shares.items()]


def condition(
    draw: Random, kinds: list[str], after: int = 0, *, parts: bool = True
) -> dict[str, Any]:
    """Make up a condition, with a matcher of each of the kinds."""
    made: dict[str, Any] = {
        "matcherGroup": {
            "combiner": "AND",
            "matchers": [matcher(draw, kind, after) for kind in kinds],
        }
    }
    if draw.randint(0, 9):
        made["conditionType"] = pick(draw, "ROLLOUT", "ROLLOUT", "WHITELIST")
    if parts:
        made["partitions"] = parts_of(draw.choice(PARTITIONS))
        made["label"] = pick(draw, "rule one", "rule two", "in segment all", None, "default rule")
    return made


def another(draw: Random, after: int) -> str:
    """Draw a later flag to depend on, so that there are no cycles, or one that is not there."""
    return str(draw.choice([*FLAGS[after + 1 :] * 3, "f99"]))


def flag(draw: Random, number: int, first: int) -> Any:
    """Make up a flag with four kinds of matchers, each in a condition.

    All flags have each kind twice; the second time it looks at the key more often.
    """
    name = FLAGS[number]
    places = range(4 * number, 4 * number + 4)
    conditions = []
    for place in draw.sample(places, len(places)):
        kinds = [KINDS[(first + place) % len(KINDS)]]
        kinds += [draw.choice(KINDS)] if draw.random() < 0.2 else []
        made_one = condition(draw, kinds, number)
        if place >= len(KINDS) and draw.random() < 0.5:
            made_one["matcherGroup"]["matchers"][0]["keySelector"] = None
        conditions.append(made_one)
    if draw.random() < 0.5:
        conditions.append(condition(draw, ["ALL_KEYS"], number))
    made: dict[str, Any] = {
        "name": name,
        "trafficTypeName": "user",
        "status": pick(draw, "ACTIVE", "ACTIVE", "ARCHIVED", "?"),
        "seed": pick(draw, 1, -1, 467569525, -2094556730, 2**31 - 1, 0),
        "killed": draw.randint(0, 14) == 0,
        "defaultTreatment": pick(draw, "off", "off", "off", "on", "a"),
        "changeNumber": draw.randint(1, 2**41),
        "conditions": conditions,
        "algo": pick(draw, 1, 2, 2, None),
        "trafficAllocation": pick(draw, None, 100, 100, 100, 100, 99, 50, 1, 0),
        "trafficAllocationSeed": pick(draw, 5, -7, -2094556730),
        "configurations": pick(draw, None, {}, {"on": '{"x": 1}', "off": "[]", "control": "1"}),
        "prerequisites": [],
    }
    if draw.randint(0, 7) == 0:
        made["prerequisites"] = [
            {"n": another(draw, number), "ts": draw.sample(TREATMENTS, 3)}
            for _ in range(pick(draw, 1, 2))
        ]
    if draw.randint(0, 19) == 0:
        strange = {"matcherType": pick(draw, "IN_LARGE_SEGMENT", "NEW"), "negate": False}
        draw.choice(conditions)["matcherGroup"]["matchers"].append(strange)
    return made


def rule_based(draw: Random, number: int) -> dict[str, Any]:
    """Make up a rule-based segment, which may exclude later ones."""
    # Not in another one: there are no cycles then.
    kinds = draw.choices([kind for kind in KINDS if kind not in WHOLE[1:]], k=draw.randint(1, 2))
    excluded = [
        {"name": pick(draw, *SEGMENTS, "s9"), "type": "standard"}
        if draw.random() < 0.5 or not RULE_BASED[number + 1 :]
        else {"name": draw.choice(RULE_BASED[number + 1 :]), "type": "rule-based"}
        for _ in range(pick(draw, 0, 1, 1, 2))
    ]
    keys = some(draw, KEYS[:8], 6)
    return {
        "name": RULE_BASED[number],
        "changeNumber": 5,
        "status": "ACTIVE",
        "trafficTypeName": "user",
        "conditions": [condition(draw, [kind], parts=False) for kind in kinds],
        "excluded": pick(
            draw,
            *[{"keys": keys, "segments": excluded}] * 2,
            {"keys": None, "segments": excluded},
            {"keys": keys, "segments": None},
            None,
        ),
    }


def contexts(draw: Random) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Make up ten contexts in which each attribute has each type once: key, bucketing key, rest."""
    offsets = {name: draw.randint(0, len(TYPES) - 1) for name in TEXTS}
    made = []
    for number in range(len(TYPES)):
        attributes = {}
        for name, offset in offsets.items():
            kind = TYPES[(offset + number) % len(TYPES)]
            if kind != "missing":
                attributes[name] = value_of(draw, kind, name)
        odd = draw.randint(0, 24)
        key = draw.choice(KEYS if odd else ODD_KEYS)
        if odd > 17:
            key = f"user-{draw.randint(0, 9_999)}"
        bucketing = pick(draw, None, None, None, None, "b-1", "b-2", "é", 7)
        if odd == 1:
            bucketing = pick(draw, *("", True, "k" * 251), *VALUES)
        if draw.randint(0, 30) == 0:
            attributes[""] = "a"
        made.append((key, bucketing, attributes))
    return made


class Case(NamedTuple):
    """A flag set by sections, and contexts as key, bucketing key and attributes."""

    sections: dict[str, dict[str, Any]]
    contexts: list[tuple[Any, Any, dict[str, Any]]]


def made_up(draw: Random) -> Case:
    """Make up a flag set, and contexts for it."""
    first = draw.randint(0, len(KINDS) - 1)
    flags = {name: flag(draw, number, first) for number, name in enumerate(FLAGS)}
    sections = {
        "flags": flags,
        "rule_based_segments": {
            name: rule_based(draw, number) for number, name in enumerate(RULE_BASED)
        },
        "segments": {name: {"name": name, "keys": sorted(keys)} for name, keys in SEGMENTS.items()},
    }
    return Case(sections, contexts(draw))
