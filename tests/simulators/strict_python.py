"""A client in a process of its own, where each warning is an error and bytes are no text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = Path(__file__).parents[2] / "src"
SCRIPT = """
import flagstore
from flagstore import emf
with flagstore.Client("prod") as flags:
    print(flags.keys(), flags.enabled("a", {"key": "ada"}), flags.health())
    assert "ReaderStale" in emf.line(flags.info())
"""


def read_strictly(environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-bb", "-c", SCRIPT],
        env={"PATH": os.defpath, "PYTHONPATH": str(SOURCES), **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
