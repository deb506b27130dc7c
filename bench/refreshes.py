"""Readers whose TTL has expired: what a refresh takes, and what when something is wrong."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from bench import outages, phased
from bench.harness import turned
from bench.shares import WHOLE
from bench.stats import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.harness import Case
    from bench.phased import OverTls, Request
    from bench.results import Part
    from bench.shares import Share

PROCESSES = 4
"""Of each kind and share."""
TTL_S = 0.2
IDLE_S = 0.3
"""Between two requests, so that each one has to ask."""
NOTE = f"Requests are {IDLE_S:g} s apart, with a TTL of {TTL_S:g} s."
OUTAGE_MB = 512
FIRST_LOAD_MS = 2_150
MEDIANS_MS = {128: 60, 256: 40, 512: 30, 1_769: 25}
MOST_MS = 250
"""What a call of a loaded client may wait for the store."""


class Outage(NamedTuple):
    """What is wrong, and whether it leaves a caller with the flags in memory."""

    stale: bool
    names: bool = True
    connects: bool = True


OUTAGES = {
    "the connection is dead": Outage(stale=False),
    "the same, and a name server drops packets": Outage(stale=False, names=False),
    "the same, and the handshake hangs": Outage(stale=True, connects=False),
}


def run(cases: Sequence[Case], count: int, share: Share | None) -> dict[str, list[Request]]:
    """Run refreshes, so many in each process."""
    found: dict[str, list[Request]] = {case.name: [] for case in cases}
    for number in range(PROCESSES):
        for case in turned(cases, number):
            made = phased.run(case, share, requests=1 + count, before=lambda _: time.sleep(IDLE_S))
            found[case.name] += made.requests[1:]
    return found


def judge(part: Part, size: int, requests: Sequence[Request]) -> None:
    """Add flagstore's refreshes at a share."""
    times, median = [request.ms for request in requests], MEDIANS_MS[size]
    stale = sum(request.stale for request in requests)
    part.counted(
        f"refresh, {size} MB",
        "",
        f"{spread(times, 'ms')}, {stale} of {len(times)} stale",
        goal=f"median at most {median} ms, none above {MOST_MS}, none stale",
        met=statistics.median(times) <= median and max(times) <= MOST_MS and not stale,
    )


def disturb(part: Part, tls: OverTls, folder: str, case: Case) -> None:
    """Add what a loaded reader waits when something is wrong, and a first one at most."""
    with (
        outages.Line(tls.relay(tls.aws.port, outages.NAME)) as line,
        outages.names(folder) as names,
        phased.at_shares() as sizes,
    ):
        size = OUTAGE_MB if OUTAGE_MB in sizes else WHOLE
        host = outages.NAME if names else "127.0.0.1"
        place = {"AWS_ENDPOINT_URL": f"https://{host}:{line.port}"}
        prefix = tuple(names.prefix()) if names else ()
        case = replace(case, environment={**case.environment, **place}, prefix=prefix)
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
