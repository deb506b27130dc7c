"""Refuse flag sets that have lost too much to be true. Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from storesync.errors import CorruptStoreError, RefusedSetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from storesync.model import FlagSet

MAY_LOSE_ITEMS = 10
MAY_LOSE_SHARE = 0.3
SHOWN = 5
"""Names that a message shows."""


def may_lose(count: int) -> float:
    """Return how many of so many items may go at once."""
    return max(MAY_LOSE_ITEMS, MAY_LOSE_SHARE * count)


def check(
    new: FlagSet,
    olds: Sequence[tuple[str, FlagSet]],
    *,
    digest: str,
    members: Callable[[Any], frozenset[str]],
) -> None:
    """Compare a flag set with earlier ones, each named for the message ("now", "a day ago").

    Refused is a set that has no flags left, or has lost more than ``max(10, 30 %)`` of its
    flags, of its segments, or of the members of one segment that still exists.

    Raises:
        RefusedSetError: names what is missing, and the digest that a person may allow.
    """
    for when, old in olds:
        reason = _emptied(new, old) or _shrunk(new, old) or _segments_shrunk(new, old, members)
        if reason:
            message = (
                f"{reason}, compared with {when}; what is published stays. If this is right, "
                f'invoke SyncFunction with {{"source": …, "allow_shrink": "{digest}"}}'
            )
            raise RefusedSetError(message, digest=digest)


def _emptied(new: FlagSet, old: FlagSet) -> str:
    had = len(old.keys("flags"))
    if had and not new.keys("flags"):
        return f"none of {had} flags is left"
    return ""


def _shrunk(new: FlagSet, old: FlagSet) -> str:
    for section in old.sections:
        had = old.keys(section)
        gone = had - new.keys(section)
        if len(gone) > may_lose(len(had)):
            return f"{_some(gone)} of {len(had)} {section} are gone"
    return ""


def _segments_shrunk(new: FlagSet, old: FlagSet, members: Callable[[Any], frozenset[str]]) -> str:
    still = new.sections.get("segments", {})
    for key in old.differing("segments", still):
        before: frozenset[str] = frozenset()
        with suppress(CorruptStoreError):  # a large one whose pieces are lost: what is new heals it
            before = members(old.item("segments", key))
        gone = before - members(still[key])
        if len(gone) > may_lose(len(before)):
            return f"{len(gone)} of {len(before)} members of segment {key!r} are gone"
    return ""


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:SHOWN]
    more = ", …" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(shown)}{more})"
