"""Overlapping syncs and operators in random order, with crashes, and values that repeat."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from greenlet import getcurrent

from faults.test_interleavings import content, in_sync, settled
from flagstore import keys
from simulators.clock import FakeClock
from simulators.provider import ModelProvider, NoHttp
from simulators.schedules import SOURCE, World
from storesync.maintenance import mark_removed, restore_source, roll_back, unpin
from storesync.model import SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flagstore.keys import SourceState
    from simulators.memory_store import MemoryStore
    from storesync.store import Condition, Sets, Write

SERVED = {"published", "unchanged", "superseded", "coalesced"}
"""Outcomes that acknowledge a sync request because of a fetch."""
SKEW_S = 600.0


class WrongClocks(FakeClock):
    """Every machine has its own clock, off by up to ten minutes, which may jump."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = random.Random(27)
        self._skews: dict[int, float] = {}

    def now(self) -> float:
        machine = id(getcurrent())
        if machine not in self._skews or self._rng.random() < 0.02:
            self._skews[machine] = self._rng.choice([-1, 0, 1]) * self._rng.uniform(0, SKEW_S)
        return super().now() + self._skews[machine]


class Race(World):
    """Syncs in an order that a seed decides; it records when each fetch began and completed."""

    def __init__(self, seed: int, clock: FakeClock) -> None:
        self.rng = random.Random(seed)
        provider = ModelProvider(
            flags={"a": 0, "b": 0},
            etags=self.rng.random() < 0.5,
            reveals_revision=self.rng.random() < 0.5,
        )
        super().__init__(settled(provider), provider, switch_at_reads=True, clock=clock)
        provider.on_fetch = self._begin
        self.began: dict[str, int] = {}
        """Name of an actor → the moment at which its last fetch began."""
        self.completed: list[int] = []
        """The moments at which those fetches began whose checks have completed."""

    def _begin(self) -> None:
        if actor := self.current():
            self.began[actor.name] = len(self.trace)
        self._on_fetch()

    def store(self) -> MemoryStore:
        """Return a store that records which fetches complete a check."""
        store = super().store()
        commit = store.commit

        def noted(
            source: str, condition: Condition, sets: Sets, writes: Sequence[Write] = ()
        ) -> None:
            commit(source, condition, sets, writes)
            actor = self.current()
            if actor is not None and "checked_at" in sets:
                self.completed.append(self.began[actor.name])

        store.commit = noted  # type: ignore[method-assign] # the class is given from outside
        return store

    def request(self) -> None:
        """Change the provider, which requests a sync, and record that a fetch has to serve it."""
        # Few values, so that they repeat: with new values a faulty condition can't be seen.
        self.provider.change(a=self.rng.choice((0, 1)), b=self.rng.choice((0, 1)))
        requested, sent_at = len(self.trace), int(self.clock.now() * 1000)
        trigger = self.rng.choice(("webhook", "schedule"))
        if isinstance(self.clock, WrongClocks):  # one that is behind may skip what has a time
            sent_at, trigger = 0, "schedule"
        self.stop("sync_request")
        deadline = Deadline(self.clock, random.Random(1), 3_600)
        sync = Sync(SOURCE, self.provider, self.store(), http=NoHttp(), deadline=deadline)  # type: ignore[arg-type]
        outcome = sync.run([SyncRequest(SOURCE.name, sent_at=sent_at, trigger=trigger)]).outcome
        served = any(began >= requested for began in self.completed)
        self.hold(
            outcome not in SERVED or served, f"{outcome}, and no fetch since the sync request"
        )

    def start(self, syncs: int) -> None:
        """Run so many syncs and what else is added, in random order, with crashes."""
        for number in range(syncs):
            self.add(f"sync{number}", self.request)
        while enabled := self.enabled():
            number = self.rng.choice(enabled)
            if self.rng.random() < 0.02:
                self.crash(number)
            for _ in range(self.rng.choice((1, 1, 4, 16))):
                if self.actors[number].done:
                    break
                self.clock.advance(self.rng.choice((0, 0, 0.01, 0.3)))
                self.go(number)

    def repair(self) -> None:
        self.clock.advance(60)
        last = self.add("last", self.sync)
        while not last.done:
            self.go(len(self.actors) - 1)
        self.hold(not last.failed, last.failed)


class Life(Race):
    def _check(self, before: SourceState, after: SourceState) -> None:
        snapshot_record = self.snapshot_record()
        self.hold(
            (snapshot_record.token if snapshot_record else 0) == after.published,
            "snapshot record and source state differ",
        )
        self.hold(after.token >= before.token, "completed fencing tokens went back")
        if not after.published:
            return
        self.hold(after.published >= before.published, "published fencing tokens went back")
        self._check_chunks()
        self.hold(set(content(self)) == {"a", "b"}, "not a set that was ever there")

    def roll_back(self) -> None:
        """Roll back to any version, without a pin, for a moment, or until it is unpinned."""
        store = self.store()
        kept = [version.token for version in store.state(SOURCE.name).versions()]
        if kept:
            until = int((self.clock.now() + self.rng.choice((0, 0.1, 3_600))) * 1000)
            to = self.rng.choice(kept)
            roll_back(SOURCE, store, self.clock, to=to, pinned_until=until)

    def unpin(self) -> None:
        unpin(SOURCE.name, self.store(), self.clock)

    def remove(self) -> None:
        mark_removed(SOURCE, self.store(), self.clock, purge=self.rng.random() < 0.5)

    def add_again(self) -> None:
        restore_source(SOURCE.name, self.store())

    def repair(self) -> None:
        self.add_again()
        self.unpin()
        super().repair()


@pytest.mark.parametrize("clock", [FakeClock, WrongClocks])
@pytest.mark.parametrize(
    "races", [200, pytest.param(1_000, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_races_with_crashes(races: int, clock: type[FakeClock]) -> None:
    """2 to 8 overlapping syncs, some of which crash, also with clocks off by up to 600 s."""
    crashes = 0
    for seed in range(races):
        race = Race(seed, clock())
        race.start(race.rng.randint(2, 8))
        if any(actor.crashed for actor in race.actors):
            crashes += 1
            race.repair()
        in_sync(race)
        state = race.state()
        race.hold(state.rows_version == state.published, f"seed {seed}: the rows stay behind")
    assert races * 0.1 < crashes < races * 0.9
    skew = f"clocks off by up to {SKEW_S:.0f} s" if clock is WrongClocks else "one clock"
    print(f"{races:,} races, {crashes} with a crash, {skew}: 0 stale, 0 lost")


@pytest.mark.parametrize("inline_bytes", [keys.INLINE_BYTES, 0], ids=["one item", "chunks"])
@pytest.mark.parametrize(
    "lives", [150, pytest.param(300, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_operators_among_syncs(
    lives: int, inline_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request is acknowledged without a fetch; finally readers and rows show the right set."""
    monkeypatch.setattr(keys, "INLINE_BYTES", inline_bytes)
    seen: Counter[str] = Counter()
    for seed in range(lives):
        life = Life(seed, FakeClock())
        for number in range(life.rng.randint(1, 5)):
            act = life.rng.choice((life.roll_back, life.unpin, life.remove, life.add_again))
            life.add(f"{act.__name__}{number}", act)
        life.start(life.rng.randint(2, 5))
        life.repair()
        in_sync(life)
        seen.update(actor.name.rstrip("0123456789") for actor in life.actors if not actor.failed)
    assert min(seen[name] for name in ("sync", "roll_back", "unpin", "remove", "add_again")) > 20
    print(f"{lives} lives with {seen['roll_back']} rollbacks and {seen['sync']:,} syncs")
