"""Every fenced block of every page is run by a test, or states why not."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.build.tooling import validate
from tests.docs.pages import REPOSITORY, Block, all_pages, blocks, tokens

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = {"bash", "console", "sh"}
SHOWN = {"hcl", "text", "yaml"}
"""Outputs and templates, which are not run."""
KINDS = SHELLS | SHOWN | {"javascript", "json", "python"}
BLOCKS = [block for page in all_pages() for block in blocks(page)]
TEMPLATES = [
    block for block in BLOCKS if block.kind == "yaml" and "\nResources:" in f"\n{block.text}"
]


def test_blocks_have_a_known_language() -> None:
    """Otherwise Python could be neither highlighted nor run."""
    assert [block.place for block in BLOCKS if block.kind not in KINDS] == []


def test_blocks_are_run_or_state_why_not() -> None:
    """Python without a mark is run by test_python.py; JSON without one must parse."""
    unmarked = [block for block in BLOCKS if block.mark is None and block.kind not in SHOWN]
    assert [each.place for each in unmarked if each.kind not in {"json", "python"}] == []
    for block in unmarked:
        if block.kind == "json":
            json.loads(block.text)


def test_marks_belong_to_blocks() -> None:
    """A misspelled or misplaced mark is an error."""
    looks = re.compile(r"<!--\s*(run by|needs)\b", re.IGNORECASE)
    written = {
        token.content.strip()
        for page in all_pages()
        for token in tokens(page)
        if token.type == "html_block" and looks.match(token.content)
    }
    assert written == {block.mark[0] for block in BLOCKS if block.mark}


@pytest.mark.parametrize(
    "test", sorted({block.mark["test"] for block in BLOCKS if block.mark and block.mark["test"]})
)
def test_marks_name_existing_tests(test: str) -> None:
    """By file and function."""
    path, _, name = test.partition("::")
    assert f"\ndef {name}(" in (REPOSITORY / path).read_text(encoding="utf-8")


@pytest.mark.build
@pytest.mark.parametrize("block", TEMPLATES, ids=lambda block: block.place)
def test_templates_are_valid(block: Block, tmp_path: Path) -> None:
    """Whole templates in the pages pass `sam validate --lint`."""
    (tmp_path / "src").mkdir()
    (tmp_path / "template.yaml").write_text(block.text, encoding="utf-8")
    validate(tmp_path)
