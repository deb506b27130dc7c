"""Chunks of large bodies and segments: announced before they are written, expired when unused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flagstore import keys
from flagstore.codec import dumps, read_index, segments_of
from flagstore.errors import CorruptSnapshotError
from flagstore.keys import SnapshotRecord, SourceState
from storesync.errors import CorruptStoreError
from storesync.stores.base import Condition, Delete, Expire, Put, commits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flagstore.keys import Publication, Record
    from storesync.model import Clock
    from storesync.stores.base import Store

CHUNK_TTL_S = 86_400
"""How long chunks that nothing names any more stay, for readers that still hold an older
snapshot."""
PENDING_TTL_S = 3_600
"""How long a pending record outlives its chunks' expiry: longer than any function can run (15
min)."""


def pending_record(
    source: str,
    snapshot_record: SnapshotRecord,
    chunks: Mapping[str, Sequence[bytes]],
    written_at: int,
) -> Record:
    """Return the record that announces the chunks of a set, by the prefix of their keys.

    ``written_at`` in seconds since the epoch.
    """
    return {
        **keys.pending_key(source, snapshot_record.token, snapshot_record.index_digest)._asdict(),
        "chunks": dumps({prefix: len(group) for prefix, group in chunks.items()}),
        "largest": max(len(chunk) for group in chunks.values() for chunk in group),
        "written_at": written_at,
    }


class GarbageCollector:
    """Lets chunks of one source expire."""

    def __init__(self, source: str, store: Store, clock: Clock) -> None:
        self._source = source
        self._store = store
        self._clock = clock

    def expire(self, published: Publication) -> None:
        """Let chunks expire that neither the snapshot record nor the kept history names.

        Only older fencing tokens' chunks, and only while this is what is published: then no
        older fencing token can be published any more, and no version be rolled back to but those
        that are kept.

        Raises:
            ConditionFailedError: if something else is published by now; its publisher expires.
        """
        pending_records = [
            announced
            for announced in self._store.scan(keys.pending_namespace(self._source))
            if _token(announced) < published.token
        ]
        state = self._store.state(self._source) if pending_records else SourceState()
        if state.publication != published:
            return
        named = self._named_chunks(state)
        for announced in pending_records:
            self._expire_chunks(Condition.while_published(published), announced, named)

    def _expire_chunks(self, condition: Condition, announced: Record, named: set[str]) -> None:
        """Let announced chunks expire that nothing names; forget them when they do."""
        chunks: dict[str, int] = json.loads(str(announced["chunks"]))
        at_s = int(self._clock.now()) + CHUNK_TTL_S
        largest = int(announced["largest"])
        expiries = [
            Expire(keys.chunk_key(self._source, prefix, chunk), at_s, largest)
            for prefix, number in chunks.items()
            if prefix not in named
            for chunk in range(number)
        ]
        for group in commits(expiries):
            if group:
                self._store.commit(self._source, condition, {}, group)
        used = {prefix: number for prefix, number in chunks.items() if prefix in named}
        self._forget(condition, announced, used)

    def _forget(self, condition: Condition, announced: Record, used: dict[str, int]) -> None:
        """Note what a pending record still announces.

        Where nothing is in use, its writer may be slow and still at it: the pending record stays
        for longer than any function can run, and its chunks are let expire again.
        """
        if used:
            left = announced | {"chunks": dumps(used)}
            if left != announced:
                self._store.commit(self._source, condition, {}, [Put(left)])
        elif int(announced["written_at"]) + PENDING_TTL_S < self._clock.now():
            key = keys.Key(str(announced["namespace"]), str(announced["key"]))
            self._store.commit(self._source, condition, {}, [Delete(key)])

    def _named_chunks(self, state: SourceState) -> set[str]:
        """Return the prefixes of all chunks that the snapshot record or the kept history names."""
        listed = [keys.history_key(self._source, version.token) for version in state.versions()]
        named: set[str] = set()
        try:
            for record in map(self._store.read, [*listed, keys.snapshot_key(self._source)]):
                if record:
                    snapshot_record = SnapshotRecord.from_record(record)
                    named.add(snapshot_record.stored_chunks()[0])
                    large_segments = segments_of(
                        read_index(snapshot_record.index_data, snapshot_record.index_digest)
                    )
                    named |= {segment.prefix() for segment in large_segments.values()}
        except (CorruptSnapshotError, TypeError, ValueError) as error:
            message = f"which chunks are in use cannot be told: {error}"
            raise CorruptStoreError(message) from error
        return named


def _token(announced: Record) -> int:
    return int(str(announced["key"]).partition("/")[0])
