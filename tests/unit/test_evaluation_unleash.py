"""Unleash's engine beyond the specification and the campaign: random choices, reasons, faults."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.errors import NotPublishedError
from flagstore.evaluation import base
from flagstore.evaluation.base import ABSENT, ContextError, EngineConfig, Evaluation
from flagstore.evaluation.murmur3 import mixed, murmur3_32
from flagstore.evaluation.unleash import UnleashEngine, engine
from simulators.flag_items import Items
from storesync.model import Verdict
from storesync.providers.unleash import Unleash

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_790_000_000.25


def over(*flags: dict[str, Any], **segments: Any) -> Items:
    """Return a flag set."""
    return Items({"version": 2}, flags={flag["name"]: flag for flag in flags}, segments=segments)


def settings(random: Callable[[], float] = lambda: 0.5, **given: Any) -> EngineConfig:
    """Create settings with a fixed clock."""
    return EngineConfig(now=lambda: NOW, random=random, **given)


def flag(name: str = "f", *strategies: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Make a flag that is on."""
    return {"name": name, "enabled": True, "strategies": list(strategies), **given}


def rollout(percentage: int, stickiness: str = "default", **given: Any) -> dict[str, Any]:
    """Make a strategy for a share of users."""
    parameters = {"rollout": str(percentage), "stickiness": stickiness, "groupId": "g"}
    return {"name": "flexibleRollout", "parameters": parameters, **given}


def having(**constraint: Any) -> dict[str, Any]:
    """Make a strategy with a constraint on the property x."""
    return {"name": "default", "constraints": [{"contextName": "x", **constraint}]}


def ask(
    given: dict[str, Any], context: dict[str, Any] | None = None, of: EngineConfig | None = None
) -> Evaluation:
    """Evaluate the only flag of a set."""
    ours = engine(over(given), of or settings())
    return ours.evaluate(given["name"], ours.context(context or {}))


DRAWS = (0.0, 0.5, math.nextafter(1, 0))


@pytest.mark.parametrize("issued", DRAWS)
@pytest.mark.parametrize("stickiness", ["default", "random"])
def test_random_rollout(issued: float, stickiness: str) -> None:
    """A rollout without a user hashes 1 + floor(9999 r) with the group, as it would a user."""
    number = 1 + int(9999 * issued)
    share = murmur3_32(mixed(f"g:{number}".encode()), 0) % 100 + 1
    for percentage in (share - 1, share):
        one = ask(flag("f", rollout(percentage, stickiness)), of=settings(lambda: issued))
        assert one.value is (percentage == share)


@pytest.mark.parametrize(("issued", "number"), [*zip(DRAWS, (1, 50, 99), strict=True)])
def test_random_gradual_rollout(issued: float, number: int) -> None:
    """``gradualRolloutRandom`` is on where 1 + floor(99 r) is less than the percentage."""
    for percentage in (number, number + 1):
        parameters = {"percentage": f"{percentage:030}"}
        strategy = {"name": "gradualRolloutRandom", "parameters": parameters}
        one = ask(flag("f", strategy), of=settings(lambda: issued))
        assert one.value is (number < percentage)


@pytest.mark.parametrize(("issued", "name"), [(0.0, "a"), (0.29, "a"), (0.31, "b")])
def test_random_variant(issued: float, name: str) -> None:
    """A variant without a user is that of 1 + floor(n r), of the sum of the weights n."""
    variants = [{"name": "a", "weight": 3}, {"name": "b", "weight": 7}]
    assert ask(flag(variants=variants), of=settings(lambda: issued)).variant == name


def test_reasons() -> None:
    """Each way to a value has its reason, and a match the strategy's name and index."""
    never = having(operator="IN", values=["other"])
    assert ask(flag(enabled=False)) == Evaluation(value=False, reason=base.OFF)
    assert ask(flag()) == Evaluation(value=True, reason=base.FALLTHROUGH)
    assert ask(flag("f", never)) == Evaluation(value=False, reason=base.NO_MATCH)
    matched = Evaluation(value=True, reason=base.RULE_MATCH, rule="flexibleRollout", rule_index=1)
    assert ask(flag("f", never, rollout(100))) == matched
    needy = flag(dependencies=[{"feature": "parent"}])
    failed = Evaluation(value=False, reason=base.PREREQUISITE_FAILED, rule="parent")
    assert ask(needy) == failed


def test_unknown_flag() -> None:
    """An unknown flag has no value, unlike one that is off, and its name takes no memory."""
    ours = engine(over(), settings())
    found = ours.evaluate("f", ours.context({}))
    assert found == Evaluation(error=base.FLAG_NOT_FOUND)
    assert not ours._evaluators


def test_earlier_dependencies_are_forgotten() -> None:
    """They fill no memory, flag set after flag set, and no longer make a flag compile again."""
    ours = engine(over(), settings())
    for number in range(3):
        needy = flag(dependencies=[{"feature": f"missing-{number}"}])
        ours = ours.changed(over(needy), {"flags": ["f"]})
        assert ours.evaluate("f", ours.context({})).reason == base.PREREQUISITE_FAILED
    assert list(ours._users) == [("flags", "missing-2")]
    assert not ours.changed(over(), {"flags": ["missing-2"]})._users
    for each in [ours.changed(over(flag()), {"flags": ["f"]}) for _ in range(2)]:
        ours = each
        assert not ours._users
    assert ours.evaluate("f", ours.context({})).value is True
    later = over(flag(), flag("missing-2"))
    ours.changed(later, {"flags": ["missing-2"]}).evaluate("f", ours.context({}))
    assert later.asked == []


def test_weights_of_zero() -> None:
    """A flag whose weights are all zero is on without a variant, and no child can depend on it."""
    parent = flag("p", variants=[{"name": "a", "weight": 0}])
    child = flag("c", dependencies=[{"feature": "p"}])
    assert ask(parent) == Evaluation(value=True, reason=base.FALLTHROUGH)
    ours = engine(over(parent, child), settings())
    assert ours.evaluate("c", ours.context({})).error == base.UNSUPPORTED


@pytest.mark.parametrize(
    "given",
    [
        having(operator="SEMVER_NEQ", value="1.2.3"),
        having(operator="NUM_EQ", value="five"),
        {"name": "default", "segments": [9]},
        rollout(101),
    ],
)
def test_flag_that_does_not_compile(given: dict[str, Any]) -> None:
    """A flag that the official engine cannot compile is off, whatever else is in it."""
    off = Evaluation(value=False, reason=base.ERROR, error=base.MALFORMED_FLAG)
    assert ask(flag("f", rollout(100), given)) == off


@pytest.mark.parametrize(
    "given",
    [
        {"name": "f", "enabled": "yes", "strategies": []},
        flag("f", having(values=["a"])),
        flag("f", having(operator="IN", values=[5])),
        flag("f", having(operator="IN", values=[], inverted=0)),
        flag("f", {"name": "flexibleRollout", "parameters": {"rollout": 50}}),
        flag("f", {"name": "default", "segments": ["9"]}),
        flag(variants=[{"name": "a", "weight": -1}]),
        flag(variants=[{"name": "a", "weight": (1 << 31) - 1}, {"name": "b", "weight": 1}]),
        flag(dependencies=[{"feature": "g", "enabled": "yes"}]),
    ],
)
def test_malformed_flag(given: dict[str, Any]) -> None:
    """A flag for which the official engine refuses the whole document has no value."""
    assert ask(given) == Evaluation(error=base.MALFORMED_FLAG)


QUOTED = {"contextName": 'x"', "operator": "IN"}
IPS = {"IPs": '1.2.3.4", "::/0"] or '}
TIMED = {"parameters": {"stickiness": "currentTime"}, "variants": [{"name": "a", "weight": 1}]}
UNSUPPORTED = [
    (having(operator="NUM_GT", value="5 or true"), "keywords of the official engine"),
    (having(operator="IN", values=["a\\", ", ", "b"]), "a trailing backslash"),
    ({"name": "default", "constraints": [QUOTED]}, "a quote in a name"),
    (rollout(50, 'x"] or true or context["'), "a quote in a name"),
    ({"name": "remoteAddress", "parameters": IPS}, "a quote in a name"),
    ({"name": "default", **TIMED}, "variants that stick to currentTime"),
    (having(operator="DATE_AFTER", value="0000-01-01T00:00:00Z"), "a year before 1"),
    (having(operator="IN_CIDR", values=["10.0.0.0/255.0.0.0"]), "a network with a mask"),
    (having(operator="REGEX", value=r"(a+)+$"), r"regular expression '(a+)+$': repeated group"),
]


@pytest.mark.parametrize(("strategy", "why"), UNSUPPORTED)
def test_unsupported_flag(strategy: dict[str, Any], why: str) -> None:
    """What might differ from the official engine has no value and its reason; it is no damage."""
    given = flag("f", strategy)
    found = ask(given, {"x": "6"})
    assert (found.value, found.error) == (ABSENT, base.UNSUPPORTED)
    assert why in found.rule
    judge = Unleash().judge(over(given))
    assert judge("flags", "f") is Verdict.USABLE


@pytest.mark.parametrize(
    ("child", "why"),
    [
        (flag("c", dependencies=[{"feature": "p"}]), "a parent with custom strategies"),
        (flag("c", {"name": "mine"}, {"name": "applicationHostname"}), "on host names"),
    ],
)
def test_unsupported_custom_strategies(child: dict[str, Any], why: str) -> None:
    """Custom strategies that the official engine mixes up with others are not evaluated."""
    of = settings(strategies={"mine": lambda *_: True})
    ours = engine(over(child, flag("p", {"name": "mine"})), of)
    found = ours.evaluate("c", ours.context({}))
    assert found.error == base.UNSUPPORTED
    assert why in found.rule


def test_unsupported_value_of_a_context() -> None:
    """A date of a context whose year is beyond Python's calendar has no result here."""
    given = flag("f", having(operator="DATE_AFTER", value="2022-01-01T00:00:00Z"))
    assert ask(given, {"x": "+12024-01-01T00:00:00Z"}).error == base.UNSUPPORTED


def test_unsupported_regular_expression_that_is_not_reached() -> None:
    """A regular expression is unsupported only where it counts."""
    strategy = having(operator="REGEX", value=r"\p{Greek}")
    assert ask(flag("f", strategy), {"x": "\u03b1"}).error == base.UNSUPPORTED
    assert ask(flag("f", strategy)).reason == base.NO_MATCH
    assert ask(flag("f", rollout(100), strategy), {"x": "\u03b1"}).value is True


def test_large_segment_that_cannot_be_read() -> None:
    """A flag whose segment cannot be read yet is compiled again at the next use, and then kept."""
    items = over(
        flag("f", {"name": "default", "segments": [1]}), **{"1": NotPublishedError("not there")}
    )
    ours = engine(items, settings())
    context = ours.context({})
    assert ours.evaluate("f", context).error == base.SEGMENT_UNAVAILABLE
    items.sections["segments"]["1"] = {"constraints": []}
    first = ours.evaluate("f", context)
    assert first.value is True
    asked = list(items.asked)
    assert ours.evaluate("f", ours.context({"userId": "u"})) is first
    assert items.asked == asked


class Properties(Mapping[str, Any]):
    """A mapping that is no dictionary, and cannot be joined with one."""

    def __getitem__(self, name: str) -> Any:
        return {"y": True}[name]

    def __iter__(self) -> Iterator[str]:
        return iter("y")

    def __len__(self) -> int:
        return 1


def test_custom_strategy() -> None:
    """A custom strategy gets a copy of its parameters, and a context as UnleashClient gives it."""
    seen: list[tuple[Any, Any]] = []

    def apply(parameters: dict[str, Any], context: Any) -> bool:
        seen.append((dict(parameters), context))
        parameters.clear()
        return True

    given = flag("f", {"name": "mine", "parameters": {"a": "b"}})
    of = settings(strategies={"mine": apply}, app_name="app", environment="env")
    for properties in ({"y": True}, Properties()):
        assert ask(given, {"userId": 5, "x": None, "properties": properties}, of).value is True
    context = {
        "userId": "5",
        "x": "None",
        "appName": "app",
        "environment": "env",
        "currentTime": "2026-09-21T14:13:20.250000+00:00",
        "properties": {"x": "None", "y": "True"},
    }
    assert seen == [({"a": "b"}, context)] * 2
    assert given["strategies"][0]["parameters"] == {"a": "b"}


def context_of(given: dict[str, Any], **more: Any) -> Any:
    """Return an engine's form of a context."""
    return engine(over(), settings(**more)).context(given)


def test_names_of_the_user() -> None:
    """``userId`` may have other names; the first one that has a value is taken."""
    for name in ("userId", "key", "targetingKey", "targeting_key"):
        assert context_of({name: 5})["userId"] == "5"
    assert context_of({"key": None, "targetingKey": "t", "targeting_key": 1})["userId"] == "t"
    assert context_of({"userId": None, "key": "k"})["userId"] == "None"
    assert context_of({"user_id": 5})["userId"] is None  # a property, as in UnleashClient


def test_values_of_a_context() -> None:
    """Values become strings as in UnleashClient."""
    given = {"a": [1], "b": 1.0, "c": None, "properties": {"d": True, "currentTime": "x"}}
    before = copy.deepcopy(given)
    context = context_of(given)
    assert [context[name] for name in "abcd"] == ["[1]", "1.0", "None", "True"]
    assert given == before


@pytest.mark.parametrize(
    "given",
    [
        {"userId": "\ud800"},
        {"properties": {"a": "\ud800"}},
        {"properties": "text"},
        {7: 3},
        {"context": "x"},
        None,
    ],
)
def test_invalid_context(given: Any) -> None:
    """A context for which UnleashClient raises, or has every flag off, is refused."""
    with pytest.raises(ContextError) as raised:
        context_of(given)
    assert raised.value.args[0] == base.CONTEXT_INVALID


@pytest.mark.parametrize(
    ("setting", "meta", "expected"),
    [
        ("mine", {"query": {"environment": "theirs"}}, "mine"),
        ("", {"query": {"environment": "theirs"}}, "theirs"),
        ("", {"query": None}, "default"),
        ("", {}, "default"),
    ],
)
def test_environment(setting: str, meta: dict[str, Any], expected: str) -> None:
    """The environment is the setting, else the document's, else UnleashClient's default."""
    items = over()
    items.meta = meta
    ours: UnleashEngine = engine(items, settings(environment=setting))
    assert ours.context({})["environment"] == expected
    assert ours.context({"environment": "given"})["environment"] == "given"


def test_current_time() -> None:
    """The current time is that of the evaluation, not of the context."""
    now = [0.0]
    items = over(flag("f", having(operator="DATE_AFTER", value="2022-01-01T00:00:00Z")))
    items.item("flags", "f")["strategies"][0]["constraints"][0]["contextName"] = "currentTime"
    ours = engine(items, EngineConfig(now=lambda: now[0], random=lambda: 0.5))
    context = ours.context({})
    assert ours.evaluate("f", context).value is False
    assert context["currentTime"] == "1970-01-01T00:00:00+00:00"
    now[0] = NOW
    assert ours.evaluate("f", context).value is True
    assert context["currentTime"] == "2026-09-21T14:13:20.250000+00:00"


@pytest.mark.parametrize(
    ("text", "seed", "expected"),
    [
        # Published with the algorithm.
        (b"The quick brown fox jumps over the lazy dog", 0x9747B28C, 0x2FA826CD),
        # As mmh3 5.3.1 hashes them; by the square of the length, the last would take minutes.
        (bytes(at % 251 for at in range(1024)), 7, 0x17B1A00A),
        (bytes(at % 251 for at in range(2050)), 7, 0x553292C4),
        (b"ada, " * 400_000 + b"bob", 0, 593_363_248),
    ],
    ids=lambda value: f"{len(value)}" if isinstance(value, bytes) else None,
)
def test_murmur3(text: bytes, seed: int, expected: int) -> None:
    """MurmurHash3 for x86, 32 bits, has the published values, in linear time."""
    assert murmur3_32(mixed(text), seed) == expected
