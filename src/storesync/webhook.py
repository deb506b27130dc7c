"""WebhookFunction: the only function that faces the internet.

It checks the signature or secret on the raw bytes and puts one message on the queue. It can
neither read nor write flags, and holds no provider credential.
"""

from __future__ import annotations

import base64
import json
import os
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storesync import providers
from storesync.errors import (
    BadRequestError,
    ConfigurationError,
    ParametersError,
    SignatureError,
    TooLargeError,
    UnknownSourceError,
    WebhookError,
)
from storesync.events import request_message
from storesync.initialization import connect, initialize
from storesync.model import SyncRequest, WebhookRequest
from storesync.observability import emit, logger
from storesync.retry import SystemClock, now_ms
from storesync.settings import WebhookSettings
from storesync.sources import WebhookConfigs

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

    from storesync.initialization import Job
    from storesync.model import Clock

MAX_BODY = 6_291_456
"""Bytes. What API Gateway can hand to a function: real webhooks carry all environments, twice."""

ROUTES = ("POST /webhooks/{source}", "POST /webhooks/{source}/{token}")
"""As in the template. A path would have a prefix behind a custom domain, or with a named stage."""

log = logger()


class Receiver:
    """Checks webhooks and requests syncs."""

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        ssm: SSMClient | None = None,
        sqs: SQSClient | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Make a receiver, on AWS except for what is given."""
        self._clock = clock or SystemClock()
        self._queue_url = settings.queue_url
        ssm = ssm or boto3.client("ssm", config=_config(attempts=1))  # Parameters tries again
        self._webhooks = WebhookConfigs(ssm, settings.parameter_prefix, self._clock, rng)
        self._sqs = sqs or boto3.client("sqs", config=_config(attempts=2))

    def init_jobs(self) -> tuple[Job, ...]:
        """Return what can be done before the first request."""
        return self._webhooks.load, partial(connect, self._sqs)

    def receive(self, source: str, event: Mapping[str, Any], token: str) -> int:
        """Check one webhook and put one message on the queue; return the status to respond.

        Raises:
            UnknownSourceError: if there is no such source.
            WebhookError: if it is not accepted.
            ConfigurationError: if its parameter is wrong.
            ParametersError: if the parameters cannot be read.
        """
        webhook = self._webhooks.get(source)
        provider = providers.get(webhook.provider)
        request = _request(event, token)
        provider.verify(request, webhook)
        required, delivery = provider.webhook_event(request, webhook)
        if required is None:
            log.info("acknowledged an event that concerns no flag", source=source)
            return provider.accepted_status
        sync_request = SyncRequest(source, required, now_ms(self._clock), "webhook", delivery)
        self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=request_message(sync_request))
        log.info("requested", source=source, required=required, delivery=delivery)
        emit(source, {"SyncRequests": 1})
        return provider.accepted_status


def _config(*, attempts: int) -> Config:
    # The function must respond by itself before its time is over, and the provider's patience.
    return Config(
        connect_timeout=1,
        read_timeout=2,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )


@cache
def receiver() -> Receiver:
    """Return the receiver of this process, made in INIT or at its first request."""
    return Receiver(WebhookSettings.from_env(os.environ))


def handler(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Handle one request of API Gateway's HTTP API (payload 2.0)."""
    gateway = _object(event, "requestContext")
    request_id = gateway.get("requestId")
    log.set_correlation_id(request_id if isinstance(request_id, str) else "")
    return response(receiver, event)


def response(make: Callable[[], Receiver], event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response to a request.

    The source and the token, which carries a secret, are taken as the gateway decoded them, not
    from the path, which is never logged.
    """
    parameters = _object(event, "pathParameters")
    source, token = parameters.get("source"), parameters.get("token", "")
    if event.get("routeKey") in ROUTES and isinstance(source, str) and isinstance(token, str):
        return _receive(make, source, event, token)
    return _not_found()


def _receive(
    make: Callable[[], Receiver], source: str, event: Mapping[str, Any], token: str
) -> dict[str, Any]:
    """Turn every outcome into a status; nothing that a stranger sends gives a 5xx."""
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
        # Whoever sent it cannot be told from a stranger, who must not learn which sources exist.
        _log("misconfigured", "Misconfigured", source, error)
        return _response(404, "not found")
    except (ParametersError, BotoCoreError, ClientError) as error:
        # The provider will hopefully come again; the schedule heals what it does not.
        _log("could not request a sync", "EnqueueFailures", source, error)
        return _response(503, "try again")
    except Exception:
        # A bug. Lambda prints what is raised, as it is: not what may quote a request.
        log.exception("unexpected", source=source)
        message = "unexpected: the line before has the traceback"
        raise RuntimeError(message) from None


def _not_found() -> dict[str, Any]:
    """Response what is no webhook; a stranger's names are in no log and make no metrics."""
    emit("", {"NotFound": 1})
    return _response(404, "not found")


def _log(what: str, metric: str, source: str, error: Exception) -> None:
    """Say what is wrong with this deployment; the metric is for an alarm, so it names no source."""
    log.error(what, source=source, problem=str(error))
    emit("", {metric: 1})


def _request(event: Mapping[str, Any], token: str) -> WebhookRequest:
    headers = {
        name.lower(): value
        for name, value in _object(event, "headers").items()
        if isinstance(value, str)
    }
    body = _body(event)
    if len(body) > MAX_BODY:
        message = f"the body is larger than {MAX_BODY} bytes"
        raise TooLargeError(message)
    return WebhookRequest(headers, body, token)


def _body(event: Mapping[str, Any]) -> bytes:
    text = event.get("body") or ""
    if not isinstance(text, str):
        message = "the body is not a text"
        raise BadRequestError(message)
    if not event.get("isBase64Encoded"):
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        message = "the body is not valid base64"
        raise BadRequestError(message) from error


def _object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object of the event; an empty one where the gateway leaves it out."""
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
