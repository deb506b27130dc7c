"""A client's evaluations: of the flag set in the store, by the engine of its provider."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flagstore import Client
from flagstore.evaluation.base import FALLTHROUGH, FLAG_NOT_FOUND, UNSUPPORTED
from flagstore.stores.file import FileReader
from simulators.clock import FakeClock
from simulators.reader_rig import EXPIRED_S
from simulators.split_flags import new_flag

if TYPE_CHECKING:
    from pathlib import Path

    from flagstore.flags import Detail


class Rig:
    """A file that plays the store, and a client."""

    def __init__(self, folder: Path, document: dict[str, Any], **options: Any) -> None:
        self.file = folder / "flags.json"
        self.clock = FakeClock()
        self.publish(document)
        store = FileReader(str(self.file), self.clock.now)
        clocks = {"clock": self.clock.now, "monotonic": self.clock.monotonic}
        self.client = Client("prod", store=store, **clocks, **options)

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
    client = Rig(tmp_path, document).client
    detail = client.detail("a", {"key": "ada"}, default="red")
    assert (detail.value, detail.error) == ("red", UNSUPPORTED)
    assert client["a"] == {"x": 1}


def test_broken_engine_gives_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised after the first load; the log has the exception's type, not its message."""
    client = Rig(tmp_path, {"flagValues": {"a": 1}}).client

    def broken(*_: object) -> None:
        message = "secret"
        raise RuntimeError(message)

    monkeypatch.setattr("flagstore.clients.open_engine", broken)
    assert client.value("a", {"key": "ada"}, default=7) == 7
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_callback_errors_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning, and the request continues."""
    recorded: list[Detail] = []

    def callback(detail: Detail, key: str) -> None:
        recorded.append(detail)
        raise RuntimeError(key)

    client = Rig(tmp_path, {"flagValues": {"a": 1}}, on_evaluation=callback).client
    for _ in range(3):
        assert client.value("a", {"key": "secret-ada"}, default=0) == 1
    assert [detail.reason for detail in recorded] == [FALLTHROUGH] * 3
    assert client.info().callback_errors == 3
    assert len(caplog.records) == 1
    assert "secret-ada" not in caplog.text


ON = {"version": "1", "flags": {"a": {"name": "a"}}, "values": {"a": {"enabled": True}}}
DOCUMENTS: dict[str, dict[str, Any]] = {
    "appconfig": ON,
    "launchdarkly": {"flagValues": {"a": True}},
    "split": {"ff": {"d": [new_flag("a") | {"conditions": []}]}},
    "unleash": {"features": [{"name": "a", "enabled": True, "strategies": []}]},
}


class Unprintable:
    """An object that cannot be turned into a string."""

    def __str__(self) -> str:
        message = "secret-of-a-user"
        raise RuntimeError(message)


ODD_CONTEXTS: list[Any] = [
    "ada",
    7,
    ["ada"],
    [("key", "ada")],
    {"key": Unprintable()},
    {"key": 10**5_000},
    {"userId": Unprintable(), "a": {1, 2}},
    {1: 2, None: 3},
]


@pytest.mark.parametrize("provider", DOCUMENTS)
def test_odd_contexts_and_keys_never_raise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, provider: str
) -> None:
    """With or without a callback, which gets an empty key; odd keys name no flag."""
    recorded: list[str] = []
    plain = Rig(tmp_path, DOCUMENTS[provider]).client
    for key in (None, 7, b"a", {}):
        detail = plain.detail(key, {"key": "ada"}, default=5)  # type: ignore[arg-type] # on purpose
        assert (detail.value, detail.error) == (5, FLAG_NOT_FOUND)
        assert plain.enabled(key, {"key": "ada"}) is False  # type: ignore[arg-type]
    assert not caplog.records
    options = {"on_evaluation": lambda _, key: recorded.append(key)}
    hooked = Rig(tmp_path, DOCUMENTS[provider], **options).client
    for context in ODD_CONTEXTS:
        for client in (plain, hooked):
            assert isinstance(client.enabled("a", context), bool)
            assert client.value("a", context, default=5) == 5
            assert client.detail("a", context, default=5).value == 5
            assert client.all(context).keys() == {"a"}
    assert len(recorded) == 3 * len(ODD_CONTEXTS)
    assert hooked.info().callback_errors == 0
    assert "secret-of-a-user" not in caplog.text
