"""P4: requests, write units and time of publishing; LaunchDarkly's SDK writes the whole set."""

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
from bench.results import Part
from bench.units import CountingClient
from local.stand_in import StandIn

if TYPE_CHECKING:
    from bench.harness import Dose

WRITER = REPOSITORY / "bench" / "writers" / "launchdarkly_init.py"
PEER = "LaunchDarkly's SDK, init"
UNCHANGED_UNITS = 2
ONE_CHANGE_REQUESTS = 6
FURTHER_UNITS = 4
"""A row of up to 2 KB in a transaction."""


def measure(dose: Dose) -> Part:
    """Measure."""
    size = dose.publish_flags
    part = Part(f"Publishing changes of {size:,} flags, DynamoDB")
    plotted: dict[str, list[float]] = {}
    with StandIn() as aws:
        for rows in (False, True):
            with world.provider("launchdarkly", size) as (server, _):
                theirs = _theirs(aws, server) if rows else []
                units: dict[str, int] = {}
                table = world.new_table(aws)
                for change in ("first publication", "0 changes", "1 change", "50 changes"):
                    _change(server, change)
                    counted = _sync(aws, table, server, rows=rows)
                    units[change] = counted["write_units"]
                    work = f"{change}{'' if rows else ', without rows'}"
                    peer = theirs[0 if change.startswith("first") else 1] if theirs else None
                    goal, met = _goal(change, counted)
                    part.counted(
                        work,
                        PEER if peer else "",
                        _write(counted),
                        _write(peer) if peer else "",
                        goal=goal,
                        met=met,
                    )
                    if rows:
                        plotted[f"flagstore, {change}"] = [counted["write_units"]]
                each = (units["50 changes"] - units["1 change"]) / 49
                part.counted(
                    f"each further change{'' if rows else ', without rows'}",
                    "",
                    f"{each:.1f} WU",
                    goal=f"at most {FURTHER_UNITS} WU: its row, not the set",
                    met=each <= FURTHER_UNITS,
                )
        plotted["LaunchDarkly's SDK, any change"] = [theirs[1]["write_units"]]
    part.bars(f"Write units of a publication, {size:,} flags", "units", plotted)
    part.notes.append(
        "Write units are computed from the sizes of the items (two for each KB in a transaction). "
        "Times are the stand-in's, fetching included, and say nothing about AWS."
    )
    return part


def _change(server: Any, change: str) -> None:
    number = change.partition(" ")[0]
    if number.isdigit():
        for key in sorted(server.flags())[: int(number)]:
            server.set_flag(key, on=not server.flags()[key]["on"])


def _goal(change: str, counted: dict[str, Any]) -> tuple[str, bool | None]:
    if change == "0 changes":
        return "2 small writes", counted["writes"] == counted["write_units"] == UNCHANGED_UNITS
    if change == "1 change":
        return "at most 6 requests", counted["requests"] <= ONE_CHANGE_REQUESTS
    return "", None


def _write(counted: dict[str, Any]) -> str:
    return f"{counted['requests']} requests, {counted['write_units']:,} WU, {counted['ms']:.0f} ms"


def _sync(aws: StandIn, table: Any, server: Any, *, rows: bool) -> dict[str, Any]:
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


def _theirs(aws: StandIn, server: Any) -> list[dict[str, Any]]:
    """Let the SDK write the set twice; returns what each time cost."""
    table = world.new_table(aws)
    environment = aws.child_environment({**os.environ, "PYTHONPATH": str(REPOSITORY)})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "document.json"
        file.write_bytes(server.document())
        command = [str(PYTHON), str(WRITER), table.name, str(file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found
