"""Evaluates AppConfig's feature flags by the documented language of variant rules. Pure.

AWS publishes neither an evaluator nor cases for one; the only one there is, is inside the AppConfig
agent. So what is held to here is the user guide ("Defining rules for multi-variant feature flags",
"Understanding multi-variant feature flag rules", "type reference for
AWS.AppConfig.FeatureFlags"), and what that leaves open is ``UNSUPPORTED``, never a guess:
:mod:`flagstore.evaluation.appconfig_rules` lists it.

A flag's value is its attributes, while it is on; AppConfig gives no attributes of a flag that is
off. In a freeform profile each top-level key is a flag, and its value any JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import (
    CONTEXT_INVALID,
    ERROR,
    EXCEPTION,
    FALLTHROUGH,
    FLAG_NOT_FOUND,
    MALFORMED_FLAG,
    OFF,
    RULE_MATCH,
    UNSUPPORTED,
    ContextError,
    Evaluation,
    log_fault,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.evaluation.base import EngineConfig, Items

    Flag = Callable[[dict[str, Any]], Evaluation]

FREEFORM = "freeform"
"""``format`` in the flag set's ``meta``: nothing in such a profile is a rule."""

_NOT_FOUND = Evaluation(reason=ERROR, error=FLAG_NOT_FOUND)
_MALFORMED = Evaluation(reason=ERROR, error=MALFORMED_FLAG)
_UNSUPPORTED = Evaluation(reason=ERROR, error=UNSUPPORTED)
_PLAIN = {str, bool, int, float}
_MOST = 2.0**64
"""Beyond what rules can hold as an integer."""
_TRUTHS = {True: True, False: False, "true": True, "false": False, None: False}
"""What ``enabled`` may be: AppConfig takes texts for it, and a missing one for false."""


class _MalformedError(Exception):
    """A flag that AppConfig would not have taken."""


class AppConfigEngine:
    """Evaluates the flags of one flag set; compiled flags are kept."""

    __slots__ = ("_flags", "_freeform", "_items")

    def __init__(self, items: Items) -> None:
        self._items = items
        self._freeform = items.meta.get("format") == FREEFORM
        self._flags: dict[str, Flag] = {}

    def context(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that rules look up as ``$name``; None is none.

        What is a text or a number by another class (an enum of texts, boto3's ``Decimal``) is one
        here: the agent is given its context as text, so there the class is lost.

        Raises:
            ContextError: it is no mapping.
        """
        try:
            return {
                name: value if value.__class__ in _PLAIN else _plain(value)
                for name, value in given.items()
                if value is not None
            }
        except AttributeError:
            raise ContextError(CONTEXT_INVALID, "a context is a mapping") from None

    def evaluate(self, key: str, context: dict[str, Any]) -> Evaluation:
        """Evaluate one flag. Never raises: a flag that is damaged is an outcome as well."""
        try:
            flag = self._flags.get(key)
            if flag is None:
                item = self._items.item("flags", key)
                if item is None:
                    return _NOT_FOUND
                flag = self._flags[key] = _freeform(item) if self._freeform else _compiled(item)
            return flag(context)
        except Exception as error:  # noqa: BLE001 - a flag must not be able to break its caller
            if not isinstance(key, str):
                return _NOT_FOUND
            log_fault(key, error)
            return Evaluation(reason=ERROR, error=EXCEPTION)


def engine(items: Items, settings: EngineConfig) -> AppConfigEngine:  # noqa: ARG001 - see base
    """Return an engine over a flag set with the section ``flags``."""
    return AppConfigEngine(items)


def _plain(value: Any) -> Any:  # noqa: ANN401 - the caller's own
    """Return a text as str, a whole number as int, another one as float; all else as it is."""
    from numbers import Number  # noqa: PLC0415 - seldom needed

    if isinstance(value, str):
        return str.__str__(value)
    if not isinstance(value, Number):
        return value
    try:
        real = float(value)  # type: ignore[arg-type] # one without an order fails
        whole = int(value) if abs(real) < _MOST else None  # type: ignore[call-overload] # the same
        is_whole = whole == value
    except (TypeError, ValueError, ArithmeticError):
        return value
    return whole if is_whole else real


def _freeform(value: Any) -> Flag:  # noqa: ANN401 - any JSON
    outcome = Evaluation(value, reason=FALLTHROUGH)
    return lambda _: outcome


def _compiled(item: Any) -> Flag:  # noqa: ANN401 - provider JSON
    """Compile one of the document's ``values``."""
    try:
        if not isinstance(item, dict):
            return lambda _: _MALFORMED
        if "_variants" in item:
            return _multi_variant(item["_variants"])
        if "_variant" in item:
            # As the data plane serves it without the agent: the rules have been left out.
            return lambda _: _UNSUPPORTED
        attributes = {
            name: value
            for name, value in item.items()
            if name != "enabled" and not name.startswith("_")
        }
        outcome = _outcome(item, attributes, None, None)
    except _MalformedError:
        return lambda _: _MALFORMED
    return lambda _: outcome


def _outcome(
    item: dict[str, Any],
    attributes: Any,  # noqa: ANN401 - provider JSON
    variant: str | None,
    index: int | None,
) -> Evaluation:
    """Return what a basic flag or a variant gives, and by which rule."""
    enabled = item.get("enabled")
    if not isinstance(enabled, (bool, str)) and enabled is not None:
        raise _MalformedError
    on = _TRUTHS.get(enabled)
    if on is None or not isinstance(attributes, dict):
        raise _MalformedError
    reason = OFF if not on else FALLTHROUGH if index is None else RULE_MATCH
    return Evaluation(attributes if on else {}, variant, reason, rule_index=index, config=on)


def _multi_variant(variants: Any) -> Flag:  # noqa: ANN401 - provider JSON
    """Compile variants: the first whose rule is true, else the last one, which has none."""
    # Most flags are basic ones.
    from flagstore.evaluation.appconfig_rules import TRUE, UNDECIDED, compile_rule  # noqa: PLC0415

    if not isinstance(variants, list) or not variants:
        raise _MalformedError
    compiled = []
    last = len(variants) - 1
    for index, variant in enumerate(variants):
        name = variant.get("name") if isinstance(variant, dict) else None
        rule = (variant.get("rule") or "") if isinstance(variant, dict) else ""
        if not isinstance(name, str) or not isinstance(rule, str):
            raise _MalformedError
        if bool(rule.strip()) != (index < last):  # AppConfig refuses such a document
            raise _MalformedError
        ends = None if index == last else index
        outcome = _outcome(variant, variant.get("attributeValues") or {}, name, ends)
        compiled.append((None if index == last else compile_rule(rule), outcome))

    def flag(context: dict[str, Any]) -> Evaluation:
        for rule, outcome in compiled:
            verdict = TRUE if rule is None else rule(context)
            if verdict == TRUE:
                return outcome
            if verdict in UNDECIDED:
                break
        return _UNSUPPORTED

    return flag
