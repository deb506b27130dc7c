"""The vectors: sets of all providers, chunks, replicas, deltas, damage, and stores that go back."""

from __future__ import annotations

import json
import random
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import keys
from flagstore.codec import dumps
from flagstore.encode import DELTAS_BYTES, content_digest
from flagstore.keys import snapshot_key, state_key
from node.vectors import (
    HEAD,
    HEAD_AGAIN,
    STATE,
    STATE_AGAIN,
    Published,
    Vector,
    copies,
    flipped,
    harm,
)
from sdks import sets
from simulators.appconfig_flags import rich_flags
from simulators.provider import SOURCE
from simulators.reader_store import chunks_of
from storesync.maintenance import roll_back
from unit import pipeline_rig
from unit.test_deltas import CHANGES, VALUES
from unit.test_deltas import Rig as DeltasRig
from unit.test_large_segments import members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flagstore.keys import Key, Record

ODD_KEYS = [
    "",
    " ",
    "a",
    "A",
    "__proto__",
    "constructor",
    'quo"te',
    "back\\slash",
    "line\nbreak",
    "\x00\x1f\x7f\x80",
    "é",
    "\u2028",
    "中",
    "\ue000 before",
    "\uffff after",
    "🙂 above",
    "\U0010ffff",
    "\ud83d",
    "{",
    '":',
]
"""In UTF-16, the fourth and third last but some would be in another order."""
NUMBERS = [*VALUES, -0.0, 1e22, 1e-7, 123456789012345678901, 0.1, 5e-324, 1.5e300, -1]


def odd_items() -> dict[str, Any]:
    """Return items whose keys, strings and numbers are written differently by most languages."""
    found: dict[str, Any] = {
        key: {key: [key], "n": number, "a": {}} for number, key in enumerate(ODD_KEYS)
    }
    found |= {f"number-{place:02}": number for place, number in enumerate(NUMBERS)}
    return found


def filler(count: int, size: int = 400) -> dict[str, Any]:
    """Return flags that take several blocks."""
    rng = random.Random(1)
    return {
        f"flag-{number:03}": {"n": number, "x": rng.randbytes(size).hex()}
        for number in range(count)
    }


# -- sets ------------------------------------------------------------------------------------------


def provider_sets() -> Iterator[Vector]:
    """Full sets of all providers, with large segments where the provider has segments."""
    named = {
        "launchdarkly": ("flags", "segments"),
        "split": ("flags", "segments", "rule_based_segments"),
        "unleash": ("flags", "segments"),
    }
    for provider, names in named.items():
        found = dict(zip(names, getattr(sets, provider)(), strict=True))
        if provider == "unleash":
            large = found["segments"]["4"]["constraints"][0]
            large["values"] = [f"user-{number}" for number in range(0, 12_000, 2)]
        yield one_set(provider, found, {"version": 2, "query": {"é": [1.5]}})
    values, definitions = rich_flags(60)
    yield one_set(
        "appconfig", {"flags": values, "definitions": definitions}, {"format": "feature-flags"}
    )
    freeform = {"a": [1, {"b": None}], "text": "ü", "number": 1.0, "list": []}
    yield one_set(
        "appconfig", {"flags": freeform, "definitions": {}}, {"format": "freeform"}, " freeform"
    )


def one_set(
    provider: str, sections: dict[str, Any], meta: dict[str, Any], title: str = ""
) -> Vector:
    rig = Published(provider)
    flags = sections["flags"]
    rig.publish(flags, meta, **{name: items for name, items in sections.items() if name != "flags"})
    vector = rig.vector(f"{provider}{title}")
    vector.expect(sections, meta)
    vector.expect(calls=[STATE])
    return vector


def two_versions() -> tuple[Vector, ...]:
    """A gradual deployment: the set has both versions, and each check of it another progress."""
    rig = Published("appconfig")
    meta = {"format": "feature-flags", "profile": "shop/prod/flags"}
    empty: dict[str, Any] = {"definitions": {}, "new_flags": {}, "deployments": {}}
    flags = {"a": {"enabled": True}, "b": {"enabled": False}}
    vector = rig.vector("gradual deployment")
    rig.publish(flags, meta, **empty)
    vector.expect({"flags": flags, **empty}, meta, calls=[HEAD])
    both: dict[str, Any] = {
        "definitions": {},
        "new_flags": {"b": {"enabled": True}, "c": {"enabled": True, "n": 1.0}},
        "deployments": {
            "7": {"ConfigurationVersion": "3", "PreviousVersion": 2, "RemovedFlags": ["a"]}
        },
    }
    rig.publish(flags, meta, **both)
    harm(rig.records, state_key("prod"), deployment='[7,"DEPLOYING",20.0,40.0,1795000600000]')
    vector.expect({"flags": flags, **both}, meta, calls=[STATE, HEAD])
    harm(rig.records, state_key("prod"), deployment='[7,"DEPLOYING",40.0,40.0,0]')
    vector.expect({"flags": flags, **both}, meta, calls=[STATE])
    cold = rig.vector("gradual deployment, cold")
    cold.expect({"flags": flags, **both}, meta, calls=[HEAD, STATE])
    return vector, cold


def odd_sets() -> Iterator[Vector]:
    """Keys and values that most languages write in another way."""
    items = odd_items()
    rig = Published("launchdarkly")
    rig.publish(items, {"": {"é": 1}}, **{"é\n": items, "__proto__": {"a": 1}})
    vector = rig.vector("odd keys and values")
    vector.expect(
        {"flags": items, "é\n": items, "__proto__": {"a": 1}}, {"": {"é": 1}}, calls=[HEAD]
    )
    yield vector
    rig = Published()
    rig.publish({}, {})
    vector = rig.vector("no flags")
    vector.expect({"flags": {}}, {}, calls=[HEAD])
    yield vector
    # First keys of blocks that UTF-16 has in another order.
    high = {f"{sign}{number:03}": "x" * 99 for sign in "\ue000\uffff🙂" for number in range(300)}
    rig, many = Published(), filler(400, 120) | items | high
    rig.publish(many)
    vector = rig.vector("many blocks")
    vector.expect({"flags": many}, {}, calls=[HEAD])
    yield vector


# -- chunks and replicas ---------------------------------------------------------------------------


def in_chunks(patch: pytest.MonkeyPatch) -> Iterator[Vector]:
    """A body and large segments in chunks, of one and of several replicas."""
    patch.setattr(keys, "INLINE_BYTES", 0)
    patch.setattr("flagstore.encode.CHUNK_BYTES", 400)
    flags, big = filler(40), {"big": members(2_000), "small": ["x"]}
    for replicas in (1, 3):
        rig = Published(replicas=replicas)
        token = rig.publish(flags, segments=big)
        vector = rig.vector(f"chunks, {replicas} replicas")
        body = max(int(key.key[-3:]) for key in chunks_of(rig.records, token))
        assert body > 33  # more than there are namespaces
        vector.expect({"flags": flags, "segments": big}, {})
        flags = {**flags, "flag-001": 2}
        rig.publish(flags, segments=big)
        vector.expect({"flags": flags, "segments": big}, {})
        yield vector
    rig = Published()
    rig.publish(flags)
    gone = chunks_of(rig.records, "")[3]
    vector = rig.vector("chunk that a replica lacks")
    vector.expect({"flags": flags}, {}, lag={gone: {**gone._asdict(), "expires_at": 1}})
    yield vector
    vector = rig.vector("missing chunk")
    del rig.records[gone]
    vector.expect(error="CorruptSnapshotError")
    rig.publish(flags)
    vector.expect({"flags": flags}, {})
    lost = chunks_of(rig.records, rig.publish({"a": 1}))
    del rig.records[lost[0]]
    vector.expect(stale=True)
    yield vector
    for name, edit in (("damaged", lambda data: flipped(data, 7)), ("cut", lambda data: data[:-1])):
        rig = Published()
        rig.publish(flags)
        key = chunks_of(rig.records, "")[1]
        vector = rig.vector(f"{name} chunk")
        good = rig.records[key]["body"]
        harm(rig.records, key, body=edit(good))
        vector.expect(error="CorruptSnapshotError")
        harm(rig.records, key, body=good)
        vector.expect({"flags": flags}, {})
        yield vector


def missing_replica() -> Vector:
    """The writer keeps fewer than the reader thinks."""
    rig = Published()
    rig.publish({"a": 1})
    vector = Vector("missing replica", rig.records, replicas=200)
    vector.expect({"flags": {"a": 1}}, {})
    return vector


def large_segments() -> Iterator[Vector]:
    """Unchanged ones are not read again; one that cannot be read has its earlier version."""
    big, other = members(3_000), members(2_000, 5)
    rig = pipeline_rig.Rig(segments={"big": big, "other": other, "small": ["x"]})
    sync_later(rig)
    vector = Vector("large segments", rig.records)
    first, second = (chunks_of(rig.records, "")[n] for n in (0, 1))
    expect_model(vector, rig, [HEAD, *map(call, sorted((first, second), key=order(rig)))])
    rig.provider.change(a=2)
    sync_later(rig)
    expect_model(vector, rig, [STATE])
    grown = [*big, "a new member"]
    rig.provider.segments = {"big": grown, "other": other}
    sync_later(rig)
    lost = {key: rig.records.pop(key) for key in chunks_of(rig.records, rig.state().published)}
    earlier = {"flags": {"a": 2}, "segments": {"big": grown, "other": other}}
    vector.expect(earlier, {}, stale=True)
    vector.steps[-1]["set"]["texts"]["segments"]["big"] = dumps(big)  # the earlier one stands in
    rig.records.update(lost)
    expect_model(vector, rig, None)
    yield vector
    rig = pipeline_rig.Rig(segments={"big": big, "other": other})
    sync_later(rig)
    key = next(iter(chunks_of(rig.records, "")))
    harm(rig.records, key, body=flipped(rig.records[key]["body"], 99))
    damaged = next(
        name
        for name, segment in rig.client().snapshot().large.items()
        if key.key.startswith(segment.prefix())
    )
    vector = Vector("damaged large segment", rig.records)
    vector.expect(
        {"flags": rig.provider.flags, "segments": rig.provider.segments},
        {},
        missing={damaged: "CorruptSnapshotError"},
    )
    yield vector


def call(key: Key) -> str:
    token, _, number = key.key.split("/")
    return f"chunk {int(token)}/{int(number)}"


def order(rig: pipeline_rig.Rig) -> Callable[[Key], int]:
    """Return the place of a chunk's segment in the index."""
    prefixes = [each.prefix() for each in rig.client().snapshot().large.values()]
    return lambda key: next(n for n, prefix in enumerate(prefixes) if key.key.startswith(prefix))


def sync_later(rig: pipeline_rig.Rig) -> None:
    rig.clock.advance(60)
    rig.provider.revision += 1
    assert rig.sync().outcome == "published"


def expect_model(vector: Vector, rig: pipeline_rig.Rig, calls: list[str] | None) -> None:
    sections = {"flags": rig.provider.flags, "segments": rig.provider.segments}
    vector.expect(sections, {}, calls=calls)


# -- deltas ----------------------------------------------------------------------------------------


def deltas() -> Iterator[Vector]:
    """Chains of changes: one read each; and whatever ends a chain."""
    rig = DeltasRig()
    vector = Vector("deltas", rig.records)
    expect_model(vector, rig, [HEAD])
    rig.change(**{"flag-01": {"on": False}})
    expect_model(vector, rig, [STATE])
    expect_model(vector, rig, [STATE])
    for value in ({"n": 1}, None, {"n": 1}, {"n": 1.0}, {"n": True}):
        rig.change(**{"flag-02": value, "new": value})
    expect_model(vector, rig, [STATE])
    for value in NUMBERS:
        rig.change(number=value)
        expect_model(vector, rig, [STATE])
    for key in ODD_KEYS:
        rig.provider.flags[key] = {"z": 1, key: [key], "a": 1.0}
        rig.change()
        expect_model(vector, rig, [STATE])
    for key in ODD_KEYS:
        rig.change(**{key: None})
    expect_model(vector, rig, None)
    yield vector
    yield missed_changes()
    yield lost_publication()
    for name, change in MORE_CHANGES.items():
        if name == "a lost publication":  # its reader takes part
            continue
        rig = DeltasRig()
        vector = Vector(f"deltas after {name}", rig.records)
        rig.change(**{"flag-01": {"on": False}})
        expect_model(vector, rig, [HEAD])
        rig.change(**{"flag-01": {"on": None}})
        expect_model(vector, rig, [STATE])
        change(rig)
        expect_model(vector, rig, None)
        rig.change(**{"flag-05": {"on": False}})
        expect_model(vector, rig, [STATE])
        yield vector


def lost_publication() -> Vector:
    """The store forgets what the reader holds, and issues the same token again."""
    rig = DeltasRig()
    vector = Vector("deltas after a lost publication", rig.records)
    rig.change(**{"flag-04": 1})
    expect_model(vector, rig, [HEAD])
    before = copies(rig.records)
    rig.change(**{"flag-04": 2})
    expect_model(vector, rig, [STATE])
    rig.records.clear()
    rig.records.update(before)
    rig.change(**{"flag-04": 3})
    expect_model(vector, rig, [STATE, STATE_AGAIN, HEAD_AGAIN])
    return vector


def set_item_and_digest(rig: DeltasRig) -> None:
    """Damage an item, and the digest beside it: the source state has the right one."""
    rig.change(**{"flag-04": {"on": True}})
    links = json.loads(zlib.decompress(rig.state().deltas))
    sections = {"flags": {**rig.provider.flags, "flag-04": 0}, "segments": rig.provider.segments}
    links[-1][5]["flags"]["flag-04"] = 0
    links[-1][2] = content_digest(sections, {})
    rig.update(state_key("prod"), deltas=zlib.compress(dumps(links).encode()))


def return_without_deltas(rig: DeltasRig) -> None:
    """The content is that of the last link, the publication is not."""
    rig.change(**{"flag-04": 1})
    before = rig.state().deltas
    rig.change(**{"flag-04": 2})
    rig.change(**{"flag-04": 1})
    rig.update(state_key("prod"), deltas=before)


MORE_CHANGES: dict[str, Callable[[DeltasRig], None]] = {
    **CHANGES,
    "another item with its digest": set_item_and_digest,
    "a return without deltas": return_without_deltas,
}


def missed_changes() -> Vector:
    """A reader that sees some of the publications; the chain drops the oldest."""
    rig, rng = DeltasRig(), random.Random(3)
    vector = Vector("missed deltas", rig.records)
    expect_model(vector, rig, [HEAD])
    for missed in (1, 2, 3, 9, 1, 20, 2):
        for _ in range(missed):
            key = f"flag-{rng.randrange(35):02}"
            rig.change(**{key: {"n": rng.choice(VALUES), "text": rng.randbytes(200).hex()}})
        expect_model(vector, rig, None)
    return vector


def damaged_deltas() -> Iterator[Vector]:
    """A flipped bit, a cut, and a bomb: the snapshot has the set."""
    edits: dict[str, Callable[[bytes], bytes]] = {
        **{f"bit {n}": lambda data, n=n: flipped(data, n) for n in (0, 1, 2, 9, 30, -1)},
        "cut": lambda data: data[:-9],
        "more": lambda data: data + b"more",
        "bomb": lambda _: zlib.compress(b"[" + b" " * 10_000_000 + b"]", 9),
        "empty list": lambda _: zlib.compress(b"[]"),
        "null": lambda _: zlib.compress(b"null"),
    }
    for name, edit in edits.items():
        rig = DeltasRig()
        vector = Vector(f"damaged deltas: {name}", rig.records)
        expect_model(vector, rig, [HEAD])
        rig.change(**{"flag-01": {"on": False}})
        state = rig.state()
        assert len(state.deltas) < DELTAS_BYTES
        rig.update(state_key("prod"), deltas=edit(state.deltas))
        expect_model(vector, rig, None)
        yield vector


# -- damage ----------------------------------------------------------------------------------------


def damaged_records() -> Iterator[Vector]:
    """A cold reader says why, a warm one keeps what it has; both take the next good set."""
    head = snapshot_key("prod")
    edits: dict[str, Callable[[Record], dict[str, Any]]] = {
        "bit of the index": lambda r: {"index_data": flipped(r["index_data"], 5)},
        "index cut": lambda r: {"index_data": r["index_data"][:-1]},  # type: ignore[index]
        "digest of the index": lambda _: {"index_digest": "0" * 64},
        "first bit of the body": lambda r: {"body": flipped(r["body"], 0)},
        "last bit of the body": lambda r: {"body": flipped(r["body"], -1)},
        "body cut": lambda r: {"body": r["body"][:-1]},  # type: ignore[index]
        "no body": lambda _: {"body": None},
        "another body": lambda _: {"body": b"other"},
        "no index": lambda _: {"index_data": None},
        "no counts": lambda _: {"counts": None},
        "token of another type": lambda _: {"token": "a text"},
        "chunks of another form": lambda _: {"chunks": "[1,"},
        "chunks that are nowhere": lambda _: {"chunks": "[99,1]"},
        "index of another type": lambda _: {"index_data": "text"},
    }
    for name, edit in edits.items():
        for warm in (False, True):
            rig, flags = Published(), filler(40)
            vector = rig.vector(f"damage: {name}, {'warm' if warm else 'cold'}")
            if warm:
                rig.publish({"a": 1})
                vector.expect({"flags": {"a": 1}}, {}, calls=[HEAD])
            rig.publish(flags)
            harm(rig.records, head, **edit(rig.records[head]))
            error = "NotLoadedError"  # or one of its subclasses
            vector.expect(error="" if warm else error, stale=warm)
            rig.publish(flags)
            vector.expect({"flags": flags}, {})
            yield vector


def absent() -> Iterator[Vector]:
    """Nothing is published, or not in this layout, or no more."""
    rig = Published()
    vector = rig.vector("nothing published")
    vector.expect(error="NotPublishedError", calls=[HEAD, HEAD_AGAIN, STATE_AGAIN])
    rig.publish({"a": 1})
    vector.expect({"flags": {"a": 1}}, {}, calls=[HEAD])
    rig.records.clear()
    vector.expect(stale=True, calls=[STATE])
    yield vector
    rig = Published()
    rig.publish({"a": 1})
    del rig.records[snapshot_key("prod")]
    vector = rig.vector("another layout")
    vector.expect(error="UnsupportedLayoutError", calls=[HEAD, HEAD_AGAIN, STATE_AGAIN])
    yield vector


# -- stores that lag or go back --------------------------------------------------------------------


def history() -> Iterator[Vector]:
    """Never an older set after a newer one of the same history."""
    state, head = state_key("prod"), snapshot_key("prod")
    rig = Published()
    rig.publish({"a": "old"})
    before = copies(rig.records)
    rig.publish({"a": "new"})
    vector = rig.vector("lagging state")
    new = {"flags": {"a": "new"}}
    vector.expect(new, {}, calls=[HEAD])
    vector.expect(lag={state: before[state]}, calls=[STATE, STATE_AGAIN])
    yield vector
    rig = Published()
    vector = rig.vector("restored state")
    rig.publish({"a": "old"})
    older = dict(rig.records[state])
    rig.publish({"a": "new"})
    vector.expect(new, {}, calls=[HEAD])
    rig.records[state] = older
    vector.expect(calls=[STATE, STATE_AGAIN, HEAD_AGAIN])
    yield vector
    rig = Published()
    vector = rig.vector("snapshot behind its state")
    rig.publish({"a": "old"})
    vector.expect({"flags": {"a": "old"}}, {}, calls=[HEAD])
    older = dict(rig.records[head])
    rig.publish({"a": "new"})
    vector.expect(new, {}, calls=[STATE, HEAD, HEAD_AGAIN], lag={head: older})
    rig.publish({"a": "newer"})
    harm(rig.records, state, nonce="another")
    vector.expect(stale=True, calls=[STATE, HEAD, HEAD_AGAIN])
    yield vector
    for fewer in (0, 1):
        rig = Published()
        vector = rig.vector(f"lost history, {fewer} tokens back")
        for value in range(3):
            token = rig.publish({"a": value})
        vector.expect({"flags": {"a": 2}}, {}, calls=[HEAD])
        rig.records.clear()
        rig.records[state] = {**state._asdict(), "issued": token - fewer - 1}
        rig.publish({"a": "kept"})
        kept = {"flags": {"a": "kept"}}
        vector.expect(kept, {}, calls=[STATE, STATE_AGAIN, HEAD_AGAIN])
        vector.expect(calls=[STATE])
        yield vector


def rolled_back() -> Vector:
    """An old version under a new token."""
    rig = DeltasRig()
    vector = Vector("rollback", rig.records)
    flags = dict(rig.provider.flags)
    first = rig.state().published
    expect_model(vector, rig, [HEAD])
    rig.change(**{"flag-04": 1})
    expect_model(vector, rig, [STATE])
    roll_back(SOURCE, rig.store(), rig.clock, to=first, pinned_until=0)
    rig.provider.flags = flags
    expect_model(vector, rig, [STATE, HEAD])
    return vector


def all_vectors() -> list[Vector]:
    """Return all vectors; it takes seconds."""
    found = [*provider_sets(), *two_versions(), *odd_sets(), missing_replica(), *large_segments()]
    found += [
        *deltas(),
        *damaged_deltas(),
        *damaged_records(),
        *absent(),
        *history(),
        rolled_back(),
    ]
    with pytest.MonkeyPatch.context() as patch:
        found += in_chunks(patch)
    assert len({vector.name for vector in found}) == len(found)
    return found
