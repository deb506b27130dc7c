"""A deployment in the stand-in, a provider that runs here, and the command line around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from flagstore.keys import Key, SourceState, state_key
from storesync.cli.__main__ import storesync
from storesync.stores.dynamodb import from_item, to_item

if TYPE_CHECKING:
    import pytest

    from flagstore.keys import Record
    from local.stand_in import StandIn

ADMIN_TOKEN = "admin-token"
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error on stderr."""
        return json.loads(self.err)["error"]


@dataclass
class Rig:
    """One deployment: its parts, and what people do to it."""

    aws: StandIn
    folder: Path
    environ: dict[str, str]
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def prefix(self) -> str:
        """Of the parameters."""
        return self.environ["FLAGSTORE_PARAMETER_PREFIX"]

    def run(self, *arguments: str, env: dict[str, str | None] | None = None) -> Done:
        """Run a command in this process, with a stdin that is not a terminal."""
        # What a command sets for its own process is put back, too.
        environ: dict[str, str | None] = dict.fromkeys([*os.environ, "AWS_PROFILE"], None)
        environ |= {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        environ |= {**self.environ, **(env or {})}
        result = CliRunner().invoke(storesync, arguments, env=environ, catch_exceptions=False)
        return Done(result.exit_code, result.stdout, result.stderr)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with ``--json``, and return what it printed."""
        done = self.run(*arguments, "--json")
        assert done.code == code, done
        return done.json

    def file(self, name: str, text: str) -> str:
        """Write a file, and return its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def add(self, name: str, provider: Any, *more: str) -> Done:
        """Add a source of a provider that runs here."""
        kind = type(provider).__name__.removesuffix("Simulator").lower()
        return self.run(
            *("source", "add", name, "--provider", kind),
            *("--key-file", self.file("key", provider.sdk_key)),
            *("--base-url", provider.url, "--allow-http"),
            *more,
        )

    def parameter(self, path: str) -> Any:
        """Return a parameter's value, parsed."""
        ssm = self.aws.client("ssm")
        response = ssm.get_parameter(Name=f"{self.prefix}/{path}", WithDecryption=True)
        return json.loads(response["Parameter"]["Value"])

    def put_parameter(self, path: str, value: object) -> None:
        """Write a parameter."""
        text = value if isinstance(value, str) else json.dumps(value)
        self.aws.client("ssm").put_parameter(
            Name=f"{self.prefix}/{path}", Value=text, Type="SecureString", Overwrite=True
        )

    def parameters(self) -> set[str]:
        """Return the names of all parameters below the prefix."""
        response = self.aws.client("ssm").get_parameters_by_path(Path=self.prefix, Recursive=True)
        return {each["Name"].removeprefix(self.prefix + "/") for each in response["Parameters"]}

    def requests(self) -> list[Any]:
        """Take the sync requests off the queue."""
        sqs, url = self.aws.client("sqs"), self.environ["FLAGSTORE_QUEUE_URL"]
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in found]

    # -- the table ------------------------------------------------------------------------------

    def record(self, key: Key) -> Record | None:
        """Return one record."""
        response = self.aws.client("dynamodb").get_item(
            TableName=self.environ["FLAGSTORE_TABLE"], Key=to_item(key._asdict())
        )
        return from_item(response["Item"]) if "Item" in response else None

    def put(self, record: Record) -> None:
        """Write one record."""
        self.aws.client("dynamodb").put_item(
            TableName=self.environ["FLAGSTORE_TABLE"], Item=to_item(record)
        )

    def state(self, name: str = "prod") -> SourceState:
        """Return a source's source state."""
        return SourceState.from_record(self.record(state_key(name)) or {})

    def change_state(self, name: str = "prod", **values: Any) -> None:
        """Change a source state behind everybody's back."""
        self.put({**(self.record(state_key(name)) or {}), **values})


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
            return (self.status if self.status != 200 else 401), b"{}", {}
        body = json.loads(request.body) if request.body else None
        self.calls.append((request.method, request.path, body))
        if request.method == "GET":
            return 200, json.dumps({"addons": self.webhooks, "items": self.webhooks}).encode(), {}
        if request.method == "POST":
            self.webhooks.append({"id": 7, "_id": "7", **body})
        return 200, b"{}", {}


def process(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as people do: a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "storesync.cli", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "src"), **rig.environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
