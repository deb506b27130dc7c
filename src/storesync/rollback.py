"""What a person does to a source: roll it back, end the pin, remove it, bring it back.

Each step holds the fence like any check. A rollback and a removal draw a ticket and move
``pulse.ticket``, so a sync that was under way when they came loses, however late it wakes up.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from flagstore import layout
from storesync import rows
from storesync.budget import now_ms
from storesync.errors import (
    CorruptStoreError,
    FenceLostError,
    NotKeptError,
    NotSettledError,
    OutOfTimeError,
    StoreError,
)
from storesync.model import Report
from storesync.projection import Projection
from storesync.publisher import Attempt, Publisher
from storesync.readback import Readback
from storesync.stores.base import Delete, Fence, Write, commits, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.layout import Pulse
    from storesync.model import Changes, Clock, Source
    from storesync.readback import Stored
    from storesync.stores.base import Store

FOREVER_MS = 253_402_300_799_000
"""The end of the year 9999: a pin that does not end by itself."""
ATTEMPTS = 12
"""Tickets that one step may draw while other checks complete."""


def kept_version(source: str, store: Store, pulse: Pulse, ticket: int) -> Stored:
    """Return one version of the history, verified whole.

    Raises:
        NotKeptError: if the history does not hold it.
        CorruptStoreError: if it does not match its digests.
    """
    tickets = [version.ticket for version in pulse.versions()]
    if ticket not in tickets:
        held = ", ".join(map(str, tickets)) or "none"
        message = f"the history of {source!r} does not hold version {ticket}; it holds {held}"
        raise NotKeptError(message)
    readback = Readback(source, store)
    stored = readback.version(ticket)
    readback.verify_large(stored)
    return stored


def roll_back(
    source: Source,
    store: Store,
    clock: Clock,
    *,
    to: int,
    pinned_until: int,
    replicas: int = 1,
) -> Report:
    """Publish an old version under a new ticket, and pin it until then (milliseconds).

    Raises:
        NotKeptError: if the history does not hold it, or the source was removed meanwhile.
        CorruptStoreError: if it does not match its digests.
        NotSettledError: if other checks completed first, every time.
        StoreError: the store failed; what readers see is whole.
    """
    publisher = Publisher(
        source.name, store, clock, replicas=replicas, projection=Projection.of(source)
    )
    for _ in range(ATTEMPTS):
        attempt = Attempt(*store.draw(source.name, int(clock.now())))
        seen = attempt.seen
        if seen.removed:
            message = f"source {source.name!r} was removed meanwhile: add it again before"
            raise NotKeptError(message)
        try:
            kept = kept_version(source.name, store, seen, to)
        except CorruptStoreError:
            # Publications meanwhile may have let it go; then the next attempt says so.
            if to in {version.ticket for version in store.pulse(source.name).versions()}:
                raise
            continue
        changed = _changes(source.name, store, seen, kept)
        try:
            publisher.restore(attempt, kept.head, changed, pinned_until)
        except FenceLostError as lost:
            if not attempt.is_last(lost.pulse):  # not my own step, repeated after a lost answer
                continue
        report = Report(
            source=source.name,
            outcome="rolled back",
            ticket=attempt.ticket,
            digest=kept.head.digest,
            counts={name: len(kept.flag_set.keys(name)) for name in kept.flag_set.sections},
            changes=changed,
            checked_at=seen.checked_at,
        )
        return _with_rows(publisher, attempt, kept, report)
    raise _overtaken(source.name)


def _changes(source: str, store: Store, seen: Pulse, kept: Stored) -> Changes:
    """Compare with what is published; a damaged head tells nothing, and is about to go."""
    current = None
    with suppress(CorruptStoreError):
        current = Readback(source, store).stored(seen.published)
    return rows.changes(current.flag_set if current else None, kept.flag_set)


def _with_rows(publisher: Publisher, attempt: Attempt, kept: Stored, report: Report) -> Report:
    """Let the rows follow. While the pin holds no check does it, so a failure is said."""
    try:
        plan = publisher.project(attempt.publication, kept.flag_set, None, {})
    except FenceLostError:
        return report  # something newer is published; its publisher does the rows
    except (StoreError, OutOfTimeError) as error:
        return replace(report, rows_error=str(error))
    return replace(report, skipped_rows=plan.skipped)


def unpin(source: str, store: Store, clock: Clock) -> bool:
    """End the pin; say whether there was one. Who calls this rings the source.

    While a source is pinned no check completes, so the ticket stands for the pin that was seen.

    Raises:
        FenceLostError: if somebody has rolled back meanwhile: that pin stays.
    """
    pulse = store.pulse(source)
    if pulse.removed or not pulse.pinned:
        return False
    fence = Fence(ticket=pulse.ticket, check_nonce=pulse.check_nonce)
    store.commit(source, fence, {"pinned": None})
    return pulse.is_pinned(now_ms(clock))


def bury(source: str, store: Store, clock: Clock, *, purge: bool = False) -> int:
    """Leave a tombstone: whoever is still at it, or starts from a cache, publishes nothing more.

    Readers keep what they have. Without *purge* the flags stay readable; with it everything goes
    but the pulse, whose counter a source of the same name continues.

    Returns:
        The ticket of the tombstone.

    Raises:
        NotSettledError: if other checks completed first, every time.
        FenceLostError: if the source came back while it was purged; what is left is its own.
    """
    for _ in range(ATTEMPTS):
        attempt = Attempt(*store.draw(source, int(clock.now())))
        sets: dict[str, int | str | None] = {
            **attempt.sets(),
            "pinned": FOREVER_MS,
            "removed": now_ms(clock),
            "etag": None,
            "writer": None,
            "refused": None,
            "error": None,
        }
        writes: list[Write] = []
        if purge:
            gone = ("published", "nonce", "digest", "history", "projected", "revision", "allowed")
            sets |= dict.fromkeys(gone)
            writes = [Delete(layout.head_key(source, n)) for n in range(layout.MAX_REPLICAS)]
        try:
            store.commit(source, attempt.fence(), sets, writes)
        except FenceLostError as lost:
            if not attempt.is_last(lost.pulse):
                continue
        if purge:
            _purge(source, store, Fence(ticket=attempt.ticket, check_nonce=attempt.nonce))
        return attempt.ticket
    raise _overtaken(source)


def _purge(source: str, store: Store, fence: Fence) -> None:
    """Delete history, pieces and rows, as long as the tombstone stands.

    Raises:
        FenceLostError: if the source came back meanwhile.
    """
    namespaces = (
        *layout.row_namespaces(source),
        layout.split_namespace(source),
        layout.document_key(source).namespace,
        layout.history_namespace(source),
        layout.pieces_namespace(source),
        layout.intents_namespace(source),
    )
    for namespace in namespaces:
        for group in commits(_deletes(store, namespace)):
            if group:
                store.commit(source, fence, {}, group)


def _deletes(store: Store, namespace: str) -> Iterator[Delete]:
    for record in list(store.scan(namespace)):
        yield Delete(layout.Key(namespace, str(record["key"])), record_bytes(record))


def revive(source: str, store: Store) -> bool:
    """Take a tombstone away, before a source of that name is configured; say if there was one.

    Under a ticket of its own: a purge that is still at it stops, before it deletes what the source
    that came back writes.

    Raises:
        FenceLostError: if somebody else did something to the source meanwhile.
    """
    pulse = store.pulse(source)
    if not pulse.removed:
        return False
    ticket, _ = store.draw(source, pulse.ticket)
    attempt = Attempt(ticket, pulse)
    store.commit(source, attempt.fence(), {**attempt.sets(), "removed": None, "pinned": None})
    return True


def _overtaken(source: str) -> NotSettledError:
    return NotSettledError(f"other checks of {source!r} completed first, {ATTEMPTS} times")
