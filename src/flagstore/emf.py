"""The age of a function's flags, as a log line that CloudWatch turns into metrics."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flagstore.snapshot import Info

NAMESPACE = "Flagstore"
_throttled: dict[str, int] = {}
"""Source → count in its last line."""


def line(info: Info, *, now_s: float | None = None) -> str:
    """Return one line in CloudWatch's embedded metric format, to be printed as is.

    Metrics by source, as of *now_s* (seconds since the epoch; by default, now):
    ``ReaderAgeSeconds``, omitted before the first load; ``ReaderStale`` (1 if the last refresh
    failed); ``ReaderThrottled``, how often DynamoDB has asked to slow down since the last line,
    omitted if it has not; and ``ReaderNewVersion`` during a gradual deployment (AppConfig): 1 if
    this process has the new version, else 0, so that the average is their share.
    """
    now_s = time.time() if now_s is None else now_s
    metrics = [{"Name": "ReaderStale", "Unit": "Count"}]
    values: dict[str, float] = {"ReaderStale": int(info.stale)}
    if info.age_s < float("inf"):  # JSON has no infinity
        metrics.append({"Name": "ReaderAgeSeconds", "Unit": "Seconds"})
        values["ReaderAgeSeconds"] = info.age_s
    throttled = info.throttled - _throttled.get(info.source, 0)
    _throttled[info.source] = info.throttled
    if throttled > 0:
        metrics.append({"Name": "ReaderThrottled", "Unit": "Count"})
        values["ReaderThrottled"] = throttled
    if info.deployment is not None:
        metrics.append({"Name": "ReaderNewVersion", "Unit": "Count"})
        values["ReaderNewVersion"] = int(info.deployment.new)
    directive = {"Namespace": NAMESPACE, "Dimensions": [["source"]], "Metrics": metrics}
    document = {
        "_aws": {"Timestamp": int(now_s * 1000), "CloudWatchMetrics": [directive]},
        "source": info.source,
        **values,
    }
    return json.dumps(document, separators=(",", ":"))
