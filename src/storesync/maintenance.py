"""Operations on a source: roll back, end the pin, remove, restore.

Each step is conditional, like any check. A rollback and a removal take a fencing token and move
``state.token``, so a sync that was already running fails its condition, however late it
continues.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from flagstore import keys
from flagstore.codec import dumps
from storesync import rows
from storesync.errors import (
    ConditionFailedError,
    CorruptStoreError,
    NotKeptError,
    NotSettledError,
)
from storesync.model import Changes, Report
from storesync.published import PublishedReader
from storesync.publisher import Attempt, Publisher, remove_rows
from storesync.retry import now_ms
from storesync.store import Condition, Delete, commits, record_bytes

if TYPE_CHECKING:
    from flagstore.keys import SourceState
    from storesync.model import Clock, FlagSet, Source
    from storesync.store import Store

FOREVER_MS = 253_402_300_799_000
"""The end of the year 9999: a pin without an end."""
ATTEMPTS = 12
"""Maximum attempts of a step, each with a fencing token, while other checks complete first."""


def kept_version(source: str, store: Store, state: SourceState, token: int) -> FlagSet:
    """Return one version of the history, fully verified.

    Raises:
        NotKeptError: if it is not in the history.
        CorruptStoreError: if it does not match its digests.
    """
    tokens = [version.token for version in state.versions()]
    if token not in tokens:
        held = ", ".join(map(str, tokens)) or "none"
        message = f"the history of {source!r} does not hold version {token}; it holds {held}"
        raise NotKeptError(message)
    published = PublishedReader(source, store)
    flag_set = published.version(token)
    published.verify_large(flag_set)
    return flag_set


def roll_back(
    source: Source, store: Store, clock: Clock, *, to: int, pinned_until: int, replicas: int = 1
) -> Report:
    """Publish an old version with a new fencing token; pin it until *pinned_until* (epoch ms).

    Raises:
        NotKeptError: if it is not in the history, or the source has been removed.
        CorruptStoreError: if it does not match its digests.
        NotSettledError: if other checks completed first at every attempt.
    """
    publisher = Publisher(source, store, clock, replicas=replicas)
    for _ in range(ATTEMPTS):
        attempt = Attempt(*store.next_token(source.name, int(clock.now())))
        seen = attempt.seen
        if seen.removed:
            message = f"source {source.name!r} has been removed: add it again first"
            raise NotKeptError(message)
        try:
            kept = kept_version(source.name, store, seen, to)
        except CorruptStoreError:
            # Other publications may have dropped it; the next attempt then reports that.
            if to in {version.token for version in store.state(source.name).versions()}:
                raise
            continue
        assert kept.record is not None  # noqa: S101 - it was read back
        current = None
        with suppress(CorruptStoreError):  # a damaged snapshot is about to be replaced
            current = PublishedReader(source.name, store).current(seen.published)
        changes = Changes.between(current, kept)
        try:
            publisher.restore(attempt, kept.record, changes, pinned_until)
        except ConditionFailedError as lost:
            if not attempt.is_last(lost.state):  # else this step had succeeded, and was sent again
                continue
        report = Report(
            source=source.name,
            outcome="rolled back",
            token=attempt.token,
            digest=kept.record.digest,
            counts={name: len(kept.keys(name)) for name in kept.sections},
            changes=changes,
            checked_at=seen.checked_at,
        )
        # While the pin lasts no check writes the rows, so a failure is reported.
        publication = keys.Publication(attempt.token, seen.issued_nonce)
        shown = rows.source_as(source, kept.provider) if source.rows else source
        publisher = Publisher(shown, store.at(shown.rows_at), clock)
        return publisher.write_rows(report, publication, kept, None, tidy=False)
    raise _overtaken(source.name)


def unpin(source: str, store: Store, clock: Clock) -> bool:
    """End the pin; return whether there was one. The caller requests a sync of the source.

    Raises:
        ConditionFailedError: if the source was rolled back meanwhile: that pin stays.
    """
    state = store.state(source)
    if state.removed or not state.pinned:
        return False
    # No check completes while a source is pinned, so the fencing token identifies the pin.
    condition = Condition(token=state.token, check_nonce=state.check_nonce)
    store.commit(source, condition, {"pinned": None})
    return state.pinned > now_ms(clock)


def mark_removed(source: Source, store: Store, clock: Clock, *, purge: bool = False) -> int:
    """Leave a tombstone, so that syncs under way or with cached parameters publish nothing more.

    Readers keep the flags in memory. Without *purge*, the flags stay readable, and rows under a
    ``rows_prefix`` are left to the next writer there. With it, everything is deleted except the
    source state, whose counter a new source of the same name continues, and records of usage, which
    are in the table for every store (:func:`storesync.usage_records.delete_records`). Returns the
    fencing token of the tombstone.

    Raises:
        NotSettledError: if other checks completed first at every attempt.
        ConditionFailedError: if the source was restored during the purge; the remaining data
            belongs to it.
    """
    for _ in range(ATTEMPTS):
        attempt = Attempt(*store.next_token(source.name, int(clock.now())))
        sets: dict[str, int | str | None] = {
            **attempt.completed(),
            "pinned": FOREVER_MS,
            "removed": now_ms(clock),
            "etag": None,
            "config_fingerprint": None,
            "refused": None,
            "error": None,
        }
        if purge:
            sets["nonce"] = None  # a sync that is still writing rows fails its condition
        else:
            sets["rows_at"] = _without_prefixes(source, attempt.seen)
        try:
            store.commit(source.name, attempt.condition(), sets)
        except ConditionFailedError as lost:
            if not attempt.is_last(lost.state):
                continue
        if purge:
            condition = Condition(token=attempt.token, check_nonce=attempt.seen.issued_nonce)
            _purge(source, store, condition, attempt.seen)
        return attempt.token
    raise _overtaken(source.name)


def _without_prefixes(source: Source, state: SourceState) -> str | None:
    """Return ``rows_at`` without places that another program may use from now on."""
    own = f" {{{source.name}}}"
    kept = [place for place in json.loads(state.rows_at) if not place or place.endswith(own)]
    return dumps(kept) if kept else None


def _purge(made: Source, store: Store, condition: Condition, state: SourceState) -> None:
    """Delete snapshot, history, chunks and rows, as long as the tombstone exists."""
    source = made.name
    remove_rows(made, store, condition, ["", *json.loads(state.rows_at)])
    gone = "published nonce digest deltas history rows_version rows_at revision allowed"
    snapshots = [Delete(keys.snapshot_key(source, n)) for n in range(keys.MAX_REPLICAS)]
    store.commit(source, condition, dict.fromkeys(gone.split()), snapshots)
    namespaces = (
        keys.document_key(source).namespace,
        keys.history_key(source, 0).namespace,
        *keys.chunks_namespaces(source),
        keys.pending_namespace(source),
    )
    for namespace in namespaces:
        deletes = [
            Delete(keys.Key(namespace, str(record["key"])), record_bytes(record))
            for record in store.scan(namespace)
        ]
        for group in commits(deletes):
            if group:
                store.commit(source, condition, {}, group)


def restore_source(source: str, store: Store) -> bool:
    """Remove a tombstone before a source of that name is configured; return whether one existed.

    The fencing token that this takes stops a purge that is still running.

    Raises:
        ConditionFailedError: if the source was changed meanwhile.
    """
    state = store.state(source)
    if not state.removed:
        return False
    attempt = Attempt(*store.next_token(source, state.token))
    if attempt.seen.removed:  # else it was restored elsewhere, and perhaps pinned since
        sets = {**attempt.completed(), "removed": None, "pinned": None}
        store.commit(source, attempt.condition(), sets)
    return True


def _overtaken(source: str) -> NotSettledError:
    return NotSettledError(f"other checks of {source!r} completed first, {ATTEMPTS} times")
