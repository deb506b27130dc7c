"""Values of constraints and contexts at the edges of what Unleash's engine accepts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from differential.python_values import VALUES

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

MISSING = object()
FIELDS = (
    *("userId", "sessionId", "environment", "appName", "currentTime", "remoteAddress"),
    *("country", "age", "version", "seen", "number"),
)
# Tables of texts, packed.
# fmt: off
WORDS = (
    "a", "b", "A", "abc", "ABC", "Ab", "no", "NO", "7", "", " ", "é", "É", "ß", "SS", "İ",
    "i\u0307", "\u03a3\u0391\u03a3", "\u03c3\u03b1\u03c2", "straße", "日本", "😀", "K", "k",
    'quo"te', "back\\slash", "a,b", "or", "]",
)
NUMBERS = (
    "5", "5.0", "05", "+5", "-5", "5.", "0", "-0", "1e3", "1E3", "1000", "5e-1", "0.5",
    "4.9999999", "5.0000000000000001", "5.0000000000000002", "9007199254740993",
    "9007199254740992", "1e400", "4.999999999999999", "5.000000000000001", "0.1",
    "0.30000000000000004", "1e-400", "123456789",
)
ODD_NUMBERS = (
    " 5", "5\n", "5_0", "\u0665", ".5", "inf", "-inf", "infinity", "nan", "0x10", "", "+", "5,0",
    "1e", "1e5.0", "--5", "\x1c5", "+inf", "5f", "1e99999999999", "5.e2", "\u20035", "True",
)
DATES = (
    "2022-01-29T13:00:00.000Z", "2022-01-29T13:00:00Z", "2022-01-29T14:00:00+01:00",
    "2022-01-29T13:00:00.001Z", "2022-01-29T12:59:60Z", "2022-01-29T12:59:59.999Z",
    "2022-01-29T13:00:00-00:00", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    "2024-02-29T00:00:00Z", "2023-02-28T23:59:59+23:59", "0000-01-01T00:00:00Z",
)
ODD_DATES = (
    "2022-01-29T13:00:00.000000001Z", "2022-01-29T13:00:00.1234567891234Z", "2022-01-29",
    "2022-01-29 13:00:00Z", "2022-01-29t13:00:00z", "2022-01-29T13:00Z", "20220129T130000Z",
    "2022-W04-6T13:00:00Z", "-0001-01-01T00:00:00Z", "2022-1-9T1:2:3Z", "2022-01-29T13:00:00",
    "2022-01-29T13:00:00+0100", "2022-01-29T13:00:00+01", "2022-01-29T24:00:00Z",
    "2022-01-29T13:00:61Z", "2022-01-29T13:60:00Z", "2022-02-30T13:00:00Z",
    "2022-01-29T13:00:00 UTC", " 2022-01-29T13:00:00Z ", "2022-01-29T13:00:00+24:00",
    "2022-01-29T13:00:00+23:60", "2022-01-29T13:00:00\u221201:00", "2022 - 01 - 29T13:00: 00 Z",
    "2022-01-29T13:00:00.Z", "\u0662022-01-29T13:00:00Z", "12024-01-01T00:00:00Z", "",
    "2022-01-29T13:00:00+01::00", "2022-01-29T13:00:00z\n", "+2022-01-29T13:00:00Z",
)
VERSIONS = (
    "1.2.3", "1.2.4", "1.10.0", "2.0.0", "1.2.3-beta", "1.2.3-beta.1", "1.2.3-beta.2",
    "1.2.3-beta.11", "1.2.3-alpha", "1.2.3-1", "1.2.3-2", "1.2.3-10", "1.2.3-beta-", "1.2.3+build",
    "1.2.3+build.02", "1.2.3-beta+b", "0.0.0", "18446744073709551615.0.0",
    "1.2.3-99999999999999999999999", "1.2.3-A", "1.2.3-beta.1.1", "1.2.3-1a", "1.2.3--", "1.2.3-0",
)
ODD_VERSIONS = (
    "v1.2.3", "1.2", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+", "1.2.3.4", " 1.2.3", "1.2.x", "",
    "18446744073709551616.0.0", "1.2.3-beta..1", "1.2.3-é", "1.2.3-beta_1", "1.2.\u0663",
    "1.2.3-0a", "-1.2.3", "1.2.3\n",
)
ADDRESSES = (
    "10.0.0.1", "10.1.2.3", "10.255.255.255", "11.0.0.0", "192.168.0.1", "192.168.1.1",
    "127.0.0.1", "::1", "2001:db8::1", "2001:DB8:0:0::1", "2001:db8:1::", "::ffff:10.0.0.1",
    "fe80::1", "::", "0.0.0.0",  # noqa: S104 - to compare with
)
ODD_ADDRESSES = (
    "10.0.0", "10.0.0.01", "10.0.0.256", "10.0.0.1 ", "10.0.0.1/32", "fe80::1%eth0", "[::1]",
    "2001:db8::1::", "1:2:3:4:5:6:7::", "::1:2:3:4:5:6:7:8", "1:2:3:4:5:6:1.2.3.4", "1.2.3.4::",
    "\u0660.0.0.0", "0x10.0.0.1", "167772161", "", ":::", "g::1", "::12345",
)
NETWORKS = (
    "10.0.0.0/8", "10.1.0.0/8", "10.0.0.1", "192.168.0.0/16", "0.0.0.0/0", "::/0", "::1",
    "2001:db8::/32", "2001:db8::1/128", "10.0.0.0/255.0.0.0", "10.0.0.0/33", "10.0.0.0/08",
    "10.0.0.0/", "10.0.0.0/8/8", "::/129", "::ffff:10.0.0.0/104", "nonsense", "", "10.0.0.0/ 8",
    "127.0.0.1/32", "fe80::/ffff::", "10.0.0.0/-1", "1:2:3:4:5:6:7::/112",
)
ATOMS = (
    "a", "b", "c", "é", "k", "s", "1", ".", "\\d", "\\w", "\\s", "\\W", "\\D", "\\S", "[abc]",
    "[^a]", "[a-c]", "[[:alpha:]]", "[a-z&&[^b]]", "[[:space:]x]", "[]a]", "[-a]", "[a-]", "^", "$",
    "\\b", "\\B", "\\A", "\\z", "\\pL", "\\x41", "\\.", "\\-", "\\n", "\n", "@", "\\b{start}",
    "[\\d.]", "[\\W]", "(?s)", "[é-ü]", "ß", "\u03c3", "[K]", '\\"', '"', "[\\w-]", "[a-cé]",
    "\\w{2}",
)
REFUSED = (
    "(?=a)", "(?<!a)", "(a)\\1", "\\Z", "[", "(", ")", "*", "a{2", "a{2,1}", "{", "[z-a]", "\\0",
    "[\\d-z]", "(?P<a>b)(?P<a>c)", "[[:foo:]", "(?)", "(?>a)", "a{,3}", "\\", "(?ii)", "(?i)*",
    "|*", "[\\b]", "\\p{Greek}", "(?x) a b", "\\w{300}",
)
# fmt: on
ODD_PERCENTAGES = ("101", "1000", "-1", " 5", "+50", "007", "5.0", "", "\u0665", "9" * 25)
_SUBJECT = "abcxABCKks\u017f\u212aé\u0301\u0300\u093e1 .\n_-@ß²\u0663\u03c3\u03a3\u03c2\u200d"

_KINDS = {
    "IN NOT_IN": "fit text unicode missing int bool none",
    "STR_CONTAINS STR_STARTS_WITH STR_ENDS_WITH": "fit text unicode missing int bool",
    "NUM_EQ NUM_GT NUM_GTE NUM_LT NUM_LTE": "fit number odd-number int float text missing",
    "DATE_AFTER DATE_BEFORE": "fit date odd-date datetime text missing",
    "SEMVER_EQ SEMVER_GT SEMVER_GTE SEMVER_LT SEMVER_LTE": "fit version odd-version text missing",
    "REGEX": "fit missing",
    "IN_CIDR": "fit address odd-address text missing",
}
KINDS = {name: kinds.split() for names, kinds in _KINDS.items() for name in names.split()}
"""The kinds of values that a context gives to each operator."""
OPERATORS = (*KINDS,)


def some(r: Random, of: Any, most: int = 4) -> list[Any]:
    """Choose one or more."""
    return [r.choice(of) for _ in range(r.randint(1, most))]


def date(r: Random) -> str:
    """Make a date as servers write it."""
    if r.random() < 0.6:
        return r.choice(DATES)
    moment = datetime(2022, 1, 29, 13, tzinfo=UTC) + timedelta(
        seconds=r.randint(-100_000_000, 100_000_000)
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + r.choice(["Z", ".500Z", "+05:30", "-11:00"])


def number(r: Random) -> str:
    """Make a number."""
    return (
        r.choice(NUMBERS) if r.random() < 0.7 else str(r.choice([r.randint(-9, 9), r.random() * 9]))
    )


def of_any_kind(r: Random) -> Any:
    """Make a value of a property as callers have them, texts or not."""
    texts = ["text", "number", "date", "version", "address"]
    return _MAKE[r.choice([*texts, "int", "bool", "none", "list", "python"])](r)


_MAKE: dict[str, Any] = {
    "text": lambda r: r.choice(WORDS[:11]),
    "unicode": lambda r: r.choice(WORDS[11:]),
    "number": number,
    "odd-number": lambda r: r.choice(ODD_NUMBERS),
    "date": date,
    "odd-date": lambda r: r.choice(ODD_DATES),
    "datetime": lambda r: (
        datetime(2022, 1, 29, 13, tzinfo=UTC) + timedelta(seconds=r.randint(-9, 9))
    ),
    "version": lambda r: r.choice(VERSIONS),
    "odd-version": lambda r: r.choice(ODD_VERSIONS),
    "address": lambda r: r.choice(ADDRESSES),
    "odd-address": lambda r: r.choice(ODD_ADDRESSES),
    "int": lambda r: r.randint(-9, 9),
    "float": lambda r: r.choice([5.0, 0.1, 1e22, -0.0, 0.1 + 0.2, float("inf")]),
    "bool": lambda r: r.random() < 0.5,
    "none": lambda _: None,
    "list": lambda _: ["a", "b"],
    "python": lambda r: r.choice(VALUES),
    "missing": lambda _: MISSING,
}


def constraint(r: Random, operator: str) -> dict[str, Any]:
    """Make a constraint without its field; one in ten makes no sense."""
    found: dict[str, Any] = {"operator": operator}
    if r.random() < 0.3:
        found["inverted"] = r.random() < 0.8
    if r.random() < 0.4:
        found["caseInsensitive"] = r.random() < 0.8
    if operator in ("IN", "NOT_IN") or operator.startswith("STR"):
        listed = [*WORDS, "5", "True", "None", "-1"]
        found["values"] = [] if r.random() < 0.05 else some(r, listed)
        if r.random() < 0.02:
            found["values"][:1] = ["trailing\\"]
    elif operator == "IN_CIDR":
        found["values"] = [] if r.random() < 0.05 else some(r, NETWORKS)
        if r.random() < 0.4:
            found["values"] += ["0.0.0.0/0", "::/0"]  # so it counts whether it is an address
    elif operator == "REGEX":
        found["value"] = pattern(r)
    else:
        found["value"] = _literal(r, operator.partition("_")[0])
    _damage(r, found)
    return found


def _damage(r: Random, found: dict[str, Any]) -> None:
    """Damage a few constraints so that the engine cannot compile them."""
    if r.random() < 0.03:
        found["operator"] = "SEMVER_NEQ"
    if r.random() < 0.02:
        found.pop("value", None)
        found.pop("values", None)
        if found["operator"] == "REGEX":
            found["value"] = ""


def _literal(r: Random, family: str) -> str:
    """Make a number, date or version for a constraint."""
    own: Callable[[Random], str] = {"NUM": number, "DATE": date}.get(family, _MAKE["version"])
    if family == "SEMVER" and r.random() < 0.05:
        return f"v{own(r)}"
    if r.random() < 0.85:
        return own(r)
    if r.random() < 0.12:
        return f" {number(r)}\t"
    others = ["number", "date", "version", "text", "odd-number", "odd-date", "odd-version"]
    return _MAKE[r.choice(others)](r)


def given(r: Random, constraint: dict[str, Any], kind: str) -> Any:
    """Make the value of the field that a constraint looks at."""
    if kind != "fit":
        return _MAKE[kind](r)
    listed = constraint.get("values") or [constraint.get("value") or ""]
    value = r.choice(listed)
    operator = constraint["operator"]
    if operator == "REGEX":
        return subject(r)
    if operator.startswith("DATE") and r.random() < 0.3:
        return f"{value[:19]}.000000001{value[-1:]}"
    if operator == "IN_CIDR":
        return value.partition("/")[0]
    if operator.startswith("STR"):
        value = r.choice(["", "x"]) + value + r.choice(["", "x"])
    same = 0.4 if constraint.get("caseInsensitive") else 0.8
    return value if r.random() < same else r.choice([value.upper(), value.lower()])


def subject(r: Random) -> str:
    """Make a string to search with regular expressions."""
    length = r.choice([0, 1, 1, 2, 3, 4, 5, 6])
    letters = _SUBJECT if r.random() < 0.7 else _SUBJECT[:3] + "1 -"
    return "".join(r.choices(letters, k=length)) + r.choice(["", "", "", "\n"])


def pattern(r: Random) -> str:
    """Make a regular expression that Rust accepts, mostly."""
    chance = r.random()
    if chance < 0.12:
        return r.choice(REFUSED)
    if chance < 0.3:
        return f"^{r.choice(ATOMS)}$"
    return _expression(r, 2)


def _expression(r: Random, depth: int) -> str:
    parts = []
    for _ in range(r.randint(1, 3)):
        part = r.choice(ATOMS)
        if depth and r.random() < 0.3:
            part = f"{r.choice(['(', '(?:', '(?i:'])}{_expression(r, depth - 1)})"
        if r.random() < 0.35:
            part += r.choice(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "+?", "{2}{0,1}", "++"])
        parts.append(part)
    joined = "".join(parts)
    if r.random() < 0.2:
        return f"{joined}|{r.choice(ATOMS)}"
    return (
        r.choice(["", "", "^", "(?i)", "(?s)^", "(?m)^", "^(?is)"])
        + joined
        + r.choice(["", "", "$"])
    )
