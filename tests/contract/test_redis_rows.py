"""LaunchDarkly's rows in Redis: the layout that its SDKs read, and nothing else."""

from __future__ import annotations

import json
import random
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from contract.store_contract import FLOOR, StoreContract, record
from contract.test_redis import IN_URL, LINES, add_user, dump
from flagstore.keys import Key, row_marker, row_namespaces
from simulators.clock import FakeClock
from simulators.provider import ModelProvider, NoHttp
from simulators.split_flags import new_flag
from storesync.errors import StoreError
from storesync.model import FlagSet, Report, Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline, SystemClock
from storesync.rows import plan_whole
from storesync.store import Condition, Delete, Put
from storesync.stores import Stores
from storesync.stores.redis import RedisStore
from storesync.stores.redis_client import open_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.redis_server import Server
    from storesync.store import Store

FEATURES, SEGMENTS, MARKER = b"{prod}:features", b"{prod}:segments", b"{prod}:$inited"
HOUR_S = 3_601.0
LAUNCHDARKLY = "launchdarkly"
FLAGS = {
    "a": {"key": "a", "version": 3, "on": True, "name": "ü 🙂"},
    "b": {"key": "b", "version": 10**12, "variations": [1, 1.0, None]},
}
SEGMENT = {"s": {"key": "s", "version": 7, "included": ["x"]}}


@contextmanager
def opened(
    server: Server, user: str = "", password: str = "", *, native: str = LAUNCHDARKLY
) -> Iterator[RedisStore]:
    """Give a store as a sync of a LaunchDarkly source would open it."""
    deadline = Deadline(SystemClock(), random.Random(1), 30)
    with open_redis(server.url(user, password)) as client:
        yield RedisStore(client, deadline, native=native)


class Rig:
    """One source, whose provider may change."""

    def __init__(self, server: Server, provider: ModelProvider | None = None) -> None:
        self.server = server
        self.clock = FakeClock(1_795_000_000.0)
        self.provider = provider or ModelProvider(dict(FLAGS), dict(SEGMENT), name="launchdarkly")
        no_table: Any = None
        self.stores = Stores(no_table, "")
        self.rows_kept = True

    def close(self) -> None:
        """Close the connections."""
        for client in self.stores._servers.values():
            client.close()

    def store(self) -> Any:
        """Return the store that the sync function would open."""
        url = Secret(self.server.url())
        options: Any = {"store": "redis", "store_url": url, "rows": self.rows_kept}
        source = Source("prod", self.provider.name, "", Secret("k"), **options)
        deadline = Deadline(self.clock, random.Random(1), 60.0)
        return source, deadline, self.stores.open(source, deadline)

    def sync(self, *, step_s: float = 10.0, rows_error: str = "") -> Report:
        """Run one sync, some seconds after the last one."""
        self.clock.advance(step_s)
        source, deadline, store = self.store()
        sync = Sync(source, self.provider, store, http=NoHttp(), deadline=deadline)  # type: ignore[arg-type] # asks nothing
        report = sync.run([SyncRequest("prod", trigger="schedule")])
        assert rows_error in report.rows_error
        assert bool(rows_error) == bool(report.rows_error), report.rows_error
        return report

    def rows(self) -> dict[bytes, Any]:
        """Return all keys that LaunchDarkly's SDKs would read."""
        admin = self.server.admin
        reads: dict[bytes, Any] = {b"hash": admin.hgetall, b"string": admin.get}
        keys: Any = admin.keys("{prod}:*")
        return {key: reads[bytes(admin.type(key))](key) for key in keys}  # type: ignore[arg-type] # not awaitable

    def own(self) -> set[bytes]:
        """Return the keys of rows in flagstore's layout."""
        keys: Any = self.server.admin.keys("flagstore:{prod}:*")
        return {key for key in keys if not key.startswith(b"flagstore:{prod}:$")}


@pytest.fixture
def rig(redis_server: Server) -> Iterator[Rig]:
    """Give an empty server and a LaunchDarkly source."""
    with closing(Rig(redis_server)) as rig:
        yield rig


def lines(items: dict[str, Any]) -> dict[bytes, bytes]:
    """Return a hash as LaunchDarkly's SDKs read it."""
    return {
        key.encode(): json.dumps(item, separators=(",", ":")).encode()
        for key, item in items.items()
    }


def required(rig: Rig) -> dict[bytes, Any]:
    """Return all keys that must be there."""
    hashes = {FEATURES: lines(rig.provider.flags), SEGMENTS: lines(rig.provider.segments)}
    return {name: items for name, items in hashes.items() if items} | {MARKER: b""}


# -- the layout -----------------------------------------------------------------------------------


class TestNative(StoreContract):
    """A store that keeps LaunchDarkly's layout does all that others do."""

    @pytest.fixture
    def store(self, redis_server: Server) -> Iterator[Store]:
        """Give a store on an empty server."""
        with opened(redis_server) as store:
            yield store


class TestNativeCluster(StoreContract):
    """So does one on a cluster: the hash tag brings the rows to the source's node."""

    @pytest.fixture
    def store(self, redis_cluster: list[Server]) -> Iterator[Store]:
        """Give a store on an empty cluster."""
        with opened(redis_cluster[0]) as store:
            yield store

    def test_rows_share_the_states_slot(self, store: Store, redis_cluster: list[Server]) -> None:
        """One script wrote both, and the records come back."""
        row = record("prod:features", "a", item='{"version":2}', version=2)
        store.commit("prod", Condition(), {"token": 1}, [Put(row)])
        assert list(store.scan("prod:features")) == [row]
        (node,) = [server for server in redis_cluster if server.admin.dbsize()]
        assert dump(node).keys() == {FEATURES, b"flagstore:{prod}:$state:state"}


def test_layout_is_launchdarklys(rig: Rig) -> None:
    """Byte for byte: keys, types, fields, values; without TTL."""
    rig.sync()
    assert rig.rows() == {
        FEATURES: {
            b"a": b'{"key":"a","version":3,"on":true,"name":"\\u00fc \\ud83d\\ude42"}',
            b"b": b'{"key":"b","version":1000000000000,"variations":[1,1.0,null]}',
        },
        SEGMENTS: {b"s": b'{"key":"s","version":7,"included":["x"]}'},
        MARKER: b"",
    }
    assert rig.rows() == required(rig)
    assert rig.own() == set()
    assert {at for _, at in dump(rig.server).values()} == {-1}


def test_records_are_read_back(redis_server: Server) -> None:
    """In order of keys, each with its version; the mark without any; page by page."""
    rows = [
        record(
            "prod:features", f"{n:04}é", item=json.dumps({"version": n, "x": "y" * 99}), version=n
        )
        for n in range(500)
    ]
    marker = record("prod:$inited", "prod:$inited")
    with opened(redis_server) as store:
        assert store.read(Key("prod:$inited", "prod:$inited")) is None
        for at in range(0, 500, 99):
            store.commit("prod", Condition(), {}, [Put(row) for row in rows[at : at + 99]])
        store.commit("prod", Condition(), {}, [Put(marker)])
        assert list(store.scan("prod:features")) == rows
        assert list(store.scan("prod:features", "004")) == rows[40:50]
        assert store.read(Key("prod:features", "0007é")) == rows[7]
        assert store.read(Key("prod:features", "none")) is None
        assert list(store.scan("prod:$inited")) == [marker]
        store.commit("prod", Condition(), {}, [Delete(Key("prod:$inited", "prod:$inited"))])
        assert list(store.scan("prod:$inited")) == []


def test_mark_is_written_last(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a set of several commits: while rows are missing, there is no mark."""
    rig.provider.flags = {f"f{n}": {"key": f"f{n}", "version": 1} for n in range(250)}
    seen: list[tuple[Any, Any]] = []
    commit = RedisStore.commit

    def watched(self: RedisStore, *args: Any) -> None:
        commit(self, *args)
        seen.append((rig.server.admin.hlen("{prod}:features"), rig.server.admin.exists(MARKER)))

    monkeypatch.setattr(RedisStore, "commit", watched)
    rig.sync()
    partial = [marked for number, marked in seen if 0 < number < 250]
    assert partial
    assert not any(partial)
    assert seen[-1] == (250, 1)


def test_only_changed_rows_are_written(rig: Rig) -> None:
    """Between two hourly checks, rows of other flags are not touched."""
    rig.sync()
    rig.server.admin.hset("{prod}:features", "b", "left alone")
    rig.provider.change(a={"key": "a", "version": 4})
    rig.sync()
    expected = lines({"a": {"key": "a", "version": 4}}) | {b"b": b"left alone"}
    assert rig.rows()[FEATURES] == expected


def test_removed_rows(rig: Rig) -> None:
    """No tombstones; a hash without fields disappears, the mark stays."""
    rig.sync()
    rig.provider.segments.clear()
    rig.provider.change(a=None)
    rig.sync()
    assert rig.rows() == required(rig)
    assert rig.rows().keys() == {FEATURES, MARKER}


# -- the hourly check -----------------------------------------------------------------------------


def test_hourly_check_repairs_rows(rig: Rig) -> None:
    """Changed, missing and surplus rows, of any bytes."""
    rig.sync()
    admin = rig.server.admin
    admin.hset("{prod}:features", "a", '{"key":"a","version":3,"on":false}')
    admin.hdel("{prod}:features", "b")
    for field in (b"more", b"\xff\xfe", b""):
        admin.hset("{prod}:features", field, b"\xff not JSON")
    admin.hset("{prod}:segments", "s", "[" * 100_000)
    rig.sync()
    assert rig.rows() != required(rig)
    rig.sync(step_s=HOUR_S)
    assert rig.rows() == required(rig)


def test_hourly_check_of_intact_rows(rig: Rig) -> None:
    """Stored rows compare equal to the planned ones, the mark included."""
    rig.provider.flags["without"] = {"key": "without", "version": True}
    rig.sync()
    _, _, store = rig.store()
    flag_set = FlagSet("launchdarkly", {"flags": rig.provider.flags, "segments": SEGMENT})
    present = {
        Key(name, str(row["key"])): row
        for name in row_namespaces("prod")
        for row in store.scan(name)
    }
    assert row_marker("prod", "launchdarkly") in present
    assert plan_whole("prod", flag_set, present, store.state("prod").published).writes == ()


# -- another provider -----------------------------------------------------------------------------


def test_changed_provider_leaves_no_launchdarkly_rows(rig: Rig) -> None:
    """Nor do the other provider's rows stay on the way back."""
    rig.sync()
    rig.provider.name = "model"
    rig.provider.revision += 1
    rig.sync()
    assert rig.rows() == {}
    assert {b"flagstore:{prod}:flags:a", b"flagstore:{prod}:segments:s"} <= rig.own()
    rig.provider.name = "launchdarkly"
    rig.provider.segments["t"] = rig.provider.segments.pop("s")
    rig.provider.revision += 1
    rig.sync()
    assert rig.rows() == required(rig)
    assert rig.own() == set()


def test_other_keys_are_not_touched(rig: Rig) -> None:
    """Beside LaunchDarkly's rows, and at their very keys if the source never had any."""
    admin = rig.server.admin
    for name in ("prod:features", "{prod}:other", "{prod-eu}:features", "launchdarkly:features"):
        admin.hset(name, "field", "value")
    before = dump(rig.server)
    rig.sync()
    rig.provider.name = "model"
    rig.sync(step_s=HOUR_S)
    after = dump(rig.server)
    assert {key: after[key] for key in before} == before
    admin.flushall()
    for key in (FEATURES, SEGMENTS, MARKER):
        admin.rpush(key.decode(), "theirs")
    before = dump(rig.server)
    for _ in range(2):
        rig.provider.change(a={"key": "a", "version": rig.provider.revision})
        rig.sync(step_s=HOUR_S)
    after = dump(rig.server)
    assert {key: after[key] for key in before} == before


# -- what fails, fails before anything is written -------------------------------------------------

WRITES = [
    Put(record("prod:$snapshot", "1", token=1)),
    Put(record("prod:features", "a", item="{}", version=1)),
    Delete(Key("prod:segments", "s")),
    Put(record("prod:$inited", "prod:$inited")),
]


@pytest.mark.parametrize("key", [FEATURES, SEGMENTS, MARKER])
def test_key_of_another_type_is_reported(redis_server: Server, key: bytes) -> None:
    """It is another application's: nothing is written, and it stays."""
    redis_server.admin.zadd(key, {"theirs": 1})
    before = dump(redis_server)
    with opened(redis_server) as store, pytest.raises(StoreError, match="WRONGTYPE") as failed:
        store.commit("prod", Condition(), {"token": 1}, WRITES)
    assert key.decode() in str(failed.value)
    assert dump(redis_server) == before


def test_full_memory(redis_server: Server) -> None:
    """Whatever the order of the writes, nothing is written; deletes still work."""
    with opened(redis_server) as store:
        store.commit("prod", Condition(), {"token": 1}, WRITES)
        before = dump(redis_server)
        redis_server.admin.config_set("maxmemory", 1)
        for writes in (WRITES, WRITES[1:], WRITES[2:]):
            with pytest.raises(StoreError, match="OOM"):
                store.commit("prod", Condition(), {}, writes)
            assert dump(redis_server) == before
        store.commit("prod", Condition(), {}, [Delete(Key("prod:features", "a"))])
        assert FEATURES not in dump(redis_server)


def test_documented_rights(redis_server: Server) -> None:
    """Without rights to LaunchDarkly's keys, nothing is written; other sources need none."""
    rules = LINES["storesync"]
    add_user(redis_server, "storesync", rules)
    add_user(redis_server, "less", [rule for rule in rules if rule != "~{prod}:*"])
    refused = pytest.raises(StoreError, match=r"NOPERM.*docs/redis\.md")
    with opened(redis_server, "less", IN_URL) as store, refused:
        store.next_token("prod", FLOOR)
    assert dump(redis_server) == {}
    with opened(redis_server, "less", IN_URL, native="") as store:
        store.next_token("prod", FLOOR)
        store.commit("prod", Condition(), {"rows_version": 1}, WRITES)
    redis_server.admin.flushall()
    with opened(redis_server, "storesync", IN_URL) as store:
        store.commit("prod", Condition(), {"token": 1}, WRITES)
        assert [row["key"] for row in store.scan("prod:features")] == ["a"]
    with opened(redis_server, "storesync", IN_URL, native="") as store:
        store.next_token("prod", FLOOR)
        store.commit("prod", Condition(), {"rows_version": 1})
    assert not redis_server.admin.exists(FEATURES, SEGMENTS, MARKER)


@pytest.mark.parametrize("name", ["model", "launchdarkly", "split"])
def test_evicted_rows_are_written_by_the_next_check(redis_server: Server, name: str) -> None:
    """In every layout, and long before the hourly comparison of all rows."""
    flags: dict[str, Any] = {"a": dict(FLAGS["a"])} if name != "split" else {"a": new_flag("a")}
    provider = ModelProvider(flags, name=name)
    with closing(Rig(redis_server, provider)) as rig:
        rig.sync()
        admin: Any = redis_server.admin
        patterns = ["{prod}[.:]*", "flagstore:{prod}:flags:*", "flagstore:{prod}:features:*"]
        rows = [key for pattern in patterns for key in admin.keys(pattern)]
        assert rows
        before = {key: admin.dump(key) for key in rows}
        for lost in rows:
            admin.delete(lost)
            assert rig.sync().outcome == "unchanged"
            assert {key: admin.dump(key) for key in rows} == before, lost
