"""Segments of LaunchDarkly, compiled. Pure; imported when a flag first asks for one.

As ``_segment_matches_context`` in launchdarkly-server-sdk 9.18 for Python: included, excluded,
rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import MALFORMED_FLAG, UNSUPPORTED
from flagstore.evaluation.launchdarkly_context import USER
from flagstore.evaluation.launchdarkly_fields import (
    MalformedError,
    StopError,
    all_of,
    optional,
    required,
)
from flagstore.evaluation.launchdarkly_flags import compile_bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.evaluation.launchdarkly_fields import Context, Matcher, Path

    Lists = list[tuple[str, set[str]]]
    """Kind of context and its keys."""
    Rule = tuple[Matcher | None, Callable[[Context], bool] | None]
    """Whether its clauses match (always, if None), and whether its share is drawn (the same)."""


def compile_segment(
    data: Any,  # noqa: ANN401 - provider JSON
    clauses: Callable[[dict[str, Any]], Matcher | None],
) -> Matcher | None:
    """Return what says whether a context is in a segment; None if the segment was deleted.

    Raises:
        MalformedError: as the provider's SDK refuses it.
    """
    if not isinstance(data, dict):
        raise MalformedError
    required(data, "version", int)
    if optional(data, "deleted", bool):
        return None
    key = required(data, "key", str)
    included = _lists(data, "included", "includedContexts")
    excluded = _lists(data, "excluded", "excludedContexts")
    salt = optional(data, "salt", str) or ""
    rules = [
        (clauses(rule), _compile_weight(rule, f"{key}.{salt}."))
        for rule in all_of(optional(data, "rules", list), dict)
    ]
    unbounded = optional(data, "unbounded", bool)
    unbounded_kind = optional(data, "unboundedContextKind", str) or USER
    optional(data, "generation", int)

    if unbounded:
        return _unbounded(key, unbounded_kind)
    return _bounded(key, included, excluded, rules)


def _unbounded(key: str, kind: str) -> Matcher:
    def contains(context: Context, path: Path) -> bool:
        if key in path:
            raise StopError(MALFORMED_FLAG)
        # It holds keys of one kind: without one, there is nothing to be looked up.
        if kind in context:
            raise StopError(UNSUPPORTED)
        return False

    return contains


def _bounded(key: str, included: Lists, excluded: Lists, rules: list[Rule]) -> Matcher:
    def contains(context: Context, path: Path) -> bool:
        if key in path:
            raise StopError(MALFORMED_FLAG)
        if included and _listed(context, included):
            return True
        if excluded and _listed(context, excluded):
            return False
        path = (*path, key)
        for matches, drawn in rules:
            if (matches is None or matches(context, path)) and (drawn is None or drawn(context)):
                return True
        return False

    return contains


def _lists(data: dict[str, Any], users: str, others: str) -> Lists:
    """Return the keys of each kind that are listed; order is of no importance within a list."""
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


def _compile_weight(rule: dict[str, Any], prefix: str) -> Callable[[Context], bool] | None:
    """Return what draws a share of those that a rule matches; None if it is all of them."""
    bucket = compile_bucket(prefix, rule, "rolloutContextKind")
    weight = optional(rule, "weight", int)
    if weight is None:
        return None
    # Without a context of the kind, the bucket is below all shares: that is a match. Divided here,
    # where the SDK divides: a weight beyond all floats is an error for those that get here alone.
    return lambda context: bucket(context) < weight / 100_000.0
