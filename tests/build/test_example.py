"""The example consumer: its tests, its template and its permissions."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from flagstore.lines import COUNTS
from simulators.template import as_text
from tests.build.tooling import REPOSITORY, run, tool
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = REPOSITORY / "examples" / "consumer"
PAGE = "examples/consumer/README.md"
NO_NETWORK = """
import socket


def refuse(*_):
    raise AssertionError("a test went to the network")


socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(tool(".venv", "python"), "-m", "hatchling", "build", "--target", "wheel"),
        *("--directory", str(folder)),
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.build
def test_example_tests_run_offline(wheel: Path, tmp_path: Path) -> None:
    """As the page runs them, with the installed wheel."""
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    (tmp_path / "no_network.py").write_text(NO_NETWORK)
    program = tmp_path / "python"
    program.write_text(
        f"#!/bin/sh\nexport PYTHONPATH=$PYTHONPATH:{installed}:{tmp_path}\n"
        f'exec {tool(".venv", "python")} "$@" -q -c /dev/null -p no_network -p no:cacheprovider\n'
    )
    program.chmod(0o755)
    script = next(block.text for block in blocks(PAGE) if "pytest" in block.text)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    done = run("/bin/bash", "-euc", script, cwd=EXAMPLE, environment=environment)
    assert "2 passed" in done.stdout


def test_example_reads_one_source() -> None:
    """Only GetItem on the keys of its source."""
    template = as_text((EXAMPLE / "template.yaml").read_text())
    function = template["Resources"]["CheckoutFunction"]["Properties"]
    (policy,) = function["Policies"]
    (statement,) = policy["Statement"]
    assert statement["Action"] == "dynamodb:GetItem"
    assert statement["Condition"] == {
        "ForAllValues:StringLike": {"dynamodb:LeadingKeys": "${FlagSource}:*"},
        "Null": {"dynamodb:LeadingKeys": "false"},
    }
    assert statement["Resource"].endswith(":table/${FlagTable}")


def test_example_reports_usage_only_if_asked() -> None:
    """Its filter passes the lines that UsageFunction reads, from its own log group."""
    template = as_text((EXAMPLE / "template.yaml").read_text())
    assert template["Parameters"]["UsageFunction"]["Default"] == ""
    usage = template["Resources"]["CheckoutUsage"]
    assert usage["Condition"] == "ReportsUsage"
    assert usage["Properties"] == {
        "LogGroupName": "CheckoutLogs",
        "FilterPattern": f'"{COUNTS}"',
        "DestinationArn": "UsageFunction",
    }
    function = template["Resources"]["CheckoutFunction"]["Properties"]
    assert function["LoggingConfig"]["LogGroup"] == "CheckoutLogs"
