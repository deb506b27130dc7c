"""A TCP server whose responses a test scripts: it plays DynamoDB, Redis, or any HTTP endpoint."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    type Play = bytes | Callable[["Connection"], bytes | None]
    """Bytes to send, or a function that acts on the connection and may return some; b"" closes."""

CUT = b""


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Connection:
    request: Request

    def __init__(self, server: ScriptedServer, sock: socket.socket) -> None:
        self.server, self.sock = server, sock
        self.open = True

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        self.open = False
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class ScriptedServer:
    """Plays what is due for each request, or else the default."""

    def __init__(
        self, default: Play, *, http: bool = True, tls: ssl.SSLContext | None = None
    ) -> None:
        self.default = default
        self.due: list[Play] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.ending = threading.Event()
        self._http, self._tls = http, tls
        self._open: list[Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(5)

    def drop_connections(self) -> None:
        while self._open:
            self._open.pop().close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection = Connection(self, sock)
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        with connection.sock, suppress(OSError):
            if self._tls:
                connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
            with connection.sock, connection.sock.makefile("rb") as stream:
                while connection.open and self._receive(connection, stream):
                    play = self.due.pop(0) if self.due else self.default
                    data = play(connection) if callable(play) else play
                    if data == CUT:
                        connection.close()
                    elif data:
                        connection.send(data)

    def _receive(self, connection: Connection, stream: BinaryIO) -> bool:
        method, path, headers = "", "", {}
        if self._http:
            method, _, path = stream.readline().decode().rpartition(" ")[0].partition(" ")
            while line := stream.readline().strip().decode():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", 0)))
        else:
            body = connection.sock.recv(1_000_000)
        connection.request = Request(method, path, headers, body)
        if method or body:
            self.requests.append(connection.request)
        return bool(method or body)


def http_response(status: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %d Played\r\nContent-Length: %d\r\n\r\n%b" % (status, size, body)


def then_closed(data: bytes) -> Play:
    def play(connection: Connection) -> None:
        connection.send(data)
        connection.close()

    return play


def late(seconds: float, data: bytes) -> Play:
    """Send a response some seconds late; at the server's end at the latest."""

    def play(connection: Connection) -> bytes:
        connection.server.ending.wait(seconds)
        return data

    return play


def in_steps(data: bytes, step: int) -> Play:
    def play(connection: Connection) -> None:
        for at in range(0, len(data), step):
            connection.send(data[at : at + step])

    return play
