"""Refuse flag sets that lost too many items, or items that the engines could evaluate. Pure."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from storesync.errors import CorruptStoreError, MalformedResponseError, RefusedSetError
from storesync.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from storesync.model import Changes, FlagSet
    from storesync.providers.base import Provider

MAY_LOSE_ITEMS = 10
MAY_LOSE_SHARE = 0.3
SHOWN = 5
"""Names that a message shows."""


def check(
    new: FlagSet,
    olds: Sequence[tuple[str, FlagSet]],
    *,
    digest: str,
    members: Callable[[Any], frozenset[str]],
) -> None:
    """Compare a flag set with earlier ones, each named for the message ("now", "a day ago").

    A set is refused if it has no flags left, or has lost more than ``max(10, 30 %)`` of its
    flags, of its segments, or of the members of one segment that still exists.

    Raises:
        RefusedSetError: names what is missing, and the digest that a person may allow.
    """
    segments = new.sections.get("segments", {})
    for when, old in olds:
        if old.keys("flags") and not new.keys("flags"):
            raise _refused(f"none of {len(old.keys('flags'))} flags is left", when, digest)
        for section in old.sections:
            had = old.keys(section)
            gone = had - new.keys(section)
            if len(gone) > max(MAY_LOSE_ITEMS, MAY_LOSE_SHARE * len(had)):
                raise _refused(f"{_some(gone)} of {len(had)} {section} are gone", when, digest)
        for key in old.differing("segments", segments):
            before: frozenset[str] = frozenset()
            with suppress(CorruptStoreError):  # lost chunks of a large one: the new set fixes it
                before = members(old.item("segments", key))
            left = before - members(segments[key])
            if len(left) > max(MAY_LOSE_ITEMS, MAY_LOSE_SHARE * len(before)):
                lost = f"{len(left)} of {len(before)} members of segment {key!r} are gone"
                raise _refused(lost, when, digest)


def check_items(
    new: FlagSet, old: FlagSet | None, changed: Changes, provider: Provider, *, digest: str
) -> None:
    """Judge each new or changed item by whether the engine can evaluate it.

    Both sets are compiled with the engine as it is now, so an update of it refuses nothing.

    Raises:
        MalformedResponseError: if the provider's own SDK would refuse a document with such an item.
        RefusedSetError: if the engine could use an item as it was, and cannot as it is.
    """
    now = provider.judge(new)
    before = None
    if old and old.provider == new.provider:
        # A large segment is not read for this: that it is there is enough.
        before = provider.judge(replace(old, load=lambda _segment: {"key": "", "version": 1}))
    damaged = []
    for name in (*changed.added, *changed.changed):
        section, key = name.partition("/")[::2]
        verdict = now(section, key)
        if verdict is Verdict.REFUSED:
            message = f"{provider.title}: its SDKs refuse {section} {key[:64]!r}: not a flag set"
            raise MalformedResponseError(message)
        was_usable = before and name in changed.changed and before(section, key) is Verdict.USABLE
        if verdict is Verdict.DAMAGED and was_usable:
            damaged.append(name)
    if damaged:
        raise _refused(f"{_some(damaged)} can no longer be evaluated", "now", digest)


def dangling(new: FlagSet, old: FlagSet, changed: Changes, provider: Provider) -> set[str]:
    """Return ``section/key`` of the items that items of a new set refer to and the set lacks.

    References that the same item in the earlier set had, and lacked, do not count.
    """
    if old.provider != new.provider:
        return set()
    touched = {*changed.added, *changed.changed}
    found: set[str] = set()
    for section, items in new.sections.items():
        for key, item in items.items():
            if not (changed.removed or f"{section}/{key}" in touched):
                continue
            missing = {
                (kind, name)
                for kind, name in provider.references(section, item)
                if name not in new.keys(kind)
            }
            if missing and not old.is_large(section, key):  # seldom: the earlier item is read here
                before = old.item(section, key)
                known = provider.references(section, before) if before is not None else ()
                missing -= {(kind, name) for kind, name in known if name not in old.keys(kind)}
            found |= {f"{kind}/{name}" for kind, name in missing}
    return found


def _refused(reason: str, when: str, digest: str) -> RefusedSetError:
    message = (
        f"{reason}, compared with {when}; what is published stays. If this is right, "
        f'invoke SyncFunction with {{"source": …, "allow_shrink": "{digest}"}}'
    )
    return RefusedSetError(message, digest=digest)


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:SHOWN]
    more = ", …" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(shown)}{more})"
