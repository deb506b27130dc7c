"""Split's rule-based segments, compiled. Pure; imported when a flag first needs one.

The rules are those of splitio_client 10.7.0 (``RuleBasedSegmentMatcher``), but where it cannot
know: a segment with a matcher that it does not know has everybody in it there, and one that
excludes a large segment excludes nobody by that. Here, what gets to either is ``UNSUPPORTED``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation.split_compiler import UNSUPPORTED_CONDITIONS, compile_conditions
from flagstore.evaluation.split_matchers import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from flagstore.evaluation.split_context import Context
    from flagstore.evaluation.split_matchers import Links, Match

    class RuleBasedLinks(Links, Protocol):
        """What a rule-based segment looks up elsewhere in the flag set."""

        needs: list[tuple[str, Any]]
        """Section and name of all that was asked for."""

        def find(self, name: str) -> Callable[[], RuleBased]:
            """Return what returns another rule-based segment; it fails if that is not there."""


class RuleBased:
    """A rule-based segment that was compiled.

    A context is in it if its key is not in ``keys``, ``shuts_out`` does not say so, and ``matches``
    does: one of its conditions.
    """

    def __init__(self, name: str, raw: Any, links: RuleBasedLinks) -> None:  # noqa: ANN401 - provider JSON
        self._name = name
        conditions = compile_conditions(raw, links)
        self._conditions = [condition.match for condition in conditions]
        excluded = raw.get("excluded")
        excluded = {} if excluded is None else excluded
        keys, segments = excluded.get("keys"), excluded.get("segments")
        raw["name"], raw["trafficTypeName"], raw["changeNumber"], raw["status"]
        self.keys = _keys(keys)
        self._excluded: list[tuple[Match | None, Any]] = [
            _excluded(segment["name"], segment["type"], links)
            for segment in (() if segments is None else segments)
        ]
        self.needs = links.needs
        self._matches = _unsupported if conditions is UNSUPPORTED_CONDITIONS else self._match_any
        self.matches: Match = self._matches
        self.shuts_out: Match = self._shuts_out

    def guard(self) -> None:
        """Notice when the segment comes back to itself; twice is as good as once."""
        matches, shuts_out, name = self._matches, self._shuts_out, self._name
        self.matches = lambda context: matches(context.within(("conditions", name)))
        self.shuts_out = lambda context: shuts_out(context.within(("excluded", name)))

    def _match_any(self, context: Context) -> bool:
        for match in self._conditions:  # noqa: SIM110 - any() with a generator takes twice as long
            if match(context):
                return True
        return False

    def _shuts_out(self, context: Context) -> bool:
        """Say whether a segment that is excluded has the context."""
        for within, find in self._excluded:
            if within is not None:
                if within(context):
                    return True
                continue
            other = find()
            # As in the SDK: a key that the excluded segment excludes ends the search.
            if context.key in other.keys:
                return False
            if other.shuts_out(context) or other.matches(context):
                return True
        return False


def _excluded(name: Any, kind: Any, links: RuleBasedLinks) -> tuple[Match | None, Any]:  # noqa: ANN401 - provider JSON
    """Return what says whether a context is in an excluded segment, or what finds the segment."""
    if kind == "rule-based":
        return None, links.find(name)
    return (links.segment(name) if kind == "standard" else _unsupported), None


def _unsupported(_context: Context) -> bool:
    raise UnsupportedError("of large segments, no server-side SDK knows the keys")


def _keys(keys: Any) -> Any:  # noqa: ANN401 - provider JSON
    """Return excluded keys: what ``in`` takes, as the SDK asks, be it damaged."""
    if keys is None:
        return ()
    if isinstance(keys, list) and all(isinstance(key, str) for key in keys):
        return frozenset(keys)
    return keys
