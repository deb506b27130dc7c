"""Large segments are stored outside the body: written once, read on demand, expired when unused."""

from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

import flagstore
from flagstore import clients
from flagstore.cache import COOL_DOWN_S, REFRESH_S
from flagstore.clients import Client
from flagstore.errors import CorruptSnapshotError, NotLoadedError, StoreUnavailableError
from simulators.reader_store import RecordsReader, chunks_of
from storesync import providers
from storesync.errors import RefusedSetError
from unit import pipeline_rig

if TYPE_CHECKING:
    from flagstore.keys import Key
    from storesync.model import Report


@cache
def members(count: int, seed: int = 0) -> list[str]:
    """Return keys as users have them: long, and without much in common."""
    rng = random.Random(seed)
    return [f"{rng.getrandbits(128):032x}" for _ in range(count)]


class Rig(pipeline_rig.Rig):
    """A provider with segments that are published, and a reader."""

    def __init__(self, **segments: Any) -> None:
        super().__init__(segments=segments)
        self.check()
        self.flags, self.reads = self.reader()

    def check(self, seconds: float = 10, **options: Any) -> Report:
        """Run one sync some seconds later, at the next revision."""
        self.clock.advance(seconds)
        self.provider.revision += 1
        return self.sync(**options)

    def reader(self, **options: Any) -> tuple[Client, RecordsReader]:
        """Return a fresh reader by this rig's clock, and its store."""
        store = RecordsReader(self.records, self.clock)
        clocks = {"clock": self.clock.now, "monotonic": self.clock.monotonic}
        return Client("prod", store=store, replicas=1, **clocks, **options), store  # type: ignore[arg-type] # one option

    def segment(self, key: str = "big") -> Any:
        return self.reader()[0].snapshot().item("segments", key)

    def chunks(self) -> dict[Key, bool]:
        """Return the keys of all chunks, in order, and whether they expire."""
        return {key: "expires_at" in self.records[key] for key in chunks_of(self.records, "")}

    def lose_chunks(self) -> None:
        for key in self.chunks():
            del self.records[key]


def test_large_segment_is_read_at_first_use_and_kept() -> None:
    """A flag without segments reads none, and a lost store keeps what was read."""
    rig = Rig(big=members(3_000), other=members(2_000, 5), small=["x"])
    snapshot, store = rig.flags.snapshot(), rig.reads
    assert snapshot["a"] == 1
    assert snapshot.item("segments", "small") == ["x"]
    assert len(store.calls) == 1
    for _ in range(2):
        assert snapshot.item("segments", "big") == members(3_000)
        assert len(store.calls) == 2
    assert rig.flags.info().counts == {"flags": 1, "segments": 3}
    store.error = StoreUnavailableError("down")
    assert snapshot.item("segments", "big") == members(3_000)
    with pytest.raises(StoreUnavailableError):
        snapshot.item("segments", "other")


def test_texts_of_large_segments() -> None:
    """They are among the others, in the order of their keys."""
    snapshot = Rig(big=members(3_000), all=["y"], small=["x"]).flags.snapshot()
    texts = snapshot.texts("segments")
    assert list(texts) == ["all", "big", "small"]
    assert [json.loads(text) for text in texts.values()] == [["y"], members(3_000), ["x"]]


def test_unchanged_large_segment_is_neither_written_nor_read_again() -> None:
    """A changed flag costs the same as without a large segment."""
    rig = Rig(big=members(3_000))
    before = rig.chunks()
    assert before
    flags, store = rig.reader(ttl_s=0)
    flags.snapshot().item("segments", "big")
    rig.provider.flags = {"a": 2}
    assert rig.check().outcome == "published"
    assert "put" not in rig.steps
    assert rig.chunks() == before
    store.calls.clear()
    assert flags["a"] == 2
    assert flags.snapshot().item("segments", "big") == members(3_000)
    assert not [call for call in store.calls if call.startswith("chunk")]


def test_large_segment_is_spread_over_as_many_partitions_as_replicas() -> None:
    """Written again when their number changes, and only then; warm readers notice."""
    rig = Rig(big=members(3_000))
    warm, _ = rig.reader(ttl_s=0)
    for replicas, written in ((1, False), (5, True), (5, False), (1, False), (2, True)):
        before = rig.chunks()
        rig.provider.flags = {"a": rig.provider.flags["a"] + 1}
        assert rig.check(replicas=replicas).outcome == "published"
        new = rig.chunks().keys() - before.keys()
        assert len({key.namespace for key in new}) == (replicas if written else 0)
        assert rig.segment() == members(3_000)
        (segment,) = warm.snapshot().large.values()
        assert (segment.token == rig.state().published) == written


def test_old_large_segment_expires_with_its_history() -> None:
    """It stays as long as a kept version names it."""
    rig = Rig(big=members(3_000), steady=members(2_000, 9))
    for version in range(1, 14):
        rig.provider.segments = {**rig.provider.segments, "big": members(3_000 + version)}
        assert rig.check(90_000).changes.changed == (("segments", "big"),)
        assert any(rig.chunks().values()) == (version > 9)
        assert rig.segment() == members(3_000 + version)
        assert rig.segment("steady") == members(2_000, 9)
    assert 0 < sum(rig.chunks().values()) < len(rig.chunks())


def test_hourly_check_repairs_a_lost_large_segment() -> None:
    """By publishing the same content again."""
    rig = Rig(big=members(3_000))
    rig.lose_chunks()
    with pytest.raises(NotLoadedError):
        rig.segment()
    assert rig.check().outcome == "unchanged"
    assert rig.check(3_700).outcome == "published"
    assert rig.segment() == members(3_000)


@pytest.mark.parametrize("hours", [0, 2])
def test_change_replaces_a_lost_large_segment(hours: int) -> None:
    """A segment that cannot be compared blocks nothing."""
    rig = Rig(big=members(3_000))
    rig.lose_chunks()
    rig.provider.segments = {"big": [*members(3_000), "y"]}
    assert rig.check(10 + hours * 3_600).outcome == "published"
    assert rig.segment() == [*members(3_000), "y"]


def test_guard_counts_members_of_large_segments() -> None:
    rig = Rig(big=members(3_000))
    rig.provider.segments = {"big": members(3_000)[:1_500]}
    with pytest.raises(RefusedSetError, match="1500 of 3000 members of segment 'big'") as refused:
        rig.check()
    assert rig.check(allow_shrink=refused.value.digest).outcome == "published"


def test_large_segments_have_no_rows() -> None:
    """A segment that grows large loses its row."""
    rig = Rig(big=["x"])
    assert "prod:segments" in {key.namespace for key in rig.records}
    rig.provider.segments = {"big": ["x", *members(3_000)]}
    rig.check()
    assert "prod:segments" not in {key.namespace for key in rig.records}
    assert not rig.check(3_700).skipped_rows


def test_older_version_of_a_large_segment_is_detected() -> None:
    """LaunchDarkly numbers items: an older one is fetched again."""
    newer = {"big": {"version": 5, "included": members(3_000)}}
    rig = Rig(**newer)
    rig.provider.flags = {"a": {"version": 1}}
    rig.check()
    responses = [{"big": {"version": 4, "included": members(2_999)}}, newer]
    launchdarkly = providers.get("launchdarkly")
    rig.provider.is_older = launchdarkly.is_older  # type: ignore[method-assign]
    rig.provider.members = launchdarkly.members  # type: ignore[method-assign]

    def lag() -> None:
        rig.provider.revision += 1
        rig.provider.segments = responses.pop(0)

    rig.provider.on_fetch = lag
    assert rig.check().outcome == "unchanged"
    assert not responses


def test_threads_read_a_large_segment_once() -> None:
    rig = Rig(big=members(3_000))
    snapshot = rig.flags.snapshot()
    rig.reads.on_call = lambda _call: time.sleep(0.05)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: snapshot.item("segments", "big"), range(8)))
    assert found == [members(3_000)] * 8
    assert len(rig.reads.calls) == 2


def test_failed_segment_read_is_followed_by_a_pause() -> None:
    """One time-out per pause; every failure is a NotLoadedError."""
    rig = Rig(big=members(3_000))
    snapshot, store, clock = rig.flags.snapshot(), rig.reads, rig.clock
    store.latency_s, start = 100, clock.now()
    for _ in range(5):
        with pytest.raises(StoreUnavailableError):
            snapshot.item("segments", "big")
    assert clock.now() - start == pytest.approx(REFRESH_S)
    store.latency_s, store.error = 0, KeyError("AWS_ACCESS_KEY_ID")
    clock.advance(6)
    with pytest.raises(NotLoadedError, match="AWS_ACCESS_KEY_ID"):
        snapshot.item("segments", "big")
    store.error = None
    clock.advance(6)
    assert snapshot.item("segments", "big") == members(3_000)


@pytest.mark.parametrize("fails", [False, True])
def test_large_segments_are_read_during_init(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """A request reads nothing; after a failure, also with SnapStart, the first use does."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "checkout")
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start" if fails else "on-demand")
    monkeypatch.setattr(clients, "_clients", {})
    monkeypatch.setattr(clients, "_preload_by", None)
    rig = Rig(big=members(3_000), other=members(2_000, 5))
    store = RecordsReader(rig.records)

    def fail(call: str) -> None:
        if fails and call.startswith("chunk"):
            message = "reset"
            raise StoreUnavailableError(message)

    store.on_call = fail
    flags = flagstore.client("prod", store=store)
    assert (store.calls[-1] == "close") == fails
    store.on_call = lambda _call: None
    store.calls.clear()
    if fails:
        rig.provider.flags = {"a": 2}
        rig.check()
        assert flags["a"] == 2
    assert flags.snapshot().item("segments", "big") == members(3_000)
    assert flags.snapshot().item("segments", "other") == members(2_000, 5)
    assert bool(store.calls) == fails


def test_damaged_large_segment_is_read_once_per_pause() -> None:
    """Others are not affected."""
    rig = Rig(big=members(3_000), other=members(2_000, 5))
    good = dict(rig.records)
    damaged = next(iter(rig.chunks()))
    rig.records[damaged] = {**good[damaged], "body": b"damaged"}
    snapshot = rig.flags.snapshot()
    outcomes: dict[str, set[bool]] = {"big": set(), "other": set()}
    for _ in range(5):
        for name, seen in outcomes.items():
            try:
                snapshot.item("segments", name)
            except CorruptSnapshotError:
                seen.add(False)
            else:
                seen.add(True)
    assert sorted(outcomes.values(), key=str) == [{False}, {True}]
    assert len(rig.reads.calls) == 3
    rig.records.update(good)
    rig.clock.advance(COOL_DOWN_S)
    assert all(snapshot.item("segments", name) for name in outcomes)


def test_segment_look_up_survives_a_replaced_snapshot() -> None:
    """Another thread may replace the current set between two lines."""
    rig = Rig(big=members(3_000))
    flags = Client("prod", store=RecordsReader(rig.records), replicas=1, ttl_s=0)
    earlier = flags.snapshot()
    rig.provider.flags = {"a": 2}
    rig.check()
    current = flags.snapshot()
    assert current.item("segments", "big") == members(3_000)

    class Replaced(dict[str, bytes]):
        def __contains__(self, key: object) -> bool:
            flags._cache.current = earlier
            return super().__contains__(key)

    current.segments = Replaced(current.segments)
    assert earlier.item("segments", "big") == members(3_000)


def test_large_segment_costs_the_refresh_budget() -> None:
    """Chunks read in time are kept, so that it eventually loads."""
    rig = Rig(big=members(60_000))
    snapshot = rig.flags.snapshot()
    rig.reads.latency_s = 0.15
    for _ in range(20):
        before = rig.clock.monotonic()
        try:
            found = snapshot.item("segments", "big")
        except StoreUnavailableError:
            assert rig.clock.monotonic() - before == pytest.approx(REFRESH_S)
            rig.clock.advance(COOL_DOWN_S)
        else:
            break
    assert found == members(60_000)
    assert len(set(rig.reads.calls)) > 3
