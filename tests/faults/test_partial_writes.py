"""DynamoDB under load: unprocessed items, throttling, transactions in conflict."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from faults.dynamo import Rig
from simulators.clock import FakeClock
from simulators.provider import ModelProvider
from simulators.unreliable import ForgetfulClient, UnreliableClient
from storesync.errors import OutOfTimeError

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.aws import Table


@pytest.fixture
def rig(aws: StandIn, dynamodb_table: Table) -> Rig:
    """Give a table that holds one small set."""
    rig = Rig(aws, dynamodb_table, ModelProvider(flags={"a": 1}), FakeClock())
    rig.sync()
    return rig


def large(seed: int, count: int = 1_000, size: int = 5_000) -> dict[str, Any]:
    """Return flags that hardly compress: 5 MB."""
    rng = random.Random(seed)
    return {f"flag-{n:04}": {"v": rng.randbytes(size // 2).hex()} for n in range(count)}


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_unprocessed_items_are_sent_again_until_none_is_left(
    rig: Rig, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set in hundreds of chunks, a share of every batch left unprocessed: 0 lost."""
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 8_000)
    client = ForgetfulClient(rig.table.client, share, random.Random(7))
    flags = large(1)
    rig.provider.change(**flags)
    report = rig.sync(client)
    assert report.outcome == "published"
    assert client.forgotten > 5
    assert rig.read() == flags | {"a": 1}


def test_a_store_that_takes_nothing_fails_before_the_snapshot_moves(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 % unprocessed: a typed error within the deadline, what is published stays."""
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 8_000)
    rig.provider.change(**large(1))
    started = rig.clock.monotonic()
    with pytest.raises(OutOfTimeError):
        rig.sync(ForgetfulClient(rig.table.client, 1.0, random.Random(7)), seconds=30, step_s=0)
    assert rig.clock.monotonic() - started <= 30
    assert rig.read() == {"a": 1}
    assert rig.sync().outcome == "published"


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError"])
def test_a_transaction_in_conflict_is_tried_again(rig: Rig, code: str) -> None:
    """Another writer's transaction on the state delays a publication, it does not lose it."""
    times = {"left": 3}

    def fault(operation: str, moment: str, _number: int) -> None:
        if operation == "transact_write_items" and moment == "before" and times["left"]:
            times["left"] -= 1
            error = {"Error": {"Code": "TransactionCanceledException", "Message": "x"}}
            reasons = [{"Code": code}, {"Code": "None"}]
            raise ClientError({**error, "CancellationReasons": reasons}, "TransactWriteItems")  # type: ignore[typeddict-item]

    rig.provider.change(a=2)
    report = rig.sync(UnreliableClient(rig.table.client, fault))
    assert (report.outcome, times["left"]) == ("published", 0)
    assert rig.read() == {"a": 2}


def test_a_lost_response_to_the_publication_is_no_failure(rig: Rig) -> None:
    """The transaction went through, its response did not: the writer finds that it has won."""

    def fault(operation: str, moment: str, number: int) -> None:
        if (operation, moment) == ("transact_write_items", "after") and number < 4:
            error = {"Error": {"Code": "TransactionInProgressException", "Message": "x"}}
            raise ClientError(error, "TransactWriteItems")  # type: ignore[arg-type]

    rig.provider.change(a=3)
    assert rig.sync(UnreliableClient(rig.table.client, fault)).outcome == "published"
    assert rig.read() == {"a": 3}
    rig.sync()
    assert rig.items("prod:flags")[0]["item"]["S"] == "3"
