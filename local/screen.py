"""Saying what happens, line by line, in a terminal and in a log file alike."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 72
DOT_EVERY_S = 1.0
SHORT_S = 0.1

_one_line_at_a_time = threading.Lock()


def title(text: str) -> None:
    """Begin a chapter."""
    _write(f"\n{text}\n")


def say(text: str) -> None:
    """Say something of one or more lines, indented."""
    _write("".join(f"  {line}\n" for line in text.splitlines()))


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say that a step begins, one dot a second while it lasts, and at its end how long it took."""
    begun = time.monotonic()
    ended = threading.Event()
    dots = [0]
    _write(f"  {name} ")

    def show() -> None:
        while not ended.wait(DOT_EVERY_S):
            dots[0] += 1
            _write(".")

    shown = threading.Thread(target=show, daemon=True)
    shown.start()
    outcome = "failed after "
    try:
        yield
        outcome = ""
    finally:
        ended.set()
        shown.join()
        took = outcome + _time(time.monotonic() - begun)
        room = WIDTH - len(f"  {name} ") - dots[0]
        _write(f"{took:>{max(room, len(took) + 1)}}\n")


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= SHORT_S else f"{1000 * seconds:.0f} ms"


def _write(text: str) -> None:
    with _one_line_at_a_time:
        sys.stdout.write(text)
        sys.stdout.flush()
