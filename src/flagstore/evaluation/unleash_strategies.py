"""Unleash's strategies, variants and dependencies, compiled into functions. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flagstore.evaluation import base
from flagstore.evaluation import unleash_operators as operators
from flagstore.evaluation.base import Outcome
from flagstore.evaluation.unleash_classes import WHITE_SPACE
from flagstore.evaluation.unleash_murmur import murmur3_32

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.evaluation.base import Items, Settings
    from flagstore.evaluation.unleash_operators import Predicate

    Chooser = Callable[[Mapping[str, Any]], Outcome]
    Rule = tuple[Predicate | None, Outcome | Chooser]
    """When it is on, none for always, and what it then is."""

TIME_PROPERTY: Final = "\0currentTime"
"""Where a property of that name is kept, which only the stickiness of variants looks at."""
VARIANT_SEED: Final = 86_028_157
_STICKY_DRAWS: Final = 9_999
_PERCENT_DRAWS: Final = 99
_ALL = 100
_MAX_USIZE: Final = (1 << 64) - 1
_MAX_I32: Final = (1 << 31) - 1
_U32 = 0xFFFF_FFFF
_STANDARD = frozenset(
    (
        *("default", "userWithId", "gradualRolloutUserId", "gradualRolloutSessionId"),
        *("gradualRolloutRandom", "flexibleRollout", "remoteAddress"),
    )
)
"""What the SDK's Python half does not count as a custom strategy; its Rust half knows
``applicationHostname``, too, and numbers custom strategies without it."""

_OFF = Outcome(value=False, reason=base.OFF)
_NO_MATCH = Outcome(value=False, reason=base.NO_MATCH)
_CRASHED = Outcome()
"""In place of a variant whose choice makes the official engine panic: weights of no sum."""


class Flag:
    """What a flag is compiled from.

    A parent is compiled for each child: it is evaluated with the child's name as the group of its
    rollouts, and with the results of the child's custom strategies.
    """

    __slots__ = ("_custom", "_segments", "_settings", "child", "given", "items")

    def __init__(
        self,
        given: Mapping[str, Any],
        child: Mapping[str, Any],
        items: Items,
        settings: Settings,
        segments: dict[str, list[Predicate]],
    ) -> None:
        self.given = given
        self.child = child
        self.items = items
        self._settings = settings
        self._segments = segments
        self._custom = [
            strategy
            for strategy in child.get("strategies") or ()
            if strategy["name"] not in _STANDARD
        ]

    def parent(self, given: Mapping[str, Any]) -> Flag:
        """Return what a parent of this one is compiled from."""
        return Flag(given, self.given, self.items, self._settings, self._segments)

    def rules(self) -> list[Rule]:
        """Compile the strategies in their order.

        Raises:
            OffError, UnsupportedError: as of constraints.
        """
        rules: list[Rule] = []
        customs = 0
        for index, strategy in enumerate(self.given.get("strategies") or ()):
            custom = strategy["name"] not in _RULES
            customs += custom
            result = self._result(strategy, index)
            try:
                own = self._custom_rule(customs) if custom else self._own_rule(strategy)
                checks = [operators.constraint(one) for one in strategy.get("constraints") or ()]
                for identifier in strategy.get("segments") or ():
                    checks += self._segment(identifier)
            except operators.InjectionError:
                if operators.may_inject((self.given, self._used_segments())):
                    raise operators.UnsupportedError("quotes") from None
                raise operators.OffError("a text that ends before its end") from None
            # Constraints first: they take less time than hashes.
            rules.append((operators.every(checks if own is None else [*checks, own]), result))
        return rules

    def fallback(self, reason: str) -> Outcome | Chooser:
        """Compile the flag's own variants, for where no strategy has any."""
        return self._own_variants(Outcome(value=True, reason=reason))

    def _used_segments(self) -> list[Any]:
        return [
            self.items.item("segments", str(identifier))
            for strategy in self.given["strategies"]
            for identifier in strategy.get("segments") or ()
        ]

    def _segment(self, identifier: object) -> list[Predicate]:
        """Return a segment's constraints, compiled once for all flags."""
        name = str(identifier)
        found = self._segments.get(name)
        if found is None:
            segment = self.items.item("segments", name)
            if segment is None:
                raise operators.OffError(f"the segment {name[:32]} is not there")
            found = [operators.constraint(one) for one in segment["constraints"]]
            self._segments[name] = found
        return found

    # -- strategies --------------------------------------------------------------------------------

    def _own_rule(self, strategy: Mapping[str, Any]) -> Predicate | None:
        """Compile what a strategy itself says; none if it is always on."""
        parameters = strategy.get("parameters") or {}
        for value in parameters.values():
            operators.text(value)
        return _RULES[strategy["name"]](self, parameters)

    def _user_ids(self, parameters: Mapping[str, str]) -> Predicate | None:
        if "userIds" not in parameters:
            return _never
        names = [name.strip(WHITE_SPACE) for name in parameters["userIds"].split(",")]
        return operators.members("userId", names)

    def _rollout_by_user(self, parameters: Mapping[str, str]) -> Predicate | None:
        return self._rollout_by("userId", parameters)

    def _rollout_by_session(self, parameters: Mapping[str, str]) -> Predicate | None:
        return self._rollout_by("sessionId", parameters)

    def _rollout_by(self, field: str, parameters: Mapping[str, str]) -> Predicate | None:
        percentage = _unsigned(parameters.get("percentage"))
        if percentage is None or "groupId" not in parameters:
            return _never
        return _rollout(parameters["groupId"], field, percentage)

    def _rollout_by_lot(self, parameters: Mapping[str, str]) -> Predicate | None:
        percentage = _unsigned(parameters.get("percentage"))
        if percentage is None:
            return _never
        random = self._settings.random
        return lambda _: _draw(random, _PERCENT_DRAWS) < percentage

    def _flexible_rollout(self, parameters: Mapping[str, str]) -> Predicate | None:
        percentage = _unsigned(parameters.get("rollout"))
        if percentage is None:
            return _never
        stickiness = parameters.get("stickiness", "default")
        group = parameters.get("groupId", self.child["name"])
        if "groupId" in parameters:
            operators.check_quotable(group)
        if stickiness == "random":
            return _rollout_by_draw(group, (), percentage, self._settings.random)
        if stickiness == "default":
            fields = ("userId", "sessionId")
            return _rollout_by_draw(group, fields, percentage, self._settings.random)
        operators.check_quotable(stickiness)
        return _rollout(group, stickiness, percentage, quoted=False)

    def _addresses(self, parameters: Mapping[str, str]) -> Predicate | None:
        if "IPs" not in parameters:
            return _never
        listed = [part.strip(WHITE_SPACE) for part in parameters["IPs"].split(",")]
        for part in listed:
            operators.check_quotable(part)
        return operators.in_networks("remoteAddress", listed)

    def _host_names(self, parameters: Mapping[str, str]) -> Predicate | None:
        """Compare with the host's name; one that is not known is none of those listed."""
        listed = [part.strip(WHITE_SPACE) for part in parameters.get("hostNames", "").split(",")]
        for part in listed:
            operators.check_quotable(part)
        own = self._settings.host_name
        found = own != "" and own.lower() in {part.lower() for part in listed}
        return None if found else _never

    def _custom_rule(self, number: int) -> Predicate | None:
        """Ask a custom strategy: by its number among the child's, as the SDK's two halves do."""
        if number > len(self._custom):
            return _never
        strategy = self._custom[number - 1]
        function = self._settings.strategies.get(strategy["name"])
        if function is None:
            return _never
        parameters = strategy.get("parameters") or {}
        return lambda context: function(dict(parameters), context.official()) is True  # type: ignore[attr-defined] # a Context

    # -- variants ----------------------------------------------------------------------------------

    def _result(self, strategy: Mapping[str, Any], index: int) -> Outcome | Chooser:
        """Compile what the flag is when a strategy matches: with its variants, else the flag's."""
        plain = Outcome(value=True, reason=base.RULE_MATCH, rule=strategy["name"], rule_index=index)
        variants = strategy.get("variants")
        if not variants:
            return self._own_variants(plain)
        parameters = strategy.get("parameters") or {}
        stickiness = parameters.get("stickiness", "default")
        group = parameters.get("groupId", self.given["name"])
        return self._chooser(variants, group, stickiness, plain, ())

    def _own_variants(self, plain: Outcome) -> Outcome | Chooser:
        variants = self.given.get("variants")
        if not variants:
            return plain
        overrides = [
            (operators.text(one["contextName"]), frozenset(map(operators.text, one["values"])), n)
            for n, variant in enumerate(variants)
            for one in variant.get("overrides") or ()
        ]
        stickiness = variants[0].get("stickiness") or "default"
        if variants[0].get("stickiness") == "":
            stickiness = ""
        return self._chooser(variants, self.given["name"], stickiness, plain, overrides)

    def _chooser(
        self,
        variants: list[Mapping[str, Any]],
        group: str,
        stickiness: str,
        plain: Outcome,
        overrides: Any,  # noqa: ANN401 - (field, its values, which variant) each
    ) -> Chooser:
        """Compile the choice of a variant."""
        outcomes = [_with_variant(plain, variant) for variant in variants]
        bounds: list[tuple[int, Outcome]] = []
        total = 0
        for variant, outcome in zip(variants, outcomes, strict=True):
            total = (total + _weight(variant["weight"])) & _U32
            bounds.append((total, outcome))
        pick = self._pick(group, stickiness, total)
        if total == 0:
            # The official get_variant panics, and is_enabled doesn't.
            crashed = plain if self.given is self.child else _CRASHED
            bounds, pick = [(1, crashed)], lambda _: 1

        def choose(context: Mapping[str, Any]) -> Outcome:
            target = pick(context)
            for bound, outcome in bounds:
                if bound >= target:
                    return outcome
            return plain

        if not overrides:
            return choose
        forced = tuple(overrides)

        def choose_or_force(context: Mapping[str, Any]) -> Outcome:
            for name, values, number in forced:
                if context[name] in values:
                    return outcomes[number]
            return choose(context)

        return choose_or_force

    def _pick(self, group: str, stickiness: str, total: int) -> Callable[[Mapping[str, Any]], int]:
        """Compile what gives a number from 1 to the sum of the weights."""
        prefix = f"{group}:".encode()
        random = self._settings.random
        if stickiness == "default":

            def pick_by_default(context: Mapping[str, Any]) -> int:
                seed = context["userId"]
                if seed is None:
                    seed = context["sessionId"]
                    if seed is None:
                        return _draw(random, total)
                return murmur3_32(prefix + seed.encode(), VARIANT_SEED) % total + 1

            return pick_by_default
        # Of the fields, only this one is not known to the engine here.
        field = TIME_PROPERTY if stickiness == "currentTime" else stickiness

        def pick(context: Mapping[str, Any]) -> int:
            seed = context[field]
            if seed is None:
                return _draw(random, total)
            return murmur3_32(prefix + seed.encode(), VARIANT_SEED) % total + 1

        return pick


_RULES: dict[str, Callable[[Flag, Mapping[str, str]], Predicate | None]] = {
    "default": lambda *_: None,
    "userWithId": Flag._user_ids,  # noqa: SLF001 - of the class above
    "gradualRolloutUserId": Flag._rollout_by_user,  # noqa: SLF001
    "gradualRolloutSessionId": Flag._rollout_by_session,  # noqa: SLF001
    "gradualRolloutRandom": Flag._rollout_by_lot,  # noqa: SLF001
    "flexibleRollout": Flag._flexible_rollout,  # noqa: SLF001
    "remoteAddress": Flag._addresses,  # noqa: SLF001
    "applicationHostname": Flag._host_names,  # noqa: SLF001
}


def compile_flag(flag: Flag) -> Chooser:
    """Compile a flag with its dependencies into what evaluates it.

    Raises:
        OffError, UnsupportedError: as of constraints.
    """
    given = flag.given
    if not _enabled(given):
        return lambda _: _OFF
    evaluate = _evaluator(flag.rules(), flag.fallback(base.FALLTHROUGH))
    dependencies = given.get("dependencies") or ()
    if not dependencies:
        return evaluate
    parents = tuple(_dependency(flag, dependency) for dependency in dependencies)

    def evaluate_with_parents(context: Mapping[str, Any]) -> Outcome:
        for satisfied, failed in parents:
            if not satisfied(context):
                return failed
        return evaluate(context)

    return evaluate_with_parents


def _evaluator(rules: list[Rule], fallback: Outcome | Chooser) -> Chooser:
    if not rules:
        return _always(fallback)
    if len(rules) > 1:
        return _first_of(rules)
    rule, result = rules[0]
    if rule is None:
        return _always(result)
    if isinstance(result, Outcome):
        return lambda context: result if rule(context) else _NO_MATCH
    return lambda context: result(context) if rule(context) else _NO_MATCH


def _always(result: Outcome | Chooser) -> Chooser:
    return (lambda _: result) if isinstance(result, Outcome) else result


def _first_of(rules: list[Rule]) -> Chooser:
    pairs = tuple((_true if rule is None else rule, _always(result)) for rule, result in rules)

    def evaluate(context: Mapping[str, Any]) -> Outcome:
        for rule, result in pairs:
            if rule(context):
                return result(context)
        return _NO_MATCH

    return evaluate


def _dependency(flag: Flag, dependency: Mapping[str, Any]) -> tuple[Predicate, Outcome]:
    """Compile whether a parent is as it must be, and the outcome if it isn't."""
    name = operators.text(dependency["feature"])
    failed = Outcome(value=False, reason=base.PREREQUISITE_FAILED, rule=name)
    given = flag.items.item("flags", name)
    if given is None or given.get("dependencies"):
        return _never, failed
    wanted = dependency.get("enabled")
    wanted = True if wanted is None else wanted
    variants = frozenset(map(operators.text, dependency.get("variants") or ()))
    parent = flag.parent(given)
    enabled = _enabled(given)
    try:
        rules = parent.rules()
        always = not rules
    except operators.OffError:
        rules, always = [], False
    pairs = tuple((_true if rule is None else rule, _always(result)) for rule, result in rules)
    otherwise = _always(parent.fallback(base.FALLTHROUGH))

    def satisfied(context: Mapping[str, Any]) -> bool:
        on = always
        choose = otherwise
        for rule, result in pairs:
            if rule(context):
                on, choose = True, result
                break
        # The engine chooses the parent's variant in any case.
        outcome = choose(context)
        if outcome is _CRASHED:
            return False
        if variants and outcome.variant is not None and outcome.variant not in variants:
            return False
        return (enabled and on) is wanted

    return satisfied, failed


def _enabled(given: Mapping[str, Any]) -> bool:
    enabled = given["enabled"]
    if not isinstance(enabled, bool):
        raise TypeError("true or false is expected")
    return enabled


def _never(_: Mapping[str, Any]) -> bool:
    return False


def _true(_: Mapping[str, Any]) -> bool:
    return True


def _draw(random: Callable[[], float], count: int) -> int:
    """Draw one of 1 to a count, each as likely as the others."""
    return min(int(random() * count), count - 1) + 1


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


def _rollout(group: str, field: str, percentage: int, *, quoted: bool = True) -> Predicate:
    if quoted:
        operators.check_quotable(group)
    percentage = _percent(percentage)
    prefix = f"{group}:".encode()

    def check(context: Mapping[str, Any]) -> bool:
        value = context[field]
        return value is not None and murmur3_32(prefix + value.encode(), 0) % _ALL < percentage

    return check


def _rollout_by_draw(
    group: str, fields: tuple[str, ...], percentage: int, random: Callable[[], float]
) -> Predicate:
    """Decide by the first field that is there, else by lot."""
    percentage = _percent(percentage)
    prefix = f"{group}:".encode()

    def check(context: Mapping[str, Any]) -> bool:
        for field in fields:
            value = context[field]
            if value is not None:
                break
        else:
            value = str(_draw(random, _STICKY_DRAWS))
        return murmur3_32(prefix + value.encode(), 0) % _ALL < percentage

    return check


def _weight(given: object) -> int:
    """Return a weight as the engine adds it: as an unsigned number of 32 bits."""
    if (
        not isinstance(given, int)
        or isinstance(given, bool)
        or not -_MAX_I32 - 1 <= given <= _MAX_I32
    ):
        raise TypeError("a weight is expected")
    return given & _U32


def _with_variant(plain: Outcome, variant: Mapping[str, Any]) -> Outcome:
    payload = variant.get("payload")
    if payload is not None:
        payload = {
            "type": operators.text(payload["type"]),
            "value": operators.text(payload["value"]),
        }
    return plain._replace(variant=operators.text(variant["name"]), config=payload)
