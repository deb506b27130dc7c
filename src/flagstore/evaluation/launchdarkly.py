"""Evaluates LaunchDarkly's flags as launchdarkly-server-sdk 9.18 for Python does. Pure.

A flag is compiled when it is first asked for, into functions and the outcomes that they choose
from, so that a later call only looks up and compares. Where the SDK refuses to take a flag at all,
because a field is missing or of another type, the outcome is ``MALFORMED_FLAG``; fields that no
evaluation reads are not looked at. Big segments (``unbounded``) are not in the flag set: a flag
whose evaluation gets to one is ``UNSUPPORTED``, where an SDK without a store for them goes on.

Regular expressions are Python's, as the provider's SDK has them, and take as long as they take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.errors import NotLoadedError
from flagstore.evaluation.base import (
    ERROR,
    EXCEPTION,
    FLAG_NOT_FOUND,
    MALFORMED_FLAG,
    NOT_LOADED,
    SEGMENT_UNAVAILABLE,
    Evaluation,
    log_fault,
)
from flagstore.evaluation.launchdarkly_context import make_context
from flagstore.evaluation.launchdarkly_fields import MalformedError, StopError
from flagstore.evaluation.launchdarkly_flags import Flag, compile_flag

if TYPE_CHECKING:
    from flagstore.evaluation.base import EngineConfig, Items
    from flagstore.evaluation.launchdarkly_fields import Context, Matcher, Path

_NOT_FOUND = Evaluation(reason=ERROR, error=FLAG_NOT_FOUND)


class LaunchDarklyEngine:
    """Evaluates the flags of one flag set; compiled flags and segments are kept."""

    __slots__ = ("_flags", "_items", "_segments")

    context = staticmethod(make_context)

    def __init__(self, items: Items) -> None:
        self._items = items
        self._flags: dict[str, Flag] = {}
        self._segments: dict[str, Matcher] = {}

    def evaluate(self, key: str, context: Context) -> Evaluation:
        """Evaluate one flag. Never raises: a flag that is damaged is an outcome as well."""
        flag = None
        try:
            flag = self._flags.get(key)
            if flag is None:
                flag = self._flag(key)
                if flag is None:
                    return _NOT_FOUND
            return flag.evaluate(context, ())
        except StopError as error:
            return Evaluation(
                reason=ERROR, error=error.word, version=flag.version if flag else None
            )
        except NotLoadedError:
            return Evaluation(reason=ERROR, error=NOT_LOADED)
        except Exception as error:  # noqa: BLE001 - a flag must not be able to break its caller
            if not isinstance(key, str):
                return _NOT_FOUND
            log_fault(key, error)
            return Evaluation(reason=ERROR, error=EXCEPTION, version=flag.version if flag else None)

    def check(self, section: str, key: str) -> None:
        """Compile a flag or segment.

        Raises:
            MalformedError: as the provider's SDK refuses it, and the whole document with it.
        """
        from flagstore.evaluation.launchdarkly_segments import compile_segment  # noqa: PLC0415

        data = self._items.item(section, key)
        if section == "flags":
            compile_flag(data, self._flag, self._clauses)
        else:
            compile_segment(data, self._clauses)

    def _flag(self, key: str) -> Flag | None:
        """Return a flag, compiled if it was not yet; None if there is none."""
        flag = self._flags.get(key)
        if flag is not None:
            return flag
        data = self._items.item("flags", key)
        if data is None:
            return None
        try:
            flag = compile_flag(data, self._flag, self._clauses)
        except MalformedError:
            version = data.get("version") if isinstance(data, dict) else None
            flag = Flag(_malformed, version if isinstance(version, int) else None, on=True)
        if flag is not None:
            self._flags[key] = flag
        return flag

    def _segment(self, key: str) -> Matcher | None:
        """Return what says whether a context is in a segment; None if there is no such segment."""
        segment = self._segments.get(key)
        if segment is not None or not isinstance(key, str):
            return segment
        try:
            data = self._items.item("segments", key)
        except NotLoadedError:
            raise StopError(SEGMENT_UNAVAILABLE) from None
        if data is None:
            return None
        # Many flag sets do without segments.
        from flagstore.evaluation.launchdarkly_segments import compile_segment  # noqa: PLC0415

        try:
            segment = compile_segment(data, self._clauses)
        except MalformedError:
            segment = _malformed
        if segment is not None:
            self._segments[key] = segment
        return segment

    def _clauses(self, rule: dict[str, Any]) -> Matcher | None:
        from flagstore.evaluation.launchdarkly_clauses import compile_clauses  # noqa: PLC0415

        return compile_clauses(rule, self._segment)


def engine(items: Items, settings: EngineConfig) -> LaunchDarklyEngine:  # noqa: ARG001 - see base
    """Return an engine over a flag set with the sections ``flags`` and ``segments``."""
    return LaunchDarklyEngine(items)


def _malformed(context: Context, path: Path) -> Any:  # noqa: ANN401, ARG001 - stands in for two
    """Stop the evaluation that got here: what should be here cannot be used."""
    raise StopError(MALFORMED_FLAG)
