"""SyncFunction: batches, retries, follow-ups, the schedule, operators, metrics and logs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from local import make_events
from simulators import faults
from simulators.deployment import (
    KEY,
    Calls,
    Context,
    Deployment,
    Output,
    ShiftedClock,
    batch,
    sync_request,
)
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly_flags import new_flag, rich_flags
from simulators.split import SplitSimulator
from simulators.split import rich_flags as split_flags
from simulators.unleash import UnleashSimulator
from simulators.unleash_flags import rich_flags as unleash_flags
from storesync import errors, providers, sync
from storesync.sync import ERROR_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.appconfig import AppConfigSimulator

EVENTS = make_events.DIRECTORY
DOWN = 4
"""Fetches that fail before a sync request goes back to the queue."""


def invoke(event: Any, seconds: float = 60.0) -> Any:
    """Invoke the function; return its response as JSON."""
    response = sync.handler(event, Context(seconds))
    return json.loads(json.dumps(response))


def serve(deployment: Deployment, *sync_requests: object) -> list[str]:
    """Send requests, serve them as one batch, and return the bodies of those that failed."""
    deployment.send(*sync_requests)
    return serve_waiting(deployment)


def serve_waiting(deployment: Deployment) -> list[str]:
    """Serve the queue as the poller does; return the bodies of the messages that failed."""
    records = deployment.receive()
    assert records
    response = invoke(batch(*records))
    failed = {item["itemIdentifier"] for item in response["batchItemFailures"]}
    assert len(failed) == len(response["batchItemFailures"])
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
def prod(stack: Deployment, launchdarkly: LaunchDarklySimulator) -> Deployment:
    """Give a deployment that keeps a LaunchDarkly in sync."""
    stack.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    return stack


@pytest.fixture
def both(prod: Deployment, unleash: UnleashSimulator) -> Deployment:
    """Give a deployment that keeps a LaunchDarkly and an Unleash in sync."""
    prod.put_source("unleash", "unleash", unleash.url, KEY)
    return prod


@pytest.fixture
def small(stack: Deployment) -> Iterator[LaunchDarklySimulator]:
    """Give the LaunchDarkly of ``prod`` with the flags that the samples name."""
    flags, segments = rich_flags(5)
    flags["new-checkout"] = {**new_flag("new-checkout"), "version": 8}
    with LaunchDarklySimulator(flags, segments, sdk_key=KEY) as provider:
        stack.put_source("prod", "launchdarkly", provider.url, KEY)
        yield provider


# -- batches --------------------------------------------------------------------------------------


def test_one_fetch_per_source_in_batch(
    both: Deployment, launchdarkly: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """Ten sync requests of two sources cost two fetches, and all ten are acknowledged."""
    assert serve(both, *[sync_request("prod")] * 7, *[sync_request("unleash")] * 3) == []
    assert (len(launchdarkly.requests), len(unleash.requests)) == (1, 1)
    assert both.flags("prod") == set(launchdarkly.flags())
    assert both.flags("unleash", "flags") == set(unleash.flags())
    assert both.waiting()["in flight"] == 0


def test_only_messages_of_failed_sources_are_retried(
    both: Deployment, unleash: UnleashSimulator, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """A provider that is down keeps its own sync requests on the queue, and no others."""
    unleash.faults.extend([faults.status(503)] * DOWN)
    mine = [sync_request("unleash", delivery=str(number)) for number in range(2)]
    failed = serve(both, sync_request("prod"), mine[0], sync_request("prod"), mine[1])
    assert sorted(failed) == sorted(map(json.dumps, mine))
    assert both.flags("prod") == set(launchdarkly.flags())
    assert both.flags("unleash", "flags") == set()
    assert both.waiting() == {"due": 0, "delayed": 1, "in flight": 2}
    assert [call["VisibilityTimeout"] for call in calls.of("ChangeMessageVisibility")] == [10, 10]


def test_retry_delay_doubles(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """10 s, 20 s, 40 s and so on, up to the 15 minutes that SQS allows."""
    prod.send(sync_request("prod"))
    (record,) = prod.receive()
    for receives in (1, 2, 3, 4, 7, 8, 1000):
        launchdarkly.faults.extend([faults.status(503)] * DOWN)
        record["attributes"]["ApproximateReceiveCount"] = str(receives)
        assert len(invoke(batch(record))["batchItemFailures"]) == 1
    pauses = [call["VisibilityTimeout"] for call in calls.of("ChangeMessageVisibility")]
    assert pauses == [10, 20, 40, 80, 640, 900, 900]


def test_retry_after_is_respected(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """A provider that asks for two minutes gets no request before."""
    launchdarkly.faults.append(faults.status(429, retry_after="120"))
    assert len(serve(prod, sync_request("prod"))) == 1
    assert len(launchdarkly.requests) == 1
    launchdarkly.faults.append(faults.status(429, retry_after="100000"))
    assert len(serve(prod, sync_request("prod"))) == 1
    pauses = [call["VisibilityTimeout"] for call in calls.of("ChangeMessageVisibility")]
    assert pauses == [120, 900]


POISON = [
    *("no JSON", "", "[]", "null", '{"source": 7}', '{"required": []}', "[" * 100_000, "9" * 5_000),
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


@pytest.mark.parametrize(
    "odd",
    [
        {"required": 7, "sent_at": None, "trigger": "manual", "delivery": None, "more": {"a": []}},
        {"required": [None, 7, "flag/x@y", "who/knows", "flag/nothing"], "sent_at": 1e300},
        {"required": None, "sent_at": "now", "trigger": None},
    ],
    ids=json.dumps,
)
def test_invalid_fields_of_sync_request(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, odd: dict[str, Any]
) -> None:
    """A sync request of another version of flagstore still requests a sync."""
    assert serve(prod, {**sync_request("prod"), **odd}) == []
    assert prod.flags("prod") == set(launchdarkly.flags())


def test_unknown_source_is_acknowledged(prod: Deployment, output: Output) -> None:
    """A sync request for a removed source is logged and counted without the name."""
    assert serve(prod, sync_request("removed"), sync_request("Odd/Name\n")) == []
    assert output.sums()["SyncFailures"] == 2
    assert all("source" not in line.dimensions for line in output.metrics)
    problems = sorted(line["problem"] for line in output.logs)
    assert f"{prod.prefix}/sources/removed does not exist" in problems[1]


# -- final failures -------------------------------------------------------------------------------


def test_refused_key_changes_nothing(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """No retry makes a key valid: metric and log report it, and the published set stays."""
    serve(prod, sync_request("prod"))
    before = prod.items()
    output.forget()
    launchdarkly.sdk_key = "another-key"
    launchdarkly.set_flag("one-more")
    assert serve(prod, sync_request("prod")) == []
    assert prod.items() == before
    refused = {"source": "prod", "reason": "CredentialsRefused"}
    assert output.sums(**refused) == {"Rejected": 1}
    assert output.sums(source="prod")["SyncFailures"] == 1
    assert output.sums(source="prod")["SyncAgeSeconds"] >= 0
    (line,) = [line for line in output.logs if line["level"] == "ERROR"]
    assert (line["source"], line["reason"]) == ("prod", "CredentialsRefused")
    assert line["retryable"] is False


def test_refused_set_waits_for_operator(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """The guard's refusal is a metric, not a retry; only an operator can allow that digest."""
    serve(prod, sync_request("prod"))
    before, everything = prod.items(), prod.flags("prod")
    for key in sorted(launchdarkly.flags())[:20]:
        launchdarkly.remove_flag(key)
    output.forget()
    assert serve(prod, sync_request("prod")) == []
    assert output.sums(source="prod", reason="RefusedSet") == {"Rejected": 1}
    assert prod.items() == before

    failed = invoke({"source": "prod"})
    assert failed["outcome"] == "failed"
    digest = failed["error"].split('"allow_shrink": "')[1].split('"')[0]
    assert len(digest) == 64
    assert serve(prod, sync_request("prod", allow_shrink=digest)) == []
    assert prod.flags("prod") == everything
    assert invoke({"source": "prod", "allow_shrink": "0" * 64})["outcome"] == "failed"
    assert prod.flags("prod") == everything
    allowed = invoke({"source": "prod", "allow_shrink": digest})
    assert (allowed["outcome"], allowed["removed"]) == ("published", 20)
    assert prod.flags("prod") == set(launchdarkly.flags())


# -- retries --------------------------------------------------------------------------------------


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


def test_missing_table_keeps_request(
    deployment: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """A failing store fails the message, and is named."""
    deployment.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    assert len(serve(deployment, sync_request("prod"))) == 1
    assert output.sums(reason="Store") == {"Rejected": 1}
    assert "check FLAGSTORE_TABLE" in output.logs[-1]["problem"]


def test_bug_affects_one_source(
    both: Deployment,
    launchdarkly: LaunchDarklySimulator,
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an unexpected exception the sync request is retried, and the others are served."""

    def broken(*_: object, **_named: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("storesync.providers.unleash.Unleash.fetch", broken)
    (failed,) = serve(both, sync_request("prod"), sync_request("unleash"))
    assert json.loads(failed)["source"] == "unleash"
    assert both.flags("prod") == set(launchdarkly.flags())
    assert output.sums(source="unleash", reason="ZeroDivision") == {"Rejected": 1}


# -- follow-up -------------------------------------------------------------------------------------


def test_webhook_schedules_followup(prod: Deployment, calls: Calls, clock: ShiftedClock) -> None:
    """CDNs lag behind webhooks, so one later check follows for all of a batch."""
    due = (clock.now() + 30) * 1000
    assert serve(prod, sync_request("prod"), sync_request("prod"), sync_request("prod")) == []
    (left,) = followup(calls)
    assert due <= left.pop("sent_at") <= due + 10_000
    request = {"source": "prod", "trigger": "followup", "delay": 30}
    assert left == {**request, "required": [], "delivery": ""}
    assert prod.waiting() == {"due": 0, "delayed": 1, "in flight": 0}


def test_burst_shares_followup(prod: Deployment, calls: Calls, clock: ShiftedClock) -> None:
    """Checks within seconds of each other share a follow-up."""
    for _ in range(3):
        assert serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000))) == []
        clock.advance(1.5)
    assert len(followup(calls)) == 1
    clock.advance(10)
    assert serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000))) == []
    assert len(followup(calls)) == 2


def test_coalesced_request(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls, clock: ShiftedClock
) -> None:
    """A sync request from before a completed check costs neither a fetch nor a follow-up."""
    clock.advance(5)
    assert serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000))) == []
    calls.clear()
    assert serve(prod, sync_request("prod")) == []
    assert len(launchdarkly.requests) == 1
    assert followup(calls) == []


@pytest.mark.parametrize(("seconds", "trigger"), [("0", "webhook"), ("30", "followup")])
def test_no_followup(
    prod: Deployment, calls: Calls, monkeypatch: pytest.MonkeyPatch, seconds: str, trigger: str
) -> None:
    """With FollowUpSyncSeconds 0 there are none, and none follows another."""
    monkeypatch.setenv("FLAGSTORE_FOLLOWUP_SYNC_SECONDS", seconds)
    assert serve(prod, sync_request("prod", trigger=trigger)) == []
    assert prod.flags("prod")
    assert followup(calls) == []


def test_followup_requires_unmet_revision(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """The follow-up of a check that did not reach its revision still requires it."""
    key = min(launchdarkly.flags())
    assert serve(prod, sync_request("prod", required=[f"flag/{key}@999"])) == []
    (left,) = followup(calls)
    assert left["required"] == [f"flag/{key}@999"]


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


# -- the schedule ---------------------------------------------------------------------------------


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
def test_parallel_sources_have_separate_log_lines(
    stack: Deployment, launchdarkly: LaunchDarklySimulator, output: Output, calls: Calls
) -> None:
    """Sources synced at once do not mix their lines, and read SSM once."""
    names = [f"env-{number:02}" for number in range(12)]
    for name in names:
        stack.put_source(name, "launchdarkly", launchdarkly.url, KEY, rows=False)
    outcomes = invoke({"schedule": True})
    assert [(o["source"], o["outcome"]) for o in outcomes] == [(n, "published") for n in names]
    assert [output.sums(source=name)["Flags"] for name in names] == [30] * len(names)
    paths = [call["Path"] for call in calls.of("GetParametersByPath")]
    assert {path: paths.count(path) for path in paths} == {
        f"{stack.prefix}/sources": 2,  # SSM hands out ten at a time
        f"{stack.prefix}/credentials": 2,
    }


@pytest.mark.usefixtures("stack")
def test_schedule_without_sources() -> None:
    """A new stack's schedule succeeds."""
    assert invoke({"schedule": True}) == []


# -- by hand --------------------------------------------------------------------------------------


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


SAMPLES = {
    "appconfig-deployment-complete.json": ["appconfig"],
    "appconfig-rolled-back.json": ["appconfig"],
    "appconfig-sqs.json": ["appconfig"],
    "launchdarkly-flag-updated.json": ["prod"],
    "launchdarkly-forged.json": ["prod"],
    "launchdarkly-segment-updated.json": ["prod"],
    "manual-allow-shrink.json": ["prod"],
    "schedule.json": ["appconfig", "prod", "split", "unleash"],
    "split-flag-changed.json": ["split"],
    "sqs-batch.json": ["prod", "unleash"],
    "unleash-duplicate.json": ["unleash"],
    "unleash-feature-enabled.json": ["unleash"],
    "unleash-wrong-secret.json": ["unleash"],
}


@pytest.mark.usefixtures("without_a_queue")
@pytest.mark.parametrize("name", sorted(path.name for path in EVENTS.glob("*.json")))
def test_sample_events(
    stack: Deployment, small: LaunchDarklySimulator, appconfig: AppConfigSimulator, name: str
) -> None:
    """Each file in events/, given to SyncFunction, publishes the sources that it names."""
    with (
        UnleashSimulator(*unleash_flags(5), token=KEY) as unleash,
        SplitSimulator(*split_flags(5), sdk_key=KEY) as split,
    ):
        stack.put_source("unleash", "unleash", unleash.url, KEY)
        stack.put_source("split", "split", split.url, KEY)
        stack.put_source("appconfig", "appconfig", appconfig.url, "", options=appconfig.options)
        response = invoke(json.loads((EVENTS / name).read_text(encoding="utf-8")))
    published = [
        source
        for source in ("appconfig", "prod", "split", "unleash")
        if stack.flags(source, "$snapshot")
    ]
    assert published == SAMPLES[name]
    assert len(small.requests) == ("prod" in published)
    if "sqs" in name:
        assert response == {"batchItemFailures": []}
    else:
        outcomes = response if isinstance(response, list) else [response]
        assert [(o["source"], o["outcome"]) for o in outcomes] == [
            (source, "published") for source in published
        ]


# -- provider events ------------------------------------------------------------------------------


@pytest.fixture
def shop(stack: Deployment, appconfig: AppConfigSimulator) -> Deployment:
    """Give a deployment that keeps an AppConfig profile in sync."""
    stack.put_source("shop", "appconfig", appconfig.url, "", options=appconfig.options)
    return stack


def test_queued_provider_event(
    shop: Deployment, appconfig: AppConfigSimulator, calls: Calls
) -> None:
    """Events that EventBridge puts on the queue are served like sync requests: once in a batch."""
    appconfig.set_flag("new-checkout", enabled=False)
    event = appconfig.events[-1]
    assert serve(shop, event, event, event) == []
    assert len(appconfig.requests) == 2
    assert shop.flags("shop", "flags") == set(appconfig.flags())
    assert shop.flags("shop", "definitions") == set(appconfig.flags())
    assert [(each["source"], each["trigger"]) for each in followup(calls)] == [("shop", "followup")]


def test_provider_event_reaches_only_its_sources(
    shop: Deployment, appconfig: AppConfigSimulator, small: LaunchDarklySimulator
) -> None:
    """Two sources of one profile are synced; neither another profile's nor a broken one is."""
    options = appconfig.options
    shop.put_source("twin", "appconfig", appconfig.url, "", options={**options, "live": "baking"})
    other = {**options, "profile": "0ther99"}
    shop.put_source("other", "appconfig", appconfig.url, "", options=other)
    shop.put("sources/broken", {"provider": "appconfig", "rows": "?"})
    assert serve(shop, appconfig.events[-1]) == []
    for name, has in (("shop", True), ("twin", True), ("other", False), ("prod", False)):
        assert bool(shop.flags(name, "$snapshot")) is has
    assert not small.requests


def test_irrelevant_provider_event(
    shop: Deployment, appconfig: AppConfigSimulator, output: Output
) -> None:
    """The start of a deployment and another profile's events are acknowledged."""
    started = next(event for event in appconfig.events if "Start" in event["detail-type"])
    ids = {"Id": "0ther99", "Name": "others"}
    complete = appconfig.events[-1]
    others = {**complete, "detail": {**complete["detail"], "ConfigurationProfile": ids}}
    assert serve(shop, started, others) == []
    reasons = {line["message"].partition("event ")[2] for line in output.logs}
    assert reasons == {"that concerns no flags", "of no configured source"}
    assert not appconfig.requests
    assert len(serve(shop, {**started, "source": None, "detail": None})) == 1


def test_failed_provider_event_is_retried_once(
    shop: Deployment, appconfig: AppConfigSimulator
) -> None:
    """A message about two sources is reported as failed once if either fails."""
    shop.put_source("twin", "appconfig", appconfig.url, "", options=appconfig.options)
    appconfig.faults.extend([faults.status(503)] * 2 * DOWN)
    assert len(serve(shop, appconfig.events[-1])) == 1


@pytest.mark.parametrize("missing", ["FLAGSTORE_TABLE", "FLAGSTORE_PARAMETER_PREFIX"])
def test_missing_variable_fails_batch(
    prod: Deployment, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A function without a setting acknowledges nothing, and names the setting."""
    monkeypatch.delenv(missing)
    prod.send(sync_request("prod"))
    with pytest.raises(errors.ConfigurationError, match=f"{missing} is not set"):
        invoke(batch(*prod.receive()))


# -- metrics and logs -----------------------------------------------------------------------------


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


def test_metrics_of_unchanged_check(prod: Deployment, output: Output, clock: ShiftedClock) -> None:
    """A check that finds no change still reports its age."""
    serve(prod, sync_request("prod"))
    clock.advance(5)
    output.forget()
    serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000)))
    (line,) = output.metrics
    assert line.values["Fetches"] == 1
    assert "SyncAgeSeconds" in line.values
    assert not {"Flags", "Added", "RequestToPublishSeconds"} & line.values.keys()
    assert output.logs[0]["message"] == "unchanged"


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


def test_age_grows_while_provider_is_down(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output, clock: ShiftedClock
) -> None:
    """A failed check reports the age of the last good one."""
    serve(prod, sync_request("prod"))
    clock.advance(600)
    launchdarkly.faults.extend([faults.status(503)] * DOWN)
    output.forget()
    assert len(serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000)))) == 1
    assert 600 <= output.sums(source="prod")["SyncAgeSeconds"] < 660
    assert output.sums(source="prod", reason="ProviderUnavailable") == {"Rejected": 1}
    assert output.logs[-1]["retryable"] is True


# -- the error in the source state ----------------------------------------------------------------


def test_error_stays_in_state_until_next_good_check(
    stack: Deployment, launchdarkly: LaunchDarklySimulator, context: Context
) -> None:
    """`storesync status` needs no logs."""
    stack.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    launchdarkly.sdk_key = "renewed-key"
    sync.handler({"source": "prod"}, context)
    at, reason, text = json.loads(state_of(stack)["error"]["S"])
    assert abs(at / 1000 - time.time()) < 60
    assert reason == "CredentialsRefused"
    assert "401" in text
    launchdarkly.sdk_key = KEY
    sync.handler({"source": "prod"}, context)
    assert "error" not in state_of(stack)


def test_error_in_state_is_redacted(
    prod: Deployment, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a key nor the truncated half of one is stored in the table."""
    text = f"{'x' * (ERROR_CHARS - 10)}{KEY}"

    def quoting(*_: object, **__: object) -> None:
        raise errors.CredentialsRefusedError(text)

    monkeypatch.setattr(providers.get("launchdarkly"), "fetch", quoting)
    sync.handler({"source": "prod"}, context)
    _, reason, kept = json.loads(state_of(prod)["error"]["S"])
    assert (reason, kept[-13:]) == ("CredentialsRefused", f"{'x' * 10}***")


def state_of(stack: Deployment) -> Any:
    """Return the item of the source's source state."""
    key = {"namespace": {"S": "prod:$state"}, "key": {"S": "state"}}
    return stack.clients["dynamodb"].get_item(TableName=stack.table, Key=key)["Item"]
