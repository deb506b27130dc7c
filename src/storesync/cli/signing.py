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

    from storesync.model import Hook


def proof(hook: Hook, body: bytes) -> tuple[dict[str, str], str]:
    """Return the headers, and the last part of the URL, that the hook's check wants."""
    secret = hook.secrets[0].reveal()
    if hook.method == "signature":
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return {SIGNATURE_HEADER.lower(): digest}, ""
    if hook.method == "url":
        return {}, secret
    return {hook.header if hook.method == "header" else "authorization": secret}, ""


def signed(event: Mapping[str, Any], hook: Hook) -> dict[str, Any]:
    """Return an event of API Gateway with the proof for its body."""
    text = event.get("body") or ""
    body = base64.b64decode(text) if event.get("isBase64Encoded") else text.encode()
    headers, token = proof(hook, body)
    return {
        **event,
        "headers": {**event.get("headers", {}), **headers},
        "pathParameters": {"source": hook.source} | ({"token": token} if token else {}),
    }


def harmless(hook: Hook) -> bytes:
    """Return the body of an event that is accepted and, if the hook can tell, rings nothing."""
    elsewhere = f"not-{hook.options.get('environment', '')}"
    bodies = {
        "launchdarkly": {"kind": "member", "name": "storesync doctor"},
        "split": {"type": "doctor", "environmentName": elsewhere},
        "unleash": {"type": "doctor", "environment": elsewhere},
    }
    return json.dumps(bodies.get(hook.provider, {})).encode()
