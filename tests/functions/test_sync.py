"""SyncFunction: batches, the schedule and people; what is repeated, what is not, what is said."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from simulators import faults
from simulators.deployment import (
    BODY_CANARY,
    CANARIES,
    HEADER_CANARY,
    KEY,
    MAX_RECEIVES,
    SECRET,
    TOKEN,
    Calls,
    Context,
    Deployment,
    Output,
    ShiftedClock,
    batch,
    request,
    signed,
    sync_request,
)
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly_flags import new_flag, rich_flags
from simulators.split import SplitSimulator
from simulators.split import rich_flags as split_flags
from simulators.unleash import UnleashSimulator
from simulators.unleash_flags import rich_flags as unleash_flags
from storesync import errors, providers, sync, webhook
from storesync.sync import ERROR_CHARS
from tools import make_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.appconfig import AppConfigSimulator

EVENTS = make_events.DIRECTORY
DOWN = 4
"""Fetches that fail before a sync request is given back."""


def invoke(event: Any, seconds: float = 60.0) -> Any:
    """Hand an event to the function; return what it returns, as JSON."""
    response = sync.handler(event, Context(seconds))
    return json.loads(json.dumps(response))


def serve(deployment: Deployment, *sync_requests: object) -> list[str]:
    """Send requests, hand them over as one batch, and return the bodies of those that failed."""
    deployment.send(*sync_requests)
    return serve_waiting(deployment)


def serve_waiting(deployment: Deployment) -> list[str]:
    """Hand over what waits on the queue as the poller does; return the bodies of what failed."""
    records = deployment.receive()
    assert records
    response = invoke(batch(*records))
    failed = {item["itemIdentifier"] for item in response["batchItemFailures"]}
    assert len(failed) == len(response["batchItemFailures"])
    deployment.acknowledge(r for r in records if r["messageId"] not in failed)
    return [record["body"] for record in records if record["messageId"] in failed]


def followup(calls: Calls) -> list[dict[str, Any]]:
    """Return the sync requests that SyncFunction left: each with its delay."""
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


def test_a_batch_costs_one_fetch_a_source(
    both: Deployment, launchdarkly: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """Ten sync requests of two sources are two fetches, and all ten are acknowledged."""
    assert serve(both, *[sync_request("prod")] * 7, *[sync_request("unleash")] * 3) == []
    assert (len(launchdarkly.requests), len(unleash.requests)) == (1, 1)
    assert both.flags("prod") == set(launchdarkly.flags())
    assert both.flags("unleash", "flags") == set(unleash.flags())
    assert both.waiting()["in flight"] == 0


def test_only_the_failed_sources_messages_come_again(
    both: Deployment, unleash: UnleashSimulator, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """A provider that is down keeps its own sync requests on the queue, and nobody else's."""
    unleash.faults.extend([faults.status(503)] * DOWN)
    mine = [sync_request("unleash", delivery=str(number)) for number in range(2)]
    failed = serve(both, sync_request("prod"), mine[0], sync_request("prod"), mine[1])
    assert sorted(failed) == sorted(map(json.dumps, mine))
    assert both.flags("prod") == set(launchdarkly.flags())
    assert both.flags("unleash", "flags") == set()
    assert both.waiting() == {"due": 0, "delayed": 1, "in flight": 2}
    assert [call["VisibilityTimeout"] for call in calls.of("ChangeMessageVisibility")] == [10, 10]


def test_a_failed_message_comes_again_soon(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the queue's six minutes, but seconds, are what a provider's hiccup costs."""
    monkeypatch.setattr(sync, "RETRY_S", 1)
    launchdarkly.faults.extend([faults.status(503)] * DOWN)
    assert len(serve(prod, sync_request("prod"))) == 1
    assert prod.receive() == []
    time.sleep(1.1)
    assert serve_waiting(prod) == []
    assert prod.flags("prod") == set(launchdarkly.flags())


def test_the_pause_doubles_with_every_receipt(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """10 s, 20 s, 40 s and so on, at most the 15 minutes that SQS allows."""
    prod.send(sync_request("prod"))
    (record,) = prod.receive()
    for receives in (1, 2, 3, 4, 7, 8, 1000):
        launchdarkly.faults.extend([faults.status(503)] * DOWN)
        record["attributes"]["ApproximateReceiveCount"] = str(receives)
        assert len(invoke(batch(record))["batchItemFailures"]) == 1
    pauses = [call["VisibilityTimeout"] for call in calls.of("ChangeMessageVisibility")]
    assert pauses == [10, 20, 40, 80, 640, 900, 900]


def test_a_providers_retry_after_is_kept(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """A provider that asks for two minutes is not asked again before."""
    launchdarkly.faults.append(faults.status(429, retry_after="120"))
    assert len(serve(prod, sync_request("prod"))) == 1
    assert len(launchdarkly.requests) == 1
    launchdarkly.faults.append(faults.status(429, retry_after="100000"))
    assert len(serve(prod, sync_request("prod"))) == 1
    pauses = [call["VisibilityTimeout"] for call in calls.of("ChangeMessageVisibility")]
    assert pauses == [120, 900]


def test_after_its_last_failure_a_request_is_a_dead_letter(
    prod: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What never succeeds ends where an alarm looks, and not in a loop."""
    monkeypatch.setattr(sync, "RETRY_S", 0)
    prod.send("no JSON")
    for _ in range(MAX_RECEIVES):
        assert serve_waiting(prod) == ["no JSON"]
    assert prod.receive() == []
    (dead,) = prod.receive(prod.dlq_url)
    assert dead["body"] == "no JSON"


POISON = [
    "no JSON",
    "",
    "[]",
    "7",
    "null",
    '{"source": 7}',
    '{"required": []}',
    "[" * 100_000,
    "9" * 5_000,
    '{"Type": "Notification", "Message": "from somewhere else"}',
]


def test_poison_fails_alone(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """Messages that are none of ours are reported as failed, and the others are served."""
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": "1795000000000"}
    records = [
        {"messageId": f"bad-{n}", "receiptHandle": "none", "body": body, "attributes": attributes}
        for n, body in enumerate(POISON)
    ]
    good = {"messageId": "good", "receiptHandle": "none", "body": json.dumps(sync_request("prod"))}
    failed = invoke(batch(*records, good, {"messageId": "empty"}, {}))["batchItemFailures"]
    expected = {record["messageId"] for record in records} | {"empty", ""}
    assert {item["itemIdentifier"] for item in failed} == expected
    told = [line for line in output.logs if line["level"] == "ERROR"]
    assert {line["message_id"] for line in told} == expected
    assert all("dead letter" in line["problem"] for line in told)
    assert prod.flags("prod") == set(launchdarkly.flags())


@pytest.mark.parametrize(
    "odd",
    [
        {"required": None},
        {"required": 7},
        {"required": [None, 7, "flag/x@y", "who/knows", "flag/nothing"]},
        {"sent_at": None},
        {"sent_at": "now"},
        {"sent_at": -1},
        {"sent_at": 1e300},
        {"trigger": None},
        {"trigger": "manual"},
        {"delivery": None},
        {"more": {"deeply": []}},
    ],
    ids=json.dumps,
)
def test_odd_fields_of_a_request_cost_at_most_a_fetch(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, odd: dict[str, Any]
) -> None:
    """A sync request of another version of this application still requests a sync."""
    assert serve(prod, {**sync_request("prod"), **odd}) == []
    assert prod.flags("prod") == set(launchdarkly.flags())


def test_unknown_sources_are_acknowledged_and_no_dimension(
    prod: Deployment, output: Output
) -> None:
    """A sync request for a source that was removed is logged, counted under no name, and gone."""
    assert serve(prod, sync_request("removed"), sync_request("Odd/Name\n")) == []
    assert output.sums()["SyncFailures"] == 2
    assert all("source" not in line.dimensions for line in output.metrics)
    problems = sorted(line["problem"] for line in output.logs)
    assert f"{prod.prefix}/sources/removed does not exist" in problems[1]


# -- what is not repeated -------------------------------------------------------------------------


def test_a_refused_key_is_acknowledged_and_touches_nothing(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """No retry makes a key good: metric and log say so, and what is published stays."""
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


def test_a_refused_set_is_acknowledged_until_a_person_allows_it(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """The guard's refusal is a metric, not a retry; only a person can allow that very digest."""
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


@pytest.mark.parametrize("value", [True, 7, None, "yes", "0" * 63, ["0" * 64]])
def test_what_is_no_digest_is_said(value: object) -> None:
    """Nobody has to guess why an allowance had no effect."""
    with pytest.raises(errors.BadRequestError, match="64 characters of 0-9a-f"):
        invoke({"source": "prod", "allow_shrink": value})


# -- what must be repeated ------------------------------------------------------------------------


def test_ssm_down_at_the_start_loses_no_request(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls, clock: ShiftedClock
) -> None:
    """Parameters that cannot be read now are no reason to throw a sync request away."""
    calls.down["ssm"] = "AccessDeniedException"
    assert len(serve(prod, sync_request("prod"))) == 1
    with pytest.raises(errors.ParametersError, match=f"{prod.prefix}/sources"):
        invoke({"schedule": True})
    calls.down.clear()
    clock.advance(5)
    assert serve(prod, sync_request("prod")) == []
    assert prod.flags("prod") == set(launchdarkly.flags())


def test_ssm_down_later_disturbs_nobody(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls, clock: ShiftedClock
) -> None:
    """A process that has read its parameters once goes on with them."""
    serve(prod, sync_request("prod"))
    calls.down["ssm"] = "AccessDeniedException"
    clock.advance(3600)
    launchdarkly.set_flag("one-more")
    assert serve(prod, sync_request("prod")) == []
    assert "one-more" in prod.flags("prod")


def test_a_missing_table_keeps_the_request(
    deployment: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """A store that fails is a failure of the message, and named."""
    deployment.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    assert len(serve(deployment, sync_request("prod"))) == 1
    assert output.sums(reason="Store") == {"Rejected": 1}
    assert "check FLAGSTORE_TABLE" in output.logs[-1]["problem"]


def test_a_bug_keeps_the_request_and_stops_nobody(
    both: Deployment,
    launchdarkly: LaunchDarklySimulator,
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even what nobody thought of ends with the sync request on the queue and the others served."""

    def broken(*_: object, **_named: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("storesync.providers.unleash.Unleash.fetch", broken)
    (failed,) = serve(both, sync_request("prod"), sync_request("unleash"))
    assert json.loads(failed)["source"] == "unleash"
    assert both.flags("prod") == set(launchdarkly.flags())
    assert output.sums(source="unleash", reason="ZeroDivision") == {"Rejected": 1}


def test_a_new_source_is_known_at_once(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, clock: ShiftedClock, calls: Calls
) -> None:
    """A source that was added a moment ago is not unknown; what stays unknown is asked rarely."""
    serve(prod, sync_request("prod"))
    clock.advance(6)
    prod.put_source("late", "launchdarkly", launchdarkly.url, KEY)
    assert serve(prod, sync_request("late")) == []
    assert prod.flags("late") == set(launchdarkly.flags())
    calls.clear()
    for _ in range(20):
        serve(prod, sync_request("nobody"))
    assert len(calls.of("GetParametersByPath")) <= 2


def test_a_person_sees_the_newest_parameters(
    prod: Deployment, launchdarkly: LaunchDarklySimulator
) -> None:
    """Whoever renews a key and requests a sync by hand is not served from a cache."""
    prod.put_source("prod", "launchdarkly", launchdarkly.url, "old-key")
    assert "401" in invoke({"source": "prod"})["error"]
    prod.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    assert invoke({"source": "prod"})["outcome"] == "published"


# -- follow-up -------------------------------------------------------------------------------------


def test_a_webhooks_check_leaves_one_followup_request(
    prod: Deployment, calls: Calls, clock: ShiftedClock
) -> None:
    """Providers' CDNs lag behind their webhooks, so a check is repeated once, later, for all."""
    due = (clock.now() + 30) * 1000
    assert serve(prod, sync_request("prod"), sync_request("prod"), sync_request("prod")) == []
    (left,) = followup(calls)
    assert due <= left.pop("sent_at") <= due + 10_000
    assert left == {
        "source": "prod",
        "required": [],
        "trigger": "followup",
        "delivery": "",
        "delay": 30,
    }
    assert prod.waiting() == {"due": 0, "delayed": 1, "in flight": 0}


def test_a_burst_leaves_few_followup_requests(
    prod: Deployment, calls: Calls, clock: ShiftedClock
) -> None:
    """Checks that follow each other within seconds share a follow-up."""
    for _ in range(3):
        assert serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000))) == []
        clock.advance(1.5)
    assert len(followup(calls)) == 1
    clock.advance(10)
    assert serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000))) == []
    assert len(followup(calls)) == 2


def test_a_followup_request_leaves_none(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """The chain ends."""
    assert serve(prod, sync_request("prod", trigger="followup")) == []
    assert len(launchdarkly.requests) == 1
    assert followup(calls) == []


def test_a_coalesced_request_costs_and_leaves_nothing(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls, clock: ShiftedClock
) -> None:
    """A sync request from clearly before a completed check is acknowledged without a fetch."""
    clock.advance(5)
    assert serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000))) == []
    calls.clear()
    assert serve(prod, sync_request("prod")) == []
    assert len(launchdarkly.requests) == 1
    assert followup(calls) == []


def test_no_followup_request_when_it_is_switched_off(
    prod: Deployment, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FollowUpSyncSeconds 0 means none."""
    monkeypatch.setenv("FLAGSTORE_FOLLOWUP_SYNC_SECONDS", "0")
    assert serve(prod, sync_request("prod")) == []
    assert followup(calls) == []


def test_a_lagging_provider_is_asked_for_the_same_again(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """The follow-up of a check that did not reach its revision still wants it."""
    key = min(launchdarkly.flags())
    assert serve(prod, sync_request("prod", required=[f"flag/{key}@999"])) == []
    (left,) = followup(calls)
    assert left["required"] == [f"flag/{key}@999"]


@pytest.mark.usefixtures("prod")
def test_without_a_queue_nothing_is_repeated(
    launchdarkly: LaunchDarklySimulator,
    calls: Calls,
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch given by hand to a function without a queue is served, and no call fails."""
    monkeypatch.setenv("FLAGSTORE_QUEUE_URL", "")
    record = {"messageId": "1", "receiptHandle": "x", "body": json.dumps(sync_request("prod"))}
    assert invoke(batch(record)) == {"batchItemFailures": []}
    launchdarkly.faults.extend([faults.status(503)] * DOWN)
    assert invoke(batch(record)) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert not {"SendMessage", "ChangeMessageVisibility"} & {name for name, _ in calls.made}
    assert {line["level"] for line in output.logs} == {"INFO", "ERROR"}


def test_a_queue_that_fails_fails_no_sync(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls, output: Output
) -> None:
    """A follow-up that cannot be left is a warning: the flags are published."""
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
def test_the_schedule_requests_every_source_whatever_the_others_do(
    both: Deployment,
    launchdarkly: LaunchDarklySimulator,
    unleash: UnleashSimulator,
    output: Output,
    calls: Calls,
) -> None:
    """Broken, misconfigured and slow sources are named; they neither stop nor delay the others."""
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
def test_many_sources_are_told_apart_in_the_log(
    stack: Deployment, launchdarkly: LaunchDarklySimulator, output: Output, calls: Calls
) -> None:
    """Sources that are synced at once do not write into each other's lines, nor ask SSM twice."""
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
def test_the_schedule_of_an_empty_deployment_is_fine() -> None:
    """A fresh stack's first minutes raise no alarm."""
    assert invoke({"schedule": True}) == []


# -- by hand --------------------------------------------------------------------------------------


def test_a_person_reads_what_happened(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """A sync request by hand always fetches, and responds with numbers."""
    first = invoke({"source": "prod"})
    assert (first["outcome"], first["added"], first["removed"]) == ("published", 33, 0)
    assert first["counts"] == {"flags": 30, "segments": 3}
    second = invoke({"source": "prod"})
    assert (second["outcome"], second["digest"]) == ("unchanged", first["digest"])
    assert len(launchdarkly.requests) == 2
    assert followup(calls) == []
    missing = invoke({"source": "nobody"})
    assert f"{prod.prefix}/sources/nobody does not exist" in missing["error"]


def test_a_webhook_given_directly_does_the_whole_job(
    prod: Deployment, launchdarkly: LaunchDarklySimulator
) -> None:
    """`sam local invoke SyncFunction -e events/…` publishes, without a check of the signature."""
    response = invoke(signed("prod", b"{}", "whatever"))
    assert (response["outcome"], response["source"]) == ("published", "prod")
    assert prod.flags("prod") == set(launchdarkly.flags())


@pytest.mark.parametrize(
    "event",
    [{}, [], None, "prod", {"Records": []}, {"schedule": False}, {"source": 7}, {"detail": {}}],
    ids=json.dumps,
)
def test_an_unknown_event_says_what_is_known(event: Any) -> None:
    """Whoever sends something else reads what to send."""
    with pytest.raises(errors.BadRequestError, match="events/ has one of each"):
        invoke(event)


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
def test_every_sample_does_its_job(
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


# -- events of AWS --------------------------------------------------------------------------------


@pytest.fixture
def shop(stack: Deployment, appconfig: AppConfigSimulator) -> Deployment:
    """Give a deployment that keeps an AppConfig profile in sync."""
    stack.put_source("shop", "appconfig", appconfig.url, "", options=appconfig.options)
    return stack


def test_an_event_on_the_queue_requests_its_sources_and_leaves_a_followup_request(
    shop: Deployment, appconfig: AppConfigSimulator, calls: Calls
) -> None:
    """EventBridge writes it there; it is served as a sync request of ours would be."""
    appconfig.set_flag("new-checkout", enabled=False)
    assert serve(shop, appconfig.events[-1]) == []
    assert shop.flags("shop", "flags") == set(appconfig.flags())
    assert shop.flags("shop", "definitions") == set(appconfig.flags())
    assert [(each["source"], each["trigger"]) for each in followup(calls)] == [("shop", "followup")]


def test_an_event_twice_costs_one_check(shop: Deployment, appconfig: AppConfigSimulator) -> None:
    """Both come in one batch, or the second is older than the check that served the first."""
    event = appconfig.events[-1]
    assert serve(shop, event, event, event) == []
    assert len(appconfig.requests) == 2


def test_an_event_requests_every_source_that_it_is_about_and_no_other(
    shop: Deployment, appconfig: AppConfigSimulator, small: LaunchDarklySimulator
) -> None:
    """Two sources of one profile, by ids or by names; not another profile's, nor a broken one."""
    options = appconfig.options
    shop.put_source("twin", "appconfig", appconfig.url, "", options={**options, "live": "baking"})
    other = {**options, "profile": "0ther99"}
    shop.put_source("other", "appconfig", appconfig.url, "", options=other)
    shop.put("sources/broken", {"provider": "appconfig", "rows": "?"})
    assert serve(shop, appconfig.events[-1]) == []
    for name, has in (("shop", True), ("twin", True), ("other", False), ("prod", False)):
        assert bool(shop.flags(name, "$snapshot")) is has
    assert not small.requests


def test_an_event_that_is_about_nothing_of_ours_is_acknowledged(
    shop: Deployment, appconfig: AppConfigSimulator, output: Output
) -> None:
    """The start of a deployment, and another profile's, are no failures; what is no event is."""
    started = next(event for event in appconfig.events if "Start" in event["detail-type"])
    ids = {"Id": "0ther99", "Name": "others"}
    complete = appconfig.events[-1]
    others = {**complete, "detail": {**complete["detail"], "ConfigurationProfile": ids}}
    assert serve(shop, started, others) == []
    told = {line["message"].partition("event ")[2] for line in output.logs}
    assert told == {"that concerns no flags", "of no configured source"}
    assert not appconfig.requests
    assert len(serve(shop, {**started, "source": None, "detail": None})) == 1


def test_an_event_of_a_source_that_fails_comes_again(
    shop: Deployment, appconfig: AppConfigSimulator
) -> None:
    """A message that concerns two sources comes again, once, if either of them failed."""
    shop.put_source("twin", "appconfig", appconfig.url, "", options=appconfig.options)
    appconfig.faults.extend([faults.status(503)] * 2 * DOWN)
    assert len(serve(shop, appconfig.events[-1])) == 1


@pytest.mark.parametrize("missing", ["FLAGSTORE_TABLE", "FLAGSTORE_PARAMETER_PREFIX"])
def test_a_missing_variable_fails_the_whole_batch(
    prod: Deployment, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A function that lacks a setting acknowledges nothing, and says which."""
    monkeypatch.delenv(missing)
    prod.send(sync_request("prod"))
    with pytest.raises(errors.ConfigurationError, match=f"{missing} is not set"):
        invoke(batch(*prod.receive()))


# -- what is said ---------------------------------------------------------------------------------


def test_a_publication_is_measured(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output, clock: ShiftedClock
) -> None:
    """Names, values, units and dimensions of the metrics are what the alarms are made for."""
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
    assert line.values == {
        "Flags": 30,
        "Segments": 3,
        "Added": 1,
        "Changed": 1,
        "Removed": 1,
        "Fetches": 1,
        "Superseded": 0,
        "Coalesced": 0,
        "Pinned": 0,
        "UnprocessedRetries": 0,
        "SkippedRows": 0,
        "RowFailures": 0,
    }
    assert {name for name, unit in line.units.items() if unit == "Seconds"} == set(seconds)
    assert {unit for name, unit in line.units.items() if name not in seconds} == {"Count"}
    (log,) = output.logs
    assert (log["message"], log["source"], log["requests"]) == ("published", "prod", 2)
    assert log["correlation_id"] == Context.aws_request_id


def test_an_unchanged_check_is_measured(
    prod: Deployment, output: Output, clock: ShiftedClock
) -> None:
    """A check that finds nothing new still says how fresh everything is."""
    serve(prod, sync_request("prod"))
    clock.advance(5)
    output.forget()
    serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000)))
    (line,) = output.metrics
    assert line.values["Fetches"] == 1
    assert "SyncAgeSeconds" in line.values
    assert not {"Flags", "Added", "RequestToPublishSeconds"} & line.values.keys()
    assert output.logs[0]["message"] == "unchanged"


def test_rows_that_stay_behind_are_a_warning(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """Whoever looks for what is wrong finds the row that no item can hold, by its name."""
    name = "x" * 1_025
    launchdarkly.set_flag(name)
    serve(prod, sync_request("prod"))
    (line,) = output.logs
    assert (line["level"], line["message"]) == ("WARNING", "published")
    assert line["skipped_rows"] == [f"features/{name}"]


def test_the_age_grows_while_the_provider_is_down(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, output: Output, clock: ShiftedClock
) -> None:
    """A check that fails says how old the last good one has become."""
    serve(prod, sync_request("prod"))
    clock.advance(600)
    launchdarkly.faults.extend([faults.status(503)] * DOWN)
    output.forget()
    assert len(serve(prod, sync_request("prod", sent_at=int(clock.now() * 1000)))) == 1
    assert 600 <= output.sums(source="prod")["SyncAgeSeconds"] < 660
    assert output.sums(source="prod", reason="ProviderUnavailable") == {"Rejected": 1}
    assert output.logs[-1]["retryable"] is True


def test_no_secret_is_printed(
    both: Deployment, launchdarkly: LaunchDarklySimulator, unleash: UnleashSimulator, output: Output
) -> None:
    """With DEBUG on, neither keys nor tokens, bodies, headers or variables are in any line."""
    both.put_webhook("prod", "launchdarkly")
    both.put_webhook("unleash", "unleash", TOKEN, method="url")
    body = json.dumps({"kind": "flag", "comment": BODY_CANARY}).encode()
    headers = {"cookie": HEADER_CANARY}
    for _ in range(3):
        webhook.handler(signed("prod", body), Context())
        webhook.handler(signed("prod", body, TOKEN), Context())
        told = request("unleash", body, headers, token=TOKEN)
        webhook.handler(told, Context())
        webhook.handler({**told, "body": "%", "isBase64Encoded": True}, Context())
    assert serve_waiting(both) == []
    for fault in (
        faults.status(401),
        faults.status(404),
        faults.redirect(f"http://127.0.0.1/{SECRET}"),
        faults.reset(),
        faults.malformed_json(),
        faults.html(),
        faults.body(json.dumps({"flags": {"a": BODY_CANARY}, "segments": {}}).encode()),
        faults.empty_set(),
    ):
        launchdarkly.faults.extend([fault] * DOWN)
        unleash.faults.extend([fault] * DOWN)
        both.run_schedule(invoke)
        launchdarkly.faults.clear()
        unleash.faults.clear()
    for credential in (
        KEY,
        {"key": f"{KEY}\nmore", "base_url": launchdarkly.url},
        {"key": f"{KEY}\u00e9", "base_url": launchdarkly.url},
        {"key": KEY, "base_url": f"http://{TOKEN}:{SECRET}@127.0.0.1/"},
        {"key": KEY, "base_url": f"http://127.0.0.1:9/{TOKEN}"},
        {"key": KEY, "base_url": f"http://127.0.0.1:9/{TOKEN}?{SECRET}"},
        {"key": KEY, "base_url": f"http://{TOKEN}/".replace("-", "_-")},
        {"key": KEY, "base_url": KEY},
        {"key": [KEY], "base_url": {KEY: KEY}},
        {KEY: KEY},
    ):
        named = isinstance(credential, dict) and {"provider": "launchdarkly", **credential}
        both.put("credentials/prod", named or credential)
        response = invoke({"source": "prod"})
        assert response["outcome"] == "failed"
        assert not [canary for canary in CANARIES if canary in json.dumps(response)]
    assert len(output.logs) > 30
    output.check()


# -- what a person finds afterwards -------------------------------------------------------------


def test_the_reason_of_a_failure_stays_in_the_state_until_a_check_completes(
    stack: Deployment, launchdarkly: LaunchDarklySimulator, context: Context
) -> None:
    """So that a status needs no logs; readers see nothing of it."""
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


def test_the_reason_that_stays_holds_no_secret(
    prod: Deployment, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may read the table may not read the key; nor the half that is left of a long text."""
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
