"""Kill points of a set of 5,000 flags, whose rows take dozens of commits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from faults.redis_rig import RedisRig
from faults.test_kill_points import rows
from flagstore import layout
from simulators.aws import aws, dynamodb, dynamodb_table
from simulators.redis_server import plain_server, redis_server
from simulators.unreliable import Killed, UnreliableClient, kill_at
from torture.rigs import any_rig, replace, settle

if TYPE_CHECKING:
    from torture.rigs import AnyRig

__all__ = ["any_rig", "aws", "dynamodb", "dynamodb_table", "plain_server", "redis_server"]

FLAGS = 5_000


def content(version: int) -> dict[str, Any]:
    """Return one version of the set; in every other one, ten flags are gone."""
    gone = 10 * (version % 2)
    return {f"flag-{n:04}": {"version": version, "n": n} for n in range(gone, FLAGS)}


def points(rig: AnyRig) -> list[tuple[int, str]]:
    """Return the kill points of a sync that changes every flag."""
    settle(rig, content(1))
    undisturbed = UnreliableClient(rig.table.client)
    replace(rig, content(2))
    rig.sync(undisturbed)
    calls = undisturbed.calls.total()
    return [(number, moment) for number in range(calls) for moment in ("before", "after")]


@pytest.mark.campaign
def test_kill_points_of_five_thousand_flags(
    any_rig: AnyRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each, readers see exactly the old set or the new one; the next sync mends rows as well."""
    monkeypatch.setattr(layout, "INLINE_BYTES", 0)
    tried = points(any_rig)
    seen: Counter[str] = Counter()
    version = 2
    for number, moment in tried:
        old, new = content(version), content(version + 1)
        version += 1
        replace(any_rig, new)
        with pytest.raises(Killed):
            any_rig.sync(UnreliableClient(any_rig.table.client, kill_at(moment, number)))
        read = any_rig.read()
        assert read in (old, new), f"a mix {moment} call {number}"
        seen["new" if read == new else "old"] += 1
        any_rig.sync()
        assert any_rig.read() == new
        # A cut-off change is finished by the next check; what is left shows at the very end.
    any_rig.sync()
    if isinstance(any_rig, RedisRig):  # the other one shows one page of rows
        assert rows(any_rig) == content(version)
    assert min(seen.values()) > 0, seen
    print(f"{len(tried)} kill points of {FLAGS:,} flags: {dict(seen)}, 0 mixes")
