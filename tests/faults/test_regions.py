"""Readers of a global table's replica in a second region, where every item arrives by itself.

DynamoDB replicates the items of one transaction apart and in any order; an item never goes back,
but may skip versions. A strongly consistent read returns what has arrived in its region. What takes
minutes is marked ``campaign``.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from itertools import count, product
from math import factorial, prod
from operator import le
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from flagstore import keys
from flagstore.clients import Client
from flagstore.codec import dumps
from flagstore.encode import DELTAS_BYTES, LARGE_BYTES
from flagstore.errors import NotLoadedError
from flagstore.keys import SnapshotRecord, SourceState, chunk_key, snapshot_key, state_key
from simulators.provider import SOURCE
from simulators.reader_store import RecordsReader
from storesync import publisher
from storesync.maintenance import roll_back, unpin
from unit import pipeline_rig
from unit.pipeline_rig import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore import Snapshot
    from flagstore.keys import Key, Publication, Record

    Records = Mapping[Key, Record]
    Holds = tuple[Any, ...]
    """All that decides what a reader does next; first the number of its publication, or -1."""

REPLICAS = 2
COLD: Holds = (-1,)
Place = tuple[int, ...]
"""For each item, which of its versions a region has."""
READ = ("$state", "$snapshot", "$body")
"""The namespaces that readers read."""


class Writer(pipeline_rig.Rig):
    """Publishes with the real pipeline, and keeps every version of every item that readers read."""

    def __init__(self, story: str = "", *, starts_empty: bool = False) -> None:
        flags = {f"flag-{n}": {"n": n} for n in range(4)}
        super().__init__(flags, segments={"small": ["x"], "large": ["x" * LARGE_BYTES]})
        self.publications: list[Publication] = []
        self.sets: list[dict[str, Any]] = []
        self.versions: dict[Key, list[Record | None]] = {}
        self.replicas = REPLICAS
        if starts_empty:
            self.versions[state_key("prod")] = [None]
        self.write()
        for step in story.split():
            STEPS[step](self)

    def write(self) -> None:
        self.clock.advance(60)
        self.sync(replicas=self.replicas)
        self.note()

    def note(self) -> None:
        """Keep the published set, and the items that have changed."""
        if self.state().publication not in self.publications:
            self.publications.append(self.state().publication)
            sections = {"flags": self.provider.flags, "segments": self.provider.segments}
            self.sets.append({name: dict(items) for name, items in sections.items()})
        first = not self.versions
        for key in {*self.versions, *filter(is_read, self.records)}:
            record = self.records.get(key)
            found = dict(record) if record else None
            versions = self.versions.setdefault(key, [found] if first else [None])
            if shown(versions[-1]) != shown(found):
                versions.append(found)

    def serve_again(self, number: int) -> None:
        """Let the provider have an earlier set."""
        for section, items in self.sets[number].items():
            setattr(self.provider, section, dict(items))
        self.provider.change()


def is_read(key: Key) -> bool:
    return key.namespace.partition(":")[2].partition("~")[0] in READ


def shown(record: Record | None) -> Any:
    """Return what a reader sees of an item."""
    if record and record["key"] == "state":
        state = SourceState.from_record(record)
        return state.publication, state.deltas
    return record and {name: record[name] for name in record if name != "expires_at"}


# -- what a writer does ----------------------------------------------------------------------------


def change_a_flag(writer: Writer) -> None:
    writer.provider.change(**{"flag-1": {"at": writer.provider.revision}})
    writer.write()


def remove_a_flag(writer: Writer) -> None:
    writer.provider.change(**{"flag-2": None})
    writer.write()


def change_too_much_for_deltas(writer: Writer) -> None:
    text = random.Random(writer.provider.revision).randbytes(DELTAS_BYTES).hex()
    writer.provider.change(**{"flag-3": text})
    writer.write()


def store_in_chunks(writer: Writer) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "INLINE_BYTES", 0)
        change_too_much_for_deltas(writer)


def change_a_large_segment(writer: Writer) -> None:
    segment = writer.provider.segments["large"]
    writer.provider.segments["large"] = [*segment, str(writer.provider.change())]
    writer.write()


def keep_no_replicas(writer: Writer) -> None:
    """Readers still try to read the one that is removed."""
    writer.replicas = 1
    change_a_flag(writer)


def let_chunks_expire(writer: Writer) -> None:
    """Forget earlier versions, and delete what only they need, as TTL does a day later."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "KEPT_VERSIONS", 1)
        patch.setattr(publisher, "THIN_MS", 10**15)
        for _ in range(2):
            writer.clock.advance(25 * HOUR_S)
            change_a_flag(writer)
    expired = [key for key, record in writer.records.items() if "expires_at" in record]
    assert expired
    for key in expired:
        del writer.records[key]
    writer.note()


def roll_back_to_the_first(writer: Writer) -> None:
    writer.clock.advance(60)
    until = int(writer.clock.now() + HOUR_S) * 1000
    to, store = writer.publications[0].token, writer.store()
    roll_back(SOURCE, store, writer.clock, to=to, pinned_until=until, replicas=REPLICAS)
    writer.serve_again(0)
    writer.note()
    unpin("prod", store, writer.clock)


STEPS: dict[str, Callable[[Writer], None]] = {
    "change": change_a_flag,
    "remove": remove_a_flag,
    "much": change_too_much_for_deltas,
    "chunks": store_in_chunks,
    "segment": change_a_large_segment,
    "fewer": keep_no_replicas,
    "expire": let_chunks_expire,
    "rollback": roll_back_to_the_first,
}


# -- the other region ------------------------------------------------------------------------------


class Check(NamedTuple):
    """One use of a reader."""

    place: Place
    copy: int
    """Which replica of the snapshot record it picks."""
    lags: bool = False
    """Whether eventually consistent reads still see what was there at first."""


class Reader(RecordsReader):
    """A client, and what it reads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__({})
        self.items: set[Key] = set()
        """What the last use has read."""
        self.has_segment = False
        elapsed = count(0, 1_000)  # past every TTL and cool-down
        self.client = Client(
            "prod",
            store=self,
            replicas=REPLICAS,
            ttl_s=0,
            clock=clock,
            monotonic=lambda: float(next(elapsed)),
        )
        self.cache: Any = self.client._cache  # what decides what it does next

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        self.items.add(key)
        return super().read(key, consistent=consistent, deadline=deadline)

    def use(self, records: Records, copy: int, stale: Records | None = None) -> Snapshot | None:
        """Return the flags, after a look at the large segment; None if nothing is loaded yet."""
        self.records, self.stale = records, stale or {}
        self.items.clear()
        self.cache._replica = lambda: copy  # instead of at random
        try:
            snapshot = self.client.snapshot()
        except NotLoadedError:
            assert self.cache.current is None, "raised once loaded"
            return None
        try:
            self.has_segment = bool(snapshot.item("segments", "large"))
        except NotLoadedError:
            assert not self.has_segment, "lost a large segment"
        return snapshot

    def holds(self, publications: list[Publication]) -> Holds:
        snapshot, begun = self.cache.current, self.cache._begun
        if snapshot is None:
            return COLD
        record = snapshot.snapshot_record
        return (
            publications.index(record.publication),
            bool(record.index_digest),  # or by deltas
            self.cache._loaded_from,
            frozenset(snapshot.segments),
            *sorted((key, dumps(item())[-9:]) for key, item in snapshot.stand_ins.items()),
            *sorted((prefix, len(chunks)) for prefix, chunks in begun.items()),
        )


class Replica:
    """Every order in which a region can receive what a writer wrote, with readers at every point.

    Readers that hold the same and read the same do the same, so that only one of them runs.
    """

    def __init__(self, writer: Writer, *, lags: bool = False) -> None:
        self.writer = writer
        self.items = sorted(writer.versions)
        self.last = tuple(len(writer.versions[key]) - 1 for key in self.items)
        self.first = tuple(0 for _ in self.items)
        self._lags = (False, True) if lags else (False,)
        self._paths: dict[Holds, list[tuple[Check, ...]]] = {COLD: [()]}
        """What a reader holds → the ways to get there."""
        self._known: dict[Any, list[tuple[dict[int, int], tuple[Holds, bool]]]] = {}
        """What a reader holds and picks → versions that it then read, and what it holds then."""
        self.seen: set[tuple[Place, Holds]] = set()
        self.checks = self.runs = self.stale = 0

    def records(self, place: Place) -> dict[Key, Record]:
        found = {}
        for key, version in zip(self.items, place, strict=True):
            if record := self.writer.versions[key][version]:
                found[key] = record
        return found

    def orders(self) -> int:
        """Return in how many orders all versions can arrive."""
        return factorial(sum(self.last)) // prod(map(factorial, self.last))

    def explore(self) -> None:
        todo = deque([(self.first, COLD)])
        self.seen.update(todo)
        while todo:
            place, holds = todo.popleft()
            found = [(later, holds) for later in self._after(place)]
            for copy, lags in product(range(REPLICAS), self._lags):
                found.append((place, self.check(holds, Check(place, copy, lags))))
            todo += (new := set(found) - self.seen)
            self.seen |= new

    def readers_at(self) -> dict[Place, list[Holds]]:
        """Return what readers can hold at each place."""
        found: dict[Place, list[Holds]] = {}
        for place, holds in sorted(self.seen, key=str):
            found.setdefault(place, []).append(holds)
        return found

    def _after(self, place: Place) -> Iterator[Place]:
        """Yield the places with one more version of one item."""
        for number, version in enumerate(place):
            if version < self.last[number]:
                yield (*place[:number], version + 1, *place[number + 1 :])

    def check(self, holds: Holds, check: Check) -> Holds:
        """Let a reader check once more; return what it holds then."""
        self.checks += 1
        known = self._known.setdefault((holds, check.copy, check.lags), [])
        same = (
            result
            for versions, result in known
            if all(check.place[item] == version for item, version in versions.items())
        )
        if (result := next(same, None)) is None:
            reader, after = self._run(holds, check)
            items = (self.items.index(key) for key in reader.items if key in self.items)
            result = after, reader.cache.stale
            known.append(({item: check.place[item] for item in items}, result))
        after, stale = result
        self.stale += stale and after != COLD
        why = f"{holds} → {after}: {[*self.path(holds, check.place), check]}"
        assert after[0] >= holds[0], f"an older set after a newer one: {why}"
        if not check.lags and holds != COLD:
            assert after[0] >= self._available(check.place), f"behind what has arrived: {why}"
        if not check.lags and check.place == self.last:
            assert (after[0], stale) == (len(self.writer.sets) - 1, False), f"not the last: {why}"
        return after

    def _run(self, holds: Holds, check: Check) -> tuple[Reader, Holds]:
        self.runs += 1
        path = self.path(holds, check.place)
        reader = self.reader(path)
        assert reader.holds(self.writer.publications) == holds
        snapshot = self._use(reader, check)
        after = reader.holds(self.writer.publications)
        if snapshot is not None:
            assert is_whole(snapshot, self.writer.sets[after[0]]), f"a mix: {[*path, check]}"
        if not any(reaches(path, check.place) for path in self._paths.get(after, ())):
            self._paths.setdefault(after, []).append((*path, check))
        return reader, after

    def reader(self, path: tuple[Check, ...]) -> Reader:
        reader = Reader(self.writer.clock.now)
        for check in path:
            self._use(reader, check)
        return reader

    def _use(self, reader: Reader, check: Check) -> Snapshot | None:
        stale = self.records(self.first) if check.lags else None
        return reader.use(self.records(check.place), check.copy, stale)

    def path(self, holds: Holds, place: Place) -> tuple[Check, ...]:
        """Return a way in which a reader can have got there by now."""
        return next(path for path in self._paths[holds] if reaches(path, place))

    def _available(self, place: Place) -> int:
        """Return the publication that the state names, if the first snapshot record has it whole.

        So that no reader is kept from it by what is late elsewhere.
        """
        records, publications = self.records(place), self.writer.publications
        state = SourceState.from_record(records.get(state_key("prod"), {}))
        if not state.published or snapshot_key("prod") not in records:
            return -1
        record = SnapshotRecord.from_record(records[snapshot_key("prod")])
        prefix, number = record.stored_chunks()
        whole = all(chunk_key("prod", prefix, n) in records for n in range(number))
        is_late = not whole or record.token < state.published
        return -1 if is_late else publications.index(state.publication)


def reaches(path: tuple[Check, ...], place: Place) -> bool:
    return not path or all(map(le, path[-1].place, place))


def is_whole(snapshot: Snapshot, expected: dict[str, Any]) -> bool:
    """Return whether a snapshot is this set; a large segment may be late, or its earlier one."""
    if {key: snapshot[key] for key in snapshot} != expected["flags"]:
        return False
    for key, item in expected["segments"].items():
        try:
            same = snapshot.item("segments", key) == item
        except NotLoadedError:
            same = key in snapshot.large
        if not (same or key in snapshot.stand_ins):
            return False
    return snapshot.keys("segments") == sorted(expected["segments"])


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "flagstore")


def explored(story: str, **options: bool) -> Replica:
    lags = options.pop("lags", False)
    replica = Replica(Writer(story, **options), lags=lags)
    replica.explore()
    return replica


@pytest.mark.parametrize(
    "story",
    [
        "change chunks rollback",
        "chunks segment",
        "much segment remove",
        "much much fewer",
        pytest.param("change much chunks expire", marks=pytest.mark.campaign),
        pytest.param("change much chunks segment rollback remove", marks=pytest.mark.campaign),
    ],
)
def test_every_order_of_arrival(story: str) -> None:
    """Whatever is first, last or late: whole sets, none older, and in the end the last one."""
    replica = explored(story)
    print(
        f"{len(replica.writer.sets)} publications, {sum(replica.last)} versions of "
        f"{sum(map(bool, replica.last))} items arrive in {replica.orders():,} orders: "
        f"{len(replica.seen):,} states, {replica.checks:,} checks; 0 mixed, 0 older"
    )
    assert replica.stale, "nothing was late: this test proves nothing"


def test_reader_ahead_of_the_state_reads_no_chunks() -> None:
    """Its snapshot record has arrived and the state has not: each check asks for both again."""
    writer = Writer("chunks")
    reader, late = Reader(writer.clock.now), state_key("prod")
    records = {**writer.records, late: writer.versions[late][0] or {}}
    snapshot = reader.use(records, 1)
    reader.calls.clear()
    assert reader.use(records, 0) is snapshot
    assert reader.calls == ["read prod:$state", "read! prod:$state", "read! prod:$snapshot~1"]
    assert not reader.cache.stale


def test_replica_that_is_being_filled() -> None:
    """A new replica: a reader loads once a snapshot record and its chunks are there."""
    explored("chunks", starts_empty=True)


@pytest.mark.parametrize(
    "story", ["change much", pytest.param("chunks segment change", marks=pytest.mark.campaign)]
)
def test_reads_that_lag_within_the_region(story: str) -> None:
    """Eventually consistent reads see less than has arrived: whole sets, and none older."""
    explored(story, lags=True)


# -- other writers ---------------------------------------------------------------------------------


class Heir(pipeline_rig.Rig):
    """A writer that goes on with the records of its region."""

    def __init__(self, writer: Writer, records: Records) -> None:
        super().__init__()
        self.clock.advance(writer.clock.now() - self.clock.now() + 60)
        self.records.update(records)
        self.sets = list(writer.sets)
        self.provider.revision = writer.provider.revision
        self.serve(writer.sets[-1])

    def serve(self, sections: dict[str, Any]) -> None:
        """Let the provider have this set."""
        self.sets.append(sections)
        for section, items in sections.items():
            setattr(self.provider, section, dict(items))

    def publish(self, *, later_s: float = 0) -> None:
        self.clock.advance(later_s)
        self.sync(replicas=REPLICAS)

    def use(self, reader: Reader) -> bool:
        """Let a reader check; return whether it then has what the provider has."""
        for copy in range(REPLICAS):
            snapshot = reader.use(self.records, copy)
            if snapshot is not None:
                assert any(is_whole(snapshot, each) for each in self.sets), "a mix"
        return snapshot is not None and is_whole(snapshot, self.sets[-1]) and not reader.cache.stale


@pytest.mark.parametrize(
    ("story", "number"),
    [
        ("change chunks", 80),
        pytest.param("change chunks", 648, marks=pytest.mark.campaign),
        pytest.param("change chunks segment", 1_000, marks=pytest.mark.campaign),
    ],
    ids=["dose", "all", "larger"],
)
def test_failover_at_any_point(story: str, number: int) -> None:
    """A writer in the other region goes on with what has arrived there, whatever arrives later.

    Readers see whole sets. After the next verifying check, all have what the provider has.
    """
    replica = explored(story)
    writer, held = replica.writer, replica.readers_at()
    others = {key: record for key, record in writer.records.items() if not is_read(key)}
    cases = list(product(held, writer.sets, (False, True)))
    for place, sections, late in random.Random(1).sample(cases, number):
        arrived = replica.records(place)
        heir = Heir(writer, arrived if late else {**arrived, **others})
        if sections is not writer.sets[-1]:
            heir.provider.change()
            heir.serve(sections)
        readers = [replica.reader(replica.path(holds, place)) for holds in held[place]]
        heir.publish()
        for reader in readers:
            heir.use(reader)
        if late:  # the last write of each item wins
            for key, record in writer.records.items():
                if heir.records.get(key) == arrived.get(key):
                    heir.records[key] = record
            for reader in readers:
                heir.use(reader)
        heir.publish(later_s=HOUR_S)
        why = place, late, writer.sets.index(sections)
        assert all(map(heir.use, readers)), why
    print(f"{number:,} failovers: 0 mixed, 0 readers without the provider's set")


@pytest.mark.parametrize("ahead", [0, 1], ids=["same token", "other token"])
def test_two_writers(ahead: int) -> None:
    """Each item keeps the last write: readers see whole sets, and agree once one writer is left."""
    base = Writer("change")
    regions = []
    for step in ("change", "chunks"):
        heir = Heir(base, base.records)
        for _ in range(ahead * len(regions)):
            heir.publish()
        heir.provider.change()
        heir.serve({**base.sets[-1], "flags": {"flag-0": step, "flag-1": step * DELTAS_BYTES}})
        heir.publish()
        regions.append(heir)
    one, other = regions
    both = [key for key in one.records if is_read(key) and one.records[key] != other.records[key]]
    disagree = 0
    for choice in product((one, other), repeat=len(both)):
        taken = {key: heir.records[key] for key, heir in zip(both, choice, strict=True)}
        left = Heir(base, other.records | one.records | taken)
        left.sets += [one.sets[-1], other.sets[-1]]
        left.provider.change()
        left.serve(one.sets[-1])
        readers = [Reader(base.clock.now)]
        for held, copy in product((base, one, other), range(REPLICAS)):
            readers.append(Reader(base.clock.now))
            assert readers[-1].use(held.records, copy)
        for reader in readers:
            left.use(reader)
        digests = {reader.cache.current.snapshot_record.digest for reader in readers}
        disagree += len(digests) > 1
        left.publish(later_s=HOUR_S)
        assert all(map(left.use, readers)), choice
    assert disagree
    print(f"two writers, {2 ** len(both)} outcomes: 0 mixed, {disagree} with readers that disagree")
