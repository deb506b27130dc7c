"""What people do among syncs, in random order and with crashes.

They roll back, unpin, remove a source and add it again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from faults.test_interleavings import content, in_sync, settled
from flagstore import layout
from simulators.clock import FakeClock
from simulators.provider import ModelProvider, NoHttp
from simulators.schedules import SOURCE, ObservedStore, Violation, World
from storesync.budget import Budget
from storesync.model import Ring
from storesync.pipeline import Sync
from storesync.rollback import bury, revive, roll_back, unpin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flagstore.layout import Pulse
    from simulators.memory_store import MemoryStore
    from storesync.stores.base import Fence, Sets, Write

LIVES = int(os.environ.get("FLAGSTORE_LIVES", "300"))
SERVED = {"published", "unchanged", "superseded", "coalesced"}
"""Outcomes that acknowledge a ring because of a fetch."""


class Life(World):
    """A world in which people act as well; it knows when each fetch began and which completed."""

    def __init__(self, seed: int, store_class: type[ObservedStore]) -> None:
        self.rng = random.Random(seed)
        provider = ModelProvider(
            flags={"a": 0},
            etags=self.rng.random() < 0.5,
            reveals_revision=self.rng.random() < 0.5,
        )
        clock = FakeClock()
        records = settled(provider)
        super().__init__(
            records, provider, switch_at_reads=True, clock=clock, store_class=store_class
        )
        provider.on_fetch = self._begin
        self.began: dict[str, int] = {}
        """Name of an actor → the moment at which its last fetch began."""
        self.completed: list[int] = []
        """The moments at which those fetches began whose checks have completed."""

    def _begin(self) -> None:
        actor = self._current()
        if actor is not None:
            self.began[actor.name] = len(self.trace)
        self._on_fetch()

    def store(self) -> MemoryStore:
        """Return a store that notes which fetches complete a check."""
        store = super().store()
        commit = store.commit

        def noted(source: str, fence: Fence, sets: Sets, writes: Sequence[Write] = ()) -> None:
            commit(source, fence, sets, writes)
            actor = self._current()
            if actor is not None and "checked_at" in sets:
                self.completed.append(self.began[actor.name])

        store.commit = noted  # type: ignore[method-assign] # the class is given from outside
        return store

    def _check(self, before: Pulse, after: Pulse) -> None:
        """Hold what holds whatever people do: a purge leaves nothing, a rollback ends a pin."""
        head = self.head()
        self.hold((head.ticket if head else 0) == after.published, "head and pulse differ")
        if not after.published:
            return
        self.hold(after.published >= before.published, "published tickets went back")
        self._check_pieces(after)
        self.hold(set(content(self)) == {"a"}, "not a set that was ever there")

    # -- actors ---------------------------------------------------------------------------------

    def ring(self) -> None:
        """Change the provider, which rings a sync, and hold that its ring is served by a fetch."""
        # Few values, so that they repeat: with new values many faults can't be seen.
        self.provider.change(a=self.rng.choice((0, 1)))
        rung, sent_at = len(self.trace), int(self.clock.now() * 1000)
        ring = Ring(SOURCE.name, sent_at=sent_at, trigger=self.rng.choice(("webhook", "schedule")))
        self._stop("ring")
        budget = Budget(self.clock, random.Random(1), 3_600)
        sync = Sync(SOURCE, self.provider, self.store(), http=NoHttp(), budget=budget)  # type: ignore[arg-type]
        outcome = sync.run([ring]).outcome
        served = any(began >= rung for began in self.completed)
        self.hold(outcome not in SERVED or served, f"{outcome}, and no fetch since the ring")

    def roll_back(self) -> None:
        """Roll back to any version, for no time, a moment, or until somebody unpins."""
        store = self.store()
        kept = [version.ticket for version in store.pulse(SOURCE.name).versions()]
        if kept:
            until = int((self.clock.now() + self.rng.choice((0, 0.1, 3_600))) * 1000)
            to = self.rng.choice(kept)
            roll_back(SOURCE, store, self.clock, to=to, pinned_until=until)

    def unpin(self) -> None:
        """End whatever pin there is."""
        unpin(SOURCE.name, self.store(), self.clock)

    def remove(self) -> None:
        """Remove the source; half of the time with all that it has."""
        bury(SOURCE.name, self.store(), self.clock, purge=self.rng.random() < 0.5)

    def add_again(self) -> None:
        """Bring it back, if it is removed."""
        revive(SOURCE.name, self.store())

    # -- a life ---------------------------------------------------------------------------------

    def live(self) -> None:
        """Let some syncs and some people act in random order; then mend, and check once more."""
        people = (self.roll_back, self.unpin, self.remove, self.add_again)
        for number in range(self.rng.randint(2, 5)):
            self.add(f"sync{number}", self.ring)
        for number in range(self.rng.randint(1, 5)):
            act = self.rng.choice(people)
            self.add(f"{act.__name__}{number}", act)
        while enabled := self.enabled():
            self.some_steps(self.rng.choice(enabled))
        for name, work in (("add", self.add_again), ("unpin", self.unpin), ("last", self.sync)):
            self.clock.advance(60)
            actor = self.add(name, work)
            while not actor.done:
                self.go(len(self.actors) - 1)
            self.hold(not actor.failed, f"{name}: {actor.failed}")

    def some_steps(self, number: int) -> None:
        """Let one actor go on for a while, or end where it stands."""
        if self.rng.random() < 0.02:
            self.crash(number)
        for _ in range(self.rng.choice((1, 1, 4, 16))):
            if self.actors[number].done:
                return
            self.clock.advance(self.rng.choice((0, 0, 0.01, 0.3)))
            self.go(number)


@pytest.fixture(params=["in the head", "in pieces"], autouse=True)
def _bodies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bodies lie in the head, or in pieces of which an overlap could take one away."""
    if request.param == "in pieces":
        monkeypatch.setattr(layout, "INLINE_BYTES", 0)


def test_whatever_people_do_every_ring_is_served_by_a_fetch() -> None:
    """No set is mixed, no ticket goes back, and in the end readers and rows show the provider's."""
    seen: Counter[str] = Counter()
    for seed in range(LIVES):
        life = Life(seed, ObservedStore)
        life.live()
        in_sync(life)
        seen.update(actor.name.rstrip("0123456789") for actor in life.actors if not actor.failed)
    assert min(seen[name] for name in ("sync", "roll_back", "unpin", "remove", "add_again")) > 20


class KeptWriter(ObservedStore):
    """A rollback and a tombstone that look like any other publication."""

    def commit(self, source: str, fence: Fence, sets: Sets, writes: Sequence[Write] = ()) -> None:
        """Leave the writer of the pulse as it is."""
        super().commit(source, fence, {k: v for k, v in sets.items() if k != "writer" or v}, writes)


def test_the_lives_find_a_rollback_that_is_taken_for_a_fetch() -> None:
    """These lives can fail: without that rule some rings are acknowledged for nothing."""
    wrong = 0
    for seed in range(LIVES):
        try:
            Life(seed, KeptWriter).live()
        except Violation:
            wrong += 1
    assert wrong > 0
