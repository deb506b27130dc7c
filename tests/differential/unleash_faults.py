"""Typical bugs of an engine for Unleash, as changes of its input or its results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from differential.campaign import (
    Fault,
    at,
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

NUMBERS = "NUM_EQ NUM_GT NUM_GTE NUM_LT NUM_LTE"
DATES = "DATE_AFTER DATE_BEFORE"
VERSIONS = "SEMVER_EQ SEMVER_GT SEMVER_GTE SEMVER_LT SEMVER_LTE"


def flags(made: Any) -> Iterator[Json]:
    """Yield each flag."""
    yield from made.flags.values()


def strategies(made: Any) -> Iterator[Json]:
    """Yield each strategy."""
    for flag in flags(made):
        yield from flag["strategies"]


def parameters(made: Any) -> Iterator[Json]:
    """Yield the parameters of each strategy."""
    for strategy in strategies(made):
        yield strategy.get("parameters", {})


def constraints(made: Any) -> Iterator[Json]:
    """Yield each constraint, of strategies and of segments."""
    for item in (*strategies(made), *made.segments.values()):
        yield from item.get("constraints", ())


def variants(made: Any) -> Iterator[Json]:
    """Yield each variant of a flag itself."""
    for flag in flags(made):
        yield from flag.get("variants", ())


def dependencies(made: Any) -> Iterator[Json]:
    """Yield each dependency."""
    for flag in flags(made):
        yield from flag.get("dependencies", ())


def instead(operator: str, other: str) -> Fault:
    """Take an operator for another."""
    return at(constraints, only("operator", operator, put(operator=other)))


def of_values(operators: str, change: Callable[[str], str]) -> Fault:
    """Change each value that some operators compare with."""

    def both(constraint: Json) -> None:
        mapped("value", texts(change))(constraint)
        mapped("values", texts(change))(constraint)

    return at(constraints, only("operator", operators, both))


def of_contexts(kind: type, change: Callable[[Any], Any]) -> Fault:
    """Change each field and property of a type in a context."""

    def context(given: Json) -> Json:
        return {
            name: context(value)
            if name == "properties" and isinstance(value, dict)
            else change(value)
            if isinstance(value, kind) and name != "properties"
            else value
            for name, value in given.items()
        }

    return Fault(context=context)


def properties_first(given: Json) -> Json:
    """Prefer properties to fields."""
    properties = given.get("properties")
    return {**given, **properties} if isinstance(properties, dict) else given


FAULTS: dict[str, Fault] = {
    # Operators.
    "more-is-at-least": instead("NUM_GT", "NUM_GTE"),
    "later-versions-or-equal": instead("SEMVER_GT", "SEMVER_GTE"),
    "starts-is-contains": instead("STR_STARTS_WITH", "STR_CONTAINS"),
    "before-is-after": instead("DATE_BEFORE", "DATE_AFTER"),
    "unknown-operators-are-known": instead("SEMVER_NEQ", "SEMVER_EQ"),
    "inverted-is-ignored": at(constraints, without("inverted")),
    "case-never-counts": at(constraints, put(caseInsensitive=True)),
    "first-value-only": at(constraints, first_only("values")),
    "numbers-are-whole": of_values(NUMBERS, lambda text: text.partition(".")[0]),
    "dates-without-zone": of_values(DATES, lambda text: text[:19] + "Z"),
    "pre-releases-are-ignored": of_values(VERSIONS, lambda text: text.partition("-")[0]),
    "networks-are-addresses": of_values("IN_CIDR", lambda text: text.partition("/")[0]),
    "patterns-are-anchored": of_values("REGEX", lambda text: f"^(?:{text})$"),
    # Contexts.
    "truths-as-json-has-them": of_contexts(bool, lambda value: str(value).lower()),
    "fields-are-trimmed": of_contexts(str, str.strip),
    "properties-before-fields": Fault(context=properties_first),
    "no-environment": Fault(flag_set=lambda made: made._replace(meta={})),
    # Strategies.
    "first-strategy-only": at(flags, first_only("strategies")),
    "constraints-are-ignored": at(strategies, without("constraints")),
    "first-segment-only": at(strategies, first_only("segments")),
    "rollout-one-percent-too-large": at(
        parameters,
        mapped(
            "rollout", lambda text: str(int(text) + 1) if re.fullmatch("[0-9]+", text) else text
        ),
    ),
    "stickiness-is-default": at(parameters, without("stickiness")),
    "group-is-the-flag": at(parameters, without("groupId")),
    "first-user-only": at(parameters, mapped("userIds", lambda text: text.partition(",")[0])),
    "disabled-is-enabled": at(flags, put(enabled=True)),
    # Variants.
    "weight-shifted": at(flags, shifted("variants", "weight", 10)),
    "overrides-are-ignored": at(variants, without("overrides")),
    "stickiness-of-variants-is-ignored": at(variants, without("stickiness")),
    "payload-is-lost": at(variants, without("payload")),
    # Dependencies.
    "first-dependency-only": at(flags, first_only("dependencies")),
    "parents-are-on": at(dependencies, without("enabled")),
    "variants-of-parents-are-ignored": at(dependencies, without("variants")),
}
