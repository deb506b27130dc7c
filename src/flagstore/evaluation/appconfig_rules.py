"""The rules of AppConfig's variants, as far as they are documented. No I/O.

A rule is an s-expression in the text form of Amazon Ion: ``(and (eq $state "Virginia") (gt $age
65))``. Source: AWS AppConfig user guide, "Defining rules for multi-variant feature flags". It is
true, false, or unknown (None) where the guide is silent: docs/evaluate.md lists the cases.
"""

from __future__ import annotations

import re
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    Context = dict[str, Any]
    Verdict = bool | None
    Rule = Callable[[Context], Verdict]
    Operand = tuple[str, Any]
    """The name of a context value, or an empty string and a literal."""
    Operands = dict[str, Operand]
    Compare = Callable[[Any, Any], Verdict]

MAX_DEPTH = 64
"""Nested parentheses; a rule has at most 16,384 characters."""
_EXACT = 2**53
"""From here on, a float cannot represent every integer."""
_INT64 = range(-(2**63), 2**63)
_MISSING = object()
_TIME = object()
"""Stands for any timestamp; comparing it gives unknown."""
_BUCKETS, _PER_PERCENT = 100_000_000, 1_000_000
"""Of ``split``: a percentage counts to six decimals, and is rounded to them."""

# -- tokens ---------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<punctuation>[()\[\],])
      | "(?P<text>(?:[^"\\\x00-\x1f]|\\.)*)"
      | (?P<name>[a-z_]+)::
      | (?:
            (?P<time>\d{4}(?:T|-[\dT:.+\-Z]+))
          | (?P<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)
          | \$(?P<key>[A-Za-z_][A-Za-z0-9_$]*)
          | (?P<symbol>[a-z_]+)
        )(?=[\s()\[\],"]|\Z)
    )""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "/": "/", "'": "'"}


class _Tokens:
    """The tokens of a rule: as much of Ion as the guide shows."""

    def __init__(self, text: str, flag: str | None) -> None:
        self.flag = flag
        found, at, text = [], 0, text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise UnsupportedError
            found.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()
        self._left = [("", ""), *reversed(found)]

    def skip(self, punctuation: str) -> bool:
        """Consume the next token if it is this one."""
        found = self._left[-1] == ("punctuation", punctuation)
        if found:
            self._left.pop()
        return found

    def take(self, *kinds: str) -> tuple[str, str]:
        """Consume the next token, of one of these kinds; return its kind and content."""
        if self._left[-1][0] not in kinds:
            raise UnsupportedError
        return self._left.pop()


def _operand(tokens: _Tokens) -> Operand:
    """Parse a context value, a string, a number, true, false, or a timestamp."""
    kind, content = tokens.take("key", "text", "number", "symbol", "time")
    if kind == "key":
        return content, None
    if kind == "text":
        return "", _ESCAPE.sub(_unescaped, content)
    if kind == "time":
        return "", _TIME
    if kind == "number":
        return "", _number(content)
    if content not in {"true", "false"}:
        raise UnsupportedError
    return "", content == "true"


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    if code:
        return chr(int(code, 16))
    if match[3] not in _ESCAPES:
        raise UnsupportedError
    return _ESCAPES[match[3]]


def _number(text: str) -> int | float:
    if text.lstrip("-").isdigit():
        if len(text) > len(str(_INT64[0])) or int(text) not in _INT64:
            raise UnsupportedError
        return int(text)
    real = float(text)
    if real - real != 0:  # infinite
        raise UnsupportedError
    return real


# -- expressions ----------------------------------------------------------------------------------


def compile_rule(text: str, flag: str | None = None) -> Rule:
    """Compile one rule. A rule that cannot be parsed is unknown for every context.

    Args:
        text: the rule.
        flag: the key of its flag, to evaluate ``split`` by flagstore's hash (docs/evaluate.md);
            without it, ``split`` is unknown.
    """
    try:
        tokens = _Tokens(text, flag)
        rule = _expression(tokens, False, 0)  # noqa: FBT003 - a verdict
        tokens.take("")
    except UnsupportedError:
        return lambda _context: None
    return rule


def _expression(tokens: _Tokens, missing: Verdict, depth: int) -> Rule:
    """Parse an operator with its operands, a literal, or a context value.

    *missing* is the verdict of a comparison with a missing value.
    """
    if depth > MAX_DEPTH:
        raise UnsupportedError
    if not tokens.skip("("):
        return _truth(_operand(tokens), missing)
    _, operator = tokens.take("symbol")
    if operator in {"and", "or", "not"}:
        inside = None if operator == "not" else missing
        parts = []
        while not tokens.skip(")"):
            parts.append(_expression(tokens, inside, depth + 1))
        return _logical(operator, parts)
    if operator in {"exists", "matches", "split"}:
        return _NAMED[operator](_named(tokens), missing, tokens.flag)
    left = _operand(tokens)
    right: Operand = ("", _list(tokens)) if operator == "in" else _operand(tokens)
    if operator not in _COMPARISONS or not tokens.skip(")"):
        raise UnsupportedError
    return _compared(_COMPARISONS[operator], left, right, missing)


def _named(tokens: _Tokens) -> Operands:
    found: Operands = {}
    while not tokens.skip(")"):
        _, name = tokens.take("name")
        if name in found:
            raise UnsupportedError
        found[name] = _operand(tokens)
    return found


def _list(tokens: _Tokens) -> list[Any]:
    if not tokens.skip("["):
        raise UnsupportedError
    values: list[Any] = []
    while not tokens.skip("]"):
        if values and not tokens.skip(","):
            raise UnsupportedError
        key, literal = _operand(tokens)
        if key:
            raise UnsupportedError
        values.append(literal)
    return values


def _read(operand: Operand, context: Context) -> Any:  # noqa: ANN401 - the caller's own, or a literal
    key, literal = operand
    return context.get(key, _MISSING) if key else literal


def _truth(operand: Operand, missing: Verdict) -> Rule:
    def rule(context: Context) -> Verdict:
        value = _read(operand, context)
        if value is _MISSING:
            return missing
        return value if isinstance(value, bool) else None

    return rule


def _logical(operator: str, parts: list[Rule]) -> Rule:
    # One operand is enough for AppConfig ("at least one of the operands").
    if not parts or (operator == "not" and len(parts) > 1):
        raise UnsupportedError
    if operator == "not":
        return lambda context: None if (found := parts[0](context)) is None else not found
    decisive = operator == "or"

    def rule(context: Context) -> Verdict:
        verdict: Verdict = not decisive
        for part in parts:
            found = part(context)
            if found is decisive:
                return decisive
            if found is None:
                verdict = None
        return verdict

    return rule


def _compared(compare: Compare, left: Operand, right: Operand, missing: Verdict) -> Rule:
    def rule(context: Context) -> Verdict:
        one, other = _read(left, context), _read(right, context)
        if one is _MISSING or other is _MISSING:
            return missing
        return compare(one, other)

    return rule


def _are_numbers(one: Any, other: Any) -> bool:  # noqa: ANN401 - any value
    """Return whether both are numbers that compare exactly."""
    kinds = {one.__class__, other.__class__}
    if not kinds <= {int, float}:
        return False
    return kinds == {int} or (abs(one) < _EXACT and abs(other) < _EXACT)


def _eq(one: object, other: object) -> Verdict:
    kind = one.__class__
    same = kind is other.__class__ and kind in {str, bool}
    return one == other if same or _are_numbers(one, other) else None


def _in(one: object, others: list[Any]) -> Verdict:
    verdicts = {_eq(one, other) for other in others}
    return True if True in verdicts else None if None in verdicts else False


def _ordered(compare: Callable[[Any, Any], bool]) -> Compare:
    return lambda one, other: compare(one, other) if _are_numbers(one, other) else None


def _textual(compare: Callable[[str, str], bool]) -> Compare:
    def test(one: object, other: object) -> Verdict:
        return compare(one, other) if isinstance(one, str) and isinstance(other, str) else None

    return test


_COMPARISONS: dict[str, Compare] = {
    "eq": _eq,
    "in": _in,
    "gt": _ordered(gt),
    "gte": _ordered(ge),
    "lt": _ordered(lt),
    "lte": _ordered(le),
    "begins_with": _textual(str.startswith),
    "ends_with": _textual(str.endswith),
    "contains": _textual(str.__contains__),
}


def _exists(operands: Operands, _missing: Verdict, _flag: str | None) -> Rule:
    key = _last(operands, "key", str)
    return lambda context: key in context


def _split(operands: Operands, missing: Verdict, flag: str | None) -> Rule:
    by, seed = operands.pop("by", None), operands.pop("seed", None)
    share = _last(operands, "pct", int, float)
    if by is None or not 0 <= share <= 100:  # noqa: PLR2004 - %
        raise UnsupportedError
    if flag is not None:
        return _hashed(by, _domain(seed, flag), threshold(share), missing)
    verdict = {0: False, 100: True}.get(share)
    return lambda context: None if _read(by, context) is _MISSING else verdict


def _domain(seed: Operand | None, flag: str) -> bytes:
    """Return the bytes that are hashed before the value: equal seeds have equal buckets."""
    kind, name = ("flag", flag) if seed is None else ("seed", seed[1])
    if not isinstance(name, str):
        raise UnsupportedError
    data = as_bytes(name)
    return f"flagstore:split:{kind}:{len(data)}:".encode() + data + b":"


def _hashed(by: Operand, domain: bytes, below: int, missing: Verdict) -> Rule:
    """Return the rule that is true if the value's bucket is below this limit."""

    def rule(context: Context) -> Verdict:
        value = _read(by, context)
        if value is _MISSING:
            return missing
        try:
            return bucket(domain + as_bytes(value)) < below
        except UnsupportedError:
            return None

    return rule


def threshold(share: float) -> int:
    """Return the limit below which a bucket is within a percentage."""
    return int(share * _PER_PERCENT + 0.5)


def bucket(data: bytes) -> int:
    """Return the bucket of a value with its domain; docs/evaluate.md has the hash."""
    from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, 3 ms

    # 6 bytes: an integer that other languages' floats represent, too.
    return int.from_bytes(sha256(data).digest()[:6]) % _BUCKETS


def as_bytes(value: Any) -> bytes:  # noqa: ANN401 - any value
    """Return a string, bool or whole number as UTF-8; raise UnsupportedError for the rest."""
    kind = value.__class__
    if kind is bool:
        value = "true" if value else "false"
    elif kind in {int, float} and abs(value) < _EXACT and value == int(value):
        value = str(int(value))
    if not isinstance(value, str):
        raise UnsupportedError
    try:
        return value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise UnsupportedError from None


def _matches(operands: Operands, missing: Verdict, _flag: str | None) -> Rule:
    subject = operands.pop("in", None)
    pattern = _last(operands, "pattern", str)
    from flagstore.evaluation.patterns import portable_matchers  # noqa: PLC0415 - rare

    if subject is None:
        raise UnsupportedError
    whole, anywhere = portable_matchers(pattern)

    def rule(context: Context) -> Verdict:
        text = _read(subject, context)
        if text is _MISSING:
            return missing
        if not isinstance(text, str) or not (text.isascii() and text.isprintable()):
            return None
        try:
            return True if whole(text) else None if anywhere(text) else False
        except UnsupportedError:  # a long text
            return None

    return rule


def _last(operands: Operands, name: str, *kinds: type) -> Any:  # noqa: ANN401 - a literal of these
    """Return the only remaining operand: a literal with this name."""
    key, literal = operands.pop(name, ("", None))
    if operands or key or literal.__class__ not in kinds:
        raise UnsupportedError
    return literal


_NAMED: dict[str, Callable[[Operands, Verdict, str | None], Rule]] = {
    "exists": _exists,
    "matches": _matches,
    "split": _split,
}
