"""The steps that change the store, each under its condition. See docs/store-layout.md.

The rules are here and nowhere else: which condition guards which step, what a publication
consists of, what is kept and what may expire. Stores only have to be atomic.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flagstore import keys
from flagstore.codec import cut, dumps
from flagstore.keys import Publication, SnapshotRecord, SourceState, Version
from storesync.deadline import now_ms
from storesync.errors import ConditionFailedError, OutOfTimeError, StoreError
from storesync.flag_rows import PerFlagRows
from storesync.garbage import pending_record
from storesync.retention import retained
from storesync.stores.base import Condition, Delete, Put, Write, commits, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flagstore.encode import Encoded
    from storesync.model import Changes, Clock, FlagSet
    from storesync.rows import RowPlan
    from storesync.stores.base import Sets, Store

MAX_NAMES = 200
"""Names that a history record shows of what was added, changed and removed, each."""
NAMES_BYTES = 20_000
"""Bytes of them, each: beside a body of ``keys.INLINE_BYTES`` there is room for three times that
in one item."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to change a source, under one fencing token."""

    token: int
    seen: SourceState
    """The source state as it stood when the fencing token was issued."""

    @property
    def nonce(self) -> str:
        """Tells this attempt from another with the same token, where a store lost the draw."""
        return self.seen.issued_nonce

    @property
    def publication(self) -> Publication:
        """What it publishes, if it publishes something."""
        return Publication(self.token, self.nonce)

    def condition(self, unpinned_at: int | None = None) -> Condition:
        """Return the condition of completing.

        No other check has completed since this fencing token was issued, and the store has not lost
        it: else a check could complete whose fencing token says that it began later than it did.
        """
        return Condition(
            token=self.seen.token,
            check_nonce=self.seen.check_nonce,
            issued=self.token,
            unpinned_at=unpinned_at,
        )

    def sets(self) -> dict[str, int | str | None]:
        """Return what completing sets in the source state."""
        return {"token": self.token, "check_nonce": self.nonce}

    def is_last(self, state: SourceState) -> bool:
        """Return whether this attempt was the last to complete."""
        return (state.token, state.check_nonce) == (self.token, self.nonce)


@dataclass(frozen=True, slots=True)
class Check(Attempt):
    """One fetch under one fencing token: what the condition needs to know of it."""

    started_at: int
    """When the fetch started, in milliseconds since the epoch."""
    etag: str
    """To send with the next fetch; empty where the response had none."""
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
        flag_rows: PerFlagRows | None = None,
    ) -> None:
        self._source = source
        self._flag_rows = flag_rows or PerFlagRows(source)
        self._store = store
        self._clock = clock
        self._replicas = replicas

    # -- completing a check ---------------------------------------------------------------------

    def heartbeat(self, check: Check) -> None:
        """Complete a check that found nothing new: one small write, no flag data.

        Raises:
            ConditionFailedError: if another check completed first.
        """
        self._store.commit(self._source, self._condition(check), self._completed(check))

    def refuse(self, check: Check, digest: str) -> None:
        """Note what the guard refused. Completes nothing: what is published stays as it is."""
        self._note(check, {"refused": digest})

    def suspect(self, check: Check, what: str, since_ms: int) -> None:
        """Note since when a set is suspect, and why. Completes nothing."""
        self._note(check, {"suspect": dumps([what, since_ms])})

    def _note(self, check: Check, sets: Sets) -> None:
        with suppress(ConditionFailedError):  # a later check completed; its word counts
            self._store.commit(self._source, check.condition(), sets)

    def publish(
        self,
        check: Check,
        flag_set: FlagSet,
        encoded: Encoded,
        config_fingerprint: str,
        changed: Changes,
        *,
        allowed: bool = False,
    ) -> None:
        """Publish a flag set: readers see all of it from one moment to the next, or none of it.

        Raises:
            ConditionFailedError: if another check completed first.
        """
        now = now_ms(self._clock)
        token = check.token
        snapshot_record = SnapshotRecord(
            token=token,
            provider=flag_set.provider,
            digest=encoded.digest,
            counts=encoded.counts,
            published_at=now,
            index_data=encoded.index_data,
            index_digest=encoded.index_digest,
            revision=check.revision,
            nonce=check.nonce,
        )
        chunks = {digest: cut(data) for digest, data in encoded.large_segments.items()}
        if encoded.size() <= keys.INLINE_BYTES:
            snapshot_record = snapshot_record._replace(body=encoded.blocks)
        else:
            body = chunks[snapshot_record.index_digest] = cut(encoded.blocks)
            snapshot_record = snapshot_record._replace(chunks=dumps([token, len(body)]))
        self._put_chunks(snapshot_record, chunks)
        sets = self._completed(check) | {"config_fingerprint": config_fingerprint}
        if allowed:
            sets["allowed"] = token
        # There may have been more replicas: none may stay behind.
        others = (
            self._other_replicas() if check.seen.config_fingerprint != config_fingerprint else []
        )
        self._put_snapshot(
            self._condition(check), check.seen, snapshot_record, changed, sets, others
        )

    def restore(
        self, attempt: Attempt, kept: SnapshotRecord, changed: Changes, pinned_until: int
    ) -> None:
        """Publish a kept version once more, under a new fencing token, and pin it (milliseconds).

        A pin that is there already does not hold this back: whoever rolls back further means it.
        The revision stays that of the last check, or what comes after the pin could be taken for
        something older. Without ETag and writer, the check after the pin fetches and publishes.

        Raises:
            ConditionFailedError: if another check completed first.
        """
        snapshot_record = kept._replace(
            token=attempt.token, nonce=attempt.nonce, published_at=now_ms(self._clock)
        )
        sets = {**attempt.sets(), "pinned": pinned_until, "etag": None, "config_fingerprint": None}
        others = self._other_replicas()
        self._put_snapshot(
            attempt.condition(), attempt.seen, snapshot_record, changed, sets, others
        )

    def _put_snapshot(
        self,
        condition: Condition,
        seen: SourceState,
        snapshot_record: SnapshotRecord,
        changed: Changes,
        sets: dict[str, Any],
        writes: list[Write],
    ) -> None:
        """Let source state, snapshot record, its replicas and the history move in one step."""
        token, now = snapshot_record.token, snapshot_record.published_at
        kept, dropped = retained([*seen.versions(), Version(token, now)], now)
        history = snapshot_record.to_record(keys.history_key(self._source, token))
        history["changes"] = _summary(changed)
        snapshot_records: list[Write] = [
            Put(snapshot_record.to_record(keys.snapshot_key(self._source, replica)))
            for replica in range(self._replicas)
        ]
        # Bodies of the history are about as large as this one.
        old: list[Write] = [
            Delete(keys.history_key(self._source, version.token), record_bytes(history))
            for version in dropped
        ]
        together, *later = commits([Put(history), *old])
        left = dropped[len(together) - 1 :]
        sets = sets | {
            "published": token,
            "nonce": snapshot_record.nonce,
            "digest": snapshot_record.digest,
            "history": _listed(kept, left),
        }
        self._store.commit(self._source, condition, sets, [*snapshot_records, *writes, *together])
        self._drop(Condition.while_published(snapshot_record.publication), later, kept, left)

    def _drop(
        self,
        condition: Condition,
        groups: list[list[Write]],
        kept: list[Version],
        left: list[Version],
    ) -> None:
        """Remove from the history what did not fit beside a publication, or leave it to the next.

        The source state lists a version for as long as it is there.
        """
        with suppress(ConditionFailedError, StoreError, OutOfTimeError):
            for group in groups:
                left = left[len(group) :]
                history = {"history": _listed(kept, left)}
                self._store.commit(self._source, condition, history, group)

    def _other_replicas(self) -> list[Write]:
        return [
            Delete(keys.snapshot_key(self._source, replica))
            for replica in range(self._replicas, keys.MAX_REPLICAS)
        ]

    def _condition(self, check: Check) -> Condition:
        return check.condition(unpinned_at=now_ms(self._clock))

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

    def _put_chunks(self, snapshot_record: SnapshotRecord, chunks: dict[str, list[bytes]]) -> None:
        """Write what does not fit the snapshot, by its digest, announced by a pending record."""
        if not chunks:
            return
        groups = {
            keys.chunks_prefix(snapshot_record.token, digest): group
            for digest, group in chunks.items()
        }
        written_at = int(self._clock.now())
        self._store.put_all([pending_record(self._source, snapshot_record, groups, written_at)])
        for prefix, group in groups.items():
            self._store.put_all(
                [
                    {**keys.chunk_key(self._source, prefix, number)._asdict(), "body": data}
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
        """Make the rows show what is published, then note it in the source state.

        With ``changed`` the rows are known to show the set before; without, all rows are read
        and compared. Any step may be cut off: the next check finishes it.

        Raises:
            ConditionFailedError: if something else is published by now; its publisher does the
            rows.
        """
        token, condition = publication.token, Condition.while_published(publication)
        plan = self._flag_rows.plan(flag_set, changed, self._store.scan, token)
        *groups, last = commits(plan.writes, self._flag_rows.commit_kb())
        for group in groups:
            self._store.commit(self._source, condition, {}, group)
        self._store.commit(self._source, condition, {"rows_version": token, **sets}, last)
        count = self._store.count_rows(self._source)
        if count is not None:
            self._store.commit(self._source, condition, {"rows_count": count or None})
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
