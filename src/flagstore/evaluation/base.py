"""The interface of the evaluation engines: their input, results, reasons and errors. No I/O.

An *engine* evaluates the flags of one flag set as their provider's own Python SDK does. Its results
use the codes below where providers mean the same, and the provider's own terms elsewhere.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flagstore.errors import NotLoadedError

if TYPE_CHECKING:
    from typing import Protocol, TypeAlias, TypeVar

    Json: TypeAlias = Any
    """A provider's JSON, whose shape is checked where it is read."""
    Compiled = TypeVar("Compiled")


class Absent:
    """The type of :data:`ABSENT`."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
"""No value: the caller's default is returned. ``None`` is a value."""

# Reasons: why a flag has its value.
OFF = "OFF"
"""The flag is off or killed."""
FALLTHROUGH = "FALLTHROUGH"
"""Nothing more specific matched, or the flag has no rules."""
TARGET_MATCH = "TARGET_MATCH"
"""The context is listed by its key."""
RULE_MATCH = "RULE_MATCH"
"""A rule, condition or strategy matched: see ``rule`` and ``rule_index``."""
NO_MATCH = "NO_MATCH"
"""Unleash: the feature is on, but none of its strategies applies to this context."""
NOT_IN_ROLLOUT = "NOT_IN_ROLLOUT"
"""Split: the context is outside the traffic allocation."""
PREREQUISITE_FAILED = "PREREQUISITE_FAILED"
"""A flag that this one depends on does not have the required value: see ``rule``."""
OVERRIDE = "OVERRIDE"
"""An override set in the reader, as in a test."""
ERROR = "ERROR"
"""The flag could not be evaluated: see ``error``."""

# Errors: why a flag could not be evaluated, or not as requested.
FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
MALFORMED_FLAG = "MALFORMED_FLAG"
WRONG_TYPE = "WRONG_TYPE"
"""The flag's value does not have the requested type."""
NO_VALUE = "NO_VALUE"
"""Unleash: the feature is on, but has no variant with a payload."""
KEY_MISSING = "KEY_MISSING"
"""The context has no key, and the provider needs one."""
CONTEXT_INVALID = "CONTEXT_INVALID"
UNSUPPORTED = "UNSUPPORTED"
"""The flag uses a feature that cannot be evaluated here, or in any server-side SDK."""
SEGMENT_UNAVAILABLE = "SEGMENT_UNAVAILABLE"
"""A large segment that the flag needs cannot be read now."""
NOT_LOADED = "NOT_LOADED"
"""Nothing has been read from the store yet; the client returns defaults."""
TOO_OLD = "TOO_OLD"
"""The flags were last confirmed longer ago than the caller's ``max_age_s``."""
STALE = "STALE"
"""Not an error: the last attempt to reach the store failed, and the flags in memory are used."""
EXCEPTION = "EXCEPTION"
"""An unexpected exception, which is logged."""


class Evaluation(NamedTuple):
    """The result of evaluating one flag. Instances are shared: never change their values."""

    value: Any = ABSENT
    """LaunchDarkly: the variation's value. Split: the treatment. Unleash: whether it is on.
    AppConfig: the attributes, none while it is off."""
    variant: str | int | None = None
    """LaunchDarkly: the variation's index. Split: the treatment. Unleash and AppConfig: the
    variant's name, if there is one (Unleash: else ``disabled``)."""
    reason: str = ERROR
    error: str = ""
    rule: str = ""
    """LaunchDarkly: the rule's id, or the prerequisite's key. Split: the label. Unleash: the name
    of the strategy, or the reason of ``UNSUPPORTED``. AppConfig: whether flagstore's hash of
    ``split`` decided."""
    rule_index: int | None = None
    """The index of the rule, condition, strategy or variant, from 0."""
    config: Any = None
    """Split: the treatment's configuration, a string. Unleash: the variant's payload
    (``{"type": "json", "value": "{…}"}``). AppConfig: whether it is on; None in a freeform
    profile, whose flags may be any JSON."""
    version: int | None = None
    """LaunchDarkly: the flag's version. Split: its change number."""
    in_experiment: bool = False
    """LaunchDarkly: whether the rule or fallthrough is an experiment that counts this context."""


NOT_FOUND = Evaluation(error=FLAG_NOT_FOUND)


class ContextError(Exception):
    """A context that is invalid for every flag; ``args`` are the error and its message."""


class EvaluationError(Exception):
    """Ends an evaluation, and those of the flags that depend on this one."""

    error = EXCEPTION
    """The error in the result."""


class MalformedError(EvaluationError):
    """A flag or segment lacks a field, or has an invalid one."""

    error = MALFORMED_FLAG


class OutOfRangeError(MalformedError):
    """A number is outside the range of its field."""


class UnsupportedError(EvaluationError):
    """A flag or segment uses a feature that cannot be evaluated here."""

    error = UNSUPPORTED


def context_key(given: Mapping[str, Any]) -> str:
    """Return the key of a context as a string; empty if it has none."""
    for name in ("key", "targetingKey", "targeting_key", "userId"):
        value = given.get(name)
        if value is not None:
            return str(value)
    return ""


def optional(data: "Json", name: str, kind: type | tuple[type, ...]) -> "Json":
    """Return a field, None if it is missing or null; MalformedError if it has another type."""
    value = data.get(name)
    if value is not None and not isinstance(value, kind):
        raise MalformedError(name)
    return value


def required(data: "Json", name: str, kind: type | tuple[type, ...]) -> "Json":
    """Return a field; MalformedError if it is missing or has another type."""
    value = data.get(name)
    if not isinstance(value, kind):
        raise MalformedError(name)
    return value


def all_of(values: list[Any] | None, kind: type) -> list[Any]:
    """Return a list, empty for None; MalformedError if an element has another type."""
    # Check each type once: many values have few types.
    if values and not all(issubclass(found, kind) for found in set(map(type, values))):
        raise MalformedError
    return values or []


def kept(compiled: "dict[str, Compiled]", changed: Iterable[str]) -> "dict[str, Compiled]":
    """Return a copy without the changed keys; other threads may add to the original."""
    found = compiled.copy()
    for key in changed:
        found.pop(key, None)
    return found


def failed(key: object, error: Exception, rule: str = "", version: int | None = None) -> Evaluation:
    """Return the result of an evaluation that raised; an unexpected exception is logged."""
    if not isinstance(key, str):
        return NOT_FOUND
    code = SEGMENT_UNAVAILABLE if isinstance(error, NotLoadedError) else EXCEPTION
    if isinstance(error, EvaluationError):
        code = error.error
    elif code == EXCEPTION:
        import logging  # noqa: PLC0415 - 4 ms, for errors only
        import traceback  # noqa: PLC0415 - the same

        # Without the exception's text, which may quote the context.
        where = "".join(traceback.format_tb(error.__traceback__, -20))
        name = type(error).__name__
        logging.getLogger("flagstore").error("flag %r was not evaluated: %s\n%s", key, name, where)
    return Evaluation(error=code, rule=rule, version=version)


class EngineConfig(NamedTuple):
    """The input of an engine besides the flag set and the context."""

    now: Callable[[], float]
    """Seconds since the epoch."""
    random: Callable[[], float]
    """Returns a number from 0 to below 1, for random rollouts."""
    app_name: str = ""
    """Unleash: compared by rules on ``appName``."""
    environment: str = ""
    """Unleash: compared by rules on ``environment``."""
    strategies: Mapping[str, Callable[[dict[str, Any], Mapping[str, Any]], bool]] = {}
    """Unleash: custom strategies by name, each a function of its parameters and the context."""


if TYPE_CHECKING:
    # For type checkers only: each class would add 0.2 ms to a cold start.

    class Items(Protocol):
        """The interface through which an engine reads a flag set."""

        @property
        def meta(self) -> Mapping[str, Any]:
            """The other fields of the provider's document."""

        def item(self, section: str, key: str) -> Json:
            """Return the JSON of one flag or segment, or None. Callers must not change it.

            An engine reads each item once and keeps its compiled form.

            Raises:
                NotLoadedError: a large segment cannot be read now.
            """

    class Evaluator(Protocol):
        """Evaluates flags. Thread-safe."""

        def context(self, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the engine's own
            """Convert a caller's context, which is not changed, into the engine's own.

            Raises:
                ContextError: no flag can be evaluated for it.
            """

        def evaluate(self, key: str, context: Any) -> Evaluation:  # noqa: ANN401 - the engine's own
            """Evaluate one flag. Never raises: errors are results."""

    class Engine(Evaluator, Protocol):
        """Evaluates the flags of one provider's flag set.

        Two threads may compile the same flag at once, but see no partial result. A context belongs
        to the engine that converted it.
        """

        def changed(self, items: Items, keys: Mapping[str, Collection[str]]) -> "Engine":
            """Return an engine for a later flag set, with what is compiled of equal items.

            This engine stays as it is. The new one holds no reference to it or to its items.

            Args:
                items: the later flag set, whose ``meta`` is the same.
                keys: section → keys of the items that were changed, added or removed.
            """
