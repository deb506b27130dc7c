"""A burst without warm functions: every webhook starts a receiver, under SSM's quota.

The receivers are real, each with the state of a process of its own, and so is what SyncFunction
reads and runs; API Gateway, Lambda, SSM, the queue and all times are modelled, in virtual time.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from greenlet import getcurrent, greenlet

from faults.test_burst import START, Burst, MachineClock
from faults.test_interleavings import content
from simulators.deployment import SECRET, signed
from simulators.schedules import SOURCE
from simulators.ssm import QUOTA, Ssm, TokenBucket
from simulators.template import read_template
from storesync import webhook
from storesync.config import Sources, WebhookSettings
from storesync.errors import ParametersError
from storesync.sync import parse

if TYPE_CHECKING:
    from storesync.model import SyncRequest

PARAMETERS = read_template()["Parameters"]
RATE, BURST = (PARAMETERS[name]["Default"] for name in ("ThrottleRate", "ThrottleBurst"))
PREFIX = "/flagstore"
NAMES = (SOURCE.name, *(f"other-{number}" for number in range(9)))
WEBHOOK = signed(SOURCE.name, b'{"kind": "flag"}')
START_S = (0.5, 1.5)
"""A new environment: Lambda's own part, imports and clients."""
SSM_S = (0.01, 0.06)
SQS_S = (0.005, 0.03)
ANSWERED_S = 8.0
PUBLISHED_S = 60.0
RETRY_S = 10.0
THROTTLED = 429


class Response(NamedTuple):
    """The response to one webhook, and its latency."""

    status: int
    after_s: float


class ColdBurst(Burst):
    """Webhooks within some seconds; each announces a change, and none is retried.

    Args:
        seed: seed of the random numbers.
        webhooks: number of webhooks.
        seconds: duration of the burst.
        quota: SSM's limit, in calls per second.
        then: webhooks per second, for ten more seconds.

    """

    def __init__(
        self, seed: int, webhooks: int, seconds: float, *, quota: float, then: int = 0
    ) -> None:
        self._moments = (webhooks, 10 * then)
        self.responses: list[Response] = []
        self.last_change = 0.0
        self._idle: list[webhook.Receiver] = []
        self._syncing: dict[greenlet, Sources] = {}
        super().__init__(seed, seconds)
        self._clock = MachineClock(self.simulation, 0.0)
        self._gateway = TokenBucket(RATE, BURST, self._clock.monotonic())
        self.ssm = Ssm(self._clock, quota=quota, wait=lambda: self._pass(SSM_S))
        source = {"provider": "launchdarkly"}
        kinds = {"webhooks": {**source, "secrets": [SECRET]}, "sources": source}
        credentials = {**source, "key": "canary-key"}
        for kind, value in {**kinds, "credentials": credentials}.items():
            self.ssm.put(f"{PREFIX}/{kind}", dict.fromkeys(NAMES, value))

    def _webhooks(self, seconds: float) -> None:
        first, more = self._moments
        moments = [self.rng.uniform(0, seconds) for _ in range(first)]
        moments += [seconds + self.rng.uniform(0, 10) for _ in range(more)]
        for moment in moments:
            self.simulation.start(self._change_and_arrive, START + moment)
        self.last_change = START + max(moments)

    def _change_and_arrive(self) -> None:
        self._change()
        begun = self.simulation.time
        self.arrived.append((begun, self.provider.revision))
        status = self._invoked() if self._gateway.take(begun) else THROTTLED
        self.responses.append(Response(status, self.simulation.time - begun))

    def _invoked(self) -> int:
        """Run WebhookFunction as Lambda does: in an idle environment, or in a new one."""
        receiver = self._idle.pop() if self._idle else self._started()
        response = webhook.respond(lambda: receiver, WEBHOOK)
        self._idle.append(receiver)
        return int(response["statusCode"])

    def _started(self) -> webhook.Receiver:
        self._pass(START_S)
        clients: Any = {"ssm": self.ssm, "sqs": self}
        settings, clock = WebhookSettings(PREFIX, "https://queue"), self.rng.choice(self.skewed)
        receiver = webhook.Receiver(settings, **clients, clock=clock, rng=self.rng)
        load, _connect = receiver.init_jobs()
        with suppress(ParametersError):  # as INIT does
            load()
        return receiver

    def send_message(self, **message: str) -> None:
        """Take a message, as SQS does."""
        self._pass(SQS_S)
        parsed = parse({"Records": [{"messageId": "1", "body": message["MessageBody"]}]})
        assert isinstance(parsed, tuple)
        assert parsed[0].request
        self.queue.append((self.simulation.time, parsed[0].request))

    def _serve(self, requests: list[SyncRequest]) -> bool:
        """Read the source as SyncFunction does, in a new process for each poller."""
        sources = self._syncing.get(getcurrent()) or self._syncer()
        try:
            sources.get(SOURCE.name)
        except ParametersError:
            self.queue += [(self.simulation.time + RETRY_S, request) for request in requests]
            return False
        return super()._serve(requests)

    def _syncer(self) -> Sources:
        self._pass(START_S)
        ssm: Any = self.ssm
        sources = Sources(ssm, PREFIX, self.rng.choice(self.skewed), self.rng)
        self._syncing[getcurrent()] = sources
        with suppress(ParametersError):
            sources.load()
        return sources

    def published_after(self) -> float:
        """Return the seconds from the last change to its publication."""
        reached = [at for at, revision in self.completed if revision >= self.provider.revision]
        return min(reached) - self.last_change

    def _pass(self, limits: tuple[float, float]) -> None:
        self.simulation.wait(self.rng.uniform(*limits))


@pytest.mark.parametrize("quota", [QUOTA, QUOTA / 2], ids=["the quota", "half of it"])
def test_cold_burst_is_accepted_in_time(quota: float) -> None:
    """As many cold receivers as the API starts at once all respond with 2xx within 8 s.

    They do so even while the rest of the account uses half of SSM's quota, and the last change is
    published within a minute.
    """
    longest, published, refused = 0.0, 0.0, 0
    for seed in range(5):
        burst = ColdBurst(seed, BURST, 0.05, quota=quota, then=RATE)
        burst.run()
        statuses = Counter(response.status for response in burst.responses)
        assert set(statuses) <= {202, THROTTLED}
        assert statuses[202] >= BURST
        assert content(burst.world()) == burst.provider.flags
        longest = max(longest, *(response.after_s for response in burst.responses))
        published = max(published, burst.published_after())
        refused += burst.ssm.refused
    assert longest <= ANSWERED_S
    assert published <= PUBLISHED_S
    assert refused > BURST, "SSM's quota was enough: this test proves nothing"
    print(f"{BURST} cold receivers, {quota:g} SSM calls a second: all 2xx within {longest:.1f} s")


def test_changes_of_throttled_webhooks_are_published() -> None:
    """Of 1,000 webhooks within a second, most get 429, even the last; no change is lost."""
    for seed in range(5):
        burst = ColdBurst(seed, 1_000, 1.0, quota=QUOTA)
        burst.run()
        statuses = Counter(response.status for response in burst.responses)
        assert set(statuses) == {202, THROTTLED}
        assert BURST <= statuses[202] <= BURST + RATE + 1
        assert content(burst.world()) == burst.provider.flags
        assert burst.published_after() <= PUBLISHED_S
