"""Unleash's strategies and variants, compiled into functions. No I/O.

Predefined strategies, including the deprecated ones, work as in yggdrasil-engine 2.0.0: a rollout
compares its percentage with a hash of group and value from 1 to 100; a variant is chosen by another
such hash, from 1 to the sum of the weights. Custom strategies work as in UnleashClient 6.9.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from flagstore.evaluation.base import (
    RULE_MATCH,
    Evaluation,
    MalformedError,
    UnsupportedError,
    all_of,
    optional,
    required,
)
from flagstore.evaluation.murmur3 import mixed, murmur3_32
from flagstore.evaluation.unleash_operators import (
    WHITE_SPACE,
    OffError,
    constraint,
    every,
    in_networks,
    members,
    never,
    of_field,
    quotable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from flagstore.evaluation.base import EngineConfig, Items, Json
    from flagstore.evaluation.unleash_operators import Predicate

    Item: TypeAlias = tuple[str, str]
    """Section and key."""
    Evaluate: TypeAlias = Callable[[Mapping[str, Any]], Evaluation]
    Rule: TypeAlias = tuple[Predicate | None, Evaluation | Evaluate]
    """When a strategy matches (None: always), and the result if it does."""
    Seed: TypeAlias = Callable[[Mapping[str, Any]], str | None]
    """Returns the value that a choice sticks to; None for a random choice."""

_VARIANT_SEED: Final = 86_028_157
"""Rollouts have the seed 0, so that variants are independent of them."""
_STICKY_DRAWS, _PERCENT_DRAWS, _ALL = 9_999, 99, 100


class Flag:
    """A flag with everything needed to compile it."""

    __slots__ = ("_items", "_segments", "child", "config", "given", "needed")

    def __init__(
        self,
        given: Json,
        child: Json,
        items: Items,
        config: EngineConfig,
        segments: dict[str, list[Predicate]],
        needed: set[Item],
    ) -> None:
        self.given = given
        self.child = child
        """The flag itself; for a parent, the flag that needs it, whose name is the group of the
        parent's rollouts."""
        self.config = config
        self.needed = needed
        """The other items that are compiled into this flag, or are missing."""
        self._items = items
        self._segments = segments

    def parent(self, name: str) -> Flag | None:
        """Return a parent of this flag; None if it does not exist."""
        self.needed.add(("flags", name))
        given = self._items.item("flags", name)
        if given is None:
            return None
        return Flag(given, self.given, self._items, self.config, self._segments, self.needed)

    def rules(self) -> list[Rule]:
        """Compile the strategies in order."""
        rules: list[Rule] = []
        strategies = optional(self.given, "strategies", list) or ()
        names = [required(strategy, "name", str) for strategy in strategies]
        for index, (name, strategy) in enumerate(zip(names, strategies, strict=True)):
            if name in _RULES:
                own = _RULES[name](self, _parameters(strategy))
            else:
                own = self._custom_rule(name, _parameters(strategy), names)
            result = Evaluation(value=True, reason=RULE_MATCH, rule=name, rule_index=index)
            checks = [constraint(one) for one in optional(strategy, "constraints", list) or ()]
            for identifier in optional(strategy, "segments", list) or ():
                checks += self._segment(identifier)
            # Constraints first, since they are faster than hashes.
            predicate = every(checks if own is None else [*checks, own])
            rules.append((predicate, self._of_strategy(strategy, result)))
        return rules

    def _segment(self, identifier: object) -> list[Predicate]:
        """Return a segment's constraints, compiled once for all flags."""
        if not isinstance(identifier, int) or isinstance(identifier, bool):
            raise MalformedError("segments")
        name = str(identifier)
        self.needed.add(("segments", name))
        found = self._segments.get(name)
        if found is None:
            segment = self._items.item("segments", name)
            if segment is None:
                raise OffError(f"the segment {name[:32]} is missing")
            found = [constraint(one) for one in required(segment, "constraints", list)]
            self._segments[name] = found
        return found

    def _custom_rule(self, name: str, parameters: dict[str, str], names: list[str]) -> Predicate:
        # For a parent, the official engine has results of other custom strategies.
        if self.given is not self.child:
            raise UnsupportedError("a parent with custom strategies")
        if "applicationHostname" in names:
            raise UnsupportedError("custom strategies with a strategy on host names")
        function = self.config.strategies.get(name)
        if function is None:
            return never
        return lambda context: function(dict(parameters), context.official()) is True  # type: ignore[attr-defined] # a Context

    # -- variants ----------------------------------------------------------------------------------

    def _of_strategy(self, strategy: Json, result: Evaluation) -> Evaluation | Evaluate:
        """Compile a result with the strategy's variants and stickiness, or else the flag's."""
        parameters = _parameters(strategy)
        variants = optional(strategy, "variants", list)
        if not variants:
            return self.with_variants(result)
        group = parameters.get("groupId", self.given["name"])
        return self._choice(_bounds(variants, result), group, parameters.get("stickiness"), result)

    def with_variants(self, result: Evaluation) -> Evaluation | Evaluate:
        """Compile a result with the flag's own variants, whose overrides precede their weights."""
        variants = optional(self.given, "variants", list)
        if not variants:
            return result
        bounds = _bounds(variants, result)
        stickiness = optional(variants[0], "stickiness", str)
        choose = self._choice(bounds, self.given["name"], stickiness, result)
        forced = [
            (
                required(one, "contextName", str),
                frozenset(all_of(required(one, "values", list), str)),
                outcome,
            )
            for variant, (_, outcome) in zip(variants, bounds, strict=True)
            for one in optional(variant, "overrides", list) or ()
        ]
        if not forced:
            return choose

        def choose_or_force(context: Mapping[str, Any]) -> Evaluation:
            for name, values, outcome in forced:
                if context[name] in values:
                    return outcome
            return choose(context)

        return choose_or_force

    def _choice(
        self,
        bounds: list[tuple[int, Evaluation]],
        group: str,
        stickiness: str | None,
        result: Evaluation,
    ) -> Evaluate:
        total = bounds[-1][0]
        if total == 0:
            # The official get_variant panics, also for a child, but is_enabled does not.
            if self.given is not self.child:
                raise UnsupportedError("a parent whose weights are all 0")
            return lambda _: result
        if stickiness == "currentTime":
            raise UnsupportedError("variants that stick to currentTime")
        prefix = f"{group}:".encode()
        seed = _seed("default" if stickiness is None else stickiness)
        random = self.config.random

        def choose(context: Mapping[str, Any]) -> Evaluation:
            value = seed(context)
            if value is None:
                target = _draw(random, total)
            else:
                target = murmur3_32(mixed(prefix + value.encode()), _VARIANT_SEED) % total + 1
            for bound, outcome in bounds:
                if bound >= target:
                    return outcome
            return result

        return choose


def _parameters(strategy: Json) -> dict[str, str]:
    parameters: dict[str, str] = optional(strategy, "parameters", dict) or {}
    all_of([*parameters.values()], str)
    return parameters


def _draw(random: Callable[[], float], count: int) -> int:
    return int(random() * count) + 1


def _bounds(variants: list[Json], result: Evaluation) -> list[tuple[int, Evaluation]]:
    """Return the highest number of each variant, and the result with the variant."""
    bounds = []
    total = 0
    for variant in variants:
        weight = required(variant, "weight", int)
        total += weight
        if isinstance(weight, bool) or weight < 0 or total >= 1 << 31:
            raise MalformedError("weight")
        payload = optional(variant, "payload", dict)
        if payload is not None:
            payload = {name: required(payload, name, str) for name in ("type", "value")}
        name = required(variant, "name", str)
        bounds.append((total, result._replace(variant=name, config=payload)))
    return bounds


def _seed(stickiness: str) -> Seed:
    if stickiness != "default":
        return lambda context: context[stickiness]

    def by_default(context: Mapping[str, Any]) -> str | None:
        value: str | None = context["userId"]
        return context["sessionId"] if value is None else value

    return by_default


# -- strategies ------------------------------------------------------------------------------------


def _parts(text: str) -> list[str]:
    return [part.strip(WHITE_SPACE) for part in text.split(",")]


def _user_ids(_: Flag, parameters: Mapping[str, str]) -> Predicate:
    if "userIds" not in parameters:
        return never
    return members("userId", _parts(parameters["userIds"]))


def _rollout_by(field: str) -> Callable[[Flag, Mapping[str, str]], Predicate | None]:
    def rule(_: Flag, parameters: Mapping[str, str]) -> Predicate | None:
        percentage = _unsigned(parameters.get("percentage"))
        if percentage is None or "groupId" not in parameters:
            return never
        return _rollout(quotable(parameters["groupId"]), percentage, _seed(field), None)

    return rule


def _rollout_at_random(flag: Flag, parameters: Mapping[str, str]) -> Predicate:
    percentage = _unsigned(parameters.get("percentage"))
    if percentage is None:
        return never
    random = flag.config.random
    return lambda _: _draw(random, _PERCENT_DRAWS) < percentage


def _flexible_rollout(flag: Flag, parameters: Mapping[str, str]) -> Predicate | None:
    percentage = _unsigned(parameters.get("rollout"))
    if percentage is None:
        return never
    stickiness = parameters.get("stickiness", "default")
    group = flag.child["name"]
    if "groupId" in parameters:
        group = quotable(parameters["groupId"])
    if stickiness == "random":
        return _rollout(group, percentage, lambda _: None, flag.config.random)
    random = flag.config.random if stickiness == "default" else None
    return _rollout(group, percentage, _seed(quotable(stickiness)), random)


def _addresses(_: Flag, parameters: Mapping[str, str]) -> Predicate:
    if "IPs" not in parameters:
        return never
    networks = [quotable(part) for part in _parts(parameters["IPs"])]
    return of_field("remoteAddress", in_networks(networks))


def _host_names(_: Flag, parameters: Mapping[str, str]) -> Predicate:
    """Match no context: the official Python engine does not know its host's name."""
    for part in _parts(parameters.get("hostNames", "")):
        quotable(part)
    return never


_RULES: dict[str, Callable[[Flag, Mapping[str, str]], Predicate | None]] = {
    "default": lambda *_: None,
    "userWithId": _user_ids,
    "gradualRolloutUserId": _rollout_by("userId"),
    "gradualRolloutSessionId": _rollout_by("sessionId"),
    "gradualRolloutRandom": _rollout_at_random,
    "flexibleRollout": _flexible_rollout,
    "remoteAddress": _addresses,
    "applicationHostname": _host_names,
}


def _unsigned(text: str | None) -> int | None:
    """Parse a percentage as Rust's ``usize``."""
    found = re.fullmatch(r"\+?0*([0-9]{1,19})", text or "")
    return int(found[1]) if found else None


def _rollout(
    group: str, percentage: int, seed: Seed, random: Callable[[], float] | None
) -> Predicate | None:
    """Compile a rollout; a context without the value is included at random or never."""
    if percentage > _ALL:
        raise OffError("more than 100 %")
    if percentage == 0:
        return never
    if percentage == _ALL:
        return None if random else lambda context: seed(context) is not None
    prefix = f"{group}:".encode()

    def check(context: Mapping[str, Any]) -> bool:
        value = seed(context)
        if value is None:
            if random is None:
                return False
            value = str(_draw(random, _STICKY_DRAWS))
        return murmur3_32(mixed(prefix + value.encode()), 0) % _ALL < percentage

    return check
