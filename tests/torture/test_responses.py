"""Randomly damaged provider responses are refused, or stored whole: read back and evaluated."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest

from bench.world import MAKERS
from flagstore import Client
from flagstore.evaluation.base import EXCEPTION, MALFORMED_FLAG
from flagstore.keys import state_key
from simulators.appconfig import AppConfigSimulator, Strategy
from simulators.appconfig_flags import document
from simulators.appconfig_flags import rich_flags as appconfig_flags
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.reader_store import RecordsReader
from simulators.server import Request
from storesync import providers
from storesync.errors import StoreSyncError
from storesync.http import HttpLimits
from storesync.model import Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.responses import HttpResponse
from storesync.retry import Deadline, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SIMULATORS: dict[str, Callable[[int], Any]] = {
    "appconfig": lambda flags: AppConfigSimulator(*appconfig_flags(flags)),
    **{name: lambda flags, name=name: MAKERS[name][0](*MAKERS[name][1](flags)) for name in MAKERS},
}
UNLEASH_OPERATORS = (
    *("IN", "NOT_IN", "STR_STARTS_WITH", "STR_ENDS_WITH", "STR_CONTAINS", "REGEX", "IN_CIDR"),
    *("NUM_EQ", "NUM_GT", "NUM_GTE", "NUM_LT", "NUM_LTE", "DATE_AFTER", "DATE_BEFORE"),
    *("SEMVER_EQ", "SEMVER_GT", "SEMVER_GTE", "SEMVER_LT", "SEMVER_LTE"),
)
SHARES = {"": 0.0, "launchdarkly": 0.9, "unleash": 0.9, "split": 0.15, "appconfig": 0.6}
"""How many responses are damaged: Split's set takes many requests, AppConfig's two to four."""
ODD: list[Any] = [None, True, False, 0, -1, 1.5, 1e308, 10**30, "", "x", "\ud800", [], {}, [[]]]
ODD += [{"": None}, ["a", 1, None], 2**53 + 1, -0.0, "a" * 300]


class MutatingHttp:
    """Sends requests to a simulator in this process, and damages one of its responses."""

    def __init__(self, server: Any, rng: random.Random, provider: str = "") -> None:
        self.limits = HttpLimits()
        self._server, self._rng, self._provider = server, rng, provider

    def within(self, _total_s: float) -> MutatingHttp:
        """Keep the limits."""
        return self

    def get(self, url: str, headers: Mapping[str, str], **_: Any) -> HttpResponse:
        """Return the response at once."""
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        # Without its ETag, since a 304 has nothing to damage.
        sent = {name.lower(): text for name, text in headers.items() if name != "If-None-Match"}
        status, body, answered = self._server.response(Request("GET", path, sent))
        lower = {name.lower(): value for name, value in answered.items()}
        if self._rng.random() < SHARES[self._provider]:
            body = mutate(body, self._rng)
        return HttpResponse(status, lower, body)


def mutate(body: bytes, rng: random.Random) -> bytes:
    """Damage bytes, or values of the JSON document."""
    if rng.random() < 0.4:
        at, end = sorted(rng.randrange(len(body) + 1) for _ in range(2))
        token = rng.choice([b"{", b"}", b"]", b",", b'"', b"NaN", b"1e999"])
        return rng.choice(
            [
                body[:at],
                body[at:],
                body[:at] + body[end:],
                body[:end] + body[at:],
                body[:at] + rng.randbytes(rng.randrange(1, 4)) + body[at:],
                body[:at] + rng.randbytes(1) + body[at + 1 :],
                body[:at] + token + body[at:],
            ]
        )
    document = json.loads(body)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if places := list(walk(document)):
            mutate_value(places, rng)
        else:
            document = rng.choice(ODD)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def mutate_value(places: list[tuple[Any, Any]], rng: random.Random) -> None:
    """Replace, remove, rename or double one value somewhere in a document."""
    parent, key = rng.choice(places)
    what = rng.randrange(5)
    if what == 0:
        del parent[key]
    elif what == 1 and isinstance(parent, dict):
        parent[rng.choice(["", "key", "x" * 70, "\ud800", str(key) + " "])] = parent.pop(key)
    elif what == 2:
        other, name = rng.choice(places)
        parent[key] = copy.deepcopy(other[name])
    elif what == 3 and isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
    else:
        parent[key] = copy.deepcopy(rng.choice(ODD))


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key of every value in a document."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from walk(inner)


def reader(records: dict[Any, Any]) -> Client:
    """Return a new reader of these records."""
    return Client("prod", store=RecordsReader(records), replicas=1, rollout_by="key")


def new_operators(records: dict[Any, Any]) -> bool:
    """Return whether constraints of Unleash have operators that its engine does not know."""
    snapshot = reader(records).snapshot()
    items = [
        snapshot.item(name, key) for name in ("flags", "segments") for key in snapshot.keys(name)
    ]
    found = [parent[key] for parent, key in walk(items) if key == "operator"]
    return any(operator not in UNLEASH_OPERATORS for operator in found)


class Fuzz:
    """One provider's simulator, and a store that starts with its good set."""

    def __init__(self, provider: str, seed: int, flags: int = 12) -> None:
        self.rng = random.Random(seed)
        self.server = SIMULATORS[provider](flags)
        self.server.checks_signatures = False  # AppConfig's: no request is damaged here
        self.source = Source(
            "prod",
            provider,
            "http://127.0.0.1:9",
            Secret(self.server.sdk_key),
            getattr(self.server, "options", {}),
            allow_http=True,
        )
        self.clock = FakeClock()
        self.good: dict[Any, Any] = {}
        good = MutatingHttp(self.server, random.Random(0))
        assert self.run(good, self.good) == "published"
        if provider == "appconfig":  # its ETag is flagstore's: no document is fetched
            self.good[state_key("prod")] = {**self.good[state_key("prod")], "etag": ""}
        self.usable = self.evaluate(self.good)
        self.outcomes: Counter[str] = Counter()

    def run(self, http: Any, records: dict[Any, Any]) -> str:
        """Run one sync."""
        deadline = Deadline(self.clock, random.Random(1), 60)
        sync = Sync(
            self.source,
            providers.get(self.source.provider),
            MemoryStore(records),
            http=http,
            deadline=deadline,
            limits=Limits(faults=1),
        )
        return sync.run([SyncRequest("prod", trigger="schedule")]).outcome

    def once(self) -> None:
        """Fetch one damaged response, and check the stored result."""
        records = dict(self.good)
        try:
            outcome = self.run(MutatingHttp(self.server, self.rng, self.source.provider), records)
        except StoreSyncError as error:
            outcome = type(error).__name__
            state = state_key("prod")
            assert records | {state: 0} == self.good | {state: 0}
        self.outcomes[outcome] += 1
        if outcome == "published":
            kept = self.usable & set(reader(records).keys())
            usable = self.evaluate(records)
            assert kept <= usable or new_operators(records), kept - usable

    def evaluate(self, records: dict[Any, Any]) -> set[str]:
        """Evaluate all flags as a function would; return those that are not malformed."""
        client = reader(records)
        found = set()
        for key in list(client.keys()):
            json.dumps(client[key])
            for name in ("ada", "bob", "eve"):  # one of them has the new version of a deployment
                detail = client.detail(key, {"key": name, "userId": name}, default="the default")
                assert isinstance(detail.reason, str)
                found |= set() if detail.error in {MALFORMED_FLAG, EXCEPTION} else {key}
        return found


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give AppConfig's requests the role of the function."""
    for name, value in AppConfigSimulator().environ.items():
        monkeypatch.setenv(name, value)
    session = boto3.Session()  # making one takes longer than all that is tested
    monkeypatch.setattr(boto3, "Session", lambda: session)


@pytest.mark.parametrize(
    "count", [300, pytest.param(50_000, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
@pytest.mark.parametrize("provider", SIMULATORS)
@pytest.mark.usefixtures("role")
def test_damaged_responses(provider: str, count: int) -> None:
    """They are published whole and evaluated without an exception, or refused with an error."""
    work(Fuzz(provider, seed=14), provider, count)


@pytest.mark.parametrize(
    "count", [300, pytest.param(50_000, marks=pytest.mark.campaign)], ids=["dose", "all"]
)
@pytest.mark.usefixtures("role")
def test_damaged_responses_during_a_deployment(count: int) -> None:
    """The same for AppConfig while a gradual deployment is in progress."""
    fuzz = Fuzz("appconfig", seed=15)
    flags = fuzz.server.flags()
    changed = {key: {"enabled": True, "limit": number} for number, key in enumerate(flags)}
    number = fuzz.server.deploy(fuzz.server.put(document(changed, {})), Strategy(30, 20))
    fuzz.server.step(number, 40.0)
    work(fuzz, "appconfig, deploying", count)


def work(fuzz: Fuzz, title: str, count: int) -> None:
    for number in range(count):
        try:
            fuzz.once()
        except Exception as error:
            error.add_note(f"{title}, case {number}")
            raise
    seen = fuzz.outcomes
    assert seen["published"] > 0.02 * count, seen
    assert seen["MalformedResponseError"] > 0.1 * count, seen
    refused = count - seen["published"] - seen["unchanged"]
    print(
        f"{title}: {count:,} responses, {seen['published']:,} published whole, "
        f"{refused:,} refused with one of {len(seen) - 2} typed errors; 0 untyped, 0 torn"
    )
