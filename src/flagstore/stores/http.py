"""HTTP/1.1 (RFC 9112) as far as DynamoDB uses it: one request at a time over a reused connection.

Hand-written, since ``http.client`` imports the email parsers: 9 ms of a cold start, a quarter of
the time to a first flag. Anything unexpected is a ``ConnectionError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.stores.network import Stream, connect

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RESPONSE_BYTES = 1_048_576
"""Headers included: an item has up to 400 KB, and a third as much again in base64. Parsed, the
worst JSON of this size takes 70 MB, which a small function can bear."""
DIGITS = "0123456789abcdefABCDEF"


class Connection(Stream):
    """One connection to a server. Not thread-safe."""

    max_bytes = MAX_RESPONSE_BYTES

    def __init__(self, scheme: str, host: str, deadline: float) -> None:
        """Connect to a name or address, with an optional port; with TLS for ``https``."""
        name, port = _address(host, 443 if scheme == "https" else 80)
        self._host = host
        super().__init__(connect(name, port, deadline, tls=scheme == "https"))

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        deadline: float,
    ) -> tuple[int, bytes]:
        """Send one request; return the status and the body of its response.

        Raises:
            OSError: if there is no complete response in time; the connection is closed then.
        """
        try:
            self.begin(deadline)
            return self._request(method, path, headers, body)
        except BaseException:
            self.close()
            raise

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        fields = {"host": self._host, **headers, "content-length": str(len(body))}
        values = "".join(fields.values())
        if "\r" in values or "\n" in values:
            raise ConnectionError("a header contains a line break")
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)
        status, found = self._head()
        if found.get("transfer-encoding", "").lower() == "chunked":
            content = self._chunks()
        elif "content-length" in found:
            content = self.exactly(_length(found["content-length"], 10))
        else:
            raise ConnectionError("the response has no length")
        if found.get("connection", "").lower() == "close" or found[""] != "HTTP/1.1":
            self.close()
        return status, content

    def _head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers by lower-case name; "" is the HTTP version."""
        version, _, rest = self._line().partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
            raise ConnectionError("the response is not HTTP")
        headers = {"": version}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(code), headers

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while length := _length(self._line().partition(";")[0].strip(), 16):
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
        # int() accepts more than digits: a sign, 1_000, and 0x10 for a chunk.
        length = -1 if text.strip(DIGITS) else int(text, base)
    except ValueError:
        length = -1
    if not 0 <= length <= MAX_RESPONSE_BYTES:
        raise ConnectionError("the response has an invalid length")
    return length
