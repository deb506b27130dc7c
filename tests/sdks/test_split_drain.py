"""What Split's own SDKs queue in Redis is posted: impressions, counts, unique keys and events."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from contract.test_drain import four_drains, left, posted, run
from rigs import SOURCE, RedisRig, open_rig
from sdks import processes
from sdks.processes import NODE_FOLDER, PYTHON, output
from simulators.split import SplitSimulator
from simulators.split_flags import new_flag
from storesync.stores import redis_queues

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FLAG = "new-checkout"
PYTHON_SDK = """
import os, sys, threading
from splitio import get_factory

port, prefix, mode, flag, keys, times, password = sys.argv[1:]
config = {"redisHost": "127.0.0.1", "redisPort": int(port), "redisPrefix": prefix,
          "redisUsername": "split-sdk", "redisPassword": password, "impressionsMode": mode}
factory = get_factory("redis", config=config)
factory.block_until_ready(20)
client = factory.client()
for number in range(int(keys)):
    for _ in range(int(times)):
        assert client.get_treatment(f"key-{number}", flag) == "on"
    assert client.track(f"key-{number}", "user", "paid", 1.5)
done = threading.Event()
factory.destroy(done)
assert done.wait(20)
os._exit(0)
"""


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[RedisRig]:
    """Give rows of one flag, which SDKs with the documented rights read."""
    flag = {**new_flag(FLAG), "killed": True, "defaultTreatment": "on"}
    with SplitSimulator({FLAG: flag}) as server:
        rig = open_rig(request, "redis", server, "split")
        assert isinstance(rig, RedisRig)
        assert rig.sync(drain=True).outcome == "published"
        rig.login = processes.documented_user(rig.server, "split-sdk")
        yield rig


def use_node(mode: str, keys: int, times: int, place: Mapping[str, str]) -> None:
    task = {"mode": mode.upper(), "flag": FLAG, "keys": keys, "times": times, **place}
    processes.run([processes.needs_node(), NODE_FOLDER / "split_usage.cjs"], task, os.environ)


def use(rig: RedisRig, sdk: str, mode: str, keys: int, times: int) -> None:
    if sdk == "node":
        use_node(mode, keys, times, rig.place())
        return
    processes.needs_python()
    password = rig.login.partition(":")[2]
    words: list[Any] = [rig.server.port, f"{{{SOURCE}}}", mode, FLAG, keys, times, password]
    output([PYTHON, "-I", "-c", PYTHON_SDK, *map(str, words)])


@pytest.mark.parametrize("mode", ["debug", "optimized", "none"])
@pytest.mark.parametrize("sdk", ["python", "node"])
def test_each_impressions_mode(rig: RedisRig, sdk: str, mode: str) -> None:
    """Every key is reported once, every evaluation is counted, and every event arrives."""
    use(rig, sdk, mode, keys=20, times=3)
    assert run(rig).error is None
    found = posted(rig)
    counts = sum(number for name, number in found.items() if name.startswith(f"c {FLAG} "))
    kind = "u" if mode == "none" else "i"
    names = [f"key-{number}" for number in range(20)]
    keys = {name: times for name, times in found.items() if name[0] != "c"}
    assert keys == {f"{kind} {FLAG} {n}": 1 for n in names} | {f"e {n}": 1 for n in names}
    assert counts == (60 if mode == "none" else 40)
    assert left(rig) == []


def normal(body: Any) -> Any:
    """Return a body without times, lists in order."""
    if isinstance(body, list):
        return sorted(map(normal, body), key=json.dumps)
    if isinstance(body, dict):
        return {name: normal(body[name]) for name in body if name not in {"m", "timestamp"}}
    return body


def reports(split: SplitSimulator, path: str) -> list[Any]:
    """Return the bodies that came to a path, each with the headers that all clients send."""
    names = ("authorization", "content-type", "splitsdkimpressionsmode")
    found = split.posts(path)
    return [(normal(body), [headers.get(name) for name in names]) for body, headers in found]


@pytest.mark.parametrize("mode", ["optimized", "none"])
def test_reports_are_the_sdks_own(rig: RedisRig, mode: str) -> None:
    """What it queues in consumer mode is posted just as it posts by itself, except for times."""
    use(rig, "node", mode, keys=20, times=3)
    run(rig)
    asked = []
    with SplitSimulator(rig.provider.flags()) as other:
        use_node(mode, 20, 3, {"url": other.url, "key": other.sdk_key})
        for path in ("testImpressions/bulk", "testImpressions/count", "events/bulk", "v1/keys/ss"):
            assert reports(rig.provider, f"/{path}") == reports(other, f"/{path}"), path
            asked += [path] * bool(other.posts(f"/{path}"))
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("keys", "kills"),
    [(1_000, 2), pytest.param(20_000, 12, marks=pytest.mark.campaign)],
    ids=["dose", "all"],
)
def test_four_drains_beside_an_sdk(
    rig: RedisRig, keys: int, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its impressions and events arrive, at most one batch of each again per killed run."""
    processes.needs_node()  # not in a thread, which cannot skip
    size = keys // 10
    monkeypatch.setattr(redis_queues, "BATCH_ENTRIES", size)
    killed = four_drains(rig, lambda: use(rig, "node", "DEBUG", keys, 1), kills, monkeypatch)
    found = posted(rig)
    expected = [name for n in range(keys) for name in (f"i {FLAG} key-{n}", f"e key-{n}")]
    assert found.keys() == set(expected)
    repeated = found.total() - len(expected)
    assert repeated <= size * killed
    print(f"{keys:,} impressions of Node.js' SDK, {killed} kills: 0 lost, {repeated:,} repeated")
