"""From an engine's outcome to the type of the caller's default."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any

import pytest

from flagstore.evaluation.base import (
    ABSENT,
    FALLTHROUGH,
    FLAG_NOT_FOUND,
    MALFORMED_FLAG,
    NO_VALUE,
    OFF,
    WRONG_TYPE,
    Evaluation,
)
from flagstore.flags import CONVERSIONS, PLAIN


class Color(enum.StrEnum):
    RED = "red"


SPLIT, UNLEASH = CONVERSIONS["split"], CONVERSIONS["unleash"]

PLAIN_TABLE: list[tuple[Any, Any, Any, str]] = [
    # value, default, response, error
    ("blue", "red", "blue", ""),
    ("blue", Color.RED, "blue", ""),
    ("blue", None, "blue", ""),
    (True, False, True, ""),
    (3, 1, 3, ""),
    (3, 1.5, 3, ""),
    (3.5, 1.5, 3.5, ""),
    ({"a": [1]}, {}, {"a": [1]}, ""),
    ([1, 2], [], [1, 2], ""),
    (None, None, None, ""),
    # the wrong type gives the default, and an error
    (True, 1, 1, WRONG_TYPE),
    (True, 1.0, 1.0, WRONG_TYPE),
    (1, False, False, WRONG_TYPE),
    (3.5, 1, 1, WRONG_TYPE),
    (3.0, 1, 1, WRONG_TYPE),
    ("3", 1, 1, WRONG_TYPE),
    (None, "red", "red", WRONG_TYPE),
    ({}, [], [], WRONG_TYPE),
    (3, Decimal(1), Decimal(1), WRONG_TYPE),
    ([1], (1,), (1,), WRONG_TYPE),
]


@pytest.mark.parametrize(("value", "default", "response", "error"), PLAIN_TABLE)
def test_values_have_the_type_of_the_default(
    value: Any, default: Any, response: Any, error: str
) -> None:
    """An int is a float, a bool is not a number."""
    found = PLAIN.value(Evaluation(value, 0, FALLTHROUGH), default)
    assert found == (response, error)
    assert type(found[0]) is type(response)


@pytest.mark.parametrize("provider", sorted(CONVERSIONS))
def test_missing_value_is_the_default(provider: str) -> None:
    """With the engine's error, if there is one."""
    for default in (True, "red", 1, 1.5, {"a": 1}, [1], None):
        conversion = CONVERSIONS[provider]
        assert conversion.value(Evaluation(error=FLAG_NOT_FOUND), default) == (
            default,
            FLAG_NOT_FOUND,
        )
        assert conversion.value(Evaluation(ABSENT, reason=OFF), default) == (default, "")
    for truth in (True, False):
        assert conversion.on(Evaluation(error=FLAG_NOT_FOUND), truth) == (truth, FLAG_NOT_FOUND)
        assert conversion.on(Evaluation(ABSENT, reason=OFF), truth) == (truth, "")


@pytest.mark.parametrize("default", [True, False])
def test_only_booleans_are_on_or_off(*, default: bool) -> None:
    """LaunchDarkly: other values give the default."""
    assert PLAIN.on(Evaluation(True), default) == (True, "")
    assert PLAIN.on(Evaluation(False), default) == (False, "")
    for value in ("true", "on", 1, 0, None, {}, []):
        assert PLAIN.on(Evaluation(value), default) == (default, WRONG_TYPE)


@pytest.mark.parametrize(
    ("treatment", "truth"),
    [("on", True), ("ON", True), ("True", True), ("off", False), ("FALSE", False)],
)
def test_treatments_as_booleans(treatment: str, *, truth: bool) -> None:
    """Split: on and true, off and false, in any case."""
    outcome = Evaluation(treatment, treatment)
    assert SPLIT.on(outcome, not truth) == (truth, "")
    assert SPLIT.value(outcome, not truth) == (truth, "")
    assert SPLIT.value(outcome, "x") == (treatment, "")


@pytest.mark.parametrize(
    ("treatment", "config", "default", "response", "error"),
    [
        ("v1", None, "x", "v1", ""),
        ("v1", None, None, "v1", ""),
        ("v1", None, True, True, WRONG_TYPE),
        ("12", None, 1, 12, ""),
        ("12", None, 1.5, 12, ""),
        ("1.5", None, 0.1, 1.5, ""),
        ("1.5", None, 1, 1, WRONG_TYPE),
        ("true", None, 1, 1, WRONG_TYPE),
        ("NaN", None, 1.5, 1.5, WRONG_TYPE),
        ("v1", '{"color":"blue"}', {}, {"color": "blue"}, ""),
        ("v1", "[1,2]", [], [1, 2], ""),
        ("v1", "[1,2]", {}, {}, WRONG_TYPE),
        ("v1", "{damaged", {"d": 1}, {"d": 1}, WRONG_TYPE),
        ("v1", None, {"d": 1}, {"d": 1}, WRONG_TYPE),
        ('{"a":1}', None, {}, {"a": 1}, ""),
        ("12", '{"n":3}', 1, 12, ""),
    ],
)
def test_treatments_and_configurations(
    treatment: str, config: str | None, default: Any, response: Any, error: str
) -> None:
    """Split: strings and numbers from the treatment, objects from its configuration."""
    found = SPLIT.value(Evaluation(treatment, treatment, config=config), default)
    assert found == (response, error)
    assert type(found[0]) is type(response)


@pytest.mark.parametrize(
    ("kind", "text", "default", "response", "error"),
    [
        ("string", "blue", "x", "blue", ""),
        ("csv", "a,b", "x", "a,b", ""),
        ("number", "12", 1, 12, ""),
        ("number", "1.5", 1.0, 1.5, ""),
        ("number", "12", "x", "x", WRONG_TYPE),
        ("number", "twelve", 1, 1, MALFORMED_FLAG),
        ("number", "true", 1, 1, MALFORMED_FLAG),
        ("json", '{"a":[1]}', {}, {"a": [1]}, ""),
        ("json", '{"a":1}', None, {"a": 1}, ""),
        ("json", "{damaged", {"d": 1}, {"d": 1}, MALFORMED_FLAG),
        ("string", "blue", 1, 1, WRONG_TYPE),
        ("string", "blue", True, True, ""),
    ],
)
def test_payloads_by_type(kind: str, text: str, default: Any, response: Any, error: str) -> None:
    """Unleash: a string, a number or JSON; for a bool, the toggle."""
    outcome = Evaluation(True, "blue", config={"type": kind, "value": text})
    found = UNLEASH.value(outcome, default)
    assert found == (response, error)
    assert type(found[0]) is type(response)


def test_feature_without_payload_has_no_value() -> None:
    """Unleash: not the variant's name."""
    assert UNLEASH.value(Evaluation(True, "blue"), "x") == ("x", NO_VALUE)
    assert UNLEASH.value(Evaluation(True), "x") == ("x", NO_VALUE)
    assert UNLEASH.value(Evaluation(True), None) == (None, "")
    assert UNLEASH.value(Evaluation(False, reason=OFF), "x") == ("x", "")
    assert UNLEASH.value(Evaluation(False, reason=OFF), True) == (False, "")
    assert UNLEASH.on(Evaluation(False, reason=OFF), True) == (False, "")
