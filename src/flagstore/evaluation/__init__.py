"""What each provider's flags say of a context: pure Python, no I/O, one module a provider."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flagstore.evaluation.base import Engine, Items, Settings

ENGINES: tuple[str, ...] = ("appconfig", "launchdarkly", "split", "unleash")
"""Providers that have a module of their name here, with a function ``engine``."""


def open_engine(provider: str, items: Items, settings: Settings) -> Engine | None:
    """Return the engine of a provider over one flag set; None where there is none.

    Imports that one: a reader has the flags of one provider.
    """
    if provider not in ENGINES:
        return None
    made: Engine = import_module(f"flagstore.evaluation.{provider}").engine(items, settings)
    return made
