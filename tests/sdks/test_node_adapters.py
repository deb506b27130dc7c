"""The providers' SDKs for Node.js on flagstore's adapters: one read, the provider's results."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from local import nodejs
from local.relay import Relay
from rigs import SOURCE
from sdks import processes, sets
from sdks.processes import NODE_FOLDER, TIMEOUT_S, same
from sdks.sets import ARCHIVED, LARGE, MAIN, MEMBERS, REMOVED, SEGMENT_FLAG
from sdks.test_node import changed, contexts, flags_and_more
from simulators import launchdarkly_flags, split_flags, unleash_flags
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.split import SplitSimulator
from simulators.split_flags import in_segment, matcher, rollout, rule
from storesync.maintenance import roll_back

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import PurePath

    from rigs import DynamoRig
    from sdks.processes import Ask

SDKS = {
    "launchdarkly-6": "launchdarkly-6",
    "launchdarkly-7": "launchdarkly-7",
    "launchdarkly-8": "launchdarkly-8",
    "launchdarkly-9": "launchdarkly-9",
    "split-browser": "split",
    "split-server": "split",
    "unleash": "unleash",
    "unleash-evaluator": "unleash",
}
"""SDKs in node/adapters.cjs, and those in node/evaluate.cjs that read the provider."""
DUE = {"advance": 40, "fresh": True}
"""The next check is due."""
UNDELAYED_S = 1
"""Of evaluations on a busy machine, with the time that a refresh may take."""
LATER = {"advance": 120, "fresh": True}
"""The same after failures."""


def provider_of(sdk: str) -> str:
    return sdk.partition("-")[0]


def command(sdk: str, *source: str) -> list[str | PurePath]:
    node = processes.needs_node()
    if not (nodejs.MODULES / "@splitsoftware" / "splitio-browserjs").exists():
        pytest.skip("splitio-browserjs is missing: run `make setup-node`")
    return [node, NODE_FOLDER / "adapters.cjs", sdk, *source]


def task_of(sdk: str, count: int) -> dict[str, Any]:
    provider = provider_of(sdk)
    flags = [*flags_and_more(SDKS[sdk], provider)[0], "never-there"]
    return {"flags": flags, "contexts": contexts(SDKS[sdk], provider, count), "sets": sets.SETS}


# -- on the store ---------------------------------------------------------------------------------


@contextmanager
def adapted(rig: DynamoRig, sdk: str) -> Iterator[tuple[Ask, Relay]]:
    """Start an SDK on the rig's store, behind a relay that counts calls."""
    with Relay(rig.aws.port) as relay:
        environment = {
            **rig.environment(),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}",
        }
        with processes.started(command(sdk, SOURCE), environment) as ask:
            yield ask, relay


@contextmanager
def serving(rig: DynamoRig, sdk: str) -> Iterator[Any]:
    """Start the SDK's provider, and publish its flags."""
    provider = provider_of(sdk)
    with sets.SIMULATORS[provider](*flags_and_more(SDKS[sdk], provider)) as server:
        rig.provider, rig.name = server, provider
        assert rig.sync().outcome == "published"
        yield server


def change(rig: DynamoRig) -> None:
    """Change flags, small segments and the large one."""
    sets.change(rig.provider)
    if isinstance(rig.provider, SplitSimulator):
        rig.provider.set_segment(LARGE, remove=MEMBERS)
    elif isinstance(rig.provider, LaunchDarklySimulator):
        included = sets.launchdarkly()[1][LARGE]["included"]
        rig.provider.set_segment(LARGE, included=[key for key in included if key not in MEMBERS])
    else:
        large = sets.unleash()[1]["4"]
        values = large["constraints"][0]["values"]
        large["constraints"][0]["values"] = [key for key in values if key not in MEMBERS]
        rig.provider.set_segment(4, **large)
    assert rig.sync().outcome == "published"


@pytest.mark.parametrize(
    "count", [40, pytest.param(200, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
@pytest.mark.parametrize("sdk", SDKS)
def test_sdk_evaluates_as_from_the_provider(dynamo_rig: DynamoRig, sdk: str, count: int) -> None:
    """All results are equal: at first, when a change is due, and after a rollback.

    The process connects to the store only, and reads each set once.
    """
    rig, task = dynamo_rig, task_of(sdk, count)
    given = task["contexts"]
    with (
        serving(rig, sdk) as server,
        processes.node("evaluate.cjs", SDKS[sdk], os.environ) as provider,
        adapted(rig, sdk) as (ask, relay),
    ):

        def stored(**steps: Any) -> list[str]:
            results, connections = processes.evaluated(ask, **task, **steps)
            assert set(connections) <= {f"127.0.0.1:{relay.port}"}
            return results

        def direct() -> list[str]:
            return processes.evaluated(provider, **task, url=server.url, key=server.sdk_key)[0]

        first = rig.store().state(SOURCE).published
        before = stored()
        assert relay.count().calls == ("GetItem",) * 2  # the set, and its large segment
        same(before, direct(), given)
        change(rig)
        same(stored(), before, given)
        assert relay.count().calls == ()
        after = stored(**DUE)
        same(after, direct(), given)
        assert changed(before, after) >= {MAIN, REMOVED, ARCHIVED, SEGMENT_FLAG}
        until = int((rig.clock.now() + 3_600) * 1000)
        roll_back(rig.source(), rig.store(), rig.clock, to=first, pinned_until=until)
        same(stored(**DUE), before, given)


@pytest.mark.parametrize("how", ["refused", "silent"])
@pytest.mark.parametrize("sdk", SDKS)
def test_evaluations_go_on_without_the_store(dynamo_rig: DynamoRig, sdk: str, how: str) -> None:
    """With the flags in memory; once the store is back, with those that changed meanwhile."""
    task = task_of(sdk, 5)
    with serving(dynamo_rig, sdk), adapted(dynamo_rig, sdk) as (ask, _):
        before = processes.evaluated(ask, **task)[0]
        without = ask(**task, cut=how, **DUE)
        assert without["info"]["stale"] is True
        assert without["seconds"] < UNDELAYED_S
        same(processes._strings(without["results"]), before, task["contexts"])
        change(dynamo_rig)
        after = processes.evaluated(ask, **task, cut="", **LATER)[0]
        assert changed(before, after) >= {REMOVED, ARCHIVED}


@pytest.mark.parametrize("sdk", SDKS)
def test_process_ends(dynamo_rig: DynamoRig, sdk: str) -> None:
    """Once the SDK and the client are closed, nothing keeps it alive."""
    with serving(dynamo_rig, sdk):
        environment = dynamo_rig.environment()
        (line,) = processes.run(command(sdk, SOURCE), task_of(sdk, 1), environment)
    assert len(line["results"]) == 1


# -- on flag sets that come one after the other ---------------------------------------------------


def play(sdk: str, *tasks: dict[str, Any]) -> list[Any]:
    """Let the SDK do tasks; return its responses."""
    lines = "".join(f"{json.dumps(task)}\n" for task in tasks)
    return [json.loads(line) for line in processes.output(command(sdk), input=lines).splitlines()]


def stored(sdk: str, letter: str = "a", **more: Any) -> dict[str, Any]:
    """Return a flag set in which the main flag serves "a" or "b", and "mixed" in no such set.

    That depends on a second flag and a segment, which are different in both. (Unleash's features
    are on, and off in a mixed set.)
    """
    first = letter == "a"
    provider = provider_of(sdk)
    build = {"launchdarkly": _launchdarkly, "split": _split, "unleash": _unleash}[provider]
    return {"provider": provider, **build(letter, first=first), **more}


def _launchdarkly(letter: str, *, first: bool) -> dict[str, Any]:
    values = {"variations": ["a", "b", "mixed"], "offVariation": 2}
    at, new = "ab".index(letter), launchdarkly_flags.new_flag
    match = {"attribute": "", "op": "segmentMatch", "values": ["s"], "negate": not first}
    main = {
        "prerequisites": [{"key": "other", "variation": at}],
        "rules": [{"id": "s", "clauses": [match], "variation": at}],
        "fallthrough": {"variation": 2},
    }
    flags = {
        MAIN: new(MAIN) | values | main,
        "other": new("other") | values | {"fallthrough": {"variation": at}},
        "object": new("object") | {"variations": [{"limits": [1]}, None]},
    }
    segment = launchdarkly_flags.new_segment("s") | {"included": ["ada"] if first else []}
    return {"flags": flags, "segments": {"s": segment}}


def _split(letter: str, *, first: bool) -> dict[str, Any]:
    depends = {"split": "other", "treatments": [letter]}
    member = in_segment("s") | {"negate": not first}
    other = matcher("IN_SPLIT_TREATMENT", dependencyMatcherData=depends)
    conditions = [rule(member, other, label="both", **{letter: 100}), rollout(mixed=100)]
    flags = {
        MAIN: split_flags.new_flag(MAIN) | {"conditions": conditions},
        "other": split_flags.new_flag("other") | {"conditions": [rollout(**{letter: 100})]},
    }
    segment = {"name": "s", "keys": ["ada"] if first else []}
    return {"flags": flags, "segments": {"s": segment}}


def _unleash(letter: str, *, first: bool) -> dict[str, Any]:
    del letter
    segment = unleash_flags.new_segment(1)
    segment["constraints"][0] |= {"values": ["ada" if first else "bob"], "inverted": not first}
    strategy = {"name": "default", "parameters": {}, "segments": [1]}
    main = {"dependencies": [{"feature": "other", "enabled": first}], "strategies": [strategy]}
    flags = {
        MAIN: unleash_flags.new_flag(MAIN) | main,
        "other": unleash_flags.new_flag("other") | {"enabled": first},
    }
    return {"flags": flags, "segments": {"1": segment}}


def task(sdk: str, **more: Any) -> dict[str, Any]:
    """Return a task that evaluates the main flag for Ada."""
    context = {
        "launchdarkly": {"kind": "user", "key": "ada"},
        "split": {"key": "ada"},
        "unleash": {"userId": "ada"},
    }[provider_of(sdk)]
    return {"flags": [MAIN], "contexts": [context], "fresh": True, **more}


def served(response: Any) -> list[Any]:
    """Return what the main flag served each time: "a" or "b", or whether Unleash's was on."""
    return [result["flags"][MAIN][0] for result in response["results"]]


ON: dict[str, Any] = {"launchdarkly": "a", "split": "a", "unleash": True}
DEFAULT: dict[str, Any] = {"launchdarkly": "the default", "split": "control", "unleash": False}
"""What a flag that cannot be evaluated serves."""


@pytest.mark.parametrize("sdk", SDKS)
def test_an_evaluation_never_combines_two_flag_sets(sdk: str) -> None:
    """Whatever else is evaluated at the same time, while each check finds another set."""
    asked = task(sdk, stored=[stored(sdk, "a"), stored(sdk, "b")], apart=True)
    (response,) = play(sdk, {**asked, "contexts": asked["contexts"] * 200})
    found = served(response)
    assert len(found) == 200
    assert set(found) == ({True} if provider_of(sdk) == "unleash" else {"a", "b"})


@pytest.mark.parametrize("sdk", SDKS)
def test_sdk_recovers_from_a_store_that_is_down_at_first(sdk: str) -> None:
    """It reports the reason once, and serves defaults meanwhile; Unleash's waits."""
    asked = task(sdk, stored=[None, None, stored(sdk)])
    responses = play(sdk, asked, task(sdk), task(sdk))
    (message,) = [line for response in responses for line in response["logged"]]
    assert message.endswith("the store is down")
    provider = provider_of(sdk)
    on, default = ON[provider], DEFAULT[provider]
    # Split's reads once more when it connects.
    failing = {"launchdarkly": 2, "split": 1, "unleash": 0}[provider]
    assert [served(response) for response in responses] == [
        [default] if number < failing else [on] for number in range(3)
    ]


@pytest.mark.parametrize("sdk", SDKS)
def test_flag_whose_large_segment_cannot_be_read_is_not_evaluated(sdk: str) -> None:
    """It serves the default until the segment is there; Unleash's is off."""
    key = "1" if provider_of(sdk) == "unleash" else "s"
    missing = stored(sdk, missing=[key])
    first, second = play(sdk, task(sdk, stored=[missing]), task(sdk, stored=[stored(sdk)]))
    provider = provider_of(sdk)
    assert (served(first), served(second)) == ([DEFAULT[provider]], [ON[provider]])
    if provider == "launchdarkly":
        assert first["logged"] == [
            f"flagstore: '{MAIN}' needs the large segment 's', which cannot be read"
        ]


@pytest.mark.parametrize("sdk", [sdk for sdk in SDKS if provider_of(sdk) == "launchdarkly"])
def test_flag_that_is_off_needs_no_segment(sdk: str) -> None:
    """A kill switch works while a segment of its rules cannot be read."""
    missing = stored(sdk, missing=["s"])
    missing["flags"][MAIN]["on"] = False
    (response,) = play(sdk, task(sdk, stored=[missing]))
    assert served(response) == ["mixed"]


@pytest.mark.parametrize("sdk", ["split-browser", "split-server"])
def test_splits_flag_sets_are_those_that_the_source_fetches(sdk: str) -> None:
    """A flag names all of its sets, but another set would lack other flags."""
    given = stored(sdk)
    given["flags"][MAIN]["sets"] = ["fetched", "other"]
    for fetched, found in (["fetched"], {MAIN}), ([], {MAIN}), (["third"], set()):
        asked = {"stored": [given | {"meta": {"sets": fetched}}], "sets": ["fetched", "other"]}
        (response,) = play(sdk, task(sdk, **asked))
        (result,) = response["results"]
        assert result["fetched"].keys() == found
        assert result["other"].keys() == (set() if fetched else {MAIN})


@pytest.mark.parametrize("sdk", [sdk for sdk in SDKS if sdk.startswith("launchdarkly")])
def test_values_of_launchdarklys_flags_are_copies(sdk: str) -> None:
    """Changing one does not change the flag."""
    (response,) = play(sdk, {"stored": [stored(sdk)], "spoil": "object"})
    assert response["results"] == [{"limits": [1]}]


def test_flags_that_need_each_other_do_not_end_the_process_of_sdk_6() -> None:
    """They serve the default. On LaunchDarkly's own stores they would end it."""
    flags = {
        key: launchdarkly_flags.new_flag(key) | {"prerequisites": [{"key": other, "variation": 0}]}
        for key, other in {MAIN: "other", "other": MAIN}.items()
    }
    circle = stored("launchdarkly-6", flags=flags)
    (response,) = play("launchdarkly-6", task("launchdarkly-6", stored=[circle]))
    assert served(response) == ["the default"]


@pytest.mark.parametrize("sdk", SDKS)
def test_other_providers_flags_are_refused_with_a_reason(sdk: str) -> None:
    """LaunchDarkly's SDK serves defaults, Unleash's waits, Split's is not ready."""
    provider = provider_of(sdk)
    title = {"launchdarkly": "LaunchDarkly", "split": "Split", "unleash": "Unleash"}[provider]
    reason = f"source 'prod' holds flags of 'appconfig', not {title}'s"
    asked = task(sdk, stored=[stored(sdk, provider="appconfig"), stored(sdk)])
    done = subprocess.run(
        command(sdk),
        input=json.dumps(asked),
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    if provider == "split":
        assert done.returncode == 1
        assert reason in done.stderr
        return
    response = json.loads(done.stdout)
    (message,) = response["logged"]
    assert message.endswith(reason)
    assert served(response) == [True if provider == "unleash" else "the default"]
