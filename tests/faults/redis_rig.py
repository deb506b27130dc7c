"""The fault tests' source, sync and reader on a real Redis: the surface of the DynamoDB rig."""

from __future__ import annotations

import random
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from faults.dynamo import SOURCE
from flagstore import Client
from flagstore.stores.redis import RedisReader, SocketTransport, parse_url
from simulators.clock import FakeClock
from simulators.provider import NoHttp
from storesync.model import Report, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline
from storesync.stores.dynamodb import to_item
from storesync.stores.redis import RedisStore, open_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulators.provider import ModelProvider
    from simulators.redis_server import Server
    from storesync.model import Source


def real_now() -> FakeClock:
    """Return a clock that starts now: the server expires by its own."""
    return FakeClock(time.time())


@dataclass
class RedisRig:
    """One server, one provider."""

    server: Server
    provider: ModelProvider
    clock: FakeClock = field(default_factory=real_now)

    def __post_init__(self) -> None:
        """Make the client that a warm function would keep."""
        self.table = SimpleNamespace(client=open_redis(self.server.url()))

    def close(self) -> None:
        """Close the client's connections."""
        self.table.client.close()

    def store(self, client: Any = None, deadline: Deadline | None = None) -> RedisStore:
        """Return a store as one sync would use it."""
        deadline = deadline or Deadline(self.clock, random.Random(1), 60.0)
        return RedisStore(client or self.table.client, deadline, native=self.source().native_rows)

    def source(self) -> Source:
        """Return the source, as its provider's name makes it."""
        return replace(SOURCE, provider=self.provider.name, store="redis")

    def sync(self, client: Any = None, *, seconds: float = 60.0, step_s: float = 10.0) -> Report:
        """Run one sync, as a request of the schedule would, some seconds after the last one."""
        self.clock.advance(step_s)
        deadline = Deadline(self.clock, random.Random(1), seconds)
        store = self.store(client, deadline)
        sync = Sync(self.source(), self.provider, store, http=NoHttp(), deadline=deadline)
        return sync.run([SyncRequest("prod", trigger="schedule")])

    @contextmanager
    def reader(self, clock: Callable[[], float] = time.time) -> Iterator[Client]:
        """Give a fresh reader over its socket."""
        address = parse_url(self.server.url())
        assert address is not None
        with closing(SocketTransport(address)) as transport:
            yield Client("prod", store=RedisReader(transport), clock=clock)

    def read(self) -> dict[str, Any]:
        """Return all flags that a fresh reader sees."""
        with self.reader() as client:
            snapshot = client.snapshot()
            return {key: snapshot[key] for key in snapshot.keys()}  # noqa: SIM118 - the surface

    def items(self, namespace: str) -> list[dict[str, Any]]:
        """Return the records of one namespace, as DynamoDB would show them."""
        return [to_item(record) for record in self.store().scan(namespace)]
