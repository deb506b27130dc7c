"""P2: ServeFunction: CPU of its responses at a share of a CPU, and its cold start; over TLS."""

from __future__ import annotations

import json
import statistics
import tempfile
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from bench import cost, phased, shares, world
from bench.harness import Case, turned
from bench.parts.p7_sync import init_ms
from bench.results import Part
from bench.stats import spread
from local.lambda_rie import RuntimeEmulator

if TYPE_CHECKING:
    from bench.harness import Dose
    from bench.phased import OverTls, Run

FLAGS = 500
MEMORY = 256
"""Of ServeFunction, in MB."""
SECRET = "the-secret-of-a-client"  # noqa: S105 - invented
SERVER, BROWSER, PLAIN = "server", "browser", "flagstore alone"
ROUTES = {SERVER: "GET /api/client/features", BROWSER: "GET /api/frontend"}
LISTS = {SERVER: {}, BROWSER: {"origins": ["*"], "flags": ["*"]}}
WORK = {SERVER: "all flags for a server's SDK", BROWSER: "all flags' values for a browser"}
MOST_INIT = {SERVER: 1.3}
"""For a browser, all flags are evaluated: shown."""
READER = """\
import flagstore

flags = flagstore.client("prod")


def handler(event, context):
    return flags.enabled(event["flag"], {"userId": "60"})
"""
EDGE = "Unleash Edge, published for 350 flags"
EDGE_A_SECOND = {SERVER: 3_236, BROWSER: 6_900}
"""Requests a second of one CPU."""
NOTE = (
    "Edge: CPU per request at 3,236 and 6,900 requests per second and CPU, which are "
    "[its own figures](https://github.com/Unleash/unleash-edge/blob/main/docs/benchmarking.md), on "
    "other hardware and with its HTTP server. ServeFunction: the handler alone, with gzip. API "
    "Gateway speaks HTTP and TLS, and Lambda's runtime comes on top. Its INIT also prepares a "
    "response for each key."
)
OK, NOT_MODIFIED = 200, 304
TITLES = {"launchdarkly": "LaunchDarkly", "split": "Split", "unleash": "Unleash"}
MOST_CPU_MS = {"one": 0.15, "all": 15.0, "unchanged": 0.2, "page": 15.0, "page unchanged": 0.2}
"""Goals: one flag by OFREP, all by OFREP, all unchanged; all for LaunchDarkly's SDK in a page."""
EVALUATED = {
    "one": "one flag by OFREP",
    "all": "all flags by OFREP",
    "unchanged": "all flags by OFREP, unchanged",
    "page": "all flags for its SDK in a page",
    "page unchanged": "all flags for its SDK in a page, unchanged",
}


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part(f"ServeFunction, {FLAGS} flags, {MEMORY} MB")
    quota = nullcontext() if shares.settable() else shares.share(MEMORY)
    with tempfile.TemporaryDirectory() as folder, phased.over_tls(folder) as tls, quota as share:
        cases = _cases(tls)
        runs: dict[str, list[Run]] = {case.name: [] for case in cases}
        for number in range(dose.rounds + 1):
            for case in turned(cases, number):
                run = phased.run(case, share, requests=1 if case.name == PLAIN else 2)
                runs[case.name] += [run] if number else []
        started = _started(dose, tls, cases)
        evaluated = {name: _evaluated(dose, tls, name) for name in TITLES}
    for kind in ROUTES:
        _responses(part, kind, runs[kind])
    for name, found in evaluated.items():
        _evaluations(part, name, found)
    for kind in ROUTES:
        most = MOST_INIT.get(kind)
        inits = started[kind], started[PLAIN]
        part.timed(f"INIT for a {kind}, Runtime Interface Emulator", PLAIN, *inits, most=most)
        _cold(part, kind, runs[kind], runs[PLAIN])
    part.notes += [NOTE, *phased.skipped()]
    return part


def _cases(tls: OverTls) -> list[Case]:
    table, flag = world.publish(tls.aws, "unleash", FLAGS)
    shared = {**tls.environment, "FLAGSTORE_TABLE": table}
    cases = [Case(PLAIN, "ours.py", tls.ours, shared, ("enabled", flag, "60"))]
    for kind, route in ROUTES.items():
        client = {"source": "prod", "kind": kind, "secrets": [SECRET], **LISTS[kind]}
        prefix = f"/bench/{kind}"
        tls.aws.client("ssm").put_parameter(
            Name=f"{prefix}/clients/{kind}", Value=json.dumps(client), Type="SecureString"
        )
        environment = {**shared, "FLAGSTORE_PARAMETER_PREFIX": prefix}
        cases.append(Case(kind, "served.py", tls.ours, environment, (route, SECRET)))
    return cases


def _started(dose: Dose, tls: OverTls, cases: list[Case]) -> dict[str, list[float]]:
    """Return the INIT of each case, as Lambda reports it, in ms."""
    (tls.ours / "reader.py").write_text(READER)
    found: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(dose.rounds + 1):
        for case in turned(cases, number):
            module = "reader" if case.name == PLAIN else "flagserve.function"
            variables = {
                k: v for k, v in case.environment.items() if not k.startswith("AWS_LAMBDA")
            }
            emulator = RuntimeEmulator(tls.ours, f"{module}.handler", variables)
            init = init_ms(emulator, {"flag": case.arguments[1]})
            found[case.name] += [init] if number else []
    return found


def _responses(part: Part, kind: str, runs: list[Run]) -> None:
    found: list[dict[str, Any]] = [json.loads(run.requests[1].value) for run in runs]
    for name, status, what in (
        ("new", OK, WORK[kind]),
        ("unchanged", NOT_MODIFIED, f"{WORK[kind]}, unchanged"),
    ):
        assert {one[name]["status"] for one in found} == {status}
        is_shown = name == "new"
        part.counted(
            f"CPU: {what}",
            EDGE if is_shown else "",
            spread([one[name]["cpu"] for one in found], "ms"),
            f"{1000 / EDGE_A_SECOND[kind]:.2f} ms" if is_shown else "",
        )
        times, sent = [one[name]["ms"] for one in found], found[0][name]["bytes"]
        dollars = sum(cost.served(1e6, statistics.median(times), sent).values())
        text = f"{spread(times, 'ms')}; ${dollars:.2f} a million, with {sent:,} B each"
        part.counted(f"time: {what}", "", text)


def _evaluated(dose: Dose, tls: OverTls, provider: str) -> list[dict[str, Any]]:
    """Return the figures of each run with a provider's flags, at a whole core."""
    shown = {"clientSideAvailability": {"usingEnvironmentId": True}}
    table, flag = world.publish(tls.aws, provider, FLAGS, **shown)
    prefix = f"/bench/evaluated/{provider}"
    client = {"source": "prod", "kind": BROWSER, "secrets": [SECRET], **LISTS[BROWSER]}
    for name, values in {
        "page": client,
        "service": {"source": "prod", "kind": SERVER, "secrets": [SECRET[::-1]]},
    }.items():
        tls.aws.client("ssm").put_parameter(
            Name=f"{prefix}/clients/{name}", Value=json.dumps(values), Type="SecureString"
        )
    environment = {"FLAGSTORE_TABLE": table, "FLAGSTORE_PARAMETER_PREFIX": prefix}
    environment = {**tls.environment, **environment}
    arguments = provider, flag, SECRET[::-1], SECRET
    case = Case(provider, "served_flags.py", tls.ours, environment, arguments)
    return [json.loads(phased.run(case).requests[0].value) for _ in range(dose.rounds)]


def _evaluations(part: Part, provider: str, runs: list[dict[str, Any]]) -> None:
    for name in runs[0]:
        most, times = MOST_CPU_MS[name], [run[name]["cpu"] for run in runs]
        expected = NOT_MODIFIED if name.endswith("unchanged") else OK
        assert {run[name]["status"] for run in runs} == {expected}
        part.counted(
            f"CPU: {EVALUATED[name]}, {TITLES[provider]}",
            "",
            spread(times, "ms"),
            goal=f"at most {most:g} ms",
            met=statistics.median(times) <= most,
        )


def _cold(part: Part, kind: str, served: list[Run], plain: list[Run]) -> None:
    inits = [[run.init_ms for run in runs] for runs in (served, plain)]
    part.timed(f"INIT for a {kind}, without Lambda's runtime", PLAIN, *inits)
    wholes = [[run.init_ms + run.requests[0].ms for run in runs] for runs in (served, plain)]
    part.timed(f"INIT and first response to a {kind}", f"{PLAIN}, first flag", *wholes)
