"""Links resolve, generated parts are current, and every block is run or states why not."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.build.tooling import validate
from tests.docs.pages import REPOSITORY, Block, all_pages, anchors, blocks, links
from tools.pages import PARTS, replaced

if TYPE_CHECKING:
    from pathlib import Path

PAGES = all_pages()
EXTERNAL = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/\S*)?|mailto:\S+@\S+")
SHELLS = {"bash", "console", "sh"}
SHOWN = {"hcl", "text", "yaml"}
"""Outputs and templates, which are not run."""
BLOCKS = [block for page in PAGES for block in blocks(page)]
TEMPLATES = [
    block for block in BLOCKS if block.kind == "yaml" and "\nResources:" in f"\n{block.text}"
]


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str) -> None:
    """Links lead to existing files and headings; external ones are well-formed addresses."""
    assert [link for link in links(page) if not _resolves(page, link)] == []


def _resolves(page: str, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return EXTERNAL.fullmatch(link) is not None
    target, _, anchor = link.partition("#")
    path = (REPOSITORY / page).parent.joinpath(target).resolve() if target else REPOSITORY / page
    if not path.exists() or not path.is_relative_to(REPOSITORY):
        return False
    if not anchor:
        return True
    return path.suffix == ".md" and anchor in anchors(path.relative_to(REPOSITORY).as_posix())


@pytest.mark.parametrize(("page", "name"), PARTS, ids=str)
def test_generated_parts_are_current(page: str, name: str) -> None:
    """After a change to the template or to a measured page, `make docs` was run."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert replaced(text, name, PARTS[page, name]()) == text


def test_blocks_are_run_or_state_why_not() -> None:
    """Python without a mark is run by test_examples.py; JSON without one must parse."""
    unmarked = [block for block in BLOCKS if block.mark is None and block.kind not in SHOWN]
    assert [each.place for each in unmarked if each.kind not in {"json", "python"}] == []
    for block in unmarked:
        if block.kind == "json":
            json.loads(block.text)
    known = SHELLS | SHOWN | {"javascript", "json", "python"}
    assert [block.place for block in BLOCKS if block.kind not in known] == []


def test_marks_name_tests() -> None:
    for test in {block.mark["test"] for block in BLOCKS if block.mark and block.mark["test"]}:
        path, _, name = test.partition("::")
        assert f"\ndef {name}(" in (REPOSITORY / path).read_text(encoding="utf-8"), test


@pytest.mark.build
@pytest.mark.parametrize("block", TEMPLATES, ids=lambda block: block.place)
def test_templates_are_valid(block: Block, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "template.yaml").write_text(block.text, encoding="utf-8")
    validate(tmp_path)
