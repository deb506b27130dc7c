"""Attributes of types outside JSON in AppConfig's rules; tests/differential has the others."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import pytest

from flagstore.evaluation import open_engine
from flagstore.evaluation.base import EngineConfig
from simulators.flag_items import Items


class Plan(str, Enum):  # noqa: UP042 - the older way, which writes itself otherwise
    PRO = "pro"


class Level(IntEnum):
    SEVEN = 7


@pytest.mark.parametrize(
    ("rule", "value", "matches"),
    [
        ('(eq $x "pro")', Plan.PRO, True),
        ('(in $x ["free", "pro"])', Plan.PRO, True),
        ('(matches in::$x pattern::"p.o")', Plan.PRO, True),
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
    config = EngineConfig(lambda: 0.0, lambda: 0.5)
    ours: Any = open_engine("appconfig", Items(flags={"f": {"_variants": variants}}), config)
    found = ours.evaluate("f", ours.context({"x": value}))
    if matches is None:
        assert found.error == "UNSUPPORTED"
    else:
        assert (found.variant, found.error) == ("A" if matches else "B", "")
