"""Gradual deployments second by second, with 10,000 entities, until they end or are rolled back.

AppConfig, events, the queue and the store are models by one clock; sync and readers are real.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from flagstore import rollout
from flagstore.rollout import Progress
from simulators.appconfig import AppConfigSimulator, Strategy
from simulators.reader_rig import DOWN, EXPIRED_S
from simulators.reader_store import RecordsReader
from simulators.rollout_rig import Stage, doc

if TYPE_CHECKING:
    from flagstore import Client

ENTITIES = [{"key": f"user-{number}"} for number in range(10_000)]
READERS = 4
SYNC_S = 5
"""From an event, or a check that is due, to its publication: no more than that."""
CHECK_S = 60
SCHEDULE_S = 300
STRATEGIES = {
    "linear": Strategy(30, 20, bake_minutes=10),
    "linear, as logged": Strategy(15, 25, bake_minutes=5, as_logged=True),
    "exponential": Strategy(20, 10, "EXPONENTIAL", bake_minutes=10),
    "exponential, as logged": Strategy(60, 5, "EXPONENTIAL", bake_minutes=5, as_logged=True),
}
SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(2, 26))]


class World(Stage):
    """A stage whose events and checks take time, are lost and doubled."""

    def __init__(self, seed: int, *, faults: bool) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.faults = faults
        self.due: list[float] = []
        """When events and queued checks are served, in seconds."""
        self.confirmed = 0.0
        self.server.listeners.append(lambda _event: self._arrives(self.clock.now()))
        self.stores = [RecordsReader(self.records, self.clock) for _ in range(READERS)]
        self.readers = [self.reader(store, rollout_by="key") for store in self.stores]
        self.events_lost = False

    def _arrives(self, due: float) -> None:
        rng = self.rng
        if self.events_lost or (self.faults and rng.random() < 0.3):
            return
        self.due.append(due + rng.uniform(1, SYNC_S))
        if self.faults and rng.random() < 0.3:  # late, and doubled
            self.due += [due + rng.uniform(1, 200), due + rng.uniform(1, 200)]

    def second(self) -> None:
        """Let a second pass, with the checks and the faults in it."""
        self.clock.advance(1)
        self.server.tick()
        now = self.clock.now()
        if int(now) % SCHEDULE_S == 0 and not self.events_lost:
            self.due.append(now)
        served = [at for at in self.due if at <= now]
        self.due = [at for at in self.due if at > now]
        for _ in served:
            if self.faults and self.rng.random() < 0.2:
                self.due.append(now + self.rng.uniform(10, 60))  # fails, and is tried again
            else:
                self.check()
        if self.faults:
            for store in self.stores:
                if self.rng.random() < 0.02:
                    store.error = self.rng.choice([DOWN, None, None])
                if self.rng.random() < 0.02:
                    store.stale = dict(self.records) if self.rng.random() < 0.3 else {}

    def check(self) -> None:
        self.queued.clear()
        self.sync()
        self.confirmed = Progress.parse(self.state().deployment).percentage
        for due_ms in self.queued:
            self._arrives(due_ms / 1000)

    def shares(self) -> list[float]:
        """Return the percentage of each reader, after a refresh if one is due."""
        found = [client.info().deployment for client in self.readers]
        return [each.percentage if each else 0.0 for each in found]


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AppConfigSimulator().environ.items():
        monkeypatch.setenv(name, value)


def share(client: Client, entities: list[dict[str, str]] = ENTITIES) -> float:
    """Return the percentage of entities with the new version."""
    found = sum(client.value("a", each, default={"limit": 0})["limit"] == 2 for each in entities)
    return 100 * found / len(entities)


def start(world: World, strategy: Strategy) -> int:
    world.publish({"a": 1, "b": 1})
    for client in world.readers:
        client.snapshot()
    return world.server.deploy(world.server.put(doc({"a": 2, "b": 1})), strategy)


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize("name", STRATEGIES)
def test_share_follows_appconfig(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While checks arrive, the share is within two points; by entity and by process."""
    strategy, world = STRATEGIES[name], World(1, faults=False)
    first_s = Strategy(strategy.minutes, strategy.factor, strategy.growth).steps()[0][0]
    with world.server:
        start(world, strategy)
        begun, worst, lag_s = world.clock.now(), 0.0, 0
        by_process = world.reader()
        for elapsed in range(int(60 * (strategy.minutes + strategy.bake_minutes))):
            world.second()
            percentage = world.server.percentage()
            shares = world.shares()
            if {*shares} != {percentage} and world.server.in_progress():
                # The first step may come before the guide has it: seen by a check, then a refresh.
                assert max(shares) <= percentage
                assert elapsed < max(first_s, SYNC_S + EXPIRED_S)
                lag_s += 1
                continue
            if elapsed % 180 == 90 and world.server.in_progress():
                found = [share(world.rng.choice(world.readers))]
                drawn = 0
                for number in range(len(ENTITIES)):
                    monkeypatch.setattr(rollout, "_random", b"%d" % number)
                    drawn += by_process.enabled("a") and by_process["a"]["limit"] == 2
                found.append(100 * drawn / len(ENTITIES))
                worst = max(worst, *(abs(each - percentage) for each in found))
        assert worst <= 2
        for _ in range(60):
            world.second()
        assert {share(client) for client in world.readers} == {100.0}
    assert lag_s <= CHECK_S + SYNC_S + EXPIRED_S + SYNC_S
    took_s = world.clock.now() - begun
    print(f"{name}, {took_s:,.0f} s: at most {worst:.1f} points off, first step {lag_s} s late")


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_never_ahead_and_never_back(name: str, seed: int) -> None:
    """Whatever is late, lost, doubled or stale: at most one step ahead, and nobody goes back."""
    strategy, world = STRATEGIES[name], World(seed, faults=True)
    with world.server:
        number = start(world, strategy)
        limit, before = strategy.factor, [0.0] * READERS
        undone_at = world.rng.uniform(0, 60 * (strategy.minutes + strategy.bake_minutes))
        sample, new = ENTITIES[:200], [frozenset[int]() for _ in world.readers]
        for elapsed in range(int(undone_at)):
            world.second()
            if not world.server.in_progress():
                break
            limit = max(limit, _following(strategy, world.confirmed))
            shares = world.shares()
            assert max(shares) <= limit
            assert all(now >= then for now, then in zip(shares, before, strict=True))
            before = shares
            if elapsed % 120 == 0:
                for reader, client in enumerate(world.readers):
                    found = frozenset(
                        n for n, each in enumerate(sample) if client.value("a", each)["limit"] == 2
                    )
                    assert new[reader] <= found
                    new[reader] = found
        if world.server.in_progress():
            world.server.stop_deployment(number)
        ended = world.server.serves
        for _ in range(2 * SCHEDULE_S):
            world.second()
        for store in world.stores:
            store.error, store.stale = None, {}
        world.faults = False
        for _ in range(SCHEDULE_S + CHECK_S + 60):
            world.second()
        expected = 100.0 if ended == 3 else 0.0
        assert {share(client, sample) for client in world.readers} == {expected}
    print(f"{name}, seed {seed}: {elapsed:,} s, 0 ahead, 0 back")


def _following(strategy: Strategy, confirmed: float) -> float:
    return min((share for _, share in strategy.steps() if share > confirmed), default=100.0)


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize("events", [True, False])
def test_alarm_at_40_percent(events: bool) -> None:
    """A rollback reaches every reader within event + sync + TTL; without events, in a minute more.

    The schedule is lost, too.
    """
    world = World(1, faults=False)
    with world.server:
        number = start(world, STRATEGIES["linear"])
        while world.server.percentage() < 40:
            world.second()
        for _ in range(world.rng.randint(1, 300)):
            world.second()
        assert set(world.shares()) == {40.0}
        for client in world.readers:
            assert abs(share(client) - 40) <= 2
        world.server.listeners.clear()
        if events:
            world.server.listeners.append(lambda _event: world._arrives(world.clock.now()))
        world.server.stop_deployment(number)
        limit_s = SYNC_S + EXPIRED_S + (0 if events else CHECK_S + SYNC_S)
        took_s = 0
        while any(share(client, ENTITIES[:500]) for client in world.readers):
            world.second()
            took_s += 1
            assert took_s <= limit_s
    print(f"{'with' if events else 'without'} its event: {took_s} s")
