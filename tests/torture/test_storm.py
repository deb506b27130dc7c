"""A storm of webhooks for four environments, some forged, some lost; and why no FIFO queue."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter, deque
from typing import TYPE_CHECKING

import pytest

from faults import test_burst
from faults.test_burst import START, Burst
from faults.test_interleavings import content
from simulators.schedules import SOURCE
from storesync import providers
from storesync.errors import SignatureError
from storesync.model import Secret, SyncRequest, WebhookConfig, WebhookRequest

if TYPE_CHECKING:
    from collections.abc import Callable

LOST, FORGED = 0.1, 0.05
TICK_S = 300.0
WORST_S = 2.5
"""A request waits up to a second's spacing, and for up to three fetches and what they write."""
ENVIRONMENTS = 4
SECRET = Secret("storms-own-secret-00000000")
WEBHOOK = WebhookConfig("prod", "launchdarkly", "signature", (SECRET,), "", {})


class Storm(Burst):
    """A burst in which some webhooks never arrive, and some are forged."""

    def __init__(self, seed: int, seconds: float) -> None:
        self.counts: Counter[str] = Counter()
        self.changed: list[tuple[float, int]] = []
        """When the provider changed, and the revision that it had then."""
        super().__init__(seed, seconds)
        self.simulation.start(self._tick, START + TICK_S)

    def _change(self) -> None:
        super()._change()
        self.changed.append((self.simulation.time, self.provider.revision))

    def followup(self) -> float:
        """Return the longest time of a change to the store, including those without a webhook."""
        return max(self._latency(at, revision) for at, revision in self.changed)

    def _arrive(self) -> None:
        self.counts["sent"] += 1
        if self.rng.random() < FORGED:
            self.counts["forged"] += 1
            if not accepted(self.rng.randbytes(24).hex().encode(), forged=True):
                return
            self.counts["forged and accepted"] += 1
        if self.rng.random() < LOST:
            self.counts["lost"] += 1
            return
        assert accepted(b'{"kind":"flag"}', forged=False)
        super()._arrive()

    def _tick(self) -> None:
        """Request a sync as the schedule does, for any lost change."""
        self._serve([SyncRequest(SOURCE.name, trigger="schedule")])


def accepted(body: bytes, *, forged: bool) -> bool:
    """Verify a webhook with the real check."""
    secret = b"a stranger's" if forged else SECRET.reveal().encode()
    signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
    try:
        request = WebhookRequest({"x-ld-signature": signature}, body, "")
        providers.get("launchdarkly").verify(request, WEBHOOK)
    except SignatureError:
        return False
    return True


@pytest.mark.parametrize(
    ("seeds", "webhooks", "seconds"),
    [(1, 1_000, 5.0), pytest.param(5, 2_500, 10.0, marks=pytest.mark.campaign)],
    ids=["dose", "all"],
)
def test_storm_ends_at_the_providers_state(
    seeds: int, webhooks: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 % twice, 10 % lost, 5 % forged, shuffled: few fetches; the schedule finds lost changes."""
    monkeypatch.setattr(test_burst, "WEBHOOKS", webhooks)
    total: Counter[str] = Counter()
    lags: list[float] = []
    longest = 0.0
    for seed in range(seeds * ENVIRONMENTS):
        storm = Storm(seed, seconds)
        lags += storm.run()
        longest = max(longest, storm.followup())
        assert content(storm.world()) == storm.provider.flags
        assert not storm.queue
        total += storm.counts
        total["fetches"] += storm.provider.fetches
        assert storm.provider.fetches <= 0.03 * webhooks
    assert total["forged"] > 0
    assert total["lost"] > 0
    assert total["forged and accepted"] == 0
    lags.sort()
    assert lags[-1] <= WORST_S
    assert longest <= TICK_S + WORST_S
    print(
        f"{total['sent']:,} deliveries ({total['forged']:,} forged, 0 accepted; {total['lost']:,} "
        f"lost), {total['fetches']:,} fetches; "
        f"sync request to store median {lags[len(lags) // 2]:.2f} s, "
        f"99 % {lags[int(len(lags) * 0.99)]:.2f} s, worst {lags[-1]:.2f} s; change to store at most"
        f" {longest:.2f} s (virtual time)"
    )


@pytest.mark.parametrize(
    "seeds", [50, pytest.param(500, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_schedule_makes_up_for_a_lost_webhook(seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without another webhook, it takes at most until the schedule's next check."""
    monkeypatch.setattr(test_burst, "WEBHOOKS", 3)
    longest, lost = 0.0, 0
    for seed in range(seeds):
        storm = Storm(seed, 80.0)
        storm.run()
        assert content(storm.world()) == storm.provider.flags
        longest = max(longest, storm.followup())
        lost += storm.counts["lost"]
    assert longest <= TICK_S + WORST_S
    assert longest > TICK_S / 2, "nothing needed the tick: this test proves nothing"
    print(
        f"{lost} of {3 * seeds:,} webhooks lost, sent one at a time: change to store at most "
        f"{longest:.0f} s, by a check every {TICK_S:.0f} s"
    )


# -- why the queue is no FIFO queue ----------------------------------------------------------------


class Queue:
    """A queue; as FIFO, it drops messages whose deduplication id was used within five minutes."""

    def __init__(self, *, fifo: bool) -> None:
        self._fifo = fifo
        self._seen: dict[str, float] = {}
        self.messages: deque[str] = deque()

    def send(self, message: str, now: float) -> None:
        """Take a message, or drop it: the id is remembered even after the message is deleted."""
        last = self._seen.get(message, float("-inf"))
        if self._fifo and now - last < 300:
            return
        self._seen[message] = now
        self.messages.append(message)


@pytest.mark.parametrize("fifo", [False, True])
def test_fifo_deduplication_loses_the_last_request(fifo: bool) -> None:
    """With the environment as constant id, a change a minute after another is lost."""
    provider, store = {"flag": 0}, {"flag": 0}
    queue = Queue(fifo=fifo)

    def serve() -> None:
        while queue.messages:
            queue.messages.popleft()
            store.update(json.loads(json.dumps(provider)))

    steps: list[tuple[float, Callable[[], None]]] = [
        (0.0, lambda: provider.update(flag=1)),
        (60.0, lambda: provider.update(flag=2)),
    ]
    for now, change in steps:
        change()
        queue.send("prod", now)
        serve()
    assert (store == provider) is not fifo
