"""The generated tables of docs/cost.md, from ``bench/cost.py`` and what P8 has measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import cost
from bench.__main__ import KEPT
from bench.results import load
from tools.markdown import table

if TYPE_CHECKING:
    from collections.abc import Mapping

CENT = 0.005
KNOBS = (
    ("`ReconcileMinutes` 1 instead of 5", cost.Knobs(reconcile_minutes=1)),
    ("`ReconcileMinutes` 60", cost.Knobs(reconcile_minutes=60)),
    ("`ReconcileMinutes` 360", cost.Knobs(reconcile_minutes=360)),
    ("`ttl_s=5` in all readers instead of 30", cost.Knobs(ttl_s=5)),
    ("`ttl_s=120`", cost.Knobs(ttl_s=120)),
    ("`SnapshotReplicas` 3 instead of 1", cost.Knobs(replicas=3)),
    ("`FollowUpSyncSeconds` 0 instead of 30", cost.Knobs(follow_up=False)),
    ("`SyncMemorySize` 1024 instead of 512, runs as long as before", cost.Knobs(sync_mb=1024)),
    ("no alarms", cost.Knobs(alarms=0)),
)
DEFAULT_RATE = 20
"""Requests a second that the template lets through."""
RATES = (5, DEFAULT_RATE, 100)
"""Of a flood."""
PRICES = (
    ("DynamoDB, a million write units", f"${cost.WRITE_UNIT * 1e6:g}"),
    ("DynamoDB, a million read units", f"${cost.READ_UNIT * 1e6:g}"),
    ("DynamoDB, a GB-month stored, and backed up", f"${cost.STORED_GB:g} + ${cost.BACKUP_GB:g}"),
    ("Lambda on arm64, a million GB-s", f"${cost.LAMBDA_GB_S * 1e6:g}"),
    ("Lambda, a million calls", f"${cost.LAMBDA_CALL * 1e6:g}"),
    ("HTTP API, a million requests", f"${cost.HTTP_API_CALL * 1e6:g}"),
    ("SQS, a million requests", f"${cost.SQS_CALL * 1e6:g}"),
    ("EventBridge Scheduler, a million calls", f"${cost.SCHEDULER_CALL * 1e6:g}"),
    ("KMS, a million decryptions", f"${cost.KMS_CALL * 1e6:g}"),
    ("CloudWatch, a custom metric, an alarm, a dashboard", "$0.30, $0.10, $3"),
    ("CloudWatch, a GB of logs", f"${cost.LOGS_GB:g}"),
    ("Fargate, a vCPU-hour and a GB-hour", f"${cost.FARGATE_VCPU_H:g}, ${cost.FARGATE_GB_H:g}"),
    (
        "AppConfig, a million calls, a million configurations received",
        f"${cost.APPCONFIG_CALL * 1e6:g}, ${cost.APPCONFIG_RECEIVED * 1e6:g}",
    ),
)


def measured() -> dict[str, cost.Units]:
    """Return what P8 has measured, by the name of the load."""
    figures = load(KEPT)["P8"].figures
    return {name: cost.Units(**values) for name, values in figures.items()}


def tables() -> dict[str, str]:
    """Return the tables by name."""
    units = measured()
    return {
        "cost-sizes": _sizes(units),
        "cost-units": _units(units),
        "cost-knobs": _knobs(units["medium"]),
        "cost-flood": _flood(),
        "cost-prices": table(("list price, us-east-1", "US dollars"), PRICES),
    }


def money(dollars: float) -> str:
    """Write dollars as people read them."""
    if 0 < abs(dollars) < CENT:
        return "<$0.01"
    return f"${dollars:,.2f}"


def _count(number: float) -> str:
    return f"{number:,.{0 if number == int(number) else 1}f}"


def _sizes(units: Mapping[str, cost.Units]) -> str:
    loads = cost.LOADS
    lines = {load.name: cost.ours(load, units[load.name]) for load in loads}
    sums = {load.name: cost.summed(lines[load.name], units[load.name]) for load in loads}
    rows = [
        ["flags", *(f"{load.flags:,}" for load in loads)],
        ["changes", *(f"{load.changes:,}" for load in loads)],
        ["cold starts of readers", *(f"{load.cold_starts:,}" for load in loads)],
        ["refreshes of warm readers", *(f"{load.refreshes:,}" for load in loads)],
    ]
    rows += [
        [line, *(money(lines[load.name][line]) for load in loads)] for line in lines[loads[0].name]
    ]
    rows += [
        [
            "**sum**",
            *(f"**{money(sums[load.name].of(load.cold_starts))}**" for load in loads),
        ],
        ["after AWS' free allowance", *(money(cost.billed(lines[load.name])) for load in loads)],
        ["ld-relay on Fargate", *(money(cost.relay(load).of(load.cold_starts)) for load in loads)],
        [
            "AppConfig's calls",
            *(money(cost.appconfig(load).of(load.cold_starts)) for load in loads),
        ],
        [
            "against ld-relay",
            *(cost.even(sums[load.name], cost.relay(load)) for load in loads),
        ],
        [
            "against AppConfig",
            *(cost.even(sums[load.name], cost.appconfig(load)) for load in loads),
        ],
    ]
    return table(("a month", *(load.name for load in loads)), rows, right=True)


def _units(units: Mapping[str, cost.Units]) -> str:
    names = {
        "`W`, write units of a change of one flag, its row included": "change_writes",
        "read units of the same": "change_reads",
        "`H`, write units of one more replica of the snapshot record": "snapshot_writes",
        "`R`, read units of a cold reader": "cold_reads",
        "read units of the hourly check of snapshot record and rows": "verify_reads",
        "write units of the same": "verify_writes",
        "bytes of the rows": "rows_bytes",
        "bytes of the snapshot record": "snapshot_bytes",
    }
    rows = [
        [text, *(_count(getattr(units[load.name], name)) for load in cost.LOADS)]
        for text, name in names.items()
    ]
    headers = (f"{load.name}, {load.flags:,} flags" for load in cost.LOADS)
    return table(("counted", *headers), rows, right=True)


def _knobs(units: cost.Units) -> str:
    (load,) = (load for load in cost.LOADS if load.name == "medium")
    usual = _total(load, units, cost.DEFAULTS)
    rows = []
    for text, knobs in KNOBS:
        total = _total(load, units, knobs)
        sign = "+" if total > usual else "-"
        rows.append([text, money(total), f"{sign}{money(abs(total - usual))}"])
    return table(("medium, but with", "a month", f"against {money(usual)}"), rows, right=True)


def _flood() -> str:
    rows = []
    for rate in RATES:
        month = cost.flood(rate)
        figures = (month.calls, month.logs)
        rows.append(
            [
                f"{rate:,}{', the default' if rate == DEFAULT_RATE else ''}",
                cost.about(month.requests),
                *(f"${cost.about(figure)}" for figure in figures),
            ]
        )
    headers = ("`ThrottleRate`", "requests a month", "HTTP API and Lambda", "logs")
    return table(headers, rows, right=True)


def _total(load: cost.Load, units: cost.Units, knobs: cost.Knobs) -> float:
    return sum(cost.ours(load, units, knobs).values())
