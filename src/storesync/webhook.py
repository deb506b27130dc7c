"""WebhookFunction, which faces the internet.

It verifies the signature or secret on the raw bytes and puts one message on the queue for each
source that the event concerns. It can neither read nor write flags, and holds no provider
credential.
"""

from __future__ import annotations

import base64
import json
import os
from functools import cache, partial
from itertools import batched
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storesync import providers
from storesync.config import WebhookConfigs, WebhookSettings
from storesync.errors import (
    BadRequestError,
    ConfigurationError,
    ParametersError,
    SignatureError,
    TooLargeError,
    UnknownSourceError,
    WebhookError,
)
from storesync.initialization import connect, initialize
from storesync.model import SQS_BATCH, SyncRequest, WebhookRequest
from storesync.providers.base import json_object
from storesync.retry import SystemClock, now_ms
from storesync.telemetry import emit, log, set_monitoring

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef
    from mypy_boto3_ssm import SSMClient

    from storesync.initialization import Job
    from storesync.model import Clock

MAX_BODY = 6_291_456
"""Bytes. Maximum size that API Gateway passes on: real webhooks carry all environments, twice."""

ROUTES = ("POST /webhooks/{source}", "POST /webhooks/{source}/{token}")
"""As in the template. Behind a custom domain, or with a named stage, a path has a prefix."""


class Receiver:
    """Verifies webhooks and requests syncs."""

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        ssm: SSMClient | None = None,
        sqs: SQSClient | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Create a receiver that uses AWS, except for the given arguments."""
        self._clock = clock or SystemClock()
        self._queue_url = settings.queue_url
        ssm = ssm or boto3.client("ssm", config=_config(attempts=1))  # Parameters retries
        self._webhooks = WebhookConfigs(ssm, settings.parameter_prefix, self._clock, rng)
        self._sqs = sqs or boto3.client("sqs", config=_config(attempts=2))

    def init_jobs(self) -> tuple[Job, ...]:
        """Return the jobs that can run before the first request."""
        return self._webhooks.load, partial(connect, self._sqs)

    def receive(self, name: str, event: Mapping[str, Any], token: str) -> int:
        """Verify one webhook and queue a sync request for each source that it concerns.

        Return the HTTP status.

        Raises as :meth:`WebhookConfigs.get` does, and WebhookError if it is not accepted.
        """
        webhook = self._webhooks.get(name)
        provider = providers.get(webhook.provider)
        request = _request(event, token)
        provider.verify(request, webhook)
        body, now, requests = json_object(request.body), now_ms(self._clock), []
        for source, options in webhook.sources.items():
            required, delivery = provider.webhook_event(body, options)
            if required is not None:
                requests.append(SyncRequest(source, required, now, "webhook", delivery))
        if not requests:
            log.info("acknowledged an event that concerns no flags", source=name)
        for some in batched(requests, SQS_BATCH, strict=False):
            self._send(some)
        return provider.accepted_status

    def _send(self, requests: Sequence[SyncRequest]) -> None:
        entries: list[SendMessageBatchRequestEntryTypeDef] = [
            {"Id": str(number), "MessageBody": each.message()}
            for number, each in enumerate(requests)
        ]
        response = self._sqs.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
        failed = response.get("Failed", [])
        lost = {entry["Id"] for entry in failed}
        for number, each in enumerate(requests):
            if str(number) not in lost:
                log.info(
                    "requested", source=each.source, required=each.required, delivery=each.delivery
                )
                emit(each.source, {"SyncRequests": 1})
        if failed:
            code, message = failed[0]["Code"], failed[0].get("Message", "")
            raise ClientError({"Error": {"Code": code, "Message": message}}, "SendMessageBatch")


def _config(*, attempts: int) -> Config:
    # The function must respond before it times out, and before the provider gives up.
    return Config(
        connect_timeout=1,
        read_timeout=2,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )


@cache
def receiver() -> Receiver:
    """Return the receiver of this process, created in INIT or at its first request."""
    settings = WebhookSettings.from_env(os.environ)
    set_monitoring(full=settings.full_monitoring)
    return Receiver(settings)


def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Handle one request of API Gateway's HTTP API (payload 2.0)."""
    log.set_correlation_id(str(_object(event, "requestContext").get("requestId", "")))
    return respond(receiver, event)


def respond(make: Callable[[], Receiver], event: Mapping[str, Any]) -> dict[str, Any]:
    """Handle a request with a receiver, and return the response.

    The path is never logged, since the token carries a secret.
    """
    parameters = _object(event, "pathParameters")
    source, token = parameters.get("source"), parameters.get("token", "")
    if event.get("routeKey") in ROUTES and isinstance(source, str) and isinstance(token, str):
        return _receive(make, source, event, token)
    return _not_found()


def _receive(
    make: Callable[[], Receiver], source: str, event: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """Turn every outcome into a status; nothing in a request itself causes a 5xx."""
    try:
        receiver = make()
    except ConfigurationError as error:
        _log("misconfigured", "Misconfigured", source, error)
        return _response(503, "not configured")
    try:
        return _response(receiver.receive(source, event, token))
    except UnknownSourceError:
        return _not_found()
    except WebhookError as error:
        log.warning("refused a webhook", source=source, status=error.status, reason=str(error))
        name = "SignatureFailures" if isinstance(error, SignatureError) else "BadRequests"
        emit(source, {name: 1})
        return _response(error.status, str(error))
    except ConfigurationError as error:
        # Unauthenticated senders must not learn which sources exist.
        _log("misconfigured", "Misconfigured", source, error)
        return _response(404, "not found")
    except (ParametersError, BotoCoreError, ClientError) as error:
        # The provider may retry; if it does not, the schedule finds the change.
        _log("could not request a sync", "EnqueueFailures", source, error)
        return _response(503, "try again")
    except Exception:  # noqa: BLE001 - logged, and raised again without its message
        # A bug. Lambda prints the exception unredacted, and its message may quote a request.
        log.exception("unexpected", source=source)
        raise RuntimeError("unexpected: the previous log line has the traceback") from None


def _not_found() -> dict[str, Any]:
    """Respond with 404; names from strangers are neither logged nor put into metrics."""
    emit("", {"NotFound": 1})
    return _response(404, "not found")


def _log(message: str, metric: str, source: str, error: Exception) -> None:
    """Log a problem of this deployment; the metric is for an alarm, so it names no source."""
    log.error(message, source=source, problem=str(error))
    emit("", {metric: 1})


def _request(event: Mapping[str, Any], token: str) -> WebhookRequest:
    text = event.get("body") or ""
    if not isinstance(text, str):
        raise BadRequestError("the body is not a string")
    try:
        if event.get("isBase64Encoded"):
            body = base64.b64decode(text, validate=True)
        else:
            body = text.encode("utf-8", "surrogatepass")
    except ValueError as error:
        raise BadRequestError("the body is not valid base64") from error
    if len(body) > MAX_BODY:
        raise TooLargeError(f"the body is larger than {MAX_BODY} bytes")
    given = _object(event, "headers")
    headers = {name.lower(): value for name, value in given.items() if isinstance(value, str)}
    return WebhookRequest(headers, body, token)


def _object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object of the event; empty if the gateway omits it."""
    value = values.get(name)
    return value if isinstance(value, dict) else {}


def _response(status: int, error: str = "") -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"error": error} if error else {"ok": True}),
        "isBase64Encoded": False,
    }


initialize(lambda: receiver().init_jobs())
