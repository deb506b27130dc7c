"""``detail`` beside ``variation_detail`` of LaunchDarkly's SDK over its store in memory."""

from __future__ import annotations

import time
from typing import Any

from ldclient import Config, Context, LDClient
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from bench.warm.pairs import Flags, compare
from flagstore.evaluation.base import Settings
from flagstore.evaluation.launchdarkly import engine
from flagstore.flags import ContextFlags, State
from flagstore.typed import BY_PROVIDER


def flag(key: str, **more: Any) -> dict[str, Any]:
    """Return a flag of two variations."""
    base = {"key": key, "version": 1, "on": True, "variations": ["a", "b"], "salt": key}
    return {**base, "offVariation": 1, "fallthrough": {"variation": 0}, **more}


def clause(attribute: str, op: str, *values: Any) -> dict[str, Any]:
    """Return a clause."""
    return {"attribute": attribute, "op": op, "values": list(values)}


HALF = [{"variation": 0, "weight": 50_000}, {"variation": 1, "weight": 50_000}]
RULES = [
    {"id": "one", "variation": 0, "clauses": [clause("plan", "in", "free")]},
    {
        "id": "two",
        "variation": 1,
        "clauses": [clause("plan", "in", "pro"), clause("age", "greaterThan", 3)],
    },
]
FLAGS = {
    "off": flag("off", on=False),
    "simple": flag("simple"),
    "target": flag("target", targets=[{"variation": 1, "values": ["bob", "ada"]}]),
    "rule": flag("rule", rules=RULES),
    "rollout": flag("rollout", fallthrough={"rollout": {"variations": HALF}}),
    "rule with rollout": flag(
        "rule with rollout",
        rules=[
            {"id": "r", "rollout": {"variations": HALF}, "clauses": [clause("plan", "in", "pro")]}
        ],
    ),
    "segment": flag(
        "segment",
        rules=[{"id": "s", "variation": 1, "clauses": [clause("", "segmentMatch", "beta")]}],
    ),
    "prerequisite": flag("prerequisite", prerequisites=[{"key": "rule", "variation": 1}]),
}
SEGMENT_LIST = {"beta": {"key": "beta", "version": 1, "included": ["ada", "bob"], "salt": "s"}}


def main() -> None:
    """Compare."""
    store = InMemoryFeatureStore()
    store.init({FEATURES: FLAGS, SEGMENTS: SEGMENT_LIST})
    client = LDClient(
        Config("k", feature_store=store, use_ldd=True, send_events=False), start_wait=0
    )
    context = Context.from_dict({"kind": "user", "key": "ada", "plan": "pro", "age": 5})
    settings = Settings(time.time, lambda: 0.5)
    state = State(
        engine(Flags({"flags": FLAGS, "segments": SEGMENT_LIST}), settings),
        BY_PROVIDER["launchdarkly"],
        keys=lambda: FLAGS,
        overrides={},
    )
    user = ContextFlags(state, {"key": "ada", "plan": "pro", "age": 5})
    for key in FLAGS:
        theirs, ours = client.variation_detail(key, context, "z"), user.detail(key, default="z")
        assert (theirs.value, theirs.variation_index) == (ours.value, ours.variant), key
    compare(
        {
            key: (
                lambda key=key: client.variation_detail(key, context, "z"),  # type: ignore[misc]
                lambda key=key: user.detail(key, default="z"),  # type: ignore[misc]
            )
            for key in FLAGS
        }
    )
    client.close()


main()
