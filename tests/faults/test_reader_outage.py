"""A reader through an hour without its store, and through a snapshot of SnapStart."""

from __future__ import annotations

import base64
import http.server
import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client
from flagstore.cache import TTL_S
from flagstore.errors import StoreUnavailableError
from flagstore.evaluation.base import TOO_OLD
from flagstore.keys import snapshot_key, state_key
from flagstore.stores.dynamodb import DynamoDBReader, LeanTransport
from flagstore.stores.file import FileReader
from simulators.clock import FakeClock
from simulators.reader_store import RecordsReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_S = 3_600.0
EVALUATIONS = 10_000
DAY_S = 86_400.0


def records(path: Path, clock: FakeClock, **values: Any) -> dict[Any, Any]:
    """Return the records of a published set of flags with these values."""
    path.write_text(json.dumps({"flagValues": values}))
    reader = FileReader(str(path), clock.now)
    keys = [state_key("prod"), snapshot_key("prod")]
    return {key: reader.read(key, consistent=True, deadline=0) for key in keys}


@pytest.mark.parametrize("max_age_s", [None, 600.0])
def test_hour_without_the_store(
    tmp_path: Path, max_age_s: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten thousand evaluations, no exception, staleness said, few calls; then fresh again."""
    clock = FakeClock()
    store = RecordsReader(records(tmp_path / "flags", clock, a=True), clock)
    flags = Client(
        "prod",
        store=store,
        max_age_s=max_age_s,
        replicas=1,
        clock=clock.now,
        monotonic=clock.monotonic,
    )
    assert flags.enabled("a", {"key": "ada"})
    begun = clock.now()
    store.error, store.latency_s = StoreUnavailableError("down"), 5.0
    store.calls.clear()
    stale = defaults = 0
    for _ in range(EVALUATIONS):
        clock.advance(HOUR_S / EVALUATIONS)
        detail = flags.detail("a", {"key": "ada"}, default=False)
        stale += detail.stale
        assert detail.age_s == pytest.approx(clock.now() - begun)
        too_old = max_age_s is not None and detail.age_s > max_age_s
        defaults += too_old
        assert (detail.value, detail.error) == ((False, TOO_OLD) if too_old else (True, ""))
    assert stale >= EVALUATIONS * (1 - 1.3 * TTL_S / HOUR_S)
    assert bool(defaults) == (max_age_s is not None)
    assert len(store.calls) <= HOUR_S / 60 + 10
    assert len(caplog.records) == 1
    store.error, store.latency_s = None, 0.0
    store.records = records(tmp_path / "flags", clock, a=False)
    clock.advance(61)
    detail = flags.detail("a", {"key": "ada"}, default=True)
    assert (detail.value, detail.stale, detail.error) == (False, False, "")
    assert len(caplog.records) == 2


def test_rising_error_rate_of_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An hour in which ever more calls fail: no exception, and no more than a call for each TTL."""
    clock, rng = FakeClock(), random.Random(16)
    store = RecordsReader(records(tmp_path / "flags", clock, a=True), clock)
    flags = Client("prod", store=store, replicas=1, clock=clock.now, monotonic=clock.monotonic)
    assert flags.enabled("a", {"key": "ada"})
    begun, failed = clock.now(), 0

    def fail(_call: str) -> None:
        nonlocal failed
        if rng.random() < (clock.now() - begun) / HOUR_S:
            failed += 1
            message = "down"
            raise StoreUnavailableError(message)

    store.on_call = fail
    store.calls.clear()
    for _ in range(EVALUATIONS):
        clock.advance(HOUR_S / EVALUATIONS)
        assert flags.detail("a", {"key": "ada"}, default=False).value is True
    assert failed > len(store.calls) / 4
    assert len(store.calls) <= HOUR_S / (0.9 * TTL_S) + 1  # the TTL less its jitter
    assert caplog.records
    print(f"{EVALUATIONS:,} evaluations in an hour, {failed} of {len(store.calls)} calls failed")


class Lambda(http.server.ThreadingHTTPServer):
    """Plays DynamoDB and the endpoint for keys, for one function with SnapStart."""

    daemon_threads = True

    def __init__(self) -> None:
        self.key = "AKID1"
        self.expires_at = time.time() + HOUR_S
        self.records: dict[Any, Any] = {}
        self.log: list[str] = []
        self.sockets: list[Any] = []
        super().__init__(("127.0.0.1", 0), Connection)

    def restore(self) -> None:
        """Let every connection die, and every key be another one."""
        for connection in self.sockets:
            connection.close()
        self.sockets.clear()
        self.key = "AKID2"
        self.log.clear()


class Connection(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: Lambda
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Remember it, to cut it off."""
        super().setup()
        self.server.sockets.append(self.connection)

    def do_GET(self) -> None:
        """Hand out keys."""
        self.server.log.append("keys")
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.server.expires_at))
        keys = {"AccessKeyId": self.server.key, "SecretAccessKey": "s", "Token": "t"}
        self._send(200, {**keys, "Expiration": expires})

    def do_POST(self) -> None:
        """Serve a GetItem that is signed with the current keys."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if f"Credential={self.server.key}/" not in self.headers["Authorization"]:
            self.server.log.append("refused")
            self._send(400, {"__type": "x#ExpiredTokenException", "message": "expired"})
            return
        namespace = asked["Key"]["namespace"]["S"]
        self.server.log.append(namespace)
        found = [r for key, r in self.server.records.items() if key.namespace == namespace]
        self._send(200, {"Item": {k: _typed(v) for k, v in found[0].items()}} if found else {})

    def _send(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_one_request(self) -> None:
        """Take a connection that was cut off for one that is over."""
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"B": base64.b64encode(value).decode()}
    return {"N": str(value)} if isinstance(value, int) else {"S": value}


@pytest.fixture
def function() -> Iterator[Lambda]:
    """Run it."""
    with Lambda() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("expired", [True, False])
def test_restore_from_snapstart(function: Lambda, tmp_path: Path, *, expired: bool) -> None:
    """Restored a day later: a dead socket, a clock that jumped, keys of another time.

    Nothing that was loaded before is trusted: the first flag asks the store, with new keys, also
    where the old ones claim to be good for long.
    """
    uri = f"http://127.0.0.1:{function.server_port}"
    clock = FakeClock(time.time())
    transport = LeanTransport("eu-west-1", uri, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{uri}/c"})
    function.records = records(tmp_path / "flags", clock, a=True)
    # The monotonic clock of a restored process goes on where it was.
    flags = Client(
        "prod",
        store=DynamoDBReader("flags", transport),
        replicas=1,
        clock=clock.now,
    )
    assert flags.enabled("a", {"key": "ada"})
    assert function.log == ["keys", "prod:$snapshot"]
    function.restore()
    clock.advance(DAY_S)
    if expired:
        transport._keys._expires = "2020-01-01T00:00:00Z"  # type: ignore[attr-defined] # keys of a container
    function.records = records(tmp_path / "flags", clock, a=False, b=True)
    assert not flags.enabled("a", {"key": "ada"})
    assert flags.enabled("b", {"key": "ada"})
    refused = [] if expired else ["refused"]
    assert function.log == [*refused, "keys", "prod:$state", "prod:$snapshot"]
    transport.close()
