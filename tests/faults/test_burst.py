"""A burst of requests against a model of the queue: two pollers, batches of ten, skewed clocks.

How many webhooks at once become sync requests is tested in tests/faults/test_cold_burst.py.

The syncs are the real pipeline on the memory store; the queue, the time that calls take and the
clocks of the machines are modelled. Time is virtual, so the numbers are those of the model.
"""

from __future__ import annotations

import heapq
import itertools
import random
from typing import TYPE_CHECKING

import pytest
from greenlet import getcurrent, greenlet

from faults.test_interleavings import content, settled
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import ModelProvider, NoHttp
from simulators.schedules import SOURCE, World
from storesync.model import SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline
from storesync.sync import FOLLOWUP_SLACK_MS

if TYPE_CHECKING:
    from collections.abc import Callable

WEBHOOKS = 1_000
DUPLICATES = 0.3
POLLERS = 2
BATCH = 10
SKEW_S = 0.2
"""How far clocks differ here, either way; AWS keeps them within milliseconds."""
STORE_S = (0.003, 0.015)
FETCH_S = (0.05, 0.4)
FOLLOWUP_S = 30.0
START = 1_795_000_000.0


class Simulation:
    """Runs greenlets in the order of virtual time."""

    def __init__(self) -> None:
        self.time = START
        self._due: list[tuple[float, int, greenlet]] = []
        self._count = itertools.count()
        self._hub = getcurrent()

    def start(self, work: Callable[[], None], at: float) -> None:
        """Start a task at a time."""
        heapq.heappush(self._due, (at, next(self._count), greenlet(work)))

    def wait(self, seconds: float) -> None:
        """Let others run for this many seconds."""
        heapq.heappush(self._due, (self.time + seconds, next(self._count), getcurrent()))
        self._hub.switch()

    def run(self) -> None:
        """Run until no task is due."""
        while self._due:
            self.time, _, work = heapq.heappop(self._due)
            work.switch()


class MachineClock:
    """One machine's clock: virtual time, off by the machine's skew."""

    def __init__(self, simulation: Simulation, skew: float) -> None:
        self._simulation = simulation
        self._skew = skew

    def now(self) -> float:
        """Seconds since the epoch by this machine's clock."""
        return self._simulation.time + self._skew

    def monotonic(self) -> float:
        """Seconds."""
        return self._simulation.time

    def sleep(self, seconds: float) -> None:
        """Let others run meanwhile."""
        self._simulation.wait(seconds)


class Burst:
    """One burst: webhooks, the queue, the pollers, and the outcome."""

    def __init__(self, seed: int, seconds: float) -> None:
        self.rng = random.Random(seed)
        self.simulation = Simulation()
        self.provider = ModelProvider(flags={"a": 0})
        self.records = settled(self.provider)
        self.queue: list[tuple[float, SyncRequest]] = []
        self.arrived: list[tuple[float, int]] = []
        """When a webhook arrived, and the revision that it announced."""
        self.completed: list[tuple[float, int]] = []
        """When a check had completed, and the revision that the store had reached by then."""
        self.skewed = [
            MachineClock(self.simulation, self.rng.uniform(-SKEW_S, SKEW_S)) for _ in range(8)
        ]
        self._webhooks(seconds)

    def _webhooks(self, seconds: float) -> None:
        """Change the provider; each change sends a webhook late, out of order, some twice."""
        changes = int(WEBHOOKS * (1 - DUPLICATES))
        moments = sorted(self.rng.uniform(0, seconds) for _ in range(changes))
        again = self.rng.sample(moments, WEBHOOKS - changes)
        for moment in moments:
            self.simulation.start(self._change, START + moment)
        for moment in [*moments, *again]:
            self.simulation.start(self._arrive, START + moment + self.rng.uniform(0.05, 1.0))

    def _change(self) -> None:
        # Few values, so that they repeat.
        self.provider.change(a=self.rng.randint(0, 3))

    def _arrive(self) -> None:
        self._send("webhook", 0.0)
        self.arrived.append((self.simulation.time, self.provider.revision))

    def _send(self, trigger: str, delay: float) -> None:
        clock = self.rng.choice(self.skewed)
        request = SyncRequest(SOURCE.name, (), int((clock.now() + delay) * 1000), trigger)
        self.queue.append((self.simulation.time + delay, request))

    def poll(self) -> None:
        """Take batches until the queue stays empty, as one poller and its function do."""
        trailed = 0.0
        while self.simulation.time < START + 120:
            ready = [entry for entry in self.queue if entry[0] <= self.simulation.time]
            batch = self.rng.sample(ready, min(BATCH, len(ready)))
            if not batch:
                self.simulation.wait(0.05)
                continue
            for entry in batch:
                self.queue.remove(entry)
            if self.rng.random() < 0.01:
                self.queue.append(batch[0])  # at least once, sometimes twice
            if self._serve([request for _, request in batch]) and self.simulation.time >= trailed:
                # As SyncFunction does: one follow-up a burst and process.
                trailed = self.simulation.time + FOLLOWUP_SLACK_MS / 1000
                self._send("followup", FOLLOWUP_S)

    def _serve(self, requests: list[SyncRequest]) -> bool:
        """Run one sync for a batch; return whether it fetched for a webhook."""
        clock = self.rng.choice(self.skewed)
        wait, uniform = self.simulation.wait, self.rng.uniform
        store = MemoryStore(self.records, lambda _step: wait(uniform(*STORE_S)))
        self.provider.on_fetch = lambda: wait(uniform(*FETCH_S))
        deadline = Deadline(clock, self.rng, 58)
        report = Sync(SOURCE, self.provider, store, http=NoHttp(), deadline=deadline).run(requests)
        if report.fetches:
            self.completed.append((self.simulation.time, self.world().state().revision))
        return report.fetches > 0 and any(request.trigger == "webhook" for request in requests)

    def run(self) -> list[float]:
        """Run it all; return the seconds from each webhook's arrival to its publication."""
        self.provider.fetches = 0
        for poller in range(POLLERS):
            self.simulation.start(self.poll, START + 0.01 * poller)
        self.simulation.run()
        return [self._latency(arrived, required) for arrived, required in self.arrived]

    def _latency(self, arrived: float, required: int) -> float:
        reached = [at for at, revision in self.completed if revision >= required]
        return max(0.0, min(reached) - arrived)

    def world(self) -> World:
        """Return the current store and provider."""
        return World(self.records, self.provider, clock=FakeClock(self.simulation.time))


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_fetches_of_a_burst(seconds: float) -> None:
    """30 % duplicates, shuffled, while the provider changes: few fetches, final state published."""
    lags: list[float] = []
    counts: list[int] = []
    for seed in range(5):
        burst = Burst(seed, seconds)
        lags += burst.run()
        counts.append(burst.provider.fetches)
        assert content(burst.world()) == burst.provider.flags
        assert counts[-1] <= 0.03 * WEBHOOKS
        assert not burst.queue
    lags.sort()
    print(
        f"{WEBHOOKS:,} sync requests in {seconds:.0f} s, 5 runs: at most {max(counts)} fetches; "
        f"sync request to store median {lags[len(lags) // 2]:.2f} s, "
        f"99 % {lags[int(len(lags) * 0.99)]:.2f} s, worst {lags[-1]:.2f} s"
    )
