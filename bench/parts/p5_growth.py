"""P5: what grows with the number of flags, and how."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from bench import phased, publishing, world
from bench.harness import Case, steps, turned
from bench.results import Part
from local.relay import Relay

if TYPE_CHECKING:
    from pathlib import Path

    from bench.harness import Dose
    from local.stand_in import StandIn

SMALL = 100
PEER = "LaunchDarkly's SDK, daemon mode"
MOST_TIMES = 3.0
CACHED_S = "60"
THEIRS = "launchdarkly_daemon.py"


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("Growth with the number of flags, DynamoDB")
    with (
        tempfile.TemporaryDirectory() as folder,
        phased.over_tls(folder) as tls,
        Relay(tls.aws.port) as relay,
    ):
        aws, ours, base = tls.aws, tls.ours, tls.environment
        environments, flags = {}, {}
        for size in dose.sizes:
            table, flags[size] = world.publish(aws, "launchdarkly", size)
            environments[size] = {**base, "FLAGSTORE_TABLE": table}
        _cold(part, dose, ours, environments, flags)
        port = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}"}  # counted before TLS
        scripts = {"steps_ours.py": ours, "steps_launchdarkly.py": world.SITE}
        for size in dose.sizes:
            variables = {**environments[size], **port}
            counted = []
            for script, packages in scripts.items():
                case = Case("steps", script, packages, variables, ("read", flags[size]))
                relay.count()
                *_, (_, found) = steps(case, relay.count)
                counted.append(found)
            part.counted(f"bytes of the first flag, {size:,} flags", PEER, *counted)
        _publications(part, dose, aws)
    return part


def _publications(part: Part, dose: Dose, aws: StandIn) -> None:
    """One flag is changed; the SDK writes its set as it does after any change."""
    for size in dose.sizes:
        with world.provider("launchdarkly", size) as (server, _):
            table = world.new_table(aws)
            publishing.publish(aws, table, server)
            publishing.switch(server, 1)
            mine = publishing.publish(aws, table, server)
            _, theirs = publishing.publish_by_sdk(aws, server)
        shown = map(publishing.shown, (mine, theirs))
        part.counted(f"publication of 1 change, {size:,} flags", publishing.PEER, *shown)


def _cold(
    part: Part,
    dose: Dose,
    ours: Path,
    environments: dict[int, dict[str, str]],
    flags: dict[int, str],
) -> None:
    """Run both at all sizes in turn, so that a pair is of one round."""
    cases = []
    for size, environment in environments.items():
        flag = flags[size]
        cases += [
            Case(f"ours {size}", "ours.py", ours, environment, ("value", flag, CACHED_S)),
            Case(
                f"theirs {size}",
                THEIRS,
                world.SITE,
                environment,
                (flag, CACHED_S),
            ),
        ]
    times: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(dose.rounds + 1):
        for case in turned(cases, number):
            run = phased.run(case)
            times[case.name] += [run.init_ms + run.requests[0].ms] if number else []
    for size in environments:
        mine, theirs = times[f"ours {size}"], times[f"theirs {size}"]
        part.timed(f"cold first flag, {size:,} flags", PEER, mine, theirs)
    largest = max(dose.sizes)
    least, most = times[f"ours {SMALL}"], times[f"ours {largest}"]
    part.timed(
        f"cold first flag, {largest:,} flags",
        f"itself, {SMALL} flags",
        most,
        least,
        most=MOST_TIMES,
    )
