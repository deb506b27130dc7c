"""The queues that Split's SDKs fill in Redis, as the requests that Split's Synchronizer makes.

Pure. The rules are those of split-synchronizer 5 (``producer/task``) and go-split-commons
(``dtos``, ``provisional/strategy``) in the mode OPTIMIZED, its default:

``impressions``
    ``{"m": metadata, "i": impression}`` → ``POST testImpressions/bulk``, per metadata. Of equal
    impressions in one hour only the first is posted. Each that had a predecessor adds one to the
    hour's count of its flag, and names its predecessor's time if it is posted. Impressions with
    properties are all posted.
``events``
    ``{"m": metadata, "e": event}`` → ``POST events/bulk``, likewise
``uniquekeys``
    ``{"f": flag, "ks": keys}``, or a list of these → ``POST keys/ss`` on the telemetry host
``impressions.count``
    ``<flag>::<milliseconds> <count>``, from a hash → ``POST testImpressions/count``
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from flagstore import __version__
from flagstore.codec import dumps
from storesync.providers.base import usage_endpoint
from storesync.providers.split_usage import HOSTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from storesync.model import Json, Source

COUNTS = "impressions.count"
QUEUES = ("impressions", "events", "uniquekeys", COUNTS)
"""In the order in which they are posted: deduplicated impressions become counts."""
SYNCHRONIZER = ("hash", "splits.till")
"""Keys that Split's Synchronizer writes: at its start, and with each change of a flag."""
TELEMETRY = tuple(f"telemetry.{kind}" for kind in ("init", "config", "latencies", "exceptions"))
"""Metrics of the SDKs about themselves, which are not posted."""

TELEMETRY_HOSTS = {"sdk.split.io": "telemetry.split.io"}
HOUR_MS = 3_600_000
MAX_KEYS = 5_000
"""Unique keys in one request, as in Split's SDKs."""
MAX_HEADER = 256
_SUCCESS, _REFUSED = range(200, 300), range(400, 500)
_UNKNOWN = {"", "NA", "unknown"}
_FIXABLE = {401, 403, 404, 408, 425, 429}
"""Statuses of requests that may succeed later, some after the operator's fix."""

Metadata = tuple[str, str, str]
"""Version, machine name and IP address of an SDK."""
Seen = dict[int, int]
"""Hash of an impression without its time → the time of the last one."""


@dataclass(eq=False, slots=True)
class Post:
    """One request, and the entries of the queue that it delivers."""

    path: str
    headers: dict[str, str]
    entries: list[bytes] = field(default_factory=list)
    body: bytes = b""
    """Empty if all its impressions are counted instead."""
    counts: Counter[str] = field(default_factory=Counter)
    """Counts to add once it is delivered, by field of ``impressions.count``."""


class Outcome(Enum):
    """The outcome for the entries of a request."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """They would be refused again, and are dropped."""
    KEPT = "kept"
    """They return to the queue."""


def url(source: Source, path: str) -> str:
    """Return the URL of a request: on Split's hosts, or below a Split Proxy's ``base_url``."""
    if path == "keys/ss":
        return usage_endpoint(source, TELEMETRY_HOSTS, f"/v1/{path}")
    return usage_endpoint(source, HOSTS, f"/{path}")


def outcome(status: int) -> Outcome:
    """Return the outcome for a request's entries, by its status."""
    if status in _SUCCESS:
        return Outcome.DELIVERED
    return Outcome.REFUSED if status in _REFUSED and status not in _FIXABLE else Outcome.KEPT


def posts(queue: str, entries: Sequence[bytes], seen: Seen) -> list[Post]:
    """Return the requests that deliver the entries of a queue, malformed ones left out.

    *seen* holds the impressions that this run has delivered, and is updated.
    """
    parsed = ((raw, _parse(raw, queue)) for raw in entries)
    known = [(raw, value) for raw, value in parsed if value is not None]
    build: dict[str, Callable[[list[Any]], Iterator[Post]]] = {
        "impressions": partial(_impressions, seen=seen),
        "events": _events,
        "uniquekeys": _unique_keys,
        COUNTS: _counts,
    }
    return list(build[queue](known))


# -- parsing --------------------------------------------------------------------------------------


def _parse(raw: bytes, queue: str) -> Json:
    """Return the content of an entry, or None if it is malformed."""
    try:
        if queue == COUNTS:
            name, _, count = raw.decode().rpartition(" ")
            flag, _, hour = name.rpartition("::")
            return {"f": flag, "m": int(hour), "rc": int(count)} if flag else None
        value = json.loads(raw)
        dumps([[[value]]])  # as it is posted: neither infinity nor too deep
    except (ValueError, RecursionError):
        return None
    if queue == "uniquekeys":
        flags = value if isinstance(value, list) else [value]
        return flags if all(map(_is_flags_keys, flags)) else None
    content = value.get("i" if queue == "impressions" else "e") if isinstance(value, dict) else None
    if not isinstance(content, dict) or (queue == "impressions" and not _is_impression(content)):
        return None
    return content, _metadata(value.get("m"))


def _is_impression(value: dict[str, Any]) -> bool:
    named = all(isinstance(value.get(field), str) for field in ("k", "f", "t"))
    # The flag's name becomes part of a field in Redis.
    encodable = named and not any("\ud800" <= letter <= "\udfff" for letter in value["f"])
    return encodable and isinstance(value.get("m"), int)


def _is_flags_keys(value: Json) -> bool:
    keys = value.get("ks") if isinstance(value, dict) else None
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return named and isinstance(value.get("f"), str)


def _metadata(value: Json) -> Metadata:
    """Return the metadata, checked for headers: anyone who writes to the queue can write it."""
    fields = value if isinstance(value, dict) else {}
    version, name, ip = (_header(fields.get(field)) for field in ("s", "n", "i"))
    return version or f"flagstore-{__version__}", name, ip


def _header(value: Json) -> str:
    text = value.strip() if isinstance(value, str) else ""
    sendable = text.isascii() and text.isprintable() and len(text) <= MAX_HEADER
    return text if sendable and text not in _UNKNOWN else ""


# -- requests -------------------------------------------------------------------------------------


def _post(path: str, metadata: Metadata | None = None, **headers: str) -> Post:
    version, name, ip = metadata or _metadata(None)
    headers = {"Content-Type": "application/json", "SplitSDKVersion": version, **headers}
    headers |= {"SplitSDKMachineName": name} if name else {}
    headers |= {"SplitSDKMachineIP": ip} if ip else {}
    return Post(path, headers)


def _impressions(
    entries: Iterable[tuple[bytes, tuple[dict[str, Any], Metadata]]], seen: Seen
) -> Iterator[Post]:
    mode = {"SplitSDKImpressionsMode": "OPTIMIZED"}
    posts: dict[Metadata, tuple[Post, dict[str, list[Json]]]] = {}
    for raw, (impression, metadata) in entries:
        if metadata not in posts:
            posts[metadata] = _post("testImpressions/bulk", metadata, **mode), {}
        post, flags = posts[metadata]
        post.entries.append(raw)
        flag, time = impression["f"], impression["m"]
        sent = {name: impression[name] for name in ("k", "t", "m")}
        sent |= {"c": impression.get("c") or 0, "r": impression.get("r") or ""}
        sent |= {name: impression[name] for name in ("b", "properties") if impression.get(name)}
        if "properties" not in sent:
            same = hash((flag, *map(str, (sent[name] for name in ("k", "t", "c", "r")))))
            previous, seen[same] = seen.get(same), time
            if previous is not None:
                hour = time - time % HOUR_MS
                post.counts[f"{flag}::{hour}"] += 1
                if previous - previous % HOUR_MS == hour:
                    continue
                sent["pt"] = previous
        flags.setdefault(flag, []).append(sent)
    for post, flags in posts.values():
        listed = [{"f": flag, "i": impressions} for flag, impressions in flags.items()]
        post.body = dumps(listed).encode() if listed else b""
        yield post


def _events(entries: Iterable[tuple[bytes, tuple[Json, Metadata]]]) -> Iterator[Post]:
    posts: dict[Metadata, tuple[Post, list[Json]]] = {}
    for raw, (event, metadata) in entries:
        post, events = posts.setdefault(metadata, (_post("events/bulk", metadata), []))
        post.entries.append(raw)
        events.append(event)
    for post, events in posts.values():
        post.body = dumps(events).encode()
        yield post


def _unique_keys(entries: Iterable[tuple[bytes, list[Json]]]) -> Iterator[Post]:
    post, flags = _post("keys/ss"), dict[str, dict[str, None]]()
    number = 0
    for raw, listed in entries:
        size = sum(len(each["ks"]) for each in listed)
        if post.entries and number + size > MAX_KEYS:
            yield _with_keys(post, flags)
            post, flags, number = _post("keys/ss"), {}, 0
        number += size
        post.entries.append(raw)
        for each in listed:
            flags.setdefault(each["f"], {}).update(dict.fromkeys(each["ks"]))
    if post.entries:
        yield _with_keys(post, flags)


def _with_keys(post: Post, flags: dict[str, dict[str, None]]) -> Post:
    keys = [{"f": flag, "ks": list(keys)} for flag, keys in flags.items()]
    post.body = dumps({"keys": keys}).encode()
    return post


def _counts(entries: list[tuple[bytes, Json]]) -> Iterator[Post]:
    if entries:
        post = _post("testImpressions/count")
        post.entries = [raw for raw, _ in entries]
        post.body = dumps({"pf": [count for _, count in entries]}).encode()
        yield post
