"""What `make run` prints."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 72


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}", flush=True)


def say(text: str) -> None:
    """Print indented lines."""
    print("".join(f"  {line}\n" for line in text.splitlines()), end="", flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print the name of a step, and when it ends its duration."""
    begun = time.monotonic()
    print(f"  {name} ", end="", flush=True)
    outcome = "failed after "
    try:
        yield
        outcome = ""
    finally:
        took = f"{outcome}{time.monotonic() - begun:.1f} s"
        print(took.rjust(max(WIDTH - len(name) - 3, len(took))), flush=True)
