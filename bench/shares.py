"""A share of a CPU, as Lambda gives it to a function's handler: memory / 1,769 MB of a core.

Imitated by a quota of a cgroup (version 1 or 2), with a period of 20 ms as on Lambda. INIT has a
whole core, so a process enters its share after it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORIES = (128, 256, 512, 1_769)
"""MB; the last one is a whole core."""
WHOLE = 1_769
PERIOD_US = 20_000
ROOT = Path("/sys/fs/cgroup")


class Share:
    """A group of processes that together get a share of one core."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, pid: int) -> None:
        """Let a process and its threads have this share from now on."""
        (self._folder / "cgroup.procs").write_text(str(pid), encoding="ascii")


@contextmanager
def share(memory: int) -> Iterator[Share]:
    """Give the share of a function with so much memory, in MB.

    Raises:
        OSError: if this machine lets nobody set quotas.
    """
    quota = PERIOD_US * memory // WHOLE
    old = (ROOT / "cpu").is_dir()
    folder = (ROOT / "cpu" if old else ROOT) / f"flagstore-bench-{os.getpid()}-{memory}"
    folder.mkdir()
    try:
        if old:
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US), encoding="ascii")
            (folder / "cpu.cfs_quota_us").write_text(str(quota), encoding="ascii")
        else:
            (folder / "cpu.max").write_text(f"{quota} {PERIOD_US}", encoding="ascii")
        yield Share(folder)
    finally:
        folder.rmdir()  # once its processes have ended


def settable() -> str:
    """Return why quotas cannot be set here; empty if they can."""
    try:
        with share(MEMORIES[0]):
            return ""
    except OSError as error:
        return f"{type(error).__name__}: {error.strerror}"
