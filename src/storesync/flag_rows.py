"""What is kept of a published set beside snapshot and history, and how it follows the snapshot.

Rows, one for each flag and segment, in the layout of the source's store and provider; and, where
the source asks for it, the whole set as the one document that the provider's SDK takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flagstore import keys
from flagstore.documents import unleash_text
from flagstore.keys import Key
from storesync import rows, split_rows
from storesync.rows import RowPlan
from storesync.stores.base import COMMIT_KB, Delete, Put, Write, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from flagstore.keys import Record
    from storesync.model import Changes, FlagSet, Source

    class Scan(Protocol):
        """Yields the records of one namespace whose keys start with a prefix."""

        def __call__(self, namespace: str, prefix: str = "") -> Iterator[Record]:
            """Read the store."""


REDIS_KB = 1_000
"""Redis serves nobody else during a commit: this many KB of segments take it about 0.1 s."""


@dataclass(frozen=True, slots=True)
class PerFlagRows:
    """What one source keeps."""

    source: str
    rows: bool = True
    """Rows that were written before they were turned off stay: another writer may keep them."""
    in_redis: bool = False
    """Split's rows may lie in its own layout, which other stores don't have."""
    native: str = ""
    """The provider whose own layout the rows have."""
    document: bool = False
    """The whole set as one document, too; removed once it is turned off."""

    @classmethod
    def of(cls, source: Source) -> PerFlagRows:
        """Return what a source asks for."""
        in_redis = source.store == "redis"
        return cls(source.name, source.rows, in_redis, source.native_rows, source.document)

    def commit_kb(self) -> int:
        """Return the KB of rows that one commit should take at most."""
        return REDIS_KB if self.in_redis else COMMIT_KB

    def plan(self, new: FlagSet, changed: Changes | None, scan: Scan, token: int) -> RowPlan:
        """Plan what must be written: from what changed, or compared with all that is there."""
        plans = []
        if self.rows and changed is not None:
            plans.append(self._changed(new, changed, scan, token))
        elif self.rows:
            plans.append(self._whole(new, scan, token))
        plans.append(self._document(new, scan, token, whole=changed is None))
        if changed is None and self.in_redis and self.native != "split":
            # Its SDKs would go on reading them.
            left = scan(keys.split_namespace(self.source))
            plans.append(RowPlan(tuple(Delete(_key(row)) for row in left), ()))
        return RowPlan(
            tuple(write for plan in plans for write in plan.writes),
            tuple(name for plan in plans for name in plan.skipped),
        )

    def _changed(self, new: FlagSet, changed: Changes, scan: Scan, token: int) -> RowPlan:
        if self.native != "split":
            return rows.plan_changes(self.source, new, changed, token)
        namespace = keys.split_namespace(self.source)
        present = (row for prefix in split_rows.DERIVED for row in scan(namespace, prefix))
        return split_rows.plan_changes(self.source, new, changed, present, token)

    def _whole(self, new: FlagSet, scan: Scan, token: int) -> RowPlan:
        """Plan the rows; of a Split source, then the removal of those that lie where ours do."""
        present = {
            _key(row): row for name in keys.row_namespaces(self.source) for row in scan(name)
        }
        if self.native != "split":
            return rows.plan_whole(self.source, new, present, token)
        there = scan(keys.split_namespace(self.source))
        plan = split_rows.plan_whole(self.source, new, there, token)
        return RowPlan((*plan.writes, *map(Delete, present)), plan.skipped)

    def _document(self, new: FlagSet, scan: Scan, token: int, *, whole: bool) -> RowPlan:
        """Plan the document: whole, where it is not what is there; else it has changed."""
        place = keys.document_key(self.source)
        present = {_key(row): row.get("item") for row in scan(place.namespace)} if whole else {}
        required = self.document and new.provider == "unleash"
        writes: list[Write] = [Delete(key) for key in present if not (required and key == place)]
        if not required:
            return RowPlan(tuple(writes), ())
        record: Record = {**place._asdict(), "version": token, "item": _text(new)}
        if not self.in_redis and record_bytes(record) > keys.ROW_BYTES:
            return RowPlan(tuple(writes), (f"document/{place.key}",))
        if present.get(place) != record["item"]:
            writes.append(Put(record))
        return RowPlan(tuple(writes), ())


def _text(new: FlagSet) -> str:
    items = {
        section: [new.item(section, key) for key in sorted(new.keys(section))]
        for section in ("flags", "segments")
    }
    return unleash_text(new.meta, items["flags"], items["segments"])


def _key(row: Record) -> Key:
    return Key(str(row["namespace"]), str(row["key"]))
