"""Reading from DynamoDB with the standard library only, against a fake server."""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.endpoint_provider import EndpointProvider

from flagstore.clients import Client
from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.keys import Key, chunk_key
from flagstore.stores import network
from flagstore.stores.aws import BotoTransport
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport, endpoint_of, open_reader
from simulators.reader_store import published_record
from simulators.scripted_server import CUT, ScriptedServer, http_response, late, then_closed
from simulators.signals import in_child
from simulators.strict_python import read_strictly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
PREFIX = "000000000007/0123456789abcdef/"


def response(status: int, document: Any) -> bytes:
    """Return a response."""
    return http_response(status, json.dumps(document).encode())


def fault(code: str, status: int = 400, message: str = "") -> bytes:
    """Return an error as DynamoDB words it."""
    name = f"com.amazonaws.dynamodb.v20120810#{code}"
    return response(status, {"__type": name, "message": message})


FOUND = response(200, ITEM)
HANG = late(30, FOUND)


def drip(connection: Connection) -> None:
    """Send the body byte by byte, slowly."""
    connection.send(http_response(200, b"{", length=1_000))
    while not connection.server.ending.wait(0.05):
        connection.send(b" ")


@pytest.fixture
def table() -> Iterator[ScriptedServer]:
    """Run a server that plays DynamoDB."""
    with ScriptedServer(FOUND) as server:
        yield server


@pytest.fixture
def transport(table: ScriptedServer) -> Iterator[LeanTransport]:
    """Return a transport to that server."""
    with closing(LeanTransport("eu-west-1", table.uri, ENVIRON)) as transport:
        yield transport


@pytest.fixture
def reader(transport: LeanTransport) -> DynamoDBReader:
    """Return a reader over that transport."""
    return DynamoDBReader("flags", transport)


def soon(seconds: float = 5.0) -> float:
    """Return a deadline."""
    return time.monotonic() + seconds


def read(reader: DynamoDBReader, seconds: float = 5.0) -> Record | None:
    """Read one record within this many seconds."""
    return reader.read(KEY, consistent=False, deadline=soon(seconds))


def payloads(table: ScriptedServer) -> list[Any]:
    """Return the requested payloads."""
    return [json.loads(request.body) for request in table.requests]


# -- reading ------------------------------------------------------------------------------------


def test_read_is_one_signed_get_item(table: ScriptedServer, reader: DynamoDBReader) -> None:
    """As DynamoDB's protocol has it."""
    assert reader.read(KEY, consistent=True, deadline=soon()) == RECORD
    headers = table.requests[0].headers
    assert headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["x-amz-security-token"] == "token"
    assert headers["host"] == f"127.0.0.1:{table.port}"
    scope = (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{headers['x-amz-date'][:8]}/eu-west-1/dynamodb"
    )
    assert headers["authorization"].startswith(scope)
    assert payloads(table) == [
        {
            "TableName": "flags",
            "Key": {"namespace": {"S": "n"}, "key": {"S": "k"}},
            "ConsistentRead": True,
        }
    ]


def test_values_keep_their_types(table: ScriptedServer, reader: DynamoDBReader) -> None:
    """Other types are left out; a response without an item is None."""
    table.default = response(
        200,
        {
            "Item": {
                "n": {"N": "-12"},
                "s": {"S": "größe 😀"},
                "b": {"B": base64.b64encode(bytes(range(256))).decode()},
                "map": {"M": {}},
                "null": {"NULL": True},
            }
        },
    )
    record = read(reader)
    assert record == {"n": -12, "s": "größe 😀", "b": bytes(range(256))}
    table.default = response(200, {})
    assert read(reader) is None


def test_chunks_are_queried_page_by_page(table: ScriptedServer, reader: DynamoDBReader) -> None:
    """In order, whatever a page holds."""
    chunks = [os.urandom(1_000) for _ in range(5)]
    items = [
        {**_key(chunk_key("prod", PREFIX, n)), "body": {"B": base64.b64encode(chunk).decode()}}
        for n, chunk in enumerate(chunks)
    ]
    last = _key(chunk_key("prod", PREFIX, 2))
    table.due = [
        response(200, {"Items": items[:3], "LastEvaluatedKey": last}),
        response(200, {"Items": items[3:]}),
    ]
    assert list(reader.chunks("prod", PREFIX, deadline=soon())) == chunks
    first, second = payloads(table)
    assert first["ConsistentRead"] is True
    assert first["ExpressionAttributeValues"] == {":n": {"S": "prod:$body"}, ":p": {"S": PREFIX}}
    assert "ExclusiveStartKey" not in first
    assert second["ExclusiveStartKey"] == last


def test_chunks_resume_where_they_ended(table: ScriptedServer, reader: DynamoDBReader) -> None:
    """Those read before are not requested again."""
    table.default = response(200, {"Items": []})
    assert list(reader.chunks("prod", PREFIX, deadline=soon(), start=3)) == []
    (payload,) = payloads(table)
    assert payload["ExclusiveStartKey"] == _key(chunk_key("prod", PREFIX, 2))


def _key(key: Key) -> dict[str, Any]:
    return {"namespace": {"S": key.namespace}, "key": {"S": key.key}}


def test_stub_of_an_expired_chunk_is_empty(table: ScriptedServer, reader: DynamoDBReader) -> None:
    """Then the digests do not match."""
    table.default = response(200, {"Items": [{**_key(KEY), "expires_at": {"N": "1"}}]})
    assert list(reader.chunks("prod", PREFIX, deadline=soon())) == [b""]


def published() -> bytes:
    """Return a record that is source state and snapshot record, with one flag."""
    record = published_record({"a": {"on": True}})
    return response(200, {"Item": {name: _typed(value) for name, value in record.items()}})


def test_closed_client_leaves_nothing_open(table: ScriptedServer) -> None:
    """Python warns of no socket."""
    table.default = published()
    environment = {**ENVIRON, "AWS_ENDPOINT_URL_DYNAMODB": table.uri}
    assert read_strictly(environment) == "['a'] False \n"


def test_closed_client_reads_again(table: ScriptedServer, reader: DynamoDBReader) -> None:
    """The next read opens another connection."""
    table.default = published()
    flags = Client("prod", store=reader, replicas=1, ttl_s=0)
    for connections in (1, 2):
        assert flags.keys() == ["a"]
        assert not flags.info().stale
        assert table.connections == connections
        for _ in range(2):
            flags.close()


def _typed(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"B": base64.b64encode(value).decode()}
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


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
    known = ("127.0.0.1", table.port)

    def resolve(*_: object, **__: object) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in (silent, silent, known)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with closing(LeanTransport("eu-west-1", "http://zones.example", ENVIRON)) as transport:
        reader = DynamoDBReader("flags", transport)
        assert read(reader, 0.6) is not None


def test_lost_addresses_share_the_deadline(
    monkeypatch: pytest.MonkeyPatch, silent: tuple[str, int]
) -> None:
    """All of them together have the time of one."""
    found = (socket.AF_INET, socket.SOCK_STREAM, 6, "", silent)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [found] * 4)
    waits: list[float] = []

    class Counted(socket.socket):
        def settimeout(self, value: float | None) -> None:
            waits.append(value or 0)
            super().settimeout(value)

    monkeypatch.setattr(socket, "socket", Counted)
    for port, tls in ((80, False), (443, True)):
        with pytest.raises(TimeoutError):
            network.connect("zones.example", port, soon(0.3), tls=tls)
        assert len(waits) == 4
        assert sum(waits) <= 0.3
        waits.clear()


def test_closed_connection_is_noticed_before_use(
    table: ScriptedServer, reader: DynamoDBReader
) -> None:
    """No request is sent into it."""
    closed = threading.Semaphore(0)

    def close(connection: Connection) -> None:
        connection.send(FOUND)
        connection.close()
        closed.release()

    for number in range(1, 4):
        table.due = [close]
        assert read(reader) is not None
        closed.acquire()
        assert read(reader) is not None
        assert (len(table.requests), table.connections) == (2 * number, 1 + number)


@pytest.mark.parametrize("play", [CUT, HANG])
def test_dead_connection_is_replaced(
    table: ScriptedServer, reader: DynamoDBReader, play: Play
) -> None:
    """Closed, or silent because the other end went during a freeze."""
    read(reader)
    table.due = [play]
    assert read(reader, 0.8) is not None
    assert (len(table.requests), table.connections) == (3, 2)


def test_connection_close_is_obeyed(table: ScriptedServer, reader: DynamoDBReader) -> None:
    """No further request is sent."""
    table.default = FOUND.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    for _ in range(3):
        assert read(reader) is not None
    assert (len(table.requests), table.connections) == (3, 3)


def test_unexpected_response_is_not_used(table: ScriptedServer, reader: DynamoDBReader) -> None:
    """Not for the next request either."""
    table.due = [2 * response(200, {"Item": {}})]
    assert read(reader) == {}
    assert read(reader) != {}
    assert (len(table.requests), table.connections) == (2, 2)


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
        fault("ProvisionedThroughputExceededException"),
        fault("ThrottlingException"),
        fault("RequestLimitExceeded"),
        http_response(500),
        http_response(503, b"<html>busy</html>"),
        then_closed(http_response(200, length=60)),
        then_closed(http_response(200, b'{"Item": {"a', length=500)),
        http_response(200),
        http_response(301, b"{}"),
        http_response(204),
        CUT,
    ],
)
def test_transient_errors_are_retried(
    table: ScriptedServer, reader: DynamoDBReader, play: Play
) -> None:
    """Twice in a row, within the deadline."""
    table.due = [play, play]
    assert read(reader) == RECORD
    assert len(table.requests) == 3


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDeniedException", "User is not authorized to perform: dynamodb:GetItem"),
        ("ResourceNotFoundException", "Requested resource not found"),
        ("UnrecognizedClientException", "The security token included in the request is invalid."),
        ("ValidationException", ""),
    ],
)
def test_permanent_errors_are_raised_at_once(
    table: ScriptedServer, reader: DynamoDBReader, code: str, message: str
) -> None:
    """With DynamoDB's code and message; the connection stays usable."""
    table.due = [fault(code, 400, message)]
    with pytest.raises(StoreUnavailableError, match=f"{code}: {message}"):
        read(reader)
    assert len(table.requests) == 1
    assert read(reader) == RECORD
    assert table.connections == 1


@pytest.mark.parametrize("play", [HANG, drip, fault("InternalServerError", 500), CUT])
@pytest.mark.parametrize("kept", [True, False])
def test_deadline_holds(
    table: ScriptedServer, reader: DynamoDBReader, play: Play, *, kept: bool
) -> None:
    """Whatever the server does, also on a connection that was used before."""
    if kept:
        read(reader)
    table.default = play
    with pytest.raises(StoreUnavailableError, match="DynamoDB at 127"):
        read(reader, 0.4)


def test_late_response_is_not_used_for_another_request(
    table: ScriptedServer, reader: DynamoDBReader
) -> None:
    """After a time-out."""
    table.due = [late(0.3, response(200, {"Item": {"late": {"N": "1"}}}))]
    with pytest.raises(StoreUnavailableError):
        read(reader, 0.1)
    table.due.clear()
    assert read(reader) == RECORD


def test_refused_connection_is_typed() -> None:
    """With the system's message."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    transport = LeanTransport("eu-west-1", f"http://127.0.0.1:{port}", ENVIRON)
    with pytest.raises(StoreUnavailableError, match="ConnectionRefusedError"):
        transport.call("GetItem", {}, soon(0.2))


def test_rotated_keys_are_used(table: ScriptedServer) -> None:
    """Credentials are read at every call."""
    environ = dict(ENVIRON)
    transport = LeanTransport("eu-west-1", table.uri, environ)
    transport.call("GetItem", {}, soon())
    environ["AWS_ACCESS_KEY_ID"] = "AKIDROTATED"
    del environ["AWS_SESSION_TOKEN"]
    transport.call("GetItem", {}, soon())
    transport.close()
    first, second = (request.headers for request in table.requests)
    assert "Credential=AKIDEXAMPLE/" in first["authorization"]
    assert "Credential=AKIDROTATED/" in second["authorization"]
    assert "x-amz-security-token" not in second


# -- which transport ----------------------------------------------------------------------------


@pytest.mark.parametrize("absent", ["boto3", "botocore.exceptions"])
def test_missing_boto3_names_the_remedy(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    """Whichever part is not installed."""
    monkeypatch.setitem(sys.modules, absent, None)
    reader = open_reader({"FLAGSTORE_TABLE": "flags"})
    with pytest.raises(ConfigurationError, match="install boto3"):
        read(reader)


def boto(monkeypatch: pytest.MonkeyPatch, table: ScriptedServer) -> DynamoDBReader:
    """Return a reader through boto3, which looks for keys and endpoint in its own ways."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", table.uri)
    return DynamoDBReader("flags", BotoTransport())


def test_boto3_reads_the_same(monkeypatch: pytest.MonkeyPatch, table: ScriptedServer) -> None:
    """Both transports send the same request."""
    encoded = base64.b64encode(bytes(range(256))).decode()
    table.default = response(200, {"Item": {"a": {"N": "7"}, "b": {"B": encoded}}})
    record = read(boto(monkeypatch, table))
    lean = LeanTransport("eu-west-1", table.uri, ENVIRON)
    assert record == read(DynamoDBReader("flags", lean))
    lean.close()
    assert record == {"a": 7, "b": bytes(range(256))}
    one, other = payloads(table)
    assert one == other


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


def test_boto3_deadline_holds(monkeypatch: pytest.MonkeyPatch, table: ScriptedServer) -> None:
    """A refresh has less time than a first load."""
    reader = boto(monkeypatch, table)
    assert read(reader, 60) is not None
    table.default = HANG
    with pytest.raises(StoreUnavailableError):
        read(reader, 0.25)


def test_boto3_does_not_wait_for_a_name_server(
    monkeypatch: pytest.MonkeyPatch, table: ScriptedServer
) -> None:
    """A read still has a deadline."""
    reader = boto(monkeypatch, table)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://store.example")
    silent = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: silent.wait(60) and [])
    with pytest.raises(StoreUnavailableError, match="took too long"):
        read(reader, 0.25)
    silent.set()
    with network._busy[os.getpid()]:  # what still runs in the background ends here
        pass


def test_boto3_does_not_wait_for_credentials(
    monkeypatch: pytest.MonkeyPatch, table: ScriptedServer, tmp_path: Path
) -> None:
    """A late credential process serves a later read."""
    go, done, config = tmp_path / "go", tmp_path / "done", tmp_path / "config"
    keys = json.dumps({"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b"})
    program = tmp_path / "program"
    program.write_text(
        f"for _ in $(seq 200); do [ -e {go} ] && break; sleep 0.05; done; touch {done}\n"
        f"echo '{keys}'\n",
        encoding="utf-8",
    )
    config.write_text(f"[default]\ncredential_process = sh {program}\n", encoding="utf-8")
    reader = boto(monkeypatch, table)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with pytest.raises(StoreUnavailableError, match="took too long"):
        read(reader, 0.5)
    assert not done.exists()
    go.touch()
    assert read(reader) is not None


def test_boto3_retries_once(monkeypatch: pytest.MonkeyPatch, table: ScriptedServer) -> None:
    """If there is time."""
    reader = boto(monkeypatch, table)
    for play in (CUT, fault("ThrottlingException"), http_response(500)):
        table.due = [play]
        assert read(reader, 2) is not None


@pytest.mark.parametrize("missing", ["FLAGSTORE_TABLE", "AWS_REGION"])
def test_missing_settings_are_named(missing: str) -> None:
    """Before any request."""
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
        ({"AWS_ENDPOINT_URL": "http://localhost:8000/"}, "http://localhost:8000"),
        ({"AWS_ENDPOINT_URL": "http://[fd00:ec2::253]/"}, "http://[fd00:ec2::253]"),
        ({"AWS_ENDPOINT_URL": "http://a_b.example."}, "http://a_b.example."),
    ],
)
def test_endpoint_follows_the_variables_of_aws(environ: dict[str, str], endpoint: str) -> None:
    """The service's own first, then the general one; with a port, a slash or capitals."""
    assert endpoint_of(environ, "eu-west-1") == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost:8000",
        "dynamodb.example",
        "https://",
        "ftp://a",
        "https://gateway.example/dynamodb",
        "https://user:secret@gateway.example",
        "https://gateway.example?a=secret",
        "http://localhost:80o0",
        "http://localhost:99999",
        "http://[::1",
    ],
)
def test_invalid_endpoint_is_named(endpoint: str) -> None:
    """It is not quoted."""
    for name in ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"):
        with pytest.raises(ConfigurationError, match=f"^{name} must be https://") as refused:
            open_reader({**ENVIRON, name: endpoint})
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("dual_stack", ["", "true"])
@pytest.mark.parametrize("fips", ["", "True"])
def test_endpoints_of_all_regions(fips: str, dual_stack: str) -> None:
    """The same as botocore's, with FIPS and dual stack."""
    session = botocore.session.get_session()
    cache = session.get_component("data_loader")
    partitions = cache.load_data("partitions")
    rules = EndpointProvider(
        cache.load_service_model("dynamodb", "endpoint-rule-set-1"), partitions
    )
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
        assert endpoint_of(environ, region) == expected.url
