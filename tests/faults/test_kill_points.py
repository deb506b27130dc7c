"""Kill a sync before and after every call to the store: readers see the old set or the new one."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from faults.dynamo import Rig
from faults.redis_rig import RedisRig
from flagstore import keys
from simulators.clock import FakeClock
from simulators.provider import ModelProvider
from simulators.split_flags import new_flag
from simulators.unreliable import Killed, UnreliableClient, kill_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulators.redis_server import Server

    type AnyRig = Rig | RedisRig


def flag(key: str, version: int) -> dict[str, Any]:
    """Return a flag that LaunchDarkly's SDKs take too."""
    return {"key": key, "version": version, "on": False, "variations": [version], "offVariation": 0}


OLD = {key: flag(key, 1) for key in (f"flag-{n:03}" for n in range(250))}
NEW = {key: flag(key, 2) for key in (f"flag-{n:03}" for n in range(40, 250))}
CHANGE = {**dict.fromkeys(OLD), **NEW}
assert (len(OLD), len(NEW)) == (250, 210)


@pytest.fixture(params=["dynamodb", "redis", "redis-launchdarkly"])
def rig(request: pytest.FixtureRequest) -> AnyRig:
    """Give an empty store and an empty provider."""
    give: Callable[[str], Any] = request.getfixturevalue
    store, _, name = request.param.partition("-")
    if store == "redis":
        rig = RedisRig(give("redis_server"), ModelProvider(name=name or "model"))
        request.addfinalizer(rig.close)  # noqa: PT021 - the other rig has nothing to close
        return rig
    return Rig(give("aws"), give("dynamodb_table"), ModelProvider(), FakeClock())


def settle(rig: AnyRig, flags: dict[str, Any]) -> None:
    """Bring the store to one set, rows included."""
    rig.provider.flags = {}
    rig.provider.change(**flags)
    while True:
        report = rig.sync()
        if report.outcome == "unchanged" and not report.rows_error:
            return


def rows(rig: AnyRig) -> dict[str, Any]:
    """Return what the rows show."""
    section = "features" if rig.provider.name == "launchdarkly" else "flags"
    items = rig.items(f"prod:{section}")
    return {item["key"]["S"]: json.loads(item["item"]["S"]) for item in items}


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_reader_sees_the_old_or_the_new_set_at_every_kill_point(
    rig: AnyRig, in_chunks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """250 flags become 210; at every kill point exactly one of both, and the next sync heals."""
    if in_chunks:
        monkeypatch.setattr(keys, "INLINE_BYTES", 0)
        monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 1_000)
    settle(rig, OLD)
    undisturbed = UnreliableClient(rig.table.client)
    rig.provider.change(**CHANGE)
    rig.sync(undisturbed)
    calls = undisturbed.calls.total()
    assert calls >= 5
    seen = {"old": 0, "new": 0}
    for number in range(calls):
        for moment in ("before", "after"):
            settle(rig, OLD)
            rig.provider.change(**CHANGE)
            with pytest.raises(Killed):
                rig.sync(UnreliableClient(rig.table.client, kill_at(moment, number)))
            found = rig.read()
            assert found in (OLD, NEW), f"a mix {moment} call {number}"
            seen["new" if found == NEW else "old"] += 1
            report = rig.sync()
            assert report.outcome in {"published", "unchanged"}
            assert rig.read() == NEW
            assert rows(rig) == NEW, f"rows {moment} call {number}"
    assert min(seen.values()) > 0, seen
    print(f"{2 * calls} kill points: {seen['old']} saw the old set, {seen['new']} the new one")


# -- Split's layout -------------------------------------------------------------------------------


def split_set(*names: str, version: int) -> dict[str, Any]:
    """Return a set of Split: flags that say their version and are in a flag set."""
    return {
        name: {**new_flag(name), "version": version, "sets": ["all"], "trafficTypeName": "user"}
        for name in names
    }


OLD_SPLIT = split_set(*(f"flag-{n:03}" for n in range(150)), version=1)
NEW_SPLIT = split_set(*(f"flag-{n:03}" for n in range(20, 150)), version=2)
OLD_KEYS = [f"user-{n:04}" for n in range(300)]
NEW_KEYS = [f"user-{n:04}" for n in range(10, 320)]


def splits_rows(rig: RedisRig) -> dict[str, Any]:
    """Return what Split's SDKs read: texts, and sets as sorted lists."""
    admin: Any = rig.server.admin
    found: dict[str, Any] = {}
    for key in admin.keys("{prod}.SPLITIO.*"):
        name = key.decode().partition(".SPLITIO.")[2]
        is_set = admin.type(key) == b"set"
        members = sorted(admin.smembers(key)) if is_set else admin.get(key)
        found[name] = [item.decode() for item in members] if is_set else json.loads(members)
    return found


def expected(flags: dict[str, Any], members: list[str]) -> dict[str, Any]:
    """Return what they must read of a set."""
    rows = {f"split.{name}": flag for name, flag in flags.items()}
    made = {"flagSet.all": sorted(flags), "trafficType.user": len(flags)}
    return {**rows, **made, "segment.many": members}


def settle_split(rig: RedisRig, flags: dict[str, Any], members: list[str]) -> None:
    """Bring the store to one set of Split, rows included."""
    rig.provider.segments = {"many": {"name": "many", "keys": members}}
    settle(rig, flags)


def test_rows_of_split_are_old_or_new_each_at_every_kill_point(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment in parts, 150 flags, a flag set: none is half of anything; the next sync heals."""
    monkeypatch.setattr("storesync.rows.PART_BYTES", 1_000)
    monkeypatch.setattr("storesync.publisher.REDIS_KB", 6)
    old, new = expected(OLD_SPLIT, OLD_KEYS), expected(NEW_SPLIT, NEW_KEYS)
    seen: dict[str, int] = {"old": 0, "new": 0, "between": 0}
    with closing(RedisRig(redis_server, ModelProvider(name="split"))) as rig:

        def change() -> None:
            rig.provider.segments = {"many": {"name": "many", "keys": NEW_KEYS}}
            rig.provider.change(**(dict.fromkeys(OLD_SPLIT) | NEW_SPLIT))

        settle_split(rig, OLD_SPLIT, OLD_KEYS)
        undisturbed = UnreliableClient(rig.table.client)
        change()
        rig.sync(undisturbed)
        calls = undisturbed.calls.total()
        assert calls >= 10
        for number in range(calls):
            for moment in ("before", "after"):
                settle_split(rig, OLD_SPLIT, OLD_KEYS)
                assert splits_rows(rig) == old
                change()
                with pytest.raises(Killed):
                    rig.sync(UnreliableClient(rig.table.client, kill_at(moment, number)))
                assert rig.read() in (OLD_SPLIT, NEW_SPLIT)
                found = splits_rows(rig)
                for name, item in found.items():
                    assert item in (old.get(name), new.get(name)), f"{moment} call {number}: {name}"
                kind = "old" if found == old else "new" if found == new else "between"
                seen[kind] += 1
                rig.sync()
                assert splits_rows(rig) == new, f"rows {moment} call {number}"
                ours: Any = redis_server.admin.keys("flagstore:{prod}:SPLITIO*")
                assert ours == [b"flagstore:{prod}:SPLITIO"]
    assert min(seen.values()) > 0, seen
    print(f"{2 * calls} kill points: {seen}")
