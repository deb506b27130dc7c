"""The steps that change the store: what a publication consists of, is kept, and expires."""

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
        """Return what is published, or what was under a fencing token."""
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


def test_nothing_follows_a_publication_that_the_store_lost() -> None:
    """Its number comes again with another nonce: its rows and its expiries are not that one's."""
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
def test_kept_and_dropped_are_all(versions: list[Version], later: int) -> None:
    """Every publication is either kept or dropped, once, and order stays."""
    kept, dropped = retained(versions, versions[-1].published_at + later)
    assert sorted(kept + dropped) == versions
    assert kept == sorted(kept)
    assert dropped == sorted(dropped)
    assert kept[-KEPT_VERSIONS:] == versions[-KEPT_VERSIONS:]


@given(histories(), st.integers(0, 2 * DAY_MS))
def test_what_was_current_a_day_ago_is_kept(versions: list[Version], later: int) -> None:
    """The guard compares with it, so it is never dropped."""
    now = versions[-1].published_at + later
    kept, _ = retained(versions, now)
    assert day_ago(kept, now) == day_ago(versions, now)


@given(histories())
def test_step_by_step_the_history_stays_small_and_reaches_back_a_day(
    versions: list[Version],
) -> None:
    """After each of many publications: few are kept, and one that was current about a day ago."""
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


def test_a_busy_day_is_thinned_to_one_in_six_hours() -> None:
    """A thousand publications in a day leave the last ten and a handful between."""
    kept: list[Version] = []
    for number in range(1, 1_001):
        at = 1_795_000_000_000 + number * DAY_MS // 1_000
        kept, dropped = retained([*kept, Version(number, at)], at)
        assert len(kept) + len(dropped) <= KEPT_VERSIONS + 7
    assert KEPT_VERSIONS + 3 <= len(kept) <= KEPT_VERSIONS + 6


def test_what_was_current_a_day_ago_outlives_its_six_hours() -> None:
    """Also where a later publication of the same six hours is kept for them."""
    start = 1_795_000_000_000 // THIN_MS * THIN_MS
    now = start + DAY_MS + 60_000
    recent = [Version(number, now - 1_000 + number) for number in range(3, 15)]
    versions = [Version(1, start), Version(2, start + 3_600_000), *recent]
    assert day_ago(versions, now) == versions[0]
    assert day_ago(retained(versions, now)[0], now) == versions[0]


def test_nothing_was_current_a_day_ago_of_what_is_younger() -> None:
    """Within the first day there is nothing to compare with; at exactly a day there is."""
    versions = [Version(1, 1_000), Version(2, 2_000)]
    assert day_ago(versions, 999 + DAY_MS) is None
    assert day_ago(versions, 1_000 + DAY_MS) == versions[0]
    assert day_ago(versions, 2_000 + DAY_MS) == versions[1]
    assert day_ago([], DAY_MS) is None


# -- a publication ------------------------------------------------------------------------------


def test_a_publication_is_one_step() -> None:
    """Snapshot record, history and source state change together, and name one fencing token."""
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


def test_etag_and_revision_do_not_outlive_their_check() -> None:
    """A check without an ETag leaves none behind, which would belong to another response."""
    rig = Rig()
    rig.publish({"a": 1}, check=rig.next_check(etag='"e"', revision=4))
    rig.publish({"a": 2})
    assert (rig.state().etag, rig.state().revision) == ("", 0)
    assert "etag" not in rig.records[keys.state_key("prod")]


def test_history_holds_the_whole_set_and_what_changed() -> None:
    """Each kept publication can be read back by itself, and says what it changed."""
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


def test_history_counts_all_changes_and_names_some() -> None:
    """A change of everything does not make a record of everything's names."""
    rig = Rig()
    names = tuple(f"flags/{number:04d}" for number in range(1_000))
    token = rig.publish({"a": 1}, Changes(names, (), names[:5]))
    told = json.loads(str(rig.records[history_key("prod", token)]["changes"]))
    assert told["counts"] == {"added": 1_000, "changed": 0, "removed": 5}
    assert told["added"] == list(names[:MAX_NAMES])
    assert told["removed"] == list(names[:5])


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_history_record_fits_an_item_whatever_the_names(letter: str) -> None:
    """The largest body that a snapshot holds, and names as long as keys may be: still one item."""
    rig = Rig()
    names = tuple(f"flags/{letter * 200}{number:03d}" for number in range(MAX_NAMES))
    flags = nearly_full(1)
    encoded = encode({"flags": flags}, {})
    assert 0.9 * keys.INLINE_BYTES < encoded.size() <= keys.INLINE_BYTES
    token = rig.publish(flags, Changes(names, names, names))
    record = rig.records[history_key("prod", token)]
    spare = keys.INLINE_BYTES - encoded.size()
    assert record_bytes(record) + spare < keys.ROW_BYTES
    assert json.loads(str(record["changes"]))["added"][0] == names[0]


def test_dropped_history_goes_in_the_same_step() -> None:
    """What the source state lists is what is there, after every publication."""
    rig = Rig()
    for number in range(30):
        rig.clock.advance(HOUR_S * (number % 5))
        rig.publish({"a": number})
        listed = {history_key("prod", version.token) for version in rig.state().versions()}
        assert listed == {key for key in rig.records if key.namespace == "prod:$history"}
    assert len(listed) < 20


def test_history_of_large_sets_is_dropped_after_a_publication() -> None:
    """In steps of its own; if the writer dies before, the next publication drops it."""
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


def test_replicas_are_written_with_the_snapshot() -> None:
    """All copies of the snapshot record change in the one step, and are the same."""
    rig = Rig(replicas=3)
    for number in range(2):
        rig.publish({"a": number})
        assert rig.snapshot_record() == rig.snapshot_record(1) == rig.snapshot_record(2)
    assert rig.steps == ["next_token", "publish"] * 2


# -- the condition ---------------------------------------------------------------------------------


def test_a_check_that_was_overtaken_changes_nothing() -> None:
    """Drawn before another completed: neither its heartbeat nor its set gets through."""
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


def test_a_heartbeat_conditions_too() -> None:
    """Who drew before an unchanged check completed has not seen what it saw."""
    rig = Rig()
    rig.publish({"a": 1})
    late, early = rig.next_check(), rig.next_check()
    rig.publisher.heartbeat(early)
    with pytest.raises(ConditionFailedError):
        rig.publish({"a": 2}, check=late)
    assert rig.state().token == early.token
    assert rig.state().published < early.token


def test_a_pin_stops_heartbeats_and_publications() -> None:
    """While pinned, no check completes; afterwards the next one does."""
    rig = Rig()
    rig.publish({"a": 1})
    record = rig.records[keys.state_key("prod")]
    record["pinned"] = int(rig.clock.now() * 1000) + 1_000
    check = rig.next_check()
    with pytest.raises(ConditionFailedError):
        rig.publish({"a": 2}, check=check)
    with pytest.raises(ConditionFailedError):
        rig.publisher.heartbeat(check)
    rig.clock.advance(1)
    rig.publish({"a": 2}, check=check)


def test_a_refusal_is_noted_and_a_completed_check_clears_it() -> None:
    """The source state says what was refused last, until something is accepted."""
    rig = Rig()
    published = rig.publish({"a": 1})
    rig.publisher.note(rig.next_check(), {"refused": "digest"})
    assert (rig.state().refused, rig.state().token) == ("digest", published)
    rig.publisher.heartbeat(rig.next_check())
    assert rig.state().refused == ""


def test_rows_of_an_older_publication_are_not_written() -> None:
    """A writer that wakes late finds something newer published, and stops."""
    rig = Rig()
    old = rig.publish({"a": 1})
    rig.publish({"a": 2})
    flag_set = FlagSet("model", {"flags": {"a": 1}})
    with pytest.raises(ConditionFailedError):
        rig.publisher.write_rows(rig.publication(old), flag_set, None, {})
    assert Key("prod:flags", "a") not in rig.records
    assert rig.state().rows_version == 0


def test_rows_of_many_commits_are_noted_with_the_last() -> None:
    """250 rows are three steps; until the last, the source state says that rows trail."""
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


def test_a_snapshot_published_anew_is_nobodys_damage() -> None:
    """Who looks for an older token's snapshot finds that it is gone, and that is no error."""
    rig = Rig()
    old = rig.publish({"a": 1})
    rig.publish({"a": 2})
    assert rig.published.current(old) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"body": b"other"},
        {"body": None},
        {"index_data": None},
        {"index_data": "a text"},
        {"index_digest": "0" * 64},
        {"token": None},
        {"token": 1},
        {"token": "a text"},
        {"chunks": "[1,"},
        {"chunks": "[1,1]"},
        {"chunks": "{}"},
    ],
)
def test_a_damaged_snapshot_is_corrupt(damage: dict[str, Any]) -> None:
    """Whatever is wrong with it, it is this one error, and never taken for a set."""
    rig = Rig()
    token = rig.publish({"a": 1})
    record = {**rig.records[snapshot_key("prod")], **damage}
    rig.records[snapshot_key("prod")] = {k: v for k, v in record.items() if v is not None}
    with pytest.raises(CorruptStoreError):
        rig.published.current(token)


def test_a_snapshot_that_is_gone_is_corrupt() -> None:
    """The source state says that something is published: then there is a snapshot record."""
    rig = Rig()
    token = rig.publish({"a": 1})
    del rig.records[snapshot_key("prod")]
    with pytest.raises(CorruptStoreError, match="missing"):
        rig.published.current(token)
    del rig.records[history_key("prod", token)]
    with pytest.raises(CorruptStoreError, match="missing"):
        rig.published.version(token)


# -- chunks -------------------------------------------------------------------------------------


def test_a_large_body_lies_in_chunks() -> None:
    """Announced first, written next, named last; and read back whole."""
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
def test_a_writer_that_dies_between_chunks_leaves_no_orphan(cut: int) -> None:
    """Wherever it stops, the pending record names what it may have written."""
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
def test_a_damaged_chunk_is_corrupt(damage: str) -> None:
    """A chunk that is gone, or a stub of one that had expired, is no body."""
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


def test_what_the_history_keeps_never_expires() -> None:
    """Chunks of kept versions have no TTL, however often chunks are expired."""
    rig = Rig()
    tokens = [rig.publish(large(seed)) for seed in range(3)]
    rig.publish({"a": 1})
    rig.publisher.expire_chunks(rig.publication())
    for token in tokens:
        assert rig.expiries(token) == {None}
        assert rig.published.version(token).record.token == token
        assert rig.pending_record(token)


def test_what_nothing_names_expires_a_day_later() -> None:
    """Readers that still hold an older snapshot record have a day to read its chunks."""
    rig = Rig()
    token = rig.publish(large(1))
    rig.drop_history()
    assert rig.expiries(token) == {None}
    rig.publisher.expire_chunks(rig.publication())
    assert rig.expiries(token) == {int(rig.clock.now()) + CHUNK_TTL_S}
    assert not rig.pending_record(token)


def test_an_abandoned_writer_is_cleaned_up_after() -> None:
    """Chunks of an unfinished publication expire; its pending record stays while it may go on."""
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


def test_a_writer_with_a_later_token_is_left_alone() -> None:
    """It may yet publish: only what is older than the published fencing token expires."""
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


def test_nothing_expires_for_a_publisher_that_was_overtaken() -> None:
    """Only the publisher of what is published lets chunks expire."""
    rig = Rig()
    orphan = rig.next_check()
    old = rig.publish({"a": 1})
    with pytest.raises(ConditionFailedError):
        rig.publish(large(1), check=orphan)
    rig.publish({"a": 2})
    rig.publisher.expire_chunks(rig.publication(old))
    assert rig.expiries(orphan.token) == {None}


def test_expiring_stops_when_something_newer_is_published() -> None:
    """Between two steps of expiring, another publication ends it."""
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
def test_chunks_expire_in_steps_of_their_size(chunks: int, largest: int, commits: int) -> None:
    """An update counts with the whole item: few large chunks a step, or many small ones."""
    rig = Rig()
    published = rig.publish({"a": 1})
    put_pending(rig, 7, chunks, largest)
    rig.steps.clear()
    rig.publisher.expire_chunks(rig.publication(published))
    assert rig.steps.count("expire") == commits
    assert rig.expiries(7) == {int(rig.clock.now()) + CHUNK_TTL_S}


@pytest.mark.parametrize("damage", [{"index_data": None}, {"chunks": "[1,"}])
def test_nothing_expires_while_a_kept_version_is_damaged(damage: dict[str, Any]) -> None:
    """Which chunks it names can't be told: a typed error, and all chunks stay."""
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
def test_whatever_is_published_the_snapshot_can_be_read(steps: Sequence[tuple[int, int]]) -> None:
    """Large and small bodies in any order, at any pace: no current or kept chunk ever expires."""
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
