"""Evaluates Split's flags as splitio_client 10.7.0 does. No I/O.

A flag is compiled on first use into functions of a context, which choose among results made
beforehand, in the SDK's order: killed, prerequisites, then the conditions, with the traffic
allocation before the first of type ROLLOUT. Where the SDK returns ``control``, the result here is
an error: ``MALFORMED_FLAG`` if a field is missing or invalid, ``UNSUPPORTED`` if a matcher is
unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flagstore.evaluation import base
from flagstore.evaluation.base import (
    Evaluation,
    MalformedError,
    UnsupportedError,
    all_of,
    failed,
    kept,
    optional,
    required,
)
from flagstore.evaluation.murmur3 import mixed, murmur3_32
from flagstore.evaluation.split_matchers import (
    CONTROL,
    always,
    compile_condition,
    make_context,
    treatment_of,
    within_segment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from flagstore.evaluation.base import EngineConfig, Items, Json
    from flagstore.evaluation.split_matchers import Context, Decide, Match

    Choice = tuple[Evaluation | None, Decide]
    """The result if it is constant, and a function that returns it."""
    Step = tuple[Match, Evaluation | None, Decide]
    """A matcher, and the choice if it matches."""

_DEFAULT_RULE: Final = "default rule"
_UNSUPPORTED_LABEL: Final = "targeting rule type unsupported by sdk"
"""Labels as in the SDK's impressions, like those below."""
_MASK = 0xFFFFFFFF
_NOT_FOUND = Evaluation(error=base.FLAG_NOT_FOUND, rule="definition not found")
_ALL = 100
"""Per cent."""


class SplitEngine:
    """Evaluates ``flags`` over ``segments`` and ``rule_based_segments``; compiled ones are kept."""

    __slots__ = (
        "_items",
        "_missing",
        "flags",
        "impressions_disabled",
        "rule_based",
        "segments",
    )

    context = make_context

    def __init__(self, items: Items, _config: EngineConfig | None = None) -> None:
        self._items = items
        self.flags: dict[str, Decide] = {}
        self.rule_based: dict[str, RuleBased] = {}
        self.segments: dict[str, frozenset[str]] = {}
        self._missing: set[str] = set()
        """Segments that are compiled as empty ones."""
        self.impressions_disabled: set[str] = set()
        """Flags for which no impressions are recorded, among those compiled."""

    def changed(self, items: Items, keys: Mapping[str, Collection[str]]) -> SplitEngine:
        """See Engine."""
        engine = SplitEngine(items)
        engine.flags = kept(self.flags, keys.get("flags", ()))
        # After the flags, since another thread may be adding one, and adds to this set first.
        engine.impressions_disabled = self.impressions_disabled.difference(keys.get("flags", ()))
        engine.rule_based = kept(self.rule_based, keys.get("rule_based_segments", ()))
        engine.segments = kept(self.segments, keys.get("segments", ()))
        for name in tuple(self._missing):  # the flag set may no longer name them
            engine.segments.pop(name, None)
        return engine

    def evaluate(self, key: str, context: Context) -> Evaluation:
        """Evaluate one flag, whose name is trimmed. Never raises: errors are results."""
        try:
            flag = self.flags.get(key) or self.flag(key.strip())
            return _NOT_FOUND if flag is None else flag(context)
        except ValueError:  # a lone surrogate to hash, or a value that contains itself
            return Evaluation(error=base.CONTEXT_INVALID, rule="exception")
        except Exception as error:  # noqa: BLE001 - a flag must not break its caller
            unsupported = isinstance(error, UnsupportedError)
            return failed(key, error, _UNSUPPORTED_LABEL if unsupported else "exception")

    def check(self, section: str, name: str) -> None:
        """Compile a flag or segment; MalformedError if it cannot be used."""
        raw = self._items.item(section, name)
        if section == "flags":
            compile_flag(raw)
        elif section == "rule_based_segments":
            RuleBased(raw)

    def flag(self, name: str) -> Decide | None:
        """Return a flag, compiled on first use; None if it does not exist."""
        flag = self.flags.get(name)
        if flag is None:
            raw = self._items.item("flags", name)
            if raw is None:
                return None
            try:
                flag = compile_flag(raw)
            except MalformedError:
                flag = _malformed
            if isinstance(raw, dict) and raw.get("impressionsDisabled") is True:
                self.impressions_disabled.add(name)
            self.flags[name] = flag
        return flag

    def segment(self, name: str) -> frozenset[str]:
        """Return the keys in a segment, compiled on first use; none if it is missing."""
        found = self._items.item("segments", name)
        if found is None:
            self._missing.add(name)
        keys = self.segments[name] = frozenset(() if found is None else found["keys"])
        return keys

    def rule_based_segment(self, name: str) -> RuleBased:
        """Return a rule-based segment, compiled on first use; MalformedError if there is none."""
        found = self.rule_based[name] = RuleBased(self._items.item("rule_based_segments", name))
        return found


engine = SplitEngine


def _malformed(_context: Context) -> Evaluation:
    raise MalformedError


# -- flags ----------------------------------------------------------------------------------------


def compile_flag(raw: Json) -> Decide:
    """Compile a flag; MalformedError if a field is missing or invalid."""
    if not isinstance(raw, dict) or not raw.keys() >= {"name", "status", "trafficTypeName"}:
        raise MalformedError
    results = _Results(raw)
    optional(raw, "sets", list)
    prerequisites = [
        (treatment_of(required(each, "n", str)), all_of(required(each, "ts", list), str))
        for each in all_of(optional(raw, "prerequisites", list), dict)
    ]
    decide = _walk(*_steps(results, raw))
    if required(raw, "killed", bool):
        return _constant(results.default(base.OFF, "killed"))
    if prerequisites:
        unmet = results.default(base.PREREQUISITE_FAILED, "prerequisites not met")
        return _after_prerequisites(prerequisites, unmet, decide)
    return decide


class _Results:
    """Creates the results of one flag."""

    __slots__ = ("_configurations", "hashing", "treatment", "version")

    def __init__(self, raw: Json) -> None:
        self.treatment = required(raw, "defaultTreatment", str)
        self._configurations = optional(raw, "configurations", dict) or {}
        self.version = required(raw, "changeNumber", int)
        self.hashing = hashing(required(raw, "seed", int), optional(raw, "algo", int))

    def default(self, reason: str, label: str) -> Evaluation:
        return self.of(self.treatment, reason, label)

    def of(self, treatment: str, reason: str, label: str, index: int | None = None) -> Evaluation:
        if treatment == CONTROL:
            raise MalformedError  # reserved
        config = self._configurations.get(treatment)
        return Evaluation(treatment, treatment, reason, "", label, index, config, self.version)

    def choice(self, condition: Json, reason: str, label: str, index: int) -> Choice:
        """Compile the partitions of a condition: the result of each bucket."""
        table: list[Evaluation] = []
        covered = 0
        for part in all_of(required(condition, "partitions", list), dict):
            size = required(part, "size", (int, float))
            covered += size
            if not 0 <= size <= covered <= _ALL:
                raise MalformedError("size")
            found = self.of(required(part, "treatment", str), reason, label, index)
            table += [found] * (int(covered) - len(table))
        if covered != _ALL:
            raise MalformedError("partitions")
        only = table[0]
        if all(found is only for found in table):
            return only, _constant(only)
        table.insert(0, only)  # buckets count from 1
        seed, bucket = self.hashing
        return None, lambda context: table[context.buckets.get(seed) or bucket(context, seed)]


def _steps(results: _Results, raw: Json) -> tuple[list[Step], Choice]:
    """Compile the conditions: return the steps in order, and the choice if none matches."""
    conditions = all_of(required(raw, "conditions", list), dict)
    try:
        compiled = [compile_condition(condition) for condition in conditions]
    except UnsupportedError:
        # As in the SDK, an unknown matcher takes the place of all conditions.
        compiled = [(always, True)]
        unsupported = Evaluation(
            error=base.UNSUPPORTED, rule=_UNSUPPORTED_LABEL, rule_index=0, version=results.version
        )
        steps: list[Step] = [(always, unsupported, _constant(unsupported))]
    else:
        steps = [
            _step(results, condition, match, rollout=rollout, index=index)
            for index, (condition, (match, rollout)) in enumerate(
                zip(conditions, compiled, strict=True)
            )
        ]
    allocation = optional(raw, "trafficAllocation", (int, float))
    first = next((at for at, (_, rollout) in enumerate(compiled) if rollout), None)
    if allocation is not None and allocation != _ALL and first is not None:
        steps.insert(first, _gate(results, raw, allocation))
    for at, (match, found, by_bucket) in enumerate(steps):
        if match is always:
            return steps[:at], (found, by_bucket)
    if results.treatment == CONTROL:  # a flag in a local file that lists only some keys
        return steps, (None, _malformed)
    nothing = results.default(base.FALLTHROUGH, _DEFAULT_RULE)
    return steps, (nothing, _constant(nothing))


def _step(results: _Results, condition: Json, match: Match, *, rollout: bool, index: int) -> Step:
    label = optional(condition, "label", str) or ""
    reason = base.RULE_MATCH if rollout else base.TARGET_MATCH
    if match is always and label == _DEFAULT_RULE:
        reason = base.FALLTHROUGH
    return (match, *results.choice(condition, reason, label, index))


def _gate(results: _Results, raw: Json, allocation: float) -> Step:
    """Compile the traffic allocation: a step for the contexts outside it."""
    if not 0 <= allocation <= _ALL:
        raise MalformedError("trafficAllocation")
    seed, bucket = hashing(required(raw, "trafficAllocationSeed", int), optional(raw, "algo", int))
    outside = results.default(base.NOT_IN_ROLLOUT, "not in split")
    return (
        lambda context: (context.buckets.get(seed) or bucket(context, seed)) > allocation,
        outside,
        _constant(outside),
    )


def _constant(evaluation: Evaluation) -> Decide:
    return lambda _context: evaluation


def _walk(steps: list[Step], otherwise: Choice) -> Decide:
    last, by_default = otherwise
    if not steps:
        return by_default

    def walk(context: Context) -> Evaluation:
        for match, found, by_bucket in steps:
            if match(context):
                return by_bucket(context) if found is None else found
        return by_default(context) if last is None else last

    return walk


def _after_prerequisites(
    prerequisites: list[tuple[Callable[[Context], str], list[str]]],
    unmet: Evaluation,
    decide: Decide,
) -> Decide:
    def after_prerequisites(context: Context) -> Evaluation:
        for treatment, wanted in prerequisites:
            if treatment(context) not in wanted:
                return unmet
        return decide(context)

    return after_prerequisites


# -- buckets --------------------------------------------------------------------------------------


def hashing(seed: int, algorithm: int | None) -> tuple[int, Callable[[Context, int], int]]:
    """Return a seed and a function for ``context.buckets.get(seed) or bucket(context, seed)``.

    That is the context's bucket, from 1 to 100, as in the SDK. Only the legacy hash of keys beyond
    the basic multilingual plane differs: over UTF-16 code units, as in Split's published files.
    """
    if algorithm == 2:  # noqa: PLR2004 - any other is the legacy one
        return seed & _MASK, _murmur_bucket
    return -1 - (seed & _MASK), _legacy_bucket


def _murmur_bucket(context: Context, seed: int) -> int:
    prepared = context.mixed
    if prepared is None:
        prepared = context.mixed = mixed(context.bucketing_key.encode())
    found = context.buckets[seed] = murmur3_32(prepared, seed) % 100 + 1
    return found


def _legacy_bucket(context: Context, seed: int) -> int:
    """Return the bucket by the older hash; the seed counts down from -1."""
    value = context.legacy_hash
    if value < 0:
        value = 0
        units = context.bucketing_key.encode("utf-16-le", "surrogatepass")
        for low, high in zip(units[::2], units[1::2], strict=True):
            value = 31 * value + (high << 8 | low) & _MASK
        context.legacy_hash = value
    value ^= -1 - seed
    magnitude = 0x1_0000_0000 - value if value >> 31 else value
    found = context.buckets[seed] = magnitude % 100 + 1
    return found


# -- rule-based segments --------------------------------------------------------------------------


class RuleBased:
    """A rule-based segment, as ``RuleBasedSegmentMatcher`` in the SDK.

    With an unknown matcher, the SDK treats every context as in the segment, and it ignores an
    excluded large segment; here, both are ``UNSUPPORTED``.
    """

    __slots__ = ("_excluded", "_matches", "keys")

    def __init__(self, raw: Json) -> None:
        needed = {"name", "trafficTypeName", "changeNumber", "status"}
        if not isinstance(raw, dict) or not raw.keys() >= needed:
            raise MalformedError
        conditions = all_of(required(raw, "conditions", list), dict)
        try:
            self._matches = [compile_condition(condition)[0] for condition in conditions]
        except UnsupportedError:
            self._matches = [_unsupported]
        excluded = optional(raw, "excluded", dict) or {}
        self.keys = frozenset(all_of(optional(excluded, "keys", list), str))
        self._excluded: list[tuple[str, Match | None]] = []
        for segment in all_of(optional(excluded, "segments", list), dict):
            name, kind = required(segment, "name", str), required(segment, "type", str)
            within = within_segment(name) if kind == "standard" else _unsupported
            self._excluded.append((name, None if kind == "rule-based" else within))

    def contains(self, context: Context) -> bool:
        """Return whether a context is in the segment."""
        return context.key not in self.keys and not self.excludes(context) and self.matches(context)

    def matches(self, context: Context) -> bool:
        """Return whether a condition matches."""
        for match in self._matches:  # noqa: SIM110 - any() with a generator takes twice as long
            if match(context):
                return True
        return False

    def excludes(self, context: Context) -> bool:
        """Return whether the context is in an excluded segment."""
        for name, within in self._excluded:
            if within is not None:
                if within(context):
                    return True
                continue
            engine, inner = context.engine, context.entering(f"segment {name}")
            other = engine.rule_based.get(name) or engine.rule_based_segment(name)
            # As in the SDK: a key that the excluded segment excludes ends the search.
            if context.key in other.keys:
                return False
            if other.excludes(inner) or other.matches(inner):
                return True
        return False


def _unsupported(_context: Context) -> bool:
    raise UnsupportedError
