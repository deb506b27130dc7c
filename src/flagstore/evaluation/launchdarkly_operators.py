"""Operators of LaunchDarkly's clauses, each made into a test of one value. Pure.

A test says whether a value is what a clause asks for, by any of the clause's values. What counts
as a number, and that an operator that is unknown matches nothing, is launchdarkly-server-sdk 9.18
for Python (``ldclient.impl.operators``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.launchdarkly_fields import MalformedError, bind

if TYPE_CHECKING:
    from collections.abc import Callable

    Test = Callable[[Any], bool]


def _never(value: Any) -> bool:  # noqa: ANN401, ARG001 - a Test
    return False


def compile_test(operator: str, values: list[Any]) -> Test:
    """Return the test of an operator against any of a clause's values.

    Raises:
        MalformedError: if a date is a number beyond all floats, which the SDK refuses to decode.
    """
    if operator in _MAKERS:
        return _MAKERS[operator](values)
    if operator in ("before", "after"):
        from flagstore.evaluation.launchdarkly_dates import parse  # noqa: PLC0415 - imports datetime

        try:
            dates = [parse(value) for value in values]
        except OverflowError:
            raise MalformedError from None
        return _limit(dates, parse, above=operator == "after")
    if operator in ("semVerEqual", "semVerLessThan", "semVerGreaterThan"):
        return _version(operator, values)
    return _never


def _in(values: list[Any]) -> Test:
    texts = frozenset(value for value in values if type(value) is str)
    others = tuple([(one, isinstance(one, bool)) for one in values if type(one) is not str])
    return bind(_is_among, (texts, others))


def _is_among(known: tuple[frozenset[str], tuple[tuple[Any, bool], ...]], value: Any) -> bool:  # noqa: ANN401 - the caller's own
    texts, others = known
    if type(value) is str:
        return value in texts
    # Python takes True for 1; here they are of two types.
    is_bool = isinstance(value, bool)
    for other, other_is_bool in others:
        if is_bool is other_is_bool and value == other:
            return True
    return isinstance(value, str) and value in texts


def _texts(values: list[Any]) -> tuple[str, ...]:
    return tuple([value for value in values if isinstance(value, str)])


def _starts(values: list[Any]) -> Test:
    return bind(_starts_with, _texts(values))


def _starts_with(texts: tuple[str, ...], value: Any) -> bool:  # noqa: ANN401 - the caller's own
    return isinstance(value, str) and value.startswith(texts)


def _ends(values: list[Any]) -> Test:
    return bind(_ends_with, _texts(values))


def _ends_with(texts: tuple[str, ...], value: Any) -> bool:  # noqa: ANN401 - the caller's own
    return isinstance(value, str) and value.endswith(texts)


def _contains(values: list[Any]) -> Test:
    return bind(_has_in_it, _texts(values))


def _has_in_it(texts: tuple[str, ...], value: Any) -> bool:  # noqa: ANN401 - the caller's own
    if isinstance(value, str):
        for text in texts:
            if text in value:
                return True
    return False


def _matches(values: list[Any]) -> Test:
    patterns: list[re.Pattern[str]] | None = None

    def test(value: Any) -> bool:  # noqa: ANN401 - the caller's own
        nonlocal patterns
        if patterns is None:
            # To compile one takes longer than the whole flag, and many calls never get here.
            patterns = [found for found in map(_pattern, values) if found is not None]
        if isinstance(value, str):
            for pattern in patterns:
                if pattern.search(value) is not None:
                    return True
        return False

    return test


def _pattern(value: Any) -> re.Pattern[str] | None:  # noqa: ANN401 - provider JSON
    """Compile a regular expression; None if it is none, and matches nothing."""
    if not isinstance(value, str):
        return None
    try:
        return re.compile(value)
    except Exception:  # noqa: BLE001 - re raises more than re.error, as RecursionError
        return None


def _limit(limits: list[Any], parse: Callable[[Any], Any], *, above: bool) -> Test:
    """Return a test for more, or less, than any of the limits."""
    limit = _most_lenient(limits, above=above)
    if limit is None:
        return _never
    return bind(_is_above if above else _is_below, (parse, limit))


def _is_above(known: tuple[Callable[[Any], Any], Any], value: Any) -> bool:  # noqa: ANN401 - the caller's own
    parse, limit = known
    parsed = parse(value)
    return parsed is not None and parsed > limit


def _is_below(known: tuple[Callable[[Any], Any], Any], value: Any) -> bool:  # noqa: ANN401 - the caller's own
    parse, limit = known
    parsed = parse(value)
    return parsed is not None and parsed < limit


def _most_lenient(limits: list[Any], *, above: bool) -> Any:  # noqa: ANN401 - what is compared
    """Return the limit that decides for all of them; None if there is none."""
    # NaN, which is not itself, is no limit: nothing is more than it, or less.
    known = [limit for limit in limits if limit is not None and limit == limit]  # noqa: PLR0124
    if not known:
        return None
    return min(known) if above else max(known)


def number(value: Any) -> float | None:  # noqa: ANN401 - the caller's own
    """Return a number as a float; None for all else, truth values and texts among them.

    Raises:
        OverflowError: there is no float as large.
    """
    kind = type(value)
    if kind is float or kind is int:
        return float(value)
    if kind in (str, bool, list, dict) or value is None:
        return None
    from numbers import Number  # noqa: PLC0415 - nearly never needed

    known = isinstance(value, Number) and not isinstance(value, bool)
    return float(value) if known else None


def _compared(
    compare: Callable[[float, float], bool], make: Callable[[list[float | None]], Test]
) -> Callable[[list[Any]], Test]:
    """Return what makes the test of an operator on numbers."""

    def made(values: list[Any]) -> Test:
        try:
            return make([number(value) for value in values])
        except OverflowError:
            return bind(_passes_in_turn, (compare, values))

    return made


def _passes_in_turn(
    known: tuple[Callable[[float, float], bool], list[Any]],
    value: Any,  # noqa: ANN401 - the caller's own
) -> bool:
    """Compare with one limit after the other, as the SDK.

    Raises:
        OverflowError: it gets to one that no float is as large as.
    """
    from numbers import Number  # noqa: PLC0415 - nearly never needed

    compare, limits = known
    for limit in limits:
        both = (value, limit)
        numbers = all(isinstance(one, Number) and not isinstance(one, bool) for one in both)
        if numbers and compare(float(value), float(limit)):
            return True
    return False


def _up_to(limits: list[float | None], *, above: bool) -> Test:
    """Return a test for at least, or at most, any of the limits."""
    limit = _most_lenient(limits, above=above)
    if limit is None:
        return _never
    return bind(_is_at_least if above else _is_at_most, limit)


def _is_at_least(limit: float, value: Any) -> bool:  # noqa: ANN401 - the caller's own
    given = number(value)
    return given is not None and given >= limit


def _is_at_most(limit: float, value: Any) -> bool:  # noqa: ANN401 - the caller's own
    given = number(value)
    return given is not None and given <= limit


def _version(operator: str, values: list[Any]) -> Test:
    from flagstore.evaluation.launchdarkly_semver import parse  # noqa: PLC0415 - seldom needed

    versions = [parse(value) for value in values]
    if operator != "semVerEqual":
        return _limit(versions, parse, above=operator == "semVerGreaterThan")
    known = frozenset(version for version in versions if version is not None)
    return bind(_is_version, (parse, known))


def _is_version(known: tuple[Callable[[Any], Any], frozenset[Any]], value: Any) -> bool:  # noqa: ANN401 - the caller's own
    parse, versions = known
    return parse(value) in versions


_MAKERS: dict[str, Callable[[list[Any]], Test]] = {
    "in": _in,
    "startsWith": _starts,
    "endsWith": _ends,
    "contains": _contains,
    "matches": _matches,
    "lessThan": _compared(
        lambda one, other: one < other, lambda limits: _limit(limits, number, above=False)
    ),
    "lessThanOrEqual": _compared(
        lambda one, other: one <= other, lambda limits: _up_to(limits, above=False)
    ),
    "greaterThan": _compared(
        lambda one, other: one > other, lambda limits: _limit(limits, number, above=True)
    ),
    "greaterThanOrEqual": _compared(
        lambda one, other: one >= other, lambda limits: _up_to(limits, above=True)
    ),
}
"""Operators whose tests need nothing that is not here."""
