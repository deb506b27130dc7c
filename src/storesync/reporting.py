"""Says in logs and metrics how the sync of one source ended."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from flagstore.codec import dumps
from storesync.errors import (
    OutOfTimeError,
    RefusedSetError,
    StoreError,
    StoreSyncError,
    UnknownSourceError,
    is_retryable,
)
from storesync.observability import emit, logger
from storesync.redaction import redact
from storesync.store import Condition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storesync.model import Report, SyncRequest
    from storesync.store import Store

ERROR_CHARS = 200
"""Of a message that the source state keeps, which has to stay small."""
_MISSING = (StoreError, OutOfTimeError)

log = logger()


def record_report(
    report: Report, requests: Sequence[SyncRequest], resent: int, now_ms: int
) -> float:
    """Say how a sync ended that completed; *resent* counts what a store had to be sent again.

    Return the age of the last good check in seconds, as do the others.
    """
    age_s = max(0.0, (now_ms - report.checked_at) / 1000)
    values: dict[str, float] = {
        "SyncAgeSeconds": age_s,
        "Fetches": report.fetches,
        "Superseded": report.outcome == "superseded",
        "Coalesced": report.outcome == "coalesced",
        "Pinned": report.outcome == "pinned",
        "UnprocessedRetries": resent,
        "SkippedRows": len(report.skipped_rows),
        "RowFailures": bool(report.rows_error),
    }
    if report.outcome == "published":
        values |= {_metric(section): number for section, number in report.counts.items()}
        values |= {word.title(): number for word, number in report.changes.counts().items()}
        from_webhooks = [request.sent_at for request in requests if request.trigger == "webhook"]
        if from_webhooks:
            values["RequestToPublishSeconds"] = max(0.0, (now_ms - min(from_webhooks)) / 1000)
    tell = log.warning if report.rows_error or report.skipped_rows else log.info
    tell(
        report.outcome,
        source=report.source,
        token=report.token,
        requests=len(requests),
        fetches=report.fetches,
        behind=report.behind,
        rows_error=report.rows_error,
        skipped_rows=report.skipped_rows,
    )
    emit(report.source, values)
    return age_s


def record_error(name: str, error: Exception, store: Store | None, now_ms: int) -> float | None:
    """Say what failed, and how old what readers get has become, where that can be known."""
    # A suspect set is a refused one: one alarm is for both.
    kind = RefusedSetError if isinstance(error, RefusedSetError) else type(error)
    reason, problem = kind.__name__.removesuffix("Error"), str(error)
    log.error("failed", source=name, reason=reason, problem=problem, retryable=is_retryable(error))
    # A name that is no source must not make a metric of its own.
    source = "" if isinstance(error, UnknownSourceError) else name
    emit(source, {"SyncFailures": 1})
    emit(source, {"Rejected": 1}, reason=reason)
    # Not after other errors, where the store or the time is missing.
    if store and isinstance(error, StoreSyncError) and not isinstance(error, _MISSING):
        with suppress(StoreSyncError):
            state = store.state(source)
            # For whoever asks for the status; the next check that completes takes it away.
            note = dumps([now_ms, reason, redact(problem)[:ERROR_CHARS]])
            with suppress(StoreSyncError):
                store.commit(source, Condition(token=state.token), {"error": note})
            if state.checked_at:
                age_s = max(0.0, (now_ms - state.checked_at) / 1000)
                emit(source, {"SyncAgeSeconds": age_s})
                return age_s
    return None


def record_schedule(ages_s: Sequence[float | None]) -> None:
    """Record the age of the stalest source; the alarm also goes off when it is missing.

    Where nothing is configured, nothing is stale.
    """
    known = [age_s for age_s in ages_s if age_s is not None]
    if known or not ages_s:
        emit("", {"SyncAgeSeconds": max(known, default=0.0)})


def _metric(section: str) -> str:
    """Name the metric of a section: ``rule_based_segments`` is ``RuleBasedSegments``."""
    return section.title().replace("_", "")
