"""AppConfig's engine for Node.js agrees with Python's over random flag sets and contexts.

A dose runs with every `make test`; `make differential` compares 100,000 evaluations.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from differential import appconfig_cases as cases
from flagstore.codec import dumps
from flagstore.evaluation import base
from flagstore.evaluation.appconfig import AppConfigEngine
from flagstore.rollout import Rollout
from node.processes import node
from sdks.processes import started
from simulators.flag_items import Items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sdks.processes import Ask

    type Make = Callable[[Random], tuple[Any, dict[str, Any], list[Any]]]

SCRIPT = Path(__file__).with_name("appconfig.cjs")
DOSE, WHOLE = 5_000, 100_000
PATTERN = re.compile(r'"(?:[^"\\]|\\.)*"')
PROFILE = "ba8toh7/pgil2o7/ga3tqep"


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Start the engine for Node.js; yield the function that sends it a task."""
    with started([node(), SCRIPT], {}) as found:
        yield found


def python(meta: Any, flags: dict[str, Any], contexts: list[Any], keys: list[str]) -> list[Any]:
    """Return what Python's engine says, as the script returns it."""
    engine = AppConfigEngine(Items(meta, flags=json.loads(json.dumps(flags))))
    return [
        [_listed(engine.evaluate(key, engine.context(each))) for key in keys] for each in contexts
    ]


def _listed(found: base.Evaluation) -> list[Any]:
    value = None if found.value is base.ABSENT else json.dumps(found.value)
    variant, config = found.variant, found.config
    return [value, variant, found.reason, found.error, found.rule, found.rule_index, config]


def same_json(found: list[Any]) -> list[Any]:
    """Write an evaluation's JSON as Python does, with 1 and 1.0 kept apart."""
    return [None if found[0] is None else json.dumps(json.loads(found[0])), *found[1:]]


def whole(value: Any) -> Any:
    """Return a float that JavaScript does not tell from an integer as one."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_whole else value


def compare(ask: Ask, make: Make, count: int, seed: int) -> tuple[Counter[str], Counter[str]]:
    """Compare evaluations; count outcomes, and verdicts of rules with one operator."""
    outcomes: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    random, done = Random(seed), 0
    while done < count:
        meta, flags, contexts = make(random)
        keys = [*flags, "hasOwnProperty"] if random.random() < 0.1 else [*flags]
        sections = {"flags": [(key, dumps(flag)) for key, flag in flags.items()]}
        answer = ask(
            task="evaluated",
            meta=meta,
            sections=sections,
            keys=keys,
            contexts=[*map(cases.wire, contexts)],
        )
        ours = python(
            meta, flags, [{k: whole(v) for k, v in each.items()} for each in contexts], keys
        )
        for context, row, expected in zip(contexts, answer["result"], ours, strict=True):
            for key, found, other in zip(keys, row, expected, strict=True):
                assert same_json(found) == other, (
                    meta,
                    json.dumps(flags.get(key)),
                    context,
                    found,
                    other,
                )
                outcomes[other[3] or other[2]] += 1
                verdicts.update(verdict_of(flags.get(key), meta, other))
                done += 1
        assert answer["warnings"] == []
    return outcomes, verdicts


def verdict_of(flag: Any, meta: Any, found: list[Any]) -> list[str]:
    """Return the verdict of an operator, if a flag's only rule has just this one."""
    try:
        first, _ = flag["_variants"]
        simple = re.fullmatch(r"\s*\(([a-z_]+) [^()]*\)\s*", PATTERN.sub("", first["rule"]))
    except (KeyError, TypeError, ValueError):
        return []
    if simple is None or meta["format"] == "freeform" or found[3] == base.MALFORMED_FLAG:
        return []
    verdict = "unknown" if found[3] else "true" if found[5] == 0 else "false"
    return [f"{simple[1]}/{verdict}"] if simple[1] in cases.OPERATORS else []


def rare(outcomes: Counter[str], verdicts: Counter[str], count: int) -> dict[str, int]:
    """Return what was too rare to show a difference."""
    reasons = (base.RULE_MATCH, base.FALLTHROUGH, base.OFF, base.UNSUPPORTED, base.MALFORMED_FLAG)
    operators = [name for name in cases.OPERATORS if name not in {"and", "or", "not", "literal"}]
    expected = {
        f"{name}/{verdict}" for name in operators for verdict in ("true", "false", "unknown")
    }
    expected.discard("exists/unknown")
    few = {name: outcomes[name] for name in reasons if outcomes[name] < count / 50}
    return few | {name: verdicts[name] for name in expected if verdicts[name] < count / 5_000}


def test_dose(ask: Ask) -> None:
    """Thousands of evaluations do not differ, and give every operator every verdict."""
    assert rare(*compare(ask, cases.mixed, DOSE, 1), DOSE) == {}


def test_dose_of_patterns(ask: Ask) -> None:
    """The same patterns are refused, and the same texts for them; the others match the same."""
    _, verdicts = compare(ask, cases.patterns, DOSE, 2)
    assert min(verdicts[f"matches/{verdict}"] for verdict in ("true", "false", "unknown")) > 100


@pytest.mark.campaign
@pytest.mark.parametrize("make", [cases.mixed, cases.patterns])
def test_all(ask: Ask, make: Make) -> None:
    """A hundred thousand evaluations do not differ."""
    outcomes, verdicts = compare(ask, make, WHOLE, 20)
    if make is cases.mixed:
        assert rare(outcomes, verdicts, WHOLE) == {}
    print(f"\n{outcomes}\n{dict(sorted(verdicts.items()))}")


# -- gradual deployments ---------------------------------------------------------------------------


def deployment(number: int) -> dict[str, Any]:
    """Return a flag set in which a deployment is in progress."""
    fields = {"ConfigurationVersion": "3", "PreviousVersion": "2", "RemovedFlags": []}
    sections = {"deployments": [(f"{number}", json.dumps(fields))], "new_flags": []}
    return {"meta": {"profile": PROFILE}, "sections": sections}


def rollout(number: int, by: str = "", earlier: Rollout | None = None) -> Rollout:
    """Return Python's choice for the same flag set."""
    found = deployment(number)
    texts = {section: dict(items) for section, items in found["sections"].items()}
    snapshot: Any = SimpleNamespace(
        meta=found["meta"], texts=texts.get, keys=lambda section: [*texts[section]],
        changed=lambda *_: None, snapshot_record=None,
    )  # fmt: skip
    return Rollout(snapshot, by, earlier)


@pytest.mark.parametrize("percentage", [0, 0.000001, 1, 12.5, 33.333333, 40.0, 99.9999996, 100])
def test_same_entities_have_the_new_version(ask: Ask, percentage: float) -> None:
    """Of 10,000 entities, both choose the same."""
    random = Random(7)
    entities = [f"user-{number}" for number in range(9_000)]
    entities += ["".join(random.choices("aé👋 \n1", k=random.randint(1, 30))) for _ in range(1_000)]
    for number in (1, 7, 12_345):
        task = {"percentage": percentage, "entities": [each.encode().hex() for each in entities]}
        found = ask(task="chosen", **deployment(number), **task)["result"]
        python = rollout(number, "key")
        assert found == [python.has_new({"key": each}, percentage) for each in entities]
        assert abs(100 * sum(found) / len(found) - percentage) < 2


def test_same_percentages(ask: Ask) -> None:
    """Steps are taken and confirmed, refused and taken back as in Python."""
    random = Random(3)
    odd = ["", "[]", "{}", "[7]", "7", "[", '[7,"DEPLOYING",20,40,0,1]', '[8,"DEPLOYING",90,95,0]']
    seen: Counter[float] = Counter()
    for _ in range(200):
        moments, now = [], 1_000.0
        for _ in range(20):
            now += random.choice([0, 30, 60])
            at, due = random.choice([0, 20, 40, 100]), random.choice([0, int(now * 1000) + 60_000])
            text = json.dumps([7, "DEPLOYING", at, min(at + 20.5, 100), due])
            text = moments[-1]["text"] if moments and random.random() < 0.5 else text
            text = random.choice(odd) if random.random() < 0.1 else text
            flags = {"stale": random.random() < 0.2, "again": random.random() < 0.2}
            moments.append({"text": text, "now": now, **flags})
        expected, python = [], rollout(7)
        for moment in moments:
            python = rollout(7, earlier=python) if moment["again"] else python
            expected.append(python.percentage(moment["text"], moment["now"], stale=moment["stale"]))
        assert ask(task="percentages", **deployment(7), moments=moments)["result"] == expected
        seen.update(expected)
    assert len(seen) > 5
