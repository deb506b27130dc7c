"""Redis under load: lost connections, lost responses, full memory, a database that was emptied."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from faults.redis_rig import RedisRig
from simulators.provider import ModelProvider
from simulators.unreliable import UnreliableClient
from storesync.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.redis_server import Server


@pytest.fixture
def rig(redis_server: Server) -> Iterator[RedisRig]:
    """Give a server that holds one small set."""
    rig = RedisRig(redis_server, ModelProvider(flags={"a": 1}))
    rig.sync()
    yield rig
    rig.close()


def large(seed: int, count: int = 200) -> dict[str, Any]:
    """Return flags that hardly compress: 1 MB."""
    rng = random.Random(seed)
    return {f"flag-{n:04}": {"v": rng.randbytes(2_500).hex()} for n in range(count)}


def failing(rng: random.Random, share: float) -> Any:
    """Break a share of all connections, before or after the server did what it was asked."""

    def fault(_operation: str, _moment: str, _number: int) -> None:
        if rng.random() < share:
            raise RedisConnectionError("broken")

    return fault


def test_every_connection_may_break_at_any_moment(
    rig: RedisRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call in five fails, half of them after the server did it: 40 sets, none lost or mixed."""
    monkeypatch.setattr("flagstore.keys.INLINE_BYTES", 3_000)
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 2_000)
    rng = random.Random(3)
    for number in range(40):
        rig.provider.flags = {}
        rig.provider.change(**{f"f{n}": {"n": n + number} for n in range(rng.randrange(80, 100))})
        report = rig.sync(UnreliableClient(rig.table.client, failing(rng, 0.1)))
        assert report.outcome == "published"
        assert rig.read() == rig.provider.flags
    rig.sync()
    assert {item["key"]["S"] for item in rig.items("prod:flags")} == rig.provider.flags.keys()


def test_a_lost_response_to_the_publication_is_no_failure(rig: RedisRig) -> None:
    """The script ran, its response did not come: the writer finds that it has won."""
    snapshot_records: list[int] = []

    def fault(_operation: str, moment: str, _number: int) -> None:
        snapshot_record = rig.server.admin.hget("flagstore:{prod}:$snapshot:1", "token")
        snapshot_records.append(int(snapshot_record or 0))
        if moment == "after" and snapshot_records[-1] != snapshot_records[-2]:
            raise RedisConnectionError("lost")

    rig.provider.change(a=3)
    assert rig.sync(UnreliableClient(rig.table.client, fault)).outcome == "published"
    assert len(set(snapshot_records)) == 2
    assert rig.read() == {"a": 3}


def test_full_memory_leaves_what_is_published(rig: RedisRig) -> None:
    """The publication fails with its reason; when there is memory again, the next one succeeds."""
    rig.provider.change(**large(1))
    rig.server.admin.config_set("maxmemory", rig.server.admin.info("memory")["used_memory"])
    with pytest.raises(StoreError, match=r"OOM .*memory is full"):
        rig.sync()
    assert rig.read() == {"a": 1}
    rig.server.admin.config_set("maxmemory", 0)
    assert rig.sync().outcome == "published"
    assert rig.read() == rig.provider.flags


def test_readers_survive_an_emptied_database(rig: RedisRig) -> None:
    """They keep their flags while it is empty, and take the new ones: fencing tokens have grown."""
    shift_s = 0.0
    with rig.reader(lambda: time.time() + shift_s) as client:
        assert client["a"] == 1
        rig.server.admin.flushall()
        shift_s += 60
        assert client["a"] == 1
        assert "no longer holds" in client.info().error
        rig.provider.change(a=2)
        assert rig.sync().outcome == "published"
        shift_s += 120
        assert client["a"] == 2
