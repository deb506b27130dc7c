"""The surface that people call: ``enabled``, ``value``, ``detail``, ``all``. No I/O of its own.

What a provider's engine says of a flag becomes here what the caller asked for: a truth, or a
value of the type of their default. Nothing here raises because of a flag or a context.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from flagstore.conversion import PLAIN, Conversion, deep_copy
from flagstore.evaluation.base import (
    ABSENT,
    ERROR,
    EXCEPTION,
    NOT_LOADED,
    OVERRIDE,
    WRONG_TYPE,
    ContextError,
    Evaluation,
)
from flagstore.snapshot import Snapshot

if TYPE_CHECKING:
    from typing import Self

    from flagstore.evaluation.base import Engine

JsonObject = dict[str, Any]
JsonList = list[Any]
Context = Mapping[str, Any] | None

NO_CONTEXT: Mapping[str, Any] = {}
KEY_NAMES = ("key", "targetingKey", "targeting_key", "userId")
"""Where the key of a context is looked for, in this order."""


class Detail(NamedTuple):
    """What is known of one evaluation."""

    key: str
    """Of the flag."""
    value: Any
    """Of the default's type; the caller's own."""
    enabled: bool
    """What ``enabled`` says of the flag; false where it can say nothing."""
    variant: str | int | None
    """LaunchDarkly: index of the variation. Split: treatment. Unleash, AppConfig: the variant's
    name. None where the value is the default."""
    reason: str
    """A word of :mod:`flagstore.evaluation.base`, such as ``RULE_MATCH``."""
    error: str
    """Another one, such as ``FLAG_NOT_FOUND``; empty if all is well."""
    rule: str
    """LaunchDarkly: id of the rule, or key of the prerequisite. Split: label. Unleash: strategy."""
    rule_index: int | None
    config: Any
    """Split: configuration of the treatment, a text. Unleash: payload of the variant."""
    version: int | None
    """LaunchDarkly: version of the flag. Split: change number."""
    in_experiment: bool
    """LaunchDarkly only."""
    age_s: float
    """Seconds since this process last heard from the store that its flags are current."""
    stale: bool
    """Whether the last attempt to hear from it failed."""


class EvaluationState:
    """One flag set with what belongs to it, as it is at one moment."""

    __slots__ = (
        "age_s",
        "conversion",
        "engine",
        "error",
        "keys",
        "on_evaluation",
        "overrides",
        "stale",
    )

    def __init__(  # noqa: PLR0913 - a record, made in one place
        self,
        engine: "Engine | None",
        conversion: Conversion,
        *,
        keys: Callable[[], Iterable[str]],
        overrides: Mapping[str, Any],
        on_evaluation: Callable[[Detail, str], None] | None = None,
        error: str = NOT_LOADED,
        age_s: float = 0.0,
        stale: bool = False,
    ) -> None:
        """Hold it together.

        Args:
            engine: of the flag set; None where there is none, and *error* says why.
            conversion: from what the engine says to what callers ask for.
            keys: gives the keys of all flags.
            overrides: values of flags that do not come from the flag set.
            on_evaluation: is told each evaluation; must not raise.
            error: the word for flags without an engine.
            age_s: see :class:`Detail`.
            stale: see :class:`Detail`.
        """
        self.engine = engine
        self.conversion = conversion
        self.keys = keys
        self.overrides = overrides
        self.on_evaluation = on_evaluation
        self.error = error
        self.age_s = age_s
        self.stale = stale


class ContextFlags:
    """The flags of one moment for one context: hold it for a request."""

    __slots__ = ("_context", "_given", "_refused", "_state")

    def __init__(self, state: EvaluationState, given: Context) -> None:
        self._state = state
        self._given = NO_CONTEXT if given is None else given
        self._context: Any = None
        self._refused: Evaluation | None = None
        if state.engine is None:
            self._refused = Evaluation(error=state.error)
            return
        try:
            self._context = state.engine.context(self._given)
        except ContextError as error:
            self._refused = Evaluation(error=str(error.args[0]))
        except Exception as error:  # noqa: BLE001 - a flag client must not break its caller
            self._refused = _fault(error)

    def enabled(self, key: str, *, default: bool = False) -> bool:
        """Say whether a flag is on.

        LaunchDarkly: its value, if that is true or false. Split: ``on`` and ``true`` against
        ``off`` and ``false``. Unleash: the toggle. AppConfig: ``enabled``. Everything else is the
        default.
        """
        try:
            outcome, conversion = self._outcome(key)
            on, error = conversion.on(outcome, default)
        except Exception as fault:  # noqa: BLE001 - a flag client must not break its caller
            outcome, on, error = _fault(fault), default, EXCEPTION
        if self._state.on_evaluation is not None:
            self._state.on_evaluation(self._detail(key, outcome, on, error, on=on), self._key())
        return on

    @overload
    def value(self, key: str, *, default: bool) -> bool: ...
    @overload
    def value(self, key: str, *, default: str) -> str: ...
    @overload
    def value(self, key: str, *, default: int) -> int: ...
    @overload
    def value(self, key: str, *, default: float) -> float: ...
    @overload
    def value(self, key: str, *, default: JsonObject) -> JsonObject: ...
    @overload
    def value(self, key: str, *, default: JsonList) -> JsonList: ...
    @overload
    def value(self, key: str, *, default: None = None) -> Any: ...  # noqa: ANN401 - any JSON

    def value(self, key: str, *, default: Any = None) -> Any:
        """Return the value of a flag, which is of its default's type, or else the default.

        An int passes for a float, a bool for no number. A default of None takes any type. What
        comes back is the caller's own: changing it changes no flag.
        """
        if self._state.on_evaluation is not None:
            return self.detail(key, default=default).value
        try:
            outcome, conversion = self._outcome(key)
            return conversion.value(outcome, default)[0]
        except Exception as fault:  # noqa: BLE001 - a flag client must not break its caller
            _fault(fault)
            return default

    def detail(self, key: str, *, default: Any = None) -> Detail:  # noqa: ANN401 - any JSON
        """Return the value of a flag as :meth:`value` does, and all that is known of why."""
        detail = self._evaluate(key, default)
        if self._state.on_evaluation is not None:
            self._state.on_evaluation(detail, self._key())
        return detail

    def all(self) -> dict[str, Detail]:
        """Return the detail of every flag, by key, sorted; no callback is called."""
        state = self._state
        keys = {*state.keys(), *state.overrides} if state.engine else state.overrides
        return {key: self._evaluate(key, None) for key in sorted(keys, key=str)}

    def _evaluate(self, key: str, default: Any) -> Detail:  # noqa: ANN401 - any JSON
        try:
            outcome, conversion = self._outcome(key)
            value, error = conversion.value(outcome, default)
            on = conversion.on(outcome, False)[0]  # noqa: FBT003 - as of Conversion
            return self._detail(key, outcome, value, error, on=on)
        except Exception as fault:  # noqa: BLE001 - a flag client must not break its caller
            return self._detail(key, _fault(fault), default, EXCEPTION, on=False)

    def _outcome(self, key: str) -> tuple[Evaluation, Conversion]:
        state = self._state
        if state.overrides and key in state.overrides:
            return Evaluation(state.overrides[key], reason=OVERRIDE), PLAIN
        if self._refused is not None:
            return self._refused, state.conversion
        engine: Any = state.engine  # there is one, or the context would have been refused
        return engine.evaluate(key, self._context), state.conversion

    def _detail(
        self,
        key: str,
        outcome: Evaluation,
        value: Any,  # noqa: ANN401 - any JSON
        error: str,
        *,
        on: bool,
    ) -> Detail:
        held, variant, reason, _, rule, rule_index, config, version, in_experiment = outcome
        return Detail(
            key,
            value,
            on,
            None if held is ABSENT or error == WRONG_TYPE else variant,
            ERROR if error else reason,
            error,
            rule,
            rule_index,
            deep_copy(config),
            version,
            in_experiment,
            self._state.age_s,
            self._state.stale,
        )

    def _key(self) -> str:
        try:
            return context_key(self._given)
        except Exception:  # noqa: BLE001 - no mapping, or a key without a text: the detail says so
            return ""


class Flags:
    """What every source of flags offers; a client, a file, or a fake in a test."""

    def _state(self) -> EvaluationState:
        raise NotImplementedError

    def current(self) -> Snapshot | None:
        """Return the flag set in hand, if these flags come from one; reads nothing."""
        return None

    def may_block(self) -> bool:
        """Say whether the next call may wait for a store: an event loop asks in a thread then."""
        return False

    def health(self) -> str:
        """Say in a word what is wrong with all of the flags; empty if nothing."""
        return ""

    def close(self) -> None:
        """Close what these flags keep open; here nothing. Idempotent."""

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def for_context(self, context: Context) -> ContextFlags:
        """Return the flags as one context sees them: one flag set, for as long as you hold it."""
        return ContextFlags(self._state(), context)

    def enabled(self, key: str, context: Context = None, *, default: bool = False) -> bool:
        """Say whether a flag is on: :meth:`ContextFlags.enabled`."""
        return self.for_context(context).enabled(key, default=default)

    @overload
    def value(self, key: str, context: Context = None, *, default: bool) -> bool: ...
    @overload
    def value(self, key: str, context: Context = None, *, default: str) -> str: ...
    @overload
    def value(self, key: str, context: Context = None, *, default: int) -> int: ...
    @overload
    def value(self, key: str, context: Context = None, *, default: float) -> float: ...
    @overload
    def value(self, key: str, context: Context = None, *, default: JsonObject) -> JsonObject: ...
    @overload
    def value(self, key: str, context: Context = None, *, default: JsonList) -> JsonList: ...
    @overload
    def value(self, key: str, context: Context = None, *, default: None = None) -> Any: ...  # noqa: ANN401 - any JSON

    def value(self, key: str, context: Context = None, *, default: Any = None) -> Any:
        """Return the value of a flag: :meth:`ContextFlags.value`."""
        return self.for_context(context).value(key, default=default)

    def detail(self, key: str, context: Context = None, *, default: Any = None) -> Detail:  # noqa: ANN401 - any JSON
        """Return the value of a flag, and why: :meth:`ContextFlags.detail`."""
        return self.for_context(context).detail(key, default=default)

    def all(self, context: Context = None) -> dict[str, Detail]:
        """Return the detail of every flag: :meth:`ContextFlags.all`."""
        return self.for_context(context).all()


def context_key(given: Mapping[str, Any]) -> str:
    """Return the key of a context as a text, empty where it has none."""
    for name in KEY_NAMES:
        value = given.get(name)
        if value is not None:
            return str(value)
    return ""


def _fault(error: Exception) -> Evaluation:
    import logging  # noqa: PLC0415 - 4 ms that a reader without trouble need not pay

    # The type alone: the text of an exception may quote a context.
    logging.getLogger("flagstore").error("an evaluation failed: %s", type(error).__name__)
    return Evaluation(error=EXCEPTION)
