"""LaunchDarkly: usage lines as summary events, as its server-side SDKs send them (schema 4)."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from flagstore.codec import dumps
from storesync.providers import base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storesync.model import Json, Source
    from storesync.usage_lines import Cell, Line

_HOSTS = {
    **{f"{name}.launchdarkly.com": "events.launchdarkly.com" for name in ("sdk", "app")},
    **{f"{name}.eu.launchdarkly.com": "events.eu.launchdarkly.com" for name in ("sdk", "app")},
    **{f"{name}.launchdarkly.us": "events.launchdarkly.us" for name in ("sdk", "app")},
}
_PAYLOADS = UUID("9f8b1a52-6f0f-4b1e-9c63-2f6f5a3b7d10")


class LaunchDarklyUsage(base.UsageApi):
    """Posts one line each: its payload id, made of the line's, lets LaunchDarkly drop repetitions.

    Not known here are the defaults that callers gave, and so the values of flags without a
    variation.
    """

    max_lines = 1
    max_bytes = 1_000_000
    repeatable = True

    def report(
        self, source: Source, lines: Sequence[Line], published: base.Published
    ) -> base.UsagePost | None:
        """Return one summary event."""
        (line,) = lines
        features = {}
        for key, cells in line.flags.items():
            flag = published.flag(key)
            if (flag or {}).get("excludeFromSummaries") is True:
                continue
            counters = [_counter(cell, flag) for cell in cells]
            kinds = list(line.kinds)
            features[key] = {"default": None, "contextKinds": kinds, "counters": counters}
        if not features:
            return None
        times = {"startDate": 1000 * line.first, "endDate": 1000 * line.last}
        headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "X-LaunchDarkly-Event-Schema": "4",
            "X-LaunchDarkly-Payload-ID": str(uuid5(_PAYLOADS, line.id)),
        }
        url = base.usage_endpoint(source, _HOSTS, "/bulk")
        body = dumps([{"kind": "summary", **times, "features": features}])
        return base.UsagePost(url, headers, gzip.compress(body.encode(), mtime=0))


def _counter(cell: Cell, flag: Json | None) -> dict[str, Json]:
    if cell.detail is None:
        return {"count": cell.number, "value": None, "unknown": True}
    if cell.result is None:
        return {"count": cell.number, "value": None, "version": cell.detail}
    counter = {"count": cell.number, "variation": cell.result, "version": cell.detail}
    variations = (flag or {}).get("variations") or []
    return {**counter, "value": variations[cell.result] if cell.result < len(variations) else None}
