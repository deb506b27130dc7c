"""A flag set as rows: written, skipped and removed ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagstore.keys import ROW_BYTES, SORT_KEY_BYTES, Key
from simulators.memory_store import MemoryStore
from storesync import rows
from storesync.model import PREFIX_BYTES, Changes, FlagSet, Secret, Source
from storesync.store import (
    COMMIT_KB,
    COMMIT_WRITES,
    Condition,
    Delete,
    Expire,
    Put,
    Write,
    commits,
    record_bytes,
    write_kb,
)
from storesync.stores.dynamodb import from_item

if TYPE_CHECKING:
    from collections.abc import Mapping

MARK = Key("prod:$inited", "prod:$inited")
PLACE = Key("prod:document", "features")
KNOWN = Changes(changed=(("flags", "a"),))


def launchdarkly(flags: dict[str, int], segments: dict[str, int] | None = None) -> FlagSet:
    sections = {"flags": flags, "segments": segments or {}}
    return FlagSet(
        "launchdarkly",
        {
            name: {key: {"key": key, "version": version} for key, version in items.items()}
            for name, items in sections.items()
        },
    )


def unleash(flags: Mapping[str, Any] | None = None, **more: Any) -> FlagSet:
    flags = {**(flags or {}), **more}
    return FlagSet("unleash", {"flags": flags, "segments": {"1": {"id": 1}}}, {"version": 2}, 5)


def split(flags: Mapping[str, Any], *members: Any) -> FlagSet:
    segments = {"m": {"name": "m", "keys": list(members)}}
    return FlagSet("split", {"rule_based_segments": {}, "segments": segments, "flags": flags})


def table(plan: rows.RowPlan, present: dict[Key, Any] | None = None) -> dict[Key, Any]:
    store = MemoryStore(dict(present or {}))
    store.commit("prod", Condition(), {}, plan.writes)
    return store.records


def whole(new: FlagSet, present: dict[Key, Any] | None = None, token: int = 7) -> rows.RowPlan:
    return rows.plan_whole("prod", new, present or {}, token)


def touched(plan: rows.RowPlan) -> list[str]:
    """Return the keys that a plan writes or removes, in order."""
    return [
        str(write.record["key"]) if isinstance(write, Put) else write.key.key
        for write in plan.writes
    ]


# -- flagstore's and LaunchDarkly's layout --------------------------------------------------------


def test_launchdarkly_rows() -> None:
    """Segments first, the mark of a complete store last, and the attributes that its SDKs read."""
    new = launchdarkly({"b": 1, "größe": 41}, {"x": 1, "y": 1})
    plan = whole(new)
    assert touched(plan) == ["x", "y", "b", "größe", MARK.key]
    added = rows.plan_changes("prod", new, Changes.between(None, new), 7)
    assert added.writes == plan.writes[:-1]
    after = table(plan)
    place = Key("prod:features", "größe")
    assert after[place].pop("item") == '{"key":"gr\\u00f6\\u00dfe","version":41}'
    assert after[place] == {**place._asdict(), "version": 41}
    assert after[MARK] == MARK._asdict()
    after = table(plan)
    assert whole(new, after).writes == ()
    assert set(table(whole(launchdarkly({}), after), after)) == {MARK}


@pytest.mark.parametrize(
    "item", [{"name": "a"}, True, None, [1], *({"version": v} for v in ("2", 2.5, True, 10**40))]
)
def test_item_of_any_shape_has_a_row(item: Any) -> None:
    """What is not an object with a storable version has the fencing token, and no mark."""
    after = table(whole(unleash(a=item), token=12))
    assert set(after) == {Key("prod:flags", "a"), Key("prod:segments", "1")}
    row = after[Key("prod:flags", "a")]
    assert (row["version"], json.loads(row["item"])) == (12, item)


def test_changes_are_compared_by_content() -> None:
    """Another order of keys is no change; 1 and True differ; a first set adds everything."""
    old = unleash({"a": {"x": 1, "y": 2}, "b": 1, "c": 1})
    new = unleash({"c": 1, "b": True, "a": {"y": 2, "x": 1}})
    assert Changes.between(old, new) == Changes(changed=(("flags", "b"),))
    assert Changes.between(None, unleash(a=1)).added == (("flags", "a"), ("segments", "1"))


FLAGS = st.dictionaries(
    st.sampled_from(["a", "b/", "c/d", "x" * SORT_KEY_BYTES]), st.integers(0, 2)
)


@given(FLAGS, FLAGS, FLAGS, FLAGS)
def test_both_plans_agree(
    flags: dict[str, int], segments: dict[str, int], new_flags: dict[str, int], new: dict[str, int]
) -> None:
    """Planned from changes or compared as a whole, the rows show the new set."""
    old_set, new_set = launchdarkly(flags, segments), launchdarkly(new_flags, new)
    present = table(whole(old_set))
    changed = Changes.between(old_set, new_set)
    one = table(rows.plan_changes("prod", new_set, changed, 8), present)
    assert one == table(whole(new_set, present, 8), present) == table(whole(new_set, token=8))


@pytest.mark.parametrize("key", ["a", "größe"])
def test_row_that_is_too_large_is_skipped(key: str) -> None:
    """It fits under any prefix, to the byte: its last good row stays, the others are written."""
    largest = ROW_BYTES - PREFIX_BYTES
    fixed = record_bytes(rows.row("prod", unleash({key: ""}), "flags", key, 7))
    fits = unleash({key: "x" * (largest - fixed), "b": 1})
    assert whole(fits).skipped == ()
    new = unleash({key: "x" * (largest - fixed + 1), "b": 2})
    present = table(whole(fits))
    for plan in (rows.plan_changes("prod", new, Changes.between(fits, new), 7), whole(new)):
        assert plan.skipped == (f"flags/{key}",)
        after = table(plan, present)
        assert record_bytes(after[Key("prod:flags", key)]) == largest
        assert after[Key("prod:flags", "b")]["item"] == "2"


def test_removal_under_a_prefix_is_planned_with_sizes() -> None:
    """Sizes keep it within a partition's capacity; other programs' rows are not touched."""
    present = table(whole(launchdarkly({"a": 1, "theirs": 1})))
    planned = rows.plan_removal("prod", "launchdarkly p", MemoryStore(present), {("flags", "a")})
    row = Key("prod:features", "a")
    assert list(planned) == [Delete(row, record_bytes(present[row])), Delete(MARK)]


@pytest.mark.parametrize(
    "key", ["", "x" * (SORT_KEY_BYTES + 1), "é" * (SORT_KEY_BYTES // 2 + 1), "a\ud800"]
)
def test_name_that_is_not_a_key_is_skipped(key: str) -> None:
    """Empty, too long or invalid names cost only their own row, which is not removed either."""
    old, new = unleash({key: 1, "a": 1, "b": 1}), unleash(a=2)
    plan = whole(old)
    assert plan.skipped == (f"flags/{key}",)
    assert touched(plan) == ["1", "a", "b"]
    assert touched(rows.plan_changes("prod", new, Changes.between(old, new), 8)) == ["a", "b"]


# -- commits --------------------------------------------------------------------------------------


def puts(*sizes: int) -> list[Write]:
    """Return rows of these sizes, as DynamoDB counts them."""
    fixed = record_bytes({"namespace": "n", "key": "k", "item": ""})
    return [Put({"namespace": "n", "key": "k", "item": "x" * (size - fixed)}) for size in sizes]


@settings(max_examples=50)
@given(st.lists(st.integers(20, ROW_BYTES), max_size=30))
def test_groups_keep_order_and_limits(sizes: list[int]) -> None:
    """Every write is in one group, in order, and no group is more than one commit takes."""
    writes = puts(*sizes, *[30] * 150)
    groups = list(commits(writes))
    assert [write for group in groups for write in group] == writes
    assert all(0 < len(group) <= COMMIT_WRITES for group in groups)
    assert all(sum(map(write_kb, group)) <= COMMIT_KB for group in groups)


def test_commit_fits_the_capacity_of_a_partition() -> None:
    """Every started KB counts, of deletes and expiries as of writes."""
    full = puts(*[44_033] * 10)  # 43 KB and a byte
    assert [len(group) for group in commits(full)] == [10]
    assert [len(group) for group in commits([*full, *puts(*[1_024] * 10, 20)])] == [20, 1]
    for write in (Delete(Key("n", "k"), 300_000), Expire(Key("n", "k"), 1, 300_000)):
        assert [len(group) for group in commits([write] * 3)] == [1, 1, 1]


def test_deleted_rows_count_by_size() -> None:
    """Known from the set before, or from the stored rows."""
    old, new = unleash({"a": "x" * 5_000, "b": "x" * ROW_BYTES}), unleash({})
    shown = table(whole(old))
    for plan in (rows.plan_changes("prod", new, Changes.between(old, new), 8), whole(new, shown)):
        sizes = {write.key.key: write.size for write in plan.writes if isinstance(write, Delete)}
        assert sizes["a"] == record_bytes(shown[Key("prod:flags", "a")])
        assert sizes.get("b", ROW_BYTES) == ROW_BYTES


def test_row_with_a_fractional_version_is_rewritten() -> None:
    """A number that flagstore never writes is left out, as with Redis."""
    record = from_item({"key": {"S": "a"}, "version": {"N": "1.5"}})
    assert record == {"key": "a"}


# -- the document ---------------------------------------------------------------------------------


def source(provider: str = "unleash", **options: Any) -> Source:
    return Source("prod", provider, "https://x.example", Secret("k"), **options)


class Rig:
    """A store with its records."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def follow(self, new: FlagSet, changed: Changes | None = None, **options: Any) -> rows.RowPlan:
        plan = rows.plan(source(new.provider, **options), new, changed, self.store, 7)
        self.store.commit("prod", Condition(), {}, plan.writes)
        return plan

    def keys(self) -> set[str]:
        return {"/".join(key) for key in self.store.records}

    def item(self, key: Key) -> Any:
        return json.loads(str(self.store.records[key]["item"]))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_document_is_one_record_beside_the_rows(rig: Rig) -> None:
    """Written after them, if a change is known or found; in order of names."""
    plan = rig.follow(unleash({"b": {"name": "b"}, "a": {"name": "a"}}), document=True)
    assert touched(plan) == ["1", "a", "b", "features"]
    features = [{"name": "a"}, {"name": "b"}]
    assert rig.item(PLACE) == {"version": 2, "features": features, "segments": [{"id": 1}]}
    changed = unleash({"a": 2, "b": {"name": "b"}})
    assert touched(rig.follow(changed, KNOWN, document=True)) == ["a", "features"]
    assert rig.item(PLACE)["features"][0] == 2
    assert rig.follow(changed, document=True).writes == ()


@pytest.mark.parametrize("kept", [True, False])
def test_document_is_removed_with_option_or_provider(rig: Rig, kept: bool) -> None:
    other = FlagSet("model", {"flags": {"a": 1}, "segments": {}})
    for new, document in ((unleash(a=1), False), (other, True)):
        rig.follow(unleash(a=1), document=True, rows=kept)
        assert PLACE in rig.store.records
        rig.follow(new, document=document, rows=kept)
        assert PLACE not in rig.store.records


def test_document_that_is_too_large_is_skipped(rig: Rig) -> None:
    """It is reported, and the last good one stays; Redis has no such limit."""
    rig.follow(unleash(a=""), document=True, rows=False)
    room = ROW_BYTES - record_bytes(rig.store.records[PLACE])
    more = unleash(a="x" * (room + 1))
    for changed in (None, KNOWN):
        full = unleash(a="x" * room)
        assert rig.follow(full, changed, document=True, rows=False).skipped == ()
        plan = rig.follow(more, changed, document=True, rows=False)
        assert (plan.skipped, plan.writes) == (("document/features",), ())
    assert rig.follow(more, document=True, rows=False, store="redis").skipped == ()
    assert rig.item(PLACE)["features"] == ["x" * (room + 1)]


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


def test_split_items_of_any_shape_have_rows(rig: Rig) -> None:
    """Unreadable parts create no sets; names that are no keys are skipped, and keys left out."""
    shapes = [None, "x", {"sets": "x"}, {"sets": [1, "\ud800"]}, {"conditions": [{}, 1]}]
    flags = {f"f{number}": flag for number, flag in enumerate(shapes)}
    flags |= {name: {"name": name, "sets": ["s"]} for name in ("a", "b\ud800", "")}
    plan = rig.follow(split(flags, "ü", "\ud800", 5, "a"), store="redis")
    assert set(plan.skipped) == {"flags/b\ud800", "flags/"}
    assert rig.item(Key("prod:SPLITIO", "flagSet.s")) == ["a"]
    assert rig.item(Key("prod:SPLITIO", "segment.m")) == ["a", "ü"]
    names = {f"prod:SPLITIO/split.f{number}" for number in range(len(shapes))}
    names |= {f"prod:SPLITIO/{name}" for name in ("split.a", "flagSet.s", "segment.m")}
    assert rig.keys() == names
    gone = Changes(removed=(("flags", "b\ud800"),))
    assert rig.follow(split({"a": flags["a"]}), gone, store="redis").writes == ()


def test_large_set_is_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, counted, and each below the limit unless a single member exceeds it."""
    monkeypatch.setattr(rows, "PART_BYTES", 60)
    keys = sorted([f"user-{n}-é" for n in range(40)] + ["a" * 100])
    plan = rows.plan_split("prod", split({}, *keys), None, [], 7)
    records = [write.record for write in plan.writes if isinstance(write, Put)]
    parts = [json.loads(str(record["item"])) for record in records]
    assert all(parts)
    assert [key for part in parts for key in part] == keys
    assert [record["part"] for record in records] == list(range(len(parts)))
    assert {(record["parts"], record["members"]) for record in records} == {(len(parts), 41)}
    assert all(len(json.dumps(part)) <= 60 or len(part) == 1 for part in parts)


def test_changed_flag_reads_only_derived_rows(rig: Rig) -> None:
    """Other rows are neither read nor written."""
    flags = {name: {"name": name, "sets": ["s"], "trafficTypeName": "user"} for name in "abc"}
    rig.follow(split(flags), store="redis")
    rig.store.records[Key("prod:SPLITIO", "split.b")]["item"] = "left alone"
    changed = {**flags, "a": {**flags["a"], "sets": ["t"]}}
    plan = rig.follow(split(changed), KNOWN, store="redis")
    assert touched(plan) == ["split.a", "flagSet.s", "flagSet.t"]
