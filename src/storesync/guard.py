"""Refuse flag sets that have lost too many items, or items that the engines can use. Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from storesync.errors import CorruptStoreError, MalformedResponseError, RefusedSetError
from storesync.verdicts import DAMAGED, REFUSED, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from storesync.model import Changes, FlagSet, Json
    from storesync.providers.base import Provider

MAY_LOSE_ITEMS = 10
MAY_LOSE_SHARE = 0.3
_UNUSABLE = {DAMAGED, REFUSED}
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
            raise _refused(reason, when, digest)


def check_items(
    new: FlagSet, old: FlagSet | None, changed: Changes, provider: Provider, *, digest: str
) -> None:
    """Judge each new or changed item by what the engine makes of it.

    Both sets are compiled with the engine as it is now, so an update of it refuses nothing.

    Raises:
        MalformedResponseError: if the provider's own SDK would refuse a document with such an item.
        RefusedSetError: if the engine could use an item as it was, and cannot as it is.
    """
    now = verdicts(new.provider, _Items(new))
    known = old if old and old.provider == new.provider else None
    before = verdicts(new.provider, _Items(known)) if known else None
    damaged = []
    for name in (*changed.added, *changed.changed):
        section, _, key = name.partition("/")
        verdict = now(section, key)
        if verdict == REFUSED:
            message = f"{provider.title}: an SDK would not take {section} {key[:64]!r}: no flag set"
            raise MalformedResponseError(message)
        was_usable = before and name in changed.changed and before(section, key) not in _UNUSABLE
        if verdict == DAMAGED and was_usable:
            damaged.append(name)
    if damaged:
        raise _refused(f"{_some(damaged)} can no longer be evaluated", "now", digest)


def dangling(new: FlagSet, old: FlagSet, changed: Changes, provider: Provider) -> set[str]:
    """Return ``section/key`` of what items of a new set need and the set lacks.

    What the same item lacked in the earlier set is not among them.
    """
    if old.provider != new.provider:
        return set()
    touched = {*changed.added, *changed.changed}
    found: set[str] = set()
    for section, items in new.sections.items():
        for key, item in items.items():
            if changed.removed or f"{section}/{key}" in touched:
                lacked = _lacking(new, provider.references(section, item))
                if lacked:  # seldom: the earlier item is not read for nothing
                    found |= lacked - _lacked_before(old, section, key, provider)
    return found


def _lacked_before(old: FlagSet, section: str, key: str, provider: Provider) -> set[str]:
    item = None if old.is_large(section, key) else old.item(section, key)
    return _lacking(old, provider.references(section, item)) if item is not None else set()


def _lacking(flag_set: FlagSet, references: Iterator[tuple[str, str]]) -> set[str]:
    return {f"{section}/{key}" for section, key in references if key not in flag_set.keys(section)}


class _Items:
    """A flag set as an engine reads it."""

    def __init__(self, flag_set: FlagSet) -> None:
        self._flag_set = flag_set
        self.meta = flag_set.meta

    def item(self, section: str, key: str) -> Json:
        """Return the JSON of one item, or None; of a segment that is stored apart, not read."""
        if key in self._flag_set.sections.get(section, {}):
            return self._flag_set.sections[section][key]
        return {"key": key, "version": 1} if key in self._flag_set.keys(section) else None


def _refused(reason: str, when: str, digest: str) -> RefusedSetError:
    message = (
        f"{reason}, compared with {when}; what is published stays. If this is right, "
        f'invoke SyncFunction with {{"source": …, "allow_shrink": "{digest}"}}'
    )
    return RefusedSetError(message, digest=digest)


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
        with suppress(CorruptStoreError):  # a large one whose chunks are lost: what is new heals it
            before = members(old.item("segments", key))
        gone = before - members(still[key])
        if len(gone) > may_lose(len(before)):
            return f"{len(gone)} of {len(before)} members of segment {key!r} are gone"
    return ""


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:SHOWN]
    more = ", …" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(shown)}{more})"
