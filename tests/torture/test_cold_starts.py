"""Thousands of cold readers at once, on DynamoDB's partitions with their published limits.

Readers are real, down to their requests and how they repeat them; table, network and time are
models.
"""

from __future__ import annotations

import json
import os
import random
from base64 import b64encode
from contextlib import suppress
from math import ceil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from faults.test_burst import START, Simulation
from flagstore import keys
from flagstore.cache import FIRST_LOAD_S, TTL_S, SnapshotCache
from flagstore.encode import cut, encode
from flagstore.errors import NotLoadedError
from flagstore.keys import Key
from flagstore.stores import dynamodb, network
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport

if TYPE_CHECKING:
    from flagstore.keys import Record

READ_UNITS = 3_000
"""Units per second of a partition. No burst capacity is assumed."""
YOUNG = 4
"""Partitions of a new on-demand table."""
CONNECT_S, RESPONSE_S = (0.015, 0.03), (0.003, 0.008)
BYTES_A_SECOND = 60e6
REQUEST_S = 0.5
"""A function without flags is called, and reads again, this often."""
UNIT_BYTES = 4_096
"""Read for one unit, or for half a one with eventual consistency."""
INDEX_SHARE = 0.035
"""Of a set in chunks."""
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
SMALL = encode({"flags": {f"flag-{n}": n for n in range(200)}}, {})
THROTTLED = b'{"__type": "x#ProvisionedThroughputExceededException", "message": "slow down"}'


class Partition:
    """A bucket of a second's units that is filled all the time."""

    def __init__(self) -> None:
        self._level, self._at = float(READ_UNITS), START
        self.load = 0.0
        """Mean units that a cold reader takes."""

    def take(self, units: float, now: float) -> bool:
        self._level = min(READ_UNITS, self._level + (now - self._at) * READ_UNITS)
        self._at = now
        if self._level < units:
            return False
        self._level -= units
        return True


class Table:
    """A published set: its content is small, and its items count as those of a set of *size* bytes.

    With adaptive capacity, each item is in a partition of its own; without, partition keys are
    spread over few partitions by chance.
    """

    def __init__(self, size: int, replicas: int, seed: int, *, adaptive: bool) -> None:
        self._rng, self._adaptive = random.Random(seed), adaptive
        self._items: dict[Key, tuple[bytes, int]] = {}
        """Key → response to a GetItem, and the bytes that count."""
        self._places: dict[Key, Partition] = {}
        self._partitions: dict[object, Partition] = {}
        self.requests = 0
        made = SMALL
        found = keys.SnapshotRecord(
            7, "model", made.digest, made.counts, 5, made.index_data, made.index_digest
        )
        index = size
        if size > keys.INLINE_BYTES:
            index = round(size * INDEX_SHARE)
            chunks = cut(bytes(size - index), replicas)
            found = found._replace(chunks=json.dumps([7, len(chunks)]))
            prefix, number = found.stored_chunks()
            share = ceil(len(made.blocks) / number)
            for place, chunk in enumerate(chunks):
                key = keys.chunk_key("prod", prefix, place)
                body = made.blocks[place * share : (place + 1) * share]
                self._put({**key._asdict(), "body": body}, len(chunk) + 60)
        else:
            found = found._replace(body=made.blocks)
        for replica in range(replicas):
            key = keys.snapshot_key("prod", replica)
            self._put(found.to_record(key), index + 500, replicas)

    def _put(self, record: Record, counted: int, replicas: int = 1) -> None:
        key = keys.key_of(record)
        item = {
            name: {"B": b64encode(value).decode()}
            if isinstance(value, bytes)
            else {"S" if isinstance(value, str) else "N": str(value)}
            for name, value in record.items()
        }
        self._items[key] = json.dumps({"Item": item}).encode(), counted
        place = key if self._adaptive else self._rng.randrange(YOUNG)
        self._places[key] = self._partitions.setdefault(place, Partition())
        self._places[key].load += ceil(counted / UNIT_BYTES) / 2 / replicas

    def capacity(self) -> float:
        """Return the cold readers per second that the fullest partition can serve."""
        return READ_UNITS / max(partition.load for partition in self._partitions.values())

    def get(self, payload: Any, now: float) -> tuple[int, bytes, int]:
        """Return status, content and counted bytes of the response to a GetItem."""
        self.requests += 1
        key = Key(*(payload["Key"][name]["S"] for name in Key._fields))
        content, counted = self._items[key]
        units = ceil(counted / UNIT_BYTES) * (1.0 if payload["ConsistentRead"] else 0.5)
        if self._places[key].take(units, now):
            return 200, content, counted
        return 400, THROTTLED, 0


class Network:
    """Connections to the table in virtual time."""

    def __init__(self, table: Table, simulation: Simulation, rng: random.Random) -> None:
        self._table, self._simulation, self._rng = table, simulation, rng

    def connect(self, *_: object) -> Network:
        self._simulation.wait(self._rng.uniform(*CONNECT_S))
        return self

    receiving = False

    def is_open(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def request(self, *request: Any) -> tuple[int, bytes]:
        *_, body, deadline = request
        simulation = self._simulation
        status, content, counted = self._table.get(json.loads(body), simulation.time)
        wait = self._rng.uniform(*RESPONSE_S) + counted / BYTES_A_SECOND
        simulation.wait(min(wait, deadline - simulation.time))
        if simulation.time >= deadline:
            raise TimeoutError
        return status, content


def start(
    table: Table, replicas: int, count: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    """Start functions in some seconds, at random; return when each had flags, in order."""
    simulation, rng = Simulation(), random.Random(1)
    served: list[float] = []

    def now() -> float:
        return simulation.time

    def function() -> None:
        started, transport = now(), LeanTransport("eu-west-1", "https://table", KEYS)
        store = DynamoDBReader("flags", transport)
        clocks = {"clock": now, "monotonic": now}
        cache = SnapshotCache("prod", store=store, ttl_s=TTL_S, replicas=replicas, **clocks)
        with suppress(NotLoadedError):
            cache.preload(started + FIRST_LOAD_S)  # during INIT; then requests read flags
        while cache.current is None:
            begun = now()
            with suppress(NotLoadedError):
                cache.snapshot()
            assert now() - begun <= FIRST_LOAD_S
            if cache.current is None:
                simulation.wait(REQUEST_S)
        served.append(now() - started)

    times = SimpleNamespace(monotonic=now, sleep=simulation.wait)
    monkeypatch.setattr(network, "time", times)
    monkeypatch.setattr(dynamodb, "Connection", Network(table, simulation, rng).connect)
    monkeypatch.setattr(LeanTransport, "_signed", lambda *_: {})  # takes most of the time
    monkeypatch.setattr(os, "urandom", rng.randbytes)
    for _ in range(count):
        simulation.start(function, START + rng.uniform(0, seconds))
    simulation.run()
    return sorted(served)


def typical(size: int, replicas: int, *, adaptive: bool) -> Table:
    """Return a table whose partition keys are spread neither luckily nor unluckily."""
    tables = [Table(size, replicas, seed, adaptive=adaptive) for seed in range(21)]
    return sorted(tables, key=Table.capacity)[10]


CASES = [
    (size, replicas, adaptive)
    for size in (42_000, 100_000, 300_000, 600_000, 2_000_000)
    for replicas in (1, 5)
    for adaptive in (True, False)
    if adaptive or replicas > 1 or size > keys.INLINE_BYTES  # else there is only one item
]
DOSE = [(100_000, 1, True), (300_000, 1, True), (600_000, 5, True)]


@pytest.mark.parametrize(
    ("case", "count", "seconds"),
    [
        *(pytest.param(case, 500, 0.5, id=f"dose-{case}") for case in DOSE),
        *(
            pytest.param(case, 10_000, 10.0, marks=pytest.mark.campaign, id=f"{case}")
            for case in CASES
        ),
    ],
)
def test_cold_starts_use_the_capacity_of_the_partitions(
    monkeypatch: pytest.MonkeyPatch, case: tuple[int, int, bool], count: int, seconds: float
) -> None:
    """All have flags in the end, few of them long after the partitions could have served all."""
    size, replicas, adaptive = case
    table = typical(size, replicas, adaptive=adaptive)
    served = start(table, replicas, count, seconds, monkeypatch)
    within = [sum(late <= limit for late in served) for limit in (2, 10)]
    least = max(0.0, count / table.capacity() - 1)
    print(
        f"{size // 1_000:,} KB, {replicas} replicas, {'adaptive' if adaptive else 'young'}: "
        f"{table.capacity():.0f} a second; {within[0]:,} of {count:,} within 2 s, {within[1]:,} "
        f"within 10 s, half after {served[count // 2]:.1f} s, last after {served[-1]:.1f} s (at "
        f"least {least:.1f} s), {table.requests / count:.1f} requests each"
    )
    assert len(served) == count
    assert served[-1] <= 2.5 * count / table.capacity() + 10
    if adaptive:
        assert within[0] >= min(count, 0.75 * table.capacity() * (seconds + 2))
