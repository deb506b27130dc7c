"""The pages' Python runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import REPOSITORY, Block, all_pages, blocks

if TYPE_CHECKING:
    from pathlib import Path

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
"""The flags that the examples read."""
ASSERTIONS = {
    "README.md": """
assert handler({"user": "ada"}, None) == {"color": "green"}
""",
    "docs/read.md": """
assert handler({"user": "ada"}, None) == {"color": "green", "why": "FALLTHROUGH"}
assert flags.detail("beta", {"key": "ada", "plan": "pro"}).rule == "pro"
""",
}
"""Assertions that run after a page's blocks."""


def python(page: str) -> list[Block]:
    """Return the Python blocks of a page without a mark."""
    return [block for block in blocks(page) if block.kind == "python" and block.mark is None]


@pytest.mark.parametrize("page", [page for page in all_pages() if python(page)])
def test_python_blocks_run(page: str, tmp_path: Path) -> None:
    """All blocks of a page run in order in a fresh process, with a file of flags."""
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(FLAGS))
    code = "\n".join(f"# {block.place}\n{block.text}" for block in python(page))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + ASSERTIONS.get(page, "")],
        cwd=tmp_path,
        env={
            "PATH": os.defpath,
            "PYTHONPATH": str(REPOSITORY / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "FLAGSTORE_FILE": str(flags),
            "FLAGSTORE_SOURCE": "prod",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout}{done.stderr}"
