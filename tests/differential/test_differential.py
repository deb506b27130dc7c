"""Our engines say what the providers' own say, over flag sets and contexts that are made up.

A dose runs with every `make test`; `make differential` runs 100,000 cases for each provider, and
all mutants.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from differential.mutants import SRC, Mutant, plant

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-sdks" / "bin" / "python"
PROVIDERS = [
    name for name in ("launchdarkly", "split", "unleash") if (HERE / f"{name}.py").exists()
]
DOSE, WHOLE = 3_000, 100_000
MUTANT_CASES = 20_000
MUTANTS = [
    (provider, mutant)
    for provider in PROVIDERS
    for mutant in importlib.import_module(f"differential.{provider}_mutants").MUTANTS
]


def campaign(
    provider: str, cases: int, *options: str, src: Path = SRC, timeout_s: float = 120
) -> dict[str, Any]:
    """Run a provider's campaign; returns what it counted."""
    if not PYTHON.exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")
    done = subprocess.run(
        [str(PYTHON), str(HERE / f"{provider}.py"), f"--cases={cases}", *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(src), str(HERE.parent)))},
        capture_output=True,
        encoding="utf-8",
        timeout=timeout_s,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines, done.stderr[-4000:]
    report: dict[str, Any] = json.loads(lines[-1])
    assert done.returncode == 0 or "difference" in report, done.stderr[-4000:]
    return report


def check(report: dict[str, Any], cases: int) -> None:
    """Assert that nothing differed, and that the cases could have shown a difference."""
    assert "difference" not in report, report["difference"]
    assert report["cases"] >= cases
    # A lazy generator makes defaults on both sides, and proves nothing.
    outcomes = report["outcomes"]
    dull = sum(outcomes.get(name, 0) for name in ("default", "fallthrough"))
    assert 1 - dull / sum(outcomes.values()) >= 0.3, outcomes
    rare = {name: times for name, times in report["reached"].items() if times < 200 * cases / WHOLE}
    assert report["reached"]
    assert not rare, rare


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_dose(provider: str) -> None:
    """Some thousand cases, no difference, and every operator was reached."""
    check(campaign(provider, DOSE), DOSE)


@pytest.mark.campaign
@pytest.mark.parametrize("provider", PROVIDERS)
def test_all(provider: str) -> None:
    """A hundred thousand cases, no difference, every operator and type of value 200 times."""
    report = campaign(provider, WHOLE, "--seed=20", timeout_s=1_800)
    check(report, WHOLE)
    print(f"\n{provider}: {json.dumps(report, indent=1, sort_keys=True)}")


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("provider", "mutant"), MUTANTS, ids=[f"{name}-{mutant.name}" for name, mutant in MUTANTS]
)
def test_a_planted_fault_is_found(provider: str, mutant: Mutant, tmp_path: Path) -> None:
    """A campaign finds each of the faults that were planted into the engine."""
    report = campaign(
        provider, MUTANT_CASES, "--no-shrink", src=plant(mutant, tmp_path), timeout_s=600
    )
    assert "difference" in report


@pytest.mark.parametrize("provider", PROVIDERS)
def test_there_are_twenty_faults_and_each_has_its_place(provider: str, tmp_path: Path) -> None:
    """Each mutant still finds the line that it breaks."""
    mutants = [mutant for name, mutant in MUTANTS if name == provider]
    assert len(mutants) >= 20
    for number, mutant in enumerate(mutants):
        plant(mutant, tmp_path / str(number))
