"""Readers during publications see whole sets only, in order; and five hundred threads at once."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client, keys
from simulators.reader_rig import together
from simulators.unreliable import Killed, UnreliableClient, kill_at

if TYPE_CHECKING:
    from rigs import AnyRig


READERS = 4
COLD = 25
"""Reads after which a reader starts over."""
HERD = 500
THROTTLED = 0.01
"""Share of a reader's calls that the store rejects for now."""


def content(generation: int) -> dict[str, Any]:
    """Return the set of one generation: each flag names it, and their number varies."""
    return {f"flag-{n:02}": {"generation": generation} for n in range(30 + generation % 5)}


@dataclass
class Reading:
    """A thread that reads as fast as it can, and compares every set with its generation."""

    rig: AnyRig
    reads: int = 0
    sets: int = 0
    shift_s: float = 0.0
    last: int = 0
    stale: int = 0
    by_deltas: int = 0
    """Sets that needed no read but that of the source state."""
    throttled: int = 0
    allowed: float = 0.0
    """Reads after which it waits for the writer, which would get no time otherwise."""
    error: BaseException | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Read until stopped; keep any exception."""
        try:
            with closing(self.rig.connect()) as transport:
                transport._exchange = self._throttling(transport._exchange)
                while not self.stop.is_set():
                    self._some(self.rig.reader_store(transport))
        except BaseException as error:  # noqa: BLE001 - the main thread judges it
            self.error = error

    def _throttling(self, exchange: Any) -> Any:
        rng = random.Random(1)

        def throttled(*arguments: Any) -> Any:
            if rng.random() >= THROTTLED:
                return exchange(*arguments)
            self.throttled += 1
            return {}, "ThrottlingException"

        return throttled

    def _some(self, store: Any) -> None:
        client = Client(
            "prod",
            store=store,
            replicas=1,
            clock=lambda: time.time() + self.shift_s,
            monotonic=lambda: time.monotonic() + self.shift_s,
        )
        snapshot = None
        for _ in range(COLD):
            while self.reads > self.allowed and not self.stop.wait(0.002):
                pass
            self.shift_s += 61  # past every TTL and pause
            found = client.snapshot()
            self.reads += 1
            self.stale += bool(client.info().error)
            if found is snapshot:
                continue
            snapshot = found
            flags = {key: found[key] for key in found.keys()}  # noqa: SIM118 - the surface
            generation = flags["flag-00"]["generation"]
            assert flags == content(generation), "a mixed or partial set"
            assert generation >= self.last, f"{generation} after {self.last}"
            self.last = generation
            self.sets += 1
            self.by_deltas += not found.snapshot_record.index_digest


@pytest.mark.parametrize(
    ("publications", "required"),  # at least as many reads beside them
    [(15, 600), pytest.param(500, 100_000, marks=pytest.mark.campaign)],
    ids=["dose", "all"],
)
def test_readers_during_publications(
    any_rig: AnyRig, publications: int, required: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four readers, throttled and often restarted, while writers die: whole sets, in order."""
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 200)
    generation, kills, rng = 1, 0, random.Random(1)
    any_rig.provider.change(**content(generation))
    any_rig.sync()
    readers = [Reading(any_rig) for _ in range(READERS)]
    threads = [threading.Thread(target=each.run) for each in readers]
    for thread in threads:
        thread.start()
    try:
        while generation <= publications or sum(each.reads for each in readers) < required:
            generation += 1
            for each in readers:
                each.allowed = 1.1 * required * generation / publications / READERS
            # Every other set lies in chunks.
            monkeypatch.setattr(keys, "INLINE_BYTES", 300_000 if generation % 2 else 0)
            any_rig.provider.flags = {}
            any_rig.provider.change(**content(generation))
            if rng.random() < 0.4:  # some more calls than a publication makes
                kills += killed(any_rig, rng.choice(("before", "after")), rng.randrange(12))
            assert any_rig.sync().outcome in {"published", "unchanged"}
            assert not [each.error for each in readers if each.error]
    finally:
        for each in readers:
            each.stop.set()
        for thread in threads:
            thread.join()
    assert [each.error for each in readers] == [None] * READERS
    reads, sets = sum(r.reads for r in readers), sum(r.sets for r in readers)
    stale = sum(r.stale for r in readers)
    assert reads >= required
    assert sets >= min(publications, 100)
    by_deltas = sum(r.by_deltas for r in readers)
    throttled = sum(r.throttled for r in readers)
    assert stale < 0.1 * reads
    assert min(kills, throttled) > publications / 10
    assert 0.2 * sets < by_deltas < 0.98 * sets
    print(
        f"{generation} publications, {kills} killed writers, {reads:,} reads, {throttled:,} calls "
        f"throttled; {sets:,} reads returned a new set, {by_deltas:,} from deltas: 0 mixed, "
        "0 older, 0 exceptions"
    )


def killed(rig: AnyRig, moment: str, number: int) -> bool:
    """Publish with a writer that dies at one moment; return whether it did."""
    try:
        rig.sync(UnreliableClient(rig.table.client, kill_at(moment, number)))
    except Killed:
        return True
    return False


@pytest.mark.parametrize("in_chunks", [False, True])
def test_cold_and_expired_threads(
    any_rig: AnyRig, in_chunks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five hundred threads of one process: one load when cold, one check when expired."""
    if in_chunks:
        monkeypatch.setattr(keys, "INLINE_BYTES", 0)
    any_rig.provider.change(**content(1))
    any_rig.sync()
    shift = {"s": 0.0}
    with closing(any_rig.connect()) as transport:
        client = Client(
            "prod",
            store=any_rig.reader_store(transport),
            replicas=1,
            clock=lambda: time.time() + shift["s"],
            monotonic=lambda: time.monotonic() + shift["s"],
        )
        assert together(HERD, lambda: client["flag-00"]) == [{"generation": 1}] * HERD
        cold = len(transport.calls)
        shift["s"] += 61
        assert together(HERD, lambda: client["flag-00"]) == [{"generation": 1}] * HERD
        expired = len(transport.calls) - cold
        any_rig.provider.change(**content(2))
        any_rig.sync()
        shift["s"] += 61
        seen = together(HERD, lambda: client["flag-00"]["generation"])
        assert set(seen) <= {1, 2}
        assert client["flag-00"] == {"generation": 2}
        changed = len(transport.calls) - cold - expired
    assert cold == 1 + in_chunks
    assert expired == 1
    assert changed == 1  # it is in the source state
    print(f"{HERD} threads: {cold} calls cold, {expired} expired, {changed} after a change")
