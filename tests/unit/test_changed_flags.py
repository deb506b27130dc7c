"""Flags that differ between two flag sets, found without decoding shared blocks."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from flagstore.codec import Body
from flagstore.encode import Encoded, canonical, encode


def body(encoded: Encoded) -> Body:
    """Return a reader's body."""
    return Body(encoded.index_data, encoded.index_digest, encoded.blocks)


def flags(random: Random) -> dict[str, Any]:
    """Return enough flags for several blocks."""
    return {f"flag-{n:04d}": {"v": n, "t": random.randbytes(200).hex()} for n in range(200)}


@pytest.mark.parametrize("seed", range(30))
def test_differing_keys_of_two_bodies(seed: int) -> None:
    """Added, removed and changed, wherever blocks begin."""
    random = Random(seed)
    before = flags(Random(1))
    after = dict(before)
    for key in random.sample(sorted(before), random.randrange(4)):
        after[key] = {**before[key], "v": random.choice((True, "x", None))}
    for key in random.sample(sorted(before), random.randrange(4)):
        del after[key]
    for _ in range(random.randrange(4)):
        after[f"flag-{random.randrange(200):04d}-new"] = {"v": 1}
    expected = {
        key
        for key in before.keys() | after.keys()
        if canonical(before.get(key)) != canonical(after.get(key))
    }
    one, two = (body(encode({"flags": listed}, {})) for listed in (before, after))
    assert two.differing(one, "flags") == one.differing(two, "flags") == expected


def test_true_is_not_one() -> None:
    """Nor 1.0, though they are equal in Python."""
    values = (1, 1.0, True)
    bodies = [body(encode({"flags": {"a": {"v": value}}}, {})) for value in values]
    for one in bodies:
        for two in bodies:
            assert one.differing(two, "flags") == (set() if one is two else {"a"})


def test_shared_blocks_stay_deflated() -> None:
    """One changed flag inflates its own block."""
    before = flags(Random(1))
    after = {**before, "flag-0100": {**before["flag-0100"], "v": -1}}
    one, two = (body(encode({"flags": listed}, {})) for listed in (before, after))
    assert two.differing(one, "flags") == {"flag-0100"}
    assert len(two._blocks) == len(one._blocks) == 1
    two.items("flags")
    assert len(two._blocks) > 1


def test_large_segments_differ_by_content() -> None:
    """Not by token; nothing is read."""
    keys = [f"user-{number}" for number in range(5_000)]
    sections = {"segments": {"small": {"keys": []}, "large": {"keys": keys}}}
    changed = json.loads(json.dumps(sections))
    changed["segments"]["large"]["keys"].append("one-more")
    one, again, other = (
        body(encode(given, {}, token=token))
        for token, given in enumerate((sections, sections, changed))
    )
    assert one.large != again.large
    assert one.differing(again, "segments") == set()
    assert one.differing(other, "segments") == {"large"}
    assert one.differing(other, "flags") == set()
