"""The adapter examples of docs/read.md, run as they are on a published table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sdks.rig import MODULES, PYTHON, TIMEOUT_S, Rig
from simulators import launchdarkly_flags, split_flags, unleash_flags
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.split import SplitSimulator
from simulators.unleash import UnleashSimulator
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.aws import Table

FLAG = "new-checkout"
SERVERS = {
    "launchdarkly": lambda: LaunchDarklySimulator({FLAG: launchdarkly_flags.new_flag(FLAG)}, {}),
    "split": lambda: SplitSimulator({FLAG: split_flags.new_flag(FLAG)}, {}, {}),
    "unleash": lambda: UnleashSimulator({FLAG: unleash_flags.new_flag(FLAG)}, {}),
}


@pytest.mark.parametrize(
    ("adapter", "provider"),
    [
        ("openfeature", "launchdarkly"),
        ("openfeature", "split"),
        ("launchdarkly", "launchdarkly"),
        ("split", "split"),
        ("unleash", "unleash"),
    ],
)
def test_adapter_example_runs(
    aws: StandIn, dynamodb_table: Table, adapter: str, provider: str
) -> None:
    """Its handler returns that the flag is on."""
    python = sys.executable if adapter == "openfeature" else str(PYTHON)
    if not Path(python).exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")
    (example,) = (
        block.text
        for block in blocks("docs/read.md")
        if f"flagstore.adapters.{adapter} " in block.text
    )
    code = f"import sys; sys.path += {MODULES!r}\n{example}\nprint(handler({{}}, None))"
    with SERVERS[provider]() as server:
        rig = Rig(aws, dynamodb_table, server, provider)
        assert rig.sync().outcome == "published"
        done = subprocess.run(
            [python, "-I", "-c", code],
            env=rig.environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n", done.stderr
