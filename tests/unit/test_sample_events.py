"""The sample events: as generated, listed, and what each one is said to be."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from storesync import errors, providers, sync
from storesync.model import ProviderEvent, Secret, WebhookConfig, WebhookRequest
from tools import make_events

FILES = sorted(path.name for path in make_events.DIRECTORY.glob("*.json"))
WEBHOOKS = {
    "prod": WebhookConfig(
        "prod",
        "launchdarkly",
        "signature",
        (Secret(make_events.SECRET),),
        options={"project": "shop", "environment": "production"},
    ),
    "unleash": WebhookConfig(
        "unleash",
        "unleash",
        "authorization",
        (Secret(make_events.SECRET),),
        options={"environment": "production"},
    ),
    "split": WebhookConfig(
        "split",
        "split",
        "url",
        (Secret(make_events.SECRET),),
        options={"environment": "production"},
    ),
}


def load(name: str) -> dict[str, Any]:
    """Read a sample."""
    loaded: dict[str, Any] = json.loads((make_events.DIRECTORY / name).read_text(encoding="utf-8"))
    return loaded


def received(event: dict[str, Any]) -> tuple[WebhookRequest, WebhookConfig]:
    """Turn an API Gateway request into ours, as WebhookFunction does."""
    body = event["body"].encode()
    raw = base64.b64decode(body) if event["isBase64Encoded"] else body
    parameters = event["pathParameters"]
    token = parameters.get("token", "")
    return WebhookRequest(event["headers"], raw, token), WEBHOOKS[parameters["source"]]


def test_the_generator_writes_exactly_these_files() -> None:
    """Every sample can be made again, byte for byte."""
    written = {name: make_events.render(event) for name, event in make_events.events().items()}
    assert sorted(written) == FILES
    for name, content in written.items():
        assert (make_events.DIRECTORY / name).read_bytes() == content, name


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("launchdarkly-flag-updated.json", ("flag/new-checkout@8",)),
        ("launchdarkly-segment-updated.json", ()),
        ("unleash-feature-enabled.json", ("revision/4711",)),
        ("unleash-duplicate.json", ("revision/4711",)),
        ("split-flag-changed.json", ("change/1795000000000",)),
    ],
)
def test_good_webhooks_pass_and_request(name: str, required: tuple[str, ...]) -> None:
    """A good sample is accepted with the sample secret and names what to reach."""
    request, webhook = received(load(name))
    provider = providers.get(webhook.provider)
    provider.verify(request, webhook)
    assert provider.webhook_event(request, webhook).required == required


@pytest.mark.parametrize("name", ["launchdarkly-forged.json", "unleash-wrong-secret.json"])
def test_strangers_webhooks_are_refused(name: str) -> None:
    """A sample of a stranger differs from the good one by its secret only."""
    request, webhook = received(load(name))
    with pytest.raises(errors.SignatureError):
        providers.get(webhook.provider).verify(request, webhook)


def test_the_duplicate_is_the_same_event() -> None:
    """The two deliveries differ in the gateway's request id and in nothing else."""
    first, again = load("unleash-feature-enabled.json"), load("unleash-duplicate.json")
    assert first != again
    again["requestContext"]["requestId"] = first["requestContext"]["requestId"]
    assert first == again


@pytest.mark.parametrize("name", FILES)
def test_sync_function_understands_every_sample(name: str) -> None:
    """Each file can be given to SyncFunction as it is."""
    event = sync.parse(load(name))
    if name == "schedule.json":
        assert event == sync.Schedule()
    elif name == "appconfig-sqs.json":
        assert isinstance(event, tuple)
        provider_events = [message.provider_event for message in event]
        assert [
            provider_event.required for provider_event in provider_events if provider_event
        ] == [("complete/3",)]
    elif name.startswith("appconfig-"):
        assert isinstance(event, ProviderEvent)
        undone = name == "appconfig-rolled-back.json"
        assert event.required == (("undone/3",) if undone else ("complete/3",))
        assert all(event.about.values())
    elif name == "sqs-batch.json":
        assert isinstance(event, tuple)
        requests = [message.request for message in event]
        assert [sync_request.source for sync_request in requests if sync_request] == [
            "prod",
            "prod",
            "unleash",
        ]
    else:
        assert isinstance(event, sync.Manual)
        assert event.request.source in WEBHOOKS
        assert bool(event.allow_shrink) == (name == "manual-allow-shrink.json")
