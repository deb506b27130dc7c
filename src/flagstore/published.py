"""What is published of one source, read from the store. Nothing is kept here but the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flagstore.codec import Body
from flagstore.errors import (
    ConfigurationError,
    CorruptSnapshotError,
    NotLoadedError,
    NotPublishedError,
    UnsupportedLayoutError,
)
from flagstore.keys import Publication, SnapshotRecord, SourceState, snapshot_key, state_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.stores import ReaderStore


NOTHING = Publication(0, "")
"""Before the first publication."""


class Published:
    """One source in its store. Used by one thread at a time, as stores are."""

    def __init__(
        self,
        source: str,
        store: ReaderStore | None,
        replicas: int | None,
        clock: Callable[[], float],
    ) -> None:
        """Make one; nothing is read yet. Arguments as of :class:`flagstore.Client`.

        Raises:
            ConfigurationError: if the number of replicas is none.
        """
        self._source = source
        self._store = store
        self._replicas = None if replicas is None else _positive(str(replicas), "replicas")
        self._clock = clock
        self._begun: tuple[str, list[bytes]] = "", []
        """Prefix of the chunks that are being read, and those that earlier attempts have read."""

    def store(self) -> ReaderStore:
        """Return the store, opened if it was not yet.

        Raises:
            ConfigurationError: what the environment says of it is missing or wrong.
        """
        if self._store is None:
            from flagstore.stores import open_store  # noqa: PLC0415 - tests bring theirs

            self._store = open_store(os.environ, self._clock)
        return self._store

    def close(self) -> None:
        """Close the connection to the store, if it was ever opened. Idempotent."""
        if self._store is not None:
            self._store.close()

    def state(self, deadline: float, *, consistent: bool = False) -> SourceState:
        """Read what orders everything: one small read.

        Raises:
            NotPublishedError: there is nothing, or nothing any more.
        """
        key = state_key(self._source)
        record = self.store().read(key, consistent=consistent, deadline=deadline)
        state = SourceState.from_record(record or {})
        if not state.published:
            message = f"the store no longer holds anything for {self._source!r}"
            raise NotPublishedError(message)
        return state

    def load(
        self, deadline: float, at_least: Publication = NOTHING, *, consistent: bool = False
    ) -> tuple[SnapshotRecord, Body]:
        """Load the snapshot; read it again, consistently, if it is older or torn.

        Raises:
            NotLoadedError: one of its subclasses.
        """
        try:
            return self._load(deadline, at_least, consistent=consistent)
        except (CorruptSnapshotError, NotPublishedError):
            if consistent:
                raise
            return self._load(deadline, at_least, consistent=True)

    def _load(
        self, deadline: float, at_least: Publication, *, consistent: bool
    ) -> tuple[SnapshotRecord, Body]:
        store = self.store()
        # A replica that is missing (the writer keeps fewer) or lags: the first one is always there.
        key = snapshot_key(self._source, 0 if consistent else self._replica())
        record = store.read(key, consistent=consistent, deadline=deadline)
        if record is None:
            raise self._absent(deadline, consistent=consistent)
        snapshot_record = SnapshotRecord.from_record(record)
        if snapshot_record.token <= at_least.token and snapshot_record.publication != at_least:
            message = f"the snapshot record of {self._source!r} is behind its source state"
            raise NotPublishedError(message)
        prefix, number = snapshot_record.stored_chunks()
        data = snapshot_record.body
        if number:
            data = b"".join(self._chunks(store, prefix, deadline)[:number])
        return snapshot_record, Body(snapshot_record.index_data, snapshot_record.index_digest, data)

    def _chunks(self, store: ReaderStore, prefix: str, deadline: float) -> list[bytes]:
        """Return all chunks of a body; what an attempt has read is kept until it is complete."""
        if self._begun[0] != prefix:
            self._begun = prefix, []
        chunks = self._begun[1]
        for chunk in store.chunks(self._source, prefix, deadline=deadline, start=len(chunks)):
            chunks.append(chunk)  # kept if the next one fails
        self._begun = "", []
        return chunks

    def _absent(self, deadline: float, *, consistent: bool) -> NotLoadedError:
        """Return why there is no snapshot record: its layout may be another than ours."""
        if consistent:
            record = self.store().read(state_key(self._source), consistent=True, deadline=deadline)
            if record and SourceState.from_record(record).published:
                return UnsupportedLayoutError(
                    f"the flags of {self._source!r} are published in another layout than this "
                    "reader's: update the flagstore layer or wheel"
                )
        return NotPublishedError(
            f"nothing has been published for source {self._source!r}: check the name, and that "
            "SyncFunction has run (its log says why not)"
        )

    def _replica(self) -> int:
        """Draw one from the system's randomness: clones of one SnapStart image share Python's."""
        if self._replicas is None:
            name = "FLAGSTORE_SNAPSHOT_REPLICAS"
            self._replicas = _positive(os.environ.get(name) or "1", name)
        return os.urandom(1)[0] % self._replicas


def _positive(text: str, name: str) -> int:
    if not text.isdecimal() or not int(text):
        message = f"{name} must be a whole number from 1 on, not {text!r}"
        raise ConfigurationError(message)
    return int(text)
