"""The same faults for LaunchDarkly's own store, for UnleashClient's cache, and for ours.

Each test writes rows of the second table of docs/guarantees.md. What the others do is not
asserted, but for what the comparison needs to mean anything: a new version may do better, and the
next `make torture` will say so.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from faults.dynamo import Rig
from sdks import rig as sdks
from sdks import unleash_set
from simulators import faults
from simulators.clock import FakeClock
from simulators.provider import ModelProvider
from simulators.unleash import UnleashSimulator
from simulators.unreliable import ForgetfulClient, Killed, UnreliableClient, kill_at
from storesync.errors import ProviderError, RefusedSetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.stand_in import StandIn
    from simulators.aws import Table
    from storesync.model import FetchResult

HERE = Path(__file__).parent
type Row = Callable[[str, str, str], None]


@pytest.fixture
def rig(aws: StandIn, dynamodb_table: Table) -> Rig:
    """Give an empty table and an empty provider."""
    return Rig(aws, dynamodb_table, ModelProvider(), FakeClock())


@pytest.fixture
def row(record_property: Callable[[str, object], None]) -> Row:
    """Give what notes one row of the table: the fault, what the other does, what we do."""
    return lambda fault, theirs, ours: record_property(
        "side by side", json.dumps([fault, theirs, ours])
    )


def run(script: str, environment: dict[str, str], **task: Any) -> dict[str, Any]:
    """Run a script among the Python SDKs."""
    if not sdks.PYTHON.exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")
    done = subprocess.run(
        [str(sdks.PYTHON), "-I", str(HERE / script)],
        input=json.dumps(task),
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def launchdarkly(rig: Rig, task: str, **more: Any) -> dict[str, Any]:
    """Give LaunchDarkly's store a task on the same table."""
    environment = rig.aws.child_environment(os.environ)
    return run("launchdarkly_faults.py", environment, task=task, table=rig.table.name, **more)


def numbered(start: int, end: int, version: int) -> dict[str, Any]:
    """Return the flags that the other side has too."""
    return {f"flag-{n:04}": {"version": version, "n": n * version} for n in range(start, end)}


def settle(rig: Rig, flags: dict[str, Any]) -> None:
    """Bring the store to one set, whatever the guard says."""
    rig.provider.flags = {}
    rig.provider.change(**flags)
    while rig.sync().outcome != "unchanged":
        pass


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_unprocessed_items(
    rig: Rig, row: Row, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand flags, a share of every batch left unprocessed by DynamoDB: ours are all there."""
    theirs = launchdarkly(rig, "unprocessed", share=share)
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


def test_kill_points(rig: Rig, row: Row) -> None:
    """The step from 250 flags to 210, killed at every moment: our readers never see a mix."""
    theirs = launchdarkly(rig, "killed")
    assert theirs["points"] >= 11
    old, new = numbered(0, 250, 1), numbered(40, 250, 2)
    settle(rig, old)
    undisturbed = UnreliableClient(rig.table.client)
    rig.provider.change(**(dict.fromkeys(old) | new))
    rig.sync(undisturbed)
    seen: Counter[str] = Counter()
    for number in range(undisturbed.calls.total()):
        for moment in ("before", "after"):
            settle(rig, old)
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
    """A provider whose response is on its way while another sync completes with a newer one."""

    def fetch(self, *arguments: Any, **more: Any) -> FetchResult:
        """Response with the state of this moment, late."""
        response = super().fetch(*arguments, **more)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return response

    meanwhile: Callable[[], object] = lambda: None


def test_an_older_set_after_a_newer_one(rig: Rig, row: Row) -> None:
    """A slow writer wakes up with what it fetched before: our readers keep what is newer."""
    theirs = launchdarkly(rig, "older")
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
def test_a_set_that_shrinks(rig: Rig, row: Row, left: int) -> None:
    """None, or 69, of a hundred flags are left: ours stay until a person allows it."""
    theirs = launchdarkly(rig, "shrunk", left=left)
    settle(rig, numbered(0, 100, 1))
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
def test_a_bad_response_of_unleash(
    aws: StandIn, dynamodb_table: Table, tmp_path: Path, row: Row, what: str
) -> None:
    """What comes instead of a set leaves ours as they are, also for a reader that starts then."""
    flags, segments = unleash_set.flag_set()
    flag = next(iter(flags))
    with UnleashSimulator(flags, segments) as server:
        both = sdks.Rig(aws, dynamodb_table, server, "unleash")
        task = {"url": server.url + "/api", "key": server.token, "folder": str(tmp_path)}

        def client(*, last: bool = False) -> dict[str, Any]:
            environment = {**os.environ, "HOME": str(tmp_path)}
            return run("unleash_faults.py", environment, **task, flag=flag, last=last)

        assert client()["known"] == len(flags)
        assert both.sync().outcome == "published"
        server.faults.append(RESPONSES[what]())
        met = client()
        server.faults.extend(faults.status(500) for _ in range(20))  # it tries again
        later = client(last=True)
        server.faults.clear()
        server.faults.extend(RESPONSES[what]() for _ in range(20))
        with pytest.raises((ProviderError, RefusedSetError)):
            both.sync()
        with both.snapshot() as snapshot:
            assert set(snapshot.keys()) == set(flags)
    row(
        f"{what} (UnleashClient {met['sdk']} with its file cache)",
        f"a client that starts then knows {met['known']} of {len(flags)} flags; the next one, "
        f"without the server, {later['known']}",
        f"{len(flags)} of {len(flags)}, for running readers and new ones",
    )
