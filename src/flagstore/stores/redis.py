"""Read from Redis: one round trip a read over a kept connection, standard library only.

redis-py would cost a cold start 106 ms, a command over a socket costs 12.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, Protocol

from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.keys import chunk_key
from flagstore.stores.network import connect, prepare_tls
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
from flagstore.stores.retrying import RetryingTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flagstore.keys import Key, Record
    from flagstore.stores.resp import Command, Reply

CHUNKS_AT_ONCE = 8
"""Chunks that one round trip asks for: 2.8 MB at most."""
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

    def prepare(self) -> None:
        """Import and build what a connection needs, without connecting."""

    def close(self) -> None:
        """Close the connection, if there is one. Idempotent."""


class RedisReader:
    """Reads records of one database. Every read asks the server that the URL names."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:  # noqa: ARG002 - a primary always is
        """Return one record: one HGETALL."""
        (fields,) = self._transport.call([("HGETALL", record_name(key))], deadline)
        return to_record(fields) if fields else None  # type: ignore[arg-type] # a list of bytes

    def chunks(
        self, source: str, prefix: str, *, deadline: float, start: int = 0
    ) -> Iterator[bytes]:
        """Yield the chunks of one body or large segment, in order: eight per round trip."""
        for first in count(start, CHUNKS_AT_ONCE):
            numbers = range(first, first + CHUNKS_AT_ONCE)
            keys = (chunk_key(source, prefix, number) for number in numbers)
            asked = [("HGET", record_name(key), "body") for key in keys]
            replies = self._transport.call(asked, deadline)
            for reply in replies:
                if not isinstance(reply, bytes):
                    return
                yield reply[1:]

    def prepare(self) -> None:
        """Import and build what a connection needs, without connecting."""
        self._transport.prepare()

    def close(self) -> None:
        """Close the connection, if there is one. Idempotent."""
        self._transport.close()


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


class SocketTransport(RetryingTransport):
    """Redis over a socket, on one kept connection."""

    trust_remedy = (
        "check the host's name, and set FLAGSTORE_REDIS_CA_FILE where its authority is private"
    )

    def __init__(self, address: Address, ca_file: str = "") -> None:
        """Connect to nothing yet.

        Args:
            address: where the server is and how to log in.
            ca_file: PEM file of the authorities to trust, and no others; by default Amazon's and
                the system's.
        """
        super().__init__(f"Redis at {address.place()}")
        self._address = address
        self._ca_file = ca_file
        self._node = address
        """Where to connect: in a cluster, the node that served the last call."""
        self._connection: Connection | None = None

    def call(self, commands: Sequence[Command], deadline: float) -> list[Reply]:
        """Call commands, again after what another attempt may improve on."""

        def exchange(deadline: float, first_byte_by: float | None) -> tuple[list[Reply], str]:
            try:
                replies = self._once(commands, deadline, first_byte_by)
            except OSError:
                self._node = self._address
                raise
            return replies, _problem(replies)

        return self._repeat(exchange, deadline)

    def prepare(self) -> None:
        """Import and build what a connection needs, without connecting.

        Raises:
            ConfigurationError: if the file of authorities cannot be read.
        """
        if not self._address.tls:
            return
        try:
            prepare_tls(*filter(None, [self._ca_file]))
        except OSError as error:
            message = f"FLAGSTORE_REDIS_CA_FILE: {self._ca_file!r} cannot be read: {error}"
            raise ConfigurationError(message) from error

    def _once(
        self, commands: Sequence[Command], deadline: float, first_byte_by: float | None
    ) -> list[Reply]:
        """Call commands; where a cluster says which other node has the key, there."""
        replies = self._exchange(commands, deadline, first_byte_by)
        node = _moved(replies)
        if node:
            self.close()
            # A cluster that does not know a node's name means the one that responded.
            self._node = self._node._replace(host=node[0] or self._node.host, port=node[1])
            replies = self._exchange(commands, deadline, None)
        return replies

    def _exchange(
        self, commands: Sequence[Command], deadline: float, first_byte_by: float | None
    ) -> list[Reply]:
        """Send commands; on a fresh connection behind the log-in, which costs no round trip."""
        connection = self._connection or self._connect(deadline)
        try:
            return connection.exchange(commands, deadline, first_byte_by)
        except OSError:
            raise
        except BaseException:
            # Also what a signal raises here: the next read would get the replies to this one.
            self.close()
            raise

    def _connect(self, deadline: float) -> Connection:
        """Connect.

        Raises:
            ConfigurationError: if the file of authorities cannot be read.
            OSError: if there is no connection in time.
        """
        self.prepare()
        node, tls = self._node, self._address.tls
        stream = connect(node.host, node.port, deadline, tls=tls, ca_file=self._ca_file)
        self._connection = Connection(stream, self._login())
        self._pid = os.getpid()
        return self._connection

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


def _problem(replies: Sequence[Reply]) -> str:
    """Return the first error that another attempt may improve on; empty if there is none.

    Raises:
        StoreUnavailableError: for an error that no other attempt improves on.
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
