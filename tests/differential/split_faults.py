"""Typical bugs of an engine for Split, as changes of its input or its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from differential.campaign import (
    Fault,
    at,
    dicts,
    first_only,
    mapped,
    only,
    put,
    shifted,
    texts,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from differential.campaign import Json


def flags(sections: Any) -> Iterator[Json]:
    """Yield each flag."""
    yield from sections["flags"].values()


def segments(sections: Any) -> Iterator[Json]:
    """Yield each segment."""
    yield from sections["segments"].values()


def exclusions(sections: Any) -> Iterator[Json]:
    """Yield what each rule-based segment excludes."""
    for segment in sections["rule_based_segments"].values():
        yield from dicts([segment.get("excluded")])


def conditions(sections: Any) -> Iterator[Json]:
    """Yield each condition of a flag."""
    for flag in flags(sections):
        yield from dicts(flag.get("conditions"))


def groups(sections: Any) -> Iterator[Json]:
    """Yield the group of matchers of each condition."""
    for condition in conditions(sections):
        yield condition["matcherGroup"]


def matchers(sections: Any) -> Iterator[Json]:
    """Yield each matcher."""
    for group in groups(sections):
        yield from dicts(group.get("matchers"))


def instead(kind: str, other: str) -> Fault:
    """Take a matcher for another."""
    return at(matchers, only("matcherType", kind, put(matcherType=other)))


def of_numbers(kinds: str, fields: str, change: Callable[[int, bool], int]) -> Fault:
    """Change the operand of number and date matchers; the function knows whether it is a date."""

    def of_matcher(matcher: Json) -> None:
        names = ("unaryNumericMatcherData", "betweenMatcherData")
        for data in dicts([matcher.get(name) for name in names]):
            date = data["dataType"] == "DATETIME"
            for field in fields.split():
                mapped(field, lambda value: change(value, date), int)(data)  # noqa: B023 - at once

    return at(matchers, only("matcherType", kinds, of_matcher))


def of_texts(kinds: str, change: Callable[[str], str]) -> Fault:
    """Change the string that some matchers compare with."""
    return at(matchers, only("matcherType", kinds, mapped("stringMatcherData", texts(change))))


def first_word_of(kinds: str) -> Fault:
    """Compare only with the first of some words."""
    first = mapped("whitelistMatcherData", lambda data: {"whitelist": data["whitelist"][:1]}, dict)
    return at(matchers, only("matcherType", kinds, first))


def of_attributes(kind: type, change: Callable[[Any], Any]) -> Fault:
    """Change the attributes of a type in a context."""

    def changed(name: str, value: Any) -> Any:
        own = name in {"key", "bucketingKey"}
        return change(value) if type(value) is kind and not own else value

    return Fault(context=lambda given: {name: changed(name, one) for name, one in given.items()})


def moved(by: int) -> Callable[[int, bool], int]:
    """Move a bound by one, or by a minute."""
    return lambda value, date: value + by * (60_000 if date else 1)


AT_LEAST, AT_MOST = "GREATER_THAN_OR_EQUAL_TO", "LESS_THAN_OR_EQUAL_TO"
SEMVERS = "EQUAL_TO_SEMVER GREATER_THAN_OR_EQUAL_TO_SEMVER LESS_THAN_OR_EQUAL_TO_SEMVER"

FAULTS: dict[str, Fault] = {
    # Matchers.
    "at-least-is-more": of_numbers(AT_LEAST, "value", moved(1)),
    "at-most-is-less": of_numbers(AT_MOST, "value", moved(-1)),
    "between-without-its-end": of_numbers("BETWEEN", "end", moved(-1)),
    "dates-in-seconds": of_numbers(
        f"EQUAL_TO {AT_LEAST} {AT_MOST}",
        "value",
        lambda value, date: value // 1_000 if date else value,
    ),
    "starts-is-contains": instead("STARTS_WITH", "CONTAINS_STRING"),
    "equal-set-is-all": instead("EQUAL_TO_SET", "CONTAINS_ALL_OF_SET"),
    "first-version-only": first_word_of("IN_LIST_SEMVER"),
    "pattern-is-anchored": of_texts("MATCHES_STRING", lambda pattern: f"^(?:{pattern})$"),
    "pre-releases-are-ignored": of_texts(SEMVERS, lambda version: version.partition("-")[0]),
    "negate-is-dropped": at(matchers, put(negate=False)),
    "attribute-is-the-key": at(matchers, mapped("keySelector", lambda _: None, dict)),
    "numbers-are-texts": of_attributes(int, str),
    "text-is-no-set": of_attributes(str, lambda value: [value]),
    "members-are-ignored": at(segments, put(keys=[])),
    # Conditions and flags.
    "first-matcher-only": at(groups, first_only("matchers")),
    "first-condition-only": at(flags, first_only("conditions")),
    "partition-shifted": at(conditions, shifted("partitions", "size", 1)),
    "whitelists-are-rollouts": at(conditions, put(conditionType="ROLLOUT")),
    "kill-is-ignored": at(flags, put(killed=False)),
    "first-prerequisite-only": at(flags, first_only("prerequisites")),
    "seed-is-lost": at(flags, put(seed=0)),
    "no-algorithm-is-murmur": at(flags, mapped("algo", lambda algorithm: algorithm or 2)),
    "allocation-by-the-flags-seed": at(
        flags, lambda flag: flag.update(trafficAllocationSeed=flag.get("seed"))
    ),
    "bucketing-key-is-ignored": Fault(context=lambda given: {**given, "bucketingKey": None}),
    "configuration-is-lost": Fault(outcome=lambda outcome: outcome._replace(config=None)),
    # Rule-based segments.
    "excluded-keys-are-ignored": at(exclusions, without("keys")),
    "first-excluded-segment-only": at(exclusions, first_only("segments")),
}
