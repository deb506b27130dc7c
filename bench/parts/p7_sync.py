"""P7: the sync function: its cold start, what it imports, and its peak of memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import functions, world
from bench.harness import REPOSITORY, turned
from bench.results import Part
from local.lambda_rie import RuntimeEmulator
from local.stand_in import StandIn
from simulators.split import SplitSimulator
from simulators.split_flags import in_segment, new_flag, rule

if TYPE_CHECKING:
    from bench.harness import Dose

PYTHON = REPOSITORY / ".venv-lambda" / "bin" / "python"
SCRIPT = REPOSITORY / "bench" / "writers" / "sync_once.py"
MOST_OF_STOCK = 0.5
FUNCTION_MB = 256
SIZES = (100, 1_000, 5_000)
SEGMENTS, KEYS = 30, 10_000
ENVIRONMENT = {
    "FLAGSTORE_PARAMETER_PREFIX": "/flagstore",
    "FLAGSTORE_TABLE": "none",
    "FLAGSTORE_QUEUE_URL": "http://127.0.0.1:9/queue",
}
INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)")
IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|( +)([\w.]+)")


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("SyncFunction: cold start and memory")
    with tempfile.TemporaryDirectory() as folder:
        ours = functions.build(Path(folder) / "ours", stock=False)
        stock = functions.build(Path(folder) / "stock", stock=True)
        _imports(part, ours)
        with StandIn() as aws:
            _init(part, dose, aws, ours, stock)
            _memory(part, dose, aws, ours)
    return part


def _init(part: Part, dose: Dose, aws: StandIn, ours: Path, stock: Path) -> None:
    environment = {**aws.environment, **ENVIRONMENT}
    cases = {
        "flagstore, SyncFunction": (ours, "storesync.sync.handler"),
        "stock builder, SyncFunction": (stock, "storesync.sync.handler"),
        "flagstore, WebhookFunction": (ours, "storesync.webhook.handler"),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(dose.rounds + 1):
        for name in turned(list(cases), number):
            with RuntimeEmulator(*cases[name], environment) as function:
                # No event that it knows: it refuses, once it has started.
                function.invoke({})
                found = INIT.search(function.log())
            assert found, name
            if number:
                times[name].append(float(found[1]))
    mine, theirs, webhook = times.values()
    title = "INIT, Runtime Interface Emulator"
    peer = "the artifact of sam's stock builder"
    part.timed(f"SyncFunction: {title}", peer, mine, theirs, most=MOST_OF_STOCK)
    part.timed(f"WebhookFunction: {title}", "SyncFunction, ours", webhook, mine)
    part.bars("INIT of the functions, Runtime Interface Emulator", "ms", times)


def _imports(part: Part, ours: Path) -> None:
    """Say how many modules are imported, and which packages take the time."""
    environment = {"PYTHONPATH": str(ours), "PYTHONDONTWRITEBYTECODE": "1", **ENVIRONMENT}
    done = subprocess.run(
        [str(PYTHON), "-X", "importtime", "-c", "import storesync.sync"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    took: dict[str, int] = {}
    modules = IMPORTED.findall(done.stderr)
    for microseconds, _, module in modules:
        package = module.partition(".")[0]
        took[package] = took.get(package, 0) + int(microseconds)
    largest = sorted(took, key=lambda name: -took[name])[:8]
    shares = ", ".join(f"{name} {took[name] / 1000:.0f} ms" for name in largest)
    part.counted("SyncFunction: modules imported", "", len(modules))
    part.notes.append(f"Import time of SyncFunction by package (one run): {shares}.")


def _memory(part: Part, dose: Dose, aws: StandIn, ours: Path) -> None:
    base = aws.child_environment({"PATH": os.defpath})
    environment = {**base, "PYTHONPATH": str(ours), "PYTHONDONTWRITEBYTECODE": "1"}
    for size in SIZES[: 2 if dose.quick else None]:
        with world.provider("launchdarkly", size) as (server, _):
            peak = _peak(environment, aws, "launchdarkly", server)
        _add(part, f"peak memory of a sync, {size:,} flags", peak)
    with _many_keys() as server:
        peak = _peak(environment, aws, "split", server)
    _add(part, f"peak memory of a sync, {SEGMENTS * KEYS:,} segment keys", peak)


def _add(part: Part, work: str, peak: float) -> None:
    part.counted(work, "", f"{peak:.0f} MB", goal=f"below {FUNCTION_MB} MB", met=peak < FUNCTION_MB)


def _peak(environment: dict[str, str], aws: StandIn, provider: str, server: Any) -> float:
    """Return the larger peak of a first publication and of one after a change, in MB."""
    table = world.new_table(aws).name
    command = [str(PYTHON), str(SCRIPT), provider, server.url, server.sdk_key, table]
    peaks = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["outcome"] == "published", told
        peaks.append(float(told["peak"]))
        key = next(iter(server.flags()))
        server.set_flag(
            key, **({"killed": True} if provider == "split" else {"on": True, "salt": "x"})
        )
    return max(peaks)


def _many_keys() -> SplitSimulator:
    """Return a Split with flags that ask for large segments."""
    flags, segments = {}, {}
    for number in range(SEGMENTS):
        name = f"segment-{number:02}"
        flag = new_flag(f"for-{name}")
        flag["conditions"] = [rule(in_segment(name), label="in", on=100)]
        flags[flag["name"]] = flag
        segments[name] = [f"user-{number:02}-{key:032}" for key in range(KEYS)]
    return SplitSimulator(flags, segments, {})
