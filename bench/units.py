"""A client of DynamoDB that counts requests, and the units that AWS would bill.

Units are computed from the sizes of items, since the stand-in's own count is wrong. Sources: AWS'
pages "DynamoDB item sizes and formats" and "DynamoDB read and write operations": a write of up to
1 KB is a unit, in a transaction two; a read of up to 4 KB is half a unit, read consistently one.
"""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import Any

WRITE_BYTES = 1_024
READ_BYTES = 4_096


def size(item: dict[str, Any]) -> int:
    """Return the bytes of an item with typed attributes."""
    return sum(len(name.encode()) + _value(value) for name, value in item.items())


def _value(value: dict[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "B":
        return len(content)
    if kind == "N":
        return (len(content) + 1) // 2 + 1
    if kind in {"BOOL", "NULL"}:
        return 1
    raise ValueError(kind)


class CountingClient:
    """Wraps a client of boto3's; everything that is not counted goes through."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()
        self.write_units = 0
        self.read_units = 0.0
        self.bytes_written = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        count = _COUNTED.get(name)
        if count is None:
            return method

        def call(**arguments: Any) -> Any:
            self.calls[name] += 1
            return count(self, method, arguments)

        return call

    def requests(self) -> int:
        """Return the number of requests."""
        return self.calls.total()

    def get_paginator(self, operation: str) -> Any:
        """Return a paginator whose pages are counted."""
        return _Pages(getattr(self, operation))

    def _written(self, item: dict[str, Any], times: int = 1) -> None:
        self.bytes_written += size(item)
        self.write_units += times * max(1, ceil(size(item) / WRITE_BYTES))

    def _now(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return an item as it is now, uncounted."""
        key, table = arguments["Key"], arguments["TableName"]
        response = self._client.get_item(TableName=table, Key=key, ConsistentRead=True)
        return dict(response.get("Item", key))

    def _get(self, method: Any, arguments: dict[str, Any]) -> Any:
        response = method(**arguments)
        self._read([response.get("Item", {})], arguments)
        return response

    def _query(self, method: Any, arguments: dict[str, Any]) -> Any:
        response = method(**arguments)
        # A projection narrows what is sent, not what is billed; so this is a lower bound then.
        self._read(response["Items"], arguments)
        return response

    def _read(self, items: list[dict[str, Any]], arguments: dict[str, Any]) -> None:
        units = max(1, ceil(sum(map(size, items)) / READ_BYTES))
        self.read_units += units if arguments.get("ConsistentRead") else units / 2

    def _put(self, method: Any, arguments: dict[str, Any]) -> Any:
        self._written(arguments["Item"])
        return method(**arguments)

    def _update(self, method: Any, arguments: dict[str, Any]) -> Any:
        response = method(**arguments)
        self._written(self._now(arguments))
        return response

    def _delete(self, method: Any, arguments: dict[str, Any]) -> Any:
        self._written(self._now(arguments))
        return method(**arguments)

    def _batch(self, method: Any, arguments: dict[str, Any]) -> Any:
        for table, requests in arguments["RequestItems"].items():
            for request in requests:
                if "PutRequest" in request:
                    self._written(request["PutRequest"]["Item"])
                else:
                    key = request["DeleteRequest"]["Key"]
                    self._written(self._now({"Key": key, "TableName": table}))
        return method(**arguments)

    def _transact(self, method: Any, arguments: dict[str, Any]) -> Any:
        later = []
        for action in arguments["TransactItems"]:
            ((kind, details),) = action.items()
            if kind == "Put":
                self._written(details["Item"], 2)
            elif kind == "Update":
                later.append(details)
            else:  # a deletion, or a check, which is billed as if it wrote
                self._written(self._now(details), 2)
        response = method(**arguments)
        for details in later:
            self._written(self._now(details), 2)
        return response


_COUNTED: dict[str, Any] = {
    "get_item": CountingClient._get,  # noqa: SLF001 - of this module
    "query": CountingClient._query,  # noqa: SLF001
    "put_item": CountingClient._put,  # noqa: SLF001
    "update_item": CountingClient._update,  # noqa: SLF001
    "delete_item": CountingClient._delete,  # noqa: SLF001
    "batch_write_item": CountingClient._batch,  # noqa: SLF001
    "transact_write_items": CountingClient._transact,  # noqa: SLF001
}


class _Pages:
    def __init__(self, query: Any) -> None:
        self._query = query

    def paginate(self, **arguments: Any) -> Any:
        """Yield pages."""
        while True:
            page = self._query(**arguments)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
