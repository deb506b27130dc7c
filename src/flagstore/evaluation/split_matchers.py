"""The contexts and matchers of Split's flags, as in splitio_client 10.7.0. No I/O.

A matcher is compiled into a function of a context. It tests an attribute, or the key if it selects
none. A missing value or None does not match, unless negated.
"""

from __future__ import annotations

import json
import re
from operator import eq, ge, le
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import (
    ABSENT,
    CONTEXT_INVALID,
    KEY_MISSING,
    ContextError,
    MalformedError,
    UnsupportedError,
    all_of,
    optional,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet
    from typing import Protocol

    from flagstore.evaluation.base import Evaluation, Json
    from flagstore.evaluation.semver import LooseVersion

    Match = Callable[["Context"], Any]
    """Returns a truthy value if a context matches."""
    Test = Callable[[Any], bool]
    """The same for a value: an attribute, or the key."""
    Decide = Callable[["Context"], Evaluation]

    class Group(Protocol):
        """A rule-based segment."""

        @property
        def keys(self) -> AbstractSet[str]:
            """Excluded keys."""

        def contains(self, context: Context) -> bool:
            """Return whether a context is in it."""

        def matches(self, context: Context) -> bool:
            """Return whether a condition matches."""

        def excludes(self, context: Context) -> bool:
            """Return whether the context is in an excluded segment."""

    class Engine(Protocol):
        """Finds the other flags and segments that a matcher refers to."""

        @property
        def flags(self) -> Mapping[str, Decide]:
            """Those compiled so far."""

        @property
        def segments(self) -> Mapping[str, frozenset[str]]:
            """The same for keys of segments."""

        @property
        def rule_based(self) -> Mapping[str, Group]:
            """The same for rule-based segments."""

        def flag(self, name: str) -> Decide | None:
            """Compile a flag; None if it does not exist."""

        def segment(self, name: str) -> frozenset[str]:
            """Compile a segment."""

        def rule_based_segment(self, name: str) -> Group:
            """Compile a rule-based segment; MalformedError if there is none."""


CONTROL = "control"
"""The SDK's treatment where it cannot evaluate; other flags can depend on it."""
MAX_KEY = 250
"""In characters."""
_MINUTE, _DAY = 60, 86_400

# -- contexts -------------------------------------------------------------------------------------


class Context:
    """A key with its attributes and its hashes so far."""

    __slots__ = (
        "bucketing_key",
        "buckets",
        "engine",
        "key",
        "legacy_hash",
        "mixed",
        "path",
        "values",
    )

    def __init__(
        self, engine: Engine, key: str, bucketing_key: str, values: dict[Any, Any]
    ) -> None:
        self.engine = engine
        """Finds other flags and segments: matchers hold nothing of a flag set, which may change."""
        self.key = key
        """The matching key."""
        self.bucketing_key = bucketing_key
        """The key that is hashed; by default, the matching key."""
        values[None] = key
        self.values = values
        """The attributes by name. None maps to the key, for matchers without an attribute."""
        self.buckets: dict[int, int] = {}
        """Seed → bucket; seeds of the legacy hash are negative."""
        self.mixed: tuple[tuple[int, ...], int, int] | None = None
        self.legacy_hash = -1
        """The bucketing key's hash before a seed is mixed in; -1 if it has not been needed yet."""
        self.path: tuple[str, ...] = ()
        """The flags and segments that led to the one being evaluated."""

    def entering(self, name: str) -> Context:
        """Return the context for a flag or rule-based segment that another needs.

        Raises:
            MalformedError: it is being evaluated already.
        """
        if name in self.path:
            raise MalformedError
        inner = Context.__new__(Context)
        inner.engine = self.engine
        inner.key, inner.bucketing_key, inner.values = self.key, self.bucketing_key, self.values
        inner.buckets, inner.mixed, inner.legacy_hash = self.buckets, self.mixed, self.legacy_hash
        inner.path = (*self.path, name)
        return inner


def make_context(engine: Engine, given: Mapping[str, Any]) -> Context:
    """Split a caller's context, which is not changed, into keys and attributes.

    The matching key is ``key``, ``targetingKey`` or ``targeting_key``, the first that is not None;
    the bucketing key ``bucketingKey`` or ``bucketing_key``. None of these is an attribute.

    Raises:
        ContextError: there is no key, or the SDK does not accept it.
    """
    try:
        values: dict[Any, Any] = dict(given)
    except (TypeError, ValueError) as error:
        raise ContextError(CONTEXT_INVALID, "a context must be a mapping") from error
    take = values.pop
    key, second, third = take("key", None), take("targetingKey", None), take("targeting_key", None)
    bucketing, other = take("bucketingKey", None), take("bucketing_key", None)
    if key is None:
        key = third if second is None else second
        if key is None:
            raise ContextError(KEY_MISSING, "the context has no key")
    key = _checked(key, "key")
    if bucketing is None:
        bucketing = other
    bucketing = key if bucketing is None else _checked(bucketing, "bucketingKey")
    return Context(engine, key, bucketing, values)


def _checked(key: object, name: str) -> str:
    text = key if isinstance(key, str) else _as_key(key)
    if text is None:
        raise ContextError(CONTEXT_INVALID, f"the {name} must be a string or a finite number")
    if not text or text.isspace():
        raise ContextError(KEY_MISSING, f"the {name} is empty")
    if len(text) > MAX_KEY:
        raise ContextError(CONTEXT_INVALID, f"the {name} is longer than {MAX_KEY} characters")
    return text


def _as_key(value: object) -> str | None:
    import math  # noqa: PLC0415 - keys are nearly always strings
    from numbers import Number  # noqa: PLC0415

    if isinstance(value, bool) or not isinstance(value, Number):
        return None
    try:
        finite = math.isfinite(value)  # type: ignore[arg-type] # a complex number fails
    except (TypeError, ValueError, OverflowError):
        return None
    return str(value) if finite else None


# -- conditions -----------------------------------------------------------------------------------


def always(_context: Context) -> bool:
    """Match every context."""
    return True


def compile_condition(raw: Json) -> tuple[Match, bool]:
    """Compile a condition: its matcher, and whether the traffic allocation applies (``ROLLOUT``).

    Raises:
        UnsupportedError: the type of a matcher is unknown.
        MalformedError: a field is missing or invalid.
    """
    group = required(raw, "matcherGroup", dict)
    matchers = all_of(required(group, "matchers", list), dict)
    compiled = [_compile_matcher(matcher) for matcher in matchers]
    kind = raw.get("conditionType", "WHITELIST")
    if group.get("combiner") != "AND" or kind not in ("WHITELIST", "ROLLOUT"):
        raise MalformedError
    return _all([match for match in compiled if match is not always]), kind == "ROLLOUT"


def _all(matches: list[Match]) -> Match:
    if not matches:
        return always
    if len(matches) == 1:
        return matches[0]
    if len(matches) == 2:  # noqa: PLR2004 - the usual number, without a loop
        one, other = matches
        return lambda context: one(context) and other(context)

    def match_all(context: Context) -> bool:
        for match in matches:  # noqa: SIM110 - all() with a generator takes twice as long
            if not match(context):
                return False
        return True

    return match_all


def _compile_matcher(raw: Json) -> Match:
    kind = required(raw, "matcherType", str)
    if kind not in _TESTS and kind not in _MATCHERS:
        raise UnsupportedError
    negate = required(raw, "negate", bool)
    selector = optional(raw, "keySelector", dict) or {}
    # An empty string is the name of an attribute here; it is the key in the JavaScript SDK.
    name = optional(selector, "attribute", str)
    if kind in _MATCHERS:
        match = _MATCHERS[kind](raw, name)
        return (lambda context: not match(context)) if negate else match
    test = _TESTS[kind](raw)
    if negate:
        return lambda context: not test(context.values.get(name))
    return lambda context: test(context.values.get(name))


# -- matchers of the key --------------------------------------------------------------------------


def treatment_of(flag: str) -> Callable[[Context], str]:
    """Return a function for another flag's treatment, or ``control`` if it has none."""

    def treatment(context: Context) -> str:
        engine = context.engine
        decide = engine.flags.get(flag) or engine.flag(flag)
        if decide is None:
            return CONTROL
        value = decide(context.entering(flag)).value
        return CONTROL if value is ABSENT else value

    return treatment


def within_segment(name: str) -> Match:
    """Return a matcher for the keys in a segment; it matches none if it is missing."""

    def within(context: Context) -> bool:
        engine = context.engine
        keys = engine.segments.get(name)
        return context.key in (engine.segment(name) if keys is None else keys)

    return within


def _all_keys(_raw: Json, _name: str | None) -> Match:
    return always


def _in_segment(raw: Json, name: str | None) -> Match:
    data = required(raw, "userDefinedSegmentMatcherData", dict)
    within = within_segment(required(data, "segmentName", str))
    if name is None:
        return within
    # The attribute must exist, but the segment is searched for the key.
    return lambda context: context.values.get(name) is not None and within(context)


def _in_rule_based(raw: Json, _name: str | None) -> Match:
    data = required(raw, "userDefinedSegmentMatcherData", dict)
    segment = required(data, "segmentName", str)
    token = f"segment {segment}"

    def within(context: Context) -> bool:
        engine = context.engine
        found = engine.rule_based.get(segment) or engine.rule_based_segment(segment)
        return found.contains(context.entering(token))

    return within


def _in_treatment(raw: Json, _name: str | None) -> Match:
    data = required(raw, "dependencyMatcherData", dict)
    treatment = treatment_of(required(data, "split", str))
    wanted = frozenset(all_of(required(data, "treatments", list), str))
    return lambda context: treatment(context) in wanted


_MATCHERS: dict[str, Callable[[Json, str | None], Match]] = {
    "ALL_KEYS": _all_keys,
    "IN_SEGMENT": _in_segment,
    "IN_RULE_BASED_SEGMENT": _in_rule_based,
    "IN_SPLIT_TREATMENT": _in_treatment,
}

# -- matchers of a value --------------------------------------------------------------------------


def _as_text(value: object) -> str | None:
    """Convert a value for text matchers: a string, or the JSON of another value."""
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except TypeError:
        return None


def _as_int(value: object) -> Any:  # noqa: ANN401 - any integral type, as in numpy
    """Convert a value for number matchers; None for floats, bools and other types."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    if value is None or isinstance(value, (bool, float)):
        return None
    from numbers import Integral  # noqa: PLC0415 - rarely needed, and not loaded yet

    return value if isinstance(value, Integral) else None


def _as_bool(value: object) -> bool | None:
    if isinstance(value, str):
        word = value.lower().strip(" \t\r\n")
        return word == "true" if word in {"true", "false"} else None
    return value if isinstance(value, bool) else None


def _boolean(raw: Json) -> Test:
    wanted = required(raw, "booleanMatcherData", bool)
    return lambda value: _as_bool(value) is wanted


def _words(raw: Json) -> frozenset[str]:
    data = required(raw, "whitelistMatcherData", dict)
    return frozenset(all_of(required(data, "whitelist", list), str))


def _listed(raw: Json) -> Test:
    words = _words(raw)
    return lambda value: (value if value.__class__ is str else _as_text(value)) in words


def _textual(compare: Callable[[str, tuple[str, ...]], bool], raw: Json) -> Test:
    words = tuple(_words(raw))

    def test(value: object) -> bool:
        text = _as_text(value)
        return text is not None and compare(text, words)

    return test


def _contains(text: str, words: tuple[str, ...]) -> bool:
    for word in words:  # noqa: SIM110 - any() with a generator takes twice as long
        if word in text:
            return True
    return False


def _regex(raw: Json) -> Test:
    try:
        search = re.compile(required(raw, "stringMatcherData", str)).search
    except (re.error, OverflowError, RecursionError):
        raise MalformedError from None

    def test(value: object) -> bool:
        text = _as_text(value)
        return text is not None and search(text) is not None

    return test


def _set(compare: Callable[[frozenset[str], set[Any]], bool], raw: Json) -> Test:
    words = _words(raw)

    def test(value: Any) -> bool:  # noqa: ANN401 - the caller's own
        try:
            # A string counts as the set of its characters.
            return value is not None and compare(words, set(value))
        except TypeError:
            return False

    return test


def _number(data: Json, field: str, step: int) -> tuple[Any, int]:
    """Return a rule's number, and the unit to which a context's number is rounded down.

    A date is milliseconds in the rule, and rounded down as well; it is seconds in the context.
    """
    kind = data.get("dataType")
    number = required(data, field, (int, float))
    if kind == "NUMBER":
        return number, 0
    if kind != "DATETIME":
        raise MalformedError("dataType")
    return number // (1000 * step) * step, step


def _compared(compare: Callable[[Any, Any], bool], step: int, raw: Json) -> Test:
    wanted, round_to = _number(required(raw, "unaryNumericMatcherData", dict), "value", step)

    def test(value: Any) -> bool:  # noqa: ANN401 - the caller's own
        if value.__class__ is not int and (value := _as_int(value)) is None:
            return False
        return compare(value - value % round_to if round_to else value, wanted)

    return test


def _between(raw: Json) -> Test:
    data = required(raw, "betweenMatcherData", dict)
    (low, round_to), (high, _) = (_number(data, end, _MINUTE) for end in ("start", "end"))

    def test(value: Any) -> bool:  # noqa: ANN401 - the caller's own
        if value.__class__ is not int and (value := _as_int(value)) is None:
            return False
        return low <= (value - value % round_to if round_to else value) <= high  # type: ignore[no-any-return] # numbers

    return test


def _versions(raw: Json) -> Test:
    from flagstore.evaluation.semver import compare_loosely, parse_loosely  # noqa: PLC0415 - rare

    low, high, listed = _wanted_versions(raw, parse_loosely)

    def test(value: object) -> bool:
        text = _as_text(value)
        version = None if text is None else parse_loosely(text)
        if version is None:
            return False
        if listed is not None:
            # As strings, as in the SDK: 1.0.0+a is not 1.0.0+b, though neither is older.
            return version.text in listed
        return (low is None or compare_loosely(low, version) <= 0) and (
            high is None or compare_loosely(version, high) <= 0
        )

    return test


def _wanted_versions(
    raw: Json, parse: Callable[[str], LooseVersion | None]
) -> tuple[LooseVersion | None, LooseVersion | None, frozenset[str] | None]:
    """Return a matcher's lowest and highest version, or the only ones that match."""
    kind = raw["matcherType"]
    nothing = None, None, frozenset[str]()  # as in the SDK: it compares with an invalid version
    if kind == "BETWEEN_SEMVER":
        data = required(raw, "betweenStringMatcherData", dict)
        low, high = (parse(required(data, end, str)) for end in ("start", "end"))
        return (low, high, None) if low and high else nothing
    if kind == "IN_LIST_SEMVER":
        found = map(parse, _words(raw))
        return None, None, frozenset(version.text for version in found if version)
    wanted = parse(required(raw, "stringMatcherData", str))
    if wanted is None:
        return nothing
    if kind == "EQUAL_TO_SEMVER":
        return None, None, frozenset({wanted.text})
    return (None, wanted, None) if kind.startswith("LESS") else (wanted, None, None)


_TESTS: dict[str, Callable[[Json], Test]] = {
    "WHITELIST": _listed,
    "STARTS_WITH": lambda raw: _textual(str.startswith, raw),
    "ENDS_WITH": lambda raw: _textual(str.endswith, raw),
    "CONTAINS_STRING": lambda raw: _textual(_contains, raw),
    "MATCHES_STRING": _regex,
    "EQUAL_TO_BOOLEAN": _boolean,
    "EQUAL_TO_SET": lambda raw: _set(frozenset.__eq__, raw),
    "CONTAINS_ALL_OF_SET": lambda raw: _set(frozenset.issubset, raw),
    "CONTAINS_ANY_OF_SET": lambda raw: _set(lambda words, given: bool(words & given), raw),
    "PART_OF_SET": lambda raw: _set(lambda words, given: bool(given) and given <= words, raw),
    "EQUAL_TO": lambda raw: _compared(eq, _DAY, raw),
    "GREATER_THAN_OR_EQUAL_TO": lambda raw: _compared(ge, _MINUTE, raw),
    "LESS_THAN_OR_EQUAL_TO": lambda raw: _compared(le, _MINUTE, raw),
    "BETWEEN": _between,
    "EQUAL_TO_SEMVER": _versions,
    "GREATER_THAN_OR_EQUAL_TO_SEMVER": _versions,
    "LESS_THAN_OR_EQUAL_TO_SEMVER": _versions,
    "BETWEEN_SEMVER": _versions,
    "IN_LIST_SEMVER": _versions,
}
