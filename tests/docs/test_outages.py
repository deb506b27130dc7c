"""docs/outages.md: its diagrams can be drawn, and its tests, alarms and sections exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulators.template import read_template

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "outages.md").read_text(encoding="utf-8")
PAGES = ("capacity.md", "outages.md", "propagation.md")
SECTIONS = {
    section.partition("\n")[0]: section
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ALARM = re.compile(r"\[(\w+Alarm)\]\((runbook\.md#[\w-]+)\)")
DRAWN = [name for name, section in SECTIONS.items() if DIAGRAM.search(section)]

PARTICIPANT = re.compile(r"participant (\w+) as \S.*")
MESSAGE = re.compile(r"(\w+)(?:->>|-->>|-x|--x)(\w+): \S.*")
NOTE = re.compile(r"Note over (\w+(?:,\w+)*): \S.*")
BLOCK = re.compile(r"(loop|alt|opt) \S.*")
ELSE = re.compile(r"else( \S.*)?")
ENDS_STATEMENT = re.compile(r"[;#]")
"""What mermaid takes for the end of a statement, or for the start of an entity."""


def problems(diagram: str) -> list[str]:
    """Return what mermaid would not draw, by the few of its statements that the page uses."""
    kind, *lines = diagram.splitlines()
    found = [] if kind == "sequenceDiagram" else [f"no sequence diagram: {kind}"]
    names: set[str] = set()
    open_blocks: list[str] = []
    for line in map(str.strip, lines):
        problem = _problem(line, names, open_blocks)
        found += [f"{problem}: {line}"] if problem else []
    return found + [f"a {block} without its end" for block in open_blocks]


def _problem(line: str, names: set[str], open_blocks: list[str]) -> str:
    """Return what is wrong with a line, given the participants and blocks before it."""
    if ENDS_STATEMENT.search(line):
        return "a character that ends a statement"
    if named := PARTICIPANT.fullmatch(line):
        names.add(named[1])
        return ""
    if block := BLOCK.fullmatch(line):
        open_blocks.append(block[1])
        return ""
    if line == "end" or ELSE.fullmatch(line):
        return _closing(line, open_blocks)
    said = MESSAGE.fullmatch(line) or NOTE.fullmatch(line)
    if said is None:
        return "no statement that is known here"
    who = {name for group in said.groups() for name in group.split(",")}
    return "" if who <= names else "somebody who is no participant"


def _closing(line: str, open_blocks: list[str]) -> str:
    """Return what is wrong with the end of a block, or with its other case."""
    if line == "end":
        return "" if open_blocks and open_blocks.pop() else "an end of nothing"
    return "" if open_blocks[-1:] == ["alt"] else "an else of no alt"


def test_every_diagram_is_one() -> None:
    """Participants are declared, messages parse, blocks end: GitHub draws it, not its error."""
    fences = re.findall(r"^```(\S+)$", PAGE, re.MULTILINE)
    diagrams = DIAGRAM.findall(PAGE)
    assert fences == ["mermaid"] * len(diagrams)
    assert len(diagrams) >= 5
    for diagram in diagrams:
        assert problems(diagram) == []
        declared = PARTICIPANT.findall(diagram)
        used = {name for line in MESSAGE.findall(diagram) for name in line}
        used |= set(NOTE.findall(diagram))
        assert set(declared) == used, "nobody stands aside"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("participant A as a\nA->>B: hi", "somebody who is no participant: A->>B: hi"),
        ("participant A as a\nA->A hi", "no statement that is known here: A->A hi"),
        ("participant A as a\nloop again\nA->>A: hi", "a loop without its end"),
        ("participant A as a\nend", "an end of nothing: end"),
        ("loop again\nelse\nend", "an else of no alt: else"),
        ("participant A as a\nA->>A: hi; ho", "a character that ends a statement: A->>A: hi; ho"),
    ],
)
def test_what_cannot_be_drawn_is_found(lines: str, problem: str) -> None:
    """The check of the diagrams can fail."""
    assert problems(f"sequenceDiagram\n{lines}") == [problem]


@pytest.mark.parametrize("name", DRAWN)
def test_every_diagram_says_what_it_means(name: str) -> None:
    """What readers see, which alarm goes off, what to do, and the tests that show it."""
    section = SECTIONS[name]
    for word in ("Readers see", "Alarms", "You", "Shown by"):
        assert f"\n- **{word}**" in section, word
    assert TEST.findall(section.partition("**Shown by**")[2])
    assert ALARM.findall(section)


def test_every_other_row_names_its_test() -> None:
    """One row says that there is none: nothing here runs in two regions."""
    rows = [line for line in SECTIONS["Everything else"].splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 10
    assert [row.split(" | ")[0] for row in rows if not TEST.search(row)] == ["| **the region**"]


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """By file and function."""
    named = TEST.findall((REPOSITORY / "docs" / page).read_text(encoding="utf-8"))
    assert named
    for file, name in named:
        assert f"\ndef {name}(" in (REPOSITORY / file).read_text(encoding="utf-8"), name


def test_every_alarm_is_here_with_its_section() -> None:
    """Each of the template's alarms has an outage, and leads where its own description does."""
    alarms = {
        name: resource["Properties"]["AlarmDescription"].split("docs/")[1]
        for name, resource in read_template()["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    linked = set(ALARM.findall(PAGE))
    assert dict(linked) == alarms
    assert len(linked) == len(alarms)
    assert set(re.findall(r"\w+Alarm\b", PAGE)) == set(alarms)
