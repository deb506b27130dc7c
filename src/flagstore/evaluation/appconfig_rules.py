"""Parses and compiles the rules of AppConfig's variants, as far as they are documented. Pure.

A rule is an s-expression in the text form of Amazon Ion: ``(and (eq $state "Virginia") (gt $age
65))``. Source: AWS AppConfig user guide, "Defining rules for multi-variant feature flags".

Of a missing context value the guide says that it selects no variant ("If the context doesn't
include an account ID …, AWS AppConfig returns configuration data for the Default rule"). What
it leaves open has no response here either:

- the hash of ``split``, except for 0 and 100 percent, and a ``split`` by a value that is missing
- whether ``matches`` looks at the whole text or anywhere in it, where the two differ; and what
  regular expressions mean that differ between dialects
- a comparison of values of two types, such as the text ``"70"`` with the number 65: the agent
  gets all its context as text, and no page says how it compares that
- the order of texts, and anything about timestamps
- ``not`` around something that reads a missing value
- operators, numbers of operands and literals that no page shows

A rule that does not depend on such an open question still has its verdict: ``(and (eq $state
"Virginia") (split …))`` is false for everybody outside of Virginia. Texts are compared letter by
letter, which is assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from flagstore.evaluation.appconfig_tokens import OpenError, Tokens, literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Context = dict[str, Any]
    Rule = Callable[[Context], int]
    Operand = Callable[[Context], Any]

TRUE = 1
FALSE = 0
NOT_TRUE = 2
"""It selects no variant, but whether it is false or no verdict at all, no page says."""
BOOLEAN = 3
"""True or false, and nobody outside of AWS knows which."""
OPEN = 4
"""Anything, an error included."""
UNDECIDED = (BOOLEAN, OPEN)

MAX_DEPTH = 64
"""Parentheses within each other; a rule has 16,384 characters at most."""
_EXACT = 2**53
"""Beyond, a float cannot hold every integer."""

_MISSING = object()


def compile_rule(text: str) -> Rule:
    """Compile one rule. A rule that is not understood is OPEN, whatever the context."""
    try:
        tokens = Tokens(text)
        rule = _expression(tokens, 0)
        tokens.end()
    except OpenError:
        return _open
    return rule


def _open(_context: Context) -> int:
    return OPEN


# -- parsing -------------------------------------------------------------------------------------


def _expression(tokens: Tokens, depth: int) -> Rule:
    """Parse what is true or false: an operator with its operands, a literal, a context value."""
    if depth > MAX_DEPTH:
        raise OpenError
    if not tokens.skip("("):
        return _truth(_operand(tokens))
    operator = tokens.take("symbol")
    if operator in {"and", "or", "not"}:
        parts = []
        while not tokens.skip(")"):
            parts.append(_expression(tokens, depth + 1))
        return _logical(operator, parts)
    if operator in {"exists", "matches", "split"}:
        return _NAMED[operator](_named(tokens))
    left = _operand(tokens)
    right = _list(tokens) if operator == "in" else _operand(tokens)
    if not tokens.skip(")"):
        raise OpenError
    try:
        return _compared(_COMPARISONS[operator], left, right)
    except KeyError:
        raise OpenError from None


def _named(tokens: Tokens) -> dict[str, Operand]:
    """Parse operands that have names, in any order."""
    found: dict[str, Operand] = {}
    while not tokens.skip(")"):
        name = tokens.take("name")
        if name in found:
            raise OpenError
        found[name] = _operand(tokens)
    return found


def _operand(tokens: Tokens) -> Operand:
    """Parse a literal or a context value."""
    if tokens.kind == "key":
        key = tokens.take("key")
        return lambda context: context.get(key, _MISSING)
    value = literal(tokens)
    return _Literal(value)


class _Literal:
    """A literal as an operand; named operands look into it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:  # noqa: ANN401 - any literal
        self.value = value

    def __call__(self, _context: Context) -> Any:  # noqa: ANN401 - any literal
        return self.value


def _list(tokens: Tokens) -> Operand:
    if not tokens.skip("["):
        raise OpenError
    values: list[Any] = []
    while not tokens.skip("]"):
        if values and not tokens.skip(","):
            raise OpenError
        values.append(literal(tokens))
    return _Literal(values)


# -- verdicts ------------------------------------------------------------------------------------


def _truth(operand: Operand) -> Rule:
    def rule(context: Context) -> int:
        value = operand(context)
        if value is True or value is False:
            return TRUE if value else FALSE
        return NOT_TRUE if value is _MISSING else OPEN

    return rule


def _logical(operator: str, parts: Sequence[Rule]) -> Rule:
    if operator == "not":
        if len(parts) != 1:
            raise OpenError
        (part,) = parts
        reverse = {TRUE: FALSE, FALSE: TRUE, NOT_TRUE: OPEN, BOOLEAN: BOOLEAN, OPEN: OPEN}
        return lambda context: reverse[part(context)]
    # One is enough for AppConfig ("at least one of the operands"), and decides then.
    if not parts:
        raise OpenError
    join = _and if operator == "and" else _or
    return lambda context: join({part(context) for part in parts})


def _and(verdicts: set[int]) -> int:
    """Join: one that cannot be true decides, whatever the others are."""
    if FALSE in verdicts or NOT_TRUE in verdicts:
        return NOT_TRUE if NOT_TRUE in verdicts or OPEN in verdicts else FALSE
    return max(verdicts)


def _or(verdicts: set[int]) -> int:
    """Join: "at least one of the operands is true"; an error beside it may undo that."""
    if OPEN in verdicts:
        return OPEN
    if TRUE in verdicts:
        return TRUE
    if BOOLEAN in verdicts and NOT_TRUE in verdicts:
        return OPEN
    return max(verdicts)


def _compared(compare: Callable[[Any, Any], int], left: Operand, right: Operand) -> Rule:
    def rule(context: Context) -> int:
        one, other = left(context), right(context)
        if one is _MISSING or other is _MISSING:
            return NOT_TRUE
        return compare(one, other)

    return rule


def _are_numbers(one: Any, other: Any) -> bool:  # noqa: ANN401 - any value
    """Say whether both are numbers that compare as what they are."""
    kinds = {one.__class__, other.__class__}
    if not kinds <= {int, float}:
        return False
    return kinds == {int} or (abs(one) < _EXACT and abs(other) < _EXACT)


def _eq(one: Any, other: Any) -> int:  # noqa: ANN401 - any value
    kind = one.__class__
    same = kind is other.__class__ and kind in {str, bool}
    return int(one == other) if same or _are_numbers(one, other) else OPEN


def _in(one: Any, others: list[Any]) -> int:  # noqa: ANN401 - any value
    verdicts = {_eq(one, other) for other in others}
    return TRUE if TRUE in verdicts else OPEN if OPEN in verdicts else FALSE


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], int]:
    return lambda one, other: int(compare(one, other)) if _are_numbers(one, other) else OPEN


def _textual(compare: Callable[[str, str], bool]) -> Callable[[Any, Any], int]:
    def test(one: Any, other: Any) -> int:  # noqa: ANN401 - any value
        texts = one.__class__ is str and other.__class__ is str
        return int(compare(one, other)) if texts else OPEN

    return test


_COMPARISONS: dict[str, Callable[[Any, Any], int]] = {
    "eq": _eq,
    "in": _in,
    "gt": _ordered(lambda one, other: one > other),
    "gte": _ordered(lambda one, other: one >= other),
    "lt": _ordered(lambda one, other: one < other),
    "lte": _ordered(lambda one, other: one <= other),
    "begins_with": _textual(str.startswith),
    "ends_with": _textual(str.endswith),
    "contains": _textual(lambda one, other: other in one),
}


def _exists(operands: dict[str, Operand]) -> Rule:
    key = _only(operands, "key")
    if key.__class__ is not str:
        raise OpenError
    return lambda context: TRUE if key in context else FALSE


def _split(operands: dict[str, Operand]) -> Rule:
    by = operands.pop("by", None)
    operands.pop("seed", None)
    share = _only(operands, "pct")
    if by is None or share.__class__ not in {int, float} or not 0 <= share <= 100:  # noqa: PLR2004 - %
        raise OpenError
    verdict = FALSE if share == 0 else TRUE if share == 100 else BOOLEAN  # noqa: PLR2004 - %

    def rule(context: Context) -> int:
        return OPEN if by(context) is _MISSING else verdict

    return rule


def _matches(operands: dict[str, Operand]) -> Rule:
    subject = operands.pop("in", None)
    pattern = _only(operands, "pattern")
    if subject is None or pattern.__class__ is not str:
        raise OpenError
    from flagstore.evaluation.patterns import portable_matchers  # noqa: PLC0415 - rare

    matchers = portable_matchers(pattern)
    if matchers is None:
        raise OpenError
    whole, anywhere = matchers

    def rule(context: Context) -> int:
        text = subject(context)
        if text is _MISSING:
            return NOT_TRUE
        if text.__class__ is not str or not (text.isascii() and text.isprintable()):
            return OPEN
        if whole(text):
            return TRUE
        return OPEN if anywhere(text) else FALSE

    return rule


def _only(operands: dict[str, Operand], name: str) -> Any:  # noqa: ANN401 - any literal
    """Return the one literal that is left; it has to be of this name."""
    operand = operands.pop(name, None)
    if operands or operand.__class__ is not _Literal:
        return _no_literal()
    return operand.value


def _no_literal() -> NoReturn:
    raise OpenError


_NAMED: dict[str, Callable[[dict[str, Operand]], Rule]] = {
    "exists": _exists,
    "matches": _matches,
    "split": _split,
}
