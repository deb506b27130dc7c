"""Split's matchers of semantic versions, each compiled into a function of a context. Pure.

As in splitio_client 10.7.0, which reads versions more generously than semver.org: any digits of
Unicode, leading zeros, a pre-release or build of any characters. Imported with the first of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flagstore.evaluation.split_matchers import as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.evaluation.split_context import Context
    from flagstore.evaluation.split_matchers import Match


class Version(NamedTuple):
    """A semantic version."""

    normal: str
    """All of it, without leading zeros."""
    precedence: tuple[int, int, int, bool]
    """Major, minor, patch, and whether it is no pre-release."""
    pre_release: list[str]
    """The identifiers of the pre-release; none if it is none."""


def _parse(text: str) -> Version | None:
    """Read a semantic version; None if it is none."""
    core, plus, metadata = text.partition("+")
    core, minus, rest = core.partition("-")
    if (plus and not metadata) or (minus and not rest):
        return None
    try:
        major, minor, patch = map(int, core.split("."))
        pre = [str(int(x)) if x.isnumeric() else x for x in rest.split(".")] if minus else []
    except ValueError:
        return None
    normal = f"{major}.{minor}.{patch}{minus}{'.'.join(pre)}{plus}{metadata}"
    return Version(normal, (major, minor, patch, not minus), pre)


def _compare(one: Version, other: Version) -> int:
    """Return a number below, equal to or above 0, as the first is older, as old or newer."""
    if one.precedence != other.precedence:
        return 1 if one.precedence > other.precedence else -1
    for mine, theirs in zip(one.pre_release, other.pre_release, strict=False):
        if mine != theirs:
            if mine.isnumeric() and theirs.isnumeric():
                return int(mine) - int(theirs)
            return 1 if mine > theirs else -1
    return len(one.pre_release) - len(other.pre_release)


def _given(context: Context, name: str | None) -> Version | None:
    value = as_text(context.values.get(name))
    return None if value is None else _parse(value)


def _compared(test: Callable[[Version, Version], bool]) -> Any:  # noqa: ANN401 - a builder
    def build(raw: Any, name: str | None) -> Match:  # noqa: ANN401
        wanted = _parse(raw["stringMatcherData"])

        def match(context: Context) -> bool:
            value = None if wanted is None else _given(context, name)
            return value is not None and wanted is not None and test(value, wanted)

        return match

    return build


def _between(raw: Any, name: str | None) -> Match:  # noqa: ANN401
    data = raw["betweenStringMatcherData"]
    low, high = _parse(data["start"]), _parse(data["end"])

    def match(context: Context) -> bool:
        if low is None or high is None or (value := _given(context, name)) is None:
            return False
        return _compare(low, value) <= 0 <= _compare(high, value)

    return match


def _listed(raw: Any, name: str | None) -> Match:  # noqa: ANN401
    versions = [_parse(text) for text in raw["whitelistMatcherData"]["whitelist"] if text]
    listed = frozenset(version.normal for version in versions if version is not None)

    def match(context: Context) -> bool:
        value = _given(context, name)
        return value is not None and value.normal in listed

    return match


BUILDERS: dict[str, Callable[[Any, str | None], Match]] = {
    # As texts, as in the SDK: 1.0.0+a is not 1.0.0+b, though neither is older.
    "EQUAL_TO_SEMVER": _compared(lambda value, wanted: value.normal == wanted.normal),
    "GREATER_THAN_OR_EQUAL_TO_SEMVER": _compared(
        lambda value, wanted: _compare(value, wanted) >= 0
    ),
    "LESS_THAN_OR_EQUAL_TO_SEMVER": _compared(lambda value, wanted: _compare(value, wanted) <= 0),
    "BETWEEN_SEMVER": _between,
    "IN_LIST_SEMVER": _listed,
}
"""By ``matcherType``: a function of the matcher's JSON and the attribute's name."""
