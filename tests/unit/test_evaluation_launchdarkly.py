"""LaunchDarkly's engine: promises beyond its SDK's suites and the differential campaign."""

from __future__ import annotations

import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.errors import CorruptSnapshotError, StoreUnavailableError
from flagstore.evaluation import base
from flagstore.evaluation.base import ERROR, ContextError, EngineConfig, Evaluation
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


def rule(*clauses: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a rule that gives the second variation."""
    return {"id": "rule", "clauses": [*clauses], "variation": 1} | fields


def clause(attribute: str, operator: str, *values: Any, **fields: Any) -> dict[str, Any]:
    """Return a clause."""
    return {"attribute": attribute, "op": operator, "values": [*values]} | fields


def needs(key: str) -> dict[str, Any]:
    """Return the field with one prerequisite."""
    return {"prerequisites": [{"key": key, "variation": 0}]}


def rollout(*weights: int, **fields: Any) -> dict[str, Any]:
    """Return a rollout, with more fields in each share."""
    shares = [{"variation": at, "weight": weight, **fields} for at, weight in enumerate(weights)]
    return {"rollout": {"variations": shares}}


IN_SEGMENT = rule(clause("", "segmentMatch", "segment"))
BIG = {"key": "segment", "version": 1, "unbounded": True, "generation": 1}


def over(*flags: dict[str, Any], **segments: Any) -> LaunchDarklyEngine:
    """Return an engine over flags and segments."""
    return engine(Items(flags={made["key"]: made for made in flags}, segments=segments), CONFIG)


def evaluate(made: dict[str, Any], given: dict[str, Any], **segments: Any) -> Evaluation:
    """Evaluate one flag for one context."""
    ours = over(made, **segments)
    return ours.evaluate(made["key"], ours.context(given))


class TestContexts:
    @pytest.mark.parametrize(
        ("error", "given"),
        [
            (base.KEY_MISSING, {}),
            (base.KEY_MISSING, {"key": None}),
            (base.KEY_MISSING, {"key": ""}),
            (base.KEY_MISSING, {"kind": "user", "name": "Anna"}),
            (base.KEY_MISSING, {"key": "", "targetingKey": "a"}),
            (base.KEY_MISSING, {"kind": "multi", "user": {"name": "Anna"}}),
            (base.CONTEXT_INVALID, {"kind": "multi"}),
            (base.CONTEXT_INVALID, {"kind": "multi", "user": "a"}),
            (
                base.CONTEXT_INVALID,
                {"kind": "multi", "user": ADA, "org": ADA | {"kind": "user"}},
            ),
            (base.CONTEXT_INVALID, {"kind": "multi", "user": {"key": "a", "kind": "multi"}}),
            (base.CONTEXT_INVALID, {"kind": "multi", "kind ": ADA}),
            (base.CONTEXT_INVALID, 5),
            (base.CONTEXT_INVALID, None),
            (base.CONTEXT_INVALID, {"key": 5.5}),
            *[(base.CONTEXT_INVALID, ADA | {"kind": kind}) for kind in (5, "", "kind", "a b", "é")],
            *[(base.CONTEXT_INVALID, ADA | {"anonymous": value}) for value in (None, "yes")],
            *[(base.CONTEXT_INVALID, ADA | {name: 5}) for name in ("name", "", "_meta")],
            (base.CONTEXT_INVALID, ADA | {"_meta": {"privateAttributes": "name"}}),
            (base.CONTEXT_INVALID, ADA | {"_meta": {"privateAttributes": [5]}}),
        ],
    )
    def test_invalid_context(self, error: str, given: Any) -> None:
        """A context that the SDK rejects raises, with a missing key as an error of its own."""
        with pytest.raises(ContextError) as caught:
            over().context(given)
        assert caught.value.args[0] == error
        assert caught.value.args[1]

    @pytest.mark.parametrize(
        "given",
        [
            {"key": "a"},
            {"key": "a", "kind": None},
            {"targetingKey": "a"},
            {"targeting_key": "a"},
            {"key": "a", "targetingKey": "b"},
            {"kind": "user", "key": "a", "_meta": {"privateAttributes": ["name"]}},
            {"kind": "multi", "user": {"targetingKey": "a"}, "org": {"key": "b"}},
        ],
    )
    def test_names_of_the_key(self, given: dict[str, Any]) -> None:
        """A context without a kind is a user; the key may have OpenFeature's names."""
        made = flag(targets=[{"variation": 1, "values": ["a"]}])
        before = copy.deepcopy(given)
        assert evaluate(made, given).reason == base.TARGET_MATCH
        assert given == before

    def test_custom_attributes_of_a_user_without_kind(self) -> None:
        """``custom`` of LaunchDarkly's old users adds attributes, but overrides none."""
        made = flag(rules=[rule(clause("plan", "in", "pro"))])
        custom = {"custom": {"plan": "pro"}}
        assert evaluate(made, {"key": "a", **custom}).reason == base.RULE_MATCH
        assert evaluate(made, {"key": "a", "plan": "free", **custom}).reason == base.FALLTHROUGH
        assert evaluate(made, {"kind": "user", "key": "a", **custom}).reason == base.FALLTHROUGH

    def test_context_is_independent_of_its_mapping(self) -> None:
        """Attributes that are set later do not change a context."""
        ours = over(flag(rules=[rule(clause("plan", "in", "pro"))]))
        given = {"key": "a", "plan": "pro"}
        context = ours.context(given)
        given["plan"] = "free"
        assert ours.evaluate("flag", context).reason == base.RULE_MATCH


class TestResults:
    def test_rule_match(self) -> None:
        """The result names the rule, its index, the variation and the flag's version."""
        made = flag(rules=[rule(clause("plan", "in", "free")), rule(id="second")])
        expected = Evaluation("b", 1, base.RULE_MATCH, "", "second", 1, None, 7)
        assert evaluate(made, ADA) == expected

    def test_results_are_shared(self) -> None:
        """Results are created once: callers that return values copy them."""
        ours = over(flag(variations=[{"list": [1]}]))
        context = ours.context(ADA)
        assert ours.evaluate("flag", context) is ours.evaluate("flag", context)

    def test_unknown_flag(self) -> None:
        """An unknown or deleted flag is not found, and is looked up again the next time."""
        items = Items(flags={"gone": {"version": 8, "deleted": True}})
        ours = engine(items, CONFIG)
        context = ours.context(ADA)
        for key in ("gone", "none"):
            assert ours.evaluate(key, context).error == base.FLAG_NOT_FOUND
        items.sections["flags"]["none"] = flag("none")
        assert ours.evaluate("none", context).reason == base.FALLTHROUGH


class TestErrors:
    @pytest.mark.parametrize(
        "made",
        [
            5,
            [],
            {},
            flag(version="7"),
            flag(rules={}),
            flag(rules=[{"id": "rule"}]),
            flag(targets=[{"variation": 0, "values": [5]}]),
            flag(fallthrough={"rollout": {"variations": [{"variation": 0}]}}),
            flag(fallthrough=rollout(50_000, 10**400)),
            flag(fallthrough=rollout(-1, 100_000)),
            flag(fallthrough=rollout(50_000, 50_000, untracked=[])),
            flag(rules=[rule(clause("date", "before", 10**400))]),
            flag(rules=[rule(clause("n", "lessThan", 10**309))]),
        ],
    )
    def test_malformed_flag(self, made: Any) -> None:
        """The result is base.MALFORMED_FLAG, with the flag's version if it has one."""
        ours = engine(Items(flags={"flag": made}), CONFIG)
        version = made.get("version") if isinstance(made, dict) else None
        version = version if isinstance(version, int) else None
        expected = Evaluation(reason=ERROR, error=base.MALFORMED_FLAG, version=version)
        assert ours.evaluate("flag", ours.context(ADA)) == expected

    def test_malformed_prerequisite(self) -> None:
        """A malformed prerequisite is an error, not a prerequisite that failed."""
        ours = over(flag(**needs("other")), flag("other", variations={}))
        expected = Evaluation(reason=ERROR, error=base.MALFORMED_FLAG, version=7)
        assert ours.evaluate("flag", ours.context(ADA)) == expected

    def test_number_beyond_all_floats_in_a_context(self) -> None:
        """The comparison fails as in the SDK; a flag that does not compare it is fine."""
        made = flag(rules=[rule(clause("n", "lessThan", 1))])
        assert evaluate(made, {"key": "a", "n": 10**309}).error == base.EXCEPTION
        assert evaluate(made, {"key": "a", "m": 10**309}).reason == base.FALLTHROUGH

    def test_exception_in_an_evaluation(self, caplog: pytest.LogCaptureFixture) -> None:
        """The caller gets a result; the log has the traceback, and no value of the context."""

        class Odd(str):
            __slots__ = ()

            def startswith(self, *_: Any) -> bool:
                raise ValueError(self)

        made = flag(rules=[rule(clause("email", "startsWith", "a"))])
        with caplog.at_level(logging.ERROR, "flagstore"):
            found = evaluate(made, {"key": "a", "email": Odd("secret@example.com")})
        assert found == Evaluation(reason=ERROR, error=base.EXCEPTION, version=7)
        assert "'flag' was not evaluated: ValueError" in caplog.text
        assert "startswith" in caplog.text
        assert "secret" not in caplog.text

    @pytest.mark.parametrize("context", [None, 5])
    def test_context_of_another_type(self, context: Any) -> None:
        """A context that this engine did not make is an error in the result."""
        ours = over(flag(targets=[{"variation": 1, "values": ["a"]}]))
        assert ours.evaluate("flag", context).error == base.EXCEPTION

    def test_unreadable_flag(self) -> None:
        """A corrupt block is base.NOT_LOADED, not the fault of a segment."""
        ours = engine(Items(flags={"flag": CorruptSnapshotError("a block")}), CONFIG)
        assert ours.evaluate("flag", ours.context(ADA)).error == base.NOT_LOADED


class TestSegments:
    def test_unavailable_large_segment(self) -> None:
        """It is an error only while it cannot be read, and only where it is needed."""
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
            expected = Evaluation(reason=ERROR, error=base.SEGMENT_UNAVAILABLE, version=version)
            assert ours.evaluate(key, context) == expected
        assert ours.evaluate("other", context).reason == base.FALLTHROUGH
        items.sections["segments"]["segment"] = {"key": "segment", "version": 1, "included": ["a"]}
        assert ours.evaluate("flag", context).reason == base.RULE_MATCH

    @pytest.mark.parametrize("generation", [None, 1])
    def test_big_segment_is_unsupported(self, generation: int | None) -> None:
        """Its keys are not in the flag set: contexts of its kind get base.UNSUPPORTED."""
        segment = BIG | {"generation": generation}
        made = flag(rules=[IN_SEGMENT])
        expected = Evaluation(reason=ERROR, error=base.UNSUPPORTED, version=7)
        assert evaluate(made, ADA, segment=segment) == expected
        org = {"kind": "org", "key": "a"}
        assert evaluate(made, org, segment=segment).reason == base.FALLTHROUGH
        of_orgs = segment | {"unboundedContextKind": "org"}
        assert evaluate(made, org, segment=of_orgs).error == base.UNSUPPORTED

    @pytest.mark.parametrize(
        ("segment", "reason", "error"),
        [
            (5, ERROR, base.MALFORMED_FLAG),
            ({"key": "segment"}, ERROR, base.MALFORMED_FLAG),
            ({"key": "segment", "version": 1, "rules": [5]}, ERROR, base.MALFORMED_FLAG),
            (
                {"key": "segment", "version": 1, "rules": [{"clauses": [], "weight": -1}]},
                ERROR,
                base.MALFORMED_FLAG,
            ),
            ({"version": 2, "deleted": True}, base.FALLTHROUGH, ""),
        ],
    )
    def test_malformed_or_deleted_segment(self, segment: Any, reason: str, error: str) -> None:
        """A malformed segment is an error of the flag; a deleted one matches nothing."""
        found = evaluate(flag(rules=[IN_SEGMENT]), ADA, segment=segment)
        assert (found.reason, found.error) == (reason, error)


class TestCompiling:
    def test_each_item_is_read_once(self) -> None:
        """Only the items that an evaluation reaches are read, and not again."""
        segment = {"key": "segment", "version": 1, "included": ["a"]}
        items = Items(
            flags={"flag": flag(rules=[IN_SEGMENT], **needs("other")), "other": flag("other")},
            segments={"segment": segment, "another": segment},
        )
        ours = engine(items, CONFIG)
        for _ in range(3):
            assert ours.evaluate("flag", ours.context(ADA)).reason == base.RULE_MATCH
        assert items.asked == [("flags", "flag"), ("flags", "other"), ("segments", "segment")]

    def test_provider_json_is_not_changed(self) -> None:
        """Compiling copies before it changes."""
        made = flag(
            rules=[rule(clause("plan", "in", "pro")), IN_SEGMENT],
            targets=[{"variation": 1, "values": ["b"]}, {"variation": 2, "values": ["b", "c"]}],
            fallthrough=rollout(0, 100_000),
        )
        segment = {"key": "segment", "version": 1, "included": ["x"], "excluded": ["y"]}
        before = copy.deepcopy((made, segment))
        evaluate(made, ADA, segment=segment)
        assert (made, segment) == before

    def test_threads_compiling_the_same_flag(self) -> None:
        """All get the right result, and the flag works afterwards."""
        patterns = [clause("plan", "matches", f"^{number}$") for number in range(20)]
        rules = [*(rule(one) for one in patterns), rule(clause("plan", "matches", "^pro$"))]
        prerequisites = [{"key": "other", "variation": 1}]
        for _ in range(20):
            ours = over(flag(prerequisites=prerequisites, rules=rules), flag("other", rules=rules))
            context = ours.context({"key": "a", "plan": "pro"})
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda _: ours.evaluate("flag", context), range(40)))  # noqa: B023 - the pool ends with the round
            assert {(one.reason, one.rule_index) for one in found} == {(base.RULE_MATCH, 20)}
