"""A client of the table, among the SDKs, that counts what it asks its store for."""

from __future__ import annotations

from typing import Any

from flagstore import Client
from flagstore.stores.dynamodb import open_reader


class CountedReader:
    """Passes reads on to the table; notes each in :attr:`calls` first."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._reader = open_reader()

    def read(self, key: Any, **options: Any) -> Any:
        """Read one record."""
        self.calls.append(f"read {key.namespace}")
        return self._reader.read(key, **options)

    def chunks(self, source: str, prefix: str, **options: Any) -> Any:
        """Read chunks."""
        self.calls.append("chunks")
        return self._reader.chunks(source, prefix, **options)

    def prepare(self) -> None:
        """Need nothing."""

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def counted_client(source: str) -> tuple[Client, list[str]]:
    """Return a client, and the list that its reads will be noted in."""
    store = CountedReader()
    return Client(source, store=store), store.calls
