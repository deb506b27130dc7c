"""The steps that change the store: publications, history, expiring chunks."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flagstore import keys
from flagstore.encode import encode
from flagstore.keys import (
    Publication,
    SnapshotRecord,
    Version,
    chunk_key,
    history_key,
    snapshot_key,
)
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import SOURCE
from simulators.reader_store import chunks_of
from storesync.errors import ConditionFailedError, CorruptStoreError
from storesync.model import Changes, FlagSet, Report
from storesync.published import DAY_MS, PublishedReader, day_ago
from storesync.publisher import (
    CHUNK_TTL_S,
    KEPT_VERSIONS,
    MAX_NAMES,
    PENDING_TTL_S,
    THIN_MS,
    Check,
    Publisher,
    pending_record,
    retained,
)
from storesync.store import record_bytes
from unit.pipeline_rig import HOUR_S, large

if TYPE_CHECKING:
    from flagstore.keys import Record


class Rig:
    """A publisher over a memory store, and the names of the steps it took."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.steps: list[str] = []
        self.store = MemoryStore(step=self.steps.append)
        self.records = self.store.records
        self.publisher = Publisher(SOURCE, self.store, self.clock)
        self.published = PublishedReader("prod", self.store)

    def next_check(self) -> Check:
        now = self.clock.now()
        return Check(*self.store.next_token("prod", int(now)), int(now * 1000), "", 0)

    def publish(
        self,
        flags: dict[str, Any],
        changed: Changes | None = None,
        check: Check | None = None,
        step: Any = None,
    ) -> int:
        check = check or self.next_check()
        flag_set = FlagSet("model", {"flags": flags})
        store = MemoryStore(self.records, step or self.steps.append)
        encoded = encode(flag_set.sections, {})
        publisher = Publisher(SOURCE, store, self.clock)
        publisher.publish(check, flag_set, encoded, "writer", changed or Changes())
        return check.token

    def pending_record(self, token: int) -> Record | None:
        announced = self.store.scan(keys.pending_namespace("prod"), f"{token:012d}/")
        return next(announced, None)

    def publication(self) -> Publication:
        return self.store.state("prod").publication

    def expiries(self, token: int) -> set[Any]:
        """Return when the chunks of a fencing token expire."""
        return {self.records[key].get("expires_at") for key in chunks_of(self.records, token)}

    def drop_history(self) -> None:
        """Publish small sets for some days, until nothing older is kept."""
        for number in range(KEPT_VERSIONS + 1):
            self.clock.advance(12 * HOUR_S)
            self.publish({"a": number})


# -- what is kept -------------------------------------------------------------------------------


@st.composite
def histories(draw: Any) -> list[Version]:
    """Draw publications, oldest first, from seconds to days apart."""
    gap = st.sampled_from([1, 60_000, THIN_MS // 7, THIN_MS, DAY_MS // 2, DAY_MS, 3 * DAY_MS])
    gaps = draw(st.lists(gap | st.integers(1, DAY_MS), min_size=1, max_size=60))
    at = 1_795_000_000_000
    versions = []
    for number, step in enumerate(gaps, start=1):
        at += step
        versions.append(Version(number, at))
    return versions


LATER_OF_SIX_HOURS = [
    Version(number, 1_795_000_000_000 // THIN_MS * THIN_MS + at)
    for number, at in enumerate([0, 3_600_000, *range(DAY_MS + 60_000, DAY_MS + 60_012)])
]
"""The version of a day ago is followed by another one within its six hours."""


@given(histories(), st.integers(0, 2 * DAY_MS))
@example(LATER_OF_SIX_HOURS, 0)
def test_each_version_is_kept_or_dropped(versions: list[Version], later: int) -> None:
    """Each is listed once, in order; the last ones, a day-old one and that of the rows are kept."""
    now = versions[-1].published_at + later
    kept, dropped = retained(versions, now, versions[0].token)
    assert versions[0] in kept
    assert sorted(kept + dropped) == versions
    assert (kept, dropped) == (sorted(kept), sorted(dropped))
    assert kept[-KEPT_VERSIONS:] == versions[-KEPT_VERSIONS:]
    assert day_ago(kept, now) == day_ago(versions, now)


@given(histories())
def test_history_stays_small_and_reaches_back_a_day(versions: list[Version]) -> None:
    """After each publication few are kept, including one from about a day ago."""
    kept: list[Version] = []
    for number, version in enumerate(versions, start=1):
        now = version.published_at
        kept, _ = retained([*kept, version], now)
        assert len(kept) <= 20
        true, found = day_ago(versions[:number], now), day_ago(kept, now)
        if true is not None and true.published_at <= now - DAY_MS - THIN_MS:
            assert found is not None
        if found is not None and found != true:
            following = versions[found.token]
            # It was still current less than six hours before that moment.
            assert following.published_at > now - DAY_MS - THIN_MS


# -- a publication ------------------------------------------------------------------------------


def nearly_full(seed: int) -> dict[str, Any]:
    """Return flags whose body just fits the snapshot record."""
    rng = random.Random(seed)
    return {f"{number}": rng.randbytes(1_000).hex() for number in range(250)}


@pytest.mark.parametrize("letter", ["x", "😀"])
def test_history_record_fits_an_item(letter: str) -> None:
    """The largest inline body with the longest names is still one item."""
    rig = Rig()
    names = tuple(("flags", f"{letter * 200}{number:03d}") for number in range(MAX_NAMES))
    flags = nearly_full(1)
    encoded = encode({"flags": flags}, {})
    spare = keys.INLINE_BYTES - len(encoded.index_data) - len(encoded.blocks)
    assert 0 <= spare < 0.1 * keys.INLINE_BYTES
    record = rig.records[history_key("prod", rig.publish(flags, Changes(names, names, names)))]
    assert record_bytes(record) + spare < keys.ROW_BYTES
    changes = json.loads(str(record["changes"]))
    assert changes["counts"] == {"added": 200, "changed": 200, "removed": 200}
    assert changes["added"][0] == "/".join(names[0])


def test_dropped_history_is_removed() -> None:
    """In the same step if it fits; if the writer dies before, by the next publication."""
    rig = Rig()

    def listed() -> int:
        versions = rig.store.state("prod").versions()
        stored = {key for key in rig.records if key.namespace == "prod:$history"}
        assert {history_key("prod", version.token) for version in versions} == stored
        return len(versions)

    for number in range(30):
        rig.clock.advance(HOUR_S * (number % 5))
        rig.publish({"a": number})
        assert listed() < 20
    for number in range(KEPT_VERSIONS + 4):
        rig.clock.advance(DAY_MS)
        rig.publish(nearly_full(number))
    rig.steps.clear()
    rig.publish(nearly_full(1))
    assert rig.steps == ["next_token", "publish", "project"]
    kept = listed()
    check = rig.next_check()
    with pytest.raises(KeyboardInterrupt):
        rig.publish(nearly_full(2), check=check, step=dying_at(2))
    assert (rig.store.state("prod").published, listed()) == (check.token, kept + 1)
    rig.publish(nearly_full(3))
    assert listed() == kept


def test_lost_publication_gets_no_rows_and_expires_nothing() -> None:
    """Its token is issued again with another nonce, which the conditions compare."""
    rig = Rig()
    rig.publish(large(1))
    rig.drop_history()
    kept = {key: dict(record) for key, record in rig.records.items()}
    token = rig.publish({"a": "lost"})
    lost = rig.publication()
    rig.records.clear()
    rig.records.update(kept)
    rig.store.next_token("prod", 0)
    rig.records[keys.state_key("prod")]["issued"] = token - 1
    assert rig.publish({"a": "again"}) == token
    before = dict(rig.records)
    rig.publisher.expire_chunks(lost)
    flag_set = FlagSet("model", {"flags": {"a": "lost"}})
    rig.publisher.write_rows(Report("prod", ""), lost, flag_set, None)
    assert rig.records == before


def test_newer_snapshot_is_not_damage() -> None:
    """Reading an older token's snapshot returns None."""
    rig = Rig()
    old = rig.publish({"a": 1})
    rig.publish({"a": 2})
    assert rig.published.current(old) is None


# -- chunks: tests/faults/test_kill_points.py shows that none is orphaned --------------------------


def dying_at(number: int) -> Any:
    count = 0

    def step(name: str) -> None:
        nonlocal count
        count += name != "read"
        if count == number:
            raise KeyboardInterrupt

    return step


def test_chunks_of_an_abandoned_publication_expire() -> None:
    """Its pending record stays for as long as the writer may still write; a later one's too."""
    rig = Rig()
    abandoned = rig.next_check()
    rig.publish({"a": 1})
    later = rig.next_check()
    with pytest.raises(ConditionFailedError):
        rig.publish(large(1), check=abandoned)
    with pytest.raises(KeyboardInterrupt):
        rig.publish(large(1), check=later, step=dying_at(4))
    rig.publisher.expire_chunks(rig.publication())
    assert rig.expiries(abandoned.token) == {int(rig.clock.now()) + CHUNK_TTL_S}
    # The writer may still be writing: another expiry finds its later chunks.
    assert rig.pending_record(abandoned.token)
    rig.clock.advance(PENDING_TTL_S + 1)
    rig.publisher.expire_chunks(rig.publication())
    assert not rig.pending_record(abandoned.token)
    assert rig.expiries(later.token) == {None}
    assert rig.pending_record(later.token)


def put_pending(rig: Rig, chunks: int, largest: int = 1) -> None:
    """Put chunks that the fencing token 7 wrote, and their pending record."""
    snapshot = SnapshotRecord.from_record(rig.records[snapshot_key("prod")])._replace(token=7)
    prefix = keys.chunks_prefix(7, snapshot.index_digest)
    sizes = {prefix: [b"x" * largest] * chunks}
    places = [chunk_key("prod", prefix, number)._asdict() for number in range(chunks)]
    announced = pending_record("prod", snapshot, sizes, int(rig.clock.now()))
    rig.store.put_all([announced, *({**place, "body": b"x"} for place in places)])


def test_expiring_stops_at_a_newer_publication() -> None:
    """A publication between two steps of expiring ends it."""
    rig = Rig()
    published = rig.publish({"a": 1})
    put_pending(rig, chunks=20)

    def overtaken(name: str) -> None:
        if name == "expire":
            rig.records[keys.state_key("prod")]["published"] = published + 1

    publisher = Publisher(SOURCE, MemoryStore(rig.records, overtaken), rig.clock)
    with pytest.raises(ConditionFailedError):
        publisher.expire_chunks(rig.publication())
    assert rig.expiries(7) == {None}


@pytest.mark.parametrize(
    ("chunks", "largest", "commits"), [(3, 350_000, 3), (4, 150_000, 2), (100, 1_000, 2)]
)
def test_chunks_expire_in_commits_by_size(chunks: int, largest: int, commits: int) -> None:
    """An update costs the whole item: few large chunks per commit, or many small ones."""
    rig = Rig()
    rig.publish({"a": 1})
    put_pending(rig, chunks, largest)
    rig.steps.clear()
    rig.publisher.expire_chunks(rig.publication())
    assert rig.steps.count("expire") == commits
    assert rig.expiries(7) == {int(rig.clock.now()) + CHUNK_TTL_S}


@pytest.mark.parametrize("damage", [{"index_data": b""}, {"chunks": "[1,"}])
def test_nothing_expires_while_a_kept_version_is_damaged(damage: dict[str, Any]) -> None:
    """Which chunks it names is unknown, so all stay."""
    rig = Rig()
    first = rig.publish({"a": 1})
    rig.publish({"a": 2})
    put_pending(rig, chunks=2)
    rig.records[history_key("prod", first)].update(damage)
    with pytest.raises(CorruptStoreError):
        rig.publisher.expire_chunks(rig.publication())
    assert rig.expiries(7) == {None}
