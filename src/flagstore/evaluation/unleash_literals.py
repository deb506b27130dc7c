"""Numbers, dates and versions as Unleash's engine reads them from text. Pure.

The engine, yggdrasil 2.0.0, is written in Rust, whose parsers differ from Python's in both
directions; the rules here are those of ``f64`` of its standard library and of the crates chrono
0.4.45 and semver 1.0.28. Each function returns None for what does not parse.
"""

from __future__ import annotations

import re
from functools import cache
from operator import eq, ge, gt, le, lt
from typing import TYPE_CHECKING, Any, Final

from flagstore.evaluation.unleash_operators import WHITE_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    Fields = tuple[int, int, int, int, int, int, str, str]
    """Year to second, the fraction's digits, and the offset as ``+hhmm``."""
    Version = tuple[Any, ...]

_MAX_U64: Final = (1 << 64) - 1
_EPSILON: Final = 2.0**-52
_MARKS: Final = ("-", "-", "T", ":", ":")
_LITERAL_FRACTION = 3
_DAY_S, _MAX_OFFSET_S = 86_400, 86_400
_FIRST_DAY, _LAST_DAY = -96_465_292, 95_026_236
"""1 January -262143 and 31 December 262142, in days since the epoch: all that chrono knows."""

_S = f"[{WHITE_SPACE}]*"
_FRAGMENT = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_COMPARISONS: Final = {"<": lt, "<=": le, "==": eq, ">=": ge, ">": gt}


# Compiled when first asked for: most flag sets need few of them, and the plain forms need none.
@cache
def _literal(name: str) -> re.Pattern[str]:
    """What a constraint's value may be: the engine's own grammar, narrower than its parsers."""
    if name == "date":
        return re.compile(
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3})?"
            r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
        )
    if name == "version":
        return re.compile(rf"[0-9]+\.[0-9]+\.[0-9]+(?:-{_FRAGMENT})?(?:\+{_FRAGMENT})?")
    return re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")


@cache
def _date_pattern() -> re.Pattern[str]:
    """Chrono's relaxed form of RFC 3339."""
    return re.compile(
        rf"{_S}(?:([+-][0-9]+)|([0-9]{{1,4}})){_S}-{_S}([0-9]{{1,2}}){_S}-{_S}([0-9]{{1,2}})"
        rf"[tT ]{_S}([0-9]{{1,2}}){_S}:{_S}([0-9]{{1,2}}){_S}:{_S}([0-9]{{1,2}})"
        rf"(?:\.([0-9]+))?{_S}"
        rf"(?:[uU][tT][cC]|[zZ]|([+\-\u2212])([0-9]{{2}})[:{WHITE_SPACE}]*([0-5][0-9])){_S}"
    )


@cache
def _version_pattern() -> re.Pattern[str]:
    return re.compile(
        rf"([0-9]+)\.([0-9]+)\.([0-9]+)(?:-({_FRAGMENT}))?(?:\+{_FRAGMENT})?",
    )


class NotLiteralError(Exception):
    """A constraint's value is none of the engine's; ``args`` is what follows what could be one."""


def ordinal(text: str, comparison: str) -> tuple[Callable[[str], Any], Callable[[Any], bool]]:
    """Return how to read a context's value, and whether what was read fits a constraint.

    What a value is depends on how it looks, whatever the operator's name: the engine compares as
    dates where it is a date, as versions where it is a version, else as numbers.

    Raises:
        NotLiteralError: the value is none of these.
    """
    name, value, rest = _split(text.strip(" \t"))
    read = _READERS[name]
    bound = read(value)
    if rest or bound is None:
        raise NotLiteralError(rest)
    if read is number and comparison == "==":
        return read, lambda given: abs(given - bound) < _EPSILON
    compare = _COMPARISONS[comparison]
    return read, lambda given: compare(given, bound)


def _split(text: str) -> tuple[str, str, str]:
    """Return what a text begins with: of which kind, how it reads, and what follows it."""
    if text.isascii() and text.isdigit():
        return "number", text, ""
    plain = _plain_date(text)
    if plain is not None and len(plain[6]) in (0, _LITERAL_FRACTION):
        return "date", text, ""
    # Each needs time to compile.
    possible = {"date": text[4:5] == "-", "version": "." in text, "number": True}
    for name, may_be in possible.items():
        found = _literal(name).match(text) if may_be else None
        if found is not None:
            return name, found[0], text[found.end() :]
    raise NotLiteralError("")


def number(text: str) -> float | None:
    """Read a number: no white space, no underscore, no digit beyond ASCII."""
    try:
        found = float(text)
    except ValueError:
        return None
    if "_" in text or not text.isascii() or text.strip() != text:
        return None
    return found


def date(text: str) -> tuple[int, int] | None:
    """Read a date: seconds since the epoch, and nanoseconds, 10^9 more in a second of 60."""
    fields = _plain_date(text) or _relaxed_date(text)
    if fields is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = fields
    days = _days(year, month, day)
    clock = _clock(hour, minute, second)
    if days is None or clock is None:
        return None
    seconds, nanoseconds = days * _DAY_S + clock[0], clock[1]
    if fraction:
        nanoseconds += int(fraction[:9].ljust(9, "0"))
    if zone:
        offset = int(zone[1:3]) * 3600 + int(zone[3:]) * 60
        if offset >= _MAX_OFFSET_S:
            return None
        seconds += offset if zone[0] == "-" else -offset
        if not _FIRST_DAY <= seconds // _DAY_S <= _LAST_DAY:
            return None
    return seconds, nanoseconds


def instant(now: float) -> tuple[int, int]:
    """Return seconds since the epoch as a date is read: in microseconds, as the SDK tells it."""
    seconds, microseconds = divmod(round(now * 1_000_000), 1_000_000)
    return seconds, microseconds * 1000


def _plain_date(text: str) -> Fields | None:
    """Split a date as most are written, which needs no regular expression."""
    if not (
        text.isascii()
        and (text[4:5], text[7:8], text[10:11], text[13:14], text[16:17]) == _MARKS
        and (text[:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16] + text[17:19]).isdigit()
    ):
        return None
    rest, zone = text[19:], ""
    if rest.endswith("Z"):
        rest = rest[:-1]
    else:
        sign, hours, colon, minutes = rest[-6:-5], rest[-5:-3], rest[-3:-2], rest[-2:]
        if sign not in ("+", "-") or colon != ":" or not (hours + minutes).isdigit():
            return None
        if minutes > "59":
            return None
        zone, rest = sign + hours + minutes, rest[:-6]
    if rest and not (rest[0] == "." and rest[1:].isdigit()):
        return None
    day, clock = (int(text[:4]), int(text[5:7]), int(text[8:10])), text
    return *day, int(clock[11:13]), int(clock[14:16]), int(clock[17:19]), rest[1:], zone


def _relaxed_date(text: str) -> Fields | None:
    """Split a date in any way that chrono reads."""
    found = _date_pattern().fullmatch(text)
    if found is None:
        return None
    signed, plain, month, day, hour, minute, second, fraction, sign, *offset = found.groups("")
    if signed:
        plain = signed[0] + (signed[1:].lstrip("0") or "0")
        if len(plain) > 10:  # noqa: PLR2004 - far beyond what chrono knows
            return None
    zone = ("+" if sign == "+" else "-") + "".join(offset) if sign else ""
    clock = (int(hour), int(minute), int(second))
    return (int(plain), int(month), int(day), *clock, fraction, zone)


def _clock(hour: int, minute: int, second: int) -> tuple[int, int] | None:
    """Return the second of the day and the nanoseconds: a second of 60 is a long second of 59."""
    if hour > 23 or minute > 59 or second > 60:  # noqa: PLR2004 - a clock
        return None
    long = second == 60  # noqa: PLR2004
    return hour * 3600 + minute * 60 + second - long, 1_000_000_000 * long


def _days(year: int, month: int, day: int) -> int | None:
    """Return days since the epoch in the Gregorian calendar, extended to all years."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    lengths = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not 1 <= month <= len(lengths) or not 1 <= day <= lengths[month - 1]:
        return None
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400
    days += sum(lengths[: month - 1]) + day - 719_163
    return days if _FIRST_DAY <= days <= _LAST_DAY else None


def version(text: str) -> Version | None:
    """Read a semantic version; what is returned compares by precedence, without the build."""
    found = _version_pattern().fullmatch(text)
    if found is None:
        return None
    major, minor, patch, before = found.groups()
    numbers = []
    for part in (major, minor, patch):
        if (part[0] == "0" and part != "0") or len(part) > 20 or int(part) > _MAX_U64:  # noqa: PLR2004 - its digits
            return None
        numbers.append(int(part))
    if before is None:
        # After each pre-release.
        return (*numbers, (1,))
    keys: list[tuple[int, int, str]] = []
    for part in before.split("."):
        if not part.isdigit():
            keys.append((1, 0, part))
        elif part[0] == "0" and part != "0":
            return None
        else:
            # Of any length, compared by it first.
            keys.append((0, len(part), part))
    return (*numbers, (0, tuple(keys)))


_READERS: dict[str, Callable[[str], Any]] = {"date": date, "version": version, "number": number}
