"""The providers by name. A new one is one file beside this one, and one line here."""

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
    "appconfig": "storesync.providers.appconfig:AppConfig",
    "launchdarkly": "storesync.providers.launchdarkly:LaunchDarkly",
    "split": "storesync.providers.split:Split",
    "unleash": "storesync.providers.unleash:Unleash",
}


def names() -> tuple[str, ...]:
    """Return the known names, sorted."""
    return tuple(sorted(_PROVIDERS))


@cache
def get(name: str) -> Provider:
    """Return the provider of that name; imported when first asked for.

    Raises:
        ConfigurationError: there is none; lists those that there are.
    """
    try:
        module, _, attribute = _PROVIDERS[name].partition(":")
    except KeyError:
        message = f"no provider {name[:64]!r}: known are {', '.join(names())}"
        raise ConfigurationError(message) from None
    return cast("Provider", getattr(import_module(module), attribute)())


def provider_event(event: Mapping[str, Any]) -> ProviderEvent | None:
    """Return what an event of AWS says to the sources of some provider; None if it is no such."""
    found = (get(name).provider_event(event) for name in names())
    return next((each for each in found if each), None)
