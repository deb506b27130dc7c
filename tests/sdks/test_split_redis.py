"""Split's own SDKs read what we published into Redis, and see what Split responded."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sdks import split_set
from sdks.rig import RedisRig, node, same
from sdks.split_set import (
    ARCHIVED,
    DIFFERING,
    KILLED,
    LARGE,
    MOMENTS,
    NAMES,
    NO_ATTRIBUTE,
    RULE_BASED,
    SEGMENT,
    SETS,
)
from simulators.split import SplitSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulators.redis_server import Server

    type Sdk = Callable[..., list[str]]

PAGE = Path(__file__).parents[2] / "docs" / "redis.md"
USER = "split-sdk"
PASSWORD = "tests-own"
CONTEXTS = split_set.contexts(200)
FLAGS = [*split_set.flag_set()[0], "never-there"]
PORTABLE = [name for name in FLAGS if name != NO_ATTRIBUTE]


@pytest.fixture
def rig(redis_server: Server) -> Iterator[RedisRig]:
    """Give an empty Redis that lets SDKs in with the documented rights, and a Split."""
    (line,) = [line for line in PAGE.read_text().splitlines() if f" {USER} " in line]
    rules = line.replace(">PASSWORD", f">{PASSWORD}").split()[3:]
    redis_server.admin.execute_command("ACL", "SETUSER", USER, "reset", *rules)
    redis_server.admin.execute_command("ACL", "LOG", "RESET")
    with SplitSimulator(*split_set.flag_set()) as server:
        yield RedisRig(redis_server, server, "split", login=f"{USER}:{PASSWORD}")


def evaluate(rig: RedisRig, sdk: str, flags: list[str], place: dict[str, str]) -> list[str]:
    """Let an SDK evaluate flags and flag sets that it reads there; one text for each context."""
    task: dict[str, Any] = {"flags": flags, "sets": SETS, "contexts": CONTEXTS, **place}
    if sdk == "python":
        return rig.python("split_python.py", **task)
    node("@splitsoftware/splitio")
    return rig.node("split.cjs", **task, moments=MOMENTS)


def from_redis(rig: RedisRig, sdk: str, flags: list[str] = PORTABLE) -> list[str]:
    """Let an SDK evaluate what we published, and see that it was let do all that it wants."""
    results = evaluate(rig, sdk, flags, rig.place())
    refused: Any = rig.redis.admin.execute_command("ACL", "LOG")
    assert refused == []
    return results


def from_split(rig: RedisRig, sdk: str, flags: list[str] = PORTABLE) -> list[str]:
    """Let an SDK evaluate what Split responses now."""
    return evaluate(rig, sdk, flags, {"url": rig.server.url, "key": rig.server.sdk_key})


def change(rig: RedisRig) -> None:
    """Change one of everything, and publish it."""
    server: Any = rig.server
    server.set_flag(KILLED, killed=True)
    server.remove_flag(ARCHIVED)
    server.set_segment(SEGMENT, remove=["user-4", "user-12"], add=["user-5"])
    server.set_segment(LARGE, remove=["user-10"])
    server.set_rule_based(RULE_BASED, excluded={"keys": ["user-16"], "segments": []})
    server.set_flag("base", trafficAllocation=30, sets=["front_end"])
    assert rig.sync().outcome == "published"


def treatments(results: list[str]) -> dict[str, Counter[str]]:
    """Return how often each flag had each treatment."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for result in map(json.loads, results):
        for name, (treatment, _) in result["flags"].items():
            found[name][treatment] += 1
    return found


@pytest.mark.parametrize("sdk", ["python", "node"])
def test_the_sdk_evaluates_rows_as_splits_response(rig: RedisRig, sdk: str) -> None:
    """Each treatment and configuration, of flags, flag sets and all names; after changes too."""
    assert rig.sync().skipped_rows == ()
    before = from_redis(rig, sdk)
    same(before, from_split(rig, sdk), CONTEXTS)
    change(rig)
    after = from_redis(rig, sdk)
    same(after, from_split(rig, sdk), CONTEXTS)
    differing: Counter[str] = Counter()
    for old, new in zip(map(json.loads, before), map(json.loads, after), strict=True):
        assert old["flags"][KILLED][0] == old["flags"][ARCHIVED][0] == "on"
        assert new["flags"][KILLED][0] == "dead"
        assert new["flags"][ARCHIVED][0] == "control"
        assert ARCHIVED in old["sets"]["backend"]
        assert ARCHIVED not in (*new["sets"]["backend"], *new["names"])
        assert "base" in new["sets"]["front_end"].keys() - old["sets"]["front_end"].keys()
        differing.update(name for name in FLAGS if name in old["flags"])
        differing.subtract(n for n in old["flags"] if old["flags"][n] == new["flags"][n])
    assert +differing >= Counter([KILLED, ARCHIVED, "segment", "large", "rule-based", "base"])


def test_the_flags_reach_every_part_of_an_evaluation(rig: RedisRig) -> None:
    """Each matcher holds for some and not for others; each treatment class appears."""
    rig.sync()
    found = treatments(from_redis(rig, "python"))
    for name in NAMES:
        assert set(found[name]) == {"on", "off"}, name
        assert 5 <= found[name]["on"] <= len(CONTEXTS) - 5, name
    assert set(found["thirds"]) == {"red", "green", "blue"}
    assert set(found["two-matchers"]) == {"both", "on", "off"}
    assert set(found["listed-without-traffic"]) == {"listed", "off"}
    assert set(found["some-traffic"]) == set(found["prerequisite"]) == {"on", "off"}
    assert found[split_set.DEPENDS]["on"] == found["prerequisite"]["on"] == found["base"]["on"]
    assert set(found["old-kill"]) == {"dead"}
    assert set(found["no-base"]) == {"on"}
    assert set(found["nobody"]) == {"off"}
    assert set(found["never-there"]) == {"control"}


def test_the_sdks_differ_only_where_split_lets_them(rig: RedisRig) -> None:
    """From the same rows Python and Node.js decide alike, but for what differs from Split too."""
    rig.sync()
    known = set(DIFFERING)
    for place in (from_redis, from_split):
        flags = FLAGS if place is from_redis else PORTABLE
        differing = set()
        for ours, theirs in zip(
            place(rig, "python", flags), place(rig, "node", flags), strict=True
        ):
            python, javascript = json.loads(ours)["flags"], json.loads(theirs)["flags"]
            differing |= {name for name in flags if python[name] != javascript[name]}
        assert differing == known, place


def test_a_matcher_of_an_attribute_without_a_name_takes_the_key(rig: RedisRig) -> None:
    """Python's SDK takes Split's own response for an attribute named "", which nobody has."""
    rig.sync()
    both = [NO_ATTRIBUTE, "whitelist"]
    for sdk in ("python", "node"):
        for result in map(json.loads, from_redis(rig, sdk, both)):
            assert result["flags"][NO_ATTRIBUTE] == result["flags"]["whitelist"]
    assert set(treatments(from_split(rig, "python", both))[NO_ATTRIBUTE]) == {"off"}


def test_what_sdks_write_beside_the_rows_stays(rig: RedisRig) -> None:
    """Through a sync that changes, removes and compares everything; without impressions."""
    rig.sync()
    admin: Any = rig.redis.admin
    before = set(admin.keys("{prod}.SPLITIO.*"))
    for sdk in ("python", "node"):
        from_redis(rig, sdk, ["base"])
    written = set(admin.keys("{prod}.SPLITIO.*")) - before
    names = {"impressions.count", "uniquekeys", "telemetry.init", "telemetry.latencies"}
    assert {key.decode() for key in written} == {f"{{prod}}.SPLITIO.{name}" for name in names}
    change(rig)
    admin.hset("flagstore:{prod}:$state:state", "verified_at", 0)
    rig.sync()
    assert admin.exists(*written) == len(written)
