"""Split: our engine beside splitio_client's client, over flag sets and contexts made up.

The reference is ``Client.get_treatment_with_config`` with its own input validation, its evaluation
data and its evaluator. Definitions come from storages that parse them when they are asked for, by
the SDK's own parsers, and take a ValueError or TypeError for a definition that is not there: so
does the SDK's Redis storage, the one that reads what a store holds. Labels are read where the
evaluator returns them.

Hypothesis gives the seeds; what is made up from one is drawn evenly, so that rare things are met as
often as planned.

Left out, and counted: keys beyond the basic multilingual plane that the legacy hash is asked for
(the published files win over the SDK). Not generated: lists of words that mix texts with others
(the SDK goes through them in an order that changes from run to run).
"""

from __future__ import annotations

import copy
import logging
import queue
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from splitio.client.client import Client
from splitio.client.key import Key
from splitio.engine.evaluator import Evaluator
from splitio.models import rule_based_segments, segments, splits
from splitio.models.fallback_config import FallbackTreatmentCalculator
from splitio.models.grammar.matchers.base import Matcher
from splitio.storage.inmemmory import InMemorySegmentStorage

from differential.campaign import Tally, run
from flagstore.evaluation.base import ABSENT, ContextError, Settings
from flagstore.evaluation.split import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from random import Random

CONTROL = "control"
SETTINGS = Settings(now=lambda: 0.0, random=lambda: 0.5)

# -- contexts --------------------------------------------------------------------------------------

WORDS = ["a", "b", "c", "ab", "cab", "true", "5", "é", "𝒳", "", "control"]
SECONDS = [0, 59, 60, 61, 86_399, 86_400, 1_458_240_947, 1_458_240_959, 1_458_172_800]
NUMBERS = [-1, 0, 1, 4, 5, 6, 10**18]
VERSIONS = ["1.0.0", "1.0.0-rc.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0-alpha", "1.2.3", "1.10.0"]
VERSIONS += ["1.0.0+m", "01.0.0", "1.0.0-rc.01", "1.0.0-rc", "1.0.0-rc.beta", "1.0.0-rc.1+m"]
ODD_VERSIONS = ["1.0", "1.0.0-", "1.0.0+", "a.b.c", " 1.0.0", "1.0.0-²", "1.0.0-٣", "1_0.0.0", ""]
NUMERALS = ["5", " 5", "٥", "5_0", "5.0", "-1", "six", "60", "86400", "1458240947", "0"]
TRUTHS = ["true", "TRUE", " true", "false", "False\n", "yes", "1", "\u00a0true", "tru e", '"true"']
TEXTS = {
    "word": WORDS,
    "number": NUMERALS,
    "date": NUMERALS,
    "version": VERSIONS + ODD_VERSIONS,
    "truth": TRUTHS,
    "set": ["", "a", "ab", "cab", "ba", "xyz", "c"],
}
INTS = {"number": NUMBERS, "date": SECONDS}
TYPES = ("str", "int", "float", "bool", "list", "dict", "missing", "text", "other", "None")
LISTS = [[], ["a"], ["b", "a"], ["a", "b", "c"], ["x"], [1], [["a"]], ["a", None], ["ab", "a"]]
DICTS: list[Any] = [{}, {"a": 1}, {"a": 1, "b": 2}, {"x": {1: 2}}, {1: "a"}]
OTHERS: list[Any] = [("a", "b"), {"a"}, frozenset("abc"), b"a", b"true", 5 + 0j, range(2), object]


def pick(draw: Random, *choices: Any) -> Any:
    """Draw one of some."""
    return draw.choice((choices))


def some(draw: Random, choices: list[Any], most: int = 3) -> list[Any]:
    """Draw a few of some."""
    return draw.sample(choices, draw.randint(0, min(most, len(choices))))


def value_of(draw: Random, kind: str, attribute: str) -> Any:
    """Make up a value of a type for an attribute."""
    pools: dict[str, list[Any]] = {
        "str": TEXTS[attribute],
        "text": TEXTS[attribute],
        "int": INTS.get(attribute, [0, 1, 5]),
        "float": [5.0, 5.5, 0.0, -1.0, float("nan"), float("inf"), 60.0],
        "bool": [True, False],
        "list": LISTS,
        "dict": DICTS,
        "other": OTHERS,
        "None": [None],
    }
    return draw.choice((pools[kind]))


KEYS: list[Any] = ["a", "b", "ab", "user-1", "user-2", "user-3", "user-33", "ключ", "é", "日本"]
KEYS += ["𝒳", "x😀y", "k" * 250, " a ", "5", "control", "true", "1.0.0", "60", "abc", "\ud800"]
ODD_KEYS: list[Any] = [
    5,
    5.5,
    10**20,
    "",
    "  ",
    None,
    True,
    "k" * 251,
    float("nan"),
    ["a"],
    1j,
    b"a",
]
ODD_KEYS += [10**400, "\u2003", float("inf"), {"a": 1}]


def contexts(draw: Random) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Make up ten contexts in which each attribute has each type once: key, bucketing key, rest."""
    offsets = {name: draw.randint(0, len(TYPES) - 1) for name in TEXTS}
    made = []
    for number in range(len(TYPES)):
        attributes = {}
        for name, offset in offsets.items():
            kind = TYPES[(offset + number) % len(TYPES)]
            if kind != "missing":
                attributes[name] = value_of(draw, kind, name)
        odd = draw.randint(0, 24)
        key = draw.choice((KEYS if odd else ODD_KEYS))
        if odd > 12:  # noqa: PLR2004 - about half of them
            key = f"user-{draw.randint(0, 9_999)}"
        bucketing = pick(draw, None, None, None, None, "b-1", "b-2", "é", "😀", 7)
        if odd == 1:
            bucketing = pick(draw, "", True, "k" * 251)
        if draw.randint(0, 30) == 0:
            attributes[""] = "a"
        made.append((key, bucketing, attributes))
    return made


# -- flags -----------------------------------------------------------------------------------------

FITTING = {
    "WHITELIST": "word",
    "STARTS_WITH": "word",
    "ENDS_WITH": "word",
    "CONTAINS_STRING": "word",
    "MATCHES_STRING": "word",
    "EQUAL_TO_BOOLEAN": "truth",
    "EQUAL_TO_SET": "set",
    "CONTAINS_ALL_OF_SET": "set",
    "CONTAINS_ANY_OF_SET": "set",
    "PART_OF_SET": "set",
    "EQUAL_TO": "number",
    "GREATER_THAN_OR_EQUAL_TO": "number",
    "LESS_THAN_OR_EQUAL_TO": "number",
    "BETWEEN": "number",
    "EQUAL_TO_SEMVER": "version",
    "GREATER_THAN_OR_EQUAL_TO_SEMVER": "version",
    "LESS_THAN_OR_EQUAL_TO_SEMVER": "version",
    "BETWEEN_SEMVER": "version",
    "IN_LIST_SEMVER": "version",
    "IN_SEGMENT": "word",
}
"""Matchers that look at an attribute, and the one that suits them."""
WHOLE = ("ALL_KEYS", "IN_SPLIT_TREATMENT", "IN_RULE_BASED_SEGMENT")
KINDS = (*FITTING, *WHOLE)
FLAGS = [f"f{number}" for number in range(12)]
RULE_BASED = ["r0", "r1", "r2", "r3"]
SEGMENTS = {"s0": ["a", "user-1", "ключ", "𝒳"], "s1": ["b", "ab", "5", "user-2"], "s2": []}
TREATMENTS = ["on", "off", "a", "b", "control"]
PATTERNS = ["a", "^a", "b$", "^(a|b)$", "[0-9]", "", r"\d", "(?i)A", "é", "^.$", "a(?=b)", r"^\w+$"]
REACHED = [
    f"{kind}/{name}"
    for kind in FITTING
    for name in ("key", "str", "int", "float", "bool", "list", "dict", "NoneType", "other")
] + [f"{kind}/key" for kind in WHOLE]


def dated(draw: Random, step: int) -> int:
    """Draw milliseconds near the seconds that contexts have."""
    return 1000 * (draw.choice((SECONDS)) + pick(draw, 0, 0, 1, -1, step, -step)) + pick(
        draw, 0, 0, 1, 999
    )


def data_of(draw: Random, kind: str, after: int) -> tuple[dict[str, Any], str | None]:  # noqa: PLR0911 - one each
    """Make up a matcher's data; returns it with the attribute that it suits."""
    attribute = FITTING.get(kind)
    if kind == "IN_SEGMENT":
        return {
            "userDefinedSegmentMatcherData": {"segmentName": pick(draw, *SEGMENTS, "s9")}
        }, attribute
    if kind == "IN_RULE_BASED_SEGMENT":
        name = pick(draw, *RULE_BASED * 5, "r9", None)
        return {"userDefinedSegmentMatcherData": {"segmentName": name}}, None
    if kind == "IN_SPLIT_TREATMENT":
        data = {"split": another(draw, after), "treatments": some(draw, TREATMENTS, 4)}
        return {"dependencyMatcherData": data}, None
    if kind == "EQUAL_TO_BOOLEAN":
        return {"booleanMatcherData": pick(draw, True, False)}, attribute
    if kind == "MATCHES_STRING":
        return {"stringMatcherData": draw.choice((PATTERNS))}, attribute
    if kind == "BETWEEN_SEMVER":
        low, high = pick(draw, *VERSIONS, "1.0"), pick(draw, *VERSIONS, *VERSIONS, "2.0.0")
        return {"betweenStringMatcherData": {"start": low, "end": high}}, attribute
    if kind == "IN_LIST_SEMVER":
        return {
            "whitelistMatcherData": {"whitelist": some(draw, [*VERSIONS, "1.0", ""], 5)}
        }, attribute
    if kind.endswith("SEMVER"):
        return {"stringMatcherData": pick(draw, *VERSIONS, *VERSIONS, "1.0")}, attribute
    if kind in {"EQUAL_TO", "GREATER_THAN_OR_EQUAL_TO", "LESS_THAN_OR_EQUAL_TO", "BETWEEN"}:
        return numeric(draw, kind)
    words = ["a", "b", "c", "x", ""] if kind.endswith("OF_SET") or kind == "EQUAL_TO_SET" else WORDS
    extra = ["[]", "1", "true", "5.0"] if kind == "WHITELIST" else []
    return {"whitelistMatcherData": {"whitelist": some(draw, words + extra, 4)}}, attribute


def numeric(draw: Random, kind: str) -> tuple[dict[str, Any], str]:
    """Make up the data of a matcher of numbers or dates."""
    date = draw.random() < 0.5
    step = 86_400 if kind == "EQUAL_TO" else 60

    def number() -> int:
        return dated(draw, step) if date else pick(draw, *NUMBERS)

    data = {"dataType": "DATETIME" if date else "NUMBER"}
    attribute = "date" if date else "number"
    if kind == "BETWEEN":
        low, high = sorted((number(), number()))
        return {"betweenMatcherData": {**data, "start": low, "end": high}}, attribute
    return {"unaryNumericMatcherData": {**data, "value": number()}}, attribute


def matcher(draw: Random, kind: str, after: int = 0) -> dict[str, Any]:
    """Make up a matcher."""
    data, attribute = data_of(draw, kind, after)
    chance = draw.randint(0, 9)
    if chance == 0:
        attribute = draw.choice(([*TEXTS, ""]))
    elif chance <= 2:
        attribute = None
    selector = {"trafficType": "user", "attribute": attribute}
    if attribute is None and draw.random() < 0.5:
        selector = pick(draw, None, {"trafficType": "user"})
    negate = draw.randint(0, 3) == 0
    return {"matcherType": kind, "negate": negate, "keySelector": selector, **data}


PARTITIONS: list[list[tuple[str, float]]] = [
    [("on", 100)],
    [("on", 100), ("off", 0)],
    [("on", 0), ("off", 100)],
    [("on", 50), ("off", 50)],
    [("on", 1), ("off", 99)],
    [("a", 33), ("b", 33), ("on", 34)],
    [("a", 10), ("b", 20)],
    [("on", 99)],
    [("on", 33.5), ("off", 66.5)],
    [("a", 60), ("b", 60)],
    [("control", 100)],
    [("control", 50), ("on", 50)],
    [],
]


def condition(
    draw: Random, kinds: list[str], after: int = 0, *, parts: bool = True
) -> dict[str, Any]:
    """Make up a condition, with a matcher of each of the kinds."""
    made: dict[str, Any] = {
        "matcherGroup": {
            "combiner": "AND",
            "matchers": [matcher(draw, kind, after) for kind in kinds],
        }
    }
    if draw.randint(0, 9):
        made["conditionType"] = pick(draw, "ROLLOUT", "ROLLOUT", "WHITELIST")
    if parts:
        chosen = draw.choice((PARTITIONS + PARTITIONS[:6] * 2))
        made["partitions"] = [{"treatment": name, "size": size} for name, size in chosen]
        made["label"] = pick(draw, "rule one", "rule two", "in segment all", None, "default rule")
    return made


def damage(draw: Random, flag: dict[str, Any]) -> None:
    """Break a flag in one way."""
    first = flag["conditions"][0] if flag["conditions"] else condition(draw, ["ALL_KEYS"])
    flag["conditions"][:1] = [first]
    group = first["matcherGroup"]
    group["matchers"][:1] = group["matchers"][:1] or [matcher(draw, "ALL_KEYS")]
    one = group["matchers"][0]
    ways: list[Callable[[], Any]] = [
        lambda: flag.pop(pick(draw, "seed", "status", "killed", "conditions", "defaultTreatment")),
        lambda: flag.pop(pick(draw, "changeNumber", "trafficTypeName")),
        lambda: flag.update(seed=pick(draw, None, "1", 1.5)),
        lambda: flag.update(conditions=None),
        lambda: flag.update(trafficAllocation=pick(draw, "50", -1, 101, 50.5, True)),
        lambda: flag.update(configurations=pick(draw, ["on"], "on", [], "")),
        lambda: flag.update(prerequisites=pick(draw, [{"n": "f0"}], 5, [{"n": "f0", "ts": None}])),
        lambda: flag.update(defaultTreatment=pick(draw, None, 5)),
        lambda: flag.update(algo=pick(draw, "2", 3, 2.0, [])),
        lambda: flag.update(sets=pick(draw, 5, ["a"], None)),
        lambda: one.pop(pick(draw, "negate", "matcherType")),
        lambda: one.update(negate=pick(draw, None, 1, 0, "true")),
        lambda: one.update(keySelector=pick(draw, [], "attribute", 5)),
        lambda: one.update(matcherType="WHITELIST", whitelistMatcherData=None),
        lambda: one.update(matcherType="WHITELIST", whitelistMatcherData={"whitelist": [None, 5]}),
        lambda: one.update(matcherType="MATCHES_STRING", stringMatcherData=pick(draw, "(", None)),
        lambda: one.update(matcherType="EQUAL_TO_SEMVER", stringMatcherData=pick(draw, None, 1)),
        lambda: one.update(matcherType="BETWEEN", betweenMatcherData={"dataType": "X"}),
        lambda: one.update(
            matcherType="BETWEEN",
            betweenMatcherData={"dataType": "NUMBER", "start": None, "end": 5},
        ),
        lambda: one.update(
            matcherType="EQUAL_TO",
            unaryNumericMatcherData={"dataType": pick(draw, "NUMBER", "DATETIME"), "value": None},
        ),
        lambda: one.update(matcherType="EQUAL_TO_BOOLEAN", booleanMatcherData=pick(draw, None, 1)),
        lambda: one.update(
            matcherType="IN_SPLIT_TREATMENT",
            dependencyMatcherData={
                "split": pick(draw, None, [], 5),
                "treatments": pick(draw, None, "on"),
            },
        ),
        lambda: group.update(combiner=pick(draw, "OR", None)),
        lambda: first.update(conditionType=pick(draw, "OTHER", None)),
        lambda: first.update(label=pick(draw, 5, ["x"])),
        lambda: first.update(partitions=pick(draw, None, [{"treatment": "on", "size": 101}])),
        lambda: first.update(partitions=[{"treatment": None, "size": 100}]),
        lambda: first.update(partitions=[{"treatment": "on"}]),
    ]
    draw.choice((ways))()


def another(draw: Random, after: int) -> str:
    """Draw a flag to depend on: mostly a later one, or each set would be a tangle of cycles."""
    later = FLAGS[after + 1 :] or ["f99"]
    return str(pick(draw, *later, *later, *later, *FLAGS[:3], "f99"))


def flag(draw: Random, number: int, first: int) -> Any:
    """Make up a flag, with three kinds of matchers from the first on, each in a condition."""
    name = FLAGS[number]
    kinds = [[KINDS[(first + 3 * number + at) % len(KINDS)]] for at in range(3)]
    if draw.random() < 0.5:
        kinds[pick(draw, 0, 1)].append(draw.choice((KINDS)))
    kinds += [["ALL_KEYS"]] if draw.random() < 0.5 else []
    made: dict[str, Any] = {
        "name": name,
        "trafficTypeName": "user",
        "status": pick(draw, "ACTIVE", "ACTIVE", "ARCHIVED", "?"),
        "seed": pick(draw, 1, -1, 467569525, -2094556730, 2**31 - 1, 0),
        "killed": draw.randint(0, 14) == 0,
        "defaultTreatment": pick(draw, "off", "off", "off", "on", "a", "control"),
        "changeNumber": draw.randint(1, 2**41),
        "conditions": [condition(draw, each, number) for each in kinds],
        "algo": pick(draw, 1, 2, 2, None),
        "trafficAllocation": pick(draw, None, 100, 100, 100, 100, 99, 50, 1, 0),
        "trafficAllocationSeed": pick(draw, *[5, -7, -2094556730] * 3, None),
        "configurations": pick(draw, None, {}, {"on": '{"x": 1}', "off": "[]", "control": "1"}),
        "prerequisites": [],
    }
    if draw.randint(0, 7) == 0:
        made["prerequisites"] = [
            {"n": another(draw, number), "ts": draw.sample(TREATMENTS, 3)}
            for _ in range(pick(draw, 1, 2))
        ]
    unusual = draw.randint(0, 29)
    if unusual == 0:
        damage(draw, made)
    elif unusual == 1:
        strange = {"matcherType": pick(draw, "IN_LARGE_SEGMENT", "NEW", None), "negate": False}
        at = draw.choice((made["conditions"]))
        at["matcherGroup"]["matchers"].insert(pick(draw, 0, 1), strange)
    return made


def rule_based(draw: Random, name: str) -> dict[str, Any]:
    """Make up a rule-based segment."""
    kinds = draw.choices(KINDS, k=draw.randint(1, 2))
    excluded = [
        {"name": pick(draw, *SEGMENTS, "s9"), "type": pick(draw, "standard", "standard", "large")}
        if draw.random() < 0.5
        else {"name": pick(draw, *RULE_BASED * 5, "r9"), "type": "rule-based"}
        for _ in range(pick(draw, 0, 0, 1, 2))
    ]
    made: dict[str, Any] = {
        "name": name,
        "changeNumber": 5,
        "status": "ACTIVE",
        "trafficTypeName": "user",
        "conditions": [condition(draw, [kind], 8, parts=False) for kind in kinds],
        "excluded": pick(
            draw,
            {"keys": some(draw, KEYS[:8]), "segments": excluded},
            {"keys": None, "segments": excluded},
            {"keys": some(draw, KEYS[:8]), "segments": None},
            None,
        ),
    }
    unusual = draw.randint(0, 39)
    if unusual == 0:
        made.pop(pick(draw, "status", "conditions", "trafficTypeName"))
    elif unusual == 1:
        made["conditions"][0]["matcherGroup"]["matchers"][0]["matcherType"] = "IN_LARGE_SEGMENT"
    elif unusual == 2:  # noqa: PLR2004 - the third of forty
        made["excluded"] = pick(draw, {"keys": "user-1"}, {"keys": 5}, {"segments": 5}, [])
    return made


def made_up(
    draw: Random,
) -> tuple[dict[str, dict[str, Any]], list[tuple[Any, Any, dict[str, Any]]]]:
    """Make up a flag set, and contexts for it."""
    first = draw.randint(0, len(KINDS) - 1)
    flags = {name: flag(draw, number, first) for number, name in enumerate(FLAGS)}
    sections = {
        "flags": flags,
        "rule_based_segments": {name: rule_based(draw, name) for name in RULE_BASED},
        "segments": {name: {"name": name, "keys": sorted(keys)} for name, keys in SEGMENTS.items()},
    }
    return sections, contexts(draw)


# -- the SDK ---------------------------------------------------------------------------------------


class Parsed:
    """A storage that parses a definition when it is asked for, as the SDK's Redis storage does."""

    def __init__(self, raw: Mapping[str, Any], parse: Callable[[Any], Any]) -> None:
        self._raw = raw
        self._parse = parse
        self._made: dict[str, Any] = {}

    def fetch_many(self, names: list[str]) -> dict[str, Any]:
        """Return definitions by name, None for what is not there."""
        return {name: self._one(name) for name in names}

    def _one(self, name: str) -> Any:
        if name not in self._made:
            raw = self._raw.get(name)
            try:
                self._made[name] = None if raw is None else self._parse(copy.deepcopy(raw))
            except (ValueError, TypeError):
                self._made[name] = None
        return self._made[name]


class Watched(Evaluator):
    """The SDK's evaluator; remembers what it said last."""

    said: Any = None

    def eval_with_context(self, *arguments: Any) -> Any:
        """Evaluate, as ever."""
        try:
            self.said = super().eval_with_context(*arguments)
        except Exception:
            self.said = None
            raise
        return self.said


class Sdk:
    """The SDK's client over a flag set."""

    def __init__(self, sections: dict[str, dict[str, Any]]) -> None:
        known = InMemorySegmentStorage(queue.Queue())
        for name, segment in sections["segments"].items():
            known.put(segments.Segment(name, segment["keys"], 1))
        stores = {
            "splits": Parsed(sections["flags"], splits.from_raw),
            "segments": known,
            "rule_based_segments": Parsed(
                sections["rule_based_segments"], rule_based_segments.from_raw
            ),
            "events": None,
        }
        ignored = SimpleNamespace(
            record_exception=lambda *_: None, record_treatment_stats=lambda *_: None
        )
        factory = SimpleNamespace(
            _get_storage=stores.get,
            _telemetry_evaluation_producer=ignored,
            _telemetry_init_producer=ignored,
            _waiting_fork=lambda: False,
            ready=True,
            destroyed=False,
        )
        fallback = FallbackTreatmentCalculator(None)
        self._client = Client(factory, ignored, None, True, fallback)  # noqa: FBT003 - its signature
        self._evaluator = self._client._evaluator = Watched(None, fallback)
        self._evaluator._splitter = self._client._splitter

    def evaluate(
        self, name: Any, key: Any, bucketing: Any, attributes: dict[str, Any]
    ) -> tuple[Any, Any, str]:
        """Return treatment, configuration and label; where there is none, why."""
        self._evaluator.said = "nothing"
        given = key if bucketing is None else Key(key, bucketing)
        treatment, config = self._client.get_treatment_with_config(given, name, attributes)
        said = self._evaluator.said
        if said == "nothing":
            # It was not asked: the input is invalid, or definitions could not be read.
            return treatment, config, "exception"
        if said is None or said["treatment"] != treatment:
            return treatment, config, "exception"
        label = said["impression"]["label"]
        if label is not None and not isinstance(label, str):
            label = "exception"
        return treatment, config, label or ""


SEEN: list[tuple[str, str]] = []
"""Matchers that the SDK got to since the last case, with what they looked at."""


def watch() -> None:
    """Have the SDK's matchers tell what they look at."""
    plain = Matcher.evaluate

    def evaluate(self: Any, key: Any, attributes: Any = None, context: Any = None) -> Any:
        if self._matcher_type in WHOLE or self._attribute_name is None:
            kind = "key"
        else:
            value = self._get_matcher_input(key, attributes)
            kind = type(value).__name__
            if kind not in {"str", "int", "float", "bool", "list", "dict", "NoneType"}:
                kind = "other"
        SEEN.append((self._matcher_type, kind))
        return plain(self, key, attributes, context)

    Matcher.evaluate = evaluate


# -- both ------------------------------------------------------------------------------------------


class Items:
    """A flag set as an engine reads it."""

    meta: Mapping[str, Any] = {}

    def __init__(self, sections: dict[str, dict[str, Any]]) -> None:
        self._sections = sections

    def item(self, section: str, key: str) -> Any:
        """Return a definition."""
        return self._sections[section].get(key)


def is_astral(*keys: Any) -> bool:
    """Say whether a key is beyond the basic multilingual plane."""
    return any(isinstance(key, str) and any(unit > "\uffff" for unit in key) for key in keys)


def legacy_hash_of_astral_key(sections: Mapping[str, Any], key: Any, bucketing: Any) -> bool:
    """Say whether the SDK's legacy hash may differ from the published files' here."""
    return is_astral(key if bucketing is None else bucketing) and any(
        flag.get("algo") != 2  # noqa: PLR2004 - the newer hash
        for flag in sections["flags"].values()
    )


def outcome_class(treatment: Any, label: str) -> str:
    """Return what is counted for an evaluation."""
    if label in {"definition not found", "exception"}:
        return "default"
    if label == "default rule":
        return "fallthrough"
    if treatment == CONTROL:
        return f"control, {label}" if label.startswith("targeting") else "control"
    return label if label in {"killed", "not in split", "prerequisites not met"} else "condition"


def ours_of(ours: Any, name: Any, given: dict[str, Any]) -> tuple[Any, Any, str]:
    """Evaluate with our engine; returns what is compared."""
    before = dict(given)
    try:
        context = ours.context(given)
    except ContextError:
        return CONTROL, None, "exception"
    assert given.keys() == before.keys()
    outcome = ours.evaluate(name, context)
    again = ours.evaluate(name, context)
    assert again == outcome or again.value != again.value, "not the same twice"  # noqa: PLR0124
    if outcome.value is ABSENT:
        assert outcome.error
        return CONTROL, outcome.config, outcome.rule
    assert not outcome.error
    return outcome.value, outcome.config, outcome.rule


def compare(case: Any, tally: Tally) -> Iterator[tuple[Any, Any, Any]]:
    """Evaluate each flag of a set for each context, on both sides."""
    for name in REACHED:
        tally.reached[name] += 0
    sections, made = case
    sdk, ours = Sdk(sections), engine(Items(copy.deepcopy(sections)), SETTINGS)
    for number, (key, bucketing, attributes) in enumerate(made):
        names = [*FLAGS] if number % 3 else [*FLAGS[1:], f" {FLAGS[0]}\t"]
        if legacy_hash_of_astral_key(sections, key, bucketing):
            for name in FLAGS:
                if sections["flags"][name].get("algo") != 2:  # noqa: PLR2004 - the newer hash
                    tally.excluded["legacy_hash_of_astral_key"] += 1
            continue
        given = {"key": key, **attributes}
        if bucketing is not None:
            given["bucketingKey"] = bucketing
        if number == 0:
            names += ["f99", "  ", None]
        for name in names:
            SEEN.clear()
            theirs = sdk.evaluate(name, key, bucketing, attributes)
            for kind, looked_at in SEEN:
                if kind in KINDS:
                    tally.reached[f"{kind}/{looked_at}"] += 1
            tally.outcomes[outcome_class(theirs[0], theirs[2])] += 1
            mine = ours_of(ours, name, given)
            if not isinstance(name, str) or not name.strip():
                theirs, mine = theirs[:2], mine[:2]
            yield (name, given, sections["flags"].get(name)), theirs, mine


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    watch()
    run(st.builds(made_up, st.randoms(use_true_random=True)), compare)
