"""What each partition of a DynamoDB table is asked to write, over time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from bench.units import CountingClient

if TYPE_CHECKING:
    from simulators.clock import FakeClock

UNITS_A_SECOND = 1_000


class PartitionMeter(CountingClient):
    """Counts write units per namespace, as buckets that drain as fast as a partition writes."""

    def __init__(self, client: Any, clock: FakeClock) -> None:
        super().__init__(client)
        self._clock = clock
        self._level: dict[str, float] = defaultdict(float)
        self._since: dict[str, float] = defaultdict(clock.monotonic)
        self.fullest: dict[str, int] = defaultdict(int)
        """The most that each bucket ever held: above a second's units, DynamoDB throttles."""

    def _written(self, item: dict[str, Any], times: int = 1) -> None:
        before, namespace = self.write_units, item["namespace"]["S"]
        super()._written(item, times)
        now = self._clock.monotonic()
        drained = UNITS_A_SECOND * (now - self._since[namespace])
        self._since[namespace] = now
        self._level[namespace] = max(0.0, self._level[namespace] - drained)
        self._level[namespace] += self.write_units - before
        self.fullest[namespace] = max(self.fullest[namespace], round(self._level[namespace]))
