"""The tests in docs/testing.md pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(python|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_page_tests_pass(tmp_path: Path) -> None:
    """Each block runs as its own file, next to the page's shop.py and flags.json."""
    (_, shop), *others = BLOCK.findall(PAGE)
    (tmp_path / "shop.py").write_text(shop)
    for number, (language, text) in enumerate(others):
        name = "flags.json" if language == "json" else f"test_{number}.py"
        (tmp_path / name).write_text(text)
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
    assert f"{PAGE.count('def test_')} passed" in done.stdout, done.stdout
