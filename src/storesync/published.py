"""The published flag set and its history, read back from the store and verified by digest."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flagstore.codec import Body, LargeSegment, decode_segment
from flagstore.errors import CorruptSnapshotError
from flagstore.keys import MAX_REPLICAS, SnapshotRecord, chunk_key, history_key, snapshot_key
from storesync.errors import CorruptStoreError
from storesync.model import FlagSet

if TYPE_CHECKING:
    from flagstore.keys import Record, SourceState, Version
    from storesync.model import Json
    from storesync.store import Store

DAY_MS = 86_400_000


def day_ago(versions: list[Version], now_ms: int) -> Version | None:
    """Return the version that was current a day ago, or None."""
    old = [version for version in versions if version.published_at <= now_ms - DAY_MS]
    return old[-1] if old else None


def stored_replicas(source: str, store: Store) -> int:
    """Return how many replicas of the snapshot record are stored, the record itself included."""
    found = [n for n in range(1, MAX_REPLICAS) if store.read(snapshot_key(source, n))]
    return 1 + max(found, default=0)


@dataclass(frozen=True, slots=True)
class Current:
    """The published set, if it can be read."""

    flag_set: FlagSet | None = None
    """None if it has not been read, nothing is published, or no copy is intact."""
    damaged: bool = False
    """Whether the snapshot must be published again."""


@dataclass(frozen=True, slots=True)
class PublishedReader:
    """Reads the published set and the history of one source."""

    source: str
    store: Store
    replicas: int = 1
    """Number of replicas of the snapshot record."""

    def read(self, seen: SourceState, *, large: bool = False) -> Current:
        """Read the published set; with *large*, also its large segments and replicas.

        If the snapshot record is damaged, the set is read from the history: damage must not let an
        empty set past the guard.
        """
        if not seen.published:
            return Current()
        for damaged, read in ((False, self.current), (True, self.version)):
            with suppress(CorruptStoreError):
                found = read(seen.published)
                record = found and found.record
                if record and (record.digest, record.nonce) != (seen.digest, seen.nonce):
                    continue
                if found and large:
                    try:
                        self.verify_large(found)
                        self.verify_replicas(found.record)
                    except CorruptStoreError:
                        return Current(found, damaged=True)
                return Current(found, damaged)
        return Current(damaged=True)

    def current(self, token: int) -> FlagSet | None:
        """Return the published set; None if another was published since the state was read.

        A later snapshot record counts only if the source state has moved on as well: in a table
        restored from a backup, items may differ in age.

        Raises:
            CorruptStoreError: if it is missing, belongs to another version, or does not match its
                digests.
        """
        record = self.store.read(snapshot_key(self.source))
        found = record.get("token") if record else None
        later = isinstance(found, int) and found > token
        if later and self.store.state(self.source).published != token:
            return None  # this check's condition will fail
        flag_set = self._load(record, f"the snapshot record of version {token}")
        if found != token:
            message = f"the snapshot record of version {token} is that of version {found!r}"
            raise CorruptStoreError(message)
        return flag_set

    def version(self, token: int) -> FlagSet:
        """Return one version of the history.

        Raises:
            CorruptStoreError: if it is missing or does not match its digests.
        """
        return self._load(
            self.store.read(history_key(self.source, token)), f"version {token} in the history"
        )

    def baselines(
        self, seen: SourceState, current: FlagSet, now_ms: int
    ) -> list[tuple[str, FlagSet]]:
        """Return the sets that the guard compares a new one with, each named for its message.

        The published one, and that of a day ago, but none from before the last allowed set: else,
        each change of the next day would have to be allowed again.
        """
        kept = [version for version in seen.versions() if version.token >= seen.allowed]
        when, earlier = "the set of a day ago", day_ago(kept, now_ms)
        if earlier is None and seen.allowed and kept:
            when, earlier = "the allowed set", kept[0]
        olds = [("the published set", current)]
        if earlier and earlier.token != seen.published:
            # A damaged history is no reason to refuse: the published set is compared anyway.
            with suppress(CorruptStoreError):
                olds.append((when, self.version(earlier.token)))
        return olds

    def verify_large(self, flag_set: FlagSet) -> None:
        """Read all large segments of a set.

        Raises:
            CorruptStoreError: if one is missing or does not match its digest.
        """
        for segment in flag_set.large.values():
            self._load_segment(segment)

    def verify_replicas(self, record: SnapshotRecord | None) -> None:
        """Compare the replicas with the snapshot record.

        Raises:
            CorruptStoreError: if one is missing or differs.
        """
        for replica in range(1, self.replicas):
            found = self.store.read(snapshot_key(self.source, replica)) or {}
            with suppress(CorruptSnapshotError):
                if SnapshotRecord.from_record(found) == record:
                    continue
            message = f"replica {replica} differs from the snapshot record"
            raise CorruptStoreError(message)

    def _load(self, record: Record | None, what: str) -> FlagSet:
        if record is None:
            message = f"{what} is missing"
            raise CorruptStoreError(message)
        try:
            snapshot = SnapshotRecord.from_record(record)
            data = self._chunks(*snapshot.stored_chunks()) if snapshot.chunks else snapshot.body
            body = Body(snapshot.index_data, snapshot.index_digest, data)
        # A TypeError or ValueError means another program's record.
        except (CorruptSnapshotError, TypeError, ValueError) as error:
            message = f"{what} is corrupt: {error}"
            raise CorruptStoreError(message) from error
        return FlagSet(
            snapshot.provider,
            {name: body.items(name) for name in body.sections},
            body.meta,
            snapshot.revision,
            snapshot,
            body.large,
            self._load_segment,
        )

    def _load_segment(self, segment: LargeSegment) -> Json:
        try:
            return decode_segment(segment, self._chunks(segment.prefix(), segment.chunks))
        except CorruptSnapshotError as error:
            raise CorruptStoreError(str(error)) from error

    def _chunks(self, prefix: str, number: int) -> bytes:
        chunks: list[Any] = []
        for place in range(number):
            record = self.store.read(chunk_key(self.source, prefix, place)) or {}
            # A chunk that expired after it was removed leaves a record without a body.
            if "body" not in record:
                message = f"chunk {place} of {number} is missing: {prefix}"
                raise CorruptSnapshotError(message)
            chunks.append(record["body"])
        return b"".join(chunks)
