"""LaunchDarkly's flags, compiled: prerequisites, targets, rules and rollouts. No I/O.

In the order of the provider's own SDKs: off, prerequisites, targets, rules, fallthrough. Valid
values and defaults of fields are those of launchdarkly-server-sdk 9.18 for Python.
"""

from __future__ import annotations

from hashlib import sha1
from types import MethodType
from typing import TYPE_CHECKING, Any

from flagstore.evaluation import base
from flagstore.evaluation.base import (
    Evaluation,
    MalformedError,
    OutOfRangeError,
    all_of,
    optional,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Concatenate, ParamSpec, TypeVar

    from flagstore.evaluation.base import Json

    Attributes = dict[str, Any]
    Context = dict[str, Attributes]
    """Kind → attributes."""
    Reference = tuple[str, ...]
    """An attribute's name and, inside an object, the names of the nested members."""
    Path = tuple[Any, ...]
    """The flag set (Compiled) and the chain of segments that led to this one; each depends on the
    next. For flags, it begins with the path of their segments, which is the flag set alone."""
    Matcher = Callable[[Context, Path], bool]
    Evaluate = Callable[[Context, Path], Evaluation]
    CompileClauses = Callable[[Json], Matcher | None]
    Choice = tuple[Evaluation | None, Evaluate | None]
    """The result of a rule: fixed, or chosen by a rollout."""
    Rules = tuple[tuple[Matcher | None, Evaluation | None, Evaluate | None], ...]
    """Each rule's matcher (None matches always) and its choice; the fallthrough is the last."""
    Targets = tuple[tuple[str, dict[str, Evaluation]], ...]
    """A kind of context, and the result for each listed key."""
    Prerequisites = tuple[tuple[str, int, Evaluation], ...]
    """A flag's key, the variation that it must have, and the result if it does not."""
    Bucket = Callable[[Context], float]
    Steps = tuple[tuple[float, Evaluation], ...]
    """The upper bound of each share of a rollout, and its result."""
    Tracking = tuple[bool, frozenset[int], bool, int]
    """Of a flag: whether all is tracked, which rules, the fallthrough; end of debugging (ms)."""

    Known = TypeVar("Known")
    Asked = ParamSpec("Asked")
    Returned = TypeVar("Returned")

    def bind(
        function: Callable[Concatenate[Known, Asked], Returned], known: Known
    ) -> Callable[Asked, Returned]:
        """Return a function with its first argument bound.

        A bound method, not a closure: with four names in a tuple it takes 136 bytes instead of 392
        and is as fast, and a set of 10,000 flags holds some 30,000 of them.
        """

else:
    bind = MethodType

USER = "user"
_SCALE = float(0xFFFFFFFFFFFFFFF)
_WHOLE = 100_000.0
"""The sum of a rollout's weights."""
_from_bytes = int.from_bytes


class Flag:
    """A compiled flag. It holds nothing of the flag set, which may be followed by others."""

    __slots__ = ("evaluate", "on", "prerequisites", "tracking", "version")

    def __init__(
        self,
        evaluate: Evaluate,
        version: int | None,
        *,
        on: bool,
        prerequisites: Prerequisites = (),
    ) -> None:
        self.evaluate = evaluate
        self.version = version
        self.on = on
        self.prerequisites = prerequisites
        """Empty if it is off."""
        self.tracking: Tracking | None = None
        """Set on first use by what records events."""


class _Evaluations:
    """Creates the results of one flag."""

    __slots__ = ("_variations", "version")

    def __init__(self, version: int, variations: list[Json]) -> None:
        self.version = version
        self._variations = variations

    def of(
        self,
        variation: int | None,
        reason: str,
        rule: str = "",
        rule_index: int | None = None,
        *,
        in_experiment: bool = False,
    ) -> Evaluation:
        """Return the result for a variation; an error if it does not exist."""
        if variation is None or not 0 <= variation < len(self._variations):
            return Evaluation(error=base.MALFORMED_FLAG, version=self.version)
        value = self._variations[variation]
        return Evaluation(
            value, variation, reason, "", rule, rule_index, None, self.version, in_experiment
        )

    def off(self, variation: int | None, reason: str, rule: str = "") -> Evaluation:
        """Return the result for the off variation, without a value if there is none."""
        if variation is None:
            return Evaluation(reason=reason, rule=rule, version=self.version)
        return self.of(variation, reason, rule)


def compile_flag(data: Json, clauses: CompileClauses) -> Flag | None:
    """Compile a flag; None if it was deleted.

    Args:
        data: the provider's JSON.
        clauses: compiles the clauses of a rule.

    Raises:
        MalformedError: a field is missing or invalid.
    """
    if not isinstance(data, dict):
        raise MalformedError
    version = required(data, "version", int)
    if optional(data, "deleted", bool):
        return None
    key = required(data, "key", str)
    on = optional(data, "on", bool) is True
    results = _Evaluations(version, optional(data, "variations", list) or [])
    off_variation = optional(data, "offVariation", int)
    prefix = f"{key}.{optional(data, 'salt', str) or ''}."
    fallthrough = _compile_choice(
        results, optional(data, "fallthrough", dict) or {}, prefix, base.FALLTHROUGH
    )
    prerequisites = _compile_prerequisites(results, data, off_variation)
    rules = _compile_rules(results, data, prefix, clauses)
    targets = _compile_targets(results, data)
    if not on:
        return Flag(bind(_always, results.off(off_variation, base.OFF)), version, on=False)
    evaluate = _in_turn(rules, fallthrough)
    if targets:
        evaluate = bind(_on_targets, (targets, evaluate))
    if prerequisites:
        evaluate = bind(_on_prerequisites, (key, prerequisites, evaluate))
    return Flag(evaluate, version, on=True, prerequisites=prerequisites)


def _in_turn(rules: Rules, fallthrough: Choice) -> Evaluate:
    evaluation, by_rollout = fallthrough
    if rules:
        return bind(_on_rules, (*rules, (None, evaluation, by_rollout)))
    return by_rollout if evaluation is None else bind(_always, evaluation)  # type: ignore[return-value] # one of the two


def _always(evaluation: Evaluation, _context: Context, _path: Path) -> Evaluation:
    return evaluation


def _on_rules(rules: Rules, context: Context, path: Path) -> Evaluation:
    start = path[0]
    for matches, evaluation, by_rollout in rules:
        if matches is None or matches(context, start):
            return by_rollout(context, path) if evaluation is None else evaluation  # type: ignore[misc] # one of the two
    raise AssertionError("the fallthrough matches")  # pragma: no cover


def _on_targets(known: tuple[Targets, Evaluate], context: Context, path: Path) -> Evaluation:
    targets, otherwise = known
    for kind, keys in targets:
        attributes = context.get(kind)
        if attributes is not None:
            evaluation = keys.get(attributes["key"])
            if evaluation is not None:
                return evaluation
    return otherwise(context, path)


def _on_prerequisites(
    known: tuple[str, Prerequisites, Evaluate], context: Context, path: Path
) -> Evaluation:
    key, prerequisites, otherwise = known
    compiled = path[0][0]
    path = (*path, key)
    for other, variation, failed in prerequisites:
        if other in path:
            raise MalformedError
        flag = compiled.flags.get(other) or compiled.flag(other)
        # A flag that is off fails, regardless of its variation.
        if flag is None or not flag.on or flag.evaluate(context, path).variant != variation:
            return failed
    return otherwise(context, path)


def _compile_prerequisites(
    results: _Evaluations, data: Json, off_variation: int | None
) -> Prerequisites:
    found = []
    for needed in all_of(optional(data, "prerequisites", list), dict):
        key = required(needed, "key", str)
        failed = results.off(off_variation, base.PREREQUISITE_FAILED, key)
        found.append((key, required(needed, "variation", int), failed))
    return tuple(found)


def _compile_rules(
    results: _Evaluations, data: Json, prefix: str, clauses: CompileClauses
) -> Rules:
    found = []
    for index, rule in enumerate(all_of(optional(data, "rules", list), dict)):
        name = optional(rule, "id", str) or ""
        choice = _compile_choice(results, rule, prefix, base.RULE_MATCH, name, index)
        found.append((clauses(rule), *choice))
    return tuple(found)


def _compile_targets(results: _Evaluations, data: Json) -> Targets:
    """Return the listed keys in the order in which they are looked up.

    Where there are ``contextTargets``, those of kind ``user`` only set the position: their keys
    come from the first entry in ``targets`` with the same variation, if there is one.
    """
    users = _targets(data, "targets")
    turns = _targets(data, "contextTargets")
    targets: list[tuple[str, dict[str, Evaluation]]] = []
    for kind, variation, listed in turns or [(USER, *target[1:]) for target in users]:
        keys = listed
        if turns and kind == USER:
            keys = next((found for _, other, found in users if other == variation), [])
        given = dict.fromkeys(keys, results.of(variation, base.TARGET_MATCH))
        if targets and targets[-1][0] == kind:
            # One lookup for both; the first entry wins.
            given |= targets.pop()[1]
        if given:
            targets.append((kind, given))
    return tuple(targets)


def _targets(data: Json, name: str) -> list[tuple[str, int, list[str]]]:
    return [
        (
            optional(target, "contextKind", str) or USER,
            required(target, "variation", int),
            all_of(required(target, "values", list), str),
        )
        for target in all_of(optional(data, name, list), dict)
    ]


def _compile_choice(
    results: _Evaluations,
    data: Json,
    prefix: str,
    reason: str,
    rule: str = "",
    rule_index: int | None = None,
) -> Choice:
    variation = optional(data, "variation", int)
    rollout = optional(data, "rollout", dict)
    if rollout is None:
        return results.of(variation, reason, rule, rule_index), None
    experiment = optional(rollout, "kind", str) == "experiment"
    seed = optional(rollout, "seed", int)
    bucket = compile_bucket(
        prefix if seed is None else f"{seed}.", rollout, "contextKind", by_key=experiment
    )
    bound = 0.0
    steps: list[tuple[float, Evaluation]] = []
    # A context without the kind gets the first share, outside of the experiment.
    outside: Evaluation | None = None
    for share in all_of(required(rollout, "variations", list), dict):
        index = required(share, "variation", int)
        # Added as floats, as in the provider's SDKs: bounds and buckets must match exactly.
        bound += share_of(required(share, "weight", int))
        tracked = optional(share, "untracked", bool) is not True
        evaluation = results.of(
            index, reason, rule, rule_index, in_experiment=experiment and tracked
        )
        steps.append((bound, evaluation))
        outside = outside or results.of(index, reason, rule, rule_index)
    if variation is not None or outside is None:
        return results.of(variation, reason, rule, rule_index), None
    return None, bind(_by_rollout, (bucket, tuple(steps), evaluation, outside))


def share_of(weight: int) -> float:
    """Return a weight as a share of 1; OutOfRangeError if it is negative or more than that."""
    if not 0 <= weight <= _WHOLE:
        raise OutOfRangeError("weight")
    return weight / _WHOLE


def _by_rollout(
    known: tuple[Bucket, Steps, Evaluation, Evaluation], context: Context, _path: Path
) -> Evaluation:
    bucket, steps, last, outside = known
    place = bucket(context)
    if place < 0:
        return outside
    for bound, evaluation in steps:
        if place < bound:
            return evaluation
    return last


def compile_bucket(prefix: str, data: Json, kind_name: str, *, by_key: bool = False) -> Bucket:
    """Return a function for a context's bucket, from 0 to 1, or -1 if it lacks the kind.

    Uses SHA-1 like all of the provider's SDKs, so that a context is in the same bucket everywhere.

    Args:
        prefix: hashed before the value.
        data: the provider's JSON, which may name an attribute.
        kind_name: the field that names the kind of context.
        by_key: whether to ignore ``bucketBy`` and always use the key.
    """
    kind = optional(data, kind_name, str)
    by = optional(data, "bucketBy", str)
    names = ("key",) if by_key or not by else reference(by, kind)
    return bind(_bucket, (prefix, kind or USER, names))


def _bucket(known: tuple[str, str, Reference], context: Context) -> float:
    prefix, kind, names = known
    attributes = context.get(kind)
    if attributes is None:
        return -1.0
    value = read(attributes, names)
    if type(value) is not str:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            return 0.0
        value = "%s" % value  # noqa: UP031 - as in the SDK; format() differs for an enum
    digest = sha1((prefix + value).encode(), usedforsecurity=False).digest()
    # The first fifteen hexadecimal digits.
    return (_from_bytes(digest[:8], "big") >> 4) / _SCALE


def reference(text: str, kind: str | None) -> Reference:
    """Return the names on the path to an attribute; empty if the reference is invalid.

    With a kind, ``/a/b`` is a path, with ``~1`` for a slash and ``~0`` for a tilde
    (``AttributeRef`` in the SDK). Older data, without kinds, has plain names of users' attributes.
    """
    if not kind or not text.startswith("/"):
        return (text,) if text else ()
    names = text[1:].split("/")
    for name in names:
        rest = name.replace("~0", "").replace("~1", "")
        if not name or "~" in rest:
            return ()
    return tuple(name.replace("~1", "/").replace("~0", "~") for name in names)


def read(attributes: Attributes, names: Reference) -> Any:  # noqa: ANN401 - the caller's own
    """Return an attribute, or None; MalformedError if the reference is invalid."""
    if not names:
        raise MalformedError
    value: Any = attributes
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
