"""The contract of every store. Test classes derive from it and define how to create one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from flagstore.keys import Key, SourceState, state_key
from storesync.errors import ConditionFailedError
from storesync.store import COMMIT_WRITES, Condition, Delete, Expire, Put

if TYPE_CHECKING:
    from flagstore.keys import Record
    from storesync.store import Store

FLOOR = 1_795_000_000
LATER = 4_000_000_000
"""A moment to expire at that no test lives to see: real stores remove what is expired."""


def record(namespace: str, key: str, **values: int | str | bytes) -> Record:
    return {"namespace": namespace, "key": key, **values}


class StoreContract:
    """The promises of :class:`storesync.store.Store`."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    # -- fencing tokens ----------------------------------------------------------------------------

    def test_tokens_only_grow(self, store: Store) -> None:
        """From the floor on. A clock that is behind is ignored; one ahead may raise them."""
        first, state = store.next_token("prod", FLOOR)
        assert first == FLOOR + 1
        assert state == SourceState(issued=first, issued_nonce=state.issued_nonce)
        store.commit("prod", Condition(token=0), {"token": 7, "etag": '"a"', "revision": 3})
        second, state = store.next_token("prod", 5)
        assert second == first + 1
        assert (state.token, state.etag, state.revision) == (7, '"a"', 3)
        third, _ = store.next_token("prod", FLOOR * 2)
        assert third > second
        assert store.next_token("prod", FLOOR)[0] == third + 1

    def test_tokens_are_unique(self, store: Store) -> None:
        """Eight threads, 80 fencing tokens and nonces, all different."""
        with ThreadPoolExecutor(8) as pool:
            issued = list(pool.map(lambda _: store.next_token("prod", FLOOR), range(80)))
        assert sorted(token for token, _ in issued) == list(range(FLOOR + 1, FLOOR + 81))
        assert len({state.issued_nonce for _, state in issued} - {""}) == 80

    # -- the condition -----------------------------------------------------------------------------

    def test_commit_sets_and_removes(self, store: Store) -> None:
        """None removes an attribute; others stay."""
        store.commit("prod", Condition(), {"token": 1, "etag": "x", "refused": "y"})
        store.commit("prod", Condition(token=1), {"token": 2, "etag": None})
        assert store.state("prod") == SourceState(token=2, refused="y")

    @pytest.mark.parametrize(
        "condition",
        [
            Condition(token=4),
            Condition(token=0),
            Condition(published=4),
            Condition(published=0),
            Condition(token=5, unpinned_at=99),
            Condition(token=5, published=4),
            Condition(token=5, check_nonce="other"),
            Condition(token=5, check_nonce=""),
            Condition(published=5, nonce="other"),
            Condition(published=5, nonce=""),
            Condition(token=5, issued=7),
        ],
    )
    @pytest.mark.parametrize("with_writes", [True, False])
    def test_failed_condition_changes_nothing_and_has_the_state(
        self, store: Store, condition: Condition, with_writes: bool
    ) -> None:
        """Neither the source state nor any record is touched."""
        names = {"check_nonce": "5f", "nonce": "3c"}
        before = {"token": 5, "published": 5, "pinned": 100, "issued": 6, **names}
        store.commit("prod", Condition(), before)
        store.put_all([record("prod:flags", "old", item="1")])
        writes = [Put(record("prod:flags", "new", item="2")), Delete(Key("prod:flags", "old"))]
        with pytest.raises(ConditionFailedError) as lost:
            store.commit("prod", condition, {"token": 6}, writes if with_writes else [])
        assert lost.value.state == store.state("prod") == SourceState(**before)
        assert [row["key"] for row in store.scan("prod:flags")] == ["old"]
        if with_writes:  # nor without changing the source state
            with pytest.raises(ConditionFailedError):
                store.commit("prod", condition, {}, writes)
            store.commit("prod", Condition(published=5), {}, writes)
            assert store.state("prod") == SourceState(**before)
            assert [row["key"] for row in store.scan("prod:flags")] == ["new"]

    def test_condition_that_holds(self, store: Store) -> None:
        """0 stands for no completed check; more tokens may have been issued, and a pin ends."""
        token, _ = store.next_token("prod", FLOOR)
        condition = Condition(
            token=0, check_nonce="", published=0, nonce="", issued=token, unpinned_at=1
        )
        names = {"check_nonce": "5f", "nonce": "3c"}
        sets = {"token": 5, "published": 4, "issued": 6, "pinned": 100, **names}
        store.commit("prod", condition, sets)
        for issued in (5, 6):
            condition = Condition(token=5, published=4, issued=issued, unpinned_at=100, **names)
            store.commit("prod", condition, {"etag": "x"})
        assert store.state("prod").etag == "x"

    def test_lost_token_does_not_complete(self, store: Store) -> None:
        """A counter that is gone has issued no fencing token."""
        store.commit("prod", Condition(), {"token": 5})
        with pytest.raises(ConditionFailedError):
            store.commit("prod", Condition(token=5, issued=6), {"token": 6})

    def test_one_of_overlapping_checks_completes(self, store: Store) -> None:
        """Eight writers saw the same source state; one wins, seven learn who."""
        store.next_token("prod", FLOOR)
        outcomes: list[str] = []
        gate = threading.Barrier(8)

        def complete(number: int) -> None:
            gate.wait()
            try:
                writes = [Put(record("prod:$snapshot", "1", token=number))]
                store.commit("prod", Condition(token=0), {"token": number}, writes)
                outcomes.append("won")
            except ConditionFailedError as lost:
                outcomes.append("lost" if lost.state.token else "lost to none")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(complete, range(1, 9)))
        assert sorted(outcomes) == ["lost"] * 7 + ["won"]
        snapshot_record = store.read(Key("prod:$snapshot", "1"))
        assert snapshot_record is not None
        assert snapshot_record["token"] == store.state("prod").token

    # -- writing --------------------------------------------------------------------------------

    def test_commit_takes_99_writes(self, store: Store) -> None:
        """Puts, deletes and expiries, all at once."""
        store.put_all([record("prod:flags", f"old{n:02}", item="1") for n in range(33)])
        store.put_all([record("prod:$body", f"1/{n:03}", body=b"x") for n in range(33)])
        writes = [
            *(Put(record("prod:flags", f"new{n:02}", item="2")) for n in range(33)),
            *(Delete(Key("prod:flags", f"old{n:02}")) for n in range(33)),
            *(Expire(Key("prod:$body", f"1/{n:03}"), LATER) for n in range(33)),
        ]
        assert len(writes) == COMMIT_WRITES
        store.commit("prod", Condition(), {"token": 1}, writes)
        assert [row["key"] for row in store.scan("prod:flags")] == [f"new{n:02}" for n in range(33)]
        assert {row["expires_at"] for row in store.scan("prod:$body")} == {LATER}

    @pytest.mark.parametrize("shift", [-3_600, 3_600])
    def test_expiry_is_not_changed(self, store: Store, shift: int) -> None:
        """A later one neither lengthens nor shortens it; the record stays as it was."""
        store.put_all([record("prod:$body", "1/000", body=b"x")])
        place = Key("prod:$body", "1/000")
        for at_s in (LATER, LATER + shift):
            store.commit("prod", Condition(), {"token": 1}, [Expire(place, at_s)])
        assert store.read(place) == record("prod:$body", "1/000", body=b"x", expires_at=LATER)

    def test_rewritten_record_does_not_expire(self, store: Store) -> None:
        """Nothing of the record before is left: no attribute, no expiry."""
        store.put_all([record("prod:$body", "1/000", body=b"x", old=1)])
        place = Key("prod:$body", "1/000")
        store.commit("prod", Condition(), {"token": 1}, [Expire(place, LATER)])
        store.put_all([record("prod:$body", "1/000", body=b"y")])
        assert store.read(place) == record("prod:$body", "1/000", body=b"y")

    def test_record_without_attributes(self, store: Store) -> None:
        """LaunchDarkly's mark of a complete store is a key and nothing else."""
        mark = record("prod:$inited", "prod:$inited")
        store.commit("prod", Condition(), {"token": 1}, [Put(mark)])
        assert list(store.scan("prod:$inited")) == [mark]

    def test_scan_of_large_records(self, store: Store) -> None:
        """Twelve chunks of 350 KB, more than a page, in order; and none of token 11's."""
        chunks = [bytes([number]) * 350_000 for number in range(12)]
        records = [record("prod:$body", f"1/{n:03}", body=chunk) for n, chunk in enumerate(chunks)]
        store.put_all([*records[::-1], record("prod:$body", "11/000", body=b"x")])
        assert list(store.scan("prod:$body", "1/")) == records

    @pytest.mark.parametrize(
        "value",
        [0, -1, 10**15, "", "ü 中 🙂 \x00\x7f", '{"a": "\\ud800"}', b"\x00\xff", "x" * 50_000],
    )
    def test_values_are_read_back(self, store: Store, value: int | str | bytes) -> None:
        store.put_all([record("prod:flags", "ключ/🙂", item=value)])
        found = store.read(Key("prod:flags", "ключ/🙂"))
        assert found == record("prod:flags", "ключ/🙂", item=value)

    # -- names ----------------------------------------------------------------------------------

    def test_sources_with_similar_names_are_separate(self, store: Store) -> None:
        """``prod`` and ``prod-eu``: fencing tokens, source states, records."""
        store.next_token("prod", 100)
        store.next_token("prod-eu", 200)
        store.commit("prod", Condition(), {"token": 1}, [Put(record("prod:flags", "a", item="1"))])
        assert store.state("prod-eu").issued == 201
        assert list(store.scan("prod-eu:flags")) == []
        assert store.state(state_key("prod").key) == SourceState()
