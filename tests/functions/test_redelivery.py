"""A sync request that fails is retried, becomes a dead letter, and succeeds after a redrive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from simulators import faults
from simulators.deployment import KEY, MAX_RECEIVES, Context, batch, sync_request
from storesync import sync

if TYPE_CHECKING:
    from simulators.deployment import Deployment
    from simulators.launchdarkly import LaunchDarklySimulator

FAULTS_A_RUN = 4
"""Fetches that fail before a sync request goes back to the queue."""


def receive_and_serve(stack: Deployment) -> int:
    """Serve the queue as the poller does; return how many messages failed."""
    records = stack.receive()
    assert records
    response = json.loads(json.dumps(sync.handler(batch(*records), Context())))
    failed = {item["itemIdentifier"] for item in response["batchItemFailures"]}
    stack.acknowledge(record for record in records if record["messageId"] not in failed)
    return len(failed)


@pytest.mark.parametrize("times", [1, MAX_RECEIVES - 1, MAX_RECEIVES])
def test_request_that_fails_repeatedly(
    stack: Deployment,
    launchdarkly: LaunchDarklySimulator,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Up to eight failures are retried; after the ninth the request waits for a redrive."""
    monkeypatch.setattr(sync, "RETRY_S", 0)
    stack.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    launchdarkly.faults.extend(faults.status(503) for _ in range(FAULTS_A_RUN * times))
    message: Any = sync_request("prod")
    stack.send(message)
    for _ in range(times):
        assert receive_and_serve(stack) == 1
        assert not stack.flags("prod")
    if times == MAX_RECEIVES:
        assert stack.receive() == []
        for record in stack.receive(stack.dlq_url):  # as StartMessageMoveTask does
            stack.send(record["body"])
            stack.sqs.delete_message(QueueUrl=stack.dlq_url, ReceiptHandle=record["receiptHandle"])
    assert receive_and_serve(stack) == 0
    assert stack.flags("prod") == set(launchdarkly.flags())
    assert stack.receive(stack.dlq_url) == []
