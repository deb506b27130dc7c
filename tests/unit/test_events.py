"""Telling apart what invoked SyncFunction, and the form of a sync request on the queue."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storesync.errors import BadRequestError
from storesync.model import SyncRequest
from storesync.sync import Manual, Message, Schedule, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["Records", "schedule", "source", "allow_shrink", "pathParameters", "body", "attributes"]
)
EVENTS = st.dictionaries(FIELDS, JSON, max_size=4) | JSON
REQUESTS = st.builds(
    SyncRequest,
    source=st.text(max_size=60),
    required=st.lists(st.text(max_size=20), max_size=10).map(tuple),
    sent_at=st.integers(0, 2**53),
    trigger=st.sampled_from(["webhook", "followup"]),
    delivery=st.text(max_size=60),
)


def record(body: object, **attributes: str) -> dict[str, Any]:
    """Make a record of the queue's poller."""
    given = {"ApproximateReceiveCount": "1", "SentTimestamp": "0", **attributes}
    return {"messageId": "m", "receiptHandle": "r", "body": body, "attributes": given}


def one(body: object, **attributes: str) -> Message:
    """Parse one record."""
    parsed = parse({"Records": [record(body, **attributes)]})
    assert isinstance(parsed, tuple)
    (message,) = parsed
    return message


@given(REQUESTS)
def test_a_request_survives_the_queue(request: SyncRequest) -> None:
    """What WebhookFunction writes, SyncFunction reads."""
    assert one(request.message()).request == request


@given(REQUESTS)
def test_a_request_is_small_and_ascii(request: SyncRequest) -> None:
    """SQS refuses some characters and more than 256 KiB; a sync request has neither."""
    message = request.message()
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 16_384


def test_a_request_counts_from_the_later_clock() -> None:
    """The receiver's clock and the queue's may differ: the later moment is the safe one."""
    early, late = json.dumps({"source": "prod", "sent_at": 1_000}), "2000"
    assert one(early, SentTimestamp=late).request == SyncRequest("prod", sent_at=2_000)
    due = json.dumps({"source": "prod", "sent_at": 32_000, "trigger": "followup"})
    assert one(due, SentTimestamp=late).request == SyncRequest(
        "prod", sent_at=32_000, trigger="followup"
    )


def test_a_queue_cannot_claim_to_be_a_person() -> None:
    """Only triggers of the queue come from it; an unknown one is the one that promises most."""
    for trigger in ("manual", "", None, 7):
        request = one(
            json.dumps({"source": "prod", "trigger": trigger, "allow_shrink": "0" * 64})
        ).request
        assert request == SyncRequest("prod", trigger="webhook")


@pytest.mark.parametrize(
    ("attributes", "receives"),
    [
        ({"ApproximateReceiveCount": "3"}, 3),
        ({"ApproximateReceiveCount": "0"}, 1),
        ({"ApproximateReceiveCount": "many"}, 1),
        ({"ApproximateReceiveCount": "9" * 5_000}, 1),
    ],
)
def test_receipts_are_counted(attributes: dict[str, str], receives: int) -> None:
    """How often a message has come decides how soon it comes again."""
    assert one("{}", **attributes).receives == receives


def test_a_person_names_a_source() -> None:
    """A sync request by hand, with and without an allowance."""
    assert parse({"source": "prod"}) == Manual(SyncRequest("prod", trigger="manual"))
    allowed = parse({"source": "prod", "allow_shrink": "a" * 64})
    assert allowed == Manual(SyncRequest("prod", trigger="manual"), "a" * 64)


def test_the_schedule_is_a_request_for_all() -> None:
    """EventBridge Scheduler sends exactly this."""
    assert parse({"schedule": True}) == Schedule()


@given(EVENTS)
def test_any_event_is_understood_or_a_clear_error(event: Any) -> None:
    """No shape of an event makes another error."""
    with contextlib.suppress(BadRequestError):
        assert isinstance(parse(event), tuple | Manual | Schedule)


@given(JSON)
def test_any_body_is_a_request_or_none(body: Any) -> None:
    """Whatever is on the queue, the other messages of its batch are served."""
    for text in (body, json.dumps(body), json.dumps({"source": "prod", "required": body})):
        request = one(text).request
        assert request is None or isinstance(request, SyncRequest)
