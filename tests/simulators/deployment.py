"""The two functions in this process, on an emulated AWS endpoint: their needs and their output."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSResponse

from flagstore.keys import SourceState, state_key
from storesync.stores.dynamodb import from_item

from .launchdarkly import SIGNATURE_HEADER, sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pytest

# Each is unique, so that a test can look for it in everything that was printed.
SECRET = "canary-webhook-secret-0001"
OLD_SECRET = "canary-webhook-secret-0000"
TOKEN = "canary-token-in-the-path-0002"
KEY = "canary-provider-key-0003"
CLIENT_SECRET = "canary-client-secret-0007"
BODY_CANARY = "canary-in-the-body-0004"
HEADER_CANARY = "canary-in-a-header-0005"
ENVIRONMENT_CANARY = "canary-in-the-environment-0006"
MAX_RECEIVES = 9
CANARIES = (
    *(SECRET, OLD_SECRET, TOKEN, KEY, BODY_CANARY, HEADER_CANARY, ENVIRONMENT_CANARY),
    CLIENT_SECRET,
)


class Context:
    aws_request_id = "00000000-0000-4000-8000-00000000cafe"

    def __init__(self, seconds: float = 60.0) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(1000 * (self._end - time.monotonic()))


class ShiftedClock:
    """The machine's clock, advanced by all sleeps instead of waiting."""

    def __init__(self) -> None:
        self._shift = 0.0
        self._lock = Lock()

    def now(self) -> float:
        return time.time() + self._shift

    def monotonic(self) -> float:
        return time.monotonic() + self._shift

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._shift += seconds

    sleep = advance


@dataclass(frozen=True)
class Metrics:
    dimensions: dict[str, str]
    values: dict[str, float]
    units: dict[str, str]


class Output:
    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self._out = ""
        self._err = ""

    @property
    def text(self) -> str:
        captured = self._capture.readouterr()
        self._out += captured.out
        self._err += captured.err
        return self._out + self._err

    def forget(self) -> None:
        """Start over, after checking for secrets."""
        self.check()
        self._out = self._err = ""

    def check(self) -> None:
        """Fail if a secret was printed, or a line is not JSON."""
        found = [canary for canary in CANARIES if canary in self.text]
        assert not found, f"{found} in what was printed"
        assert not self._err
        assert self.lines is not None

    @property
    def lines(self) -> list[dict[str, Any]]:
        _ = self.text
        return [json.loads(line) for line in self._out.split("\n") if line]

    @property
    def logs(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "_aws" not in line]

    @property
    def emf(self) -> list[dict[str, Any]]:
        """The lines that are metrics, as CloudWatch reads them."""
        return [line for line in self.lines if "_aws" in line]

    @property
    def metrics(self) -> list[Metrics]:
        return [_metrics(line) for line in self.emf]

    def sums(self, **dimensions: str) -> dict[str, float]:
        """Return name → sum of the metrics with at least these dimensions."""
        sums: dict[str, float] = {}
        for line in self.metrics:
            if dimensions.items() <= line.dimensions.items():
                for name, value in line.values.items():
                    sums[name] = sums.get(name, 0) + value
        return sums


def _metrics(line: Mapping[str, Any]) -> Metrics:
    directive = line["_aws"]["CloudWatchMetrics"][0]  # a second one has totals, for alarms
    assert directive["Namespace"] == "Flagstore"
    (names,) = directive["Dimensions"]
    units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    values = {name: line[name][0] if isinstance(line[name], list) else line[name] for name in units}
    return Metrics({name: line[name] for name in names}, values, units)


class Calls:
    """Records every call of an SDK client, and fails those to a service that is down."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.down: dict[str, str] = {}
        """Service → the code of the error that it responds with."""
        self.slow: dict[str, Callable[[], None]] = {}
        """Service → what lets time pass at each of its calls."""

    def attach(self, events: Any) -> None:
        events.register("before-parameter-build", self._note)
        events.register("before-send", self._response)

    def clear(self) -> None:
        self.made.clear()
        self.down.clear()
        self.slow.clear()

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [parameters for name, parameters in self.made if name == operation]

    def _note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.made.append((model.name, dict(params)))

    def _response(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        service = event_name.split(".")[1]
        self.slow.get(service, lambda: None)()
        if service not in self.down:
            return None
        headers = {"content-type": "application/x-amz-json-1.0"}
        response = AWSResponse(request.url, 400, headers, None)
        error = {"__type": self.down[service], "message": "simulated"}
        response._content = json.dumps(error).encode()
        return response


@dataclass
class Deployment:
    """What one stack has, and what a test reads from it."""

    prefix: str
    queue_url: str
    dlq_url: str
    clients: Mapping[str, Any]
    table: str = ""

    @property
    def sqs(self) -> Any:
        return self.clients["sqs"]

    def put(self, path: str, value: object) -> None:
        """Write a parameter; a text as it is, anything else as JSON."""
        text = value if isinstance(value, str) else json.dumps(value)
        kind = "String" if path.startswith("sources/") else "SecureString"
        self.clients["ssm"].put_parameter(
            Name=f"{self.prefix}/{path}", Value=text, Type=kind, Overwrite=True
        )

    def remove(self, path: str) -> None:
        self.clients["ssm"].delete_parameter(Name=f"{self.prefix}/{path}")

    def put_source(
        self, name: str, provider: str, url: str, key: str, *, redis: str = "", **more: Any
    ) -> None:
        """Configure a source of a provider that runs here, over plain http; *redis*: a URL."""
        public = {"provider": provider, "allow_http": True, **more}
        secret = {"provider": provider, "key": key, "base_url": url}
        self.put(f"sources/{name}", public | ({"store": "redis"} if redis else {}))
        self.put(f"credentials/{name}", secret | ({"store_url": redis} if redis else {}))

    def put_webhook(self, name: str, provider: str, *secrets: str, **more: Any) -> None:
        self.put(f"webhooks/{name}", {"provider": provider, "secrets": secrets or [SECRET], **more})

    def put_client(self) -> None:
        """Configure a server that is a client of ServeFunction, for the source ``prod``."""
        key = {"source": "prod", "kind": "server", "secrets": [CLIENT_SECRET]}
        self.put("clients/app", key)

    def send(self, *bodies: object) -> None:
        """Put messages on the queue; a text as it is, anything else as JSON."""
        for body in bodies:
            text = body if isinstance(body, str) else json.dumps(body)
            self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=text)

    def receive(self, url: str = "") -> list[dict[str, Any]]:
        """Take what is on the queue, as records of an event; it stays in flight."""
        response = self.sqs.receive_message(
            QueueUrl=url or self.queue_url,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
        )
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "eventSource": "aws:sqs",
            }
            for message in response.get("Messages", [])
        ]

    def requests(self) -> list[dict[str, Any]]:
        found = []
        while records := self.receive():
            found += [json.loads(record["body"]) for record in records]
            self.acknowledge(records)
        return found

    def run_schedule(self, invoke: Callable[[Any], Any]) -> Any:
        """Run the schedule, then hand over what it queued as the poller does."""
        response = invoke({"schedule": True})
        while records := self.receive():
            assert invoke(batch(*records)) == {"batchItemFailures": []}
            self.acknowledge(records)
        return response

    def acknowledge(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=record["receiptHandle"])

    def waiting(self) -> dict[str, int]:
        names = {
            "due": "ApproximateNumberOfMessages",
            "delayed": "ApproximateNumberOfMessagesDelayed",
            "in flight": "ApproximateNumberOfMessagesNotVisible",
        }
        response = self.sqs.get_queue_attributes(
            QueueUrl=self.queue_url, AttributeNames=list(names.values())
        )
        return {short: int(response["Attributes"][name]) for short, name in names.items()}

    def items(self) -> list[dict[str, Any]]:
        """Return all that is stored but the source states: what readers and people look at."""
        items = self.clients["dynamodb"].scan(TableName=self.table)["Items"]
        kept = [item for item in items if not item["namespace"]["S"].endswith(":$state")]
        return sorted(kept, key=lambda item: (item["namespace"]["S"], item["key"]["S"]))

    def state(self, source: str) -> SourceState:
        key = {name: {"S": text} for name, text in state_key(source)._asdict().items()}
        item = self.clients["dynamodb"].get_item(TableName=self.table, Key=key)["Item"]
        return SourceState.from_record(from_item(item))

    def flags(self, source: str, namespace: str = "features") -> set[str]:
        mine = f"{source}:{namespace}"
        return {item["key"]["S"] for item in self.items() if item["namespace"]["S"] == mine}


def request(
    source: str,
    body: bytes | str = b"",
    headers: Mapping[str, str] | None = None,
    *,
    token: str = "",
    encode: bool = False,
) -> dict[str, Any]:
    """Make a request as an HTTP API hands it to a function (payload format 2.0)."""
    raw = body.encode() if isinstance(body, str) else body
    parameters = {"source": source} | ({"token": token} if token else {})
    return {
        "version": "2.0",
        "routeKey": "POST /webhooks/{source}" + ("/{token}" if token else ""),
        "rawPath": "/webhooks/" + "/".join(parameters.values()),
        "headers": {"content-type": "application/json", **(headers or {})},
        "pathParameters": parameters,
        "requestContext": {"requestId": "request-1"},
        "body": base64.b64encode(raw).decode() if encode else raw.decode(),
        "isBase64Encoded": encode,
    }


def signed(source: str, body: bytes, secret: str = SECRET, *, encode: bool = False) -> Any:
    return request(source, body, {SIGNATURE_HEADER.lower(): sign(body, secret)}, encode=encode)


def batch(*records: Mapping[str, Any]) -> dict[str, Any]:
    return {"Records": list(records)}


def sync_request(source: str, **more: Any) -> dict[str, Any]:
    sent_at = int(time.time() * 1000)
    return {"source": source, "required": [], "sent_at": sent_at, "trigger": "webhook", **more}
