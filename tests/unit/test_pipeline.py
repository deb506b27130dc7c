"""One pipeline for every sync request: its cost, refusals and repairs."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.clients import Client
from flagstore.keys import (
    Key,
    SnapshotRecord,
    SourceState,
    history_key,
    snapshot_key,
    state_key,
)
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import SOURCE, ModelProvider, NoHttp
from simulators.reader_store import RecordsReader, chunks_of
from storesync import errors
from storesync.model import Source, SyncRequest
from storesync.pipeline import HOLD_MS, MARGIN_MS, SPACING_MS, VERIFY_MS, Sync
from storesync.providers import get
from storesync.retry import Deadline, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flagstore.keys import Record
    from storesync.model import FetchResult, Report
    from storesync.store import Condition, Sets, Write

SCHEDULE = SyncRequest("prod", trigger="schedule")
HOUR_S = 3_600
LAUNCHDARKLY_FLAG = {
    "key": "a",
    "version": 1,
    "on": False,
    "variations": [True],
    "fallthrough": {"variation": 0},
}
WRITES = frozenset({"next_token", "heartbeat", "publish", "project", "put", "expire", "pin"})


@dataclass
class Recording(ModelProvider):
    """A model that notes the ETags that it is asked with."""

    sent: list[str] = field(default_factory=list)

    def fetch(
        self, source: Source, http: object, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Note the ETag and response."""
        self.sent.append(etag)
        return super().fetch(source, http, etag, unmet=unmet)


class Rig:
    """A provider, a store and a clock; :meth:`sync` runs one sync of the real pipeline."""

    def __init__(self, flags: dict[str, Any] | None = None, **model: Any) -> None:
        self.clock = FakeClock()
        self.provider = Recording(flags={"a": 1} if flags is None else flags, **model)
        self.records: dict[Key, Record] = {}
        self.steps: list[str] = []

    def sync(
        self,
        *requests: SyncRequest,
        seconds: float = 300,
        source: Source = SOURCE,
        store: MemoryStore | None = None,
        limits: Limits | None = None,
        replicas: int = 1,
        allow_shrink: str = "",
    ) -> Report:
        """Run one sync; of the schedule, unless sync requests are given."""
        self.steps.clear()
        self.clock.slept.clear()
        self.provider.fetches = 0
        self.provider.sent.clear()
        sync = Sync(
            source,
            self.provider,
            store or self.store(),
            http=NoHttp(),  # type: ignore[arg-type]
            deadline=Deadline(self.clock, random.Random(1), seconds),
            limits=limits,
            replicas=replicas,
            allow_shrink=allow_shrink,
        )
        return sync.run(requests or [SCHEDULE])

    def store(self, step: Callable[[str], None] = lambda _: None) -> MemoryStore:
        """Return a store over the shared records that notes its steps."""

        def noted(name: str) -> None:
            self.steps.append(name)
            step(name)

        return MemoryStore(self.records, noted)

    def writes(self) -> list[str]:
        """Return the steps of the last sync that write."""
        return [step for step in self.steps if step in WRITES]

    def state(self) -> SourceState:
        """Return the source state."""
        return SourceState.from_record(self.records.get(state_key("prod"), {}))

    def state_record(self) -> dict[str, Any]:
        """Return the source state's record, to change it."""
        return self.records[state_key("prod")]

    def snapshot_record(self) -> SnapshotRecord:
        """Return the snapshot record."""
        return SnapshotRecord.from_record(self.records[snapshot_key("prod")])

    def data(self) -> dict[Key, Record]:
        """Return a copy of all records but the source state."""
        return {key: dict(value) for key, value in self.records.items() if key != state_key("prod")}

    def read(self) -> dict[str, Any]:
        """Return the flags that a reader that starts now sees."""
        snapshot = Client("prod", store=RecordsReader(self.records), replicas=1).snapshot()
        return {key: snapshot[key] for key in snapshot}

    def rows(self) -> dict[str, Any]:
        """Return the rows' items, as text."""
        return {k.key: v["item"] for k, v in self.records.items() if k.namespace == "prod:flags"}

    def in_sync(self) -> bool:
        """Say whether reader and rows show the provider's flags."""
        rows = {key: str(value) for key, value in self.provider.flags.items()}
        return self.read() == self.provider.flags and self.rows() == rows


def numbered(count: int, start: int = 0) -> dict[str, int]:
    """Return this many flags."""
    return {f"f{number:04d}": number for number in range(start, start + count)}


def raising(*faults: Exception | None) -> Callable[[], None]:
    """Return a function that raises these errors at successive calls, then none."""
    left = list(faults)

    def on_fetch() -> None:
        fault = left.pop(0) if left else None
        if fault is not None:
            raise fault

    return on_fetch


def once(action: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that acts only at its first call."""
    left = [action]

    def on_fetch() -> None:
        if left:
            left.pop()()

    return on_fetch


def webhook(rig: Rig, *required: str, ago_s: float = 0.0, trigger: str = "webhook") -> SyncRequest:
    """Return a sync request that was sent this many seconds ago."""
    return SyncRequest("prod", required, round((rig.clock.now() - ago_s) * 1000), trigger)


# -- what it costs ------------------------------------------------------------------------------


def test_first_check_publishes() -> None:
    """The first check publishes the provider's flags to readers and rows."""
    rig = Rig(numbered(5))
    report = rig.sync()
    assert (report.outcome, report.fetches, report.counts["flags"]) == ("published", 1, 5)
    assert report.changes.added == tuple(f"flags/{key}" for key in numbered(5))
    assert rig.writes() == ["next_token", "publish", "project"]
    assert rig.in_sync()
    state = rig.state()
    assert state.published == state.token == state.rows_version == report.token
    assert report.digest == state.digest == rig.snapshot_record().digest


@pytest.mark.parametrize("etags", [True, False])
def test_unchanged_set_costs_a_token_and_a_heartbeat(etags: bool) -> None:
    """An unchanged check neither writes nor reads flag data, with or without ETags."""
    rig = Rig(numbered(1_000), etags=etags)
    rig.sync()
    before = rig.data()
    rig.clock.advance(60)
    report = rig.sync()
    assert rig.steps == ["next_token", "heartbeat"]
    assert rig.data() == before
    assert report.outcome == "unchanged"
    assert rig.state().token == report.token == rig.state().published + 1
    assert rig.state().checked_at == round(rig.clock.now() * 1000) == report.checked_at


def test_changed_flag_costs_three_steps() -> None:
    """One changed flag costs a fencing token, a publication, and its row."""
    rig = Rig(numbered(1_000))
    rig.sync()
    before = rig.data()
    rig.provider.change(f0007=-1)
    report = rig.sync()
    assert rig.writes() == ["next_token", "publish", "project"]
    assert report.changes.changed == ("flags/f0007",)
    after = rig.data()
    assert {key for key in after if after[key] != before.get(key)} == {
        snapshot_key("prod"),
        history_key("prod", report.token),
        Key("prod:flags", "f0007"),
    }
    assert rig.in_sync()


def test_etag_is_sent_and_304_means_unchanged() -> None:
    """A set that the provider reports as not modified is not fetched again."""
    rig = Rig()
    rig.sync()
    assert rig.provider.sent == [""]
    for _ in range(3):
        assert rig.sync().outcome == "unchanged"
        assert rig.provider.sent == ['"1"']
    rig.provider.change(a=2)
    rig.sync()
    assert rig.provider.sent == ['"1"']
    rig.sync()
    assert rig.provider.sent == ['"2"']


def test_new_etag_of_same_content_is_stored() -> None:
    """Unchanged content under a new ETag is unchanged, and the next check sends it."""
    rig = Rig()
    rig.sync()
    rig.provider.change()
    assert rig.sync().outcome == "unchanged"
    assert rig.sync().outcome == "unchanged"
    assert rig.provider.sent == ['"2"']
    assert rig.state().revision == 2


@pytest.mark.parametrize(
    "source",
    [
        replace(SOURCE, base_url="https://other.example"),
        replace(SOURCE, options={"filter": "x"}),
        replace(SOURCE, provider="other"),
        replace(SOURCE, rows=False),
    ],
)
def test_changed_configuration_publishes_again(source: Source) -> None:
    """With another configuration, neither the ETag nor the rows are trusted."""
    rig = Rig()
    rig.sync()
    published = rig.state().published
    assert rig.sync(source=source).outcome == "published"
    assert rig.provider.sent == [""]
    assert rig.state().published > published
    assert rig.state().config_fingerprint == source.fingerprint() != SOURCE.fingerprint()
    rig.sync(source=source)
    assert rig.provider.sent == ['"1"']


def test_source_without_rows() -> None:
    """A source without rows has none written, and its checks do not wait for them."""
    rig = Rig()
    rig.sync(source=replace(SOURCE, rows=False))
    assert rig.rows() == {}
    assert rig.state().rows_version == rig.state().published
    rig.sync(source=replace(SOURCE, rows=False))
    assert rig.steps == ["next_token", "heartbeat"]


# -- the hourly verification --------------------------------------------------------------------


@pytest.mark.parametrize("etags", [True, False])
def test_hourly_verification(etags: bool) -> None:
    """Once an hour a check sends no ETag and reads snapshot and rows; it writes no flag data."""
    rig = Rig(etags=etags)
    rig.sync()
    rig.clock.advance(HOUR_S - 1)
    rig.sync()
    assert rig.steps == ["next_token", "heartbeat"]
    before = rig.data()
    rig.clock.advance(1)
    assert rig.sync().outcome == "unchanged"
    assert rig.provider.sent == [""]
    assert rig.writes() == ["next_token", "heartbeat", "project"]
    assert rig.data() == before
    rig.clock.advance(VERIFY_MS / 1000 - 1)
    rig.sync()
    assert rig.steps == ["next_token", "heartbeat"]


@pytest.mark.parametrize(
    "damage",
    [
        {"body": b"other"},
        {"body": None},
        {"index_data": None},
        {"index_data": "a text"},
        {"index_digest": "0" * 64},
        {"digest": "0" * 64},
        {"provider": None},
        {"token": None},
        {"token": 1},
        {"chunks": "[1,"},
        dict.fromkeys(SnapshotRecord._fields),
    ],
)
def test_hourly_check_repairs_damaged_snapshot(damage: dict[str, Any]) -> None:
    """Readers get a whole set again, though the provider has nothing new."""
    rig = Rig()
    rig.sync()
    record = {**rig.records[snapshot_key("prod")], **damage}
    rig.records[snapshot_key("prod")] = {k: v for k, v in record.items() if v is not None}
    assert rig.sync().outcome == "unchanged"
    rig.clock.advance(HOUR_S)
    assert rig.sync().outcome == "published"
    assert rig.in_sync()
    assert rig.snapshot_record().token == rig.state().published


def test_change_repairs_damaged_snapshot_at_once() -> None:
    """A new set is published over a damaged snapshot, and all rows are compared."""
    rig = Rig({"a": 1, "b": 1})
    rig.sync()
    rig.records[snapshot_key("prod")]["body"] = b"other"
    del rig.records[Key("prod:flags", "b")]
    rig.provider.change(a=2)
    report = rig.sync()
    assert (report.outcome, report.changes.changed) == ("published", ("flags/a",))
    assert rig.in_sync()


def test_hourly_check_repairs_lost_chunk() -> None:
    """A large body with a lost chunk is published again under a new fencing token."""
    rig = Rig(large(1))
    rig.sync()
    del rig.records[chunks_of(rig.records, rig.state().published)[1]]
    rig.clock.advance(HOUR_S)
    assert rig.sync().outcome == "published"
    assert rig.read() == rig.provider.flags


def large(seed: int) -> dict[str, Any]:
    """Return flags too large for a snapshot record."""
    rng = random.Random(seed)
    return {f"flag-{number}": rng.randbytes(5_000).hex() for number in range(90)}


def test_hourly_check_repairs_rows() -> None:
    """Rows that were lost, changed or added are fixed without a publication."""
    rig = Rig(numbered(5))
    rig.sync()
    published = rig.state().published
    del rig.records[Key("prod:flags", "f0000")]
    rig.records[Key("prod:flags", "f0001")]["item"] = "-1"
    foreign = Key("prod:flags", "foreign")
    rig.records[foreign] = {**foreign._asdict(), "item": "1"}
    neighbour = Key("prod-eu:flags", "a")
    rig.records[neighbour] = {**neighbour._asdict(), "item": "1"}
    rig.sync()
    assert not rig.in_sync()
    rig.clock.advance(HOUR_S)
    assert rig.sync().outcome == "unchanged"
    assert rig.in_sync()
    assert rig.state().published == published
    assert neighbour in rig.records


# -- a provider that lags -----------------------------------------------------------------------


def test_required_revision_is_awaited() -> None:
    """When responses lag behind the webhook, the sync still ends with the change."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(60)

    def catch_up() -> None:
        if rig.provider.fetches == 2:
            rig.provider.change(a=2)

    rig.provider.on_fetch = catch_up
    report = rig.sync(webhook(rig, "2"))
    assert (report.outcome, report.behind, report.fetches) == ("published", False, 3)
    assert rig.writes() == ["next_token", "next_token", "next_token", "publish", "project"]
    assert rig.clock.slept == [0.2, 0.4]
    assert rig.read() == {"a": 2}


def test_unmet_revisions_are_passed_to_the_provider() -> None:
    """Only fetches after an unmet one may bypass caches."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(60)
    unmet: list[tuple[str, ...]] = []
    rig.provider.on_fetch = lambda: unmet.append(rig.provider.unmet)
    rig.sync(webhook(rig, "9"), webhook(rig, "1"))
    assert rig.provider.unmet == ("1", "9")
    assert unmet[:3] == [(), (), ("1", "9")]


def test_waiting_for_a_revision_is_bounded() -> None:
    """A revision that never comes costs a few fetches and seconds, and is reported."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(60)
    report = rig.sync(webhook(rig, "9"))
    assert (report.outcome, report.behind) == ("unchanged", True)
    assert report.fetches <= 6
    assert sum(rig.clock.slept) <= Limits().settle_s


def test_partial_progress_is_published() -> None:
    """A newer set is published even if the required revision is not reached."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(60)
    rig.provider.change(a=2)
    report = rig.sync(webhook(rig, "9"))
    assert (report.outcome, report.behind) == ("published", True)
    assert rig.read() == {"a": 2}


def test_newest_required_revision_of_a_batch_counts() -> None:
    """The newest of several required revisions counts."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(60)
    rig.provider.change(a=2)
    assert rig.sync(webhook(rig, "2"), webhook(rig, "3")).behind
    assert not rig.sync(webhook(rig, "2"), webhook(rig, "1")).behind


def test_no_waiting_without_time_to_publish() -> None:
    """If waiting would leave no time to publish, the current set is published at once."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(60)
    rig.provider.change(a=2)
    report = rig.sync(webhook(rig, "9"), seconds=Limits().publish_s + 0.1)
    assert (report.outcome, report.behind, rig.clock.slept) == ("published", True, [])


# -- a provider that goes back ------------------------------------------------------------------


def responses(rig: Rig, *states: tuple[int, dict[str, Any]]) -> Callable[[], None]:
    """Return a function that makes the provider serve these states in turn, then the last."""
    left = list(states)

    def on_fetch() -> None:
        rig.provider.revision, rig.provider.flags = left.pop(0) if len(left) > 1 else left[0]

    return on_fetch


def test_older_response_is_not_published() -> None:
    """A stale response is asked for again, and the published set stays."""
    rig = Rig({"a": "new"}, revision=7)
    rig.sync()
    published = rig.state().published
    rig.provider.on_fetch = responses(rig, (6, {"a": "old"}), (7, {"a": "new"}))
    report = rig.sync()
    assert (report.outcome, report.fetches) == ("unchanged", 2)
    assert rig.writes() == ["next_token", "next_token", "heartbeat"]
    assert (rig.state().published, rig.read()) == (published, {"a": "new"})


def test_older_response_is_asked_for_twice_more() -> None:
    """After three older responses the sync request is repeated later."""
    rig = Rig({"a": "new"}, revision=7)
    rig.sync()
    states = [(6, {"a": number % 2}) for number in range(30)]
    rig.provider.on_fetch = responses(rig, *states)
    with pytest.raises(errors.SuspectSetError) as caught:
        rig.sync()
    assert (rig.provider.fetches, rig.clock.slept) == (3, [1.0, 1.0])
    assert caught.value.retryable
    assert rig.read() == {"a": "new"}


def test_older_set_that_holds_is_published() -> None:
    """An older set is published once it held for minutes, at a scheduled check."""
    rig = Rig({"a": "new"}, revision=7)
    rig.sync()
    older, newer = (1, {"a": "again"}), (7, {"a": "new"})
    for response, outcome in ((older, ""), (newer, "unchanged"), (older, ""), (older, "published")):
        rig.clock.advance(HOLD_MS / 1000)
        rig.provider.on_fetch = responses(rig, response)
        with nullcontext() if outcome else pytest.raises(errors.SuspectSetError):
            assert rig.sync().outcome == outcome
    assert rig.read() == {"a": "again"}
    assert rig.state().revision == 1
    assert rig.state().suspect == ""


def test_older_response_is_not_published_for_lack_of_time() -> None:
    """Without time to ask again, the sync request is repeated later."""
    rig = Rig({"a": "new"}, revision=7)
    rig.sync()
    rig.provider.on_fetch = responses(rig, (6, {"a": "old"}))
    with pytest.raises(errors.SuspectSetError, match="older than the published one"):
        rig.sync(seconds=0.9, limits=Limits(publish_s=0.6))
    assert rig.read() == {"a": "new"}


# -- a provider that fails ----------------------------------------------------------------------

RETRIED = [errors.ProviderUnavailableError("503"), errors.MalformedResponseError("half a set")]
FINAL = [errors.CredentialsRefusedError("401"), errors.EndpointNotFoundError("404")]


@pytest.mark.parametrize("fault", RETRIED)
def test_transient_fault_is_retried_under_a_new_token(fault: Exception) -> None:
    """Each of three retries takes a fencing token and waits a little longer."""
    rig = Rig()
    rig.sync()
    rig.provider.change(a=2)
    rig.provider.on_fetch = raising(fault, fault, fault)
    report = rig.sync()
    assert (report.outcome, report.fetches) == ("published", 4)
    assert rig.writes() == ["next_token"] * 4 + ["publish", "project"]
    assert len(rig.clock.slept) == 3
    assert all(seconds <= 5.0 for seconds in rig.clock.slept)
    assert rig.in_sync()


@pytest.mark.parametrize("fault", RETRIED)
def test_persistent_fault_returns_the_request(fault: Exception) -> None:
    """After four attempts, the request returns to the queue, and the store is unchanged."""
    rig = Rig()
    rig.sync()
    before, state = rig.data(), rig.state()
    rig.provider.on_fetch = raising(*[fault] * 9)
    with pytest.raises(type(fault)):
        rig.sync()
    assert rig.writes() == ["next_token"] * 4
    assert rig.data() == before
    issued = {"issued": state.issued + 4, "issued_nonce": rig.state().issued_nonce}
    assert rig.state() == state._replace(**issued)


@pytest.mark.parametrize("fault", FINAL)
def test_final_fault_is_raised_at_once(fault: Exception) -> None:
    """Refused credentials and wrong addresses are not retried; the published set stays."""
    rig = Rig()
    rig.sync()
    before = rig.data()
    rig.provider.on_fetch = raising(fault)
    with pytest.raises(type(fault)):
        rig.sync()
    assert (rig.writes(), rig.clock.slept) == (["next_token"], [])
    assert rig.data() == before


def test_retry_after_is_honored() -> None:
    """Retry-After is honored to the second."""
    rig = Rig()
    rig.provider.on_fetch = raising(errors.ProviderUnavailableError("429", retry_after_s=17.0))
    assert rig.sync().outcome == "published"
    assert rig.clock.slept == [17.0]


@pytest.mark.parametrize("asked", [61.0, 60.0, 58.0])
def test_long_retry_after_is_not_awaited(asked: float) -> None:
    """If no time would be left to publish, the request is returned at once."""
    rig = Rig()
    rig.provider.on_fetch = raising(errors.ProviderUnavailableError("429", retry_after_s=asked))
    with pytest.raises(errors.ProviderUnavailableError, match="429"):
        rig.sync(seconds=60)
    assert (rig.clock.slept, rig.writes()) == ([], ["next_token"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_malformed(value: float) -> None:
    """Values that JSON cannot represent never reach the store."""
    rig = Rig()
    rig.sync()
    before = rig.data()
    rig.provider.change(a=value)
    with pytest.raises(errors.MalformedResponseError, match="JSON"):
        rig.sync()
    assert rig.data() == before


# -- the guard ----------------------------------------------------------------------------------


def test_refused_set_is_noted_and_not_published() -> None:
    """Published set and rows stay, and the source state names the refused digest."""
    rig = Rig(numbered(100))
    rig.sync()
    before, state = rig.data(), rig.state()
    rig.provider.flags = numbered(69)
    rig.provider.revision += 1
    with pytest.raises(errors.RefusedSetError, match=r"31 .*of 100 flags are gone") as caught:
        rig.sync()
    assert not caught.value.retryable
    assert rig.data() == before
    issued = {"issued": state.issued + 1, "issued_nonce": rig.state().issued_nonce}
    assert rig.state() == state._replace(**issued, refused=caught.value.digest)


def test_allow_shrink_publishes_only_that_digest() -> None:
    """The digest of the refused set publishes it; no other digest does, nor another set."""
    rig = Rig(numbered(100))
    rig.sync()
    rig.provider.flags = numbered(50)
    rig.provider.revision += 1
    with pytest.raises(errors.RefusedSetError) as caught:
        rig.sync(allow_shrink="0" * 64)
    digest = caught.value.digest
    rig.provider.flags = numbered(49)
    rig.provider.revision += 1
    with pytest.raises(errors.RefusedSetError):
        rig.sync(allow_shrink=digest)
    rig.provider.flags = numbered(50)
    rig.provider.revision += 1
    report = rig.sync(allow_shrink=digest)
    assert (report.outcome, report.digest) == ("published", digest)
    assert rig.state().refused == ""
    assert rig.in_sync()


def test_accepted_set_clears_the_refusal() -> None:
    """A provider that recovers on its own needs no operator."""
    rig = Rig(numbered(100))
    rig.sync()
    rig.provider.flags = {}
    rig.provider.revision += 1
    with pytest.raises(errors.RefusedSetError, match="none of 100 flags"):
        rig.sync()
    rig.provider.flags = numbered(100)
    rig.provider.revision += 1
    assert rig.sync().outcome == "unchanged"
    assert rig.state().refused == ""


def test_slow_erosion_is_refused() -> None:
    """Steps within the limit are refused once they exceed it against a day ago."""
    rig = Rig(numbered(100))
    rig.sync()
    rig.clock.advance(10 * HOUR_S)
    rig.provider.flags = numbered(80)
    rig.provider.revision += 1
    assert rig.sync().outcome == "published"
    rig.clock.advance(15 * HOUR_S)
    rig.provider.flags = numbered(65)
    rig.provider.revision += 1
    with pytest.raises(errors.RefusedSetError, match=r"35 .*of 100 .*a day ago"):
        rig.sync()
    assert len(rig.read()) == 80
    rig.clock.advance(10 * HOUR_S)
    assert rig.sync().outcome == "published"


def test_damaged_history_does_not_refuse() -> None:
    """If the version of a day ago is damaged, only the published set is compared."""
    rig = Rig(numbered(100))
    rig.sync()
    first = rig.state().published
    rig.clock.advance(25 * HOUR_S)
    rig.provider.change(f0000=None)
    rig.sync()
    rig.records[history_key("prod", first)]["body"] = b"other"
    rig.provider.change(f0001=None)
    assert rig.sync().outcome == "published"


@pytest.mark.parametrize("hourly", [True, False])
def test_damaged_snapshot_does_not_admit_an_empty_set(hourly: bool) -> None:
    """The guard compares with the copy in the history."""
    rig = Rig(numbered(100))
    rig.sync()
    rig.records[snapshot_key("prod")]["body"] = b"other"
    if hourly:
        rig.clock.advance(HOUR_S)
    rig.provider.flags = {}
    rig.provider.revision += 1
    with pytest.raises(errors.RefusedSetError, match="none of 100 flags"):
        rig.sync()
    rig.provider.flags = numbered(99)
    rig.provider.revision += 1
    report = rig.sync()
    assert (report.outcome, report.changes.removed) == ("published", ("flags/f0099",))
    assert rig.in_sync()


def test_snapshot_newer_than_its_state_does_not_admit_an_empty_set() -> None:
    """Items of a table restored from a backup may be some moments apart."""
    rig = Rig(numbered(100))
    rig.sync()
    state = dict(rig.state_record())
    rig.provider.change(f0000=None)
    rig.sync()
    rig.records[state_key("prod")] = {**state, "issued": rig.state().issued}
    rig.provider.flags = {}
    rig.provider.revision += 1
    with pytest.raises(errors.RefusedSetError, match="none of 100 flags"):
        rig.sync()
    rig.provider.flags = numbered(99)
    rig.provider.revision += 1
    assert rig.sync().outcome == "published"
    assert rig.in_sync()


def test_segments_are_guarded_by_their_members() -> None:
    """A segment that loses most members, as the provider counts them, is refused."""
    rig = Rig(segments={"beta": [str(number) for number in range(50)]})
    rig.sync()
    rig.provider.segments = {"beta": ["0"]}
    rig.provider.revision += 1
    with pytest.raises(errors.RefusedSetError, match="49 of 50 members of segment 'beta'"):
        rig.sync()


# -- pins ---------------------------------------------------------------------------------------


def pin(rig: Rig, seconds: float = 60) -> None:
    """Pin the source for so long."""
    rig.state_record()["pinned"] = round((rig.clock.now() + seconds) * 1000)


def test_pinned_source_publishes_nothing() -> None:
    """While pinned there is no fetch and no heartbeat; the next check publishes."""
    rig = Rig()
    rig.sync()
    pin(rig)
    rig.provider.change(a=2)
    assert rig.sync().outcome == "pinned"
    assert (rig.writes(), rig.provider.fetches) == (["next_token"], 0)
    assert rig.read() == {"a": 1}
    rig.clock.advance(60)
    assert rig.sync().outcome == "published"
    assert rig.read() == {"a": 2}


@pytest.mark.parametrize("change", [{}, {"a": 2}])
def test_pin_during_the_fetch_holds(change: dict[str, Any]) -> None:
    """A pin set between token and completion stops publications and heartbeats."""
    rig = Rig()
    rig.sync()
    token = rig.state().token
    rig.provider.change(**change)
    rig.provider.on_fetch = once(lambda: pin(rig))
    assert rig.sync().outcome == "pinned"
    assert rig.read() == {"a": 1}
    assert rig.state().token == token


# -- overlapping checks -------------------------------------------------------------------------


def rival(rig: Rig) -> Callable[[], Any]:
    """Return another, scheduled sync."""

    def run() -> Any:
        other = Rig()
        other.clock, other.records, other.provider = rig.clock, rig.records, rig.provider
        return Sync(
            SOURCE,
            rig.provider,
            MemoryStore(rig.records),
            http=NoHttp(),  # type: ignore[arg-type]
            deadline=Deadline(rig.clock, random.Random(2), 300),
        ).run([SCHEDULE])

    return run


def test_sync_is_satisfied_by_later_check() -> None:
    """A later token means a later fetch: nothing is left to do."""
    rig = Rig()
    rig.sync()
    rig.provider.change(a=2)
    rig.provider.on_fetch = once(rival(rig))
    report = rig.sync()
    assert (report.outcome, report.fetches) == ("superseded", 1)
    assert rig.writes() == ["next_token", "publish"]
    assert report.token == rig.state().token
    assert rig.in_sync()


def test_later_check_without_the_revision_does_not_satisfy() -> None:
    """A sync whose revision the winner did not see fetches again."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(60)

    def overtaken_then_changed() -> None:
        rival(rig)()
        rig.provider.change(a=2)

    rig.provider.on_fetch = once(overtaken_then_changed)
    report = rig.sync(webhook(rig, "2"))
    assert report.outcome == "published"
    assert rig.writes() == ["next_token", "publish", "next_token", "publish", "project"]
    assert rig.read() == {"a": 2}


def test_earlier_check_does_not_satisfy() -> None:
    """A winner with an earlier token may not have seen the change: fetch again."""
    rig = Rig()
    rig.sync()
    earlier, seen = rig.store().next_token("prod", 0)
    rig.provider.change(a=2)
    rig.provider.on_fetch = once(lambda: complete(rig, earlier, seen))
    report = rig.sync()
    assert (report.outcome, report.fetches) == ("published", 2)
    assert rig.writes() == ["next_token", "publish", "next_token", "publish", "project"]
    assert rig.read() == {"a": 2}


def complete(rig: Rig, token: int, seen: SourceState) -> None:
    """Complete another check, as a heartbeat does."""
    record = rig.state_record()
    assert record["token"] == seen.token
    rig.records[state_key("prod")] = {**record, "token": token}


def test_sync_that_is_always_overtaken_gives_up() -> None:
    """The fencing tokens of one sync are bounded; then the request is repeated."""
    rig = Rig()
    rig.sync()
    rig.provider.change(a=2)
    tokens = iter(range(1, 100))

    def overtake() -> None:
        record = rig.state_record()
        rig.records[state_key("prod")] = {**record, "token": next(tokens)}

    rig.provider.on_fetch = overtake
    with pytest.raises(errors.NotSettledError) as caught:
        rig.sync()
    assert caught.value.retryable
    assert rig.writes() == ["next_token", "publish"] * Limits().tokens
    assert rig.read() == {"a": 1}


@pytest.mark.parametrize("lost", ["the draw", "the last check as well"])
@pytest.mark.parametrize("others", [0, 1])
def test_sync_whose_token_the_store_lost_fetches_again(lost: str, others: int) -> None:
    """Its token is issued again with another nonce: the sync does not mistake it for its own."""
    rig = Rig()
    rig.sync()
    kept = dict(rig.records)
    rig.clock.advance(10)
    rig.sync()
    if lost == "the draw":
        kept = dict(rig.records)
    rig.clock.advance(10)
    rig.provider.change(a=2)

    def lose() -> None:
        rig.provider.on_fetch = lambda: None
        rig.records.clear()
        rig.records.update(kept)
        for value in range(others):
            rig.provider.change(a=3 + value)
            deadline = Deadline(rig.clock, random.Random(1), 300)
            http, store = NoHttp(), MemoryStore(rig.records)
            Sync(SOURCE, rig.provider, store, http=http, deadline=deadline).run([SCHEDULE])  # type: ignore[arg-type]

    rig.provider.on_fetch = lose
    report = rig.sync()
    assert rig.writes().count("next_token") == 2
    assert report.outcome == ("unchanged" if others else "published")
    assert report.token == rig.state().token
    assert rig.read() == rig.provider.flags


class Twice(MemoryStore):
    """A store that loses responses, so that each completing step is sent a second time."""

    def commit(
        self, source: str, condition: Condition, sets: Sets, writes: Sequence[Write] = ()
    ) -> None:
        """Commit, and again."""
        super().commit(source, condition, sets, writes)
        if "token" in sets:
            super().commit(source, condition, sets, writes)


def test_own_step_repeated_is_a_success() -> None:
    """A check that loses the condition to itself has completed; rows follow with the next."""
    rig = Rig()
    report = rig.sync(store=Twice(rig.records))
    assert report.outcome == "published"
    assert report.token == rig.state().published
    assert rig.rows() == {}
    assert rig.sync(store=Twice(rig.records)).outcome == "unchanged"
    assert rig.sync().outcome == "unchanged"
    assert rig.in_sync()


# -- cut off ------------------------------------------------------------------------------------


def failing_at(step: str, error: BaseException, after: int = 0) -> Callable[[str], None]:
    """Return a function that raises at the given step, after some of its kind."""
    left = [after]

    def on_step(name: str) -> None:
        if name == step:
            left[0] -= 1
            if left[0] < 0:
                raise error

    return on_step


@pytest.mark.parametrize(
    "error", [errors.StoreError("throttled"), errors.OutOfTimeError("no time left")]
)
def test_failed_rows_are_finished_by_the_next_check(error: Exception) -> None:
    """The set is still published, and the report has the reason why the rows are behind."""
    rig = Rig({"z": 1})
    rig.sync()
    rig.provider.flags = numbered(250)
    rig.provider.revision = 2
    report = rig.sync(store=rig.store(failing_at("project", error, after=1)))
    assert (report.outcome, report.rows_error) == ("published", str(error))
    assert rig.read() == rig.provider.flags
    assert len(rig.rows()) == 1 + 99
    assert rig.state().rows_version != rig.state().published
    report = rig.sync()
    assert (report.outcome, report.rows_error) == ("unchanged", "")
    assert rig.provider.sent == ['"2"']
    assert rig.in_sync()
    assert rig.state().rows_version == rig.state().published


def test_row_that_is_too_large_is_reported() -> None:
    """It is named, and the snapshot has it."""
    rig = Rig({"big": "x" * 410_000, "a": 1})
    report = rig.sync()
    assert report.skipped_rows == ("flags/big",)
    assert rig.read() == rig.provider.flags
    assert set(rig.rows()) == {"a"}


@pytest.mark.parametrize("body", ["inlined", "in chunks"])
def test_killed_at_any_step_readers_see_the_old_set_or_the_new(body: str) -> None:
    """250 flags become 210, and the function dies before each of its steps in turn."""
    old, new = numbered(250), numbered(210)
    if body == "in chunks":
        old, new = old | large(1), new | large(2)
    satisfied = 0
    while True:
        rig = Rig(dict(old))
        rig.sync()
        rig.provider.flags = dict(new)
        rig.provider.revision += 1
        rig.clock.advance(60)
        try:
            rig.sync(store=rig.store(dying_at(satisfied)))
        except KeyboardInterrupt:
            published = "publish" in rig.steps[:-1]
            assert rig.read() == (new if published else old)
        else:
            break
        rig.clock.advance(60)
        rig.sync()
        assert rig.read() == new
        assert set(rig.rows()) == set(new)
        satisfied += 1
    assert satisfied >= 4
    assert rig.read() == new


def dying_at(number: int) -> Callable[[str], None]:
    """Return a function that dies before the n-th step, including reads."""
    count = -1

    def step(_name: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise KeyboardInterrupt

    return step


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 3.9])
def test_no_fetch_without_time_to_publish(seconds: float) -> None:
    """If publishing may not fit, nothing is fetched, and the request is repeated."""
    rig = Rig()
    with pytest.raises(errors.OutOfTimeError) as caught:
        rig.sync(seconds=seconds)
    assert caught.value.retryable
    assert rig.provider.fetches == 0
    assert rig.data() == {}


# -- coalescing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", ["webhook", "followup"])
@pytest.mark.parametrize(("early_ms", "coalesced"), [(MARGIN_MS + 1, True), (MARGIN_MS, False)])
def test_request_older_than_a_check_is_coalesced(
    trigger: str,
    early_ms: int,
    coalesced: bool,
) -> None:
    """A request sent two seconds before a check began needs no fetch and no token."""
    rig = Rig()
    rig.sync()
    checked_at = rig.state().checked_at
    rig.clock.advance(5)
    report = rig.sync(SyncRequest("prod", (), checked_at - early_ms, trigger))
    assert (report.outcome == "coalesced") == coalesced
    assert (rig.writes() == []) == coalesced
    assert (rig.provider.fetches == 0) == coalesced
    if coalesced:
        assert report.checked_at == checked_at


def test_request_during_a_fetch_is_not_coalesced() -> None:
    """A fetch does not serve requests that were sent while it ran."""
    rig = Rig()
    rig.provider.on_fetch = once(lambda: rig.clock.advance(8))
    started_at = round(rig.clock.now() * 1000)
    rig.sync()
    assert rig.state().checked_at == started_at
    rig.clock.advance(5)
    rig.provider.change(a=2)
    assert rig.sync(webhook(rig, ago_s=9)).outcome == "published"


def test_newest_request_of_a_batch_decides() -> None:
    """The newest sync request of a batch decides whether it is coalesced."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(5)
    requests = [webhook(rig, ago_s=30), webhook(rig, ago_s=1)]
    assert rig.sync(*requests).outcome == "unchanged"
    assert rig.sync(requests[0]).outcome == "coalesced"


@pytest.mark.parametrize("trigger", ["schedule", "manual"])
def test_manual_and_scheduled_requests_always_check(trigger: str) -> None:
    """Only webhooks and their follow-up are coalesced."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(5)
    old = webhook(rig, ago_s=60)
    assert rig.sync(replace(old, trigger=trigger)).outcome == "unchanged"
    assert rig.sync(old, replace(old, trigger=trigger)).outcome == "unchanged"


def test_unmet_request_is_not_coalesced() -> None:
    """An old request may still require a revision that the last check did not see."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(5)
    assert rig.sync(webhook(rig, "1", ago_s=60)).outcome == "coalesced"
    rig.provider.change(a=2)
    assert rig.sync(webhook(rig, "2", ago_s=60)).outcome == "published"


def test_followup_counts_from_when_it_is_due() -> None:
    """A check before that does not serve it."""
    rig = Rig()
    rig.sync()
    due = round((rig.clock.now() + 30) * 1000)
    followup = SyncRequest("prod", (), due, "followup")
    rig.clock.advance(20)
    rig.sync()
    rig.clock.advance(10)
    assert rig.sync(followup).outcome == "unchanged"
    rig.clock.advance(10)
    rig.sync()
    assert rig.sync(followup).outcome == "coalesced"


@pytest.mark.parametrize("since_ms", [0, 1, 400, 999, 1_000])
def test_checks_in_a_burst_are_a_second_apart(since_ms: int) -> None:
    """The next check waits for the rest of one second; a lone request never waits."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(since_ms / 1000)
    assert rig.sync(webhook(rig)).outcome == "unchanged"
    waits = [pytest.approx((SPACING_MS - since_ms) / 1000, abs=0.002)]
    assert rig.clock.slept == (waits if since_ms < SPACING_MS else [])


def test_clock_ahead_loses_no_request() -> None:
    """A check with a time in the future serves no request."""
    rig = Rig()
    rig.clock.advance(600)
    rig.sync()
    rig.clock.advance(-600 + 30)
    rig.provider.change(a=2)
    assert rig.sync(webhook(rig)).outcome == "published"
    assert rig.clock.slept == []
    assert rig.read() == {"a": 2}


def test_clock_ahead_does_not_postpone_verification() -> None:
    """A verification in the future is repeated by the clock of now."""
    rig = Rig()
    rig.clock.advance(30 * 24 * HOUR_S)
    rig.sync()
    rig.clock.advance(-30 * 24 * HOUR_S)
    rig.records[Key("prod:flags", "a")]["item"] = "other"
    rig.sync()
    assert rig.in_sync()
    rig.sync()
    assert rig.steps == ["next_token", "heartbeat"]


# -- fencing tokens --------------------------------------------------------------------------------


def test_recreated_table_issues_no_smaller_tokens() -> None:
    """A counter starts at the clock's seconds, so readers follow a recreated table."""
    rig = Rig()
    rig.sync()
    assert rig.state().published == int(rig.clock.now()) + 1
    for number in range(5):
        rig.provider.change(a=number)
        rig.sync()
    old = rig.state().published
    rig.records.clear()
    rig.clock.advance(60)
    rig.provider.change(a="again")
    rig.sync()
    assert rig.state().published == int(rig.clock.now()) + 1 > old


@pytest.mark.parametrize("jump_s", [-600, -30, 600, 86_400])
def test_clocks_do_not_order_publications(jump_s: float) -> None:
    """Whatever the clock does, the later fencing token is the later publication."""
    rig = Rig()
    for number in range(6):
        rig.provider.change(a=number)
        rig.sync()
        before = rig.state().published
        rig.clock.advance(jump_s * (-1) ** number)
        rig.provider.change(a=-number - 1)
        rig.sync()
        assert rig.state().published > before
        assert rig.read() == {"a": -number - 1}


# -- what is left behind ------------------------------------------------------------------------


def test_replicas_follow_the_setting() -> None:
    """As many snapshot records as configured are published; surplus ones are removed."""
    rig = Rig()
    for replicas in (3, 1):
        rig.sync(replicas=replicas)
        found = {key for key in rig.records if key.namespace.startswith("prod:$snapshot")}
        assert found == {snapshot_key("prod", replica) for replica in range(replicas)}
        rig.clock.advance(10)


def test_changed_provider_leaves_no_rows() -> None:
    """The former provider's SDKs must not read rows that are no longer updated."""
    rig = Rig({"a": LAUNCHDARKLY_FLAG})
    rig.provider.name = "launchdarkly"
    rig.sync(source=replace(SOURCE, provider="launchdarkly"))
    assert Key("prod:features", "a") in rig.records
    assert Key("prod:$inited", "prod:$inited") in rig.records
    rig.provider.name = "model"
    rig.clock.advance(10)
    rig.sync()
    assert {key.namespace for key in rig.records} == {
        "prod:$state",
        "prod:$snapshot",
        "prod:$history",
        "prod:flags",
    }


def test_finishing_rows_is_not_a_verification() -> None:
    """Only a check that also read the snapshot sets verified_at."""
    rig = Rig()
    rig.sync()
    verified_at = rig.state().verified_at
    rig.state_record().pop("rows_version")
    rig.clock.advance(10)
    rig.sync()
    assert rig.state().rows_version == rig.state().published
    assert rig.state().verified_at == verified_at


def test_slow_provider_is_reported() -> None:
    """The provider's error is reported, not the time-out that it caused."""
    rig = Rig()

    def slow() -> None:
        rig.clock.advance(7)
        message = "503"
        raise errors.ProviderUnavailableError(message)

    rig.provider.on_fetch = slow
    with pytest.raises(errors.ProviderUnavailableError):
        rig.sync(seconds=16)


def test_response_older_than_the_last_check_is_not_published() -> None:
    """A later check may have found the same content at a later revision."""
    rig = Rig({"a": 1}, revision=10, etags=False)
    rig.sync()
    rig.provider.on_fetch = responses(rig, (12, {"a": 1}))
    rig.sync()
    rig.provider.on_fetch = responses(rig, (9, {"a": 1}))
    rig.sync()
    assert rig.state().revision == 12
    rig.provider.on_fetch = responses(rig, (11, {"a": 2}), (12, {"a": 1}))
    assert rig.sync().outcome == "unchanged"
    assert rig.read() == {"a": 1}


def test_revisions_of_another_provider_are_not_compared() -> None:
    """LaunchDarkly's items have versions, Split's have none."""
    rig = Rig({"a": {"name": "a"}})
    rig.sync()
    rig.provider.name = "launchdarkly"
    rig.provider.is_older = get("launchdarkly").is_older  # type: ignore[method-assign]
    rig.provider.change(a=LAUNCHDARKLY_FLAG)
    report = rig.sync(source=replace(SOURCE, provider="launchdarkly"))
    assert (report.outcome, report.fetches) == ("published", 1)


def test_erosion_is_measured_from_an_allowed_set() -> None:
    """No version from before an allowed set is compared with."""
    rig = Rig(numbered(100))
    rig.sync()
    rig.clock.advance(90_000)
    rig.provider.flags, rig.provider.revision = numbered(40), 2
    with pytest.raises(errors.RefusedSetError) as refused:
        rig.sync()
    assert rig.sync(allow_shrink=refused.value.digest).outcome == "published"
    rig.provider.change(more=1)
    assert rig.sync().outcome == "published"
    rig.provider.flags, rig.provider.revision = numbered(30), 4
    assert rig.sync().outcome == "published"
    rig.provider.flags, rig.provider.revision = numbered(22), 5
    with pytest.raises(errors.RefusedSetError, match=r"18 .*of 40 .*the allowed set"):
        rig.sync()


def test_hourly_check_repairs_rows_when_it_publishes() -> None:
    """A source that changes all the time is verified as well."""
    rig = Rig({"a": 1, "b": 1})
    rig.sync()
    rig.records[Key("prod:flags", "b")]["item"] = "damaged"
    rig.clock.advance(VERIFY_MS / 1000)
    rig.provider.change(a=2)
    assert rig.sync().outcome == "published"
    assert rig.in_sync()


class ByItem(ModelProvider):
    """A provider whose revisions are those of its flags, as LaunchDarkly's are."""

    def satisfied(self, required: str, _revision: int, item: Callable[[str, str], Any]) -> bool:
        """Wanted is a flag and its value."""
        key, _, value = required.partition("=")
        return bool(item("flags", key) == int(value))


def test_required_item_is_looked_up_in_the_published_set() -> None:
    """The flag itself shows whether a request is served, in the store and the response."""
    rig = Rig()
    rig.provider = ByItem(flags={"a": 1, "b": 1})  # type: ignore[assignment]
    rig.provider.sent = []
    rig.sync()
    rig.clock.advance(60)
    assert rig.sync(webhook(rig, "a=1", ago_s=63)).outcome == "coalesced"
    assert rig.sync(webhook(rig, "a=2", ago_s=63)).behind
    rig.provider.change(a=2)
    report = rig.sync(webhook(rig, "a=2"))
    assert (report.outcome, report.behind) == ("published", False)


def test_response_without_etag_clears_the_old_one() -> None:
    """The old ETag would belong to other flags."""
    rig = Rig()
    rig.sync()
    assert rig.state().etag
    rig.provider.etags = False
    rig.provider.change(a=2)
    rig.sync()
    assert rig.state().etag == ""


class Limited(NoHttp):
    """Notes how long a fetch may take."""

    given: list[float]

    def within(self, total_s: float) -> NoHttp:
        """Note it."""
        self.given = [*getattr(self, "given", []), total_s]
        return self


@pytest.mark.parametrize("seconds", [300.0, 12.0])
def test_fetch_time_is_bounded(seconds: float) -> None:
    """A fetch has ten seconds, or less where the deadline is short."""
    rig, http = Rig(), Limited()
    deadline = Deadline(rig.clock, random.Random(1), seconds)
    limits = Limits()
    Sync(SOURCE, rig.provider, rig.store(), http=http, deadline=deadline).run([SCHEDULE])
    left = seconds - limits.publish_s
    assert http.given == [pytest.approx(min(limits.fetch_s, left))]


def overtaken_at(rig: Rig, step: str, **flags: int) -> Callable[[str], None]:
    """Return a function that lets another writer publish these flags before the first such step."""

    def publish() -> None:
        rig.provider.change(**flags)
        rival(rig)()

    overtake = once(publish)
    return lambda name: overtake() if name == step else None


def test_rows_are_left_to_a_later_publisher() -> None:
    """The later writer writes the rows; the earlier publication is still reported."""
    rig = Rig()
    rig.sync()
    rig.provider.change(a=2)
    report = rig.sync(store=rig.store(overtaken_at(rig, "project", a=3)))
    assert (report.outcome, report.rows_error) == ("published", "")
    assert report.token < rig.state().published
    assert rig.in_sync()


def test_rows_behind_are_left_to_a_publisher_in_between() -> None:
    """A set published between heartbeat and rows gets its rows from its writer."""
    rig = Rig()
    rig.sync()
    rig.state_record().pop("rows_version")
    rig.clock.advance(60)
    report = rig.sync(store=rig.store(overtaken_at(rig, "read", a=2)))
    assert (report.outcome, report.rows_error) == ("unchanged", "")
    assert rig.writes() == ["next_token", "heartbeat"]
    assert rig.in_sync()


def test_hourly_check_expires_chunks_of_a_killed_writer() -> None:
    """Also where no other set is published in chunks."""
    rig = Rig()
    rig.sync()
    rig.provider.change(**large(1))
    with pytest.raises(KeyboardInterrupt):
        rig.sync(store=rig.store(failing_at("publish", KeyboardInterrupt())))
    orphan = chunks_of(rig.records, rig.state().issued)[0]
    rig.provider.change(**dict.fromkeys(large(1)), a=2)
    assert rig.sync().outcome == "published"
    assert "expires_at" not in rig.records[orphan]
    rig.clock.advance(VERIFY_MS / 1000)
    assert rig.sync().outcome == "unchanged"
    assert "expires_at" in rig.records[orphan]
    assert rig.in_sync()
