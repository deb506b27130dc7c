"""One pipeline for every sync request: token, fetch, judge, complete, update the rows.

The order of the calls is the whole point. A fencing token is issued before the fetch, and
completing compares the last completed token with the one that was seen when it was issued, so
completed fetches never overlap: nothing older can be published over something newer, and an
unchanged check holds the same condition. docs/store-layout.md has the argument; the tests run every
interleaving of it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from flagstore import keys
from flagstore.codec import dumps
from flagstore.encode import canonical, content_digest, encode
from flagstore.keys import LAYOUT, SourceState
from storesync import guard, rows
from storesync.deadline import now_ms
from storesync.errors import (
    ConditionFailedError,
    CorruptStoreError,
    MalformedResponseError,
    NotSettledError,
    OutOfTimeError,
    ProviderError,
    RefusedSetError,
    StoreError,
    SuspectSetError,
)
from storesync.flag_rows import PerFlagRows
from storesync.garbage import GarbageCollector
from storesync.model import Changes, FlagSet, Report
from storesync.published_reader import PublishedReader, Stored
from storesync.publisher import Check, Publisher
from storesync.retry_policy import Limits, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flagstore.keys import Publication
    from storesync.deadline import Deadline
    from storesync.http import HttpClient
    from storesync.model import FetchResult, Source, SyncRequest
    from storesync.providers.base import Provider
    from storesync.published_reader import StoredSet
    from storesync.stores.base import Store

MARGIN_MS = 2_000
"""A request counts as older than a check only by more than clocks of two machines may differ."""
SPACING_MS = 1_000
"""In a burst, checks of one source start at least so far apart; a lone sync request never waits."""
HOLD_MS = 180_000
"""How long a suspect set has to hold before it is believed: caches lag for seconds."""
SHOWN_CHARS = 300
VERIFY_MS = 3_600_000
"""How often a check goes without ETag and verifies snapshot record and rows."""


class _Again(Exception):  # noqa: N818 - not an error: the loop's own signal
    """Take another fencing token and fetch again."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fetched flag set that differs from what is published."""

    flag_set: FlagSet
    digest: str
    older: bool
    """Whether it is an earlier state of the provider than what is published."""


@dataclass(frozen=True, slots=True)
class Following:
    """What has to follow a completed check."""

    changed: Changes | None
    """What changed, where the rows are known to show the set before; None: compare them all."""
    tidy: bool
    """Chunks may have to expire."""
    verified: bool
    """Snapshot record and rows have been verified whole when this is done."""


class Sync:
    """One sync of one source, for one batch of sync requests."""

    def __init__(  # noqa: PLR0913 - the edges, handed in: keyword-only
        self,
        source: Source,
        provider: Provider,
        store: Store,
        *,
        http: HttpClient,
        deadline: Deadline,
        limits: Limits | None = None,
        replicas: int = 1,
        allow_shrink: str = "",
        verify: bool = False,
    ) -> None:
        self._source = source
        self._provider = provider
        self._store = store
        self._http = http
        self._deadline = deadline
        self._clock = deadline.clock
        self._limits = limits or Limits()
        self._retry_policy = RetryPolicy(deadline, self._limits)
        self._allow_shrink = allow_shrink
        self._verify = verify
        flag_rows = PerFlagRows.of(source)
        self._publisher = Publisher(
            source.name, store, deadline.clock, replicas=replicas, flag_rows=flag_rows
        )
        self._published_reader = PublishedReader(source.name, store)
        self._garbage = GarbageCollector(source.name, store, deadline.clock)
        self._config_fingerprint = fingerprint(source, replicas)
        self._required: tuple[str, ...] = ()
        self._unmet: tuple[str, ...] = ()
        self._scheduled = False
        self._fetches = 0

    def run(self, requests: Sequence[SyncRequest]) -> Report:
        """Serve all these requests with one completed check, or with an earlier one.

        Raises:
            ProviderError: no usable response; what is published stays.
            RefusedSetError: the guard refused the set; what is published stays.
            StoreError: the store failed; what readers see is whole.
            OutOfTimeError: the deadline ended.
            NotSettledError: other checks completed first, every time.
        """
        self._required = tuple(
            sorted({required for request in requests for required in request.required})
        )
        self._scheduled = any(request.trigger == "schedule" for request in requests)
        if all(request.trigger in {"webhook", "followup"} for request in requests):
            served = self._served(requests)
            if served is not None:
                return self._report("coalesced", served)
        for _ in range(self._limits.tokens):
            try:
                return self._attempt()
            except _Again:
                continue
        message = f"{self._limits.tokens} checks of {self._source.name!r} were overtaken or stale"
        raise NotSettledError(message)

    # -- coalescing -----------------------------------------------------------------------------

    def _served(self, requests: Sequence[SyncRequest]) -> SourceState | None:
        """Return the state if a completed check has served all requests; wait in bursts.

        This only ever skips work; it orders nothing.
        """
        state = self._store.state(self._source.name)
        # Below zero: the clock of the machine that checked last is ahead of this one's.
        since = abs(now_ms(self._clock) - state.checked_at)
        if not self._serves(state, requests) and since < SPACING_MS:
            self._deadline.wait((SPACING_MS - since) / 1000, "spacing checks in a burst")
            state = self._store.state(self._source.name)
        return state if self._serves(state, requests) else None

    def _serves(self, state: SourceState, requests: Sequence[SyncRequest]) -> bool:
        newest = max(request.sent_at for request in requests)
        if state.checked_at > now_ms(self._clock) + MARGIN_MS:
            return False  # by a clock that was ahead: it says nothing about what came before what
        return newest + MARGIN_MS < state.checked_at and self._satisfied(state)

    def _satisfied(self, state: SourceState, new: FlagSet | None = None) -> bool:
        """Say whether a new set, or else what is published, has reached all required revisions."""
        revision = new.revision if new else state.revision

        @cache  # what is published is read at most once, and only by a provider that asks
        def current() -> FlagSet | None:
            return new or self._set_of(state)

        def item(section: str, key: str) -> Any:  # noqa: ANN401 - provider JSON
            flag_set = current()
            return flag_set.item(section, key) if flag_set else None

        return all(
            self._provider.satisfied(required, revision, item) for required in self._required
        )

    def _set_of(self, state: SourceState) -> FlagSet | None:
        stored, _ = self._stored(state)
        return stored.flag_set if stored else None

    # -- one fencing token -------------------------------------------------------------------------

    def _attempt(self) -> Report:
        token, seen = self._store.next_token(self._source.name, int(self._clock.now()))
        if seen.is_pinned(now_ms(self._clock)):
            return self._report("pinned", seen)
        # Either way: a clock that was ahead must not put it off until then.
        since = abs(now_ms(self._clock) - seen.verified_at)
        verify = self._verify or since >= VERIFY_MS
        stored, damaged = self._verified(seen) if verify else (None, False)
        started_at = now_ms(self._clock)
        fresh = verify or damaged or seen.config_fingerprint != self._config_fingerprint
        response = self._fetch("" if fresh else seen.etag)
        check = Check(
            token=token,
            seen=seen,
            started_at=started_at,
            etag=response.etag or ("" if response.flag_set else seen.etag),
            revision=response.flag_set.revision if response.flag_set else seen.revision,
        )
        try:
            return self._judge(check, response, stored, damaged=damaged, verify=verify)
        except ConditionFailedError as lost:
            return self._overtaken(check, lost.state)

    def _fetch(self, etag: str) -> FetchResult:
        self._retry_policy.require(self._limits.publish_s)
        left = self._deadline.remaining() - self._limits.publish_s
        self._fetches += 1
        try:
            http = self._http.within(min(self._limits.fetch_s, max(left, 0.1)))
            return self._provider.fetch(self._source, http, etag, unmet=self._unmet)
        except ProviderError as error:
            self._retry_policy.backoff(error)
            raise _Again from error

    def _stored(self, seen: SourceState) -> tuple[Stored | None, bool]:
        """Return what is published, and whether it is damaged and must be published anew.

        Where the snapshot record is damaged, what is published is read from the history: a damaged
        snapshot record must not open the way for an empty set.
        """
        if not seen.published:
            return None, False
        with suppress(CorruptStoreError):
            stored = self._published_reader.stored(seen.published)
            if stored is None or _belongs(stored, seen):
                return stored, False
        with suppress(CorruptStoreError):
            kept = self._published_reader.version(seen.published)
            if _belongs(kept, seen):
                return kept, True
        return None, True

    def _verified(self, seen: SourceState) -> tuple[Stored | None, bool]:
        """Return the same, with all large segments read as well."""
        stored, damaged = self._stored(seen)
        try:
            if stored:
                self._published_reader.verify_large(stored)
        except CorruptStoreError:
            return stored, True
        return stored, damaged

    def _judge(
        self,
        check: Check,
        response: FetchResult,
        stored: Stored | None,
        *,
        damaged: bool,
        verify: bool,
    ) -> Report:
        seen, new = check.seen, response.flag_set
        behind = not self._satisfied(seen, new)
        if behind and self._retry_policy.wait_for_propagation():
            self._unmet = self._required
            raise _Again
        if new is None:
            return self._unchanged(check, None, verify=verify, behind=behind)
        try:
            digest = content_digest(new.sections, new.meta)
        except (ValueError, RecursionError) as error:
            message = f"{self._provider.title} responded with what JSON cannot say: {error}"
            raise MalformedResponseError(message) from error
        if (
            digest == seen.digest
            and seen.config_fingerprint == self._config_fingerprint
            and not damaged
        ):
            return self._unchanged(check, new, verify=verify, behind=behind)
        if stored is None and not damaged:
            stored, damaged = self._stored(seen)
        older = stored is not None and self._goes_back(stored.flag_set, seen, new)
        if older and digest != self._allow_shrink and self._retry_policy.asks_again():
            raise _Again
        candidate = Candidate(new, digest, older)
        report = self._publish(check, candidate, stored, damaged=damaged, verify=verify)
        return replace(report, behind=behind)

    def _goes_back(self, old: StoredSet, seen: SourceState, new: FlagSet) -> bool:
        if old.provider != new.provider:
            return False  # their revisions have nothing in common
        # Later checks may have found the same content at a later revision than the snapshot
        # record's.
        latest = replace(old.with_large(new), revision=max(old.revision, seen.revision))
        return self._provider.is_older(latest, new)

    # -- completing -----------------------------------------------------------------------------

    def _unchanged(
        self, check: Check, new: FlagSet | None, *, verify: bool, behind: bool
    ) -> Report:
        if check.revision:  # the same content from an instance that lags undoes no later check
            check = replace(check, revision=max(check.revision, check.seen.revision))
        self._publisher.heartbeat(check)
        rows_behind = not self._rows_follow(check.seen)
        report = self._report("unchanged", check.seen, check=check, behind=behind)
        if not (verify or rows_behind):
            return report
        flag_set = new or self._set_of(check.seen)
        if flag_set is None:
            return report  # published anew meanwhile; its publisher does the rows
        follow = Following(None, tidy=True, verified=verify)
        return self._follow(report, flag_set, check.seen.publication, follow)

    def _publish(
        self,
        check: Check,
        candidate: Candidate,
        stored: Stored | None,
        *,
        damaged: bool,
        verify: bool,
    ) -> Report:
        seen, new, digest = check.seen, candidate.flag_set, candidate.digest
        changed = rows.changes(stored.flag_set if stored else None, new)
        try:
            self._guard(check, candidate, stored, changed)
        except SuspectSetError:
            raise
        except RefusedSetError:
            self._publisher.refuse(check, digest)
            raise
        # Of what is damaged nothing is carried over.
        large_segments = stored.flag_set.large if stored and not damaged else {}
        encoded = encode(
            new.sections, new.meta, token=check.token, known=large_segments, digest=digest
        )
        allowed = digest == self._allow_shrink
        self._publisher.publish(
            check, new, encoded, self._config_fingerprint, changed, allowed=allowed
        )
        report = replace(
            self._report("published", seen, check=check),
            digest=digest,
            changes=changed,
            counts={section: len(items) for section, items in new.sections.items()},
        )
        known = (
            stored
            and not (damaged or verify)
            and self._rows_follow(seen)
            and seen.config_fingerprint == self._config_fingerprint
        )
        in_chunks = encoded.size() > keys.INLINE_BYTES or bool(
            encoded.large_segments or (stored and stored.in_chunks())
        )
        follow = Following(
            changed if known else None, tidy=in_chunks or not known, verified=not known
        )
        return self._follow(report, new, check.publication, follow)

    def _guard(
        self, check: Check, candidate: Candidate, stored: Stored | None, changed: Changes
    ) -> None:
        """Judge a set by itself and beside what is published.

        Raises:
            MalformedResponseError: the provider's SDK would not take it.
            RefusedSetError: it has lost too much, or is not believed yet.
        """
        new, digest = candidate.flag_set, candidate.digest
        old = stored.flag_set if stored and digest != self._allow_shrink else None
        guard.check_items(new, old, changed, self._provider, digest=digest)
        if stored is None or old is None:
            return
        # Where nothing was lost now, an earlier set is not worth reading.
        lost = changed.removed or changed.changed
        olds: list[tuple[str, FlagSet]] = [("now", stored.flag_set)]
        if lost:
            olds = self._published_reader.baselines(check.seen, stored, now_ms(self._clock))
        guard.check(new, olds, digest=digest, members=self._provider.members)
        missing = guard.dangling(new, old, changed, self._provider)
        if candidate.older:
            self._hold(check, digest, "it is older than what is published")
        elif missing:
            self._hold(check, digest, f"it needs what it lacks: {', '.join(sorted(missing))}")

    def _hold(self, check: Check, digest: str, what: str) -> None:
        """Return once a suspect set has held for minutes and over a scheduled check.

        Raises:
            SuspectSetError: before that.
        """
        now, mark = now_ms(self._clock), sha256(dumps(what).encode()).hexdigest()[:16]
        known, since = json.loads(check.seen.suspect or '["", 0]')
        if known != mark:
            since = now
            self._publisher.suspect(check, mark, now)
        if self._scheduled and now - since >= HOLD_MS:
            return
        message = (
            f"{self._provider.title} responded with a suspect set: {what[:SHOWN_CHARS]}. It is "
            f"believed if it is still there after {HOLD_MS // 60_000} minutes, at a scheduled "
            f'check; to publish it now, send {{"source": …, "allow_shrink": "{digest}"}}'
        )
        raise SuspectSetError(message, digest=digest)

    def _follow(
        self, report: Report, new: FlagSet, published: Publication, follow: Following
    ) -> Report:
        """Let the rows follow, and chunks expire. What fails here, the next check finishes."""
        sets = {"verified_at": now_ms(self._clock)} if follow.verified else {}
        try:
            plan = self._publisher.project(published, new, follow.changed, sets)
            report = replace(report, skipped_rows=plan.skipped)
            if follow.tidy:
                self._garbage.expire(published)
        except ConditionFailedError:
            return report  # something newer is published; its publisher does the rest
        except (StoreError, OutOfTimeError) as error:
            return replace(report, rows_error=str(error))
        return report

    def _rows_follow(self, seen: SourceState) -> bool:
        """Return whether the rows show what is published, and the store has evicted none."""
        if seen.rows_version != seen.published or not seen.rows_count:
            return seen.rows_version == seen.published
        return self._store.count_rows(self._source.name) == seen.rows_count

    def _overtaken(self, check: Check, state: SourceState) -> Report:
        """Judge a condition that did not hold."""
        if check.is_last(state):  # it was my own step, repeated after a lost response
            published = state.nonce == check.nonce
            return self._report("published" if published else "unchanged", state, check=check)
        if state.is_pinned(now_ms(self._clock)):
            return self._report("pinned", state)
        # A rollback and a tombstone leave no fingerprint: their later token stands for no fetch.
        if state.token > check.token and state.config_fingerprint and self._satisfied(state):
            return self._report("superseded", state)
        # The check that won has an earlier token: it may not have seen the change behind this one.
        self._deadline.back_off(0, base_s=0.05, cap_s=0.05, purpose="taking another token")
        raise _Again

    def _report(
        self, outcome: str, state: SourceState, *, check: Check | None = None, behind: bool = False
    ) -> Report:
        return Report(
            source=self._source.name,
            outcome=outcome,
            token=check.token if check else state.token,
            digest=state.digest,
            fetches=self._fetches,
            checked_at=check.started_at if check else state.checked_at,
            behind=behind,
        )


def _belongs(stored: Stored, seen: SourceState) -> bool:
    return (stored.snapshot_record.digest, stored.snapshot_record.nonce) == (
        seen.digest,
        seen.nonce,
    )


def fingerprint(source: Source, replicas: int = 1) -> str:
    """Return the digest of everything beside the provider's content that shapes what is stored.

    When it differs from the source state's, no ETag is sent and the set counts as changed.
    """
    shaping: list[Any] = [
        LAYOUT,
        source.provider,
        source.base_url,
        dict(source.options),
        source.rows,
        replicas,
    ]
    shaping += [source.native_rows] if source.native_rows else []
    shaping += ["document"] if source.document else []
    return sha256(canonical(shaping).encode()).hexdigest()[:16]
