"""One pipeline for every sync request: its cost, refusals and repairs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.keys import Key, SnapshotRecord, history_key, snapshot_key, state_key
from simulators.launchdarkly_flags import new_flag
from simulators.provider import SOURCE, ModelProvider
from simulators.reader_store import chunks_of
from storesync import errors
from storesync.model import Source, SyncRequest
from storesync.pipeline import HOLD_MS, MARGIN_MS, SPACING_MS, VERIFY_MS
from storesync.providers import get
from storesync.retry import Limits
from unit.pipeline_rig import HOUR_S, Rig, large, once

if TYPE_CHECKING:
    from collections.abc import Callable

UNCHANGED = ["next_token", "heartbeat"]
PUBLISHED = ["next_token", "publish", "project"]


def numbered(count: int) -> dict[str, int]:
    return {f"f{number:04d}": number for number in range(count)}


def raising(*faults: Exception) -> Callable[[], None]:
    left = list(faults)

    def on_fetch() -> None:
        if left:
            raise left.pop(0)

    return on_fetch


def responses(rig: Rig, *states: tuple[int, dict[str, Any]]) -> Callable[[], None]:
    """Return a function that makes the provider serve these states in turn, then the last."""
    left = list(states)

    def on_fetch() -> None:
        rig.provider.revision, rig.provider.flags = left.pop(0) if len(left) > 1 else left[0]

    return on_fetch


def webhook(rig: Rig, *required: str, ago_s: float = 0.0) -> SyncRequest:
    """Return a sync request that was sent this many seconds ago."""
    return SyncRequest("prod", required, round((rig.clock.now() - ago_s) * 1000))


def synced(flags: dict[str, Any] | None = None, seconds: float = 60, **model: Any) -> Rig:
    rig = Rig(flags, **model)
    rig.sync()
    rig.clock.advance(seconds)
    return rig


# -- what it costs ------------------------------------------------------------------------------


def test_first_check_publishes() -> None:
    """Readers and rows show the provider's flags, under a token not below the clock's seconds."""
    rig = Rig(numbered(5))
    report = rig.sync()
    assert (report.outcome, report.fetches, report.counts["flags"]) == ("published", 1, 5)
    assert report.changes.added == tuple(("flags", key) for key in numbered(5))
    assert rig.writes() == PUBLISHED
    assert rig.in_sync()
    state = rig.state()
    assert state.published == state.token == state.rows_version == report.token
    assert report.token == int(rig.clock.now()) + 1
    assert report.digest == state.digest


def test_etag_of_the_last_response_is_sent() -> None:
    """Not modified, or the same content under a new ETag, is unchanged; none clears the old one."""
    rig = synced()
    for sent, change, outcome in (
        ('"1"', None, "unchanged"),
        ('"1"', {}, "unchanged"),
        ('"2"', None, "unchanged"),
        ('"2"', {"a": 2}, "published"),
        ('"3"', None, "unchanged"),
    ):
        if change is not None:
            rig.provider.change(**change)
        report = rig.sync()
        assert (rig.provider.sent, report.outcome) == ([sent], outcome)
        assert rig.state().checked_at == report.checked_at == round(rig.clock.now() * 1000)
        assert rig.state().revision == rig.provider.revision
        rig.clock.advance(1)
    rig.provider.etags = False
    rig.provider.change(a=3)
    rig.sync()
    assert rig.state().etag == ""


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
    rig = synced()
    assert rig.sync(source=source).outcome == "published"
    assert rig.provider.sent == [""]
    assert rig.state().config_fingerprint == source.fingerprint() != SOURCE.fingerprint()
    rig.sync(source=source)
    assert (rig.provider.sent, rig.steps) == (['"1"'], UNCHANGED)


# -- verification -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        {"body": b"other"},
        {"index_digest": "0" * 64},
        {"digest": "0" * 64},
        {"provider": None},
        {"token": 1},
        {"chunks": "[1,"},
        dict.fromkeys(SnapshotRecord._fields),
    ],
)
def test_hourly_check_repairs_damaged_snapshot(damage: dict[str, Any]) -> None:
    """Readers get a whole set again, though the provider has nothing new."""
    rig = synced(seconds=HOUR_S - 1)
    rig.update(snapshot_key("prod"), **damage)
    assert rig.sync().outcome == "unchanged"
    rig.clock.advance(1)
    assert rig.sync().outcome == "published"
    assert rig.in_sync()


@pytest.mark.parametrize("damage", [{"token": 1}, dict.fromkeys(SnapshotRecord._fields)])
def test_hourly_check_repairs_a_replica_of_the_snapshot_record(damage: dict[str, Any]) -> None:
    """One that differs, or that no reader understands."""
    rig = Rig()
    rig.sync(replicas=2)
    rig.clock.advance(HOUR_S)
    rig.update(snapshot_key("prod", 1), **damage)
    assert rig.sync(replicas=2).outcome == "published"
    rig.clock.advance(HOUR_S)
    assert rig.sync(replicas=2).outcome == "unchanged"


@pytest.mark.parametrize("damage", ["removed", "expired", "replaced"])
def test_hourly_check_repairs_a_damaged_chunk(damage: str) -> None:
    """A large body is published again; DynamoDB leaves a stub of a chunk that had expired."""
    rig = synced(large(1), HOUR_S)
    key = chunks_of(rig.records, rig.state().published)[1]
    if damage == "removed":
        del rig.records[key]
    else:
        rig.update(key, body=None if damage == "expired" else b"other", expires_at=1)
    assert rig.sync().outcome == "published"
    assert rig.read() == rig.provider.flags


def test_change_repairs_damaged_snapshot_at_once() -> None:
    """A new set is published over a damaged snapshot, and all rows are compared."""
    rig = synced({"a": 1, "b": 1})
    rig.damage()
    del rig.records[Key("prod:flags", "b")]
    rig.provider.change(a=2)
    report = rig.sync()
    assert (report.outcome, report.changes.changed) == ("published", (("flags", "a"),))
    assert rig.in_sync()


@pytest.mark.parametrize("change", [{}, {"f0003": -3}])
def test_hourly_check_repairs_rows(change: dict[str, Any]) -> None:
    """Rows that were lost, changed or added are fixed, whether or not the set has changed."""
    rig = synced(numbered(5))
    del rig.records[Key("prod:flags", "f0000")]
    rig.update(Key("prod:flags", "f0001"), item="-1")
    foreign, neighbour = Key("prod:flags", "foreign"), Key("prod-eu:flags", "a")
    for key in (foreign, neighbour):
        rig.records[key] = {**key._asdict(), "item": "1"}
    rig.sync()
    assert not rig.in_sync()
    rig.clock.advance(HOUR_S)
    rig.provider.change(**change)
    assert rig.sync().outcome == ("published" if change else "unchanged")
    assert rig.in_sync()
    assert neighbour in rig.records


def test_finishing_rows_is_not_a_verification() -> None:
    """Only a check that also read the snapshot sets verified_at."""
    rig = synced()
    verified_at = rig.state().verified_at
    rig.update(state_key("prod"), rows_version=None)
    rig.sync()
    assert rig.state().rows_version == rig.state().published
    assert rig.state().verified_at == verified_at


# -- a provider that lags -----------------------------------------------------------------------


def test_required_revisions_are_awaited() -> None:
    """The newest of a batch counts; only fetches after an unmet one are told to bypass caches."""
    rig = synced()
    unmet: list[tuple[str, ...]] = []

    def catch_up() -> None:
        unmet.append(rig.provider.unmet)
        if rig.provider.fetches == 2:
            rig.provider.change(a=2)

    rig.provider.on_fetch = catch_up
    report = rig.sync(webhook(rig, "2"), webhook(rig, "1"))
    assert (report.outcome, report.behind, report.fetches) == ("published", False, 3)
    assert rig.writes() == ["next_token", "next_token", *PUBLISHED]
    assert rig.clock.slept == [0.2, 0.4]
    assert [*unmet, rig.provider.unmet] == [(), (), ("1", "2"), ("1", "2")]


@pytest.mark.parametrize(
    ("change", "seconds", "fetches", "outcome"),
    [
        ({}, 300, 6, "unchanged"),
        ({"a": 2}, 300, 6, "published"),
        ({"a": 2}, Limits().publish_s + 0.1, 1, "published"),
    ],
)
def test_waiting_for_a_revision_is_bounded(
    change: dict[str, Any], seconds: float, fetches: int, outcome: str
) -> None:
    """Then a newer set is published even if it is not new enough, and the report says so."""
    rig = synced()
    rig.provider.change(**change)
    report = rig.sync(webhook(rig, "9"), seconds=seconds)
    assert (report.outcome, report.behind) == (outcome, True)
    assert report.fetches <= fetches
    assert sum(rig.clock.slept) <= Limits().settle_s


def test_required_item_is_looked_up() -> None:
    """As with LaunchDarkly: in the published set, before a fetch; then in the response."""
    rig = synced()
    rig.provider.satisfied = lambda wanted, _, item: item("flags", "a") == int(wanted)  # type: ignore[method-assign]
    assert rig.sync(webhook(rig, "1", ago_s=63)).outcome == "coalesced"
    assert rig.sync(webhook(rig, "2", ago_s=63)).behind
    rig.provider.change(a=2)
    report = rig.sync(webhook(rig, "2"))
    assert (report.outcome, report.behind) == ("published", False)


# -- a provider that goes back ------------------------------------------------------------------


def test_older_response_is_confirmed() -> None:
    """It is asked for twice more; if it persists, the sync request is repeated later."""
    rig = synced({"a": "new"}, revision=7)
    rig.provider.on_fetch = responses(rig, (6, {"a": "old"}), (7, {"a": "new"}))
    report = rig.sync()
    assert (report.outcome, report.fetches) == ("unchanged", 2)
    rig.provider.on_fetch = responses(rig, *((6, {"a": number % 2}) for number in range(30)))
    with pytest.raises(errors.SuspectSetError) as caught:
        rig.sync()
    assert (rig.provider.fetches, rig.clock.slept) == (3, [1.0, 1.0])
    assert caught.value.retryable
    with pytest.raises(errors.SuspectSetError, match="older than the published one"):
        rig.sync(seconds=0.9, limits=Limits(publish_s=0.6))
    assert rig.read() == {"a": "new"}


def test_older_set_that_persists_is_published() -> None:
    """After minutes without another response, at a scheduled check."""
    rig = synced({"a": "new"}, revision=7)
    older, newer = (1, {"a": "again"}), (7, {"a": "new"})
    for response, outcome in ((older, ""), (newer, "unchanged"), (older, ""), (older, "published")):
        rig.clock.advance(HOLD_MS / 1000)
        rig.provider.on_fetch = responses(rig, response)
        if outcome == "published":
            with pytest.raises(errors.SuspectSetError):
                rig.sync(webhook(rig))
        with nullcontext() if outcome else pytest.raises(errors.SuspectSetError):
            assert rig.sync().outcome == outcome
    assert rig.read() == {"a": "again"}
    assert (rig.state().revision, rig.state().suspect) == (1, "")


def test_response_older_than_the_last_check_is_not_published() -> None:
    """A later check may have found the same content at a later revision."""
    rig = synced({"a": 1}, revision=10, etags=False)
    for revision in (12, 9):
        rig.provider.on_fetch = responses(rig, (revision, {"a": 1}))
        rig.sync()
    assert rig.state().revision == 12
    rig.provider.on_fetch = responses(rig, (11, {"a": 2}), (12, {"a": 1}))
    assert rig.sync().outcome == "unchanged"
    assert rig.read() == {"a": 1}


def test_changed_provider() -> None:
    """Revisions of two providers are not compared, and no rows of the former one stay."""
    rig = synced({"a": {"name": "a"}})
    rig.provider.name = "launchdarkly"
    rig.provider.is_older = get("launchdarkly").is_older  # type: ignore[method-assign]
    rig.provider.change(a=new_flag("a"))
    report = rig.sync(source=replace(SOURCE, provider="launchdarkly"))
    assert (report.outcome, report.fetches) == ("published", 1)
    namespaces = {"prod:$state", "prod:$snapshot", "prod:$history", "prod:features", "prod:$inited"}
    assert {key.namespace for key in rig.records} == namespaces


# -- a provider that fails ----------------------------------------------------------------------


def test_transient_faults_are_retried() -> None:
    """Up to three times, each under a new token; then the request returns to the queue."""
    unavailable, malformed = errors.ProviderUnavailableError("503"), errors.MalformedResponseError
    rig = synced()
    rig.provider.change(a=2)
    rig.provider.on_fetch = raising(unavailable, malformed("half a set"), unavailable)
    report = rig.sync()
    assert (report.outcome, report.fetches) == ("published", 4)
    assert rig.writes() == [*["next_token"] * 3, *PUBLISHED]
    assert len(rig.clock.slept) == 3
    assert all(seconds <= 5.0 for seconds in rig.clock.slept)
    before, state = rig.data(), rig.state()
    rig.provider.on_fetch = raising(*[unavailable] * 9)
    with pytest.raises(errors.ProviderUnavailableError):
        rig.sync()
    assert rig.data() == before
    issued = {"issued": state.issued + 4, "issued_nonce": rig.state().issued_nonce}
    assert rig.state() == state._replace(**issued)


@pytest.mark.parametrize(
    "fault", [errors.CredentialsRefusedError("401"), errors.EndpointNotFoundError("404")]
)
def test_final_fault_is_raised_at_once(fault: Exception) -> None:
    """Refused credentials and wrong addresses are not retried; the published set stays."""
    rig = synced()
    before = rig.data()
    rig.provider.on_fetch = raising(fault)
    with pytest.raises(type(fault)):
        rig.sync()
    assert (rig.writes(), rig.clock.slept) == (["next_token"], [])
    assert rig.data() == before


def test_retry_after_is_honored() -> None:
    """To the second; if no time would be left to publish, the request is returned at once."""
    rig = Rig()
    for asked, slept in ((17.0, [17.0]), (57.0, [])):
        rig.provider.on_fetch = raising(errors.ProviderUnavailableError("429", retry_after_s=asked))
        with nullcontext() if slept else pytest.raises(errors.ProviderUnavailableError):
            rig.sync(seconds=60)
        assert rig.clock.slept == slept


def test_slow_provider_is_reported() -> None:
    rig = Rig()

    def slow() -> None:
        rig.clock.advance(7)
        raise errors.ProviderUnavailableError("503")

    rig.provider.on_fetch = slow
    with pytest.raises(errors.ProviderUnavailableError):
        rig.sync(seconds=16)


def test_nan_is_malformed() -> None:
    """Values that JSON cannot represent never reach the store."""
    rig = synced()
    rig.provider.change(a=float("nan"))
    with pytest.raises(errors.MalformedResponseError, match="JSON"):
        rig.sync()
    assert rig.read() == {"a": 1}


@pytest.mark.parametrize("seconds", [300.0, 12.0])
def test_fetch_time_is_bounded(seconds: float) -> None:
    """A fetch has ten seconds, or less where the deadline is short."""
    rig, limits = Rig(), Limits()
    rig.sync(seconds=seconds)
    assert rig.provider.given == [pytest.approx(min(limits.fetch_s, seconds - limits.publish_s))]


def test_no_fetch_without_time_to_publish() -> None:
    """The request is repeated."""
    rig = Rig()
    with pytest.raises(errors.OutOfTimeError) as caught:
        rig.sync(seconds=3.9)
    assert caught.value.retryable
    assert (rig.provider.fetches, rig.data()) == (0, {})


# -- the guard; tests/torture/test_writes.py has its limits ----------------------------------------


def test_accepted_set_clears_the_refusal() -> None:
    """A provider that recovers on its own needs no operator."""
    rig = synced(numbered(100))
    before = rig.data()
    rig.provider.serve({})
    with pytest.raises(errors.RefusedSetError, match="all 100 flags are gone") as caught:
        rig.sync()
    assert not caught.value.retryable
    assert (rig.data(), rig.state().refused) == (before, caught.value.digest)
    rig.provider.serve(numbered(100))
    assert rig.sync().outcome == "unchanged"
    assert rig.state().refused == ""


def test_slow_erosion_is_refused() -> None:
    """Measured from the set of a day ago, but not from before an allowed set."""
    rig = synced(numbered(100), 10 * HOUR_S)
    rig.provider.serve(numbered(80))
    assert rig.sync().outcome == "published"
    rig.clock.advance(15 * HOUR_S)
    rig.provider.serve(numbered(40))
    with pytest.raises(errors.RefusedSetError, match="of 80 flags") as caught:
        rig.sync()
    rig.provider.serve(numbered(65))
    with pytest.raises(errors.RefusedSetError, match=r"35 .*of 100 .*a day ago"):
        rig.sync()
    rig.provider.serve(numbered(40))
    assert rig.sync(allow_shrink=caught.value.digest).outcome == "published"
    rig.provider.serve(numbered(30))
    assert rig.sync().outcome == "published"
    rig.provider.serve(numbered(22))
    with pytest.raises(errors.RefusedSetError, match=r"18 .*of 40 .*the allowed set"):
        rig.sync()


def test_damaged_history_does_not_refuse() -> None:
    """If the version of a day ago is damaged, only the published set is compared."""
    rig = synced(numbered(100), 25 * HOUR_S)
    first = rig.state().published
    rig.provider.change(f0000=None)
    rig.sync()
    rig.update(history_key("prod", first), body=b"other")
    rig.provider.change(f0001=None)
    assert rig.sync().outcome == "published"


@pytest.mark.parametrize("damage", ["damaged", "damaged and verified", "newer than the state"])
def test_damaged_snapshot_does_not_admit_an_empty_set(damage: str) -> None:
    """The copy in the history is compared; items of a restored table may be moments apart."""
    rig = synced(numbered(100))
    if damage == "newer than the state":
        state = dict(rig.records[state_key("prod")])
        rig.provider.change(f0000=None)
        rig.sync()
        rig.records[state_key("prod")] = {**state, "issued": rig.state().issued}
    else:
        rig.damage()
    if damage == "damaged and verified":
        rig.clock.advance(HOUR_S)
    rig.provider.serve({})
    with pytest.raises(errors.RefusedSetError, match="all 100 flags are gone"):
        rig.sync()
    rig.provider.serve(numbered(99))
    report = rig.sync()
    assert (report.outcome, report.changes.removed) == ("published", (("flags", "f0099"),))
    assert rig.in_sync()


# -- overlapping checks: tests/faults/test_interleavings.py has all, but not what they cost --------


def rival(rig: Rig) -> Rig:
    """Return the rig of another sync, over the same provider and store."""
    other = Rig()
    other.clock, other.records = rig.clock, rig.records
    other.provider = ModelProvider(rig.provider.flags, revision=rig.provider.revision)  # type: ignore[assignment]
    other.provider.sent, other.provider.within = [], rig.provider.within  # type: ignore[method-assign]
    return other


def pin(rig: Rig, seconds: float = 60) -> None:
    rig.update(state_key("prod"), pinned=round((rig.clock.now() + seconds) * 1000))


def complete_earlier(rig: Rig) -> None:
    """Complete a check with a token from before this sync's."""
    rig.update(state_key("prod"), token=rig.state().issued - 1)


@pytest.mark.parametrize(
    ("meanwhile", "required", "outcome", "fetches"),
    [
        (lambda rig: rival(rig).sync(), (), "superseded", 1),
        (lambda rig: (rival(rig).sync(), rig.provider.change(a=3)), ("3",), "published", 2),
        (complete_earlier, (), "published", 2),
        (pin, (), "pinned", 1),
    ],
)
def test_overtaken_sync(
    meanwhile: Callable[[Rig], Any], required: tuple[str, ...], outcome: str, fetches: int
) -> None:
    """A later token means a later fetch, unless its set is too old. An earlier one serves none."""
    rig = synced()
    rig.provider.change(a=2)
    rig.store().next_token("prod", 0)
    rig.provider.on_fetch = once(lambda: meanwhile(rig))
    report = rig.sync(webhook(rig, *required))
    assert (report.outcome, report.fetches) == (outcome, fetches)
    assert report.token == rig.state().token
    assert rig.in_sync() == (outcome != "pinned")


def test_pinned_source_is_not_fetched() -> None:
    """While pinned there is no fetch and no heartbeat; the next check publishes."""
    rig = synced()
    pin(rig)
    rig.provider.change(a=2)
    assert rig.sync().outcome == "pinned"
    assert (rig.writes(), rig.provider.fetches) == (["next_token"], 0)
    rig.clock.advance(60)
    assert rig.sync().outcome == "published"


def test_sync_that_is_always_overtaken_gives_up() -> None:
    """The fencing tokens of one sync are bounded; then the request is repeated."""
    rig = synced()
    rig.provider.change(a=2)
    tokens = count(1)
    rig.provider.on_fetch = lambda: rig.update(state_key("prod"), token=next(tokens))
    with pytest.raises(errors.NotSettledError) as caught:
        rig.sync()
    assert caught.value.retryable
    assert rig.writes() == ["next_token", "publish"] * Limits().tokens


@pytest.mark.parametrize("lost", ["the token", "the last check as well"])
@pytest.mark.parametrize("others", [0, 1, 2])
def test_sync_whose_token_the_store_lost_fetches_again(lost: str, others: int) -> None:
    """Its token is issued again with another nonce: the sync does not mistake it for its own."""
    rig = synced()
    kept = dict(rig.records)
    rig.sync()
    if lost == "the token":
        kept = dict(rig.records)
    rig.provider.change(a=2)

    def lose() -> None:
        rig.records.clear()
        rig.records.update(kept)
        if others:
            rig.provider.change(a=3)
            rival(rig).sync()
        if others > 1:  # another one has begun
            rival(rig).store().next_token("prod", 0)

    rig.provider.on_fetch = once(lose)
    report = rig.sync()
    assert rig.writes().count("next_token") == 2
    assert report.outcome == ("unchanged" if others else "published")
    assert report.token == rig.state().token
    assert rig.read() == rig.provider.flags


@pytest.mark.parametrize("step", ["project", "read"])
def test_rows_are_left_to_a_publisher_in_between(step: str) -> None:
    """A set published before the rows gets them from its writer; the report has no error."""
    rig = synced()
    if step == "project":
        rig.provider.change(a=2)
    else:
        rig.update(state_key("prod"), rows_version=None)

    def overtake() -> None:
        rig.provider.change(a=3)
        rival(rig).sync()

    report = rig.sync(store=rig.store(once(overtake, step)))
    assert report.outcome == ("published" if step == "project" else "unchanged")
    assert (report.rows_error, report.token < rig.state().published) == ("", True)
    assert rig.in_sync()


# -- cut off; tests/faults/test_kill_points.py has every step --------------------------------------


@pytest.mark.parametrize(
    ("error", "change"),
    [(errors.StoreError("throttled"), {}), (errors.OutOfTimeError("late"), {"f0000": -1})],
)
def test_failed_rows_are_finished_by_the_next_check(
    error: Exception, change: dict[str, Any]
) -> None:
    """The set is still published, and the report has the reason why the rows are behind."""
    rig = synced({"z": 1})
    rig.provider.serve(numbered(250))

    def fail(name: str) -> None:
        if name == "project" and rig.writes().count("project") == 2:
            raise error

    report = rig.sync(store=rig.store(fail))
    assert (report.outcome, report.rows_error) == ("published", str(error))
    assert rig.read() == rig.provider.flags
    assert len(rig.rows()) == 1 + 99
    rig.provider.change(**change)
    report = rig.sync()
    assert (report.outcome, report.rows_error) == ("published" if change else "unchanged", "")
    assert rig.provider.sent == ['"2"']
    assert rig.in_sync()


def test_hourly_check_expires_chunks_of_a_killed_writer() -> None:
    """Also where no other set is published in chunks."""
    rig = synced()
    rig.provider.change(**large(1))

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rig.sync(store=rig.store(once(die, "publish")))
    orphan = chunks_of(rig.records, rig.state().issued)[0]
    rig.provider.serve({"a": 2})
    assert rig.sync().outcome == "published"
    assert "expires_at" not in rig.records[orphan]
    rig.clock.advance(VERIFY_MS / 1000)
    assert rig.sync().outcome == "unchanged"
    assert "expires_at" in rig.records[orphan]


# -- coalescing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", ["webhook", "followup", "schedule", "manual"])
@pytest.mark.parametrize("early_ms", [MARGIN_MS + 1, MARGIN_MS])
def test_request_older_than_a_check_is_coalesced(trigger: str, early_ms: int) -> None:
    """A webhook sent two seconds before a check began needs no fetch and no token."""
    rig = synced(seconds=5)
    started_at = rig.state().checked_at
    coalesced = early_ms > MARGIN_MS and trigger in {"webhook", "followup"}
    report = rig.sync(SyncRequest("prod", (), started_at - early_ms, trigger))
    assert report.outcome == ("coalesced" if coalesced else "unchanged")
    assert (rig.writes() == [], rig.provider.fetches == 0) == (coalesced, coalesced)
    assert not coalesced or report.checked_at == started_at


def test_request_during_a_fetch_is_not_coalesced() -> None:
    rig = Rig()
    rig.provider.on_fetch = once(lambda: rig.clock.advance(8))
    started_at = round(rig.clock.now() * 1000)
    rig.sync()
    assert rig.state().checked_at == started_at
    rig.clock.advance(5)
    rig.provider.change(a=2)
    assert rig.sync(webhook(rig, ago_s=9)).outcome == "published"


def test_newest_and_unmet_requests_of_a_batch_decide() -> None:
    """One that is new, requires an unseen revision, or is scheduled makes all of them check."""
    rig = synced(seconds=5)
    old = webhook(rig, "1", ago_s=60)
    scheduled = replace(old, trigger="schedule")
    assert rig.sync(old, old).outcome == "coalesced"
    for other in (webhook(rig, ago_s=1), webhook(rig, "2", ago_s=60), scheduled):
        assert rig.sync(old, other).outcome == "unchanged"


@pytest.mark.parametrize("since_ms", [0, 999, 1_000])
def test_checks_in_a_burst_are_a_second_apart(since_ms: int) -> None:
    """The next check waits for the rest of one second; a lone request never waits."""
    rig = synced(seconds=since_ms / 1000)
    assert rig.sync(webhook(rig)).outcome == "unchanged"
    waits = [pytest.approx((SPACING_MS - since_ms) / 1000, abs=0.002)]
    assert rig.clock.slept == (waits if since_ms < SPACING_MS else [])


def test_clock_ahead_postpones_nothing() -> None:
    """A check in the future serves no request, and its verification is repeated."""
    rig = Rig({"a": 1, "b": 1})
    rig.clock.advance(30 * 24 * HOUR_S)
    rig.sync()
    rig.clock.advance(-30 * 24 * HOUR_S)
    rig.provider.change(a=2)
    rig.update(Key("prod:flags", "b"), item="0")
    assert rig.sync(webhook(rig)).outcome == "published"
    assert rig.clock.slept == []
    assert rig.in_sync()
    rig.sync()
    assert rig.steps == UNCHANGED
