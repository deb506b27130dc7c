"""Read flags from a file, with their rules: for tests, for local runs, and where all else fails.

:mod:`flagstore.stores.file_formats` lists what a file may hold.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flagstore.codec import Body
from flagstore.encode import encode
from flagstore.errors import CorruptSnapshotError, StoreUnavailableError
from flagstore.keys import (
    Key,
    SnapshotRecord,
    SourceState,
    chunks_prefix,
    snapshot_key,
    state_key,
)
from flagstore.snapshot import Snapshot
from flagstore.stores.file_formats import document, parse, storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.keys import Record


class FileReader:
    """A file as a store, read anew when it has changed: :class:`flagstore.stores.ReaderStore`."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._snapshot_record: SnapshotRecord | None = None
        self._segments: Mapping[str, bytes] = {}

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return the source state or the snapshot record."""
        del consistent, deadline
        snapshot_record = self._current()
        source = key.namespace.partition(":")[0]
        if key == state_key(source):
            now = int(self._clock() * 1000)
            state = SourceState(
                snapshot_record.token,
                snapshot_record.token,
                snapshot_record.token,
                snapshot_record.digest,
                checked_at=now,
            )
            return {**key._asdict(), **state._asdict()}
        return snapshot_record.to_record(key) if key == snapshot_key(source) else None

    def chunks(
        self, source: str, prefix: str, *, deadline: float, start: int = 0
    ) -> Iterator[bytes]:
        """Yield a large segment; bodies are never in chunks here."""
        del source, deadline
        if not start and prefix in self._segments:
            yield self._segments[prefix]

    def prepare(self) -> None:
        """Need nothing."""

    def close(self) -> None:
        """Keep nothing open."""

    def _current(self) -> SnapshotRecord:
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - pathlib costs a cold start 6 ms
            seen = (stat.st_mtime_ns, stat.st_size)
            if self._snapshot_record is None or seen != self._seen:
                before = self._snapshot_record.token if self._snapshot_record else 0
                # A number that grows, also where the file's time goes back.
                token = max(before + 1, int(self._clock() * 1000))
                self._snapshot_record, self._segments = _read(self._path, token, stat.st_mtime_ns)
                self._seen = seen
        except OSError as error:
            message = f"cannot read the flags in {self._path}: {error.strerror}"
            raise StoreUnavailableError(message) from error
        return self._snapshot_record


def snapshot_of(path: str, source: str) -> Snapshot:
    """Return a file's flag set as a snapshot that is older than any in a store.

    Raises:
        CorruptSnapshotError: it holds nothing that is known here; says what is wrong.
        ConfigurationError: it is YAML, and there is no PyYAML.
        OSError: it cannot be read.
    """
    stat = os.stat(path)  # noqa: PTH116 - pathlib costs a cold start 6 ms
    snapshot_record, large_segments = _read(path, 0, stat.st_mtime_ns)
    body = Body(snapshot_record.index_data, snapshot_record.index_digest, snapshot_record.body)
    current = {
        segment.data_digest: large_segments[segment.prefix()] for segment in body.large.values()
    }
    return Snapshot(
        source, snapshot_record, body, lambda segment: current[segment.data_digest], current
    )


def _read(path: str, token: int, changed_ns: int) -> tuple[SnapshotRecord, Mapping[str, bytes]]:
    """Read a file as a snapshot record with its large segments, by the prefix of their keys.

    Raises:
        CorruptSnapshotError: it holds nothing that is known here; says what is wrong.
        ConfigurationError: it is YAML, and there is no PyYAML.
        OSError: it cannot be read.
    """
    try:
        # With or without a mark at the beginning, which editors on Windows put there.
        with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123 - pathlib costs 6 ms
            found = document(parse(path, file.read()))
        try:
            encoded = encode(found.sections, found.meta, token=token)
        except (ValueError, TypeError):
            encoded = encode(storable(found.sections), found.meta, token=token)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        message = (
            f"{path} holds no flags that are known here ({type(error).__name__}: {error}): it must "
            "be a snapshot that was exported, or a document of one of the providers"
        )
        raise CorruptSnapshotError(message) from error
    snapshot_record = SnapshotRecord(
        token=token,
        provider=found.provider,
        digest=encoded.digest,
        counts=encoded.counts,
        published_at=changed_ns // 1_000_000,
        index_data=encoded.index_data,
        index_digest=encoded.index_digest,
        body=encoded.blocks,
    )
    large_segments = {
        chunks_prefix(token, digest): data for digest, data in encoded.large_segments.items()
    }
    return snapshot_record, large_segments
