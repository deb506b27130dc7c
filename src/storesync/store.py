"""The interface of a store.

Every change that readers can see goes through :meth:`Store.commit`: one atomic step, with a
condition on the source state. The publisher decides which condition guards which step.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Protocol

from flagstore.keys import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flagstore.keys import Key, Record, SourceState, Value

    Sets = Mapping[str, Value | None]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on the source state; every given part must hold."""

    token: int | None = None
    """Fencing token of the last completed check (0: none yet)."""
    check_nonce: str | None = None
    """Nonce of that check."""
    published: int | None = None
    """Fencing token of the published version."""
    nonce: str | None = None
    """Nonce of that version."""
    issued: int | None = None
    """The last issued fencing token is at least this: the store has not lost this one."""
    unpinned_at: int | None = None
    """The source is not pinned at this moment (milliseconds since the epoch)."""

    def equal(self) -> dict[str, int | str]:
        """Return the attributes that must have these values; 0 and "" mean absent."""
        names = ("token", "check_nonce", "published", "nonce")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Put:
    """Write one whole record, at its ``namespace`` and ``key``."""

    record: Record

    @property
    def key(self) -> Key:
        """The record's key."""
        return key_of(self.record)


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one record, if it exists."""

    key: Key
    size: int = 0
    """Bytes of that record; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Expire:
    """Set when one record expires (seconds since the epoch), if it exists.

    An expiry that is already set stays as it is.
    """

    key: Key
    at_s: int
    size: int = 0
    """Bytes of that record; 0 if unknown."""


Write = Put | Delete | Expire

NONCE_BYTES = 8
"""Random bytes of a nonce, before hex."""
COMMIT_WRITES = 99
"""Maximum writes per commit, besides the source state (DynamoDB: 100 actions per transaction)."""
COMMIT_KB = 450
"""KB of records that one commit writes or removes. A DynamoDB transaction takes two write units for
each, and a partition has 1,000 per second; a larger one might never succeed."""


def record_bytes(record: Record) -> int:
    """Return the size of an item as DynamoDB counts it: names and values in UTF-8."""
    return sum(
        # Redis may hold bytes that are not UTF-8.
        len(name)
        + len(value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass"))
        for name, value in record.items()
    )


def write_kb(write: Write) -> int:
    """Return the size of a write's record in whole KB, as DynamoDB bills it."""
    size = record_bytes(write.record) if isinstance(write, Put) else write.size
    return max(1, ceil(size / 1024))


def commits[W: Write](
    writes: Iterable[W], limit_kb: int = COMMIT_KB, limit: int = COMMIT_WRITES
) -> Iterator[list[W]]:
    """Split writes into groups that fit one commit each; always at least one group."""
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
    :class:`~storesync.errors.OutOfTimeError` when the deadline passes first.
    """

    def next_token(self, source: str, floor: int) -> tuple[int, SourceState]:
        """Issue a fencing token and a nonce; return the token and the source state. Atomic.

        A missing counter starts at ``floor`` (the clock's seconds), so that a recreated store or
        source never issues smaller fencing tokens.
        """

    def state(self, source: str) -> SourceState:
        """Return the source state; an empty one for a source that has never been synced."""

    def commit(
        self, source: str, condition: Condition, sets: Sets, writes: Sequence[Write] = ()
    ) -> None:
        """Set attributes of the source state (None removes) and do all writes, or do nothing.

        Raises:
            ConditionFailedError: if the condition does not hold; carries the source state.
        """

    def put_all(self, records: Sequence[Record]) -> None:
        """Write records that nothing refers to yet, each on its own."""

    def read(self, key: Key) -> Record | None:
        """Return one record that is not a row, or None."""

    def scan(self, namespace: str, prefix: str = "") -> Iterator[Record]:
        """Yield the records of one namespace whose keys start with a prefix, in order of keys."""

    def at(self, rows_at: str) -> Store:
        """Return this store with rows at another place: layout and prefix."""

    def foreign(self, source: str) -> Iterator[Key]:
        """Yield the rows that another program wrote where this source has written none yet."""
