"""The mutator plants what it should, each fault once, and leaves wording and types alone."""

from __future__ import annotations

import ast

import pytest

from mutation.operators import mutants

SOURCE = '''
"""A module."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from x import y

LIMIT = 3


def check(a: int, b: "str | None" = None) -> bool:
    """Say whether it is in order."""
    if a < LIMIT and b is not None:
        message = f"{a} is too little"
        raise ValueError(message)
    kept = [x for x in (a, 7) if x]
    for value in kept:
        note(value)
        continue
    return not a or a == 2 * LIMIT
'''


@pytest.mark.parametrize(
    "what",
    [
        "LIMIT = 3 -> LIMIT = 4",
        "if a < LIMIT and b is not None: -> if a <= LIMIT and b is not None:",
        "if a < LIMIT and b is not None: -> if a >= LIMIT and b is not None:",
        "if a < LIMIT and b is not None: -> if a < LIMIT or b is not None:",
        "if a < LIMIT and b is not None: -> if a < LIMIT and b is None:",
        "if a < LIMIT and b is not None: -> if not (a < LIMIT and b is not None):",
        "raise ValueError(message) -> pass",
        "kept = [x for x in (a, 7) if x] -> kept = [x for x in (a, 7)]",
        "kept = [x for x in (a, 7) if x] -> kept = [x for x in (a, 8) if x]",
        "note(value) -> pass",
        "return not a or a == 2 * LIMIT -> return not a and a == 2 * LIMIT",
        "return not a or a == 2 * LIMIT -> return not not a or a == 2 * LIMIT",
        "return not a or a == 2 * LIMIT -> return not a or a != 2 * LIMIT",
        "return not a or a == 2 * LIMIT -> return not a or a == 2 / LIMIT",
        "return not a or a == 2 * LIMIT -> return None",
    ],
)
def test_a_fault_is_planted_once(what: str) -> None:
    """Comparisons, boundaries, negations, constants, calls, conditions and results."""
    assert [mutant.what for mutant in mutants("m.py", SOURCE)].count(what) == 1


def test_every_fault_is_a_module_of_its_own() -> None:
    """Each differs from the original and from the others, and can be compiled."""
    sources = [mutant.source for mutant in mutants("m.py", SOURCE)]
    assert len({ast.unparse(ast.parse(SOURCE)), *sources}) == len(sources) + 1


def test_what_no_test_can_see_is_left_alone() -> None:
    """Docstrings, annotations, imports for types, and messages."""
    for mutant in mutants("m.py", SOURCE):
        assert '"""A module."""' in mutant.source
        assert "is too little" in mutant.source
        assert "if TYPE_CHECKING:" in mutant.source
        assert "a: int, b: 'str | None'" in mutant.source
