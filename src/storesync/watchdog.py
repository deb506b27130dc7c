"""Ending an HTTP exchange from outside, in whatever state it is; and where it may lead to."""

from __future__ import annotations

import socket
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import requests.adapters
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


class Guard:
    """Ends an exchange from outside, whatever it is doing.

    It keeps a duplicate of the socket: shutting that down shuts the connection down for both,
    without touching the object that another thread reads from (closing that one could hit a
    stranger's descriptor of the same number, and ``SSLSocket.shutdown`` is not thread-safe).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = False
        self._twin: socket.socket | None = None

    def adopt(self, sock: socket.socket) -> socket.socket:
        """Watch over a new connection; refuse it if the end has come already."""
        with self._lock:
            if not self._ended:
                self._drop()
                self._twin = sock.dup()
                return sock
        sock.close()
        raise TimeoutError

    def end(self) -> None:
        """Shut the connection down; again and again is fine."""
        with self._lock:
            self._ended = True
            self._drop()

    def _drop(self) -> None:
        twin, self._twin = self._twin, None
        if twin is None:
            return
        try:
            twin.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The other side was faster.
        finally:
            twin.close()


class GuardedAdapter(requests.adapters.HTTPAdapter):
    """Hands every new connection to a guard before TLS or the request begin.

    Args:
        guard: watches over the connection.
        check: raises for a host and an address of it that must not be connected to.
    """

    def __init__(self, guard: Guard, check: Callable[[str, str], None]) -> None:
        self._guard = guard
        self._check = check
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Make the pool of connections, all with the context of this process."""
        super().init_poolmanager(*args, ssl_context=tls_context(), **kwargs)

    def cert_verify(self, conn: Any, *_: Any) -> None:  # noqa: ANN401
        """Name no roots: the context has them, and urllib3 would parse them for each connection."""
        conn.cert_reqs = "CERT_REQUIRED"

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return the pool that ``requests`` would use, with guarded connections."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _guarded(pool.ConnectionCls, self._guard, self._check)
        return pool


def _guarded(
    base: Any,  # noqa: ANN401 - urllib3's classes differ by scheme
    guard: Guard,
    check: Callable[[str, str], None],
) -> Any:  # noqa: ANN401 - the same
    class Guarded(base):  # type: ignore[misc]
        _dns_host: str

        def _new_conn(self) -> socket.socket:
            """Connect to one of the addresses that were checked: nothing is resolved twice."""
            name = self._dns_host
            addresses = self._addresses()
            for address in addresses:
                check(name, address)
            try:
                for address in addresses[:-1]:
                    self._dns_host = address
                    try:
                        return guard.adopt(super()._new_conn())
                    except (NewConnectionError, ConnectTimeoutError):
                        continue
                self._dns_host = addresses[-1]
                return guard.adopt(super()._new_conn())
            finally:
                self._dns_host = name  # which the certificate must be for

        def _addresses(self) -> list[str]:
            try:
                found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from error
            return list(dict.fromkeys(str(each[4][0]) for each in found))

    return Guarded


def tls_context() -> ssl.SSLContext:
    """Return the TLS context of all connections: parsing its roots takes 40 ms of a whole core."""
    return _tls_context(requests.adapters.DEFAULT_CA_BUNDLE_PATH)


@cache
def _tls_context(roots: str) -> ssl.SSLContext:
    context = create_urllib3_context()
    context.load_verify_locations(roots)
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    # urllib3 does that at each connection, while another thread may be opening one with it.
    context.set_alpn_protocols = lambda alpn_protocols: None  # type: ignore[method-assign]  # noqa: ARG005
    return context
