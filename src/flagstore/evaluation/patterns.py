r"""Match regular expressions of other dialects with Python's ``re``, in linear time. Pure.

Unleash's official engine uses the Rust crate `regex`, which never backtracks; AppConfig does not
name its dialect. A pattern comes from the provider but is matched against input from users. So it
must mean the same in Python, and no input may make it slow. A pattern is

1. expanded into alternatives, each a flat sequence of characters, repetitions and assertions;
2. simplified, since only whether it matches counts: ``\d+x`` becomes ``\dx``;
3. checked: each repetition scans each run of its characters at most once.

All other patterns are rejected: repeated groups, repetitions that can split the same characters in
many ways, and the rarer parts of Rust's syntax (``\p{Greek}``, ``[a-z&&[^b]]``, ``(?P<name>a)``,
flags elsewhere than at the start). Characters that are newer than this Python's
Unicode tables may be classified differently in Rust.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import category

from flagstore.evaluation.base import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    Matcher: TypeAlias = Callable[[str], object]
    """Returns a true value if the pattern matches anywhere in a string."""

_MAX_ALTERNATIVES, _MAX_PARTS, _MAX_DEPTH = 64, 200, 20
_MAX_LENGTH = 1_000
"""The length of an alternative with its repetitions; Rust limits patterns, too."""
_MAX_STEPS = 120
"""Comparisons at each position of a string, in units of the time to compare two letters."""


class InvalidPatternError(Exception):
    """Rust rejects the pattern, which then never matches."""


def matcher(pattern: str, *, ignore_case: bool = False) -> Matcher:
    r"""Return a function that searches a string for a pattern in Rust's syntax.

    Raises:
        InvalidPatternError: Rust rejects the pattern.
        UnsupportedError: the pattern cannot be matched here. The function raises it, too,
            where Python and Rust differ on which characters of the string are in ``\w``.
    """
    parser = _Parser(pattern, ignore_case=ignore_case)
    sequences = _shortest(map(_simplified, parser.parse()))
    anchored = [_linear(each[1:], anchored=True) for each in sequences if each[:1] == (_BEGIN,)]
    floating = [_linear(each, anchored=False) for each in sequences if each[:1] != (_BEGIN,)]
    if sum(steps for _, steps in (*anchored, *floating)) > _MAX_STEPS:
        raise UnsupportedError("too many comparisons at each position")
    texts = [rf"\A(?:{'|'.join(text for text, _ in anchored)})"] if anchored else []
    compiled = re.compile("|".join([*texts, *(text for text, _ in floating)]))
    found = compiled.search if floating else compiled.match
    if not parser.words:
        return found

    def same_words(text: str) -> object:
        if not text.isascii() and any(_differs(one) for one in {*text} if not one.isascii()):
            raise UnsupportedError(r"\w or \b with a character that Rust classifies otherwise")
        return found(text)

    return same_words


_ATOM = r"(?:[^\\\[\](){}*+?|^$&~\n\r-]|[-&~]|\\[dDwWsS]|\\[\\.\[\](){}*+?|^$/-])"
_MEMBER = r"(?:[^\\\[\]&~^|\n\r-]|\\[dwsDWS]|\\[\\.\[\](){}*+?|^$/-])"
_SET = rf"\[\^?{_MEMBER}(?:-?{_MEMBER})*\]"
_REPETITION = r"(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})\??"
_PORTABLE = rf"(?:(?:{_SET}|{_ATOM}|\))(?:{_REPETITION})?(?![*+?{{])|[|^$]|\((?:\?:)?)*"


def portable_matchers(pattern: str) -> tuple[Matcher, Matcher]:
    r"""Return functions that match a whole string, and any part of it, in every dialect.

    The strings must be printable ASCII.

    Raises:
        UnsupportedError: the pattern cannot be matched here, or uses more than RE2, Rust, Java,
            JavaScript and Python agree on: literals, ``.``, sets, groups, alternatives, repetition,
            ``^``, ``$``, ``\d``, ``\w``, ``\s`` and their opposites, and escaped punctuation.
    """
    if not pattern.isascii() or not re.fullmatch(_PORTABLE, pattern):
        raise UnsupportedError("a pattern that dialects may read differently")
    try:
        return matcher(f"^(?:{pattern})$"), matcher(pattern)
    except InvalidPatternError:
        raise UnsupportedError("an invalid pattern") from None


# -- sets of characters ----------------------------------------------------------------------------

_DIGITS, _SPACES, _WORDS, _OTHERS = (1 << bit for bit in range(128, 132))
"""Bits for the four kinds of non-ASCII characters; each ASCII character has its own."""
_ASCII, _ALL = (1 << 128) - 1, (1 << 132) - 1
_NEWLINE = 1 << ord("\n")


class _Chars(NamedTuple):
    """A set of characters: its text in Python's brackets, and its bits.

    *may* has the bits of all characters in the set; *must* has the bits of which every character
    is in the set.
    """

    text: str
    may: int
    must: int

    @property
    def slow(self) -> bool:
        r"""Whether Python looks the characters up in Unicode's tables."""
        return re.search(r"\\[dDwWS]", self.text) is not None


def _union(sets: Iterable[_Chars]) -> _Chars:
    text, may, must = "", 0, 0
    for one in sets:
        text, may, must = text + one.text, may | one.may, must | one.must
    return _Chars(text, may, must)


def _complement(chars: _Chars, text: str = "") -> _Chars:
    return _Chars(text or f"^{chars.text}", _ALL & ~chars.must, _ALL & ~chars.may)


def _range(low: str, high: str) -> _Chars:
    text = re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}"
    bits = _ASCII & -(1 << min(ord(low), 128)) & ((2 << min(ord(high), 127)) - 1)
    if high.isascii():
        return _Chars(text, bits, bits)
    return _Chars(text, bits | (_block(low) if low == high else _ALL ^ _ASCII), bits)


def _block(char: str) -> int:
    if char.isdecimal():
        return _DIGITS
    if char.isspace():
        return _SPACES
    return _WORDS if _is_word(char) else _OTHERS


_POSIX = {
    "alnum": "09AZaz",
    "alpha": "AZaz",
    "digit": "09",
    "lower": "az",
    "punct": "!/:@[`{~",
    "space": "\t\r  ",
    "upper": "AZ",
    "word": "09AZaz__",
}
"""The ends of the ranges of each ``[:name:]``."""


def _perl(name: str, beyond_ascii: int, text: str, negated: str) -> tuple[_Chars, _Chars]:
    ends = _POSIX[name]
    bits = beyond_ascii | _union(map(_range, ends[::2], ends[1::2])).may
    chars = _Chars(text, bits, bits)
    return chars, _complement(chars, negated)


_PERL: dict[str, _Chars] = {}
_PERL["d"], _PERL["D"] = _perl("digit", _DIGITS, r"\d", r"\D")
_PERL["w"], _PERL["W"] = _perl("word", _DIGITS | _WORDS, r"\w", r"\W")
# Python's \s has four more control characters.
_SPACE_TEXT = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_PERL["s"], _PERL["S"] = _perl("space", _SPACES, _SPACE_TEXT, r"\S\x1c-\x1f")
_NOT_NEWLINE = _Chars(r"^\n", _ALL ^ _NEWLINE, _ALL ^ _NEWLINE)
_ANYTHING = _Chars(r"\s\S", _ALL, _ALL)


def _is_word(char: str) -> bool:
    r"""Return whether a non-ASCII character matches Rust's ``\w``.

    Besides letters, marks, digits and connectors, ``\w`` matches letters in circles and squares and
    joiners (Other_Alphabetic and Join_Control in Unicode's PropList.txt).
    """
    kind = category(char)
    bounds = "\u24b6\u24e9\U0001f130\U0001f149\U0001f150\U0001f169\U0001f170\U0001f189\u200c\u200d"
    others = any(bounds[at] <= char <= bounds[at + 1] for at in range(0, len(bounds), 2))
    return kind[0] in "LM" or kind in ("Nd", "Nl", "Pc") or others


def _differs(char: str) -> bool:
    r"""Return whether a non-ASCII character matches ``\w`` in only one of Python and Rust."""
    return _is_word(char) is not char.isalnum()


def _cases(char: str) -> str:
    """Return the characters that differ from one in case only, itself included."""
    if char.isascii() or (char <= "\xff" and char not in "\xb5\xc5\xdf\xe5"):
        return {"k": "kK\u212a", "s": "sS\u017f"}.get(char.lower(), char.lower() + char.upper())
    if char.lower() != char.upper() or char.casefold() != char:
        raise UnsupportedError(f"{char!r} without regard to case")
    return char


# -- parsing ---------------------------------------------------------------------------------------


class _Repeat(NamedTuple):
    """A repetition of any characters of a set; unlimited where *high* is None."""

    chars: _Chars
    low: int = 1
    high: int | None = 1

    @property
    def fixed(self) -> bool:
        return self.low == self.high

    @property
    def text(self) -> str:
        most = "" if self.high is None else self.high
        counts = f"{{{self.low}}}" if self.fixed else f"{{{self.low},{most}}}"
        return f"[{self.chars.text}]{'' if self.low == self.high == 1 else counts}"

    @property
    def least(self) -> _Repeat:
        return self._replace(high=self.low)


if TYPE_CHECKING:
    Sequence: TypeAlias = tuple[_Repeat | str, ...]
    """Repetitions, and assertions in Python's syntax."""

_BEGIN, _END, _LINE_BEGIN, _LINE_END = r"\A", r"\Z", "(?m:^)", "(?m:$)"
_ASSERTIONS = {"^": _BEGIN, "$": _END, r"\A": _BEGIN, r"\z": _END, r"\b": r"\b", r"\B": r"(?!\b)"}
_CONTROLS = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_QUANTIFIERS = ("*", "+", "?", "{")
_QUANTIFIER = r"(?:([*+?])|\{([0-9]{1,4})(?:(,)([0-9]{0,4}))?\})\??"
_BRACKETS = r"(?s)\[(\^?)(\]?(?:[^\]\\\[]|\\.|\[:[a-z]+:\])*)\]"
_MEMBERS = r"(?s)\[:([a-z]+):\]|(\\?.)(?:-(\\?.))?"


class _Parser:
    """A recursive descent parser of Rust's syntax that expands groups into sequences."""

    def __init__(self, text: str, *, ignore_case: bool) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        start = re.match(r"(\^(?!\(\?[ims]+\)[*+?{])|)\(\?([ims]+)\)", text)
        flags = start[2] if start else ""
        if start and (len({*flags}) < len(flags) or (start[1] and "m" in flags)):
            raise UnsupportedError("flags")
        if start:
            self._text = start[1] + text[start.end() :]
        self._ignore_case = ignore_case or "i" in flags
        self._any = _ANYTHING if "s" in flags else _NOT_NEWLINE
        lines = {"^": _LINE_BEGIN, "$": _LINE_END} if "m" in flags else {}
        self._assertions = _ASSERTIONS | lines
        self.words = False

    def parse(self) -> list[Sequence]:
        """Return the pattern's alternatives."""
        sequences = self._alternatives()
        if self._at < len(self._text):
            raise InvalidPatternError("unopened group")
        if any(sum(map(_length, sequence)) > _MAX_LENGTH for sequence in sequences):
            raise UnsupportedError("pattern too long")
        return sequences

    def _alternatives(self) -> list[Sequence]:
        found = self._sequence()
        while self._match(r"\|"):
            found = _checked(found + self._sequence())
        return found

    def _sequence(self) -> list[Sequence]:
        found: list[Sequence] = [()]
        while self._at < len(self._text) and not self._begins("|", ")"):
            found = _joined(found, self._repeated(self._item()))
        return found

    def _begins(self, *texts: str) -> bool:
        return self._text.startswith(texts, self._at)

    def _match(self, pattern: str) -> re.Match[str] | None:
        """Advance past a match of what is next, if it matches."""
        found = re.compile(pattern).match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found

    def _item(self) -> list[Sequence]:
        if self._begins(*_QUANTIFIERS):
            raise InvalidPatternError("nothing to repeat")
        if self._match(r"\("):
            return self._group()
        part: _Repeat | str
        if found := self._match(r"[$^]|\\[AzbB](?!\{)"):
            part = self._assertions[found[0]]
            self.words |= found[0] in (r"\b", r"\B")
        elif self._begins("["):
            part = _Repeat(self._brackets())
        elif self._match(r"\."):
            part = _Repeat(self._any)
        else:
            found = self._match(r"(?s)\\?.")
            part = _Repeat(self._chars(self._unescaped(found[0] if found else "")))
        return [(part,)]

    def _repeated(self, item: list[Sequence]) -> list[Sequence]:
        """Apply the quantifier that follows an item, if any."""
        found = self._match(_QUANTIFIER)
        if self._begins(*_QUANTIFIERS):
            raise UnsupportedError("repetition of a repetition")
        if found is None:
            return item
        char, least, comma, most = found.groups()
        if char:
            return _copies(item, 1 if char == "+" else 0, 1 if char == "?" else None)
        high = int(most) if most else None if comma else int(least)
        if high is not None and high < int(least):
            raise InvalidPatternError("repetition with its maximum below its minimum")
        return _copies(item, int(least), high)

    def _group(self) -> list[Sequence]:
        if self._begins("?=", "?!", "?<=", "?<!"):
            raise InvalidPatternError("look-around")
        if not self._match(r"\?:") and self._begins("?"):
            raise UnsupportedError("a group with flags or a name")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnsupportedError("groups nested too deeply")
        found = self._alternatives()
        self._depth -= 1
        if not self._match(r"\)"):
            raise InvalidPatternError("unclosed group")
        return found

    def _unescaped(self, text: str) -> str | _Chars:
        """Return the character, or set of characters, that a character or an escape stands for."""
        if text[:1] != "\\":
            return text
        char = text[1:]
        if not char or char in "0123456789":
            raise InvalidPatternError("back-reference, or nothing to escape")
        if char in _PERL:
            self.words |= char in "wW"
            return _PERL[char]
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isascii() and char.isprintable() and not char.isalnum() and char not in "<>":
            return char
        raise UnsupportedError(f"escape \\{char}")

    def _chars(self, low: str | _Chars, high: str = "") -> _Chars:
        """Return the set of a range of characters, in both cases where case is ignored."""
        if isinstance(low, _Chars):
            return low
        high = high or low
        if not self._ignore_case:
            return _range(low, high)
        if ord(high) - ord(low) > _MAX_LENGTH:
            raise UnsupportedError("range of too many characters")
        chars = map(chr, range(ord(low), ord(high) + 1))
        return _union(_range(one, one) for one in sorted({*"".join(map(_cases, chars))}))

    def _brackets(self) -> _Chars:
        found = self._match(_BRACKETS)
        if found is None or re.search(r"&&|--|~~|^\]-", found[2]):
            raise UnsupportedError("nested, combined or unclosed character class")
        chars = _union(self._member(*one.groups("")) for one in re.finditer(_MEMBERS, found[2]))
        return _complement(chars) if found[1] else chars

    def _member(self, name: str, low: str, high: str) -> _Chars:
        """Return the set of a name such as ``alpha``, or of one character or range."""
        if name:
            if name not in _POSIX:
                raise UnsupportedError("unknown character class")
            return _union(map(self._chars, _POSIX[name][::2], _POSIX[name][1::2]))
        first, last = self._unescaped(low), self._unescaped(high)
        if high and (isinstance(first, _Chars) or isinstance(last, _Chars) or last < first):
            raise UnsupportedError("invalid range")
        return self._chars(first, high and str(last))


def _length(part: _Repeat | str) -> int:
    r"""Return the length of a part, where ``\w`` and the like count more, as they do in Rust."""
    if isinstance(part, str):
        return 0
    return max(part.low, part.high or 1) * (16 if part.chars.slow else 1)


def _checked(sequences: list[Sequence]) -> list[Sequence]:
    if len(sequences) > _MAX_ALTERNATIVES or any(len(each) > _MAX_PARTS for each in sequences):
        raise UnsupportedError("too many alternatives")
    return sequences


def _joined(left: list[Sequence], right: list[Sequence]) -> list[Sequence]:
    """Return every combination of one sequence followed by another."""
    return _checked([first + then for first in left for then in right])


def _copies(item: list[Sequence], low: int, high: int | None) -> list[Sequence]:
    """Return the alternatives of a repeated item."""
    parts = [one[0] for one in item if len(one) == 1]
    chars = [part.chars for part in parts if isinstance(part, _Repeat) and part[1:] == (1, 1)]
    negated = any(one.text.startswith("^") for one in chars)
    if len(chars) == len(item) and not (negated and len(item) > 1):
        return [(_Repeat(_union(chars), low, high),)]
    if high is None:
        raise UnsupportedError("repeated group")
    found: list[Sequence] = []
    copies: list[Sequence] = [()]
    for count in range(high + 1):
        found += copies if count >= low else []
        copies = _joined(copies, item) if count < high else []
    return _checked(found)


# -- linear time -----------------------------------------------------------------------------------


def _simplified(sequence: Sequence) -> Sequence:
    """Return a sequence that matches in the same strings, with fewer repetitions."""
    parts: list[_Repeat | str] = []
    for part in sequence:
        # A pattern may match anywhere, as if it began and ended with (?s:.*).
        last = parts[-1] if parts else _Repeat(_ANYTHING, 0, None)
        if isinstance(part, _Repeat) and isinstance(last, _Repeat):
            if _absorbs(last, part):
                part = part.least  # noqa: PLW2901 - the same, simplified
            elif _absorbs(part, last):
                parts[-1:] = [last.least] if last.low else []
        if isinstance(part, str) or part.high != 0:
            parts.append(part)
    while parts and isinstance(parts[-1], _Repeat) and not parts[-1].fixed:
        parts[-1:] = [parts[-1].least] if parts[-1].low else []
    return tuple(parts)


def _absorbs(one: _Repeat, other: _Repeat) -> bool:
    """Return whether a repetition can take the characters beyond its neighbor's minimum."""
    return one.high is None and not other.chars.may & ~one.chars.must


def _shortest(sequences: Iterable[Sequence]) -> list[Sequence]:
    """Drop the sequences that begin with another one, which matches wherever they do."""
    found: list[Sequence] = []
    for sequence in sorted(sequences, key=len):
        if not any(sequence[: len(one)] == one for one in found):
            found.append(sequence)
    return found


def _linear(parts: Sequence, *, anchored: bool) -> tuple[str, int]:
    """Translate a simplified sequence so that it takes linear time; return its steps, too.

    A repetition is tried at each position where it may begin. That takes linear time if there is
    only one such position (*once*), or only one in each run of its characters: if the character
    before is not one of them, and there is only one way to get there. A repetition is possessive,
    so that there is only one way on, where the next part cannot begin with its characters.
    """
    texts: list[str] = []
    steps = 0
    loop: _Repeat | None = None
    once = loop_once = anchored
    begin = loop_end = 0
    before = 0 if anchored else _ALL
    for at, part in enumerate(parts):
        if isinstance(part, str):
            texts.append(part)
            before = _NEWLINE if part == _LINE_BEGIN else before
            continue
        if not once:
            steps += _weight(part)
        if part.fixed:
            texts.append(part.text)
            before = part.chars.may
            continue
        if not once and before & part.chars.may:
            texts[begin:] = [_first_place(loop, loop_once, parts[loop_end:at], part)]
            once = loop_once
        possessive = not part.chars.may & _first(parts[at + 1 :])
        begin, loop_end, loop, loop_once = len(texts), at + 1, part, once
        texts.append(f"{part.text}+" if possessive else part.text)
        before = part.chars.may | (0 if part.low else before)
        once = once and possessive
    return "".join(texts), steps


def _first_place(
    loop: _Repeat | None,
    once: bool,  # noqa: FBT001 - of the loop
    between: Sequence,
    part: _Repeat,
) -> str:
    """Translate the parts before a repetition so that only their first match is tried.

    In ``a.*b``, the first ``a`` of a line is enough: ``.`` matches everything up to any other.
    *loop* is the previous repetition, None at the beginning of a pattern without an anchor.
    """
    chars = part.chars
    fixed = [one for one in between if isinstance(one, _Repeat) and not one.chars.may & ~chars.must]
    if part.high is None and len(fixed) == len(between):
        text = "".join(one.text for one in fixed)
        if loop is None:
            return f"(?<![{chars.text}])(?>[{chars.text}]*?{text})"
        same = chars.may == chars.must == loop.chars.may == loop.chars.must
        if same or (once and not loop.chars.may & ~chars.must):
            return f"(?>{loop.text}?{text})"
    raise UnsupportedError("repetitions that can split a string in many ways")


def _first(parts: Sequence) -> int:
    """Return the bits of the characters that a match of some parts may begin with."""
    found = 0
    for part in parts:
        if isinstance(part, str):
            return found | {_END: 0, _LINE_END: _NEWLINE}.get(part, _ALL)
        found |= part.chars.may
        if part.low:
            break
    return found


def _weight(part: _Repeat) -> int:
    """Return the time that comparing a part takes, in units of that of two letters."""
    count = part.low if part.fixed else 1
    if part.chars.slow:
        return 5 * count
    return count if count > 1 or len(part.chars.text) <= 2 else 3  # noqa: PLR2004 - a literal
