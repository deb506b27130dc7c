"""Constraints of Unleash's strategies and segments, each compiled into a function. Pure.

Unleash's engine writes every rule as one text in a language of its own and parses that. What of it
shows in results: a value is a date, a version or a number by its looks and not by its operator;
a text operator without values does not parse; and what does not parse turns the whole flag off.
Values that could change the text's meaning are found, and not guessed at: quotes where the engine
does not escape them, backslashes at the end, words after a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Predicate = Callable[[Mapping[str, Any]], bool]
    """What a rule says of a context, which gives None for what it does not have."""

WHITE_SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's White_Space: ``str.isspace`` has four control characters more."""

_COMPARISONS = {
    "NUM_EQ": "==",
    "NUM_GT": ">",
    "NUM_GTE": ">=",
    "NUM_LT": "<",
    "NUM_LTE": "<=",
    "DATE_AFTER": ">",
    "DATE_BEFORE": "<",
    "SEMVER_EQ": "==",
    "SEMVER_GT": ">",
    "SEMVER_GTE": ">=",
    "SEMVER_LT": "<",
    "SEMVER_LTE": "<=",
}
WORDS = ("and", "or", ")")
"""How a rule goes on behind a constraint, in the engine's language."""


class OffError(Exception):
    """The engine cannot compile the flag, which is then off."""


class UnknownOperatorError(OffError):
    """The same, for an operator that a later engine may know."""


class UnsupportedError(Exception):
    """What the engine would say cannot be told here."""


class InjectionError(Exception):
    """A text that ends before its end in the engine's language."""


def constraint(given: Any) -> Predicate:  # noqa: ANN401 - provider JSON
    """Compile one constraint.

    Raises:
        OffError: the engine cannot compile it.
        UnsupportedError: the engine's response cannot be told.
        InjectionError: what a text means depends on what follows.
    """
    name, operator = given["contextName"], given["operator"]
    check_quotable(name)
    inverted = flag(given, "inverted")
    ignore_case = flag(given, "caseInsensitive")
    if operator in ("IN", "NOT_IN"):
        return _member(name, _values(given), negate=inverted is (operator == "IN"))
    if operator in _TEXTS:
        predicate = _TEXTS[operator](name, _listed(given), ignore_case)
    elif operator in _COMPARISONS:
        value = given.get("value")
        if value is None:
            raise OffError(f"{operator} without a value")
        if operator.startswith("SEMVER") and text(value).startswith("v"):
            return lambda _: False  # not even inverted
        predicate = _ordinal(name, text(value), _COMPARISONS[operator])
    elif operator == "REGEX":
        predicate = _regex(name, given.get("value"), ignore_case)
    elif operator == "IN_CIDR":
        from flagstore.evaluation.unleash_addresses import in_networks  # noqa: PLC0415 - seldom

        predicate = in_networks(name, _listed(given))
    else:
        raise UnknownOperatorError(f"the operator {text(operator)[:64]!r} is not known")
    if inverted:
        return lambda context: not predicate(context)
    return predicate


def every(predicates: list[Predicate]) -> Predicate | None:
    """Join predicates by and; none if there is none."""
    if not predicates:
        return None
    if len(predicates) == 1:
        return predicates[0]
    if len(predicates) == 2:  # noqa: PLR2004 - a pair
        first, second = predicates
        return lambda context: first(context) and second(context)
    all_of = tuple(predicates)

    def check(context: Mapping[str, Any]) -> bool:
        for predicate in all_of:  # noqa: SIM110 - all() with a generator is slower
            if not predicate(context):
                return False
        return True

    return check


def text(given: Any) -> str:  # noqa: ANN401 - provider JSON
    """Return a text; TypeError if it is none, which the engine takes no flags with at all."""
    if not isinstance(given, str):
        raise TypeError("a text is expected")
    return given


def listed(given: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list, empty where it is not there; TypeError if it is none."""
    value = given.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError("a list is expected")
    return value


def parameters(strategy: Mapping[str, Any]) -> dict[str, str]:
    """Return a strategy's parameters, empty where it has none; TypeError if one is no text."""
    given = strategy.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise TypeError("an object is expected")
    return {name: text(value) for name, value in given.items()}


def flag(given: Mapping[str, Any], name: str) -> bool:
    """Return a setting that is false where it is not there."""
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise TypeError("true or false is expected")
    return value


def check_quotable(given: Any) -> None:  # noqa: ANN401 - provider JSON
    """Check a text that the engine puts in quotes as it is."""
    if '"' in text(given) or given.endswith("\\"):
        raise InjectionError


def _values(given: Mapping[str, Any]) -> list[str]:
    values = given.get("values")
    if values is None:
        return []
    if not isinstance(values, list):
        raise TypeError("a list is expected")
    check_escapable(values)
    return values


def check_escapable(values: list[str]) -> None:
    """Check texts that the engine puts in quotes after escaping quotes in them, and only quotes."""
    for value in values:
        if text(value).endswith("\\"):
            raise InjectionError


def _listed(given: Mapping[str, Any]) -> list[str]:
    values = _values(given)
    if not values:
        raise OffError(f"{given['operator']} without values")
    return values


def _member(name: str, values: list[str], *, negate: bool) -> Predicate:
    # A missing value is None, and in no list: so inverted IN and NOT_IN are the same.
    listed = frozenset(values)
    if negate:
        return lambda context: context[name] not in listed
    return lambda context: context[name] in listed


def members(name: str, values: list[str]) -> Predicate:
    """Return what says whether a field is one of some values."""
    check_escapable(values)
    return _member(name, values, negate=False)


def _starts_with(name: str, values: list[str], ignore_case: bool) -> Predicate:  # noqa: FBT001 - one of a table
    if ignore_case:
        lowered = tuple(value.lower() for value in values)

        def check(context: Mapping[str, Any]) -> bool:
            value = context[name]
            return value is not None and value.lower().startswith(lowered)

        return check
    listed = tuple(values)

    def check_case(context: Mapping[str, Any]) -> bool:
        value = context[name]
        return value is not None and value.startswith(listed)

    return check_case


def _ends_with(name: str, values: list[str], ignore_case: bool) -> Predicate:  # noqa: FBT001 - as above
    if ignore_case:
        lowered = tuple(value.lower() for value in values)

        def check(context: Mapping[str, Any]) -> bool:
            value = context[name]
            return value is not None and value.lower().endswith(lowered)

        return check
    listed = tuple(values)

    def check_case(context: Mapping[str, Any]) -> bool:
        value = context[name]
        return value is not None and value.endswith(listed)

    return check_case


def _contains(name: str, values: list[str], ignore_case: bool) -> Predicate:  # noqa: FBT001 - as above
    listed = tuple(value.lower() for value in values) if ignore_case else tuple(values)

    def check(context: Mapping[str, Any]) -> bool:
        value = context[name]
        if value is None:
            return False
        if ignore_case:
            value = value.lower()
        for part in listed:  # noqa: SIM110 - any() with a generator is slower
            if part in value:
                return True
        return False

    return check


_TEXTS = {
    "STR_STARTS_WITH": _starts_with,
    "STR_ENDS_WITH": _ends_with,
    "STR_CONTAINS": _contains,
}


def _ordinal(name: str, value: str, comparison: str) -> Predicate:
    # Loaded where it is needed, as regular expressions are.
    from flagstore.evaluation import unleash_literals as literals  # noqa: PLC0415

    try:
        read, fits = literals.ordinal(value, comparison)
    except literals.NotLiteralError as error:
        rest = error.args[0].lstrip(" \t")
        if rest.startswith(WORDS):
            raise UnsupportedError("a value with words of the engine's language") from None
        raise OffError("a value that is no date, version or number") from None

    def check(context: Mapping[str, Any]) -> bool:
        found = context[name]
        if found is None:
            return False
        found = read(found)
        return found is not None and fits(found)

    if name != "currentTime" or read is not literals.date:
        return check

    def check_clock(context: Any) -> bool:  # noqa: ANN401 - a Context
        return check(context) if name in context else fits(literals.instant(context.now()))

    return check_clock


def _regex(name: str, value: Any, ignore_case: bool) -> Predicate:  # noqa: ANN401, FBT001 - provider JSON
    from flagstore.evaluation import patterns  # noqa: PLC0415 - as above

    value = "" if value is None else text(value)
    check_escapable([value])
    try:
        found_in = patterns.matcher(value, ignore_case=ignore_case)
    except patterns.InvalidPatternError:
        return lambda _: False
    except patterns.UnsupportedPatternError as error:
        # Only where it is reached: another rule may match first.
        return _unsupported(name, f"the regular expression {value[:200]!r}: {error}")

    def check(context: Mapping[str, Any]) -> bool:
        found = context[name]
        return found is not None and bool(found_in(found))

    return check


def _unsupported(name: str, why: str) -> Predicate:
    def check(context: Mapping[str, Any]) -> bool:
        if context[name] is None:
            return False
        raise UnsupportedError(why)

    return check
