"""Constraints of Unleash's strategies and segments, each compiled into a function. No I/O.

As yggdrasil-engine 2.0.0 evaluates them. It translates each flag's rules into its own language and
parses that, with visible effects: whether a value is a date, a version or a number depends on the
value and not on the operator, and a constraint that does not parse turns the whole flag off. Values
that could change how the rules parse, such as unescaped quotes, are unsupported here.
"""

from __future__ import annotations

import re
from operator import eq, ge, gt, le, lt
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import (
    UnsupportedError,
    all_of,
    optional,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import TypeAlias

    from flagstore.evaluation.base import Json

    Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]
    """Returns whether a context matches; a missing field is None."""
    Test: TypeAlias = Callable[[str], bool]
    """Returns whether a field's value matches."""
    Read: TypeAlias = Callable[[str], Any]
    """Parses a string into a value that can be compared, or None."""

WHITE_SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's White_Space; ``str.isspace`` has four more control characters."""

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "NUM_EQ": eq,
    "NUM_GT": gt,
    "NUM_GTE": ge,
    "NUM_LT": lt,
    "NUM_LTE": le,
    "DATE_AFTER": gt,
    "DATE_BEFORE": lt,
    "SEMVER_EQ": eq,
    "SEMVER_GT": gt,
    "SEMVER_GTE": ge,
    "SEMVER_LT": lt,
    "SEMVER_LTE": le,
}
_TEXTS = ("STR_STARTS_WITH", "STR_ENDS_WITH", "STR_CONTAINS")
_EPSILON = 2.0**-52
_MAX_U64 = (1 << 64) - 1


class OffError(Exception):
    """The official engine cannot compile the flag, which is then off."""


class UnknownOperatorError(OffError):
    """A later engine may know the operator."""


def constraint(given: Json) -> Predicate:
    """Compile one constraint.

    Raises:
        OffError: the official engine cannot compile it.
        UnsupportedError: the official engine's result cannot be determined here.
        MalformedError: the official engine rejects the whole document.
    """
    name = quotable(required(given, "contextName", str))
    operator = required(given, "operator", str)
    inverted = optional(given, "inverted", bool) is True
    ignore_case = optional(given, "caseInsensitive", bool) is True
    values: list[str] = all_of(optional(given, "values", list), str)
    value: str | None = optional(given, "value", str)
    if operator in ("IN", "NOT_IN"):
        return members(name, values, negate=inverted is (operator == "IN"))
    if operator in _TEXTS or operator == "IN_CIDR":
        if not values:
            raise OffError(f"{operator} without values")
        _check_escapable(values)
        test = (
            in_networks(values) if operator == "IN_CIDR" else _text(operator, values, ignore_case)
        )
    elif operator in _COMPARISONS:
        if value is None:
            raise OffError(f"{operator} without a value")
        if operator.startswith("SEMVER") and value.startswith("v"):
            return never  # not even inverted
        test = _ordinal(value, _COMPARISONS[operator])
    elif operator == "REGEX":
        test = _pattern(value or "", ignore_case)
    else:
        raise UnknownOperatorError(f"unknown operator {operator[:64]!r}")
    return of_field(name, test, inverted=inverted)


def never(_: Mapping[str, Any]) -> bool:
    """Match no context."""
    return False


def of_field(name: str, test: Test, *, inverted: bool = False) -> Predicate:
    """Return a predicate that tests a field's value. A missing field matches only if inverted."""

    def check(context: Mapping[str, Any]) -> bool:
        value = context[name]
        return value is not None and test(value)

    return (lambda context: not check(context)) if inverted else check


def members(name: str, values: list[str], *, negate: bool = False) -> Predicate:
    """Return a predicate that a field is one of some values; a missing field is not."""
    _check_escapable(values)
    listed = frozenset(values)
    if negate:
        return lambda context: context[name] not in listed
    return lambda context: context[name] in listed


def every(predicates: list[Predicate]) -> Predicate | None:
    """Combine predicates with and; return None if there are none."""
    if len(predicates) <= 1:
        return predicates[0] if predicates else None

    def check(context: Mapping[str, Any]) -> bool:
        for predicate in predicates:  # noqa: SIM110 - all() with a generator is slower
            if not predicate(context):
                return False
        return True

    return check


def quotable(text: str) -> str:
    """Return a string that the official engine puts in quotes without escaping it.

    Raises:
        UnsupportedError: the string would end early, or never.
    """
    if '"' in text:
        raise UnsupportedError("a quote in a name")
    _check_escapable([text])
    return text


def _check_escapable(values: list[str]) -> None:
    """Check values in which the official engine escapes quotes, but not backslashes."""
    for value in values:
        if value.endswith("\\"):
            raise UnsupportedError("a trailing backslash")


# -- strings and regular expressions ---------------------------------------------------------------


def _text(operator: str, values: list[str], ignore_case: bool) -> Test:  # noqa: FBT001 - a setting
    options = tuple(value.lower() for value in values) if ignore_case else tuple(values)

    def contains(value: str) -> bool:
        for part in options:  # noqa: SIM110 - any() with a generator is slower
            if part in value:
                return True
        return False

    tests: dict[str, Test] = {
        "STR_STARTS_WITH": lambda value: value.startswith(options),
        "STR_ENDS_WITH": lambda value: value.endswith(options),
        "STR_CONTAINS": contains,
    }
    test = tests[operator]
    return (lambda value: test(value.lower())) if ignore_case else test


def _pattern(value: str, ignore_case: bool) -> Test:  # noqa: FBT001 - a setting
    from flagstore.evaluation import patterns  # noqa: PLC0415 - few flags have one

    _check_escapable([value])
    try:
        return patterns.matcher(value, ignore_case=ignore_case)
    except patterns.InvalidPatternError:
        return lambda _: False
    except UnsupportedError as error:
        why = f"regular expression {value[:200]!r}: {error}"

        # Raised only when reached: another strategy may match first.
        def unsupported(_: str) -> bool:
            raise UnsupportedError(why)

        return unsupported


# -- numbers, dates and versions -------------------------------------------------------------------


def _ordinal(value: str, compare: Callable[[Any, Any], bool]) -> Test:
    text = value.strip(" \t")
    read = _reader(text)
    bound = read(text)
    if bound is None:
        if re.match(r"[+-]?[0-9].*?(?:and|or|\))", text):
            raise UnsupportedError("a value with keywords of the official engine")
        raise OffError("not a date, version or number")
    if read is _number and compare is eq:
        compare = _nearly_equal

    def check(found: str) -> bool:
        given = read(found)
        return given is not None and compare(given, bound)

    return check


def _nearly_equal(one: float, other: float) -> bool:
    return abs(one - other) < _EPSILON


def _reader(text: str) -> Read:
    """Return the parser for a constraint's value and for those it is compared with.

    The values of constraints must also fit the grammar of the official engine's language.
    """
    if text[4:5] == "-" and re.fullmatch(_DATE_LITERAL, text):
        return date
    if text.count(".") > 1:
        return _version
    return _number if text.lstrip("+-")[:1].isdecimal() else lambda _: None


def _number(text: str) -> float | None:
    """Parse a number as Rust's ``f64``: no white space, underscores or non-ASCII digits."""
    try:
        found = float(text)
    except ValueError:
        return None
    return None if "_" in text or not text.isascii() or text.strip() != text else found


def _version(text: str) -> tuple[Any, ...] | None:
    """Parse a version as the crate semver 1.0.28, whose numbers have 64 bits."""
    from flagstore.evaluation import semver  # noqa: PLC0415 - few flags have one

    found = semver.parse(text)
    return None if found is None or max(found[:3]) > _MAX_U64 else found


_S = f"[{WHITE_SPACE}]*"
_DATE_LITERAL = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3})?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_DATE = (
    rf"{_S}([+-][0-9]+|[0-9]{{1,4}}){_S}-{_S}([0-9]{{1,2}}){_S}-{_S}([0-9]{{1,2}})"
    rf"[tT ]{_S}([01]?[0-9]|2[0-3]){_S}:{_S}([0-9]{{1,2}}){_S}:{_S}([0-9]{{1,2}})"
    rf"(?:\.([0-9]+))?{_S}"
    rf"(?:[uU][tT][cC]|[zZ]|([+\-\u2212])([0-9]{{2}})[:{WHITE_SPACE}]*([0-5][0-9])){_S}"
)


def date(text: str) -> tuple[datetime, str] | None:
    """Parse a date as the crate chrono 0.4.45, in its relaxed form of RFC 3339.

    Returns:
        The time without its fraction, and the fraction's nine digits.

    Raises:
        UnsupportedError: Python's calendar does not have it.
    """
    from datetime import datetime  # noqa: PLC0415 - few flags have one

    found = re.fullmatch(_DATE, text)
    if found is None:
        return None
    year, *rest, fraction, sign, offset_h, offset_m = found.groups("")
    if len(year) > 5 or not 1 <= int(year) <= 9999 or rest[4] == "60":  # noqa: PLR2004 - see above
        raise UnsupportedError("a year before 1 or after 9999, or a leap second")
    month, day, hour, minute, second = (one.zfill(2) for one in rest)
    zone = f"{'+' if sign in ('', '+') else '-'}{offset_h or '00'}:{offset_m or '00'}"
    moment = f"{int(year):04}-{month}-{day}T{hour}:{minute}:{second}{zone}"
    try:
        return datetime.fromisoformat(moment), fraction[:9].ljust(9, "0")
    except ValueError:
        return None


# -- addresses -------------------------------------------------------------------------------------


def in_networks(values: list[str]) -> Test:
    """Return a test for addresses in any of the given networks; invalid ones are ignored.

    Raises:
        UnsupportedError: a network has a mask, or a sign before the length of its prefix.
    """
    from ipaddress import ip_address, ip_network  # noqa: PLC0415 - few flags have one

    networks = []
    for value in values:
        if "/+" in value or "." in value.partition("/")[2]:
            raise UnsupportedError("a network with a mask or a sign")
        try:
            networks += [] if "%" in value else [ip_network(value, strict=False)]
        except ValueError:
            continue

    def check(text: str) -> bool:
        try:
            found = ip_address(text)
        except ValueError:
            return False
        return "%" not in text and any(found in network for network in networks)

    return check
