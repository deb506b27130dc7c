"""enabled(), value(), detail() and all(), with a context bound or as an argument."""

from __future__ import annotations

from typing import Any

import pytest

from flagstore.evaluation.base import (
    CONTEXT_INVALID,
    ERROR,
    EXCEPTION,
    FALLTHROUGH,
    FLAG_NOT_FOUND,
    NOT_LOADED,
    OVERRIDE,
    RULE_MATCH,
    WRONG_TYPE,
    Evaluation,
)
from flagstore.flags import Detail, context_key
from simulators.stub_flags import StubEngine, StubFlags

FLAGS = {
    "on": Evaluation(True, 0, FALLTHROUGH, version=4),
    "color": Evaluation("blue", 1, RULE_MATCH, rule="r-1", rule_index=2, in_experiment=True),
    "shape": Evaluation({"sides": [3, 4]}, 0, FALLTHROUGH, config={"type": "json", "value": "{}"}),
}


def flags_of(**known: Any) -> StubFlags:
    return StubFlags(known.pop("engine", StubEngine(FLAGS)), "", **known)


def test_detail_is_complete() -> None:
    """Value, variant, reason, rule, version and age; with the context bound or as an argument."""
    flags, ada = flags_of(age_s=1.5, stale=True), {"key": "ada"}
    detail = Detail(
        "color", "blue", False, 1, RULE_MATCH, "", "r-1", 2, None, None, True, 1.5, True
    )
    assert flags.detail("color", ada, default="red") == detail
    user = flags.for_context(ada)
    assert user.detail("color", default="red") == detail
    on = flags.detail("on", ada)
    assert (on.value, on.enabled, on.version) == (True, True, 4)
    assert flags.enabled("on", ada) is user.enabled("on") is True
    assert flags.value("color", ada) == user.value("color") == "blue"
    assert flags.all(ada) == user.all()


def test_default_has_the_error() -> None:
    flags = flags_of()
    missing = flags.detail("never", {"key": "ada"}, default="red")
    assert (missing.value, missing.reason, missing.error) == ("red", ERROR, FLAG_NOT_FOUND)
    assert missing.variant is None
    wrong = flags.detail("color", {"key": "ada"}, default=3)
    assert (wrong.value, wrong.reason, wrong.error) == (3, ERROR, WRONG_TYPE)
    assert wrong.variant is None
    assert flags.enabled("color", {"key": "ada"}) is False
    assert flags.enabled("color", {"key": "ada"}, default=True) is True
    assert flags.enabled("never", {"key": "ada"}, default=True) is True


@pytest.mark.parametrize(
    ("context", "error"), [({"bad": 1}, CONTEXT_INVALID), ({"broken": 1}, EXCEPTION)]
)
def test_refused_context_gives_defaults(
    context: dict[str, int], error: str, caplog: pytest.LogCaptureFixture
) -> None:
    flags = flags_of()
    detail = flags.detail("on", context, default="red")
    assert (detail.value, detail.error, detail.enabled) == ("red", error, False)
    assert flags.enabled("on", context, default=True) is True
    assert flags.value("on", context, default="red") == "red"
    assert {d.error for d in flags.all(context).values()} == {error}
    assert "secret-of-a-user" not in caplog.text


def test_broken_engine_gives_the_default(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the exception's type, not its message."""
    user = flags_of().for_context({"key": "ada"})
    detail = user.detail("breaks", default="red")
    assert (detail.value, detail.error, detail.reason) == ("red", EXCEPTION, ERROR)
    assert user.value("breaks", default="red") == "red"
    assert user.enabled("breaks", default=True) is True
    assert "RuntimeError" in caplog.text
    assert "secret-of-a-user" not in caplog.text


def test_values_are_copies() -> None:
    flags = flags_of(overrides={"mine": [1]})
    user = flags.for_context({"key": "ada"})
    for _ in range(2):
        shape = user.value("shape", default={"sides": [0]})
        assert shape == {"sides": [3, 4]}
        shape["sides"].clear()
        detail = user.detail("shape")
        assert detail.config == {"type": "json", "value": "{}"}
        detail.value.clear()
        detail.config.clear()
        everything = user.all()
        assert everything["mine"].value == [1]
        everything["shape"].value["sides"].clear()
        everything["mine"].value.clear()


def test_overrides_win() -> None:
    """Over the flag set, over a refused context, and without a flag set."""
    for flags in (
        flags_of(overrides={"on": False, "new": "x"}),
        flags_of(overrides={"on": False, "new": "x"}, engine=None, error=NOT_LOADED),
    ):
        for context in ({"key": "ada"}, {"bad": 1}):
            assert flags.enabled("on", context, default=True) is False
            detail = flags.detail("new", context, default="y")
            assert (detail.value, detail.reason, detail.error) == ("x", OVERRIDE, "")
            assert flags.all(context)["new"].value == "x"
    assert flags_of(engine=None).all({}) == {}
    assert flags_of(engine=None).detail("on", {}, default=1).error == NOT_LOADED


def test_callback_gets_each_evaluation_once() -> None:
    """With the context's key; all() calls it for none."""
    recorded: list[tuple[Detail, str]] = []
    flags = flags_of(observers=(None, lambda detail, key: recorded.append((detail, key))))
    user = flags.for_context({"targetingKey": "ada"})
    assert user.enabled("on") is True
    assert user.value("color", default="red") == "blue"
    detail = user.detail("never", default=1)
    user.all()
    assert [(d.key, d.value, key) for d, key in recorded] == [
        ("on", True, "ada"),
        ("color", "blue", "ada"),
        ("never", 1, "ada"),
    ]
    assert recorded[2][0] == detail
    assert recorded[0][0].enabled


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"key": "a"}, "a"),
        ({"targetingKey": "a"}, "a"),
        ({"targeting_key": "a"}, "a"),
        ({"userId": 7}, "7"),
        ({"key": None, "userId": "a"}, "a"),
        ({"kind": "multi", "user": {"key": "a"}}, ""),
    ],
)
def test_names_of_the_context_key(given: dict[str, Any], key: str) -> None:
    """Those of the providers and of OpenFeature."""
    assert context_key(given) == key
