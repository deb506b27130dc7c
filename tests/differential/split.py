"""Split: splitio_client's client and flagstore's engine over the same sets and contexts.

The reference is ``Client.get_treatment_with_config`` with its own input validation. Cycles, large
segments, damaged flags, keys that cannot be hashed, and the legacy hash of keys beyond the basic
multilingual plane are not compared: their results differ on purpose, and have unit tests.
"""

from __future__ import annotations

import copy
import logging
import queue
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from splitio.client.client import Client
from splitio.client.key import Key
from splitio.models import rule_based_segments, segments, splits
from splitio.models.fallback_config import FallbackTreatmentCalculator
from splitio.models.grammar.matchers.base import Matcher
from splitio.storage.inmemmory import InMemorySegmentStorage

from differential.campaign import (
    Fault,
    Tally,
    at,
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
from differential.split_cases import FLAGS, KINDS, REACHED, WHOLE, made_up
from flagstore.evaluation.base import ABSENT, ContextError, EngineConfig
from flagstore.evaluation.split import engine
from simulators.flag_items import Items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from differential.campaign import Json, Places

CONTROL = "control"
CONFIG = EngineConfig(now=lambda: 0.0, random=lambda: 0.5)
SEEN: list[tuple[str, str]] = []
"""Matchers that the SDK got to since the last case, with the types of what they looked at."""


def parsed(raw: dict[str, Any], parse: Callable[[Any], Any]) -> Any:
    """Return a storage of the SDK's over some definitions."""
    made = {name: parse(copy.deepcopy(one)) for name, one in raw.items()}
    return SimpleNamespace(fetch_many=lambda names: {name: made.get(name) for name in names})


class Sdk:
    """The SDK's client over a flag set."""

    def __init__(self, sections: dict[str, dict[str, Any]]) -> None:
        known = InMemorySegmentStorage(queue.Queue())
        for name, segment in sections["segments"].items():
            known.put(segments.Segment(name, segment["keys"], 1))
        stores = {
            "splits": parsed(sections["flags"], splits.from_raw),
            "segments": known,
            "rule_based_segments": parsed(
                sections["rule_based_segments"], rule_based_segments.from_raw
            ),
        }
        factory = SimpleNamespace(
            _get_storage=stores.get,
            _telemetry_evaluation_producer=SimpleNamespace(record_exception=lambda *_: None),
            _telemetry_init_producer=None,
            _waiting_fork=lambda: False,
            ready=True,
            destroyed=False,
        )
        recorder = SimpleNamespace(record_treatment_stats=self._record)
        self._client = Client(factory, recorder, None, True, FallbackTreatmentCalculator(None))

    def _record(self, impressions: list[Any], *_: Any) -> None:
        self._label = impressions[0][0].Impression.label or ""

    def evaluate(
        self, name: str, key: Any, bucketing: Any, attributes: dict[str, Any]
    ) -> tuple[Any, Any, str | None]:
        """Return treatment, configuration and label; no label if it looked for no flag."""
        given = key if bucketing is None else Key(key, bucketing)
        self._label: str | None = None
        return *self._client.get_treatment_with_config(given, name, attributes), self._label


def watch() -> None:
    """Record the values that the SDK's matchers get."""
    plain = Matcher.evaluate

    def evaluate(self: Any, key: Any, attributes: Any = None, context: Any = None) -> Any:
        kind = "key"
        if self._matcher_type not in WHOLE and self._attribute_name is not None:
            kind = type(self._get_matcher_input(key, attributes)).__name__
            if kind not in {"str", "int", "float", "bool", "list", "dict", "NoneType"}:
                kind = "other"
        SEEN.append((self._matcher_type, kind))
        return plain(self, key, attributes, context)

    Matcher.evaluate = evaluate


def outcome_class(treatment: Any, label: str | None) -> str:
    """Return the name under which a result of the SDK is counted."""
    if label is None or label == "exception":
        return "default"
    if label == "default rule":
        return "fallthrough"
    if treatment == CONTROL:
        return "control"
    return label if label in {"killed", "not in split", "prerequisites not met"} else "condition"


def ours_of(ours: Any, name: str, given: dict[str, Any], fault: Fault) -> tuple[Any, Any, str]:
    """Return flagstore's treatment, configuration and label."""
    given = fault.context(given)
    before = dict(given)
    try:
        context = ours.context(given)
    except ContextError:
        return CONTROL, None, "exception"
    assert given.keys() == before.keys()
    outcome = ours.evaluate(name, context)
    assert ours.evaluate(name, context) == outcome, "not the same twice"
    outcome = fault.outcome(outcome)
    assert (outcome.value is ABSENT) is bool(outcome.error)
    return CONTROL if outcome.error else outcome.value, outcome.config, outcome.rule


def compare(case: Any, tally: Tally, fault: Fault) -> Iterator[tuple[Any, Any, Any]]:
    """Evaluate each flag of a set for each context, on both sides."""
    for name in REACHED:
        # One that is never reached is to be missed.
        tally.reached[name] += 0
    sections, contexts = case
    sdk, ours = Sdk(sections), engine(Items(**fault.flag_set(copy.deepcopy(sections))), CONFIG)
    for key, bucketing, attributes in contexts:
        given = {"key": key, **attributes}
        if bucketing is not None:
            given["bucketingKey"] = bucketing
        for name in (*FLAGS, f" {FLAGS[0]}\t", "f99"):
            SEEN.clear()
            theirs = sdk.evaluate(name, key, bucketing, attributes)
            tally.reached.update(f"{kind}/{what}" for kind, what in SEEN if kind in KINDS)
            tally.outcomes[outcome_class(theirs[0], theirs[2])] += 1
            mine = ours_of(ours, name, given, fault)
            compared = 2 if theirs[2] is None else 3
            yield (name, given, sections["flags"].get(name)), theirs[:compared], mine[:compared]


# -- faults ----------------------------------------------------------------------------------------


def section(name: str) -> Places:
    """Return the objects of a section of a flag set."""
    return lambda sections: sections[name].values()


flags, known_segments = section("flags"), section("segments")
exclusions = inside(section("rule_based_segments"), "excluded")
conditions = inside(flags, "conditions")
groups = inside(conditions, "matcherGroup")
matchers = inside(groups, "matchers")


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
    "members-are-ignored": at(known_segments, put(keys=[])),
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


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    watch()
    run(made_up, compare, FAULTS)
