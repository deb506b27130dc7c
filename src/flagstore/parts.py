"""Large segments in hand: read when they are first asked for, kept while they stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.body import decode_part
from flagstore.errors import (
    ConfigurationError,
    CorruptSnapshotError,
    NotLoadedError,
    StoreUnavailableError,
)
from flagstore.loading import COOL_DOWN_S, REFRESH_S, next_budget_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.body import Body, Part
    from flagstore.loading import Turns
    from flagstore.stores import ReaderStore


class LargeParts:
    """The large segments of one source that have been read."""

    def __init__(self, source: str, monotonic: Callable[[], float]) -> None:
        self._source = source
        self._monotonic = monotonic
        self._data: dict[str, bytes] = {}
        self._begun: dict[str, list[bytes]] = {}
        """By digest, pieces that earlier attempts have read."""
        self._wanted: dict[str, Part] = {}
        self._pauses: dict[str, tuple[float, NotLoadedError]] = {}
        """By the digest of one that is damaged, or "" for all: until when, and why."""
        self._budget_s = REFRESH_S

    def keep(self, body: Body) -> None:
        """Keep those that a new flag set still has."""
        self._wanted = still = {part.data_digest: part for part in body.large.values()}
        self._data = {digest: data for digest, data in self._data.items() if digest in still}
        self._begun = {digest: found for digest, found in self._begun.items() if digest in still}
        self._pauses = {key: pause for key, pause in self._pauses.items() if not key}

    def lacks_some(self) -> bool:
        """Say whether the flag set has large segments that have not been read yet."""
        return not self._wanted.keys() <= self._data.keys()

    def load_missing(
        self, turns: Turns, open_store: Callable[[], ReaderStore], deadline: float
    ) -> None:
        """Read those that have not been read yet, by a deadline; the next call may try again.

        Raises:
            NotLoadedError: if that failed; one of its subclasses where there is one.
        """
        failed: NotLoadedError | None = None
        for part in self._wanted.values():
            try:
                self.get(part, turns, open_store, deadline)
            except NotLoadedError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def get(
        self,
        part: Part,
        turns: Turns,
        open_store: Callable[[], ReaderStore],
        deadline: float | None = None,
    ) -> bytes:
        """Return the bytes of one, read in its turn if it is not in hand.

        Without a deadline it is read within the time that a refresh may take.

        Raises:
            NotLoadedError: one of its subclasses where there is one.
        """
        data = self._data.get(part.data_digest)
        if data is not None:
            return data
        for key in ("", part.data_digest):  # what is down or damaged is not read at every call
            pause = self._pauses.get(key)
            if pause is not None and self._monotonic() < pause[0]:
                raise pause[1].with_traceback(None)
        budget_s = self._budget_s
        by = self._monotonic() + budget_s if deadline is None else deadline
        try:
            data = turns.take(lambda: self._read(part, open_store(), by), by - self._monotonic())
        except NotLoadedError as error:
            self._budget_s = next_budget_s(budget_s, error)
            if deadline is None:
                key = part.data_digest if isinstance(error, CorruptSnapshotError) else ""
                self._pauses[key] = self._monotonic() + COOL_DOWN_S, error
            raise
        except ConfigurationError:
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            raise NotLoadedError(message) from error
        if data is None:
            message = f"another thread is still reading for {self._source!r}"
            raise StoreUnavailableError(message)
        self._budget_s = REFRESH_S
        return data

    def _read(self, part: Part, store: ReaderStore, deadline: float) -> bytes:
        found = self._data.get(part.data_digest)
        if found is not None:  # another thread has read it meanwhile
            return found
        pieces = self._begun.setdefault(part.data_digest, [])
        for piece in store.pieces(
            self._source, part.ticket, deadline=deadline, part=part.number, start=len(pieces)
        ):
            pieces.append(piece)  # kept if the next one fails
        data = b"".join(self._begun.pop(part.data_digest)[: part.pieces])
        decode_part(part, data)  # nothing damaged is kept
        self._data[part.data_digest] = data
        return data
