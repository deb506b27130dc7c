"""A well-formed response with damaged content replaces nothing that works: real engines."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from data import needed
from flagstore import Client
from simulators.appconfig_flags import multi_variant
from simulators.canned import Canned
from simulators.memory_store import MemoryStore
from simulators.reader_store import RecordsReader
from simulators.split_flags import matcher, rule
from storesync import providers
from storesync.errors import MalformedResponseError, RefusedSetError, SuspectSetError
from storesync.guard import MAY_LOSE_ITEMS, MAY_LOSE_SHARE, check_items
from storesync.model import Changes, Secret, Source, SyncRequest
from storesync.pipeline import HOLD_MS, Sync
from storesync.retry import Deadline, now_ms
from torture.test_responses import SIMULATORS, Fuzz, MutatingHttp, role

if TYPE_CHECKING:
    from collections.abc import Callable

    from storesync.model import Report
    from storesync.responses import HttpResponse

    type Alter = Callable[[Any], None]

__all__ = ["role"]

pytestmark = pytest.mark.usefixtures("role")

DOCUMENTS = ("hostedconfigurationversions", "latest-all", "splitChanges", "client/features")
"""In the paths of the requests that bring flags."""


class Altering(MutatingHttp):
    """Asks a simulator, and alters the documents that bring flags."""

    def __init__(self, rig: Judged, alter: Alter) -> None:
        super().__init__(rig.server, rig.rng)
        self._alter = alter

    def get(self, url: str, headers: Any, **more: Any) -> HttpResponse:
        response = super().get(url, headers, **more)
        if not any(path in url for path in DOCUMENTS):
            return response
        document = json.loads(response.body)
        self._alter(document)
        return replace(response, body=json.dumps(document).encode())


class Replaying(MutatingHttp):
    """Gives each request the response that it had the first time, as a cache does."""

    def __init__(self, rig: Judged) -> None:
        super().__init__(rig.server, rig.rng)
        self._kept: dict[str, HttpResponse] = {}

    def get(self, url: str, headers: Any, **more: Any) -> HttpResponse:
        if url not in self._kept:
            self._kept[url] = super().get(url, headers, **more)
        return self._kept[url]


class Judged(Fuzz):
    """A published set, and syncs whose response is altered."""

    def __init__(self, provider: str, flags: int = 40) -> None:
        super().__init__(provider, seed=3, flags=flags)
        self.provider = provider

    def sync(
        self,
        alter: Alter = lambda _: None,
        trigger: str = "schedule",
        allow: str = "",
        http: Any = None,
    ) -> Report:
        if self.provider == "appconfig":  # a version is never written twice: forget its ETag
            for key, record in self.good.items():
                if key.key == "state":
                    self.good[key] = {**record, "etag": ""}
        return Sync(
            self.source,
            providers.get(self.provider),
            MemoryStore(self.good),
            http=http or Altering(self, alter),
            deadline=Deadline(self.clock, self.rng, 60),
            allow_shrink=allow,
        ).run([SyncRequest("prod", sent_at=now_ms(self.clock), trigger=trigger)])

    def read(self) -> dict[str, Any]:
        snapshot = Client("prod", store=RecordsReader(self.good), replicas=1).snapshot()
        return {key: snapshot[key] for key in snapshot}


def flags_of(provider: str, document: Any) -> list[Any]:
    if provider == "split":
        return document["ff"]["d"]  # type: ignore[no-any-return]
    if provider == "unleash":
        return document["features"]  # type: ignore[no-any-return]
    flags = document["values" if provider == "appconfig" else "flags"]
    return [flags[key] for key in sorted(flags)]


def each_flag(provider: str, change: Alter, many: int = 1) -> Alter:
    return lambda document: [change(flag) for flag in flags_of(provider, document)[:many]]


def strip(*kept: str) -> Alter:
    return lambda flag: [flag.pop(name) for name in set(flag) - set(kept)]


def set_to(**fields: Any) -> Alter:
    return lambda flag: flag.update(fields)


def only(**fields: Any) -> Alter:
    return lambda flag: (flag.clear(), flag.update(fields))


def itself(field: str, reference: str, name: str, **more: Any) -> Alter:
    return lambda flag: flag.update({field: [{reference: flag[name], **more}]})


def clause(**fields: Any) -> Alter:
    return set_to(rules=[{"id": "r", "variation": 0, "clauses": [{"attribute": "a", **fields}]}])


DAMAGES: dict[str, dict[str, Alter]] = {
    "launchdarkly": {
        "other types": set_to(variations=None, rules=7),
        "a key and a version": strip("key", "version"),
        "no variations": set_to(variations=[]),
        "targets of another type": set_to(targets=[{"variation": "0", "values": []}]),
        "a weight beyond the whole": set_to(
            fallthrough={"rollout": {"variations": [{"variation": 0, "weight": 100_001}]}}
        ),
        "a date beyond all floats": clause(op="before", values=[10**309]),
        "its own prerequisite": itself("prerequisites", "key", "key", variation=0),
    },
    "unleash": {
        "enabled is a text": set_to(enabled="yes"),
        "strategies without a name": set_to(
            enabled=True, strategies=[{"constraints": [], "parameters": {}}]
        ),
        "neither type nor enabled": lambda feature: [
            feature.pop(name, None) for name in ("type", "enabled")
        ],
    },
    "split": {
        "what our checks ask for": strip(
            "name", "defaultTreatment", "conditions", "changeNumber", "status"
        ),
        "partitions of another type": set_to(
            killed=False,
            conditions=[{"conditionType": "ROLLOUT", "matcherGroup": {"matchers": []}}],
        ),
        "matchers without a type": lambda flag: [
            matcher.pop("matcherType")
            for condition in flag["conditions"]
            for matcher in condition["matcherGroup"]["matchers"]
        ],
        "its own prerequisite": itself("prerequisites", "n", "name", ts=["on"]),
    },
    "appconfig": {
        "enabled is a number": only(enabled=7),
        "nothing left": only(),
        "variants of another type": only(_variants=7),
    },
}
CASES = [(provider, name) for provider, named in DAMAGES.items() for name in named]


@pytest.mark.parametrize("many", [1, 20])
@pytest.mark.parametrize(("provider", "damage"), CASES)
def test_damaged_flags_are_refused(provider: str, damage: str, many: int) -> None:
    """One of 40 or half of them; the other providers' SDKs would keep theirs, too."""
    rig = Judged(provider)
    before = rig.read()
    with pytest.raises((MalformedResponseError, RefusedSetError)):
        rig.sync(each_flag(provider, DAMAGES[provider][damage], many))
    assert rig.read() == before
    rig.server.set_flag(next(iter(rig.server.flags())))
    assert rig.sync().outcome in {"published", "unchanged"}


@pytest.mark.parametrize("provider", ["launchdarkly", "split"])
def test_damaged_segment_is_refused(provider: str) -> None:
    """A clause without attribute, or keys that are no list, break every flag that refers to it."""
    rig = Judged(provider)

    def alter(document: Any) -> None:
        if provider == "split":
            for segment in document["rbs"]["d"]:
                segment["excluded"]["keys"] = False
            return
        for segment in document["segments"].values():
            for each in segment["rules"]:
                each["clauses"][0] |= {"attribute": "", "op": "endsWith"}

    with pytest.raises(RefusedSetError):
        rig.sync(alter)


def test_reference_to_an_invalid_key_is_suspect() -> None:
    """Half of a surrogate pair is valid JSON, but not UTF-8."""
    depend = set_to(dependencies=[{"feature": "\ud800"}])
    with pytest.raises(SuspectSetError):
        Judged("unleash").sync(each_flag("unleash", depend))


def test_circle_of_parents_is_published() -> None:
    """Unleash's engine does not follow it: a parent with parents is unsatisfied."""
    rig = Judged("unleash")
    assert rig.sync(each_flag("unleash", itself("dependencies", "feature", "name"))).outcome == (
        "published"
    )


@pytest.mark.parametrize(
    ("provider", "damage"),
    [
        ("launchdarkly", "a key and a version"),
        ("launchdarkly", "a weight beyond the whole"),
        ("split", "what our checks ask for"),
        ("appconfig", "nothing left"),
    ],
)
def test_damaged_set_may_be_allowed(provider: str, damage: str) -> None:
    """By the digest in the refusal, if the provider's own SDK accepts it; later sets pass, too."""
    rig = Judged(provider)
    alter = each_flag(provider, DAMAGES[provider][damage])
    with pytest.raises(RefusedSetError, match="can no longer be evaluated") as refused:
        rig.sync(alter)
    assert rig.sync(alter, allow=refused.value.digest).outcome == "published"
    assert rig.sync(alter).outcome == "unchanged"
    assert rig.sync().outcome == "published"


@pytest.mark.parametrize("provider", SIMULATORS)
def test_unsupported_is_not_damaged(provider: str) -> None:
    """A new operator must not keep a kill switch from getting through."""
    rig = Judged(provider)
    constraint = {"contextName": "a", "operator": "STR_MATCHES", "values": []}
    unknown = {
        "launchdarkly": clause(op="resembles", values=["x"]),
        "unleash": set_to(
            enabled=True, strategies=[{"name": "default", "constraints": [constraint]}]
        ),
        "split": set_to(conditions=[rule(matcher("RESEMBLES"), label="x", on=100)]),
        "appconfig": only(**multi_variant("(resembles $a 1)")),
    }[provider]
    assert rig.sync(each_flag(provider, unknown)).outcome == "published"


@pytest.mark.parametrize(
    "name",
    [
        "unleash/features-production.json",
        "unleash/features-1000-real.json",
        "split/splitChanges-36-flags.json",
    ],
)
def test_recorded_sets_are_usable(name: str) -> None:
    """Real servers' sets are fetched verbatim, and pass as a first set and with every change."""
    document = json.loads(needed(name).read_bytes())
    provider = providers.get(name.split("/", maxsplit=1)[0])

    def response(path: str, _query: Any) -> Any:
        what, _, segment = path.partition("/")
        return (
            {"name": segment, "added": [], "since": 1, "till": 1} if "segment" in what else document
        )

    source = Source("prod", provider.name, "https://h/api", Secret("k"))
    http: Any = Canned(response)
    flag_set = provider.fetch(source, http, "").flag_set
    assert flag_set is not None
    assert list(flag_set.sections["flags"].values()) == flags_of(provider.name, document)
    names = tuple((s, key) for s, items in flag_set.sections.items() for key in items)
    assert len(names) > 30
    for old, changed in ((None, Changes(names, (), ())), (flag_set, Changes((), names, ()))):
        check_items(flag_set, old, changed, provider, digest="")


# -- references -----------------------------------------------------------------------------------


def without_segments(document: Any) -> None:
    if "segments" in document:
        document["segments"] = {}
    else:
        document["rbs"]["d"] = []


@pytest.mark.parametrize("provider", ["launchdarkly", "split"])
def test_missing_segments_are_suspect(provider: str) -> None:
    """All of them together are fewer than the guard lets go; a glitch of seconds changes nothing.

    One that lasts is believed, since a deletion must not keep kill switches from getting through.
    """
    rig = Judged(provider)
    before = rig.read()
    for _ in range(3):
        with pytest.raises(SuspectSetError, match="refers to missing items") as suspect:
            rig.sync(without_segments, "webhook")
        assert suspect.value.retryable
        rig.clock.advance(10)
    assert rig.sync().outcome == "unchanged"
    assert rig.read() == before
    with pytest.raises(SuspectSetError):
        rig.sync(without_segments)
    rig.clock.advance(HOLD_MS / 1000)
    with pytest.raises(SuspectSetError):
        rig.sync(without_segments, "webhook")  # no scheduled check has seen it since
    assert rig.sync(without_segments).outcome == "published"
    assert rig.sync(without_segments).outcome == "unchanged"


def test_missing_parent_is_suspect() -> None:
    """Unleash itself protects a feature's segments, but not its parents."""
    rig = Judged("unleash")

    def depend(document: Any) -> None:
        first, second, *_ = document["features"]
        first["dependencies"] = [{"feature": second["name"], "enabled": True}]

    assert rig.sync(depend).outcome == "published"

    def orphan(document: Any) -> None:
        depend(document)
        del document["features"][1]

    with pytest.raises(SuspectSetError, match="refers to missing items"):
        rig.sync(orphan)


def test_reference_that_dangled_before_is_not_suspect() -> None:
    """A set that was published so is no worse for another change."""
    rig = Judged("launchdarkly")
    with pytest.raises(SuspectSetError) as suspect:
        rig.sync(without_segments)
    assert rig.sync(without_segments, allow=suspect.value.digest).outcome == "published"
    switch(rig, next(iter(rig.server.flags())))
    assert rig.sync(without_segments).outcome == "published"


def test_losing_many_segments_needs_an_operator() -> None:
    """However long they are gone."""
    rig = Judged("launchdarkly")
    segments = {
        f"s-{number}": {"key": f"s-{number}", "version": 1, "included": []} for number in range(40)
    }

    def more(document: Any) -> None:
        document["segments"] |= segments

    assert rig.sync(more).outcome == "published"
    assert max(MAY_LOSE_ITEMS, MAY_LOSE_SHARE * 40) < 40
    for _ in range(4):
        with pytest.raises(RefusedSetError) as refused:
            rig.sync(without_segments)
        assert not isinstance(refused.value, SuspectSetError)
        rig.clock.advance(HOLD_MS / 1000)


# -- older states ---------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", SIMULATORS)
def test_stale_cache_does_not_undo_a_kill_switch(provider: str) -> None:
    """Three equal older responses within seconds may be one stale node of a CDN."""
    rig = Judged(provider)
    stale = Replaying(rig)
    assert rig.sync(http=stale).outcome == "unchanged"
    switch(rig, next(iter(rig.server.flags())))
    assert rig.sync(trigger="webhook").outcome == "published"
    killed = rig.read()
    for _ in range(3):
        with pytest.raises(SuspectSetError, match="older than the published one"):
            rig.sync(trigger="webhook", http=stale)
        rig.clock.advance(2.5)
    assert rig.read() == killed
    assert rig.sync().outcome == "unchanged"
    for _ in range(2):
        with pytest.raises(SuspectSetError):
            rig.sync(http=stale)
        rig.clock.advance(HOLD_MS / 2000)
    assert rig.sync(http=stale).outcome == "published"
    assert rig.read() != killed


def test_recreated_flag_is_published_at_once() -> None:
    """LaunchDarkly counts its version from 1 on, and gives it another salt."""
    rig = Judged("launchdarkly")
    key = next(key for key, flag in rig.server.flags().items() if flag["version"] > 1)
    rig.server.remove_flag(key)
    rig.server.set_flag(key, salt="another")
    assert rig.sync(trigger="webhook").outcome == "published"
    assert rig.read()[key]["version"] == 1


def switch(rig: Judged, key: str) -> None:
    field = {"launchdarkly": "on", "split": "killed"}.get(rig.provider, "enabled")
    rig.server.set_flag(key, **{field: not rig.server.flags()[key].get(field, False)})
