"""ServeFunction's app in this process, and a server in front, like API Gateway's HTTP API."""

from __future__ import annotations

import base64
import gzip
import http.server
import json
import os
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from flagserve import runtime, usage
from flagserve.access import ClientKeys
from flagserve.app import PREFLIGHTS, ROUTES, App
from flagstore.errors import StoreUnavailableError
from simulators.reader_rig import Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FEATURES, FRONTEND = "GET /api/client/features", "GET /api/frontend"
FLAG, FLAGS = "POST /ofrep/v1/evaluate/flags/{key+}", "POST /ofrep/v1/evaluate/flags"
EVALX = "GET /sdk/evalx/{environment}/contexts/{context}"
EVALX_REPORT = "ANY /sdk/evalx/{environment}/context"
SECRET, OLD, PAGE = "canary-server-secret-1", "canary-server-secret-0", "canary-browser-secret"
ORIGIN = "https://shop.example"
KEYS: dict[str, Any] = {
    "service": {"source": "prod", "kind": "server", "secrets": [SECRET, OLD]},
    "page": {
        "source": "prod",
        "kind": "browser",
        "secrets": [PAGE],
        "origins": [ORIGIN],
        "flags": ["main", "checkout.*", "by-segment", "variants"],
    },
}


@contextmanager
def opened(environ: Mapping[str, str]) -> Iterator[App]:
    """Start the function's app with these variables; close its connections at the end."""
    app = runtime.open_app(environ)
    app.start()
    try:
        yield app
    finally:
        parts: Any = app
        parts._keys._read._transport.close()
        for client in parts._client._made.values():
            client.close()


def routed(method: str, path: str) -> tuple[str, dict[str, str]]:
    """Return the key of the route that API Gateway chooses, and the parameters of the path."""
    routes = sorted((*ROUTES, *PREFLIGHTS), key=lambda each: (each[:3] == "ANY", each.count("{")))
    for route in routes:
        verb, _, pattern = route.partition(" ")
        names = re.sub(r"{(\w+)(\+?)}", _group, pattern)
        found = re.fullmatch(names, path)
        if found and verb in {method, "ANY"}:
            return route, {name: unquote(value) for name, value in found.groupdict().items()}
    return f"{method} {path}", {}


def _group(parameter: re.Match[str]) -> str:
    return f"(?P<{parameter[1]}>{'.+' if parameter[2] else '[^/]+'})"


def ask(app: App, route: str, secret: str, body: object = None) -> tuple[int, Any]:
    """Send a request; return the response's status and JSON."""
    event = {"routeKey": route, "headers": {"authorization": secret}}
    response = app.respond(event if body is None else {**event, "body": json.dumps(body)})
    return response["statusCode"], json.loads(text_of(response) or "null")


def text_of(response: Mapping[str, Any]) -> str:
    """Return a response's body as text, whether it is compressed or not."""
    body: str = response.get("body") or ""
    if response.get("isBase64Encoded"):
        return gzip.decompress(base64.b64decode(body)).decode()
    return body


def read(response: Mapping[str, Any]) -> tuple[int, Any, dict[str, str]]:
    """Return status, JSON and headers of a response."""
    body = text_of(response)
    return response["statusCode"], json.loads(body) if body else None, response["headers"]


class Serving:
    """An app on a source in memory, with its keys, its log and its clock."""

    def __init__(
        self,
        flags: Mapping[str, Any] | None = None,
        segments: Mapping[str, Any] | None = None,
        *,
        keys: Mapping[str, Any] = KEYS,
        provider: str = "unleash",
    ) -> None:
        """Publish these flags; None publishes nothing."""
        self.rig = Rig(provider=provider)
        if flags is not None:
            meta = {"version": 2, "query": {"environment": "production"}}
            self.rig.publish(dict(flags), meta, segments=dict(segments or {}))
        self.keys, self.log = dict(keys), list[str]()
        self.reads, self.down = list[float](), False
        """Seconds that each read of the keys was given."""
        self.printed: list[bytes] = []
        """Usage lines."""
        self.app = self.cold()

    def cold(self) -> App:
        client = self.rig.another()
        keys = ClientKeys(self._read, self.log.append, self.rig.mono.monotonic)
        log, usage_of = self.log.append, self._print_usage
        return App(keys, lambda _: client, log, usage_of, self.rig.wall.now)

    def _print_usage(self, *of: Any) -> None:
        for line in usage.lines(*of, 1_795_874_500, os.urandom):
            self.printed.append(line)

    def respond(self, event: Mapping[str, Any]) -> dict[str, Any]:
        return self.app.respond(event)

    def send(
        self,
        route: str,
        secret: str = "",
        body: object = None,
        query: str = "",
        parameters: Mapping[str, str] | None = None,
        **headers: str,
    ) -> tuple[int, Any, dict[str, str]]:
        """Send a request; return status, JSON and headers of the response."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        http = {"sourceIp": "198.51.100.7", "method": route.partition(" ")[0]}
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": route,
            "rawQueryString": query,
            "headers": given | ({"authorization": secret} if secret else {}),
            "pathParameters": dict(parameters or {}),
            "requestContext": {"http": http},
        }
        if route.startswith("ANY"):
            http["method"] = "REPORT"
        if body is not None:
            event["body"] = json.dumps(body)
        return read(self.respond(event))

    def _read(self, deadline: float) -> dict[str, str]:
        self.reads.append(round(deadline - self.rig.mono.monotonic(), 6))
        if self.down:
            raise StoreUnavailableError("SSM is down")
        return {name: json.dumps(value) for name, value in self.keys.items()}


class ManyClients(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100  # an SDK may open a connection for each flag at once


class Gateway:
    """An HTTP API: requests become events (payload 2.0), and results responses."""

    def __init__(self, respond: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        self.seen: list[tuple[str, int]] = []
        """Route and status of each request."""
        self._respond = respond
        self._one_at_a_time = threading.Lock()
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                gateway._serve(self)

            do_POST = do_OPTIONS = do_REPORT = do_GET  # noqa: N815 - the names that http.server looks for
            do_PUT = do_PATCH = do_DELETE = do_TRACE = do_QUERY = do_GET  # noqa: N815 - the same

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ManyClients(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def statuses(self, route: str) -> list[int]:
        return [status for seen, status in self.seen if seen == route]

    def _serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        route, parameters = routed(request.command, path)
        body = request.rfile.read(int(request.headers.get("content-length", "0")))
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": route,
            "rawPath": path,
            "pathParameters": parameters,
            "rawQueryString": query,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "requestContext": {"http": {"method": request.command, "sourceIp": "127.0.0.1"}},
            "isBase64Encoded": bool(body),
        }
        if body:
            event["body"] = base64.b64encode(body).decode()
        with self._one_at_a_time:  # as an environment of Lambda
            response = self._respond(event)
        self.seen.append((route, response["statusCode"]))
        content = (response.get("body") or "").encode()
        if response.get("isBase64Encoded"):
            content = base64.b64decode(content)
        request.send_response(response["statusCode"])
        for name, value in response["headers"].items():
            request.send_header(name, value)
        if response["statusCode"] not in (204, 304):
            request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
