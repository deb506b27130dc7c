"""Split: usage lines as impression counts, as its SDKs post them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from flagstore.codec import dumps
from flagstore.lines import EXPOSURE
from storesync.providers import base
from storesync.usage_lines import EventLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storesync.model import Json, Source
    from storesync.usage_lines import AnyLine

HOSTS = {"sdk.split.io": "events.split.io"}
_HEADERS = {"Content-Type": "application/json", "SplitSDKVersion": "flagstore-1"}
_HOUR_S = 3600
_HOUR_MS = 1000 * _HOUR_S


class SplitUsage(base.UsageApi):
    """Posts the number of evaluations by flag and hour, for which Split takes no treatments.

    Split adds up whatever it gets, including duplicates.
    """

    max_lines = 200
    max_bytes = 1_000_000
    authorization = "Bearer {}"

    def report(
        self, source: Source, lines: Sequence[AnyLine], published: base.Published
    ) -> base.UsagePost | None:
        """Return the counts, by the hour of a line's last evaluation; or one line's events."""
        del published
        first = lines[0]
        if isinstance(first, EventLine):
            return (
                _impressions(source, first) if first.marker == EXPOSURE else _events(source, first)
            )
        counts: Counter[tuple[str, int]] = Counter()
        for line in lines:
            for flag, cells in line.flags.items():
                hour = line.last - line.last % _HOUR_S
                counts[flag, 1000 * hour] += sum(cell.number for cell in cells)
        if not counts:
            return None
        entries = [{"f": flag, "m": hour, "rc": count} for (flag, hour), count in counts.items()]
        return _post(source, "/testImpressions/count", {"pf": entries})


def _post(source: Source, path: str, body: Json, **headers: str) -> base.UsagePost:
    url = base.usage_endpoint(source, HOSTS, path)
    return base.UsagePost(url, {**_HEADERS, **headers}, dumps(body).encode())


def _impressions(source: Source, line: EventLine) -> base.UsagePost:
    flags: dict[str, list[Json]] = {}
    mode = "OPTIMIZED"  # one impression per hour
    for place, at, flag, treatment, label, change, previous in line.entries:
        keys = line.contexts[place]
        impression = {"k": keys.get("key"), "t": treatment, "m": at, "c": change, "r": label}
        impression["b"] = keys.get("bucketingKey")
        flags.setdefault(flag, []).append(impression | {"pt": previous})
        if previous is not None and previous // _HOUR_MS == at // _HOUR_MS:
            mode = "DEBUG"
    body = [{"f": flag, "i": impressions} for flag, impressions in flags.items()]
    return _post(source, "/testImpressions/bulk", body, SplitSDKImpressionsMode=mode)


def _events(source: Source, line: EventLine) -> base.UsagePost:
    events = []
    for place, at, name, traffic, value, data in line.entries:
        event = {"key": line.contexts[place].get("key"), "trafficTypeName": traffic}
        event |= {"eventTypeId": name, "value": value, "timestamp": at, "properties": data}
        events.append(event)
    return _post(source, "/events/bulk", events)
