"""A source that is published, and a client that reads it by clocks that only tests move."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from flagstore.cache import TTL_S
from flagstore.clients import Client
from flagstore.encode import encode
from flagstore.errors import StoreUnavailableError
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import SOURCE
from simulators.reader_store import RecordsReader
from storesync.model import Changes, FlagSet
from storesync.publisher import Check, Publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.keys import Key, Record

DOWN = StoreUnavailableError("the store is down")
STATE, HEAD = "read prod:$state", "read prod:$snapshot"
EXPIRED_S = 1.1 * TTL_S + 0.1
"""A TTL has up to 10 % of jitter."""


class Rig:
    """Publish flags as a sync does, and read them as an application does."""

    def __init__(
        self, flags: dict[str, Any] | None = None, *, replicas: int = 1, provider: str = "model"
    ) -> None:
        self.wall, self.mono = FakeClock(), FakeClock()
        self.records: dict[Key, Record] = {}
        self.replicas, self.provider_name = replicas, provider
        if flags is not None:
            self.publish(flags)
        self.store = RecordsReader(self.records, self.mono)
        self.client = self.another(replicas=replicas)

    def another(self, *, replicas: int = 1, kind: type[Client] = Client, **options: Any) -> Client:
        clocks = {"clock": self.wall.now, "monotonic": self.mono.monotonic}
        return kind("prod", store=self.store, replicas=replicas, **clocks, **options)

    def publish(
        self, flags: dict[str, Any], meta: dict[str, Any] | None = None, /, **sections: Any
    ) -> int:
        check = self._next_token()
        flag_set = FlagSet(self.provider_name, {"flags": flags, **sections}, meta or {}, revision=5)
        encoded = encode(flag_set.sections, flag_set.meta, token=check.token)
        self._publisher().publish(check, flag_set, encoded, "writer", Changes())
        return check.token

    def heartbeat(self) -> None:
        self._publisher().heartbeat(self._next_token())

    def _publisher(self) -> Publisher:
        return Publisher(SOURCE, MemoryStore(self.records), self.wall, replicas=self.replicas)

    def _next_token(self) -> Check:
        now = self.wall.now()
        token, seen = MemoryStore(self.records).next_token("prod", int(now))
        return Check(token, seen, int(now * 1000), "", 5)

    def advance(self, seconds: float) -> None:
        self.wall.advance(seconds)
        self.mono.advance(seconds)

    def calls(self) -> list[str]:
        found = list(self.store.calls)
        self.store.calls.clear()
        return found


def together(count: int, work: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(count)

    def run(_: int) -> Any:
        barrier.wait(30)
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - a result as well
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count), timeout=30))
