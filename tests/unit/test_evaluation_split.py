"""Split's engine: results besides the treatment, errors, and what it reads and keeps."""

from __future__ import annotations

from typing import Any

import pytest

from flagstore.errors import NotLoadedError
from flagstore.evaluation import base
from flagstore.evaluation.base import ContextError, EngineConfig, Evaluation
from flagstore.evaluation.split import SplitEngine, engine
from simulators.flag_items import Items
from simulators.split_flags import in_segment, matcher, new_flag, new_rule_based, rollout, rule

UNKNOWN = "targeting rule type unsupported by sdk"
CONFIG = EngineConfig(now=lambda: 0.0, random=lambda: 0.5)


def flag(name: str = "f", **fields: Any) -> dict[str, Any]:
    """Return a flag that is on for everybody, with some fields changed."""
    return new_flag(name) | fields


def depending(name: str, on: str, treatments: tuple[str, ...] = ("on",)) -> dict[str, Any]:
    """Return a flag that is on where another one has a certain treatment."""
    data = {"split": on, "treatments": list(treatments)}
    one = matcher("IN_SPLIT_TREATMENT", dependencyMatcherData=data)
    return flag(name, conditions=[rule(one, label="depends", on=100)])


def items(*flags: dict[str, Any], **sections: dict[str, Any]) -> Items:
    """Return a flag set."""
    return Items(flags={flag["name"]: flag for flag in flags}, **sections)


def made(*flags: dict[str, Any], **sections: dict[str, Any]) -> SplitEngine:
    """Return an engine."""
    return engine(items(*flags, **sections), CONFIG)


def evaluated(ours: SplitEngine, name: str = "f", **context: Any) -> Evaluation:
    """Evaluate a flag for a context."""
    return ours.evaluate(name, ours.context({"key": "ada", **context}))


def listed(*keys: str, kind: str = "WHITELIST") -> Any:
    """Return a condition for some keys."""
    one = matcher("WHITELIST", whitelistMatcherData={"whitelist": list(keys)})
    return rule(one, label="listed", kind=kind, on=100)


RULE = listed("ada", kind="ROLLOUT")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("on", base.TARGET_MATCH, "listed", 1, "[1]")),
        ({"conditions": [RULE]}, ("on", base.RULE_MATCH, "listed", 0, "[1]")),
        ({"conditions": [rollout(off=100)]}, ("off", base.FALLTHROUGH, "default rule", 0, "{}")),
        ({"conditions": [listed("bob")]}, ("off", base.FALLTHROUGH, "default rule", None, "{}")),
        ({"killed": True}, ("off", base.OFF, "killed", None, "{}")),
        (
            {"trafficAllocation": 0, "conditions": [rollout(on=100)]},
            ("off", base.NOT_IN_ROLLOUT, "not in split", None, "{}"),
        ),
        (
            {"prerequisites": [{"n": "killed", "ts": ["on"]}]},
            ("off", base.PREREQUISITE_FAILED, "prerequisites not met", None, "{}"),
        ),
    ],
)
def test_reasons(fields: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Each way to a treatment has its reason, label, index, configuration and version."""
    conditions = [listed("bob"), listed("ada"), rollout(off=100)]
    configurations = {"on": "[1]", "off": "{}"}
    one = flag(conditions=conditions, configurations=configurations, changeNumber=7) | fields
    treatment, reason, label, index, config = expected
    found = evaluated(made(one, flag("killed", killed=True)))
    assert found == Evaluation(treatment, treatment, reason, "", label, index, config, 7)


def broken(name: str) -> dict[str, Any]:
    """Return a flag without a seed."""
    made = flag(name)
    del made["seed"]
    return made


def with_matcher(**fields: Any) -> dict[str, Any]:
    """Return a flag whose only matcher has some fields changed."""
    return flag(conditions=[rule(matcher("ALL_KEYS") | fields, label="x", on=100)])


@pytest.mark.parametrize(
    ("name", "error", "label"),
    [
        ("nowhere", base.FLAG_NOT_FOUND, "definition not found"),
        ("broken", base.MALFORMED_FLAG, "exception"),
        ("needs", base.MALFORMED_FLAG, "exception"),
        ("lost", base.MALFORMED_FLAG, "exception"),
    ],
)
def test_control_is_an_error(name: Any, error: str, label: str) -> None:
    """Where the SDK returns ``control``, the result is an error without a value."""
    ours = made(
        broken("broken"),
        flag("needs", prerequisites=[{"n": "broken", "ts": ["on"]}]),
        flag("lost", conditions=[rule(in_segment("r", "IN_RULE_BASED_SEGMENT"), label="", on=100)]),
    )
    assert evaluated(ours, name) == Evaluation(error=error, rule=label)


def test_unknown_matcher() -> None:
    """It takes the place of all conditions, as in the SDK."""
    unknown = rule(matcher("IN_LARGE_SEGMENT"), label="x", on=100)
    found = evaluated(made(flag(conditions=[listed("ada"), unknown], changeNumber=7)))
    assert found == Evaluation(error=base.UNSUPPORTED, rule=UNKNOWN, rule_index=0, version=7)


@pytest.mark.parametrize(
    "damaged",
    [
        flag(conditions=None),
        flag(prerequisites=[{"n": "other"}]),
        flag(conditions=[rollout(on=0)]),
        flag(conditions=[rollout(on=60, off=60)]),
        flag(conditions=[rollout(control=100)]),
        flag(trafficAllocation=101),
        flag(trafficAllocation=50, trafficAllocationSeed=None),
        with_matcher(negate=None),
        with_matcher(matcherType="MATCHES_STRING", stringMatcherData="("),
        with_matcher(matcherType="BETWEEN", betweenMatcherData={"dataType": "NUMBER", "start": 1}),
    ],
)
def test_malformed_flag(damaged: dict[str, Any]) -> None:
    """A flag with an invalid field has no value, for any context."""
    expected = Evaluation(error=base.MALFORMED_FLAG, rule="exception")
    assert evaluated(made(damaged)) == expected


def test_malformed_flag_that_is_not_reached() -> None:
    """A kill switch or an earlier condition decides without the flag, or the cycle, after it."""
    killed = flag("killed", killed=True, prerequisites=[{"n": "broken", "ts": ["on"]}])
    early = depending("early", "broken")
    early["conditions"].insert(0, listed("ada"))
    cycle = depending("cycle", "cycle")
    cycle["conditions"].insert(0, listed("ada"))
    ours = made(broken("broken"), killed, early, cycle)
    assert evaluated(ours, "killed").reason == base.OFF
    for name in ("early", "cycle"):
        assert evaluated(ours, name).value == "on"
        assert evaluated(ours, name, key="bob").error == base.MALFORMED_FLAG


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"key": None}, base.KEY_MISSING),
        ({"key": " \t"}, base.KEY_MISSING),
        ({"key": float("nan")}, base.CONTEXT_INVALID),
        ({"key": "k" * 251}, base.CONTEXT_INVALID),
        ({"key": "ada", "bucketing_key": "k" * 251}, base.CONTEXT_INVALID),
        (5, base.CONTEXT_INVALID),
    ],
)
def test_invalid_context(given: Any, word: str) -> None:
    """A context without a valid key raises, before any flag is evaluated."""
    with pytest.raises(ContextError) as raised:
        made().context(given)
    assert raised.value.args[0] == word
    assert raised.value.args[1]


@pytest.mark.parametrize(
    ("name", "bucketing"),
    [("key", "bucketingKey"), ("targetingKey", "bucketing_key"), ("targeting_key", "bucketingKey")],
)
def test_names_of_the_keys(name: str, bucketing: str) -> None:
    """The keys have Split's or OpenFeature's names, are no attributes, and stay in the mapping."""
    on_attribute = matcher("WHITELIST", name, whitelistMatcherData={"whitelist": ["5"]})
    ours = made(
        flag(conditions=[listed("5")]),
        flag("attribute", conditions=[rule(on_attribute, label="no attribute", on=100)]),
    )
    given = {name: 5, bucketing: "b", "plan": "pro"}
    context = ours.context(given)
    assert ours.evaluate("f", context).value == "on"
    assert ours.evaluate("attribute", context).value == "off"
    assert context.bucketing_key == "b"
    assert given == {name: 5, bucketing: "b", "plan": "pro"}


def test_only_needed_items_are_read_once() -> None:
    """Not another flag, nor a segment that is not reached; equal results are the same object."""
    conditions = [listed("ada"), rollout(on=50, off=50), rule(in_segment("s"), label="", on=100)]
    read = items(flag(conditions=conditions), depending("other", "f"), flag("third"))
    ours = engine(read, CONFIG)
    found = {id(evaluated(ours, key=f"user-{number}")) for number in range(100)}
    assert len(found) == 2
    assert read.asked == [("flags", "f")]


def test_unknown_names_are_not_kept() -> None:
    """Names invented by a caller do not fill the memory."""
    ours = made(flag())
    for number in range(100):
        assert evaluated(ours, f"made-up-{number}").error == base.FLAG_NOT_FOUND
        assert evaluated(ours, f" f{' ' * number}").value == "on"
    assert list(ours.flags) == ["f"]


def test_missing_segments_are_not_kept() -> None:
    """Names that flags no longer use do not fill the memory, flag set after flag set."""
    ours = made()
    for number in range(3):
        inside = rule(in_segment(f"missing-{number}"), label="inside", on=100)
        ours = ours.changed(items(flag(conditions=[inside])), {"flags": ["f"]})
        assert evaluated(ours).value == "off"
    assert list(ours.segments) == ["missing-2"]


def test_unavailable_segment() -> None:
    """It is a separate error, even of dependent flags, until it can be read."""
    read = items(
        flag(conditions=[rule(in_segment("s"), label="in s", on=100)]),
        depending("other", "f"),
        segments={"s": NotLoadedError("not now")},
    )
    ours = engine(read, CONFIG)
    for name in ("f", "other"):
        assert evaluated(ours, name).error == base.SEGMENT_UNAVAILABLE
    read.sections["segments"]["s"] = {"name": "s", "keys": ["ada"]}
    assert evaluated(ours, "other").value == evaluated(ours).value == "on"
    before = len(read.asked)
    assert evaluated(ours, key="bob").value == "off"
    assert len(read.asked) == before


@pytest.mark.parametrize("length", [1, 2])
def test_dependency_cycle(length: int) -> None:
    """Flags that depend on themselves are malformed."""
    flags = [depending(f"f{at}", f"f{(at + 1) % length}") for at in range(length)]
    ours = made(*flags, depending("into", "f0"))
    for name in ("f0", f"f{length - 1}", "into"):
        assert evaluated(ours, name).error == base.MALFORMED_FLAG


def test_segments_that_exclude_each_other() -> None:
    """A cycle of excluded segments is an error, as in the SDK."""
    one, other = new_rule_based("one"), new_rule_based("other")
    one["excluded"] = {"keys": [], "segments": [{"name": "other", "type": "rule-based"}]}
    other["excluded"] = {"keys": [], "segments": [{"name": "one", "type": "rule-based"}]}
    inside = rule(in_segment("one", "IN_RULE_BASED_SEGMENT"), label="in one", on=100)
    ours = made(flag(conditions=[inside]), rule_based_segments={"one": one, "other": other})
    assert evaluated(ours).error == base.MALFORMED_FLAG


def unknowable(name: str, *matchers: dict[str, Any], **excluded: Any) -> dict[str, Any]:
    """Return a rule-based segment with a condition per matcher, which excludes eve."""
    conditions = [{"matcherGroup": {"combiner": "AND", "matchers": [one]}} for one in matchers]
    excluded = {"keys": ["eve"], **excluded}
    return new_rule_based(name) | {"conditions": conditions, "excluded": excluded}


EVERYBODY, NEW = matcher("ALL_KEYS"), matcher("NEW")


@pytest.mark.parametrize(
    "segment",
    [
        unknowable("r", EVERYBODY, NEW),
        unknowable("r", EVERYBODY, segments=[{"name": "l", "type": "large"}]),
        unknowable("r", EVERYBODY, segments=[{"name": "other", "type": "rule-based"}]),
    ],
)
@pytest.mark.parametrize("negate", [False, True])
def test_unsupported_rule_based_segment(segment: dict[str, Any], negate: bool) -> None:
    """A flag that reaches it, also through another flag, is UNSUPPORTED, but for excluded keys."""
    within = in_segment("r", "IN_RULE_BASED_SEGMENT") | {"negate": negate}
    segments = {"r": segment, "other": unknowable("other", matcher("IN_LARGE_SEGMENT"))}
    conditions = [listed("bob"), rule(within, label="within", on=100)]
    ours = made(
        flag(conditions=conditions), depending("depends", "f"), rule_based_segments=segments
    )
    assert evaluated(ours, key="bob").value == "on"
    assert evaluated(ours, key="eve").value == ("on" if negate else "off")
    expected = Evaluation(error=base.UNSUPPORTED, rule=UNKNOWN)
    assert evaluated(ours) == evaluated(ours, "depends") == expected


def test_key_that_an_excluded_segment_excludes() -> None:
    """It ends the search, as in the SDK: the segments after that one exclude nothing."""
    later = [{"name": "other", "type": "rule-based"}, {"name": "s", "type": "standard"}]
    segments = {
        "r": unknowable("r", EVERYBODY, segments=later),
        "other": unknowable("other", EVERYBODY, keys=["ada"]),
    }
    within = rule(in_segment("r", "IN_RULE_BASED_SEGMENT"), label="within", on=100)
    keys = {"s": {"name": "s", "keys": ["ada"]}}
    ours = made(flag(conditions=[within]), rule_based_segments=segments, segments=keys)
    assert evaluated(ours).value == "on"
    assert evaluated(ours, key="bob").value == "off"


def test_half_a_character_as_key() -> None:
    """A key that has no bytes is an error only where it is hashed."""
    ours = made(flag("whole"), flag("half", conditions=[rollout(on=50, off=50)]))
    assert evaluated(ours, "whole", key="\ud800").value == "on"
    assert evaluated(ours, "half", key="\ud800").error == base.CONTEXT_INVALID
