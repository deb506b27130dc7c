"""The store on Redis or Valkey: each step one Lua script, all of a source's keys in one slot.

Where records lie says :mod:`flagstore.stores.redis_layout`. Nothing outside of
``flagstore:{<source>}:`` is read or written, and no command walks over the database.

A script that is sent again because its answer was lost finds its own ticket in the pulse and
loses the fence to itself, as with DynamoDB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore import layout
from flagstore.layout import Key, Pulse
from flagstore.stores.redis_layout import index_name, record_name, to_field, to_record
from storesync.errors import FenceLostError
from storesync.stores.base import Delete, Fence, Put, Write
from storesync.stores.redis_client import Calls, Client, open_redis
from storesync.stores.redis_scripts import COMMIT, DRAW, SCAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flagstore.layout import Record
    from storesync.budget import Budget
    from storesync.stores.base import Sets
    from storesync.stores.redis_client import Argument

__all__ = ["RedisStore", "open_redis"]

SCAN_RECORDS = 100
SCAN_BYTES = 1_000_000
"""Where a page of a scan ends, so that no script holds up the server for long."""


class RedisStore:
    """Flag sets in one database. One instance serves one sync: it knows its time budget."""

    def __init__(self, client: Client, budget: Budget) -> None:
        self._calls = Calls(client, budget)

    @property
    def resent(self) -> int:
        """Calls that were sent again after an error, for the metrics."""
        return self._calls.resent

    # -- reading --------------------------------------------------------------------------------

    def read(self, key: Key) -> Record | None:
        """Return one record."""
        fields = self._hash(f"reading {key.namespace}", key)
        return to_record(fields) if fields else None

    def pulse(self, source: str) -> Pulse:
        """Return the pulse."""
        return _pulse(self._hash("reading the pulse", layout.pulse_key(source)))

    def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
        """Yield the records of one namespace, in order of keys, page by page."""
        start = b"[" + prefix.encode()
        end = b"(" + prefix.encode() + b"\xff"  # no UTF-8 has such a byte
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

    def _hash(self, purpose: str, key: Key) -> list[bytes]:
        found: dict[bytes, bytes] = self._calls.command(purpose, "HGETALL", record_name(key))
        return [part for field in found.items() for part in field]

    # -- writing --------------------------------------------------------------------------------

    def draw(self, source: str, floor: int) -> tuple[int, Pulse]:
        """Draw the next ticket: one script that returns the whole pulse."""
        self._calls.check(source)
        key = record_name(layout.pulse_key(source))
        pulse = _pulse(self._calls.script("drawing a ticket", DRAW, [key], [floor]))
        return pulse.drawn, pulse

    def commit(self, source: str, fence: Fence, sets: Sets, writes: Sequence[Write] = ()) -> None:
        """Do it in one script."""
        self._calls.check(source)
        keys = [record_name(layout.pulse_key(source))]
        changed = {name: value for name, value in sets.items() if value is not None}
        removed = [name for name, value in sets.items() if value is None]
        conditions = (fence.ticket, fence.published, fence.unpinned_at)
        arguments: list[Argument] = ["" if part is None else part for part in conditions]
        arguments += [len(changed), *_fields(changed), len(removed), *removed]
        for write in writes:
            key, action = _action(write)
            keys += [record_name(key), index_name(key.namespace)]
            arguments += action
        purpose = "publishing" if writes else "completing a check"
        answer = self._calls.script(purpose, COMMIT, keys, arguments)
        if isinstance(answer, list):
            raise FenceLostError(_pulse(answer))

    def put_all(self, records: Sequence[Record]) -> None:
        """Write records, each in a script of its own."""
        for record in records:
            source = str(record["namespace"]).partition(":")[0]
            self.commit(source, Fence(), {}, [Put(record)])


def _action(write: Write) -> tuple[Key, list[Argument]]:
    """Return where a write goes, and its arguments: kind, number of values, values."""
    if isinstance(write, Put):
        fields = _fields(write.record)
        key = Key(str(write.record["namespace"]), str(write.record["key"]))
        return key, ["put", len(fields), *fields]
    if isinstance(write, Delete):
        return write.key, ["delete", 0]
    return write.key, ["expire", 1, write.at_s]


def _fields(values: Record) -> list[bytes]:
    return [part for name, value in values.items() for part in (name.encode(), to_field(value))]


def _pulse(fields: Sequence[bytes]) -> Pulse:
    return Pulse.from_record(to_record(fields))
