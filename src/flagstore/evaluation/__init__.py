"""Evaluation engines: pure Python, no I/O, one family of modules per provider."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flagstore.evaluation.base import Engine, EngineConfig, Items

ENGINES: dict[str, tuple[str, ...]] = {
    "appconfig": (".appconfig_rules",),
    "launchdarkly": (".launchdarkly_rules", ".semver", "datetime"),
    "split": (".semver",),
    "unleash": (".semver", "datetime", "ipaddress"),
}
"""Provider → modules that its engine imports when a flag first needs them. The module with the
provider's name defines ``engine``."""


def import_rules(provider: str) -> None:
    """Import during INIT the modules that flags with rules, segments or dates need."""
    for name in ENGINES.get(provider, ()):
        import_module(name, __name__)


def open_engine(provider: str, items: Items, config: EngineConfig) -> Engine | None:
    """Return the engine of a provider over one flag set, or None for an unknown provider.

    Imports only that engine: a reader has the flags of one provider.
    """
    if provider not in ENGINES:
        return None
    engine: Engine = import_module(f"flagstore.evaluation.{provider}").engine(items, config)
    return engine
