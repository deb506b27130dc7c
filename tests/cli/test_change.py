"""Commands that change what is published: sync, allow, rollback, unpin."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simulators.redis_server import ADMIN, ADMIN_PASSWORD
from storesync import sync
from storesync.cli.problems import Exit, Problem, judge
from storesync.cli.screen import seconds_of, span, table
from storesync.events import Manual
from storesync.model import SyncRequest
from storesync.settings import SyncSettings
from tests.cli.rig import REPOSITORY, process

if TYPE_CHECKING:
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.redis_server import Server
    from simulators.unleash import UnleashSimulator
    from tests.cli.rig import Rig


def outcome(rig: Rig, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Sync, and return how the one source ended."""
    found: dict[str, Any] = rig.json("sync", *arguments, code=code)["sources"][0]
    return found


# -- sync -----------------------------------------------------------------------------------------


def test_sync_publishes_what_the_provider_has(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """And says what changed; a second time there is nothing to do."""
    prod.set_flag("new-checkout", on=True)
    done = outcome(rig, "prod")
    assert (done["outcome"], done["changed"]) == ("published", 1)
    assert outcome(rig, "prod")["outcome"] == "unchanged"
    assert rig.json("get", "prod", "new-checkout")["item"]["on"] is True


def test_a_dry_run_writes_nothing(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Not even a fencing token is issued."""
    assert outcome(rig, "--dry-run")["outcome"] == "unchanged"
    prod.set_flag("new-checkout", on=True)
    before = rig.state()
    done = outcome(rig, "prod", "--dry-run")
    assert (done["outcome"], done["names"]["changed"]) == (
        "would be published",
        ["flags/new-checkout"],
    )
    assert rig.state() == before
    assert "~ flags/new-checkout" in rig.run("sync", "--dry-run").out


def test_a_failing_source_stops_no_other(
    rig: Rig, prod: LaunchDarklySimulator, unleash: UnleashSimulator
) -> None:
    """The others are synced; the exit code is that of the failure."""
    assert rig.add("u", unleash).code == 0
    prod.sdk_key = "revoked"
    done = rig.run("sync", "--json")
    assert done.code == 7
    assert [each["outcome"] for each in done.json["sources"]] == ["failed", "published"]
    assert done.error["kind"] == "provider"
    assert done.error["what"].startswith("prod: ")
    assert "source add prod --replace" in done.error["remedy"]


def test_sync_leaves_it_to_the_function(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """With --remote; a function that is not there is named."""
    del prod
    done = rig.run("sync", "--remote", env={"FLAGSTORE_SYNC_FUNCTION": "no-such-function"})
    assert (done.code, "no-such-function" in done.err) == (3, True)


# -- allow ----------------------------------------------------------------------------------------


@pytest.fixture
def shrunk(prod: LaunchDarklySimulator) -> LaunchDarklySimulator:
    """Give a provider that has lost most of its flags."""
    for key in list(prod.flags())[3:]:
        prod.remove_flag(key)
    return prod


def test_a_set_that_shrank_is_refused_until_it_is_allowed(
    rig: Rig, shrunk: LaunchDarklySimulator
) -> None:
    """The refusal says what to do; allowing shows what is lost, and asks."""
    done = rig.run("sync", "prod")
    assert (done.code, "`storesync allow prod`" in done.err) == (8, True)
    assert "SyncFunction" not in done.err
    assert outcome(rig, "--dry-run", code=8)["outcome"] == "would be refused"
    assert rig.run("allow", "prod").code == 2
    done = rig.run("allow", "prod", "--yes")
    assert done.code == 0, done
    assert done.err.count("- flags/") == 28
    assert rig.json("status")["sources"][0]["counts"]["flags"] == len(shrunk.flags()) == 3
    assert rig.json("history", "prod")["versions"][0]["allowed"]


def test_only_the_very_set_is_allowed(rig: Rig, shrunk: LaunchDarklySimulator) -> None:
    """If the provider has another one by now, nothing is done until that one is named."""
    assert rig.run("sync", "prod").code == 8
    shrunk.remove_flag(next(iter(shrunk.flags())))
    done = rig.run("allow", "prod", "--yes")
    assert done.code == 9
    digest = outcome(rig, "--dry-run", code=8)["digest"]
    assert digest[:12] in done.err
    assert rig.run("allow", "prod", digest[:11], "--yes").code == 9
    assert rig.run("allow", "prod", digest[:12], "--yes").code == 0


def test_a_set_that_was_never_refused_has_to_be_named(
    rig: Rig, shrunk: LaunchDarklySimulator
) -> None:
    """Whoever allows has seen a refusal, or the digest."""
    del shrunk
    assert rig.run("allow", "prod", "--yes").code == 9


# -- rollback, unpin ------------------------------------------------------------------------------


def test_a_rollback_pins_for_an_hour(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """It shows what changes, asks, and tells until when; it shows in every status."""
    first = str(rig.state().published)
    prod.set_flag("new-checkout", on=True)
    outcome(rig)
    assert rig.run("rollback", "prod", "--to", first).code == 2
    done = rig.run("rollback", "prod", "--to", first, "--yes")
    assert done.code == 0, done
    assert "    on: true → false" in done.err
    assert "storesync unpin prod" in done.out
    left = rig.state().pinned / 1000 - time.time()
    assert 3_500 < left <= 3_600
    assert rig.json("get", "prod", "new-checkout")["item"]["on"] is False
    assert rig.json("status")["sources"][0]["state"] == "pinned"
    assert "pinned until" in rig.run("history", "prod").out
    assert outcome(rig, code=9)["outcome"] == "pinned"
    assert outcome(rig, "--dry-run", code=9)["outcome"] == "would be held back by a pin"


def test_a_pin_can_last_as_long_as_is_said(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """A time, or for ever."""
    del prod
    first = str(rig.state().published)
    rig.json("rollback", "prod", "--to", first, "--for", "2d", "--yes")
    assert rig.state().pinned / 1000 - time.time() > 2 * 86_400 - 100
    rig.json("rollback", "prod", "--to", first, "--for", "forever", "--yes")
    assert "until somebody unpins it" in rig.run("status").out


def test_unpin_ends_the_pin_and_requests(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The sync request brings what the provider has; a second time there is nothing to do."""
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


def test_without_a_queue_unpin_says_how_to_go_on(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Nobody was rung."""
    del prod
    del rig.environ["FLAGSTORE_QUEUE_URL"]
    rig.json("rollback", "prod", "--to", str(rig.state().published), "--yes")
    assert "storesync sync prod" in rig.run("unpin", "prod").out


# -- what goes wrong outside ----------------------------------------------------------------------


def test_aws_out_of_reach(rig: Rig) -> None:
    """Says so, with what to look at."""
    done = rig.run("status", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    assert (done.code, "cannot be reached" in done.err) == (6, True)


def test_no_credentials(rig: Rig) -> None:
    """Says how to get some."""
    none = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    done = rig.run("status", env=none)
    assert (done.code, "sign in to AWS" in done.err) == (5, True)
    done = rig.run("status", "--profile", "nobody")
    assert (done.code, "nobody" in done.err) == (5, True)


def test_no_region(rig: Rig) -> None:
    """Says which option and variable name one."""
    none = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}
    done = rig.run("status", env=none)
    assert (done.code, "--region" in done.err) == (4, True)


def test_a_table_that_is_not_there(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """The store is named as what is missing."""
    del prod
    done = rig.run("history", "prod", env={"FLAGSTORE_TABLE": "no-such-table"})
    assert (done.code, "FLAGSTORE_TABLE" in done.err) == (3, True)


def test_a_redis_out_of_reach(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """A store that cannot be reached from this machine is said to be so."""
    url = rig.file("url", "redis://127.0.0.1:1/0")
    more = ("--store", "redis", "--store-url-file", url, "--no-check")
    done = rig.add("r", prod, *more)
    assert (done.code, "reached from here" in done.err) == (6, True)


def test_a_redis_with_a_private_authority(
    rig: Rig, prod: LaunchDarklySimulator, redis_tls: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is trusted by the file that is named, or packed with SyncFunction, and not without it."""
    url = rig.file("url", redis_tls.url(ADMIN, ADMIN_PASSWORD))
    more = ("--store", "redis", "--store-url-file", url, "--no-check")
    done = rig.add("r", prod, *more)
    assert (done.code, "FLAGSTORE_REDIS_CA_FILE" in done.err) == (6, True), done
    rig.environ["FLAGSTORE_REDIS_CA_FILE"] = redis_tls.ca_file
    assert rig.add("r", prod, *more).code == 0
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
    """Return what botocore raises when AWS responds with that code."""
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
def test_every_response_of_aws_has_its_exit_code(code: str, exit_code: Exit) -> None:
    """With the operation, so that whoever grants rights knows which; and with what to do."""
    problem = judge(aws_error(code))
    assert isinstance(problem, Problem)
    assert problem.code is exit_code
    assert problem.remedy
    if code == "AccessDeniedException":
        assert "GetItem" in problem.what


def test_a_fault_of_ours_is_no_problem_of_the_persons() -> None:
    """It ends with its traceback and 1, not with a remedy."""
    assert judge(KeyError("x")) is None


# -- as people run it -----------------------------------------------------------------------------


def test_the_command_in_a_process_of_its_own(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """Exit code, result on stdout, errors on stderr, also as JSON."""
    del prod
    done = process(rig, "status", "--json")
    assert (done.returncode, json.loads(done.stdout)["sources"][0]["state"]) == (0, "ok")
    assert done.stderr == ""
    done = process(rig, "get", "prod", "nope", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert json.loads(done.stderr)["error"]["code"] == 3


def test_the_command_in_a_clone(rig: Rig) -> None:
    """tools/storesync finds its packages from any folder, also through a link."""
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
def test_spans_are_short(seconds: float, text: str) -> None:
    """One number and one unit."""
    assert span(seconds) == text


@pytest.mark.parametrize("text", ["", "1", "h", "0h", "-1h", "1.5h", "1w"])
def test_what_is_no_time(text: str) -> None:
    """Is refused with how to write one."""
    with pytest.raises(ValueError, match="30m, 1h or 2d"):
        seconds_of(text)


def test_tables_are_as_wide_as_they_need_to_be() -> None:
    """Numbers stand to the right, texts to the left, and no line ends with spaces."""
    assert table(("NAME", "N"), [("a", 1), ("bcdef", 100)]) == [
        "NAME     N",
        "─────  ───",
        "a        1",
        "bcdef  100",
    ]
