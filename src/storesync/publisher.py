"""The steps that change the store, each with its condition. See docs/store-layout.md."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flagstore import keys
from flagstore.codec import LargeSegment, dumps, read_index
from flagstore.encode import cut, extend_deltas
from flagstore.errors import CorruptSnapshotError
from flagstore.keys import Publication, SnapshotRecord, SourceState, Version
from storesync import rows
from storesync.errors import ConditionFailedError, CorruptStoreError, OutOfTimeError, StoreError
from storesync.published import PublishedReader, day_ago
from storesync.retry import now_ms
from storesync.store import COMMIT_KB, Condition, Delete, Expire, Put, Write, commits, record_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flagstore.encode import Encoded
    from flagstore.keys import Record
    from storesync.model import Changes, Clock, FlagSet, Report, Source
    from storesync.store import Sets, Store

KEPT_VERSIONS = 10
"""Versions that the history keeps in addition to those of the last day."""
THIN_MS = 6 * 3_600_000
"""Of the last day's versions, one per six hours is kept for the guard."""
MAX_NAMES = 200
"""Maximum number of names per kind of change (added, changed, removed) in a history record."""
NAMES_BYTES = 20_000
"""Their maximum size per kind: an item has room for three times that and a body of
``keys.INLINE_BYTES``."""
CHUNK_TTL_S = 86_400
"""How long unreferenced chunks stay, for readers that still hold an older snapshot."""
PENDING_TTL_S = 3_600
"""How long a pending record outlives its chunks' expiry: longer than any function can run."""
REDIS_KB = 1_000
"""KB of rows per commit in Redis, which blocks other clients: for about 0.1 s with segments."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to change a source, with one fencing token."""

    token: int
    seen: SourceState
    """The source state when the fencing token was issued."""

    def condition(self, unpinned_at: int | None = None) -> Condition:
        """Return the condition for completing this attempt.

        No other check has completed since its fencing token was issued, and the store has not lost
        that token: if it had, a later check could get a smaller one.
        """
        return Condition(
            token=self.seen.token,
            check_nonce=self.seen.check_nonce,
            issued=self.token,
            unpinned_at=unpinned_at,
        )

    def completed(self) -> dict[str, Any]:
        """Return the attributes of the source state that completing this attempt sets."""
        return {"token": self.token, "check_nonce": self.seen.issued_nonce}

    def is_last(self, state: SourceState) -> bool:
        """Return whether this attempt was the last to complete."""
        return (state.token, state.check_nonce) == (self.token, self.seen.issued_nonce)


@dataclass(frozen=True, slots=True)
class Check(Attempt):
    """One fetch with one fencing token."""

    started_at: int
    """When the fetch started, in milliseconds since the epoch."""
    etag: str
    """ETag for the next fetch; empty if the response had none."""
    revision: int
    """The provider's revision of the fetched set; 0 if it has none."""
    verify: bool = False
    """Whether this check verifies snapshot record and rows."""
    progress: str = ""
    """Of a gradual deployment, as in the source state; empty for none."""
    next_check: int = 0
    """When the next check of that deployment is due, in milliseconds since the epoch."""

    def completed(self) -> dict[str, Any]:
        """Return the attributes that completing this check sets."""
        return {
            "token": self.token,
            "check_nonce": self.seen.issued_nonce,
            "checked_at": self.started_at,
            "etag": self.etag or None,
            "revision": self.revision or None,
            "deployment": self.progress or None,
            "next_check": self.next_check or None,
            "refused": None,
            "suspect": None,
            "error": None,
        }


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes one source's flag sets to one store."""

    source: Source
    store: Store
    clock: Clock
    replicas: int = field(default=1, kw_only=True)
    """Number of copies of the snapshot record; for chunks, see :func:`flagstore.encode.cut`."""

    # -- completing a check ---------------------------------------------------------------------

    def heartbeat(self, check: Check) -> None:
        """Complete a check that found nothing new: one small write, no flag data.

        Raises:
            ConditionFailedError: if another check completed first.
        """
        condition = check.condition(unpinned_at=now_ms(self.clock))
        self.store.commit(self.source.name, condition, check.completed())

    def note(self, check: Check, sets: Sets) -> None:
        """Record why a set is refused or suspect. This does not complete the check."""
        with suppress(ConditionFailedError):  # a later check completed
            self.store.commit(self.source.name, check.condition(), sets)

    def publish(
        self,
        check: Check,
        flag_set: FlagSet,
        encoded: Encoded,
        config_fingerprint: str,
        changed: Changes,
        *,
        allowed: bool = False,
    ) -> bool:
        """Publish a flag set atomically; return whether chunks were written.

        Raises:
            ConditionFailedError: if another check completed first.
        """
        token = check.token
        snapshot = SnapshotRecord(
            token=token,
            provider=flag_set.provider,
            digest=encoded.digest,
            counts=encoded.counts,
            published_at=now_ms(self.clock),
            index_data=encoded.index_data,
            index_digest=encoded.index_digest,
            revision=check.revision,
            nonce=check.seen.issued_nonce,
        )
        chunks = dict(encoded.large_segments)
        if len(encoded.index_data) + len(encoded.blocks) <= keys.INLINE_BYTES:
            snapshot = snapshot._replace(body=encoded.blocks)
        else:
            body = chunks[snapshot.index_digest] = cut(encoded.blocks, self.replicas)
            snapshot = snapshot._replace(chunks=dumps([token, len(body)]))
        if chunks:
            self._put_chunks(snapshot, chunks)
        sets = check.completed() | {"config_fingerprint": config_fingerprint, "deltas": None}
        # Deltas do not say where a large segment is stored.
        stays = not encoded.large_segments
        if stays and (old := changed.since) and old.provider == flag_set.provider:
            places = (*changed.added, *changed.changed, *changed.removed)
            sets["deltas"] = extend_deltas(
                check.seen, snapshot, old.sections, flag_set.sections, places
            )
        if allowed:
            sets["allowed"] = token
        # An earlier configuration may have had more replicas: remove the surplus.
        others = check.seen.config_fingerprint != config_fingerprint
        condition = check.condition(unpinned_at=now_ms(self.clock))
        self._put_snapshot(condition, check.seen, snapshot, changed, sets, clear=others)
        return bool(chunks)

    def restore(
        self, attempt: Attempt, kept: SnapshotRecord, changed: Changes, pinned_until: int
    ) -> None:
        """Publish a kept version with a new fencing token; pin it until *pinned_until* (epoch ms).

        The revision stays that of the last check, or an older set could pass as newer after the
        pin. Without ETag and fingerprint, the first check after the pin fetches and publishes.

        Raises:
            ConditionFailedError: if another check completed first.
        """
        snapshot = kept._replace(
            token=attempt.token, nonce=attempt.seen.issued_nonce, published_at=now_ms(self.clock)
        )
        sets = {
            **attempt.completed(),
            "pinned": pinned_until,
            "etag": None,
            "config_fingerprint": None,
            "deltas": None,
            "deployment": None,
            "next_check": None,
        }
        self._put_snapshot(attempt.condition(), attempt.seen, snapshot, changed, sets, clear=True)

    def _put_snapshot(
        self,
        condition: Condition,
        seen: SourceState,
        snapshot: SnapshotRecord,
        changed: Changes,
        sets: dict[str, Any],
        *,
        clear: bool,
    ) -> None:
        """Write source state, snapshot record, its replicas and the history in one step.

        *clear* also removes replicas beyond the configured number.
        """
        token, now = snapshot.token, snapshot.published_at
        versions = [*seen.versions(), Version(token, now)]
        kept, dropped = retained(versions, now, seen.rows_version)
        history = snapshot.to_record(keys.history_key(self.source.name, token))
        history["changes"] = _summary(changed)
        replicas = [keys.snapshot_key(self.source.name, n) for n in range(keys.MAX_REPLICAS)]
        writes: list[Write] = [
            Put(snapshot.to_record(replica)) for replica in replicas[: self.replicas]
        ]
        if clear:
            writes += map(Delete, replicas[self.replicas :])
        # Bodies in the history are about as large as this one.
        size = record_bytes(history)
        old: list[Write] = [
            Delete(keys.history_key(self.source.name, version.token), size) for version in dropped
        ]
        together, *later = commits([Put(history), *old])
        left = dropped[len(together) - 1 :]
        sets = sets | {
            "published": token,
            "nonce": snapshot.nonce,
            "digest": snapshot.digest,
            "history": dumps(sorted([*kept, *left])),
        }
        self.store.commit(self.source.name, condition, sets, [*writes, *together])
        # Deletions that did not fit into that commit follow now, or with the next publication: the
        # source state lists a version as long as it exists.
        with suppress(ConditionFailedError, StoreError, OutOfTimeError):
            for group in later:
                left = left[len(group) :]
                listed = {"history": dumps(sorted([*kept, *left]))}
                while_published = Condition(published=token, nonce=snapshot.nonce)
                self.store.commit(self.source.name, while_published, listed, group)

    def _put_chunks(self, snapshot: SnapshotRecord, chunks: Mapping[str, Sequence[bytes]]) -> None:
        """Write the chunks that do not fit into the snapshot, announced by a pending record."""
        groups = {keys.chunks_prefix(snapshot.token, digest): chunks[digest] for digest in chunks}
        written_at = int(self.clock.now())
        self.store.put_all([pending_record(self.source.name, snapshot, groups, written_at)])
        for prefix, group in groups.items():
            self.store.put_all(
                [
                    {**keys.chunk_key(self.source.name, prefix, number)._asdict(), "body": data}
                    for number, data in enumerate(group)
                ]
            )

    # -- rows -----------------------------------------------------------------------------------

    def write_rows(
        self,
        report: Report,
        published: Publication,
        flag_set: FlagSet,
        changed: Changes | None,
        *,
        verified: bool = False,
        tidy: bool = True,
    ) -> Report:
        """Make the rows show the published set, record that in the source state, and report it.

        With ``changed``, the rows are known to show the previous set; without, all rows are read
        and compared. ``verified`` records that snapshot record and rows were verified. ``tidy``
        also expires unused chunks. The next check completes whatever fails or is interrupted here.
        """
        condition = Condition(published=published.token, nonce=published.nonce)
        limit_kb = REDIS_KB if self.source.store == "redis" else COMMIT_KB
        sets: dict[str, Any] = {"rows_version": published.token}
        if verified:
            sets["verified_at"] = now_ms(self.clock)
        try:
            adopted, left = self._claim_place(condition) if changed is None else ((), ())
            plan = rows.plan(self.source, flag_set, changed, self.store, published.token, adopted)
            *groups, last = commits(plan.writes, limit_kb)
            for group in groups:
                self.store.commit(self.source.name, condition, {}, group)
            if left:
                if last:
                    self.store.commit(self.source.name, condition, {}, last)
                last = []
                sets["rows_at"] = remove_rows(self.source, self.store, condition, left)
            self.store.commit(self.source.name, condition, sets, last)
            report = replace(report, skipped_rows=plan.skipped)
            if tidy:
                self.expire_chunks(published)
        except ConditionFailedError:
            return report  # a newer set is published; its publisher does the rest
        except (StoreError, OutOfTimeError) as error:
            return replace(report, rows_error=str(error))
        return report

    def _claim_place(self, condition: Condition) -> tuple[Sequence[keys.Key], Sequence[str]]:
        """Return the rows to adopt, and the places whose rows go once the new ones are complete.

        The source state lists a place before any row is written there, so that no row is forgotten.

        Raises:
            StoreError: if another program's rows are there, and the source does not adopt them.
        """
        source, listed = self.source, json.loads(self.store.state(self.source.name).rows_at)
        if not source.rows:  # rows that are turned off stay, unless they are another provider's
            return (), [at for at in listed if at and not at.startswith(f"{source.provider} ")]
        place, listed, adopted = source.rows_at, listed or [""], []
        if listed != [place]:
            found = self.store.foreign(source.name) if source.rows_prefix is not None else iter(())
            if source.adopt:
                adopted = list(found)
            elif place not in listed and (other := next(found, None)):
                raise _foreign_rows(source, other)
            # Until the rows are complete, another place beside it marks that they are not.
            listed = [*(at for at in listed if at != place), place]
            self.store.commit(source.name, condition, {"rows_at": dumps(listed)})
        return adopted, [at for at in listed if at != place]

    # -- garbage collection ---------------------------------------------------------------------

    def expire_chunks(self, published: Publication) -> None:
        """Expire chunks that neither the snapshot record nor the kept history names.

        Only chunks of older fencing tokens expire, and only while this set is the published one:
        no older fencing token can be published then, and a rollback only finds kept versions.

        Raises:
            ConditionFailedError: if another set has been published meanwhile.
        """
        pending = [
            record
            for record in self.store.scan(keys.pending_namespace(self.source.name))
            if int(str(record["key"]).partition("/")[0]) < published.token
        ]
        state = self.store.state(self.source.name) if pending else SourceState()
        if state.publication != published:
            return
        named = self._named_chunks(state)
        condition = Condition(published=published.token, nonce=published.nonce)
        for record in pending:
            self._expire(condition, record, named)

    def _expire(self, condition: Condition, pending: Record, named: set[str]) -> None:
        """Expire announced chunks that nothing refers to, and remove their pending record."""
        chunks: dict[str, int] = json.loads(str(pending["chunks"]))
        at_s = int(self.clock.now()) + CHUNK_TTL_S
        largest = int(pending["largest"])
        expiries = [
            Expire(keys.chunk_key(self.source.name, prefix, chunk), at_s, largest)
            for prefix, number in chunks.items()
            if prefix not in named
            for chunk in range(number)
        ]
        for group in commits(expiries):
            if group:
                self.store.commit(self.source.name, condition, {}, group)
        used = {prefix: number for prefix, number in chunks.items() if prefix in named}
        if used:
            left = pending | {"chunks": dumps(used)}
            if left != pending:
                self.store.commit(self.source.name, condition, {}, [Put(left)])
        # The writer may still be running: its pending record stays for longer than any function can
        # run, and its chunks are expired again.
        elif int(pending["written_at"]) + PENDING_TTL_S < self.clock.now():
            key = keys.key_of(pending)
            self.store.commit(self.source.name, condition, {}, [Delete(key)])

    def _named_chunks(self, state: SourceState) -> set[str]:
        """Return the prefixes of all chunks that the snapshot record or the kept history names."""
        listed = [keys.history_key(self.source.name, version.token) for version in state.versions()]
        named: set[str] = set()
        try:
            for record in map(self.store.read, [*listed, keys.snapshot_key(self.source.name)]):
                if record:
                    snapshot = SnapshotRecord.from_record(record)
                    named.add(snapshot.stored_chunks()[0])
                    index = read_index(snapshot.index_data, snapshot.index_digest)
                    large = index.get("large", {}).values()
                    named |= {LargeSegment(*entry).prefix() for entry in large}
        except (CorruptSnapshotError, TypeError, ValueError) as error:
            message = f"cannot determine which chunks are in use: {error}"
            raise CorruptStoreError(message) from error
        return named


def remove_rows(
    source: Source, store: Store, condition: Condition, places: Sequence[str]
) -> str | None:
    """Remove the rows that flagstore wrote at these places; return what is left of ``rows_at``.

    A place that another source has now is only forgotten.
    """
    name, state = source.name, store.state(source.name)
    is_taken = source.other_at or (lambda _source, _place: "")
    own = [place for place in places if not is_taken(source, place)]
    shown: set[tuple[str, str]] = set()
    if any(place.startswith("launchdarkly ") for place in own):
        shown = _shown(state, PublishedReader(name, store))
    for place in own:
        at = store.at(place)
        for group in commits(rows.plan_removal(name, place, at, shown)):
            if group:
                at.commit(name, condition, {}, group)
    left = [place for place in json.loads(state.rows_at) if place not in places]
    return dumps(left) if left else None


def _shown(state: SourceState, published: PublishedReader) -> set[tuple[str, str]]:
    """Return section and key of all rows that LaunchDarkly's layout may show.

    Those of every kept version: rows may have been turned off, or written in part.
    """
    shown: set[tuple[str, str]] = set()
    for version in state.versions():
        with suppress(CorruptStoreError):
            flag_set = published.version(version.token)
            if flag_set.provider == "launchdarkly":
                shown |= {
                    (section, key)
                    for section in ("flags", "segments")
                    for key in flag_set.keys(section)
                }
    return shown


def _foreign_rows(source: Source, row: keys.Key) -> StoreError:
    return StoreError(
        f"rows of another program, or of a removed source, are stored with rows_prefix "
        f'"{source.rows_prefix}", such as {row.key!r}: stop that program and set "adopt": true to '
        "replace them, or choose another prefix"
    )


def retained(
    versions: list[Version], now_ms: int, rows_version: int = 0
) -> tuple[list[Version], list[Version]]:
    """Split versions (oldest first) into those to keep and those to drop.

    Keep the last ``KEPT_VERSIONS``, the last of each six hours of the last day, the one that was
    current a day ago, which the guard compares with, and the one that the rows show.
    """
    old = day_ago(versions, now_ms)
    thinned = {v.published_at // THIN_MS: v for v in versions if old is None or v >= old}
    kept = {*versions[-KEPT_VERSIONS:], *thinned.values()} | ({old} if old else set())
    kept |= {version for version in versions if version.token == rows_version}
    return sorted(kept), sorted(set(versions) - kept)


def pending_record(
    source: str, snapshot: SnapshotRecord, chunks: Mapping[str, Sequence[bytes]], written_at: int
) -> Record:
    """Return the record that announces the chunks of a set, by the prefix of their keys."""
    return {
        **keys.pending_key(source, snapshot.token, snapshot.index_digest)._asdict(),
        "chunks": dumps({prefix: len(group) for prefix, group in chunks.items()}),
        "largest": max(len(chunk) for group in chunks.values() for chunk in group),
        "written_at": written_at,
    }


def _summary(changed: Changes) -> str:
    """Return the changes for a history record: counts, and as many names as fit."""
    shown: dict[str, list[str]] = {}
    lists = changed.lists()
    for word, names in lists.items():
        shown[word], room = [], NAMES_BYTES
        for name in names[:MAX_NAMES]:
            room -= len(dumps(name)) + 1
            if room < 0:
                break
            shown[word].append(name)
    return dumps({"counts": {word: len(names) for word, names in lists.items()}, **shown})
