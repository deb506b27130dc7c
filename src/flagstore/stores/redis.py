"""Read from Redis: one round trip a read over a kept connection, standard library only.

redis-py would cost a cold start 106 ms, a command over a socket costs 12.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.layout import piece_key
from flagstore.stores.redis_layout import (
    PORTS,
    URL_SHAPE,
    Address,
    parse_url,
    record_name,
    to_record,
    without_arguments,
)
from flagstore.stores.resp import Connection, ErrorReply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ssl import SSLContext

    from flagstore.layout import Key, Record
    from flagstore.stores.resp import Command, Reply

IDLE_S = 5.0
"""A connection that idled longer is not used again: Lambda may have been frozen meanwhile."""
PIECES_AT_ONCE = 8
"""Pieces that one round trip asks for: 2.8 MB at most."""
MENDED = {"LOADING", "TRYAGAIN", "ASK", "MOVED", "CLUSTERDOWN", "MASTERDOWN", "BUSY"}
"""Errors that a repetition may mend: a server that starts, fails over or moves slots."""
REMEDIES = {
    "NOAUTH": "put user and password into FLAGSTORE_REDIS_URL",
    "WRONGPASS": "check user and password in FLAGSTORE_REDIS_URL",
    "NOPERM": "give the user the reader's rights in docs/redis.md",
    "WRONGTYPE": "something else writes under flagstore:",
}


class Transport(Protocol):
    """Calls commands of Redis, before a deadline in ``time.monotonic()`` seconds."""

    def call(self, commands: Sequence[Command], deadline: float) -> list[Reply]:
        """Return one reply a command, none of them an error.

        Raises:
            StoreUnavailableError: if there are none in time.
        """


class RedisReader:
    """Reads records of one database. Every read asks the server that the URL names."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:  # noqa: ARG002 - a primary always is
        """Return one record: one HGETALL."""
        (fields,) = self._transport.call([("HGETALL", record_name(key))], deadline)
        return to_record(fields) if fields else None  # type: ignore[arg-type] # a list of bytes

    def pieces(
        self, source: str, ticket: int, *, deadline: float, part: int | None = None
    ) -> list[bytes]:
        """Return the pieces of a ticket's body or large part, in order: eight a round trip."""
        found: list[bytes] = []
        while True:
            numbers = range(len(found), len(found) + PIECES_AT_ONCE)
            keys = (piece_key(source, ticket, number, part) for number in numbers)
            asked = [("HGET", record_name(key), "body") for key in keys]
            replies = self._transport.call(asked, deadline)
            for reply in replies:
                if not isinstance(reply, bytes):
                    return found
                found.append(reply[1:])


def open_reader(environ: Mapping[str, str] = os.environ) -> RedisReader:
    """Return a reader of the server that the environment names.

    Raises:
        ConfigurationError: if ``FLAGSTORE_REDIS_URL`` is no URL of a server; it is not quoted.
    """
    address = parse_url(environ.get("FLAGSTORE_REDIS_URL", ""))
    if address is None:
        message = f"set FLAGSTORE_REDIS_URL to {URL_SHAPE}"
        raise ConfigurationError(message)
    return RedisReader(SocketTransport(address, environ.get("FLAGSTORE_REDIS_CA_FILE", "")))


class SocketTransport:
    """Redis over a socket, on one kept connection.

    Used by one thread at a time: the reader's refresh holds a lock.
    """

    def __init__(self, address: Address, ca_file: str = "") -> None:
        """Connect to nothing yet.

        Args:
            address: where the server is and how to enter.
            ca_file: trust the authorities in this PEM file instead of the system's.
        """
        self._address = address
        self._ca_file = ca_file
        self._context: SSLContext | None = None
        self._node = address
        """Where to connect: in a cluster, the node that served the last call."""
        self._connection: Connection | None = None
        self._used_at = self._used_wall = 0.0
        self._pid = 0

    def call(self, commands: Sequence[Command], deadline: float) -> list[Reply]:
        """Call commands, again after what a repetition can mend, until the deadline."""
        attempt, said = 0, ""
        while True:
            reused = self._is_warm()
            try:
                replies = self._once(commands, deadline)
            except OSError as error:
                self.close()
                self._node = self._address
                if reused:
                    continue  # the other end closed a kept connection: once more, on a fresh one
                problem = self._problem(error) + said
            else:
                problem = _refusal(replies)
                if not problem:
                    return replies
                # A server that is slow at last has told before what is wrong with it.
                said = f" (before that: {problem})"
            pause = 0.02 * 2**attempt * (0.5 + os.urandom(1)[0] / 256)
            if time.monotonic() + pause >= deadline:
                message = f"Redis at {self._address.place()}: {problem}"
                raise StoreUnavailableError(message)
            time.sleep(pause)
            attempt += 1

    def _once(self, commands: Sequence[Command], deadline: float) -> list[Reply]:
        """Call commands; where a cluster says which other node has the key, there."""
        replies = self._exchange(commands, deadline)
        node = _moved(replies)
        if node:
            self.close()
            # A cluster that does not know a node's name means the one that answered.
            self._node = self._node._replace(host=node[0] or self._node.host, port=node[1])
            replies = self._exchange(commands, deadline)
        return replies

    def _exchange(self, commands: Sequence[Command], deadline: float) -> list[Reply]:
        """Send commands; on a fresh connection behind the log-in, which costs no round trip."""
        login: list[Command] = []
        if self._connection is None:
            login = self._login()
            self._pid = os.getpid()
            tls = self._tls() if self._address.tls else None
            self._connection = Connection(self._node.host, self._node.port, tls, deadline)
        try:
            replies = self._connection.exchange([*login, *commands], deadline)
        except BaseException:
            # Also what a signal raises here: the next read would get the replies to this one.
            self.close()
            raise
        self._used_at, self._used_wall = time.monotonic(), time.time()
        first, rest = replies[: len(login)], replies[len(login) :]
        if any(isinstance(reply, ErrorReply) for reply in first):
            self.close()
            return first
        return rest

    def _login(self) -> list[Command]:
        user, password, database = (
            self._address.user,
            self._address.password,
            self._address.database,
        )
        login: list[Command] = []
        if password:
            login.append(("AUTH", user, password) if user else ("AUTH", password))
        if database:
            login.append(("SELECT", database))
        return login

    def _tls(self) -> SSLContext:
        """Return what checks the server's certificate and name, made once.

        Raises:
            ConfigurationError: if the file of authorities cannot be read.
        """
        if self._context is None:
            import ssl  # noqa: PLC0415 - not needed without TLS

            try:
                self._context = ssl.create_default_context(cafile=self._ca_file or None)
            except OSError as error:
                message = f"FLAGSTORE_REDIS_CA_FILE: {self._ca_file!r} cannot be read: {error}"
                raise ConfigurationError(message) from error
        return self._context

    def _problem(self, error: OSError) -> str:
        """Return what a repetition may mend.

        Raises:
            StoreUnavailableError: for a certificate that is not trusted.
        """
        problem = f"{type(error).__name__}: {error}"
        if type(error).__name__ != "SSLCertVerificationError":
            return problem
        message = (
            f"Redis at {self._address.place()}: {problem}; check the host's name, and set "
            "FLAGSTORE_REDIS_CA_FILE where its authority is your own"
        )
        raise StoreUnavailableError(message) from error

    def _is_warm(self) -> bool:
        """Say whether there is a connection to use again; one of another process never is."""
        # By both clocks: the monotonic one may stop while Lambda freezes us.
        idled = max(time.monotonic() - self._used_at, time.time() - self._used_wall)
        warm = self._pid == os.getpid() and idled < IDLE_S
        if not warm:
            self.close()
        return self._connection is not None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _refusal(replies: Sequence[Reply]) -> str:
    """Return the first error that a repetition may mend, or an empty text where there is none.

    Raises:
        StoreUnavailableError: for an error that no repetition mends.
    """
    error = next((reply for reply in replies if isinstance(reply, ErrorReply)), "")
    code = error.partition(" ")[0]
    text = without_arguments(error)
    if not code or code in MENDED or "max number of clients" in text:
        return text
    remedy = f"; {REMEDIES[code]}" if code in REMEDIES else ""
    message = f"Redis refused: {text}{remedy}"
    raise StoreUnavailableError(message)


def _moved(replies: Sequence[Reply]) -> tuple[str, int] | None:
    """Return host and port of the node that a cluster points to: ``MOVED <slot> <host>:<port>``."""
    for reply in replies:
        if isinstance(reply, ErrorReply) and reply.startswith("MOVED "):
            host, _, port = reply.rpartition(" ")[2].rpartition(":")
            if port.isdecimal() and int(port) in PORTS:
                return host, int(port)
    return None
