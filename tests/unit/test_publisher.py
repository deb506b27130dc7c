"""The steps that change the store: publications, history, expiring chunks."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagstore import keys
from flagstore.encode import encode
from flagstore.keys import (
    Key,
    Publication,
    SnapshotRecord,
    SourceState,
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
from storesync.model import Changes, FlagSet
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flagstore.keys import Record

HOUR_S = 3_600


class Rig:
    """A publisher over a memory store, and the names of the steps it took."""

    def __init__(self, replicas: int = 1) -> None:
        self.clock = FakeClock()
        self.steps: list[str] = []
        self.store = MemoryStore(step=self.steps.append)
        self.records = self.store.records
        self.publisher = Publisher(SOURCE, self.store, self.clock, replicas=replicas)
        self.published = PublishedReader("prod", self.store)

    def next_check(self, etag: str = "", revision: int = 0) -> Check:
        """Take a fencing token for a check that starts now."""
        now = self.clock.now()
        token, seen = self.store.next_token("prod", int(now))
        return Check(token, seen, int(now * 1000), etag, revision)

    def publish(
        self, flags: dict[str, Any], changed: Changes | None = None, check: Check | None = None
    ) -> int:
        """Publish these flags and return the fencing token."""
        check = check or self.next_check()
        flag_set = FlagSet("model", {"flags": flags}, revision=check.revision)
        encoded = encode(flag_set.sections, {})
        self.publisher.publish(check, flag_set, encoded, "writer", changed or Changes())
        return check.token

    def state(self) -> SourceState:
        """Return the source state."""
        return self.store.state("prod")

    def snapshot_record(self, replica: int = 0) -> SnapshotRecord:
        """Return the snapshot record."""
        return SnapshotRecord.from_record(self.records[snapshot_key("prod", replica)])

    def chunks(self, token: int) -> list[Record]:
        """Return the chunks that a fencing token wrote."""
        return [self.records[key] for key in chunks_of(self.records, token)]

    def pending_record(self, token: int) -> Record | None:
        """Return the record that announces them."""
        announced = self.store.scan(keys.pending_namespace("prod"), f"{token:012d}/")
        return next(announced, None)

    def publication(self, token: int = 0) -> Publication:
        """Return the published set, or the one of a fencing token."""
        key = history_key("prod", token) if token else snapshot_key("prod")
        return SnapshotRecord.from_record(self.records[key]).publication

    def expiries(self, token: int) -> set[Any]:
        """Return when the chunks of a fencing token expire."""
        return {chunk.get("expires_at") for chunk in self.chunks(token)}

    def drop_history(self) -> None:
        """Publish small sets for some days, until nothing older is kept."""
        for number in range(KEPT_VERSIONS + 1):
            self.clock.advance(12 * HOUR_S)
            self.publish({"a": number})


def large(seed: int) -> dict[str, Any]:
    """Return flags too large for a snapshot record."""
    rng = random.Random(seed)
    return {f"flag-{number}": rng.randbytes(5_000).hex() for number in range(90)}


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
    with pytest.raises(ConditionFailedError):
        rig.publisher.write_rows(lost, FlagSet("model", {"flags": {"a": "lost"}}), None, {})
    assert rig.records == before


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


@given(histories(), st.integers(0, 2 * DAY_MS))
def test_each_version_is_kept_or_dropped(versions: list[Version], later: int) -> None:
    """Every version is kept or dropped, once, in order; the last ones are kept."""
    kept, dropped = retained(versions, versions[-1].published_at + later)
    assert sorted(kept + dropped) == versions
    assert kept == sorted(kept)
    assert dropped == sorted(dropped)
    assert kept[-KEPT_VERSIONS:] == versions[-KEPT_VERSIONS:]


@given(histories(), st.integers(0, 2 * DAY_MS))
def test_version_of_a_day_ago_is_kept(versions: list[Version], later: int) -> None:
    """The guard compares with it, so it is never dropped."""
    now = versions[-1].published_at + later
    kept, _ = retained(versions, now)
    assert day_ago(kept, now) == day_ago(versions, now)


@given(histories())
def test_history_stays_small_and_reaches_back_a_day(
    versions: list[Version],
) -> None:
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


def test_version_of_a_day_ago_outlives_its_six_hours() -> None:
    """Also where a later version of the same six hours is kept."""
    start = 1_795_000_000_000 // THIN_MS * THIN_MS
    now = start + DAY_MS + 60_000
    recent = [Version(number, now - 1_000 + number) for number in range(3, 15)]
    versions = [Version(1, start), Version(2, start + 3_600_000), *recent]
    assert day_ago(versions, now) == versions[0]
    assert day_ago(retained(versions, now)[0], now) == versions[0]


# -- a publication ------------------------------------------------------------------------------


def test_publication_is_one_step() -> None:
    """Snapshot record, history and source state change together, with one token."""
    rig = Rig()
    token = rig.publish({"a": 1}, check=rig.next_check(etag='"e"', revision=4))
    assert rig.steps == ["next_token", "publish"]
    state, snapshot_record = rig.state(), rig.snapshot_record()
    assert (state.published, state.token, snapshot_record.token) == (token, token, token)
    assert (state.etag, state.revision, snapshot_record.revision) == ('"e"', 4, 4)
    assert state.digest == snapshot_record.digest
    assert state.config_fingerprint == "writer"
    assert state.versions() == [Version(token, snapshot_record.published_at)]
    assert rig.published.current(token) is not None


def test_history_has_whole_sets_and_changes() -> None:
    """Each kept version can be read back, and lists its changes."""
    rig = Rig()
    first = rig.publish({"a": 1})
    second = rig.publish({"a": 2, "b": 1}, Changes(("flags/b",), ("flags/a",), ("flags/c",)))
    assert rig.published.version(first).sections == {"flags": {"a": 1}}
    assert rig.published.version(second).sections == {"flags": {"a": 2, "b": 1}}
    record = rig.records[history_key("prod", second)]
    assert json.loads(str(record["changes"])) == {
        "counts": {"added": 1, "changed": 1, "removed": 1},
        "added": ["flags/b"],
        "changed": ["flags/a"],
        "removed": ["flags/c"],
    }
    assert SnapshotRecord.from_record(record) == rig.snapshot_record()


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_history_record_fits_an_item(letter: str) -> None:
    """The largest inline body with the longest names is still one item."""
    rig = Rig()
    names = tuple(f"flags/{letter * 200}{number:03d}" for number in range(MAX_NAMES))
    flags = nearly_full(1)
    encoded = encode({"flags": flags}, {})
    size = len(encoded.index_data) + len(encoded.blocks)
    assert 0.9 * keys.INLINE_BYTES < size <= keys.INLINE_BYTES
    token = rig.publish(flags, Changes(names, names, names))
    record = rig.records[history_key("prod", token)]
    spare = keys.INLINE_BYTES - size
    assert record_bytes(record) + spare < keys.ROW_BYTES
    assert json.loads(str(record["changes"]))["added"][0] == names[0]


def test_dropped_history_is_removed_in_the_same_step() -> None:
    """The source state lists exactly the stored versions, after every publication."""
    rig = Rig()
    for number in range(30):
        rig.clock.advance(HOUR_S * (number % 5))
        rig.publish({"a": number})
        listed = {history_key("prod", version.token) for version in rig.state().versions()}
        assert listed == {key for key in rig.records if key.namespace == "prod:$history"}
    assert len(listed) < 20


def test_large_history_is_removed_after_the_publication() -> None:
    """If the writer dies before, the next publication removes it."""
    rig = Rig()

    def listed() -> int:
        versions = rig.state().versions()
        assert {history_key("prod", version.token) for version in versions} == {
            key for key in rig.records if key.namespace == "prod:$history"
        }
        return len(versions)

    for number in range(KEPT_VERSIONS):
        rig.publish(nearly_full(number))
    rig.steps.clear()
    rig.publish(nearly_full(1))
    assert rig.steps == ["next_token", "publish", "project"]
    assert listed() == KEPT_VERSIONS
    check, healthy = rig.next_check(), rig.publisher
    rig.publisher = Publisher(SOURCE, MemoryStore(rig.records, dying_at(2)), rig.clock)
    with pytest.raises(KeyboardInterrupt):
        rig.publish(nearly_full(2), check=check)
    assert (rig.state().published, listed()) == (check.token, KEPT_VERSIONS + 1)
    rig.publisher = healthy
    rig.publish(nearly_full(3))
    assert listed() == KEPT_VERSIONS


def nearly_full(seed: int) -> dict[str, Any]:
    """Return flags whose body just fits the snapshot record."""
    rng = random.Random(seed)
    return {f"{number}": rng.randbytes(1_000).hex() for number in range(250)}


# -- the condition ---------------------------------------------------------------------------------


def test_overtaken_check_changes_nothing() -> None:
    """If another check completed first, neither heartbeat nor set gets through."""
    rig = Rig()
    late = rig.next_check()
    rig.publish({"a": "new"})
    before = dict(rig.records)
    with pytest.raises(ConditionFailedError) as caught:
        rig.publish({"a": "old"}, check=late)
    assert caught.value.state == rig.state()
    with pytest.raises(ConditionFailedError):
        rig.publisher.heartbeat(late)
    rig.publisher.note(late, {"refused": "digest"})
    assert rig.records == before


def test_rows_of_an_older_publication_are_not_written() -> None:
    """A writer that wakes up late finds a newer version, and stops."""
    rig = Rig()
    old = rig.publish({"a": 1})
    rig.publish({"a": 2})
    flag_set = FlagSet("model", {"flags": {"a": 1}})
    with pytest.raises(ConditionFailedError):
        rig.publisher.write_rows(rig.publication(old), flag_set, None, {})
    assert Key("prod:flags", "a") not in rig.records
    assert rig.state().rows_version == 0


def test_rows_version_is_set_by_the_last_commit() -> None:
    """250 rows are three commits; until the last, the rows count as behind."""
    rig = Rig()
    flags = {f"flag-{number}": number for number in range(250)}
    token = rig.publish(flags)
    seen: list[int] = []
    store = MemoryStore(rig.records, lambda _: seen.append(rig.state().rows_version))
    publisher = Publisher(SOURCE, store, rig.clock)
    publisher.write_rows(
        rig.publication(),
        FlagSet("model", {"flags": flags}),
        Changes(tuple(sorted(f"flags/{key}" for key in flags))),
        {"verified_at": 5},
    )
    assert seen == [0, 0, 0]
    assert (rig.state().rows_version, rig.state().verified_at) == (token, 5)
    assert len([key for key in rig.records if key.namespace == "prod:flags"]) == 250


# -- reading back -------------------------------------------------------------------------------


def test_newer_snapshot_is_not_damage() -> None:
    """Reading an older token's snapshot returns None."""
    rig = Rig()
    old = rig.publish({"a": 1})
    rig.publish({"a": 2})
    assert rig.published.current(old) is None


# -- chunks -------------------------------------------------------------------------------------


def test_large_body_is_stored_in_chunks() -> None:
    """Chunks are announced first, written next, named last, and read back whole."""
    rig = Rig()
    flags = large(1)
    token = rig.publish(flags)
    chunks = rig.chunks(token)
    assert len(chunks) >= 2
    assert rig.steps == ["next_token", "put", *["put"] * len(chunks), "publish"]
    snapshot_record = rig.snapshot_record()
    assert snapshot_record.body == b""
    prefix = keys.chunks_prefix(token, snapshot_record.index_digest)
    assert snapshot_record.stored_chunks() == (prefix, len(chunks))
    announced = rig.pending_record(token)
    assert announced is not None
    assert json.loads(str(announced["chunks"])) == {prefix: len(chunks)}
    stored = rig.published.current(token)
    assert stored is not None
    assert stored.sections["flags"] == dict(sorted(flags.items()))


@pytest.mark.parametrize("cut", range(1, 5))
def test_killed_writer_leaves_no_unannounced_chunk(cut: int) -> None:
    """Wherever it stops, the pending record names all chunks that it may have written."""
    rig = Rig()
    rig.publish({"a": 1})
    check = rig.next_check()
    store = MemoryStore(rig.records, dying_at(cut))
    flag_set = FlagSet("model", {"flags": large(1)})
    with pytest.raises(KeyboardInterrupt):
        Publisher(SOURCE, store, rig.clock).publish(
            check, flag_set, encode(flag_set.sections, {}), "writer", Changes()
        )
    written = rig.chunks(check.token)
    announced = rig.pending_record(check.token) or {"chunks": '{"": 0}'}
    assert len(written) == max(0, cut - 2)
    assert len(written) <= sum(json.loads(str(announced["chunks"])).values())
    assert rig.state().published < check.token


def dying_at(number: int) -> Any:
    """Return a step that dies before its n-th write."""
    count = 0

    def step(name: str) -> None:
        nonlocal count
        count += name != "read"
        if count == number:
            raise KeyboardInterrupt

    return step


@pytest.mark.parametrize("damage", ["removed", "stub", "other"])
def test_damaged_chunk_is_corrupt(damage: str) -> None:
    """A chunk that is gone, or a stub of one that had expired, is not a body."""
    rig = Rig()
    token = rig.publish(large(1))
    key = chunks_of(rig.records, token)[1]
    if damage == "removed":
        del rig.records[key]
    else:
        body = {} if damage == "stub" else {"body": b"other"}
        rig.records[key] = {**key._asdict(), "expires_at": 1, **body}
    with pytest.raises(CorruptStoreError):
        rig.published.current(token)


# -- expiring -----------------------------------------------------------------------------------


def test_unnamed_chunks_expire_a_day_later() -> None:
    """Readers that still have an older snapshot record have a day to read its chunks."""
    rig = Rig()
    token = rig.publish(large(1))
    rig.drop_history()
    assert rig.expiries(token) == {None}
    rig.publisher.expire_chunks(rig.publication())
    assert rig.expiries(token) == {int(rig.clock.now()) + CHUNK_TTL_S}
    assert not rig.pending_record(token)


def test_chunks_of_an_abandoned_publication_expire() -> None:
    """Its pending record stays for as long as the writer may still write."""
    rig = Rig()
    check = rig.next_check()
    published = rig.publish({"a": 1})
    with pytest.raises(ConditionFailedError):
        rig.publish(large(1), check=check)
    rig.publisher.expire_chunks(rig.publication(published))
    assert rig.expiries(check.token) == {int(rig.clock.now()) + CHUNK_TTL_S}
    # The writer may still be writing: another expiry finds its later chunks.
    assert rig.pending_record(check.token)
    rig.clock.advance(PENDING_TTL_S + 1)
    rig.publisher.expire_chunks(rig.publication(published))
    assert not rig.pending_record(check.token)


def test_chunks_of_a_later_token_do_not_expire() -> None:
    """Its writer may yet publish."""
    rig = Rig()
    published = rig.publish({"a": 1})
    later = rig.next_check()
    store = MemoryStore(rig.records, dying_at(4))
    flag_set = FlagSet("model", {"flags": large(1)})
    with pytest.raises(KeyboardInterrupt):
        Publisher(SOURCE, store, rig.clock).publish(
            later, flag_set, encode(flag_set.sections, {}), "writer", Changes()
        )
    rig.clock.advance(PENDING_TTL_S + 1)
    rig.publisher.expire_chunks(rig.publication(published))
    assert rig.expiries(later.token) == {None}
    assert rig.pending_record(later.token)


def test_overtaken_publisher_expires_nothing() -> None:
    """Only the publisher of the current version lets chunks expire."""
    rig = Rig()
    orphan = rig.next_check()
    old = rig.publish({"a": 1})
    with pytest.raises(ConditionFailedError):
        rig.publish(large(1), check=orphan)
    rig.publish({"a": 2})
    rig.publisher.expire_chunks(rig.publication(old))
    assert rig.expiries(orphan.token) == {None}


def test_expiring_stops_at_a_newer_publication() -> None:
    """A publication between two steps of expiring ends it."""
    rig = Rig()
    published = rig.publish({"a": 1})
    put_pending(rig, 7, chunks=20)

    def overtaken(name: str) -> None:
        if name == "expire":
            rig.records[keys.state_key("prod")] = {
                **rig.records[keys.state_key("prod")],
                "published": published + 1,
            }

    publisher = Publisher(SOURCE, MemoryStore(rig.records, overtaken), rig.clock)
    with pytest.raises(ConditionFailedError):
        publisher.expire_chunks(rig.publication(published))
    assert rig.expiries(7) == {None}


def put_pending(rig: Rig, token: int, chunks: int, largest: int = 1) -> None:
    """Put chunks that an older fencing token wrote, and their pending record."""
    snapshot_record = rig.snapshot_record()._replace(token=token)
    prefix = keys.chunks_prefix(token, snapshot_record.index_digest)
    announced = pending_record(
        "prod", snapshot_record, {prefix: [b"x" * largest] * chunks}, int(rig.clock.now())
    )
    rig.records[Key(str(announced["namespace"]), str(announced["key"]))] = announced
    for number in range(chunks):
        key = chunk_key("prod", prefix, number)
        rig.records[key] = {**key._asdict(), "body": b"x"}


@pytest.mark.parametrize(
    ("chunks", "largest", "commits"),
    [(1, 350_000, 1), (3, 350_000, 3), (3, 150_000, 1), (4, 150_000, 2), (100, 1_000, 2)],
)
def test_chunks_expire_in_commits_by_size(chunks: int, largest: int, commits: int) -> None:
    """An update costs the whole item: few large chunks per commit, or many small ones."""
    rig = Rig()
    published = rig.publish({"a": 1})
    put_pending(rig, 7, chunks, largest)
    rig.steps.clear()
    rig.publisher.expire_chunks(rig.publication(published))
    assert rig.steps.count("expire") == commits
    assert rig.expiries(7) == {int(rig.clock.now()) + CHUNK_TTL_S}


@pytest.mark.parametrize("damage", [{"index_data": None}, {"chunks": "[1,"}])
def test_nothing_expires_while_a_kept_version_is_damaged(damage: dict[str, Any]) -> None:
    """Which chunks it names is unknown, so all stay."""
    rig = Rig()
    first = rig.publish({"a": 1})
    published = rig.publish({"a": 2})
    put_pending(rig, 7, chunks=2)
    record = {**rig.records[history_key("prod", first)], **damage}
    rig.records[history_key("prod", first)] = {k: v for k, v in record.items() if v is not None}
    with pytest.raises(CorruptStoreError):
        rig.publisher.expire_chunks(rig.publication(published))
    assert rig.expiries(7) == {None}


# -- all together -------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, DAY_MS // 1000)), max_size=12))
def test_current_and_kept_chunks_never_expire(steps: Sequence[tuple[int, int]]) -> None:
    """Large and small bodies in any order, at any pace."""
    rig = Rig()
    for seed, seconds in steps:
        rig.clock.advance(seconds)
        token = rig.publish(LARGE[seed] if seed else {"a": seconds})
        rig.publisher.expire_chunks(rig.publication(token))
        for version in rig.state().versions():
            prefix, _ = rig.published.version(version.token).record.stored_chunks()
            assert not prefix or rig.expiries(int(prefix[:12])) == {None}
        assert rig.published.current(token) is not None


LARGE = {seed: large(seed) for seed in (1, 2, 3)}
