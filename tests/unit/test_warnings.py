"""Python's warnings: none comes from reading flags."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
READING = [
    "reader",
    "client_flags",
    "typed",
    "layout",
    "body",
    "context_values",
    "evaluation_split",
]


def test_reading_passes_its_tests_where_each_warning_is_an_error() -> None:
    """Also where Python refuses to compare bytes with text, and to write them as text."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-bb", "-m", "pytest", "-q"),
            *("-p", "no:cacheprovider", "-p", "no:xdist"),
            *(str(HERE / f"test_{name}.py") for name in READING),
        ],
        cwd=HERE.parents[1],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
