"""Random flag sets of AppConfig and contexts: every operator, nested, and much that is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

    type Json = Any

CONTEXTS = 5
"""Of each flag set."""

KINDS = {
    "text": ["s", "id", "constructor"],
    "number": ["n", "m_2", "__proto__"],
    "bool": ["on", "toString"],
}
"""The keys of contexts by the kind of most values."""
KEYS = [key for keys in KINDS.values() for key in keys]
COMMON = {
    "text": ["a", "ab", "ada", "abc", "a1b2", "👋"],
    "number": ["1", "65", "7", "1.5", "64.9"],
    "bool": ["true", "false"],
}
"""Values that rules and contexts often share."""
FLAG_KEYS = ["f", "g-1", "__proto__", "constructor", "grüezi", "a:1:b", "👋"]
TEXTS = [
    *("", "a", "ab", "b", "B", "abc", "true", "70", "65", "1.5", "ada", "Zoë 👋", "é", "e\u0301"),
    *("\ud83d", "\ude00", "👋", "😀", "a\n", " a", "\u2028", "\xa0", '"', "\\", "a" * 60, "a1b2"),
    *("aaaaab", "a.b@c.d", "__proto__", "\ufeff", "\x1f", "ada@amazon.com", "\x7f"),
]
INTS = [
    *(0, 1, -1, 7, 42, 64, 65, 66, 100, 2**31, 2**53 - 1, 2**53, 2**53 + 1, -(2**53), 1 - 2**53),
    *(2**63 - 1, 2**63 - 2, -(2**63), 2**63, 2**64, 10**30, -(10**19)),
]
FLOATS = [
    *(0.5, 1.5, 64.9, 65.1, -7.25, 1e-5, 2.0**53, 2.0**63, 1e300, -1e300, 5e-324),
    *(9007199254740991.5, 4503599627370495.5, 0.1 + 0.2),
]
NUMBERS = [
    *(
        "0",
        "-0",
        "1",
        "65",
        "-7",
        "1.0",
        "65.0",
        "0.5",
        "1.5",
        "64.9",
        "1e2",
        "1E-5",
        "6.5e1",
        "-0.0",
    ),
    *("9007199254740991", "9007199254740992", "9007199254740993", "9007199254740992.0", "1e16"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *(
        "99999999999999999999",
        "100000000000000000000",
        "1e308",
        "1e309",
        "07",
        "1.",
        ".5",
        "+1",
        "1e",
    ),
]
TIMES = ["2024-01", "2024T", "2012-03-04T05:06:07-08:00", "2024", "2024-"]
SHARES = [
    *("0", "100", "0.0", "100.0", "50", "1", "99.9999995", "37.307840", "37.307841", "5e1", "-0.0"),
    *("25.4219465", "25.4219475", "0.00000049", "0.0000005", "101", "-1", "1e400", "33.3333335"),
]
SPACES = [
    "",
    "",
    "",
    " ",
    "  ",
    "\n",
    "\t",
    "\x0c",
    "\x0b",
    "\xa0",
    "\x1c",
    "\x85",
    "\ufeff",
    "\u2003",
]
COMPARISONS = ["eq", "gt", "gte", "lt", "lte", "begins_with", "ends_with", "contains"]
OPERATORS = [*COMPARISONS, "in", "matches", "exists", "split", "and", "or", "not", "literal"]
WORDS = [
    *'()[],1"\\é$', *OPERATORS, *("pct::", "by::", "seed::", "in::", "pattern::", "key::", "$a"),
    *('"x"', '"a.*"', "2.5", "true", "false", "2024-01", "::", "neq", "null", "//", "'a'"),
    *('"\\\n"', '"\\\u2028"', '"\\/"'),
]  # fmt: skip
PIECES = [
    *("a", "b", "ab", ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", "[a-c]", "[^a]", "[ab-]"),
    *(
        "[a-b-c]",
        r"[\d-]",
        r"[\w.]",
        r"\.",
        r"\-",
        "-",
        "&",
        "~",
        "(a)",
        "(?:ab)",
        "(a|b)",
        "(ab|)",
    ),
    *("(a|bc)", "(^)", "()", "^", "$", "|", "@", r"[^@]", "[a-z0-9]", r"[\[:alpha:]", r"[a\-z]"),
]
WRONG_PIECES = [
    *(
        "(",
        ")",
        "(?i)",
        "[z-a]",
        r"[\d-x]",
        r"[x-\d]",
        "[",
        "]",
        "{",
        "}",
        "a{3,2}",
        "é",
        r"\b",
        r"\1",
    ),
    *(
        "(?=a)",
        "[[:alpha:]]",
        "(?P<x>a)",
        "a**",
        "[]a]",
        "[a--b]",
        "[&&]",
        "/",
        r"\/",
        "\n",
        "#",
        "'",
    ),
]
REPETITIONS = [
    *[""] * 6,
    "*",
    "+",
    "*",
    "+",
    "?",
    "*?",
    "+?",
    "{2}",
    "{1,3}",
    "{2,}",
    "{0}",
    "{0,1}",
    "{40}",
]


def maybe(random: Random, share: float) -> bool:
    return random.random() < share


def quoted(random: Random, text: str) -> str:
    """Write a string of Ion, with escapes here and there."""
    short = {"\n": r"\n", "\t": r"\t", "\r": r"\r", '"': r"\"", "\\": r"\\"}
    written = []
    for char in text:
        code = ord(char)
        if char in short:
            written.append(short[char])
        elif (code < 256 and maybe(random, 0.05)) or code == 127:
            written.append(f"\\x{code:02x}")
        elif code < 32 or (code < 65536 and maybe(random, 0.1)):
            written.append(f"\\u{code:04x}")
        elif code > 65535 and maybe(random, 0.2):  # two characters, not one
            high, low = divmod(code - 65536, 1024)
            written.append(f"\\u{high + 0xD800:04x}\\u{low + 0xDC00:04x}")
        else:
            written.append(char)
    return f'"{"".join(written)}"'


def pattern(random: Random) -> str:
    pieces = [
        random.choice(WRONG_PIECES if maybe(random, 0.03) else PIECES) + random.choice(REPETITIONS)
        for _ in range(random.choice([0, 1, 1, 1, 2, 2, 3, 4, 7]))
    ]
    text = "".join(pieces)
    if maybe(random, 0.1):
        text = f"({text}){random.choice(['', '?', '{2}', '{1,3}', '{30}', '*'])}"
    return f"^{text}$" if maybe(random, 0.2) else text


def operand(random: Random, kind: str) -> str:
    """Write an operand: a context value of a kind in most cases."""
    if maybe(random, 0.9):
        return f"${random.choice(KINDS[kind] if maybe(random, 0.9) else KEYS)}"
    return literal(random, kind)


def literal(random: Random, kind: str) -> str:
    """Write a literal, of a kind in most cases."""
    if maybe(random, 0.1):
        kind = random.choice(["text", "number", "bool", "time"])
    common = maybe(random, 0.5)
    if kind == "text":
        return quoted(random, random.choice(COMMON["text"] if common else TEXTS))
    if kind == "number":
        return random.choice(COMMON["number"] if common else NUMBERS)
    return random.choice(COMMON["bool"] if kind == "bool" else TIMES)


def expression(random: Random, depth: int = 0) -> str:
    """Write an expression; most are valid."""
    operators = OPERATORS if depth < 4 else OPERATORS[:12]
    operator = random.choice(operators)
    gap = random.choice([" ", " ", " ", "  ", "\n", "\t"])
    if operator in {"and", "or", "not"}:
        count = 1 if operator == "not" else random.choice([1, 2, 2, 2, 3, 0])
        parts = [expression(random, depth + 1) for _ in range(count)]
        return f"({operator}{''.join(gap + part for part in parts)}{random.choice(SPACES[:4])})"
    kind = random.choice(["text", "number", "bool"])
    if operator == "literal":
        return literal(random, "bool") if maybe(random, 0.5) else operand(random, "bool")
    if operator == "in":
        listed = [literal(random, kind) for _ in range(random.choice([0, 1, 2, 4, 6]))]
        return f"(in {operand(random, kind)}{gap}[{random.choice([',', ', ']).join(listed)}])"
    if operator in {"exists", "matches", "split"}:
        return _with_names(random, operator, gap)
    if operator != "eq":
        kind = "text" if operator in {"begins_with", "ends_with", "contains"} else "number"
    operands = [operand(random, kind), literal(random, kind)]
    if maybe(random, 0.2):
        operands[1] = operand(random, kind)
    if maybe(random, 0.1):
        operands.reverse()
    if maybe(random, 0.02):
        operands.pop()
    return f"({operator} {gap.join(operands)})"


def _with_names(random: Random, operator: str, gap: str) -> str:
    wrong = maybe(random, 0.04)
    if operator == "exists":
        named = [("key", quoted(random, random.choice(KEYS + TEXTS[:4])))]
    elif operator == "matches":
        named = [("in", operand(random, "text")), ("pattern", quoted(random, pattern(random)))]
    else:
        kind = random.choice(["text", "text", "number", "bool"])
        named = [("pct", random.choice(SHARES)), ("by", operand(random, kind))]
        if maybe(random, 0.6):
            named.append(("seed", quoted(random, random.choice(TEXTS))))
    if wrong:
        extra = (random.choice(["key", "salt", "pct", "in"]), literal(random, "text"))
        named = random.choice([named[:-1], [*named, extra], [(name, "$s") for name, _ in named]])
    if maybe(random, 0.3):
        random.shuffle(named)
    return f"({operator} {gap.join(f'{name}::{value}' for name, value in named)})"


def rule(random: Random) -> str:
    """Write a rule; some are damaged."""
    if maybe(random, 0.03):
        return random.choice(["", " "]).join(random.choices(WORDS, k=random.randint(1, 12)))
    if maybe(random, 0.01):
        depth = random.choice([63, 64, 65, 66])
        return "(not " * depth + "true" + ")" * depth
    text = expression(random)
    if maybe(random, 0.03):
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice([*WORDS, ""]) + text[at + random.randint(0, 1) :]
    return random.choice(SPACES) + text + random.choice(SPACES)


def attributes(random: Random) -> dict[str, Json]:
    values: list[Json] = [
        *TEXTS,
        *INTS,
        *FLOATS,
        True,
        False,
        ["a", "b,]}"],
        [1, 2.0],
        [],
        1.0,
        1e22,
    ]
    names = ["limit", "color", "tags", "__proto__", "constructor", "1", "b:,{", "_createdAt", "é"]
    return {random.choice(names): random.choice(values) for _ in range(random.randint(0, 4))}


WRONG: list[Json] = [None, 0, 1, "", "yes", "true", "false", [], {}, [None], {"a": 1}, True, 1.0]


def variants(random: Random) -> Json:
    count = random.choice([1, 1, 1, 2, 3])
    listed: list[Json] = []
    for index in range(count + 1):
        variant: dict[str, Json] = {
            "name": random.choice(["V", "Default", "é", "__t1__"]) + str(index),
            "enabled": random.choice([True, True, True, False, "true", "false"]),
        }
        if index < count:
            variant["rule"] = rule(random)
        if maybe(random, 0.6):
            variant["attributeValues"] = attributes(random)
        if maybe(random, 0.02):
            variant[random.choice(["name", "enabled", "rule", "attributeValues"])] = random.choice(
                WRONG
            )
        if maybe(random, 0.02):
            variant.pop(random.choice([*variant]))
        listed.append(variant)
    if maybe(random, 0.01):
        listed.append(random.choice(WRONG))
    return {"_variants": listed, "_createdAt": "2026-01-01T00:00:00Z"}


def flag(random: Random) -> Json:
    if maybe(random, 0.02):
        return random.choice(WRONG)
    if maybe(random, 0.15):
        enabled = (
            random.choice(WRONG) if maybe(random, 0.1) else random.choice([True, False, "true"])
        )
        made = {**attributes(random), "enabled": enabled}
        if maybe(random, 0.05):
            made["_variant"] = "Default"
        return made
    made = variants(random)
    if maybe(random, 0.01):
        made["_variants"] = random.choice(WRONG)
    return made


def mixed(random: Random) -> tuple[dict[str, Json], dict[str, Json], list[dict[str, Json]]]:
    """Return the rest of a document, its flags, and contexts."""
    meta: dict[str, Json] = {"profile": "app/env/profile", "format": "feature-flags"}
    if maybe(random, 0.6):
        meta["split_hash"] = random.choice(["flagstore"] * 9 + ["another"])
    if maybe(random, 0.03):
        meta["format"] = "freeform"
    keys = random.sample(FLAG_KEYS, 3)
    return meta, {key: flag(random) for key in keys}, [context(random) for _ in range(CONTEXTS)]


def patterns(random: Random) -> tuple[dict[str, Json], dict[str, Json], list[dict[str, Json]]]:
    """Return the same with rules that match patterns, and texts that they nearly match."""
    default = {"name": "Default", "enabled": True}
    flags = {}
    for key in FLAG_KEYS:
        rule = f"(matches in::$s pattern::{quoted(random, pattern(random))})"
        flags[key] = {"_variants": [{"name": "V", "enabled": True, "rule": rule}, default]}
    contexts: list[dict[str, Json]] = []
    for _ in range(2 * CONTEXTS):
        length = random.choice([0, 1, 1, 2, 2, 3, 4, 6, 10, 49, 51, 99, 101, 350, 3_001, 30_001])
        some = random.choice(["ab", "ab", "abc", "a", "ab1", "a@", "a-. b", "[:alph]1_"])
        text = "".join(random.choices(some, k=length))
        contexts.append({"s": text + random.choice(["", "", "", "b", "!", "\n", "é"])})
    return {"format": "feature-flags"}, flags, contexts


def context(random: Random) -> dict[str, Json]:
    """Return a context: what JSON can hold, since both sides read the same."""
    found: dict[str, Json] = {}
    for kind, keys in KINDS.items():
        for key in keys:
            if maybe(random, 0.75):
                found[key] = value(random, kind if maybe(random, 0.9) else random.choice([*KINDS]))
                if maybe(random, 0.03):
                    found[key] = random.choice([None, [1], {}, {"a": None}])
    return found


def value(random: Random, kind: str) -> Json:
    common = maybe(random, 0.5)
    if kind == "bool":
        return maybe(random, 0.5)
    if kind == "number":
        if common:
            return json.loads(random.choice(COMMON["number"]))
        return random.choice([*INTS, *FLOATS, *range(-100, 100, 9)])
    if common:
        return random.choice(COMMON["text"])
    if maybe(random, 0.2):
        lengths = [1, 2, 5, 20, 60, 200, 600, 2_000]
        return "".join(random.choices(["a", "b", "1", ".", "@"], k=random.choice(lengths)))
    return random.choice(TEXTS)


def wire(context: dict[str, Json]) -> list[tuple[str, str, str]]:
    """Return a context with the types of its numbers, which JSON does not tell apart."""
    kinds = {int: "int", float: "float"}
    return [
        (name, kinds.get(value.__class__, "other"), json.dumps(value))
        for name, value in context.items()
    ]
