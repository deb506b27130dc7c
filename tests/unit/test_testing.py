"""Helpers for applications' tests: fakes, overrides, and the pytest fixture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

import flagstore
from flagstore import Client, ConfigurationError, NotLoadedError, emf
from flagstore.evaluation.base import FLAG_NOT_FOUND, OVERRIDE
from flagstore.testing import FakeFlags
from simulators.clock import FakeClock
from simulators.reader_store import RecordsReader

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["flagstore.pytest_plugin"]


def nothing_published(**options: bool) -> Client:
    clock = FakeClock()
    store = RecordsReader({}, clock)
    return Client("prod", store=store, clock=clock.now, monotonic=clock.monotonic, **options)  # type: ignore[arg-type] # one option


def test_fake_has_the_api_of_a_client() -> None:
    """Flags without a value give the default; a function takes the context."""
    flags = FakeFlags({"on": True, "color": "blue", "beta": lambda context: "plan" in context})
    user = flags.for_context({"key": "ada"})
    assert (user.enabled("on"), user.enabled("beta")) == (True, False)
    assert user.value("color", default="red") == "blue"
    assert user.value("never", default="red") == "red"
    assert [(detail.key, detail.value, key) for detail, key in flags.evaluated] == [
        ("on", True, "ada"),
        ("beta", False, "ada"),
        ("color", "blue", "ada"),
        ("never", "red", "ada"),
    ]
    detail = user.detail("color", default="red")
    assert (detail.value, detail.reason, detail.error) == ("blue", OVERRIDE, "")
    assert user.detail("never", default=1).error == FLAG_NOT_FOUND
    assert flags.enabled("beta", {"key": "ada", "plan": "pro"})
    assert flags.keys() == list(flags) == sorted(flags.all({"key": "ada"}))
    assert (len(flags), "color" in flags) == (3, True)
    flags["color"] = "green"
    del flags["on"]
    flags.update({"size": 3})
    assert flags.value("color", {"key": "ada"}, default="red") == "green"
    assert not flags.enabled("on", {"key": "ada"})
    assert flags.value("size", {"key": "ada"}, default=1) == 3


def test_fixture_replaces_the_flags_of_every_client(fake_flags: FakeFlags) -> None:
    """Also one that was made before, at module scope; nothing is read, and there is no flag set."""
    fake_flags["a"] = True
    for flags in (MODULE_SCOPE, Client("other"), flagstore.client("")):
        assert flags.enabled("a", {"key": "ada"})
        assert flags.value("never", {"key": "ada"}, default="red") == "red"
        assert "a" in flags
        assert "b" not in flags
        assert list(flags) == flags.keys() == ["a"]
        assert len(flags) == 1
        assert '"ReaderStale":0' in emf.line(flags.info())
        for read in (flags.snapshot, lambda flags=flags: flags["a"]):
            with pytest.raises(NotLoadedError, match="fake_flags has no flag set"):
                read()
    assert fake_flags.evaluated[0][0].key == "a"


def test_override_wins_over_fixture(fake_flags: FakeFlags, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does over the flags of a store; a shell's are not for tests."""
    monkeypatch.setenv("FLAGSTORE_OVERRIDES", '{"a": "theirs"}')
    fake_flags["a"] = True
    flags = Client("other")
    with flags.override({"a": False, "b": "x"}):
        assert not flags.enabled("a")
        assert flags.value("b", default="y") == "x"
    assert flags.enabled("a", {"key": "ada"})


def test_fixture_refuses_contexts_as_production_does(fake_flags: FakeFlags) -> None:
    """By every provider, or by the one that the test names."""
    fake_flags["a"] = True
    for context in (None, {"key": True}, {"userId": "ada"}):
        detail = MODULE_SCOPE.detail("a", context, default=False)
        assert (detail.value, bool(detail.error)) == (False, True)
    fake_flags.provider = "split"
    assert MODULE_SCOPE.enabled("a", {"key": 7.5})
    assert not MODULE_SCOPE.enabled("a", {"key": True})
    fake_flags.provider = "unleash"
    assert MODULE_SCOPE.enabled("a")
    fake_flags.provider = "next"
    with pytest.raises(ConfigurationError, match="'next' is not a provider: use one of appconf"):
        MODULE_SCOPE.enabled("a")


def test_fixture_ends_with_the_test() -> None:
    with pytest.raises(NotLoadedError):
        nothing_published().enabled("new-checkout")


MODULE_SCOPE = Client("prod")


def test_overrides_end_with_their_block() -> None:
    """They need no store."""
    flags = nothing_published(defaults_until_loaded=True)
    with flags.override({"a": True}):
        held = flags.for_context({"key": "ada"})
        with flags.override({"a": False, "b": "x"}):
            assert not flags.enabled("a")
            assert flags.value("b", default="y") == "x"
            assert held.enabled("a")
        assert flags.enabled("a")
        assert flags.value("b", default="y") == "y"
    assert not flags.enabled("a")
    flags.override({"a": True})
    assert flags.enabled("a")


def test_overlapping_overrides_remove_only_their_own() -> None:
    """As in two threads; one of an odd key is listed under it."""
    flags = nothing_published(defaults_until_loaded=True)
    one, other = flags.override({"a": True, "c": 1}), flags.override({"b": True, "c": 2})
    with other:
        with one:
            flags.override({"d": True})  # from now on
        assert not flags.enabled("a")
        assert flags.enabled("b")
        assert flags.value("c", default=0) == 2
    assert flags.all({"key": "ada"}).keys() == {"d"}
    flags.override({5: 1, None: 3})  # type: ignore[dict-item] # on purpose
    assert flags.all({"key": "ada"}).keys() == {5, "d", None}


def test_overrides_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLAGSTORE_OVERRIDES, a JSON object; anything else is refused when the client is made."""
    monkeypatch.setenv("FLAGSTORE_OVERRIDES", '{"a": true, "b": {"c": 1}}')
    flags = nothing_published(defaults_until_loaded=True)
    assert flags.enabled("a")
    assert flags.value("b", default={}) == {"c": 1}
    for text in ("a=true", "[]", '"a"', "1"):
        monkeypatch.setenv("FLAGSTORE_OVERRIDES", text)
        with pytest.raises(ConfigurationError, match="FLAGSTORE_OVERRIDES must be a JSON object"):
            Client("prod")


def test_first_use_without_flags() -> None:
    strict, lenient = nothing_published(), nothing_published(defaults_until_loaded=True)
    asks: list[Callable[[Client], object]] = [
        *(Client.info, Client.keys, list, len),
        lambda flags: "a" in flags,
        lambda flags: flags.enabled("a"),
    ]
    for ask in asks:
        with pytest.raises(NotLoadedError):
            ask(strict)
    detail = lenient.detail("a", {"key": "ada"}, default="red")
    assert (detail.value, detail.error, detail.stale) == ("red", "NOT_LOADED", True)
    assert lenient.all({"key": "ada"}) == {}
    assert (lenient.keys(), list(lenient), len(lenient), "a" in lenient) == ([], [], 0, False)
    info = lenient.info()
    assert (info.source, info.age_s, info.stale) == ("prod", math.inf, True)
    assert "nothing has been published" in info.error
    assert '"ReaderStale":1' in emf.line(info)
    for read in (lenient.snapshot, lambda: lenient["a"]):
        with pytest.raises(NotLoadedError):
            read()


def test_options_belong_to_the_first_call() -> None:
    made = flagstore.client("first-call", ttl_s=5.0)
    assert flagstore.client("first-call") is made
    assert flagstore.client("first-call", ttl_s=5.0) is made
    with pytest.raises(ConfigurationError, match="already exists with other options"):
        flagstore.client("first-call", ttl_s=6.0)
