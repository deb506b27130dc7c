"""The registry of providers. A new provider is one file in this package and one line here."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from storesync.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storesync.model import ProviderEvent
    from storesync.providers.base import Provider

_PROVIDERS = {
    "appconfig": "AppConfig",
    "launchdarkly": "LaunchDarkly",
    "split": "Split",
    "unleash": "Unleash",
}
"""Name → class; the module has the provider's name."""


def names() -> tuple[str, ...]:
    """Return the known names, sorted."""
    return tuple(sorted(_PROVIDERS))


@cache
def get(name: str) -> Provider:
    """Return the provider of that name, imported at the first call.

    Raises:
        ConfigurationError: unknown; lists the known names.
    """
    if name not in _PROVIDERS:
        raise ConfigurationError(f"no provider {name[:64]!r}: use one of {', '.join(names())}")
    module = import_module(f"storesync.providers.{name}")
    return cast("Provider", getattr(module, _PROVIDERS[name])())


def provider_event(event: Mapping[str, Any]) -> ProviderEvent | None:
    """Parse an EventBridge event of a provider; None for anything else."""
    if event.get("source") != "aws.appconfig":
        return None
    return get("appconfig").provider_event(event)
