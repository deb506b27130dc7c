"""A client of DynamoDB or Redis that counts calls, kills the caller, or leaves items undone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

WRITES = {"update_item", "transact_write_items", "batch_write_item"}
OPERATIONS = WRITES | {"get_item", "query", "execute_command"}
"""Methods of boto3's client, and the one of redis-py's that all commands go through."""


class Killed(BaseException):
    """The process dies here; nothing may catch this."""


class UnreliableClient:
    """Wraps a client; ``fault(operation, moment, number)`` is asked before and after each call."""

    def __init__(self, client: Any, fault: Callable[[str, str, int], None] | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self._client = client
        self._fault = fault or (lambda *_: None)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in OPERATIONS:
            return method

        def call(*command: Any, **arguments: Any) -> Any:
            number = self.calls.total()
            self.calls[name] += 1
            self._fault(name, "before", number)
            response = method(*command, **arguments)
            self._fault(name, "after", number)
            return response

        return call

    def writes(self) -> int:
        """Return the number of requests that write."""
        return sum(self.calls[name] for name in WRITES)


class ForgetfulClient(UnreliableClient):
    """Returns a share of every batch as ``UnprocessedItems``, as DynamoDB does under load."""

    def __init__(self, client: Any, share: float, rng: random.Random) -> None:
        super().__init__(client)
        self._share = share
        self._rng = rng
        self.forgotten = 0

    def batch_write_item(self, RequestItems: dict[str, Any]) -> Any:  # noqa: N803 - boto3's name
        """Write some items and return the others as unprocessed."""
        self.calls["batch_write_item"] += 1
        ((table, requests),) = RequestItems.items()
        kept = [request for request in requests if self._rng.random() >= self._share]
        left = [request for request in requests if request not in kept]
        self.forgotten += len(left)
        if kept:
            self._client.batch_write_item(RequestItems={table: kept})
        return {"UnprocessedItems": {table: left} if left else {}}


def kill_at(moment: str, number: int) -> Callable[[str, str, int], None]:
    """Die before or after one call, counted from 0."""

    def fault(_operation: str, now: str, count: int) -> None:
        if (now, count) == (moment, number):
            raise Killed

    return fault
