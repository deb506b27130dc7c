"""Faults between a provider and flagstore, to be queued on any simulator.

``provider.faults.append(faults.status(503))``: the next request gets it, then all is well.
"""

from __future__ import annotations

import gzip
import socket
import struct
import time
import zlib
from email.utils import formatdate
from functools import cache
from itertools import chain, repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate

    from .server import Handler

    type Fault = Callable[[Handler], object]
    """Responds faultily."""

BOMB_BYTES = 64 * 1024 * 1024
JSON = {"Content-Type": "application/json"}


def _fault[**P](respond: Callable[Concatenate[Handler, P], object]) -> Callable[P, Fault]:
    """Turn a function that responds into one that returns the fault."""
    return lambda *args, **more: lambda handler: respond(handler, *args, **more)


@_fault
def status(handler: Handler, code: int, *, retry_after: str = "") -> None:
    extra = {"Retry-After": retry_after} if retry_after else {}
    handler.reply(code, b'{"message":"simulated"}', extra)


@_fault
def too_many_requests_until(handler: Handler, seconds: int) -> None:
    """Respond with 429 and an HTTP date to wait for."""
    moment = formatdate(time.time() + seconds, usegmt=True)
    handler.reply(429, b"", {"Retry-After": moment})


@_fault
def redirect(
    handler: Handler, location: str = "http://169.254.169.254/latest/meta-data/", code: int = 302
) -> None:
    """Redirect to another address: to the one of cloud credentials, unless it is given."""
    handler.reply(code, b"", {"Location": location})


@_fault
def reset(handler: Handler) -> None:
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


@_fault
def silence(handler: Handler) -> None:
    handler.wait_for_end()


@_fault
def drip_headers(handler: Handler) -> None:
    """Send endless headers, a byte at a time: every read succeeds, and the response never comes."""
    _drip(handler, b"HTTP/1.1 200 OK\r\n", b"X-Drip: ")


@_fault
def drip_body(handler: Handler) -> None:
    """Send a body of the promised length, but a byte at a time."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    _drip(handler, head, b'{"flags": "')


def _drip(handler: Handler, head: bytes, begin: bytes) -> None:
    handler.send_raw(head)
    handler.drip(map(bytes, zip(chain(begin, repeat(ord("a"))))), 0.02)


@_fault
def truncated_gzip(handler: Handler) -> None:
    """Send the first half of a compressed body, with a length that agrees."""
    whole = gzip.compress(handler.good_body())
    handler.reply(200, whole[: len(whole) // 2], {"Content-Encoding": "gzip"})


@_fault
def wrong_length(handler: Handler) -> None:
    body = handler.good_body()
    handler.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) + 10) + body)


@_fault
def html(handler: Handler) -> None:
    page = b"<!doctype html><title>Sign in</title>"
    handler.reply(200, page, {"Content-Type": "text/html; charset=utf-8"})


@_fault
def endless_body(handler: Handler) -> None:
    handler.send_raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b'{"padding": "' + b"x" * 65_523
    while handler.send_raw(b"%x\r\n%s\r\n" % (len(chunk), chunk)):
        pass


@_fault
def bomb(handler: Handler) -> None:
    """Send a few bytes that inflate to ``BOMB_BYTES``."""
    handler.reply(200, _bomb(), {"Content-Encoding": "gzip"})


@cache
def _bomb() -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    zeros = bytes(1024 * 1024)
    chunks = [deflater.compress(zeros) for _ in range(BOMB_BYTES // len(zeros))]
    return b"".join([*chunks, deflater.flush()])


def inflated(content: bytes) -> Fault:
    packed, headers = gzip.compress(content, 1), {**JSON, "Content-Encoding": "gzip"}
    return lambda handler: handler.reply(200, packed, headers)


@_fault
def malformed_json(handler: Handler) -> None:
    """Send JSON that stops in the middle, with a length that agrees."""
    whole = handler.good_body()
    handler.reply(200, whole[: len(whole) // 2], JSON)


@_fault
def empty_set(handler: Handler) -> None:
    """Send a well-formed document without a single flag: legal HTTP, legal JSON, a disaster."""
    handler.reply(200, handler.empty_body(), {})


@_fault
def body(handler: Handler, content: bytes) -> None:
    handler.reply(200, content, JSON)
