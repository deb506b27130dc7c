"""Rollbacks, pins and removed sources: each step is conditional, whatever overlaps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import keys
from flagstore.keys import history_key, snapshot_key, state_key
from simulators.memory_store import MemoryStore
from simulators.provider import SOURCE
from storesync.errors import ConditionFailedError, CorruptStoreError, NotKeptError, NotSettledError
from storesync.maintenance import (
    ATTEMPTS,
    FOREVER_MS,
    mark_removed,
    restore_source,
    roll_back,
    unpin,
)
from storesync.store import Condition
from unit.pipeline_rig import HOUR_S, Rig, large, once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flagstore.keys import Record
    from storesync.model import Report


class Operator(Rig):
    """An operator of a source that has published these sets, one after the other."""

    def __init__(self, *states: dict[str, Any]) -> None:
        super().__init__({})
        self.tokens = [self.publish(state) for state in states]

    def roll_back(
        self, *, seconds: float = HOUR_S, to: int = 0, store: MemoryStore | None = None, **more: Any
    ) -> Report:
        until = int((self.clock.now() + seconds) * 1000)
        store, to = store or self.store(), to or self.tokens[0]
        return roll_back(SOURCE, store, self.clock, to=to, pinned_until=until, **more)

    def unpin(self, store: MemoryStore | None = None) -> bool:
        return unpin("prod", store or self.store(), self.clock)

    def remove(self, *, purge: bool = False) -> int:
        return mark_removed(SOURCE, self.store(), self.clock, purge=purge)

    def restore(self, store: MemoryStore | None = None) -> bool:
        return restore_source("prod", store or self.store())


# -- rolling back: tests/contract/test_rollback.py runs it on every store --------------------------


def test_rollback_publishes_an_old_version() -> None:
    """Readers and rows get it at once; the history lists it, and the revision never goes back."""
    rig = Operator({"a": 1, "b": 1}, {"a": 2})
    warm, revision = rig.client(), rig.state().revision
    assert warm["a"] == 2
    report = rig.roll_back()
    assert report.outcome == "rolled back"
    assert report.token > rig.tokens[1]
    assert (report.changes.added, report.changes.changed) == ((("flags", "b"),), (("flags", "a"),))
    assert warm["a"] == 1
    assert rig.read() == rig.rows() == {"a": 1, "b": 1}
    state = rig.state()
    assert state.rows_version == state.published == report.token
    assert (state.etag, state.revision) == ("", revision)
    assert [version.token for version in state.versions()] == [*rig.tokens, report.token]
    changes = json.loads(str(rig.records[history_key("prod", report.token)]["changes"]))
    assert changes["changed"] == ["flags/a"]
    rig.roll_back(to=rig.tokens[1])  # while pinned
    assert rig.read() == {"a": 2}


def test_rollback_writes_all_replicas_and_removes_others() -> None:
    """No surplus replica keeps the newer set."""
    rig = Operator({"a": 1}, {"a": 2})
    rig.sync(replicas=3)
    report = rig.roll_back(replicas=2)
    found = [rig.records.get(snapshot_key("prod", number)) for number in range(3)]
    assert [record and record["token"] for record in found] == [report.token, report.token, None]


def test_rollback_to_a_missing_version() -> None:
    """The message lists the kept versions, and nothing is pinned."""
    rig = Operator({"a": 1}, {"a": 2})
    with pytest.raises(NotKeptError, match=f"it holds {rig.tokens[0]}, {rig.tokens[1]}"):
        rig.roll_back(to=7)
    assert not rig.state().pinned


def test_damaged_snapshot_can_be_rolled_back() -> None:
    """It is not compared, and is replaced; a damaged version is never published."""
    rig = Operator({"a": 1}, {"a": 2})
    rig.damage()
    version = history_key("prod", rig.tokens[0])
    kept = rig.records[version]
    rig.update(version, body=b"damaged")
    with pytest.raises(CorruptStoreError):
        rig.roll_back()
    rig.records[version] = kept
    rig.roll_back()
    assert rig.read() == {"a": 1}


def short_rollback(rig: Operator) -> None:
    rig.roll_back(seconds=10)
    rig.clock.advance(11)
    rig.sync()


@pytest.mark.parametrize(
    ("meanwhile", "outcome", "flags"),
    [
        (Operator.roll_back, "pinned", 1),
        (lambda rig: (rig.roll_back(), rig.unpin()), "published", 3),
        (short_rollback, "superseded", 3),
        (Operator.remove, "pinned", 2),
        (lambda rig: (rig.remove(), rig.restore()), "published", 3),
    ],
)
def test_sync_under_way(meanwhile: Callable[[Operator], Any], outcome: str, flags: int) -> None:
    """It loses its condition; neither a rollback nor a tombstone counts as a later fetch."""
    rig = Operator({"a": 1}, {"a": 2})
    rig.provider.change(a=3)
    store = MemoryStore(rig.records, once(lambda: meanwhile(rig), "publish"))
    assert rig.sync(store=store).outcome == outcome
    assert rig.read() == {"a": flags}


def test_rollback_that_is_always_overtaken_gives_up() -> None:
    """Its fencing tokens are bounded, and nothing is pinned."""
    rig = Operator({"a": 1}, {"a": 2})

    def rival(name: str) -> None:
        if name == "publish":
            rig.sync(store=MemoryStore(rig.records))

    with pytest.raises(NotSettledError, match=str(ATTEMPTS)):
        rig.roll_back(store=MemoryStore(rig.records, rival))
    assert not rig.state().pinned


def test_rollback_with_a_lost_response_succeeds() -> None:
    """The repeated step finds its own fencing token in the source state."""
    rig = Operator({"a": 1}, {"a": 2})
    store = rig.store()
    commit = store.commit

    def twice(source: str, condition: Any, sets: Any, writes: Any = ()) -> None:
        commit(source, condition, sets, writes)
        if "pinned" in sets:
            commit(source, condition, sets, writes)

    store.commit = twice  # type: ignore[method-assign]
    assert rig.roll_back(store=store).token == rig.state().published
    assert rig.rows() == {"a": 1}


def test_unpin_ends_only_the_pin_it_saw() -> None:
    """A rollback in between keeps its pin; without a pin, nothing is written."""
    rig = Operator({"a": 1}, {"a": 2})
    before = dict(rig.records)
    assert not rig.unpin()
    assert rig.records == before
    rig.roll_back()
    with pytest.raises(ConditionFailedError):
        rig.unpin(rig.store(once(lambda: rig.roll_back(to=rig.tokens[1]), "pin")))
    assert rig.sync().outcome == "pinned"


# -- removed sources ----------------------------------------------------------------------------


def test_removed_source_stays_removed() -> None:
    """A sync from a cached configuration does nothing, and the tombstone is no pin that can end."""
    rig = Operator({"a": 1}, {"a": 2})
    rig.remove()
    assert not rig.unpin()
    with pytest.raises(NotKeptError, match="'prod' has been removed"):
        rig.roll_back()
    rig.clock.advance(10 * 365 * 86_400)
    assert rig.sync().outcome == "pinned"
    assert rig.read() == {"a": 2}
    rig.restore()
    with pytest.raises(NotKeptError, match="'prod' has been removed"):
        rig.roll_back(store=rig.store(once(rig.remove, "publish")))
    assert rig.state().pinned == FOREVER_MS


def test_purge_keeps_only_the_source_state() -> None:
    """This also holds for a source that never synced."""
    for rig in (Operator({"a": 1}), Operator()):
        token = rig.remove(purge=True)
        assert set(rig.records) == {state_key("prod")}
        assert (rig.state().token, rig.state().published) == (token, 0)
        assert rig.sync().outcome == "pinned"


def test_restored_source_has_the_nonce_of_its_token() -> None:
    """If the store loses a token meanwhile, no check in flight takes it for its own step."""
    rig = Operator({"a": 1})
    rig.remove()
    _, in_flight = rig.store().next_token("prod", 0)
    assert rig.restore()
    state = rig.state()
    assert state.token == state.issued
    assert state.check_nonce == state.issued_nonce != in_flight.issued_nonce


def test_restore_spares_later_pins() -> None:
    """Of a source that was not removed, or that another caller restored first."""
    rig = Operator({"a": 1}, {"a": 2})
    rig.roll_back()
    assert not rig.restore()
    assert rig.state().pinned
    rig.remove()
    assert rig.restore(rig.store(once(lambda: (rig.restore(), rig.roll_back()), "next_token")))
    assert rig.state().pinned


def test_purge_stops_a_sync_that_writes_rows() -> None:
    """Rows that it wrote after their deletion would stay forever."""
    rig = Operator({"a": 1})
    _, nonce = rig.store().state("prod").publication

    class Purge(MemoryStore):
        def at(self, rows_at: str) -> MemoryStore:
            with pytest.raises(ConditionFailedError):
                rig.store().commit("prod", Condition(published=rig.tokens[0], nonce=nonce), {})
            return super().at(rows_at)

    mark_removed(SOURCE, Purge(rig.records), rig.clock, purge=True)
    assert list(rig.store().scan("prod:flags")) == []


def test_purge_spares_a_restored_source() -> None:
    """Not even chunks that its first check has written and not named yet are deleted."""
    rig = Operator(large(1))
    chunks = keys.chunks_namespaces("prod")[0]

    def come_back() -> None:
        rig.restore()
        first, _ = rig.store().next_token("prod", 0)
        key = keys.chunk_key("prod", keys.chunks_prefix(first, "new"), 0)
        rig.store().put_all([{**key._asdict(), "body": b"new"}])

    class Purge(MemoryStore):
        def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
            if namespace == chunks:
                come_back()
            return super().scan(namespace, prefix)

    with pytest.raises(ConditionFailedError):
        mark_removed(SOURCE, Purge(rig.records), rig.clock, purge=True)
    assert [row["body"] for row in rig.store().scan(chunks)][-1] == b"new"
    assert rig.sync().outcome == "published"
    assert rig.in_sync()
