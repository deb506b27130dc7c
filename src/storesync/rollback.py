"""What a person does to a source: roll it back, end the pin, remove it, bring it back.

Each step holds the condition like any check. A rollback and a removal take a fencing token and move
``state.token``, so a sync that was under way when they came loses, however late it wakes up.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from flagstore import keys
from storesync import rows
from storesync.deadline import now_ms
from storesync.errors import (
    ConditionFailedError,
    CorruptStoreError,
    NotKeptError,
    NotSettledError,
    OutOfTimeError,
    StoreError,
)
from storesync.flag_rows import PerFlagRows
from storesync.model import Report
from storesync.published_reader import PublishedReader
from storesync.publisher import Attempt, Publisher
from storesync.stores.base import Condition, Delete, Write, commits, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.keys import SourceState
    from storesync.model import Changes, Clock, Source
    from storesync.published_reader import Stored
    from storesync.stores.base import Store

FOREVER_MS = 253_402_300_799_000
"""The end of the year 9999: a pin that does not end by itself."""
ATTEMPTS = 12
"""Fencing tokens that one step may draw while other checks complete."""


def kept_version(source: str, store: Store, state: SourceState, token: int) -> Stored:
    """Return one version of the history, verified whole.

    Raises:
        NotKeptError: if the history does not hold it.
        CorruptStoreError: if it does not match its digests.
    """
    tokens = [version.token for version in state.versions()]
    if token not in tokens:
        held = ", ".join(map(str, tokens)) or "none"
        message = f"the history of {source!r} does not hold version {token}; it holds {held}"
        raise NotKeptError(message)
    published_reader = PublishedReader(source, store)
    stored = published_reader.version(token)
    published_reader.verify_large(stored)
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
    """Publish an old version under a new fencing token, and pin it until then (milliseconds).

    Raises:
        NotKeptError: if the history does not hold it, or the source was removed meanwhile.
        CorruptStoreError: if it does not match its digests.
        NotSettledError: if other checks completed first, every time.
        StoreError: the store failed; what readers see is whole.
    """
    publisher = Publisher(
        source.name, store, clock, replicas=replicas, flag_rows=PerFlagRows.of(source)
    )
    for _ in range(ATTEMPTS):
        attempt = Attempt(*store.next_token(source.name, int(clock.now())))
        seen = attempt.seen
        if seen.removed:
            message = f"source {source.name!r} was removed meanwhile: add it again before"
            raise NotKeptError(message)
        try:
            kept = kept_version(source.name, store, seen, to)
        except CorruptStoreError:
            # Publications meanwhile may have let it go; then the next attempt says so.
            if to in {version.token for version in store.state(source.name).versions()}:
                raise
            continue
        changed = _changes(source.name, store, seen, kept)
        try:
            publisher.restore(attempt, kept.snapshot_record, changed, pinned_until)
        except ConditionFailedError as lost:
            if not attempt.is_last(lost.state):  # not my own step, repeated after a lost response
                continue
        report = Report(
            source=source.name,
            outcome="rolled back",
            token=attempt.token,
            digest=kept.snapshot_record.digest,
            counts={name: len(kept.flag_set.keys(name)) for name in kept.flag_set.sections},
            changes=changed,
            checked_at=seen.checked_at,
        )
        return _with_rows(publisher, attempt, kept, report)
    raise _overtaken(source.name)


def _changes(source: str, store: Store, seen: SourceState, kept: Stored) -> Changes:
    """Compare with what is published; a damaged snapshot tells nothing, and is about to go."""
    current = None
    with suppress(CorruptStoreError):
        current = PublishedReader(source, store).stored(seen.published)
    return rows.changes(current.flag_set if current else None, kept.flag_set)


def _with_rows(publisher: Publisher, attempt: Attempt, kept: Stored, report: Report) -> Report:
    """Let the rows follow. While the pin holds no check does it, so a failure is said."""
    try:
        plan = publisher.project(attempt.publication, kept.flag_set, None, {})
    except ConditionFailedError:
        return report  # something newer is published; its publisher does the rows
    except (StoreError, OutOfTimeError) as error:
        return replace(report, rows_error=str(error))
    return replace(report, skipped_rows=plan.skipped)


def unpin(source: str, store: Store, clock: Clock) -> bool:
    """End the pin; say whether there was one. The caller requests a sync of the source.

    While a source is pinned no check completes, so the fencing token stands for the pin that was
    seen.

    Raises:
        ConditionFailedError: if somebody has rolled back meanwhile: that pin stays.
    """
    state = store.state(source)
    if state.removed or not state.pinned:
        return False
    condition = Condition(token=state.token, check_nonce=state.check_nonce)
    store.commit(source, condition, {"pinned": None})
    return state.is_pinned(now_ms(clock))


def mark_removed(source: str, store: Store, clock: Clock, *, purge: bool = False) -> int:
    """Leave a tombstone: whoever is still at it, or starts from a cache, publishes nothing more.

    Readers keep what they have. Without *purge* the flags stay readable; with it everything goes
    but the source state, whose counter a source of the same name continues.

    Returns:
        The fencing token of the tombstone.

    Raises:
        NotSettledError: if other checks completed first, every time.
        ConditionFailedError: if the source came back while it was purged; what is left is its own.
    """
    for _ in range(ATTEMPTS):
        attempt = Attempt(*store.next_token(source, int(clock.now())))
        sets: dict[str, int | str | None] = {
            **attempt.sets(),
            "pinned": FOREVER_MS,
            "removed": now_ms(clock),
            "etag": None,
            "config_fingerprint": None,
            "refused": None,
            "error": None,
        }
        writes: list[Write] = []
        if purge:
            gone = (
                "published",
                "nonce",
                "digest",
                "history",
                "rows_version",
                "revision",
                "allowed",
            )
            sets |= dict.fromkeys(gone)
            writes = [Delete(keys.snapshot_key(source, n)) for n in range(keys.MAX_REPLICAS)]
        try:
            store.commit(source, attempt.condition(), sets, writes)
        except ConditionFailedError as lost:
            if not attempt.is_last(lost.state):
                continue
        if purge:
            _purge(source, store, Condition(token=attempt.token, check_nonce=attempt.nonce))
        return attempt.token
    raise _overtaken(source)


def _purge(source: str, store: Store, condition: Condition) -> None:
    """Delete history, chunks and rows, as long as the tombstone stands.

    Raises:
        ConditionFailedError: if the source came back meanwhile.
    """
    namespaces = (
        *keys.row_namespaces(source),
        keys.split_namespace(source),
        keys.document_key(source).namespace,
        keys.history_namespace(source),
        keys.chunks_namespace(source),
        keys.pending_namespace(source),
    )
    for namespace in namespaces:
        for group in commits(_deletes(store, namespace)):
            if group:
                store.commit(source, condition, {}, group)


def _deletes(store: Store, namespace: str) -> Iterator[Delete]:
    for record in list(store.scan(namespace)):
        yield Delete(keys.Key(namespace, str(record["key"])), record_bytes(record))


def restore_source(source: str, store: Store) -> bool:
    """Take a tombstone away, before a source of that name is configured; say if there was one.

    Under a fencing token of its own: a purge that is still at it stops, before it deletes what the
    source that came back writes.

    Raises:
        ConditionFailedError: if somebody else did something to the source meanwhile.
    """
    state = store.state(source)
    if not state.removed:
        return False
    token, _ = store.next_token(source, state.token)
    attempt = Attempt(token, state)
    store.commit(source, attempt.condition(), {**attempt.sets(), "removed": None, "pinned": None})
    return True


def _overtaken(source: str) -> NotSettledError:
    return NotSettledError(f"other checks of {source!r} completed first, {ATTEMPTS} times")
