"""Keys and attributes of types outside JSON, as each engine handles them.

The words are those of the providers' Python SDKs, as far as they have an SDK: the campaigns in
tests/differential compare the same values with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from flagstore.evaluation import ENGINES, open_engine
from flagstore.evaluation.base import CONTEXT_INVALID, KEY_MISSING, ContextError, EngineConfig
from flagstore.testing import FakeFlags
from simulators.flag_items import Items

if TYPE_CHECKING:
    from flagstore.evaluation.base import Engine


class Plan(StrEnum):
    PRO = "pro"


class Old(str, Enum):  # noqa: UP042 - the older way, which writes itself otherwise
    PRO = "pro"


class Level(IntEnum):
    SEVEN = 7


class Color(Enum):
    RED = "pro"


@dataclass(frozen=True)
class Person:
    name: str = "pro"


EVERYWHERE = dict.fromkeys(ENGINES, "")
NOT_LAUNCHDARKLY = EVERYWHERE | {"launchdarkly": CONTEXT_INVALID}
AS_TEXT_ONLY = NOT_LAUNCHDARKLY | {"split": CONTEXT_INVALID}
NOWHERE_NEEDED = {"launchdarkly": KEY_MISSING, "split": KEY_MISSING, "unleash": "", "appconfig": ""}

KEYS: list[tuple[Any, dict[str, str]]] = [
    ("ada", EVERYWHERE),
    (Plan.PRO, EVERYWHERE),
    (Old.PRO, EVERYWHERE),
    (42, EVERYWHERE),
    (0, EVERYWHERE),
    (Level.SEVEN, EVERYWHERE),
    (7.5, NOT_LAUNCHDARKLY),
    (Decimal(7), NOT_LAUNCHDARKLY),
    (float("nan"), AS_TEXT_ONLY),
    (True, AS_TEXT_ONLY),
    (UUID(int=5), AS_TEXT_ONLY),
    (Color.RED, AS_TEXT_ONLY),
    (datetime(2026, 1, 1, tzinfo=UTC), AS_TEXT_ONLY),
    (Person(), AS_TEXT_ONLY),
    (None, NOWHERE_NEEDED),
    ("", NOWHERE_NEEDED),
]


def engine(provider: str, **flags: Any) -> Engine:
    """Return a provider's engine."""
    made = open_engine(provider, Items(flags=flags), EngineConfig(lambda: 0.0, lambda: 0.5))
    assert made
    return made


@pytest.mark.parametrize("provider", ENGINES)
@pytest.mark.parametrize(("key", "words"), KEYS, ids=[repr(key)[:20] for key, _ in KEYS])
def test_keys_are_accepted_as_by_the_sdk(provider: str, key: Any, words: dict[str, str]) -> None:
    """By the engine, and by a fake in tests."""
    ours, given = engine(provider), {"key": key}
    found = ""
    try:
        ours.context(given)
    except ContextError as error:
        found = error.args[0]
    assert found == words[provider]
    fake = FakeFlags({"f": True}, provider=provider)
    detail = fake.detail("f", given, default=False)
    assert (detail.value, detail.error) == (not found, found)


@pytest.mark.parametrize(("key", "words"), KEYS, ids=[repr(key)[:20] for key, _ in KEYS])
def test_fake_without_provider_accepts_common_contexts(key: Any, words: dict[str, str]) -> None:
    """A test that passes with it passes with any provider."""
    taken = not any(words.values())
    assert FakeFlags({"f": True}).enabled("f", {"key": key}) is taken


def rollout(key: str) -> dict[str, Any]:
    """Return a flag of LaunchDarkly's for half of the users."""
    shares = [{"variation": number, "weight": 50_000} for number in (0, 1)]
    flag = {"key": key, "version": 1, "on": True, "salt": "s", "variations": [0, 1]}
    return flag | {"fallthrough": {"rollout": {"variations": shares}}}


def test_integer_keys_of_launchdarkly() -> None:
    """Hashed as their digits, but not equal to a string."""
    target = rollout("target") | {"targets": [{"variation": 1, "values": ["42"]}]}
    clause = {"attribute": "key", "op": "in", "values": [42]}
    rule = rollout("rule") | {"rules": [{"variation": 1, "clauses": [clause]}]}
    ours = engine("launchdarkly", half=rollout("half"), target=target, rule=rule)
    values = set()
    for number in range(50):
        one, other = (ours.context({"key": key}) for key in (number, str(number)))
        assert ours.evaluate("half", one) == ours.evaluate("half", other)
        values.add(ours.evaluate("half", one).value)
    assert values == {0, 1}
    context, text = ours.context({"key": 42}), ours.context({"key": "42"})
    assert ours.evaluate("target", text).reason == "TARGET_MATCH"
    assert ours.evaluate("target", context).reason == "FALLTHROUGH"
    assert ours.evaluate("rule", context).reason == "RULE_MATCH"
    several = {"kind": "multi", "org": {"key": 42}, "user": {"key": "a"}}
    assert ours.evaluate("half", ours.context(several)).error == ""


def test_fake_of_an_unknown_provider() -> None:
    """The error names it."""
    with pytest.raises(Exception, match="'next' is not a provider: use one of appconfig, launch"):
        FakeFlags(provider="next").enabled("f", {"key": "a"})


@pytest.mark.parametrize(
    ("rule", "value", "matches"),
    [
        ('(eq $x "pro")', Plan.PRO, True),
        ('(eq $x "pro")', Old.PRO, True),
        ('(in $x ["free", "pro"])', Plan.PRO, True),
        ('(begins_with $x "p")', Plan.PRO, True),
        ('(matches in::$x pattern::"p.o")', Old.PRO, True),
        ("(gt $x 5)", Decimal(7), True),
        ("(gt $x 7)", Decimal("7.0"), False),
        ("(eq $x 7)", Decimal(7), True),
        ("(eq $x 0.1)", Decimal("0.1"), True),
        ("(eq $x 9223372036854775807)", Decimal(2**63 - 1), True),
        ("(lt $x 9223372036854775807)", Decimal(2**63 - 2), True),
        ("(gte $x 7)", Level.SEVEN, True),
        ("(in $x [7])", Level.SEVEN, True),
    ],
)
def test_appconfig_compares_by_type(rule: str, value: Any, matches: bool) -> None:
    """Strings and numbers, whatever their class."""
    variants = [{"name": "A", "enabled": True, "rule": rule}, {"name": "B", "enabled": False}]
    ours = engine("appconfig", f={"_variants": variants})
    outcome = ours.evaluate("f", ours.context({"x": value}))
    assert (outcome.variant, outcome.error) == ("A" if matches else "B", "")


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("sNaN"), Decimal("1e999999999"), 1j, UUID(int=5), Color.RED]
)
def test_appconfig_compares_nothing_else(value: Any) -> None:
    """Nor numbers beyond a float."""
    variants = [
        {"name": "A", "enabled": True, "rule": "(gt $x 5)"},
        {"name": "B", "enabled": False},
    ]
    ours = engine("appconfig", f={"_variants": variants})
    assert ours.evaluate("f", ours.context({"x": value})).error == "UNSUPPORTED"
