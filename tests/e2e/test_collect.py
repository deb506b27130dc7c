"""A real Unleash server shows exactly what was evaluated, by hour, application and variant."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import batched
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import trustme

from flagstore.lines import COUNTS
from local.lambda_rie import RuntimeEmulator
from local.stand_in import REPOSITORY, StandIn
from simulators.aws import create_table
from simulators.deployment import Context, Deployment
from simulators.usage import closed_readers, delivery, line
from storesync import sync, usage

from .deployments import needs_stand_in, wait_for
from .unleash_server import UnleashServer, needs_unleash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    type Counts = Counter[tuple[str, str, str, str]]

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]

FLAGS = [f"flag-{number}" for number in range(8)]
KNOWN_AFTER_S = 11
"""The server drops metrics of flags that are younger than 10 s."""
ADDS_UP_AFTER_S = 6
"""It adds up what it received every 5 s; only then is it certain that nothing more will come."""
HOUR_S = 3600
APP = "functions"
EACH = 200
"""Evaluations in each of 50 execution environments."""
UNPRINTED = 7
"""Evaluations that a killed environment never printed."""
HANDLER = """\
import os, time
import flagstore

flags = flagstore.client("prod")

def evaluate(count):
    for number in range(count):
        flags.enabled(f"flag-{number % 8}", {"userId": "canary"})

def handler(event, context):
    evaluate(event["evaluations"])
    if event["end"] == "killed":
        flags.flush()
        evaluate(event["unprinted"])
        os.kill(os.getpid(), 9)
    if event["end"] == "timed out":
        time.sleep(9)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[UnleashServer]:
    """Run a server with a published source."""
    needs_unleash()
    needs_stand_in()
    with ExitStack() as running:
        aws = running.enter_context(StandIn())
        authority = running.enter_context(trustme.CA().cert_pem.tempfile())
        server = running.enter_context(UnleashServer(ca_file=authority))
        queue = aws.client("sqs").create_queue(QueueName="usage")["QueueUrl"]
        environ = {
            **aws.environment,
            "FLAGSTORE_PARAMETER_PREFIX": "/flagstore",
            "FLAGSTORE_QUEUE_URL": queue,
            "FLAGSTORE_TABLE": create_table(aws.client("dynamodb")),
        }
        patch = running.enter_context(pytest.MonkeyPatch.context())
        for name, value in environ.items():
            patch.setenv(name, value)
        patch.setattr(boto3, "DEFAULT_SESSION", boto3.Session(region_name=aws.region))
        for flag in FLAGS:
            server.create_flag(flag)
        deployment = Deployment("/flagstore", queue, "", {"ssm": aws.client("ssm")})
        deployment.put_source("prod", "unleash", server.url, server.backend_token("development"))
        for function in (sync.syncer, usage.collector):
            running.callback(function.cache_clear)
            function.cache_clear()
        running.enter_context(closed_readers())
        assert sync.handler({"source": "prod"}, Context())["outcome"] == "published"
        time.sleep(KNOWN_AFTER_S)
        yield server


def made(chance: random.Random, now: int) -> tuple[list[str], Counts]:
    """Make the lines of 10,000 evaluations in 50 environments; return them and their sums.

    Some are late, and some end at the beginning of an hour, to which they belong.
    """
    this_hour = now - now % HOUR_S
    expected: Counts = Counter()
    lines = []
    for number in range(200):
        app = f"app-{number % 50}"
        hour = this_hour - HOUR_S * chance.choice([0, 1, 30])
        last = hour + chance.choice([0, min(now - hour, HOUR_S - 1)])
        cells: dict[str, list[Any]] = {}
        for flag in chance.sample(FLAGS, 5):
            cells[flag] = [[3, 1], [1, 0], [4, 1, "blue"], [2, 0, "disabled"]]
            at = time.strftime("%Y-%m-%dT%H", time.gmtime(hour))
            expected.update(
                {(flag, app, at, "yes"): 7, (flag, app, at, "no"): 3}
                | {(flag, app, at, "blue"): 4, (flag, app, at, "disabled"): 2}
            )
        lines.append(line(cells, "unleash", n=app, a=last - 50, b=last))
    return lines, expected


def shown(server: UnleashServer) -> Counts:
    """Return what the server shows."""
    found: Counts = Counter()
    for flag in FLAGS:
        for row in server.metrics(flag):
            assert row["environment"] == "development"
            counts = {"yes": row["yes"], "no": row["no"], **row.get("variants", {})}
            of_flag = flag, row["appName"], row["timestamp"][:13]
            found.update({(*of_flag, name): count for name, count in counts.items()})
    return found


def test_the_server_shows_what_was_evaluated(server: UnleashServer) -> None:
    """The counts are exact, though every line comes twice, late, across hours, shuffled and cut."""
    chance, now = random.Random(11), int(time.time())
    lines, expected = made(chance, now)
    assert sum(count for key, count in expected.items() if key[3] in {"yes", "no"}) == 10_000
    twice = lines * 2
    chance.shuffle(twice)
    while twice:
        size = chance.choice([1, 5, 90])
        usage.handler(delivery(*twice[:size], at=now), Context())
        twice = twice[size:]
        if chance.random() < 0.2:
            usage.collector.cache_clear()
    wait_for(lambda: shown(server).total() >= expected.total(), "all counts", within_s=30)
    time.sleep(ADDS_UP_AFTER_S)
    assert shown(server) == expected
    apps = {f"app-{number}" for number in range(50)}
    wait_for(lambda: server.applications() >= apps, "applications", within_s=30)


def run(folder: Path, end: str) -> list[str]:
    """Run an execution environment of a function until it ends; return its log."""
    names = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT_URL")
    environment = {
        **{f"AWS_{name}": os.environ[f"AWS_{name}"] for name in names},
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
        "FLAGSTORE_APP_NAME": APP,
        "FLAGSTORE_TABLE": os.environ["FLAGSTORE_TABLE"],
        "FLAGSTORE_USAGE": "counts",
    }
    with RuntimeEmulator(folder, "app.handler", environment, timeout_s=2) as function:
        error = function.invoke({"evaluations": EACH, "end": end, "unprinted": UNPRINTED}).error
        assert (error is None) == (end == "idle")
    assert "canary" not in function.log()
    return function.log().splitlines()


def test_functions_are_counted_however_they_end(server: UnleashServer, tmp_path: Path) -> None:
    """10,000 evaluations in 50 environments, idle, timed out or killed; each line comes twice."""
    (tmp_path / "flagstore").symlink_to(REPOSITORY / "src" / "flagstore")
    (tmp_path / "app.py").write_text(HANDLER)
    ends = ["idle"] * 30 + ["timed out"] * 10 + ["killed"] * 10
    server.switch("flag-0", "on")
    with ThreadPoolExecutor(2) as pool:
        logs = list(pool.map(partial(run, tmp_path), ends))
    lines = [line for log in logs for line in log if COUNTS in line] * 2
    random.Random(3).shuffle(lines)
    for some in batched(lines, 17, strict=False):
        usage.handler(delivery(*some, at=time.time()), Context())

    def counted() -> int:
        rows = [row for flag in FLAGS for row in server.metrics(flag) if row["appName"] == APP]
        return sum(row["yes"] + row["no"] for row in rows)

    wait_for(lambda: counted() >= EACH * len(ends), "all counts", within_s=30)
    time.sleep(ADDS_UP_AFTER_S)
    assert counted() == EACH * len(ends) == 10_000
