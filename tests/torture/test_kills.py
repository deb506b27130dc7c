"""Kill points of a set of 5,000 flags, whose rows take dozens of commits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from faults.redis_rig import RedisRig
from faults.test_kill_points import rows
from flagstore import keys
from simulators.unreliable import Killed, UnreliableClient, kill_at
from torture.rigs import any_rig, replace, settle, store

if TYPE_CHECKING:
    from torture.rigs import AnyRig

__all__ = ["any_rig"]

FLAGS = 5_000
KILL_POINTS = 200
"""Of each store, at least."""


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
    """In one item and in chunks, at each point, readers see exactly the old set or the new one.

    The next sync mends the rows as well, and what was left behind expires.
    """
    seen: Counter[str] = Counter()
    for inline_bytes in (keys.INLINE_BYTES, 0):
        monkeypatch.setattr(keys, "INLINE_BYTES", inline_bytes)
        found = killed_everywhere(any_rig)
        assert min(found.values()) > 0, found
        seen += found
    assert seen.total() >= KILL_POINTS
    left = orphans(any_rig)
    assert left == []
    print(
        f"{seen.total()} kill points of {FLAGS:,} flags, in one item and in chunks: {seen['old']} "
        f"saw the old set, {seen['new']} the new one, 0 a mix; {len(left)} orphans"
    )


def killed_everywhere(rig: AnyRig) -> Counter[str]:
    """Kill a sync at each point and during its fetch; return what readers saw then."""
    tried = [*points(rig), (-1, "during the fetch")]
    seen: Counter[str] = Counter()
    for version, (number, moment) in enumerate(tried, start=2):
        old, new = content(version), content(version + 1)
        replace(rig, new)
        rig.provider.on_fetch = die if number < 0 else lambda: None
        with pytest.raises(Killed):
            rig.sync(UnreliableClient(rig.table.client, kill_at(moment, number)))
        rig.provider.on_fetch = lambda: None
        read = rig.read()
        assert read in (old, new), f"a mix {moment} call {number}"
        seen["new" if read == new else "old"] += 1
        rig.sync()
        assert rig.read() == new
        # A cut-off change is finished by the next check; what is left shows at the very end.
    rig.sync()
    if isinstance(rig, RedisRig):  # the other one shows one page of rows
        assert rows(rig) == new
    return seen


def die() -> None:
    """End the process."""
    raise Killed


def orphans(rig: AnyRig) -> list[str]:
    """Return the chunks that no kept version names and that stay for ever all the same."""
    opened = store(rig)
    kept = {version.token for version in opened.state("prod").versions()}
    chunks = list(opened.scan(keys.chunks_namespace("prod")))
    assert chunks
    return [
        str(chunk["key"])
        for chunk in chunks
        if "expires_at" not in chunk and int(str(chunk["key"]).partition("/")[0]) not in kept
    ]
