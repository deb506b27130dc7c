"""Write the sample events of ``events/``, reproducibly: ``python -m local.make_events``.

The bodies have the documented shapes, with invented flags and a sample secret.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulators import appconfig_flags, launchdarkly, split, unleash
from tests.simulators.launchdarkly_flags import new_flag
from tests.simulators.server import compact

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTORY = Path(__file__).resolve().parent.parent / "events"
SECRET = "sample-webhook-secret"  # noqa: S105 - public, for samples only
FORGED_WITH = "not-the-webhook-secret"
LAUNCHDARKLY_SOURCE = "prod"
UNLEASH_SOURCE = "unleash"
SPLIT_SOURCE = "split"
APPCONFIG_SOURCE = "appconfig"
APPCONFIG_IDS = {
    "Application": ("ba8toh7", "Shop"),
    "Environment": ("pgil2o7", "production"),
    "ConfigurationProfile": ("ga3tqep", "flags"),
}
APPCONFIG_DEPLOYMENT = 3
"""The deployment that the samples report."""
UNLEASH_EVENT = 4711
ENVIRONMENT = "production"
SENT_AT_MS = 1_795_000_000_000
ACCOUNT = "123456789012"


def events() -> dict[str, Any]:
    """Return all events by file name."""
    flag_updated, segment_updated = _flag_updated(), _segment_updated()
    enabled = _unleash_body(UNLEASH_EVENT, "feature-environment-enabled", "new-checkout")
    return {
        "appconfig-deployment-complete.json": _appconfig("OnDeploymentComplete"),
        "appconfig-rolled-back.json": _appconfig("OnDeploymentRolledBack"),
        "appconfig-sqs.json": _appconfig_sqs(),
        "launchdarkly-flag-updated.json": _launchdarkly(flag_updated, SECRET),
        "launchdarkly-forged.json": _launchdarkly(flag_updated, FORGED_WITH),
        "launchdarkly-segment-updated.json": _launchdarkly(segment_updated, SECRET, encode=True),
        "manual-allow-shrink.json": {"source": LAUNCHDARKLY_SOURCE, "allow_shrink": "0" * 64},
        "schedule.json": {"schedule": True},
        "split-flag-changed.json": _split(),
        "sqs-batch.json": _batch(),
        "unleash-duplicate.json": _unleash(enabled, SECRET, request="unleash-2"),
        "unleash-feature-enabled.json": _unleash(enabled, SECRET, request="unleash-1"),
        "unleash-wrong-secret.json": _unleash(enabled, FORGED_WITH, request="unleash-3"),
    }


def render(event: object) -> bytes:
    """Return the content of an event's file."""
    return (json.dumps(event, indent=2, ensure_ascii=False) + "\n").encode()


def main() -> None:
    """Write the files."""
    for name, event in events().items():
        (DIRECTORY / name).write_bytes(render(event))


def _flag_updated() -> bytes:
    before = {**new_flag("new-checkout"), "on": False, "version": 7}
    after = {**before, "on": True, "version": 8}
    return _entry("flag", "new-checkout", "updateOn", number=1, before=before, after=after)


def _segment_updated() -> bytes:
    return _entry("segment", "beta-testers", "updateIncluded", number=2)


def _entry(
    kind: str, key: str, action: str, *, number: int, **versions: Mapping[str, Any]
) -> bytes:
    entry = launchdarkly.audit_entry(
        kind,
        key,
        action,
        number=number,
        date_ms=SENT_AT_MS,
        **versions,
    )
    return compact(entry)


def _unleash_body(number: int, kind: str, flag: str) -> bytes:
    told = unleash.event(
        number,
        kind,
        flag=flag,
        environment=ENVIRONMENT,
    )
    return compact(told)


def _launchdarkly(body: bytes, secret: str, *, encode: bool = False) -> dict[str, Any]:
    headers = {
        "content-type": "application/json",
        "user-agent": "LD-Integrations/1.0",
        launchdarkly.SIGNATURE_HEADER.lower(): launchdarkly.sign(body, secret),
    }
    request = f"launchdarkly-{hashlib.sha256(body).hexdigest()[:8]}"
    return _api_gateway(LAUNCHDARKLY_SOURCE, headers, body, request=request, encode=encode)


def _unleash(body: bytes, secret: str, *, request: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    return _api_gateway(UNLEASH_SOURCE, headers, body, request=request)


def _split() -> dict[str, Any]:
    """Make it from the documented schema: no webhook of Split's has been recorded."""
    before = {**split.new_flag("new-checkout"), "killed": True, "changeNumber": SENT_AT_MS - 60_000}
    after = {**before, "killed": False, "changeNumber": SENT_AT_MS}
    body = compact(split.event(after, environment=ENVIRONMENT, previous=before))
    headers = {"content-type": "application/json"}
    return _api_gateway(SPLIT_SOURCE, headers, body, request="split-1", token=SECRET)


def _appconfig_event(kind: str) -> dict[str, Any]:
    return appconfig_flags.event(kind, APPCONFIG_DEPLOYMENT, version=2, ids=APPCONFIG_IDS)


def _appconfig(kind: str) -> dict[str, Any]:
    return appconfig_flags.over_eventbridge(
        _appconfig_event(kind),
        delivery="00000000-0000-4000-8000-000000000003",
        account=ACCOUNT,
        region="eu-west-1",
        time="2026-11-18T11:06:40Z",
    )


def _appconfig_sqs() -> dict[str, Any]:
    """Make one event of EventBridge on the queue."""
    body = json.dumps(_appconfig("OnDeploymentComplete"), separators=(",", ":"))
    return {"Records": [_message(1, body)]}


def _api_gateway(
    source: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    request: str,
    encode: bool = False,
    token: str = "",
) -> dict[str, Any]:
    """Wrap a webhook as an HTTP API hands it to a function (payload format 2.0)."""
    path, route = f"/webhooks/{source}", "POST /webhooks/{source}"
    parameters = {"source": source}
    if token:
        path, route = f"{path}/{token}", f"{route}/{{token}}"
        parameters["token"] = token
    domain = "sample.execute-api.eu-west-1.amazonaws.com"
    return {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {**headers, "content-length": str(len(body)), "host": domain},
        "pathParameters": parameters,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "sample",
            "domainName": domain,
            "domainPrefix": "sample",
            "http": {
                "method": "POST",
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.10",
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request,
            "routeKey": route,
            "stage": "$default",
            "time": "18/Nov/2026:11:06:40 +0000",
            "timeEpoch": SENT_AT_MS,
        },
        "body": base64.b64encode(body).decode() if encode else body.decode(),
        "isBase64Encoded": encode,
    }


def _batch() -> dict[str, Any]:
    return {
        "Records": [
            _record(1, LAUNCHDARKLY_SOURCE, ["flag/new-checkout@8"], f"{1:024x}"),
            _record(2, LAUNCHDARKLY_SOURCE, [], f"{2:024x}"),
            _record(3, UNLEASH_SOURCE, [f"revision/{UNLEASH_EVENT}"], str(UNLEASH_EVENT)),
        ]
    }


def _record(number: int, source: str, required: list[str], delivery: str) -> dict[str, Any]:
    sync_request = {
        "source": source,
        "required": required,
        "sent_at": SENT_AT_MS,
        "trigger": "webhook",
        "delivery": delivery,
    }
    return _message(number, json.dumps(sync_request, separators=(",", ":")))


def _message(number: int, body: str) -> dict[str, Any]:
    return {
        "messageId": f"00000000-0000-4000-8000-{number:012d}",
        "receiptHandle": f"sample-receipt-{number}",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(SENT_AT_MS),
            "SenderId": "AROASAMPLE:WebhookFunction",
            "ApproximateFirstReceiveTimestamp": str(SENT_AT_MS + 10),
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:eu-west-1:{ACCOUNT}:flagstore-requests",
        "awsRegion": "eu-west-1",
    }


if __name__ == "__main__":
    main()
