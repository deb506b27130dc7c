"""Flags for tests: the test sets the values, and there is no store.

::

    from flagstore.testing import FakeFlags

    flags = FakeFlags({"new-checkout": True, "button-color": "blue"})
    assert flags.enabled("new-checkout", {"key": "ada"})

It has the API of a client except ``snapshot()``, ``flags[key]`` and ``override``, for code that
takes its flags as an argument. For code that creates its client at module scope, the wheel's
pytest fixture ``fake_flags`` makes every client in the process read from it.
"""

from __future__ import annotations

import time
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from flagstore.errors import ConfigurationError
from flagstore.evaluation import ENGINES, open_engine
from flagstore.evaluation.base import FLAG_NOT_FOUND, OVERRIDE, EngineConfig, Evaluation
from flagstore.flags import PLAIN, EvaluationState, Flags
from flagstore.snapshot import Info

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flagstore.codec import Json
    from flagstore.evaluation.base import Engine
    from flagstore.flags import Detail


class FakeFlags(Flags):
    """Flags with the test's values; for all other flags, the caller gets the default."""

    def __init__(self, values: Mapping[str, Any] | None = None, *, provider: str = "") -> None:
        """Start with some values.

        Args:
            values: by key; a function takes the context and returns the value.
            provider: provider whose contexts to accept, such as ``unleash``; by default, only
                contexts that every provider accepts.
        """
        self._values = dict(values or {})
        self.provider = provider
        """A context that this provider rejects gets defaults, as in production."""
        self.evaluated: list[tuple[Detail, str]] = []
        """The detail of each evaluation and the key of its context, in order."""

    def __setitem__(self, key: str, value: Json) -> None:
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def keys(self) -> list[str]:
        """Return the keys of all flags, sorted."""
        return sorted(self._values)

    def info(self) -> Info:
        """Return the ``Info`` of fresh flags, for code that logs their age."""
        now = time.time()
        counts = {"flags": len(self._values)}
        return Info("fake", "fake", 1, "", counts, 0, now, now, 0.0, stale=False, error="")

    def update(self, values: Mapping[str, Any]) -> None:
        """Set several values."""
        self._values.update(values)

    def _state(self, _given: Mapping[str, Any] | None = None) -> EvaluationState:
        return EvaluationState(
            _FakeEngine(dict(self._values), (self.provider,) if self.provider else ENGINES),
            PLAIN,
            keys=self.keys,
            overrides={},
            observers=(None, lambda detail, key: self.evaluated.append((detail, key))),
        )


class _FakeEngine:
    """Evaluates a dictionary. See :class:`flagstore.evaluation.base.Evaluator`."""

    def __init__(self, values: dict[str, Any], providers: Iterable[str]) -> None:
        self._values = values
        self._engines = [_engine(name) for name in providers]

    def context(self, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as in Evaluator
        for engine in self._engines:
            engine.context(given)
        return given

    def evaluate(self, key: str, context: Any) -> Evaluation:  # noqa: ANN401 - as in Evaluator
        if key not in self._values:
            return Evaluation(error=FLAG_NOT_FOUND)
        value = self._values[key]
        return Evaluation(value(context) if callable(value) else value, reason=OVERRIDE)


@cache
def _engine(provider: str) -> Engine:
    """Return a provider's engine without flags, which checks contexts."""
    items: Any = SimpleNamespace(meta={}, item=lambda _section, _key: None)
    engine = open_engine(provider, items, EngineConfig(now=time.time, random=float))
    if engine is None:
        raise ConfigurationError(f"{provider!r} is not a provider: use one of {', '.join(ENGINES)}")
    return engine
