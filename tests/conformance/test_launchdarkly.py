"""The evaluation suites that LaunchDarkly runs against its own SDKs, case by case.

The suites are data that does not ship with the project. They are read as LaunchDarkly's harness
reads them: names in angle brackets stand for parameters, parameters make several cases of one
suite, and the items of a flag set are completed, as a server does it.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from data import DATA
from flagstore.evaluation.base import ABSENT, ContextError, EngineConfig
from flagstore.evaluation.launchdarkly import engine
from flagstore.flags import CONVERSIONS, ContextFlags, EvaluationState
from simulators.flag_items import Items

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = DATA / "launchdarkly" / "server-side-eval"
if not FOLDER.exists():
    pytest.skip(
        "allowed: LaunchDarkly's suites are not here: `make conformance-data`, or CONFORMANCE_DATA",
        allow_module_level=True,
    )

TYPED = "errors-wrong-type"
"""The suite for SDKs with a method a type: an engine is not asked for one, the surface is."""
ZERO = {bool: False, int: 0, float: 0, str: ""}


class Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: ``on`` and dates are strings."""


Loader.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile("^(?:true|false)$") if tag.endswith(":bool") else pattern)
        for tag, pattern in resolvers
        if not tag.endswith(":timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def filled(item: Any, values: dict[str, Any]) -> Any:
    """Return an item of a suite with its ``<NAME>``s filled in, also in keys and within strings."""
    if isinstance(item, dict):
        return {filled(key, values): filled(value, values) for key, value in item.items()}
    if isinstance(item, list):
        return [filled(value, values) for value in item]
    if not isinstance(item, str):
        return item
    whole = re.fullmatch("<([^<>]+)>", item)
    if whole and whole[1] in values:
        return values[whole[1]]

    def text(found: re.Match[str]) -> str:
        value = values.get(found[1], found[0])
        return value if isinstance(value, str) else json.dumps(value)

    return re.sub("<([^<>]+)>", text, item)


def rows(parameters: list[Any] | None) -> Iterator[dict[str, Any]]:
    """Return the values of parameters: one of a list, or one of each list, in all combinations."""
    if not parameters:
        yield {}
    elif isinstance(parameters[0], list):
        for row in itertools.product(*parameters):
            yield {name: value for part in row for name, value in part.items()}
    else:
        yield from parameters


def completed(sdk_data: dict[str, Any]) -> dict[str, Any]:
    """Add the fields that a server sends and the suites leave out."""
    for section in sdk_data.values():
        for key, item in section.items():
            item |= {"key": key, "version": item.get("version", 1)}
            for rule in item.get("rules", []):
                rule.setdefault("clauses", [])
                for clause in rule["clauses"]:
                    clause.setdefault("attribute", "")
                    clause.setdefault("values", [])
            for name in ("targets", "contextTargets", "includedContexts", "excludedContexts"):
                for target in item.get(name, []):
                    target.setdefault("values", [])
    return sdk_data


def default(case: dict[str, Any], flags: dict[str, Any]) -> Any:
    """Return the caller's default; without one, it is the zero of the first variation's type."""
    if "default" in case:
        return case["default"]
    variations = flags.get(case["flagKey"], {}).get("variations") or [None]
    return ZERO.get(type(variations[0]))


def cases() -> Iterator[Any]:
    """Return (flag set, case) of each case of all suites."""
    for file in sorted(FOLDER.glob("*.yml")):
        suite = yaml.load(file.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader
        constants = suite.get("constants", {})
        for row in rows(suite.get("parameters")):
            values = {**constants, **filled(row, constants)}
            # A second time: what was filled in may have names in it.
            whole = filled(
                filled({k: v for k, v in suite.items() if k != "parameters"}, values), values
            )
            for case in whole["evaluations"]:
                title = f"{file.stem}: {case.get('name', whole['name'])}"
                yield pytest.param(whole["sdkData"], case, id=title)


CASES = list(cases())
TYPED_CASES = [case for case in CASES if str(case.id).startswith(TYPED)]


def response(sdk_data: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """Return flagstore's result of a case in the suites' terms."""
    ours = engine(Items(**sdk_data), EngineConfig(now=float, random=float))
    fallback = default(case, sdk_data.get("flags", {}))
    try:
        context = ours.context(case["context"])
    except ContextError:
        return {"value": fallback, "reason": {"kind": "ERROR", "errorKind": "USER_NOT_SPECIFIED"}}
    found = ours.evaluate(case["flagKey"], context)
    reason: dict[str, Any] = {"kind": found.reason}
    if found.error:
        reason["errorKind"] = found.error
    if found.rule_index is not None:
        reason |= {"ruleIndex": found.rule_index, "ruleId": found.rule}
    elif found.rule:
        reason["prerequisiteKey"] = found.rule
    if found.in_experiment:
        reason["inExperiment"] = True
    result = {"value": fallback if found.value is ABSENT else found.value, "reason": reason}
    return result if found.variant is None else result | {"variationIndex": found.variant}


@pytest.mark.parametrize(("sdk_data", "case"), [case for case in CASES if case not in TYPED_CASES])
def test_published_case(sdk_data: dict[str, Any], case: dict[str, Any]) -> None:
    """Value, variation and reason are those that LaunchDarkly expects of its SDKs."""
    assert response(completed(sdk_data), case) == case["expect"]


@pytest.mark.parametrize(("sdk_data", "case"), TYPED_CASES)
def test_published_case_with_a_type(sdk_data: dict[str, Any], case: dict[str, Any]) -> None:
    """The default and WRONG_TYPE where the variation is of another type than the default."""
    items = Items(**completed(sdk_data))
    ours = engine(items, EngineConfig(now=float, random=float))
    state = EvaluationState(ours, CONVERSIONS["launchdarkly"], keys=tuple, overrides={})
    detail = ContextFlags(state, case["context"]).detail(case["flagKey"], default=case["default"])
    reason = {"kind": detail.reason, "errorKind": detail.error}
    assert {"value": detail.value, "reason": reason} == case["expect"]
    assert detail.variant is None


def test_all_of_them_are_here() -> None:
    """The loader loses no case, and none is left out."""
    assert len(list(FOLDER.glob("*.yml"))) == 18
    assert (len(CASES), len(TYPED_CASES)) == (404, 6)
