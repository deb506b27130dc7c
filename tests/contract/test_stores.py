"""Every store passes the contract."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from contract.store_contract import StoreContract
from simulators.memory_store import MemoryStore
from storesync.retry import Deadline, SystemClock
from storesync.stores.dynamodb import DynamoDBStore
from storesync.stores.redis import RedisStore
from storesync.stores.redis_client import open_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.aws import Table
    from simulators.redis_server import Server
    from storesync.store import Store


class TestMemory(StoreContract):
    """The model that the interleavings run on keeps the real stores' promises."""

    @pytest.fixture
    def store(self) -> Store:
        """Give an empty store."""
        return MemoryStore()


class TestDynamoDB(StoreContract):
    """DynamoDB's wire protocol, on the stand-in."""

    @pytest.fixture
    def store(self, dynamodb_table: Table) -> Store:
        """Give a store on a fresh table."""
        deadline = Deadline(SystemClock(), random.Random(1), 30)
        return DynamoDBStore(dynamodb_table.client, dynamodb_table.name, deadline)


class TestRedis(StoreContract):
    """A real server."""

    @pytest.fixture
    def store(self, redis_server: Server) -> Iterator[Store]:
        """Give a store on an empty server."""
        deadline = Deadline(SystemClock(), random.Random(1), 30)
        with open_redis(redis_server.url()) as client:
            yield RedisStore(client, deadline)
