"""AWS credentials, and requests signed with them (Signature Version 4).

Keys come from environment variables, as on Lambda, or from a container's credential endpoint, as
on Lambda with SnapStart, where keys in a snapshot would be stale. Other sources (profiles, SSO)
need boto3, imported only for them: that takes longer than everything else a first flag needs.

Source of the rules: AWS, "Create a signed AWS API request"; AWS SDKs and Tools Reference Guide,
"Container credential provider".
"""

# Without `from __future__ import annotations`, which makes NamedTuple compile each annotation.

import hmac
import json
import os
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.stores.http import Connection
from flagstore.stores.network import in_background

ECS_HOST = "http://169.254.170.2"
TRUSTED_HOSTS = {
    "127.0.0.1",
    "localhost",
    "[::1]",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
}
"""Hosts that may be contacted without TLS: this machine, and those of ECS and EKS."""
EARLY_S = 300
"""Keys are fetched this long before the old ones expire."""
BOTO_TIMEOUT_S = 0.9
"""Timeout of a connection through boto3; a first load has time for two attempts."""
OK = 200
THROTTLED = {
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
}
REPLICAS = (
    "more readers at once than a partition serves: raise SnapshotReplicas "
    "(docs/cost-and-capacity.md, Capacity)"
)


class Credentials(NamedTuple):
    """Keys to sign requests with. Never logged: ``repr`` hides the secrets."""

    access_key: str
    secret_key: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.access_key[:4]}…)"


def find(environ: Mapping[str, str]) -> "EnvironmentKeys | ContainerKeys | None":
    """Return the source of keys that the environment names; None if only boto3 can find one."""
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        return EnvironmentKeys(environ)
    uri = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
    if relative := environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        uri = ECS_HOST + relative
    scheme, _, rest = uri.partition("://")
    host = rest.partition("/")[0]
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if scheme == "https" or (scheme == "http" and name in TRUSTED_HOSTS):
        return ContainerKeys(uri, environ)
    return None


class EnvironmentKeys:
    """Keys in variables, read at every call: they may be rotated while the process runs."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def current(self, _deadline: float) -> Credentials:
        """Return the keys as they are now."""
        return Credentials(
            self._environ["AWS_ACCESS_KEY_ID"],
            self._environ["AWS_SECRET_ACCESS_KEY"],
            self._environ.get("AWS_SESSION_TOKEN", ""),
        )

    def refused(self) -> bool:
        """Return False: there are no other keys to try."""
        return False


class ContainerKeys:
    """Keys from a container's endpoint, cached until shortly before they expire."""

    def __init__(
        self, uri: str, environ: Mapping[str, str], clock: Callable[[], float] = time.time
    ) -> None:
        self._uri = uri
        self._environ = environ
        self._clock = clock
        self._kept: Credentials | None = None
        self._expires = ""

    def current(self, deadline: float) -> Credentials:
        """Return the cached keys, or fetch new ones; on failure, use cached ones while valid.

        Args:
            deadline: in ``time.monotonic()`` seconds.

        Raises:
            StoreUnavailableError: if there are none.
        """
        if self._kept is not None and self._expires > self._utc(EARLY_S):
            return self._kept
        try:
            self._kept = self._fetch(deadline)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if self._kept is None or self._expires <= self._utc(0):
                # The address is not a secret; the response may hold one.
                message = f"no keys from {self._uri}: {type(error).__name__}"
                raise StoreUnavailableError(message) from error
        return self._kept

    def refused(self) -> bool:
        """Drop refused keys, perhaps kept too long by a snapshot; return whether there were any."""
        had, self._kept = self._kept is not None, None
        return had

    def _fetch(self, deadline: float) -> Credentials:
        scheme, _, rest = self._uri.partition("://")
        host, _, path = rest.partition("/")
        connection = Connection(scheme, host, deadline)
        try:
            authorization = self._authorization()
            status, body = connection.request("GET", f"/{path}", authorization, b"", deadline)
        finally:
            connection.close()
        if status != OK:
            raise OSError(f"HTTP {status}")
        found = json.loads(body)
        names = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")
        *keys, self._expires = (str(found[name]) for name in names)
        return Credentials(*keys)

    def _authorization(self) -> dict[str, str]:
        token = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        if file := self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            with open(file, encoding="utf-8") as opened:  # noqa: PTH123 - pathlib costs 6 ms
                token = opened.read().strip()
        return {"Authorization": token} if token else {}

    def _utc(self, later_s: float) -> str:
        """Return a time in the format of ``Expiration``, which sorts chronologically."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock() + later_s))


def sign(  # noqa: PLR0913 - the parts of a request, keyword-only
    credentials: Credentials,
    *,
    region: str,
    service: str,
    host: str,
    timestamp: str,
    headers: Mapping[str, str],
    body: bytes,
) -> dict[str, str]:
    """Return the headers of a signed ``POST /`` to DynamoDB, including the given ones.

    ``timestamp`` is UTC as ``YYYYMMDDTHHMMSSZ``; header names must be in lower case.
    """
    signed = {**headers, "host": host, "x-amz-date": timestamp}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
    canonical = f"POST\n/\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    digest = sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={key.hex()}"
    )
    return signed


class BotoTransport:
    """DynamoDB through boto3, for credentials that only boto3 can find."""

    throttled = 0
    """How many calls failed since DynamoDB asked to slow down."""

    def __init__(self) -> None:
        self._client: Any = None
        self._pid = 0

    def call(self, operation: str, payload: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """Call GetItem, the only operation that readers need, with one retry.

        Raises:
            StoreUnavailableError: if there is no response in time.
            ConfigurationError: if boto3 is not installed.
        """

        def task() -> dict[str, Any]:
            response: dict[str, Any] = self._connected().get_item(**payload)
            return response

        failures: tuple[type[Exception], ...] = (OSError, *_boto_exceptions())
        try:
            # botocore has no deadline for looking up credentials and names.
            return in_background(task, deadline, operation)
        except failures as error:
            message = f"{operation} through boto3: {first_line(str(error))}"
            response: Any = getattr(error, "response", {})
            if response.get("Error", {}).get("Code") in THROTTLED:
                self.throttled += 1
                message = f"{message}: {REPLICAS}"
            raise StoreUnavailableError(message) from error

    def prepare(self) -> None:
        """Create a client, within the time limit of a first load."""
        _boto_exceptions()
        in_background(self._connected, time.monotonic() + 2 * BOTO_TIMEOUT_S, "the boto3 client")

    def close(self) -> None:
        """Drop the client with its connections; the next call creates another."""
        self._client = None

    def _connected(self) -> Any:  # noqa: ANN401 - boto3 is not typed here
        if self._client is None or self._pid != os.getpid():
            # Not the parent process's: both would read each other's responses.
            import boto3  # noqa: PLC0415 - heavy, and rarely needed
            from botocore.config import Config  # noqa: PLC0415

            config = Config(
                connect_timeout=BOTO_TIMEOUT_S,
                read_timeout=BOTO_TIMEOUT_S,
                retries={"total_max_attempts": 2},
            )
            self._client = boto3.Session().client("dynamodb", config=config)
            self._pid = os.getpid()
        return self._client


def _boto_exceptions() -> tuple[type[Exception], ...]:
    try:
        import boto3  # noqa: F401, PLC0415 - heavy, and rarely needed
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError as error:
        message = "no AWS keys in the environment; install boto3 for other credentials"
        raise ConfigurationError(message) from error
    return BotoCoreError, ClientError


def first_line(text: str) -> str:
    """Return the first line of an AWS message: further lines may hold the session token."""
    return text.partition("\n")[0][:500]
