"""Commands that change nothing: status, get, history, diff; and where the deployment is read."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from simulators.recorder import Recorder, reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    from simulators.launchdarkly import LaunchDarklySimulator
    from tests.cli.rig import Rig

pytestmark = pytest.mark.usefixtures("prod")


# -- status ---------------------------------------------------------------------------------------


def test_status_of_a_synced_source(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Shows its age, version and counts, and no problems."""
    data = rig.json("status", "--check")
    (found,) = data["sources"]
    assert found["counts"] == {"flags": 31, "segments": len(prod.newest()["segments"])}
    assert found["published"] == rig.state().published
    assert (found["state"], found["problems"]) == ("ok", [])
    assert 0 <= found["age_s"] < 60
    assert data["queue"] == data["dlq"] == {"due": 0, "delayed": 0, "in_flight": 0}
    lines = rig.run("status").out.splitlines()
    assert lines[0].split()[:3] == ["SOURCE", "PROVIDER", "STORE"]
    assert lines[2].split()[:3] == ["prod", "launchdarkly", "dynamodb"]


@pytest.mark.parametrize(
    ("change", "state", "text"),
    [
        ({"pinned": 4_000_000_000_000}, "pinned", "kill switches"),
        ({"pinned": 253_402_300_799_000}, "pinned", "until it is unpinned"),
        ({"refused": "ab" * 32}, "refused", "storesync allow"),
        ({"error": '[1795000000000, "ProviderUnavailable", "down"]'}, "failing", "down"),
        ({"checked_at": 1}, "ok", "the schedule is enabled"),
        ({"published": 0, "checked_at": 0}, "empty", "nothing is published"),
    ],
)
def test_status_problems(rig: Rig, change: dict[str, Any], state: str, text: str) -> None:
    """Each is a sentence with its remedy; `--check` turns it into exit code 10."""
    rig.change_state(**change)
    assert rig.run("status").code == 0
    found = rig.json("status", "--check", code=10)["sources"][0]
    assert found["state"] == state
    assert text in " ".join(found["problems"])
    assert text in rig.run("status").out


def test_status_shows_dead_letters(rig: Rig) -> None:
    """Sync requests that failed on every try are a finding."""
    url = rig.environ["FLAGSTORE_DLQ_URL"]
    rig.aws.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    assert rig.json("status", "--check", code=10)["dlq"]["due"] == 1
    assert "failed on every try" in rig.run("status").out


def test_status_of_a_misconfigured_source_hides_no_other(rig: Rig) -> None:
    """Its line names the parameter that is wrong."""
    rig.put_parameter("sources/broken", {"provider": "launchdarkly"})
    found = rig.json("status")["sources"]
    assert [each["source"] for each in found] == ["broken", "prod"]
    assert "credentials/broken: is missing" in found[0]["problems"][0]
    assert "unreadable" in rig.run("status").out


class FailingOnce(Recorder):
    """An SSM whose first GetParametersByPath fails. Records the attempt number of each."""

    def __init__(self, port: Callable[[], int]) -> None:
        super().__init__(port)
        self.attempts: list[str] = []

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        if not handler.headers["x-amz-target"].endswith("GetParametersByPath"):
            super()._pass_on(handler)
            return
        self.attempts.append(handler.headers["amz-sdk-request"])
        if len(self.attempts) > 1:
            super()._pass_on(handler)
            return
        handler.rfile.read(int(handler.headers["content-length"]))
        reply(handler, 500, [], b'{"__type": "InternalServerError"}')


@pytest.mark.parametrize("command", [("source", "list"), ("status",)])
def test_parameters_are_retried_by_one_layer(rig: Rig, command: tuple[str, ...]) -> None:
    """The SSM quota is shared by the account: botocore's retries do not multiply flagstore's."""
    with FailingOnce(lambda: rig.aws.port) as ssm:
        assert rig.run(*command, env={"AWS_ENDPOINT_URL_SSM": ssm.url}).code == 0
    assert len(ssm.attempts) > 1
    assert all("attempt=1" in attempt for attempt in ssm.attempts), ssm.attempts


# -- get ------------------------------------------------------------------------------------------


def test_get_shows_the_flag_as_published(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Prints the provider's JSON and its version."""
    data = rig.json("get", "prod", "new-checkout")
    assert data["item"] == prod.flags()["new-checkout"]
    assert data["origin"]["token"] == rig.state().published
    assert "from prod (launchdarkly in dynamodb)" in rig.run("get", "prod", "new-checkout").out
    key = next(iter(prod.newest()["segments"]))
    assert rig.json("get", "prod", key, "--section", "segments")["item"]["key"] == key


def test_get_evaluates_a_context(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Uses the evaluation of the reader library, and shows the reason."""
    prod.set_flag("new-checkout", on=True)
    rig.json("sync")
    arguments = ("get", "prod", "new-checkout", "--context")
    detail = rig.json(*arguments, '{"key": "ada"}')["detail"]
    assert (detail["value"], detail["variant"], detail["reason"]) == (True, 0, "FALLTHROUGH")
    shown = rig.run(*arguments, '{"key": "ada"}').out
    assert "value: true, enabled: true, variant: 0\nreason: FALLTHROUGH" in shown
    assert rig.run(*arguments, "ada").code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("get", "prod", "nope"), 3, "no flag 'nope'"),
        (("get", "nope", "a"), 3, "the sources are prod"),
        (("get", "NOPE", "a"), 2, "NOPE"),
        (("history", "nope"), 3, "storesync source add nope"),
        (("diff", "prod", "--from", "5", "--to", "6"), 3, "does not hold version 5"),
        (("rollback", "prod", "--to", "5", "--yes"), 3, "`storesync history prod`"),
        (("rollback", "prod", "--to", "5", "--for", "tomorrow"), 2, "or forever"),
        (("rollback", "prod"), 2, "--to"),
        (("allow", "prod", "--yes"), 9, "no refused flag set"),
        (("sync", "prod", "--verify", "--remote"), 2, "cannot be combined"),
        (("sync", "prod", "--remote"), 4, "FLAGSTORE_SYNC_FUNCTION"),
        (("get", "prod", "beta", "--section=segments", "--context={}"), 2, "evaluates flags"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_wrong_arguments(rig: Rig, arguments: tuple[str, ...], code: int, text: str) -> None:
    """The exit code is the kind of error, and the message has the remedy."""
    done = rig.run(*arguments)
    assert done.code == code, done
    assert text in done.err


# -- history, diff --------------------------------------------------------------------------------


def test_history_shows_the_changes_of_each_version(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The newest comes first, and the current one is marked."""
    prod.set_flag("new-checkout", on=True)
    prod.remove_flag("new-checkout")
    prod.set_flag("another")
    rig.json("sync")
    versions = rig.json("history", "prod")["versions"]
    assert [each["current"] for each in versions] == [True, False]
    assert versions[0]["changes"]["added"] == ["flags/another"]
    assert versions[0]["changes"]["removed"] == ["flags/new-checkout"]
    assert str(versions[0]["token"]) in rig.run("history", "prod").out


def test_diff_with_the_provider(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Names added and changed items, and prints both JSONs of a changed one."""
    assert rig.run("diff", "prod", "--exit-code").code == 0
    prod.set_flag("new-checkout", on=True)
    prod.set_flag("another")
    data = rig.json("diff", "prod", "--exit-code", code=10)
    assert data["added"] == ["flags/another"]
    (both,) = data["changed"].values()
    assert (both["before"]["on"], both["after"]["on"]) == (False, True)
    done = rig.run("diff", "prod")
    assert (done.code, '    after: {"key": "new-checkout", "on": true' in done.out) == (0, True)
    assert done.out.splitlines()[-1] == "1 added, 1 changed"


def test_diff_of_two_versions(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Both come from the history, or `--to` is what is published; the provider is not called."""
    first = rig.state().published
    prod.set_flag("new-checkout", on=True)
    rig.json("sync")
    second = str(rig.state().published)
    prod.requests.clear()
    data = rig.json("diff", "prod", "--from", str(first))
    assert data == rig.json("diff", "prod", "--from", str(first), "--to", second)
    assert list(data["changed"]) == ["flags/new-checkout"]
    back = rig.json("diff", "prod", "--from", second, "--to", str(first))
    assert back["changed"]["flags/new-checkout"]["after"]["on"] is False
    assert prod.requests == []


# -- the deployment -------------------------------------------------------------------------------

TEMPLATE = {
    "Parameters": {
        "ParameterPrefix": {"Type": "String", "Default": "/flagstore"},
        "SnapshotReplicas": {"Type": "Number", "Default": 1},
        "Table": {"Type": "String"},
    },
    "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}, "Dlq": {"Type": "AWS::SQS::Queue"}},
    "Outputs": {
        "TableName": {"Value": {"Ref": "Table"}},
        "QueueUrl": {"Value": {"Ref": "Queue"}},
        "DlqUrl": {"Value": {"Ref": "Dlq"}},
        "WebhookBaseUrl": {"Value": "https://webhooks.example/webhooks"},
        "SyncFunctionName": {"Value": "sync"},
    },
}


def make_stack(rig: Rig, template: dict[str, Any]) -> str:
    """Create a stack with flagstore's outputs, and wait for it."""
    formation, name = rig.aws.client("cloudformation"), f"stack-{rig.name}"
    given = {"ParameterPrefix": rig.prefix, "Table": rig.environ["FLAGSTORE_TABLE"]}
    formation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(template),
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in given.items()
            if key in template["Parameters"]
        ],
    )
    for _ in range(100):
        status = formation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        if status.endswith("_COMPLETE"):
            return name
        time.sleep(0.05)
    raise AssertionError(name)


def test_stack_describes_the_deployment(rig: Rig) -> None:
    """Its outputs and parameters suffice, and take precedence over other variables."""
    name = make_stack(rig, TEMPLATE)
    rest = {key: value for key, value in rig.environ.items() if not key.startswith("FLAGSTORE_")}
    rig.environ = rest
    data = rig.json("status", "--stack", name)
    assert (data["deployment"], data["sources"][0]["state"]) == (f"stack {name}", "ok")
    rig.environ = rest | {"FLAGSTORE_STACK": name, "FLAGSTORE_TABLE": "another"}
    assert rig.json("status")["deployment"] == f"stack {name}"


def test_wrong_stack(rig: Rig) -> None:
    """One that does not exist is not found; one of another application is not used."""
    done = rig.run("status", "--stack", "no-such-stack")
    assert (done.code, "no stack 'no-such-stack'" in done.err) == (3, True)
    done = rig.run("status", "--stack", make_stack(rig, {**TEMPLATE, "Outputs": {}}))
    assert (done.code, "not a flagstore stack" in done.err) == (4, True)


def test_default_stack(rig: Rig) -> None:
    """Without a name and without variables it is the one that `sam deploy` creates."""
    for variable in ("FLAGSTORE_TABLE", "FLAGSTORE_PARAMETER_PREFIX"):
        del rig.environ[variable]
    assert "no stack 'flagstore'" in rig.run("status").err


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("FLAGSTORE_SNAPSHOT_REPLICAS", "many", "FLAGSTORE_SNAPSHOT_REPLICAS must be"),
        ("FLAGSTORE_PARAMETER_PREFIX", "", "FLAGSTORE_PARAMETER_PREFIX is not set"),
        ("FLAGSTORE_PARAMETER_PREFIX", "flagstore", "must start with '/'"),
        ("FLAGSTORE_PARAMETER_PREFIX", "/flagstore/", "not end with it"),
        ("FLAGSTORE_TABLE", "", "FLAGSTORE_TABLE is not set"),
    ],
)
def test_wrong_variable(rig: Rig, variable: str, value: str, text: str) -> None:
    """It is named; a missing one does not lead to the default stack."""
    done = rig.run("status", env={variable: value})
    assert (done.code, text in done.err) == (4, True)
