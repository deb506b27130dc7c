"""Classes of characters, as the Rust crate `regex` knows them: a predicate for each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation.unleash_operators import WHITE_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    Predicate = Callable[[str], bool]


class InvalidPatternError(Exception):
    """Rust refuses the pattern."""


class UnsupportedPatternError(Exception):
    """The pattern cannot be matched as Rust does here."""


_CONTROLS = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
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


def _orbit(char: str) -> set[str]:
    """Return every character that is the same but for its case."""
    folded = _fold(char)
    found = {char, folded}
    for one in (folded, char):
        found.update(case for case in (one.upper(), one.lower(), one.title()) if len(case) == 1)
    if not char.isascii() or char in "kKsS":
        found.update(_ONE_WAY, _FOLDS, _FOLDS.values())
    return {other for other in found if _fold(other) == folded}


def is_word(char: str) -> bool:
    r"""Say whether ``\w`` has a character: Alphabetic, marks, digits, connectors, joiners."""
    if char.isascii():
        return char.isalnum() or char == "_"
    category = _category(char)
    if category[0] in "LM" or category in ("Nd", "Nl", "Pc"):
        return True
    return _within(char, _CIRCLED)


def _category(char: str) -> str:
    from unicodedata import category  # noqa: PLC0415 - few patterns need it

    return category(char)


def _within(char: str, spans: tuple[tuple[int, int], ...]) -> bool:
    code = ord(char)
    return any(low <= code <= high for low, high in spans)


class _Class:
    """A predicate that knows whether it takes little room in Rust."""

    __slots__ = ("_says", "narrow")

    def __init__(self, says: Predicate, *, narrow: bool = False) -> None:
        self._says = says
        self.narrow = narrow

    def __call__(self, char: str) -> bool:
        return self._says(char)


ANYTHING = _Class(lambda _: True, narrow=True)
NOT_NEWLINE = _Class(lambda char: char != "\n", narrow=True)
_PERL: dict[str, Predicate] = {
    "d": str.isdecimal,
    "s": WHITE_SPACE.__contains__,
    "w": is_word,
}


def literal(char: str, ignore_case: bool) -> Predicate:  # noqa: FBT001 - one of two dialects
    """Return what matches one character."""
    if not ignore_case:
        return _Class(char.__eq__, narrow=True)
    return _Class(_orbit(char).__contains__, narrow=True)


def _negated(says: Predicate, negate: bool) -> Predicate:  # noqa: FBT001 - a sign
    return (lambda char: not says(char)) if negate else says


def _folding(says: Predicate, ignore_case: bool) -> Predicate:  # noqa: FBT001 - as above
    return (lambda char: any(map(says, _orbit(char)))) if ignore_case else says


def escape(text: str, at: int, ignore_case: bool) -> tuple[Any, int]:  # noqa: FBT001 - as above
    """Read an escape: a character or a class, and where it ends.

    Raises:
        InvalidPatternError: Rust knows no such escape.
        UnsupportedPatternError: it is not known here.
    """
    char = text[at + 1 : at + 2]
    if not char:
        raise InvalidPatternError("a backslash at the end")
    if char in _CONTROLS:
        return _CONTROLS[char], at + 2
    if char.lower() in _PERL:
        return _Class(_negated(_PERL[char.lower()], char.isupper())), at + 2
    if char in "pP":
        return _property(text, at + 2, char == "P", ignore_case)
    if char in _HEX_DIGITS:
        return _hex(text, at + 2, _HEX_DIGITS[char])
    if not char.isascii() or char.isalnum() or char in "<>":
        raise InvalidPatternError("an escape that does not exist")
    if not char.isprintable():
        raise UnsupportedPatternError("an escaped control character")
    return char, at + 2


def _hex(text: str, at: int, digits: int) -> tuple[str, int]:
    if text.startswith("{", at):
        end = text.find("}", at)
        number, end = text[at + 1 : max(end, at)], end + 1
    else:
        number, end = text[at : at + digits], at + digits
        if len(number) < digits:
            raise InvalidPatternError("too few digits")
    if not number or not all(digit in "0123456789abcdefABCDEF" for digit in number):
        raise InvalidPatternError("not a hexadecimal number")
    code = int(number, 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - Unicode's limits
        raise InvalidPatternError("not a character")
    return chr(code), end


def _property(text: str, at: int, negate: bool, ignore_case: bool) -> tuple[Predicate, int]:  # noqa: FBT001 - as above
    if text.startswith("{", at):
        end = text.find("}", at)
        if end < 0:
            raise InvalidPatternError("a property that does not end")
        name, end = text[at + 1 : end], end + 1
    else:
        name, end = text[at : at + 1], at + 1
    category = _CATEGORIES.get(name.lower().replace("_", "").replace("-", "").replace(" ", ""))
    if category is None:
        raise UnsupportedPatternError(f"the property {name[:32]!r}")

    def says(char: str) -> bool:
        return _category(char).startswith(category)

    return _Class(_negated(_folding(says, ignore_case), negate)), end


def _posix(text: str, at: int, ignore_case: bool) -> tuple[Predicate, int] | None:  # noqa: FBT001 - as above
    """Read ``[:alpha:]``; none if it is something else, which makes it a class of its own."""
    end = text.find(":]", at + 2)
    if not text.startswith("[:", at) or end < 0:
        return None
    name = text[at + 2 : end]
    bounds = _POSIX.get(name.removeprefix("^"))
    if bounds is None:
        return None
    pairs = list(zip(bounds[::2], bounds[1::2], strict=True))

    def says(char: str) -> bool:
        return any(low <= char <= high for low, high in pairs)

    return _negated(_folding(says, ignore_case), name.startswith("^")), end + 2


def bracketed(text: str, at: int, ignore_case: bool) -> tuple[Predicate, int]:  # noqa: FBT001 - as above
    """Read ``[…]`` from its bracket on; returns what it matches and where it ends.

    Raises:
        InvalidPatternError: Rust refuses it.
        UnsupportedPatternError: it has what is not known here.
    """
    reader = _Brackets(text, ignore_case=ignore_case)
    says, at = reader.read(at, 0)
    return _Class(says, narrow=reader.narrow), at


class _Brackets:
    """Reads classes in brackets, which may hold others."""

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        self._text = text
        self._ignore_case = ignore_case
        self.narrow = True

    def read(self, at: int, depth: int) -> tuple[Predicate, int]:
        if depth > 20:  # noqa: PLR2004 - nobody does
            raise UnsupportedPatternError("classes too deep")
        text = self._text
        at += 1
        negate = text.startswith("^", at)
        at += negate
        items: list[Predicate] = []
        while text.startswith("-", at):
            items.append(self._span("-", "-"))
            at += 1
        if not items and text.startswith("]", at):
            items.append(self._span("]", "]"))
            at += 1
        whole: Predicate | None = None
        pending = ""
        while True:
            operator = text[at : at + 2]
            closed = text.startswith("]", at)
            if closed or operator in ("&&", "--", "~~"):
                whole = _combined(whole, pending, _any_of(items))
                if closed:
                    return _negated(whole, negate), at + 1
                pending, items, at = operator, [], at + 2
                continue
            item, at = self._item(at, depth)
            items.append(item)

    def _item(self, at: int, depth: int) -> tuple[Predicate, int]:
        text = self._text
        if text.startswith("[", at):
            return _posix(text, at, self._ignore_case) or self.read(at, depth + 1)
        low, at = self._single(at)
        if not text.startswith("-", at) or text[at + 1 : at + 2] in ("]", "-"):
            return (low if callable(low) else self._span(low, low)), at
        high, at = self._single(at + 1)
        if callable(low) or callable(high) or high < low:
            raise InvalidPatternError("a range that is none")
        return self._span(low, high), at

    def _single(self, at: int) -> tuple[Any, int]:
        char = self._text[at : at + 1]
        if not char:
            raise InvalidPatternError("a class that does not end")
        if char != "\\":
            return char, at + 1
        what, at = escape(self._text, at, self._ignore_case)
        if callable(what):
            self.narrow = False
        return what, at

    def _span(self, low: str, high: str) -> Predicate:
        return _folding(lambda char: low <= char <= high, self._ignore_case)


def _any_of(items: list[Predicate]) -> Predicate:
    if len(items) == 1:
        return items[0]
    return lambda char: any(item(char) for item in items)


def _combined(left: Predicate | None, operator: str, right: Predicate) -> Predicate:
    if left is None:
        return right
    if operator == "&&":
        return lambda char: left(char) and right(char)
    if operator == "--":
        return lambda char: left(char) and not right(char)
    return lambda char: left(char) != right(char)
