"""Webhooks at the providers: the steps to create one by hand, and ``--register`` through an API."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from storesync.cli.screen import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from storesync.model import WebhookConfig

TIMEOUT_S = 15.0
SUCCESS = range(200, 300)
BY_HAND = "check --api-url, or create the webhook by hand"
_STEPS = {
    "launchdarkly": (
        "In LaunchDarkly: the gear (Organization settings), Integrations, Webhooks: add one",
        "URL: {url}",
        "Check 'Sign this webhook', secret: {secret}",
        "Policy (the default leaves out segments and AI Configs): {policy}",
        "Accept the terms, save, and make sure that it is on",
    ),
    "split": (
        "Harness: FME Settings, Integrations, Webhooks; classic: Admin settings, Outgoing webhook",
        "Select the project, and the environment {environment}",
        "URL, which contains the secret: {url}",
        "Save. Split sends webhooks for flags only: segments follow with the schedule",
    ),
    "unleash": (
        "In Unleash: Integrations, Webhook",
        "URL: {url}",
        "{proof}",
        "Select all events (those of segments and dependencies are there only with --register)",
        "Save. Unleash takes up to a minute to notice",
    ),
}
UNLEASH_EVENTS = (
    "feature-archived", "feature-created", "feature-deleted", "feature-dependencies-removed",
    "feature-dependency-added", "feature-dependency-removed", "feature-environment-disabled",
    "feature-environment-enabled", "feature-environment-variants-updated", "feature-import",
    "feature-metadata-updated", "feature-project-change", "feature-revived", "feature-stale-off",
    "feature-stale-on", "feature-strategy-add", "feature-strategy-remove",
    "feature-strategy-update", "feature-tagged", "feature-untagged", "feature-updated",
    "feature-variants-updated", "features-imported", "project-archived", "project-deleted",
    "project-environment-added", "project-environment-removed", "project-revived",
    "segment-created", "segment-deleted", "segment-updated", "strategy-order-changed",
)  # fmt: skip
"""Every event that changes what SDKs receive."""


def webhook_url(base: str, webhook: WebhookConfig) -> str:
    """Return the URL for the provider. With the method ``url`` it contains the secret."""
    secret = f"/{webhook.secrets[0].reveal()}" if webhook.method == "url" else ""
    return f"{base}/{webhook.name}{secret}"


def manual_steps(base: str, webhook: WebhookConfig) -> list[str]:
    """Return the steps in the provider's console. They contain the secret."""
    secret = webhook.secrets[0].reveal()
    proofs = {
        "authorization": f"Authorization: {secret}",
        "header": f'Extra HTTP headers: {{"{webhook.header}": "{secret}"}}',
        "url": "Authorization: leave it empty, since the URL contains the secret",
    }
    known = {
        "url": webhook_url(base, webhook),
        "secret": secret,
        "environment": " and ".join(_environments(webhook)) or "of the key",
        "policy": json.dumps(launchdarkly_policy(webhook.sources.values())),
        "proof": proofs.get(webhook.method, ""),
    }
    steps = _STEPS.get(webhook.provider, ("Send its webhook to {url}; see docs/configure.md",))
    return [text.format_map(known) for text in steps]


def _environments(webhook: WebhookConfig) -> list[str]:
    """Return the environments of a webhook's sources; none if one of them takes all."""
    found = [options.get("environment", "") for options in webhook.sources.values()]
    return list(dict.fromkeys(found)) if all(found) else []


def launchdarkly_policy(sources: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return LaunchDarkly's policy for everything that SDKs receive, by the sources' options."""
    places: dict[str, str] = {}
    for options in sources:
        project = f"proj/{options.get('project') or '*'}"
        places[f"{project}:env/{options.get('environment') or '*'}"] = project
    resources = [
        [f"{where}:flag/*" for where in places],
        [f"{where}:segment/*" for where in places],
        # Some edits of AI Configs apply to the whole project.
        [f"{where}:aiconfig/*" for where in (*places, *dict.fromkeys(places.values()))],
    ]
    return [{"effect": "allow", "actions": ["*"], "resources": each} for each in resources]


def api_url(provider: str, base_url: str) -> str:
    """Return the address of a provider's webhook API from its base URL, or "" if unknown."""
    if provider == "unleash":
        return re.sub(r"/+api(/.*)?$", "", base_url)
    found = re.fullmatch(r"https://sdk\.((eu\.)?launchdarkly\.(com|us))", base_url)
    return f"https://app.{found[1]}" if found else ""


class Registrar:
    """Client of a provider's webhook API. A failed request is a CommandError.

    Unleash: ``/api/admin/addons``, which takes every event; the dashboard offers only some.
    LaunchDarkly: ``/api/v2/webhooks`` (LaunchDarkly API docs: webhooks).
    """

    def __init__(self, api_url: str, token: str) -> None:
        self._api_url = api_url.rstrip("/")
        self._token = token

    def find(self, base: str, webhook: WebhookConfig) -> dict[str, Any] | None:
        """Return the webhook as the provider describes it, or None."""
        if webhook.provider == "unleash":
            # The API hides URLs, so the description identifies the webhook.
            addons = self._call("GET", "/api/admin/addons").get("addons", [])
            description = f"flagstore: {base}/{webhook.name}"
            return next((each for each in addons if each.get("description") == description), None)
        items = self._call("GET", "/api/v2/webhooks").get("items", [])
        url = webhook_url(base, webhook)
        return next((each for each in items if each.get("url") == url), None)

    def register(self, base: str, webhook: WebhookConfig) -> str:
        """Create or update the webhook; return ``created`` or ``updated``."""
        there = self.find(base, webhook)
        if webhook.provider == "unleash":
            path, create, update = "/api/admin/addons", _addon(base, webhook), "PUT"
            changed: object = create
        else:
            path, create, update = "/api/v2/webhooks", _webhook(base, webhook), "PATCH"
            fields = ("on", "secret", "statements")
            changed = [{"op": "add", "path": f"/{each}", "value": create[each]} for each in fields]
        if there:
            self._call(update, f"{path}/{there.get('id') or there['_id']}", changed)
        else:
            self._call("POST", path, create)
        return "updated" if there else "created"

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send a request, without redirects or ``.netrc``: the token goes to this address only."""
        host = urlsplit(self._api_url).hostname
        try:
            with requests.Session() as session:
                session.trust_env = False
                response = session.request(
                    method,
                    self._api_url + path,
                    json=body,
                    headers={"Authorization": self._token},
                    timeout=TIMEOUT_S,
                    allow_redirects=False,
                )
            if response.status_code in SUCCESS:
                found: dict[str, Any] = response.json() if response.content else {}
                return found
        except (requests.RequestException, UnicodeError) as error:  # its text may quote the token
            message = f"no usable response from {host}: {type(error).__name__}"
            raise CommandError(Exit.PROVIDER, message, BY_HAND) from None
        message, remedy = f"{host} responded with {response.status_code}", BY_HAND
        if response.status_code in {401, 403}:
            message += ": the token cannot manage webhooks"
            remedy = "use an admin token, or create the webhook by hand"
        raise CommandError(Exit.PROVIDER, message, remedy)


def _addon(base: str, webhook: WebhookConfig) -> dict[str, Any]:
    secret = webhook.secrets[0].reveal()
    proof = {
        "authorization": {"authorization": secret},
        "header": {"customHeaders": json.dumps({webhook.header: secret})},
    }.get(webhook.method, {})
    return {
        "provider": "webhook",
        "enabled": True,
        "description": f"flagstore: {base}/{webhook.name}",
        "parameters": {"url": webhook_url(base, webhook), **proof},
        "events": list(UNLEASH_EVENTS),
        "projects": [],
        "environments": _environments(webhook),
    }


def _webhook(base: str, webhook: WebhookConfig) -> dict[str, Any]:
    return {
        "name": f"flagstore: {webhook.name}",
        "url": webhook_url(base, webhook),
        "on": True,
        "sign": True,
        "secret": webhook.secrets[0].reveal(),
        "statements": launchdarkly_policy(webhook.sources.values()),
        "tags": ["flagstore"],
    }
