"""The steps that change the store, each under its fence. See docs/store-layout.md.

The rules are here and nowhere else: which condition guards which step, what a publication
consists of, what is kept and what may expire. Stores only have to be atomic.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flagstore import layout
from flagstore.body import cut, dumps
from flagstore.layout import Head, Publication, Pulse, Version
from storesync.budget import now_ms
from storesync.errors import FenceLostError, OutOfTimeError, StoreError
from storesync.expiry import intent
from storesync.projection import Projection
from storesync.retention import retained
from storesync.stores.base import Delete, Fence, Put, Write, commits, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flagstore.encoding import Encoded
    from storesync.model import Changes, Clock, FlagSet
    from storesync.rows import RowPlan
    from storesync.stores.base import Store

MAX_NAMES = 200
"""Names that a history record shows of what was added, changed and removed, each."""
NAMES_BYTES = 20_000
"""Bytes of them, each: beside a body of ``layout.INLINE_BYTES`` there is room for three times that
in one item."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to change a source, under one ticket."""

    ticket: int
    seen: Pulse
    """The pulse as it stood when the ticket was drawn."""

    @property
    def nonce(self) -> str:
        """Tells this attempt from another with the same ticket, where a store lost the draw."""
        return self.seen.drawn_nonce

    @property
    def publication(self) -> Publication:
        """What it publishes, if it publishes something."""
        return Publication(self.ticket, self.nonce)

    def fence(self, unpinned_at: int | None = None) -> Fence:
        """Return the condition of completing.

        No other check has completed since this ticket was drawn, and the store has not lost it:
        else a check could complete whose ticket says that it began later than it did.
        """
        return Fence(
            ticket=self.seen.ticket,
            check_nonce=self.seen.check_nonce,
            drawn=self.ticket,
            unpinned_at=unpinned_at,
        )

    def sets(self) -> dict[str, int | str | None]:
        """Return what completing sets in the pulse."""
        return {"ticket": self.ticket, "check_nonce": self.nonce}

    def is_last(self, pulse: Pulse) -> bool:
        """Return whether this attempt was the last to complete."""
        return (pulse.ticket, pulse.check_nonce) == (self.ticket, self.nonce)


@dataclass(frozen=True, slots=True)
class Check(Attempt):
    """One fetch under one ticket: what the fence needs to know of it."""

    started_at: int
    """When the fetch started, in milliseconds since the epoch."""
    etag: str
    """To send with the next fetch; empty where the answer had none."""
    revision: int
    """The provider's, of what this check found; 0 where it has none."""


class Publisher:
    """Publishes one source's flag sets into one store."""

    def __init__(
        self,
        source: str,
        store: Store,
        clock: Clock,
        *,
        replicas: int = 1,
        projection: Projection | None = None,
    ) -> None:
        self._source = source
        self._projection = projection or Projection(source)
        self._store = store
        self._clock = clock
        self._replicas = replicas

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
            self._store.commit(self._source, check.fence(), {"refused": digest})
        except FenceLostError:
            return  # a later check completed; its word counts

    def suspect(self, check: Check, what: str, since_ms: int) -> None:
        """Note since when a set is suspect, and why. Completes nothing."""
        try:
            note = dumps([what, since_ms])
            self._store.commit(self._source, check.fence(), {"suspect": note})
        except FenceLostError:
            return  # a later check completed; its word counts

    def publish(
        self,
        check: Check,
        flag_set: FlagSet,
        encoded: Encoded,
        writer: str,
        changed: Changes,
        *,
        allowed: bool = False,
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
            nonce=check.nonce,
        )
        pieces = {digest: cut(data) for digest, data in encoded.parts.items()}
        if encoded.size() <= layout.INLINE_BYTES:
            head = head._replace(body=encoded.blocks)
        else:
            body = pieces[head.index_digest] = cut(encoded.blocks)
            head = head._replace(pieces=dumps([ticket, len(body)]))
        self._put_pieces(head, pieces)
        sets = self._completed(check) | {"writer": writer}
        if allowed:
            sets["allowed"] = ticket
        # There may have been more replicas: none may stay behind.
        others = self._other_replicas() if check.seen.writer != writer else []
        self._put_head(self._fence(check), check.seen, head, changed, sets, others)

    def restore(self, attempt: Attempt, kept: Head, changed: Changes, pinned_until: int) -> None:
        """Publish a kept version once more, under a new ticket, and pin it (milliseconds).

        A pin that is there already does not hold this back: whoever rolls back further means it.
        The revision stays that of the last check, or what comes after the pin could be taken for
        something older. Without ETag and writer, the check after the pin fetches and publishes.

        Raises:
            FenceLostError: if another check completed first.
        """
        head = kept._replace(
            ticket=attempt.ticket, nonce=attempt.nonce, published_at=now_ms(self._clock)
        )
        sets = {**attempt.sets(), "pinned": pinned_until, "etag": None, "writer": None}
        others = self._other_replicas()
        self._put_head(attempt.fence(), attempt.seen, head, changed, sets, others)

    def _put_head(
        self,
        fence: Fence,
        seen: Pulse,
        head: Head,
        changed: Changes,
        sets: dict[str, Any],
        writes: list[Write],
    ) -> None:
        """Let pulse, head, its replicas and the history move in one step."""
        ticket, now = head.ticket, head.published_at
        kept, dropped = retained([*seen.versions(), Version(ticket, now)], now)
        history = head.to_record(layout.history_key(self._source, ticket))
        history["changes"] = _summary(changed)
        heads: list[Write] = [
            Put(head.to_record(layout.head_key(self._source, replica)))
            for replica in range(self._replicas)
        ]
        # Bodies of the history are about as large as this one.
        old: list[Write] = [
            Delete(layout.history_key(self._source, version.ticket), record_bytes(history))
            for version in dropped
        ]
        together, *later = commits([Put(history), *old])
        left = dropped[len(together) - 1 :]
        sets = sets | {
            "published": ticket,
            "nonce": head.nonce,
            "digest": head.digest,
            "history": _listed(kept, left),
        }
        self._store.commit(self._source, fence, sets, [*heads, *writes, *together])
        self._drop(Fence.while_published(head.publication), later, kept, left)

    def _drop(
        self, fence: Fence, groups: list[list[Write]], kept: list[Version], left: list[Version]
    ) -> None:
        """Remove from the history what did not fit beside a publication, or leave it to the next.

        The pulse lists a version for as long as it is there.
        """
        with suppress(FenceLostError, StoreError, OutOfTimeError):
            for group in groups:
                left = left[len(group) :]
                history = {"history": _listed(kept, left)}
                self._store.commit(self._source, fence, history, group)

    def _other_replicas(self) -> list[Write]:
        return [
            Delete(layout.head_key(self._source, replica))
            for replica in range(self._replicas, layout.MAX_REPLICAS)
        ]

    def _fence(self, check: Check) -> Fence:
        return check.fence(unpinned_at=now_ms(self._clock))

    def _completed(self, check: Check) -> dict[str, Any]:
        return {
            **check.sets(),
            "checked_at": check.started_at,
            "etag": check.etag or None,
            "revision": check.revision or None,
            "refused": None,
            "suspect": None,
            "error": None,
        }

    def _put_pieces(self, head: Head, pieces: dict[str, list[bytes]]) -> None:
        """Write what does not fit the head, by its digest, announced by an intent."""
        if not pieces:
            return
        groups = {
            layout.pieces_prefix(head.ticket, digest): group for digest, group in pieces.items()
        }
        written_at = int(self._clock.now())
        self._store.put_all([intent(self._source, head, groups, written_at)])
        for prefix, group in groups.items():
            self._store.put_all(
                [
                    {**layout.piece_key(self._source, prefix, number)._asdict(), "body": data}
                    for number, data in enumerate(group)
                ]
            )

    # -- rows -----------------------------------------------------------------------------------

    def project(
        self,
        publication: Publication,
        flag_set: FlagSet,
        changed: Changes | None,
        sets: dict[str, Any],
    ) -> RowPlan:
        """Make the rows show what is published, then note it in the pulse.

        With ``changed`` the rows are known to show the set before; without, all rows are read
        and compared. Any step may be cut off: the next check finishes it.

        Raises:
            FenceLostError: if something else is published by now; its publisher does the rows.
        """
        ticket, fence = publication.ticket, Fence.while_published(publication)
        plan = self._projection.plan(flag_set, changed, self._store.scan, ticket)
        *groups, last = commits(plan.writes, self._projection.commit_kb())
        for group in groups:
            self._store.commit(self._source, fence, {}, group)
        self._store.commit(self._source, fence, {"projected": ticket, **sets}, last)
        count = self._store.count_rows(self._source)
        if count is not None:
            self._store.commit(self._source, fence, {"rows_count": count or None})
        return plan


def _listed(kept: list[Version], left: list[Version]) -> str:
    return dumps(sorted([*kept, *left]))


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
