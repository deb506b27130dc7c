"""Fresh process to first evaluated flag, beside LaunchDarkly's SDK and boto3: `make bench-cold`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import uuid
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness import REPOSITORY, SDKS, Case, Figures, in_turn, machine, ratios
from local.stand_in import StandIn
from sdks.rig import Rig
from simulators.aws import Table
from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly_flags import rich_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

SITE = next((SDKS / "lib").glob("python3.*")) / "site-packages"
GOALS = {
    "launchdarkly": 0.2,
    "boto3": 0.25,
    "boto3 without .pyc": 0.12,
    "limit": 1.5,
}


def publish(aws: StandIn, count: int) -> tuple[str, str]:
    """Publish so many flags with our own pipeline; returns the table and a flag with rules."""
    client = aws.client("dynamodb")
    name = f"bench-{uuid.uuid4().hex}"
    attributes = [{"AttributeName": key, "AttributeType": "S"} for key in ("namespace", "key")]
    schema = [
        {"AttributeName": "namespace", "KeyType": "HASH"},
        {"AttributeName": "key", "KeyType": "RANGE"},
    ]
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=schema,
        AttributeDefinitions=attributes,
    )
    flags, segments = rich_flags(count)
    with LaunchDarklySimulator(flags, segments) as server:
        report = Rig(aws, Table(name=name, client=client), server, "launchdarkly").sync()
    if report.outcome != "published":
        raise RuntimeError(report)
    body = zlib.compress(json.dumps({"flags": flags, "segments": segments}).encode())
    item: dict[str, Any] = {"namespace": {"S": "bench"}, "key": {"S": "all"}, "body": {"B": body}}
    client.put_item(TableName=name, Item=item)
    ruled = next(key for key, flag in sorted(flags.items()) if flag["on"] and flag["rules"])
    return name, ruled


def without_pyc(folder: Path) -> Path:
    """Copy the packages as the stock builder ships them: without compiled files."""
    copy = folder / "site-packages"
    shutil.copytree(SITE, copy, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    return copy


def cases(flag: str, uncompiled: Path) -> Iterator[Case]:
    """Give the commands that take turns."""
    src = REPOSITORY / "src"
    yield Case("ours", "ours.py", src, arguments=(flag,))
    yield Case("limit", "limit.py", src)
    yield Case("launchdarkly", "launchdarkly_daemon.py", SITE, arguments=(flag,))
    yield Case("boto3", "boto3_item.py", SITE)
    yield Case("boto3 without .pyc", "boto3_item.py", uncompiled)
    yield Case("bare", "bare.py", src)
    yield Case("import flagstore", "imports.py", src)


def main() -> None:
    """Measure and say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--flags", type=int, default=500)
    arguments = parser.parse_args()
    figures: dict[str, Figures] = {}
    growth: dict[int, Figures] = {}
    with StandIn() as aws, tempfile.TemporaryDirectory() as folder:
        environment = aws.child_environment({"PATH": os.defpath})
        uncompiled = without_pyc(Path(folder))
        table, flag = publish(aws, arguments.flags)
        shared = {**environment, "FLAGSTORE_TABLE": table}
        figures = in_turn(list(cases(flag, uncompiled)), arguments.rounds, shared)
        for count in (100, 10_000):
            table, flag = publish(aws, count)
            shared = {**environment, "FLAGSTORE_TABLE": table}
            ours = Case("ours", "ours.py", REPOSITORY / "src", arguments=(flag,))
            growth[count] = in_turn([ours], arguments.rounds, shared)["ours"]
    print(f"Fresh process to first evaluated flag, {arguments.flags} flags, DynamoDB (stand-in)")
    print(f"{machine()}; medians of {arguments.rounds}\n")
    for name, found in figures.items():
        line = f"{name:22} {found.median:7.1f} ms  ({found.spread})"
        if name in GOALS:
            line += f"   ours: {ratios(figures['ours'], found):.2f} of it (goal {GOALS[name]})"
        print(line)
    imported = figures["import flagstore"].median - figures["bare"].median
    print(f"{'import of flagstore':22} {imported:7.1f} ms over the bare interpreter (goal 10)")
    grown = growth[10_000].median / growth[100].median
    print(f"{'10,000 against 100':22} {grown:7.2f} times (goal 3)")


if __name__ == "__main__":
    main()
