"""Where a reader reads from; each store is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.layout import Key, Record


class ReaderStore(Protocol):
    """What a reader needs of a store. Deadlines in ``time.monotonic()`` seconds.

    Both raise :class:`flagstore.StoreUnavailableError` where there is no answer in time.
    """

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return one record."""

    def pieces(
        self, source: str, ticket: int, *, deadline: float, part: int | None = None
    ) -> list[bytes]:
        """Return the pieces of a ticket's body, or of one of its large parts, in order."""


def open_store(environ: Mapping[str, str], clock: Callable[[], float]) -> ReaderStore:
    """Return the store that the environment names: a file, Redis, or else DynamoDB.

    Raises:
        ConfigurationError: if what it says of that store is missing or wrong.
    """
    if path := environ.get("FLAGSTORE_FILE"):
        from flagstore.stores.file import FileReader  # noqa: PLC0415 - when used

        return FileReader(path, clock)
    if environ.get("FLAGSTORE_REDIS_URL"):
        from flagstore.stores import redis  # noqa: PLC0415 - when used

        return redis.open_reader(environ)
    from flagstore.stores import dynamodb  # noqa: PLC0415 - when used

    return dynamodb.open_reader(environ)
