"""Flags whose evaluations a test decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import (
    CONTEXT_INVALID,
    FLAG_NOT_FOUND,
    ContextError,
    Evaluation,
)
from flagstore.flags import CONVERSIONS, PLAIN, EvaluationState, Flags

if TYPE_CHECKING:
    from collections.abc import Mapping


class StubEngine:
    """Returns the evaluations that it was given, and raises RuntimeError for the flag "breaks"."""

    def __init__(self, evaluations: Mapping[str, Evaluation]) -> None:
        self.evaluations = evaluations

    def context(self, given: Mapping[str, Any]) -> Any:
        if given.get("bad"):
            raise ContextError(CONTEXT_INVALID, "bad")
        if given.get("broken"):
            message = "secret-of-a-user"
            raise RuntimeError(message)
        return given

    def evaluate(self, key: str, context: Any) -> Evaluation:
        del context
        if key == "breaks":
            message = "secret-of-a-user"
            raise RuntimeError(message)
        return self.evaluations.get(key) or Evaluation(error=FLAG_NOT_FOUND)


class StubFlags(Flags):
    """Flags that stay, by the conversions of a provider; `known` is the rest of their state."""

    def __init__(
        self, engine: StubEngine | None, provider: str = "launchdarkly", **known: Any
    ) -> None:
        self.engine = engine
        self.known: dict[str, Any] = {"overrides": {}, **known}
        self._conversion = CONVERSIONS.get(provider, PLAIN)

    def _state(self, _given: Any = None) -> EvaluationState:
        keys = self.engine.evaluations if self.engine else ()
        return EvaluationState(self.engine, self._conversion, keys=lambda: keys, **self.known)
