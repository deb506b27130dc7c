"""Between a client and the stand-in for AWS: passes everything on, and notes who called what."""

from __future__ import annotations

import http.client
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .server import ProviderServer, Request, compact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICES = {"DynamoDB_20120810": "dynamodb", "AmazonSSM": "ssm", "AmazonSQS": "sqs"}
REFUSED = {"__type": "AccessDeniedException", "message": "interrupted"}
HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}
Response = tuple[int, bytes, dict[str, str]]


@dataclass(frozen=True)
class Call:
    who: str
    service: str
    operation: str
    sent: dict[str, Any]
    response: dict[str, Any]


class Recorder(ProviderServer):
    """A server in front of the stand-in, whose port *port* returns: it may start later."""

    def __init__(self, port: Callable[[], int]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.who = ""
        self._port = port

    @contextmanager
    def calling(self, who: str) -> Iterator[None]:
        self.who = who
        yield
        self.who = ""

    def of(self, who: str) -> list[Call]:
        return [call for call in self.calls if call.who == who]

    def response(self, request: Request) -> Response:
        """Return the stand-in's response."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=30)
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        service, _, operation = request.headers.get("x-amz-target", "").partition(".")
        if service in SERVICES:  # not what the stand-in asks itself
            told = json.loads(request.body), json.loads(body or b"{}")
            self.calls.append(Call(self.who, SERVICES[service], operation, *told))
        kept = {
            name.title(): text for name, text in response.getheaders() if name.lower() not in HOP
        }
        return response.status, body, {**kept, "Connection": "close"}


class Interrupter(Recorder):
    """Breaks off at one call of SSM: from then on the caller is as good as dead."""

    left: int | None = None
    """Calls until the last one that is done; None: all are."""

    def response(self, request: Request) -> Response:
        """Refuse the request if none is left."""
        if self.left == 0:
            return 400, compact(REFUSED), {"Connection": "close"}
        if self.left is not None:
            self.left -= 1
        return super().response(request)
