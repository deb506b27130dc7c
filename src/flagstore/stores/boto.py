"""Read from DynamoDB through boto3, which finds credentials that are not in the environment.

For people's own machines and whatever else is no Lambda function: to import boto3 takes longer
than all else that a first flag needs.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.stores.dynamodb import first_line
from flagstore.stores.network import in_background

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUTS_S = (0.2, 0.45, 0.95, 1.9)
"""Of clients, in seconds: the least is what a refresh has; shortest first."""


class BotoTransport:
    """DynamoDB through boto3, for credentials that are not in the environment."""

    def __init__(self) -> None:
        self._clients: dict[float, Any] = {}
        """By time-out: botocore's belong to a client, and a refresh has less time than a load."""
        self._session: Any = None
        self._pid = 0

    def call(self, operation: str, payload: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """Call one operation, twice if there is time; no wait is longer than what is left."""
        method = {"GetItem": "get_item", "Query": "query"}[operation]
        failures: tuple[type[Exception], ...] = (OSError, *_boto_exceptions())
        again = True
        while True:
            call = partial(self._call, method, payload, deadline)
            try:
                # Looking up credentials, to make a client, and names has no deadline in botocore.
                response: dict[str, Any] = in_background(call, deadline, operation)
            except failures as error:
                if again and deadline - time.monotonic() >= TIMEOUTS_S[0]:
                    again = False
                    continue
                message = f"{operation} through boto3: {first_line(str(error))}"
                raise StoreUnavailableError(message) from error
            return response

    def prepare(self) -> None:
        """Make a client, in the time of a first load."""
        _boto_exceptions()
        deadline = time.monotonic() + TIMEOUTS_S[-1]
        in_background(partial(self._client, deadline), deadline, "a client of boto3")

    def close(self) -> None:
        """Drop the clients with their connections; the next call makes others."""
        self._clients, self._session = {}, None

    def _call(self, method: str, payload: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        response: dict[str, Any] = getattr(self._client(deadline), method)(**payload)
        return response

    def _client(self, deadline: float) -> Any:  # noqa: ANN401 - boto3 is not typed here
        left = deadline - time.monotonic()
        if self._pid != os.getpid():  # parent and child would read each other's responses
            self.close()
            self._pid = os.getpid()
        # The longest that is in time; what is left of a quarter of a second is less than that.
        in_time = [seconds for seconds in TIMEOUTS_S if seconds <= left]
        seconds = in_time[-1] if in_time else TIMEOUTS_S[0]
        if seconds not in self._clients:
            self._clients[seconds] = self._make(seconds)
        return self._clients[seconds]

    def _make(self, seconds: float) -> Any:  # noqa: ANN401 - boto3 is not typed here
        import boto3  # noqa: PLC0415 - heavy, and rarely needed
        from botocore.config import Config  # noqa: PLC0415

        if self._session is None:  # which looks for credentials, and keeps them for all clients
            self._session = boto3.Session()
        # Not the module's: botocore has time-outs of its own.
        config = Config(
            connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1}
        )
        return self._session.client("dynamodb", config=config)


def _boto_exceptions() -> tuple[type[Exception], ...]:
    try:
        import boto3  # noqa: F401, PLC0415 - heavy, and rarely needed
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError as error:
        message = "no AWS keys in the environment; install boto3 for other credentials"
        raise ConfigurationError(message) from error
    return BotoCoreError, ClientError
