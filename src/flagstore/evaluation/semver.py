"""Semantic versions. No I/O; imported when a flag first compares versions."""

from __future__ import annotations

from typing import Any, NamedTuple

_DIGITS = frozenset("0123456789")
_CHARACTERS = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-")


def parse(text: str) -> tuple[Any, ...] | None:
    """Return a version of semver.org as a tuple that sorts by precedence, or None.

    The tuple begins with major, minor and patch; the build is ignored.
    """
    text, plus, build = text.partition("+")
    if plus and not all(part and _CHARACTERS.issuperset(part) for part in build.split(".")):
        return None
    core, dash, pre = text.partition("-")
    numbers = core.split(".")
    if len(numbers) != 3 or not all(map(_is_number, numbers)):  # noqa: PLR2004
        return None
    try:
        version = tuple(map(int, numbers))
    except ValueError:  # more digits than Python converts
        return None
    if not dash:
        # A version comes after all of its pre-releases.
        return (*version, 1)
    parts = [_identifier(part) for part in pre.split(".")]
    return None if None in parts else (*version, 0, *parts)


def _is_number(text: str) -> bool:
    """Return whether a string is digits without a leading zero."""
    return bool(text) and _DIGITS.issuperset(text) and (text == "0" or text[0] != "0")


def _identifier(text: str) -> tuple[int, int, str] | None:
    """Return the sort key of one part of a pre-release, numbers first, or None."""
    if not text or not _CHARACTERS.issuperset(text):
        return None
    if not _DIGITS.issuperset(text):
        return (1, 0, text)
    return (0, len(text), text) if _is_number(text) else None


class LooseVersion(NamedTuple):
    """A version as Split reads it: any digits, leading zeros, pre-releases of any characters."""

    text: str
    """The version without leading zeros."""
    precedence: tuple[int, int, int, bool]
    """Major, minor, patch, and whether it is a release."""
    pre_release: list[str]


def parse_loosely(text: str) -> LooseVersion | None:
    """Read a version as splitio_client 10.7.0 does; None if it is not a version."""
    core, plus, metadata = text.partition("+")
    core, dash, rest = core.partition("-")
    if (plus and not metadata) or (dash and not rest):
        return None
    try:
        major, minor, patch = map(int, core.split("."))
        pre = [str(int(x)) if x.isnumeric() else x for x in rest.split(".")] if dash else []
    except ValueError:
        return None
    normal = f"{major}.{minor}.{patch}{dash}{'.'.join(pre)}{plus}{metadata}"
    return LooseVersion(normal, (major, minor, patch, not dash), pre)


def compare_loosely(one: LooseVersion, other: LooseVersion) -> int:
    """Return a number below 0, 0, or above 0 if the first version is older, equal or newer.

    As in splitio_client 10.7.0, a number and a word in pre-releases compare as strings.
    """
    if one.precedence != other.precedence:
        return 1 if one.precedence > other.precedence else -1
    for mine, theirs in zip(one.pre_release, other.pre_release, strict=False):
        if mine != theirs:
            if mine.isnumeric() and theirs.isnumeric():
                return int(mine) - int(theirs)
            return 1 if mine > theirs else -1
    return len(one.pre_release) - len(other.pre_release)
