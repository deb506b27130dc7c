"""The pages of Split's SDK API: lists of what is there now and what is gone. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from storesync.errors import MalformedResponseError
from storesync.providers import common

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

TITLE = "Split"
BEGINNING = -1
"""The change number before all others: what to ask for everything with."""


class Page(NamedTuple):
    """One page of a list."""

    items: list[Any]
    till: int
    """Up to which change number it goes; the next page begins there."""
    last: bool


def parse(part: object, name: str, fields: tuple[str, str, str], asked: int) -> Page:
    """Read one page: a list of items (null: none), where it begins, and up to where it goes."""
    items, begins, ends = fields
    if not isinstance(part, dict) or not {items, begins, ends} <= part.keys():
        message = f"{TITLE} responded without a whole {name or 'ff'!r}: no flag set"
        raise MalformedResponseError(message)
    listed = [] if part[items] is None else part[items]
    if not isinstance(listed, list):
        message = f"{TITLE} responded with {items!r} that is no list: no flag set"
        raise MalformedResponseError(message)
    since, till = part[begins], part[ends]
    if not (_is_change_number(since) and _is_change_number(till)) or till < asked:
        message = f"{TITLE} responded with {begins!r} or {ends!r} that is no later change number"
        raise MalformedResponseError(message)
    # A proxy that has only whole sets responds with since=-1 each time: nothing newer, either.
    return Page(listed, till, last=till in {since, asked})


def parse_rule_based(document: Mapping[str, Any], asked: int) -> Page:
    """Read the rule-based segments; they are absent where a server knows none."""
    if document.get("rbs") is None:
        return Page([], asked, last=True)
    return parse(document["rbs"], "rbs", ("d", "s", "t"), asked)


def parse_segment(document: Mapping[str, Any], name: str, asked: int) -> Page:
    """Read one page of a segment; its items are the keys added."""
    if document.get("name") != name:
        message = f"{TITLE} responded with something else than segment {name[:64]!r}"
        raise MalformedResponseError(message)
    page = parse(document, name, ("added", "since", "till"), asked)
    removed = document.get("removed")
    odd = removed is not None and not isinstance(removed, list)
    if odd or not all(map(common.is_key, page.items)) or not all(map(common.is_key, removed or ())):
        message = f"{TITLE}: segment {name[:64]!r} holds something that is no key"
        raise MalformedResponseError(message)
    return page


def _is_change_number(value: object) -> bool:
    return common.is_version(value) or (value == BEGINNING and isinstance(value, int))


def apply(
    known: dict[str, Any], items: list[Any], what: str, required: Callable[[dict[str, Any]], bool]
) -> None:
    """Take over what a page brings: what is not active or not wanted is gone."""
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not common.is_key(name):
            message = f"{TITLE} responded with a {what} without a name"
            raise MalformedResponseError(message)
        if not isinstance(item.get("status"), str):
            message = f"{TITLE}: {what} {name[:64]!r} has no status"
            raise MalformedResponseError(message)
        if item["status"] == "ACTIVE" and required(item):
            known[name] = item
        else:
            known.pop(name, None)


def is_in(flag: Mapping[str, Any], sets: Collection[str]) -> bool:
    """Say whether a flag is in one of the flag sets asked for; all are where none is named."""
    return not sets or not set(common.texts(flag.get("sets"))).isdisjoint(sets)
