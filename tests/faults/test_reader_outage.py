"""A reader survives an hour without its store, and a SnapStart snapshot."""

from __future__ import annotations

import base64
import json
import random
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
from simulators.scripted_server import Connection, ScriptedServer, http_response

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
    """Ten thousand evaluations: no exception, reported as stale, few calls; then fresh again."""
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
    """An hour of more and more failing calls: no exception, and at most one call per TTL."""
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


class Lambda(ScriptedServer):
    """Plays DynamoDB and the endpoint for keys, for one function with SnapStart."""

    def __init__(self) -> None:
        super().__init__(self.respond)
        self.key = "AKID1"
        self.expires_at = time.time() + HOUR_S
        self.records: dict[Any, Any] = {}
        self.log: list[str] = []

    def restore(self) -> None:
        """Close every connection, and replace the keys."""
        self.drop_connections()
        self.key = "AKID2"
        self.log.clear()

    def respond(self, connection: Connection) -> bytes:
        """Return keys, or the item of a GetItem that is signed with the current keys."""
        request = connection.request
        if request.method == "GET":
            self.log.append("keys")
            expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.expires_at))
            keys = {"AccessKeyId": self.key, "SecretAccessKey": "s", "Token": "t"}
            return http_response(200, json.dumps({**keys, "Expiration": expires}).encode())
        if f"Credential={self.key}/" not in request.headers["authorization"]:
            self.log.append("refused")
            return http_response(
                400, b'{"__type": "x#ExpiredTokenException", "message": "expired"}'
            )
        namespace = json.loads(request.body)["Key"]["namespace"]["S"]
        self.log.append(namespace)
        found = [r for key, r in self.records.items() if key.namespace == namespace]
        item = {"Item": {k: _typed(v) for k, v in found[0].items()}} if found else {}
        return http_response(200, json.dumps(item).encode())


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {"B": base64.b64encode(value).decode()}
    return {"N": str(value)} if isinstance(value, int) else {"S": value}


@pytest.fixture
def function() -> Iterator[Lambda]:
    """Run it."""
    with Lambda() as server:
        yield server


@pytest.mark.parametrize("expired", [True, False])
def test_restore_from_snapstart(function: Lambda, tmp_path: Path, *, expired: bool) -> None:
    """Restored a day later, with a dead socket, a jumped clock and old keys.

    Nothing loaded earlier is trusted: the first flag reads the store, with new keys, even if the
    old ones claim to be valid.
    """
    uri = function.uri
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
