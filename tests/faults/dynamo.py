"""A source, a sync and a reader on the stand-in's DynamoDB, for the fault tests."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flagstore import Client
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport
from simulators.provider import NoHttp
from storesync.model import Report, Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline
from storesync.stores.dynamodb import DynamoDBStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.stand_in import StandIn
    from simulators.aws import Table
    from simulators.clock import FakeClock
    from simulators.provider import ModelProvider

SOURCE = Source("prod", "model", "https://model.example", Secret("k"))


class CountingTransport:
    """Counts what a reader asks for."""

    def __init__(self, inner: LeanTransport) -> None:
        self._inner = inner
        self.calls: list[str] = []

    def call(self, operation: str, payload: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """Pass the call on."""
        self.calls.append(operation)
        return self._inner.call(operation, payload, deadline)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()


@dataclass
class Rig:
    """One table, one provider."""

    aws: StandIn
    table: Table
    provider: ModelProvider
    clock: FakeClock

    def sync(self, client: Any = None, *, seconds: float = 60.0, step_s: float = 10.0) -> Report:
        """Run one sync, as a request of the schedule would, some seconds after the last one."""
        self.clock.advance(step_s)
        deadline = Deadline(self.clock, random.Random(1), seconds)
        store = DynamoDBStore(client or self.table.client, self.table.name, deadline)
        sync = Sync(SOURCE, self.provider, store, http=NoHttp(), deadline=deadline)
        return sync.run([SyncRequest("prod", trigger="schedule")])

    def reader(self) -> tuple[Client, CountingTransport]:
        """Return a fresh reader over the lean transport, and its count of calls."""
        environment = self.aws.environment
        lean = LeanTransport(environment["AWS_DEFAULT_REGION"], self.aws.endpoint, environment)
        transport = CountingTransport(lean)
        return Client("prod", store=DynamoDBReader(self.table.name, transport)), transport

    def read(self) -> dict[str, Any]:
        """Return all flags that a fresh reader sees."""
        client, transport = self.reader()
        snapshot = client.snapshot()
        transport.close()
        return {key: snapshot[key] for key in snapshot.keys()}  # noqa: SIM118 - the surface

    def items(self, namespace: str) -> list[dict[str, Any]]:
        """Return the raw items of one namespace."""
        response = self.table.client.query(
            TableName=self.table.name,
            KeyConditionExpression="namespace = :n",
            ExpressionAttributeValues={":n": {"S": namespace}},
        )
        found: list[dict[str, Any]] = response["Items"]
        return found
