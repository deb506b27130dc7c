"""The deployment, AWS sessions, and errors of both."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from flagstore.keys import SourceState
from simulators.appconfig import AppConfigSimulator, rich_flags
from simulators.redis_server import ADMIN, ADMIN_PASSWORD
from simulators.template import read_template
from storesync.cli.app import Operator, deployment_from_stack
from storesync.cli.screen import CommandError, Exit, Screen, to_error
from storesync.errors import ConditionFailedError
from tests.cli.rig import REPOSITORY

if TYPE_CHECKING:
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.redis_server import Server
    from tests.cli.rig import Rig

DEPLOYMENT = ("FLAGSTORE_TABLE", "FLAGSTORE_PARAMETER_PREFIX")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def test_stack_describes_the_deployment() -> None:
    """By its outputs and parameters; a stack of another application is not used."""
    template = read_template()
    stack = {
        "Outputs": [
            {"OutputKey": name, "OutputValue": f"its {name}"} for name in template["Outputs"]
        ],
        "Parameters": [
            {"ParameterKey": name, "ParameterValue": str(each["Default"])}
            for name, each in template["Parameters"].items()
        ],
    }
    formation = Mock(**{"describe_stacks.return_value": {"Stacks": [stack]}})
    found = deployment_from_stack("shop", formation)
    assert (found.name, found.prefix, found.replicas) == ("stack shop", "/flagstore", 1)
    assert found.reconcile_minutes == template["Parameters"]["ReconcileMinutes"]["Default"]
    function = found.require("FLAGSTORE_SYNC_FUNCTION")
    parts = (found.table, found.queue_url, found.dlq_url, function)
    assert parts == ("its TableName", "its QueueUrl", "its DlqUrl", "its SyncFunctionName")
    assert (found.serve_base_url, found.usage_dlq_url) == ("its ServeBaseUrl", "its UsageDlqUrl")
    stack["Outputs"] = [each for each in stack["Outputs"] if each["OutputKey"] != "ServeBaseUrl"]
    assert deployment_from_stack("shop", formation).serve_base_url == ""
    stack["Outputs"] = []
    with pytest.raises(CommandError, match="not a flagstore stack"):
        deployment_from_stack("shop", formation)


@pytest.mark.parametrize(
    ("arguments", "env", "code", "text"),
    [
        (("status", "--stack", "none"), {}, 3, "no stack 'none'"),
        (("status",), {"FLAGSTORE_STACK": "none"}, 3, "no stack 'none'"),
        (("status",), dict.fromkeys(DEPLOYMENT), 3, "no stack 'flagstore'"),
        (("status",), {"FLAGSTORE_SNAPSHOT_REPLICAS": "9"}, 4, "FLAGSTORE_SNAPSHOT_REPLICAS must"),
        (("status",), {"FLAGSTORE_PARAMETER_PREFIX": ""}, 4, "FLAGSTORE_PARAMETER_PREFIX is not"),
        (("status",), {"FLAGSTORE_PARAMETER_PREFIX": "flagstore"}, 4, "must start with '/'"),
        (("status",), {"FLAGSTORE_TABLE": ""}, 4, "FLAGSTORE_TABLE is not set"),
        (("status",), dict.fromkeys(REGIONS), 4, "--region"),
        # AWS_REGION suffices, as with the AWS command line; boto3 ignores it.
        (("status",), {**dict.fromkeys(REGIONS), "AWS_REGION": "eu-west-1"}, 0, ""),
        (("status", "--profile", "nobody"), {}, 5, "nobody"),
        (("status",), dict.fromkeys(KEYS), 5, "sign in to AWS"),
        (("status",), {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, 6, "check the network"),
        (("history", "prod"), {"FLAGSTORE_TABLE": "no-such-table"}, 3, "FLAGSTORE_TABLE"),
        (("sync", "--remote"), {"FLAGSTORE_SYNC_FUNCTION": "no-such"}, 3, "no-such"),
    ],
)
@pytest.mark.usefixtures("prod")
def test_environment(
    rig: Rig, arguments: tuple[str, ...], env: dict[str, str | None], code: int, text: str
) -> None:
    """Each error has its exit code and a message that names what to check."""
    done = rig.run(*arguments, env=env)
    assert (done.code, text in done.err) == (code, True), done


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("AccessDeniedException", Exit.DENIED),
        ("ExpiredTokenException", Exit.DENIED),
        ("ResourceNotFoundException", Exit.NOT_FOUND),
        ("ThrottlingException", Exit.UNREACHABLE),
    ],
)
def test_exit_code_of_an_aws_error(code: str, exit_code: Exit) -> None:
    """The message names the operation, so that its permission can be granted."""
    error = to_error(ClientError({"Error": {"Code": code, "Message": "no"}}, "GetItem"))
    assert (error.code, bool(error.remedy)) == (exit_code, True)
    assert "GetItem" in error.message or code == "ExpiredTokenException"


def test_failed_condition_is_the_store_s_error() -> None:
    error = ConditionFailedError(SourceState.from_record({}))
    code = "ConditionalCheckFailedException"
    error.__cause__ = ClientError({"Error": {"Code": code}}, "UpdateItem")
    assert to_error(error).code is Exit.HELD


def test_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        to_error(KeyError("x"))


def test_redis(rig: Rig, launchdarkly: LaunchDarklySimulator, redis_tls: Server) -> None:
    """It must be reachable from this machine; a variable names a private authority."""
    more = ("--store", "redis", "--no-check", "--store-url-file")
    done = rig.add("r", launchdarkly, *more, rig.file("url", "redis://127.0.0.1:1/0"))
    assert (done.code, "reachable from here" in done.err) == (6, True)
    url = rig.file("url", redis_tls.url(ADMIN, ADMIN_PASSWORD))
    done = rig.add("r", launchdarkly, *more, url)
    assert (done.code, "FLAGSTORE_REDIS_CA_FILE" in done.err) == (6, True), done
    rig.environ["FLAGSTORE_REDIS_CA_FILE"] = redis_tls.ca_file
    assert rig.add("r", launchdarkly, *more, url).code == 0
    assert rig.json("sync", "r")["sources"][0]["outcome"] == "published"


def test_profile_signs_requests_to_appconfig(rig: Rig) -> None:
    """They use --profile and --region, whatever the variables hold."""
    with AppConfigSimulator(*rich_flags(5)) as server:
        keys = f"aws_access_key_id={server.access_key}\naws_secret_access_key={server.sdk_key}\n"
        env: dict[str, str | None] = dict.fromkeys(REGIONS)
        env["AWS_SHARED_CREDENTIALS_FILE"] = rig.file("profiles", f"[ops]\n{keys}")
        options = [f"--option={name}={text}" for name, text in server.options.items()]
        add = ("source", "add", "shop", "--provider", "appconfig", *options)
        add = (*add, "--base-url", server.url, "--allow-http", "--region", "eu-west-1")
        assert rig.run(*add, env=env).code == 7
        done = rig.run(*add, "--profile", "ops", env=env)
    assert (done.code, "the provider responds: 5 flags" in done.out) == (0, True), done


def test_functions_are_invoked_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that does not respond may still be running, for the longest SyncTimeout."""
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)
    config = Operator(Screen(as_json=True), None, None, None).aws("lambda").meta.config
    assert config.retries["total_max_attempts"] == 1
    assert config.read_timeout > max(read_template()["Parameters"]["SyncTimeout"]["AllowedValues"])


def test_command_of_a_clone(rig: Rig) -> None:
    """tools/storesync works from any folder and through a link, with the error on stderr."""
    link = rig.folder / "storesync"
    link.symlink_to(REPOSITORY / "tools" / "storesync")
    done = subprocess.run(
        [link, "get", "prod", "nope", "--json"],
        env={"PATH": os.environ["PATH"], **rig.environ},
        cwd=rig.folder,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, b"")
    assert json.loads(done.stderr)["error"]["code"] == 3
