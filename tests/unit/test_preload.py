"""Loading during Lambda's INIT, where a function has a whole CPU core whatever its memory."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import flagstore
from flagstore import clients
from flagstore.cache import FIRST_LOAD_S, REFRESH_S
from flagstore.errors import ConfigurationError, NotPublishedError, StoreUnavailableError
from flagstore.keys import snapshot_key, state_key
from simulators.clock import FakeClock
from simulators.reader_store import RecordsReader, published_record

FLAG = {"key": "ui", "version": 1, "on": False, "offVariation": 0, "variations": ["off", "on"]}
CALL = "read prod:$snapshot"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> RecordsReader:
    """Give a store with one source, in a process of Lambda that has no clients yet."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "checkout")
    monkeypatch.setattr(clients, "_clients", {})
    monkeypatch.setattr(clients, "_preload_by", None)
    record = published_record({"ui": FLAG}, "launchdarkly")
    return RecordsReader({key("prod"): record for key in (state_key, snapshot_key)})


def test_handler_reads_nothing_after_init(store: RecordsReader) -> None:
    """Flags and engine are there until the TTL expires."""
    flags = flagstore.client("prod", store=store)
    assert store.calls == [CALL]
    assert flags.value("ui", {"key": "ada"}) == "off"
    assert flagstore.client("prod").value("ui", {"key": "bob"}) == "off"
    assert store.calls == [CALL]


def test_nothing_is_read_at_import_elsewhere(
    store: RecordsReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing a module must not need a store."""
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME")
    flags = flagstore.client("prod", store=store)
    assert store.calls == []
    assert flags.value("ui", {"key": "ada"}) == "off"
    assert store.calls == [CALL]


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_preloading_can_be_turned_off(
    store: RecordsReader, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The first read is still prepared."""
    if how == "variable":
        monkeypatch.setenv("FLAGSTORE_PRELOAD", "False")
        flagstore.client("prod", store=store)
    else:
        flagstore.client("prod", store=store, preload=False)
    assert store.calls == ["prepare"]


def test_invalid_preload_variable_is_named(
    store: RecordsReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typo must not turn it off."""
    monkeypatch.setenv("FLAGSTORE_PRELOAD", "maybe")
    with pytest.raises(ConfigurationError, match="FLAGSTORE_PRELOAD must be true or false"):
        flagstore.client("prod", store=store)


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("throttled"), ConfigurationError("set X"), OSError("reset")]
)
def test_failure_during_init_is_retried_at_first_use(
    store: RecordsReader, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """At once, after one log line."""
    store.error = error
    flags = flagstore.client("prod", store=store)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(error) in record.getMessage()
    store.error = None
    assert flags.value("ui", {"key": "ada"}) == "off"
    assert len(caplog.records) == 1


def test_failure_after_init_is_raised_at_use(store: RecordsReader) -> None:
    """As without preloading."""
    store.records = {}
    flags = flagstore.client("prod", store=store)
    with pytest.raises(NotPublishedError):
        flags.snapshot()


def test_clients_share_one_deadline(store: RecordsReader, caplog: pytest.LogCaptureFixture) -> None:
    """A silent store costs INIT two seconds in all."""
    clock = FakeClock()
    store._clock, store.latency_s = clock, 60.0
    before = clock.monotonic()
    for name in ("one", "two", "three"):
        flagstore.client(name, store=store, monotonic=clock.monotonic)
    assert clock.monotonic() - before == pytest.approx(FIRST_LOAD_S)
    assert store.calls == ["read one:$snapshot", "prepare", "prepare"]
    assert len(caplog.records) == 1


def test_restored_image_checks_at_first_use(
    store: RecordsReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the budget of a first load."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    clock = FakeClock()
    store._clock = clock
    flags = flagstore.client("prod", store=store, monotonic=clock.monotonic, clock=clock.now)
    assert store.calls == [CALL, "close"]
    store.latency_s = 0.9 * FIRST_LOAD_S
    assert flags.value("ui", {"key": "ada"}) == "off"
    assert store.calls == [CALL, "close", "read prod:$state"]
    assert not flags.info().stale


def test_failed_check_after_a_restore_costs_once(
    store: RecordsReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image's flags are served then."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    clock = FakeClock()
    store._clock = clock
    flags = flagstore.client("prod", store=store, monotonic=clock.monotonic, clock=clock.now)
    store.latency_s = 60.0
    waited = []
    for _ in range(2):
        before = clock.monotonic()
        detail = flags.detail("ui", {"key": "ada"})
        waited.append(clock.monotonic() - before)
        assert (detail.value, detail.stale) == ("off", True)
        clock.advance(60)
    assert waited == [pytest.approx(FIRST_LOAD_S), pytest.approx(REFRESH_S)]


def test_log_handler_may_get_the_client(store: RecordsReader) -> None:
    """It does not wait for itself."""
    ages: list[Any] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            del record
            ages.append(flagstore.client("prod").health())

    store.error = StoreUnavailableError("throttled")
    handler = Handler()
    logging.getLogger("flagstore").addHandler(handler)
    try:
        flagstore.client("prod", store=store)
    finally:
        logging.getLogger("flagstore").removeHandler(handler)
    assert ages == ["NOT_LOADED"]
