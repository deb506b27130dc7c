"""The examples of docs/adapters.md, run as they stand there, on a table that was published."""

from __future__ import annotations

import re
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

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.aws import Table

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
EXAMPLES = dict(
    re.findall(
        r"^## (.+?)\n+```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
)
FLAG = "new-checkout"
SERVERS = {
    "launchdarkly": lambda: LaunchDarklySimulator({FLAG: launchdarkly_flags.new_flag(FLAG)}, {}),
    "split": lambda: SplitSimulator({FLAG: split_flags.new_flag(FLAG)}, {}, {}),
    "unleash": lambda: UnleashSimulator({FLAG: unleash_flags.new_flag(FLAG)}, {}),
}


@pytest.mark.parametrize(
    ("title", "provider"),
    [
        ("OpenFeature", "launchdarkly"),
        ("OpenFeature", "split"),
        ("LaunchDarkly's SDK", "launchdarkly"),
        ("Split's SDK", "split"),
        ("Unleash's SDK", "unleash"),
    ],
)
def test_the_example_works(aws: StandIn, dynamodb_table: Table, title: str, provider: str) -> None:
    """Its handler returns that the flag is on."""
    python = sys.executable if title == "OpenFeature" else str(PYTHON)
    if not Path(python).exists():
        pytest.skip(".venv-sdks is missing: run `make setup`")
    code = f"import sys; sys.path += {MODULES!r}\n{EXAMPLES[title]}\nprint(handler({{}}, None))"
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


def test_every_example_is_run() -> None:
    """One for each heading that has code."""
    assert len(EXAMPLES) == PAGE.read_text("utf-8").count("```python") == 4
