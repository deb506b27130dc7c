"""What an HTTP response means: its class of failure, its ETag, its JSON. No I/O.

Apart from :mod:`storesync.http`, so that a provider can be imported by the function that faces
the internet without importing an HTTP library.
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
"""The longest wait that a provider can ask for: the longest delay of an SQS message."""

MAX_DEPTH = 200
"""The deepest nesting of JSON that is accepted; real flags stay below 20."""

CONTAINER_BYTES, MEMBER_BYTES, VALUE_BYTES, QUOTE_BYTES = 64, 120, 40, 24
"""What parsing takes at most for each bracket, colon, comma and quote of JSON, by measurement."""

MAX_ETAG_CHARS = 1024
"""Longer ETags are ignored: they would be stored in the source state, which readers pay for."""

_OK = 200
_NOT_MODIFIED = 304
_REDIRECTS = range(300, 400)
_REFUSED = frozenset({401, 403})
_TRANSIENT = frozenset({408, 425, 429})
_CLIENT_ERRORS = range(400, 500)
_SERVER_ERRORS = range(500, 600)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One HTTP response: header names in lower case, the body decoded.

    The body is read for 2xx only; no other status has one that we would use.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: float = 0.0
    """Seconds since the epoch when the headers had arrived, to count ``Retry-After`` from."""


def parsed_bytes(body: bytes) -> int:
    """Return about how much memory parsing JSON takes at most, without parsing it.

    Real flag sets take a third of it, since the names of their fields repeat.
    """
    return (
        len(body) * (1 if body.isascii() else 3)
        + CONTAINER_BYTES * (body.count(b"{") + body.count(b"["))
        + MEMBER_BYTES * body.count(b":")
        + VALUE_BYTES * body.count(b",")
        + QUOTE_BYTES * body.count(b'"')
    )


def check_parsed_bytes(needed: int, limit: int) -> None:
    """Raise :class:`MalformedResponseError` if parsing may take more memory than there is."""
    if needed > limit:
        message = (
            f"parsing the response may take {needed >> 20} MB of memory, and {limit >> 20} MB are "
            f"available: raise SyncMemorySize, or choose fewer flags by the source's options"
        )
        raise MalformedResponseError(message)


def raise_for_status(
    response: HttpResponse, source: str, title: str, *, transient: Collection[int] = ()
) -> None:
    """Return if the response is 200 or 304, else raise what its status means.

    Args:
        response: What the provider responded.
        source: The source's name, for the message.
        title: The provider's name, for the message.
        transient: Further statuses that this provider documents as passing.
    """
    status = response.status
    if status in {_OK, _NOT_MODIFIED}:
        return
    if status in _TRANSIENT or status in transient or status in _SERVER_ERRORS:
        message = f"{title} responded with {status}: it cannot serve source {source!r} now"
        raise ProviderUnavailableError(
            message,
            retry_after_s=retry_after_s(response),
        )
    if status in _REFUSED:
        message = (
            f"{title} refused the credentials of source {source!r} with {status}: write a valid "
            f"key to the SSM parameter <prefix>/credentials/{source}"
        )
        raise CredentialsRefusedError(message)
    if status in _REDIRECTS:
        message = (
            f"{title} responded with {status}: redirects are not followed, since they would carry "
            f"the key elsewhere; check base_url in the credentials of source {source!r}"
        )
        raise EndpointNotFoundError(message)
    if status in _CLIENT_ERRORS:
        message = (
            f"{title} responded with {status}: check base_url in the credentials of source "
            f"{source!r} and its options"
        )
        raise EndpointNotFoundError(message)
    message = f"{title} responded with {status}, which is no flag set"
    raise MalformedResponseError(message)


def retry_after_s(response: HttpResponse) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, in either of its forms (RFC 9110).

    None where it is missing or makes no sense; never more than ``MAX_RETRY_AFTER_S``.
    """
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    moment = _http_date(text)
    if moment is None:
        return None
    # The provider's own clock, where it tells it: ours may be off.
    now = _http_date(response.headers.get("date", ""))
    wait = moment - (response.received_at if now is None else now)
    return min(max(wait, 0.0), MAX_RETRY_AFTER_S)


def etag(response: HttpResponse) -> str:
    """Return the ETag as it came, or an empty text if there is none that could be sent back."""
    text = response.headers.get("etag", "").strip()
    usable = text.isascii() and text.isprintable() and len(text) <= MAX_ETAG_CHARS
    return text if usable else ""


def parse_object(response: HttpResponse, title: str) -> dict[str, Any]:
    """Parse a body that must be one JSON object.

    Stricter than ``json.loads``, since what is accepted here is stored and read by others: UTF-8
    only, no NaN or infinity, no repeated keys, no absurd nesting.

    Raises:
        MalformedResponseError: naming what is wrong; the body is never quoted.
    """
    try:
        return _parse(response.body.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        reason = f"no UTF-8 text (byte {exc.start} of {len(response.body)})"
    except json.JSONDecodeError as exc:
        reason = _explain(response, exc)
    except _UnacceptableError as exc:
        reason = str(exc)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError:
        reason = "no JSON (a number of thousands of digits)"
    message = f"{title} responded with something that is {reason}"
    raise MalformedResponseError(message)


class _UnacceptableError(ValueError):
    """JSON that parses, but cannot be stored."""


def _parse(text: str) -> dict[str, Any]:
    document = json.loads(
        text,
        object_pairs_hook=_unique,
        parse_constant=_refuse_constant,
        parse_float=_finite,
    )
    if not isinstance(document, dict):
        message = f"a JSON {type(document).__name__}, not an object"
        raise _UnacceptableError(message)
    if _deeper_than(document, MAX_DEPTH):
        message = f"nested more than {MAX_DEPTH} levels deep"
        raise _UnacceptableError(message)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        message = "JSON that repeats a key within one object"
        raise _UnacceptableError(message)
    return built


def _refuse_constant(name: str) -> float:
    message = f"no JSON (it holds {name})"
    raise _UnacceptableError(message)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        message = "JSON with a number that no float can hold"
        raise _UnacceptableError(message)
    return number


def _deeper_than(document: Any, levels: int) -> bool:  # noqa: ANN401 - any JSON
    """Walk level by level instead of recursing: recursion is what this protects from."""
    level = [document]
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
    return f"no JSON ({where} at character {exc.pos} of {len(exc.doc)})"


def _http_date(text: str) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - 10 ms, and rarely needed

    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
