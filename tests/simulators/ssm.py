"""SSM's parameters by path, as boto3 hands them out: in pages, within a quota, with faults."""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from storesync.model import Clock

QUOTA = 40.0
"""Calls of GetParametersByPath a second, of one account and region."""


class TokenBucket:
    """A quota as AWS counts it: a bucket that is filled evenly, and refuses what it has not."""

    def __init__(self, rate: float, capacity: float, now: float = 0.0) -> None:
        self._rate = rate
        self._capacity = self._left = capacity
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token, if there is one; a refusal costs none."""
        self._left = min(self._capacity, self._left + self._rate * (now - self._at))
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Ssm:
    """As much of a boto3 client as the functions use; *wait* lets the time of a call pass."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        quota: float = inf,
        page: int = 10,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.parameters: dict[str, str] = {}
        """By full name."""
        self.asked: list[str] = []
        """The path of each call, refused or not."""
        self.refused = 0
        self.down = ""
        """The code of the error that every call gets; empty: none."""
        self._page = page
        self._wait = wait
        self._allowed: Callable[[], bool] = lambda: True
        if clock:
            self.limit(clock, quota)

    def limit(self, clock: Clock, quota: float) -> None:
        """Allow so many calls a second from now on; a second's worth may come at once."""
        bucket = TokenBucket(quota, quota, clock.monotonic())
        self._allowed = lambda: bucket.take(clock.monotonic())

    def put(self, path: str, values: Mapping[str, object]) -> None:
        kept = {k: v for k, v in self.parameters.items() if k.rpartition("/")[0] != path}
        texts = {
            f"{path}/{name}": value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }
        self.parameters = kept | texts

    def get_parameters_by_path(self, **arguments: Any) -> dict[str, Any]:
        path, start = arguments.pop("Path"), int(arguments.pop("NextToken", 0))
        assert arguments == {"WithDecryption": True}
        self.asked.append(path)
        self._wait()
        code = self.down or ("" if self._allowed() else "ThrottlingException")
        if code:
            self.refused += 1
            status = 500 if code == "InternalServerError" else 400
            response: Any = {
                "Error": {"Code": code, "Message": "simulated"},
                "ResponseMetadata": {"HTTPStatusCode": status},
            }
            raise ClientError(response, "GetParametersByPath")
        found = [
            {"Name": name, "Value": value}
            for name, value in self.parameters.items()
            if name.rpartition("/")[0] == path
        ]
        end = start + self._page
        more = {"NextToken": str(end)} if end < len(found) else {}
        return {"Parameters": found[start:end], **more}
