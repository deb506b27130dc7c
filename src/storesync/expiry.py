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
    from collections.abc import Mapping, Sequence

    from flagstore.layout import Publication, Record
    from storesync.model import Clock
    from storesync.stores.base import Store

PIECE_TTL_S = 86_400
"""How long pieces that nothing names any more stay, for readers that still hold an older head."""
INTENT_TTL_S = 3_600
"""How long an intent outlives its pieces' expiry: longer than any function can run (15 min)."""


def intent(
    source: str, head: Head, pieces: Mapping[str, Sequence[bytes]], written_at: int
) -> Record:
    """Return the record that announces the pieces of a set, by the prefix of their keys.

    ``written_at`` in seconds since the epoch.
    """
    return {
        **layout.intent_key(source, head.ticket, head.index_digest)._asdict(),
        "pieces": dumps({prefix: len(group) for prefix, group in pieces.items()}),
        "largest": max(len(piece) for group in pieces.values() for piece in group),
        "written_at": written_at,
    }


class Expiry:
    """Lets pieces of one source expire."""

    def __init__(self, source: str, store: Store, clock: Clock) -> None:
        self._source = source
        self._store = store
        self._clock = clock

    def expire(self, published: Publication) -> None:
        """Let pieces expire that neither the head nor the kept history names.

        Only older tickets' pieces, and only while this is what is published: then no
        older ticket can be published any more, and no version be rolled back to but those that
        are kept.

        Raises:
            FenceLostError: if something else is published by now; its publisher expires.
        """
        intents = [
            announced
            for announced in self._store.scan(layout.intents_namespace(self._source))
            if _ticket(announced) < published.ticket
        ]
        pulse = self._store.pulse(self._source) if intents else Pulse()
        if pulse.publication != published:
            return
        named = self._named_pieces(pulse)
        for announced in intents:
            self._expire_pieces(Fence.while_published(published), announced, named)

    def _expire_pieces(self, fence: Fence, announced: Record, named: set[str]) -> None:
        """Let announced pieces expire that nothing names; forget them when they do."""
        pieces: dict[str, int] = json.loads(str(announced["pieces"]))
        at_s = int(self._clock.now()) + PIECE_TTL_S
        largest = int(announced["largest"])
        expiries = [
            Expire(layout.piece_key(self._source, prefix, piece), at_s, largest)
            for prefix, number in pieces.items()
            if prefix not in named
            for piece in range(number)
        ]
        for group in commits(expiries):
            if group:
                self._store.commit(self._source, fence, {}, group)
        used = {prefix: number for prefix, number in pieces.items() if prefix in named}
        self._forget(fence, announced, used)

    def _forget(self, fence: Fence, announced: Record, used: dict[str, int]) -> None:
        """Note what an intent still announces.

        Where nothing is in use, its writer may be slow and still at it: the intent stays for longer
        than any function can run, and its pieces are let expire again.
        """
        if used:
            left = announced | {"pieces": dumps(used)}
            if left != announced:
                self._store.commit(self._source, fence, {}, [Put(left)])
        elif int(announced["written_at"]) + INTENT_TTL_S < self._clock.now():
            key = layout.Key(str(announced["namespace"]), str(announced["key"]))
            self._store.commit(self._source, fence, {}, [Delete(key)])

    def _named_pieces(self, pulse: Pulse) -> set[str]:
        """Return the prefixes of all pieces that the head or the kept history names."""
        keys = [layout.history_key(self._source, version.ticket) for version in pulse.versions()]
        named: set[str] = set()
        try:
            for record in map(self._store.read, [*keys, layout.head_key(self._source)]):
                if record:
                    head = Head.from_record(record)
                    named.add(head.stored_pieces()[0])
                    parts = parts_of(read_index(head.index_data, head.index_digest))
                    named |= {part.prefix() for part in parts.values()}
        except (CorruptSnapshotError, TypeError, ValueError) as error:
            message = f"which pieces are in use cannot be told: {error}"
            raise CorruptStoreError(message) from error
        return named


def _ticket(announced: Record) -> int:
    return int(str(announced["key"]).partition("/")[0])
