"""Every store passes the contract."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from contract.store_contract import StoreContract
from contract.test_redis import opened
from simulators.memory_store import MemoryStore
from storesync.retry import Deadline, SystemClock
from storesync.stores.dynamodb import DynamoDBStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.aws import Table
    from storesync.store import Store


class TestMemory(StoreContract):
    """The model that the interleavings run on keeps the real stores' promises."""

    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestDynamoDB(StoreContract):
    """DynamoDB's wire protocol, on the stand-in."""

    @pytest.fixture
    def store(self, dynamodb_table: Table) -> Store:
        deadline = Deadline(SystemClock(), random.Random(1), 30)
        return DynamoDBStore(dynamodb_table.client, dynamodb_table.name, deadline)


class TestRedis(StoreContract):
    """A real server; and a cluster of three, with each layout of rows."""

    @pytest.fixture(params=["server", "cluster", "cluster launchdarkly", "cluster split"])
    def store(self, request: pytest.FixtureRequest) -> Iterator[Store]:
        place, _, native = request.param.partition(" ")
        found = request.getfixturevalue(f"redis_{place}")
        with opened(found if place == "server" else found[0], native=native) as store:
            yield store
