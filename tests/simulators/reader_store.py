"""What a reader reads, from the records of a :class:`MemoryStore`; with faults and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.encode import encode
from flagstore.errors import StoreUnavailableError
from flagstore.keys import Key, SnapshotRecord, chunks_namespaces, snapshot_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.keys import Record
    from simulators.clock import FakeClock


def chunks_of(records: Mapping[Key, Record], start: int | str, source: str = "prod") -> list[Key]:
    """Return the keys of the chunks that one token wrote, or that start with a text, in order."""
    prefix = start if isinstance(start, str) else f"{start:012d}/"
    places = chunks_namespaces(source)
    found = [key for key in records if key.namespace in places and key.key.startswith(prefix)]
    return sorted(found, key=lambda key: key.key)


def published_record(flags: dict[str, Any], provider: str = "model") -> Record:
    """Return one record that is both source state and snapshot record of these flags."""
    body = encode({"flags": flags}, {})
    index = (body.counts, 5, body.index_data, body.index_digest)
    found = SnapshotRecord(7, provider, body.digest, *index, body=body.blocks)
    return {**found.to_record(snapshot_key("prod")), "published": 7, "checked_at": 5}


class RecordsReader:
    """Implements the reader's store on a dict of records.

    Every call is noted in :attr:`calls` before it returns or fails, as ``read <namespace>``, or
    ``chunk <token>/<number>`` of a body or of a large segment; ``read!`` and ``chunk!`` where it is
    consistent.
    """

    def __init__(self, records: Mapping[Key, Record], clock: FakeClock | None = None) -> None:
        self.records = records
        self.calls: list[str] = []
        self.throttled = 0
        self.error: Exception | None = None
        self.latency_s = 0.0
        """How long a response takes, by the clock; past the deadline there is none."""
        self.receiving = False
        """Whether data is still arriving when time runs out."""
        self.stale: Mapping[Key, Record] = {}
        """What reads that are not consistent still see of some records."""
        self.on_call: Callable[[str], None] = lambda _call: None
        """Called at every call: a test waits here, or changes something."""
        self._clock = clock

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        what, name = "read", key.namespace
        if "$body" in key.namespace:
            token, _, number = key.key.split("/")
            what, name = "chunk", f"{int(token)}/{int(number)}"
        self._response(f"{what}{'!' * consistent} {name}", deadline)
        record = self.records.get(key)
        if not consistent:
            record = self.stale.get(key, record)
        return dict(record) if record else None

    def prepare(self) -> None:
        self.calls.append("prepare")

    def close(self) -> None:
        self.calls.append("close")

    def _response(self, call: str, deadline: float) -> None:
        self.calls.append(call)
        self.on_call(call)
        if self._clock is not None and self.latency_s:
            left = deadline - self._clock.monotonic()
            self._clock.advance(max(0.0, min(left, self.latency_s)))
            if left < self.latency_s:
                message = f"{call}: no response in time"
                raise StoreUnavailableError(message, receiving=self.receiving)
        if self.error is not None:
            raise self.error
