"""Details of the pipeline that no other test sees: pauses, margins and counts."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.keys import snapshot_key
from simulators.memory_store import MemoryStore
from simulators.provider import ModelProvider, NoHttp
from simulators.reader_store import chunks_of
from storesync import pipeline
from storesync.errors import RefusedSetError
from storesync.pipeline import Sync
from storesync.retry import Deadline
from unit.test_pipeline import (
    SCHEDULE,
    SOURCE,
    Rig,
    failing_at,
    large,
    once,
    rival,
    webhook,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class ByItem(ModelProvider):
    """A provider whose revisions are those of its flags, as LaunchDarkly's are."""

    def satisfied(self, required: str, _revision: int, item: Callable[[str, str], Any]) -> bool:
        """Wanted is a flag and its value."""
        key, _, value = required.partition("=")
        return bool(item("flags", key) == int(value))


def test_what_is_published_is_asked_for_the_required_item() -> None:
    """The flag itself shows that a check has served a request, in the store and the response."""
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


def test_an_response_without_an_etag_clears_the_one_before() -> None:
    """The old ETag would belong to other flags."""
    rig = Rig()
    rig.sync()
    assert rig.state().etag
    rig.provider.etags = False
    rig.provider.change(a=2)
    rig.sync()
    assert rig.state().etag == ""


def test_without_a_word_there_is_one_snapshot_and_nothing_is_allowed() -> None:
    """A sync that is told neither replicas nor a digest."""
    rig = Rig()
    rng = random.Random(1)
    store, deadline = MemoryStore(rig.records), Deadline(rig.clock, rng, 60)
    Sync(SOURCE, rig.provider, store, http=NoHttp(), deadline=deadline).run([SCHEDULE])
    assert snapshot_key("prod") in rig.records
    assert snapshot_key("prod", 1) not in rig.records


def test_a_coalesced_request_does_not_lag() -> None:
    """What needs no fetch leaves nothing to wait for."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(60)
    report = rig.sync(webhook(rig, ago_s=63))
    assert (report.outcome, report.behind) == ("coalesced", False)


def test_the_margins_are_those_of_the_page() -> None:
    """Two seconds between clocks, one between checks, an hour between verifications."""
    margins = (pipeline.MARGIN_MS, pipeline.SPACING_MS, pipeline.VERIFY_MS)
    assert margins == (2_000, 1_000, 3_600_000)


def test_the_fingerprint_is_short() -> None:
    """The source state stays small."""
    assert len(SOURCE.fingerprint(1)) == 16


def test_the_fingerprint_names_what_a_source_keeps_besides() -> None:
    """Other values here would publish every source anew with the release that brings them."""
    plain, split = replace(SOURCE, provider="unleash"), replace(SOURCE, provider="split")
    found = [
        source.fingerprint()
        for source in (
            plain,
            replace(plain, document=True),
            split,
            replace(split, store="redis"),
        )
    ]
    assert found == [
        "372264ea88973ebc",
        "8a6397efedfec801",
        "93e9bab4091f6528",
        "3c5449944cc2b5c3",
    ]


def test_a_burst_waits_to_the_millisecond() -> None:
    """Right after a check, the whole second."""
    rig = Rig()
    rig.sync()
    rig.sync(webhook(rig))
    assert rig.clock.slept == [1.0]


class Limited(NoHttp):
    """Notes how long a fetch may take."""

    given: list[float]

    def within(self, total_s: float) -> NoHttp:
        """Note it."""
        self.given = [*getattr(self, "given", []), total_s]
        return self


@pytest.mark.parametrize("seconds", [300.0, 12.0])
def test_a_fetch_may_take_what_publishing_does_not_need(seconds: float) -> None:
    """Ten seconds, or less where the deadline is short: time to publish is kept."""
    rig, http = Rig(), Limited()
    deadline = Deadline(rig.clock, random.Random(1), seconds)
    limits = pipeline.Limits()
    Sync(SOURCE, rig.provider, rig.store(), http=http, deadline=deadline).run([SCHEDULE])
    left = seconds - limits.publish_s
    assert http.given == [pytest.approx(min(limits.fetch_s, left))]


def test_a_refusal_says_what_it_was_compared_with() -> None:
    """With what is published now."""
    rig = Rig({f"f{n}": n for n in range(20)})
    rig.sync()
    rig.provider.flags = {}
    rig.provider.change()
    with pytest.raises(RefusedSetError, match="compared with now;"):
        rig.sync()


def test_who_was_overtaken_draws_again_after_a_moment() -> None:
    """At most a twentieth of a second, by chance, so that two do not meet again."""
    rig = Rig()
    rig.sync()
    rig.clock.advance(60)
    rig.provider.reveals_revision = False

    def other() -> None:
        rig.provider.change(a=2)
        deadline = Deadline(rig.clock, random.Random(2), 60)
        Sync(SOURCE, rig.provider, MemoryStore(rig.records), http=NoHttp(), deadline=deadline).run(
            [SCHEDULE]
        )
        rig.provider.change(a=3)

    rig.provider.on_fetch = once(other)
    assert rig.sync(webhook(rig, "9")).outcome in {"published", "unchanged"}
    assert rig.clock.slept
    assert all(0 < slept < 10 for slept in rig.clock.slept)
    assert rig.in_sync()


def overtaken_at(rig: Rig, step: str, **flags: int) -> Callable[[str], None]:
    """Return what lets another writer publish these flags before the first step of this name."""

    def publish() -> None:
        rig.provider.change(**flags)
        rival(rig)()

    overtake = once(publish)
    return lambda name: overtake() if name == step else None


def test_who_loses_its_rows_to_a_later_writer_has_published() -> None:
    """The later writer brings the rows; what was published before is still reported."""
    rig = Rig()
    rig.sync()
    rig.provider.change(a=2)
    report = rig.sync(store=rig.store(overtaken_at(rig, "project", a=3)))
    assert (report.outcome, report.rows_error) == ("published", "")
    assert report.token < rig.state().published
    assert rig.in_sync()


def test_rows_that_trail_are_left_to_who_publishes_meanwhile() -> None:
    """Between heartbeat and rows the snapshot became a later one: its writer brings the rows."""
    rig = Rig()
    rig.sync()
    rig.state_record().pop("rows_version")
    rig.clock.advance(60)
    report = rig.sync(store=rig.store(overtaken_at(rig, "read", a=2)))
    assert (report.outcome, report.rows_error) == ("unchanged", "")
    assert rig.writes() == ["next_token", "heartbeat"]
    assert rig.in_sync()


def test_the_hourly_check_lets_chunks_of_a_writer_that_died_expire() -> None:
    """Also where nobody publishes in chunks again, which would let them expire as well."""
    rig = Rig()
    rig.sync()
    rig.provider.change(**large(1))
    with pytest.raises(KeyboardInterrupt):
        rig.sync(store=rig.store(failing_at("publish", KeyboardInterrupt())))
    orphan = chunks_of(rig.records, rig.state().issued)[0]
    rig.provider.change(**dict.fromkeys(large(1)), a=2)
    assert rig.sync().outcome == "published"
    assert "expires_at" not in rig.records[orphan]
    rig.clock.advance(pipeline.VERIFY_MS / 1000)
    assert rig.sync().outcome == "unchanged"
    assert "expires_at" in rig.records[orphan]
    assert rig.in_sync()
