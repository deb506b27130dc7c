"""Read from Redis: one round trip per read over a reused connection, standard library only.

redis-py adds 106 ms to a cold start, this minimal RESP2 client 12 ms. Names and fields are shared
with the writer (docs/redis.md, "Keys"): a record is a hash, and the keys of a namespace are the
members of a sorted set, all with score 0, so that Redis keeps them in the order of their bytes.

Source of the protocol: Redis, "Redis serialization protocol specification".
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.keys import check_source
from flagstore.stores.network import AMAZON, RetryingTransport, Stream, connect, prepare_tls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from socket import socket
    from typing import TypeAlias

    from flagstore.keys import Key, Record, Value

    Reply: TypeAlias = "bytes | int | list[Reply] | ErrorReply | None"
    Command: TypeAlias = Sequence[str]

MAX_BULK_BYTES = 536_870_912
"""Redis: no string is longer than 512 MB."""
TRANSIENT = {"LOADING", "TRYAGAIN", "ASK", "MOVED", "CLUSTERDOWN", "MASTERDOWN", "BUSY"}
"""Errors of a server that is starting, failing over or moving slots: a retry may succeed."""
REMEDIES = {
    "NOAUTH": "put user and password into FLAGSTORE_REDIS_URL, or the client's store_url",
    "WRONGPASS": "check user and password in FLAGSTORE_REDIS_URL, or the client's store_url",
    "NOPERM": "give the user the reader's rights in docs/redis.md",
    "WRONGTYPE": "another program writes keys that begin with flagstore:",
}
URL_SHAPE = (
    "rediss://user:password@host:6379/0 (redis:// without TLS; user, port and database number are "
    "optional; percent-encode special characters in a password; no options after '?': certificates "
    "are always checked; FLAGSTORE_REDIS_CA_FILE names an authority of your own, for the stack's "
    "functions src/redis-ca.pem, packed by `sam build`)"
)
PORTS = range(1, 65_536)
_URL = re.compile(
    r"(?P<scheme>rediss?)://"
    r"(?:(?P<user>[^:@/]*):(?P<password>.*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^][:/@?#\s]+)"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/(?P<database>[0-9]{0,4}))?",
    re.ASCII,
)


# -- names, fields and URLs, shared with the writer -----------------------------------------------


def index_name(namespace: str) -> str:
    """Return the key of the sorted set that lists a namespace's keys.

    Raises:
        ValueError: if the namespace is not ``<source>:<name>``, with a name without ``:``.
    """
    source, _, name = namespace.partition(":")
    if not name or ":" in name:
        raise ValueError(f"{namespace!r} is not a namespace of a source")
    return f"flagstore:{{{check_source(source)}}}:{name}"


def record_name(key: Key) -> str:
    """Return the key of the hash that holds a record; never that of a sorted set."""
    return f"{index_name(key.namespace)}:{key.key}"


def to_field(value: Value) -> bytes:
    """Encode a value so that its type can be restored."""
    if isinstance(value, bytes):
        return b"b" + value
    return b"s" + value.encode() if isinstance(value, str) else b"%d" % value


def to_record(fields: Sequence[bytes]) -> Record:
    """Decode a hash, given as alternating names and values; unknown fields are skipped."""
    record: Record = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        kind, rest = value[:1], value[1:]
        try:
            found = rest if kind == b"b" else rest.decode() if kind == b"s" else int(value)
            record[name.decode()] = found
        except ValueError:
            continue
    return record


class Address(NamedTuple):
    """A server and how to log in. Never logged: ``repr`` hides user and password."""

    tls: bool
    host: str
    port: int
    user: str
    password: str
    database: int

    def __repr__(self) -> str:
        return f"Address({self.place()})"

    def place(self) -> str:
        """Return host and port."""
        return f"{self.host}:{self.port}"


def parse_url(url: str) -> Address | None:
    """Parse the URL of a server; None if it does not have :data:`URL_SHAPE`.

    Hand-written: importing ``urllib.parse`` takes milliseconds, and its errors quote the URL.
    """
    match = _URL.fullmatch(url)
    port = int(match["port"] or 6379) if match else 0
    if match is None or port not in PORTS:
        return None
    user, password = match["user"] or "", match["password"] or ""
    if "%" in user + password:
        from urllib.parse import unquote  # noqa: PLC0415 - rarely needed

        user, password = unquote(user), unquote(password)
    host, database = match["host"].strip("[]"), int(match["database"] or 0)
    return Address(match["scheme"] == "rediss", host, port, user, password, database)


def without_arguments(text: str) -> str:
    """Return an error without quoted arguments: those of AUTH include the password."""
    return text.partition(", with args")[0][:300]


# -- the store ------------------------------------------------------------------------------------


def open_reader(environ: Mapping[str, str] = os.environ) -> RedisReader:
    """Return a reader of the server that the environment names.

    Raises:
        ConfigurationError: if ``FLAGSTORE_REDIS_URL`` is not the URL of a server. The message does
            not quote it.
    """
    address = parse_url(environ.get("FLAGSTORE_REDIS_URL", ""))
    if address is None:
        raise ConfigurationError(f"set FLAGSTORE_REDIS_URL to {URL_SHAPE}")
    return RedisReader(address, environ.get("FLAGSTORE_REDIS_CA_FILE", ""))


class RedisReader(RetryingTransport):
    """Reads records over one reused connection: :class:`flagstore.stores.ReaderStore`."""

    trust_remedy = (
        "check the host's name; if its authority is private, set FLAGSTORE_REDIS_CA_FILE, for "
        "ServeFunction src/redis-ca.pem before `sam build`"
    )

    def __init__(self, address: Address, ca_file: str = "") -> None:
        """Set the server; nothing is connected yet.

        *ca_file* holds the only authorities to trust; by default Amazon's and the system's.
        """
        super().__init__(f"Redis at {address.place()}")
        self._address = address
        self._ca_file = ca_file
        self._node = address
        """The node to connect to: in a cluster, the one that served the last call."""
        self._connection: Connection | None = None

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:  # noqa: ARG002 - a primary always is
        """Return one record: one HGETALL."""
        (fields,) = self.call([("HGETALL", record_name(key))], deadline)
        return to_record(fields) if fields else None  # type: ignore[arg-type] # a list of bytes

    def call(self, commands: Sequence[Command], deadline: float) -> list[Reply]:
        """Call commands, retrying while another attempt may help.

        Raises:
            StoreUnavailableError: if none succeeded by the deadline, or the server refuses.
        """
        return self._repeat(lambda: self._exchange(commands, deadline), deadline)

    def prepare(self) -> None:
        """Prepare a connection (imports, TLS context) without connecting.

        Raises:
            ConfigurationError: if the file of authorities cannot be read.
        """
        if not self._address.tls:
            return
        try:
            prepare_tls(self._ca_file or AMAZON)
        except OSError as error:
            message = f"FLAGSTORE_REDIS_CA_FILE: {self._ca_file!r} cannot be read: {error}"
            raise ConfigurationError(message) from error

    def _exchange(self, commands: Sequence[Command], deadline: float) -> tuple[list[Reply], str]:
        """Call commands; if a cluster redirects to another node, call them there."""
        try:
            replies = self._connected(deadline).exchange(commands, deadline)
            if node := _moved(replies):
                self.close()
                # An empty host means the node that responded.
                self._node = self._node._replace(host=node[0] or self._node.host, port=node[1])
                replies = self._connected(deadline).exchange(commands, deadline)
        except OSError:
            self._node = self._address
            raise
        return replies, _problem(replies)

    def _connected(self, deadline: float) -> Connection:
        """Return the connection; a fresh one logs in with the first commands.

        Raises:
            ConfigurationError: if the file of authorities cannot be read.
            OSError: if there is no connection in time.
        """
        if self._connection is None:
            self.prepare()
            node, tls = self._node, self._address.tls
            connected = connect(node.host, node.port, deadline, tls=tls, ca_file=self._ca_file)
            login: list[Command] = []
            if node.password:
                login.append(("AUTH", *filter(None, [node.user]), node.password))
            if node.database:
                login.append(("SELECT", str(node.database)))
            self._connection = Connection(connected, login)
        return self._connection


def _problem(replies: Sequence[Reply]) -> str:
    """Return the first error if another attempt may help; empty without an error.

    Raises:
        StoreUnavailableError: for any other error.
    """
    error = next((reply for reply in replies if isinstance(reply, ErrorReply)), "")
    code = error.partition(" ")[0]
    text = without_arguments(error)
    if not code or code in TRANSIENT or "max number of clients" in text:
        return text
    remedy = f"; {REMEDIES[code]}" if code in REMEDIES else ""
    raise StoreUnavailableError(f"Redis refused: {text}{remedy}")


def _moved(replies: Sequence[Reply]) -> tuple[str, int] | None:
    """Return host and port of the node that a cluster points to: ``MOVED <slot> <host>:<port>``."""
    for reply in replies:
        if isinstance(reply, ErrorReply) and reply.startswith("MOVED "):
            host, _, port = reply.rpartition(" ")[2].rpartition(":")
            if port.isdecimal() and int(port) in PORTS:
                return host, int(port)
    return None


# -- the protocol ---------------------------------------------------------------------------------


class ErrorReply(str):
    """The reply to a command that the server rejects: ``CODE text``."""

    __slots__ = ()


class Connection(Stream):
    """One RESP2 connection to a server."""

    def __init__(self, connected: socket, login: Sequence[Command] = ()) -> None:
        super().__init__(connected)
        self._login = login
        """Sent before the first commands, and kept until it succeeds."""

    def exchange(self, commands: Sequence[Command], deadline: float) -> list[Reply]:
        """Send commands at once and return one reply each; if the login fails, its replies.

        Raises:
            OSError: if they are not complete in time; the connection is closed then.
        """
        login = self._login
        try:
            self.begin(deadline)
            self.send(b"".join(map(encode, (*login, *commands))))
            replies = [self._reply() for _ in (*login, *commands)]
        except BaseException:
            # Even a signal handler's: otherwise, the next read would get these replies.
            self.close()
            raise
        if not self.is_drained():
            raise _malformed(b"unexpected replies")
        first = replies[: len(login)]
        if any(isinstance(reply, ErrorReply) for reply in first):
            return first
        self._login = ()
        return replies[len(login) :]

    def _reply(self, *, nested: bool = False) -> Reply:
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ErrorReply(rest.decode(errors="replace"))
        try:
            number = int(rest)
        except ValueError:
            raise _malformed(line) from None
        if kind == b":":
            return number
        if number < 0 and kind in {b"$", b"*"}:
            return None
        if kind == b"*" and not nested:
            return [self._reply(nested=True) for _ in range(number)]
        if kind == b"$" and number <= MAX_BULK_BYTES:
            data = self.exactly(number + 2)
            if data.endswith(b"\r\n"):
                return data[:-2]
        raise _malformed(line)


def encode(command: Command) -> bytes:
    """Encode one command."""
    parts = [part.encode() for part in command]
    lines = [b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)]
    return b"".join(lines)


def _malformed(data: bytes) -> OSError:
    return OSError(f"not a Redis response: {data[:40]!r}")
