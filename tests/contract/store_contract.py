"""What every store must do; each store's test class inherits this and says how to make one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from flagstore.layout import Key, Pulse, pulse_key
from storesync.errors import FenceLostError
from storesync.stores.base import COMMIT_WRITES, Delete, Expire, Fence, Put

if TYPE_CHECKING:
    from flagstore.layout import Record
    from storesync.stores.base import Store

FLOOR = 1_795_000_000
LATER = 4_000_000_000
"""A moment to expire at that no test lives to see: real stores remove what is expired."""


def record(namespace: str, key: str, **values: int | str | bytes) -> Record:
    """Return a record."""
    return {"namespace": namespace, "key": key, **values}


class StoreContract:
    """The promises of :class:`storesync.stores.base.Store`."""

    @pytest.fixture
    def store(self) -> Store:
        """Give an empty store."""
        raise NotImplementedError

    # -- tickets --------------------------------------------------------------------------------

    def test_a_missing_counter_starts_at_the_clocks_seconds(self, store: Store) -> None:
        """A store that was made again never hands out smaller tickets than before."""
        ticket, pulse = store.draw("prod", FLOOR)
        assert ticket == FLOOR + 1
        assert pulse == Pulse(drawn=ticket, drawn_nonce=pulse.drawn_nonce)

    def test_tickets_only_grow_whatever_the_floor(self, store: Store) -> None:
        """A clock that is behind does not count; one that is ahead may, and takes nothing back."""
        first, _ = store.draw("prod", FLOOR)
        second, _ = store.draw("prod", 5)
        third, _ = store.draw("prod", FLOOR * 2)
        fourth, _ = store.draw("prod", FLOOR)
        assert second == first + 1
        assert third > second
        assert fourth == third + 1

    def test_drawing_returns_the_pulse_of_that_moment(self, store: Store) -> None:
        """The fence compares with what was seen when drawing."""
        store.draw("prod", FLOOR)
        store.commit("prod", Fence(ticket=0), {"ticket": 7, "etag": '"a"', "revision": 3})
        _, pulse = store.draw("prod", FLOOR)
        assert (pulse.ticket, pulse.etag, pulse.revision) == (7, '"a"', 3)

    def test_no_two_writers_draw_the_same_ticket(self, store: Store) -> None:
        """Eight threads, 80 tickets and nonces, all different."""
        with ThreadPoolExecutor(8) as pool:
            drawn = list(pool.map(lambda _: store.draw("prod", FLOOR), range(80)))
        assert sorted(ticket for ticket, _ in drawn) == list(range(FLOOR + 1, FLOOR + 81))
        assert len({pulse.drawn_nonce for _, pulse in drawn} - {""}) == 80

    # -- the fence ------------------------------------------------------------------------------

    def test_a_fence_that_holds_sets_and_removes(self, store: Store) -> None:
        """None removes an attribute; others stay."""
        store.commit("prod", Fence(), {"ticket": 1, "etag": "x", "refused": "y"})
        store.commit("prod", Fence(ticket=1), {"ticket": 2, "etag": None})
        assert store.pulse("prod") == Pulse(ticket=2, refused="y")

    @pytest.mark.parametrize(
        "fence",
        [
            Fence(ticket=4),
            Fence(ticket=0),
            Fence(published=4),
            Fence(published=0),
            Fence(ticket=5, unpinned_at=99),
            Fence(ticket=5, published=4),
            Fence(ticket=5, check_nonce="other"),
            Fence(ticket=5, check_nonce=""),
            Fence(published=5, nonce="other"),
            Fence(published=5, nonce=""),
            Fence(ticket=5, drawn=7),
        ],
    )
    @pytest.mark.parametrize("with_writes", [True, False])
    def test_a_lost_fence_changes_nothing_and_carries_the_pulse(
        self, store: Store, fence: Fence, with_writes: bool
    ) -> None:
        """Neither the pulse nor any record is touched."""
        names = {"check_nonce": "5f", "nonce": "3c"}
        before = {"ticket": 5, "published": 5, "pinned": 100, "drawn": 6, **names}
        store.commit("prod", Fence(), before)
        store.put_all([record("prod:flags", "old", item="1")])
        writes = [Put(record("prod:flags", "new", item="2")), Delete(Key("prod:flags", "old"))]
        with pytest.raises(FenceLostError) as lost:
            store.commit("prod", fence, {"ticket": 6}, writes if with_writes else [])
        assert lost.value.pulse == store.pulse("prod") == Pulse(**before)
        assert [row["key"] for row in store.scan("prod:flags")] == ["old"]

    def test_the_first_check_of_a_source_passes_its_fence(self, store: Store) -> None:
        """0 stands for no completed check: absent, not equal to zero."""
        ticket, _ = store.draw("prod", FLOOR)
        fence = Fence(ticket=0, check_nonce="", published=0, nonce="", drawn=ticket, unpinned_at=1)
        store.commit("prod", fence, {"ticket": 9})
        assert store.pulse("prod").ticket == 9

    def test_a_fence_of_every_part_holds(self, store: Store) -> None:
        """Where each part is what it was, or more tickets have been drawn meanwhile."""
        names = {"check_nonce": "5f", "nonce": "3c"}
        store.commit("prod", Fence(), {"ticket": 5, "published": 4, "drawn": 6, **names})
        for drawn in (5, 6):
            fence = Fence(ticket=5, published=4, drawn=drawn, unpinned_at=1, **names)
            store.commit("prod", fence, {"etag": "x"})
        assert store.pulse("prod").etag == "x"

    def test_nothing_is_completed_in_a_store_that_lost_the_draw(self, store: Store) -> None:
        """A counter that is gone knows no ticket."""
        store.commit("prod", Fence(), {"ticket": 5})
        with pytest.raises(FenceLostError):
            store.commit("prod", Fence(ticket=5, drawn=6), {"ticket": 6})

    def test_a_pin_ends_by_itself(self, store: Store) -> None:
        """At the moment until which it was set, publications go on."""
        store.commit("prod", Fence(), {"pinned": 100})
        with pytest.raises(FenceLostError):
            store.commit("prod", Fence(unpinned_at=99), {"ticket": 1})
        store.commit("prod", Fence(unpinned_at=100), {"ticket": 1})
        assert store.pulse("prod").ticket == 1

    def test_of_overlapping_checks_exactly_one_completes(self, store: Store) -> None:
        """Eight writers saw the same pulse; one wins, seven learn who."""
        store.draw("prod", FLOOR)
        outcomes: list[str] = []
        gate = threading.Barrier(8)

        def complete(number: int) -> None:
            gate.wait()
            try:
                writes = [Put(record("prod:$head", "1", ticket=number))]
                store.commit("prod", Fence(ticket=0), {"ticket": number}, writes)
                outcomes.append("won")
            except FenceLostError as lost:
                outcomes.append("lost" if lost.pulse.ticket else "lost to nobody")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(complete, range(1, 9)))
        assert sorted(outcomes) == ["lost"] * 7 + ["won"]
        head = store.read(Key("prod:$head", "1"))
        assert head is not None
        assert head["ticket"] == store.pulse("prod").ticket

    def test_a_commit_without_sets_only_holds_the_fence(self, store: Store) -> None:
        """Rows are written under a condition, without changing the pulse."""
        store.commit("prod", Fence(), {"published": 3})
        store.commit("prod", Fence(published=3), {}, [Put(record("prod:flags", "a", item="1"))])
        assert store.pulse("prod") == Pulse(published=3)
        with pytest.raises(FenceLostError):
            store.commit("prod", Fence(published=2), {}, [Delete(Key("prod:flags", "a"))])
        assert store.read(Key("prod:flags", "a")) is not None

    # -- writing --------------------------------------------------------------------------------

    def test_one_commit_takes_99_writes(self, store: Store) -> None:
        """Puts, deletes and expiries, all at once."""
        store.put_all([record("prod:flags", f"old{n:02}", item="1") for n in range(33)])
        store.put_all([record("prod:$body", f"1/{n:03}", body=b"x") for n in range(33)])
        writes = [
            *(Put(record("prod:flags", f"new{n:02}", item="2")) for n in range(33)),
            *(Delete(Key("prod:flags", f"old{n:02}")) for n in range(33)),
            *(Expire(Key("prod:$body", f"1/{n:03}"), LATER) for n in range(33)),
        ]
        assert len(writes) == COMMIT_WRITES
        store.commit("prod", Fence(), {"ticket": 1}, writes)
        assert [row["key"] for row in store.scan("prod:flags")] == [f"new{n:02}" for n in range(33)]
        assert {row["expires_at"] for row in store.scan("prod:$body")} == {LATER}

    @pytest.mark.parametrize("shift", [-3_600, 3_600])
    def test_an_expiry_that_is_set_stays(self, store: Store, shift: int) -> None:
        """Whoever comes later neither lengthens nor shortens it; the record stays as it was."""
        store.put_all([record("prod:$body", "1/000", body=b"x")])
        place = Key("prod:$body", "1/000")
        for at_s in (LATER, LATER + shift):
            store.commit("prod", Fence(), {"ticket": 1}, [Expire(place, at_s)])
        assert store.read(place) == record("prod:$body", "1/000", body=b"x", expires_at=LATER)

    def test_a_record_that_is_written_anew_no_longer_expires(self, store: Store) -> None:
        """Nothing of the record before is left: no attribute, no expiry."""
        store.put_all([record("prod:$body", "1/000", body=b"x", old=1)])
        place = Key("prod:$body", "1/000")
        store.commit("prod", Fence(), {"ticket": 1}, [Expire(place, LATER)])
        store.put_all([record("prod:$body", "1/000", body=b"y")])
        assert store.read(place) == record("prod:$body", "1/000", body=b"y")

    def test_a_record_without_attributes_is_there(self, store: Store) -> None:
        """LaunchDarkly's mark of a complete store is a key and nothing else."""
        mark = record("prod:$inited", "prod:$inited")
        store.commit("prod", Fence(), {"ticket": 1}, [Put(mark)])
        assert store.read(Key("prod:$inited", "prod:$inited")) == mark
        assert list(store.scan("prod:$inited")) == [mark]

    def test_large_records_are_written_and_read_back_whole(self, store: Store) -> None:
        """Twelve pieces of 350 KB: more than one page of a query, in order of keys."""
        pieces = [bytes([number]) * 350_000 for number in range(12)]
        store.put_all(
            [record("prod:$body", f"7/{n:03}", body=piece) for n, piece in enumerate(pieces)]
        )
        assert [row["body"] for row in store.scan("prod:$body", "7/")] == pieces

    @pytest.mark.parametrize(
        "value",
        [
            0,
            -1,
            10**15,
            "",
            "ü 中 🙂",
            "\x00\x1f\x7f",
            '{"a": "\\ud800"}',
            b"\x00\xff",
            "x" * 50_000,
        ],
    )
    def test_values_come_back_as_they_were(self, store: Store, value: int | str | bytes) -> None:
        """Whole numbers, texts and bytes."""
        store.put_all([record("prod:flags", "ключ/🙂", item=value)])
        found = store.read(Key("prod:flags", "ключ/🙂"))
        assert found == record("prod:flags", "ключ/🙂", item=value)

    def test_reading_what_is_not_there(self, store: Store) -> None:
        """None, an empty scan, an empty pulse."""
        assert store.read(Key("prod:$head", "1")) is None
        assert list(store.scan("prod:flags")) == []
        assert store.pulse("prod") == Pulse()

    # -- names ----------------------------------------------------------------------------------

    def test_sources_with_similar_names_do_not_touch_each_other(self, store: Store) -> None:
        """``prod`` beside ``prod-eu``: tickets, pulses, records."""
        store.draw("prod", 100)
        store.draw("prod-eu", 200)
        store.commit("prod", Fence(), {"ticket": 1}, [Put(record("prod:flags", "a", item="1"))])
        assert store.pulse("prod-eu").drawn == 201
        assert list(store.scan("prod-eu:flags")) == []
        assert store.pulse(pulse_key("prod").key) == Pulse()

    def test_a_scan_keeps_to_its_prefix(self, store: Store) -> None:
        """Ticket 1's pieces are not those of ticket 11."""
        store.put_all(
            [record("prod:$body", key, body=b"x") for key in ("1/000", "11/000", "1/001")]
        )
        assert [row["key"] for row in store.scan("prod:$body", "1/")] == ["1/000", "1/001"]
