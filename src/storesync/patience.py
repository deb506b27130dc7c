"""How long one sync waits for its provider, and when it believes an odd answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storesync.errors import OutOfTimeError, ProviderError, ProviderUnavailableError

if TYPE_CHECKING:
    from storesync.budget import Budget

CONFIRM_S = 1.0
"""Between two answers of which one confirms the other: instances of Unleash lag by up to 1 s."""


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
    """Equal later answers after which an answer that goes back in revisions is believed (a flag
    that was deleted and made again starts at version 1)."""


class Patience:
    """What one sync has borne so far."""

    def __init__(self, budget: Budget, limits: Limits) -> None:
        self._budget = budget
        self._limits = limits
        self._faults = 0
        self._fault: ProviderError | None = None
        self._waits = 0
        self._settle_until: float | None = None
        self._doubted = ""
        self._confirmations = 0

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

    def believes(self, digest: str, title: str) -> bool:
        """Say whether equal answers have confirmed one that goes back in revisions, or wait.

        Raises:
            ProviderUnavailableError: if there is no time for another answer.
        """
        self._confirmations = self._confirmations + 1 if digest == self._doubted else 0
        self._doubted = digest
        if self._confirmations >= self._limits.confirmations:
            return True
        try:
            self._budget.wait(CONFIRM_S, "confirming an answer older than what is published")
        except OutOfTimeError as error:
            message = f"{title} answered with an older state than is published"
            raise ProviderUnavailableError(message) from error
        return False
