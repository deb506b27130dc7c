"""P8: what a month costs by formula (:mod:`bench.cost`), from units that are measured here."""

from __future__ import annotations

import json
import zlib
from math import ceil
from typing import TYPE_CHECKING, Any

from bench import cost, world
from bench.cost import Units
from bench.results import Part
from bench.units import READ_BYTES, WRITE_BYTES, CountingClient, size
from flagstore.keys import chunks_namespaces
from local.stand_in import StandIn

if TYPE_CHECKING:
    from bench.harness import Dose

CHANGES = 30
STORED_BYTES = 100
"""What DynamoDB adds to every stored item (AWS: "DynamoDB item sizes and formats")."""


def measure(dose: Dose) -> Part:  # noqa: ARG001 - a formula
    """Measure the units and compute."""
    part = Part("Cost of a month, by formula")
    with StandIn() as aws:
        for load in cost.LOADS:
            units = measured(aws, load.flags)
            part.figures[load.name] = units._asdict()
            lines = cost.ours(load, units)
            mine = cost.summed(lines, units)
            work = (
                f"{load.name}: {load.flags:,} flags, {load.changes:,} changes, "
                f"{load.cold_starts:,} cold starts, {load.refreshes:,} refreshes"
            )
            for name, theirs in (
                ("ld-relay on two small Fargate tasks", cost.relay(load)),
                ("AppConfig, its calls alone", cost.appconfig(load)),
            ):
                part.counted(
                    work,
                    name,
                    f"${mine.of(load.cold_starts):,.2f}",
                    f"${theirs.of(load.cold_starts):,.2f}",
                    goal=cost.even(mine, theirs),
                )
            watched = sum(value for name, value in lines.items() if name.startswith("CloudWatch"))
            part.notes.append(
                f"{load.name}: {units.change_writes:.0f} write units per change, "
                f"{units.held_changes:.0f} changes in the source state, "
                f"{units.cold_reads:.1f} read units per cold start; "
                f"${watched:.2f} are CloudWatch's. An hour of an AppConfig deployment: "
                f"${cost.deployment(60, units):.4f} more."
            )
    return part


def measured(aws: StandIn, count: int) -> Units:
    """Count what one change, one cold reader and one verifying check cost, and what is stored.

    So many flags are changed, each by a publication, that the source state does not hold them all.
    """
    with world.provider("launchdarkly", count) as (server, _):
        table = world.new_table(aws)
        world.sync(aws, table, server, "launchdarkly")
        for flag in sorted(server.flags())[:CHANGES]:
            server.set_flag(flag, on=False)
            world.sync(aws, table, server, "launchdarkly")
        server.set_flag(flag, on=True)
        change, verify = CountingClient(table.client), CountingClient(table.client)
        world.sync(aws, table, server, "launchdarkly", client=change)
        world.sync(aws, table, server, "launchdarkly", client=verify, verify=True)
    (state,), (snapshot_record,) = _items(table, "prod:$state"), _items(table, "prod:$snapshot")
    token = f"{int(snapshot_record['token']['N']):012d}/"
    namespaces = chunks_namespaces("prod")
    chunks = [size(item) for name in namespaces for item in _items(table, name, token=token)]
    kept = _stored(_items(table, "prod:$snapshot") + _items(table, "prod:$history"))
    return Units(
        change_writes=change.write_units,
        change_reads=change.read_units,
        state_writes=ceil(size(state) / WRITE_BYTES),
        held_changes=len(json.loads(zlib.decompress(state["deltas"]["B"]))) - 1,
        cold_reads=sum(ceil(read / READ_BYTES) / 2 for read in (size(snapshot_record), *chunks)),
        snapshot_writes=2 * ceil(size(snapshot_record) / WRITE_BYTES),
        verify_writes=verify.write_units,
        verify_reads=verify.read_units,
        rows_bytes=_stored(_all(table)) - kept,
        snapshot_bytes=size(snapshot_record) + sum(chunks) + STORED_BYTES,
    )


def _stored(items: list[dict[str, Any]]) -> int:
    return sum(size(item) + STORED_BYTES for item in items)


def _all(table: Any) -> list[dict[str, Any]]:
    pages = table.client.get_paginator("scan").paginate(TableName=table.name)
    return [item for page in pages for item in page["Items"]]


def _items(table: Any, namespace: str, token: str = "") -> list[dict[str, Any]]:
    pages = table.client.get_paginator("query").paginate(
        TableName=table.name,
        KeyConditionExpression="namespace = :n",
        ExpressionAttributeValues={":n": {"S": namespace}},
    )
    found = [item for page in pages for item in page["Items"]]
    return [item for item in found if item["key"]["S"].startswith(token)]
