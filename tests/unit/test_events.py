"""The events that invoke SyncFunction, and the form of a sync request on the queue."""

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
REQUESTS = st.builds(
    SyncRequest,
    source=st.text(max_size=60),
    required=st.lists(st.text(max_size=20), max_size=10).map(tuple),
    sent_at=st.integers(0, 2**53),
    trigger=st.sampled_from(["webhook", "followup"]),
    delivery=st.text(max_size=60),
)


def one(body: object, **attributes: str) -> Message:
    """Parse one record of the queue's poller."""
    given = {"ApproximateReceiveCount": "1", "SentTimestamp": "0", **attributes}
    record = {"messageId": "m", "receiptHandle": "r", "body": body, "attributes": given}
    parsed = parse({"Records": [record]})
    assert isinstance(parsed, tuple)
    (message,) = parsed
    return message


@given(REQUESTS)
def test_request_round_trip(request: SyncRequest) -> None:
    """SyncFunction reads WebhookFunction's message, which has no character that SQS refuses."""
    message = request.message()
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 16_384
    assert one(message).request == request


def test_request_counts_from_later_clock() -> None:
    """The receiver's and the queue's clocks may differ: the later time is safe."""
    for sent_at, later in ((1_000, 2_000), (32_000, 32_000)):
        body = json.dumps({"source": "prod", "sent_at": sent_at, "trigger": "followup"})
        expected = SyncRequest("prod", sent_at=later, trigger="followup")
        assert one(body, SentTimestamp="2000").request == expected


@pytest.mark.parametrize("trigger", ["manual", "", None, 7])
def test_queue_cannot_send_manual_requests(trigger: object) -> None:
    """A queued request has a trigger of the queue; an unknown one counts as a webhook."""
    body = json.dumps({"source": "prod", "trigger": trigger, "allow_shrink": "0" * 64})
    assert one(body).request == SyncRequest("prod", trigger="webhook")


@pytest.mark.parametrize(("given", "receives"), [("3", 3), ("0", 1), ("many", 1), ("9" * 5_000, 1)])
def test_receive_count(given: str, receives: int) -> None:
    assert one("{}", ApproximateReceiveCount=given).receives == receives


def test_manual_request_and_schedule() -> None:
    """An operator names a source, with or without an allowance; the schedule has one form."""
    assert parse({"source": "prod"}) == Manual(SyncRequest("prod", trigger="manual"))
    allowed = parse({"source": "prod", "allow_shrink": "a" * 64})
    assert allowed == Manual(SyncRequest("prod", trigger="manual"), "a" * 64)
    assert parse({"schedule": True}) == Schedule()


@pytest.mark.parametrize("value", [True, None, "yes", "0" * 63, ["0" * 64]])
def test_invalid_digest(value: object) -> None:
    """An allowance that could have no effect is an error."""
    with pytest.raises(BadRequestError, match="64 characters of 0-9a-f"):
        parse({"source": "prod", "allow_shrink": value})


@pytest.mark.parametrize(
    "event", [[], None, {"Records": []}, {"schedule": False}, {"source": 7}, {"detail": {}}]
)
def test_unknown_event(event: Any) -> None:
    """The error lists the events that request a sync."""
    with pytest.raises(BadRequestError, match="events/ has one of each"):
        parse(event)


@given(st.dictionaries(FIELDS, JSON, max_size=4) | JSON)
def test_any_event_parses_or_is_a_bad_request(event: Any) -> None:
    with contextlib.suppress(BadRequestError):
        assert isinstance(parse(event), tuple | Manual | Schedule)


@given(JSON)
def test_any_body_parses(body: Any) -> None:
    """Whatever is on the queue, the other messages of its batch are served."""
    for text in (body, json.dumps(body), json.dumps({"source": "prod", "required": body})):
        request = one(text).request
        assert request is None or isinstance(request, SyncRequest)
