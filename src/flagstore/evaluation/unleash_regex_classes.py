"""The syntax of escapes and of classes in brackets, as the Rust crate `regex` reads it. Pure.

Source: the crate's documentation, "Syntax". The differential tests compare with yggdrasil-engine
2.0.0, which has the crate inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation import unleash_regex_characters as characters
from flagstore.evaluation.unleash_regex_characters import CharacterClass, folded, negated

if TYPE_CHECKING:
    from flagstore.evaluation.unleash_regex_characters import Predicate


class InvalidPatternError(Exception):
    """Rust refuses the pattern."""


class UnsupportedPatternError(Exception):
    """The pattern cannot be matched as Rust does here."""


_CONTROLS = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_MAX_DEPTH = 20
"""Brackets in brackets; nobody writes as many."""


# -- escapes -------------------------------------------------------------------------------------


def escape(text: str, at: int, *, ignore_case: bool) -> tuple[str | Predicate, int]:
    """Read an escape from its backslash on.

    Returns:
        A character or a class, and where the escape ends.

    Raises:
        InvalidPatternError: Rust knows no such escape.
        UnsupportedPatternError: it is not known here.
    """
    char = text[at + 1 : at + 2]
    if not char:
        raise InvalidPatternError("a backslash at the end")
    if char in _CONTROLS:
        return _CONTROLS[char], at + 2
    if char.lower() in characters.PERL:
        matches = characters.PERL[char.lower()]
        return CharacterClass(negated(matches, negate=char.isupper())), at + 2
    if char in "pP":
        return _property(text, at + 2, negate=char == "P", ignore_case=ignore_case)
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


def _property(text: str, at: int, *, negate: bool, ignore_case: bool) -> tuple[Predicate, int]:
    if text.startswith("{", at):
        end = text.find("}", at)
        if end < 0:
            raise InvalidPatternError("a property that does not end")
        name, end = text[at + 1 : end], end + 1
    else:
        name, end = text[at : at + 1], at + 1
    matches = characters.general_category(name)
    if matches is None:
        raise UnsupportedPatternError(f"the property {name[:32]!r}")
    matches = folded(matches, ignore_case=ignore_case)
    return CharacterClass(negated(matches, negate=negate)), end


# -- brackets ------------------------------------------------------------------------------------


def bracketed(text: str, at: int, *, ignore_case: bool) -> tuple[Predicate, int]:
    """Read ``[…]`` from its bracket on.

    Returns:
        What it matches, and where it ends.

    Raises:
        InvalidPatternError: Rust refuses it.
        UnsupportedPatternError: it has what is not known here.
    """
    reader = _Brackets(text, ignore_case=ignore_case)
    matches, at = reader.read(at, 0)
    return CharacterClass(matches, narrow=reader.narrow), at


class _Brackets:
    """Reads classes in brackets, which may hold others."""

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        self._text = text
        self._ignore_case = ignore_case
        self.narrow = True

    def read(self, at: int, depth: int) -> tuple[Predicate, int]:
        if depth > _MAX_DEPTH:
            raise UnsupportedPatternError("classes too deep")
        text = self._text
        at += 1
        negate = text.startswith("^", at)
        at += negate
        items: list[Predicate] = []
        while text.startswith("-", at):
            items.append(self._range("-", "-"))
            at += 1
        if not items and text.startswith("]", at):
            items.append(self._range("]", "]"))
            at += 1
        whole: Predicate | None = None
        pending = ""
        while True:
            operator = text[at : at + 2]
            closed = text.startswith("]", at)
            if closed or operator in ("&&", "--", "~~"):
                whole = _combined(whole, pending, _any_of(items))
                if closed:
                    return negated(whole, negate=negate), at + 1
                pending, items, at = operator, [], at + 2
                continue
            item, at = self._item(at, depth)
            items.append(item)

    def _item(self, at: int, depth: int) -> tuple[Predicate, int]:
        text = self._text
        if text.startswith("[", at):
            return self._posix(at) or self.read(at, depth + 1)
        low, at = self._single(at)
        if not text.startswith("-", at) or text[at + 1 : at + 2] in ("]", "-"):
            return (low if callable(low) else self._range(low, low)), at
        high, at = self._single(at + 1)
        if callable(low) or callable(high) or high < low:
            raise InvalidPatternError("a range that is none")
        return self._range(low, high), at

    def _posix(self, at: int) -> tuple[Predicate, int] | None:
        """Read ``[:alpha:]``; None if it is something else, which makes it a class of its own."""
        end = self._text.find(":]", at + 2)
        if not self._text.startswith("[:", at) or end < 0:
            return None
        name = self._text[at + 2 : end]
        matches = characters.posix_class(name.removeprefix("^"))
        if matches is None:
            return None
        matches = folded(matches, ignore_case=self._ignore_case)
        return negated(matches, negate=name.startswith("^")), end + 2

    def _single(self, at: int) -> tuple[Any, int]:
        char = self._text[at : at + 1]
        if not char:
            raise InvalidPatternError("a class that does not end")
        if char != "\\":
            return char, at + 1
        found, at = escape(self._text, at, ignore_case=self._ignore_case)
        if callable(found):
            self.narrow = False
        return found, at

    def _range(self, low: str, high: str) -> Predicate:
        return folded(lambda char: low <= char <= high, ignore_case=self._ignore_case)


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
