"""Large segments in hand: read when they are first asked for, kept while they stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.body import decode_part
from flagstore.errors import ConfigurationError, NotLoadedError, StoreUnavailableError
from flagstore.loading import COOL_DOWN_S, REFRESH_S, next_budget_s

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from flagstore.body import Body, Part
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
        self._error, self._due = "", 0.0
        self._budget_s = REFRESH_S

    def keep(self, body: Body) -> None:
        """Keep those that a new flag set still has."""
        self._wanted = still = {part.data_digest: part for part in body.large.values()}
        self._data = {digest: data for digest, data in self._data.items() if digest in still}
        self._begun = {digest: found for digest, found in self._begun.items() if digest in still}

    def lacks_some(self) -> bool:
        """Say whether the flag set has large segments that have not been read yet."""
        return not self._wanted.keys() <= self._data.keys()

    def load_missing(
        self, lock: threading.Lock, open_store: Callable[[], ReaderStore], deadline: float
    ) -> None:
        """Read those that have not been read yet, by a deadline.

        Raises:
            NotLoadedError: if that failed; one of its subclasses where there is one.
        """
        for part in self._wanted.values():
            self.get(part, lock, open_store, deadline)

    def get(
        self,
        part: Part,
        lock: threading.Lock,
        open_store: Callable[[], ReaderStore],
        deadline: float | None = None,
    ) -> bytes:
        """Return the bytes of one, read under the lock if it is not in hand.

        Without a deadline it is read within the time that a refresh may take.

        Raises:
            NotLoadedError: one of its subclasses where there is one.
        """
        data = self._data.get(part.data_digest)
        if data is not None:
            return data
        if self._monotonic() < self._due:  # a store that is down is not waited for at every call
            raise StoreUnavailableError(self._error)
        budget_s = self._budget_s
        if deadline is None:
            deadline = self._monotonic() + budget_s
        if not lock.acquire(timeout=max(0.0, deadline - self._monotonic())):
            message = f"another thread is still reading for {self._source!r}"
            raise StoreUnavailableError(message)
        try:
            found = self._data.get(part.data_digest)  # another thread may have read it meanwhile
            data = found if found is not None else self._read(part, open_store(), deadline)
        except StoreUnavailableError as error:
            self._error, self._due = str(error), self._monotonic() + COOL_DOWN_S
            self._budget_s = next_budget_s(budget_s, error)
            raise
        except (NotLoadedError, ConfigurationError):
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            raise NotLoadedError(message) from error
        finally:
            lock.release()
        self._budget_s = REFRESH_S
        return data

    def _read(self, part: Part, store: ReaderStore, deadline: float) -> bytes:
        pieces = self._begun.setdefault(part.data_digest, [])
        for piece in store.pieces(
            self._source, part.prefix(), deadline=deadline, start=len(pieces)
        ):
            pieces.append(piece)  # kept if the next one fails
        data = b"".join(self._begun.pop(part.data_digest)[: part.pieces])
        decode_part(part, data)  # nothing damaged is kept
        self._data[part.data_digest] = data
        return data
