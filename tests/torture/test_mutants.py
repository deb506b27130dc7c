"""Small faults, planted one at a time into what must not be wrong: do tests notice them?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mutation.operators import mutants

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = {
    "guard": "storesync/guard.py",
    "signature": "storesync/signature.py",
    "layout": "flagstore/layout.py",
    "pipeline": "storesync/pipeline.py",
}
AT_LEAST = 0.9
NOTICED = re.compile(r"(\d+) of (\d+) noticed")


@pytest.mark.campaign
@pytest.mark.parametrize("name", TARGETS)
def test_planted_faults_are_noticed(name: str) -> None:
    """At least 90 % of a module's; tests/mutation/survivors.md judges the others."""
    done = subprocess.run(
        [sys.executable, "-m", "mutation", name],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": "tests:src:.", "FLAGSTORE_MUTATION_JOBS": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = NOTICED.search(done.stdout)
    assert found, done.stdout
    noticed, planted = map(int, found.groups())
    source = (REPOSITORY / "src" / TARGETS[name]).read_text(encoding="utf-8")
    assert planted == len(list(mutants(TARGETS[name], source)))
    assert noticed >= AT_LEAST * planted
    print(f"{name}: {noticed} of {planted} faults noticed")
