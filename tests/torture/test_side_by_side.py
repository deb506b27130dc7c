"""The same faults for LaunchDarkly's own store, UnleashClient's cache, and flagstore.

Each test writes rows of the second table of docs/guarantees.md. What the others do is not
asserted, but for what the comparison needs to mean anything: a new version may do better, and the
next `make torture` will say so.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.world import MAKERS
from sdks import processes
from simulators import faults, unleash_flags
from simulators.provider import ModelProvider
from simulators.unleash import UnleashSimulator
from simulators.unreliable import ForgetfulClient, Killed, UnreliableClient, kill_at
from storesync.errors import ProviderError, RefusedSetError

if TYPE_CHECKING:
    from collections.abc import Callable

    import flagstore
    from rigs import DynamoRig
    from storesync.model import FetchResult

PINS = Path(__file__).parents[2] / "tools" / "requirements" / "sdks.txt"
FLAGS = 98
SDK_VERSION = re.findall(
    r"(?m)^unleashclient==(\S+)", PINS.read_text(encoding="utf-8"), re.IGNORECASE
)[0]
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
    client = ForgetfulClient(rig.table.client, share, random.Random(7))
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
    rig.provider.change(**(dict.fromkeys(old) | new))
    rig.sync(undisturbed)
    seen: Counter[str] = Counter()
    for number in range(undisturbed.calls.total()):
        for moment in ("before", "after"):
            rig.settle(old)
            rig.provider.change(**(dict.fromkeys(old) | new))
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


class Overtaken(ModelProvider):
    """A provider whose response is in flight while another sync completes with a newer one."""

    def fetch(self, *arguments: Any, **more: Any) -> FetchResult:
        """Return the state of this moment, late."""
        response = super().fetch(*arguments, **more)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return response

    meanwhile: Callable[[], object] = lambda: None


def test_older_set_after_a_newer_one(rig: DynamoRig, row: Row) -> None:
    """A slow writer continues with an older set: flagstore's readers keep the newer one."""
    theirs = peer(rig, "older")
    rig.provider.flags = numbered(0, 100, 1)
    slow = Overtaken(flags=dict(rig.provider.flags), reveals_revision=False)
    fast = ModelProvider(flags=numbered(0, 100, 2), reveals_revision=False)

    def newer() -> None:
        rig.provider = fast
        assert rig.sync(step_s=0).outcome == "published"
        slow.flags = dict(fast.flags)

    slow.meanwhile = newer
    rig.provider = slow
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
    rig.provider.flags = {}
    rig.provider.change(**numbered(0, left, 2))
    with pytest.raises(RefusedSetError):
        rig.sync()
    assert rig.read() == numbered(0, 100, 1)
    row(
        f"a full set in which {left} of 100 flags are left",
        f"{theirs['stored']} flags are left, {theirs['raised'] or 'no exception'}",
        "100 stay; refused until a person allows that very set",
    )


RESPONSES = {
    "the server responds with 200 with an empty set": lambda: faults.body(
        b'{"version":2,"features":[],"segments":[]}'
    ),
    'the server responds with 200 with `{"message":"welcome"}`': lambda: faults.body(
        b'{"message":"welcome"}'
    ),
    "the server responds with 200 with JSON that is cut off": faults.malformed_json,
    "the server responds with 200 with HTML": faults.html,
    "the server responds with 401": lambda: faults.status(401),
}


@pytest.mark.parametrize("what", RESPONSES)
def test_bad_response_of_unleash(rig: DynamoRig, tmp_path: Path, row: Row, what: str) -> None:
    """A response that is not a flag set changes nothing, even for a reader that starts then."""
    flags, segments = unleash_flags.rich_flags(FLAGS)
    with UnleashSimulator(flags, segments) as server:
        rig.provider, rig.name = server, "unleash"
        task = {"url": server.url + "/api", "key": server.token, "folder": str(tmp_path)}
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
ENDLESS = 500
"""More failures than any client asks for."""


def evaluated(rig: DynamoRig, keys: list[str]) -> dict[str, flagstore.Detail]:
    """Return the details of each flag from a reader that starts now."""
    client, connection = rig.reader()
    details = {key: client.detail(key, {"key": "ada"}) for key in keys}
    connection.close()
    return details


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
        assert {each.error for each in before.values()} == {""}
        server.faults.extend(faults.status(503) for _ in range(ENDLESS))
        flag = next(key for key, each in before.items() if each.enabled)
        theirs = peer(rig, "started", url=server.url, key=server.sdk_key, way=way, flag=flag)
        asked = len(server.requests)
        after = evaluated(rig, list(made[0]))
        assert len(server.requests) == asked
    assert {key: each.value for key, each in after.items()} == {
        key: each.value for key, each in before.items()
    }
    row(
        f"the provider responds with 503 when a function starts ({TITLES[way]})",
        f"`{json.dumps(theirs['value'])}` for a flag that is on, after {theirs['seconds']:.1f} s",
        f"{FLAGS} of {FLAGS} flags as before, the provider is not asked",
    )
