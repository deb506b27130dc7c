"""Whole processes in turn: each round runs every case once, so what disturbs one disturbs all."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
READERS = Path(__file__).parent / "readers"
SDKS = REPOSITORY / ".venv-sdks"
PYTHON = SDKS / "bin" / "python"
TIMEOUT_S = 60


@dataclass(frozen=True)
class Case:
    """One command, and what its process needs."""

    name: str
    script: str
    """In ``bench/readers``."""
    packages: Path
    """Where its third-party packages are."""
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    def run(self, shared: dict[str, str]) -> tuple[float, str]:
        """Run it once; returns wall time from start to end in ms, and what it printed."""
        # Without site: no .pth files, which a Lambda function has not either.
        command = [str(PYTHON), "-S", str(READERS / self.script), *self.arguments]
        environment = {
            **shared,
            "PYTHONPATH": str(self.packages),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environment,
        }
        begun = time.perf_counter()
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        took = (time.perf_counter() - begun) * 1000
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            message = f"{self.name} failed"
            raise RuntimeError(message)
        return took, done.stdout.strip()


@dataclass
class Figures:
    """What the runs of one case took, in ms."""

    times: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.times)

    @property
    def spread(self) -> str:
        """Return the smallest and the largest."""
        return f"{min(self.times):.0f}-{max(self.times):.0f}"


def in_turn(cases: list[Case], rounds: int, shared: dict[str, str]) -> dict[str, Figures]:
    """Run all cases once a round; the first round only warms the disk, and is not counted.

    Every case must print the same in all rounds, and all cases the same as the first one does,
    apart from those that print nothing.
    """
    figures = {case.name: Figures() for case in cases}
    said: set[str] = set()
    for number in range(rounds + 1):
        for case in cases:
            took, output = case.run(shared)
            if output:
                said.add(output)
            if number:
                figures[case.name].times.append(took)
    if len(said) > 1:
        message = f"the cases disagree: {sorted(said)}"
        raise RuntimeError(message)
    return figures


def ratios(ours: Figures, peer: Figures) -> float:
    """Return the median of the rounds' ratios: a round's runs follow each other."""
    return statistics.median(a / b for a, b in zip(ours.times, peer.times, strict=True))


def machine() -> str:
    """Say on what this runs."""
    name = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{os.cpu_count()} cores {name}, Python {version}"
