"""Counting evaluations: what is counted, in which lines, and when these are printed."""

from __future__ import annotations

import json
import os
import signal
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.track import TrackingEventDetails

import flagstore
from flagstore import usage
from flagstore.adapters.openfeature import FlagstoreProvider
from flagstore.errors import ConfigurationError
from flagstore.evaluation.launchdarkly import LaunchDarklyEngine
from flagstore.evaluation.split import SplitEngine
from flagstore.testing import FakeFlags
from simulators import launchdarkly_flags, split_flags, unleash_flags
from simulators.flag_items import Items
from simulators.reader_rig import EXPIRED_S, Rig, together
from storesync.usage_lines import parse

if TYPE_CHECKING:
    from flagstore.clients import Client

ADA = {"key": "canary-key", "email": "canary-email", "userId": "canary-user"}


class Lines:
    """The lines that a process has printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def read(self) -> list[dict[str, Any]]:
        text = self._capfd.readouterr().out
        assert "canary" not in text
        lines = text.splitlines(keepends=True)
        assert all(line.isascii() and len(line) <= 4_000 for line in lines)
        found = [json.loads(line) for line in lines]
        # UsageFunction takes every line, and all of it.
        counts = [(line, parse(line)) for line in found if usage.COUNTS in line]
        for line, parsed in counts:
            assert parsed is not None
            assert parsed.flags.keys() == line["f"].keys() - {"*"}
        return found

    def cells(self) -> dict[str, list[Any]]:
        (line,) = self.read()
        return {key: sorted(cells, key=str) for key, cells in line["f"].items()}


@pytest.fixture(autouse=True)
def no_other_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the clients of other tests: a flush would print their counts as well."""
    monkeypatch.setattr(usage, "_counters", [])


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    return Lines(capfd)


def counting(rig: Rig, **options: Any) -> Client:
    return rig.another(usage="counts", **options)


def flag(key: str, **more: Any) -> dict[str, Any]:
    return {**launchdarkly_flags.new_flag(key), **more}


def one_flag(**fields: Any) -> Rig:
    """Publish the flag ``a`` of LaunchDarkly."""
    return Rig({"a": flag("a", **fields)}, provider="launchdarkly")


def test_nothing_is_counted_by_default(lines: Lines) -> None:
    client = one_flag().client
    client.enabled("a", ADA)
    client.flush()
    assert client.reporting(flag) is flag
    assert lines.read() == []
    with pytest.raises(ConfigurationError, match="FLAGSTORE_USAGE"):
        Rig().another(usage="all")


def test_line(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names source, version, application and times, and has an id of its own."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "checkout-api")
    rig = one_flag()
    client = counting(rig)
    client.enabled("a", ADA)
    rig.advance(20)
    client.value("a", {"kind": "org", "key": "acme"}, default=False)
    client.value("a", {"kind": "x" * 300, "key": "made up"}, default=False)
    client.flush()
    client.flush()
    (line,) = lines.read()
    began = int(rig.wall.now()) - 20
    assert len(line.pop("id")) == 11
    assert line == {
        "flagstore.usage": 1,
        "s": "prod",
        "p": "launchdarkly",
        "v": rig.client.snapshot().snapshot_record.token,
        "n": "checkout-api",
        "a": began,
        "b": began + 20,
        "k": ["org", "user"],
        "f": {"a": [[3, 0, 1]]},
    }
    client.enabled("a", ADA)
    client.flush()
    assert "k" not in lines.read()[0]


def test_launchdarkly_counts_as_its_sdk(lines: Lines) -> None:
    """Each evaluation of a prerequisite counts, even if it is off; none after one that fails."""
    needs = [{"key": key, "variation": 0} for key in ("on", "off", "never")]
    rig = Rig(
        {
            "parent": flag("parent", prerequisites=needs, offVariation=1),
            "on": flag("on", prerequisites=[{"key": "deep", "variation": 0}]),
            "deep": flag("deep", version=9),
            "off": flag("off", on=False, offVariation=1),
            "never": flag("never"),
            "nothing": flag("nothing", on=False, offVariation=None),
            "wrong": flag("wrong", version="x"),
        },
        provider="launchdarkly",
    )
    client = counting(rig)
    assert client.enabled("parent", ADA) is False
    client.value("nothing", ADA, default=1)
    client.detail("unknown", ADA)
    client.enabled("wrong", ADA)
    client.enabled("parent", {"kind": "invalid kind", "key": "x"})
    client.all(ADA)
    with client.override({"parent": True}):
        client.enabled("parent", ADA)
    client.enabled(["no string"], ADA)  # type: ignore[arg-type]
    client.flush()
    assert lines.cells() == {
        "parent": [[1, 1, 1]],
        "on": [[1, 0, 1]],
        "deep": [[1, 0, 9]],
        "off": [[1, 1, 1]],
        "nothing": [[1, None, 1]],
        "unknown": [[1, None, None]],
        "wrong": [[1, None, None]],
    }


def test_prerequisites_of_a_later_flag_set(lines: Lines) -> None:
    """They count from then on, though the flag that needs them is the same, and its result too."""
    counter = usage.UsageCounter("prod", "app", lambda: 60.0)
    needy = flag("needy", prerequisites=[{"key": "needed", "variation": 0}], offVariation=1)
    needed = flag("needed", on=False)
    engine = LaunchDarklyEngine(Items(flags={}))
    items = Items(flags={"needy": needy}), Items(flags={"needy": needy, "needed": needed})
    for key, each in zip(("needy", "needed"), items, strict=True):
        engine = engine.changed(each, {"flags": [key]})
        count = counter.counting("launchdarkly", 1, engine, each)
        assert count is not None
        context = engine.context(ADA)
        for _ in range(2):
            count("needy", engine.evaluate("needy", context), context, "value", ADA)
    counter.flush()
    assert lines.cells() == {"needy": [[4, 1, 1]], "needed": [[2, 1, 1]]}
    assert items[1].asked == [("flags", "needed")]


def test_other_providers(lines: Lines) -> None:
    """Split counts treatments except control; Unleash by method; AppConfig variants."""
    for provider, flags, expected in (
        ("split", {"a": split_flags.new_flag("a") | {"changeNumber": 5}}, [[3, "on", 5]]),
        ("unleash", {"a": unleash_flags.new_flag("a")}, [[1, 1], [2, 1, "disabled"]]),
        ("appconfig", {"a": {"enabled": True, "x": 1}}, [[3, 1, None]]),
    ):
        rig = Rig(flags, provider=provider)
        client = counting(rig)
        for key in ("a", "unknown"):
            client.enabled(key, ADA)
            client.value(key, ADA)
            client.detail(key, ADA)
        client.flush()
        found = lines.cells()
        assert found.pop("a") == expected
        assert found == ({"unknown": [[1, 0], [2, 0, "disabled"]]} if provider == "unleash" else {})


def test_lines_are_printed_once_a_minute_of_activity(lines: Lines) -> None:
    """The next evaluation prints the counts before it; a change of provider prints them at once."""
    rig = one_flag()
    client = counting(rig)
    for _ in range(3):
        client.enabled("a", ADA)
        rig.advance(25)
    assert lines.read() == []
    client.enabled("a", ADA)
    assert lines.cells() == {"a": [[3, 0, 1]]}
    rig.provider_name = "split"
    rig.publish({"a": split_flags.new_flag("a")})
    rig.advance(EXPIRED_S)
    client.enabled("a", ADA)
    assert lines.cells() == {"a": [[1, 0, 1]]}


def test_many_flags_take_several_lines(lines: Lines) -> None:
    """Each has at most 4,000 bytes; never more than 400 results wait; no count is lost."""
    flags = {f"flag-{n:03}-{'é' * 20}": flag("x", version=n) for n in range(500)}
    client = counting(Rig(flags, provider="launchdarkly"))
    for key in flags:
        client.enabled(key, ADA)
    printed = lines.read()
    assert sum(len(line["f"]) for line in printed) == 400
    client.flush()
    printed += lines.read()
    assert {key for line in printed for key in line["f"]} == flags.keys()
    assert len({line["id"] for line in printed}) == len(printed) > 10


def test_unknown_flags_are_bounded(lines: Lines) -> None:
    """Their keys may be users' input: at most 50 are named, none over 128 characters."""
    client = counting(one_flag())
    for n in range(60):
        client.enabled(f"unknown-{n}", ADA)
    client.enabled("x" * 129, ADA)
    client.flush()
    found = lines.cells()
    assert len(found) == 51
    assert found["*"] == [[11, None, None]]


def test_level_that_lambda_requires(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda's JSON format drops lines without a level if it is above INFO."""
    client = counting(one_flag())
    for style, level, expected in (("JSON", "ERROR", "ERROR"), ("JSON", "INFO", None)):
        monkeypatch.setenv("AWS_LAMBDA_LOG_FORMAT", style)
        monkeypatch.setenv("AWS_LAMBDA_LOG_LEVEL", level)
        client.enabled("a", ADA)
        client.flush()
        assert lines.read()[0].get("level") == expected


def test_decorated_handler(lines: Lines) -> None:
    """Counts are printed after the first three calls, even if they raise, then once a minute."""
    rig = one_flag()
    client = counting(rig)
    other = counting(rig)

    @other.reporting  # it prints what all clients have counted
    def handler(event: str) -> bool:
        on = client.enabled("a", ADA)
        if event == "raise":
            raise LookupError
        return on

    with pytest.raises(LookupError):
        handler("raise")
    assert handler("x")
    assert handler("x")
    assert len(lines.read()) == 3
    handler("x")
    assert lines.read() == []
    rig.advance(61)
    handler("x")
    assert lines.cells() == {"a": [[1, 0, 1]]}


def test_child_processes_do_not_repeat_counts(lines: Lines) -> None:
    client = counting(one_flag())
    client.enabled("a", ADA)
    child = os.fork()
    if child == 0:
        client.flush()
        os._exit(0)
    os.waitpid(child, 0)
    assert lines.read() == []
    client.flush()
    assert lines.cells() == {"a": [[1, 0, 1]]}


def test_snapshot_holds_no_counts(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every environment that SnapStart restores would print what was counted in INIT."""
    before_snapshot: list[Any] = []
    module = SimpleNamespace(register_before_snapshot=before_snapshot.append)
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", module)
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    monkeypatch.setattr(usage, "_extension", None)
    client = counting(one_flag())
    usage.flush_before_end()
    client.enabled("a", ADA)
    for hook in before_snapshot:
        hook()
    client.flush()
    assert lines.read() == []


# -- exposures and events -------------------------------------------------------------------------

EXPOSURE, EVENT = "flagstore.exposure", "flagstore.event"
INDEX, FEATURE, DEBUG, REASON = 1, 2, 4, 8


def by_marker(out: str) -> dict[str, dict[str, Any]]:
    """Return the lines by their markers, one for each."""
    lines = [json.loads(line) for line in out.splitlines()]
    found = {next(iter(line)): line for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(LaunchDarklyEngine, {"trackEvents": False}), (SplitEngine, {"impressionsDisabled": True})],
)
def test_exposures_of_changed_flags(
    kind: Any, fields: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Each flag set decides what is recorded; of unchanged flags, nothing is read again."""
    provider = "split" if kind is SplitEngine else "launchdarkly"
    new_flag = split_flags.new_flag if kind is SplitEngine else launchdarkly_flags.new_flag
    counter = usage.UsageCounter("prod", "app", lambda: 60.0, events=True)
    engine = kind(Items(flags={}))
    found = []
    for number, more in enumerate([fields, {"trackEvents": True}, fields, fields]):
        numbers = {"version": number, "changeNumber": number}
        flags = {"a": new_flag("a") | numbers | more, "b": new_flag("b") | fields}
        items = Items(flags=flags)
        engine = engine.changed(items, {"flags": ["a"]})
        count = counter.counting(provider, number, engine, items)
        context = engine.context(ADA)
        for key in flags:
            count(key, engine.evaluate(key, context), context, "value", ADA)
        counter.flush()
        lines = by_marker(capfd.readouterr().out)
        entries = str(lines.get(EXPOSURE, {}).get("e"))
        found.append([key for key in flags if repr(key) in entries])
        assert ("flags", "b") not in items.asked or not number
    assert found == [[], ["a"], [], []]


def test_launchdarkly_exposures(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New contexts and tracked evaluations are printed, with listed attributes unless private."""
    monkeypatch.setenv("FLAGSTORE_USAGE_ATTRIBUTES", "plan, address, email")
    clause = {"attribute": "plan", "op": "in", "values": ["pro"], "contextKind": "user"}
    rule = {"id": "r", "clauses": [clause], "variation": 1, "trackEvents": True}
    rig = Rig(provider="launchdarkly")
    now = int(rig.wall.now() * 1000)
    needed = [{"key": "all", "variation": 0}]
    rig.publish(
        {
            "plain": flag("plain"),
            "all": flag("all", trackEvents=True),
            "rule": flag("rule", rules=[rule], prerequisites=needed),
            "debug": flag("debug", debugEventsUntilDate=now + 1),
            "past": flag("past", debugEventsUntilDate=now),
        }
    )
    client = rig.another(usage="events")
    meta = {"privateAttributes": ["/address/street", "email"]}
    address = {"city": "Paris", "street": "secret"}
    ada = {"kind": "user", "key": "ada", "plan": "pro", "address": address, "email": "secret"}
    user = client.for_context({**ada, "age": "secret", "_meta": meta})
    for key in ("plain", "rule", "debug", "past", "unknown"):
        user.enabled(key)
    client.track("bought", {"kind": "user", "key": "bob", "anonymous": True}, value=1.5)
    client.flush()
    out = capfd.readouterr().out
    assert "secret" not in out
    lines = by_marker(out)
    redacted = {"redactedAttributes": ["/address/street", "email"]}
    assert lines[EXPOSURE]["c"] == [
        {
            "kind": "user",
            "key": "ada",
            "plan": "pro",
            "address": {"city": "Paris"},
            "_meta": redacted,
        }
    ]
    reason = {"kind": "RULE_MATCH", "ruleIndex": 0, "ruleId": "r"}
    assert lines[EXPOSURE]["e"] == [
        [0, now, INDEX],
        [0, now, FEATURE, "all", 0, 1, None, "rule"],
        [0, now, FEATURE | REASON, "rule", 1, 1, reason, ""],
        [0, now, DEBUG, "debug", 0, 1, None, ""],
    ]
    assert lines[EVENT]["c"] == [{"kind": "user", "key": "bob", "anonymous": True}]
    assert lines[EVENT]["e"] == [[0, now, INDEX, "bought", 1.5, None]]


@pytest.mark.parametrize("mode", ["optimized", "debug"])
def test_split_impressions(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Once an hour per key, treatment and label, the rest as counts; in debug mode, all of them."""
    monkeypatch.setenv("FLAGSTORE_USAGE_IMPRESSIONS", mode)
    flags = {"a": split_flags.new_flag("a"), "b": split_flags.new_flag("b")}
    flags["b"]["impressionsDisabled"] = True
    rig = Rig(flags, provider="split")
    client = rig.another(usage="events")
    for _ in range(3):
        for key in ("a", "b", "unknown"):
            client.enabled(key, {"key": "ada", "bucketingKey": "x"})
    client.track("bought", {"key": "ada", "trafficType": "account"}, value=2, data={"n": 1})
    client.flush()
    now, lines = int(rig.wall.now() * 1000), by_marker(capfd.readouterr().out)
    impression = [0, now, "a", "on", "default rule", split_flags.START]
    after = [[*impression, now]] * 2 if mode == "debug" else []
    assert lines[EXPOSURE]["c"] == [{"key": "ada", "bucketingKey": "x"}]
    assert lines[EXPOSURE]["e"] == [[*impression, None], *after]
    counts = {key: cells[0][0] for key, cells in lines["flagstore.usage"]["f"].items()}
    assert counts == ({"b": 3} if mode == "debug" else {"a": 2, "b": 3})
    assert lines[EVENT]["e"] == [[0, now, "bought", "account", 2, {"n": 1}]]


def test_full_lines_are_printed_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Each has at most 4,000 bytes; only an event that fits no line is lost."""
    client = one_flag().another(usage="events")
    client.track("too large", {"key": "x"}, data="é" * 4_000)
    for number in range(200):
        client.track("bought", {"key": f"user-{number}"}, data={"text": "é" * 20})
    early = capfd.readouterr().out
    client.flush()
    lines = [json.loads(line) for line in (early + capfd.readouterr().out).splitlines()]
    assert max(map(len, early.splitlines())) < 4_000
    keys = [line["c"][entry[0]]["key"] for line in lines for entry in line["e"]]
    assert keys == [f"user-{number}" for number in range(200)]


def test_openfeature(capfd: pytest.CaptureFixture[str]) -> None:
    """Its `track` records an event, and an object or list counts as one evaluation."""
    rig = one_flag(variations=[[1, 2], {}])
    client = rig.another(usage="events")
    provider = FlagstoreProvider(client)
    ada = EvaluationContext("ada", {"plan": "pro"})
    assert provider.resolve_object_details("a", {}, ada).value == [1, 2]
    provider.track("bought", ada, TrackingEventDetails(2.5, {"currency": "EUR"}))
    provider.track("left")
    client.flush()
    lines = by_marker(capfd.readouterr().out)
    assert lines["flagstore.usage"]["f"] == {"a": [[1, 0, 1]]}
    assert lines[EVENT]["c"] == [{"kind": "user", "key": "ada"}]
    assert [entry[3:] for entry in lines[EVENT]["e"]] == [["bought", 2.5, {"currency": "EUR"}]]
    FlagstoreProvider(Rig(provider="launchdarkly").another(usage="events")).track("x", ada)


def test_track_without_events_does_nothing(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLAGSTORE_SOURCE", raising=False)
    assert flagstore.client().reporting(flag) is flag, "a handler can be imported in a test"
    for client in (counting(one_flag()), Rig({}).client):
        client.track("bought", {"key": "ada"})
        client.flush()
    assert lines.read() == []
    FakeFlags().track("bought")


def test_threads_print_each_count_once(lines: Lines) -> None:
    """Another thread prints just before this one does."""
    client = counting(one_flag())
    client.enabled("a", ADA)

    class Kinds(set[str]):
        def __or__(self, other: Any) -> Any:
            client._usage.kinds = set()  # type: ignore[union-attr]
            client.flush()
            return other

    client._usage.kinds = Kinds()  # type: ignore[union-attr]
    client.flush()
    assert lines.cells() == {"a": [[1, 0, 1]]}


def test_threads_do_not_mix_contexts(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    client = one_flag().another(usage="events")
    monkeypatch.setattr(usage, "MAX_CELLS", 30)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    names = iter(range(8))

    def work() -> None:
        name = str(next(names))
        for number in range(150):
            client.enabled(f"unknown-{number % 40}", {"key": "x"})
            client.track(name, {"key": name})
            if number % 5 == 0:
                client.flush()

    try:
        assert together(8, work) == [None] * 8
    finally:
        sys.setswitchinterval(before)
    client.flush()
    for line in lines.read():
        for place, *_, name, _value, _data in line["e"] if EVENT in line else ():
            assert line["c"][place]["key"] == name


def test_sigterm_during_a_flush(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of that flush come first, each once; then the process's own handler runs."""
    client = counting(one_flag())
    client.enabled("a", ADA)
    seen: list[Any] = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.extend(lines.read()))
    line = client._usage._line  # type: ignore[union-attr]

    coming = [signal.SIGTERM]

    def interrupted(*arguments: Any) -> bytes:
        if coming:
            signal.raise_signal(coming.pop())
        return line(*arguments)

    try:
        monkeypatch.setattr(client._usage, "_line", interrupted)
        usage._on_sigterm()
        client.flush()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [each["f"] for each in seen] == [{"a": [[1, 0, 1]]}]


def test_counting_never_fails_the_caller(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if contexts and data are not JSON, the evaluation itself is counted."""
    monkeypatch.setenv("FLAGSTORE_USAGE_ATTRIBUTES", "odd")
    rig = one_flag(trackEvents=True)
    client = rig.another(usage="events")
    for odd in ({1}, float("nan"), b"canary", object()):
        assert client.enabled("a", {"key": "x", "odd": odd})
        assert client.value("a", {"key": "x", "odd": odd}, default=False)
        client.track("bought", {"key": "x"}, data=odd)
    client.close()
    assert lines.cells() == {"a": [[8, 0, 1]]}
    assert "canary" not in caplog.text


def test_clock_set_back(lines: Lines) -> None:
    """Counts do not wait until the clock has caught up."""
    rig = one_flag()
    client = counting(rig)
    client.enabled("a", ADA)
    rig.wall.advance(-3_600)
    client.enabled("a", ADA)
    assert lines.cells() == {"a": [[1, 0, 1]]}


@pytest.mark.parametrize(
    "given",
    [
        {"key": "ada", "custom": {"plan": "secret"}, "privateAttributeNames": ["plan"]},
        {"key": "ada", "custom": {"plan": "secret"}, "_meta": {"privateAttributes": ["/plan"]}},
        {
            "kind": "multi",
            "org": {"key": "acme"},
            "x": {
                "kind": "user",
                "key": "ada",
                "plan": "secret",
                "_meta": {"privateAttributes": ["plan"]},
            },
        },
        [("key", "ada"), ("plan", "secret"), ("_meta", {"privateAttributes": ["plan"]})],
    ],
)
def test_private_attributes_of_every_shape(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: Any
) -> None:
    monkeypatch.setenv("FLAGSTORE_USAGE_ATTRIBUTES", "plan,custom")
    monkeypatch.setenv("FLAGSTORE_APP_NAME", "é" * 500)  # too long for any line
    client = one_flag(trackEvents=True).another(usage="events")
    client.enabled("a", given)
    data = {"amount": 1}
    client.track("bought", given, data=data)
    data["amount"] = "secret"  # type: ignore[assignment] # the caller goes on with it
    client.flush()
    out = capfd.readouterr().out
    assert "secret" not in out
    assert out.count('"redactedAttributes":["plan"]') == 2
    assert all(parse(json.loads(line)) for line in out.splitlines())
