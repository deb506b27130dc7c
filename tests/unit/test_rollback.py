"""Rollbacks, pins and removed sources: each step is conditional, whatever overlaps."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import keys
from flagstore.clients import Client
from flagstore.keys import Key, SourceState, history_key, snapshot_key, state_key
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import SOURCE, ModelProvider, NoHttp
from simulators.reader_store import RecordsReader
from storesync.errors import ConditionFailedError, CorruptStoreError, NotKeptError, NotSettledError
from storesync.maintenance import (
    ATTEMPTS,
    FOREVER_MS,
    mark_removed,
    restore_source,
    roll_back,
    unpin,
)
from storesync.model import Report, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flagstore.keys import Record

HOUR_S = 3_600
LARGE = {f"f{n}": random.Random(n).randbytes(400).hex() for n in range(1_000)}
"""Flags that no snapshot record can hold."""


class Rig:
    """A provider, a store, a clock, and an operator."""

    def __init__(self, *states: dict[str, Any], replicas: int = 1) -> None:
        self.clock = FakeClock()
        self.provider = ModelProvider(flags={})
        self.records: dict[Key, Record] = {}
        self.replicas = replicas
        self.tokens = [self.publish(state) for state in states]

    def store(self, step: Callable[[str], None] = lambda _: None) -> MemoryStore:
        """Return a store over the shared records."""
        return MemoryStore(self.records, step)

    def publish(self, flags: dict[str, Any]) -> int:
        """Let the provider have these flags, sync, and return the token of the snapshot record."""
        self.provider.flags = dict(flags)
        self.provider.revision += 1
        self.clock.advance(60)
        self.sync()
        return self.state().published

    def sync(self, store: MemoryStore | None = None) -> Report:
        """Run one sync of the schedule."""
        deadline = Deadline(self.clock, random.Random(1), 300)
        return Sync(
            SOURCE,
            self.provider,
            store or self.store(),
            http=NoHttp(),  # type: ignore[arg-type]
            deadline=deadline,
            replicas=self.replicas,
        ).run([SyncRequest("prod", trigger="schedule")])

    def roll_back(
        self, to: int, *, seconds: float = HOUR_S, store: MemoryStore | None = None, **more: Any
    ) -> Report:
        """Roll back, pinned for so long."""
        until = int((self.clock.now() + seconds) * 1000)
        return roll_back(
            replace(SOURCE, **more),
            store or self.store(),
            self.clock,
            to=to,
            pinned_until=until,
            replicas=self.replicas,
        )

    def state(self) -> SourceState:
        """Return the source state."""
        return SourceState.from_record(self.records.get(state_key("prod"), {}))

    def client(self) -> Client:
        """Return a reader that has read nothing yet."""
        return Client("prod", store=RecordsReader(self.records), ttl_s=0)

    def read(self) -> dict[str, Any]:
        """Return the flags that a cold reader gets."""
        client = self.client()
        return {key: client[key] for key in client}

    def rows(self) -> dict[str, Any]:
        """Return the rows."""
        return {
            key.key: json.loads(str(record["item"]))
            for key, record in self.records.items()
            if key.namespace == "prod:flags"
        }


def once(work: Callable[[], Any], at: str) -> Callable[[str], None]:
    """Return a step that works once, before a step of that name."""
    left = [work]

    def step(name: str) -> None:
        if name == at and left:
            left.pop()()

    return step


# -- rolling back -------------------------------------------------------------------------------


def test_rollback_publishes_an_old_version() -> None:
    """Readers and rows get it at once, since its fencing token is newer."""
    rig = Rig({"a": 1, "b": 1}, {"a": 2})
    warm = rig.client()
    assert warm["a"] == 2
    report = rig.roll_back(rig.tokens[0])
    assert report.outcome == "rolled back"
    assert report.token > rig.tokens[1]
    assert (report.changes.added, report.changes.changed) == (("flags/b",), ("flags/a",))
    assert warm["a"] == 1
    assert rig.read() == rig.rows() == {"a": 1, "b": 1}
    assert rig.state().rows_version == rig.state().published == report.token


def test_rollback_is_in_the_history() -> None:
    """It lists its changes, and can be rolled back while pinned."""
    rig = Rig({"a": 1}, {"a": 2})
    report = rig.roll_back(rig.tokens[0])
    changes = json.loads(str(rig.records[history_key("prod", report.token)]["changes"]))
    assert changes["changed"] == ["flags/a"]
    assert [version.token for version in rig.state().versions()] == [*rig.tokens, report.token]
    rig.roll_back(rig.tokens[1])
    assert rig.read() == {"a": 2}


def test_pin_of_a_rollback_ends() -> None:
    """While pinned nothing is published; then the next check publishes the provider's set."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.roll_back(rig.tokens[0], seconds=HOUR_S)
    assert rig.sync().outcome == "pinned"
    rig.clock.advance(HOUR_S - 1)
    assert rig.sync().outcome == "pinned"
    rig.clock.advance(1)
    assert rig.sync().outcome == "published"
    assert rig.read() == rig.rows() == {"a": 2}


def test_check_after_a_pin_sends_no_etag() -> None:
    """The provider's unchanged set is fetched again; the revision never goes back."""
    rig = Rig({"a": 1}, {"a": 2})
    etag, revision = rig.state().etag, rig.state().revision
    rig.roll_back(rig.tokens[0])
    assert etag
    assert (rig.state().etag, rig.state().revision) == ("", revision)
    assert unpin("prod", rig.store(), rig.clock)
    assert rig.sync().outcome == "published"


def test_rollback_writes_all_replicas_and_removes_others() -> None:
    """No surplus replica keeps the newer set."""
    rig = Rig({"a": 1}, {"a": 2}, replicas=3)
    rig.replicas = 2
    report = rig.roll_back(rig.tokens[0])
    snapshot_records = [rig.records.get(snapshot_key("prod", number)) for number in range(3)]
    assert [
        snapshot_record and snapshot_record["token"] for snapshot_record in snapshot_records
    ] == [report.token, report.token, None]


def test_rollback_to_a_missing_version() -> None:
    """The message lists the kept versions, and nothing changes but the counter."""
    rig = Rig({"a": 1}, {"a": 2})
    with pytest.raises(NotKeptError, match=f"it holds {rig.tokens[0]}, {rig.tokens[1]}"):
        rig.roll_back(7)
    assert rig.read() == {"a": 2}
    assert not rig.state().pinned


def test_damaged_snapshot_can_be_rolled_back() -> None:
    """It is not compared, and is replaced; a damaged version is never published."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.records[snapshot_key("prod")]["body"] = b"damaged"
    version = rig.records[history_key("prod", rig.tokens[0])]
    body, version["body"] = version["body"], b"damaged"
    with pytest.raises(CorruptStoreError):
        rig.roll_back(rig.tokens[0])
    version["body"] = body
    rig.roll_back(rig.tokens[0])
    assert rig.read() == {"a": 1}


def test_sync_under_way_loses_to_a_rollback() -> None:
    """It fetched before the rollback: the pin holds."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.provider.change(a=3)
    store = rig.store(once(lambda: rig.roll_back(rig.tokens[0]), "publish"))
    assert rig.sync(store).outcome == "pinned"
    assert rig.read() == rig.rows() == {"a": 1}


def test_sync_under_way_fetches_again_after_unpin() -> None:
    """A rollback is no fetch, so it does not satisfy the request."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.provider.change(a=3)

    def taken_back() -> None:
        rig.roll_back(rig.tokens[0])
        unpin("prod", rig.store(), rig.clock)

    report = rig.sync(rig.store(once(taken_back, "publish")))
    assert (report.outcome, report.fetches) == ("published", 2)
    assert rig.read() == {"a": 3}


def test_sync_is_satisfied_by_newer_check_after_pin_expires() -> None:
    """That check fetched later than the sync that lost."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.provider.change(a=3)

    def short() -> None:
        rig.roll_back(rig.tokens[0], seconds=10)
        rig.clock.advance(11)
        rig.sync()

    report = rig.sync(rig.store(once(short, "publish")))
    assert (report.outcome, report.fetches) == ("superseded", 1)
    assert rig.read() == {"a": 3}


def test_rollback_that_is_always_overtaken_gives_up() -> None:
    """Its fencing tokens are bounded, and nothing is pinned."""
    rig = Rig({"a": 1}, {"a": 2})
    busy = [False]

    def rival(name: str) -> None:
        if name == "publish" and not busy[0]:
            busy[0] = True
            rig.sync()
            busy[0] = False

    with pytest.raises(NotSettledError, match=str(ATTEMPTS)):
        rig.roll_back(rig.tokens[0], store=rig.store(rival))
    assert not rig.state().pinned


def test_rollback_with_a_lost_response_succeeds() -> None:
    """The repeated step finds its own fencing token in the source state."""
    rig = Rig({"a": 1}, {"a": 2})
    store = rig.store()
    commit = store.commit

    def twice(source: str, condition: Any, sets: Any, writes: Any = ()) -> None:
        commit(source, condition, sets, writes)
        if "pinned" in sets:
            commit(source, condition, sets, writes)

    store.commit = twice  # type: ignore[method-assign]
    assert rig.roll_back(rig.tokens[0], store=store).token == rig.state().published
    assert rig.rows() == {"a": 1}


# -- unpinning ----------------------------------------------------------------------------------


def test_unpin_without_a_pin() -> None:
    """It returns False and writes nothing."""
    rig = Rig({"a": 1})
    before = dict(rig.records)
    assert not unpin("prod", rig.store(), rig.clock)
    assert rig.records == before


def test_unpin_does_not_end_a_later_pin() -> None:
    """A rollback in between keeps its pin."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.roll_back(rig.tokens[0])
    store = rig.store(once(lambda: rig.roll_back(rig.tokens[1]), "pin"))
    with pytest.raises(ConditionFailedError):
        unpin("prod", store, rig.clock)
    assert rig.sync().outcome == "pinned"


# -- removed sources ----------------------------------------------------------------------------


def test_late_writer_cannot_restore_a_removed_source() -> None:
    """A sync under way loses; one from a cached configuration does nothing."""
    rig = Rig({"a": 1})
    rig.provider.change(a=2)
    store = rig.store(once(lambda: mark_removed("prod", rig.store(), rig.clock), "publish"))
    assert rig.sync(store).outcome == "pinned"
    rig.clock.advance(10 * 365 * 86_400)
    assert rig.sync().outcome == "pinned"
    assert rig.read() == {"a": 1}
    assert rig.state().pinned == FOREVER_MS


def test_purge_keeps_only_the_source_state() -> None:
    """The counter stays, and a warm reader keeps its flags."""
    big = {f"f{n}": random.Random(n).randbytes(400).hex() for n in range(1_000)}
    rig = Rig(big, {**big, "f0": 1})
    warm = rig.client()
    assert warm["f0"] == 1
    token = mark_removed("prod", rig.store(), rig.clock, purge=True)
    assert set(rig.records) == {state_key("prod")}
    assert warm["f0"] == 1
    assert warm.info().stale
    assert rig.state().token == token
    assert not rig.state().published


def test_removed_source_cannot_be_unpinned() -> None:
    """Its pin is the tombstone's."""
    rig = Rig({"a": 1})
    mark_removed("prod", rig.store(), rig.clock)
    assert not unpin("prod", rig.store(), rig.clock)
    assert rig.state().pinned == FOREVER_MS


def test_removed_source_cannot_be_rolled_back() -> None:
    """The pin of a rollback ends; that of a tombstone must not."""
    rig = Rig({"a": 1}, {"a": 2})
    mark_removed("prod", rig.store(), rig.clock)
    with pytest.raises(NotKeptError, match="'prod' has been removed"):
        rig.roll_back(rig.tokens[0])
    store = rig.store(once(lambda: mark_removed("prod", rig.store(), rig.clock), "publish"))
    restore_source("prod", rig.store())
    with pytest.raises(NotKeptError, match="'prod' has been removed"):
        rig.roll_back(rig.tokens[0], store=store)
    assert rig.state().pinned == FOREVER_MS
    assert rig.read() == {"a": 2}


def test_sync_fetches_again_after_its_source_is_restored() -> None:
    """A tombstone and its removal do not satisfy a request."""
    rig = Rig({"a": 1})
    rig.provider.change(a=2)

    def back_again() -> None:
        mark_removed("prod", rig.store(), rig.clock)
        restore_source("prod", rig.store())

    assert rig.sync(rig.store(once(back_again, "publish"))).outcome == "published"
    assert rig.read() == {"a": 2}


@pytest.mark.parametrize("purge", [False, True])
def test_restored_source_continues_the_counter(purge: bool) -> None:
    """Readers treat its publications as newer."""
    rig = Rig({"a": 1})
    warm = rig.client()
    assert warm["a"] == 1
    mark_removed("prod", rig.store(), rig.clock, purge=purge)
    assert restore_source("prod", rig.store())
    rig.provider.change(a=5)
    assert rig.sync().outcome == "published"
    assert warm["a"] == 5
    assert rig.rows() == {"a": 5}


def test_restored_source_has_the_nonce_of_its_token() -> None:
    """If the store loses a token meanwhile, no check in flight takes it for its own step."""
    rig = Rig({"a": 1})
    mark_removed("prod", rig.store(), rig.clock)
    _, in_flight = rig.store().next_token("prod", 0)
    assert restore_source("prod", rig.store())
    state = rig.state()
    assert state.token == state.issued
    assert state.check_nonce == state.issued_nonce != in_flight.issued_nonce


def test_concurrent_restore_spares_a_later_pin() -> None:
    """A source that another caller restored first keeps later changes."""
    rig = Rig({"a": 1})
    mark_removed("prod", rig.store(), rig.clock)

    def restored_and_pinned() -> None:
        restore_source("prod", rig.store())
        rig.roll_back(rig.tokens[0])

    assert restore_source("prod", rig.store(once(restored_and_pinned, "next_token")))
    assert rig.state().pinned


def test_purge_spares_a_restored_source() -> None:
    """Not even chunks that its first check has written and not named yet are deleted."""
    rig = Rig(LARGE)
    chunks = keys.chunks_namespace("prod")

    def come_back() -> None:
        restore_source("prod", rig.store())
        first, _ = rig.store().next_token("prod", 0)
        key = keys.chunk_key("prod", keys.chunks_prefix(first, "new"), 0)
        rig.store().put_all([{**key._asdict(), "body": b"new"}])

    class Purge(MemoryStore):
        def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
            if namespace == chunks:
                come_back()
            return super().scan(namespace, prefix)

    with pytest.raises(ConditionFailedError):
        mark_removed("prod", Purge(rig.records), rig.clock, purge=True)
    assert [row["body"] for row in rig.store().scan(chunks)][-1] == b"new"
    assert rig.sync().outcome == "published"
    assert rig.read() == LARGE


def test_restore_of_a_source_that_was_not_removed() -> None:
    """It ends no pin."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.roll_back(rig.tokens[0])
    assert not restore_source("prod", rig.store())
    assert rig.state().pinned


def test_a_source_that_never_synced_can_be_removed() -> None:
    """Its new source state prevents it from publishing."""
    rig = Rig()
    mark_removed("prod", rig.store(), rig.clock, purge=True)
    assert rig.sync().outcome == "pinned"
