"""The README's table of theirs beside ours, out of the pages that measured it.

Times come from ``docs/benchmarks/results.json``, which ``make bench`` writes; faults from the
second table of ``docs/guarantees.md``, which ``make torture`` writes. Nothing is typed: a figure
that is not in those pages any more stops ``make docs``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tools.markdown import table

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "docs" / "benchmarks" / "results.json"
GUARANTEES = REPOSITORY / "docs" / "guarantees.md"
BENCH, WARM_BENCH = "`make bench ONLY=P1`", "`make bench ONLY=P3`"
TORTURE = "`make torture ONLY=T28`"


class MissingFigureError(LookupError):
    """A page does not have the row that the README quotes."""


class Timed(NamedTuple):
    """A row of P1: the work, the peer, and what the README calls them."""

    work: str
    peer: str
    says: str


WHOLE, SMALL = 1_769, 128
COLD = "INIT and first flag"
BOTO3 = "boto3: GetItem + json"
DAEMON = ("LaunchDarkly's SDK, daemon mode", "LaunchDarkly's SDK in daemon mode")
TIMED = {
    f"INIT and first flag of 500, over TLS, {WHOLE:,} MB": (
        Timed(f"{COLD}, {WHOLE} MB", *DAEMON),
        Timed(f"{COLD}, Unleash's flags", "UnleashClient, its own fetch", "UnleashClient"),
        Timed(f"{COLD}, Split's flags, Redis", "Split's SDK on Redis", "Split's SDK on Redis"),
    ),
    f"the same, {SMALL} MB": (Timed(f"{COLD}, {SMALL} MB", *DAEMON),),
    "... beside boto3 alone: one `GetItem` and JSON, nothing evaluated": (
        Timed(f"{COLD}, {WHOLE} MB", BOTO3, f"{WHOLE:,} MB:"),
        Timed(f"{COLD}, {SMALL} MB", BOTO3, f"{SMALL} MB:"),
    ),
}
WARM = {"launchdarkly": "LaunchDarkly", "split": "Split", "unleash": "Unleash"}
STARTS = re.compile(r"the provider responds with 503 when a function starts \((.+?),.*\)")
EMPTY = re.compile(r"the server responds with 200 with an empty set \((\w+)")
KILLED = re.compile(r"250 flags become 210, killed before and after every call that writes")


def tables() -> dict[str, str]:
    """Return the README's generated part by its name."""
    rows = [*_cold(), _warm(), _started(), _emptied(), _killed()]
    headers = ["", "instead", "flagstore", "measured by"]
    return {"compared": table(headers, rows)}


def _cold() -> Iterator[tuple[str, ...]]:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["P1"]["rows"]
    for title, compared in TIMED.items():
        found = [(each.says, _row(rows, each)) for each in compared]
        ours = [_ms(row["ours"]) for _, row in found]
        theirs = "; ".join(f"{says} {_ms(row['theirs'])} ms" for says, row in found)
        least, most = min(ours, key=int), max(ours, key=int)
        mine = f"{least} ms" if least == most else f"{least} to {most} ms"
        yield title, theirs, mine, BENCH


def _warm() -> tuple[str, ...]:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["P3"]["rows"]
    judged = [row for row in rows if row["verdict"] != "shown"]
    theirs = "; ".join(
        f"{title} {_range([row['theirs'] for row in judged if row['work'].startswith(f'{name}:')])}"
        for name, title in WARM.items()
    )
    return (
        "a warm evaluation with its reason",
        theirs,
        _range([row["ours"] for row in judged]),
        WARM_BENCH,
    )


def _range(cells: list[str]) -> str:
    """Return the least and the greatest median of such cells as ``6.37 µs (6.17-6.79)``."""
    medians = sorted((cell.split(" ", 1)[0] for cell in cells), key=float)
    return f"{medians[0]} to {medians[-1]} µs"


def _row(rows: list[dict[str, str]], timed: Timed) -> dict[str, str]:
    for row in rows:
        if row["work"] == timed.work and row["peer"].startswith(timed.peer):
            return row
    message = f"{RESULTS.name} has no row of P1 for {timed}: run {BENCH}"
    raise MissingFigureError(message)


def _ms(text: str) -> str:
    """Return the median of a cell such as ``40.4 ms (38.0-48.5)``, in whole ms."""
    return f"{float(text.split(' ', 1)[0]):.0f}"


def _started() -> tuple[str, ...]:
    found = _faults(STARTS)
    theirs = "; ".join(
        f"{match[1]}: {row[0].replace(' for a flag that is on', '')}" for match, row in found
    )
    ours = {row[1].split(",")[0] for _, row in found}
    return (
        "the provider is down when a function starts, the flag is on",
        theirs,
        " / ".join(sorted(ours)),
        TORTURE,
    )


def _emptied() -> tuple[str, ...]:
    ((match, row),) = _faults(EMPTY)
    theirs = row[0].partition(";")[0].replace("a client that starts then", match[1])
    return "the provider responds with 200 with an empty set", theirs, row[1].split(",")[0], TORTURE


def _killed() -> tuple[str, ...]:
    ((_, row),) = _faults(KILLED)
    theirs = f"LaunchDarkly's store for DynamoDB: {row[0].partition(',')[0]}"
    return (
        "the writer dies at any call while 250 flags become 210",
        theirs,
        row[1].partition(" (")[0],
        TORTURE,
    )


def _faults(pattern: re.Pattern[str]) -> list[tuple[re.Match[str], list[str]]]:
    """Return theirs and ours of the faults that match."""
    _, _, compared = GUARANTEES.read_text(encoding="utf-8").partition("### Side by side")
    found = []
    for line in compared.splitlines():
        cells = re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))
        match = pattern.match(cells[0])
        if match:
            found.append((match, cells[1:]))
    if not found:
        message = f"{GUARANTEES.name} has no row of {pattern.pattern!r}: run `make torture`"
        raise MissingFigureError(message)
    return found
