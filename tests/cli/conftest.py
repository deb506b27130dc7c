"""Fixtures of the command line's tests."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from simulators.launchdarkly import LaunchDarklySimulator
from simulators.launchdarkly import rich_flags as launchdarkly_flags
from simulators.unleash import UnleashSimulator
from simulators.unleash import rich_flags as unleash_flags
from storesync import initialization, webhook
from tests.cli.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.stand_in import StandIn
    from simulators.aws import Table


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Give the functions their logger back, which the command line keeps for its process."""
    logger = initialization.log
    level, stream = logger.log_level, logger.registered_handler.stream  # type: ignore[attr-defined]
    yield
    logger.setLevel(level)
    logger.registered_handler.setStream(stream)  # type: ignore[attr-defined]


@pytest.fixture
def rig(aws: StandIn, dynamodb_table: Table, tmp_path: Path) -> Iterator[Rig]:
    """Give a deployment without sources."""
    name, sqs = uuid.uuid4().hex, aws.client("sqs")
    urls = [
        sqs.create_queue(QueueName=f"{kind}-{name}")["QueueUrl"] for kind in ("requests", "dlq")
    ]
    yield Rig(
        aws,
        tmp_path,
        {
            **aws.environment,
            "FLAGSTORE_TABLE": dynamodb_table.name,
            "FLAGSTORE_PARAMETER_PREFIX": f"/flagstore/{name}",
            "FLAGSTORE_QUEUE_URL": urls[0],
            "FLAGSTORE_DLQ_URL": urls[1],
            "FLAGSTORE_WEBHOOK_BASE_URL": "https://webhooks.example/webhooks",
        },
        name,
    )
    for url in urls:
        sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def launchdarkly() -> Iterator[LaunchDarklySimulator]:
    """Give a LaunchDarkly with 30 flags."""
    with LaunchDarklySimulator(*launchdarkly_flags(30)) as provider:
        yield provider


@pytest.fixture
def unleash() -> Iterator[UnleashSimulator]:
    """Give an Unleash with 30 flags."""
    with UnleashSimulator(*unleash_flags(30)) as provider:
        yield provider


@pytest.fixture
def prod(rig: Rig, launchdarkly: LaunchDarklySimulator) -> LaunchDarklySimulator:
    """Give the provider of the source ``prod``, which is in sync."""
    launchdarkly.set_flag("new-checkout", on=False)
    assert rig.add("prod", launchdarkly).code == 0
    assert rig.run("sync", "prod").code == 0
    rig.requests()
    return launchdarkly


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the functions' log go where pytest looks at the moment."""
    handler = webhook.log.registered_handler
    monkeypatch.setattr(handler, "stream", sys.stderr)
