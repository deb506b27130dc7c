"""Tests of the reader in Node.js, by its own test runner."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from local import nodejs

HERE = Path(__file__).parent
TIMEOUT_S = 120


def node() -> str:
    """Return the command, or skip the test."""
    found = nodejs.command()
    if not found:
        pytest.skip("allowed: node is missing (Node.js 22 or later)")
    return found


def environment(**more: str) -> dict[str, str]:
    """Return this process's variables without those of flagstore and AWS, and more."""
    ours = ("AWS_", "FLAGSTORE_", "NODE_", "SSL_CERT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **more}


def run_tests(file: str, **variables: str) -> str:
    """Run one file of tests; return what it printed."""
    done = subprocess.run(
        [node(), "--test", "--test-timeout=30000", "--test-reporter=spec", HERE / file],
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    return done.stdout
