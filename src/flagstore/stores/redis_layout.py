"""How records lie in Redis, and what the URL of a server says. Shared with the writer; pure.

Everything of a source lies under ``flagstore:{<source>}:``. The braces are Redis' hash tag: in a
cluster all of it is in one slot, so that one script can change several keys at once.

- a record is a hash, ``flagstore:{prod}:$snapshot:1`` for namespace
``prod:$snapshot`` and key ``1``;
- the keys of a namespace are the members of a sorted set, ``flagstore:{prod}:$snapshot``,
all of score
  0, which Redis keeps in the order of their bytes;
- in a hash a whole number is in decimal, a text is ``s`` and its UTF-8, bytes are ``b`` and them.

Only what this library does not read lies otherwise: rows of LaunchDarkly and Split, where their
SDKs read them, and documents, which are plain texts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from flagstore.keys import check_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flagstore.keys import Key, Record, Value

URL_SHAPE = (
    "rediss://user:password@host:6379/0 (redis:// without TLS; user, port and number of the "
    "database may be left out; percent-encode what is special in a password; no options after "
    "'?': certificates are always checked, and FLAGSTORE_REDIS_CA_FILE names an authority of "
    "your own)"
)

PORTS = range(1, 65_536)
_URL = re.compile(
    r"(?P<scheme>rediss?)://"
    r"(?:(?P<user>[^:@/]*):(?P<password>.*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^][:/@?#\s]+)"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/(?P<database>[0-9]{0,4}))?",
    re.ASCII,
)


def index_name(namespace: str) -> str:
    """Return the key of the sorted set that lists a namespace's keys.

    Raises:
        ValueError: for what is no ``<source>:<name>``, with a name without ``:``.
    """
    source, _, name = namespace.partition(":")
    if not name or ":" in name:
        message = f"{namespace!r} is no namespace of a source"
        raise ValueError(message)
    return f"flagstore:{{{check_source(source)}}}:{name}"


def record_name(key: Key) -> str:
    """Return the key of the hash that holds a record; never that of a sorted set."""
    return f"{index_name(key.namespace)}:{key.key}"


def to_field(value: Value) -> bytes:
    """Write one value so that its type comes back."""
    if isinstance(value, bytes):
        return b"b" + value
    return b"s" + value.encode() if isinstance(value, str) else b"%d" % value


def from_field(data: bytes) -> Value:
    """Read one value.

    Raises:
        ValueError: for what we never write.
    """
    if data[:1] == b"s":
        return data[1:].decode()
    return data[1:] if data[:1] == b"b" else int(data)


def to_record(fields: Sequence[bytes]) -> Record:
    """Read a hash, given as names and values by turns; what we never write is left out."""
    record: Record = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        try:
            record[name.decode()] = from_field(value)
        except ValueError:
            continue
    return record


class Address(NamedTuple):
    """Where a server is and how to enter. Never logged: ``repr`` hides user and password."""

    tls: bool
    host: str
    port: int
    user: str
    password: str
    database: int

    def __repr__(self) -> str:
        return f"Address({self.place()})"

    def place(self) -> str:
        """Return host and port, for messages."""
        return f"{self.host}:{self.port}"


def parse_url(url: str) -> Address | None:
    """Read the URL of a server; None where it has not :data:`URL_SHAPE`.

    By hand: ``urllib.parse`` costs a cold start some milliseconds, and its errors quote the URL.
    """
    match = _URL.fullmatch(url)
    port = int(match["port"] or 6379) if match else 0
    if match is None or port not in PORTS:
        return None
    return Address(
        tls=match["scheme"] == "rediss",
        host=match["host"].strip("[]"),
        port=port,
        user=_plain(match["user"] or ""),
        password=_plain(match["password"] or ""),
        database=int(match["database"] or 0),
    )


def _plain(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote  # noqa: PLC0415 - rarely needed

    return unquote(text)


def without_arguments(text: str) -> str:
    """Return an error's text without the arguments that some quote: AUTH's are a password."""
    return text.partition(", with args")[0][:300]
