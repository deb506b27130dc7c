"""Logs and metrics of both functions. No secrets, headers, bodies or context values, ever."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from storesync.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMESPACE = "Flagstore"
SERVICE = "storesync"

UNITS = {
    "SyncAgeSeconds": MetricUnit.Seconds,
    "RequestToPublishSeconds": MetricUnit.Seconds,
}

TOTALS = frozenset({"SyncFailures", "Rejected", "SignatureFailures", "Pinned"})
"""Metrics that are also written without their source, as the sum of all: alarms know no sources."""


def logger() -> Logger:
    """Return the functions' logger; the level is POWERTOOLS_LOG_LEVEL."""
    service = os.environ.get("POWERTOOLS_SERVICE_NAME", SERVICE)
    return Logger(service=service, utc=True, json_serializer=_line)


def _line(record: Any) -> str:  # noqa: ANN401 - whatever is logged
    """Write a record. Half a surrogate pair, which JSON can carry but UTF-8 not, loses no line."""
    text = json.dumps(record, separators=(",", ":"), default=str, ensure_ascii=False)
    return redact(text).encode("utf-8", "backslashreplace").decode()


def emit(source: str, values: Mapping[str, float], **dimensions: str) -> None:
    """Write metrics of one source as one line in CloudWatch's embedded format.

    An empty name leaves the dimension out: strangers' requests must not make new metrics.
    """
    metrics = EphemeralMetrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", NAMESPACE))
    if source:
        metrics.add_dimension(name="source", value=source)
    for name, text in dimensions.items():
        metrics.add_dimension(name=name, value=text)
    for name, number in values.items():
        metrics.add_metric(name=name, unit=UNITS.get(name, MetricUnit.Count), value=number)
    document: Any = metrics.serialize_metric_set()
    if source:
        _add_totals(document["_aws"]["CloudWatchMetrics"])
    line = json.dumps(document, separators=(",", ":"))
    # One call, unlike print's two: sources are synced in parallel, and a line that is not JSON by
    # itself is no metric.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _add_totals(directives: list[dict[str, Any]]) -> None:
    """Let CloudWatch make a second metric, without the source, of what alarms look at."""
    (own,) = directives
    (names,) = own["Dimensions"]
    totals = [metric for metric in own["Metrics"] if metric["Name"] in TOTALS]
    if totals:
        others = [name for name in names if name != "source"]
        directives.append({**own, "Dimensions": [others], "Metrics": totals})
