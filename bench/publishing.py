"""What a publication costs: ours by the real pipeline, and LaunchDarkly's SDK's ``init``."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import world
from bench.harness import PYTHON, REPOSITORY
from bench.units import CountingClient

if TYPE_CHECKING:
    from local.stand_in import StandIn

WRITER = REPOSITORY / "bench" / "writers" / "launchdarkly_init.py"
PEER = "LaunchDarkly's SDK, init"

type Written = dict[str, Any]
"""Requests, those of them that write, write units and milliseconds."""


def switch(server: Any, count: int) -> None:
    """Switch *count* flags at the provider."""
    for key in sorted(server.flags())[:count]:
        server.set_flag(key, on=not server.flags()[key]["on"])


def publish(aws: StandIn, table: Any, server: Any, *, rows: bool = True) -> Written:
    """Run one sync; returns what it cost."""
    client = CountingClient(table.client)
    begun = time.perf_counter()
    world.sync(aws, table, server, "launchdarkly", client=client, rows=rows)
    reading = client.calls["get_item"] + client.calls["query"]
    return {
        "requests": client.requests(),
        "writes": client.requests() - reading,
        "write_units": client.write_units,
        "ms": (time.perf_counter() - begun) * 1000,
    }


def publish_by_sdk(aws: StandIn, server: Any) -> list[Written]:
    """Let the SDK write the set twice into a new table; returns what each time cost."""
    table = world.new_table(aws)
    environment = aws.child_environment({**os.environ, "PYTHONPATH": str(REPOSITORY)})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "document.json"
        file.write_bytes(server.document())
        command = [str(PYTHON), str(WRITER), table.name, str(file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: list[Written] = json.loads(done.stdout.splitlines()[-1])
    return found


def shown(written: Written) -> str:
    """Return a cell of the table."""
    return f"{written['requests']} requests, {written['write_units']:,} WU, {written['ms']:.0f} ms"
