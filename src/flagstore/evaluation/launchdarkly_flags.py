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
    Evaluation,
)
from flagstore.evaluation.launchdarkly_context import USER
from flagstore.evaluation.launchdarkly_fields import (
    MalformedError,
    StopError,
    all_of,
    bind,
    optional,
    read,
    reference,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.evaluation.launchdarkly_fields import Context, Matcher, Path

    Evaluate = Callable[[Context, Path], Evaluation]
    Choice = tuple[Evaluation | None, Evaluate | None]
    """What a rule gives: one outcome, or one by a rollout."""
    Rules = tuple[tuple[Matcher | None, Evaluation | None, Evaluate | None], ...]
    """Whether each matches (always, if None), and its choice; the fallthrough is the last."""
    Targets = tuple[tuple[str, dict[str, Evaluation]], ...]
    """Kind of context and, by its key, what it gets."""
    Prerequisites = tuple[tuple[str, int, Evaluation], ...]
    """Another flag, the variation that it must give, and what follows if it does not."""
    LookUp = Callable[[str], "Flag | None"]
    Bucket = Callable[[Context], float]
    Share = tuple[int, Evaluation, Evaluation]
    """Its weight, what it gives, and what it gives a context without the kind."""
    Steps = tuple[tuple[float, Evaluation], ...]
    """Below which place of a context it gets what, in order."""

_SCALE = float(0xFFFFFFFFFFFFFFF)
_WHOLE = 100_000.0
"""The weights of all shares together, as a rule."""
_from_bytes = int.from_bytes


class Flag:
    """A compiled flag: no more of it than evaluations need."""

    __slots__ = ("evaluate", "on", "version")

    def __init__(self, evaluate: Evaluate, version: int | None, *, on: bool) -> None:
        self.evaluate = evaluate
        self.version = version
        self.on = on


class _Evaluations:
    """Makes the outcomes of one flag while it is compiled."""

    __slots__ = ("_variations", "version")

    def __init__(self, version: int, variations: list[Any]) -> None:
        self.version = version
        self._variations = variations

    def outcome(
        self,
        variation: int | None,
        reason: str,
        rule: str = "",
        rule_index: int | None = None,
        *,
        in_experiment: bool = False,
    ) -> Evaluation:
        """Return the outcome of a variation; an error if there is no such variation."""
        if variation is None or not 0 <= variation < len(self._variations):
            return Evaluation(reason=ERROR, error=MALFORMED_FLAG, version=self.version)
        value = self._variations[variation]
        return Evaluation(
            value, variation, reason, "", rule, rule_index, None, self.version, in_experiment
        )

    def off(self, variation: int | None, reason: str, rule: str = "") -> Evaluation:
        """Return the outcome of the variation for when it is off; if there is none, no value."""
        if variation is None:
            return Evaluation(reason=reason, rule=rule, version=self.version)
        return self.outcome(variation, reason, rule)


def compile_flag(
    data: Any,  # noqa: ANN401 - provider JSON
    look_up: LookUp,
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
    key = required(data, "key", str)
    on = optional(data, "on", bool) is True
    outcomes = _Evaluations(version, optional(data, "variations", list) or [])
    off_variation = optional(data, "offVariation", int)
    prefix = f"{key}.{optional(data, 'salt', str) or ''}."
    fallthrough = _compile_choice(
        outcomes, optional(data, "fallthrough", dict) or {}, prefix, FALLTHROUGH
    )
    prerequisites = _compile_prerequisites(outcomes, data, off_variation)
    rules = _compile_rules(outcomes, data, prefix, clauses)
    targets = _compile_targets(outcomes, data)
    if not on:
        return Flag(bind(_always, outcomes.off(off_variation, OFF)), version, on=False)
    evaluate = _in_turn(rules, fallthrough)
    if targets:
        evaluate = bind(_on_targets, (targets, evaluate))
    if prerequisites:
        evaluate = bind(_on_prerequisites, (key, prerequisites, look_up, evaluate))
    return Flag(evaluate, version, on=True)


def _in_turn(rules: Rules, fallthrough: Choice) -> Evaluate:
    """Return what asks the rules, and gives what the first one says that matches."""
    outcome, by_rollout = fallthrough
    if rules:
        return bind(_on_rules, (*rules, (None, outcome, by_rollout)))
    return by_rollout if outcome is None else bind(_always, outcome)  # type: ignore[return-value] # one of both


def _always(outcome: Evaluation, context: Context, path: Path) -> Evaluation:  # noqa: ARG001 - an Evaluate
    return outcome


def _on_rules(rules: Rules, context: Context, path: Path) -> Evaluation:  # noqa: ARG001 - an Evaluate
    for matches, outcome, by_rollout in rules:
        if matches is None or matches(context, ()):
            return by_rollout(context, ()) if outcome is None else outcome  # type: ignore[misc] # one of both
    raise AssertionError("the fallthrough matches")  # pragma: no cover


def _on_targets(known: tuple[Targets, Evaluate], context: Context, path: Path) -> Evaluation:
    targets, otherwise = known
    for kind, keys in targets:
        attributes = context.get(kind)
        if attributes is not None:
            outcome = keys.get(attributes["key"])
            if outcome is not None:
                return outcome
    return otherwise(context, path)


def _on_prerequisites(
    known: tuple[str, Prerequisites, LookUp, Evaluate], context: Context, path: Path
) -> Evaluation:
    key, prerequisites, look_up, otherwise = known
    path = (*path, key)
    for other, variation, failed in prerequisites:
        if other in path:
            raise StopError(MALFORMED_FLAG)
        flag = look_up(other)
        # One that is off does not count, whatever it gives.
        if flag is None or not flag.on or flag.evaluate(context, path).variant != variation:
            return failed
    return otherwise(context, path)


def _compile_prerequisites(
    outcomes: _Evaluations, data: dict[str, Any], off_variation: int | None
) -> Prerequisites:
    found = []
    for needed in all_of(optional(data, "prerequisites", list), dict):
        key = required(needed, "key", str)
        failed = outcomes.off(off_variation, PREREQUISITE_FAILED, key)
        found.append((key, required(needed, "variation", int), failed))
    return tuple(found)


def _compile_rules(
    outcomes: _Evaluations,
    data: dict[str, Any],
    prefix: str,
    clauses: Callable[[dict[str, Any]], Matcher | None],
) -> Rules:
    found = []
    for index, rule in enumerate(all_of(optional(data, "rules", list), dict)):
        name = optional(rule, "id", str) or ""
        choice = _compile_choice(outcomes, rule, prefix, RULE_MATCH, name, index)
        found.append((clauses(rule), *choice))
    return tuple(found)


def _compile_targets(outcomes: _Evaluations, data: dict[str, Any]) -> Targets:
    """Return who gets a variation by key, in the order in which it is looked for.

    Where there are ``contextTargets``, those of users only say when it is the turn of the entry in
    ``targets`` with the same variation, the first one; users without such a place have none.
    """
    users = _targets(data, "targets")
    turns = _targets(data, "contextTargets")
    targets: list[tuple[str, dict[str, Evaluation]]] = []
    for kind, variation, listed in turns or [(USER, *target[1:]) for target in users]:
        keys = listed
        if turns and kind == USER:
            keys = next((found for _, other, found in users if other == variation), [])
        given = dict.fromkeys(keys, outcomes.outcome(variation, TARGET_MATCH))
        if targets and targets[-1][0] == kind:
            # One look-up for both; who is in the first stays there.
            given |= targets.pop()[1]
        if given:
            targets.append((kind, given))
    return tuple(targets)


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
    outcomes: _Evaluations,
    data: dict[str, Any],
    prefix: str,
    reason: str,
    rule: str = "",
    rule_index: int | None = None,
) -> Choice:
    """Compile what a rule or the fallthrough gives: one outcome, or a choice among some."""
    variation = optional(data, "variation", int)
    rollout = optional(data, "rollout", dict)
    if rollout is None:
        return outcomes.outcome(variation, reason, rule, rule_index), None
    experiment = optional(rollout, "kind", str) == "experiment"
    seed = optional(rollout, "seed", int)
    bucket = compile_bucket(
        prefix if seed is None else f"{seed}.", rollout, "contextKind", by_key=experiment
    )
    shares: list[Share] = []
    for share in all_of(required(rollout, "variations", list), dict):
        index = required(share, "variation", int)
        weight = required(share, "weight", int)
        tracked = optional(share, "untracked", bool) is not True
        outcome = outcomes.outcome(
            index, reason, rule, rule_index, in_experiment=experiment and tracked
        )
        shares.append((weight, outcome, outcomes.outcome(index, reason, rule, rule_index)))
    if variation is not None or not shares:
        return outcomes.outcome(variation, reason, rule, rule_index), None
    return None, _compile_rollout(bucket, shares)


def _compile_rollout(bucket: Bucket, shares: list[Share]) -> Evaluate:
    """Compile the choice among shares: the first whose end a context's place is below."""
    steps: list[tuple[float, Evaluation]] = []
    bound = 0.0
    outside: Evaluation | None = None
    try:
        for weight, outcome, without_kind in shares:
            # Added up as floats, as the provider does: a bound is compared with a bucket exactly.
            bound += weight / _WHOLE
            steps.append((bound, outcome))
            if outside is None and bound > -1:
                outside = without_kind
    except OverflowError:
        return bind(_by_weights, (bucket, shares))
    return bind(_by_rollout, (bucket, tuple(steps), outcome, outside or without_kind))


def _by_weights(
    known: tuple[Bucket, list[Share]],
    context: Context,
    path: Path,  # noqa: ARG001 - an Evaluate
) -> Evaluation:
    """Add up as the SDK does: it fails only where it gets to a weight beyond all floats."""
    bucket, shares = known
    place, bound = bucket(context), 0.0
    found = shares[-1]
    for share in shares:
        bound += share[0] / _WHOLE
        if place < bound:
            found = share
            break
    return found[1] if place >= 0 else found[2]


def _by_rollout(
    known: tuple[Bucket, Steps, Evaluation, Evaluation],
    context: Context,
    path: Path,  # noqa: ARG001 - an Evaluate
) -> Evaluation:
    bucket, steps, last, outside = known
    place = bucket(context)
    if place < 0:
        return outside
    for bound, outcome in steps:
        if place < bound:
            return outcome
    return last


def compile_bucket(
    prefix: str, data: dict[str, Any], kind_name: str, *, by_key: bool = False
) -> Bucket:
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
    return bind(_bucket, (prefix, kind or USER, names))


def _bucket(known: tuple[str, str, Path], context: Context) -> float:
    prefix, kind, names = known
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
