"""The real pipeline over a model provider and records in memory."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flagstore.clients import Client
from flagstore.keys import Key, SourceState, snapshot_key, state_key
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.provider import SOURCE, ModelProvider, NoHttp
from simulators.reader_store import RecordsReader
from storesync.model import Source, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.keys import Record
    from storesync.model import FetchResult, Report

HOUR_S = 3_600
SCHEDULE = SyncRequest("prod", trigger="schedule")
WRITES = frozenset({"next_token", "heartbeat", "publish", "project", "put", "expire", "pin"})


@dataclass
class Recording(ModelProvider):
    """A model that notes the ETags that it is sent and the time that each fetch may take."""

    sent: list[str] = field(default_factory=list)
    given: list[float] = field(default_factory=list)

    def fetch(
        self, source: Source, http: object, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Note the ETag and respond."""
        self.sent.append(etag)
        return super().fetch(source, http, etag, unmet=unmet)

    def within(self, total_s: float) -> NoHttp:
        self.given.append(total_s)
        return NoHttp()

    def serve(self, flags: dict[str, Any], revision: int = 0) -> None:
        """Have these flags and no others, at the next revision."""
        self.flags, self.revision = dict(flags), revision or self.revision + 1


class Rig:
    """A provider, the records of a store, and a clock."""

    def __init__(self, flags: dict[str, Any] | None = None, **model: Any) -> None:
        self.clock = FakeClock()
        self.provider = Recording(flags={"a": 1} if flags is None else dict(flags), **model)
        self.records: dict[Key, Record] = {}
        self.steps: list[str] = []

    def sync(
        self,
        *requests: SyncRequest,
        seconds: float = 300,
        source: Source = SOURCE,
        store: MemoryStore | None = None,
        **options: Any,
    ) -> Report:
        """Run one sync; of the schedule, unless sync requests are given."""
        self.steps.clear()
        self.clock.slept.clear()
        self.provider.fetches = 0
        self.provider.sent.clear()
        deadline = Deadline(self.clock, random.Random(1), seconds)
        http: Any = self.provider
        store = store or self.store()
        sync = Sync(source, self.provider, store, http=http, deadline=deadline, **options)
        return sync.run(requests or [SCHEDULE])

    def publish(self, flags: dict[str, Any]) -> int:
        """Let the provider have these flags, sync, and return the published version."""
        self.provider.serve(flags)
        self.clock.advance(60)
        self.sync()
        return self.state().published

    def store(self, step: Callable[[str], None] = lambda _: None) -> MemoryStore:
        """Return a store over the records that notes its steps, and calls *step* before each."""

        def noted(name: str) -> None:
            self.steps.append(name)
            step(name)

        return MemoryStore(self.records, noted)

    def writes(self) -> list[str]:
        """Return the steps of the last sync that write."""
        return [step for step in self.steps if step in WRITES]

    def state(self) -> SourceState:
        return SourceState.from_record(self.records.get(state_key("prod"), {}))

    def update(self, key: Key, **values: Any) -> None:
        """Change attributes of a record behind the pipeline's back; None removes one."""
        record = {**self.records[key], **values}
        self.records[key] = {name: value for name, value in record.items() if value is not None}

    def damage(self) -> None:
        self.update(snapshot_key("prod"), body=b"other")

    def data(self) -> dict[Key, Record]:
        """Return a copy of all records but the source state."""
        return {key: dict(value) for key, value in self.records.items() if key != state_key("prod")}

    def client(self) -> Client:
        """Return a reader that has read nothing yet, and checks at every read."""
        return Client("prod", store=RecordsReader(self.records), replicas=1, ttl_s=0)

    def read(self) -> dict[str, Any]:
        """Return the flags that a new reader sees."""
        snapshot = self.client().snapshot()
        return {key: snapshot[key] for key in snapshot}

    def rows(self) -> dict[str, Any]:
        return {
            key.key: json.loads(str(record["item"]))
            for key, record in self.records.items()
            if key.namespace == "prod:flags"
        }

    def in_sync(self) -> bool:
        """Return whether reader and rows show the provider's flags."""
        return self.read() == self.rows() == self.provider.flags


def once(action: Callable[[], Any], at: str = "") -> Callable[..., None]:
    """Return a function that acts at its first call, or at the first one with this argument."""
    left = [action]

    def act(name: str = "") -> None:
        if left and name == at:
            left.pop()()

    return act


def large(seed: int) -> dict[str, Any]:
    """Return flags too large for a snapshot record."""
    rng = random.Random(seed)
    return {f"flag-{number}": rng.randbytes(5_000).hex() for number in range(90)}
