"""Writes what was measured into docs/benchmarks.md, between its two marks, and its plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.harness import REPOSITORY
from bench.svg import draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.results import Part, Row

PAGE = REPOSITORY / "docs" / "benchmarks.md"
PLOTS = REPOSITORY / "docs" / "benchmarks"
BEGIN, END = "<!-- begin: written by make bench -->", "<!-- end -->"
HEADINGS = ("work", "beside", "ours", "theirs", "ratio (95 %)", "goal", "")


def write(parts: Mapping[str, Part]) -> None:
    """Write the tables and plots of all parts."""
    PLOTS.mkdir(exist_ok=True)
    for old in PLOTS.glob("*.svg"):
        old.unlink()
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    lines = [line for name in sorted(parts) for line in _part(name, parts[name])]
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, END]) + after, encoding="utf-8")


def _part(name: str, part: Part) -> Iterator[str]:
    yield f"### {name}: {part.title}"
    yield ""
    yield f"{part.run}"
    yield ""
    yield from table(part.rows)
    yield ""
    for note in part.notes:
        yield f"- {note}"
    if part.notes:
        yield ""
    for number, plot in enumerate(part.plots, 1):
        file = f"{name.lower()}-{number}.svg"
        (PLOTS / file).write_text(draw(plot), encoding="utf-8")
        yield f"![{plot.title}](benchmarks/{file})"
        yield ""


def table(rows: list[Row]) -> Iterator[str]:
    """Write rows as Markdown."""
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + " --- |" * len(HEADINGS)
    for row in rows:
        cells = (row.work, row.peer, row.ours, row.theirs, row.ratio, row.goal, row.verdict)
        yield f"| {' | '.join(cells)} |"
