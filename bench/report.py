"""Write the results into docs/benchmarks.md, between its two marks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.harness import REPOSITORY
from bench.results import in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.results import Part, Row

PAGE = REPOSITORY / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: written by make bench -->", "<!-- end -->"
HEADINGS = ("work", "compared with", "flagstore", "theirs", "ratio (95 %)", "goal", "")


def write(parts: Mapping[str, Part]) -> None:
    """Write the tables of all parts."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    shared = {_versions(part) for part in parts.values()}
    lines = [f"All with {shared.pop()}", ""] if len(shared) == 1 else []
    once = bool(lines)
    for name, part in in_order(parts).items():
        lines += _part(name, part, versions=not once)
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, END]) + after, encoding="utf-8")


def _versions(part: Part) -> str:
    """Return the end of the line about a part's run, which names the peers' versions."""
    return part.run.rpartition("; ")[2]


def _part(name: str, part: Part, *, versions: bool) -> Iterator[str]:
    yield f"### {name}: {part.title}"
    yield ""
    yield part.run if versions else f"{part.run.rpartition('; ')[0]}."
    yield ""
    yield from table(part.rows)
    yield ""
    for note in part.notes:
        yield f"- {note}"
    if part.notes:
        yield ""


def table(rows: list[Row]) -> Iterator[str]:
    """Yield rows as Markdown; work that several rows share is named in the first of them."""
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + " --- |" * len(HEADINGS)
    before = ("", "")
    for row in rows:
        same = (row.work, row.ours) == before
        before = (row.work, row.ours)
        work, ours = ("", "") if same else before
        cells = (work, row.peer, ours, row.theirs, row.ratio, row.goal, row.verdict)
        yield f"| {' | '.join(cells)} |"
