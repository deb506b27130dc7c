"""Every fenced block of every page is run by a test, or says what it would need."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.build.tooling import run, sam_environment, tool
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


def test_every_block_says_what_it_is() -> None:
    """Python that is called something else would be neither highlighted nor run."""
    assert [block.place for block in BLOCKS if block.kind not in KINDS] == []


def test_what_is_not_run_says_why() -> None:
    """Python without a mark is run by test_python.py; JSON without one is shown, and parses."""
    unmarked = [block for block in BLOCKS if block.mark is None and block.kind not in SHOWN]
    assert [each.place for each in unmarked if each.kind not in {"json", "python"}] == []
    for block in unmarked:
        if block.kind == "json":
            json.loads(block.text)


def test_every_mark_belongs_to_a_block() -> None:
    """And is spelled as one: another comment that looks like one says nothing about anything."""
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
def test_what_is_said_to_run_a_block_exists(test: str) -> None:
    """By file and function."""
    path, _, name = test.partition("::")
    assert f"\ndef {name}(" in (REPOSITORY / path).read_text(encoding="utf-8")


@pytest.mark.build
@pytest.mark.parametrize("block", TEMPLATES, ids=lambda block: block.place)
def test_sam_finds_nothing_in_the_templates_of_the_pages(block: Block, tmp_path: Path) -> None:
    """Whole templates, which the pages give to be copied, pass `sam validate --lint`."""
    (tmp_path / "src").mkdir()
    (tmp_path / "template.yaml").write_text(block.text, encoding="utf-8")
    done = run(
        *(tool(".venv-sam", "sam"), "validate", "--lint"),
        cwd=tmp_path,
        environment=sam_environment(),
    )
    assert "is a valid SAM Template" in done.stdout
