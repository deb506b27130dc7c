"""AppConfig: which version is live, its events, its permissions."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client
from simulators import appconfig_flags, faults
from simulators.appconfig import ACCOUNT, AppConfigSimulator, Strategy
from simulators.appconfig_flags import document, rich_flags
from simulators.clock import FakeClock
from simulators.memory_store import MemoryStore
from simulators.reader_store import RecordsReader
from simulators.template import read_template
from storesync import errors, providers
from storesync.http import HttpClient
from storesync.model import Secret, Source, SyncRequest
from storesync.pipeline import Sync
from storesync.providers.appconfig import AppConfig
from storesync.published import PublishedReader
from storesync.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.keys import Key, Record
    from storesync.model import FetchResult, FlagSet, Report

PROVIDER = AppConfig()


@pytest.fixture(autouse=True)
def role(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Give the role that the simulator knows."""
    for name, value in AppConfigSimulator().environ.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def server() -> Iterator[AppConfigSimulator]:
    with AppConfigSimulator(*rich_flags(4)) as running:
        yield running


def source(server: AppConfigSimulator, **options: str) -> Source:
    """Build the source of a simulator's profile; an empty option is left out."""
    given = {name: text for name, text in {**server.options, **options}.items() if text}
    return Source("prod", "appconfig", server.url, Secret(""), given, allow_http=True)


def fetch(server: AppConfigSimulator, etag: str = "", **options: str) -> FetchResult:
    return PROVIDER.fetch(source(server, **options), HttpClient(), etag)


def set_of(server: AppConfigSimulator, **options: str) -> FlagSet:
    flag_set = fetch(server, **options).flag_set
    assert flag_set
    return flag_set


def limit(flag_set: FlagSet) -> int:
    """Return the value that identifies a version of :func:`numbered`."""
    found: int = flag_set.sections["flags"]["flag"]["limit"]
    return found


def numbered(number: int) -> dict[str, Any]:
    value = {"enabled": True, "limit": number}
    return document({"flag": value}, {"flag": appconfig_flags.definition()})


START = ({"flag": {"enabled": True, "limit": 9}}, {"flag": appconfig_flags.definition()})


@pytest.fixture
def plain() -> Iterator[AppConfigSimulator]:
    """Run an AppConfig that serves document 1, as version 2."""
    with AppConfigSimulator(*START) as running:
        running.roll_out(running.put(numbered(1)))
        yield running


# -- which version is live ------------------------------------------------------------------------


def test_gradual_deployment(plain: AppConfigSimulator) -> None:
    """While a deployment is in progress, the set holds both versions, and what is equal once."""
    number = plain.deploy(plain.put(numbered(2)), Strategy(30, 20, bake_minutes=10))
    found = set_of(plain)
    assert limit(found) == 1
    assert found.sections["new_flags"]["flag"]["limit"] == 2
    (deployment,) = found.sections["deployments"].items()
    assert deployment == (
        str(number),
        {
            "ConfigurationVersion": 3,
            "PreviousVersion": 2,
            "RemovedFlags": [],
            "GrowthType": "LINEAR",
            "GrowthFactor": 20,
            "DeploymentDurationInMinutes": 30,
            "FinalBakeTimeInMinutes": 10,
            "StartedAt": plain._find(number)["StartedAt"],
        },
    )
    plain.step(number, 20.0)
    assert set_of(plain).sections == found.sections  # its progress is no publication
    plain.bake(number)
    assert set_of(plain).sections == found.sections
    plain.complete(number)
    assert limit(set_of(plain)) == 2
    assert not any(set_of(plain).sections[name] for name in ("new_flags", "deployments"))
    plain.roll_out(2)  # an operator rolls back by deploying an earlier version
    assert limit(set_of(plain)) == 1


def test_flags_that_a_deployment_adds_and_removes(server: AppConfigSimulator) -> None:
    """Added ones are among the new flags, removed ones are named; the guard sees both versions."""
    values, definitions = dict(server._values), dict(server._definitions)
    gone, equal, *_ = values
    del values[gone]
    values["added"] = {"enabled": True}
    server.deploy(server.put(document(values, definitions)))
    found = set_of(server)
    assert found.sections["new_flags"] == {"added": {"enabled": True}}
    (deployment,) = found.sections["deployments"].values()
    assert deployment["RemovedFlags"] == [gone]
    previous, new = found.versions()
    assert previous.sections["flags"] == server._values
    assert new.sections["flags"] == values
    assert equal in found.sections["flags"]


def test_first_deployment(plain: AppConfigSimulator) -> None:
    """Nobody had flags before it: the previous version is empty, and after a rollback all is."""
    with AppConfigSimulator() as fresh:
        fresh._deployments.clear()
        number = fresh.deploy(fresh.put(numbered(1)))
        found = set_of(fresh)
        assert found.sections["flags"] == {}
        assert found.sections["new_flags"]["flag"]["limit"] == 1
        fresh.stop_deployment(number)
        assert not any(set_of(fresh).sections.values())
        fresh._find(number)["State"] = "VALIDATING"
        fresh._publish()
        with pytest.raises(errors.EndpointNotFoundError, match="has reached anybody yet"):
            fetch(fresh)
    with pytest.raises(errors.EndpointNotFoundError, match="never deployed"):
        fetch(plain, profile="another")


@pytest.mark.parametrize("state", ["deploying", "baking", "complete"])
def test_stopped_or_reverted_deployment(plain: AppConfigSimulator, state: str) -> None:
    """The version before is live again, and the revision rises, with or without an event."""
    number = plain.deploy(plain.put(numbered(2)))
    if state == "baking":
        plain.bake(number)
    elif state == "complete":
        plain.complete(number)
    during = set_of(plain)
    plain.stop_deployment(number, allow_revert=state == "complete")
    deployment = plain._find(number)
    for shown in ("ROLLING_BACK", deployment["State"]):
        deployment["State"] = shown
        after = set_of(plain)
        assert limit(after) == 1
        assert not after.sections["new_flags"]
        assert after.revision > during.revision
        assert not PROVIDER.is_older(during, after)
        reached = [
            PROVIDER.satisfied(f"undone/{number}", each.revision, lambda *_: None)
            for each in (during, after)
        ]
        assert reached == [False, True]


def test_deployments_of_other_profiles(plain: AppConfigSimulator) -> None:
    """They are in the same list, and are skipped page by page up to a limit."""
    plain.page_size = 20
    plain.deploy_others(75)
    found = set_of(plain)
    assert (limit(found), found.revision) == (1, 22)
    assert len(plain.requests) == 4 + 1
    plain.page_size = 1
    with pytest.raises(errors.EndpointNotFoundError, match="a separate environment"):
        fetch(plain)


def test_etag(plain: AppConfigSimulator) -> None:
    """An unchanged deployment costs one list; a step changes nothing."""
    etag = fetch(plain).etag
    assert fetch(plain, etag).flag_set is None
    number = plain.deploy(plain.put(numbered(2)))
    plain._to(number, "VALIDATING")
    validating = fetch(plain, etag)
    plain.step(number)
    started = fetch(plain, validating.etag)
    assert started.flag_set
    plain.step(number)
    assert fetch(plain, started.etag).flag_set is None
    plain.bake(number)
    baking = fetch(plain, started.etag)
    assert baking.flag_set
    assert PROVIDER.satisfied(f"baking/{number}", baking.flag_set.revision, lambda *_: None)
    plain.requests.clear()
    assert fetch(plain, baking.etag).flag_set is None
    assert len(plain.requests) == 1


def test_deployment_that_ends_during_a_fetch(
    plain: AppConfigSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between list and log: it is in progress until the next check."""
    number = plain.deploy(plain.put(numbered(2)))
    plain.step(number, 20.0)
    one = AppConfigSimulator._one

    def ended(server: AppConfigSimulator, *place: Any) -> Any:
        server._to(number, "ROLLED_BACK")
        return one(server, *place)

    monkeypatch.setattr(AppConfigSimulator, "_one", ended)
    found = fetch(plain).progress
    assert found
    assert found[:3] == (number, "DEPLOYING", 20.0)
    assert fetch(plain).progress is None
    plain.step(number)
    other = plain.served()["deployments"][0]
    monkeypatch.setattr(
        AppConfigSimulator, "_one", lambda *_: (200, json.dumps(other).encode(), {})
    )
    with pytest.raises(errors.MalformedResponseError, match="another deployment"):
        fetch(plain)


# -- events ---------------------------------------------------------------------------------------


def act(rng: random.Random, server: AppConfigSimulator) -> None:
    """Perform one of the actions of operators and alarms."""
    number = server.in_progress()
    if not number:
        revertible = server.may_revert()
        if revertible and rng.random() < 0.3:
            server.stop_deployment(revertible, allow_revert=True)
        else:
            # Documents repeat: with ones that are always new, going back would not be seen.
            begun = server.deploy(server.put(numbered(rng.randint(1, 3))))
            if rng.random() < 0.3:
                server.complete(begun)
    elif rng.random() < 0.25:
        server.stop_deployment(number)
    elif server._find(number)["State"] == "DEPLOYING":
        rng.choice([lambda: server.step(number), lambda: server.bake(number)])()
    else:
        server.complete(number)


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_events(seed: int) -> None:
    """Events may be lost or repeated: the store ends at the live version."""
    rng, clock, store = random.Random(seed), FakeClock(), MemoryStore()
    with AppConfigSimulator(*START) as server:

        def sync(request: SyncRequest) -> None:
            deadline = Deadline(clock, random.Random(1), 30)
            Sync(source(server), PROVIDER, store, http=HttpClient(), deadline=deadline).run(
                [request]
            )

        waiting: list[dict[str, Any]] = []
        server.listeners.append(waiting.append)
        for _ in range(12):
            act(rng, server)
            rng.shuffle(waiting)
            for event in waiting[: rng.randint(0, len(waiting))]:
                if rng.random() < 0.7:
                    waiting.remove(event)
                if rng.random() < 0.7:
                    found = PROVIDER.provider_event(event)
                    assert found
                    sync(SyncRequest("prod", found.required or (), int(clock.now() * 1000)))
        sync(SyncRequest("prod", trigger="schedule"))
        stored = PublishedReader("prod", store).current(store.state("prod").published)
        assert stored
        live = json.loads(server.versions[server.serves])["values"]
        assert stored.sections["flags"]["flag"]["limit"] == live["flag"]["limit"]


def deployment_event(words: str = "", **fields: Any) -> dict[str, Any]:
    """Make EventBridge's event of deployment 7; an empty ``Type`` is left out."""
    detail = appconfig_flags.event(
        "OnDeploymentComplete", 7, version=3, ids=AppConfigSimulator().ids
    )
    event = appconfig_flags.over_eventbridge(
        detail, delivery="id", account=ACCOUNT, region="eu-west-1", time=""
    )
    event["detail-type"] = words or event["detail-type"]
    event["detail"] |= fields
    if event["detail"]["Type"] == "":
        del event["detail"]["Type"]
    return event


@pytest.mark.parametrize(
    ("kind", "words", "required"),
    [
        ("OnDeploymentComplete", "", ("complete/7",)),
        ("OnDeploymentBaking", "", ("baking/7",)),
        ("OnDeploymentRolledBack", "", ("undone/7",)),
        ("OnDeploymentReverted", "", ("undone/7",)),
        ("OnDeploymentSomethingNew", "", ()),
        ("OnDeploymentStart", "", ("started/7",)),
        ("OnDeploymentStep", "", ("started/7",)),
        ("", "On Deployment Complete", ("complete/7",)),
        ("", "On Deployment Rollback", ("undone/7",)),
    ],
)
def test_deployment_event(kind: str, words: str, required: tuple[str, ...]) -> None:
    """An event names its profile and the revision to reach, in either of AWS' spellings."""
    event = PROVIDER.provider_event(deployment_event(words, Type=kind))
    assert event
    assert (event.required, event.delivery) == (required, "id")
    ids = {"application": "ba8toh7", "environment": "pgil2o7", "profile": "ga3tqep"}
    assert event.about == ids


@pytest.mark.parametrize(
    "change",
    [
        {"Type": "PreStartDeployment"}, {"Type": 7}, {"Application": None},
        {"Environment": {}}, {"ConfigurationProfile": {"Id": 7}},
    ],
)  # fmt: skip
def test_other_events_are_ignored(change: dict[str, Any]) -> None:
    """An event that is not about a deployment of a known profile is left to other parsers."""
    assert PROVIDER.provider_event(deployment_event(**change)) is None
    assert PROVIDER.provider_event({"source": "aws.appconfig", "detail": None}) is None
    assert providers.provider_event({**deployment_event(), "source": "aws.ec2"}) is None
    assert providers.provider_event(deployment_event())


@pytest.mark.parametrize("number", [None, "x", "9" * 13, -1, "٣"])
def test_invalid_deployment_number_is_not_waited_for(number: Any) -> None:
    """The event still requests a sync."""
    event = PROVIDER.provider_event(deployment_event(DeploymentNumber=number))
    assert event
    assert event.required == ()


def test_configuration_outside_of_appconfigs_store(plain: AppConfigSimulator) -> None:
    """A profile whose configuration is in S3 has no document; the message explains that."""
    plain._deployments[-1]["ConfigurationVersion"] = "s3-version-id"
    plain._publish()
    with pytest.raises(errors.EndpointNotFoundError, match="use a hosted configuration"):
        fetch(plain)


# -- experiments, split ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"split_hash": "flagstore"}])
def test_experiment(options: dict[str, str]) -> None:
    """Treatments are stored verbatim, and evaluated by flagstore's hash or UNSUPPORTED.

    Those who are outside of the audience get the flag's own value either way.
    """
    records: dict[Key, Record] = {}
    values, definitions = rich_flags(8)
    key = "search-flag-0001"
    treated = appconfig_flags.experiment(values[key], '(eq $country "CH")', 60)
    with AppConfigSimulator(values, definitions) as server:

        def sync() -> Report:
            deadline = Deadline(FakeClock(), random.Random(1), 30)
            store, where = MemoryStore(records), source(server, **options)
            run = Sync(where, PROVIDER, store, http=HttpClient(), deadline=deadline)
            return run.run([SyncRequest("prod", trigger="schedule")])

        sync()
        server.run_experiment(key, treated)
        assert sync().outcome == "published"
    client = Client("prod", store=RecordsReader(records), replicas=1)
    assert client.snapshot()[key] == treated
    assert client.detail(key, {"entityId": "ada", "country": "FR"}).variant == "__default__"
    assert client.detail(key, {"country": "CH"}).variant == "__default__"
    assert client.detail(key, {"entityId": "tester"}).variant == "__t1_override__"
    details = [
        client.detail(key, {"entityId": f"user-{number}", "country": "CH"})
        for number in range(2_000)
    ]
    if not options:
        assert {detail.error for detail in details} == {"UNSUPPORTED"}
        return
    assert {detail.rule for detail in details} == {"split (flagstore's hash)"}
    found = Counter(detail.variant for detail in details)
    assert found.keys() == {"__t1__", "__t2__", "__c__", "__default__"}
    for variant, count in found.items():
        assert abs(count - (800 if variant == "__default__" else 400)) < 80


def test_experiment_that_is_not_hosted(plain: AppConfigSimulator) -> None:
    """What was deployed before it stays live, and later deployments are read."""
    before = set_of(plain)
    number = plain.deploy(plain.put(numbered(2)))
    plain._find(number).update(Type="MANAGED", ConfigurationVersion="3-experiment")
    plain._publish()
    assert set_of(plain).sections == before.sections
    plain._find(number)["State"] = "ROLLED_BACK"
    plain.run_experiment("flag", {"enabled": True, "limit": 7}, hosted=False)
    during = set_of(plain)
    assert during.sections == before.sections
    assert during.revision > before.revision
    plain.roll_out(plain.put(numbered(2)))
    assert limit(set_of(plain)) == 2


def test_option_for_split_is_published(plain: AppConfigSimulator) -> None:
    """It is in the set's meta, where readers find it, and only if it is set."""
    assert set_of(plain, split_hash="flagstore").meta["split_hash"] == "flagstore"
    assert "split_hash" not in set_of(plain).meta
    with pytest.raises(errors.ConfigurationError, match=r"must be flagstore; omit it to"):
        fetch(plain, split_hash="aws")


# -- freeform, options, region --------------------------------------------------------------------


def test_freeform_profile() -> None:
    """Each top-level key is a flag with any JSON as its value."""
    content = {"featureEnabled": True, "limit": 5, "nested": {"_variants": [1]}, "text": "ä"}
    with AppConfigSimulator(freeform=True) as server:
        server.roll_out(server.put(content))
        found = set_of(server)
        assert found.sections["flags"] == content
        assert not found.sections["definitions"]
        assert found.meta["format"] == "freeform"
        server.roll_out(server.put(b"a: yaml"))
        with pytest.raises(errors.MalformedResponseError):
            fetch(server)


def test_invalid_options() -> None:
    """All problems are named together, and nothing is sent."""
    bad = Source(
        "prod", "appconfig", "https://127.0.0.1:1", Secret(""),
        {"region": "x/y", "format": "yaml", "split_hash": "murmur3"},
    )  # fmt: skip
    with pytest.raises(errors.ConfigurationError) as caught:
        PROVIDER.fetch(bad, HttpClient(), "")
    for word in ("sources/prod", *PROVIDER.options):
        assert word in str(caught.value)


def test_region(server: AppConfigSimulator, role: pytest.MonkeyPatch) -> None:
    """It is the option's or the function's; without either, the message asks for the option."""
    role.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(errors.ConfigurationError, match='"region"'):
        fetch(server, region="")
    role.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert fetch(server, region="").flag_set
    with pytest.raises(errors.CredentialsRefusedError, match="InvalidSignature"):
        fetch(server, region="us-east-1")


def test_credentials_that_cannot_be_read(
    server: AppConfigSimulator, role: pytest.MonkeyPatch
) -> None:
    """They are asked for again, as any provider that does not respond."""
    role.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(errors.ProviderUnavailableError, match="'prod': PartialCredentialsError"):
        fetch(server)


# -- rights ---------------------------------------------------------------------------------------


def granted() -> set[tuple[str, str]]:
    """Return actions and resources of the template's policy, for the simulator's profile."""
    policy = read_template()["Resources"]["AppConfigPolicy"]["Properties"]["PolicyDocument"]
    names = ("Application", "Environment", "Profile")
    ids = [each[0] for each in AppConfigSimulator().ids.values()]
    values = dict(zip(names, ids, strict=True)) | {
        "AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": ACCOUNT,
    }  # fmt: skip
    found = set()
    for each in policy["Statement"]:
        assert each["Effect"] == "Allow"
        for resource in each["Resource"]:
            text, split = resource["Fn::Sub"]
            assert split == {
                name: {"Fn::Select": [index, {"Fn::Split": ["/", {"Ref": "AppConfigProfile"}]}]}
                for index, name in enumerate(names)
                if f"${{{name}}}" in text
            }
            arn = re.sub(r"\$\{([\w:]+)\}", lambda match: values[match[1]], text)
            found.add((each["Action"], arn))
    return found


def test_permissions_of_template(server: AppConfigSimulator) -> None:
    """The policy is sufficient, and each of its rights is needed."""
    server.deploy(server.put(server.current()), Strategy(10, 20))
    assert fetch(server).flag_set
    used = {
        (action, re.sub(r"(version|deployment)/[12]$", r"\1/*", arn)) for action, arn in server.used
    }
    assert used == granted()


@pytest.mark.parametrize("after", [0, 1, 2])
def test_missing_permission_is_named(server: AppConfigSimulator, after: int) -> None:
    server.deploy(server.put(server.current()), Strategy(10, 20))
    server.faults.extend([None] * after + [faults.status(403)])
    action = ("ListDeployments", "GetDeployment", "GetHostedConfigurationVersion")[after]
    with pytest.raises(errors.CredentialsRefusedError, match=f"appconfig:{action} .*'prod'"):
        fetch(server)
