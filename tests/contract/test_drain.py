"""What Split's SDKs queue in Redis reaches Split at least once, in the Synchronizer's requests."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from functools import partial
from itertools import batched, product
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from contract.test_redis import IN_URL, LINES, PAGE, add_user, dump
from rigs import SOURCE, RedisRig
from simulators import faults
from simulators.clock import FakeClock
from simulators.split import SplitSimulator
from simulators.unreliable import Killed, UnreliableClient, kill_at
from storesync import drain
from storesync.drain import Drain
from storesync.errors import OutOfTimeError, StoreError
from storesync.http import HttpClient
from storesync.providers.split_queues import HOUR_MS, QUEUES, TELEMETRY
from storesync.retry import Deadline, SystemClock
from storesync.stores import redis_queues
from storesync.stores.redis_client import open_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulators.redis_server import Server
    from storesync.responses import HttpResponse

NOW = 500_000 * HOUR_MS
NODE, PYTHON = ({"s": f"{name}-1", "n": f"host-{name}", "i": "10.0.0.1"} for name in ("node", "py"))
LEASE = f"flagstore:{{{SOURCE}}}:$drain:lease"
EXTRA = re.findall(r"\+\w+", re.findall(r"needs\n?((?:\s`\+\w+`){2,})", PAGE.read_text())[0])
"""The rights that the page names for draining."""


@pytest.fixture
def rig(redis_server: Server) -> Iterator[RedisRig]:
    with SplitSimulator() as server, closing(RedisRig(redis_server, server, name="split")) as rig:
        yield rig


def impression(key: str, flag: str = "a", at: int = 0, sdk: Any = NODE, **more: Any) -> bytes:
    content = {"k": key, "b": None, "f": flag, "t": "on", "r": "rule", "c": 7, "m": NOW + at}
    return json.dumps({"m": sdk, "i": content | more}).encode()


def event(key: str, sdk: Any = NODE) -> bytes:
    content = {"key": key, "trafficTypeName": "user", "eventTypeId": "paid", "value": 1.5}
    return json.dumps({"m": sdk, "e": {**content, "timestamp": NOW, "properties": {}}}).encode()


def queue(name: str) -> str:
    return f"{{{SOURCE}}}.SPLITIO.{name}"


def fill(rig: RedisRig, name: str, *entries: bytes) -> None:
    rig.server.admin.rpush(queue(name), *entries)


def run(
    rig: RedisRig,
    client: Any = None,
    *,
    http: HttpClient | None = None,
    clock: Any = None,
    seconds: float = 30,
    **options: Any,
) -> Drain:
    deadline = Deadline(clock or SystemClock(), random.Random(1), seconds)
    source = rig.source(drain=True, **options)
    store = rig.store(deadline, client, source)
    found = Drain(source, store.queues(SOURCE, QUEUES), http or HttpClient(), deadline)
    found.open = found.run()  # type: ignore[attr-defined]
    return found


def posted(rig: RedisRig) -> Counter[str]:
    """Return how often each key's impression, event or unique key came, and each count."""
    found: Counter[str] = Counter()
    for body, _ in rig.provider.posts("/testImpressions/bulk"):
        found.update(f"i {each['f']} {i['k']}" for each in body for i in each["i"])
    for body, _ in rig.provider.posts("/events/bulk"):
        found.update(f"e {each['key']}" for each in body)
    for body, _ in rig.provider.posts("/v1/keys/ss"):
        found.update(f"u {each['f']} {key}" for each in body["keys"] for key in each["ks"])
    for body, _ in rig.provider.posts("/testImpressions/count"):
        for each in body["pf"]:
            found[f"c {each['f']} {each['m']}"] += each["rc"]
    return found


def left(rig: RedisRig) -> list[str]:
    """Return the queues that are not empty, and the keys that runs left behind."""
    keys = (key.decode() for key in rig.server.admin.keys("*"))
    return sorted(key for key in keys if "$drain" in key or key.endswith(tuple(QUEUES)))


def test_posts_are_the_synchronizers(rig: RedisRig) -> None:
    """They are grouped by SDK and flag, deduplicated by hour, with its headers; counts follow."""
    same = impression("ada", at=5)
    odd = impression("odd", sdk={"s": "x\r\nEvil: 1", "n": "NA", "i": 7}, properties='{"p":1}')
    fill(rig, "impressions", impression("ada"), same, impression("ada", at=HOUR_MS + 1), odd, odd)
    fill(rig, "impressions", impression("bob", sdk=PYTHON, b="bucket"), impression("ada", "b"))
    fill(rig, "impressions", b"[]", b'{"i":{"k":"\xff"}}', impression("x", c=float("nan")))
    fill(rig, "impressions", *[impression("x", "\ud800")] * 2)
    fill(rig, "events", event("ada"), event("bob", PYTHON), b"{}", b'{"e":{"value":1e999}}')
    fill(
        rig, "uniquekeys", b'{"f":"a","ks":["x","y"]}', b'[{"f":"a","ks":["y"]},{"f":"b","ks":[]}]'
    )
    rig.server.admin.hset(queue("impressions.count"), f"a::b::{NOW}", 3)
    done = run(rig)
    assert (done.error, done.posted.total(), done.dropped) == (
        None,
        7 + 2 + 2 + 3,
        {"impressions": 5, "events": 2},
    )
    bulk = {
        headers["splitsdkversion"]: (b, headers)
        for b, headers in rig.provider.posts("/testImpressions/bulk")
    }
    first = {"k": "ada", "t": "on", "m": NOW, "c": 7, "r": "rule"}
    body, headers = bulk["node-1"]
    later = {**first, "m": NOW + HOUR_MS + 1, "pt": NOW + 5}
    assert body == [{"f": "a", "i": [first, later]}, {"f": "b", "i": [first]}]
    assert headers["splitsdkimpressionsmode"] == "OPTIMIZED"
    assert headers["authorization"] == f"Bearer {rig.provider.sdk_key}"
    assert (headers["splitsdkmachinename"], headers["splitsdkmachineip"]) == (
        "host-node",
        "10.0.0.1",
    )
    assert bulk["py-1"][0] == [{"f": "a", "i": [{**first, "k": "bob", "b": "bucket"}]}]
    ((body, headers),) = [bulk[each] for each in bulk if each.startswith("flagstore-")]
    assert [each["properties"] for each in body[0]["i"]] == ['{"p":1}'] * 2
    assert {"splitsdkmachinename", "splitsdkmachineip", "evil"} & headers.keys() == set()
    events = rig.provider.posts("/events/bulk")
    assert sorted(each["key"] for body, _ in events for each in body) == ["ada", "bob"]
    ((uniques, _),) = rig.provider.posts("/v1/keys/ss")
    assert uniques == {"keys": [{"f": "a", "ks": ["x", "y"]}, {"f": "b", "ks": []}]}
    ((counts, _),) = rig.provider.posts("/testImpressions/count")
    hours = [{"f": "a", "m": NOW, "rc": 1}, {"f": "a", "m": NOW + HOUR_MS, "rc": 1}]
    assert sorted(counts["pf"], key=str) == [*hours, {"f": "a::b", "m": NOW, "rc": 3}]
    assert left(rig) == []


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 429, 500, 302, 0])
def test_only_final_refusals_are_dropped(rig: RedisRig, code: int) -> None:
    """Everything else stays until Split accepts it; other queues are posted meanwhile."""
    entries = [impression(str(number)) for number in range(3)]
    fill(rig, "impressions", *entries, impression("0", at=1))
    fill(rig, "events", event("ada"))
    rig.provider.faults.append(faults.status(code) if code else faults.reset())
    done = run(rig)
    assert done.posted == {"events": 1}
    final = code in {400, 413}
    assert (done.dropped, done.error is None) == ({"impressions": 4} if final else {}, final)
    assert run(rig).error is None
    found = posted(rig)
    assert found["c a " + str(NOW)] == (0 if final else 1)
    assert left(rig) == []
    if not final:
        assert all(found[f"i a {number}"] >= 1 for number in range(3))


def test_drops_no_group_for_another(rig: RedisRig) -> None:
    """If Split takes one SDK's impressions and not another's, only the latter are repeated."""
    fill(rig, "impressions", *(impression(str(n), sdk=(NODE, PYTHON)[n % 2]) for n in range(10)))
    rig.provider.faults.append(faults.status(503))
    run(rig)
    done = run(rig)
    assert (done.posted, done.error) == ({"impressions": 5}, None)
    assert sorted(posted(rig).values()) == [1] * 5 + [2] * 5


@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_points(rig: RedisRig, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever call a run dies at, nothing is lost and at most one batch is repeated."""
    monkeypatch.setattr(redis_queues, "BATCH_ENTRIES", 10)
    names = [str(number) for number in range(15)]
    hashed = {f"f{number}::{NOW}": number + 1 for number in range(12)}
    expected = Counter({f"c f{number} {NOW}": number + 1 for number in range(12)})
    expected.update([f"{kind} {name}" for kind, name in product(("i a", "u a", "e"), names)])

    def prepare() -> None:
        rig.provider.requests.clear()
        fill(rig, "impressions", *map(impression, names))
        fill(rig, "events", *map(event, names))
        fill(rig, "uniquekeys", *(json.dumps({"f": "a", "ks": [n]}).encode() for n in names))
        rig.server.admin.hset(queue("impressions.count"), mapping=hashed)

    prepare()
    run(rig)  # now Redis knows the scripts
    prepare()
    undisturbed = UnreliableClient(rig.table.client)
    run(rig, undisturbed)
    assert posted(rig) == expected
    calls = undisturbed.calls.total()
    assert calls > 20
    repeated = 0
    for number in range(calls):
        prepare()
        with pytest.raises(Killed):
            run(rig, UnreliableClient(rig.table.client, kill_at(moment, number)))
        rig.server.admin.delete(LEASE)  # it expires
        assert run(rig).error is None
        found = posted(rig)
        assert found.keys() == expected.keys()
        again = [name for name, times in found.items() if times > expected[name]]
        assert len(again) <= 10
        assert all(found[name] == 2 * expected[name] for name in again)
        assert left(rig) == []
        repeated += len(again)
    assert (repeated > 0) == (moment == "before")
    print(f"{calls} kill points {moment} a call: 0 lost, {repeated / calls:.1f} repeated")


def test_queues_are_bounded(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Split refuses, each run drops the oldest beyond the limit, by number and by bytes."""
    monkeypatch.setattr(redis_queues, "MAX_ENTRIES", 50)
    monkeypatch.setattr(redis_queues, "MAX_BYTES", 3_000)
    monkeypatch.setattr(redis_queues, "BATCH_ENTRIES", 10)
    fill(rig, "impressions", *(impression(f"key-{n:03}") for n in range(100)))
    size = len(impression("key-000"))
    fill(rig, "uniquekeys", *[b'{"f":"a","ks":["x"]}'] * 60)
    rig.server.admin.hset(queue("impressions.count"), mapping={f"{n}::0": 1 for n in range(51)})
    for kind in ("init", "latencies"):
        rig.server.admin.hset(queue(f"telemetry.{kind}"), "sdk/host/ip", 1)
    rig.server.admin.expire(queue("telemetry.latencies"), 60)
    rig.provider.faults.extend([faults.status(503)] * 9)
    done = run(rig)
    kept = 3_000 // size
    assert done.dropped == {"impressions": 100 - kept, "uniquekeys": 10, "impressions.count": 51}
    assert rig.server.admin.llen(queue("impressions")) == kept
    names: Any = [key.decode() for key in rig.server.admin.keys("*")]
    ttls = {name.partition(".SPLITIO.")[2]: rig.server.admin.ttl(name) for name in names}
    assert {name: round(ttl, -2) for name, ttl in ttls.items()} == {
        "impressions": 86_400,
        "uniquekeys": 86_400,
        "telemetry.init": 3_600,
        "telemetry.latencies": 100,
    }
    rig.provider.faults.clear()
    run(rig)
    assert {name for name in posted(rig) if name[0] == "i"} == {
        f"i a key-{n:03}" for n in range(100 - kept, 100)
    }


def test_batches_are_bounded_by_bytes(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that is larger than a batch goes alone."""
    monkeypatch.setattr(redis_queues, "BATCH_BYTES", 1_000)
    sizes = [10, 10, 2_000, 10, 900, 10]
    fill(rig, "events", *(event("x" * size) for size in sizes))
    assert run(rig).posted == {"events": 6}
    keys = [[len(e["key"]) for e in body] for body, _ in rig.provider.posts("/events/bulk")]
    assert keys == [[10, 10], [2_000], [10], [900], [10]]


def test_unique_keys_are_posted_by_thousands(rig: RedisRig) -> None:
    """At most 5,000 in a request, unless one entry has more."""
    sizes = [3_000, 2_000, 1, 6_000, 5]
    for number, size in enumerate(sizes):
        keys = [f"{number}-{each}" for each in range(size)]
        fill(rig, "uniquekeys", json.dumps({"f": "a", "ks": keys}).encode())
    run(rig)
    bodies = [body["keys"] for body, _ in rig.provider.posts("/v1/keys/ss")]
    assert sorted(len(flag["ks"]) for (flag,) in bodies) == [1, 5, 5_000, 6_000]


def test_full_memory_is_drained(rig: RedisRig) -> None:
    """Draining works when Redis is full, which is when it is needed most."""
    fill(rig, "impressions", *(impression(str(n)) for n in range(1_000)))
    rig.server.admin.hset(queue("impressions.count"), f"a::{NOW}", 3)
    rig.server.admin.config_set("maxmemory", 1)
    assert run(rig).posted == {"impressions": 1_000, "impressions.count": 1}
    rig.server.admin.config_set("maxmemory", 0)
    assert left(rig) == []


@pytest.mark.parametrize("marker", ["hash", "splits.till"])
def test_never_beside_a_synchronizer(rig: RedisRig, marker: str) -> None:
    """Its keys are reported, and nothing is taken or changed."""
    fill(rig, "impressions", impression("ada"))
    rig.server.admin.set(queue(marker), 1)
    before = dump(rig.server)
    with pytest.raises(StoreError, match=rf"\.{marker} exists: a Synchronizer .*delete that key"):
        run(rig)
    assert dump(rig.server) == before
    assert posted(rig) == {}


def test_prefix_of_the_rows(rig: RedisRig) -> None:
    """The queues are where the SDKs' own prefix puts them, which may be none."""
    rig.server.admin.rpush("SPLITIO.impressions", impression("ada"))
    assert run(rig, rows_prefix="").posted == {"impressions": 1}


def test_cluster(redis_cluster: list[Server]) -> None:
    """All keys are in one slot, whichever node has it."""
    with (
        SplitSimulator() as server,
        closing(RedisRig(redis_cluster[0], server, name="split")) as rig,
    ):
        for node in redis_cluster:
            with suppress(ResponseError):  # MOVED
                node.admin.rpush(queue("impressions"), impression("ada"), impression("ada"))
        done = run(rig)
        assert (done.error, done.posted) == (None, {"impressions": 2, "impressions.count": 1})
    assert [node.admin.keys("*") for node in redis_cluster] == [[], [], []]


@pytest.mark.parametrize("missing", ["", *EXTRA])
def test_documented_rights(rig: RedisRig, missing: str) -> None:
    """They suffice; if one is missing, no entry is moved."""
    rules = [rule for rule in [*LINES["storesync"], *EXTRA] if rule != missing]
    add_user(rig.server, "storesync", rules)
    entries = [impression("ada"), impression("ada")]
    fill(rig, "impressions", *entries)
    rig.server.admin.hset(queue("impressions.count"), f"a::{NOW}", 3)
    with open_redis(rig.server.url("storesync", IN_URL)) as client:
        if not missing:
            assert run(rig, client).posted == {"impressions": 2, "impressions.count": 1}
            return
        with pytest.raises(StoreError, match=rf"NOPERM .*(?i:{missing[1:]})"):
            run(rig, client)
    rest: Any = rig.server.admin.lrange(queue("impressions"), 0, -1)
    assert (rest, posted(rig)) == (entries, {})


def test_steps_can_be_repeated(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may be sent again after a lost response; without the lease, calls do nothing."""
    monkeypatch.setattr(redis_queues, "BATCH_ENTRIES", 2)
    fill(rig, "impressions", *(impression(str(number)) for number in range(5)))
    queues = rig.store().queues(SOURCE, QUEUES)  # type: ignore[union-attr]
    nothing = dict.fromkeys(QUEUES, 0)
    assert [queues.open(9, ("hash", "splits.till"), TELEMETRY) for _ in "12"] == [nothing] * 2
    first, again = (queues.take("impressions") for _ in "12")
    assert (len(first), again) == (2, first)
    assert rig.server.admin.ttl(LEASE.replace("lease", "impressions")) == redis_queues.KEEP_S
    for _ in "12":
        queues.finish("impressions", first[1:], {f"a::{NOW}": 2})
    assert rig.server.admin.lrange(queue("impressions"), 3, 9) == first[1:]
    assert rig.server.admin.hgetall(queue("impressions.count")) == {f"a::{NOW}".encode(): b"2"}
    queues.take("impressions")
    rig.server.admin.set(LEASE, "another")
    before = dump(rig.server)
    for step in (partial(queues.take, "events"), partial(queues.finish, "impressions", [], {})):
        with pytest.raises(StoreError, match="lease expired"):
            step()
    queues.close()
    assert dump(rig.server) == before


def test_queues_take_turns(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If time runs short, each queue has had a turn; without enough time, nothing starts."""
    monkeypatch.setattr(redis_queues, "BATCH_ENTRIES", 1)
    clock = FakeClock()

    class Slow(HttpClient):
        def post(self, *given: Any, **more: Any) -> HttpResponse:
            clock.advance(2.5)
            return super().post(*given, **more)

    fill(rig, "impressions", impression("ada"), impression("bob"))
    fill(rig, "events", event("ada"), event("bob"))
    fill(rig, "uniquekeys", *[b'{"f":"a","ks":["ada"]}'] * 2)
    assert run(rig, http=Slow(), clock=clock).posted == dict.fromkeys(QUEUES[:3], 1)
    before = dump(rig.server)
    with pytest.raises(OutOfTimeError):
        run(rig, clock=clock, seconds=2)
    assert dump(rig.server) == before


def test_one_run_at_a_time(rig: RedisRig) -> None:
    """A second run leaves everything to the first until that ends or its lease expires."""
    fill(rig, "impressions", impression("ada"))
    rig.server.admin.set(LEASE, "another", px=200)
    assert (run(rig).open, posted(rig)) == (False, {})
    time.sleep(0.25)
    assert (run(rig).open, len(posted(rig))) == (True, 1)


def four_drains(
    rig: RedisRig, write: Callable[[], object], kills: int, patch: pytest.MonkeyPatch
) -> int:
    """Drain four times at once until all is written and posted; return the number of kills.

    A killed run leaves its lease behind; kills are among the first batch's steps.
    """
    patch.setattr(redis_queues, "LEASE_MARGIN_S", 0.1)
    patch.setattr(drain, "RUN_S", 0.6)
    patch.setattr(drain, "LEAST_S", 0.05)
    patch.setattr(drain, "BATCHES", 3)
    rng, killed, written = random.Random(5), list[Any](), threading.Event()

    def writes() -> None:
        try:
            write()
        finally:
            written.set()  # otherwise, the other threads never end

    def drains() -> None:
        while not written.is_set() or left(rig):
            point = (rng.choice(("before", "after")), rng.randrange(2, 4))
            with closing(open_redis(rig.server.url())) as client:
                try:
                    doomed = len(killed) < kills
                    run(rig, UnreliableClient(client, kill_at(*point)) if doomed else client)
                except Killed:
                    killed.append(point)
            time.sleep(0.01)

    threads = [threading.Thread(target=each) for each in (writes, *[drains] * 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(killed) >= kills
    assert left(rig) == []
    return len(killed)


def test_four_drains_with_kills(rig: RedisRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While SDKs write: nothing is lost, and each kill repeats at most one batch."""
    monkeypatch.setattr(redis_queues, "BATCH_ENTRIES", 200)

    def write() -> None:
        for some in batched(range(2_000), 50, strict=False):
            fill(rig, "impressions", *(impression(f"key-{n}") for n in some))
            for _ in some:
                rig.server.admin.hincrby(queue("impressions.count"), f"a::{NOW}", 1)

    kills = four_drains(rig, write, 3, monkeypatch)
    found = posted(rig)
    assert found.pop(f"c a {NOW}") >= 2_000
    assert found.keys() == {f"i a key-{n}" for n in range(2_000)}
    assert found.total() - 2_000 <= 200 * kills
