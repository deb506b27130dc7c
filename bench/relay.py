"""Stands between a reader and a store, and counts requests and bytes."""

from __future__ import annotations

import re
import socket
import threading
from typing import NamedTuple, Self

READ = 65_536
OPERATION = re.compile(rb"x-amz-target: DynamoDB_\d+\.(\w+)", re.IGNORECASE)


class Counted(NamedTuple):
    """What went through since the last count."""

    calls: tuple[str, ...]
    sent: int
    received: int
    """Bytes of the store's answers, HTTP headers included."""

    def __str__(self) -> str:
        names = sorted(set(self.calls))
        calls = " + ".join(f"{self.calls.count(name)} {name}" for name in names) or "no call"
        return f"{calls}, {self.received:,} B"


class Relay:
    """A context manager around a port that leads to another one of this machine."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._calls: list[str] = []
        self._sent = self._received = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def count(self) -> Counted:
        """Return what went through since the last count."""
        with self._lock:
            found = Counted(tuple(self._calls), self._sent, self._received)
            self._calls, self._sent, self._received = [], 0, 0
        return found

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            store = socket.create_connection(("127.0.0.1", self._target))
            for ends in ((client, store, True), (store, client, False)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, up: bool) -> None:  # noqa: FBT001 - of a thread
        rest = b""
        while True:
            try:
                data = source.recv(READ)
            except OSError:
                data = b""
            if data:
                rest = self._note(rest, data, up=up)
            try:
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
            except OSError:
                return

    def _note(self, rest: bytes, data: bytes, *, up: bool) -> bytes:
        """Count; returns the end of the data, in which a header may have begun."""
        with self._lock:
            if not up:
                self._received += len(data)
                return b""
            self._sent += len(data)
            text = rest + data
            end = 0
            for match in OPERATION.finditer(text):
                # A name that ends with the data may go on in the next.
                if match.end() < len(text):
                    self._calls.append(match[1].decode())
                    end = match.end()
            return text[end:][-200:]
