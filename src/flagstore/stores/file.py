"""Read flags from a file, with their rules: for tests, for local runs, and where all else fails.

A file holds what a provider's SDK gets from its provider, or what :meth:`Snapshot.export` gives:

==============  ===================================================================================
ours            ``{"provider": "split", "meta": {…}, "sections": {"flags": {…}, …}}``
LaunchDarkly    ``{"flags": {key: {…}}, "segments": {key: {…}}}``, or ``flagValues`` as in the data
                files of its SDKs: ``{"flagValues": {"new-checkout": true}}``
Split           ``{"ff": {"d": […]}, "rbs": {"d": […]}, "segments": {"beta": ["ada", "bob"]}}``
Unleash         ``{"features": […], "segments": […]}``
AppConfig       ``{"version": "1", "flags": {…}, "values": {…}}``
==============  ===================================================================================
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from flagstore.body import Body
from flagstore.encoding import encode
from flagstore.errors import CorruptSnapshotError, StoreUnavailableError
from flagstore.layout import Head, Key, Pulse, head_key, pieces_prefix, pulse_key
from flagstore.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.layout import Record

    Sections = dict[str, dict[str, Any]]


class Document(NamedTuple):
    """One flag set as it is in a file."""

    provider: str
    sections: Sections
    meta: dict[str, Any]


class FileReader:
    """A file as a store, read anew when it has changed: :class:`flagstore.stores.ReaderStore`."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._head: Head | None = None
        self._parts: Mapping[str, bytes] = {}

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return the pulse or the head."""
        del consistent, deadline
        head = self._current()
        source = key.namespace.partition(":")[0]
        if key == pulse_key(source):
            now = int(self._clock() * 1000)
            pulse = Pulse(head.ticket, head.ticket, head.ticket, head.digest, checked_at=now)
            return {**key._asdict(), **pulse._asdict()}
        return head.to_record(key) if key == head_key(source) else None

    def pieces(
        self, source: str, prefix: str, *, deadline: float, start: int = 0
    ) -> Iterator[bytes]:
        """Yield a large segment; bodies are never in pieces here."""
        del source, deadline
        if not start and prefix in self._parts:
            yield self._parts[prefix]

    def prepare(self) -> None:
        """Need nothing."""

    def close(self) -> None:
        """Keep nothing open."""

    def _current(self) -> Head:
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - pathlib costs a cold start 6 ms
            seen = (stat.st_mtime_ns, stat.st_size)
            if self._head is None or seen != self._seen:
                before = self._head.ticket if self._head else 0
                # A number that grows, also where the file's time goes back.
                ticket = max(before + 1, int(self._clock() * 1000))
                self._head, self._parts = _head(load(self._path), ticket, stat.st_mtime_ns)
                self._seen = seen
        except OSError as error:
            message = f"cannot read the flags in {self._path}: {error.strerror}"
            raise StoreUnavailableError(message) from error
        return self._head


def load(path: str) -> Document:
    """Read a file.

    Raises:
        CorruptSnapshotError: it is none of the documents above; says what is wrong.
        OSError: it cannot be read.
    """
    # With or without a mark at the beginning, which editors on Windows put there.
    with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123 - pathlib costs a cold start 6 ms
        text = file.read()
    try:
        return document(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        message = (
            f"{path} holds no flags that are known here ({type(error).__name__}: {error}): it must "
            "be a snapshot that was exported, or a document of one of the providers"
        )
        raise CorruptSnapshotError(message) from error


def document(content: dict[str, Any]) -> Document:
    """Tell whose document it is, and take it apart.

    Raises:
        ValueError: it is nobody's; or KeyError, TypeError where something in it is missing.
    """
    if isinstance(content.get("provider"), str) and "sections" in content:
        return Document(content["provider"], dict(content["sections"]), content.get("meta") or {})
    if "features" in content:
        meta: dict[str, Any] = {
            name: content[name] for name in ("version", "query") if name in content
        }
        flags = {feature["name"]: feature for feature in content["features"]}
        segments = {str(segment["id"]): segment for segment in content.get("segments") or ()}
        return Document("unleash", {"flags": flags, "segments": segments}, meta)
    if "ff" in content:
        return Document("split", _split(content), {})
    if "values" in content:
        sections = {"flags": dict(content["values"]), "definitions": dict(content["flags"])}
        return Document("appconfig", sections, {"format": "feature-flags"})
    if "flags" in content or "flagValues" in content:
        values = content.get("flagValues") or {}
        flags = {key: _always(key, value) for key, value in values.items()}
        flags.update(content.get("flags") or {})
        segments = dict(content.get("segments") or {})
        return Document("launchdarkly", {"flags": flags, "segments": segments}, {})
    message = f"it has {', '.join(sorted(content)[:8]) or 'nothing'}"
    raise ValueError(message)


def snapshot_of(path: str, source: str) -> Snapshot:
    """Return a file's flag set as a snapshot that is older than any in a store.

    Raises:
        CorruptSnapshotError: as of :func:`load`.
        OSError: it cannot be read.
    """
    stat = os.stat(path)  # noqa: PTH116 - pathlib costs a cold start 6 ms
    head, parts = _head(load(path), 0, stat.st_mtime_ns)
    body = Body(head.index_data, head.index_digest, head.body)
    in_hand = {part.data_digest: parts[part.prefix()] for part in body.large.values()}
    return Snapshot(source, head, body, lambda part: in_hand[part.data_digest], in_hand)


def _head(found: Document, ticket: int, changed_ns: int) -> tuple[Head, Mapping[str, bytes]]:
    """Return the head of a file's flag set, and its large segments by the prefix of their keys."""
    encoded = encode(found.sections, found.meta, ticket=ticket)
    head = Head(
        ticket=ticket,
        provider=found.provider,
        digest=encoded.digest,
        counts=encoded.counts,
        published_at=changed_ns // 1_000_000,
        index_data=encoded.index_data,
        index_digest=encoded.index_digest,
        body=encoded.blocks,
    )
    parts = {pieces_prefix(ticket, digest): data for digest, data in encoded.parts.items()}
    return head, parts


def _split(content: dict[str, Any]) -> Sections:
    def active(part: str) -> dict[str, Any]:
        items = (content.get(part) or {}).get("d") or ()
        return {item["name"]: item for item in items if item.get("status") == "ACTIVE"}

    segments = (content.get("segments") or {}).items()
    return {
        "flags": active("ff"),
        "rule_based_segments": active("rbs"),
        "segments": {name: {"name": name, "keys": sorted(set(keys))} for name, keys in segments},
    }


def _always(key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return a flag of LaunchDarkly's that has one value for everybody."""
    return {
        "key": key,
        "version": 1,
        "on": True,
        "variations": [value],
        "fallthrough": {"variation": 0},
    }
