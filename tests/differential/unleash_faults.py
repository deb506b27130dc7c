"""Common mistakes in an engine for Unleash, planted in the input or result of ours.

A few flags are made up damaged, so each step looks whether there is what it changes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from differential.campaign import Fault, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    type Json = dict[str, Any]
    type Change = Callable[[Json], object]

NUMBERS = ("NUM_EQ", "NUM_GT", "NUM_GTE", "NUM_LT", "NUM_LTE")
DATES = ("DATE_AFTER", "DATE_BEFORE")
VERSIONS = ("SEMVER_EQ", "SEMVER_GT", "SEMVER_GTE", "SEMVER_LT", "SEMVER_LTE")


def of_flags(change: Change) -> Fault:
    """Change each flag."""

    def flag_set(made: Any) -> Any:
        for flag in made.flags.values():
            change(flag)
        return made

    return Fault(flag_set=flag_set)


def of_each(field: str, change: Change) -> Fault:
    """Change each strategy, variant or dependency of a flag itself."""

    def of_flag(flag: Json) -> None:
        for one in flag.get(field, ()):
            change(one)

    return of_flags(of_flag)


def of_strategies(change: Change) -> Fault:
    """Change each strategy."""
    return of_each("strategies", change)


def of_parameters(change: Change) -> Fault:
    """Change the parameters of each strategy."""
    return of_strategies(lambda strategy: change(strategy.get("parameters", {})))


def constraints(made: Any) -> Iterator[Json]:
    """Yield every constraint, of strategies and of segments."""
    for segment in made.segments.values():
        yield from segment["constraints"]
    for flag in made.flags.values():
        for strategy in flag["strategies"]:
            yield from strategy.get("constraints", ())


def of_constraints(change: Change) -> Fault:
    """Change each constraint."""

    def flag_set(made: Any) -> Any:
        for constraint in constraints(made):
            change(constraint)
        return made

    return Fault(flag_set=flag_set)


def instead(operator: str, other: str) -> Fault:
    """Replace an operator by another."""

    def change(constraint: Json) -> None:
        if constraint["operator"] == operator:
            constraint["operator"] = other

    return of_constraints(change)


def of_values(operators: tuple[str, ...], change: Callable[[str], str]) -> Fault:
    """Change each value that some operators compare with."""

    def of_constraint(constraint: Json) -> None:
        if constraint["operator"] in operators:
            if "value" in constraint:
                constraint["value"] = change(constraint["value"])
            if "values" in constraint:
                constraint["values"] = [change(value) for value in constraint["values"]]

    return of_constraints(of_constraint)


def of_contexts(change: Callable[[Any], Any]) -> Fault:
    """Change each field and property of a context."""

    def context(given: Json) -> Json:
        changed = {name: change(value) for name, value in given.items() if name != "properties"}
        if isinstance(given.get("properties"), dict):
            properties = given["properties"].items()
            changed["properties"] = {name: change(value) for name, value in properties}
        return changed

    return Fault(context=context)


def first_only(field: str) -> Change:
    """Keep only the first of a list."""

    def change(item: Json) -> None:
        if field in item:
            item[field] = item[field][:1]

    return change


def with_text(field: str, change: Callable[[str], str]) -> Change:
    """Change a string if it is there."""

    def of_item(item: Json) -> None:
        if field in item:
            item[field] = change(item[field])

    return of_item


def default_is_session(parameters: Json) -> None:
    """Stick to the session by default."""
    if parameters.get("stickiness") == "default":
        parameters["stickiness"] = "sessionId"


def one_percent_more(parameters: Json) -> None:
    """Add one percent to rollouts."""
    for name in ("rollout", "percentage"):
        if re.fullmatch(r"\d{1,2}", parameters.get(name, "")):
            parameters[name] = str(int(parameters[name]) + 1)


def at_most_all(parameters: Json) -> None:
    """Treat more than a hundred percent as all."""
    for name in ("rollout", "percentage"):
        if re.fullmatch(r"\d{3,}", parameters.get(name, "")):
            parameters[name] = "100"


def weight_shifted(item: Json) -> None:
    """Give the first variant one percent of the second one's."""
    variants = item.get("variants", ())
    if len(variants) > 1 and "weight" in variants[0]:
        variants[0]["weight"] += 10
        variants[1]["weight"] -= 10


def only_positive(item: Json) -> None:
    """Treat weights below zero as zero."""
    for variant in item.get("variants", ()):
        variant["weight"] = max(0, variant["weight"])


def reversed_variants(flag: Json) -> None:
    """Reverse the variants."""
    if "variants" in flag:
        flag["variants"].reverse()


def missing_segments_are_empty(made: Any) -> Any:
    """Skip missing segments."""
    for flag in made.flags.values():
        for strategy in flag["strategies"]:
            listed = strategy.get("segments", ())
            strategy["segments"] = [one for one in listed if str(one) in made.segments]
    return made


def missing_parents_are_on(made: Any) -> Any:
    """Skip missing parents."""
    for flag in made.flags.values():
        listed = flag.get("dependencies", ())
        flag["dependencies"] = [one for one in listed if one["feature"] in made.flags]
    return made


def no_environment(made: Any) -> Any:
    """Remove the environment of a flag set."""
    return made._replace(meta={})


def off_has_no_variant(flag: Json) -> None:
    """Choose no variant for a flag that is off."""
    for item in () if flag["enabled"] else (flag, *flag["strategies"]):
        item.pop("variants", None)


def none_is_off(flag: Json) -> None:
    """Treat a flag without strategies as off."""
    if not flag["strategies"]:
        flag["enabled"] = False


def unknown_is_default(strategy: Json) -> None:
    """Treat an unknown strategy as the default one."""
    if strategy["name"] == "unknown-custom":
        strategy["name"] = "default"


def no_values(constraint: Json) -> None:
    """Match nothing with an empty list."""
    if constraint.get("values") == []:
        constraint["values"] = ["\x00"]


def properties_first(given: Json) -> Json:
    """Prefer properties to fields."""
    properties = given.get("properties")
    return {**given, **properties} if isinstance(properties, dict) else given


def no_empty_texts(given: Json) -> Json:
    """Treat empty strings as missing."""
    return {name: value for name, value in given.items() if value != ""}


def payload_lost(outcome: Any) -> Any:
    """Drop the payload."""
    return outcome._replace(config=None) if outcome.variant else outcome


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
    "inverted-is-ignored": of_constraints(without("inverted")),
    "case-counts-always": of_constraints(without("caseInsensitive")),
    "case-never-counts": of_constraints(lambda one: one.update(caseInsensitive=True)),
    "first-value-only": of_constraints(first_only("values")),
    "no-values-are-no-fault": of_constraints(no_values),
    "texts-are-trimmed": of_values(("IN", "NOT_IN", "STR_CONTAINS"), str.strip),
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
    "networks-are-addresses": of_values(("IN_CIDR",), lambda text: text.partition("/")[0]),
    "patterns-are-anchored": of_values(("REGEX",), lambda text: f"^(?:{text})$"),
    "patterns-know-no-case": of_values(("REGEX",), lambda text: f"(?i){text}"),
    "classes-are-ascii": of_values(("REGEX",), lambda text: text.replace("\\w", "[A-Za-z0-9_]")),
    "ends-are-lines": of_values(("REGEX",), lambda text: f"(?m){text}"),
    # Contexts.
    "truths-as-json-has-them": of_contexts(
        lambda value: str(value).lower() if isinstance(value, bool) else value
    ),
    "numbers-as-integers": of_contexts(
        lambda value: int(value) if isinstance(value, float) and abs(value) < 99 else value
    ),
    "fields-are-trimmed": of_contexts(
        lambda value: value.strip() if isinstance(value, str) else value
    ),
    "fields-are-lowered": of_contexts(
        lambda value: value.lower() if isinstance(value, str) else value
    ),
    "fields-are-normalised": of_contexts(
        lambda value: value.replace("\u0301", "") if isinstance(value, str) else value
    ),
    "properties-before-fields": Fault(context=properties_first),
    "an-empty-text-is-none": Fault(context=no_empty_texts),
    "no-properties": Fault(context=lambda given: {**given, "properties": {}}),
    "no-address": Fault(
        context=lambda given: {k: v for k, v in given.items() if k != "remoteAddress"}
    ),
    "no-environment": Fault(flag_set=no_environment),
    # Strategies.
    "first-strategy-only": of_flags(first_only("strategies")),
    "no-strategy-is-off": of_flags(none_is_off),
    "unknown-strategies-are-default": of_strategies(unknown_is_default),
    "constraints-are-ignored": of_strategies(without("constraints")),
    "first-constraint-only": of_strategies(first_only("constraints")),
    "segments-are-ignored": of_strategies(without("segments")),
    "first-segment-only": of_strategies(first_only("segments")),
    "missing-segments-are-empty": Fault(flag_set=missing_segments_are_empty),
    "rollout-one-percent-too-large": of_parameters(one_percent_more),
    "more-than-all-is-all": of_parameters(at_most_all),
    "stickiness-is-default": of_parameters(without("stickiness")),
    "default-stickiness-by-the-session": of_parameters(default_is_session),
    "group-is-the-flag": of_parameters(without("groupId")),
    "first-user-only": of_parameters(with_text("userIds", lambda ids: ids.partition(",")[0])),
    "users-as-they-stand": of_parameters(with_text("userIds", lambda ids: ids.replace(" ", "_"))),
    "first-network-only": of_parameters(with_text("IPs", lambda ips: ips.partition(",")[0])),
    "disabled-is-enabled": of_flags(lambda flag: flag.update(enabled=True)),
    # Variants.
    "weight-shifted": of_flags(weight_shifted),
    "weight-of-strategies-shifted": of_strategies(weight_shifted),
    "weights-without-a-sign": of_flags(only_positive),
    "variants-backwards": of_flags(reversed_variants),
    "variants-of-strategies-are-ignored": of_strategies(without("variants")),
    "variants-of-flags-are-ignored": of_flags(without("variants")),
    "overrides-are-ignored": of_each("variants", without("overrides")),
    "stickiness-of-variants-is-ignored": of_each("variants", without("stickiness")),
    "payload-is-lost": Fault(outcome=payload_lost),
    # Dependencies.
    "dependencies-are-ignored": of_flags(without("dependencies")),
    "first-dependency-only": of_flags(first_only("dependencies")),
    "parents-are-on": of_each("dependencies", without("enabled")),
    "variants-of-parents-are-ignored": of_each("dependencies", without("variants")),
    "missing-parents-are-on": Fault(flag_set=missing_parents_are_on),
    "a-disabled-parent-has-no-variant": of_flags(off_has_no_variant),
}
