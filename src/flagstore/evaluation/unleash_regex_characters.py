r"""Classes of characters as the Rust crate `regex` has them: a predicate for each. Pure.

Sources: the crate's documentation, "Syntax" (``\d``, ``\s``, ``\w``, ``[:alpha:]``, ``\p{L}``), the
annex C of Unicode's technical standard 18 that it names, and the Unicode Character Database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagstore.evaluation.unleash_operators import WHITE_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    Predicate = Callable[[str], bool]

# -- case ----------------------------------------------------------------------------------------

# Characters that fold to others, and that the others' own upper and lower case do not lead back to
# (Unicode, CaseFolding.txt, statuses C and S).
_ONE_WAY = (
    "\xb5\u017f\u0345\u03c2\u03d0\u03d1\u03d5\u03d6\u03f0\u03f1\u03f4\u03f5"
    "\u1c80\u1c81\u1c82\u1c83\u1c84\u1c85\u1c86\u1c87\u1c88\u1e9b\u1e9e\u1fbe\u2126\u212a\u212b"
)
# Folds of status S that `str.casefold` gives as two characters or more, as of status F.
_FOLDS = {"\u1fd3": "\u0390", "\u1fe3": "\u03b0", "\ufb05": "\ufb06"}


def _fold(char: str) -> str:
    """Return a character's simple case folding."""
    if char in _FOLDS:
        return _FOLDS[char]
    for folded in (char.casefold(), char.lower()):
        if len(folded) == 1:
            return folded
    return char


def case_variants(char: str) -> set[str]:
    """Return every character that is the same but for its case, itself included."""
    folded = _fold(char)
    found = {char, folded}
    for one in (folded, char):
        found.update(case for case in (one.upper(), one.lower(), one.title()) if len(case) == 1)
    if not char.isascii() or char in "kKsS":
        found.update(_ONE_WAY, _FOLDS, _FOLDS.values())
    return {other for other in found if _fold(other) == folded}


# -- classes by name -----------------------------------------------------------------------------

# Letters in circles and squares are Alphabetic without being letters (Unicode, PropList.txt).
_CIRCLED = (
    (0x24B6, 0x24E9),
    (0x1F130, 0x1F149),
    (0x1F150, 0x1F169),
    (0x1F170, 0x1F189),
    (0x200C, 0x200D),  # Join_Control
)
_POSIX = {
    "alnum": "09AZaz",
    "alpha": "AZaz",
    "ascii": "\x00\x7f",
    "blank": "\t\t  ",
    "cntrl": "\x00\x1f\x7f\x7f",
    "digit": "09",
    "graph": "!~",
    "lower": "az",
    "print": " ~",
    "punct": "!/:@[`{~",
    "space": "\t\r  ",
    "upper": "AZ",
    "word": "09AZaz__",
    "xdigit": "09AFaf",
}
"""First and last characters of the ranges that each ``[:name:]`` is made of."""
_CATEGORIES = {
    "letter": "L",
    "uppercaseletter": "Lu",
    "lowercaseletter": "Ll",
    "titlecaseletter": "Lt",
    "modifierletter": "Lm",
    "otherletter": "Lo",
    "mark": "M",
    "nonspacingmark": "Mn",
    "spacingmark": "Mc",
    "enclosingmark": "Me",
    "number": "N",
    "decimalnumber": "Nd",
    "letternumber": "Nl",
    "othernumber": "No",
    "punctuation": "P",
    "symbol": "S",
    "separator": "Z",
    "spaceseparator": "Zs",
    **{
        name.lower(): name
        for name in (
            *("L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No"),
            *("P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So"),
            *("Z", "Zs", "Zl", "Zp"),
        )
    },
}
"""General categories that ``\\p`` knows, by their name without spaces, dashes and underscores."""


def _category(char: str) -> str:
    from unicodedata import category  # noqa: PLC0415 - few patterns need it

    return category(char)


def is_word(char: str) -> bool:
    r"""Say whether ``\w`` has a character: Alphabetic, marks, digits, connectors, joiners."""
    if char.isascii():
        return char.isalnum() or char == "_"
    category = _category(char)
    if category[0] in "LM" or category in ("Nd", "Nl", "Pc"):
        return True
    code = ord(char)
    return any(low <= code <= high for low, high in _CIRCLED)


PERL: dict[str, Predicate] = {
    "d": str.isdecimal,
    "s": WHITE_SPACE.__contains__,
    "w": is_word,
}
r"""``\d``, ``\s`` and ``\w`` by their letter."""


def posix_class(name: str) -> Predicate | None:
    """Return what ``[:name:]`` matches; None if there is no such class."""
    bounds = _POSIX.get(name)
    if bounds is None:
        return None
    pairs = list(zip(bounds[::2], bounds[1::2], strict=True))
    return lambda char: any(low <= char <= high for low, high in pairs)


def general_category(name: str) -> Predicate | None:
    r"""Return what ``\p{name}`` matches; None if it is no general category."""
    category = _CATEGORIES.get(name.lower().replace("_", "").replace("-", "").replace(" ", ""))
    if category is None:
        return None
    return lambda char: _category(char).startswith(category)


# -- predicates of predicates --------------------------------------------------------------------


class CharacterClass:
    """A predicate that knows whether it takes little room in Rust's compiled pattern."""

    __slots__ = ("_matches", "narrow")

    def __init__(self, matches: Predicate, *, narrow: bool = False) -> None:
        self._matches = matches
        self.narrow = narrow

    def __call__(self, char: str) -> bool:
        """Say whether it has a character."""
        return self._matches(char)


ANYTHING = CharacterClass(lambda _: True, narrow=True)
NOT_NEWLINE = CharacterClass(lambda char: char != "\n", narrow=True)


def literal(char: str, *, ignore_case: bool) -> CharacterClass:
    """Return what matches one character."""
    matches = case_variants(char).__contains__ if ignore_case else char.__eq__
    return CharacterClass(matches, narrow=True)


def negated(matches: Predicate, *, negate: bool) -> Predicate:
    """Return the opposite of a predicate, or the predicate."""
    return (lambda char: not matches(char)) if negate else matches


def folded(matches: Predicate, *, ignore_case: bool) -> Predicate:
    """Return what matches a character in any case, or the predicate."""
    return (lambda char: any(map(matches, case_variants(char)))) if ignore_case else matches
