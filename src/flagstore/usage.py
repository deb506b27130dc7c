"""Counts evaluations and prints them as lines, from which UsageFunction reports them.

No network call, no thread. Imported only by clients that count; docs/usage.md has the lines' format
and says when counts are lost.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from flagstore.evaluation.base import ABSENT, FLAG_NOT_FOUND
from flagstore.lines import APP_CHARS, COUNTS, ID_BYTES, LINE_BYTES, line, parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from flagstore.evaluation.base import Engine, Evaluation, Items
    from flagstore.evaluation.launchdarkly import LaunchDarklyEngine
    from flagstore.evaluation.launchdarkly_flags import Prerequisites
    from flagstore.evaluation.split import SplitEngine
    from flagstore.exposures import LaunchDarklyRecorder, Recorder
    from flagstore.lines import Cell

    Context = Any
    """An engine's context."""
    Count = Callable[[str, Evaluation, Context, str, Any], None]
    """Counts one evaluation: key, result, context, whether the caller asked for its ``value`` or
    whether it is ``enabled``, and the context as it was given."""
    Handler = TypeVar("Handler", bound=Callable[..., Any])

INTERVAL_S = 60.0
"""Seconds for which counts are kept while the function is active."""
MAX_CELLS = 400
"""Counts are printed once this many different results are waiting."""
MAX_UNKNOWN, UNKNOWN_CHARS = 50, 128
"""Unknown flags that are named, and their length: a key may be a user's input."""
MAX_KINDS, KIND_CHARS = 20, 64
"""Kinds of contexts that are named."""
LEVELS = {"WARN", "ERROR", "FATAL"}
"""Log levels at which Lambda's JSON format drops lines without a level."""
SIGTERM = 15
SOON_LINES = 3
"""How many calls of a decorated handler print their counts at once."""


class UsageCounter:
    """Counts one source's evaluations in this process. Thread-safe; a count is rarely lost."""

    def __init__(
        self, source: str, app_name: str, clock: Callable[[], float], *, events: bool = False
    ) -> None:
        self._recorder: Recorder | None = None
        self._track: Callable[..., None] | None = None
        self.last = 0.0
        """When the last evaluation began."""
        if events:
            from flagstore.exposures import Recorder  # noqa: PLC0415 - only where it is used

            self._recorder = Recorder(self._print, clock)
        self._source = source
        app_name = app_name or os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "") or "flagstore"
        self._app_name = app_name[:APP_CHARS]
        self._clock = clock
        self._provider = ""
        self._version = 0
        self.reset()
        if not _counters and hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_reset_all)
        _counters.append(self)

    def reset(self) -> None:
        """Forget the counts, as in a forked process, whose parent prints them."""
        self.cells: dict[Cell, int] = {}
        """Counts since the last line."""
        self.plain: dict[int, list[Any]] = {}
        """Identity of a result that needs no more than counting → further count, cell, result."""
        self.lines = 0
        """Lines printed so far."""
        self._begin()
        if self._recorder is not None:
            self._recorder.reset()

    def _begin(self) -> None:
        self.has_users = False
        self.kinds: set[str] = set()
        """Kinds of contexts besides plain users."""
        self._unknown: set[str] = set()
        self.first = self.last
        """When the first of them was evaluated."""
        self.due = 0.0
        """When they are printed."""

    def tick(self, now: float) -> None:
        """Print the counts, if they are due, and record that an evaluation begins.

        From ``first`` to ``due``, setting ``last`` is enough. The clock may have been set back.
        """
        if not self.first <= now < self.due:
            self.flush()
            self.first, self.due = now, now + INTERVAL_S
        self.last = now

    def flush_if_due(self) -> None:
        """Print the counts, if they are due."""
        if self._clock() >= self.due:
            self.flush()

    def flush(self) -> None:
        """Print the counts, if there are any. Never raises."""
        _flushes.append(None)
        try:
            if self._recorder is not None:
                self._recorder.flush()
            self._flush()
        finally:
            _flushes.pop()
            _end_if_idle()

    def _flush(self) -> None:
        # No call in this line, so that no other thread takes the same counts.
        cells, plain, self.cells, self.plain = self.cells, self.plain, {}, {}
        kinds = self.kinds | ({"user"} if self.has_users else set())
        times: dict[str, Any] = {"a": int(self.first), "b": int(self.last)}
        self._begin()
        if kinds - {"user"}:
            times["k"] = sorted(kind for kind in kinds if len(kind) <= KIND_CHARS)[:MAX_KINDS]
        room = LINE_BYTES - len(self._line(COUNTS, {**times, "f": {}}))
        for count, cell, _ in list(plain.values()):  # others may still add to it
            cells[cell] = cells.get(cell, 0) + count
        for flags in parts(cells, room):
            self._print(COUNTS, {**times, "f": flags})

    def _print(self, marker: str, body: dict[str, Any]) -> None:
        self.lines += 1
        with suppress(OSError):  # there is no stdout
            os.write(1, self._line(marker, body))  # not print(), which writes in two steps

    def _line(self, marker: str, body: dict[str, Any]) -> bytes:
        head = {"s": self._source, "p": self._provider, "v": self._version, "n": self._app_name}
        level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "")
        if level in LEVELS and os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
            head["level"] = level
        # Random bytes from the OS: clones of a SnapStart image share everything else.
        return line(marker, os.urandom(ID_BYTES), {**head, **body})

    # -- counting ---------------------------------------------------------------------------------

    def counting(self, provider: str, version: int, engine: Engine, items: Items) -> Count | None:
        """Return the function that counts evaluations of one flag set.

        What it needs to know about flags is in the engine, which keeps that of unchanged ones.
        """
        if provider != self._provider:  # its cells have another shape
            self.flush()
        self._provider, self._version, self._track = provider, version, None
        if provider == "launchdarkly":
            return self._counting_launchdarkly(cast("LaunchDarklyEngine", engine), items)
        if provider == "split" and self._recorder is not None:
            return self._counting_impressions(self._recorder, cast("SplitEngine", engine))
        return {
            "split": self._count_split,
            "unleash": self._count_unleash,
            "appconfig": self._count_appconfig,
        }.get(provider)

    def _counting_launchdarkly(self, engine: LaunchDarklyEngine, items: Items) -> Count:
        if self._recorder is None:
            return _LaunchDarkly(self, engine).counting()
        from flagstore.exposures import LaunchDarklyRecorder  # noqa: PLC0415 - as above

        recorder = LaunchDarklyRecorder(self._recorder, items)
        self._track = recorder.tracked
        return _LaunchDarkly(self, engine, recorder).counting()

    def _counting_impressions(self, recorder: Recorder, engine: SplitEngine) -> Count:
        from flagstore.exposures import SplitRecorder  # noqa: PLC0415 - as above

        impressions = SplitRecorder(recorder, engine)
        self._track = impressions.tracked

        def count(
            key: str, evaluation: Evaluation, context: Context, _method: str, _given: Context
        ) -> None:
            if evaluation.value is not ABSENT and impressions.evaluated(key, evaluation, context):
                self.add((key, evaluation.variant, evaluation.version))

        return count

    def track(self, name: str, context: Context, given: Context, value: Any, data: Any) -> None:  # noqa: ANN401 - the caller's
        """Record an event for the provider's experiments, if it has any."""
        if self._track is not None:
            self._track(name, context, given, value, data)

    def add(self, cell: Cell, *, known: bool = True) -> None:
        """Count one result."""
        cells = self.cells
        try:
            count = cells.get(cell)
        except TypeError:  # the key is not a string
            return
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
            self.due = self.last
            self.tick(self.last)
        cells = self.cells  # once: another thread may take them
        cells[cell] = cells.get(cell, 0) + 1

    def _count_split(
        self, key: str, evaluation: Evaluation, _context: Context, _method: str, _given: Context
    ) -> None:
        if evaluation.value is not ABSENT:  # else it is `control`, which Split does not count
            self.add((key, evaluation.variant, evaluation.version))

    def _count_unleash(
        self, key: str, evaluation: Evaluation, _context: Context, method: str, _given: Context
    ) -> None:
        enabled = 1 if evaluation.value is True else 0
        cell = (
            (key, enabled, evaluation.variant or "disabled")
            if method == "value"
            else (key, enabled)
        )
        self.add(cell, known=evaluation.error != FLAG_NOT_FOUND)

    def _count_appconfig(
        self, key: str, evaluation: Evaluation, _context: Context, _method: str, _given: Context
    ) -> None:
        if evaluation.error != FLAG_NOT_FOUND:
            # In a freeform profile, `config` is None.
            enabled = 0 if evaluation.config is False or evaluation.value is ABSENT else 1
            self.add((key, enabled, evaluation.variant))


class _LaunchDarkly:
    """Counts as LaunchDarkly's SDK does: prerequisites, too, each time they are evaluated."""

    def __init__(
        self,
        counter: UsageCounter,
        engine: LaunchDarklyEngine,
        recorder: LaunchDarklyRecorder | None = None,
    ) -> None:
        self._counter = counter
        self._engine = engine
        self._recorder = recorder

    def counting(self) -> Count:
        """Return the function that counts an evaluation and those of its prerequisites."""
        counter, count_all = self._counter, self._count

        def count(
            key: str, evaluation: Evaluation, context: Context, _method: str, given: Context
        ) -> None:
            # Results are made once per flag, so that their identity is enough: 0.1 µs less.
            known = counter.plain.get(id(evaluation))
            if known is not None and "user" in context and len(context) == 1:
                known[0] += 1
            else:
                count_all(key, evaluation, context, given)

        return count

    def _count(self, key: str, evaluation: Evaluation, context: Context, given: Context) -> None:
        if not isinstance(key, str):
            return
        counter = self._counter
        cell = (key, evaluation.variant, evaluation.version)
        is_user = len(context) == 1 and "user" in context
        if is_user:
            counter.has_users = True
        else:
            counter.kinds.update(context)
        counter.add(cell, known=evaluation.version is not None)
        flag = None if evaluation.version is None else self._engine.flag(key)
        needed = () if flag is None else flag.prerequisites
        if needed:
            self._count_prerequisites(needed, context, given, (key,))
        if self._recorder is not None:
            self._recorder.evaluated(key, flag, evaluation, context, given)
        elif is_user and not needed and not evaluation.error:
            counter.plain.setdefault(id(evaluation), [0, cell, evaluation])

    def _count_prerequisites(
        self,
        needed: Prerequisites,
        context: Context,
        given: Context,
        path: tuple[str, ...],
    ) -> None:
        for key, variation, _ in needed:
            flag = self._engine.flag(key)
            if flag is None or key in path:
                return
            evaluation = self._engine.evaluate(key, context)
            self._count_prerequisites(flag.prerequisites, context, given, (*path, key))
            self._counter.add((key, evaluation.variant, evaluation.version))
            if self._recorder is not None:
                self._recorder.evaluated(key, flag, evaluation, context, given, path[-1])
            if not flag.on or evaluation.variant != variation:
                return  # it fails, and the SDK evaluates none of the others


# -- when a process ends --------------------------------------------------------------------------

_counters: list[UsageCounter] = []
_flushes: list[None] = []
"""One for each flush that has begun."""
_ending: list[Callable[[], None]] = []
"""What ends this process, once SIGTERM has come and no flush is under way."""
_extension: Any = None
"""The socket on which Lambda would send this extension its next event. It stays open, unread."""


def flush_all() -> None:
    """Print the counts of all sources."""
    for counter in _counters:
        counter.flush()


def _reset_all() -> None:
    _flushes.clear()
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
        # No SIGTERM; and every clone would print the counts from before the snapshot.
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

    def on_signal(number: int, frame: Any) -> None:  # noqa: ANN401 - a frame
        def end() -> None:
            flush_all()
            if callable(before):
                before(number, frame)
            else:
                os._exit(0)  # sys.exit() would wait for the runtime's thread

        _ending.append(end)
        _end_if_idle()

    _signal.signal(SIGTERM, on_signal)


def _end_if_idle() -> None:
    """End, if SIGTERM has come; the signal may have interrupted a flush, whose lines come first."""
    if _ending and not _flushes:
        with suppress(IndexError):  # another thread was faster
            _ending.pop()()


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
            raise OSError("no response to the registration")
        response += data
    field = b"lambda-extension-identifier:"
    place = response.lower().find(field) + len(field)
    name = response[place:].partition(b"\r\n")[0].strip().decode()
    connection.sendall(f"GET {path}/event/next{start}Identifier: {name}\r\n\r\n".encode())
    return connection


def reporting(handler: Handler) -> Handler:
    """Wrap a handler, to print all counts after its first calls, and then once a minute."""

    def reported(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - the handler's
        try:
            return handler(*arguments, **named)
        finally:
            for counter in _counters:
                if counter.lines < SOON_LINES:
                    counter.flush()
                else:
                    counter.flush_if_due()

    reported.__wrapped__ = handler  # type: ignore[attr-defined] # as functools.wraps
    return reported  # type: ignore[return-value] # the same signature
