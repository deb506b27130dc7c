"""Which layout the rows have, the document, and what is removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.keys import ROW_BYTES, Key
from simulators.memory_store import MemoryStore
from storesync import rows
from storesync.model import Changes, FlagSet, Secret, Source
from storesync.store import Condition, Delete, Put

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACE = Key("prod:document", "features")
KNOWN = Changes(changed=("flags/a",))


def unleash(**flags: Any) -> FlagSet:
    """Return a set of Unleash's."""
    return FlagSet("unleash", {"flags": flags, "segments": {"1": {"id": 1}}}, {"version": 2}, 5)


def split(flags: Mapping[str, Any], **sections: Any) -> FlagSet:
    """Return a set of Split's."""
    empty: dict[str, Any] = {"rule_based_segments": {}, "segments": {}}
    return FlagSet("split", {**empty, **sections, "flags": flags})


def source(provider: str = "unleash", **options: Any) -> Source:
    """Return a source."""
    return Source("prod", provider, "https://x.example", Secret("k"), **options)


class Rig:
    """A store, and what is kept in it."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def follow(self, new: FlagSet, changed: Changes | None = None, **options: Any) -> rows.RowPlan:
        """Let a source's projection follow one publication."""
        plan = rows.plan(source(new.provider, **options), new, changed, self.store.scan, 7)
        self.store.commit("prod", Condition(), {}, plan.writes)
        return plan

    def keys(self) -> set[str]:
        """Return what is there."""
        return {"/".join(key) for key in self.store.records if key.namespace != "prod:$state"}

    def document(self) -> Any:
        """Return the document."""
        return json.loads(str(self.store.records[PLACE]["item"]))


@pytest.fixture
def rig() -> Rig:
    """Give an empty store."""
    return Rig()


# -- the document ---------------------------------------------------------------------------------


def test_document_is_one_record_beside_the_rows(rig: Rig) -> None:
    """Written after them; in order of names, as Unleash responds to SDKs."""
    plan = rig.follow(unleash(b={"name": "b"}, a={"name": "a"}), document=True)
    assert rig.keys() == {
        "prod:flags/a",
        "prod:flags/b",
        "prod:segments/1",
        "prod:document/features",
    }
    last = plan.writes[-1]
    assert isinstance(last, Put)
    assert last.record["namespace"] == "prod:document"
    assert rig.document() == {
        "version": 2,
        "features": [{"name": "a"}, {"name": "b"}],
        "segments": [{"id": 1}],
    }


def test_document_costs_one_write_per_change(rig: Rig) -> None:
    """A change is known, or found by comparing."""
    rig.follow(unleash(a=1), document=True)
    assert rig.follow(unleash(a=1), document=True).writes == ()
    assert len(rig.follow(unleash(a=2), KNOWN, document=True).writes) == 2
    assert rig.document()["features"] == [2]
    assert rig.follow(unleash(a=2), document=True).writes == ()


@pytest.mark.parametrize("kept", [True, False])
def test_document_is_removed_with_option_or_provider(rig: Rig, kept: bool) -> None:
    """With rows or without."""
    rig.follow(unleash(a=1), document=True, rows=kept)
    rig.follow(unleash(a=1), rows=kept)
    assert PLACE not in rig.store.records
    rig.follow(unleash(a=1), document=True, rows=kept)
    rig.follow(FlagSet("model", {"flags": {"a": 1}, "segments": {}}), document=True, rows=kept)
    assert PLACE not in rig.store.records


def test_document_that_is_too_large_is_skipped(rig: Rig) -> None:
    """It is named, and the last good one stays; Redis has no such limit."""
    rig.follow(unleash(a=""), document=True, rows=False)
    room = ROW_BYTES - rows.record_bytes(rig.store.records[PLACE])
    for changed in (None, KNOWN):
        full = unleash(a="x" * room)
        assert rig.follow(full, changed, document=True, rows=False).skipped == ()
        more = unleash(a="x" * (room + 1))
        plan = rig.follow(more, changed, document=True, rows=False)
        assert plan.skipped == ("document/features",)
        assert plan.writes == ()
        assert rig.document()["features"] == ["x" * room]
        redis = rig.follow(more, changed, document=True, rows=False, store="redis")
        assert redis.skipped == ()
        assert rig.document()["features"] == ["x" * (room + 1)]


def test_fingerprint_covers_document_and_layout() -> None:
    """Turning the document on or off, or another layout of rows, is a change."""
    prints = [
        source().fingerprint(),
        source(document=True).fingerprint(),
        source("split").fingerprint(),
        source("split", store="redis").fingerprint(),
        source("launchdarkly", store="redis").fingerprint(),
    ]
    assert len(set(prints)) == len(prints)
    assert source(store="redis").fingerprint() == source().fingerprint()


# -- Split's layout -------------------------------------------------------------------------------


def test_split_layout_is_used_in_redis_only(rig: Rig) -> None:
    """Each store's rows replace those of the other layout."""
    flags = {"a": {"name": "a", "sets": ["s"], "trafficTypeName": "user"}}
    new = split(flags, segments={"m": {"name": "m", "keys": ["x"]}})
    plain = {"prod:flags/a", "prod:segments/m"}
    rig.follow(new)
    assert rig.keys() == plain
    rig.follow(new, store="redis")
    own = {"split.a", "segment.m", "flagSet.s", "trafficType.user"}
    assert rig.keys() == {f"prod:SPLITIO/{key}" for key in own}
    rig.follow(FlagSet("model", {"flags": {}, "segments": {}}), store="redis")
    assert rig.keys() == set()


@pytest.mark.parametrize(
    "flag", [None, [], "x", {"sets": "x"}, {"sets": [1, "\ud800"]}, {"conditions": [{}, 1]}]
)
def test_split_flag_of_any_shape_has_a_row(rig: Rig, flag: Any) -> None:
    """What cannot be read of it makes no set."""
    rig.follow(split({"a": flag}), store="redis")
    assert rig.keys() == {"prod:SPLITIO/split.a"}


def test_split_names_that_are_not_keys_are_skipped(rig: Rig) -> None:
    """By name, and in flag sets too; the others are written."""
    flags = {name: {"name": name, "sets": ["s"]} for name in ("a", "b\ud800", "")}
    plan = rig.follow(split(flags), store="redis")
    assert set(plan.skipped) == {"flags/b\ud800", "flags/"}
    assert rig.store.records[Key("prod:SPLITIO", "flagSet.s")]["item"] == '["a"]'
    gone = Changes(removed=("flags/b\ud800", "flags/"))
    rig.follow(split({"a": flags["a"]}), gone, store="redis")
    assert rig.keys() == {"prod:SPLITIO/split.a", "prod:SPLITIO/flagSet.s"}


def test_segment_keys_without_utf8_are_left_out(rig: Rig) -> None:
    """No SDK could ask for them; others stay."""
    rig.follow(split({}, segments={"m": {"keys": ["ü", "\ud800", 5, "a"]}}), store="redis")
    assert rig.store.records[Key("prod:SPLITIO", "segment.m")]["item"] == '["a","\\u00fc"]'


def test_large_set_is_written_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In order, each below the limit unless one member alone is not, and counted."""
    monkeypatch.setattr(rows, "PART_BYTES", 60)
    keys = sorted([f"user-{n}-é" for n in range(40)] + ["x" * 100])
    plan = rows.plan_split("prod", split({}, segments={"m": {"keys": keys}}), None, [], 7)
    records = [write.record for write in plan.writes if isinstance(write, Put)]
    parts = [json.loads(str(record["item"])) for record in records]
    assert [key for part in parts for key in part] == keys
    assert [record["part"] for record in records] == list(range(len(parts)))
    assert {(record["parts"], record["members"]) for record in records} == {(len(parts), 41)}
    assert all(
        len(str(record["item"])) <= 60 or len(part) == 1
        for record, part in zip(records, parts, strict=True)
    )
    assert len(parts) > 10


def test_changed_flag_reads_only_derived_rows(rig: Rig) -> None:
    """Other rows are neither read nor written."""
    flags = {name: {"name": name, "sets": ["s"], "trafficTypeName": "user"} for name in "abc"}
    rig.follow(split(flags), store="redis")
    rig.store.records[Key("prod:SPLITIO", "split.b")]["item"] = "left alone"
    changed = {**flags, "a": {**flags["a"], "sets": ["t"]}}
    plan = rig.follow(split(changed), KNOWN, store="redis")
    touched = [
        write.key.key if isinstance(write, Delete) else write.record["key"]
        for write in plan.writes
        if isinstance(write, Put | Delete)
    ]
    assert touched == ["split.a", "flagSet.s", "flagSet.t"]
