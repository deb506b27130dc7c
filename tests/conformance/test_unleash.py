"""Unleash's specification of its SDKs, case by case.

`@unleash/client-specification` 6.1.0, installed by `make setup-e2e`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from data import needed
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
DOCUMENTS = {
    path.name: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(SPECIFICATIONS.glob("[0-9]*.json"))
    if "delta-api" not in path.name  # events, which a server without deltas never sends
}


def flag_set(state: dict[str, Any]) -> Items:
    """Return a flag set as an engine reads it."""
    return Items(
        {"version": state.get("version")},
        flags={feature["name"]: feature for feature in state["features"]},
        segments={str(segment["id"]): segment for segment in state.get("segments", [])},
    )


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


@pytest.mark.skipif(not DOCUMENTS, reason="the specification is missing: run `make setup-e2e`")
def test_number_of_cases() -> None:
    """None of the specification's cases is left out, but for those of deltas."""
    assert (len(cases("tests")), len(cases("variantTests"))) == (223, 52)


@pytest.mark.parametrize("name", ["features-1000-real", "features-production"])
def test_flags_of_real_servers(name: str) -> None:
    """Each flag that a server sent has UnleashClient's result and variant for each context."""
    document = json.loads(needed(f"unleash/{name}.json").read_text(encoding="utf-8"))
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
