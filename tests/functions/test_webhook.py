"""WebhookFunction: accepted and refused requests, parameters, metrics and logs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from simulators.deployment import (
    BODY_CANARY,
    KEY,
    SECRET,
    TOKEN,
    Calls,
    Context,
    Deployment,
    Output,
    ShiftedClock,
    batch,
    request,
    signed,
)
from simulators.launchdarkly import LaunchDarklySimulator, audit_entry, sign
from simulators.launchdarkly_flags import new_flag
from simulators.server import compact
from simulators.unleash import event as unleash_event
from storesync import sync, webhook
from storesync.config import WEBHOOKS_AGE_S

FORGED = "canary-of-a-stranger-0007"


def entry(kind: str = "flag", key: str = "new-checkout", **more: Any) -> bytes:
    """Write an audit log entry; a flag's reports that version 8 is on."""
    flag = {**new_flag(key), "version": 8}
    change = flag if kind == "flag" else None
    body = audit_entry(kind, key, "updateOn", number=7, date_ms=0, before=change, after=change)
    return compact({**body, "comment": BODY_CANARY, **more})


def enabled(environment: str | None = "production") -> bytes:
    body = unleash_event(
        4711,
        "feature-environment-enabled",
        flag="new-checkout",
        environment=environment,
    )
    return compact({**body, "createdBy": BODY_CANARY})


def bearer(body: bytes, secret: str = SECRET) -> dict[str, Any]:
    return request("unleash", body, {"authorization": f"Bearer {secret}"})


def send(event: Any) -> tuple[int, dict[str, Any]]:
    response = webhook.handler(event, Context())
    headers = {name.lower(): value for name, value in response["headers"].items()}
    assert headers == {"content-type": "application/json"}
    return response["statusCode"], json.loads(response["body"])


def refuse(event: Any, status: int) -> str:
    got, body = send(event)
    assert got == status
    (error,) = body.values()
    assert list(body) == ["error"]
    assert 0 < len(error) < 120
    return str(error)


@pytest.fixture
def receiving(deployment: Deployment) -> Deployment:
    options = {"project": "shop", "environment": "production"}
    deployment.put_webhook("prod", "launchdarkly", options=options)
    deployment.put_webhook("unleash", "unleash", options={"environment": "production"})
    deployment.put_webhook("header", "unleash", method="header", header="X-Webhook-Secret")
    deployment.put_webhook("url", "unleash", TOKEN, method="url")
    return deployment


def test_signed_webhook(receiving: Deployment) -> None:
    """LaunchDarkly gets 202, and one message has the revisions to reach."""
    before = int(time.time() * 1000)
    assert send(signed("prod", entry())) == (202, {"ok": True})
    (sync_request,) = receiving.requests()
    assert before <= sync_request.pop("sent_at") <= int(time.time() * 1000)
    assert sync_request == {
        "source": "prod",
        "required": ["flag/new-checkout@8"],
        "trigger": "webhook",
        "delivery": f"{7:024x}",
    }


@pytest.mark.parametrize(
    "event",
    [
        signed("prod", entry(padding="x" * 5_000_000)),  # all environments, twice
        request("prod", entry(), {"X-lD-SIGNATURE": sign(entry(), SECRET)}, encode=True),
        request("unleash", "no JSON, from somebody's template", {"authorization": SECRET}),
        request("unleash", b"\xff\xfe", {"authorization": f"Bearer {SECRET}"}, encode=True),
        request("header", enabled(), {"x-webhook-secret": SECRET}),
        request("url", enabled(), token=TOKEN),
        request("prod", entry(), {"x-ld-signature": sign(entry(), SECRET)}, token="ignored"),
        {**signed("prod", entry()), "rawPath": "/live/flags/webhooks/prod"},
    ],
    ids=["large", "base64", "text", "bytes", "header", "url", "token", "stage and domain"],
)
def test_variants_of_good_webhooks(receiving: Deployment, event: dict[str, Any]) -> None:
    """Encodings, header cases, path prefixes and every method of verification are accepted."""
    assert send(event)[0] == 202
    (sync_request,) = receiving.requests()
    assert len(json.dumps(sync_request)) < 300


def test_irrelevant_events_are_acknowledged(receiving: Deployment) -> None:
    """An event that concerns no flag of this source gets 202, and causes no sync."""
    assert send(bearer(enabled("development")))[0] == 202
    for kind in ("member", "team", "webhook"):
        assert send(signed("prod", entry(kind=kind, accesses=[], target={})))[0] == 202
    assert receiving.waiting()["due"] == 0


SIGNED = signed("prod", entry())
BY_URL = request("url", enabled(), token=TOKEN)
REFUSED: list[tuple[str, Any, int]] = [
    ("forged", signed("prod", entry(), FORGED), 401),
    ("unsigned", request("prod", entry()), 401),
    ("odd signature", request("prod", entry(), {"x-ld-signature": "\udcff\u00e9"}), 401),
    ("truncated", {**SIGNED, "body": entry().decode()[:-1]}, 401),
    ("no body", {**SIGNED, "body": None}, 401),
    ("flag lost", {**signed("prod", entry(), encode=True), "isBase64Encoded": False}, 401),
    ("not base64", {**signed("prod", entry(), encode=True), "body": "%%%"}, 400),
    ("not text", {**SIGNED, "body": 7}, 400),
    ("oversized", signed("prod", b'"' + b"x" * webhook.MAX_BODY + b'"'), 413),
    ("oversized, forged", signed("prod", b"x" * (webhook.MAX_BODY + 1), FORGED, encode=True), 413),
    ("unknown", signed("staging", entry()), 404),
    ("wrong method", {**SIGNED, "routeKey": "GET /webhooks/{source}"}, 404),
    ("no secret", request("unleash", enabled()), 401),
    ("secret with more", bearer(enabled(), f"{SECRET} "), 401),
    ("wrong header", request("header", enabled(), {"authorization": SECRET}), 401),
    ("wrong token", request("url", enabled(), token=FORGED), 401),
    ("token elsewhere", request("url", enabled(), {"authorization": TOKEN}), 401),
    ("odd token", {**BY_URL, "pathParameters": {"source": "url", "token": []}}, 404),
    ("no parameters", {**BY_URL, "pathParameters": None}, 404),
    ("nothing", {}, 404),
]


def test_refused_requests(receiving: Deployment, output: Output) -> None:
    """Every other request gets a 4xx with a short reason, and queues nothing."""
    for name, event, status in REFUSED:
        error = refuse(event, status)
        for secret in (SECRET, TOKEN, FORGED, BODY_CANARY):
            assert secret not in error, name
    assert receiving.waiting() == {"due": 0, "delayed": 0, "in flight": 0}
    assert FORGED not in output.text


def test_source_names_match_exactly(receiving: Deployment, output: Output) -> None:
    for name in ("", "Prod", "../prod", "prod/..", "prod ", "prod\n", "%70rod", "ünï", "$", "*"):
        assert refuse(signed(name, entry()), 404) == "not found"
    assert refuse(signed("a" * 10_000, entry()), 404) == "not found"
    assert receiving.waiting()["due"] == 0
    assert output.logs == []


def test_unknown_sources_create_no_metrics(receiving: Deployment, output: Output) -> None:
    """Dimensions cost money, so only configured sources become dimensions; names are not logged."""
    for _name, event, _status in REFUSED:
        send(event)
    for number in range(20):
        send(signed(f"stranger-{number}", entry()))
        send({**request(f"stranger-{number}", b""), "isBase64Encoded": True, "body": "%"})
    seen = {(name, value) for line in output.metrics for name, value in line.dimensions.items()}
    sources = {("source", name) for name in ("prod", "unleash", "header", "url")}
    assert seen == sources | {("service", "flagstore-test")}
    assert "stranger" not in output.text
    not_found = sum(status == 404 for _name, _event, status in REFUSED) + 40
    assert output.sums()["NotFound"] == not_found
    assert receiving.waiting()["due"] == 0


SHOP = {"project": "shop", "environment": "production"}
PAY = {"project": "pay", "environment": "production"}
BOTH = {"shop", "pay"}


def test_one_webhook_for_a_whole_account(
    stack: Deployment, launchdarkly: LaunchDarklySimulator, output: Output
) -> None:
    """A change is published for the sources whose project and environment its event concerns."""
    for name in BOTH:
        stack.put_source(name, "launchdarkly", launchdarkly.url, KEY)
    stack.put_webhook("account", "launchdarkly", sources={"shop": SHOP, "pay": PAY})
    events = [
        ("proj/shop:env/production:flag/{}", SECRET, 202, {"shop"}),
        ("proj/pay:env/production:flag/{}", SECRET, 202, {"pay"}),
        ("proj/pay:env/production:flag/{}", FORGED, 401, set()),
        ("proj/pay:env/test:flag/{}", SECRET, 202, set()),
        ("proj/other:env/production:flag/{}", SECRET, 202, set()),
        ("proj/pay:env/production:segment/beta", SECRET, 202, {"pay"}),
        ("proj/shop", SECRET, 202, {"shop"}),
        ("*", SECRET, 202, BOTH),
        ("something new", SECRET, 202, BOTH),
    ]
    for number, (resource, secret, status, concerned) in enumerate(events):
        key = f"flag-of-event-{number}"
        launchdarkly.set_flag(key)
        accesses = [{"action": "updateOn", "resource": resource.format(key)}]
        after = {**new_flag(key), "version": 1}
        body = audit_entry("flag", key, "updateOn", after=after) | {"accesses": accesses}
        del body["target"]
        assert send(signed("account", compact(body), secret))[0] == status, resource
        records = stack.receive()
        if records:
            assert sync.handler(batch(*records), Context()) == {"batchItemFailures": []}
            stack.acknowledge(records)
        assert {name for name in BOTH if key in stack.flags(name)} == concerned, resource
    assert output.sums(source="account") == {"SignatureFailures": 1}
    for name in BOTH:
        assert output.sums(source=name)["SyncRequests"] == 4


def test_event_of_all_environments_of_unleash(deployment: Deployment) -> None:
    """One that names no environment concerns every source of its webhook."""
    names = ("production", "development")
    sources = {name: {"environment": name} for name in names}
    deployment.put_webhook("unleash", "unleash", sources=sources)
    for given, concerned in (("production", {"production"}), (None, {*names}), ("test", set())):
        assert send(bearer(enabled(given)))[0] == 202
        assert {each["source"] for each in deployment.requests()} == concerned


def test_many_sources_are_requested_in_batches(
    deployment: Deployment, calls: Calls, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS takes ten messages per call; if one fails, the response is 503, so that it is retried."""
    sources: dict[str, Any] = {f"source-{number}": {} for number in range(12)}
    deployment.put_webhook("account", "launchdarkly", sources=sources)
    assert send(signed("account", entry()))[0] == 202
    assert [len(call["Entries"]) for call in calls.of("SendMessageBatch")] == [10, 2]
    assert sorted(each["source"] for each in deployment.requests()) == sorted(sources)
    failed = [{"Id": "0", "Code": "InternalError", "SenderFault": False}]
    response = {"Failed": failed, "Successful": []}
    monkeypatch.setattr(webhook.receiver()._sqs, "send_message_batch", lambda **_: response)
    output.forget()
    assert refuse(signed("account", entry()), 503) == "try again"
    assert output.sums() == {"SyncRequests": 9, "EnqueueFailures": 1}
    assert output.sums(source="source-0") == {}


def test_metrics_per_source(receiving: Deployment, output: Output) -> None:
    """Sync requests, forged and malformed webhooks have separate metrics."""
    send(signed("prod", entry()))
    send(signed("prod", entry()))
    send(signed("prod", entry(), FORGED))
    send({**signed("prod", b""), "isBase64Encoded": True, "body": "%"})
    send(bearer(enabled(), FORGED))
    assert output.sums(source="prod") == {
        "SyncRequests": 2,
        "SignatureFailures": 1,
        "BadRequests": 1,
    }
    assert output.sums(source="unleash") == {"SignatureFailures": 1}
    assert {unit for line in output.metrics for unit in line.units.values()} == {"Count"}
    assert len(receiving.requests()) == 2


def test_misconfigured_webhook(receiving: Deployment, output: Output) -> None:
    """The sender gets a 404, the log names parameter and remedy, and other sources work."""
    receiving.put("webhooks/broken", {"provider": "darkly", "secrets": 7})
    assert refuse(signed("broken", entry()), 404) == "not found"
    (line,) = output.logs
    assert line["level"] == "ERROR"
    for problem in (
        f"{receiving.prefix}/webhooks/broken: \"provider\": no provider 'darkly': use one of",
        '"secrets" must be a list',
    ):
        assert problem in line["problem"]
    assert output.sums() == {"Misconfigured": 1}
    assert send(signed("prod", entry()))[0] == 202


def test_missing_variable(
    receiving: Deployment, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function without a setting names it, and recovers."""
    with monkeypatch.context() as without:
        without.delenv("FLAGSTORE_QUEUE_URL")
        assert refuse(signed("prod", entry()), 503) == "not configured"
    assert "FLAGSTORE_QUEUE_URL is not set" in output.logs[0]["problem"]
    assert send(signed("prod", entry()))[0] == 202
    assert len(receiving.requests()) == 1


def test_ssm_down_keeps_known_parameters(
    receiving: Deployment, calls: Calls, clock: ShiftedClock, output: Output
) -> None:
    """While SSM fails, webhooks are verified with the last parameters, which is logged."""
    assert send(signed("prod", entry()))[0] == 202
    calls.down["ssm"] = "AccessDeniedException"
    clock.advance(WEBHOOKS_AGE_S)
    output.forget()
    for _ in range(20):
        assert send(signed("prod", entry()))[0] == 202
        assert send(signed("prod", entry(), FORGED))[0] == 401
    assert len(calls.of("GetParametersByPath")) == 2
    (warning,) = [line for line in output.logs if "parameters read before" in line["message"]]
    assert f"{receiving.prefix}/webhooks" in warning["problem"]
    calls.down.clear()
    receiving.put_webhook("late", "launchdarkly")
    clock.advance(WEBHOOKS_AGE_S)
    assert send(signed("late", entry()))[0] == 202


def test_ssm_down_at_the_start_costs_few_calls(
    receiving: Deployment, calls: Calls, clock: ShiftedClock, output: Output
) -> None:
    """Without parameters the response is 503, and SSM is read every 5 s."""
    calls.down["ssm"] = "AccessDeniedException"
    for _ in range(50):
        assert refuse(signed("prod", entry()), 503) == "try again"
    assert len(calls.of("GetParametersByPath")) == 1
    assert output.sums() == {"EnqueueFailures": 50}
    assert "AccessDenied" in output.logs[0]["problem"]
    calls.down.clear()
    clock.advance(5)
    assert send(signed("prod", entry()))[0] == 202
    assert len(receiving.requests()) == 1


def test_timeouts_fit_the_functions_time(receiving: Deployment) -> None:
    """The function responds itself, within its 10 s."""
    assert send(signed("prod", entry()))[0] == 202
    for client in (webhook.receiver()._sqs, webhook.receiver()._webhooks._webhooks._client):
        config: Any = client.meta.config
        attempts = config.retries["total_max_attempts"]
        assert attempts * (config.connect_timeout + config.read_timeout) <= 8
    assert receiving.requests()


def test_lone_surrogates_are_logged_as_json(receiving: Deployment, output: Output) -> None:
    """Half a surrogate pair in a delivery id stops neither the sync request nor the log."""
    body = entry().replace(f'"_id":"{7:024x}"'.encode(), b'"_id":"\\ud800\\n"')
    assert send(signed("prod", body))[0] == 202
    (sync_request,) = receiving.requests()
    assert sync_request["delivery"] == "\ud800\n"
    assert output.logs[-1]["message"] == "requested"
