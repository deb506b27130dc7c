"""One pipeline for every ring: draw a ticket, fetch, judge, complete under the fence, project.

The order of the calls is the whole point. A ticket is drawn before the fetch, and completing
compares the last completed ticket with the one that was seen when drawing, so completed fetches
never overlap: nothing older can be published over something newer, and an unchanged check fences
too. docs/store-layout.md has the argument; the tests run every interleaving of it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from flagstore import layout
from flagstore.encoding import canonical, content_digest, encode
from flagstore.layout import LAYOUT, Pulse
from storesync import guard, rows
from storesync.budget import now_ms
from storesync.errors import (
    CorruptStoreError,
    FenceLostError,
    MalformedAnswerError,
    NotSettledError,
    OutOfTimeError,
    ProviderError,
    RefusedSetError,
    StoreError,
    SuspectSetError,
)
from storesync.expiry import Expiry
from storesync.model import Changes, FlagSet, Report
from storesync.patience import Limits, Patience
from storesync.projection import Projection
from storesync.publisher import Check, Publisher
from storesync.readback import Readback, Stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flagstore.layout import Publication
    from storesync.budget import Budget
    from storesync.http import HttpClient
    from storesync.model import Answer, Ring, Source
    from storesync.providers.base import Provider
    from storesync.readback import StoredSet
    from storesync.stores.base import Store

MARGIN_MS = 2_000
"""A ring counts as older than a check only by more than clocks of two machines may differ."""
SPACING_MS = 1_000
"""In a burst, checks of one source start at least so far apart; a lone ring never waits."""
HOLD_MS = 180_000
"""How long a suspect set has to hold before it is believed: caches lag for seconds."""
SHOWN_CHARS = 300
VERIFY_MS = 3_600_000
"""How often a check goes without ETag and verifies head and rows."""


class _Again(Exception):  # noqa: N818 - not an error: the loop's own signal
    """Draw another ticket and fetch again."""


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
    """Pieces may have to expire."""
    verified: bool
    """Head and rows have been verified whole when this is done."""


class Sync:
    """One sync of one source, for one batch of rings."""

    def __init__(  # noqa: PLR0913 - the edges, handed in: keyword-only
        self,
        source: Source,
        provider: Provider,
        store: Store,
        *,
        http: HttpClient,
        budget: Budget,
        limits: Limits | None = None,
        replicas: int = 1,
        allow_shrink: str = "",
        verify: bool = False,
    ) -> None:
        self._source = source
        self._provider = provider
        self._store = store
        self._http = http
        self._budget = budget
        self._clock = budget.clock
        self._limits = limits or Limits()
        self._patience = Patience(budget, self._limits)
        self._allow_shrink = allow_shrink
        self._verify = verify
        projection = Projection.of(source)
        self._publisher = Publisher(
            source.name, store, budget.clock, replicas=replicas, projection=projection
        )
        self._readback = Readback(source.name, store)
        self._expiry = Expiry(source.name, store, budget.clock)
        self._writer = fingerprint(source, replicas)
        self._wanted: tuple[str, ...] = ()
        self._missed: tuple[str, ...] = ()
        self._scheduled = False
        self._fetches = 0

    def run(self, rings: Sequence[Ring]) -> Report:
        """Serve all these rings with one completed check, or none if one has served them already.

        Raises:
            ProviderError: no usable answer; what is published stays.
            RefusedSetError: the guard refused the set; what is published stays.
            StoreError: the store failed; what readers see is whole.
            OutOfTimeError: the time budget ended.
            NotSettledError: other checks completed first, every time.
        """
        self._wanted = tuple(sorted({wanted for ring in rings for wanted in ring.wanted}))
        self._scheduled = any(ring.trigger == "schedule" for ring in rings)
        if all(ring.trigger in {"webhook", "trailing"} for ring in rings):
            served = self._served(rings)
            if served is not None:
                return self._report("coalesced", served)
        for _ in range(self._limits.tickets):
            try:
                return self._attempt()
            except _Again:
                continue
        message = f"{self._limits.tickets} checks of {self._source.name!r} were overtaken or stale"
        raise NotSettledError(message)

    # -- coalescing -----------------------------------------------------------------------------

    def _served(self, rings: Sequence[Ring]) -> Pulse | None:
        """Return the pulse if a completed check has served all rings, waiting a moment in bursts.

        This only ever skips work; it orders nothing.
        """
        pulse = self._store.pulse(self._source.name)
        # Below zero: the clock of the machine that checked last is ahead of this one's.
        since = abs(now_ms(self._clock) - pulse.checked_at)
        if not self._serves(pulse, rings) and since < SPACING_MS:
            self._budget.wait((SPACING_MS - since) / 1000, "spacing checks in a burst")
            pulse = self._store.pulse(self._source.name)
        return pulse if self._serves(pulse, rings) else None

    def _serves(self, pulse: Pulse, rings: Sequence[Ring]) -> bool:
        newest = max(ring.sent_at for ring in rings)
        if pulse.checked_at > now_ms(self._clock) + MARGIN_MS:
            return False  # by a clock that was ahead: it says nothing about what came before what
        return newest + MARGIN_MS < pulse.checked_at and self._reached(pulse)

    def _reached(self, pulse: Pulse, new: FlagSet | None = None) -> bool:
        """Say whether a new set, or else what is published, has reached all wanted revisions."""
        revision = new.revision if new else pulse.revision

        @cache  # what is published is read at most once, and only by a provider that asks
        def current() -> FlagSet | None:
            return new or self._set_of(pulse)

        def item(section: str, key: str) -> Any:  # noqa: ANN401 - provider JSON
            flag_set = current()
            return flag_set.item(section, key) if flag_set else None

        return all(self._provider.reached(wanted, revision, item) for wanted in self._wanted)

    def _set_of(self, pulse: Pulse) -> FlagSet | None:
        stored, _ = self._stored(pulse)
        return stored.flag_set if stored else None

    # -- one ticket -----------------------------------------------------------------------------

    def _attempt(self) -> Report:
        ticket, seen = self._store.draw(self._source.name, int(self._clock.now()))
        if seen.is_pinned(now_ms(self._clock)):
            return self._report("pinned", seen)
        # Either way: a clock that was ahead must not put it off until then.
        since = abs(now_ms(self._clock) - seen.verified_at)
        verify = self._verify or since >= VERIFY_MS
        stored, damaged = self._verified(seen) if verify else (None, False)
        started_at = now_ms(self._clock)
        fresh = verify or damaged or seen.writer != self._writer
        answer = self._fetch("" if fresh else seen.etag)
        check = Check(
            ticket=ticket,
            seen=seen,
            started_at=started_at,
            etag=answer.etag or ("" if answer.flag_set else seen.etag),
            revision=answer.flag_set.revision if answer.flag_set else seen.revision,
        )
        try:
            return self._judge(check, answer, stored, damaged=damaged, verify=verify)
        except FenceLostError as lost:
            return self._overtaken(check, lost.pulse)

    def _fetch(self, etag: str) -> Answer:
        self._patience.require(self._limits.publish_s)
        left = self._budget.remaining() - self._limits.publish_s
        self._fetches += 1
        try:
            http = self._http.within(min(self._limits.fetch_s, max(left, 0.1)))
            return self._provider.fetch(self._source, http, etag, missed=self._missed)
        except ProviderError as error:
            self._patience.bear(error)
            raise _Again from error

    def _stored(self, seen: Pulse) -> tuple[Stored | None, bool]:
        """Return what is published, and whether it is damaged and must be published anew.

        Where the head is damaged, what is published is read from the history: a damaged head must
        not open the way for an empty set.
        """
        if not seen.published:
            return None, False
        with suppress(CorruptStoreError):
            stored = self._readback.stored(seen.published)
            if stored is None or _belongs(stored, seen):
                return stored, False
        with suppress(CorruptStoreError):
            kept = self._readback.version(seen.published)
            if _belongs(kept, seen):
                return kept, True
        return None, True

    def _verified(self, seen: Pulse) -> tuple[Stored | None, bool]:
        """Return the same, with all large segments read as well."""
        stored, damaged = self._stored(seen)
        try:
            if stored:
                self._readback.verify_large(stored)
        except CorruptStoreError:
            return stored, True
        return stored, damaged

    def _judge(
        self, check: Check, answer: Answer, stored: Stored | None, *, damaged: bool, verify: bool
    ) -> Report:
        seen, new = check.seen, answer.flag_set
        lagging = not self._reached(seen, new)
        if lagging and self._patience.may_settle():
            self._missed = self._wanted
            raise _Again
        if new is None:
            return self._unchanged(check, None, verify=verify, lagging=lagging)
        try:
            digest = content_digest(new.sections, new.meta)
        except (ValueError, RecursionError) as error:
            message = f"{self._provider.title} answered with what JSON cannot say: {error}"
            raise MalformedAnswerError(message) from error
        if digest == seen.digest and seen.writer == self._writer and not damaged:
            return self._unchanged(check, new, verify=verify, lagging=lagging)
        if stored is None and not damaged:
            stored, damaged = self._stored(seen)
        older = stored is not None and self._goes_back(stored.flag_set, seen, new)
        if older and digest != self._allow_shrink and self._patience.asks_again():
            raise _Again
        candidate = Candidate(new, digest, older)
        report = self._publish(check, candidate, stored, damaged=damaged, verify=verify)
        return replace(report, lagging=lagging)

    def _goes_back(self, old: StoredSet, seen: Pulse, new: FlagSet) -> bool:
        if old.provider != new.provider:
            return False  # their revisions have nothing in common
        # Later checks may have found the same content at a later revision than the head's.
        latest = replace(old.with_large(new), revision=max(old.revision, seen.revision))
        return self._provider.regressed(latest, new)

    # -- completing -----------------------------------------------------------------------------

    def _unchanged(
        self, check: Check, new: FlagSet | None, *, verify: bool, lagging: bool
    ) -> Report:
        if check.revision:  # the same content from an instance that lags undoes no later check
            check = replace(check, revision=max(check.revision, check.seen.revision))
        self._publisher.heartbeat(check)
        trailing_rows = not self._rows_follow(check.seen)
        report = self._report("unchanged", check.seen, check=check, lagging=lagging)
        if not (verify or trailing_rows):
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
        parts = stored.flag_set.large if stored and not damaged else {}
        encoded = encode(new.sections, new.meta, ticket=check.ticket, known=parts, digest=digest)
        allowed = digest == self._allow_shrink
        self._publisher.publish(check, new, encoded, self._writer, changed, allowed=allowed)
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
            and seen.writer == self._writer
        )
        in_pieces = encoded.size() > layout.INLINE_BYTES or bool(
            encoded.parts or (stored and stored.in_pieces())
        )
        follow = Following(
            changed if known else None, tidy=in_pieces or not known, verified=not known
        )
        return self._follow(report, new, check.publication, follow)

    def _guard(
        self, check: Check, candidate: Candidate, stored: Stored | None, changed: Changes
    ) -> None:
        """Judge a set by itself and beside what is published.

        Raises:
            MalformedAnswerError: the provider's SDK would not take it.
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
            olds = self._readback.baselines(check.seen, stored, now_ms(self._clock))
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
        now, mark = now_ms(self._clock), sha256(what.encode()).hexdigest()[:16]
        known, since = json.loads(check.seen.suspect or '["", 0]')
        if known != mark:
            since = now
            self._publisher.suspect(check, mark, now)
        if self._scheduled and now - since >= HOLD_MS:
            return
        message = (
            f"{self._provider.title} answered with a suspect set: {what[:SHOWN_CHARS]}. It is "
            f"believed if it is still there after {HOLD_MS // 60_000} minutes, at a scheduled "
            f'check; to publish it now, send {{"source": …, "allow_shrink": "{digest}"}}'
        )
        raise SuspectSetError(message, digest=digest)

    def _follow(
        self, report: Report, new: FlagSet, published: Publication, follow: Following
    ) -> Report:
        """Let the rows follow, and pieces expire. What fails here, the next check finishes."""
        sets = {"verified_at": now_ms(self._clock)} if follow.verified else {}
        try:
            plan = self._publisher.project(published, new, follow.changed, sets)
            report = replace(report, skipped_rows=plan.skipped)
            if follow.tidy:
                self._expiry.expire(published)
        except FenceLostError:
            return report  # something newer is published; its publisher does the rest
        except (StoreError, OutOfTimeError) as error:
            return replace(report, rows_error=str(error))
        return report

    def _rows_follow(self, seen: Pulse) -> bool:
        """Return whether the rows show what is published, and the store has evicted none."""
        if seen.projected != seen.published or not seen.rows_count:
            return seen.projected == seen.published
        return self._store.count_rows(self._source.name) == seen.rows_count

    def _overtaken(self, check: Check, pulse: Pulse) -> Report:
        """Judge a fence that did not hold."""
        if check.is_last(pulse):  # it was my own step, repeated after a lost answer
            published = pulse.nonce == check.nonce
            return self._report("published" if published else "unchanged", pulse, check=check)
        if pulse.is_pinned(now_ms(self._clock)):
            return self._report("pinned", pulse)
        # A rollback and a tombstone leave no writer: their later ticket stands for no fetch.
        if pulse.ticket > check.ticket and pulse.writer and self._reached(pulse):
            return self._report("superseded", pulse)
        # The check that won drew before me: it may not have seen what rang me.
        self._budget.back_off(0, base_s=0.05, cap_s=0.05, purpose="drawing again")
        raise _Again

    def _report(
        self, outcome: str, pulse: Pulse, *, check: Check | None = None, lagging: bool = False
    ) -> Report:
        return Report(
            source=self._source.name,
            outcome=outcome,
            ticket=check.ticket if check else pulse.ticket,
            digest=pulse.digest,
            fetches=self._fetches,
            checked_at=check.started_at if check else pulse.checked_at,
            lagging=lagging,
        )


def _belongs(stored: Stored, seen: Pulse) -> bool:
    return (stored.head.digest, stored.head.nonce) == (seen.digest, seen.nonce)


def fingerprint(source: Source, replicas: int = 1) -> str:
    """Return the digest of everything beside the provider's content that shapes what is stored.

    When it differs from the pulse's, no ETag is sent and the set counts as changed.
    """
    projections = [source.native_rows] if source.native_rows else []
    projections += ["document"] if source.document else []
    parts: list[Any] = [
        LAYOUT,
        source.provider,
        source.base_url,
        dict(source.options),
        source.rows,
        replicas,
        *projections,
    ]
    return sha256(canonical(parts).encode()).hexdigest()[:16]
