"""Patterns of Rust's regex crate in Python: their meaning, and the time that they take."""

from __future__ import annotations

import contextlib
import re
import time
from random import Random
from typing import TYPE_CHECKING

import pytest

from flagstore.evaluation.base import UnsupportedError
from flagstore.evaluation.patterns import InvalidPatternError, matcher, portable_matchers

if TYPE_CHECKING:
    from flagstore.evaluation.patterns import Matcher

LENGTH = 10_000
TIMED, WORST_S = 1_500, 0.005


@pytest.mark.parametrize(
    ("pattern", "texts", "others"),
    [
        ("", ["", "a"], []),
        ("^cat$", ["cat"], ["cat\n", "a cat", "Cat"]),
        ("(?m)^foo$", ["foo\nbar", "bar\nfoo\n"], ["foobar"]),
        ("^(?i)Ab$|^c$", ["ab", "aB", "C"], ["abC"]),
        ("^[[:alpha:]]+$", ["abc"], ["é", "a1"]),
        ("(?i)[k-m]é", ["KÉ", "\u212aé"], ["jé"]),
        ("(?i)^пётр$", ["Пётр", "ПЁТР"], ["пётра"]),
        ("(?s)^a.b$", ["a\nb"], ["ab"]),
        ("a.b", ["a\rb", "a\x85b"], ["a\nb"]),
        (r"^\d{3}$", ["123", "\u0661\u0662\u0663"], ["12", "1234"]),
        (r"^\w+$", ["a_1", "é"], ["a-b", "日-本"]),
        (r"^\W$", ["-", "€"], ["e", "é"]),
        (r"\bcat\b", ["a cat", "cat€"], ["cats", "caté"]),
        (r"^\B$", [""], ["a"]),
        (r"^\s\S$", ["\x85a", "\u3000b"], ["aa"]),
        ("^[]a^-]$", ["]", "a", "^", "-"], ["b"]),
        (r"^[\[:alpha:]+$", ["[:alph"], ["b", "]"]),
        ("^[^]a]$", ["b", "\n"], ["]", "a"]),
        ("^(?:foo|fo|(?:x){2,3})$", ["foo", "fo", "xx", "xxx"], ["x", "f", "xxxx"]),
        ("^([^a]|[a-c]){1,2}$", ["a", "bx", "xa"], ["", "abc"]),
        ("^(a|b)*c$", ["c", "abbac"], ["abd"]),
        (r"^[^@]+@[^@]+\.[^@]+$", ["ada@x.org", "a@b.c.d"], ["ada@x", "a@@b.c", "@b.c"]),
        ("foo.*bar.*baz", ["foofoobarbazbaz", "\nfoo bar baz"], ["foo\nbarbaz", "foo baz bar"]),
        (r"^.*(dev|staging)\d*$", ["a-dev12", "devdev"], ["dev-x"]),
        ("^(?:ab){1,2}$", ["ab", "abab"], ["", "ababab"]),
        # What a repetition may give back.
        ("^a*b?a$", ["aa", "aba"], ["b"]),
        ("^[^x]*[ax][^x]*$", ["axb"], ["axxb"]),
        ("^[ab]*aa*$", ["aba"], ["ab"]),
        ("^ü*[^a]$", ["ü"], ["a"]),
        ("(?ms)a.*$\nb", ["a\nb"], ["a\nc"]),
    ],
)
def test_meaning(pattern: str, texts: list[str], others: list[str]) -> None:
    """A pattern is found where Rust finds it, also beyond ASCII and at the ends of lines."""
    found = matcher(pattern)
    assert [text for text in texts if not found(text)] == []
    assert [text for text in others if found(text)] == []


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)", "(?<!a)b", r"(a)\1", "(regex", "a)", "(?i)*", "a|+", "a{2,1}", "[z-a]", r"[\d-z]"],
)
def test_patterns_that_rust_refuses(pattern: str) -> None:
    """Look-around, back-references and errors of syntax are invalid in Rust."""
    with pytest.raises(InvalidPatternError):
        matcher(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+$", "(a|aa)+$", "(a*)*b", "((a?){20}){20}b", r"^\d+(\.\d+)*$", "a++", "^*"),
        *("^.*[^a]*[^b]*[^c]*d", "a.*b[^c]*d[^e]*f[^g]*h", "^(a|ab|abb|b*)(a|b*)(a|b*)(a|b*)$"),
        *(r"\p{Greek}", "[a-z&&b]", "(?x) a", "(?-u)a", r"\x41", r"\<a", r"\b{start}a", "\\"),
        *("[a", "[]-a]", "[[:foo:]]", "(?P<a>b)", "(?i:a)", "a(?i)b", "^(?i)?a", "^(?m)a", "(?ii)"),
        *("a{9999}", "((((^){50}){50}){50}){50}", r"\w{100}"),
        *("(?:aa|b){90}", "(" * 99 + ")" * 99, "(?i)[à-ž]"),
    ],
)
def test_unsupported_patterns(pattern: str) -> None:
    """What may take too long, or mean something else, is refused."""
    with pytest.raises(UnsupportedError):
        matcher(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        *((r"\w", "²"), (r"^\W$", "e\u0301"), (r"[\w-]", "\u24b6"), (r"a\b", "²"), (r"\s", "\x1c")),
        *(("(?i)i", "\u0131"), ("^.*a.*b$", "\n²ab" * 99_999), ("a.*b", "a" * 9_999)),
    ],
)
def test_unsupported_values(pattern: str, text: str) -> None:
    """A value is refused if Rust classifies its characters otherwise, or if it is too long."""
    with pytest.raises(UnsupportedError):
        matcher(pattern)(text)
    assert matcher("^[^a]*")("²")


@pytest.mark.parametrize(
    ("pattern", "texts", "length"),
    [
        (r"\d+x", ["1"], 30_000),
        (r"\d+\d+\d+$", ["1"], 300),
        ("foo.*bar.*baz", ["foo", "foobar"], 300),
        (r"^.+@.+\..+$", ["a@", "@", "@."], 30_000),
        (r"^[^@]+@[^@]+\.[^@]+$", ["a.", "."], 30_000),
        (r"Chrome/(\d+)\..*Mobile.*Safari", ["Chrome/1.", "Chrome/1.Mobile"], 400),
        (r"https?://[^/]*\.example\.com", ["http://", ".example"], 400),
        (r"^(\d{1,3}\.){3}\d{1,3}$", ["1.", "123"], 30_000),
    ],
)
def test_lengths(pattern: str, texts: list[str], length: int) -> None:
    """Values as long as people have them are not refused, and end in no match."""
    found = matcher(pattern)
    for text in texts:
        assert not found((text * length)[: length - 1] + "\n")


def test_portable_patterns() -> None:
    """What dialects agree on matches as a whole or in part; anything else is refused."""
    whole, anywhere = portable_matchers("h.*y|x")
    assert whole("howdy")
    assert not whole("oh, hey!")
    assert anywhere("oh, hey!")
    for pattern in ("(?i)a", "[[:alpha:]]", r"(a)\1", "é", "a{,2}", "a++", "(", "(a+)+"):
        with pytest.raises(UnsupportedError):
            portable_matchers(pattern)


PIECES = [
    *(("a", "a"), ("ab", "ab"), ("[ab]", "a"), ("[^a]", "b"), (".", "a"), (r"\d", "1")),
    *((r"\w", "a"), (r"\s", " "), ("-", "-"), (r"\.", "."), ("[a-c]", "c"), (r"\W", "-")),
    *((r"\S", "a"), ("[^@]", "a"), ("@", "@"), ("(?:a|bc)", "bc"), ("(?:ab)?", "ab")),
    (r"\b", ""),
]
"""Parts of patterns, each with what it matches."""
COUNTS = {"": 1, "*": 2, "+": 3, "?": 1, "*?": 1, "{2}": 2, "{2,}": 3, "{0,3}": 2, "{3,40}": 20}


def make(random: Random) -> tuple[str, list[str]]:
    """Make a pattern, and the parts of a text that has it."""
    pattern, parts = "", []
    for _ in range(random.randint(1, 6)):
        piece, text = random.choice(PIECES)
        count = random.choice([*COUNTS] + [""] * 4) if text else ""
        pattern += (f"(?:{piece})" if count else piece) + count
        parts.append(text * COUNTS[count])
    if random.random() < 0.2:
        pattern += "|" + make(random)[0]
    return random.choice(["", "^"]) + pattern + random.choice(["", "$"]), parts


def hostile(random: Random, parts: list[str]) -> str:
    """Make a long text that nearly has a pattern, often."""
    letters = sorted({*"".join(parts), *"ab1 -\n@"})
    first, last = sorted(random.choices(range(len(parts) + 1), k=2))
    pumped = "".join(parts[first:last]) or "".join(random.choices(letters, k=random.randint(1, 4)))
    before = "".join(parts[:first]) if random.random() < 0.6 else ""
    return (before + pumped * LENGTH)[:LENGTH] + random.choice(["", "!", "\n", "a", "~"])


def test_random_patterns() -> None:
    """A pattern is found where Python's ``re`` finds it as it is written."""
    random = Random(1)
    for _ in range(200):
        pattern, parts = make(random)
        plain = re.compile(pattern.replace("$", r"\Z"))
        with contextlib.suppress(UnsupportedError):
            found = matcher(pattern)
            for _ in range(10):
                text = "".join(random.choices([*"ab1 -@.\n", *parts], k=random.randint(0, 8)))
                assert found(text) is bool(plain.search(text)), (pattern, text)


@pytest.mark.campaign
def test_hostile_texts_take_milliseconds() -> None:
    """The longest hostile input that is not refused, or 10 kB, takes less than 5 ms."""
    random = Random(2)
    translated = 0
    while translated < TIMED:
        pattern, parts = make(random)
        try:
            found = matcher(pattern)
        except UnsupportedError:
            continue
        translated += 1
        for _ in range(8):
            text = hostile(random, parts)
            length = len(text)
            while _is_refused(found, cut := text[: length - 1] + text[-1]):
                length = length * 31 // 32
            assert min(_time(found, cut) for _ in range(3)) < WORST_S, (pattern, length, text[:40])


def _is_refused(found: Matcher, text: str) -> bool:
    try:
        found(text)
    except UnsupportedError:
        return True
    return False


def _time(found: Matcher, text: str) -> float:
    begin = time.thread_time()
    found(text)
    return time.thread_time() - begin
