"""What a person sees: tables, results, progress. With ``--json``, one JSON document on stdout."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from storesync.cli.problems import Exit, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GAP = "  "
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_CLEAR = "\r\033[K"


class Screen:
    """Prints results to stdout, everything else to stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._lively = not as_json and sys.stderr.isatty()

    def result(self, data: Any, lines: Iterable[str]) -> None:  # noqa: ANN401 - any JSON
        """Print a result: as JSON, or as lines for people."""
        if self.as_json:
            text = json.dumps(data, indent=2, ensure_ascii=False)
            click.echo(text.encode("utf-8", "backslashreplace").decode())
            return
        for line in lines:
            click.echo(line)

    def progress(self, text: str) -> None:
        """Say what is being done, where somebody is watching; the next word replaces it."""
        if self._lively:
            click.echo(f"{_CLEAR}{text} …", nl=False, err=True)

    def done(self) -> None:
        """Take away what :meth:`progress` left."""
        if self._lively:
            click.echo(_CLEAR, nl=False, err=True)

    def say(self, text: str) -> None:
        """Say something beside the result."""
        self.done()
        if not self.as_json:
            click.echo(text, err=True)

    def problem(self, problem: Problem) -> None:
        """Say what went wrong, and what to do."""
        self.done()
        if self.as_json:
            click.echo(json.dumps({"error": problem.to_json()}, ensure_ascii=False), err=True)
            return
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(problem.what, err=True)
        if problem.remedy:
            click.echo(f"  do: {problem.remedy}", err=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only if a person, or ``--yes``, agrees.

        Raises:
            Problem: if not.
        """
        self.done()
        if yes:
            return
        if self.as_json or not sys.stdin.isatty():
            raise Problem(Exit.USAGE, f"not done without a yes: {question}", "add --yes")
        if not click.confirm(question, err=True):
            raise Problem(Exit.USAGE, "nothing was done")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return a table, as wide as it needs to be; columns of numbers are set to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in (headers, *cells)) for at in range(len(headers))]
    right = [
        bool(rows) and all(isinstance(row[at], int) or row[at] == "" for row in rows)
        for at in range(len(headers))
    ]

    def line(row: Sequence[str]) -> str:
        set_cells = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        )
        return GAP.join(set_cells).rstrip()

    return [line(headers), line(["─" * width for width in widths]), *map(line, cells)]


def span(seconds: float) -> str:
    """Say how long, in the largest unit that fits."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit or (seconds >= unit and name == "min"):
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def moment(at_ms: int) -> str:
    """Write a moment (milliseconds since the epoch) in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at_ms / 1000))


def seconds_of(text: str) -> float:
    """Read a time such as ``90s``, ``30m``, ``1h`` or ``2d``.

    Raises:
        ValueError: if it is none.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if not found:
        message = f"{text!r} is no time: write it as 30m, 1h or 2d"
        raise ValueError(message)
    return float(int(found[1]) * _UNITS[found[2]])


def short(digest: str) -> str:
    """Return as much of a digest as tells it from others."""
    return digest[:12]
