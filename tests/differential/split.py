"""Split: flagstore's engine and splitio_client's client over the same sets and contexts.

The reference is ``Client.get_treatment_with_config`` with its own input validation, its evaluation
data and its evaluator. Definitions come from storages that parse them when they are asked for, by
the SDK's own parsers, and take a ValueError or TypeError for a definition that is not there: so
does the SDK's Redis storage, the one that reads what a store holds. Labels are read where the
evaluator returns them.

Excluded, and counted: keys beyond the basic multilingual plane with the legacy hash (the published
files win over the SDK), cycles that the SDK leaves by chance, rule-based segments that it cannot
evaluate (UNSUPPORTED in flagstore), keys that it fails to hash, flags for which it fails on
another malformed definition that does not matter, and malformed flags that only flagstore refuses.
"""

from __future__ import annotations

import copy
import logging
import queue
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from splitio.client.client import Client
from splitio.client.key import Key
from splitio.engine.evaluator import Evaluator
from splitio.models import rule_based_segments, segments, splits
from splitio.models.fallback_config import FallbackTreatmentCalculator
from splitio.models.grammar.matchers.base import Matcher
from splitio.models.grammar.matchers.rule_based_segment import RuleBasedSegmentMatcher
from splitio.storage.inmemmory import InMemorySegmentStorage

from differential.campaign import Fault, Tally, run
from differential.split_cases import FLAGS, KINDS, LARGE, REACHED, WHOLE, made_up
from differential.split_faults import FAULTS
from flagstore.evaluation.base import ABSENT, ContextError, EngineConfig
from flagstore.evaluation.split import UNSUPPORTED_LABEL, engine
from simulators.flag_items import Items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CONTROL = "control"
CONFIG = EngineConfig(now=lambda: 0.0, random=lambda: 0.5)

# -- the SDK ---------------------------------------------------------------------------------------


class Parsed:
    """A storage that parses a definition when it is asked for, as the SDK's Redis storage does."""

    def __init__(self, raw: Mapping[str, Any], parse: Callable[[Any], Any]) -> None:
        self._raw = raw
        self._parse = parse
        self._made: dict[str, Any] = {}

    def fetch_many(self, names: list[str]) -> dict[str, Any]:
        """Return definitions by name, None for what is not there."""
        return {name: self._one(name) for name in names}

    def _one(self, name: str) -> Any:
        if name not in self._made:
            raw = self._raw.get(name)
            try:
                self._made[name] = None if raw is None else self._parse(copy.deepcopy(raw))
            except (ValueError, TypeError):
                self._made[name] = None
        return self._made[name]


class Watched(Evaluator):
    """The SDK's evaluator; remembers its last result."""

    result: Any = None

    def eval_with_context(self, *arguments: Any) -> Any:
        """Evaluate, as ever."""
        try:
            self.result = super().eval_with_context(*arguments)
        except Exception:
            self.result = None
            raise
        return self.result


class Sdk:
    """The SDK's client over a flag set."""

    def __init__(self, sections: dict[str, dict[str, Any]]) -> None:
        self._names = sections["flags"].keys()
        known = InMemorySegmentStorage(queue.Queue())
        for name, segment in sections["segments"].items():
            known.put(segments.Segment(name, segment["keys"], 1))
        stores = {
            "splits": Parsed(sections["flags"], splits.from_raw),
            "segments": known,
            "rule_based_segments": Parsed(
                sections["rule_based_segments"], rule_based_segments.from_raw
            ),
            "events": None,
        }
        ignored = SimpleNamespace(
            record_exception=lambda *_: None, record_treatment_stats=lambda *_: None
        )
        factory = SimpleNamespace(
            _get_storage=stores.get,
            _telemetry_evaluation_producer=ignored,
            _telemetry_init_producer=ignored,
            _waiting_fork=lambda: False,
            ready=True,
            destroyed=False,
        )
        fallback = FallbackTreatmentCalculator(None)
        self._client = Client(factory, ignored, None, True, fallback)
        self._evaluator = self._client._evaluator = Watched(None, fallback)
        self._evaluator._splitter = self._client._splitter

    def evaluate(
        self, name: Any, key: Any, bucketing: Any, attributes: dict[str, Any]
    ) -> tuple[Any, Any, str]:
        """Return treatment, configuration and label, or the reason where there is none."""
        self._evaluator.result = "nothing"
        given = key if bucketing is None else Key(key, bucketing)
        treatment, config = self._client.get_treatment_with_config(given, name, attributes)
        result = self._evaluator.result
        if result == "nothing":
            # It was not asked: the input is invalid, or definitions could not be read.
            return treatment, config, "exception"
        if result is None or result["treatment"] != treatment:
            return treatment, config, "exception"
        label = result["impression"]["label"]
        if label is not None and not isinstance(label, str):
            label = "exception"
        if label == "definition not found" and name.strip() in self._names:
            label = "exception"  # some damage the SDK takes for a definition that is not there
        return treatment, config, label or ""


SEEN: list[tuple[str, str]] = []
"""Matchers that the SDK got to since the last case, with what they looked at."""


DEPTH = SimpleNamespace(now=0, most=0, unsupported=False)
"""How many matchers and exclusions the SDK was within, one in another, since the last case, and
whether it got to a rule-based segment that it cannot evaluate."""
FOREVER = 40
"""More than any flag here leads to: the SDK goes round in circles."""


@contextmanager
def deeper() -> Iterator[None]:
    """Count one more level."""
    DEPTH.now += 1
    DEPTH.most = max(DEPTH.most, DEPTH.now)
    try:
        yield
    finally:
        DEPTH.now -= 1


def watch() -> None:
    """Record the values that the SDK's matchers get."""
    plain = Matcher.evaluate

    def evaluate(self: Any, key: Any, attributes: Any = None, context: Any = None) -> Any:
        with deeper():
            return looked_at(self, key, attributes, context)

    def looked_at(self: Any, key: Any, attributes: Any, context: Any) -> Any:
        if self._matcher_type in WHOLE or self._attribute_name is None:
            kind = "key"
        else:
            value = self._get_matcher_input(key, attributes)
            kind = type(value).__name__
            if kind not in {"str", "int", "float", "bool", "list", "dict", "NoneType"}:
                kind = "other"
        SEEN.append((self._matcher_type, kind))
        return plain(self, key, attributes, context)

    def excludes(self: Any, excluded: Any, *arguments: Any) -> Any:
        DEPTH.unsupported |= any(segment.name == LARGE for segment in excluded)
        with deeper():
            return plain_exclusions(self, excluded, *arguments)

    def matches(self: Any, conditions: Any, *arguments: Any) -> Any:
        DEPTH.unsupported |= any(one.label == UNSUPPORTED_LABEL for one in conditions)
        return plain_conditions(self, conditions, *arguments)

    Matcher.evaluate = evaluate
    plain_conditions = RuleBasedSegmentMatcher._match_conditions
    RuleBasedSegmentMatcher._match_conditions = matches
    plain_exclusions = RuleBasedSegmentMatcher._match_dep_rb_segments
    RuleBasedSegmentMatcher._match_dep_rb_segments = excludes


# -- both ------------------------------------------------------------------------------------------


def exclusion(theirs: tuple[Any, Any, str], hashed: Any) -> str:
    """Return why a case cannot be compared, or an empty string."""
    failed = theirs[2] == "exception"
    if DEPTH.most > FOREVER and not failed:
        # It takes a RecursionError for an invalid version: its result depends on the stack's depth.
        return "recursion cut short"
    if DEPTH.unsupported:
        return "unsupported rule-based segment"
    halves = isinstance(hashed, str) and any("\ud800" <= unit <= "\udfff" for unit in hashed)
    return "key without bytes" if halves and failed else ""


def explained(theirs: Any, mine: Any, damaged: str) -> str:
    """Return the malformed definition that a difference is due to, or an empty string."""
    if damaged and mine[0] == CONTROL and mine[-1] == "exception":
        return f"malformed: {damaged}"
    failed = damaged and theirs[0] == CONTROL and theirs[2] == "exception"
    return "fails on another definition" if failed else ""


def damage(sections: dict[str, dict[str, Any]], name: Any) -> str:
    """Return how a flag, or another definition that it leads to, was broken."""
    pending: list[tuple[str, Any]] = [("flags", name.strip() if isinstance(name, str) else name)]
    seen: list[tuple[str, Any]] = []
    while pending:
        section, key = reference = pending.pop()
        item = sections[section].get(key) if isinstance(key, str) else None
        if reference in seen or item is None:
            continue
        seen.append(reference)
        if "damaged" in item:
            return str(item["damaged"])
        pending += references(item)
    return ""


def references(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield section and name of each definition that is named in a definition."""
    if isinstance(item, dict):
        yield "flags", item.get("n", item.get("split"))
        yield "rule_based_segments", item.get("segmentName", item.get("name"))
    for part in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from references(part)


def outcome_class(treatment: Any, label: str) -> str:
    """Return the name under which a result of the SDK is counted."""
    if label in {"definition not found", "exception"}:
        return "default"
    if label == "default rule":
        return "fallthrough"
    if treatment == CONTROL:
        return f"control, {label}" if label.startswith("targeting") else "control"
    return label if label in {"killed", "not in split", "prerequisites not met"} else "condition"


def ours_of(ours: Any, name: Any, given: dict[str, Any], fault: Fault) -> tuple[Any, Any, str]:
    """Return flagstore's treatment, configuration and label."""
    given = fault.context(given)
    before = dict(given)
    try:
        context = ours.context(given)
    except ContextError:
        return CONTROL, None, "exception"
    assert given.keys() == before.keys()
    outcome = ours.evaluate(name, context)
    again = ours.evaluate(name, context)
    assert again == outcome, "not the same twice"
    outcome = fault.outcome(outcome)
    if outcome.value is ABSENT:
        assert outcome.error
        return CONTROL, outcome.config, outcome.rule
    assert not outcome.error
    return outcome.value, outcome.config, outcome.rule


def names_of(number: int) -> list[Any]:
    """Return the names to evaluate: all flags, and in some contexts names that are invalid."""
    names: list[Any] = [*FLAGS] if number % 3 else [*FLAGS[1:], f" {FLAGS[0]}\t"]
    return names if number else [*names, "f99", "  ", None]


def compare(case: Any, tally: Tally, fault: Fault) -> Iterator[tuple[Any, Any, Any]]:
    """Evaluate each flag of a set for each context, on both sides."""
    for name in REACHED:
        # One that is never reached is to be missed.
        tally.reached[name] += 0
    sections, contexts = case
    flags = sections["flags"]
    sdk, ours = Sdk(sections), engine(Items(**fault.flag_set(copy.deepcopy(sections))), CONFIG)
    legacy = any(flag.get("algo") != 2 for flag in flags.values())
    for number, (key, bucketing, attributes) in enumerate(contexts):
        hashed = key if bucketing is None else bucketing
        if legacy and isinstance(hashed, str) and any(unit > "\uffff" for unit in hashed):
            tally.excluded["legacy hash of an astral key"] += len(FLAGS)
            continue
        given = {"key": key, **attributes}
        if bucketing is not None:
            given["bucketingKey"] = bucketing
        for name in names_of(number):
            DEPTH.most, DEPTH.unsupported = 0, False
            theirs = sdk.evaluate(name, key, bucketing, attributes)
            mine = ours_of(ours, name, given, fault)
            if excluded := exclusion(theirs, hashed):
                tally.excluded[excluded] += 1
                continue
            count(theirs, tally)
            # The SDK has no label where it does not look for a flag.
            compared = 3 if isinstance(name, str) and name.strip() else 2
            theirs, mine = theirs[:compared], mine[:compared]
            if theirs != mine and (reason := explained(theirs, mine, damage(sections, name))):
                tally.excluded[reason] += 1
            else:
                yield (name, given, flags.get(name)), theirs, mine


def count(theirs: tuple[Any, Any, str], tally: Tally) -> None:
    """Count the SDK's result, and the matchers with the types of values that it reached."""
    tally.reached.update(f"{kind}/{what}" for kind, what in SEEN if kind in KINDS)
    SEEN.clear()
    tally.outcomes[outcome_class(theirs[0], theirs[2])] += 1


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    watch()
    run(made_up, compare, FAULTS)
