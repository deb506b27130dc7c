"""Unleash's strategies, compiled into functions. Pure.

The predefined strategies, deprecated ones among them, as yggdrasil-engine 2.0.0 evaluates them:
a rollout is by the hash of group and value, 1 to 100. Custom strategies as UnleashClient 6.9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flagstore.evaluation import base
from flagstore.evaluation import unleash_operators as operators
from flagstore.evaluation.base import Evaluation
from flagstore.evaluation.murmur3 import mixed, murmur3_32
from flagstore.evaluation.unleash_variants import ChoiceSettings, draw, of_flag, of_strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.evaluation.base import EngineConfig, Items
    from flagstore.evaluation.unleash_operators import Predicate
    from flagstore.evaluation.unleash_variants import Evaluate

    Rule = tuple[Predicate | None, Evaluation | Evaluate]
    """When it is on, none for always, and what it then is."""

_STICKY_DRAWS: Final = 9_999
_PERCENT_DRAWS: Final = 99
_ALL = 100
_MAX_USIZE: Final = (1 << 64) - 1
_STANDARD = frozenset(
    (
        *("default", "userWithId", "gradualRolloutUserId", "gradualRolloutSessionId"),
        *("gradualRolloutRandom", "flexibleRollout", "remoteAddress"),
    )
)
"""What the SDK's Python half does not count as a custom strategy; its Rust half knows
``applicationHostname``, too, and numbers custom strategies without it."""

CRASHED: Final = Evaluation()
"""In place of a parent's variant, where choosing it makes the official engine panic."""


class Flag:
    """What a flag is compiled from.

    A parent is compiled for each child: it is evaluated with the child's name as the group of its
    rollouts, and with the results of the child's custom strategies.
    """

    __slots__ = ("_choice", "_custom", "_segments", "child", "given", "items", "settings")

    def __init__(
        self,
        given: Mapping[str, Any],
        child: Mapping[str, Any],
        items: Items,
        settings: EngineConfig,
        segments: dict[str, list[Predicate]],
    ) -> None:
        self.given = given
        self.child = child
        self.items = items
        self.settings = settings
        self._segments = segments
        self._choice = ChoiceSettings(settings.random, None if given is child else CRASHED)
        self._custom = [
            strategy
            for strategy in operators.listed(child, "strategies")
            if strategy["name"] not in _STANDARD
        ]

    def parent(self, given: Mapping[str, Any]) -> Flag:
        """Return what a parent of this one is compiled from."""
        return Flag(given, self.given, self.items, self.settings, self._segments)

    def rules(self) -> list[Rule]:
        """Compile the strategies in their order.

        Raises:
            OffError, UnsupportedError: as of constraints.
        """
        rules: list[Rule] = []
        customs = 0
        for index, strategy in enumerate(operators.listed(self.given, "strategies")):
            name = operators.text(strategy["name"])
            custom = name not in _RULES
            customs += custom
            plain = Evaluation(value=True, reason=base.RULE_MATCH, rule=name, rule_index=index)
            result = of_strategy(self.given, strategy, plain, self._choice)
            try:
                parameters = operators.parameters(strategy)
                own = self._custom_rule(customs) if custom else _RULES[name](self, parameters)
                checks = [
                    operators.constraint(one) for one in operators.listed(strategy, "constraints")
                ]
                for identifier in operators.listed(strategy, "segments"):
                    checks += self._segment(identifier)
            except operators.InjectionError:
                from flagstore.evaluation.unleash_injection import may_inject  # noqa: PLC0415 - rare

                if may_inject((self.given, self._used_segments())):
                    raise operators.UnsupportedError("quotes") from None
                raise operators.OffError("a text that ends before its end") from None
            # Constraints first: they take less time than hashes.
            rules.append((operators.every(checks if own is None else [*checks, own]), result))
        return rules

    def fallback(self, reason: str) -> Evaluation | Evaluate:
        """Compile the flag's own variants, for where no strategy has any."""
        return of_flag(self.given, Evaluation(value=True, reason=reason), self._choice)

    def _used_segments(self) -> list[Any]:
        return [
            self.items.item("segments", str(identifier))
            for strategy in self.given["strategies"]
            for identifier in operators.listed(strategy, "segments")
        ]

    def _segment(self, identifier: object) -> list[Predicate]:
        """Return a segment's constraints, compiled once for all flags."""
        if not isinstance(identifier, int) or isinstance(identifier, bool):
            raise TypeError("a number is expected")
        name = str(identifier)
        found = self._segments.get(name)
        if found is None:
            segment = self.items.item("segments", name)
            if segment is None:
                raise operators.OffError(f"the segment {name[:32]} is not there")
            found = [operators.constraint(one) for one in segment["constraints"]]
            self._segments[name] = found
        return found

    def _custom_rule(self, number: int) -> Predicate | None:
        """Ask a custom strategy: by its number among the child's, as the SDK's two halves do."""
        if number > len(self._custom):
            return never
        strategy = self._custom[number - 1]
        function = self.settings.strategies.get(strategy["name"])
        if function is None:
            return never
        parameters = operators.parameters(strategy)
        return lambda context: function(dict(parameters), context.official()) is True  # type: ignore[attr-defined] # a Context


# -- strategies ----------------------------------------------------------------------------------


def _user_ids(_: Flag, parameters: Mapping[str, str]) -> Predicate | None:
    if "userIds" not in parameters:
        return never
    names = [name.strip(operators.WHITE_SPACE) for name in parameters["userIds"].split(",")]
    return operators.members("userId", names)


def _rollout_by_user(_: Flag, parameters: Mapping[str, str]) -> Predicate | None:
    return _rollout_by("userId", parameters)


def _rollout_by_session(_: Flag, parameters: Mapping[str, str]) -> Predicate | None:
    return _rollout_by("sessionId", parameters)


def _rollout_by(field: str, parameters: Mapping[str, str]) -> Predicate | None:
    percentage = _unsigned(parameters.get("percentage"))
    if percentage is None or "groupId" not in parameters:
        return never
    operators.check_quotable(parameters["groupId"])
    return _rollout(parameters["groupId"], field, percentage)


def _rollout_at_random(flag: Flag, parameters: Mapping[str, str]) -> Predicate | None:
    percentage = _unsigned(parameters.get("percentage"))
    if percentage is None:
        return never
    random = flag.settings.random
    return lambda _: draw(random, _PERCENT_DRAWS) < percentage


def _flexible_rollout(flag: Flag, parameters: Mapping[str, str]) -> Predicate | None:
    percentage = _unsigned(parameters.get("rollout"))
    if percentage is None:
        return never
    stickiness = parameters.get("stickiness", "default")
    group = parameters.get("groupId", flag.child["name"])
    if "groupId" in parameters:
        operators.check_quotable(group)
    if stickiness == "random":
        return _rollout_by_draw(group, _percent(percentage), flag.settings.random)
    if stickiness == "default":
        return _rollout_by_default(group, _percent(percentage), flag.settings.random)
    operators.check_quotable(stickiness)
    return _rollout(group, stickiness, percentage)


def _addresses(_: Flag, parameters: Mapping[str, str]) -> Predicate | None:
    if "IPs" not in parameters:
        return never
    listed = [part.strip(operators.WHITE_SPACE) for part in parameters["IPs"].split(",")]
    for part in listed:
        operators.check_quotable(part)
    from flagstore.evaluation.unleash_addresses import in_networks  # noqa: PLC0415 - seldom

    return in_networks("remoteAddress", listed)


def _host_names(_: Flag, parameters: Mapping[str, str]) -> Predicate | None:
    """Match nobody: the official Python engine does not know its host's name."""
    for part in parameters.get("hostNames", "").split(","):
        operators.check_quotable(part.strip(operators.WHITE_SPACE))
    return never


_RULES: dict[str, Callable[[Flag, Mapping[str, str]], Predicate | None]] = {
    "default": lambda *_: None,
    "userWithId": _user_ids,
    "gradualRolloutUserId": _rollout_by_user,
    "gradualRolloutSessionId": _rollout_by_session,
    "gradualRolloutRandom": _rollout_at_random,
    "flexibleRollout": _flexible_rollout,
    "remoteAddress": _addresses,
    "applicationHostname": _host_names,
}


def never(_: Mapping[str, Any]) -> bool:
    """Say no to each context."""
    return False


# -- rollouts ------------------------------------------------------------------------------------


def _unsigned(text: str | None) -> int | None:
    """Read a percentage as Rust reads an usize."""
    digits = (text or "").removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        return None
    digits = digits.lstrip("0") or "0"
    if len(digits) > len(str(_MAX_USIZE)) or int(digits) > _MAX_USIZE:
        return None
    return int(digits)


def _percent(percentage: int) -> int:
    if percentage > _ALL:
        raise operators.OffError("more than 100 %")
    return percentage


def _rollout(group: str, field: str, percentage: int) -> Predicate | None:
    """Decide by a field; no one is in without it."""
    if _percent(percentage) == 0:
        return never
    if percentage == _ALL:
        return lambda context: context[field] is not None
    prefix = f"{group}:".encode()

    def check(context: Mapping[str, Any]) -> bool:
        value = context[field]
        return (
            value is not None and murmur3_32(mixed(prefix + value.encode()), 0) % _ALL < percentage
        )

    return check


def _rollout_by_default(
    group: str, percentage: int, random: Callable[[], float]
) -> Predicate | None:
    """Decide by the user, else by the session, else at random."""
    if percentage in (0, _ALL):
        return never if percentage == 0 else None
    prefix = f"{group}:".encode()

    def check(context: Mapping[str, Any]) -> bool:
        value = context["userId"]
        if value is None:
            value = context["sessionId"]
            if value is None:
                value = str(draw(random, _STICKY_DRAWS))
        return murmur3_32(mixed(prefix + value.encode()), 0) % _ALL < percentage

    return check


def _rollout_by_draw(group: str, percentage: int, random: Callable[[], float]) -> Predicate | None:
    """Decide at random."""
    if percentage in (0, _ALL):
        return never if percentage == 0 else None
    prefix = f"{group}:".encode()

    def check(_: Mapping[str, Any]) -> bool:
        value = str(draw(random, _STICKY_DRAWS))
        return murmur3_32(mixed(prefix + value.encode()), 0) % _ALL < percentage

    return check
