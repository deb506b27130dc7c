"""Split's rows in Redis: the layout that its SDKs read, and nothing else."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from contract.test_redis import dump
from contract.test_redis_rows import HOUR_S, own, watch
from contract.test_redis_rows import rows as launchdarkly_rows
from rigs import RedisRig
from simulators.provider import ModelProvider
from simulators.split_flags import in_segment, matcher, new_flag, new_rule_based, rule
from storesync.model import FetchResult, FlagSet
from storesync.store import Put

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.redis_server import Server

SPLIT = "split"
ODD = "beta testers: {ü}/中 🙂.till"


@dataclass
class SplitModel(ModelProvider):
    name: str = SPLIT
    rule_based: dict[str, Any] = field(default_factory=dict)
    sets: list[str] = field(default_factory=list)

    def fetch(self, *args: Any, **options: Any) -> FetchResult:
        response = super().fetch(*args, **options)
        if response.flag_set is None or self.name != SPLIT:
            return response
        sections = {**response.flag_set.sections, "rule_based_segments": dict(self.rule_based)}
        meta = {"sets": self.sets} if self.sets else {}
        return FetchResult(FlagSet(SPLIT, sections, meta, self.revision), response.etag)


def segment(name: str, *keys: str) -> dict[str, Any]:
    return {name: {"name": name, "keys": sorted(keys)}}


def model() -> SplitModel:
    """Return a Split with one of everything."""
    a, b = new_flag("a"), {**new_flag("b c:d"), "trafficTypeName": "account"}
    a |= {"sets": ["back", "front"], "conditions": [rule(in_segment(ODD), label="in", on=100)]}
    b |= {"sets": ["back"], "unknown": [1.0, None, "ü"]}
    segments = segment(ODD, "user-1", "ключ 🙂", "") | segment("empty")
    return SplitModel({"a": a, "b c:d": b}, segments, rule_based={"r": new_rule_based("r")})


@pytest.fixture
def rig(redis_server: Server) -> Iterator[RedisRig]:
    with closing(RedisRig(redis_server, model())) as rig:
        yield rig


def rows(rig: RedisRig) -> dict[str, Any]:
    admin = rig.server.admin
    reads: dict[bytes, Any] = {b"set": admin.smembers, b"string": admin.get}
    keys: Any = admin.keys("{prod}.SPLITIO.*")
    found = {key: reads[bytes(admin.type(key))](key) for key in keys}  # type: ignore[arg-type] # not awaitable
    return {key.decode().removeprefix("{prod}.SPLITIO."): value for key, value in found.items()}


def text(item: Any) -> bytes:
    return json.dumps(item, separators=(",", ":")).encode()


def required(provider: Any) -> dict[str, Any]:
    found: dict[str, Any] = {f"split.{name}": text(flag) for name, flag in provider.flags.items()}
    found |= {f"rbsegment.{name}": text(item) for name, item in provider.rule_based.items()}
    for name, item in provider.segments.items():
        if item["keys"]:
            found[f"segment.{name}"] = {key.encode() for key in item["keys"]}
    types: dict[str, int] = {}
    for name, flag in provider.flags.items():
        for flag_set in flag["sets"]:
            found.setdefault(f"flagSet.{flag_set}", set()).add(name.encode())
        types[flag["trafficTypeName"]] = types.get(flag["trafficTypeName"], 0) + 1
    return found | {f"trafficType.{name}": b"%d" % count for name, count in types.items()}


def left(rig: RedisRig) -> set[bytes]:
    """Return flagstore's keys that hold rows, or parts of them."""
    return {key for key in own(rig) if key != b"flagstore:{prod}:SPLITIO"}


# -- the layout -----------------------------------------------------------------------------------


def test_layout_is_splits(rig: RedisRig) -> None:
    """Byte for byte: keys, types, values; without TTL, and none of them in flagstore's layout."""
    rig.sync()
    found = rows(rig)
    assert found == required(rig.provider)
    assert found.keys() == {
        *("split.a", "split.b c:d", "rbsegment.r", f"segment.{ODD}"),
        *("flagSet.back", "flagSet.front", "trafficType.user", "trafficType.account"),
    }
    assert b'"unknown":[1.0,null,"\\u00fc"]' in found["split.b c:d"]
    assert left(rig) == set()
    assert {at for _, at in dump(rig.server).values()} == {-1}
    rig.provider.sets = ["front"]  # other flag sets would lack flags
    rig.provider.change()
    rig.sync()
    assert rows(rig).keys() == found.keys() - {"flagSet.back"}


def test_empty_attribute_becomes_null(rig: RedisRig) -> None:
    """In flags and in rule-based segments; a value that looks like one stays."""
    unnamed = matcher("WHITELIST", "", whitelistMatcherData={"whitelist": ['"attribute":""', ""]})
    named = {**unnamed, "keySelector": {"trafficType": "user", "attribute": None}}
    rule_based = new_rule_based("r")
    rule_based["conditions"][0]["matcherGroup"]["matchers"] = [unnamed]
    rig.provider.rule_based["r"] = rule_based  # type: ignore[attr-defined] # Split's model
    other = matcher("WHITELIST", "country", whitelistMatcherData={"whitelist": ["DE"]})
    flag = {**new_flag("a"), "attribute": ""}
    flag["conditions"] = [rule(unnamed, other, label="x", on=100)]
    rig.provider.change(a=flag)
    rig.sync()
    found = rows(rig)
    assert found["split.a"] == text({**flag, "conditions": [rule(named, other, label="x", on=100)]})
    assert json.loads(found["rbsegment.r"])["conditions"][0]["matcherGroup"]["matchers"] == [named]
    assert rig.sync(step_s=HOUR_S).outcome == "unchanged"
    assert rows(rig) == found


# -- what a sync writes ---------------------------------------------------------------------------


def test_order_of_writes(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments, rule-based segments, flags, flag sets; deletes in the opposite order."""
    seen: list[str] = []

    def note(writes: Any) -> None:
        keys = [write.record if isinstance(write, Put) else write.key._asdict() for write in writes]
        seen.extend(key["key"] for key in keys if key["namespace"] == "prod:SPLITIO")

    watch(monkeypatch, note)
    rig.sync()
    order = [name.partition(".")[0] for name in seen]
    kinds = ["segment", "rbsegment", "split", "flagSet", "trafficType"]
    assert list(dict.fromkeys(order)) == kinds
    seen.clear()
    rig.provider.flags = {"n": {"name": "n"}}
    rig.provider.segments.clear()
    rig.provider.rule_based.clear()  # type: ignore[attr-defined] # Split's model
    rig.provider.change()
    rig.sync()
    gone = [name.partition(".")[0] for name in seen if name != "split.n"]
    assert list(dict.fromkeys(gone)) == kinds[::-1]
    assert rows(rig).keys() == {"split.n"}


# -- the hourly check -----------------------------------------------------------------------------


def test_hourly_check_repairs_rows(rig: RedisRig) -> None:
    """Changed or missing rows, members in any bytes, and the index of keys."""
    rig.sync()
    admin = rig.server.admin
    admin.set("{prod}.SPLITIO.split.a", b"\xff not JSON")
    admin.delete("{prod}.SPLITIO.split.b c:d")
    admin.sadd(f"{{prod}}.SPLITIO.segment.{ODD}", b"\xff\xfe", "more")
    admin.sadd("{prod}.SPLITIO.segment.empty", "more")
    admin.srem("{prod}.SPLITIO.flagSet.back", "a")
    admin.set("{prod}.SPLITIO.trafficType.user", "7")
    rig.sync()
    assert rows(rig) != required(rig.provider)
    rig.sync(step_s=HOUR_S)
    assert rows(rig) == required(rig.provider)
    admin.delete("flagstore:{prod}:SPLITIO", "{prod}.SPLITIO.split.a")
    rig.sync(step_s=HOUR_S)
    assert rows(rig) == required(rig.provider)
    rig.provider.change(a=None)
    rig.sync()
    assert rows(rig) == required(rig.provider)


# -- another provider, other keys -----------------------------------------------------------------


@pytest.mark.parametrize("other", ["model", "launchdarkly"])
def test_changed_provider_leaves_no_split_rows(rig: RedisRig, other: str) -> None:
    """Nor do the other provider's rows stay on the way back."""
    rig.sync()
    rig.provider.name = other
    rig.sync(rows=False)
    assert rows(rig) == {}  # Split's SDKs would go on reading them
    rig.provider.revision += 1
    rig.sync()
    assert rows(rig) == {}
    assert not rig.server.admin.exists("flagstore:{prod}:SPLITIO")
    assert bool(launchdarkly_rows(rig)) == (other == "launchdarkly")
    assert (b"flagstore:{prod}:flags:a" in own(rig)) == (other == "model")
    rig.provider.name = SPLIT
    rig.provider.revision += 1
    rig.sync()
    assert rows(rig) == required(rig.provider)
    assert left(rig) == set()
    assert launchdarkly_rows(rig) == {}


def test_other_keys_are_not_touched(rig: RedisRig) -> None:
    """Keys that SDKs write under the prefix, and keys of others."""
    admin = rig.server.admin
    for name in ("impressions", "events", "uniquekeys"):
        admin.rpush(f"{{prod}}.SPLITIO.{name}", "theirs")
    for name in ("telemetry.init", "telemetry.latencies", "impressions.count"):
        admin.hset(f"{{prod}}.SPLITIO.{name}", "field", "value")
    for name in ("SPLITIO.split.a", "prod.SPLITIO.split.a", "{prod-eu}.SPLITIO.split.a"):
        admin.set(name, "theirs")
    before = dump(rig.server)
    rig.sync()
    rig.provider.change(a=None)
    rig.sync(step_s=HOUR_S)
    rig.provider.name = "model"
    rig.sync(step_s=HOUR_S)
    after = dump(rig.server)
    assert {key: after[key] for key in before} == before
    assert not {key for key in after.keys() - before.keys() if key.startswith(b"{prod}")}
