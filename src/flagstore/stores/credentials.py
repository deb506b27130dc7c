"""Where a Lambda function's keys for AWS come from, as far as the standard library reaches.

Two places: the environment, where Lambda puts them; and the endpoint of a container, which Lambda
uses for functions with SnapStart, since what a snapshot remembers would be old keys. Everything
else (profiles, SSO) is boto3's.

Source of the rules: AWS SDKs and Tools Reference Guide, "Container credential provider".
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from flagstore.errors import StoreUnavailableError

ECS_HOST = "http://169.254.170.2"
TRUSTED_HOSTS = {
    "127.0.0.1",
    "localhost",
    "[::1]",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
}
"""Hosts that may be asked without TLS: this machine, and those of ECS and EKS."""
EARLY_S = 300
"""Keys are fetched anew so long before they expire."""
OK = 200


class Credentials(NamedTuple):
    """What requests are signed with. Never logged: ``repr`` hides the secrets."""

    access_key: str
    secret_key: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.access_key[:4]}…)"


if TYPE_CHECKING:
    # Not made at run time: it would cost a cold start a fifth of a millisecond.
    from typing import Protocol

    class CredentialSource(Protocol):
        """Somewhere that keys come from."""

        def current(self, deadline: float) -> Credentials:
            """Return keys that are valid now; ``deadline`` in ``time.monotonic()`` seconds.

            Raises:
                StoreUnavailableError: there are none.
            """

        def refused(self) -> bool:
            """Take note that AWS refused the keys; says whether others may be had."""


def find(environ: Mapping[str, str]) -> "CredentialSource | None":
    """Return where the keys are, or None where only boto3 knows."""
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        return EnvironmentKeys(environ)
    uri = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
    if relative:
        uri = ECS_HOST + relative
    scheme, _, rest = uri.partition("://")
    host = rest.partition("/")[0]
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if scheme == "https" or (scheme == "http" and name in TRUSTED_HOSTS):
        return ContainerKeys(uri, environ)
    return None


class EnvironmentKeys:
    """Keys in the environment, read at every call: they may be rotated under a long process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def current(self, deadline: float) -> Credentials:
        """Return the keys as they are now."""
        del deadline
        return Credentials(
            self._environ["AWS_ACCESS_KEY_ID"],
            self._environ["AWS_SECRET_ACCESS_KEY"],
            self._environ.get("AWS_SESSION_TOKEN", ""),
        )

    def refused(self) -> bool:
        """Have no others."""
        return False


class ContainerKeys:
    """Keys of a container's endpoint, kept until shortly before they expire."""

    def __init__(
        self, uri: str, environ: Mapping[str, str], clock: Callable[[], float] = time.time
    ) -> None:
        self._uri = uri
        self._environ = environ
        self._clock = clock
        self._kept: Credentials | None = None
        self._expires = ""

    def current(self, deadline: float) -> Credentials:
        """Return kept keys, or fetch others; kept ones serve to their end if that fails."""
        if self._kept is not None and self._expires > self._utc(EARLY_S):
            return self._kept
        try:
            self._fetch(deadline)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if self._kept is None or self._expires <= self._utc(0):
                # The address is no secret; the response may hold some.
                message = f"no keys from {self._uri}: {type(error).__name__}"
                raise StoreUnavailableError(message) from error
        if self._kept is None:
            message = f"no keys from {self._uri}"
            raise StoreUnavailableError(message)
        return self._kept

    def refused(self) -> bool:
        """Forget them: a snapshot, or a clock that is wrong, may have kept them for too long."""
        had, self._kept = self._kept is not None, None
        return had

    def _fetch(self, deadline: float) -> None:
        from flagstore.stores.http import Connection  # noqa: PLC0415 - imports socket

        scheme, _, rest = self._uri.partition("://")
        host, _, path = rest.partition("/")
        connection = Connection(scheme, host, deadline)
        try:
            authorization = self._authorization()
            status, body = connection.request("GET", f"/{path}", authorization, b"", deadline)
        finally:
            connection.close()
        if status != OK:
            message = f"HTTP {status}"
            raise OSError(message)
        response = json.loads(body)
        keys = Credentials(
            str(response["AccessKeyId"]), str(response["SecretAccessKey"]), str(response["Token"])
        )
        self._expires, self._kept = str(response["Expiration"]), keys

    def _authorization(self) -> dict[str, str]:
        token = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        file = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "")
        if file:
            with open(file, encoding="utf-8") as opened:  # noqa: PTH123 - pathlib costs 6 ms
                token = opened.read().strip()
        return {"Authorization": token} if token else {}

    def _utc(self, later_s: float) -> str:
        """Return a moment as ``Expiration`` has it: such texts are in the order of time."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock() + later_s))
