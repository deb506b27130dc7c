"""The HTTP client: its deadline, limits, checks and TLS; contract/test_providers.py has faults."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests.adapters
import trustme

from local.certificates import server_context
from simulators import faults
from simulators.launchdarkly import LaunchDarklySimulator, rich_flags
from simulators.scripted_server import ScriptedServer
from storesync import errors
from storesync.http import HttpClient, HttpLimits, tls_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from simulators.scripted_server import Connection

QUICK = HttpLimits(connect_s=1, total_s=0.4)
SECRET = "sdk-canary-71f0"
HEADERS = {"Authorization": SECRET}
LOCAL = HttpClient(QUICK)


@pytest.fixture(scope="module")
def server() -> Iterator[LaunchDarklySimulator]:
    with LaunchDarklySimulator(sdk_key=SECRET) as running:
        yield running


@pytest.fixture(autouse=True)
def no_thread_stays(server: LaunchDarklySimulator) -> Iterator[None]:
    server.faults.clear()
    server.requests.clear()
    yield
    assert not lingering(30)


def lingering(within_s: float) -> list[threading.Thread]:
    end = time.monotonic() + within_s
    while threads := [t for t in threading.enumerate() if t.name.startswith("to ")]:
        if time.monotonic() > end:
            return threads
        time.sleep(0.01)
    return []


def get(server: LaunchDarklySimulator, limits: HttpLimits = QUICK, **headers: str) -> object:
    url = server.url + "/sdk/latest-all?filter=canary-77b2"
    return HttpClient(limits).get(url, HEADERS | headers, allow_http=True)


def test_response(server: LaunchDarklySimulator) -> None:
    response = HttpClient().get(server.url + "/sdk/latest-all", HEADERS, allow_http=True)
    assert (response.status, response.body) == (200, server.document())
    assert response.headers["content-encoding"] == "gzip"
    sent = server.requests[-1].headers
    assert sent["user-agent"] == "flagstore"
    assert sent["accept-encoding"] == "gzip"
    assert sent["connection"] == "close"


def test_post(server: LaunchDarklySimulator) -> None:
    """The body is sent as it is; the response's body, which may be anything, is ignored."""
    headers = {**HEADERS, "X-LaunchDarkly-Event-Schema": "4", "X-LaunchDarkly-Payload-ID": "1"}
    body = b'[{"kind": "summary"}]'
    response = LOCAL.post(server.url + "/bulk", headers, body, allow_http=True)
    assert (response.status, server.events) == (202, [{"kind": "summary"}])
    assert (server.requests[-1].method, server.requests[-1].body) == ("POST", body)
    server.faults.append(faults.endless_body())
    assert LOCAL.post(server.url + "/bulk", headers, body, allow_http=True).body == b""


@pytest.mark.parametrize(
    ("fault", "in_doubt"),
    [
        (faults.silence(), True),
        (faults.reset(), True),
        (faults.drip_headers(), True),
        (None, False),
    ],
)
def test_doubt(server: LaunchDarklySimulator, fault: faults.Fault | None, in_doubt: bool) -> None:
    """Once connected, a request that has no response may have been processed."""
    url = server.url if fault else "http://127.0.0.1:1"
    server.faults.extend([fault] if fault else [])
    with pytest.raises(errors.ProviderUnavailableError) as caught:
        LOCAL.post(url, {}, b"x", allow_http=True)
    assert caught.value.in_doubt == in_doubt
    # Without TLS, nothing has been sent.
    with pytest.raises(errors.ProviderUnavailableError, match="TLS failed") as caught:
        LOCAL.post(server.url.replace("http:", "https:"), {}, b"x")
    assert not caught.value.in_doubt


def test_deadline_in_handshake() -> None:
    """The response to a ClientHello is a long record, a byte at a time."""

    def drip(connection: Connection) -> None:
        connection.send(b"\x16\x03\x03\x3f\xff")
        while not connection.server.ending.wait(0.02):
            connection.send(b"\x02")

    with ScriptedServer(drip, http=False) as server:
        with pytest.raises(errors.ProviderUnavailableError, match="within"):
            LOCAL.get(f"https://127.0.0.1:{server.port}/", HEADERS)
        assert not lingering(30)


def test_deadline_in_name_resolution(
    server: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that hangs does not hold the caller, and its late result is not used."""
    hung = threading.Event()
    resolve = socket.getaddrinfo

    def slow(*args: object, **kwargs: object) -> object:
        hung.wait(60)
        return resolve(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(errors.ProviderUnavailableError, match="within"):
        get(server)
    hung.set()
    assert not lingering(30)
    assert not server.requests


def test_within(server: LaunchDarklySimulator) -> None:
    """A client with less time keeps the other limits; more time than allowed is not given."""
    client = HttpClient(QUICK)
    assert client.within(0.1).limits == HttpLimits(connect_s=1, total_s=0.1)
    assert client.within(9).limits == QUICK
    for nothing in (0.0, -1.0):
        with pytest.raises(errors.ProviderUnavailableError):
            client.within(nothing).get(server.url, {}, allow_http=True)
    assert not server.requests


def test_threads_share_a_client(server: LaunchDarklySimulator) -> None:
    """Parallel exchanges keep their own deadlines and responses."""
    server.faults.extend([faults.silence(), faults.drip_body(), faults.reset(), faults.html()] * 3)
    client = HttpClient(HttpLimits(total_s=1.2))

    def fetch(_: int) -> str:
        try:
            response = client.get(server.url + "/sdk/latest-all", HEADERS, allow_http=True)
        except errors.ProviderUnavailableError:
            return "unavailable"
        return "good" if response.body == server.document() else "odd"

    with ThreadPoolExecutor(20) as pool:
        outcomes = sorted(pool.map(fetch, range(40)))
    assert outcomes == ["good"] * 28 + ["odd"] * 3 + ["unavailable"] * 9


@pytest.mark.parametrize("size", [0, 65_536, 700_001])
def test_inflating(server: LaunchDarklySimulator, size: int) -> None:
    """Bodies of every size inflate to the same bytes, also in several gzip members."""
    content = bytes(index * index % 251 for index in range(size))
    gzipped(server, gzip.compress(content) * 3)
    assert HttpClient().get(server.url, {}, allow_http=True).body == content * 3


def gzipped(server: LaunchDarklySimulator, body: bytes) -> None:
    headers = {"Content-Encoding": "gzip"}
    server.faults.append(lambda handler: handler.reply(200, body, headers))


def test_body_limit_is_exact(server: LaunchDarklySimulator) -> None:
    limits = HttpLimits(max_body_bytes=1000)
    for size, fits in ((1000, True), (1001, False)):
        server.faults.append(faults.body(b"a" * size))
        with contextlib.nullcontext() if fits else pytest.raises(errors.MalformedResponseError):
            get(server, limits)


def test_damaged_gzip(server: LaunchDarklySimulator) -> None:
    gzipped(server, b"no gzip")
    with pytest.raises(errors.MalformedResponseError, match="does not inflate"):
        get(server)


def test_environment_is_ignored(
    server: LaunchDarklySimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a proxy nor a .netrc of the environment sees or replaces the key."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login stranger password stolen\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    HttpClient().get(server.url + "/sdk/latest-all", HEADERS, allow_http=True)
    assert server.requests[-1].headers["authorization"] == SECRET


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sdk.example.com",
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "https://[::1",
        "https://host:port/",
        "https://user:canary@127.0.0.1/",
        "https://a b/",
        "https://" + "a" * 64 + ".example/",
    ],
)
def test_invalid_urls(url: str) -> None:
    """Only https to a host is allowed; the message quotes no password."""
    with pytest.raises(errors.ConfigurationError, match="base_url") as caught:
        HttpClient().get(url, HEADERS)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("value", ["canary\r\nX: y", " canary", "canaré"])
def test_invalid_header_is_not_quoted(server: LaunchDarklySimulator, value: str) -> None:
    """A key with a line break is reported by the header's name, and nothing is sent."""
    with pytest.raises(errors.ConfigurationError, match="Authorization") as caught:
        HttpClient().get(server.url, {"Authorization": value}, allow_http=True)
    assert "canar" not in str(caught.value)
    assert not server.requests


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("https://127.0.0.1:{port}/?canary", "TLS failed"),
        ("http://127.0.0.1:1/?canary", "ConnectionRefusedError"),
        ("https://nowhere.invalid/?canary", "failed"),
    ],
)
def test_unreachable_hosts(server: LaunchDarklySimulator, url: str, match: str) -> None:
    """TLS, connection and name errors are short, name the host, and quote nothing."""
    url = url.format(port=server.url.rpartition(":")[2])
    with pytest.raises(errors.ProviderUnavailableError, match=match) as caught:
        HttpClient(HttpLimits(total_s=5)).get(url, HEADERS, allow_http=True)
    assert "canary" not in str(caught.value)
    assert len(str(caught.value)) < 120


@pytest.fixture
def tls_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LaunchDarklySimulator, Path]]:
    """Run a simulator that serves https; give it and the file that will have its authority."""
    ca, roots = trustme.CA(), tmp_path / "roots.pem"
    ca.cert_pem.write_to_path(roots)
    monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(roots))
    tls_context.cache_clear()
    server = LaunchDarklySimulator(*rich_flags(100), sdk_key=SECRET)
    server.tls = server_context(ca.issue_cert("127.0.0.1"))
    with server:
        yield server, roots
    tls_context.cache_clear()


def test_certificates_are_verified(tls_server: tuple[LaunchDarklySimulator, Path]) -> None:
    """Without a trusted certificate for that very host, no key is sent; roots are parsed once."""
    server, roots = tls_server
    client = HttpClient(HttpLimits(total_s=5))
    url = server.url + "/sdk/latest-all"
    with pytest.raises(errors.ProviderUnavailableError, match="TLS failed"):
        client.get(url.replace("127.0.0.1", "localhost"), HEADERS)
    roots.unlink()
    assert client.get(url, HEADERS).body == server.document()
    trustme.CA().cert_pem.write_to_path(roots)
    tls_context.cache_clear()
    with pytest.raises(errors.ProviderUnavailableError, match="TLS failed"):
        client.get(url, HEADERS)
    assert len(server.requests) == 1


def test_deadline_over_tls(tls_server: tuple[LaunchDarklySimulator, Path]) -> None:
    """The connection is ended below TLS, so its state does not matter."""
    server, _ = tls_server
    server.faults.append(faults.drip_body())
    with pytest.raises(errors.ProviderUnavailableError, match="within"):
        LOCAL.get(server.url, HEADERS)
    assert not lingering(30)
