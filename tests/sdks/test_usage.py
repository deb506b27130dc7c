"""Counts of evaluations equal those of the providers' own SDKs."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import usage
from sdks import processes, sets
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.reader_rig import Rig
from simulators.server import ProviderServer, Request
from simulators.split import SplitSimulator
from simulators.unleash import UnleashSimulator
from storesync import providers
from storesync.http import HttpClient
from storesync.model import Secret, Source

if TYPE_CHECKING:
    from collections.abc import Callable

Counts = dict[str, Any]
NAMES = ("launchdarkly", "split", "unleash")


class Recorder(ProviderServer):
    """Accepts whatever an SDK posts."""

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        del request
        return 202, b"", {}

    def posts(self, path: str) -> list[Any]:
        return [json.loads(each.body) for each in self.requests if each.path.endswith(path)]


@pytest.fixture
def counted(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Counts]:
    monkeypatch.setattr(usage, "_counters", [])

    def count(server: Any, provider: str, flags: list[str], contexts: list[Any]) -> Counts:
        """Return flag → Counter of cells, as a client of this server's flags counts them."""
        source = Source("prod", provider, server.url, Secret(server.sdk_key), allow_http=True)
        flag_set = providers.get(provider).fetch(source, HttpClient(), "").flag_set
        assert flag_set is not None
        rig = Rig(provider=provider)
        sections = {name: dict(items) for name, items in flag_set.sections.items()}
        rig.publish(sections.pop("flags"), dict(flag_set.meta), **sections)
        client = rig.another(usage="counts", environment="production", app_name="shop")
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


def test_launchdarkly(counted: Callable[..., Counts]) -> None:
    """Every counter of its summary events, prerequisites included."""
    contexts = sets.contexts("launchdarkly", 40)
    with LaunchDarklySimulator(*sets.launchdarkly()) as server, Recorder() as recorder:
        document = json.loads(server.document())
        flags = [*document["flags"], "never-there"]
        task = {"document": document, "flags": flags, "contexts": contexts}
        processes.python("launchdarkly", usage=recorder.url, **task)
        found = counted(server, "launchdarkly", flags, contexts)
        theirs: dict[str, Counter[Any]] = {}
        for event in (each for post in recorder.posts("/bulk") for each in post):
            if event["kind"] == "summary":
                for key, counts in event["features"].items():
                    for each in counts["counters"]:
                        cell = each.get("variation"), each.get("version")
                        theirs.setdefault(key, Counter())[cell] += each["count"]
    assert found == theirs
    assert sum(each.total() for each in found.values()) > 40 * len(flags)


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
