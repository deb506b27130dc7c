"""The providers' own SDKs on flagstore's adapters: one read, and the provider's own results."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rigs import SOURCE
from sdks import processes, sets
from sdks.processes import MODULES, PYTHON, same
from sdks.sets import MAIN, SEGMENT_FLAG, SETS
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.split import SplitSimulator
from simulators.unleash import UnleashSimulator

if TYPE_CHECKING:
    from rigs import DynamoRig

HERE = Path(__file__).parent
CALLS = [f"read {SOURCE}:$body", f"read {SOURCE}:$snapshot"]
DOWN = "StoreUnavailableError: the store is down"


def publish(rig: DynamoRig, server: Any, name: str) -> None:
    rig.provider, rig.name = server, name
    assert rig.sync().outcome == "published"


@pytest.mark.parametrize(
    ("provider", "more"),
    [("launchdarkly", {}), ("unleash", {"cache": False}), ("unleash", {"cache": True})],
)
def test_sdk_reads_the_table_once(
    dynamo_rig: DynamoRig, provider: str, more: dict[str, bool]
) -> None:
    """All flags for all contexts from one read and one large segment, as from the SDK's memory."""
    simulator, made = {
        "launchdarkly": (LaunchDarklySimulator, sets.launchdarkly),
        "unleash": (UnleashSimulator, sets.unleash),
    }[provider]
    contexts = sets.contexts(provider, 20)
    task: dict[str, Any] = {"flags": [*made()[0], "never-there"], "contexts": contexts}
    with simulator(*made()) as server:
        publish(dynamo_rig, server, provider)
        published, calls = processes.adapted(dynamo_rig, provider, **task, **more)
        document: Any = server.document().decode()
    assert sorted(calls) == CALLS
    if provider == "launchdarkly":
        document = json.loads(document)
    else:
        assert json.loads(published[0])["known"] == len(made()[0])
    same(published, processes.python(provider, **task, document=document), contexts)


@pytest.mark.parametrize(("prefix", "impressions"), [(None, "none"), ("my.prefix", "debug")])
def test_splits_sdk_reads_the_table_once(
    dynamo_rig: DynamoRig, prefix: str | None, impressions: str
) -> None:
    """The same of Split's, under any prefix; what it writes is dropped without a complaint."""
    flags, segments, rule_based = sets.split()
    contexts = sets.contexts("split", 20)
    task: dict[str, Any] = {"flags": [*flags, "never-there"], "sets": SETS, "contexts": contexts}
    with SplitSimulator(flags, segments, rule_based) as server:
        publish(dynamo_rig, server, "split")
        adapted, calls = processes.adapted(
            dynamo_rig, "split", **task, prefix=prefix, impressions=impressions
        )
        direct = processes.python("split", **task, url=server.url, key=server.sdk_key)
    assert sorted(calls) == CALLS
    *ours, our_manager, tracked = adapted
    *theirs, their_manager, _ = direct
    same(ours, theirs, contexts)
    assert tracked == "true"
    # In pluggable storage the SDK takes the name of a flag that ends in "till" for a counter.
    expected = json.loads(their_manager)
    expected["names"].remove("till")
    del expected["views"]["till"]
    assert json.loads(our_manager) == expected
    for name in (MAIN, SEGMENT_FLAG, "till"):
        assert {json.loads(line)["flags"][name][0] for line in ours} == {"on", "off"}, name


# -- changes, faults, and what callers may not break ----------------------------------------------


def play(scene: str) -> dict[str, Any]:
    processes.needs_python()
    path = [*MODULES, str(HERE.parent), str(HERE.parents[1])]
    command = [PYTHON, "-I", HERE / "adapters_python.py"]
    (results,) = processes.run(command, {"scene": scene, "path": path}, os.environ)
    found: dict[str, Any] = results
    return found


def test_launchdarklys_store_through_changes_and_faults() -> None:
    """Defaults while there is nothing, changes when they are due, one decoding, no thread."""
    results = play("launchdarkly")
    failed = {"kind": "ERROR", "errorKind": "EXCEPTION"}
    assert results["down"] == ["default", failed, False]
    assert results["all down"] is False
    assert results["up"] is True
    value = {"limits": [1, {"deep": 2}]}
    assert results["values"] == [[value] * 3] * 2, "a caller has changed a flag"
    assert results["kept"] == [True, True, True]
    assert results["all kept"] == [["json"], ["s"]]
    assert results["written"] == value
    assert results["changed"] == [value]
    assert results["missing"] == [None, None]
    assert results["malformed"] == ["default", failed]
    assert results["all but malformed"] == [True, ["json"]]
    assert "holds flags of 'unleash', not LaunchDarkly's" in results["other"]
    assert results["threads"] == ["MainThread"]


def test_unleashs_client_and_cache_through_changes_and_faults() -> None:
    """The same, and a large segment is read once, however often the features change."""
    results = play("unleash")
    assert results["down"] == [False, True, "disabled", {}, DOWN]
    assert results["up"] == [True, False, True]
    assert results["changed"] == [True, False, False]
    assert results["changed again"] == [True, ["a", "b"]]
    assert results["stale"] is True
    assert results["parts"] == 1
    assert results["cache"] == [True, "x", 5, [True, True, False]]
    assert results["destroyed"] == [None, True]
    assert "holds flags of 'split', not Unleash's" in results["other"]
    assert results["threads"] == ["MainThread"]
