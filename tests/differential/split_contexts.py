"""Contexts for Split, made up so that each attribute has each type of value once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from differential.python_values import VALUES

if TYPE_CHECKING:
    from random import Random

WORDS = ["a", "b", "c", "ab", "cab", "true", "5", "é", "\U0001d4b3", "", "control"]
SECONDS = [0, 59, 60, 61, 86_399, 86_400, 1_458_240_947, 1_458_240_959, 1_458_172_800]
NUMBERS = [-1, 0, 1, 4, 5, 6, 10**18]
VERSIONS = ["1.0.0", "1.0.0-rc.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0-alpha", "1.2.3", "1.10.0"]
VERSIONS += ["1.0.0+m", "01.0.0", "1.0.0-rc.01", "1.0.0-rc", "1.0.0-rc.beta", "1.0.0-rc.1+m"]
ODD_VERSIONS = ["1.0", "1.0.0-", "1.0.0+", "a.b.c", " 1.0.0", "1.0.0-²", "1.0.0-٣", "1_0.0.0", ""]
NUMERALS = ["5", " 5", "\u0665", "5_0", "5.0", "-1", "six", "60", "86400", "1458240947", "0"]
TRUTHS = ["true", "TRUE", " true", "false", "False\n", "yes", "1", "\u00a0true", "tru e", '"true"']
TEXTS = {
    "word": WORDS,
    "number": NUMERALS,
    "date": NUMERALS,
    "version": VERSIONS + ODD_VERSIONS,
    "truth": TRUTHS,
    "set": ["", "a", "ab", "cab", "ba", "xyz", "c"],
}
INTS = {"number": NUMBERS, "date": SECONDS}
TYPES = ("str", "int", "float", "bool", "list", "dict", "missing", "text", "other", "None")
LISTS = [[], ["a"], ["b", "a"], ["a", "b", "c"], ["x"], [1], [["a"]], ["a", None], ["ab", "a"]]
DICTS: list[Any] = [{}, {"a": 1}, {"a": 1, "b": 2}, {"x": {1: 2}}, {1: "a"}]
OTHERS: list[Any] = [("a", "b"), {"a"}, frozenset("abc"), b"a", b"true", 5 + 0j, range(2), object]
OTHERS += VALUES


def pick(draw: Random, *choices: Any) -> Any:
    """Draw one of some."""
    return draw.choice(choices)


def some(draw: Random, choices: list[Any], most: int = 3) -> list[Any]:
    """Draw a few of some."""
    return draw.sample(choices, draw.randint(0, min(most, len(choices))))


def value_of(draw: Random, kind: str, attribute: str) -> Any:
    """Make up a value of a type for an attribute."""
    pools: dict[str, list[Any]] = {
        "str": TEXTS[attribute],
        "text": TEXTS[attribute],
        "int": INTS.get(attribute, [0, 1, 5]),
        "float": [5.0, 5.5, 0.0, -1.0, float("nan"), float("inf"), 60.0],
        "bool": [True, False],
        "list": LISTS,
        "dict": DICTS,
        "other": OTHERS,
        "None": [None],
    }
    return draw.choice(pools[kind])


KEYS: list[Any] = ["a", "b", "ab", "user-1", "user-2", "user-3", "user-33", "ключ", "é", "日本"]
KEYS += [
    "\U0001d4b3",
    "x😀y",
    "k" * 250,
    " a ",
    "5",
    "control",
    "true",
    "1.0.0",
    "60",
    "abc",
    "\ud800",
]
ODD_KEYS: list[Any] = [
    5,
    5.5,
    10**20,
    "",
    "  ",
    None,
    True,
    "k" * 251,
    float("nan"),
    ["a"],
    1j,
    b"a",
]
ODD_KEYS += VALUES
ODD_KEYS += [10**400, "\u2003", float("inf"), {"a": 1}]


def contexts(draw: Random) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Make up ten contexts in which each attribute has each type once: key, bucketing key, rest."""
    offsets = {name: draw.randint(0, len(TYPES) - 1) for name in TEXTS}
    made = []
    for number in range(len(TYPES)):
        attributes = {}
        for name, offset in offsets.items():
            kind = TYPES[(offset + number) % len(TYPES)]
            if kind != "missing":
                attributes[name] = value_of(draw, kind, name)
        odd = draw.randint(0, 24)
        key = draw.choice(KEYS if odd else ODD_KEYS)
        if odd > 17:
            key = f"user-{draw.randint(0, 9_999)}"
        bucketing = pick(draw, None, None, None, None, "b-1", "b-2", "é", "😀", 7)
        if odd == 1:
            bucketing = pick(draw, *("", True, "k" * 251), *VALUES)
        if draw.randint(0, 30) == 0:
            attributes[""] = "a"
        made.append((key, bucketing, attributes))
    return made
