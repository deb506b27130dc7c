"""``detail`` beside ``variation_detail`` of LaunchDarkly's SDK over its store in memory."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from ldclient import Config, Context, LDClient
from ldclient.feature_store import InMemoryFeatureStore
from ldclient.versioned_data_kind import FEATURES, SEGMENTS

from bench.warm.pairs import COUNTED, COUNTED_WHOLE, Ours, compare
from flagstore import Client


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


DETAILED = {
    "variants of JSON": flag(
        "variants of JSON",
        variations=[{"limit": 10, "tags": ["a", "b"]}, {"limit": 0, "tags": []}],
        fallthrough={"rollout": {"variations": HALF}},
    ),
    "prerequisite and segment": flag(
        "prerequisite and segment",
        prerequisites=[{"key": "rule", "variation": 1}, {"key": "segment", "variation": 1}],
        rules=[{"id": "s", "variation": 1, "clauses": [clause("", "segmentMatch", "beta")]}],
    ),
}
PERSON = {"key": "ada", "plan": "pro", "age": 5}


def main() -> None:
    """Compare."""
    flags = {**FLAGS, **DETAILED}
    store = InMemoryFeatureStore()
    store.init({FEATURES: flags, SEGMENTS: SEGMENT_LIST})
    client = LDClient(
        Config("k", feature_store=store, use_ldd=True, send_events=False), start_wait=0
    )
    given = {"kind": "user", **PERSON}
    context = Context.from_dict(given)
    ours = Ours("launchdarkly", {"flags": flags, "segments": SEGMENT_LIST})
    user = ours.of(PERSON)
    for key in flags:
        theirs, mine = client.variation_detail(key, context, None), user.detail(key)
        assert (theirs.value, theirs.variation_index) == (mine.value, mine.variant), key
    pairs: dict[str, Any] = {
        key: (
            lambda key=key: client.variation_detail(key, context, None),
            lambda key=key: user.detail(key),
        )
        for key in flags
    }
    pairs["rule, a new context each time"] = (
        lambda: client.variation_detail("rule", Context.from_dict(given), None),
        lambda: ours.of(PERSON).detail("rule"),
    )
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"flags": flags, "segments": SEGMENT_LIST}, file)
        file.flush()
        os.environ["FLAGSTORE_FILE"] = file.name
        without, counting = Client("prod"), Client("prod", usage="counts")
        one, other = without.for_context(PERSON), counting.for_context(PERSON)
        pairs[COUNTED] = (lambda: one.enabled("rule"), lambda: other.enabled("rule"))
        pairs[COUNTED_WHOLE] = (
            lambda: without.enabled("rule", PERSON),
            lambda: counting.enabled("rule", PERSON),
        )
        compare(pairs)
    client.close()


main()
