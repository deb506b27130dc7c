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
    rig = WrapperRig()
    sets = {"a": ["x", "y"], "b": ["x"], "till": []}
    rig.publish_flags(*({**new_flag(name), "sets": named} for name, named in sets.items()))
    return rig


def test_changes_follow_the_ttl(rig: WrapperRig) -> None:
    """One read per flag set, and one per large segment."""
    for _ in range(3):
        assert rig.wrapper.get("SPLITIO.flagSet.x") == ["a", "b"]
        assert rig.wrapper.item_contains("SPLITIO.segment.large", "user-1")
    assert [call.split()[0] for call in rig.calls()] == ["read", "chunk"]
    rig.publish_flags({**new_flag("c"), "sets": ["x"], "trafficTypeName": "org"})
    assert rig.wrapper.get("SPLITIO.flagSet.x") == ["c"]
    assert rig.wrapper.get("SPLITIO.trafficType.user") is None
    assert rig.wrapper.get("SPLITIO.split.a") is None
    assert rig.wrapper.item_contains("SPLITIO.segment.large", "user-1")
    assert rig.calls() == [STATE, HEAD]


def test_results_are_copies(rig: WrapperRig) -> None:
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
    malformed.append([{"matcherGroup": {"matchers": [{"keySelector": "plan"}]}}])
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
