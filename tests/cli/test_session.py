"""AWS sessions: profile, region, time-outs and retries."""

from __future__ import annotations

import gc
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING
from weakref import ref

import pytest

from simulators.appconfig import AppConfigSimulator, rich_flags
from storesync.cli.context import Operator
from storesync.cli.screen import Screen
from tests.cli.rig import REPOSITORY

if TYPE_CHECKING:
    from tests.cli.rig import Rig


def test_region_variables(rig: Rig) -> None:
    """AWS_REGION suffices, as with the AWS command line; boto3 ignores it."""
    none: dict[str, str | None] = {"AWS_DEFAULT_REGION": None, "AWS_REGION": None}
    assert rig.run("status", env=none).code == 4
    assert rig.run("status", env={**none, "AWS_REGION": "eu-west-1"}).code == 0
    assert rig.run("status", env={**none, "AWS_DEFAULT_REGION": "eu-west-1"}).code == 0


def test_profile_signs_requests_to_appconfig(rig: Rig) -> None:
    """They use --profile and --region, whatever the variables hold."""
    with AppConfigSimulator(*rich_flags(5)) as server:
        keys = f"aws_access_key_id={server.access_key}\naws_secret_access_key={server.sdk_key}\n"
        env: dict[str, str | None] = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None}
        env["AWS_SHARED_CREDENTIALS_FILE"] = rig.file("profiles", f"[ops]\n{keys}")
        options = [f"--option={name}={text}" for name, text in server.options.items()]
        add = ("source", "add", "shop", "--provider", "appconfig", *options)
        add = (*add, "--base-url", server.url, "--allow-http", "--region", "eu-west-1")
        assert rig.run(*add, env=env).code == 7
        done = rig.run(*add, "--profile", "ops", env=env)
    assert done.code == 0, done
    assert "the provider responds: 5 flags" in done.out


def test_read_timeout_exceeds_sync_timeout(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """For Lambda it exceeds the longest SyncTimeout; other services must respond sooner."""
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)
    template = (REPOSITORY / "template.yaml").read_text(encoding="utf-8")
    allowed = re.search(r"SyncTimeout:.*?AllowedValues: \[([\d, ]+)\]", template, re.DOTALL)
    assert allowed
    operator = Operator(Screen(as_json=True), None, None, None)
    waits = operator.aws("lambda").meta.config.read_timeout
    assert waits > max(map(int, allowed[1].split(",")))
    assert operator.aws("ssm").meta.config.read_timeout < waits


def test_finished_command_frees_its_clients(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session and its clients take about 50 MB."""
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)
    operator = Operator(Screen(as_json=True), None, None, None)
    client = ref(operator.aws("ssm"))
    del operator
    gc.collect()
    assert client() is None


@pytest.mark.usefixtures("prod")
def test_function_is_invoked_once(rig: Rig) -> None:
    """A function that does not respond may still be running."""
    calls = []

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            calls.append(self.path)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Silent)
    thread = Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        env: dict[str, str | None] = {"FLAGSTORE_SYNC_FUNCTION": "sync"}
        done = rig.run("sync", "--remote", env=env | {"AWS_ENDPOINT_URL_LAMBDA": url})
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (done.code, len(calls)) == (6, 1)
