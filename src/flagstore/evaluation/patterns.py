r"""Match regular expressions of other dialects with Python's ``re``, in bounded time. No I/O.

Unleash's official engine uses the Rust crate `regex`, which never backtracks; AppConfig does not
name its dialect. A pattern comes from the provider but is matched against input from users. So it
must mean the same in Python, and no input may make it slow:

- The parts of Rust's syntax in common use are translated; the rest is refused.
- Only single characters may be repeated without limit, so that the time for a string of a given
  length is bounded. Longer strings are refused.
- Only whether a pattern matches matters: ``\d+x`` becomes ``\dx``, and in ``^.*a.*b``, the first
  ``a`` is enough.

Characters that are newer than this Python's Unicode tables may be classified differently in Rust.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import category

from flagstore.evaluation.base import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Matcher: TypeAlias = Callable[[str], bool]
    """Returns whether the pattern matches anywhere in a string."""
    Chars: TypeAlias = frozenset[str]
    """The sample characters that an item may begin with."""

_MAX_STEPS = 400_000
"""Maximum steps of ``re`` for one string: a few milliseconds."""
_LENGTHS = (100_000, 30_000, 10_000, 3_000, 1_000, 500, 400, 300, 200, 100, 50)
"""Maximum lengths of a string to try; a pattern too slow for the shortest is refused."""
_MAX_LENGTH, _MAX_GROUPS, _MAX_COPIES = 1_000, 50, 50
"""Limits of a pattern with its repetitions expanded; Rust has some, too."""
_ENDLESS = 1 << 32


class InvalidPatternError(Exception):
    """Rust rejects the pattern, which then never matches."""


def matcher(pattern: str, *, ignore_case: bool = False) -> Matcher:
    """Return a function that searches a string for a pattern in Rust's syntax.

    Raises:
        InvalidPatternError: Rust rejects the pattern.
        UnsupportedError: the pattern cannot be matched here. The function raises it, too, if the
            string is too long, or Python and Rust differ on its characters.
    """
    pattern, flags = _without_flags(pattern, re.IGNORECASE if ignore_case else re.NOFLAG)
    sequences = _parse(pattern, flags)
    for limit in _LENGTHS:
        translated, steps = _bounded(sequences, limit)
        if steps <= _MAX_STEPS:
            break
    else:
        raise UnsupportedError("repetitions that can split a string in many ways")
    search = re.compile(translated, flags).search
    words = re.search(r"\\[wWbB]", pattern)
    # Python's \s has four more characters, and its i equals two Turkish letters.
    odd = "\x1c\x1d\x1e\x1f" + ("\u0130\u0131" if flags & re.IGNORECASE else "")

    def found(text: str) -> bool:
        if len(text) > limit:
            raise UnsupportedError("a value that is too long for this pattern")
        if not (text.isascii() and text.isprintable()):
            for one in {*text}:
                if one in odd or (words and _differs(one)):
                    raise UnsupportedError(f"the character {one!r}")
        return search(text) is not None

    return found


_ATOM = r"(?:[^\\\[\](){}*+?|^$&~\n\r-]|[-&~]|\\[dDwWsS]|\\[\\.\[\](){}*+?|^$/-])"
_MEMBER = r"(?:[^\\\[\]&~^|\n\r-]|\\[dwsDWS]|\\[\\.\[\](){}*+?|^$/-])"
_SET = rf"\[\^?{_MEMBER}(?:-?{_MEMBER})*\]"
_REPETITION = r"(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})\??"
_PORTABLE = rf"(?:(?:{_SET}|{_ATOM}|\))(?:{_REPETITION})?(?![*+?{{])|[|^$]|\((?:\?:)?)*"


def portable_matchers(pattern: str) -> tuple[Matcher, Matcher]:
    r"""Return functions that match a whole string, and any part of it, in every dialect.

    The strings must be printable ASCII; the functions raise UnsupportedError for one too long.

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


_WORD_KINDS = frozenset(["Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"])
_OTHER_WORDS = re.compile(
    "[\u24b6-\u24e9\U0001f130-\U0001f149\U0001f150-\U0001f169\U0001f170-\U0001f189\u200c\u200d]"
)
"""Letters in circles and squares, and joiners (Other_Alphabetic, Join_Control in PropList.txt)."""


def _differs(char: str) -> bool:
    r"""Return whether a character is in ``\w`` of only one of Python and Rust."""
    in_rust = category(char) in _WORD_KINDS or _OTHER_WORDS.match(char) is not None
    return in_rust is not (char == "_" or char.isalnum())


# -- parsing ---------------------------------------------------------------------------------------

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t-\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
}
_ESCAPE = r"\\[dDwWsSaftnrv -/:;=?@\[-`{-~]"
_TOKEN = re.compile(
    rf"""
      (?P<invalid>\(\?<?[=!]|\\[0-9])
    | (?P<open>\((?!\?)|\(\?:)
    | (?P<bar>\|)
    | (?P<close>\))
    | (?P<count>(?:([*+?])|\{{([0-9]{{1,3}})(?:(,)([0-9]{{0,3}}))?\}})\??)
    | (?P<assertion>[$^]|\\[AzbB](?!\{{))
    | (?P<atom>{_ESCAPE}|\[\^?\]?(?:[^\]\\\[]|{_ESCAPE}|\[:[a-z]+:\])*\]|[^\\\[*+?{{()|$^])
    """,
    re.VERBOSE | re.DOTALL,
)
_ASCII = frozenset(map(chr, range(128)))
_OTHERS = frozenset("\u0663\u3000é€\u212a\u017f")
"""A digit, a space, a letter and another character, and two that equal k and s."""


class _Atom(NamedTuple):
    """A character of a set, repeated."""

    text: str
    chars: Chars
    low: int = 1
    high: int = 1

    @property
    def size(self) -> int:
        r"""The length; classes such as ``\w`` count more, as in Rust."""
        count = self.low if self.high == _ENDLESS else self.high
        return count * (16 if re.search(r"\\[dDwWS]", self.text) else 1)

    @property
    def repeated(self) -> str:
        most = "" if self.high == _ENDLESS else self.high
        return self.text if self.low == self.high == 1 else f"{self.text}{{{self.low},{most}}}"


class _Group(NamedTuple):
    """Alternatives, each of which may contain assertions in Python's syntax."""

    sequences: list[list[_Atom | _Group | str]]

    @property
    def size(self) -> int:
        """At least 1: copies of a group that takes no character must not be free."""
        return max(1, sum(sum(map(_size, one)) for one in self.sequences))


if TYPE_CHECKING:
    Sequence: TypeAlias = list[_Atom | _Group | str]


def _size(part: _Atom | _Group | str) -> int:
    return 0 if isinstance(part, str) else part.size


def _without_flags(pattern: str, flags: re.RegexFlag) -> tuple[str, re.RegexFlag]:
    """Return a pattern without the flags at its beginning, and all flags."""
    start = re.match(r"(\^?)\(\?([ims]+)\)", pattern)
    if start:
        if len({*start[2]}) < len(start[2]) or (start[1] and "m" in start[2]):
            raise UnsupportedError("flags")
        pattern = start[1] + pattern[start.end() :]
        for letter in start[2]:
            flags |= re.RegexFlag[letter.upper()]
    if flags & re.IGNORECASE and re.search("[\u0130\u0131]|-[\u0132-\U0010ffff]", pattern):
        raise UnsupportedError("case-insensitive Turkish letters")
    return pattern, flags


def _parse(pattern: str, flags: re.RegexFlag) -> list[Sequence]:
    """Return the alternatives of a pattern."""
    if len(pattern) > _MAX_LENGTH or pattern.count("(") > _MAX_GROUPS:
        raise UnsupportedError("pattern too long")
    tokens = [*_tokens(pattern, flags)]
    try:
        re.compile("".join(text for _, text, _ in tokens), flags)
    except re.error:
        raise InvalidPatternError from None
    groups: list[list[Sequence]] = [[[]]]
    for kind, text, counts in tokens:
        sequence = groups[-1][-1]
        if kind == "open":
            groups.append([[]])
        elif kind == "bar":
            groups[-1].append([])
        elif kind == "close":
            closed = groups.pop()
            groups[-1][-1].append(_grouped(closed))
        elif kind == "count":
            sequence += _repeated(sequence.pop(), *counts)
        elif kind == "assertion":
            sequence.append(text)
        else:
            chars = _OTHERS if not text.isascii() else frozenset()
            found = re.compile(text, flags).findall("".join(_ASCII | _OTHERS))
            sequence.append(_Atom(text, chars.union(found)))
    if _Group(groups[0]).size > _MAX_LENGTH:
        raise UnsupportedError("pattern too long")
    return groups[0]


def _tokens(pattern: str, flags: re.RegexFlag) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield each token's kind, its syntax in Python, and how often it repeats the last."""
    assertions = {r"\z": r"\Z", r"\B": r"(?!\b)"}
    if not flags & re.MULTILINE:
        assertions |= {"^": r"\A", "$": r"\Z"}
    at, before = 0, ""
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            raise UnsupportedError(f"syntax {pattern[at : at + 9]!r}")
        kind, text, counts = str(token.lastgroup), token[0], (1, 1)
        if kind == "invalid":
            raise InvalidPatternError
        if kind == "count":
            if before in ("count", "assertion"):
                raise UnsupportedError("repetition of a repetition")
            char, least, comma, most = token.group(6, 7, 8, 9)
            low = int(least or char == "+")
            high = int(most or (_ENDLESS if comma or char in ("*", "+") else least or 1))
            counts = low, high
        elif kind == "open":
            text = "(?:"
        elif text[0] == "[":
            if re.search(r"&&|--|~~|\|\||^\[\^?\]-|-\[:|:\]-.", text[:-1]):
                raise UnsupportedError("combined character classes")
            text = re.sub(rf"{_ESCAPE}|\[:([a-z]+):\]", _posix, text)
        yield kind, assertions.get(text, text), counts
        at, before = token.end(), kind


def _posix(name: re.Match[str]) -> str:
    if name[1] is None:  # an escape, which a name may follow: ``[\\[:alpha:]``
        return name[0]
    if name[1] not in _POSIX:
        raise UnsupportedError("unknown character class")
    return _POSIX[name[1]]


def _grouped(sequences: list[Sequence]) -> _Atom | _Group:
    """Return alternatives, as an atom if each is a single character."""
    atoms = [one[0] for one in sequences if len(one) == 1 and isinstance(one[0], _Atom)]
    if len(atoms) < len(sequences) or not all(map(_is_fixed, atoms)):
        return _Group(sequences)
    text = "|".join(one.text for one in atoms)
    return _Atom(f"(?:{text})", frozenset().union(*(one.chars for one in atoms)))


def _repeated(item: _Atom | _Group | str, low: int, high: int) -> Sequence:
    """Return a repeated item; a group is copied."""
    if isinstance(item, _Atom):
        return [item._replace(low=low, high=high)]
    if isinstance(item, str) or high > _MAX_COPIES or item.size * high > _MAX_LENGTH:
        raise UnsupportedError("repeated group")
    optional: Sequence = []
    for _ in range(low, high):
        optional = [_Group([[item, *optional], []])]
    return [item] * low + optional


# -- time ------------------------------------------------------------------------------------------


class _Tail(NamedTuple):
    """The remainder of a pattern."""

    text: str
    steps: int
    """The maximum number from one position of a string."""
    first: Chars | None
    """Characters that a match may begin with; None if anything matches."""


def _bounded(sequences: list[Sequence], length: int) -> tuple[str, int]:
    """Translate a pattern; return it and the maximum steps for a string of this length."""
    texts = []
    total = length
    for sequence in sequences:
        anchored = sequence[:1] == [r"\A"]
        parts = sequence if anchored else _without_lead(sequence)
        tails = _tails(parts, length, _Tail("", 1, None))
        texts.append(tails[0].text)
        total += tails[0].steps if anchored else length * _steps_per_place(parts, tails)
    return "|".join(texts), total


def _steps_per_place(parts: Sequence, tails: list[_Tail]) -> int:
    """Return the average number of steps if all places of a string are tried."""
    chars = [one.chars for one in takewhile(_is_fixed, parts) if isinstance(one, _Atom)]
    # Few places match the first character; ``foo`` matches at every third one at most.
    overlaps = sum(not one.isdisjoint(chars[0]) for one in chars)
    shifts = range(1, len(chars) + 1)
    period = next((by for by in shifts if not any(map(frozenset.isdisjoint, chars, chars[by:]))), 1)
    return min(len(chars), 1 + overlaps) + tails[len(chars)].steps // period + 1


def _is_fixed(part: _Atom | _Group | str) -> bool:
    return isinstance(part, _Atom) and part.low == part.high == 1


def _without_lead(sequence: Sequence) -> Sequence:
    """Reduce the repetitions that a pattern begins with, since it may match anywhere."""
    while sequence and isinstance(lead := sequence[0], _Atom) and lead.low < lead.high:
        sequence = [*([lead._replace(high=lead.low)] if lead.low else []), *sequence[1:]]
    return sequence


def _tails(sequence: Sequence, length: int, end: _Tail) -> list[_Tail]:
    """Translate a sequence that *end* follows; return the tail from each part on."""
    tails = [end]
    for at, part in reversed([*enumerate(sequence)]):
        text, steps, first = tails[0]
        if isinstance(part, str):
            then = {r"\Z": frozenset[str](), "$": frozenset("\n")}.get(part, _ASCII | _OTHERS)
            tail = _Tail(part + text, steps + 1, then)
        elif isinstance(part, _Group):
            ways = [_tails(one, length, _Tail("", steps, first))[0] for one in part.sequences]
            tail = _Tail(
                f"(?:{'|'.join(one.text for one in ways)}){text}",
                sum(one.steps for one in ways),
                frozenset().union(*(one.first or () for one in ways)),
            )
        elif part.low == part.high or first is None:
            # At the end of a pattern, the fewest repetitions are enough.
            least = part._replace(high=part.low)
            tail = _Tail(least.repeated + text, steps + part.low, part.chars)
            tail = tail if part.low else tails[0]
        else:
            count = min(part.high, length)
            begins = part.chars if part.low else part.chars | first
            fixed = _fixed_before_same(part, sequence[at + 1 :])
            if part.chars.isdisjoint(first):
                tail = _Tail(f"{part.repeated}+{text}", steps + count, begins)
            elif fixed is not None:
                found = "".join(one.repeated for one in fixed)
                rest = tails[len(fixed)]
                cost = count * (1 + sum(one.low for one in fixed))
                tail = _Tail(f"(?>{part.repeated}?{found}){rest.text}", rest.steps + cost, begins)
            else:
                places = max(count - part.low + 1, 1)
                cost = places * _steps_per_place(sequence[at + 1 :], tails)
                tail = _Tail(part.repeated + text, count + cost, begins)
        tails.insert(0, tail)
    return tails


def _fixed_before_same(part: _Atom, following: Sequence) -> list[_Atom] | None:
    """Return the parts between a repetition and the next one of the same characters.

    Their first match is enough, since the next repetition matches everything up to any other.
    """
    fixed: list[_Atom] = []
    for one in following:
        if not isinstance(one, _Atom) or not one.chars <= part.chars:
            return None
        if one.high == _ENDLESS:
            return fixed if one.text == part.text and part.text.isascii() else None
        if one.low < one.high:
            return None
        fixed.append(one)
    return None
