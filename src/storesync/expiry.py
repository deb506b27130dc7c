"""Pieces of large bodies and segments: announced before they are written, expired when unused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flagstore import layout
from flagstore.body import dumps, parts_of, read_index
from flagstore.errors import CorruptSnapshotError
from flagstore.layout import Head, Pulse
from storesync.errors import CorruptStoreError
from storesync.stores.base import Delete, Expire, Fence, Put, commits

if TYPE_CHECKING:
    from flagstore.layout import Record
    from storesync.model import Clock
    from storesync.stores.base import Store

PIECE_TTL_S = 86_400
"""How long pieces that nothing names any more stay, for readers that still hold an older head."""
INTENT_TTL_S = 3_600
"""How long an intent outlives its pieces' expiry: longer than any function can run (15 min)."""


def intent(
    source: str, ticket: int, pieces: int, parts: list[int], largest: int, written_at: int
) -> Record:
    """Return the record that announces a ticket's pieces: of its body, and of each large part.

    ``largest`` is the bytes of the largest piece, ``written_at`` in seconds since the epoch.
    """
    return {
        **layout.intent_key(source, ticket)._asdict(),
        "pieces": pieces,
        "parts": dumps(parts),
        "largest": largest,
        "written_at": written_at,
    }


class Expiry:
    """Lets pieces of one source expire."""

    def __init__(self, source: str, store: Store, clock: Clock) -> None:
        self._source = source
        self._store = store
        self._clock = clock

    def expire(self, published: int) -> None:
        """Let pieces expire that neither the head nor the kept history names.

        Only older tickets' pieces, and only while this ticket is what is published: then no
        older ticket can be published any more, and no version be rolled back to but those that
        are kept.

        Raises:
            FenceLostError: if something else is published by now; its publisher expires.
        """
        intents = [
            announced
            for announced in self._store.scan(layout.intents_namespace(self._source))
            if int(str(announced["key"])) < published
        ]
        pulse = self._store.pulse(self._source) if intents else Pulse()
        if pulse.published != published:
            return
        named = self._named_pieces(pulse)
        for announced in intents:
            self._expire_pieces(published, announced, named)

    def _expire_pieces(
        self, published: int, announced: Record, named: set[tuple[int, int | None]]
    ) -> None:
        """Let the parts of one ticket expire that nothing names; forget them when they do."""
        ticket, now = int(str(announced["key"])), int(self._clock.now())
        sizes: list[int] = [
            int(announced["pieces"]),
            *json.loads(str(announced.get("parts", "[]"))),
        ]
        # Number 0 is the body, which is no part; the parts follow, counted from 0.
        used = [(ticket, number - 1 if number else None) in named for number in range(len(sizes))]
        at_s = now + PIECE_TTL_S
        largest = int(announced["largest"])
        expiries = [
            Expire(
                layout.piece_key(self._source, ticket, piece, part - 1 if part else None),
                at_s,
                largest,
            )
            for part, size in enumerate(sizes)
            if not used[part]
            for piece in range(size)
        ]
        fence = Fence(published=published)
        for group in commits(expiries):
            if group:
                self._store.commit(self._source, fence, {}, group)
        left = [size if use else 0 for size, use in zip(sizes, used, strict=True)]
        self._forget(fence, announced, left)

    def _forget(self, fence: Fence, announced: Record, sizes: list[int]) -> None:
        """Note what an intent still announces.

        Where nothing is in use, its writer may be slow and still at it: the intent stays for longer
        than any function can run, and its pieces are let expire again.
        """
        ticket, written_at = int(str(announced["key"])), int(announced["written_at"])
        if any(sizes):
            left = announced | {"pieces": sizes[0], "parts": dumps(sizes[1:])}
            if left != announced:
                self._store.commit(self._source, fence, {}, [Put(left)])
        elif written_at + INTENT_TTL_S < self._clock.now():
            key = layout.intent_key(self._source, ticket)
            self._store.commit(self._source, fence, {}, [Delete(key)])

    def _named_pieces(self, pulse: Pulse) -> set[tuple[int, int | None]]:
        """Return ticket and part of all pieces that the head or the kept history names."""
        keys = [layout.history_key(self._source, version.ticket) for version in pulse.versions()]
        named: set[tuple[int, int | None]] = set()
        try:
            for record in map(self._store.read, [*keys, layout.head_key(self._source)]):
                if record:
                    head = Head.from_record(record)
                    named.add((head.piece_ticket()[0], None))
                    parts = parts_of(read_index(head.index_data, head.index_digest))
                    named |= {(part.ticket, part.number) for part in parts.values()}
        except (CorruptSnapshotError, TypeError, ValueError) as error:
            message = f"which pieces are in use cannot be told: {error}"
            raise CorruptStoreError(message) from error
        return named
