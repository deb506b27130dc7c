"""LaunchDarkly's clauses, their operators, and segments, compiled. No I/O.

Imported when a flag first has rules. Unknown operators and invalid regular expressions match
nothing, as in launchdarkly-server-sdk 9.18 for Python (``ldclient.impl.operators``,
``_segment_matches_context``).
"""

from __future__ import annotations

import re
from operator import ge, gt, le, lt
from sys import intern
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import (
    MalformedError,
    UnsupportedError,
    all_of,
    optional,
    required,
)
from flagstore.evaluation.launchdarkly_flags import (
    USER,
    bind,
    compile_bucket,
    read,
    reference,
    share_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flagstore.evaluation.base import Json
    from flagstore.evaluation.launchdarkly_flags import Bucket, Context, Matcher, Path, Reference

    Test = Callable[[Any], bool]
    """Returns whether a context's value passes an operator with any of a clause's values."""
    Version = tuple[Any, ...]
    Parse = Callable[[Any], Any]
    """Returns None for a value that an operator does not compare."""
    Lists = list[tuple[str, set[str]]]
    """Kind of context and its keys."""
    Rule = tuple[Matcher | None, tuple[Bucket, float] | None]
    """The clauses (None always matches), and the share of matching contexts (None: all)."""

# -- clauses --------------------------------------------------------------------------------------


def compile_clauses(rule: Json) -> Matcher | None:
    """Return a matcher for all clauses of a rule; None if there are none, which always matches."""
    clauses = all_of(required(rule, "clauses", list), dict)
    matchers = tuple([_compile_clause(clause) for clause in clauses])
    if len(matchers) > 1:
        return bind(_every, matchers)
    return matchers[0] if matchers else None


def _compile_clause(clause: Json) -> Matcher:
    kind = optional(clause, "contextKind", str)
    names = reference(required(clause, "attribute", str), kind)
    negate = optional(clause, "negate", bool) is True
    operator = required(clause, "op", str)
    values = required(clause, "values", list)
    if operator == "segmentMatch":
        return bind(_in_segments, (tuple(values), negate))
    # Many clauses share few names.
    kind = intern(kind or USER)
    if len(names) == 1:
        name = intern(names[0])
        if name == "kind":
            return bind(_on_kinds, (_compile_test(operator, values), negate))
        if operator == "in" and all(type(value) is str for value in values):
            return bind(_in_strings, (kind, name, frozenset(values), negate))
        return bind(_on_attribute, (kind, name, _compile_test(operator, values), negate))
    return bind(_on_reference, (kind, names, _compile_test(operator, values), negate))


def _every(matchers: tuple[Matcher, ...], context: Context, path: Path) -> bool:
    for matches in matchers:  # noqa: SIM110 - all() would make a generator
        if not matches(context, path):
            return False
    return True


def _in_segments(known: tuple[tuple[Any, ...], bool], context: Context, path: Path) -> bool:
    keys, negate = known
    compiled = path[0]
    for key in keys:
        contains = compiled.segments.get(key) or compiled.segment(key)
        if contains is not None and contains(context, path):
            return not negate
    return negate


def _on_kinds(known: tuple[Test, bool], context: Context, _path: Path) -> bool:
    test, negate = known
    for kind in context:
        if test(kind):
            return not negate
    return negate


def _in_strings(
    known: tuple[str, str, frozenset[str], bool], context: Context, _path: Path
) -> bool:
    """The most common clause, with one call fewer."""
    kind, name, strings, negate = known
    attributes = context.get(kind)
    if attributes is None:
        return False
    value = attributes.get(name)
    if type(value) is str:
        return (value in strings) is not negate
    return value is not None and _any(value, bind(_is_among, (strings, ()))) is not negate


def _on_attribute(known: tuple[str, str, Test, bool], context: Context, _path: Path) -> bool:
    kind, name, test, negate = known
    attributes = context.get(kind)
    if attributes is None:
        return False
    value = attributes.get(name)
    # Without a value, not even a negated clause matches.
    return value is not None and _any(value, test) is not negate


def _on_reference(known: tuple[str, Reference, Test, bool], context: Context, _path: Path) -> bool:
    kind, names, test, negate = known
    attributes = context.get(kind)
    if attributes is None:
        return False
    value = read(attributes, names)
    return value is not None and _any(value, test) is not negate


def _any(value: object, test: Test) -> bool:
    """Return whether a value, or one of the values in a list or tuple, passes."""
    if isinstance(value, (list, tuple)):
        for one in value:  # noqa: SIM110 - any() would make a generator
            if test(one):
                return True
        return False
    return test(value)


# -- operators ------------------------------------------------------------------------------------


def _compile_test(operator: str, values: list[Json]) -> Test:
    make = _OPERATORS.get(operator)
    try:
        return _never if make is None else make(values)
    except OverflowError:
        raise MalformedError("values") from None  # too large for a float


def _never(_value: object) -> bool:
    return False


def _in(values: list[Json]) -> Test:
    strings = frozenset(value for value in values if type(value) is str)
    others = tuple([(one, isinstance(one, bool)) for one in values if type(one) is not str])
    return bind(_is_among, (strings, others))


def _is_among(known: tuple[frozenset[str], tuple[tuple[Any, bool], ...]], value: object) -> bool:
    strings, others = known
    if type(value) is str:
        return value in strings
    # In Python, True equals 1; here, they must differ.
    is_bool = isinstance(value, bool)
    for other, other_is_bool in others:
        if is_bool is other_is_bool and value == other:
            return True
    return isinstance(value, str) and value in strings


def _strings(values: list[Json]) -> tuple[str, ...]:
    return tuple([value for value in values if isinstance(value, str)])


def _starts_with(strings: tuple[str, ...], value: object) -> bool:
    return isinstance(value, str) and value.startswith(strings)


def _ends_with(strings: tuple[str, ...], value: object) -> bool:
    return isinstance(value, str) and value.endswith(strings)


def _contains(strings: tuple[str, ...], value: object) -> bool:
    if isinstance(value, str):
        for string in strings:
            if string in value:
                return True
    return False


def _matches(values: list[Json]) -> Test:
    patterns: list[re.Pattern[str]] | None = None

    def test(value: object) -> bool:
        nonlocal patterns
        if patterns is None:
            # Compiling a pattern takes longer than the rest of the flag, and many calls never get
            # here.
            patterns = [found for found in map(_pattern, values) if found is not None]
        if isinstance(value, str):
            for pattern in patterns:
                if pattern.search(value) is not None:
                    return True
        return False

    return test


def _pattern(value: Json) -> re.Pattern[str] | None:
    if not isinstance(value, str):
        return None
    try:
        return re.compile(value)
    except (re.error, OverflowError):
        return None


def _limit(compare: Callable[[Any, Any], bool], parse: Parse, values: list[Json]) -> Test:
    """Return a test that compares with the most lenient of the values."""
    limits = [limit for value in values if (limit := parse(value)) is not None]
    if not limits:
        return _never
    limit = min(limits) if compare in (gt, ge) else max(limits)
    return bind(_passes, (compare, parse, limit))


def _passes(known: tuple[Callable[[Any, Any], bool], Parse, Any], value: object) -> bool:
    compare, parse, limit = known
    parsed = parse(value)
    return parsed is not None and compare(parsed, limit)


def _number(value: Any) -> float | None:  # noqa: ANN401 - the caller's own
    if value.__class__ is float or value.__class__ is int:
        return float(value)
    if value is None or isinstance(value, (str, bool, list, dict)):
        return None
    from numbers import Number  # noqa: PLC0415 - rarely needed

    known = isinstance(value, Number)
    return float(value) if known else None


def _dates() -> Parse:
    from datetime import UTC, datetime  # noqa: PLC0415 - most flag sets compare no dates

    return bind(_date, datetime.fromtimestamp(0, UTC))


def _date(epoch: datetime, value: object) -> float | None:
    """Return milliseconds since the epoch: a number, or a string with a time and a zone.

    The SDK reads strings with ``fromisoformat``, and so accepts more than RFC 3339.
    """
    if not isinstance(value, str):
        return _number(value)
    if value.endswith(("Z", "z")):
        value = value[:-1] + "+00:00"
    try:
        # The order of operations matters, since the results are compared as floats.
        return (epoch.fromisoformat(value) - epoch).total_seconds() * 1000.0
    except (ValueError, TypeError, OverflowError):
        return None


def _versions() -> Parse:
    from flagstore.evaluation.semver import parse  # noqa: PLC0415 - most flag sets compare none

    return bind(_version, parse)


def _version(parse: Callable[[str], Version | None], value: object) -> Version | None:
    """Return a version as a sort key.

    ``2``, ``2.0`` and ``2-rc`` are versions, too: up to two ``.0`` are appended to the leading
    digits and dots of the first line, and further lines are then dropped.
    """
    if not isinstance(value, str):
        return None
    for _ in range(3):
        version = parse(value)
        if version is not None:
            return version
        line = value.partition("\n")[0]
        rest = line.lstrip("0123456789.")
        value = f"{line[: len(line) - len(rest)]}.0{rest}"
    return None


def _same_version(values: list[Json]) -> Test:
    parse = _versions()
    return bind(_is_version, (parse, frozenset(map(parse, values)) - {None}))


def _is_version(known: tuple[Parse, frozenset[Version]], value: object) -> bool:
    parse, versions = known
    return parse(value) in versions


_OPERATORS: dict[str, Callable[[list[Json]], Test]] = {
    "in": _in,
    "startsWith": lambda values: bind(_starts_with, _strings(values)),
    "endsWith": lambda values: bind(_ends_with, _strings(values)),
    "contains": lambda values: bind(_contains, _strings(values)),
    "matches": _matches,
    "lessThan": lambda values: _limit(lt, _number, values),
    "lessThanOrEqual": lambda values: _limit(le, _number, values),
    "greaterThan": lambda values: _limit(gt, _number, values),
    "greaterThanOrEqual": lambda values: _limit(ge, _number, values),
    "before": lambda values: _limit(lt, _dates(), values),
    "after": lambda values: _limit(gt, _dates(), values),
    "semVerEqual": _same_version,
    "semVerLessThan": lambda values: _limit(lt, _versions(), values),
    "semVerGreaterThan": lambda values: _limit(gt, _versions(), values),
}


# -- segments -------------------------------------------------------------------------------------


def compile_segment(data: Json) -> Matcher | None:
    """Return the matcher of a segment; None if the segment was deleted."""
    if not isinstance(data, dict):
        raise MalformedError
    required(data, "version", int)
    if optional(data, "deleted", bool):
        return None
    key = required(data, "key", str)
    included = _lists(data, "included", "includedContexts")
    excluded = _lists(data, "excluded", "excludedContexts")
    prefix = f"{key}.{optional(data, 'salt', str) or ''}."
    rules = [
        (compile_clauses(rule), _compile_share(rule, prefix))
        for rule in all_of(optional(data, "rules", list), dict)
    ]
    unbounded = optional(data, "unbounded", bool)
    unbounded_kind = optional(data, "unboundedContextKind", str) or USER
    if unbounded:
        return bind(_unknown_keys, unbounded_kind)
    return bind(_in_segment, (key, included, excluded, rules))


def _unknown_keys(kind: str, context: Context, _path: Path) -> bool:
    # A big segment holds keys of one kind: a context without the kind is not in it.
    if kind in context:
        raise UnsupportedError
    return False


def _in_segment(known: tuple[str, Lists, Lists, list[Rule]], context: Context, path: Path) -> bool:
    key, included, excluded, rules = known
    if key in path:
        raise MalformedError
    if included and _listed(context, included):
        return True
    if excluded and _listed(context, excluded):
        return False
    path = (*path, key)
    for matches, share in rules:
        # Without a context of the kind, the bucket is below every share: the rule matches.
        if (matches is None or matches(context, path)) and (
            share is None or share[0](context) < share[1]
        ):
            return True
    return False


def _lists(data: Json, users: str, others: str) -> Lists:
    kinds = {USER: set(all_of(optional(data, users, list), str))}
    for target in all_of(optional(data, others, list), dict):
        kind = optional(target, "contextKind", str) or USER
        kinds.setdefault(kind, set()).update(all_of(required(target, "values", list), str))
    return [(kind, keys) for kind, keys in kinds.items() if keys]


def _listed(context: Context, lists: Lists) -> bool:
    for kind, keys in lists:
        attributes = context.get(kind)
        if attributes is not None and attributes["key"] in keys:
            return True
    return False


def _compile_share(rule: Json, prefix: str) -> tuple[Bucket, float] | None:
    bucket = compile_bucket(prefix, rule, "rolloutContextKind")
    weight = optional(rule, "weight", int)
    return None if weight is None else (bucket, share_of(weight))
