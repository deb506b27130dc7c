"""Unleash: the official engine, with UnleashClient's contexts, and flagstore's.

Half of the cases are *probes*: a flag of one strategy, one constraint or one dependency, which the
reference cannot pass by, so each counts as reached. The others are flags of everything at once.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import sys
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from UnleashClient._context import _ContextEnricher
from UnleashClient.config import UnleashConfig
from yggdrasil_engine.engine import UnleashEngine

from differential import campaign
from differential import unleash_values as values
from differential.campaign import at, first_only, inside, mapped, only, shifted, texts, without
from flagstore.evaluation.base import ABSENT, UNSUPPORTED, ContextError, EngineConfig, Evaluation
from flagstore.evaluation.unleash import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from random import Random

    from differential.campaign import Json

APP, ENVIRONMENT = "shop", "production"
PROBES, CONTEXTS = 45, 2
WHOLE, WHOLE_CONTEXTS = 12, 4
DEPENDENCIES = ("any", "variants", "missing", "nested", "disabled", "of-its-group")
VARIANTS = ("strategy", "strategy-sticky", "feature", "feature-sticky", "override", "odd-weights")
ROLLOUTS = ("default", "userId", "sessionId", "remoteAddress", "currentTime", "country")
STICKY = ("default", "sessionId", "environment", "appName")
"""What variants stick to: always there, so that no case is random."""
OTHERS = (
    *("userWithId", "gradualRolloutUserId", "gradualRolloutSessionId"),
    *("remoteAddress", "applicationHostname", "custom", "unknown-custom", "default"),
)


class Case(NamedTuple):
    flag: str
    context: dict[str, Any]
    reached: str = ""


class Set(NamedTuple):
    """A flag set as the server sends it, and as our engine reads it."""

    flags: dict[str, Any]
    segments: dict[str, Any]
    cases: list[Case]
    meta: dict[str, Any]

    def item(self, section: str, key: str) -> Any:
        """Return a flag or a segment."""
        return (self.flags if section == "flags" else self.segments).get(key)


class Custom:
    """A custom strategy, for both sides."""

    def apply(self, parameters: dict[str, Any], context: dict[str, Any]) -> bool:
        """Return whether the context's country is the parameter's."""
        return parameters.get("country", "") == context["properties"].get("country")


# -- generators ------------------------------------------------------------------------------------


def a_context(r: Random) -> dict[str, Any]:
    """Make a caller's context of some of the fields, a few of them odd."""
    context: dict[str, Any] = {"sessionId": r.choice([*values.WORDS, str(r.randrange(10_000))])}
    if r.random() < 0.85:
        users = [*values.WORDS, str(r.randrange(10_000)), r.randrange(500), r.choice(values.VALUES)]
        context["userId"] = r.choice(users)
    if r.random() < 0.4:
        context["remoteAddress"] = r.choice([*values.ADDRESSES * 8, *values.ODD_ADDRESSES])
    if r.random() < 0.15:
        context["currentTime"] = r.choice(
            [values.date(r), r.choice(values.ODD_DATES), datetime.now(UTC)]
        )
    if r.random() < 0.15:
        context["environment"] = r.choice([ENVIRONMENT, "development", None])
    if r.random() < 0.1:
        context["appName"] = r.choice([APP, "other"])
    properties: dict[str, Any] = {}
    for name in ("country", "age", "version", "seen", "number", "userId", "currentTime"):
        if r.random() < 0.3:
            where = properties if name in ("userId", "currentTime") or r.random() < 0.6 else context
            where[name] = values.of_any_kind(r)
    if properties or r.random() < 0.5:
        context["properties"] = properties
    return context


def put(context: dict[str, Any], field: str, value: Any, r: Random) -> None:
    """Set a field, or remove it, wherever a caller may set it."""
    properties = dict(context.get("properties", {}))
    for where in (context, properties):
        where.pop(field, None)
    context["properties"] = properties
    if value is not values.MISSING:
        r.choice([context, properties])[field] = value


def a_constraint(r: Random, operator: str) -> dict[str, Any]:
    """Make a constraint on any field."""
    found = values.constraint(r, operator)
    found["contextName"] = r.choice(values.FIELDS)
    return found


def a_strategy(r: Random, name: str, group: str) -> dict[str, Any]:
    """Make a strategy without constraints."""
    percentage = str(r.choice([0, 1, 2, 10, 25, 50, 75, 90, 98, 99, 100, 50, 50]))
    if r.random() < 0.04:
        percentage = r.choice(values.ODD_PERCENTAGES)
    parameters: dict[str, str] = {}
    if name == "flexibleRollout":
        parameters = {"rollout": percentage, "stickiness": r.choice(ROLLOUTS), "groupId": group}
    elif name.startswith("gradualRollout"):
        parameters = {"percentage": percentage, "groupId": group}
    elif name == "userWithId":
        parameters = {
            "userIds": r.choice([", ", ",", " ,\u2003"]).join(values.some(r, values.WORDS))
        }
    elif name == "remoteAddress":
        parameters = {"IPs": r.choice([",", ", "]).join(values.some(r, values.NETWORKS))}
    elif name == "applicationHostname":
        names = ["host-a.example", "HOST-A.EXAMPLE", "other", "", "host"]
        parameters = {"hostNames": ", ".join(values.some(r, names))}
    elif name == "custom":
        parameters = {"country": r.choice(values.WORDS)}
    if "Rollout" in name and r.random() < 0.2:
        del parameters[r.choice([*parameters])]
    return {"name": name, "parameters": parameters}


def some_variants(r: Random, kind: str) -> list[dict[str, Any]]:
    """Make variants of a strategy or of a flag."""
    weights = r.choice([(500, 500), (1, 999), (1000,), (333, 333, 334), (0, 1000), (100, 200, 700)])
    if kind == "odd-weights":
        weights = r.choice([(1, 1), (7, 11, 13), (0, 0, 3), (2**31 - 10, 9)])
    found: list[dict[str, Any]] = []
    for index, weight in enumerate(weights):
        variant: dict[str, Any] = {"name": f"v{index}", "weight": weight}
        if r.random() < 0.5:
            variant["payload"] = {"type": r.choice(["string", "json"]), "value": f"p{index}"}
        found.append(variant)
    if kind == "feature-sticky":
        found[0]["stickiness"] = r.choice(STICKY)
        found[-1].setdefault("stickiness", "default")
    if kind == "override":
        for variant in found[r.randrange(len(found)) :]:
            field = r.choice(["userId", "sessionId", "country", "environment", "currentTime"])
            listed = [str(one) for one in values.some(r, [*values.WORDS, ENVIRONMENT, "None"])]
            variant["overrides"] = [{"contextName": field, "values": listed}]
    return found


def a_flag(r: Random, name: str, segments: list[int], names: list[str]) -> dict[str, Any]:
    """Make a flag that combines everything."""
    flag: dict[str, Any] = {"name": name, "enabled": r.random() < 0.93, "strategies": []}
    for _ in range(r.choice([0, 1, 1, 2, 3])):
        strategy = a_strategy(
            r, r.choice([*OTHERS, *["flexibleRollout"] * 6]), r.choice(["g", name])
        )
        operators = [r.choice(values.OPERATORS) for _ in range(r.choice([0, 0, 1, 1, 2, 3]))]
        strategy["constraints"] = [a_constraint(r, operator) for operator in operators]
        if r.random() < 0.25:
            listed = [
                r.choice([*segments, *segments, *segments, 99]) for _ in range(r.choice([1, 2]))
            ]
            strategy["segments"] = listed
        if r.random() < 0.5 and strategy["parameters"].get("stickiness", "default") in STICKY:
            strategy["variants"] = some_variants(r, "strategy")
        flag["strategies"].append(strategy)
    if r.random() < 0.4:
        flag["variants"] = some_variants(r, r.choice(["feature", "feature-sticky", "override"]))
    if r.random() < 0.3:
        listed = [r.choice([*names, "never-there"]) for _ in range(r.choice([1, 1, 2]))]
        flag["dependencies"] = [a_dependency(r, parent) for parent in listed]
    return flag


def a_dependency(r: Random, parent: str) -> dict[str, Any]:
    """Make a dependency on a parent."""
    found: dict[str, Any] = {"feature": parent}
    if r.random() < 0.5:
        found["enabled"] = r.random() < 0.7
    if r.random() < 0.5:
        found["variants"] = values.some(r, ["v0", "v1", "disabled"]) if r.random() < 0.9 else []
    return found


# -- probes ----------------------------------------------------------------------------------------
# Each adds a flag to a set, and returns how to change a context for it.

type Change = Callable[[dict[str, Any]], object]


def an_operator_probe(r: Random, made: Set, name: str, operator: str, kind: str) -> Change:
    """Add a flag of one constraint, in its strategy or in a segment."""
    constraint = a_constraint(r, operator)
    if r.random() < 0.7:
        constraint["contextName"] = r.choice(["number", "country", "x y", "é", "seen"])
    strategy: dict[str, Any] = {"name": "default"}
    if r.random() < 0.3:
        segment = len(made.segments)
        made.segments[str(segment)] = {"id": segment, "constraints": [constraint]}
        strategy["segments"] = [segment]
    else:
        strategy["constraints"] = [constraint]
    made.flags[name] = {"name": name, "enabled": True, "strategies": [strategy]}
    field = constraint["contextName"]
    return lambda context: put(context, field, values.given(r, constraint, kind), r)


def a_strategy_probe(r: Random, made: Set, name: str, strategy: str, stickiness: str) -> Change:
    """Add a flag of one strategy."""
    one = a_strategy(r, strategy, r.choice(["g", name, "é"]))
    if stickiness:
        one["parameters"]["stickiness"] = stickiness
    made.flags[name] = {"name": name, "enabled": True, "strategies": [one]}
    return lambda context: (
        r.random() < 0.8
        and context.update(userId=str(r.randrange(1_000)), country=r.choice(values.WORDS))
    )


def a_variant_probe(r: Random, made: Set, name: str, _: str, kind: str) -> Change:
    """Add a flag that is on, with variants."""
    strategy: dict[str, Any] = {"name": "default", "parameters": {}}
    flag: dict[str, Any] = {"name": name, "enabled": True, "strategies": [strategy]}
    made.flags[name] = flag
    if kind.startswith("strategy"):
        strategy["variants"] = some_variants(r, kind)
        if kind == "strategy-sticky":
            # The variants' own is not looked at.
            strategy["variants"][0]["stickiness"] = r.choice(ROLLOUTS)
            strategy["parameters"] = {"stickiness": r.choice(STICKY), "groupId": "g"}
    else:
        flag["variants"] = some_variants(r, kind)
        if r.random() < 0.3:
            flag["strategies"] = []

    def change(context: dict[str, Any]) -> None:
        context["userId"] = r.choice([*values.WORDS, "", "", str(r.randrange(1_000))])

    return change


def a_dependency_probe(r: Random, made: Set, name: str, _: str, kind: str) -> Change:
    """Add a flag with a parent of its own."""
    parent: dict[str, Any] = {"name": f"{name}-parent", "enabled": kind != "disabled"}
    rollout = {"rollout": "50", "stickiness": "userId"}
    own_group = {"name": "flexibleRollout", "parameters": rollout}
    parent["strategies"] = [
        own_group if kind == "of-its-group" else a_strategy(r, "userWithId", "g")
    ]
    if kind == "variants":
        r.choice([parent, {}])["variants"] = some_variants(r, "feature")
        parent["strategies"] = [{"name": "default", "variants": some_variants(r, "strategy")}]
        parent["enabled"] = r.random() < 0.6
    if kind == "nested":
        parent["dependencies"] = [{"feature": f"{name}-grand"}]
        made.flags[f"{name}-grand"] = parent | {"name": f"{name}-grand", "dependencies": []}
    if kind != "missing":
        made.flags[parent["name"]] = parent
    own = a_strategy(r, r.choice(["default", "custom", "unknown-custom"]), "g")
    strategies = [own, {"name": "default"}][r.randrange(2) :]
    flag = {"name": name, "enabled": True, "strategies": strategies}
    made.flags[name] = flag | {"dependencies": [a_dependency(r, parent["name"])]}
    return lambda context: context.update(userId=r.choice([*values.WORDS, str(r.randrange(1_000))]))


ALL_PROBES: list[tuple[Any, str, str]] = [
    *((an_operator_probe, name, kind) for name in values.OPERATORS for kind in values.KINDS[name]),
    # Languages of their own.
    *[(an_operator_probe, "REGEX", "fit")] * 14,
    *[(an_operator_probe, "IN_CIDR", "odd-address")] * 2,
    *((a_strategy_probe, "flexibleRollout", stickiness) for stickiness in ROLLOUTS),
    *((a_strategy_probe, name, "") for name in OTHERS),
    *((a_variant_probe, "variants", kind) for kind in (*VARIANTS, "feature-sticky")),
    *((a_dependency_probe, "dependency", kind) for kind in (*DEPENDENCIES, *["variants"] * 3)),
]
_FIRST = count(step=PROBES)
"""Each set continues where the last one ended, so that each probe is made equally often."""


def a_set(r: Random) -> Set:
    """Make a flag set and the cases that it is for."""
    made = Set({}, {}, [], {"query": {"environment": ENVIRONMENT}})
    for segment in range(1, 4):
        constraints = [a_constraint(r, r.choice(values.OPERATORS)) for _ in range(r.randrange(3))]
        made.segments[str(segment)] = {"id": segment, "constraints": constraints}
    made.segments["0"] = {"id": 0, "constraints": []}
    first = next(_FIRST)
    for index in range(PROBES):
        probe, what, kind = ALL_PROBES[(first + index) % len(ALL_PROBES)]
        change = probe(r, made, f"probe-{index}", what, kind)
        for _ in range(CONTEXTS):
            context = a_context(r)
            change(context)
            case = Case(f"probe-{index}", context, "/".join(filter(None, (what, kind))))
            made.cases.append(case)
    names = [f"flag-{index}" for index in range(WHOLE)]
    for name in names:
        made.flags[name] = a_flag(r, name, [0, 1, 2, 3], names)
        made.cases.extend(Case(name, a_context(r)) for _ in range(WHOLE_CONTEXTS))
    made.cases.append(Case("never-there", a_context(r)))
    made.cases.append(
        Case("probe-0", a_context(r) | r.choice([{"userId": "\ud800"}, {"context": "x"}]))
    )
    return made


# -- both sides ------------------------------------------------------------------------------------

ENRICHER = _ContextEnricher(
    UnleashConfig(url="http://127.0.0.1", app_name=APP, environment=ENVIRONMENT)
)


def theirs(official: UnleashEngine, name: str, context: dict[str, Any]) -> Any:
    """Ask the official engine as UnleashClient does."""
    toggle = official.is_enabled(name, context)
    found = official.get_variant(name, context)
    if not toggle.is_found:
        return "none"
    variant = found.variant
    return toggle.is_enabled, variant.feature_enabled, variant.name, variant.payload


def in_sdk_terms(outcome: Evaluation, flag: dict[str, Any] | None) -> Any:
    """Return our result in the same form, or its error where it has no value."""
    if outcome.value is ABSENT:
        return outcome.error if flag else "none"
    on = outcome.value is True
    return on, on, outcome.variant or "disabled", outcome.config


def compare(
    made: Set, tally: campaign.Tally, fault: campaign.Fault
) -> Iterator[tuple[Any, Any, Any]]:
    """Evaluate each case on both sides."""
    official = UnleashEngine()
    official.register_custom_strategies({"custom": Custom()})
    document = {
        "version": 2,
        "features": [*made.flags.values()],
        "segments": [*made.segments.values()],
    }
    official.take_state(json.dumps(document))
    settings = EngineConfig(
        now=lambda: clock,
        random=lambda: 0.5,
        app_name=APP,
        strategies={"custom": Custom().apply},
    )
    clock = 0.0
    flags, segments = copy.deepcopy((made.flags, made.segments))
    ours = engine(fault.flag_set(made._replace(flags=flags, segments=segments)), settings)
    for name, context, reached in made.cases:
        before = json.dumps(context, default=str)
        enriched = ENRICHER.build(context)
        if "currentTime" not in context:
            clock = datetime.fromisoformat(enriched["currentTime"]).timestamp()
        expected = theirs(official, name, enriched)
        try:
            outcome = fault.outcome(ours.evaluate(name, ours.context(fault.context(context))))
        except ContextError:
            given: Any = "none"
        else:
            given = in_sdk_terms(outcome, made.flags.get(name))
        assert json.dumps(context, default=str) == before, "the context was changed"
        if given == UNSUPPORTED:
            tally.excluded["unsupported"] += 1
            continue
        if reached and expected != "none":
            tally.reached[reached] += 1
        tally.outcomes[outcome_of(expected)] += 1
        yield (context, made.flags.get(name)), expected, given


def outcome_of(expected: Any) -> str:
    """Return the name under which a result of the reference is counted."""
    if expected == "none":
        return "default"
    on, _, variant, _ = expected
    return "variant" if variant != "disabled" else "on" if on else "off"


# -- faults ----------------------------------------------------------------------------------------

NUMBERS = "NUM_EQ NUM_GT NUM_GTE NUM_LT NUM_LTE"
DATES = "DATE_AFTER DATE_BEFORE"
VERSIONS = "SEMVER_EQ SEMVER_GT SEMVER_GTE SEMVER_LT SEMVER_LTE"


def flags(made: Any) -> Iterable[Json]:
    """Return all flags."""
    return made.flags.values()


strategies, variants = inside(flags, "strategies"), inside(flags, "variants")
parameters, dependencies = inside(strategies, "parameters"), inside(flags, "dependencies")


def constraints(made: Any) -> Iterable[Json]:
    """Return the constraints of strategies and of segments."""
    return inside(lambda _: [*strategies(made), *made.segments.values()], "constraints")(made)


def instead(operator: str, other: str) -> campaign.Fault:
    """Take an operator for another."""
    return at(constraints, only("operator", operator, campaign.put(operator=other)))


def of_values(operators: str, change: Callable[[str], str]) -> campaign.Fault:
    """Change each value that some operators compare with."""

    def both(constraint: Json) -> None:
        mapped("value", texts(change))(constraint)
        mapped("values", texts(change))(constraint)

    return at(constraints, only("operator", operators, both))


def of_contexts(kind: type, change: Callable[[Any], Any]) -> campaign.Fault:
    """Change each field and property of a type in a context."""

    def context(given: Json) -> Json:
        return {
            name: context(value)
            if name == "properties" and isinstance(value, dict)
            else change(value)
            if isinstance(value, kind) and name != "properties"
            else value
            for name, value in given.items()
        }

    return campaign.Fault(context=context)


def properties_first(given: Json) -> Json:
    """Prefer properties to fields."""
    properties = given.get("properties")
    return {**given, **properties} if isinstance(properties, dict) else given


FAULTS: dict[str, campaign.Fault] = {
    # Operators.
    "more-is-at-least": instead("NUM_GT", "NUM_GTE"),
    "later-versions-or-equal": instead("SEMVER_GT", "SEMVER_GTE"),
    "starts-is-contains": instead("STR_STARTS_WITH", "STR_CONTAINS"),
    "before-is-after": instead("DATE_BEFORE", "DATE_AFTER"),
    "unknown-operators-are-known": instead("SEMVER_NEQ", "SEMVER_EQ"),
    "inverted-is-ignored": at(constraints, without("inverted")),
    "case-never-counts": at(constraints, campaign.put(caseInsensitive=True)),
    "first-value-only": at(constraints, first_only("values")),
    "numbers-are-whole": of_values(NUMBERS, lambda text: text.partition(".")[0]),
    "dates-without-zone": of_values(DATES, lambda text: text[:19] + "Z"),
    "pre-releases-are-ignored": of_values(VERSIONS, lambda text: text.partition("-")[0]),
    "networks-are-addresses": of_values("IN_CIDR", lambda text: text.partition("/")[0]),
    "patterns-are-anchored": of_values("REGEX", lambda text: f"^(?:{text})$"),
    # Contexts.
    "truths-as-json-has-them": of_contexts(bool, lambda value: str(value).lower()),
    "fields-are-trimmed": of_contexts(str, str.strip),
    "properties-before-fields": campaign.Fault(context=properties_first),
    "no-environment": campaign.Fault(flag_set=lambda made: made._replace(meta={})),
    # Strategies.
    "first-strategy-only": at(flags, first_only("strategies")),
    "constraints-are-ignored": at(strategies, without("constraints")),
    "first-segment-only": at(strategies, first_only("segments")),
    "rollout-one-percent-too-large": at(
        parameters,
        mapped(
            "rollout", lambda text: str(int(text) + 1) if re.fullmatch("[0-9]+", text) else text
        ),
    ),
    "stickiness-is-default": at(parameters, without("stickiness")),
    "group-is-the-flag": at(parameters, without("groupId")),
    "first-user-only": at(parameters, mapped("userIds", lambda text: text.partition(",")[0])),
    "disabled-is-enabled": at(flags, campaign.put(enabled=True)),
    # Variants.
    "weight-shifted": at(flags, shifted("variants", "weight", 10)),
    "overrides-are-ignored": at(variants, without("overrides")),
    "stickiness-of-variants-is-ignored": at(variants, without("stickiness")),
    "payload-is-lost": at(variants, without("payload")),
    # Dependencies.
    "first-dependency-only": at(flags, first_only("dependencies")),
    "parents-are-on": at(dependencies, without("enabled")),
    "variants-of-parents-are-ignored": at(dependencies, without("variants")),
}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(5_000)
    campaign.run(a_set, compare, FAULTS)
