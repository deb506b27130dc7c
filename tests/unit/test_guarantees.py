"""docs/guarantees.md: every promise has its row, its tests exist, and its figures were reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from torture.page import BEGIN, END, cell, named_tests
from torture.promises import PROMISES, Promise

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "guarantees.md").read_text(encoding="utf-8")
GENERATED = PAGE.partition(BEGIN)[2].partition(END)[0]
ROWS = [line for line in GENERATED.splitlines() if line.startswith("| T")]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.number)
def test_every_promise_names_tests_that_exist(promise: Promise) -> None:
    """By file, and by function where it names one."""
    assert promise.tests
    for test in promise.tests:
        file, _, name = test.partition("::")
        text = (REPOSITORY / file).read_text(encoding="utf-8")
        assert f"def {name}(" in text if name else "def test_" in text


def test_the_page_has_a_row_for_each_promise() -> None:
    """With the promise's words and tests as they are now, figures, and a time."""
    assert [row.split(" | ")[0] for row in ROWS] == [f"| {each.number}" for each in PROMISES]
    for row, promise in zip(ROWS, PROMISES, strict=True):
        _, text, tests, satisfied, seconds = re.split(r"(?<!\\) \| ", row)
        assert text == cell(promise.text)
        assert tests == named_tests(promise)
        assert re.match(r"[1-9]\d* cases?\b", satisfied), row
        assert "**" not in satisfied, row
        assert re.fullmatch(r"\d+ \|", seconds)
