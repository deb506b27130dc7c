"""What the tests of deployments share."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from local.stand_in import DEFAULT_EXECUTABLE, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WITHIN_S = 60.0
"""A consumer that is warm asks every 30 s for something new."""
POLL_S = 0.1
SAM = REPOSITORY / ".venv-sam" / "bin" / "sam"


def needs_stand_in() -> None:
    """Skip the test where the stand-in for AWS or the sam command is missing."""
    for needed in (DEFAULT_EXECUTABLE, SAM):
        if not needed.exists():
            pytest.skip(f"{needed.name} is missing: run `make setup`")


def checkout(home: Path, folder: Path = REPOSITORY) -> Path:
    """Copy a template with its sources, to be built separately."""
    ignore = shutil.ignore_patterns("__pycache__", ".*_cache")
    shutil.copytree(folder / "src", home / "src", ignore=ignore)
    for name in ("template.yaml", "LICENSE", "README.md"):
        if (folder / name).exists():  # the example has no licence of its own
            shutil.copy(folder / name, home)
    (home / ".venv-sam").symlink_to(REPOSITORY / ".venv-sam")
    return home


def wait_for[T](probe: Callable[[], T | None], what: str, *, within_s: float = WITHIN_S) -> T:
    """Call *probe* until it returns something true, and return that."""
    deadline = time.monotonic() + within_s
    while not (found := probe()):
        assert time.monotonic() < deadline, f"no {what} within {within_s:g} s"
        time.sleep(POLL_S)
    return found
