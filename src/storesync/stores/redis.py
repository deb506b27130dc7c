"""The store on Redis or Valkey: each step one Lua script, all of a source's keys in one slot.

docs/redis.md lists the keys. Records are stored as in :mod:`flagstore.stores.redis`. Rows may have
a layout that a provider documents for its SDKs: LaunchDarkly's ("storing data in Redis") in
hashes, Split's (:mod:`storesync.rows`) and documents in plain strings and sets. Redis cannot list
keys by name without scanning the database, so the keys that flagstore wrote are members of a sorted
set. Anything else under a prefix, such as keys of SDKs, is neither read nor written.

Rows under a prefix that the user chose are not in the source's slot: a cluster refuses them.

A set that is too large for one commit is assembled in parts under another key, and renamed in one
step once all members are present; leftovers of an interrupted one expire.
"""

from __future__ import annotations

import json
from copy import copy
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from flagstore.codec import dumps
from flagstore.keys import (
    NATIVE_MARKER,
    NATIVE_SECTIONS,
    Key,
    SourceState,
    key_of,
    native_key,
    split_namespace,
    state_key,
)
from flagstore.stores.redis import index_name, record_name, to_field, to_record
from storesync.errors import ConditionFailedError
from storesync.rows import DERIVED, SECTIONS, is_set
from storesync.store import NONCE_BYTES, Condition, Delete, Put, Write
from storesync.stores.redis_client import Calls
from storesync.stores.redis_queues import RedisQueues
from storesync.stores.redis_scripts import COMMIT, NEXT_TOKEN, SCAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flagstore.keys import Record
    from storesync.retry import Deadline
    from storesync.store import Sets
    from storesync.stores.redis_client import Argument, Server

    Action = tuple[list[str], list[Argument]]
    """The two keys of a write in the script COMMIT; its kind, number of values and values."""

SCAN_RECORDS = 100
SCAN_BYTES = 1_000_000
"""Bytes after which a page of a scan ends, so that no script blocks the server for long."""
SCAN_MEMBERS = 5_000
"""Members of a set that Redis returns per command."""
SPLIT, DOCUMENT = "SPLITIO", "document"
"""The namespaces of plain strings and sets."""
SPLIT_LAYOUT = "split"
ROWS = tuple(start.encode() for start in (*SECTIONS.values(), *DERIVED))
"""How the names of Split's rows begin; others are its SDKs' and its Synchronizer's."""


class RedisStore:
    """Flag sets in one database. One instance serves one sync and has its deadline.

    *rows_at*: layout and prefix of the rows; see ``Source.rows_at``.
    """

    def __init__(self, client: Server, deadline: Deadline, *, rows_at: str = "") -> None:
        self._calls = Calls(client, deadline)
        self._deadline = deadline
        self.rows_at = rows_at

    def at(self, rows_at: str) -> RedisStore:
        """Return this store with rows at another place."""
        other = copy(self)
        other.rows_at = rows_at
        return other

    @property
    def _layout(self) -> str:
        return self.rows_at.partition(" ")[0]

    @property
    def _prefix(self) -> str:
        return self.rows_at.partition(" ")[2]

    @property
    def resent(self) -> int:
        """Calls that were sent again after an error, for the metrics."""
        return self._calls.resent

    # -- reading --------------------------------------------------------------------------------

    def read(self, key: Key) -> Record | None:
        """Return one record that is not a row, or None."""
        found: dict[bytes, bytes] = self._calls.command(
            f"reading {key.namespace}", "HGETALL", record_name(key)
        )
        fields = [part for field in found.items() for part in field]
        return to_record(fields) if fields else None

    def state(self, source: str) -> SourceState:
        """Return the source state."""
        return SourceState.from_record(self.read(state_key(source)) or {})

    def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
        """Yield the records of one namespace, in order of keys, page by page."""
        if _is_plain(namespace):
            yield from self._plain_rows(namespace, prefix)
            return
        if self._is_native(namespace):
            rows = self._native_rows(namespace)
            yield from (row for row in rows if str(row["key"]).startswith(prefix))
            return
        start, end = _between(prefix)
        while True:
            page: list[Any] = self._calls.script(
                f"reading {namespace}",
                SCAN,
                [index_name(namespace)],
                [start, end, SCAN_RECORDS, SCAN_BYTES],
            )
            if not page:
                return
            yield from (to_record(fields) for fields in page[1::2] if fields)
            start = b"(" + page[-2]

    def _native_rows(self, namespace: str) -> list[Record]:
        """Return LaunchDarkly's rows. HSCAN may repeat a field, and has no order."""
        name, purpose = self._native_name(namespace), f"reading {namespace}"
        if _section(namespace) == NATIVE_MARKER:
            marker: Record = {"namespace": namespace, "key": namespace}
            return [marker] * int(self._calls.command(purpose, "EXISTS", name))
        found: dict[bytes, bytes] = {}
        for page in self._pages(purpose, ("HSCAN", name), ("COUNT", SCAN_RECORDS)):
            found |= page
        return [_native_row(namespace, field, value) for field, value in sorted(found.items())]

    def _plain_rows(self, namespace: str, prefix: str) -> Iterator[Record]:
        """Yield the plain rows that flagstore wrote, in order of keys.

        A row whose string is missing, or of another type, has only its key.
        """
        purpose = f"reading {namespace}"
        start, end = _between(prefix)
        while True:
            index = self._index(namespace)
            command = ("ZRANGEBYLEX", index, start, end, "LIMIT", 0, SCAN_RECORDS)
            names: list[bytes] = self._calls.command(purpose, *command)
            if not names:
                return
            keys = [Key(namespace, _decode(name)) for name in names]
            strings = [key for key in keys if not _is_set(key)]
            found = strings and self._calls.command(
                purpose, "MGET", *map(self._plain_name, strings)
            )
            values = dict(zip(strings, found, strict=True))
            for key in keys:
                if _is_set(key):
                    yield {**key._asdict(), "item": self._members(purpose, key)}
                elif values[key] is None:
                    yield {**key._asdict()}
                else:
                    yield {**key._asdict(), "item": _decode(values[key])}
            start = b"(" + names[-1]

    def _members(self, purpose: str, key: Key) -> str:
        """Return a set's members as a sorted JSON list. SSCAN may repeat one, and has no order."""
        command = ("SSCAN", self._plain_name(key))
        found: set[bytes] = set()
        for page in self._pages(purpose, command, ("COUNT", SCAN_MEMBERS)):
            found.update(page)
        return dumps(sorted(map(_decode, found)))

    def _pages(
        self, purpose: str, command: Sequence[Argument], options: Sequence[Argument]
    ) -> Iterator[Any]:
        """Yield the pages of a command that takes a cursor. An element may come twice."""
        cursor = None
        while cursor != 0:
            cursor, page = self._calls.command(purpose, *command, cursor or 0, *options)
            yield page

    def foreign(self, source: str) -> Iterator[Key]:
        """Yield the rows at this place that flagstore does not know to be its own."""
        self._check(source, rows=True)
        if self._layout != SPLIT_LAYOUT:
            for section in NATIVE_SECTIONS:
                yield from map(key_of, self.scan(f"{source}:{section}"))
            return
        namespace = split_namespace(source)
        start = self._plain_name(Key(namespace, ""))
        command = ("ZRANGE", self._index(namespace), 0, -1)
        own = set(self._calls.command(f"reading {namespace}", *command))
        purpose = "looking for other programs' rows"
        options = ("MATCH", f"{start}*", "COUNT", SCAN_MEMBERS)
        for names in self._pages(purpose, ("SCAN",), options):
            self._deadline.require(0, purpose)  # the database may have any size
            for row in {name.removeprefix(start.encode()) for name in names} - own:
                if row.startswith(ROWS) and not _is_till(row):
                    yield Key(namespace, _decode(row))

    def queues(self, source: str, names: Sequence[str]) -> RedisQueues:
        """Return the queues beside a source's rows that Split's SDKs fill."""
        prefix = self._plain_name(Key(split_namespace(source), ""))
        return RedisQueues(self._calls, source, prefix, names)

    # -- names ----------------------------------------------------------------------------------

    def _is_native(self, namespace: str) -> bool:
        return self._layout == "launchdarkly" and _section(namespace) in NATIVE_SECTIONS

    def _native_name(self, namespace: str) -> str:
        """Return the Redis key that holds a namespace."""
        return native_key(Key(namespace, ""), self._prefix).namespace

    def _plain_name(self, key: Key) -> str:
        """Return the Redis key that holds a row."""
        if _section(key.namespace) == DOCUMENT:
            return record_name(key)
        return f"{self._prefix}.{SPLIT}.{key.key}" if self._prefix else f"{SPLIT}.{key.key}"

    def _index(self, namespace: str) -> str:
        """Return the key of the sorted set that lists a namespace: one for each prefix."""
        source, _, section = namespace.partition(":")
        own = section != SPLIT or self._prefix == f"{{{source}}}"
        return index_name(namespace) + ("" if own else f"@{self._prefix}")

    # -- writing --------------------------------------------------------------------------------

    def next_token(self, source: str, floor: int) -> tuple[int, SourceState]:
        """Issue a fencing token: one script that returns the whole source state."""
        self._check(source)
        key = record_name(state_key(source))
        nonce = to_field(token_hex(NONCE_BYTES))
        fields = self._calls.script("issuing a fencing token", NEXT_TOKEN, [key], [floor, nonce])
        state = SourceState.from_record(to_record(fields))
        return state.issued, state

    def commit(
        self, source: str, condition: Condition, sets: Sets, writes: Sequence[Write] = ()
    ) -> None:
        """Commit in one script."""
        self._check(source, rows=any(self._is_row(write) for write in writes))
        actions = [action for write in writes for action in self._actions(write)]
        changed = {name: value for name, value in sets.items() if value is not None}
        removed = [name for name, value in sets.items() if value is None]
        limits = (condition.issued, condition.unpinned_at)
        arguments: list[Argument] = ["" if part is None else part for part in limits]
        equal = condition.equal()
        arguments.append(len(equal))
        for name, value in equal.items():
            arguments += [name, to_field(value) if value else ""]
        arguments += [len(changed), *_fields(changed), len(removed), *removed]
        keys = [record_name(state_key(source))]
        for names, values in actions:
            keys += names
            arguments += values
        purpose = "publishing" if writes else "completing a check"
        response = self._calls.script(purpose, COMMIT, keys, arguments)
        if isinstance(response, list):
            raise ConditionFailedError(SourceState.from_record(to_record(response)))

    def put_all(self, records: Sequence[Record]) -> None:
        """Write records, each in a script of its own."""
        for record in records:
            source = str(record["namespace"]).partition(":")[0]
            self.commit(source, Condition(), {}, [Put(record)])

    def _check(self, source: str, *, rows: bool = False) -> None:
        """Check the rights to the source's keys; with *rows*, also to rows under another prefix."""
        extra_key = ""
        if self._layout and (rows or self._prefix == f"{{{source}}}"):
            is_split = self._layout == SPLIT_LAYOUT
            probe = Key(split_namespace(source), "$probe")
            extra_key = self._plain_name(probe) if is_split else self._native_name(probe.namespace)
        self._calls.check(source, extra_key)

    def _is_row(self, write: Write) -> bool:
        namespace = write.key.namespace
        return self._is_native(namespace) or _section(namespace) == SPLIT

    def _actions(self, write: Write) -> list[Action]:
        key = write.key
        if isinstance(write, Put | Delete) and _is_plain(key.namespace):
            return self._plain_actions(write)
        if isinstance(write, Put | Delete) and self._is_native(key.namespace):
            return [self._native_action(write)]
        keys = [record_name(key), index_name(key.namespace)]
        if isinstance(write, Put):
            fields = _fields(write.record)
            return [(keys, ["put", len(fields), *fields])]
        return [(keys, ["delete", 0] if isinstance(write, Delete) else ["expire", 1, write.at_s])]

    def _native_action(self, write: Put | Delete) -> Action:
        namespace, key = write.key
        keys = [self._native_name(namespace)] * 2
        if _section(namespace) == NATIVE_MARKER:
            return keys, ["mark" if isinstance(write, Put) else "unmark", 0]
        if isinstance(write, Put):
            return keys, ["field", 2, key, str(write.record["item"]).encode()]
        return keys, ["unfield", 1, key]

    def _plain_actions(self, write: Put | Delete) -> list[Action]:
        """Return the steps of a write: a set's last part also renames the set."""
        key = write.key
        places = [self._plain_name(key), self._index(key.namespace)]
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
        staging = record_name(Key(f"{key.namespace}~", key.key))
        values: list[Argument] = [key.key, part, *members]
        actions: list[Action] = [([staging, places[1]], ["part", len(values), *values])]
        if part == parts - 1:
            actions.append((places, ["whole", 2, staging, int(write.record["members"])]))
        return actions


def _section(namespace: str) -> str:
    return namespace.partition(":")[2]


def _fields(values: Record) -> list[bytes]:
    return [part for name, value in values.items() for part in (name.encode(), to_field(value))]


def _between(prefix: str) -> tuple[bytes, bytes]:
    """Return the range of the keys with a prefix, for ZRANGEBYLEX."""
    start = prefix.encode()
    return b"[" + start, b"(" + start + b"\xff"  # UTF-8 never has this byte


def _decode(value: bytes) -> str:
    """Decode a string; bytes that are not UTF-8 (another program's) stay comparable."""
    return value.decode(errors="surrogateescape")


# -- LaunchDarkly's layout ------------------------------------------------------------------------


def _native_row(namespace: str, field: bytes, value: bytes) -> Record:
    """Return the record of a field, as it was put."""
    item = _decode(value)
    row: Record = {"namespace": namespace, "key": _decode(field), "item": item}
    try:
        content = json.loads(item)
    except (ValueError, RecursionError):
        return row
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, int) and not isinstance(version, bool):
        row["version"] = version
    return row


# -- plain strings and sets -----------------------------------------------------------------------


def _is_plain(namespace: str) -> bool:
    return _section(namespace) in {SPLIT, DOCUMENT}


def _is_till(row: bytes) -> bool:
    """Return whether a Synchronizer keeps a segment's change number there."""
    return row.startswith(b"segment.") and row.endswith(b".till")


def _is_set(key: Key) -> bool:
    return _section(key.namespace) == SPLIT and is_set(key.key)
