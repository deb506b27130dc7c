"""AppConfig's engine: the documented rule language, and its gaps.

Sources in the AWS AppConfig user guide: "Operators" is "Defining rules for multi-variant feature
flags", "Rules" is "Understanding multi-variant feature flag rules", "Types" is "type reference for
AWS.AppConfig.FeatureFlags".
"""

from __future__ import annotations

import copy
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagstore.evaluation import base, open_engine
from flagstore.evaluation.appconfig_rules import compile_rule
from flagstore.flags import CONVERSIONS
from simulators.flag_items import Items

VIRGINIA: dict[str, Any] = {"state": "Virginia", "age": 70, "email": "ada@amazon.com"}


def evaluate(flag: Any, context: Any = None, key: str = "f", **meta: Any) -> base.Evaluation:
    """Evaluate one flag."""
    config = base.EngineConfig(lambda: 0, lambda: 0)
    engine = open_engine("appconfig", Items(meta, flags={key: flag}), config)
    assert engine
    return engine.evaluate(key, engine.context({} if context is None else context))


def variants(*rules: str) -> dict[str, Any]:
    """Build a flag with a variant for each rule, and a default that is off."""
    listed: list[dict[str, Any]] = [
        {"name": f"V{index}", "enabled": True, "rule": rule, "attributeValues": {"at": index}}
        for index, rule in enumerate(rules)
    ]
    return {"_variants": [*listed, {"name": "Default", "enabled": False}]}


DOCUMENTED: list[tuple[str, dict[str, Any], bool]] = [
    # Operators: eq "determines whether a context value is equal to a given value"
    ('(eq $state "Virginia")', {"state": "Virginia"}, True),
    ('(eq $state "Virginia")', {"state": "Texas"}, False),
    ("(eq $age 65)", {"age": 65.0}, True),
    ("(eq $beta true)", {"beta": False}, False),
    ("(eq $home $away)", {"home": "a", "away": "a"}, True),
    # Operators: gt "is greater than a given value"; gte, lt and lte accordingly
    *(
        (f"({name} $age 65)", {"age": age}, name in holds.split())
        for age, holds in ((64.9, "lt lte"), (65, "gte lte"), (66, "gt gte"))
        for name in ("gt", "gte", "lt", "lte")
    ),
    # Operators: "a 64-bit integer value", "a 64-bit IEEE-754 floating-point value"
    ("(lt $t -7)", {"t": -8}, True),
    ("(lt $t 1.234e-5)", {"t": 0}, True),
    ("(eq $n 9223372036854775807)", {"n": 2**63 - 1}, True),
    ("(eq $n 9223372036854775807)", {"n": 2**63 - 2}, False),
    # Operators: and "both operands are true", or "at least one", not "reverses the value"
    ('(and (eq $state "Virginia") (gt $age 65) )', VIRGINIA, True),
    ("(and (gt $age 1) (gt $age 2) (gt $age 75))", VIRGINIA, False),
    ('(or (eq $city "Rome") (gt $age 65))', VIRGINIA, True),
    ('(or (eq $state "Texas") (gt $age 75))', VIRGINIA, False),
    ('(or (eq $userId "ada"))', {"userId": "ada"}, True),
    ('(not (not (eq $state "Texas")))', VIRGINIA, False),
    # Operators: begins_with, ends_with, contains
    ('(begins_with $state "V")', VIRGINIA, True),
    ('(begins_with $state "irg")', VIRGINIA, False),
    ('(ends_with $email "amazon.com")', VIRGINIA, True),
    ('(ends_with $email "amazon")', VIRGINIA, False),
    ('(contains $promoCode "WIN")', {"promoCode": "2WIN4"}, True),
    ('(contains $promoCode "WIN")', {"promoCode": "2W4"}, False),
    # Operators: in "is contained within a list of constants"
    ('(in $userId ["123", "456"])', {"userId": "456"}, True),
    ('(in $userId ["123", "456"])', {"userId": "45"}, False),
    ("(in $n [1,2.5])", {"n": 2.5}, True),
    ("(in $n [])", {"n": 1}, False),
    # Operators: matches "matches a given regex pattern"
    ('(matches in::$id pattern::"^[a-f0-9]{4}(-\\\\d+)?$")', {"id": "beef-12"}, True),
    ('(matches pattern::"^[a-f0-9]{4}(-\\\\d+)?$" in::$id)', {"id": "beeg-12"}, False),
    ('(or (matches in::$id pattern::"a.*b") $on)', {"id": "a" * 9_999, "on": True}, True),
    # Operators: exists "whether any value was provided for a context key"
    ('(exists key::"country")', {"country": "CH"}, True),
    ('(not (exists key::"country"))', {}, True),
    # Operators: split "true for a given percentage of traffic"
    ("(split pct::0 by::$userId)", {"userId": "a"}, False),
    ('(split pct::100 by::$userId seed::"abc")', {"userId": "a"}, True),
    # A missing value: Rules, "If the context doesn't include an account ID … the Default rule"
    ('(eq $state "Virginia")', {}, False),
    ("(eq $home $away)", {"home": "a"}, False),
    ('(matches in::$greeting pattern::"h.*y")', {}, False),
    ('(not (and (eq $city "Rome") (gt $age 75)))', VIRGINIA, True),
    # Operators: a string is "a sequence of UTF-8 characters, enclosed in double-quotes"; Ion
    (r'(eq $s "Ḽ \"b\" \\ \n \u00e9")', {"s": 'Ḽ "b" \\ \n é'}, True),
    ('\n ( and(eq $a 1)\t(eq $b "x") ) ', {"a": 1, "b": "x"}, True),
    # Operators: an expression "must produce either a true or false"
    ("true", {}, True),
    ("$beta", {"beta": False}, False),
]


@pytest.mark.parametrize(("rule", "context", "verdict"), DOCUMENTED)
def test_documented_rule(rule: str, context: dict[str, Any], verdict: bool) -> None:
    """Each rule has the verdict that follows from its sentence of the guide."""
    assert compile_rule(rule)(context) is verdict


# fmt: off
UNDEFINED: list[tuple[str, dict[str, Any]]] = [
    # Types that differ: the agent's context is text.
    ("(gt $age 65)", {"age": "70"}),
    ("(eq $beta true)", {"beta": 1}),
    ("(in $id [1, 2])", {"id": "1"}),
    ('(begins_with $id "1")', {"id": 1}),
    ("(eq $n 1.5)", {"n": float("nan")}),
    ("(eq $n 9007199254740993)", {"n": 9007199254740992.0}),
    # The order of strings, and timestamps.
    ('(gt $name "m")', {"name": "z"}),
    ("(lt $since 2024-01)", {"since": "2023-01"}),
    ("(lt $since 2012-03-04T05:06:07-08:00)", {"since": "2012-03-04T05:06:06-08:00"}),
    # A missing value below `not`, or hashed.
    ('(not (eq $state "Virginia"))', {}),
    ("(split pct::100 by::$userId)", {}),
    # The hash of `split`.
    ('(split by::$userId pct::0.5 seed::"s")', {"userId": "a"}),
    ('(or (eq $city "Rome") (split pct::10 by::$age))', VIRGINIA),
    # Whether `matches` is anchored, and what differs between dialects.
    ('(matches in::$g pattern::"h.*y")', {"g": "oh, hey!"}),
    ('(matches in::$g pattern::"(?i)hey")', {"g": "hey"}),
    ('(matches in::$g pattern::".*")', {"g": "é"}),
    ('(matches in::$g pattern::"a$")', {"g": "a\n"}),
    ('(matches in::$g pattern::"a")', {"g": 1}),
    # Not in the guide.
    *((rule, VIRGINIA) for rule in (
        '(neq $state "Virginia")', '(eq $state "Virginia" "Texas")', "(eq $state)", "(and)",
        "(not (gt $age 1) (gt $age 2))", "(exists key::$state)", '(exists key::"a" key::"b")',
        "(split pct::101 by::$age)", "(split pct::10)", "(split pct::10 by::$age salt::1)",
        "(eq $age 07)", "(eq $age 9223372036854775808)", "(eq $age 1e999)", '"Virginia"',
        r'(eq $state "\q")', "(eq $1 1)", "(gt $age 1) (gt $age 1)", "(gt $age 1", "(in $age (1))",
        "(in $age [$age])", "// comment\n(gt $age 1)", "(not " * 3_000 + "true" + ")" * 3_000,
    )),
]
# fmt: on


@pytest.mark.parametrize(("rule", "context"), UNDEFINED)
def test_undocumented_rule(rule: str, context: dict[str, Any]) -> None:
    """A rule that depends on a gap of the guide is unknown, and the flag UNSUPPORTED."""
    found = evaluate(variants(rule), context)
    assert found == base.Evaluation(error=base.UNSUPPORTED)


BUCKETS: list[tuple[str, str | None, Any, int]] = [
    ("new-checkout", "abc", "ada", 37307840),
    ("another-flag", "abc", "ada", 37307840),
    ("new-checkout", "abc", "bob", 55660219),
    ("new-checkout", "abc", "", 47715565),
    ("new-checkout", "", "ada", 47036543),
    ("new-checkout", "grüezi", "Zoë 👋", 48800125),
    ("new-checkout", "a:1:b", "c", 57248698),
    ("abc", None, "ada", 87425516),
    ("new-checkout", None, "ada", 16402094),
    *(("new-checkout", None, value, 42174975) for value in ("42", 42, 42.0)),
    ("new-checkout", None, -7, 67686842),
    *(("new-checkout", None, value, 89275025) for value in (0, -0.0)),
    ("new-checkout", None, 2**53 - 1, 96733776),
    *(("new-checkout", None, value, 64267836) for value in (True, "true")),
    ("new-checkout", None, False, 8970485),
]
"""Flag, seed, value and bucket, which is not computed by code of this repository:

    text='flagstore:split:seed:3:abc:ada'  # without a seed: flag:<bytes of the key>:<key>:<value>
    echo $(( 16#$(printf %s "$text" | sha256sum | cut -c1-12) % 100000000 ))
"""


@pytest.mark.parametrize(("key", "seed", "value", "bucket"), BUCKETS)
def test_split_by_own_hash(key: str, seed: str | None, value: Any, bucket: int) -> None:
    """The value is in the share if its bucket is below the percentage, to six decimals."""
    for threshold, variant in ((bucket, "Default"), (bucket + 1, "V0")):
        whole, decimals = divmod(threshold, 1_000_000)
        rule = f"(split pct::{whole}.{decimals:06d} by::$v"
        flag = variants(rule + (")" if seed is None else f' seed::"{seed}")'))
        found = evaluate(flag, {"v": value}, key, split_hash="flagstore")
        assert (found.variant, found.rule) == (variant, "split (flagstore's hash)")
        for other in ({}, {"split_hash": "another"}):
            assert evaluate(flag, {"v": value}, key, **other).error == base.UNSUPPORTED


@pytest.mark.parametrize(
    ("rule", "context", "verdict"),
    [
        # As other operators: a missing value matches nothing, and is unknown inside `not`.
        ('(split pct::100 by::$v seed::"s")', {}, False),
        ("(not (split pct::0 by::$v))", {}, None),
        ("(split pct::0 by::$v)", {"v": "a"}, False),
        ("(not (split pct::0 by::$v))", {"v": "a"}, True),
        ("(split pct::100.0 by::$v)", {"v": "a"}, True),
        # Decimals after the sixth are rounded.
        ('(split pct::37.3078407 by::$v seed::"abc")', {"v": "ada"}, True),
        ('(split pct::373.078404e-1 by::$v seed::"abc")', {"v": "ada"}, False),
        # Values without one text in all languages.
        *(
            ("(split pct::100 by::$v)", {"v": value}, None)
            for value in (1.5, 2**53, -(2.0**53), float("nan"), float("inf"), ["a"], {}, "\ud800")
        ),
        ("(split pct::100 by::2024-01)", {}, None),
        # Not in the guide.
        ("(split pct::50 by::$v seed::7)", {"v": "a"}, None),
        ("(split pct::50 by::$v seed::$v)", {"v": "a"}, None),
        (r'(split pct::50 by::$v seed::"\ud800")', {"v": "a"}, None),
    ],
)
def test_edges_of_own_hash(rule: str, context: dict[str, Any], verdict: bool | None) -> None:
    assert compile_rule(rule, "f")(context) is verdict


def test_shares_of_own_hash() -> None:
    """Shares of 100,000 values are right; they are nested with one seed, else independent."""

    def among(count: int, share: float, seed: str = "", key: str = "f") -> set[int]:
        rule = compile_rule(f"(split pct::{100 * share} by::$id {seed})", key)
        found = {number for number in range(count) if rule({"id": f"user-{number}"})}
        assert abs(len(found) / count - share) < 4 * (share * (1 - share) / count) ** 0.5
        return found

    few, more = (among(100_000, share, 'seed::"a"') for share in (0.005, 0.25))
    assert few < more
    others = more, among(25_000, 0.4, 'seed::"b"'), among(25_000, 0.4), among(25_000, 0.4, key="g")
    for one, other in combinations(others, 2):
        expected = len(one & set(range(25_000))) * len(other) / 25_000
        assert abs(len(one & other) - expected) < 4 * expected**0.5


def test_own_hash_only_where_it_matters() -> None:
    """An evaluation names the hash exactly if it would be UNSUPPORTED without it."""
    split = '(split pct::50 by::$id seed::"abc")'
    flag = variants('(eq $id "bob")', f'(and (eq $country "CH") {split})', '(gt $id "m")')
    for context, variant, rule in (
        ({"id": "bob"}, "V0", ""),
        ({"id": "ada", "country": "CH"}, "V1", "split (flagstore's hash)"),
    ):
        found = evaluate(flag, context, split_hash="flagstore")
        assert (found.variant, found.rule) == (variant, rule)
        assert (evaluate(flag, context).variant is None) is bool(rule)
    for context in ({"id": "ada", "country": "FR"}, {"id": 1.5, "country": "CH"}):
        found = evaluate(flag, context, split_hash="flagstore")
        assert found == base.Evaluation(error=base.UNSUPPORTED)


def test_verdict_holds_whatever_the_unknown_operands() -> None:
    """A rule with a verdict has the same one when its unknown operands become true or false.

    Every rule of two operators over three operands that are true, false or unknown.
    """
    worlds_of = {"true": ["true"], "false": ["false"]}
    worlds_of["(split pct::50 by::$age)"] = ["true", "false"]
    shapes = ("(and {} (or {} {}))", "(or {} (and {} {}))", "(not (and {} (or {} {})))")
    for shape, operands in product(shapes, product(worlds_of, repeat=3)):
        verdict = compile_rule(shape.format(*operands))(VIRGINIA)
        worlds = {
            compile_rule(shape.format(*world))(VIRGINIA)
            for world in product(*(worlds_of[operand] for operand in operands))
        }
        assert worlds == ({True, False} if verdict is None else {verdict})


def test_variants() -> None:
    """Rules: "The variant at the top of the list is evaluated first", else the Default variant.

    Only contexts that reach an unknown rule are UNSUPPORTED. Types: attributes of a flag that is
    disabled are not returned.
    """
    flag = variants('(eq $state "Texas")', "(gt $age 65)", "(gt $age 60)")
    expected = base.Evaluation({"at": 1}, "V1", base.RULE_MATCH, rule_index=1, config=True)
    assert evaluate(flag, VIRGINIA) == expected
    assert evaluate(flag) == base.Evaluation({}, "Default", base.OFF, config=False)
    flag["_variants"][-1] |= {"enabled": True, "attributeValues": {"color": "blue"}}
    expected = base.Evaluation({"color": "blue"}, "Default", base.FALLTHROUGH, config=True)
    assert evaluate(flag) == expected
    flag = variants('(eq $state "Virginia")', "(split pct::10 by::$age)")
    flag["_variants"][0]["enabled"] = False
    expected = base.Evaluation({}, "V0", base.OFF, rule_index=0, config=False)
    assert evaluate(flag, VIRGINIA) == expected
    assert evaluate(flag, {**VIRGINIA, "state": "Texas"}).error == base.UNSUPPORTED


def test_basic_flag() -> None:
    """Types: `enabled` is next to the attributes; names with a leading `_` are AppConfig's."""
    flag = {"enabled": True, "limit": 5, "tags": ["a"], "_createdAt": "2026-01-01T00:00:00Z"}
    expected = base.Evaluation({"limit": 5, "tags": ["a"]}, None, base.FALLTHROUGH, config=True)
    assert evaluate(flag) == expected
    assert evaluate({**flag, "enabled": "true"}) == expected
    for off in ({**flag, "enabled": False}, {**flag, "enabled": "false"}, {"limit": 5}):
        assert evaluate(off) == base.Evaluation({}, None, base.OFF, config=False)


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        (None, base.FLAG_NOT_FOUND),
        # As the data plane serves it without the agent: the rules have been left out.
        ({"_variant": "Default", "enabled": True}, base.UNSUPPORTED),
        ("on", base.MALFORMED_FLAG),
        ({"enabled": 1}, base.MALFORMED_FLAG),
        ({"enabled": "yes"}, base.MALFORMED_FLAG),
        ({"_variants": []}, base.MALFORMED_FLAG),
        ({"_variants": [None]}, base.MALFORMED_FLAG),
        ({"_variants": [{"name": "a", "rule": "true"}]}, base.MALFORMED_FLAG),
        ({"_variants": [{"name": "a"}, {"name": "b"}]}, base.MALFORMED_FLAG),
        ({"_variants": [{"name": "a", "attributeValues": [1]}]}, base.MALFORMED_FLAG),
        ({"_variants": [{"name": 7}]}, base.MALFORMED_FLAG),
    ],
)
def test_flag_without_a_value(flag: Any, error: str) -> None:
    """A flag that AppConfig would refuse is MALFORMED_FLAG, one that is not there is not off."""
    assert evaluate(flag) == base.Evaluation(error=error)


def test_context() -> None:
    """A context is a mapping that stays unchanged; None in it is a missing value."""
    context = {"country": None, "state": "Virginia"}
    before = copy.deepcopy(context)
    assert evaluate(variants('(exists key::"country")'), context).variant == "Default"
    assert context == before
    with pytest.raises(base.ContextError):
        evaluate({}, 7)


def test_value_and_enabled() -> None:
    """`value` is the attributes while the flag is on, or a bool if the default is one."""
    responses = CONVERSIONS["appconfig"]
    on = evaluate({"enabled": True, "limit": 5})
    assert responses.value(on, {}) == responses.value(on, None) == ({"limit": 5}, "")
    assert responses.value(on, False) == responses.on(on, False) == (True, "")
    assert responses.value(on, "x") == ("x", base.WRONG_TYPE)
    off = evaluate({"enabled": False, "limit": 5})
    assert responses.value(off, {"limit": 1}) == ({"limit": 1}, "")
    assert responses.value(off, True) == responses.on(off, True) == (False, "")
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


WORDS = st.sampled_from(
    [*'()[],1"\\é', "and", "or", "not", "eq", "gt", "in", "matches", "split", "exists", "pct::",
     "by::", "seed::", "in::", "pattern::", "key::", "$a", "$b", '"x"', '"a.*"', "2.5", "true",
     "2024-01"]
)  # fmt: skip
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@settings(database=None)
@given(st.lists(WORDS, max_size=20), st.dictionaries(st.sampled_from("ab"), VALUES))
def test_random_rules(words: list[str], context: dict[str, Any]) -> None:
    """No rule and no value of a context raises."""
    for text in ("".join(words), " ".join(words), "(split pct::50 by::$a)"):
        found = evaluate(variants(text or "("), context, split_hash="flagstore")
        assert found.error != base.EXCEPTION
