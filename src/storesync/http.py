"""The only way out: one HTTP request, within a deadline that holds and within caps.

Only the function that syncs imports this module, since ``requests`` costs 70 ms.

What ``requests`` leaves open is closed here:

- Its ``timeout`` limits the silence between two packets, so a server that drips one byte a second
  holds a function for hours. Here each exchange runs in a thread of its own and the caller leaves
  at the deadline, whatever the exchange is waiting for: name resolution, several addresses in a
  row, the TLS handshake, headers or body. The connection is then shut down, which ends the thread.
- It inflates without a limit; here the body is inflated chunk by chunk against a cap
  (:mod:`storesync.http_bodies`).
- With ``trust_env`` it replaces the ``Authorization`` header by what a ``.netrc`` says, and sends
  everything through whatever proxy the environment names. Off.
- It follows redirects, also to other hosts. Off: a redirect is an error.
- It connects to whatever a name resolves to. Here each address is checked before the connection,
  and the connection goes to an address that was checked (:mod:`storesync.addresses`).

Connections are not kept: a Lambda function is frozen between two syncs, and a connection that
slept is more often dead than alive. A request that is never repeated on a fresh connection is
also one that can never be sent twice.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from storesync.addresses import check_address
from storesync.errors import (
    ConfigurationError,
    EndpointNotFoundError,
    MalformedResponseError,
    ProviderUnavailableError,
)
from storesync.http_bodies import capped, inflated, wire
from storesync.responses import HttpResponse, check_parsed_bytes, parsed_bytes
from storesync.watchdog import Guard, GuardedAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

USER_AGENT = "flagstore"
_SUCCESS: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_NOT_MODIFIED: Final = 304
_HOST = re.compile(r"(?!.*[^.]{64})[\w.-]+|[0-9a-f:.]+", re.ASCII)
"""A name whose parts have at most 63 characters each (RFC 1035), or an address of IPv6."""
_TRANSPORT_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,  # What a parser in between says about bytes that are no HTTP.
)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one exchange may cost."""

    connect_s: float = 3.0
    read_s: float = 10.0
    """The longest silence."""
    total_s: float = 10.0
    """From the call to the last byte, everything included."""
    max_wire_bytes: int = 20 * 1024 * 1024
    """As sent. Equal to the other cap, since a server may ignore that we accept gzip."""
    max_body_bytes: int = 20 * 1024 * 1024
    """After inflating: about 29,000 flags of 720 bytes. Parsed, that takes 190 MB (measured), and
    comparing needs the published set beside it: the most that a function of 512 MB can hold.
    Beyond, a clear error is better than a killed function."""
    max_parsed_bytes: int = 312 * 1024 * 1024
    """As :func:`~storesync.responses.parsed_bytes` estimates it: a function of 512 MB without the
    200 MB that code, the body and its text take."""


class HttpClient:
    """One request at a time, or several from several threads: exchanges share nothing."""

    def __init__(
        self,
        limits: HttpLimits | None = None,
        *,
        allow_private: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or HttpLimits()
        self._allow_private = allow_private
        self._now = now

    def within(self, total_s: float) -> HttpClient:
        """Return a client that ends at the latest after *total_s*, and never later than this."""
        total_s = min(total_s, self.limits.total_s)
        limits = replace(self.limits, total_s=total_s)
        return HttpClient(limits, allow_private=self._allow_private, now=self._now)

    def get(
        self, url: str, headers: Mapping[str, str], *, allow_http: bool = False
    ) -> HttpResponse:
        """Send one GET, with no repetition and no redirect.

        Plain http is for servers in one's own network, so *allow_http* allows these as well.

        Raises:
            ConfigurationError: the URL or a header cannot be sent, or the host's address is one
                that no provider has, or a private one without *allow_private* or *allow_http*.
            ProviderUnavailableError: no complete response within the deadline.
            EndpointNotFoundError: a redirect.
            MalformedResponseError: a body that cannot be inflated, is larger than the caps, or
            would
                take too much memory once it is parsed.
        """
        return self._send(url, headers, None, allow_http=allow_http)

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, allow_http: bool = False
    ) -> HttpResponse:
        """Send one POST likewise, for a provider that wants a session before it responses."""
        return self._send(url, headers, body, allow_http=allow_http)

    def _send(
        self, url: str, headers: Mapping[str, str], body: bytes | None, *, allow_http: bool
    ) -> HttpResponse:
        host = _check_url(url, allow_http=allow_http)
        _check_headers(headers)
        check = partial(check_address, allow_private=self._allow_private or allow_http)
        request = _Request(url, headers, body, host)
        exchange = _Exchange(request, check, self.limits, self._now)
        if self.limits.total_s <= 0:
            raise exchange.too_late()
        thread = threading.Thread(target=exchange.run, name=f"to {host}", daemon=True)
        thread.start()
        try:
            return exchange.outcome.result(timeout=self.limits.total_s)
        except TimeoutError:
            raise exchange.too_late() from None
        finally:
            exchange.guard.end()


class _Request(NamedTuple):
    """What is sent, and to which host."""

    url: str
    headers: Mapping[str, str]
    body: bytes | None
    """None: a GET."""
    host: str


class _Exchange:
    """One request and its response, run in a thread of its own."""

    def __init__(
        self,
        request: _Request,
        check: Callable[[str, str], None],
        limits: HttpLimits,
        now: Callable[[], float],
    ) -> None:
        self.guard = Guard()
        self.outcome: Future[HttpResponse] = Future()
        self._request, self._host = request, request.host
        self._check, self._limits, self._now = check, limits, now

    def run(self) -> None:
        """Fill the outcome, with whatever happens."""
        try:
            reply = self._response()
        except _TRANSPORT_ERRORS as exc:
            reason = _reason(exc)
            self.outcome.set_exception(
                ProviderUnavailableError(f"no complete response from {self._host}: {reason}")
            )
        except BaseException as exc:  # noqa: BLE001 - raised again where the caller waits
            self.outcome.set_exception(exc)
        else:
            self.outcome.set_result(reply)

    def too_late(self) -> ProviderUnavailableError:
        """Return the error of an exchange that did not end in time."""
        return ProviderUnavailableError(
            f"no complete response from {self._host} within {self._limits.total_s:g} s"
        )

    def _response(self) -> HttpResponse:
        with requests.Session() as session:
            session.trust_env = False
            session.mount("https://", GuardedAdapter(self.guard, self._check))
            session.mount("http://", GuardedAdapter(self.guard, self._check))
            with session.request(
                "GET" if self._request.body is None else "POST",
                self._request.url,
                data=self._request.body,
                headers=self._all_headers(),
                timeout=(self._limits.connect_s, self._limits.read_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                return self._read(response)

    def _all_headers(self) -> dict[str, str]:
        own = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Connection": "close",
        }
        return own | dict(self._request.headers)

    def _read(self, response: requests.Response) -> HttpResponse:
        received_at = self._now()
        status = response.status_code
        if status in _REDIRECT and status != _NOT_MODIFIED:
            message = (
                f"{self._host} responded with {status}: redirects are not followed, since they "
                f"would carry the key elsewhere; set base_url to the final address"
            )
            raise EndpointNotFoundError(message)
        headers = {name.lower(): value for name, value in response.headers.items()}
        body = self._body(response, headers) if status in _SUCCESS else b""
        return HttpResponse(status, headers, body, received_at)

    def _body(self, response: requests.Response, headers: Mapping[str, str]) -> bytes:
        encoding = headers.get("content-encoding", "identity").strip().lower()
        chunks = capped(wire(response), self._limits.max_wire_bytes, "on the wire")
        if encoding in {"gzip", "x-gzip"}:
            chunks = inflated(chunks)
        elif encoding not in {"identity", ""}:
            message = f"{self._host} responded with an encoding that was not asked for"
            raise MalformedResponseError(message)
        body = b"".join(capped(chunks, self._limits.max_body_bytes, "inflated"))
        check_parsed_bytes(parsed_bytes(body), self._limits.max_parsed_bytes)
        return body


def _check_url(url: str, *, allow_http: bool) -> str:
    """Return the host for messages; neither path nor query belong into one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if not _HOST.fullmatch(host):
        message = "base_url is not an address such as https://flags.example.com"
        raise ConfigurationError(message)
    if parts.username is not None or parts.password is not None:
        message = f"base_url of {host} must not hold a user name or password"
        raise ConfigurationError(message)
    if parts.scheme != "https" and not (allow_http and parts.scheme == "http"):
        message = f"base_url of {host} must begin with https:// (or allow http for this source)"
        raise ConfigurationError(message)
    return host


def _check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what HTTP cannot carry before a library quotes it in its own message."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            message = (
                f"the value for the header {name} holds a line break, a space at an end or "
                f"another character that HTTP does not allow: write it again without"
            )
            raise ConfigurationError(message)


def _reason(exc: BaseException) -> str:
    """Say what went wrong by the type of the innermost error: texts quote URLs and headers."""
    if isinstance(exc, requests.exceptions.SSLError):
        return "TLS failed (an invalid certificate?)"
    if isinstance(exc, requests.exceptions.ConnectTimeout):
        return "no connection in time"
    if isinstance(exc, (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError)):
        return "silence for too long"
    innermost: BaseException = exc
    while inner := innermost.__cause__ or innermost.__context__:
        innermost = inner
    return f"the connection failed ({type(innermost).__name__})"
