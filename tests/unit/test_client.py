"""The client: when it reads, what it keeps, and what it reports."""

from __future__ import annotations

import contextlib
import logging
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import flagstore
from flagstore.cache import REFRESH_S, TTL_S
from flagstore.clients import Client
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
from simulators.reader_rig import Rig
from simulators.reader_store import chunks_of
from simulators.signals import Interrupted, InterruptedLock, in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


SOURCES = str(Path(flagstore.__file__).parents[1])
DOWN = StoreUnavailableError("the store is down")
STATE = "read prod:$state"
HEAD = "read prod:$snapshot"
# A TTL has up to 10 % of jitter, either way.
FRESH_S, EXPIRED_S = 0.9 * TTL_S - 0.1, 1.1 * TTL_S + 0.1


def large(seed: int) -> dict[str, Any]:
    """Return flags too large for a snapshot record."""
    rng = random.Random(seed)
    return {f"flag-{number}": rng.randbytes(5_000).hex() for number in range(90)}


LARGE = large(1)


def loaded(flags: dict[str, Any]) -> Rig:
    """Return a rig whose client has read these flags."""
    rig = Rig(flags)
    rig.client.snapshot()
    rig.calls()
    return rig


@pytest.fixture
def warnings_of(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the warnings since the last call."""
    caplog.set_level(logging.DEBUG)

    def messages() -> list[str]:
        found = [f"{r.name} {r.levelname} {r.getMessage()}" for r in caplog.records]
        caplog.clear()
        return found

    return messages


# -- how many reads -----------------------------------------------------------------------------


def test_cold_read_is_one_call() -> None:
    """The first read returns the set in the snapshot record; later reads are free."""
    rig = Rig({"a": 1, "b": 2})
    assert rig.client["a"] == 1
    assert rig.calls() == [HEAD]
    assert (rig.client.keys(), len(rig.client), "b" in rig.client) == (["a", "b"], 2, True)
    assert list(rig.client) == ["a", "b"]
    assert rig.client["b"] == 2
    assert rig.calls() == []


def test_freshness_check_is_one_small_read() -> None:
    """An unchanged set costs one read of the source state per TTL."""
    rig = loaded({"a": 1})
    for _ in range(5):
        rig.advance(EXPIRED_S)
        rig.heartbeat()
        for _ in range(10):
            assert rig.client["a"] == 1
        assert rig.calls() == [STATE]


def test_newer_set_costs_two_reads() -> None:
    """Source state and snapshot record; chunks cost a third."""
    rig = loaded({"a": 1})
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
    """The wall clock may be set, the monotonic one may stop in a freeze."""
    rig = loaded({"a": 1})
    rig.publish({"a": 2})
    getattr(rig, clock).advance(EXPIRED_S)
    assert rig.client["a"] == 2


@pytest.mark.parametrize("jump_s", [-600, 600, -86_400 * 365])
def test_wall_clock_jumps_are_harmless(jump_s: float) -> None:
    """Flags stay readable, and are fresh within a TTL."""
    rig = loaded({"a": 1})
    rig.wall.advance(jump_s)
    assert rig.client["a"] == 1
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 2
    assert rig.client.info().age_s >= 0


def test_ttl_has_ten_percent_jitter() -> None:
    """Processes that start together spread their checks; none comes early."""
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


def test_lost_store_keeps_last_known_good_set() -> None:
    """Indefinitely, without an exception; info() is stale and has the reason."""
    rig = loaded({"a": 1})
    rig.store.error = DOWN
    for _ in range(1_100):
        rig.advance(61)
        assert rig.client["a"] == 1
        info = rig.client.info()
    assert (info.stale, info.error) == (True, "the store is down")
    assert info.age_s == pytest.approx(1_100 * 61)
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
def test_store_errors_never_reach_a_loaded_caller(error: Exception) -> None:
    """Whatever the store raises, reads serve the flags in memory."""
    rig = loaded({"a": 1})
    rig.store.error = error
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    assert rig.client.info().stale


DAMAGES: list[dict[str, Any]] = [
    {"body": b"other"},
    {"index_data": None},
    {"index_data": "a text"},
    {"index_digest": "0" * 64},
    {"token": None},
    {"token": "a text"},
    {"chunks": "[1,"},
]


def in_another_layout(rig: Rig) -> None:
    """Publish for newer readers only."""
    rig.records[Key("prod:$snapshot", "2")] = rig.records.pop(snapshot_key("prod"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        *((lambda rig, damage=damage: harm(rig, damage), "") for damage in DAMAGES),
        (lambda rig: rig.records.clear(), "no longer holds"),
        (in_another_layout, "another layout"),
        # The same token is not enough.
        (lambda rig: rig.records[state_key("prod")].update(nonce="x"), "behind its source state"),
    ],
)
def test_damaged_store_keeps_last_known_good_set(
    damage: Callable[[Rig], None], reason: str
) -> None:
    """The flags in memory are served, and info() has the reason; damaged data never is."""
    rig = loaded({"a": 1})
    rig.publish({"a": 2})
    damage(rig)
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    info = rig.client.info()
    assert info.stale
    assert reason in info.error


def harm(rig: Rig, damage: dict[str, Any]) -> None:
    """Change attributes of the snapshot record; None removes one."""
    record = {**rig.records[snapshot_key("prod")], **damage}
    rig.records[snapshot_key("prod")] = {k: v for k, v in record.items() if v is not None}


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("error", [DOWN, OSError("reset"), KeyError("odd")])
def test_failures_back_off_exponentially(error: Exception, *, loaded: bool) -> None:
    """Pauses of 5, 10, 20, 40 and 60 s, with jitter; a success resets them."""
    rig = Rig({"a": 1})
    outcome: contextlib.AbstractContextManager[Any] = pytest.raises(NotLoadedError)
    if loaded:
        rig.client.snapshot()
        rig.advance(EXPIRED_S)
        rig.calls()
        outcome = contextlib.nullcontext()
    rig.store.error = error
    for pause in (5, 10, 20, 40, 60, 60):
        with outcome:
            rig.client.snapshot()
        assert rig.calls() == [STATE if loaded else HEAD]
        rig.advance(pause - 0.1)
        for call in (rig.client.snapshot, rig.client.info, rig.client.keys):
            with outcome:
                call()
        assert rig.calls() == []
        rig.advance(0.1 + pause / 2)
    rig.store.error = None
    assert rig.client["a"] == 1
    assert not rig.client.info().stale
    rig.store.error = error
    rig.advance(EXPIRED_S)
    rig.client.snapshot()
    rig.calls()
    rig.advance(7.5)
    rig.client.snapshot()
    assert rig.calls() == [STATE]


def test_back_off_has_jitter() -> None:
    """Twenty clients that failed at one moment return over more than a second."""
    back: list[int] = []
    for _ in range(20):
        rig = loaded({"a": 1})
        rig.store.error = DOWN
        rig.advance(EXPIRED_S)
        rig.client.snapshot()
        rig.calls()
        rig.advance(5)
        for tenth in range(27):
            rig.client.snapshot()
            if rig.calls():
                back.append(tenth)
                break
            rig.advance(0.1)
    assert len(back) == 20
    assert max(back) - min(back) > 10


def test_refresh_budget_grows_while_data_arrives() -> None:
    """It doubles up to that of a first load, so that a large set can load."""
    rig = loaded({"a": 1})
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


def test_chunks_read_in_time_are_kept_for_the_next_attempt() -> None:
    """A large body loads even if the budget never grows."""
    rig = loaded({"flag-1": 1})
    token = rig.publish(LARGE)
    rig.store.page, rig.store.latency_s = 1, 0.08
    rig.advance(61)
    rig.calls()
    assert rig.client["flag-1"] == 1
    rig.advance(61)
    assert rig.client["flag-1"] == LARGE["flag-1"]
    first = [STATE, HEAD, f"chunks {token}", f"chunks {token}/1"]
    assert rig.calls() == [*first, STATE, HEAD, f"chunks {token}/1"]


def test_chunks_of_an_earlier_body_are_dropped() -> None:
    """A large body that is replaced before it has loaded is freed."""
    rig = Rig({"a": 1})
    rig.client.snapshot()
    rig.store.page, rig.store.latency_s = 1, 0.08
    for seed in range(4):
        rig.publish(large(seed))
        rig.advance(61)
        assert rig.client["a"] == 1
        assert [len(chunks) for chunks in rig.client._cache._begun.values()] == [1]


def test_silent_store_never_costs_more_than_the_refresh_budget() -> None:
    """A quarter of a second each time, then the flags in memory are served."""
    rig = loaded({"a": 1})
    rig.store.latency_s = 5
    for _ in range(5):
        rig.advance(61)
        before = rig.mono.monotonic()
        assert rig.client["a"] == 1
        assert rig.mono.monotonic() - before == pytest.approx(REFRESH_S)


def test_first_load_takes_at_most_two_seconds() -> None:
    """In all, retries included."""
    rig = Rig({"a": 1})
    rig.store.latency_s = 5
    before = rig.mono.monotonic()
    with pytest.raises(StoreUnavailableError):
        rig.client.snapshot()
    assert rig.mono.monotonic() - before == pytest.approx(2.0)


# -- the first load -----------------------------------------------------------------------------


def test_unpublished_source_names_the_remedy() -> None:
    """The name may be wrong, or SyncFunction has not run."""
    rig = Rig()
    with pytest.raises(NotPublishedError, match=r"'prod'.*check the name.*SyncFunction"):
        rig.client.snapshot()
    assert rig.calls() == [HEAD, "read! prod:$snapshot", "read! prod:$state"]


def test_unknown_layout_names_the_remedy() -> None:
    """The set is published for newer readers: update the layer."""
    rig = Rig({"a": 1})
    in_another_layout(rig)
    with pytest.raises(UnsupportedLayoutError, match="update the flagstore layer or wheel"):
        rig.client.snapshot()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_set_is_read_once_more_then_raised(damage: dict[str, Any]) -> None:
    """The second read is consistent; callers who catch NotLoadedError catch this, too."""
    rig = Rig({"a": 1})
    harm(rig, damage)
    with pytest.raises(NotLoadedError):
        rig.client.snapshot()
    if "body" in damage:
        assert rig.calls() == [HEAD, "read! prod:$snapshot"]


# -- never older, never torn --------------------------------------------------------------------


def test_lagging_replica_costs_one_more_read() -> None:
    """A consistent read distinguishes it from a store that has lost its history."""
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
def test_store_that_lost_its_history_is_followed(
    back: int, warnings_of: Callable[[], list[str]], *, lags: bool
) -> None:
    """The set has the same token or a lower one, and another nonce."""
    rig = loaded({"a": "lost"})
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


def test_restored_state_may_be_older_than_its_snapshot() -> None:
    """Items of a backup may be moments apart: the set stays, and is not stale."""
    rig = Rig({"a": 1})
    older = dict(rig.records[state_key("prod")])
    rig.publish({"a": 2})
    snapshot = rig.client.snapshot()
    rig.records[state_key("prod")] = older
    rig.advance(EXPIRED_S)
    assert rig.client.snapshot() is snapshot
    assert not rig.client.info().stale


def test_snapshot_behind_its_state_is_read_again_consistently() -> None:
    """The source state has the token that must be there."""
    rig = loaded({"a": 1})
    rig.store.stale = {snapshot_key("prod"): dict(rig.records[snapshot_key("prod")])}
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    rig.calls()
    assert rig.client["a"] == 2
    assert rig.calls() == [STATE, HEAD, "read! prod:$snapshot"]


def test_torn_read_is_repeated_consistently() -> None:
    """Index and body of two publications are never served."""
    rig = Rig({"a": 1})
    torn = dict(rig.records[snapshot_key("prod")])
    rig.publish({"a": 2})
    torn["index_data"] = rig.records[snapshot_key("prod")]["index_data"]
    rig.store.stale = {snapshot_key("prod"): torn}
    assert rig.client["a"] == 2
    assert rig.calls() == [HEAD, "read! prod:$snapshot"]


def test_missing_chunk_is_read_again_consistently() -> None:
    """An old snapshot record names chunks that have expired; the current one names others."""
    rig = Rig(LARGE)
    old = rig.publish(large(2))
    stale = {snapshot_key("prod"): dict(rig.records[snapshot_key("prod")])}
    new = rig.publish(large(3))
    del rig.records[chunks_of(rig.records, old)[1]]
    rig.store.stale = stale
    assert rig.client.info().token == new
    assert rig.calls()[:4] == [HEAD, f"chunks {old}", "read! prod:$snapshot", f"chunks {new}"]


@pytest.mark.parametrize("damage", ["removed", "stub"])
def test_missing_chunk_keeps_last_known_good_set(damage: str) -> None:
    """Half a body is not a flag set."""
    rig = loaded({"a": 1})
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


def test_surplus_chunks_are_ignored() -> None:
    """Only those that the snapshot record names are used."""
    rig = Rig(LARGE)
    snapshot_record = SnapshotRecord.from_record(rig.records[snapshot_key("prod")])
    key = chunk_key("prod", *snapshot_record.stored_chunks())
    rig.records[key] = {**key._asdict(), "body": b"more"}
    assert rig.client["flag-3"] == LARGE["flag-3"]


def test_readers_see_whole_sets_in_order() -> None:
    """Through 300 publications, each set is whole, and none is older than the previous one."""
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


def test_snapshot_is_immutable() -> None:
    """A request that holds one sees one set while the client moves on."""
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


def test_replicas_share_cold_reads() -> None:
    """They spread over all snapshot records, so over partitions."""
    rig = Rig({"a": 1}, replicas=3)
    asked = set()
    for _ in range(200):
        assert rig.another(replicas=3)["a"] == 1
        asked |= set(rig.calls())
    assert asked == {HEAD, "read prod:$snapshot~1", "read prod:$snapshot~2"}


def test_missing_or_lagging_replica_costs_one_more_read() -> None:
    """The first snapshot record is always there."""
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
def test_invalid_number_of_replicas(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The error names the variable and its value."""
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
    """The variable sets their number; the default is one."""
    rig = Rig({"a": 1}, replicas=int(text or 1))
    if text is None:
        monkeypatch.delenv("FLAGSTORE_SNAPSHOT_REPLICAS", raising=False)
    else:
        monkeypatch.setenv("FLAGSTORE_SNAPSHOT_REPLICAS", text)
    for _ in range(100):
        assert Client("prod", store=rig.store)["a"] == 1
    assert len(set(rig.calls())) == int(text or 1)


# -- what it returns ----------------------------------------------------------------------------


def test_json_is_a_copy() -> None:
    """Changing it changes no flag."""
    rig = Rig({"a": {"rules": [1, 2]}})
    rig.client["a"]["rules"].append(3)
    rig.client.snapshot()["a"].clear()
    rig.client.snapshot().item("flags", "a")["rules"].clear()
    rig.client.keys().clear()
    assert rig.client["a"] == {"rules": [1, 2]}
    assert rig.client.keys() == ["a"]


def test_missing_flag_is_a_readable_key_error() -> None:
    """The message names flag and source."""
    rig = Rig({"a": 1})
    with pytest.raises(FlagNotFoundError) as caught:
        rig.client["b"]
    assert str(caught.value) == "no flag 'b' in source 'prod'"
    assert isinstance(caught.value, KeyError)
    with pytest.raises(FlagNotFoundError, match="no segment 's'"):
        rig.client.snapshot().item("segments", "s")
    for key in ("b", 7, None, ("a",), b"a"):
        assert key not in rig.client
        with pytest.raises(FlagNotFoundError):
            rig.client[key]  # type: ignore[index] # on purpose


def test_info_describes_the_set_in_memory() -> None:
    """Token, digest, counts and revision."""
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


def test_age_counts_from_the_last_check() -> None:
    """An unchanged set does not age while checks continue."""
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


# -- warnings -----------------------------------------------------------------------------------


def test_one_warning_per_change_of_state(warnings_of: Callable[[], list[str]]) -> None:
    """Stale and fresh again: two lines, however long it takes."""
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


def test_log_handler_may_call_info() -> None:
    """The thread that reads calls it, and does not wait for itself."""
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
    """Run it in this many threads at once; return each result or exception."""
    barrier = threading.Barrier(count)

    def run(_: int) -> Any:
        barrier.wait(10)
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - a result as well
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count), timeout=20))


@pytest.mark.parametrize("error", [None, DOWN])
def test_fifty_cold_threads_read_once(error: Exception | None) -> None:
    """The others wait and get the same set, or a typed error."""
    rig = Rig({"a": 1})
    rig.store.on_call = lambda _: time.sleep(0.05)
    rig.store.error = error
    results = together(50, rig.client.snapshot)
    if error:
        assert all(isinstance(result, StoreUnavailableError) for result in results)
    else:
        assert {id(result) for result in results} == {id(rig.client.snapshot())}
    assert rig.calls() == [HEAD]


@contextlib.contextmanager
def reading(rig: Rig) -> Iterator[None]:
    """Let a thread read meanwhile, held at its first call of the store until the block ends."""
    asked, go_on = threading.Event(), threading.Event()

    def hold(_call: str) -> None:
        asked.set()
        assert go_on.wait(10)

    rig.store.on_call = hold
    thread = threading.Thread(target=rig.client.snapshot)
    thread.start()
    assert asked.wait(10)
    try:
        yield
    finally:
        go_on.set()
        thread.join(10)


def test_one_thread_refreshes_and_no_other_waits() -> None:
    """The others are served from memory meanwhile."""
    rig = loaded({"a": 1})
    rig.publish({"a": 2})
    rig.calls()
    rig.advance(EXPIRED_S)
    with reading(rig):
        assert together(49, lambda: rig.client["a"]) == [1] * 49
        assert rig.calls() == [STATE]
    assert rig.client["a"] == 2
    assert rig.calls() == [HEAD]


@pytest.mark.parametrize("ask", [Client.snapshot, Client.info])
@pytest.mark.parametrize("loaded", [True, False])
def test_signal_handler_that_raises_leaves_no_lock(
    ask: Callable[[Client], object], *, loaded: bool
) -> None:
    """The next call reads, in this thread and in others."""
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


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("loaded_before", [True, False])
def test_forked_child_reads_while_the_parent_was_reading(*, loaded_before: bool) -> None:
    """The thread that held the turn is not in the child."""
    rig = Rig({"a": 1})
    if loaded_before:
        rig.client.snapshot()
        rig.publish({"a": 2})
        rig.advance(EXPIRED_S)

    def work() -> None:
        rig.store.on_call = lambda _call: None
        assert rig.client["a"] == (2 if loaded_before else 1)

    with reading(rig):
        assert in_child(work)


# -- client() -----------------------------------------------------------------------------------


def test_client_is_shared_by_name() -> None:
    """It is the same instance everywhere."""
    assert flagstore.client("one-name") is flagstore.client("one-name")
    assert flagstore.client("one-name") is not flagstore.client("other-name")
    assert len(set(together(20, lambda: flagstore.client("many-threads")))) == 1


def test_source_name_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLAGSTORE_SOURCE names the source."""
    monkeypatch.setenv("FLAGSTORE_SOURCE", "from-the-environment")
    assert flagstore.client().source == "from-the-environment"
    assert flagstore.client() is flagstore.client("from-the-environment")
    assert flagstore.client("by-name").source == "by-name"


@pytest.mark.parametrize("name", [None, ""])
def test_missing_source_name_is_raised_at_first_use(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """A module can be imported without one; the error names both remedies."""
    monkeypatch.delenv("FLAGSTORE_SOURCE", raising=False)
    nameless = flagstore.client(name)
    for use in (nameless.keys, nameless.snapshot, nameless.info, lambda: nameless.enabled("a")):
        with pytest.raises(ConfigurationError, match=r'client\("prod"\), or set FLAGSTORE_SOURCE'):
            use()


def test_nameless_client_survives_introspection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test tools look up attributes of every object in a module."""
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
def test_invalid_numbers_are_refused(options: dict[str, Any]) -> None:
    """When the client is made, not at every read."""
    with pytest.raises(ConfigurationError, match=f"^{next(iter(options))} must be a"):
        Client("prod", **options)


@pytest.mark.parametrize("name", ["Prod", "prod\n", "a/b"])
def test_invalid_source_name_is_refused(name: str) -> None:
    """Before any read, every time."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not a valid source name"):
            flagstore.client(name)


# -- imports ------------------------------------------------------------------------------------


def test_import_without_fork() -> None:
    """Windows has no os.register_at_fork."""
    code = f"import sys; sys.path.insert(0, {SOURCES!r})\nimport os; del os.register_at_fork"
    code += "\nimport flagstore"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
