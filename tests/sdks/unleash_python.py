"""Unleash's Python SDK at work, in an environment of its own.

It is told what to do on standard input, as JSON: the ``document`` of the server, as text, and which
``flags`` to evaluate for which ``contexts``. It prints a line for each context. Told the
``snapshot`` of a source, it reads that through our adapter, on the ``path`` of our modules, and
prints at the end what was read of the table.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from UnleashClient import UnleashClient
from UnleashClient.cache import BaseCache
from UnleashClient.constants import FEATURES_URL


class OneDocument(BaseCache):
    """Hands the client a document; the client asks no server."""

    bootstrapped = True

    def __init__(self, document: str) -> None:
        self._values: dict[str, Any] = {FEATURES_URL: document}

    def set(self, key: str, value: Any) -> None:
        """Keep what the client notes."""
        self._values[key] = value

    def mset(self, data: dict[str, Any]) -> None:
        """Keep what the client notes."""
        self._values.update(data)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the document, or what was kept."""
        return self._values.get(key, default)

    def exists(self, key: str) -> bool:
        """Say whether there is something."""
        return key in self._values

    def destroy(self) -> None:
        """Have nothing to clean up."""


def main() -> None:
    """Do what standard input says."""
    task = json.load(sys.stdin)
    calls: list[str] = []
    if task.get("snapshot"):
        client, calls = _adapter(task)
    else:
        client = UnleashClient(
            "http://127.0.0.1:9/api",
            "shop",
            environment="production",
            disable_metrics=True,
            disable_registration=True,
            cache=OneDocument(task["document"]),
        )
    for context in task["contexts"]:
        results = {
            flag: [client.is_enabled(flag, context), client.get_variant(flag, context)]
            for flag in task["flags"]
        }
        print(json.dumps({"known": len(client.feature_definitions()), "flags": results}))
    if task.get("snapshot"):
        print(json.dumps(calls))


def _adapter(task: dict[str, Any]) -> tuple[UnleashClient, list[str]]:
    sys.path += task["path"]
    from snapshot_client import counted_client  # noqa: PLC0415 - it is there from now on

    from flagstore.adapters import unleash  # noqa: PLC0415

    flags, calls = counted_client(task["snapshot"])
    if task.get("cache"):
        cache = unleash.SnapshotCache(flags)
        client = UnleashClient("http://127.0.0.1:9/api", "shop", "production", cache=cache)
        return client, calls
    return unleash.SnapshotClient(flags, "shop", environment="production"), calls


main()
