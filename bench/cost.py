"""What a month costs, by formula: pure. Units are measured (P8), prices are AWS' list prices.

US dollars, us-east-1, on demand, without free tiers. docs/cost-and-capacity.md explains
the lines, and its table of costs is what this computes.
"""

from __future__ import annotations

from math import ceil, exp, factorial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

WRITE_UNIT = 0.625e-6
READ_UNIT = 0.125e-6
STORED_GB = 0.25
BACKUP_GB = 0.20
"""Point-in-time recovery, by the size of the table."""
LAMBDA_GB_S = 13.3334e-6
"""On arm64, as the template says."""
LAMBDA_CALL = 0.2e-6
HTTP_API_CALL = 1.0e-6
SQS_CALL = 0.4e-6
SCHEDULER_CALL = 1.0e-6
KMS_CALL = 3.0e-6
METRIC = 0.30
"""One custom metric that is written in every hour of the month."""
ALARM = 0.10
DASHBOARD = 3.00
LOGS_GB = 0.50
INTERNET_GB = 0.09
"""Sent from AWS to the internet, the first 10 TB of a month."""
FARGATE_VCPU_H = 0.04048
FARGATE_GB_H = 0.004445
APPCONFIG_CALL = 0.2e-6
APPCONFIG_RECEIVED = 800e-6

HOURS = 730
MONTH_S = HOURS * 3_600
MINUTES = HOURS * 60
TTL_S = 30.0
"""Between two questions of a warm reader: what the numbers of refreshes are for."""
SYNC_S = 1.0
"""One run of SyncFunction, its start included: generously."""
WEBHOOK_GB_S = 0.02
SQS_CALLS = 3
"""Sent, received, deleted."""
IDLE_POLLS = MONTH_S / 20 * 5
"""Empty receives of the poller: five long polls of 20 s at a time, whatever happens."""
SYNC_LOG_BYTES = 2_000
"""Of one check: a line, its metrics, and Lambda's own three lines."""
WEBHOOK_LOG_BYTES = 2_000
"""Of one webhook: metrics, Lambda's own lines, and the API's access log."""
SERVE_GB = 0.25
"""ServeFunction's memory."""
SERVE_LOG_BYTES = 1_000
"""Of one request: Lambda's own three lines, and the API's access log."""
SERVE_HEADER_BYTES = 500
"""Of one response, TLS included."""
CHECK_METRICS = 8
"""Metrics of a source that every check writes, with Monitoring=full."""
CHANGE_METRICS = 7
"""Metrics of a source that only a publication, or a webhook, writes, with Monitoring=full."""
STACK_METRICS: Mapping[str, int] = {"essential": 1, "full": 2}
"""Metrics over all sources that are written while all is well, by Monitoring."""
ALARMS: Mapping[str, int] = {"essential": 5, "full": 15}
"""By Monitoring."""
KEPT_VERSIONS = 15
"""Bodies in the history, at most: the last ten, and those that are kept for a day."""
FLAGS_USED = 20
"""By a function that reads row by row, as SDKs in daemon mode do; each row within 4 KB."""

FREE: Mapping[str, float] = {
    "Lambda": 1_000_000 * LAMBDA_CALL + 400_000 * LAMBDA_GB_S,
    "SQS": 1_000_000 * SQS_CALL,
    "EventBridge Scheduler": 14_000_000 * SCHEDULER_CALL,
    "KMS": 20_000 * KMS_CALL,
    "DynamoDB: storage and backups": 25 * STORED_GB,
    "CloudWatch: metrics": 10 * METRIC,
    "CloudWatch: alarms": 10 * ALARM,
    "CloudWatch: dashboard": 3 * DASHBOARD,
    "CloudWatch: logs": 5 * LOGS_GB,
}
"""What AWS does not bill an account each month, for good and not for a first year only."""
COLD = "DynamoDB: cold starts"


class Load(NamedTuple):
    """A month of one source, and of those who read it."""

    name: str
    flags: int
    changes: int
    """Webhooks that lead to a publication."""
    cold_starts: int
    refreshes: int
    """Of warm readers, each at most every 30 s."""


LOADS = (
    Load("small", 100, 300, 10_000, 500_000),
    Load("medium", 1_000, 3_000, 1_000_000, 20_000_000),
    Load("large", 5_000, 10_000, 10_000_000, 200_000_000),
)


class Units(NamedTuple):
    """What was counted for one size: DynamoDB's units, and bytes."""

    change_writes: float
    """Of a check that publishes one changed flag, with its row."""
    change_reads: float
    cold_reads: float
    """Of a cold reader, or of a warm one that has missed more changes than the state holds."""
    state_writes: float
    """Of the source state alone: of a fencing token, and of a check that finds nothing new."""
    held_changes: float
    """Changes of one flag each that the source state holds."""
    snapshot_writes: float
    """Of the snapshot record alone, within such a publication."""
    verify_writes: float
    """Of the check that verifies snapshot record and rows, once an hour."""
    verify_reads: float
    rows_bytes: float
    """Everything in the table but snapshot records and history."""
    snapshot_bytes: float


class Knobs(NamedTuple):
    """What changes the cost: parameters of the stack, and the reader's ``ttl_s``."""

    reconcile_minutes: float = 5
    follow_up: bool = True
    replicas: int = 1
    sync_mb: int = 512
    ttl_s: float = TTL_S
    monitoring: str = "essential"


DEFAULTS = Knobs()


class Cost(NamedTuple):
    """Dollars a month: what stands fast, and what each cold start adds."""

    fixed: float
    cold_start: float

    def of(self, cold_starts: float) -> float:
        """Return the sum."""
        return self.fixed + self.cold_start * cold_starts


class Flood(NamedTuple):
    """A month of requests that the HTTP API lets through: how many, and dollars."""

    requests: float
    calls: float
    """Of the HTTP API and WebhookFunction."""
    logs: float


def ours(load: Load, units: Units, knobs: Knobs = DEFAULTS) -> dict[str, float]:
    """Return what each service bills for one source, its readers included."""
    scheduled = MINUTES / knobs.reconcile_minutes
    follow_up = load.changes if knobs.follow_up else 0
    # One that queues the checks, and the check.
    runs = 2 * scheduled + load.changes + follow_up
    replicas = (knobs.replicas - 1) * units.snapshot_writes
    writes = (
        load.changes * (units.change_writes + replicas)
        + 2 * (scheduled + follow_up) * units.state_writes
        + HOURS * units.verify_writes
    )
    refreshes = load.refreshes * TTL_S / knobs.ttl_s
    stored = units.rows_bytes + (knobs.replicas + KEPT_VERSIONS) * units.snapshot_bytes
    hours = min(1.0, 60 / knobs.reconcile_minutes)
    changing = min(1.0, load.changes / HOURS)
    full = knobs.monitoring == "full"
    metrics = STACK_METRICS[knobs.monitoring]
    metrics += full * (CHECK_METRICS + CHANGE_METRICS * changing)
    logged = runs * SYNC_LOG_BYTES + load.changes * WEBHOOK_LOG_BYTES
    return {
        "HTTP API": load.changes * HTTP_API_CALL,
        "Lambda": (runs + load.changes) * LAMBDA_CALL
        + (runs * SYNC_S * knobs.sync_mb / 1024 + load.changes * WEBHOOK_GB_S) * LAMBDA_GB_S,
        "SQS": ((scheduled + load.changes + follow_up) * SQS_CALLS + IDLE_POLLS) * SQS_CALL,
        "EventBridge Scheduler": scheduled * SCHEDULER_CALL,
        # A webhook's secret and a provider's key, decrypted by those who start or look again.
        "KMS": (runs + load.changes) * KMS_CALL,
        "DynamoDB: writes": writes * WRITE_UNIT,
        "DynamoDB: reads of checks": READ_UNIT
        * (scheduled + load.changes * units.change_reads + HOURS * units.verify_reads),
        "DynamoDB: storage and backups": stored / 1e9 * (STORED_GB + BACKUP_GB),
        "DynamoDB: refreshes": refreshes * 0.5 * READ_UNIT,
        "DynamoDB: what refreshes load": reloads(load, units, knobs) * units.cold_reads * READ_UNIT,
        COLD: load.cold_starts * units.cold_reads * READ_UNIT,
        "CloudWatch: metrics": metrics * hours * METRIC,
        "CloudWatch: alarms": ALARMS[knobs.monitoring] * ALARM,
        "CloudWatch: dashboard": full * DASHBOARD,
        "CloudWatch: logs": logged / 1e9 * LOGS_GB,
    }


def deployment(minutes: float, units: Units, knobs: Knobs = DEFAULTS) -> float:
    """Return what a gradual deployment costs more than one for everybody at once.

    A check per minute, bake time included, and a second publication: readers read nothing more.
    """
    run = LAMBDA_CALL + SYNC_S * knobs.sync_mb / 1024 * LAMBDA_GB_S + KMS_CALL
    log = SYNC_LOG_BYTES / 1e9 * LOGS_GB
    check = run + log + SQS_CALLS * SQS_CALL + 2 * units.state_writes * WRITE_UNIT + READ_UNIT
    return minutes * check + units.change_writes * WRITE_UNIT


def flood(rate: float) -> Flood:
    """Return what requests that are all refused cost, so many a second for a month."""
    requests = rate * MONTH_S
    call = HTTP_API_CALL + LAMBDA_CALL + WEBHOOK_GB_S * LAMBDA_GB_S
    return Flood(requests, requests * call, requests * WEBHOOK_LOG_BYTES / 1e9 * LOGS_GB)


def served(requests: float, ms: float, sent: float) -> dict[str, float]:
    """Return the cost of requests to ServeFunction, of so many milliseconds and bytes each."""
    seconds = ceil(ms) / 1_000
    return {
        "HTTP API": requests * HTTP_API_CALL,
        "Lambda": requests * (LAMBDA_CALL + seconds * SERVE_GB * LAMBDA_GB_S),
        "CloudWatch: logs": requests * SERVE_LOG_BYTES / 1e9 * LOGS_GB,
        "transfer": requests * (sent + SERVE_HEADER_BYTES) / 1e9 * INTERNET_GB,
    }


def reloads(load: Load, units: Units, knobs: Knobs = DEFAULTS) -> float:
    """Return how many refreshes find more changes than the state holds: they come at random."""
    refreshes = load.refreshes * TTL_S / knobs.ttl_s
    rate = load.changes * knobs.ttl_s / MONTH_S
    held = range(int(units.held_changes) + 1)
    return refreshes * max(0.0, 1 - sum(exp(-rate) * rate**n / factorial(n) for n in held))


def summed(lines: Mapping[str, float], units: Units) -> Cost:
    """Return the lines as a sum that grows with cold starts."""
    fixed = sum(lines.values()) - lines[COLD]
    return Cost(fixed, units.cold_reads * READ_UNIT)


def billed(lines: Mapping[str, float]) -> float:
    """Return the sum beyond what AWS gives away, where nothing else in the account uses it."""
    return sum(max(0.0, cost - FREE.get(name, 0.0)) for name, cost in lines.items())


def relay(load: Load) -> Cost:
    """Return the cost of ld-relay on two Fargate tasks of 0.25 vCPU and 0.5 GB, with DynamoDB.

    It writes a changed flag alone; its readers read the flags that they use, each by itself.
    """
    tasks = 2 * HOURS * (0.25 * FARGATE_VCPU_H + 0.5 * FARGATE_GB_H)
    rows = FLAGS_USED * 0.5 * READ_UNIT
    return Cost(tasks + load.changes * WRITE_UNIT + load.refreshes * rows, rows)


def appconfig(load: Load) -> Cost:
    """Return what AppConfig bills for its calls: cold starts and changes receive a configuration.

    Starting a session is not counted.
    """
    received = load.refreshes * min(1.0, load.changes * TTL_S / MONTH_S) * APPCONFIG_RECEIVED
    return Cost(load.refreshes * APPCONFIG_CALL + received, APPCONFIG_CALL + APPCONFIG_RECEIVED)


def even(mine: Cost, theirs: Cost) -> str:
    """Return the number of cold starts a month from which the other costs less."""
    fixed, each = theirs.fixed - mine.fixed, mine.cold_start - theirs.cold_start
    if fixed * each <= 0:
        return "ours always costs less" if fixed > 0 else "ours always costs more"
    word = "less" if each > 0 else "more"
    return f"ours costs {word} up to about {about(fixed / each)} cold starts"


def about(number: float) -> str:
    """Write a number of one or more as people say it: with two figures."""
    rounded = float(f"{number:.2g}")
    millions = rounded / 1e6
    return f"{millions:,g} million" if millions >= 1 else f"{rounded:,g}"
