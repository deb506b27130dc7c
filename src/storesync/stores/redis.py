"""The store on Redis or Valkey: each step one Lua script, all of a source's keys in one slot.

Where records lie says :mod:`flagstore.stores.redis`, where LaunchDarkly's rows lie
:mod:`storesync.stores.redis_rows`, and where Split's lie :mod:`storesync.stores.redis_plain`.
Nothing outside of ``flagstore:{<source>}:`` is read or written, but for those rows; no command
walks over the database.

A script that is sent again because its response was lost finds its own fencing token in the source
state and loses the condition to itself, as with DynamoDB.
"""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Any

from flagstore import keys
from flagstore.keys import Key, SourceState
from flagstore.stores.redis import index_name, record_name, to_field, to_record
from storesync.errors import ConditionFailedError
from storesync.stores.base import NONCE_BYTES, Condition, Delete, Put, Write
from storesync.stores.redis_client import Calls, Client, open_redis
from storesync.stores.redis_plain import (
    between,
    is_plain,
    plain_actions,
    plain_name,
    read_plain,
)
from storesync.stores.redis_rows import (
    NOTED,
    is_marker,
    is_native,
    leave,
    marker_of,
    native_action,
    native_name,
    to_row,
)
from storesync.stores.redis_scripts import COMMIT, COUNT, NEXT_TOKEN, SCAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flagstore.keys import Record
    from storesync.deadline import Deadline
    from storesync.stores.base import Sets
    from storesync.stores.redis_client import Argument
    from storesync.stores.redis_rows import Action

__all__ = ["RedisStore", "open_redis"]

SCAN_RECORDS = 100
SCAN_BYTES = 1_000_000
"""Where a page of a scan ends, so that no script holds up the server for long."""


class RedisStore:
    """Flag sets in one database. One instance serves one sync: it knows its deadline.

    With ``native="launchdarkly"``, its rows are in its layout. Then each of them lies there only:
    what is left of it among ours goes with the write. Without, what the source state says was there
    goes when other rows are complete. Split's rows have a namespace of their own, so
    ``native="split"`` only has the rights to their keys checked.
    """

    def __init__(self, client: Client, deadline: Deadline, *, native: str = "") -> None:
        self._calls = Calls(client, deadline)
        self._layout = native
        self._native = native == "launchdarkly"
        self._leaves = False

    @property
    def resent(self) -> int:
        """Calls that were sent again after an error, for the metrics."""
        return self._calls.resent

    # -- reading --------------------------------------------------------------------------------

    def read(self, key: Key) -> Record | None:
        """Return one record."""
        if is_plain(key.namespace):
            found = read_plain(self._calls, key.namespace, key.key)
            return next((row for row in found if row["key"] == key.key), None)
        if self._is_native(key.namespace):
            return next((row for row in self._rows(key.namespace) if row["key"] == key.key), None)
        fields = self._hash(f"reading {key.namespace}", key)
        return to_record(fields) if fields else None

    def state(self, source: str) -> SourceState:
        """Return the source state."""
        return _state(self._hash("reading the source state", keys.state_key(source)))

    def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
        """Yield the records of one namespace, in order of keys, page by page.

        Rows that are among ours and belong into LaunchDarkly's layout follow as bare keys: what
        compares rows writes them anew where they belong, or removes them.
        """
        if is_plain(namespace):
            yield from read_plain(self._calls, namespace, prefix)
            return
        if not self._is_native(namespace):
            yield from self._scan(namespace, prefix)
            return
        yield from (row for row in self._rows(namespace) if str(row["key"]).startswith(prefix))
        if not is_marker(namespace):
            for row in self._scan(namespace, prefix):
                yield {"namespace": namespace, "key": row["key"]}

    def count_rows(self, source: str) -> int | None:
        """Return how many rows are there: keys of Redis, which it may evict one by one."""
        namespaces = [*keys.row_namespaces(source), keys.document_key(source).namespace]
        prefixes = {index_name(name): f"{index_name(name)}:" for name in namespaces}
        split = keys.split_namespace(source)
        prefixes[index_name(split)] = plain_name(Key(split, ""))
        count: int = self._calls.script(
            "counting rows", COUNT, list(prefixes), [*prefixes.values()]
        )
        if self._native:
            hashes = [native_name(name) for name in namespaces if is_native(name)]
            count += self._calls.command("counting rows", "EXISTS", *hashes)
        return count

    def _scan(self, namespace: str, prefix: str) -> Iterator[Record]:
        start, end = between(prefix)
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

    def _rows(self, namespace: str) -> list[Record]:
        """Return LaunchDarkly's rows. HSCAN may repeat a field, and has no order."""
        name, purpose = native_name(namespace), f"reading {namespace}"
        if is_marker(namespace):
            return [marker_of(namespace)] * int(self._calls.command(purpose, "EXISTS", name))
        found: dict[bytes, bytes] = {}
        cursor = None
        while cursor != 0:
            command = ("HSCAN", name, cursor or 0, "COUNT", SCAN_RECORDS)
            cursor, page = self._calls.command(purpose, *command)
            found |= page
        return [to_row(namespace, field, value) for field, value in sorted(found.items())]

    def _is_native(self, namespace: str) -> bool:
        return self._native and is_native(namespace)

    def _hash(self, purpose: str, key: Key) -> list[bytes]:
        found: dict[bytes, bytes] = self._calls.command(purpose, "HGETALL", record_name(key))
        return [part for field in found.items() for part in field]

    # -- writing --------------------------------------------------------------------------------

    def next_token(self, source: str, floor: int) -> tuple[int, SourceState]:
        """Take the next fencing token: one script that returns the whole source state."""
        self._check(source)
        key = record_name(keys.state_key(source))
        nonce = to_field(token_hex(NONCE_BYTES))
        fields = self._calls.script("issuing a fencing token", NEXT_TOKEN, [key], [floor, nonce])
        self._leaves = not self._native and NOTED.encode() in fields[::2]
        state = _state(fields)
        return state.issued, state

    def commit(
        self, source: str, condition: Condition, sets: Sets, writes: Sequence[Write] = ()
    ) -> None:
        """Do it in one script."""
        self._check(source)
        actions = [action for write in writes for action in self._actions(write)]
        put = [_key(write) for write in writes if isinstance(write, Put)]
        if any(self._is_native(key.namespace) for key in put):
            sets = {**sets, NOTED: 1}
        elif self._leaves and "rows_version" in sets:
            sets = {**sets, NOTED: None}
            actions += leave(source)
        changed = {name: value for name, value in sets.items() if value is not None}
        removed = [name for name, value in sets.items() if value is None]
        limits = (condition.issued, condition.unpinned_at)
        arguments: list[Argument] = ["" if part is None else part for part in limits]
        equal = condition.equal()
        arguments.append(len(equal))
        for name, value in equal.items():
            arguments += [name, to_field(value) if value else ""]
        arguments += [len(changed), *_fields(changed), len(removed), *removed]
        touched = [record_name(keys.state_key(source))]
        for names, values in actions:
            touched += names
            arguments += values
        purpose = "publishing" if writes else "completing a check"
        response = self._calls.script(purpose, COMMIT, touched, arguments)
        if isinstance(response, list):
            raise ConditionFailedError(_state(response))

    def put_all(self, records: Sequence[Record]) -> None:
        """Write records, each in a script of its own."""
        for record in records:
            source = str(record["namespace"]).partition(":")[0]
            self.commit(source, Condition(), {}, [Put(record)])

    def _check(self, source: str) -> None:
        beside = {
            "launchdarkly": native_name(f"{source}:$probe"),
            "split": plain_name(Key(keys.split_namespace(source), "$probe")),
        }
        self._calls.check(source, beside.get(self._layout, ""))

    def _actions(self, write: Write) -> list[Action]:
        if isinstance(write, Put | Delete) and is_plain(_key(write).namespace):
            return plain_actions(write)
        if isinstance(write, Put | Delete) and self._is_native(_key(write).namespace):
            return [native_action(write), _action(Delete(_key(write)))]
        return [_action(write)]


def _key(write: Write) -> Key:
    if isinstance(write, Put):
        return Key(str(write.record["namespace"]), str(write.record["key"]))
    return write.key


def _action(write: Write) -> Action:
    """Return where a write goes, and its arguments: kind, number of values, values."""
    key = _key(write)
    names = [record_name(key), index_name(key.namespace)]
    if isinstance(write, Put):
        fields = _fields(write.record)
        return names, ["put", len(fields), *fields]
    if isinstance(write, Delete):
        return names, ["delete", 0]
    return names, ["expire", 1, write.at_s]


def _fields(values: Record) -> list[bytes]:
    return [part for name, value in values.items() for part in (name.encode(), to_field(value))]


def _state(fields: Sequence[bytes]) -> SourceState:
    return SourceState.from_record(to_record(fields))
