"""Warm readers of a store that loses large segments or its history, on both stores."""

from __future__ import annotations

import random
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client, keys
from flagstore.errors import StoreUnavailableError
from rigs import RedisRig
from simulators.split_flags import in_segment, new_flag, rule
from storesync.store import Condition, Delete

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.snapshot import Info
    from rigs import AnyRig

PAUSE_S = 61
"""Past every TTL and cool-down."""


class Warm:
    """A client that checks at each use, on a store whose large segments can be withheld."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.down = False
        self.shift_s = 0.0
        self.client = Client(
            "prod",
            store=self,
            replicas=1,
            clock=lambda: time.time() + self.shift_s,
            monotonic=lambda: time.monotonic() + self.shift_s,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def read(self, key: keys.Key, **named: Any) -> Any:
        """Read a record; chunks fail if the store is down."""
        if self.down and "$body" in key.namespace:
            message = "down"
            raise StoreUnavailableError(message)
        return self.store.read(key, **named)

    def later(self) -> Client:
        """Return the client at a time when it checks the store again."""
        self.shift_s += PAUSE_S
        return self.client

    def flags(self) -> dict[str, Any]:
        """Return the flags after a check."""
        snapshot = self.later().snapshot()
        return {key: snapshot[key] for key in snapshot}


@contextmanager
def warm(rig: AnyRig) -> Iterator[Warm]:
    """Give a warm reader's rig."""
    with closing(rig.connect()) as transport:
        yield Warm(rig.reader_store(transport))


def targeted(provider: str, members: list[str]) -> tuple[str, Any, Any]:
    """Return a segment's key, a flag that is on only for its members, and the segment."""
    if provider == "launchdarkly":
        match = {"attribute": "", "op": "segmentMatch", "values": ["big"]}
        flag = {"key": "f", "version": 1, "on": True, "salt": "s", "variations": [False, True]}
        rules = [{"id": "r", "clauses": [match], "variation": 1}]
        flag |= {"offVariation": 0, "fallthrough": {"variation": 0}, "rules": rules}
        return "big", flag, {"key": "big", "version": len(members), "included": members}
    if provider == "split":
        flag = new_flag("f") | {"conditions": [rule(in_segment("big"), label="in", on=100)]}
        return "big", flag, {"name": "big", "keys": members}
    constraint = {"contextName": "userId", "operator": "IN", "values": members}
    strategy = {"name": "default", "segments": [1]}
    flag = {"name": "f", "type": "release", "enabled": True, "strategies": [strategy]}
    return "1", flag, {"id": 1, "name": "big", "constraints": [constraint]}


CONTEXT_KEY = {"launchdarkly": "key", "split": "key", "unleash": "userId"}


def chunks(rig: AnyRig) -> dict[keys.Key, Any]:
    """Return the records of all large segments' chunks."""
    places = keys.chunks_namespaces("prod")
    found = [record for place in places for record in rig.store().scan(place)]
    return {keys.key_of(record): record for record in found}


@pytest.mark.parametrize("before", [2_000, 50], ids=["large", "small"])
@pytest.mark.parametrize("fault", ["down", "lost", "damaged"])
@pytest.mark.parametrize("provider", list(CONTEXT_KEY))
def test_previous_segment_is_used_until_the_new_one_is_read(
    any_rig: AnyRig, provider: str, fault: str, before: int
) -> None:
    """A member is added, and the new segment cannot be read: earlier members keep the flag."""
    rng = random.Random(4)
    others = [f"{rng.getrandbits(128):032x}" for _ in range(2_000)]
    any_rig.provider.name = provider

    def publish(*members: str) -> str:
        segment, flag, content = targeted(provider, list(members))
        any_rig.provider.flags, any_rig.provider.segments = {"f": flag}, {segment: content}
        any_rig.provider.change()
        assert any_rig.sync(step_s=0).outcome == "published"
        return segment

    def on(member: str) -> bool:
        return reader.client.enabled("f", {CONTEXT_KEY[provider]: member})

    publish("ada", *others[:before])
    with warm(any_rig) as reader:
        assert on("ada")
        old = chunks(any_rig)
        held = reader.client.snapshot()
        segment = publish("ada", "bob", *others)
        new = {key: record for key, record in chunks(any_rig).items() if key not in old}
        reader.down = fault == "down"
        if fault == "lost":
            state = any_rig.store().state("prod")
            condition = Condition(published=state.published, nonce=state.nonce)
            any_rig.store().commit("prod", condition, {}, [Delete(key) for key in new])
        if fault == "damaged":
            any_rig.store().put_all([{**record, "body": b"x"} for record in new.values()])
        for _ in range(3):
            info = reader.later().info()
            assert (on("ada"), on("bob"), info.stale, bool(info.error)) == (True, False, True, True)
            assert info.token == any_rig.store().state("prod").published
            assert reader.client.detail("f").age_s < PAUSE_S  # the store has confirmed the flags
        reader.down = False
        any_rig.store().put_all(list(new.values()))
        before_recovery = reader.client.snapshot()
        info = reader.later().info()
        assert reader.client.snapshot().changed_since(before_recovery) is None
        assert (on("ada"), on("bob"), info.stale, info.error) == (True, True, False, "")
        assert "bob" not in str(held.item("segments", segment))
    print("a changed segment that was down, lost or damaged: 0 flags lost, and info() reported it")


def backup(rig: AnyRig) -> Any:
    """Return all records of the store."""
    if isinstance(rig, RedisRig):
        admin = rig.server.admin
        return {name: admin.dump(name) for name in admin.keys()}  # noqa: SIM118 - a command
    return rig.table.client.scan(TableName=rig.table.name)["Items"]


def restore(rig: AnyRig, kept: Any) -> None:
    """Replace all records of the store."""
    if isinstance(rig, RedisRig):
        rig.server.admin.flushall()
        for name, value in kept.items():
            rig.server.admin.restore(name, 0, value)
        return
    names = ("namespace", "key")
    client, table = rig.table.client, rig.table.name
    for item in client.scan(TableName=table)["Items"]:
        client.delete_item(TableName=table, Key={name: item[name] for name in names})
    for item in kept:
        client.put_item(TableName=table, Item=item)


LOST = {"a failover": 1, "a longer one": 3, "a backup": 5, "emptied, or created again": 6}
"""How many of six publications are lost."""


def published(rig: AnyRig, value: int) -> keys.SourceState:
    """Publish another set, and return the source state."""
    rig.provider.change(a=value)
    assert rig.sync(step_s=0).outcome == "published"
    return rig.store().state("prod")


def same(info: Info, state: keys.SourceState) -> bool:
    """Return whether a reader has the published set, and reports no problem."""
    return (info.token, info.digest, info.stale) == (state.published, state.digest, False)


@pytest.mark.parametrize("behind_s", [0, 3_600], ids=["", "clock behind"])
@pytest.mark.parametrize("early", [False, True], ids=["", "read before the next sync"])
@pytest.mark.parametrize("lost", LOST.values(), ids=list(LOST))
def test_readers_follow_a_store_that_lost_its_history(
    any_rig: AnyRig, lost: int, early: bool, behind_s: int
) -> None:
    """A counter ahead of the clock issues tokens twice: readers still see the new set."""
    with warm(any_rig) as reader:
        kept = [{}]
        for value in range(6):
            published(any_rig, value)  # the clock stands still: the counter gets ahead
            kept.append(backup(any_rig))
        assert reader.client.info().token == any_rig.store().state("prod").published
        restore(any_rig, kept[6 - lost])
        if early:
            assert reader.flags() == {"a": 5 - lost if lost < 6 else 5}
        any_rig.clock.advance(-behind_s)
        for value in range(10, 12 + lost):  # among them each fencing token that readers have seen
            state = published(any_rig, value)
            assert reader.flags() == {"a": value}
            assert same(reader.client.info(), state)
    print(f"{lost} of 6 publications lost: readers had the published set after 1 check")


def test_token_issued_twice_is_another_publication(any_rig: AnyRig) -> None:
    """A reader with this token in memory still loads the other flags."""
    with warm(any_rig) as reader:
        published(any_rig, 1)
        kept = backup(any_rig)
        published(any_rig, 2)
        assert reader.flags() == {"a": 2}
        seen = reader.client.info()
        restore(any_rig, kept)
        state = published(any_rig, 3)
        assert state.published == seen.token
        assert reader.flags() == {"a": 3}
        assert same(reader.client.info(), state)
