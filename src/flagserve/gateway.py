"""Requests and responses of API Gateway's HTTP APIs (payload 2.0). Pure.

Hand-written where the standard library's module takes milliseconds to import.
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

MAX_BODY = 262_144
"""Characters as received, often base64. Unleash's server takes 100 KB."""
MAX_CONTEXT, MAX_STRING = 8_192, 1_000
"""Bytes of a context from a browser, and characters of each string in it: a regular expression may
take time that grows with the cube of the length."""
MIN_GZIP = 1_024
"""Bytes. API Gateway compresses nothing, and smaller bodies are not worth it."""


class RequestError(Exception):
    """A request that is not served: status, message, and the code of the protocol if it has any."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Request(NamedTuple):
    """One request."""

    route: str
    """As in the template, such as ``GET /api/frontend``: without the prefix that a stage or a
    custom domain adds to the path, and with the names of parameters in it."""
    headers: Mapping[str, str]
    """By name in lower case."""
    event: Mapping[str, Any]

    def query(self) -> list[tuple[str, str]]:
        """Return the names and values of the query string, decoded."""
        raw = self.event.get("rawQueryString")
        pairs = [part.partition("=") for part in _text(raw).split("&") if part]
        return [(_unquoted(name), _unquoted(value)) for name, _, value in pairs]

    def parameter(self, name: str) -> str:
        """Return a part of the path; empty if it has none of that name."""
        given = self.event.get("pathParameters")
        return _text(given.get(name)) if isinstance(given, dict) else ""

    def body(self) -> bytes:
        """Return the body.

        Raises:
            RequestError: if it is too large, or its base64 is invalid.
        """
        text = _text(self.event.get("body"))
        if len(text) > MAX_BODY:
            raise RequestError(413, f"the body is longer than {MAX_BODY} characters")
        try:
            encoded = self.event.get("isBase64Encoded") is True
            return b64decode(text, validate=True) if encoded else text.encode()
        except ValueError as error:
            raise RequestError(400, "the body is malformed") from error

    def ip(self) -> str:
        """Return the address of the client."""
        return self._http("sourceIp")

    def method(self) -> str:
        """Return the method, which a route for any does not name."""
        return self._http("method")

    def _http(self, name: str) -> str:
        found: Any = self.event
        for each in ("requestContext", "http", name):
            found = found.get(each) if isinstance(found, dict) else None
        return _text(found)


def read_request(event: Mapping[str, Any]) -> Request:
    """Read an event; missing or malformed parts are empty."""
    given = event.get("headers")
    pairs = given.items() if isinstance(given, dict) else ()
    headers = {name.lower(): value for name, value in pairs if isinstance(value, str)}
    return Request(_text(event.get("routeKey")), headers, event)


class Response(NamedTuple):
    """One response."""

    status: int
    body: bytes = b""
    """JSON in UTF-8."""
    etag: str = ""
    zipped: bytes = b""
    """The body, compressed by gzip; if empty, it is compressed when needed."""


def check_visitor(context: object, size: int) -> None:
    """Raise RequestError if a context from a browser, of *size* bytes, is too long to match."""
    try:
        if size > MAX_CONTEXT or _longest(context) > MAX_STRING:
            limits = f"at most {MAX_CONTEXT} bytes, with strings of at most {MAX_STRING} characters"
            raise RequestError(400, f"contexts from browsers may have {limits}", "INVALID_CONTEXT")
    except RecursionError as error:
        raise RequestError(400, "the context is nested too deeply", "INVALID_CONTEXT") from error


def _longest(value: object) -> int:
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        return max(map(_longest, value), default=0)
    return len(value) if isinstance(value, str) else 0


def cacheable(text: str) -> Response:
    """Return a response with an ETag, for conditional requests."""
    body = text.encode()
    return Response(200, body, f'"{sha256(body).hexdigest()[:32]}"')


def gzipped(body: bytes) -> bytes:
    """Compress a body; the same bytes in every process."""
    return zlib.compress(body, 6, 31)  # 31: gzip's format


def refusal(_request: Request, error: RequestError) -> Response:
    """Return a response with a message, in the form of Unleash's server."""
    return Response(error.status, json.dumps({"message": str(error)}).encode())


def to_event(
    response: Response, request: Request, more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the event of a response: 304 if the client has it, gzip if the client accepts it.

    *more* are further headers.
    """
    headers = {"cache-control": "no-cache", **(more or {})}
    if response.etag:
        headers["etag"] = response.etag
        headers["vary"] = ", ".join(filter(None, [headers.get("vary"), "Accept-Encoding"]))
        if has(request, response.etag):
            return {"statusCode": 304, "headers": headers}
    if response.body:
        headers["content-type"] = "application/json"
    accepted = request.headers.get("accept-encoding", "")
    zipped = len(response.body) >= MIN_GZIP and _takes_gzip(accepted)
    if zipped:
        headers["content-encoding"] = "gzip"
        body = b64encode(response.zipped or gzipped(response.body)).decode()
    else:
        body = response.body.decode()
    status = response.status
    return {"statusCode": status, "headers": headers, "body": body, "isBase64Encoded": zipped}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _unquoted(text: str) -> str:
    return unquoted(text.replace("+", " "))


def unquoted(text: str) -> str:
    """Return a part of a path with its escapes replaced."""
    data = text.encode("utf-8", "replace")
    if b"%" in data:
        data = re.sub(b"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), data)
    return data.decode(errors="replace")


def has(request: Request, etag: str) -> bool:
    """Return whether ``If-None-Match`` names an ETag; a proxy may have weakened it."""
    given = request.headers.get("if-none-match", "").split(",")
    return etag.removeprefix("W/") in {tag.strip().removeprefix("W/") for tag in given}


def _takes_gzip(accepted: str) -> bool:
    return any(
        coding.strip().startswith("gzip") and not re.search(r";\s*q=0(\.0*)?\s*$", coding)
        for coding in accepted.lower().split(",")
    )
