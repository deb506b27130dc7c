"""Usage as UsageFunction receives it: lines that readers print, delivered by CloudWatch Logs."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from flagstore import Client
from storesync import usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOUR = 1_795_874_400
"""The beginning of an hour, in seconds."""
_numbers = itertools.count(1)


def line(flags: Mapping[str, Any], provider: str = "launchdarkly", **more: Any) -> str:
    """Return a line about a source ``prod``, with an id of its own."""
    fields = {
        "flagstore.usage": 1,
        "id": f"line{next(_numbers):07d}",
        "s": "prod",
        "p": provider,
        "v": 7,
        "n": "checkout",
        "a": HOUR + 100,
        "b": HOUR + 160,
        "f": flags,
        **more,
    }
    return json.dumps(fields, separators=(",", ":"))


def event_line(marker: str, *entries: Any) -> str:
    """Return a line of Split's exposures or events, all of one key, with an id of its own."""
    head = {marker: 1, "id": f"line{next(_numbers):07d}", "s": "prod", "p": "split", "v": 7}
    return json.dumps({**head, "n": "checkout", "c": [{"key": "ada"}], "e": entries})


def delivery(*messages: str, at: float = HOUR + 170, **more: Any) -> dict[str, Any]:
    """Return the event of messages that were logged at a time, in seconds."""
    document = {
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": "/aws/lambda/checkout",
        "logStream": "2026/11/29/[$LATEST]0123",
        "subscriptionFilters": ["usage"],
        "logEvents": [
            {"id": str(number), "timestamp": int(1000 * at), "message": message}
            for number, message in enumerate(messages)
        ],
        **more,
    }
    data = gzip.compress(json.dumps(document).encode(), 1)
    return {"awslogs": {"data": base64.b64encode(data).decode()}}


@contextmanager
def closed_readers() -> Iterator[None]:
    """Close the connections with which UsageFunction has read flags, at the end."""
    with ExitStack() as opened:

        def reader(*arguments: Any, **options: Any) -> Client:
            client = Client(*arguments, **options)
            opened.callback(client.close)
            return client

        with patch.object(usage, "Client", reader):
            yield
