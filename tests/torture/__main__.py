"""`make torture`: every promise's tests at their full size, two at a time, and the page about them.

One process of pytest a promise; what a test measured is what it prints, and the rows of the
comparison are properties in its report. With RESUME=1, promises whose tests have passed in a run
before are not tried again: their reports are kept in .torture. With DOSE=1, the others are tried
with the smaller numbers of `make test`, and their rows say so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from torture.page import SMALLER, Row, Versions, merged, write
from torture.promises import PROMISES, Promise

REPOSITORY = Path(__file__).parents[2]
REPORTS = REPOSITORY / ".torture"
PAGE = REPOSITORY / "docs" / "guarantees.md"
JOBS = 2
SLOW_FIRST = ("T5", "T6", "T14", "T7", "T11", "T8", "T15", "T2", "T4")


@dataclass
class Outcome:
    """What one promise's tests did."""

    counts: Counter[str] = field(default_factory=Counter)
    figures: list[str] = field(default_factory=list)
    compared: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0
    failures: str = ""
    dose: bool = False
    """Tried with smaller numbers."""

    def row(self, promise: Promise) -> Row:
        """Return the row of the table."""
        passed = self.counts["passed"]
        number = f"{passed} {'case' if passed == 1 else 'cases'}"
        number += f" {SMALLER}" if self.dose else ""
        number += f", {self.counts['skipped']} skipped" if self.counts["skipped"] else ""
        number += f", **{self.counts['failed']} failed**" if self.counts["failed"] else ""
        return Row(promise, "; ".join([number, *merged(self.figures)]), self.seconds)


def run(promise: Promise) -> Outcome:
    """Run one promise's tests, the campaigns included."""
    report, dose = REPORTS / f"{promise.number}.xml", bool(os.environ.get("DOSE"))
    smaller = report.with_suffix(".dose.xml")
    if os.environ.get("RESUME") and report.exists():
        return read(report)
    if os.environ.get("RESUME") and dose and smaller.exists():
        return read(smaller, dose=True)
    report = smaller if dose else report
    report.unlink(missing_ok=True)
    marked = "not campaign" if dose else ""
    command = [sys.executable, "-m", "pytest", "-q", "-m", marked, f"--junitxml={report}"]
    command.append("--hypothesis-profile=whole")
    command += ["-o", "junit_logging=system-out", "-p", "no:cacheprovider", *promise.tests]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if dose and report.exists() and " deselected" not in done.stdout:  # there is no larger one
        dose, report = False, report.rename(REPORTS / f"{promise.number}.xml")
    outcome = read(report, dose=dose) if report.exists() else Outcome()
    if done.returncode:
        outcome.counts["failed"] += not outcome.counts["failed"]
        report.unlink(missing_ok=True)
        outcome.failures = done.stdout[-6_000:] + done.stderr[-2_000:]
    told = outcome.row(promise).satisfied
    print(f"{promise.number:4} {outcome.seconds:5.0f} s  {promise.text}\n     {told}", flush=True)
    return outcome


def read(report: Path, *, dose: bool = False) -> Outcome:
    """Read pytest's report of one run."""
    root = ET.parse(report).getroot()  # noqa: S314 - our own
    seconds = sum(float(each.get("time", "0")) for each in root.iter("testsuite"))
    outcome = Outcome(seconds=seconds, dose=dose)
    for case in root.iter("testcase"):
        kinds = {child.tag for child in case}
        failed = kinds & {"failure", "error"}
        kind = "failed" if failed else "skipped" if "skipped" in kinds else "passed"
        outcome.counts[kind] += 1
        for child in case.iter("property"):
            if child.get("name") == "side by side":
                outcome.compared.append(json.loads(child.get("value", "")))
        if kind == "passed" and (dose or "dose" not in str(case.get("name"))):
            outcome.figures += figures(case.findtext("system-out") or "")
    return outcome


def figures(printed: str) -> list[str]:
    """Return the lines that tell a figure; logs, paths and pytest's headings do not."""
    lines = (line.strip() for line in printed.splitlines())
    return [
        line for line in lines if line and line[0] not in "{[-/" and any(map(str.isdigit, line))
    ]


def main() -> int:
    """Run all, or the promises that are named; returns the exit code."""
    required = set(sys.argv[1:])
    chosen = [promise for promise in PROMISES if not required or promise.number in required]
    order = sorted(chosen, key=lambda each: _rank(each.number))
    begun = time.monotonic()
    REPORTS.mkdir(exist_ok=True)
    with ThreadPoolExecutor(JOBS) as pool:
        done = pool.map(run, order)
        outcomes = dict(zip((each.number for each in order), done, strict=True))
    rows = [outcomes[promise.number].row(promise) for promise in chosen]
    compared = [row for number in outcomes for row in outcomes[number].compared]
    failed = [number for number, outcome in outcomes.items() if outcome.counts["failed"]]
    for number in failed:
        print(f"\n-- {number} " + "-" * 80 + f"\n{outcomes[number].failures}")
    seconds = max(time.monotonic() - begun, sum(each.seconds for each in outcomes.values()) / JOBS)
    cases = sum(outcome.counts["passed"] for outcome in outcomes.values())
    print(f"\n{len(rows)} promises, {cases:,} cases, {seconds / 60:.0f} min; broken: {failed or 0}")
    if not failed and not required:
        write(PAGE, rows, compared, seconds, Versions.installed(REPOSITORY))
        print(f"written: {PAGE.relative_to(REPOSITORY)}")
    return bool(failed)


def _rank(number: str) -> int:
    """The slowest first, so that both processes end together."""
    return SLOW_FIRST.index(number) if number in SLOW_FIRST else len(SLOW_FIRST)


if __name__ == "__main__":
    sys.exit(main())
