"""Values of contexts whose types JSON does not have, or that derive from one that it has."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from typing import Any
from uuid import UUID


class Plan(StrEnum):
    PRO = "a"


class Word(str, Enum):  # noqa: UP042 - as people write it: its str() is another
    ABC = "abc"


class Level(IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


VALUES: list[Any] = [
    *(Plan.PRO, Word.ABC, Level.ONE, Text("ab"), Decimal(1), Decimal("1.50"), Decimal("NaN")),
    *(Fraction(3, 2), UUID(int=1), date(2017, 12, 6), datetime(2017, 12, 6, 7, tzinfo=UTC)),
    *(datetime(2017, 12, 6, 7), b"a", object),  # noqa: DTZ001 - as people write it
]
