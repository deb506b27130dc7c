"""Many overlapping syncs in random order, with crashes, and values that repeat."""

from __future__ import annotations

import random

import pytest

from faults.test_interleavings import content, in_sync, settled
from simulators.clock import FakeClock
from simulators.provider import ModelProvider
from simulators.schedules import World


class Race:
    """Overlapping syncs in an order that a seed decides."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def run(self) -> World:
        """Run 2 to 8 syncs, each after a change, one in ten crashing; then one more check."""
        rng = random.Random(self.seed)
        provider = ModelProvider(
            flags={"a": 0, "b": 0}, etags=rng.random() < 0.5, reveals_revision=rng.random() < 0.5
        )
        clock = FakeClock()
        world = World(
            settled(provider),
            provider,
            switch_at_reads=True,
            clock=clock,
        )
        # Few values, so that they repeat: with new values a faulty condition can't be seen.
        for number in range(rng.randint(2, 8)):
            world.add(
                f"sync{number}", world.change_and_sync(a=rng.choice((0, 1)), b=rng.choice((0, 1)))
            )
        while enabled := world.enabled():
            number = rng.choice(enabled)
            clock.advance(rng.choice((0, 0, 0.01, 0.3)))
            if rng.random() < 0.1 / 8:  # about eight steps a sync: one sync in ten
                world.crash(number)
            else:
                world.go(number)
        if any(actor.crashed for actor in world.actors):
            # The retried sync request or the schedule repairs what a crash left behind.
            clock.advance(60)
            last = world.add("next", world.sync)
            while not last.done:
                world.go(len(world.actors) - 1)
        return world


@pytest.mark.parametrize(
    "races", [200, pytest.param(1_000, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_races_with_crashes(races: int) -> None:
    """2 to 8 overlapping syncs, a tenth crashing, with and without ETags: 0 stale, 0 lost."""
    crashes = 0
    for seed in range(races):
        world = Race(seed).run()
        try:
            in_sync(world)
        except AssertionError as error:
            pytest.fail(f"seed {seed}: {error}")
        state = world.state()
        world.hold(state.rows_version == state.published, f"seed {seed}: the rows stay behind")
        world.hold(content(world) == world.provider.flags, f"seed {seed}")
        crashes += any(actor.crashed for actor in world.actors)
    assert races * 0.1 < crashes < races * 0.9
