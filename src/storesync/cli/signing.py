"""Says of a request what its provider would say to prove that it comes from it. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

from storesync.signature import SIGNATURE_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storesync.model import WebhookConfig


def proof(webhook: WebhookConfig, body: bytes) -> tuple[dict[str, str], str]:
    """Return the headers, and the last part of the URL, that the webhook's check wants."""
    secret = webhook.secrets[0].reveal()
    if webhook.method == "signature":
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return {SIGNATURE_HEADER.lower(): digest}, ""
    if webhook.method == "url":
        return {}, secret
    return {webhook.header if webhook.method == "header" else "authorization": secret}, ""


def signed(event: Mapping[str, Any], webhook: WebhookConfig) -> dict[str, Any]:
    """Return an event of API Gateway with the proof for its body."""
    text = event.get("body") or ""
    body = base64.b64decode(text) if event.get("isBase64Encoded") else text.encode()
    headers, token = proof(webhook, body)
    return {
        **event,
        "headers": {**event.get("headers", {}), **headers},
        "pathParameters": {"source": webhook.source} | ({"token": token} if token else {}),
    }


def harmless(webhook: WebhookConfig) -> bytes:
    """Return the body of an event that is accepted and, where possible, requests no sync."""
    elsewhere = f"not-{webhook.options.get('environment', '')}"
    http_bodies = {
        "launchdarkly": {"kind": "member", "name": "storesync doctor"},
        "split": {"type": "doctor", "environmentName": elsewhere},
        "unleash": {"type": "doctor", "environment": elsewhere},
    }
    return json.dumps(http_bodies.get(webhook.provider, {})).encode()
