"""What can invoke SyncFunction, told apart by shape. Pure.

- the queue: ``{"Records": [...]}``, each body a ring as :func:`ring_message` writes it
- the schedule: ``{"schedule": true}``, a ring for every source
- a person: ``{"source": "prod"}``, with ``"allow_shrink": "<digest>"`` to allow a refused set
- a webhook event of API Gateway given directly, so that ``sam local invoke`` does the whole job.
  Only someone with ``lambda:InvokeFunction`` can send one, so it is trusted as a ring.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storesync.errors import BadRequestError
from storesync.model import Ring

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
    ring: Ring | None
    """None: not a message of ours."""


@dataclass(frozen=True, slots=True)
class Manual:
    """A ring by a person."""

    ring: Ring
    allow_shrink: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A ring for every source."""


Event = tuple[Message, ...] | Manual | Schedule


def ring_message(ring: Ring) -> str:
    """Write a ring as the body of a message. It carries no flag data and no webhook body."""
    return json.dumps(
        {
            "source": ring.source,
            "wanted": list(ring.wanted),
            "sent_at": ring.sent_at,
            "trigger": ring.trigger,
            "delivery": ring.delivery,
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
    if isinstance(records, list) and records:
        return tuple(_message(_object(record)) for record in records)
    if fields.get("schedule") is True:
        return Schedule()
    if isinstance(source, str):
        return Manual(Ring(source, trigger="manual"), _digest(fields.get("allow_shrink", "")))
    source = _object(fields.get("pathParameters")).get("source")
    if isinstance(source, str):
        return Manual(Ring(source, trigger="manual"))
    message = (
        'this event rings nothing: send {"schedule": true}, {"source": "<name>"}, '
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
    return Message(
        id=str(record.get("messageId", "")),
        receipt=str(record.get("receiptHandle", "")),
        receives=max(1, _number(attributes.get("ApproximateReceiveCount"))),
        ring=_ring(record.get("body"), _number(attributes.get("SentTimestamp"))),
    )


def _ring(body: object, queued_at: int) -> Ring | None:
    try:
        fields = _object(json.loads(body)) if isinstance(body, str) else {}
    except (ValueError, RecursionError):
        return None
    source, wanted, sent_at = fields.get("source"), fields.get("wanted"), fields.get("sent_at")
    if not isinstance(source, str):
        return None
    texts = wanted if isinstance(wanted, list) else []
    return Ring(
        source=source,
        wanted=tuple(text for text in texts if isinstance(text, str)),
        # A trailing ring counts from when it was due, which is later than when it was sent. For
        # a webhook, the receiver's clock and the queue's say the same, and the later one is safe.
        sent_at=max(queued_at, sent_at if isinstance(sent_at, int) else 0),
        trigger="trailing" if fields.get("trigger") == "trailing" else "webhook",
        delivery=str(fields.get("delivery", "")),
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    """Read a number as SQS writes it; 0 where a record made by hand has none."""
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else 0
