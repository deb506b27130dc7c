"""HTTP/1.1 as far as DynamoDB uses it: one request at a time over a kept connection.

By hand, because ``http.client`` imports the parsers of e-mail: 9 ms of a cold start, a quarter of
a first flag's time. Anything unexpected is a ``ConnectionError``, and a connection whose response
was not read to its end is never used again.

Source of the rules: RFC 9112.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.stores.network import Stream, connect

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEADER_BYTES = 65_536
MAX_BODY_BYTES = 33_554_432
"""A page of a Query is 1 MB, and half as much again in base64."""
NO_BODY = {204, 304}
"""Statuses of responses that end with their headers."""
DIGITS = "0123456789abcdefABCDEF"


class Connection(Stream):
    """One connection to a server; not for two threads at once."""

    def __init__(self, scheme: str, host: str, deadline: float) -> None:
        """Connect, with TLS for ``https``.

        Args:
            scheme: ``http`` or ``https``.
            host: name or address, perhaps with a port.
            deadline: in ``time.monotonic()`` seconds, as everywhere here.

        Raises:
            OSError: if there is no connection in time, or the certificate is not trusted.
        """
        name, port = _address(host, 443 if scheme == "https" else 80)
        self._host = host
        self.closed = False
        super().__init__(connect(name, port, deadline, tls=scheme == "https"))

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        deadline: float,
        first_byte_by: float | None = None,
    ) -> tuple[int, bytes]:
        """Send one request; return the status and the body of its response.

        Raises:
            OSError: if there is no complete response by the deadline, or the first byte of it by
                *first_byte_by*; the connection is closed then.
        """
        try:
            self.begin(deadline, first_byte_by)
            return self._request(method, path, headers, body)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self.closed = True
        super().close()

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        fields = {"host": self._host, **headers, "content-length": str(len(body))}
        values = "".join(fields.values())
        if "\r" in values or "\n" in values:
            raise ConnectionError("a header with a line end in it")
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)
        status, found = self._head()
        while 100 <= status < 200:  # noqa: PLR2004 - informational: the response follows
            status, found = self._head()
        if status in NO_BODY:
            content = b""
        elif found.get("transfer-encoding", "").lower() == "chunked":
            content = self._chunks()
        elif "content-length" in found:
            content = self.exactly(_length(found["content-length"], 10))
        else:
            raise ConnectionError("a response without a length")
        closes = found.get("connection", "").lower() == "close" or found[""] != "HTTP/1.1"
        if closes or not self.is_drained():  # bytes that follow are unexpected
            self.close()
        return status, content

    def _head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers by lower-case name; the version under no name."""
        first = self._line()
        version, _, rest = first.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
            raise ConnectionError("a response that is not HTTP")
        headers = {"": version}
        size = 0
        while line := self._line():
            size += len(line)
            if size > MAX_HEADER_BYTES:
                raise ConnectionError("a response with too many headers")
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(code), headers

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while length := _length(self._line().partition(";")[0].strip(), 16):
            size += length
            if size > MAX_BODY_BYTES:
                raise ConnectionError("a response that is too long")
            parts.append(self.exactly(length))
            self._line()
        while self._line():
            pass  # trailers
        return b"".join(parts)

    def _line(self) -> str:
        return self.line().decode("latin-1")


def _address(host: str, port: int) -> tuple[str, int]:
    """Split a host into name and port: ``name``, ``name:8000``, ``[::1]:8000``."""
    name, colon, digits = host.rpartition(":")
    if not colon or digits.endswith("]"):
        name, digits = host, ""
    return name.strip("[]"), int(digits) if digits.isdecimal() else port


def _length(text: str, base: int) -> int:
    try:
        # Python accepts more than digits: a sign, 1_000, and 0x10 for a chunk.
        length = -1 if text.strip(DIGITS) else int(text, base)
    except ValueError:
        length = -1
    if not 0 <= length <= MAX_BODY_BYTES:
        raise ConnectionError("a response with an invalid length")
    return length
