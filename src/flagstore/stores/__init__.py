"""Stores that a client can read; each is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.keys import Key, Record


class ReaderStore(Protocol):
    """The interface of a store for readers. Deadlines are values of ``time.monotonic()``."""

    @property
    def throttled(self) -> int:
        """How often the store has asked to slow down."""

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return one record, or None.

        Raises:
            StoreUnavailableError: if there is no response in time.
        """

    def prepare(self) -> None:
        """Prepare a connection (imports, TLS context) without connecting."""

    def close(self) -> None:
        """Close the connection, if there is one; the next read opens another. Idempotent."""


def open_store(environ: Mapping[str, str], clock: Callable[[], float]) -> ReaderStore:
    """Return the store that the environment names: a file, Redis, or else DynamoDB.

    Raises:
        ConfigurationError: if a setting of that store is missing or wrong.
    """
    if path := environ.get("FLAGSTORE_FILE"):
        from flagstore.stores.file import FileReader  # noqa: PLC0415 - when used

        return FileReader(path, clock)
    if environ.get("FLAGSTORE_REDIS_URL"):
        from flagstore.stores import redis  # noqa: PLC0415 - when used

        return redis.open_reader(environ)
    from flagstore.stores import dynamodb  # noqa: PLC0415 - when used

    return dynamodb.open_reader(environ)
