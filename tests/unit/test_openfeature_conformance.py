"""The provider against OpenFeature's specification of August 2026: providers, events, contexts."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderFatalError, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import ProviderStatus

from flagstore.adapters.openfeature import FlagstoreProvider
from flagstore.clients import Client, client
from flagstore.errors import ConfigurationError
from flagstore.evaluation.base import FALLTHROUGH, RULE_MATCH, Evaluation
from flagstore.testing import FakeFlags
from simulators.reader_rig import DOWN, EXPIRED_S, HEAD, STATE, Rig
from simulators.stub_flags import StubEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openfeature.client import OpenFeatureClient

    from flagstore.evaluation.base import Engine
    from flagstore.snapshot import Snapshot

pytest_plugins = ["flagstore.pytest_plugin"]

ADA = EvaluationContext("ada")
FLAGS: dict[str, Any] = {
    "on": {"value": True, "variant": 0, "reason": FALLTHROUGH, "version": 4},
    "color": {"value": "blue", "variant": 1, "reason": RULE_MATCH, "rule": "r-1"},
    "seats": {"value": 7, "variant": 0, "reason": FALLTHROUGH},
    "ratio": {"value": 0.5, "variant": 0, "reason": FALLTHROUGH},
    "limits": {"value": {"a": [1]}, "variant": 0, "reason": FALLTHROUGH},
}
KINDS: dict[str, tuple[str, Any, Any]] = {
    "boolean": ("on", False, True),
    "string": ("color", "red", "blue"),
    "integer": ("seats", 0, 7),
    "float": ("ratio", 0.0, 0.5),
    "object": ("limits", {}, {"a": [1]}),
}
WAIT_S = 10


class Evaluating(Client):
    """A client whose flags contain their own evaluations."""

    def _open_engine(self, snapshot: Snapshot, *_: object) -> Engine | None:
        return StubEngine({key: Evaluation(**snapshot[key]) for key in snapshot})


class Stage(Rig):
    """A store, a client, a provider, and the events of its handlers."""

    def __init__(self, flags: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(flags)
        self.flags = self.another(kind=Evaluating, **options)
        self.provider = FlagstoreProvider(self.flags)
        self.events: list[tuple[ProviderEvent, EventDetails, ProviderStatus]] = []
        self.statuses: list[ProviderStatus] = []
        """Those that a client had when its handlers ran, of the last events waited for."""
        self.heard = threading.Condition()

    def listen(self, client: OpenFeatureClient) -> OpenFeatureClient:
        """Record all events of a client, with its status at that time."""
        for event in ProviderEvent:
            client.add_handler(
                event, lambda details, event=event: self._hear(client, event, details)
            )
        return client

    def _hear(self, client: OpenFeatureClient, event: ProviderEvent, details: EventDetails) -> None:
        with self.heard:
            self.events.append((event, details, client.get_provider_status()))
            self.heard.notify_all()

    def wait_for(self, *events: ProviderEvent) -> list[EventDetails]:
        """Wait until these and no others have been heard of, since the last time."""
        with self.heard:
            self.heard.wait_for(lambda: len(self.events) >= len(events), WAIT_S)
        time.sleep(0.02)  # for those that should not come
        with self.heard:
            recorded, self.events = self.events, []
        self.statuses = [status for _, _, status in recorded]
        # Each has its handler run in a pool of threads, in any order.
        assert sorted(event.name for event, _, _ in recorded) == sorted(e.name for e in events)
        return [next(d for event, d, _ in recorded if event is required) for required in events]

    def ready(self, domain: str = "shop") -> OpenFeatureClient:
        api.set_provider_and_wait(self.provider, domain)
        client = self.listen(api.get_client(domain))
        self.wait_for(ProviderEvent.PROVIDER_READY)
        self.calls()
        return client

    def expire(self) -> None:
        self.advance(EXPIRED_S)


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    yield
    api.shutdown()


@pytest.fixture
def stage() -> Stage:
    return Stage(FLAGS)


def resolve(provider: FlagstoreProvider) -> FlagResolutionDetails[str]:
    """Resolve a flag without the SDK's client."""
    return provider.resolve_string_details("color", "red", ADA)


def test_initialization_loads_the_flags(stage: Stage) -> None:
    """One read; a late handler gets the event."""
    assert stage.calls() == []
    api.set_provider_and_wait(stage.provider, "shop")
    assert stage.calls() == [HEAD]
    client = stage.listen(api.get_client("shop"))
    assert client.get_provider_status() is ProviderStatus.READY
    stage.wait_for(ProviderEvent.PROVIDER_READY)
    assert client.get_string_value("color", "red", ADA) == "blue"
    assert stage.calls() == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "the store is down"), ({"defaults_until_loaded": True}, "no flags have been loaded yet")],
)
def test_failed_initialization_recovers(options: dict[str, Any], reason: str) -> None:
    stage = Stage(FLAGS, **options)
    stage.store.error = DOWN
    client = stage.listen(api.get_client("shop"))
    stage.wait_for(ProviderEvent.PROVIDER_READY)  # the SDK's own provider
    with pytest.raises(ProviderNotReadyError, match=reason):
        api.set_provider_and_wait(stage.provider, "shop")
    (details,) = stage.wait_for(ProviderEvent.PROVIDER_ERROR)
    assert reason in str(details.message)
    assert details.error_code is ErrorCode.PROVIDER_NOT_READY
    assert client.get_provider_status() is ProviderStatus.ERROR
    details = client.get_string_details("color", "red", ADA)
    assert (details.value, details.error_code) == ("red", ErrorCode.PROVIDER_NOT_READY)
    assert details.reason == Reason.ERROR
    stage.wait_for()
    stage.store.error = None
    stage.expire()
    assert client.get_string_value("color", "red", ADA) == "blue"
    stage.wait_for(ProviderEvent.PROVIDER_READY)
    assert client.get_provider_status() is ProviderStatus.READY


def test_wrong_setting_is_fatal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a missing source name, with or without registration; the message names the remedy."""
    monkeypatch.delenv("FLAGSTORE_SOURCE", raising=False)
    stage.store.error = ConfigurationError("set FLAGSTORE_TABLE")
    for provider, remedy in (
        (stage.provider, "set FLAGSTORE_TABLE"),
        (FlagstoreProvider(client()), "FLAGSTORE_SOURCE"),
    ):
        found = resolve(provider)
        assert (found.value, found.error_code) == ("red", ErrorCode.PROVIDER_FATAL)
        with pytest.raises(ProviderFatalError, match=remedy):
            api.set_provider_and_wait(provider, "shop")
        features = api.get_client("shop")
        assert features.get_provider_status() is ProviderStatus.FATAL
        assert features.get_string_details("color", "red").error_code is ErrorCode.PROVIDER_FATAL
        assert resolve(provider) == found
        assert asyncio.run(provider.resolve_string_details_async("color", "red", ADA)) == found


def test_fakes_are_ready_at_once(fake_flags: FakeFlags) -> None:
    """Also a client made before, with the fixture; nothing is read."""
    stage = Stage()
    fake_flags["color"] = "green"
    features = stage.ready()
    details = features.get_string_details("color", "red", ADA)
    assert (details.value, details.reason) == ("green", Reason.STATIC)
    assert asyncio.run(features.get_string_value_async("color", "red", ADA)) == "green"
    stage.wait_for()
    assert stage.store.calls == []
    api.set_provider_and_wait(FlagstoreProvider(FakeFlags({"color": "green"})), "fake")
    assert api.get_client("fake").get_string_value("color", "red", ADA) == "green"


def test_provider_can_be_registered_again(stage: Stage) -> None:
    client = stage.ready()
    api.clear_providers()
    stage.provider.shutdown()
    stage.provider.shutdown()
    assert client.get_provider_status() is ProviderStatus.READY  # of the SDK's own provider
    stage.store.error = DOWN
    stage.expire()
    assert resolve(stage.provider).value == "blue"
    stage.wait_for()
    stage.store.error = None
    stage.expire()
    assert stage.ready().get_string_value("color", "red") == "blue"


def test_stale_and_ready_events(stage: Stage) -> None:
    """Once each, by the evaluation that notices; also if the flags have changed meanwhile."""
    client = stage.ready()
    stage.store.error = DOWN
    for _ in range(3):
        stage.expire()
        details = client.get_string_details("color", "red", ADA)
        assert (details.value, details.reason) == ("blue", Reason.STALE)
        assert details.flag_metadata["reason"] == RULE_MATCH
    (details,) = stage.wait_for(ProviderEvent.PROVIDER_STALE)
    assert stage.statuses == [ProviderStatus.STALE]
    assert (details.provider_name, bool(details.message)) == ("flagstore", True)
    stage.store.error = None
    stage.publish({"color": FLAGS["color"]})
    stage.advance(100)
    assert client.get_string_details("color", "red", ADA).reason == Reason.TARGETING_MATCH
    stage.wait_for(ProviderEvent.PROVIDER_READY, ProviderEvent.PROVIDER_CONFIGURATION_CHANGED)
    assert client.get_provider_status() is ProviderStatus.READY


def test_max_age_is_an_error() -> None:
    stage = Stage(FLAGS, max_age_s=60.0)
    client = stage.ready()
    stage.store.error = DOWN
    stage.expire()
    assert client.get_string_value("color", "red") == "blue"
    stage.wait_for(ProviderEvent.PROVIDER_STALE)
    stage.expire()
    details = client.get_string_details("color", "red")
    assert (details.value, details.error_code) == ("red", ErrorCode.GENERAL)
    (details,) = stage.wait_for(ProviderEvent.PROVIDER_ERROR)
    assert details.message == "the flags are older than max_age_s"
    assert details.error_code is ErrorCode.GENERAL
    stage.store.error = None
    stage.advance(100)
    assert client.get_string_value("color", "red") == "blue"
    stage.wait_for(ProviderEvent.PROVIDER_READY)


def test_change_event_names_the_flags(stage: Stage) -> None:
    """Added, removed or changed ones; none if segments changed, since any may be affected."""
    client = stage.ready()
    flags = {key: dict(flag) for key, flag in FLAGS.items() if key != "ratio"}
    flags["on"]["value"] = 1
    flags["new"] = flags["seats"]
    token = stage.publish(flags)
    client.get_boolean_value("on", False)
    stage.wait_for()
    stage.expire()
    client.get_boolean_value("on", False)
    (details,) = stage.wait_for(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED)
    assert details.flags_changed == ["new", "on", "ratio"]
    assert details.metadata["token"] == token
    assert client.get_provider_status() is ProviderStatus.READY
    stage.publish(flags, segments={"beta": {"included": ["ada"]}})
    stage.expire()
    client.get_boolean_value("on", False)
    (details,) = stage.wait_for(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED)
    assert details.flags_changed is None


def test_event_loop_does_not_wait_for_the_store(stage: Stage) -> None:
    client = stage.ready()

    async def evaluate(kind: str) -> None:
        key, default, value = KINDS[kind]
        going_on, seen = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hold(_call: str) -> None:
            loop.call_soon_threadsafe(going_on.set)
            assert seen.wait(WAIT_S), "the loop waits for the store"

        stage.store.on_call = hold
        later = asyncio.ensure_future(getattr(client, f"get_{kind}_value_async")(key, default))
        await asyncio.wait_for(going_on.wait(), WAIT_S)
        seen.set()
        assert await later == value

    for kind in KINDS:
        stage.expire()
        asyncio.run(evaluate(kind))
        assert stage.calls() == [STATE]


def test_flags_in_memory_need_no_thread(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolved in the event loop."""
    stage.ready()
    monkeypatch.setattr(asyncio, "to_thread", None)
    for kind, (key, default, value) in KINDS.items():
        method = getattr(stage.provider, f"resolve_{kind}_details_async")
        assert asyncio.run(method(key, default, ADA)).value == value


def test_event_loop_does_not_wait_for_a_large_segment() -> None:
    stage = Stage()
    large = {"included": [f"user-{number}" for number in range(5_000)]}
    stage.publish(FLAGS, segments={"large": large})
    assert stage.flags.may_block()
    snapshot = stage.flags.snapshot()
    assert stage.flags.may_block()
    snapshot.item("segments", "large")
    assert not stage.flags.may_block()
    stage.publish({"on": FLAGS["on"]})
    stage.expire()
    assert stage.flags.may_block()
    stage.flags.snapshot()
    assert not stage.flags.may_block()
