"""AWS as a person chose it: profile, region, and how long a response is waited for."""

from __future__ import annotations

import gc
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING
from weakref import ref

from simulators.appconfig import AppConfigSimulator, rich_flags
from storesync.cli.context import Operator
from storesync.cli.screen import Screen
from tests.cli.rig import REPOSITORY

if TYPE_CHECKING:
    import pytest

    from simulators.launchdarkly import LaunchDarklySimulator
    from tests.cli.rig import Rig


def test_the_region_of_either_variable(rig: Rig) -> None:
    """AWS_REGION is enough, as with the AWS command line; boto3 alone does not know it."""
    none: dict[str, str | None] = {"AWS_DEFAULT_REGION": None, "AWS_REGION": None}
    assert rig.run("status", env=none).code == 4
    assert rig.run("status", env={**none, "AWS_REGION": "eu-west-1"}).code == 0
    assert rig.run("status", env={**none, "AWS_DEFAULT_REGION": "eu-west-1"}).code == 0


def test_appconfig_is_asked_with_the_profile_that_is_named(rig: Rig) -> None:
    """Its requests are signed with --profile and --region, whatever the variables hold."""
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
    assert "it can be read from here: 5 flags" in done.out


def test_a_function_is_waited_for_as_long_as_it_may_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest SyncTimeout of the template, while other services have to be quick."""
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)
    template = (REPOSITORY / "template.yaml").read_text(encoding="utf-8")
    allowed = re.search(r"SyncTimeout:.*?AllowedValues: \[([\d, ]+)\]", template, re.DOTALL)
    assert allowed
    operator = Operator(Screen(as_json=True), None, None, None)
    waits = operator.aws("lambda").meta.config.read_timeout
    assert waits > max(map(int, allowed[1].split(",")))
    assert operator.aws("ssm").meta.config.read_timeout < waits


def test_a_command_leaves_nothing_in_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its session and clients, some 50 MB, go with it."""
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)
    operator = Operator(Screen(as_json=True), None, None, None)
    client = ref(operator.aws("ssm"))
    del operator
    gc.collect()
    assert client() is None


def test_a_function_is_started_once(rig: Rig, prod: LaunchDarklySimulator) -> None:
    """A response that does not come may mean that it runs: it is not invoked again."""
    del prod
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
