"""Flags of LaunchDarkly, compiled: prerequisites, targets, rules and rollouts. Pure.

In the order of the provider's own SDKs: off, prerequisites, targets, rules, fallthrough.
"""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Any

from flagstore.evaluation.base import (
    ERROR,
    FALLTHROUGH,
    MALFORMED_FLAG,
    OFF,
    PREREQUISITE_FAILED,
    RULE_MATCH,
    TARGET_MATCH,
    Outcome,
)
from flagstore.evaluation.launchdarkly_context import USER
from flagstore.evaluation.launchdarkly_fields import (
    MalformedError,
    StopError,
    all_of,
    optional,
    read,
    reference,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.evaluation.launchdarkly_fields import Context, Matcher, Path

    Evaluate = Callable[[Context, Path], Outcome]
    Choose = Callable[[Context], Outcome]
    Rule = tuple[Matcher | None, Outcome | None, Choose | None]
    """Whether it matches (always, if None), and what it gives: one outcome, or one by a rollout."""
    Targets = list[tuple[str, dict[str, Outcome]]]
    """Kind of context and, by its key, what it gets."""
    Prerequisite = tuple[str, int, Outcome]
    """Another flag, the variation that it must give, and what follows if it does not."""

_SCALE = float(0xFFFFFFFFFFFFFFF)
_from_bytes = int.from_bytes


class Flag:
    """A compiled flag."""

    __slots__ = ("_variations", "evaluate", "key", "on", "version")

    evaluate: Evaluate

    def __init__(
        self, key: str, version: int | None, *, on: bool, variations: list[Any] | None = None
    ) -> None:
        self.key = key
        self.version = version
        self.on = on
        self._variations = variations or []

    def outcome(
        self,
        variation: int | None,
        reason: str,
        rule: str = "",
        rule_index: int | None = None,
        *,
        in_experiment: bool = False,
    ) -> Outcome:
        """Return the outcome of a variation; an error if there is no such variation."""
        if variation is None or not 0 <= variation < len(self._variations):
            return Outcome(reason=ERROR, error=MALFORMED_FLAG, version=self.version)
        value = self._variations[variation]
        return Outcome(
            value, variation, reason, "", rule, rule_index, None, self.version, in_experiment
        )

    def off(self, variation: int | None, reason: str, rule: str = "") -> Outcome:
        """Return the outcome of the variation for when it is off; if there is none, no value."""
        if variation is None:
            return Outcome(reason=reason, rule=rule, version=self.version)
        return self.outcome(variation, reason, rule)


def compile_flag(
    data: Any,  # noqa: ANN401 - provider JSON
    look_up: Callable[[str], Flag | None],
    clauses: Callable[[dict[str, Any]], Matcher | None],
) -> Flag | None:
    """Compile a flag; None if it was deleted.

    Args:
        data: the provider's JSON.
        look_up: finds another flag, by its key.
        clauses: compiles the clauses of a rule.

    Raises:
        MalformedError: as the provider's SDK refuses it.
    """
    if not isinstance(data, dict):
        raise MalformedError
    version = required(data, "version", int)
    if optional(data, "deleted", bool):
        return None
    flag = Flag(
        required(data, "key", str),
        version,
        on=optional(data, "on", bool) is True,
        variations=optional(data, "variations", list),
    )
    off_variation = optional(data, "offVariation", int)
    prefix = f"{flag.key}.{optional(data, 'salt', str) or ''}."
    fallthrough = _compile_choice(
        flag, optional(data, "fallthrough", dict) or {}, prefix, FALLTHROUGH
    )
    prerequisites = _compile_prerequisites(flag, data, off_variation)
    rules: list[Rule] = []
    for index, rule in enumerate(all_of(optional(data, "rules", list), dict)):
        name = optional(rule, "id", str) or ""
        choice = _compile_choice(flag, rule, prefix, RULE_MATCH, name, index)
        rules.append((clauses(rule), *choice))
    rules.append((None, *fallthrough))
    targets = _compile_targets(flag, data)
    if not flag.on:
        flag.evaluate = _always(flag.off(off_variation, OFF))
        return flag
    flag.evaluate = _on_rules(rules)
    if targets:
        flag.evaluate = _on_targets(targets, flag.evaluate)
    if prerequisites:
        flag.evaluate = _on_prerequisites(flag.key, prerequisites, look_up, flag.evaluate)
    return flag


def _always(outcome: Outcome) -> Evaluate:
    return lambda context, path: outcome  # noqa: ARG005 - an Evaluate


def _on_rules(rules: list[Rule]) -> Evaluate:
    """Return what follows the first rule that matches; the last one is the fallthrough."""
    if len(rules) == 1:
        _, outcome, choose = rules[0]
        if outcome is not None:
            return _always(outcome)
        return lambda context, path: choose(context)  # type: ignore[misc] # noqa: ARG005

    def evaluate(context: Context, path: Path) -> Outcome:  # noqa: ARG001 - an Evaluate
        for matches, outcome, choose in rules:
            if matches is None or matches(context, ()):
                return choose(context) if outcome is None else outcome  # type: ignore[misc]
        raise AssertionError("the fallthrough matches")  # pragma: no cover

    return evaluate


def _on_targets(targets: Targets, otherwise: Evaluate) -> Evaluate:
    def evaluate(context: Context, path: Path) -> Outcome:
        for kind, keys in targets:
            attributes = context.get(kind)
            if attributes is not None:
                outcome = keys.get(attributes["key"])
                if outcome is not None:
                    return outcome
        return otherwise(context, path)

    return evaluate


def _on_prerequisites(
    key: str,
    prerequisites: list[Prerequisite],
    look_up: Callable[[str], Flag | None],
    otherwise: Evaluate,
) -> Evaluate:
    def evaluate(context: Context, path: Path) -> Outcome:
        path = (*path, key)
        for other, variation, failed in prerequisites:
            if other in path:
                raise StopError(MALFORMED_FLAG)
            flag = look_up(other)
            # One that is off does not count, whatever it gives.
            if flag is None or not flag.on or flag.evaluate(context, path).variant != variation:
                return failed
        return otherwise(context, path)

    return evaluate


def _compile_prerequisites(
    flag: Flag, data: dict[str, Any], off_variation: int | None
) -> list[Prerequisite]:
    found: list[Prerequisite] = []
    for needed in all_of(optional(data, "prerequisites", list), dict):
        key = required(needed, "key", str)
        failed = flag.off(off_variation, PREREQUISITE_FAILED, key)
        found.append((key, required(needed, "variation", int), failed))
    return found


def _compile_targets(flag: Flag, data: dict[str, Any]) -> Targets:
    """Return who gets a variation by key, in the order in which it is looked for.

    Where there are ``contextTargets``, those of users only say when it is the turn of the entry in
    ``targets`` with the same variation, the first one; users without such a place have none.
    """
    users = _targets(data, "targets")
    turns = _targets(data, "contextTargets")
    targets: Targets = []
    for kind, variation, listed in turns or [(USER, *target[1:]) for target in users]:
        keys = listed
        if turns and kind == USER:
            keys = next((found for _, other, found in users if other == variation), [])
        outcomes = dict.fromkeys(keys, flag.outcome(variation, TARGET_MATCH))
        if targets and targets[-1][0] == kind:
            # One look-up for both; who is in the first stays there.
            outcomes |= targets.pop()[1]
        if outcomes:
            targets.append((kind, outcomes))
    return targets


def _targets(data: dict[str, Any], name: str) -> list[tuple[str, int, list[str]]]:
    """Return kind, variation and keys of all that are listed in a field."""
    return [
        (
            optional(target, "contextKind", str) or USER,
            required(target, "variation", int),
            all_of(required(target, "values", list), str),
        )
        for target in all_of(optional(data, name, list), dict)
    ]


def _compile_choice(
    flag: Flag,
    data: dict[str, Any],
    prefix: str,
    reason: str,
    rule: str = "",
    rule_index: int | None = None,
) -> tuple[Outcome | None, Choose | None]:
    """Compile what a rule or the fallthrough gives: one outcome, or a choice among some."""
    variation = optional(data, "variation", int)
    rollout = optional(data, "rollout", dict)
    if rollout is None:
        return flag.outcome(variation, reason, rule, rule_index), None
    experiment = optional(rollout, "kind", str) == "experiment"
    seed = optional(rollout, "seed", int)
    bucket = compile_bucket(
        prefix if seed is None else f"{seed}.", rollout, "contextKind", by_key=experiment
    )
    steps: list[tuple[float, Outcome]] = []
    bound = 0.0
    outside: int | None = None
    for share in all_of(required(rollout, "variations", list), dict):
        index = required(share, "variation", int)
        # Added up as floats, as the provider does: a bound is compared with a bucket exactly.
        bound += required(share, "weight", int) / 100_000.0
        tracked = optional(share, "untracked", bool) is not True
        outcome = flag.outcome(
            index, reason, rule, rule_index, in_experiment=experiment and tracked
        )
        steps.append((bound, outcome))
        if outside is None and bound > -1:
            outside = index
    if variation is not None or not steps:
        return flag.outcome(variation, reason, rule, rule_index), None
    if outside is None:
        outside = index
    return None, _by_bucket(bucket, steps, flag.outcome(outside, reason, rule, rule_index))


def _by_bucket(
    bucket: Callable[[Context], float], steps: list[tuple[float, Outcome]], outside: Outcome
) -> Choose:
    last = steps[-1][1]

    def choose(context: Context) -> Outcome:
        place = bucket(context)
        if place < 0:
            return outside
        for bound, outcome in steps:
            if place < bound:
                return outcome
        return last

    return choose


def compile_bucket(
    prefix: str, data: dict[str, Any], kind_name: str, *, by_key: bool = False
) -> Callable[[Context], float]:
    """Return what places a context between 0 and 1, or at -1 if it has none of the kind.

    By SHA-1, as each of the provider's SDKs: a context is in the same bucket everywhere.

    Args:
        prefix: what is hashed before the value.
        data: the provider's JSON, which may say by which attribute.
        kind_name: the field that says of which kind of context.
        by_key: whether it is by the key whatever that says.

    Raises:
        MalformedError: as the provider's SDK refuses it.
    """
    kind = optional(data, kind_name, str)
    by = optional(data, "bucketBy", str)
    names = ("key",) if by_key or not by else reference(by, kind)
    kind = kind or USER

    def bucket(context: Context) -> float:
        attributes = context.get(kind)
        if attributes is None:
            return -1.0
        value = read(attributes, names)
        if type(value) is not str:
            if isinstance(value, bool) or not isinstance(value, (str, int)):
                return 0.0
            value = "%s" % value  # noqa: UP031 - as the provider; format() differs for an enum
        digest = sha1((prefix + value).encode(), usedforsecurity=False).digest()
        # The first fifteen hexadecimal digits.
        return (_from_bytes(digest[:8], "big") >> 4) / _SCALE

    return bucket
