"""An AppConfig, syncs, a store and readers, by a clock that only tests move."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from flagstore import Client
from simulators.appconfig import AppConfigSimulator, Strategy
from simulators.appconfig_flags import definition, document
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.reader_rig import EXPIRED_S
from simulators.reader_store import RecordsReader
from storesync.http import HttpClient
from storesync.model import Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.providers.appconfig import AppConfig
from storesync.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.keys import Key, Record, SourceState
    from storesync.model import Report

LINEAR = Strategy(30, 20, bake_minutes=30)


def doc(limits: Mapping[str, int]) -> dict[str, Any]:
    values = {key: {"enabled": True, "limit": limit} for key, limit in limits.items()}
    return document(values, dict.fromkeys(values, definition()))


class Stage:
    """An AppConfig, a sync, a store and readers, by one clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.records: dict[Key, Record] = {}
        self.server = AppConfigSimulator({}, clock=self.clock.now)
        self.server.checks_signatures = False
        self.store = RecordsReader(self.records, self.clock)
        self.queued: list[int] = []
        """When each queued check is due, in milliseconds."""
        self.queues = True

    def sync(self, trigger: str = "followup", *, sent_at: int = 0, **arguments: Any) -> Report:
        def queue(_source: str, due: int) -> bool:
            self.queued.append(due)
            return self.queues

        options = self.server.options
        source = Source("prod", "appconfig", self.server.url, Secret(""), options, allow_http=True)
        deadline = Deadline(self.clock, random.Random(1), 30)
        run = Sync(
            source, AppConfig(), MemoryStore(self.records), http=HttpClient(), deadline=deadline,
            queue_check=queue, **arguments,
        )  # fmt: skip
        sent_at = sent_at or int(self.clock.now() * 1000)
        return run.run([SyncRequest("prod", (), sent_at, trigger)])

    def publish(self, limits: Mapping[str, int]) -> None:
        self.server.roll_out(self.server.put(doc(limits)))
        self.sync()

    def deploy(self, limits: Mapping[str, int], strategy: Strategy = LINEAR) -> int:
        number = self.server.deploy(self.server.put(doc(limits)), strategy)
        self.sync()
        return number

    def state(self) -> SourceState:
        return MemoryStore(self.records).state("prod")

    def reader(self, store: RecordsReader | None = None, **options: Any) -> Client:
        clocks = {"clock": self.clock.now, "monotonic": self.clock.monotonic}
        return Client("prod", store=store or self.store, replicas=1, **clocks, **options)

    def wait(self, minutes: float) -> None:
        """Let time pass, and a check and the readers' TTL at its end."""
        self.clock.advance(60 * minutes)
        self.sync()
        self.clock.advance(EXPIRED_S)

    def calls(self) -> list[str]:
        found = list(self.store.calls)
        self.store.calls.clear()
        return found
