"""LaunchDarkly: usage lines as summary events, as its server-side SDKs send them (schema 4)."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING
from uuid import UUID, uuid5
from zlib import crc32

from flagstore.codec import dumps
from flagstore.exposures import DEBUG, FEATURE, INDEX
from flagstore.lines import EVENT
from storesync.providers import base
from storesync.usage_lines import EventLine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from storesync.model import Json, Source
    from storesync.usage_lines import AnyLine, Cell, Line

_HOSTS = {
    **{f"{name}.launchdarkly.com": "events.launchdarkly.com" for name in ("sdk", "app")},
    **{f"{name}.eu.launchdarkly.com": "events.eu.launchdarkly.com" for name in ("sdk", "app")},
    **{f"{name}.launchdarkly.us": "events.launchdarkly.us" for name in ("sdk", "app")},
}
_PAYLOADS = UUID("9f8b1a52-6f0f-4b1e-9c63-2f6f5a3b7d10")


class LaunchDarklyUsage(base.UsageApi):
    """Posts lines one by one: the payload ID, made from the line's, identifies duplicates.

    Callers' defaults are not known, and so neither are the values of flags without a variation.
    """

    max_lines = 1
    max_bytes = 1_000_000
    repeatable = True

    def report(
        self, source: Source, lines: Sequence[AnyLine], published: base.Published
    ) -> base.UsagePost | None:
        """Return one summary event, or the events of one line."""
        (line,) = lines
        if isinstance(line, EventLine):
            events = list(_events(line, published))
        else:
            events = list(_summaries(line, published))
        if not events:
            return None
        headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "X-LaunchDarkly-Event-Schema": "4",
            "X-LaunchDarkly-Payload-ID": str(uuid5(_PAYLOADS, line.id)),
        }
        url = base.usage_endpoint(source, _HOSTS, "/bulk")
        return base.UsagePost(url, headers, gzip.compress(dumps(events).encode(), mtime=0))


def _summaries(line: Line, published: base.Published) -> Iterator[Json]:
    features = {}
    for key, cells in line.flags.items():
        flag = published.flag(key)
        if (flag or {}).get("excludeFromSummaries") is True:
            continue
        counters = [_counter(cell, flag) for cell in cells]
        kinds = list(line.kinds)
        features[key] = {"default": None, "contextKinds": kinds, "counters": counters}
    if features:
        times = {"startDate": 1000 * line.first, "endDate": 1000 * line.last}
        yield {"kind": "summary", **times, "features": features}


def _counter(cell: Cell, flag: Json | None) -> dict[str, Json]:
    if cell.detail is None:
        return {"count": cell.number, "value": None, "unknown": True}
    if cell.result is None:
        return {"count": cell.number, "value": None, "version": cell.detail}
    counter = {"count": cell.number, "variation": cell.result, "version": cell.detail}
    variations = (flag or {}).get("variations") or []
    return {**counter, "value": variations[cell.result] if cell.result < len(variations) else None}


# -- exposures and tracked events


def _events(line: EventLine, published: base.Published) -> Iterator[Json]:
    """Yield the events of a line; ``what`` is as in :mod:`flagstore.exposures`."""
    for number, (place, at, what, *rest) in enumerate(line.entries):
        context = line.contexts[place]
        if what & INDEX:
            yield {"kind": "index", "creationDate": at, "context": context}
        if line.marker == EVENT and rest:
            yield _custom(at, _anonymized(context), *rest)
        elif rest:
            flag = published.flag(rest[0])
            if not _is_sampled((flag or {}).get("samplingRatio"), line.id, number):
                continue
            evaluation = _evaluation(at, rest, flag)
            if what & FEATURE:
                yield {"kind": "feature", **evaluation, "context": _anonymized(context)}
            if what & DEBUG:
                yield {"kind": "debug", **evaluation, "context": context}


def _custom(at: int, context: Json, name: Json, value: Json, data: Json) -> Json:
    event = {"kind": "custom", "creationDate": at, "key": name, "context": context}
    event |= {} if data is None else {"data": data}
    return event | ({} if value is None else {"metricValue": value})


def _evaluation(at: int, rest: list[Json], flag: Json | None) -> dict[str, Json]:
    key, variation, version, reason, parent = rest
    variations = (flag or {}).get("variations") or []
    known = variation is not None and variation < len(variations)
    optional = {"version": version, "variation": variation, "reason": reason}
    return {
        "creationDate": at,
        "key": key,
        "value": variations[variation] if known else None,
        "default": None,
        **{name: value for name, value in optional.items() if value is not None},
        **({"prereqOf": parent} if parent else {}),
    }


def _is_sampled(ratio: Json, line_id: str, number: int) -> bool:
    """Return whether an event is sent, the same each time: one in *ratio* on average."""
    if ratio is None or ratio == 1:
        return True
    if not isinstance(ratio, int) or ratio <= 0:
        return False
    return crc32(f"{line_id}/{number}".encode()) % ratio == 0


def _anonymized(context: Json) -> Json:
    """Return a context without the attributes of anonymous parts, as in feature events."""
    if context.get("kind") == "multi":
        return {k: _anonymized(v) if isinstance(v, dict) else v for k, v in context.items()}
    if context.get("anonymous") is not True:
        return context
    kept = {name: context[name] for name in ("kind", "key", "anonymous") if name in context}
    meta = context.get("_meta")
    listed = meta.get("redactedAttributes") if isinstance(meta, dict) else None
    redacted = [*listed] if isinstance(listed, list) else []
    redacted += [name for name in context if name not in {*kept, "_meta"}]
    return {**kept, "_meta": {"redactedAttributes": redacted}} if redacted else kept
