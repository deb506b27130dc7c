"""INIT: the work of both functions while Lambda imports them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simulators.deployment import SECRET, signed
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


class Endpoint(ThreadingHTTPServer):
    """All of AWS, as far as INIT knows it; notes each request and the connection that it took."""

    daemon_threads = True

    def __init__(self) -> None:
        endpoint = self
        self.requests: list[tuple[str, int]] = []
        self.failures = 0
        """Calls of SSM that are refused first."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                endpoint.note(self, "GET /")
                self.reply(404, {})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                _, _, operation = self.headers["x-amz-target"].partition(".")
                endpoint.note(self, operation)
                if operation == "GetParametersByPath" and endpoint.failures:
                    endpoint.failures -= 1
                    self.reply(400, {"__type": "AccessDeniedException"})
                else:
                    self.reply(200, {"Parameters": PARAMETERS})

            def reply(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)

    def note(self, handler: BaseHTTPRequestHandler, what: str) -> None:
        """Note a request."""
        self.requests.append((what, handler.client_address[1]))

    def connections(self, what: str) -> set[int]:
        """Return the connections that requests of one kind took."""
        return {connection for each, connection in self.requests if each == what}


WEBHOOK = {"provider": "launchdarkly", "secrets": [SECRET]}
PARAMETERS = [{"Name": "/flagstore/webhooks/prod", "Value": json.dumps(WEBHOOK)}]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Give an endpoint of AWS."""
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def imported(module: str, endpoint: Endpoint, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Give a process that has imported a function's module, and waits for its event."""
    environment = {
        "PYTHONPATH": str(SRC),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{endpoint.server_address[1]}",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "FLAGSTORE_PARAMETER_PREFIX": "/flagstore",
        "FLAGSTORE_QUEUE_URL": f"http://127.0.0.1:{endpoint.server_address[1]}/queue",
        "FLAGSTORE_TABLE": "table",
        **more,
    }
    command = [sys.executable, "-c", HANDLED.format(module=module)]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        yield process


def lines_of_import(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Return what a process logs while it imports."""
    assert process.stdout
    found = []
    while (line := process.stdout.readline().strip()) != IMPORTED:
        assert line, process.communicate()
        found.append(json.loads(line))
    return found


def handle(process: subprocess.Popen[str], event: object) -> Any:
    """Hand over the event; return what the function returns."""
    out, errors = process.communicate(json.dumps(event) + "\n", timeout=30)
    assert not errors
    return json.loads(out.splitlines()[-1])


ON_LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "function"}


def test_webhook_function_is_ready_before_first_request(endpoint: Endpoint) -> None:
    """INIT reads the parameters and opens the connection to the queue."""
    with imported("webhook", endpoint, **ON_LAMBDA) as process:
        assert lines_of_import(process) == []
        assert sorted(what for what, _ in endpoint.requests) == ["GET /", "GetParametersByPath"]
        body = b'{"kind": "flag"}'
        assert handle(process, signed("prod", body))["statusCode"] == 202
    assert [what for what, _ in endpoint.requests[2:]] == ["SendMessage"]
    assert endpoint.connections("SendMessage") == endpoint.connections("GET /")


def test_sync_function_is_ready_before_first_event(endpoint: Endpoint) -> None:
    """INIT reads sources and credentials and connects to DynamoDB and SQS."""
    with imported("sync", endpoint, **ON_LAMBDA) as process:
        assert lines_of_import(process) == []
        begun = [what for what, _ in endpoint.requests]
        assert sorted(begun) == ["GET /", "GET /", *["GetParametersByPath"] * 2]
        handle(process, {"source": "prod"})
    assert len(endpoint.requests) > len(begun)
    assert endpoint.connections("UpdateItem") <= endpoint.connections("GET /")


@pytest.mark.parametrize("module", ["webhook", "sync"])
def test_import_outside_lambda(endpoint: Endpoint, module: str) -> None:
    """A command line or a test that imports a function's module makes no call."""
    with imported(module, endpoint) as process:
        assert lines_of_import(process) == []
        assert endpoint.requests == []
        process.kill()


def test_failed_init(endpoint: Endpoint) -> None:
    """It is logged once, and the first request retries and is accepted."""
    endpoint.failures = 1
    with imported("webhook", endpoint, **ON_LAMBDA) as process:
        (line,) = lines_of_import(process)
        assert line["message"].startswith("INIT is incomplete")
        (problem,) = line["problems"]
        assert "AccessDenied" in problem
        assert handle(process, signed("prod", b'{"kind": "flag"}'))["statusCode"] == 202


@pytest.mark.parametrize("module", ["webhook", "sync"])
def test_wrong_variable_does_not_stop_init(endpoint: Endpoint, module: str) -> None:
    """A function that could not be imported would report nothing useful."""
    wrong = {"FLAGSTORE_PARAMETER_PREFIX": "wrong"}
    with imported(module, endpoint, **ON_LAMBDA, **wrong) as process:
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
    assert line["problems"] == ["not done within 0.05 s"]
    answered.set()
