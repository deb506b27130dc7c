"""Whole processes in turn: each round runs every case once, so what disturbs one disturbs all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

REPOSITORY = Path(__file__).resolve().parents[1]
READERS = Path(__file__).parent / "readers"
SDKS = REPOSITORY / ".venv-sdks"
PYTHON = SDKS / "bin" / "python"
TIMEOUT_S = 120
PEERS = (
    *("launchdarkly-server-sdk", "splitio_client", "UnleashClient", "yggdrasil-engine"),
    *("boto3", "redis"),
)


@dataclass(frozen=True)
class Dose:
    """How much is measured: ``make bench`` takes all of it, ``make bench-quick`` a taste."""

    rounds: int
    """Counted pairs of whole processes."""
    sizes: tuple[int, ...]
    """Numbers of flags in P5."""
    publish_flags: int
    """Number of flags in P4."""
    quick: bool


FULL = Dose(15, (10, 100, 1_000, 10_000), 5_000, quick=False)
QUICK = Dose(7, (10, 100, 1_000), 1_000, quick=True)


@dataclass(frozen=True)
class Case:
    """One command, and what its process needs."""

    name: str
    script: str
    """In ``bench/readers``."""
    packages: Path
    """Where its packages are."""
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    """What the command is run under."""

    def command(self) -> list[str]:
        """Return the command: without site, so no .pth files, which a function has not either."""
        return [*self.prefix, str(PYTHON), "-S", str(READERS / self.script), *self.arguments]

    def variables(self) -> dict[str, str]:
        """Return its environment: nothing of ours, and no .pyc written in passing."""
        return {
            "PATH": os.defpath,
            "PYTHONPATH": str(self.packages),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environment,
        }

    def run(self) -> tuple[float, str]:
        """Run it once; returns wall time from start to end in ms, and what it printed."""
        begun = time.perf_counter()
        done = subprocess.run(
            self.command(),
            env=self.variables(),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        took = (time.perf_counter() - begun) * 1000
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            message = f"{self.name} failed"
            raise RuntimeError(message)
        return took, done.stdout.strip()

    def told(self) -> Any:
        """Run it once; returns the JSON in its last line."""
        return json.loads(self.run()[1].splitlines()[-1])


def in_turn(cases: Sequence[Case], rounds: int) -> dict[str, list[float]]:
    """Run all cases once a round; the first round only warms the disk, and is not counted."""
    times: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds + 1):
        for case in turned(cases, number):
            took, _ = case.run()
            if number:
                times[case.name].append(took)
    return times


def turned(cases: Sequence[Case], number: int) -> Sequence[Case]:
    """Return the order of a round: every other one backwards, so that nobody is always first."""
    return cases if number % 2 else cases[::-1]


def steps(case: Case, counter: Callable[[], Any]) -> Iterator[tuple[str, Any]]:
    """Run a script that names each step once it is done, and waits; yields what was counted.

    The script prints a line per step and reads one before it goes on.
    """
    process = subprocess.Popen(
        case.command(),
        env=case.variables(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    with process:
        for line in process.stdout:
            yield line.strip(), counter()
            process.stdin.write("\n")
            process.stdin.flush()
    if process.returncode:
        message = f"{case.name} failed"
        raise RuntimeError(message)


def machine() -> str:
    """Return the machine's description."""
    name = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{os.cpu_count()} cores {name}, {os.uname().sysname}, Python {version}"


def peers() -> str:
    """Return the versions of what we are measured against."""
    code = (
        "import sys, importlib.metadata as m; "
        "print(*[f'{n} {m.version(n)}' for n in sys.argv[1:]], sep=', ')"
    )
    done = subprocess.run(
        [str(PYTHON), "-c", code, *PEERS], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
