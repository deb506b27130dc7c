"""The same faults for the providers' own stores and flagstore: what theirs do is not asserted.

Each test writes rows of the second table of docs/guarantees.md.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.world import MAKERS
from sdks import processes
from simulators import faults, unleash_flags
from simulators.unleash import UnleashSimulator
from simulators.unreliable import Killed, UnreliableClient, kill_at
from storesync.errors import ProviderError, RefusedSetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rigs import DynamoRig
    from storesync.model import FetchResult

PINS = Path(__file__).parents[2] / "tools" / "requirements" / "sdks.txt"
FLAGS = 98
SDK_VERSION = re.findall(r"(?mi)^unleashclient==(\S+)", PINS.read_text(encoding="utf-8"))[0]
type Row = Callable[[str, str, str], None]


@pytest.fixture
def rig(dynamo_rig: DynamoRig) -> DynamoRig:
    """Give an empty table and an empty provider."""
    return dynamo_rig


@pytest.fixture
def row(record_property: Callable[[str, object], None]) -> Row:
    """Give the function that records one row of the table: fault, their behaviour, flagstore's."""
    return lambda fault, theirs, ours: record_property(
        "side by side", json.dumps([fault, theirs, ours])
    )


def peer(rig: DynamoRig, task: str, **more: Any) -> dict[str, Any]:
    """Run a task of peers.py on the same table."""
    processes.needs_python()
    command = [processes.PYTHON, "-I", Path(__file__).with_name("peers.py")]
    given = {"task": task, "table": rig.table.name, **more}
    said: dict[str, Any] = processes.run(command, given, rig.environment())[-1]
    return said


def numbered(start: int, end: int, version: int) -> dict[str, Any]:
    """Return the flags that both sides have."""
    return {f"flag-{n:04}": {"version": version, "n": n * version} for n in range(start, end)}


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_unprocessed_items(
    rig: DynamoRig, row: Row, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB leaves a share of every batch of 1,000 flags unprocessed: flagstore loses none."""
    theirs = peer(rig, "unprocessed", share=share)
    assert theirs["forgotten"] > 0
    monkeypatch.setattr("flagstore.keys.INLINE_BYTES", 0)
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 500)
    client = UnreliableClient(rig.table.client, share=share, rng=random.Random(7))
    rig.provider.change(**numbered(0, 1_000, 1))
    assert rig.sync(client).outcome == "published"
    assert client.forgotten > 0
    assert rig.read() == rig.provider.flags
    said = theirs["raised"] or "no exception"
    row(
        f"1,000 flags, {share:.0%} of all items of a batch left unprocessed",
        f"{theirs['stored']:,} of 1,000 stored, {said}, `initialized={theirs['initialized']}`",
        "1,000 of 1,000",
    )


def test_kill_points(rig: DynamoRig, row: Row) -> None:
    """The step from 250 flags to 210, killed at every moment: flagstore's readers see no mix."""
    theirs = peer(rig, "killed")
    assert theirs["points"] >= 11
    old, new = numbered(0, 250, 1), numbered(40, 250, 2)
    rig.settle(old)
    undisturbed = UnreliableClient(rig.table.client)
    rig.replace(new)
    rig.sync(undisturbed)
    seen: Counter[str] = Counter()
    for number, moment in product(range(undisturbed.calls.total()), ("before", "after")):
        rig.settle(old)
        rig.replace(new)
        with pytest.raises(Killed):
            rig.sync(UnreliableClient(rig.table.client, kill_at(moment, number)))
        found = rig.read()
        seen["old" if found == old else "new" if found == new else "mixed"] += 1
    assert seen["mixed"] == 0
    row(
        "250 flags become 210, killed before and after every call that writes",
        f"{theirs['mixed']} of {theirs['points']} points leave a mix, "
        f"{theirs['mixed and initialized']} of them `initialized`",
        f"0 of {seen.total()} points (all calls, reads included)",
    )


def test_older_set_after_a_newer_one(rig: DynamoRig, row: Row) -> None:
    """A slow writer continues with an older set: flagstore's readers keep the newer one."""
    theirs = peer(rig, "older")
    rig.replace(numbered(0, 100, 1))
    rig.provider.reveals_revision = False
    fetch, once = rig.provider.fetch, iter([True])

    def late(*arguments: Any, **more: Any) -> FetchResult:
        response: FetchResult = fetch(*arguments, **more)
        if next(once, False):  # while it is on its way, another sync completes with a newer one
            rig.replace(numbered(0, 100, 2))
            assert rig.sync(step_s=0).outcome == "published"
        return response

    rig.provider.fetch = late
    rig.sync(step_s=0)
    assert rig.read() == numbered(0, 100, 2)
    wins = "the older set wins" if theirs["version"] == 1 else "the newer set stays"
    row(
        "a full set that was fetched earlier is written after a newer one",
        f"{wins}, {theirs['raised'] or 'no exception'}",
        "the newer set stays; the late writer fetches again",
    )


@pytest.mark.parametrize("left", [0, 69])
def test_shrinking_set(rig: DynamoRig, row: Row, left: int) -> None:
    """Of a hundred flags, 0 or 69 are left: flagstore keeps all until an operator allows it."""
    theirs = peer(rig, "shrunk", left=left)
    rig.settle(numbered(0, 100, 1))
    rig.replace(numbered(0, left, 2))
    with pytest.raises(RefusedSetError):
        rig.sync()
    assert rig.read() == numbered(0, 100, 1)
    row(
        f"a full set in which {left} of 100 flags are left",
        f"{theirs['stored']} flags are left, {theirs['raised'] or 'no exception'}",
        "100 stay; refused until a person allows that very set",
    )


BAD = "the server responds with 200 with "
RESPONSES = {
    BAD + "an empty set": lambda: faults.body(b'{"version":2,"features":[],"segments":[]}'),
    BAD + '`{"message":"welcome"}`': lambda: faults.body(b'{"message":"welcome"}'),
    BAD + "JSON that is cut off": faults.malformed_json,
    BAD + "HTML": faults.html,
    "the server responds with 401": lambda: faults.status(401),
}


@pytest.mark.parametrize("what", RESPONSES)
def test_bad_response_of_unleash(rig: DynamoRig, tmp_path: Path, row: Row, what: str) -> None:
    """A response that is not a flag set changes nothing, even for a reader that starts then."""
    flags, segments = unleash_flags.rich_flags(FLAGS)
    with UnleashSimulator(flags, segments) as server:
        rig.provider, rig.name = server, "unleash"
        task = {"url": server.url, "key": server.sdk_key, "folder": str(tmp_path)}
        assert peer(rig, "fetched", **task)["known"] == FLAGS
        assert rig.sync().outcome == "published"
        server.faults.append(RESPONSES[what]())
        met = peer(rig, "fetched", **task)["known"]
        server.faults.extend(faults.status(500) for _ in range(20))  # it tries again
        later = peer(rig, "fetched", **task)["known"]
        server.faults.clear()
        server.faults.extend(RESPONSES[what]() for _ in range(20))
        with pytest.raises((ProviderError, RefusedSetError)):
            rig.sync()
        assert rig.read().keys() == flags.keys()
    row(
        f"{what} (UnleashClient {SDK_VERSION} with its file cache)",
        f"a client that starts then knows {met} of {FLAGS} flags; the next one, "
        f"without the server, {later}",
        f"{FLAGS} of {FLAGS}, for running readers and new ones",
    )


# -- a function that starts while its provider is down --------------------------------------------

TITLES = {
    "launchdarkly": "LaunchDarkly's SDK, streaming",
    "launchdarkly_daemon": "LaunchDarkly's SDK in daemon mode, on flagstore's rows",
    "split": "Split's SDK, polling",
    "unleash": "UnleashClient, a new sandbox",
}


def evaluated(rig: DynamoRig, keys: list[str]) -> dict[str, tuple[Any, bool, str]]:
    """Return value, state and error of each flag from a reader that starts now."""
    client, connection = rig.reader()
    details = {key: client.detail(key, {"key": "ada"}) for key in keys}
    connection.close()
    return {key: (each.value, each.enabled, each.error) for key, each in details.items()}


@pytest.mark.parametrize("way", TITLES)
def test_start_while_the_provider_is_down(rig: DynamoRig, row: Row, way: str) -> None:
    """Every flag evaluates as before the outage, without a request to the provider."""
    name = way.partition("_")[0]
    simulator, rich_flags = MAKERS[name]
    made = rich_flags(FLAGS)
    with simulator(*made) as server:
        rig.provider, rig.name = server, name
        assert rig.sync().outcome == "published"
        before = evaluated(rig, list(made[0]))
        assert {error for *_, error in before.values()} == {""}
        server.faults.extend(faults.status(503) for _ in range(500))
        flag = next(key for key, (_, enabled, _) in before.items() if enabled)
        theirs = peer(rig, "started", url=server.url, key=server.sdk_key, way=way, flag=flag)
        asked = len(server.requests)
        assert evaluated(rig, list(made[0])) == before
        assert len(server.requests) == asked
    row(
        f"the provider responds with 503 when a function starts ({TITLES[way]})",
        f"`{json.dumps(theirs['value'])}` for a flag that is on, after {theirs['seconds']:.1f} s",
        f"{FLAGS} of {FLAGS} flags as before, the provider is not asked",
    )
