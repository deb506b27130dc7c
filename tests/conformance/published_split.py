"""The evaluations of 36 flags that Split's JavaScript SDK asserts, as a table.

The facts are from splitio/javascript-client (Apache-2.0), nodeSuites/evaluations.spec.js at
a47cd7a: a flag, attributes, a treatment, and the key where it is not ``KEY``. Moments there are
milliseconds; they are that here as well.
"""

from __future__ import annotations

from typing import Any

KEY = "facundo@split.io"
SEGMENTS = {
    "employees": [],
    "splitters": [],
    "developers": [],
    "segment_excluded_by_rbs": ["emi@split.io"],
}
CONFIG = '{"color":"brown","dimensions":{"height":12,"width":14},"text":{"inner":"click me"}}'

_BOTH = "user_attr_gte_10_and_user_attr2_is_not_foo"
_ACCOUNT = "user_account_in_whitelist"
_BETWEEN_DATES = "user_attr_btw_datetime_1458240947021_and_1458246884077"
_LTE_DATE, _GTE_DATE = (
    "user_attr_lte_datetime_1458240947021",
    "user_attr_gte_datetime_1458240947021",
)
_EQ_DATE = "user_attr_eq_datetime_1458240947021"
_AT_18_55, _AT_17_55, _AT_19_55 = 1_458_240_947_021, 1_458_237_347_021, 1_458_244_547_021
_AT_21_34, _THE_DAY_BEFORE = 1_458_250_484_077, 1_458_150_947_021
_MIDNIGHT, _ANOTHER_DAY = 1_458_172_800_000, 1_458_122_470_000


def _numbers(flag: str, *treatments: tuple[int | None, str]) -> list[tuple[Any, ...]]:
    return [
        (flag, {} if value is None else {"attr": value}, treatment)
        for value, treatment in treatments
    ]


PUBLISHED: list[tuple[Any, ...]] = [
    ("whitelist", {}, "allowed"),
    ("qc_team", {}, "no"),
    (_BOTH, {}, "off"),
    (_BOTH, {"attr": 55, "attr2": "bar"}, "on"),
    (_BOTH, {"attr": 55, "attr2": "foo"}, "off"),
    (_BOTH, {"age": 20, "attr": 55, "attr2": "bar", "account": "key@split.io"}, "on"),
    (_BOTH, {"age": 21, "attr": 55, "attr2": "foo", "account": "key_1@split.io"}, "off"),
    (_ACCOUNT, {}, "off"),
    (_ACCOUNT, {"account": "key_1@split.io"}, "on"),
    (_ACCOUNT, {"account": "key_6@split.io"}, "off"),
    (_ACCOUNT, {"age": 20, "attr": 55, "attr2": "bar", "account": "key@split.io"}, "off"),
    (_ACCOUNT, {"age": 21, "attr": 55, "attr2": "foo", "account": "key_1@split.io"}, "on"),
    ("user_account_in_segment_all", {}, "off"),
    ("user_account_in_segment_all", {"account": "something"}, "on"),
    *_numbers(
        _BETWEEN_DATES, (_AT_18_55, "on"), (_AT_17_55, "off"), (_AT_21_34, "off"), (None, "off")
    ),
    *(
        row
        for flag in ("user_attr_btw_number_10_and_20", "user_attr_btw_10_and_20")
        for row in _numbers(flag, (None, "off"), (9, "off"), (21, "off"), (15, "on"))
    ),
    *_numbers(
        _LTE_DATE, (_AT_18_55, "on"), (_THE_DAY_BEFORE, "on"), (_AT_19_55, "off"), (None, "off")
    ),
    *(
        row
        for flag in ("user_attr_lte_number_10", "user_attr_lte_10")
        for row in _numbers(flag, (9, "on"), (10, "on"), (11, "off"), (None, "off"))
    ),
    *_numbers(_GTE_DATE, (_AT_18_55, "on"), (_AT_19_55, "on"), (_AT_17_55, "off"), (None, "off")),
    *(
        row
        for flag in ("user_attr_gte_number_10", "user_attr_gte_10")
        for row in _numbers(flag, (None, "off"), (10, "on"), (11, "on"), (0, "off"))
    ),
    *_numbers(_EQ_DATE, (_MIDNIGHT, "on"), (_ANOTHER_DAY, "off"), (None, "off")),
    *(
        row
        for flag in ("user_attr_eq_number_ten", "user_attr_eq_ten")
        for row in _numbers(flag, (None, "off"), (10, "on"), (9, "off"))
    ),
    ("hierarchical_splits_test", {}, "on"),
    ("ta_bucket1_test", {}, "rollout_treatment", "aaaaaaklmnbv"),
    ("ta_bucket1_test", {}, "default_treatment", "nico_test"),
    ("rbs_test_flag", {}, "v2", "emi@split.io"),
    ("rbs_test_flag", {}, "v2", "mauro@split.io"),
    ("rbs_test_flag", {}, "v1", "bilal@split.io"),
    ("rbs_test_flag", {}, "v2", "other_key"),
    ("rbs_test_flag_negated", {}, "v1", "emi@split.io"),
    ("rbs_test_flag_negated", {}, "v1", "mauro@split.io"),
    ("rbs_test_flag_negated", {}, "v2", "bilal@split.io"),
    ("rbs_test_flag_negated", {}, "v1", "other_key"),
    ("always_on_if_prerequisite", {}, "on", "bilal@split.io"),
    ("always_on_if_prerequisite", {}, "off", "emi@split.io"),
    ("split_with_config", {}, "o.n", "a_key"),
    ("split_with_config", {"group": "value_without_config"}, "off", "a_key"),
    ("qc_team", {}, "no", "a_key"),
    ("not_existent_split", {}, "control", "a_key"),
]

ONLY_JAVASCRIPT = {
    # Attributes that are moments: milliseconds there, seconds in the Python SDK.
    (_BETWEEN_DATES, _AT_18_55): "off",
    (_LTE_DATE, _AT_18_55): "off",
    (_LTE_DATE, _THE_DAY_BEFORE): "off",
    (_GTE_DATE, _AT_17_55): "on",
    (_EQ_DATE, _MIDNIGHT): "off",
    # ALL_KEYS on an attribute that is missing: no match there, everybody in the Python SDK.
    ("user_account_in_segment_all", None): "on",
}
"""Cases in which the Python SDK, and so flagstore, differs, with its treatment."""

WITHOUT_DATA_TYPE = {
    _BOTH,
    "user_attr_btw_10_and_20",
    "user_attr_lte_10",
    "user_attr_gte_10",
    "user_attr_eq_ten",
}
"""Flags whose numbers have no type, as no response of today has it: ``control`` in the Python
SDK."""
