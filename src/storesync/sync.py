"""SyncFunction: turns sync requests into published flag sets.

Thin: it parses the event, runs the pipeline for each source, responds to the queue, and logs and
measures what happened.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import batched
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storesync import providers
from storesync.errors import StoreSyncError, is_retryable
from storesync.events import MAX_DELAY_S, Manual, Message, Schedule, parse, request_message
from storesync.http import HttpClient, HttpLimits, tls_context
from storesync.initialization import connect, initialize
from storesync.model import ProviderEvent, SyncRequest
from storesync.observability import logger
from storesync.pipeline import Sync
from storesync.redaction import redact
from storesync.reporting import record_error, record_report, record_schedule
from storesync.retry import Deadline, Limits, SystemClock, now_ms
from storesync.settings import SyncSettings
from storesync.sources import Sources
from storesync.stores import Stores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef
    from mypy_boto3_ssm import SSMClient

    from storesync.initialization import Job
    from storesync.model import Report
    from storesync.stores import OpenStore

RESERVE_S = 2.0
"""Left for responding the queue, logs and metrics when the function's time runs out."""
REDIS_CA_FILE = Path(__file__).parents[1] / "redis-ca.pem"
"""The only authorities to trust for Redis, where the file was packed (docs/redis.md)."""
PARALLEL = 32
"""Sources that are synced at once; each has the whole deadline."""
SCHEDULED = Limits(faults=1)
"""A scheduled check that fails has a successor anyway: a silent provider costs one time-out."""
STEP_S = 2.0
"""Between the scheduled checks of two sources; less where they would take half of the interval."""
STATE_S = 3.0
"""How long reading when a source was last checked may take."""
SQS_BATCH = 10
FOLLOWUP_SLACK_MS = 5_000
"""A follow-up also serves webhooks that came so much later: CDNs keep no exact time."""
RESERVED_MB, LEAST_PARSED_MB = 200, 50
"""What code, a response and its text take of the memory, and what parsing gets in any case."""
RETRY_S = 10
"""A failed message is visible again after so long, doubling; not after the queue's time-out."""

log = logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the sync requests of one source ended: a report, or what failed."""

    source: str
    report: Report | None = None
    error: Exception | None = None
    age_s: float | None = None
    """Of the last good check, where it is known."""
    delay_s: int | None = None
    """Seconds until the check that was queued instead."""

    @property
    def again(self) -> bool:
        """Whether the same sync requests should come again. Bugs do; refusals and 401 do not."""
        return self.error is not None and is_retryable(self.error)

    @property
    def wait_s(self) -> float:
        """Seconds that the provider asked to wait, where it did."""
        return getattr(self.error, "retry_after_s", None) or 0.0

    def to_json(self) -> dict[str, Any]:
        """Return what whoever invoked the function by hand reads."""
        if self.delay_s is not None:
            return {"source": self.source, "outcome": "queued", "delay_s": self.delay_s}
        if self.report is None:
            return {"source": self.source, "outcome": "failed", "error": redact(str(self.error))}
        report = self.report
        return {
            "source": report.source,
            "outcome": report.outcome,
            "token": report.token,
            "digest": report.digest,
            "counts": dict(report.counts),
            **report.changes.counts(),
            "fetches": report.fetches,
        }


class Syncer:
    """Runs the pipeline for the sources of this deployment."""

    def __init__(
        self,
        settings: SyncSettings,
        *,
        ssm: SSMClient | None = None,
        sqs: SQSClient | None = None,
        stores: Stores | None = None,
        rng: random.Random | None = None,
        memory_mb: int = 512,
    ) -> None:
        """Make a syncer, on AWS except for what is given."""
        self._settings = settings
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        parsed_mb = max(memory_mb - RESERVED_MB, LEAST_PARSED_MB)
        self._http_limits = HttpLimits(max_parsed_bytes=parsed_mb * 1024 * 1024)
        self._clock = SystemClock()
        self._stores = stores or Stores(
            boto3.client("dynamodb", config=_config()),
            settings.table,
            redis_ca_file=str(REDIS_CA_FILE) if REDIS_CA_FILE.is_file() else "",
        )
        self._sqs = sqs or boto3.client("sqs", config=_config())
        ssm = ssm or boto3.client("ssm", config=_config(attempts=1))  # Parameters tries again
        self._sources = Sources(ssm, settings.parameter_prefix, self._clock)
        self._followup_due: dict[str, int] = {}
        """When the last follow-up of a source is due that this process has left."""

    def init_jobs(self) -> tuple[Job, ...]:
        """Return what can be done before the first event."""
        clients = (self._stores.table_client, self._sqs)
        return self._sources.load, tls_context, *(partial(connect, client) for client in clients)

    def schedule(self, seconds: float) -> list[Outcome]:
        """Queue a check of every source, the longest unchecked first.

        What the queue does not take is checked here.
        """
        end = self._clock.monotonic() + seconds
        with ThreadPoolExecutor(PARALLEL) as pool:
            names = self._sources.names()
            checked = dict(zip(names, pool.map(self._checked_at, names), strict=True))
        names.sort(key=lambda name: checked[name])
        queued = self._queue_checks(names)
        rest = [[SyncRequest(name, trigger="schedule")] for name in names if name not in queued]
        outcomes = self._run(rest, end - self._clock.monotonic())
        now = now_ms(self._clock)
        ages = [(now - at) / 1000 if at else None for at in map(checked.get, queued)]
        record_schedule([outcome.age_s for outcome in outcomes] + ages)
        return [Outcome(name, delay_s=delay) for name, delay in queued.items()] + outcomes

    def manual(self, manual: Manual, seconds: float) -> Outcome:
        """Sync one source for an operator."""
        return self._sync([manual.request], seconds, manual)

    def provider_event(self, provider_event: ProviderEvent, seconds: float) -> list[Outcome]:
        """Sync the sources that an event of AWS is about."""
        requests = [[request] for request in self._requests_in(provider_event, now_ms(self._clock))]
        return self._run(requests, seconds)

    def queue(self, messages: Sequence[Message], seconds: float) -> list[Message]:
        """Serve a batch of messages: one sync a source. Return the messages that failed."""
        failed: list[Message] = []
        by_source: dict[str, list[tuple[Message, SyncRequest]]] = {}
        for message in messages:
            if self._is_outdated(message):
                continue
            requests = self._requests(message)
            if requests is None:
                failed.append(message)
            for request in requests or ():
                by_source.setdefault(request.source, []).append((message, request))
        self._set_retry_visibility(failed)
        groups = list(by_source.values())
        batches = [[request for _, request in group] for group in groups]
        for outcome, group, requests in zip(
            self._run(batches, seconds), groups, batches, strict=True
        ):
            if outcome.again:
                again = [
                    message
                    for message, request in group
                    if request.trigger != "schedule" and message not in failed
                ]
                failed += again
                self._set_retry_visibility(again, outcome.wait_s)
            elif outcome.report is not None:
                self._schedule_followup(outcome.report, requests)
        return failed

    def _is_outdated(self, message: Message) -> bool:
        """Return whether a scheduled check was tried before, or has a successor by now.

        A run that was cut off leaves its messages on the queue, and so does a function that must
        not run: they must neither pile up nor become dead letters.
        """
        request = message.request
        if request is None or request.trigger != "schedule":
            return False
        late_ms = now_ms(self._clock) - request.sent_at
        return message.receives > 1 or late_ms > 60_000 * self._settings.reconcile_minutes

    def _requests(self, message: Message) -> list[SyncRequest] | None:
        """Return what a message requests; None if it is none of ours, or nobody can tell now."""
        if message.request is not None:
            return [message.request]
        if message.provider_event is None:
            problem = "neither a sync request nor a provider event: it becomes a dead letter"
            log.error("a message that is none of ours", message_id=message.id, problem=problem)
            return None
        try:
            return self._requests_in(message.provider_event, message.queued_at)
        except StoreSyncError as error:
            log.warning(
                "cannot tell what an event is about: it comes again",
                message_id=message.id,
                problem=str(error),
            )
            return None

    def _requests_in(self, provider_event: ProviderEvent, sent_at: int) -> list[SyncRequest]:
        if provider_event.required is None:
            log.info("acknowledged an event that concerns no flag", about=provider_event.about)
            return []
        names = self._sources.matching_sources(provider_event)
        if not names:
            log.info(
                "acknowledged an event that is about no source here", about=provider_event.about
            )
        return [
            SyncRequest(name, provider_event.required, sent_at, "webhook", provider_event.delivery)
            for name in names
        ]

    def _run(self, requests: Sequence[list[SyncRequest]], seconds: float) -> list[Outcome]:
        if not requests:
            return []
        if len(requests) == 1:
            return [self._sync(requests[0], seconds)]
        with ThreadPoolExecutor(PARALLEL) as pool:
            end = self._clock.monotonic() + seconds
            return list(
                pool.map(lambda group: self._sync(group, end - self._clock.monotonic()), requests)
            )

    def _sync(
        self, requests: list[SyncRequest], seconds: float, manual: Manual | None = None
    ) -> Outcome:
        name = requests[0].source
        deadline = Deadline(self._clock, self._rng, seconds)
        store: OpenStore | None = None
        try:
            source = self._sources.get(name, fresh=manual is not None)
            store = self._stores.open(source, deadline)
            sync = Sync(
                source,
                providers.get(source.provider),
                store,
                http=HttpClient(self._http_limits),
                deadline=deadline,
                limits=SCHEDULED
                if {request.trigger for request in requests} == {"schedule"}
                else None,
                replicas=self._settings.snapshot_replicas,
                allow_shrink=manual.allow_shrink if manual else "",
            )
            outcome = Outcome(name, report=sync.run(requests))
        except StoreSyncError as error:
            outcome = Outcome(name, error=error)
        except Exception as error:  # a bug: this source's sync requests come again, others go on
            log.exception("unexpected", source=name)
            outcome = Outcome(name, error=error)
        now, age_s = now_ms(self._clock), None
        if outcome.report is not None:
            age_s = record_report(outcome.report, requests, store.resent if store else 0, now)
        elif outcome.error is not None:
            age_s = record_error(name, outcome.error, store, now)
        return replace(outcome, age_s=age_s)

    # -- the queue ------------------------------------------------------------------------------

    def _checked_at(self, name: str) -> int:
        """Return when a source was last checked; 0 if never, or if that cannot be known now."""
        deadline = Deadline(self._clock, self._rng, STATE_S)
        with suppress(StoreSyncError):
            return self._stores.open(self._sources.get(name), deadline).state(name).checked_at
        return 0

    def _queue_checks(self, names: Sequence[str]) -> dict[str, int]:
        """Queue checks one after the other; return the delay of each that the queue took."""
        queued: dict[str, int] = {}
        if not self._settings.queue_url:
            return queued
        half_s = 30 * self._settings.reconcile_minutes
        step_s = min(STEP_S, min(half_s, MAX_DELAY_S) / max(len(names), 1))
        delays = [int(step_s * (place + self._rng.random())) for place in range(len(names))]
        now = now_ms(self._clock)
        for some in batched(zip(names, delays, strict=True), SQS_BATCH, strict=False):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {
                    "Id": str(number),
                    "MessageBody": request_message(
                        SyncRequest(name, sent_at=now + 1000 * delay, trigger="schedule")
                    ),
                    "DelaySeconds": delay,
                }
                for number, (name, delay) in enumerate(some)
            ]
            try:
                response = self._sqs.send_message_batch(
                    QueueUrl=self._settings.queue_url, Entries=entries
                )
            except (BotoCoreError, ClientError) as error:
                log.warning("the queue takes no checks: they run here", problem=str(error))
                break
            queued |= dict(some[int(sent["Id"])] for sent in response.get("Successful", ()))
        return queued

    def _schedule_followup(self, report: Report, requests: Iterable[SyncRequest]) -> None:
        """Leave one delayed sync request: providers' CDNs lag behind their webhooks."""
        webhooks = [request for request in requests if request.trigger == "webhook"]
        delay = self._settings.followup_s
        if not (webhooks and delay and report.fetches and self._settings.queue_url):
            return
        unmet = (
            {required for request in webhooks for required in request.required}
            if report.behind
            else ()
        )
        due = now_ms(self._clock) + 1000 * delay
        last = self._followup_due.get(report.source, 0)
        if not report.behind and due < last + FOLLOWUP_SLACK_MS:
            return  # one a burst is enough
        request = SyncRequest(report.source, tuple(sorted(unmet)), due, "followup")
        try:
            self._sqs.send_message(
                QueueUrl=self._settings.queue_url,
                MessageBody=request_message(request),
                DelaySeconds=delay,
            )
            self._followup_due[report.source] = due
        except (BotoCoreError, ClientError) as error:
            log.warning(
                "no follow-up: what the provider's caches still hide comes with the schedule",
                source=report.source,
                problem=str(error),
            )

    def _set_retry_visibility(self, messages: Iterable[Message], at_least_s: float = 0.0) -> None:
        """Let failed messages come again soon, not after the queue's visibility time-out."""
        if not self._settings.queue_url:
            return
        for message in messages:
            seconds = max(RETRY_S * 2 ** min(message.receives - 1, 10), ceil(at_least_s))
            with suppress(BotoCoreError, ClientError):  # then they come later: nothing is lost
                self._sqs.change_message_visibility(
                    QueueUrl=self._settings.queue_url,
                    ReceiptHandle=message.receipt,
                    VisibilityTimeout=min(seconds, MAX_DELAY_S),
                )


def _config(*, attempts: int = 3) -> Config:
    # One layer of retries: botocore's for throttling, with short time-outs, since the pipeline
    # knows how much time is left.
    return Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=2 * PARALLEL,
    )


@cache
def syncer() -> Syncer:
    """Return the syncer of this process, made in INIT or at its first event."""
    memory_mb = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"))
    return Syncer(SyncSettings.from_env(os.environ), memory_mb=memory_mb)


def handler(event: dict[str, Any], context: LambdaContext) -> Any:  # noqa: ANN401 - by event
    """Handle a batch of the queue, the schedule, an event of AWS, or one given by hand."""
    log.set_correlation_id(context.aws_request_id)
    seconds = context.get_remaining_time_in_millis() / 1000 - RESERVE_S
    return response(syncer, event, seconds)


def response(make: Callable[[], Syncer], event: object, seconds: float) -> Any:  # noqa: ANN401 - by event
    """Let a syncer do what an event asks for, and return what whoever sent it reads."""
    parsed = parse(event)
    if isinstance(parsed, Schedule):
        return [outcome.to_json() for outcome in make().schedule(seconds)]
    if isinstance(parsed, Manual):
        return make().manual(parsed, seconds).to_json()
    if isinstance(parsed, ProviderEvent):
        return [outcome.to_json() for outcome in make().provider_event(parsed, seconds)]
    failed = make().queue(parsed, seconds)
    return {"batchItemFailures": [{"itemIdentifier": message.id} for message in failed]}


initialize(lambda: syncer().init_jobs())
