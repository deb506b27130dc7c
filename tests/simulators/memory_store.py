"""A store in memory with the atomic steps of the real ones, for models, races and `make invoke`."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, cast

from flagstore.keys import Key, SourceState, key_of, state_key
from storesync.errors import ConditionFailedError
from storesync.store import NONCE_BYTES, Condition, Delete, Expire, Put
from storesync.stores import Stores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flagstore.keys import Record
    from storesync.model import Source
    from storesync.retry import Deadline
    from storesync.store import Sets, Write
    from storesync.stores import OpenStore


class MemoryStore:
    """Implements :class:`storesync.store.Store` on a dict that several instances share.

    Before each step it calls ``step(name)``, where a test can switch to another sync or kill this.
    """

    resent = 0
    """As the other stores count; this one never sends anything again."""

    def __init__(
        self,
        records: dict[Key, Record] | None = None,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.records = {} if records is None else records
        self._step = step

    def state(self, source: str) -> SourceState:
        return SourceState.from_record(self.read(state_key(source)) or {})

    def next_token(self, source: str, floor: int) -> tuple[int, SourceState]:
        self._step("next_token")
        key = state_key(source)
        nonce = token_hex(NONCE_BYTES)  # outside: the system's randomness lets other threads run
        record = dict(self.records.get(key, key._asdict()))
        record["issued"] = int(record.get("issued", floor)) + 1
        record["issued_nonce"] = nonce
        self.records[key] = record
        return int(record["issued"]), SourceState.from_record(record)

    def commit(
        self, source: str, condition: Condition, sets: Sets, writes: Sequence[Write] = ()
    ) -> None:
        self._step(_name_of(condition, sets, writes))
        key = state_key(source)
        record = dict(self.records.get(key, key._asdict()))
        state = SourceState.from_record(record)
        if not _holds(condition, state):
            raise ConditionFailedError(state)
        for name, value in sets.items():
            if value is None:
                record.pop(name, None)
            else:
                record[name] = value
        if sets:
            self.records[key] = record
        for write in writes:
            self._write(write)

    def _write(self, write: Write) -> None:
        if isinstance(write, Put):
            self._put(write.record)
        elif isinstance(write, Delete):
            self.records.pop(write.key, None)
        elif isinstance(write, Expire) and write.key in self.records:
            self.records[write.key] = {"expires_at": write.at_s, **self.records[write.key]}

    def _put(self, record: Record) -> None:
        self.records[key_of(record)] = dict(record)

    def put_all(self, records: Sequence[Record]) -> None:
        """Write one by one: a crash can come in between."""
        for record in records:
            self._step("put")
            self._put(record)

    def read(self, key: Key) -> Record | None:
        self._step("read")
        record = self.records.get(key)
        return None if record is None else dict(record)

    def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
        self._step("read")
        for key in sorted(self.records):
            if key.namespace == namespace and key.key.startswith(prefix):
                yield dict(self.records[key])

    def at(self, rows_at: str) -> MemoryStore:
        """Return itself: in the models, rows never move."""
        assert not rows_at
        return self

    def foreign(self, source: str) -> Iterator[Key]:
        """Yield nothing: no other program writes."""
        del source
        return iter(())


class MemoryStores(Stores):
    """Opens the same :class:`MemoryStore` for every source."""

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}

    def open(self, source: Source, deadline: Deadline) -> OpenStore:
        del source, deadline
        return cast("OpenStore", MemoryStore(self.records))


def _holds(condition: Condition, state: SourceState) -> bool:
    return (
        all(getattr(state, name) == value for name, value in condition.equal().items())
        and (condition.issued is None or condition.issued <= state.issued)
        and (condition.unpinned_at is None or state.pinned <= condition.unpinned_at)
    )


def _name_of(condition: Condition, sets: Sets, writes: Sequence[Write]) -> str:
    """Name a commit by what it does, for the schedules that a failing test prints."""
    if "published" in sets:
        return "publish"
    if "token" in sets:
        return "heartbeat"
    if condition.published is not None:
        return "expire" if any(isinstance(write, Expire) for write in writes) else "project"
    return "pin"
