"""SSM parameters of one path, read within a quota that the whole account shares.

SSM allows 40 calls of ``GetParametersByPath`` a second by default, each of ten parameters, to all
that run in the account. A hundred receivers that start at once have to wait for their turn, and a
thousand that are warm must not use it up.
"""

from __future__ import annotations

import random
from math import inf
from threading import Lock
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from storesync.errors import OutOfTimeError, ParametersError
from storesync.observability import logger
from storesync.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_ssm.type_defs import (
        GetParametersByPathRequestTypeDef,
        GetParametersByPathResultTypeDef,
    )

    from storesync.model import Clock

MAX_AGE_S = 30.0
LOAD_S = 3.0
"""How long an event retries the first reading. Unleash waits 10 s for a response, INIT included;
the other providers do not document how long."""
INIT_LOAD_S = 4.5
"""The same during INIT."""
PAUSE_S = 5.0
"""After an event could not read them."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
"""Between attempts, doubling."""
THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException"}
SERVER_ERROR = 500

log = logger()


class Parameters:
    """The parameters of one path by name, kept in memory.

    Processes that started together must not read again together, so each does so at a random
    moment between half of the maximum age and all of it.
    """

    def __init__(
        self, client: SSMClient, path: str, clock: Clock, rng: random.Random | None = None
    ) -> None:
        self.path = path
        self._client = client
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._lock = Lock()
        self._values: dict[str, str] | None = None
        self._tried_at = -inf
        self._age_factor = 1.0
        self._problem: Exception | None = None

    def load(self) -> None:
        """Read the parameters during INIT; after a failure, the first event tries again at once.

        Raises:
            ParametersError: if they cannot be read in time.
        """
        with self._lock:
            if self._values is None:
                self._load(INIT_LOAD_S)

    def values(self, max_age_s: float = MAX_AGE_S) -> Mapping[str, str]:
        """Return name → text of all parameters of the path, as of *max_age_s* ago or later.

        Raises:
            ParametersError: if they could never be read.
        """
        with self._lock:
            if self._values is None:
                self._load_for_event()
            elif self._is_due(max_age_s):
                self._refresh()
            return self._values or {}

    def _load_for_event(self) -> None:
        if self._clock.monotonic() - self._tried_at < PAUSE_S:
            raise self._unreadable()
        try:
            self._load(LOAD_S)
        except ParametersError:
            self._tried()
            raise

    def _load(self, within_s: float) -> None:
        try:
            self._values, self._problem = self._read(within_s), None
        except (BotoCoreError, ClientError) as error:
            self._problem = error
            raise self._unreadable() from error
        self._tried()

    def _unreadable(self) -> ParametersError:
        return ParametersError(f"cannot read the parameters under {self.path}: {self._problem}")

    def _is_due(self, max_age_s: float) -> bool:
        return self._clock.monotonic() - self._tried_at >= max_age_s * self._age_factor

    def _refresh(self) -> None:
        """Read once, without retries: the known parameters serve until the next attempt."""
        try:
            self._values, self._problem = self._read(0.0), None
        except (BotoCoreError, ClientError) as error:
            self._problem = error
            problem = str(self._unreadable())
            log.warning("going on with the parameters read before", problem=problem)
        self._tried()

    def _tried(self) -> None:
        self._tried_at = self._clock.monotonic()
        self._age_factor = self._rng.uniform(0.5, 1.0)

    def _read(self, within_s: float) -> dict[str, str]:
        deadline = Deadline(self._clock, self._rng, within_s)
        request: GetParametersByPathRequestTypeDef = {"Path": self.path, "WithDecryption": True}
        found: dict[str, str] = {}
        while True:
            page = self._page(request, deadline)
            for parameter in page["Parameters"]:
                found[parameter["Name"].rpartition("/")[2]] = parameter["Value"]
            if not page.get("NextToken"):
                return found
            request["NextToken"] = page["NextToken"]

    def _page(
        self, request: GetParametersByPathRequestTypeDef, deadline: Deadline
    ) -> GetParametersByPathResultTypeDef:
        """Read one page; the only retries there are, so that calls are not multiplied."""
        attempt = 0
        while True:
            try:
                return self._client.get_parameters_by_path(**request)
            except (BotoCoreError, ClientError) as error:
                if not (_is_transient(error) and _waited(deadline, attempt)):
                    raise
            attempt += 1


def _waited(deadline: Deadline, attempt: int) -> bool:
    """Pause before a retry; return whether there is time for one."""
    try:
        deadline.back_off(attempt, base_s=FIRST_PAUSE_S, cap_s=LONGEST_PAUSE_S, purpose="a retry")
    except OutOfTimeError:
        return False
    return True


def _is_transient(error: BotoCoreError | ClientError) -> bool:
    """Return whether a retry may succeed: throttling, a broken connection, an error of SSM."""
    if isinstance(error, BotoCoreError):
        return True
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", SERVER_ERROR)
    return error.response["Error"]["Code"] in THROTTLED or status >= SERVER_ERROR
