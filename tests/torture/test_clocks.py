"""Clocks that are wrong by minutes and jump: fencing tokens order everything, no clock does."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from greenlet import getcurrent

from faults.test_interleavings import content, in_sync
from faults.test_races import Race
from simulators.clock import FakeClock
from storesync.errors import OutOfTimeError

if TYPE_CHECKING:
    from rigs import AnyRig
SKEW_S = 600.0


class WrongClocks(FakeClock):
    """Every machine has its own clock, off by up to ten minutes, which may jump."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        super().__init__(now)
        self._rng = random.Random(27)
        self._skews: dict[int, float] = {}

    def now(self) -> float:
        """Seconds since the epoch by the current machine's clock."""
        machine = id(getcurrent())
        if machine not in self._skews or self._rng.random() < 0.02:
            self._skews[machine] = self._rng.choice([-1, 0, 1]) * self._rng.uniform(0, SKEW_S)
        return super().now() + self._skews[machine]


class Jumping(FakeClock):
    """A clock that jumps once, at its nth reading."""

    def __init__(self, at: int, by: float) -> None:
        super().__init__()
        self.asked, self._at, self._by = 0, at, by

    def monotonic(self) -> float:
        """Seconds, with or without the jump, as on a suspended machine."""
        self.asked += 1
        return super().monotonic() + (self._by if self.asked > self._at else 0.0)


@pytest.mark.parametrize(
    "races", [100, pytest.param(1_000, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_races_with_wrong_clocks(races: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among overlapping syncs and crashes with clocks ten minutes apart, the final state wins."""
    monkeypatch.setattr("faults.test_races.FakeClock", WrongClocks)
    for seed in range(races):
        world = Race(seed).run()
        in_sync(world)
        world.hold(content(world) == world.provider.flags, f"seed {seed}")
    print(f"{races:,} races with clocks off by up to {SKEW_S:.0f} s: 0 stale, 0 lost")


@pytest.mark.parametrize(
    "seeds", [2, pytest.param(50, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_consecutive_syncs_with_wrong_clocks(any_rig: AnyRig, seeds: int) -> None:
    """Whatever the clock, fencing tokens grow and each change is published at once."""
    any_rig.settle({"a": 0})
    last = any_rig.store().state("prod").published
    base = any_rig.clock.now()
    syncs = 0
    for seed in range(seeds):
        rng = random.Random(seed)
        for _ in range(10):
            any_rig.replace({"a": rng.randrange(1_000_000)})
            clock = FakeClock(base + rng.uniform(-SKEW_S, SKEW_S))
            assert any_rig.sync(clock=clock).outcome == "published"
            state = any_rig.store().state("prod")
            assert state.published > last
            last = state.published
            assert any_rig.read() == any_rig.provider.flags
            syncs += 1
    print(f"{syncs} publications, each by a clock off by up to {SKEW_S:.0f} s: all seen at once")


@pytest.mark.parametrize("by", [-SKEW_S, SKEW_S])
def test_clock_jumps_during_a_sync(any_rig: AnyRig, by: float) -> None:
    """Whenever it jumps, the old or the new set is published, and the next sync recovers."""
    old, new = {"a": 1}, {"a": 2}
    outcomes: Counter[str] = Counter()
    at = 0
    while True:
        any_rig.settle(old)
        any_rig.replace(new)
        clock = Jumping(at, by)
        try:
            outcomes[any_rig.sync(clock=clock).outcome] += 1
        except OutOfTimeError:
            outcomes["out of time"] += 1
        assert any_rig.read() in (old, new)
        any_rig.settle(new)
        assert any_rig.read() == new
        if clock.asked <= at:
            break
        at += 1
    assert at >= 2
    assert (outcomes["out of time"] > 0) == (by > 0)
    found = ", ".join(f"{outcome} {outcomes[outcome]}" for outcome in sorted(outcomes))
    print(f"a clock that jumps by {by:+.0f} s, at each of {at} moments: {found}")
