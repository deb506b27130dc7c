"""The files that Split publishes to test its SDKs: hashes, matchers and whole responses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from data import needed
from flagstore.evaluation.base import ABSENT, EngineConfig
from flagstore.evaluation.murmur3 import mixed, murmur3_32
from flagstore.evaluation.split import engine, hashing
from simulators import split_flags
from simulators.flag_items import Items

if TYPE_CHECKING:
    from collections.abc import Iterator

MURMUR, LEGACY = 2, 1


def text(name: str) -> str:
    """Return a published file."""
    return needed(f"split/{name}").read_text(encoding="utf-8")


def rows(name: str) -> Iterator[list[str]]:
    """Return the rows of a file, without a remark at its top."""
    # Not splitlines(): keys hold other ends of lines.
    for line in text(name).split("\n"):
        if line and not line.startswith("#"):
            yield line.split(",")


def hashes(name: str) -> Iterator[tuple[str, str, int, int]]:
    """Return seed, key, hash and bucket of each row; a key may hold commas."""
    for seed, *key, hashed, expected in rows(name):
        yield seed, ",".join(key), int(hashed), int(expected)


def bucket(key: str, seed: str, algorithm: int) -> int:
    """Return the bucket of a key."""
    hashed, of = hashing(int(seed), algorithm)
    return of(engine(Items()).context({"key": key}), hashed)


def evaluated(items: Items, name: str, **context: Any) -> Any:
    """Evaluate one flag; returns the treatment, ``control`` where there is none."""
    ours = engine(items, EngineConfig(lambda: 0.0, lambda: 0.5))
    found = ours.evaluate(name, ours.context(context))
    return "control" if found.value is ABSENT else found.value


def matches(kind: str, value: str, **data: Any) -> bool:
    """Return whether one matcher matches an attribute."""
    flag = split_flags.new_flag("f")
    matcher = split_flags.matcher(kind, "attribute", **data)
    flag["conditions"] = [split_flags.rule(matcher, label="it", on=100)]
    return bool(evaluated(Items(flags={"f": flag}), "f", key="k", attribute=value) == "on")


@pytest.mark.parametrize(
    ("name", "algorithm", "size"),
    [
        ("murmur3.csv", MURMUR, 4_000),
        ("legacy-hash.csv", LEGACY, 3_999),
        ("legacy-hash-non-ascii.csv", LEGACY, 1_999),
    ],
)
def test_hashes_and_buckets(name: str, algorithm: int, size: int) -> None:
    """Each row's hash and bucket, with seeds of either sign and any keys."""
    count = 0
    for count, (seed, key, hashed, expected) in enumerate(hashes(name), 1):  # noqa: B007
        if algorithm == MURMUR:
            assert murmur3_32(mixed(key.encode()), int(seed)) == hashed
        assert bucket(key, seed, algorithm) == expected, key
    assert count == size


def test_regular_expressions() -> None:
    """Every expression matches its text or not, as in the file."""
    count = 0
    for line in text("regex.txt").splitlines():
        pattern, value, expected = line.rsplit("#", 2) if line.count("#") > 1 else ("", "", "")
        if expected:
            assert matches("MATCHES_STRING", value, stringMatcherData=pattern) is (
                expected == "true"
            ), line
            count += 1
    assert count == 145


EQUAL, LISTED, BETWEEN = "EQUAL_TO_SEMVER", "IN_LIST_SEMVER", "BETWEEN_SEMVER"
AT_LEAST, AT_MOST = "GREATER_THAN_OR_EQUAL_TO_SEMVER", "LESS_THAN_OR_EQUAL_TO_SEMVER"


def comparisons() -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """Yield matcher, version, its data and whether it matches, of all files of versions."""
    for high, low in [*rows("valid-semantic-versions.csv")][1:]:
        yield AT_LEAST, high, {"stringMatcherData": low}, True
        yield AT_LEAST, low, {"stringMatcherData": high}, False
        yield AT_MOST, low, {"stringMatcherData": high}, True
        yield AT_MOST, high, {"stringMatcherData": low}, False
        yield EQUAL, high, {"stringMatcherData": high}, True
    for version in text("invalid-semantic-versions.csv").splitlines()[1:]:
        yield EQUAL, version, {"stringMatcherData": version}, False
        yield AT_LEAST, version, {"stringMatcherData": "0.0.0"}, False
        yield LISTED, version, {"whitelistMatcherData": {"whitelist": [version]}}, False
    for low, version, high, expected in [*rows("between-semver.csv")][1:]:
        ends = {"start": low, "end": high}
        yield BETWEEN, version, {"betweenStringMatcherData": ends}, expected == "true"
    for one, other, expected in [*rows("equal-to-semver.csv")][1:]:
        yield EQUAL, one, {"stringMatcherData": other}, expected == "true"
        listed = {"whitelist": ["9.9.9", other]}
        yield LISTED, one, {"whitelistMatcherData": listed}, expected == "true"


def test_versions() -> None:
    """Versions are ordered, equal and between others as in the files; an invalid one never is."""
    cases = [*comparisons()]
    for kind, version, data, expected in cases:
        assert matches(kind, version, **data) is expected, (kind, version, data)
    assert len(cases) == 24 * 5 + 27 * 3 + 17 + 6 * 2


SEGMENTS = {"segment_excluded_by_rbs": ["emi@split.io"]}
KEY = "facundo@split.io"
DATES = "user_attr_btw_datetime_1458240947021_and_1458246884077"
PUBLISHED: list[tuple[str, dict[str, Any], str, str]] = [
    # Flag, attributes, the Python SDK's treatment, and key: the JavaScript SDK's assertions, from
    # splitio/javascript-client (Apache-2.0), nodeSuites/evaluations.spec.js at a47cd7a.
    ("whitelist", {}, "allowed", KEY),
    ("qc_team", {}, "no", KEY),
    ("user_account_in_whitelist", {}, "off", KEY),
    ("user_account_in_whitelist", {"account": "key_1@split.io"}, "on", KEY),
    ("user_account_in_whitelist", {"account": "key_6@split.io"}, "off", KEY),
    *(("user_attr_btw_number_10_and_20", {"attr": at}, "off", KEY) for at in (None, 9, 21)),
    *(("user_attr_btw_number_10_and_20", {"attr": at}, "on", KEY) for at in (10, 15, 20)),
    *(("user_attr_lte_number_10", {"attr": at}, "on", KEY) for at in (9, 10)),
    *(("user_attr_lte_number_10", {"attr": at}, "off", KEY) for at in (None, 11)),
    *(("user_attr_gte_number_10", {"attr": at}, "on", KEY) for at in (10, 11)),
    *(("user_attr_gte_number_10", {"attr": at}, "off", KEY) for at in (None, 0)),
    ("user_attr_eq_number_ten", {"attr": 10}, "on", KEY),
    ("user_attr_eq_number_ten", {"attr": 9}, "off", KEY),
    ("hierarchical_splits_test", {}, "on", KEY),
    ("ta_bucket1_test", {}, "rollout_treatment", "aaaaaaklmnbv"),
    ("ta_bucket1_test", {}, "default_treatment", "nico_test"),
    *(("rbs_test_flag", {}, "v2", f"{key}@split.io") for key in ("emi", "mauro")),
    ("rbs_test_flag", {}, "v1", "bilal@split.io"),
    ("rbs_test_flag_negated", {}, "v1", "emi@split.io"),
    ("rbs_test_flag_negated", {}, "v2", "bilal@split.io"),
    ("always_on_if_prerequisite", {}, "on", "bilal@split.io"),
    ("always_on_if_prerequisite", {}, "off", "emi@split.io"),
    ("not_existent_split", {}, "control", KEY),
    # In JavaScript, no data type is a number, and ALL_KEYS needs its attribute.
    ("user_attr_lte_10", {"attr": 9}, "control", KEY),
    ("user_account_in_segment_all", {}, "on", KEY),
    # Moments, which are milliseconds in JavaScript.
    *((DATES, {"attr": at}, "on", KEY) for at in (1_458_240_947, 1_458_246_884)),
    *(
        (DATES, {"attr": at}, "off", KEY)
        for at in (1_458_237_347, 1_458_250_484, 1_458_240_947_021)
    ),
    ("user_attr_eq_datetime_1458240947021", {"attr": 1_458_172_800}, "on", KEY),
    ("user_attr_eq_datetime_1458240947021", {"attr": 1_458_122_470}, "off", KEY),
    # A large segment, as in every server-side SDK.
    ("in_large_segment", {}, "control", KEY),
]


@pytest.fixture(scope="module")
def published() -> Items:
    """Return the 36 flags, with the change numbers that a response of Split's API has."""
    response = json.loads(text("splitChanges-36-flags.json"))
    return Items(
        flags={flag["name"]: {"changeNumber": 0, **flag} for flag in response["ff"]["d"]},
        rule_based_segments={each["name"]: each for each in response["rbs"]["d"]},
        segments={name: {"name": name, "keys": keys} for name, keys in SEGMENTS.items()},
    )


@pytest.mark.parametrize(("name", "attributes", "expected", "key"), PUBLISHED)
def test_published_evaluations(
    published: Items, name: str, attributes: dict[str, Any], expected: str, key: str
) -> None:
    """Each asserted evaluation, or the Python SDK's where it disagrees."""
    assert evaluated(published, name, key=key, **attributes) == expected
