"""Bursts of webhooks: real pipeline and receivers; AWS, clocks and the time itself are models."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from greenlet import getcurrent, greenlet

from faults.test_interleavings import content, settled
from simulators.clock import FakeClock
from simulators.deployment import SECRET, signed
from simulators.memory_store import MemoryStore
from simulators.provider import ModelProvider, NoHttp
from simulators.schedules import SOURCE, World
from simulators.ssm import QUOTA, Ssm, TokenBucket
from simulators.template import read_template
from storesync import webhook
from storesync.config import Sources, WebhookSettings
from storesync.errors import ParametersError
from storesync.model import SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline
from storesync.sync import FOLLOWUP_SLACK_MS, parse

if TYPE_CHECKING:
    from collections.abc import Callable

DUPLICATES = 0.3
LOST = 0.1
POLLERS = 2
BATCH = 10
SKEW_S = 0.2
"""How far clocks differ here, either way; AWS keeps them within milliseconds."""
FETCH_S = (0.05, 0.4)
START_S = (0.5, 1.5)
"""A new environment: Lambda's own part, imports and clients."""
SSM_S = (0.01, 0.06)
SQS_S = (0.005, 0.03)
STORE_S = (0.003, 0.015)
FOLLOWUP_S = 30.0
RETRY_S = 10.0
TICK_S = 300.0
WORST_S = 2.5
"""A request waits up to a second's spacing, and for up to three fetches and what they write."""
START = 1_795_000_000.0
TEMPLATE = read_template()
RATE, BURST = (TEMPLATE["Parameters"][f"Throttle{name}"]["Default"] for name in ("Rate", "Burst"))
THROTTLED = 429


class Simulation:
    """Runs greenlets in the order of virtual time."""

    def __init__(self) -> None:
        self.time = START
        self._due: list[tuple[float, int, greenlet]] = []
        self._count = itertools.count()
        self._hub = getcurrent()

    def start(self, work: Callable[[], object], at: float) -> None:
        heapq.heappush(self._due, (at, next(self._count), greenlet(work)))

    def wait(self, seconds: float) -> None:
        heapq.heappush(self._due, (self.time + seconds, next(self._count), getcurrent()))
        self._hub.switch()

    def run(self) -> None:
        while self._due:
            self.time, _, work = heapq.heappop(self._due)
            work.switch()


class MachineClock:
    """One machine's clock: virtual time, off by the machine's skew."""

    def __init__(self, simulation: Simulation, skew: float) -> None:
        self._simulation, self._skew = simulation, skew
        self.sleep = simulation.wait

    def now(self) -> float:
        return self._simulation.time + self._skew

    def monotonic(self) -> float:
        return self._simulation.time


class Burst:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.simulation = Simulation()
        self.provider = ModelProvider(flags={"a": 0})
        self.records = settled(self.provider)
        self.queue: list[tuple[float, SyncRequest]] = []
        self.lost = 0
        self.changed: list[tuple[float, int]] = []
        """When the provider changed, and its revision then; below, when a webhook arrived."""
        self.arrived: list[tuple[float, int]] = []
        self.completed: list[tuple[float, int]] = []
        """When a check had completed, and the revision that the store had reached by then."""
        self.skewed = [
            MachineClock(self.simulation, self.rng.uniform(-SKEW_S, SKEW_S)) for _ in range(8)
        ]

    def webhooks(self, count: int, seconds: float) -> None:
        """Schedule changes; each sends a webhook late, out of order, some twice, some never."""
        changes = int(count * (1 - DUPLICATES))
        moments = sorted(self.rng.uniform(0, seconds) for _ in range(changes))
        again = self.rng.sample(moments, count - changes)
        for moment in moments:
            self.simulation.start(self.change, START + moment)
        for moment in [*moments, *again]:
            if self.rng.random() < LOST:
                self.lost += 1
            else:
                self.simulation.start(self._arrive, START + moment + self.rng.uniform(0.05, 1.0))

    def change(self) -> None:
        """Change the provider, among few values, so that they repeat."""
        self.changed.append((self.simulation.time, self.provider.change(a=self.rng.randint(0, 3))))

    def _arrive(self) -> None:
        self._send("webhook", 0.0)
        self.arrived.append((self.simulation.time, self.provider.revision))

    def _send(self, trigger: str, delay: float) -> None:
        sent_at = self.rng.choice(self.skewed).now() + delay
        request = SyncRequest(SOURCE.name, (), int(sent_at * 1000), trigger)
        self.queue.append((self.simulation.time + delay, request))

    def _poll(self) -> None:
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
            if self.serve([request for _, request in batch]) and self.simulation.time >= trailed:
                # As SyncFunction does: one follow-up a burst and process.
                trailed = self.simulation.time + FOLLOWUP_SLACK_MS / 1000
                self._send("followup", FOLLOWUP_S)

    def serve(self, requests: list[SyncRequest]) -> bool:
        """Run one sync for a batch; return whether it fetched for a webhook."""
        clock = self.rng.choice(self.skewed)
        store = MemoryStore(self.records, lambda _step: self.take(STORE_S))
        self.provider.on_fetch = lambda: self.take(FETCH_S)
        deadline = Deadline(clock, self.rng, 58)
        report = Sync(SOURCE, self.provider, store, http=NoHttp(), deadline=deadline).run(requests)
        if report.fetches:
            self.completed.append((self.simulation.time, self.world().state().revision))
        return report.fetches > 0 and any(request.trigger == "webhook" for request in requests)

    def take(self, limits: tuple[float, float]) -> None:
        self.simulation.wait(self.rng.uniform(*limits))

    def run(self) -> None:
        """Run it all, until the schedule's next check; all changes must be published then."""
        self.provider.fetches = 0
        for poller in range(POLLERS):
            self.simulation.start(self._poll, START + 0.01 * poller)
        tick = [SyncRequest(SOURCE.name, trigger="schedule")]
        self.simulation.start(lambda: self.serve(tick), START + TICK_S)
        self.simulation.run()
        assert content(self.world()) == self.provider.flags
        assert not self.queue

    def latencies(self, moments: list[tuple[float, int]]) -> list[float]:
        return [
            max(0.0, min(at for at, revision in self.completed if revision >= required) - begun)
            for begun, required in moments
        ]

    def world(self) -> World:
        return World(self.records, self.provider, clock=FakeClock(self.simulation.time))


@pytest.mark.parametrize(
    ("seeds", "webhooks", "seconds"),
    [
        (4, 1_000, 1.0),
        (4, 1_000, 5.0),
        pytest.param(20, 2_500, 10.0, marks=pytest.mark.campaign),
    ],
)
def test_burst_ends_at_the_providers_state(seeds: int, webhooks: int, seconds: float) -> None:
    """30 % twice, 10 % lost, shuffled: few fetches, all served; the schedule finds lost changes."""
    lags: list[float] = []
    fetches, lost, longest = 0, 0, 0.0
    for seed in range(seeds):
        burst = Burst(seed)
        burst.webhooks(webhooks, seconds)
        burst.run()
        lags += burst.latencies(burst.arrived)
        longest = max(longest, *burst.latencies(burst.changed))
        fetches = max(fetches, burst.provider.fetches)
        lost += burst.lost
    lags.sort()
    assert fetches <= 0.03 * webhooks
    assert lags[-1] <= WORST_S
    assert longest <= TICK_S + WORST_S
    print(
        f"{webhooks:,} webhooks in {seconds:.0f} s, {seeds} times, {lost:,} lost: at most {fetches}"
        f" fetches; sync request to store median {lags[len(lags) // 2]:.2f} s, "
        f"99 % {lags[int(len(lags) * 0.99)]:.2f} s, worst {lags[-1]:.2f} s (virtual time)"
    )


def test_schedule_makes_up_for_a_lost_webhook() -> None:
    """Without another webhook, it takes at most until the schedule's next check."""
    longest, lost, runs = 0.0, 0, 50
    for seed in range(runs):
        burst = Burst(seed)
        burst.webhooks(3, 80.0)
        burst.run()
        longest = max(longest, *burst.latencies(burst.changed))
        lost += burst.lost
    assert longest <= TICK_S + WORST_S
    assert longest > TICK_S / 2, "nothing needed the tick: this test proves nothing"
    print(
        f"{lost} of {3 * runs:,} webhooks lost, sent one at a time: change to store at most "
        f"{longest:.0f} s, by a check every {TICK_S:.0f} s"
    )


def test_queue_does_not_deduplicate() -> None:
    """A FIFO queue would drop a change that is announced like one of the last five minutes."""
    assert not {"FifoQueue", "ContentBasedDeduplication"} & set(
        TEMPLATE["Resources"]["Queue"]["Properties"]
    )


# -- without warm functions: every webhook starts a receiver, under SSM's quota --------------------

PREFIX = "/flagstore"
WEBHOOK = signed(SOURCE.name, b'{"kind": "flag"}')


class ColdBurst(Burst):
    """A burst in which each webhook announces a change, and none is retried or lost."""

    def __init__(self, seed: int, quota: float) -> None:
        super().__init__(seed)
        self.responses: list[tuple[int, float]] = []
        self._idle: list[webhook.Receiver] = []
        self._syncing: dict[greenlet, Sources] = {}
        clock: Any = MachineClock(self.simulation, 0.0)
        self._gateway = TokenBucket(RATE, BURST, clock.monotonic())
        self.ssm: Any = Ssm(clock, quota=quota, wait=lambda: self.take(SSM_S))
        source = {"provider": "launchdarkly"}
        for kind, value in {
            "webhooks": {**source, "secrets": [SECRET]},
            "sources": source,
            "credentials": {**source, "key": "canary-key"},
        }.items():
            names = (SOURCE.name, *(f"other-{number}" for number in range(9)))
            self.ssm.put(f"{PREFIX}/{kind}", dict.fromkeys(names, value))

    def webhooks(self, count: int, seconds: float, begin: float = 0.0) -> None:
        for _ in range(count):
            moment = START + begin + self.rng.uniform(0, seconds)
            self.simulation.start(self._change_and_arrive, moment)

    def _change_and_arrive(self) -> None:
        self.change()
        begun = self.simulation.time
        status = self._invoked() if self._gateway.take(begun) else THROTTLED
        self.responses.append((status, self.simulation.time - begun))

    def _invoked(self) -> int:
        """Run WebhookFunction as Lambda does: in an idle environment, or in a new one."""
        receiver = self._idle.pop() if self._idle else self._started()
        response = webhook.respond(lambda: receiver, WEBHOOK)
        self._idle.append(receiver)
        return int(response["statusCode"])

    def _started(self) -> webhook.Receiver:
        self.take(START_S)
        clients: Any = {"ssm": self.ssm, "sqs": self}
        settings, clock = WebhookSettings(PREFIX, "https://queue"), self.rng.choice(self.skewed)
        receiver = webhook.Receiver(settings, **clients, clock=clock, rng=self.rng)
        load, _connect = receiver.init_jobs()
        with suppress(ParametersError):  # as INIT does
            load()
        return receiver

    def send_message_batch(self, **batch: Any) -> dict[str, Any]:
        self.take(SQS_S)
        (entry,) = batch["Entries"]
        parsed = parse({"Records": [{"messageId": "1", "body": entry["MessageBody"]}]})
        assert isinstance(parsed, tuple)
        assert parsed[0].request
        self.queue.append((self.simulation.time, parsed[0].request))
        return {}

    def serve(self, requests: list[SyncRequest]) -> bool:
        """Read the source as SyncFunction does, in a new process for each poller."""
        sources = self._syncing.get(getcurrent()) or self._syncer()
        try:
            sources.get(SOURCE.name)
        except ParametersError:
            self.queue += [(self.simulation.time + RETRY_S, request) for request in requests]
            return False
        return super().serve(requests)

    def _syncer(self) -> Sources:
        self.take(START_S)
        sources = Sources(self.ssm, PREFIX, self.rng.choice(self.skewed), self.rng)
        self._syncing[getcurrent()] = sources
        with suppress(ParametersError):
            sources.load()
        return sources


@pytest.mark.parametrize(
    ("quota", "count", "seconds", "then"),
    [(QUOTA, BURST, 0.05, 10), (QUOTA / 2, BURST, 0.05, 10), (QUOTA, 1_000, 1.0, 0)],
    ids=["the quota", "half of it", "throttled"],
)
def test_cold_burst_is_accepted_in_time(
    quota: float, count: int, seconds: float, then: int
) -> None:
    """On half of SSM's quota, all that the API starts respond with 2xx; others get a 429."""
    longest, refused = 0.0, 0
    for seed in range(5):
        burst = ColdBurst(seed, quota)
        burst.webhooks(count, seconds)
        burst.webhooks(then * RATE, then, begin=seconds)
        burst.run()
        statuses = Counter(status for status, _ in burst.responses)
        assert set(statuses) <= {202, THROTTLED}
        assert BURST <= statuses[202] <= BURST + RATE * (seconds + then) + 1
        assert statuses[THROTTLED] > 0 or count == BURST
        longest = max(longest, *(seconds for _, seconds in burst.responses))
        assert burst.latencies(burst.changed[-1:])[0] <= 60
        refused += burst.ssm.refused
    assert longest <= 8
    assert refused > BURST, "SSM's quota was enough: this test proves nothing"
    print(f"{BURST} cold receivers, {quota:g} SSM calls a second: all 2xx within {longest:.1f} s")
