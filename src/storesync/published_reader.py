"""What is published and kept, read back from the store and verified by its digests."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flagstore import keys
from flagstore.codec import LARGE_SECTION, Body, LargeSegment, decode_segment
from flagstore.encode import item_digest
from flagstore.errors import CorruptSnapshotError
from flagstore.keys import SnapshotRecord
from storesync.errors import CorruptStoreError
from storesync.model import FlagSet
from storesync.retention import baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from flagstore.keys import Record, SourceState
    from storesync.model import Json
    from storesync.stores.base import Store


@dataclass(frozen=True, slots=True)
class StoredSet(FlagSet):
    """A flag set as read back; its large segments are read only when they are asked for."""

    large: Mapping[str, LargeSegment] = field(default_factory=dict)
    """Name of a large segment → where its chunks lie."""
    load: Callable[[LargeSegment], Json] = field(
        default=lambda _segment: None, repr=False, compare=False
    )
    """Reads one; raises :class:`~storesync.errors.CorruptStoreError` for lost or changed chunks."""

    def keys(self, section: str) -> AbstractSet[str]:
        """Return the keys of one section, those of large items among them."""
        small = FlagSet.keys(self, section)
        return small | self.large.keys() if section == LARGE_SECTION else small

    def item(self, section: str, key: str) -> Json | None:
        """Return one item."""
        if self.is_large(section, key):
            return self.load(self.large[key])
        return FlagSet.item(self, section, key)

    def differing(self, section: str, items: Mapping[str, Json]) -> list[str]:
        """Compare large items by their digests."""
        found = FlagSet.differing(self, section, items)
        if section == LARGE_SECTION:
            both = self.large.keys() & items.keys()
            found += [key for key in both if item_digest(items[key]) != self.large[key].digest]
        return sorted(found)

    def with_large(self, new: FlagSet) -> FlagSet:
        """Return the same with those large items loaded that differ in a new set."""
        items = new.sections.get(LARGE_SECTION, {})
        found = dict(self.sections.get(LARGE_SECTION, {}))
        for key in self.differing(LARGE_SECTION, items):
            with suppress(CorruptStoreError):  # lost chunks tell nothing
                found[key] = self.item(LARGE_SECTION, key)
        return replace(self, sections={**self.sections, LARGE_SECTION: found})

    def is_large(self, section: str, key: str) -> bool:
        """Say whether an item is kept apart from the others, for its size."""
        return section == LARGE_SECTION and key in self.large


@dataclass(frozen=True, slots=True)
class Stored:
    """What was published, read back and verified by its digests."""

    snapshot_record: SnapshotRecord
    flag_set: StoredSet

    def in_chunks(self) -> bool:
        """Say whether anything of it lies outside the snapshot record."""
        return bool(self.snapshot_record.chunks or self.flag_set.large)


class PublishedReader:
    """Reads the publications of one source."""

    def __init__(self, source: str, store: Store) -> None:
        self._source = source
        self._store = store

    def stored(self, token: int) -> Stored | None:
        """Return what is published; None if something else has been since the state was read.

        A later snapshot record counts only with the source state that belongs to it: in a table
        restored from a backup, whose items may be some moments apart, it would hide what was
        published.

        Raises:
            CorruptStoreError: if it is missing, another fencing token's, or does not match its
            digests.
        """
        record = self._store.read(keys.snapshot_key(self._source))
        found = record.get("token") if record else None
        later = isinstance(found, int) and found > token
        if later and self._store.state(self._source).published != token:
            return None  # the condition will say so
        stored = self._load(record, f"the snapshot record of fencing token {token}")
        if stored.snapshot_record.token != token:
            found_token = stored.snapshot_record.token
            message = f"the snapshot record of version {token} is that of version {found_token}"
            raise CorruptStoreError(message)
        return stored

    def version(self, token: int) -> Stored:
        """Return one kept publication.

        Raises:
            CorruptStoreError: if it is missing or does not match its digests.
        """
        record = self._store.read(keys.history_key(self._source, token))
        return self._load(record, f"history {token}")

    def baselines(
        self, seen: SourceState, stored: Stored, now_ms: int
    ) -> list[tuple[str, FlagSet]]:
        """Return what the guard compares a new set with, each named for its message."""
        olds: list[tuple[str, FlagSet]] = [("now", stored.flag_set)]
        earlier = baseline(seen.versions(), now_ms, seen.allowed)
        if earlier and earlier[1].token != seen.published:
            # A damaged history is no reason to refuse: what is published has been compared.
            with suppress(CorruptStoreError):
                olds.append((earlier[0], self.version(earlier[1].token).flag_set))
        return olds

    def _load(self, record: Record | None, what: str) -> Stored:
        if record is None:
            message = f"{what} is missing"
            raise CorruptStoreError(message)
        try:
            snapshot_record = SnapshotRecord.from_record(record)
            body = Body(
                snapshot_record.index_data,
                snapshot_record.index_digest,
                self._data(snapshot_record),
            )
        except (CorruptSnapshotError, TypeError, ValueError) as error:  # or someone else's record
            message = f"{what} is corrupt: {error}"
            raise CorruptStoreError(message) from error
        sections = {name: body.items(name) for name in body.sections()}
        flag_set = StoredSet(
            snapshot_record.provider,
            sections,
            body.meta,
            snapshot_record.revision,
            body.large,
            self._load_segment,
        )
        return Stored(snapshot_record, flag_set)

    def verify_large(self, stored: Stored) -> None:
        """Read all large segments.

        Raises:
            CorruptStoreError: if one is missing or does not match its digest.
        """
        for segment in stored.flag_set.large.values():
            self._load_segment(segment)

    def _load_segment(self, segment: LargeSegment) -> Json:
        try:
            return decode_segment(segment, self._chunks(segment.prefix(), segment.chunks))
        except CorruptSnapshotError as error:
            raise CorruptStoreError(str(error)) from error

    def _data(self, snapshot_record: SnapshotRecord) -> bytes:
        prefix, number = snapshot_record.stored_chunks()
        return self._chunks(prefix, number) if number else snapshot_record.body

    def _chunks(self, prefix: str, number: int) -> bytes:
        chunks = list(self._store.scan(keys.chunks_namespace(self._source), prefix))
        # A chunk that was expired after it was gone leaves a stub without a body.
        return b"".join(bytes(chunk.get("body", b"")) for chunk in chunks[:number])  # type: ignore[arg-type] # bytes
