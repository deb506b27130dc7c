"""What a store must be able to do: little, so that all rules of publishing are in one place.

Everything that changes what readers see goes through :meth:`Store.commit`: one atomic step, on a
condition against the source state. The publisher decides which condition guards which step; a
store only has to be atomic.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flagstore.keys import Key, Record, SourceState, Value

    Sets = Mapping[str, Value | None]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition against the source state; every part that is given must hold."""

    token: int | None = None
    """The last completed check has this fencing token (0: none yet),"""
    check_nonce: str | None = None
    """and this nonce."""
    published: int | None = None
    """The published version is this fencing token's,"""
    nonce: str | None = None
    """and has this nonce."""
    issued: int | None = None
    """At least this many fencing tokens have been issued: the store has not lost this one."""
    unpinned_at: int | None = None
    """The source is not pinned at this moment (milliseconds since the epoch)."""

    def equal(self) -> dict[str, int | str]:
        """Return the attributes that must have these values; 0 and "" are absent ones."""
        names = ("token", "check_nonce", "published", "nonce")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Put:
    """Write one whole record, at its ``namespace`` and ``key``."""

    record: Record


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one record, if it exists."""

    key: Key
    size: int = 0
    """Bytes of that record; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Expire:
    """Set when one record expires (seconds since the epoch), if it exists.

    An expiry that is already set stays as it is: neither postponed nor brought forward.
    """

    key: Key
    at_s: int
    size: int = 0
    """Bytes of that record; 0 if unknown."""


Write = Put | Delete | Expire

NONCE_BYTES = 8
"""Random bytes of a nonce, which is these in hex."""
COMMIT_WRITES = 99
"""Writes that one commit takes beside the source state (DynamoDB: 100 actions per transaction)."""
COMMIT_KB = 450
"""KB of records that one commit writes or removes. A transaction of DynamoDB takes two write units
for each, and a partition gives 1,000 per second; a larger one might never get through."""


def record_bytes(record: Record) -> int:
    """Return the size of an item as DynamoDB counts it: names and values in UTF-8."""
    return sum(
        # Redis may hold what is not text, which has no other encoding.
        len(name)
        + len(value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass"))
        for name, value in record.items()
    )


def write_kb(write: Write) -> int:
    """Return the size of the record that a write is about in whole KB, as DynamoDB bills it."""
    size = record_bytes(write.record) if isinstance(write, Put) else write.size
    return max(1, ceil(size / 1024))


def commits[W: Write](
    writes: Iterable[W], limit_kb: int = COMMIT_KB, limit: int = COMMIT_WRITES
) -> Iterator[list[W]]:
    """Group writes into as many as one commit takes, or fewer; always at least one group."""
    group: list[W] = []
    total = 0
    for write in writes:
        cost = write_kb(write)
        if group and (len(group) >= limit or total + cost > limit_kb):
            yield group
            group, total = [], 0
        group.append(write)
        total += cost
    yield group


class Store(Protocol):
    """Where flag sets are stored. All reads are consistent.

    Every method raises :class:`~storesync.errors.StoreError` when the store fails, and
    :class:`~storesync.errors.OutOfTimeError` when the deadline ends first.
    """

    def next_token(self, source: str, floor: int) -> tuple[int, SourceState]:
        """Issue a fencing token and a nonce; return it with the source state, in one atomic step.

        A counter that is missing starts at ``floor`` (the clock's seconds), so that a store or
        source that was created again never issues smaller fencing tokens.
        """

    def state(self, source: str) -> SourceState:
        """Return the source state; an empty one for a source that has never been synced."""

    def commit(
        self, source: str, condition: Condition, sets: Sets, writes: Sequence[Write] = ()
    ) -> None:
        """Set attributes of the source state (None removes) and do all writes, or nothing at all.

        Raises:
            ConditionFailedError: if the condition does not hold; has the source state.
        """

    def count_rows(self, source: str) -> int | None:
        """Return the number of rows, or None for a store that never loses single ones."""

    def put_all(self, records: Sequence[Record]) -> None:
        """Write records that nothing names yet, each on its own, until all are written."""

    def read(self, key: Key) -> Record | None:
        """Return one record, or None."""

    def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
        """Yield the records of one namespace whose keys start with a prefix, in order of keys."""
