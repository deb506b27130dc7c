"""The evaluation API: ``enabled``, ``value``, ``detail`` and ``all``. No I/O of its own.

Nothing here raises because of a flag or a context: the caller gets the default, and the detail has
the reason.

Engines differ in the values of flags: any JSON (LaunchDarkly), a treatment (Split), a toggle with a
variant (Unleash), attributes (AppConfig). A :class:`Conversion` per provider turns them into the
type of the caller's default.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from flagstore.codec import Json
from flagstore.evaluation.base import (
    ABSENT,
    ERROR,
    EXCEPTION,
    MALFORMED_FLAG,
    NO_VALUE,
    NOT_LOADED,
    OVERRIDE,
    WRONG_TYPE,
    ContextError,
    Evaluation,
    context_key,
)
from flagstore.snapshot import Snapshot

if TYPE_CHECKING:
    from typing import Self

    from flagstore.evaluation.base import Evaluator
    from flagstore.usage import Count

    Observers = tuple[Count | None, Callable[["Detail", str], None] | None]

Scalar = TypeVar("Scalar", bool, str, int, float)
Handler = TypeVar("Handler", bound=Callable[..., Any])
JsonObject = dict[str, Any]
JsonList = list[Any]
Context = Mapping[str, Any] | None
Converted = tuple[Any, str]
"""The caller's result, and an error code or an empty string."""
ConvertedBool = tuple[bool, str]

NOT_COUNTED = "an evaluation was not counted"
SPLIT_BOOLS = {"on": True, "true": True, "off": False, "false": False}


class Detail(NamedTuple):
    """One evaluation, with its reason."""

    key: str
    """The flag's key."""
    value: Any
    """Of the default's type. A copy."""
    enabled: bool
    """The result of ``enabled``; false if the flag is neither on nor off."""
    variant: str | int | None
    """LaunchDarkly: index of the variation. Split: treatment. Unleash, AppConfig: the variant's
    name. None if the flag could not be evaluated, or its value has another type."""
    reason: str
    """A reason code of :mod:`flagstore.evaluation.base`, such as ``RULE_MATCH``."""
    error: str
    """An error code of the same module, such as ``FLAG_NOT_FOUND``; empty without an error."""
    rule: str
    """LaunchDarkly: id of the rule, or key of the prerequisite. Split: label. Unleash: strategy.
    AppConfig: ``split (flagstore's hash)`` if the value depends on that hash."""
    rule_index: int | None
    config: Any
    """Split: configuration of the treatment, a string. Unleash: payload of the variant. AppConfig:
    whether the flag is on."""
    version: int | None
    """LaunchDarkly: version of the flag. Split: change number. AppConfig: configuration version,
    during a gradual deployment."""
    in_experiment: bool
    """LaunchDarkly only."""
    age_s: float
    """Seconds since the store last confirmed this process's flags."""
    stale: bool
    """Whether the last attempt to reach the store failed."""
    deployment: str = ""
    """AppConfig: why it is that version: ``deployment 7 at 40%, by process``."""


class Conversion:
    """Converts one provider's evaluations to the caller's type.

    ``value`` and ``on`` (is it on?) take an evaluation and the caller's default.
    """

    # This class and the next are not NamedTuples, which would slow down a cold start.
    __slots__ = ("on", "value")

    def __init__(
        self,
        value: Callable[[Evaluation, Any], Converted],
        on: Callable[[Evaluation, bool], ConvertedBool],
    ) -> None:
        self.value = value
        self.on = on


class EvaluationState:
    """Everything that an evaluation needs besides the context, as of one moment.

    ``engine`` is None if there are no flags to evaluate, for the reason ``error``; ``keys`` returns
    the keys of all flags; ``observers``, if any, are what counts an evaluation, and what gets each
    detail and its context's key. They must not raise. ``deployment`` is the configuration version
    and the reason for it, during a gradual deployment (AppConfig).
    """

    __slots__ = (
        "age_s",
        "conversion",
        "deployment",
        "engine",
        "error",
        "keys",
        "observers",
        "overrides",
        "stale",
    )

    def __init__(  # noqa: PLR0913 - a record
        self,
        engine: "Evaluator | None",
        conversion: Conversion,
        *,
        keys: Callable[[], Iterable[str]],
        overrides: Mapping[str, Any],
        observers: "Observers | None" = None,
        error: str = NOT_LOADED,
        age_s: float = 0.0,
        stale: bool = False,
        deployment: tuple[int | None, str] = (None, ""),
    ) -> None:
        self.engine = engine
        self.conversion = conversion
        self.keys = keys
        self.overrides = overrides
        self.observers = observers
        self.error = error
        self.age_s = age_s
        self.stale = stale
        self.deployment = deployment


class ContextFlags:
    """The flags for one context, as of one moment: keep it for a request."""

    __slots__ = ("_context", "_given", "_refused", "_state")

    def __init__(self, state: EvaluationState, given: Context) -> None:
        self._state = state
        self._given = {} if given is None else given
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
        """Return whether a flag is on; the default if it is neither on nor off.

        LaunchDarkly: a value of true or false. Split: ``on`` and ``true`` against ``off`` and
        ``false``. Unleash: the toggle. AppConfig: ``enabled``.
        """
        try:
            evaluation, conversion = self._evaluate(key)
            on, error = conversion.on(evaluation, default)
        except Exception as fault:  # noqa: BLE001 - a flag client must not break its caller
            evaluation, on, error = _fault(fault), default, EXCEPTION
        state = self._state
        observers = state.observers
        if observers is not None:
            count, on_evaluation = observers
            if count is not None and self._refused is None:
                try:  # as in _count: a call less
                    if not (state.overrides and key in state.overrides):
                        count(key, evaluation, self._context, "enabled", self._given)
                except Exception as failed:  # noqa: BLE001 - as there
                    _log(NOT_COUNTED, failed)
            if on_evaluation is not None:
                detail = self._detail(key, evaluation, on, error, on=on)
                on_evaluation(detail, self._context_key())
        return on

    @overload
    def value(self, key: str, *, default: Scalar) -> Scalar: ...
    @overload
    def value(self, key: str, *, default: JsonObject) -> JsonObject: ...
    @overload
    def value(self, key: str, *, default: JsonList) -> JsonList: ...
    @overload
    def value(self, key: str, *, default: None = None) -> Json: ...

    def value(self, key: str, *, default: Any = None) -> Any:
        """Return the value of a flag if it has the default's type, else the default.

        An int is accepted for a float; a bool is not a number. A default of None accepts any type.
        The result is a copy: changing it does not change the flag.
        """
        observers = self._state.observers
        if observers is not None and observers[1] is not None:
            return self.detail(key, default=default).value
        try:
            evaluation, conversion = self._evaluate(key)
            if observers is not None and observers[0] is not None:
                self._count(observers[0], key, evaluation, "value")
            return conversion.value(evaluation, default)[0]
        except Exception as fault:  # noqa: BLE001 - a flag client must not break its caller
            _fault(fault)
            return default

    def detail(self, key: str, *, default: Json = None) -> Detail:
        """Return the value of a flag as :meth:`value` does, with the reason."""
        count, on_evaluation = self._state.observers or (None, None)
        detail = self._resolve(key, default, count)
        if on_evaluation is not None:
            on_evaluation(detail, self._context_key())
        return detail

    def evaluation(self, key: str) -> Evaluation:
        """Return an engine's result as it is: not converted, not copied, not reported."""
        return self._evaluate(key)[0]

    def all(self) -> dict[str, Detail]:
        """Return the detail of every flag by key, sorted. Observers are not called."""
        state = self._state
        keys = {*state.keys(), *state.overrides} if state.engine else state.overrides
        return {key: self._resolve(key, None) for key in sorted(keys, key=str)}

    def _resolve(self, key: str, default: Json, count: "Count | None" = None) -> Detail:
        try:
            evaluation, conversion = self._evaluate(key)
            if count is not None:
                self._count(count, key, evaluation, "value")
            value, error = conversion.value(evaluation, default)
            on = conversion.on(evaluation, False)[0]  # noqa: FBT003 - as in Conversion
            return self._detail(key, evaluation, value, error, on=on)
        except Exception as fault:  # noqa: BLE001 - a flag client must not break its caller
            return self._detail(key, _fault(fault), default, EXCEPTION, on=False)

    def _evaluate(self, key: str) -> tuple[Evaluation, Conversion]:
        state = self._state
        if state.overrides and key in state.overrides:
            return Evaluation(state.overrides[key], reason=OVERRIDE), PLAIN
        if self._refused is not None:
            return self._refused, state.conversion
        engine: Any = state.engine  # not None, or the context would be refused
        return engine.evaluate(key, self._context), state.conversion

    def _count(self, count: "Count", key: str, evaluation: Evaluation, method: str) -> None:
        """Count an evaluation, unless the context is invalid or the flag is overridden."""
        if self._refused is None and evaluation.reason is not OVERRIDE:
            try:
                count(key, evaluation, self._context, method, self._given)
            except Exception as error:  # noqa: BLE001 - the caller's result does not depend on it
                _log(NOT_COUNTED, error)

    def _detail(
        self, key: str, evaluation: Evaluation, value: Json, error: str, *, on: bool
    ) -> Detail:
        held, variant, reason, _, rule, rule_index, config, version, in_experiment = evaluation
        deployed, deployment = self._state.deployment
        return Detail(
            key,
            value,
            on,
            None if held is ABSENT or error == WRONG_TYPE else variant,
            ERROR if error else reason,
            error,
            rule,
            rule_index,
            None if config is None else deep_copy(config),
            deployed if version is None else version,
            in_experiment,
            self._state.age_s,
            self._state.stale,
            deployment,
        )

    def _context_key(self) -> str:
        try:
            return context_key(self._given)
        except Exception:  # noqa: BLE001 - not a mapping, or a key that str() rejects
            return ""


class Flags:
    """The evaluation API over any source of flags: a client, or a fake in a test."""

    def _state(self, given: Context = None) -> EvaluationState:
        raise NotImplementedError

    def current(self) -> Snapshot | None:
        """Return the flag set in memory, if these flags come from one; reads nothing."""
        return None

    def may_block(self) -> bool:
        """Return whether the next call may wait for a store; an event loop then needs a thread."""
        return False

    def health(self) -> str:
        """Return the code of a problem with all flags, or an empty string."""
        return ""

    def track(
        self, event: str, context: Context = None, *, value: float | None = None, data: Json = None
    ) -> None:
        """Record an event for the provider's experiments, if ``usage`` is ``events``.

        Split: of the traffic type in the context's ``trafficType``, by default ``user``.
        """

    def flush(self) -> None:
        """Print what has been counted for the provider, if ``usage`` is on."""

    def reporting(self, handler: Handler) -> Handler:
        """Decorate a function's handler, so that counts are printed where no SIGTERM is sent.

        After the first calls of a process, and then once a minute.
        """
        return handler

    def close(self) -> None:
        """Close connections, if there are any. Idempotent."""

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def for_context(self, context: Context) -> ContextFlags:
        """Return the flags for one context, all from the same flag set."""
        return ContextFlags(self._state(context), context)

    def enabled(self, key: str, context: Context = None, *, default: bool = False) -> bool:
        """Return whether a flag is on: :meth:`ContextFlags.enabled`."""
        return self.for_context(context).enabled(key, default=default)

    @overload
    def value(self, key: str, context: Context = None, *, default: Scalar) -> Scalar: ...
    @overload
    def value(self, key: str, context: Context = None, *, default: JsonObject) -> JsonObject: ...
    @overload
    def value(self, key: str, context: Context = None, *, default: JsonList) -> JsonList: ...
    @overload
    def value(self, key: str, context: Context = None, *, default: None = None) -> Json: ...

    def value(self, key: str, context: Context = None, *, default: Any = None) -> Any:
        """Return the value of a flag: :meth:`ContextFlags.value`."""
        return self.for_context(context).value(key, default=default)

    def detail(self, key: str, context: Context = None, *, default: Json = None) -> Detail:
        """Return the value of a flag with the reason: :meth:`ContextFlags.detail`."""
        return self.for_context(context).detail(key, default=default)

    def all(self, context: Context = None) -> dict[str, Detail]:
        """Return the detail of every flag: :meth:`ContextFlags.all`."""
        return self.for_context(context).all()


def _fault(error: Exception) -> Evaluation:
    _log("an evaluation failed", error)
    return Evaluation(error=EXCEPTION)


def _log(problem: str, error: Exception) -> None:
    import logging  # noqa: PLC0415 - 4 ms, for errors only

    # Only the type: the message of an exception may quote a context.
    logging.getLogger("flagstore").error("%s: %s", problem, type(error).__name__)


# -- from a provider's values to the type of the default ------------------------------------------


def deep_copy(value: Json) -> Json:
    """Return a copy of JSON that shares no object or list with the flag set."""
    kind = value.__class__
    if kind is dict:
        return {key: deep_copy(member) for key, member in value.items()}
    if kind is list:
        return [deep_copy(member) for member in value]
    return value


def _coerce(value: Json, default: Json, error: str = "") -> Converted:
    kind = value.__class__
    if (
        default is None
        or kind is default.__class__
        or (kind is int and default.__class__ is float)
        # Subclasses of strings and dictionaries, too: a StrEnum, a Counter.
        or (kind in {str, dict, list} and isinstance(default, kind))
    ):
        return (deep_copy(value) if kind is dict or kind is list else value), error
    return default, WRONG_TYPE


def _plain_value(evaluation: Evaluation, default: Json) -> Converted:
    """Return any JSON unchanged: LaunchDarkly's variations, and overrides."""
    value, error = evaluation.value, evaluation.error
    return (default, error) if value is ABSENT else _coerce(value, default, error)


def _plain_on(evaluation: Evaluation, default: bool) -> ConvertedBool:  # noqa: FBT001 - as in Conversion
    """Accept only true and false."""
    value = evaluation.value
    if value is True or value is False:
        return value, evaluation.error
    return default, evaluation.error if value is ABSENT else WRONG_TYPE


def _split_value(evaluation: Evaluation, default: Json) -> Converted:
    """Convert a treatment to a string, bool or number; for an object or list, its configuration.

    Without a configuration, a treatment that is itself JSON is used, as in Split's own OpenFeature
    provider.
    """
    treatment = evaluation.value
    if treatment is ABSENT:
        return default, evaluation.error
    if default is None or isinstance(default, str):
        return treatment, evaluation.error
    if default.__class__ is bool:
        return _split_on(evaluation, default)
    is_number = isinstance(default, (int, float))
    for text in (treatment,) if is_number else (evaluation.config, treatment):
        value = _loads(text)
        converted = _coerce(value, default, evaluation.error)
        if value is not ABSENT and converted[1] != WRONG_TYPE:
            return converted
    return default, WRONG_TYPE


def _split_on(evaluation: Evaluation, default: bool) -> ConvertedBool:  # noqa: FBT001 - as in Conversion
    """Accept ``on`` and ``true``, ``off`` and ``false``, in any case."""
    if evaluation.value is ABSENT:
        return default, evaluation.error
    on = SPLIT_BOOLS.get(evaluation.value.lower())
    return (default, WRONG_TYPE) if on is None else (on, evaluation.error)


def _unleash_value(evaluation: Evaluation, default: Json) -> Converted:
    """Return the variant's payload by its type; for a bool, the toggle itself.

    A feature that is off, or without a payload, has no value: not even the variant's name.
    """
    if evaluation.value is ABSENT:
        return default, evaluation.error
    if default.__class__ is bool:
        return evaluation.value, evaluation.error
    if evaluation.value is not True or evaluation.error:
        return default, evaluation.error
    payload = evaluation.config
    if payload is None:
        return default, "" if default is None else NO_VALUE
    kind, value = payload.get("type"), payload.get("value")
    if kind in {"number", "json"}:
        value = _loads(value)
        if value is ABSENT or (kind == "number" and value.__class__ not in {int, float}):
            return default, MALFORMED_FLAG
    return _coerce(value, default)


def _appconfig_value(evaluation: Evaluation, default: Json) -> Converted:
    """Return the attributes of a flag that is on; for a bool, whether it is on.

    In a freeform profile a flag is any JSON.
    """
    on = evaluation.config
    if on is None:
        return _plain_value(evaluation, default)
    if default.__class__ is bool:
        return _plain_value(evaluation._replace(value=on), default)
    if not on:
        return default, evaluation.error
    return _coerce(evaluation.value, default, evaluation.error)


def _appconfig_on(evaluation: Evaluation, default: bool) -> ConvertedBool:  # noqa: FBT001 - as in Conversion
    """Return ``enabled``; in a freeform profile, accept only true and false."""
    on = evaluation.config
    return _plain_on(evaluation if on is None else evaluation._replace(value=on), default)


def _loads(text: Json) -> Json:
    """Parse JSON; ABSENT if it is invalid, or a number in it is not finite."""
    try:
        return _decode(text)
    except (ValueError, TypeError, RecursionError):
        return ABSENT


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError("NaN or infinite")
    return value


_decode: Callable[[Json], Json] = json.JSONDecoder(
    parse_float=_finite, parse_constant=_finite
).decode


PLAIN = Conversion(_plain_value, _plain_on)
CONVERSIONS = {
    "launchdarkly": PLAIN,
    "appconfig": Conversion(_appconfig_value, _appconfig_on),
    "split": Conversion(_split_value, _split_on),
    "unleash": Conversion(_unleash_value, _plain_on),
}
"""Provider → conversion."""
