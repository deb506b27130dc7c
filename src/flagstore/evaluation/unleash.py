"""Evaluates Unleash's feature toggles as its Python SDK does. Pure.

That is UnleashClient 6.9.1, which turns what a caller gives into texts, over yggdrasil-engine
2.0.0, in all that shows, in what seems wrong as well: a parent's rollouts without a group are those
of the child; a strategy on host names never matches, unless a host name is set here; custom
strategies after one on host names have the result of the one before. Where the two would refuse the
whole document, and where the response cannot be told, the flag's outcome has no value and an error.

Each flag is compiled into functions and ready-made outcomes when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flagstore.errors import NotLoadedError
from flagstore.evaluation import base
from flagstore.evaluation import unleash_operators as operators
from flagstore.evaluation.base import ABSENT, ContextError, Evaluation
from flagstore.evaluation.unleash_flags import compile_flag
from flagstore.evaluation.unleash_strategies import Flag
from flagstore.evaluation.unleash_variants import TIME_PROPERTY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.evaluation.base import EngineConfig, Items

FIELDS: Final = frozenset(
    ("userId", "sessionId", "environment", "appName", "currentTime", "remoteAddress")
)
"""What Unleash knows by name; all else are properties."""
USER_ID_NAMES: Final = ("key", "targetingKey", "targeting_key")
"""What is taken for ``userId`` where there is none, in this order; they are properties, too."""
_DEFAULT_ENVIRONMENT: Final = "default"

_NOT_FOUND = Evaluation(error=base.FLAG_NOT_FOUND)
_MALFORMED = Evaluation(error=base.MALFORMED_FLAG)
_SEGMENT_UNAVAILABLE = Evaluation(error=base.SEGMENT_UNAVAILABLE)
_EXCEPTION = Evaluation(ABSENT, error=base.EXCEPTION)
_OFF_BY_FAULT = Evaluation(value=False, error=base.MALFORMED_FLAG)
"""As the official engine does with a flag that it cannot compile."""


class Context(dict[str, str]):
    """A context as the engine sees it: fields and properties by name, each a text.

    What is not there is None; the current time is that of the question.
    """

    __slots__ = ("given", "now")

    given: Mapping[str, Any]
    now: Callable[[], float]

    def __missing__(self, name: str) -> str | None:
        return _iso(self.now()) if name == "currentTime" else None

    def official(self) -> dict[str, Any]:
        """Return it as UnleashClient gives it to custom strategies."""
        found: dict[str, Any] = {
            name: self[name]
            for name in (*FIELDS, *map(_name, self.given))
            if self[name] is not None
        }
        unknown = {_name(key): value for key, value in self.given.items() if key not in FIELDS}
        properties = unknown.pop("properties", None) or {}
        found["properties"] = {
            name: _text(value)
            for name, value in (unknown | {_name(k): v for k, v in properties.items()}).items()
        }
        return found


class UnleashEngine:
    """Unleash's way of evaluating, over one flag set."""

    __slots__ = ("_evaluators", "_items", "_now", "_segments", "_settings", "_static")

    def __init__(self, items: Items, settings: EngineConfig) -> None:
        self._items = items
        self._settings = settings
        self._now = settings.now
        self._static = {
            "appName": settings.app_name,
            "environment": settings.environment or _environment(items.meta),
        }
        self._evaluators: dict[str, Callable[[Any], Evaluation]] = {}
        self._segments: dict[str, list[operators.Predicate]] = {}

    def context(self, given: Mapping[str, Any]) -> Context:
        """Turn a caller's context into texts by name, as UnleashClient does.

        Everything becomes text, None and True as well (``"None"``, ``"True"``). A field that
        Unleash does not know is a property, and goes before one of the same name in
        ``properties``. No field is needed: without ``userId``, one of ``USER_ID_NAMES`` is taken.

        Raises:
            ContextError: it, its properties or one of the names is of no fit type, a text has half
                of a surrogate pair, or a field is named ``context``, which the official engine
                refuses.
        """
        context = Context()
        try:
            self._fill(context, given)
        except Exception as error:  # noqa: BLE001 - a caller's objects may raise anything
            raise ContextError(base.CONTEXT_INVALID, f"{type(error).__name__}: {error}") from None
        if "context" in given:
            raise ContextError(base.CONTEXT_INVALID, "a field cannot be named context")
        context.given = given
        context.now = self._now
        return context

    def _fill(self, context: Context, given: Mapping[str, Any]) -> None:
        properties = given.get("properties")
        if properties:
            for name, value in properties.items():
                self._put(context, name, value)
            if "currentTime" in context:
                context[TIME_PROPERTY] = context.pop("currentTime")
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
        if type(name) is not str:
            name = _name(name)
        if type(value) is not str:
            value = _text(value)
        if not value.isascii():
            value.encode()
        context[name] = value

    def evaluate(self, key: str, context: Context) -> Evaluation:
        """Evaluate one flag and choose its variant, by one draw where that is random."""
        try:
            evaluator = self._evaluators.get(key)
            if evaluator is None:
                evaluator = self._evaluator(key)
                if evaluator is None:
                    return _NOT_FOUND
                self._evaluators[key] = evaluator
            return evaluator(context)
        except operators.UnsupportedError as error:
            return Evaluation(error=base.UNSUPPORTED, rule=str(error))
        except NotLoadedError:
            return _SEGMENT_UNAVAILABLE
        except Exception as error:  # noqa: BLE001 - a flag must not be able to break its caller
            if not isinstance(key, str):
                return _NOT_FOUND
            base.log_fault(key, error)
            return _EXCEPTION

    def _evaluator(self, key: str) -> Callable[[Any], Evaluation] | None:
        """Compile a flag into what evaluates it; None for a name that no flag has.

        Nothing is kept of such a name: callers make them up.
        """
        given = self._items.item("flags", key)
        if given is None:
            return None
        try:
            return compile_flag(self._flag(given, given))
        except operators.OffError:
            return lambda _: _OFF_BY_FAULT
        except operators.UnsupportedError as error:
            unsupported = Evaluation(error=base.UNSUPPORTED, rule=str(error))
            return lambda _: unsupported
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return lambda _: _MALFORMED

    def check(self, section: str, key: str) -> None:
        """Compile a flag, or the constraints of a segment.

        Raises:
            OffError: the official engine turns such a flag off.
            UnsupportedError, InjectionError: it cannot be evaluated here.
            Exception: another one of Python's: the official engine refuses the whole document.
        """
        given = self._items.item(section, key)
        if section == "flags":
            flag = self._flag(given, given)
            compile_flag(flag)
            # Of one that is off too: others may depend on it.
            flag.rules()
            flag.fallback(base.FALLTHROUGH)
        else:
            for constraint in given["constraints"]:
                operators.constraint(constraint)

    def _flag(self, given: Mapping[str, Any], child: Mapping[str, Any]) -> Flag:
        return Flag(given, child, self._items, self._settings, self._segments)


def engine(items: Items, settings: EngineConfig) -> UnleashEngine:
    """Make an engine for Unleash's flags.

    ``settings.environment`` is what rules on ``environment`` compare with; where it is empty, it
    is the environment that the document names, else ``default`` as in UnleashClient. Numbers are
    drawn from ``settings.random`` as ``1 + floor(n * r)``: of 9,999 for stickiness, of 99 for
    ``gradualRolloutRandom``, of the sum of the weights for variants.
    """
    return UnleashEngine(items, settings)


def _environment(meta: Mapping[str, Any]) -> str:
    query = meta.get("query")
    name = query.get("environment") if isinstance(query, dict) else None
    return name if isinstance(name, str) and name else _DEFAULT_ENVIRONMENT


def _text(value: Any) -> str:  # noqa: ANN401 - a caller's
    """Return a value as UnleashClient writes it."""
    if hasattr(value, "isoformat"):
        from datetime import datetime  # noqa: PLC0415 - it is there already, or it is none

        if isinstance(value, datetime):
            return value.isoformat()
    # An instance of a subclass may give one of itself.
    return str.__str__(str(value))


def _name(name: Any) -> str:  # noqa: ANN401 - a caller's
    """Return a name as JSON has it, in which UnleashClient hands contexts on."""
    if isinstance(name, str):
        return str.__str__(name)
    if name is None or isinstance(name, bool):
        return {None: "null", True: "true", False: "false"}[name]
    if isinstance(name, (int, float)):
        return repr(name)
    raise TypeError("a name is no text")


def _iso(now: float) -> str:
    """Return a time as UnleashClient gives the current one."""
    from time import gmtime  # noqa: PLC0415 - few flags look at the clock

    seconds, microseconds = divmod(round(now * 1_000_000), 1_000_000)
    time = gmtime(seconds)
    micros = f".{microseconds:06d}" if microseconds else ""
    return (
        f"{time.tm_year:04d}-{time.tm_mon:02d}-{time.tm_mday:02d}T"
        f"{time.tm_hour:02d}:{time.tm_min:02d}:{time.tm_sec:02d}{micros}+00:00"
    )
