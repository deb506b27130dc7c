"""A clock that moves only by sleep() and advance()."""

from __future__ import annotations


class FakeClock:
    """Implements :class:`storesync.model.Clock`; starts at a moment in 2026."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self._now = now
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - 1_700_000_000.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now += seconds

    def advance(self, seconds: float) -> None:
        self._now += seconds
