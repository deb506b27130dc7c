"""The format of a snapshot's body."""

from __future__ import annotations

import json
import math
import random
import zlib
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagstore import keys
from flagstore.codec import (
    KEPT_BLOCKS,
    Body,
    LargeSegment,
    decode_segment,
    short_digest,
    whole_digest,
)
from flagstore.encode import BLOCK_BYTES, Encoded, canonical, content_digest, cut, encode
from flagstore.errors import CorruptSnapshotError


def parsed(text: str) -> str:
    """Return a text as parsing JSON would: a pair of surrogates is one character there."""
    return str(json.loads(json.dumps(text)))


ODD = st.sampled_from(["", "\r\n", "a\udfff", *'"\\\n\u2028\x00\x7f\ud800😀{},'])
TEXTS = (
    st.text(st.characters(codec=None, categories=None), max_size=12).map(parsed)
    | ODD
    | st.lists(ODD, max_size=4).map("".join).map(parsed)
)
NUMBERS = (
    st.integers()
    | st.sampled_from([-0.0, 1e308, -1e308, 5e-324, 0.1, 2**53 + 1, 10**400, -(10**400)])
    | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
ITEMS = st.dictionaries(TEXTS, JSON, max_size=8)


def opened(encoded: Encoded) -> Body:
    return Body(encoded.index_data, encoded.index_digest, encoded.blocks)


def get(body: Body, section: str, key: str) -> Any:
    text = body.text(section, key)
    return None if text is None else json.loads(text)


def same(one: Any, other: Any) -> bool:
    """Compare as JSON texts: 1, 1.0, True and -0.0 are four things, and keys have an order."""
    return json.dumps(one) == json.dumps(other)


def many(count: int = 600, size: int = 100) -> dict[str, Any]:
    """Return flags that fill several blocks."""
    return {f"flag-{number:04d}": {"on": True, "text": "x" * size} for number in range(count)}


@given(ITEMS, ITEMS, st.dictionaries(TEXTS, JSON, max_size=2), TEXTS)
def test_any_json_round_trips_byte_for_byte(
    flags: dict[str, Any], segments: dict[str, Any], meta: dict[str, Any], other: str
) -> None:
    """Any JSON is read back as it was written, alone or with others; no other key is found."""
    body = opened(encode({"flags": flags, "segments": segments}, meta))
    assert same(body.meta, meta)
    for section, items in (("flags", flags), ("segments", segments)):
        assert len(body.keys(section)) == len(items)
        assert body.keys(section) == sorted(items)
        assert same(body.items(section), dict(sorted(items.items())))
        texts = {key: body.text(section, key) for key in sorted(items)}
        assert list(body.texts(section).items()) == list(texts.items())
        for key, item in items.items():
            assert same(get(body, section, key), item)
    for name in {other, other + "x", other[:-1], f'{other}":', *(name[:-1] for name in flags)}:
        assert (body.text("flags", name) is not None) == (name in flags)


def test_one_flag_inflates_one_block() -> None:
    """Opening inflates none, and the same flag again none."""
    flags = many()
    body = opened(encode({"flags": flags}, {}))
    assert body._blocks == {}
    for _ in range(2):
        assert get(body, "flags", "flag-0400") == flags["flag-0400"]
        assert get(body, "flags", "before-the-first") is None
        assert len(body._blocks) == 1
    body.items("flags")
    assert len(body._blocks) > 3


def shuffled(item: Any, rng: random.Random) -> Any:
    """Return the same content with the keys of all objects in another order."""
    if isinstance(item, dict):
        keys = list(item)
        rng.shuffle(keys)
        return {key: shuffled(item[key], rng) for key in keys}
    return [shuffled(entry, rng) for entry in item] if isinstance(item, list) else item


@given(ITEMS, st.integers())
def test_content_digest_ignores_order(flags: dict[str, Any], seed: int) -> None:
    sections = {"flags": flags, "segments": {"s": 1}}
    other = shuffled(sections, random.Random(seed))
    assert encode(other, {}).digest == content_digest(sections, {})


def test_content_digest_tells_contents_apart() -> None:
    """1, 1.0 and True are equal in Python and different in a flag; so are places of a value."""
    values = [1, 1.0, True, "1", None, 0, 0.0, -0.0, False, "", [], {}, [1], {"1": 1}, "true"]
    contents: list[tuple[dict[str, Any], dict[str, Any]]] = [
        *(({"flags": {"a": value}}, {}) for value in values),
        ({"flags": {"b": 1}}, {}),
        ({"segments": {"a": 1}}, {}),
        ({"flags": {"a": 1}}, {"a": 1}),
        ({"flags": {"a": 1, "b": 1}}, {}),
        ({"flags": {'a",1]\n["flags","b': 1}}, {}),
        ({"flags": {}}, {}),
        ({"flags": {}}, {"flags": {"a": 1}}),
    ]
    assert len({content_digest(*content) for content in contents}) == len(contents)


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": {"b": -math.inf}}])
def test_nan_and_infinities_are_refused(value: Any) -> None:
    for sections, meta in (({"flags": {"a": value}}, {}), ({"flags": {}}, {"a": value})):
        with pytest.raises(ValueError, match="JSON compliant"):
            encode(sections, meta)


def test_every_flipped_byte_is_detected() -> None:
    encoded = encode({"flags": many(400, 90), "segments": {"s": ["x"]}}, {"m": 1})
    body = opened(encoded)
    body.items("flags")
    assert len(body._blocks) > 2
    for at in range(len(encoded.index_data)):
        index = bytearray(encoded.index_data)
        index[at] ^= 0x01
        with pytest.raises(CorruptSnapshotError, match="index"):
            Body(bytes(index), encoded.index_digest, encoded.blocks)
    for at in range(len(encoded.blocks)):
        blocks = bytearray(encoded.blocks)
        blocks[at] ^= 0x80
        for damaged in (bytes(blocks), encoded.blocks[:at]):
            with pytest.raises(CorruptSnapshotError, match="block of"):
                Body(encoded.index_data, encoded.index_digest, damaged)


def test_nothing_inflates_to_more_than_a_writer_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flagstore.codec.MAX_INFLATED_BYTES", 10_000)
    bomb = zlib.compress(b" " * 10_001)
    with pytest.raises(CorruptSnapshotError, match="more than"):
        Body(bomb, whole_digest(bomb), b"")
    segment = LargeSegment("", short_digest(bomb), 1, 1)
    with pytest.raises(CorruptSnapshotError, match="more than"):
        decode_segment(segment, bomb)
    entries = [["a", 0, len(bomb), short_digest(bomb)]]
    index = zlib.compress(json.dumps({"meta": {}, "sections": {"flags": entries}}).encode())
    with pytest.raises(CorruptSnapshotError, match="more than"):
        Body(index, whole_digest(index), bomb).text("flags", "a")


def test_encoding_is_deterministic() -> None:
    """No time and no randomness, and plain zlib."""
    flags = many(10)
    assert encode({"flags": flags}, {}) == encode({"flags": dict(reversed(flags.items()))}, {})
    assert zlib.decompress(encode({"flags": flags}, {}).blocks).startswith(b'{\n"flag-0000":')


@pytest.mark.parametrize("replicas", range(1, keys.MAX_REPLICAS + 1))
@pytest.mark.parametrize("size", [0, 1, 7_000, 350_000, 350_001, 600_000, 2_000_000])
def test_each_replica_makes_chunks_smaller(size: int, replicas: int) -> None:
    """A partition holds one chunk, so with n replicas it serves n times as many readers."""
    data = random.Random(1).randbytes(size)
    chunks = cut(data, replicas)
    assert b"".join(chunks) == data
    places = {keys.chunk_key("prod", "", number).namespace for number in range(len(chunks))}
    assert len(places) == len(chunks)
    assert max(map(len, chunks), default=0) <= ceil(min(size, keys.CHUNK_BYTES) / replicas)


def test_inflated_blocks_are_bounded() -> None:
    """A block that was dropped is inflated again."""
    flags = {f"flag-{n:05}": {"text": "x" * BLOCK_BYTES, "n": n} for n in range(KEPT_BLOCKS + 9)}
    body = opened(encode({"flags": flags}, {}))
    for _ in range(2):
        assert body.keys("flags") == sorted(flags)
        assert all(get(body, "flags", key) == flag for key, flag in flags.items())
        assert 0 < len(body._blocks) <= KEPT_BLOCKS


RNG = random.Random(1)
VARIED = {f"flag-{n:04d}": {"v": n, "t": RNG.randbytes(200).hex()} for n in range(200)}
"""Flags that fill several blocks, also compressed."""


@pytest.mark.parametrize("seed", range(20))
def test_differing_keys_of_two_bodies(seed: int) -> None:
    """Added, removed and changed, wherever blocks begin."""
    rng = random.Random(seed)
    before, after = VARIED, dict(VARIED)
    for key in rng.sample(sorted(before), rng.randrange(4)):
        after[key] = {**before[key], "v": rng.choice((True, "x", None))}
    for key in rng.sample(sorted(before), rng.randrange(4)):
        del after[key]
    for _ in range(rng.randrange(4)):
        after[f"flag-{rng.randrange(200):04d}-new"] = {"v": 1}
    expected = {
        key
        for key in before.keys() | after.keys()
        if canonical(before.get(key)) != canonical(after.get(key))
    }
    one, two = (opened(encode({"flags": flags}, {})) for flags in (before, after))
    assert two.differing(one, "flags") == one.differing(two, "flags") == expected


def test_differing_keys_of_blocks_that_look_alike() -> None:
    """Equal changes of bytes taken from the first block, where Adler-32 does not show them."""
    text = random.Random(1).randbytes(8_400).hex()
    items = [text[:9_000] + mark + text[9_003:] for mark in ("131", "212")]
    one, other = (opened(encode({"flags": {"a": item, "z": item}}, {})) for item in items)
    assert one.sections["flags"][1][3] == other.sections["flags"][1][3]
    assert one.differing(other, "flags") == {"a", "z"}


def test_changed_bodies_hold_and_compare_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that come and go leave nothing, and shared items are not compared."""
    first = opened(encode({"flags": many(100)}, {}))
    body = first.changed({"flags": dict.fromkeys(first.keys("flags"), "1")})
    came = body.changed({"flags": {"new": "1"}})
    gone = came.changed({"flags": {"new": None}})
    assert gone._overlay == body._overlay
    assert gone.differing(body, "flags") == set()
    looked_up: list[str] = []
    monkeypatch.setattr(Body, "text", lambda _, _section, key: looked_up.append(key))
    came.differing(gone, "flags")
    assert set(looked_up) == {"new"}


def test_one_changed_flag_inflates_its_own_block() -> None:
    """Unless that is the first one, their dictionary. From 1 to 1.0, which are equal in Python."""
    before = {**VARIED, "flag-0150": {**VARIED["flag-0150"], "v": 1}}
    after = {**before, "flag-0150": {**before["flag-0150"], "v": 1.0}}
    one, two = (opened(encode({"flags": flags}, {})) for flags in (before, after))
    assert two.differing(one, "flags") == {"flag-0150"}
    assert len(two._blocks) == len(one._blocks) == 1
    two.items("flags")
    assert len(two._blocks) > 1


def test_large_segments_differ_by_content() -> None:
    """Not by token; nothing is read."""
    members = [f"user-{number}" for number in range(5_000)]
    sections = {"segments": {"small": {"keys": []}, "large": {"keys": members}}}
    changed = {"segments": {**sections["segments"], "large": {"keys": [*members, "one-more"]}}}
    one, again, other = (
        opened(encode(given, {}, token=token))
        for token, given in enumerate((sections, sections, changed))
    )
    assert one.large != again.large
    assert one.differing(again, "segments") == set()
    assert one.differing(other, "segments") == {"large"}
