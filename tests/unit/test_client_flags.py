"""A client's evaluations: of the flag set in the store, by the engine of its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flagstore.evaluation.base import FLAG_NOT_FOUND, OFF, UNSUPPORTED
from simulators import launchdarkly_flags, split_flags, unleash_flags
from simulators.reader_rig import EXPIRED_S, Rig

if TYPE_CHECKING:
    from flagstore.flags import Detail


def launchdarkly(**values: Any) -> dict[str, Any]:
    off = {"on": False, "offVariation": 0}
    new = launchdarkly_flags.new_flag
    return {key: new(key) | off | {"variations": [value]} for key, value in values.items()}


def test_request_sees_one_flag_set() -> None:
    rig = Rig(launchdarkly(a=1, b=1), provider="launchdarkly")
    user = rig.client.for_context({"key": "ada"})
    assert user.value("a", default=0) == 1
    rig.publish(launchdarkly(a=22, b=22))
    rig.advance(EXPIRED_S)
    assert rig.client.value("a", {"key": "ada"}, default=0) == 22
    assert user.value("b", default=0) == 1
    assert rig.client.value("b", {"key": "ada"}, default=0) == 22


def test_unknown_provider_gives_defaults() -> None:
    client = Rig({"a": {"x": 1}}, provider="next").client
    detail = client.detail("a", {"key": "ada"}, default="red")
    assert (detail.value, detail.error) == ("red", UNSUPPORTED)
    assert client["a"] == {"x": 1}


def test_broken_engine_gives_defaults(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised after the first load; the log has the exception's type, not its message."""
    client = Rig(launchdarkly(a=1), provider="launchdarkly").client

    def broken(*_: object) -> None:
        message = "secret"
        raise RuntimeError(message)

    monkeypatch.setattr("flagstore.clients.open_engine", broken)
    assert client.value("a", {"key": "ada"}, default=7) == 7
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_callback_errors_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    recorded: list[Detail] = []

    def callback(detail: Detail, key: str) -> None:
        recorded.append(detail)
        raise RuntimeError(key)

    client = Rig(launchdarkly(a=1), provider="launchdarkly").another(on_evaluation=callback)
    for _ in range(3):
        assert client.value("a", {"key": "secret-ada"}, default=0) == 1
    assert [detail.reason for detail in recorded] == [OFF] * 3
    assert client.info().callback_errors == 3
    assert len(caplog.records) == 1
    assert "secret-ada" not in caplog.text


FLAGS: dict[str, dict[str, Any]] = {
    "appconfig": {"a": {"enabled": True}},
    "launchdarkly": launchdarkly(a=True)["a"],
    "split": split_flags.new_flag("a"),
    "unleash": unleash_flags.new_flag("a"),
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


@pytest.mark.parametrize("provider", FLAGS)
def test_odd_contexts_and_keys_never_raise(caplog: pytest.LogCaptureFixture, provider: str) -> None:
    """With or without a callback, which gets an empty key; odd keys name no flag."""
    recorded: list[str] = []
    rig = Rig({"a": FLAGS[provider]}, provider=provider)
    plain = rig.client
    for key in (None, 7, b"a", {}):
        detail = plain.detail(key, {"key": "ada"}, default=5)  # type: ignore[arg-type] # on purpose
        assert (detail.value, detail.error) == (5, FLAG_NOT_FOUND)
        assert plain.enabled(key, {"key": "ada"}) is False  # type: ignore[arg-type]
    assert not caplog.records
    hooked = rig.another(on_evaluation=lambda _, key: recorded.append(key))
    for context in ODD_CONTEXTS:
        for client in (plain, hooked):
            assert isinstance(client.enabled("a", context), bool)
            assert client.value("a", context, default=5) == 5
            assert client.detail("a", context, default=5).value == 5
            assert client.all(context).keys() == {"a"}
    assert len(recorded) == 3 * len(ODD_CONTEXTS)
    assert hooked.info().callback_errors == 0
    assert "secret-of-a-user" not in caplog.text
