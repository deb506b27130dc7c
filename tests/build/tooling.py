"""Running the tools that build and check, and what they build."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parents[2]


def tool(environment: str, name: str) -> Path:
    """Return a command of one of the virtual environments, or skip the test."""
    path = REPOSITORY / environment / "bin" / name
    if not path.exists():
        pytest.skip(f"{environment} is missing: run `make setup`")
    return path


def run(
    *command: str | Path,
    cwd: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
    umask: int = -1,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command; if it should succeed and does not, show its output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=dict(os.environ if environment is None else environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        umask=umask,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stdout
    return done


def sam_environment(**more: str) -> dict[str, str]:
    """Return an environment in which the sam command finds its own python3.13 first."""
    folder = tool(".venv-sam", "sam").parent
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "SAM_CLI_TELEMETRY": "0",
        "AWS_DEFAULT_REGION": "eu-west-1",
        **more,
    }


def validate(folder: Path) -> None:
    """Fail unless `sam validate --lint` accepts a folder's template without a warning."""
    sam, environment = tool(".venv-sam", "sam"), sam_environment()
    done = run(sam, "validate", "--lint", cwd=folder, environment=environment)
    assert "is a valid SAM Template" in done.stdout


def copy_sources(home: Path) -> None:
    """Copy what a build reads, so that builds do not meet, nor see a change in between."""
    ignore = shutil.ignore_patterns("__pycache__", ".*_cache")
    shutil.copytree(REPOSITORY / "src", home / "src", ignore=ignore)
    shutil.copy(REPOSITORY / "template.yaml", home)
