"""flagstore's engines agree with the providers' own over random flag sets and contexts.

A dose runs with every `make test`; `make differential` runs 100,000 cases for each provider.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SRC = HERE.parents[1] / "src"
PYTHON = HERE.parents[1] / ".venv-sdks" / "bin" / "python"
PROVIDERS = ("launchdarkly", "split", "unleash")
DOSE, WHOLE = 3_000, 100_000
TO_FIND = 100_000
"""Cases within which a campaign finds each fault."""


def campaign(provider: str, cases: int, *options: str) -> dict[str, Any]:
    """Run a provider's campaign; return its counts."""
    if not PYTHON.exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")
    done = subprocess.run(
        [str(PYTHON), str(HERE / f"{provider}.py"), f"--cases={cases}", *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(SRC), str(HERE.parent)))},
        capture_output=True,
        encoding="utf-8",
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
    assert sum(report["excluded"].values()) < report["cases"] / 3, report["excluded"]
    rare = {name: times for name, times in report["reached"].items() if times < 200 * cases / WHOLE}
    assert report["reached"]
    assert not rare, rare


@pytest.mark.parametrize("provider", PROVIDERS)
def test_dose(provider: str) -> None:
    """Thousands of cases do not differ, and reach every operator."""
    check(campaign(provider, DOSE), DOSE)


@pytest.mark.campaign
@pytest.mark.parametrize("provider", PROVIDERS)
def test_all(provider: str) -> None:
    """A hundred thousand cases do not differ, and reach every operator and type 200 times."""
    report = campaign(provider, WHOLE, "--seed=20")
    check(report, WHOLE)
    print(f"\n{provider}: {json.dumps(report, indent=1, sort_keys=True)}")


@pytest.mark.campaign
@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_fault_is_found(provider: str) -> None:
    """A campaign shows a difference for each fault that is planted in an engine."""
    report = campaign(provider, TO_FIND, "--fault=all")
    assert report["missed"] == []
    assert len(report["found"]) >= 20
    print(f"\n{provider}: {json.dumps(report['found'], indent=1)}")
