"""The generated parts of pages are what `make docs` writes."""

from __future__ import annotations

import pytest

from tools.pages import PARTS, REPOSITORY, replaced


@pytest.mark.parametrize(("page", "name"), PARTS, ids=str)
def test_generated_parts_are_current(page: str, name: str) -> None:
    """After a change to the template or to a measured page, `make docs` was run."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert replaced(text, name, PARTS[page, name]()) == text
