"""Repeat an exchange with a server, over a connection that is kept for as long as it lives."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

from flagstore.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Result = TypeVar("Result")

    class KeptConnection(Protocol):
        """A connection of either store."""

        @property
        def receiving(self) -> bool:
            """Whether the last exchange has received anything."""

        def is_open(self) -> bool:
            """Return whether the connection can be used for another exchange."""

        def close(self) -> None:
            """Close the connection. Idempotent."""


KEPT_SHARE = 0.4
"""Share of the time left that a kept connection gets for the first byte of a response. While Lambda
froze the process the other end may have gone without a word, and a fresh connection needs time."""
FIRST_PAUSE_S = 0.02
"""Pause before the second attempt, half of it to half as much again; doubles each time."""


class RetryingTransport:
    """Base of both stores' transports. Used by one thread at a time: the reader holds a lock."""

    trust_remedy = ""
    """What to check if the server's certificate is not trusted."""

    def __init__(self, server: str) -> None:
        """Connect to nothing yet; *server* is for messages."""
        self._server = server
        self._connection: KeptConnection | None = None
        self._pid = 0

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _repeat(
        self, exchange: Callable[[float, float | None], tuple[Result, str]], deadline: float
    ) -> Result:
        """Return the result of an exchange, repeated after what another attempt may improve on.

        Args:
            exchange: is given the deadline, and when the first byte has to be here on a kept
                connection; returns the result and an empty string, or anything and a problem that
                another attempt may improve on, as do those that it raises as OSError.
            deadline: in ``time.monotonic()`` seconds.

        Raises:
            StoreUnavailableError: if it did not succeed by the deadline.
        """
        attempt, earlier = 0, ""
        while True:
            first_byte_by = self._first_byte_by(deadline)
            receiving = False
            try:
                result, problem = exchange(deadline, first_byte_by)
                if not problem:
                    return result
                # A server that is too slow in the end has said before what is wrong with it.
                earlier = f" (before that: {problem})"
            except OSError as error:
                receiving = isinstance(error, TimeoutError) and self._was_receiving()
                self.close()
                problem = self._failure(error) + earlier
                if first_byte_by is not None and time.monotonic() < deadline:
                    continue  # the kept connection was dead: once more, on a fresh one
            pause = FIRST_PAUSE_S * 2**attempt * (0.5 + os.urandom(1)[0] / 256)
            if time.monotonic() + pause >= deadline:
                message = f"{self._server}: {problem}"
                raise StoreUnavailableError(message, receiving=receiving)
            time.sleep(pause)
            attempt += 1

    def _first_byte_by(self, deadline: float) -> float | None:
        """Return when the first byte has to be here on a kept connection; None without one."""
        connection = self._connection
        if connection is None:
            return None
        if self._pid != os.getpid() or not connection.is_open():  # the parent's, or a dead one
            self.close()
            return None
        now = time.monotonic()
        return now + KEPT_SHARE * (deadline - now)

    def _was_receiving(self) -> bool:
        return self._connection is not None and self._connection.receiving

    def _failure(self, error: OSError) -> str:
        """Return what another attempt may improve on.

        Raises:
            StoreUnavailableError: for a certificate that is not trusted.
        """
        problem = f"{type(error).__name__}: {error}"
        if type(error).__name__ != "SSLCertVerificationError":
            return problem
        message = f"{self._server}: {problem}; {self.trust_remedy}"
        raise StoreUnavailableError(message) from error
