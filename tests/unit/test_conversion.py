"""From an engine's evaluation to the type of the caller's default."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from flagstore.evaluation import base
from flagstore.evaluation.base import Evaluation
from flagstore.flags import CONVERSIONS


class Color(enum.StrEnum):
    RED = "red"


def plain(value: Any) -> tuple[str, Evaluation]:
    return "launchdarkly", Evaluation(value, 0)


def split(treatment: str, config: str | None = None) -> tuple[str, Evaluation]:
    return "split", Evaluation(treatment, treatment, config=config)


def unleash(kind: str, text: str) -> tuple[str, Evaluation]:
    """Return a toggle that is on, and whose variant has a payload."""
    return "unleash", Evaluation(True, "blue", config={"type": kind, "value": text})


ON, OFF_ = ("unleash", Evaluation(True, "blue")), ("unleash", Evaluation(False, reason=base.OFF))


@pytest.mark.parametrize(
    ("given", "default", "expected", "error"),
    [
        # Any JSON; an int is a float, a bool is not a number.
        (plain("blue"), "red", "blue", ""),
        (plain("blue"), Color.RED, "blue", ""),
        (plain(True), False, True, ""),
        (plain(3), 1.5, 3, ""),
        (plain({"a": [1]}), {}, {"a": [1]}, ""),
        (plain(None), None, None, ""),
        (plain(True), 1, 1, base.WRONG_TYPE),
        (plain(True), 1.0, 1.0, base.WRONG_TYPE),
        (plain(1), False, False, base.WRONG_TYPE),
        (plain(3.0), 1, 1, base.WRONG_TYPE),
        (plain(None), "red", "red", base.WRONG_TYPE),
        (plain({}), [], [], base.WRONG_TYPE),
        (plain([1]), (1,), (1,), base.WRONG_TYPE),
        # Split: strings and numbers from the treatment, objects from its configuration.
        (split("v1"), "x", "v1", ""),
        (split("ON"), None, "ON", ""),
        (split("v1"), True, True, base.WRONG_TYPE),
        (split("12"), 1, 12, ""),
        (split("1.5"), 0.1, 1.5, ""),
        (split("true"), 1, 1, base.WRONG_TYPE),
        (split("NaN"), 1.5, 1.5, base.WRONG_TYPE),
        (split("v1", '{"color":"blue"}'), {}, {"color": "blue"}, ""),
        (split("v1", "[1,2]"), {}, {}, base.WRONG_TYPE),
        (split("v1", "{damaged"), {"d": 1}, {"d": 1}, base.WRONG_TYPE),
        (split("v1"), {"d": 1}, {"d": 1}, base.WRONG_TYPE),
        (split('{"a":1}'), {}, {"a": 1}, ""),
        (split("12", '{"n":3}'), 1, 12, ""),
        # Unleash: the payload by its type, not the variant's name; for a bool, the toggle.
        (unleash("string", "blue"), "x", "blue", ""),
        (unleash("csv", "a,b"), "x", "a,b", ""),
        (unleash("number", "12"), 1, 12, ""),
        (unleash("number", "12"), "x", "x", base.WRONG_TYPE),
        (unleash("number", "twelve"), 1, 1, base.MALFORMED_FLAG),
        (unleash("number", "true"), 1, 1, base.MALFORMED_FLAG),
        (unleash("json", '{"a":[1]}'), {}, {"a": [1]}, ""),
        (unleash("json", "{damaged"), {"d": 1}, {"d": 1}, base.MALFORMED_FLAG),
        (unleash("string", "blue"), 1, 1, base.WRONG_TYPE),
        (unleash("string", "blue"), True, True, ""),
        (ON, "x", "x", base.NO_VALUE),
        (ON, None, None, ""),
        (OFF_, "x", "x", ""),
        (OFF_, True, False, ""),
    ],
)
def test_values_have_the_type_of_the_default(
    given: tuple[str, Evaluation], default: Any, expected: Any, error: str
) -> None:
    provider, evaluation = given
    found = CONVERSIONS[provider].value(evaluation, default)
    assert found == (expected, error)
    assert type(found[0]) is type(expected)


@pytest.mark.parametrize("provider", sorted(CONVERSIONS))
def test_missing_value_is_the_default(provider: str) -> None:
    conversion = CONVERSIONS[provider]
    for absent in (Evaluation(error=base.FLAG_NOT_FOUND), Evaluation(base.ABSENT, reason=base.OFF)):
        for default in (True, "red", 1, 1.5, {"a": 1}, [1], None):
            assert conversion.value(absent, default) == (default, absent.error)
        for default in (True, False):
            assert conversion.on(absent, default) == (default, absent.error)


@pytest.mark.parametrize(
    ("given", "on"),
    [
        *((plain(value), value) for value in (True, False)),
        *((plain(value), None) for value in ("true", 1, 0, None, {})),
        *((split(value), True) for value in ("on", "ON", "True")),
        *((split(value), False) for value in ("off", "FALSE")),
        (split("v1"), None),
        (ON, True),
        (OFF_, False),
    ],
)
def test_on_or_off(given: tuple[str, Evaluation], on: bool | None) -> None:
    """LaunchDarkly: booleans; Split: on and true, off and false, in any case; else the default."""
    provider, evaluation = given
    for default in (True, False):
        expected = (default, base.WRONG_TYPE) if on is None else (on, "")
        assert CONVERSIONS[provider].on(evaluation, default) == expected
        if provider != "unleash":
            assert CONVERSIONS[provider].value(evaluation, default) == expected
