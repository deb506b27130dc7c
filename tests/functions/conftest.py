"""Fixtures for the two functions, in process: their environment and output."""

from __future__ import annotations

import json
import sys
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from simulators.appconfig import AppConfigSimulator
from simulators.appconfig import rich_flags as appconfig_flags
from simulators.deployment import (
    ENVIRONMENT_CANARY,
    KEY,
    MAX_RECEIVES,
    Calls,
    Deployment,
    Output,
    ShiftedClock,
)
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly import rich_flags as launchdarkly_flags
from simulators.split import SplitSimulator
from simulators.split import rich_flags as split_flags
from simulators.unleash import UnleashSimulator
from simulators.unleash import rich_flags as unleash_flags
from simulators.usage import closed_readers
from storesync import sync, telemetry, usage, webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stand_in import StandIn
    from simulators.aws import Table


@pytest.fixture(scope="session")
def noted(aws: StandIn) -> tuple[Any, Calls]:
    """Give the session that creates the functions' clients, and a recorder of their calls."""
    session, calls = boto3.Session(region_name=aws.region), Calls()
    calls.attach(session.events)
    return session, calls


@pytest.fixture(autouse=True)
def calls(noted: tuple[Any, Calls]) -> Calls:
    noted[1].clear()
    return noted[1]


class Stdout:
    """The current ``sys.stdout``, which pytest changes within a test."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


@pytest.fixture(autouse=True)
def output(capsys: pytest.CaptureFixture[str]) -> Iterator[Output]:
    """Give the output at level DEBUG; at the end, it must contain no secret."""
    log, handler = webhook.log, webhook.log.registered_handler  # the one that all modules share
    level, stream = log.log_level, handler.stream
    log.setLevel("DEBUG")
    handler.stream = Stdout()
    printed = Output(capsys)
    yield printed
    log.setLevel(level)
    handler.stream = stream
    printed.check()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> ShiftedClock:
    """Give the clock of both functions, on which sleeping takes no time."""
    shifted = ShiftedClock()
    for function in (webhook, sync, usage):
        monkeypatch.setattr(function, "SystemClock", lambda: shifted)
    return shifted


@pytest.fixture(autouse=True)
def readers() -> Iterator[None]:
    with closed_readers():
        yield


@pytest.fixture(autouse=True)
def scheduled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queue scheduled checks without delay, since the queue's clock is real."""
    monkeypatch.setattr(sync, "STEP_S", 0)


@pytest.fixture(scope="session")
def clients(aws: StandIn) -> dict[str, Any]:
    return {service: aws.client(service) for service in ("sqs", "ssm", "dynamodb")}


@pytest.fixture
def deployment(
    aws: StandIn, clients: dict[str, Any], noted: tuple[Any, Calls], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    """Give an empty deployment without a table, in which both functions start cold."""
    name = uuid.uuid4().hex
    sqs = clients["sqs"]
    dlq_url = sqs.create_queue(QueueName=f"dlq-{name}")["QueueUrl"]
    dlq = sqs.get_queue_attributes(QueueUrl=dlq_url, AttributeNames=["QueueArn"])
    arn = dlq["Attributes"]["QueueArn"]
    queue_url = sqs.create_queue(
        QueueName=f"requests-{name}",
        Attributes={
            "VisibilityTimeout": "360",
            "RedrivePolicy": json.dumps(
                {"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES}
            ),
        },
    )["QueueUrl"]
    given = {
        **aws.environment,
        "FLAGSTORE_MONITORING": "full",
        "FLAGSTORE_PARAMETER_PREFIX": f"/flagstore/{name}",
        "FLAGSTORE_QUEUE_URL": queue_url,
        "FLAGSTORE_TABLE": f"no-table-{name}",
        "POWERTOOLS_SERVICE_NAME": "flagstore-test",
        "SOMETHING_ELSE": ENVIRONMENT_CANARY,
    }
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", noted[0])
    monkeypatch.setattr(telemetry, "_full", True)  # as in a new process
    _start_cold()
    yield Deployment(
        prefix=f"/flagstore/{name}", queue_url=queue_url, dlq_url=dlq_url, clients=clients
    )
    _start_cold()
    for url in (queue_url, dlq_url):
        sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def without_a_queue(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run all scheduled checks in the invocation of the schedule itself."""
    del deployment
    monkeypatch.delenv("FLAGSTORE_QUEUE_URL")


@pytest.fixture
def stack(
    deployment: Deployment, dynamodb_table: Table, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    monkeypatch.setenv("FLAGSTORE_TABLE", dynamodb_table.name)
    deployment.table = dynamodb_table.name
    return deployment


def _start_cold() -> None:
    webhook.receiver.cache_clear()
    sync.syncer.cache_clear()
    usage.collector.cache_clear()


@pytest.fixture
def launchdarkly() -> Iterator[LaunchDarklySimulator]:
    with LaunchDarklySimulator(*launchdarkly_flags(30), sdk_key=KEY) as provider:
        yield provider


@pytest.fixture
def prod(stack: Deployment, launchdarkly: LaunchDarklySimulator) -> Deployment:
    stack.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    return stack


@pytest.fixture
def split() -> Iterator[SplitSimulator]:
    with SplitSimulator(*split_flags(30), sdk_key=KEY) as provider:
        yield provider


@pytest.fixture
def unleash() -> Iterator[UnleashSimulator]:
    with UnleashSimulator(*unleash_flags(30), token=KEY) as provider:
        yield provider


@pytest.fixture
def appconfig(aws: StandIn) -> Iterator[AppConfigSimulator]:
    """Give an AppConfig that accepts the functions' role, and deployed a change."""
    given = aws.environment
    with AppConfigSimulator(
        *appconfig_flags(5),
        access_key=given["AWS_ACCESS_KEY_ID"],
        secret_key=given["AWS_SECRET_ACCESS_KEY"],
        region=aws.region,
    ) as provider:
        provider.set_flag("new-checkout", enabled=True)
        yield provider
