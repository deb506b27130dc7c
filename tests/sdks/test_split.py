"""Split's own SDKs evaluate rows in Redis as they evaluate Split's response."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from rigs import RedisRig, open_rig
from sdks import processes, sets
from sdks.processes import same
from sdks.sets import ARCHIVED, MAIN, REMOVED, SEGMENT_FLAG, SETS
from simulators.split import SplitSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXTS = sets.contexts("split", 40)
TASK: dict[str, Any] = {
    "flags": [*sets.split()[0], "never-there"],
    "sets": SETS,
    "contexts": CONTEXTS,
}


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[RedisRig]:
    """Give an empty Redis that lets SDKs in with the documented rights, and a Split."""
    with SplitSimulator(*sets.split()) as server:
        rig = open_rig(request, "redis", server, "split")
        assert isinstance(rig, RedisRig)
        rig.login = processes.documented_user(rig.server, "split-sdk")
        rig.server.admin.execute_command("ACL", "LOG", "RESET")
        yield rig


def evaluate(sdk: str, place: dict[str, str]) -> list[str]:
    if sdk == "node":
        with processes.node("evaluate.cjs", "split", os.environ) as ask:
            return processes.evaluated(ask, **TASK, **place)[0]
    *lines, manager, _ = processes.python("split", **TASK, **place)
    names = {"names": json.loads(manager)["names"]}
    return [json.dumps(json.loads(line) | names, sort_keys=True) for line in lines]


def from_redis(rig: RedisRig, sdk: str) -> list[str]:
    results = evaluate(sdk, rig.place())
    refused: Any = rig.server.admin.execute_command("ACL", "LOG")
    assert refused == []
    return results


def from_split(rig: RedisRig) -> list[str]:
    return evaluate("python", {"url": rig.provider.url, "key": rig.provider.sdk_key})


def change(rig: RedisRig) -> None:
    sets.change(rig.provider)
    assert rig.sync().outcome == "published"


def test_python_sdk_evaluates_rows_as_the_response(rig: RedisRig) -> None:
    """Every treatment and configuration, of flags, flag sets and all names; after changes too."""
    assert rig.sync().skipped_rows == ()
    before = from_redis(rig, "python")
    same(before, from_split(rig), CONTEXTS)
    change(rig)
    after = from_redis(rig, "python")
    same(after, from_split(rig), CONTEXTS)
    treatments: Counter[str] = Counter()
    for old, new in zip(map(json.loads, before), map(json.loads, after), strict=True):
        assert (old["flags"][ARCHIVED][0], new["flags"][ARCHIVED][0]) == ("on", "control")
        assert new["flags"][MAIN][0] == "dead"
        assert MAIN in new["sets"]["mobile"].keys() - old["sets"]["mobile"].keys()
        assert REMOVED not in (*new["sets"]["backend"], *new["names"])
        treatments.update((old["flags"][MAIN][0], old["flags"][SEGMENT_FLAG][0]))
    assert min(treatments["on"], treatments["off"]) > 10


def test_what_sdks_write_beside_the_rows_stays(rig: RedisRig) -> None:
    """Through a sync that changes, removes and compares everything; without impressions."""
    rig.sync()
    admin: Any = rig.server.admin
    before = set(admin.keys("{prod}.SPLITIO.*"))
    for sdk in ("python", "node"):
        from_redis(rig, sdk)
    written = set(admin.keys("{prod}.SPLITIO.*")) - before
    names = {"impressions.count", "uniquekeys", "telemetry.init", "telemetry.latencies"}
    assert {key.decode() for key in written} >= {f"{{prod}}.SPLITIO.{name}" for name in names}
    change(rig)
    admin.hset("flagstore:{prod}:$state:state", "verified_at", 0)
    rig.sync()
    assert admin.exists(*written) == len(written)
