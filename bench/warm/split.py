"""``detail`` beside ``get_treatment_with_config`` of Split's SDK over its storages in memory.

The SDK's client makes up what it needs for each call, so ours is given the context each time too.
What the SDK records of each call, impressions and times, is thrown away at once. Beside its client
stands its bare evaluator, which no user calls: without the checks of the input, and handed data
that it would fetch.
"""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any

from splitio.client.client import Client
from splitio.engine.evaluator import EvaluationDataFactory
from splitio.models import segments, splits
from splitio.models.fallback_config import FallbackTreatmentCalculator
from splitio.storage.inmemmory import (
    InMemoryRuleBasedSegmentStorage,
    InMemorySegmentStorage,
    InMemorySplitStorage,
)

from bench.warm.pairs import Ours, compare

HALF = [{"treatment": "on", "size": 50}, {"treatment": "off", "size": 50}]
ON = [{"treatment": "on", "size": 100}]
EVERYBODY = {"matcherType": "ALL_KEYS", "negate": False}


def condition(*matchers: dict[str, Any], partitions: Any = ON, label: str = "r") -> dict[str, Any]:
    """Return a condition."""
    group = {"combiner": "AND", "matchers": list(matchers)}
    kind = "ROLLOUT"
    return {"conditionType": kind, "matcherGroup": group, "partitions": partitions, "label": label}


def matcher(kind: str, attribute: str | None = None, **data: Any) -> dict[str, Any]:
    """Return a matcher."""
    key = {"trafficType": "user", "attribute": attribute}
    return {"matcherType": kind, "negate": False, "keySelector": key, **data}


def flag(name: str, *conditions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a flag that is on for everybody, with some conditions before."""
    return {
        "trafficTypeName": "user",
        "name": name,
        "trafficAllocation": 100,
        "trafficAllocationSeed": 7,
        "seed": 9,
        "status": "ACTIVE",
        "killed": False,
        "defaultTreatment": "off",
        "changeNumber": 1,
        "algo": 2,
        "configurations": {},
        "sets": [],
        "conditions": [*conditions, condition(EVERYBODY, label="default rule")],
        **more,
    }


PLAN = matcher("WHITELIST", "plan", whitelistMatcherData={"whitelist": ["team", "pro"]})
OLD = matcher(
    "GREATER_THAN_OR_EQUAL_TO", "age", unaryNumericMatcherData={"dataType": "NUMBER", "value": 3}
)
BETA = matcher("IN_SEGMENT", userDefinedSegmentMatcherData={"segmentName": "beta"})
NEEDS = matcher("IN_SPLIT_TREATMENT", dependencyMatcherData={"split": "rule", "treatments": ["on"]})
FLAGS = {
    made["name"]: made
    for made in (
        flag("simple"),
        flag("killed", killed=True),
        flag("rule", condition(PLAN, OLD)),
        flag("rule with rollout", condition(PLAN, partitions=HALF)),
        flag("segment", condition(BETA)),
        flag("dependency and segment", condition(NEEDS, BETA)),
        flag("variants", condition(EVERYBODY, partitions=HALF), configurations={"on": '{"a":1}'}),
    )
}
MEMBERS = ["ada", "bob"]
ATTRIBUTES = {"plan": "pro", "age": 5}
PERSON = {"key": "ada", **ATTRIBUTES}


def their_client() -> tuple[Client, EvaluationDataFactory]:
    """Return the SDK's client over the flag set, and what collects its data."""
    flags = InMemorySplitStorage(queue.Queue())
    flags.update([splits.from_raw(made) for made in FLAGS.values()], [], 1)
    known = InMemorySegmentStorage(queue.Queue())
    known.put(segments.Segment("beta", MEMBERS, 1))
    rules = InMemoryRuleBasedSegmentStorage(queue.Queue())
    stores = {"splits": flags, "segments": known, "rule_based_segments": rules, "events": None}
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
    client = Client(factory, ignored, None, True, FallbackTreatmentCalculator(None))  # noqa: FBT003 - labels
    return client, EvaluationDataFactory(flags, known, rules)


def main() -> None:
    """Compare."""
    client, factory = their_client()
    ours = Ours("split", {"flags": FLAGS, "segments": {"beta": {"keys": MEMBERS}}})
    user = ours.of(PERSON)
    ask = client._evaluator.eval_with_context  # noqa: SLF001 - the bare engine
    pairs: dict[str, Any] = {}
    for name in FLAGS:
        mine = ours.of(PERSON).detail(name)
        said = client.get_treatment_with_config("ada", name, ATTRIBUTES)
        assert said == (mine.value, mine.config), name
        pairs[name] = (
            lambda name=name: client.get_treatment_with_config("ada", name, ATTRIBUTES),
            lambda name=name: ours.of(PERSON).detail(name),
        )
        data = factory.context_for("ada", [name])
        pairs[f"{name}: bare evaluator"] = (
            lambda name=name, data=data: ask("ada", "ada", name, ATTRIBUTES, data),
            lambda name=name: user.detail(name),
        )
    compare(pairs)


main()
