"""Split's storage wrapper over a snapshot: keys, copies, dropped writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flagstore.adapters.split import SnapshotWrapper
from flagstore.errors import ConfigurationError, NotLoadedError
from simulators.reader_rig import DOWN, EXPIRED_S, HEAD, STATE, Rig
from simulators.split_flags import matcher, new_flag, new_rule_based, rule

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = [f"user-{number}" for number in range(5_000)]


class WrapperRig(Rig):
    """A source that is published, and the wrapper of its client."""

    def __init__(self, provider: str = "split") -> None:
        super().__init__(provider=provider)
        self.wrapper = SnapshotWrapper(self.client)

    def publish_flags(self, *flags: dict[str, Any]) -> None:
        """Publish these flags with the same segments, and let the TTL pass."""
        members = {"beta": ["ada", "bob"], "beta.till": ["eve"], "large": LARGE}
        self.publish(
            {flag["name"]: flag for flag in flags},
            rule_based_segments={"insiders": new_rule_based("insiders")},
            segments={name: {"name": name, "keys": keys} for name, keys in members.items()},
        )
        self.advance(EXPIRED_S)


@pytest.fixture
def rig() -> WrapperRig:
    """Give a source with three flags."""
    rig = WrapperRig()
    sets = {"a": ["x", "y"], "b": ["x"], "till": []}
    rig.publish_flags(*({**new_flag(name), "sets": named} for name, named in sets.items()))
    return rig


@pytest.mark.parametrize("prefix", ["", "my.prefix."])
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
    wrapper, key = rig.wrapper, "p.SPLITIO.segment."
    for name, member, contained in (
        ("beta", "ada", True),
        ("beta", "eve", False),
        ("beta.till", "eve", True),
        ("never", "ada", False),
    ):
        assert wrapper.item_contains(f"{key}{name}", member) is contained
    assert wrapper.get_items(f"{key}beta") == {"ada", "bob"}
    assert wrapper.get_items_count(f"{key}large") == len(LARGE)
    assert wrapper.get_items_count(f"{key}never") == 0


def test_changes_follow_the_ttl(rig: WrapperRig) -> None:
    """One read per flag set, and one per large segment."""
    for _ in range(3):
        assert rig.wrapper.get("SPLITIO.flagSet.x") == ["a", "b"]
        assert rig.wrapper.item_contains("SPLITIO.segment.large", "user-1")
    assert [call.split()[0] for call in rig.calls()] == ["read", "chunks"]
    rig.publish_flags({**new_flag("c"), "sets": ["x"], "trafficTypeName": "org"})
    assert rig.wrapper.get("SPLITIO.flagSet.x") == ["c"]
    assert rig.wrapper.get("SPLITIO.trafficType.user") is None
    assert rig.wrapper.get("SPLITIO.split.a") is None
    assert rig.wrapper.item_contains("SPLITIO.segment.large", "user-1")
    assert rig.calls() == [STATE, HEAD]


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
    """As for Split's other SDKs; a malformed flag passes unchanged, and the SDK reports it."""
    listed = {"whitelist": ["ada"]}
    matchers = [matcher("WHITELIST", name, whitelistMatcherData=listed) for name in ("", "plan")]
    flag = {**new_flag("a"), "conditions": [rule(*matchers, label="listed", on=100)]}
    malformed = [None, [{}], [{"matcherGroup": None}], [{"matcherGroup": {"matchers": [{}]}}]]
    odd = [{**new_flag(f"m{n}"), "conditions": given} for n, given in enumerate(malformed)]
    rig.publish_flags(flag, *odd)
    group = rig.wrapper.get("SPLITIO.split.a")["conditions"][0]["matcherGroup"]
    assert [one["keySelector"]["attribute"] for one in group["matchers"]] == [None, "plan"]
    assert [rig.wrapper.get(f"SPLITIO.split.{flag['name']}") for flag in odd] == odd


def test_nothing_loaded_is_an_error() -> None:
    """The SDK returns ``control`` then."""
    asks: list[Callable[[Any], Any]] = [
        lambda wrapper: wrapper.get("SPLITIO.split.a"),
        lambda wrapper: wrapper.get_many(["SPLITIO.split.a"]),
        lambda wrapper: wrapper.item_contains("SPLITIO.segment.large", "ada"),
        lambda wrapper: wrapper.get_keys_by_prefix("SPLITIO.split."),
    ]
    empty, other = WrapperRig(), WrapperRig("unleash")
    other.publish_flags(new_flag("a"))
    for ask in asks:
        with pytest.raises(NotLoadedError):
            ask(empty.wrapper)
        with pytest.raises(ConfigurationError, match="holds flags of 'unleash', not Split's"):
            ask(other.wrapper)


def test_failed_large_segment_is_read_again(rig: WrapperRig) -> None:
    """No key is outside of it for good."""
    rig.wrapper.get("SPLITIO.split.a")
    rig.store.error = DOWN
    with pytest.raises(NotLoadedError):
        rig.wrapper.item_contains("SPLITIO.segment.large", "user-1")
    rig.store.error = None
    rig.advance(10)
    assert rig.wrapper.item_contains("SPLITIO.segment.large", "user-1")
