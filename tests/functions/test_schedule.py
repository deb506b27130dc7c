"""The schedule queues one check per source, so that none delays another check or a webhook."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from simulators import faults
from simulators.deployment import (
    KEY,
    Calls,
    Context,
    Deployment,
    ShiftedClock,
    batch,
    sync_request,
)
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly import rich_flags as launchdarkly_flags
from storesync import sync
from storesync.retry import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_S = sync.STEP_S
SCHEDULE_S = 300


def invoke(event: Any) -> Any:
    return json.loads(json.dumps(sync.handler(event, Context())))


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[LaunchDarklySimulator]:
    """Give a LaunchDarkly that never responds, for which a check waits three seconds."""
    short = Limits(faults=sync.SCHEDULED.faults, fetch_s=3)
    monkeypatch.setattr(sync, "SCHEDULED", short)
    with LaunchDarklySimulator(sdk_key=KEY) as provider:
        provider.faults.extend(faults.silence() for _ in range(1_000))
        yield provider


def queued(calls: Calls) -> list[dict[str, Any]]:
    return [
        {**json.loads(entry["MessageBody"]), "delay": entry["DelaySeconds"]}
        for call in calls.of("SendMessageBatch")
        for entry in call["Entries"]
    ]


def test_order_and_spread_of_checks(
    prod: Deployment,
    launchdarkly: LaunchDarklySimulator,
    clock: ShiftedClock,
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The longest unchecked source is first, and checks are spread over time."""
    monkeypatch.setattr(sync, "STEP_S", STEP_S)
    for name in ("z-new", "an-old"):
        prod.put_source(name, "launchdarkly", launchdarkly.url, KEY)
    invoke({"source": "an-old"})
    clock.advance(3600)
    invoke({"source": "prod"})
    begun_ms = int(clock.now() * 1000)
    response = invoke({"schedule": True})
    assert [each["source"] for each in response] == ["z-new", "an-old", "prod"]
    assert {each["outcome"] for each in response} == {"queued"}
    checks = queued(calls)
    assert [check["source"] for check in checks] == ["z-new", "an-old", "prod"]
    for place, check in enumerate(checks):
        assert check["trigger"] == "schedule"
        assert STEP_S * place - 1 < check["delay"] <= STEP_S * (place + 1)
        assert check["sent_at"] >= begun_ms + 1000 * check["delay"]


@pytest.mark.parametrize("minutes", ["1", "360"])
def test_last_check_within_half_of_the_interval(
    stack: Deployment, calls: Calls, monkeypatch: pytest.MonkeyPatch, minutes: str
) -> None:
    """With any number of sources, and never later than SQS can delay."""
    monkeypatch.setattr(sync, "STEP_S", STEP_S)
    monkeypatch.setenv("FLAGSTORE_RECONCILE_MINUTES", minutes)
    for number in range(70):
        stack.put(f"sources/s{number}", {"provider": "launchdarkly"})
    invoke({"schedule": True})
    delays = [check["delay"] for check in queued(calls)]
    assert len(delays) == 70
    assert delays == sorted(delays)
    assert max(delays) <= min(30 * int(minutes), 900, STEP_S * 70)


def test_failed_check_is_not_retried(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """It costs one fetch and becomes no dead letter; a webhook in the same batch is retried."""
    launchdarkly.faults.append(faults.status(503))
    prod.run_schedule(invoke)
    assert len(launchdarkly.requests) == 1
    assert prod.waiting() == {"due": 0, "delayed": 0, "in flight": 0}
    assert not calls.of("ChangeMessageVisibility")
    launchdarkly.faults.extend([faults.status(503)] * 4)
    prod.send(sync_request("prod"), sync_request("prod", trigger="schedule"))
    records = prod.receive()
    (failed,) = invoke(batch(*records))["batchItemFailures"]
    (body,) = [each["body"] for each in records if each["messageId"] == failed["itemIdentifier"]]
    assert json.loads(body)["trigger"] == "webhook"
    assert len(launchdarkly.requests) == 5


def test_outdated_checks_are_dropped(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, clock: ShiftedClock
) -> None:
    """An interrupted check is dropped at its second receipt, or by its age."""
    prod.send(sync_request("prod", trigger="schedule"))
    (record,) = prod.receive()
    record["attributes"]["ApproximateReceiveCount"] = "2"
    assert invoke(batch(record)) == {"batchItemFailures": []}
    record["attributes"]["ApproximateReceiveCount"] = "1"
    clock.advance(SCHEDULE_S + 5)
    assert invoke(batch(record)) == {"batchItemFailures": []}
    assert launchdarkly.requests == []


def test_schedule_without_queue(
    prod: Deployment, launchdarkly: LaunchDarklySimulator, calls: Calls
) -> None:
    """An SQS outage affects webhooks, but not the checks that make up for them."""
    calls.down["sqs"] = "AccessDeniedException"
    (outcome,) = invoke({"schedule": True})
    assert outcome["outcome"] == "published"
    assert prod.flags("prod") == set(launchdarkly.flags())


def test_silent_provider_delays_no_other_source(
    stack: Deployment, silent: LaunchDarklySimulator, clock: ShiftedClock
) -> None:
    """Of seventy sources, one is silent: all others are checked in each of two schedules."""
    with LaunchDarklySimulator(*launchdarkly_flags(1), sdk_key=KEY) as good:
        for number in range(69):
            stack.put_source(f"s{number:03}", "launchdarkly", good.url, KEY, rows=False)
        stack.put_source("a-silent", "launchdarkly", silent.url, KEY)
        for rounds in (1, 2):
            clock.advance(SCHEDULE_S)
            stack.run_schedule(invoke)
            assert len(good.requests) == 69 * rounds
