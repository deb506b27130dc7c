"""Read from DynamoDB: one signed request over a reused connection, standard library only."""

from __future__ import annotations

import json
import os
import re
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.stores.aws import (
    REPLICAS,
    THROTTLED,
    BotoTransport,
    EnvironmentKeys,
    find,
    first_line,
    sign,
)
from flagstore.stores.http import Connection
from flagstore.stores.network import RetryingTransport, prepare_tls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.keys import Key, Record
    from flagstore.stores.aws import ContainerKeys


OK = 200
REFUSED = 400
KEYS_REFUSED = {"ExpiredTokenException", "InvalidSignatureException", "UnrecognizedClientException"}
REMEDIES = {
    "ResourceNotFoundException": ": check the table (FLAGSTORE_TABLE) and the region (AWS_REGION)"
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
"""Prefix of a partition's regions → suffix of its plain and of its dual-stack endpoints.

Source: partitions.json in botocore 1.44; the tests compare the endpoints of every region.
"""
_ENDPOINT = (
    r"(?P<scheme>(?ai:https?))://"
    r"(?P<host>(?:\[[0-9A-Fa-f:.]+\]|[^][:/?#@\\\s]+)(?::(?P<port>[0-9]{1,5}))?)/?"
)
"""Not compiled here: few environments set an address, and every cold start would pay 0.2 ms."""


class DynamoDBReader:
    """Reads records of one table: :class:`flagstore.stores.ReaderStore`."""

    def __init__(self, table: str, transport: LeanTransport | BotoTransport) -> None:
        self._table = table
        self._transport = transport

    @property
    def throttled(self) -> int:
        """How often DynamoDB has asked to slow down."""
        return self._transport.throttled

    def read(self, key: Key, *, consistent: bool, deadline: float) -> Record | None:
        """Return one record: one GetItem."""
        typed = {name: {"S": value} for name, value in key._asdict().items()}
        payload = {"TableName": self._table, "Key": typed, "ConsistentRead": consistent}
        reply = self._transport.call("GetItem", payload, deadline)
        return _record(reply["Item"]) if "Item" in reply else None

    def prepare(self) -> None:
        """Prepare a connection (imports, TLS context) without connecting."""
        self._transport.prepare()

    def close(self) -> None:
        """Close the connection."""
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
        return DynamoDBReader(table, BotoTransport())
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION", "")
    if not region:
        raise ConfigurationError("set AWS_REGION to the region of the table")
    return DynamoDBReader(table, LeanTransport(region, endpoint_of(environ, region), environ))


def endpoint_of(environ: Mapping[str, str], region: str, service: str = "dynamodb") -> str:
    """Return a service's endpoint, from the variables that AWS's SDKs read.

    Raises:
        ConfigurationError: if one is not ``https://`` or ``http://`` with a host, or has a path
            (paths are not sent). The message does not quote the value.
    """
    for name in (f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL"):
        if given := environ.get(name):
            found = re.fullmatch(_ENDPOINT, given)
            if found is None or not 0 < int(found["port"] or 1) < 65_536:  # noqa: PLR2004 - 16 bits
                message = f"{name} must be https://… or http://…, with a host, and no path"
                raise ConfigurationError(message)
            # HTTPS:// in capitals is TLS as well.
            return f"{found['scheme'].lower()}://{found['host']}"
    partition = next((prefix for prefix in SUFFIXES if region.startswith(prefix)), "")
    plain, dual_stack = SUFFIXES[partition]
    fips = environ.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true"
    if environ.get("AWS_USE_DUALSTACK_ENDPOINT", "").lower() == "true":
        suffix = dual_stack
    else:
        suffix = plain
        fips = fips and partition != "us-gov-"  # its plain endpoints are FIPS-validated
    return f"https://{service}{'-fips' * fips}.{region}.{suffix}"


class LeanTransport(RetryingTransport):
    """DynamoDB over one reused connection; a subclass may be another service of AWS's."""

    title, service = "DynamoDB", "dynamodb"
    target, content_type = "DynamoDB_20120810", "application/x-amz-json-1.0"
    trust_remedy = (
        "check the host in AWS_ENDPOINT_URL, and set SSL_CERT_FILE if its authority is private"
    )
    capacity_remedy = REPLICAS

    def __init__(self, region: str, endpoint: str, environ: Mapping[str, str]) -> None:
        """Set the endpoint; nothing is connected yet."""
        self._region = region
        self._scheme, _, self._host = endpoint.partition("://")
        super().__init__(f"{self.title} at {self._host}")
        self._keys: EnvironmentKeys | ContainerKeys = find(environ) or EnvironmentKeys(environ)
        self._connection: Connection | None = None

    def call(self, operation: str, payload: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """Call one operation, retrying while another attempt may help.

        Raises:
            StoreUnavailableError: if none succeeded by the deadline.
        """
        body = json.dumps(payload).encode()
        return self._repeat(lambda: self._exchange(operation, body, deadline), deadline)

    def prepare(self) -> None:
        """Prepare a connection (imports, TLS context) without connecting."""
        if self._scheme == "https":
            prepare_tls()

    def _exchange(self, operation: str, body: bytes, deadline: float) -> tuple[dict[str, Any], str]:
        headers = self._signed(operation, body, deadline)
        if self._connection is None:
            self._connection = Connection(self._scheme, self._host, deadline)
        status, content = self._connection.request("POST", "/", headers, body, deadline)
        try:
            # Only failures may have no body: an empty 200 was cut off.
            response = json.loads(content or (b"" if status == OK else b"{}"))
        except ValueError as error:
            raise OSError(f"the response is not JSON (HTTP {status})") from error
        return response, self._problem(status, response)

    def _problem(self, status: int, response: Mapping[str, Any]) -> str:
        """Return the error if another attempt may help; empty without an error.

        Raises:
            StoreUnavailableError: for any other error.
        """
        if status == OK:
            return ""
        code = str(response.get("__type", "")).rpartition("#")[2] or f"HTTP {status}"
        if code in KEYS_REFUSED and self._keys.refused():
            # A SnapStart image may have kept the keys for too long.
            return code
        if code in THROTTLED:
            self.throttled += 1
            return f"{code}: {self.capacity_remedy}"
        if status == REFUSED and code != "InternalServerError":
            text = first_line(str(response.get("message") or response.get("Message") or ""))
            remedy = REMEDIES.get(code, "")
            raise StoreUnavailableError(f"{self.title} refused: {code}: {text}{remedy}")
        return code

    def _signed(self, operation: str, body: bytes, deadline: float) -> dict[str, str]:
        return sign(
            self._keys.current(deadline),
            region=self._region,
            service=self.service,
            host=self._host,
            timestamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
            headers={
                "content-type": self.content_type,
                "x-amz-target": f"{self.target}.{operation}",
            },
            body=body,
        )


def _record(item: Mapping[str, Any]) -> Record:
    """Read a record from typed attributes, in base64 or bytes; other types are skipped."""
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
