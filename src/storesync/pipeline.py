"""One pipeline for every sync request: token, fetch, judge, complete, update the rows.

A fencing token is issued before the fetch, and completing a check, unchanged or not, requires that
no other check has completed since. So completed fetches never overlap, and nothing older can be
published over something newer. docs/store-layout.md has the proof.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from flagstore.codec import LARGE_SECTION, dumps
from flagstore.encode import content_digest, encode
from flagstore.keys import Publication, SourceState
from storesync import guard
from storesync.errors import (
    ConditionFailedError,
    CorruptStoreError,
    MalformedResponseError,
    NotSettledError,
    ProviderError,
    RefusedSetError,
    SuspectSetError,
)
from storesync.model import Changes, Report
from storesync.published import Current, PublishedReader
from storesync.publisher import Check, Publisher
from storesync.retry import Limits, RetryPolicy, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flagstore.rollout import Progress
    from storesync.http import HttpClient
    from storesync.model import FlagSet, Source, SyncRequest
    from storesync.providers.base import Provider
    from storesync.retry import Deadline
    from storesync.store import Store

MARGIN_MS = 2_000
"""A request counts as older than a check only if it is older by more than clock skew."""
SPACING_MS = 1_000
"""Minimum time between starts of a source's checks in a burst. A lone sync request never waits."""
HOLD_MS = 180_000
"""How long a suspect set has to persist before it is published: caches lag for seconds."""
SHOWN_CHARS = 300
DEPLOYMENT_CHECK_MS = 60_000
"""Time between the checks of a gradual deployment."""
QUEUED_SLACK_MS = 5_000
"""A check that is due so soon is this one: clocks differ."""
VERIFY_MS = 3_600_000
"""How often a check sends no ETag, and verifies snapshot record and rows."""


class _Again(Exception):  # noqa: N818 - not an error
    """Signals the loop to take another fencing token and fetch again."""


class Sync:
    """One sync of one source, for one batch of sync requests."""

    def __init__(  # noqa: PLR0913 - dependencies, keyword-only
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
        queue_check: Callable[[str, int], bool] | None = None,
    ) -> None:
        self._source = source
        self._provider = provider
        self._store = store
        self._http = http
        self._deadline = deadline
        self._clock = deadline.clock
        self._limits = limits or Limits()
        self._retry = RetryPolicy(deadline, self._limits)
        self._allow_shrink = allow_shrink
        self._verify = verify
        self._queue_check = queue_check
        self._publisher = Publisher(source, store, deadline.clock, replicas=replicas)
        self._published = PublishedReader(source.name, store, replicas)
        self._config_fingerprint = source.fingerprint(replicas)
        self._required: tuple[str, ...] = ()
        self._unmet: tuple[str, ...] = ()
        self._behind = False
        self._progress: Progress | None = None
        self._scheduled = False
        self._fetches = 0

    def run(self, requests: Sequence[SyncRequest]) -> Report:
        """Serve all requests with one completed check, or with an earlier one.

        Raises:
            ProviderError: no usable response; the published set stays.
            RefusedSetError: the guard refused the set; the published set stays.
            NotSettledError: other checks completed first, every time.
        """
        self._required = tuple(sorted({name for request in requests for name in request.required}))
        self._scheduled = any(request.trigger == "schedule" for request in requests)
        # Only webhooks and follow-ups may be served by a check for other requests.
        newest = max(request.sent_at for request in requests)
        coalesces = all(request.trigger in {"webhook", "followup"} for request in requests)
        if coalesces:
            state = self._store.state(self._source.name)
            if self._serves(state, newest):
                return self._report("coalesced", state)
            # Negative if the clock of the machine that checked last is ahead of this one's.
            since = abs(now_ms(self._clock) - state.checked_at)
            if since < SPACING_MS:
                self._deadline.wait((SPACING_MS - since) / 1000, "spacing checks in a burst")
        for _ in range(self._limits.tokens):
            token, seen = self._store.next_token(self._source.name, int(self._clock.now()))
            if seen.pinned > now_ms(self._clock):
                return self._report("pinned", seen)
            if coalesces and self._serves(seen, newest):
                return self._report("coalesced", seen)
            try:
                return self._attempt(token, seen)
            except _Again:
                continue
        message = f"{self._limits.tokens} checks of {self._source.name!r} were overtaken or stale"
        raise NotSettledError(message)

    def _serves(self, state: SourceState, newest: int) -> bool:
        """Return whether the last completed check covers requests sent up to *newest*.

        This only saves work; correctness does not depend on it.
        """
        if state.checked_at > now_ms(self._clock) + MARGIN_MS:
            return False  # the clock was ahead: the order is unknown
        if state.deployment and not state.next_check:
            return False  # that check could not queue the next one
        return newest + MARGIN_MS < state.checked_at and self._satisfied(state)

    def _satisfied(self, state: SourceState, new: FlagSet | None = None) -> bool:
        """Return whether the new set, or else the published one, has all required revisions."""
        revision = new.revision if new else state.revision

        @cache  # the published set is read at most once, and only if the provider needs it
        def current() -> FlagSet | None:
            return new or self._published.read(state).flag_set

        def item(section: str, key: str) -> Any:  # noqa: ANN401 - provider JSON
            flag_set = current()
            return flag_set.item(section, key) if flag_set else None

        return all(
            self._provider.satisfied(required, revision, item) for required in self._required
        )

    # -- one fencing token ------------------------------------------------------------------------

    def _attempt(self, token: int, seen: SourceState) -> Report:
        """Fetch once and complete the check, or raise _Again."""
        # abs(): a clock that was ahead must not postpone it.
        since = abs(now_ms(self._clock) - seen.verified_at)
        verify = self._verify or since >= VERIFY_MS
        current = self._published.read(seen, large=True) if verify else Current()
        started_at = now_ms(self._clock)
        configured = seen.config_fingerprint == self._config_fingerprint
        http = self._http.within(self._retry.fetch_seconds())
        etag = seen.etag if configured and not verify else ""
        self._fetches += 1
        try:
            response = self._provider.fetch(self._source, http, etag, unmet=self._unmet)
        except ProviderError as error:
            self._retry.backoff(error)
            raise _Again from error
        new = response.flag_set
        etag = response.etag or ("" if new else seen.etag)
        revision = new.revision if new else seen.revision
        check = Check(token, seen, started_at, etag, revision, verify)
        self._progress = response.progress
        try:
            return self._judge(check, new, current)
        except ConditionFailedError as lost:
            return self._overtaken(check, lost.state)

    def _judge(self, check: Check, new: FlagSet | None, current: Current) -> Report:
        """Decide whether the response is behind, unchanged, older or new."""
        seen = check.seen
        self._behind = not self._satisfied(seen, new)
        if self._behind and self._retry.wait_for_propagation():
            self._unmet = self._required
            raise _Again
        if new is None:
            return self._unchanged(check, None)
        try:
            digest = content_digest(new.sections, new.meta)
        except (ValueError, RecursionError) as error:
            message = f"{self._provider.title} responded with invalid JSON values: {error}"
            raise MalformedResponseError(message) from error
        configured = seen.config_fingerprint == self._config_fingerprint
        if digest == seen.digest and configured and not current.damaged:
            return self._unchanged(check, new)
        if current.flag_set is None and not current.damaged:
            current = self._published.read(seen)
        older = current.flag_set is not None and self._is_older(current.flag_set, seen, new)
        if older and digest != self._allow_shrink and self._retry.wait_for_newer():
            raise _Again
        return self._publish(check, new, digest, current, older=older)

    def _is_older(self, old: FlagSet, seen: SourceState, new: FlagSet) -> bool:
        """Return whether a set is an earlier state of the provider than the published one."""
        if old.provider != new.provider:
            return False  # their revisions cannot be compared
        # Later checks may have seen the same content at a later revision than the snapshot's.
        old = replace(old, revision=max(old.revision, seen.revision))
        if old.large:  # is_older compares changed segments
            segments = dict(old.sections.get(LARGE_SECTION, {}))
            for key in old.differing(LARGE_SECTION, new):
                with suppress(CorruptStoreError):  # lost chunks cannot be compared
                    segments[key] = old.item(LARGE_SECTION, key)
            old = replace(old, sections={**old.sections, LARGE_SECTION: segments})
        return self._provider.is_older(old, new)

    # -- completing -------------------------------------------------------------------------------

    def _unchanged(self, check: Check, new: FlagSet | None) -> Report:
        if check.revision:  # a lagging instance must not lower the revision of a later check
            check = replace(check, revision=max(check.revision, check.seen.revision))
        if self._progress:
            check = self._with_next_check(check, self._progress)
        self._publisher.heartbeat(check)
        rows_behind = check.seen.rows_version != check.seen.published
        report = self._report("unchanged", check.seen, check)
        if not (check.verify or rows_behind):
            return report
        flag_set = new or self._published.read(check.seen).flag_set
        if flag_set is None:
            return report  # another set was published meanwhile; its publisher writes the rows
        published = check.seen.publication
        return self._publisher.write_rows(report, published, flag_set, None, verified=check.verify)

    def _publish(
        self, check: Check, new: FlagSet, digest: str, current: Current, *, older: bool
    ) -> Report:
        seen, old = check.seen, current.flag_set
        changed = Changes.between(old, new)
        try:
            self._guard(check, new, digest, changed, older=older)
        except SuspectSetError:
            raise
        except RefusedSetError:
            ended = {"deployment": None} if old and _has_ended(old, new) else {}
            self._publisher.note(check, {"refused": digest, **ended})
            raise
        if self._progress:
            check = self._with_next_check(check, self._progress)
        # Nothing is carried over from a damaged set.
        large_segments = old.large if old and not current.damaged else {}
        encoded = encode(
            new.sections,
            new.meta,
            token=check.token,
            known=large_segments,
            digest=digest,
            replicas=self._publisher.replicas,
        )
        allowed = digest == self._allow_shrink
        in_chunks = self._publisher.publish(
            check, new, encoded, self._config_fingerprint, changed, allowed=allowed
        )
        report = replace(
            self._report("published", seen, check),
            digest=digest,
            changes=changed,
            counts={section: len(items) for section, items in new.sections.items()},
        )
        # If so, the rows show the previous set, and writing the changes is enough.
        known = (
            old is not None
            and not (current.damaged or check.verify)
            and seen.rows_version == seen.published
            and seen.config_fingerprint == self._config_fingerprint
        )
        had_chunks = old is not None and bool((old.record and old.record.chunks) or old.large)
        return self._publisher.write_rows(
            report,
            Publication(check.token, seen.issued_nonce),
            new,
            changed if known else None,
            verified=not known,
            tidy=in_chunks or had_chunks or not known,
        )

    def _with_next_check(self, check: Check, progress: Progress) -> Check:
        """Add the progress of a gradual deployment, and queue its next check unless one is queued.

        That happens before the check completes, so that dying in between cannot end the chain; a
        request too many is harmless, since its check finds the next one queued.
        """
        now = now_ms(self._clock)
        due = check.seen.next_check
        if due <= now + QUEUED_SLACK_MS:
            due = now + DEPLOYMENT_CHECK_MS
            if not (self._queue_check and self._queue_check(self._source.name, due)):
                due = 0
        return replace(check, progress=progress.dumps(check.started_at), next_check=due)

    def _guard(
        self, check: Check, new: FlagSet, digest: str, changed: Changes, *, older: bool
    ) -> None:
        """Judge a set by itself and against the published one.

        Raises:
            MalformedResponseError: the provider's SDK would reject it.
            RefusedSetError: it has lost too much, or is suspect.
        """
        old = changed.since if digest != self._allow_shrink else None
        if old is None:
            guard.check_items(new, None, changed, self._provider, digest=digest)
            return
        olds = [("the published set", old)]
        # If flags were only added, no earlier set needs to be read.
        if changed.removed or changed.changed or new.sections.get("deployments"):
            olds = self._published.baselines(check.seen, old, now_ms(self._clock))
        if any(each.sections.get("deployments") for each in (new, *dict(olds).values())):
            guard.check_versions(new, olds, self._provider, digest=digest)
        else:
            guard.check_items(new, old, changed, self._provider, digest=digest)
            guard.check(new, olds, digest=digest, members=self._provider.members)
        missing = guard.dangling(new, old, changed, self._provider)
        if older:
            self._hold(check, digest, "it is older than the published one")
        elif missing:
            self._hold(check, digest, f"it refers to missing items: {', '.join(sorted(missing))}")

    def _hold(self, check: Check, digest: str, why: str) -> None:
        """Return if a suspect set has persisted for minutes, and this check is a scheduled one.

        Raises:
            SuspectSetError: otherwise.
        """
        now, mark = now_ms(self._clock), sha256(dumps(why).encode()).hexdigest()[:16]
        known, since = json.loads(check.seen.suspect or '["", 0]')
        if known != mark:
            since = now
            self._publisher.note(check, {"suspect": dumps([mark, now])})
        if self._scheduled and now - since >= HOLD_MS:
            return
        message = (
            f"{self._provider.title} responded with the suspect set {digest}: {why[:SHOWN_CHARS]}. "
            f"A scheduled check publishes it if it persists for {HOLD_MS // 60_000} minutes; "
            'to do so now, invoke SyncFunction with {"source": …, "allow_shrink": that digest}'
        )
        raise SuspectSetError(message, digest=digest)

    def _overtaken(self, check: Check, state: SourceState) -> Report:
        if check.is_last(state):  # this check's own step, sent again after a lost response
            published = state.nonce == check.seen.issued_nonce
            return self._report("published" if published else "unchanged", state, check)
        if state.pinned > now_ms(self._clock):
            return self._report("pinned", state)
        # Rollbacks and tombstones leave no fingerprint: their later token does not imply a fetch.
        if state.token > check.token and state.config_fingerprint and self._satisfied(state):
            return self._report("superseded", state)
        # The check that completed has an earlier token: it may have missed this request's change.
        self._deadline.back_off(0, base_s=0.05, cap_s=0.05, purpose="taking another token")
        raise _Again

    def _report(self, outcome: str, state: SourceState, check: Check | None = None) -> Report:
        return Report(
            source=self._source.name,
            outcome=outcome,
            token=check.token if check else state.token,
            digest=state.digest,
            fetches=self._fetches,
            checked_at=check.started_at if check else state.checked_at,
            behind=check is not None and self._behind,
            progress=self._progress,
        )


def _has_ended(old: FlagSet, new: FlagSet) -> bool:
    """Return whether a gradual deployment's new version is none of another set's versions.

    Then nobody must have it any longer, even if what follows it is refused.
    """
    *previous, deployed = (version.sections.get("flags") for version in old.versions())
    found = [version.sections.get("flags") for version in new.versions()]
    return bool(previous) and deployed not in found
