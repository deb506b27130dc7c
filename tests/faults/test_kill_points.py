"""Kill a sync before and after every call to the store: readers see the old set or the new one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from faults.dynamo import Rig
from faults.redis_rig import RedisRig
from flagstore import layout
from simulators.aws import aws, dynamodb, dynamodb_table
from simulators.clock import FakeClock
from simulators.provider import ModelProvider
from simulators.redis_server import plain_server, redis_server
from simulators.unreliable import Killed, UnreliableClient, kill_at

if TYPE_CHECKING:
    from collections.abc import Callable

    type AnyRig = Rig | RedisRig

__all__ = ["aws", "dynamodb", "dynamodb_table", "plain_server", "redis_server"]

OLD = {f"flag-{n:03}": {"version": 1, "n": n} for n in range(250)}
NEW = {f"flag-{n:03}": {"version": 2, "n": -n} for n in range(40, 250)}
CHANGE = {**dict.fromkeys(OLD), **NEW}
assert (len(OLD), len(NEW)) == (250, 210)


@pytest.fixture(params=["dynamodb", "redis"])
def rig(request: pytest.FixtureRequest) -> AnyRig:
    """Give an empty store and an empty provider."""
    give: Callable[[str], Any] = request.getfixturevalue
    if request.param == "redis":
        rig = RedisRig(give("redis_server"), ModelProvider())
        request.addfinalizer(rig.close)  # noqa: PT021 - the other rig has nothing to close
        return rig
    return Rig(give("aws"), give("dynamodb_table"), ModelProvider(), FakeClock())


def settle(rig: AnyRig, flags: dict[str, Any]) -> None:
    """Bring the store to one set, rows included."""
    rig.provider.flags = {}
    rig.provider.change(**flags)
    while True:
        report = rig.sync()
        if report.outcome == "unchanged" and not report.rows_error:
            return


def rows(rig: AnyRig) -> dict[str, Any]:
    """Return what the rows show."""
    items = rig.items("prod:flags")
    return {item["key"]["S"]: json.loads(item["item"]["S"]) for item in items}


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_reader_sees_the_old_or_the_new_set_at_every_kill_point(
    rig: AnyRig, in_pieces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """250 flags become 210; at every kill point exactly one of both, and the next sync heals."""
    if in_pieces:
        monkeypatch.setattr(layout, "INLINE_BYTES", 0)
        monkeypatch.setattr("flagstore.body.PIECE_BYTES", 1_000)
    settle(rig, OLD)
    undisturbed = UnreliableClient(rig.table.client)
    rig.provider.change(**CHANGE)
    rig.sync(undisturbed)
    calls = undisturbed.calls.total()
    assert calls >= 5
    seen = {"old": 0, "new": 0}
    for number in range(calls):
        for moment in ("before", "after"):
            settle(rig, OLD)
            rig.provider.change(**CHANGE)
            with pytest.raises(Killed):
                rig.sync(UnreliableClient(rig.table.client, kill_at(moment, number)))
            found = rig.read()
            assert found in (OLD, NEW), f"a mix {moment} call {number}"
            seen["new" if found == NEW else "old"] += 1
            report = rig.sync()
            assert report.outcome in {"published", "unchanged"}
            assert rig.read() == NEW
            assert rows(rig) == NEW, f"rows {moment} call {number}"
    assert min(seen.values()) > 0, seen
    print(f"{2 * calls} kill points: {seen['old']} saw the old set, {seen['new']} the new one")
