"""LaunchDarkly: the official SDK's client and flagstore's engine over the same sets and contexts.

The reference is the client over its in-memory store. Damaged flags, unbounded segments and integer
keys are not compared: their results differ on purpose, and have unit tests.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

from ldclient import Config, Context, LDClient
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.impl import evaluator, evaluator_common, operators
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from differential.campaign import (
    Fault,
    Tally,
    at,
    backwards,
    dicts,
    first_only,
    inside,
    mapped,
    only,
    put,
    run,
    shifted,
    texts,
    without,
)
from differential.launchdarkly_sets import make
from flagstore.evaluation.base import ABSENT, ContextError, EngineConfig, Evaluation
from flagstore.evaluation.launchdarkly import engine
from simulators.flag_items import Items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from differential.campaign import Change, Json

DEFAULT = "the caller's default"
JSON_TYPES = {str, bool, int, float, list, tuple, dict, type(None)}
STORE = InMemoryFeatureStore()
CLIENT = LDClient(Config("sdk-key", feature_store=STORE, use_ldd=True, send_events=False))
REACHED: Counter[str] = Counter()
"""Operators that the SDK got to, with the types of values, since the last case."""


def watch() -> None:
    """Record which operators the SDK's evaluator gets to with which types of values."""
    match = evaluator_common._match_single_context_value
    segment_matches = evaluator.Evaluator._segment_matches_context

    def watched(clause: Any, value: Any) -> bool:
        if clause.values:
            name = clause.op if operators.ops.get(clause.op) else "unknown"
            kind = type(value).__name__ if type(value) in JSON_TYPES else "other"
            REACHED[f"{name}/{kind}"] += 1
        return match(clause, value)

    def watched_segment(self: Any, *arguments: Any) -> bool:
        REACHED["segmentMatch/segment"] += 1
        return segment_matches(self, *arguments)

    evaluator_common._match_single_context_value = watched
    evaluator._match_single_context_value = watched
    evaluator.Evaluator._segment_matches_context = watched_segment


def theirs(key: str, given: dict[str, Any]) -> tuple[Any, ...]:
    """Return the SDK's value, variation and reason."""
    named = given if given.get("kind") is not None else {**given, "kind": "user"}
    context = Context.from_dict(named)
    detail = CLIENT.variation_detail(key, context, DEFAULT)
    reason = dict(detail.reason)
    if reason["kind"] == "RULE_MATCH":
        reason["ruleId"] = reason["ruleId"] or ""
    return repr(detail.value), detail.variation_index, reason


def in_sdk_terms(outcome: Evaluation) -> tuple[Any, ...]:
    """Return a result of flagstore in the SDK's terms."""
    reason: dict[str, Any] = {"kind": outcome.reason}
    if outcome.reason == "RULE_MATCH":
        reason |= {"ruleIndex": outcome.rule_index, "ruleId": outcome.rule}
    elif outcome.reason == "PREREQUISITE_FAILED":
        reason["prerequisiteKey"] = outcome.rule
    elif outcome.reason == "ERROR":
        reason["errorKind"] = outcome.error
    if outcome.in_experiment:
        reason["inExperiment"] = True
    value = DEFAULT if outcome.value is ABSENT else outcome.value
    return repr(value), outcome.variant, reason


def evaluate(ours: Any, key: str, given: dict[str, Any], fault: Fault) -> tuple[Any, ...]:
    """Return flagstore's result."""
    try:
        context = ours.context(fault.context(copy.deepcopy(given)))
    except ContextError:
        return in_sdk_terms(Evaluation(error="USER_NOT_SPECIFIED"))
    return in_sdk_terms(fault.outcome(ours.evaluate(key, context)))


def name_of(response: tuple[Any, ...]) -> str:
    """Return the name under which a result of the SDK is counted."""
    value, _, reason = response
    kind: str = reason["kind"]
    if kind == "OFF" and value == repr(DEFAULT):
        return "default"
    if kind == "FALLTHROUGH":
        return "fallthrough"
    return f"{kind}/{reason['errorKind']}" if kind == "ERROR" else kind


def compare(case: Any, tally: Tally, fault: Fault) -> Iterator[tuple[Any, Any, Any]]:
    """Evaluate all flags of a set for all contexts on both sides."""
    flags, segments, contexts = case
    decoded = {FEATURES: flags, SEGMENTS: segments}
    STORE.init({kind: {k: kind.decode(v) for k, v in decoded[kind].items()} for kind in decoded})
    faulty_flags, faulty_segments = fault.flag_set(copy.deepcopy((flags, segments)))
    items = Items(flags=faulty_flags, segments=faulty_segments)
    ours = engine(items, EngineConfig(now=float, random=float))
    for given in contexts:
        before = repr(given)
        for key in [*flags, "gone"]:
            REACHED.clear()
            expected = theirs(key, given)
            tally.reached.update(REACHED)
            tally.outcomes[name_of(expected)] += 1
            yield (key, given, flags.get(key)), expected, evaluate(ours, key, given, fault)
        assert repr(given) == before, "the caller's context was changed"


# -- faults ----------------------------------------------------------------------------------------


def flags(sets: Any) -> Iterable[Json]:
    """Return all flags."""
    return sets[0].values()


def segments(sets: Any) -> Iterable[Json]:
    """Return all segments."""
    return sets[1].values()


def rules(sets: Any) -> Iterable[Json]:
    """Return the rules of flags and segments."""
    return [*inside(flags, "rules")(sets), *inside(segments, "rules")(sets)]


def rollouts(sets: Any) -> Iterable[Json]:
    """Return the rollouts of flags."""
    places = inside(flags, "fallthrough")(sets), inside(flags, "rules")(sets)
    return inside(lambda _: chain(*places), "rollout")(sets)


clauses, shares = inside(rules, "clauses"), inside(rollouts, "variations")


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
    "weight-of-segments-is-ignored": at(inside(segments, "rules"), without("weight")),
}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    watch()
    run(make, compare, FAULTS)
