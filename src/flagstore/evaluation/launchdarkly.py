"""Evaluates LaunchDarkly's flags as launchdarkly-server-sdk 9.18 for Python does. No I/O.

A flag is compiled on first use into functions and the results that they choose from, so that a
later call only looks up and compares. A flag that the SDK rejects is ``MALFORMED_FLAG``; fields
that no evaluation reads are ignored. Big segments (``unbounded``) are not in the flag set: a flag
whose evaluation reaches one is ``UNSUPPORTED``.

Regular expressions are Python's, as in the provider's SDK, and are not limited in time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.evaluation import base
from flagstore.evaluation.base import (
    NOT_FOUND,
    ContextError,
    MalformedError,
    failed,
    kept,
)
from flagstore.evaluation.launchdarkly_flags import USER, Flag, compile_flag

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from flagstore.evaluation.base import EngineConfig, Evaluation, Items, Json
    from flagstore.evaluation.launchdarkly_flags import Attributes, Context, Matcher, Path

_KIND_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"


class LaunchDarklyEngine:
    """Evaluates ``flags`` over ``segments`` of one flag set; compiled ones are kept."""

    __slots__ = ("_compiled", "_flags", "_path")

    def __init__(
        self,
        items: Items,
        _config: EngineConfig | None = None,
        *,
        flags: dict[str, Flag] | None = None,
        segments: dict[str, Matcher] | None = None,
    ) -> None:
        self._compiled = Compiled(items, flags or {}, segments or {})
        self._flags = self._compiled.flags
        self._path = ((self._compiled,),)

    def changed(self, items: Items, keys: Mapping[str, Collection[str]]) -> LaunchDarklyEngine:
        """See Engine."""
        flags = kept(self._flags, keys.get("flags", ()))
        segments = kept(self._compiled.segments, keys.get("segments", ()))
        return LaunchDarklyEngine(items, flags=flags, segments=segments)

    def context(self, given: Mapping[str, Any]) -> Context:
        """Return the attributes of each kind in a context; ``given`` is neither changed nor kept.

        As ``Context.from_dict`` in the SDK, but the key may be an integer or be named
        ``targetingKey`` or ``targeting_key``, and ``kind`` may be missing: it is ``user`` then, and
        the mapping ``custom`` holds more attributes, as in LaunchDarkly's old users. An integer is
        hashed by its digits and stays a number for everything else. Values are not copied.

        Raises:
            ContextError: there is no key, the kind is invalid, or a field has the wrong type.
        """
        try:
            attributes = dict(given)
        except (TypeError, ValueError):
            raise ContextError(base.CONTEXT_INVALID, "a context must be a mapping") from None
        kind = attributes.get("kind")
        if kind == "multi":
            return _multi(attributes)
        if kind is None:
            kind = USER
            custom = attributes.get("custom")
            if isinstance(custom, dict):
                attributes = {**custom, **attributes}
        return {kind: _single(attributes, kind)}

    def evaluate(self, key: str, context: Context) -> Evaluation:
        """See Engine."""
        flag = None
        try:
            flag = self._flags.get(key)
            if flag is None:
                flag = self._compiled.flag(key)
                if flag is None:
                    return NOT_FOUND
            return flag.evaluate(context, self._path)
        except Exception as error:  # noqa: BLE001 - a flag must not break its caller
            return failed(key, error, version=flag.version if flag else None)

    def flag(self, key: str) -> Flag | None:
        """Return a compiled flag; None if it does not exist."""
        return self._flags.get(key) or self._compiled.flag(key)

    def check(self, section: str, key: str) -> None:
        """Compile a flag or segment.

        Raises:
            OutOfRangeError: it cannot be evaluated.
            MalformedError: the provider's SDK rejects it, and the whole document with it.
        """
        from flagstore.evaluation.launchdarkly_rules import compile_segment  # noqa: PLC0415

        data = self._compiled.items.item(section, key)
        if section == "flags":
            compile_flag(data, _clauses)
        else:
            compile_segment(data)


class Compiled:
    """The compiled flags and segments of one flag set.

    Not the engine itself, whose path of evaluation would then lead back to it: memory of earlier
    flag sets is freed at once, not by the garbage collector.
    """

    __slots__ = ("flags", "items", "segments")

    def __init__(self, items: Items, flags: dict[str, Flag], segments: dict[str, Matcher]) -> None:
        self.items = items
        self.flags = flags
        self.segments = segments

    def flag(self, key: str) -> Flag | None:
        """Compile and keep a flag; None if it does not exist."""
        data = self.items.item("flags", key)
        if data is None:
            return None
        try:
            flag = compile_flag(data, _clauses)
        except MalformedError:
            version = data.get("version") if isinstance(data, dict) else None
            flag = Flag(_malformed, version if isinstance(version, int) else None, on=True)
        if flag is not None:
            self.flags[key] = flag
        return flag

    def segment(self, key: object) -> Matcher | None:
        """Compile and keep the matcher of a segment; None if there is no such segment."""
        if not isinstance(key, str):
            return None
        data = self.items.item("segments", key)
        if data is None:
            return None
        from flagstore.evaluation.launchdarkly_rules import compile_segment  # noqa: PLC0415

        try:
            segment = compile_segment(data)
        except MalformedError:
            segment = _malformed
        if segment is not None:
            self.segments[key] = segment
        return segment


def _clauses(rule: Json) -> Matcher | None:
    # Many flags have no rules.
    from flagstore.evaluation.launchdarkly_rules import compile_clauses  # noqa: PLC0415

    return compile_clauses(rule)


engine = LaunchDarklyEngine


def _malformed(_context: Context, _path: Path) -> Any:  # noqa: ANN401 - of flags and of segments
    raise MalformedError


def _multi(given: Attributes) -> Context:
    context: Context = {}
    for name, part in given.items():
        if name == "kind":
            continue
        if not isinstance(part, dict):
            raise ContextError(base.CONTEXT_INVALID, f"the kind {name!r} must hold a mapping")
        kind = part.get("kind", name)
        attributes = _single(dict(part), kind)
        if kind in context:
            raise ContextError(base.CONTEXT_INVALID, f"the kind {kind!r} is given twice")
        context[kind] = attributes
    if not context:
        raise ContextError(base.CONTEXT_INVALID, "a multi-kind context has no kinds")
    return context


def _single(attributes: Attributes, kind: object) -> Attributes:
    """Check the attributes of a single-kind context, and add the missing ones."""
    key = attributes.get("key")
    if key is None:
        key = attributes.get("targetingKey")
        if key is None:
            key = attributes.get("targeting_key")
        attributes["key"] = key
    if key is None or key == "":
        raise ContextError(base.KEY_MISSING, "a context needs a key that is not empty")
    if not isinstance(key, (str, int)) or isinstance(key, bool):
        raise ContextError(base.CONTEXT_INVALID, "a context's key must be a string or an integer")
    if kind != USER:
        _check_kind(kind)
    attributes["kind"] = kind
    if not isinstance(attributes.setdefault("anonymous", False), bool):
        raise ContextError(base.CONTEXT_INVALID, "anonymous must be true or false")
    name = attributes.get("name")
    if name is not None and not isinstance(name, str):
        raise ContextError(base.CONTEXT_INVALID, "the name of a context must be a string")
    if "" in attributes:
        raise ContextError(base.CONTEXT_INVALID, "an attribute has an empty name")
    attributes.pop("_meta", None)
    return attributes


def _check_kind(kind: object) -> None:
    if not isinstance(kind, str):
        raise ContextError(base.CONTEXT_INVALID, "the kind of a context must be a string")
    if kind in {"", "kind", "multi"} or kind.strip(_KIND_CHARACTERS):
        raise ContextError(base.CONTEXT_INVALID, f"{kind!r} is not a valid kind of context")
