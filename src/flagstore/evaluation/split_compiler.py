"""Split's flags, compiled into functions of a context. Pure.

Each hands out outcomes that were made beforehand, in the order of splitio_client 10.7.0: killed,
prerequisites, then the conditions, and the traffic allocation before the first of type ROLLOUT.
As in the SDK, a definition whose JSON is damaged raises while it is compiled, or, where the SDK
finds out late, while it is evaluated; one with a matcher that is unknown matches everybody, and
then is ``control``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flagstore.evaluation.base import (
    ABSENT,
    ERROR,
    FALLTHROUGH,
    MALFORMED_FLAG,
    NOT_IN_ROLLOUT,
    OFF,
    PREREQUISITE_FAILED,
    RULE_MATCH,
    TARGET_MATCH,
    UNSUPPORTED,
    Evaluation,
)
from flagstore.evaluation.split_context import DamagedError, Hash, no_bucket
from flagstore.evaluation.split_matchers import UnsupportedError, always, compile_matcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstore.evaluation.split_context import Context
    from flagstore.evaluation.split_matchers import Links, Match

    Decide = Callable[[Context], Evaluation]
    Treatment = Callable[[Context], Any]
    Step = tuple[Match, Evaluation | None, Decide]
    """What has to match, and then the outcome, or what finds it."""

CONTROL: Final = "control"
"""What the SDK says where it cannot evaluate; dependencies can ask for it."""
DEFAULT_RULE = "default rule"
UNSUPPORTED_LABEL = "targeting rule type unsupported by sdk"
"""Labels as of the SDK's impressions, as are those below."""

_BAD_CONFIGURATION: Final = object()
"""The configuration of a treatment where configurations are no object: the SDK fails on it."""
_COMBINERS = {"AND": True}


class Condition(NamedTuple):
    """A condition of a flag or a rule-based segment."""

    match: Match
    partitions: list[tuple[Any, Any]]
    """Treatments with their sizes, in per cent."""
    label: Any
    """A text or None, if nothing is damaged."""
    rollout: bool
    """Whether its type is ``ROLLOUT``, not ``WHITELIST``: the traffic allocation applies to it."""


UNSUPPORTED_CONDITIONS = [Condition(always, [(CONTROL, 100)], UNSUPPORTED_LABEL, rollout=True)]
"""What takes the place of all conditions where a matcher is unknown."""


def compile_flag(raw: Any, links: Links) -> tuple[Decide, bool]:  # noqa: ANN401 - provider JSON
    """Compile a flag into a function of a context that says what it is.

    Returns:
        The function, and whether a label is no text, which is a fault where it is reported.
    """
    conditions = compile_conditions(raw, links)
    for name in ("name", "seed", "killed", "trafficTypeName", "status"):
        raw[name]
    outcomes = _Evaluations(raw)
    if raw.get("sets") is not None:
        set(raw["sets"])
    needed = raw.get("prerequisites")
    needed = [] if needed is None else needed
    prerequisites = [(links.treatment(each["n"]), each["ts"]) for each in needed]
    allocation = raw.get("trafficAllocation")
    if allocation is None or not 0 <= allocation <= 100:  # noqa: PLR2004 - per cent
        allocation = 100
    if raw["killed"]:
        decide = _constant(outcomes.default(OFF, "killed"))
    else:
        decide = _walk(*_steps(outcomes, conditions, allocation))
        # Where the default is control, the SDK goes on when prerequisites are not met.
        decide = _after_prerequisites(prerequisites, outcomes, decide) if prerequisites else decide
    return _with_configuration(decide) if outcomes.bad_configuration else decide, outcomes.bad_label


class _Evaluations:
    """Makes the outcomes of one outcomes."""

    def __init__(self, raw: Any) -> None:  # noqa: ANN401 - provider JSON
        self.raw = raw
        self.treatment = raw["defaultTreatment"]
        version = raw["changeNumber"]
        self.version = version if isinstance(version, int) else None
        self.configurations = raw.get("configurations") or {}
        self.hash = Hash(raw["seed"], raw.get("algo"))
        self.bad_configuration = False
        """Whether there is an outcome that the SDK fails on."""
        self.bad_label = False
        """Whether there is a label that is no text."""

    def default(self, reason: str, label: str) -> Evaluation:
        """Return the default treatment."""
        return self.outcome(self.treatment, reason, label)

    def outcome(
        self,
        treatment: Any,  # noqa: ANN401 - a text, if nothing is damaged
        reason: str,
        label: Any,  # noqa: ANN401 - the same
        index: int | None = None,
    ) -> Evaluation:
        """Return the outcome of a treatment; of ``control``, an error."""
        label = "" if label is None else label
        self.bad_label = self.bad_label or not isinstance(label, str)
        if treatment == CONTROL:
            error = UNSUPPORTED if label == UNSUPPORTED_LABEL else MALFORMED_FLAG
            return Evaluation(ABSENT, None, ERROR, error, label, index, version=self.version)
        try:
            config = self.configurations.get(treatment)
        except (AttributeError, TypeError):
            self.bad_configuration = True
            config = _BAD_CONFIGURATION
        variant = treatment if isinstance(treatment, str) else None
        return Evaluation(treatment, variant, reason, "", label, index, config, self.version)

    def pick(self, condition: Condition, index: int) -> tuple[Evaluation | None, Decide]:
        """Return a matching condition's outcome if it is always the same, and what finds it."""
        parts = condition.partitions
        reason = RULE_MATCH if condition.rollout else TARGET_MATCH
        if condition.match is always and condition.label == DEFAULT_RULE:
            reason = FALLTHROUGH
        made = [
            self.default(FALLTHROUGH, DEFAULT_RULE)
            if treatment is None
            else self.outcome(treatment, reason, condition.label, index)
            for treatment, _ in parts
        ]
        none = self.outcome(CONTROL, reason, condition.label, index)
        if not parts:
            return none, _constant(none)
        if len(parts) == 1 and parts[0][1] == 100:  # noqa: PLR2004 - per cent
            return made[0], _constant(made[0])
        return self._by_bucket([size for _, size in parts], made, none)

    def _by_bucket(
        self, sizes: list[Any], made: list[Evaluation], none: Evaluation
    ) -> tuple[Evaluation | None, Decide]:
        """Choose by the bucket, from 1 to 100; *none* where the partitions end below it."""
        table = [none]
        covered = 0
        for size, outcome in zip(sizes, made, strict=True):
            covered += size
            table += [outcome] * (min(int(covered), 100) + 1 - len(table))
        table += [none] * (101 - len(table))
        seed, bucket = self.hash.seed, self.hash.bucket

        def picked(context: Context) -> Evaluation:
            return table[context.buckets.get(seed) or bucket(context, seed)]

        only = table[1]
        if bucket is no_bucket or any(outcome is not only for outcome in table[1:]):
            return None, picked
        if not self.hash.murmur:
            return only, _constant(only)

        def everybody(context: Context) -> Evaluation:
            # The SDK hashes all the same, and fails on a key that has no bytes.
            return picked(context) if context.encoded is None else only

        return None, everybody


def compile_conditions(raw: Any, links: Links) -> list[Condition]:  # noqa: ANN401 - provider JSON
    """Compile the conditions of a flag or a rule-based segment."""
    try:
        return [_condition(condition, links) for condition in raw["conditions"]]
    except UnsupportedError:
        links.forget()
        return UNSUPPORTED_CONDITIONS


def _condition(raw: Any, links: Links) -> Condition:  # noqa: ANN401 - provider JSON
    parts = raw.get("partitions")
    partitions = [] if parts is None else [_partition(part) for part in parts]
    group = raw["matcherGroup"]
    matches = [compile_matcher(matcher, links) for matcher in group["matchers"]]
    _COMBINERS[group["combiner"]]
    kind = raw.get("conditionType", "WHITELIST")
    if kind not in ("WHITELIST", "ROLLOUT"):
        raise ValueError(kind)
    return Condition(_all(matches), partitions, raw.get("label"), kind == "ROLLOUT")


def _partition(raw: Any) -> tuple[Any, Any]:  # noqa: ANN401 - provider JSON
    treatment, size = raw["treatment"], raw["size"]
    if size < 0 or size > 100:  # noqa: PLR2004 - per cent
        raise ValueError(size)
    return treatment, size


def _all(matches: list[Match]) -> Match:
    """Combine the matchers of a condition."""
    matches = [match for match in matches if match is not always]
    if not matches:
        return always
    if len(matches) == 1:
        return matches[0]
    if len(matches) == 2:  # noqa: PLR2004 - what is usual, without a loop
        one, other = matches
        return lambda context: one(context) and other(context)

    def match_all(context: Context) -> bool:
        for match in matches:  # noqa: SIM110 - all() with a generator takes twice as long
            if not match(context):
                return False
        return True

    return match_all


def _steps(
    outcomes: _Evaluations, conditions: list[Condition], allocation: float
) -> tuple[list[Step], Evaluation | None, Decide]:
    """Return what to try in turn, and what is left when nothing matched."""
    steps: list[Step] = []
    gated = allocation >= 100  # noqa: PLR2004 - per cent
    for index, condition in enumerate(conditions):
        if condition.rollout and not gated:
            gated = True
            outside = _outside(
                Hash(outcomes.raw.get("trafficAllocationSeed"), outcomes.raw.get("algo")),
                allocation,
            )
            left_out = outcomes.default(NOT_IN_ROLLOUT, "not in split")
            if outcomes.treatment is None:
                left_out = outcomes.default(FALLTHROUGH, DEFAULT_RULE)
            steps.append((outside, left_out, _constant(left_out)))
        outcome, pick = outcomes.pick(condition, index)
        if condition.match is always:
            return steps, outcome, pick
        steps.append((condition.match, outcome, pick))
    nothing = outcomes.default(FALLTHROUGH, DEFAULT_RULE)
    return steps, nothing, _constant(nothing)


def _outside(hashed: Hash, allocation: float) -> Match:
    """Say whether a context is not in the traffic allocation, in per cent."""
    seed, bucket = hashed.seed, hashed.bucket
    return lambda context: (context.buckets.get(seed) or bucket(context, seed)) > allocation


def _constant(outcome: Evaluation) -> Decide:
    return lambda _context: outcome


def _walk(steps: list[Step], last: Evaluation | None, otherwise: Decide) -> Decide:
    """Return what goes through the steps, up to the first that matches."""
    if not steps:
        return otherwise
    if len(steps) == 1:
        match, found, by_bucket = steps[0]

        def one(context: Context) -> Evaluation:
            if match(context):
                return by_bucket(context) if found is None else found
            return otherwise(context) if last is None else last

        return one

    def walk(context: Context) -> Evaluation:
        for match, found, by_bucket in steps:
            if match(context):
                return by_bucket(context) if found is None else found
        return otherwise(context) if last is None else last

    return walk


def _after_prerequisites(
    prerequisites: list[tuple[Treatment, Any]], outcomes: _Evaluations, decide: Decide
) -> Decide:
    unmet = outcomes.default(PREREQUISITE_FAILED, "prerequisites not met")
    goes_on = outcomes.treatment == CONTROL

    def after_prerequisites(context: Context) -> Evaluation:
        for treatment, wanted in prerequisites:
            if treatment(context) not in wanted:
                return decide(context) if goes_on else unmet
        return decide(context)

    return after_prerequisites


def _with_configuration(decide: Decide) -> Decide:
    """Fail where the SDK looks up the treatment's configuration, and cannot."""

    def decide_with_configuration(context: Context) -> Evaluation:
        outcome = decide(context)
        if outcome.config is _BAD_CONFIGURATION:
            raise DamagedError("configurations are no object, or a treatment is no text")
        return outcome

    return decide_with_configuration
