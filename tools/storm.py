"""A model of a cold-start storm: many readers load one snapshot at once. Pure, in virtual time.

The partition is a bucket of read units that is filled evenly and holds a second's worth; what it
refuses costs nothing. The readers' pauses are those of ``flagstore.stores.dynamodb`` and of
``flagstore.cache``, and each asks again as soon as it may.
"""

from __future__ import annotations

import heapq
import random
from typing import TYPE_CHECKING, NamedTuple

from flagstore.cache import COOL_DOWN_S, FIRST_LOAD_S, MAX_COOL_DOWN_S

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL_S = 0.01
"""One call, refused or not."""
FIRST_PAUSE_S = 0.02


class Storm(NamedTuple):
    """How it ended."""

    at_first: int
    """Readers whose first load succeeded, within its 2 s."""
    all_after_s: float
    """When the last reader had its flags."""


class Bucket:
    """The read units that one partition gives."""

    def __init__(self, units: float) -> None:
        self._rate = self._left = units
        self._at = 0.0

    def take(self, now: float, units: float) -> bool:
        """Take them, if they are there."""
        self._left = min(self._rate, self._left + self._rate * (now - self._at))
        self._at = now
        if self._left < units:
            return False
        self._left -= units
        return True


def storm(readers: int, units: float, *, replicas: int, rate: float, seed: int = 1) -> Storm:
    """Start so many readers at once; each load costs so many units of a snapshot's partition."""
    rng = random.Random(seed)  # noqa: S311 - a model
    buckets = [Bucket(rate) for _ in range(replicas)]
    lives = [attempts(rng) for _ in range(readers)]
    due = [(*next(life), number) for number, life in enumerate(lives)]
    heapq.heapify(due)
    first, last = 0, 0.0
    while due:
        now, load, number = heapq.heappop(due)
        if rng.choice(buckets).take(now, units):
            first += load == 0
            last = now
        else:
            heapq.heappush(due, (*next(lives[number]), number))
    return Storm(first, last)


def attempts(rng: random.Random) -> Iterator[tuple[float, int]]:
    """Yield when a reader that is always refused asks, and in which of its loads."""
    now, load = 0.0, 0
    while True:
        deadline, attempt = now + FIRST_LOAD_S, 0
        while True:
            yield now, load
            now += CALL_S
            pause = FIRST_PAUSE_S * 2**attempt * rng.uniform(0.5, 1.5)
            if now + pause >= deadline:
                break
            now += pause
            attempt += 1
        now += min(COOL_DOWN_S * 2**load * rng.uniform(1, 1.5), MAX_COOL_DOWN_S)
        load += 1
