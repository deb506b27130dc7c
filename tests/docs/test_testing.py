"""The tests in docs/testing.md pass."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.docs.pages import REPOSITORY, blocks, read

if TYPE_CHECKING:
    from pathlib import Path


def test_page_tests_pass(tmp_path: Path) -> None:
    """Each block runs as its own file, next to the page's shop.py and flags.json."""
    shop, *others = (each for each in blocks("docs/testing.md") if each.kind in {"json", "python"})
    (tmp_path / "shop.py").write_text(shop.text)
    for block in others:
        name = "flags.json" if block.kind == "json" else f"test_{block.line}.py"
        (tmp_path / name).write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "flagstore.pytest_plugin"],
        cwd=tmp_path,
        env={
            "PATH": os.defpath,
            "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{tmp_path}",
            "FLAGSTORE_FILE": str(tmp_path / "flags.json"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{read('docs/testing.md').count('def test_')} passed" in done.stdout, done.stdout
