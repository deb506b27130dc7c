"""Kill a sync before and after every call to the store: readers see the old set or the new one."""

from __future__ import annotations

import json
from contextlib import closing
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import keys
from rigs import RedisRig, open_rig
from simulators.provider import ModelProvider
from simulators.split_flags import new_flag
from simulators.unreliable import Killed, UnreliableClient, kill_at

if TYPE_CHECKING:
    from rigs import AnyRig
    from simulators.redis_server import Server


def content(version: int, count: int) -> dict[str, Any]:
    """Return one version of a set that LaunchDarkly's SDKs take too; some lack ten flags."""
    flag = {"version": version, "on": False, "variations": [version], "offVariation": 0}
    keys = (f"flag-{n:04}" for n in range(10 * (version % 2), count))
    return {key: {"key": key, **flag} for key in keys}


@pytest.fixture(params=["dynamodb", "redis", "redis-launchdarkly"])
def rig(request: pytest.FixtureRequest) -> AnyRig:
    store, _, name = request.param.partition("-")
    return open_rig(request, store, ModelProvider(name=name or "model"))


def rows(rig: AnyRig) -> dict[str, Any]:
    section = "features" if rig.provider.name == "launchdarkly" else "flags"
    items = rig.items(f"prod:{section}")
    return {item["key"]["S"]: json.loads(item["item"]["S"]) for item in items}


@pytest.mark.parametrize(
    "count", [120, pytest.param(1_000, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
@pytest.mark.parametrize("in_chunks", [False, True])
def test_kill_points_of_rows_and_snapshot(
    rig: AnyRig, in_chunks: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers see a whole set, the next sync recovers, and leftovers have a TTL."""
    if in_chunks:
        monkeypatch.setattr(keys, "INLINE_BYTES", 0)
        monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 20 * count)
    rig.settle(content(1, count))
    undisturbed = UnreliableClient(rig.table.client)
    rig.replace(content(2, count))
    rig.sync(undisturbed)
    rig.settle(content(2, count))
    calls = undisturbed.calls.total()
    assert calls >= 5
    points = list(product(range(calls), ("before", "after")))
    seen = {"old": 0, "new": 0}
    for version, (number, moment) in enumerate([*points, (-1, "during the fetch")], start=3):
        old, new = content(version - 1, count), content(version, count)
        rig.replace(new)
        rig.provider.on_fetch = die if number < 0 else lambda: None
        with pytest.raises(Killed):
            rig.sync(UnreliableClient(rig.table.client, kill_at(moment, number)))
        rig.provider.on_fetch = lambda: None
        found = rig.read()
        assert found in (old, new), f"a mix {moment} call {number}"
        seen["new" if found == new else "old"] += 1
        assert rig.sync().outcome in {"published", "unchanged"}
        assert rig.read() == new
        assert rows(rig) == new, f"rows {moment} call {number}"
    assert min(seen.values()) > 0, seen
    assert orphans(rig) == []
    print(
        f"{len(points) + 1} kill points of {count:,} flags: {seen['old']} saw the old set, "
        f"{seen['new']} the new one, 0 a mix; 0 orphans"
    )


def die() -> None:
    raise Killed


def orphans(rig: AnyRig) -> list[str]:
    """Return the chunks that no kept version names, and that never expire."""
    store = rig.store()
    kept = {version.token for version in store.state("prod").versions()}
    return [
        str(chunk["key"])
        for namespace in keys.chunks_namespaces("prod")
        for chunk in store.scan(namespace)
        if "expires_at" not in chunk and int(str(chunk["key"]).partition("/")[0]) not in kept
    ]


# -- Split's layout -------------------------------------------------------------------------------

INDEX = b"flagstore:{prod}:SPLITIO"
OLD_KEYS = [f"user-{n:04}" for n in range(100)]
NEW_KEYS = [f"user-{n:04}" for n in range(10, 120)]


def split_set(begin: int, version: int) -> dict[str, Any]:
    """Return a set of Split: flags that name their version, in a flag set."""
    more = {"version": version, "sets": ["all"], "trafficTypeName": "user"}
    return {name: {**new_flag(name), **more} for name in (f"flag-{n:03}" for n in range(begin, 50))}


def splits_rows(rig: RedisRig) -> dict[str, Any]:
    admin: Any = rig.server.admin
    found: dict[str, Any] = {}
    for key in admin.keys("{prod}.SPLITIO.*"):
        name = key.decode().partition(".SPLITIO.")[2]
        if admin.type(key) == b"set":
            found[name] = sorted(member.decode() for member in admin.smembers(key))
        else:
            found[name] = json.loads(admin.get(key))
    return found


def expected(flags: dict[str, Any], members: list[str]) -> dict[str, Any]:
    """Return the data that they must read of a set."""
    rows = {f"split.{name}": flag for name, flag in flags.items()}
    made = {"flagSet.all": sorted(flags), "trafficType.user": len(flags)}
    return {**rows, **made, "segment.many": members}


@pytest.mark.parametrize(
    "step", [3, pytest.param(1, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_kill_points_of_splits_rows(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A segment in parts, 50 flags and a flag set are never partial, and the next sync recovers."""
    monkeypatch.setattr("storesync.rows.PART_BYTES", 400)
    monkeypatch.setattr("storesync.publisher.REDIS_KB", 3)
    old_flags, new_flags = split_set(0, 1), split_set(10, 2)
    old, new = expected(old_flags, OLD_KEYS), expected(new_flags, NEW_KEYS)
    seen, parts = {"old": 0, "new": 0, "between": 0}, 0
    with closing(RedisRig(redis_server, ModelProvider(name="split"))) as rig:

        def prepare() -> None:
            """Bring the store to the old set, rows included, and the provider to the new one."""
            rig.provider.segments = {"many": {"name": "many", "keys": OLD_KEYS}}
            rig.settle(old_flags)
            assert splits_rows(rig) == old
            rig.provider.segments = {"many": {"name": "many", "keys": NEW_KEYS}}
            rig.replace(new_flags)

        prepare()
        undisturbed = UnreliableClient(rig.table.client)
        rig.sync(undisturbed)
        calls = undisturbed.calls.total()
        assert calls >= 10
        numbers = sorted({*range(0, calls, step), calls - 1})
        for number, moment in product(numbers, ("before", "after")):
            prepare()
            with pytest.raises(Killed):
                rig.sync(UnreliableClient(rig.table.client, kill_at(moment, number)))
            assert rig.read() in (old_flags, new_flags)
            found = splits_rows(rig)
            for name, item in found.items():
                assert item in (old.get(name), new.get(name)), f"{moment} call {number}: {name}"
            for key in set(redis_server.admin.keys("flagstore:{prod}:SPLITIO*")) - {INDEX}:
                assert 0 < redis_server.admin.ttl(key) <= 3_600, "parts must expire"
                parts += 1
            seen["old" if found == old else "new" if found == new else "between"] += 1
            rig.sync()
            assert splits_rows(rig) == new, f"rows {moment} call {number}"
            assert redis_server.admin.keys("flagstore:{prod}:SPLITIO*") == [INDEX]
            assert redis_server.admin.ttl("{prod}.SPLITIO.segment.many") == -1
    assert min(*seen.values(), parts) > 0, seen
    print(f"{sum(seen.values())} kill points, Split's rows in Redis: {seen}")
