"""SyncFunction: turns sync requests into published flag sets.

It parses the event, runs the pipeline for each source, responds to the queue, and writes logs and
metrics. It can be invoked by

- the queue: ``{"Records": [...]}``, each body a sync request
  (:meth:`~storesync.model.SyncRequest.message`) or an EventBridge event of a provider
- such an EventBridge event itself
- the schedule: ``{"schedule": true}``, which queues a sync request for every source
- an operator: ``{"source": "prod"}``, with ``"allow_shrink": "<digest>"`` to allow a refused set
- a webhook event of API Gateway, directly, so that ``sam local invoke`` does the whole job. Sending
  one takes ``lambda:InvokeFunction``, so it is trusted like a sync request.
"""

from __future__ import annotations

import json
import os
import random
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import batched
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from flagstore.codec import dumps
from storesync import providers
from storesync.config import Sources, SyncSettings
from storesync.errors import (
    BadRequestError,
    OutOfTimeError,
    StoreError,
    StoreSyncError,
    is_retryable,
)
from storesync.http import HttpClient, HttpLimits, tls_context
from storesync.initialization import connect, initialize
from storesync.model import SQS_BATCH, ProviderEvent, SyncRequest
from storesync.pipeline import Sync
from storesync.retry import Deadline, Limits, SystemClock, now_ms
from storesync.store import Condition
from storesync.stores import Stores
from storesync.telemetry import (
    emit,
    log,
    record_error,
    record_report,
    record_schedule,
    redact,
    set_monitoring,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef
    from mypy_boto3_ssm import SSMClient

    from storesync.initialization import Job
    from storesync.model import Json, Report
    from storesync.store import Store

RESERVE_S = 2.0
"""Time reserved for the response to the queue, logs and metrics."""
REDIS_CA_FILE = Path(__file__).parents[1] / "redis-ca.pem"
"""The only authorities to trust for Redis, if the file was packed (docs/redis.md)."""
PARALLEL = 32
"""Maximum number of sources synced in parallel; each has the whole deadline."""
SCHEDULED = Limits(faults=1)
"""The next scheduled check retries anyway: a silent provider costs one timeout."""
STEP_S = 2.0
"""Between two sources' scheduled checks; less if all would take over half of the interval."""
STATE_S = 3.0
"""Time limit for reading when a source was last checked."""
MAX_DELAY_S = 900
"""SQS delays a message by at most 15 minutes."""
FOLLOWUP_SLACK_MS = 5_000
"""A follow-up also covers webhooks that arrive this much later: CDN delays vary."""
RESERVED_MB = 200
"""Memory for code, a response and its text; the rest is for parsing."""
RETRY_S = 10
"""Until a failed message is visible again; doubles. Replaces the queue's visibility timeout."""
ERROR_BYTES = 200
"""Maximum size of a message in the source state, which must stay below 4 KB with its deltas."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,15}")


# -- events


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the queue: a sync request, a provider event, or neither."""

    id: str
    receipt: str
    receives: int
    """How often it has been received, including this time."""
    request: SyncRequest | None
    provider_event: ProviderEvent | None = None
    queued_at: int = 0
    """Milliseconds since the epoch when it was sent."""


@dataclass(frozen=True, slots=True)
class Manual:
    """A sync request by an operator."""

    request: SyncRequest
    allow_shrink: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A sync request for every source."""


def parse(event: Json) -> tuple[Message, ...] | Manual | Schedule | ProviderEvent:
    """Parse the event that invoked the function.

    Raises:
        BadRequestError: it has no known shape; the message lists them.
    """
    fields = _object(event)
    records, source = fields.get("Records"), fields.get("source")
    if isinstance(records, list) and records:
        return tuple(map(_message, records))
    provider_event = providers.provider_event(fields)
    if provider_event is not None:
        return provider_event
    if fields.get("schedule") is True:
        return Schedule()
    allow_shrink: Any = ""
    if isinstance(source, str):
        allow_shrink = fields.get("allow_shrink", "")
    else:
        source = _object(fields.get("pathParameters")).get("source")
    if not isinstance(source, str):
        raise BadRequestError(
            'this event requests no sync: send {"schedule": true}, {"source": "<name>"}, an SQS '
            "batch, an API Gateway webhook event or AppConfig's event; events/ has one of each"
        )
    # Anything but a digest would silently have no effect.
    if not isinstance(allow_shrink, str) or (allow_shrink and not _DIGEST.fullmatch(allow_shrink)):
        raise BadRequestError(
            '"allow_shrink" must be the digest in the refusal: 64 characters of 0-9a-f'
        )
    return Manual(SyncRequest(source, trigger="manual"), allow_shrink)


def _message(record: Json) -> Message:
    record = _object(record)
    attributes = _object(record.get("attributes"))
    queued_at, receives = (
        int(text) if isinstance(text, str) and _NUMBER.fullmatch(text) else 0
        for text in map(attributes.get, ("SentTimestamp", "ApproximateReceiveCount"))
    )
    try:
        body = _object(json.loads(record.get("body", "")))
    except (TypeError, ValueError, RecursionError):
        body = {}
    # Every EventBridge event has a detail; no sync request has one.
    provider_event = providers.provider_event(body) if "detail" in body else None
    request = None
    if provider_event is None and isinstance(body.get("source"), str):
        required, sent_at = body.get("required"), body.get("sent_at")
        trigger = str(body.get("trigger", ""))
        request = SyncRequest(
            source=body["source"],
            required=tuple(
                each
                for each in (required if isinstance(required, list) else ())
                if isinstance(each, str)
            ),
            # A delayed sync request counts from when it is due, which is later than when it was
            # sent. For a webhook, either the receiver's or the queue's clock would do; the
            # later one is safe.
            sent_at=max(queued_at, sent_at if isinstance(sent_at, int) else 0),
            trigger=trigger if trigger in {"followup", "schedule"} else "webhook",
            delivery=str(body.get("delivery", "")),
        )
    return Message(
        id=str(record.get("messageId", "")),
        receipt=str(record.get("receiptHandle", "")),
        receives=max(1, receives),
        request=request,
        provider_event=provider_event,
        queued_at=queued_at,
    )


def _object(value: Json) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# -- syncing


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one source's sync requests: a report, an error, or queued."""

    source: str
    report: Report | None = None
    error: Exception | None = None
    age_s: float | None = None
    """Age of the last good check in seconds, if known."""
    delay_s: int | None = None
    """Delay in seconds of the check that was queued instead."""

    def to_json(self) -> dict[str, Any]:
        """Return the response for an operator who invoked the function."""
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
        memory_mb: int = 512,
    ) -> None:
        """Create a syncer that uses AWS, except for the given arguments."""
        self._settings = settings
        self._rng = random.Random()  # noqa: S311 - jitter
        self._http = HttpClient(HttpLimits(max_parsed_bytes=(memory_mb - RESERVED_MB) << 20))
        self._clock = SystemClock()
        self._stores = stores or Stores(
            boto3.client("dynamodb", config=_config()),
            settings.table,
            redis_ca_file=str(REDIS_CA_FILE) if REDIS_CA_FILE.is_file() else "",
        )
        self._sqs = sqs or boto3.client("sqs", config=_config())
        ssm = ssm or boto3.client("ssm", config=_config(attempts=1))  # Parameters retries
        self._sources = Sources(ssm, settings.parameter_prefix, self._clock)
        self._followup_due: dict[str, int] = {}
        """When the last queued follow-up of each source is due."""

    def init_jobs(self) -> tuple[Job, ...]:
        """Return the jobs that can run before the first event."""
        clients = (self._stores.table_client, self._sqs)
        return self._sources.load, tls_context, *(partial(connect, client) for client in clients)

    def schedule(self, seconds: float) -> list[Outcome]:
        """Queue a check of every source, the least recently checked first.

        Sources whose checks cannot be queued are checked here.
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

    def provider_event(self, event: ProviderEvent, seconds: float) -> list[Outcome]:
        """Sync the sources that an EventBridge event concerns."""
        requests = self._requests_of(event, now_ms(self._clock))
        return self._run([[request] for request in requests], seconds)

    def queue(self, messages: Sequence[Message], seconds: float) -> list[Message]:
        """Serve a batch of messages with one sync per source; return the messages that failed."""
        failed: list[Message] = []
        by_source: dict[str, list[tuple[Message, SyncRequest]]] = {}
        for message in messages:
            requests = self._requests(message)
            if requests is None:
                failed.append(message)
            for request in requests or ():
                by_source.setdefault(request.source, []).append((message, request))
        if failed:
            self._set_retry_visibility(failed)
        groups = list(by_source.values())
        batches = [[request for _, request in group] for group in groups]
        outcomes = self._run(batches, seconds)
        for outcome, group, batch in zip(outcomes, groups, batches, strict=True):
            if outcome.report is not None:
                self._schedule_followup(outcome.report, batch)
            # Bugs are retried, too; refusals and wrong keys are not.
            elif outcome.error is not None and is_retryable(outcome.error):
                lasting = [message for message, each in group if each.trigger != "schedule"]
                again = [message for message in lasting if message not in failed]
                failed += again
                self._set_retry_visibility(again, getattr(outcome.error, "retry_after_s", None))
        return failed

    def _requests(self, message: Message) -> list[SyncRequest] | None:
        """Return the sync requests in a message; None if it is invalid or must be retried."""
        request = message.request
        if request is not None:
            late_ms = now_ms(self._clock) - request.sent_at
            # A scheduled check that was tried before, or has a successor by now, is dropped:
            # interrupted or throttled runs leave their messages on the queue, which must neither
            # pile up nor become dead letters.
            outdated = request.trigger == "schedule" and (
                message.receives > 1 or late_ms > 60_000 * self._settings.reconcile_minutes
            )
            return [] if outdated else [request]
        if message.provider_event is None:
            problem = "neither a sync request nor a provider event: it becomes a dead letter"
            log.error("unknown message", message_id=message.id, problem=problem)
            return None
        try:
            return self._requests_of(message.provider_event, message.queued_at)
        except StoreSyncError as error:
            problem = "cannot find the sources of a provider event: will retry"
            log.warning(problem, message_id=message.id, problem=str(error))
            return None

    def _requests_of(self, event: ProviderEvent, sent_at: int) -> list[SyncRequest]:
        names = self._sources.matching_sources(event)
        if not names:
            log.info("acknowledged an event that matches no source", about=event.about)
        return [
            SyncRequest(name, event.required, sent_at, "webhook", event.delivery) for name in names
        ]

    def _run(self, batches: Sequence[list[SyncRequest]], seconds: float) -> list[Outcome]:
        if len(batches) <= 1:
            return [self._sync(batch, seconds) for batch in batches]
        with ThreadPoolExecutor(PARALLEL) as pool:
            end = self._clock.monotonic() + seconds
            return list(
                pool.map(lambda batch: self._sync(batch, end - self._clock.monotonic()), batches)
            )

    def _sync(
        self, requests: list[SyncRequest], seconds: float, manual: Manual | None = None
    ) -> Outcome:
        name = requests[0].source
        deadline = Deadline(self._clock, self._rng, seconds)
        triggers = {request.trigger for request in requests}
        store = None
        try:
            source = self._sources.get(name, fresh=manual is not None)
            store = self._stores.open(source, deadline)
            report = Sync(
                source,
                providers.get(source.provider),
                store,
                http=self._http,
                deadline=deadline,
                limits=SCHEDULED if triggers == {"schedule"} else None,
                replicas=self._settings.snapshot_replicas,
                allow_shrink=manual.allow_shrink if manual else "",
                queue_check=self._queue_check,
            ).run(requests)
        except Exception as error:  # noqa: BLE001 - this source's requests are retried, others go on
            if not isinstance(error, StoreSyncError):
                log.exception("unexpected", source=name)
            return Outcome(name, error=error, age_s=self._record_error(name, error, store))
        else:
            age_s = record_report(report, requests, store.resent, now_ms(self._clock))
            return Outcome(name, report=report, age_s=age_s)
        finally:
            if "schedule" in triggers and store is not None and source.drain:
                from storesync.drain import drain  # noqa: PLC0415 - for few sources

                drain(source, store, self._http, deadline)

    def _record_error(self, name: str, error: Exception, store: Store | None) -> float | None:
        """Log and record a failed sync; return the snapshot's age if it is known.

        The message is stored for ``storesync status``, until the next completed check.
        """
        reason = record_error(name, error)
        known = isinstance(error, StoreSyncError)
        if store is None or not known or isinstance(error, (StoreError, OutOfTimeError)):
            return None  # the store failed, or time ran out
        with suppress(StoreSyncError):
            now, state = now_ms(self._clock), store.state(name)
            text = redact(str(error)).encode(errors="replace")[:ERROR_BYTES]
            note = dumps([now, reason, text.decode(errors="ignore")])
            with suppress(StoreSyncError):
                store.commit(name, Condition(token=state.token), {"error": note})
            if state.checked_at:
                age_s = max(0.0, (now - state.checked_at) / 1000)
                emit(name, {"SyncAgeSeconds": age_s})
                return age_s
        return None

    # -- the queue

    def _checked_at(self, name: str) -> int:
        """Return when a source was last checked; 0 if never or unknown."""
        deadline = Deadline(self._clock, self._rng, STATE_S)
        with suppress(StoreSyncError):
            return self._stores.open(self._sources.get(name), deadline).state(name).checked_at
        return 0

    def _queue_checks(self, names: Sequence[str]) -> dict[str, int]:
        """Queue checks at intervals; return the delay of each queued one."""
        queued: dict[str, int] = {}
        if not self._settings.queue_url:
            return queued
        half_s = 30 * self._settings.reconcile_minutes
        step_s = min(STEP_S, min(half_s, MAX_DELAY_S) / max(len(names), 1))
        delays = [int(step_s * (place + self._rng.random())) for place in range(len(names))]
        now = now_ms(self._clock)
        for some in batched(zip(names, delays, strict=True), SQS_BATCH, strict=False):
            entries: list[SendMessageBatchRequestEntryTypeDef] = []
            for number, (name, delay) in enumerate(some):
                body = SyncRequest(name, sent_at=now + 1000 * delay, trigger="schedule").message()
                entries.append({"Id": str(number), "MessageBody": body, "DelaySeconds": delay})
            try:
                url = self._settings.queue_url
                response = self._sqs.send_message_batch(QueueUrl=url, Entries=entries)
            except (BotoCoreError, ClientError) as error:
                log.warning("cannot queue checks: they run here", problem=str(error))
                break
            queued |= dict(some[int(sent["Id"])] for sent in response.get("Successful", ()))
        return queued

    def _schedule_followup(self, report: Report, requests: Iterable[SyncRequest]) -> None:
        """Queue one delayed sync request: providers' CDNs lag behind their webhooks."""
        webhooks = [request for request in requests if request.trigger == "webhook"]
        delay = self._settings.followup_s
        if not (webhooks and delay and report.fetches and self._settings.queue_url):
            return
        due = now_ms(self._clock) + 1000 * delay
        unmet: set[str] = set()
        if report.behind:
            unmet = {required for request in webhooks for required in request.required}
        elif due < self._followup_due.get(report.source, 0) + FOLLOWUP_SLACK_MS:
            return  # one per burst is enough
        problem = (
            "no follow-up: the schedule will find changes that the provider's caches still hide"
        )
        if self._send(SyncRequest(report.source, tuple(sorted(unmet)), due, "followup"), problem):
            self._followup_due[report.source] = due

    def _queue_check(self, source: str, due: int) -> bool:
        """Queue the next check of a gradual deployment; return whether that succeeded."""
        problem = "no further check of a gradual deployment: the schedule will continue"
        request = SyncRequest(source, (), due, "followup")
        return bool(self._settings.queue_url) and self._send(request, problem)

    def _send(self, request: SyncRequest, problem: str) -> bool:
        """Queue a request until it is due; log the problem if that fails."""
        delay = max(0, min(MAX_DELAY_S, ceil((request.sent_at - now_ms(self._clock)) / 1000)))
        try:
            self._sqs.send_message(
                QueueUrl=self._settings.queue_url,
                MessageBody=request.message(),
                DelaySeconds=delay,
            )
        except (BotoCoreError, ClientError) as error:
            log.warning(problem, source=request.source, problem=str(error))
            return False
        return True

    def _set_retry_visibility(
        self, messages: Iterable[Message], at_least_s: float | None = None
    ) -> None:
        """Make failed messages visible soon, not after the queue's visibility timeout."""
        if not self._settings.queue_url:
            return
        for message in messages:
            seconds = max(RETRY_S * 2 ** min(message.receives - 1, 10), ceil(at_least_s or 0.0))
            with suppress(BotoCoreError, ClientError):  # they only become visible later
                self._sqs.change_message_visibility(
                    QueueUrl=self._settings.queue_url,
                    ReceiptHandle=message.receipt,
                    VisibilityTimeout=min(seconds, MAX_DELAY_S),
                )


def _config(*, attempts: int = 3) -> Config:
    # Short timeouts, since the pipeline knows how much time is left.
    return Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=2 * PARALLEL,
    )


@cache
def syncer() -> Syncer:
    """Return the syncer of this process, created in INIT or at its first event."""
    memory_mb = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"))
    settings = SyncSettings.from_env(os.environ)
    set_monitoring(full=settings.full_monitoring)
    return Syncer(settings, memory_mb=memory_mb)


def handler(event: dict[str, Any], context: LambdaContext) -> Json:
    """Handle a Lambda event; the response depends on its kind."""
    log.set_correlation_id(context.aws_request_id)
    seconds = context.get_remaining_time_in_millis() / 1000 - RESERVE_S
    return respond(syncer, event, seconds)


def respond(make: Callable[[], Syncer], event: Json, seconds: float) -> Json:
    """Handle an event with a syncer, and return the response as JSON."""
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
