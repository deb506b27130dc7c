"""SyncFunction withstands responses crafted to fill its memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simulators import faults
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly import rich_flags as launchdarkly_flags
from simulators.split import SplitSimulator
from simulators.split import rich_flags as split_flags
from simulators.unleash import UnleashSimulator
from simulators.unleash import rich_flags as unleash_flags

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.aws import Table

FUNCTION_MB = 512
RUNTIME_MB = 45
"""Memory of AWS' runtime besides the process, rounded up."""
BODY_BYTES = 20 * 1024 * 1024 - 20
KEY = "key"
FETCHES = 4
"""Fetches that may fail before a sync gives up."""
REPOSITORY = Path(__file__).parents[2]


def repeated(item: bytes) -> bytes:
    """Return a body with as many of these items as fit."""
    return b'{"flags":[' + b",".join([item] * ((BODY_BYTES - 12) // (len(item) + 1))) + b"]}"


def many_names() -> bytes:
    """Return a body that is one object with as many names as fit."""
    names = (b'"%06x":0' % number for number in range((BODY_BYTES - 2) // 11))
    return b"{" + b",".join(names) + b"}"


# All sources in one process with the function's memory, as a batch of the queue brings them.
SYNC = r"""
import json, re, sys
from storesync import sync

class Context:
    aws_request_id = "1"
    def get_remaining_time_in_millis(self):
        return 60_000

body = lambda name: json.dumps({"source": name, "required": [], "sent_at": 0})
records = [
    {"messageId": name, "receiptHandle": "r", "body": body(name), "attributes": {}}
    for name in sys.argv[1:]
]
failed = sync.handler({"Records": records}, Context())["batchItemFailures"]
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) // 1024
print(json.dumps({"failed": sorted(f["itemIdentifier"] for f in failed), "megabytes": peak}))
"""


def limit_memory() -> None:
    """Limit a process to the function's memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (FUNCTION_MB << 20, FUNCTION_MB << 20))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(repeated(b"[]"), id="empty arrays"),
        pytest.param(repeated(b'{"a":0}'), id="small objects"),
        pytest.param(many_names(), id="many names"),
    ],
)
def test_response_that_fills_memory_fails_only_its_source(
    aws: StandIn, dynamodb_table: Table, body: bytes
) -> None:
    """Three providers send 20 MiB in 100 KB at once: each is refused, and the fourth is synced."""
    if not Path("/proc/self/status").exists():
        pytest.skip("allowed: only Linux reports a process' own peak")
    with ExitStack() as running:
        good, heavy = (
            running.enter_context(LaunchDarklySimulator(*launchdarkly_flags(30), sdk_key=KEY))
            for _ in range(2)
        )
        unleash = running.enter_context(UnleashSimulator(*unleash_flags(30), token=KEY))
        split = running.enter_context(SplitSimulator(*split_flags(20), sdk_key=KEY))
        prefix = f"/flagstore/{dynamodb_table.name}"
        sources = {
            "good": ("launchdarkly", good.url),
            "heavy": ("launchdarkly", heavy.url),
            "unleash": ("unleash", unleash.url),
            "split": ("split", split.url),
        }
        ssm = aws.client("ssm")
        for name, (provider, url) in sources.items():
            put(ssm, f"{prefix}/sources/{name}", {"provider": provider, "allow_http": True})
            credentials = {"provider": provider, "key": KEY, "base_url": url}
            put(ssm, f"{prefix}/credentials/{name}", credentials)
        for server in (heavy, unleash, split):
            server.faults.extend([faults.inflated(body)] * FETCHES)
        done = subprocess.run(
            [sys.executable, "-c", SYNC, *sources],
            env={
                **aws.environment,
                "PYTHONPATH": str(REPOSITORY / "src"),
                "FLAGSTORE_PARAMETER_PREFIX": prefix,
                "FLAGSTORE_TABLE": dynamodb_table.name,
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(FUNCTION_MB),
                "POWERTOOLS_SERVICE_NAME": "flagstore-test",
            },
            preexec_fn=limit_memory,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    reported = json.loads(lines[-1])
    assert reported["failed"] == ["heavy", "split", "unleash"]
    reasons = [json.loads(line).get("reason") for line in lines if '"failed"' in line]
    assert reasons.count("MalformedResponse") == len(reported["failed"])
    assert reported["megabytes"] < FUNCTION_MB - RUNTIME_MB
    print(
        f"{BODY_BYTES >> 20} MiB of JSON from each of three providers: "
        f"{reported['megabytes']} MB at most"
    )


def put(ssm: object, name: str, value: object) -> None:
    """Write a parameter as JSON."""
    ssm.put_parameter(Name=name, Value=json.dumps(value), Type="SecureString")  # type: ignore[attr-defined]
