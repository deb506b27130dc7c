"""LaunchDarkly: the official SDK's client and our engine over the same sets and contexts.

Both sides get the same JSON. The reference is the client over its in-memory store, except that an
item that the SDK cannot decode is refused when it is read, as in its persistent stores, not with
the whole set. Its EXCEPTION counts as MALFORMED_FLAG then. Excluded, and counted: unbounded
segments, and malformed flags that only flagstore refuses.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from ldclient import Config, Context, LDClient
from ldclient import context as ldcontext
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.impl import evaluator, evaluator_common, operators
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from differential.campaign import NONE, Fault, Tally, run
from differential.launchdarkly_faults import FAULTS
from differential.launchdarkly_sets import make
from flagstore.evaluation.base import ABSENT, ContextError, EngineConfig, Evaluation
from flagstore.evaluation.launchdarkly import LaunchDarklyEngine, engine
from simulators.flag_items import Items

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = "the caller's default"
JSON_TYPES = {str, bool, int, float, list, tuple, dict, type(None)}


class RefusedError(Exception):
    """Raised where the SDK gets to an item that it cannot decode."""


class Store(InMemoryFeatureStore):
    """The SDK's store, which raises for an item that cannot be decoded when it is read."""

    def fill(self, flags: dict[str, Any], segments: dict[str, Any]) -> None:
        """Load a flag set."""
        self.refused: set[Any] = set()
        self.met_refused = False
        decoded: dict[Any, dict[str, Any]] = {}
        for kind, items in ((FEATURES, flags), (SEGMENTS, segments)):
            decoded[kind] = {}
            for key, item in items.items():
                try:
                    decoded[kind][key] = kind.decode(item)
                except Exception:  # noqa: BLE001 - of any type
                    self.refused.add((kind.namespace, key))
        self.init(decoded)

    def get(self, kind: Any, key: str, callback: Any = lambda item: item) -> Any:
        """Return an item, or raise for one that was refused."""
        if (kind.namespace, key) in self.refused:
            self.met_refused = True
            raise RefusedError(key)
        return super().get(kind, key, callback)


STORE = Store()
CLIENT = LDClient(Config("sdk-key", feature_store=STORE, use_ldd=True, send_events=False))
REACHED: Counter[str] = Counter()
"""Operators that the SDK got to, with the types of values, since the last case."""
UNBOUNDED = "segmentMatch/unbounded"


def watch() -> None:
    """Record which operators the SDK's evaluator gets to with which types of values."""
    match = evaluator_common._match_single_context_value
    big = evaluator.Evaluator._big_segment_match_context
    simple = evaluator.Evaluator._segment_matches_context

    def watched(clause: Any, value: Any) -> bool:
        if clause.values:
            name = clause.op if operators.ops.get(clause.op) else "unknown"
            kind = type(value).__name__ if type(value) in JSON_TYPES else "other"
            REACHED[f"{name}/{kind}"] += 1
        return match(clause, value)

    def watched_segment(self: Any, *arguments: Any) -> bool:
        REACHED["segmentMatch/segment"] += 1
        return simple(self, *arguments)

    def watched_big(self: Any, *arguments: Any) -> bool:
        REACHED[UNBOUNDED] += 1
        return big(self, *arguments)

    # The builder takes an integer for a key, and fails over it where the kind is not ``user``.
    escape = ldcontext._escape_key_for_fully_qualified_key
    ldcontext._escape_key_for_fully_qualified_key = lambda key: escape(str(key))
    evaluator_common._match_single_context_value = watched
    evaluator._match_single_context_value = watched
    evaluator.Evaluator._segment_matches_context = watched_segment
    evaluator.Evaluator._big_segment_match_context = watched_big


def over(flags: dict[str, Any], segments: dict[str, Any]) -> LaunchDarklyEngine:
    """Return our engine over the same flag set."""
    return engine(Items(flags=flags, segments=segments), EngineConfig(now=float, random=float))


def official(given: dict[str, Any]) -> Context:
    """Return the SDK's context: from a dictionary, but for keys that only its builder takes."""
    made = given if given.get("kind") is not None else {**given, "kind": "user"}
    several = made["kind"] == "multi"
    parts = {name: part for name, part in made.items() if name != "kind"} if several else {"": made}
    whole = {
        name: part
        for name, part in parts.items()
        if isinstance(part, dict)
        and isinstance(part.get("key"), int)
        and not isinstance(part["key"], bool)
    }
    # A part's own kind, where it has one, overrides the name that it has.
    numbers = {str(part.get("kind") or name): part["key"] for name, part in whole.items()}
    stand_ins = {name: {**part, "key": "a"} for name, part in whole.items()}
    context = Context.from_dict({**made, **stand_ins} if several else stand_ins.get("", made))
    if not numbers or not context.valid:
        return context
    return Context.create_multi(
        *(
            Context.builder_from_context(one).key(numbers[one.kind]).build()
            if one.kind in numbers
            else one
            for index in range(context.individual_context_count)
            if (one := context.get_individual_context(index)) is not None
        )
    )


def theirs(key: str, context: Context) -> tuple[Any, ...]:
    """Return the SDK's result, with MALFORMED_FLAG where it could not decode an item."""
    STORE.met_refused = False
    detail = CLIENT.variation_detail(key, context, DEFAULT)
    reason = dict(detail.reason)
    if STORE.met_refused:
        reason = {"kind": "ERROR", "errorKind": "MALFORMED_FLAG"}
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


def evaluate(ours: Any, key: str, given: dict[str, Any], fault: Fault = NONE) -> tuple[Any, ...]:
    """Return flagstore's result."""
    try:
        context = ours.context(given if fault is NONE else fault.context(copy.deepcopy(given)))
    except ContextError:
        return repr(DEFAULT), None, {"kind": "ERROR", "errorKind": "USER_NOT_SPECIFIED"}
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


def objects(item: Any) -> Iterator[dict[str, Any]]:
    """Yield each object in provider JSON."""
    if isinstance(item, dict):
        yield item
        item = [*item.values()]
    for one in item if isinstance(item, list) else ():
        yield from objects(one)


def damage(key: str, flags: dict[str, Any], segments: dict[str, Any]) -> str:
    """Return the damage to a flag, or to one that it leads to, that only flagstore refuses."""
    pending, seen = [(False, key)], set()
    while pending:
        is_segment, name = reference = pending.pop()
        if reference in seen:
            continue
        seen.add(reference)
        for each in objects((segments if is_segment else flags).get(name)):
            weight, operator = each.get("weight"), str(each.get("op"))
            if isinstance(weight, int) and not 0 <= weight <= 100_000:
                return "a weight outside 0 to 100,000"
            values = each["values"] if isinstance(each.get("values"), list) else []
            if operator.startswith(("less", "greater")) and any(
                isinstance(one, int) and abs(one) > sys.float_info.max for one in values
            ):
                return "a number beyond all floats"
            pending += [(False, each["key"])] if isinstance(each.get("key"), str) else []
            if operator == "segmentMatch":
                pending += [(True, one) for one in values if isinstance(one, str)]
    return ""


def compare(case: Any, tally: Tally, fault: Fault) -> Iterator[tuple[Any, Any, Any]]:
    """Evaluate all flags of a set for all contexts on both sides."""
    flags, segments, contexts = case
    STORE.fill(flags, segments)
    faulty = fault.flag_set(copy.deepcopy((flags, segments)))
    ours = over(*faulty)
    for given in contexts:
        context = official(given)
        before = repr(given)
        for key in flags if contexts.index(given) else [*flags, "gone"]:
            REACHED.clear()
            expected = theirs(key, context)
            if REACHED.pop(UNBOUNDED, 0):  # UNSUPPORTED in flagstore
                tally.excluded["unbounded segment"] += 1
                continue
            tally.reached.update(REACHED)
            tally.outcomes[name_of(expected)] += 1
            response = evaluate(ours, key, given, fault)
            if response != expected and response[2].get("errorKind") == "MALFORMED_FLAG":
                found = damage(key, *faulty)
                if found:
                    tally.excluded[f"malformed: {found}"] += 1
                    continue
            yield (key, given, flags.get(key)), expected, response
        assert repr(given) == before, "the caller's context was changed"


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    watch()
    run(make, compare, FAULTS)
