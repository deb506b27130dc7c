"""SyncFunction: batches, retries, follow-ups, the schedule, operators, metrics and logs."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client
from flagstore.rollout import Progress
from flagstore.stores.redis import RedisReader, parse_url
from simulators import faults
from simulators.appconfig import Strategy
from simulators.deployment import (
    KEY,
    Calls,
    Context,
    Deployment,
    Output,
    ShiftedClock,
    batch,
    request,
    sync_request,
)
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.split import SplitSimulator
from simulators.split import rich_flags as split_flags
from storesync import errors, providers, sync
from storesync.sync import ERROR_BYTES

if TYPE_CHECKING:
    from simulators.appconfig import AppConfigSimulator
    from simulators.redis_server import Server
    from simulators.unleash import UnleashSimulator

DOWN = 4
"""Fetches that fail before a sync request goes back to the queue."""


def invoke(event: Any, seconds: float = 60.0) -> Any:
    response = sync.handler(event, Context(seconds))
    return json.loads(json.dumps(response))


def serve(deployment: Deployment, *sync_requests: object) -> list[str]:
    """Send requests, serve them as the poller does, and return the bodies of those that failed."""
    deployment.send(*sync_requests)
    records = deployment.receive()
    failed = {item["itemIdentifier"] for item in invoke(batch(*records))["batchItemFailures"]}
    deployment.acknowledge(r for r in records if r["messageId"] not in failed)
    return [record["body"] for record in records if record["messageId"] in failed]


def followup(calls: Calls) -> list[dict[str, Any]]:
    """Return the sync requests that SyncFunction queued, each with its delay."""
    return [
        {**json.loads(call["MessageBody"]), "delay": call["DelaySeconds"]}
        for call in calls.of("SendMessage")
        if "DelaySeconds" in call
    ]


@pytest.fixture
def both(prod: Deployment, unleash: UnleashSimulator) -> Deployment:
    prod.put_source("unleash", "unleash", unleash.url, KEY)
    return prod


@pytest.mark.parametrize("bug", [False, True])
def test_only_messages_of_failed_sources_are_retried(
    both: Deployment,
    unleash: UnleashSimulator,
    launchdarkly: LaunchDarklySimulator,
    calls: Calls,
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
    *,
    bug: bool,
) -> None:
    """A provider that is down, or a bug, keeps its own sync requests on the queue, and no others.

    Each source costs one fetch, however many requests the batch has.
    """
    if bug:
        monkeypatch.setattr("storesync.providers.unleash.Unleash.fetch", lambda *_, **__: 1 / 0)
    unleash.faults.extend([faults.status(503)] * DOWN)
    mine = [sync_request("unleash", delivery=str(number)) for number in range(2)]
    failed = serve(both, sync_request("prod"), mine[0], sync_request("prod"), mine[1])
    assert sorted(failed) == sorted(map(json.dumps, mine))
    assert both.flags("prod") == set(launchdarkly.flags())
    assert len(launchdarkly.requests) == 1
    assert both.flags("unleash", "flags") == set()
    assert both.waiting() == {"due": 0, "delayed": 1, "in flight": 2}
    assert [call["VisibilityTimeout"] for call in calls.of("ChangeMessageVisibility")] == [10, 10]
    reason = "ZeroDivision" if bug else "ProviderUnavailable"
    assert output.sums(source="unleash", reason=reason) == {"Rejected": 1}


def test_retry_delay(prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls) -> None:
    """10 s, 20 s, 40 s and so on, up to the 15 minutes of SQS, or what the provider asks for."""
    prod.send(sync_request("prod"))
    (record,) = prod.receive()
    for receives in (1, 2, 3, 8, 1000):
        launchdarkly.faults.extend([faults.status(503)] * DOWN)
        record["attributes"]["ApproximateReceiveCount"] = str(receives)
        assert len(invoke(batch(record))["batchItemFailures"]) == 1
    launchdarkly.requests.clear()
    record["attributes"]["ApproximateReceiveCount"] = "1"
    for seconds in ("120", "100000"):
        launchdarkly.faults.append(faults.status(429, retry_after=seconds))
        assert len(invoke(batch(record))["batchItemFailures"]) == 1
    assert len(launchdarkly.requests) == 2
    pauses = [call["VisibilityTimeout"] for call in calls.of("ChangeMessageVisibility")]
    assert pauses == [10, 20, 40, 900, 900, 120, 900]


POISON = [
    *("no JSON", "[]", '{"source": 7}', "[" * 100_000, "9" * 5_000),
    '{"Type": "Notification", "Message": "from somewhere else"}',
]


def test_invalid_messages_fail_alone(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """Unknown messages are reported as failed, and the others are served."""
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": "1795000000000"}
    records = [
        {"messageId": f"bad-{n}", "receiptHandle": "none", "body": body, "attributes": attributes}
        for n, body in enumerate(POISON)
    ]
    good = {"messageId": "good", "receiptHandle": "none", "body": json.dumps(sync_request("prod"))}
    failed = invoke(batch(*records, good, {"messageId": "empty"}, {}))["batchItemFailures"]
    expected = {record["messageId"] for record in records} | {"empty", ""}
    assert {item["itemIdentifier"] for item in failed} == expected
    errors = [line for line in output.logs if line["level"] == "ERROR"]
    assert {line["message_id"] for line in errors} == expected
    assert all("dead letter" in line["problem"] for line in errors)
    assert prod.flags("prod") == set(launchdarkly.flags())


def test_unknown_source_is_acknowledged(prod: Deployment, output: Output) -> None:
    """A sync request for a removed source is logged and counted without the name."""
    assert serve(prod, sync_request("removed"), sync_request("Odd/Name\n")) == []
    assert output.sums()["SyncFailures"] == 2
    assert all("source" not in line.dimensions for line in output.metrics)
    problems = sorted(line["problem"] for line in output.logs)
    assert f"{prod.prefix}/sources/removed does not exist" in problems[1]


def test_refused_key_changes_nothing(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output, clock: ShiftedClock
) -> None:
    """No retry makes a key valid: log, metric and age report it, and the published set stays."""
    serve(prod, sync_request("prod"))
    before = prod.items()
    output.forget()
    clock.advance(600)
    launchdarkly.sdk_key = "another-key"
    assert serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000))) == []
    assert prod.items() == before
    assert output.sums(source="prod", reason="CredentialsRefused") == {"Rejected": 1}
    sums = output.sums(source="prod")
    assert sums["SyncFailures"] == 1
    assert 600 <= sums["SyncAgeSeconds"] < 660
    (line,) = [line for line in output.logs if line["level"] == "ERROR"]
    assert (line["source"], line["reason"]) == ("prod", "CredentialsRefused")
    assert line["retryable"] is False


def test_refused_set_waits_for_operator(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """The guard's refusal is a metric, not a retry; only an operator can allow that digest."""
    everything = set(launchdarkly.flags())
    serve(prod, sync_request("prod"))
    for key in sorted(everything)[:20]:
        launchdarkly.remove_flag(key)
    output.forget()
    assert serve(prod, sync_request("prod")) == []
    assert output.sums(source="prod", reason="RefusedSet") == {"Rejected": 1}
    digest = invoke({"source": "prod"})["error"].split('"allow_shrink": "')[1].split('"')[0]
    assert serve(prod, sync_request("prod", allow_shrink=digest)) == []
    assert invoke({"source": "prod", "allow_shrink": "0" * 64})["outcome"] == "failed"
    assert prod.flags("prod") == everything
    allowed = invoke({"source": "prod", "allow_shrink": digest})
    assert (allowed["outcome"], allowed["removed"]) == ("published", 20)
    assert prod.flags("prod") == set(launchdarkly.flags())


def test_ssm_down_at_start_loses_no_request(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls, clock: ShiftedClock
) -> None:
    """Sync requests stay on the queue until the parameters can be read."""
    calls.down["ssm"] = "AccessDeniedException"
    assert len(serve(prod, sync_request("prod"))) == 1
    with pytest.raises(errors.ParametersError, match=f"{prod.prefix}/sources"):
        invoke({"schedule": True})
    calls.down.clear()
    clock.advance(5)
    assert serve(prod, sync_request("prod")) == []
    assert prod.flags("prod") == set(launchdarkly.flags())


def test_webhook_schedules_followup(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls, clock: ShiftedClock
) -> None:
    """CDNs lag behind webhooks, so one later check follows for all of a batch and of a burst.

    It requires the revisions that were not reached. A sync request from before a completed check
    costs neither a fetch nor a follow-up.
    """
    due = (clock.now() + 30) * 1000
    assert serve(prod, sync_request("prod"), sync_request("prod"), sync_request("prod")) == []
    (left,) = followup(calls)
    assert due <= left.pop("sent_at") <= due + 10_000
    expected = {"source": "prod", "trigger": "followup", "delay": 30}
    assert left == {**expected, "required": [], "delivery": ""}
    clock.advance(1.5)
    assert serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000))) == []
    assert len(launchdarkly.requests) == 2
    assert len(followup(calls)) == 1

    clock.advance(10)
    required = [f"flag/{min(launchdarkly.flags())}@999"]
    sent_at = int(clock.now() * 1000)
    assert serve(prod, sync_request("prod", sent_at=sent_at, required=required)) == []
    assert followup(calls)[1:] == [{**followup(calls)[-1], "required": required}]
    fetches = len(launchdarkly.requests)
    assert serve(prod, sync_request("prod", sent_at=sent_at - 10_000)) == []
    assert len(launchdarkly.requests) == fetches
    assert len(followup(calls)) == 2


@pytest.mark.parametrize(("seconds", "trigger"), [("0", "webhook"), ("30", "followup")])
def test_no_followup(
    prod: Deployment, calls: Calls, monkeypatch: pytest.MonkeyPatch, seconds: str, trigger: str
) -> None:
    """With FollowUpSyncSeconds 0 there are none, and none follows another."""
    monkeypatch.setenv("FLAGSTORE_FOLLOWUP_SYNC_SECONDS", seconds)
    assert serve(prod, sync_request("prod", trigger=trigger)) == []
    assert prod.flags("prod")
    assert followup(calls) == []


@pytest.mark.usefixtures("prod")
def test_function_without_queue(
    launchdarkly: LaunchDarklySimulator,
    calls: Calls,
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch is served, nothing is retried, and no call fails."""
    monkeypatch.setenv("FLAGSTORE_QUEUE_URL", "")
    record = {"messageId": "1", "receiptHandle": "x", "body": json.dumps(sync_request("prod"))}
    assert invoke(batch(record)) == {"batchItemFailures": []}
    launchdarkly.faults.extend([faults.status(503)] * DOWN)
    assert invoke(batch(record)) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert not {"SendMessage", "ChangeMessageVisibility"} & {name for name, _ in calls.made}
    assert {line["level"] for line in output.logs} == {"INFO", "ERROR"}


def test_queue_down_fails_no_sync(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls, output: Output
) -> None:
    """A follow-up that cannot be queued is a warning: the flags are published."""
    prod.send(sync_request("prod"), "poison")
    records = prod.receive()
    calls.down["sqs"] = "AccessDeniedException"
    assert len(invoke(batch(*records))["batchItemFailures"]) == 1
    assert prod.flags("prod") == set(launchdarkly.flags())
    assert [line["level"] for line in output.logs if "no follow-up" in line["message"]] == [
        "WARNING"
    ]


@pytest.mark.usefixtures("without_a_queue")
def test_schedule_isolates_sources(
    both: Deployment,
    launchdarkly: LaunchDarklySimulator,
    unleash: UnleashSimulator,
    output: Output,
    calls: Calls,
) -> None:
    """Broken, misconfigured and slow sources are named; they neither stop nor delay others."""
    both.put("sources/broken", '{"provider": "launchdarkly"')
    both.put("sources/keyless", {"provider": "launchdarkly"})
    both.put_source("Odd", "launchdarkly", launchdarkly.url, KEY)
    both.put_source("plain", "unleash", unleash.url, KEY, allow_http=False)
    both.put_source("refused", "launchdarkly", launchdarkly.url, "wrong-key")
    with LaunchDarklySimulator(sdk_key=KEY) as slow:
        slow.faults.append(faults.drip_body())
        both.put_source("slow", "launchdarkly", slow.url, KEY)
        outcomes = {o["source"]: o for o in invoke({"schedule": True}, seconds=8)}
    good = {name for name, outcome in outcomes.items() if outcome["outcome"] == "published"}
    assert good == {"prod", "unleash"}
    assert both.flags("prod") == set(launchdarkly.flags())
    assert both.flags("unleash", "flags") == set(unleash.flags())
    for name, problem in {
        "broken": f"{both.prefix}/sources/broken: is not JSON",
        "keyless": f"{both.prefix}/credentials/keyless: is missing: create it",
        "Odd": "is not a valid source name",
        "plain": f'{both.prefix}/credentials/plain: "base_url" is plain http',
        "refused": "401",
        "slow": " s",
    }.items():
        assert problem in outcomes[name]["error"], name
        (line,) = [line for line in output.logs if line.get("source") == name]
        assert problem in line["problem"]
        assert output.sums(source=name)["SyncFailures"] == 1
    finished = [
        line["source"] for line in output.logs if line["message"] in {"published", "failed"}
    ]
    assert finished[-1] == "slow"
    assert followup(calls) == []


@pytest.mark.usefixtures("without_a_queue")
def test_each_source_has_its_provider_and_store(
    both: Deployment, unleash: UnleashSimulator, redis_server: Server
) -> None:
    """One in DynamoDB, two in Redis; names that begin alike share nothing."""
    with SplitSimulator(*split_flags(20), sdk_key=KEY) as split:
        for name, server in {"prod-eu": unleash, "fme": split}.items():
            provider = "unleash" if server is unleash else "split"
            both.put_source(name, provider, server.url, KEY, redis=redis_server.url())
        outcomes = {each["outcome"] for each in invoke({"schedule": True})}
    assert outcomes == {"published"}
    for name, flags in {"prod-eu": unleash.flags(), "fme": split.flags()}.items():
        with closing(RedisReader(parse_url(redis_server.url()))) as reader:
            assert Client(name, store=reader).keys() == sorted(flags)
        assert not any(item["namespace"]["S"].startswith(name) for item in both.items())


IMPRESSION = {"k": "canary-key", "f": "a", "t": "on", "m": 1, "c": 1, "r": "rule"}


@pytest.mark.parametrize(
    ("trigger", "check", "report", "posted", "dropped", "failures"),
    [
        ("schedule", 200, 200, 1, 0, 0),
        ("schedule", 503, 200, 1, 0, 0),
        ("schedule", 200, 503, 0, 0, 1),
        ("schedule", 200, 400, 0, 1, 0),
        ("webhook", 200, 200, None, None, None),
        ("webhook schedule", 200, 200, 1, 0, 0),
    ],
)
def test_scheduled_check_drains_splits_queues(
    stack: Deployment,
    redis_server: Server,
    output: Output,
    *,
    trigger: str,
    check: int,
    report: int,
    posted: int | None,
    dropped: int | None,
    failures: int | None,
) -> None:
    """Neither makes the other fail; logs and metrics report how many entries, not which."""
    with SplitSimulator(*split_flags(3), sdk_key=KEY) as split:
        stack.put_source("fme", "split", split.url, KEY, redis=redis_server.url(), drain=True)
        entry = json.dumps({"m": {"s": "sdk"}, "i": IMPRESSION})
        redis_server.admin.rpush("{fme}.SPLITIO.impressions", entry)
        split.faults.extend([faults.status(check)] if check != 200 else [])
        split.report_status = report
        assert serve(stack, *({"source": "fme", "trigger": one} for one in trigger.split())) == []
    known = output.sums(source="fme")
    figures = map(known.get, ("Drained", "DrainDropped", "DrainFailures"))
    assert tuple(figures) == (posted, dropped, failures)
    assert known.get("SyncFailures", 0) == (check != 200)
    assert "canary-key" not in output.text


def test_manual_sync(prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls) -> None:
    """A manual sync request always fetches, and returns figures."""
    first = invoke({"source": "prod"})
    assert (first["outcome"], first["added"], first["removed"]) == ("published", 33, 0)
    assert first["counts"] == {"flags": 30, "segments": 3}
    second = invoke({"source": "prod"})
    assert (second["outcome"], second["digest"]) == ("unchanged", first["digest"])
    assert len(launchdarkly.requests) == 2
    assert followup(calls) == []
    missing = invoke({"source": "nobody"})
    assert f"{prod.prefix}/sources/nobody does not exist" in missing["error"]


@pytest.mark.usefixtures("prod")
def test_webhook_event_by_hand() -> None:
    """With a webhook's event, `sam local invoke SyncFunction` does the whole job, unsigned."""
    assert invoke(request("prod"))["outcome"] == "published"


@pytest.fixture
def shop(stack: Deployment, appconfig: AppConfigSimulator) -> Deployment:
    stack.put_source("shop", "appconfig", appconfig.url, "", options=appconfig.options)
    return stack


def test_queued_provider_event(
    shop: Deployment, appconfig: AppConfigSimulator, calls: Calls
) -> None:
    """It is served like a sync request, once in a batch, for the sources of its profile only."""
    options = appconfig.options
    shop.put_source("twin", "appconfig", appconfig.url, "", options=options)
    shop.put_source("other", "appconfig", appconfig.url, "", options={**options, "profile": "0th"})
    shop.put("sources/broken", {"provider": "appconfig", "rows": "?"})
    event = appconfig.events[-1]
    assert serve(shop, event, event, event) == []
    assert shop.flags("shop", "flags") == shop.flags("twin", "flags") == set(appconfig.flags())
    assert not shop.flags("other", "$snapshot")
    assert len(appconfig.requests) == 4
    assert {(each["source"], each["trigger"]) for each in followup(calls)} == {
        ("shop", "followup"),
        ("twin", "followup"),
    }
    appconfig.faults.extend([faults.status(503)] * 2 * DOWN)
    assert len(serve(shop, event)) == 1  # once, though both of its sources failed


def test_irrelevant_provider_event(
    shop: Deployment, appconfig: AppConfigSimulator, output: Output
) -> None:
    """Another profile's events are acknowledged."""
    ids = {"Id": "0ther99", "Name": "others"}
    complete = appconfig.events[-1]
    others = {**complete, "detail": {**complete["detail"], "ConfigurationProfile": ids}}
    assert serve(shop, others) == []
    reasons = {line["message"].partition("event ")[2] for line in output.logs}
    assert reasons == {"that matches no source"}
    assert not appconfig.requests
    assert len(serve(shop, {**complete, "source": None, "detail": None})) == 1


def test_checks_of_a_gradual_deployment(
    shop: Deployment, appconfig: AppConfigSimulator, calls: Calls, clock: ShiftedClock
) -> None:
    """Its start is published, then it is checked every minute, whatever is lost or doubled."""
    appconfig.clock = clock.now
    serve(shop, appconfig.events[-1])
    shop.requests()
    calls.clear()

    def queued() -> list[dict[str, Any]]:
        found = [each for each in followup(calls) if each["delay"] > 30]
        calls.clear()
        return found

    number = appconfig.deploy(appconfig.put(appconfig.current()), Strategy(10, 20))
    started = appconfig.events[-1]
    assert "Start" in started["detail-type"]
    assert serve(shop, started, started) == []
    assert serve(shop, started) == []
    (check,) = queued()
    for minute in range(1, 10):
        assert (check["source"], check["trigger"], check["delay"]) == ("shop", "followup", 60)
        clock.advance(60)
        assert serve(shop, check, check) == []
        assert serve(shop, check) == []
        assert Progress.parse(shop.state("shop").deployment).percentage == 20 * (minute // 2)
        (check,) = queued()
    appconfig.stop_deployment(number)
    clock.advance(60)
    assert serve(shop, check) == []  # the event is lost
    assert queued() == []
    assert shop.state("shop").deployment == ""


@pytest.mark.parametrize("url", [True, False])
def test_gradual_deployment_without_queue(
    shop: Deployment, appconfig: AppConfigSimulator, calls: Calls, output: Output,
    monkeypatch: pytest.MonkeyPatch, url: bool,
) -> None:  # fmt: skip
    """It is published, and every check tries again to queue the next one."""
    if url:
        calls.down["sqs"] = "AccessDeniedException"
    else:
        monkeypatch.setenv("FLAGSTORE_QUEUE_URL", "")
    appconfig.deploy(appconfig.put(appconfig.current()), Strategy(10, 20))
    assert [each["outcome"] for each in invoke(appconfig.events[-1])] == ["published"]
    assert (bool(shop.state("shop").deployment), shop.state("shop").next_check) == (True, 0)
    warned = [each["level"] for each in output.logs if "no further check" in each["message"]]
    assert warned == ["WARNING"] * url


def test_gradual_deployment_in_metrics(
    shop: Deployment, appconfig: AppConfigSimulator, output: Output
) -> None:
    """Its percentage is a metric while it is in progress; its sections are none."""
    serve(shop, appconfig.events[-1])
    assert "DeploymentPercentage" not in output.sums(source="shop")
    number = appconfig.deploy(appconfig.put(appconfig.current()), Strategy(10, 20))
    appconfig.step(number, 20.0)
    output.forget()
    serve(shop, appconfig.events[-1])
    found = output.sums(source="shop")
    assert found["DeploymentPercentage"] == 20
    assert not {"NewFlags", "Deployments"} & found.keys()


def test_missing_variable_fails_batch(prod: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function without a setting acknowledges nothing, and names the setting."""
    monkeypatch.delenv("FLAGSTORE_TABLE")
    prod.send(sync_request("prod"))
    with pytest.raises(errors.ConfigurationError, match="FLAGSTORE_TABLE is not set"):
        invoke(batch(*prod.receive()))


def test_metrics_of_publication(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output, clock: ShiftedClock
) -> None:
    """Names, values, units and dimensions are those that the alarms use."""
    serve(prod, sync_request("prod"))
    keys = sorted(launchdarkly.flags())
    launchdarkly.remove_flag(keys[-1])  # no other needs it
    launchdarkly.set_flag(keys[1], on=False)
    launchdarkly.set_flag("one-more")
    clock.advance(1_000)
    output.forget()
    sent_at = int(clock.now() * 1000) - 400_000
    serve(
        prod, sync_request("prod", sent_at=sent_at), sync_request("prod", sent_at=sent_at + 300_000)
    )
    (line,) = output.metrics
    assert line.dimensions == {"source": "prod", "service": "flagstore-test"}
    seconds = {
        name: line.values.pop(name) for name in ("SyncAgeSeconds", "RequestToPublishSeconds")
    }
    assert 0 <= seconds["SyncAgeSeconds"] < 300
    assert 400 <= seconds["RequestToPublishSeconds"] < 700
    none = ("Superseded", "Coalesced", "Pinned", "UnprocessedRetries", "SkippedRows", "RowFailures")
    ones = dict.fromkeys(("Added", "Changed", "Removed", "Fetches"), 1)
    assert line.values == {"Flags": 30, "Segments": 3, **ones, **dict.fromkeys(none, 0)}
    assert {name for name, unit in line.units.items() if unit == "Seconds"} == set(seconds)
    assert {unit for name, unit in line.units.items() if name not in seconds} == {"Count"}
    (log,) = output.logs
    assert (log["message"], log["source"], log["requests"]) == ("published", "prod", 2)
    assert log["correlation_id"] == Context.aws_request_id


def test_skipped_row_is_a_warning(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """A row that is too large for an item is logged by name."""
    name = "x" * 1_025
    launchdarkly.set_flag(name)
    serve(prod, sync_request("prod"))
    (line,) = output.logs
    assert (line["level"], line["message"]) == ("WARNING", "published")
    assert line["skipped_rows"] == [f"features/{name}"]


def test_error_in_state(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays until the next good check: `storesync status` needs no logs.

    Neither a key nor the truncated half of one is stored in the table. Its bytes are limited.
    """

    def quoting(*_: object, **__: object) -> None:
        message = f"{'x' * (ERROR_BYTES - 10)}{KEY}{'旗' * 9}"
        raise errors.CredentialsRefusedError(message)

    with monkeypatch.context() as broken:
        broken.setattr(providers.get("launchdarkly"), "fetch", quoting)
        invoke({"source": "prod"})
    at, reason, text = json.loads(state_of(prod)["error"]["S"])
    assert abs(at / 1000 - time.time()) < 60
    assert (reason, text[-15:]) == ("CredentialsRefused", f"{'x' * 10}***旗旗")
    invoke({"source": "prod"})
    assert "error" not in state_of(prod)
    assert prod.flags("prod") == set(launchdarkly.flags())


def state_of(stack: Deployment) -> Any:
    key = {"namespace": {"S": "prod:$state"}, "key": {"S": "state"}}
    return stack.clients["dynamodb"].get_item(TableName=stack.table, Key=key)["Item"]
