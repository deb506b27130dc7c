"""Both functions in this process, without AWS: a file for SSM, memory for queue and store."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, cast

from storesync import sync, webhook
from storesync.cli.memory import MemoryStore
from storesync.settings import SyncSettings, WebhookSettings
from storesync.stores.opened import Stores

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from flagstore.keys import Key, Record
    from storesync.deadline import Deadline
    from storesync.model import Source
    from storesync.stores.opened import OpenStore

PREFIX = "/local"
QUEUE = "local"
SECONDS = 60.0


class Parameters:
    """As much of SSM as the functions use, over one file's object."""

    def __init__(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        self._values = values

    def get_parameters_by_path(self, *, Path: str, **_: object) -> dict[str, Any]:  # noqa: N803 - boto3's
        """Return the parameters of one path."""
        found = self._values.get(Path.rpartition("/")[2], {})
        return {
            "Parameters": [
                {"Name": f"{Path}/{name}", "Value": text(value)} for name, value in found.items()
            ]
        }


class Queue:
    """As much of SQS as the functions use."""

    def __init__(self) -> None:
        self.http_bodies: list[str] = []

    def send_message(self, *, MessageBody: str, **_: object) -> dict[str, Any]:  # noqa: N803 - boto3's
        """Keep a message."""
        self.http_bodies.append(MessageBody)
        return {}

    def change_message_visibility(self, **_: object) -> dict[str, Any]:
        """Do nothing: nobody polls."""
        return {}

    def batch(self) -> dict[str, Any]:
        """Return what was sent as the event of the queue's poller."""
        records = [{"messageId": str(n), "body": body} for n, body in enumerate(self.http_bodies)]
        return {"Records": records}


class MemoryStores(Stores):
    """One store in memory a source."""

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}

    def open(self, source: Source, deadline: Deadline) -> OpenStore:
        """Return the store of a source."""
        del source, deadline  # the keys tell sources apart, and memory takes no time
        return cast("OpenStore", MemoryStore(self.records))


class LocalDeployment:
    """One deployment of both functions in this process."""

    def __init__(self, values: Mapping[str, Mapping[str, Any]], log: TextIO) -> None:
        """Make one; *log* gets what the functions print: their metrics."""
        self._log = log
        ssm = cast("Any", Parameters(values))
        self.queue = Queue()
        sqs = cast("Any", self.queue)
        self.stores = MemoryStores()
        self._syncer = sync.Syncer(
            SyncSettings(PREFIX, queue_url="", table=QUEUE, followup_s=0, snapshot_replicas=1),
            ssm=ssm,
            sqs=sqs,
            stores=self.stores,
        )
        self._receiver = webhook.Receiver(WebhookSettings(PREFIX, QUEUE), ssm=ssm, sqs=sqs)

    def webhook(self, event: dict[str, Any]) -> dict[str, Any]:
        """Let WebhookFunction response; what it prints, the log gets."""
        with redirect_stdout(self._log):
            return webhook.response(lambda: self._receiver, event)

    def sync(self, event: object) -> Any:  # noqa: ANN401 - by event
        """Let SyncFunction response; what it prints, the log gets."""
        with redirect_stdout(self._log):
            return sync.response(lambda: self._syncer, event, SECONDS)


def text(value: object) -> str:
    """Return a parameter's text; a file may hold it as an object as well."""
    return value if isinstance(value, str) else json.dumps(value)
