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

from flagstore.evaluation.unleash_regex_characters import is_word
from flagstore.evaluation.unleash_regex_classes import InvalidPatternError, UnsupportedPatternError
from flagstore.evaluation.unleash_regex_parser import ALT, CAT, LOOK, Parser

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.evaluation.unleash_regex_parser import Node

__all__ = ["InvalidPatternError", "Pattern", "UnsupportedPatternError"]

_MAX_INSTRUCTIONS = 4_000
"""Rust allows 10 MB; what is larger than this here might be larger than that."""
_MAX_WIDE = 60
"""Instructions for characters beyond ASCII, which are the large ones in Rust."""
_MAX_WORK = 50_000
"""Nodes that are visited to make the instructions, also of what matches nothing."""
_MAX_KEPT = 200_000
"""Transitions, and instructions in states, that are kept: some ten megabytes."""

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
        node = Parser(text, ignore_case=ignore_case).parse()
        self._program: list[tuple[str, Any, int]] = []
        self._work = 0
        wide = self._emit(node)
        self._add("found", None)
        if wide > _MAX_WIDE:
            raise UnsupportedPatternError("too large")
        self._looks = any(kind == LOOK for kind, _, _ in self._program)
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
        return "w" if char and is_word(char) else "o"

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
            elif kind == LOOK:
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

    def _emit(self, node: Node) -> int:
        """Append what matches a node; returns how many wide instructions it has."""
        self._work += 1
        if self._work > _MAX_WORK:
            raise UnsupportedPatternError("too large")
        if callable(node):
            self._add("char", node)
            return 0 if getattr(node, "narrow", False) else 1
        kind, parts = node[0], node[1]
        if kind == LOOK:
            self._add(LOOK, parts)
            return 0
        if kind == CAT:
            return sum(self._emit(part) for part in parts)
        return self._emit_alternatives(parts) if kind == ALT else self._emit_repeat(*node[1:])

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

    def _emit_repeat(self, node: Node, least: int, most: int | None) -> int:
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
    return before == "w" and not (char and is_word(char))


def _before_word(before: str, char: str) -> bool:
    return before != "w" and char != "" and is_word(char)


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
    "end-half": lambda _, char: not (char and is_word(char)),
}
