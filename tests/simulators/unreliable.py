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
    """Wraps a client; ``fault(operation, moment, number)`` is asked before and after each call.

    A share of every batch is returned as ``UnprocessedItems``, as DynamoDB does under load.
    """

    def __init__(
        self,
        client: Any,
        fault: Callable[[str, str, int], None] = lambda *_: None,
        share: float = 0.0,
        rng: random.Random | None = None,
    ) -> None:
        self.calls: Counter[str] = Counter()
        self.forgotten = 0
        self.client, self.fault, self._share, self._rng = client, fault, share, rng

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if name not in OPERATIONS:
            return method
        if name == "batch_write_item" and self._share:
            method = self._write_some

        def call(*command: Any, **arguments: Any) -> Any:
            number = self.calls.total()
            self.calls[name] += 1
            self.fault(name, "before", number)
            response = method(*command, **arguments)
            self.fault(name, "after", number)
            return response

        return call

    def _write_some(self, RequestItems: dict[str, Any]) -> Any:  # noqa: N803 - boto3's name
        assert self._rng
        ((table, requests),) = RequestItems.items()
        kept = [request for request in requests if self._rng.random() >= self._share]
        left = [request for request in requests if request not in kept]
        self.forgotten += len(left)
        if kept:
            self.client.batch_write_item(RequestItems={table: kept})
        return {"UnprocessedItems": {table: left} if left else {}}


def kill_at(moment: str, number: int) -> Callable[[str, str, int], None]:
    def fault(_operation: str, now: str, count: int) -> None:
        if (now, count) == (moment, number):
            raise Killed

    return fault
