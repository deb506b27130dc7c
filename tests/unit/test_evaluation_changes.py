"""Engines of a later flag set: they agree with new ones, compile what changed, free the rest."""

from __future__ import annotations

import gc
import weakref
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.evaluation import open_engine
from flagstore.evaluation.base import EngineConfig
from simulators import split_flags
from simulators.appconfig_flags import multi_variant
from simulators.flag_items import Items
from simulators.launchdarkly_flags import new_flag, new_segment
from simulators.split_flags import in_segment, matcher, new_rule_based, rollout, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.evaluation.base import Engine

    Sections = dict[str, dict[str, Any]]
    Make = Callable[[Random, str, str], Any]

CONFIG = EngineConfig(now=lambda: 0.0, random=lambda: 0.5)
FLAGS = [f"f{number}" for number in range(6)]
SEGMENTS = ["1", "2", "3"]
USERS = ["ada", "bob", "eve"]
CONTEXTS = [{"key": user, "userId": user} for user in USERS]


def some(random: Random, found: list[str], most: int = 2) -> list[str]:
    return random.sample(found, random.randint(0, most))


def launchdarkly(random: Random, section: str, key: str) -> Any:
    """Return a random item, at times deleted or malformed, that others can depend on."""
    segments = {"attribute": "", "op": "segmentMatch", "values": some(random, SEGMENTS)}
    clauses = [segments | {"negate": random.random() < 0.3}]
    rules = [{"clauses": clauses, "variation": 1}] if random.random() < 0.5 else []
    made: dict[str, Any] = {"deleted": random.random() < 0.1, "rules": rules}
    if random.random() < 0.1:
        made["version"] = None
    if section == "segments":
        return new_segment(key) | made | {"included": some(random, USERS)}
    needed = [{"key": other, "variation": 0} for other in some(random, FLAGS, 1)]
    return new_flag(key) | made | {"on": random.random() < 0.9, "prerequisites": needed}


def split(random: Random, section: str, name: str) -> Any:
    """Return a random item, at times malformed, that others can depend on."""
    if section == "segments":
        return {"name": name, "keys": some(random, USERS)}
    kinds = random.choices(("IN_SEGMENT", "IN_RULE_BASED_SEGMENT"), k=2)
    matchers = [in_segment(random.choice(SEGMENTS), kind) for kind in kinds]
    if section == "flags":
        data = {"split": random.choice(FLAGS), "treatments": ["on"]}
        matchers.append(matcher("IN_SPLIT_TREATMENT", dependencyMatcherData=data))
    conditions: list[Any] = [rule(one, label="r", on=100) for one in some(random, matchers)]
    if section == "rule_based_segments":
        excluded = [
            {"name": other, "type": random.choice(("standard", "rule-based"))}
            for other in some(random, SEGMENTS, 1)
        ]
        excluding = {"keys": some(random, USERS, 1), "segments": excluded}
        return new_rule_based(name) | {"conditions": conditions, "excluded": excluding}
    needed = [{"n": other, "ts": ["on"]} for other in some(random, FLAGS, 1)]
    made = split_flags.new_flag(name) | {"killed": random.random() < 0.1}
    made["seed"] = None if random.random() < 0.1 else 5
    return made | {"prerequisites": needed, "conditions": [*conditions, rollout(on=50, off=50)]}


def unleash(random: Random, section: str, key: str) -> Any:
    """Return a random item, at times malformed, that others can depend on."""
    constraint = {"contextName": "userId", "operator": "IN", "values": some(random, USERS)}
    if section == "segments":
        return {"constraints": [constraint] if random.random() < 0.8 else None}
    strategies = [
        {"name": "default", "segments": [int(one) for one in some(random, SEGMENTS, 1)]}
        for _ in range(random.randint(0, 2))
    ]
    parents = [
        {"feature": other, "enabled": random.random() < 0.7} for other in some(random, FLAGS, 1)
    ]
    variants = [{"name": name, "weight": 1} for name in some(random, ["a", "b"])]
    made = {"name": key, "enabled": random.random() < 0.9, "strategies": strategies}
    return made | {"variants": variants, "dependencies": random.choice(([], parents))}


def appconfig(random: Random, _section: str, _key: str) -> Any:
    """Return a random flag."""
    value: dict[str, Any] = {"enabled": random.random() < 0.7, "limit": random.randint(1, 9)}
    return random.choice((value, multi_variant(f'(eq $key "{random.choice(USERS)}")'), 5))


PROVIDERS: dict[str, tuple[Make, dict[str, list[str]]]] = {
    "launchdarkly": (launchdarkly, {"flags": FLAGS, "segments": SEGMENTS}),
    "split": (
        split,
        {"flags": FLAGS, "segments": SEGMENTS, "rule_based_segments": SEGMENTS},
    ),
    "unleash": (unleash, {"flags": FLAGS, "segments": SEGMENTS}),
    "appconfig": (appconfig, {"flags": FLAGS}),
}


def opened(provider: str, sections: Mapping[str, Any]) -> Engine:
    engine = open_engine(provider, Items(**sections), CONFIG)
    assert engine is not None
    return engine


def results(engine: Engine, contexts: list[Any]) -> list[Any]:
    return [engine.evaluate(key, context) for context in contexts for key in FLAGS]


class Step:
    """A flag set, the engine made for it, and contexts that this engine has converted."""

    def __init__(self, provider: str, sections: Sections, engine: Engine) -> None:
        self.sections = sections
        self.engine = engine
        self.contexts = [engine.context(given) for given in CONTEXTS]
        fresh = opened(provider, sections)
        self.expected = results(fresh, [fresh.context(given) for given in CONTEXTS])

    def check(self) -> None:
        assert results(self.engine, self.contexts) == self.expected


@pytest.mark.parametrize("provider", PROVIDERS)
def test_agrees_with_a_new_engine(provider: str) -> None:
    """Changed again and again, from any earlier engine, which still sees its own flag set."""
    make, keys = PROVIDERS[provider]
    places = [(section, key) for section, known in keys.items() for key in known]
    seen = set()
    for seed in range(40):
        random = Random(seed)
        sections: Sections = {
            section: {key: make(random, section, key) for key in known if random.random() < 0.8}
            for section, known in keys.items()
        }
        steps = [Step(provider, sections, opened(provider, sections))]
        for _ in range(12):
            before = random.choice((*steps, steps[-1], steps[-1]))
            for key in some(random, FLAGS, 6):
                before.engine.evaluate(key, random.choice(before.contexts))
            sections = {section: dict(items) for section, items in before.sections.items()}
            changed: dict[str, set[str]] = {}
            for section, key in random.sample(places, random.randint(1, 2)):
                changed.setdefault(section, set()).add(key)
                returning = random.choice(steps).sections[section].get(key)
                item = random.choice((make(random, section, key), returning))
                if item is None:
                    sections[section].pop(key, None)
                else:
                    sections[section][key] = item
            engine = before.engine.changed(Items(**sections), changed)
            steps.append(Step(provider, sections, engine))
            steps[-1].check()
            before.check()
        for step in steps:
            step.check()
            seen |= {(found.reason, found.error) for found in step.expected}
    assert len(seen) >= 4, seen


class Text(str):
    """A value to which a weak reference can be made."""

    __slots__ = ("__weakref__",)


LAUNCHDARKLY_CLAUSE = {"attribute": "", "op": "segmentMatch", "values": ["1"]}
STRATEGY = {"name": "default"}
VALUED: dict[str, Callable[[str, str], Any]] = {
    "launchdarkly": lambda key, value: new_flag(key) | {"variations": [value, "other"]},
    "split": lambda name, value: (
        split_flags.new_flag(name) | {"conditions": [rollout(**{value: 100})]}
    ),
    "unleash": lambda name, value: {
        "name": name,
        "enabled": True,
        "strategies": [STRATEGY],
        "variants": [{"name": value, "weight": 1}],
    },
    "appconfig": lambda _key, value: {"enabled": True, "value": value},
}
"""Provider → returns a flag with a value, by its key."""
NEEDS: dict[str, dict[str, Any]] = {
    "launchdarkly": {
        "prerequisites": [{"key": "parent", "variation": 0}],
        "rules": [{"clauses": [LAUNCHDARKLY_CLAUSE], "variation": 1}],
    },
    "split": {
        "prerequisites": [{"n": "parent", "ts": ["v"]}],
        "conditions": [
            rule(in_segment("1"), label="", off=100),
            rule(in_segment("1", "IN_RULE_BASED_SEGMENT"), label="", off=100),
            rollout(on=100),
        ],
    },
    "unleash": {
        "dependencies": [{"feature": "parent"}],
        "strategies": [STRATEGY | {"segments": [1]}],
    },
    "appconfig": {},
}
"""The fields of a flag that needs the flag "parent" and the segment 1; Split has two of these."""
RULE_BASED = {"1": new_rule_based("1")}
SEGMENT = {
    "launchdarkly": new_segment("1"),
    "split": {"name": "1", "keys": ["bob"]},
    "unleash": {"constraints": [{"contextName": "userId", "operator": "IN", "values": ["ada"]}]},
    "appconfig": {},
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_compiles_only_what_changed_and_frees_what_it_replaces(provider: str) -> None:
    """Unleash: also the flags into which a changed item is compiled."""
    made = VALUED[provider]
    flags = {key: made(key, "v") for key in ("parent", "child", "a", "b", "c")}
    flags["child"] |= NEEDS[provider]
    sections = {"segments": {"1": SEGMENT[provider]}, "rule_based_segments": RULE_BASED}
    engine = opened(provider, {"flags": flags, **sections})
    everything = [engine.evaluate(key, engine.context(CONTEXTS[0])).value for key in flags]
    values: dict[str, weakref.ref[Text]] = {}
    freed: list[weakref.ref[Any]] = []
    gc.collect()
    gc.disable()
    try:
        for section, changed in [("flags", "a"), ("flags", "parent"), ("segments", "1")] * 20:
            if section == "flags":
                value = Text("v")
                flags = flags | {changed: made(changed, value)}
                freed += [values.pop(changed)] if changed in values else []
                values[changed] = weakref.ref(value)
                del value
            items = Items(flags=flags, **sections)
            engine = engine.changed(items, {section: [changed]})
            context = engine.context(CONTEXTS[0])
            assert [engine.evaluate(key, context).value for key in flags] == everything
            needed = (
                {(section, changed)} if provider != "appconfig" or section == "flags" else set()
            )
            if provider == "unleash" and changed != "a":
                needed |= {("flags", "child"), ("flags", "parent")}
            assert set(items.asked) == needed
            assert [reference for reference in freed if reference() is not None] == []
            assert all(reference() is not None for reference in values.values())
            freed.append(weakref.ref(items))
    finally:
        gc.enable()


def test_unleash_forgets_what_a_removed_flag_once_needed() -> None:
    """Its parent no longer uses the segment when the flag is removed."""
    parent = {"name": "parent", "enabled": True, "strategies": [{"name": "default"}]}
    child = {"name": "child", "enabled": True, "dependencies": [{"feature": "parent"}]}
    with_segment = parent | {"strategies": [STRATEGY | {"segments": [1]}]}
    segments = {"1": SEGMENT["unleash"]}
    engine: Any = opened("unleash", {"flags": {}})
    for flags in ({"parent": with_segment, "child": child}, {"parent": parent, "child": child}, {}):
        engine = engine.changed(Items(flags=flags, segments=segments), {"flags": ["parent"]})
        engine.evaluate("child", engine.context({}))
    engine = engine.changed(Items(segments=segments), {"flags": ["child"]})
    assert (engine._users, engine._needed, engine._evaluators) == ({}, {}, {})
