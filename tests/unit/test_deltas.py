"""A reader that holds a recent version is current after one read: changes ride in the state."""

from __future__ import annotations

import json
import random
import zlib
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.clients import Client
from flagstore.codec import dumps
from flagstore.encode import DELTAS_BYTES, DELTAS_JSON_BYTES, content_digest, extend_deltas
from flagstore.keys import SourceState, snapshot_key, state_key
from simulators.launchdarkly_flags import rich_flags
from simulators.provider import SOURCE
from simulators.reader_store import RecordsReader
from storesync.maintenance import mark_removed, restore_source, roll_back
from storesync.store import record_bytes
from unit import pipeline_rig
from unit.pipeline_rig import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore import Snapshot

STATE, SNAPSHOT = "read prod:$state", "read prod:$snapshot"
READ_BYTES = 4_096
"""Of half a read unit of DynamoDB's."""
VALUES = [1, 1.0, True, None, 0, -0.0, "", "é\u2028", [], {"b": 1, "a": [None]}, 10**30]


class Rig(pipeline_rig.Rig):
    """A set that is published, and a reader that has loaded it."""

    def __init__(self, count: int = 30) -> None:
        super().__init__(flags_of(count), segments={"s": ["x"], "t": ["y"]})
        self.sync()
        self.reads = RecordsReader(self.records)
        self.reader = self.client(self.reads)
        self.loaded = self.reader.snapshot()

    def client(self, reads: RecordsReader | None = None) -> Client:
        store, now = reads or RecordsReader(self.records), self.clock.now
        return Client("prod", store=store, replicas=1, ttl_s=0, clock=now, monotonic=now)

    def change(self, **flags: Any) -> None:
        """Publish these flags, None for one that is removed."""
        self.provider.change(**flags)
        self.checked()

    def checked(self) -> None:
        self.clock.advance(60)
        assert self.sync(allow_shrink=self.digest()).outcome == "published"

    def digest(self) -> str:
        sections = {"flags": self.provider.flags, "segments": self.provider.segments}
        return content_digest(sections, {})

    def refreshed(self) -> list[str]:
        """Let the reader check; return its reads. It must see what a new reader sees."""
        self.reads.calls.clear()
        earlier, self.loaded = self.loaded, self.reader.snapshot()
        calls = list(self.reads.calls)
        fresh = self.client().snapshot()
        assert answers(self.loaded) == answers(fresh)
        assert self.loaded.differing(earlier) == fresh.differing(earlier)
        assert self.loaded.changed_since(earlier) == fresh.changed_since(earlier)
        assert fresh.differing(self.loaded) == {}
        assert self.loaded.snapshot_record.digest == self.digest()
        return calls


def flags_of(count: int) -> dict[str, Any]:
    return {f"flag-{n:02}": {"on": True, "n": n} for n in range(count)}


def answers(snapshot: Snapshot) -> dict[str, Any]:
    """Return everything that a snapshot says, as text: 1, 1.0 and True are equal in Python."""
    record = snapshot.snapshot_record
    identity = (record.publication, record.digest, record.published_at, record.revision)
    found: dict[str, Any] = {"identity": [*identity, json.loads(record.counts)]}
    found["export"] = dumps(snapshot.export())
    for section in ("flags", "segments"):
        keys = snapshot.keys(section)
        found[section] = keys, list(snapshot.texts(section).items())
        found[f"{section}, one by one"] = [snapshot.text(section, key) for key in keys]
    found["length"] = len(snapshot), [f"flag-{n:02}" in snapshot for n in range(40)]
    return found


def test_one_read_makes_a_warm_reader_current() -> None:
    """One, some or many changes later; of flags that are new, changed, removed and back again."""
    rig = Rig()
    rig.change(**{"flag-01": {"on": False}})
    assert rig.refreshed() == [STATE]
    assert rig.refreshed() == [STATE]
    for value in ({"n": 1}, None, {"n": 1}, {"n": 1.0}, {"n": True}):
        rig.change(**{"flag-02": value, "new": value})
    assert rig.refreshed() == [STATE]
    assert rig.reader.info().counts == {"flags": 31, "segments": 2}


@pytest.mark.parametrize("seed", range(4))
def test_any_changes_seen_at_any_time(seed: int) -> None:
    """Random publications, of which a reader misses some; the digest is computed in full."""
    rng = random.Random(seed)
    rig, reads = Rig(), []
    for _ in range(40):
        for _ in range(rng.choice((1, 1, 1, 9))):
            section = rig.provider.flags if rng.random() < 0.8 else rig.provider.segments
            key = rng.choice([*section, *map("flag-{:02}".format, range(25, 35))])
            if section is rig.provider.segments:
                section[key] = [rng.choice("abc")] * rng.randrange(3)
            elif rng.random() < 0.3:
                section.pop(key, None)
            else:
                section[key] = {"n": rng.choice(VALUES), "text": rng.randbytes(250).hex()}
        rig.change(always=rng.random())
        if rng.random() < rng.choice((0.1, 0.9)):
            reads += [tuple(rig.refreshed())]
    print(f"{reads.count((STATE,))} of {len(reads)} refreshes needed one read")
    assert set(reads) == {(STATE,), (STATE, SNAPSHOT)}  # some have missed too many
    assert reads.count((STATE,)) > len(reads) / 2


def test_state_stays_within_half_a_read_unit() -> None:
    """With everything that a source state can hold, and changes that do not compress."""
    rig, rng = Rig(), random.Random(1)
    for _ in range(40):
        rig.clock.advance(HOUR_S)
        rig.change(**{"flag-03": rng.randbytes(rng.randrange(900)).hex()})
        state = rig.records[state_key("prod")]
        assert len(state["deltas"]) <= DELTAS_BYTES  # type: ignore[arg-type] # bytes
    assert record_bytes(state) > READ_BYTES / 2
    worst = {"etag": "e" * 60, "refused": "r" * 64, "suspect": '["0123456789abcdef",1]' * 2}
    worst |= {"error": "x" * 260, "rows_at": '["launchdarkly {production}"]' * 2}
    full = SourceState.from_record(state)._replace(**worst, deltas=b"d" * DELTAS_BYTES)
    assert record_bytes(full._asdict()) <= READ_BYTES


def publish_large_segment(rig: Rig) -> None:
    rig.provider.segments["t"] = [f"{n:032x}" for n in range(2_000)]
    rig.change()


def roll_back_to_the_first(rig: Rig) -> None:
    first = rig.state().versions()[0].token
    rig.change(**{"flag-04": 1})
    roll_back(SOURCE, rig.store(), rig.clock, to=first, pinned_until=0)
    rig.provider.flags = flags_of(30)


def remove_and_add_again(rig: Rig) -> None:
    mark_removed(SOURCE, rig.store(), rig.clock, purge=True)
    restore_source("prod", rig.store())
    rig.change(**{"flag-04": 1})


def change_the_provider(rig: Rig) -> None:
    rig.provider.name = "other"
    rig.change(**{"flag-04": 1})


def publish_without_deltas(rig: Rig) -> None:
    """An older release leaves the attribute as it is."""
    before = rig.records[state_key("prod")].get("deltas")
    rig.change(**{"flag-04": 1})
    rig.update(state_key("prod"), deltas=before)


def lose_the_last_publication(rig: Rig) -> None:
    """The store forgets what the reader holds, and issues the same fencing token again."""
    rig.change(**{"flag-04": 1})
    before = {key: dict(record) for key, record in rig.records.items()}
    rig.change(**{"flag-04": 2})
    assert rig.refreshed() == [STATE]
    rig.records.clear()
    rig.records.update(before)
    rig.change(**{"flag-04": 3})


def damage(rig: Rig, edit: Callable[[list[Any]], Any]) -> None:
    rig.change(**{"flag-06": 1})
    rig.change(**{"flag-04": {"on": True}})
    state = rig.state()
    found = edit(json.loads(zlib.decompress(state.deltas)))
    data = found if isinstance(found, bytes) else zlib.compress(dumps(found).encode())
    rig.update(state_key("prod"), deltas=data)


def set_item(links: list[Any]) -> list[Any]:
    links[-1][5]["flags"]["flag-04"] = {"on": False}
    return links


def lists_for_objects(links: list[Any]) -> list[Any]:
    links[-1][5] = {"flags": []}
    return links


def lose_a_link(links: list[Any]) -> list[Any]:
    return [*links[:-2], links[-1]]


CHANGES: dict[str, Callable[[Rig], None]] = {
    "a rollback": roll_back_to_the_first,
    "a large segment": publish_large_segment,
    "another provider": change_the_provider,
    "a source that is added again": remove_and_add_again,
    "a change that is too large": lambda rig: rig.change(
        **{"flag-04": random.Random(1).randbytes(DELTAS_BYTES).hex()}
    ),
    "one that is large before it is compressed": lambda rig: rig.change(
        **{"flag-04": "x" * DELTAS_JSON_BYTES}
    ),
    "a lost publication": lose_the_last_publication,
    "a writer without deltas": publish_without_deltas,
    "another item": lambda rig: damage(rig, set_item),
    "a missing link": lambda rig: damage(rig, lose_a_link),
    "no links": lambda rig: damage(rig, lambda links: links[:1]),
    "another form": lambda rig: damage(rig, lambda _: {"links": 1}),
    "sections of another form": lambda rig: damage(rig, lists_for_objects),
    "too many levels": lambda rig: damage(rig, lambda _: zlib.compress(b"[" * 30_000)),
    "other bytes": lambda rig: damage(rig, lambda _: b"other"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_reader_loads_the_snapshot_after(change: str) -> None:
    """The chain ends, or leads to another set than the digest says; then it starts again."""
    rig = Rig()
    rig.change(**{"flag-01": {"on": False}})
    rig.change(**{"flag-01": {"on": None}})
    assert rig.refreshed() == [STATE]
    CHANGES[change](rig)
    assert SNAPSHOT in "".join(rig.refreshed()).replace("read!", "read")
    rig.change(**{"flag-05": {"on": False}})
    assert rig.refreshed() == [STATE]


@pytest.mark.parametrize(
    ("section", "item", "meta", "is_delta"),
    [
        ("flags", 1, {"version": 1}, True),
        ("flags", 1, {"version": 2}, False),
        ("other", 1, {"version": 1}, False),
    ],
    ids=["a flag", "the rest of the document", "a new section"],
)
def test_what_is_not_in_deltas(section: str, item: Any, meta: Any, *, is_delta: bool) -> None:
    """The snapshot alone has it."""
    old, new = {"flags": {}}, {"flags": {}} | {section: {"a": item}}
    state = SourceState(published=1, nonce="a", digest=content_digest(old, {"version": 1}))
    record = Rig().loaded.snapshot_record._replace(digest=content_digest(new, meta))
    assert (extend_deltas(state, record, old, new, [(section, "a")]) is not None) is is_delta


def test_item_that_deltas_nest_too_deeply() -> None:
    """It is published, with the snapshot alone."""
    record, found = Rig().loaded.snapshot_record, set()
    levels = bisect_left(range(20_000), 1, key=lambda levels: digest_of(nested(levels)) is None)
    levels -= 6
    while digest := digest_of(nested(levels)):
        new, state = {"flags": {"a": nested(levels)}}, SourceState(published=1, digest="0")
        changed = record._replace(digest=digest)
        found.add(extend_deltas(state, changed, {"flags": {}}, new, [("flags", "a")]) is None)
        levels += 1
    assert found == {False, True}


def digest_of(item: Any) -> str | None:
    """Return the digest of a set of one item; None if it has too many levels."""
    try:
        return content_digest({"flags": {"a": item}})
    except RecursionError:
        return None


def nested(levels: int) -> Any:
    item: Any = []
    for _ in range(levels):
        item = [item]
    return item


def test_change_of_everything_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For deltas and for the body, however many small changes come before it."""
    rig, encoded = Rig(), []
    for number in range(9):
        rig.change(always=number)

    def noted(item: Any) -> str:
        encoded.append(dumps(item))
        return encoded[-1]

    monkeypatch.setattr("flagstore.encode.dumps", noted)
    rig.change(**{f"flag-{number:02}": "x" * 9_000 for number in range(30)})
    assert not rig.state().deltas
    assert 500_000 < sum(map(len, encoded)) < 600_000


def test_earlier_snapshot_stays_as_it_was() -> None:
    """Also while deltas lead from it to a later one."""
    rig = Rig()
    before = answers(rig.loaded)
    earlier = rig.loaded
    rig.change(**{"flag-01": None, "flag-02": {"on": False}, "new": {}})
    assert rig.refreshed() == [STATE]
    assert answers(earlier) == before


def test_change_recompiles_only_its_own_flag() -> None:
    """Flags for a context stay those of their moment."""
    rig = Rig()
    rig.provider.name, rig.provider.segments = "launchdarkly", {}
    flags, _ = rich_flags(30)
    name = min(key for key, flag in flags.items() if not flag["prerequisites"])
    rig.provider.serve(flags)
    rig.checked()
    rig.refreshed()
    earlier = rig.reader.for_context({"key": "u"})
    before = earlier.all()
    compiled = dict(rig.reader._engine(rig.loaded)[1]._flags)  # type: ignore[union-attr]
    flag = {**flags[name], "on": False, "offVariation": 1}
    rig.change(**{name: {**flag, "version": flag["version"] + 1}})
    assert rig.refreshed() == [STATE]
    after = rig.reader.all({"key": "u"})
    assert after == rig.client().all({"key": "u"})
    assert after[name].reason == "OFF"
    assert earlier.all() == before != after
    now = rig.reader._engine(rig.loaded)[1]._flags  # type: ignore[union-attr]
    assert {key for key in compiled if compiled[key] is not now[key]} == {name}


def test_snapshot_that_lags_does_not_matter() -> None:
    """The state alone is enough: the snapshot record may still be the previous one."""
    rig = Rig()
    rig.reads.stale = {snapshot_key("prod"): dict(rig.records[snapshot_key("prod")])}
    rig.change(**{"flag-01": {"on": False}})
    assert rig.refreshed() == [STATE]
