"""What can invoke SyncFunction, told apart by shape. Pure.

- the queue: ``{"Records": [...]}``, each body a sync request as :func:`request_message` writes it,
or an
  event of AWS that a provider knows (:meth:`~storesync.providers.base.Provider.provider_event`)
- such an event itself, from EventBridge
- the schedule: ``{"schedule": true}``, which queues a sync request for every source
- a person: ``{"source": "prod"}``, with ``"allow_shrink": "<digest>"`` to allow a refused set
- a webhook event of API Gateway given directly, so that ``sam local invoke`` does the whole job.
  Only someone with ``lambda:InvokeFunction`` can send one, so it is trusted as a sync request.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storesync import providers
from storesync.errors import BadRequestError
from storesync.model import ProviderEvent, SyncRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DELAY_S = 900
"""SQS delays a message by at most 15 minutes."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the queue."""

    id: str
    receipt: str
    receives: int
    """How often it has been received, this time included."""
    request: SyncRequest | None
    """None: no sync request of ours."""
    provider_event: ProviderEvent | None = None
    """What it says instead; None as well: not a message of ours."""
    queued_at: int = 0
    """When it was sent, in milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Manual:
    """A sync request by a person."""

    request: SyncRequest
    allow_shrink: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A sync request for every source."""


Event = tuple[Message, ...] | Manual | Schedule | ProviderEvent


def request_message(request: SyncRequest) -> str:
    """Write a request as the body of a message. It carries no flag data and no webhook body."""
    return json.dumps(
        {
            "source": request.source,
            "required": list(request.required),
            "sent_at": request.sent_at,
            "trigger": request.trigger,
            "delivery": request.delivery,
        },
        separators=(",", ":"),
    )


def parse(event: object) -> Event:
    """Tell what invoked the function.

    Raises:
        BadRequestError: if it is none of the known shapes; the text lists them.
    """
    fields = _object(event)
    records, source = fields.get("Records"), fields.get("source")
    provider_event = providers.provider_event(fields)
    if provider_event is not None:
        return provider_event
    if isinstance(records, list) and records:
        return tuple(_message(_object(record)) for record in records)
    if fields.get("schedule") is True:
        return Schedule()
    if isinstance(source, str):
        return Manual(
            SyncRequest(source, trigger="manual"), _digest(fields.get("allow_shrink", ""))
        )
    source = _object(fields.get("pathParameters")).get("source")
    if isinstance(source, str):
        return Manual(SyncRequest(source, trigger="manual"))
    message = (
        'this event requests no sync: send {"schedule": true}, {"source": "<name>"}, '
        "an SQS batch or an API Gateway webhook event; events/ has one of each"
    )
    raise BadRequestError(message)


def _digest(value: object) -> str:
    """Return the digest that a person allows: what is no digest would silently allow nothing."""
    if isinstance(value, str) and (not value or _DIGEST.fullmatch(value)):
        return value
    message = '"allow_shrink" must be the digest that the refusal named: 64 characters of 0-9a-f'
    raise BadRequestError(message)


def _message(record: Mapping[str, Any]) -> Message:
    attributes = _object(record.get("attributes"))
    queued_at = _number(attributes.get("SentTimestamp"))
    body = _json(record.get("body"))
    provider_event = providers.provider_event(body)
    return Message(
        id=str(record.get("messageId", "")),
        receipt=str(record.get("receiptHandle", "")),
        receives=max(1, _number(attributes.get("ApproximateReceiveCount"))),
        request=_sync_request(body, queued_at) if provider_event is None else None,
        provider_event=provider_event,
        queued_at=queued_at,
    )


def _json(text: object) -> Mapping[str, Any]:
    """Read a JSON object; an empty one where it is none."""
    try:
        return _object(json.loads(text)) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}


def _sync_request(fields: Mapping[str, Any], queued_at: int) -> SyncRequest | None:
    source, required, sent_at = fields.get("source"), fields.get("required"), fields.get("sent_at")
    if not isinstance(source, str):
        return None
    texts = required if isinstance(required, list) else []
    trigger = str(fields.get("trigger", ""))
    return SyncRequest(
        source=source,
        required=tuple(text for text in texts if isinstance(text, str)),
        # A delayed sync request counts from when it was due, which is later than when it was sent.
        # For a webhook, the receiver's clock and the queue's say the same, and the later one is
        # safe.
        sent_at=max(queued_at, sent_at if isinstance(sent_at, int) else 0),
        trigger=trigger if trigger in {"followup", "schedule"} else "webhook",
        delivery=str(fields.get("delivery", "")),
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    """Read a number as SQS writes it; 0 where a record made by hand has none."""
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else 0
