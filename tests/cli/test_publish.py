"""Commands that change what is published: sync, allow, rollback, unpin; and errors of AWS."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simulators.redis_server import ADMIN, ADMIN_PASSWORD
from storesync import sync
from storesync.cli.errors import CommandError, Exit, to_error
from storesync.cli.screen import duration, parse_duration, table
from storesync.config import SyncSettings
from storesync.model import SyncRequest
from storesync.sync import Manual
from tests.cli.rig import REPOSITORY, process

if TYPE_CHECKING:
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.redis_server import Server
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Rig


def outcome(rig: Rig, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Sync, and return the result of the only source."""
    found: dict[str, Any] = rig.json("sync", *arguments, code=code)["sources"][0]
    return found


# -- sync -----------------------------------------------------------------------------------------


def test_sync_publishes_the_providers_flags(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Counts the changes; without any, nothing is published."""
    prod.set_flag("new-checkout", on=True)
    done = outcome(rig, "prod")
    assert (done["outcome"], done["changed"]) == ("published", 1)
    assert outcome(rig, "prod")["outcome"] == "unchanged"
    assert rig.json("get", "prod", "new-checkout")["item"]["on"] is True


def test_failing_source_stops_no_other(
    rig: Rig, prod: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """The others are synced; the exit code is that of the failure."""
    assert rig.add("u", unleash).code == 0
    prod.sdk_key = "revoked"
    done = rig.run("sync", "--json")
    assert done.code == 7
    assert [each["outcome"] for each in done.json["sources"]] == ["failed", "published"]
    assert done.error["kind"] == "provider"
    assert done.error["message"].startswith("prod: ")
    assert "source add prod --replace" in done.error["remedy"]


@pytest.mark.usefixtures("prod")
def test_remote_sync_of_a_missing_function(rig: Rig) -> None:
    """The error names the function."""
    done = rig.run("sync", "--remote", env={"FLAGSTORE_SYNC_FUNCTION": "no-such-function"})
    assert (done.code, "no-such-function" in done.err) == (3, True)


# -- allow ----------------------------------------------------------------------------------------


@pytest.fixture
def shrunk(prod: LaunchDarklySimulator) -> LaunchDarklySimulator:
    """Give a provider that has lost most of its flags."""
    for key in list(prod.flags())[3:]:
        prod.remove_flag(key)
    return prod


def test_refused_set_is_published_once_allowed(rig: Rig, shrunk: LaunchDarklySimulator) -> None:
    """The refusal names the remedy; `allow` shows what would be lost, and asks."""
    done = rig.run("sync", "prod")
    assert (done.code, "`storesync allow prod`" in done.err) == (8, True)
    assert "SyncFunction" not in done.err
    assert rig.run("allow", "prod").code == 2
    done = rig.run("allow", "prod", "--yes")
    assert done.code == 0, done
    assert done.err.count("- flags/") == 28
    assert rig.json("status")["sources"][0]["counts"]["flags"] == len(shrunk.flags()) == 3
    assert rig.json("history", "prod")["versions"][0]["allowed"]


def test_allow_publishes_only_the_named_set(rig: Rig, shrunk: LaunchDarklySimulator) -> None:
    """After another change at the provider, its new set has to be named by 12 characters."""
    assert rig.run("allow", "prod", "--yes").code == 9
    assert rig.run("sync", "prod").code == 8
    shrunk.remove_flag(next(iter(shrunk.flags())))
    done = rig.run("allow", "prod", "--yes")
    assert done.code == 9
    named = re.search(r"storesync allow prod ([0-9a-f]{12})`", done.err)
    assert named
    assert rig.run("allow", "prod", named[1][:11], "--yes").code == 9
    assert rig.run("allow", "prod", named[1], "--yes").code == 0


# -- rollback, unpin ------------------------------------------------------------------------------


def test_rollback_pins_for_an_hour(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """It shows the changes and asks; while pinned, a sync publishes nothing."""
    first = str(rig.state().published)
    prod.set_flag("new-checkout", on=True)
    outcome(rig)
    assert rig.run("rollback", "prod", "--to", first).code == 2
    done = rig.run("rollback", "prod", "--to", first, "--yes")
    assert done.code == 0, done
    assert "~ flags/new-checkout\n1 changed" in done.err
    assert "storesync unpin prod" in done.out
    left = rig.state().pinned / 1000 - time.time()
    assert 3_500 < left <= 3_600
    assert rig.json("get", "prod", "new-checkout")["item"]["on"] is False
    assert rig.json("status")["sources"][0]["state"] == "pinned"
    assert "pinned until" in rig.run("history", "prod").out
    assert outcome(rig, code=9)["outcome"] == "pinned"


@pytest.mark.usefixtures("prod")
def test_duration_of_a_pin(rig: Rig) -> None:
    """A duration, or forever."""
    first = str(rig.state().published)
    rig.json("rollback", "prod", "--to", first, "--for", "2d", "--yes")
    assert rig.state().pinned / 1000 - time.time() > 2 * 86_400 - 100
    rig.json("rollback", "prod", "--to", first, "--for", "forever", "--yes")
    assert "until it is unpinned" in rig.run("status").out


def test_unpin_requests_a_sync(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The next sync publishes the provider's flags; a second unpin does nothing."""
    first = str(rig.state().published)
    prod.set_flag("new-checkout", on=True)
    outcome(rig)
    rig.json("rollback", "prod", "--to", first, "--yes")
    done = rig.json("unpin", "prod")
    assert (done["was_pinned"], done["requested"]) == (True, True)
    assert [request["source"] for request in rig.requests()] == ["prod"]
    assert outcome(rig)["outcome"] == "published"
    assert rig.json("get", "prod", "new-checkout")["item"]["on"] is True
    assert rig.json("unpin", "prod") == {"source": "prod", "was_pinned": False, "requested": False}
    assert rig.requests() == []


@pytest.mark.usefixtures("prod")
def test_unpin_without_a_queue(rig: Rig) -> None:
    """Names the command that publishes instead."""
    del rig.environ["FLAGSTORE_QUEUE_URL"]
    rig.json("rollback", "prod", "--to", str(rig.state().published), "--yes")
    assert "storesync sync prod" in rig.run("unpin", "prod").out


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "env", "code", "text"),
    [
        (("status",), {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, 6, "cannot be reached"),
        (
            ("status",),
            {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
            5,
            "sign in to AWS",
        ),
        (("status", "--profile", "nobody"), {}, 5, "nobody"),
        (("status",), {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}, 4, "--region"),
        (("history", "prod"), {"FLAGSTORE_TABLE": "no-such-table"}, 3, "FLAGSTORE_TABLE"),
    ],
)
@pytest.mark.usefixtures("prod")
def test_error_of_the_environment(
    rig: Rig, arguments: tuple[str, ...], env: dict[str, str | None], code: int, text: str
) -> None:
    """Each has its exit code and a message that names what to check."""
    done = rig.run(*arguments, env=env)
    assert (done.code, text in done.err) == (code, True)


def test_unreachable_redis(rig: Rig, launchdarkly: LaunchDarklySimulator) -> None:
    """The error suggests to check that the store is reachable from this machine."""
    url = rig.file("url", "redis://127.0.0.1:1/0")
    done = rig.add("r", launchdarkly, "--store", "redis", "--store-url-file", url, "--no-check")
    assert (done.code, "reachable from this machine" in done.err) == (6, True)


def test_redis_with_a_private_authority(
    rig: Rig,
    launchdarkly: LaunchDarklySimulator,
    redis_tls: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is trusted by the file of the variable, or the one packed with SyncFunction."""
    url = rig.file("url", redis_tls.url(ADMIN, ADMIN_PASSWORD))
    more = ("--store", "redis", "--store-url-file", url, "--no-check")
    done = rig.add("r", launchdarkly, *more)
    assert (done.code, "FLAGSTORE_REDIS_CA_FILE" in done.err) == (6, True), done
    rig.environ["FLAGSTORE_REDIS_CA_FILE"] = redis_tls.ca_file
    assert rig.add("r", launchdarkly, *more).code == 0
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sync, "REDIS_CA_FILE", Path(redis_tls.ca_file))
    syncer = sync.Syncer(SyncSettings.from_env(os.environ))
    assert (
        syncer.manual(Manual(SyncRequest("r", trigger="manual")), 60.0).to_json()["outcome"]
        == "published"
    )
    assert rig.json("status", "r")["sources"][0]["state"] == "ok"


def aws_error(code: str, operation: str = "GetItem") -> Exception:
    """Return the exception of botocore for a response with this code."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("AccessDeniedException", Exit.DENIED),
        ("ExpiredTokenException", Exit.DENIED),
        ("UnrecognizedClientException", Exit.DENIED),
        ("ResourceNotFoundException", Exit.NOT_FOUND),
        ("ThrottlingException", Exit.UNREACHABLE),
        ("InternalServerError", Exit.UNREACHABLE),
    ],
)
def test_exit_code_of_an_aws_error(code: str, exit_code: Exit) -> None:
    """The message names the operation, so that its permission can be granted."""
    error = to_error(aws_error(code))
    assert isinstance(error, CommandError)
    assert error.code is exit_code
    assert error.remedy
    if code == "AccessDeniedException":
        assert "GetItem" in error.message


def test_bug_keeps_its_traceback() -> None:
    """It is not turned into an error with a remedy."""
    assert to_error(KeyError("x")) is None


# -- as a process ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("prod")
def test_streams_of_a_process(rig: Rig) -> None:
    """With --json, the result is on stdout and the error on stderr."""
    done = process(rig, "status", "--json")
    assert (done.returncode, json.loads(done.stdout)["sources"][0]["state"]) == (0, "ok")
    assert done.stderr == ""
    done = process(rig, "get", "prod", "nope", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert json.loads(done.stderr)["error"]["code"] == 3


def test_command_of_a_clone(rig: Rig) -> None:
    """tools/storesync works from any folder, and through a symbolic link."""
    link = rig.folder / "storesync"
    link.symlink_to(REPOSITORY / "tools" / "storesync")
    done = subprocess.run(
        [link, "status", "--stack", "none"],
        env={"PATH": os.environ["PATH"], **rig.environ},
        cwd=rig.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "no stack 'none'" in done.stderr) == (3, True)


# -- small parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min"), (5_400, "90 min"), (7_200, "2 h"), (200_000, "2 d")],
)
def test_duration_has_one_unit(seconds: float, text: str) -> None:
    """The largest unit that fits is used."""
    assert duration(seconds) == text


@pytest.mark.parametrize("text", ["", "1", "h", "0h", "-1h", "1.5h", "1w"])
def test_invalid_duration(text: str) -> None:
    """The error shows valid ones."""
    with pytest.raises(ValueError, match="30m, 1h or 2d"):
        parse_duration(text)


def test_table_columns() -> None:
    """Numbers are aligned right, texts left, without trailing spaces."""
    assert table(("NAME", "N"), [("a", 1), ("bcdef", 100)]) == [
        "NAME     N",
        "─────  ───",
        "a        1",
        "bcdef  100",
    ]
