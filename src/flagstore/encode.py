"""Encode a flag set for a store, a file or Unleash's SDKs. No I/O.

:mod:`flagstore.codec` decodes it. Equal flag sets have the same *content digest*, regardless of the
order of items and keys; the digests of bytes are in the body's index.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from flagstore.codec import LARGE_SECTION, Json, LargeSegment, dumps, short_digest, whole_digest
from flagstore.keys import CHUNK_BYTES

if TYPE_CHECKING:
    from flagstore.snapshot import Snapshot

LARGE_BYTES = 32_768
"""A segment of more JSON bytes is a large one: about 1,000 keys."""
BLOCK_BYTES = 16_384
"""JSON bytes per block. With 1,000 real flags, 16 KB take 27 % more space than a single block, and
inflate in 26 µs; 4 KB take 88 % more."""


class Encoded(NamedTuple):
    """A flag set, ready to be stored."""

    index_data: bytes
    index_digest: str
    blocks: bytes
    digest: str
    counts: str
    large_segments: Mapping[str, bytes]
    """The ones to write: digest of the bytes → deflated JSON."""


def encode(
    sections: Mapping[str, Mapping[str, Any]],
    meta: Mapping[str, Any],
    *,
    token: int = 0,
    known: Mapping[str, LargeSegment] | None = None,
    digest: str = "",
) -> Encoded:
    """Encode a flag set.

    Args:
        sections: section → key → item; NaN and infinities raise ValueError.
        meta: the rest of the provider's document.
        token: fencing token of the publication.
        known: large segments of the published set; unchanged ones are reused.
        digest: the content digest, if already known.
    """
    large = {
        key: item
        for key, item in sections.get(LARGE_SECTION, {}).items()
        if len(dumps(item)) > LARGE_BYTES
    }
    large_segments, written = _segments(large, token, known or {}) if large else ({}, {})
    table: dict[str, list[list[Any]]] = {}
    body = bytearray()
    for section in sorted(sections):
        items = sections[section]
        if section == LARGE_SECTION and large:
            items = {key: item for key, item in items.items() if key not in large}
        entries = table.setdefault(section, [])
        for first, lines in _blocks(items):
            block = zlib.compress(("{\n" + ",\n".join(lines) + "\n}").encode("ascii"), 9)
            entries.append([first, len(body), len(block), short_digest(block), len(lines)])
            body += block
    named = {"meta": dict(meta), "sections": table, "large": large_segments}
    index = zlib.compress(dumps(named).encode(), 9)
    counts = {section: len(items) for section, items in sorted(sections.items())}
    digest = digest or content_digest(sections, meta)
    return Encoded(index, whole_digest(index), bytes(body), digest, dumps(counts), written)


def _blocks(items: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the first key and the lines of each block, in key order."""
    lines: list[str] = []
    first, size = "", 0
    for key in sorted(items):
        if not lines:
            first = key
        lines.append(f"{json.dumps(key)}:{dumps(items[key])}")
        size += len(lines[-1])
        if size >= BLOCK_BYTES:
            yield first, lines
            lines, size = [], 0
    if lines:
        yield first, lines


def _segments(
    large: Mapping[str, Any], token: int, known: Mapping[str, LargeSegment]
) -> tuple[dict[str, LargeSegment], dict[str, bytes]]:
    large_segments: dict[str, LargeSegment] = {}
    written: dict[str, bytes] = {}
    for key in sorted(large):
        digest = item_digest(large[key])
        if key in known and known[key].digest == digest:
            large_segments[key] = known[key]
            continue
        data = zlib.compress(dumps(large[key]).encode("ascii"), 6)
        data_digest = short_digest(data)
        large_segments[key] = LargeSegment(digest, data_digest, token, len(cut(data)))
        written[data_digest] = data
    return large_segments, written


def cut(data: bytes) -> list[bytes]:
    """Split a body or large segment into chunks that fit one record each."""
    return [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]


def canonical(item: Json) -> str:
    """Return one item as JSON with sorted keys."""
    return json.dumps(item, separators=(",", ":"), allow_nan=False, sort_keys=True)


def content_digest(sections: Mapping[str, Mapping[str, Any]], meta: Mapping[str, Any]) -> str:
    """Return the digest of a flag set's content, regardless of the order of items and keys."""
    whole = sha256(canonical(dict(meta)).encode())
    for section in sorted(sections):
        items = sections[section]
        for key in sorted(items):
            whole.update(f"\n{dumps([section, key])}{canonical(items[key])}".encode())
    return whole.hexdigest()


def item_digest(item: Json) -> str:
    """Return the digest of one item's content, regardless of the order of its keys."""
    return short_digest(canonical(item).encode())


def unleash_document(snapshot: "Snapshot") -> str:
    """Return the response of an Unleash server to its SDKs (``/api/client/features``), as JSON.

    An SDK accepts it as a bootstrap, or from its cache: see :mod:`flagstore.adapters.unleash`.

    Raises:
        ConfigurationError: if the snapshot belongs to another provider.
        NotLoadedError: if a large segment cannot be read now.
    """
    snapshot.check_provider("unleash", "Unleash")
    # Segments first: if a large one cannot be read now, no work on the features is wasted.
    segments = snapshot.texts("segments").values()
    features = snapshot.texts("flags").values()
    return unleash_text(snapshot.meta, features=features, segments=segments)


def unleash_text(meta: Mapping[str, Any], **lists: Iterable[str]) -> str:
    """Return that document from the JSON of features, and of segments, both sorted by key."""
    document = {name: meta[name] for name in ("version", "query") if name in meta}
    parts = [f'"{name}":[{",".join(items)}]' for name, items in lists.items()]
    return f"{{{','.join(filter(None, [dumps(document)[1:-1], *parts]))}}}"
