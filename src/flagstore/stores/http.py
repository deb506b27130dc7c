"""HTTP/1.1 as far as DynamoDB speaks it: one request at a time over a kept connection.

By hand, because ``http.client`` imports the parsers of e-mail: 9 ms of a cold start, a quarter of
all that a first flag takes. Anything that is not understood is a ``ConnectionError``, and the
connection of an answer that was not read to its end is never used again.

Source of the rules: RFC 9112.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 33_554_432
"""A page of a Query is 1 MB, and half as much again in base64."""
READ_BYTES = 65_536
NO_BODY = {204, 304}
"""Statuses whose answers end with their headers."""
DIGITS = "0123456789abcdefABCDEF"


class Connection:
    """One connection to a server; not for two threads at once."""

    def __init__(self, scheme: str, host: str, deadline: float) -> None:
        """Connect, with TLS for ``https``: the system's certificates, and the host's name checked.

        Args:
            scheme: ``http`` or ``https``.
            host: name or address, perhaps with a port.
            deadline: in ``time.monotonic()`` seconds, as everywhere here.

        Raises:
            OSError: there is no connection in time, or no trust.
        """
        name, port = _address(host, 443 if scheme == "https" else 80)
        self._host = host
        self._rest = b""
        self.closed = False
        self._socket = connect(name, port, deadline)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if scheme == "https":
                import ssl  # noqa: PLC0415 - 3 ms that a test on this machine need not pay

                self._socket.settimeout(left(deadline))
                context = ssl.create_default_context()
                self._socket = context.wrap_socket(self._socket, server_hostname=name)
        except BaseException:
            self._socket.close()
            raise

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> tuple[int, bytes]:
        """Send one request; returns the status and the body of its answer.

        Raises:
            OSError: there is no whole answer in time; the connection is closed then.
        """
        try:
            return self._request(method, path, headers, body, deadline)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it; more than once does no harm."""
        self.closed = True
        self._socket.close()

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> tuple[int, bytes]:
        fields = {"host": self._host, **headers, "content-length": str(len(body))}
        values = "".join(fields.values())
        if "\r" in values or "\n" in values:
            message = "a header with a line end in it"
            raise ConnectionError(message)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._socket.settimeout(left(deadline))
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)
        status, found = self._head(deadline)
        while 100 <= status < 200:  # noqa: PLR2004 - an announcement; the answer is still to come
            status, found = self._head(deadline)
        if method == "HEAD" or status in NO_BODY:
            content = b""
        elif found.get("transfer-encoding", "").lower() == "chunked":
            content = self._chunks(deadline)
        elif "content-length" in found:
            content = self._exactly(_length(found["content-length"], 10), deadline)
        else:
            message = "an answer that does not say how long it is"
            raise ConnectionError(message)
        if found.get("connection", "").lower() == "close" or found[""] != "HTTP/1.1":
            self.close()
        return status, content

    def _head(self, deadline: float) -> tuple[int, dict[str, str]]:
        """Return the status and the headers by lower-case name; the version under no name."""
        while b"\r\n\r\n" not in self._rest:
            if len(self._rest) > MAX_HEAD_BYTES:
                message = "an answer with too many headers"
                raise ConnectionError(message)
            self._more(deadline)
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
            message = "an answer that is not HTTP"
            raise ConnectionError(message)
        headers = {"": version}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(code), headers

    def _chunks(self, deadline: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        while length := _length(self._line(deadline).partition(";")[0].strip(), 16):
            size += length
            if size > MAX_BODY_BYTES:
                message = "an answer that is too long"
                raise ConnectionError(message)
            parts.append(self._exactly(length, deadline))
            self._line(deadline)
        while self._line(deadline):
            pass  # trailers
        return b"".join(parts)

    def _line(self, deadline: float) -> str:
        while b"\r\n" not in self._rest:
            if len(self._rest) > MAX_HEAD_BYTES:
                message = "a line that is too long"
                raise ConnectionError(message)
            self._more(deadline)
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line.decode("latin-1")

    def _exactly(self, length: int, deadline: float) -> bytes:
        parts = [self._rest[:length]]
        self._rest = self._rest[length:]
        missing = length - len(parts[0])
        while missing:
            parts.append(self._receive(min(missing, READ_BYTES), deadline))
            missing -= len(parts[-1])
        return b"".join(parts)

    def _more(self, deadline: float) -> None:
        self._rest += self._receive(READ_BYTES, deadline)

    def _receive(self, size: int, deadline: float) -> bytes:
        self._socket.settimeout(left(deadline))
        data = self._socket.recv(size)
        if not data:
            message = "the server closed the connection"
            raise ConnectionError(message)
        return data


def connect(name: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address of a name that answers.

    Each has its share of the time that is left: one that swallows packets, as in a zone that is
    lost, must not take that of the others. ``socket.create_connection`` gives each all of it.

    Raises:
        OSError: none does in time.
    """
    addresses = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    for place, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(left(deadline) / (len(addresses) - place + 1))
            made.connect(address)
        except OSError:
            made.close()
            if place == len(addresses):
                raise
        except BaseException:
            made.close()
            raise
        else:
            return made
    message = f"{name} has no address"
    raise ConnectionError(message)


def left(deadline: float) -> float:
    """Return the seconds until a deadline.

    Raises:
        TimeoutError: there are none.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        message = "out of time"
        raise TimeoutError(message)
    return seconds


def _address(host: str, port: int) -> tuple[str, int]:
    """Take a host apart: ``name``, ``name:8000``, ``[::1]:8000``."""
    name, colon, digits = host.rpartition(":")
    if not colon or digits.endswith("]"):
        name, digits = host, ""
    return name.strip("[]"), int(digits) if digits.isdecimal() else port


def _length(text: str, base: int) -> int:
    try:
        # Python reads more than digits: a sign, 1_000, and 0x10 for a chunk.
        length = -1 if text.strip(DIGITS) else int(text, base)
    except ValueError:
        length = -1
    if not 0 <= length <= MAX_BODY_BYTES:
        message = "an answer of no sensible length"
        raise ConnectionError(message)
    return length
