"""The providers' own SDKs on our adapters: one read, and the responses of the provider's own."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from sdks import launchdarkly_set, unleash_set
from sdks.launchdarkly_set import GONE
from sdks.rig import SOURCE, Rig, same
from sdks.unleash_set import ARCHIVED, LARGE, MAIN
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.split import SplitSimulator
from simulators.split_flags import in_segment, matcher, new_flag, rich_flags, rollout, rule
from simulators.unleash import UnleashSimulator

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.aws import Table

LAUNCHDARKLY, UNLEASH = "launchdarkly_python.py", "unleash_python.py"
SPLIT = "split_adapter_python.py"
HEAD, CHUNKS = f"read {SOURCE}:$snapshot", "chunks"


def test_launchdarklys_sdk_reads_the_table_once(aws: StandIn, dynamodb_table: Table) -> None:
    """All flags for all contexts from one read and one large segment, as from its own memory."""
    flags, segments = launchdarkly_set.flag_set()
    contexts = launchdarkly_set.contexts(200)
    task: dict[str, Any] = {"flags": [*flags, "never-there"], "contexts": contexts}
    assert GONE in flags
    with LaunchDarklySimulator(flags, segments) as server:
        rig = Rig(aws, dynamodb_table, server, "launchdarkly")
        assert rig.sync().outcome == "published"
        published, calls = rig.adapted(LAUNCHDARKLY, **task)
        response = json.loads(server.document())
    assert sorted(calls) == sorted([HEAD, CHUNKS])
    same(published, rig.python(LAUNCHDARKLY, **task, document=response), contexts)


@pytest.mark.parametrize("cache", [False, True])
def test_unleashs_sdk_reads_the_table_once(
    aws: StandIn, dynamodb_table: Table, *, cache: bool
) -> None:
    """The same of Unleash's, by our client as by our cache in a client of one's own."""
    flags, segments = unleash_set.flag_set()
    contexts = unleash_set.contexts(200)
    task: dict[str, Any] = {"flags": [*flags, "never-there"], "contexts": contexts}
    assert {MAIN, ARCHIVED} < flags.keys()
    assert str(LARGE) in segments
    with UnleashSimulator(flags, segments) as server:
        rig = Rig(aws, dynamodb_table, server, "unleash")
        assert rig.sync().outcome == "published"
        published, calls = rig.adapted(UNLEASH, **task, cache=cache)
        document = server.document().decode()
    assert sorted(calls) == sorted([HEAD, CHUNKS])
    assert json.loads(published[0])["known"] == len(flags)
    same(published, rig.python(UNLEASH, **task, document=document), contexts)


# -- Split ----------------------------------------------------------------------------------------


def split_set() -> tuple[dict[str, Any], dict[str, list[str]], dict[str, Any]]:
    """Return flags of every kind of storage that the SDK asks for, always the same ones."""
    flags, segments, rule_based = rich_flags(60)
    segments["large"] = [f"user-{number:06d}" for number in range(4_000)]
    segments["large"] += [f"user-{number}" for number in range(0, 300, 2)]
    plans = matcher("WHITELIST", "plan", whitelistMatcherData={"whitelist": ["team"]})
    conditions = {
        "till": [rule(plans, label="plans", on=100), rollout(on=50, off=50)],
        "large-one": [rule(in_segment("large"), label="large", on=100), rollout(off=100)],
        "insiders-only": [
            rule(in_segment("outsiders", "IN_RULE_BASED_SEGMENT"), label="out", on=100),
            rollout(off=100),
        ],
    }
    for name, listed in conditions.items():
        flags[name] = {**new_flag(name), "conditions": listed, "sets": ["extra"]}
    return flags, segments, rule_based


def split_contexts(count: int) -> list[dict[str, Any]]:
    """Return so many keys with attributes, some of them missing."""
    random = Random(1)
    return [_split_context(random) for _ in range(count)]


def _split_context(random: Random) -> dict[str, Any]:
    attributes = {
        "plan": random.choice(("free", "team")),
        "email": random.choice(("anna@example.com", "bob@example.org")),
        "country": random.choice(("DE", "FR", "JP", "BR", "US", "KE")),
        "age": random.randint(10, 70),
        "seats": random.randint(1, 100),
        "beta": random.choice((True, False)),
    }
    kept = {name: value for name, value in attributes.items() if random.random() < 0.88}
    key = random.choice((f"user-{random.randint(0, 300)}", "empleado-7@müller.example"))
    return {"key": key, "attributes": kept}


@pytest.mark.parametrize(
    ("prefix", "impressions"), [(None, "none"), ("my.prefix", "debug"), ("p", "optimized")]
)
def test_splits_sdk_reads_the_table_once(
    aws: StandIn, dynamodb_table: Table, prefix: str | None, impressions: str
) -> None:
    """The same of Split's, under any prefix; what it writes is dropped without a complaint."""
    flags, segments, rule_based = split_set()
    contexts = split_contexts(200)
    sets = sorted({name for flag in flags.values() for name in flag["sets"]})
    task: dict[str, Any] = {"flags": [*flags, "never-there"], "sets": sets, "contexts": contexts}
    with SplitSimulator(flags, segments, rule_based) as server:
        rig = Rig(aws, dynamodb_table, server, "split")
        assert rig.sync().outcome == "published"
        adapted, calls = rig.adapted(SPLIT, **task, prefix=prefix, impressions=impressions)
        direct = rig.python(SPLIT, **task, url=server.url, sdk_key=server.sdk_key)
    assert sorted(calls) == sorted([HEAD, CHUNKS])
    *ours, our_manager, tracked = adapted
    *theirs, their_manager, _, _ = direct
    same(ours, theirs, contexts)
    assert tracked == "true"
    # In pluggable storage the SDK takes the name of a flag that ends in "till" for a counter.
    listed, views, first = json.loads(their_manager)
    del views["till"]
    assert json.loads(our_manager) == [[n for n in listed if n != "till"], views, first]
    treatments = [t for line in map(json.loads, ours) for t, _ in line["flags"].values()]
    assert 0.2 < treatments.count("on") / len(treatments) < 0.8
    assert treatments.count("control") == len(contexts)
    for name in ("till", "large-one", "insiders-only"):
        told = {json.loads(line)["flags"][name][0] for line in ours}
        assert told == {"on", "off"}, name
