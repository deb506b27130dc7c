"""What each provider's flags say of a context: pure Python, no I/O, one module a provider."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flagstore.evaluation.base import Engine, EngineConfig, Items

ENGINES: tuple[str, ...] = ("appconfig", "launchdarkly", "split", "unleash")
"""Providers that have a module of their name here, with a function ``engine``."""

_WITH_RULES = {
    "appconfig": ("appconfig_rules",),
    "launchdarkly": (
        "launchdarkly_clauses",
        "launchdarkly_segments",
        "launchdarkly_semver",
        "launchdarkly_dates",
    ),
    "split": ("split_rule_based", "split_semver"),
    "unleash": ("unleash_literals", "unleash_addresses"),
}
"""Modules that an engine imports only once a flag needs them."""


def import_rules(provider: str) -> None:
    """Import what flags with rules, segments, dates and versions need, before one needs it."""
    for name in _WITH_RULES.get(provider, ()):
        import_module(f"flagstore.evaluation.{name}")


def open_engine(provider: str, items: Items, settings: EngineConfig) -> Engine | None:
    """Return the engine of a provider over one flag set; None where there is none.

    Imports that one: a reader has the flags of one provider.
    """
    if provider not in ENGINES:
        return None
    made: Engine = import_module(f"flagstore.evaluation.{provider}").engine(items, settings)
    return made
