"""Gradual deployments of AppConfig: from the simulator through a sync to a reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent

from flagserve import runtime, views
from flagserve.access import ClientKey, ClientKeys
from flagserve.app import App
from flagstore import Client, rollout
from flagstore.adapters.openfeature import FlagstoreProvider
from flagstore.emf import line
from flagstore.keys import snapshot_key, state_key
from flagstore.rollout import Progress
from flagstore.stores.file import FileReader
from simulators.appconfig import AppConfigSimulator, Strategy
from simulators.appconfig_flags import definition, document
from simulators.memory_store import MemoryStore
from simulators.reader_rig import DOWN, EXPIRED_S, STATE
from simulators.rollout_rig import LINEAR, Stage, doc
from simulators.serving import FLAGS, KEYS, PAGE, SECRET, ask
from storesync import errors, maintenance
from storesync.cli import inspect
from storesync.model import Changes, FlagSet, Secret, Source
from storesync.providers.appconfig_deployments import progress
from storesync.rows import plan_changes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PEOPLE = [{"key": f"user-{number}"} for number in range(2_000)]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for name, value in AppConfigSimulator().environ.items():
        monkeypatch.setenv(name, value)
    found = Stage()
    with found.server:
        found.publish({"a": 1, "b": 1, "gone": 1})
        yield found


def limits(client: Client, key: str = "a") -> list[int]:
    """Return the value of a flag for each of the people; 0 if there is none."""
    return [client.value(key, each, default={"limit": 0})["limit"] for each in PEOPLE]


def share(client: Client) -> float:
    """Return the percentage of people with version 2 of flag a."""
    return 100 * limits(client).count(2) / len(PEOPLE)


# -- who gets which version ------------------------------------------------------------------------


def test_entities(stage: Stage) -> None:
    """A growing share of them gets the new version as a whole, and each keeps it."""
    client = stage.reader(rollout_by="key")
    stage.deploy({"a": 2, "b": 1, "added": 2})
    before: set[int] = set()
    for minutes, percentage in ((0, 0), (6, 20), (6, 40), (6, 60), (6, 80), (6, 100)):
        stage.wait(minutes)
        found = limits(client)
        new = {number for number, limit in enumerate(found) if limit == 2}
        assert abs(100 * len(new) / len(PEOPLE) - percentage) < 3
        assert before <= new
        assert [{2: 2, 1: 0}[limit] for limit in found] == limits(client, "added")
        assert [{2: 0, 1: 1}[limit] for limit in found] == limits(client, "gone")
        assert set(limits(client, "b")) == {1}
        before = new
    stage.wait(36)  # baked
    assert set(limits(client)) == {2}
    assert client.info().deployment is None
    assert client.keys() == ["a", "added", "b"]


def test_processes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, each process draws once: all that it reads is one version."""
    stage.deploy({"a": 2, "b": 1})
    stage.wait(12)
    client, found = stage.reader(), []
    for number in range(2_000):
        monkeypatch.setattr(rollout, "_random", f"{number}".encode())
        limit = client.value("a", {"key": "ada"}, default={})["limit"]
        assert client.snapshot()["a"]["limit"] == client["a"]["limit"] == limit
        assert ("gone" in client) is (limit == 1)
        assert (len(client), client.keys()) == ((3, ["a", "b", "gone"]), (2, ["a", "b"]))[limit - 1]
        found.append(limit)
    assert abs(100 * found.count(2) / len(found) - 40) < 3


def test_served_entities(stage: Stage) -> None:
    """ServeFunction chooses by the targeting key, whichever process it asks."""
    made = runtime.Clients()(ClientKey("service", "prod", "server", (), (), ()))
    client = stage.reader(rollout_by=made._rollout_by)
    keys = ClientKeys(lambda _: {"service": json.dumps(KEYS["service"])}, print)
    app = App(keys, lambda _: client, print, None, stage.clock.now)

    def asked(key: str) -> dict[str, Any]:
        body = {"context": {"targetingKey": key}}
        status, found = ask(app, FLAGS, SECRET, body)
        assert status == 200
        return {each["key"]: each["value"] for each in found["flags"]}

    stage.deploy({"a": 2, "b": 1, "added": 2})
    stage.wait(12)
    seen = set()
    for number in range(50):
        is_new = client.value("a", {"key": f"{number}"}, default={})["limit"] == 2
        seen.add(is_new)
        found = asked(f"{number}")
        assert found["a"] == {"enabled": True, "limit": 1 + is_new}
        assert found.keys() == ({"a", "b", "added"} if is_new else {"a", "b", "gone"})
    assert seen == {False, True}


def test_served_types_and_browsers(stage: Stage) -> None:
    """A type is that of the version evaluated; a browser sees only what its key names."""

    def put(values: dict[str, Any]) -> int:
        made = {key: {"enabled": True, **each} for key, each in values.items()}
        return stage.server.put(document(made, dict.fromkeys(made, definition())))

    stage.server.roll_out(put({"main": {}, "hidden": {}}))
    stage.sync()
    texts = {name: json.dumps(KEYS[name]) for name in ("service", "page")}
    keys, client = ClientKeys(lambda _: texts, print), stage.reader(rollout_by="key")
    app = App(keys, lambda _: client, print, None, stage.clock.now)
    new = {"main": {"x": 2}, "hidden": {}, "checkout.added": {}, "added": {}}
    stage.server.deploy(put(new), LINEAR)
    stage.sync()
    for minutes, seen in ((0, {True}), (12, {True, '{"x": 2, "enabled": true}'}), (36, set())):
        stage.wait(minutes)
        found = set()
        for person in range(40):
            body = {"context": {"targetingKey": f"{person}"}}
            _, page = ask(app, FLAGS, PAGE, body)
            values = {each["key"]: each["value"] for each in page["flags"]}
            value = values.pop("main")
            found.add(value if value is True else json.dumps(value))
            assert values == ({} if value is True else {"checkout.added": True})
            _, whole = ask(app, FLAGS, SECRET, body)
            assert len(whole["flags"]) == (2 if value is True else 4)
        assert found == (seen or {'{"x": 2, "enabled": true}'})


def test_served_etag_needs_no_evaluation(stage: Stage) -> None:
    """Except during a deployment, though its sections are there, empty."""
    client = stage.reader(rollout_by="key")
    assert views.etag(views.view(client.snapshot()), client.snapshot(), b"", 0.0)
    stage.deploy({"a": 2, "b": 1})
    stage.wait(12)
    assert client.enabled("a") in {False, True}
    assert not views.etag(views.view(client.snapshot()), client.snapshot(), b"", 0.0)


def test_documented_hash(stage: Stage) -> None:
    """The page's hash chooses the same entities; values of an attribute count as for `split`."""
    number = stage.deploy({"a": 2})
    stage.wait(12)
    profile = "ba8toh7/pgil2o7/ga3tqep"

    def expected(entity: str) -> int:
        text = f"flagstore:deployment:{profile}:{number}:{entity}"
        found = int(sha256(text.encode()).hexdigest()[:12], 16) % 100_000_000
        return 2 if found < 40 * 1_000_000 else 1

    by_key, by_tenant = stage.reader(rollout_by="key"), stage.reader(rollout_by="tenant")
    for each in range(200):
        for context in ({"key": f"{each}"}, {"targetingKey": f"{each}"}, {"userId": each}):
            assert by_key.value("a", context, default={})["limit"] == expected(f"{each}")
        for tenant in (each, f"{each}", float(each), Decimal(each)):
            found = by_tenant.value("a", {"tenant": tenant}, default={})["limit"]
            assert found == expected(f"{each}")


@pytest.mark.parametrize(
    "context", [None, {}, {"tenant": None}, {"tenant": [1]}, {"tenant": 0.5}, 7]
)
def test_context_without_entity(stage: Stage, context: Any) -> None:
    """The process's version applies."""
    stage.deploy({"a": 2})
    stage.wait(12)
    client = stage.reader(rollout_by="tenant")
    deployment = client.info().deployment
    assert deployment
    if context == 7:
        assert client.detail("a", context).error == "CONTEXT_INVALID"
        return
    assert client.detail("a", context).version == (2, 3)[deployment.new]


def test_forked_process_draws_again(stage: Stage) -> None:
    """A child of a fork is another process."""
    stage.deploy({"a": 2})
    drawn = rollout._process()
    assert drawn == rollout._process()
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.write(send, rollout._process())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(receive, 100) not in {b"", drawn}
    assert drawn == rollout._process()


def test_restored_snapshot_draws_again(tmp_path: Any) -> None:
    """With SnapStart, clones of one image draw after they are restored."""
    (tmp_path / "snapshot_restore_py.py").write_text(
        "hooks = []\ndef register_after_restore(hook): hooks.append(hook)\n"
    )
    script = (
        "import snapshot_restore_py as runtime\nfrom flagstore import rollout\n"
        "before = rollout._process()\n[hook() for hook in runtime.hooks]\n"
        "print(before != rollout._process())"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    env = {"PYTHONPATH": path, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env
    )
    assert found.stdout.strip() == "True"


def test_openfeature_event(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that gets the new version, by the clock or a check, says that flags changed."""
    monkeypatch.setattr(rollout, "bucket", lambda _data: 30_000_000)
    stage.deploy({"a": 2, "b": 1})
    provider = FlagstoreProvider(stage.reader())
    events: list[ProviderEvent] = []
    provider.attach(lambda _provider, event, _details: events.append(event))
    provider.initialize(EvaluationContext())
    for value in (1, 2, 2):
        stage.wait(6)
        assert provider.resolve_object_details("a", {}).value == {"limit": value}
    assert events == [ProviderEvent.PROVIDER_CONFIGURATION_CHANGED]


def test_openfeature_event_for_each_step_by_key(stage: Stage) -> None:
    """The flag set is the same, but other contexts have the new version."""
    stage.deploy({"a": 2, "b": 1})
    provider = FlagstoreProvider(stage.reader(rollout_by="key"))
    events: list[ProviderEvent] = []
    provider.attach(lambda _provider, event, _details: events.append(event))
    provider.initialize(EvaluationContext())
    for minutes, number in ((1, 0), (5, 1), (1, 1), (5, 2)):
        stage.wait(minutes)
        provider.resolve_object_details("a", {}, EvaluationContext("ada"))
        assert events == [ProviderEvent.PROVIDER_CONFIGURATION_CHANGED] * number
    stage.clock.advance(6 * 60)  # the next step is due; no check has confirmed it
    provider.resolve_object_details("a", {}, EvaluationContext("ada"))
    assert len(events) == 3


# -- how far ---------------------------------------------------------------------------------------


def test_steps_between_checks(stage: Stage) -> None:
    """Readers take the next step by the clock, and no second one before it is confirmed."""
    client = stage.reader(rollout_by="key", ttl_s=0)
    stage.deploy({"a": 2})
    for minutes, percentage in ((5.9, 0), (0.1, 20), (5.9, 20), (0.1, 20), (6, 20)):
        stage.clock.advance(60 * minutes)
        assert abs(share(client) - percentage) < 3
    stage.sync()  # AppConfig has taken the third step by now
    assert abs(share(client) - 60) < 3


def test_stale_reader_goes_no_further(stage: Stage) -> None:
    """While the store cannot be read, the share stays."""
    client = stage.reader(rollout_by="key")
    stage.deploy({"a": 2})
    stage.wait(6)
    assert abs(share(client) - 20) < 3
    stage.store.error = DOWN
    stage.clock.advance(500)
    assert abs(share(client) - 20) < 3
    assert client.detail("a", PEOPLE[0]).stale
    stage.store.error = None
    stage.wait(1)
    assert abs(share(client) - 40) < 3


@pytest.mark.parametrize("as_logged", [False, True])
@pytest.mark.parametrize(
    ("strategy", "percentages"),
    [
        (Strategy(30, 20), [20, 40, 60, 80, 100]),
        (Strategy(15, 25), [25, 50, 75, 100]),
        (Strategy(20, 10, "EXPONENTIAL"), [10, 20, 40, 80, 100]),
        (Strategy(60, 2, "EXPONENTIAL"), [2, 4, 8, 16, 32, 64, 100]),
        (Strategy(1440, 10), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
    ],
)
def test_expected_steps(
    stage: Stage, strategy: Strategy, percentages: list[float], as_logged: bool
) -> None:
    """The first is when the guide says, later ones come as long after the last as that took."""
    strategy = Strategy(strategy.minutes, strategy.factor, strategy.growth, as_logged=as_logged)
    start = stage.clock.now()
    stage.deploy({"a": 2}, strategy)
    guide = Strategy(strategy.minutes, strategy.factor, strategy.growth).steps()
    steps = strategy.steps()
    assert [percentage for _, percentage in steps] == percentages
    times = [start + 0.001, *(start + after_s + 0.001 for after_s, _ in steps)]
    for at, before, after in zip(times, [0.0, *percentages], percentages, strict=False):
        stage.clock.advance(at - stage.clock.now())
        stage.sync("manual")
        state = stage.state()
        found = Progress.parse(state.deployment)
        assert (found.percentage, found.next_percentage) == (before, after)
        expected = guide[0][0] if before == 0 else steps[percentages.index(after)][0]
        assert found.next_at / 1000 == pytest.approx(start + expected, abs=0.01)


def deploy_by_hand(stage: Stage) -> int:
    """Start a deployment of two steps in ten minutes, which only the test takes."""
    number = stage.server.deploy(stage.server.put(doc({"a": 2})))
    stage.server._find(number).update(
        GrowthType="LINEAR", GrowthFactor=50, DeploymentDurationInMinutes=10
    )
    stage.sync()
    return number


def test_late_step_is_not_expected_again(stage: Stage) -> None:
    """If AppConfig takes longer than predicted, a check takes the prediction back."""
    number = deploy_by_hand(stage)
    client = stage.reader(rollout_by="key")
    stage.wait(6)
    assert share(client) == 0
    stage.server.step(number, 50)
    stage.wait(1)
    assert abs(share(client) - 50) < 3


@pytest.mark.parametrize(
    "fields",
    [
        {"PercentageComplete": None}, {"PercentageComplete": "20"}, {"GrowthFactor": None},
        {"GrowthFactor": 0}, {"GrowthFactor": True}, {"StartedAt": "soon"}, {"EventLog": None},
        {"DeploymentDurationInMinutes": 1e300}, {"GrowthType": "SQUARE", "StartedAt": 7},
        {"EventLog": [7, {"EventType": "PERCENTAGE_UPDATED", "OccurredAt": "?"}]},
    ],
)  # fmt: skip
def test_incomplete_deployment(fields: dict[str, Any]) -> None:
    """Whatever is missing, a step is at most one ahead, and nothing raises."""
    whole = {
        "DeploymentNumber": 7, "State": "DEPLOYING", "PercentageComplete": 20.0,
        "GrowthType": "LINEAR", "GrowthFactor": 20.0, "DeploymentDurationInMinutes": 30,
        "StartedAt": "2026-11-29T10:00:00Z",
    }  # fmt: skip
    found = progress({**whole, **fields})
    assert found.number == 7
    assert found.percentage <= found.next_percentage <= 40 or found.next_at == 0
    Progress.parse(found.dumps(0))
    assert progress({**whole, "StartedAt": "2026-11-29T10:00:00"}).next_at == 0  # of no time zone
    assert progress({"DeploymentNumber": 7, "State": "BAKING"}).percentage == 100


def test_publication_during_a_deployment(stage: Stage) -> None:
    """Who got the new version when its step was due keeps it, also when the set is loaded again."""
    deploy_by_hand(stage)
    client = stage.reader(rollout_by="key")
    client.snapshot()
    stage.clock.advance(300)
    assert abs(share(client) - 50) < 3
    key = snapshot_key("prod")
    stage.records[key] = {**stage.records[key], "body": b""}
    assert stage.sync("schedule", verify=True).outcome == "published"
    stage.clock.advance(EXPIRED_S)
    assert abs(share(client) - 50) < 3


# -- rollbacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["alarm", "overtaken", "source rolled back"])
def test_rollback(stage: Stage, event: str) -> None:
    """After the next refresh, nobody has the new version."""
    client = stage.reader(rollout_by="key")
    number = stage.deploy({"a": 2})
    stage.wait(12)
    assert abs(share(client) - 40) < 3
    if event == "source rolled back":
        store, source = MemoryStore(stage.records), Source("prod", "appconfig", "", Secret(""))
        two = store.state("prod").published
        maintenance.roll_back(source, store, stage.clock, to=two, pinned_until=10**15)
    else:
        stage.server.stop_deployment(number)
        if event == "overtaken":
            stage.server.deploy(stage.server.put(doc({"a": 2})), LINEAR)
        stage.sync()
    stage.clock.advance(EXPIRED_S)
    assert share(client) == 0
    assert stage.reader(rollout_by="key").detail("a", PEOPLE[0]).version in {2, None}


@pytest.mark.parametrize("strategy", [LINEAR, None])
def test_overtaken_by_a_refused_set(stage: Stage, strategy: Strategy | None) -> None:
    """What follows is refused, but nobody has the version that was rolled back."""
    stage.publish(many(60))
    client = stage.reader(rollout_by="key")
    number = stage.deploy(many(60, 2))
    stage.wait(12)
    assert abs(share(client) - 40) < 3
    stage.server.stop_deployment(number)
    number = stage.server.deploy(stage.server.put(doc(many(30, 3))), strategy)
    if strategy is None:
        stage.server.complete(number)
    with pytest.raises(errors.RefusedSetError):
        stage.sync()
    stage.clock.advance(EXPIRED_S)
    assert set(limits(client)) == {1}


def test_reverted_deployment(stage: Stage) -> None:
    """A complete deployment that is reverted is rolled back at the next check."""
    client = stage.reader()
    number = stage.deploy({"a": 2})
    stage.wait(61)
    assert set(limits(client)) == {2}
    stage.server.stop_deployment(number, allow_revert=True)
    stage.wait(1)
    assert set(limits(client)) == {1}


# -- the guard, rows, history ----------------------------------------------------------------------


def many(count: int, limit: int = 1) -> dict[str, int]:
    return {"a": limit} | {f"flag-{number:03d}": 1 for number in range(count)}


def test_new_version_that_loses_flags(stage: Stage) -> None:
    """It is refused before anybody gets it, and once allowed, its completion needs no more."""
    stage.publish(many(60))
    client = stage.reader(rollout_by="key")
    number = stage.server.deploy(stage.server.put(doc(many(30, 2))), LINEAR)
    with pytest.raises(errors.RefusedSetError, match=r"30 .* of 61 .* are gone") as refused:
        stage.sync()
    assert share(client) == 0
    assert stage.queued == []
    stage.sync("manual", allow_shrink=refused.value.digest)
    stage.wait(12)
    assert abs(share(client) - 40) < 3
    stage.wait(60)
    assert stage.server._find(number)["State"] == "COMPLETE"
    assert set(limits(client)) == {2}
    assert len(client.keys()) == 31
    stage.server.roll_out(stage.server.put(doc(many(30, 3))))
    assert stage.sync().outcome == "published"


def test_change_a_day_after_a_deployment(stage: Stage) -> None:
    """The set of a day ago had two versions: the new one is compared with them."""
    stage.deploy(many(60, 2))
    stage.wait(12)
    stage.wait(60)
    stage.clock.advance(86_400 - 3_600)
    stage.server.roll_out(stage.server.put(doc(many(60, 3))))
    assert stage.sync().outcome == "published"


def test_damaged_flag_in_previous_version(stage: Stage) -> None:
    """It is refused, too, if it became live unseen."""
    stage.server.roll_out(stage.server.put(document({"a": {"limit": 2}}, {})))
    stage.server.deploy(stage.server.put(doc({"a": 3})), LINEAR)
    with pytest.raises(errors.RefusedSetError, match=r"flags/a.* can no longer be evaluated"):
        stage.sync()


def test_new_version_that_loses_flags_within_a_day(stage: Stage) -> None:
    """It is compared with the set of a day ago, as any other."""
    stage.publish(many(60))
    stage.clock.advance(86_400)
    stage.publish(many(45))
    stage.server.deploy(stage.server.put(doc(many(34, 2))), LINEAR)
    with pytest.raises(errors.RefusedSetError, match=r"26 .* compared with the set of a day ago"):
        stage.sync()


def test_older_state_of_a_deployment(stage: Stage) -> None:
    """A response that lags behind the published set is suspect."""
    number = stage.deploy({"a": 2})
    stage.wait(61)
    stage.server._strategies.clear()
    stage.server.step(number, 80.0)
    with pytest.raises(errors.SuspectSetError, match="older than the published one"):
        stage.sync()
    assert set(limits(stage.reader())) == {2}


def test_refused_completion(stage: Stage) -> None:
    """It takes nothing back: the deployment has not been ended."""
    stage.publish(many(60))
    client = stage.reader(rollout_by="key")
    content = doc(many(60, 2)) | {"flags": {}}  # definitions: only the complete set has its own
    stage.server.deploy(stage.server.put(content), LINEAR)
    stage.sync()
    stage.wait(31)
    assert set(limits(client)) == {2}
    stage.clock.advance(3_600)
    with pytest.raises(errors.RefusedSetError, match="definitions are gone"):
        stage.sync()
    stage.clock.advance(EXPIRED_S)
    assert set(limits(client)) == {2}


def test_rollback_of_many_new_flags(stage: Stage) -> None:
    """A rollback that takes back more than the guard allows to lose is no loss."""
    number = stage.deploy(many(60, 2))
    stage.wait(12)
    stage.server.stop_deployment(number)
    assert stage.sync().outcome == "published"
    assert stage.reader().keys() == ["a", "b", "gone"]


def test_damaged_flag_in_new_version(stage: Stage) -> None:
    """It is refused before anybody gets it."""
    stage.server.deploy(stage.server.put(document({"a": {"limit": 2}}, {})), LINEAR)
    with pytest.raises(errors.RefusedSetError, match=r"flags/a.* can no longer be evaluated"):
        stage.sync()


def test_rows_show_the_previous_version(stage: Stage) -> None:
    """Until the deployment is complete; no row shows a deployment."""

    def rows() -> dict[str, str]:
        found = [key for key in stage.records if key.namespace == "prod:flags"]
        return {key.key: str(stage.records[key]["item"]) for key in found}

    before = rows()
    stage.deploy({"a": 2, "added": 1})
    stage.wait(12)
    stage.sync("manual", verify=True)
    assert rows() == before
    others = {"prod:new_flags", "prod:deployments"}
    assert not {key for key in stage.records if key.namespace in others}
    stage.wait(60)
    assert rows().keys() == {"a", "added"}
    ended = Changes(removed=(("deployments", "3"), ("new_flags", "a")))
    assert plan_changes("prod", FlagSet("appconfig", {}), ended, 1).writes == ()


# -- what it costs ---------------------------------------------------------------------------------


def test_steps_cost_readers_nothing(stage: Stage) -> None:
    """Start, steps and end are in the record that a refresh reads anyway."""
    client = stage.reader()
    client.enabled("a")
    client.snapshot()
    stage.calls()
    stage.deploy({"a": 2})
    published = stage.state().published
    for _ in range(70):
        stage.wait(1)
        client.enabled("a")
        assert stage.calls() == [STATE]
    assert stage.state().published > published
    assert set(limits(client)) == {2}


def test_cold_start_during_a_deployment(stage: Stage) -> None:
    """It reads the source state as well; if that fails, it starts with the previous version."""
    stage.reader().snapshot()
    assert stage.calls() == ["read prod:$snapshot"]
    stage.deploy({"a": 2})
    stage.wait(12)
    stage.calls()
    assert abs(share(stage.reader(rollout_by="key")) - 40) < 3
    assert stage.calls() == ["read prod:$snapshot", STATE]

    def fail(call: str) -> None:
        stage.store.error = DOWN if call == STATE else None

    stage.store.on_call = fail
    client = stage.reader(rollout_by="key")
    assert (share(client), client.info().stale) == (0, True)
    stage.store.on_call, stage.store.error = lambda _call: None, None
    stage.clock.advance(EXPIRED_S)
    assert abs(share(client) - 40) < 3


def test_one_chain_of_checks(stage: Stage) -> None:
    """However often checks run, one further check is queued per minute, until the end."""
    stage.deploy({"a": 2})
    start = stage.clock.now()
    for _ in range(40):
        stage.clock.advance(15)
        stage.sync("manual")
        stage.sync("manual")
    assert len(stage.queued) == 11
    assert all(due >= (start + 60 * number) * 1000 for number, due in enumerate(stage.queued, 1))
    stage.wait(60)
    queued = len(stage.queued)
    stage.wait(2)
    assert len(stage.queued) == queued
    assert stage.state().next_check == 0


def test_check_by_another_clock(stage: Stage) -> None:
    """A check that comes seconds early is the one that is queued, since clocks differ."""
    stage.deploy({"a": 2})
    stage.clock.advance(57)
    stage.sync()
    assert len(stage.queued) == 2
    stage.clock.advance(3)
    stage.sync()
    assert len(stage.queued) == 2


def test_check_that_cannot_be_queued(stage: Stage) -> None:
    """Every further check tries again."""
    stage.queues = False
    stage.deploy({"a": 2})
    stage.sync("manual")
    assert len(stage.queued) == 2


def test_late_check_continues_the_chain(stage: Stage) -> None:
    """It is not covered by a later one, such as an operator's, that could queue no other."""
    stage.deploy({"a": 2})
    (due,) = stage.queued
    stage.clock.advance(70)
    stage.queues = False
    stage.sync("manual")
    stage.clock.advance(10)
    stage.queues = True
    assert stage.sync(sent_at=due).outcome == "unchanged"
    assert stage.state().next_check == stage.queued[-1] > due
    assert stage.sync(sent_at=due).outcome == "coalesced"


# -- what is shown ---------------------------------------------------------------------------------


def test_reasons(stage: Stage) -> None:
    """The detail, info() and the metrics show which version, and why."""
    number = stage.deploy({"a": 2})
    stage.wait(12)
    client = stage.reader(rollout_by="key")
    for each in PEOPLE[:50]:
        detail = client.detail("a", each)
        assert detail.version == detail.value["limit"] + 1
        assert detail.deployment == f"deployment {number} at 40%, by key"
    deployment = client.info().deployment
    assert deployment
    assert deployment[:4] == (number, 3, 2, 40.0)
    assert f'"ReaderNewVersion":{int(deployment.new)}' in line(client.info())
    stage.wait(60)
    detail = client.detail("a", PEOPLE[0])
    assert (detail.version, detail.deployment) == (None, "")
    assert "ReaderNewVersion" not in line(client.info())


def test_unknown_progress_is_ignored(stage: Stage) -> None:
    """The progress of a later version of flagstore, or a damaged one, is no error."""
    number = stage.deploy({"a": 2})
    stage.wait(12)
    lists = (f"[{number},{rest}]" for rest in ('"","x",2,3', '"",[],2,3', '"",1,2,"x"', '"",1,2'))
    for text in ("?", "[]", "{}", "[1]", "7", *lists):
        key = state_key("prod")
        stage.records[key] = {**stage.records[key], "deployment": text}
        client = stage.reader(rollout_by="key")
        assert share(client) == 0
        assert client.info().deployment == (number, 3, 2, 0.0, False)
        assert inspect._deployment(stage.state()) is None


@pytest.mark.parametrize(
    "deployments",
    [
        {"7": {}}, {"7": None}, {"7": []}, {"x": {"ConfigurationVersion": 2, "PreviousVersion": 1}},
        {"7": {"ConfigurationVersion": "?", "PreviousVersion": 1}},
        {"7": {"ConfigurationVersion": 2, "PreviousVersion": 1, "RemovedFlags": 5}},
    ],
)  # fmt: skip
def test_malformed_deployment_is_ignored(
    tmp_path: Path, deployments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one of a later version, or in a file: the log says so once, and nothing raises."""
    sections = {"flags": {"a": {"enabled": True}}, "new_flags": {}, "deployments": deployments}
    file = tmp_path / "flags.json"
    file.write_text(json.dumps({"provider": "appconfig", "sections": sections}))
    for by in ("", "key"):
        client = Client("prod", store=FileReader(str(file)), rollout_by=by)
        caplog.clear()
        assert [client.enabled("a", {"key": "ada"}) for _ in range(3)] == [True] * 3
        assert (client.info().deployment, client.keys()) == (None, ["a"])
        assert len(caplog.records) == 1


def test_flag_file_of_a_deployment(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set exported meanwhile is of one version: without progress, the previous one."""
    stage.deploy({"a": 2})
    stage.wait(12)
    file = tmp_path / "flags.json"
    file.write_text(json.dumps(stage.reader(rollout_by="key").snapshot().export()))
    client = Client("prod", store=FileReader(str(file)), rollout_by="key")
    assert set(limits(client)) == {1}
    assert client.keys() == ["a", "b", "gone"]
    monkeypatch.setattr(rollout, "bucket", lambda _data: 0)
    sections = stage.reader().snapshot().export()["sections"]
    assert [len(sections[name]) for name in ("flags", "new_flags", "deployments")] == [1, 0, 0]


def test_usage_is_counted_in_both_versions(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    stage.deploy({"a": 2})
    stage.wait(12)
    client = stage.reader(rollout_by="key", usage="counts")
    limits(client)
    client.flush()
    assert f'"a":[[{len(PEOPLE)},1,null]]' in capfd.readouterr().out
