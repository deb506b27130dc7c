"""The OpenFeature provider by its own methods: types, reasons, errors, contexts, metadata."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from flagstore.adapters.openfeature import FlagstoreProvider, context_of
from flagstore.evaluation import base
from flagstore.evaluation.base import ABSENT, Evaluation
from simulators.stub_flags import StubEngine, StubFlags

if TYPE_CHECKING:
    from collections.abc import Callable

    from openfeature.event import ProviderEvent
    from openfeature.flag_evaluation import FlagResolutionDetails

ADA = EvaluationContext("ada")
HUGE = 10**400
NO_WORDS = {"ABSENT", "NOT_FOUND", "STALE", "TYPE_CHECKING"}


class Fixed(StubFlags):
    """Flags with these evaluations."""

    def __init__(self, provider: str = "launchdarkly", **evaluations: Evaluation) -> None:
        super().__init__(StubEngine(evaluations), provider)


def resolve(flags: StubFlags, kind: str, key: str, default: Any) -> FlagResolutionDetails[Any]:
    """Resolve a flag in both ways, which must agree."""
    provider = FlagstoreProvider(flags)
    found = getattr(provider, f"resolve_{kind}_details")(key, default, ADA)
    later = getattr(provider, f"resolve_{kind}_details_async")(key, default, ADA)
    assert asyncio.run(later) == found
    return found  # type: ignore[no-any-return] # of a method by its name


def on(value: Any, variant: str | int | None = 0, **fields: Any) -> Evaluation:
    """Return an engine's result for a flag that has a value."""
    return Evaluation(value, variant, base.FALLTHROUGH, **fields)


UNLEASH = Fixed(
    "unleash",
    off=Evaluation(False, reason=base.OFF),
    number=on(True, "n", config={"type": "number", "value": "2"}),
)
SPLIT = Fixed("split", no=on("OFF", "OFF"), configured=on("blue", "blue", config='{"limit": 5}'))
JSON = Fixed(
    "launchdarkly",
    yes=on(True),
    text=on("grün"),
    number=on(7),
    part=on(0.5),
    huge=on(HUGE),
    object=on({"a": [1]}),
    list=on([1, {"b": None}]),
    null=on(None),
)


class Color(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("flags", "kind", "key", "default", "value"),
    [
        (JSON, "boolean", "yes", False, True),
        (JSON, "string", "text", Color.RED, "grün"),
        (JSON, "integer", "number", 0, 7),
        (JSON, "float", "part", 1, 0.5),
        (JSON, "float", "number", 0.0, 7.0),
        (JSON, "object", "object", MappingProxyType({"x": 1}), {"a": [1]}),
        (JSON, "object", "list", (1,), [1, {"b": None}]),
        (JSON, "object", "object", [], {"a": [1]}),
        (SPLIT, "boolean", "no", True, False),
        (SPLIT, "object", "configured", {}, {"limit": 5}),
        (UNLEASH, "boolean", "off", True, False),
        (UNLEASH, "float", "number", 0.0, 2.0),
    ],
)
def test_types_of_all_providers(
    flags: Fixed, kind: str, key: str, default: Any, value: Any
) -> None:
    """Exactly the type that was asked for; the default may be of a subtype."""
    found = resolve(flags, kind, key, default)
    assert (found.value, type(found.value)) == (value, type(value))
    assert (found.error_code, found.error_message) == (None, None)
    assert found.reason in {Reason.DEFAULT, Reason.DISABLED}


@pytest.mark.parametrize(
    ("kind", "key", "default"),
    [
        ("boolean", "number", True),
        ("string", "null", "x"),
        ("integer", "yes", 3),
        ("float", "huge", 3.0),
        ("object", "text", {"x": 1}),
        # The default itself is of another type.
        ("boolean", "yes", 1),
        ("integer", "number", True),
        ("integer", "number", 1.0),
        ("float", "part", HUGE),
        ("object", "object", "text"),
        ("string", "text", None),
    ],
)
def test_wrong_type_is_a_mismatch(kind: str, key: str, default: Any) -> None:
    found = resolve(JSON, kind, key, default)
    assert found.value is default
    assert (found.error_code, found.reason) == (ErrorCode.TYPE_MISMATCH, Reason.ERROR)
    assert found.error_message
    assert found.variant is None


@pytest.mark.parametrize(("kind", "default"), [("string", "x"), ("float", 0.5), ("object", (1,))])
def test_flag_that_is_off_gives_the_default(kind: str, default: Any) -> None:
    found = resolve(Fixed(none=Evaluation(ABSENT, None, base.OFF)), kind, "none", default)
    assert (found.value, type(found.value)) == (default, type(default))
    assert (found.reason, found.variant, found.error_code) == (Reason.DISABLED, None, None)


EXPECTED_REASONS = {
    "OFF": "DISABLED",
    "FALLTHROUGH": "DEFAULT",
    "NO_MATCH": "DEFAULT",
    "PREREQUISITE_FAILED": "DEFAULT",
    "TARGET_MATCH": "TARGETING_MATCH",
    "RULE_MATCH": "TARGETING_MATCH",
    "NOT_IN_ROLLOUT": "SPLIT",
    "OVERRIDE": "STATIC",
    "ERROR": "ERROR",
}
EXPECTED_ERRORS = {
    "FLAG_NOT_FOUND": "FLAG_NOT_FOUND",
    "MALFORMED_FLAG": "PARSE_ERROR",
    "WRONG_TYPE": "TYPE_MISMATCH",
    "NO_VALUE": "TYPE_MISMATCH",
    "KEY_MISSING": "TARGETING_KEY_MISSING",
    "CONTEXT_INVALID": "INVALID_CONTEXT",
    "NOT_LOADED": "PROVIDER_NOT_READY",
    "TOO_OLD": "GENERAL",
    "UNSUPPORTED": "GENERAL",
    "SEGMENT_UNAVAILABLE": "GENERAL",
    "EXCEPTION": "GENERAL",
}


def test_reasons_and_errors() -> None:
    """Every word of the engines has a place; an unknown one passes unchanged, or is GENERAL."""
    words = {name for name in vars(base) if name.isupper() and name not in NO_WORDS}
    assert words == {*EXPECTED_REASONS, *EXPECTED_ERRORS}
    for word, reason in (EXPECTED_REASONS | {"NEW_WORD": "NEW_WORD"}).items():
        found = resolve(Fixed(f=Evaluation(True, 0, word)), "boolean", "f", False)
        assert (found.reason, found.flag_metadata["reason"]) == (reason, word)
    for word, code in (EXPECTED_ERRORS | {"NEW_WORD": "GENERAL"}).items():
        found = resolve(Fixed(**{word: Evaluation(error=word)}), "string", word, "x")
        assert (found.value, found.reason, str(found.error_code)) == ("x", Reason.ERROR, code)
        assert found.error_message
        assert word in found.error_message


def test_reasons_of_experiments_overrides_and_stale_flags() -> None:
    flags = Fixed(tried=on(True, in_experiment=True))
    assert resolve(flags, "boolean", "tried", False).reason == Reason.SPLIT
    flags.known = {"overrides": {"mine": True}, "stale": True, "age_s": 61.5}
    found = resolve(flags, "boolean", "tried", False)
    assert found.reason == Reason.STALE
    assert found.flag_metadata["reason"] == base.FALLTHROUGH
    assert (found.flag_metadata["stale"], found.flag_metadata["age_s"]) == (True, 61.5)
    assert resolve(flags, "boolean", "mine", False).reason == Reason.STATIC
    assert resolve(flags, "boolean", "never", False).reason == Reason.ERROR


def test_flag_metadata() -> None:
    """Strings, numbers and booleans; unknown facts are left out."""
    payload = {"type": "json", "value": "{}"}
    flags = Fixed(
        full=Evaluation(
            "blue", 1, base.RULE_MATCH, rule="r-1", rule_index=0, config=payload, version=4
        ),
        text=on("blue", "blue", config="{}"),
    )
    found = resolve(flags, "string", "full", "x")
    assert found.variant == "1"
    assert found.flag_metadata == {
        "reason": base.RULE_MATCH,
        "rule": "r-1",
        "rule_index": 0,
        "version": 4,
        "config": '{"type": "json", "value": "{}"}',
        "in_experiment": False,
        "age_s": 0.0,
        "stale": False,
    }
    found = resolve(flags, "string", "text", "x")
    assert found.flag_metadata.keys() == {"reason", "config", "in_experiment", "age_s", "stale"}
    assert found.flag_metadata["config"] == "{}"


MOMENT = datetime(2026, 3, 1, 12, 30)  # noqa: DTZ001 - without a zone, that is the point
NOON = "2026-03-01T12:30:00Z"
TIMES: Any = {
    "tags": ("a", MappingProxyType({"b": [MOMENT]})),
    "utc": MOMENT.replace(tzinfo=UTC),
    "cet": MOMENT.replace(hour=13, tzinfo=timezone(timedelta(hours=1))),
}
MULTI_KIND: Any = {
    "kind": "multi",
    "user": {"targetingKey": "ada", "key": "bob", "plan": "team"},
    "org": {"key": "o-1"},
    "wrong": 3,
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        (EvaluationContext(), {}),
        (EvaluationContext("ada", {"plan": "team"}), {"plan": "team", "key": "ada"}),
        (EvaluationContext("ada", {"key": "bob"}), {"key": "ada"}),
        (EvaluationContext("", {"key": "bob"}), {"key": ""}),
        (EvaluationContext("o-1", {"kind": "org"}), {"kind": "org", "key": "o-1"}),
        (
            EvaluationContext("ada", MULTI_KIND),
            MULTI_KIND | {"user": {"key": "ada", "plan": "team"}},
        ),
        (
            EvaluationContext(attributes=TIMES),
            {"tags": ["a", {"b": [NOON]}], "utc": NOON, "cet": NOON},
        ),
    ],
)
def test_contexts(
    given: EvaluationContext | None, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The targeting key wins, kinds stay apart, everything is JSON, and times are in UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert context_of(given) == expected
    time.tzset()
    assert MULTI_KIND["user"]["targetingKey"] == "ada", "the caller's context has been changed"


class Failing(Fixed):
    """Flags of a lost store, which another caller detects during a call."""

    def __init__(self) -> None:
        super().__init__(yes=on(True))
        self.word = ""
        self.on_question: list[Callable[[], None]] = []

    def health(self) -> str:
        """Return the problem, and let others act meanwhile."""
        while self.on_question:
            self.on_question.pop()()
        return self.word


def test_no_events_after_shutdown() -> None:
    """Nor before initialization, nor during a shutdown."""
    events: list[ProviderEvent] = []
    flags = Failing()
    provider = FlagstoreProvider(flags)
    provider.attach(lambda _provider, event, _details: events.append(event))
    for act, word, expected in (
        (lambda: None, base.STALE, []),
        (lambda: provider.initialize(EvaluationContext()), base.STALE, ["PROVIDER_STALE"]),
        (provider.shutdown, "", []),
        (lambda: provider.initialize(EvaluationContext()), "", []),
        (lambda: flags.on_question.append(provider.shutdown), base.STALE, []),
    ):
        act()
        flags.word = word
        assert provider.resolve_boolean_details("yes", False, ADA).value is True
        assert [event.name for event in events] == expected
        events.clear()
