"""Interpret an HTTP response: its error class, ETag and JSON. No I/O.

Separate from :mod:`storesync.http`, so that WebhookFunction can import providers without an HTTP
library.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from storesync.errors import (
    CredentialsRefusedError,
    EndpointNotFoundError,
    MalformedResponseError,
    ProviderUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_RETRY_AFTER_S = 900.0
"""Longest wait that a provider can ask for: the maximum delay of an SQS message."""

MAX_DEPTH = 200
"""Deepest accepted nesting of JSON; real flags stay below 20."""

CONTAINER_BYTES, MEMBER_BYTES, VALUE_BYTES, QUOTE_BYTES = 64, 120, 40, 24
"""Maximum memory that parsing takes per bracket, colon, comma and quote of JSON, as measured."""

MAX_ETAG_CHARS = 1024
"""Longer ETags are ignored: the source state holds the ETag, and readers pay for its size."""

_OK = 200
_NOT_MODIFIED = 304
_REFUSED = {401, 403}
_TRANSIENT = {408, 425, 429, *range(500, 600)}
_FINAL = range(300, 500)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One HTTP response: header names in lower case, the body decoded, and read for 2xx only."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def parsed_bytes(body: bytes) -> int:
    """Estimate an upper bound of the memory that parsing JSON takes, without parsing it.

    Real flag sets take a third of it, since their field names repeat.
    """
    return (
        len(body) * (1 if body.isascii() else 3)
        + CONTAINER_BYTES * (body.count(b"{") + body.count(b"["))
        + MEMBER_BYTES * body.count(b":")
        + VALUE_BYTES * body.count(b",")
        + QUOTE_BYTES * body.count(b'"')
    )


def check_parsed_bytes(needed: int, limit: int) -> None:
    """Raise :class:`MalformedResponseError` if parsing may take more than the available memory."""
    if needed > limit:
        raise MalformedResponseError(
            f"parsing the response may take {needed >> 20} MB of memory, but only {limit >> 20} MB "
            f"are available: raise SyncMemorySize, or select fewer flags with the source's options"
        )


def raise_for_status(
    response: HttpResponse,
    source: str,
    title: str,
    *,
    etag: str = "",
    transient: Collection[int] = (),
) -> None:
    """Return if the response is 200, or 304 to a request with an ETag; else raise a ProviderError.

    Args:
        response: The provider's response.
        source: The source's name, for the message.
        title: The provider's name, for the message.
        etag: The ETag that was sent.
        transient: Further statuses that this provider documents as temporary.
    """
    status = response.status
    if status == _OK or (status == _NOT_MODIFIED and etag):
        return
    reason = f"{title} responded with {status}"
    if status in _TRANSIENT or status in transient:
        raise ProviderUnavailableError(
            f"{reason}: it cannot serve source {source!r} now",
            retry_after_s=retry_after_s(response),
        )
    if status in _REFUSED:
        raise CredentialsRefusedError(
            f"{title} refused the credentials of source {source!r} with {status}: write a valid "
            f"key to the SSM parameter <prefix>/credentials/{source}"
        )
    if status in _FINAL and status != _NOT_MODIFIED:
        raise EndpointNotFoundError(
            f"{reason}: check base_url in the credentials of source {source!r} and its options"
        )
    raise MalformedResponseError(f"{reason}, which is not a flag set")


def retry_after_s(response: HttpResponse) -> float | None:
    """Return the seconds in ``Retry-After``, in either of its forms (RFC 9110).

    None if it is missing or invalid; never more than ``MAX_RETRY_AFTER_S``.
    """
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    # By the provider's own clock: this machine's may be wrong.
    until, now = _http_date(text), _http_date(response.headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max(until - now, 0.0), MAX_RETRY_AFTER_S)


def etag(response: HttpResponse) -> str:
    """Return the ETag unchanged; empty if it is missing or cannot be sent back."""
    text = response.headers.get("etag", "").strip()
    usable = text.isascii() and text.isprintable() and len(text) <= MAX_ETAG_CHARS
    return text if usable else ""


def parse_object(response: HttpResponse, title: str) -> dict[str, Any]:
    """Parse a body that must be one JSON object.

    Stricter than ``json.loads``, since the result is stored and read by others: UTF-8 only, no NaN
    or infinity, no repeated keys, no excessive nesting.

    Raises:
        MalformedResponseError: names the problem, and never quotes the body.
    """
    try:
        document = json.loads(
            response.body.decode("utf-8-sig"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        if not isinstance(document, dict):
            problem = f"a JSON {type(document).__name__}, not an object"
        elif _deeper_than(document, MAX_DEPTH):
            problem = f"nested more than {MAX_DEPTH} levels deep"
        else:
            return document
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 (byte {error.start} of {len(response.body)})"
    except json.JSONDecodeError as error:
        problem = _explain(response, error)
    except _UnacceptableError as error:
        problem = str(error)
    except RecursionError:
        problem = "nested too deeply"
    except ValueError:
        problem = "not JSON (a number of thousands of digits)"
    raise MalformedResponseError(f"{title}'s response is {problem}")


class _UnacceptableError(ValueError):
    """JSON that parses, but cannot be stored."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        raise _UnacceptableError("JSON that repeats a key within one object")
    return built


def _refuse_constant(name: str) -> float:
    raise _UnacceptableError(f"not JSON (it contains {name})")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _UnacceptableError("JSON with a number that is too large")
    return number


def _deeper_than(document: object, levels: int) -> bool:
    """Return whether JSON nests deeper. Not recursive, since this guards against recursion."""
    level: list[Any] = [document]
    for _ in range(levels):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _explain(response: HttpResponse, exc: json.JSONDecodeError) -> str:
    start = response.body[:64].lstrip().lower()
    if not start:
        return "empty"
    if start.startswith(b"<") or "html" in response.headers.get("content-type", "").lower():
        return "a web page, not JSON (a proxy or a login page in between?)"
    where = "cut off" if exc.pos >= len(exc.doc.rstrip()) else "broken"
    return f"not JSON ({where} at character {exc.pos} of {len(exc.doc)})"


def _http_date(text: str) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - 10 ms, and rarely needed

    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
