r"""Regular expressions as Unleash's engine reads them: the Rust crate `regex`. Pure.

Python's ``re`` is another dialect, and one that can take exponential time. So a pattern is parsed
here, and run as a deterministic automaton that is built while texts are read: one look-up for each
character, in time that is linear in the text, as in Rust. Unleash asks only whether a pattern is
found anywhere, which makes greediness and groups unimportant.

What Rust refuses (look-around, back-references) never matches, as in Unleash's engine. What is
neither surely refused nor known here is :class:`UnsupportedPatternError`: scripts and other
properties (``\p{Greek}``), the flags ``x``, ``R`` and ``-u``, patterns that may be larger than
what Rust allows. Characters younger than this Python's Unicode may be classed otherwise in Rust.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flagstore.evaluation import unleash_classes as classes
from flagstore.evaluation.unleash_classes import InvalidPatternError, UnsupportedPatternError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["InvalidPatternError", "Pattern", "UnsupportedPatternError"]

_MAX_DEPTH = 60
"""Groups in groups; Rust allows about 250."""
_MAX_INSTRUCTIONS = 4_000
"""Rust allows 10 MB; what is larger than this here might be larger than that."""
_MAX_WIDE = 60
"""Instructions for characters beyond ASCII, which are the large ones in Rust."""
_MAX_WORK = 50_000
"""Nodes that are visited to make the instructions, also of what matches nothing."""
_MAX_KEPT = 200_000
"""Transitions, and instructions in states, that are kept: some ten megabytes."""

# Nodes: a predicate of a character, or a tuple of what it is and its parts.
_CAT, _ALT, _REPEAT, _LOOK = "cat", "alt", "repeat", "look"
_EMPTY: Final = (_CAT, ())
_FLAGS = "imsUuxR"
_COUNTS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_BOUNDARIES = ("start", "end", "start-half", "end-half")
_FOUND: Final[dict[Any, Any]] = {}
"""The state of having found it."""


class Pattern:
    """A compiled pattern; ``found`` says whether a text has it anywhere.

    Raises:
        InvalidPatternError: Rust refuses it.
        UnsupportedPatternError: it cannot be matched as Rust does here.
    """

    __slots__ = ("_kept", "_looks", "_program", "_start", "_states", "_work")

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        node = _Parser(text, ignore_case=ignore_case).parse()
        self._program: list[tuple[str, Any, int]] = []
        self._work = 0
        wide = self._emit(node)
        self._add("found", None)
        if wide > _MAX_WIDE:
            raise UnsupportedPatternError("too large")
        self._looks = any(kind == _LOOK for kind, _, _ in self._program)
        self._reset()

    def found(self, text: str) -> bool:
        """Say whether a text has it anywhere."""
        state = self._start
        for char in text:
            following = state.get(char)
            if following is None:
                following = self._step(state, char)
            if following is _FOUND:
                return True
            state = following
        following = state.get("")
        if following is None:
            following = self._step(state, "")
        return following is _FOUND

    # -- the automaton -----------------------------------------------------------------------------

    def _reset(self) -> None:
        # A state is the state after each character, and at None which instructions it stands for
        # and what kind of character came before.
        self._start: dict[Any, Any] = {None: ((0,), "")}
        self._states: dict[Any, dict[Any, Any]] = {}
        self._kept = 0

    def _step(self, state: dict[Any, Any], char: str) -> dict[Any, Any]:
        """Return the state after a character, or after the end (``""``), and keep it."""
        places, before = state[None]
        if self._kept > _MAX_KEPT:
            self._reset()
        following = set()
        for place in self._closure(places, before, char):
            kind, what, after = self._program[place]
            if kind == "found":
                state[char] = _FOUND
                return _FOUND
            if char and what(char):
                following.add(after)
        # It may begin anywhere.
        key = (tuple(sorted(following | {0})), self._kind(char))
        result = self._states.get(key)
        self._kept += 1
        if result is None:
            result = self._states[key] = {None: key}
            self._kept += len(key[0])
        state[char] = result
        return result

    def _kind(self, char: str) -> str:
        if not self._looks:
            return ""
        if char == "\n":
            return "\n"
        return "w" if char and classes.is_word(char) else "o"

    def _closure(self, places: tuple[int, ...], before: str, char: str) -> list[int]:
        """Return the instructions that wait for a character, or have found it."""
        seen = set()
        waiting = []
        stack = list(places)
        while stack:
            place = stack.pop()
            if place in seen:
                continue
            seen.add(place)
            kind, what, after = self._program[place]
            if kind == "split":
                stack.extend(what)
            elif kind == _LOOK:
                if _LOOKS[what](before, char):
                    stack.append(after)
            else:
                waiting.append(place)
        return waiting

    # -- the program -------------------------------------------------------------------------------

    def _add(self, kind: str, what: object) -> int:
        """Append an instruction that is followed by the next one; returns where it is."""
        place = len(self._program)
        if place >= _MAX_INSTRUCTIONS:
            raise UnsupportedPatternError("too large")
        self._program.append((kind, what, place + 1))
        return place

    def _emit(self, node: Any) -> int:  # noqa: ANN401 - a node
        """Append what matches a node; returns how many wide instructions it has."""
        self._work += 1
        if self._work > _MAX_WORK:
            raise UnsupportedPatternError("too large")
        if callable(node):
            self._add("char", node)
            return 0 if getattr(node, "narrow", False) else 1
        kind, parts = node[0], node[1]
        if kind == _LOOK:
            self._add(_LOOK, parts)
            return 0
        if kind == _CAT:
            return sum(self._emit(part) for part in parts)
        return self._emit_alternatives(parts) if kind == _ALT else self._emit_repeat(*node[1:])

    def _emit_alternatives(self, parts: tuple[Any, ...]) -> int:
        targets: list[int] = []
        self._add("split", targets)
        ends, wide = [], 0
        for part in parts:
            targets.append(len(self._program))
            wide += self._emit(part)
            ends.append(self._add("split", ()))
        for end in ends:
            self._program[end] = ("split", (len(self._program),), 0)
        return wide

    def _emit_repeat(self, node: Any, least: int, most: int | None) -> int:  # noqa: ANN401 - a node
        wide = sum(self._emit(node) for _ in range(least))
        if most is None:
            begin = self._add("split", ())
            wide += self._emit(node)
            end = self._add("split", (begin,))
            self._program[begin] = ("split", (begin + 1, end + 1), 0)
            return wide
        begins = []
        for _ in range(most - least):
            begins.append(self._add("split", ()))
            wide += self._emit(node)
        for begin in begins:
            self._program[begin] = ("split", (begin + 1, len(self._program)), 0)
        return wide


def _after_word(before: str, char: str) -> bool:
    return before == "w" and not (char and classes.is_word(char))


def _before_word(before: str, char: str) -> bool:
    return before != "w" and char != "" and classes.is_word(char)


# What each assertion says, given the kind of character before ("" at the start) and the one after.
_LOOKS: dict[str, Callable[[str, str], bool]] = {
    "A": lambda before, _: before == "",
    "z": lambda _, char: char == "",
    "^": lambda before, _: before in ("", "\n"),
    "$": lambda _, char: char in ("", "\n"),
    "b": lambda before, char: _after_word(before, char) or _before_word(before, char),
    "B": lambda before, char: not (_after_word(before, char) or _before_word(before, char)),
    "start": _before_word,
    "end": _after_word,
    "start-half": lambda before, _: before != "w",
    "end-half": lambda _, char: not (char and classes.is_word(char)),
}
_ANCHORS = {"^": "A", "$": "z"}
"""What they say where lines do not count."""
_ESCAPED_LOOKS = {"A": "A", "z": "z", "b": "b", "B": "B", "<": "start", ">": "end"}


class _Parser:
    """Recursive descent over Rust's syntax; makes nodes."""

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._flags = frozenset("i" if ignore_case else "")
        self._names: set[str] = set()

    def parse(self) -> Any:  # noqa: ANN401 - a node
        node = self._alternatives()
        if self._at < len(self._text):
            raise InvalidPatternError("a parenthesis that was not opened")
        return node

    def _alternatives(self) -> Any:  # noqa: ANN401 - a node
        parts = [self._sequence()]
        while self._text.startswith("|", self._at):
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else (_ALT, tuple(parts))

    def _sequence(self) -> Any:  # noqa: ANN401 - a node
        parts: list[Any] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            char = self._text[self._at]
            if char in "*+?{":
                self._repeat(parts)
                continue
            # Nothing for flags alone, which cannot be repeated.
            parts.append(self._primary(char))
        return (_CAT, tuple(part for part in parts if part is not None))

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
        parts[-1] = (_REPEAT, parts[-1], least, most)

    def _counts(self) -> tuple[int, int | None]:
        end = self._text.find("}", self._at)
        inside = self._text[self._at + 1 : end] if end > 0 else ""
        if any(char.isspace() for char in inside):
            raise UnsupportedPatternError("white space in a repetition")
        least, comma, most = inside.partition(",")
        for count in (least, most) if most else (least,):
            if not (count.isascii() and count.isdigit()):
                raise InvalidPatternError("a repetition that is not one")
            if len(count.lstrip("0")) > len(str(_MAX_INSTRUCTIONS)):
                raise UnsupportedPatternError("too large")
        self._at = end + 1
        low = int(least)
        if not comma:
            return low, low
        if most and int(most) < low:
            raise InvalidPatternError("a repetition that ends before it begins")
        return low, int(most) if most else None

    def _primary(self, char: str) -> Any:  # noqa: ANN401 - a node
        if char == "(":
            return self._group()
        if char == "[":
            predicate, self._at = classes.bracketed(self._text, self._at, "i" in self._flags)
            return predicate
        if char == "\\":
            return self._escape()
        self._at += 1
        if char == ".":
            return classes.ANYTHING if "s" in self._flags else classes.NOT_NEWLINE
        if char in _ANCHORS:
            return (_LOOK, char if "m" in self._flags else _ANCHORS[char])
        return classes.literal(char, "i" in self._flags)

    def _escape(self) -> Any:  # noqa: ANN401 - a node
        char = self._text[self._at + 1 : self._at + 2]
        if char not in _ESCAPED_LOOKS or not char:
            what, self._at = classes.escape(self._text, self._at, "i" in self._flags)
            return what if callable(what) else classes.literal(what, "i" in self._flags)
        self._at += 2
        inside = self._text[self._at + 1 : self._at + 2]
        # Else it is a repetition.
        if char == "b" and self._text.startswith("{", self._at) and not inside.isdigit():
            for name in _BOUNDARIES:
                if self._text.startswith(f"{{{name}}}", self._at):
                    self._at += len(name) + 2
                    return (_LOOK, name)
            if inside.isspace():
                raise UnsupportedPatternError("white space in a word boundary")
            raise InvalidPatternError("a word boundary that does not exist")
        return (_LOOK, _ESCAPED_LOOKS[char])

    def _group(self) -> Any:  # noqa: ANN401 - a node, or none for flags alone
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
        return (_CAT, (node,))

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
