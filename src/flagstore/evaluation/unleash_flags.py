"""Unleash's flags with what they depend on, compiled into functions. Pure.

As yggdrasil-engine 2.0.0 evaluates them: off, then parents, then the first strategy that matches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation import base
from flagstore.evaluation import unleash_operators as operators
from flagstore.evaluation.base import Evaluation
from flagstore.evaluation.unleash_strategies import CRASHED, never

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.evaluation.unleash_operators import Predicate
    from flagstore.evaluation.unleash_strategies import Flag, Rule
    from flagstore.evaluation.unleash_variants import Evaluate

_OFF = Evaluation(value=False, reason=base.OFF)
_NO_MATCH = Evaluation(value=False, reason=base.NO_MATCH)


def compile_flag(flag: Flag) -> Evaluate:
    """Compile a flag with its dependencies into what evaluates it.

    Raises:
        OffError, UnsupportedError: as of constraints.
    """
    given = flag.given
    if not _enabled(given):
        return lambda _: _OFF
    evaluate = _evaluator(flag.rules(), flag.fallback(base.FALLTHROUGH))
    dependencies = operators.listed(given, "dependencies")
    if not dependencies:
        return evaluate
    parents = tuple(_dependency(flag, dependency) for dependency in dependencies)

    def evaluate_with_parents(context: Mapping[str, Any]) -> Evaluation:
        for satisfied, failed in parents:
            if not satisfied(context):
                return failed
        return evaluate(context)

    return evaluate_with_parents


def _evaluator(rules: list[Rule], fallback: Evaluation | Evaluate) -> Evaluate:
    if not rules:
        return _always(fallback)
    if len(rules) > 1:
        return _first_of(rules)
    rule, result = rules[0]
    if rule is None:
        return _always(result)
    if isinstance(result, Evaluation):
        return lambda context: result if rule(context) else _NO_MATCH
    return lambda context: result(context) if rule(context) else _NO_MATCH


def _always(result: Evaluation | Evaluate) -> Evaluate:
    return (lambda _: result) if isinstance(result, Evaluation) else result


def _first_of(rules: list[Rule]) -> Evaluate:
    pairs = _pairs(rules)

    def evaluate(context: Mapping[str, Any]) -> Evaluation:
        for rule, result in pairs:
            if rule(context):
                return result(context)
        return _NO_MATCH

    return evaluate


def _pairs(rules: list[Rule]) -> tuple[tuple[Predicate, Evaluate], ...]:
    """Return when each rule is on and what it then is, both as functions."""
    return tuple((_true if rule is None else rule, _always(result)) for rule, result in rules)


def _dependency(flag: Flag, dependency: Mapping[str, Any]) -> tuple[Predicate, Evaluation]:
    """Compile whether a parent is as it must be, and the outcome if it isn't."""
    name = operators.text(dependency["feature"])
    wanted = dependency.get("enabled")
    wanted = True if wanted is None else operators.flag(dependency, "enabled")
    variants = frozenset(map(operators.text, operators.listed(dependency, "variants")))
    failed = Evaluation(value=False, reason=base.PREREQUISITE_FAILED, rule=name)
    given = flag.items.item("flags", name)
    if given is None or given.get("dependencies"):
        return never, failed
    parent = flag.parent(given)
    enabled = _enabled(given)
    try:
        rules = parent.rules()
        always = not rules
    except operators.OffError:
        rules, always = [], False
    pairs = _pairs(rules)
    otherwise = _always(parent.fallback(base.FALLTHROUGH))

    def satisfied(context: Mapping[str, Any]) -> bool:
        on = always
        choose = otherwise
        for rule, result in pairs:
            if rule(context):
                on, choose = True, result
                break
        # The engine chooses the parent's variant in any case.
        outcome = choose(context)
        if outcome is CRASHED:
            return False
        if variants and outcome.variant is not None and outcome.variant not in variants:
            return False
        return (enabled and on) is wanted

    return satisfied, failed


def _enabled(given: Mapping[str, Any]) -> bool:
    enabled = given["enabled"]
    if not isinstance(enabled, bool):
        raise TypeError("true or false is expected")
    return enabled


def _true(_: Mapping[str, Any]) -> bool:
    return True
