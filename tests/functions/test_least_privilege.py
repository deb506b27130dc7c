"""The template grants exactly the permissions that the functions and the reader use."""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Any

import boto3
import pytest

import flagstore
from flagstore.stores.dynamodb import open_reader
from simulators import faults
from simulators.deployment import CLIENT_SECRET, KEY, Context, Deployment, batch, signed
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly_flags import rich_flags
from simulators.recorder import Recorder
from simulators.rights import BY_AWS, POLICIES, QUEUE, TABLE, USAGE_QUEUE, Use, grants, uses
from simulators.serving import FEATURES, ask, opened
from simulators.usage import delivery, line
from storesync import sync, usage, webhook
from storesync.config import UsageSettings
from storesync.pipeline import VERIFY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stand_in import StandIn
    from simulators.deployment import ShiftedClock


KEY_OF_PRODUCTION = f"*:production.{KEY}"


@pytest.fixture
def recorded(
    stack: Deployment, aws: StandIn, clock: ShiftedClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Recorder]:
    """Give all calls of a deployment: publications, changes, failures and reads."""
    flags, segments = rich_flags(150)  # more rows than one transaction takes
    with (
        LaunchDarklySimulator(flags, segments, sdk_key=KEY) as provider,
        Recorder(lambda: aws.port) as recorder,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url)
        monkeypatch.setenv("AWS_REGION", aws.region)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.Session(region_name=aws.region))
        stack.put_source("prod", "launchdarkly", provider.url, KEY)
        stack.put_webhook("prod", "launchdarkly")
        life(stack, provider, recorder, clock)
        yield recorder


def life(
    stack: Deployment, provider: LaunchDarklySimulator, recorder: Recorder, clock: ShiftedClock
) -> None:
    request_and_sync(stack, recorder)
    keys = sorted(provider.flags())
    provider.set_flag(keys[0], on=False)
    provider.remove_flag(keys[1])
    request_and_sync(stack, recorder)
    noise = random.Random(7)
    for number in range(5):  # too much for one item, even compressed
        provider.set_flag(f"large-{number}", note=noise.randbytes(90_000).hex())
    request_and_sync(stack, recorder)
    with recorder.calling("reader"):
        read()
    with recorder.calling("serve"):
        serve(stack)
    for number in range(5):
        provider.remove_flag(f"large-{number}")
    request_and_sync(stack, recorder)
    clock.advance(VERIFY_MS / 1000 + 10)
    request_and_sync(stack, recorder)
    with recorder.calling("usage"):
        collect(stack, provider, keys[2])
    provider.faults.extend([faults.status(503)] * 4)
    request_and_sync(stack, recorder)
    with recorder.calling("sync"):
        sync.handler({"schedule": True}, Context())


def request_and_sync(stack: Deployment, recorder: Recorder) -> None:
    body = json.dumps({"kind": "flag"}).encode()
    with recorder.calling("webhook"):
        assert webhook.handler(signed("prod", body), Context())["statusCode"] == 202
    records = stack.receive()
    assert records
    with recorder.calling("sync"):
        sync.handler(batch(*records), Context())
    stack.acknowledge(records)


def read() -> None:
    store = open_reader()
    client = flagstore.Client("prod", store=store)
    assert client.keys()
    assert client.info().token
    store.close()
    # As an SDK in daemon mode reads all flags.
    boto3.client("dynamodb").query(
        TableName=os.environ["FLAGSTORE_TABLE"],
        KeyConditionExpression="#n = :n",
        ExpressionAttributeNames={"#n": "namespace"},
        ExpressionAttributeValues={":n": {"S": "prod:features"}},
    )


def collect(stack: Deployment, provider: LaunchDarklySimulator, flag: str) -> None:
    """Report usage to one provider; fail with another, also from the queue."""
    queue = stack.sqs.create_queue(QueueName=f"{USAGE_QUEUE}-{flag}")["QueueUrl"]
    settings = UsageSettings.from_env({**os.environ, "FLAGSTORE_QUEUE_URL": queue})
    nowhere = "redis://127.0.0.1:1/0"
    stack.put_source("adding", "unleash", provider.url, KEY_OF_PRODUCTION, redis=nowhere)
    collector = usage.Collector(settings)
    for source, name, cell in (("prod", "launchdarkly", [1, 0, 1]), ("adding", "unleash", [1, 1])):
        message = line({flag: [cell]}, name, s=source)
        collector.delivery(delivery(message)["awslogs"], 60)
    assert provider.counted == {(flag, 0): 1}
    later = {"lines": [json.loads(line({flag: [[1, 1]]}, "unleash", s="adding"))]}
    record: dict[str, Any] = {"messageId": "1", "attributes": {"ApproximateReceiveCount": "1"}}
    record |= {"receiptHandle": "x", "body": json.dumps(later)}
    assert collector.queue([record], 60) == ["1"]
    for kind in ("sources", "credentials"):
        stack.remove(f"{kind}/adding")


def serve(stack: Deployment) -> None:
    stack.put_client()
    with opened(os.environ) as app:
        assert ask(app, FEATURES, CLIENT_SECRET)[0] == 404  # the flags are read, and LaunchDarkly's


def test_every_call_is_allowed_and_every_permission_used(recorded: Recorder) -> None:
    """A permission in the template is needed by a call, or by AWS itself."""
    for who in POLICIES:
        allowed, needed = grants(who), recorded_uses(recorded, who)
        assert needed
        assert not [use for use in needed if not any(each.allows(use) for each in allowed)], who
        idle = [each for each in allowed if not any(each.allows(use) for use in needed)]
        assert {each.action for each in idle} == BY_AWS[who], who


def recorded_uses(recorded: Recorder, who: str) -> set[Use]:
    return {use for call in recorded.of(who) for use in uses(call)}


def test_functions_are_separated(recorded: Recorder) -> None:
    """The receiver cannot reach table or credentials, and no function another one's parameters."""

    def allowed(who: str, whose: str) -> set[str]:
        return {
            f"{use.action} {use.resource.rpartition(':')[2]}"
            for use in recorded_uses(recorded, whose)
            if any(each.allows(use) for each in grants(who))
        }

    send = {f"sqs:SendMessage {QUEUE}"}
    assert allowed("webhook", "sync") == allowed("sync", "webhook") == send
    assert allowed("webhook", "reader") == allowed("reader", "webhook") == set()
    get = {f"dynamodb:GetItem {TABLE}"}
    reads = get | {f"dynamodb:Query {TABLE}"}
    assert allowed("reader", "sync") == reads
    assert allowed("serve", "sync") == get
    assert allowed("serve", "webhook") == allowed("webhook", "serve") == set()
    assert allowed("sync", "serve") == get
    parameters = {
        f"ssm:GetParametersByPath parameter/flagstore/{kind}{name}"
        for kind in ("credentials", "sources")
        for name in ("", "/prod")
    }
    assert allowed("usage", "sync") == reads | parameters
    assert allowed("usage", "webhook") == allowed("usage", "serve") - reads == set()
    assert allowed("serve", "usage") == get
    assert allowed("reader", "usage") == reads


def test_readers_must_name_partition_keys() -> None:
    """The reader's condition allows requests that name their partition keys, and nothing else."""
    assert all(
        grant.allows(Use(grant.action, grant.resource))
        and not grant.allows(Use(grant.action, grant.resource, ()))
        for grant in grants("reader")
    )
