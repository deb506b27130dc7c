"""P9: a warm function whose TTL has expired asks for news, over TLS, at shares of a CPU."""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import outages, phased, world
from bench.harness import Case, turned
from bench.results import Part
from bench.shares import WHOLE, Share
from bench.stats import spread

if TYPE_CHECKING:
    from bench.harness import Dose
    from bench.phased import OverTls, Request
    from simulators.aws import Table

FLAGS = 500
PROCESSES = 4
"""Of each kind and share."""
TTL_S = 0.2
IDLE_S = 0.3
"""Between two requests, so that each one has to ask."""
OUTAGE_MB = 512
FIRST_LOAD_MS = 2_150
FLAGSTORE, BOTO3, LAUNCHDARKLY = "flagstore", "boto3: GetItem + json", "LaunchDarkly's SDK"
MEDIANS_MS = {128: 60, 256: 40, 512: 30, 1_769: 25}
CHANGED_SIZES = (100, 5_000, 10_000)
CHANGED_SIZE = 5_000
CHANGED_CPU_MS = 5
"""Goal for a refresh that finds one changed flag of so many."""
CHANGED_TIMES = 1.3
"""By how much that may grow from the smallest to the largest set."""
MOST_MS = 250
"""What a call of a loaded client may wait for the store."""


class Outage(NamedTuple):
    """What is wrong, and whether it leaves a caller with the flags in memory."""

    stale: bool
    names: bool = True
    connects: bool = True


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("Refresh after an idle TTL, 500 flags, nothing new, over TLS")
    with tempfile.TemporaryDirectory() as folder, phased.over_tls(folder) as tls:
        table, flag = world.publish(tls.aws, "launchdarkly", FLAGS)
        shared = {**tls.environment, "FLAGSTORE_TABLE": table}
        asked = (flag, str(TTL_S))
        cases = [
            Case(FLAGSTORE, "ours.py", tls.ours, shared, ("value", *asked)),
            Case(BOTO3, "boto3_item.py", world.SITE, shared),
            Case(LAUNCHDARKLY, "launchdarkly_daemon.py", world.SITE, shared, asked),
        ]
        with phased.at_shares() as sizes:
            for size, share in sizes.items():
                _at(part, size, _refreshes(cases, dose, share))
        _outages(part, tls, table, flag, folder)
        _changes(part, dose, tls)
    part.notes += [
        "A refresh after a change: milliseconds of the CPU, on a whole core.",
        f"Requests are {IDLE_S:g} s apart, with a TTL of {TTL_S:g} s.",
        "boto3 reads all flags each time, the SDK the flag's rows.",
        *phased.skipped(),
    ]
    return part


def _refreshes(cases: list[Case], dose: Dose, share: Share | None) -> dict[str, list[Request]]:
    found: dict[str, list[Request]] = {case.name: [] for case in cases}
    for number in range(PROCESSES):
        for case in turned(cases, number):
            run = phased.run(
                case, share, requests=1 + dose.rounds, before=lambda _: time.sleep(IDLE_S)
            )
            found[case.name] += run.requests[1:]
    return found


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


OUTAGES = {
    "the connection is dead": Outage(stale=False),
    "the same, and a name server drops packets": Outage(stale=False, names=False),
    "the same, and the handshake hangs": Outage(stale=True, connects=False),
}


def _outages(part: Part, tls: OverTls, table: str, flag: str, folder: str) -> None:
    """Measure what a loaded caller waits when something is wrong, and a first one at most."""
    with (
        outages.Line(tls.relay(tls.aws.port, outages.NAME)) as line,
        outages.names(folder) as names,
        phased.at_shares() as sizes,
    ):
        size = OUTAGE_MB if OUTAGE_MB in sizes else WHOLE
        variables = {
            **tls.environment,
            "FLAGSTORE_TABLE": table,
            "AWS_ENDPOINT_URL": f"https://{outages.NAME if names else '127.0.0.1'}:{line.port}",
        }
        prefix = tuple(names.prefix()) if names else ()
        case = Case(FLAGSTORE, "ours.py", tls.ours, variables, ("value", flag, str(TTL_S)), prefix)
        for name, outage in OUTAGES.items():
            if names is None and not outage.names:
                part.notes.append(f"Not measured, since it takes root: {name}.")
                continue
            waited = [_waited(case, sizes[size], line, names, outage) for _ in range(PROCESSES)]
            times, stale = [each.ms for each in waited], sum(each.stale for each in waited)
            part.counted(
                f"{name}, {size} MB",
                "",
                f"{spread(times, 'ms')}, {stale} of {len(times)} stale",
                goal=f"at most {MOST_MS} ms{'' if outage.stale else ', none stale'}",
                met=max(times) <= MOST_MS and (outage.stale or not stale),
            )
        line.connects = False
        first = [phased.run(case, requests=0).init_ms for _ in range(PROCESSES)]
    part.counted(
        "INIT while the handshake hangs",
        "",
        spread(first, "ms"),
        goal=f"at most {FIRST_LOAD_MS} ms: 2 s, and what INIT takes",
        met=max(first) <= FIRST_LOAD_MS,
    )


def _waited(
    case: Case,
    share: Share | None,
    line: outages.Line,
    names: outages.Names | None,
    outage: Outage,
) -> Request:
    """Return the request during which something is wrong, after one when all was well."""

    def before(number: int) -> None:
        time.sleep(IDLE_S)
        if number == 1:
            line.silence()
            line.connects = outage.connects
            if names and not outage.names:
                names.lost()

    line.connects = True
    if names:
        names.known()
    return phased.run(case, share, requests=2, before=before).requests[1]


def _at(part: Part, size: int, found: dict[str, list[Request]]) -> None:
    times = {name: [request.ms for request in requests] for name, requests in found.items()}
    mine, median = times[FLAGSTORE], MEDIANS_MS[size]
    stale = sum(request.stale for request in found[FLAGSTORE])
    part.counted(
        f"refresh, {size} MB",
        "",
        f"{spread(mine, 'ms')}, {stale} of {len(mine)} stale",
        goal=f"median at most {median} ms, none above {MOST_MS}, none stale",
        met=statistics.median(mine) <= median and max(mine) <= MOST_MS and not stale,
    )
    for peer in (BOTO3, LAUNCHDARKLY):
        part.timed(f"refresh, {size} MB", peer, mine, times[peer])
