"""Measure part by part, and write docs/benchmarks.md: ``make bench``, ``make bench-quick``.

``python -m bench --only P1 P3`` measures some parts again and keeps the others' figures.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import report, results
from bench.harness import FULL, QUICK, REPOSITORY, machine, peers

if TYPE_CHECKING:
    from bench.harness import Dose
    from bench.results import Part

KEPT = REPOSITORY / "docs" / "benchmarks" / "results.json"
FILES = (path.stem for path in (REPOSITORY / "bench" / "parts").glob("p[0-9]*_*.py"))
PARTS = results.in_order({stem.partition("_")[0].upper(): stem for stem in FILES})


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, nothing written")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, help="pairs that count; at least 7")
    parser.add_argument("--write", action="store_true", help="write the page even when quick")
    arguments = parser.parse_args()
    dose = QUICK if arguments.quick else FULL
    if arguments.rounds:
        dose = replace(dose, rounds=max(arguments.rounds, QUICK.rounds))
    print(f"{machine()}; {peers()}")
    KEPT.parent.mkdir(exist_ok=True)
    kept = results.load(KEPT)
    for name in arguments.only:
        kept[name] = run(name, dose)
        if arguments.write or not arguments.quick:
            results.save(KEPT, kept)
            report.write(kept)
    print(f"\n{'ALL':4} " + summary({name: kept[name] for name in arguments.only}))


def run(name: str, dose: Dose) -> Part:
    """Run one part and show it."""
    load, begun = os.getloadavg()[0], time.monotonic()
    part: Part = importlib.import_module(f"bench.parts.{PARTS[name]}").measure(dose)
    took = time.monotonic() - begun
    today = dt.datetime.now(dt.UTC).date().isoformat()
    size = "a quick run: " if dose.quick else ""
    part.run = (
        f"{today}, {size}{dose.rounds} counted rounds in {took:.0f} s; "
        f"{machine()}, load {load:.1f} at the start; {peers()}."
    )
    print(f"\n{name}: {part.title} ({took:.0f} s)\n")
    print("\n".join(report.table(part.rows)))
    return part


def summary(parts: dict[str, Part]) -> str:
    """Count the verdicts."""
    verdicts = [row.verdict for part in parts.values() for row in part.rows]
    return ", ".join(f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts))


if __name__ == "__main__":
    main()
