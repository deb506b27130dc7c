"""Flags and contexts that reach every part of Split's evaluation, the same each time."""

from __future__ import annotations

from random import Random
from typing import Any

from simulators.split_flags import (
    START,
    in_segment,
    matcher,
    new_flag,
    new_rule_based,
    rollout,
    rule,
)

KILLED, ARCHIVED, DEPENDS = "to be killed", "to-be-archived", "depends:on/🙂"
SEGMENT, RULE_BASED = "beta testers: ü/中", "insiders & co"
LARGE, EMPTY = "many-keys", "nobody"
COUNTRIES = ("DE", "FR", "JP", "BR")
VERSIONS = ("1.0.0", "1.2.0-beta.2", "1.2.0", "1.10.3", "2.0.0+build", "none")
DAY_S = 86_400
DAY = 1_748_736_000
"""2025-06-01, in seconds since the epoch; Split's rules count milliseconds."""

SETS = ("backend", "front_end")
MOMENTS = ("signup",)
"""Attributes that are moments: Python's SDK takes seconds, Node.js' milliseconds."""

NO_ATTRIBUTE = "attribute-without-name"
DIFFERING = {
    "large-segment": "Python: control, Node.js: the default rule",
    "unknown-rule-based": "Python: control, Node.js: no match",
    "segment-of-attribute": "Python looks for the key, Node.js for the attribute",
    "legacy": "Node.js knows one algorithm only",
    "not-insider": "Python leaves early a rule-based segment that excludes another",
    "large-in-rule-based": "Python: everybody is in it, Node.js: nobody",
    "everybody-of-attribute": "Node.js: everybody who has the attribute",
    "float": "Python takes whole numbers only",
}
"""Flags that the SDKs for Python and Node.js do not evaluate alike, wherever they come from."""


def _words(*words: str) -> dict[str, Any]:
    return {"whitelistMatcherData": {"whitelist": list(words)}}


def _number(value: int, kind: str = "NUMBER") -> dict[str, Any]:
    return {"unaryNumericMatcherData": {"dataType": kind, "value": value}}


def _between(start: int, end: int, kind: str = "NUMBER") -> dict[str, Any]:
    return {"betweenMatcherData": {"dataType": kind, "start": start, "end": end}}


def _depends(name: str, *treatments: str) -> dict[str, Any]:
    data = {"split": name, "treatments": list(treatments)}
    return matcher("IN_SPLIT_TREATMENT", dependencyMatcherData=data)


def _negated(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "negate": True}


_MATCHERS = {
    "whitelist": matcher("WHITELIST", **_words(*(f"user-{n}" for n in range(0, 200, 3)))),
    "country": matcher("WHITELIST", "country", **_words("DE", "JP")),
    "not-country": _negated(matcher("WHITELIST", "country", **_words("DE", "JP"))),
    "starts": matcher("STARTS_WITH", "email", **_words("user-1", "user-2")),
    "ends": matcher("ENDS_WITH", "email", **_words("@müller.example")),
    "contains": matcher("CONTAINS_STRING", "email", **_words("7", "9")),
    "matches": matcher("MATCHES_STRING", "email", stringMatcherData="-[0-4]{2}@"),
    "equal": matcher("EQUAL_TO", "age", **_number(30)),
    "at-least": matcher("GREATER_THAN_OR_EQUAL_TO", "age", **_number(40)),
    "at-most": matcher("LESS_THAN_OR_EQUAL_TO", "age", **_number(40)),
    "between": matcher("BETWEEN", "age", **_between(25, 45)),
    "on-day": matcher("EQUAL_TO", "signup", **_number((DAY + 5 * DAY_S) * 1000, "DATETIME")),
    "since": matcher(
        "GREATER_THAN_OR_EQUAL_TO", "signup", **_number((DAY + 9 * DAY_S) * 1000, "DATETIME")
    ),
    "days": matcher(
        "BETWEEN",
        "signup",
        **_between((DAY + 3 * DAY_S) * 1000, (DAY + DAY_S * 9) * 1000, "DATETIME"),
    ),
    "true": matcher("EQUAL_TO_BOOLEAN", "admin", booleanMatcherData=True),
    "same-set": matcher("EQUAL_TO_SET", "roles", **_words("dev", "ops")),
    "any-of": matcher("CONTAINS_ANY_OF_SET", "roles", **_words("ops", "boss")),
    "all-of": matcher("CONTAINS_ALL_OF_SET", "roles", **_words("dev", "ops")),
    "part-of": matcher("PART_OF_SET", "roles", **_words("dev", "ops")),
    "version": matcher("EQUAL_TO_SEMVER", "version", stringMatcherData="1.2.0"),
    "version-from": matcher(
        "GREATER_THAN_OR_EQUAL_TO_SEMVER", "version", stringMatcherData="1.2.0"
    ),
    "version-to": matcher("LESS_THAN_OR_EQUAL_TO_SEMVER", "version", stringMatcherData="1.2.0"),
    "version-range": matcher(
        "BETWEEN_SEMVER", "version", betweenStringMatcherData={"start": "1.1.0", "end": "1.9.0"}
    ),
    "version-list": matcher("IN_LIST_SEMVER", "version", **_words("1.0.0", "1.10.3")),
    "segment": in_segment(SEGMENT),
    "large": in_segment(LARGE),
    "not-segment": _negated(in_segment(SEGMENT)),
    "rule-based": in_segment(RULE_BASED, "IN_RULE_BASED_SEGMENT"),
    "not-insider": in_segment("outsiders", "IN_RULE_BASED_SEGMENT"),
}
NAMES = tuple(_MATCHERS)


def flag_set() -> tuple[dict[str, Any], dict[str, list[str]], dict[str, Any]]:
    """Return flags, segments and rule-based segments."""
    random = Random(7)
    flags: dict[str, Any] = {}

    def add(name: str, *conditions: Any, **fields: Any) -> None:
        flags[name] = {
            **new_flag(name),
            "changeNumber": START + len(flags),
            "seed": random.randint(-(2**31), 2**31 - 1),
            "trafficAllocationSeed": random.randint(-(2**31), 2**31 - 1),
            "conditions": list(conditions) or [rollout(on=50, off=50)],
            "orgId": "an old key that SDKs do not know",
            **fields,
        }

    for number, (name, one) in enumerate(_MATCHERS.items()):
        add(
            name,
            rule(one, label=f"by {name}", on=100),
            rollout(off=100),
            sets=SETS[: number % 3],
            trafficTypeName="account" if number % 5 == 0 else "user",
        )
    add("halves", configurations={"on": '{"color":"grün"}', "off": "{}"})
    add("thirds", rollout(red=33, green=33, blue=34), configurations={"blue": "[1, 2.50]"})
    add("legacy", algo=1)
    add("some-traffic", trafficAllocation=40, sets=["backend"])
    listed = rule(_MATCHERS["whitelist"], label="listed", kind="WHITELIST", listed=100)
    add("listed-without-traffic", listed, rollout(on=100), trafficAllocation=0)
    both = rule(_MATCHERS["country"], _MATCHERS["at-least"], label="both", both=100)
    add("two-matchers", both, rollout(on=20, off=80))
    add("old-kill", killed=True, defaultTreatment="dead", configurations={"dead": '"why"'})
    add(KILLED, rollout(on=100), defaultTreatment="dead", sets=["front_end"])
    add(ARCHIVED, rollout(on=100), sets=["backend"])
    add("base", rollout(on=60, off=40))
    add(DEPENDS, rule(_depends("base", "on"), label="depends", on=100), rollout(off=100))
    add("no-base", rule(_depends("missing", "control"), label="gone", on=100), rollout(off=100))
    add("prerequisite", rollout(on=100), prerequisites=[{"n": "base", "ts": ["on"]}])
    add("nobody", rule(in_segment(EMPTY), label="nobody", on=100), rollout(off=100))
    unnamed = {**_MATCHERS["whitelist"], "keySelector": {"trafficType": "user", "attribute": ""}}
    add(NO_ATTRIBUTE, rule(unnamed, label="unnamed", on=100), rollout(off=100))
    of_attribute = in_segment(SEGMENT)
    of_attribute["keySelector"]["attribute"] = "friend"
    add("segment-of-attribute", rule(of_attribute, label="friend", on=100), rollout(off=100))
    large = matcher(
        "IN_LARGE_SEGMENT", userDefinedLargeSegmentMatcherData={"largeSegmentName": "huge"}
    )
    add("large-segment", rule(large, label="huge", on=100), rollout(off=100))
    within = in_segment("of large", "IN_RULE_BASED_SEGMENT")
    add("large-in-rule-based", rule(within, label="huge", on=100), rollout(off=100))
    everybody = matcher("ALL_KEYS", "friend")
    add("everybody-of-attribute", rule(everybody, label="friend", on=100), rollout(off=100))
    score = matcher("GREATER_THAN_OR_EQUAL_TO", "score", **_number(2))
    add("float", rule(score, label="score", on=100), rollout(off=100))
    unknown = in_segment("never-there", "IN_RULE_BASED_SEGMENT")
    add("unknown-rule-based", rule(unknown, label="unknown", on=100), rollout(off=100))
    segments = {
        SEGMENT: [f"user-{n}" for n in range(0, 200, 4)],
        LARGE: [f"{n:032x}" for n in range(20_000)] + [f"user-{n}" for n in range(0, 200, 5)],
        "blocked": ["user-3", "user-9", "user-44"],
        EMPTY: [],
    }
    insiders, outsiders = new_rule_based(RULE_BASED), new_rule_based("outsiders")
    of_large = new_rule_based("of large")
    of_large["conditions"][0]["matcherGroup"]["matchers"] = [large]
    insiders["conditions"][0]["matcherGroup"]["matchers"] = [in_segment(SEGMENT)]
    blocked = {"name": "blocked", "type": "standard"}
    insiders["excluded"] = {"keys": ["user-8"], "segments": [blocked]}
    outsiders["conditions"][0]["matcherGroup"]["matchers"] = [_MATCHERS["at-most"]]
    outsiders["excluded"] = {"keys": None, "segments": [{"name": RULE_BASED, "type": "rule-based"}]}
    rule_based = {RULE_BASED: insiders, "outsiders": outsiders, "of large": of_large}
    return flags, segments, rule_based


def contexts(count: int) -> list[dict[str, Any]]:
    """Return so many keys with attributes, some of which are missing, and some bucketing keys."""
    random = Random(8)
    found = []
    for number in range(count):
        attributes = {
            "country": random.choice(COUNTRIES),
            "email": f"user-{number}@{random.choice(('müller.example', 'example.com'))}",
            "age": random.choice((20, 30, 40, 50)),
            "signup": DAY + random.randrange(15) * DAY_S + random.randrange(DAY_S),
            "admin": random.random() < 0.4,
            "roles": random.sample(["dev", "ops", "boss"], random.randrange(1, 4)),
            "version": random.choice(VERSIONS),
            "friend": f"user-{random.randrange(200)}",
        }
        for missing in random.sample(sorted(attributes), number % 3):
            del attributes[missing]
        attributes["score"] = 2.5
        bucketing = f"team-{number % 10}" if number % 4 == 3 else None
        key = f"user-{number}" if number % 20 else f"ключ {number} 🙂"
        found.append({"key": key, "bucketing": bucketing, "attributes": attributes})
    return found
