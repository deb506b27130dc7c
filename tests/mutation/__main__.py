"""`make mutants`: plant one fault at a time into what must not be wrong, and see tests fail.

Each fault runs the tests that belong to its module, in a copy of the sources, two at a time. A
fault that no test notices has survived; survivors.md judges each.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING

import boto3  # noqa: F401 - for the forks, as are the next ones
import greenlet  # noqa: F401
import hypothesis.strategies  # noqa: F401
import pytest
import redis  # noqa: F401
import requests  # noqa: F401

from mutation.operators import Mutant, mutants

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

REPOSITORY = Path(__file__).parents[2]
SRC = REPOSITORY / "src"
JOBS = int(os.environ.get("FLAGSTORE_MUTATION_JOBS", "2"))
AT_LEAST = 0.9
TARGETS = {
    "storesync/guard.py": ["tests/unit/test_guard.py"],
    "storesync/signature.py": ["tests/unit/test_signature.py"],
    "flagstore/layout.py": ["tests/unit/test_layout.py", "tests/unit/test_publisher.py"],
    "storesync/pipeline.py": [
        "tests/unit/test_pipeline_details.py",
        "tests/unit/test_pipeline.py",
        "tests/unit/test_large_segments.py",
    ],
}


def attempt(mutant: Mutant, limit_s: float) -> bool:
    """Run a module's tests on a copy of the sources with the fault; say whether it survived."""
    file = folder() / mutant.module
    original = file.read_text(encoding="utf-8")
    file.write_text(mutant.source, encoding="utf-8")
    try:
        return passes(mutant.module, limit_s)
    finally:
        file.write_text(original, encoding="utf-8")


@cache
def folder() -> Path:
    """Return this process's own copy of the sources."""
    copy = Path(mkdtemp(dir=os.environ["MUTANTS"]))
    shutil.copytree(SRC, copy, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return copy


def passes(module: str, limit_s: float) -> bool:
    """Run a module's tests on this process's sources; a time-out is a failure.

    In a fork, since importing what the tests need takes longer than most of the tests; nothing
    of ours has been imported before.
    """
    arguments = [
        "-x",
        "-q",
        "--assert=plain",
        "-p",
        "no:cacheprovider",
        "-o",
        f"pythonpath={folder()} tests .",
    ]
    child = os.fork()
    if not child:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.dont_write_bytecode = True
        os._exit(int(pytest.main([*arguments, *TARGETS[module]])))
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def judge(module: str, pool: Pool) -> float:
    """Try all faults of one module; print the survivors; return the share that was noticed."""
    planted = list(mutants(module, (SRC / module).read_text(encoding="utf-8")))
    begun = time.monotonic()
    if not pool.apply(passes, (module, 600)):
        message = f"the tests of {module} fail without any fault"
        raise SystemExit(message)
    limit_s = 20 + 5 * (time.monotonic() - begun)
    alive = pool.starmap(attempt, [(mutant, limit_s) for mutant in planted], chunksize=1)
    survivors = [mutant for mutant, survived in zip(planted, alive, strict=True) if survived]
    noticed, seconds = len(planted) - len(survivors), time.monotonic() - begun
    share = noticed / len(planted)
    print(f"{module}: {noticed} of {len(planted)} noticed ({share:.0%}), {seconds:.0f} s")
    for mutant in survivors:
        print(f"  {mutant.module}:{mutant.line}: {mutant.what}")
    sys.stdout.flush()
    return share


def main() -> int:
    """Try all modules, or those that are named; returns the exit code."""
    chosen = [name for name in TARGETS if not sys.argv[1:] or Path(name).stem in sys.argv[1:]]
    shares: dict[str, float] = {}
    os.chdir(REPOSITORY)
    # Processes of a pool end without cleaning up: their copies go with this one's folder.
    with TemporaryDirectory(prefix="mutants-") as home:
        os.environ["MUTANTS"] = home
        pool = get_context("fork").Pool(JOBS)
        for module in chosen:
            shares[module] = judge(module, pool)
        pool.close()
        pool.join()
    weak = [module for module, share in shares.items() if share < AT_LEAST]
    print(f"below {AT_LEAST:.0%}: {', '.join(weak) or 'none'}")
    return bool(weak)


if __name__ == "__main__":
    sys.exit(main())
