"""A client's evaluations: of the flag set in the store, by the engine of its provider."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client
from flagstore.cache import TTL_S
from flagstore.evaluation.base import FALLTHROUGH, FLAG_NOT_FOUND, UNSUPPORTED
from flagstore.stores.file import FileReader
from simulators.clock import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

    from flagstore.flags import Detail

EXPIRED_S = 1.2 * TTL_S


class Rig:
    """A file that plays the store, and a client."""

    def __init__(self, folder: Path, document: dict[str, Any], **options: Any) -> None:
        self.file = folder / "flags.json"
        self.clock = FakeClock()
        self.publish(document)
        self.client = Client(
            "prod",
            store=FileReader(str(self.file), self.clock.now),
            clock=self.clock.now,
            monotonic=self.clock.monotonic,
            **options,
        )

    def publish(self, document: dict[str, Any]) -> None:
        """Replace the published set."""
        self.file.write_text(json.dumps(document))


def test_request_sees_one_flag_set(tmp_path: Path) -> None:
    """Flags bound to a context do not change."""
    rig = Rig(tmp_path, {"flagValues": {"a": 1, "b": 1}})
    user = rig.client.for_context({"key": "ada"})
    assert user.value("a", default=0) == 1
    rig.publish({"flagValues": {"a": 22, "b": 22}})
    rig.clock.advance(EXPIRED_S)
    assert rig.client.value("a", {"key": "ada"}, default=0) == 22
    assert user.value("b", default=0) == 1
    assert rig.client.value("b", {"key": "ada"}, default=0) == 22


def test_unknown_provider_gives_defaults(tmp_path: Path) -> None:
    """With the error UNSUPPORTED; the JSON is readable."""
    document = {"provider": "next", "sections": {"flags": {"a": {"x": 1}}}}
    rig = Rig(tmp_path, document)
    detail = rig.client.detail("a", {"key": "ada"}, default="red")
    assert (detail.value, detail.error) == ("red", UNSUPPORTED)
    assert rig.client["a"] == {"x": 1}


def test_broken_engine_gives_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised after the first load."""
    rig = Rig(tmp_path, {"flagValues": {"a": 1}})

    def broken(*_: object) -> None:
        message = "secret"
        raise RuntimeError(message)

    monkeypatch.setattr("flagstore.clients.open_engine", broken)
    assert rig.client.value("a", {"key": "ada"}, default=7) == 7
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_callback_errors_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning, and the request continues."""
    recorded: list[Detail] = []

    def callback(detail: Detail, key: str) -> None:
        recorded.append(detail)
        raise RuntimeError(key)

    rig = Rig(tmp_path, {"flagValues": {"a": 1}}, on_evaluation=callback)
    for _ in range(3):
        assert rig.client.value("a", {"key": "secret-ada"}, default=0) == 1
    assert [detail.reason for detail in recorded] == [FALLTHROUGH] * 3
    assert rig.client.info().callback_errors == 3
    assert len(caplog.records) == 1
    assert "secret-ada" not in caplog.text


DOCUMENTS: dict[str, dict[str, Any]] = {
    "appconfig": {
        "version": "1",
        "flags": {"a": {"name": "a"}},
        "values": {"a": {"enabled": True}},
    },
    "launchdarkly": {"flagValues": {"a": True}},
    "split": {
        "ff": {
            "d": [
                {
                    "name": "a",
                    "status": "ACTIVE",
                    "defaultTreatment": "off",
                    "seed": 1,
                    "trafficAllocation": 100,
                    "conditions": [],
                }
            ]
        }
    },
    "unleash": {"features": [{"name": "a", "enabled": True, "strategies": []}]},
}


class Unprintable:
    """An object that cannot be turned into a string."""

    def __str__(self) -> str:
        message = "secret-of-a-user"
        raise RuntimeError(message)


ODD_CONTEXTS: list[Any] = [
    "ada",
    b"ada",
    7,
    True,
    ["ada"],
    [("key", "ada")],
    object(),
    {"key": Unprintable()},
    {"key": 10**5_000},
    {"userId": Unprintable(), "a": {1, 2}},
    {1: 2, None: 3},
]


@pytest.mark.parametrize("provider", DOCUMENTS)
def test_odd_contexts_never_raise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, provider: str
) -> None:
    """With or without a callback, which gets an empty key."""
    recorded: list[str] = []
    plain = Rig(tmp_path, DOCUMENTS[provider]).client
    hooked = Rig(
        tmp_path, DOCUMENTS[provider], on_evaluation=lambda _, key: recorded.append(key)
    ).client
    for context in ODD_CONTEXTS:
        for client in (plain, hooked):
            assert isinstance(client.enabled("a", context), bool)
            assert client.value("a", context, default=5) == 5
            assert client.detail("a", context, default=5).value == 5
            assert client.all(context).keys() == {"a"}
    assert len(recorded) == 3 * len(ODD_CONTEXTS)
    assert hooked.info().callback_errors == 0
    assert "secret-of-a-user" not in caplog.text


@pytest.mark.parametrize("provider", DOCUMENTS)
@pytest.mark.parametrize("key", [None, 7, b"a", ["a"], {}, ("a",)])
def test_odd_keys_name_no_flag(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, provider: str, key: Any
) -> None:
    """Without a log line per call."""
    client = Rig(tmp_path, DOCUMENTS[provider]).client
    detail = client.detail(key, {"key": "ada"}, default=5)
    assert (detail.value, detail.error) == (5, FLAG_NOT_FOUND)
    assert client.enabled(key, {"key": "ada"}) is False
    assert not caplog.records
