"""The in-memory store, which models and races run on: it is the one of `storesync invoke`."""

from __future__ import annotations

from storesync.cli.memory import MemoryStore, no_step

__all__ = ["MemoryStore", "no_step"]
