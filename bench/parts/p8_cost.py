"""P8: what a month costs by formula, from units that are measured here and AWS' list prices."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import world
from bench.results import Part
from bench.units import READ_BYTES, CountingClient, size
from local.stand_in import StandIn

if TYPE_CHECKING:
    from bench.harness import Dose

# US dollars, us-east-1, on demand, without free tiers. Where they come from: docs/benchmarks.md.
WRITE_UNIT = 0.625e-6
READ_UNIT = 0.125e-6
LAMBDA_GB_S = 16.6667e-6
LAMBDA_CALL = 0.2e-6
HTTP_API_CALL = 1.0e-6
SQS_CALL = 0.4e-6
FARGATE_VCPU_H = 0.04048
FARGATE_GB_H = 0.004445
APPCONFIG_CALL = 0.2e-6
APPCONFIG_RECEIVED = 800e-6

HOURS = 730
SCHEDULED = HOURS * 12
"""Syncs a month by the schedule, every 5 minutes."""
SYNC_GB_S = 1.0 * 0.5
"""Of Lambda, a sync: a second at 512 MB, generously."""
SQS_CALLS = 3
"""Sent, received, deleted."""
IDLE_POLLS = HOURS * 3600 / 20 * 5
"""Empty receives of the poller: five long polls of 20 s at a time, whatever happens."""
FLAGS_USED = 20
"""By a function that reads row by row, as SDKs in daemon mode do; each row within 4 KB."""


class Load(NamedTuple):
    """A month of somebody's."""

    name: str
    flags: int
    changes: int
    cold_starts: int
    refreshes: int
    """Of warm readers, each at most every 30 s."""


LOADS = (
    Load("small", 100, 300, 10_000, 500_000),
    Load("medium", 1_000, 3_000, 1_000_000, 20_000_000),
    Load("large", 5_000, 10_000, 10_000_000, 200_000_000),
)


class Units(NamedTuple):
    """What was counted for one size."""

    change: float
    """Write units of one changed flag."""
    cold: float
    """Read units of a cold reader."""


class Cost(NamedTuple):
    """Dollars a month: what stands fast, and what each cold start adds."""

    fixed: float
    cold_start: float

    def of(self, cold_starts: int) -> float:
        """Return the sum."""
        return self.fixed + self.cold_start * cold_starts


def ours(load: Load, units: Units) -> Cost:
    """Return the cost of this application."""
    webhook = HTTP_API_CALL + LAMBDA_CALL + 0.02 * LAMBDA_GB_S + SQS_CALLS * SQS_CALL
    sync = LAMBDA_CALL + SYNC_GB_S * LAMBDA_GB_S
    # A change: its webhook, its sync, the trailing one that finds nothing.
    change = webhook + 2 * sync + SQS_CALLS * SQS_CALL + (units.change + 2) * WRITE_UNIT
    scheduled = SCHEDULED * (sync + 2 * WRITE_UNIT)
    refreshes = load.refreshes * 0.5 * READ_UNIT
    fixed = load.changes * change + scheduled + refreshes + IDLE_POLLS * SQS_CALL
    return Cost(fixed, units.cold * READ_UNIT)


def relay(load: Load) -> Cost:
    """Return the cost of ld-relay on two Fargate tasks of 0.25 vCPU and 0.5 GB, with DynamoDB.

    It writes a changed flag alone; its readers read the flags that they use, each by itself.
    """
    tasks = 2 * HOURS * (0.25 * FARGATE_VCPU_H + 0.5 * FARGATE_GB_H)
    rows = FLAGS_USED * 0.5 * READ_UNIT
    return Cost(tasks + load.changes * WRITE_UNIT + load.refreshes * rows, rows)


def appconfig(load: Load) -> Cost:
    """Return what AppConfig bills for its calls: each cold start receives the configuration."""
    return Cost(load.refreshes * APPCONFIG_CALL, APPCONFIG_CALL + APPCONFIG_RECEIVED)


def measure(dose: Dose) -> Part:  # noqa: ARG001 - a formula
    """Measure the units and compute."""
    part = Part("Cost of a month, by formula")
    with StandIn() as aws:
        for load in LOADS:
            units = _units(aws, load.flags)
            mine = ours(load, units)
            work = (
                f"{load.name}: {load.flags:,} flags, {load.changes:,} changes, "
                f"{load.cold_starts:,} cold starts, {load.refreshes:,} refreshes"
            )
            for name, theirs in (
                ("ld-relay on two small Fargate tasks", relay(load)),
                ("AppConfig, its calls alone", appconfig(load)),
            ):
                part.counted(
                    work,
                    name,
                    f"${mine.of(load.cold_starts):,.2f}",
                    f"${theirs.of(load.cold_starts):,.2f}",
                    goal=even(mine, theirs),
                )
            part.notes.append(
                f"{load.name}: {units.change:.0f} write units a change, "
                f"{units.cold:.1f} read units a cold start."
            )
    return part


def even(mine: Cost, theirs: Cost) -> str:
    """Say from how many cold starts a month on who costs less."""
    fixed, each = theirs.fixed - mine.fixed, mine.cold_start - theirs.cold_start
    if fixed * each <= 0:
        return "ours always costs less" if fixed > 0 else "ours always costs more"
    word = "less" if each > 0 else "more"
    return f"ours costs {word} up to {fixed / each:,.0f} cold starts"


def _units(aws: StandIn, count: int) -> Units:
    with world.provider("launchdarkly", count) as (server, flag):
        table = world.new_table(aws)
        world.sync(aws, table, server, "launchdarkly")
        server.set_flag(flag, on=False)
        client = CountingClient(table.client)
        world.sync(aws, table, server, "launchdarkly", client=client)
    head = sum(map(size, _items(table, "prod:$head")))
    pieces = sum(map(size, _items(table, "prod:$body", ticket=_ticket(table))))
    cold = ceil(head / READ_BYTES) / 2 + ceil(pieces / READ_BYTES)
    return Units(client.write_units, cold)


def _ticket(table: Any) -> str:
    (head,) = _items(table, "prod:$head")
    return f"{int(head['ticket']['N']):012d}/"


def _items(table: Any, namespace: str, ticket: str = "") -> list[dict[str, Any]]:
    pages = table.client.get_paginator("query").paginate(
        TableName=table.name,
        KeyConditionExpression="namespace = :n",
        ExpressionAttributeValues={":n": {"S": namespace}},
    )
    found = [item for page in pages for item in page["Items"]]
    return [item for item in found if item["key"]["S"].startswith(ticket)]
