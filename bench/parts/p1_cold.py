"""P1: from a fresh process to the first evaluated flag."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench import world
from bench.harness import READERS, Case, in_turn, turned
from bench.results import Part
from flagstore.evaluation import ENGINES
from local.lambda_rie import RuntimeEmulator
from local.stand_in import StandIn
from simulators import redis_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.harness import Dose

FLAGS = 500
INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)")
SPLIT_PREFIX = "{prod}"
"""The prefix of Split's rows of our source in Redis."""


class Packages:
    """Where each side's packages are, compiled or not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ours = world.ours(folder, compiled=True)
        self.ours_source = world.ours(folder, compiled=False)
        self.theirs = world.theirs(folder, compiled=True)
        self.theirs_source = world.theirs(folder, compiled=False)


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("Fresh process to first evaluated flag, 500 flags")
    with StandIn() as aws, tempfile.TemporaryDirectory() as folder:
        packages = Packages(Path(folder))
        environment = aws.child_environment({"PATH": os.defpath})
        _launchdarkly(part, dose, aws, packages, environment)
        _unleash(part, dose, aws, packages, environment)
        _split(part, dose, packages)
    return part


def _launchdarkly(
    part: Part, dose: Dose, aws: StandIn, packages: Packages, environment: dict[str, str]
) -> None:
    table, flag = world.publish(aws, "launchdarkly", FLAGS)
    shared = {**environment, "FLAGSTORE_TABLE": table}
    ours, source = ("value", flag), "without .pyc"

    cases = [
        Case("flagstore", "ours.py", packages.ours, shared, ours),
        Case("limit, http.client", "limit.py", packages.ours, shared),
        Case("limit, bare socket", "limit_socket.py", packages.ours, shared),
        Case("LaunchDarkly's SDK", "launchdarkly_daemon.py", packages.theirs, shared, (flag,)),
        Case("boto3", "boto3_item.py", packages.theirs, shared),
        Case(f"flagstore {source}", "ours.py", packages.ours_source, shared, ours),
        Case(
            f"LaunchDarkly's SDK {source}",
            "launchdarkly_daemon.py",
            packages.theirs_source,
            shared,
            (flag,),
        ),
        Case(f"boto3 {source}", "boto3_item.py", packages.theirs_source, shared),
        Case("bare interpreter", "bare.py", packages.ours, shared),
        Case("flagstore, import alone", "imports.py", packages.ours, shared),
    ]
    times = in_turn(cases, dose.rounds)
    mine = times["flagstore"]
    part.timed(
        "first flag, DynamoDB",
        "LaunchDarkly's SDK, daemon mode",
        mine,
        times["LaunchDarkly's SDK"],
        most=0.2,
    )
    part.timed(
        "first flag, DynamoDB",
        "boto3: GetItem + json, no evaluation",
        mine,
        times["boto3"],
        most=0.25,
    )
    part.timed(
        "first flag, DynamoDB",
        "the limit: one GetItem with http.client, no evaluation",
        mine,
        times["limit, http.client"],
        most=1.5,
    )
    part.timed(
        "first flag, DynamoDB",
        "a lower limit: the same over a bare socket",
        mine,
        times["limit, bare socket"],
        most=1.5,
    )
    mine = times[f"flagstore {source}"]
    for peer in ("LaunchDarkly's SDK", "boto3"):
        most = {"boto3": 0.25}.get(peer, 0.2)
        part.timed(f"the same, both {source}", peer, mine, times[f"{peer} {source}"], most=most)
    part.timed(
        "import alone",
        "bare interpreter",
        times["flagstore, import alone"],
        times["bare interpreter"],
    )
    part.bars("Fresh process to first flag, 500 flags, DynamoDB stand-in", "ms", times)
    _init(part, dose, packages, shared, flag)


def _init(part: Part, dose: Dose, packages: Packages, shared: dict[str, str], flag: str) -> None:
    """Measure Lambda's INIT: the module evaluates the flag, as module scope does."""
    cases = {
        "flagstore": ("ours.py", packages.ours, ("value", flag)),
        "LaunchDarkly's SDK": ("launchdarkly_daemon.py", packages.theirs, (flag,)),
        "boto3": ("boto3_item.py", packages.theirs, ()),
        "flagstore without .pyc": ("ours.py", packages.ours_source, ("value", flag)),
        "LaunchDarkly's SDK without .pyc": (
            "launchdarkly_daemon.py",
            packages.theirs_source,
            (flag,),
        ),
        "boto3 without .pyc": ("boto3_item.py", packages.theirs_source, ()),
        "an empty handler": ("", packages.ours, ()),
    }
    variables = {name: shared[name] for name in shared if name != "PATH"}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(dose.rounds + 1):
        for name in turned(list(cases), number):
            took = init_ms(*cases[name], variables)
            if number:
                times[name].append(took)
    title = "Lambda INIT, Runtime Interface Emulator"
    for suffix in ("", " without .pyc"):
        for peer, most in (("LaunchDarkly's SDK", 0.2), ("boto3", 0.25)):
            mine, other = times[f"flagstore{suffix}"], times[f"{peer}{suffix}"]
            part.timed(f"{title}{suffix and ', both'}{suffix}", peer, mine, other, most=most)
    part.timed(title, "an empty handler", times["flagstore"], times["an empty handler"])
    part.bars(f"{title}, with the first flag", "ms", times)


def init_ms(
    script: str, packages: Path, arguments: Sequence[str], environment: dict[str, str]
) -> float:
    """Start a function whose module does what a script does; returns what INIT took."""
    with tempfile.TemporaryDirectory() as folder:
        text = (READERS / script).read_text(encoding="utf-8") if script else ""
        # The process goes on to the handler.
        text = text.replace("os._exit(0)", "")
        code = (
            f"import sys\nsys.argv = {['x', *arguments]!r}\n{text}\n\n"
            "def handler(event, context):\n    return 1\n"
        )
        (Path(folder) / "app.py").write_text(code, encoding="utf-8")
        layer = Path(folder) / "layer"
        layer.mkdir()
        (layer / "python").symlink_to(packages)
        with RuntimeEmulator(Path(folder), "app.handler", environment, layers=[layer]) as function:
            invocation = function.invoke({})
            found = INIT.search(function.log())
        if invocation.error or not found:
            raise RuntimeError(invocation.log)
        return float(found[1])


def _unleash(
    part: Part, dose: Dose, aws: StandIn, packages: Packages, environment: dict[str, str]
) -> None:
    if "unleash" not in ENGINES:
        part.notes.append("Unleash: its engine is not there yet.")
        return
    table, _ = world.publish(aws, "unleash", FLAGS)
    shared = {**environment, "FLAGSTORE_TABLE": table}
    with world.provider("unleash", FLAGS) as (server, flag):
        asked = (f"{server.url}/api", server.token, flag)
        cases = [
            Case("flagstore", "ours.py", packages.ours, shared, ("enabled", flag)),
            Case("UnleashClient", "unleash_fetch.py", packages.theirs, shared, asked),
        ]
        times = in_turn(cases, dose.rounds)
    peer = "UnleashClient, its own fetch from a server on this machine"
    part.timed(
        "first flag, Unleash's flags", peer, times["flagstore"], times["UnleashClient"], most=0.4
    )


def _split(part: Part, dose: Dose, packages: Packages) -> None:
    with redis_server.running() as redis:
        flag = world.publish_redis(redis, "split", FLAGS)
        port = str(redis.port)
        shared = {"FLAGSTORE_REDIS_URL": redis.url()}
        asked = (port, SPLIT_PREFIX, flag)
        cases = [
            Case("flagstore", "ours.py", packages.ours, shared, ("value", flag)),
            Case("splitio_client", "split_redis.py", packages.theirs, arguments=asked),
        ]
        times = in_turn(cases, dose.rounds)
    peer = "splitio_client as a consumer of Redis"
    part.timed(
        "first flag, Split's flags, Redis",
        peer,
        times["flagstore"],
        times["splitio_client"],
        most=0.4,
    )
