"""Connect to a server: resolve its name, open a socket, check its certificate.

Everything ends by a deadline, in ``time.monotonic()`` seconds. Whatever goes wrong is an OSError.
"""

from __future__ import annotations

import os
import socket
import time
from _thread import allocate_lock, start_new_thread  # threading brings more than both
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from ssl import SSLContext
    from typing import TypeVar

    Result = TypeVar("Result")

AMAZON = "Amazon's roots"
"""Instead of a file of authorities: :mod:`flagstore.stores.amazon_roots`. Parsing these five takes
a thirtieth of the time of the system's 140."""
UNKNOWN_ISSUER = {2, 18, 19, 20, 21}
"""OpenSSL's codes for a certificate whose issuer is not among those that are trusted."""
READ_BYTES = 65_536
MAX_LINE_BYTES = 65_536
KNOWN_SHARE = 1 / 3
"""Share of the time left that a look-up gets while addresses are known from before."""


class Stream:
    """A connected socket, on which exchanges of data take place one after the other."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._deadline = self._first_byte_by = 0.0
        self._buffer, self._at = bytearray(), 0
        self.receiving = False
        """Whether the current exchange has received anything yet."""

    def begin(self, deadline: float, first_byte_by: float | None = None) -> None:
        """Begin an exchange.

        Args:
            deadline: when it has to be complete.
            first_byte_by: when its first byte has to be here, if that is earlier.
        """
        self._deadline = deadline
        self._first_byte_by = deadline if first_byte_by is None else first_byte_by
        self.receiving = False

    def send(self, data: bytes) -> None:
        """Send all of the data."""
        self._socket.settimeout(left(self._deadline))
        self._socket.sendall(data)

    def line(self) -> bytes:
        """Return the next line, without its end."""
        left(self._deadline)  # to take a flood of short lines apart also takes time
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            if len(self._buffer) - self._at > MAX_LINE_BYTES:
                message = "a line without an end"
                raise ConnectionError(message)
            self._buffer += self._receive(READ_BYTES)
        data = bytes(memoryview(self._buffer)[self._at : end])
        self._at = end + 2
        return data

    def exactly(self, size: int) -> bytes:
        """Return so many of the next bytes."""
        end = min(self._at + size, len(self._buffer))
        parts = [bytes(memoryview(self._buffer)[self._at : end])]
        self._at = end
        missing = size - len(parts[0])
        while missing:
            parts.append(self._receive(min(missing, READ_BYTES)))
            missing -= len(parts[-1])
        return b"".join(parts)

    def is_drained(self) -> bool:
        """Return whether all that was received has been returned."""
        if self._at < len(self._buffer):
            return False
        self._buffer.clear()
        self._at = 0
        return True

    def is_open(self) -> bool:
        """Return whether the other end has neither closed the connection nor sent anything."""
        if not self.is_drained():
            return False
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError as error:
            return type(error).__name__ == "SSLWantReadError"
        return False

    def _receive(self, size: int) -> bytes:
        self._socket.settimeout(left(self._deadline if self.receiving else self._first_byte_by))
        data = self._socket.recv(size)
        if not data:
            message = "the server closed the connection"
            raise ConnectionResetError(message)
        self.receiving = True
        return data

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._socket.close()


def connect(
    name: str, port: int, deadline: float, *, tls: bool = False, ca_file: str = ""
) -> Stream:
    """Connect to a server.

    With TLS, its name and certificate are checked: against the authorities in *ca_file* and no
    others if that is given, or else against Amazon's roots and, where another one has issued it,
    the system's store, which also covers private endpoints, proxies and ``SSL_CERT_FILE``.

    Raises:
        OSError: there is no connection in time, or the certificate is not trusted
            (``ssl.SSLCertVerificationError``).
    """
    if not tls:
        return Stream(_open(name, port, deadline))
    if ca_file or name in _outside_amazon:
        return Stream(_shake_hands(name, port, deadline, ca_file))
    try:
        return Stream(_shake_hands(name, port, deadline, AMAZON))
    except OSError as error:  # without importing ssl, which the first connection does meanwhile
        if getattr(error, "verify_code", 0) not in UNKNOWN_ISSUER:
            raise
        secured = _shake_hands(name, port, deadline, "")
    _outside_amazon.add(name)
    return Stream(secured)


def prepare_tls(ca_file: str = AMAZON) -> SSLContext:
    """Return what certificates are checked with, made once per process.

    Args:
        ca_file: PEM file with the authorities to trust; empty for the system's store.

    Raises:
        OSError: if the file cannot be read or holds no certificate.
    """
    if ca_file not in _contexts:
        import ssl  # noqa: PLC0415 - 15 ms, for TLS only

        from flagstore.stores import amazon_roots  # noqa: PLC0415 - with it

        trusted = {"cadata": amazon_roots.PEM} if ca_file == AMAZON else {"cafile": ca_file or None}
        _contexts[ca_file] = ssl.create_default_context(**trusted)
    return _contexts[ca_file]


def left(deadline: float) -> float:
    """Return the seconds until a deadline.

    Raises:
        TimeoutError: if it has passed.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        message = "out of time"
        raise TimeoutError(message)
    return seconds


def in_background(task: Callable[[], Result], deadline: float, name: str) -> Result:
    """Run a task that has no deadline of its own in another thread, and wait for it.

    There is at most one such thread: while a task hangs, no other is started.

    Raises:
        TimeoutError: if it is not done in time; it goes on nevertheless.
    """
    return _start(task, deadline, name)()


def _start(task: Callable[[], Result], deadline: float, name: str) -> Callable[[], Result]:
    """Start a task in the background; return a function that waits for its result.

    Raises:
        OSError: if no thread can be started, or it is too late.
    """
    left(deadline)
    busy = _busy
    done = allocate_lock()
    done.acquire()
    results: list[Result] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(_alone(busy, task, deadline, name))
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            errors.append(error)
        finally:
            done.release()

    def wait() -> Result:
        if not done.acquire(timeout=max(0.0, deadline - time.monotonic())):
            message = f"{name} took too long"
            raise TimeoutError(message)
        if errors:
            raise errors[0]
        return results[0]

    try:
        start_new_thread(run, ())
    except RuntimeError as error:  # too many of them, or the interpreter is ending
        message = f"{name}: {error}"
        raise OSError(message) from error
    return wait


def _alone(busy: LockType, task: Callable[[], Result], deadline: float, name: str) -> Result:
    """Run a task in the background while no other one runs.

    The lock is this thread's: in the one that waits, a signal handler may raise between two lines.
    """
    if not busy.acquire(timeout=left(deadline)):
        message = f"{name}: an earlier task in the background still hangs"
        raise TimeoutError(message)
    try:
        return task()
    finally:
        busy.release()


def _shake_hands(name: str, port: int, deadline: float, ca_file: str) -> socket.socket:
    """Connect with TLS, trusting one file of authorities, or the system's store."""
    context = _contexts.get(ca_file)
    if context is None and ca_file == AMAZON and (name, port) not in _addresses:
        # The first connection: looking up the name and connecting is waiting, importing ssl is not.
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
    """Return the addresses of a name, and remember them, also if nobody waits for them any more.

    Raises:
        OSError: if there are none, or it cannot be a name.
    """
    try:
        # As bytes: for a text Python imports the rules for other alphabets.
        host = name.encode("ascii" if name.isascii() else "idna")
    except UnicodeError as error:
        message = f"{name!r} is not a host name"
        raise OSError(message) from error
    found = _addresses[name, port] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return found


def _dial(addresses: list[Any], deadline: float) -> socket.socket:
    """Connect to the first address that accepts.

    Each has its share of the time that is left: one that swallows packets, as in a zone that is
    lost, must not take that of the others. ``socket.create_connection`` gives each all of it.
    """
    for place, address in enumerate(addresses, 1):
        try:
            return _dial_one(address, left(deadline) / (len(addresses) - place + 1))
        except OSError:
            if place == len(addresses):
                raise
    message = "the name has no address"
    raise ConnectionError(message)


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


_contexts: dict[str, SSLContext] = {}
_outside_amazon: set[str] = set()
"""Names of servers whose certificate the system's store vouches for, and Amazon's roots do not."""
_addresses: dict[tuple[str, int], list[Any]] = {}
_busy = allocate_lock()


def _after_fork() -> None:
    global _busy  # noqa: PLW0603 - the parent's thread, which would release it, is not here
    _busy = allocate_lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
