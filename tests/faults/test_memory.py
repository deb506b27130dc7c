"""A large flag set fits into a small function's memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simulators.split import SplitSimulator
from simulators.split_flags import in_segment, new_flag, rich_flags, rule

if TYPE_CHECKING:
    from local.stand_in import StandIn
    from simulators.aws import Table

FUNCTION_MB = 256
RUNTIME_MB = 45
"""Memory of AWS' runtime and Powertools besides the sync, rounded up."""
SEGMENTS = 30
KEYS = 10_000
REPOSITORY = Path(__file__).parents[2]

# One sync in a process of its own, as a function has it: nothing else may count.
SYNC = r"""
import json, random, re, sys
import boto3
from storesync.retry import Deadline, SystemClock
from storesync.http import HttpClient
from storesync.model import SyncRequest, Secret, Source
from storesync.pipeline import Sync
from storesync.providers import get
from storesync.stores.dynamodb import DynamoDBStore

url, key, table = sys.argv[1:]
deadline = Deadline(SystemClock(), random.Random(1), 60)
source = Source("fme", "split", url, Secret(key), allow_http=True)
store = DynamoDBStore(boto3.client("dynamodb"), table, deadline)
sync = Sync(source, get("split"), store, http=HttpClient(), deadline=deadline)
report = sync.run([SyncRequest("fme", trigger="schedule")])
# Not getrusage: its peak counts the process that this one was forked from as well.
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) // 1024
print(json.dumps({"outcome": report.outcome, "counts": report.counts, "megabytes": peak}))
"""


def test_memory_of_300_000_segment_keys(aws: StandIn, dynamodb_table: Table) -> None:
    """200 flags and 30 segments of 10,000 keys: the first publication and a change."""
    if not Path("/proc/self/status").exists():
        pytest.skip("allowed: only Linux reports a process' own peak")
    flags, segments, rule_based = rich_flags(200 - SEGMENTS)
    for number in range(SEGMENTS):
        name = f"segment-{number:02}"
        flag = new_flag(f"for-{name}")
        flag["conditions"] = [rule(in_segment(name), label="in", on=100)]
        flags[flag["name"]] = flag
        segments[name] = [f"user-{number:02}-{key:032}" for key in range(KEYS)]
    with SplitSimulator(flags, segments, rule_based) as split:
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", SYNC, split.url, split.sdk_key, dynamodb_table.name],
                env={**aws.environment, "PYTHONPATH": str(REPOSITORY / "src")},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            result = json.loads(done.stdout.splitlines()[-1])
            print(result)
            assert result["outcome"] == "published"
            assert result["counts"]["flags"] == 200
            assert result["counts"]["segments"] == SEGMENTS + 3
            assert result["megabytes"] < FUNCTION_MB - RUNTIME_MB
            split.set_flag(next(iter(split.flags())), killed=True)
