"""Rolling back, pins, and removed sources: each step holds the fence, whatever overlaps."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import layout
from flagstore.layout import Key, Pulse, head_key, history_key, pulse_key
from flagstore.reader import Client
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import ModelProvider, NoHttp
from simulators.reader_store import RecordsReader
from storesync.budget import Budget
from storesync.errors import CorruptStoreError, FenceLostError, NotKeptError, NotSettledError
from storesync.model import Report, Ring, Secret, Source
from storesync.pipeline import Sync
from storesync.rollback import ATTEMPTS, FOREVER_MS, bury, revive, roll_back, unpin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flagstore.layout import Record

SOURCE = Source("prod", "model", "https://model.example", Secret("k"))
HOUR_S = 3_600
LARGE = {f"f{n}": random.Random(n).randbytes(400).hex() for n in range(1_000)}
"""Flags that no head can hold."""


class Rig:
    """A provider, a store, a clock, and a person."""

    def __init__(self, *states: dict[str, Any], replicas: int = 1) -> None:
        self.clock = FakeClock()
        self.provider = ModelProvider(flags={})
        self.records: dict[Key, Record] = {}
        self.replicas = replicas
        self.tickets = [self.publish(state) for state in states]

    def store(self, step: Callable[[str], None] = lambda _: None) -> MemoryStore:
        """Return a store over the shared records."""
        return MemoryStore(self.records, step)

    def publish(self, flags: dict[str, Any]) -> int:
        """Let the provider have these flags, sync, and return the ticket of the head."""
        self.provider.flags = dict(flags)
        self.provider.revision += 1
        self.clock.advance(60)
        self.sync()
        return self.pulse().published

    def sync(self, store: MemoryStore | None = None) -> Report:
        """Run one sync of the schedule."""
        budget = Budget(self.clock, random.Random(1), 300)
        return Sync(
            SOURCE,
            self.provider,
            store or self.store(),
            http=NoHttp(),  # type: ignore[arg-type]
            budget=budget,
            replicas=self.replicas,
        ).run([Ring("prod", trigger="schedule")])

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

    def pulse(self) -> Pulse:
        """Return the pulse."""
        return Pulse.from_record(self.records.get(pulse_key("prod"), {}))

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


def test_a_rollback_publishes_an_old_version_under_a_new_ticket() -> None:
    """Readers, warm and cold, get it at once, since the ticket is newer; so do the rows."""
    rig = Rig({"a": 1, "b": 1}, {"a": 2})
    warm = rig.client()
    assert warm["a"] == 2
    report = rig.roll_back(rig.tickets[0])
    assert report.outcome == "rolled back"
    assert report.ticket > rig.tickets[1]
    assert (report.changes.added, report.changes.changed) == (("flags/b",), ("flags/a",))
    assert warm["a"] == 1
    assert rig.read() == rig.rows() == {"a": 1, "b": 1}
    assert rig.pulse().projected == rig.pulse().published == report.ticket


def test_a_rollback_is_part_of_the_history() -> None:
    """It says what it changed, and can itself be rolled back, pinned as it is."""
    rig = Rig({"a": 1}, {"a": 2})
    report = rig.roll_back(rig.tickets[0])
    changes = json.loads(str(rig.records[history_key("prod", report.ticket)]["changes"]))
    assert changes["changed"] == ["flags/a"]
    assert [version.ticket for version in rig.pulse().versions()] == [*rig.tickets, report.ticket]
    rig.roll_back(rig.tickets[1])
    assert rig.read() == {"a": 2}


def test_the_pin_of_a_rollback_ends_by_itself() -> None:
    """While it holds nothing is published; at its end the next check brings the provider's set."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.roll_back(rig.tickets[0], seconds=HOUR_S)
    assert rig.sync().outcome == "pinned"
    rig.clock.advance(HOUR_S - 1)
    assert rig.sync().outcome == "pinned"
    rig.clock.advance(1)
    assert rig.sync().outcome == "published"
    assert rig.read() == rig.rows() == {"a": 2}


def test_after_a_pin_the_provider_is_asked_without_an_etag() -> None:
    """What the provider has not changed since before the rollback is fetched again."""
    rig = Rig({"a": 1}, {"a": 2})
    assert rig.pulse().etag
    rig.roll_back(rig.tickets[0])
    assert not rig.pulse().etag
    assert unpin("prod", rig.store(), rig.clock)
    assert rig.sync().outcome == "published"


def test_the_revision_never_goes_back() -> None:
    """An answer older than what was published before the rollback is doubted after it, too."""
    rig = Rig({"a": 1}, {"a": 2})
    revision = rig.pulse().revision
    rig.roll_back(rig.tickets[0])
    assert rig.pulse().revision == revision


def test_large_bodies_are_named_again_and_not_expired() -> None:
    """The pieces of the old version are those of the new head: nothing is copied."""
    rig = Rig(LARGE, {**LARGE, "f0": 1})
    rig.roll_back(rig.tickets[0])
    assert rig.read() == LARGE
    pieces = [r for k, r in rig.records.items() if k.namespace == layout.pieces_namespace("prod")]
    assert pieces
    assert not any("expires_at" in piece for piece in pieces)


def test_all_replicas_are_rolled_back_and_others_go() -> None:
    """Whoever counts too few replicas leaves none behind that shows the newer set."""
    rig = Rig({"a": 1}, {"a": 2}, replicas=3)
    rig.replicas = 2
    report = rig.roll_back(rig.tickets[0])
    heads = [rig.records.get(head_key("prod", number)) for number in range(3)]
    assert [head and head["ticket"] for head in heads] == [report.ticket, report.ticket, None]


def test_a_source_without_rows_gets_none_by_a_rollback() -> None:
    """The pulse says that the rows are done, and none are written."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.roll_back(rig.tickets[0], rows=False)
    assert rig.rows() == {"a": 2}
    assert rig.pulse().projected == rig.pulse().published


def test_what_is_not_kept_cannot_be_rolled_back_to() -> None:
    """The message lists what is kept; nothing has changed but the counter."""
    rig = Rig({"a": 1}, {"a": 2})
    with pytest.raises(NotKeptError, match=f"it holds {rig.tickets[0]}, {rig.tickets[1]}"):
        rig.roll_back(7)
    assert rig.read() == {"a": 2}
    assert not rig.pulse().pinned


def test_a_damaged_version_is_never_published() -> None:
    """Its digests are checked first."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.records[history_key("prod", rig.tickets[0])]["body"] = b"damaged"
    with pytest.raises(CorruptStoreError):
        rig.roll_back(rig.tickets[0])
    assert rig.read() == {"a": 2}


def test_a_damaged_head_can_be_rolled_back() -> None:
    """It cannot be compared with, and is replaced."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.records[head_key("prod")]["body"] = b"damaged"
    rig.roll_back(rig.tickets[0])
    assert rig.read() == {"a": 1}


def test_a_sync_under_way_loses_against_a_rollback() -> None:
    """It fetched before the rollback and wants to publish after it: the pin holds."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.provider.change(a=3)
    store = rig.store(once(lambda: rig.roll_back(rig.tickets[0]), "publish"))
    assert rig.sync(store).outcome == "pinned"
    assert rig.read() == rig.rows() == {"a": 1}


def test_a_sync_that_outlives_the_pin_fetches_again() -> None:
    """A rollback is no fetch: the ring of a sync that lost against it is not served by it."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.provider.change(a=3)

    def short() -> None:
        rig.roll_back(rig.tickets[0], seconds=10)
        rig.clock.advance(11)

    assert rig.sync(rig.store(once(short, "publish"))).outcome == "published"
    assert rig.read() == {"a": 3}


def test_a_sync_that_outlives_a_pin_that_a_person_ended_fetches_again() -> None:
    """Where unpinning leaves no trace of the pin either, a rollback is still no fetch."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.provider.change(a=3)

    def taken_back() -> None:
        rig.roll_back(rig.tickets[0])
        unpin("prod", rig.store(), rig.clock)

    report = rig.sync(rig.store(once(taken_back, "publish")))
    assert (report.outcome, report.fetches) == ("published", 2)
    assert rig.read() == {"a": 3}


def test_a_check_that_completed_after_the_pin_serves_a_sync_that_outlives_it() -> None:
    """It fetched later than the sync that lost, whatever happened before it."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.provider.change(a=3)

    def short() -> None:
        rig.roll_back(rig.tickets[0], seconds=10)
        rig.clock.advance(11)
        rig.sync()

    report = rig.sync(rig.store(once(short, "publish")))
    assert (report.outcome, report.fetches) == ("superseded", 1)
    assert rig.read() == {"a": 3}


def test_a_rollback_that_is_overtaken_draws_again() -> None:
    """Another check completes between its ticket and its step: it judges anew and wins."""
    rig = Rig({"a": 1}, {"a": 2})

    def rival() -> None:
        rig.provider.change(a=3)
        rig.sync()

    rig.roll_back(rig.tickets[0], store=rig.store(once(rival, "publish")))
    assert rig.read() == {"a": 1}


def test_a_rollback_that_is_always_overtaken_gives_up() -> None:
    """After so many tickets it says so; nothing is pinned."""
    rig = Rig({"a": 1}, {"a": 2})
    busy = [False]

    def rival(name: str) -> None:
        if name == "publish" and not busy[0]:
            busy[0] = True
            rig.sync()
            busy[0] = False

    with pytest.raises(NotSettledError, match=str(ATTEMPTS)):
        rig.roll_back(rig.tickets[0], store=rig.store(rival))
    assert not rig.pulse().pinned


def test_a_rollback_whose_answer_was_lost_knows_that_it_won() -> None:
    """The repeated step finds its own ticket in the pulse."""
    rig = Rig({"a": 1}, {"a": 2})
    store = rig.store()
    commit = store.commit

    def twice(source: str, fence: Any, sets: Any, writes: Any = ()) -> None:
        commit(source, fence, sets, writes)
        if "pinned" in sets:
            commit(source, fence, sets, writes)

    store.commit = twice  # type: ignore[method-assign]
    assert rig.roll_back(rig.tickets[0], store=store).ticket == rig.pulse().published
    assert rig.rows() == {"a": 1}


# -- unpinning ----------------------------------------------------------------------------------


def test_without_a_pin_there_is_nothing_to_end() -> None:
    """It says so, and writes nothing."""
    rig = Rig({"a": 1})
    before = dict(rig.records)
    assert not unpin("prod", rig.store(), rig.clock)
    assert rig.records == before


def test_a_later_rollback_keeps_its_pin() -> None:
    """Who unpins what they saw does not end a pin that came meanwhile."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.roll_back(rig.tickets[0])
    store = rig.store(once(lambda: rig.roll_back(rig.tickets[1]), "pin"))
    with pytest.raises(FenceLostError):
        unpin("prod", store, rig.clock)
    assert rig.sync().outcome == "pinned"


# -- removed sources ----------------------------------------------------------------------------


def test_a_removed_source_stays_readable() -> None:
    """Readers keep what they have, also those that start later."""
    rig = Rig({"a": 1})
    bury("prod", rig.store(), rig.clock)
    assert rig.read() == {"a": 1}
    assert rig.pulse().removed


def test_a_late_writer_cannot_resurrect_a_removed_source() -> None:
    """One that was under way loses, one that starts from a cached configuration does nothing."""
    rig = Rig({"a": 1})
    rig.provider.change(a=2)
    store = rig.store(once(lambda: bury("prod", rig.store(), rig.clock), "publish"))
    assert rig.sync(store).outcome == "pinned"
    rig.clock.advance(10 * 365 * 86_400)
    assert rig.sync().outcome == "pinned"
    assert rig.read() == {"a": 1}
    assert rig.pulse().pinned == FOREVER_MS


def test_a_purge_leaves_the_pulse_alone() -> None:
    """Flags, history, pieces and rows go; the counter stays, a warm reader keeps its flags."""
    big = {f"f{n}": random.Random(n).randbytes(400).hex() for n in range(1_000)}
    rig = Rig(big, {**big, "f0": 1})
    warm = rig.client()
    assert warm["f0"] == 1
    ticket = bury("prod", rig.store(), rig.clock, purge=True)
    assert set(rig.records) == {pulse_key("prod")}
    assert warm["f0"] == 1
    assert warm.info().stale
    assert rig.pulse().ticket == ticket
    assert not rig.pulse().published


def test_a_removed_source_cannot_be_unpinned() -> None:
    """Its pin is the tombstone's."""
    rig = Rig({"a": 1})
    bury("prod", rig.store(), rig.clock)
    assert not unpin("prod", rig.store(), rig.clock)
    assert rig.pulse().pinned == FOREVER_MS


def test_a_removed_source_cannot_be_rolled_back() -> None:
    """The pin of a rollback ends; that of a tombstone must not."""
    rig = Rig({"a": 1}, {"a": 2})
    bury("prod", rig.store(), rig.clock)
    with pytest.raises(NotKeptError, match="'prod' was removed"):
        rig.roll_back(rig.tickets[0])
    store = rig.store(once(lambda: bury("prod", rig.store(), rig.clock), "publish"))
    revive("prod", rig.store())
    with pytest.raises(NotKeptError, match="'prod' was removed"):
        rig.roll_back(rig.tickets[0], store=store)
    assert rig.pulse().pinned == FOREVER_MS
    assert rig.read() == {"a": 2}


def test_a_tombstone_that_is_gone_again_serves_no_ring() -> None:
    """A sync that was under way while its source was removed and added again fetches again."""
    rig = Rig({"a": 1})
    rig.provider.change(a=2)

    def back_again() -> None:
        bury("prod", rig.store(), rig.clock)
        revive("prod", rig.store())

    assert rig.sync(rig.store(once(back_again, "publish"))).outcome == "published"
    assert rig.read() == {"a": 2}


@pytest.mark.parametrize("purge", [False, True])
def test_a_source_that_comes_back_goes_on_with_larger_tickets(purge: bool) -> None:
    """Readers of the old one take what the new one publishes as newer."""
    rig = Rig({"a": 1})
    warm = rig.client()
    assert warm["a"] == 1
    bury("prod", rig.store(), rig.clock, purge=purge)
    assert revive("prod", rig.store())
    rig.provider.change(a=5)
    assert rig.sync().outcome == "published"
    assert warm["a"] == 5
    assert rig.rows() == {"a": 5}


def test_a_purge_deletes_nothing_of_a_source_that_came_back_meanwhile() -> None:
    """Not even the pieces that its first check has written and not named yet."""
    rig = Rig(LARGE)
    pieces = layout.pieces_namespace("prod")

    def come_back() -> None:
        revive("prod", rig.store())
        first, _ = rig.store().draw("prod", 0)
        key = layout.piece_key("prod", layout.pieces_prefix(first, "new"), 0)
        rig.store().put_all([{**key._asdict(), "body": b"new"}])

    class Purge(MemoryStore):
        def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
            if namespace == pieces:
                come_back()
            return super().scan(namespace, prefix)

    with pytest.raises(FenceLostError):
        bury("prod", Purge(rig.records), rig.clock, purge=True)
    assert [row["body"] for row in rig.store().scan(pieces)][-1] == b"new"
    assert rig.sync().outcome == "published"
    assert rig.read() == LARGE


def test_a_source_that_was_not_removed_is_left_alone() -> None:
    """Reviving it ends no pin."""
    rig = Rig({"a": 1}, {"a": 2})
    rig.roll_back(rig.tickets[0])
    assert not revive("prod", rig.store())
    assert rig.pulse().pinned


def test_a_source_that_never_synced_can_be_removed() -> None:
    """It gets a pulse that holds back whoever comes."""
    rig = Rig()
    bury("prod", rig.store(), rig.clock, purge=True)
    assert rig.sync().outcome == "pinned"
