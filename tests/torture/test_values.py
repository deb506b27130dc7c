"""Any JSON and any layout: readers get what was written, or a clear error."""

from __future__ import annotations

import json
import random
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client, keys
from flagstore.errors import UnsupportedLayoutError
from flagstore.keys import Key
from storesync.store import Condition, Delete, Put

if TYPE_CHECKING:
    from rigs import AnyRig

A_SET = 50
"""Values of one published set."""
NUMBERS = [0, -1, 2**53 + 1, -(2**63), 10**40, 0.1, -0.0, 1e308, 5e-324, 1.0, 1e16]
TEXTS = ["", " ", "\0", "\x7f", '"', "\\", "\n", "é", "e\u0301", "東京", "\U0001f6a9", "\u2028"]
TEXTS += ["\ud800", "null", "__proto__", "$state", "x" * 5_000, "\ufeff", "a/b:c~d{e}"]


def any_json(rng: random.Random, depth: int = 4) -> Any:
    """Return any JSON; sometimes a hundred levels deep, or very long."""
    kind = rng.randrange(10 if depth else 6)
    if kind < 3:
        return rng.choice([None, True, False, rng.choice(NUMBERS), rng.uniform(-1e9, 1e9)])
    if kind < 6:
        return any_string(rng)
    if kind < 7 and rng.random() < 0.05:
        inner: Any = any_string(rng)
        for level in range(100):
            inner = [inner] if level % 2 else {"": inner}
        return inner
    if kind < 8:
        return [any_json(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {any_string(rng): any_json(rng, depth - 1) for _ in range(rng.randrange(5))}


def any_string(rng: random.Random) -> str:
    """Return a string of unusual parts."""
    return "".join(rng.choices(TEXTS, k=rng.choice([1, 1, 2, 3])))


@pytest.mark.parametrize(
    "cases", [100, pytest.param(5_000, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
@pytest.mark.parametrize("in_chunks", [False, True])
def test_any_json_round_trips(
    any_rig: AnyRig, cases: int, in_chunks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte as canonical JSON, in one item or in chunks, including a flag of 1.6 MB."""
    if in_chunks:
        monkeypatch.setattr(keys, "INLINE_BYTES", 0)
    rng = random.Random(15)
    names = sorted({f"{any_string(rng)[:200]}#{n}" for n in range(A_SET)})
    read = 0
    for number in range(-(-cases // A_SET)):
        flags = {key: any_json(rng) for key in names}
        if number % 20 == 0:  # more than a DynamoDB item can hold, even deflated
            flags["large"] = {"rules": [rng.randbytes(40).hex() for _ in range(20_000)]}
        any_rig.replace(flags)
        report = any_rig.sync()
        assert report.outcome == "published"
        assert texts(any_rig.read()) == texts(flags)
        read += len(flags)
    any_rig.sync()
    print(f"{read:,} values, 0 changed")


def texts(flags: dict[str, Any]) -> dict[str, str]:
    """Write each flag as JSON: 1, 1.0, true and -0.0 differ."""
    return {key: json.dumps(flag, sort_keys=True) for key, flag in flags.items()}


def snapshot_record(rig: AnyRig) -> dict[str, Any]:
    """Return the snapshot record's record."""
    found = rig.store().read(keys.snapshot_key("prod"))
    assert found is not None
    return dict(found)


def write(rig: AnyRig, *writes: Put | Delete, **state: Any) -> None:
    """Write as a writer of another version would."""
    opened = rig.store()
    opened.commit("prod", Condition(published=opened.state("prod").published), state, writes)


def moved(rig: AnyRig) -> Put:
    """Return the snapshot's record as one of another layout, which this reader could not decode."""
    return Put(snapshot_record(rig) | {"key": "2", "index_data": b"of another layout"})


def test_fields_of_a_newer_writer_are_ignored(any_rig: AnyRig) -> None:
    """Unknown attributes, and snapshots of other layouts, are ignored and kept."""
    any_rig.settle({"a": 1})
    more = Put(snapshot_record(any_rig) | {"compression": "zstd", "epoch": 7})
    write(any_rig, more, moved(any_rig), layouts="[1, 2]", epoch=7)
    other = any_rig.store().read(Key("prod:$snapshot", "2"))
    assert any_rig.read() == {"a": 1}
    any_rig.replace({"a": 2})
    assert any_rig.sync().outcome == "published"
    assert any_rig.read() == {"a": 2}
    assert any_rig.store().read(Key("prod:$snapshot", "2")) == other


def test_removed_layout_keeps_the_last_good_flags(any_rig: AnyRig) -> None:
    """With only a newer layout, loaded readers keep their flags, and new ones name the remedy."""
    any_rig.settle({"a": 1})
    with closing(any_rig.connect()) as transport:
        clock = any_rig.clock
        made = {"clock": clock.now, "monotonic": clock.monotonic, "replicas": 1}
        loaded = Client("prod", store=any_rig.reader_store(transport), **made)
        assert loaded["a"] == 1
        later = any_rig.store().state("prod").published + 1
        old = keys.snapshot_key("prod")
        write(any_rig, moved(any_rig), Delete(old), published=later, token=later)
        for _ in range(3):
            clock.advance(61)
            assert loaded["a"] == 1
            assert "a layout that this reader does not support" in loaded.info().error
        cold = Client("prod", store=any_rig.reader_store(transport), **made)
        with pytest.raises(UnsupportedLayoutError, match="update the flagstore layer"):
            cold.snapshot()
