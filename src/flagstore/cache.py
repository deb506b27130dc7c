"""The flag set in memory: loaded once, refreshed when it is read, never replaced by an older one.

There is no thread, no file and no work between invocations, because Lambda freezes an idle
process. A read checks for fresh flags first, at most once per TTL.
"""

from __future__ import annotations

import os
from _thread import RLock, get_ident  # threading imports more than both
from typing import TYPE_CHECKING
from weakref import WeakSet

from flagstore.codec import Body, decode_segment
from flagstore.errors import (
    ConfigurationError,
    CorruptSnapshotError,
    NotLoadedError,
    NotPublishedError,
    StoreUnavailableError,
    UnsupportedLayoutError,
)
from flagstore.keys import (
    Publication,
    SnapshotRecord,
    SourceState,
    check_source,
    chunk_key,
    snapshot_key,
    state_key,
)
from flagstore.snapshot import Info, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from flagstore.codec import LargeSegment
    from flagstore.keys import Key
    from flagstore.stores import ReaderStore

    Result = TypeVar("Result")

TTL_S = 30.0
"""Default of the minimum seconds between freshness checks."""
FIRST_LOAD_S = 2.0
"""Time limit for a read while there are no flags to serve."""
REFRESH_S = 0.24
"""Time limit for a read while there are: see :func:`_next_budget_s`."""
COOL_DOWN_S = 5.0
"""Minimum pause after a failure, plus up to 50 % jitter; doubles with each further failure."""
MAX_COOL_DOWN_S = 60.0
NOTHING = Publication(0, "")
"""Before the first publication."""


class Turns:
    """Gives one thread at a time access to a store."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Replace the lock: after a fork, a thread of the parent may hold it."""
        self._lock, self._holder = RLock(), 0

    def take(self, work: Callable[[], Result], timeout: float = 0.0) -> Result | None:
        """Run the work and return its result; None if another thread holds the lock for too long.

        Also return None if this thread already holds it: a log handler may read flags.
        """
        lock, me = self._lock, get_ident()
        if self._holder == me:
            return None
        try:
            if not lock.acquire(timeout=max(0.0, timeout)):
                return None
            self._holder = me
            return work()
        finally:
            # A signal handler may raise between two lines, with or without the lock.
            if self._holder == me:
                self._holder = 0
            try:  # noqa: SIM105 - contextlib is slow to import
                lock.release()
            except RuntimeError:
                pass


class SnapshotCache:
    """Holds the flag set of one source. Thread-safe and fork-safe.

    Once a flag set is loaded, only a large segment that cannot be read raises NotLoadedError.
    """

    def __init__(  # noqa: PLR0913 - the arguments of a client
        self,
        source: str,
        *,
        store: ReaderStore | None,
        ttl_s: float,
        replicas: int | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        bootstrap: str = "",
    ) -> None:
        """Create a cache; nothing is read yet. Arguments as for :class:`flagstore.Client`."""
        self.source = check_source(source)
        self._store = store
        self._ttl_s = ttl_s
        self._replicas = None if replicas is None else _count(str(replicas), "replicas")
        self._clock = clock
        self._monotonic = monotonic
        self._bootstrap = bootstrap
        self.current: Snapshot | None = None
        """The flag set in memory; None before the first load."""
        self._loaded_from = 0
        """The replica of the snapshot record that was loaded last."""
        self._checked_at = 0
        self.stale = False
        """Whether the last attempt to reach the store failed."""
        self._error: NotLoadedError | None = None
        self._failures = 0
        self._staleness_logged = False
        self._budget_s = self._segment_budget_s = REFRESH_S
        self._pauses: dict[str, tuple[float, NotLoadedError]] = {}
        """Digest of a damaged large segment, or "" for all → end and reason of the pause."""
        self._begun: dict[str, list[bytes]] = {}
        """Prefix → the chunks that earlier attempts have read."""
        self._begun_body = ""
        self._kept = 0
        """How many chunks those were at the last failure."""
        self._due_wall = self._due_monotonic = 0.0
        self._heard_wall = self._heard_monotonic = 0.0
        self._turns = Turns()
        _all_turns.add(self._turns)

    def snapshot(self) -> Snapshot:
        """Return the current flag set, after a freshness check if one is due."""
        current = self.current
        if current is None:
            deadline = self._monotonic() + FIRST_LOAD_S
            return self._load_in_turn(lambda: self._first_load(deadline), FIRST_LOAD_S)
        if self._is_due():
            self._turns.take(lambda: self._refresh(current) if self._is_due() else None)
        latest = self.current
        return current if latest is None else latest

    def preload(self, deadline: float) -> Snapshot:
        """Load the flag set, without large segments, by a deadline; the first use retries."""

        def load() -> Snapshot:
            if self.current is None:
                return self._loaded(self._load(deadline))
            return self.current

        return self._load_in_turn(load, deadline - self._monotonic())

    def preload_segments(self, deadline: float) -> None:
        """Load the large segments by a deadline; the first use retries those that failed."""
        failed: NotLoadedError | None = None
        for segment in self._missing_segments():
            try:
                self._segment(segment, deadline)
            except NotLoadedError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def prepare(self) -> None:
        """Prepare the first read (imports, TLS context) without reading."""
        self._open().prepare()

    def expect_restore(self) -> None:
        """Check for freshness at the next use, with the time limit of a first load.

        A SnapStart image may be restored days later.
        """
        self._turns.take(self._open().close, FIRST_LOAD_S)
        if self.current is not None:
            self._due_wall = self._due_monotonic = 0.0
            self._budget_s = FIRST_LOAD_S

    def close(self) -> None:
        """Close the connection to the store, after any read in progress. Idempotent."""
        if self._store is not None:
            self._turns.take(self._store.close, FIRST_LOAD_S)

    def throttled(self) -> int:
        """Return how often the store has asked to slow down."""
        return 0 if self._store is None else self._store.throttled

    def may_block(self) -> bool:
        """Return whether the next read, of flags or a large segment, may wait for the store."""
        return self._is_due() or bool(self._missing_segments())

    def age_s(self, now: float | None = None) -> float:
        """Return the seconds since the store last confirmed the flag set.

        By the clock that has advanced further: the wall clock may be set back, the other may stop.
        *now* is the wall clock's time, if the caller has it.
        """
        wall = (self._clock() if now is None else now) - self._heard_wall
        monotonic = self._monotonic() - self._heard_monotonic
        return max(wall, monotonic, 0.0)

    def info(self) -> Info:
        """Return information about the flag set, such as its age.

        Only the source state has the time of the last provider check: if it has not been read yet,
        read it now.
        """
        snapshot = self.snapshot()
        if not self._checked_at and not self._failures:

            def ask() -> None:
                # Another thread may have read it meanwhile, with or without success.
                if not self._checked_at and not self._failures:
                    self._refresh(snapshot)

            self._turns.take(ask, FIRST_LOAD_S)
            snapshot = self.snapshot()
        record = snapshot.snapshot_record
        checked_at = max(self._checked_at, record.published_at) / 1000
        return Info(
            source=self.source,
            provider=record.provider,
            token=record.token,
            digest=record.digest,
            counts={**snapshot.counts},
            revision=record.revision,
            published_at=record.published_at / 1000,
            checked_at=checked_at,
            age_s=max(0.0, self._clock() - checked_at),
            stale=self.stale,
            error=str(self._error or self._segment_error() or ""),
        )

    # -- freshness --------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        """Return whether a check is due by either clock; see :meth:`age_s`."""
        return self._clock() >= self._due_wall or self._monotonic() >= self._due_monotonic

    def _ask_again_in(self, seconds: float) -> None:
        self._due_wall = self._clock() + seconds
        self._due_monotonic = self._monotonic() + seconds

    def _load_in_turn(self, load: Callable[[], Snapshot], timeout: float) -> Snapshot:
        snapshot = self._turns.take(load, timeout)
        if snapshot is None:
            raise NotLoadedError(f"another thread is still loading {self.source!r}")
        return snapshot

    def _first_load(self, deadline: float) -> Snapshot:
        if self.current is not None:
            return self.current
        if self._error is not None and not self._is_due():
            raise self._error.with_traceback(None)
        try:
            found = self._load(deadline)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - callers expect flagstore's own errors
            return self._first_failed(error)
        return self._loaded(found)

    def _loaded(self, found: Snapshot) -> Snapshot:
        self.current = found
        self._succeeded()
        if found.two_versions:  # the source state knows who has which
            self._refresh(found)
        return self.current or found

    def _first_failed(self, cause: Exception) -> Snapshot:
        """Return the flags of the bootstrap file; without one, raise the error."""
        error = _not_loaded(cause)
        if self._bootstrap:
            from flagstore.stores.file import snapshot_of  # noqa: PLC0415 - rarely used

            try:
                self.current = snapshot_of(self._bootstrap, self.source)
            except Exception as broken:  # noqa: BLE001 - the file may hold anything
                reason = f"{type(broken).__name__}: {broken}"
                error = NotLoadedError(f"{error}; and the bootstrap file failed: {reason}")
        self._failed(error)
        if self.current is None:
            raise error from (None if error is cause else cause)
        return self.current

    def _refresh(self, current: Snapshot) -> None:
        """Check for a newer flag set, and load it. Never raises."""
        budget_s, self._budget_s = self._budget_s, REFRESH_S
        try:
            self._ask(current, self._monotonic() + budget_s)
        except Exception as error:  # noqa: BLE001 - a flag client must not break its caller
            self._budget_s = _next_budget_s(budget_s, error)
            self._failed(_not_loaded(error))
        else:
            self._succeeded()

    def _ask(self, current: Snapshot, deadline: float) -> None:
        mine = current.snapshot_record.publication
        state = self._state(deadline)
        goes_back = state.publication != mine and state.published <= mine.token
        if goes_back:
            # Either a replica lags, or the store has lost its history: consistent reads decide, of
            # the state and the record loaded last, which may reach another region before the state.
            state = self._state(deadline, consistent=True)
        if state.publication == mine:
            self._checked_at = max(self._checked_at, state.checked_at)
            self._heard()
            current.progress = state.deployment
            self._replace(current.again() if current.stand_ins else current, current, deadline)
            return
        found = _after_deltas(current, state) if state.deltas else None
        if found is None:
            found = self._load(deadline, state.publication, consistent=goes_back)
        self._checked_at = state.checked_at
        self._heard()
        found.progress = state.deployment
        if found.snapshot_record.publication == mine:
            return  # a restored source state may be older than the snapshot record
        self._replace(found, current, deadline)
        if goes_back and found.snapshot_record.token <= mine.token:
            text = "the store of %s has lost its history: version %d follows version %d"
            log(text, self.source, found.snapshot_record.token, mine.token)

    def _heard(self) -> None:
        self._heard_wall, self._heard_monotonic = self._clock(), self._monotonic()

    def _succeeded(self) -> None:
        self._failures, self._kept, self.stale = 0, 0, False
        self._error = None
        self._heard()
        self._ask_again_in(_between(0.9 * self._ttl_s, 1.1 * self._ttl_s))
        if self._staleness_logged:
            self._staleness_logged = False
            log("flags of %s are fresh again", self.source)

    def _failed(self, error: NotLoadedError) -> None:
        # A large set that is throttled loads chunk by chunk: progress keeps the pauses short.
        kept = sum(map(len, self._begun.values()))
        self._failures = 1 if kept > self._kept else self._failures + 1
        self._kept, self.stale, self._error = kept, True, error
        # Cap the exponent: after 1,024 failures, about a day, the float would overflow.
        pause = COOL_DOWN_S * 2.0 ** min(self._failures - 1, 10)
        # Clients that were throttled together must not retry together.
        self._ask_again_in(min(_between(pause, 1.5 * pause), MAX_COOL_DOWN_S))
        if not self._staleness_logged and self.current is not None:
            self._staleness_logged = True
            log("flags of %s are stale: %s", self.source, error)

    # -- reading, by one thread at a time ---------------------------------------------------------

    def _open(self) -> ReaderStore:
        """Return the given store, or the one that the environment names."""
        if self._store is None:
            from flagstore.stores import open_store  # noqa: PLC0415 - tests bring their own

            self._store = open_store(os.environ, self._clock)
        return self._store

    def _state(self, deadline: float, *, consistent: bool = False) -> SourceState:
        key = state_key(self.source)
        record = self._open().read(key, consistent=consistent, deadline=deadline)
        state = SourceState.from_record(record or {})
        if not state.published:
            raise NotPublishedError(f"the store no longer holds anything for {self.source!r}")
        return state

    def _load(
        self, deadline: float, at_least: Publication = NOTHING, *, consistent: bool = False
    ) -> Snapshot:
        """Read the published set; repeat consistently if it is torn or older than *at_least*."""
        replica = self._loaded_from if consistent else self._replica()
        try:
            return self._read(replica, deadline, at_least, consistent=consistent)
        except (CorruptSnapshotError, NotPublishedError):
            if consistent:
                raise
            # Replica 0 always exists; another may lag, or be missing if the writer keeps fewer.
            return self._read(0, deadline, at_least, consistent=True)

    def _read(
        self, replica: int, deadline: float, at_least: Publication, *, consistent: bool
    ) -> Snapshot:
        key = snapshot_key(self.source, replica)
        found = self._open().read(key, consistent=consistent, deadline=deadline)
        if found is None:
            raise self._absent(deadline, consistent=consistent and not replica)
        record = SnapshotRecord.from_record(found)
        if record.token <= at_least.token and record.publication != at_least:
            raise NotPublishedError(
                f"the snapshot record of {self.source!r} is behind its source state"
            )
        current = self.current
        if current is not None and record.publication == current.snapshot_record.publication:
            return current  # its chunks need not be read again
        prefix, number = record.stored_chunks()
        if prefix != self._begun_body:  # chunks of an earlier body are useless now
            self._begun.pop(self._begun_body, None)
            self._begun_body = prefix
        data = record.body
        if prefix:
            data = self._chunks(prefix, number, deadline, consistent=consistent)
        body = Body(record.index_data, record.index_digest, data)
        known = {} if current is None else current.segments
        digests = {segment.data_digest for segment in body.large.values()}
        prefixes = {segment.prefix() for segment in body.large.values()}
        self._begun = {key: chunks for key, chunks in self._begun.items() if key in prefixes}
        self._pauses = {key: pause for key, pause in self._pauses.items() if not key}
        in_memory = {digest: data for digest, data in known.items() if digest in digests}
        self._loaded_from = replica
        return Snapshot(self.source, record, body, self._segment, in_memory)

    def _absent(self, deadline: float, *, consistent: bool) -> NotLoadedError:
        """Return the error that explains why there is no snapshot record."""
        if consistent:
            record = self._open().read(state_key(self.source), consistent=True, deadline=deadline)
            if record and SourceState.from_record(record).published:
                return UnsupportedLayoutError(
                    f"the flags of {self.source!r} are published in a layout that this reader "
                    "does not support: update the flagstore layer or wheel"
                )
        return NotPublishedError(
            f"nothing has been published for source {self.source!r}: check the name, and that "
            "SyncFunction has run (its log has the reason if not)"
        )

    def _chunks(
        self, prefix: str, number: int, deadline: float, *, consistent: bool = False
    ) -> bytes:
        """Return the joined chunks; those read before a failure are kept for the next attempt.

        A chunk has a key of its own and never changes, so an eventually consistent read, for half
        the units, returns the chunk or nothing; then a consistent one decides.
        """
        chunks = self._begun.setdefault(prefix, [])
        while len(chunks) < number:
            key = chunk_key(self.source, prefix, len(chunks))
            chunk = self._chunk(key, deadline, consistent=consistent)
            if chunk is None and not consistent:
                chunk = self._chunk(key, deadline, consistent=True)
            if chunk is None:
                raise CorruptSnapshotError(f"chunk {len(chunks)} of {number} is missing: {prefix}")
            chunks.append(chunk)
        return b"".join(self._begun.pop(prefix))

    def _chunk(self, key: Key, deadline: float, *, consistent: bool) -> bytes | None:
        record = self._open().read(key, consistent=consistent, deadline=deadline) or {}
        body = record.get("body")
        # Expiring a chunk that has been deleted leaves a record without a body.
        return body if isinstance(body, bytes) else None

    def _replica(self) -> int:
        if self._replicas is None:
            name = "FLAGSTORE_SNAPSHOT_REPLICAS"
            self._replicas = _count(os.environ.get(name) or "1", name)
        return os.urandom(1)[0] % self._replicas

    # -- large segments: read when a flag first needs one -----------------------------------------

    def _replace(self, found: Snapshot, current: Snapshot, deadline: float) -> None:
        """Switch to another flag set, after reading those large segments in memory that changed.

        If one cannot be read, keep its earlier version, so that every flag that could be
        evaluated still can; then raise the error.
        """
        if found is current:
            return
        failed: NotLoadedError | None = None
        for key, segment in found.large.items():
            earlier = current.segment_in_memory(key)
            if segment.data_digest in found.segments or earlier is None:
                continue
            try:
                found.segments[segment.data_digest] = self._read_segment(segment, deadline)
            except Exception as error:  # noqa: BLE001 - on any failure, the earlier one stands in
                failed = failed or _not_loaded(error)
                found.stand_ins[key] = earlier
        same = found.snapshot_record.publication == current.snapshot_record.publication
        if not same or found.stand_ins.keys() != current.stand_ins.keys():
            self.current = found
        if failed is not None:
            raise failed

    def _segment(self, segment: LargeSegment, deadline: float | None = None) -> bytes:
        """Return the bytes of a large segment, from memory or else from the store.

        Without a deadline, the time limit is that of a refresh, and a failure starts a pause.
        """
        current, digest = self.current, segment.data_digest
        if current is not None and digest in current.segments:  # read for a newer flag set
            return current.segments[digest]
        for key in ("", digest):
            pause = self._pauses.get(key)
            if pause is not None and self._monotonic() < pause[0]:
                raise pause[1].with_traceback(None)
        by = self._monotonic() + self._segment_budget_s if deadline is None else deadline
        try:
            data = self._turns.take(lambda: self._read_segment(segment, by), by - self._monotonic())
        except ConfigurationError:
            raise
        except Exception as cause:  # noqa: BLE001 - callers expect flagstore's own errors
            error = _not_loaded(cause)
            self._segment_budget_s = _next_budget_s(self._segment_budget_s, error)
            if deadline is None:
                key = digest if isinstance(error, CorruptSnapshotError) else ""
                self._pauses[key] = self._monotonic() + COOL_DOWN_S, error
            raise error from (None if error is cause else cause)
        if data is None:
            raise StoreUnavailableError(f"another thread is still reading for {self.source!r}")
        self._segment_budget_s = REFRESH_S
        self._pauses.pop("", None)
        return data

    def _read_segment(self, segment: LargeSegment, deadline: float) -> bytes:
        current, digest = self.current, segment.data_digest
        if current is not None and digest in current.segments:  # another thread has read it
            return current.segments[digest]
        data = self._chunks(segment.prefix(), segment.chunks, deadline)
        decode_segment(segment, data)  # raises if it is damaged
        if current is not None and segment in current.large.values():
            current.segments[digest] = data
        return data

    def _missing_segments(self) -> list[LargeSegment]:
        current = self.current
        if current is None:
            return []
        large = current.large.values()
        return [segment for segment in large if segment.data_digest not in current.segments]

    def _segment_error(self) -> NotLoadedError | None:
        missing = {segment.data_digest for segment in self._missing_segments()}
        for key, (_, error) in self._pauses.copy().items():
            if key in missing or (missing and not key):
                return error
        return None


def _after_deltas(current: Snapshot, state: SourceState) -> Snapshot | None:
    from flagstore.deltas import apply  # noqa: PLC0415 - a cold start does without

    return apply(current, state)


def _not_loaded(error: Exception) -> NotLoadedError:
    if isinstance(error, NotLoadedError):
        return error
    return NotLoadedError(f"{type(error).__name__}: {error}")


def _next_budget_s(budget_s: float, error: Exception) -> float:
    """Return the next time limit after a failure.

    It grows only if time ran out while data was arriving: a large set must load eventually, but a
    silent server must not cost more.
    """
    grows = isinstance(error, StoreUnavailableError) and error.receiving
    return min(2 * budget_s, FIRST_LOAD_S) if grows else REFRESH_S


def _between(least: float, most: float) -> float:
    """Return a random number from the OS: clones of a SnapStart image share Python's generator."""
    return least + (most - least) * os.urandom(1)[0] / 255


def _count(text: str, name: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ConfigurationError(f"{name} must be a whole number of at least 1, not {text!r}")
    return int(text)


def log(text: str, *values: object, level: int = 30) -> None:
    """Log a warning, or an error (level 40). Call this last: a log handler may read flags."""
    import logging  # noqa: PLC0415 - 4 ms, for errors only

    logging.getLogger("flagstore").log(level, text, *values)


_all_turns: WeakSet[Turns] = WeakSet()


def _after_fork() -> None:
    for turns in _all_turns:
        turns.renew()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
