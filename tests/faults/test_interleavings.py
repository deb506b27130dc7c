"""Every interleaving of three syncs, on a model of the store that runs the pipeline's own code.

What takes minutes is marked ``campaign``: `make exhaustive` runs it, `make test` a smaller dose.
"""

from __future__ import annotations

from typing import Any

import pytest

from flagstore import keys
from flagstore.codec import Body
from simulators.forgetful import ForgetfulWorld
from simulators.provider import ModelProvider
from simulators.schedules import SOURCE, FrozenClock, World, explore
from storesync import publisher
from storesync.maintenance import roll_back, unpin
from storesync.store import Condition


def settled(provider: ModelProvider) -> dict[Any, Any]:
    clock = FrozenClock()
    clock.advance(-60)
    world = World({}, provider, clock=clock)
    world.sync()
    return world.records


def content(world: World) -> dict[str, Any]:
    snapshot_record = world.snapshot_record()
    assert snapshot_record is not None
    data = snapshot_record.body
    prefix, number = snapshot_record.stored_chunks()
    for chunk in range(number):
        data += bytes(world.records[keys.chunk_key(SOURCE.name, prefix, chunk)]["body"])
    return Body(snapshot_record.index_data, snapshot_record.index_digest, data).items("flags")


def rows(world: World) -> dict[str, Any]:
    return {
        key.key: record["item"]
        for key, record in world.records.items()
        if key.namespace == "prod:flags"
    }


def in_sync(world: World) -> None:
    """Assert that snapshot record and rows show the provider's final state."""
    world.hold(content(world) == world.provider.flags, "not the provider's final state")
    expected = {key: str(value) for key, value in world.provider.flags.items()}
    state = world.state()
    if state.rows_version == state.published:
        world.hold(rows(world) == expected, "the rows are wrong")


def changes(*, etags: bool = True, values: tuple[int, ...] = (2, 1, 2)) -> World:
    """Return a world in which each change of the provider requests a sync: A → B → A → B."""
    provider = ModelProvider(flags={"a": 1}, etags=etags)
    world = World(settled(provider), provider)
    for number, value in enumerate(values):
        world.add(f"sync{number}", world.change_and_sync(a=value))
    return world


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize(
    ("values", "least"),
    [((2, 1), 100), pytest.param((2, 1, 2), 5_000, marks=pytest.mark.campaign)],
    ids=["two", "three"],
)
def test_every_interleaving_of_syncs(values: tuple[int, ...], least: int, etags: bool) -> None:
    """Tokens, fetches, heartbeats, publications and rows in any order: no older set wins."""
    states = explore(lambda: changes(etags=etags, values=values), in_sync)
    print(f"syncs: every one of {states:,} states")
    assert states > least


@pytest.mark.parametrize(
    "values", [(2, 1), pytest.param((2, 1, 2), marks=pytest.mark.campaign)], ids=len
)
def test_pin_holds_in_every_interleaving(values: tuple[int, ...]) -> None:
    """A pin set at any moment is never lost, and nothing is published while it lasts."""

    def make() -> World:
        world = changes(values=values)
        until = int(world.clock.now() * 1000) + 3_600_000
        world.add("pin", lambda: world.store().commit("prod", Condition(), {"pinned": until}))
        return world

    def pinned(world: World) -> None:
        world.hold(world.state().pinned > int(world.clock.now() * 1000), "the pin is lost")

    states = explore(make, pinned)
    print(f"a pin: every one of {states:,} states")
    assert states > 100


def rolled_back(world: World, *, then: bool = False) -> None:
    """Roll back to the first version, pinned for an hour; *then* unpin and sync."""
    first = world.state().versions()[0].token
    until = int(world.clock.now() * 1000) + 3_600_000
    roll_back(SOURCE, world.store(), world.clock, to=first, pinned_until=until)
    if then:
        unpin(SOURCE.name, world.store(), world.clock)
        world.sync()


@pytest.mark.parametrize(
    "values", [(2,), pytest.param((2, 1), marks=pytest.mark.campaign)], ids=len
)
def test_rollback_holds_in_every_interleaving(values: tuple[int, ...]) -> None:
    """Whatever syncs are under way, readers and rows finally show the old version."""

    def make() -> World:
        world = changes(values=values)
        world.add("rollback", lambda: rolled_back(world))
        return world

    def held(world: World) -> None:
        world.hold(content(world) == {"a": 1}, "the rollback is lost")
        world.hold(rows(world) == {"a": "1"}, "the rows are wrong")
        world.hold(world.state().pinned > int(world.clock.now() * 1000), "the pin is lost")

    states = explore(make, held)
    print(f"a rollback: every one of {states:,} states")
    assert states > 50


@pytest.mark.parametrize(
    "values", [(2,), pytest.param((2, 1), marks=pytest.mark.campaign)], ids=len
)
def test_every_interleaving_after_a_pin(values: tuple[int, ...]) -> None:
    """A rollback, unpin and sync request among running syncs: nothing of the rollback remains."""

    def make() -> World:
        world = changes(values=values)
        world.add("rollback", lambda: rolled_back(world, then=True))
        return world

    states = explore(make, in_sync)
    print(f"after a pin: every one of {states:,} states")
    assert states > 100


@pytest.mark.parametrize(
    "values", [(2, 3), pytest.param((2, 1, 2), marks=pytest.mark.campaign)], ids=len
)
def test_current_chunks_never_expire(
    values: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever overlaps, the chunks that the snapshot names are complete and have no TTL."""
    monkeypatch.setattr(keys, "INLINE_BYTES", 0)
    monkeypatch.setattr(publisher, "KEPT_VERSIONS", 1)
    monkeypatch.setattr(publisher, "THIN_MS", 10**15)
    expired = []

    def finish(world: World) -> None:
        in_sync(world)
        expired.append(any("expires_at" in record for record in world.records.values()))

    states = explore(lambda: changes(values=values), finish)
    print(f"chunks: every one of {states:,} states")
    assert states > 100
    assert any(expired), "no schedule let anything expire: this test proves nothing"


LAGGING = (
    ("", ""),
    ("state snapshot", ""),
    ("", "state snapshot"),
    ("state", "snapshot"),
    ("snapshot", "state"),
)
"""What a reader's two checks get from a replica that may lag."""


def forgetful(
    records: dict[Any, Any], values: tuple[int, ...], checks: tuple[str, str]
) -> ForgetfulWorld:
    """Return a world of syncs, a reader, and a store that may lose any number of last writes."""
    world = ForgetfulWorld(records, ModelProvider(flags={"a": 1}))
    world.add_reader(checks)
    for number, value in enumerate(values):
        world.add(f"sync{number}", world.change_and_sync(a=value))
    world.add("failover", world.lose_writes)
    if any(checks):
        world.add("replica", world.replicate)
    for number in world.enabled():
        world.go(number)  # to where it first meets the others
    return world


@pytest.mark.parametrize("checks", LAGGING, ids=", then ".join)
@pytest.mark.parametrize(
    "values", [(2,), pytest.param((2, 3), marks=pytest.mark.campaign)], ids=["one", "two"]
)
def test_reader_of_a_store_that_loses_writes(
    values: tuple[int, ...], checks: tuple[str, str]
) -> None:
    """Lost writes and lagging replicas: a reader never goes back within one history."""
    followed = []

    def finish(world: ForgetfulWorld) -> None:
        world.settle()
        followed.append(world.followed)

    records = settled(ModelProvider(flags={"a": 1}))
    states = explore(lambda: forgetful(records, values, checks), finish)
    stale = ", then ".join(check.replace(" ", " and ") or "nothing" for check in checks)
    replica = f"a replica lags in {stale}" if any(checks) else "no replica lags"
    print(f"lost writes, {replica}: every one of {states:,} states")
    assert any(followed), "no schedule made the reader follow: this test proves nothing"
