"""Makes the webhook at the provider, through its API, with a token that a person gives for once.

Unleash: ``/api/admin/addons``; its server takes every event's name, its dashboard offers only some.
LaunchDarkly: ``/api/v2/webhooks`` (LaunchDarkly API docs: webhooks).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from storesync.cli.guidance import policy, webhook_url
from storesync.cli.problems import Exit, Problem
from storesync.cli.web import UnansweredError, send

if TYPE_CHECKING:
    from storesync.model import WebhookConfig

SUCCESS = range(200, 300)
ELSE = "check --api-url, or make it by the clicks"
UNLEASH_EVENTS = (
    "feature-archived",
    "feature-created",
    "feature-deleted",
    "feature-dependencies-removed",
    "feature-dependency-added",
    "feature-dependency-removed",
    "feature-environment-disabled",
    "feature-environment-enabled",
    "feature-environment-variants-updated",
    "feature-import",
    "feature-metadata-updated",
    "feature-project-change",
    "feature-revived",
    "feature-stale-off",
    "feature-stale-on",
    "feature-strategy-add",
    "feature-strategy-remove",
    "feature-strategy-update",
    "feature-tagged",
    "feature-untagged",
    "feature-updated",
    "feature-variants-updated",
    "features-imported",
    "project-archived",
    "project-deleted",
    "project-environment-added",
    "project-environment-removed",
    "project-revived",
    "segment-created",
    "segment-deleted",
    "segment-updated",
    "strategy-order-changed",
)
"""Every event that changes what an SDK is served."""


class Registrar:
    """One provider's API, for the webhook of one source."""

    def __init__(self, api_url: str, token: str) -> None:
        self._api_url = api_url.rstrip("/")
        self._token = token

    def find(self, base: str, webhook: WebhookConfig) -> dict[str, Any] | None:
        """Return the webhook as the provider has it; None if there is none.

        Raises:
            Problem: the API refused.
        """
        if webhook.provider == "unleash":
            # It shows no URLs, so the description says which one is ours.
            addons = self._call("GET", "/api/admin/addons").get("addons", [])
            mine = _description(base, webhook)
            return next((each for each in addons if each.get("description") == mine), None)
        items = self._call("GET", "/api/v2/webhooks").get("items", [])
        url = webhook_url(base, webhook)
        return next((each for each in items if each.get("url") == url), None)

    def register(self, base: str, webhook: WebhookConfig) -> str:
        """Make the webhook, or bring the one that is there up to date; say which.

        Raises:
            Problem: the API refused.
        """
        there = self.find(base, webhook)
        if webhook.provider == "unleash":
            addon = _addon(base, webhook)
            if there:
                self._call("PUT", f"/api/admin/addons/{there['id']}", addon)
            else:
                self._call("POST", "/api/admin/addons", addon)
        else:
            secret, statements = webhook.secrets[0].reveal(), policy(webhook.options)
            if there:
                values = {"on": True, "secret": secret, "statements": statements}
                patch = [{"op": "add", "path": f"/{k}", "value": v} for k, v in values.items()]
                self._call("PATCH", f"/api/v2/webhooks/{there['_id']}", patch)
            else:
                self._call("POST", "/api/v2/webhooks", _webhook(base, webhook))
        return "changed" if there else "made"

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Call the API, and return what it responses.

        Raises:
            Problem: it refused, or gave no usable response.
        """
        host = urlsplit(self._api_url).hostname
        headers = {"Authorization": self._token, "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        try:
            response = send(method, self._api_url + path, headers, content)
            if response.status in {401, 403}:
                what = f"{host} responded with {response.status}: the token may not manage webhooks"
                raise Problem(Exit.PROVIDER, what, "use an admin token, or make it by the clicks")
            if response.status not in SUCCESS:
                raise Problem(
                    Exit.PROVIDER,
                    f"{host} responded with {response.status} to {method} {path}",
                    ELSE,
                )
            found = json.loads(response.body or b"{}")
        except (UnansweredError, ValueError) as error:
            why = str(error) if isinstance(error, UnansweredError) else "it is no JSON"
            raise Problem(Exit.PROVIDER, f"no usable response from {host}: {why}", ELSE) from None
        return found if isinstance(found, dict) else {}


def api_url(provider: str, base_url: str) -> str:
    """Return where a provider's own API is, by where its flags are; empty if not known."""
    if provider == "unleash":
        return re.sub(r"/+api(/.*)?$", "", base_url)
    found = re.fullmatch(r"https://sdk\.((eu\.)?launchdarkly\.(com|us))", base_url)
    return f"https://app.{found[1]}" if found else ""


def _description(base: str, webhook: WebhookConfig) -> str:
    return f"flagstore: {base}/{webhook.source}"


def _addon(base: str, webhook: WebhookConfig) -> dict[str, Any]:
    secret = webhook.secrets[0].reveal()
    proof = {
        "authorization": {"authorization": secret},
        "header": {"customHeaders": json.dumps({webhook.header: secret})},
    }.get(webhook.method, {})
    environment = webhook.options.get("environment")
    return {
        "provider": "webhook",
        "enabled": True,
        "description": _description(base, webhook),
        "parameters": {"url": webhook_url(base, webhook), **proof},
        "events": list(UNLEASH_EVENTS),
        "projects": [],
        "environments": [environment] if environment else [],
    }


def _webhook(base: str, webhook: WebhookConfig) -> dict[str, Any]:
    return {
        "name": f"flagstore: {webhook.source}",
        "url": webhook_url(base, webhook),
        "on": True,
        "sign": True,
        "secret": webhook.secrets[0].reveal(),
        "statements": policy(webhook.options),
        "tags": ["flagstore"],
    }
