"""Evaluates AppConfig's feature flags by AWS's documentation of variant rules. No I/O.

AWS publishes neither an evaluator nor test cases: the only evaluator is inside the AppConfig agent.
So this follows the AWS AppConfig user guide ("Defining rules for multi-variant feature flags",
"Understanding multi-variant feature flag rules", "type reference for
AWS.AppConfig.FeatureFlags"); whatever the guide leaves open is ``UNSUPPORTED``, never guessed.

A flag's value is its attributes while it is on; a flag that is off has none. In a freeform profile
each top-level key is a flag, and its value any JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation import base
from flagstore.evaluation.base import (
    NOT_FOUND,
    ContextError,
    Evaluation,
    MalformedError,
    all_of,
    failed,
    kept,
    optional,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from flagstore.evaluation.appconfig_rules import Rule
    from flagstore.evaluation.base import EngineConfig, Items, Json

    Context = dict[str, Any]
    Flag = Callable[[Context], Evaluation]

FREEFORM = "freeform"
"""``format`` in the flag set's ``meta``: nothing in such a profile is a rule."""
SPLIT_HASH = "flagstore"
"""``split_hash`` in the flag set's ``meta``: `split` is evaluated by flagstore's own hash."""
BY_HASH = "split (flagstore's hash)"
"""``rule`` of an evaluation that depends on that hash: the agent may have chosen others."""

_MALFORMED = Evaluation(error=base.MALFORMED_FLAG)
_UNSUPPORTED = Evaluation(error=base.UNSUPPORTED)
_PLAIN = {str, bool, int, float}
_MOST = 2.0**64
"""Larger than any integer in a rule."""


class AppConfigEngine:
    """Evaluates the ``flags`` of one flag set; compiled ones are kept."""

    __slots__ = ("_compile", "_flags", "_items", "_own_split")

    def __init__(
        self,
        items: Items,
        _config: EngineConfig | None = None,
        *,
        flags: dict[str, Flag] | None = None,
    ) -> None:
        self._items = items
        self._compile = _freeform if items.meta.get("format") == FREEFORM else _compile_flag
        self._own_split = items.meta.get("split_hash") == SPLIT_HASH
        self._flags = flags or {}

    def changed(self, items: Items, keys: Mapping[str, Collection[str]]) -> AppConfigEngine:
        """See Engine."""
        return AppConfigEngine(items, flags=kept(self._flags, keys.get("flags", ())))

    def context(self, given: Mapping[str, Any]) -> Context:
        """Return the values that rules look up as ``$name``; None values are omitted.

        Strings and numbers of other classes (a ``StrEnum``, boto3's ``Decimal``) become plain
        ones: the agent receives its context as strings, so the class is lost there, too.

        Raises:
            ContextError: it is not a mapping.
        """
        try:
            return {
                name: value if value.__class__ in _PLAIN else plain(value)
                for name, value in given.items()
                if value is not None
            }
        except AttributeError:
            raise ContextError(base.CONTEXT_INVALID, "a context must be a mapping") from None

    def evaluate(self, key: str, context: Context) -> Evaluation:
        """See Engine."""
        try:
            flag = self._flags.get(key)
            if flag is None:
                item = self._items.item("flags", key)
                if item is None:
                    return NOT_FOUND
                flag = self._flags[key] = self._compile(item, key if self._own_split else None)
            return flag(context)
        except Exception as error:  # noqa: BLE001 - a flag must not break its caller
            return failed(key, error)


engine = AppConfigEngine


def plain(value: Any) -> Any:  # noqa: ANN401 - the caller's own
    """Return a string as str, a whole number as int, any other as float; the rest unchanged."""
    if value.__class__ in _PLAIN:
        return value
    from numbers import Number  # noqa: PLC0415 - rarely needed

    if isinstance(value, str):
        return str.__str__(value)
    if not isinstance(value, Number):
        return value
    try:
        real = float(value)  # type: ignore[arg-type] # a complex number fails
        return int(value) if real.is_integer() and abs(real) < _MOST else real  # type: ignore[call-overload] # the same
    except (TypeError, ValueError, ArithmeticError):
        return value


def _constant(evaluation: Evaluation) -> Flag:
    return lambda _context: evaluation


def _freeform(value: Json, _split_key: str | None) -> Flag:
    return _constant(Evaluation(value, reason=base.FALLTHROUGH))


def _compile_flag(item: Json, split_key: str | None) -> Flag:
    """Compile a flag, whose key is given if `split` is evaluated by flagstore's hash."""
    try:
        if isinstance(item, dict):
            if "_variants" in item:
                return _multi_variant(item, split_key)
            return _constant(_basic(item))
    except MalformedError:
        pass
    return _constant(_MALFORMED)


def _basic(item: Json) -> Evaluation:
    if "_variant" in item:
        # As the data plane serves it without the agent: the rules are omitted.
        return _UNSUPPORTED
    names = [name for name in item if name != "enabled" and not name.startswith("_")]
    return _evaluation(item, {name: item[name] for name in names})


def _evaluation(
    item: Json, attributes: Json, variant: str | None = None, index: int | None = None
) -> Evaluation:
    """Return the result of a basic flag or of a variant, with the index of its rule."""
    enabled = optional(item, "enabled", (bool, str))
    # AppConfig accepts strings, and treats a missing value as false.
    if isinstance(enabled, str) and enabled not in {"true", "false"}:
        raise MalformedError("enabled")
    on = enabled is True or enabled == "true"
    reason = base.OFF if not on else base.FALLTHROUGH if index is None else base.RULE_MATCH
    return Evaluation(attributes if on else {}, variant, reason, rule_index=index, config=on)


def _multi_variant(item: Json, split_key: str | None) -> Flag:
    """Compile variants: the first whose rule is true, else the last one, which has no rule."""
    # Most flags are basic ones.
    from flagstore.evaluation.appconfig_rules import compile_rule  # noqa: PLC0415

    listed: list[tuple[str, Evaluation]] = []
    variants = all_of(required(item, "_variants", list), dict)
    for index, variant in enumerate(variants):
        is_last = index == len(variants) - 1
        rule = (optional(variant, "rule", str) or "").strip()
        if bool(rule) is is_last:  # AppConfig refuses such a document
            raise MalformedError("rule")
        name = required(variant, "name", str)
        attributes = optional(variant, "attributeValues", dict) or {}
        listed.append((rule, _evaluation(variant, attributes, name, None if is_last else index)))
    if not listed:
        raise MalformedError("_variants")
    flag = _first_match(listed, compile_rule)
    if split_key is None or not any("split" in rule for rule, _ in listed):
        return flag
    hashed = _first_match(
        [(rule, found._replace(rule=BY_HASH)) for rule, found in listed],
        lambda rule: compile_rule(rule, split_key),
    )

    def with_hash(context: Context) -> Evaluation:
        # Where no hash is needed, the result is AppConfig's, and does not name one.
        found = flag(context)
        return hashed(context) if found is _UNSUPPORTED else found

    return with_hash


def _first_match(listed: list[tuple[str, Evaluation]], compile_rule: Callable[[str], Rule]) -> Flag:
    """Return the flag of variants, the last of which has no rule."""
    compiled = [(compile_rule(rule) if rule else None, found) for rule, found in listed]

    def flag(context: Context) -> Evaluation:
        for rule, evaluation in compiled:
            verdict = True if rule is None else rule(context)
            if verdict:
                return evaluation
            if verdict is None:
                break
        return _UNSUPPORTED

    return flag
