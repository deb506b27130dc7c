"""docs/guarantees.md: every promise has its row, its tests exist, and its figures were reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from torture.page import BEGIN, COMPARED, END, Row, Versions, cell, merged, named_tests, render
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
        _, text, tests, reached, seconds = re.split(r"(?<!\\) \| ", row)
        assert text == cell(promise.text)
        assert tests == named_tests(promise)
        assert re.match(r"[1-9]\d* cases?\b", reached), row
        assert "**" not in reached, row
        assert re.fullmatch(r"\d+ \|", seconds)


def test_the_page_compares_with_what_is_installed() -> None:
    """It names the versions that are pinned now, and has a row for every fault."""
    versions = dict(Versions.installed(REPOSITORY).names)
    assert set(versions) == set(COMPARED)
    for name, version in versions.items():
        assert f"`{name}` {version}" in GENERATED
    compared = GENERATED.partition("### Side by side")[2]
    rows = [line for line in compared.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 12
    assert all(len(re.split(r"(?<!\\) \| ", row)) == 3 for row in rows)


def test_figures_that_differ_in_numbers_are_told_once() -> None:
    """As a range, in the order of the tests; what differs in words stays beside it."""
    told = merged(["5%: 1,000 runs, 0 lost", "b: 2.5 s", "100%: 1,000 runs, 0 lost", "b: 10.0 s"])
    assert told == ["5 to 100%: 1,000 runs, 0 lost", "b: 2.5 to 10.0 s"]
    assert merged(["2 a", "2 a"]) == ["2 a"]
    assert merged(["no number"]) == ["no number"]
    assert merged([]) == []


def test_what_is_written_is_what_is_checked() -> None:
    """A row of the generator passes for one of the page; what would break the table is masked."""
    row = Row(PROMISES[0], "3 cases; a | b\nc " + "long " * 500, 12.6)
    versions = Versions((("some-sdk", "1.0"),))
    text = render([row], [["fault", "theirs", "ours | both"]], 90.0, versions)
    (line,) = [line for line in text.splitlines() if line.startswith("| T1")]
    parts = re.split(r"(?<!\\) \| ", line)
    assert len(parts) == 5
    assert parts[3].startswith("3 cases; a \\| b c long")
    assert parts[3].endswith("long …")
    assert parts[4] == "13 |"
    assert "| fault | theirs | ours \\| both |" in text
    assert "`some-sdk` 1.0" in text
