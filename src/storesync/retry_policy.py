"""How long one sync waits for its provider, and how often it asks again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storesync.errors import OutOfTimeError, ProviderError

if TYPE_CHECKING:
    from storesync.deadline import Deadline

CONFIRM_S = 1.0
"""Before asking again after an older response: instances of Unleash lag by up to 1 s."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often one sync tries. Seconds."""

    tokens: int = 12
    """Fencing tokens that one sync may draw."""
    fetch_s: float = 10.0
    """One fetch, in all."""
    publish_s: float = 4.0
    """Time that must be left for publishing when a fetch starts."""
    settle_s: float = 3.0
    """How long to wait for a provider whose responses lag behind its webhook."""
    faults: int = 4
    """Fetches that may fail before the sync request is given back."""
    confirmations: int = 2
    """How often one sync asks again after a response older than what is published."""


class RetryPolicy:
    """What one sync has borne so far."""

    def __init__(self, deadline: Deadline, limits: Limits) -> None:
        self._deadline = deadline
        self._limits = limits
        self._faults = 0
        self._fault: ProviderError | None = None
        self._waits = 0
        self._settle_until: float | None = None
        self._older = 0

    def backoff(self, error: ProviderError) -> None:
        """Wait before the fetch that follows a failed one.

        Raises:
            ProviderError: the same, if no retry helps or the provider asks for too long.
        """
        self._faults += 1
        self._fault = error
        if not error.retryable or self._faults >= self._limits.faults:
            raise error
        purpose = "waiting for the provider"
        try:
            if error.retry_after_s is not None:
                # Waited for only where there is time left to publish then.
                self._deadline.require(error.retry_after_s + self._limits.publish_s, purpose)
                self._deadline.wait(error.retry_after_s, purpose)
            else:
                self._deadline.back_off(self._faults, base_s=0.25, cap_s=5.0, purpose=purpose)
        except OutOfTimeError:
            raise error from None  # the provider's fault is the better story

    def require(self, seconds: float) -> None:
        """Make sure that there is time to publish what a fetch brings.

        Raises:
            ProviderError: the last fault, where waiting for the provider took the time.
            OutOfTimeError: otherwise.
        """
        try:
            self._deadline.require(seconds, "publishing")
        except OutOfTimeError:
            if self._fault:
                raise self._fault from None
            raise

    def wait_for_propagation(self) -> bool:
        """Wait a moment for a provider that lags; False when the time for that is over."""
        now = self._deadline.clock.monotonic()
        if self._settle_until is None:
            self._settle_until = now + self._limits.settle_s
        pause = min(0.2 * 2**self._waits, 1.0)
        if now + pause > self._settle_until:
            return False
        if self._deadline.remaining() < pause + self._limits.publish_s:
            return False
        self._waits += 1
        self._deadline.clock.sleep(pause)
        return True

    def asks_again(self) -> bool:
        """Wait before asking for a newer response; return False if there is no time left."""
        if self._older >= self._limits.confirmations:
            return False
        self._older += 1
        try:
            self._deadline.wait(CONFIRM_S, "a response newer than what is published")
        except OutOfTimeError:
            return False
        return True
