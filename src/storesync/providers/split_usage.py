"""Split: usage lines as impression counts, as its SDKs post them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from flagstore.codec import dumps
from storesync.providers import base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storesync.model import Source
    from storesync.usage_lines import Line

_HOSTS = {"sdk.split.io": "events.split.io"}
_HEADERS = {"Content-Type": "application/json", "SplitSDKVersion": "flagstore-1"}
_HOUR_S = 3600


class SplitUsage(base.UsageApi):
    """Posts the evaluations of each flag and hour, without treatments: Split has no more.

    Split adds up whatever it gets, also twice.
    """

    max_lines = 200
    max_bytes = 1_000_000
    authorization = "Bearer {}"

    def report(
        self, source: Source, lines: Sequence[Line], published: base.Published
    ) -> base.UsagePost | None:
        """Return the counts; each hour has its own, by the last evaluation of a line."""
        del published
        counts: Counter[tuple[str, int]] = Counter()
        for line in lines:
            for flag, cells in line.flags.items():
                hour = line.last - line.last % _HOUR_S
                counts[flag, 1000 * hour] += sum(cell.number for cell in cells)
        if not counts:
            return None
        entries = [{"f": flag, "m": hour, "rc": count} for (flag, hour), count in counts.items()]
        url = base.usage_endpoint(source, _HOSTS, "/testImpressions/count")
        return base.UsagePost(url, _HEADERS, dumps({"pf": entries}).encode())
