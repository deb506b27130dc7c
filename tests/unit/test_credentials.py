"""Keys for AWS without boto3: from the environment, and from the endpoint that SnapStart uses."""

from __future__ import annotations

import http.server
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.errors import StoreUnavailableError
from flagstore.stores.aws import EARLY_S, ContainerKeys, Credentials, EnvironmentKeys, find
from simulators.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_S = 3_600
FULL, RELATIVE = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
TOKEN, TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"


class Endpoint(http.server.ThreadingHTTPServer):
    """Plays the endpoint of a container: other keys at every call, valid for an hour."""

    daemon_threads = True

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.calls: list[tuple[str, str]] = []
        self.broken: bytes | None = None
        self.status = 200
        super().__init__(("127.0.0.1", 0), Connection)

    @property
    def uri(self) -> str:
        """Return its address, as Lambda gives it."""
        return f"http://127.0.0.1:{self.server_port}/2021-04-23/credentials"

    def response(self) -> bytes:
        """Return what it says now."""
        if self.broken is not None:
            return self.broken
        expires = time.gmtime(self.clock.now() + HOUR_S)
        keys = {
            "AccessKeyId": f"AKID{len(self.calls)}",
            "SecretAccessKey": "container-secret",
            "Token": "container-token",
            "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", expires),
        }
        return json.dumps(keys).encode()


class Connection(http.server.BaseHTTPRequestHandler):
    """One call."""

    server: Endpoint

    def do_GET(self) -> None:
        """Note it and response."""
        self.server.calls.append((self.path, self.headers.get("Authorization", "")))
        body = self.server.response()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock that only the test moves."""
    return FakeClock()


@pytest.fixture
def endpoint(clock: FakeClock) -> Iterator[Endpoint]:
    """Run an endpoint."""
    with Endpoint(clock) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def keys_of(endpoint: Endpoint, **environ: str) -> ContainerKeys:
    """Return what asks an endpoint."""
    return ContainerKeys(endpoint.uri, environ, endpoint.clock.now)


def soon() -> float:
    """Return a deadline."""
    return time.monotonic() + 2


def test_keys_are_fetched_once_per_lifetime(endpoint: Endpoint, clock: FakeClock) -> None:
    """Until five minutes before they expire."""
    keys = keys_of(endpoint, **{TOKEN: "the-token"})
    first = keys.current(soon())
    assert first == Credentials("AKID1", "container-secret", "container-token")
    clock.advance(HOUR_S - EARLY_S - 2)
    assert keys.current(soon()) is first
    clock.advance(3)
    assert keys.current(soon()).access_key == "AKID2"
    assert endpoint.calls == [("/2021-04-23/credentials", "the-token")] * 2


def test_token_file_is_read_at_every_fetch(endpoint: Endpoint, tmp_path: Path) -> None:
    """EKS rotates it."""
    file = tmp_path / "token"
    keys = keys_of(endpoint, **{TOKEN_FILE: str(file), TOKEN: "not-this-one"})
    for token in ("one", "two"):
        file.write_text(f"{token}\n")
        keys.refused()
        keys.current(soon())
    assert [token for _, token in endpoint.calls] == ["one", "two"]


def test_failing_endpoint_matters_only_after_expiry(endpoint: Endpoint, clock: FakeClock) -> None:
    """Then a typed error names the address and quotes no response."""
    keys = keys_of(endpoint)
    first = keys.current(soon())
    for body, status in ((b"secret", 200), (b"secret", 500), (b"[]", 200), (b'{"Token": 1}', 200)):
        endpoint.broken, endpoint.status = body, status
        keys.current(soon())
        clock.advance(HOUR_S - EARLY_S + 1)
        assert keys.current(soon()) is first
        clock.advance(EARLY_S)
        with pytest.raises(StoreUnavailableError, match="no keys from http://127") as failed:
            keys.current(soon())
        assert "secret" not in str(failed.value)
        clock.advance(-HOUR_S - 1)


def test_without_time_nothing_is_asked(endpoint: Endpoint) -> None:
    """The deadline of a read holds for its keys as well."""
    with pytest.raises(StoreUnavailableError, match="TimeoutError"):
        keys_of(endpoint).current(time.monotonic() - 1)
    assert endpoint.calls == []


def test_refused_keys_are_fetched_again(endpoint: Endpoint) -> None:
    """Those of the environment cannot be."""
    keys = keys_of(endpoint)
    assert not keys.refused()
    keys.current(soon())
    assert keys.refused()
    assert keys.current(soon()).access_key == "AKID2"
    environment = EnvironmentKeys({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    assert environment.current(soon()) == Credentials("a", "b", "")
    assert not environment.refused()


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        (
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", FULL: "http://x"},
            "EnvironmentKeys",
        ),
        ({FULL: "http://127.0.0.1:9001/2021-04-23/credentials"}, "ContainerKeys"),
        ({FULL: "http://localhost/x"}, "ContainerKeys"),
        ({FULL: "http://[::1]:80/x"}, "ContainerKeys"),
        ({FULL: "http://169.254.170.23/v1/credentials"}, "ContainerKeys"),
        ({FULL: "https://keys.example.com/x"}, "ContainerKeys"),
        ({RELATIVE: "/v2/credentials/1"}, "ContainerKeys"),
        ({FULL: "http://keys.example.com/x"}, "NoneType"),
        ({FULL: "http://127.0.0.1.example.com/x"}, "NoneType"),
        ({FULL: "file:///etc/passwd"}, "NoneType"),
        ({"AWS_ACCESS_KEY_ID": "a"}, "NoneType"),
        ({"AWS_PROFILE": "mine"}, "NoneType"),
        ({}, "NoneType"),
    ],
)
def test_sources_of_keys(environ: dict[str, str], kind: str) -> None:
    """The environment first; an endpoint without TLS only on this machine."""
    assert type(find(environ)).__name__ == kind
