"""The choice of a variant of an Unleash flag, compiled into a function. Pure.

As yggdrasil-engine 2.0.0 chooses: by the hash of group and value, 1 to the sum of the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flagstore.evaluation.murmur3 import mixed, murmur3_32
from flagstore.evaluation.unleash_operators import listed, text
from flagstore.evaluation.unleash_operators import parameters as parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.evaluation.base import Evaluation

    Evaluate = Callable[[Mapping[str, Any]], Evaluation]
    Pick = Callable[[Mapping[str, Any]], int]

SEED: Final = 86_028_157
"""Another than that of rollouts, 0: who is in a rollout says nothing of the variant."""
TIME_PROPERTY: Final = "\0currentTime"
"""Where a property of that name is kept, which only the stickiness of variants looks at."""
_MAX_I32: Final = (1 << 31) - 1
_U32: Final = 0xFFFF_FFFF


class ChoiceSettings:
    """How a variant is chosen where the context does not decide."""

    __slots__ = ("crashed", "random")

    def __init__(self, random: Callable[[], float], crashed: Evaluation | None) -> None:
        self.random = random
        self.crashed = crashed
        """In place of a choice that makes the official engine panic, weights of no sum: none for
        the flag without a variant."""


def of_strategy(
    flag: Mapping[str, Any], strategy: Mapping[str, Any], plain: Evaluation, choice: ChoiceSettings
) -> Evaluation | Evaluate:
    """Compile what a flag is where a strategy matched: with its variants, else with the flag's.

    A strategy's variants stick to what the strategy does, whatever they say themselves.
    """
    variants = listed(strategy, "variants")
    if not variants:
        return of_flag(flag, plain, choice)
    parameters = parameters_of(strategy)
    group = parameters.get("groupId", flag["name"])
    bounds, total = _bounds(variants, plain)
    return _chooser(
        bounds, _pick(group, parameters.get("stickiness"), total, choice), plain, choice
    )


def of_flag(
    flag: Mapping[str, Any], plain: Evaluation, choice: ChoiceSettings
) -> Evaluation | Evaluate:
    """Compile what a flag is with its own variants; overrides go before weights."""
    variants = listed(flag, "variants")
    if not variants:
        return plain
    bounds, total = _bounds(variants, plain)
    pick = _pick(flag["name"], variants[0].get("stickiness"), total, choice)
    choose = _chooser(bounds, pick, plain, choice)
    forced: tuple[tuple[str, frozenset[str], Evaluation], ...] = tuple(
        (text(one["contextName"]), _texts(one["values"]), outcome)
        for variant, (_, outcome) in zip(variants, bounds, strict=True)
        for one in listed(variant, "overrides")
    )
    if not forced:
        return choose

    def choose_or_force(context: Mapping[str, Any]) -> Evaluation:
        for name, values, outcome in forced:
            if context[name] in values:
                return outcome
        return choose(context)

    return choose_or_force


def _texts(given: object) -> frozenset[str]:
    if not isinstance(given, list):
        raise TypeError("a list is expected")
    return frozenset(map(text, given))


def draw(random: Callable[[], float], count: int) -> int:
    """Draw one of 1 to a count, each as likely as the others."""
    return min(int(random() * count), count - 1) + 1


def _bounds(variants: list[Mapping[str, Any]], plain: Evaluation) -> tuple[list[Any], int]:
    """Return the last number of each variant with its outcome, and the sum of the weights."""
    bounds = []
    total = 0
    for variant in variants:
        # As the engine adds: unsigned, of 32 bits.
        total = (total + _weight(variant["weight"])) & _U32
        bounds.append((total, _with_variant(plain, variant)))
    return bounds, total


def _weight(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise TypeError("a weight is expected")
    if not -_MAX_I32 - 1 <= given <= _MAX_I32:
        raise ValueError("a weight of 32 bits is expected")
    return given


def _with_variant(plain: Evaluation, variant: Mapping[str, Any]) -> Evaluation:
    payload = variant.get("payload")
    if payload is not None:
        payload = {"type": text(payload["type"]), "value": text(payload["value"])}
    return plain._replace(variant=text(variant["name"]), config=payload)


def _chooser(bounds: list[Any], pick: Pick, plain: Evaluation, choice: ChoiceSettings) -> Evaluate:
    if bounds[-1][0] == 0:
        # The official get_variant panics, and is_enabled doesn't.
        outcome = plain if choice.crashed is None else choice.crashed
        return lambda _: outcome
    pairs: tuple[tuple[int, Evaluation], ...] = tuple(bounds)

    def choose(context: Mapping[str, Any]) -> Evaluation:
        target = pick(context)
        for bound, outcome in pairs:
            if bound >= target:
                return outcome
        return plain

    return choose


def _pick(group: str, stickiness: str | None, total: int, choice: ChoiceSettings) -> Pick:
    """Compile what gives a number from 1 to the sum of the weights: by a hash, else at random."""
    prefix = f"{group}:".encode()
    random = choice.random
    if stickiness is None or stickiness == "default":

        def pick_by_default(context: Mapping[str, Any]) -> int:
            seed = context["userId"]
            if seed is None:
                seed = context["sessionId"]
                if seed is None:
                    return draw(random, total)
            return murmur3_32(mixed(prefix + seed.encode()), SEED) % total + 1

        return pick_by_default
    field = TIME_PROPERTY if stickiness == "currentTime" else text(stickiness)

    def pick(context: Mapping[str, Any]) -> int:
        seed = context[field]
        if seed is None:
            return draw(random, total)
        return murmur3_32(mixed(prefix + seed.encode()), SEED) % total + 1

    return pick
