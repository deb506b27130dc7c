"""Operations on a source work in every store: roll back, unpin, remove, restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flagstore import keys
from simulators.provider import ModelProvider
from storesync.maintenance import mark_removed, restore_source, roll_back, unpin

if TYPE_CHECKING:
    from rigs import AnyRig

BIG = {f"f{n}": {"key": f"f{n}", "version": 1, "x": "y" * 50} for n in range(150)}


def large(members: int, version: int) -> dict[str, Any]:
    included = [f"user-{number}" for number in range(members)]
    return {"large": {"key": "large", "version": version, "included": included}}


@pytest.fixture
def rig(any_rig: AnyRig, monkeypatch: pytest.MonkeyPatch) -> AnyRig:
    """Give a source of LaunchDarkly's that was published, in chunks."""
    monkeypatch.setattr(keys, "INLINE_BYTES", 0)
    monkeypatch.setattr("flagstore.encode.CHUNK_BYTES", 500)
    any_rig.provider = ModelProvider(dict(BIG), large(5_000, 1), name="launchdarkly")
    assert any_rig.sync().rows_error == ""
    return any_rig


def sync(rig: AnyRig, **flags: Any) -> str:
    rig.provider.change(**flags)
    return rig.sync().outcome


def seen(rig: AnyRig) -> tuple[int, int]:
    """Return how many flags a cold reader gets, and how many members of the segment."""
    with rig.snapshot() as snapshot:
        return len(snapshot), len(snapshot.item("segments", "large")["included"])


def rows(rig: AnyRig) -> set[str]:
    return {str(row["key"]) for row in rig.store().scan("prod:features")}


def test_rollback_and_unpin(rig: AnyRig) -> None:
    """Snapshot, chunks, large segments and rows follow; then the provider's set."""
    first = rig.store().state("prod").published
    rig.provider.segments = large(4_000, 2)
    sync(rig, f0=None)
    assert seen(rig) == (149, 4_000)
    until = int((rig.clock.now() + 3_600) * 1000)
    report = roll_back(rig.source(), rig.store(), rig.clock, to=first, pinned_until=until)
    assert report.rows_error == ""
    assert (report.changes.added, report.changes.changed) == (
        (("flags", "f0"),),
        (("segments", "large"),),
    )
    assert seen(rig) == (150, 5_000)
    assert "f0" in rows(rig)
    assert sync(rig, f1=None) == "pinned"
    assert unpin("prod", rig.store(), rig.clock)
    assert sync(rig) == "published"
    assert seen(rig) == (148, 4_000)
    assert rows(rig) == rig.provider.flags.keys()


@pytest.mark.parametrize("purge", [False, True])
def test_remove_and_restore(rig: AnyRig, purge: bool) -> None:
    """A purge leaves nothing but the source state, not even LaunchDarkly's rows and mark."""
    token = mark_removed(rig.source(), rig.store(), rig.clock, purge=purge)
    if purge:
        names = (
            *keys.row_namespaces("prod"),
            keys.snapshot_key("prod").namespace,
            keys.history_key("prod", 0).namespace,
            *keys.chunks_namespaces("prod"),
            keys.pending_namespace("prod"),
        )
        assert [record for name in names for record in rig.store().scan(name)] == []
    else:
        assert seen(rig) == (150, 5_000)
    assert sync(rig) == "pinned"
    assert restore_source("prod", rig.store())
    assert sync(rig, f0=None) == "published"
    assert rig.store().state("prod").published > token
    assert seen(rig) == (149, 5_000)
