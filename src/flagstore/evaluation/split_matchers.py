"""Split's matchers, each compiled into a function of a context. Pure.

They match as those of splitio_client 10.7.0 do. A matcher looks at an attribute, or at the key
where it selects none; one that is missing or None does not match, and is negated like the others.
A matcher of damaged JSON raises what Python raises for it, mostly KeyError or TypeError, while it
is compiled or, as in the SDK, only while it is evaluated.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from flagstore.evaluation.split_context import Context

    Match = Callable[[Context], Any]

    class Links(Protocol):
        """What matchers of one flag look up elsewhere in the flag set."""

        def treatment(self, flag: str) -> Callable[[Context], Any]:
            """Return what gives another flag's treatment; ``control`` where there is none."""

        def segment(self, name: str) -> Match:
            """Return what says whether a context's key is in a segment."""

        def rule_based(self, name: str) -> Match:
            """Return what says whether a context is in a rule-based segment."""

        def forget(self) -> None:
            """Take back what was asked for: it will not be needed."""


class UnsupportedError(Exception):
    """A matcher that no server-side SDK knows, such as that of large segments."""


def always(_context: Context) -> bool:
    """Match everybody."""
    return True


def compile_matcher(raw: Any, links: Links) -> Match:  # noqa: ANN401 - provider JSON
    """Compile one matcher of a condition.

    Raises:
        UnsupportedError: its type is unknown.
        Exception: it is damaged.
    """
    build = _BUILDERS.get(raw["matcherType"])
    if build is None:
        raise UnsupportedError(raw["matcherType"])
    negate = raw["negate"]
    selector = raw.get("keySelector")
    # An empty text is the name of an attribute here; it is the key in the JavaScript SDK.
    name = selector["attribute"] if selector is not None and "attribute" in selector else None
    match = build(raw, name, links)
    if negate is False:
        return match
    if negate is True:
        return lambda context: not match(context)
    return lambda context: negate ^ match(context)


def as_text(value: object) -> str | None:
    """Return what the matchers of text look at: JSON of what is no text, None if there is none."""
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except TypeError:
        return None


def as_int(value: object) -> Any:  # noqa: ANN401 - any integral type, as of numpy
    """Return what the matchers of numbers look at: no float and no bool; None if there is none."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    if value is None or isinstance(value, (bool, float)):
        return None
    from numbers import Integral  # noqa: PLC0415 - seldom needed, and not loaded yet

    return value if isinstance(value, Integral) else None


def as_bool(value: object) -> bool | None:
    """Return what EQUAL_TO_BOOLEAN looks at: JSON's words in any case, as text; else None."""
    if isinstance(value, str):
        word = value.lower().strip(" \t\r\n")
        return word == "true" if word in {"true", "false"} else None
    return value if isinstance(value, bool) else None


def _all_keys(_raw: Any, _name: str | None, _links: Links) -> Match:  # noqa: ANN401
    return always


def _in_segment(raw: Any, name: str | None, links: Links) -> Match:  # noqa: ANN401
    within = links.segment(raw["userDefinedSegmentMatcherData"]["segmentName"])
    if name is None:
        return within
    # The attribute must be there, but it is the key that must be in the segment.
    return lambda context: context.values.get(name) is not None and within(context)


def _in_rule_based(raw: Any, _name: str | None, links: Links) -> Match:  # noqa: ANN401
    segment = raw["userDefinedSegmentMatcherData"]["segmentName"]
    return (lambda _context: False) if segment is None else links.rule_based(segment)


def _in_treatment(raw: Any, _name: str | None, links: Links) -> Match:  # noqa: ANN401
    data = raw["dependencyMatcherData"]
    treatment = links.treatment(data["split"])
    wanted = data["treatments"]
    return lambda context: treatment(context) in wanted


def _boolean(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
    wanted = raw["booleanMatcherData"]

    def match(context: Context) -> bool:
        value = as_bool(context.values.get(name))
        return value is not None and value == wanted

    return match


def _words(raw: Any) -> frozenset[Any]:  # noqa: ANN401
    return frozenset(raw["whitelistMatcherData"]["whitelist"])


def _listed(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
    words = _words(raw)

    def match(context: Context) -> bool:
        value = context.values.get(name)
        if value.__class__ is not str and (value := as_text(value)) is None:
            return False
        return value in words

    return match


def _starts(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
    words = tuple(_words(raw))

    def match(context: Context) -> bool:
        value = as_text(context.values.get(name))
        return value is not None and value.startswith(words)

    return match


def _ends(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
    words = tuple(_words(raw))

    def match(context: Context) -> bool:
        value = as_text(context.values.get(name))
        return value is not None and value.endswith(words)

    return match


def _contains(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
    words = tuple(_words(raw))

    def match(context: Context) -> bool:
        value = as_text(context.values.get(name))
        if value is None:
            return False
        for word in words:  # noqa: SIM110 - any() with a generator takes twice as long
            if word in value:
                return True
        return False

    return match


def _regex(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
    search = re.compile(raw["stringMatcherData"]).search

    def match(context: Context) -> bool:
        value = as_text(context.values.get(name))
        return value is not None and search(value) is not None

    return match


def _set(test: Callable[[frozenset[Any], set[Any]], bool]) -> Any:  # noqa: ANN401 - a builder
    def build(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
        words = _words(raw)

        def match(context: Context) -> bool:
            value = context.values.get(name)
            if value is None:
                return False
            try:
                # A text is the set of its characters.
                return test(words, set(value))
            except TypeError:
                return False

        return match

    return build


def _number(data: Any, field: str, step: int) -> Any:  # noqa: ANN401
    """Return a rule's number; a date's milliseconds as the seconds at the start of its step."""
    if not _IS_DATE[data["dataType"]]:
        return data[field]
    seconds = data[field] / 1000
    return seconds - seconds % step


def _compared(step: int, test: Callable[[Any, Any], bool]) -> Any:  # noqa: ANN401 - a builder
    def build(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
        data = raw["unaryNumericMatcherData"]
        wanted = _number(data, "value", step)
        date = _IS_DATE[data["dataType"]]

        def match(context: Context) -> bool:
            value = context.values.get(name)
            if value.__class__ is not int and (value := as_int(value)) is None:
                return False
            return test(value - value % step if date else value, wanted)

        return match

    return build


def _between(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
    data = raw["betweenMatcherData"]
    low, high = _number(data, "start", _MINUTE), _number(data, "end", _MINUTE)
    date = _IS_DATE[data["dataType"]]

    def match(context: Context) -> bool:
        value = context.values.get(name)
        if value.__class__ is not int and (value := as_int(value)) is None:
            return False
        if date:
            value -= value % _MINUTE
        return low <= value <= high  # type: ignore[no-any-return] # JSON of either type

    return match


def _semver(raw: Any, name: str | None, _links: Links) -> Match:  # noqa: ANN401
    from flagstore.evaluation.split_semver import BUILDERS  # noqa: PLC0415 - seldom needed

    return BUILDERS[raw["matcherType"]](raw, name)


_MINUTE, _DAY = 60, 86_400
_IS_DATE = {"NUMBER": False, "DATETIME": True}

_BUILDERS: dict[str, Callable[[Any, str | None, Links], Match]] = {
    "ALL_KEYS": _all_keys,
    "IN_SEGMENT": _in_segment,
    "IN_RULE_BASED_SEGMENT": _in_rule_based,
    "IN_SPLIT_TREATMENT": _in_treatment,
    "WHITELIST": _listed,
    "STARTS_WITH": _starts,
    "ENDS_WITH": _ends,
    "CONTAINS_STRING": _contains,
    "MATCHES_STRING": _regex,
    "EQUAL_TO_BOOLEAN": _boolean,
    "EQUAL_TO_SET": _set(lambda words, given: words == given),
    "CONTAINS_ALL_OF_SET": _set(lambda words, given: words <= given),
    "CONTAINS_ANY_OF_SET": _set(lambda words, given: not words.isdisjoint(given)),
    "PART_OF_SET": _set(lambda words, given: bool(given) and given <= words),
    "EQUAL_TO": _compared(_DAY, lambda value, wanted: value == wanted),
    "GREATER_THAN_OR_EQUAL_TO": _compared(_MINUTE, lambda value, wanted: value >= wanted),
    "LESS_THAN_OR_EQUAL_TO": _compared(_MINUTE, lambda value, wanted: value <= wanted),
    "BETWEEN": _between,
    "EQUAL_TO_SEMVER": _semver,
    "GREATER_THAN_OR_EQUAL_TO_SEMVER": _semver,
    "LESS_THAN_OR_EQUAL_TO_SEMVER": _semver,
    "BETWEEN_SEMVER": _semver,
    "IN_LIST_SEMVER": _semver,
}
