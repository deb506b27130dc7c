"""Faults between a provider and flagstore, to be queued on any simulator.

::

    provider.faults.append(faults.status(503))       # the next request gets it, then all is well
    provider.faults.extend([faults.reset()] * 3)

A fault speaks on the bare socket, so that it can break HTTP itself.
"""

from __future__ import annotations

import gzip
import socket
import struct
import time
import zlib
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .server import Handler

METADATA = "http://169.254.169.254/latest/meta-data/"
"""Where a redirect would lead somebody who follows it: the address of cloud credentials."""

BOMB_BYTES = 64 * 1024 * 1024
_CHUNK = b'{"padding": "' + b"x" * 65_523


@dataclass(frozen=True)
class Fault:
    """A faulty response."""

    name: str
    play: Callable[[Handler], None]


def status(code: int, *, retry_after: str = "") -> Fault:
    """Return a status, with ``Retry-After`` as given."""
    extra = {"Retry-After": retry_after} if retry_after else {}
    body = b'{"message":"simulated"}'
    return Fault(f"status {code}", lambda handler: handler.reply(code, body, extra))


def too_many_requests(seconds: int = 7) -> Fault:
    """Return 429 with the seconds to wait."""
    return status(429, retry_after=str(seconds))


def too_many_requests_until(seconds: int = 7) -> Fault:
    """Return 429 with an HTTP date to wait for."""

    def play(handler: Handler) -> None:
        moment = formatdate(time.time() + seconds, usegmt=True)
        handler.reply(429, b"", {"Retry-After": moment})

    return Fault("status 429 with a date", play)


def redirect(location: str = METADATA, code: int = 302) -> Fault:
    """Redirect to another address."""
    return Fault("redirect", lambda handler: handler.reply(code, b"", {"Location": location}))


def reset() -> Fault:
    """Break the connection with a TCP reset instead of a response."""

    def play(handler: Handler) -> None:
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.connection.close()

    return Fault("reset", play)


def silence() -> Fault:
    """Accept the request and never respond."""
    return Fault("silence", lambda handler: handler.wait_for_end())


def drip_headers(interval_s: float = 0.02) -> Fault:
    """Send endless headers, a byte at a time: every read succeeds, and the response never comes."""

    def play(handler: Handler) -> None:
        handler.send_raw(b"HTTP/1.1 200 OK\r\n")
        handler.drip(_letters(b"X-Drip: "), interval_s)

    return Fault("drip of headers", play)


def drip_body(interval_s: float = 0.02) -> Fault:
    """Send a body of the promised length, but a byte at a time."""

    def play(handler: Handler) -> None:
        handler.send_raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
        )
        handler.drip(_letters(b'{"flags": "'), interval_s)

    return Fault("drip of the body", play)


def truncated_gzip() -> Fault:
    """Send the first half of a compressed body, with a length that agrees."""

    def play(handler: Handler) -> None:
        whole = gzip.compress(handler.good_body())
        handler.reply(200, whole[: len(whole) // 2], {"Content-Encoding": "gzip"})

    return Fault("truncated gzip", play)


def wrong_length() -> Fault:
    """Promise more bytes than are sent."""

    def play(handler: Handler) -> None:
        body = handler.good_body()
        handler.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) + 10) + body)

    return Fault("wrong length", play)


def html() -> Fault:
    """Send a login page with 200, as proxies and portals do."""
    page = b"<!doctype html><title>Sign in</title>"
    headers = {"Content-Type": "text/html; charset=utf-8"}
    return Fault("HTML with 200", lambda handler: handler.reply(200, page, headers))


def endless_body() -> Fault:
    """Send chunks endlessly, as fast as they are read."""

    def play(handler: Handler) -> None:
        handler.send_raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%s\r\n" % (len(_CHUNK), _CHUNK)
        while handler.send_raw(chunk):
            pass

    return Fault("endless body", play)


def bomb() -> Fault:
    """Send a few bytes that inflate to ``BOMB_BYTES``."""
    headers = {"Content-Encoding": "gzip"}
    return Fault("compression bomb", lambda handler: handler.reply(200, _bomb(), headers))


def inflated(content: bytes) -> Fault:
    """Send this body compressed, with 200."""
    packed = gzip.compress(content, 1)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return Fault("a compressed body", lambda handler: handler.reply(200, packed, headers))


def malformed_json() -> Fault:
    """Send JSON that stops in the middle, with a length that agrees."""

    def play(handler: Handler) -> None:
        body = handler.good_body()
        handler.reply(200, body[: len(body) // 2], {"Content-Type": "application/json"})

    return Fault("malformed JSON", play)


def empty_set() -> Fault:
    """Send a well-formed document without a single flag: legal HTTP, legal JSON, a disaster."""
    return Fault("empty set", lambda handler: handler.reply(200, handler.empty_body(), {}))


def body(content: bytes) -> Fault:
    """Send this body with 200."""
    headers = {"Content-Type": "application/json"}
    return Fault("a body", lambda handler: handler.reply(200, content, headers))


def _letters(start: bytes) -> Iterator[bytes]:
    for letter in start:
        yield bytes([letter])
    while True:
        yield b"a"


@cache
def _bomb() -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    zeros = bytes(1024 * 1024)
    chunks = [deflater.compress(zeros) for _ in range(BOMB_BYTES // len(zeros))]
    return b"".join([*chunks, deflater.flush()])
