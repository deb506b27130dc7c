"""Every file of events/ through the built functions, under AWS' Runtime Interface Emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import flagstore
from flagstore.stores import network
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport, endpoint_of
from local import invoke, make_events
from local.deploy import is_built, using_build
from local.lambda_rie import DEFAULT_SAM_ENVIRONMENT, RuntimeEmulator, RuntimeMissingError
from local.stand_in import ACCESS_KEY_ID, REPOSITORY, SECRET_ACCESS_KEY
from simulators.aws import create_table, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from local.stand_in import StandIn

pytestmark = [pytest.mark.build, pytest.mark.e2e]

FUNCTIONS = {
    "WebhookFunction": "storesync.webhook.handler",
    "SyncFunction": "storesync.sync.handler",
}
SAMPLES: dict[str, tuple[int | None, list[str]]] = {
    "launchdarkly-flag-updated.json": (202, ["prod"]),
    "launchdarkly-segment-updated.json": (202, ["prod"]),
    "launchdarkly-forged.json": (401, []),
    "split-flag-changed.json": (200, ["split"]),
    "unleash-feature-enabled.json": (202, ["unleash"]),
    "unleash-duplicate.json": (202, ["unleash"]),
    "unleash-wrong-secret.json": (401, []),
    "appconfig-deployment-complete.json": (None, ["appconfig"]),
    "appconfig-rolled-back.json": (None, ["appconfig"]),
    "appconfig-sqs.json": (None, ["appconfig"]),
    "manual-allow-shrink.json": (None, ["prod"]),
    "schedule.json": (None, ["prod", "split", "unleash", "appconfig"]),
    "sqs-batch.json": (None, ["prod", "unleash"]),
}
"""Sample → the status of a webhook's response, and the sources that are published."""


@pytest.fixture(scope="module")
def aws() -> Iterator[StandIn]:
    """Give an emulated endpoint over TLS, which checks no signatures and policies."""
    with running(trustme.CA()) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with both functions, built from what the sources are now."""
    folder = tmp_path_factory.mktemp("functions")
    with using_build(REPOSITORY):
        if is_built(REPOSITORY):
            for name in FUNCTIONS:
                shutil.copytree(REPOSITORY / ".aws-sam" / "build" / name, folder / name)
    if not any(folder.iterdir()):
        _build(folder)
    yield folder
    shutil.rmtree(folder)  # 50 MB, which pytest would keep for three runs


def _build(folder: Path) -> None:
    """Build with the targets that `sam build` uses."""
    python = DEFAULT_SAM_ENVIRONMENT / "bin" / "python3.13"
    if not python.exists():
        pytest.skip(f"{DEFAULT_SAM_ENVIRONMENT.name} is missing: run `make setup`")
    for name in FUNCTIONS:
        (folder / name).mkdir()
        subprocess.run(
            ["make", "-C", "src", f"build-{name}", f"PYTHON={python}"],  # noqa: S607
            env={**os.environ, "ARTIFACTS_DIR": str(folder / name)},
            cwd=REPOSITORY,
            check=True,
        )


class Deployment:
    """Both functions, a queue and a table on the stand-in."""

    webhook: RuntimeEmulator
    sync: RuntimeEmulator

    def __init__(self, aws: StandIn) -> None:
        self._sqs, self._ssm, self._aws = aws.client("sqs"), aws.client("ssm"), aws
        self._queue = {"QueueUrl": self._sqs.create_queue(QueueName="samples")["QueueUrl"]}
        self._table = create_table(aws.client("dynamodb"))
        self.environment = {
            **aws.environment,
            "FLAGSTORE_PARAMETER_PREFIX": invoke.PREFIX,
            "FLAGSTORE_QUEUE_URL": self._queue["QueueUrl"],
            "FLAGSTORE_TABLE": self._table,
            "FLAGSTORE_FOLLOWUP_SYNC_SECONDS": "0",
        }

    def put(self, path: str, values: Mapping[str, object]) -> None:
        """Write the parameters of one path, which `make invoke` has in memory."""
        for name, value in values.items():
            text = json.dumps(value)
            self._ssm.put_parameter(Name=f"{path}/{name}", Type="SecureString", Value=text)

    def clear(self) -> None:
        """Remove all records, and all messages."""
        client = self._aws.client("dynamodb")
        for item in client.scan(TableName=self._table)["Items"]:
            key = {name: item[name] for name in ("namespace", "key")}
            client.delete_item(TableName=self._table, Key=key)
        self.messages()

    def published(self, source: str) -> flagstore.Snapshot:
        """Return what a reader that starts now reads."""
        environ, region = self._aws.environment, self._aws.region
        with closing(LeanTransport(region, endpoint_of(environ, region), environ)) as transport:
            store = DynamoDBReader(self._table, transport)
            return flagstore.Client(source, store=store).snapshot()

    def messages(self) -> list[dict[str, Any]]:
        """Take what is on the queue, as the poller hands it to SyncFunction."""
        received = self._sqs.receive_message(
            **self._queue, MaxNumberOfMessages=10, AttributeNames=["All"]
        )
        messages = received.get("Messages", [])
        for message in messages:
            self._sqs.delete_message(**self._queue, ReceiptHandle=message["ReceiptHandle"])
        return [
            {"messageId": each["MessageId"], "body": each["Body"], "attributes": each["Attributes"]}
            for each in messages
        ]


@pytest.fixture(scope="module")
def deployed(aws: StandIn, artefacts: Path) -> Iterator[Deployment]:
    """Run both functions and a simulated provider for each source."""
    deployment = Deployment(aws)
    with ExitStack() as running, pytest.MonkeyPatch.context() as patch:
        # The reader runs in this process, in which other tests may have read another store.
        patch.setenv("SSL_CERT_FILE", str(aws.ca_bundle))
        patch.setattr(network, "_contexts", {})
        made = invoke.simulators()
        # The function's own credentials are those of the stand-in's root user.
        appconfig = made[make_events.APPCONFIG_SOURCE]
        appconfig.access_key, appconfig.sdk_key = ACCESS_KEY_ID, SECRET_ACCESS_KEY
        providers = {source: running.enter_context(each) for source, each in made.items()}
        invoke.configure(deployment, providers)  # type: ignore[arg-type] # has `put`
        try:
            deployment.webhook, deployment.sync = (
                running.enter_context(
                    RuntimeEmulator(artefacts / function, handler, deployment.environment)
                )
                for function, handler in FUNCTIONS.items()
            )
        except RuntimeMissingError as error:
            pytest.skip(str(error))
        yield deployment


def call(function: RuntimeEmulator, event: Any) -> Any:
    """Return what a function returned; it raised nothing."""
    invocation = function.invoke(event)
    assert invocation.error is None, invocation.log
    return invocation.payload


def test_every_sample_is_tested() -> None:
    """A new file of events/ needs a line here."""
    assert sorted(SAMPLES) == sorted(make_events.events())


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(deployed: Deployment, name: str) -> None:
    """A webhook or the schedule queues sync requests; SyncFunction serves them; a reader sees."""
    deployed.clear()
    event = json.loads((make_events.DIRECTORY / name).read_text(encoding="utf-8"))
    status, sources = SAMPLES[name]
    if status is not None:
        assert call(deployed.webhook, event)["statusCode"] == status
        event = {"Records": deployed.messages()}
        assert len(event["Records"]) == len(sources)
        if not sources:
            return
    result = call(deployed.sync, event)
    if name == "schedule.json":
        outcomes = {each["source"]: each["outcome"] for each in result}
        assert outcomes == dict.fromkeys(sources, "queued")
        return
    if "Records" in event:
        assert result == {"batchItemFailures": []}
    for source in sources:
        flags = deployed.published(source)
        assert len(flags) == invoke.FLAGS + 1
        assert "new-checkout" in flags


def test_sync_function_checks_no_signature(deployed: Deployment) -> None:
    """`sam local invoke SyncFunction -e` with a webhook's event does the whole job."""
    deployed.clear()
    event = json.loads((make_events.DIRECTORY / "launchdarkly-forged.json").read_bytes())
    result = call(deployed.sync, event)
    assert (result["outcome"], result["fetches"]) == ("published", 1)
