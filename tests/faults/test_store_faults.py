"""Failing stores: conflicts, lost responses, full memory, an emptied database."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from rigs import RedisRig, refusal
from simulators.provider import ModelProvider
from simulators.unreliable import UnreliableClient

if TYPE_CHECKING:
    from rigs import AnyRig, DynamoRig
    from simulators.redis_server import Server


def large(seed: int, count: int = 200) -> dict[str, Any]:
    """Return flags that hardly compress, 5 KB each."""
    rng = random.Random(seed)
    return {f"flag-{n:04}": {"v": rng.randbytes(2_500).hex()} for n in range(count)}


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError"])
def test_cancelled_transaction_is_retried(dynamo_rig: DynamoRig, code: str) -> None:
    """Another writer's transaction on the state delays a publication, but does not lose it."""
    left = [3]

    def fault(operation: str, moment: str, _number: int) -> None:
        if operation == "transact_write_items" and moment == "before" and left[0]:
            left[0] -= 1
            raise refusal(operation, code)

    dynamo_rig.replace({"a": 2})
    report = dynamo_rig.sync(UnreliableClient(dynamo_rig.table.client, fault))
    assert (report.outcome, left) == ("published", [0])
    assert dynamo_rig.read() == {"a": 2}


def test_lost_response_to_a_publication_is_not_a_failure(any_rig: AnyRig) -> None:
    """If only the response was lost, the writer finds its set published."""
    any_rig.settle({"a": 1})
    published = any_rig.store().state("prod").published
    lost: list[str] = []

    def fault(operation: str, moment: str, _number: int) -> None:
        if moment == "after" and not lost and any_rig.store().state("prod").published > published:
            lost.append(operation)
            if operation == "execute_command":
                raise refusal(operation)
            error: Any = {"Error": {"Code": "TransactionInProgressException", "Message": "x"}}
            raise ClientError(error, operation)

    any_rig.replace({"a": 3})
    assert any_rig.sync(UnreliableClient(any_rig.table.client, fault)).outcome == "published"
    assert len(lost) == 1
    assert any_rig.read() == {"a": 3}
    any_rig.sync()
    assert any_rig.items("prod:flags")[0]["item"]["S"] == "3"


def test_readers_survive_an_emptied_redis(redis_server: Server) -> None:
    """They keep their flags while it is empty, then load the new ones, as fencing tokens grow."""
    rig = RedisRig(redis_server, ModelProvider(flags={"a": 1}))
    rig.sync()
    shift_s = 0.0
    client, connection = rig.reader(clock=lambda: time.time() + shift_s)
    assert client["a"] == 1
    rig.server.admin.flushall()
    shift_s += 60
    assert client["a"] == 1
    assert "no longer holds" in client.info().error
    rig.provider.change(a=2)
    assert rig.sync().outcome == "published"
    shift_s += 120
    assert client["a"] == 2
    connection.close()
    rig.close()
