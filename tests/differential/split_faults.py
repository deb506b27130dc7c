"""Typical bugs of an engine for Split, as changes of its input or its results.

A few flags are made up damaged, so each step looks whether there is what it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from differential.campaign import Fault, dicts, first_only, without

if TYPE_CHECKING:
    from collections.abc import Callable

    type Json = dict[str, Any]
    type Change = Callable[[Json], object]

NUMERIC = ("unaryNumericMatcherData", "betweenMatcherData")


def of_items(section: str, change: Change) -> Fault:
    """Change each item of a section."""

    def flag_set(sections: Any) -> Any:
        for item in sections[section].values():
            change(item)
        return sections

    return Fault(flag_set=flag_set)


def of_flags(change: Change) -> Fault:
    """Change each flag."""
    return of_items("flags", change)


def of_conditions(change: Change) -> Fault:
    """Change each condition of a flag."""

    def of_flag(flag: Json) -> None:
        for condition in dicts(flag.get("conditions")):
            change(condition)

    return of_flags(of_flag)


def of_matchers(change: Change) -> Fault:
    """Change each matcher."""

    def of_condition(condition: Json) -> None:
        for matcher in dicts(condition["matcherGroup"].get("matchers")):
            change(matcher)

    return of_conditions(of_condition)


def instead(kind: str, other: str) -> Fault:
    """Take a matcher for another."""

    def change(matcher: Json) -> None:
        if matcher.get("matcherType") == kind:
            matcher["matcherType"] = other

    return of_matchers(change)


def of_numbers(kind: str, fields: str, change: Callable[[Any, bool], Any]) -> Fault:
    """Change what a matcher compares numbers and dates with; told whether it is a date."""

    def of_matcher(matcher: Json) -> None:
        for data in (matcher.get(name) for name in NUMERIC):
            if matcher.get("matcherType") in kind.split() and isinstance(data, dict):
                for field in fields.split():
                    if isinstance(data.get(field), int):
                        data[field] = change(data[field], data["dataType"] == "DATETIME")

    return of_matchers(of_matcher)


def of_texts(field: str, one: Callable[[str], str], kinds: str) -> Fault:
    """Change the string that a matcher has."""

    def change(matcher: Json) -> None:
        if matcher.get("matcherType") in kinds.split() and isinstance(matcher.get(field), str):
            matcher[field] = one(matcher[field])

    return of_matchers(change)


def of_words(change: Callable[[list[Any]], list[Any]], *kinds: str) -> Fault:
    """Change the words that matchers compare with."""

    def of_matcher(matcher: Json) -> None:
        data = matcher.get("whitelistMatcherData")
        if isinstance(data, dict) and matcher.get("matcherType") in kinds:
            data["whitelist"] = change(data["whitelist"])

    return of_matchers(of_matcher)


def of_values(change: Callable[[Any], Any]) -> Fault:
    """Change the attributes of a context."""

    def context(given: Json) -> Json:
        keys = {"key", "bucketingKey"}
        return {name: value if name in keys else change(value) for name, value in given.items()}

    return Fault(context=context)


def of_exclusions(change: Change) -> Fault:
    """Change what rule-based segments exclude."""

    def of_segment(segment: Json) -> None:
        if isinstance(segment.get("excluded"), dict):
            change(segment["excluded"])

    return of_items("rule_based_segments", of_segment)


def of_key(change: Callable[[str], str]) -> Fault:
    """Change the key of a context."""

    def context(given: Json) -> Json:
        key = given["key"]
        return {**given, "key": change(key) if isinstance(key, str) else key}

    return Fault(context=context)


def partition_shifted(condition: Json) -> None:
    """Give the first treatment one percent of the second one's."""
    parts = condition.get("partitions")
    if isinstance(parts, list) and len(parts) > 1:
        parts[0]["size"] += 1
        parts[1]["size"] -= 1


def first_matcher_only(condition: Json) -> None:
    """Look at the first matcher of a condition."""
    first_only("matchers")(condition["matcherGroup"])


def no_attribute(matcher: Json) -> None:
    """Look at the key, whatever attribute is named."""
    if isinstance(matcher.get("keySelector"), dict):
        matcher["keySelector"] = None


def another_algorithm(flag: Json) -> None:
    """Hash with the other algorithm."""
    flag["algo"] = 1 if flag.get("algo") == 2 else 2


def off_by_one(allocation: Any) -> Any:
    """Let one percent less in."""
    return allocation - 1 if type(allocation) is int and allocation > 0 else allocation


def day(value: int, date: bool) -> int:
    """Forget the time of a date."""
    return value - value % 86_400_000 if date else value


def shifted(by: int) -> Callable[[int, bool], int]:
    """Move a bound by one, or by a minute."""
    return lambda value, date: value + by * (60_000 if date else 1)


SEMVERS = "EQUAL_TO_SEMVER GREATER_THAN_OR_EQUAL_TO_SEMVER LESS_THAN_OR_EQUAL_TO_SEMVER"

FAULTS: dict[str, Fault] = {
    # Matchers.
    "at-least-is-more": of_numbers("GREATER_THAN_OR_EQUAL_TO", "value", shifted(1)),
    "at-most-is-less": of_numbers("LESS_THAN_OR_EQUAL_TO", "value", shifted(-1)),
    "between-without-its-end": of_numbers("BETWEEN", "end", shifted(-1)),
    "between-without-its-start": of_numbers("BETWEEN", "start", shifted(1)),
    "dates-without-time": of_numbers(
        "GREATER_THAN_OR_EQUAL_TO LESS_THAN_OR_EQUAL_TO BETWEEN", "value start end", day
    ),
    "dates-in-seconds": of_numbers(
        "EQUAL_TO GREATER_THAN_OR_EQUAL_TO LESS_THAN_OR_EQUAL_TO",
        "value",
        lambda value, date: value // 1_000 if date else value,
    ),
    "starts-is-contains": instead("STARTS_WITH", "CONTAINS_STRING"),
    "ends-is-contains": instead("ENDS_WITH", "CONTAINS_STRING"),
    "contains-is-starts": instead("CONTAINS_STRING", "STARTS_WITH"),
    "equal-set-is-all": instead("EQUAL_TO_SET", "CONTAINS_ALL_OF_SET"),
    "all-is-any": instead("CONTAINS_ALL_OF_SET", "CONTAINS_ANY_OF_SET"),
    "any-is-all": instead("CONTAINS_ANY_OF_SET", "CONTAINS_ALL_OF_SET"),
    "part-is-any": instead("PART_OF_SET", "CONTAINS_ANY_OF_SET"),
    "first-word-only": of_words(lambda words: words[:1], "WHITELIST", "STARTS_WITH", "ENDS_WITH"),
    "first-version-only": of_words(lambda words: words[:1], "IN_LIST_SEMVER"),
    "pattern-is-anchored": of_texts(
        "stringMatcherData", lambda pattern: f"^(?:{pattern})$", "MATCHES_STRING"
    ),
    "pre-releases-are-ignored": of_texts(
        "stringMatcherData", lambda version: version.partition("-")[0], SEMVERS
    ),
    "metadata-does-not-count": of_texts(
        "stringMatcherData", lambda version: version.partition("+")[0], SEMVERS
    ),
    "negate-is-dropped": of_matchers(lambda matcher: matcher.update(negate=False)),
    "attribute-is-the-key": of_matchers(no_attribute),
    "key-is-case-insensitive": of_key(str.upper),
    "numbers-are-texts": of_values(lambda value: str(value) if type(value) is int else value),
    "floats-are-numbers": of_values(
        lambda value: int(value) if type(value) is float and abs(value) < 1e9 else value
    ),
    "truths-are-numbers": of_values(lambda value: int(value) if type(value) is bool else value),
    "text-is-no-set": of_values(lambda value: [value] if isinstance(value, str) else value),
    "spaces-count": of_values(lambda value: f" {value} " if isinstance(value, str) else value),
    "members-are-ignored": of_items("segments", lambda segment: segment.update(keys=[])),
    # Conditions and flags.
    "first-matcher-only": of_conditions(first_matcher_only),
    "first-condition-only": of_flags(first_only("conditions")),
    "partition-shifted": of_conditions(partition_shifted),
    "whitelists-are-rollouts": of_conditions(
        lambda condition: condition.update(conditionType="ROLLOUT")
    ),
    "kill-is-ignored": of_flags(lambda flag: flag.update(killed=False)),
    "prerequisites-are-ignored": of_flags(without("prerequisites")),
    "first-prerequisite-only": of_flags(first_only("prerequisites")),
    "seed-is-lost": of_flags(lambda flag: flag.update(seed=0)),
    "another-algorithm": of_flags(another_algorithm),
    "no-algorithm-is-murmur": of_flags(lambda flag: flag.update(algo=flag.get("algo") or 2)),
    "allocation-is-ignored": of_flags(without("trafficAllocation")),
    "allocation-off-by-one": of_flags(
        lambda flag: flag.update(trafficAllocation=off_by_one(flag.get("trafficAllocation")))
    ),
    "allocation-by-the-flags-seed": of_flags(
        lambda flag: flag.update(trafficAllocationSeed=flag.get("seed"))
    ),
    "bucketing-key-is-ignored": Fault(
        context=lambda given: {k: v for k, v in given.items() if k != "bucketingKey"}
    ),
    "key-is-trimmed": of_key(str.strip),
    "default-is-off": of_flags(lambda flag: flag.update(defaultTreatment="off")),
    "configuration-is-lost": Fault(outcome=lambda outcome: outcome._replace(config=None)),
    "label-is-lost": Fault(outcome=lambda outcome: outcome._replace(rule="")),
    # Rule-based segments.
    "excluded-keys-are-ignored": of_exclusions(without("keys")),
    "excluded-segments-are-ignored": of_exclusions(without("segments")),
    "first-excluded-segment-only": of_exclusions(first_only("segments")),
}
