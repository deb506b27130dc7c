"""Commands that look: status, get, history, diff, doctor. They change nothing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.keys import Key, snapshot_key
from simulators.recorder import Recorder, reply
from storesync.cli.deployment import from_stack
from storesync.cli.problems import Problem
from storesync.cli.screen import span
from storesync.sources import WEBHOOKS_AGE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Rig


# -- status ---------------------------------------------------------------------------------------


def test_status_of_a_source_in_sync(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Age, version and counts; nothing needs a person."""
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
        ({"pinned": 253_402_300_799_000}, "pinned", "until somebody unpins it"),
        ({"refused": "ab" * 32}, "refused", "storesync allow"),
        (
            {"error": '[1795000000000, "ProviderUnavailable", "no response"]'},
            "failing",
            "no response",
        ),
        ({"checked_at": 1}, "ok", "does the schedule run?"),
        ({"published": 0, "checked_at": 0}, "empty", "nothing is published"),
    ],
)
def test_what_needs_a_person_is_said(
    rig: Rig, prod: LaunchDarklySimulator, change: dict[str, Any], state: str, text: str
) -> None:
    """In a sentence with what to do; `--check` turns it into an exit code for scripts."""
    del prod
    rig.change_state(**change)
    assert rig.run("status").code == 0
    found = rig.json("status", "--check", code=10)["sources"][0]
    assert found["state"] == state
    assert text in " ".join(found["problems"])
    assert text in rig.run("status").out


def test_dead_letters_are_shown(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """With what they are."""
    del prod
    url = rig.environ["FLAGSTORE_DLQ_URL"]
    rig.aws.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    assert rig.json("status", "--check", code=10)["dlq"]["due"] == 1
    assert "failed on every try" in rig.run("status").out


@pytest.mark.parametrize("command", [("source", "list"), ("status",)])
def test_failed_reads_of_parameters_have_one_layer_of_retries(
    rig: Rig, prod: LaunchDarklySimulator, command: tuple[str, ...]
) -> None:
    """SSM's quota is the whole account's: no retry of botocore's multiplies those of flagstore."""
    del prod
    with Failing(lambda: rig.aws.port) as ssm:
        assert rig.run(*command, env={"AWS_ENDPOINT_URL_SSM": ssm.url}).code == 0
    assert len(ssm.attempts) > 1
    assert all("attempt=1" in attempt for attempt in ssm.attempts), ssm.attempts


class Failing(Recorder):
    """An SSM whose first reading of a path fails; notes which attempt each reading was."""

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


def test_one_source_in_trouble_hides_no_other(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """It gets a line that says why."""
    del prod
    rig.put_parameter("sources/broken", {"provider": "launchdarkly"})
    found = rig.json("status")["sources"]
    assert [each["source"] for each in found] == ["broken", "prod"]
    assert "credentials/broken: is missing" in found[0]["problems"][0]
    assert "cannot be read" in rig.run("status").out


# -- get ------------------------------------------------------------------------------------------


def test_get_shows_the_flag_as_readers_get_it(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The provider's JSON, and where it comes from."""
    data = rig.json("get", "prod", "new-checkout")
    assert data["item"] == prod.flags()["new-checkout"]
    assert data["origin"]["token"] == rig.state().published
    assert data["origin"]["provider"] == "launchdarkly"
    assert "from prod (launchdarkly in dynamodb)" in rig.run("get", "prod", "new-checkout").out


def test_get_says_what_a_context_gets_and_why(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """By the same evaluation as in an application."""
    prod.set_flag("new-checkout", on=True)
    rig.json("sync")
    arguments = ("get", "prod", "new-checkout", "--context")
    detail = rig.json(*arguments, '{"key": "ada"}')["detail"]
    assert (detail["value"], detail["variant"], detail["reason"]) == (True, 0, "FALLTHROUGH")
    shown = rig.run(*arguments, '{"key": "ada"}').out
    assert "value: true, enabled: true, variant: 0\nwhy: FALLTHROUGH" in shown
    assert rig.run(*arguments, "ada").code == 2


def test_get_shows_segments(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """By the name of their section."""
    key = next(iter(prod.newest()["segments"]))
    assert rig.json("get", "prod", key, "--section", "segments")["item"]["key"] == key


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("get", "prod", "nope"), 3, "no flag 'nope'"),
        (("get", "nope", "a"), 3, "there are prod"),
        (("get", "NOPE", "a"), 2, "is no name of a source"),
        (("history", "nope"), 3, "storesync source add nope"),
        (("diff", "prod", "--from", "5", "--to", "6"), 3, "does not hold version 5"),
        (("rollback", "prod", "--to", "5", "--yes"), 3, "`storesync history prod`"),
        (("rollback", "prod", "--to", "5", "--for", "tomorrow"), 2, "or forever"),
        (("rollback", "prod"), 2, "--to"),
        (("allow", "prod", "--yes"), 9, "has nothing against"),
        (("sync", "prod", "--dry-run", "--remote"), 2, "exclude each other"),
        (("sync", "prod", "--remote"), 4, "FLAGSTORE_SYNC_FUNCTION"),
        (("get", "prod", "beta", "--section=segments", "--context={}"), 2, "evaluates flags"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_what_does_not_exist(
    rig: Rig, prod: LaunchDarklySimulator, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """The exit code tells what kind of thing is wrong, the text what to do."""
    del prod
    done = rig.run(*arguments)
    assert done.code == code, done
    assert text in done.err


# -- history, diff --------------------------------------------------------------------------------


def test_history_shows_what_each_version_changed(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The newest first, and which is current."""
    prod.set_flag("new-checkout", on=True)
    prod.remove_flag("new-checkout")
    prod.set_flag("another")
    rig.json("sync")
    versions = rig.json("history", "prod")["versions"]
    assert [each["current"] for each in versions] == [True, False]
    assert versions[0]["changes"]["added"] == ["flags/another"]
    assert versions[0]["changes"]["removed"] == ["flags/new-checkout"]
    assert str(versions[0]["token"]) in rig.run("history", "prod").out


def test_diff_compares_with_the_provider_field_by_field(
    rig: Rig, prod: LaunchDarklySimulator
) -> None:
    """What was added, removed and changed since the last sync."""
    assert rig.run("diff", "prod", "--exit-code").code == 0
    prod.set_flag("new-checkout", on=True)
    prod.set_flag("another")
    data = rig.json("diff", "prod", "--exit-code", code=10)
    assert data["added"] == ["flags/another"]
    fields = {each["field"]: each for each in data["changed"]["flags/new-checkout"]}
    assert (fields["on"]["before"], fields["on"]["after"]) == (False, True)
    assert set(fields) == {"on", "version"}
    done = rig.run("diff", "prod")
    assert (done.code, "    on: false → true" in done.out) == (0, True)
    assert done.out.splitlines()[-1] == "1 added, 1 changed"


def test_diff_compares_versions(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Two of the history, or one with what is published; the provider is not asked."""
    first = rig.state().published
    prod.set_flag("new-checkout", on=True)
    rig.json("sync")
    second = str(rig.state().published)
    data = rig.json("diff", "prod", "--from", str(first))
    assert data == rig.json("diff", "prod", "--from", str(first), "--to", second)
    assert list(data["changed"]) == ["flags/new-checkout"]
    back = rig.json("diff", "prod", "--from", second, "--to", str(first))
    assert back["changed"]["flags/new-checkout"][0]["after"] is False


# -- doctor ---------------------------------------------------------------------------------------


def levels(found: list[dict[str, str]]) -> dict[str, str]:
    """Return check → level."""
    return {each["check"]: each["level"] for each in found}


def test_doctor_finds_nothing_where_all_is_well(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Every part was looked at; the webhook by a signed one that requests no sync."""
    del prod
    with rig.gateway() as url:
        rig.environ["FLAGSTORE_WEBHOOK_BASE_URL"] = url
        data = rig.json("doctor")
    assert levels(data["deployment"]) == {
        "credentials": "ok",
        "clock": "ok",
        "table": "ok",
        "queue": "ok",
        "dead letters": "ok",
    }
    assert levels(data["sources"]["prod"]) == {
        "parameters": "ok",
        "provider": "ok",
        "sync": "ok",
        "store": "ok",
        "rows": "ok",
        "webhook": "ok",
        "registration": "skipped",
    }
    assert rig.requests() == []


@pytest.mark.parametrize("method", ["authorization", "header", "url"])
def test_doctor_signs_as_each_method_wants(
    rig: Rig, unleash: UnleashSimulator, method: str
) -> None:
    """A webhook with the secret at its place is accepted."""
    environment = ("--webhook-option", "environment=production")
    more = ("--method", method, *environment, "--header", "x-secret")
    assert rig.add("u", unleash, *more).code == 0
    rig.json("sync", "u")
    rig.requests()
    with rig.gateway() as url:
        rig.environ["FLAGSTORE_WEBHOOK_BASE_URL"] = url
        assert levels(rig.json("doctor")["sources"]["u"])["webhook"] == "ok"
    assert rig.requests() == []


def test_doctor_carries_the_secret_nowhere_else(
    rig: Rig, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address of webhooks that leads on to another one is a finding, and is not followed."""
    asked = []
    response = unleash.response

    def leading_on(request: Any) -> tuple[int, bytes, dict[str, str]]:
        if request.method != "POST":
            return response(request)
        asked.append(request.path)
        return 307, b"", {"Location": f"{unleash.url}/elsewhere"}

    monkeypatch.setattr(unleash, "response", leading_on)
    rig.environ["FLAGSTORE_WEBHOOK_BASE_URL"] = f"{unleash.url}/webhooks"
    assert rig.add("u", unleash).code == 0
    assert "a signed one got 307" in rig.run("doctor").out
    assert asked == ["/webhooks/u"]


def test_doctor_says_what_to_do_about_each_finding(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Wrong key, webhook that leads nowhere, damaged snapshot record, changed row, dead letters."""
    prod.sdk_key = "revoked"
    snapshot_record = rig.record(snapshot_key("prod"))
    row = rig.record(Key("prod:features", "new-checkout"))
    assert snapshot_record
    assert row
    rig.put({**row, "item": "{}"})
    url = rig.environ["FLAGSTORE_DLQ_URL"]
    rig.aws.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    with rig.gateway() as url:
        rig.environ["FLAGSTORE_WEBHOOK_BASE_URL"] = url
    data = rig.json("doctor", code=10)
    assert levels(data["deployment"])["dead letters"] == "problem"
    found = levels(data["sources"]["prod"])
    assert {name for name, level in found.items() if level == "problem"} == {
        "provider",
        "rows",
        "webhook",
    }
    assert "source add prod --replace" in str(data["sources"]["prod"])
    every = [*data["deployment"], *data["sources"]["prod"]]
    assert all(each.get("remedy") for each in every if each["level"] == "problem")
    rig.put({**snapshot_record, "body": b"damaged"})
    shown = rig.run("doctor", "--no-probe")
    assert shown.code == 10
    assert "problem  store: the snapshot record of fencing token" in shown.out
    assert "do: `storesync sync prod --verify`" in shown.out


def test_what_doctor_finds_damaged_can_be_mended(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """At once, not with the check of every hour."""
    del prod
    row = rig.record(Key("prod:features", "new-checkout"))
    snapshot_record = rig.record(snapshot_key("prod"))
    assert row
    assert snapshot_record
    rig.put({**row, "item": "{}"})
    rig.put({**snapshot_record, "body": b"damaged"})
    assert rig.json("sync", "prod")["sources"][0]["outcome"] == "unchanged"
    assert rig.run("doctor", "--no-probe").code == 10
    assert rig.json("sync", "prod", "--verify")["sources"][0]["outcome"] == "published"
    assert rig.run("doctor", "--no-probe").code == 0


def test_doctor_knows_a_webhook_secret_that_differs(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The function holds another one than the parameter: changed a moment ago."""
    del prod
    with rig.gateway() as url:
        rig.environ["FLAGSTORE_WEBHOOK_BASE_URL"] = url
        assert levels(rig.json("doctor")["sources"]["prod"])["webhook"] == "ok"
        webhook_config = rig.parameter("webhooks/prod")
        rig.put_parameter(
            "webhooks/prod", {**webhook_config, "secrets": ["another-secret-than-before"]}
        )
        found = rig.json("doctor", code=10)["sources"]["prod"]
    (webhook,) = [each for each in found if each["check"] == "webhook"]
    assert "got 401" in webhook["what"]
    assert f"within {span(WEBHOOKS_AGE_S)}" in webhook["remedy"]


def test_doctor_looks_at_the_providers_webhook(
    rig: Rig, unleash: UnleashSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a token: missing, switched off, without some events, or as it should be."""
    there: list[dict[str, Any]] = []
    response = unleash.response

    def admin(request: Any) -> tuple[int, bytes, dict[str, str]]:
        if request.path != "/api/admin/addons":
            return response(request)
        if request.method == "POST":
            there.append({"id": 1, **json.loads(request.body)})
        return 200, json.dumps({"addons": there}).encode(), {}

    monkeypatch.setattr(unleash, "response", admin)
    token = ("--admin-token-file", rig.file("admin", "admin-token"))
    assert rig.add("u", unleash).code == 0
    rig.json("sync", "u")

    def finding(code: int, *more: str) -> tuple[str, str]:
        api = more or ("--api-url", unleash.url)
        found = rig.json("doctor", "--no-probe", *token, *api, code=code)["sources"]["u"]
        (each,) = [each for each in found if each["check"] == "registration"]
        return each["level"], each["what"]

    unnamed = rig.json("doctor", "--no-probe", *token, code=10)["sources"]["u"][-1]
    assert (unnamed["level"], unnamed["remedy"]) == ("warning", f"add --api-url {unleash.url}")
    assert finding(0, "--api-url", "http://127.0.0.1:1")[0] == "skipped"
    assert not [each for each in unleash.requests if "admin-token" in str(each.headers)]
    assert finding(10) == ("problem", "unleash has no webhook of ours")
    assert rig.add("u", unleash, "--replace", "--register", *token).code == 0
    assert finding(0)[0] == "ok"
    there[0]["events"].remove("segment-updated")
    assert finding(10) == ("warning", "the webhook leaves out segment-updated")
    there[0]["enabled"] = False
    assert finding(10) == ("problem", "the webhook is switched off")


# -- stacks ---------------------------------------------------------------------------------------

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
    """Make a stack with the outputs of ours, and wait for it."""
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
        if formation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"].endswith(
            "_COMPLETE"
        ):
            return name
        time.sleep(0.05)
    raise AssertionError(name)


def test_a_stack_says_where_everything_is(
    rig: Rig, prod: LaunchDarklySimulator, tmp_path: Path
) -> None:
    """Its outputs and parameters are enough, and win over the environment."""
    del prod, tmp_path
    name = make_stack(rig, TEMPLATE)
    there = {key: value for key, value in rig.environ.items() if not key.startswith("FLAGSTORE_")}
    rig.environ = there
    data = rig.json("status", "--stack", name)
    assert (data["deployment"], data["sources"][0]["state"]) == (f"stack {name}", "ok")
    rig.environ = there | {"FLAGSTORE_STACK": name, "FLAGSTORE_TABLE": "another"}
    assert rig.json("status")["deployment"] == f"stack {name}"


def test_a_stack_that_is_not_ours(rig: Rig) -> None:
    """Is said to be none, with what to do; so is one that does not exist."""
    done = rig.run("status", "--stack", "no-such-stack")
    assert (done.code, "no stack 'no-such-stack'" in done.err) == (3, True)
    template = {**TEMPLATE, "Outputs": {}}
    done = rig.run("status", "--stack", make_stack(rig, template))
    assert (done.code, "not one of flagstore's" in done.err) == (4, True)


def test_the_default_stack(rig: Rig) -> None:
    """Without a name and without variables it is the one that `sam deploy` makes."""
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
def test_a_variable_that_is_wrong_is_named(rig: Rig, variable: str, value: str, text: str) -> None:
    """Before anything is asked of AWS; one that is missing leads to no other deployment."""
    done = rig.run("status", env={variable: value})
    assert (done.code, text in done.err) == (4, True)


def test_what_is_no_stack_is_a_problem(rig: Rig) -> None:
    """Of the person's, who may have misspelt it."""
    with pytest.raises(Problem):
        from_stack("x", rig.aws.client("cloudformation"))
