"""INIT: the work of both functions while Lambda imports them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simulators.deployment import SECRET, signed
from simulators.scripted_server import Connection, ScriptedServer, http_response
from storesync import initialization
from storesync.initialization import initialize

if TYPE_CHECKING:
    from collections.abc import Iterator

SRC = Path(__file__).parents[2] / "src"
IMPORTED = "imported"
HANDLED = """\
import json, sys
from storesync.{module} import handler
print("imported", flush=True)
class Context:
    aws_request_id = "1"
    def get_remaining_time_in_millis(self):
        return 9_000
event = json.loads(sys.stdin.readline())
print(json.dumps(handler(event, Context())))
"""


class Endpoint(ScriptedServer):
    """All of AWS, as far as INIT knows it; notes each request and the connection that it took."""

    def __init__(self) -> None:
        super().__init__(self.respond)
        self.called: list[tuple[str, Connection]] = []
        self.failures = 0
        """Calls of SSM that are refused first."""

    def respond(self, connection: Connection) -> bytes:
        request = connection.request
        operation = request.headers.get("x-amz-target", "").partition(".")[2]
        self.called.append((operation or f"GET {request.path}", connection))
        if not operation:
            return http_response(404, b"{}")
        if operation == "GetParametersByPath" and self.failures:
            self.failures -= 1
            return http_response(400, b'{"__type": "AccessDeniedException"}')
        return http_response(200, json.dumps({"Parameters": PARAMETERS}).encode())

    @property
    def operations(self) -> list[str]:
        return sorted(what for what, _ in self.called)

    def connections_of(self, what: str) -> set[Connection]:
        return {connection for each, connection in self.called if each == what}


WEBHOOK = {"provider": "launchdarkly", "secrets": [SECRET]}
PARAMETERS = [{"Name": "/flagstore/webhooks/prod", "Value": json.dumps(WEBHOOK)}]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        yield server


@contextmanager
def imported(module: str, endpoint: Endpoint, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Give a process that has imported a function's module, and waits for its event."""
    environment = {
        "PYTHONPATH": str(SRC),
        "AWS_ENDPOINT_URL": endpoint.uri,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "FLAGSTORE_PARAMETER_PREFIX": "/flagstore",
        "FLAGSTORE_QUEUE_URL": f"{endpoint.uri}/queue",
        "FLAGSTORE_TABLE": "table",
        **more,
    }
    command = [sys.executable, "-c", HANDLED.format(module=module)]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        yield process


def lines_of_import(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    assert process.stdout
    found = []
    while (line := process.stdout.readline().strip()) != IMPORTED:
        assert line, process.communicate()
        found.append(json.loads(line))
    return found


def handle(process: subprocess.Popen[str], event: object) -> Any:
    out, errors = process.communicate(json.dumps(event) + "\n", timeout=30)
    assert not errors
    return json.loads(out.splitlines()[-1])


ON_LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "function"}


def test_webhook_function_is_ready_before_first_request(endpoint: Endpoint) -> None:
    """INIT reads the parameters and opens the connection to the queue."""
    with imported("webhook", endpoint, **ON_LAMBDA) as process:
        assert lines_of_import(process) == []
        assert endpoint.operations == ["GET /", "GetParametersByPath"]
        assert handle(process, signed("prod", b"{}"))["statusCode"] == 202
    assert [what for what, _ in endpoint.called[2:]] == ["SendMessageBatch"]
    assert endpoint.connections_of("SendMessageBatch") == endpoint.connections_of("GET /")


def test_sync_function_is_ready_before_first_event(endpoint: Endpoint) -> None:
    """INIT reads sources and credentials and connects to DynamoDB and SQS."""
    with imported("sync", endpoint, **ON_LAMBDA) as process:
        assert lines_of_import(process) == []
        assert endpoint.operations == [*["GET /"] * 2, *["GetParametersByPath"] * 2]
        handle(process, {"source": "prod"})
    assert endpoint.connections_of("UpdateItem") <= endpoint.connections_of("GET /")


@pytest.mark.parametrize("module", ["webhook", "sync"])
def test_import_outside_lambda(endpoint: Endpoint, module: str) -> None:
    """A command line or a test that imports a function's module makes no call."""
    with imported(module, endpoint) as process:
        assert lines_of_import(process) == []
        assert endpoint.called == []
        process.kill()


def test_failed_init(endpoint: Endpoint) -> None:
    """It is logged once, and the first request retries and is accepted."""
    endpoint.failures = 1
    with imported("webhook", endpoint, **ON_LAMBDA) as process:
        (line,) = lines_of_import(process)
        assert line["message"].startswith("INIT is incomplete")
        (problem,) = line["problems"]
        assert "AccessDenied" in problem
        assert handle(process, signed("prod", b"{}"))["statusCode"] == 202


def test_wrong_variable_does_not_stop_init(endpoint: Endpoint) -> None:
    """A function that could not be imported would report nothing useful."""
    wrong = {"FLAGSTORE_PARAMETER_PREFIX": "wrong"}
    with imported("sync", endpoint, **ON_LAMBDA, **wrong) as process:
        (line,) = lines_of_import(process)
        assert "FLAGSTORE_PARAMETER_PREFIX must start with '/'" in line["problems"][0]
        process.kill()


def test_slow_init(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent name server costs at most half of INIT's time."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "function")
    monkeypatch.setattr(initialization, "INIT_S", 0.05)
    written = io.StringIO()
    # What goes to CloudWatch: other tests' threads and settings reach what is propagated.
    monkeypatch.setattr(initialization.log.registered_handler, "stream", written)
    done, answered = threading.Event(), threading.Event()
    initialize(lambda: [lambda: answered.wait(60), done.set])
    assert not answered.is_set()
    assert done.wait(60)
    line = json.loads(written.getvalue())
    assert line["message"] == "INIT is incomplete: the first event tries again"
    assert line["problems"] == ["TimeoutError: not done within 0.05 s"]
    answered.set()
