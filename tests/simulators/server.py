"""What the simulated providers share: the server, counters, lag, faults, and sending webhooks."""

from __future__ import annotations

import gzip
import http.server
import json
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from urllib3 import PoolManager
from urllib3.exceptions import HTTPError
from urllib3.util import SKIP_HEADER

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from .faults import Fault

WEBHOOK_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Request:
    """One request as it came: header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class Delivery:
    """One webhook: what was sent, and what came back for each try (0: no response)."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    statuses: list[int] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one connection, with the methods that faults need."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 5.0

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        request = Request(self.command, self.path, headers, body)
        provider = self.server.provider
        with provider.lock:
            provider.requests.append(request)
            fault = provider.faults.popleft() if provider.faults else None
        # One request a connection, as for our client, so a broken one never meets the next.
        self.close_connection = True
        if fault is not None:
            fault(self)
            return
        status, body, extra = provider.response(request)
        if body and "gzip" in headers.get("accept-encoding", ""):
            body, extra = gzip.compress(body, 1), {**extra, "Content-Encoding": "gzip"}
        self.reply(status, body, {"Content-Type": "application/json", **extra})

    do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815 - the names that http.server looks for

    def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # The client had seen enough.

    def send_raw(self, data: bytes) -> bool:
        """Send bytes as they are; False when the client is gone or the server ends."""
        try:
            self.connection.sendall(data)
        except OSError:
            return False
        return not self.server.ending.is_set()

    def drip(self, chunks: Iterator[bytes], interval_s: float) -> None:
        """Send chunk after chunk, slowly, until one side ends."""
        for chunk in chunks:
            if not self.send_raw(chunk) or self.server.ending.wait(interval_s):
                return

    def wait_for_end(self) -> None:
        """Say nothing until the client goes, or the server ends."""
        self.connection.settimeout(0.05)
        while not self.server.ending.is_set():
            try:
                if not self.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def good_body(self) -> bytes:
        return self.server.provider.document()

    def empty_body(self) -> bytes:
        return self.server.provider.empty_document()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        """Log nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # So that closing the server waits for them.
    request_queue_size = 128

    def __init__(self, provider: ProviderServer) -> None:
        self.provider = provider
        self.ending = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let clients break off; anything else is a fault of the simulator, and is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class ProviderServer:
    """Base of the simulators: every change is a new state; :meth:`lag` serves an older one."""

    def __init__(self) -> None:
        self.tls: ssl.SSLContext | None = None
        """Set before the start to serve https."""
        self.trust: ssl.SSLContext | None = None
        """What to send webhooks to https with; by default the system's authorities."""
        self.requests: list[Request] = []
        self.deliveries: list[Delivery] = []
        self.faults: deque[Fault] = deque()
        self.delivered = range(200, 300)
        """The statuses that this provider takes for a webhook's delivery."""
        self.pause_s = 0.0
        """Seconds between two tries of a webhook."""
        self.lock = threading.RLock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._newest: Any = None
        self._frozen: Any = None
        self._frozen_for = 0
        self._sending: list[threading.Thread] = []

    # -- the server -----------------------------------------------------------------------------

    def start(self) -> Self:
        self._server = _Server(self)
        if self.tls is not None:
            # The handshake belongs into the connection's own thread.
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), name=type(self).__name__, daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        self.settle()
        if self._server is not None and self._thread is not None:
            self._server.ending.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        assert self._server, "start the simulator first"
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_port}"

    def response(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers. Each provider has its own."""
        raise NotImplementedError

    def document(self) -> bytes:
        raise NotImplementedError

    def empty_document(self) -> bytes:
        raise NotImplementedError

    # -- states and lag -------------------------------------------------------------------------

    def lag(self, *, requests: int) -> None:
        """Serve today's state for so many requests, whatever changes."""
        with self.lock:
            self._frozen, self._frozen_for = self._newest, requests

    def publish(self, state: Any) -> None:
        with self.lock:
            self._newest = state

    def newest(self) -> Any:
        return self._newest

    def served(self) -> Any:
        """Return the state that is due for one more request."""
        with self.lock:
            if self._frozen_for > 0:
                self._frozen_for -= 1
                return self._frozen
            return self._newest

    # -- webhooks -------------------------------------------------------------------------------

    def send(self, url: str, headers: Mapping[str, str], body: bytes, tries: int) -> None:
        """Post a webhook in the background, and again while it counts as not delivered."""
        delivery = Delivery(url, dict(headers), body)
        thread = threading.Thread(target=_deliver, args=(self, delivery, tries), daemon=True)
        with self.lock:
            self.deliveries.append(delivery)
            self._sending = [sent for sent in self._sending if sent.is_alive()]
            self._sending.append(thread)
            thread.start()

    def settle(self) -> None:
        with self.lock:
            sending = list(self._sending)
        for thread in sending:
            thread.join()


def _deliver(provider: ProviderServer, delivery: Delivery, tries: int) -> None:
    for number in range(tries):
        if number:
            time.sleep(provider.pause_s)
        delivery.statuses.append(_post(delivery, provider.trust))
        if delivery.statuses[-1] in provider.delivered:
            return


def _post(delivery: Delivery, trust: ssl.SSLContext | None) -> int:
    headers = {"user-agent": SKIP_HEADER, **delivery.headers}  # not every provider sends one
    with PoolManager(ssl_context=trust, retries=False, timeout=WEBHOOK_TIMEOUT_S) as pool:
        try:
            return pool.request("POST", delivery.url, body=delivery.body, headers=headers).status
        except HTTPError:
            return 0


def compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
