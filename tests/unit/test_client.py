"""The reader: when it reads, what it holds on to, and what it says."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import flagstore
from flagstore.cache import REFRESH_S, TTL_S
from flagstore.clients import Client
from flagstore.encode import encode
from flagstore.errors import (
    ConfigurationError,
    CorruptSnapshotError,
    FlagNotFoundError,
    NotLoadedError,
    NotPublishedError,
    StoreUnavailableError,
    UnsupportedLayoutError,
)
from flagstore.keys import Key, SnapshotRecord, chunk_key, snapshot_key, state_key
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.reader_store import RecordsReader, chunks_of
from simulators.signals import Interrupted, InterruptedLock
from storesync.model import Changes, FlagSet, Secret, Source
from storesync.publisher import Check, Publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.keys import Record

SOURCES = str(Path(flagstore.__file__).parents[1])
SOURCE = Source("prod", "model", "https://model.example", Secret("k"))
DOWN = StoreUnavailableError("the store is down")
STATE = "read prod:$state"
HEAD = "read prod:$snapshot"
# A TTL has up to 10 % of jitter, either way.
FRESH_S, EXPIRED_S = 0.9 * TTL_S - 0.1, 1.1 * TTL_S + 0.1


class Rig:
    """A source that is published, and a client that reads it by clocks that only tests move."""

    def __init__(self, flags: dict[str, Any] | None = None, *, replicas: int = 1) -> None:
        self.wall, self.mono = FakeClock(), FakeClock()
        self.records: dict[Key, Record] = {}
        self.snapshot_records = replicas
        if flags is not None:
            self.publish(flags)
        self.store = RecordsReader(self.records, self.mono)
        self.client = self.another(replicas=replicas)

    def another(self, *, replicas: int = 1, store: RecordsReader | None = None) -> Client:
        """Return another process's client."""
        return Client(
            "prod",
            store=store or self.store,
            replicas=replicas,
            clock=self.wall.now,
            monotonic=self.mono.monotonic,
        )

    def publish(self, flags: dict[str, Any], **sections: dict[str, Any]) -> int:
        """Publish these flags, as a sync does."""
        check = self._next_token()
        flag_set = FlagSet("model", {"flags": flags, **sections}, revision=5)
        encoded = encode(flag_set.sections, {})
        self._publisher().publish(check, flag_set, encoded, "writer", Changes())
        return check.token

    def heartbeat(self) -> None:
        """Complete a check that found nothing new."""
        self._publisher().heartbeat(self._next_token())

    def _publisher(self) -> Publisher:
        store = MemoryStore(self.records)
        return Publisher(SOURCE, store, self.wall, replicas=self.snapshot_records)

    def _next_token(self) -> Check:
        now = self.wall.now()
        token, seen = MemoryStore(self.records).next_token("prod", int(now))
        return Check(token, seen, int(now * 1000), "", 5)

    def advance(self, seconds: float) -> None:
        """Let time pass, by both clocks."""
        self.wall.advance(seconds)
        self.mono.advance(seconds)

    def calls(self) -> list[str]:
        """Return the calls since the last time."""
        found = list(self.store.calls)
        self.store.calls.clear()
        return found


def large(seed: int) -> dict[str, Any]:
    """Return flags too large for a snapshot record."""
    rng = random.Random(seed)
    return {f"flag-{number}": rng.randbytes(5_000).hex() for number in range(90)}


LARGE = large(1)


@pytest.fixture
def warnings_of(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged since the last time."""
    caplog.set_level(logging.DEBUG)

    def messages() -> list[str]:
        found = [f"{r.name} {r.levelname} {r.getMessage()}" for r in caplog.records]
        caplog.clear()
        return found

    return messages


# -- how many reads -----------------------------------------------------------------------------


def test_a_cold_reader_needs_one_read() -> None:
    """A set that fits a snapshot record comes with it, and further questions cost nothing."""
    rig = Rig({"a": 1, "b": 2})
    assert rig.client["a"] == 1
    assert rig.calls() == [HEAD]
    assert (rig.client.keys(), len(rig.client), "b" in rig.client) == (["a", "b"], 2, True)
    assert list(rig.client) == ["a", "b"]
    assert rig.client["b"] == 2
    assert rig.calls() == []


def test_a_cold_reader_needs_two_reads_for_chunks() -> None:
    """A large body costs one read more."""
    rig = Rig(LARGE)
    assert rig.client["flag-7"] == LARGE["flag-7"]
    token = rig.client.info().token
    assert rig.calls() == [HEAD, f"chunks {token}", STATE]


def test_a_refresh_is_one_small_read() -> None:
    """Nothing new costs the source state, once in a TTL."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.calls()
    for _ in range(5):
        rig.advance(EXPIRED_S)
        rig.heartbeat()
        for _ in range(10):
            assert rig.client["a"] == 1
        assert rig.calls() == [STATE]


def test_something_new_costs_the_snapshot_as_well() -> None:
    """Two reads, and the new flags are there; chunks cost a third."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.calls()
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 2
    assert rig.calls() == [STATE, HEAD]
    token = rig.publish(LARGE)
    rig.advance(EXPIRED_S)
    assert rig.client["flag-1"] == LARGE["flag-1"]
    assert rig.calls() == [STATE, HEAD, f"chunks {token}"]


@pytest.mark.parametrize("clock", ["wall", "mono"])
def test_either_clock_ends_the_ttl(clock: str) -> None:
    """The wall clock jumps when it is set, the other may stop in a freeze: one is enough."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.publish({"a": 2})
    getattr(rig, clock).advance(EXPIRED_S)
    assert rig.client["a"] == 2


@pytest.mark.parametrize("jump_s", [-600, 600, -86_400 * 365])
def test_a_clock_that_is_set_breaks_nothing(jump_s: float) -> None:
    """After a jump either way flags stay readable, and are fresh within a TTL."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.wall.advance(jump_s)
    assert rig.client["a"] == 1
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 2
    assert rig.client.info().age_s >= 0


def test_the_ttl_has_ten_percent_of_jitter() -> None:
    """Processes that began together do not ask together for ever."""
    step = TTL_S / 300
    waited = []
    for _ in range(40):
        rig = Rig({"a": 1})
        rig.client.snapshot()
        steps = 0
        while rig.calls() in ([], [HEAD]):
            rig.advance(step)
            steps += 1
            rig.client.snapshot()
        waited.append(steps * step)
    assert min(waited) >= 0.9 * TTL_S
    assert max(waited) <= 1.1 * TTL_S + step
    assert max(waited) - min(waited) > 0.05 * TTL_S


# -- last known good ----------------------------------------------------------------------------


def test_a_store_that_is_down_leaves_the_last_known_good() -> None:
    """For ever, without an exception, and the client says that it is stale and why."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.store.error = DOWN
    for _ in range(500):
        rig.advance(61)
        assert rig.client["a"] == 1
        assert "a" in rig.client
        info = rig.client.info()
    assert (info.stale, info.error) == (True, "the store is down")
    assert info.age_s == pytest.approx(500 * 61)
    rig.store.error = None
    rig.advance(61)
    rig.heartbeat()
    assert rig.client["a"] == 1
    info = rig.client.info()
    assert (info.stale, info.error, info.age_s) == (False, "", 0)


@pytest.mark.parametrize(
    "error",
    [
        DOWN,
        CorruptSnapshotError("torn"),
        ConfigurationError("no table"),
        OSError("reset"),
        ValueError("odd"),
        KeyError("AWS_ACCESS_KEY_ID"),
        MemoryError(),
        RecursionError("deep"),
    ],
)
def test_nothing_that_a_store_raises_reaches_a_loaded_caller(error: Exception) -> None:
    """Typed or not: once loaded, reading flags never raises because of the store."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.store.error = error
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    assert rig.client.info().stale


@pytest.mark.parametrize(
    "damage",
    [
        {"body": b"other"},
        {"index_data": None},
        {"index_data": "a text"},
        {"index_digest": "0" * 64},
        {"token": None},
        {"token": "a text"},
        {"chunks": "[1,"},
    ],
)
def test_a_damaged_snapshot_leaves_the_last_known_good(damage: dict[str, Any]) -> None:
    """What does not match its digests is never shown, and what was loaded stays."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.publish({"a": 2})
    harm(rig, damage)
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    assert rig.client.info().stale


def harm(rig: Rig, damage: dict[str, Any]) -> None:
    """Change attributes of the snapshot record; None removes one."""
    record = {**rig.records[snapshot_key("prod")], **damage}
    rig.records[snapshot_key("prod")] = {k: v for k, v in record.items() if v is not None}


def test_a_source_that_is_removed_leaves_the_last_known_good() -> None:
    """An emptied table takes no flags away from those who have them."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.records.clear()
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    assert "no longer holds" in rig.client.info().error


def test_after_a_failure_the_store_has_peace() -> None:
    """Nothing for 5 seconds or half as long again, then 10, 20, 40 and 60; a success ends that."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.store.error = DOWN
    rig.advance(EXPIRED_S)
    rig.calls()
    rig.client.snapshot()
    assert rig.calls() == [STATE]
    for pause in (5, 10, 20, 40, 60, 60):
        rig.advance(pause - 0.1)
        for _ in range(100):
            assert rig.client["a"] == 1
            rig.client.info()
        assert rig.calls() == []
        rig.advance(0.1 + pause / 2)
        rig.client.snapshot()
        assert rig.calls() == [STATE]
    rig.store.error = None
    rig.advance(60)
    rig.client.snapshot()
    assert rig.calls() == [STATE]
    rig.store.error = DOWN
    rig.advance(EXPIRED_S)
    rig.client.snapshot()
    rig.calls()
    rig.advance(7.5)
    rig.client.snapshot()
    assert rig.calls() == [STATE]


def test_readers_that_failed_together_do_not_ask_together() -> None:
    """Twenty whose first load failed at one moment come back over more than a second."""
    rigs = [Rig({"a": 1}) for _ in range(20)]
    for rig in rigs:
        rig.store.error = DOWN
        with pytest.raises(NotLoadedError):
            rig.client.snapshot()
        rig.calls()
    back: list[int] = []
    for number, rig in enumerate(rigs):
        rig.advance(5)
        for tenth in range(27):
            with contextlib.suppress(NotLoadedError):
                rig.client.snapshot()
            if rig.calls():
                back.append(tenth)
                break
            rig.advance(0.1)
        assert len(back) == number + 1
    assert max(back) - min(back) > 10


def test_ten_thousand_reads_of_an_hour_of_trouble() -> None:
    """Errors and latency come and go: no exception, and no more than one question in 5 seconds."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rng = random.Random(7)
    rig.calls()
    for number in range(10_000):
        if number % 100 == 0:
            rig.store.error = rng.choice([None, DOWN, OSError("reset")])
            rig.store.latency_s = rng.choice([0.0, 0.0, 0.2, 5.0])
        before = len(rig.store.calls)
        assert rig.client["a"] == 1
        assert len(rig.store.calls) - before <= 2
        rig.advance(0.36)
    assert len(rig.store.calls) <= 3_600 / 5 + 1


def test_a_slow_store_costs_a_loaded_caller_a_quarter_of_a_second() -> None:
    """Then the flags in hand will do."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.store.latency_s = 5
    rig.advance(EXPIRED_S)
    before = rig.mono.monotonic()
    assert rig.client["a"] == 1
    assert rig.mono.monotonic() - before == pytest.approx(REFRESH_S)
    assert rig.client.info().stale


def test_a_set_that_takes_longer_gets_in_at_last() -> None:
    """The deadline of a refresh doubles while data arrives, up to that of a first load."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.publish({"a": 2})
    rig.store.latency_s = (
        0.2  # twice, for source state and snapshot record, is more than it waits at first
    )
    rig.store.receiving = True
    rig.advance(61)
    assert rig.client["a"] == 1
    rig.advance(61)
    assert rig.client["a"] == 2
    assert not rig.client.info().stale


def test_chunks_that_were_read_in_time_are_kept_for_the_next_attempt() -> None:
    """So a large body gets in even where the deadline never grows."""
    rig = Rig({"flag-1": 1})
    rig.client.snapshot()
    token = rig.publish(LARGE)
    rig.store.page, rig.store.latency_s = 1, 0.08
    rig.advance(61)
    rig.calls()
    assert rig.client["flag-1"] == 1
    rig.advance(61)
    assert rig.client["flag-1"] == LARGE["flag-1"]
    first = [STATE, HEAD, f"chunks {token}", f"chunks {token}/1"]
    assert rig.calls() == [*first, STATE, HEAD, f"chunks {token}/1"]


def test_a_silent_store_never_costs_more_than_the_first_time() -> None:
    """Where nothing arrives, more time would not help: the deadline stays, however often."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.store.latency_s = 5
    for _ in range(5):
        rig.advance(61)
        before = rig.mono.monotonic()
        assert rig.client["a"] == 1
        assert rig.mono.monotonic() - before == pytest.approx(REFRESH_S)


def test_a_slow_store_costs_a_cold_caller_two_seconds() -> None:
    """All that a first load may take, in all."""
    rig = Rig({"a": 1})
    rig.store.latency_s = 5
    before = rig.mono.monotonic()
    with pytest.raises(StoreUnavailableError):
        rig.client.snapshot()
    assert rig.mono.monotonic() - before == pytest.approx(2.0)


# -- the first load -----------------------------------------------------------------------------


def test_nothing_published_is_said_with_the_remedy() -> None:
    """The name may be wrong, or SyncFunction has not run."""
    rig = Rig()
    with pytest.raises(NotPublishedError, match=r"'prod'.*check the name.*SyncFunction"):
        rig.client.snapshot()
    assert rig.calls() == [HEAD, "read! prod:$snapshot", "read! prod:$state"]


def test_a_layout_that_this_reader_does_not_know_is_said_with_the_remedy() -> None:
    """Something is published, but not for this reader: it must be updated."""
    rig = Rig({"a": 1})
    rig.records[Key("prod:$snapshot", "2")] = rig.records.pop(snapshot_key("prod"))
    with pytest.raises(UnsupportedLayoutError, match="update the flagstore layer or wheel"):
        rig.client.snapshot()


def test_a_layout_that_goes_leaves_the_last_known_good() -> None:
    """A writer that drops this reader's layout takes nothing from those who have loaded."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.publish({"a": 2})
    rig.records[Key("prod:$snapshot", "2")] = rig.records.pop(snapshot_key("prod"))
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    assert "another layout" in rig.client.info().error


def test_a_set_that_stays_corrupt_is_typed() -> None:
    """Read once more, consistently, and then said."""
    rig = Rig({"a": 1})
    harm(rig, {"body": b"other"})
    with pytest.raises(CorruptSnapshotError):
        rig.client.snapshot()
    assert rig.calls() == [HEAD, "read! prod:$snapshot"]


@pytest.mark.parametrize(
    "damage", [{"index_data": None}, {"index_data": "a text"}, {"chunks": "[1,"}, {"token": "x"}]
)
def test_whatever_is_in_the_snapshot_the_error_is_typed(damage: dict[str, Any]) -> None:
    """Who catches NotLoadedError to use defaults catches records of someone else, too."""
    rig = Rig({"a": 1})
    harm(rig, damage)
    with pytest.raises(NotLoadedError):
        rig.client.snapshot()


@pytest.mark.parametrize("error", [DOWN, OSError("reset"), KeyError("odd")])
def test_a_first_load_that_fails_is_typed_and_cools_down(error: Exception) -> None:
    """No call within 5 seconds, then 10 to 60; meanwhile the same error, at once."""
    rig = Rig({"a": 1})
    rig.store.error = error
    with pytest.raises(NotLoadedError):
        rig.client.snapshot()
    assert rig.calls() == [HEAD]
    for pause in (5, 10, 20, 40, 60, 60):
        rig.advance(pause - 0.1)
        for call in (rig.client.snapshot, rig.client.info, rig.client.keys):
            with pytest.raises(NotLoadedError):
                call()
        assert rig.calls() == []
        rig.advance(0.1 + pause / 2)
        with pytest.raises(NotLoadedError):
            rig.client.snapshot()
        assert rig.calls() == [HEAD]
    rig.store.error = None
    rig.advance(60)
    assert rig.client["a"] == 1
    assert not rig.client.info().stale


# -- never older, never torn --------------------------------------------------------------------


def test_an_older_snapshot_is_never_taken_after_a_newer_one() -> None:
    """Eventual reads may go back; the client does not."""
    rig = Rig({"a": "old"})
    old = {key: dict(record) for key, record in rig.records.items()}
    rig.publish({"a": "new"})
    assert rig.client["a"] == "new"
    rig.store.stale = old
    for _ in range(3):
        rig.advance(EXPIRED_S)
        assert rig.client["a"] == "new"
        assert not rig.client.info().stale


def test_a_replica_that_lags_costs_one_read_more() -> None:
    """Only a consistent read tells an old response from a store that has lost its history."""
    rig = Rig({"a": "old"})
    old = dict(rig.records[state_key("prod")])
    rig.publish({"a": "new"})
    rig.client.snapshot()
    rig.store.stale = {state_key("prod"): old}
    rig.advance(EXPIRED_S)
    rig.calls()
    assert rig.client["a"] == "new"
    assert rig.calls() == [STATE, "read! prod:$state"]


def again(rig: Rig, token: int, flags: dict[str, Any]) -> None:
    """Publish in a store that was restored to before a fencing token, or emptied (0)."""
    rig.records.clear()
    if token:
        rig.records[state_key("prod")] = {**state_key("prod")._asdict(), "issued": token - 1}
    rig.publish(flags)


@pytest.mark.parametrize("back", [0, 1, 5], ids=["the same", "one less", "five less"])
@pytest.mark.parametrize("lags", [True, False])
def test_a_store_that_lost_its_history_is_followed(
    back: int, warnings_of: Callable[[], list[str]], *, lags: bool
) -> None:
    """A set that has the same number as the one in hand, or a lower one, but another nonce."""
    rig = Rig({"a": "lost"})
    rig.client.snapshot()
    token = rig.client.info().token
    again(rig, token - back, {"a": "kept"})
    if lags:
        rig.store.stale = {key: dict(record) for key, record in rig.records.items()}
        rig.publish({"a": "last"})
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == ("last" if lags else "kept")
    info = rig.client.info()
    assert (info.stale, info.error) == (False, "")
    followed = f"has lost its history: version {token - back} follows version {token}"
    assert sum(followed in line for line in warnings_of()) == (not lags)
    rig.advance(EXPIRED_S)
    rig.store.stale = {}
    rig.calls()
    assert rig.client["a"] == ("last" if lags else "kept")
    assert rig.calls() == [STATE]


def test_an_emptied_store_is_followed_once_it_is_filled_again() -> None:
    """Until then the flags in hand stay, and the error says why."""
    rig = Rig({"a": "lost"})
    rig.client.snapshot()
    rig.records.clear()
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == "lost"
    assert "no longer holds anything" in rig.client.info().error
    rig.wall.advance(-3_600)  # the clock of the writer that fills it is behind
    rig.publish({"a": "new"})
    rig.wall.advance(3_600)
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == "new"
    assert not rig.client.info().stale


def test_a_restored_state_that_is_older_than_its_snapshot_takes_nothing_away() -> None:
    """Items of a backup may be some moments apart: the set in hand stays, and is not stale."""
    rig = Rig({"a": 1})
    older = dict(rig.records[state_key("prod")])
    rig.publish({"a": 2})
    snapshot = rig.client.snapshot()
    rig.records[state_key("prod")] = older
    rig.advance(EXPIRED_S)
    assert rig.client.snapshot() is snapshot
    assert not rig.client.info().stale


def test_a_snapshot_of_another_history_than_its_state_is_not_taken() -> None:
    """The same number is not enough: the nonce must be the source state's, too."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.publish({"a": 2})
    rig.records[state_key("prod")]["nonce"] = "another"
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    assert "behind its source state" in rig.client.info().error


def test_a_snapshot_that_is_behind_its_state_is_read_again_consistently() -> None:
    """The source state says what must be there."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.store.stale = {snapshot_key("prod"): dict(rig.records[snapshot_key("prod")])}
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    rig.calls()
    assert rig.client["a"] == 2
    assert rig.calls() == [STATE, HEAD, "read! prod:$snapshot"]


def test_a_torn_read_is_read_again_consistently() -> None:
    """Index and body of two publications: never shown, and mended at once."""
    rig = Rig({"a": 1})
    torn = dict(rig.records[snapshot_key("prod")])
    rig.publish({"a": 2})
    torn["index_data"] = rig.records[snapshot_key("prod")]["index_data"]
    rig.store.stale = {snapshot_key("prod"): torn}
    assert rig.client["a"] == 2
    assert rig.calls() == [HEAD, "read! prod:$snapshot"]


def test_a_chunk_that_is_missing_is_looked_for_again_consistently() -> None:
    """An old snapshot record names chunks that have expired: the current one names others."""
    rig = Rig(LARGE)
    old = rig.publish(large(2))
    stale = {snapshot_key("prod"): dict(rig.records[snapshot_key("prod")])}
    new = rig.publish(large(3))
    del rig.records[chunks_of(rig.records, old)[1]]
    rig.store.stale = stale
    assert rig.client.info().token == new
    assert rig.calls()[:4] == [HEAD, f"chunks {old}", "read! prod:$snapshot", f"chunks {new}"]


@pytest.mark.parametrize("damage", ["removed", "stub"])
def test_a_chunk_that_stays_missing_leaves_the_last_known_good(damage: str) -> None:
    """Half a body is no flag set."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    token = rig.publish(LARGE)
    key = chunks_of(rig.records, token)[0]
    del rig.records[key]
    if damage == "stub":
        rig.records[key] = {**key._asdict(), "expires_at": 1}
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    assert rig.client.info().stale
    with pytest.raises(CorruptSnapshotError):
        rig.another().snapshot()


def test_chunks_that_come_back_twice_are_not_read_twice() -> None:
    """What follows the chunks that the snapshot record names is left alone."""
    rig = Rig(LARGE)
    snapshot_record = SnapshotRecord.from_record(rig.records[snapshot_key("prod")])
    key = chunk_key("prod", *snapshot_record.stored_chunks())
    rig.records[key] = {**key._asdict(), "body": b"more"}
    assert rig.client["flag-3"] == LARGE["flag-3"]


def test_publishing_while_reading_shows_whole_sets_in_order() -> None:
    """Through 300 publications, polled at every step: each set is whole, and none goes back."""
    rig = Rig({"a": 0, "b": 0})
    stale = dict(rig.records)
    rng = random.Random(3)
    seen = 0
    for number in range(1, 300):
        if rng.random() < 0.5:
            stale = {key: dict(record) for key, record in rig.records.items()}
        rig.publish({"a": number, "b": number})
        rig.store.stale = stale if rng.random() < 0.5 else {}
        rig.advance(rng.choice([0, FRESH_S, EXPIRED_S]))
        snapshot = rig.client.snapshot()
        assert snapshot["a"] == snapshot["b"] >= seen
        seen = snapshot["a"]
    assert seen > 250


def test_a_snapshot_stays_what_it_is() -> None:
    """A request that holds one sees one set, while the client moves on."""
    rig = Rig({"a": 1, "gone": 1})
    held = rig.client.snapshot()
    assert rig.client.snapshot() is held
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 2
    assert (held["a"], held["gone"], held.keys(), len(held)) == (1, 1, ["a", "gone"], 2)
    assert list(held) == ["a", "gone"]
    assert "gone" not in rig.client


# -- replicas -----------------------------------------------------------------------------------


def test_replicas_share_the_readers() -> None:
    """Cold readers spread over all snapshot records, so over partitions."""
    rig = Rig({"a": 1}, replicas=3)
    asked = set()
    for _ in range(200):
        assert rig.another(replicas=3)["a"] == 1
        asked |= set(rig.calls())
    assert asked == {HEAD, "read prod:$snapshot~1", "read prod:$snapshot~2"}


def test_a_replica_that_is_missing_or_lags_costs_one_read_more() -> None:
    """A writer that keeps fewer of them loses no reader: the first snapshot is always there."""
    rig = Rig({"a": 1}, replicas=1)
    for _ in range(50):
        assert rig.another(replicas=250)["a"] == 1
    assert len(rig.calls()) > 50
    rig = Rig({"a": 1}, replicas=2)
    rig.store.stale = {snapshot_key("prod", 1): dict(rig.records[snapshot_key("prod", 1)])}
    clients = [rig.another(replicas=2) for _ in range(20)]
    for client in clients:
        client.snapshot()
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    assert [client["a"] for client in clients] == [2] * 20


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", " 1 2", "²"])
def test_a_wrong_number_of_replicas_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The variable, what it must be, and what it is."""
    rig = Rig({"a": 1})
    monkeypatch.setenv("FLAGSTORE_SNAPSHOT_REPLICAS", text)
    client = Client("prod", store=rig.store)
    with pytest.raises(
        ConfigurationError, match="FLAGSTORE_SNAPSHOT_REPLICAS must be a whole number"
    ):
        client.snapshot()


@pytest.mark.parametrize("text", [None, "", "1", "4"])
def test_replicas_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    """As many as the variable says; one without it."""
    rig = Rig({"a": 1}, replicas=int(text or 1))
    if text is None:
        monkeypatch.delenv("FLAGSTORE_SNAPSHOT_REPLICAS", raising=False)
    else:
        monkeypatch.setenv("FLAGSTORE_SNAPSHOT_REPLICAS", text)
    for _ in range(100):
        assert Client("prod", store=rig.store)["a"] == 1
    assert len(set(rig.calls())) == int(text or 1)


# -- what it returns ----------------------------------------------------------------------------


def test_a_value_is_the_callers_own() -> None:
    """Changing what was read changes no flag."""
    rig = Rig({"a": {"rules": [1, 2]}})
    rig.client["a"]["rules"].append(3)
    rig.client.snapshot()["a"].clear()
    rig.client.snapshot().item("flags", "a")["rules"].clear()
    rig.client.keys().clear()
    assert rig.client["a"] == {"rules": [1, 2]}
    assert rig.client.keys() == ["a"]


def test_a_flag_that_is_not_there_is_a_key_error_that_can_be_read() -> None:
    """Its text names flag and source, and is no repr of a tuple."""
    rig = Rig({"a": 1})
    with pytest.raises(FlagNotFoundError) as caught:
        rig.client["b"]
    assert str(caught.value) == "no flag 'b' in source 'prod'"
    assert isinstance(caught.value, KeyError)
    with pytest.raises(FlagNotFoundError, match="no segment 's'"):
        rig.client.snapshot().item("segments", "s")
    assert "b" not in rig.client
    assert 7 not in rig.client


def test_segments_are_read_by_their_section() -> None:
    """The set has everything that the provider's SDK would hold."""
    rig = Rig()
    rig.publish({"a": 1}, segments={"beta": ["x"]})
    snapshot = rig.client.snapshot()
    assert snapshot.item("segments", "beta") == ["x"]
    assert len(snapshot) == 1


def test_info_says_what_is_known() -> None:
    """Fencing token, digest, counts and revision of the very set in hand."""
    rig = Rig()
    token = rig.publish({"a": 1, "b": 2}, segments={"s": 1})
    info = rig.client.info()
    assert info.source == "prod"
    assert info.provider == "model"
    assert info.token == token
    assert info.digest == rig.records[snapshot_key("prod")]["digest"]
    assert info.counts == {"flags": 2, "segments": 1}
    assert info.revision == 5
    assert info.published_at == pytest.approx(rig.wall.now())
    assert (info.stale, info.error) == (False, "")


def test_age_counts_from_when_the_provider_was_last_asked() -> None:
    """Nothing new for hours is no age, as long as someone checks; then it grows."""
    rig = Rig({"a": 1})
    rig.advance(7_200)
    rig.heartbeat()
    rig.advance(5)
    assert rig.client.info().age_s == pytest.approx(5)
    assert rig.calls() == [HEAD, STATE]
    rig.advance(3)
    assert rig.client.info().age_s == pytest.approx(8)
    assert rig.calls() == []
    rig.heartbeat()
    rig.advance(EXPIRED_S)
    assert rig.client.info().age_s == pytest.approx(EXPIRED_S)
    assert rig.client.info().published_at == pytest.approx(rig.wall.now() - 7_208 - EXPIRED_S)


def test_an_age_is_never_negative() -> None:
    """Though the writer's clock may be ahead of this one."""
    rig = Rig({"a": 1})
    rig.wall.advance(-60)
    assert rig.client.info().age_s == 0


# -- warnings -----------------------------------------------------------------------------------


def test_there_is_one_warning_for_each_change_of_state(
    warnings_of: Callable[[], list[str]],
) -> None:
    """Fresh, stale and fresh again: two lines, however long it takes and however often it fails."""
    rig = Rig({"a": 1})
    for _ in range(5):
        rig.advance(EXPIRED_S)
        rig.client.snapshot()
    assert warnings_of() == []
    rig.store.error = DOWN
    for _ in range(20):
        rig.advance(61)
        rig.client.snapshot()
    assert warnings_of() == ["flagstore WARNING flags of prod are stale: the store is down"]
    rig.store.error = OSError("another")
    rig.advance(61)
    rig.client.snapshot()
    assert warnings_of() == []
    rig.store.error = None
    for _ in range(5):
        rig.advance(61)
        rig.client.snapshot()
    assert warnings_of() == ["flagstore WARNING flags of prod are fresh again"]


def test_trouble_may_last_for_days() -> None:
    """However often the store was asked in vain, nothing is raised and it has peace in between."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    cold = Rig({"a": 1})
    rig.store.error = cold.store.error = DOWN
    for _ in range(1_100):
        rig.advance(61)
        assert rig.client["a"] == 1
        cold.advance(61)
        with pytest.raises(NotLoadedError):
            cold.client.snapshot()
    asked = len(rig.store.calls)
    rig.client.snapshot()
    assert len(rig.store.calls) == asked


def test_a_log_handler_may_ask_how_old_the_flags_are() -> None:
    """It is called by the thread that reads, and neither waits for itself nor sees half of it."""
    rig = Rig({"a": 1})
    seen: list[Any] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            del record
            seen.append(rig.client.info())

    handler = Handler()
    logging.getLogger("flagstore").addHandler(handler)
    try:
        rig.client.snapshot()
        rig.store.error = DOWN
        rig.advance(EXPIRED_S)
        thread = threading.Thread(target=rig.client.snapshot, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        rig.store.error = None
        rig.advance(EXPIRED_S)
        rig.client.snapshot()
    finally:
        logging.getLogger("flagstore").removeHandler(handler)
    assert [(info.stale, info.error) for info in seen] == [(True, str(DOWN)), (False, "")]


# -- threads and processes ----------------------------------------------------------------------


def together(count: int, work: Callable[[], Any]) -> list[Any]:
    """Run it in so many threads at once and return what each returned or raised."""
    barrier = threading.Barrier(count)
    results: list[Any] = []

    def run() -> None:
        barrier.wait()
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - a result as well
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(results) == count
    return results


def test_fifty_cold_threads_load_once() -> None:
    """One loads, the others wait for it and get the same set."""
    rig = Rig({"a": 1})
    rig.store.on_call = lambda _: time.sleep(0.05)
    results = together(50, rig.client.snapshot)
    assert {id(result) for result in results} == {id(rig.client.snapshot())}
    assert rig.calls() == [HEAD]


def test_fifty_cold_threads_fail_once() -> None:
    """A store that is down is asked by one of them; all get a typed error."""
    rig = Rig({"a": 1})
    rig.store.on_call = lambda _: time.sleep(0.05)
    rig.store.error = DOWN
    results = together(50, rig.client.snapshot)
    assert all(isinstance(result, StoreUnavailableError) for result in results)
    assert rig.calls() == [HEAD]


def test_of_fifty_threads_one_refreshes_and_nobody_waits_for_it() -> None:
    """While the store is slow to respond one of them, the others go on with what they have."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.publish({"a": 2})
    rig.calls()
    rig.advance(EXPIRED_S)
    asked, response = threading.Event(), threading.Event()

    def hold(_call: str) -> None:
        asked.set()
        assert response.wait(10)

    rig.store.on_call = hold
    refreshing = threading.Thread(target=rig.client.snapshot)
    refreshing.start()
    assert asked.wait(10)
    assert together(49, lambda: rig.client["a"]) == [1] * 49
    assert rig.calls() == [STATE]
    response.set()
    refreshing.join(10)
    assert rig.client["a"] == 2
    assert rig.calls() == [HEAD]


def test_threads_that_ask_for_the_age_ask_the_store_once() -> None:
    """Also while it is down: info() costs one small read, not one for each thread."""
    for error in (None, DOWN):
        rig = Rig({"a": 1})
        rig.client.snapshot()
        rig.calls()
        rig.store.error = error
        rig.store.on_call = lambda _: time.sleep(0.02)
        results = together(20, rig.client.info)
        assert {result.stale for result in results} <= {False, error is not None}
        assert rig.calls() == [STATE]


def test_threads_decode_flags_of_one_body_together() -> None:
    """Blocks are inflated by whoever needs them; every thread gets the right values."""
    flags = {f"flag-{number:04d}": {"n": number, "text": "x" * 100} for number in range(600)}
    rig = Rig(flags)

    def read() -> bool:
        keys = list(flags)
        random.shuffle(keys)
        return all(rig.client[key] == flags[key] for key in keys)

    assert together(8, read) == [True] * 8


@pytest.mark.parametrize("ask", [Client.snapshot, Client.info])
@pytest.mark.parametrize("loaded", [True, False])
def test_a_signal_does_not_end_all_reading(
    ask: Callable[[Client], object], *, loaded: bool
) -> None:
    """Wherever its handler raises, the next call reads, in this thread and in others."""
    rig = Rig({"a": 1})
    if loaded:
        rig.client.snapshot()
        rig.publish({"a": 2})
        rig.advance(EXPIRED_S)
    turns = rig.client._cache._turns
    turns._lock = InterruptedLock(threading.RLock())  # type: ignore[assignment]
    with pytest.raises(Interrupted):
        ask(rig.client)
    assert together(1, lambda: rig.client["a"]) == [2 if loaded else 1]


def in_child(work: Callable[[], bool]) -> bool:
    """Fork, do it in the child, and say whether it was true there, within five seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        ok = False
        try:
            ok = work()
        finally:
            os._exit(0 if ok else 1)
    _, status = os.waitpid(child, 0)
    return status == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("loaded", [True, False])
def test_a_child_of_a_fork_reads_though_the_parent_was_reading(loaded: bool) -> None:
    """A thread that holds the client's lock at the fork is not in the child to release it."""
    rig = Rig({"a": 1})
    if loaded:
        rig.client.snapshot()
        rig.publish({"a": 2})
        rig.advance(EXPIRED_S)
    asked, response = threading.Event(), threading.Event()

    def hold(_call: str) -> None:
        asked.set()
        assert response.wait(10)

    rig.store.on_call = hold
    thread = threading.Thread(target=rig.client.snapshot)
    thread.start()
    assert asked.wait(10)

    def work() -> bool:
        rig.store.on_call = lambda _call: None
        return bool(rig.client["a"] == (2 if loaded else 1))

    try:
        assert in_child(work)
    finally:
        response.set()
        thread.join(10)


# -- client() -----------------------------------------------------------------------------------


def test_one_name_is_one_client() -> None:
    """Wherever it is asked for, it is the same instance, with the same flags in hand."""
    assert flagstore.client("one-name") is flagstore.client("one-name")
    assert flagstore.client("one-name") is not flagstore.client("other-name")
    assert len(set(together(20, lambda: flagstore.client("many-threads")))) == 1


def test_without_a_name_the_environment_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLAGSTORE_SOURCE names the source of a function that has one."""
    monkeypatch.setenv("FLAGSTORE_SOURCE", "from-the-environment")
    assert flagstore.client().source == "from-the-environment"
    assert flagstore.client() is flagstore.client("from-the-environment")
    assert flagstore.client("by-name").source == "by-name"


@pytest.mark.parametrize("name", [None, ""])
def test_no_name_at_all_names_the_remedy(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    """Both ways to give one; where it is used, so that a module can be imported without."""
    monkeypatch.delenv("FLAGSTORE_SOURCE", raising=False)
    nameless = flagstore.client(name)
    for use in (nameless.keys, nameless.snapshot, nameless.info, lambda: nameless.enabled("a")):
        with pytest.raises(ConfigurationError, match=r'client\("prod"\), or set FLAGSTORE_SOURCE'):
            use()


def test_python_may_look_at_a_client_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools for tests ask every object in a module what it has, as ``hasattr`` does."""
    monkeypatch.delenv("FLAGSTORE_SOURCE", raising=False)
    assert not hasattr(flagstore.client(), "__wrapped__")


@pytest.mark.parametrize(
    "options",
    [
        {"ttl_s": "30"},
        {"ttl_s": None},
        {"ttl_s": True},
        {"ttl_s": float("nan")},
        {"max_age_s": "60"},
        {"max_age_s": -1},
        {"replicas": 0},
        {"replicas": 1.5},
    ],
)
def test_a_number_that_is_none_is_named(options: dict[str, Any]) -> None:
    """When the client is made, and not by a TypeError at every read."""
    with pytest.raises(ConfigurationError, match=f"^{next(iter(options))} must be a"):
        Client("prod", **options)


@pytest.mark.parametrize("key", [5, None, ("a",), b"a"])
def test_what_is_no_text_names_no_flag(key: Any) -> None:
    """A KeyError as for any flag that is not there."""
    client = Rig({"a": 1}).client
    assert key not in client
    with pytest.raises(FlagNotFoundError):
        client[key]


@pytest.mark.parametrize("name", ["Prod", "prod\n", "a/b"])
def test_a_wrong_name_is_refused_before_any_read(name: str) -> None:
    """Before it could reach a key, and so that it is not cached."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not a valid source name"):
            flagstore.client(name)


def test_a_missing_table_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first read says which variable to set, every time."""
    monkeypatch.delenv("FLAGSTORE_TABLE", raising=False)
    client = Client("no-table", replicas=1)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="FLAGSTORE_TABLE"):
            client.snapshot()


# -- imports ------------------------------------------------------------------------------------

HEAVY = ("boto3", "botocore", "requests", "dataclasses", "http.client", "logging", "asyncio")


def run(code: str) -> str:
    """Run code in a fresh interpreter that sees nothing but the sources."""
    code = f"import sys; sys.path.insert(0, {SOURCES!r})\n{code}"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


def test_importing_flagstore_imports_nothing_heavy() -> None:
    """A cold start pays for what it uses, and for nothing else."""
    code = "import flagstore; flagstore.client('prod'); print(*sys.modules)"
    loaded = set(run(code).split())
    assert "flagstore.clients" in loaded
    assert not loaded & {*HEAVY, "redis", "urllib.request", "ssl", "inspect", "subprocess", "uuid"}
    assert not any(name.startswith("storesync") for name in loaded)


def test_a_platform_without_fork_can_import_it() -> None:
    """Windows has no os.register_at_fork, and code that reads flags is tested there, too."""
    code = "import os; del os.register_at_fork; import flagstore; print(flagstore.__name__)"
    assert run(code) == "flagstore"


def test_the_surface_is_what_is_listed() -> None:
    """Everything in __all__ is there, sorted, and no more is promised."""
    assert flagstore.__all__ == sorted(flagstore.__all__)
    assert all(hasattr(flagstore, name) for name in flagstore.__all__)
