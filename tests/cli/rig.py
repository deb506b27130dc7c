"""A deployment in the stand-in, a provider that runs here, and the command line around them."""

from __future__ import annotations

import json
import os
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from click.testing import CliRunner

from flagstore.keys import Key, SourceState, state_key
from storesync.cli.__main__ import storesync
from storesync.stores.dynamodb import from_item, to_item

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest

    from flagstore.keys import Record
    from local.stand_in import StandIn

ADMIN_TOKEN = "admin-token"
REPOSITORY = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    code: int
    out: str
    err: str


@dataclass
class Rig:
    aws: StandIn
    folder: Path
    environ: dict[str, str]

    @property
    def prefix(self) -> str:
        return self.environ["FLAGSTORE_PARAMETER_PREFIX"]

    def run(
        self, *arguments: str, env: Mapping[str, str | None] | None = None, typed: str = ""
    ) -> Done:
        """Run a command in this process, with a stdin that is not a terminal."""
        # What a command sets for its own process is restored, too.
        environ: dict[str, str | None] = dict.fromkeys([*os.environ, "AWS_PROFILE"], None)
        environ |= {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        environ |= {**self.environ, **(env or {})}
        runner = CliRunner()
        result = runner.invoke(storesync, arguments, typed, environ, catch_exceptions=False)
        return Done(result.exit_code, result.stdout, result.stderr)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with ``--json``, and return the document that it prints."""
        done = self.run(*arguments, "--json")
        assert done.code == code, done
        return json.loads(done.out)

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def add(self, name: str, provider: Any, *more: str) -> Done:
        """Add a source of a provider that runs here; of AppConfig, by its options."""
        kind = type(provider).__name__.removesuffix("Simulator").lower()
        if kind == "appconfig":
            known = [f"--option={each}={text}" for each, text in provider.options.items()]
        else:
            known = ["--key-file", self.file("key", provider.sdk_key)]
        address = ("--base-url", provider.url, "--allow-http")
        return self.run("source", "add", name, "--provider", kind, *known, *address, *more)

    def parameter(self, path: str) -> Any:
        ssm = self.aws.client("ssm")
        response = ssm.get_parameter(Name=f"{self.prefix}/{path}", WithDecryption=True)
        return json.loads(response["Parameter"]["Value"])

    def put_parameter(self, path: str, value: object) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self.aws.client("ssm").put_parameter(
            Name=f"{self.prefix}/{path}", Value=text, Type="SecureString", Overwrite=True
        )

    def parameters(self) -> set[str]:
        response = self.aws.client("ssm").get_parameters_by_path(Path=self.prefix, Recursive=True)
        return {each["Name"].removeprefix(self.prefix + "/") for each in response["Parameters"]}

    def requests(self) -> list[str]:
        """Take the sync requests off the queue, and return their sources."""
        sqs, url = self.aws.client("sqs"), self.environ["FLAGSTORE_QUEUE_URL"]
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"])["source"] for message in found]

    def leave_dead_letter(self) -> None:
        url = self.environ["FLAGSTORE_DLQ_URL"]
        self.aws.client("sqs").send_message(QueueUrl=url, MessageBody="{}")

    def record(self, key: Key) -> Record | None:
        response = self.aws.client("dynamodb").get_item(
            TableName=self.environ["FLAGSTORE_TABLE"], Key=to_item(key._asdict())
        )
        return from_item(response["Item"]) if "Item" in response else None

    def change(self, key: Key, **values: Any) -> None:
        """Change attributes of a record, even if others write it too."""
        record = {**(self.record(key) or {}), **values}
        table = self.environ["FLAGSTORE_TABLE"]
        self.aws.client("dynamodb").put_item(TableName=table, Item=to_item(record))

    def state(self) -> SourceState:
        """Return the source state of ``prod``."""
        return SourceState.from_record(self.record(state_key("prod")) or {})


@contextmanager
def deployed(aws: StandIn, table: str, folder: Path) -> Iterator[Rig]:
    """Give a deployment without sources."""
    name, sqs = uuid.uuid4().hex, aws.client("sqs")
    queue, dlq = (
        sqs.create_queue(QueueName=f"{kind}-{name}")["QueueUrl"] for kind in ("requests", "dlq")
    )
    environ = {
        **aws.environment,
        "FLAGSTORE_TABLE": table,
        "FLAGSTORE_PARAMETER_PREFIX": f"/flagstore/{name}",
        "FLAGSTORE_QUEUE_URL": queue,
        "FLAGSTORE_DLQ_URL": dlq,
        "FLAGSTORE_WEBHOOK_BASE_URL": "https://webhooks.example/webhooks",
        "FLAGSTORE_SERVE_BASE_URL": "https://serve.example/api",
    }
    yield Rig(aws, folder, environ)
    for url in (queue, dlq):
        sqs.delete_queue(QueueUrl=url)


class Admin:
    """The part of a provider's own API that manages webhooks, over a simulator."""

    def __init__(
        self, provider: Any, monkeypatch: pytest.MonkeyPatch, token: str = ADMIN_TOKEN
    ) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.webhooks: list[dict[str, Any]] = []
        self.status = 200
        self._token = token
        self._response = provider.response
        monkeypatch.setattr(provider, "response", self.response)

    def response(self, request: Any) -> tuple[int, bytes, dict[str, str]]:
        """Serve the API, or what the provider serves otherwise."""
        if "/addons" not in request.path and "/webhooks" not in request.path:
            found: tuple[int, bytes, dict[str, str]] = self._response(request)
            return found
        if self.status != 200 or request.headers["authorization"] != self._token:
            status = self.status if self.status != 200 else 401
            return status, b"{}", {"location": "/elsewhere"}
        body = json.loads(request.body) if request.body else None
        self.calls.append((request.method, request.path, body))
        if request.method == "GET":
            return 200, json.dumps({"addons": self.webhooks, "items": self.webhooks}).encode(), {}
        if request.method == "POST":
            self.webhooks.append({"id": 7, "_id": "7", **body})
        return 200, b"{}", {}
