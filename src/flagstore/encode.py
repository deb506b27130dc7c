"""Encode a flag set and its changes for a store, a file or Unleash's SDKs. No I/O.

:mod:`flagstore.codec` and :mod:`flagstore.deltas` decode them. Equal flag sets have the same
*content digest*, regardless of the order of items and keys: the sum of the items' hashes modulo
2^256, so that it can be updated from the items that changed. It reveals damage and mixed sets, but
not forgery: a forger could write the digest as well. The digests of bytes are in the body's index.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from flagstore.codec import LARGE_SECTION, Json, LargeSegment, dumps, short_digest, whole_digest
from flagstore.keys import CHUNK_BYTES

if TYPE_CHECKING:
    from flagstore.keys import SnapshotRecord, SourceState
    from flagstore.snapshot import Snapshot

    Sections = Mapping[str, Mapping[str, Any]]
    """Section → key → item."""

LARGE_BYTES = 32_768
"""A segment of more JSON bytes is a large one: about 1,000 keys."""
BLOCK_BYTES = 16_384
"""JSON bytes per block. With 1,000 real flags, 16 KB take 6 % more space than a single block, and
inflate in 34 µs; 8 KB take 11 % more."""
DELTAS_BYTES = 2_400
"""Maximum size of deltas: the source state then stays below 4 KB, which is half a read unit."""
DELTAS_JSON_BYTES = 32_768
"""Their maximum size before deflating: readers parse all of it."""
DAMAGED_DELTAS = zlib.error, AttributeError, LookupError, RecursionError, TypeError, ValueError
"""Raised while decoding damaged deltas, which are then ignored."""
_MODULUS = 1 << 256


class Encoded(NamedTuple):
    """A flag set, ready to be stored."""

    index_data: bytes
    index_digest: str
    blocks: bytes
    digest: str
    counts: str
    large_segments: Mapping[str, list[bytes]]
    """The ones to write: digest of the bytes → chunks of the deflated JSON."""


def encode(
    sections: Mapping[str, Mapping[str, Any]],
    meta: Mapping[str, Any],
    *,
    token: int = 0,
    known: Mapping[str, LargeSegment] | None = None,
    digest: str = "",
    replicas: int = 1,
) -> Encoded:
    """Encode a flag set.

    Args:
        sections: section → key → item; NaN and infinities raise ValueError.
        meta: the rest of the provider's document.
        token: fencing token of the publication.
        known: large segments of the published set; unchanged ones are reused.
        digest: the content digest, if already known.
        replicas: as for :func:`cut`.
    """
    large = {
        key: item
        for key, item in sections.get(LARGE_SECTION, {}).items()
        if len(dumps(item)) > LARGE_BYTES
    }
    large_segments, written = _segments(large, token, known or {}, replicas) if large else ({}, {})
    table: dict[str, list[list[Any]]] = {}
    body = bytearray()
    for section in sorted(sections):
        items = sections[section]
        if section == LARGE_SECTION and large:
            items = {key: item for key, item in items.items() if key not in large}
        entries = table.setdefault(section, [])
        dictionary = b""
        for first, lines in _blocks(items):
            text = ("{\n" + ",\n".join(lines) + "\n}").encode("ascii")
            deflate = zlib.compressobj(9, zdict=dictionary) if dictionary else zlib.compressobj(9)
            block = deflate.compress(text) + deflate.flush()
            dictionary = dictionary or text
            entries.append([first, len(body), len(block), short_digest(block)])
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
    large: Mapping[str, Any], token: int, known: Mapping[str, LargeSegment], replicas: int
) -> tuple[dict[str, LargeSegment], dict[str, list[bytes]]]:
    large_segments: dict[str, LargeSegment] = {}
    written: dict[str, list[bytes]] = {}
    for key in sorted(large):
        digest, before = item_digest(large[key]), known.get(key)
        if before and before.digest == digest and before.chunks % replicas == 0:
            large_segments[key] = before
            continue
        data = zlib.compress(dumps(large[key]).encode("ascii"), 6)
        data_digest = short_digest(data)
        written[data_digest] = cut(data, replicas)
        large_segments[key] = LargeSegment(digest, data_digest, token, len(written[data_digest]))
    return large_segments, written


def cut(data: bytes, replicas: int) -> list[bytes]:
    """Split a body or large segment into chunks of one size that fit one record each.

    The more replicas, the smaller the chunks: each is in a partition of its own, which then serves
    as many more readers.
    """
    number = replicas * max(1, ceil(len(data) / CHUNK_BYTES))
    size = max(1, ceil(len(data) / number))
    return [data[at : at + size] for at in range(0, len(data), size)]


def canonical(item: Json) -> str:
    """Return one item as JSON with sorted keys."""
    return json.dumps(item, separators=(",", ":"), allow_nan=False, sort_keys=True)


def content_digest(
    sections: "Sections",
    meta: Mapping[str, Any] | None = None,
    *,
    digest: str = "0",
    replaced: "Sections | None" = None,
) -> str:
    """Return the digest of a flag set's content, regardless of the order of items and keys.

    Of the whole set, with *meta*; or of a changed one, from the *digest* before the change, the
    items that it *replaced* and the items that it added.
    """
    whole = int(digest, 16)
    if meta is not None:
        sections = {**sections, "": {"": dict(meta)}}
    for found, sign in ((replaced or {}, -1), (sections, 1)):
        for section, items in found.items():
            for key, item in items.items():
                text = f"{dumps([section, key])}{canonical(item)}"
                whole += sign * int.from_bytes(sha256(text.encode()).digest(), "big")
    return f"{whole % _MODULUS:064x}"


def item_digest(item: Json) -> str:
    """Return the digest of one item's content, regardless of the order of its keys."""
    return short_digest(canonical(item).encode())


def extend_deltas(
    state: "SourceState",
    record: "SnapshotRecord",
    old: "Sections",
    new: "Sections",
    changed: Iterable[tuple[str, str]],
) -> bytes | None:
    """Return the deltas with those of one more publication, and without the oldest if need be.

    None if its changes are too large, or are not all there is: readers then load the snapshot.

    Args:
        state: the source state before it, whose set is *old*.
        record: its snapshot record.
        old: without large segments.
        new: with large segments.
        changed: section and key of each item that was changed, added or removed.
    """
    before: dict[str, dict[str, Any]] = {}
    items: dict[str, dict[str, Any]] = {}
    removed: dict[str, list[str]] = {}
    for section, key in changed:
        if key in old.get(section, {}):
            before.setdefault(section, {})[key] = old[section][key]
        if key in new.get(section, {}):
            items.setdefault(section, {})[key] = new[section][key]
        else:
            removed.setdefault(section, []).append(key)
    base: list[Any] = [state.published, state.nonce]
    links = [base]
    if state.deltas:
        with suppress(*DAMAGED_DELTAS):
            earlier = read_deltas(state.deltas)
            links = earlier if earlier[-1][:2] == base else links
    identity = record.token, record.nonce, record.digest, record.published_at, record.revision
    links.append([*identity, items, removed])
    # Alone first, as all flags may have changed: fitting that into the chain would take seconds.
    found, last = None, len(links) - 2
    for first in (last, *range(last)):
        try:
            text = dumps([links[first][:2], *links[first + 1 :]]).encode()
        except RecursionError:
            break
        data = zlib.compress(text, 9) if len(text) <= DELTAS_JSON_BYTES else text
        fits = len(data) <= DELTAS_BYTES
        found = data if fits else found
        if fits == (first < last):  # it does not fit alone, or this is the longest chain that does
            break
    if found is None or old.keys() != new.keys():
        return None
    # Otherwise, the rest of the document or a large segment changed.
    same = content_digest(items, digest=state.digest, replaced=before) == record.digest
    return found if same else None


def read_deltas(data: bytes) -> list[list[Any]]:
    """Return deltas as JSON; raise one of ``DAMAGED_DELTAS`` if they are damaged or too large."""
    # Not zlib.decompress: a few KB could inflate to gigabytes.
    links: list[list[Any]] = json.loads(zlib.decompressobj().decompress(data, DELTAS_JSON_BYTES))
    return links


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
