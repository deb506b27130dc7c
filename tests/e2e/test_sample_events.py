"""Every file of events/ through the built functions, under AWS' Runtime Interface Emulator."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from contextlib import ExitStack, closing
from dataclasses import dataclass
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

    from local.lambda_rie import Invocation
    from local.stand_in import StandIn

pytestmark = [pytest.mark.build, pytest.mark.e2e]

FUNCTIONS = {
    "WebhookFunction": "storesync.webhook.handler",
    "SyncFunction": "storesync.sync.handler",
}
SIGNED = (
    "launchdarkly-flag-updated.json",
    "launchdarkly-segment-updated.json",
    "split-flag-changed.json",
    "unleash-feature-enabled.json",
    "unleash-duplicate.json",
)
FORGED = ("launchdarkly-forged.json", "unleash-wrong-secret.json")
TOLD = (
    "appconfig-deployment-complete.json",
    "appconfig-rolled-back.json",
    "appconfig-sqs.json",
)
BY_HAND = ("manual-allow-shrink.json", "schedule.json", "sqs-batch.json")


def test_every_sample_is_tested() -> None:
    """A new file of events/ needs a test that runs it."""
    assert sorted(SIGNED + FORGED + TOLD + BY_HAND) == sorted(make_events.events())


def load(name: str) -> Any:
    """Read a sample."""
    return json.loads((make_events.DIRECTORY / name).read_text(encoding="utf-8"))


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


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Both functions, a queue, a table, and a provider for each source that samples name."""

    webhook: RuntimeEmulator
    sync: RuntimeEmulator
    aws: StandIn
    table: str
    queue_url: str
    providers: Mapping[str, Any]
    """By the names of their sources."""

    def published(self, source: str) -> flagstore.Snapshot:
        """Return what a reader that starts now reads."""
        environ, region = self.aws.environment, self.aws.region
        with closing(LeanTransport(region, endpoint_of(environ, region), environ)) as transport:
            store = DynamoDBReader(self.table, transport)
            return flagstore.Client(source, store=store).snapshot()

    def requests(self) -> list[dict[str, Any]]:
        """Take what is on the queue, as the poller hands it to SyncFunction."""
        sqs, at = self.aws.client("sqs"), {"QueueUrl": self.queue_url}
        received = sqs.receive_message(**at, MaxNumberOfMessages=10, AttributeNames=["All"])
        messages = received.get("Messages", [])
        for message in messages:
            sqs.delete_message(**at, ReceiptHandle=message["ReceiptHandle"])
        return [
            {"messageId": each["MessageId"], "body": each["Body"], "attributes": each["Attributes"]}
            for each in messages
        ]


@pytest.fixture(scope="module")
def deployed(aws: StandIn, artefacts: Path) -> Iterator[Deployment]:
    """Run both functions and a simulated provider for each source."""
    queue_url = aws.client("sqs").create_queue(QueueName=uuid.uuid4().hex)["QueueUrl"]
    table = create_table(aws.client("dynamodb"))
    environment = {
        **aws.environment,
        "FLAGSTORE_PARAMETER_PREFIX": invoke.PREFIX,
        "FLAGSTORE_QUEUE_URL": queue_url,
        "FLAGSTORE_TABLE": table,
    }
    with ExitStack() as running, pytest.MonkeyPatch.context() as patch:
        # The reader runs in this process, in which other tests may have read another store.
        patch.setenv("SSL_CERT_FILE", str(aws.ca_bundle))
        patch.setattr(network, "_contexts", {})
        made = invoke.simulators()
        # The function's own credentials are those of the stand-in's root user.
        appconfig = made[make_events.APPCONFIG_SOURCE]
        appconfig.access_key, appconfig.sdk_key = ACCESS_KEY_ID, SECRET_ACCESS_KEY
        providers = {source: running.enter_context(each) for source, each in made.items()}
        invoke.configure(Parameters(aws), providers)  # type: ignore[arg-type]
        try:
            webhook, sync = (
                running.enter_context(RuntimeEmulator(artefacts / function, handler, environment))
                for function, handler in FUNCTIONS.items()
            )
        except RuntimeMissingError as error:
            pytest.skip(str(error))
        yield Deployment(
            webhook=webhook,
            sync=sync,
            aws=aws,
            table=table,
            queue_url=queue_url,
            providers=providers,
        )


class Parameters:
    """Writes to the stand-in what `make invoke` has in memory."""

    def __init__(self, aws: StandIn) -> None:
        self._ssm = aws.client("ssm")

    def put(self, path: str, values: Mapping[str, object]) -> None:
        """Write the parameters of one path."""
        for name, value in values.items():
            self._ssm.put_parameter(
                Name=f"{path}/{name}", Type="SecureString", Value=json.dumps(value)
            )


@pytest.fixture
def deployment(deployed: Deployment) -> Deployment:
    """Give the running functions an empty table, and forget what providers were asked."""
    client = deployed.aws.client("dynamodb")
    for item in client.scan(TableName=deployed.table)["Items"]:
        key = {name: item[name] for name in ("namespace", "key")}
        client.delete_item(TableName=deployed.table, Key=key)
    for provider in deployed.providers.values():
        provider.requests.clear()
    return deployed


def response(invocation: Invocation) -> Any:
    """Return what a function returned; it raised nothing."""
    assert invocation.error is None, invocation.log
    return invocation.payload


@pytest.mark.parametrize("name", SIGNED)
def test_signed_webhook_is_synced(deployment: Deployment, name: str) -> None:
    """WebhookFunction puts one request on the queue, SyncFunction serves it, a reader sees it."""
    event = load(name)
    source = event["pathParameters"]["source"]
    assert response(deployment.webhook.invoke(event))["statusCode"] in {200, 202}
    sync_requests = deployment.requests()
    assert [json.loads(request["body"])["source"] for request in sync_requests] == [source]
    assert response(deployment.sync.invoke({"Records": sync_requests})) == {"batchItemFailures": []}
    flags = deployment.published(source)
    assert len(flags) == invoke.FLAGS + 1
    assert flags["new-checkout"] == deployment.providers[source].newest()["flags"]["new-checkout"]
    for function in (deployment.webhook, deployment.sync):
        assert "INIT is incomplete" not in function.log()


@pytest.mark.parametrize("name", TOLD)
def test_aws_event_syncs_its_source(deployment: Deployment, name: str) -> None:
    """SyncFunction takes it from the queue, from EventBridge and from SNS, and a reader sees it."""
    result = response(deployment.sync.invoke(load(name)))
    source = make_events.APPCONFIG_SOURCE
    if name == "appconfig-sqs.json":
        assert result == {"batchItemFailures": []}
    else:
        assert [(each["source"], each["outcome"]) for each in result] == [(source, "published")]
    # The rollback of a deployment that here is complete is waited for, and not found.
    assert len(deployment.providers[source].requests) == 2 or name == "appconfig-rolled-back.json"
    flags = deployment.published(source)
    assert len(flags) == invoke.FLAGS + 1
    assert flags["new-checkout"] == {"enabled": True}


@pytest.mark.parametrize("name", FORGED)
def test_forged_webhook_is_refused(deployment: Deployment, name: str) -> None:
    """WebhookFunction queues nothing; SyncFunction checks no signature: it gets no flag data."""
    event = load(name)
    assert response(deployment.webhook.invoke(event))["statusCode"] == 401
    assert deployment.requests() == []
    result = response(deployment.sync.invoke(event))
    assert (result["outcome"], result["fetches"]) == ("published", 1)
    assert deployment.requests() == []


def test_schedule_queues_every_source(deployment: Deployment) -> None:
    """One event, a check of each source, some seconds apart."""
    result = response(deployment.sync.invoke(load("schedule.json")))
    outcomes = {each["source"]: each["outcome"] for each in result}
    assert outcomes == dict.fromkeys(deployment.providers, "queued")
    delays = [each["delay_s"] for each in result]
    assert delays == sorted(delays)


def test_batch_costs_one_fetch_per_source(deployment: Deployment) -> None:
    """Three messages, two sources, two fetches, no failure."""
    result = response(deployment.sync.invoke(load("sqs-batch.json")))
    assert result == {"batchItemFailures": []}
    for source in (make_events.LAUNCHDARKLY_SOURCE, make_events.UNLEASH_SOURCE):
        assert len(deployment.providers[source].requests) == 1
        assert "new-checkout" in deployment.published(source)


def test_refused_set_is_allowed_by_its_digest(deployment: Deployment) -> None:
    """The zeros of the sample allow nothing; the digest that the refusal named does."""
    event = load("manual-allow-shrink.json")
    source = event["source"]
    assert response(deployment.sync.invoke({"source": source}))["outcome"] == "published"
    launchdarkly = deployment.providers[source]
    for key in list(launchdarkly.flags())[: invoke.FLAGS // 2]:
        launchdarkly.remove_flag(key)

    refused = response(deployment.sync.invoke(event))
    assert refused["outcome"] == "failed"
    named = re.search(r'"allow_shrink": "([0-9a-f]{64})"', refused["error"])
    assert named
    assert len(deployment.published(source)) == invoke.FLAGS + 1

    allowed = response(deployment.sync.invoke({**event, "allow_shrink": named[1]}))
    assert (allowed["outcome"], allowed["removed"]) == ("published", invoke.FLAGS // 2)
    assert len(deployment.published(source)) == invoke.FLAGS // 2 + 1
