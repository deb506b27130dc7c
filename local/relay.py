"""A relay to a local port that adds TLS and a network's delay, and counts calls and bytes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    type Note = Callable[[bytes, bytes], bytes]

HOST = "127.0.0.1"
READ_BYTES = 65_536
BACKLOG = 1024
OPERATION = re.compile(rb"x-amz-target: DynamoDB_\d+\.(\w+)", re.IGNORECASE)
LONGEST_OPERATION = 200
"""Bytes at the end of a read that may contain the start of an operation's name."""


class Counted(NamedTuple):
    """Calls and bytes since the last count."""

    calls: tuple[str, ...]
    """Operations of DynamoDB, in order."""
    sent: int
    received: int
    """Bytes of the responses, with HTTP headers and without TLS."""

    def __str__(self) -> str:
        names = sorted(set(self.calls))
        calls = " + ".join(f"{self.calls.count(name)} {name}" for name in names) or "no call"
        return f"{calls}, {self.received:,} B"


class Relay:
    """A context manager that relays a port to another port of 127.0.0.1.

    Args:
        target: the other port. Read at each connection, so it may be set later.
        tls: terminates TLS; the connection to the target is plain.
        delay_s: seconds per round trip, also of connecting and of the TLS handshake.
        host: the address to listen on.

    """

    def __init__(
        self,
        target: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        delay_s: float = 0.0,
        host: str = HOST,
    ) -> None:
        self.target = target
        self.host = host
        self.port = 0
        self._tls = tls
        self._delay_s = delay_s
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._lock = threading.Lock()
        self._calls: list[str] = []
        self._sent = self._received = 0

    def __enter__(self) -> Self:
        try:
            self._loop.run_until_complete(self._listen())
        except BaseException:
            self._loop.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    def count(self) -> Counted:
        """Return the calls and bytes since the last count."""
        with self._lock:
            found = Counted(tuple(self._calls), self._sent, self._received)
            self._calls, self._sent, self._received = [], 0, 0
        return found

    async def _listen(self) -> None:
        counting = await asyncio.start_server(
            self._count, HOST if self._delay_s else self.host, 0, ssl=self._tls, backlog=BACKLOG
        )
        self._servers = [counting]
        self.port = _port(counting)
        if self._delay_s:
            # Before TLS, so that its handshake is delayed too.
            slow = partial(self._slow, self.port)
            self._servers.append(await asyncio.start_server(slow, self.host, 0, backlog=BACKLOG))
            self.port = _port(self._servers[-1])

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self._servers:
            server.close()
            server.abort_clients()
            await server.wait_closed()

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join(reader, writer, self.target, (self._note_sent, self._note_received))

    async def _slow(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await asyncio.sleep(self._delay_s)  # the handshake of TCP
        await _join(reader, writer, port, delay_s=self._delay_s / 2)

    def _note_sent(self, rest: bytes, data: bytes) -> bytes:
        """Count; return the end of the data, which may contain the start of a header."""
        text = rest + data
        end = 0
        with self._lock:
            self._sent += len(data)
            for match in OPERATION.finditer(text):
                # A name at the end of the data may continue in the next.
                if match.end() < len(text):
                    self._calls.append(match[1].decode())
                    end = match.end()
        return text[end:][-LONGEST_OPERATION:]

    def _note_received(self, _: bytes, data: bytes) -> bytes:
        with self._lock:
            self._received += len(data)
        return b""


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def _note_nothing(_: bytes, __: bytes) -> bytes:
    return b""


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    port: int,
    notes: tuple[Note, Note] = (_note_nothing, _note_nothing),
    delay_s: float = 0.0,
) -> None:
    """Connect to a port, and copy bytes both ways until one side ends."""
    ends = [writer]
    ways: list[asyncio.Task[None]] = []
    try:
        inner_reader, inner_writer = await asyncio.open_connection(HOST, port)
        ends.append(inner_writer)
        ways = [
            asyncio.create_task(_carry(reader, inner_writer, notes[0], delay_s)),
            asyncio.create_task(_carry(inner_reader, writer, notes[1], delay_s)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.close()
        await asyncio.gather(*(end.wait_closed() for end in ends), return_exceptions=True)
    except OSError:
        pass  # the target does not listen: the client's connection is closed
    finally:
        for way in ways:
            way.cancel()
        for end in ends:
            end.transport.abort()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Note, delay_s: float
) -> None:
    loop = asyncio.get_running_loop()
    rest = b""
    with contextlib.suppress(OSError):
        while data := await reader.read(READ_BYTES):
            rest = note(rest, data)
            if delay_s:
                loop.call_later(delay_s, writer.write, data)
            else:
                writer.write(data)
            await writer.drain()
        await asyncio.sleep(delay_s)
