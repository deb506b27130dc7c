"""Rows that are plain texts and sets of Redis: Split's layout, and documents. See docs/redis.md.

Split's is published (:mod:`storesync.split_rows`). With ``prefix={<source>}``, the SDKs of Split
that speak to Redis all put a dot behind the prefix: ``{prod}.SPLITIO.split.<name>``. The braces are
part of the prefix: Redis' hash tag, so that all of it is in the source's slot.

A document is the text ``flagstore:{prod}:document:features``.

Redis cannot list keys of a name without walking over the database, so the keys that we wrote are
the members of a sorted set among ours (``flagstore:{prod}:SPLITIO``), as with records. Whatever
else lies under the prefix, such as what SDKs write there, is neither read nor written.

A set that is too large for one commit is put together under a key of ours, in parts, and renamed in
one step, once all its members are there. What is left of one that was cut off expires.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flagstore.codec import dumps
from flagstore.keys import Key, check_source
from flagstore.stores.redis import index_name, record_name
from storesync.split_rows import is_set
from storesync.stores.base import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.keys import Record
    from storesync.stores.redis_client import Argument, Calls

    Action = tuple[list[str], list[Argument]]

SPLIT, DOCUMENT = "SPLITIO", "document"
PAGE = 100
"""Texts that are read at once."""
SCAN_MEMBERS = 5_000
"""Members of a set that Redis looks at in one command."""


def is_plain(namespace: str) -> bool:
    """Say whether the rows of this namespace are plain texts and sets."""
    return namespace.partition(":")[2] in {SPLIT, DOCUMENT}


def plain_name(key: Key) -> str:
    """Return the key of Redis that holds a row."""
    source, _, section = key.namespace.partition(":")
    if section == DOCUMENT:
        return record_name(key)
    return f"{{{check_source(source)}}}.{SPLIT}.{key.key}"


def plain_actions(write: Put | Delete) -> list[Action]:
    """Return what a write does: a set's last part also brings it to its place."""
    key = write.key if isinstance(write, Delete) else _key(write.record)
    places = [plain_name(key), index_name(key.namespace)]
    kind = "set" if _is_set(key) else "text"
    if isinstance(write, Delete):
        return [(places, [f"un{kind}", 1, key.key])]
    item = str(write.record["item"])
    if kind == "text":
        return [(places, ["text", 2, key.key, item.encode()])]
    members = [member.encode() for member in json.loads(item)]
    if "parts" not in write.record:
        return [(places, ["set", 1 + len(members), key.key, *members])]
    part, parts = int(write.record["part"]), int(write.record["parts"])
    beside = record_name(Key(f"{key.namespace}~", key.key))
    values: list[Argument] = [key.key, part, *members]
    actions: list[Action] = [([beside, places[1]], ["part", len(values), *values])]
    if part == parts - 1:
        actions.append((places, ["whole", 2, beside, int(write.record["members"])]))
    return actions


def between(prefix: str) -> tuple[bytes, bytes]:
    """Return from where to where the keys with a prefix are, as ZRANGEBYLEX takes it."""
    start = prefix.encode()
    return b"[" + start, b"(" + start + b"\xff"  # no UTF-8 has such a byte


def read_plain(calls: Calls, namespace: str, prefix: str = "") -> Iterator[Record]:
    """Yield the rows that we wrote and whose keys start with a prefix, in order of keys.

    Of a row whose text is missing, or no text, there is the key alone. Bytes that are no UTF-8 are
    kept: whoever wrote them, they differ from all that we write.
    """
    purpose = f"reading {namespace}"
    start, end = between(prefix)
    while True:
        command = ("ZRANGEBYLEX", index_name(namespace), start, end, "LIMIT", 0, PAGE)
        names: list[bytes] = calls.command(purpose, *command)
        if not names:
            return
        keys = [Key(namespace, name.decode(errors="surrogateescape")) for name in names]
        texts = [key for key in keys if not _is_set(key)]
        found = calls.command(purpose, "MGET", *map(plain_name, texts)) if texts else []
        items = dict(zip(texts, found, strict=True))
        for key in keys:
            item = _members(calls, purpose, key) if _is_set(key) else _text(items[key])
            yield {**key._asdict()} if item is None else {**key._asdict(), "item": item}
        start = b"(" + names[-1]


def _members(calls: Calls, purpose: str, key: Key) -> str:
    """Return a set's members as a sorted JSON list. SSCAN may repeat one, and has no order."""
    found: set[bytes] = set()
    cursor = None
    while cursor != 0:
        command = ("SSCAN", plain_name(key), cursor or 0, "COUNT", SCAN_MEMBERS)
        cursor, page = calls.command(purpose, *command)
        found.update(page)
    return dumps(sorted(member.decode(errors="surrogateescape") for member in found))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="surrogateescape")


def _is_set(key: Key) -> bool:
    return key.namespace.endswith(f":{SPLIT}") and is_set(key.key)


def _key(record: Record) -> Key:
    return Key(str(record["namespace"]), str(record["key"]))
