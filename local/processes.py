"""Child processes that serve on a local port: choose the port, wait until ready, stop reliably."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

# Below the ephemeral ports of Linux, which clients use, and above the well-known ones.
FIRST_PORT = 20_000
LAST_PORT = 32_767
POLL_S = 0.01


class StartError(RuntimeError):
    """A child process ended or timed out before it was ready; the message holds its log."""


def exit_on_signals() -> None:
    """Exit through ``finally`` blocks on SIGTERM and SIGHUP, to stop child processes.

    And on SIGINT, which shells turn off for commands in the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit_on_signal)


class _Held:
    """Whether an exit is deferred, and the signal that was received meanwhile."""

    holding = False
    signal = 0


def _exit_on_signal(received: int, _frame: object) -> None:
    if not _Held.holding:
        sys.exit(128 + received)
    _Held.signal = received


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    grace_s: float,
    **options: Any,  # noqa: ANN401 - those of Popen
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in its own session; it and its descendants end with the block.

    A signal during the start is deferred until the process id is known.
    """
    _Held.holding = True
    process = subprocess.Popen(command, start_new_session=True, **options)  # noqa: S603 - ours
    try:
        _Held.holding = False
        if _Held.signal:
            sys.exit(128 + _Held.signal)
        yield process
    finally:
        stop(process, grace_s=grace_s)


def free_port() -> int:
    """Return a random free port of 127.0.0.1 below the ephemeral range.

    Random, so that concurrent test runs rarely collide; callers retry with another port.

    Raises:
        OSError: a hundred ports in a row were taken.

    """
    for _ in range(100):
        port = random.randint(FIRST_PORT, LAST_PORT)  # noqa: S311 - no secret, any port will do
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # Without this, a port whose last connections are in TIME_WAIT would count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    message = f"no free port between {FIRST_PORT} and {LAST_PORT}"
    raise OSError(message)


def listening(port: int) -> bool:
    """Return whether a port of 127.0.0.1 accepts connections."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(
    ready: Callable[[], bool],
    *,
    process: subprocess.Popen[bytes],
    within_s: float,
    log: Callable[[], str],
    name: str,
) -> None:
    """Poll until *ready* returns true.

    Raises:
        StartError: *process* ended first, or *within_s* seconds passed.

    """
    deadline = time.monotonic() + within_s
    while not ready():
        if process.poll() is not None:
            message = f"{name} ended with code {process.returncode} before it was ready\n{log()}"
            raise StartError(message)
        if time.monotonic() > deadline:
            message = f"{name} was not ready within {within_s:g} s\n{log()}"
            raise StartError(message)
        time.sleep(POLL_S)


def stop(process: subprocess.Popen[Any], *, grace_s: float) -> None:
    """Stop a process that was started with ``start_new_session=True``, and all its descendants.

    SIGTERM first; after *grace_s* seconds, SIGKILL for the rest of its process group.
    """
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
