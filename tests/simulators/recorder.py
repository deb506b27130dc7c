"""Between a client and the stand-in for AWS: passes everything on, and notes who called what."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICES = {"DynamoDB_20120810": "dynamodb", "AmazonSSM": "ssm", "AmazonSQS": "sqs"}
REFUSED = 400, [], b'{"__type": "AccessDeniedException", "message": "interrupted"}'
HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Call:
    """One call of an API with JSON, and its response."""

    who: str
    """As the recorder was told."""
    service: str
    operation: str
    sent: dict[str, Any]
    response: dict[str, Any]


class Recorder:
    """A context manager: a server on 127.0.0.1 in front of another one.

    Args:
        port: returns the port of the stand-in, which may start later.

    """

    def __init__(self, port: Callable[[], int]) -> None:
        self.calls: list[Call] = []
        self.who = ""
        self._port = port
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                recorder._pass_on(self)

            do_GET = do_POST  # noqa: N815 - the name that http.server looks for

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def calling(self, who: str) -> Iterator[None]:
        self.who = who
        yield
        self.who = ""

    def of(self, who: str) -> list[Call]:
        return [call for call in self.calls if call.who == who]

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        reply(handler, *self._forward(handler))

    def _forward(self, handler: BaseHTTPRequestHandler) -> tuple[int, list[tuple[str, str]], bytes]:
        sent = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        target = handler.headers.get("x-amz-target", "")
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=30)
        try:
            connection.request(handler.command, handler.path, sent, dict(handler.headers.items()))
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        service, _, operation = target.partition(".")
        if service in SERVICES:  # not what the stand-in asks itself
            told = json.loads(sent), json.loads(body or b"{}")
            self.calls.append(Call(self.who, SERVICES[service], operation, *told))
        return response.status, response.getheaders(), body


class Interrupter(Recorder):
    """Breaks off at one call of SSM: from then on the caller is as good as dead."""

    left: int | None = None
    """Calls until the last one that is done; None: all are."""

    def _pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        if self.left is None:
            super()._pass_on(handler)
        elif self.left:
            self.left -= 1
            super()._pass_on(handler)
        else:
            handler.rfile.read(int(handler.headers.get("content-length", 0)))
            reply(handler, *REFUSED)


def reply(
    handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    handler.send_response(status)
    for name, value in headers:
        if name.lower() not in HOP:
            handler.send_header(name, value)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
