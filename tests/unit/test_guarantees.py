"""docs/guarantees.md: every promise names tests that exist, and none failed."""

from __future__ import annotations

import re

import pytest

from torture.__main__ import REPOSITORY, Row, rows


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.number)
def test_every_promise_has_its_tests_and_a_result(row: Row) -> None:
    """Tests are named by file, or by file and function."""
    assert row.tests
    for test in row.tests:
        file, _, name = test.partition("::")
        text = (REPOSITORY / file).read_text(encoding="utf-8")
        assert f"def {name}(" in text if name else "def test_" in text
    assert re.match(r"[1-9]\d* cases?\b", row.reached)
    assert "**" not in row.reached
