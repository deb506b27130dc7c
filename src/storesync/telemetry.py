"""Logs and metrics of the functions that write, without secrets, headers, bodies or context values.

flagstore's own messages quote no secrets. Redaction covers the rest: the message of a library's
exception, or of a bug, may hold a URL, a header or a whole request.
"""

from __future__ import annotations

import json
import os
import sys
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from storesync.errors import RefusedSetError, UnknownSourceError, is_retryable
from storesync.model import DEPLOYMENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from storesync.model import Report, Secret, SyncRequest

TOTALS = frozenset(
    {"SyncFailures", "Rejected", "SignatureFailures", "Pinned", "UsageRefused", "DrainFailures"}
)
"""Metrics that are also written without their source, as a sum for the alarms."""
ESSENTIAL = frozenset(
    {("SyncAgeSeconds", ""), ("SyncFailures", ""), ("Pinned", ""), ("Rejected", "RefusedSet")}
)
"""Metrics, each with its reason, that the alarms of Monitoring=essential read."""
MIN_CHARS: Final = 8
"""Minimum length of a secret: shorter strings would redact words."""
MAX_KNOWN: Final = 4_000
"""Maximum number of secrets: several per source and rotation, in a process that runs for hours."""

_lock = Lock()
"""Sources are synced in threads, each of which registers secrets and logs."""
_known: dict[str, None] = {}
"""In the order of registration, so that the oldest are dropped first."""
_full = True
"""Until the settings are read, since one of the metrics reports that they are wrong."""


# -- redaction


def register_secret(*secrets: Secret) -> None:
    """Redact these secrets, and the passwords in those that are URLs, in every later line."""
    for secret in secrets:
        text = secret.reveal()
        try:
            password = unquote(urlsplit(text).password or "")
        except ValueError:
            password = ""
        for each in (text, password):
            if len(each) < MIN_CHARS:
                continue
            # Verbatim, in JSON, and in a URL.
            in_json = json.dumps(each, ensure_ascii=False)[1:-1]
            with _lock:
                for form in (each, in_json, quote(each), quote(each, safe="")):
                    _known.pop(form, None)
                    _known[form] = None
                while len(_known) > MAX_KNOWN:
                    _known.pop(next(iter(_known)))


def redact(text: str) -> str:
    """Return a string without registered secrets."""
    with _lock:
        found = [secret for secret in _known if secret in text]
    for secret in sorted(found, key=len, reverse=True):  # longest first: one may begin with another
        text = text.replace(secret, "***")
    return text


# -- logs and metrics


def logger() -> Logger:
    """Return the functions' logger; the level is POWERTOOLS_LOG_LEVEL."""
    service = os.environ.get("POWERTOOLS_SERVICE_NAME", "storesync")
    return Logger(service=service, utc=True, json_serializer=_line)


def _line(record: Mapping[str, Any]) -> str:
    """Write a record, even with a lone surrogate, which JSON can carry and UTF-8 cannot."""
    text = json.dumps(record, separators=(",", ":"), default=str, ensure_ascii=False)
    return redact(text).encode("utf-8", "backslashreplace").decode()


log = logger()


def set_monitoring(*, full: bool) -> None:
    """Write all metrics from now on, or only those in :data:`ESSENTIAL`, without a source."""
    global _full  # noqa: PLW0603 - of the process, as the logger is
    _full = full


def emit(source: str, values: Mapping[str, float], reason: str = "") -> None:
    """Write metrics of one source as one line in CloudWatch's embedded metric format.

    An empty *source* omits the dimension: unauthenticated requests must not create metrics. Values
    that are not to become metrics are in the line as well, for queries of the log.
    """
    metrics = EphemeralMetrics(
        namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Flagstore")
    )
    for name, text in {"source": source, "reason": reason}.items():
        if text:
            metrics.add_dimension(name=name, value=text)
    for name, number in values.items():
        unit = MetricUnit.Seconds if name.endswith("Seconds") else MetricUnit.Count
        metrics.add_metric(name=name, unit=unit, value=number)
    document: Any = metrics.serialize_metric_set()
    (written,) = document["_aws"]["CloudWatchMetrics"]
    directives = [written] if source and _full else []
    others = [name for name in written["Dimensions"][0] if name != "source"]
    totals = [each for each in written["Metrics"] if not source or each["Name"] in TOTALS]
    if not _full:  # without the zeros of sources, since every metric of an hour is billed
        totals = [each for each in totals if (each["Name"], reason) in ESSENTIAL]
        totals = [each for each in totals if not source or values[each["Name"]]]
    if totals:
        directives.append({**written, "Dimensions": [others], "Metrics": totals})
    document["_aws"]["CloudWatchMetrics"] = directives
    if not directives:
        del document["_aws"]
    # One call, unlike print's two: sources are synced in parallel, and torn lines lose metrics.
    sys.stdout.write(json.dumps(document, separators=(",", ":")) + "\n")
    sys.stdout.flush()


# -- the outcome of a sync


def record_report(
    report: Report, requests: Sequence[SyncRequest], resent: int, now_ms: int
) -> float:
    """Log and record a completed sync; return the age of the last good check in seconds.

    *resent* is the number of items that had to be sent to the store again.
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
    if report.progress:
        values["DeploymentPercentage"] = report.progress.percentage
    if report.rows_error:  # the alarm on it ignores a failure that the next check repairs
        values["SyncFailures"] = 1
    if report.outcome == "published":
        for section, number in report.counts.items():  # rule_based_segments: RuleBasedSegments
            if section not in DEPLOYMENT:
                values[section.title().replace("_", "")] = number
        values |= {word.title(): len(names) for word, names in report.changes.lists().items()}
        sent_at = [request.sent_at for request in requests if request.trigger == "webhook"]
        if sent_at:
            values["RequestToPublishSeconds"] = max(0.0, (now_ms - min(sent_at)) / 1000)
    write = log.warning if report.rows_error or report.skipped_rows else log.info
    write(
        report.outcome,
        source=report.source,
        token=report.token,
        requests=len(requests),
        fetches=report.fetches,
        behind=report.behind,
        deployment=report.progress and report.progress._asdict(),
        rows_error=report.rows_error,
        skipped_rows=report.skipped_rows,
    )
    emit(report.source, values)
    return age_s


def record_error(source: str, error: Exception) -> str:
    """Log and record a failed sync; return the reason."""
    # A suspect set counts as refused: both have one alarm.
    kind = RefusedSetError if isinstance(error, RefusedSetError) else type(error)
    reason = kind.__name__.removesuffix("Error")
    log.error(
        "failed", source=source, reason=reason, problem=str(error), retryable=is_retryable(error)
    )
    # An unknown name must not create a metric.
    source = "" if isinstance(error, UnknownSourceError) else source
    emit(source, {"SyncFailures": 1})
    emit(source, {"Rejected": 1}, reason=reason)
    return reason


def record_schedule(ages_s: Sequence[float | None]) -> None:
    """Record the age of the stalest source; the alarm also fires if it is missing.

    Without any source, nothing is stale.
    """
    known = [age_s for age_s in ages_s if age_s is not None]
    if known or not ages_s:
        emit("", {"SyncAgeSeconds": max(known, default=0.0)})
