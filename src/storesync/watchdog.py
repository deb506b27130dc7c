"""Ending an HTTP exchange from outside, in whatever state it is."""

from __future__ import annotations

import socket
import threading
from typing import Any

import requests.adapters


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
    """Hands every new connection to a guard before TLS or the request begin."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        super().__init__(max_retries=0)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return the pool that ``requests`` would use, with guarded connections."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _guarded(pool.ConnectionCls, self._guard)
        return pool


def _guarded(base: Any, guard: Guard) -> Any:  # noqa: ANN401 - urllib3's classes differ by scheme
    class Guarded(base):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            return guard.adopt(super()._new_conn())

    return Guarded
