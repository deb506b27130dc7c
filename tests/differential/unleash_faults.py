"""Typical bugs of an engine for Unleash, as changes of its input or its results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from differential.campaign import (
    Fault,
    at,
    backwards,
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


def percent(pattern: str, change: Callable[[str], str]) -> Fault:
    """Change the percentages that have a pattern."""

    def both(found: Json) -> None:
        for name in ("rollout", "percentage"):
            mapped(name, lambda text: change(text) if re.fullmatch(pattern, text) else text)(found)

    return at(parameters, both)


def missing_segments_are_empty(made: Any) -> Any:
    """Skip missing segments."""
    for strategy in strategies(made):
        listed = strategy.get("segments", ())
        strategy["segments"] = [one for one in listed if str(one) in made.segments]
    return made


def missing_parents_are_on(made: Any) -> Any:
    """Skip missing parents."""
    for flag in flags(made):
        listed = flag.get("dependencies", ())
        flag["dependencies"] = [one for one in listed if one["feature"] in made.flags]
    return made


def off_has_no_variant(flag: Json) -> None:
    """Choose no variant for a flag that is off."""
    for item in () if flag["enabled"] else (flag, *flag["strategies"]):
        item.pop("variants", None)


def properties_first(given: Json) -> Json:
    """Prefer properties to fields."""
    properties = given.get("properties")
    return {**given, **properties} if isinstance(properties, dict) else given


def payload_lost(outcome: Any) -> Any:
    """Drop the payload."""
    return outcome._replace(config=None) if outcome.variant else outcome


def first_listed(text: str) -> str:
    """Return the first of a list in a string."""
    return text.partition(",")[0]


FAULTS: dict[str, Fault] = {
    # Operators.
    "more-is-at-least": instead("NUM_GT", "NUM_GTE"),
    "at-least-is-more": instead("NUM_GTE", "NUM_GT"),
    "less-is-at-most": instead("NUM_LT", "NUM_LTE"),
    "at-most-is-less": instead("NUM_LTE", "NUM_LT"),
    "later-versions-or-equal": instead("SEMVER_GT", "SEMVER_GTE"),
    "later-versions-only": instead("SEMVER_GTE", "SEMVER_GT"),
    "starts-is-contains": instead("STR_STARTS_WITH", "STR_CONTAINS"),
    "contains-is-ends": instead("STR_CONTAINS", "STR_ENDS_WITH"),
    "before-is-after": instead("DATE_BEFORE", "DATE_AFTER"),
    "unknown-operators-are-known": instead("SEMVER_NEQ", "SEMVER_EQ"),
    "inverted-is-ignored": at(constraints, without("inverted")),
    "case-counts-always": at(constraints, without("caseInsensitive")),
    "case-never-counts": at(constraints, put(caseInsensitive=True)),
    "first-value-only": at(constraints, first_only("values")),
    "no-values-are-no-fault": at(constraints, mapped("values", lambda listed: listed or ["\0"])),
    "texts-are-trimmed": of_values("IN NOT_IN STR_CONTAINS", str.strip),
    "numbers-are-trimmed": of_values(NUMBERS, str.strip),
    "numbers-are-whole": of_values(NUMBERS, lambda text: text.partition(".")[0]),
    "numbers-with-underscores": of_values(NUMBERS, lambda text: text.replace("_", "")),
    "dates-without-time": of_values(DATES, lambda text: text[:10] + "T00:00:00Z"),
    "dates-without-zone": of_values(DATES, lambda text: text[:19] + "Z"),
    "pre-releases-are-ignored": of_values(VERSIONS, lambda text: text.partition("-")[0]),
    "versions-may-begin-with-v": of_values(VERSIONS, lambda text: text.removeprefix("v")),
    "versions-may-be-short": of_values(
        VERSIONS, lambda text: text + ".0" if re.fullmatch(r"\d+\.\d+", text) else text
    ),
    "networks-are-addresses": of_values("IN_CIDR", lambda text: text.partition("/")[0]),
    "patterns-are-anchored": of_values("REGEX", lambda text: f"^(?:{text})$"),
    "patterns-know-no-case": of_values("REGEX", lambda text: f"(?i){text}"),
    "classes-are-ascii": of_values("REGEX", lambda text: text.replace("\\w", "[A-Za-z0-9_]")),
    "ends-are-lines": of_values("REGEX", lambda text: f"(?m){text}"),
    # Contexts.
    "truths-as-json-has-them": of_contexts(bool, lambda value: str(value).lower()),
    "numbers-as-integers": of_contexts(
        float, lambda value: int(value) if abs(value) < 99 else value
    ),
    "fields-are-trimmed": of_contexts(str, str.strip),
    "fields-are-lowered": of_contexts(str, str.lower),
    "fields-are-normalised": of_contexts(str, lambda value: value.replace("\u0301", "")),
    "properties-before-fields": Fault(context=properties_first),
    "an-empty-text-is-none": Fault(
        context=lambda given: {name: value for name, value in given.items() if value != ""}
    ),
    "no-properties": Fault(context=lambda given: {**given, "properties": {}}),
    "no-address": Fault(
        context=lambda given: {k: v for k, v in given.items() if k != "remoteAddress"}
    ),
    "no-environment": Fault(flag_set=lambda made: made._replace(meta={})),
    # Strategies.
    "first-strategy-only": at(flags, first_only("strategies")),
    "no-strategy-is-off": at(
        flags, lambda flag: flag.update(enabled=flag["enabled"] and bool(flag["strategies"]))
    ),
    "unknown-strategies-are-default": at(
        strategies, only("name", "unknown-custom", put(name="default"))
    ),
    "constraints-are-ignored": at(strategies, without("constraints")),
    "first-constraint-only": at(strategies, first_only("constraints")),
    "segments-are-ignored": at(strategies, without("segments")),
    "first-segment-only": at(strategies, first_only("segments")),
    "missing-segments-are-empty": Fault(flag_set=missing_segments_are_empty),
    "rollout-one-percent-too-large": percent(r"\d{1,2}", lambda text: str(int(text) + 1)),
    "more-than-all-is-all": percent(r"\d{3,}", lambda _: "100"),
    "stickiness-is-default": at(parameters, without("stickiness")),
    "default-stickiness-by-the-session": at(
        parameters, only("stickiness", "default", put(stickiness="sessionId"))
    ),
    "group-is-the-flag": at(parameters, without("groupId")),
    "first-user-only": at(parameters, mapped("userIds", first_listed)),
    "users-as-they-stand": at(parameters, mapped("userIds", lambda ids: ids.replace(" ", "_"))),
    "first-network-only": at(parameters, mapped("IPs", first_listed)),
    "disabled-is-enabled": at(flags, put(enabled=True)),
    # Variants.
    "weight-shifted": at(flags, shifted("variants", "weight", 10)),
    "weight-of-strategies-shifted": at(strategies, shifted("variants", "weight", 10)),
    "weights-without-a-sign": at(variants, mapped("weight", lambda weight: max(0, weight))),
    "variants-backwards": at(flags, backwards("variants")),
    "variants-of-strategies-are-ignored": at(strategies, without("variants")),
    "variants-of-flags-are-ignored": at(flags, without("variants")),
    "overrides-are-ignored": at(variants, without("overrides")),
    "stickiness-of-variants-is-ignored": at(variants, without("stickiness")),
    "payload-is-lost": Fault(outcome=payload_lost),
    # Dependencies.
    "dependencies-are-ignored": at(flags, without("dependencies")),
    "first-dependency-only": at(flags, first_only("dependencies")),
    "parents-are-on": at(dependencies, without("enabled")),
    "variants-of-parents-are-ignored": at(dependencies, without("variants")),
    "missing-parents-are-on": Fault(flag_set=missing_parents_are_on),
    "a-disabled-parent-has-no-variant": at(flags, off_has_no_variant),
}
