"""P9: a warm function whose TTL has expired asks for news, over TLS, at shares of a CPU."""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import phased, refreshes, world
from bench.harness import Case
from bench.results import Part

if TYPE_CHECKING:
    from bench.harness import Dose
    from bench.phased import OverTls, Request
    from simulators.aws import Table

FLAGS = 500
FLAGSTORE, BOTO3, LAUNCHDARKLY = "flagstore", "boto3: GetItem + json", "LaunchDarkly's SDK"
CHANGED_SIZES = (100, 5_000, 10_000)
CHANGED_SIZE = 5_000
CHANGED_CPU_MS = 5
"""Goal for a refresh that finds one changed flag of so many."""
CHANGED_TIMES = 1.3
"""By how much that may grow from the smallest to the largest set."""


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("Refresh after an idle TTL, 500 flags, nothing new, over TLS")
    with tempfile.TemporaryDirectory() as folder, phased.over_tls(folder) as tls:
        table, flag = world.publish(tls.aws, "launchdarkly", FLAGS)
        shared = {**tls.environment, "FLAGSTORE_TABLE": table}
        asked = (flag, str(refreshes.TTL_S))
        cases = [
            Case(FLAGSTORE, "ours.py", tls.ours, shared, ("value", *asked)),
            Case(BOTO3, "boto3_item.py", world.SITE, shared),
            Case(LAUNCHDARKLY, "launchdarkly_daemon.py", world.SITE, shared, asked),
        ]
        with phased.at_shares() as sizes:
            for size, share in sizes.items():
                _at(part, size, refreshes.run(cases, dose.rounds, share))
        refreshes.disturb(part, tls, folder, cases[0])
        _changes(part, dose, tls)
    part.notes += [
        "A refresh after a change: milliseconds of the CPU, on a whole core.",
        refreshes.NOTE,
        "boto3 reads all flags each time, the SDK the flag's rows.",
        *phased.skipped(),
    ]
    return part


def _changes(part: Part, dose: Dose, tls: OverTls) -> None:
    """Measure refreshes of which each finds one changed flag, and loads of the whole set."""
    sizes = CHANGED_SIZES[: 2 if dose.quick else None]
    cpu: dict[tuple[int, bool], list[float]] = {}
    for size in sizes:
        with world.provider("launchdarkly", size) as (server, flag):
            table = world.new_table(tls.aws)
            world.sync(tls.aws, table, server, "launchdarkly")
            variables = {**tls.environment, "FLAGSTORE_TABLE": table.name}
            case = Case(FLAGSTORE, "ours.py", tls.ours, variables, ("value", flag, "0"))
            for whole in (False, True):
                change = partial(_change, tls, table, server, flag, whole=whole)
                run = phased.run(case, requests=1 + dose.rounds, before=change)
                cpu[size, whole] = [request.cpu_ms for request in run.requests[1:]]
    for size in sizes:
        work = f"1 changed flag of {size:,}"
        part.timed(work, "itself, loading the snapshot", cpu[size, False], cpu[size, True])
    least, *_, most = sizes
    part.timed(
        f"1 changed flag of {most:,}",
        f"itself, {least:,} flags",
        cpu[most, False],
        cpu[least, False],
        most=CHANGED_TIMES,
    )
    median = statistics.median(cpu[CHANGED_SIZE, False])
    part.counted(
        f"1 changed flag of {CHANGED_SIZE:,}",
        "",
        f"{median:.2f} ms",
        goal=f"at most {CHANGED_CPU_MS} ms",
        met=median <= CHANGED_CPU_MS,
    )


def _change(
    tls: OverTls, table: Table, server: Any, flag: str, number: int, *, whole: bool
) -> None:
    """Publish one changed flag; with *whole*, as if the change were too large for a delta."""
    server.set_flag(flag, trackEvents=bool(number % 2))
    world.sync(tls.aws, table, server, "launchdarkly")
    if whole:
        key = {"namespace": {"S": "prod:$state"}, "key": {"S": "state"}}
        table.client.update_item(TableName=table.name, Key=key, UpdateExpression="REMOVE deltas")


def _at(part: Part, size: int, found: dict[str, list[Request]]) -> None:
    refreshes.judge(part, size, found[FLAGSTORE])
    times = {name: [request.ms for request in requests] for name, requests in found.items()}
    for peer in (BOTO3, LAUNCHDARKLY):
        part.timed(f"refresh, {size} MB", peer, times[FLAGSTORE], times[peer])
