"""The flag set once more as rows, one item per flag and segment. Pure.

Rows follow the snapshot record: for other languages' SDKs where their layout is published, and for
people who open the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flagstore.codec import dumps
from flagstore.keys import ROW_BYTES, SORT_KEY_BYTES, Key, row_marker, row_namespace
from storesync.model import Changes
from storesync.stores.base import Delete, Put, Write, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flagstore.keys import Record
    from storesync.model import FlagSet

VERSIONS = range(2**53)
"""Numbers that can be an item's own version; beyond, JavaScript cannot count."""


@dataclass(frozen=True, slots=True)
class RowPlan:
    """What must be written so that the rows show a flag set."""

    writes: tuple[Write, ...]
    skipped: tuple[str, ...]
    """``section/key`` of rows that no item can hold; their last good row stays."""


def changes(old: FlagSet | None, new: FlagSet) -> Changes:
    """Compare two flag sets item by item, by content."""
    before, after = _names(old) if old else set(), _names(new)
    changed = [
        f"{section}/{key}"
        for section, items in new.sections.items()
        for key in (old.differing(section, items) if old else ())
    ]
    return Changes(
        added=tuple(sorted("/".join(name) for name in after - before)),
        changed=tuple(sorted(changed)),
        removed=tuple(sorted("/".join(name) for name in before - after)),
        since=old,
    )


def plan_changes(source: str, new: FlagSet, changed: Changes, token: int) -> RowPlan:
    """Plan the rows from what changed, for rows that are known to show the set before."""
    names = [split_name(name) for name in (*changed.added, *changed.changed)]
    shown = [name for name in names if _has_row(new, *name)]
    hidden = [name for name in names if not _has_row(new, *name)]
    rows = [row(source, new, section, key, token) for section, key in _ordered(shown)]
    gone = [
        Delete(
            Key(row_namespace(source, new.provider, section), key),
            _row_bytes(source, changed.since, section, key),
        )
        for section, key in (*map(split_name, changed.removed), *hidden)
        if is_sort_key(key)
    ]
    return _plan(rows, gone, [])


def plan_whole(source: str, new: FlagSet, present: Mapping[Key, Record], token: int) -> RowPlan:
    """Plan the rows against all that is there, whoever wrote it."""
    required: dict[Key, Record] = {}
    for section, key in _ordered(name for name in _names(new) if _has_row(new, *name)):
        record = row(source, new, section, key, token)
        required[Key(str(record["namespace"]), str(record["key"]))] = record
    rows = [
        record
        for key, record in required.items()
        if key not in present or not _shows(present[key], record, token)
    ]
    marker = row_marker(source, new.provider)
    gone = [
        Delete(key, record_bytes(present[key]))
        for key in sorted(present.keys() - required.keys())
        if key != marker
    ]
    mark: list[Write] = [Put(dict(marker._asdict()))] if marker and marker not in present else []
    return _plan(rows, gone, mark)


def _shows(present: Record, record: Record, token: int) -> bool:
    """Compare two rows; a version that is only the token of a publication does not count."""
    version = record["version"]
    same = version == token or present.get("version") == version
    return same and present.get("item") == record["item"]


def row(source: str, flag_set: FlagSet, section: str, key: str, token: int) -> Record:
    """Return one row: the item's JSON text and a version, in LaunchDarkly's attributes.

    The version is the item's own where it has one (LaunchDarkly's SDKs need it), else the fencing
    token that wrote the row.
    """
    item = flag_set.item(section, key)
    own = item.get("version") if isinstance(item, dict) else None
    # An attribute of that name may be anything: no store takes ``true`` or 400 digits as a number.
    if not isinstance(own, int) or isinstance(own, bool) or own not in VERSIONS:
        own = token
    return {
        "namespace": row_namespace(source, flag_set.provider, section),
        "key": key,
        "version": own,
        "item": dumps(item),
    }


def _row_bytes(source: str, shown: FlagSet | None, section: str, key: str) -> int:
    """Return the size of the row that shows an item of this set; 0 if there is none."""
    if shown is None or key not in shown.keys(section):
        return 0
    if shown.is_large(section, key):  # reading it for its size would take several calls
        return ROW_BYTES
    return min(ROW_BYTES, record_bytes(row(source, shown, section, key, token=0)))


def _plan(rows: Iterable[Record], gone: list[Delete], mark: list[Write]) -> RowPlan:
    writes: list[Write] = []
    skipped = []
    for record in rows:
        if _fits(record):
            writes.append(Put(record))
        else:
            section = str(record["namespace"]).partition(":")[2]
            skipped.append(f"{section}/{record['key']!s}")
    return RowPlan((*writes, *gone, *mark), tuple(skipped))


def _fits(record: Record) -> bool:
    return is_sort_key(str(record["key"])) and record_bytes(record) <= ROW_BYTES


def is_sort_key(key: str) -> bool:
    """Say whether a text can name a row."""
    try:
        return 0 < len(key.encode()) <= SORT_KEY_BYTES
    except UnicodeEncodeError:  # a lone surrogate: JSON can name it, no store can
        return False


def _names(flag_set: FlagSet) -> set[tuple[str, str]]:
    return {(section, key) for section in flag_set.sections for key in flag_set.keys(section)}


def _has_row(flag_set: FlagSet, section: str, key: str) -> bool:
    """Large segments stay out of the rows, except where SDKs read them there."""
    return flag_set.provider == "launchdarkly" or not flag_set.is_large(section, key)


def split_name(name: str) -> tuple[str, str]:
    """Return section and key of a name as :class:`~storesync.model.Changes` lists it."""
    section, _, key = name.partition("/")
    return section, key


def _ordered(names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Order rows so that what is referred to comes first: segments, then flags."""
    return sorted(names, key=lambda name: (name[0] == "flags", name))
