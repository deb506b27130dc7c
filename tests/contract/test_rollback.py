"""Operations on a source work in every store: roll back, unpin, remove, restore."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import keys
from flagstore.clients import Client
from flagstore.keys import Key
from simulators.clock import FakeClock
from simulators.provider import ModelProvider, NoHttp
from storesync.cli.context import ReaderStore
from storesync.maintenance import mark_removed, restore_source, roll_back, unpin
from storesync.model import Report, Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline, SystemClock
from storesync.stores.dynamodb import DynamoDBStore
from storesync.stores.redis import RedisStore
from storesync.stores.redis_client import open_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.aws import Table
    from simulators.redis_server import Server
    from storesync.store import Store

BIG = {f"f{n}": {"key": f"f{n}", "version": 1, "x": "y" * 50} for n in range(150)}
SEGMENTS = {
    "large": {"key": "large", "version": 1, "included": [f"user-{n}" for n in range(5_000)]},
}
SOURCE = Source("prod", "launchdarkly", "https://model.example", Secret("k"))


def deadline() -> Deadline:
    """Return time enough."""
    return Deadline(SystemClock(), random.Random(1), 60)


@pytest.fixture(params=["dynamodb", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Give an empty store, with LaunchDarkly's rows in its own layout."""
    if request.param == "dynamodb":
        table: Table = request.getfixturevalue("dynamodb_table")
        yield DynamoDBStore(table.client, table.name, deadline())
        return
    server: Server = request.getfixturevalue("redis_server")
    with open_redis(server.url()) as client:
        yield RedisStore(client, deadline(), native="launchdarkly")


class Rig:
    """One source in a store."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        in_redis = isinstance(store, RedisStore)
        self.source = replace(SOURCE, store="redis" if in_redis else "dynamodb")
        monkeypatch.setattr(keys, "INLINE_BYTES", 0)  # chunks in any case
        self.store = store
        self.clock = FakeClock()
        self.provider = ModelProvider(dict(BIG), dict(SEGMENTS), name="launchdarkly")

    def sync(self, **flags: Any) -> Report:
        """Change flags, and run one sync."""
        self.provider.change(**flags)
        self.clock.advance(60)
        time = Deadline(self.clock, random.Random(1), 60)
        http: Any = NoHttp()
        report = Sync(self.source, self.provider, self.store, http=http, deadline=time).run(
            [SyncRequest("prod", trigger="schedule")]
        )
        assert report.rows_error == ""
        return report

    def rows(self) -> dict[str, Any]:
        """Return the rows by key."""
        found = self.store.scan("prod:features")
        return {str(row["key"]): row["version"] for row in found}

    def read(self) -> tuple[int, int]:
        """Return how many flags a cold reader gets, and how many members of the segment."""
        client = Client("prod", store=ReaderStore(self.store))
        return len(client), len(client.snapshot().item("segments", "large")["included"])


@pytest.fixture
def rig(store: Store, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Give a source that was published twice."""
    return Rig(store, monkeypatch)


def test_rollback_and_unpin(rig: Rig) -> None:
    """Snapshot, chunks, large segments and rows follow; then the provider's set."""
    first = rig.sync().token
    fewer = [f"user-{n}" for n in range(4_000)]
    rig.provider.segments = {"large": {**SEGMENTS["large"], "included": fewer, "version": 2}}
    rig.sync(f0=None)
    assert rig.read() == (149, 4_000)
    until = int((rig.clock.now() + 3_600) * 1000)
    report = roll_back(rig.source, rig.store, rig.clock, to=first, pinned_until=until)
    assert report.rows_error == ""
    assert (report.changes.added, report.changes.changed) == (("flags/f0",), ("segments/large",))
    assert rig.read() == (150, 5_000)
    assert "f0" in rig.rows()
    assert rig.sync(f1=None).outcome == "pinned"
    assert unpin("prod", rig.store, rig.clock)
    assert rig.sync().outcome == "published"
    assert rig.read() == (148, 4_000)
    assert rig.rows().keys() == rig.provider.flags.keys()


@pytest.mark.parametrize("purge", [False, True])
def test_remove_and_restore(rig: Rig, purge: bool) -> None:
    """A purge leaves nothing but the source state, not even LaunchDarkly's rows and mark."""
    rig.sync()
    token = mark_removed("prod", rig.store, rig.clock, purge=purge)
    if purge:
        names = (
            *keys.row_namespaces("prod"),
            keys.history_key("prod", 0).namespace,
            keys.chunks_namespace("prod"),
            keys.pending_namespace("prod"),
        )
        assert [record for name in names for record in rig.store.scan(name)] == []
        assert rig.store.read(keys.snapshot_key("prod")) is None
        assert rig.store.read(Key("prod:$inited", "prod:$inited")) is None
    else:
        assert rig.read() == (150, 5_000)
    assert rig.sync().outcome == "pinned"
    assert restore_source("prod", rig.store)
    report = rig.sync(f0=None)
    assert (report.outcome, report.token > token) == ("published", True)
    assert rig.read() == (149, 5_000)


def test_rollback_without_rows(rig: Rig) -> None:
    """Rows stay as they are, as with a sync of such a source."""
    first = rig.sync().token
    rig.sync(f0=None)
    source = replace(rig.source, rows=False)
    until = int((rig.clock.now() + 60) * 1000)
    roll_back(source, rig.store, rig.clock, to=first, pinned_until=until)
    assert "f0" not in rig.rows()
