"""A provider, the real pipeline, and a store with its readers: DynamoDB's stand-in, or a Redis."""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from redis.exceptions import ConnectionError as RedisConnectionError

from flagstore import Client
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport
from flagstore.stores.redis import RedisReader, parse_url
from simulators.clock import FakeClock
from simulators.provider import ModelProvider, NoHttp
from storesync import providers
from storesync.http import HttpClient
from storesync.model import Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline
from storesync.stores.dynamodb import DynamoDBStore, to_item
from storesync.stores.redis import RedisStore
from storesync.stores.redis_client import open_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flagstore import Snapshot
    from local.stand_in import StandIn
    from simulators.aws import Table
    from simulators.redis_server import Server
    from storesync.model import Clock, Report

    type AnyRig = DynamoRig | RedisRig
    type AnyStore = DynamoDBStore | RedisStore

SOURCE = "prod"
RELAXED_S = 60.0
REFUSALS = {
    "transact_write_items": "TransactionCanceledException",
    "batch_write_item": "ProvisionedThroughputExceededException",
    "update_item": "ProvisionedThroughputExceededException",
}
"""What DynamoDB says after boto3 has given up trying again, by operation."""


def refusal(operation: str, reason: str = "ThrottlingError") -> Exception:
    """Return the error of a call that a store refuses."""
    if operation == "execute_command":
        return RedisConnectionError("broken")
    error: Any = {"Error": {"Code": REFUSALS[operation], "Message": "simulated"}}
    return ClientError(error | {"CancellationReasons": [{"Code": reason}]}, operation)


def counted(connection: Any) -> Any:
    call, connection.calls = connection.call, []

    def noted(asked: Any, *arguments: Any) -> Any:
        connection.calls.append(str(asked))
        return call(asked, *arguments)

    connection.call = noted
    return connection


class Rig:
    """A provider and a store that begins empty."""

    provider: Any
    """A :class:`ModelProvider`, or a simulator that runs."""
    clock: Any
    """The writer's."""
    table: Any
    """``client`` leads to the store, as a warm function would keep it."""
    name: str
    options: dict[str, Any]
    store: Callable[..., AnyStore]
    """Opens the store as one sync of the source would use it."""
    connect: Callable[[], Any]
    """Opens a reader's connection, which notes its calls; the caller closes it."""

    def source(self, **options: Any) -> Source:
        options = {**self.options, **options}
        if isinstance(self.provider, ModelProvider):
            url, key = "https://model.example", Secret("k")
            return Source(SOURCE, self.provider.name, url, key, **options)
        key = Secret(self.provider.sdk_key)
        return Source(SOURCE, self.name, self.provider.url, key, allow_http=True, **options)

    def reader_store(self, connection: Any) -> Any:
        return connection

    def sync(
        self,
        client: Any = None,
        *,
        clock: Clock | None = None,
        seconds: float = RELAXED_S,
        step_s: float = 10.0,
        seed: int = 1,
        **options: Any,
    ) -> Report:
        """Run a scheduled sync *step_s* after the last one, with *options* of the source.

        *client* leads to the store instead of the rig's. Two options are of the sync:
        ``allow_shrink`` and ``verify``.
        """
        if clock is None and isinstance(self.clock, FakeClock):
            self.clock.advance(step_s)
        deadline = Deadline(clock or self.clock, random.Random(seed), seconds)
        how = {name: options.pop(name) for name in ("allow_shrink", "verify") if name in options}
        model = isinstance(self.provider, ModelProvider)
        provider: Any = self.provider if model else providers.get(self.name)
        http: Any = NoHttp() if model else HttpClient()
        source = self.source(**options)
        store = self.store(deadline, client, source)
        sync = Sync(source, provider, store, http=http, deadline=deadline, **how)
        return sync.run([SyncRequest(SOURCE, trigger="schedule")])

    def reader(self, **options: Any) -> tuple[Client, Any]:
        connection = self.connect()
        return Client(SOURCE, store=self.reader_store(connection), **options), connection

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        client, connection = self.reader()
        try:
            yield client.snapshot()
        finally:
            connection.close()

    def read(self) -> dict[str, Any]:
        with self.snapshot() as snapshot:
            return {key: snapshot[key] for key in snapshot}

    def items(self, namespace: str) -> list[dict[str, Any]]:
        """Return the records of one namespace, as DynamoDB has them."""
        return [to_item(record) for record in self.store().scan(namespace)]

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def replace(self, flags: dict[str, Any]) -> None:
        self.provider.flags = dict(flags)
        self.provider.change()

    def settle(self, flags: dict[str, Any]) -> None:
        """Bring the store to one set, rows included."""
        self.replace(flags)
        while True:
            report = self.sync()
            if report.outcome == "unchanged" and not report.rows_error:
                return


@dataclass
class DynamoRig(Rig):
    aws: StandIn
    table: Table
    provider: Any
    clock: Any = None
    name: str = ""

    def __post_init__(self) -> None:
        self.clock, self.options = self.clock or FakeClock(), {}

    def store(
        self,
        deadline: Deadline | None = None,
        client: Any = None,
        source: Source | None = None,
    ) -> DynamoDBStore:
        deadline = deadline or Deadline(self.clock, random.Random(1), RELAXED_S)
        rows_at = (source or self.source()).rows_at
        client = client or self.table.client
        return DynamoDBStore(client, self.table.name, deadline, rows_at=rows_at)

    def connect(self) -> Any:
        known = self.aws.environment
        return counted(LeanTransport(known["AWS_DEFAULT_REGION"], self.aws.endpoint, known))

    def reader_store(self, connection: Any) -> DynamoDBReader:
        return DynamoDBReader(self.table.name, connection)

    def environment(self) -> dict[str, str]:
        known = self.aws.child_environment(os.environ)
        return {**known, "FLAGSTORE_TABLE": self.table.name, "FLAGSTORE_SNAPSHOT_REPLICAS": "1"}

    def place(self) -> dict[str, str]:
        """Return where the providers' SDKs find the rows."""
        return {"table": self.table.name, "prefix": SOURCE}

    def address(self) -> str:
        """Return the store's host and port."""
        return urlsplit(self.aws.endpoint).netloc


@dataclass
class RedisRig(Rig):
    server: Server
    provider: Any
    clock: Any = None
    name: str = ""
    login: str = ""
    """User and password of the providers' SDKs, as ``user:password``."""

    def __post_init__(self) -> None:
        """Take a clock that starts now, since the server expires by its own."""
        self.clock = self.clock or FakeClock(time.time())
        self.options = {"store": "redis", "store_url": Secret(self.server.url())}
        self.table = SimpleNamespace(client=open_redis(self.server.url()))

    def close(self) -> None:
        self.table.client.close()

    def store(
        self, deadline: Deadline | None = None, client: Any = None, source: Source | None = None
    ) -> RedisStore:
        deadline = deadline or Deadline(self.clock, random.Random(1), RELAXED_S)
        rows_at = (source or self.source()).rows_at
        return RedisStore(client or self.table.client, deadline, rows_at=rows_at)

    def connect(self) -> Any:
        address = parse_url(self.server.url())
        assert address is not None
        return counted(RedisReader(address))

    def place(self) -> dict[str, str]:
        user, _, password = self.login.partition(":")
        return {"redis": self.server.url(user, password), "prefix": f"{{{SOURCE}}}"}

    def address(self) -> str:
        return urlsplit(self.server.url()).netloc


def open_rig(
    request: pytest.FixtureRequest, store: str, provider: Any, name: str = "", **more: Any
) -> AnyRig:
    """Return a rig of ``dynamodb`` or ``redis``, made of the session's servers."""
    if store == "dynamodb":
        aws, table = map(request.getfixturevalue, ("aws", "dynamodb_table"))
        return DynamoRig(aws, table, provider, name=name)
    rig = RedisRig(request.getfixturevalue("redis_server"), provider, name=name, **more)
    request.addfinalizer(rig.close)
    return rig


@pytest.fixture(params=["dynamodb", "redis"])
def any_rig(request: pytest.FixtureRequest) -> AnyRig:
    return open_rig(request, request.param, ModelProvider())


@pytest.fixture
def dynamo_rig(aws: StandIn, dynamodb_table: Table) -> DynamoRig:
    return DynamoRig(aws, dynamodb_table, ModelProvider())
