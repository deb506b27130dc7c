"""The minimal HTTP client: accepted and rejected responses, and TLS verification."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from flagstore.stores.http import MAX_RESPONSE_BYTES, Connection
from simulators.scripted_server import ScriptedServer, in_steps, then_closed

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: Chunked\r\n\r\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(OK + b"Content-Length: 0\r\n\r\n", http=False) as server:
        yield server


def ask(server: ScriptedServer, **headers: str) -> tuple[int, bytes, bool]:
    """Ask once; return status, body, and whether the connection is closed now."""
    deadline = time.monotonic() + 5
    with closing(Connection("http", f"127.0.0.1:{server.port}", deadline)) as connection:
        status, body = connection.request("POST", "/path", headers, b"body", deadline)
        return status, body, connection._socket.fileno() < 0


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("response", "status", "body", "closed"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", False),
        (OK + b"content-length:5\r\n\r\nhello", 200, b"hello", False),
        (OK + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello", 200, b"hello", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", True),
        (b"HTTP/1.1 503\r\nContent-Length: 2\r\n\r\nno", 503, b"no", False),
        (CHUNKED + b"5\r\nhello\r\n6;x=1\r\n world\r\n0\r\n\r\n", 200, b"hello world", False),
        (CHUNKED + b"A\r\n0123456789\r\n0\r\nX: y\r\n\r\n", 200, b"0123456789", False),
    ],
)
def test_valid_responses(
    server: ScriptedServer, response: bytes, status: int, body: bytes, *, split: bool, closed: bool
) -> None:
    server.default = in_steps(response, 1) if split else response
    assert ask(server) == (status, body, closed)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        OK,
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        OK + b"\r\nall until the end",
        OK + b"Content-Length: 9\r\n\r\nhello",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 0_5\r\n\r\nhello",
        OK + b"Content-Length: %d\r\n\r\n" % (MAX_RESPONSE_BYTES + 1),
        OK + b"X: %s\r\n\r\n" % (b"x" * 200_000),
        OK + b"X: y\r\n" * (MAX_RESPONSE_BYTES // 6) + b"Content-Length: 0\r\n\r\n",
        CHUNKED + b"1\r\nx\r\n" * (MAX_RESPONSE_BYTES // 6) + b"0\r\n\r\n",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"x" * 200_000,
        OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    ],
)
def test_invalid_responses(server: ScriptedServer, response: bytes) -> None:
    server.default = then_closed(response)
    deadline = time.monotonic() + 5
    connection = Connection("http", f"127.0.0.1:{server.port}", deadline)
    with pytest.raises(ConnectionError):
        connection.request("POST", "/", {}, b"", deadline)
    assert connection._socket.fileno() < 0


def test_request_format(server: ScriptedServer) -> None:
    ask(server, **{"x-amz-date": "20261121T000000Z"})
    assert server.requests[0].body == (
        f"POST /path HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nx-amz-date: 20261121T000000Z\r\n"
        "content-length: 4\r\n\r\nbody".encode()
    )


@pytest.mark.parametrize("value", ["a\nx: y", "a\rx"])
def test_headers_cannot_smuggle_others(server: ScriptedServer, value: str) -> None:
    with pytest.raises(ConnectionError, match="line break"):
        ask(server, **{"x-amz-security-token": value})
    assert not server.requests
