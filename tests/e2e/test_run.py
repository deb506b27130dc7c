"""`make run`: its output, its errors, and that it leaves nothing behind."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import boto3
import pytest

from local.stand_in import ACCESS_KEY_ID, DEFAULT_REGION, REPOSITORY, SECRET_ACCESS_KEY
from simulators.redis_server import MISSING
from storesync import config, providers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
    """A context manager around one run, its temporary folder and all its processes.

    Args:
        command: the command, run in the repository.
        temporary: its folder for temporary files.

    """

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
        self._family = {(self.process.pid, _processes()[self.process.pid][1])}
        self._readers = [threading.Thread(target=run) for run in (self._read, self._watch)]

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        # SIGTERM, not SIGKILL, so that a failing test leaves nothing behind either.
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        for reader in self._readers:
            reader.join(END_WITHIN_S)

    def wait(self, seconds: float = WITHIN_S) -> int:
        """Return its exit code, once all output has been read."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(END_WITHIN_S)
        return code

    def wait_for(self, text: str, seconds: float = WITHIN_S) -> None:
        """Wait until the output contains a string."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def left_behind(self) -> set[int]:
        """Return its processes that still run, after a grace period."""
        deadline = time.monotonic() + ENDING_S
        while left := self._alive():
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return left

    def _alive(self) -> set[int]:
        now = _processes()
        return {pid for pid, begun in self._family if pid in now and now[pid][1] == begun}

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as stdout:
            while character := stdout.read(1):  # a step prints its name before the line ends
                self.output += character

    def _watch(self) -> None:
        while self.process.poll() is None:
            known = {pid for pid, _ in self._family}
            for pid, (parent, begun) in sorted(_processes().items()):
                if parent in known:
                    known.add(pid)
                    self._family.add((pid, begun))
            time.sleep(0.2)


def _processes() -> dict[int, tuple[int, str]]:
    """Return all processes: id → parent and start time, since ids are reused."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,lstart="],  # noqa: S607 - wherever the system has it
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line.split(maxsplit=3) for line in listed.stdout.splitlines())
    return {
        int(pid): (int(parent), begun)
        for pid, parent, state, begun in lines
        if not state.startswith("Z")  # a zombie
    }


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
def test_run(temporary: Path) -> None:
    """Deploys, syncs, reads in another process, shows a change, and leaves nothing behind."""
    begun = time.monotonic()
    with Run(["make", "run"], temporary) as run:
        code = run.wait()
    print(f"\nmake run: {time.monotonic() - begun:.1f} s\n{run.output}")
    assert code == 0, run.output
    for line in (
        "stand-in for AWS, over TLS",
        "sam build",
        "sam deploy",
        "LaunchDarkly with 49 flags",
        "responded with 202, then published to DynamoDB",
        "responded with 401",
        "consumer | 50 flags, version ",
        "consumer | new-checkout: off",
        "consumer | new-checkout: on",
        "All of it worked",
    ):
        assert line in run.output
    assert run.output.index("new-checkout: off") < run.output.index("new-checkout: on")
    assert len(run.output.splitlines()) < 40
    assert not run.left_behind()
    assert list(temporary.iterdir()) == []


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
        assert _post(toggle[1], "", {}) == 200
        run.wait_for("consumer | new-checkout: off, version", 20)
        ca_file, url, body, name, value = by_hand.groups("")
        assert secret[1] in url + value
        assert _post(url, body, {name: value} if name else {}, ca_file) == accepted
        url, value = url.replace(secret[1], "wrong"), value.replace(secret[1], "wrong")
        assert _post(url, body, {name: value} if name else {}, ca_file) == 401
        assert aws[1].startswith("https:")
        assert plain[1].startswith("http:")
        assert _tables(aws[1], aws[2]) == _tables(plain[1], None) != []
        os.killpg(run.process.pid, signal.SIGINT)
        run.wait(END_WITHIN_S)
    assert "stopped" in run.output
    assert "Traceback" not in run.output
    assert not run.left_behind()
    assert list(temporary.iterdir()) == []


@pytest.mark.campaign
def test_run_with_redis(temporary: Path) -> None:
    """The consumer has the URL of Redis and no access to AWS; the server is stopped, too."""
    if shutil.which("redis-server") is None:
        pytest.skip(MISSING)
    with Run(["make", "run", "STORE=redis", "PROVIDER=unleash"], temporary) as run:
        code = run.wait()
    print(f"\n{run.output}")
    assert code == 0, run.output
    for line in (
        "redis-server on 127.0.0.1, with TLS",
        "Unleash with 49 flags",
        "responded with 202, then published to Redis",
        "with only the deployed layer and the URL of Redis",
        "consumer | 50 flags, version ",
        "consumer | new-checkout: off",
        "consumer | new-checkout: on",
        "All of it worked",
    ):
        assert line in run.output
    assert "DynamoDB" not in run.output
    assert len(run.output.splitlines()) < 40
    assert not run.left_behind()
    assert list(temporary.iterdir()) == []


@pytest.mark.campaign
def test_terminated_run_leaves_nothing(temporary: Path) -> None:
    """SIGTERM during the deployment stops the emulator as well."""
    with Run([sys.executable, "-m", "local.run"], temporary) as run:
        run.wait_for("sam deploy")
        run.process.terminate()
        assert run.wait(END_WITHIN_S) == 128 + signal.SIGTERM
    assert not run.left_behind()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "known"),
    [
        ("provider", "unlaesh", sorted(providers.names())),
        ("store", "rdeis", sorted(config.STORES)),
    ],
    ids=["provider", "store"],
)
def test_unknown_provider_or_store(kind: str, name: str, known: list[str]) -> None:
    """Nothing starts, and the message lists the known names."""
    message = f"make run: no {kind} {name!r}: known are {', '.join(known)}\n"
    assert _refused(f"--{kind}={name}") == (2, "", message)


def test_missing_redis_server(tmp_path: Path) -> None:
    """Nothing starts, and the message names the remedy."""
    code, output, errors = _refused("--store=redis", PATH=str(tmp_path))
    assert (code, output) == (2, "")
    assert errors == (
        "make run: STORE=redis needs redis-server, which is not on the PATH: "
        "run `make setup-e2e`, or install your distribution's redis-server\n"
    )


def test_failed_run(tmp_path: Path) -> None:
    """Names what is missing, its fix, and the log file."""
    for folder in ("local", "tests/simulators"):
        shutil.copytree(
            REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    done = subprocess.run(
        [sys.executable, "-m", "local.run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "make run failed: " in done.stdout
    assert "ministack is missing: run `make .venv-aws` first" in done.stdout
    assert ".aws-sam/run.log" in done.stdout
    assert "StandInMissingError" in (tmp_path / ".aws-sam" / "run.log").read_text("utf-8")


def _refused(argument: str, **environment: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of a run that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "local.run", argument],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


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


def _post(url: str, body: str, headers: dict[str, str], ca_file: str = "") -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    if ca_file:
        trust = ssl.create_default_context(cafile=ca_file)
        connection = http.client.HTTPSConnection(parts.netloc, timeout=10, context=trust)
    try:
        connection.request("POST", parts.path, body.encode(), headers)
        return connection.getresponse().status
    finally:
        connection.close()
