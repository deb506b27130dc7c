"""How long one sync waits for its provider, and how often it asks again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storesync.errors import OutOfTimeError, ProviderError

if TYPE_CHECKING:
    from storesync.budget import Budget

CONFIRM_S = 1.0
"""Before asking again after an older answer: instances of Unleash lag by up to 1 s."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often one sync tries. Seconds."""

    tickets: int = 12
    """Tickets that one sync may draw."""
    fetch_s: float = 10.0
    """One fetch, in all."""
    publish_s: float = 4.0
    """Time that must be left for publishing when a fetch starts."""
    settle_s: float = 3.0
    """How long to wait for a provider whose answers lag behind its webhook."""
    faults: int = 4
    """Fetches that may fail before the ring is given back."""
    confirmations: int = 2
    """How often one sync asks again after an answer older than what is published."""


class Patience:
    """What one sync has borne so far."""

    def __init__(self, budget: Budget, limits: Limits) -> None:
        self._budget = budget
        self._limits = limits
        self._faults = 0
        self._fault: ProviderError | None = None
        self._waits = 0
        self._settle_until: float | None = None
        self._older = 0

    def bear(self, error: ProviderError) -> None:
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
                self._budget.require(error.retry_after_s + self._limits.publish_s, purpose)
                self._budget.wait(error.retry_after_s, purpose)
            else:
                self._budget.back_off(self._faults, base_s=0.25, cap_s=5.0, purpose=purpose)
        except OutOfTimeError:
            raise error from None  # the provider's fault is the better story

    def require(self, seconds: float) -> None:
        """Make sure that there is time to publish what a fetch brings.

        Raises:
            ProviderError: the last fault, where waiting for the provider took the time.
            OutOfTimeError: otherwise.
        """
        try:
            self._budget.require(seconds, "publishing")
        except OutOfTimeError:
            if self._fault:
                raise self._fault from None
            raise

    def may_settle(self) -> bool:
        """Wait a moment for a provider that lags; False when the time for that is over."""
        now = self._budget.clock.monotonic()
        if self._settle_until is None:
            self._settle_until = now + self._limits.settle_s
        pause = min(0.2 * 2**self._waits, 1.0)
        if now + pause > self._settle_until:
            return False
        if self._budget.remaining() < pause + self._limits.publish_s:
            return False
        self._waits += 1
        self._budget.clock.sleep(pause)
        return True

    def asks_again(self) -> bool:
        """Wait a moment for an answer newer than what is published; False if it is time to stop."""
        if self._older >= self._limits.confirmations:
            return False
        self._older += 1
        try:
            self._budget.wait(CONFIRM_S, "an answer newer than what is published")
        except OutOfTimeError:
            return False
        return True
