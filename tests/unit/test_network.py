"""Connecting: names, addresses and certificates, each within the deadline."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trustme

from flagstore.errors import StoreUnavailableError
from flagstore.keys import Key
from flagstore.stores import amazon_roots, network
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport
from flagstore.stores.redis import RedisReader, parse_url
from simulators.scripted_server import ScriptedServer, http_response
from simulators.signals import Interrupted, InterruptedLock, in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FINGERPRINTS = {
    "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
    "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
    "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
    "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
    "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5",
}
"""SHA-256 of each certificate's DER, as https://www.amazontrust.com/repository/ publishes it."""
KEY = Key("prod:$snapshot", "1")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


class Roots(NamedTuple):
    """Two authorities: one in place of Amazon, and one that only the system trusts."""

    amazon: trustme.CA
    system: trustme.CA


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Roots:
    """Give both, in a process that has not connected yet."""
    made = Roots(trustme.CA(), trustme.CA())
    made.system.cert_pem.write_to_path(tmp_path / "system.pem")
    monkeypatch.setattr(amazon_roots, "PEM", made.amazon.cert_pem.bytes().decode())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    monkeypatch.setattr(network, "_contexts", {})
    monkeypatch.setattr(network, "_outside_amazon", set())
    return made


def serving(certificate: trustme.LeafCert) -> ScriptedServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return ScriptedServer(http_response(200, b"{}"), tls=context)


def test_roots_are_amazons() -> None:
    blocks = re.findall("-----BEGIN.*?END CERTIFICATE-----", amazon_roots.PEM, re.DOTALL)
    found = {hashlib.sha256(ssl.PEM_cert_to_DER_cert(block)).hexdigest() for block in blocks}
    assert found == FINGERPRINTS
    assert len(network.prepare_tls().get_ca_certs()) == len(FINGERPRINTS)


def test_amazon_is_trusted_without_the_system_store(
    roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing its 140 certificates takes longer than a refresh."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    with serving(roots.amazon.issue_cert("127.0.0.1")) as server:
        network.connect("127.0.0.1", server.port, soon(), tls=True).close()
    assert network._contexts.keys() == {network.AMAZON}


def test_system_roots_are_trusted(roots: Roots) -> None:
    """For private endpoints and proxies; from the second connection on at once."""
    with serving(roots.system.issue_cert("127.0.0.1")) as server:
        for connections in (2, 3):
            network.connect("127.0.0.1", server.port, soon(), tls=True).close()
            assert server.connections == connections


@pytest.mark.parametrize(
    ("issue", "message"),
    [
        (lambda _: trustme.CA().issue_cert("127.0.0.1"), "self-signed certif|unable to get local"),
        (lambda roots: roots.amazon.issue_cert("127.0.0.1", not_after=LONG_AGO), "has expired"),
        (lambda roots: roots.system.issue_cert("x.example"), "is not valid for '127.0.0.1'"),
    ],
)
def test_wrong_certificate_is_refused(
    roots: Roots, issue: Callable[[Roots], trustme.LeafCert], message: str
) -> None:
    """At once, with the setting to check."""
    with serving(issue(roots)) as server:
        port = server.port
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        dynamodb = LeanTransport("eu-west-1", f"https://127.0.0.1:{port}", keys)
        address = parse_url(f"rediss://127.0.0.1:{port}")
        assert address is not None
        readers = {
            "SSL_CERT_FILE": DynamoDBReader("flags", dynamodb),
            "FLAGSTORE_REDIS_CA_FILE": RedisReader(address),
        }
        for remedy, reader in readers.items():
            with pytest.raises(StoreUnavailableError, match=message) as refused:
                reader.read(KEY, consistent=False, deadline=soon(60))
            assert remedy in str(refused.value)
        assert server.connections <= 4  # one per reader and store of authorities: no repetition


def test_trailing_dot_of_a_host_name(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is without it."""
    with serving(roots.amazon.issue_cert("store.example")) as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        network.connect("store.example.", server.port, soon(), tls=True).close()


def test_hanging_handshake_ends_by_the_deadline(roots: Roots) -> None:
    del roots
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        network.connect("127.0.0.1", silent.getsockname()[1], soon(0.2), tls=True)


class NameServer:
    """Takes the place of the system's look-up, and may hang."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]
        self.responses = threading.Event()
        self.responses.set()
        self.asked = 0
        self.error: OSError | None = None

    def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        self.asked += 1
        self.responses.wait(60)
        if self.error:
            raise self.error
        return self.found


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """Give a name server that resolves every name to a port that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = NameServer(listener.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
        monkeypatch.setattr(network, "_addresses", {})
        yield server
        server.responses.set()
    busy = network._busy[os.getpid()]  # a task that still runs in the background ends here
    assert busy.acquire(timeout=10)
    busy.release()


def connect(seconds: float) -> None:
    network.connect("store.example", 443, soon(seconds)).close()


def test_silent_name_server_costs_the_deadline(names: NameServer) -> None:
    """It is never asked twice at once; addresses that come late serve the next attempt."""
    names.responses.clear()
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"store\.example"):
            connect(0.1)
    assert names.asked == 1
    names.responses.set()
    with network._busy[os.getpid()]:
        names.responses.clear()
    connect(0.6)


@pytest.mark.parametrize("error", [None, socket.gaierror("no such host")])
def test_known_addresses_are_used_without_a_name_server(
    names: NameServer, error: OSError | None
) -> None:
    connect(5)
    names.error = error
    if error is None:
        names.responses.clear()
    connect(0.6)
    assert names.asked == 2


def test_invalid_host_name() -> None:
    """An OSError, not a codec's."""
    with pytest.raises(OSError, match="is not a host name"):
        network.connect("ä" * 64, 443, soon(), tls=True)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_child_does_not_wait_for_its_parents_look_up(names: NameServer) -> None:
    """A fork copies the lock, not the thread."""
    names.responses.clear()
    with pytest.raises(TimeoutError):
        connect(0.1)

    def work() -> None:
        names.responses = threading.Event()
        names.responses.set()
        connect(2)

    assert in_child(work)


def test_thread_limit_costs_one_attempt(names: NameServer) -> None:
    """Known addresses serve."""
    connect(5)
    usual = threading.stack_size(1 << 46)  # more than there are addresses
    try:
        connect(5)
        network._addresses.clear()
        with pytest.raises(OSError, match=r"store\.example: can't start new thread"):
            connect(5)
    finally:
        threading.stack_size(usual)
    assert names.asked == 1


def test_signal_handler_that_raises_blocks_no_connection(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    del names
    with monkeypatch.context() as patch:
        patch.setitem(network._busy, os.getpid(), InterruptedLock(threading.Lock()))
        with suppress(Interrupted):
            connect(0.5)
        connect(0.5)


def test_flood_of_lines_ends_by_the_deadline() -> None:
    """Also if all of them have arrived."""
    end, other = socket.socketpair()
    with closing(network.Stream(end)) as stream, other:
        other.sendall(b"1\r\n2\r\n")
        stream.begin(soon())
        assert stream.line() == b"1"
        stream.begin(soon(-1))
        with pytest.raises(TimeoutError):
            stream.line()
