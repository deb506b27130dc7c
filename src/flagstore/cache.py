"""Loading: one flag set in memory, checked when it is asked for, never older than the one before.

No thread, no file and no work between invocations: Lambda freezes a process that waits. Whether
there is something new is asked when flags are read, at most once in a TTL.
"""

from __future__ import annotations

import json
import os
from _thread import RLock, get_ident  # threading brings more than both
from typing import TYPE_CHECKING
from weakref import WeakSet

from flagstore.errors import ConfigurationError, NotLoadedError, StoreUnavailableError
from flagstore.keys import check_source
from flagstore.published import NOTHING, Published
from flagstore.snapshot import Info, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from flagstore.codec import LargeSegment
    from flagstore.keys import Publication
    from flagstore.large_segments import LargeSegments
    from flagstore.stores import ReaderStore

    Result = TypeVar("Result")

TTL_S = 30.0
"""Seconds between two questions whether there is something new."""
FIRST_LOAD_S = 2.0
"""All that reading may take where there is nothing in hand to respond with."""
REFRESH_S = 0.24
"""All that a call may wait for the store while there is a flag set in hand: see
:func:`next_deadline_s`."""
COOL_DOWN_S = 5.0
"""After a failure nothing is asked for so long, or up to half of it more, and twice as long after
each further one."""
MAX_COOL_DOWN_S = 60.0


class Turns:
    """Lets one thread at a time work with a store."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget whose turn it is: a fork may have copied that of another thread."""
        self._lock, self._holder = RLock(), 0

    def take(self, work: Callable[[], Result], timeout: float = 0.0) -> Result | None:
        """Return what the work returns; None if it is another thread's turn for so many seconds.

        Also None at once in a thread whose turn it is: a log handler may ask there.
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
            # Where a signal's handler raises between two lines, this thread may or may not have it.
            if self._holder == me:
                self._holder = 0
            try:  # noqa: SIM105 - contextlib costs a cold start
                lock.release()
            except RuntimeError:
                pass


class SnapshotCache:
    """Holds the flag set of one source. Safe under threads and after a fork."""

    def __init__(  # noqa: PLR0913 - what a client is made with
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
        """Make one; nothing is read yet. Arguments as of :class:`flagstore.Client`."""
        self.source = check_source(source)
        self._published = Published(self.source, store, replicas, clock)
        self._ttl_s = ttl_s
        self._clock = clock
        self._monotonic = monotonic
        self._bootstrap = bootstrap
        self._snapshot: Snapshot | None = None
        self._checked_at = 0
        self._error: NotLoadedError | None = None
        self._segments: LargeSegments | None = None
        self._failures = 0
        self._told_stale = False
        self._deadline_s = REFRESH_S
        self._due_wall = self._due_monotonic = 0.0
        self._heard_wall = self._heard_monotonic = 0.0
        self._turns = Turns()
        _known.add(self._turns)

    def snapshot(self) -> Snapshot:
        """Return one whole flag set: hold it for a request, and nothing changes under it.

        Asks at most once in a TTL whether there is something new. Once loaded, never raises: a
        store that fails leaves the last known good flag set, and :meth:`info` says so.

        Raises:
            NotLoadedError: if nothing could be loaded yet; one of its subclasses says why.
        """
        current = self._snapshot
        if current is None:
            return self._first()
        if self._is_due():
            self._turns.take(lambda: self._refresh(current) if self._is_due() else None)
        return self._snapshot or current

    @property
    def current(self) -> Snapshot | None:
        """The flag set in hand, without asking the store for anything; None before there is one."""
        return self._snapshot

    def preload(self, deadline: float) -> Snapshot:
        """Load all but large segments by a deadline, so that no request has to.

        Raises:
            NotLoadedError: if that failed; the first use tries again then.
            ConfigurationError: what the environment says of the store is missing or wrong.
        """

        def load() -> Snapshot:
            if self._snapshot is None:
                self._snapshot = self._load(deadline)
                self._succeeded()
            return self._snapshot

        snapshot = self._turns.take(load, deadline - self._monotonic())
        if snapshot is None:
            raise self._occupied()
        return snapshot

    def preload_segments(self, deadline: float) -> None:
        """Load the large segments by a deadline.

        Raises:
            NotLoadedError: if that failed; the first use tries again then.
        """
        if self._segments is not None:
            self._segments.load_missing(self._turns, self._published.store, deadline)

    def prepare(self) -> None:
        """Import and build what the first read needs, without reading.

        Raises:
            ConfigurationError: what the environment says of the store is missing or wrong.
        """
        self._published.store().prepare()

    def expect_restore(self) -> None:
        """Check at the next use: a SnapStart image is restored long after it was made.

        That check may take as long as a first load, since what the image holds may be days old.
        """
        self._turns.take(self._published.store().close, FIRST_LOAD_S)
        if self._snapshot is not None:
            self._due_wall = self._due_monotonic = 0.0
            self._deadline_s = FIRST_LOAD_S

    def close(self) -> None:
        """Close the connection to the store, once a read that is under way has ended."""
        self._turns.take(self._published.close, FIRST_LOAD_S)

    def may_block(self) -> bool:
        """Say whether the next question may wait for the store.

        It does if nothing is loaded yet, if it is time to ask for something new, or if a large
        segment is needed that has not been read yet.
        """
        return self._is_due() or (self._segments is not None and self._segments.lacks_some())

    @property
    def stale(self) -> bool:
        """Whether the last attempt to hear from the store failed."""
        return self._failures > 0

    def age_s(self) -> float:
        """Return the seconds since the store last said that the flag set in hand is current.

        By the clock that says more: one is set back, the other stops while Lambda freezes us.
        """
        wall = self._clock() - self._heard_wall
        monotonic = self._monotonic() - self._heard_monotonic
        return max(wall, monotonic, 0.0)

    def info(self) -> Info:
        """Return what is known of the flag set in hand, its age first of all.

        The snapshot record does not say when the provider was last asked, the source state does:
        where it has not been read yet, this reads it (one small read).
        """
        snapshot = self.snapshot()
        if not self._checked_at and not self._failures:

            def ask() -> None:
                # Another thread may have asked meanwhile, with or without success.
                if not self._checked_at and not self._failures:
                    self._refresh(snapshot)

            self._turns.take(ask, FIRST_LOAD_S)
            snapshot = self._snapshot or snapshot
        snapshot_record = snapshot.snapshot_record
        checked_at = max(self._checked_at, snapshot_record.published_at) / 1000
        return Info(
            source=self.source,
            provider=snapshot_record.provider,
            token=snapshot_record.token,
            digest=snapshot_record.digest,
            counts=json.loads(snapshot_record.counts),
            revision=snapshot_record.revision,
            published_at=snapshot_record.published_at / 1000,
            checked_at=checked_at,
            age_s=max(0.0, self._clock() - checked_at),
            stale=self._failures > 0,
            error=str(self._error or (self._segments and self._segments.error()) or ""),
        )

    # -- freshness ------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        """Either clock may say so: one jumps when it is set, the other may stop in a freeze."""
        return self._clock() >= self._due_wall or self._monotonic() >= self._due_monotonic

    def _ask_again_in(self, seconds: float) -> None:
        self._due_wall = self._clock() + seconds
        self._due_monotonic = self._monotonic() + seconds

    def _first(self) -> Snapshot:
        deadline = self._monotonic() + FIRST_LOAD_S
        snapshot = self._turns.take(lambda: self._first_load(deadline), FIRST_LOAD_S)
        if snapshot is None:
            raise self._occupied()
        return snapshot

    def _occupied(self) -> NotLoadedError:
        return NotLoadedError(f"another thread is still loading {self.source!r}")

    def _first_load(self, deadline: float) -> Snapshot:
        if self._snapshot is not None:
            return self._snapshot
        if self._error is not None and not self._is_due():
            raise self._error.with_traceback(None)
        try:
            snapshot = self._load(deadline)
        except NotLoadedError as error:
            return self._first_failed(error)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - a flag client raises errors of its own
            return self._first_failed(not_loaded(error), error)
        self._snapshot = snapshot
        self._succeeded()
        return snapshot

    def _first_failed(self, error: NotLoadedError, cause: Exception | None = None) -> Snapshot:
        """Return the flags of the bootstrap file, if there is one.

        Raises:
            NotLoadedError: there is none, or it is as bad.
        """
        if self._bootstrap:
            from flagstore.stores.file import snapshot_of  # noqa: PLC0415 - rarely used

            try:
                self._snapshot = snapshot_of(self._bootstrap, self.source)
            except Exception as broken:  # noqa: BLE001 - whatever somebody's file holds
                said = f"{type(broken).__name__}: {broken}"
                error = NotLoadedError(f"{error}; and the bootstrap file failed: {said}")
        self._failed(error)
        if self._snapshot is None:
            raise error from cause
        return self._snapshot

    def _refresh(self, current: Snapshot) -> None:
        """Ask whether there is something new, and load it. Never raises."""
        deadline_s, self._deadline_s = self._deadline_s, REFRESH_S
        try:
            self._ask(current, self._monotonic() + deadline_s)
        except NotLoadedError as error:
            self._deadline_s = next_deadline_s(deadline_s, error)
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - a flag client must not break its caller
            self._failed(not_loaded(error))
        else:
            self._succeeded()

    def _ask(self, current: Snapshot, deadline: float) -> None:
        mine = current.snapshot_record.publication
        state = self._published.state(deadline)
        goes_back = state.publication != mine and state.published <= mine.token
        if goes_back:
            # Either a replica lags, or the store has lost its history: one read tells which.
            state = self._published.state(deadline, consistent=True)
        if state.publication == mine:
            self._checked_at = max(self._checked_at, state.checked_at)
            self._heard()
            self._replace(current.again() if current.stand_ins else current, current, deadline)
            return
        found = self._load(deadline, state.publication, consistent=goes_back)
        self._checked_at = state.checked_at
        self._heard()
        if found.snapshot_record.publication == mine:
            return  # a restored source state may be older than the snapshot record beside it
        self._replace(found, current, deadline)
        if goes_back and found.snapshot_record.token <= mine.token:
            text = "the store of %s has lost its history: version %d follows version %d"
            self._log(text, self.source, found.snapshot_record.token, mine.token)

    def _replace(self, found: Snapshot, current: Snapshot, deadline: float) -> None:
        """Serve another flag set from now on, with each part of it that could be evaluated before.

        Raises:
            NotLoadedError: for a large segment of it, the one in hand has to stand in.
        """
        if found is current:
            return
        try:
            if self._segments is not None:
                self._segments.replace(found, current, self._published.store(), deadline)
        finally:
            same = found.snapshot_record.publication == current.snapshot_record.publication
            if not same or found.stand_ins.keys() != current.stand_ins.keys():
                self._snapshot = found

    def _heard(self) -> None:
        self._heard_wall, self._heard_monotonic = self._clock(), self._monotonic()

    def _succeeded(self) -> None:
        self._failures = 0
        self._error = None
        self._heard()
        self._ask_again_in(_between(0.9 * self._ttl_s, 1.1 * self._ttl_s))
        if self._told_stale:
            self._told_stale = False
            self._log("flags of %s are fresh again", self.source)

    def _failed(self, error: NotLoadedError) -> None:
        self._error = error
        self._failures += 1
        # Capped before it grows: after 1,024 doublings, a day of trouble, there is no such float.
        doublings = min(self._failures - 1, 10)
        pause = COOL_DOWN_S * 2.0**doublings
        # Who was throttled together must not come back together.
        self._ask_again_in(min(_between(pause, 1.5 * pause), MAX_COOL_DOWN_S))
        if not self._told_stale and self._snapshot is not None:
            self._told_stale = True
            self._log("flags of %s are stale: %s", self.source, error)

    @staticmethod
    def _log(text: str, *values: object) -> None:
        # Last of all: a handler may ask this client how old its flags are, under the lock.
        import logging  # noqa: PLC0415 - 4 ms that a reader without trouble need not pay

        logging.getLogger("flagstore").warning(text, *values)

    # -- loading --------------------------------------------------------------------------------

    def _load(
        self, deadline: float, at_least: Publication = NOTHING, *, consistent: bool = False
    ) -> Snapshot:
        """Load what is published, under the lock.

        Raises:
            NotLoadedError: one of its subclasses; also if it is older than this publication.
        """
        snapshot_record, body = self._published.load(deadline, at_least, consistent=consistent)
        has_large = body.large or self._segments is not None
        large_segments = self._large_segments().keep(body) if has_large else None
        return Snapshot(self.source, snapshot_record, body, self._segment, large_segments)

    def _segment(self, segment: LargeSegment) -> bytes:
        """Return the bytes of a large segment, kept from the first time on."""
        return self._large_segments().get(segment, self._turns, self._published.store)

    def _large_segments(self) -> LargeSegments:
        """Return the large segments in hand; there is a place for them from the first one on."""
        if self._segments is None:
            from flagstore.large_segments import LargeSegments  # noqa: PLC0415 - most flag sets have none

            self._segments = LargeSegments(self.source, self._monotonic)
        return self._segments


def not_loaded(error: Exception) -> NotLoadedError:
    """Return the error itself, or one of flagstore's that names it."""
    if isinstance(error, NotLoadedError):
        return error
    return NotLoadedError(f"{type(error).__name__}: {error}")


def next_deadline_s(deadline_s: float, error: NotLoadedError) -> float:
    """Return the seconds for the attempt after one that failed.

    Only where time ran out while data was arriving are there more of them, up to those of a first
    load: a large flag set must get in at last, and a server that is silent must not cost more.
    """
    grows = isinstance(error, StoreUnavailableError) and error.receiving
    return min(2 * deadline_s, FIRST_LOAD_S) if grows else REFRESH_S


def _between(least: float, most: float) -> float:
    """Draw one from the system's randomness: clones of one SnapStart image share Python's."""
    return least + (most - least) * os.urandom(1)[0] / 255


_known: WeakSet[Turns] = WeakSet()


def _after_fork() -> None:
    for known in _known:
        known.renew()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
