"""`make run`: its output, its errors, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
import pytest
import requests

from local.stand_in import ACCESS_KEY_ID, DEFAULT_REGION, REPOSITORY, SECRET_ACCESS_KEY
from sdks.processes import needs_node
from simulators.redis_server import MISSING
from storesync import config_json, providers

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.e2e

WITHIN_S = 240.0
"""For a run that builds first, on a busy machine."""
END_WITHIN_S = 20.0
ENDING_S = 5.0
NEEDED = (".venv", ".venv-sam", ".venv-aws")
CURL = re.compile(r"curl -i --cacert (\S+) \\\s+(\S+) -d '(.*)'(?: \\\s+-H '([\w-]+): (.*)')?")
AWS = re.compile(r"AWS_ENDPOINT_URL=(\S+) AWS_CA_BUNDLE=(\S+)")
PLAIN = re.compile(r"The same without TLS: AWS_ENDPOINT_URL=(\S+)")


class Run:
    """A context manager around a command in the repository, and all its processes."""

    def __init__(self, command: Sequence[str], temporary: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**environment, "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # one group, as for Ctrl-C in a terminal
        )
        self.output = ""
        self._temporary = temporary
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        # SIGTERM, not SIGKILL, so that a failing test leaves nothing behind either.
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        self._reader.join(END_WITHIN_S)

    def wait(self, seconds: float = WITHIN_S) -> int:
        """Return its exit code, once all output has been read; no file or process may be left."""
        code = self.process.wait(seconds)
        self._reader.join(END_WITHIN_S)
        deadline = time.monotonic() + ENDING_S
        while left := self._running():
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        assert list(self._temporary.iterdir()) == []
        return code

    def wait_for(self, text: str, seconds: float = WITHIN_S) -> None:
        """Wait until the output contains a string."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def _running(self) -> list[str]:
        """Return its processes that still run: each has the temporary folder in its environment."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if str(self._temporary).encode() in path.read_bytes():
                    found.append(path.parent.name)
        return found

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as stdout:
            while character := stdout.read(1):  # a step prints its name before the line ends
                self.output += character


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Return an empty folder for temporary files; skip if something is not installed."""
    for environment in NEEDED:
        if not (REPOSITORY / environment / ".ready").exists():
            pytest.skip(f"{environment} is missing: run `make setup`")
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            [],
            [
                "emulator of AWS, over TLS",
                "sam build",
                "sam deploy",
                "LaunchDarkly with 49 flags",
                "responded with 202, then published to DynamoDB",
                "responded with 401",
                "LaunchDarkly has counted",
            ],
        ),
        (
            ["STORE=redis", "PROVIDER=unleash"],
            [
                "redis-server on 127.0.0.1, with TLS",
                "Unleash with 49 flags",
                "responded with 202, then published to Redis",
                "with only the deployed layer and the URL of Redis",
                "Unleash has counted",
            ],
        ),
        (
            ["PROVIDER=appconfig"],
            [
                "AWS AppConfig with 49 flags",
                "it is at 40%                 consumer | new-checkout is on for ",
                "an alarm has rolled it back  consumer | new-checkout is on for 0 of 1000 users",
            ],
        ),
        (
            ["SERVE=1"],
            [
                "Unleash with 49 flags",
                "with UnleashClient, which knows only a URL and a key",
                "flags, from https://",
            ],
        ),
        (
            ["LANGUAGE=node"],
            ["with only examples/node/launchdarkly-layer.mjs, the deployed layer and Flag"],
        ),
        (
            ["LANGUAGE=node", "STORE=redis", "PROVIDER=split"],
            ["with only examples/node/split-redis.mjs and the URL of Redis"],
        ),
    ],
)
def test_run(temporary: Path, options: list[str], expected: list[str]) -> None:
    """Deploys, syncs, reads in another process, shows a change, and leaves nothing behind."""
    if "STORE=redis" in options and shutil.which("redis-server") is None:
        pytest.skip(MISSING)
    if "LANGUAGE=node" in options:
        needs_node()
    with Run(["make", "run", *options], temporary) as run:
        code = run.wait()
    assert code == 0, run.output
    start = "in Node.js v" if "LANGUAGE=node" in options else "consumer | 50 flags, "
    change = [start, "consumer | new-checkout: off"]
    for line in (*expected, *change, "consumer | new-checkout: on", "All of it worked"):
        assert line in run.output
    assert run.output.index("new-checkout: off") < run.output.index("new-checkout: on")
    assert ("DynamoDB" in run.output) is ("STORE=redis" not in options)
    assert len(run.output.splitlines()) < 40


@pytest.mark.campaign
@pytest.mark.parametrize(("provider", "accepted"), [("unleash", 202), ("split", 200)])
def test_kept_run(temporary: Path, provider: str, accepted: int) -> None:
    """The commands that it prints work, until Ctrl-C ends everything."""
    with Run(["make", "run", "KEEP=1", f"PROVIDER={provider}"], temporary) as run:
        run.wait_for("Ctrl-C ends it")
        assert f"responded with {accepted}, then published" in run.output
        toggle = re.search(r"curl -X POST (\S+)", run.output)
        by_hand = CURL.search(run.output)
        secret = re.search(r"the secret is (\w+)", run.output)
        aws, plain = AWS.search(run.output), PLAIN.search(run.output)
        assert toggle
        assert by_hand
        assert secret
        assert aws
        assert plain
        assert requests.post(toggle[1], timeout=10).status_code == 200
        run.wait_for("consumer | new-checkout: off, version", 20)
        ca_file, url, body, name, value = by_hand.groups("")
        assert secret[1] in url + value
        for given, status in ((secret[1], accepted), ("wrong", 401)):
            headers = {name: value.replace(secret[1], given)} if name else {}
            to = url.replace(secret[1], given)
            response = requests.post(to, body, headers=headers, verify=ca_file, timeout=10)
            assert response.status_code == status
        assert (aws[1][:6], plain[1][:5]) == ("https:", "http:")
        assert _tables(aws[1], aws[2]) == _tables(plain[1], None) != []
        os.killpg(run.process.pid, signal.SIGINT)
        run.wait(END_WITHIN_S)
    assert "stopped" in run.output
    assert "Traceback" not in run.output


def _tables(endpoint: str, ca_file: str | None) -> list[str]:
    """Return the names of the tables of a stand-in."""
    client = boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        verify=ca_file,
        region_name=DEFAULT_REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
    )
    return client.list_tables()["TableNames"]


@pytest.mark.campaign
def test_terminated_run_leaves_nothing(temporary: Path) -> None:
    """SIGTERM during the deployment stops the emulator as well."""
    with Run([sys.executable, "-m", "local.run"], temporary) as run:
        run.wait_for("sam deploy")
        assert run._running()
        run.process.terminate()
        assert run.wait(END_WITHIN_S) == 128 + signal.SIGTERM


PROVIDERS, STORES = (", ".join(sorted(names)) for names in (providers.names(), config_json.STORES))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--provider=unlaesh", f"no provider 'unlaesh': use one of {PROVIDERS}"),
        ("--store=rdeis", f"no store 'rdeis': use one of {STORES}"),
        ("--language=nodejs", "no language 'nodejs': use one of node, python"),
        (
            "--language=node --provider=unleash --store=redis",
            (
                "LANGUAGE=node has no handler for PROVIDER=unleash STORE=redis: "
                "docs/other-languages.md lists what there is"
            ),
        ),
        (
            "--language=node",
            "LANGUAGE=node needs Node.js and the providers' SDKs: run `make setup-node`",
        ),
        (
            "--store=redis",
            (
                "STORE=redis needs redis-server, which is not on the PATH: "
                "run `make setup-e2e`, or install your distribution's redis-server"
            ),
        ),
    ],
)
def test_refused_run(tmp_path: Path, argument: str, message: str) -> None:
    """Nothing starts, and the message lists the known names or the remedy."""
    env = {**os.environ, "PATH": str(tmp_path)}
    done = local_run(*argument.split(), cwd=uninstalled(tmp_path), env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"make run: {message}\n"


def test_failed_run(tmp_path: Path) -> None:
    """Names what is missing, its fix, and the log file."""
    done = local_run(cwd=uninstalled(tmp_path))
    assert done.returncode == 1
    assert "make run failed: " in done.stdout
    assert "ministack is missing: run `make .venv-aws` first" in done.stdout
    assert ".aws-sam/run.log" in done.stdout
    assert "StandInMissingError" in (tmp_path / ".aws-sam" / "run.log").read_text("utf-8")


def uninstalled(folder: Path) -> Path:
    """Copy what a run needs into a folder, except what `make setup` installs; return the folder."""
    ignore = shutil.ignore_patterns("__pycache__")
    for each in ("examples/node", "local", "tests/simulators"):
        shutil.copytree(REPOSITORY / each, folder / each, ignore=ignore)
    return folder


def local_run(
    *arguments: str, cwd: Path = REPOSITORY, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Start a run that will end by itself."""
    command = [sys.executable, "-m", "local.run", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False
    )
