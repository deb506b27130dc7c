"""The losses that the guard refuses. test_pipeline.py tests its use."""

from __future__ import annotations

from collections import UserDict
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from storesync import guard, providers
from storesync.errors import RefusedSetError
from storesync.model import Changes, FlagSet

if TYPE_CHECKING:
    from collections.abc import Iterator

DIGEST = "5f3c" * 16


def numbered(count: int, start: int = 0, prefix: str = "flag") -> dict[str, Any]:
    return {f"{prefix}-{number:03d}": number for number in range(start, start + count)}


def flag_set(flags: dict[str, Any], **segments: list[str]) -> FlagSet:
    return FlagSet("model", {"flags": flags, "segments": segments})


def check(new: FlagSet, old: FlagSet, refused: str = "") -> None:
    """Compare two sets, and expect a message or none."""
    with pytest.raises(RefusedSetError, match=refused) if refused else nullcontext():
        guard.check(new, [("now", old)], digest=DIGEST, members=frozenset)


@pytest.mark.parametrize(
    ("had", "left", "refused"),
    [
        (100, 70, False),  # exactly 30 %
        (100, 69, True),  # 31 %
        (12, 2, False),  # small sets may lose ten
        (12, 1, True),
        (33, 23, False),
        (33, 22, True),  # eleven, and more than 9.9
        (1, 0, True),  # nothing left is refused, however little it was
        (0, 0, False),
        (0, 5, False),
    ],
)
def test_limit_of_lost_flags(had: int, left: int, refused: bool) -> None:
    """More than max(10, 30 %) is refused, and so is a set without flags."""
    check(flag_set(numbered(left)), flag_set(numbered(had)), "compared with now" * refused)


@pytest.mark.parametrize(
    ("had", "left", "refused"),
    [(100, 70, False), (100, 69, True), (12, 2, False), (12, 1, True), (10, 0, False)],
)
def test_limit_of_lost_segments_and_members(had: int, left: int, refused: bool) -> None:
    """A set may lose as much of its segments, and a segment of its members."""
    flags, lost = {"a": 1}, had - left
    old, new = (flag_set(flags, beta=[*numbered(count)], other=[]) for count in (had, left))
    check(new, old, f"{lost} of {had} members of segment 'beta'" * refused)
    old, new = (flag_set(flags, **{key: [] for key in numbered(count)}) for count in (had, left))
    check(new, old, f"^{lost} .*of {had} segments" * refused)


def test_what_counts_is_what_is_gone() -> None:
    """Additions hide no losses; changes, and members of segments that are gone, are none."""
    hundred = flag_set(numbered(100))
    check(flag_set(numbered(69) | numbered(500, prefix="new")), hundred, r"31 .*of 100 flags are")
    check(flag_set(dict.fromkeys(numbered(100), "other")), hundred)
    old = flag_set({"a": 1}, beta=[*numbered(50)], other=[])
    check(flag_set({"a": 1}, beta=[*numbered(50, start=16)]), old, "16 of 50 members")
    check(flag_set({"a": 1}, other=[]), old)


def test_message_names_flags_digest_and_remedy() -> None:
    """It names at most five losses, since when, and how to allow exactly this set."""
    with pytest.raises(RefusedSetError) as caught:
        check(flag_set(numbered(60, start=40)), flag_set(numbered(100)))
    text = str(caught.value)
    assert "40 (flag-000, flag-001, flag-002, flag-003, flag-004, …) of 100 flags are gone" in text
    assert "compared with now" in text
    assert f'"allow_shrink": "{DIGEST}"' in text
    assert caught.value.digest == DIGEST
    assert guard._some([*"abcde"]) == "5 (a, b, c, d, e)"


class Segments(UserDict[str, Any]):
    """Segments that count how often all of their keys are read."""

    reads = 0

    def __iter__(self) -> Iterator[str]:
        Segments.reads += 1
        return super().__iter__()


def test_references_are_checked_without_copying_keys() -> None:
    """Thousands of flags refer to thousands of segments: copies for each would take seconds."""
    rule = {"clauses": [{"op": "segmentMatch", "values": ["segment-000"]}]}
    flags = {key: {"rules": [rule] * 5} for key in numbered(100)}
    segments = Segments({key: {} for key in numbered(100, prefix="segment")})
    sets = [
        FlagSet("launchdarkly", {"flags": each, "segments": segments})
        for each in (flags, {**flags, "gone": {}})
    ]
    changed = Changes(removed=(("flags", "gone"),))
    Segments.reads = 0
    assert not guard.dangling(sets[0], sets[1], changed, providers.get("launchdarkly"))
    assert Segments.reads < 10


class Key(str):
    """A key that counts how often one is compared with another."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Key.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_items_are_checked_without_searching_for_each() -> None:
    """All flags may change at once, and a search for each would take seconds for 20,000."""
    keys = [Key(key) for key in numbered(1_000)]
    sets = [
        FlagSet("appconfig", {"flags": {key: {"enabled": on} for key in keys}})
        for on in (False, True)
    ]
    changed, provider = Changes.between(*sets), providers.get("appconfig")
    Key.compared = 0
    guard.check_items(sets[1], sets[0], changed, provider, digest=DIGEST)
    assert Key.compared < 10 * len(keys)
