"""Whether texts in a flag could change what Unleash's engine reads. Pure; nearly never needed.

The engine writes all rules of a flag as one text, and puts some texts in quotes without escaping
quotes in them (seen in yggdrasil-engine 2.0.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.evaluation.unleash_operators import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_BREAKING = (",", "]", *WORDS)
"""How what follows a closed value goes on in the engine's language."""


def may_inject(given: object) -> bool:
    """Say whether anything in a flag could go on where another text broke off."""
    return any(
        part.lstrip(" \t").startswith(_BREAKING)
        for string in _strings(given)
        for part in string.split('"')
    )


def _strings(given: object) -> Iterator[str]:
    if isinstance(given, str):
        yield given
        yield from given.split(",")
    elif isinstance(given, dict):
        for value in given.values():
            yield from _strings(value)
    elif isinstance(given, (list, tuple)):
        for value in given:
            yield from _strings(value)
