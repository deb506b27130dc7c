"""The simulators behave as the providers do, where tests of other parts rely on it."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from simulators import launchdarkly, split, unleash

if TYPE_CHECKING:
    from collections.abc import Iterator


class Receiver(http.server.HTTPServer):
    """Takes webhooks and answers with the statuses that are due."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.received: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Hook)


class _Hook(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.received.append((dict(self.headers.items()), self.rfile.read(length)))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 202)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver of webhooks."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(provider: Any, path: str, **headers: str) -> tuple[int, dict[str, Any], str]:
    """Send a request and return status, document and ETag."""
    connection = http.client.HTTPConnection("127.0.0.1", int(provider.url.rpartition(":")[2]))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers={"Authorization": provider.sdk_key} | named)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, json.loads(body or b"{}"), response.headers.get("ETag", "")


@pytest.mark.parametrize(("answers", "sent"), [([], 1), ([500], 2), ([500, 500, 500], 2)])
def test_launchdarkly_sends_once_more(receiver: Receiver, answers: list[int], sent: int) -> None:
    """A delivery that fails is repeated once, with the same signed body."""
    receiver.statuses = answers
    with launchdarkly.LaunchDarklySimulator() as provider:
        provider.webhook(f"http://127.0.0.1:{receiver.server_port}/webhooks/prod", "secret")
        provider.set_flag("a")
    assert len(receiver.received) == sent
    assert len({body for _, body in receiver.received}) == 1
    headers, body = receiver.received[-1]
    assert headers["X-LD-Signature"] == launchdarkly.sign(body, "secret")
    assert headers["User-Agent"] == "LD-Integrations/1.0"


def test_unleash_never_sends_again(receiver: Receiver) -> None:
    """A delivery that fails is lost, and it carries no User-Agent."""
    receiver.statuses = [500]
    with unleash.UnleashSimulator() as provider:
        provider.webhook(f"http://127.0.0.1:{receiver.server_port}/webhooks/u", "Bearer secret")
        provider.set_flag("a")
    assert [delivery.statuses for delivery in provider.deliveries] == [[500]]
    headers, _ = receiver.received[0]
    assert headers["authorization"] == "Bearer secret"
    assert not {name.lower() for name in headers} & {"user-agent", "accept-encoding"}


def test_a_delivery_can_come_twice(receiver: Receiver) -> None:
    """A test can repeat what was delivered before."""
    for provider in (launchdarkly.LaunchDarklySimulator(), unleash.UnleashSimulator()):
        receiver.received.clear()
        with provider:
            provider.webhook(f"http://127.0.0.1:{receiver.server_port}/", "secret")
            provider.set_flag("a")
            provider.settle()
            provider.send_again(provider.deliveries[0])
        assert len(receiver.received) == 2
        assert receiver.received[0] == receiver.received[1]


def test_versions_rise_and_begin_again() -> None:
    """Each change adds one; a flag that is made again begins at 1."""
    provider = launchdarkly.LaunchDarklySimulator()
    assert [provider.set_flag("a"), provider.set_flag("a", on=False)] == [1, 2]
    provider.remove_flag("a")
    assert provider.set_flag("a") == 1
    assert [provider.set_segment("s"), provider.set_segment("s", included=["x"])] == [1, 2]
    provider.remove_segment("s")
    assert provider.newest()["segments"] == {}


def test_lag_by_requests_and_by_time() -> None:
    """A lagging provider serves what was there before, for a while."""
    path = "/sdk/latest-all"
    with launchdarkly.LaunchDarklySimulator() as provider:
        provider.lag(requests=1)
        provider.set_flag("a")
        assert [bool(ask(provider, path)[1]["flags"]) for _ in range(2)] == [False, True]
        provider.lag(seconds=60)
        provider.set_flag("b")
        assert "b" not in ask(provider, path)[1]["flags"]
        provider.lag()
        assert "b" in ask(provider, path)[1]["flags"]


def test_launchdarkly_refuses_what_it_would() -> None:
    """A wrong key is 401, another path or an unknown filter 404, an equal ETag 304."""
    with launchdarkly.LaunchDarklySimulator() as provider:
        assert ask(provider, "/sdk/latest-all", Authorization="no")[0] == 401
        assert ask(provider, "/sdk/flags")[0] == 404
        assert ask(provider, "/sdk/latest-all?filter=unknown")[0] == 404
        etag = ask(provider, "/sdk/latest-all")[2]
        assert ask(provider, "/sdk/latest-all", If_None_Match=etag)[0] == 304


def test_unleash_honours_the_spec_header() -> None:
    """Segments come apart from 4.2.0 on, else inlined; a broken header is 400."""
    path = unleash.PATH
    with unleash.UnleashSimulator(*unleash.rich_flags(10)) as provider:
        status, apart, etag = ask(provider, path, Unleash_Client_Spec="5.2.0")
        assert (status, len(apart["segments"])) == (200, 3)
        assert etag == apart["meta"]["etag"]
        for header in ({}, {"Unleash_Client_Spec": "4.1.9"}):
            _, inlined, other = ask(provider, path, **header)
            assert "segments" not in inlined
            assert all("segments" not in s for f in inlined["features"] for s in f["strategies"])
            assert other != etag
        assert ask(provider, path, Unleash_Client_Spec="new")[0] == 400
        assert ask(provider, path, Authorization="no")[0] == 401
        assert ask(provider, "/api/client/features/a")[0] == 404
        again = ask(provider, path, Unleash_Client_Spec="5.2.0", If_None_Match=etag)
        assert (again[0], again[2]) == (304, "")


def test_unleash_counts_events() -> None:
    """Events of features and updated segments make revisions, other events of segments do not."""
    provider = unleash.UnleashSimulator()
    start = provider.revision
    assert provider.set_segment(1) == start + 1
    assert provider.revision == start
    assert provider.set_segment(1, name="x") == provider.revision == start + 2
    assert provider.set_flag("a") == provider.revision == start + 3
    assert provider.set_flag("a", enabled=False) == provider.revision
    assert provider.set_flag("a", description="x") == provider.revision
    assert provider.remove_segment(1) == provider.revision + 1
    assert provider.remove_flag("a", archive=False) == provider.revision


@pytest.mark.parametrize("module", [launchdarkly, split, unleash])
def test_rich_flags_repeat(module: Any) -> None:
    """The same seed gives the same flags, and another one gives others."""
    assert module.rich_flags(30) == module.rich_flags(30)
    assert module.rich_flags(30, seed=2) != module.rich_flags(30)
    assert len(module.rich_flags(30)[0]) == 30


def test_a_simulator_that_does_not_run_has_no_address() -> None:
    """Forgetting to start one is told plainly."""
    with pytest.raises(RuntimeError, match="start"):
        _ = launchdarkly.LaunchDarklySimulator().url
