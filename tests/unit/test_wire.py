"""The minimal HTTP client: accepted and rejected responses, and TLS verification."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from flagstore.stores.http import MAX_BODY_BYTES, Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: Chunked\r\n\r\n"


class Wire:
    """A server that reads one request a connection and responds with these bytes."""

    def __init__(self) -> None:
        self.response = b""
        self.requests: list[bytes] = []
        self.step = 0
        """Bytes that are sent at once, with a pause after them; 0: all."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65_536))
                step = self.step or len(self.response) or 1
                for at in range(0, len(self.response), step):
                    try:
                        connection.sendall(self.response[at : at + step])
                    except OSError:
                        break
                    time.sleep(0.001 if self.step else 0)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def wire() -> Iterator[Wire]:
    server = Wire()
    yield server
    server.close()


def ask(wire: Wire, **headers: str) -> tuple[int, bytes, bool]:
    """Ask once; returns status, body, and whether the connection is closed now."""
    deadline = time.monotonic() + 5
    connection = Connection("http", wire.host, deadline)
    try:
        status, body = connection.request("POST", "/path", headers, b"body", deadline)
        return status, body, connection._socket.fileno() < 0
    finally:
        connection.close()


@pytest.mark.parametrize("step", [0, 1])
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
    wire: Wire, response: bytes, status: int, body: bytes, step: int, *, closed: bool
) -> None:
    """In one piece or byte by byte."""
    wire.response, wire.step = response, step
    assert ask(wire) == (status, body, closed)


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
        OK + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
        OK + b"X: %s\r\n\r\n" % (b"x" * 200_000),
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"x" * 200_000,
        OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    ],
)
def test_invalid_responses(wire: Wire, response: bytes) -> None:
    """An error, and the connection is closed."""
    wire.response = response
    deadline = time.monotonic() + 5
    connection = Connection("http", wire.host, deadline)
    with pytest.raises(ConnectionError):
        connection.request("POST", "/", {}, b"", deadline)
    assert connection._socket.fileno() < 0


def test_request_format(wire: Wire) -> None:
    """Line, host, length, headers and body."""
    wire.response = OK + b"Content-Length: 0\r\n\r\n"
    ask(wire, **{"x-amz-date": "20261121T000000Z"})
    assert wire.requests == [
        f"POST /path HTTP/1.1\r\nhost: {wire.host}\r\nx-amz-date: 20261121T000000Z\r\n"
        "content-length: 4\r\n\r\nbody".encode()
    ]


@pytest.mark.parametrize("value", ["a\nx: y", "a\rx"])
def test_headers_cannot_smuggle_others(wire: Wire, value: str) -> None:
    """A line break in a value is refused."""
    with pytest.raises(ConnectionError, match="line break"):
        ask(wire, **{"x-amz-security-token": value})
    assert b"x: y" not in b"".join(wire.requests)
