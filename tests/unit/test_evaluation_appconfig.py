"""AppConfig's engine: a table from the documented rule language, and what that leaves open.

"Operators" is the page "Defining rules for multi-variant feature flags" of the AWS AppConfig user
guide, "Rules" its page "Understanding multi-variant feature flag rules", "Types" its page "type
reference for AWS.AppConfig.FeatureFlags".
"""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagstore.evaluation import base, open_engine
from flagstore.evaluation.appconfig_rules import BOOLEAN, FALSE, NOT_TRUE, OPEN, TRUE, compile_rule
from flagstore.flags import CONVERSIONS

SRC = Path(__file__).resolve().parents[2] / "src"
VIRGINIA: dict[str, Any] = {"state": "Virginia", "age": 70, "email": "ada@amazon.com"}


class Items:
    """A flag set."""

    def __init__(self, flags: dict[str, Any], **meta: Any) -> None:
        self.flags, self.meta = flags, meta

    def item(self, section: str, key: str) -> Any:
        """Return one flag."""
        assert section == "flags"
        return self.flags.get(key)


def evaluate(flag: Any, context: dict[str, Any] | None = None, **meta: Any) -> base.Evaluation:
    """Evaluate one flag."""
    engine = open_engine(
        "appconfig", Items({"f": flag}, **meta), base.EngineConfig(lambda: 0, lambda: 0)
    )
    assert engine
    return engine.evaluate("f", engine.context(context or {}))


def variants(*rules: str) -> dict[str, Any]:
    """Build a flag with a variant for each rule, and a default that is off."""
    listed: list[dict[str, Any]] = [
        {"name": f"V{index}", "enabled": True, "rule": rule, "attributeValues": {"at": index}}
        for index, rule in enumerate(rules)
    ]
    return {"_variants": [*listed, {"name": "Default", "enabled": False}]}


# -- the rule language: rule, context, verdict, and the sentence that says so ---------------------

EQUAL = 'Operators: eq "determines whether a context value is equal to a given value"'
GREATER = 'Operators: gt "determines whether a context value is greater than a given value"'
AND = 'Operators: and "determines if both operands are true"'
OR = 'Operators: or "determines if at least one of the operands is true"'
ONE = "A rule that AppConfig has accepted, of one operand, can only be that operand"
NOT = 'Operators: not "reverses the value of an expression"'
PREFIX = 'Operators: begins_with "starts with a given prefix"'
SUFFIX = 'Operators: ends_with "ends with a given suffix"'
SUBSTRING = 'Operators: contains "contains a given substring"'
IN = 'Operators: in "is contained within a list of constants"'
MATCHES = 'Operators: matches "matches a given regex pattern"'
EXISTS = 'Operators: exists "whether any value was provided for a context key"'
SPLIT = 'Operators: split "true for a given percentage of traffic"'
MISSING = 'Rules: "If the context doesn\'t include an account ID … the Default rule"'
STRINGS = 'Operators: a string is "a sequence of UTF-8 characters, enclosed in double-quotes"'
NUMBERS = 'Operators: "a 64-bit integer value", "a 64-bit IEEE-754 floating-point value"'
ION = "Rules are in the text form of Amazon Ion: white space and the order of names do not matter"
PRODUCES = 'Operators: an expression "must produce either a true or false"'

DOCUMENTED = [
    ('(eq $state "Virginia")', {"state": "Virginia"}, TRUE, EQUAL),
    ('(eq $state "Virginia")', {"state": "Texas"}, FALSE, EQUAL),
    ("(eq $age 65)", {"age": 65}, TRUE, EQUAL),
    ("(eq $age 65)", {"age": 65.0}, TRUE, EQUAL),
    ("(eq $beta true)", {"beta": True}, TRUE, EQUAL),
    ("(eq $beta true)", {"beta": False}, FALSE, EQUAL),
    ("(eq $home $away)", {"home": "a", "away": "a"}, TRUE, EQUAL),
    ("(eq $home $away)", {"home": "a", "away": "b"}, FALSE, EQUAL),
    ('(eq $state "Virginia")', {}, NOT_TRUE, MISSING),
    ("(gt $age 65)", {"age": 66}, TRUE, GREATER),
    ("(gt $age 65)", {"age": 65}, FALSE, GREATER),
    ("(gte $age 65)", {"age": 65}, TRUE, 'Operators: gte "greater than or equal to"'),
    ("(gte $age 65)", {"age": 64.9}, FALSE, 'Operators: gte "greater than or equal to"'),
    ("(lt $age 65)", {"age": 64}, TRUE, 'Operators: lt "less than"'),
    ("(lt $age 65)", {"age": 65}, FALSE, 'Operators: lt "less than"'),
    ("(lte $age 65)", {"age": 65}, TRUE, 'Operators: lte "less than or equal to"'),
    ("(lte $age 65)", {"age": 66}, FALSE, 'Operators: lte "less than or equal to"'),
    ("(gt $age 65)", {}, NOT_TRUE, MISSING),
    ("(lt $t -7)", {"t": -8}, TRUE, NUMBERS),
    ("(lt $t 1.234e-5)", {"t": 0}, TRUE, NUMBERS),
    ("(eq $t 3.14)", {"t": 3.14}, TRUE, NUMBERS),
    ("(eq $n 9223372036854775807)", {"n": 2**63 - 1}, TRUE, NUMBERS),
    ("(eq $n 9223372036854775807)", {"n": 2**63 - 2}, FALSE, NUMBERS),
    ('(and (eq $state "Virginia") (gt $age 65) )', VIRGINIA, TRUE, AND),
    ('(and (eq $state "Virginia") (gt $age 75))', VIRGINIA, FALSE, AND),
    ("(and (gt $age 1) (gt $age 2) (gt $age 3))", VIRGINIA, TRUE, AND),
    ('(or (eq $state "Virginia") (gt $age 75) )', VIRGINIA, TRUE, OR),
    ('(or (eq $state "Texas") (gt $age 75))', VIRGINIA, FALSE, OR),
    ('(or (eq $city "Rome") (gt $age 65))', VIRGINIA, TRUE, OR),
    ('(or (eq $userId "ada"))', {"userId": "ada"}, TRUE, OR),
    ('(or (eq $userId "ada"))', {"userId": "bob"}, FALSE, OR),
    ('(or (eq $userId "ada"))', {}, NOT_TRUE, OR),
    ("(and (gt $age 65))", VIRGINIA, TRUE, ONE),
    ("(and (gt $age 75))", VIRGINIA, FALSE, ONE),
    ('(not (eq $state "Virginia"))', VIRGINIA, FALSE, NOT),
    ('(not (eq $state "Texas"))', VIRGINIA, TRUE, NOT),
    ('(not (not (eq $state "Texas")))', VIRGINIA, FALSE, NOT),
    ('(begins_with $state "V")', VIRGINIA, TRUE, PREFIX),
    ('(begins_with $state "A")', VIRGINIA, FALSE, PREFIX),
    ('(ends_with $email "amazon.com")', VIRGINIA, TRUE, SUFFIX),
    ('(ends_with $email "amazon.org")', VIRGINIA, FALSE, SUFFIX),
    ('(ends_with $email "amazon.com")', {}, NOT_TRUE, MISSING),
    ('(contains $promoCode "WIN")', {"promoCode": "2WIN4"}, TRUE, SUBSTRING),
    ('(contains $promoCode "WIN")', {"promoCode": "2W4"}, FALSE, SUBSTRING),
    ('(in $userId ["123", "456"])', {"userId": "456"}, TRUE, IN),
    ('(in $userId ["123", "456"])', {"userId": "45"}, FALSE, IN),
    ("(in $n [1,2.5])", {"n": 2.5}, TRUE, IN),
    ("(in $n [])", {"n": 1}, FALSE, IN),
    ('(in $userId ["123"])', {}, NOT_TRUE, MISSING),
    ('(matches in::$greeting pattern::"h.*y")', {"greeting": "howdy"}, TRUE, MATCHES),
    ('(matches in::$greeting pattern::"h.*y")', {"greeting": "bye"}, FALSE, MATCHES),
    ('(matches pattern::"h.*y" in::$greeting)', {"greeting": "hey"}, TRUE, ION),
    ('(matches in::$id pattern::"^[a-f0-9]{4}(-\\\\d+)?$")', {"id": "beef-12"}, TRUE, MATCHES),
    ('(matches in::$id pattern::"^[a-f0-9]{4}(-\\\\d+)?$")', {"id": "beeg-12"}, FALSE, MATCHES),
    ('(matches in::$greeting pattern::"h.*y")', {}, NOT_TRUE, MISSING),
    ('(exists key::"country")', {"country": "CH"}, TRUE, EXISTS),
    ('(exists key::"country")', {"state": "VA"}, FALSE, EXISTS),
    ('(not (exists key::"country"))', {}, TRUE, EXISTS),
    ("(split pct::0 by::$userId)", {"userId": "a"}, FALSE, SPLIT),
    ('(split pct::100 by::$userId seed::"abc")', {"userId": "a"}, TRUE, SPLIT),
    ('(eq $s "Ḽơᶉëᶆ ȋṕšᶙṁ")', {"s": "Ḽơᶉëᶆ ȋṕšᶙṁ"}, TRUE, STRINGS),
    (r'(eq $s "a \"b\" \\ \n \u00e9")', {"s": 'a "b" \\ \n é'}, TRUE, STRINGS),
    ('\n ( and(eq $a 1)\t(eq $b "x") ) ', {"a": 1, "b": "x"}, TRUE, ION),
    ("true", {}, TRUE, PRODUCES),
    ("$beta", {"beta": False}, FALSE, PRODUCES),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "context", "verdict", "sentence"), DOCUMENTED)
def test_a_rule_says_what_the_guide_says(
    rule: str, context: dict[str, Any], verdict: int, sentence: str
) -> None:
    """Every row of the table holds, and names the sentence that it is from."""
    assert compile_rule(rule)(context) == verdict, sentence


UNDEFINED = [
    # Types that differ: the agent's context is text, and no page says how it compares that.
    ("(gt $age 65)", {"age": "70"}, OPEN),
    ("(eq $age 65)", {"age": "65"}, OPEN),
    ('(eq $id "65")', {"id": 65}, OPEN),
    ("(eq $beta true)", {"beta": "true"}, OPEN),
    ("(eq $beta true)", {"beta": 1}, OPEN),
    ("(in $id [1, 2])", {"id": "1"}, OPEN),
    ('(begins_with $id "1")', {"id": 1}, OPEN),
    ('(contains $tags "a")', {"tags": ["a"]}, OPEN),
    ("(eq $n 1.5)", {"n": float("nan")}, OPEN),
    ("(eq $n 9007199254740993)", {"n": 9007199254740992.0}, OPEN),
    # The order of texts, and timestamps.
    ('(gt $name "m")', {"name": "z"}, OPEN),
    ("(lt $since 2024-01)", {"since": "2023-01"}, OPEN),
    ("(lt $since 2012-03-04T05:06:07-08:00)", {"since": "2012-03-04T05:06:06-08:00"}, OPEN),
    # A value that is missing below `not`, or hashed.
    ('(not (eq $state "Virginia"))', {}, OPEN),
    ('(not (and (eq $state "Virginia") (eq $a 1)))', {"a": 2}, OPEN),
    ("(split pct::100 by::$userId)", {}, OPEN),
    # The hash of `split`.
    ("(split pct::50 by::$userId)", {"userId": "a"}, BOOLEAN),
    ('(split by::$userId pct::0.5 seed::"s")', {"userId": "a"}, BOOLEAN),
    ("(not (split pct::50 by::$userId))", {"userId": "a"}, BOOLEAN),
    # Whether `matches` is anchored, and what differs between dialects.
    ('(matches in::$g pattern::"h.*y")', {"g": "oh, hey!"}, OPEN),
    ('(matches in::$g pattern::"(?i)hey")', {"g": "hey"}, OPEN),
    ('(matches in::$g pattern::"(h)\\\\1")', {"g": "hh"}, OPEN),
    ('(matches in::$g pattern::"(?<=h)e")', {"g": "he"}, OPEN),
    ('(matches in::$g pattern::"\\\\p{L}+")', {"g": "he"}, OPEN),
    ('(matches in::$g pattern::"[[:alpha:]]+")', {"g": "he"}, OPEN),
    ('(matches in::$g pattern::"a{,2}")', {"g": "aa"}, OPEN),
    ('(matches in::$g pattern::"a++")', {"g": "aa"}, OPEN),
    ('(matches in::$g pattern::"(")', {"g": "("}, OPEN),
    ('(matches in::$g pattern::".*")', {"g": "é"}, OPEN),
    ('(matches in::$g pattern::"a$")', {"g": "a\n"}, OPEN),
    ('(matches in::$g pattern::"a")', {"g": 1}, OPEN),
    # What no page shows.
    ('(neq $state "Virginia")', VIRGINIA, OPEN),
    ('(eq $state "Virginia" "Texas")', VIRGINIA, OPEN),
    ("(eq $state)", VIRGINIA, OPEN),
    ("(and)", VIRGINIA, OPEN),
    ("(or)", VIRGINIA, OPEN),
    ("(not (gt $age 1) (gt $age 2))", VIRGINIA, OPEN),
    ('(exists "state")', VIRGINIA, OPEN),
    ("(exists key::$state)", VIRGINIA, OPEN),
    ('(exists key::"a" key::"b")', VIRGINIA, OPEN),
    ("(split pct::101 by::$age)", VIRGINIA, OPEN),
    ("(split pct::10)", VIRGINIA, OPEN),
    ("(split pct::10 by::$age salt::1)", VIRGINIA, OPEN),
    ("(eq $age 07)", VIRGINIA, OPEN),
    ("(eq $age 1_000)", VIRGINIA, OPEN),
    ("(eq $age 9223372036854775808)", VIRGINIA, OPEN),
    ("(eq $age 1e999)", VIRGINIA, OPEN),
    ("(eq $state 'Virginia')", VIRGINIA, OPEN),
    (r'(eq $state "\q")', VIRGINIA, OPEN),
    ("(eq $1 1)", {"1": 1}, OPEN),
    ("(gt $age 1) (gt $age 1)", VIRGINIA, OPEN),
    ("(gt $age 1", VIRGINIA, OPEN),
    ("(in $age (1))", VIRGINIA, OPEN),
    ("(eq (gt $age 1) true)", VIRGINIA, OPEN),
    ("(" * 9_000, VIRGINIA, OPEN),
    ("(not " * 3_000 + "true" + ")" * 3_000, VIRGINIA, OPEN),
    ("// comment\n(gt $age 1)", VIRGINIA, OPEN),
    ('"Virginia"', VIRGINIA, OPEN),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "context", "verdict"), UNDEFINED)
def test_what_the_guide_leaves_open_has_no_response(
    rule: str, context: dict[str, Any], verdict: int
) -> None:
    """It is no guess: an evaluation that depends on it gives the default, and an error."""
    assert compile_rule(rule)(context) == verdict
    outcome = evaluate(variants(rule), context)
    assert (outcome.value, outcome.reason, outcome.error) == (
        base.ABSENT,
        base.ERROR,
        base.UNSUPPORTED,
    )


DECIDED = [
    ('(and (eq $state "Texas") (split pct::10 by::$age))', FALSE),
    ('(and (split pct::10 by::$age) (eq $state "Virginia"))', BOOLEAN),
    ('(or (eq $state "Virginia") (split pct::10 by::$age))', TRUE),
    ('(or (eq $state "Texas") (split pct::10 by::$age))', BOOLEAN),
    ('(or (eq $city "Rome") (split pct::10 by::$age))', OPEN),
    ('(and (eq $city "Rome") (split pct::10 by::$age))', NOT_TRUE),
    ('(and (eq $state "Texas") (gt $email 1))', NOT_TRUE),
    ('(or (eq $state "Virginia") (gt $email 1))', OPEN),
    ('(and (eq $state "Texas") (eq $city "Rome"))', NOT_TRUE),
    ('(or (eq $state "Texas") (eq $city "Rome"))', NOT_TRUE),
    ('(not (and (eq $state "Texas") (gt $email 1)))', OPEN),
]


@pytest.mark.parametrize(("rule", "verdict"), DECIDED)
def test_an_open_question_that_decides_nothing_holds_nobody_up(rule: str, verdict: int) -> None:
    """Whoever is not in Texas is not in ten percent of Texas."""
    assert compile_rule(rule)(VIRGINIA) == verdict


# -- variants -------------------------------------------------------------------------------------


def test_the_first_variant_that_matches_wins() -> None:
    """Rules: "The variant at the top of the list is evaluated first"."""
    flag = variants('(eq $state "Texas")', "(gt $age 65)", "(gt $age 60)")
    outcome = evaluate(flag, VIRGINIA)
    assert outcome == base.Evaluation({"at": 1}, "V1", base.RULE_MATCH, rule_index=1, config=True)


def test_without_a_match_the_default_variant_is_returned() -> None:
    """Rules: "If no rules match the supplied context", it is the Default variant."""
    outcome = evaluate(variants('(eq $state "Texas")'), VIRGINIA)
    assert outcome == base.Evaluation({}, "Default", base.OFF, config=False)
    flag = variants('(eq $state "Texas")')
    flag["_variants"][-1] |= {"enabled": True, "attributeValues": {"color": "blue"}}
    on = evaluate(flag, {})
    assert on == base.Evaluation({"color": "blue"}, "Default", base.FALLTHROUGH, config=True)


def test_a_variant_that_is_off_says_so_and_names_its_rule() -> None:
    """Types: attributes of a flag that is disabled are not returned."""
    flag = variants('(eq $state "Virginia")')
    flag["_variants"][0]["enabled"] = False
    outcome = evaluate(flag, VIRGINIA)
    assert outcome == base.Evaluation({}, "V0", base.OFF, rule_index=0, config=False)


def test_a_match_before_an_open_question_is_an_response() -> None:
    """Only an evaluation that gets to what nobody knows ends there."""
    flag = variants('(eq $state "Virginia")', "(split pct::10 by::$age)")
    assert evaluate(flag, VIRGINIA).variant == "V0"
    assert evaluate(flag, {**VIRGINIA, "state": "Texas"}).error == base.UNSUPPORTED


def test_a_basic_flag_is_its_attributes() -> None:
    """Types: `enabled` beside the attributes; what begins with `_` is AppConfig's own."""
    flag = {"enabled": True, "limit": 5, "tags": ["a"], "_createdAt": "2026-01-01T00:00:00Z"}
    expected = base.Evaluation({"limit": 5, "tags": ["a"]}, None, base.FALLTHROUGH, config=True)
    assert evaluate(flag) == expected
    assert evaluate({**flag, "enabled": "true"}) == expected
    for off in ({**flag, "enabled": False}, {**flag, "enabled": "false"}, {"limit": 5}):
        assert evaluate(off) == base.Evaluation({}, None, base.OFF, config=False)


def test_rules_that_the_data_plane_left_out_are_missed() -> None:
    """A default variant that was served for want of a context is no evaluation."""
    assert evaluate({"_variant": "Default", "enabled": True}).error == base.UNSUPPORTED


@pytest.mark.parametrize(
    "flag",
    [
        7, "on", [], True,
        {"enabled": 1}, {"enabled": "yes"}, {"enabled": []},
        {"_variants": []}, {"_variants": {}}, {"_variants": [None]}, {"_variants": [{}]},
        {"_variants": [{"name": "a", "enabled": True, "rule": "true"}]},
        {"_variants": [{"name": "a", "enabled": True}, {"name": "b", "enabled": True}]},
        {"_variants": [{"name": "a", "enabled": True, "rule": 7}]},
        {"_variants": [{"name": "a", "enabled": True, "attributeValues": [1]}]},
        {"_variants": [{"name": 7, "enabled": True}]},
    ],
)  # fmt: skip
def test_a_damaged_flag_is_an_outcome(flag: Any) -> None:
    """What AppConfig would not have taken gives the default, and says so."""
    outcome = evaluate(flag)
    assert (outcome.value, outcome.error) == (base.ABSENT, base.MALFORMED_FLAG)


def test_a_flag_that_is_not_there_is_not_found() -> None:
    """It is the default, and no flag that is off."""
    assert evaluate(None).error == base.FLAG_NOT_FOUND


def test_a_context_is_not_changed_and_has_to_be_a_mapping() -> None:
    """The caller's own is left alone; None in it is no value."""
    context = {"country": None, "state": "Virginia"}
    before = copy.deepcopy(context)
    assert evaluate(variants('(exists key::"country")'), context).variant == "Default"
    assert context == before
    engine = open_engine("appconfig", Items({}), base.EngineConfig(lambda: 0, lambda: 0))
    assert engine
    with pytest.raises(base.ContextError):
        engine.context(7)  # type: ignore[arg-type] # what a caller may do all the same


# -- what callers get -----------------------------------------------------------------------------


def test_a_caller_gets_attributes_or_a_truth() -> None:
    """`value` is the attributes while the flag is on, `enabled` whether it is on."""
    responses = CONVERSIONS["appconfig"]
    on = evaluate({"enabled": True, "limit": 5})
    assert responses.value(on, {}) == ({"limit": 5}, "")
    assert responses.value(on, None) == ({"limit": 5}, "")
    assert responses.value(on, False) == (True, "")
    assert responses.value(on, "x") == ("x", base.WRONG_TYPE)
    assert responses.on(on, False) == (True, "")
    off = evaluate({"enabled": False, "limit": 5})
    assert responses.value(off, {"limit": 1}) == ({"limit": 1}, "")
    assert responses.value(off, True) == (False, "")
    assert responses.on(off, True) == (False, "")
    unknown = evaluate(variants("(split pct::10 by::$id)"), {"id": "a"})
    assert responses.value(unknown, {"limit": 1}) == ({"limit": 1}, base.UNSUPPORTED)
    assert responses.on(unknown, True) == (True, base.UNSUPPORTED)


def test_a_freeform_flag_is_any_json() -> None:
    """A top-level key of a freeform profile has the value that it has, and no rules."""
    responses = CONVERSIONS["appconfig"]
    for value in (True, "x", 5, [1], {"_variants": 1}):
        outcome = evaluate(value, format="freeform")
        assert (outcome.value, outcome.reason) == (value, base.FALLTHROUGH)
        assert responses.value(outcome, value) == (value, "")
    assert responses.on(evaluate(True, format="freeform"), False) == (True, "")
    assert responses.on(evaluate("x", format="freeform"), False) == (False, base.WRONG_TYPE)


# -- robustness -----------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["(", ")", "[", "]", ",", "and", "or", "not", "eq", "gt", "in", "matches", "split", "exists",
     "begins_with", "pct::", "by::", "in::", "pattern::", "key::", "$a", "$b", '"x"', '"a.*"', "1",
     "2.5", "true", "2024-01", " ", '"', "\\", "é", "//", "'''"]
)  # fmt: skip
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@settings(database=None)
@given(st.lists(WORDS, max_size=20), st.dictionaries(st.sampled_from("ab"), VALUES))
def test_any_rule_is_survived(words: list[str], context: dict[str, Any]) -> None:
    """No text of a rule, and no value of a context, raises."""
    for text in ("".join(words), " ".join(words)):
        outcome = evaluate(variants(text or "("), context)
        assert outcome.error != base.EXCEPTION


def test_one_more_verdict_is_never_a_guess() -> None:
    """Whatever an open operand turns out to be, a rule that has a verdict keeps it.

    Every rule of two operators over operands whose verdicts are replaced by true and by false.
    """
    open_ones = {"true": ["true"], "false": ["false"]}
    open_ones["(split pct::50 by::$age)"] = ["true", "false"]
    shapes = ("(and {} (or {} {}))", "(or {} (and {} {}))", "(not (and {} (or {} {})))")
    checked = 0
    for shape, operands in product(shapes, product(open_ones, repeat=3)):
        verdict = compile_rule(shape.format(*operands))(VIRGINIA)
        worlds = {
            compile_rule(shape.format(*world))(VIRGINIA)
            for world in product(*(open_ones[operand] for operand in operands))
        }
        assert worlds == ({TRUE, FALSE} if verdict == BOOLEAN else {verdict})
        checked += 1
    assert checked == 81


def test_basic_flags_import_no_rule_language() -> None:
    """A reader whose flags have no variants pays for none."""
    code = (
        "import json, sys; from flagstore.evaluation import open_engine;"
        "from types import SimpleNamespace as N;"
        "e = open_engine('appconfig', N(meta={}, item=lambda s, k: {'enabled': True}), None);"
        "e.evaluate('f', {});"
        "print([m for m in sys.modules if m.startswith('flagstore.evaluation.appconfig_')"
        " or m in ('dataclasses', 'enum', 'boto3')])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.replace("'", '"'))
    with contextlib.suppress(ValueError):
        found.remove("enum")  # of re, which json imports
    assert found == []
