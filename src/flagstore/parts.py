"""Large segments in hand: read when they are first asked for, kept while they stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.body import decode_part
from flagstore.errors import ConfigurationError, NotLoadedError, StoreUnavailableError
from flagstore.loading import COOL_DOWN_S, FIRST_LOAD_S

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
        self._wanted: set[str] = set()
        self._error, self._due = "", 0.0

    def keep(self, body: Body) -> None:
        """Keep those that a new flag set still has."""
        self._wanted = still = {part.data_digest for part in body.large.values()}
        self._data = {digest: data for digest, data in self._data.items() if digest in still}

    def lacks_some(self) -> bool:
        """Say whether the flag set has large segments that have not been read yet."""
        return not self._wanted <= self._data.keys()

    def get(
        self,
        part: Part,
        lock: threading.Lock,
        open_store: Callable[[], ReaderStore],
        deadline: float,
    ) -> bytes:
        """Return the bytes of one, read under the lock if it is not in hand.

        Raises:
            NotLoadedError: one of its subclasses where there is one.
        """
        data = self._data.get(part.data_digest)
        if data is not None:
            return data
        if self._monotonic() < self._due:  # a store that is down is not waited for at every call
            raise StoreUnavailableError(self._error)
        if not lock.acquire(timeout=FIRST_LOAD_S):
            message = f"another thread is still reading for {self._source!r}"
            raise StoreUnavailableError(message)
        try:
            found = self._data.get(part.data_digest)  # another thread may have read it meanwhile
            return found if found is not None else self._read(part, open_store(), deadline)
        except StoreUnavailableError as error:
            self._error, self._due = str(error), self._monotonic() + COOL_DOWN_S
            raise
        except (NotLoadedError, ConfigurationError):
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            raise NotLoadedError(message) from error
        finally:
            lock.release()

    def _read(self, part: Part, store: ReaderStore, deadline: float) -> bytes:
        pieces = store.pieces(self._source, part.ticket, deadline=deadline, part=part.number)
        data = b"".join(pieces[: part.pieces])
        decode_part(part, data)  # nothing damaged is kept
        self._data[part.data_digest] = data
        return data
