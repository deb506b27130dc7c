"""The steps that change the store: what a publication consists of, is kept, and expires."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagstore import layout
from flagstore.encoding import encode
from flagstore.layout import (
    Head,
    Key,
    Publication,
    Pulse,
    Version,
    head_key,
    history_key,
    piece_key,
)
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.reader_store import pieces_of
from storesync.errors import CorruptStoreError, FenceLostError
from storesync.expiry import INTENT_TTL_S, PIECE_TTL_S, Expiry, intent
from storesync.model import Changes, FlagSet
from storesync.publisher import (
    MAX_NAMES,
    Check,
    Publisher,
)
from storesync.readback import Readback
from storesync.retention import DAY_MS, KEPT_VERSIONS, THIN_MS, day_ago, retained
from storesync.stores.base import record_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flagstore.layout import Record

HOUR_S = 3_600


class Rig:
    """A publisher over a memory store, and the names of the steps it took."""

    def __init__(self, replicas: int = 1) -> None:
        self.clock = FakeClock()
        self.steps: list[str] = []
        self.store = MemoryStore(step=self.steps.append)
        self.records = self.store.records
        self.publisher = Publisher("prod", self.store, self.clock, replicas=replicas)
        self.readback = Readback("prod", self.store)
        self.expiry = Expiry("prod", self.store, self.clock)

    def draw(self, etag: str = "", revision: int = 0) -> Check:
        """Draw a ticket for a check that starts now."""
        now = self.clock.now()
        ticket, seen = self.store.draw("prod", int(now))
        return Check(ticket, seen, int(now * 1000), etag, revision)

    def publish(
        self, flags: dict[str, Any], changed: Changes | None = None, check: Check | None = None
    ) -> int:
        """Publish these flags and return the ticket."""
        check = check or self.draw()
        flag_set = FlagSet("model", {"flags": flags}, revision=check.revision)
        encoded = encode(flag_set.sections, {})
        self.publisher.publish(check, flag_set, encoded, "writer", changed or Changes())
        return check.ticket

    def pulse(self) -> Pulse:
        """Return the pulse."""
        return self.store.pulse("prod")

    def head(self, replica: int = 0) -> Head:
        """Return the head."""
        return Head.from_record(self.records[head_key("prod", replica)])

    def pieces(self, ticket: int) -> list[Record]:
        """Return the pieces that a ticket wrote."""
        return [self.records[key] for key in pieces_of(self.records, ticket)]

    def intent(self, ticket: int) -> Record | None:
        """Return the record that announces them."""
        announced = self.store.scan(layout.intents_namespace("prod"), f"{ticket:012d}/")
        return next(announced, None)

    def publication(self, ticket: int = 0) -> Publication:
        """Return what is published, or what was under a ticket."""
        key = history_key("prod", ticket) if ticket else head_key("prod")
        return Head.from_record(self.records[key]).publication

    def expiries(self, ticket: int) -> set[Any]:
        """Return when the pieces of a ticket expire."""
        return {piece.get("expires_at") for piece in self.pieces(ticket)}

    def drop_history(self) -> None:
        """Publish small sets for some days, until nothing older is kept."""
        for number in range(KEPT_VERSIONS + 1):
            self.clock.advance(12 * HOUR_S)
            self.publish({"a": number})


def large(seed: int) -> dict[str, Any]:
    """Return flags too large for a head."""
    rng = random.Random(seed)
    return {f"flag-{number}": rng.randbytes(5_000).hex() for number in range(90)}


def test_nothing_follows_a_publication_that_the_store_lost() -> None:
    """Its number comes again with another nonce: its rows and its expiries are not that one's."""
    rig = Rig()
    rig.publish(large(1))
    rig.drop_history()
    kept = {key: dict(record) for key, record in rig.records.items()}
    ticket = rig.publish({"a": "lost"})
    lost = rig.publication()
    rig.records.clear()
    rig.records.update(kept)
    rig.store.draw("prod", 0)
    rig.records[layout.pulse_key("prod")]["drawn"] = ticket - 1
    assert rig.publish({"a": "again"}) == ticket
    before = dict(rig.records)
    rig.expiry.expire(lost)
    with pytest.raises(FenceLostError):
        rig.publisher.project(lost, FlagSet("model", {"flags": {"a": "lost"}}), None, {})
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
            following = versions[found.ticket]
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
    """Head, history and pulse change together, and name one ticket."""
    rig = Rig()
    ticket = rig.publish({"a": 1}, check=rig.draw(etag='"e"', revision=4))
    assert rig.steps == ["draw", "publish"]
    pulse, head = rig.pulse(), rig.head()
    assert (pulse.published, pulse.ticket, head.ticket) == (ticket, ticket, ticket)
    assert (pulse.etag, pulse.revision, head.revision) == ('"e"', 4, 4)
    assert pulse.digest == head.digest
    assert pulse.writer == "writer"
    assert pulse.versions() == [Version(ticket, head.published_at)]
    assert rig.readback.stored(ticket) is not None


def test_etag_and_revision_do_not_outlive_their_check() -> None:
    """A check without an ETag leaves none behind, which would belong to another answer."""
    rig = Rig()
    rig.publish({"a": 1}, check=rig.draw(etag='"e"', revision=4))
    rig.publish({"a": 2})
    assert (rig.pulse().etag, rig.pulse().revision) == ("", 0)
    assert "etag" not in rig.records[layout.pulse_key("prod")]


def test_history_holds_the_whole_set_and_what_changed() -> None:
    """Each kept publication can be read back by itself, and says what it changed."""
    rig = Rig()
    first = rig.publish({"a": 1})
    second = rig.publish({"a": 2, "b": 1}, Changes(("flags/b",), ("flags/a",), ("flags/c",)))
    assert rig.readback.version(first).flag_set.sections == {"flags": {"a": 1}}
    assert rig.readback.version(second).flag_set.sections == {"flags": {"a": 2, "b": 1}}
    record = rig.records[history_key("prod", second)]
    assert json.loads(str(record["changes"])) == {
        "counts": {"added": 1, "changed": 1, "removed": 1},
        "added": ["flags/b"],
        "changed": ["flags/a"],
        "removed": ["flags/c"],
    }
    assert Head.from_record(record) == rig.head()


def test_history_counts_all_changes_and_names_some() -> None:
    """A change of everything does not make a record of everything's names."""
    rig = Rig()
    names = tuple(f"flags/{number:04d}" for number in range(1_000))
    ticket = rig.publish({"a": 1}, Changes(names, (), names[:5]))
    told = json.loads(str(rig.records[history_key("prod", ticket)]["changes"]))
    assert told["counts"] == {"added": 1_000, "changed": 0, "removed": 5}
    assert told["added"] == list(names[:MAX_NAMES])
    assert told["removed"] == list(names[:5])


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_history_record_fits_an_item_whatever_the_names(letter: str) -> None:
    """The largest body that a head holds, and names as long as keys may be: still one item."""
    rig = Rig()
    names = tuple(f"flags/{letter * 200}{number:03d}" for number in range(MAX_NAMES))
    flags = nearly_full(1)
    encoded = encode({"flags": flags}, {})
    assert 0.9 * layout.INLINE_BYTES < encoded.size() <= layout.INLINE_BYTES
    ticket = rig.publish(flags, Changes(names, names, names))
    record = rig.records[history_key("prod", ticket)]
    spare = layout.INLINE_BYTES - encoded.size()
    assert record_bytes(record) + spare < layout.ROW_BYTES
    assert json.loads(str(record["changes"]))["added"][0] == names[0]


def test_dropped_history_goes_in_the_same_step() -> None:
    """What the pulse lists is what is there, after every publication."""
    rig = Rig()
    for number in range(30):
        rig.clock.advance(HOUR_S * (number % 5))
        rig.publish({"a": number})
        listed = {history_key("prod", version.ticket) for version in rig.pulse().versions()}
        assert listed == {key for key in rig.records if key.namespace == "prod:$history"}
    assert len(listed) < 20


def test_history_of_large_sets_is_dropped_after_a_publication() -> None:
    """In steps of its own; if the writer dies before, the next publication drops it."""
    rig = Rig()

    def listed() -> int:
        versions = rig.pulse().versions()
        assert {history_key("prod", version.ticket) for version in versions} == {
            key for key in rig.records if key.namespace == "prod:$history"
        }
        return len(versions)

    for number in range(KEPT_VERSIONS):
        rig.publish(nearly_full(number))
    rig.steps.clear()
    rig.publish(nearly_full(1))
    assert rig.steps == ["draw", "publish", "project"]
    assert listed() == KEPT_VERSIONS
    check, healthy = rig.draw(), rig.publisher
    rig.publisher = Publisher("prod", MemoryStore(rig.records, dying_at(2)), rig.clock)
    with pytest.raises(KeyboardInterrupt):
        rig.publish(nearly_full(2), check=check)
    assert (rig.pulse().published, listed()) == (check.ticket, KEPT_VERSIONS + 1)
    rig.publisher = healthy
    rig.publish(nearly_full(3))
    assert listed() == KEPT_VERSIONS


def nearly_full(seed: int) -> dict[str, Any]:
    """Return flags whose body just fits the head."""
    rng = random.Random(seed)
    return {f"{number}": rng.randbytes(1_000).hex() for number in range(250)}


def test_replicas_are_written_with_the_head() -> None:
    """All copies of the head change in the one step, and are the same."""
    rig = Rig(replicas=3)
    for number in range(2):
        rig.publish({"a": number})
        assert rig.head() == rig.head(1) == rig.head(2)
    assert rig.steps == ["draw", "publish"] * 2


# -- the fence ----------------------------------------------------------------------------------


def test_a_check_that_was_overtaken_changes_nothing() -> None:
    """Drawn before another completed: neither its heartbeat nor its set gets through."""
    rig = Rig()
    late = rig.draw()
    rig.publish({"a": "new"})
    before = dict(rig.records)
    with pytest.raises(FenceLostError) as caught:
        rig.publish({"a": "old"}, check=late)
    assert caught.value.pulse == rig.pulse()
    with pytest.raises(FenceLostError):
        rig.publisher.heartbeat(late)
    rig.publisher.refuse(late, "digest")
    assert rig.records == before


def test_a_heartbeat_fences_too() -> None:
    """Who drew before an unchanged check completed has not seen what it saw."""
    rig = Rig()
    rig.publish({"a": 1})
    late, early = rig.draw(), rig.draw()
    rig.publisher.heartbeat(early)
    with pytest.raises(FenceLostError):
        rig.publish({"a": 2}, check=late)
    assert rig.pulse().ticket == early.ticket
    assert rig.pulse().published < early.ticket


def test_a_pin_stops_heartbeats_and_publications() -> None:
    """While pinned, no check completes; afterwards the next one does."""
    rig = Rig()
    rig.publish({"a": 1})
    record = rig.records[layout.pulse_key("prod")]
    record["pinned"] = int(rig.clock.now() * 1000) + 1_000
    check = rig.draw()
    with pytest.raises(FenceLostError):
        rig.publish({"a": 2}, check=check)
    with pytest.raises(FenceLostError):
        rig.publisher.heartbeat(check)
    rig.clock.advance(1)
    rig.publish({"a": 2}, check=check)


def test_a_refusal_is_noted_and_a_completed_check_clears_it() -> None:
    """The pulse says what was refused last, until something is accepted."""
    rig = Rig()
    published = rig.publish({"a": 1})
    rig.publisher.refuse(rig.draw(), "digest")
    assert (rig.pulse().refused, rig.pulse().ticket) == ("digest", published)
    rig.publisher.heartbeat(rig.draw())
    assert rig.pulse().refused == ""


def test_rows_of_an_older_publication_are_not_written() -> None:
    """A writer that wakes late finds something newer published, and stops."""
    rig = Rig()
    old = rig.publish({"a": 1})
    rig.publish({"a": 2})
    flag_set = FlagSet("model", {"flags": {"a": 1}})
    with pytest.raises(FenceLostError):
        rig.publisher.project(rig.publication(old), flag_set, None, {})
    assert Key("prod:flags", "a") not in rig.records
    assert rig.pulse().projected == 0


def test_rows_of_many_commits_are_noted_with_the_last() -> None:
    """250 rows are three steps; until the last, the pulse says that rows trail."""
    rig = Rig()
    flags = {f"flag-{number}": number for number in range(250)}
    ticket = rig.publish(flags)
    seen: list[int] = []
    store = MemoryStore(rig.records, lambda _: seen.append(rig.pulse().projected))
    publisher = Publisher("prod", store, rig.clock)
    publisher.project(
        rig.publication(),
        FlagSet("model", {"flags": flags}),
        Changes(tuple(sorted(f"flags/{key}" for key in flags))),
        {"verified_at": 5},
    )
    assert seen == [0, 0, 0]
    assert (rig.pulse().projected, rig.pulse().verified_at) == (ticket, 5)
    assert len([key for key in rig.records if key.namespace == "prod:flags"]) == 250


# -- reading back -------------------------------------------------------------------------------


def test_a_head_published_anew_is_nobodys_damage() -> None:
    """Who looks for an older ticket's head finds that it is gone, and that is no error."""
    rig = Rig()
    old = rig.publish({"a": 1})
    rig.publish({"a": 2})
    assert rig.readback.stored(old) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"body": b"other"},
        {"body": None},
        {"index_data": None},
        {"index_data": "a text"},
        {"index_digest": "0" * 64},
        {"ticket": None},
        {"ticket": 1},
        {"ticket": "a text"},
        {"pieces": "[1,"},
        {"pieces": "[1,1]"},
        {"pieces": "{}"},
    ],
)
def test_a_damaged_head_is_corrupt(damage: dict[str, Any]) -> None:
    """Whatever is wrong with it, it is this one error, and never taken for a set."""
    rig = Rig()
    ticket = rig.publish({"a": 1})
    record = {**rig.records[head_key("prod")], **damage}
    rig.records[head_key("prod")] = {k: v for k, v in record.items() if v is not None}
    with pytest.raises(CorruptStoreError):
        rig.readback.stored(ticket)


def test_a_head_that_is_gone_is_corrupt() -> None:
    """The pulse says that something is published: then there is a head."""
    rig = Rig()
    ticket = rig.publish({"a": 1})
    del rig.records[head_key("prod")]
    with pytest.raises(CorruptStoreError, match="missing"):
        rig.readback.stored(ticket)
    del rig.records[history_key("prod", ticket)]
    with pytest.raises(CorruptStoreError, match="missing"):
        rig.readback.version(ticket)


# -- pieces -------------------------------------------------------------------------------------


def test_a_large_body_lies_in_pieces() -> None:
    """Announced first, written next, named last; and read back whole."""
    rig = Rig()
    flags = large(1)
    ticket = rig.publish(flags)
    pieces = rig.pieces(ticket)
    assert len(pieces) >= 2
    assert rig.steps == ["draw", "put", *["put"] * len(pieces), "publish"]
    head = rig.head()
    assert head.body == b""
    prefix = layout.pieces_prefix(ticket, head.index_digest)
    assert head.stored_pieces() == (prefix, len(pieces))
    announced = rig.intent(ticket)
    assert announced is not None
    assert json.loads(str(announced["pieces"])) == {prefix: len(pieces)}
    stored = rig.readback.stored(ticket)
    assert stored is not None
    assert stored.flag_set.sections["flags"] == dict(sorted(flags.items()))


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_writer_that_dies_between_pieces_leaves_no_orphan(cut: int) -> None:
    """Wherever it stops, the intent names what it may have written."""
    rig = Rig()
    rig.publish({"a": 1})
    check = rig.draw()
    store = MemoryStore(rig.records, dying_at(cut))
    flag_set = FlagSet("model", {"flags": large(1)})
    with pytest.raises(KeyboardInterrupt):
        Publisher("prod", store, rig.clock).publish(
            check, flag_set, encode(flag_set.sections, {}), "writer", Changes()
        )
    written = rig.pieces(check.ticket)
    announced = rig.intent(check.ticket) or {"pieces": '{"": 0}'}
    assert len(written) == max(0, cut - 2)
    assert len(written) <= sum(json.loads(str(announced["pieces"])).values())
    assert rig.pulse().published < check.ticket


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
def test_a_damaged_piece_is_corrupt(damage: str) -> None:
    """A piece that is gone, or a stub of one that had expired, is no body."""
    rig = Rig()
    ticket = rig.publish(large(1))
    key = pieces_of(rig.records, ticket)[1]
    if damage == "removed":
        del rig.records[key]
    else:
        body = {} if damage == "stub" else {"body": b"other"}
        rig.records[key] = {**key._asdict(), "expires_at": 1, **body}
    with pytest.raises(CorruptStoreError):
        rig.readback.stored(ticket)


# -- expiring -----------------------------------------------------------------------------------


def test_what_the_history_keeps_never_expires() -> None:
    """Pieces of kept versions have no TTL, however often pieces are expired."""
    rig = Rig()
    tickets = [rig.publish(large(seed)) for seed in range(3)]
    rig.publish({"a": 1})
    rig.expiry.expire(rig.publication())
    for ticket in tickets:
        assert rig.expiries(ticket) == {None}
        assert rig.readback.version(ticket).head.ticket == ticket
        assert rig.intent(ticket)


def test_what_nothing_names_expires_a_day_later() -> None:
    """Readers that still hold an older head have a day to read its pieces."""
    rig = Rig()
    ticket = rig.publish(large(1))
    rig.drop_history()
    assert rig.expiries(ticket) == {None}
    rig.expiry.expire(rig.publication())
    assert rig.expiries(ticket) == {int(rig.clock.now()) + PIECE_TTL_S}
    assert not rig.intent(ticket)


def test_an_abandoned_writer_is_cleaned_up_after() -> None:
    """Pieces of a publication that never came expire; their intent stays while it may be alive."""
    rig = Rig()
    check = rig.draw()
    published = rig.publish({"a": 1})
    with pytest.raises(FenceLostError):
        rig.publish(large(1), check=check)
    rig.expiry.expire(rig.publication(published))
    assert rig.expiries(check.ticket) == {int(rig.clock.now()) + PIECE_TTL_S}
    # The writer may still be writing: another expiry finds its later pieces.
    assert rig.intent(check.ticket)
    rig.clock.advance(INTENT_TTL_S + 1)
    rig.expiry.expire(rig.publication(published))
    assert not rig.intent(check.ticket)


def test_a_writer_with_a_later_ticket_is_left_alone() -> None:
    """It may yet publish: only what is older than the published ticket expires."""
    rig = Rig()
    published = rig.publish({"a": 1})
    later = rig.draw()
    store = MemoryStore(rig.records, dying_at(4))
    flag_set = FlagSet("model", {"flags": large(1)})
    with pytest.raises(KeyboardInterrupt):
        Publisher("prod", store, rig.clock).publish(
            later, flag_set, encode(flag_set.sections, {}), "writer", Changes()
        )
    rig.clock.advance(INTENT_TTL_S + 1)
    rig.expiry.expire(rig.publication(published))
    assert rig.expiries(later.ticket) == {None}
    assert rig.intent(later.ticket)


def test_nothing_expires_for_a_publisher_that_was_overtaken() -> None:
    """Only the publisher of what is published lets pieces expire."""
    rig = Rig()
    orphan = rig.draw()
    old = rig.publish({"a": 1})
    with pytest.raises(FenceLostError):
        rig.publish(large(1), check=orphan)
    rig.publish({"a": 2})
    rig.expiry.expire(rig.publication(old))
    assert rig.expiries(orphan.ticket) == {None}


def test_expiring_stops_when_something_newer_is_published() -> None:
    """Between two steps of expiring, another publication ends it."""
    rig = Rig()
    published = rig.publish({"a": 1})
    put_intent(rig, 7, pieces=20)

    def overtaken(name: str) -> None:
        if name == "expire":
            rig.records[layout.pulse_key("prod")] = {
                **rig.records[layout.pulse_key("prod")],
                "published": published + 1,
            }

    expiry = Expiry("prod", MemoryStore(rig.records, overtaken), rig.clock)
    with pytest.raises(FenceLostError):
        expiry.expire(rig.publication(published))
    assert rig.expiries(7) == {None}


def put_intent(rig: Rig, ticket: int, pieces: int, largest: int = 1) -> None:
    """Put pieces that an older ticket wrote, and their intent."""
    head = rig.head()._replace(ticket=ticket)
    prefix = layout.pieces_prefix(ticket, head.index_digest)
    announced = intent("prod", head, {prefix: [b"x" * largest] * pieces}, int(rig.clock.now()))
    rig.records[Key(str(announced["namespace"]), str(announced["key"]))] = announced
    for number in range(pieces):
        key = piece_key("prod", prefix, number)
        rig.records[key] = {**key._asdict(), "body": b"x"}


@pytest.mark.parametrize(
    ("pieces", "largest", "commits"),
    [(1, 350_000, 1), (3, 350_000, 3), (3, 150_000, 1), (4, 150_000, 2), (100, 1_000, 2)],
)
def test_pieces_expire_in_steps_of_their_size(pieces: int, largest: int, commits: int) -> None:
    """An update counts with the whole item: few large pieces a step, or many small ones."""
    rig = Rig()
    published = rig.publish({"a": 1})
    put_intent(rig, 7, pieces, largest)
    rig.steps.clear()
    rig.expiry.expire(rig.publication(published))
    assert rig.steps.count("expire") == commits
    assert rig.expiries(7) == {int(rig.clock.now()) + PIECE_TTL_S}


@pytest.mark.parametrize("damage", [{"index_data": None}, {"pieces": "[1,"}])
def test_nothing_expires_while_a_kept_version_is_damaged(damage: dict[str, Any]) -> None:
    """Which pieces it names can't be told: a typed error, and all pieces stay."""
    rig = Rig()
    first = rig.publish({"a": 1})
    published = rig.publish({"a": 2})
    put_intent(rig, 7, pieces=2)
    record = {**rig.records[history_key("prod", first)], **damage}
    rig.records[history_key("prod", first)] = {k: v for k, v in record.items() if v is not None}
    with pytest.raises(CorruptStoreError):
        rig.expiry.expire(rig.publication(published))
    assert rig.expiries(7) == {None}


# -- all together -------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, DAY_MS // 1000)), max_size=12))
def test_whatever_is_published_the_head_can_be_read(steps: Sequence[tuple[int, int]]) -> None:
    """Large and small bodies in any order, at any pace: no current or kept piece ever expires."""
    rig = Rig()
    for seed, seconds in steps:
        rig.clock.advance(seconds)
        ticket = rig.publish(LARGE[seed] if seed else {"a": seconds})
        rig.expiry.expire(rig.publication(ticket))
        for version in rig.pulse().versions():
            prefix, _ = rig.readback.version(version.ticket).head.stored_pieces()
            assert not prefix or rig.expiries(int(prefix[:12])) == {None}
        assert rig.readback.stored(ticket) is not None


LARGE = {seed: large(seed) for seed in (1, 2, 3)}
