"""Which publications the history keeps. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flagstore.keys import Version

KEPT_VERSIONS = 10
"""Publications that the history keeps, beside those of the last day."""
DAY_MS = 86_400_000
THIN_MS = 6 * 3_600_000
"""Of the last day's publications, one in six hours is kept for the guard."""


def retained(versions: list[Version], now_ms: int) -> tuple[list[Version], list[Version]]:
    """Split publications (oldest first) into those to keep and those to drop.

    Kept are the last ones, one in six hours of the last day, and the one that was current a day
    ago: the guard compares with it.
    """
    old = day_ago(versions, now_ms)
    # The last of each six hours: a later one takes the place of an earlier one.
    thinned = {v.published_at // THIN_MS: v for v in versions if old is None or v >= old}
    kept = {*versions[-KEPT_VERSIONS:], *thinned.values()} | ({old} if old else set())
    return sorted(kept), sorted(set(versions) - kept)


def day_ago(versions: list[Version], now_ms: int) -> Version | None:
    """Return the publication that was current a day ago, if there was one."""
    old = [version for version in versions if version.published_at <= now_ms - DAY_MS]
    return old[-1] if old else None


def baseline(versions: list[Version], now_ms: int, allowed: int) -> tuple[str, Version] | None:
    """Return the earlier publication that the guard compares with, and what it is called.

    It is the one that was current a day ago; but none from before the last one that a person
    allowed (0: none), or every change of the next day would have to be allowed anew.
    """
    known = [version for version in versions if version.token >= allowed]
    if old := day_ago(known, now_ms):
        return "a day ago", old
    return ("what a person allowed", known[0]) if allowed and known else None
