"""Loading during Lambda's INIT, where a function has a whole CPU core whatever its memory."""

from __future__ import annotations

import logging

import pytest

import flagstore
from flagstore import clients
from flagstore.cache import FIRST_LOAD_S, REFRESH_S
from flagstore.errors import ConfigurationError, StoreUnavailableError
from flagstore.keys import snapshot_key, state_key
from simulators.clock import FakeClock
from simulators.reader_rig import HEAD, STATE
from simulators.reader_store import RecordsReader, published_record

FLAG = {"key": "ui", "version": 1, "on": False, "offVariation": 0, "variations": ["off", "on"]}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> RecordsReader:
    """Give a store with one source, in a process of Lambda that has no clients yet."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "checkout")
    monkeypatch.setattr(clients, "_clients", {})
    monkeypatch.setattr(clients, "_preload_by", None)
    record = published_record({"ui": FLAG}, "launchdarkly")
    return RecordsReader({key("prod"): record for key in (state_key, snapshot_key)}, FakeClock())


@pytest.mark.parametrize("on_lambda", [True, False])
def test_handler_reads_nothing_after_init(
    store: RecordsReader, monkeypatch: pytest.MonkeyPatch, on_lambda: bool
) -> None:
    """Elsewhere, importing a module must not need a store."""
    if not on_lambda:
        monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME")
    flags = flagstore.client("prod", store=store)
    assert store.calls == [HEAD] * on_lambda
    assert flags.value("ui", {"key": "ada"}) == "off"
    assert flagstore.client("prod").value("ui", {"key": "bob"}) == "off"
    assert store.calls == [HEAD]


def test_preloading_can_be_turned_off(
    store: RecordsReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read is still prepared; a typo in the variable must not turn it off."""
    flagstore.client("prod", store=store, preload=False)
    monkeypatch.setenv("FLAGSTORE_PRELOAD", "False")
    flagstore.client("other", store=store)
    assert store.calls == ["prepare", "prepare"]
    monkeypatch.setenv("FLAGSTORE_PRELOAD", "maybe")
    with pytest.raises(ConfigurationError, match="FLAGSTORE_PRELOAD must be true or false"):
        flagstore.client("third", store=store)


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("throttled"), ConfigurationError("set X"), OSError("reset")]
)
def test_failure_during_init_is_retried_at_first_use(
    store: RecordsReader, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """At once, after one log line, whose handler may get the client."""
    healths = []
    handler = logging.Handler()
    handler.emit = lambda _: healths.append(flagstore.client("prod").health())  # type: ignore[method-assign]
    logging.getLogger("flagstore").addHandler(handler)
    store.error = error
    try:
        flags = flagstore.client("prod", store=store)
    finally:
        logging.getLogger("flagstore").removeHandler(handler)
    assert healths == ["NOT_LOADED"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(error) in record.getMessage()
    store.error = None
    assert flags.value("ui", {"key": "ada"}) == "off"
    assert len(caplog.records) == 1


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


@pytest.mark.parametrize("latency_s", [0.9 * FIRST_LOAD_S, 60.0])
def test_restored_image_checks_at_first_use(
    store: RecordsReader, monkeypatch: pytest.MonkeyPatch, latency_s: float
) -> None:
    """With the budget of a first load, once; the image's flags are served if that fails."""
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    clock = FakeClock()
    store._clock = clock
    flags = flagstore.client("prod", store=store, monotonic=clock.monotonic, clock=clock.now)
    assert store.calls == [HEAD, "close"]
    store.latency_s = latency_s
    waited = []
    for _ in range(2):
        before = clock.monotonic()
        detail = flags.detail("ui", {"key": "ada"})
        assert (detail.value, detail.stale) == ("off", latency_s > FIRST_LOAD_S)
        waited.append(clock.monotonic() - before)
        clock.advance(60)
        store.latency_s = 60.0 if latency_s > FIRST_LOAD_S else 0.0
    assert store.calls == [HEAD, "close", STATE, STATE]
    failed = latency_s > FIRST_LOAD_S
    assert waited == pytest.approx([FIRST_LOAD_S, REFRESH_S] if failed else [latency_s, 0.0])
