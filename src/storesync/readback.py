"""What is published and kept, read back from the store and verified by its digests."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flagstore import layout
from flagstore.body import LARGE_SECTION, Body, Part, decode_part
from flagstore.encoding import item_digest
from flagstore.errors import CorruptSnapshotError
from flagstore.layout import Head
from storesync.errors import CorruptStoreError
from storesync.model import FlagSet
from storesync.retention import baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from flagstore.layout import Pulse, Record
    from storesync.model import Json
    from storesync.stores.base import Store


@dataclass(frozen=True, slots=True)
class StoredSet(FlagSet):
    """A flag set as read back; its large segments are read only when they are asked for."""

    large: Mapping[str, Part] = field(default_factory=dict)
    """Name of a large segment → where its pieces lie."""
    load: Callable[[Part], Json] = field(default=lambda _part: None, repr=False, compare=False)
    """Reads one; raises :class:`~storesync.errors.CorruptStoreError` for lost or changed pieces."""

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
            with suppress(CorruptStoreError):  # lost pieces tell nothing
                found[key] = self.item(LARGE_SECTION, key)
        return replace(self, sections={**self.sections, LARGE_SECTION: found})

    def is_large(self, section: str, key: str) -> bool:
        """Say whether an item is kept apart from the others, for its size."""
        return section == LARGE_SECTION and key in self.large


@dataclass(frozen=True, slots=True)
class Stored:
    """What was published, read back and verified by its digests."""

    head: Head
    flag_set: StoredSet

    def in_pieces(self) -> bool:
        """Say whether anything of it lies outside the head."""
        return bool(self.head.pieces or self.flag_set.large)


class Readback:
    """Reads the publications of one source."""

    def __init__(self, source: str, store: Store) -> None:
        self._source = source
        self._store = store

    def stored(self, ticket: int) -> Stored | None:
        """Return what is published; None if something else has been since the pulse was read.

        A later head counts only with the pulse that belongs to it: in a table restored from a
        backup, whose items may be some moments apart, it would hide what was published.

        Raises:
            CorruptStoreError: if it is missing, another ticket's, or does not match its digests.
        """
        record = self._store.read(layout.head_key(self._source))
        found = record.get("ticket") if record else None
        later = isinstance(found, int) and found > ticket
        if later and self._store.pulse(self._source).published != ticket:
            return None  # the fence will say so
        stored = self._load(record, f"the head of ticket {ticket}")
        if stored.head.ticket != ticket:
            message = f"the head of ticket {ticket} is that of ticket {stored.head.ticket}"
            raise CorruptStoreError(message)
        return stored

    def version(self, ticket: int) -> Stored:
        """Return one kept publication.

        Raises:
            CorruptStoreError: if it is missing or does not match its digests.
        """
        record = self._store.read(layout.history_key(self._source, ticket))
        return self._load(record, f"history {ticket}")

    def baselines(self, seen: Pulse, stored: Stored, now_ms: int) -> list[tuple[str, FlagSet]]:
        """Return what the guard compares a new set with, each named for its message."""
        olds: list[tuple[str, FlagSet]] = [("now", stored.flag_set)]
        earlier = baseline(seen.versions(), now_ms, seen.allowed)
        if earlier and earlier[1].ticket != seen.published:
            # A damaged history is no reason to refuse: what is published has been compared.
            with suppress(CorruptStoreError):
                olds.append((earlier[0], self.version(earlier[1].ticket).flag_set))
        return olds

    def _load(self, record: Record | None, what: str) -> Stored:
        if record is None:
            message = f"{what} is missing"
            raise CorruptStoreError(message)
        try:
            head = Head.from_record(record)
            body = Body(head.index_data, head.index_digest, self._data(head))
        except (CorruptSnapshotError, TypeError, ValueError) as error:  # or someone else's record
            message = f"{what} is corrupt: {error}"
            raise CorruptStoreError(message) from error
        sections = {name: body.items(name) for name in body.sections()}
        flag_set = StoredSet(
            head.provider, sections, body.meta, head.revision, body.large, self._load_part
        )
        return Stored(head, flag_set)

    def verify_large(self, stored: Stored) -> None:
        """Read all large segments.

        Raises:
            CorruptStoreError: if one is missing or does not match its digest.
        """
        for part in stored.flag_set.large.values():
            self._load_part(part)

    def _load_part(self, part: Part) -> Json:
        try:
            return decode_part(part, self._pieces(part.prefix(), part.pieces))
        except CorruptSnapshotError as error:
            raise CorruptStoreError(str(error)) from error

    def _data(self, head: Head) -> bytes:
        prefix, number = head.stored_pieces()
        return self._pieces(prefix, number) if number else head.body

    def _pieces(self, prefix: str, number: int) -> bytes:
        pieces = list(self._store.scan(layout.pieces_namespace(self._source), prefix))
        # A piece that was expired after it was gone leaves a stub without a body.
        return b"".join(bytes(piece.get("body", b"")) for piece in pieces[:number])  # type: ignore[arg-type] # bytes
