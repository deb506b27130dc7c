"""Output: results on stdout, everything else on stderr. With ``--json``, one JSON document each."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from storesync.cli.errors import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Screen:
    """The terminal, or with *as_json* the two streams of a script."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, data: Any, lines: Iterable[str]) -> None:  # noqa: ANN401 - any JSON
        """Print a result: *data* as JSON, or *lines*."""
        for line in [json.dumps(data, indent=2, ensure_ascii=False)] if self.as_json else lines:
            click.echo(line.encode("utf-8", "backslashreplace").decode())

    def note(self, text: str) -> None:
        """Print a line to stderr, separate from the result."""
        if not self.as_json:
            click.echo(text, err=True)

    def error(self, error: CommandError) -> None:
        """Print an error and its remedy."""
        if self.as_json:
            click.echo(json.dumps({"error": error.to_json()}, ensure_ascii=False), err=True)
            return
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(error.message, err=True)
        if error.remedy:
            click.echo(f"  fix: {error.remedy}", err=True)

    @property
    def can_ask(self) -> bool:
        """Whether there is a terminal, and no script that reads the output."""
        return not self.as_json and sys.stdin.isatty()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Raise a CommandError unless the operator, or ``--yes``, agrees."""
        if yes:
            return
        if not self.can_ask:
            raise CommandError(Exit.USAGE, f"not confirmed: {question}", "add --yes")
        if not click.confirm(question, err=True):
            raise CommandError(Exit.USAGE, "nothing was done")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Format a table with columns as wide as their content, and numbers to the right."""
    cells = [headers, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [
        all(isinstance(cell, int) or cell == "" for cell in column)
        for _, *column in zip(headers, *rows, strict=True)
    ]
    lines = []
    for row in (cells[0], ["─" * width for width in widths], *cells[1:]):
        aligned = (
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, numeric, strict=True)
        )
        lines.append("  ".join(aligned).rstrip())
    return lines


def duration(seconds: float) -> str:
    """Format a duration in the largest unit that fits, such as ``90 min``."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit or (seconds >= unit and name == "min"):
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def timestamp(at_ms: int) -> str:
    """Format milliseconds since the epoch, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at_ms / 1000))


def short(digest: str) -> str:
    """Return the first 12 characters of a digest."""
    return digest[:12]
