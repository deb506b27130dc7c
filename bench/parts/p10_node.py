"""P10: Node.js: from a fresh process to the first flag, and refreshes, over TLS."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bench import phased, refreshes, world
from bench.harness import READERS, Case
from bench.results import Part
from bench.stats import spread
from local import nodejs
from simulators import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.harness import Dose
    from bench.phased import OverTls, Run

FLAGS = 500
CACHED_S = "60"
"""So long nothing is asked for again."""
NODE, MODULES = nodejs.command(), nodejs.MODULES
PEERS = (
    *("@launchdarkly/node-server-sdk", "@launchdarkly/node-server-sdk-redis"),
    *("launchdarkly-node-server-sdk", "launchdarkly-node-server-sdk-dynamodb"),
    *("@splitsoftware/splitio", "@splitsoftware/splitio-browserjs", "unleash-client"),
)
MOST_MORE_MS = 70
"""Of the reader, above what Node.js itself takes."""
MOST_OF_STORE, MOST_OF_FETCH = 0.75, 0.95
NOTHING = {"None", "control"}
"""What SDKs say of a flag that they do not have."""
WORK = "process start to first flag"


@dataclass(frozen=True)
class NodeCase(Case):
    """A script of ``bench/readers/node``; packages are found as those of a layer are."""

    def command(self) -> list[str]:
        """Return the command."""
        return [*self.prefix, NODE, str(READERS / "node" / self.script), *self.arguments]

    def variables(self) -> dict[str, str]:
        """Return its environment."""
        found = {**super().variables(), "NODE_PATH": f"{self.packages}:{MODULES}"}
        return {name: value for name, value in found.items() if not name.startswith("PYTHON")}


@dataclass(frozen=True)
class Bench:
    """What all comparisons need."""

    part: Part
    dose: Dose
    tls: OverTls
    packages: Path

    def published(self, provider: str) -> tuple[str, dict[str, str]]:
        """Publish flags; return one, and the variables that lead to them."""
        table, flag = world.publish(self.tls.aws, provider, FLAGS)
        return flag, {**self.tls.environment, "FLAGSTORE_TABLE": table}

    def case(self, name: str, script: str, variables: dict[str, str], *given: str) -> NodeCase:
        """Return a case."""
        return NodeCase(name, script, self.packages, variables, given)

    def peer(self, name: str, script: str, variables: dict[str, str], *given: str) -> NodeCase:
        """Return a case that trusts the authorities of Node.js, and this one."""
        trust = {"NODE_EXTRA_CA_CERTS": str(self.tls.aws.ca_file)}
        return self.case(name, script, variables | trust, *given)

    def at_once(self, cases: Iterable[NodeCase]) -> dict[str, list[Run]]:
        """Run cases whose first request follows INIT without a pause."""
        hasty = [replace(case, environment={**case.environment, "AT_ONCE": "1"}) for case in cases]
        return phased.rounds(hasty, self.dose.rounds)

    def compare(self, most: float, *pairs: tuple[NodeCase, NodeCase]) -> None:
        """Compare flagstore's cases with their peers; all their processes run in turn."""
        runs = self.at_once({case.name: case for pair in pairs for case in pair}.values())
        said = {run.requests[0].value for made in runs.values() for run in made}
        assert not said & NOTHING, said
        wholes = {name: phased.wholes(made) for name, made in runs.items()}
        for mine, other in pairs:
            work = f"{WORK}, {mine.name}"
            self.part.timed(work, other.name, wholes[mine.name], wholes[other.name], most=most)


def measure(dose: Dose) -> Part:
    """Measure.

    Raises:
        RuntimeError: if Node.js or the SDKs are missing.
    """
    if not NODE or not MODULES.exists():
        message = "P10 needs Node.js and the providers' SDKs: run `make setup-node`"
        raise RuntimeError(message)
    part = Part("Node.js: process start to first flag, and refreshes, 500 flags, over TLS")
    with tempfile.TemporaryDirectory() as folder, phased.over_tls(folder) as tls:
        packages = world.node(Path(folder), root=tls.root)
        bench = Bench(part, dose, tls, packages)
        _reader(bench)
        _launchdarkly(bench)
        _split(bench)
        _unleash(bench)
        flag, variables = bench.published("launchdarkly")
        mine = bench.case("reader", "ours.cjs", variables, flag, str(refreshes.TTL_S))
        with phased.at_shares() as sizes:
            for size, share in sizes.items():
                refreshes.judge(part, size, refreshes.run([mine], dose.rounds, share)[mine.name])
        refreshes.disturb(part, tls, folder, mine)
    part.notes += [
        f"With {_versions()}.",
        "The first flag follows INIT at once, on all cores; Redis is read over TLS too.",
        refreshes.NOTE,
        *phased.skipped(),
    ]
    return part


def _reader(bench: Bench) -> None:
    flag, variables = bench.published("launchdarkly")
    cases = [
        bench.case("the reader alone", "ours.cjs", variables, flag, CACHED_S),
        bench.case("bare node", "bare.cjs", variables),
    ]
    runs = bench.at_once(cases)
    mine, bare = (phased.wholes(runs[case.name]) for case in cases)
    bench.part.timed(f"{WORK}, {cases[0].name}", cases[1].name, mine, bare)
    more = [one - other for one, other in zip(mine, bare, strict=True)]
    bench.part.counted(
        "what the reader adds",
        "",
        spread(more, "ms"),
        goal=f"median at most {MOST_MORE_MS} ms",
        met=statistics.median(more) <= MOST_MORE_MS,
    )


def _launchdarkly(bench: Bench) -> None:
    flag, variables = bench.published("launchdarkly")
    with redis_server.running() as redis:
        assert world.publish_redis(redis, "launchdarkly", FLAGS) == flag
        url = f"rediss://127.0.0.1:{bench.tls.relay(redis.port)}"
        bench.compare(
            MOST_OF_STORE,
            (
                bench.case("LaunchDarkly 9", "launchdarkly_ours.cjs", variables, flag),
                bench.peer("its own store, Redis", "launchdarkly_redis.cjs", variables, flag, url),
            ),
            (
                bench.case("LaunchDarkly 6", "launchdarkly6_ours.cjs", variables, flag),
                bench.peer(
                    "its own store, DynamoDB", "launchdarkly6_dynamodb.cjs", variables, flag
                ),
            ),
        )


def _split(bench: Bench) -> None:
    flag, variables = bench.published("split")
    with redis_server.running() as redis:
        assert world.publish_redis(redis, "split", FLAGS) == flag
        url = f"rediss://127.0.0.1:{bench.tls.relay(redis.port)}"
        consumer = bench.peer(
            "Split's as a consumer of Redis", "split_redis.cjs", variables, flag, url
        )
        names = {
            "browser": "Split's SDK for browsers",
            "server": "the same with the client for servers",
        }
        bench.compare(
            MOST_OF_STORE,
            *(
                (bench.case(name, f"split_ours_{kind}.cjs", variables, flag), consumer)
                for kind, name in names.items()
            ),
        )


def _unleash(bench: Bench) -> None:
    _, variables = bench.published("unleash")
    with world.provider("unleash", FLAGS) as (server, flag):
        url = f"https://127.0.0.1:{bench.tls.relay(urlsplit(server.url).port or 0)}/api"
        given = (flag, url, server.sdk_key)
        fetching = bench.peer("unleash-client's own fetch", "unleash_fetch.cjs", variables, *given)
        evaluator = ("unleash-client's evaluator", "unleash_ours_evaluator.cjs", variables, flag)
        whole = bench.case("unleash-client", "unleash_ours.cjs", variables, flag)
        bench.compare(MOST_OF_FETCH, (whole, fetching), (bench.case(*evaluator), fetching))


def _versions() -> str:
    node = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True)
    found = [
        f"{name} {json.loads((MODULES / name / 'package.json').read_text('utf-8'))['version']}"
        for name in PEERS
    ]
    return ", ".join([f"Node.js {node.stdout.strip().removeprefix('v')}", *found])
