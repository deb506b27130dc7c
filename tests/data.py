"""Where the data is that no one here wrote: the providers' own suites, and recorded responses.

The folder that ``CONFORMANCE_DATA`` names; else one next to the repository; else what `make
conformance-data` fetched. Tests skip where a file is missing.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FETCHED, BESIDE = REPOSITORY / ".conformance-data", REPOSITORY.parent / "shared" / "data"
DATA = Path(os.environ.get("CONFORMANCE_DATA") or (BESIDE if BESIDE.exists() else FETCHED))


def needed(name: str) -> Path:
    """Return a file or folder of the data, or skip the test."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"allowed: {name} is not here: `make conformance-data`, or CONFORMANCE_DATA")
    return path
