"""Reading from DynamoDB with the standard library only, against a fake server."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest
from botocore.endpoint_provider import EndpointProvider

from flagstore.clients import Client
from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.keys import Key
from flagstore.stores import network
from flagstore.stores.aws import BotoTransport
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport, endpoint_of, open_reader
from flagstore.stores.network import RetryingTransport
from simulators.clock import FakeClock
from simulators.reader_store import published_record
from simulators.scripted_server import CUT, ScriptedServer, http_response, late, then_closed
from simulators.signals import in_child
from simulators.strict_python import read_strictly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.keys import Record
    from simulators.scripted_server import Connection, Play

ENVIRON = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_REGION": "eu-west-1",
    "FLAGSTORE_TABLE": "flags",
}
ITEM = {"Item": {"namespace": {"S": "n"}, "key": {"S": "k"}, "token": {"N": "7"}}}
KEY = Key("n", "k")
RECORD = {"namespace": "n", "key": "k", "token": 7}


def response(status: int, document: Any) -> bytes:
    return http_response(status, json.dumps(document).encode())


def fault(code: str, status: int = 400, message: str = "") -> bytes:
    """Return an error as DynamoDB words it."""
    name = f"com.amazonaws.dynamodb.v20120810#{code}"
    return response(status, {"__type": name, "message": message})


FOUND = response(200, ITEM)
HANG = late(30, FOUND)


def drip(connection: Connection) -> None:
    connection.send(http_response(200, b"{", length=1_000))
    while not connection.server.ending.wait(0.05):
        connection.send(b" ")


@pytest.fixture
def table() -> Iterator[ScriptedServer]:
    with ScriptedServer(FOUND) as server:
        yield server


@pytest.fixture
def reader(table: ScriptedServer) -> Iterator[DynamoDBReader]:
    with closing(DynamoDBReader("flags", LeanTransport("eu-west-1", table.uri, ENVIRON))) as made:
        yield made


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def read(reader: DynamoDBReader, seconds: float = 5.0) -> Record | None:
    return reader.read(KEY, consistent=False, deadline=soon(seconds))


def payloads(table: ScriptedServer) -> list[Any]:
    return [json.loads(request.body) for request in table.requests]


# -- reading ------------------------------------------------------------------------------------


def test_read_is_one_signed_get_item(table: ScriptedServer, reader: DynamoDBReader) -> None:
    assert reader.read(KEY, consistent=True, deadline=soon()) == RECORD
    assert payloads(table)[0]["ConsistentRead"] is True
    headers = table.requests[0].headers
    assert headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["x-amz-security-token"] == "token"
    assert headers["host"] == f"127.0.0.1:{table.port}"
    scope = (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{headers['x-amz-date'][:8]}/eu-west-1/dynamodb"
    )
    assert headers["authorization"].startswith(scope)


@pytest.mark.parametrize("through", ["lean", "boto3"])
def test_values_keep_their_types(
    table: ScriptedServer, reader: DynamoDBReader, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    """Both transports read the same; other types are left out; no item is None."""
    one = reader if through == "lean" else boto(monkeypatch, table)
    encoded = base64.b64encode(bytes(range(256))).decode()
    item = {"n": {"N": "-12"}, "s": {"S": "größe 😀"}, "b": {"B": encoded}, "map": {"M": {}}}
    table.due = [response(200, {"Item": item}), response(200, {})]
    assert read(one) == {"n": -12, "s": "größe 😀", "b": bytes(range(256))}
    assert read(one) is None
    key = {"namespace": {"S": "n"}, "key": {"S": "k"}}
    assert payloads(table) == [{"TableName": "flags", "Key": key, "ConsistentRead": False}] * 2


def published(token: int, **flags: Any) -> bytes:
    """Return a record that is source state and snapshot record, with these flags."""
    record = {**published_record(flags), "token": token, "published": token}
    item = {
        name: {"B": base64.b64encode(value).decode()}
        if isinstance(value, bytes)
        else {"S" if isinstance(value, str) else "N": str(value)}
        for name, value in record.items()
    }
    return response(200, {"Item": item})


def test_closed_client_leaves_nothing_open(table: ScriptedServer) -> None:
    """Python warns of no socket."""
    table.default = published(7, a={"on": True})
    environment = {**ENVIRON, "AWS_ENDPOINT_URL_DYNAMODB": table.uri}
    assert read_strictly(environment) == "['a'] False \n"


def test_closed_reader_reads_again(table: ScriptedServer, reader: DynamoDBReader) -> None:
    for connections in (1, 2):
        assert read(reader) == RECORD
        assert table.connections == connections
        for _ in range(2):
            reader.close()


# -- connections --------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """Give an address that drops packets: nothing accepts there, and the queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as stack:
        address: tuple[str, int] = listener.getsockname()
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address


def test_lost_zone_leaves_time_for_other_addresses(
    monkeypatch: pytest.MonkeyPatch, table: ScriptedServer, silent: tuple[str, int]
) -> None:
    """An address that swallows packets gets its share of the time."""
    zones = (silent, silent, ("127.0.0.1", table.port))
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in zones]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with closing(LeanTransport("eu-west-1", "http://zones.example", ENVIRON)) as transport:
        assert read(DynamoDBReader("flags", transport), 0.6) is not None


CLOSES = FOUND.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


@pytest.mark.parametrize("play", [then_closed(FOUND), CLOSES, 2 * FOUND])
def test_finished_connection_is_not_used(
    table: ScriptedServer, reader: DynamoDBReader, play: Play
) -> None:
    """Closed by the server without or with a word, or followed by an unexpected response."""
    table.due = [play]
    assert read(reader) == RECORD
    connection: Any = reader._transport._connection  # type: ignore[union-attr]
    until = soon()
    while connection.is_open():
        assert time.monotonic() < until
    assert read(reader) == RECORD
    assert (len(table.requests), table.connections) == (2, 2)


@pytest.mark.parametrize("play", [CUT, HANG])
def test_dead_connection_is_replaced(
    table: ScriptedServer, reader: DynamoDBReader, play: Play
) -> None:
    """Closed, or silent because the other end went during a freeze."""
    read(reader)
    table.due = [play]
    assert read(reader, 0.8) == RECORD
    assert (len(table.requests), table.connections) == (3, 2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("through", ["lean", "boto3"])
def test_connection_is_not_shared_with_a_child(
    table: ScriptedServer, reader: DynamoDBReader, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    """Two processes would read each other's responses."""
    one = reader if through == "lean" else boto(monkeypatch, table)
    read(one)
    assert in_child(lambda: read(one))
    assert table.connections == 2
    read(one)
    assert table.connections == 2


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "play",
    [
        fault("InternalServerError", 500),
        fault("ThrottlingException"),
        http_response(503, b"<html>busy</html>"),
        then_closed(http_response(200, b'{"Item": {"a', length=500)),
        http_response(200),
        http_response(301, b"{}"),
        CUT,
    ],
)
def test_transient_errors_are_retried(
    table: ScriptedServer, reader: DynamoDBReader, play: Play
) -> None:
    table.due = [play, play]
    assert read(reader) == RECORD
    assert len(table.requests) == 3


@pytest.mark.parametrize("byte", [0, 100, 255])
def test_pauses_double_with_full_jitter(monkeypatch: pytest.MonkeyPatch, byte: int) -> None:
    """Processes that are throttled together spread over the whole pause, within the deadline."""
    clock = FakeClock()
    monkeypatch.setattr(network, "time", clock)
    monkeypatch.setattr(os, "urandom", lambda count: bytes([byte]) * count)
    transport, attempts = RetryingTransport("store"), []

    def exchange() -> tuple[str, str]:
        attempts.append(clock.monotonic())
        clock.advance(0.01)
        return "", "" if len(attempts) == 9 else "busy"

    deadline = clock.monotonic() + 2
    with contextlib.nullcontext() if byte == 0 else pytest.raises(StoreUnavailableError):
        transport._repeat(exchange, deadline)
    share = byte / 256
    assert clock.slept == [pytest.approx(0.05 * 2**n * share) for n in range(len(attempts) - 1)]
    assert clock.monotonic() < deadline
    assert len(attempts) >= 6


@pytest.mark.parametrize("through", ["lean", "boto3"])
@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ThrottlingException"])
def test_throttling_is_counted_and_explained(
    table: ScriptedServer,
    reader: DynamoDBReader,
    monkeypatch: pytest.MonkeyPatch,
    through: str,
    code: str,
) -> None:
    """info() has the number, also before the first load, and the error names the remedy."""
    store = reader if through == "lean" else boto(monkeypatch, table)
    table.default = fault(code)
    info = Client("prod", store=store, replicas=1, defaults_until_loaded=True).info()
    assert info.throttled == (len(table.requests) if through == "lean" else 1)
    assert code in info.error
    assert "raise SnapshotReplicas" in info.error
    table.default = published(7, a=1)
    loaded = Client("prod", store=store, replicas=1).info()
    assert (loaded.throttled, loaded.error) == (info.throttled, "")


def test_permanent_errors_are_raised_at_once(table: ScriptedServer, reader: DynamoDBReader) -> None:
    """With DynamoDB's code and message; the connection stays usable."""
    message = "User is not authorized to perform: dynamodb:GetItem"
    table.due = [fault("AccessDeniedException", 400, message)]
    with pytest.raises(StoreUnavailableError, match=f"AccessDeniedException: {message}"):
        read(reader)
    assert len(table.requests) == 1
    table.due = [fault("ResourceNotFoundException", 400, "not found")]
    with pytest.raises(
        StoreUnavailableError, match=r"not found: check the table .* and the region"
    ):
        read(reader)
    assert read(reader) == RECORD
    assert table.connections == 1


@pytest.mark.parametrize("play", [HANG, drip, fault("InternalServerError", 500)])
def test_deadline_holds(table: ScriptedServer, reader: DynamoDBReader, play: Play) -> None:
    """Whatever the server does, also on a connection that was used before."""
    read(reader)
    table.default = play
    with pytest.raises(StoreUnavailableError, match="DynamoDB at 127"):
        read(reader, 0.4)


def test_late_response_is_not_used_for_another_request(
    table: ScriptedServer, reader: DynamoDBReader
) -> None:
    table.due = [late(0.3, response(200, {"Item": {"late": {"N": "1"}}}))]
    with pytest.raises(StoreUnavailableError):
        read(reader, 0.1)
    table.due.clear()
    assert read(reader) == RECORD


def test_restored_snapshot_of_snapstart(table: ScriptedServer) -> None:
    """A day later, with a dead connection and keys that AWS no longer accepts: the flags of now."""
    names = ("AccessKeyId", "SecretAccessKey", "Token")
    keys = response(200, dict.fromkeys(names, "a") | {"Expiration": "2999-01-01T00:00:00Z"})
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{table.uri}/c"}
    clock = FakeClock(time.time())
    with closing(LeanTransport("eu-west-1", table.uri, environ)) as transport:
        # The monotonic clock of a restored process goes on where it was.
        store = DynamoDBReader("flags", transport)
        flags = Client("prod", store=store, replicas=1, clock=clock.now)
        table.due = [keys, published(7, a=1)]
        assert flags.keys() == ["a"]
        table.drop_connections()
        clock.advance(86_400)
        table.due = [fault("ExpiredTokenException"), keys, *[published(8, b=1)] * 2]
        assert flags.keys() == ["b"]
        assert not flags.info().stale
    methods = [request.method for request in table.requests]
    assert methods == ["GET", "POST", "POST", "GET", "POST", "POST"]


# -- which transport ----------------------------------------------------------------------------


def test_missing_boto3_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no keys in the environment."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match="install boto3"):
        read(open_reader({"FLAGSTORE_TABLE": "flags"}))


def boto(monkeypatch: pytest.MonkeyPatch, table: ScriptedServer) -> DynamoDBReader:
    """Return a reader through boto3, which looks for keys and endpoint in its own ways."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", table.uri)
    return DynamoDBReader("flags", BotoTransport())


CANONICAL = (
    "The request signature we calculated does not match the signature you provided. Check it.\n\n"
    "The Canonical String for this request should have been\n'POST\n/\n\n"
    "host:dynamodb.eu-west-1.amazonaws.com\nx-amz-security-token:secret-token\n'"
)


def test_signature_error_hides_the_token(
    monkeypatch: pytest.MonkeyPatch, table: ScriptedServer, reader: DynamoDBReader
) -> None:
    """AWS quotes the request with the session token."""
    table.default = fault("InvalidSignatureException", 400, CANONICAL)
    for one in (reader, boto(monkeypatch, table)):
        with pytest.raises(StoreUnavailableError, match="does not match the signature") as caught:
            read(one)
        assert "secret-token" not in str(caught.value)


def test_boto3_has_a_deadline_and_one_retry(
    monkeypatch: pytest.MonkeyPatch, table: ScriptedServer
) -> None:
    """As a first load and a refresh have them."""
    reader = boto(monkeypatch, table)
    for play in (CUT, fault("ThrottlingException"), http_response(500)):
        table.due = [play]
        assert read(reader) is not None
    table.default = HANG
    with pytest.raises(StoreUnavailableError):
        read(reader, 0.25)


def test_boto3_does_not_wait_for_credentials(
    monkeypatch: pytest.MonkeyPatch, table: ScriptedServer
) -> None:
    """If a credential process is late, a later read uses what it found."""
    session, go = boto3.Session, threading.Event()

    def slow() -> boto3.Session:
        go.wait(10)
        return session()

    monkeypatch.setattr(boto3, "Session", slow)
    reader = boto(monkeypatch, table)
    with pytest.raises(StoreUnavailableError, match="took too long"):
        read(reader, 0.3)
    go.set()
    assert read(reader) == RECORD


@pytest.mark.parametrize("missing", ["FLAGSTORE_TABLE", "AWS_REGION"])
def test_missing_settings_are_named(missing: str) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    with pytest.raises(ConfigurationError, match=f"set {missing}"):
        open_reader(environ)


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, "https://dynamodb.eu-west-1.amazonaws.com"),
        ({"AWS_ENDPOINT_URL": "http://localhost:4566"}, "http://localhost:4566"),
        ({"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_DYNAMODB": "http://b"}, "http://b"),
        ({"AWS_ENDPOINT_URL": "HTTPS://dynamodb.example"}, "https://dynamodb.example"),
        ({"AWS_ENDPOINT_URL": "http://[::1]:8000/"}, "http://[::1]:8000"),
    ],
)
def test_endpoint_follows_the_variables_of_aws(environ: dict[str, str], endpoint: str) -> None:
    """The service's own first, then the general one; with a port, a slash or capitals."""
    assert endpoint_of(environ, "eu-west-1") == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost:8000",
        "https://",
        "https://gateway.example/dynamodb",
        "https://user:secret@gateway.example",
        "http://localhost:99999",
    ],
)
def test_invalid_endpoint_is_named(endpoint: str) -> None:
    """It is not quoted."""
    with pytest.raises(ConfigurationError, match=r"^AWS_ENDPOINT_URL must be https://") as refused:
        open_reader({**ENVIRON, "AWS_ENDPOINT_URL": endpoint})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("service", ["dynamodb", "ssm"])
@pytest.mark.parametrize("dual_stack", ["", "true"])
@pytest.mark.parametrize("fips", ["", "True"])
def test_endpoints_of_all_regions(fips: str, dual_stack: str, service: str) -> None:
    """The same as botocore's, with FIPS and dual stack."""
    loader = botocore.session.get_session().get_component("data_loader")
    partitions = loader.load_data("partitions")
    rule_set = loader.load_service_model(service, "endpoint-rule-set-1")
    rules = EndpointProvider(rule_set, partitions)
    regions = [
        region
        for partition in partitions["partitions"]
        for region in partition["regions"]
        if not region.endswith("-global")
    ]
    assert len(regions) >= 46
    environ = {"AWS_USE_FIPS_ENDPOINT": fips, "AWS_USE_DUALSTACK_ENDPOINT": dual_stack}
    for region in regions:
        expected = rules.resolve_endpoint(
            Region=region, UseFIPS=fips == "True", UseDualStack=dual_stack == "true"
        )
        assert endpoint_of(environ, region, service) == expected.url
