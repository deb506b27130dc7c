"""AWS credentials without boto3, from the environment or the endpoint that SnapStart uses."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from flagstore.errors import StoreUnavailableError
from flagstore.stores.aws import EARLY_S, ContainerKeys, Credentials, EnvironmentKeys, find
from simulators.clock import FakeClock
from simulators.scripted_server import Connection, ScriptedServer, http_response

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_S = 3_600
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
FULL, RELATIVE = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
TOKEN, TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"


class Endpoint(ScriptedServer):
    """Plays the endpoint of a container: other keys at every call, valid for an hour."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(self.keys)
        self.clock = clock

    def keys(self, _connection: Connection) -> bytes:
        expires = time.gmtime(self.clock.now() + HOUR_S)
        keys = {
            "AccessKeyId": f"AKID{len(self.requests)}",
            "SecretAccessKey": "container-secret",
            "Token": "container-token",
            "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", expires),
        }
        return http_response(200, json.dumps(keys).encode())

    def tokens(self) -> list[str]:
        return [request.headers.get("authorization", "") for request in self.requests]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def endpoint(clock: FakeClock) -> Iterator[Endpoint]:
    with Endpoint(clock) as server:
        yield server


def keys_of(endpoint: Endpoint, **environ: str) -> ContainerKeys:
    return ContainerKeys(f"{endpoint.uri}/2021-04-23/credentials", environ, endpoint.clock.now)


def soon() -> float:
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
    assert endpoint.tokens() == ["the-token"] * 2
    assert {request.path for request in endpoint.requests} == {"/2021-04-23/credentials"}


def test_token_file_is_read_at_every_fetch(endpoint: Endpoint, tmp_path: Path) -> None:
    """EKS rotates it."""
    file = tmp_path / "token"
    keys = keys_of(endpoint, **{TOKEN_FILE: str(file), TOKEN: "not-this-one"})
    for token in ("one", "two"):
        file.write_text(f"{token}\n")
        keys.refused()
        keys.current(soon())
    assert endpoint.tokens() == ["one", "two"]


def test_failing_endpoint_matters_only_after_expiry(endpoint: Endpoint, clock: FakeClock) -> None:
    """Then a typed error names the address, and does not quote the response."""
    keys = keys_of(endpoint)
    first = keys.current(soon())
    for body, status in ((b"secret", 200), (b"secret", 500), (b"[]", 200)):
        endpoint.default = http_response(status, body)
        keys.current(soon())
        clock.advance(HOUR_S - EARLY_S + 1)
        assert keys.current(soon()) is first
        clock.advance(EARLY_S)
        with pytest.raises(StoreUnavailableError, match="no keys from http://127") as failed:
            keys.current(soon())
        assert "secret" not in str(failed.value)
        clock.advance(-HOUR_S - 1)


def test_refused_keys_are_fetched_again(endpoint: Endpoint) -> None:
    """Those of the environment cannot be."""
    keys = keys_of(endpoint)
    assert not keys.refused()
    keys.current(soon())
    assert keys.refused()
    assert keys.current(soon()).access_key == "AKID2"


def test_keys_of_the_environment_may_be_rotated() -> None:
    environ = {**KEYS, "AWS_SESSION_TOKEN": "c"}
    keys = EnvironmentKeys(environ)
    assert keys.current(0) == Credentials("a", "b", "c")
    environ |= {"AWS_ACCESS_KEY_ID": "d", "AWS_SESSION_TOKEN": ""}
    assert keys.current(0) == Credentials("d", "b")
    assert not keys.refused()


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({**KEYS, FULL: "http://x"}, "EnvironmentKeys"),
        ({FULL: "http://127.0.0.1:9001/2021-04-23/credentials"}, "ContainerKeys"),
        ({FULL: "http://[::1]:80/x"}, "ContainerKeys"),
        ({FULL: "http://169.254.170.23/v1/credentials"}, "ContainerKeys"),
        ({FULL: "https://keys.example.com/x"}, "ContainerKeys"),
        ({RELATIVE: "/v2/credentials/1"}, "ContainerKeys"),
        ({FULL: "http://127.0.0.1.example.com/x"}, "NoneType"),
        ({FULL: "file:///etc/passwd"}, "NoneType"),
        ({"AWS_ACCESS_KEY_ID": "a"}, "NoneType"),
    ],
)
def test_sources_of_keys(environ: dict[str, str], kind: str) -> None:
    """The environment first; an endpoint without TLS only on this machine."""
    assert type(find(environ)).__name__ == kind
