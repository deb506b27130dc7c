"""Rows of Split in the layout that its SDKs read in Redis' consumer mode. Pure. See docs/redis.md.

Published by Split: its SDKs and its Synchronizer share it (go-split-commons,
``storage/redis/constants.go``). A row's namespace is ``<source>:SPLITIO``, its key what follows
``SPLITIO.`` there, its item a text or, of what is a set in Redis, the JSON list of its members:

``segment.<name>``      set of keys; Redis knows no empty set, and SDKs take none for empty
``rbsegment.<name>``    the rule-based segment's JSON
``split.<name>``        the flag's JSON
``flagSet.<name>``      set of names of flags
``trafficType.<name>``  how many flags have it, in decimal

In this order they are written, so that what is referred to is there first. Of flags only
``"attribute": ""`` is changed, to null: Node.js takes both for the key, Python takes the first for
an attribute without a name. What only a Synchronizer reads is left out: the change numbers
(``splits.till``, ``rbsegments.till``, ``segment.<name>.till``, which is also what a segment may be
called), ``segments.registered`` and ``hash``.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from flagstore.codec import dumps
from flagstore.keys import Key, split_namespace
from storesync.rows import RowPlan, is_sort_key, split_name
from storesync.stores.base import Delete, Put, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flagstore.keys import Record
    from storesync.model import Changes, FlagSet

SECTIONS = {"segments": "segment.", "rule_based_segments": "rbsegment.", "flags": "split."}
DERIVED = ("flagSet.", "trafficType.")
"""What is made from all flags together: compared with what is there whenever anything changed."""
PART_BYTES = 500_000
"""JSON of a set that is written in one step; a larger one is put together beside, in parts. (10,000
keys of 36 characters have 390,000.)"""


def plan_changes(
    source: str, new: FlagSet, changed: Changes, present: Iterable[Record], token: int
) -> RowPlan:
    """Plan the rows from what changed, for rows that are known to show the set before.

    Args:
        source: the source.
        new: what is published.
        changed: what changed since the set that the rows show.
        present: the rows of :data:`DERIVED`.
        token: of the publication.
    """
    names = [split_name(name) for name in (*changed.added, *changed.changed)]
    required = [(SECTIONS[section] + key, section, key) for section, key in names]
    gone = [SECTIONS[section] + key for section, key in map(split_name, changed.removed)]
    return _plan(source, new, required, gone, _digests(present), token)


def plan_whole(source: str, new: FlagSet, present: Iterable[Record], token: int) -> RowPlan:
    """Plan the rows against all that is there. Of what is there only digests are kept at hand."""
    required = [
        (prefix + key, name, key) for name, prefix in SECTIONS.items() for key in new.keys(name)
    ]
    return _plan(source, new, required, [], _digests(present), token)


def derived(flag_set: FlagSet) -> dict[str, str]:
    """Return key → item of what is made from all flags together.

    Of a source that fetches some flag sets only (its option ``sets``), other sets are left out:
    not all of their flags are here.
    """
    sets: dict[str, list[str]] = {}
    types: dict[str, int] = {}
    fetched = flag_set.meta.get("sets")
    for name in sorted(flag_set.keys("flags")):
        flag = flag_set.item("flags", name)
        if not isinstance(flag, dict) or not is_sort_key(name):
            continue
        for flag_set_name in dict.fromkeys(_texts(flag.get("sets"))):
            if not fetched or flag_set_name in fetched:
                sets.setdefault(f"flagSet.{flag_set_name}", []).append(name)
        for traffic_type in _texts([flag.get("trafficTypeName")]):
            key = f"trafficType.{traffic_type}"
            types[key] = types.get(key, 0) + 1
    return {key: dumps(names) for key, names in sets.items()} | {
        key: str(count) for key, count in types.items()
    }


def shown(section: str, item: Any) -> str:  # noqa: ANN401 - provider JSON
    """Return the item of a flag, a rule-based segment or a segment as its row has it."""
    if section == "segments":
        keys = item.get("keys") if isinstance(item, dict) else ()
        return dumps(sorted(set(_texts(keys))))
    return dumps(_normalised(item))


def is_set(key: str) -> bool:
    """Say whether this row is a set in Redis."""
    return key.startswith(("segment.", "flagSet."))


def _plan(
    source: str,
    new: FlagSet,
    required: list[tuple[str, str, str]],
    removed: list[str],
    present: Mapping[str, bytes],
    token: int,
) -> RowPlan:
    """Plan rows, given as key, section and key there, and what is made from all flags.

    What is present already is not written.
    """
    made = derived(new)
    required = [*required, *((key, "", "") for key in made)]
    writes: list[Write] = []
    skipped = []
    for key, section, name in sorted(required, key=lambda row: (_rank(row[0]), row[0])):
        if not is_sort_key(name if section else key):
            skipped.append(f"{section}/{name}" if section else key)
            continue
        item = shown(section, new.item(section, name)) if section else made[key]
        if present.get(key) != _digest(item):
            writes += map(Put, _records(source, key, item, token))
    stays = {key for key, _, _ in required}
    gone = {key for key in (*removed, *present) if key not in stays}
    namespace = split_namespace(source)
    # What refers to others goes first.
    for key in sorted(gone, key=lambda key: (-_rank(key), key)):
        if is_sort_key(key):
            writes.append(Delete(Key(namespace, key)))
    return RowPlan(tuple(writes), tuple(skipped))


def _records(source: str, key: str, item: str, token: int) -> Iterator[Record]:
    record: Record = {"namespace": split_namespace(source), "key": key, "version": token}
    if not is_set(key) or len(item) <= PART_BYTES:
        yield {**record, "item": item}
        return
    members = json.loads(item)
    parts = [dumps(part) for part in _parts(members)]
    for number, part in enumerate(parts):
        yield {**record, "item": part, "part": number, "parts": len(parts), "members": len(members)}


def _parts(members: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for member in members:
        cost = len(dumps(member)) + 1
        if part and size + cost > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(member)
        size += cost
    yield part


def _digests(present: Iterable[Record]) -> dict[str, bytes]:
    return {str(row["key"]): _digest(str(row.get("item", ""))) for row in present}


def _digest(item: str) -> bytes:
    return sha256(item.encode(errors="surrogateescape")).digest()


def _rank(key: str) -> int:
    prefixes = (*SECTIONS.values(), *DERIVED)
    return next((at for at, prefix in enumerate(prefixes) if key.startswith(prefix)), 0)


def _texts(values: object) -> list[str]:
    """Return those of a list that a key of Redis can be: no lone surrogate has UTF-8."""
    found = values if isinstance(values, list) else []
    return [value for value in found if isinstance(value, str) and _is_utf8(value)]


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _normalised(item: Any) -> Any:  # noqa: ANN401 - provider JSON
    """Return a flag or rule-based segment whose matchers take ``""`` for no attribute."""
    if '"attribute":""' not in dumps(item):
        return item
    changed = json.loads(dumps(item))
    for selector in _selectors(changed):
        if selector.get("attribute") == "":
            selector["attribute"] = None
    return changed


def _selectors(item: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - provider JSON
    for condition in _objects(item, "conditions"):
        group = condition.get("matcherGroup")
        for matcher in _objects(group, "matchers"):
            selector = matcher.get("keySelector")
            if isinstance(selector, dict):
                yield selector


def _objects(parent: object, field: str) -> list[dict[str, Any]]:
    found = parent.get(field) if isinstance(parent, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
