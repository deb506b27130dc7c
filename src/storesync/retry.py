"""The deadline of a sync, its retries, and its waits for the provider."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storesync.errors import OutOfTimeError, ProviderError

if TYPE_CHECKING:
    import random

    from storesync.model import Clock

CONFIRM_S = 1.0
"""Wait before another request after an older response: Unleash instances lag by up to 1 s."""


class SystemClock:
    """The machine's clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


def now_ms(clock: Clock) -> int:
    """Return milliseconds since the epoch."""
    return int(clock.now() * 1000)


class Deadline:
    """The remaining time of one sync."""

    def __init__(self, clock: Clock, rng: random.Random, seconds: float) -> None:
        self.clock = clock
        self._rng = rng
        self._end = clock.monotonic() + seconds

    def require(self, seconds: float, purpose: str) -> float:
        """Return the remaining seconds; raise OutOfTimeError if there are fewer than needed."""
        left = self._end - self.clock.monotonic()
        if left < seconds:
            raise OutOfTimeError(f"{purpose} needs {seconds:.1f} s, {max(left, 0):.1f} s are left")
        return left

    def wait(self, seconds: float, purpose: str) -> None:
        """Sleep; raise OutOfTimeError at once if the deadline would pass first."""
        self.require(seconds, purpose)
        self.clock.sleep(seconds)

    def back_off(self, attempt: int, *, base_s: float, cap_s: float, purpose: str) -> None:
        """Wait a random time below ``base * 2**attempt``, at most ``cap`` ("full jitter")."""
        self.wait(self._rng.uniform(0, min(cap_s, base_s * 2**attempt)), purpose)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one sync. Times are in seconds."""

    tokens: int = 12
    """Maximum number of fencing tokens per sync."""
    fetch_s: float = 10.0
    """Maximum duration of one fetch."""
    publish_s: float = 4.0
    """Time reserved for publishing when a fetch starts."""
    settle_s: float = 3.0
    """How long to wait for a provider whose responses lag behind its webhook."""
    faults: int = 4
    """Fetches that may fail before the sync request returns to the queue."""
    confirmations: int = 2
    """Maximum number of repeated requests after responses older than the published set."""


@dataclass(slots=True)
class RetryPolicy:
    """Decides whether a sync fetches again, and waits before it does."""

    deadline: Deadline
    limits: Limits
    _faults: int = 0
    _fault: ProviderError | None = None
    _waits: int = 0
    _settle_until: float | None = None
    _older: int = 0

    def backoff(self, error: ProviderError) -> None:
        """Wait before retrying a failed fetch; raise its error if a retry cannot help."""
        self._faults += 1
        self._fault = error
        if not error.retryable or self._faults >= self.limits.faults:
            raise error
        purpose = "waiting for the provider"
        try:
            if error.retry_after_s is not None:
                # Wait only if there is time left to publish afterwards.
                self.deadline.require(error.retry_after_s + self.limits.publish_s, purpose)
                self.deadline.wait(error.retry_after_s, purpose)
            else:
                self.deadline.back_off(self._faults, base_s=0.25, cap_s=5.0, purpose=purpose)
        except OutOfTimeError:
            raise error from None  # report the provider's error, not the timeout

    def fetch_seconds(self) -> float:
        """Return the seconds that a fetch may take and still leave time to publish.

        If none are left, raise the provider's last error if it had one, else OutOfTimeError.
        """
        try:
            left = self.deadline.require(self.limits.publish_s, "publishing")
        except OutOfTimeError:
            if self._fault:
                raise self._fault from None
            raise
        return min(self.limits.fetch_s, max(left - self.limits.publish_s, 0.1))

    def wait_for_propagation(self) -> bool:
        """Wait for a lagging provider; return False if the time for that is used up."""
        now = self.deadline.clock.monotonic()
        if self._settle_until is None:
            self._settle_until = now + self.limits.settle_s
        pause = min(0.2 * 2**self._waits, 1.0)
        if now + pause > self._settle_until:
            return False
        self._waits += 1
        return self._pause(pause, self.limits.publish_s)

    def wait_for_newer(self) -> bool:
        """Wait before requesting a newer response; return False if the attempts are used up."""
        if self._older >= self.limits.confirmations:
            return False
        self._older += 1
        return self._pause(CONFIRM_S)

    def _pause(self, seconds: float, reserved_s: float = 0.0) -> bool:
        """Sleep; return False at once if less than *reserved_s* would be left."""
        try:
            self.deadline.require(seconds + reserved_s, "waiting for the provider")
        except OutOfTimeError:
            return False
        self.deadline.clock.sleep(seconds)
        return True
