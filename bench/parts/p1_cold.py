"""P1: from a fresh process to the first evaluated flag, over TLS, at shares of a CPU."""

from __future__ import annotations

import statistics
import tempfile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench import phased, shares, world
from bench.harness import Case, in_turn
from bench.results import Part
from bench.stats import spread
from simulators import redis_server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.harness import Dose
    from bench.phased import OverTls, Run

FLAGS = 500
CACHED_S = "60"
"""So long nothing is asked for again."""
PREFIX = "{prod}"
"""Of the rows of our source in Redis."""
FLAGSTORE, LAZY = "flagstore", "flagstore, preload=False"
BOTO3, LAUNCHDARKLY = "boto3: GetItem + json, no evaluation", "LaunchDarkly's SDK, daemon mode"
LIMIT = "the limit: a bare socket with TLS, five roots, one GetItem, json"
MOST_OF_ALL = {LIMIT: {1_769: 1.5}, BOTO3: {1_769: 0.2, 128: 0.08}}
MOST_OF_ALL[LAUNCHDARKLY] = {1_769: 0.18, 128: 0.06}
MOST_LAZY = 0.8
MOST_FIRST_MS = {512: 1.0}

Runs = dict[str, list["Run"]]


def measure(dose: Dose) -> Part:
    """Measure."""
    part = Part("Fresh process to first evaluated flag, 500 flags, over TLS")
    with tempfile.TemporaryDirectory() as folder, phased.over_tls(folder) as tls:
        _launchdarkly(part, dose, tls)
        _unleash(part, dose, tls)
        _redis(part, dose, tls)
        bare = [
            Case("flagstore, import alone", "imports.py", tls.ours),
            Case("bare interpreter", "bare.py", tls.ours),
        ]
        times = in_turn(bare, dose.rounds)
    part.timed("import alone, whole process", "bare interpreter", *times.values())
    part.notes += phased.skipped()
    return part


def _launchdarkly(part: Part, dose: Dose, tls: OverTls) -> None:
    table, flag = world.publish(tls.aws, "launchdarkly", FLAGS)
    shared = {**tls.environment, "FLAGSTORE_TABLE": table}
    ours = ("value", flag, CACHED_S)
    cases = [
        Case(FLAGSTORE, "ours.py", tls.ours, shared, ours),
        Case(LAZY, "ours.py", tls.ours, {**shared, "FLAGSTORE_PRELOAD": "false"}, ours),
        Case(BOTO3, "boto3_item.py", world.SITE, shared),
        Case(LAUNCHDARKLY, "launchdarkly_daemon.py", world.SITE, shared, (flag, CACHED_S)),
        Case(LIMIT, "limit.py", tls.ours, shared),
    ]
    with phased.at_shares() as sizes:
        for size, share in sizes.items():
            runs = phased.rounds(cases, dose.rounds, share)
            if size == shares.WHOLE:
                _init(part, runs)
            _at(part, size, runs)


def _inits(runs: Sequence[Run]) -> list[float]:
    return [run.init_ms for run in runs]


def _firsts(runs: Sequence[Run]) -> list[float]:
    return [run.requests[0].ms for run in runs]


def _init(part: Part, runs: Runs) -> None:
    for peer in (BOTO3, LAUNCHDARKLY, LIMIT):
        part.timed("INIT, whole core", peer, _inits(runs[FLAGSTORE]), _inits(runs[peer]))


def _at(part: Part, size: int, runs: Mapping[str, Sequence[Run]]) -> None:
    mine = _firsts(runs[FLAGSTORE])
    goal = MOST_FIRST_MS.get(size)
    part.counted(
        f"first flag in the handler, {size} MB",
        "",
        spread(mine, "ms"),
        goal=f"median at most {goal:g} ms" if goal else "",
        met=None if goal is None else statistics.median(mine) <= goal,
    )
    for peer, goals in MOST_OF_ALL.items():
        work = f"INIT and first flag, {size} MB"
        most = goals.get(size)
        part.timed(work, peer, phased.wholes(runs[FLAGSTORE]), phased.wholes(runs[peer]), most=most)
    for peer, most_lazy in ((BOTO3, MOST_LAZY), (LAUNCHDARKLY, None)):
        work = f"first flag in the handler, preload=False, {size} MB"
        part.timed(work, peer, _firsts(runs[LAZY]), _firsts(runs[peer]), most=most_lazy)


def _beside(part: Part, dose: Dose, work: str, mine: Case, other: Case) -> None:
    runs = phased.rounds([mine, other], dose.rounds, None)
    part.timed(
        work, other.name, phased.wholes(runs[mine.name]), phased.wholes(runs[other.name]), most=0.4
    )


def _unleash(part: Part, dose: Dose, tls: OverTls) -> None:
    table, _ = world.publish(tls.aws, "unleash", FLAGS)
    shared = {**tls.environment, "FLAGSTORE_TABLE": table}
    with world.provider("unleash", FLAGS) as (server, flag):
        url = f"https://127.0.0.1:{tls.relay(urlsplit(server.url).port or 0)}/api"
        mine = Case(FLAGSTORE, "ours.py", tls.ours, shared, ("enabled", flag, CACHED_S))
        peer = "UnleashClient, its own fetch"
        other = Case(peer, "unleash_fetch.py", world.SITE, shared, (url, server.sdk_key, flag))
        _beside(part, dose, "INIT and first flag, Unleash's flags", mine, other)


def _redis(part: Part, dose: Dose, tls: OverTls) -> None:
    for name, peer in (("split", "Split's SDK"), ("launchdarkly", "LaunchDarkly's SDK")):
        with redis_server.running() as redis:
            flag = world.publish_redis(redis, name, FLAGS)
            port = tls.relay(redis.port)
            url = f"rediss://127.0.0.1:{port}"
            shared = {**tls.environment, "FLAGSTORE_REDIS_URL": url, "REDIS_URL": url}
            mine = Case(FLAGSTORE, "ours.py", tls.ours, shared, ("value", flag, CACHED_S))
            script, asked = "split_redis.py", (str(port), PREFIX, flag)
            if name == "launchdarkly":
                script, asked = "launchdarkly_daemon.py", (flag, CACHED_S)
            other = Case(f"{peer} on Redis", script, world.SITE, shared, asked)
            _beside(
                part,
                dose,
                f"INIT and first flag, {peer.removesuffix(' SDK')} flags, Redis",
                mine,
                other,
            )
