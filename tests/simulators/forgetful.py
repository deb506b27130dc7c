"""A store that loses its last writes, its lagging replicas, and a reader of it, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore import Client
from flagstore.keys import Publication
from simulators.schedules import QUIET, SOURCE, Nonce, World, core, snapshot_of, state_of, stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flagstore.keys import Key, Record, SourceState


class WatchedReader:
    """A reader's store over a world's records that stops before each read and notes its result.

    Reads that need not be consistent may see what a replica held when it last heard of its primary.
    """

    throttled = 0

    def __init__(self, world: ForgetfulWorld) -> None:
        self._world = world
        self.behind: frozenset[str] = frozenset()
        """What is read from a replica: ``state``, ``snapshot``."""

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        del deadline
        kind = key.namespace.partition("$")[2]
        self._world.stop(f"{kind}{'!' * consistent}")
        lags = kind in self.behind and not consistent
        record = (self._world.replica if lags else self._world.records).get(key)
        self._world.note_record(record)
        return dict(record) if record else None

    def prepare(self) -> None:
        """Need nothing."""

    def close(self) -> None:
        """Hold nothing."""


class ForgetfulWorld(World):
    """A world whose store can lose its last writes, and whose reader is held to what it promises.

    Fencing tokens count by their numbers here, since a store that lost some issues them once more.
    """

    quiet = QUIET | {"project"}  # a reader looks at no rows

    def __init__(self, records: Mapping[Key, Record], provider: Any) -> None:
        super().__init__(records, provider)
        self.replica: dict[Key, Record] = dict(self.records)
        self._changed = True
        self._kept: dict[Key, Record] = {}
        """What the store will hold once it has lost its last writes."""
        self._before: dict[Publication, Publication] = {}
        """The publication that each one followed."""
        self._lost: set[Publication] = set()
        self._reader = WatchedReader(self)
        self.client: Client | None = None
        self._hand = Publication(0, "")
        self.followed = 0
        """How often the reader took a publication that is older, or of another history."""

    # -- actors -----------------------------------------------------------------------------------

    def lose_writes(self) -> None:
        """Lose all writes between two moments: a replica heard no more, and took over later."""
        self.stop("keep")
        self._kept = dict(self.records)
        self.stop("lose")
        was = self.state().publication
        self.records.clear()
        self.records.update(self._kept)
        self._kept = {}
        left = self._line(self.state().publication)
        self._lost |= {each for each in self._line(was) if each not in left}

    def replicate(self) -> None:
        self.stop("replicate")
        self.replica = dict(self.records)

    def add_reader(self, checks: Sequence[str]) -> None:
        """Add a reader that has what is published, and checks; for each, what it reads may lag."""
        elapsed = iter(range(0, 10**9, 1_000))  # past every TTL and cool-down
        self.client = Client(
            SOURCE.name,
            store=self._reader,
            replicas=1,
            ttl_s=0,
            clock=self.clock.now,
            monotonic=lambda: float(next(elapsed)),
        )
        self._hand = self.client.snapshot().snapshot_record.publication

        def work() -> None:
            for number, behind in enumerate(checks):
                self._reader.behind = frozenset(behind.split())
                self.check_once(number)

        self.add("reader", work)

    def check_once(self, number: int = -1) -> dict[str, Any]:
        """Let the reader check once, hold it to its promises, and return its flags."""
        client = self.client
        assert client is not None
        self.note("check", number, forget=True)
        snapshot = client.snapshot()
        found = snapshot.snapshot_record.publication
        if found != self._hand:
            line = self._line(self._hand)
            back = found in line
            self.hold(not back or self._hand in self._lost, "an older set after a newer one")
            self.followed += back or self._hand not in self._line(found)
            self._hand = found
        return {key: snapshot[key] for key in snapshot}

    # -- what decides what can still happen -------------------------------------------------------

    def enabled(self) -> list[int]:
        """Leave out keeping what a store holds unless it has just changed: that is the same."""
        return [
            number
            for number in super().enabled()
            if self._changed or self.actors[number].waiting != "keep"
        ]

    def go(self, number: int) -> None:
        before = dict(self.records)
        super().go(number)
        self._changed = self.records != before

    def ranks(self, fingerprint: tuple[Any, ...]) -> dict[int, int]:
        return {token: token for token in super().ranks(fingerprint)}

    def fingerprint(self) -> tuple[Any, ...]:
        """Return as well what may be lost, what replicas hold, and what the reader has in hand."""
        kept, replica = snapshot_of(self._kept), snapshot_of(self.replica)
        places = [self.state().publication, self._hand]
        places += [found.publication for found in (kept, replica) if found]
        return (
            super().fingerprint(),
            self.state().issued,
            self._changed,
            stored(self._kept) if self._kept else (),
            core(state_of(self.replica)),
            tuple(tuple(map(self._named, self._line(place))) for place in places),
        )

    def _named(self, publication: Publication) -> tuple[Any, ...]:
        return publication.token, Nonce(publication.nonce), publication in self._lost

    def _line(self, publication: Publication) -> list[Publication]:
        line = [publication]
        while line[-1] in self._before:
            line.append(self._before[line[-1]])
        return line

    # -- what must hold ---------------------------------------------------------------------------

    def _check(self, before: SourceState, after: SourceState) -> None:
        if after.publication in self._line(before.publication)[1:]:
            return  # the store has lost its last writes
        if after.publication != before.publication:
            self._before.setdefault(after.publication, before.publication)
        super()._check(before, after)

    def settle(self) -> None:
        """Sync once more, as the schedule does, and hold that the reader has what is published."""
        self.sync()
        self._reader.behind = frozenset()
        self.hold(self.check_once() == self.provider.flags, "the reader lacks what is published")
        self.hold(self._hand == self.state().publication, "the reader has another publication")
