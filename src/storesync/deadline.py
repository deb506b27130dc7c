"""Time that one sync may take: real clocks at the edge, and waiting that knows its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from storesync.errors import OutOfTimeError

if TYPE_CHECKING:
    import random

    from storesync.model import Clock


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def now_ms(clock: Clock) -> int:
    """Return milliseconds since the epoch."""
    return int(clock.now() * 1000)


class Deadline:
    """The time that is left for one sync."""

    def __init__(self, clock: Clock, rng: random.Random, seconds: float) -> None:
        self.clock = clock
        self._rng = rng
        self._end = clock.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left; negative when it is over."""
        return self._end - self.clock.monotonic()

    def require(self, seconds: float, purpose: str) -> None:
        """Make sure that so much time is left.

        Raises:
            OutOfTimeError: if it is not.
        """
        left = self.remaining()
        if left < seconds:
            message = f"{purpose} needs {seconds:.1f} s, {max(left, 0):.1f} s are left"
            raise OutOfTimeError(message)

    def wait(self, seconds: float, purpose: str) -> None:
        """Sleep, unless the time would be over then.

        Raises:
            OutOfTimeError: at once, instead of sleeping for nothing.
        """
        self.require(seconds, purpose)
        self.clock.sleep(seconds)

    def back_off(self, attempt: int, *, base_s: float, cap_s: float, purpose: str) -> None:
        """Wait a random time below ``base * 2**attempt``, at most ``cap`` ("full jitter")."""
        self.wait(self._rng.uniform(0, min(cap_s, base_s * 2**attempt)), purpose)
