"""What Split's engine says besides a treatment, and what it does when something is wrong."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flagstore.errors import NotLoadedError
from flagstore.evaluation.base import (
    ABSENT,
    CONTEXT_INVALID,
    ERROR,
    EXCEPTION,
    FALLTHROUGH,
    FLAG_NOT_FOUND,
    KEY_MISSING,
    MALFORMED_FLAG,
    NOT_IN_ROLLOUT,
    OFF,
    PREREQUISITE_FAILED,
    RULE_MATCH,
    SEGMENT_UNAVAILABLE,
    TARGET_MATCH,
    UNSUPPORTED,
    ContextError,
    EngineConfig,
    Evaluation,
)
from flagstore.evaluation.split import SplitEngine, engine
from simulators.split_flags import in_segment, matcher, new_flag, new_rule_based, rollout, rule

SETTINGS = EngineConfig(now=lambda: 0.0, random=lambda: 0.5)
SRC = Path(__file__).parents[2] / "src"


class Items:
    """A flag set in memory that counts what is asked for."""

    def __init__(self, *flags: dict[str, Any], **sections: dict[str, Any]) -> None:
        self.meta: dict[str, Any] = {}
        self.asked: list[tuple[str, str]] = []
        self.failing: Exception | None = None
        self._sections = {"flags": {flag["name"]: flag for flag in flags}, **sections}

    def item(self, section: str, key: str) -> Any:
        """Return a definition, or None."""
        self.asked.append((section, key))
        if section == "segments" and self.failing is not None:
            raise self.failing
        return self._sections.get(section, {}).get(key)


def flag(name: str = "f", **fields: Any) -> dict[str, Any]:
    """Return a flag that is on for everybody, and what is to be different about it."""
    return new_flag(name) | fields


def depending(name: str, on: str, treatments: tuple[str, ...] = ("on",)) -> dict[str, Any]:
    """Return a flag that is on where another one has a treatment."""
    data = {"split": on, "treatments": list(treatments)}
    one = matcher("IN_SPLIT_TREATMENT", dependencyMatcherData=data)
    return flag(name, conditions=[rule(one, label="depends", on=100)])


def made(*flags: dict[str, Any], **sections: dict[str, Any]) -> SplitEngine:
    """Return an engine."""
    return engine(Items(*flags, **sections), SETTINGS)


def said(ours: SplitEngine, name: str = "f", **context: Any) -> Evaluation:
    """Evaluate a flag for a context."""
    return ours.evaluate(name, ours.context({"key": "ada", **context}))


def listed(*keys: str, kind: str = "WHITELIST") -> Any:
    """Return a condition for some keys."""
    one = matcher("WHITELIST", whitelistMatcherData={"whitelist": list(keys)})
    return rule(one, label="listed", kind=kind, on=100)


def test_a_listed_key_is_a_target_match() -> None:
    """A condition of the type WHITELIST says so, with label, place, version and configuration."""
    conditions = [listed("bob"), listed("ada"), rollout(off=100)]
    outcome = said(made(flag(conditions=conditions, configurations={"on": "[1]"}, changeNumber=7)))
    assert outcome == Evaluation("on", "on", TARGET_MATCH, "", "listed", 1, "[1]", 7)


def test_a_rule_and_the_default_rule() -> None:
    """Another condition is a rule; the last one, for everybody, is the fallthrough."""
    ours = made(flag(conditions=[listed("ada", kind="ROLLOUT"), rollout(off=100)]))
    assert said(ours)[:6] == ("on", "on", RULE_MATCH, "", "listed", 0)
    assert said(ours, key="bob")[:6] == ("off", "off", FALLTHROUGH, "", "default rule", 1)


def test_nothing_matches() -> None:
    """Where no condition matches, the default treatment has no place."""
    outcome = said(made(flag(conditions=[listed("bob")])))
    assert outcome[:6] == ("off", "off", FALLTHROUGH, "", "default rule", None)


def test_killed_left_out_and_unmet() -> None:
    """The other ways to the default treatment each have their reason and label."""
    ours = made(
        flag("killed", killed=True, configurations={"off": "{}"}),
        flag("none", trafficAllocation=0),
        flag("needs", prerequisites=[{"n": "killed", "ts": ["on"]}]),
    )
    assert said(ours, "killed")[:5] == ("off", "off", OFF, "", "killed")
    assert said(ours, "killed").config == "{}"
    assert said(ours, "none")[:5] == ("off", "off", NOT_IN_ROLLOUT, "", "not in split")
    assert said(ours, "needs")[:5] == (
        "off",
        "off",
        PREREQUISITE_FAILED,
        "",
        "prerequisites not met",
    )


@pytest.mark.parametrize(
    ("name", "error", "label"),
    [
        ("nowhere", FLAG_NOT_FOUND, "definition not found"),
        ("", FLAG_NOT_FOUND, ""),
        (None, FLAG_NOT_FOUND, ""),
        ([], FLAG_NOT_FOUND, ""),
        ("large", UNSUPPORTED, "targeting rule type unsupported by sdk"),
        ("uncovered", MALFORMED_FLAG, "default rule"),
        ("seedless", MALFORMED_FLAG, "exception"),
        ("conversion", MALFORMED_FLAG, "definition not found"),
        ("far", MALFORMED_FLAG, "exception"),
        ("lost", MALFORMED_FLAG, "exception"),
        ("null", MALFORMED_FLAG, "exception"),
    ],
)
def test_control_is_no_value(name: Any, error: str, label: str) -> None:
    """What the SDK calls control is an error with its word, the SDK's label and no value."""
    seedless = flag("seedless")
    del seedless["seed"]
    null = flag("null")
    null["conditions"][0]["matcherGroup"]["matchers"][0]["negate"] = None
    ours = made(
        flag("large", conditions=[rule(matcher("IN_LARGE_SEGMENT"), label="x", on=100)]),
        flag("uncovered", conditions=[rollout(on=0)]),
        seedless,
        flag("conversion", conditions=None),
        flag("far", killed=True, prerequisites=[{"n": "seedless", "ts": ["on"]}]),
        flag("lost", conditions=[rule(in_segment("r", "IN_RULE_BASED_SEGMENT"), label="", on=100)]),
        null,
    )
    outcome = said(ours, name)
    assert outcome.value is ABSENT
    assert (outcome.variant, outcome.reason, outcome.error) == (None, ERROR, error)
    assert outcome.rule == label
    assert outcome.config is None


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, KEY_MISSING),
        ({"key": None}, KEY_MISSING),
        ({"key": ""}, KEY_MISSING),
        ({"key": " \t"}, KEY_MISSING),
        ({"key": True}, CONTEXT_INVALID),
        ({"key": float("nan")}, CONTEXT_INVALID),
        ({"key": ["ada"]}, CONTEXT_INVALID),
        ({"key": "k" * 251}, CONTEXT_INVALID),
        ({"key": "ada", "bucketingKey": False}, CONTEXT_INVALID),
        ({"key": "ada", "bucketing_key": "k" * 251}, CONTEXT_INVALID),
        (5, CONTEXT_INVALID),
        ("ada", CONTEXT_INVALID),
    ],
)
def test_a_context_that_the_sdk_refuses(given: Any, word: str) -> None:
    """A key that is missing or none is said once, for all flags."""
    with pytest.raises(ContextError) as raised:
        made().context(given)
    assert raised.value.args[0] == word
    assert raised.value.args[1]


@pytest.mark.parametrize("name", ["key", "targetingKey", "targeting_key"])
@pytest.mark.parametrize("bucketing", ["bucketingKey", "bucketing_key"])
def test_what_the_keys_may_be_called(name: str, bucketing: str) -> None:
    """The keys go by the names of Split and of OpenFeature, and the mapping stays as it is."""
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


def test_outcomes_are_made_once() -> None:
    """The same response is the same object, and a flag is read once."""
    items = Items(flag(conditions=[rollout(on=50, off=50)]))
    ours = engine(items, SETTINGS)
    outcomes = {id(said(ours, key=f"user-{number}")) for number in range(100)}
    assert len(outcomes) == 2
    assert items.asked.count(("flags", "f")) <= 2


def test_nothing_is_kept_of_unknown_names() -> None:
    """Names that a caller makes up do not fill the memory."""
    ours = made(flag())
    for number in range(100):
        assert said(ours, f"made-up-{number}").error == FLAG_NOT_FOUND
        assert said(ours, f" f{' ' * number}").value == "on"
    assert list(ours._deciders) == ["f"]
    assert list(ours.nodes) == [("flags", "f")]


def test_a_segment_that_cannot_be_read_now() -> None:
    """It is an error of its own, also of flags that depend on it; then it is asked for again."""
    items = Items(
        flag(conditions=[rule(in_segment("s"), label="in s", on=100)]),
        depending("other", "f"),
        segments={"s": {"name": "s", "keys": ["ada"]}},
    )
    items.failing = NotLoadedError("not now")
    ours = engine(items, SETTINGS)
    for name in ("f", "other"):
        outcome = said(ours, name)
        assert (outcome.value, outcome.error) == (ABSENT, SEGMENT_UNAVAILABLE)
    items.failing = None
    assert said(ours, "other").value == said(ours).value == "on"
    before = len(items.asked)
    assert said(ours, key="bob").value == "off"
    assert len(items.asked) == before


def test_only_what_a_flag_leads_to_is_read() -> None:
    """Evaluating one flag costs nothing for the others, nor for segments that are not reached."""
    items = Items(
        flag(conditions=[listed("ada"), rule(in_segment("s"), label="in s", on=100)]),
        depending("other", "f"),
        flag("third"),
    )
    assert said(engine(items, SETTINGS)).value == "on"
    assert set(items.asked) == {("flags", "f")}


@pytest.mark.parametrize("length", [1, 2, 500])
def test_a_cycle_of_dependencies(length: int) -> None:
    """Flags that lead back to themselves are errors at once, however many there are."""
    flags = [depending(f"f{at}", f"f{(at + 1) % length}") for at in range(length)]
    ours = made(*flags, depending("into", "f0"))
    for name in ("f0", f"f{length - 1}", "into"):
        outcome = said(ours, name)
        assert (outcome.error, outcome.rule) == (MALFORMED_FLAG, "exception")


def test_a_cycle_that_is_not_entered() -> None:
    """A flag whose cycle begins behind a condition that does not match has its treatment."""
    back = depending("f", "f")["conditions"][0]
    ours = made(flag(conditions=[listed("ada"), back]))
    assert said(ours).value == "on"
    assert said(ours, key="bob").error == MALFORMED_FLAG


def test_a_chain_of_thousands() -> None:
    """A chain that is deeper than Python's stack is an error and no RecursionError."""
    flags = [depending(f"f{at}", f"f{at + 1}") for at in range(3_000)]
    outcome = said(made(*flags, flag("f3000")), "f0")
    assert (outcome.value, outcome.error) == (ABSENT, MALFORMED_FLAG)


def test_rule_based_segments_that_exclude_each_other() -> None:
    """A cycle of excluded segments is an error, as it is in the SDK."""
    one, other = new_rule_based("one"), new_rule_based("other")
    one["excluded"] = {"keys": [], "segments": [{"name": "other", "type": "rule-based"}]}
    other["excluded"] = {"keys": [], "segments": [{"name": "one", "type": "rule-based"}]}
    inside = rule(in_segment("one", "IN_RULE_BASED_SEGMENT"), label="in one", on=100)
    ours = made(flag(conditions=[inside]), rule_based_segments={"one": one, "other": other})
    assert said(ours).error == MALFORMED_FLAG


def unknowable(name: str, *matchers: dict[str, Any], **excluded: Any) -> dict[str, Any]:
    """Return a rule-based segment with matchers that are no part of a condition of the SDK's."""
    conditions = [{"matcherGroup": {"combiner": "AND", "matchers": [one]}} for one in matchers]
    return new_rule_based(name) | {"conditions": conditions, "excluded": excluded}


EVERYBODY, LARGE, NEW = matcher("ALL_KEYS"), matcher("IN_LARGE_SEGMENT"), matcher("NEW")


@pytest.mark.parametrize(
    "segment",
    [
        unknowable("r", LARGE),
        unknowable("r", NEW),
        unknowable("r", EVERYBODY, NEW),
        unknowable("r", EVERYBODY, segments=[{"name": "l", "type": "large"}]),
        unknowable("r", EVERYBODY, segments=[{"name": "l", "type": "new"}]),
        unknowable("r", EVERYBODY, segments=[{"name": "other", "type": "rule-based"}]),
    ],
)
@pytest.mark.parametrize("negate", [False, True])
def test_a_rule_based_segment_that_nobody_can_evaluate(
    segment: dict[str, Any],
    negate: bool,
) -> None:
    """Everybody is in it for the SDK; here a flag that gets to it says so, also through another."""
    within = in_segment("r", "IN_RULE_BASED_SEGMENT") | {"negate": negate}
    segments = {"r": segment, "other": unknowable("other", LARGE)}
    conditions = [listed("bob"), rule(within, label="within", on=100)]
    ours = made(
        flag(conditions=conditions), depending("depends", "f"), rule_based_segments=segments
    )
    assert said(ours, key="bob").value == "on"
    for name in ("f", "depends"):
        outcome = said(ours, name)
        assert (outcome.value, outcome.error) == (ABSENT, UNSUPPORTED)


def test_who_is_excluded_by_key_is_in_no_segment() -> None:
    """Whatever its conditions would say, and nobody needs to know."""
    within = rule(in_segment("r", "IN_RULE_BASED_SEGMENT"), label="within", on=100)
    segments = {"r": unknowable("r", NEW, keys=["ada"])}
    ours = made(flag(conditions=[within]), rule_based_segments=segments)
    assert said(ours).value == "off"
    assert said(ours, key="bob").error == UNSUPPORTED


def test_half_a_character_as_key() -> None:
    """A key that has no bytes is an error only where it is hashed, as in the SDK."""
    ours = made(
        flag("whole"),
        flag("half", conditions=[rollout(on=50, off=50)]),
        flag("all", conditions=[rollout(on=100, off=0)]),
    )
    assert said(ours, "whole", key="\ud800").value == "on"
    for name in ("half", "all"):
        assert said(ours, name, key="\ud800").error == CONTEXT_INVALID


def test_an_attribute_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """It stays in the engine; the log has where it was, and not what it said of a user."""

    class Trap:
        def __iter__(self) -> Any:
            text = "caught"
            raise LookupError(text)

    one = matcher("PART_OF_SET", "trap", whitelistMatcherData={"whitelist": ["a"]})
    ours = made(flag(conditions=[rule(one, label="x", on=100)]))
    assert said(ours, trap=Trap()).error == EXCEPTION
    assert "flag 'f' was not evaluated" in caplog.text
    assert "caught" not in caplog.text


def test_many_threads_at_once() -> None:
    """Threads that compile the same flags at the same time all get the same."""
    flags = [flag(f"f{at}", prerequisites=[{"n": f"f{at + 1}", "ts": ["on"]}]) for at in range(40)]
    for _ in range(20):
        ours = made(*flags, flag("f40"))
        context = ours.context({"key": "ada"})
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda at: ours.evaluate(f"f{at % 41}", context), range(200)))  # noqa: B023 - the pool ends with the round
        assert {outcome.value for outcome in outcomes} == {"on"}


def test_it_loads_little() -> None:
    """The engine brings in no module of the standard library that the reader has not loaded."""
    script = (
        "import sys, json, re, hashlib, flagstore; before = set(sys.modules);"
        "import flagstore.evaluation.split;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    loaded = done.stdout.split()
    assert "flagstore.evaluation.split" in loaded
    assert [name for name in loaded if not name.startswith("flagstore.")] == []
