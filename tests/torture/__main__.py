"""`make torture`: run every promise's tests at full size, two at a time, and update the page.

One process of pytest per promise. The figures are the lines that tests print; rows of the
comparison are properties in pytest's report. With RESUME=1, promises whose tests passed in an
earlier run (reports in .torture) are not run again.
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

from torture.page import Row, cell, merged, rows, write

REPOSITORY = Path(__file__).parents[2]
REPORTS = REPOSITORY / ".torture"
PAGE = REPOSITORY / "docs" / "guarantees.md"
JOBS = 2
SLOW_FIRST = ("T5", "T6", "T14", "T7", "T11", "T8", "T15", "T2", "T4")


@dataclass
class Outcome:
    """The results of one promise's tests."""

    counts: Counter[str] = field(default_factory=Counter)
    figures: list[str] = field(default_factory=list)
    compared: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0
    failures: str = ""

    def row(self, promise: Row) -> Row:
        """Return the row of the table."""
        passed = self.counts["passed"]
        number = f"{passed} {'case' if passed == 1 else 'cases'}"
        number += f", {self.counts['skipped']} skipped" if self.counts["skipped"] else ""
        number += f", **{self.counts['failed']} failed**" if self.counts["failed"] else ""
        reached = cell("; ".join([number, *merged(self.figures)]))
        return promise._replace(reached=reached, seconds=f"{self.seconds:.0f}")


def run(promise: Row) -> Outcome:
    """Run one promise's tests, campaigns included."""
    report = REPORTS / f"{promise.number}.xml"
    if os.environ.get("RESUME") and report.exists():
        return read(report)
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "", f"--junitxml={report}"]
    command += ["--hypothesis-profile=whole", "-o", "junit_logging=system-out"]
    command += ["-p", "no:cacheprovider", *promise.tests]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    outcome = read(report) if report.exists() else Outcome()
    if done.returncode:
        outcome.counts["failed"] += not outcome.counts["failed"]
        report.unlink(missing_ok=True)
        outcome.failures = done.stdout[-6_000:] + done.stderr[-2_000:]
    row = outcome.row(promise)
    print(f"{row.number:4} {row.seconds:>5} s  {row.text}\n     {row.reached}", flush=True)
    return outcome


def read(report: Path) -> Outcome:
    """Read pytest's report of one run."""
    root = ET.parse(report).getroot()  # noqa: S314 - written by pytest
    outcome = Outcome(seconds=sum(float(each.get("time", "0")) for each in root.iter("testsuite")))
    for case in root.iter("testcase"):
        kinds = {child.tag for child in case}
        failed = kinds & {"failure", "error"}
        kind = "failed" if failed else "skipped" if "skipped" in kinds else "passed"
        outcome.counts[kind] += 1
        for child in case.iter("property"):
            if child.get("name") == "side by side":
                outcome.compared.append(json.loads(child.get("value", "")))
        if kind == "passed" and "dose" not in str(case.get("name")):
            outcome.figures += figures(case.findtext("system-out") or "")
    return outcome


def figures(printed: str) -> list[str]:
    """Return the lines with a figure, without logs, paths and pytest's headings."""
    lines = (line.strip() for line in printed.splitlines())
    return [
        line for line in lines if line and line[0] not in "{[-/" and any(map(str.isdigit, line))
    ]


def main() -> int:
    """Run all or the named promises; return the exit code."""
    required = set(sys.argv[1:])
    chosen = [promise for promise in rows(PAGE) if not required or promise.number in required]
    # The slowest first, so that both processes end together.
    order = sorted(chosen, key=lambda each: (*SLOW_FIRST, each.number).index(each.number))
    begun = time.monotonic()
    REPORTS.mkdir(exist_ok=True)
    with ThreadPoolExecutor(JOBS) as pool:
        outcomes = dict(zip((each.number for each in order), pool.map(run, order), strict=True))
    failed = [number for number, outcome in outcomes.items() if outcome.counts["failed"]]
    for number in failed:
        print(f"\n-- {number} " + "-" * 80 + f"\n{outcomes[number].failures}")
    seconds = max(time.monotonic() - begun, sum(each.seconds for each in outcomes.values()) / JOBS)
    cases = sum(outcome.counts["passed"] for outcome in outcomes.values())
    print(f"\n{len(chosen)} promises, {cases:,} cases, {seconds / 60:.0f} min; failed: {failed}")
    if not failed and not required:
        measured = [outcomes[promise.number].row(promise) for promise in chosen]
        compared = [row for promise in chosen for row in outcomes[promise.number].compared]
        pins = (REPOSITORY / "tools/requirements/sdks.txt").read_text(encoding="utf-8")
        write(PAGE, measured, compared, seconds, pins)
        print(f"updated {PAGE.relative_to(REPOSITORY)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
