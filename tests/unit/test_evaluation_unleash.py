"""What the specification and the campaign do not look at: lots, reasons, faults, and contexts."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any

import pytest

from flagstore.errors import NotPublishedError
from flagstore.evaluation import base
from flagstore.evaluation.base import ABSENT, ContextError, EngineConfig, Evaluation
from flagstore.evaluation.murmur3 import mixed, murmur3_32
from flagstore.evaluation.unleash import UnleashEngine, engine

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_790_000_000.25


class Set:
    """A flag set in memory; counts what is asked of it."""

    def __init__(self, *flags: dict[str, Any], **segments: Any) -> None:
        self.meta: dict[str, Any] = {"version": 2}
        self.asked: list[str] = []
        self._flags = {flag["name"]: flag for flag in flags}
        self._segments = segments

    def item(self, section: str, key: str) -> Any:
        """Return a flag or a segment."""
        self.asked.append(key)
        return (self._flags if section == "flags" else self._segments).get(key)


def settings(random: Callable[[], float] = lambda: 0.5, **given: Any) -> EngineConfig:
    """Make settings with a clock that stands."""
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
    """Evaluate one flag that is alone in its set."""
    ours = engine(Set(given), of or settings())
    return ours.evaluate(given["name"], ours.context(context or {}))


# -- lots ------------------------------------------------------------------------------------------

DRAWS = (0.0, 0.25, 0.5, 0.75, math.nextafter(1, 0), 1.0)


@pytest.mark.parametrize("issued", DRAWS)
@pytest.mark.parametrize("stickiness", ["default", "random"])
def test_a_rollout_by_lot_hashes_a_number_from_1_to_9999(issued: float, stickiness: str) -> None:
    """A draw stands for 1 + floor(9999 r), which is hashed with the group as a user would be."""
    number = min(9999, 1 + int(9999 * issued))
    for percentage in range(101):
        on = murmur3_32(mixed(f"g:{number}".encode()), 0) % 100 + 1 <= percentage
        one = ask(flag("f", rollout(percentage, stickiness)), of=settings(lambda: issued))
        assert one.value is on


@pytest.mark.parametrize(
    ("issued", "number"), [(0.0, 1), (0.5, 50), (math.nextafter(1, 0), 99), (1.0, 99)]
)
def test_a_gradual_rollout_by_lot_is_from_1_to_99(issued: float, number: int) -> None:
    """A draw stands for 1 + floor(99 r), which must be less than the percentage."""
    for percentage in range(102):
        strategy = {"name": "gradualRolloutRandom", "parameters": {"percentage": str(percentage)}}
        one = ask(flag("f", strategy), of=settings(lambda: issued))
        assert one.value is (number < percentage)


@pytest.mark.parametrize(
    ("issued", "name"),
    [(0.0, "a"), (0.29, "a"), (0.31, "b"), (math.nextafter(1, 0), "b"), (1.0, "b")],
)
def test_a_variant_by_lot_is_by_its_weight(issued: float, name: str) -> None:
    """A draw stands for 1 + floor(n r) of the sum of the weights; both ends have a variant."""
    variants = [{"name": "a", "weight": 3}, {"name": "b", "weight": 7}]
    assert ask(flag(variants=variants), of=settings(lambda: issued)).variant == name


def test_one_draw_decides_a_variant() -> None:
    """What does not need luck draws nothing, and a variant draws once."""
    draws: list[float] = []

    def random() -> float:
        draws.append(0.5)
        return 0.5

    variants = [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]
    given = flag("f", rollout(50), variants=variants)
    ask(given, {"userId": "u"}, settings(random))
    assert draws == []
    ask(flag(variants=variants), of=settings(random))
    assert len(draws) == 1


# -- reasons ---------------------------------------------------------------------------------------


def test_outcomes_say_why() -> None:
    """Each way to a value has its reason, and the strategy that matched its name and place."""
    never = having(operator="IN", values=["other"])
    assert ask(flag(enabled=False)) == Evaluation(value=False, reason=base.OFF)
    assert ask(flag()) == Evaluation(value=True, reason=base.FALLTHROUGH)
    assert ask(flag("f", never)) == Evaluation(value=False, reason=base.NO_MATCH)
    matched = Evaluation(value=True, reason=base.RULE_MATCH, rule="flexibleRollout", rule_index=1)
    assert ask(flag("f", never, rollout(100))) == matched
    needy = flag(dependencies=[{"feature": "parent"}])
    failed = Evaluation(value=False, reason=base.PREREQUISITE_FAILED, rule="parent")
    assert ask(needy) == failed


def test_a_flag_that_is_not_there_has_no_value() -> None:
    """An unknown flag is no flag that is off."""
    ours = engine(Set(), settings())
    assert ours.evaluate("f", ours.context({})) == Evaluation(
        ABSENT, reason=base.ERROR, error=base.FLAG_NOT_FOUND
    )


def test_a_variant_comes_with_its_payload() -> None:
    """The payload is the provider's type and value, without what else is in it."""
    payload = {"type": "json", "value": "{}", "more": 1}
    variants = [{"name": "a", "weight": 1, "payload": payload}]
    one = ask(flag("f", rollout(100, variants=variants)))
    assert (one.variant, one.config) == ("a", {"type": "json", "value": "{}"})
    assert (one.reason, one.rule, one.rule_index) == (base.RULE_MATCH, "flexibleRollout", 0)


@pytest.mark.parametrize("enabled", [True, False])
def test_weights_of_no_sum_choose_no_variant(enabled: bool) -> None:
    """The official engine panics over them in get_variant and not in is_enabled: on, no variant.

    As a parent, such a flag lets nothing on, as there.
    """
    parent = flag("p", variants=[{"name": "a", "weight": 0}])
    child = flag("c", dependencies=[{"feature": "p", "enabled": enabled}])
    assert ask(parent) == Evaluation(value=True, reason=base.FALLTHROUGH)
    ours = engine(Set(parent, child), settings())
    assert ours.evaluate("c", ours.context({})).reason == base.PREREQUISITE_FAILED


# -- constraints -----------------------------------------------------------------------------------

BORDERS = {
    "NUM": ("4.9", "5", "5.1"),
    "DATE": ("2022-01-01T00:00:00.999Z", "2022-01-01T00:00:01.000Z", "2022-01-01T00:00:01.001Z"),
    "SEMVER": ("1.2.3-rc.1", "1.2.3", "1.2.4"),
}
"""Just below a constraint's value, the value, just above."""


@pytest.mark.parametrize(
    ("operator", "fits"),
    [
        ("NUM_EQ", (False, True, False)),
        ("NUM_GT", (False, False, True)),
        ("NUM_GTE", (False, True, True)),
        ("NUM_LT", (True, False, False)),
        ("NUM_LTE", (True, True, False)),
        ("DATE_AFTER", (False, False, True)),
        ("DATE_BEFORE", (True, False, False)),
        ("SEMVER_EQ", (False, True, False)),
        ("SEMVER_GT", (False, False, True)),
        ("SEMVER_GTE", (False, True, True)),
        ("SEMVER_LT", (True, False, False)),
        ("SEMVER_LTE", (True, True, False)),
    ],
)
@pytest.mark.parametrize("inverted", [False, True])
def test_an_order_is_told_apart_at_its_border(
    operator: str, fits: tuple[bool, ...], inverted: bool
) -> None:
    """Below, at and above the value, as the official engine (yggdrasil 2.0.0) says."""
    given = BORDERS[operator.partition("_")[0]]
    rule = having(operator=operator, value=given[1], inverted=inverted)
    found = tuple(ask(flag("f", rule), {"properties": {"x": value}}).value for value in given)
    assert found == tuple(each is not inverted for each in fits)


@pytest.mark.parametrize("operator", ["SEMVER_EQ", "SEMVER_GT", "SEMVER_GTE", "SEMVER_LT"])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_version_with_a_leading_v_fits_nothing(operator: str, inverted: bool) -> None:
    """In the constraint it is never true, not even inverted: the official engine's own rule."""
    rule = having(operator=operator, value="v1.2.3", inverted=inverted)
    for value in ("1.2.2", "1.2.3", "1.2.4", "v1.2.3"):
        assert ask(flag("f", rule), {"properties": {"x": value}}).reason == base.NO_MATCH


def test_a_version_of_a_context_with_a_leading_v_is_no_version() -> None:
    """It fits no comparison, so an inverted one holds."""
    for inverted in (False, True):
        rule = having(operator="SEMVER_EQ", value="1.2.3", inverted=inverted)
        assert ask(flag("f", rule), {"properties": {"x": "v1.2.3"}}).value is inverted


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        having(operator="SEMVER_NEQ", value="1.2.3"),
        having(operator="NUM_EQ", value="five"),
        having(operator="NUM_EQ"),
        having(operator="STR_CONTAINS", values=[]),
        {"name": "default", "segments": [9]},
        rollout(101),
    ],
)
def test_a_flag_that_cannot_be_compiled_is_off_as_in_the_official_engine(
    given: dict[str, Any],
) -> None:
    """Off, with the fault named, even if another strategy would match."""
    off = Evaluation(value=False, reason=base.ERROR, error=base.MALFORMED_FLAG)
    assert ask(flag("f", rollout(100), given)) == off


@pytest.mark.parametrize(
    "given",
    [
        {"name": "f", "strategies": []},
        flag("f", having(values=["a"])),
        flag("f", {"name": "flexibleRollout", "parameters": {"rollout": 50}}),
        flag("f", having(operator="IN", values=[5])),
        flag("f", having(operator="IN", values="ab")),
        flag("f", having(operator="NUM_EQ", value=5)),
        flag("f", having(operator="IN", values=[], inverted=None)),
        flag(variants=[{"name": "a", "weight": 1.5}]),
        flag(variants=[{"name": "a", "weight": 2**31}]),
        flag(variants=[{"weight": 1}]),
        {"name": "f", "enabled": "yes", "strategies": []},
        flag("f", having(operator="IN", values=["\ud800"]) | rollout(50) | {"parameters": 5}),
        {"name": "f", "enabled": True, "strategies": {}},
        flag(variants={}),
        flag(dependencies={}),
        flag(dependencies=[{"feature": "g", "enabled": "yes"}]),
        flag("f", {"parameters": {}}),
        flag("f", {"name": 5}),
        flag("f", {"name": "default", "constraints": {}}),
        flag("f", {"name": "default", "segments": {}}),
        flag("f", {"name": "default", "segments": ["9"]}),
        flag("f", {"name": "default", "variants": {}}),
        flag("f", {"name": "default", "parameters": []}),
        flag("f", {"name": "custom", "parameters": {"a": None}}),
        flag(variants=[{"name": "v", "weight": 1, "overrides": {}}]),
        flag(
            variants=[{"name": "v", "weight": 1, "overrides": [{"contextName": "x", "values": ""}]}]
        ),
    ],
)
def test_what_the_official_engine_takes_no_set_with_has_no_value(given: dict[str, Any]) -> None:
    """It refuses the whole document; here it is the flag alone, and the caller's default."""
    assert ask(given) == Evaluation(ABSENT, reason=base.ERROR, error=base.MALFORMED_FLAG)


@pytest.mark.parametrize(
    "strategy",
    [
        having(operator="NUM_GT", value="5 or true"),
        having(operator="NUM_GT", value="5) or (true"),
        having(operator="IN", values=["a\\", ", ", "b"]),
        {"name": "default", "constraints": [{"contextName": 'x"] in ["a', "operator": "IN"}]},
        rollout(50, 'x"] or true or context["'),
        {"name": "remoteAddress", "parameters": {"IPs": '1.2.3.4", "::/0"] or '}},
    ],
)
def test_texts_that_may_be_rules_are_not_guessed_at(strategy: dict[str, Any]) -> None:
    """What the official engine could take for a part of its language has no value here."""
    assert ask(flag("f", strategy), {"x": "6"}).error == base.UNSUPPORTED


def test_a_regular_expression_that_is_not_known_has_no_value_where_it_counts() -> None:
    """It is said where it is reached; another strategy may match before it."""
    strategy = having(operator="REGEX", value=r"\p{Greek}")
    assert ask(flag("f", strategy), {"x": "\u03b1"}).error == base.UNSUPPORTED
    assert ask(flag("f", strategy)).reason == base.NO_MATCH
    assert ask(flag("f", rollout(100), strategy), {"x": "\u03b1"}).value is True


def test_a_large_segment_that_cannot_be_read_is_tried_again() -> None:
    """Nothing is kept of a flag whose segment is not there yet."""

    class Late(Set):
        late = True

        def item(self, section: str, key: str) -> Any:
            if section == "segments" and self.late:
                raise NotPublishedError("not there")
            return super().item(section, key)

    items = Late(flag("f", {"name": "default", "segments": [1]}), **{"1": {"constraints": []}})
    ours = engine(items, settings())
    context = ours.context({})
    assert ours.evaluate("f", context).error == base.SEGMENT_UNAVAILABLE
    items.late = False
    assert ours.evaluate("f", context).value is True


def test_a_flag_is_read_once() -> None:
    """The second question asks the flag set for nothing."""
    items = Set(flag("f", {"name": "default", "segments": [1]}), **{"1": {"constraints": []}})
    ours = engine(items, settings())
    first = ours.evaluate("f", ours.context({}))
    asked = list(items.asked)
    assert ours.evaluate("f", ours.context({"userId": "u"})) is first
    assert items.asked == asked


# -- custom strategies -----------------------------------------------------------------------------


def test_a_custom_strategy_gets_what_the_official_client_gives() -> None:
    """Its parameters, and a context of texts with properties; the flag's own are not changed."""
    seen: list[tuple[Any, Any]] = []

    def apply(parameters: dict[str, Any], context: Any) -> bool:
        seen.append((dict(parameters), context))
        parameters.clear()
        return True

    given = flag("f", {"name": "mine", "parameters": {"a": "b"}})
    of = settings(strategies={"mine": apply}, app_name="app", environment="env")
    assert ask(given, {"userId": 5, "x": None, "properties": {"y": True}}, of).value is True
    context = {
        "userId": "5",
        "x": "None",
        "appName": "app",
        "environment": "env",
        "currentTime": "2026-09-21T14:13:20.250000+00:00",
        "properties": {"x": "None", "y": "True"},
    }
    assert seen == [({"a": "b"}, context)]
    assert given["strategies"][0]["parameters"] == {"a": "b"}


def test_a_custom_strategy_that_fails_is_an_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged, and the flag has no value."""

    def apply(*_: Any) -> bool:
        raise RuntimeError("mine")

    of = settings(strategies={"mine": apply})
    one = ask(flag("f", {"name": "mine"}), of=of)
    assert one == Evaluation(ABSENT, reason=base.ERROR, error=base.EXCEPTION)
    assert "mine" in caplog.text


def test_a_host_name_is_that_of_nobody() -> None:
    """The official Python engine does not know its host's name; SDKs of other languages do."""
    for names in ({"hostNames": "a, Host"}, {}):
        assert ask(flag("f", {"name": "applicationHostname", "parameters": names})).value is False


# -- contexts --------------------------------------------------------------------------------------


def context_of(given: dict[str, Any], **more: Any) -> Any:
    """Return what an engine makes of a context."""
    return engine(Set(), settings(**more)).context(given)


@pytest.mark.parametrize("name", ["userId", "key", "targetingKey", "targeting_key"])
def test_the_user_has_many_names(name: str) -> None:
    """Each name of the user's key is one; the first in the order is taken, the others are left."""
    assert context_of({name: 5})["userId"] == "5"
    assert context_of({name: "u", "targeting_key": "last", "z": 1})["userId"] in ("u", "last")
    assert context_of({"key": None, "targetingKey": "t"})["userId"] == "t"
    assert context_of({"userId": None, "key": "k"})["userId"] == "None"


def test_what_the_official_client_takes_for_a_property_is_no_user() -> None:
    """``user_id`` is one that people may mean otherwise."""
    assert context_of({"user_id": 5})["userId"] is None
    assert context_of({"user_id": 5})["user_id"] == "5"


def test_a_context_stays_as_it_is() -> None:
    """The caller's mapping is not changed, and neither are its properties."""
    given = {"userId": 5, "properties": {"a": 1, "currentTime": "x"}}
    context_of(given)
    assert given == {"userId": 5, "properties": {"a": 1, "currentTime": "x"}}


def test_values_are_texts_as_the_official_client_writes_them() -> None:
    """A member of an enumeration is its name, and a key may be a number."""

    class Plan(enum.StrEnum):
        PRO = "pro"

    class Old(str, enum.Enum):  # noqa: UP042 - the older way, which writes itself otherwise
        PRO = "pro"

    context = context_of(
        {"a": Plan.PRO, "b": Old.PRO, "c": [1], "d": 1.0, Plan.PRO: 1, 7: 8, None: 0}
    )
    assert [context[name] for name in "abcd"] == ["pro", "Old.PRO", "[1]", "1.0"]
    assert (context["pro"], context["7"], context["null"]) == ("1", "8", "0")


@pytest.mark.parametrize(
    "given",
    [
        {"userId": "\ud800"},
        {"properties": {"a": "\ud800"}},
        {"properties": "text"},
        {"properties": 5},
        {(1, 2): 3},
        {"context": "x"},
        None,
        "text",
    ],
)
def test_a_context_that_no_flag_can_be_evaluated_for_is_refused(given: Any) -> None:
    """What the official client raises for, or has every flag off for, is said."""
    with pytest.raises(ContextError) as raised:
        context_of(given)
    assert raised.value.args[0] == base.CONTEXT_INVALID


@pytest.mark.parametrize(
    ("setting", "meta", "expected"),
    [
        ("mine", {"query": {"environment": "theirs"}}, "mine"),
        ("", {"query": {"environment": "theirs"}}, "theirs"),
        ("", {"query": {}}, "default"),
        ("", {"query": None}, "default"),
        ("", {}, "default"),
    ],
)
def test_the_environment_is_the_settings_or_the_documents(
    setting: str, meta: dict[str, Any], expected: str
) -> None:
    """Where nothing is set it is what the document is for, else the official client's default."""
    items = Set()
    items.meta = meta
    ours: UnleashEngine = engine(items, settings(environment=setting))
    assert ours.context({})["environment"] == expected
    assert ours.context({"environment": "given"})["environment"] == "given"


def test_the_time_is_that_of_the_question() -> None:
    """A context that is kept does not stop the clock."""
    now = [0.0]
    items = Set(flag("f", having(operator="DATE_AFTER", value="2022-01-01T00:00:00Z")))
    items.item("flags", "f")["strategies"][0]["constraints"][0]["contextName"] = "currentTime"
    ours = engine(items, EngineConfig(now=lambda: now[0], random=lambda: 0.5))
    context = ours.context({})
    assert ours.evaluate("f", context).value is False
    assert context["currentTime"] == "1970-01-01T00:00:00+00:00"
    now[0] = NOW
    assert ours.evaluate("f", context).value is True
    assert context["currentTime"] == "2026-09-21T14:13:20.250000+00:00"


# -- hashes and regular expressions ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seed", "expected"),
    [
        # Published with the algorithm, and in Wikipedia's article on it.
        ("", 0, 0),
        ("", 1, 0x514E28B7),
        ("", 0xFFFFFFFF, 0x81F16F39),
        ("test", 0, 0xBA6BD213),
        ("test", 0x9747B28C, 0x704B81DC),
        ("Hello, world!", 0, 0xC0363E43),
        ("Hello, world!", 0x9747B28C, 0x24884CBA),
        ("The quick brown fox jumps over the lazy dog", 0, 0x2E4FF723),
        ("The quick brown fox jumps over the lazy dog", 0x9747B28C, 0x2FA826CD),
    ],
)
def test_murmur_has_the_published_values(text: str, seed: int, expected: int) -> None:
    """MurmurHash3, x86, 32 bits."""
    assert murmur3_32(mixed(text.encode()), seed) == expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1023, 0xDB915E2C),
        (1024, 0x17B1A00A),
        (1025, 0xD882D746),
        (1027, 0xD6EDAB2F),
        (2048, 0xE8BD13F6),
        (2050, 0x553292C4),
    ],
)
def test_murmur_of_long_texts_is_that_of_the_chunks(length: int, expected: int) -> None:
    """Texts are mixed by the kilobyte, and hashed as mmh3 5.3.1 hashes them."""
    assert murmur3_32(mixed(bytes(at % 251 for at in range(length))), 7) == expected


def test_murmur_takes_time_that_is_linear_in_the_text() -> None:
    """Two megabytes are hashed as mmh3 5.3.1 does; by the square of the length it were minutes."""
    assert murmur3_32(mixed(b"ada, " * 400_000 + b"bob"), 0) == 593_363_248


def test_murmur_takes_texts_of_any_length() -> None:
    """Lengths beyond what is prepared are hashed alike, each to a number of its own."""
    found = {murmur3_32(mixed(b"x" * length), 0) for length in range(400)}
    assert len(found) == 400
    assert all(0 <= value < 1 << 32 for value in found)


def test_a_custom_strategy_that_breaks_tells_no_log_of_the_context(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has where it broke; what the exception says may quote a user."""

    def apply(_parameters: dict[str, Any], context: Any) -> bool:
        raise LookupError(context["userId"])

    ours = engine(Set(flag("f", {"name": "mine"})), settings(strategies={"mine": apply}))
    assert ours.evaluate("f", ours.context({"key": "secret-of-a-user"})).error == base.EXCEPTION
    assert "flag 'f' was not evaluated: LookupError" in caplog.text
    assert "in apply" in caplog.text
    assert "secret-of-a-user" not in caplog.text


def test_nothing_is_kept_of_flags_that_are_not_there() -> None:
    """A name that callers make up for each user takes no memory."""
    ours = engine(Set(flag("f")), settings())
    context = ours.context({"key": "ada"})
    for name in ("f", "never", "f"):
        ours.evaluate(name, context)
    assert list(ours._evaluators) == ["f"]
