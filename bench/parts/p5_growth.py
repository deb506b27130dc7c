"""P5: what grows with the number of flags, and how."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench import world
from bench.harness import Case, in_turn, steps
from bench.relay import Relay
from bench.results import Part
from local.stand_in import StandIn

if TYPE_CHECKING:
    from bench.harness import Dose

SMALL = 100
MOST_TIMES = 3.0
MEMORY_ROUNDS = 7


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("Growth with the number of flags, DynamoDB")
    with StandIn() as aws, Relay(aws.port) as relay, tempfile.TemporaryDirectory() as folder:
        base = aws.child_environment({"PATH": os.defpath})
        ours = world.ours(Path(folder), compiled=True)
        environments, flags = {}, {}
        for size in dose.sizes:
            table, flags[size] = world.publish(aws, "launchdarkly", size)
            environments[size] = {**base, "FLAGSTORE_TABLE": table}
        _cold(part, dose, ours, environments, flags)
        _memory(part, dose, ours, environments, flags)
        port = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}"}
        read = {}
        for size in dose.sizes:
            variables = {**environments[size], **port}
            case = Case("steps", "steps_ours.py", ours, variables, ("read", flags[size]))
            relay.count()
            *_, (_, read[size]) = steps(case, relay.count)
            part.counted(f"bytes of the first flag, {size:,} flags", "itself", read[size])
        growth = [(size, counted.received) for size, counted in read.items()]
        part.lines("Bytes read for the first flag", "B", {"flagstore": growth})
    return part


def _cold(
    part: Part,
    dose: Dose,
    ours: Path,
    environments: dict[int, dict[str, str]],
    flags: dict[int, str],
) -> None:
    """Run all sizes in turn, so that a pair is two sizes of one round."""
    scripts = {
        "flagstore": ("ours.py", ours),
        "LaunchDarkly's SDK": ("launchdarkly_daemon.py", world.SITE),
    }
    series: dict[str, list[tuple[float, float]]] = {}
    for name, (script, packages) in scripts.items():
        cases = []
        for size, environment in environments.items():
            asked = ("value", flags[size]) if script == "ours.py" else (flags[size],)
            cases.append(Case(str(size), script, packages, environment, asked))
        times = in_turn(cases, dose.rounds, same=False)
        series[name] = [(size, sorted(times[str(size)])[dose.rounds // 2]) for size in flags]
        if script == "ours.py":
            largest = max(dose.sizes)
            work = f"cold first flag, {largest:,} flags"
            most = MOST_TIMES
            part.timed(
                work, f"itself, {SMALL} flags", times[str(largest)], times[str(SMALL)], most=most
            )
    part.lines("Fresh process to first flag", "ms", series)


def _memory(
    part: Part,
    dose: Dose,
    ours: Path,
    environments: dict[int, dict[str, str]],
    flags: dict[int, str],
) -> None:
    series: dict[str, list[tuple[float, float]]] = {"flagstore": [], "LaunchDarkly's SDK": []}
    rounds = min(dose.rounds, MEMORY_ROUNDS)
    for size, environment in environments.items():
        asked = (flags[size],)
        mine = Case("ours", "memory_ours.py", ours, environment, asked)
        other = Case("theirs", "memory_launchdarkly.py", world.SITE, environment, asked)
        pairs = [(mine.told(), other.told()) for _ in range(rounds)]
        for step in ("first", "all"):
            a, b = [pair[0][step] for pair in pairs], [pair[1][step] for pair in pairs]
            work = (
                f"memory with {'one flag' if step == 'first' else 'all flags'} used, {size:,} flags"
            )
            part.timed(work, "LaunchDarkly's SDK, daemon mode", a, b, most=0.5, unit="MB")
            if step == "all":
                series["flagstore"].append((size, sorted(a)[rounds // 2]))
                series["LaunchDarkly's SDK"].append((size, sorted(b)[rounds // 2]))
    bare = sorted(pair[0]["bare"] for pair in pairs)[rounds // 2]
    part.notes.append(f"Of the memory, {bare:.0f} MB on both sides are the bare interpreter's.")
    part.lines("Resident memory, all flags used", "MB", series)
