"""Commands that change what is published: sync, allow, rollback, unpin; and their output."""

from __future__ import annotations

import json
import re
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from flagstore.keys import SourceState, snapshot_key, state_key
from local.stand_in import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from simulators.appconfig import AppConfigSimulator, Strategy, rich_flags
from simulators.split import SplitSimulator
from simulators.split_flags import rich_flags as split_flags
from storesync.cli.app import Operator
from storesync.cli.screen import duration

if TYPE_CHECKING:
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.redis_server import Server
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Rig


def outcome(rig: Rig, code: int = 0) -> Any:
    return rig.json("sync", code=code)["sources"][0]["outcome"]


def test_failing_source_stops_no_other(
    rig: Rig, prod: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """The others are synced; the exit code is that of the failure."""
    assert rig.add("u", unleash).code == 0
    prod.sdk_key = "revoked"
    done = rig.run("sync", "--json")
    assert done.code == 7
    outcomes = [each["outcome"] for each in json.loads(done.out)["sources"]]
    assert outcomes == ["failed", "published"]
    error = json.loads(done.err)["error"]
    assert (error["kind"], error["message"][:6]) == ("provider", "prod: ")
    assert "source add prod --replace" in error["remedy"]


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        ({"source": "prod", "outcome": "published", "token": 7}, 0, "published"),
        ({"source": "prod", "outcome": "failed", "error": "no response"}, 7, "no response"),
        ({"errorMessage": "out of memory"}, 7, "out of memory"),
        (
            {"outcome": "failed", "error": "lost 5. If this is right, invoke"},
            8,
            "lost 5. If this is right, invoke",
        ),
    ],
)
@pytest.mark.usefixtures("prod")
def test_remote_sync(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, payload: dict[str, Any], code: int, text: str
) -> None:
    function = Mock(**{"invoke.return_value": {"Payload": BytesIO(json.dumps(payload).encode())}})
    client = Operator._client
    monkeypatch.setattr(
        Operator, "_client", lambda self, name: function if name == "lambda" else client(self, name)
    )
    rig.environ["FLAGSTORE_SYNC_FUNCTION"] = "sync"
    done = rig.run("sync", "prod", "--remote")
    assert (done.code, text in done.out + done.err) == (code, True), done
    function.invoke.assert_called_once_with(FunctionName="sync", Payload=b'{"source": "prod"}')


def test_refused_set_is_published_once_allowed(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """`allow` shows what would be lost, asks, and publishes the set that was refused last."""
    for key in list(prod.flags())[3:]:
        prod.remove_flag(key)
    done = rig.run("sync", "prod")
    assert (done.code, "`storesync allow prod`" in done.err) == (8, True)
    assert "SyncFunction" not in done.err
    assert rig.run("allow", "prod").code == 2
    prod.remove_flag(next(iter(prod.flags())))
    done = rig.run("allow", "prod", "--yes")
    assert (done.code, "`storesync sync prod`" in done.err) == (9, True)
    outcome(rig, code=8)
    done = rig.run("allow", "prod", "--yes")
    assert done.code == 0, done
    assert done.err.count("- flags/") == 29
    assert rig.json("status")["sources"][0]["counts"]["flags"] == len(prod.flags()) == 2
    assert rig.json("history", "prod")["versions"][0]["allowed"]


def test_suspect_set_is_published_at_once(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """`allow` takes the digest that the error names, and no other."""
    prod.set_flag("new-checkout", prerequisites=[{"key": "missing", "variation": 0}])
    done = rig.run("sync", "prod")
    assert (done.code, "`storesync allow prod DIGEST`" in done.err) == (8, True)
    (digest,) = re.findall("[0-9a-f]{64}", done.err)
    for wrong in ("0" * 64, digest[:11]):
        assert rig.run("allow", "prod", wrong, "--yes").code == 9
    done = rig.run("allow", "prod", digest[:12], "--yes")
    assert (done.code, "~ flags/new-checkout" in done.err) == (0, True), done
    assert rig.state().digest == digest


def test_rollback_pins_until_it_is_unpinned(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """It asks; while pinned nothing is published, and `unpin` requests a sync."""
    first = str(rig.state().published)
    prod.set_flag("new-checkout", on=True)
    assert outcome(rig) == "published"
    second = rig.state().digest
    back = ("rollback", "prod", "--to", first)
    assert rig.run(*back).code == 2
    done = rig.run(*back, "--yes")
    assert (done.code, "~ flags/new-checkout\n1 changed" in done.err) == (0, True), done
    assert 3_500 < rig.state().pinned / 1000 - time.time() <= 3_600
    assert rig.json("get", "prod", "new-checkout")["item"]["on"] is False
    assert "pinned until" in rig.run("history", "prod").out
    assert outcome(rig, code=9) == "pinned"
    assert rig.run("allow", "prod", second, "--yes").code == 9
    rig.json(*back, "--for", "2d", "--yes")
    assert rig.state().pinned / 1000 - time.time() > 2 * 86_400 - 100
    rig.json(*back, "--for", "forever", "--yes")
    assert "until it is unpinned" in rig.run("status").out
    done = rig.json("unpin", "prod")
    assert (done["was_pinned"], done["requested"]) == (True, True)
    assert rig.requests() == ["prod"]
    assert outcome(rig) == "published"
    assert rig.json("get", "prod", "new-checkout")["item"]["on"] is True
    assert rig.json("unpin", "prod") == {"source": "prod", "was_pinned": False, "requested": False}
    assert rig.requests() == []
    del rig.environ["FLAGSTORE_QUEUE_URL"]
    rig.json(*back, "--yes")
    assert "storesync sync prod" in rig.run("unpin", "prod").out


def test_rollback_to_another_provider(
    rig: Rig, launchdarkly: LaunchDarklySimulator, redis_server: Server
) -> None:
    """The rows have the layout of its SDKs, which is also the one that `doctor` compares."""
    redis, more = redis_server.admin, ("--store", "redis", "--store-url-file")
    with SplitSimulator(*split_flags(5)) as split:
        assert rig.add("prod", split, *more, rig.file("url", redis_server.url())).code == 0
        assert outcome(rig) == "published"
        rows = sorted(redis.keys("{prod}*"))
        first = str(rig.json("history", "prod")["versions"][0]["token"])
        url = rig.file("url", redis_server.url())
        assert rig.add("prod", launchdarkly, "--replace", *more, url).code == 0
    assert outcome(rig) == "published"
    latest = sorted(redis.keys("{prod}*"))
    assert rig.json("rollback", "prod", "--to", first, "--yes")["rows_error"] is None
    assert sorted(redis.keys("{prod}*")) == rows

    def checked() -> list[str]:
        findings = rig.json("doctor", code=10)["sources"]["prod"]
        return [each["level"] for each in findings if each["check"] == "rows"]

    assert checked() == ["ok"]
    redis.delete(*rows[:1])
    assert checked() == ["problem"]
    rig.json("unpin", "prod")
    assert outcome(rig) == "published"
    assert sorted(redis.keys("{prod}*")) == latest


def test_unknown_number_of_replicas_stays(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Without FLAGSTORE_SNAPSHOT_REPLICAS, no command removes any or publishes for their number."""

    def tokens() -> list[Any]:
        found = [rig.record(snapshot_key("prod", number)) for number in range(4)]
        return [record and record["token"] for record in found]

    assert rig.run("sync", env={"FLAGSTORE_SNAPSHOT_REPLICAS": "3"}).code == 0
    first = rig.state().published
    assert outcome(rig) == "unchanged"
    prod.set_flag("new-checkout", on=True)
    assert outcome(rig) == "published"
    assert tokens() == [rig.state().published] * 3 + [None]
    assert rig.run("rollback", "prod", "--to", str(first), "--yes").code == 0
    assert tokens() == [rig.state().published] * 3 + [None]
    rig.json("unpin", "prod")
    assert outcome(rig) == "published"
    assert tokens() == [rig.state().published] * 3 + [None]


@pytest.mark.parametrize("queue", ["known", "unknown", "denied"])
def test_next_check_of_a_gradual_deployment(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    """It is queued as by SyncFunction; if that fails, the sync succeeds nevertheless."""
    error: Any = {"Error": {"Code": "AccessDenied"}}
    sqs = Mock()
    if queue == "denied":
        sqs.send_message.side_effect = ClientError(error, "SendMessage")
    with AppConfigSimulator(
        *rich_flags(5), access_key=ACCESS_KEY_ID, secret_key=SECRET_ACCESS_KEY
    ) as server:
        assert rig.add("shop", server).code == 0
        rig.json("sync", "shop")
        server.deploy(server.put(server.current()), Strategy(30, 20))
        client = Operator._client
        monkeypatch.setattr(
            Operator, "_client", lambda self, name: sqs if name == "sqs" else client(self, name)
        )
        env = {"FLAGSTORE_QUEUE_URL": None} if queue == "unknown" else {}
        done = rig.run("sync", "shop", env=env)
    assert done.code == 0, done
    assert ("no further check" in done.err) == (queue == "denied")
    assert sqs.send_message.call_count == (queue != "unknown")
    due = SourceState.from_record(rig.record(state_key("shop")) or {}).next_check
    if queue != "known":
        assert due == 0
        return
    sent = sqs.send_message.call_args.kwargs
    request = json.loads(sent["MessageBody"])
    assert (request["source"], request["trigger"], request["sent_at"]) == ("shop", "followup", due)
    assert (sent["QueueUrl"], sent["DelaySeconds"]) == (rig.environ["FLAGSTORE_QUEUE_URL"], 60)


def test_duration_has_the_largest_unit_that_fits() -> None:
    texts = {0: "0 s", 59: "59 s", 61: "1 min", 5_400: "90 min", 7_200: "2 h", 200_000: "2 d"}
    assert {seconds: duration(seconds) for seconds in texts} == texts
