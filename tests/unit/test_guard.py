"""The losses that the guard refuses. test_pipeline.py tests its use."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

from storesync import guard, providers
from storesync.errors import RefusedSetError
from storesync.model import Changes, FlagSet

DIGEST = "5f3c" * 16


def numbered(count: int, start: int = 0, prefix: str = "flag") -> dict[str, Any]:
    """Return this many flags."""
    return {f"{prefix}-{number:03d}": number for number in range(start, start + count)}


def flag_set(flags: dict[str, Any], **sections: dict[str, Any]) -> FlagSet:
    """Return a set with these flags."""
    return FlagSet("model", {"flags": flags, "segments": {}, **sections})


def check(new: FlagSet, **olds: FlagSet) -> None:
    """Compare a set with others; segments are lists of names."""
    guard.check(
        new,
        [(when.replace("_", " "), old) for when, old in olds.items()],
        digest=DIGEST,
        members=frozenset,
    )


# -- flags --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("had", "left", "refused"),
    [
        (100, 70, False),  # exactly 30 %
        (100, 69, True),  # 31 %
        (1000, 700, False),
        (1000, 699, True),
        (12, 2, False),  # 10 of 12: small sets may lose ten
        (12, 1, True),  # 11 of 12
        (11, 1, False),
        (10, 1, False),
        (33, 23, False),
        (33, 22, True),  # eleven, and more than 9.9
        (34, 24, False),
        (40, 28, False),  # twelve of forty
        (40, 27, True),
        (1, 0, True),  # nothing left is refused, however little it was
        (10, 0, True),
        (100, 0, True),
        (0, 0, False),
        (0, 5, False),
        (100, 100, False),
    ],
)
def test_limit_of_lost_flags(had: int, left: int, refused: bool) -> None:
    """More than max(10, 30 %) is refused, and so is a set without flags."""
    old, new = flag_set(numbered(had)), flag_set(numbered(left))
    if refused:
        with pytest.raises(RefusedSetError):
            check(new, now=old)
    else:
        check(new, now=old)


def test_added_flags_do_not_hide_lost_ones() -> None:
    """What counts is which flags are gone, even if their number grows."""
    old = flag_set(numbered(100))
    new = flag_set(numbered(69) | numbered(500, prefix="new"))
    with pytest.raises(RefusedSetError, match=r"31 .*of 100 flags are gone"):
        check(new, now=old)


def test_changes_are_not_losses() -> None:
    """All flags may change at once."""
    check(flag_set(dict.fromkeys(numbered(100), "other")), now=flag_set(numbered(100)))


# -- segments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("had", "left", "refused"),
    [(100, 70, False), (100, 69, True), (12, 2, False), (12, 1, True), (10, 0, False)],
)
def test_limit_of_lost_members(had: int, left: int, refused: bool) -> None:
    """A segment may lose as much of its members as a set of its flags."""
    old = flag_set({"a": 1}, segments={"beta": list(numbered(had)), "other": []})
    new = flag_set({"a": 1}, segments={"beta": list(numbered(left)), "other": []})
    if refused:
        with pytest.raises(RefusedSetError, match="members of segment 'beta'"):
            check(new, now=old)
    else:
        check(new, now=old)


def test_added_members_do_not_hide_lost_ones() -> None:
    """A segment that is filled with others has lost its members."""
    old = flag_set({"a": 1}, segments={"beta": list(numbered(50))})
    new = flag_set({"a": 1}, segments={"beta": list(numbered(50, start=16))})
    with pytest.raises(RefusedSetError, match="16 of 50 members"):
        check(new, now=old)


def test_removed_segment_counts_once() -> None:
    """Its members are not counted again."""
    old = flag_set({"a": 1}, segments={"beta": list(numbered(5000)), "other": []})
    check(flag_set({"a": 1}, segments={"other": []}), now=old)


def test_limit_of_lost_segments() -> None:
    """As with flags: at most max(10, 30 %)."""
    old = flag_set({"a": 1}, segments={key: [] for key in numbered(12)})
    check(flag_set({"a": 1}, segments={key: [] for key in numbered(2)}), now=old)
    with pytest.raises(RefusedSetError, match=r"11 .*of 12 segments"):
        check(flag_set({"a": 1}, segments={key: [] for key in numbered(1)}), now=old)


# -- a day ago ----------------------------------------------------------------------------------


def test_set_of_a_day_ago_counts() -> None:
    """Step by step within the limit, and together beyond it: refused."""
    day_ago, now = flag_set(numbered(100)), flag_set(numbered(80))
    new = flag_set(numbered(65))
    check(new, now=now)
    with pytest.raises(RefusedSetError, match="compared with a day ago"):
        check(new, now=now, a_day_ago=day_ago)


# -- the message --------------------------------------------------------------------------------


def test_message_names_flags_digest_and_remedy() -> None:
    """It names the losses, since when, and how to allow exactly this set."""
    with pytest.raises(RefusedSetError) as caught:
        check(flag_set(numbered(60, start=40)), now=flag_set(numbered(100)))
    text = str(caught.value)
    assert "40 (flag-000, flag-001, flag-002, flag-003, flag-004, …) of 100 flags are gone" in text
    assert "flag-005" not in text
    assert "compared with now" in text
    assert f'"allow_shrink": "{DIGEST}"' in text
    assert caught.value.digest == DIGEST
    assert not caught.value.retryable


def test_message_names_at_most_five() -> None:
    """Five are all named; of six the last is left out."""
    new, old = FlagSet("model", {"flags": {"a": 1}}), flag_set({"a": 1}, more=numbered(12))
    with pytest.raises(RefusedSetError, match=r"^12 \(.*, flag-004, …\) of 12 more are gone, "):
        check(new, now=old)
    assert guard._some([*"abcde"]) == "5 (a, b, c, d, e)"
    assert guard._some([*"fedcba"]) == "6 (a, b, c, d, e, …)"


def test_references_are_checked_in_linear_time() -> None:
    """Thousands of flags that refer to thousands of segments take a fraction of a second."""
    rule = {"clauses": [{"op": "segmentMatch", "values": ["segment-000"]}]}
    flags = {key: {"rules": [rule] * 5} for key in numbered(5_000)}
    segments: dict[str, Any] = {key: {} for key in numbered(5_000, prefix="segment")}
    sets = [
        FlagSet("launchdarkly", {"flags": each, "segments": segments})
        for each in (flags, {**flags, "gone": {}})
    ]
    changed = Changes(removed=("flags/gone",))
    started = process_time()
    assert not guard.dangling(sets[0], sets[1], changed, providers.get("launchdarkly"))
    assert process_time() - started < 1  # copies of the segments' keys would take 5 s
