"""Large flag sets fit into SyncFunction's memory, and responses crafted to fill it are refused."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simulators import faults
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly import rich_flags as launchdarkly_flags
from simulators.split import SplitSimulator
from simulators.split_flags import in_segment, new_flag, rule
from simulators.split_flags import rich_flags as split_flags
from simulators.unleash import UnleashSimulator
from simulators.unleash import rich_flags as unleash_flags

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.aws import Table

RUNTIME_MB = 45
"""Memory of AWS' runtime besides the process, rounded up."""
BODY_BYTES = 20 * 1024 * 1024 - 20
KEY = "key"
FETCHES = 4
"""Fetches that may fail before a sync gives up."""
REPOSITORY = Path(__file__).parents[2]


def repeated(item: bytes) -> bytes:
    return b'{"flags":[' + b",".join([item] * ((BODY_BYTES - 12) // (len(item) + 1))) + b"]}"


def many_names() -> bytes:
    names = (b'"%06x":0' % number for number in range((BODY_BYTES - 2) // 11))
    return b"{" + b",".join(names) + b"}"


# All sources in one process with the function's memory, as a batch of the queue brings them. The
# peak is not getrusage's, which counts the process that this one was forked from as well.
SYNC = r"""
import json, re, sys, time
from storesync import sync

class Context:
    aws_request_id = "1"
    def get_remaining_time_in_millis(self):
        return 60_000

body = lambda name: json.dumps({"source": name, "required": [], "sent_at": int(time.time() * 1000)})
records = [
    {"messageId": name, "receiptHandle": "r", "body": body(name), "attributes": {}}
    for name in sys.argv[1:]
]
failed = sync.handler({"Records": records}, Context())["batchItemFailures"]
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) // 1024
print(json.dumps({"failed": sorted(f["itemIdentifier"] for f in failed), "megabytes": peak}))
"""


def sync(aws: StandIn, table: str, memory_mb: int, **servers: Any) -> list[dict[str, Any]]:
    """Sync sources, named by provider, in one process of so much memory; return what it printed."""
    if not Path("/proc/self/status").exists():
        pytest.skip("allowed: only Linux reports a process' own peak")
    ssm, prefix = aws.client("ssm"), f"/flagstore/{table}"
    for name, server in servers.items():
        source = {"provider": "launchdarkly" if name == "good" else name}
        for kind, value in {
            "sources": {**source, "allow_http": True},
            "credentials": {**source, "key": KEY, "base_url": server.url},
        }.items():
            ssm.put_parameter(
                Name=f"{prefix}/{kind}/{name}",
                Value=json.dumps(value),
                Type="SecureString",
                Overwrite=True,
            )
    limit = memory_mb << 20
    done = subprocess.run(
        [sys.executable, "-c", SYNC, *servers],
        env={
            **aws.environment,
            "PYTHONPATH": str(REPOSITORY / "src"),
            "FLAGSTORE_PARAMETER_PREFIX": prefix,
            "FLAGSTORE_TABLE": table,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "POWERTOOLS_SERVICE_NAME": "flagstore-test",
        },
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["megabytes"] < memory_mb - RUNTIME_MB
    return lines


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(repeated(b"[]"), id="empty arrays", marks=pytest.mark.campaign),
        pytest.param(repeated(b'{"a":0}'), id="small objects"),
        pytest.param(many_names(), id="many names", marks=pytest.mark.campaign),
    ],
)
def test_response_that_fills_memory_fails_only_its_source(
    aws: StandIn, dynamodb_table: Table, body: bytes
) -> None:
    """Three providers send 20 MiB in 100 KB at once: each is refused, and the fourth is synced."""
    with (
        LaunchDarklySimulator(*launchdarkly_flags(30), sdk_key=KEY) as good,
        LaunchDarklySimulator(*launchdarkly_flags(30), sdk_key=KEY) as heavy,
        UnleashSimulator(*unleash_flags(30), token=KEY) as unleash,
        SplitSimulator(*split_flags(20), sdk_key=KEY) as split,
    ):
        for server in (heavy, unleash, split):
            server.faults.extend([faults.inflated(body)] * FETCHES)
        servers = {"good": good, "launchdarkly": heavy, "unleash": unleash, "split": split}
        *lines, reported = sync(aws, dynamodb_table.name, 512, **servers)
    assert reported["failed"] == ["launchdarkly", "split", "unleash"]
    reasons = [line.get("reason") for line in lines if line.get("message") == "failed"]
    assert reasons == ["MalformedResponse"] * 3
    megabytes = reported["megabytes"]
    print(f"{BODY_BYTES >> 20} MiB of JSON from each of three providers: {megabytes} MB at most")


def test_memory_of_300_000_segment_keys(aws: StandIn, dynamodb_table: Table) -> None:
    """200 flags and 30 segments of 10,000 keys fit into the smallest function: twice, changed."""
    flags, segments, rule_based = split_flags(170)
    for number in range(30):
        name = f"segment-{number:02}"
        flag = new_flag(f"for-{name}")
        flag["conditions"] = [rule(in_segment(name), label="in", on=100)]
        flags[flag["name"]] = flag
        segments[name] = [f"user-{number:02}-{key:032}" for key in range(10_000)]
    with SplitSimulator(flags, segments, rule_based, sdk_key=KEY) as split:
        for _ in range(2):
            *lines, reported = sync(aws, dynamodb_table.name, 256, split=split)
            print(reported)
            assert [line for line in lines if line.get("message") == "published"]
            split.set_flag(next(iter(split.flags())), killed=True)
