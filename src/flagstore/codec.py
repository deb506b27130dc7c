"""The format of a snapshot's body, and how to decode one flag of it. No I/O.

The body is a sequence of *blocks*. A block is a JSON object of adjacent items of one section,
one item per line, deflated on its own: one flag is decoded without inflating or parsing the rest.
The first block of a section is the preset dictionary of its others, which takes 16 to 50 % off.
The *index* has the first key, place and digest of each block; the snapshot record has the digest
of the index. So a digest covers every byte that is read. The index::

    {"meta": {…}, "large": {key: LargeSegment, …},
     "sections": {"flags": [[first key, offset, length, digest], …], …}}

A large segment is not in the blocks: it has chunks of its own, which the index names. They are read
when a flag first needs the segment, and shared by publications while it stays the same.

:mod:`flagstore.encode` is for writers: a reader's cold start does not pay for it.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flagstore.errors import CorruptSnapshotError
from flagstore.keys import chunks_prefix

Json = Any
"""Any JSON value."""
LARGE_SECTION = "segments"
"""The section whose items may be large segments."""
KEPT_BLOCKS = 64
"""Maximum number of inflated blocks kept in memory (1 MB): engines keep compiled flags, so most
blocks are decoded once. All blocks of 10,000 flags would take 9 MB."""
MAX_INFLATED_BYTES = 134_217_728
"""Nothing that a writer accepts is larger, and some MB of it could inflate to gigabytes."""

_first_value = json.JSONDecoder().raw_decode
"""Parses one JSON value at the start of a string; returns it and its end."""


def dumps(item: Json) -> str:
    """Return one item as compact ASCII JSON, keys unsorted; no NaN or infinity."""
    return json.dumps(item, separators=(",", ":"), allow_nan=False)


class LargeSegment(NamedTuple):
    """A large segment's entry in the index."""

    digest: str
    """Of its content, regardless of the order of keys."""
    data_digest: str
    """Of the bytes of its chunks, joined."""
    token: int
    """Of the publication that wrote it."""
    chunks: int

    def prefix(self) -> str:
        """Return the prefix of its chunks' keys."""
        return chunks_prefix(self.token, self.data_digest)


def whole_digest(data: bytes) -> str:
    """Return SHA-256 in hex."""
    from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, 3 ms: not on import

    return sha256(data).hexdigest()


def short_digest(data: bytes) -> str:
    """Return 128 bits of SHA-256 in hex: an index has one per block."""
    return whole_digest(data)[:32]


def decode_segment(segment: LargeSegment, data: bytes) -> Json:
    """Decode a large segment; raise CorruptSnapshotError if its bytes do not match the digest."""
    if short_digest(data) != segment.data_digest:
        raise CorruptSnapshotError(
            "a large segment does not match its digest, or chunks of it are missing"
        )
    return json.loads(_inflate(data))


def _inflate(data: bytes, dictionary: bytes = b"") -> bytes:
    inflater = zlib.decompressobj(zdict=dictionary)
    found = inflater.decompress(data, MAX_INFLATED_BYTES)
    if not inflater.eof:
        raise CorruptSnapshotError(f"a part of the body has more than {MAX_INFLATED_BYTES} bytes")
    return found


def read_index(index_data: bytes, index_digest: str) -> dict[str, Any]:
    """Return the index; raise CorruptSnapshotError if it does not match its digest."""
    if whole_digest(index_data) != index_digest:
        raise CorruptSnapshotError("the index does not match the digest in the snapshot record")
    index: dict[str, Any] = json.loads(_inflate(index_data))
    return index


class Body:
    """An encoded flag set; decodes one block at a time, when it is needed.

    Thread-safe: a block is the same whichever thread inflates it.
    """

    __slots__ = (
        "_blocks",
        "_data",
        "_dictionaries",
        "_firsts",
        "_overlay",
        "large",
        "meta",
        "sections",
    )

    def __init__(self, index: bytes, index_digest: str, data: bytes) -> None:
        """Verify all digests now; raise CorruptSnapshotError if one does not match."""
        parsed = read_index(index, index_digest)
        self.meta: dict[str, Any] = parsed["meta"]
        self.sections: dict[str, list[list[Any]]] = parsed["sections"]
        """Section name → its blocks, as in the index."""
        self.large = {key: LargeSegment(*entry) for key, entry in parsed.get("large", {}).items()}
        self._firsts = {name: [e[0] for e in entries] for name, entries in self.sections.items()}
        self._data = data
        self._blocks: dict[int, str] = {}
        self._dictionaries: dict[str, bytes] = {}
        self._overlay: dict[str, dict[str, str | None]] = {}
        """Section → key → item as JSON, None if it was removed: changes after the blocks."""
        for name, entries in self.sections.items():
            for first, offset, length, digest in entries:
                if short_digest(data[offset : offset + length]) != digest:
                    raise CorruptSnapshotError(
                        f"the block of {name} from {first!r} on does not match its digest"
                    )

    def changed(self, sections: Mapping[str, Mapping[str, str | None]]) -> "Body":
        """Return the body with other items as JSON, None for those that were removed.

        Both share the blocks. Large segments stay as they are.
        """
        other = object.__new__(Body)
        for name in Body.__slots__:
            setattr(other, name, getattr(self, name))
        other._overlay = {**self._overlay}
        for name, texts in sections.items():
            overlay = other._overlay[name] = {**self._overlay.get(name, {}), **texts}
            for key, text in texts.items():
                if text is None and self._stored(name, key) is None:
                    del overlay[key]  # keys that come and go must not add up
        return other

    def _block(self, section: str, entry: Sequence[Any]) -> str:
        offset: int = entry[1]
        blocks = self._blocks
        text = blocks.get(offset)
        if text is None:
            packed, first = self._data[offset : offset + entry[2]], self.sections[section][0]
            dictionary = self._dictionaries.get(section)
            if dictionary is None:
                dictionary = _inflate(self._data[first[1] : first[1] + first[2]])
                self._dictionaries[section] = dictionary
            data = dictionary
            if entry is not first:
                data = _inflate(packed, dictionary)
            text = data.decode("ascii")
            if len(blocks) >= KEPT_BLOCKS:
                blocks = self._blocks = {}
            blocks[offset] = text
        return text

    def _lines(self, section: str, entry: Sequence[Any]) -> Iterator[tuple[str, str]]:
        """Yield key and item as JSON, without parsing items: all at once take much memory."""
        for line in self._block(section, entry).split("\n")[1:-1]:
            key, end = _first_value(line)
            yield key, line[end + 1 :].removesuffix(",")

    def text(self, section: str, key: str) -> str | None:
        """Return one item as JSON; None if there is none."""
        if self._overlay:
            changed = self._overlay.get(section, {})
            if key in changed:
                return changed[key]
        return self._stored(section, key)

    def _stored(self, section: str, key: str) -> str | None:
        firsts = self._firsts.get(section, [])
        place = bisect_right(firsts, key) - 1
        if place < 0:
            return None
        block = self._block(section, self.sections[section][place])
        # One item per line, and JSON has no raw line ends: nothing else can match.
        label = f"\n{json.dumps(key)}:"
        start = block.find(label)
        if start < 0:
            return None
        start += len(label)
        return block[start : block.index("\n", start)].removesuffix(",")

    def texts(self, section: str) -> dict[str, str]:
        """Return all items of a section as JSON, except large ones, in key order."""
        found: dict[str, str] = {}
        for entry in self.sections.get(section, ()):
            found.update(self._lines(section, entry))
        return self._with_changes(section, found, str) if self._overlay else found

    def items(self, section: str) -> dict[str, Any]:
        """Return all items of a section except large ones, in key order."""
        found: dict[str, Any] = {}
        for entry in self.sections.get(section, ()):
            found.update(json.loads(self._block(section, entry)))
        return self._with_changes(section, found, json.loads) if self._overlay else found

    def _with_changes(
        self, section: str, found: dict[str, Any], decode: Callable[[str], Any]
    ) -> dict[str, Any]:
        for key, text in self._overlay.get(section, {}).items():
            if text is None:
                found.pop(key, None)
            else:
                found[key] = decode(text)
        return dict(sorted(found.items()))

    def differing(self, other: "Body", section: str) -> set[str]:
        """Return the keys of a section's items that differ between two bodies.

        Shared blocks are not decoded.
        """
        mine, theirs = self.sections.get(section, ()), other.sections.get(section, ())
        here: dict[str, str | None] = {}
        there: dict[str, str | None] = {}
        ours, others = self._overlay.get(section, {}), other._overlay.get(section, {})  # noqa: SLF001 - own class
        changed: Iterable[str] = {**ours, **others}
        if mine is theirs:  # an overlay may hold thousands of items: skip those that are shared
            changed = [key for key in changed if ours.get(key, 0) is not others.get(key, 0)]
        else:
            # The first block is the dictionary of the others, whose digests cover 32 bits of it.
            same = mine[0][3] == theirs[0][3] if mine and theirs else False
            shared = {e[3] for e in mine} & {e[3] for e in theirs} if same else set()
            here, there = (body._besides(section, shared) for body in (self, other))  # noqa: SLF001
        for key in changed:
            here[key], there[key] = self.text(section, key), other.text(section, key)
        if section == LARGE_SECTION:
            here |= {key: segment.digest for key, segment in self.large.items()}
            there |= {key: segment.digest for key, segment in other.large.items()}
        return {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)}

    def _besides(self, section: str, digests: set[str]) -> dict[str, str | None]:
        """Return the items of other blocks as JSON strings, since in Python 1 == 1.0 == True."""
        found: dict[str, str | None] = {}
        for entry in self.sections.get(section, ()):
            if entry[3] not in digests:
                found.update(self._lines(section, entry))
        return found

    def keys(self, section: str) -> list[str]:
        """Return the sorted keys of a section, large items included."""
        found: dict[str, Any] = dict.fromkeys(self.large if section == LARGE_SECTION else ())
        for entry in self.sections.get(section, ()):
            found.update(self._lines(section, entry))
        return sorted(self._with_changes(section, found, str) if self._overlay else found)
