"""Rows under a prefix of the user's choice, in both stores: where they are and who owns them."""

from __future__ import annotations

import json
import random
from contextlib import closing
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from contract.test_redis import IN_URL, LINES, add_user
from rigs import DynamoRig, RedisRig, open_rig
from simulators.provider import ModelProvider
from simulators.unreliable import Killed, UnreliableClient, kill_at
from storesync.errors import OutOfTimeError
from storesync.maintenance import mark_removed, restore_source, roll_back, unpin
from storesync.retry import Deadline, SystemClock
from storesync.stores.redis import RedisStore
from storesync.stores.redis_client import open_redis

if TYPE_CHECKING:
    from simulators.redis_server import Server
    from storesync.model import Report, Source

HOUR_S = 3_601.0
PLACES = [
    ("dynamodb", "launchdarkly", ""),
    ("dynamodb", "launchdarkly", "relay:eu"),
    ("redis", "launchdarkly", "launchdarkly"),
    ("redis", "launchdarkly", "prod"),
    ("redis", "split", ""),
    ("redis", "split", "prod"),
]
FLAGS = {
    "launchdarkly": {
        "features": {"key": "features", "version": 3, "on": True},
        "b": {"key": "b", "version": 4},
    },
    "split": {
        "features": {"name": "features", "trafficTypeName": "user", "sets": ["web"]},
        "b": {"name": "b", "trafficTypeName": "user"},
    },
}
SEGMENTS = {"launchdarkly": {"s": {"key": "s", "version": 7}}, "split": {"s": {"keys": ["x"]}}}


class Place:
    """Rows at a prefix, seen as their SDKs see them."""

    def __init__(self, rig: DynamoRig | RedisRig, layout: str, prefix: str) -> None:
        self.rig, self.layout, self.prefix = rig, layout, prefix

    def start(self, prefix: str | None = None) -> str:
        """Return how the names of rows under a prefix start."""
        prefix = self.prefix if prefix is None else prefix
        if self.layout == "split":
            return f"{prefix}.SPLITIO." if prefix else "SPLITIO."
        return f"{prefix}:" if prefix else ""

    def names(self, prefix: str | None = None) -> set[str]:
        """Return ``<namespace>/<key>`` of all rows under a prefix."""
        start = self.start(prefix)
        if isinstance(self.rig, DynamoRig):
            spaces = [f"{start}{section}" for section in ("features", "segments", "$inited")]
            return {
                f"{item['namespace']['S']}/{item['key']['S']}"
                for item in self.rig.table.client.scan(TableName=self.rig.table.name)["Items"]
                if item["namespace"]["S"] in spaces
            }
        admin = self.rig.server.admin
        if self.layout == "split":
            return {key.decode() for key in admin.keys(f"{start}*")}
        hashes = [f"{start}{section}" for section in ("features", "segments")]
        found = {f"{name}/{field.decode()}" for name in hashes for field in admin.hkeys(name)}
        marker = f"{start}$inited"
        return found | ({f"{marker}/{marker}"} if admin.exists(marker) else set())

    def required(self, prefix: str | None = None) -> set[str]:
        start = self.start(prefix)
        flags, segments = self.rig.provider.flags, self.rig.provider.segments
        if self.layout == "split":
            derived = ["trafficType.user"] * bool(flags) + ["flagSet.web"] * ("features" in flags)
            rows = [*(f"split.{key}" for key in flags), *(f"segment.{key}" for key in segments)]
            return {start + row for row in [*rows, *derived]}
        rows = {f"{start}features/{key}" for key in flags}
        rows |= {f"{start}segments/{key}" for key in segments}
        return rows | {f"{start}$inited/{start}$inited"}

    def write(self, name: str, item: dict[str, Any]) -> None:
        """Write a flag's row as another program would."""
        text, start = json.dumps(item), self.start()
        if isinstance(self.rig, DynamoRig):
            row = {"namespace": {"S": f"{start}features"}, "key": {"S": name}}
            row |= {"version": {"N": "1"}, "item": {"S": text}}
            self.rig.table.client.put_item(TableName=self.rig.table.name, Item=row)
        elif self.layout == "split":
            self.rig.server.admin.set(f"{start}split.{name}", text)
            for till in ("splits.till", "segment.s.till"):
                self.rig.server.admin.set(start + till, "5")
        else:
            self.rig.server.admin.hset(f"{start}features", name, text)

    @property
    def own(self) -> str:
        """The prefix without the option."""
        return "prod" if isinstance(self.rig, DynamoRig) else "{prod}"

    def source(self) -> Source:
        return self.rig.source(rows_prefix=self.prefix)

    def store(self) -> Any:
        return self.rig.store(source=self.source())

    def sync(self, **options: Any) -> Report:
        return self.rig.sync(**{"rows_prefix": self.prefix, **options})

    def purge(self) -> None:
        mark_removed(self.source(), self.store(), self.rig.clock, purge=True)

    def read(self, flag: str) -> Any:
        """Return the flag that a row shows."""
        start = self.start()
        if isinstance(self.rig, DynamoRig):
            key = {"namespace": {"S": f"{start}features"}, "key": {"S": flag}}
            found = self.rig.table.client.get_item(TableName=self.rig.table.name, Key=key)
            return json.loads(found["Item"]["item"]["S"])
        admin: Any = self.rig.server.admin
        if self.layout == "split":
            return json.loads(admin.get(f"{start}split.{flag}"))
        return json.loads(admin.hget(f"{start}features", flag))

    def unknown(self, flag: str, *, listed: bool = False) -> set[str]:
        """Return the row of another program's flag if nothing lists it.

        LaunchDarkly's rows are listed by the store itself, so the hourly check removes them.
        """
        if self.layout == "split":
            return {f"{self.start()}split.{flag}"}
        return {f"{self.start()}features/{flag}"} if listed else set()

    def others(self) -> set[str]:
        """Return keys that only SDKs and a Synchronizer use."""
        return {name for name in self.names() if name.endswith(".till")}


@pytest.fixture(params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> Place:
    store, layout, prefix = request.param
    provider = ModelProvider(dict(FLAGS[layout]), dict(SEGMENTS[layout]), name=layout)
    return Place(open_rig(request, store, provider), layout, prefix)


def test_rows_are_at_the_prefix_only(place: Place) -> None:
    """They follow changes and deletions, and the hourly check repairs them."""
    assert place.sync().rows_error == ""
    assert place.names() == place.required()
    assert place.names(place.own) == set()
    place.rig.provider.change(b=None)
    place.sync()
    assert place.names() == place.required()
    place.write("features", {"key": "features", "version": 3})
    place.write("new", {"key": "new"})
    place.sync(step_s=HOUR_S)
    assert place.names() - place.others() == place.required() | place.unknown("new")
    assert place.read("features") == FLAGS[place.layout]["features"]


def test_rows_of_another_program_are_refused_until_adopted(place: Place) -> None:
    """The snapshot is published meanwhile; the others' keys stay as they are."""
    place.write("theirs", {"key": "theirs"})
    place.write("b", {"key": "b"})
    before = place.names()
    for _ in range(2):
        report = place.sync()
        assert 'set "adopt": true' in report.rows_error
        assert place.names() == before
    assert place.rig.read().keys() == FLAGS[place.layout].keys()
    assert place.sync(adopt=True).rows_error == ""
    assert place.names() - place.others() == place.required()
    assert place.read("b") == FLAGS[place.layout]["b"]
    assert place.sync().rows_error == ""  # they are its own now


def test_refused_rows_survive_a_purge(place: Place) -> None:
    """A source whose rows were refused deletes nothing there."""
    place.write("theirs", {"key": "theirs"})
    before = place.names()
    place.sync()
    place.purge()
    assert place.names() == before


@pytest.mark.parametrize("then", ["new", None])
def test_rows_move_with_the_option(place: Place, then: str | None) -> None:
    """Rows at the former prefix go once those at the next are complete; others' rows stay."""
    place.sync()
    place.write("theirs", {"key": "theirs"})
    place.rig.provider.change(b=None)
    assert place.sync(rows_prefix=then).rows_error == ""
    former = place.names()
    assert former - place.others() == place.unknown("theirs", listed=True)
    moved = place.own if then is None else then
    assert place.names(moved) == place.required(moved)


def test_purge_deletes_only_own_rows(place: Place) -> None:
    """Another program's later rows stay."""
    place.sync()
    place.write("theirs", {"key": "theirs"})
    place.purge()
    assert place.names() - place.others() == place.unknown("theirs", listed=True)


def test_purge_deletes_rows_that_were_turned_off(place: Place) -> None:
    """It also deletes rows of flags that have been deleted since."""
    place.sync()
    place.rig.provider.change(b=None)
    place.sync(rows=False)
    place.purge()
    assert place.names() == set()


def test_removed_source_leaves_its_prefix(place: Place) -> None:
    """Another program may use the prefix: adding the source elsewhere deletes nothing there."""
    place.sync()
    mark_removed(place.source(), place.store(), place.rig.clock)
    assert restore_source("prod", place.rig.store())
    assert place.sync(rows_prefix=None).rows_error == ""
    assert place.names() == place.required()


@pytest.mark.parametrize("purge", [False, True])
def test_rows_of_the_next_source_stay(place: Place, purge: bool) -> None:
    """A source that left a prefix or a name to another source deletes nothing there."""
    place.sync()
    taken = place.source().rows_at
    moved = place.rig.source(other_at=lambda _, rows_at: "live" if rows_at == taken else "")
    if purge:
        mark_removed(moved, place.store(), place.rig.clock, purge=True)
    else:
        assert place.sync(rows_prefix=None, other_at=moved.other_at).rows_error == ""
    assert place.names() == place.required()
    assert taken not in json.loads(place.store().state("prod").rows_at)


@pytest.mark.parametrize(
    "place",
    [PLACES[0], pytest.param(PLACES[1], marks=pytest.mark.campaign), *PLACES[2:]],
    ids="-".join,
    indirect=True,
)
@pytest.mark.parametrize(
    "step", [2, pytest.param(1, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
def test_killed_moves_are_completed(place: Place, step: int) -> None:
    """A sync that is killed at any call loses track of no row.

    It never mistakes its own rows for another program's. The next sync has the same option, or
    another one.
    """
    places = cycle([place.prefix, "second", place.own])
    former, moment, number, killed = None, "before", 0, 0
    while True:
        client = UnreliableClient(place.rig.table.client, kill_at(moment, number))
        prefix = next(places)
        try:
            place.sync(client=client, rows_prefix=prefix)
        except Killed:
            killed += 1
            left, prefix = prefix, "third" if moment == "after" else prefix
            assert place.sync(rows_prefix=prefix).rows_error == ""
            assert prefix == left or place.names(left) == set()
        else:
            break
        assert place.names(prefix) == place.required(prefix)
        assert former is None or place.names(former) == set()
        former = prefix
        moment, number = ("after", number) if moment == "before" else ("before", number + step)
    assert killed >= 20
    print(f"{killed} moves of rows killed")


def test_rollback_writes_the_rows(place: Place) -> None:
    """They show the old version at the prefix, and none at the source's own."""
    place.sync()
    first = place.rig.store().state("prod").published
    place.rig.provider.change(b=None)
    place.sync()
    source, store, clock = place.source(), place.store(), place.rig.clock
    roll_back(source, store, clock, to=first, pinned_until=2**50)
    place.rig.provider.flags = dict(FLAGS[place.layout])
    assert place.names() == place.required()
    assert place.names(place.own) == set()


def test_rollback_to_another_provider(place: Place) -> None:
    """The prefix is for the SDKs of today's: until the pin ends, rows are at the source's own."""
    rig, other = place.rig, "split" if place.layout == "launchdarkly" else "launchdarkly"
    former, theirs = Place(rig, other, place.own), Place(rig, other, place.prefix)
    rig.provider.name = other
    rig.sync()
    first, names = rig.store().state("prod").published, former.names()
    rig.provider.name = place.layout
    rig.provider.change()
    place.sync(adopt=True)
    theirs.write("theirs", {"key": "theirs"})
    kept = theirs.names()
    source = rig.source(rows_prefix=place.prefix, adopt=True)
    report = roll_back(source, place.store(), rig.clock, to=first, pinned_until=2**50)
    assert report.rows_error == ""
    assert (place.names(), former.names()) == (set(), names)
    assert unpin("prod", place.store(), rig.clock)
    assert place.sync(adopt=True).rows_error == ""
    assert (place.names(), former.names()) == (place.required(), set())
    assert theirs.names() == kept


def test_search_for_rows_ends_at_the_deadline(redis_server: Server) -> None:
    """Databases can be of any size, so the search must be bounded."""
    deadline = Deadline(SystemClock(), random.Random(1), -1)
    with open_redis(redis_server.url()) as client:
        found = RedisStore(client, deadline, rows_at="split old").foreign("prod")
        with pytest.raises(OutOfTimeError, match="other programs' rows"):
            next(found)


def test_clusters_refuse_a_prefix(redis_cluster: list[Server]) -> None:
    """The rows' error says so and names an alternative; the snapshot is published."""
    provider = ModelProvider(dict(FLAGS["split"]), name="split")
    with closing(RedisRig(redis_cluster[0], provider)) as rig:
        report = rig.sync(rows_prefix="")
        assert report.outcome == "published"
        assert "a Redis cluster cannot hold rows under a rows_prefix" in report.rows_error
        assert rig.read().keys() == FLAGS["split"].keys()


def test_missing_rights_to_a_prefix(redis_server: Server) -> None:
    """They affect only the rows: the snapshot is published."""
    add_user(redis_server, "storesync", LINES["storesync"])
    provider = ModelProvider(dict(FLAGS["launchdarkly"]), name="launchdarkly")
    with closing(RedisRig(redis_server, provider)) as rig:
        rig.table.client = open_redis(redis_server.url("storesync", IN_URL))
        report = rig.sync(rows_prefix="relay")
        assert (report.outcome, "NOPERM" in report.rows_error) == ("published", True)
        redis_server.admin.execute_command("ACL", "SETUSER", "storesync", "~relay:*")
        assert rig.sync(rows_prefix="relay").rows_error == ""
