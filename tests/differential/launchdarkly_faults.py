"""Typical bugs of an engine for LaunchDarkly, as changes of its input or its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from differential.campaign import (
    Fault,
    at,
    backwards,
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

    from differential.campaign import Change, Json


def flags(sets: Any) -> Iterator[Json]:
    """Yield each flag."""
    yield from sets[0].values()


def segments(sets: Any) -> Iterator[Json]:
    """Yield each segment."""
    yield from sets[1].values()


def rules(sets: Any) -> Iterator[Json]:
    """Yield each rule of flags and segments."""
    for item in (*flags(sets), *segments(sets)):
        yield from dicts(item.get("rules"))


def clauses(sets: Any) -> Iterator[Json]:
    """Yield each clause."""
    for rule in rules(sets):
        yield from dicts(rule.get("clauses"))


def rollouts(sets: Any) -> Iterator[Json]:
    """Yield each rollout of a flag."""
    for flag in flags(sets):
        for place in (*dicts([flag.get("fallthrough")]), *dicts(flag.get("rules"))):
            yield from dicts([place.get("rollout")])


def shares(sets: Any) -> Iterator[Json]:
    """Yield each share of a rollout."""
    for rollout in rollouts(sets):
        yield from dicts(rollout.get("variations"))


def of_context(change: Change) -> Fault:
    """Change each part of a context."""

    def context(given: Json) -> Json:
        for part in dicts([*given.values()]) if given.get("kind") == "multi" else [given]:
            change(part)
        return given

    return Fault(context=context)


def instead(operator: str, other: str) -> Fault:
    """Take an operator for another."""
    return at(clauses, only("op", operator, put(op=other)))


def of_values(operators: str, change: Callable[[Any], Any]) -> Fault:
    """Change the values that some operators compare with."""
    return at(clauses, only("op", operators, mapped("values", change, list)))


def of_references(change: Callable[[str], str]) -> Fault:
    """Change the references of clauses."""
    return at(
        clauses,
        lambda clause: clause.get("contextKind") and mapped("attribute", change, str)(clause),
    )


FAULTS: dict[str, Fault] = {
    # Operators.
    "at-most-is-less": instead("lessThanOrEqual", "lessThan"),
    "at-least-is-more": instead("greaterThanOrEqual", "greaterThan"),
    "starts-is-contains": instead("startsWith", "contains"),
    "before-is-after": instead("before", "after"),
    "versions-equal-or-later": instead("semVerGreaterThan", "semVerEqual"),
    "unknown-operator-is-in": instead("unknownOperator", "in"),
    "pattern-is-anchored": of_values("matches", texts(lambda pattern: f"^(?:{pattern})")),
    "true-equals-1": of_values(
        "in", lambda values: [int(one) if isinstance(one, bool) else one for one in values]
    ),
    "dates-without-zone": of_values(
        "before after", texts(lambda date: date.replace("-07:", "+00:"))
    ),
    # Clauses and attributes.
    "negate-is-dropped": at(clauses, without("negate")),
    "kind-of-clauses-is-ignored": at(clauses, without("contextKind")),
    "first-value-only": at(clauses, first_only("values")),
    "first-of-a-list-only": of_context(
        lambda part: part.update({k: v[:1] for k, v in part.items() if isinstance(v, list | tuple)})
    ),
    "nested-is-top": of_references(
        lambda name: f"/{name.rpartition('/')[2]}" if name.count("/") > 1 else name
    ),
    "escapes-are-kept": of_references(
        lambda name: name.replace("~1", "~01").replace("~0d", "~00d")
    ),
    # Flags.
    "context-targets-are-ignored": at(flags, without("contextTargets")),
    "last-target-wins": at(flags, backwards("targets")),
    "first-prerequisite-only": at(flags, first_only("prerequisites")),
    "rules-backwards": at(flags, backwards("rules")),
    "off-flags-are-on": at(flags, put(on=True)),
    "rules-have-no-id": at(rules, without("id")),
    # Rollouts.
    "weight-shifted": at(rollouts, shifted("variations", "weight", 1_000)),
    "seed-is-lost": at(rollouts, without("seed")),
    "attribute-of-rollouts-is-ignored": at(rollouts, without("bucketBy")),
    "experiments-are-rollouts": at(rollouts, without("kind")),
    "untracked-counts": at(shares, without("untracked")),
    # Segments.
    "excluded-is-ignored": at(segments, without("excluded")),
    "rules-of-segments-are-ignored": at(segments, without("rules")),
    "weight-of-segments-is-ignored": at(
        lambda sets: [rule for one in segments(sets) for rule in dicts(one.get("rules"))],
        without("weight"),
    ),
}
