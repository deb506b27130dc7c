"""Semantic versions in LaunchDarkly's clauses. Pure; imported when a flag first compares some.

As ``parse_semver`` in launchdarkly-server-sdk 9.18 for Python, over the package semver.
"""

from __future__ import annotations

from typing import Any

_DIGITS = frozenset("0123456789")
_CHARACTERS = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-")


def parse(value: Any) -> tuple[Any, ...] | None:  # noqa: ANN401 - provider JSON or the caller's own
    """Return what versions are compared by, or None for what is no version.

    Besides what semver.org has, ``2`` and ``2.0`` are versions, and ``2-rc`` is: up to two times
    ``.0`` is put behind the leading digits and dots, in the first line; the rest is cut off then.
    """
    if not isinstance(value, str):
        return None
    for _ in range(3):
        version = _strict(value)
        if version is not None:
            return version
        line = value.partition("\n")[0]
        rest = line.lstrip("0123456789.")
        value = f"{line[: len(line) - len(rest)]}.0{rest}"
    return None


def _strict(text: str) -> tuple[Any, ...] | None:
    """Return (major, minor, patch, rank, pre-release) of a complete version, or None."""
    text, plus, build = text.partition("+")
    if plus and not all(part and _CHARACTERS.issuperset(part) for part in build.split(".")):
        return None
    core, dash, pre = text.partition("-")
    numbers = core.split(".")
    if len(numbers) != 3 or not all(_is_number(number) for number in numbers):  # noqa: PLR2004
        return None
    try:
        version = tuple(int(number) for number in numbers)
    except ValueError:  # more digits than Python converts
        return None
    if not dash:
        # A version comes after all of its pre-releases.
        return (*version, 1)
    parts = [_identifier(part) for part in pre.split(".")]
    return None if None in parts else (*version, 0, *parts)


def _is_number(text: str) -> bool:
    """Return whether these are digits, and no zero leads."""
    return bool(text) and _DIGITS.issuperset(text) and (text == "0" or text[0] != "0")


def _identifier(text: str) -> tuple[int, int, str] | None:
    """Return what parts of a pre-release are compared by: numbers before texts, or None."""
    if not text or not _CHARACTERS.issuperset(text):
        return None
    if not _DIGITS.issuperset(text):
        return (1, 0, text)
    return (0, len(text), text) if _is_number(text) else None
