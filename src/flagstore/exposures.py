"""Exposures and tracked events as lines, for experiments: ``usage="events"``, docs/usage.md.

Only these lines hold keys of contexts, and of their attributes those that are listed
(``FLAGSTORE_USAGE_ATTRIBUTES``); private ones are redacted as the provider's SDK does.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import FALLTHROUGH, RULE_MATCH
from flagstore.lines import EVENT, EXPOSURE

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from flagstore.evaluation.base import Evaluation, Items, Json
    from flagstore.evaluation.launchdarkly_flags import Flag, Tracking
    from flagstore.evaluation.split import SplitEngine

    Context = Any
    """An engine's own, or as the caller gave it."""

    Print = Callable[[str, dict[str, Any]], None]
    """Prints a line: its marker, and its fields besides the head."""

NOTHING: Tracking = (False, frozenset(), False, 0)
"""Of most flags."""
INDEX, FEATURE, DEBUG, REASON = 1, 2, 4, 8
"""Bits of an entry: the events that LaunchDarkly gets, and whether they have the reason."""
ROOM = 3_000
"""Bytes of entries and contexts per line, which leaves room for any head."""
SEEN_CONTEXTS, SEEN_S = 1_000, 300.0
"""LaunchDarkly's SDK: how many sent contexts it remembers, and for how long."""
SEEN_IMPRESSIONS = 10_000
HOUR_MS = 3_600_000
TRAFFIC_TYPE = "user"
"""Split: an event's traffic type, unless the context has a ``trafficType``."""


class Recorder:
    """Collects the entries of one source, and prints them in lines that are full or flushed."""

    def __init__(self, print_line: Print, clock: Callable[[], float]) -> None:
        self._print = print_line
        self._clock = clock
        listed = os.environ.get("FLAGSTORE_USAGE_ATTRIBUTES", "")
        self.attributes = tuple(name.strip() for name in listed.split(",") if name.strip())
        self.debug = os.environ.get("FLAGSTORE_USAGE_IMPRESSIONS", "").lower() == "debug"
        self.reset()
        self._seen: dict[tuple[Any, ...], None] = {}
        self._seen_since = 0
        self._impressions: dict[tuple[Any, ...], int] = {}

    def reset(self) -> None:
        """Forget what is waiting."""
        self._waiting: list[tuple[str, str, str]] = []
        """Marker, context and entry."""
        self._bytes = 0
        self._texts: set[str] = set()
        """Contexts among it."""

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return int(self._clock() * 1000)

    def is_new(self, context: tuple[Any, ...], now_ms: int) -> bool:
        """Return whether a context has not been seen recently, and record it."""
        if now_ms - self._seen_since >= SEEN_S * 1000:
            self._seen, self._seen_since = {}, now_ms
        if context in self._seen:
            return False
        self._seen[context] = None
        while len(self._seen) > SEEN_CONTEXTS:
            self._seen.pop(next(iter(self._seen)), None)
        return True

    def swap(self, impression: tuple[Any, ...], now_ms: int) -> int | None:
        """Return the time of the same impression before, or None, and record this one."""
        before = self._impressions.pop(impression, None)
        self._impressions[impression] = now_ms
        while len(self._impressions) > SEEN_IMPRESSIONS:
            self._impressions.pop(next(iter(self._impressions)), None)
        return before

    def add(self, marker: str, context: dict[str, Any], entry: list[Any]) -> None:
        """Add an entry, to which its line adds the number of its context.

        Raises:
            TypeError, ValueError: it is not JSON.
        """
        # As text at once, since the caller may change the data.
        added = marker, _dumps(context), _dumps(entry)
        if _size(added, self._texts) > ROOM:
            return  # a key or data of kilobytes
        if self._bytes + _size(added, self._texts) > ROOM:
            self.flush()
        self._bytes += _size(added, self._texts)
        self._texts.add(added[1])
        self._waiting.append(added)

    def flush(self) -> None:
        """Print the waiting entries."""
        # No call in this line, so that no other thread takes the same entries.
        waiting, self._waiting = self._waiting, []
        self._bytes, self._texts = 0, set()
        for marker in (EXPOSURE, EVENT):
            contexts: dict[str, int] = {}
            entries: list[list[Any]] = []
            left = ROOM
            for added in [each for each in waiting if each[0] == marker]:
                if _size(added, contexts) > left:  # several threads have added to it
                    self._print_entries(marker, contexts, entries)
                    contexts, entries, left = {}, [], ROOM
                left -= _size(added, contexts)
                number = contexts.setdefault(added[1], len(contexts))
                entries.append([number, *json.loads(added[2])])
            if entries:
                self._print_entries(marker, contexts, entries)

    def _print_entries(
        self, marker: str, contexts: dict[str, int], entries: list[list[Any]]
    ) -> None:
        self._print(marker, {"c": [json.loads(text) for text in contexts], "e": entries})


def _size(added: tuple[str, str, str], contexts: Container[str]) -> int:
    """Return how many bytes an entry adds to a line that has some *contexts*."""
    _, context, entry = added
    return len(entry) + 6 + (0 if context in contexts else len(context) + 1)


def _dumps(value: Any) -> str:  # noqa: ANN401 - the caller's
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


# -- LaunchDarkly ---------------------------------------------------------------------------------


class LaunchDarklyRecorder:
    """Records the ``index``, ``feature``, ``debug`` and ``custom`` events of LaunchDarkly's SDK."""

    def __init__(self, recorder: Recorder, items: Items) -> None:
        self._recorder = recorder
        self._names = recorder.attributes
        self._items = items

    def evaluated(
        self,
        key: str,
        flag: Flag | None,
        evaluation: Evaluation,
        context: Context,
        given: Context,
        parent: str = "",
    ) -> None:
        """Record an evaluation; *parent* is the flag whose prerequisite it is."""
        now = self._recorder.now_ms()
        what = INDEX if self._is_new(context, now) else 0
        tracked = NOTHING if flag is None else flag.tracking or self._tracking(key, flag)
        if tracked is not NOTHING or evaluation.in_experiment:
            what |= _what(tracked, evaluation, now)
        if not what:
            return
        entry: list[Any] = [now, what]
        if what > INDEX:
            reason = _reason(evaluation) if what & REASON else None
            entry += [key, evaluation.variant, evaluation.version, reason, parent]
        self._recorder.add(EXPOSURE, self._formatted(context, given), entry)

    def _tracking(self, key: str, flag: Flag) -> Tracking:
        """Return what is tracked of a flag, and keep it."""
        flag.tracking = tracked = _tracking(self._items.item("flags", key))
        return tracked

    def tracked(self, name: str, context: Context, given: Context, value: Json, data: Json) -> None:
        """Record a custom event."""
        now = self._recorder.now_ms()
        what = INDEX if self._is_new(context, now) else 0
        self._recorder.add(EVENT, self._formatted(context, given), [now, what, name, value, data])

    def _is_new(self, context: Context, now: int) -> bool:
        name = tuple(sorted((kind, str(part["key"])) for kind, part in context.items()))
        return self._recorder.is_new(name, now)

    def _formatted(self, context: Context, given: Context) -> dict[str, Any]:
        """Return a context as events hold it, with the listed attributes only."""
        parts = {
            kind: _formatted(part, _given(given, kind), self._names)
            for kind, part in context.items()
        }
        if len(parts) == 1:
            ((kind, part),) = parts.items()
            return {"kind": kind, **part}
        return {"kind": "multi", **parts}


def _tracking(flag: Json) -> Tracking:
    if not isinstance(flag, dict):
        return NOTHING
    rules = flag.get("rules") or ()
    tracked = frozenset(
        number for number, rule in enumerate(rules) if rule.get("trackEvents") is True
    )
    found = (
        flag.get("trackEvents") is True,
        tracked,
        flag.get("trackEventsFallthrough") is True,
        int(flag.get("debugEventsUntilDate") or 0),
    )
    return found if any(found) else NOTHING


def _what(tracked: Tracking, evaluation: Evaluation, now: int) -> int:
    all_of_them, rules, fallthrough, until = tracked
    experiment = (
        evaluation.in_experiment
        or (evaluation.reason == RULE_MATCH and evaluation.rule_index in rules)
        or (evaluation.reason == FALLTHROUGH and fallthrough)
    )
    what = FEATURE | REASON if experiment else FEATURE if all_of_them else 0
    return what | DEBUG if until > now else what


def _reason(evaluation: Evaluation) -> dict[str, Any]:
    """Return a reason in LaunchDarkly's notation."""
    reason: dict[str, Any] = {"kind": evaluation.reason}
    if evaluation.reason == RULE_MATCH:
        reason |= {"ruleIndex": evaluation.rule_index, "ruleId": evaluation.rule}
    return {**reason, "inExperiment": True} if evaluation.in_experiment else reason


def _given(given: Context, kind: str) -> dict[str, Any]:
    """Return one kind of a context as the caller gave it."""
    whole = dict(given)
    if whole.get("kind") != "multi":
        return whole
    parts = (part for part in whole.items() if isinstance(part[1], dict))
    return next(dict(part) for name, part in parts if part.get("kind", name) == kind)


def _private(given: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the paths of private attributes; as in LaunchDarkly's old users if it has no kind."""
    meta = given.get("_meta")
    lists = [meta.get("privateAttributes")] if isinstance(meta, dict) else []
    if given.get("kind") is None:
        lists.append(given.get("privateAttributeNames"))
    return [_path(text) for listed in lists for text in listed or () if isinstance(text, str)]


def _formatted(
    part: Mapping[str, Any], given: dict[str, Any], names: tuple[str, ...]
) -> dict[str, Any]:
    """Return one kind of a context: its key, and the listed attributes that are not private."""
    made: dict[str, Any] = {"key": str(part["key"])}
    if part.get("anonymous"):
        made["anonymous"] = True
    private = _private(given)
    redacted: list[str] = []
    # Of old users, `custom` only holds more attributes.
    left_out = {"key", "kind", "anonymous", "custom" if given.get("kind") is None else ""}
    for name in names:
        value = part.get(name)
        if name in left_out or value is None:
            continue
        if (name,) in private:
            redacted.append(name if not name.startswith("/") else _text((name,)))
        else:
            made[name] = _without(value, (name,), private, redacted)
    if redacted:
        made["_meta"] = {"redactedAttributes": redacted}
    return made


def _without(
    value: Json, path: tuple[str, ...], private: list[tuple[str, ...]], redacted: list[str]
) -> Json:
    """Return a value without the private members of objects in it."""
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, member in value.items():
        inner = (*path, name)
        if inner in private:
            redacted.append(_text(inner))
        else:
            kept[name] = _without(member, inner, private, redacted)
    return kept


def _path(text: str) -> tuple[str, ...]:
    """Return the names in an attribute reference, such as ``/address/city`` or ``email``."""
    if not text.startswith("/"):
        return (text,)
    return tuple(name.replace("~1", "/").replace("~0", "~") for name in text[1:].split("/"))


def _text(path: tuple[str, ...]) -> str:
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path)


# -- Split ----------------------------------------------------------------------------------------


class SplitRecorder:
    """Records impressions as Split's SDK does, in its mode OPTIMIZED or DEBUG."""

    def __init__(self, recorder: Recorder, engine: SplitEngine) -> None:
        self._recorder = recorder
        self._engine = engine

    def evaluated(self, key: str, evaluation: Evaluation, context: Context) -> bool:
        """Record an evaluation; return whether it is to be counted as well.

        In OPTIMIZED, the first of each key, treatment and label in an hour is an impression; all
        but the very first are counted.
        """
        if key in self._engine.impressions_disabled:
            return True
        recorder, now = self._recorder, self._recorder.now_ms()
        name = (context.key, key, evaluation.variant, evaluation.rule, evaluation.version)
        before = recorder.swap(name, now)
        if recorder.debug or before is None or before < now - now % HOUR_MS:
            treatment = [key, evaluation.variant, evaluation.rule, evaluation.version, before]
            recorder.add(EXPOSURE, _split_keys(context), [now, *treatment])
        return before is not None and not recorder.debug

    def tracked(
        self, name: str, context: Context, _given: Context, value: Json, data: Json
    ) -> None:
        """Record an event of the context's traffic type."""
        traffic = context.values.get("trafficType", TRAFFIC_TYPE)
        entry = [self._recorder.now_ms(), name, str(traffic), value, data]
        self._recorder.add(EVENT, _split_keys(context), entry)


def _split_keys(context: Context) -> dict[str, Any]:
    keys = {"key": context.key}
    if context.bucketing_key != context.key:
        keys["bucketingKey"] = context.bucketing_key
    return keys
