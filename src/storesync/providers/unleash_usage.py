"""Unleash: usage lines as bulk metrics, one row per application, hour and flag.

Source of the rules: Unleash's server 7.4.1 and 8.1, as observed. It

- adds up whatever it gets, including duplicates;
- accepts rows of other environments than its token's, and drops them;
- loses everybody's metrics of five seconds to one row without a timestamp;
- counts the valid rows of a request that it refuses with 400.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flagstore.codec import dumps
from storesync.errors import ConfigurationError
from storesync.providers import base

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from storesync.model import Json, Source
    from storesync.usage_lines import AnyLine, Cell

_PATH = "/api/client/metrics/bulk"
_HEADERS = {"Content-Type": "application/json"}
_HOUR_S = 3600
_TOKEN = re.compile(r"[^:.]+:([^:.]+)\..+")
"""``project:environment.secret``."""
_INSTANCE = "flagstore"
"""The same for all: each is kept for two days."""


class UnleashUsage(base.UsageApi):
    """Posts rows of many lines at once, to the environment of the source's token."""

    max_lines = 200
    max_bytes = 90_000
    """Before compression; the server refuses more than 100 kB."""
    announces = True

    def report(
        self, source: Source, lines: Sequence[AnyLine], published: base.Published
    ) -> base.UsagePost | None:
        """Return the metrics, with separate rows for each hour of a line's last evaluation."""
        environment = _environment(source, published.meta)
        rows: dict[tuple[str, int, str], dict[str, Any]] = {}
        for line in lines:
            hour = line.last - line.last % _HOUR_S
            for flag, cells in line.flags.items():
                key = line.app, hour, flag
                if key not in rows:
                    rows[key] = {"appName": line.app, "environment": environment}
                    rows[key] |= {"featureName": flag, "timestamp": _text(hour)}
                    rows[key] |= {"yes": 0, "no": 0, "variants": {}}
                _add(rows[key], cells)
        return _post(source, metrics=list(rows.values())) if rows else None

    def announce(
        self, source: Source, app: str, published: base.Published, now_s: int
    ) -> base.UsagePost:
        """Return the application's registration: metrics alone do not list it."""
        application = {
            "appName": app,
            "instanceId": _INSTANCE,
            "environment": _environment(source, published.meta),
            "strategies": [],
            "started": _text(now_s),
            "interval": 60,
        }
        return _post(source, applications=[application])


def _add(row: dict[str, Any], cells: Iterable[Cell]) -> None:
    variants = row["variants"]
    for cell in cells:
        row["yes" if cell.result else "no"] += cell.number
        if cell.detail is not None:
            variants[cell.detail] = variants.get(cell.detail, 0) + cell.number


def _post(source: Source, **parts: Json) -> base.UsagePost:
    url = base.endpoint(source, "", "", {}).removesuffix("/api") + _PATH
    body = dumps({"applications": [], "metrics": [], **parts})
    return base.UsagePost(url, _HEADERS, body.encode())


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _environment(source: Source, meta: Mapping[str, Json]) -> str:
    """Return the environment of the token: by the published set, an option, or the token itself."""
    query = meta.get("query")
    stored = query.get("environment") if isinstance(query, dict) else None
    token = _TOKEN.fullmatch(source.credential.reveal())
    found = stored or source.options.get("environment") or (token[1] if token else "")
    if not isinstance(found, str) or not found:
        raise ConfigurationError(
            f"the environment of source {source.name!r} is unknown, so its usage cannot be "
            'reported: set the option "environment" in the SSM parameter '
            f"<prefix>/sources/{source.name}"
        )
    return found
