"""Patterns in the syntax of the Rust crate `regex`, parsed into nodes. Pure.

Source: the crate's documentation, "Syntax". The differential tests compare with yggdrasil-engine
2.0.0, which has the crate inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation import unleash_regex_characters as characters
from flagstore.evaluation import unleash_regex_classes as classes
from flagstore.evaluation.unleash_regex_classes import InvalidPatternError, UnsupportedPatternError

if TYPE_CHECKING:
    from flagstore.evaluation.unleash_regex_characters import Predicate

    Node = Predicate | tuple[Any, ...]
    """What matches one character, or one of these, by its first member:

    ``(CAT, nodes)``
        One after the other.
    ``(ALT, nodes)``
        One of them.
    ``(REPEAT, node, least, most)``
        So many times; without a limit where *most* is None.
    ``(LOOK, name)``
        An assertion, such as the begin of the text.
    """

CAT, ALT, REPEAT, LOOK = "cat", "alt", "repeat", "look"

_MAX_DEPTH = 60
"""Groups in groups; Rust allows about 250."""
_MAX_COUNT_DIGITS = 4
"""More copies than a pattern may have instructions here."""
_FLAGS = "imsUuxR"
_COUNTS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_ANCHORS = {"^": "A", "$": "z"}
"""What they say where lines do not count."""
_ESCAPED = {"A": "A", "z": "z", "b": "b", "B": "B", "<": "start", ">": "end"}
"""Assertions by the letter behind their backslash."""
_BOUNDARIES = ("start", "end", "start-half", "end-half")
r"""Assertions that are written ``\b{…}``."""


class Parser:
    """Recursive descent over Rust's syntax; makes nodes."""

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._flags = frozenset("i" if ignore_case else "")
        self._names: set[str] = set()

    def parse(self) -> Node:
        """Return the whole pattern as one node.

        Raises:
            InvalidPatternError: Rust refuses it.
            UnsupportedPatternError: it cannot be matched as Rust does here.
        """
        node = self._alternatives()
        if self._at < len(self._text):
            raise InvalidPatternError("a parenthesis that was not opened")
        return node

    def _alternatives(self) -> Node:
        parts = [self._sequence()]
        while self._text.startswith("|", self._at):
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else (ALT, tuple(parts))

    def _sequence(self) -> Node:
        parts: list[Any] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            char = self._text[self._at]
            if char in "*+?{":
                self._repeat(parts)
                continue
            # Nothing for flags alone, which cannot be repeated.
            parts.append(self._primary(char))
        return (CAT, tuple(part for part in parts if part is not None))

    def _repeat(self, parts: list[Any]) -> None:
        """Replace the last part by its repetition."""
        if not parts or parts[-1] is None:
            raise InvalidPatternError("nothing to repeat")
        char = self._text[self._at]
        if char == "{":
            least, most = self._counts()
        else:
            least, most = _COUNTS[char]
            self._at += 1
        if self._text.startswith("?", self._at):
            self._at += 1  # lazy
        parts[-1] = (REPEAT, parts[-1], least, most)

    def _counts(self) -> tuple[int, int | None]:
        end = self._text.find("}", self._at)
        inside = self._text[self._at + 1 : end] if end > 0 else ""
        if any(char.isspace() for char in inside):
            raise UnsupportedPatternError("white space in a repetition")
        least, comma, most = inside.partition(",")
        for count in (least, most) if most else (least,):
            if not (count.isascii() and count.isdigit()):
                raise InvalidPatternError("a repetition that is not one")
            if len(count.lstrip("0")) > _MAX_COUNT_DIGITS:
                raise UnsupportedPatternError("too large")
        self._at = end + 1
        low = int(least)
        if not comma:
            return low, low
        if most and int(most) < low:
            raise InvalidPatternError("a repetition that ends before it begins")
        return low, int(most) if most else None

    def _primary(self, char: str) -> Node | None:
        if char == "(":
            return self._group()
        if char == "[":
            predicate, self._at = classes.bracketed(
                self._text, self._at, ignore_case=self._ignores_case
            )
            return predicate
        if char == "\\":
            return self._escape()
        self._at += 1
        if char == ".":
            return characters.ANYTHING if "s" in self._flags else characters.NOT_NEWLINE
        if char in _ANCHORS:
            return (LOOK, char if "m" in self._flags else _ANCHORS[char])
        return self._literal(char)

    @property
    def _ignores_case(self) -> bool:
        return "i" in self._flags

    def _literal(self, char: str) -> Node:
        return characters.literal(char, ignore_case=self._ignores_case)

    def _escape(self) -> Node:
        char = self._text[self._at + 1 : self._at + 2]
        if char not in _ESCAPED or not char:
            found, self._at = classes.escape(self._text, self._at, ignore_case=self._ignores_case)
            return found if callable(found) else self._literal(found)
        self._at += 2
        inside = self._text[self._at + 1 : self._at + 2]
        # Else it is a repetition.
        if char == "b" and self._text.startswith("{", self._at) and not inside.isdigit():
            for name in _BOUNDARIES:
                if self._text.startswith(f"{{{name}}}", self._at):
                    self._at += len(name) + 2
                    return (LOOK, name)
            if inside.isspace():
                raise UnsupportedPatternError("white space in a word boundary")
            raise InvalidPatternError("a word boundary that does not exist")
        return (LOOK, _ESCAPED[char])

    def _group(self) -> Node | None:
        """Read a group; None for flags alone."""
        self._at += 1
        outside = self._flags
        if self._text.startswith("?", self._at):
            self._at += 1
            if not self._name() and self._set_flags() == ")":
                return None
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnsupportedPatternError("groups too deep")
        node = self._alternatives()
        self._depth -= 1
        if not self._text.startswith(")", self._at):
            raise InvalidPatternError("a parenthesis that is not closed")
        self._at += 1
        self._flags = outside
        # A node of its own, so that a repetition is of the whole group.
        return (CAT, (node,))

    def _name(self) -> bool:
        """Read a group's name, if it has one."""
        begin = self._at + (1 if self._text.startswith("P<", self._at) else 0)
        if not self._text.startswith("<", begin) or self._text[begin + 1 : begin + 2] in ("=", "!"):
            return False
        end = self._text.find(">", begin)
        name = self._text[begin + 1 : end] if end > 0 else ""
        if not (name.isascii() and name.replace("_", "a").isalnum()):
            raise UnsupportedPatternError("a group's name")
        if name[0].isdigit() or name in self._names:
            raise InvalidPatternError("a group's name")
        self._names.add(name)
        self._at = end + 1
        return True

    def _set_flags(self) -> str:
        """Read flags, up to ``:`` or ``)``, which is returned."""
        seen: list[str] = []
        while True:
            char = self._text[self._at : self._at + 1]
            self._at += 1
            if char in (":", ")") and char:
                break
            if char not in (*_FLAGS, "-") or char in seen:
                raise InvalidPatternError("a group of a kind that does not exist")
            seen.append(char)
        if (not seen and char == ")") or seen[-1:] == ["-"]:
            raise InvalidPatternError("no flag")
        cut = seen.index("-") if "-" in seen else len(seen)
        if {"x", "R"} & set(seen[:cut]) or "u" in seen[cut:]:
            raise UnsupportedPatternError("a flag")
        self._flags = (self._flags | set(seen[:cut])) - set(seen[cut:])
        return char
