"""P9: a warm function whose TTL has expired asks for news, over TLS, at shares of a CPU."""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import TYPE_CHECKING

from bench import phased, world
from bench.harness import Case, turned
from bench.results import Part
from bench.stats import spread

if TYPE_CHECKING:
    from bench.harness import Dose
    from bench.phased import Request
    from bench.shares import Share

FLAGS = 500
PROCESSES = 4
"""Of each kind and share."""
TTL_S = 0.2
IDLE_S = 0.3
"""Between two requests, so that each one has to ask."""
FLAGSTORE, BOTO3, LAUNCHDARKLY = "flagstore", "boto3: GetItem + json", "LaunchDarkly's SDK"
MEDIANS_MS = {128: 60, 256: 40, 512: 30, 1_769: 25}
MOST_MS = 250
"""What a call of a loaded client may wait for the store."""


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
    part.notes += [
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
