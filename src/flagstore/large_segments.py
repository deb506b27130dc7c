"""Large segments in hand: read when they are first needed, kept until newer ones are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.cache import COOL_DOWN_S, REFRESH_S, next_deadline_s, not_loaded
from flagstore.codec import decode_segment
from flagstore.errors import (
    ConfigurationError,
    CorruptSnapshotError,
    NotLoadedError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.cache import Turns
    from flagstore.codec import Body, LargeSegment
    from flagstore.snapshot import Snapshot
    from flagstore.stores import ReaderStore


class LargeSegments:
    """The large segments of one source that have been read."""

    def __init__(self, source: str, monotonic: Callable[[], float]) -> None:
        self._source = source
        self._monotonic = monotonic
        self._data: dict[str, bytes] = {}
        """By digest, of the newest flag set."""
        self._begun: dict[str, list[bytes]] = {}
        """By digest, chunks that earlier attempts have read."""
        self._required: dict[str, LargeSegment] = {}
        self._pauses: dict[str, tuple[float, NotLoadedError]] = {}
        """By the digest of one that is damaged, or "" for all: until when, and why."""
        self._deadline_s = REFRESH_S

    def keep(self, body: Body) -> dict[str, bytes]:
        """Return those in hand that a new flag set has, by digest; the earlier set keeps its own.

        What is read for the new set is added to it.
        """
        self._required = still = {segment.data_digest: segment for segment in body.large.values()}
        self._data = {digest: data for digest, data in self._data.items() if digest in still}
        self._begun = {digest: found for digest, found in self._begun.items() if digest in still}
        self._pauses = {key: pause for key, pause in self._pauses.items() if not key}
        return self._data

    def lacks_some(self) -> bool:
        """Return whether the flag set has large segments that have not been read yet."""
        return not self._required.keys() <= self._data.keys()

    def error(self) -> NotLoadedError | None:
        """Return why a large segment that was needed could not be read; None once it is read."""
        for key, (_, error) in self._pauses.items():
            if self.lacks_some() and (not key or key not in self._data):
                return error
        return None

    def replace(self, new: Snapshot, old: Snapshot, store: ReaderStore, deadline: float) -> None:
        """Read the segments of a new set that the old one has otherwise and in hand.

        Where one cannot be read, the old one stands in for it, so that no flag which could be
        evaluated no longer can.

        Raises:
            NotLoadedError: one could not be read; one of its subclasses where there is one.
        """
        failed: NotLoadedError | None = None
        for key, segment in new.large.items():
            current = old.segment_in_hand(key)
            if segment.data_digest in self._data or current is None:
                continue
            try:
                self._read(segment, store, deadline)
            except Exception as error:  # noqa: BLE001 - whatever keeps a segment away
                failed = failed or not_loaded(error)
                new.stand_ins[key] = current
        if failed is not None:
            raise failed

    def load_missing(
        self, turns: Turns, open_store: Callable[[], ReaderStore], deadline: float
    ) -> None:
        """Read those that have not been read yet, by a deadline; the next call may try again.

        Raises:
            NotLoadedError: if that failed; one of its subclasses where there is one.
        """
        failed: NotLoadedError | None = None
        for segment in self._required.values():
            try:
                self.get(segment, turns, open_store, deadline)
            except NotLoadedError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def get(
        self,
        segment: LargeSegment,
        turns: Turns,
        open_store: Callable[[], ReaderStore],
        deadline: float | None = None,
    ) -> bytes:
        """Return the bytes of one, read in its turn if it is not in hand.

        Without a deadline it is read within the time that a refresh may take.

        Raises:
            NotLoadedError: one of its subclasses where there is one.
        """
        data = self._data.get(segment.data_digest)
        if data is not None:
            return data
        for key in ("", segment.data_digest):  # what is down or damaged is not read at every call
            pause = self._pauses.get(key)
            if pause is not None and self._monotonic() < pause[0]:
                raise pause[1].with_traceback(None)
        deadline_s = self._deadline_s
        by = self._monotonic() + deadline_s if deadline is None else deadline
        try:
            data = turns.take(lambda: self._read(segment, open_store(), by), by - self._monotonic())
        except NotLoadedError as error:
            self._deadline_s = next_deadline_s(deadline_s, error)
            if deadline is None:
                key = segment.data_digest if isinstance(error, CorruptSnapshotError) else ""
                self._pauses[key] = self._monotonic() + COOL_DOWN_S, error
            raise
        except ConfigurationError:
            raise
        except Exception as error:
            raise not_loaded(error) from error
        if data is None:
            message = f"another thread is still reading for {self._source!r}"
            raise StoreUnavailableError(message)
        self._deadline_s = REFRESH_S
        self._pauses.pop("", None)
        return data

    def _read(self, segment: LargeSegment, store: ReaderStore, deadline: float) -> bytes:
        found = self._data.get(segment.data_digest)
        if found is not None:  # another thread has read it meanwhile
            return found
        chunks = self._begun.setdefault(segment.data_digest, [])
        for chunk in store.chunks(
            self._source, segment.prefix(), deadline=deadline, start=len(chunks)
        ):
            chunks.append(chunk)  # kept if the next one fails
        data = b"".join(self._begun.pop(segment.data_digest)[: segment.chunks])
        decode_segment(segment, data)  # nothing damaged is kept
        if segment.data_digest in self._required:
            self._data[segment.data_digest] = data
        return data
