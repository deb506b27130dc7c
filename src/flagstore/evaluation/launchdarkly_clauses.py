"""Clauses of LaunchDarkly's rules, compiled. Pure; imported when a flag first has a rule.

As ``_clause_matches_context`` in launchdarkly-server-sdk 9.18 for Python.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.launchdarkly_context import USER
from flagstore.evaluation.launchdarkly_fields import (
    all_of,
    bind,
    optional,
    read,
    reference,
    required,
)
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
    matchers = tuple([_compile_clause(clause, segment) for clause in clauses])
    if len(matchers) > 1:
        return bind(_every, matchers)
    return matchers[0] if matchers else None


def _compile_clause(clause: dict[str, Any], segment: Callable[[str], Matcher | None]) -> Matcher:
    kind = optional(clause, "contextKind", str)
    names = reference(required(clause, "attribute", str), kind)
    negate = optional(clause, "negate", bool) is True
    operator = required(clause, "op", str)
    values = required(clause, "values", list)
    if operator == "segmentMatch":
        return bind(_in_segments, (tuple(values), segment, negate))
    # Names are few, and clauses are many.
    kind = intern(kind or USER)
    if len(names) == 1:
        name = intern(names[0])
        if name == "kind":
            return bind(_on_kinds, (compile_test(operator, values), negate))
        if operator == "in" and all(type(value) is str for value in values):
            return bind(_in_texts, (kind, name, frozenset(values), negate))
        return bind(_on_attribute, (kind, name, compile_test(operator, values), negate))
    return bind(_on_reference, (kind, names, compile_test(operator, values), negate))


def _every(matchers: tuple[Matcher, ...], context: Context, path: Path) -> bool:
    for matches in matchers:  # noqa: SIM110 - all() would make a generator
        if not matches(context, path):
            return False
    return True


def _in_segments(
    clause: tuple[tuple[Any, ...], Callable[[str], Matcher | None], bool],
    context: Context,
    path: Path,
) -> bool:
    keys, segment, negate = clause
    for key in keys:
        contains = segment(key)
        if contains is not None and contains(context, path):
            return not negate
    return negate


def _on_kinds(clause: tuple[Test, bool], context: Context, path: Path) -> bool:  # noqa: ARG001 - a Matcher
    """The attribute ``kind`` is that of each context in a context of several."""
    test, negate = clause
    for kind in context:
        if test(kind):
            return not negate
    return negate


def _in_texts(
    clause: tuple[str, str, frozenset[str], bool],
    context: Context,
    path: Path,  # noqa: ARG001 - a Matcher
) -> bool:
    """The commonest clause, with one call less."""
    kind, name, texts, negate = clause
    attributes = context.get(kind)
    if attributes is None:
        return False
    value = attributes.get(name)
    if type(value) is str:
        return (value in texts) is not negate
    return value is not None and _any(value, bind(_is_text_among, texts)) is not negate


def _is_text_among(texts: frozenset[str], value: Any) -> bool:  # noqa: ANN401 - the caller's own
    # Also people's own kinds of text, as an enum; what is no text may not be hashable.
    return isinstance(value, str) and value in texts


def _on_attribute(
    clause: tuple[str, str, Test, bool],
    context: Context,
    path: Path,  # noqa: ARG001 - a Matcher
) -> bool:
    kind, name, test, negate = clause
    attributes = context.get(kind)
    if attributes is None:
        return False
    value = attributes.get(name)
    # Not even a negated clause matches where there is no value.
    return value is not None and _any(value, test) is not negate


def _on_reference(
    clause: tuple[str, Reference, Test, bool],
    context: Context,
    path: Path,  # noqa: ARG001 - a Matcher
) -> bool:
    kind, names, test, negate = clause
    attributes = context.get(kind)
    if attributes is None:
        return False
    value = read(attributes, names)
    return value is not None and _any(value, test) is not negate


def _any(value: Any, test: Test) -> bool:  # noqa: ANN401 - the caller's own
    """Return whether a value, or one of the values in a list or tuple, passes."""
    if isinstance(value, (list, tuple)):
        for one in value:  # noqa: SIM110 - any() would make a generator
            if test(one):
                return True
        return False
    return test(value)
