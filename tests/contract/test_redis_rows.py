"""LaunchDarkly's and Split's rows in Redis: what each write costs, touches and leaves."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from contract.store_contract import FLOOR, LATER, record
from contract.test_redis import IN_URL, LINES, add_user, dump, opened
from flagstore.keys import Key
from rigs import RedisRig
from simulators.provider import ModelProvider
from storesync.errors import StoreError
from storesync.maintenance import roll_back, unpin
from storesync.store import Condition, Delete, Expire, Put
from storesync.stores.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.redis_server import Server

FEATURES, SEGMENTS, MARKER = b"{prod}:features", b"{prod}:segments", b"{prod}:$inited"
HOUR_S = 3_601.0
LAUNCHDARKLY = "launchdarkly"
FLAGS = {
    "a": {"key": "a", "version": 3, "on": True, "name": "ü 🙂"},
    "b": {"key": "b", "version": 10**12, "variations": [1, 1.0, None]},
}
SEGMENT = {"s": {"key": "s", "version": 7, "included": ["x"]}}


@pytest.fixture
def rig(redis_server: Server) -> Iterator[RedisRig]:
    provider = ModelProvider(dict(FLAGS), dict(SEGMENT), name="launchdarkly")
    with closing(RedisRig(redis_server, provider)) as rig:
        yield rig


def rows(rig: RedisRig) -> dict[bytes, Any]:
    admin = rig.server.admin
    reads: dict[bytes, Any] = {b"hash": admin.hgetall, b"string": admin.get}
    keys: Any = admin.keys("{prod}:*")
    return {key: reads[bytes(admin.type(key))](key) for key in keys}  # type: ignore[arg-type] # not awaitable


def own(rig: RedisRig) -> set[bytes]:
    keys: Any = rig.server.admin.keys("flagstore:{prod}:*")
    return {key for key in keys if not key.startswith(b"flagstore:{prod}:$")}


def lines(items: dict[str, Any]) -> dict[bytes, bytes]:
    return {
        key.encode(): json.dumps(item, separators=(",", ":")).encode()
        for key, item in items.items()
    }


def required(rig: RedisRig) -> dict[bytes, Any]:
    hashes = {FEATURES: lines(rig.provider.flags), SEGMENTS: lines(rig.provider.segments)}
    return {name: items for name, items in hashes.items() if items} | {MARKER: b""}


# -- the layout -----------------------------------------------------------------------------------


def test_layout_is_launchdarklys(rig: RedisRig) -> None:
    """Byte for byte: keys, types, fields, values; without TTL."""
    rig.sync()
    assert rows(rig) == {
        FEATURES: {
            b"a": b'{"key":"a","version":3,"on":true,"name":"\\u00fc \\ud83d\\ude42"}',
            b"b": b'{"key":"b","version":1000000000000,"variations":[1,1.0,null]}',
        },
        SEGMENTS: {b"s": b'{"key":"s","version":7,"included":["x"]}'},
        MARKER: b"",
    }
    assert rows(rig) == required(rig)
    assert own(rig) == set()
    assert {at for _, at in dump(rig.server).values()} == {-1}


def watch(monkeypatch: pytest.MonkeyPatch, seen: Any) -> None:
    commit = RedisStore.commit

    def watched(self: RedisStore, *args: Any) -> None:
        commit(self, *args)
        seen(args[3] if len(args) > 3 else ())

    monkeypatch.setattr(RedisStore, "commit", watched)


def put_keys(writes: Any) -> list[str]:
    rows = [write.record for write in writes if isinstance(write, Put)]
    return [row["key"] for row in rows if not row["namespace"].startswith("prod:$")]


def test_records_are_read_back(redis_server: Server) -> None:
    """In order of keys, each with its version; the mark without any; page by page."""
    rows = [
        record(
            "prod:features", f"{n:04}é", item=json.dumps({"version": n, "x": "y" * 99}), version=n
        )
        for n in range(500)
    ]
    marker = record("prod:$inited", "prod:$inited")
    with opened(redis_server, native=LAUNCHDARKLY) as store:
        for at in range(0, 500, 99):
            store.commit("prod", Condition(), {}, [Put(row) for row in rows[at : at + 99]])
        store.commit("prod", Condition(), {}, [Put(marker)])
        assert list(store.scan("prod:features")) == rows
        assert list(store.scan("prod:features", "004")) == rows[40:50]
        assert list(store.scan("prod:$inited")) == [marker]
        store.commit("prod", Condition(), {}, [Delete(Key("prod:$inited", "prod:$inited"))])
        assert list(store.scan("prod:$inited")) == []


def test_changed_and_removed_rows(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged check, hourly or not, writes none; a hash without fields disappears."""
    rig.provider.flags["without"] = {"key": "without", "version": True}
    rig.sync()
    written: list[str] = []
    watch(monkeypatch, lambda writes: written.extend(put_keys(writes)))
    rig.sync()
    rig.sync(step_s=HOUR_S)
    rig.provider.change(a={"key": "a", "version": 4})
    rig.sync()
    assert written == ["a"]
    rig.provider.segments.clear()
    rig.provider.change(a=None)
    rig.sync()
    assert rows(rig) == required(rig)
    assert rows(rig).keys() == {FEATURES, MARKER}


def test_hourly_check_repairs_rows(rig: RedisRig) -> None:
    """Changed, missing and surplus rows, of any bytes."""
    rig.sync()
    admin = rig.server.admin
    admin.hset("{prod}:features", "a", '{"key":"a","version":3,"on":false}')
    admin.hdel("{prod}:features", "b")
    for field in (b"more", b"\xff\xfe", b""):
        admin.hset("{prod}:features", field, b"\xff not JSON")
    admin.hset("{prod}:segments", "s", "[" * 100_000)
    rig.sync()
    assert rows(rig) != required(rig)
    rig.sync(step_s=HOUR_S)
    assert rows(rig) == required(rig)


def test_other_keys_are_not_touched(rig: RedisRig) -> None:
    """Beside LaunchDarkly's rows, and at their very keys if the source never had any."""
    admin = rig.server.admin
    for name in ("prod:features", "{prod}:other", "{prod-eu}:features", "launchdarkly:features"):
        admin.hset(name, "field", "value")
    for name in ("prod", "prod:$state", "flagstore:prod:flags", "flagstore:{prod-eu}:x"):
        admin.set(name, "text", ex=3_600)
    before = dump(rig.server)
    rig.sync()
    rig.provider.name = "model"
    rig.sync(step_s=HOUR_S)
    after = dump(rig.server)
    assert {key: after[key] for key in before} == before
    assert all(key.startswith(b"flagstore:{prod}:") for key in after.keys() - before.keys())
    admin.flushall()
    for key in (FEATURES, SEGMENTS, MARKER):
        admin.rpush(key.decode(), "theirs")
    before = dump(rig.server)
    for _ in range(2):
        rig.provider.change(a={"key": "a", "version": rig.provider.revision})
        rig.sync(step_s=HOUR_S)
    after = dump(rig.server)
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("published", ["launchdarkly", "split", "model"])
@pytest.mark.parametrize("today", ["launchdarkly", "split", "model"])
def test_rollback_to_another_provider(rig: RedisRig, published: str, today: str) -> None:
    """Rows are as that provider's SDKs had them, and today's are gone until the pin ends."""

    def all_rows() -> dict[bytes, bytes]:
        found = dump(rig.server).items()
        return {key: text for key, (text, _) in found if not key.startswith(b"flagstore:{prod}:$")}

    rig.provider.segments = {"s": {**SEGMENT["s"], "keys": ["x"]}}
    rig.provider.name = published
    rig.sync()
    first, former = rig.store().state("prod").published, all_rows()
    rig.provider.name = today
    rig.provider.change(c={"key": "c", "version": 1, "trafficTypeName": "user"})
    rig.sync()
    latest = all_rows()
    for _ in range(2):
        report = roll_back(rig.source(), rig.store(), rig.clock, to=first, pinned_until=2**50)
        assert report.rows_error == ""
        assert all_rows() == former
    assert len(json.loads(rig.store().state("prod").rows_at)) <= 1
    assert unpin("prod", rig.store(), rig.clock)
    assert rig.sync().outcome == "published"
    assert all_rows() == latest


def test_rollback_leaves_rows_that_are_turned_off(rig: RedisRig) -> None:
    """Another writer may maintain them, whatever the version's provider."""
    rig.provider.name = "launchdarkly"
    rig.sync()
    first = rig.store().state("prod").published
    rig.provider.name = "split"
    rig.provider.change(c={"key": "c", "version": 1, "trafficTypeName": "user"})
    rig.sync()
    rows = {key for key in dump(rig.server) if b"SPLITIO" in key}
    source = replace(rig.source(), rows=False)
    roll_back(source, rig.store(), rig.clock, to=first, pinned_until=2**50)
    assert rows
    assert {key for key in dump(rig.server) if b"SPLITIO" in key} == rows


# -- what fails, fails before anything is written -------------------------------------------------

PARTS = [
    Put(record("prod:SPLITIO", "segment.t", item='["a"]', part=0, parts=2, members=2)),
    Put(record("prod:SPLITIO", "segment.t", item='["b"]', part=1, parts=2, members=2)),
]
SNAPSHOT = Put(record("prod:$snapshot", "1", token=1))
WRITES = {
    "": [
        SNAPSHOT,
        Delete(Key("prod:flags", "a")),
        Expire(Key("prod:$body", "1/000"), LATER),
    ],
    "launchdarkly": [
        SNAPSHOT,
        Put(record("prod:features", "a", item="{}", version=1)),
        Delete(Key("prod:segments", "s")),
        Put(record("prod:$inited", "prod:$inited")),
    ],
    "split": [
        SNAPSHOT,
        Put(record("prod:SPLITIO", "segment.s", item='["a"]')),
        *PARTS,
        Put(record("prod:SPLITIO", "split.f", item="{}")),
        Delete(Key("prod:SPLITIO", "flagSet.x")),
        Delete(Key("prod:SPLITIO", "trafficType.y")),
    ],
}
NATIVE = pytest.mark.parametrize("native", ["launchdarkly", "split"])


@pytest.mark.parametrize(
    "key",
    [
        *("flagstore:{prod}:$state:state", "flagstore:{prod}:flags"),
        *("flagstore:{prod}:flags:a", "flagstore:{prod}:$body:1/000"),
        *("{prod}:features", "{prod}:segments", "{prod}:$inited"),
        *("{prod}.SPLITIO.segment.s", "{prod}.SPLITIO.segment.t", "{prod}.SPLITIO.split.f"),
        *("{prod}.SPLITIO.flagSet.x", "{prod}.SPLITIO.trafficType.y"),
    ],
)
def test_key_of_another_type_is_reported(redis_server: Server, key: str) -> None:
    """It is another application's: no script begins that would fail midway, and it stays."""
    redis_server.admin.rpush(key, "theirs")
    before = dump(redis_server)
    native = "split" if "SPLITIO" in key else "launchdarkly" if key.startswith("{") else ""
    failed = pytest.raises(StoreError, match=f"WRONGTYPE .*{re.escape(key)}")
    with opened(redis_server, native=native) as store, failed:
        store.commit("prod", Condition(), {"token": 1}, WRITES[native])
    assert dump(redis_server) == before


@NATIVE
def test_full_memory(redis_server: Server, native: str) -> None:
    """Whatever the order of the writes, nothing is written; deletes still work."""
    writes = WRITES[native]
    with opened(redis_server, native=native) as store:
        store.commit("prod", Condition(), {"token": 1}, writes)
        before = dump(redis_server)
        redis_server.admin.config_set("maxmemory", 1)
        for start in (0, 1, 2, 4) if native == "split" else (0, 1, 2):
            with pytest.raises(StoreError, match="OOM"):
                store.commit("prod", Condition(), {}, writes[start:])
            assert dump(redis_server) == before
        rows = [write.record for write in writes[1:] if isinstance(write, Put)]
        gone = {Key(str(row["namespace"]), str(row["key"])) for row in rows}
        store.commit("prod", Condition(), {}, [*map(Delete, gone)])
        assert dump(redis_server).keys() == {
            b"flagstore:{prod}:$state:state",
            b"flagstore:{prod}:$snapshot",
            b"flagstore:{prod}:$snapshot:1",
        }


@pytest.mark.parametrize(
    ("native", "keys", "written"),
    [
        ("launchdarkly", "~{prod}:*", {"prod:features": ["a"]}),
        ("split", "~{prod}.SPLITIO.*", {"prod:SPLITIO": ["segment.s", "segment.t", "split.f"]}),
    ],
)
def test_documented_rights(
    redis_server: Server, native: str, keys: str, written: dict[str, list[str]]
) -> None:
    """Without rights to a layout's keys, nothing is written; other sources need none."""
    rules = LINES["storesync"]
    add_user(redis_server, "storesync", rules)
    add_user(redis_server, "less", [rule for rule in rules if rule != keys])
    refused = pytest.raises(StoreError, match=r"NOPERM.*docs/redis\.md")
    with opened(redis_server, "less", IN_URL, native=native) as store, refused:
        store.next_token("prod", FLOOR)
    assert dump(redis_server) == {}
    with opened(redis_server, "less", IN_URL) as store:
        store.next_token("prod", FLOOR)
        store.commit("prod", Condition(), {"rows_version": 1}, [SNAPSHOT])
    with opened(redis_server, "storesync", IN_URL, native=native) as store:
        store.commit("prod", Condition(), {}, WRITES[native])
        for namespace, names in written.items():
            assert [row["key"] for row in store.scan(namespace)] == names


# -- parts of a large set --------------------------------------------------------------------------


@NATIVE
def test_rows_share_the_slot_of_the_state(redis_cluster: list[Server], native: str) -> None:
    """The hash tag brings them to the source's node of a cluster: one script writes everything."""
    with opened(redis_cluster[0], native=native) as store:
        store.commit("prod", Condition(), {"token": 1}, WRITES[native])
    (node,) = [server for server in redis_cluster if server.admin.dbsize()]
    assert len(dump(node)) == (5 if native == "launchdarkly" else 7)


@pytest.mark.parametrize("writes", [PARTS[1:], [PARTS[0], PARTS[0], PARTS[1], PARTS[1]]])
def test_incomplete_set_is_refused(redis_server: Server, writes: Any) -> None:
    """Nothing of that commit is written; nor is it if members came twice."""
    with opened(redis_server, native="split") as store:
        before = dump(redis_server)
        with pytest.raises(StoreError, match="parts are missing"):
            store.commit("prod", Condition(), {"token": 1}, [SNAPSHOT, *writes])
        assert dump(redis_server) == before


def test_abandoned_parts_do_not_count(redis_server: Server) -> None:
    """The first part starts over, in one commit with the others or alone."""
    old = record("prod:SPLITIO", "segment.t", item='["x","y"]', part=0, parts=2, members=3)
    with opened(redis_server, native="split") as store:
        for steps in ([PARTS], [PARTS[:1], PARTS[1:]]):
            store.commit("prod", Condition(), {}, [Put(old)])
            for writes in steps:
                store.commit("prod", Condition(), {}, writes)
            assert redis_server.admin.smembers("{prod}.SPLITIO.segment.t") == {b"a", b"b"}
