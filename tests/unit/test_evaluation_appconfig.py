"""AppConfig's engine: a table of the documented rule language, and of its gaps.

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
from flagstore.evaluation.appconfig_rules import compile_rule
from flagstore.flags import CONVERSIONS
from simulators.flag_items import Items

SRC = Path(__file__).resolve().parents[2] / "src"
VIRGINIA: dict[str, Any] = {"state": "Virginia", "age": 70, "email": "ada@amazon.com"}


def evaluate(flag: Any, context: dict[str, Any] | None = None, **meta: Any) -> base.Evaluation:
    """Evaluate one flag."""
    engine = open_engine(
        "appconfig", Items(meta, flags={"f": flag}), base.EngineConfig(lambda: 0, lambda: 0)
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


# -- the rule language: rule, context, verdict, and the sentence of the guide ---------------------

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
    ('(eq $state "Virginia")', {"state": "Virginia"}, True, EQUAL),
    ('(eq $state "Virginia")', {"state": "Texas"}, False, EQUAL),
    ("(eq $age 65)", {"age": 65}, True, EQUAL),
    ("(eq $age 65)", {"age": 65.0}, True, EQUAL),
    ("(eq $beta true)", {"beta": True}, True, EQUAL),
    ("(eq $beta true)", {"beta": False}, False, EQUAL),
    ("(eq $home $away)", {"home": "a", "away": "a"}, True, EQUAL),
    ("(eq $home $away)", {"home": "a", "away": "b"}, False, EQUAL),
    ('(eq $state "Virginia")', {}, False, MISSING),
    ("(gt $age 65)", {"age": 66}, True, GREATER),
    ("(gt $age 65)", {"age": 65}, False, GREATER),
    ("(gte $age 65)", {"age": 65}, True, 'Operators: gte "greater than or equal to"'),
    ("(gte $age 65)", {"age": 64.9}, False, 'Operators: gte "greater than or equal to"'),
    ("(lt $age 65)", {"age": 64}, True, 'Operators: lt "less than"'),
    ("(lt $age 65)", {"age": 65}, False, 'Operators: lt "less than"'),
    ("(lte $age 65)", {"age": 65}, True, 'Operators: lte "less than or equal to"'),
    ("(lte $age 65)", {"age": 66}, False, 'Operators: lte "less than or equal to"'),
    ("(gt $age 65)", {}, False, MISSING),
    ("(lt $t -7)", {"t": -8}, True, NUMBERS),
    ("(lt $t 1.234e-5)", {"t": 0}, True, NUMBERS),
    ("(eq $t 3.14)", {"t": 3.14}, True, NUMBERS),
    ("(eq $n 9223372036854775807)", {"n": 2**63 - 1}, True, NUMBERS),
    ("(eq $n 9223372036854775807)", {"n": 2**63 - 2}, False, NUMBERS),
    ('(and (eq $state "Virginia") (gt $age 65) )', VIRGINIA, True, AND),
    ('(and (eq $state "Virginia") (gt $age 75))', VIRGINIA, False, AND),
    ("(and (gt $age 1) (gt $age 2) (gt $age 3))", VIRGINIA, True, AND),
    ('(or (eq $state "Virginia") (gt $age 75) )', VIRGINIA, True, OR),
    ('(or (eq $state "Texas") (gt $age 75))', VIRGINIA, False, OR),
    ('(or (eq $city "Rome") (gt $age 65))', VIRGINIA, True, OR),
    ('(or (eq $userId "ada"))', {"userId": "ada"}, True, OR),
    ('(or (eq $userId "ada"))', {"userId": "bob"}, False, OR),
    ('(or (eq $userId "ada"))', {}, False, OR),
    ("(and (gt $age 65))", VIRGINIA, True, ONE),
    ("(and (gt $age 75))", VIRGINIA, False, ONE),
    ('(not (eq $state "Virginia"))', VIRGINIA, False, NOT),
    ('(not (eq $state "Texas"))', VIRGINIA, True, NOT),
    ('(not (not (eq $state "Texas")))', VIRGINIA, False, NOT),
    ('(begins_with $state "V")', VIRGINIA, True, PREFIX),
    ('(begins_with $state "A")', VIRGINIA, False, PREFIX),
    ('(ends_with $email "amazon.com")', VIRGINIA, True, SUFFIX),
    ('(ends_with $email "amazon.org")', VIRGINIA, False, SUFFIX),
    ('(ends_with $email "amazon.com")', {}, False, MISSING),
    ('(contains $promoCode "WIN")', {"promoCode": "2WIN4"}, True, SUBSTRING),
    ('(contains $promoCode "WIN")', {"promoCode": "2W4"}, False, SUBSTRING),
    ('(in $userId ["123", "456"])', {"userId": "456"}, True, IN),
    ('(in $userId ["123", "456"])', {"userId": "45"}, False, IN),
    ("(in $n [1,2.5])", {"n": 2.5}, True, IN),
    ("(in $n [])", {"n": 1}, False, IN),
    ('(in $userId ["123"])', {}, False, MISSING),
    ('(matches in::$greeting pattern::"h.*y")', {"greeting": "howdy"}, True, MATCHES),
    ('(matches in::$greeting pattern::"h.*y")', {"greeting": "bye"}, False, MATCHES),
    ('(matches pattern::"h.*y" in::$greeting)', {"greeting": "hey"}, True, ION),
    ('(matches in::$id pattern::"^[a-f0-9]{4}(-\\\\d+)?$")', {"id": "beef-12"}, True, MATCHES),
    ('(matches in::$id pattern::"^[a-f0-9]{4}(-\\\\d+)?$")', {"id": "beeg-12"}, False, MATCHES),
    ('(matches in::$greeting pattern::"h.*y")', {}, False, MISSING),
    ('(exists key::"country")', {"country": "CH"}, True, EXISTS),
    ('(exists key::"country")', {"state": "VA"}, False, EXISTS),
    ('(not (exists key::"country"))', {}, True, EXISTS),
    ("(split pct::0 by::$userId)", {"userId": "a"}, False, SPLIT),
    ('(split pct::100 by::$userId seed::"abc")', {"userId": "a"}, True, SPLIT),
    ('(eq $s "Ḽơᶉëᶆ ȋṕšᶙṁ")', {"s": "Ḽơᶉëᶆ ȋṕšᶙṁ"}, True, STRINGS),
    (r'(eq $s "a \"b\" \\ \n \u00e9")', {"s": 'a "b" \\ \n é'}, True, STRINGS),
    ('\n ( and(eq $a 1)\t(eq $b "x") ) ', {"a": 1, "b": "x"}, True, ION),
    ("true", {}, True, PRODUCES),
    ("$beta", {"beta": False}, False, PRODUCES),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "context", "verdict", "sentence"), DOCUMENTED)
def test_documented_rule(rule: str, context: dict[str, Any], verdict: bool, sentence: str) -> None:
    """Each row has the verdict that follows from its sentence of the guide."""
    assert compile_rule(rule)(context) is verdict, sentence


UNDEFINED = [
    # Types that differ: the agent's context is text.
    ("(gt $age 65)", {"age": "70"}),
    ("(eq $age 65)", {"age": "65"}),
    ('(eq $id "65")', {"id": 65}),
    ("(eq $beta true)", {"beta": "true"}),
    ("(eq $beta true)", {"beta": 1}),
    ("(in $id [1, 2])", {"id": "1"}),
    ('(begins_with $id "1")', {"id": 1}),
    ('(contains $tags "a")', {"tags": ["a"]}),
    ("(eq $n 1.5)", {"n": float("nan")}),
    ("(eq $n 9007199254740993)", {"n": 9007199254740992.0}),
    # The order of texts, and timestamps.
    ('(gt $name "m")', {"name": "z"}),
    ("(lt $since 2024-01)", {"since": "2023-01"}),
    ("(lt $since 2012-03-04T05:06:07-08:00)", {"since": "2012-03-04T05:06:06-08:00"}),
    # A missing value below `not`, or hashed.
    ('(not (eq $state "Virginia"))', {}),
    ("(split pct::100 by::$userId)", {}),
    # The hash of `split`.
    ("(split pct::50 by::$userId)", {"userId": "a"}),
    ('(split by::$userId pct::0.5 seed::"s")', {"userId": "a"}),
    ("(not (split pct::50 by::$userId))", {"userId": "a"}),
    # Whether `matches` is anchored, and what differs between dialects.
    ('(matches in::$g pattern::"h.*y")', {"g": "oh, hey!"}),
    ('(matches in::$g pattern::"(?i)hey")', {"g": "hey"}),
    ('(matches in::$g pattern::"(h)\\\\1")', {"g": "hh"}),
    ('(matches in::$g pattern::"(?<=h)e")', {"g": "he"}),
    ('(matches in::$g pattern::"\\\\p{L}+")', {"g": "he"}),
    ('(matches in::$g pattern::"[[:alpha:]]+")', {"g": "he"}),
    ('(matches in::$g pattern::"a{,2}")', {"g": "aa"}),
    ('(matches in::$g pattern::"a++")', {"g": "aa"}),
    ('(matches in::$g pattern::"(")', {"g": "("}),
    ('(matches in::$g pattern::".*")', {"g": "é"}),
    ('(matches in::$g pattern::"a$")', {"g": "a\n"}),
    ('(matches in::$g pattern::"a")', {"g": 1}),
    # Not in the guide.
    ('(neq $state "Virginia")', VIRGINIA),
    ('(eq $state "Virginia" "Texas")', VIRGINIA),
    ("(eq $state)", VIRGINIA),
    ("(and)", VIRGINIA),
    ("(or)", VIRGINIA),
    ("(not (gt $age 1) (gt $age 2))", VIRGINIA),
    ('(exists "state")', VIRGINIA),
    ("(exists key::$state)", VIRGINIA),
    ('(exists key::"a" key::"b")', VIRGINIA),
    ("(split pct::101 by::$age)", VIRGINIA),
    ("(split pct::10)", VIRGINIA),
    ("(split pct::10 by::$age salt::1)", VIRGINIA),
    ("(eq $age 07)", VIRGINIA),
    ("(eq $age 1_000)", VIRGINIA),
    ("(eq $age 9223372036854775808)", VIRGINIA),
    ("(eq $age 1e999)", VIRGINIA),
    ("(eq $state 'Virginia')", VIRGINIA),
    (r'(eq $state "\q")', VIRGINIA),
    ("(eq $1 1)", {"1": 1}),
    ("(gt $age 1) (gt $age 1)", VIRGINIA),
    ("(gt $age 1", VIRGINIA),
    ("(in $age (1))", VIRGINIA),
    ("(eq (gt $age 1) true)", VIRGINIA),
    ("(" * 9_000, VIRGINIA),
    ("(not " * 3_000 + "true" + ")" * 3_000, VIRGINIA),
    ("// comment\n(gt $age 1)", VIRGINIA),
    ('"Virginia"', VIRGINIA),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "context"), UNDEFINED)
def test_undocumented_rule(rule: str, context: dict[str, Any]) -> None:
    """A rule that depends on a gap of the guide is unknown, and the flag UNSUPPORTED."""
    assert compile_rule(rule)(context) is None
    found = evaluate(variants(rule), context)
    assert (found.value, found.reason, found.error) == (
        base.ABSENT,
        base.ERROR,
        base.UNSUPPORTED,
    )


DECIDED = [
    ('(and (eq $state "Texas") (split pct::10 by::$age))', False),
    ('(and (split pct::10 by::$age) (eq $state "Virginia"))', None),
    ('(or (eq $state "Virginia") (split pct::10 by::$age))', True),
    ('(or (eq $state "Texas") (split pct::10 by::$age))', None),
    ('(or (eq $city "Rome") (split pct::10 by::$age))', None),
    ('(and (eq $city "Rome") (split pct::10 by::$age))', False),
    ('(and (eq $state "Texas") (gt $email 1))', False),
    ('(or (eq $state "Virginia") (gt $email 1))', True),
    ('(and (eq $state "Texas") (eq $city "Rome"))', False),
    ('(or (eq $state "Texas") (eq $city "Rome"))', False),
    ('(not (and (eq $state "Texas") (gt $email 1)))', True),
    ('(not (and (eq $city "Rome") (gt $age 75)))', True),
]


@pytest.mark.parametrize(("rule", "verdict"), DECIDED)
def test_unknown_operand(rule: str, verdict: bool | None) -> None:
    """An operand that is unknown matters only where the others do not decide."""
    assert compile_rule(rule)(VIRGINIA) is verdict


# -- variants -------------------------------------------------------------------------------------


def test_first_matching_variant() -> None:
    """Rules: "The variant at the top of the list is evaluated first"."""
    flag = variants('(eq $state "Texas")', "(gt $age 65)", "(gt $age 60)")
    found = evaluate(flag, VIRGINIA)
    assert found == base.Evaluation({"at": 1}, "V1", base.RULE_MATCH, rule_index=1, config=True)


def test_default_variant() -> None:
    """Rules: "If no rules match the supplied context", it is the Default variant."""
    found = evaluate(variants('(eq $state "Texas")'), VIRGINIA)
    assert found == base.Evaluation({}, "Default", base.OFF, config=False)
    flag = variants('(eq $state "Texas")')
    flag["_variants"][-1] |= {"enabled": True, "attributeValues": {"color": "blue"}}
    on = evaluate(flag, {})
    assert on == base.Evaluation({"color": "blue"}, "Default", base.FALLTHROUGH, config=True)


def test_matching_variant_that_is_off() -> None:
    """Types: attributes of a flag that is disabled are not returned."""
    flag = variants('(eq $state "Virginia")')
    flag["_variants"][0]["enabled"] = False
    found = evaluate(flag, VIRGINIA)
    assert found == base.Evaluation({}, "V0", base.OFF, rule_index=0, config=False)


def test_match_before_an_unknown_rule() -> None:
    """A flag is UNSUPPORTED only for contexts that reach the unknown rule."""
    flag = variants('(eq $state "Virginia")', "(split pct::10 by::$age)")
    assert evaluate(flag, VIRGINIA).variant == "V0"
    assert evaluate(flag, {**VIRGINIA, "state": "Texas"}).error == base.UNSUPPORTED


def test_basic_flag() -> None:
    """Types: `enabled` is next to the attributes; names with a leading `_` are AppConfig's."""
    flag = {"enabled": True, "limit": 5, "tags": ["a"], "_createdAt": "2026-01-01T00:00:00Z"}
    expected = base.Evaluation({"limit": 5, "tags": ["a"]}, None, base.FALLTHROUGH, config=True)
    assert evaluate(flag) == expected
    assert evaluate({**flag, "enabled": "true"}) == expected
    for off in ({**flag, "enabled": False}, {**flag, "enabled": "false"}, {"limit": 5}):
        assert evaluate(off) == base.Evaluation({}, None, base.OFF, config=False)


def test_flag_without_rules_is_unsupported() -> None:
    """A default variant that the data plane served without the rules is UNSUPPORTED."""
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
def test_malformed_flag(flag: Any) -> None:
    """A flag that AppConfig would refuse has no value and the error MALFORMED_FLAG."""
    found = evaluate(flag)
    assert (found.value, found.error) == (base.ABSENT, base.MALFORMED_FLAG)


def test_unknown_flag() -> None:
    """A flag that is not in the set is FLAG_NOT_FOUND, not off."""
    assert evaluate(None).error == base.FLAG_NOT_FOUND


def test_context() -> None:
    """A context is a mapping that stays unchanged; None in it is a missing value."""
    context = {"country": None, "state": "Virginia"}
    before = copy.deepcopy(context)
    assert evaluate(variants('(exists key::"country")'), context).variant == "Default"
    assert context == before
    engine = open_engine("appconfig", Items(flags={}), base.EngineConfig(lambda: 0, lambda: 0))
    assert engine
    with pytest.raises(base.ContextError):
        engine.context(7)  # type: ignore[arg-type] # what a caller may still do


# -- values -----------------------------------------------------------------------------


def test_value_and_enabled() -> None:
    """`value` is the attributes while the flag is on, or a bool if the default is one."""
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


def test_freeform_flag() -> None:
    """The value of a top-level key of a freeform profile may be any JSON."""
    responses = CONVERSIONS["appconfig"]
    for value in (True, "x", 5, [1], {"_variants": 1}):
        found = evaluate(value, format="freeform")
        assert (found.value, found.reason) == (value, base.FALLTHROUGH)
        assert responses.value(found, value) == (value, "")
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
def test_random_rules(words: list[str], context: dict[str, Any]) -> None:
    """No rule and no value of a context raises."""
    for text in ("".join(words), " ".join(words)):
        found = evaluate(variants(text or "("), context)
        assert found.error != base.EXCEPTION


def test_verdict_holds_whatever_the_unknown_operands() -> None:
    """A rule with a verdict has the same one when its unknown operands become true or false.

    Every rule of two operators over three operands that are true, false or unknown.
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
        assert worlds == ({True, False} if verdict is None else {verdict})
        checked += 1
    assert checked == 81


def test_imports_of_basic_flags() -> None:
    """A reader whose flags have no variants does not import the rule language."""
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
