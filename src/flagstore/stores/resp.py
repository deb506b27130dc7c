"""Redis' protocol (RESP2) over one socket, as much of it as a reader needs.

Every operation of the socket ends by a deadline, in ``time.monotonic()`` seconds. Whatever goes
wrong is an OSError; then the connection is of no use any more.

Source of the rules: Redis, "Redis serialization protocol specification".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from flagstore.stores.network import Stream

    Reply: TypeAlias = "bytes | int | list[Reply] | ErrorReply | None"
    Command: TypeAlias = Sequence[str | bytes | int]

MAX_BULK_BYTES = 536_870_912
"""Redis: no string is longer than 512 MB."""


class ErrorReply(str):
    """The server's response to a command that it refuses: ``CODE text``."""

    __slots__ = ()


class Connection:
    """One connection to one server."""

    def __init__(self, stream: Stream, login: Sequence[Command] = ()) -> None:
        self._stream = stream
        self._login = login
        """What goes before the first commands; kept here, it cannot be lost without them."""

    @property
    def receiving(self) -> bool:
        """Whether the last exchange has received anything."""
        return self._stream.receiving

    def is_open(self) -> bool:
        """Return whether the connection can be used for another exchange."""
        return self._stream.is_open()

    def exchange(
        self, commands: Sequence[Command], deadline: float, first_byte_by: float | None = None
    ) -> list[Reply]:
        """Send commands in one go and return one reply each; where the log-in fails, its replies.

        Raises:
            OSError: if they are not all here by the deadline, or their first byte by
                *first_byte_by*; the connection is of no use then.
        """
        login = self._login
        self._stream.begin(deadline, first_byte_by)
        self._stream.send(b"".join(map(encode, (*login, *commands))))
        replies = [self._reply() for _ in (*login, *commands)]
        if not self._stream.is_drained():
            raise _malformed(b"more than was asked for")
        first = replies[: len(login)]
        if any(isinstance(reply, ErrorReply) for reply in first):
            return first
        self._login = ()
        return replies[len(login) :]

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._stream.close()

    def _reply(self, *, nested: bool = False) -> Reply:
        line = self._stream.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ErrorReply(rest.decode(errors="replace"))
        number = _whole(rest)
        if kind == b":":
            return number
        if kind == b"$" and number <= MAX_BULK_BYTES:
            return self._bulk(number)
        if kind == b"*" and not nested:
            if number < 0:
                return None
            return [self._reply(nested=True) for _ in range(number)]
        raise _malformed(line)

    def _bulk(self, size: int) -> bytes | None:
        if size < 0:
            return None
        data = self._stream.exactly(size)
        if self._stream.exactly(2) != b"\r\n":
            raise _malformed(b"a string without an end")
        return data


def encode(command: Command) -> bytes:
    """Write one command."""
    parts = [
        part
        if isinstance(part, bytes)
        else part.encode()
        if isinstance(part, str)
        else b"%d" % part
        for part in command
    ]
    lines = [b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)]
    return b"".join(lines)


def _whole(digits: bytes) -> int:
    try:
        return int(digits)
    except ValueError:
        raise _malformed(digits) from None


def _malformed(data: bytes) -> OSError:
    return OSError(f"a response that is not Redis': {data[:40]!r}")
