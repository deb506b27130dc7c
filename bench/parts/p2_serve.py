"""P2: ServeFunction: CPU of its responses at a share of a CPU, and its cold start; over TLS."""

from __future__ import annotations

import json
import statistics
import tempfile
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from bench import cost, phased, shares, world
from bench.harness import Case, turned
from bench.results import Part
from bench.stats import spread

if TYPE_CHECKING:
    from bench.harness import Dose
    from bench.phased import OverTls, Run

FLAGS = 500
MEMORY = 256
"""Of ServeFunction, in MB."""
SERVER, BROWSER = "a-secret-of-a-server", "a-secret-of-a-browser"
PREFIX = "/bench"
CLIENTS = {
    "server": {"source": "prod", "kind": "server", "secrets": [SERVER]},
    "browser": {
        "source": "prod",
        "kind": "browser",
        "secrets": [BROWSER],
        "origins": ["*"],
        "flags": ["*"],
    },
}
MOST_INIT = 1.3
EDGE = "Unleash Edge, published for 350 flags"
EDGE_A_SECOND = {"features": 3_236, "frontend": 6_900}
"""Requests a second of one CPU."""
NOTE = (
    "Edge: CPU per request at 3,236 and 6,900 requests per second and CPU, which are "
    "[its own figures](https://github.com/Unleash/unleash-edge/blob/main/docs/benchmarking.md), on "
    "other hardware and with its HTTP server. ServeFunction: the handler alone. API Gateway speaks "
    "HTTP and TLS, and Lambda's runtime comes on top."
)
WORK = {
    "features": ("all flags for a server's SDK, gzip", 200),
    "304": ("the same, unchanged", 304),
    "frontend": ("the values of all flags for a context, gzip", 200),
}


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part(f"ServeFunction, {FLAGS} flags of Unleash, {MEMORY} MB")
    quota = nullcontext() if shares.settable() else shares.share(MEMORY)
    with tempfile.TemporaryDirectory() as folder, phased.over_tls(folder) as tls, quota as share:
        served, plain = _cases(tls)
        runs: dict[str, list[Run]] = {served.name: [], plain.name: []}
        for number in range(dose.rounds + 1):
            for case in turned([served, plain], number):
                run = phased.run(case, share, requests=2 if case is served else 1)
                runs[case.name] += [run] if number else []
    _responses(part, runs[served.name])
    _cold(part, runs[served.name], runs[plain.name])
    part.notes += [NOTE, *phased.skipped()]
    return part


def _cases(tls: OverTls) -> tuple[Case, Case]:
    table, flag = world.publish(tls.aws, "unleash", FLAGS)
    for name, client in CLIENTS.items():
        tls.aws.client("ssm").put_parameter(
            Name=f"{PREFIX}/clients/{name}", Value=json.dumps(client), Type="SecureString"
        )
    shared = {**tls.environment, "FLAGSTORE_TABLE": table, "FLAGSTORE_PARAMETER_PREFIX": PREFIX}
    return (
        Case("ServeFunction", "served.py", tls.ours, shared, (SERVER, BROWSER)),
        Case("flagstore", "ours.py", tls.ours, shared, ("enabled", flag, "60")),
    )


def _responses(part: Part, runs: list[Run]) -> None:
    found: list[dict[str, Any]] = [json.loads(run.requests[1].value) for run in runs]
    for kind, (work, status) in WORK.items():
        assert {one[kind]["status"] for one in found} == {status}
        peer = kind in EDGE_A_SECOND
        part.counted(
            f"CPU: {work}",
            EDGE if peer else "",
            spread([one[kind]["cpu"] for one in found], "ms"),
            f"{1000 / EDGE_A_SECOND[kind]:.2f} ms" if peer else "",
        )
        times = [one[kind]["ms"] for one in found]
        part.counted(f"time: {work}", "", spread(times, "ms"))
        sent = found[0][kind]["bytes"]
        dollars = sum(cost.served(1e6, statistics.median(times), sent).values())
        part.counted(f"a million: {work}", "", f"${dollars:.2f}, {sent:,} B each")


def _cold(part: Part, served: list[Run], plain: list[Run]) -> None:
    inits = [[run.init_ms for run in runs] for runs in (served, plain)]
    part.timed("INIT, whole core", "flagstore alone", *inits, most=MOST_INIT)
    wholes = [[run.init_ms + run.requests[0].ms for run in runs] for runs in (served, plain)]
    part.timed(f"INIT and first response, {MEMORY} MB", "flagstore alone, first flag", *wholes)
