"""Counts evaluations and prints them as lines, from which UsageFunction reports them.

No network call, no thread. Imported only by clients that count; docs/usage.md has the line's format
and says when counts are lost.
"""

from __future__ import annotations

import json
import os
from binascii import b2a_base64
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import ABSENT, FLAG_NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from flagstore.evaluation.base import Engine, Evaluation, Items

    Context = Any
    """An engine's own."""
    Count = Callable[[str, Evaluation, Context, str], None]
    """Counts one evaluation: key, result, context, and whether the caller asked for its ``value``
    or whether it is ``enabled``."""
    Cell = tuple[Any, ...]
    """The flag's key, and what it evaluated to."""
    Handler = TypeVar("Handler", bound=Callable[..., Any])

LINE_BYTES = 4_000
"""Maximum size of a line. Pipes write up to 4,096 bytes at once; longer lines get mixed."""
INTERVAL_S = 60.0
"""How long counts are kept while the function is active."""
MAX_CELLS = 400
"""Counts are printed once this many different results are waiting."""
MAX_UNKNOWN, UNKNOWN_CHARS = 50, 128
"""Unknown flags that are named, and their length: a key may be a user's input."""
SIGTERM = 15
SOON_LINES = 3
"""How many calls of a decorated handler print their counts at once."""


class UsageCounter:
    """Counts one source's evaluations in this process. Thread-safe, but for a rare lost count."""

    def __init__(self, source: str, app_name: str, clock: Callable[[], float]) -> None:
        self._source = source
        self._app_name = app_name or os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "") or "flagstore"
        self._clock = clock
        self._provider = ""
        self._version = 0
        self.reset()
        self.lines = 0
        """Lines printed so far."""
        if not _counters and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_reset_all)
        _counters.append(self)

    def reset(self) -> None:
        """Forget the counts, as in a forked process, whose parent prints them."""
        self._cells: dict[Cell, int] = {}
        self.has_users = False
        self.kinds: set[str] = set()
        """Kinds of contexts besides plain users."""
        self._unknown: set[str] = set()
        self._first = self._last = 0.0

    def tick(self) -> None:
        """Note the time, and print the counts of the last minute."""
        now = self._clock()
        if not self._cells:
            self._first = now
        elif now - self._first >= INTERVAL_S:
            self.flush()
            self._first = now
        self._last = now

    def flush(self) -> None:
        """Print the counts, if there are any. Never raises."""
        cells, kinds = self._cells, self.kinds | ({"user"} if self.has_users else set())
        first, last = self._first, self._last
        self.reset()
        if not cells:
            return
        head = {
            "s": self._source,
            "p": self._provider,
            "v": self._version,
            "n": self._app_name,
            "a": int(first),
            "b": int(last),
        }
        if kinds - {"user"}:
            head["k"] = sorted(kinds)
        for line in _lines(head, cells):
            self.lines += 1
            _write(line)

    # -- counting ---------------------------------------------------------------------------------

    def counting(self, provider: str, version: int, engine: Engine, items: Items) -> Count | None:
        """Return the function that counts evaluations of one flag set."""
        if provider != self._provider:  # its cells have another shape
            self.flush()
        self._provider, self._version = provider, version
        if provider == "launchdarkly":
            return _LaunchDarkly(self, engine, items).count
        return {
            "split": self._count_split,
            "unleash": self._count_unleash,
            "appconfig": self._count_appconfig,
        }.get(provider)

    def add(self, cell: Cell, *, known: bool = True) -> None:
        """Count one result."""
        cells = self._cells
        count = cells.get(cell)
        if count is not None:
            cells[cell] = count + 1
            return
        if not known:
            key, *rest = cell
            named = len(self._unknown) < MAX_UNKNOWN and len(key) <= UNKNOWN_CHARS
            if named:
                self._unknown.add(key)
            else:
                cell = ("*", *rest)
        if len(cells) >= MAX_CELLS:
            now = self._last
            self.flush()
            self._first = self._last = now
        self._cells[cell] = self._cells.get(cell, 0) + 1

    def _count_split(
        self, key: str, evaluation: Evaluation, _context: Context, _method: str
    ) -> None:
        if evaluation.value is not ABSENT:  # else it is `control`, which Split does not count
            self.add((key, evaluation.variant, evaluation.version))

    def _count_unleash(
        self, key: str, evaluation: Evaluation, _context: Context, method: str
    ) -> None:
        enabled = 1 if evaluation.value is True else 0
        cell = (
            (key, enabled, evaluation.variant or "disabled")
            if method == "value"
            else (key, enabled)
        )
        self.add(cell, known=evaluation.error != FLAG_NOT_FOUND)

    def _count_appconfig(
        self, key: str, evaluation: Evaluation, _context: Context, _method: str
    ) -> None:
        if evaluation.error != FLAG_NOT_FOUND:
            # In a freeform profile, `config` is None.
            enabled = 0 if evaluation.config is False or evaluation.value is ABSENT else 1
            self.add((key, enabled, evaluation.variant))


class _LaunchDarkly:
    """Counts as LaunchDarkly's SDK does: prerequisites, too, each time they are evaluated."""

    def __init__(self, counter: UsageCounter, engine: Engine, items: Items) -> None:
        self._counter = counter
        self._engine = engine
        self._items = items
        self._needed: dict[str, list[tuple[str, int, bool]]] = {}
        """Key → key, required variation and whether it is on, of each of its prerequisites."""

    def count(self, key: str, evaluation: Evaluation, context: Context, _method: str) -> None:
        """Count one evaluation and those of its prerequisites."""
        version = evaluation.version
        self._counter.add((key, evaluation.variant, version), known=version is not None)
        if len(context) == 1 and "user" in context:
            self._counter.has_users = True
        else:
            self._counter.kinds.update(context)
        needed = self._needed.get(key)
        if needed is None:
            needed = self._prerequisites(key)
        if needed:
            self._count_prerequisites(needed, context, (key,))

    def _count_prerequisites(
        self, needed: list[tuple[str, int, bool]], context: Context, path: tuple[str, ...]
    ) -> None:
        for key, variation, is_on in needed:
            if key in path:
                return
            evaluation = self._engine.evaluate(key, context)
            self._count_prerequisites(self._prerequisites(key), context, (*path, key))
            self._counter.add((key, evaluation.variant, evaluation.version))
            if not is_on or evaluation.variant != variation:
                return  # it fails, and the SDK evaluates none of the others

    def _prerequisites(self, key: str) -> list[tuple[str, int, bool]]:
        found = self._needed.get(key)
        if found is None:
            found = self._needed[key] = []
            flag = self._items.item("flags", key)
            named = flag.get("prerequisites") if isinstance(flag, dict) and flag.get("on") else None
            for each in named or ():
                other = self._items.item("flags", each["key"])
                if not isinstance(other, dict):
                    break
                found.append((each["key"], each["variation"], other.get("on") is True))
        return found


# -- lines ----------------------------------------------------------------------------------------


def _lines(head: dict[str, Any], cells: dict[Cell, int]) -> Iterator[bytes]:
    """Yield lines, each with an id of its own, that hold all cells together."""
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "")
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON" and level in {"WARN", "ERROR", "FATAL"}:
        head = {"level": level, **head}  # else Lambda drops the line
    room = LINE_BYTES - len(_line(head, {}))
    flags: dict[str, list[list[Any]]] = {}
    left = room
    for (key, *result), count in cells.items():
        size = len(_dumps(key)) + len(_dumps([count, *result])) + len(":[],,")
        if size > room:
            continue  # no provider permits such a key
        if size > left:
            yield _line(head, flags)
            flags, left = {}, room
        flags.setdefault(key, []).append([count, *result])
        left -= size
    yield _line(head, flags)


def _line(head: dict[str, Any], flags: dict[str, Any]) -> bytes:
    # From the OS: clones of a SnapStart image share everything else.
    name = b2a_base64(os.urandom(8), newline=False).decode().rstrip("=")
    name = name.replace("+", "-").replace("/", "_")
    return _dumps({"flagstore.usage": 1, "id": name, **head, "f": flags}).encode() + b"\n"


def _dumps(value: Any) -> str:  # noqa: ANN401 - JSON
    return json.dumps(value, separators=(",", ":"))


def _write(line: bytes) -> None:
    with suppress(OSError):  # there is no stdout
        os.write(1, line)  # not print(), which writes in two steps


# -- when a process ends --------------------------------------------------------------------------

_counters: list[UsageCounter] = []
_extension: Any = None
"""The socket on which Lambda would send this extension its next event. It stays open, unread."""


def flush_all() -> None:
    """Print the counts of all sources."""
    for counter in _counters:
        counter.flush()


def _reset_all() -> None:
    for counter in _counters:
        counter.reset()


def flush_before_end() -> None:
    """On Lambda, print the counts when the execution environment ends. Idempotent; never raises.

    Lambda sends SIGTERM, before it ends an environment and at a timeout, only if an extension is
    registered. An internal one without events costs no time per invocation.
    """
    global _extension  # noqa: PLW0603 - once per process
    api = os.environ.get("AWS_LAMBDA_RUNTIME_API", "")
    if _extension is not None or not api:
        return
    _extension = api
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        # No SIGTERM; and every clone would print what was counted before the snapshot.
        with suppress(ImportError):
            from snapshot_restore_py import (  # type: ignore[import-not-found] # noqa: PLC0415 - Lambda's
                register_before_snapshot,
            )

            register_before_snapshot(_reset_all)
        return
    with suppress(OSError, ValueError):  # not in the main thread; registration is closed
        _on_sigterm()
        _extension = _register(api)


def _on_sigterm() -> None:
    import _signal  # type: ignore[import-not-found] # noqa: PLC0415 - `signal` takes 9 ms

    before = _signal.getsignal(SIGTERM)

    def end(number: int, frame: Any) -> None:  # noqa: ANN401 - a frame
        flush_all()
        if callable(before):
            before(number, frame)
        else:
            os._exit(0)  # sys.exit() would wait for the runtime's thread

    _signal.signal(SIGTERM, end)


def _register(api: str) -> Any:  # noqa: ANN401 - a socket
    """Register an internal extension without events, and leave its next request open."""
    import _socket  # noqa: PLC0415 - `socket` takes 20 ms

    host, _, port = api.partition(":")
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    connection.settimeout(1.0)
    connection.connect((host, int(port)))
    start = f" HTTP/1.1\r\nHost: {api}\r\nLambda-Extension-"
    path, body = "/2020-01-01/extension", '{"events":[]}'
    connection.sendall(
        f"POST {path}/register{start}Name: flagstore\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    response = b""
    while b"\r\n\r\n" not in response:
        data = connection.recv(4_096)
        if not data:
            raise OSError("registration was not answered")
        response += data
    _, _, rest = response.lower().partition(b"lambda-extension-identifier:")
    name = rest.partition(b"\r\n")[0].strip().decode()
    connection.sendall(f"GET {path}/event/next{start}Identifier: {name}\r\n\r\n".encode())
    return connection


def reporting(handler: Handler, counter: UsageCounter) -> Handler:
    """Return the handler, printing the counts after its first calls, and then once a minute."""

    def reported(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the handler's
        try:
            return handler(*arguments, **named)
        finally:
            if counter.lines < SOON_LINES:
                counter.flush()
            else:
                counter.tick()

    reported.__wrapped__ = handler  # type: ignore[attr-defined] # as functools.wraps
    return reported  # type: ignore[return-value] # the same signature
