"""Output: results on stdout, everything else on stderr. With ``--json``, one JSON document each."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from storesync.cli.errors import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Screen:
    """The terminal, or with *as_json* the two streams of a script."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, data: Any, lines: Iterable[str]) -> None:  # noqa: ANN401 - any JSON
        """Print a result: *data* as JSON, or *lines*."""
        if self.as_json:
            text = json.dumps(data, indent=2, ensure_ascii=False)
            click.echo(text.encode("utf-8", "backslashreplace").decode())
            return
        for line in lines:
            click.echo(line)

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

    def confirm(self, question: str, *, yes: bool) -> None:
        """Return only if the operator, or ``--yes``, agrees.

        Raises:
            CommandError: the answer is no, or there is no terminal to ask at.
        """
        if yes:
            return
        if self.as_json or not sys.stdin.isatty():
            raise CommandError(Exit.USAGE, f"not confirmed: {question}", "add --yes")
        if not click.confirm(question, err=True):
            raise CommandError(Exit.USAGE, "nothing was done")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Format a table with columns as wide as their content, and numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    is_right = [
        bool(rows) and all(isinstance(cell, int) or cell == "" for cell in column)
        for column in zip(*rows, strict=True)
    ] or [False] * len(headers)

    def line(row: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_right, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return [line(headers), line(["─" * width for width in widths]), *map(line, cells)]


def duration(seconds: float) -> str:
    """Format a duration in the largest unit that fits, such as ``90 min``."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit or (seconds >= unit and name == "min"):
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def parse_duration(text: str) -> float:
    """Parse a duration such as ``90s``, ``30m``, ``1h`` or ``2d`` into seconds.

    Raises:
        ValueError: it is not a duration.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if not found:
        message = f"{text!r} is not a duration: use 30m, 1h or 2d"
        raise ValueError(message)
    return float(int(found[1]) * _UNITS[found[2]])


def timestamp(at_ms: int) -> str:
    """Format milliseconds since the epoch, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at_ms / 1000))


def short(digest: str) -> str:
    """Return the first 12 characters of a digest."""
    return digest[:12]
