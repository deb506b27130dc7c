"""The whole WebhookFunction in memory, for campaigns: parameters and queue are Python objects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from simulators.deployment import Context, ShiftedClock
from simulators.ssm import Ssm
from storesync import webhook
from storesync.config import WebhookSettings

if TYPE_CHECKING:
    import pytest

PREFIX = "/flagstore"


class Printed:
    """A stream that looks into each line, and keeps none."""

    def __init__(self, *canaries: str) -> None:
        self.lines = 0
        self._canaries = canaries

    def write(self, text: str) -> int:
        """See that a line is JSON and holds no secret."""
        for line in text.splitlines():
            self.lines += 1
            json.loads(line)
        for canary in self._canaries:
            assert canary not in text, f"a secret in what was printed: {text[:400]}"
        return len(text)

    def flush(self) -> None:
        pass


class Receiving:
    """A receiver with its parameters, its queue and its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, printed: Printed) -> None:
        self.ssm, self.clock = Ssm(), ShiftedClock()
        self.printed = printed
        self.requests: list[str] = []
        """The bodies of all messages on the queue."""
        clients: Any = {"ssm": self.ssm, "sqs": self}
        settings = WebhookSettings(PREFIX, "https://queue")
        receiver = webhook.Receiver(settings, **clients, clock=self.clock)
        monkeypatch.setattr(webhook, "receiver", lambda: receiver)
        monkeypatch.setattr(webhook.log.registered_handler, "stream", printed)
        monkeypatch.setattr("sys.stdout", printed)
        monkeypatch.setattr(webhook.log._logger, "level", 10)  # DEBUG
        monkeypatch.setattr(webhook.log._logger, "propagate", False)  # pytest would keep all lines

    def send_message(self, **message: str) -> None:
        self.requests.append(message["MessageBody"])

    def send(self, event: Any) -> tuple[int, str]:
        response = webhook.handler(event, Context())
        return response["statusCode"], response["body"]
