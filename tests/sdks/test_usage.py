"""Counts of evaluations equal those of the providers' own SDKs."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import usage
from sdks import processes, sets
from simulators import launchdarkly_flags
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.reader_rig import Rig
from simulators.server import ProviderServer, Request
from simulators.split import SplitSimulator
from simulators.unleash import UnleashSimulator
from storesync import providers
from storesync.http import HttpClient
from storesync.model import Secret, Source
from storesync.providers.base import Published, UsagePost
from storesync.usage_lines import EventLine, Line, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flagstore.clients import Client
    from flagstore.snapshot import Snapshot

Counts = dict[str, Any]
NAMES = ("launchdarkly", "split", "unleash")


class Recorder(ProviderServer):
    """Accepts whatever an SDK posts."""

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        del request
        return 202, b"", {}

    def posts(self, path: str) -> list[Any]:
        return [json.loads(each.body) for each in self.requests if each.path.endswith(path)]


def client_of(server: Any, provider: str, how: str) -> Client:
    """Return a client that reads this server's flags, and counts."""
    flag_set = providers.get(provider).fetch(source_of(server, provider), HttpClient(), "").flag_set
    assert flag_set is not None
    rig = Rig(provider=provider)
    sections = {name: dict(items) for name, items in flag_set.sections.items()}
    rig.publish(sections.pop("flags"), dict(flag_set.meta), **sections)
    return rig.another(usage=how, environment="production", app_name="shop")


def source_of(server: Any, provider: str) -> Source:
    return Source("prod", provider, server.url, Secret(server.sdk_key), allow_http=True)


@pytest.fixture(autouse=True)
def no_other_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the clients of other tests: a flush would print their counts as well."""
    monkeypatch.setattr(usage, "_counters", [])


@pytest.fixture
def counted(capfd: pytest.CaptureFixture[str]) -> Callable[..., Counts]:
    def count(server: Any, provider: str, flags: list[str], contexts: list[Any]) -> Counts:
        """Return flag → Counter of cells, as a client of this server's flags counts them."""
        client = client_of(server, provider, "counts")
        for given in contexts:
            user = client.for_context(_context(provider, given))
            for key in flags:
                user.detail(key)
                if provider == "unleash":
                    user.enabled(key)
        client.flush()
        found: dict[str, Counter[Any]] = {}
        for line in capfd.readouterr().out.splitlines():
            for key, cells in json.loads(line)["f"].items():
                for number, *result in cells:
                    found.setdefault(key, Counter())[tuple(result)] += number
        return found

    return count


def _context(provider: str, given: dict[str, Any]) -> dict[str, Any]:
    if provider != "split":
        return given
    key = {"key": given["key"], "bucketingKey": given.get("bucketing")}
    return {**(given.get("attributes") or {}), **{name: each for name, each in key.items() if each}}


def test_launchdarkly(posted: Callable[..., list[UsagePost]]) -> None:
    """What UsageFunction posts equals the SDK's summaries, but for callers' defaults and times.

    Prerequisites are counted, too.
    """
    contexts = sets.contexts("launchdarkly", 40)
    with LaunchDarklySimulator(*sets.launchdarkly()) as server, Recorder() as recorder:
        document = json.loads(server.document())
        flags = [*document["flags"], "never-there"]
        task = {"document": document, "flags": flags, "contexts": contexts}
        processes.python("launchdarkly", usage=recorder.url, **task)

        def evaluate(client: Client) -> None:
            for context in contexts:
                for key in flags:
                    client.detail(key, context)

        found = _events(posted(server, "launchdarkly", evaluate, "counts"))
        theirs = [event for post in recorder.posts("/bulk") for event in post]
    theirs = [event for event in theirs if event["kind"] == "summary"]
    assert {frozenset(event) for event in found} == {frozenset(event) for event in theirs}
    ours = _summed(found)
    assert ours == _summed(theirs)
    assert sum(counts.total() for counts in ours["counters"].values()) > 40 * len(flags)


def _events(posts: Iterable[UsagePost]) -> list[Any]:
    return [event for post in posts for event in json.loads(gzip.decompress(post.body))]


def _summed(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return all kinds of contexts, and flag → its counters with the sums of their counts."""
    kinds: set[str] = set()
    counters: dict[str, Counter[str]] = {}
    for event in events:
        for key, flag in event["features"].items():
            kinds |= set(flag["contextKinds"])
            for each in flag["counters"]:
                left_out = {"count"} if "variation" in each else {"count", "value"}
                rest = {name: value for name, value in each.items() if name not in left_out}
                text = json.dumps(rest, sort_keys=True)
                counters.setdefault(key, Counter())[text] += each["count"]
    return {"kinds": kinds, "counters": counters}


def test_split(counted: Callable[..., Counts]) -> None:
    """Evaluations per flag, as its SDK posts them in the mode without impressions."""
    contexts = sets.contexts("split", 40)
    with SplitSimulator(*sets.split()) as server, Recorder() as recorder:
        flags = [*json.loads(server.document())["ff"]["d"]]
        names = [each["name"] for each in flags] + ["never-there"]
        task = {"url": server.url, "key": server.sdk_key, "flags": names, "contexts": contexts}
        processes.python("split", usage=recorder.url, impressions="none", **task)
        found = counted(server, "split", names, contexts)
        theirs: Counter[str] = Counter()
        for post in recorder.posts("/testImpressions/count"):
            for each in post["pf"]:
                theirs[each["f"]] += each["rc"]
    assert {key: cells.total() for key, cells in found.items()} == dict(theirs)


def test_unleash(counted: Callable[..., Counts]) -> None:
    """Yes, no and variants, as its SDK's engine counts them."""
    contexts = sets.contexts("unleash", 40)
    with UnleashSimulator(*sets.unleash()) as server, Recorder() as recorder:
        document = server.document().decode()
        flags = [*(each["name"] for each in json.loads(document)["features"]), "never-there"]
        task = {"document": document, "flags": flags, "contexts": contexts}
        processes.python("unleash", usage=recorder.url, **task)
        (post,) = recorder.posts("/client/metrics")
        found = counted(server, "unleash", flags, contexts)
    theirs = {
        key: {"yes": each["yes"], "no": each["no"], "variants": each["variants"]}
        for key, each in post["bucket"]["toggles"].items()
    }
    ours = {}
    for key, cells in found.items():
        variants: Counter[str] = Counter()
        for (_, *variant), number in cells.items():
            variants.update({variant[0]: number} if variant else {})
        yes = sum(number for (enabled, *_), number in cells.items() if enabled)
        ours[key] = {"yes": yes, "no": cells.total() - yes, "variants": dict(variants)}
    assert ours == theirs


# -- exposures and events -------------------------------------------------------------------------


@pytest.fixture
def posted(capfd: pytest.CaptureFixture[str]) -> Callable[..., list[UsagePost]]:
    def posts(
        server: Any, provider: str, evaluate: Callable[[Client], None], how: str = "events"
    ) -> list[UsagePost]:
        """Return what UsageFunction makes of the lines of some evaluations, of one kind."""
        client = client_of(server, provider, how)
        evaluate(client)
        client.flush()
        kind = EventLine if how == "events" else Line
        lines = [parse(json.loads(line)) for line in capfd.readouterr().out.splitlines()]
        assert all(lines)
        api = providers.get(provider).usage()
        assert api is not None
        snapshot = client.snapshot()
        found = Published(partial(_flag, snapshot), {})
        source = source_of(server, provider)
        made = [api.report(source, [line], found) for line in lines if isinstance(line, kind)]
        return [post for post in made if post]

    return posts


def _flag(snapshot: Snapshot, key: str) -> Any:
    return snapshot[key] if key in snapshot else None  # noqa: SIM401 - it has no get


def test_launchdarkly_events(
    posted: Callable[..., list[UsagePost]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Index, feature, debug and custom events, except for times and the defaults of callers."""
    contexts = [
        {"kind": "user", "key": "ada", "plan": "pro", "_meta": {"privateAttributes": ["email"]}},
        {"kind": "user", "key": "bob", "anonymous": True, "email": "bob@example.org"},
        {"kind": "multi", "user": {"key": "ada"}, "org": {"key": "acme", "plan": "free"}},
        {"kind": "user", "key": "ada", "plan": "free"},
    ]
    contexts[0]["email"] = "ada@example.org"
    monkeypatch.setenv("FLAGSTORE_USAGE_ATTRIBUTES", "plan,email")
    pro = {"attribute": "plan", "op": "in", "values": ["pro"], "contextKind": "user"}
    weights = [{"variation": n, "weight": 50_000} for n in (0, 1)]
    rollout = {"kind": "experiment", "contextKind": "user", "variations": weights, "seed": 1}
    made: dict[str, dict[str, Any]] = {
        "plain": {},
        "tracked": {"trackEvents": True},
        "by-rule": {"rules": [{"id": "r", "clauses": [pro], "variation": 1, "trackEvents": True}]},
        "by-fallthrough": {"trackEventsFallthrough": True},
        "experiment": {"fallthrough": {"rollout": rollout}},
        "debugged": {"debugEventsUntilDate": 4_102_444_800_000},
        "parent": {"prerequisites": [{"key": "tracked", "variation": 0}], "trackEvents": True},
        "never": {"trackEvents": True, "samplingRatio": 0},
        "off": {"on": False, "trackEvents": True},
    }
    flags = {key: {**launchdarkly_flags.new_flag(key), **more} for key, more in made.items()}
    keys = [*flags, "unknown"]
    tracked = [["bought", {"currency": "EUR"}, 2.5], ["left"]]

    def evaluate(client: Client) -> None:
        for context in contexts:
            for key in keys:
                client.value(key, context)
            for name, data, value in (*tracked[:1], ["left", None, None]):
                client.track(str(name), context, value=value, data=data)

    with LaunchDarklySimulator(flags, {}) as server, Recorder() as recorder:
        document = json.loads(server.document())
        task = {"document": document, "flags": [], "variations": keys, "contexts": contexts}
        processes.python("launchdarkly", usage=recorder.url, tracked=tracked, **task)
        found = _events(posted(server, "launchdarkly", evaluate))
        theirs = [event for post in recorder.posts("/bulk") for event in post]
    theirs = [event for event in theirs if event["kind"] != "summary"]
    assert Counter(map(_comparable, found)) == Counter(map(_comparable, theirs))
    assert {event["kind"] for event in found} == {"index", "feature", "debug", "custom"}


def _comparable(event: dict[str, Any]) -> str:
    """Return an event as JSON, without what is not compared."""
    left_out = {"creationDate", "default"}
    if "variation" not in event:  # the value is the caller's default
        left_out |= {"value"}
    return json.dumps({k: v for k, v in event.items() if k not in left_out}, sort_keys=True)


def test_split_impressions(posted: Callable[..., list[UsagePost]]) -> None:
    """As its SDK posts them in its mode OPTIMIZED."""
    contexts = sets.contexts("split", 40)
    with SplitSimulator(*sets.split()) as server, Recorder() as recorder:
        names = [each["name"] for each in json.loads(server.document())["ff"]["d"]]
        task = {"url": server.url, "key": server.sdk_key, "flags": names, "contexts": contexts}
        processes.python("split", usage=recorder.url, impressions="optimized", **task)

        def evaluate(client: Client) -> None:
            for given in contexts:
                for name in names:
                    client.value(name, _context("split", given))

        posts = posted(server, "split", evaluate)
        theirs = _impressions(recorder.posts("/testImpressions/bulk"))
    assert {post.headers["SplitSDKImpressionsMode"] for post in posts} == {"OPTIMIZED"}
    assert _impressions(json.loads(post.body) for post in posts) == theirs
    assert theirs.total() > 1_000


def _impressions(posts: Iterable[Any]) -> Counter[Any]:
    return Counter(
        # The task gives each key as its own bucketing key, where it has none.
        (flag["f"], *(each.get(name) for name in "ktcr"), each.get("b") or each["k"])
        for post in posts
        for flag in post
        for each in flag["i"]
    )
