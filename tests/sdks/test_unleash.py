"""Unleash's own SDK evaluates what a reader reads as it does what Unleash responded."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from data import DATA
from flagstore.encode import unleash_document
from sdks import unleash_set
from sdks.rig import Rig, same
from sdks.unleash_set import ARCHIVED, LARGE, MAIN, OPERATORS
from simulators.aws import Table
from simulators.unleash import UnleashSimulator

if TYPE_CHECKING:
    from local.stand_in import StandIn

SCRIPT = "unleash_python.py"
CONTEXTS = unleash_set.contexts(200)


def sdk(rig: Rig, document: str, flags: list[str]) -> list[str]:
    """Let the SDK evaluate a document; it must have taken all of it."""
    lines = rig.python(SCRIPT, document=document, flags=flags, contexts=CONTEXTS)
    assert json.loads(lines[0])["known"] == len(json.loads(document)["features"])
    return lines


def test_the_sdk_evaluates_a_snapshot_as_unleashs_response(
    aws: StandIn, dynamodb_table: Table
) -> None:
    """Each feature and variant is the same from our document as from Unleash's, changed or not."""
    flags, segments = unleash_set.flag_set()
    names = [*flags, "never-there"]
    with UnleashSimulator(flags, segments) as server:
        rig = Rig(aws, dynamodb_table, server, "unleash")
        assert rig.sync().outcome == "published"
        with rig.snapshot() as snapshot:
            assert snapshot._body.large.keys() == {str(LARGE)}
            before = sdk(rig, unleash_document(snapshot), names)
        same(before, sdk(rig, server.document().decode(), names), CONTEXTS)
        server.set_flag(MAIN, strategies=[])
        server.remove_flag(ARCHIVED)
        server.set_segment(2, constraints=[])
        assert rig.sync().outcome == "published"
        with rig.snapshot() as snapshot:
            after = sdk(rig, unleash_document(snapshot), names)
        same(after, sdk(rig, server.document().decode(), names), CONTEXTS)
    differing: Counter[str] = Counter()
    for old, new in zip(map(json.loads, before), map(json.loads, after), strict=True):
        assert old["flags"][ARCHIVED][0] is True
        assert new["flags"][ARCHIVED][0] is False
        differing.update(name for name in names if old["flags"][name] != new["flags"][name])
    assert differing.keys() >= {MAIN, ARCHIVED, "segment"}


def test_the_features_reach_every_part_of_an_evaluation(aws: StandIn) -> None:
    """A set that is mostly off, or constraints that never hold, would prove nothing above."""
    flags, segments = unleash_set.flag_set()
    with UnleashSimulator(flags, segments) as server:
        rig = Rig(aws, Table(name="", client=None), server, "unleash")
        lines = sdk(rig, server.document().decode(), list(flags))
    on: Counter[str] = Counter()
    variants: Counter[str] = Counter()
    for result in map(json.loads, lines):
        for name, (enabled, variant) in result["flags"].items():
            on[name] += enabled
            variants[variant["name"]] += 1
    total = len(CONTEXTS) * len(flags)
    assert 0.3 * total < on.total() < 0.7 * total
    assert 0.05 * total < total - variants["disabled"]
    assert {"text", "json", "number", "csv", "plain", "blue", "green"} < variants.keys()
    apart = ("users", "addresses", "by-user", "by-session", "by-country", "large-segment")
    for name in (*OPERATORS, *apart, "segment", "needs-on", "needs-off", "needs-variant", MAIN):
        assert 5 <= on[name] <= len(CONTEXTS) - 5, name


@pytest.mark.parametrize(
    ("name", "share"), [("features-production", 0.01), ("features-1000-real", 0.3)]
)
def test_the_sdk_evaluates_a_snapshot_as_a_real_servers_response(
    aws: StandIn, dynamodb_table: Table, name: str, share: float
) -> None:
    """The same of what a real server responded, features and segments as it sent them."""
    file = DATA / "unleash" / f"{name}.json"
    if not file.exists():
        pytest.skip(f"allowed: {file.name} is not here; CONFORMANCE_DATA names the folder")
    text = file.read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    # What Unleash decides by lot cannot be the same twice.
    assert '"random"' not in text
    assert "gradualRolloutRandom" not in text
    flags = {flag["name"]: flag for flag in document["features"]}
    segments = {str(segment["id"]): segment for segment in document["segments"]}
    environment = document["query"]["environment"]
    with UnleashSimulator(flags, segments, environment=environment) as server:
        rig = Rig(aws, dynamodb_table, server, "unleash")
        rig.sync()
        with rig.snapshot() as snapshot:
            ours = unleash_document(snapshot)
    assert json.loads(ours)["features"] == [flags[key] for key in sorted(flags)]
    # All of them were read; of the thousand that are much alike, some are enough to evaluate.
    some = sorted(flags)[:: 1 + len(flags) // 300]
    results = sdk(rig, ours, some)
    same(results, sdk(rig, text, some), CONTEXTS)
    on = [enabled for line in results for enabled, _ in json.loads(line)["flags"].values()]
    assert sum(on) >= share * len(on)
