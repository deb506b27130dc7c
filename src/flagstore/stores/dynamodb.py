"""Read from DynamoDB: one signed request over a kept connection, standard library only.

Keys come from the Lambda environment or a container's endpoint. Everything else (profiles, SSO) is
boto3's, in :mod:`flagstore.stores.boto`: imported only where there is neither.
"""

from __future__ import annotations

import json
import os
import re
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Protocol

from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.keys import Key, chunk_key, chunks_namespace
from flagstore.stores.credentials import EnvironmentKeys, find
from flagstore.stores.retrying import RetryingTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flagstore.keys import Record
    from flagstore.stores.credentials import CredentialSource
    from flagstore.stores.http import Connection

OK = 200
REFUSED = 400
RETRIED_CODES = {
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
}
SUFFIXES = {
    "cn-": ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "eusc-": ("amazonaws.eu", "api.amazonwebservices.eu"),
    "us-gov-": ("amazonaws.com", "api.aws"),
    "us-iso-": ("c2s.ic.gov", "api.aws.ic.gov"),
    "us-isob-": ("sc2s.sgov.gov", "api.aws.scloud"),
    "eu-isoe-": ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    "us-isof-": ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    "": ("amazonaws.com", "api.aws"),
}
"""How regions of a partition begin → end of its plain and of its dual-stack endpoints.

Source: partitions.json in botocore 1.44, whose endpoints of every region the tests compare.
"""
KEYS_REFUSED = {
    "ExpiredTokenException",
    "InvalidSignatureException",
    "UnrecognizedClientException",
}


class Transport(Protocol):
    """Calls one operation of DynamoDB's JSON protocol, before a deadline."""

    def call(self, operation: str, payload: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """Return the response; ``deadline`` in ``time.monotonic()`` seconds.

        Raises:
            StoreUnavailableError: if there is none in time.
        """

    def prepare(self) -> None:
        """Import and build what a connection needs, without connecting."""

    def close(self) -> None:
        """Close the connection, if there is one. Idempotent."""


class DynamoDBReader:
    """Reads records of one table."""

    def __init__(self, table: str, transport: Transport) -> None:
        self._table = table
        self._transport = transport

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return one record: one GetItem."""
        payload = {
            "TableName": self._table,
            "Key": _typed(key),
            "ConsistentRead": consistent,
        }
        reply = self._transport.call("GetItem", payload, deadline)
        return _record(reply["Item"]) if "Item" in reply else None

    def chunks(
        self, source: str, prefix: str, *, deadline: float, start: int = 0
    ) -> Iterator[bytes]:
        """Yield the chunks of one body or large segment, in order: one Query per megabyte."""
        payload: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "#n = :n AND begins_with(#k, :p)",
            "ExpressionAttributeNames": {"#n": "namespace", "#k": "key"},
            "ExpressionAttributeValues": {
                ":n": {"S": chunks_namespace(source)},
                ":p": {"S": prefix},
            },
        }
        if start:
            payload["ExclusiveStartKey"] = _typed(chunk_key(source, prefix, start - 1))
        while True:
            reply = self._transport.call("Query", payload, deadline)
            for item in reply["Items"]:
                # A chunk that was expired after it was gone leaves a stub without a body.
                yield _record(item).get("body", b"")  # type: ignore[misc] # bytes
            if "LastEvaluatedKey" not in reply:
                return
            payload["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    def prepare(self) -> None:
        """Import and build what a connection needs, without connecting."""
        self._transport.prepare()

    def close(self) -> None:
        """Close the connection, if there is one. Idempotent."""
        self._transport.close()


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
        ConfigurationError: if one that is given is not ``https://`` or ``http://`` with a host, or
            has more than a port behind it, which would not be sent; it is not quoted.
    """
    for name in ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"):
        if given := environ.get(name):
            scheme, _, rest = given.partition("://")
            scheme = scheme.lower()  # HTTPS:// in capitals is no reason to do without TLS
            host = rest.removesuffix("/")
            if scheme not in ("https", "http") or not _is_host(host):
                message = f"{name} must be https://… or http://…, with a host, and no path"
                raise ConfigurationError(message)
            return f"{scheme}://{host}"
    partition = next((prefix for prefix in SUFFIXES if region.startswith(prefix)), "")
    plain, dual_stack = SUFFIXES[partition]
    fips = environ.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true"
    if environ.get("AWS_USE_DUALSTACK_ENDPOINT", "").lower() == "true":
        suffix = dual_stack
    else:
        suffix = plain
        fips = fips and partition != "us-gov-"  # its plain endpoints are validated already
    return f"https://dynamodb{'-fips' * fips}.{region}.{suffix}"


def _is_host(text: str) -> bool:
    """Return whether this is a name or an address, perhaps with a port."""
    found = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^][:/?#@\\\s]+)(?::([0-9]{1,5}))?", text)
    return found is not None and 0 < int(found[1] or 1) < 65_536  # noqa: PLR2004 - of 16 bits


class LeanTransport(RetryingTransport):
    """DynamoDB over HTTP by hand, signed by hand, on one kept connection."""

    trust_remedy = (
        "check the host in AWS_ENDPOINT_URL, and set SSL_CERT_FILE where its authority is private"
    )

    def __init__(self, region: str, endpoint: str, environ: Mapping[str, str]) -> None:
        """Connect to nothing yet."""
        self._region = region
        self._scheme, _, rest = endpoint.partition("://")
        self._host = rest.partition("/")[0]
        super().__init__(f"DynamoDB at {self._host}")
        self._keys: CredentialSource = find(environ) or EnvironmentKeys(environ)
        self._connection: Connection | None = None

    def call(self, operation: str, payload: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """Call one operation, again after what another attempt may improve on."""
        body = json.dumps(payload).encode()

        def exchange(deadline: float, first_byte_by: float | None) -> tuple[dict[str, Any], str]:
            return self._exchange(operation, body, deadline, first_byte_by)

        return self._repeat(exchange, deadline)

    def prepare(self) -> None:
        """Import and build what a connection needs, without connecting."""
        from flagstore.stores import http, network, sigv4  # noqa: F401, PLC0415 - imports socket

        if self._scheme == "https":
            network.prepare_tls()

    def _exchange(
        self, operation: str, body: bytes, deadline: float, first_byte_by: float | None
    ) -> tuple[dict[str, Any], str]:
        headers = self._signed(operation, body, deadline)
        connection = self._connection or self._connect(deadline)
        status, content = connection.request("POST", "/", headers, body, deadline, first_byte_by)
        if connection.closed:
            self.close()
        try:
            # Only failures may come without a body: an empty 200 is one that was cut off.
            response = json.loads(content or (b"" if status == OK else b"{}"))
        except ValueError as error:
            message = f"a response that is not JSON (HTTP {status})"
            raise OSError(message) from error
        return response, self._problem(status, response)

    def _problem(self, status: int, response: Mapping[str, Any]) -> str:
        """Return what another attempt may improve on, or an empty string if all is well.

        Raises:
            StoreUnavailableError: for an error that no other attempt improves on.
        """
        if status == OK:
            return ""
        code = str(response.get("__type", "")).rpartition("#")[2] or f"HTTP {status}"
        if code in KEYS_REFUSED and self._keys.refused():
            # They may be those of another time: a SnapStart image keeps what it knew.
            return code
        if status == REFUSED and code not in RETRIED_CODES:
            text = first_line(str(response.get("message") or response.get("Message") or ""))
            message = f"DynamoDB refused: {code}: {text}"
            raise StoreUnavailableError(message)
        return code

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


def first_line(text: str) -> str:
    """Return the first line of what AWS says: about a signature, the session token is in others."""
    return text.partition("\n")[0][:500]


def _typed(key: Key) -> dict[str, dict[str, str]]:
    return {name: {"S": value} for name, value in key._asdict().items()}


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
