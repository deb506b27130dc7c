"""Two functions in turn, thousands of calls at a time; printed as JSON."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
CALLS = 4_000


def microseconds(call: Callable[[], Any]) -> float:
    """Return what one call takes, as the mean of thousands."""
    begun = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - begun) / CALLS * 1e6


def compare(pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]]) -> None:
    """Print the medians of theirs, ours and the rounds' ratios, by name."""
    found = {}
    for name, (theirs, ours) in pairs.items():
        rounds = [(microseconds(theirs), microseconds(ours)) for _ in range(ROUNDS)][1:]
        found[name] = {
            "theirs": statistics.median(a for a, _ in rounds),
            "ours": statistics.median(b for _, b in rounds),
            "ratio": statistics.median(b / a for a, b in rounds),
        }
    print(json.dumps(found))


class Flags:
    """A flag set in memory, as an engine reads it."""

    def __init__(
        self, sections: dict[str, dict[str, Any]], meta: dict[str, Any] | None = None
    ) -> None:
        self.sections = sections
        self.meta = meta or {}

    def item(self, section: str, key: str) -> Any:
        """Return one item."""
        return self.sections.get(section, {}).get(key)
