"""Read from DynamoDB: one signed request over a kept connection, standard library only.

Keys come from the Lambda environment or a container's endpoint. Everything else (profiles, SSO) is
boto3's, in :mod:`flagstore.stores.boto`: imported only where there is neither.
"""

from __future__ import annotations

import json
import os
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Protocol

from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.layout import Key, pieces_namespace, pieces_prefix
from flagstore.stores.credentials import EnvironmentKeys, find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.layout import Record
    from flagstore.stores.credentials import CredentialSource
    from flagstore.stores.http import Connection

IDLE_S = 5.0
"""A connection that idled longer is not used again: Lambda may have been frozen meanwhile."""
OK = 200
REFUSED = 400
RETRIED_CODES = {
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
}
KEYS_REFUSED = {
    "ExpiredTokenException",
    "InvalidSignatureException",
    "UnrecognizedClientException",
}


class Transport(Protocol):
    """Calls one operation of DynamoDB's JSON protocol, before a deadline."""

    def call(self, operation: str, payload: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """Return the answer; ``deadline`` in ``time.monotonic()`` seconds.

        Raises:
            StoreUnavailableError: if there is none in time.
        """


class DynamoDBReader:
    """Reads records of one table."""

    def __init__(self, table: str, transport: Transport) -> None:
        self._table = table
        self._transport = transport

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return one record: one GetItem."""
        payload = {
            "TableName": self._table,
            "Key": {name: {"S": value} for name, value in key._asdict().items()},
            "ConsistentRead": consistent,
        }
        answer = self._transport.call("GetItem", payload, deadline)
        return _record(answer["Item"]) if "Item" in answer else None

    def pieces(
        self, source: str, ticket: int, *, deadline: float, part: int | None = None
    ) -> list[bytes]:
        """Return the pieces of a ticket's body or large part, in order: one Query a megabyte."""
        payload: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "#n = :n AND begins_with(#k, :p)",
            "ExpressionAttributeNames": {"#n": "namespace", "#k": "key"},
            "ExpressionAttributeValues": {
                ":n": {"S": pieces_namespace(source)},
                ":p": {"S": pieces_prefix(ticket, part)},
            },
        }
        found: list[bytes] = []
        while True:
            answer = self._transport.call("Query", payload, deadline)
            # A piece that was expired after it was gone leaves a stub without a body.
            found += [_record(item).get("body", b"") for item in answer["Items"]]  # type: ignore[misc] # bytes
            if "LastEvaluatedKey" not in answer:
                return found
            payload["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def open_reader(environ: Mapping[str, str] = os.environ) -> DynamoDBReader:
    """Return a reader for the table that the environment names.

    Raises:
        ConfigurationError: if ``FLAGSTORE_TABLE`` or the region is missing.
    """
    table = environ.get("FLAGSTORE_TABLE", "")
    if not table:
        message = "set FLAGSTORE_TABLE to the name of the table (output TableName of the stack)"
        raise ConfigurationError(message)
    if find(environ) is None:
        from flagstore.stores.boto import BotoTransport  # noqa: PLC0415 - rarely used

        return DynamoDBReader(table, BotoTransport())
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION", "")
    if not region:
        message = "set AWS_REGION to the region of the table"
        raise ConfigurationError(message)
    return DynamoDBReader(table, LeanTransport(region, endpoint_of(environ, region), environ))


def endpoint_of(environ: Mapping[str, str], region: str) -> str:
    """Return DynamoDB's endpoint, with the variables that AWS's own SDKs know.

    Raises:
        ConfigurationError: if it is no ``https://`` or ``http://`` with a host.
    """
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    for name in ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"):
        if given := environ.get(name):
            scheme, _, rest = given.partition("://")
            scheme = scheme.lower()  # HTTPS:// in capitals is no reason to do without TLS
            if scheme not in ("https", "http") or not rest.partition("/")[0]:
                message = f"{name} must be https://… or http://…, with a host"
                raise ConfigurationError(message)
            return f"{scheme}://{rest}"
    return f"https://dynamodb.{region}.{suffix}"


class LeanTransport:
    """DynamoDB over HTTP by hand, signed by hand, on one kept connection.

    Used by one thread at a time: the reader's refresh holds a lock.
    """

    def __init__(self, region: str, endpoint: str, environ: Mapping[str, str]) -> None:
        self._region = region
        self._scheme, _, rest = endpoint.partition("://")
        self._host = rest.partition("/")[0]
        self._keys: CredentialSource = find(environ) or EnvironmentKeys(environ)
        self._connection: Connection | None = None
        self._used_at = self._used_wall = 0.0
        self._pid = 0

    def call(self, operation: str, payload: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """Call one operation, again after what a repetition can mend, until the deadline."""
        body = json.dumps(payload).encode()
        attempt = 0
        while True:
            reused = self._is_warm()
            try:
                status, answer = self._once(operation, body, deadline)
            except OSError as error:
                self.close()
                if reused:
                    continue  # the other end closed a kept connection: once more, on a fresh one
                problem = f"{type(error).__name__}: {error}"
            else:
                problem = self._problem(status, answer)
                if not problem:
                    return answer
            pause = 0.02 * 2**attempt * (0.5 + os.urandom(1)[0] / 256)
            if time.monotonic() + pause >= deadline:
                message = f"{operation} on {self._host}: {problem}"
                raise StoreUnavailableError(message)
            time.sleep(pause)
            attempt += 1

    def _problem(self, status: int, answer: Mapping[str, Any]) -> str:
        """Return what a repetition may mend, or an empty text where all is well.

        Raises:
            StoreUnavailableError: for what no repetition mends.
        """
        if status == OK:
            return ""
        code = str(answer.get("__type", "")).rpartition("#")[2] or f"HTTP {status}"
        if code in KEYS_REFUSED and self._keys.refused():
            return code  # they may be those of another time: a snapshot keeps what it knew
        if status == REFUSED and code not in RETRIED_CODES:
            text = first_line(str(answer.get("message") or answer.get("Message") or ""))
            message = f"DynamoDB refused: {code}: {text}"
            raise StoreUnavailableError(message)
        return code

    def _is_warm(self) -> bool:
        """Say whether there is a connection to use again; one of another process never is."""
        # By both clocks: the monotonic one may stop while Lambda freezes us.
        idled = max(time.monotonic() - self._used_at, time.time() - self._used_wall)
        warm = self._pid == os.getpid() and idled < IDLE_S
        if not warm:
            self.close()
        return self._connection is not None

    def _once(self, operation: str, body: bytes, deadline: float) -> tuple[int, dict[str, Any]]:
        headers = self._signed(operation, body, deadline)
        connection = self._connection or self._connect(deadline)
        status, content = connection.request("POST", "/", headers, body, deadline)
        self._used_at, self._used_wall = time.monotonic(), time.time()
        if connection.closed:
            self.close()
        try:
            # Only failures may come without a body: an empty 200 is one that was cut off.
            return status, json.loads(content or (b"" if status == OK else b"{}"))
        except ValueError as error:
            message = f"an answer that is no JSON (HTTP {status})"
            raise OSError(message) from error

    def _connect(self, deadline: float) -> Connection:
        from flagstore.stores.http import Connection  # noqa: PLC0415 - imports socket

        self._connection = Connection(self._scheme, self._host, deadline)
        self._pid = os.getpid()
        return self._connection

    def _signed(self, operation: str, body: bytes, deadline: float) -> dict[str, str]:
        from flagstore.stores.sigv4 import sign  # noqa: PLC0415 - with the connection

        return sign(
            self._keys.current(deadline),
            region=self._region,
            service="dynamodb",
            host=self._host,
            timestamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
            headers={
                "content-type": "application/x-amz-json-1.0",
                "x-amz-target": f"DynamoDB_20120810.{operation}",
            },
            body=body,
        )

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def first_line(text: str) -> str:
    """Return the first line of what AWS says: about a signature, the session token is in others."""
    return text.partition("\n")[0][:500]


def _record(item: Mapping[str, Any]) -> Record:
    """Read a record from typed attributes, base64 or bytes; other types are left out."""
    record: Record = {}
    for name, attribute in item.items():
        ((kind, value),) = attribute.items()
        if kind == "N":
            record[name] = int(value)
        elif kind == "B":
            record[name] = value if isinstance(value, bytes) else b64decode(value)
        elif kind == "S":
            record[name] = value
    return record
