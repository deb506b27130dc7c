"""Read flags from a file, with their rules: for tests, for local runs, and where all else fails.

:mod:`flagstore.stores.file_formats` lists what a file may hold.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flagstore.body import Body
from flagstore.encoding import encode
from flagstore.errors import CorruptSnapshotError, StoreUnavailableError
from flagstore.layout import Head, Key, Pulse, head_key, pieces_prefix, pulse_key
from flagstore.snapshot import Snapshot
from flagstore.stores.file_formats import document, parse, storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.layout import Record


class FileReader:
    """A file as a store, read anew when it has changed: :class:`flagstore.stores.ReaderStore`."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._head: Head | None = None
        self._parts: Mapping[str, bytes] = {}

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return the pulse or the head."""
        del consistent, deadline
        head = self._current()
        source = key.namespace.partition(":")[0]
        if key == pulse_key(source):
            now = int(self._clock() * 1000)
            pulse = Pulse(head.ticket, head.ticket, head.ticket, head.digest, checked_at=now)
            return {**key._asdict(), **pulse._asdict()}
        return head.to_record(key) if key == head_key(source) else None

    def pieces(
        self, source: str, prefix: str, *, deadline: float, start: int = 0
    ) -> Iterator[bytes]:
        """Yield a large segment; bodies are never in pieces here."""
        del source, deadline
        if not start and prefix in self._parts:
            yield self._parts[prefix]

    def prepare(self) -> None:
        """Need nothing."""

    def close(self) -> None:
        """Keep nothing open."""

    def _current(self) -> Head:
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - pathlib costs a cold start 6 ms
            seen = (stat.st_mtime_ns, stat.st_size)
            if self._head is None or seen != self._seen:
                before = self._head.ticket if self._head else 0
                # A number that grows, also where the file's time goes back.
                ticket = max(before + 1, int(self._clock() * 1000))
                self._head, self._parts = _read(self._path, ticket, stat.st_mtime_ns)
                self._seen = seen
        except OSError as error:
            message = f"cannot read the flags in {self._path}: {error.strerror}"
            raise StoreUnavailableError(message) from error
        return self._head


def snapshot_of(path: str, source: str) -> Snapshot:
    """Return a file's flag set as a snapshot that is older than any in a store.

    Raises:
        CorruptSnapshotError: it holds nothing that is known here; says what is wrong.
        ConfigurationError: it is YAML, and there is no PyYAML.
        OSError: it cannot be read.
    """
    stat = os.stat(path)  # noqa: PTH116 - pathlib costs a cold start 6 ms
    head, parts = _read(path, 0, stat.st_mtime_ns)
    body = Body(head.index_data, head.index_digest, head.body)
    in_hand = {part.data_digest: parts[part.prefix()] for part in body.large.values()}
    return Snapshot(source, head, body, lambda part: in_hand[part.data_digest], in_hand)


def _read(path: str, ticket: int, changed_ns: int) -> tuple[Head, Mapping[str, bytes]]:
    """Read a file as a head with its large segments, by the prefix of their keys.

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
            encoded = encode(found.sections, found.meta, ticket=ticket)
        except (ValueError, TypeError):
            encoded = encode(storable(found.sections), found.meta, ticket=ticket)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        message = (
            f"{path} holds no flags that are known here ({type(error).__name__}: {error}): it must "
            "be a snapshot that was exported, or a document of one of the providers"
        )
        raise CorruptSnapshotError(message) from error
    head = Head(
        ticket=ticket,
        provider=found.provider,
        digest=encoded.digest,
        counts=encoded.counts,
        published_at=changed_ns // 1_000_000,
        index_data=encoded.index_data,
        index_digest=encoded.index_digest,
        body=encoded.blocks,
    )
    parts = {pieces_prefix(ticket, digest): data for digest, data in encoded.parts.items()}
    return head, parts
