"""The store of each source: DynamoDB, or the Redis server in the source's credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storesync.stores.dynamodb import DynamoDBStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from storesync.model import Secret, Source
    from storesync.retry import Deadline
    from storesync.stores.redis import RedisStore
    from storesync.stores.redis_client import Server

    OpenStore = DynamoDBStore | RedisStore


class Stores:
    """Opens stores, and keeps their connections between syncs.

    ``redis_ca_file``: PEM file of the authorities to trust for Redis; empty for the system's.
    """

    def __init__(
        self, table_client: DynamoDBClient, table: str, *, redis_ca_file: str = ""
    ) -> None:
        self.table_client = table_client
        self._table = table
        self._redis_ca_file = redis_ca_file
        self._servers: dict[Secret, Server] = {}

    def open(self, source: Source, deadline: Deadline) -> OpenStore:
        """Return the store of a source, for one sync.

        Raises:
            ConfigurationError: if the URL of Redis or the file of authorities is invalid.
        """
        if source.store == "dynamodb":
            return DynamoDBStore(self.table_client, self._table, deadline, rows_at=source.rows_at)
        # Takes 100 ms, which a deployment without Redis avoids.
        from storesync.stores.redis import RedisStore  # noqa: PLC0415
        from storesync.stores.redis_client import open_redis  # noqa: PLC0415

        if source.store_url not in self._servers:
            url = source.store_url.reveal()
            self._servers[source.store_url] = open_redis(url, ca_file=self._redis_ca_file)
        return RedisStore(self._servers[source.store_url], deadline, rows_at=source.rows_at)
