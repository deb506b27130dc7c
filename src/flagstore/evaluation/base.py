"""What an engine is given, and what it says. Pure.

An *engine* evaluates the flags of one flag set as their provider's own Python SDK does. It says
what happened in the provider's terms as far as they differ, and in these words where they mean the
same; turning that into the type that a caller asked for is not its business.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from typing import Protocol


class Absent:
    """The type of :data:`ABSENT`."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
"""No value: the caller's default is the result. ``None`` is a value."""

# Reasons: why a flag has its value.
OFF = "OFF"
"""The flag is off or killed."""
FALLTHROUGH = "FALLTHROUGH"
"""Nothing that is more special matched; a flag without rules included."""
TARGET_MATCH = "TARGET_MATCH"
"""The context is listed by its key."""
RULE_MATCH = "RULE_MATCH"
"""A rule, condition or strategy matched: ``rule`` and ``rule_index`` say which."""
NO_MATCH = "NO_MATCH"
"""Unleash: the feature is on, and none of its strategies is for this context."""
NOT_IN_ROLLOUT = "NOT_IN_ROLLOUT"
"""Split: the context is outside of the traffic allocation."""
PREREQUISITE_FAILED = "PREREQUISITE_FAILED"
"""Another flag that this one depends on is not as it must be: ``rule`` names it if it is known."""
OVERRIDE = "OVERRIDE"
"""An override of the reader's own, as in a test."""
ERROR = "ERROR"
"""It could not be evaluated: ``error`` says why."""

# Errors: why a flag could not be evaluated, or not as asked.
FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
MALFORMED_FLAG = "MALFORMED_FLAG"
WRONG_TYPE = "WRONG_TYPE"
"""The flag's value is of another type than what was asked for."""
NO_VALUE = "NO_VALUE"
"""Unleash: the feature is on, and no variant with a payload belongs to it."""
KEY_MISSING = "KEY_MISSING"
"""The context has no key, and the provider needs one."""
CONTEXT_INVALID = "CONTEXT_INVALID"
UNSUPPORTED = "UNSUPPORTED"
"""The flag uses what cannot be evaluated here, or in no server-side SDK."""
SEGMENT_UNAVAILABLE = "SEGMENT_UNAVAILABLE"
"""A large segment that the flag needs cannot be read now."""
NOT_LOADED = "NOT_LOADED"
"""Nothing has been read from the store yet, and the caller asked for defaults until then."""
TOO_OLD = "TOO_OLD"
"""The store has not been heard from for longer than the caller's ``max_age_s``."""
STALE = "STALE"
"""No error: the last attempt to hear from the store failed, and what is in hand is used."""
EXCEPTION = "EXCEPTION"
"""A fault of ours; the log has it."""


class Evaluation(NamedTuple):
    """What an engine says of one flag. Made once and shared: what it holds must not be changed."""

    value: Any = ABSENT
    """LaunchDarkly: the variation's value. Split: the treatment. Unleash: whether it is on.
    AppConfig: the attributes, none while it is off."""
    variant: str | int | None = None
    """LaunchDarkly: the variation's index. Split: the treatment. Unleash and AppConfig: the
    variant's name, none where there is none (Unleash: ``disabled``)."""
    reason: str = ERROR
    error: str = ""
    rule: str = ""
    """LaunchDarkly: the rule's id, or the prerequisite's key. Split: the label. Unleash: the name
    of the strategy."""
    rule_index: int | None = None
    """Which rule, condition, strategy or variant it was, from 0 on."""
    config: Any = None
    """Split: the treatment's configuration, a text. Unleash: the variant's payload
    (``{"type": "json", "value": "{…}"}``). AppConfig: whether it is on; None in a freeform
    profile, whose flags may be any JSON."""
    version: int | None = None
    """LaunchDarkly: the flag's version. Split: its change number."""
    in_experiment: bool = False
    """LaunchDarkly: whether the rule or fallthrough is an experiment that counts this context."""


class ContextError(Exception):
    """A context that no flag can be evaluated for; ``args`` are the error's word and its text."""


def log_fault(key: str, error: Exception) -> None:
    """Log where an evaluation broke; not the exception's text, which may quote the context."""
    import logging  # noqa: PLC0415 - 4 ms that a reader without trouble need not pay
    import traceback  # noqa: PLC0415 - the same

    where = "".join(traceback.format_tb(error.__traceback__))
    name = type(error).__name__
    logging.getLogger("flagstore").error("flag %r was not evaluated: %s\n%s", key, name, where)


class EngineConfig(NamedTuple):
    """What an engine knows besides the flag set and the context."""

    now: Callable[[], float]
    """Seconds since the epoch."""
    random: Callable[[], float]
    """From 0 to 1, for flags that are to be decided at random."""
    app_name: str = ""
    """Unleash: what rules on ``appName`` compare with."""
    environment: str = ""
    """Unleash: what rules on ``environment`` compare with."""
    strategies: Mapping[str, Callable[[dict[str, Any], Mapping[str, Any]], bool]] = {}
    """Unleash: custom strategies by name, each a function of its parameters and the context."""


if TYPE_CHECKING:
    # Not made at run time: each would cost a cold start a fifth of a millisecond.

    class Items(Protocol):
        """The flag set as an engine reads it."""

        @property
        def meta(self) -> Mapping[str, Any]:
            """What else belongs to the provider's document."""

        def item(self, section: str, key: str) -> Any:  # noqa: ANN401 - provider JSON
            """Return the JSON of one flag or segment, which must not be changed; or None.

            An engine asks for each once and keeps what it made of it.

            Raises:
                NotLoadedError: a large segment cannot be read now.
            """

    class Engine(Protocol):
        """One provider's way of evaluating, over one flag set.

        Safe under threads: two may make the same thing at once, never half of it.
        """

        def context(self, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the engine's own
            """Turn a caller's context into the engine's own; the caller's is not changed.

            Raises:
                ContextError: no flag can be evaluated for it.
            """

        def evaluate(self, key: str, context: Any) -> Evaluation:  # noqa: ANN401 - the engine's own
            """Evaluate one flag. Never raises: a flag that is damaged is an outcome as well."""
