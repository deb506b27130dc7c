"""HTTP client: one request, one hard deadline, size limits.

WebhookFunction must not import it: ``requests`` takes 70 ms to import. Its gaps are closed:

- Its ``timeout`` limits the silence between two packets, so a server that sends one byte per second
  holds a function for hours. Here each exchange runs in its own thread, and the caller stops
  waiting at the deadline, whether the exchange waits for name resolution, the connection, the TLS
  handshake, headers or the body. The connection is then shut down, which ends the thread.
- It reads bodies of any size. Here they are read and inflated chunk by chunk, up to a limit.
- With ``trust_env`` it replaces the ``Authorization`` header with an entry in ``.netrc``, and sends
  everything through any proxy that the environment names. Here that is off.
- It follows redirects, even to other hosts. Here a redirect is an error.

Connections are not reused: Lambda freezes a function between two syncs, so an idle connection is
usually dead. A request on a fresh connection never needs to be repeated, so nothing is sent twice.
"""

from __future__ import annotations

import http.client
import socket
import threading
import zlib
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3.exceptions
from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context

from storesync.errors import (
    ConfigurationError,
    EndpointNotFoundError,
    MalformedResponseError,
    ProviderUnavailableError,
)
from storesync.responses import HttpResponse, check_parsed_bytes, parsed_bytes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

CHUNK_BYTES: Final = 64 * 1024
_SUCCESS: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_NOT_MODIFIED: Final = 304
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
"""The largest window, with the header and checksum of gzip (zlib's manual, ``inflateInit2``)."""
NO_ADDRESS: Final = "base_url is not an address such as https://flags.example.com"
_INVALID_URL = (requests.exceptions.InvalidURL, urllib3.exceptions.LocationValueError)
_TRANSPORT_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,  # from parsing bytes that are not HTTP
)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of one exchange."""

    connect_s: float = 3.0
    total_s: float = 10.0
    """From the call to the last byte, everything included."""
    max_body_bytes: int = 20 * 1024 * 1024
    """After inflating: about 29,000 flags of 720 bytes. Parsed, that takes 190 MB (measured), and
    the comparison needs the published set as well: all that a function of 512 MB can hold. Beyond
    that, a clear error is better than a killed function."""
    max_parsed_bytes: int = 312 * 1024 * 1024
    """As estimated by :func:`~storesync.responses.parsed_bytes`: 512 MB minus 200 MB for code, the
    body and its text."""


@dataclass(frozen=True, slots=True)
class HttpClient:
    """Sends requests. Thread-safe: exchanges share nothing."""

    limits: HttpLimits = HttpLimits()

    def within(self, total_s: float) -> HttpClient:
        """Return a client with at most *total_s* seconds per request, if this one has more."""
        limits = replace(self.limits, total_s=min(total_s, self.limits.total_s))
        return replace(self, limits=limits)

    def get(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        allow_http: bool = False,
    ) -> HttpResponse:
        """Send one GET, or with a *body* one POST, without retries or redirects.

        The body of a POST's response is ignored.

        Raises:
            ConfigurationError: the URL or a header cannot be sent.
            ProviderUnavailableError: no complete response within the deadline.
            EndpointNotFoundError: a redirect.
            MalformedResponseError: a body that does not inflate, or is too large.
        """
        host = _check(url, headers, allow_http=allow_http)
        exchange = _Exchange(url, headers, host, self.limits, body)
        total_s = self.limits.total_s
        try:
            if total_s > 0:
                threading.Thread(target=exchange.run, name=f"to {host}", daemon=True).start()
            return exchange.outcome.result(timeout=max(total_s, 0.0))
        except TimeoutError:
            raise ProviderUnavailableError(
                f"no complete response from {host} within {total_s:g} s",
                in_doubt=exchange.connected,
            ) from None
        finally:
            exchange.end()

    post = get


@dataclass(eq=False, slots=True)
class _Exchange:
    """One request and its response, in a thread that the caller can end."""

    url: str
    headers: Mapping[str, str]
    host: str
    limits: HttpLimits
    body: bytes | None = None
    """None: a GET."""
    outcome: Future[HttpResponse] = field(default_factory=Future)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: bool = False
    connected: bool = False
    """Whether the server may have received something."""
    twin: socket.socket | None = None

    def run(self) -> None:
        """Set the outcome, success or not."""
        try:
            self.outcome.set_result(self._response())
        except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
            self.outcome.set_exception(self._to_error(error))

    def adopt(self, sock: socket.socket) -> socket.socket:
        """Keep a duplicate of a new connection's socket; refuse it once the exchange has ended.

        Shutting down the duplicate shuts down the connection for both, without touching the object
        that the other thread reads from: closing that one could close an unrelated descriptor with
        the same number, and ``SSLSocket.shutdown`` is not thread-safe.
        """
        with self.lock:
            if not self.ended:
                self.twin = sock.dup()
                self.connected = True
                return sock
        sock.close()
        raise TimeoutError

    def end(self) -> None:
        """Shut down the connection. Idempotent."""
        with self.lock:
            self.ended = True
            twin, self.twin = self.twin, None
        if twin is None:
            return
        try:
            twin.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the server closed it first
        finally:
            twin.close()

    def _response(self) -> HttpResponse:
        own = {
            "User-Agent": "flagstore",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Connection": "close",
        }
        with requests.Session() as session:
            session.trust_env = False
            session.mount("https://", _Adapter(self))
            session.mount("http://", _Adapter(self))
            with session.request(
                "GET" if self.body is None else "POST",
                self.url,
                data=self.body,
                headers=own | dict(self.headers),
                timeout=(self.limits.connect_s, None),  # end() wakes a read at the deadline
                allow_redirects=False,
                stream=True,
            ) as response:
                status = response.status_code
                if status in _REDIRECT and status != _NOT_MODIFIED:
                    raise EndpointNotFoundError(
                        f"{self.host} responded with {status}: redirects are not followed, since "
                        f"they would send the key elsewhere; set base_url to the final address"
                    )
                headers = {name.lower(): value for name, value in response.headers.items()}
                wanted = status in _SUCCESS and self.body is None
                body = self._body(response) if wanted else b""
                return HttpResponse(status, headers, body)

    def _to_error(self, error: BaseException) -> BaseException:
        """Return the error for the caller: libraries' messages quote URLs and headers."""
        if isinstance(error, _INVALID_URL):
            return ConfigurationError(NO_ADDRESS)
        if isinstance(error, zlib.error):
            return MalformedResponseError("the response is damaged: it does not inflate")
        if isinstance(error, _TRANSPORT_ERRORS):
            reason = f"no complete response from {self.host}: {_reason(error)}"
            in_doubt = self.connected and not isinstance(error, requests.exceptions.SSLError)
            return ProviderUnavailableError(reason, in_doubt=in_doubt)
        return error

    def _body(self, response: requests.Response) -> bytes:
        """Return the inflated body; a decompression bomb hits the limit before memory runs out."""
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        chunks = _wire(response)
        if encoding in {"gzip", "x-gzip"}:
            chunks = _inflated(chunks)
        elif encoding not in {"identity", ""}:
            raise MalformedResponseError(f"{self.host} used an encoding that was not requested")
        body = b"".join(_capped(chunks, self.limits.max_body_bytes))
        check_parsed_bytes(parsed_bytes(body), self.limits.max_parsed_bytes)
        return body


class _Adapter(requests.adapters.HTTPAdapter):
    """Passes each new connection to its exchange, before TLS and the request begin."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Create the connection pool, with the TLS context of this process."""
        super().init_poolmanager(*args, ssl_context=tls_context(), **kwargs)

    def cert_verify(self, conn: Any, *_: Any) -> None:  # noqa: ANN401
        """Set no roots: the context has them, and urllib3 would parse them per connection."""
        conn.cert_reqs = "CERT_REQUIRED"

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return the pool that ``requests`` would use, with connections that can be ended."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        base: Any = pool.ConnectionCls
        exchange = self._exchange

        class Connection(base):  # type: ignore[misc]
            def _new_conn(self) -> socket.socket:
                return exchange.adopt(super()._new_conn())

        pool.ConnectionCls = Connection
        return pool


@cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS context of all connections: parsing its roots takes 40 ms on a full core."""
    context = create_urllib3_context()
    context.load_verify_locations(requests.adapters.DEFAULT_CA_BUNDLE_PATH)
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    # urllib3 does that for each connection, while another thread may be using the context.
    context.set_alpn_protocols = lambda alpn_protocols: None  # type: ignore[method-assign]  # noqa: ARG005
    return context


def _wire(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it was sent; urllib3 raises if Content-Length is wrong."""
    while chunk := response.raw.read(CHUNK_BYTES, decode_content=False):
        yield chunk


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Inflate gzip in bounded steps; urllib3 2.8 hangs if a gzip member ends with a step."""
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    for chunk in chunks:
        rest = chunk
        while rest:
            if inflater.eof:  # a gzip body may have several members (RFC 1952, 2.2)
                inflater = zlib.decompressobj(_GZIP_WINDOW)
            yield inflater.decompress(rest, CHUNK_BYTES)
            # Output beyond the step's size comes with the next step, and there is always one: the
            # checksum at the end is not read before everything is out.
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if not inflater.eof:
        raise MalformedResponseError("the response ends in the middle of its compressed body")


def _capped(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise MalformedResponseError(
                f"the response is larger than {limit} bytes: select fewer flags with the "
                f"source's options, or restrict its key"
            )
        yield chunk


# -- validation and errors


def _check(url: str, headers: Mapping[str, str], *, allow_http: bool) -> str:
    """Return the host for messages, which must not quote path, query or headers.

    Raises:
        ConfigurationError: the URL or a header is invalid.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(NO_ADDRESS) from None
    host = parts.hostname
    if not host:
        raise ConfigurationError(NO_ADDRESS)
    if "@" in parts.netloc:
        raise ConfigurationError(f"base_url of {host} must not hold a user name or password")
    if parts.scheme != "https" and not (allow_http and parts.scheme == "http"):
        raise ConfigurationError(
            f"base_url of {host} must begin with https:// (or allow http for this source)"
        )
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            raise ConfigurationError(
                f"the value of the header {name} contains a line break, a space at its start or "
                f"end, or another character that HTTP does not allow: remove it"
            )
    return host


def _reason(error: BaseException) -> str:
    """Return the reason by the type of the innermost error."""
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS failed (an invalid certificate?)"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "the connection timed out"
    innermost: BaseException = error
    while inner := innermost.__cause__ or innermost.__context__:
        innermost = inner
    return f"the connection failed ({type(innermost).__name__})"
