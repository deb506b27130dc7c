"""The client: when it reads, what it keeps, and what it reports."""

from __future__ import annotations

import contextlib
import logging
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
from flagstore.errors import (
    ConfigurationError,
    CorruptSnapshotError,
    FlagNotFoundError,
    NotLoadedError,
    NotPublishedError,
    StoreUnavailableError,
)
from flagstore.keys import snapshot_key, state_key
from simulators.reader_rig import DOWN, EXPIRED_S, HEAD, STATE, Rig, together
from simulators.reader_store import chunks_of
from simulators.signals import Interrupted, InterruptedLock, in_child
from unit.pipeline_rig import large

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCES = str(Path(flagstore.__file__).parents[1])
HEAD_AGAIN, STATE_AGAIN = "read! prod:$snapshot", "read! prod:$state"


LARGE = large(1)


def loaded(flags: dict[str, Any]) -> Rig:
    rig = Rig(flags)
    rig.client.snapshot()
    rig.calls()
    return rig


# -- how many reads -----------------------------------------------------------------------------


def test_number_of_reads() -> None:
    """One when cold, one small one per TTL, two for a newer set, and one per chunk."""
    rig = Rig({"a": 1, "b": 2})
    assert rig.client["a"] == 1
    assert rig.calls() == [HEAD]
    assert (rig.client.keys(), list(rig.client)) == (["a", "b"], ["a", "b"])
    assert (len(rig.client), "b" in rig.client, rig.client["b"]) == (2, True, 2)
    assert rig.calls() == []
    for _ in range(3):
        rig.advance(EXPIRED_S)
        rig.heartbeat()
        for _ in range(10):
            assert rig.client["a"] == 1
        assert rig.calls() == [STATE]
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 2
    assert rig.calls() == [STATE, HEAD]
    token = rig.publish(LARGE)
    rig.advance(EXPIRED_S)
    assert rig.client["flag-1"] == LARGE["flag-1"]
    assert rig.calls() == [STATE, HEAD, f"chunk {token}/0", f"chunk {token}/1"]


@pytest.mark.parametrize("clock", ["wall", "mono"])
def test_either_clock_ends_the_ttl(clock: str) -> None:
    """The wall clock may be set, the monotonic one may stop in a freeze."""
    rig = loaded({"a": 1})
    rig.publish({"a": 2})
    getattr(rig, clock).advance(EXPIRED_S)
    assert rig.client._cache.age_s() == pytest.approx(EXPIRED_S)
    assert rig.client["a"] == 2


@pytest.mark.parametrize("jump_s", [600, -86_400 * 365])
def test_wall_clock_jumps_are_harmless(jump_s: float) -> None:
    """Flags stay readable, and are fresh within a TTL."""
    rig = loaded({"a": 1})
    rig.wall.advance(jump_s)
    assert rig.client["a"] == 1
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 2
    assert rig.client.info().age_s >= 0


@pytest.mark.parametrize(
    ("error", "least", "most"), [(None, 0.9 * TTL_S, 1.1 * TTL_S), (DOWN, 5.0, 7.5)]
)
def test_ttl_and_back_off_have_jitter(error: Exception | None, least: float, most: float) -> None:
    """Processes that start or are throttled together spread their next calls."""
    waited = []
    for _ in range(40):
        rig = loaded({"a": 1})
        if error:
            rig.store.error = error
            rig.advance(EXPIRED_S)
            rig.client.snapshot()
            rig.calls()
        seconds = 0.0
        while not rig.calls():
            seconds += 0.1
            rig.advance(0.1)
            rig.client.snapshot()
        waited.append(seconds)
    assert least - 0.05 <= min(waited)
    assert max(waited) <= most + 0.15
    assert max(waited) - min(waited) > 0.3 * (most - least)


# -- last known good ----------------------------------------------------------------------------


DAMAGES: list[dict[str, Any]] = [
    {"body": b"other"},
    {"index_data": None},
    {"token": "a text"},
    {"published_at": "a text"},
    {"chunks": "[1,"},
    {"counts": "{"},
    {"counts": "[]"},
    {"counts": '{"flags": "1"}'},
]


def harm(rig: Rig, damage: dict[str, Any]) -> None:
    """Change attributes of the snapshot record; None removes one."""
    record = {**rig.records[snapshot_key("prod")], **damage}
    rig.records[snapshot_key("prod")] = {k: v for k, v in record.items() if v is not None}


def fail(rig: Rig, error: Exception) -> None:
    rig.store.error = error


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        *((lambda rig, error=error: fail(rig, error), "") for error in (KeyError(), MemoryError())),
        *((lambda rig, damage=damage: harm(rig, damage), "") for damage in DAMAGES),
        (lambda rig: fail(rig, ConfigurationError("no table")), "no table"),
        (lambda rig: rig.records.clear(), "no longer holds"),
        # The same token is not enough.
        (lambda rig: rig.records[state_key("prod")].update(nonce="x"), "behind its source state"),
    ],
)
def test_faulty_store_keeps_last_known_good_set(fault: Callable[[Rig], None], reason: str) -> None:
    """The flags in memory are served, and info() has the reason; damaged data never is."""
    rig = loaded({"a": 1})
    rig.publish({"a": 2})
    fault(rig)
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    info = rig.client.info()
    assert info.stale
    assert reason in info.error


@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("error", [DOWN, KeyError("odd")])
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


def test_time_limits_of_a_silent_store() -> None:
    """Two seconds for the first load, retries included; a quarter of a second afterwards."""
    rig = Rig({"a": 1})
    rig.store.latency_s = 5
    before = rig.mono.monotonic()
    with pytest.raises(StoreUnavailableError):
        rig.client.snapshot()
    assert rig.mono.monotonic() - before == pytest.approx(2.0)
    rig = loaded({"a": 1})
    rig.store.latency_s = 5
    for _ in range(3):
        rig.advance(61)
        before = rig.mono.monotonic()
        assert rig.client["a"] == 1
        assert rig.mono.monotonic() - before == pytest.approx(REFRESH_S)


def test_refresh_budget_grows_while_data_arrives() -> None:
    """It doubles up to that of a first load, so that a large set can load."""
    rig = loaded({"a": 1})
    rig.publish({"a": 2})
    rig.store.latency_s, rig.store.receiving = 0.2, True  # twice is more than the first budget
    for value in (1, 2):
        rig.advance(61)
        assert rig.client["a"] == value
    assert not rig.client.info().stale


def test_chunks_read_in_time_are_kept_for_the_next_attempt() -> None:
    """A large body loads even if the budget never grows; those of an earlier body are dropped."""
    rig = loaded({"flag-1": 1})
    rig.store.latency_s = 0.08
    for seed in (2, 3, 1):
        token = rig.publish(large(seed))
        rig.advance(61)
        rig.calls()
        assert rig.client["flag-1"] == 1
        assert [len(chunks) for chunks in rig.client._cache._begun.values()] == [1]
    rig.advance(61)
    assert rig.client["flag-1"] == LARGE["flag-1"]
    first = [STATE, HEAD, f"chunk {token}/0", f"chunk {token}/1"]
    assert rig.calls() == [*first, STATE, HEAD, f"chunk {token}/1"]


def test_attempts_that_make_progress_follow_each_other_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large set whose reads are throttled loads chunk by chunk, without ever longer pauses."""
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 50_000)
    rig = loaded({"flag-1": 1})
    rig.store.latency_s = 0.08
    rig.publish(LARGE)
    chunks = len(chunks_of(rig.records, ""))
    assert chunks > 5
    rig.advance(EXPIRED_S)
    for _ in range(chunks):
        assert rig.client["flag-1"] in (1, LARGE["flag-1"])
        rig.advance(7.5)
    assert rig.client["flag-1"] == LARGE["flag-1"]


# -- the first load -----------------------------------------------------------------------------


def test_unpublished_source_names_the_remedy() -> None:
    """The name may be wrong, or SyncFunction has not run."""
    rig = Rig()
    with pytest.raises(NotPublishedError, match=r"'prod'.*check the name.*SyncFunction"):
        rig.client.snapshot()
    assert rig.calls() == [HEAD, HEAD_AGAIN, STATE_AGAIN]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_set_is_read_once_more_then_raised(damage: dict[str, Any]) -> None:
    """The second read is consistent; callers who catch NotLoadedError catch this, too."""
    rig = Rig({"a": 1})
    harm(rig, damage)
    with pytest.raises(NotLoadedError):
        rig.client.snapshot()
    assert rig.calls() == [HEAD, HEAD_AGAIN]


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
    assert rig.calls() == [STATE, STATE_AGAIN]


def lose_history(rig: Rig, token: int, flags: dict[str, Any]) -> None:
    """Publish with this token in a store that lost all it had."""
    rig.records.clear()
    rig.records[state_key("prod")] = {**state_key("prod")._asdict(), "issued": token - 1}
    rig.publish(flags)


def test_store_that_lost_its_history_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Once; after that, a check is one read again."""
    rig = loaded({"a": "lost"})
    token = rig.client.info().token
    lose_history(rig, token - 1, {"a": "kept"})
    for _ in range(2):
        rig.calls()
        rig.advance(EXPIRED_S)
        assert rig.client["a"] == "kept"
        assert not rig.client.info().stale
    assert rig.calls() == [STATE]
    (record,) = caplog.records
    followed = f"has lost its history: version {token - 1} follows version {token}"
    assert followed in record.getMessage()


def test_lagging_replica_of_a_token_issued_twice() -> None:
    """It does not decide which publication is the current one."""
    rig = loaded({"a": "lost"})
    lose_history(rig, rig.client.info().token, {"a": "kept"})
    rig.store.stale = {key: dict(record) for key, record in rig.records.items()}
    rig.publish({"a": "last"})
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == "last"


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
    assert rig.calls() == [STATE, HEAD, HEAD_AGAIN]


def test_missing_chunk_is_read_again_consistently() -> None:
    """An old snapshot record names chunks that have expired; the current one names others."""
    rig = Rig(LARGE)
    old = rig.publish(large(2))
    stale = {snapshot_key("prod"): dict(rig.records[snapshot_key("prod")])}
    new = rig.publish(large(3))
    del rig.records[chunks_of(rig.records, old)[1]]
    rig.store.stale = stale
    assert rig.client.snapshot().snapshot_record.token == new
    old_chunks = [f"chunk {old}/0", f"chunk {old}/1", f"chunk! {old}/1"]
    assert rig.calls() == [HEAD, *old_chunks, HEAD_AGAIN, f"chunk! {new}/0", f"chunk! {new}/1"]


def test_chunk_that_a_replica_lacks_is_read_consistently() -> None:
    """A chunk never changes, so an eventually consistent read has it or nothing."""
    rig = Rig(LARGE)
    second = chunks_of(rig.records, "")[1]
    rig.store.stale = {second: {**second._asdict(), "expires_at": 1}}
    assert rig.client["flag-1"] == LARGE["flag-1"]
    token = rig.client.snapshot().snapshot_record.token
    read = [f"chunk {token}/0", f"chunk {token}/1", f"chunk! {token}/1"]
    assert rig.calls() == [HEAD, *read]


def test_missing_chunk_keeps_last_known_good_set() -> None:
    rig = loaded({"a": 1})
    token = rig.publish(LARGE)
    del rig.records[chunks_of(rig.records, token)[0]]
    rig.advance(EXPIRED_S)
    assert rig.client["a"] == 1
    assert rig.client.info().stale
    with pytest.raises(CorruptSnapshotError):
        rig.another().snapshot()


# -- replicas -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [None, "", "1", "4"])
def test_replicas_share_cold_reads(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """A variable sets their number; the default is one."""
    number = int(text or 1)
    rig = Rig({"a": 1}, replicas=number)
    if text is None:
        monkeypatch.delenv("FLAGSTORE_SNAPSHOT_REPLICAS", raising=False)
    else:
        monkeypatch.setenv("FLAGSTORE_SNAPSHOT_REPLICAS", text)
    for _ in range(100):
        assert Client("prod", store=rig.store)["a"] == 1
    assert set(rig.calls()) == {HEAD, *(f"{HEAD}~{n}" for n in range(1, number))}


def test_missing_replica_costs_one_more_read() -> None:
    """The first snapshot record is always there."""
    rig = Rig({"a": 1}, replicas=1)
    for _ in range(50):
        assert rig.another(replicas=250)["a"] == 1
    assert len(rig.calls()) > 50


@pytest.mark.parametrize("text", ["0", "two", "²"])
def test_invalid_number_of_replicas(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FLAGSTORE_SNAPSHOT_REPLICAS", text)
    with pytest.raises(ConfigurationError, match="FLAGSTORE_SNAPSHOT_REPLICAS must be a whole"):
        Client("prod", store=Rig({"a": 1}).store).snapshot()


# -- what it returns ----------------------------------------------------------------------------


def test_json_is_a_copy() -> None:
    rig = Rig({"a": {"rules": [1, 2]}})
    rig.client["a"]["rules"].append(3)
    rig.client.snapshot()["a"].clear()
    rig.client.keys().clear()
    assert rig.client["a"] == {"rules": [1, 2]}
    assert rig.client.keys() == ["a"]


def test_missing_flag_is_a_readable_key_error() -> None:
    rig = Rig({"a": 1})
    with pytest.raises(FlagNotFoundError) as caught:
        rig.client["b"]
    assert str(caught.value) == "no flag 'b' in source 'prod'"
    assert isinstance(caught.value, KeyError)
    with pytest.raises(FlagNotFoundError, match="no segment 's'"):
        rig.client.snapshot().item("segments", "s")
    for key in (7, None, b"a"):
        assert key not in rig.client
        with pytest.raises(FlagNotFoundError):
            rig.client[key]  # type: ignore[index] # on purpose


def test_info_describes_the_set_in_memory() -> None:
    """An unchanged set does not age while checks continue."""
    rig = Rig()
    token = rig.publish({"a": 1, "b": 2}, segments={"s": 1})
    published_at = rig.wall.now()
    rig.advance(7_200)
    rig.heartbeat()
    rig.advance(5)
    info = rig.client.info()
    assert (info.source, info.provider, info.token, info.revision) == ("prod", "model", token, 5)
    assert info.digest == rig.records[snapshot_key("prod")]["digest"]
    assert info.counts == {"flags": 2, "segments": 1}
    assert (info.published_at, info.age_s) == pytest.approx((published_at, 5))
    assert (info.stale, info.error) == (False, "")
    assert rig.calls() == [HEAD, STATE]
    rig.advance(3)
    assert rig.client.info().age_s == pytest.approx(8)
    assert rig.calls() == []
    rig.heartbeat()
    rig.advance(EXPIRED_S)
    assert rig.client.info().age_s == pytest.approx(EXPIRED_S)


# -- warnings -----------------------------------------------------------------------------------


def test_one_warning_per_change_of_state(caplog: pytest.LogCaptureFixture) -> None:
    """Stale and fresh again: two lines, however long it takes."""
    caplog.set_level(logging.DEBUG)
    rig = Rig({"a": 1})
    for error in (None, DOWN, OSError("another"), None):
        rig.store.error = error
        for _ in range(10):
            rig.advance(61)
            rig.client.snapshot()
    assert [f"{r.name} {r.levelname} {r.getMessage()}" for r in caplog.records] == [
        "flagstore WARNING flags of prod are stale: the store is down",
        "flagstore WARNING flags of prod are fresh again",
    ]


def test_store_that_is_lost_for_a_day() -> None:
    """The pause does not grow without a limit."""
    rig = loaded({"a": 1})
    rig.store.error = DOWN
    for _ in range(1_100):
        rig.advance(61)
        assert rig.client["a"] == 1
    assert rig.client.info().age_s == pytest.approx(1_100 * 61)


def test_log_handler_may_call_info() -> None:
    """The thread that reads calls it, and does not wait for itself."""
    rig = Rig({"a": 1})
    seen: list[Any] = []
    handler = logging.Handler()
    handler.emit = lambda _record: seen.append(rig.client.info())  # type: ignore[method-assign]
    logging.getLogger("flagstore").addHandler(handler)
    try:
        rig.client.snapshot()
        rig.store.error = DOWN
        rig.advance(EXPIRED_S)
        thread = threading.Thread(target=rig.client.snapshot, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    finally:
        logging.getLogger("flagstore").removeHandler(handler)
    assert [(info.stale, info.error) for info in seen] == [(True, str(DOWN))]


# -- threads and processes ----------------------------------------------------------------------


def test_fifty_cold_threads_share_one_failure() -> None:
    rig = Rig({"a": 1})
    rig.store.on_call = lambda _: time.sleep(0.05)
    rig.store.error = DOWN
    results = together(50, rig.client.snapshot)
    assert all(isinstance(result, StoreUnavailableError) for result in results)
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
    rig = loaded({"a": 1})
    rig.publish({"a": 2})
    rig.advance(EXPIRED_S)
    with reading(rig):
        assert together(49, lambda: rig.client["a"]) == [1] * 49
        assert rig.calls() == [STATE]
    assert rig.client["a"] == 2
    assert rig.calls() == [HEAD]


@pytest.fixture(params=[True, False], ids=["loaded", "cold"])
def due(request: pytest.FixtureRequest) -> Rig:
    """Give a client whose next read asks the store and returns 2, loaded before or not."""
    rig = Rig({"a": 1 if request.param else 2})
    if request.param:
        rig.client.snapshot()
        rig.publish({"a": 2})
        rig.advance(EXPIRED_S)
    return rig


@pytest.mark.parametrize("ask", [Client.snapshot, Client.info])
def test_signal_handler_that_raises_leaves_no_lock(
    due: Rig, ask: Callable[[Client], object]
) -> None:
    """The next call reads, in this thread and in others."""
    due.client._cache._turns._lock = InterruptedLock(threading.RLock())  # type: ignore[assignment]
    with pytest.raises(Interrupted):
        ask(due.client)
    assert together(1, lambda: due.client["a"]) == [2]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_child_reads_while_the_parent_was_reading(due: Rig) -> None:
    """The thread that held the turn is not in the child."""

    def work() -> None:
        due.store.on_call = lambda _call: None
        assert due.client["a"] == 2

    with reading(due):
        assert in_child(work)


# -- client() -----------------------------------------------------------------------------------


def test_client_is_shared_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same instance everywhere; FLAGSTORE_SOURCE is the default name."""
    assert flagstore.client("one-name") is flagstore.client("one-name")
    assert flagstore.client("one-name") is not flagstore.client("other-name")
    assert len(set(together(20, lambda: flagstore.client("many-threads")))) == 1
    monkeypatch.setenv("FLAGSTORE_SOURCE", "from-the-environment")
    assert flagstore.client().source == "from-the-environment"
    assert flagstore.client() is flagstore.client("from-the-environment")


@pytest.mark.parametrize("name", [None, ""])
def test_missing_source_name_is_raised_at_first_use(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """A module can be imported and inspected without one; the error names both remedies."""
    monkeypatch.delenv("FLAGSTORE_SOURCE", raising=False)
    nameless = flagstore.client(name)
    for use in (nameless.keys, nameless.snapshot, nameless.info, lambda: nameless.enabled("a")):
        with pytest.raises(ConfigurationError, match=r'client\("prod"\), or set FLAGSTORE_SOURCE'):
            use()
    assert not hasattr(nameless, "__wrapped__")


@pytest.mark.parametrize(
    "options",
    [
        {"ttl_s": "30"},
        {"ttl_s": True},
        {"ttl_s": float("nan")},
        {"max_age_s": -1},
        {"replicas": 0},
        {"replicas": 1.5},
    ],
)
def test_invalid_numbers_are_refused(options: dict[str, Any]) -> None:
    """When the client is made, not at every read."""
    with pytest.raises(ConfigurationError, match=f"^{next(iter(options))} must be a"):
        Client("prod", **options)


def test_invalid_source_name_is_refused() -> None:
    """Before any read, every time."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not a valid source name"):
            flagstore.client("Prod")


def test_import_without_fork() -> None:
    """Windows has no os.register_at_fork."""
    code = f"import sys; sys.path.insert(0, {SOURCES!r})\nimport os; del os.register_at_fork"
    code += "\nimport flagstore"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
