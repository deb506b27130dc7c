"""Keys and attributes of types outside JSON; tests/differential compares them with the SDKs."""

from __future__ import annotations

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


EVERYWHERE = dict.fromkeys(ENGINES, "")
NOT_LAUNCHDARKLY = EVERYWHERE | {"launchdarkly": CONTEXT_INVALID}
AS_STRING_ONLY = NOT_LAUNCHDARKLY | {"split": CONTEXT_INVALID}
NOWHERE_NEEDED = {"launchdarkly": KEY_MISSING, "split": KEY_MISSING, "unleash": "", "appconfig": ""}
KEYS: list[tuple[Any, dict[str, str]]] = [
    *((key, EVERYWHERE) for key in ("ada", Old.PRO, 0, Level.SEVEN)),
    *((key, NOT_LAUNCHDARKLY) for key in (7.5, Decimal(7))),
    *((key, AS_STRING_ONLY) for key in (float("nan"), True, UUID(int=5))),
    *((key, NOWHERE_NEEDED) for key in (None, "")),
]


def engine(provider: str, **flags: Any) -> Engine:
    """Return a provider's engine."""
    made = open_engine(provider, Items(flags=flags), EngineConfig(lambda: 0.0, lambda: 0.5))
    assert made
    return made


@pytest.mark.parametrize(("key", "errors"), KEYS, ids=[repr(key)[:20] for key, _ in KEYS])
def test_keys_are_accepted_as_by_the_sdk(key: Any, errors: dict[str, str]) -> None:
    """By the engine and a provider's fake; one without a provider accepts what all accept."""
    for provider, expected in errors.items():
        found = ""
        try:
            engine(provider).context({"key": key})
        except ContextError as error:
            found = error.args[0]
        assert found == expected
        detail = FakeFlags({"f": True}, provider=provider).detail("f", {"key": key}, default=False)
        assert (detail.value, detail.error) == (not found, found)
    assert FakeFlags({"f": True}).enabled("f", {"key": key}) is not any(errors.values())


def test_fake_of_an_unknown_provider() -> None:
    """The error names it."""
    with pytest.raises(Exception, match="'next' is not a provider: use one of appconfig, launch"):
        FakeFlags(provider="next").enabled("f", {"key": "a"})


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


@pytest.mark.parametrize(
    ("rule", "value", "matches"),
    [
        ('(eq $x "pro")', Old.PRO, True),
        ('(in $x ["free", "pro"])', Plan.PRO, True),
        ('(matches in::$x pattern::"p.o")', Old.PRO, True),
        ("(gt $x 5)", Decimal(7), True),
        ("(gt $x 7)", Decimal("7.0"), False),
        ("(eq $x 0.1)", Decimal("0.1"), True),
        ("(eq $x 9223372036854775807)", Decimal(2**63 - 1), True),
        ("(in $x [7])", Level.SEVEN, True),
        *(("(gt $x 5)", value, None) for value in (Decimal("sNaN"), Decimal("1e999999999"), 1j)),
    ],
)
def test_appconfig_compares_by_type(rule: str, value: Any, matches: bool | None) -> None:
    """Strings and numbers, whatever their class, and nothing else."""
    variants = [{"name": "A", "enabled": True, "rule": rule}, {"name": "B", "enabled": False}]
    ours = engine("appconfig", f={"_variants": variants})
    found = ours.evaluate("f", ours.context({"x": value}))
    if matches is None:
        assert found.error == "UNSUPPORTED"
    else:
        assert (found.variant, found.error) == ("A" if matches else "B", "")
