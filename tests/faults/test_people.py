"""Operators' actions among syncs, in random order and with crashes.

They roll back, unpin, remove a source and add it again.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

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


class Life(World):
    """A world with operators; it records when each fetch began and which completed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        provider = ModelProvider(
            flags={"a": 0},
            etags=self.rng.random() < 0.5,
            reveals_revision=self.rng.random() < 0.5,
        )
        clock = FakeClock()
        records = settled(provider)
        super().__init__(records, provider, switch_at_reads=True, clock=clock)
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
        """Return a store that records which fetches complete a check."""
        store = super().store()
        commit = store.commit

        def noted(
            source: str, condition: Condition, sets: Sets, writes: Sequence[Write] = ()
        ) -> None:
            commit(source, condition, sets, writes)
            actor = self._current()
            if actor is not None and "checked_at" in sets:
                self.completed.append(self.began[actor.name])

        store.commit = noted  # type: ignore[method-assign] # the class is given from outside
        return store

    def _check(self, before: SourceState, after: SourceState) -> None:
        """Check the invariants: a purge leaves nothing, a rollback ends a pin."""
        snapshot_record = self.snapshot_record()
        self.hold(
            (snapshot_record.token if snapshot_record else 0) == after.published,
            "snapshot record and source state differ",
        )
        if not after.published:
            return
        self.hold(after.published >= before.published, "published fencing tokens went back")
        self._check_chunks(after)
        self.hold(set(content(self)) == {"a"}, "not a set that was ever there")

    # -- actors ---------------------------------------------------------------------------------

    def request(self) -> None:
        """Change the provider, which requests a sync, and record that a fetch has to serve it."""
        # Few values, so that they repeat: with new values many faults can't be seen.
        self.provider.change(a=self.rng.choice((0, 1)))
        requested, sent_at = len(self.trace), int(self.clock.now() * 1000)
        sync_request = SyncRequest(
            SOURCE.name, sent_at=sent_at, trigger=self.rng.choice(("webhook", "schedule"))
        )
        self._stop("sync_request")
        deadline = Deadline(self.clock, random.Random(1), 3_600)
        sync = Sync(SOURCE, self.provider, self.store(), http=NoHttp(), deadline=deadline)  # type: ignore[arg-type]
        outcome = sync.run([sync_request]).outcome
        served = any(began >= requested for began in self.completed)
        self.hold(
            outcome not in SERVED or served, f"{outcome}, and no fetch since the sync request"
        )

    def roll_back(self) -> None:
        """Roll back to any version, without a pin, for a moment, or until it is unpinned."""
        store = self.store()
        kept = [version.token for version in store.state(SOURCE.name).versions()]
        if kept:
            until = int((self.clock.now() + self.rng.choice((0, 0.1, 3_600))) * 1000)
            to = self.rng.choice(kept)
            roll_back(SOURCE, store, self.clock, to=to, pinned_until=until)

    def unpin(self) -> None:
        """End the pin, if any."""
        unpin(SOURCE.name, self.store(), self.clock)

    def remove(self) -> None:
        """Remove the source; half of the time, purge it."""
        mark_removed(SOURCE.name, self.store(), self.clock, purge=self.rng.random() < 0.5)

    def add_again(self) -> None:
        """Restore the source, if it is removed."""
        restore_source(SOURCE.name, self.store())

    # -- a life ---------------------------------------------------------------------------------

    def live(self) -> None:
        """Run some syncs and operators in random order; then repair, and check once more."""
        people = (self.roll_back, self.unpin, self.remove, self.add_again)
        for number in range(self.rng.randint(2, 5)):
            self.add(f"sync{number}", self.request)
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
        """Let one actor continue for some steps, or crash."""
        if self.rng.random() < 0.02:
            self.crash(number)
        for _ in range(self.rng.choice((1, 1, 4, 16))):
            if self.actors[number].done:
                return
            self.clock.advance(self.rng.choice((0, 0, 0.01, 0.3)))
            self.go(number)


@pytest.fixture(params=["in the snapshot record", "in chunks"], autouse=True)
def _bodies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store bodies in the snapshot record, or in chunks, which an overlap could expire."""
    if request.param == "in chunks":
        monkeypatch.setattr(keys, "INLINE_BYTES", 0)


@pytest.mark.parametrize(
    "lives", [150, pytest.param(300, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_every_request_is_served_by_a_fetch(lives: int) -> None:
    """No set is mixed, no token decreases, and finally readers and rows show the provider's set."""
    seen: Counter[str] = Counter()
    for seed in range(lives):
        life = Life(seed)
        life.live()
        in_sync(life)
        seen.update(actor.name.rstrip("0123456789") for actor in life.actors if not actor.failed)
    assert min(seen[name] for name in ("sync", "roll_back", "unpin", "remove", "add_again")) > 20
