"""A flag set as rows, one per flag and segment, in addition to the snapshot.

Rows are written after the snapshot, for SDKs that read a documented layout, and for operators who
browse the table. A source may also have the whole set as one document, as its provider's SDK reads
it.

Split's rows in Redis have the layout that its SDKs read in consumer mode (go-split-commons,
``storage/redis/constants.go``; docs/redis.md lists the keys). A row's namespace is
``<source>:SPLITIO``, its key is the part after ``SPLITIO.``, and its item is a string or, for a
Redis set, the JSON list of its members. Redis has no empty sets; SDKs treat a missing set as empty.
The only change to flags is that ``"attribute": ""`` becomes null: Node.js reads both as the key,
Python reads the first as an attribute with an empty name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any

from flagstore.codec import dumps
from flagstore.encode import unleash_text
from flagstore.keys import (
    ROW_BYTES,
    SORT_KEY_BYTES,
    Key,
    document_key,
    key_of,
    row_marker,
    row_namespace,
    row_namespaces,
    split_namespace,
)
from storesync.model import DEPLOYMENT, PREFIX_BYTES
from storesync.store import Delete, Put, Write, record_bytes

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from flagstore.keys import Record
    from storesync.model import Changes, FlagSet, Source
    from storesync.store import Store


VERSIONS = range(2**53)
"""Valid versions of an item: JavaScript cannot represent larger integers."""
SECTIONS = {"segments": "segment.", "rule_based_segments": "rbsegment.", "flags": "split."}
"""Split's sections → prefix of their rows, in the order of writing, so that references resolve."""
DERIVED = ("flagSet.", "trafficType.")
"""Split's rows that are derived from all flags: compared whenever anything changes."""
PART_BYTES = 500_000
"""Maximum JSON of a set that is written in one step. A larger one is first assembled in parts
under another key. (10,000 keys of 36 characters have 390,000.)"""


@dataclass(frozen=True, slots=True)
class RowPlan:
    """The writes that make the rows show a flag set."""

    writes: tuple[Write, ...]
    skipped: tuple[str, ...] = ()
    """``section/key`` of rows that are too large to store; their last good row stays."""


def source_as(source: Source, provider: str) -> Source:
    """Return the source as it stores the rows of one provider's version.

    After a rollback, that may be another provider than today's. ``rows_prefix`` and ``adopt`` are
    for the SDKs of today's: in its place another program may have other rows.
    """
    if provider == source.provider:
        return source
    return replace(source, provider=provider, rows_prefix=None, adopt=False)


def plan(
    source: Source,
    new: FlagSet,
    changed: Changes | None,
    store: Store,
    token: int,
    adopted: Iterable[Key] = (),
) -> RowPlan:
    """Plan the rows and the document of a source.

    Rows stay when they are turned off, since another writer may maintain them. A document is
    removed. With ``changed``, the rows are known to show the previous set; without, all stored rows
    are compared, and those *adopted* from another program. *source* and *store* have the layout of
    the set's provider: see :func:`source_as`.
    """
    name, scan, in_split_layout = source.name, store.scan, source.rows_at.startswith("split ")
    plans = []
    if source.rows and in_split_layout:
        prefixes = DERIVED if changed is not None else ("",)
        own = (row for prefix in prefixes for row in scan(split_namespace(name), prefix))
        others: Iterable[Record] = ({**key._asdict()} for key in adopted)
        plans.append(plan_split(name, new, changed, chain(own, others), token))
    elif source.rows and changed is not None:
        plans.append(plan_changes(name, new, changed, token))
    elif source.rows:
        present = {key_of(row): row for space in row_namespaces(name) for row in scan(space)}
        plans.append(plan_whole(name, new, present, token))
    if source.document or changed is None:
        plans.append(_document(source, new, store, token, whole=changed is None))
    return RowPlan(
        tuple(write for part in plans for write in part.writes),
        tuple(skipped for part in plans for skipped in part.skipped),
    )


def plan_removal(
    source: str, rows_at: str, store: Store, shown: Container[tuple[str, str]]
) -> Iterator[Delete]:
    """Yield the deletes of the rows that flagstore wrote at one place.

    *store* has its rows at that place; *shown*: section and key of LaunchDarkly's rows.
    """
    if rows_at.startswith("launchdarkly "):
        for section in ("flags", "segments"):
            for row in store.scan(row_namespace(source, "launchdarkly", section)):
                if (section, row["key"]) in shown:
                    yield Delete(key_of(row), record_bytes(row))
        yield Delete(row_marker(source))
        return
    spaces = (split_namespace(source),) if rows_at else row_namespaces(source)
    yield from (
        Delete(key_of(row), record_bytes(row)) for space in spaces for row in store.scan(space)
    )


def _document(source: Source, new: FlagSet, store: Store, token: int, *, whole: bool) -> RowPlan:
    """Plan the document; with *whole*, compare it with the stored one."""
    place = document_key(source.name)
    present = {key_of(row): row.get("item") for row in store.scan(place.namespace)} if whole else {}
    # A rollback may restore another provider's version.
    if not (source.document and new.provider == "unleash"):
        return RowPlan(tuple(map(Delete, present)))
    flags, segments = (
        [dumps(new.item(section, key)) for key in sorted(new.keys(section))]
        for section in ("flags", "segments")
    )
    text = unleash_text(new.meta, features=flags, segments=segments)
    record: Record = {**place._asdict(), "version": token, "item": text}
    if source.store != "redis" and record_bytes(record) > ROW_BYTES:
        return RowPlan((), (f"document/{place.key}",))
    return RowPlan((Put(record),) if present.get(place) != text else ())


# -- flagstore's and LaunchDarkly's layout --------------------------------------------------------


def plan_changes(source: str, new: FlagSet, changed: Changes, token: int) -> RowPlan:
    """Plan the rows from the changes, for rows that are known to show the previous set."""
    touched = [place for place in (*changed.added, *changed.changed) if place[0] not in DEPLOYMENT]
    # Large segments have no rows, except where SDKs read them.
    hidden = [name for name in touched if new.provider != "launchdarkly" and new.is_large(*name)]
    shown = sorted(set(touched) - set(hidden), key=lambda name: (name[0] == "flags", name))
    rows = [row(source, new, section, key, token) for section, key in shown]
    gone = [
        Delete(
            Key(row_namespace(source, new.provider, section), key),
            _row_bytes(source, changed.since, section, key),
        )
        for section, key in (*changed.removed, *hidden)
        if section not in DEPLOYMENT and is_sort_key(key)
    ]
    return _row_plan(rows, gone)


def plan_whole(source: str, new: FlagSet, present: Mapping[Key, Record], token: int) -> RowPlan:
    """Plan the rows by comparing all stored ones, including other programs'."""
    sections = new.sections.keys() - DEPLOYMENT
    names = [(section, key) for section in sections for key in new.keys(section)]
    required: dict[Key, Record] = {}
    for section, key in sorted(names, key=lambda name: (name[0] == "flags", name)):
        if new.provider == "launchdarkly" or not new.is_large(section, key):
            record = row(source, new, section, key, token)
            required[key_of(record)] = record
    rows = [
        record
        for key, record in required.items()
        if key not in present or not _shows(present[key], record, token)
    ]
    marker = row_marker(source) if new.provider == "launchdarkly" else None
    writes: list[Write] = [
        Delete(key, record_bytes(present[key]))
        for key in sorted(present.keys() - required.keys())
        if key != marker
    ]
    if marker and marker not in present:
        writes.append(Put(dict(marker._asdict())))
    return _row_plan(rows, writes)


def _row_plan(rows: Iterable[Record], others: Iterable[Write]) -> RowPlan:
    """Plan rows in this order, segments before the flags that refer to them; then the others."""
    writes: list[Write] = []
    skipped = []
    for record in rows:
        size = record_bytes(record) + PREFIX_BYTES
        if is_sort_key(str(record["key"])) and size <= ROW_BYTES:
            writes.append(Put(record))
        else:
            section = str(record["namespace"]).partition(":")[2]
            skipped.append(f"{section}/{record['key']!s}")
    return RowPlan((*writes, *others), tuple(skipped))


def _shows(present: Record, record: Record, token: int) -> bool:
    """Return whether rows are equal, ignoring versions that are only fencing tokens."""
    version = record["version"]
    same = version == token or present.get("version") == version
    return same and present.get("item") == record["item"]


def row(source: str, flag_set: FlagSet, section: str, key: str, token: int) -> Record:
    """Return one row: the item's JSON and a version, in LaunchDarkly's attributes.

    The version is the item's own (LaunchDarkly's SDKs need it), or else the fencing token.
    """
    item = flag_set.item(section, key)
    own = item.get("version") if isinstance(item, dict) else None
    # ``version`` may be any JSON: no store accepts ``true`` or 400 digits.
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
    if shown.is_large(section, key):  # reading it just for its size would take several calls
        return ROW_BYTES
    return min(ROW_BYTES, record_bytes(row(source, shown, section, key, token=0)))


def is_sort_key(key: str) -> bool:
    """Return whether a string can be a row's key."""
    try:
        return 0 < len(key.encode()) <= SORT_KEY_BYTES
    except UnicodeEncodeError:  # a lone surrogate: valid in JSON, but not in any store
        return False


# -- Split's layout in Redis ----------------------------------------------------------------------


def plan_split(
    source: str, new: FlagSet, changed: Changes | None, present: Iterable[Record], token: int
) -> RowPlan:
    """Plan rows in Split's layout; rows that are already present are not written.

    ``present``: all stored rows, or those of :data:`DERIVED` if *changed* is given.
    """
    if changed is None:
        names = [(section, key) for section in SECTIONS for key in new.keys(section)]
        removed = []
    else:
        names = [*changed.added, *changed.changed]
        removed = [SECTIONS[section] + key for section, key in changed.removed]
    # Only digests of stored rows are kept in memory.
    digests = {str(row["key"]): _digest(str(row.get("item", ""))) for row in present}
    made = derived(new)
    required = {SECTIONS[section] + key: (section, key) for section, key in names}
    required |= dict.fromkeys(made, ("", ""))
    writes: list[Write] = []
    skipped = []
    for key in sorted(required, key=lambda key: (_rank(key), key)):
        section, name = required[key]
        if not is_sort_key(name if section else key):
            skipped.append(f"{section}/{name}" if section else key)
            continue
        item = shown(section, new.item(section, name)) if section else made[key]
        if digests.get(key) != _digest(item):
            writes += map(Put, _records(source, key, item, token))
    gone = {*removed, *digests} - required.keys()
    # Items that refer to others are removed first.
    for key in sorted(gone, key=lambda key: (-_rank(key), key)):
        if is_sort_key(key):
            writes.append(Delete(Key(split_namespace(source), key)))
    return RowPlan(tuple(writes), tuple(skipped))


def derived(flag_set: FlagSet) -> dict[str, str]:
    """Return key → item of the rows that are derived from all flags.

    Flag sets that the source does not fetch (option ``sets``) have no row: it lacks their flags.
    """
    sets: dict[str, list[str]] = {}
    types: dict[str, int] = {}
    fetched = flag_set.meta.get("sets")
    for name in sorted(flag_set.keys("flags")):
        flag = flag_set.item("flags", name)
        if not isinstance(flag, dict) or not is_sort_key(name):
            continue
        for flag_set_name in dict.fromkeys(_strings(flag.get("sets"))):
            if not fetched or flag_set_name in fetched:
                sets.setdefault(f"flagSet.{flag_set_name}", []).append(name)
        for traffic_type in _strings([flag.get("trafficTypeName")]):
            key = f"trafficType.{traffic_type}"
            types[key] = types.get(key, 0) + 1
    return {key: dumps(names) for key, names in sets.items()} | {
        key: str(count) for key, count in types.items()
    }


def shown(section: str, item: Any) -> str:  # noqa: ANN401 - provider JSON
    """Return the item of a flag, rule-based segment or segment as its row stores it."""
    if section == "segments":
        keys = item.get("keys") if isinstance(item, dict) else ()
        return dumps(sorted(set(_strings(keys))))
    text = dumps(item)
    if '"attribute":""' not in text:
        return text
    copy = json.loads(text)
    for condition in _objects(copy, "conditions"):
        for matcher in _objects(condition.get("matcherGroup"), "matchers"):
            selector = matcher.get("keySelector")
            if isinstance(selector, dict) and selector.get("attribute") == "":
                selector["attribute"] = None
    return dumps(copy)


def is_set(key: str) -> bool:
    """Return whether a row of Split's layout is a set in Redis."""
    return key.startswith(("segment.", "flagSet."))


def _records(source: str, key: str, item: str, token: int) -> Iterator[Record]:
    record: Record = {"namespace": split_namespace(source), "key": key, "version": token}
    if not is_set(key) or len(item) <= PART_BYTES:
        yield {**record, "item": item}
        return
    members, size = json.loads(item), 0
    parts: list[list[str]] = [[]]
    for member in members:
        cost = len(dumps(member)) + 1
        if parts[-1] and size + cost > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(member)
        size += cost
    counts = {"parts": len(parts), "members": len(members)}
    for number, part in enumerate(parts):
        yield {**record, "item": dumps(part), "part": number, **counts}


def _digest(item: str) -> bytes:
    return sha256(item.encode(errors="surrogateescape")).digest()


def _rank(key: str) -> int:
    prefixes = (*SECTIONS.values(), *DERIVED)
    return next((at for at, prefix in enumerate(prefixes) if key.startswith(prefix)), 0)


def _strings(values: object) -> list[str]:
    """Return the strings of a list that can be part of a Redis key, without lone surrogates."""
    found = values if isinstance(values, list) else []
    return [
        value
        for value in found
        if isinstance(value, str)
        and (value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value))
    ]


def _objects(parent: object, field: str) -> list[dict[str, Any]]:
    found = parent.get(field) if isinstance(parent, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
