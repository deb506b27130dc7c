"""The real `sam local invoke` with every file of events/, where containers can run.

`test_sample_events.py` does the same, and looks closer, without containers. Around the functions
are the stand-in for AWS and simulated providers.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from local.deploy import build
from local.lambda_rie import DEFAULT_PYTHON
from local.relay import Relay
from local.stand_in import REPOSITORY
from simulators.appconfig import AppConfigSimulator
from simulators.aws import aws, dynamodb
from tools import make_events

from .containers import ARCHITECTURE, Engine, NoEngineError, invoke
from .deployments import checkout
from .test_sample_events import BY_HAND, FORGED, SIGNED, SOURCES, TOLD, load, webhook_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stand_in import StandIn

__all__ = ["aws", "dynamodb"]

pytestmark = [pytest.mark.build, pytest.mark.e2e, pytest.mark.campaign]

# `sam local` sets only variables that the template declares, and runs only this machine's
# architecture without an emulator: the copy that is built here says so, and nothing else of it.
SHIMS = {
    "    Architectures: [arm64]\n": (
        f"    Architectures: [{ARCHITECTURE}]\n"
        "    Environment:\n"
        "      Variables:\n"
        '        AWS_ENDPOINT_URL: ""\n'
    ),
}


@dataclass(frozen=True)
class Local:
    """A built copy, and what its functions reach from their containers."""

    home: Path
    environment: dict[str, str]
    queue_url: str
    aws: StandIn

    def invoke(self, function: str, event: str) -> Any:
        """Run a function in a container on a sample."""
        response, log = invoke(
            function, make_events.DIRECTORY / event, home=self.home, environment=self.environment
        )
        assert "SAM_CONTAINER_ID" in log
        return response

    def requests(self) -> list[str]:
        """Take what is on the queue: the names of the sources that requested a sync."""
        sqs = self.aws.client("sqs")
        taken = sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10)
        messages = taken.get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"])["source"] for message in messages]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Give a container engine, or skip: not every machine lets one run."""
    for needed in (DEFAULT_PYTHON, REPOSITORY / ".venv-sam" / "bin" / "sam"):
        if not needed.exists():
            pytest.skip(f"{needed.name} is missing: run `make setup`")
    # Not pytest's folder: a socket's path has at most 107 characters.
    home = Path(tempfile.mkdtemp(prefix="flagstore-podman-"))
    try:
        with Engine(home) as running:
            yield running
    except NoEngineError as error:
        pytest.skip(f"allowed: no container engine, so `sam local` cannot run: {error}")


@pytest.fixture(scope="module")
def local(
    engine: Engine, aws: StandIn, dynamodb: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Local]:
    """Build, and lead the functions to a table, a queue, sources and their providers."""
    home = checkout(tmp_path_factory.mktemp("local"))
    template = (home / "template.yaml").read_text(encoding="utf-8")
    for text, shim in SHIMS.items():
        assert template.count(text) == 1
        template = template.replace(text, shim)
    (home / "template.yaml").write_text(template, encoding="utf-8")
    build(home)
    name = uuid.uuid4().hex
    table = _table(dynamodb, name)
    queue_url = aws.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    with ExitStack() as running:
        # All of this listens on 127.0.0.1, which in a container is the container itself.
        address = engine.gateway()

        def reachable(url: str) -> str:
            """Return a URL of this machine as containers have it."""
            parts = urlsplit(url)
            relay = running.enter_context(Relay(parts.port or 80, host=address))
            return parts._replace(netloc=f"{address}:{relay.port}").geturl()

        for source, kind in SOURCES.items():
            provider = running.enter_context(kind.simulator())
            # AppConfig takes the function's own credentials, those of the stand-in's root user.
            key = "" if isinstance(provider, AppConfigSimulator) else provider.sdk_key
            credential = {"key": key, "base_url": reachable(provider.url)}
            options = getattr(provider, "options", {})
            _configure(aws, f"{name}/{{}}/{source}", kind.provider, credential, options)
        variables = {
            "AWS_ENDPOINT_URL": reachable(aws.endpoint),
            "FLAGSTORE_PARAMETER_PREFIX": f"/{name}",
            "FLAGSTORE_QUEUE_URL": reachable(queue_url),
            "FLAGSTORE_TABLE": table,
        }
        (home / "env.json").write_text(json.dumps({"Parameters": variables}), encoding="utf-8")
        sam = REPOSITORY / ".venv-sam" / "bin"
        environment = {
            **aws.child_environment(os.environ),
            **engine.environment,
            "PATH": f"{sam}{os.pathsep}{os.environ['PATH']}",
            "SAM_CLI_TELEMETRY": "0",
        }
        yield Local(home, environment, queue_url, aws)
    dynamodb.delete_table(TableName=table)
    aws.client("sqs").delete_queue(QueueUrl=queue_url)


def _table(dynamodb: Any, name: str) -> str:
    keys = (("namespace", "HASH"), ("key", "RANGE"))
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
    )
    return name


def _configure(
    aws: StandIn,
    path: str,
    provider: str,
    credential: dict[str, str],
    options: dict[str, str],
) -> None:
    source = {"provider": provider, "allow_http": True, "allow_private": True, "options": options}
    contents: dict[str, dict[str, Any]] = {
        "sources": source,
        "credentials": {"provider": provider, **credential},
        "webhooks": {
            "provider": provider,
            "secrets": [make_events.SECRET],
            "options": webhook_options(provider),
        },
    }
    for kind, content in contents.items():
        aws.client("ssm").put_parameter(
            Name=f"/{path.format(kind)}", Type="SecureString", Value=json.dumps(content)
        )


@pytest.mark.parametrize("name", SIGNED)
def test_a_signed_webhook_is_accepted_and_requests(local: Local, name: str) -> None:
    """`sam local invoke WebhookFunction` responds as the provider wants and queues one request."""
    source = load(name)["pathParameters"]["source"]
    assert local.invoke("WebhookFunction", name)["statusCode"] == SOURCES[source].accepted
    assert local.requests() == [source]


@pytest.mark.parametrize("name", FORGED)
def test_a_strangers_webhook_is_refused(local: Local, name: str) -> None:
    """401, and no sync request."""
    assert local.invoke("WebhookFunction", name)["statusCode"] == 401
    assert local.requests() == []


@pytest.mark.parametrize("name", BY_HAND + TOLD)
def test_sync_function_takes_what_is_no_webhook(local: Local, name: str) -> None:
    """The schedule, requests from the queue, a person's event, AWS' own: every source is there."""
    told = local.invoke("SyncFunction", name)
    if name in {"sqs-batch.json", "appconfig-sqs.json"}:
        assert told == {"batchItemFailures": []}
    else:
        reports = told if isinstance(told, list) else [told]
        sources = {make_events.APPCONFIG_SOURCE} if name in TOLD else {load(name).get("source")}
        sources = set(SOURCES) if name == "schedule.json" else sources
        assert {report["source"] for report in reports} == sources
        ended = {"queued"} if name == "schedule.json" else {"published", "unchanged"}
        assert {report["outcome"] for report in reports} <= ended


def test_sync_function_takes_a_webhook_event_by_itself(local: Local) -> None:
    """As events/README.md has it: the whole job in one invocation, without the queue."""
    told = local.invoke("SyncFunction", "launchdarkly-flag-updated.json")
    assert (told["source"], told["fetches"]) == (make_events.LAUNCHDARKLY_SOURCE, 1)
    assert told["outcome"] in {"published", "unchanged"}
