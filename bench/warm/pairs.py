"""Two functions in turn, thousands of calls at a time; printed as JSON."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from flagstore.evaluation import open_engine
from flagstore.evaluation.base import EngineConfig
from flagstore.flags import CONVERSIONS, ContextFlags, EvaluationState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TURNS = 3
CALLS = 2_000
COUNTED, COUNTED_WHOLE = "enabled, counted", "enabled, counted, a new context each time"
"""Pairs of flagstore without usage and with it, not of a provider's engine and flagstore."""


def microseconds(call: Callable[[], Any]) -> float:
    """Return what one call takes, as the mean of thousands."""
    begun = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - begun) / CALLS * 1e6


def compare(pairs: Mapping[str, tuple[Callable[[], Any], Callable[[], Any]]]) -> None:
    """Print theirs and ours by name: of a few turns each one's best, the least disturbed.

    Both are called through a function of their own, so its cost is on both sides.
    """
    found = {}
    for name, (theirs, ours) in pairs.items():
        microseconds(theirs), microseconds(ours)
        turns = [(microseconds(theirs), microseconds(ours)) for _ in range(TURNS)]
        found[name] = [min(a for a, _ in turns), min(b for _, b in turns)]
    print(json.dumps(found))


class Flags:
    """A flag set in memory, as an engine reads it."""

    def __init__(self, sections: dict[str, dict[str, Any]]) -> None:
        self.sections = sections
        self.meta: dict[str, Any] = {}

    def item(self, section: str, key: str) -> Any:
        """Return one item."""
        return self.sections.get(section, {}).get(key)


class Ours:
    """Our surface over a flag set in memory, without a store."""

    def __init__(self, provider: str, sections: dict[str, dict[str, Any]]) -> None:
        settings = EngineConfig(time.time, lambda: 0.5, app_name="shop", environment="production")
        engine = open_engine(provider, Flags(sections), settings)
        assert engine
        keys = sections["flags"].keys
        self._state = EvaluationState(engine, CONVERSIONS[provider], keys=keys, overrides={})

    def of(self, context: Mapping[str, Any]) -> ContextFlags:
        """Return the flags for a context."""
        return ContextFlags(self._state, context)
