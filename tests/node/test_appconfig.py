"""Handlers that ask AppConfig's agent, unchanged, beside flagstore's store and no agent."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.processes import free_port
from node.processes import TIMEOUT_S, environment, node, run_tests
from rigs import DynamoRig
from simulators.appconfig import AppConfigSimulator, Strategy
from simulators.appconfig_flags import definition, document, multi_variant
from simulators.clock import FakeClock
from storesync.usage_lines import Line, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stand_in import StandIn
    from simulators.aws import Table

SRC = Path(__file__).parents[2] / "src" / "node"
AXIOS = Path(__file__).parents[1] / "e2e" / "node" / "node_modules"
PATH = "/applications/Shop/environments/production/configurations/flags"

# As in AWS' user guide and in public functions: the agent's URL is written into the handler.
PLAIN = """
const http = require("http");

function getConfiguration() {
  return new Promise((resolve, reject) => {
    const url = "http://localhost:2772PATH";
    const headers = { Context: "userId=ada,plan=pro" };
    http.get(url, { headers }, (response) => {
      let body = "";
      response.on("data", (chunk) => { body += chunk; });
      response.on("end", () => resolve(JSON.parse(body)));
    }).on("error", reject);
  });
}

exports.handler = async () => ({ statusCode: 200, body: await getConfiguration() });
"""
WITH_AXIOS = """
const axios = require("axios");

exports.handler = async () => {
  const config = await axios.get("http://localhost:2772PATH");
  return { statusCode: 200, body: config.data };
};
"""
INVOKE = """
const { handler } = require(process.argv[1]);
handler({}).then((result) => console.log(JSON.stringify(result)));
"""
PEOPLE = """
const http = require("http");
const base = process.argv[1];

async function limit(person) {
  const request = http.get(base, { headers: { "Entity-Id": person } });
  const response = await new Promise((resolve) => request.on("response", resolve));
  return JSON.parse(Buffer.concat(await response.toArray())).a.limit;
}

(async () => {
  const found = [];
  for (let number = 0; number < 500; number += 1) found.push(await limit(`user-${number}`));
  console.log(JSON.stringify(found));
})();
"""

USED = """
const http = require("http");
const base = process.argv[1];
const headers = { Context: "userId=ada,plan=pro" };

(async () => {
  for (const query of ["", "?flag=a&flag=pro", "?flag=pro", "?flag=unknown"]) {
    const response = await new Promise((resolve) => http.get(base + query, { headers }, resolve));
    await response.toArray();
  }
})();
"""


@pytest.mark.parametrize("name", ["engine", "agent", "preload"])
def test_in_node(name: str) -> None:
    """The tests of one module pass in Node.js' own test runner."""
    run_tests(f"appconfig_{name}.test.js")


class Function:
    """A function of AWS Lambda that asks at a port of its own, with flagstore's layer."""

    def __init__(self, rig: DynamoRig, server: AppConfigSimulator, folder: Path) -> None:
        self.rig = rig
        self.server = server
        self.folder = folder
        self.port = str(free_port())
        # As in a layer: the package is where its name says.
        (folder / "node_modules").mkdir()
        (folder / "node_modules" / "flagstore").symlink_to(SRC)

    def publish(self) -> None:
        self.rig.sync(options=self.server.options)

    def url(self) -> str:
        return f"http://localhost:{self.port}{PATH}"

    def run(self, code: str, argument: str, *, preload: bool = True, usage: str = "") -> str:
        script = self.folder / "node_modules" / "flagstore" / "appconfig" / "preload.js"
        store = {
            name: value
            for name, value in self.rig.environment().items()
            if name.startswith(("AWS_", "FLAGSTORE_"))
        }
        more = {
            "AWS_APPCONFIG_EXTENSION_HTTP_PORT": self.port,
            "FLAGSTORE_SOURCE": "prod",
            "FLAGSTORE_USAGE": usage,
            "NODE_PATH": str(AXIOS),
        }
        more |= {"NODE_OPTIONS": f"--require {script}"} if preload else {}
        done = subprocess.run(
            [node(), "-e", code, argument],
            env=environment(**store, **more),
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.stdout + done.stderr

    def invoke(self, handler: str, **options: Any) -> Any:
        """Run a handler of the default port, which tests may share, at this function's."""
        file = self.folder / "handler.js"
        file.write_text(handler.replace("PATH", PATH).replace("2772", self.port))
        return self.run(INVOKE, str(file), **options)


@pytest.fixture
def function(
    aws: StandIn, dynamodb_table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Function]:
    node()
    for name, value in AppConfigSimulator().environ.items():
        monkeypatch.setenv(name, value)
    with AppConfigSimulator({}) as server:
        server.checks_signatures = False
        clock = FakeClock(time.time())
        rig = DynamoRig(aws, dynamodb_table, server, clock, "appconfig")
        yield Function(rig, server, tmp_path)


def flags(limit: int) -> dict[str, Any]:
    pro = multi_variant('(eq $plan "pro")')
    values = {"a": {"enabled": True, "limit": limit}, "off": {"enabled": False}, "pro": pro}
    return document(values, dict.fromkeys(values, definition()))


def test_handler_is_unchanged(function: Function) -> None:
    """A handler that fails without the extension is answered from the store."""
    function.server.roll_out(function.server.put(flags(5)))
    function.publish()
    assert "ECONNREFUSED" in function.invoke(PLAIN, preload=False)
    expected = {
        "a": {"enabled": True, "limit": 5},
        "off": {"enabled": False},
        "pro": {"enabled": True, "limit": 0, "_variant": "Variant 0"},
    }
    assert json.loads(function.invoke(PLAIN)) == {"statusCode": 200, "body": expected}


def test_handler_with_axios_is_unchanged(function: Function) -> None:
    """So is one that asks by axios."""
    if not (AXIOS / "axios").exists():
        pytest.skip("allowed: axios is missing (run `make setup-e2e`)")
    function.server.roll_out(function.server.put(flags(6)))
    function.publish()
    body = json.loads(function.invoke(WITH_AXIOS))["body"]
    assert body["a"] == {"enabled": True, "limit": 6}
    assert body["pro"] == {"enabled": False, "_variant": "Default"}


def test_entities_during_a_deployment(function: Function) -> None:
    """The header Entity-Id has the versions that Python's reader has with `rollout_by`."""
    server = function.server
    server.roll_out(server.put(flags(1)))
    function.publish()
    number = server.deploy(server.put(flags(2)), Strategy(600, 20))
    server.step(number, 40)
    function.publish()
    found = json.loads(function.run(PEOPLE, function.url()))
    client, connection = function.rig.reader(rollout_by="key")
    people = [{"key": f"user-{number}"} for number in range(500)]
    assert found == [client.value("a", person, default={"limit": 0})["limit"] for person in people]
    assert 150 < found.count(2) < 250
    connection.close()


def test_flags_in_responses_are_counted(
    function: Function, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each flag that is answered, as Python's reader counts it."""
    monkeypatch.setattr("flagstore.usage._counters", [])
    function.server.roll_out(function.server.put(flags(1)))
    function.publish()
    (line,) = function.run(USED, function.url(), usage="counts").splitlines()
    client, connection = function.rig.reader(usage="counts")
    user = client.for_context({"userId": "ada", "plan": "pro"})
    for key in ("a", "off", "pro", "a", "pro", "pro", "unknown"):
        user.detail(key)
    capfd.readouterr()
    client.flush()
    found, ours = (parse(json.loads(text)) for text in (line, capfd.readouterr().out))
    assert isinstance(found, Line)
    assert isinstance(ours, Line)
    assert (found.provider, found.version) == ("appconfig", ours.version)
    assert found.flags == ours.flags
    assert found.total() == 6
    connection.close()
