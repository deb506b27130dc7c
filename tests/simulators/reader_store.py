"""What a reader reads, from the records of a :class:`MemoryStore`; with faults and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.errors import StoreUnavailableError
from flagstore.layout import Key, pieces_namespace, pieces_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.layout import Record
    from simulators.clock import FakeClock


class RecordsReader:
    """Implements the reader's store on a dict of records.

    Every call is noted in :attr:`calls` before it answers or fails, as ``read <namespace>``,
    ``read! <namespace>`` where it is consistent, or ``pieces <ticket>``.
    """

    def __init__(self, records: Mapping[Key, Record], clock: FakeClock | None = None) -> None:
        self.records = records
        self.calls: list[str] = []
        self.error: Exception | None = None
        """What every call raises."""
        self.latency_s = 0.0
        """How long an answer takes, by the clock; past the deadline there is none."""
        self.stale: Mapping[Key, Record] = {}
        """What reads that are not consistent still see of some records."""
        self.on_call: Callable[[str], None] = lambda _call: None
        """Called at every call: a test waits here, or changes something."""
        self._clock = clock

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return one record."""
        self._answer(f"read{'!' * consistent} {key.namespace}", deadline)
        record = self.records.get(key)
        if not consistent:
            record = self.stale.get(key, record)
        return dict(record) if record else None

    def pieces(
        self, source: str, ticket: int, *, deadline: float, part: int | None = None
    ) -> list[bytes]:
        """Return the pieces of a large body, in order."""
        self._answer(f"pieces {ticket}" if part is None else f"part {ticket}.{part}", deadline)
        namespace, prefix = pieces_namespace(source), pieces_prefix(ticket, part)
        found = sorted(
            key for key in self.records if key.namespace == namespace and key.key.startswith(prefix)
        )
        return [bytes(self.records[key].get("body", b"")) for key in found]  # type: ignore[arg-type]

    def _answer(self, call: str, deadline: float) -> None:
        self.calls.append(call)
        self.on_call(call)
        if self._clock is not None and self.latency_s:
            left = deadline - self._clock.monotonic()
            self._clock.advance(max(0.0, min(left, self.latency_s)))
            if left < self.latency_s:
                message = f"{call}: no answer in time"
                raise StoreUnavailableError(message)
        if self.error is not None:
            raise self.error
