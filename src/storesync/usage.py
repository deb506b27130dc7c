"""UsageFunction: reports to the providers how often flags were evaluated.

It is invoked by

- CloudWatch Logs, through the subscription filters of functions that read flags:
  ``{"awslogs": {"data": …}}``, with usage lines (:mod:`storesync.usage_lines`) among other logs
- its queue: lines that could not be reported, and deliveries that Lambda gave up on

A line may come several times, so each is claimed in the table before it is reported; LaunchDarkly
itself recognizes what it has received before. A line that may have been counted is not sent
again, except to LaunchDarkly: a gap is better than a wrong number.

It logs no part of a line: if it were subscribed to its own log, it would never stop.
"""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import batched
from math import ceil
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from flagstore.clients import Client
from flagstore.codec import dumps
from flagstore.errors import FlagstoreError
from storesync import providers
from storesync.config import Sources, UsageSettings
from storesync.errors import BadRequestError, StoreSyncError, UnknownSourceError
from storesync.http import HttpClient, tls_context
from storesync.initialization import connect, initialize
from storesync.providers.base import Published
from storesync.retry import Deadline, SystemClock
from storesync.telemetry import emit, log, set_monitoring
from storesync.usage_lines import Line, parse, read_delivery
from storesync.usage_records import APP, DAY_S, UsageRecords, last_uses
from storesync.usage_report import LIMITS, RefusedError, Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from flagstore.snapshot import Snapshot
    from storesync.initialization import Job
    from storesync.model import Json, Source
    from storesync.usage_lines import AnyLine

LOG_GROUP = "AWS_LAMBDA_LOG_GROUP_NAME"
RESERVE_S = 3.0
"""Time reserved for putting lines on the queue, and for logs and metrics."""
RETRY_S, REFUSED_S, MAX_DELAY_S = 60, 900, 900
"""Pause of a message that failed for the first time, which doubles; of one that the provider
refused; SQS' maximum."""
MAX_APPS = 20
"""How many applications a run may announce: a browser's SDK may name any."""
MESSAGE_LINES = 15
"""Lines per message: each has up to 16 KB, and a message up to 256 KB."""


@dataclass(slots=True)
class Run:
    """One invocation."""

    deadline: Deadline
    pauses: dict[str, int] = field(default_factory=dict)
    """Source that cannot be reported now → seconds until another attempt."""


class Collector:
    """Reports the usage of this deployment's sources."""

    def __init__(self, settings: UsageSettings) -> None:
        """Create a collector that uses AWS."""
        self._settings = settings
        self._clock = SystemClock()
        self._http = HttpClient(LIMITS)
        self._sqs = boto3.client("sqs", config=_config())
        self._dynamodb = boto3.client("dynamodb", config=_config())
        ssm = boto3.client("ssm", config=_config(attempts=1))  # Parameters retries
        self._sources = Sources(ssm, settings.parameter_prefix, self._clock)
        self._records = UsageRecords(self._dynamodb, settings.table, self._clock)
        self._readers: dict[str, Client] = {}
        self._announced: dict[tuple[str, str], int] = {}
        """Source and application → the day on which it was last announced."""

    def init_jobs(self) -> tuple[Job, ...]:
        """Return the jobs that can run before the first event."""
        return self._sources.load, tls_context, partial(connect, self._dynamodb)

    # -- events -----------------------------------------------------------------------------------

    def delivery(self, delivery: Json, seconds: float) -> None:
        """Report the lines of one delivery; those that cannot be reported now go to the queue.

        Raises:
            BadRequestError: it is not a delivery of CloudWatch Logs.
        """
        run = self._run(seconds)
        for name, group in _by_source(_delivered(delivery)).items():
            if later := self._collect(run, name, group):
                self._keep(run, later)
                emit(name, {"UsageDelayed": sum(line.total() for line in later)})

    def queue(self, records: Sequence[Json], seconds: float) -> list[str]:
        """Report the lines of messages; return the ids of those that failed.

        Lines left of a message are queued as a new one, so that reported lines are not sent again.
        """
        run = self._run(seconds)
        failed = []
        for record in records:
            try:
                groups = _by_source(_message(record["body"]))
            except BadRequestError as error:
                log.error("unknown message", message_id=record["messageId"], problem=str(error))
                failed.append(record["messageId"])
                continue
            left = [
                line for name, group in groups.items() for line in self._collect(run, name, group)
            ]
            if 0 < len(left) < sum(map(len, groups.values())):
                self._keep(run, left)
            elif left:
                failed.append(record["messageId"])
                self._hide(record, max(run.pauses[line.source] for line in left))
        return failed

    def _keep(self, run: Run, lines: Sequence[AnyLine]) -> None:
        """Put lines on the queue."""
        for some in batched(lines, MESSAGE_LINES, strict=False):
            self._sqs.send_message(
                QueueUrl=self._settings.queue_url,
                MessageBody=dumps({"lines": [line.to_json() for line in some]}),
                DelaySeconds=max(run.pauses[line.source] for line in some),
            )

    def _run(self, seconds: float) -> Run:
        return Run(Deadline(self._clock, random.Random(), seconds))  # noqa: S311 - jitter

    def _hide(self, record: Json, at_least_s: int) -> None:
        receives = int(record["attributes"]["ApproximateReceiveCount"])
        seconds = max(RETRY_S * 2 ** min(receives - 1, 10), at_least_s)
        with suppress(BotoCoreError, ClientError):  # it only becomes visible later
            self._sqs.change_message_visibility(
                QueueUrl=self._settings.queue_url,
                ReceiptHandle=record["receiptHandle"],
                VisibilityTimeout=min(seconds, MAX_DELAY_S),
            )

    # -- one source -------------------------------------------------------------------------------

    def _collect(self, run: Run, name: str, lines: list[AnyLine]) -> list[AnyLine]:
        """Record and report the lines of one source; return those left for later."""
        if name in run.pauses:
            return lines
        try:
            source = self._sources.get(name)
            lines = [line for line in lines if line.provider == source.provider]
            lines = self._wanted(name, lines)
            published = self._published(source)
            seen = last_uses(lines)
            if source.store == "dynamodb":  # else anyone could add names
                seen = {
                    flag: times for flag, times in seen.items() if published.flag(flag) is not None
                }
            self._records.record_use(name, seen)
            return self._report(run, source, lines, published)
        except UnknownSourceError:
            # Anyone who can write to the log can write any name, which must not become a metric.
            log.warning("dropped usage of unknown sources", lines=len(lines))
            emit("", {"UsageUnknown": len(lines)})
            return []
        except (StoreSyncError, FlagstoreError) as error:
            self._postpone(run, name, error)
            return lines

    def _wanted(self, name: str, lines: list[AnyLine]) -> list[AnyLine]:
        """Return the lines with counts; those with keys of contexts only if they are collected."""
        if self._settings.events:
            return lines
        counts: list[AnyLine] = [line for line in lines if isinstance(line, Line)]
        if others := [line for line in lines if not isinstance(line, Line)]:
            problem = "dropped exposures and events: the stack's CollectUsage is not events"
            log.warning(problem, source=name, lines=len(others))
            emit(name, {"UsageLost": sum(line.total() for line in others)})
        return counts

    def _published(self, source: Source) -> Published:
        """Return the published set; an empty one for a source in Redis, which is not read.

        Raises:
            NotLoadedError: it cannot be read.
        """
        if source.store != "dynamodb":
            return Published(lambda _key: None, {})
        if source.name not in self._readers:
            replicas = self._settings.snapshot_replicas
            # By key: the snapshot then holds both versions of a gradual deployment.
            self._readers[source.name] = Client(source.name, replicas=replicas, rollout_by="key")
        snapshot = self._readers[source.name].snapshot()
        return Published(partial(_flag, snapshot), snapshot.meta)

    def _report(
        self, run: Run, source: Source, lines: Sequence[AnyLine], published: Published
    ) -> list[AnyLine]:
        """Post the lines that are new; return those left for later."""
        api = providers.get(source.provider).usage()
        oldest_s = self._clock.now() - min(
            (line.first for line in lines), default=self._clock.now()
        )
        metrics: dict[str, float] = {"UsageAgeSeconds": max(0.0, oldest_s)}
        if api is None:
            metrics["UsageEvaluations"] = sum(line.total() for line in lines)
            emit(source.name, metrics)
            return []
        reporter = Reporter(self._http, run.deadline, source, api, published)
        later: list[AnyLine] = []
        duplicates = 0
        for some in _batches(lines, api.max_lines):
            if reporter.error:
                later += some
                continue
            fresh = list(some) if api.repeatable else self._records.claim(source.name, some)
            duplicates += len(some) - len(fresh)
            left = reporter.post(fresh)
            if not api.repeatable:
                self._records.release(source.name, left)
            later += left
        if reporter.error:
            self._postpone(run, source.name, reporter.error)
        else:
            self._announce(reporter, {line.app for line in lines})
        counts = (reporter.reported, reporter.lost, duplicates)
        names = ("UsageEvaluations", "UsageLost", "UsageDuplicates")
        emit(source.name, metrics | {n: c for n, c in zip(names, counts, strict=True) if c})
        return later

    def _announce(self, reporter: Reporter, apps: set[str]) -> None:
        """List applications at the provider, once a day."""
        name, now = reporter.source.name, int(self._clock.now())
        day = now // DAY_S
        left = MAX_APPS if reporter.api.announces else 0
        for app in sorted(apps):
            if left and self._announced.get((name, app)) != day:
                self._announced[name, app] = day
                if self._records.claim_name(name, f"{APP}{day}:{app}"):
                    reporter.announce(app, now)
                    left -= 1

    def _postpone(self, run: Run, name: str, error: Exception) -> None:
        """Note that nothing more can be reported for a source in this run."""
        refused = isinstance(error, RefusedError)
        asked_s = ceil(getattr(error, "retry_after_s", None) or 0)
        run.pauses[name] = min(max(REFUSED_S if refused else RETRY_S, asked_s), MAX_DELAY_S)
        log.error("cannot report usage now", source=name, problem=str(error))
        if refused:
            emit(name, {"UsageRefused": 1})


def _flag(snapshot: Snapshot, key: str) -> Json | None:
    """Return a flag of either version, during a gradual deployment; None if there is none."""
    text = snapshot.held(snapshot.section_of(key), key)
    return None if text is None else json.loads(text)


def _batches(lines: Sequence[AnyLine], most: int) -> Iterator[tuple[AnyLine, ...]]:
    """Yield the lines to post together: some with counts, or one with exposures or events."""
    yield from batched((line for line in lines if isinstance(line, Line)), most, strict=False)
    yield from ((line,) for line in lines if not isinstance(line, Line))


def _by_source(lines: Sequence[AnyLine]) -> dict[str, list[AnyLine]]:
    groups: dict[str, list[AnyLine]] = defaultdict(list)
    for line in lines:
        groups[line.source].append(line)
    return groups


def _delivered(delivery: Json) -> list[AnyLine]:
    try:
        found, malformed = read_delivery(delivery, os.environ.get(LOG_GROUP, ""))
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    if malformed:
        log.warning("dropped malformed usage lines", lines=malformed)
        emit("", {"UsageMalformed": malformed})
    return found


def _message(text: str) -> list[AnyLine]:
    """Return the lines in a message: left over, or in a delivery that Lambda gave up on."""
    try:
        body = json.loads(text)
        if "requestPayload" in body:
            return _delivered(body["requestPayload"]["awslogs"])
        return [line for line in map(parse, body["lines"]) if line]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadRequestError("the message contains no usage: it becomes a dead letter") from error


def _config(*, attempts: int = 3) -> Config:
    return Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )


@cache
def collector() -> Collector:
    """Return the collector of this process, created in INIT or at its first event."""
    settings = UsageSettings.from_env(os.environ)
    set_monitoring(full=settings.full_monitoring)
    return Collector(settings)


def handler(event: dict[str, Any], context: LambdaContext) -> Json:
    """Handle a Lambda event: a delivery of CloudWatch Logs, or messages of the queue.

    Raises:
        BadRequestError: it is neither.
    """
    log.set_correlation_id(context.aws_request_id)
    seconds = context.get_remaining_time_in_millis() / 1000 - RESERVE_S
    if "awslogs" in event:
        collector().delivery(event["awslogs"], seconds)
        return None
    if isinstance(event.get("Records"), list):
        failed = collector().queue(event["Records"], seconds)
        return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}
    raise BadRequestError("this event is neither a delivery of CloudWatch Logs nor from the queue")


initialize(lambda: collector().init_jobs())
