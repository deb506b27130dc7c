"""Checks of the template by AWS tools, and of the pinned requirements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.build.tooling import REPOSITORY, run, tool, validate

if TYPE_CHECKING:
    from pathlib import Path

PINNED = [
    REPOSITORY / "requirements-dev.txt",
    REPOSITORY / "src" / "requirements.txt",
    *(REPOSITORY / "tools" / "requirements").glob("*.txt"),
]
LINE = re.compile(
    r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==[\w.+]+( ; .+)? \\|    --hash=sha256:\w{64}( \\)?"
)


@pytest.mark.build
@pytest.mark.parametrize("folder", [".", "examples/consumer"])
def test_template_is_valid(folder: str) -> None:
    validate(REPOSITORY / folder)


@pytest.mark.build
def test_guided_deployment_asks_for_no_authentication() -> None:
    """It would ask for each of 26 routes, also without ServeFlags, and one N ends it."""
    code = """
from samcli.commands.deploy.auth_utils import auth_per_resource
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

print(auth_per_resource(SamLocalStackProvider.get_stacks("template.yaml")[0]))
"""
    done = run(tool(".venv-sam", "python"), "-c", code)
    assert "('ServeFunction', True)" in done.stdout
    assert "False" not in done.stdout


@pytest.mark.build
def test_checkov_passes() -> None:
    """Every check passes, or is skipped in the template with its reason."""
    done = run(
        *(tool(".venv-checkov", "checkov"), "--file", "template.yaml"),
        *("--framework", "cloudformation", "--skip-download", "--compact", "--quiet"),
    )
    counts = re.search(r"Passed checks: (\d+), Failed checks: 0,", done.stdout)
    assert counts is not None
    assert int(counts[1]) > 0


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.name)
def test_packages_are_pinned_by_hash(path: Path) -> None:
    """One version and its hashes each; no index or folder is named."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_tests_use_the_deployed_versions() -> None:
    deployed, tested = (
        {line for line in (REPOSITORY / name).read_text("utf-8").splitlines() if "==" in line}
        for name in ("src/requirements.txt", "requirements-dev.txt")
    )
    assert deployed <= tested
