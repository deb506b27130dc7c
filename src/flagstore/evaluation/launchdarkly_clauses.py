"""Clauses of LaunchDarkly's rules, compiled. Pure; imported when a flag first has a rule.

As ``_clause_matches_context`` in launchdarkly-server-sdk 9.18 for Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation.launchdarkly_context import USER
from flagstore.evaluation.launchdarkly_fields import all_of, optional, read, reference, required
from flagstore.evaluation.launchdarkly_operators import compile_test

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.evaluation.launchdarkly_fields import Context, Matcher, Path, Reference
    from flagstore.evaluation.launchdarkly_operators import Test


def compile_clauses(
    rule: dict[str, Any], segment: Callable[[str], Matcher | None]
) -> Matcher | None:
    """Return what says whether all clauses of a rule match; None if it has none, and matches.

    Raises:
        MalformedError: as the SDK refuses it.
    """
    clauses = all_of(required(rule, "clauses", list), dict)
    matchers = [_compile_clause(clause, segment) for clause in clauses]
    if not matchers:
        return None
    if len(matchers) == 1:
        return matchers[0]

    def every(context: Context, path: Path) -> bool:
        for matches in matchers:  # noqa: SIM110 - all() would make a generator
            if not matches(context, path):
                return False
        return True

    return every


def _compile_clause(clause: dict[str, Any], segment: Callable[[str], Matcher | None]) -> Matcher:
    kind = optional(clause, "contextKind", str)
    names = reference(required(clause, "attribute", str), kind)
    negate = optional(clause, "negate", bool) is True
    operator = required(clause, "op", str)
    values = required(clause, "values", list)
    if operator == "segmentMatch":
        return _in_segments(values, segment, negate=negate)
    test = compile_test(operator, values)
    if names == ("kind",):
        return _on_kinds(test, negate=negate)
    if len(names) == 1:
        if operator == "in" and all(type(value) is str for value in values):
            return _in_texts(kind or USER, names[0], frozenset(values), test, negate=negate)
        return _on_attribute(kind or USER, names[0], test, negate=negate)
    return _on_reference(kind or USER, names, test, negate=negate)


def _in_segments(
    keys: list[Any], segment: Callable[[str], Matcher | None], *, negate: bool
) -> Matcher:
    def matches(context: Context, path: Path) -> bool:
        for key in keys:
            contains = segment(key)
            if contains is not None and contains(context, path):
                return not negate
        return negate

    return matches


def _on_kinds(test: Test, *, negate: bool) -> Matcher:
    """The attribute ``kind`` is that of each context in a context of several."""

    def matches(context: Context, path: Path) -> bool:  # noqa: ARG001 - a Matcher
        for kind in context:
            if test(kind):
                return not negate
        return negate

    return matches


def _in_texts(kind: str, name: str, texts: frozenset[str], test: Test, *, negate: bool) -> Matcher:
    """The commonest clause, with one call less."""

    def matches(context: Context, path: Path) -> bool:  # noqa: ARG001 - a Matcher
        attributes = context.get(kind)
        if attributes is None:
            return False
        value = attributes.get(name)
        if type(value) is str:
            return (value in texts) is not negate
        return value is not None and _any(value, test) is not negate

    return matches


def _on_attribute(kind: str, name: str, test: Test, *, negate: bool) -> Matcher:
    def matches(context: Context, path: Path) -> bool:  # noqa: ARG001 - a Matcher
        attributes = context.get(kind)
        if attributes is None:
            return False
        value = attributes.get(name)
        # Not even a negated clause matches where there is no value.
        return value is not None and _any(value, test) is not negate

    return matches


def _on_reference(kind: str, names: Reference, test: Test, *, negate: bool) -> Matcher:
    def matches(context: Context, path: Path) -> bool:  # noqa: ARG001 - a Matcher
        attributes = context.get(kind)
        if attributes is None:
            return False
        value = read(attributes, names)
        return value is not None and _any(value, test) is not negate

    return matches


def _any(value: Any, test: Test) -> bool:  # noqa: ANN401 - the caller's own
    """Return whether a value, or one of the values in a list or tuple, passes."""
    if isinstance(value, (list, tuple)):
        for one in value:  # noqa: SIM110 - any() would make a generator
            if test(one):
                return True
        return False
    return test(value)
