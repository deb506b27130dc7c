"""The adapter examples of docs/read.md, run as they are on a published table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from sdks import processes, sets
from sdks.processes import MODULES, PYTHON, output
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from rigs import DynamoRig


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
def test_adapter_example_runs(dynamo_rig: DynamoRig, adapter: str, provider: str) -> None:
    """Its handler returns that the flag is on."""
    if adapter != "openfeature":
        processes.needs_python()
    python = sys.executable if adapter == "openfeature" else PYTHON
    (example,) = (
        block.text
        for block in blocks("docs/read.md")
        if f"flagstore.adapters.{adapter} " in block.text
    )
    code = f"import sys; sys.path += {MODULES!r}\n{example}\nprint(handler({{}}, None))"
    with sets.server(provider) as server:
        dynamo_rig.provider, dynamo_rig.name = server, provider
        assert dynamo_rig.sync().outcome == "published"
        assert output([python, "-I", "-c", code], dynamo_rig.environment()) == "True\n"
