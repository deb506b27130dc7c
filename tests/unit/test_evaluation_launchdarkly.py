"""LaunchDarkly's engine: what neither its suites nor the comparison with its SDK get to."""

from __future__ import annotations

import copy
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.errors import CorruptSnapshotError, StoreUnavailableError
from flagstore.evaluation.base import (
    ABSENT,
    CONTEXT_INVALID,
    ERROR,
    EXCEPTION,
    FALLTHROUGH,
    FLAG_NOT_FOUND,
    KEY_MISSING,
    MALFORMED_FLAG,
    NOT_LOADED,
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
from flagstore.evaluation.launchdarkly import engine

if TYPE_CHECKING:
    from flagstore.evaluation.launchdarkly import LaunchDarklyEngine

SETTINGS = EngineConfig(now=float, random=float)


class Items:
    """A flag set that says what was asked for; an item that is an error is raised."""

    meta: dict[str, Any] = {}  # noqa: RUF012 - nothing changes it

    def __init__(self, flags: dict[str, Any], segments: dict[str, Any] | None = None) -> None:
        self.sections = {"flags": flags, "segments": segments or {}}
        self.asked: list[tuple[str, str]] = []

    def item(self, section: str, key: str) -> Any:
        """Return the JSON of an item, or None."""
        self.asked.append((section, key))
        item = self.sections[section].get(key)
        if isinstance(item, Exception):
            raise item
        return item


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


IN_SEGMENT = rule(clause("", "segmentMatch", "segment"))


def over(*flags: dict[str, Any], **segments: Any) -> LaunchDarklyEngine:
    """Return an engine over flags and segments."""
    return engine(Items({made["key"]: made for made in flags}, segments), SETTINGS)


def evaluate(made: dict[str, Any], given: dict[str, Any], **segments: Any) -> Evaluation:
    """Return the outcome of one flag for one context."""
    ours = over(made, **segments)
    return ours.evaluate(made["key"], ours.context(given))


class TestContexts:
    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"key": None},
            {"key": ""},
            {"kind": "user", "name": "Anna"},
            {"key": "", "targetingKey": "a"},
            {"kind": "multi", "user": {"name": "Anna"}},
        ],
    )
    def test_a_key_is_needed(self, given: dict[str, Any]) -> None:
        """A context without a key is told apart from one that is malformed otherwise."""
        with pytest.raises(ContextError) as caught:
            over().context(given)
        assert caught.value.args[0] == KEY_MISSING
        assert caught.value.args[1]

    @pytest.mark.parametrize(
        "given",
        [
            {"key": 5.5},
            {"key": "a", "kind": 5},
            {"key": "a", "kind": ""},
            {"key": "a", "kind": "kind"},
            {"key": "a", "kind": "a b"},
            {"key": "a", "kind": "é"},
            {"key": "a", "name": 5},
            {"key": "a", "anonymous": None},
            {"key": "a", "anonymous": "yes"},
            {"key": "a", "": 1},
            {"key": "a", "_meta": []},
            {"key": "a", "_meta": {"privateAttributes": "name"}},
            {"key": "a", "_meta": {"privateAttributes": [5]}},
            {"kind": "multi"},
            {"kind": "multi", "user": "a"},
            {"kind": "multi", "user": {"key": "a"}, "org": {"key": "b", "kind": "user"}},
            {"kind": "multi", "user": {"key": "a", "kind": "multi"}},
            {"kind": "multi", "kind ": {"key": "a"}},
            5,
            None,
        ],
    )
    def test_what_cannot_be_a_context_is_refused(self, given: Any) -> None:
        """A context that the SDK holds for invalid is an error, with a text."""
        with pytest.raises(ContextError) as caught:
            over().context(given)
        assert caught.value.args[0] == CONTEXT_INVALID
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
    def test_ways_to_say_the_key_of_a_user(self, given: dict[str, Any]) -> None:
        """Without a kind it is a user; the key may have OpenFeature's names."""
        made = flag(targets=[{"variation": 1, "values": ["a"]}])
        before = copy.deepcopy(given)
        assert evaluate(made, given).reason == TARGET_MATCH
        assert given == before

    def test_custom_attributes_of_a_user_without_kind(self) -> None:
        """What LaunchDarkly's old users had in ``custom`` counts, behind what stands beside it."""
        made = flag(rules=[rule(clause("plan", "in", "pro"))])
        assert evaluate(made, {"key": "a", "custom": {"plan": "pro"}}).reason == RULE_MATCH
        given = {"key": "a", "plan": "free", "custom": {"plan": "pro"}}
        assert evaluate(made, given).reason == FALLTHROUGH
        given = {"kind": "user", "key": "a", "custom": {"plan": "pro"}}
        assert evaluate(made, given).reason == FALLTHROUGH

    def test_a_context_does_not_follow_its_mapping(self) -> None:
        """Attributes that are set later belong to a later context."""
        ours = over(flag(rules=[rule(clause("plan", "in", "pro"))]))
        given = {"key": "a", "plan": "pro"}
        context = ours.context(given)
        given["plan"] = "free"
        assert ours.evaluate("flag", context).reason == RULE_MATCH


class TestOutcomes:
    def test_ids_say_what_decided(self) -> None:
        """Rule, index, variation and version are those of the flag."""
        made = flag(rules=[rule(clause("plan", "in", "free")), rule(id="second")])
        expected = Evaluation("b", 1, RULE_MATCH, "", "second", 1, None, 7)
        assert evaluate(made, {"key": "a"}) == expected

    def test_off_without_a_variation_is_the_callers_default(self) -> None:
        """Neither an error nor a null."""
        assert evaluate(flag(on=False, offVariation=None), {"key": "a"}) == Evaluation(
            ABSENT, None, OFF, version=7
        )

    def test_null_is_a_value(self) -> None:
        """A variation may be null."""
        outcome = evaluate(flag(variations=[None]), {"key": "a"})
        assert outcome.value is None
        assert outcome.variant == 0

    @pytest.mark.parametrize("operator", ["lessThan", "greaterThanOrEqual"])
    def test_a_number_beyond_all_floats_is_an_error_where_it_is_compared(
        self, operator: str
    ) -> None:
        """As in the SDK: what is decided before, or compares no numbers, is decided."""
        first = rule(clause("plan", "in", "pro"), id="first")
        made = flag(rules=[first, rule(clause("n", operator, 1, 10**309))])
        near = 0 if operator == "lessThan" else 2
        assert evaluate(made, {"key": "a", "n": 0, "plan": "pro"}).rule == "first"
        assert evaluate(made, {"key": "a"}).reason == FALLTHROUGH
        assert evaluate(made, {"key": "a", "n": "0"}).reason == FALLTHROUGH
        assert evaluate(made, {"key": "a", "n": near}).reason == RULE_MATCH
        assert evaluate(made, {"key": "a", "n": 1.5 - near}).error == EXCEPTION

    def test_a_weight_beyond_all_floats_is_an_error_where_it_is_added(self) -> None:
        """As in the SDK: whoever is in a share before it has that."""
        shares = [{"variation": 1, "weight": 50_000}, {"variation": 2, "weight": 10**400}]
        made = flag(fallthrough={"rollout": {"variations": shares}})
        found = {evaluate(made, {"key": f"user-{n}"})[:4] for n in range(50)}
        assert found == {("b", 1, FALLTHROUGH, ""), (ABSENT, None, ERROR, EXCEPTION)}
        segment = {"key": "segment", "version": 1, "rules": [{"clauses": [], "weight": 10**400}]}
        made = flag(rules=[rule(clause("plan", "in", "pro"), id="first"), IN_SEGMENT])
        given = {"key": "a", "plan": "pro"}
        assert evaluate(made, given, segment=segment).rule == "first"
        assert evaluate(made, {"key": "a"}, segment=segment).error == EXCEPTION

    def test_a_prerequisite_that_fails_is_named(self) -> None:
        """The rule is the prerequisite's key."""
        ours = over(flag(prerequisites=[{"key": "other", "variation": 1}]), flag("other"))
        outcome = ours.evaluate("flag", ours.context({"key": "a"}))
        assert outcome == Evaluation("c", 2, PREREQUISITE_FAILED, rule="other", version=7)

    def test_the_same_outcome_is_given_again(self) -> None:
        """Outcomes are made once: values are shared, and whoever gives them away copies them."""
        ours = over(flag(variations=[{"list": [1]}]))
        context = ours.context({"key": "a"})
        assert ours.evaluate("flag", context) is ours.evaluate("flag", context)

    def test_no_such_flag(self) -> None:
        """An unknown flag, or one that was deleted, is not found; nor is it kept."""
        items = Items({"gone": {"version": 8, "deleted": True}})
        ours = engine(items, SETTINGS)
        context = ours.context({"key": "a"})
        for key in ("gone", "none"):
            assert ours.evaluate(key, context).error == FLAG_NOT_FOUND
        items.sections["flags"]["none"] = flag("none")
        assert ours.evaluate("none", context).reason == FALLTHROUGH


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
            flag(rules=[rule(clause("date", "before", 10**400))]),
        ],
    )
    def test_a_damaged_flag_is_an_outcome(self, made: Any) -> None:
        """What the SDK refuses to take is MALFORMED_FLAG, with the version if there is one."""
        ours = engine(Items({"flag": made}), SETTINGS)
        version = made.get("version") if isinstance(made, dict) else None
        version = version if isinstance(version, int) else None
        expected = Evaluation(reason=ERROR, error=MALFORMED_FLAG, version=version)
        assert ours.evaluate("flag", ours.context({"key": "a"})) == expected

    def test_a_damaged_prerequisite_is_an_error_too(self) -> None:
        """It is not taken for one that failed."""
        needs = [{"key": "other", "variation": 0}]
        ours = over(flag(prerequisites=needs), flag("other", variations={}))
        outcome = ours.evaluate("flag", ours.context({"key": "a"}))
        assert outcome == Evaluation(reason=ERROR, error=MALFORMED_FLAG, version=7)

    def test_a_fault_is_an_outcome_and_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing escapes; the log says where it was, and quotes no value of the context."""

        class Odd(str):
            __slots__ = ()

            def startswith(self, *_: Any) -> bool:
                raise ValueError(self)

        made = flag(rules=[rule(clause("email", "startsWith", "a"))])
        with caplog.at_level(logging.ERROR, "flagstore"):
            outcome = evaluate(made, {"key": "a", "email": Odd("secret@example.com")})
        assert outcome == Evaluation(reason=ERROR, error=EXCEPTION, version=7)
        assert "'flag' was not evaluated: ValueError" in caplog.text
        assert "startswith" in caplog.text
        assert "secret" not in caplog.text

    @pytest.mark.parametrize("context", [None, 5])
    def test_no_context_at_all(self, context: Any) -> None:
        """What this engine did not make as a context is an outcome as well."""
        ours = over(flag(targets=[{"variation": 1, "values": ["a"]}]))
        assert ours.evaluate("flag", context).error == EXCEPTION

    def test_a_flag_that_cannot_be_read(self) -> None:
        """A body that is corrupt is no segment's fault."""
        ours = engine(Items({"flag": CorruptSnapshotError("a block")}), SETTINGS)
        assert ours.evaluate("flag", ours.context({"key": "a"})).error == NOT_LOADED


class TestSegments:
    def test_a_large_segment_that_cannot_be_read_now(self) -> None:
        """It is an error only while it cannot be read, and only where it is needed."""
        items = Items({"flag": flag(rules=[IN_SEGMENT]), "other": flag("other")})
        items.sections["segments"]["segment"] = StoreUnavailableError("busy")
        ours = engine(items, SETTINGS)
        context = ours.context({"key": "a"})
        expected = Evaluation(reason=ERROR, error=SEGMENT_UNAVAILABLE, version=7)
        assert ours.evaluate("flag", context) == expected
        assert ours.evaluate("other", context).reason == FALLTHROUGH
        items.sections["segments"]["segment"] = {"key": "segment", "version": 1, "included": ["a"]}
        assert ours.evaluate("flag", context).reason == RULE_MATCH

    def test_of_a_prerequisite(self) -> None:
        """What a prerequisite cannot read is not known of the flag that needs it either."""
        items = Items(
            {
                "flag": flag(prerequisites=[{"key": "other", "variation": 0}]),
                "other": flag("other", version=9, rules=[IN_SEGMENT]),
            },
            {"segment": StoreUnavailableError("busy")},
        )
        ours = engine(items, SETTINGS)
        outcome = ours.evaluate("flag", ours.context({"key": "a"}))
        assert outcome == Evaluation(reason=ERROR, error=SEGMENT_UNAVAILABLE, version=7)

    @pytest.mark.parametrize("generation", [None, 1])
    def test_a_big_segment_is_not_guessed(self, generation: int | None) -> None:
        """Who is in it is not in the flag set: UNSUPPORTED, for those whom it could hold."""
        segment = {"key": "segment", "version": 1, "unbounded": True, "generation": generation}
        made = flag(rules=[IN_SEGMENT])
        outcome = evaluate(made, {"key": "a"}, segment=segment)
        assert outcome == Evaluation(reason=ERROR, error=UNSUPPORTED, version=7)
        given = {"kind": "org", "key": "a"}
        assert evaluate(made, given, segment=segment).reason == FALLTHROUGH
        of_orgs = segment | {"unboundedContextKind": "org"}
        assert evaluate(made, given, segment=of_orgs).error == UNSUPPORTED

    def test_a_big_segment_that_is_not_reached(self) -> None:
        """A rule before it decides without it."""
        segment = {"key": "segment", "version": 1, "unbounded": True, "generation": 1}
        made = flag(rules=[rule(clause("key", "in", "a")), IN_SEGMENT])
        assert evaluate(made, {"key": "a"}, segment=segment).reason == RULE_MATCH

    def test_a_damaged_segment(self) -> None:
        """What the SDK refuses to take stops the flag that needs it."""
        for segment in (5, {"key": "segment"}, {"key": "segment", "version": 1, "rules": [5]}):
            outcome = evaluate(flag(rules=[IN_SEGMENT]), {"key": "a"}, segment=segment)
            assert outcome.error == MALFORMED_FLAG

    def test_a_deleted_segment(self) -> None:
        """It is as none."""
        segment = {"version": 2, "deleted": True}
        outcome = evaluate(flag(rules=[IN_SEGMENT]), {"key": "a"}, segment=segment)
        assert outcome.reason == FALLTHROUGH


class TestCompiling:
    def test_each_item_is_asked_for_once(self) -> None:
        """Only what an evaluation gets to is read, and not again."""
        segment = {"key": "segment", "version": 1, "included": ["a"]}
        needs = [{"key": "other", "variation": 0}]
        items = Items(
            {"flag": flag(prerequisites=needs, rules=[IN_SEGMENT]), "other": flag("other")},
            {"segment": segment, "another": segment},
        )
        ours = engine(items, SETTINGS)
        for _ in range(3):
            assert ours.evaluate("flag", ours.context({"key": "a"})).reason == RULE_MATCH
        assert items.asked == [("flags", "flag"), ("flags", "other"), ("segments", "segment")]

    def test_the_providers_json_is_not_changed(self) -> None:
        """Compiling copies what it changes."""
        rollout = {"rollout": {"variations": [{"variation": 1, "weight": 100_000}]}}
        made = flag(
            rules=[rule(clause("plan", "in", "pro")), IN_SEGMENT],
            targets=[{"variation": 1, "values": ["b"]}, {"variation": 2, "values": ["b", "c"]}],
            fallthrough=rollout,
        )
        segment = {"key": "segment", "version": 1, "included": ["x"], "excluded": ["y"]}
        before = copy.deepcopy((made, segment))
        evaluate(made, {"key": "a"}, segment=segment)
        assert (made, segment) == before

    def test_threads_may_compile_the_same_flag_at_once(self) -> None:
        """All get the right outcome, and the flag works afterwards."""
        patterns = [clause("plan", "matches", f"^{number}$") for number in range(20)]
        rules = [*(rule(one) for one in patterns), rule(clause("plan", "matches", "^pro$"))]
        for _ in range(20):
            ours = over(
                flag(prerequisites=[{"key": "other", "variation": 1}], rules=rules),
                flag("other", rules=rules),
            )
            context = ours.context({"key": "a", "plan": "pro"})
            start = threading.Barrier(8)
            found: list[Evaluation] = []

            def work(
                ours: LaunchDarklyEngine = ours,
                context: Any = context,
                start: threading.Barrier = start,
                found: list[Evaluation] = found,
            ) -> None:
                start.wait()
                found.append(ours.evaluate("flag", context))

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(found) == 8
            assert {(one.reason, one.rule_index) for one in found} == {(RULE_MATCH, 20)}
