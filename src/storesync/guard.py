"""Refuse flag sets that lost too many items, or whose items can no longer be evaluated."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from storesync.errors import CorruptStoreError, MalformedResponseError, RefusedSetError
from storesync.model import Changes, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from storesync.model import FlagSet
    from storesync.providers.base import Provider

MAY_LOSE_ITEMS = 10
MAY_LOSE_SHARE = 0.3
SHOWN = 5
"""Maximum number of names in a message."""


def check(
    new: FlagSet,
    olds: Sequence[tuple[str, FlagSet]],
    *,
    digest: str,
    members: Callable[[Any], frozenset[str]],
) -> None:
    """Compare a flag set with earlier ones, each named for the message ("the published set").

    Raises:
        RefusedSetError: it has no flags left, or has lost more than ``max(10, 30 %)`` of its flags,
            of its segments, or of the members of one segment that still exists.
    """
    segments = new.sections.get("segments", {})
    for when, old in olds:
        if old.keys("flags") and not new.keys("flags"):
            raise _refused(f"all {len(old.keys('flags'))} flags are gone", when, digest)
        for section in old.sections:
            had = old.keys(section)
            gone = had - new.keys(section)
            if len(gone) > max(MAY_LOSE_ITEMS, MAY_LOSE_SHARE * len(had)):
                raise _refused(f"{_some(gone)} of {len(had)} {section} are gone", when, digest)
        for key in old.differing("segments", new):
            before: frozenset[str] = frozenset()
            with suppress(CorruptStoreError):  # lost chunks: the new set repairs them
                before = members(old.item("segments", key))
            left = before - members(segments[key])
            if len(left) > max(MAY_LOSE_ITEMS, MAY_LOSE_SHARE * len(before)):
                lost = f"{len(left)} of {len(before)} members of segment {key!r} are gone"
                raise _refused(lost, when, digest)


def check_items(
    new: FlagSet, old: FlagSet | None, changed: Changes, provider: Provider, *, digest: str
) -> None:
    """Judge each new or changed item by whether the engine can evaluate it.

    Both sets are compiled with the current engine, so updating the engine refuses nothing.

    Raises:
        MalformedResponseError: if the provider's own SDK would reject a document with such an item.
        RefusedSetError: if the engine could use the earlier version of an item, but not the new
            one, or if items now depend on each other in a circle, and the engine would follow it.
    """
    now = provider.judge(new)
    before = None
    if old and old.provider == new.provider:
        # Large segments are not read for this: their existence is enough.
        before = provider.judge(replace(old, load=lambda _segment: {"key": "", "version": 1}))
    damaged, changed_items = [], {*changed.changed}
    for place in (*changed.added, *changed.changed):
        section, key = place
        verdict = now(section, key)
        if verdict is Verdict.REFUSED:
            message = f"{provider.title}: its SDKs reject {section} {key[:64]!r}: not a flag set"
            raise MalformedResponseError(message)
        was_usable = before and place in changed_items and before(*place) is Verdict.USABLE
        if verdict is Verdict.DAMAGED and was_usable:
            damaged.append(f"{section}/{key}")
    if old and before and provider.dependencies_nest and not damaged:
        cycle = _cycle(new, changed.changed, provider)
        if cycle and not _cycle(old, cycle, provider):
            damaged = [f"{section}/{key}" for section, key in cycle]
    if damaged:
        raise _refused(f"{_some(damaged)} can no longer be evaluated", "the published set", digest)


def _cycle(
    flags: FlagSet, places: Iterable[tuple[str, str]], provider: Provider
) -> list[tuple[str, str]]:
    """Return items that depend on each other in a circle and that these items lead to, if any."""
    graph: dict[tuple[str, str], set[tuple[str, str]]] = {}
    left = [*places]
    while left:
        place = left.pop()
        if place not in graph:
            item = flags.item(*place)
            graph[place] = set() if item is None else {*provider.references(place[0], item)}
            left += graph[place]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list({*error.args[1]})
    return []


def check_versions(
    new: FlagSet, olds: Sequence[tuple[str, FlagSet]], provider: Provider, *, digest: str
) -> None:
    """Judge each version of a set, if it or an earlier one has a gradual deployment in progress.

    One version of the earlier set is enough to compare with: a complete deployment continues the
    new one, a rollback the previous one.

    Raises:
        RefusedSetError: as by :func:`check` and :func:`check_items`.
    """
    for version in new.versions():
        for when, old in olds:
            refusal: RefusedSetError | None = None
            for base in old.versions():
                changed = Changes.between(base, version)
                try:
                    check_items(version, base, changed, provider, digest=digest)
                    check(version, [(when, base)], digest=digest, members=provider.members)
                    break
                except RefusedSetError as error:
                    refusal = refusal or error
            else:
                if refusal:
                    raise refusal


def dangling(new: FlagSet, old: FlagSet, changed: Changes, provider: Provider) -> set[str]:
    """Return ``section/key`` of each item that a new set refers to but lacks.

    References of an item that were already dangling in the earlier set do not count.
    """
    if old.provider != new.provider:
        return set()
    touched = {*changed.added, *changed.changed}
    found: set[str] = set()
    for section, items in new.sections.items():
        for key, item in items.items():
            if not (changed.removed or (section, key) in touched):
                continue
            missing = {
                (kind, name)
                for kind, name in provider.references(section, item)
                if name not in new.keys(kind)
            }
            if missing and not old.is_large(section, key):  # rare: this reads the earlier item
                before = old.item(section, key)
                known = provider.references(section, before) if before is not None else ()
                missing -= {(kind, name) for kind, name in known if name not in old.keys(kind)}
            found |= {f"{kind}/{name}" for kind, name in missing}
    return found


def _refused(reason: str, when: str, digest: str) -> RefusedSetError:
    message = (
        f"{reason}, compared with {when}; the published flags stay. If this is right, "
        f'invoke SyncFunction with {{"source": …, "allow_shrink": "{digest}"}}'
    )
    return RefusedSetError(message, digest=digest)


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:SHOWN]
    more = ", …" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(shown)}{more})"
