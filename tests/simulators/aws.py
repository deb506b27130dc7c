"""Fixtures around the emulated AWS endpoint, which tests share: each makes resources of its own."""

from __future__ import annotations

import contextlib
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config

from local.stand_in import StandIn, StandInMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trustme

# An emulator on this machine responds at once: a retry would only hide what a test looks for.
ONE_TRY = Config(
    retries={"total_max_attempts": 1, "mode": "standard"}, connect_timeout=2, read_timeout=10
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """An empty table of the store's schema, and a client that never retries."""

    name: str
    client: Any


@contextlib.contextmanager
def running(ca: trustme.CA | None = None) -> Iterator[StandIn]:
    """Run a stand-in that checks no signatures and policies, or skip where it is not installed."""
    with contextlib.ExitStack() as stack:
        try:
            stand_in = stack.enter_context(StandIn(ca=ca))
        except StandInMissingError as error:
            if os.environ.get("CI"):  # there, a skipped test would look like a passed one
                raise
            pytest.skip(str(error))
        yield stand_in


@pytest.fixture(scope="session")
def aws() -> Iterator[StandIn]:
    """Give an emulated endpoint for the session, without TLS, which few tests are about."""
    with running() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def dynamodb(aws: StandIn) -> Any:
    return aws.client("dynamodb", ONE_TRY)


def create_table(client: Any) -> str:
    name = f"flags-{uuid.uuid4().hex}"
    keys = {"namespace": "HASH", "key": "RANGE"}
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
    )
    return name


@pytest.fixture
def dynamodb_table(dynamodb: Any) -> Iterator[Table]:
    """Give a fresh table whose items expire by ``expires_at``."""
    name = create_table(dynamodb)
    dynamodb.update_time_to_live(
        TableName=name,
        TimeToLiveSpecification={"AttributeName": "expires_at", "Enabled": True},
    )
    yield Table(name=name, client=dynamodb)
    dynamodb.delete_table(TableName=name)
