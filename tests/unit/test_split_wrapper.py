"""Split's storage wrapper over a snapshot: keys, copies, dropped writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flagstore.adapters.split import SnapshotWrapper
from flagstore.errors import ConfigurationError, NotLoadedError, StoreUnavailableError
from simulators.reader_rig import Rig
from simulators.split_flags import matcher, new_flag, new_rule_based, rule

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = [f"user-{number}" for number in range(5_000)]


class WrapperRig(Rig):
    """A source that is published, and the wrapper of its client."""

    def __init__(self, provider: str = "split") -> None:
        super().__init__(provider=provider)
        self.wrapper = SnapshotWrapper(self.client)

    def publish_flags(self, flags: list[dict[str, Any]]) -> None:
        """Publish these flags with the same segments, and let the TTL pass."""
        members = {"beta": ["ada", "bob"], "beta.till": ["eve"], "large": LARGE}
        self.publish(
            {flag["name"]: flag for flag in flags},
            rule_based_segments={"insiders": new_rule_based("insiders")},
            segments={name: {"name": name, "keys": keys} for name, keys in members.items()},
        )
        self.advance(40)


@pytest.fixture
def rig() -> WrapperRig:
    """Give a source with three flags."""
    rig = WrapperRig()
    sets = {"a": ["x", "y"], "b": ["x"], "till": []}
    rig.publish_flags([{**new_flag(name), "sets": named} for name, named in sets.items()])
    return rig


@pytest.mark.parametrize("prefix", ["", "my.prefix.", "SPLIT."])
def test_every_key_of_the_layout(rig: WrapperRig, prefix: str) -> None:
    """Other keys give None."""
    get = rig.wrapper.get
    root = f"{prefix}SPLITIO."
    assert get(f"{root}split.a") == {**new_flag("a"), "sets": ["x", "y"]}
    assert get(f"{root}split.till")["name"] == "till"
    assert get(f"{root}rbsegment.insiders") == new_rule_based("insiders")
    assert get(f"{root}flagSet.x") == ["a", "b"]
    assert get(f"{root}trafficType.user") == 3
    for key in ("splits.till", "rbsegments.till", "segment.beta.till"):
        assert get(f"{root}{key}") == 5
    missing = ("split.c", "split.A", "rbsegment.beta", "flagSet.z", "trafficType.org", "hash")
    for key in missing:
        assert get(f"{root}{key}") is None
    assert get("something-else") is None
    required = [f"{root}{key}" for key in ("split.a", *missing, "flagSet.y")]
    assert rig.wrapper.get_many(required) == [get(f"{root}split.a"), ["a"]]
    assert rig.wrapper.get_many([]) == []
    keys = rig.wrapper.get_keys_by_prefix
    assert keys(f"{root}split.") == [f"{root}split.{name}" for name in ("a", "b", "till")]
    assert keys(f"{root}split.a") == [f"{root}split.a"]
    assert keys(f"{root}rbsegment.") == [f"{root}rbsegment.insiders"]
    assert keys(f"{root}segment.") == [f"{root}segment.{n}" for n in ("beta", "beta.till", "large")]
    assert keys(f"{root}flagSet.") == keys("something-else") == []


def test_members_of_segments(rig: WrapperRig) -> None:
    """Also of one named like a change number, and of a missing one."""
    wrapper = rig.wrapper
    for prefix in ("", "p."):
        key = f"{prefix}SPLITIO.segment."
        assert wrapper.item_contains(f"{key}beta", "ada")
        assert not wrapper.item_contains(f"{key}beta", "eve")
        assert wrapper.item_contains(f"{key}beta.till", "eve")
        assert not wrapper.item_contains(f"{key}never", "ada")
        assert wrapper.get_items(f"{key}beta") == {"ada", "bob"}
        assert wrapper.get_items_count(f"{key}large") == len(LARGE)
        assert wrapper.get_items_count(f"{key}never") == 0


def test_store_is_read_once(rig: WrapperRig) -> None:
    """One snapshot and one large segment."""
    for _ in range(3):
        rig.wrapper.get_many(["SPLITIO.split.a", "SPLITIO.flagSet.x"])
        rig.wrapper.item_contains("SPLITIO.segment.large", "ada")
    assert [call.split()[0] for call in rig.store.calls] == ["read", "chunks"]
    rig.advance(40)
    rig.wrapper.get("SPLITIO.split.a")
    rig.wrapper.item_contains("SPLITIO.segment.large", "ada")
    assert len(rig.store.calls) == 3


def test_changes_follow_the_ttl(rig: WrapperRig) -> None:
    """Flags, flag sets and counters."""
    assert rig.wrapper.get("SPLITIO.flagSet.x") == ["a", "b"]
    rig.publish_flags([{**new_flag("c"), "sets": ["x"], "trafficTypeName": "org"}])
    assert rig.wrapper.get("SPLITIO.flagSet.x") == ["c"]
    assert rig.wrapper.get("SPLITIO.trafficType.user") is None
    assert rig.wrapper.get("SPLITIO.split.a") is None


def test_results_are_copies(rig: WrapperRig) -> None:
    """At every depth."""
    for _ in range(2):
        flag = rig.wrapper.get("SPLITIO.split.a")
        assert flag["sets"] == ["x", "y"]
        flag["sets"].clear()
        flag["conditions"][0]["partitions"].clear()
        named = rig.wrapper.get("SPLITIO.flagSet.x")
        assert named == ["a", "b"]
        named.clear()
        members = rig.wrapper.get_items("SPLITIO.segment.beta")
        assert members == {"ada", "bob"}
        members.clear()


def test_empty_attribute_name_is_null(rig: WrapperRig) -> None:
    """As for Split's other SDKs."""
    listed = {"whitelist": ["ada"]}
    matchers = [matcher("WHITELIST", name, whitelistMatcherData=listed) for name in ("", "plan")]
    flag = {**new_flag("a"), "conditions": [rule(*matchers, label="listed", on=100)]}
    rig.publish_flags([flag])
    group = rig.wrapper.get("SPLITIO.split.a")["conditions"][0]["matcherGroup"]
    assert [one["keySelector"]["attribute"] for one in group["matchers"]] == [None, "plan"]


@pytest.mark.parametrize(
    "conditions", [None, [], [{}], [{"matcherGroup": None}], [{"matcherGroup": {"matchers": [{}]}}]]
)
def test_malformed_flag_passes_unchanged(rig: WrapperRig, conditions: Any) -> None:
    """The SDK reports it."""
    flag = {**new_flag("a"), "conditions": conditions}
    rig.publish_flags([flag])
    assert rig.wrapper.get("SPLITIO.split.a") == flag


def test_writes_are_dropped(rig: WrapperRig) -> None:
    """Counters return numbers."""
    wrapper, key = rig.wrapper, "SPLITIO.split.a"
    before = wrapper.get(key)
    wrapper.set(key, {})
    wrapper.delete(key)
    wrapper.add_items("SPLITIO.segment.beta", ["eve"])
    wrapper.remove_items("SPLITIO.segment.beta", ["ada"])
    wrapper.expire(key, 5)
    counted = (
        wrapper.push_items("q"),
        wrapper.push_items("q", "1", "2"),
        wrapper.increment("c", 1),
    )
    assert (*counted, wrapper.decrement("c", 1)) == (0, 0, 0, 0)
    assert wrapper.get(key) == before
    assert wrapper.get_items("SPLITIO.segment.beta") == {"ada", "bob"}


@pytest.mark.parametrize(
    "ask",
    [
        lambda wrapper: wrapper.get("SPLITIO.split.a"),
        lambda wrapper: wrapper.get_many(["SPLITIO.split.a"]),
        lambda wrapper: wrapper.item_contains("SPLITIO.segment.large", "ada"),
        lambda wrapper: wrapper.get_keys_by_prefix("SPLITIO.split."),
    ],
)
def test_nothing_loaded_is_an_error(ask: Callable[[Any], Any]) -> None:
    """The SDK returns ``control`` then."""
    rig = WrapperRig()
    with pytest.raises(NotLoadedError):
        ask(rig.wrapper)
    rig = WrapperRig("unleash")
    rig.publish_flags([new_flag("a")])
    with pytest.raises(ConfigurationError, match="holds flags of 'unleash', not Split's"):
        ask(rig.wrapper)


def test_failed_large_segment_is_read_again(rig: WrapperRig) -> None:
    """No key is outside of it for good."""
    rig.wrapper.get("SPLITIO.split.a")
    rig.store.error = StoreUnavailableError("the store is down")
    with pytest.raises(NotLoadedError):
        rig.wrapper.item_contains("SPLITIO.segment.large", "user-1")
    rig.store.error = None
    rig.advance(10)
    assert rig.wrapper.item_contains("SPLITIO.segment.large", "user-1")
