"""Evaluates Unleash's feature toggles as its Python SDK does. No I/O.

That is UnleashClient 6.9.1, which turns a caller's values into strings, over yggdrasil-engine
2.0.0. A flag for which they would reject the whole document is malformed; one whose official result
cannot be determined here, or is an accident of their implementation, is unsupported, and ``rule``
has the reason. A flag is compiled on first use into functions and the results they choose from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flagstore.evaluation import base
from flagstore.evaluation.base import (
    ContextError,
    Evaluation,
    MalformedError,
    UnsupportedError,
    kept,
    optional,
    required,
)
from flagstore.evaluation.unleash_operators import OffError, constraint, never
from flagstore.evaluation.unleash_strategies import Flag

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from flagstore.evaluation.base import EngineConfig, Items, Json
    from flagstore.evaluation.unleash_operators import Predicate
    from flagstore.evaluation.unleash_strategies import Evaluate, Item, Rule

FIELDS: Final = frozenset(
    ("userId", "sessionId", "environment", "appName", "currentTime", "remoteAddress")
)
"""The fields that Unleash has; all others are properties."""
USER_ID_NAMES: Final = ("key", "targetingKey", "targeting_key")
"""Used for a missing ``userId``, in this order; they are properties, too."""
_DEFAULT_ENVIRONMENT: Final = "default"

MALFORMED: Final = (MalformedError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""Raised for flags and segments for which the official engine rejects the whole document."""

_OFF = Evaluation(value=False, reason=base.OFF)
_NO_MATCH = Evaluation(value=False, reason=base.NO_MATCH)
_MALFORMED = Evaluation(error=base.MALFORMED_FLAG)
_OFF_BY_FAULT = Evaluation(value=False, error=base.MALFORMED_FLAG)
"""As in the official engine, for a flag that it cannot compile."""


class Context(dict[str, str]):
    """Fields and properties by name, as strings.

    A missing one is None; the current time is that of the evaluation.
    """

    __slots__ = ("given", "now")

    given: Mapping[str, Any]
    now: Callable[[], float]

    def __missing__(self, name: str) -> str | None:
        return _iso(self.now()) if name == "currentTime" else None

    def official(self) -> dict[str, Any]:
        """Return the context as UnleashClient gives it to custom strategies."""
        names = (*FIELDS, *self.given)
        found: dict[str, Any] = {name: self[name] for name in names if self[name] is not None}
        others = {name: value for name, value in self.given.items() if name not in FIELDS}
        properties = others | dict(others.pop("properties", None) or {})
        found["properties"] = {name: _text(value) for name, value in properties.items()}
        return found


class UnleashEngine:
    """Evaluates the flags of one flag set; compiled flags and segments are kept.

    Without ``config.environment``, the document's environment or ``default`` is used.
    """

    __slots__ = ("_config", "_evaluators", "_items", "_needed", "_segments", "_static", "_users")

    def __init__(self, items: Items, config: EngineConfig) -> None:
        self._items = items
        self._config = config
        self._static = {
            "appName": config.app_name,
            "environment": config.environment or _environment(items.meta),
        }
        self._evaluators: dict[str, Evaluate] = {}
        self._segments: dict[str, list[Predicate]] = {}
        self._needed: dict[str, tuple[Item, ...]] = {}
        """Key of a compiled flag → the other items that are compiled into it, or are missing."""
        self._users: dict[Item, dict[str, None]] = {}
        """The reverse. An engine only adds to the inner dictionaries: it may share them."""

    def changed(self, items: Items, keys: Mapping[str, Collection[str]]) -> UnleashEngine:
        """See Engine. Flags are also compiled again if a parent or segment in them changed."""
        engine = UnleashEngine(items, self._config)
        engine._segments = kept(self._segments, keys.get("segments", ()))
        # First, since another thread may compile a flag now: it adds what the flag needs before it.
        engine._evaluators = self._evaluators.copy()
        engine._needed, engine._users = self._needed.copy(), self._users.copy()
        dropped = {*keys.get("flags", ())}
        for section, names in keys.items():
            for name in names:
                dropped.update(engine._users.pop((section, name), ()))
        engine._forget(dropped)
        return engine

    def _forget(self, flags: set[str]) -> None:
        """Remove what is compiled of flags, and what they needed: a later version may not."""
        needed: set[Item] = set()
        for flag in flags:
            self._evaluators.pop(flag, None)
            needed.update(self._needed.pop(flag, ()))
        for item in needed:
            users = self._users.pop(item, {}).copy()  # another thread may be adding one
            others = {user: None for user in users if user not in flags}
            if others:
                self._users[item] = others

    def context(self, given: Mapping[str, Any]) -> Context:
        """Turn the values of a caller's context into strings (``"None"``), as UnleashClient does.

        A field that Unleash does not have is a property, and takes precedence over one of the same
        name in ``properties``. One of ``USER_ID_NAMES`` is used for a missing ``userId``.

        Raises:
            ContextError: the context, its properties or a name has the wrong type, a string has
                a lone surrogate, or the official engine rejects it: a field is named ``context``.
        """
        context = Context()
        try:
            self._fill(context, given)
        except Exception as error:  # noqa: BLE001 - a caller's objects may raise anything
            raise ContextError(base.CONTEXT_INVALID, f"{type(error).__name__}: {error}") from None
        if "context" in given:
            raise ContextError(base.CONTEXT_INVALID, "a field cannot be named context")
        context.given = given
        context.now = self._config.now
        return context

    def _fill(self, context: Context, given: Mapping[str, Any]) -> None:
        properties = given.get("properties")
        if properties:
            for name, value in properties.items():
                self._put(context, name, value)
            context.pop("currentTime", None)
        context.update(self._static)
        for name, value in given.items():
            if name != "properties":
                self._put(context, name, value)
        if "userId" not in context:
            for name in USER_ID_NAMES:
                if given.get(name) is not None:
                    context["userId"] = context[name]
                    break

    @staticmethod
    def _put(context: Context, name: Any, value: Any) -> None:  # noqa: ANN401 - a caller's
        if not isinstance(name, str):
            raise TypeError("a name must be a string")
        if type(value) is not str:
            value = _text(value)
        if not value.isascii():
            value.encode()
        context[name] = value

    def evaluate(self, key: str, context: Context) -> Evaluation:
        """Evaluate one flag and choose its variant."""
        try:
            evaluator = self._evaluators.get(key)
            if evaluator is None:
                given = self._items.item("flags", key)
                if given is None:
                    # Not cached, since callers may invent any number of names.
                    return base.NOT_FOUND
                evaluator = self._compile(key, given)
            return evaluator(context)
        except UnsupportedError as error:
            return _unsupported(error)
        except Exception as error:  # noqa: BLE001 - a flag must not break its caller
            return base.failed(key, error)

    def _compile(self, key: str, given: Json) -> Evaluate:
        flag = self._flag(given)
        evaluator = _compiled(flag)
        if flag.needed:
            for item in flag.needed:
                self._users.setdefault(item, {})[key] = None
            self._needed[key] = tuple(flag.needed)
        self._evaluators[key] = evaluator
        return evaluator

    def check(self, section: str, key: str) -> None:
        """Compile a flag, or the constraints of a segment.

        Raises:
            OffError: the official engine turns such a flag off.
            UnsupportedError: it cannot be evaluated here.
            MALFORMED: the official engine rejects the whole document.
        """
        given = self._items.item(section, key)
        if section == "flags":
            flag = self._flag(given)
            compile_flag(flag)
            # Even if the flag is off: others may depend on it.
            flag.rules()
            flag.with_variants(_OFF)
        else:
            for one in required(given, "constraints", list):
                constraint(one)

    def _flag(self, given: Json) -> Flag:
        return Flag(given, given, self._items, self._config, self._segments, set())


engine = UnleashEngine


def _compiled(flag: Flag) -> Evaluate:
    try:
        return compile_flag(flag)
    except OffError:
        return _always(_OFF_BY_FAULT)
    except UnsupportedError as error:
        return _always(_unsupported(error))
    except MALFORMED:
        return _always(_MALFORMED)


def _unsupported(error: UnsupportedError) -> Evaluation:
    return Evaluation(error=base.UNSUPPORTED, rule=str(error))


# -- flags -----------------------------------------------------------------------------------------


def compile_flag(flag: Flag) -> Evaluate:
    """Compile a flag: whether it is off, then its parents, then the first strategy that matches."""
    if not required(flag.given, "enabled", bool):
        return _always(_OFF)
    always = Evaluation(value=True, reason=base.FALLTHROUGH)
    evaluate = _first_match(flag.rules(), flag.with_variants(always))
    parents = [_dependency(flag, one) for one in optional(flag.given, "dependencies", list) or ()]
    if not parents:
        return evaluate

    def evaluate_with_parents(context: Mapping[str, Any]) -> Evaluation:
        for satisfied, failed in parents:
            if not satisfied(context):
                return failed
        return evaluate(context)

    return evaluate_with_parents


def _first_match(rules: list[Rule], without_rules: Evaluation | Evaluate) -> Evaluate:
    if not rules:
        return _always(without_rules)
    predicate, result = rules[0]
    if predicate is None:
        return _always(result)
    if len(rules) == 1 and isinstance(result, Evaluation):
        return lambda context: result if predicate(context) else _NO_MATCH
    pairs = _pairs(rules)

    def evaluate(context: Mapping[str, Any]) -> Evaluation:
        for matches, choose in pairs:
            if matches(context):
                return choose(context)
        return _NO_MATCH

    return evaluate


def _always(result: Evaluation | Evaluate) -> Evaluate:
    return (lambda _: result) if isinstance(result, Evaluation) else result


def _pairs(rules: list[Rule]) -> list[tuple[Predicate, Evaluate]]:
    return [(rule or (lambda _: True), _always(result)) for rule, result in rules]


def _dependency(flag: Flag, dependency: Json) -> tuple[Predicate, Evaluation]:
    """Return whether a dependency is satisfied, and the result if it is not."""
    name = required(dependency, "feature", str)
    must_be_on = optional(dependency, "enabled", bool) is not False
    variants = frozenset(base.all_of(optional(dependency, "variants", list), str))
    failed = Evaluation(value=False, reason=base.PREREQUISITE_FAILED, rule=name)
    parent = flag.parent(name)
    if parent is None or parent.given.get("dependencies"):
        return never, failed
    enabled = required(parent.given, "enabled", bool)
    try:
        pairs = _pairs(parent.rules())
        always_on = not pairs
    except OffError:
        pairs, always_on = [], False
    without_match = _always(parent.with_variants(Evaluation(value=True)))

    def satisfied(context: Mapping[str, Any]) -> bool:
        on, choose = always_on, without_match
        for matches, result in pairs:
            if matches(context):
                on, choose = True, result
                break
        # The official engine always chooses the parent's variant, too.
        outcome = choose(context)
        if variants and outcome.variant is not None and outcome.variant not in variants:
            return False
        return (enabled and on) is must_be_on

    return satisfied, failed


# -- strings ---------------------------------------------------------------------------------------


def _environment(meta: Mapping[str, Any]) -> str:
    query = meta.get("query")
    name = query.get("environment") if isinstance(query, dict) else None
    return name if isinstance(name, str) and name else _DEFAULT_ENVIRONMENT


def _text(value: Any) -> str:  # noqa: ANN401 - a caller's
    if hasattr(value, "isoformat"):
        from datetime import datetime  # noqa: PLC0415 - already loaded if it is one

        if isinstance(value, datetime):
            return value.isoformat()
    # A subclass of str may return an instance of itself.
    return str.__str__(str(value))


def _iso(now: float) -> str:
    """Return a time as UnleashClient formats the current one."""
    from datetime import UTC, datetime  # noqa: PLC0415 - few flags use the time

    return datetime.fromtimestamp(now, UTC).isoformat()
