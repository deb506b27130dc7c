"""The cost of syncs and reads, in requests."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from bench.units import CountingClient, size
from faults.test_store_faults import large
from simulators.launchdarkly_flags import rich_flags
from simulators.provider import ModelProvider
from simulators.unreliable import UnreliableClient
from storesync.maintenance import mark_removed
from storesync.retry import Deadline
from storesync.stores.dynamodb import DynamoDBStore

if TYPE_CHECKING:
    from rigs import DynamoRig
    from simulators.clock import FakeClock

UNITS_A_SECOND = 1_000


class PartitionMeter(CountingClient):
    """Counts write units per namespace, as buckets that drain as fast as a partition writes."""

    def __init__(self, client: Any, clock: FakeClock) -> None:
        super().__init__(client)
        self._clock = clock
        self._level: dict[str, float] = defaultdict(float)
        self._since: dict[str, float] = defaultdict(clock.monotonic)
        self.fullest: dict[str, int] = defaultdict(int)
        """The most that each bucket ever held: above a second's units, DynamoDB throttles."""

    def _written(self, item: dict[str, Any], times: int = 1) -> None:
        before, namespace = self.write_units, item["namespace"]["S"]
        super()._written(item, times)
        now = self._clock.monotonic()
        drained = UNITS_A_SECOND * (now - self._since[namespace])
        self._since[namespace] = now
        self._level[namespace] = max(0.0, self._level[namespace] - drained)
        self._level[namespace] += self.write_units - before
        self.fullest[namespace] = max(self.fullest[namespace], round(self._level[namespace]))


THOUSAND = {f"flag-{n}": {"name": f"flag-{n}", "strategies": ["x" * 400]} for n in range(1_000)}


@pytest.mark.parametrize("etags", [True, False])
def test_costs_of_a_check(dynamo_rig: DynamoRig, etags: bool) -> None:
    """Unchanged: token and heartbeat. Changed: also a publication, and rows of up to 2 KB."""
    dynamo_rig.provider = ModelProvider(flags=dict(THOUSAND), etags=etags)
    dynamo_rig.sync()
    units = {}
    for count in (0, 1, 50):
        changed = {key: {"name": key, "count": count} for key in list(THOUSAND)[:count]}
        if changed:
            dynamo_rig.provider.change(**changed)
        meter = CountingClient(dynamo_rig.table.client)
        client = UnreliableClient(meter)
        assert len(dynamo_rig.sync(client).changes.changed) == count
        more = {"update_item": 1, "transact_write_items": 2, "get_item": 1}
        assert dict(client.calls) == (more if count else {"update_item": 2})
        units[count] = meter.write_units
    assert units[50] - units[1] <= 4 * 49


@pytest.mark.parametrize(
    ("count", "requests", "reads"),
    [(10, 12, 1), (1_000, 22, 1), pytest.param(10_000, 115, 3, marks=pytest.mark.campaign)],
)
def test_costs_of_sets_of_any_size(
    dynamo_rig: DynamoRig, count: int, requests: int, reads: int
) -> None:
    """Writes grow with the rows, a hundred to a request; a first read hardly grows at all."""
    flags, _ = rich_flags(count)
    dynamo_rig.provider = ModelProvider(flags=flags)
    client = CountingClient(dynamo_rig.table.client)
    assert dynamo_rig.sync(client).outcome == "published"
    reader, transport = dynamo_rig.reader()
    assert len(reader) == count
    transport.close()
    published = f"{count:,} flags: published in {client.requests()} requests"
    print(
        f"{published}, {client.write_units:,.0f} WU; first read in {len(transport.calls)} requests"
    )
    assert client.requests() <= requests
    assert len(transport.calls) <= reads


@pytest.mark.parametrize("count", [115, 300])
def test_writes_stay_within_the_capacity_of_a_partition(dynamo_rig: DynamoRig, count: int) -> None:
    """A body that just fits the snapshot record, or in chunks; rows, history and a removal."""
    meter = PartitionMeter(dynamo_rig.table.client, dynamo_rig.clock)
    for seed in range(13):
        dynamo_rig.provider.flags = large(seed, count)
        dynamo_rig.provider.change()
        report = dynamo_rig.sync(meter, step_s=3_600)
        assert (report.outcome, report.rows_error) == ("published", "")
    dynamo_rig.clock.advance(10)
    deadline = Deadline(dynamo_rig.clock, random.Random(1), 60)
    store = DynamoDBStore(meter, dynamo_rig.table.name, deadline)
    mark_removed(dynamo_rig.source(), store, dynamo_rig.clock, purge=True)
    assert not dynamo_rig.items("prod:flags")
    assert {name: units for name, units in meter.fullest.items() if units > UNITS_A_SECOND} == {}
    assert meter.fullest["prod:flags"] > UNITS_A_SECOND / 2


def test_a_refresh_is_one_small_get_item(dynamo_rig: DynamoRig) -> None:
    """The source state stays below the 4 KB of half a read unit, whatever history and changes."""
    rng, dynamo_rig.provider = random.Random(1), ModelProvider(flags={"a": 1})
    dynamo_rig.sync()
    flags, transport = dynamo_rig.reader(ttl_s=0)
    flags.snapshot()
    for value in range(30):
        dynamo_rig.provider.change(extra={"n": value, "text": rng.randbytes(150).hex()})
        dynamo_rig.sync(step_s=7_200)
        transport.calls.clear()
        assert flags["extra"]["n"] == value
        assert transport.calls == ["GetItem"]
    transport.close()
    (state,) = dynamo_rig.items("prod:$state")
    assert 2_048 < size(state) <= 4_096


def test_five_megabytes_are_published_in_chunks_and_read_in_few_calls(
    dynamo_rig: DynamoRig,
) -> None:
    """A body too large for an item is split; a read takes the record and its few chunks."""
    dynamo_rig.provider = ModelProvider(flags=large(3, 1_000))
    assert dynamo_rig.sync().outcome == "published"
    flags, transport = dynamo_rig.reader()
    snapshot = flags.snapshot()
    assert {key: snapshot[key] for key in snapshot} == dynamo_rig.provider.flags
    assert set(transport.calls) == {"GetItem"}
    assert len(transport.calls) <= 18
    transport.close()
