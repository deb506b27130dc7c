"""No secret appears in a log line, metric, message, record or response, even at DEBUG."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from simulators import faults
from simulators.deployment import (
    BODY_CANARY,
    CANARIES,
    HEADER_CANARY,
    KEY,
    OLD_SECRET,
    SECRET,
    TOKEN,
    Context,
    request,
    signed,
)
from storesync import providers, sync, webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulators.deployment import Calls, Deployment, Output
    from simulators.launchdarkly import LaunchDarklySimulator
    from simulators.unleash import UnleashSimulator

BODY = json.dumps({"kind": "flag", "comment": BODY_CANARY, "_id": "delivery-1"}).encode()


def clean(value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    assert not [canary for canary in CANARIES if canary in text], text[:400]


@pytest.fixture
def both(
    stack: Deployment, launchdarkly: LaunchDarklySimulator, unleash: UnleashSimulator, calls: Calls
) -> Iterator[Deployment]:
    """Give a deployment with two sources; at the end, check all messages and the table."""
    stack.put_source("prod", "launchdarkly", launchdarkly.url, KEY)
    stack.put_source("unleash", "unleash", unleash.url, KEY)
    stack.put_webhook("prod", "launchdarkly", SECRET, OLD_SECRET)
    stack.put_webhook("unleash", "unleash", TOKEN, method="url")
    yield stack
    for call in calls.of("SendMessage") + calls.of("SendMessageBatch"):
        clean(call)
    for record in [*stack.receive(), *stack.receive(stack.dlq_url)]:
        clean(record)
    clean(stack.items())


def send(event: dict[str, Any]) -> int:
    """Send a webhook to the function, with canaries wherever a sender can put them."""
    event["headers"] |= {"cookie": HEADER_CANARY, "x-forwarded-for": HEADER_CANARY}
    event |= {"rawQueryString": f"key={HEADER_CANARY}", "cookies": [HEADER_CANARY]}
    event["queryStringParameters"] = {"key": HEADER_CANARY}
    response = webhook.handler(event, Context())
    clean(response)
    return int(response["statusCode"])


def invoke(event: Any) -> Any:
    response = sync.handler(event, Context())
    clean(response)
    return response


@pytest.mark.parametrize("dev", ["false", "true"])
def test_webhooks(
    both: Deployment, output: Output, monkeypatch: pytest.MonkeyPatch, dev: str
) -> None:
    """Good, forged and broken webhooks, with each secret also in wrong places, in any mode."""
    monkeypatch.setenv("POWERTOOLS_DEV", dev)
    assert send(signed("prod", BODY)) == 202
    assert send(signed("prod", BODY, OLD_SECRET)) == 202
    assert send(request("unleash", BODY, token=TOKEN)) == 202
    for wrong in (SECRET, OLD_SECRET, KEY):
        assert send(request("unleash", BODY, token=wrong)) == 401
        assert send(request("prod", BODY, {"x-ld-signature": wrong})) == 401
        assert send(request("prod", wrong, {"authorization": wrong})) == 401
        assert send(signed(wrong, BODY)) == 404
    assert send(signed("prod", BODY_CANARY.encode())) == 202
    assert send({**signed("prod", BODY), "body": BODY_CANARY, "isBase64Encoded": True}) == 400
    assert len(both.requests()) == 4
    assert len(output.logs) > 10


RESPONSES = [
    faults.body(json.dumps({"flags": {KEY: KEY}, "segments": BODY_CANARY}).encode()),
    faults.body(f"<html>{BODY_CANARY} {KEY}</html>".encode()),
    faults.redirect(f"https://{TOKEN}@169.254.169.254/{SECRET}"),
    faults.status(401),
    faults.status(503, retry_after=KEY),
    faults.reset(),
]


@pytest.mark.parametrize("fault", RESPONSES)
def test_provider_responses(
    both: Deployment,
    launchdarkly: LaunchDarklySimulator,
    unleash: UnleashSimulator,
    output: Output,
    fault: faults.Fault,
) -> None:
    """Neither a provider's response nor the key is repeated."""
    for provider in (launchdarkly, unleash):
        provider.faults.extend([fault] * 4)
    both.run_schedule(invoke)
    assert len([line for line in output.logs if line["message"] == "failed"]) == 2


@pytest.mark.parametrize(
    "credential",
    [
        KEY,
        {"key": f"{KEY}\nmore"},
        {"key": KEY, "base_url": f"http://{TOKEN}:{SECRET}@127.0.0.1/"},
        {"key": KEY, "base_url": f"http://127.0.0.1:9/{TOKEN}?{SECRET}"},
        {"key": KEY, "base_url": KEY},
        {"key": [KEY], "base_url": {KEY: KEY}},
        {KEY: KEY},
    ],
)
def test_invalid_credentials(
    both: Deployment, launchdarkly: LaunchDarklySimulator, credential: str | dict[str, Any]
) -> None:
    """A problem with the key or its address is reported without either."""
    if isinstance(credential, dict):
        credential = {"provider": "launchdarkly", "base_url": launchdarkly.url, **credential}
    both.put("credentials/prod", credential)
    assert invoke({"source": "prod"})["outcome"] == "failed"


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("text", [KEY, f"https://user:{KEY}@host/{KEY}?key={KEY}", f'a\n{KEY}"\\'])
def test_exceptions_of_sync(monkeypatch: pytest.MonkeyPatch, output: Output, text: str) -> None:
    """A bug whose message quotes the key is logged with its traceback, without the key."""

    def bug(*_: object, **__: object) -> None:
        raise KeyError(text) from ValueError(text)

    monkeypatch.setattr(providers.get("launchdarkly"), "fetch", bug)
    assert invoke({"source": "prod"})["outcome"] == "failed"
    (line,) = [line for line in output.logs if line["message"] == "unexpected"]
    assert "KeyError" in line["exception"]
    assert "***" in line["exception"]


@pytest.mark.usefixtures("both")
def test_exceptions_of_receiver(monkeypatch: pytest.MonkeyPatch, output: Output) -> None:
    """Lambda prints the exception itself, so only the log has details."""

    def bug(*_: object) -> None:
        raise KeyError(SECRET)

    monkeypatch.setattr(providers.get("launchdarkly"), "verify", bug)
    with pytest.raises(RuntimeError, match="unexpected") as caught:
        webhook.handler(signed("prod", BODY), Context())
    clean("".join(traceback.format_exception(caught.value)))
    (line,) = output.logs
    assert "***" in line["exception"]
