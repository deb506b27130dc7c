"""Unleash's specification of its SDKs, case by case.

`@unleash/client-specification` 6.1.0, installed by `make setup-e2e`: 227 toggles and 52 variants.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.evaluation.base import UNSUPPORTED, EngineConfig
from flagstore.evaluation.unleash import engine
from sdks import processes, sets
from simulators.flag_items import Items

if TYPE_CHECKING:
    from flagstore.evaluation.unleash import UnleashEngine

SPECIFICATIONS = (
    Path(__file__).parents[1]
    / "sdks/node/node_modules/@unleash/client-specification/specifications"
)
DATA = Path(
    os.environ.get("CONFORMANCE_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)
NAMES = (
    json.loads((SPECIFICATIONS / "index.json").read_text(encoding="utf-8"))
    if SPECIFICATIONS.exists()
    else []
)
DOCUMENTS = {
    name: json.loads((SPECIFICATIONS / name).read_text(encoding="utf-8")) for name in NAMES
}


def flag_set(state: dict[str, Any]) -> Items:
    """Return a flag set as an engine reads it."""
    state = whole(state)
    return Items(
        {"version": state.get("version")},
        flags={feature["name"]: feature for feature in state["features"]},
        segments={str(segment["id"]): segment for segment in state.get("segments", [])},
    )


def whole(state: dict[str, Any]) -> dict[str, Any]:
    """Apply the events of a delta, which a server without deltas never sends."""
    if "events" not in state:
        return state
    features: dict[str, Any] = {}
    segments: dict[int, Any] = {}
    for event in state["events"]:
        if event["type"] == "hydration":
            features = {feature["name"]: feature for feature in event["features"]}
            segments = {segment["id"]: segment for segment in event["segments"]}
        elif event["type"] == "feature-updated":
            features[event["feature"]["name"]] = event["feature"]
        elif event["type"] == "feature-removed":
            features.pop(event["featureName"], None)
        elif event["type"] == "segment-updated":
            segments[event["segment"]["id"]] = event["segment"]
        else:
            assert event["type"] == "segment-removed"
            segments.pop(event["segmentId"], None)
    return {"features": [*features.values()], "segments": [*segments.values()]}


def evaluator(name: str) -> UnleashEngine:
    """Make an engine for a file of the specification."""
    settings = EngineConfig(now=time.time, random=lambda: 0.5)
    return engine(flag_set(DOCUMENTS[name]["state"]), settings)


def cases(kind: str) -> list[Any]:
    """List (file, case) of all files; one that cannot run names the remedy."""
    found = [
        pytest.param(name, case, id=f"{name.removesuffix('.json')}-{number}")
        for name, document in DOCUMENTS.items()
        for number, case in enumerate(document.get(kind, []))
    ]
    reason = "the specification is missing: run `make setup-e2e`"
    return found or [pytest.param("", {}, marks=pytest.mark.skip(reason=reason))]


@pytest.mark.parametrize(("name", "case"), cases("tests"))
def test_toggle(name: str, case: dict[str, Any]) -> None:
    """A toggle is on or off as specified, and none is unsupported."""
    ours = evaluator(name)
    outcome = ours.evaluate(case["toggleName"], ours.context(case["context"]))
    assert outcome.error != UNSUPPORTED
    # An unknown toggle has the caller's default, which is off in the specification.
    assert (outcome.value is True) == case["expectedResult"], case["description"]


@pytest.mark.parametrize(("name", "case"), cases("variantTests"))
def test_variant(name: str, case: dict[str, Any]) -> None:
    """A variant, its payload and its toggle's state are as specified."""
    ours = evaluator(name)
    outcome = ours.evaluate(case["toggleName"], ours.context(case["context"]))
    given = {"name": outcome.variant or "disabled", "enabled": outcome.variant is not None}
    if outcome.config is not None:
        given["payload"] = outcome.config
    given["feature_enabled"] = outcome.value is True
    required = dict(case["expectedResult"])
    required["feature_enabled"] = required.pop("featureEnabled", required.get("feature_enabled"))
    assert given == required, case["description"]


@pytest.mark.skipif(not NAMES, reason="the specification is missing: run `make setup-e2e`")
def test_number_of_cases() -> None:
    """The specification's version 6.1.0 has 279 cases."""
    kinds = [len(document.get("tests", [])) for document in DOCUMENTS.values()]
    variants = [len(document.get("variantTests", [])) for document in DOCUMENTS.values()]
    assert (sum(kinds), sum(variants)) == (227, 52)


@pytest.mark.parametrize("name", ["features-1000-real", "features-production"])
def test_flags_of_real_servers(name: str) -> None:
    """Each flag that a server sent has UnleashClient's result and variant for each context."""
    file = DATA / "unleash" / f"{name}.json"
    if not file.exists():
        pytest.skip("allowed: the shared data is not here")
    document = json.loads(file.read_text(encoding="utf-8"))
    flags = [feature["name"] for feature in document["features"]]
    contexts = sets.contexts("unleash", 6)
    lines = processes.python(
        "unleash", document=json.dumps(document), flags=flags, contexts=contexts
    )
    settings = EngineConfig(time.time, lambda: 0.5, app_name="shop", environment="production")
    ours = engine(flag_set(document), settings)
    for context, line in zip(contexts, lines, strict=True):
        made = ours.context(context)
        for flag, (enabled, variant) in json.loads(line)["flags"].items():
            outcome = ours.evaluate(flag, made)
            given = {"name": outcome.variant or "disabled", "payload": outcome.config}
            required = {"name": variant["name"], "payload": variant.get("payload")}
            assert (outcome.value, given) == (enabled, required), (flag, context)
