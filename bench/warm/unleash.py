"""``detail`` beside Unleash's own engine (yggdrasil), which its SDKs for Python call.

Its engine is given the whole context at each call, so ours is too. For flags without variants it is
asked one question, whether it is on; for those with, one as well, for the variant.
"""

from __future__ import annotations

import json
from typing import Any

from yggdrasil_engine.engine import UnleashEngine

from bench.warm.pairs import Ours, compare

HALF = {
    "name": "flexibleRollout",
    "parameters": {"rollout": "50", "stickiness": "userId", "groupId": "g"},
    "constraints": [],
}
ALL = {"name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "default"}}
PRO = {"contextName": "plan", "operator": "IN", "values": ["team", "pro"]}
OLD = {"contextName": "age", "operator": "NUM_GTE", "value": "3"}
VARIANTS = [
    {
        "name": name,
        "weight": 500,
        "weightType": "variable",
        "stickiness": "default",
        "payload": {"type": "string", "value": name},
    }
    for name in ("blue", "green")
]


def flag(name: str, *strategies: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a feature that is on."""
    listed = [{"constraints": [], "segments": [], "variants": [], **each} for each in strategies]
    whole = {"name": name, "type": "release", "enabled": True, "project": "default"}
    return {**whole, "strategies": listed, "variants": [], **more}


FLAGS = {
    made["name"]: made
    for made in (
        flag("simple", {"name": "default", "parameters": {}}),
        flag("off", {"name": "default", "parameters": {}}, enabled=False),
        flag("target", {"name": "userWithId", "parameters": {"userIds": "bob, ada"}}),
        flag("rule", {**ALL, "constraints": [PRO, OLD]}),
        flag("rule with rollout", {**HALF, "constraints": [PRO]}),
        flag("segment", {**ALL, "segments": [1]}),
        flag(
            "prerequisite and segment",
            {**ALL, "segments": [1]},
            dependencies=[{"feature": "rule", "enabled": True}],
        ),
        flag("variants", ALL, variants=VARIANTS),
    )
}
SEGMENT = {"id": 1, "name": "beta", "constraints": [PRO]}
PROPERTIES = {"plan": "pro", "age": "5"}
PERSON = {"userId": "ada", "properties": PROPERTIES}


def main() -> None:
    """Compare."""
    theirs = UnleashEngine()
    document = {"version": 2, "features": [*FLAGS.values()], "segments": [SEGMENT]}
    theirs.take_state(json.dumps(document))
    ours = Ours("unleash", {"flags": FLAGS, "segments": {"1": SEGMENT}})
    context = {**PERSON, "appName": "shop", "environment": "production"}
    pairs: dict[str, Any] = {}
    for name in FLAGS:
        mine = ours.of(PERSON).detail(name)
        variant = theirs.get_variant(name, context).variant
        assert mine.enabled == theirs.is_enabled(name, context).is_enabled, name
        assert (mine.variant or "disabled") == variant.name, name
        ask = theirs.get_variant if FLAGS[name]["variants"] else theirs.is_enabled
        pairs[name] = (
            lambda name=name, ask=ask: ask(name, context),
            lambda name=name: ours.of(PERSON).detail(name),
        )
    compare(pairs)


main()
