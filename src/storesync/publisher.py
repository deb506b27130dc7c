"""The steps that change the store, each under its fence. See docs/store-layout.md.

The rules are here and nowhere else: which condition guards which step, what a publication
consists of, what is kept and what may expire. Stores only have to be atomic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flagstore import layout
from flagstore.body import Body, cut, dumps
from flagstore.errors import CorruptSnapshotError
from flagstore.layout import Head, Key, Pulse, Version
from storesync import rows
from storesync.budget import now_ms
from storesync.errors import CorruptStoreError, FenceLostError
from storesync.model import Changes, FlagSet
from storesync.retention import retained
from storesync.stores.base import Delete, Expire, Fence, Put, Write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flagstore.body import Encoded
    from flagstore.layout import Record
    from storesync.model import Clock
    from storesync.stores.base import Store

PIECE_TTL_S = 86_400
"""How long pieces that nothing names any more stay, for readers that still hold an older head."""
INTENT_TTL_S = 3_600
"""How long an intent outlives its pieces' expiry: longer than any function can run (15 min)."""
PIECES_A_COMMIT = 8
"""DynamoDB counts whole items against the 4 MB of a transaction, also where it only sets a TTL."""
MAX_NAMES = 200
"""Names that a history record shows of what was added, changed and removed, each."""
NAMES_BYTES = 20_000
"""Bytes of them, each: beside a body of ``layout.INLINE_BYTES`` there is room for three times that
in one item."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A flag set as read back from the store, verified by its digests."""

    head: Head
    flag_set: FlagSet


@dataclass(frozen=True, slots=True)
class Check:
    """One fetch under one ticket: what the fence needs to know of it."""

    ticket: int
    seen: Pulse
    """The pulse as it stood when the ticket was drawn."""
    started_at: int
    """When the fetch started, in milliseconds since the epoch."""
    etag: str
    revision: int


class Publisher:
    """Publishes one source's flag sets into one store."""

    def __init__(self, source: str, store: Store, clock: Clock, *, replicas: int = 1) -> None:
        self._source = source
        self._store = store
        self._clock = clock
        self._replicas = replicas

    # -- reading back ---------------------------------------------------------------------------

    def stored(self, ticket: int) -> Stored | None:
        """Return what is published, if it is (still) the publication of this ticket.

        Raises:
            CorruptStoreError: if it is missing or does not match its digests.
        """
        record = self._store.read(layout.head_key(self._source))
        found = record.get("ticket") if record else None
        if isinstance(found, int) and found > ticket:
            return None  # published anew since the pulse was read: the fence will say so
        stored = self._load(record, f"the head of ticket {ticket}")
        if stored.head.ticket != ticket:
            message = f"the head of ticket {ticket} is that of ticket {stored.head.ticket}"
            raise CorruptStoreError(message)
        return stored

    def version(self, ticket: int) -> Stored:
        """Return one kept publication.

        Raises:
            CorruptStoreError: if it is missing or does not match its digests.
        """
        record = self._store.read(layout.history_key(self._source, ticket))
        return self._load(record, f"history {ticket}")

    def _load(self, record: Record | None, what: str) -> Stored:
        if record is None:
            message = f"{what} is missing"
            raise CorruptStoreError(message)
        try:
            head = Head.from_record(record)
            body = Body(head.index_data, head.index_digest, self._data(head))
        except (CorruptSnapshotError, TypeError, ValueError) as error:  # or someone else's record
            message = f"{what} is corrupt: {error}"
            raise CorruptStoreError(message) from error
        sections = {name: body.items(name) for name in body.sections()}
        return Stored(head, FlagSet(head.provider, sections, body.meta, head.revision))

    def _data(self, head: Head) -> bytes:
        ticket, number = head.piece_ticket()
        if not number:
            return head.body
        prefix = layout.pieces_prefix(ticket)
        pieces = list(self._store.scan(layout.pieces_namespace(self._source), prefix))
        # A piece that was expired after it was gone leaves a stub without a body.
        return b"".join(bytes(piece.get("body", b"")) for piece in pieces[:number])  # type: ignore[arg-type] # bytes

    # -- completing a check ---------------------------------------------------------------------

    def heartbeat(self, check: Check) -> None:
        """Complete a check that found nothing new: one small write, no flag data.

        Raises:
            FenceLostError: if another check completed first.
        """
        self._store.commit(self._source, self._fence(check), self._completed(check))

    def refuse(self, check: Check, digest: str) -> None:
        """Note what the guard refused. Completes nothing: what is published stays as it is."""
        try:
            self._store.commit(self._source, Fence(ticket=check.seen.ticket), {"refused": digest})
        except FenceLostError:
            return  # a later check completed; its word counts

    def publish(
        self, check: Check, flag_set: FlagSet, encoded: Encoded, writer: str, changed: Changes
    ) -> None:
        """Publish a flag set: readers see all of it from one moment to the next, or none of it.

        Raises:
            FenceLostError: if another check completed first.
        """
        now = now_ms(self._clock)
        ticket = check.ticket
        head = Head(
            ticket=ticket,
            provider=flag_set.provider,
            digest=encoded.digest,
            counts=encoded.counts,
            published_at=now,
            index_data=encoded.index_data,
            index_digest=encoded.index_digest,
            revision=check.revision,
        )
        if encoded.size() <= layout.INLINE_BYTES:
            head = head._replace(body=encoded.blocks)
        else:
            head = head._replace(pieces=dumps([ticket, self._put_pieces(ticket, encoded.blocks)]))
        kept, dropped = retained([*check.seen.versions(), Version(ticket, now)], now)
        history = head.to_record(layout.history_key(self._source, ticket))
        history["changes"] = _summary(changed)
        writes: list[Write] = [
            Put(head.to_record(layout.head_key(self._source, replica)))
            for replica in range(self._replicas)
        ]
        if check.seen.writer != writer:  # there may have been more replicas: none may stay behind
            writes += [
                Delete(layout.head_key(self._source, replica))
                for replica in range(self._replicas, layout.MAX_REPLICAS)
            ]
        writes.append(Put(history))
        writes += [Delete(layout.history_key(self._source, old.ticket)) for old in dropped]
        sets = self._completed(check) | {
            "published": ticket,
            "digest": encoded.digest,
            "writer": writer,
            "history": dumps(kept),
        }
        self._store.commit(self._source, self._fence(check), sets, writes)

    def _fence(self, check: Check) -> Fence:
        return Fence(ticket=check.seen.ticket, unpinned_at=now_ms(self._clock))

    def _completed(self, check: Check) -> dict[str, Any]:
        return {
            "ticket": check.ticket,
            "checked_at": check.started_at,
            "etag": check.etag or None,
            "revision": check.revision or None,
            "refused": None,
        }

    def _put_pieces(self, ticket: int, blocks: bytes) -> int:
        """Write the pieces of a large body, announced by an intent; return their number."""
        pieces = cut(blocks)
        intent = layout.intent_key(self._source, ticket)
        written_at = int(self._clock.now())
        self._store.put_all([{**intent._asdict(), "pieces": len(pieces), "written_at": written_at}])
        self._store.put_all(
            [
                {**layout.piece_key(self._source, ticket, number)._asdict(), "body": piece}
                for number, piece in enumerate(pieces)
            ]
        )
        return len(pieces)

    # -- rows -----------------------------------------------------------------------------------

    def project(
        self, ticket: int, flag_set: FlagSet, changed: Changes | None, sets: dict[str, Any]
    ) -> rows.RowPlan:
        """Make the rows show what is published under this ticket, then note it in the pulse.

        With ``changed`` the rows are known to show the set before; without, all rows are read
        and compared. Any step may be cut off: the next check finishes it.

        Raises:
            FenceLostError: if something else is published by now; its publisher does the rows.
        """
        if changed is not None:
            plan = rows.plan_changes(self._source, flag_set, changed, ticket)
        else:
            plan = rows.plan_whole(self._source, flag_set, self._rows(), ticket)
        *groups, last = rows.commits(plan.writes)
        for group in groups:
            self._store.commit(self._source, Fence(published=ticket), {}, group)
        self.note_projected(ticket, sets, last)
        return plan

    def note_projected(
        self, ticket: int, sets: dict[str, Any], writes: Sequence[Write] = ()
    ) -> None:
        """Note in the pulse that the rows show this ticket, together with the last writes.

        Raises:
            FenceLostError: if something else is published by now.
        """
        fence = Fence(published=ticket)
        self._store.commit(self._source, fence, {"projected": ticket, **sets}, writes)

    def _rows(self) -> dict[Key, Record]:
        return {
            Key(namespace, str(record["key"])): record
            for namespace in layout.row_namespaces(self._source)
            for record in self._store.scan(namespace)
        }

    # -- expiring pieces ------------------------------------------------------------------------

    def expire(self, published: int) -> None:
        """Let pieces expire that neither the head nor the kept history names.

        Only older tickets' pieces, and only while this ticket is what is published: then no
        older ticket can be published any more, and no version be rolled back to but those that
        are kept.

        Raises:
            FenceLostError: if something else is published by now; its publisher expires.
        """
        intents = [
            intent
            for intent in self._store.scan(layout.intents_namespace(self._source))
            if int(str(intent["key"])) < published
        ]
        pulse = self._store.pulse(self._source) if intents else Pulse()
        if pulse.published != published:
            return
        named = self._named_pieces(pulse)
        for intent in intents:
            if int(str(intent["key"])) not in named:
                self._expire_pieces(published, intent)

    def _expire_pieces(self, published: int, intent: Record) -> None:
        ticket, number = int(str(intent["key"])), int(intent["pieces"])
        now = int(self._clock.now())
        fence = Fence(published=published)
        expiries = [
            Expire(layout.piece_key(self._source, ticket, piece), now + PIECE_TTL_S)
            for piece in range(number)
        ]
        for at in range(0, number, PIECES_A_COMMIT):
            self._store.commit(self._source, fence, {}, expiries[at : at + PIECES_A_COMMIT])
        if int(intent["written_at"]) + INTENT_TTL_S < now:
            key = layout.intent_key(self._source, ticket)
            self._store.commit(self._source, fence, {}, [Delete(key)])

    def _named_pieces(self, pulse: Pulse) -> set[int]:
        keys = [layout.history_key(self._source, version.ticket) for version in pulse.versions()]
        records = map(self._store.read, [*keys, layout.head_key(self._source)])
        try:
            return {Head.from_record(record).piece_ticket()[0] for record in records if record}
        except (CorruptSnapshotError, TypeError, ValueError) as error:
            message = f"which pieces are in use cannot be told: {error}"
            raise CorruptStoreError(message) from error


def _summary(changed: Changes) -> str:
    lists = {
        "added": changed.added,
        "changed": changed.changed,
        "removed": changed.removed,
    }
    shown = {name: list(_first(names)) for name, names in lists.items()}
    counts = {name: len(names) for name, names in lists.items()}
    return dumps({"counts": counts, **shown})


def _first(names: Sequence[str]) -> Iterator[str]:
    """Yield the first names, as many as a history record has room for."""
    room = NAMES_BYTES
    for name in names[:MAX_NAMES]:
        room -= len(dumps(name)) + 1
        if room < 0:
            return
        yield name
