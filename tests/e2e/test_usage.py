"""Counts of a Lambda function's evaluations, however its environments end."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from local.lambda_rie import REPOSITORY, RuntimeEmulator
from simulators import launchdarkly_flags

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

HANDLER = """\
import os, time
import flagstore

flags = flagstore.client("prod")

def handler(event, context):
    for _ in range(event["evaluations"]):
        flags.enabled("a", {"key": "canary"})
    if event.get("flush"):
        flags.flush()
    if event.get("kill"):
        os.kill(os.getpid(), 9)
    time.sleep(event.get("sleep_s", 0))
"""


def counts(log: str) -> list[int]:
    """Return the evaluations of each line."""
    lines = re.findall(r'\{"flagstore.usage".*\}', log)
    return [sum(cell[0] for cell in json.loads(line)["f"]["a"]) for line in lines]


def test_counts_survive_the_end_of_an_environment(tmp_path: Path) -> None:
    """An idle or timed-out environment loses none; a killed one only those since its last line."""
    (tmp_path / "flagstore").symlink_to(REPOSITORY / "src" / "flagstore")
    flags = {"flags": {"a": launchdarkly_flags.new_flag("a")}, "segments": {}}
    (tmp_path / "flags.json").write_text(json.dumps(flags))
    (tmp_path / "app.py").write_text(HANDLER)
    environment = {
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "FLAGSTORE_FILE": str(tmp_path / "flags.json"),
        "FLAGSTORE_USAGE": "counts",
    }
    with RuntimeEmulator(tmp_path, "app.handler", environment, timeout_s=1) as function:
        assert function.invoke({"evaluations": 1}).error is None
        assert function.invoke({"evaluations": 2, "sleep_s": 9}).error == "Task.TimedOut"
        assert counts(function.log()) == [3]
        function.invoke({"evaluations": 4, "flush": True})
        assert function.invoke({"evaluations": 8, "kill": True}).error is not None
        assert function.invoke({"evaluations": 16}).error is None
        assert counts(function.log()) == [3, 4]
    assert counts(function.log()) == [3, 4, 16]
    assert "canary" not in function.log()
