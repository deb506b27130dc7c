"""Typical bugs of an engine for LaunchDarkly, as changes of its input or its results.

Flag sets are made up with fields of any type, so each step looks whether there is what it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from differential.campaign import Fault, dicts, first_only, without

if TYPE_CHECKING:
    from collections.abc import Callable

    type Json = dict[str, Any]
    type Change = Callable[[Json], object]


def of_flags(change: Change) -> Fault:
    """Change each flag."""

    def flag_set(given: Any) -> Any:
        flags, _ = given
        for flag in flags.values():
            change(flag)
        return given

    return Fault(flag_set=flag_set)


def of_segments(change: Change) -> Fault:
    """Change each segment."""

    def flag_set(given: Any) -> Any:
        _, segments = given
        for segment in segments.values():
            change(segment)
        return given

    return Fault(flag_set=flag_set)


def of_rules(change: Change) -> Fault:
    """Change each rule of flags and segments."""

    def flag_set(given: Any) -> Any:
        for items in given:
            for item in items.values():
                for rule in dicts(item.get("rules")):
                    change(rule)
        return given

    return Fault(flag_set=flag_set)


def of_clauses(change: Change) -> Fault:
    """Change each clause."""

    def of_rule(rule: Json) -> None:
        for clause in dicts(rule.get("clauses")):
            change(clause)

    return of_rules(of_rule)


def of_rollouts(change: Change) -> Fault:
    """Change each rollout of a flag."""

    def of_flag(flag: Json) -> None:
        for place in (flag.get("fallthrough"), *dicts(flag.get("rules"))):
            rollout = place.get("rollout") if isinstance(place, dict) else None
            if isinstance(rollout, dict):
                change(rollout)

    return of_flags(of_flag)


def of_context(change: Change) -> Fault:
    """Change each part of a context."""

    def context(given: Json) -> Json:
        parts = [part for part in given.values() if isinstance(part, dict)]
        for part in parts if given.get("kind") == "multi" else [given]:
            change(part)
        return given

    return Fault(context=context)


def instead(operator: str, other: str) -> Fault:
    """Take an operator for another."""

    def change(clause: Json) -> None:
        if clause.get("op") == operator:
            clause["op"] = other

    return of_clauses(change)


def of_values(operators: str, one: Callable[[Any], Any]) -> Fault:
    """Change each value that some operators compare with."""

    def change(clause: Json) -> None:
        if clause.get("op") in operators.split() and isinstance(clause.get("values"), list):
            clause["values"] = [one(value) for value in clause["values"]]

    return of_clauses(change)


def reversed_order(field: str) -> Change:
    """Look at a list from its end."""

    def change(item: Json) -> None:
        if isinstance(item.get(field), list):
            item[field].reverse()

    return change


def text(change: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Change what is a string."""
    return lambda value: change(value) if isinstance(value, str) else value


def lists(change: Callable[[Any], Any]) -> Fault:
    """Change the lists of a context."""

    def of_part(part: Json) -> None:
        for name, value in part.items():
            if isinstance(value, (list, tuple)):
                part[name] = change(value)

    return of_context(of_part)


def weight_shifted(rollout: Json) -> None:
    """Give the first variation one percent of the second one's."""
    shares = [*dicts(rollout.get("variations"))]
    if len(shares) > 1 and all(isinstance(share.get("weight"), int) for share in shares):
        shares[0]["weight"] += 1_000
        shares[1]["weight"] -= 1_000


def excluded_first(segment: Json) -> None:
    """Let a key that is listed as both be excluded."""
    included, excluded = segment.get("included"), segment.get("excluded")
    if isinstance(included, list) and isinstance(excluded, list):
        segment["included"] = [key for key in included if key not in excluded]


def nested_is_top(clause: Json) -> None:
    """Read the last step of a reference only."""
    name = clause.get("attribute")
    if clause.get("contextKind") and isinstance(name, str) and name.count("/") > 1:
        clause["attribute"] = f"/{name.rpartition('/')[2]}"


def unescaped(clause: Json) -> None:
    """Leave ``~1`` and ``~0`` in references as they are."""
    name = clause.get("attribute")
    if clause.get("contextKind") and isinstance(name, str):
        clause["attribute"] = name.replace("~1", "~01").replace("~0d", "~00d")


def one_kind(given: Json) -> Json:
    """Keep the user of a context of several kinds."""
    if given.get("kind") == "multi" and isinstance(given.get("user"), dict):
        return {**given["user"], "kind": "user"}
    return given


def no_index(outcome: Any) -> Any:
    """Count rules from one."""
    index = outcome.rule_index
    return outcome if index is None else outcome._replace(rule_index=index + 1)


def truth_as_number(value: Any) -> Any:
    """Take true for 1."""
    return int(value) if isinstance(value, bool) else value


FAULTS: dict[str, Fault] = {
    # Operators.
    "less-is-at-most": instead("lessThan", "lessThanOrEqual"),
    "at-most-is-less": instead("lessThanOrEqual", "lessThan"),
    "more-is-at-least": instead("greaterThan", "greaterThanOrEqual"),
    "at-least-is-more": instead("greaterThanOrEqual", "greaterThan"),
    "starts-is-contains": instead("startsWith", "contains"),
    "ends-is-contains": instead("endsWith", "contains"),
    "contains-is-starts": instead("contains", "startsWith"),
    "before-is-after": instead("before", "after"),
    "versions-equal-or-later": instead("semVerGreaterThan", "semVerEqual"),
    "unknown-operator-is-in": instead("unknownOperator", "in"),
    "pattern-is-anchored": of_values("matches", text(lambda pattern: f"^(?:{pattern})")),
    "true-equals-1": of_values("in", truth_as_number),
    "numbers-are-whole": of_values(
        "lessThan lessThanOrEqual greaterThan greaterThanOrEqual",
        lambda value: int(value) if isinstance(value, float) and abs(value) < 1e9 else value,
    ),
    "dates-without-time": of_values("before after", text(lambda date: date[:10] + "T00:00:00Z")),
    "dates-without-zone": of_values(
        "before after", text(lambda date: date.replace("-07:", "+00:"))
    ),
    "pre-releases-are-ignored": of_values(
        "semVerEqual semVerLessThan semVerGreaterThan", text(lambda one: one.partition("-")[0])
    ),
    # Clauses and attributes.
    "negate-is-dropped": of_clauses(without("negate")),
    "kind-of-clauses-is-ignored": of_clauses(without("contextKind")),
    "first-value-only": of_clauses(first_only("values")),
    "first-clause-only": of_rules(first_only("clauses")),
    "first-of-a-list-only": lists(lambda value: value[:1]),
    "list-is-no-value": lists(lambda _: "list"),
    "nested-is-top": of_clauses(nested_is_top),
    "escapes-are-kept": of_clauses(unescaped),
    "one-kind-of-several": Fault(context=one_kind),
    "anonymous-is-lost": of_context(without("anonymous")),
    "missing-is-empty": of_context(lambda part: part.setdefault("text", "")),
    # Flags.
    "targets-are-ignored": of_flags(without("targets")),
    "context-targets-are-ignored": of_flags(without("contextTargets")),
    "last-target-wins": of_flags(reversed_order("targets")),
    "prerequisites-are-ignored": of_flags(without("prerequisites")),
    "first-prerequisite-only": of_flags(first_only("prerequisites")),
    "rules-backwards": of_flags(reversed_order("rules")),
    "off-flags-are-on": of_flags(lambda flag: flag.update(on=True)),
    "no-variation-while-off": of_flags(without("offVariation")),
    "rules-count-from-one": Fault(outcome=no_index),
    "rules-have-no-id": of_rules(without("id")),
    # Rollouts.
    "weight-shifted": of_rollouts(weight_shifted),
    "seed-is-lost": of_rollouts(without("seed")),
    "salt-is-lost": of_flags(lambda flag: flag.update(salt="")),
    "attribute-of-rollouts-is-ignored": of_rollouts(without("bucketBy")),
    "kind-of-rollouts-is-ignored": of_rollouts(without("contextKind")),
    "experiments-are-rollouts": of_rollouts(without("kind")),
    "untracked-counts": of_rollouts(
        lambda rollout: [share.pop("untracked", None) for share in dicts(rollout.get("variations"))]
    ),
    # Segments.
    "excluded-is-ignored": of_segments(without("excluded")),
    "excluded-contexts-are-ignored": of_segments(without("excludedContexts")),
    "included-is-ignored": of_segments(without("included")),
    "included-contexts-are-ignored": of_segments(without("includedContexts")),
    "excluded-first": of_segments(excluded_first),
    "rules-of-segments-are-ignored": of_segments(without("rules")),
    "weight-of-segments-is-ignored": of_segments(
        lambda segment: [rule.pop("weight", None) for rule in dicts(segment.get("rules"))]
    ),
}
