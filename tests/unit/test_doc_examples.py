"""The Python of the pages does what the pages say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = {
    "flagValues": {"new-checkout": True, "button-color": "green"},
    "flags": {
        "beta": {
            "key": "beta",
            "version": 3,
            "on": True,
            "variations": [False, True],
            "fallthrough": {"variation": 0},
            "rules": [
                {
                    "id": "pro",
                    "variation": 1,
                    "clauses": [{"attribute": "plan", "op": "in", "values": ["pro"]}],
                }
            ],
        }
    },
}


def blocks(page: str) -> list[str]:
    """Return the Python of a page."""
    return BLOCK.findall((REPOSITORY / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", ["docs/reading.md"])
def test_the_blocks_of_a_page_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    """As they are printed, in a fresh process, over a file of flags."""
    file = tmp_path / "flags.json"
    file.write_text(json.dumps(FLAGS))
    code = "\n".join(blocks(page))
    if page == "docs/reading.md":
        code += (
            '\nassert handler({"user": "ada"}, None) == {"color": "green", "why": "FALLTHROUGH"}'
            '\nassert flags.detail("beta", {"key": "ada", "plan": "pro"}).rule == "pro"'
        )
    environment = {"FLAGSTORE_FILE": str(file), "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
