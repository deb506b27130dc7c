"""Sockets with deadlines: resolve, connect, verify certificates, retry.

Deadlines are in ``time.monotonic()`` seconds. Every failure below :class:`RetryingTransport` is an
``OSError``.
"""

from __future__ import annotations

import os
import socket
import time
from _thread import allocate_lock, start_new_thread  # threading imports more than both
from typing import TYPE_CHECKING, Any

from flagstore.errors import StoreUnavailableError

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from ssl import SSLContext
    from typing import TypeVar

    Result = TypeVar("Result")


AMAZON = "Amazon's roots"
"""In place of a CA file: the roots in :mod:`flagstore.stores.amazon_roots`. Parsing those 5 takes a
thirtieth of the time of the system's 140."""
UNKNOWN_ISSUER = {2, 18, 19, 20, 21}
"""OpenSSL's codes for a certificate whose issuer is not trusted."""
READ_BYTES = 65_536
MAX_LINE_BYTES = 65_536
KNOWN_SHARE = 1 / 3
"""Share of the remaining time for a DNS lookup if earlier addresses are known."""
KEPT_SHARE = 0.4
"""Share of the remaining time in which a reused connection must send the first byte. The server may
have gone while Lambda froze the process, and a fresh connection needs time too."""
FIRST_PAUSE_S = 0.05
"""Maximum pause before the second attempt; it doubles each time."""

_contexts: dict[str, SSLContext] = {}
_outside_amazon: set[str] = set()
"""Servers whose certificates need the system's authorities, not Amazon's."""
_addresses: dict[tuple[str, int], list[Any]] = {}
_busy: dict[int, LockType] = {}
"""Process id → lock held by a background task: a fork copies the lock, but not the thread."""


class RetryingTransport:
    """Base of the stores' transports. Not thread-safe: the cache serializes access."""

    trust_remedy = ""
    """What to check if the server's certificate is not trusted."""
    throttled = 0
    """How often the server has asked to slow down."""

    def __init__(self, server: str) -> None:
        """Name the server for messages; nothing is connected yet."""
        self._server = server
        self._connection: Stream | None = None

    def close(self) -> None:
        """Close the connection, if there is one. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _repeat(self, exchange: Callable[[], tuple[Result, str]], deadline: float) -> Result:
        """Return the result of an exchange, retried while another attempt may help.

        Args:
            exchange: returns the result and a problem that another attempt may solve, or "". An
                OSError is such a problem, too.
            deadline: for all attempts together.

        Raises:
            StoreUnavailableError: if none succeeded by the deadline.
        """
        attempt, earlier = 0, ""
        while True:
            kept = self._connection is not None and self._connection.is_open()
            if not kept:
                self.close()
            receiving = False
            try:
                result, problem = exchange()
                if not problem:
                    return result
                # If the last attempt merely timed out, an earlier response has the reason.
                earlier = f" (before that: {problem})"
            except OSError as error:
                if self._connection is not None and isinstance(error, TimeoutError):
                    receiving = self._connection.receiving
                self.close()
                problem = self._describe(error) + earlier
                if kept and time.monotonic() < deadline:
                    continue  # the reused connection was dead: try a fresh one at once
            # Full jitter, from the OS: clones of a SnapStart image share Python's generator.
            pause = FIRST_PAUSE_S * 2**attempt * os.urandom(1)[0] / 256
            if time.monotonic() + pause >= deadline:
                raise StoreUnavailableError(f"{self._server}: {problem}", receiving=receiving)
            time.sleep(pause)
            attempt += 1

    def _describe(self, error: OSError) -> str:
        """Describe an error after which another attempt may help.

        Raises:
            StoreUnavailableError: for a certificate that is not trusted.
        """
        problem = f"{type(error).__name__}: {error}"
        if type(error).__name__ != "SSLCertVerificationError":
            return problem
        raise StoreUnavailableError(f"{self._server}: {problem}; {self.trust_remedy}") from error


class Stream:
    """A connected socket that serves one exchange at a time."""

    max_bytes = float("inf")
    """What one exchange may receive."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._pid = os.getpid()
        self._deadline = self._first_byte_by = 0.0
        self._is_fresh = True
        self._received = 0
        self._buffer, self._at = bytearray(), 0
        self.receiving = False
        """Whether the current exchange has received anything."""

    def begin(self, deadline: float) -> None:
        """Begin an exchange; after the first, an earlier deadline applies to the first byte."""
        now = time.monotonic()
        share = 1.0 if self._is_fresh else KEPT_SHARE
        self._deadline, self._first_byte_by = deadline, now + share * (deadline - now)
        self._is_fresh = self.receiving = False
        self._received = 0

    def send(self, data: bytes) -> None:
        """Send all of the data."""
        self._socket.settimeout(left(self._deadline))
        self._socket.sendall(data)

    def line(self) -> bytes:
        """Return the next line, without its end."""
        left(self._deadline)  # a flood of short lines takes time, too
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            if len(self._buffer) - self._at > MAX_LINE_BYTES:
                raise ConnectionError("the response has a line without an end")
            self._buffer += self._receive(READ_BYTES)
        data = bytes(memoryview(self._buffer)[self._at : end])
        self._at = end + 2
        return data

    def exactly(self, size: int) -> bytes:
        """Return the next *size* bytes."""
        end = min(self._at + size, len(self._buffer))
        parts = [bytes(memoryview(self._buffer)[self._at : end])]
        self._at = end
        missing = size - len(parts[0])
        while missing:
            parts.append(self._receive(min(missing, READ_BYTES)))
            missing -= len(parts[-1])
        return b"".join(parts)

    def is_drained(self) -> bool:
        """Return whether everything received has been consumed."""
        if self._at < len(self._buffer):
            return False
        self._buffer.clear()
        self._at = 0
        return True

    def is_open(self) -> bool:
        """Return whether this process opened it, and the server has neither closed it nor sent."""
        if self._pid != os.getpid() or not self.is_drained():
            return False
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError as error:
            return type(error).__name__ == "SSLWantReadError"
        return False

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._socket.close()

    def _receive(self, size: int) -> bytes:
        self._socket.settimeout(left(self._deadline if self.receiving else self._first_byte_by))
        data = self._socket.recv(size)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self.receiving = True
        self._received += len(data)
        if self._received > self.max_bytes:
            raise ConnectionError("the response is too long")
        return data


def left(deadline: float) -> float:
    """Return the seconds until a deadline.

    Raises:
        TimeoutError: if it has passed.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("out of time")
    return seconds


# -- connecting -----------------------------------------------------------------------------------


def connect(
    name: str, port: int, deadline: float, *, tls: bool = False, ca_file: str = ""
) -> socket.socket:
    """Connect to a server; with TLS, check its name and certificate.

    Trusts only the authorities in *ca_file* if it is given, else Amazon's and then, for
    private endpoints and proxies, the system's (``SSL_CERT_FILE``).
    """
    if not tls:
        return _open(name, port, deadline)
    if ca_file or name in _outside_amazon:
        return _shake_hands(name, port, deadline, ca_file)
    try:
        return _shake_hands(name, port, deadline, AMAZON)
    except OSError as error:  # ssl's own class would have to be imported before connecting
        if getattr(error, "verify_code", 0) not in UNKNOWN_ISSUER:
            raise
        secured = _shake_hands(name, port, deadline, "")
    _outside_amazon.add(name)
    return secured


def prepare_tls(ca_file: str = AMAZON) -> SSLContext:
    """Return the context that trusts a PEM file, or the system's store; cached for the process."""
    if ca_file not in _contexts:
        import ssl  # noqa: PLC0415 - 15 ms, for TLS only

        from flagstore.stores import amazon_roots  # noqa: PLC0415 - for TLS only

        trusted = {"cadata": amazon_roots.PEM} if ca_file == AMAZON else {"cafile": ca_file or None}
        _contexts[ca_file] = ssl.create_default_context(**trusted)
    return _contexts[ca_file]


def _shake_hands(name: str, port: int, deadline: float, ca_file: str) -> socket.socket:
    context = _contexts.get(ca_file)
    if context is None and ca_file == AMAZON and (name, port) not in _addresses:
        # The first connection: import ssl while another thread waits for DNS and the server.
        finish = _start(lambda: _dial(_look_up(name, port), deadline), deadline, name)
        context = prepare_tls(ca_file)
        connected = finish()
    else:
        if context is None:
            # With a small share of a CPU, parsing the system's store takes longer than a refresh.
            context = in_background(lambda: prepare_tls(ca_file), deadline, "trusted certificates")
        connected = _open(name, port, deadline)
    try:
        connected.settimeout(left(deadline))
        return context.wrap_socket(connected, server_hostname=name.rstrip("."))
    except BaseException:
        connected.close()
        raise


def _open(name: str, port: int, deadline: float) -> socket.socket:
    """Connect to a name; if it cannot be looked up in time, to the last known addresses."""
    known = _addresses.get((name, port))
    by = deadline if known is None else time.monotonic() + KNOWN_SHARE * left(deadline)
    try:
        # The system's resolver has no deadline: a name server that drops packets costs 10 s.
        addresses = in_background(lambda: _look_up(name, port), by, name)
    except OSError:
        if known is None:
            raise
        addresses = known
    return _dial(addresses, deadline)


def _look_up(name: str, port: int) -> list[Any]:
    """Return the addresses of a name, and keep them, even if the caller has given up waiting."""
    try:
        # As bytes: for a string, Python would import the IDNA codec.
        host = name.encode("ascii" if name.isascii() else "idna")
    except UnicodeError as error:
        raise OSError(f"{name!r} is not a host name") from error
    found = _addresses[name, port] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return found


def _dial(addresses: list[Any], deadline: float) -> socket.socket:
    """Connect to the first address that accepts.

    Each gets its share of the remaining time, so that one in a failed Availability Zone, which
    drops packets, leaves time for the others. ``socket.create_connection`` gives each all of it.
    """
    for place, address in enumerate(addresses, 1):
        try:
            return _dial_one(address, left(deadline) / (len(addresses) - place + 1))
        except OSError:
            if place == len(addresses):
                raise
    raise ConnectionError("the name has no address")


def _dial_one(found: Any, seconds: float) -> socket.socket:  # noqa: ANN401 - of getaddrinfo
    family, kind, protocol, _, address = found
    made = socket.socket(family, kind, protocol)
    try:
        made.settimeout(seconds)
        made.connect(address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        made.close()
        raise
    return made


# -- in the background ----------------------------------------------------------------------------


def in_background(task: Callable[[], Result], deadline: float, name: str) -> Result:
    """Run a task that has no deadline of its own in another thread, and wait for it.

    There is at most one such thread: while a task hangs, no other is started.

    Raises:
        TimeoutError: if it is not done in time; it keeps running.
    """
    return _start(task, deadline, name)()


def _start(task: Callable[[], Result], deadline: float, name: str) -> Callable[[], Result]:
    """Start a task in the background; return a function that waits for its result."""
    left(deadline)
    busy = _busy.setdefault(os.getpid(), allocate_lock())
    done = allocate_lock()
    done.acquire()
    results: list[Result] = []
    errors: list[Exception] = []

    def run() -> None:
        # This thread holds the lock, not the one that waits: a signal handler, which runs in the
        # main thread, cannot raise here.
        try:
            if not busy.acquire(timeout=left(deadline)):
                message = f"{name}: an earlier background task still hangs"
                raise TimeoutError(message)  # noqa: TRY301 - caught for the thread that waits
            try:
                results.append(task())
            finally:
                busy.release()
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            errors.append(error)
        finally:
            done.release()

    def wait() -> Result:
        if not done.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"{name} took too long")
        if errors:
            raise errors[0]
        return results[0]

    try:
        start_new_thread(run, ())
    except RuntimeError as error:  # too many threads, or the interpreter is ending
        raise OSError(f"{name}: {error}") from error
    return wait
