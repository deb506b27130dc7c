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
from storesync.model import Changes, FlagSet, Secret, Source
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


def launchdarkly(
    flags: dict[str, int] | None = None, segments: dict[str, int] | None = None
) -> FlagSet:
    """Return a set of LaunchDarkly's, key → version."""
    sections = {"flags": flags or {}, "segments": segments or {}}
    return FlagSet(
        "launchdarkly",
        {
            name: {key: {"key": key, "version": version} for key, version in items.items()}
            for name, items in sections.items()
        },
    )


def other(flags: dict[str, Any], segments: dict[str, Any] | None = None) -> FlagSet:
    """Return a set of another provider's."""
    return FlagSet("unleash", {"flags": flags, "segments": segments or {}})


def table(plan: rows.RowPlan, present: dict[Key, Any] | None = None) -> dict[Key, Any]:
    """Return the table after all writes of a plan."""
    after = dict(present or {})
    for write in plan.writes:
        if isinstance(write, Put):
            after[Key(str(write.record["namespace"]), str(write.record["key"]))] = write.record
        elif isinstance(write, Delete):
            after.pop(write.key, None)
    return after


def whole(new: FlagSet, present: dict[Key, Any] | None = None, token: int = 7) -> rows.RowPlan:
    """Plan against all that is there."""
    return rows.plan_whole("prod", new, present or {}, token)


# -- LaunchDarkly -------------------------------------------------------------------------------


def test_launchdarkly_row_attributes() -> None:
    """Its SDKs find namespace, key, version and item, and nothing else."""
    flag = {"key": "a", "version": 41, "on": True, "größe": "\n"}
    plan = whole(FlagSet("launchdarkly", {"flags": {"a": flag}, "segments": {}}))
    row = table(plan)[Key("prod:features", "a")]
    assert set(row) == {"namespace", "key", "version", "item"}
    assert (row["namespace"], row["key"], row["version"]) == ("prod:features", "a", 41)
    assert json.loads(row["item"]) == flag


def test_launchdarkly_namespaces() -> None:
    """Flags are features, segments are segments, and the mark has only its key."""
    after = table(whole(launchdarkly({"a": 1}, {"s": 2})))
    assert set(after) == {Key("prod:features", "a"), Key("prod:segments", "s"), MARK}
    assert after[MARK] == MARK._asdict()


def test_segments_are_written_before_flags() -> None:
    """And the mark of a complete store last."""
    plan = whole(launchdarkly({"a": 1, "b": 1}, {"x": 1, "y": 1}))
    order = [(w.record["namespace"], w.record["key"]) for w in plan.writes if isinstance(w, Put)]
    assert order == [
        ("prod:segments", "x"),
        ("prod:segments", "y"),
        ("prod:features", "a"),
        ("prod:features", "b"),
        MARK,
    ]


def test_mark_is_written_once_and_never_removed() -> None:
    """A mark that exists stays."""
    new = launchdarkly({"a": 1})
    present = table(whole(new))
    assert whole(new, present).writes == ()
    assert MARK in table(whole(launchdarkly(), present), present)


# -- other providers ----------------------------------------------------------------------------


def test_rows_without_versions_have_the_token() -> None:
    """An item without a version has the token that wrote its row, and no mark."""
    after = table(whole(other({"a": {"name": "a"}}, {"1": {"id": 1}}), token=12))
    assert set(after) == {Key("prod:flags", "a"), Key("prod:segments", "1")}
    assert [row["version"] for row in after.values()] == [12, 12]


@pytest.mark.parametrize(
    "item",
    [True, None, 1.5, "text", [1], *({"version": v} for v in ("2", None, 2.5, True, 10**40))],
)
def test_item_of_any_shape_has_a_row(item: Any) -> None:
    """What is not an object with a storable version has the fencing token."""
    row = table(whole(other({"a": item}), token=12))[Key("prod:flags", "a")]
    assert (row["version"], json.loads(row["item"])) == (12, item)
    assert row["version"] is not True


# -- only what changed --------------------------------------------------------------------------


def test_only_changed_rows_are_written() -> None:
    """One changed flag of many is one row, as are added and removed ones."""
    old = launchdarkly({f"f{n}": 1 for n in range(1000)}, {"s": 1})
    flags = {f"f{n}": 1 for n in range(1, 1000)} | {"f5": 2, "new": 1}
    new = launchdarkly(flags, {"s": 1})
    changed = Changes.between(old, new)
    assert changed == Changes(("flags/new",), ("flags/f5",), ("flags/f0",))
    plan = rows.plan_changes("prod", new, changed, 7)
    assert [write.record["key"] for write in plan.writes if isinstance(write, Put)] == ["f5", "new"]
    assert [w.key for w in plan.writes if isinstance(w, Delete)] == [Key("prod:features", "f0")]
    assert len(plan.writes) == 3


def test_changes_are_compared_by_content() -> None:
    """Another order of keys is no change; 1 and True differ; a first set adds everything."""
    old = other({"a": {"x": 1, "y": 2}, "b": 1, "c": 1})
    new = other({"c": 1, "b": True, "a": {"y": 2, "x": 1}})
    assert Changes.between(old, new) == Changes(changed=("flags/b",))
    assert Changes.between(None, other({"a": 1}, {"s": 1})).added == ("flags/a", "segments/s")


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


# -- repairing ----------------------------------------------------------------------------------


def test_whole_plan_repairs_rows() -> None:
    """Missing, changed and foreign rows are fixed, and good ones left alone."""
    new = other({"good": 1, "missing": 2, "stale": 3, "empty": 4}, {"s": 5})
    right = table(whole(new))
    present = {
        **right,
        Key("prod:flags", "stale"): {**right[Key("prod:flags", "stale")], "item": "0"},
        Key("prod:flags", "foreign"): {"item": "1"},
        Key("prod:segments", "foreign"): {},
        Key("prod:flags", "empty"): {},
    }
    del present[Key("prod:flags", "missing")]
    plan = whole(new, present)
    assert table(plan, present) == right
    touched = [w.key if isinstance(w, Delete) else Key(*_place(w)) for w in plan.writes]
    assert Key("prod:flags", "good") not in touched
    assert len(touched) == len(set(touched)) == 5


def _place(write: Write) -> tuple[str, str]:
    assert isinstance(write, Put)
    return str(write.record["namespace"]), str(write.record["key"])


# -- too large ----------------------------------------------------------------------------------


def test_row_that_is_too_large_is_skipped() -> None:
    """The last good row stays, the others are written, and the report names it."""
    old = other({"big": "small", "a": 1})
    new = other({"big": "x" * ROW_BYTES, "a": 2})
    present = table(whole(old))
    for plan in (
        rows.plan_changes("prod", new, Changes.between(old, new), 8),
        whole(new, present, 8),
    ):
        assert plan.skipped == ("flags/big",)
        after = table(plan, present)
        assert after[Key("prod:flags", "big")]["item"] == '"small"'
        assert after[Key("prod:flags", "a")]["item"] == "2"


def test_row_limit_is_exact() -> None:
    """An item of 409,600 bytes is written, one byte more is skipped; names count in UTF-8."""
    key = "größe"
    fixed = record_bytes(rows.row("prod", other({key: ""}), "flags", key, 7))
    fits = other({key: "x" * (ROW_BYTES - fixed)})
    assert whole(fits).skipped == ()
    ((record),) = [write.record for write in whole(fits).writes if isinstance(write, Put)]
    assert record_bytes(record) == ROW_BYTES
    assert whole(other({key: "x" * (ROW_BYTES - fixed + 1)})).skipped == (f"flags/{key}",)


@pytest.mark.parametrize(
    "key", ["", "x" * (SORT_KEY_BYTES + 1), "é" * (SORT_KEY_BYTES // 2 + 1), "a\ud800"]
)
def test_name_that_is_not_a_key_is_skipped(key: str) -> None:
    """Empty, too long or invalid names cost only their own row."""
    plan = whole(other({key: 1, "a": 1}))
    assert plan.skipped == (f"flags/{key}",)
    assert set(table(plan)) == {Key("prod:flags", "a")}


@pytest.mark.parametrize("key", ["", "x" * (SORT_KEY_BYTES + 1), "a\ud800"])
def test_name_that_is_not_a_key_is_not_removed(key: str) -> None:
    """It has no row, and deleting it would fail the other changes."""
    old, new = other({key: 1, "a": 1, "b": 1}), other({"a": 2})
    plan = rows.plan_changes("prod", new, Changes.between(old, new), 8)
    deleted = [write.key for write in plan.writes if isinstance(write, Delete)]
    assert deleted == [Key("prod:flags", "b")]


# -- groups -------------------------------------------------------------------------------------


def puts(*sizes: int) -> list[Write]:
    """Return rows of these sizes, as DynamoDB counts them."""
    fixed = record_bytes({"namespace": "n", "key": "k", "item": ""})
    return [Put({"namespace": "n", "key": "k", "item": "x" * (size - fixed)}) for size in sizes]


@pytest.mark.parametrize(
    ("count", "groups"), [(0, [0]), (1, [1]), (99, [99]), (100, [99, 1]), (250, [99, 99, 52])]
)
def test_commit_takes_99_writes(count: int, groups: list[int]) -> None:
    """A transaction has room for 99 besides the state; no writes are one empty group."""
    assert [len(group) for group in commits(puts(*[30] * count))] == groups


def test_commit_fits_the_capacity_of_a_partition() -> None:
    """Every started KB counts, of deletes and expiries as of writes."""
    full = puts(*[44_033] * 10)  # 43 KB and a byte
    assert [len(group) for group in commits(full)] == [10]
    assert [len(group) for group in commits([*full, *puts(*[1_024] * 10, 20)])] == [20, 1]
    for write in (Delete(Key("n", "k"), 300_000), Expire(Key("n", "k"), 1, 300_000)):
        assert [len(group) for group in commits([write] * 3)] == [1, 1, 1]
        assert write_kb(write) == 293


def test_deleted_rows_count_by_size() -> None:
    """Known from the set before, or from the stored rows."""
    old = other({"a": "x" * 5_000, "b": "x" * ROW_BYTES})
    new = other({})
    shown = table(whole(old))
    by_changes = rows.plan_changes("prod", new, Changes.between(old, new), 8)
    by_all = whole(new, shown)
    for plan in (by_changes, by_all):
        sizes = {w.key.key: w.size for w in plan.writes if isinstance(w, Delete)}
        assert sizes["a"] == record_bytes(shown[Key("prod:flags", "a")])
        assert sizes.get("b", ROW_BYTES) == ROW_BYTES


@settings(max_examples=50)
@given(st.lists(st.integers(20, ROW_BYTES), max_size=30))
def test_groups_keep_order_and_limits(sizes: list[int]) -> None:
    """Every write is in one group, in order, and no group is more than one commit takes."""
    writes = puts(*sizes)
    groups = list(commits(writes))
    assert [write for group in groups for write in group] == writes
    for group in groups:
        assert len(group) <= COMMIT_WRITES
        assert sum(map(write_kb, group)) <= COMMIT_KB
    if writes:
        assert all(groups)


def test_row_with_a_fractional_version_is_rewritten() -> None:
    """A number that flagstore never writes is left out, as with Redis."""
    record = from_item({"key": {"S": "a"}, "version": {"N": "1.5"}})
    assert record == {"key": "a"}


# -- layouts and documents ----------------------------------------------------------------------

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
    """A store with its records."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def follow(self, new: FlagSet, changed: Changes | None = None, **options: Any) -> rows.RowPlan:
        """Write the rows of one publication."""
        plan = rows.plan(source(new.provider, **options), new, changed, self.store.scan, 7)
        self.store.commit("prod", Condition(), {}, plan.writes)
        return plan

    def keys(self) -> set[str]:
        """Return the stored keys."""
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
    """It is reported, and the last good one stays; Redis has no such limit."""
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
    """Unreadable parts of it create no sets."""
    rig.follow(split({"a": flag}), store="redis")
    assert rig.keys() == {"prod:SPLITIO/split.a"}


def test_split_names_that_are_invalid_keys_are_skipped(rig: Rig) -> None:
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
    """In order, counted, and each below the limit unless a single member exceeds it."""
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
