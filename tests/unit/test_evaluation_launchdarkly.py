"""LaunchDarkly's engine beyond the suites and the campaign: contexts, errors, what it reads."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.errors import StoreUnavailableError
from flagstore.evaluation import base
from flagstore.evaluation.base import ContextError, EngineConfig, Evaluation
from flagstore.evaluation.launchdarkly import engine
from simulators.flag_items import Items

if TYPE_CHECKING:
    from flagstore.evaluation.launchdarkly import LaunchDarklyEngine

CONFIG = EngineConfig(now=float, random=float)
ADA: dict[str, Any] = {"key": "a"}


def flag(key: str = "flag", **fields: Any) -> dict[str, Any]:
    """Return a flag that is on, with three variations."""
    made: dict[str, Any] = {"key": key, "version": 7, "on": True, "salt": "salt"}
    made |= {"variations": ["a", "b", "c"], "offVariation": 2, "fallthrough": {"variation": 0}}
    return made | fields


def rule(attribute: str, operator: str, *values: Any, **fields: Any) -> dict[str, Any]:
    """Return a rule of one clause that gives the second variation."""
    clause = {"attribute": attribute, "op": operator, "values": [*values]}
    return {"id": "rule", "clauses": [clause], "variation": 1} | fields


def needs(key: str) -> dict[str, Any]:
    """Return the field with one prerequisite."""
    return {"prerequisites": [{"key": key, "variation": 0}]}


def rollout(*weights: int) -> dict[str, Any]:
    """Return a rollout."""
    shares = [{"variation": at, "weight": weight} for at, weight in enumerate(weights)]
    return {"rollout": {"variations": shares}}


IN_SEGMENT = rule("", "segmentMatch", "segment")


def over(*flags: dict[str, Any], **segments: Any) -> LaunchDarklyEngine:
    """Return an engine over flags and segments."""
    return engine(Items(flags={made["key"]: made for made in flags}, segments=segments), CONFIG)


def evaluate(made: dict[str, Any], given: dict[str, Any], **segments: Any) -> Evaluation:
    """Evaluate one flag for one context."""
    ours = over(made, **segments)
    return ours.evaluate(made["key"], ours.context(given))


@pytest.mark.parametrize(
    ("error", "given"),
    [
        (base.KEY_MISSING, {"key": None}),
        (base.KEY_MISSING, {"key": "", "targetingKey": "a"}),
        (base.KEY_MISSING, {"kind": "multi", "user": {"name": "Anna"}}),
        (base.CONTEXT_INVALID, {"kind": "multi"}),
        (base.CONTEXT_INVALID, {"kind": "multi", "user": "a"}),
        (base.CONTEXT_INVALID, {"kind": "multi", "user": ADA, "org": ADA | {"kind": "user"}}),
        (base.CONTEXT_INVALID, {"kind": "multi", "kind ": ADA}),
        (base.CONTEXT_INVALID, 5),
        *[(base.CONTEXT_INVALID, ADA | {"kind": kind}) for kind in (5, "kind", "a b")],
        *[(base.CONTEXT_INVALID, ADA | {name: 5}) for name in ("anonymous", "name", "")],
    ],
)
def test_invalid_context(error: str, given: Any) -> None:
    """A context that the SDK rejects raises, with a missing key as an error of its own."""
    with pytest.raises(ContextError) as caught:
        over().context(given)
    assert caught.value.args[0] == error
    assert caught.value.args[1]


@pytest.mark.parametrize(
    "given",
    [
        {"key": "a", "kind": None, "targetingKey": "b"},
        {"targetingKey": "a"},
        {"targeting_key": "a"},
        {"kind": "multi", "user": {"targetingKey": "a"}, "org": {"key": "b"}},
    ],
)
def test_names_of_the_key(given: dict[str, Any]) -> None:
    """A context without a kind is a user; the key may have OpenFeature's names."""
    made = flag(targets=[{"variation": 1, "values": ["a"]}])
    before = copy.deepcopy(given)
    assert evaluate(made, given).reason == base.TARGET_MATCH
    assert given == before


def test_custom_attributes_of_a_user_without_kind() -> None:
    """``custom`` of LaunchDarkly's old users adds attributes, but overrides none."""
    made = flag(rules=[rule("plan", "in", "pro")])
    custom = {"custom": {"plan": "pro"}}
    assert evaluate(made, {"key": "a", **custom}).reason == base.RULE_MATCH
    assert evaluate(made, {"key": "a", "plan": "free", **custom}).reason == base.FALLTHROUGH
    assert evaluate(made, {"kind": "user", "key": "a", **custom}).reason == base.FALLTHROUGH


def test_context_is_independent_of_its_mapping() -> None:
    """Attributes that are set later do not change a context."""
    ours = over(flag(rules=[rule("plan", "in", "pro", id="pro")]))
    given = {"key": "a", "plan": "pro"}
    context = ours.context(given)
    given["plan"] = "free"
    expected = Evaluation("b", 1, base.RULE_MATCH, "", "pro", 0, None, 7)
    assert ours.evaluate("flag", context) == expected


def test_unknown_flag() -> None:
    """An unknown or deleted flag is not found, and is looked up again the next time."""
    items = Items(flags={"gone": {"version": 8, "deleted": True}})
    ours = engine(items, CONFIG)
    context = ours.context(ADA)
    for key in ("gone", "none"):
        assert ours.evaluate(key, context).error == base.FLAG_NOT_FOUND
    items.sections["flags"]["none"] = flag("none")
    assert ours.evaluate("none", context).reason == base.FALLTHROUGH


@pytest.mark.parametrize(
    ("made", "version"),
    [
        (5, None),
        (flag(version="7"), None),
        (flag(rules={}), 7),
        (flag(targets=[{"variation": 0, "values": [5]}]), 7),
        (flag(fallthrough=rollout(50_000, 10**400)), 7),
        (flag(fallthrough=rollout(-1, 100_000)), 7),
        (flag(rules=[rule("n", "lessThan", 10**309)]), 7),
        (flag(rules=[IN_SEGMENT]), 7),
    ],
)
def test_malformed_flag(made: Any, version: int | None) -> None:
    """A damaged flag, or one that needs a damaged segment, has no value."""
    segment = {"key": "segment", "version": 1, "rules": [{"clauses": [], "weight": -1}]}
    ours = engine(Items(flags={"flag": made}, segments={"segment": segment}), CONFIG)
    expected = Evaluation(error=base.MALFORMED_FLAG, version=version)
    assert ours.evaluate("flag", ours.context(ADA)) == expected


def test_exception_in_an_evaluation(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets a result; the log has the traceback, and no value of the context."""

    class Odd(str):
        __slots__ = ()

        def startswith(self, *_: Any) -> bool:
            raise ValueError(self)

    made = flag(rules=[rule("email", "startsWith", "a")])
    with caplog.at_level(logging.ERROR, "flagstore"):
        found = evaluate(made, {"key": "a", "email": Odd("secret@example.com")})
    assert found == Evaluation(error=base.EXCEPTION, version=7)
    assert "'flag' was not evaluated: ValueError" in caplog.text
    assert "startswith" in caplog.text
    assert "secret" not in caplog.text


def test_unreadable_items() -> None:
    """A large segment is an error only while it cannot be read, and only where it is needed."""
    items = Items(
        flags={
            "flag": flag(rules=[IN_SEGMENT]),
            "other": flag("other"),
            "dependent": flag("dependent", version=9, **needs("flag")),
        },
        segments={"segment": StoreUnavailableError("busy")},
    )
    ours = engine(items, CONFIG)
    context = ours.context(ADA)
    for key, version in (("flag", 7), ("dependent", 9)):
        expected = Evaluation(error=base.SEGMENT_UNAVAILABLE, version=version)
        assert ours.evaluate(key, context) == expected
    assert ours.evaluate("other", context).reason == base.FALLTHROUGH
    items.sections["segments"]["segment"] = {"key": "segment", "version": 1, "included": ["a"]}
    assert ours.evaluate("flag", context).reason == base.RULE_MATCH


def test_big_segment_is_unsupported() -> None:
    """Its keys are not in the flag set: contexts of its kind get UNSUPPORTED."""
    segment = {"key": "segment", "version": 1, "unbounded": True}
    made = flag(rules=[IN_SEGMENT])
    assert evaluate(made, ADA, segment=segment) == Evaluation(error=base.UNSUPPORTED, version=7)
    org = {"kind": "org", "key": "a"}
    assert evaluate(made, org, segment=segment).reason == base.FALLTHROUGH
    of_orgs = segment | {"unboundedContextKind": "org"}
    assert evaluate(made, org, segment=of_orgs).error == base.UNSUPPORTED


def test_each_item_is_read_once() -> None:
    """Only the items that an evaluation reaches are read, and not again; they are not changed."""
    segment = {"key": "segment", "version": 1, "included": ["a"], "excluded": ["y"]}
    targets = [{"variation": 1, "values": ["b"]}, {"variation": 2, "values": ["b", "c"]}]
    made = flag(rules=[IN_SEGMENT], targets=targets, **needs("other"))
    sections = {
        "flags": {"flag": made, "other": flag("other")},
        "segments": {"segment": segment, "another": segment},
    }
    items = Items(**sections)
    before = copy.deepcopy(sections)
    ours = engine(items, CONFIG)
    first = ours.evaluate("flag", ours.context(ADA))
    assert first.reason == base.RULE_MATCH
    assert ours.evaluate("flag", ours.context(ADA)) is first
    assert items.asked == [("flags", "flag"), ("flags", "other"), ("segments", "segment")]
    assert sections == before
