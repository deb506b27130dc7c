"""Patterns of Rust's regex crate in Python: their meaning, and the time that they take."""

from __future__ import annotations

import time
from random import Random

import pytest

from flagstore.evaluation.base import UnsupportedError
from flagstore.evaluation.patterns import InvalidPatternError, matcher, portable_matchers

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
        ("(?s)^a.b$", ["a\nb"], ["ab"]),
        ("a.b", ["a\rb", "a\x85b"], ["a\nb"]),
        (r"^\d{3}$", ["123", "\u0661\u0662\u0663"], ["12", "1234"]),
        (r"^\w+$", ["a_1", "é"], ["a-b", "日-本"]),
        (r"^\W$", ["-", "€"], ["e", "é"]),
        (r"\bcat\b", ["a cat", "cat€"], ["cats", "caté"]),
        (r"^\B$", [""], ["a"]),
        (r"^\s\S$", ["\x85a", "\u3000\x1c"], ["\x1ca"]),
        ("^[]a^-]$", ["]", "a", "^", "-"], ["b"]),
        ("^[^]a]$", ["b", "\n"], ["]", "a"]),
        ("^(?:foo|fo|(?:x){2,3})$", ["foo", "fo", "xx", "xxx"], ["x", "f", "xxxx"]),
        ("^([^a]|[a-c]){1,2}$", ["a", "bx", "xa"], ["", "abc"]),
        ("^(a|b)*c$", ["c", "abbac"], ["abd"]),
        (r"^[^@]+@[^@]+\.[^@]+$", ["ada@x.org", "a@b.c.d"], ["ada@x", "a@@b.c", "@b.c"]),
        ("foo.*bar.*baz", ["foofoobarbazbaz", "\nfoo bar baz"], ["foo\nbarbaz", "foo baz bar"]),
        (r"^.*(dev|staging)\d*$", ["a-dev12", "devdev"], ["dev-x"]),
    ],
)
def test_meaning(pattern: str, texts: list[str], others: list[str]) -> None:
    """A pattern is found where Rust finds it, also beyond ASCII and at the ends of lines."""
    found = matcher(pattern)
    assert [text for text in texts if not found(text)] == []
    assert [text for text in others if found(text)] == []


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)", "(?<!a)b", r"(a)\1", "(regex", "a)", "(?i)*", "a|+", "a{2,1}", "\\"],
)
def test_patterns_that_rust_refuses(pattern: str) -> None:
    """Look-around, back-references and errors of syntax are invalid in Rust."""
    with pytest.raises(InvalidPatternError):
        matcher(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+$", "(a|aa)+$", "(a*)*b", "((a?){20}){20}b", r"^\d+(\.\d+)*$"),
        *("a[a-z]*b[b-z]*c", "^a*b?a*$", "^(x|y)?[xy]{0,9}[x-z]{0,9}w$", "[ab]{200}c"),
        *(r"\p{Greek}", "[a-z&&[^b]]", "(?x) a", "(?-u)a", r"\x41", r"\<a", r"\b{start}a"),
        *(
            "[a",
            "[z-a]",
            "[]-a]",
            "[[:foo:]]",
            r"[\d-z]",
            "(?P<a>b)",
            "(?i:a)",
            "a(?i)b",
            "^(?i)?a",
            "^(?m)a",
            "(?ii)",
        ),
        *("a++", "a{9999}", r"\w{100}", "(?:aa|b){9}", "(" * 50 + ")" * 50, "(?i)å"),
    ],
)
def test_unsupported_patterns(pattern: str) -> None:
    """What may take more than linear time, or mean something else, is refused."""
    with pytest.raises(UnsupportedError):
        matcher(pattern)


@pytest.mark.parametrize("text", ["²", "e\u0301", "\u24b6"])
def test_unsupported_words(text: str) -> None:
    r"""Characters that only one of Python and Rust has in ``\w`` count where a pattern has it."""
    for pattern in (r"\w", r"^\W$", r"[\w-]", r"a\b"):
        with pytest.raises(UnsupportedError):
            matcher(pattern)(text)
    assert matcher("^[^a]*$")(text)


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        (r"\d+x", ["1"]),
        (r"\d+\d+\d+$", ["1"]),
        ("foo.*bar.*baz", ["foo", "foobar"]),
        (r"^.+@.+\..+$", ["a@", "@", "@."]),
        (r"^[^@]+@[^@]+\.[^@]+$", ["a.", "."]),
        ("[a-z]*foo[a-z]*bar", ["foo", "a"]),
        (r"^.*x\d+y$", ["x", "1", "x1"]),
        (r"^a*a*a*b", ["a"]),
        (r"https?://[^/]*\.example\.com", ["http://", ".example"]),
    ],
)
def test_linear_time(pattern: str, texts: list[str]) -> None:
    """A third of a million hostile characters end in no match.

    Not a timed test: by the square of the length, it would take minutes.
    """
    found = matcher(pattern)
    for text in texts:
        assert not found("a" + text * (300_000 // len(text)) + "\n")


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
    *((r"\b", ""), ("(?m:^)", ""), ("(?s:.)", "\n")),
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


@pytest.mark.campaign
def test_hostile_texts_take_milliseconds() -> None:
    """Ten kilobytes of hostile input take less than 5 ms for each pattern that is translated."""
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
            assert min(_time(found, text) for _ in range(3)) < WORST_S, (pattern, text[:40])


def _time(found: object, text: str) -> float:
    begin = time.thread_time()
    found(text)  # type: ignore[operator] # a matcher
    return time.thread_time() - begin
