"""What each provider needs from a person: what to ask, and what to click. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storesync.model import WebhookConfig


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask when a source is added."""

    option: str
    text: str
    of_source: bool = False
    of_webhook: bool = True


@dataclass(frozen=True, slots=True)
class Guide:
    """One provider."""

    key: str
    """What its key is called there."""
    questions: tuple[Question, ...]
    clicks: tuple[str, ...]
    """What to do in its console; ``{url}``, ``{secret}`` and the options are filled in."""
    registers: bool = False
    """Whether its API can make the webhook; see :mod:`storesync.cli.registration`."""
    notes: tuple[str, ...] = ()
    """What a person has to know who makes it a source."""


_UNKNOWN = Guide(
    key="server-side key or token",
    questions=(),
    clicks=("Let it send its webhook to {url}", "docs/configure.md has the details"),
)

_GUIDES = {
    "appconfig": Guide(
        key="",
        questions=tuple(
            Question(option, f"Id of the {text}", of_source=True, of_webhook=False)
            for option, text in (
                ("application", "application"),
                ("environment", "environment"),
                ("profile", "configuration profile"),
            )
        ),
        clicks=(),
        notes=(
            "a gradual deployment becomes 0 -> 100 % here: all readers get it when it is complete",
            "with --option live=baking an alarm's rollback comes after everybody has it",
            "rights and events: deploy with AppConfigProfile=<application>/<environment>/<profile>",
            "docs/configure.md says more",
        ),
    ),
    "launchdarkly": Guide(
        key="SDK key of the environment (sdk-…)",
        questions=(
            Question("project", "Key of the project (recommended; empty: any)"),
            Question("environment", "Key of the environment (recommended; empty: any)"),
        ),
        clicks=(
            "In LaunchDarkly: the gear (Organization settings), Integrations, Webhooks: add one",
            "URL: {url}",
            "Tick 'Sign this webhook', secret: {secret}",
            "Policy (the default leaves segments and AI Configs out): {policy}",
            "Accept the terms, save, and see that it is switched on",
        ),
        registers=True,
    ),
    "split": Guide(
        key="server-side SDK key of the environment",
        questions=(Question("environment", "Name of the environment (recommended; empty: any)"),),
        clicks=(
            "In Harness: FME Settings, Integrations, Webhooks",
            "In the classic console: Admin settings, Integrations, Outgoing webhook (Audit log)",
            "Choose the project, and tick the environment {environment}",
            "URL, which carries the secret: {url}",
            "Save. Split requests a sync for flags only: segments come with the schedule",
        ),
    ),
    "unleash": Guide(
        key="backend (client) token of the environment",
        questions=(
            Question("environment", "Name of the environment (empty: any)", of_source=True),
        ),
        clicks=(
            "In Unleash: Integrations, Webhook",
            "URL: {url}",
            "{proof}",
            "Tick all events",
            "The form does not offer those of segments and dependencies: --register does it all",
            "Save. Unleash takes up to a minute to notice",
        ),
        registers=True,
    ),
}


def guide(provider: str) -> Guide:
    """Return what is known of a provider; something general for one that is not known here."""
    return _GUIDES.get(provider, _UNKNOWN)


def webhook_url(base: str, webhook: WebhookConfig) -> str:
    """Return where the provider has to send its webhooks; may hold the secret."""
    secret = f"/{webhook.secrets[0].reveal()}" if webhook.method == "url" else ""
    return f"{base}/{webhook.source}{secret}"


def clicks(base: str, webhook: WebhookConfig) -> list[str]:
    """Return what to do in the provider's console, step by step. Holds the secret."""
    secret = webhook.secrets[0].reveal()
    proofs = {
        "authorization": f"Authorization: {secret}",
        "header": f'Extra HTTP headers: {{"{webhook.header}": "{secret}"}}',
        "url": "Authorization: leave it empty, the URL carries the secret",
    }
    known = {
        "url": webhook_url(base, webhook),
        "secret": secret,
        "environment": webhook.options.get("environment", "that the key belongs to"),
        "policy": json.dumps(policy(webhook.options)),
        "proof": proofs.get(webhook.method, ""),
    }
    return [text.format_map(known) for text in guide(webhook.provider).clicks]


def policy(options: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return LaunchDarkly's policy for what SDKs see of an environment."""
    project = f"proj/{options.get('project') or '*'}"
    where = f"{project}:env/{options.get('environment') or '*'}"
    resources = [[f"{where}:flag/*"], [f"{where}:segment/*"]]
    # Some edits of AI Configs are of the whole project.
    resources.append([f"{where}:aiconfig/*", f"{project}:aiconfig/*"])
    return [{"effect": "allow", "actions": ["*"], "resources": each} for each in resources]
