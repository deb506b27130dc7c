"""The Python of the pages does what the pages say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import REPOSITORY, Block, all_pages, blocks

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 60
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
"""What the pages' readers read, unless the page has flags of its own in FLAGS_OF."""
FLAGS_OF: dict[str, dict[str, object]] = {}
"""Flags of single pages, in any form that docs/reading.md has for files."""
ASSERTIONS = {
    "README.md": """
assert handler({"user": "ada"}, None) == {"color": "green"}
""",
    "docs/reading.md": """
assert handler({"user": "ada"}, None) == {"color": "green", "why": "FALLTHROUGH"}
assert flags.detail("beta", {"key": "ada", "plan": "pro"}).rule == "pro"
""",
}
"""What must be true at the end of a page; that nothing was raised says little."""
SDKS = re.compile(r"^\s*(?:from|import) (?:ldclient|splitio|UnleashClient)\b", re.MULTILINE)


def python(page: str) -> list[Block]:
    """Return the Python of a page that no test of its own runs."""
    return [block for block in blocks(page) if block.kind == "python" and block.mark is None]


def interpreter(code: str) -> str:
    """Return the Python that has what is imported: the providers' SDKs have one of their own."""
    if not SDKS.search(code):
        return sys.executable
    path = REPOSITORY / ".venv-sdks" / "bin" / "python"
    if not path.exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")
    return str(path)


@pytest.mark.parametrize("page", [page for page in all_pages() if python(page)])
def test_the_blocks_of_a_page_run_one_after_the_other(page: str, tmp_path: Path) -> None:
    """As they are printed, in a fresh process, over a file of flags; tests among them as tests."""
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(FLAGS_OF.get(page, FLAGS)))
    code = "\n".join(f"# {block.place}\n{block.text}" for block in python(page))
    code += ASSERTIONS.get(page, "")
    tests = re.findall(r"^(?:async )?def (test_\w+)", code, re.MULTILINE)
    file = tmp_path / ("test_page.py" if tests else "page.py")
    file.write_text(code, encoding="utf-8")
    runner = ("-m", "pytest", "-q", "-c", os.devnull, "-p", "flagstore.pytest_plugin")
    done = subprocess.run(
        [interpreter(code), "-W", "error", *(runner if tests else ()), file.name],
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
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout}{done.stderr}"
    if tests:
        assert f"{len(tests)} passed" in done.stdout


@pytest.mark.parametrize("page", [*FLAGS_OF, *ASSERTIONS])
def test_every_page_of_the_tables_has_python(page: str) -> None:
    """What is said about a page that is gone, or renamed, is out of date."""
    assert python(page)
