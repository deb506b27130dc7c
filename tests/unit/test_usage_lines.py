"""Usage lines are found in whatever form a log gives them, and checked before use."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flagstore.lines import EVENT, EXPOSURE
from simulators.usage import HOUR, delivery, line
from storesync import providers
from storesync.model import Secret, Source
from storesync.providers.base import Published
from storesync.usage_lines import (
    EARLY_S,
    LATE_S,
    MAX_LINE,
    AnyLine,
    EventLine,
    parse,
    read_delivery,
)
from storesync.usage_records import last_uses

FLAGS = {"new-checkout": [[1200, 0, 7], [34, 1, 7]], "old": [[2, None, None]], "ü€": [[1, 2, 3]]}
RAW = line(FLAGS)
FIELDS = json.loads(RAW)
JSON_LOG = {"timestamp": "2026-11-29T07:00:00Z", "level": "INFO", "requestId": "1"}


def read(*messages: str, **more: Any) -> tuple[list[AnyLine], int]:
    found = read_delivery(delivery(*messages, **more)["awslogs"])
    return found.found, found.malformed


def plain(parsed: AnyLine | None) -> Any:
    assert parsed is not None
    return json.loads(json.dumps(parsed.to_json()))


def changed(**fields: Any) -> Any:
    return {**FIELDS, **fields}


@pytest.mark.parametrize(
    "message",
    [
        RAW,
        RAW + "\n",
        f"2026-11-29T07:00:00Z 1-5f {RAW}",
        f'half a print {{"a": {RAW}',
        f"{RAW} and what another thread printed",
        json.dumps(FIELDS, indent=1, ensure_ascii=False),
        json.dumps({**JSON_LOG, **FIELDS}),
        json.dumps({**FIELDS, "level": "ERROR"}),
        json.dumps(dict(reversed(FIELDS.items()))),
        json.dumps({**JSON_LOG, "message": RAW}),
        json.dumps({**JSON_LOG, "message": FIELDS}),
        json.dumps({"log": json.dumps({**JSON_LOG, "message": f"INFO {RAW}\n"})}),
        f"[INFO] {{x}} {json.dumps({**JSON_LOG, 'message': RAW})}",
    ],
    ids=range(13),
)
def test_a_line_is_found_in_every_shape(message: str) -> None:
    """Raw, reformatted, prefixed, with a level added, or as a string within another object."""
    (found,), malformed = read(message)
    assert (plain(found), malformed) == (changed(k=["user"]), 0)
    assert found.total() == 1237


def test_joined_lines_are_all_found() -> None:
    """Several threads' output may end up in one log event."""
    found, malformed = read(f"{RAW}{line(FLAGS)}x{line(FLAGS)}")
    assert (len({each.id for each in found}), malformed) == (3, 0)


@pytest.mark.parametrize(
    ("message", "malformed"),
    [
        (RAW[:-1], 1),
        (RAW[:60] + RAW, 1),
        (json.dumps({**JSON_LOG, "message": RAW})[:-40], 1),
        ("no usage", 0),
        ("flagstore.usage is on", 0),
        ('{"flagstore.usage":' * 5000, 16),
        ("[" * 100_000 + RAW[:20], 1),
        ('{"a":' * 100_000 + '"flagstore.usage":1', 1),
        (json.dumps({"flagstore.exposure": 1}), 1),
    ],
)
def test_damaged_lines_are_counted(message: str, malformed: int) -> None:
    """Cut-off or endlessly nested lines cost no time and do not affect others."""
    good = line(FLAGS)
    found, bad = read(good, message)
    assert (len(found) - (message.endswith(RAW)), bad) == (1, malformed)


@pytest.mark.parametrize(
    "fields",
    [
        {"flagstore.usage": 2},
        {"flagstore.usage": True},
        {"id": "short"},
        {"id": "../../state"},
        {"id": 5},
        {"s": "$state"},
        {"s": None},
        {"s": "x" * 49},
        {"p": "other"},
        {"v": -1},
        {"v": 1.5},
        {"n": ""},
        {"n": "x" * 257},
        {"n": "\ud800"},
        {"n": "a NUL\0, of which PostgreSQL refuses the whole batch"},
        {"a": "now"},
        {"b": 2**60},
        {"k": "user"},
        {"k": [5]},
        {"f": []},
        {"f": {f"flag-{number}": [[1, 1, 1]] for number in range(MAX_LINE // 10)}},
    ],
)
def test_invalid_lines_are_dropped(fields: dict[str, Any]) -> None:
    assert parse(FIELDS) is not None
    assert parse(changed(**fields)) is None


@pytest.mark.parametrize(
    ("provider", "good", "bad"),
    [
        ("launchdarkly", [[1, 0, 1], [10**9, None, 1]], [[1, "a", 1], [1, 0, "a"], [1, -1, 1]]),
        ("split", [[1, "on", 5], [1, "on", None]], [[1, None, 5], [1, "on", "x"], [1, "", 5]]),
        ("unleash", [[1, 1, "blue"], [1, 0, None]], [[1, 2, None], [1, True, None], [1, 1, 5]]),
        ("appconfig", [[1, 1, "blue"], [1, 0, None]], [[1, None, None], [1, 1, "x" * 257]]),
    ],
)
def test_invalid_cells_are_dropped(provider: str, good: list[Any], bad: list[Any]) -> None:
    """Forged counts are limited, and every cell has its provider's shape."""
    template = good[0][1:]
    counts = [0, -1, 10**9 + 1, 1.5, True, None, "1", float("inf")]
    bad = [*bad, *([count, *template] for count in counts), [], "x", None, [1, *template, 1]]
    parsed = parse(
        changed(p=provider, f={"flag": [*bad, *good], "none": bad, "x" * 257: good, "*": good})
    )
    assert plain(parsed)["f"] == {"flag": good}


def test_trailing_nulls_may_be_left_out() -> None:
    parsed = parse(changed(p="unleash", f={"flag": [[3, 1]]}))
    assert plain(parsed)["f"] == {"flag": [[3, 1, None]]}


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (-10, -5, (-10, -5)),
        (-5, -10, (-10, -10)),
        (0, 10**6, (0, EARLY_S)),
        (-(10**6), -(10**6), (-LATE_S, -LATE_S)),
        (-(10**6), 0, (-LATE_S, 0)),
    ],
)
def test_times_are_close_to_the_log_events(
    first: int, last: int, expected: tuple[int, int]
) -> None:
    """A wrong clock or a forged time has limited effect."""
    (found,), _ = read(line(FLAGS, a=HOUR + first, b=HOUR + last), at=HOUR)
    assert (found.first - HOUR, found.last - HOUR) == expected


def test_other_deliveries_have_no_lines() -> None:
    """CloudWatch's test message and the function's own log are ignored."""
    assert read(RAW, messageType="CONTROL_MESSAGE") == ([], 0)
    own = delivery(RAW, logGroup="own")["awslogs"]
    assert read_delivery(own, "own") == ([], 0)
    assert len(read_delivery(own, "").found) == 1


def packed(data: bytes) -> dict[str, str]:
    return {"data": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        {"data": 5},
        {"data": "%"},
        packed(b"no gzip"),
        packed(gzip.compress(b"no JSON")),
        packed(gzip.compress(b"[]")),
        packed(gzip.compress(b"{}" + b" " * 17_000_000)),
        packed(gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":[5]}')),
        packed(gzip.compress(b'{"messageType":"DATA_MESSAGE","logEvents":[{"message":5}]}')),
        packed(gzip.compress(json.dumps({"logEvents": []}).encode())[:-9]),
    ],
    ids=range(11),
)
def test_what_is_no_delivery_is_refused(event: Any) -> None:
    with pytest.raises(ValueError, match="the delivery"):
        read_delivery(event)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from([*FIELDS, "k", "level"])
HEAD = {name: FIELDS[name] for name in ("id", "s", "p", "v", "n")}
AT = 1000 * HOUR
REASON = {"kind": "FALLTHROUGH", "inExperiment": True}
ENTRIES = {
    ("launchdarkly", EXPOSURE): [[0, AT, 1], [0, AT, 10, "a", 1, 7, REASON, "parent"]],
    ("launchdarkly", EVENT): [[0, AT, 1, "bought", 2.5, {"currency": "EUR"}]],
    ("split", EXPOSURE): [
        [0, AT, "a", "on", "default rule", 7, None],
        [0, AT, "a", "off", "default rule", 7, None],
    ],
    ("split", EVENT): [[0, AT, "bought", "user", None, None]],
}


def events(provider: str, marker: str, entries: Any, contexts: Any = ({"key": "ada"},)) -> Any:
    return {marker: 1, **HEAD, "p": provider, "c": list(contexts), "e": entries}


def posts(found: EventLine) -> None:
    """Make the post of a line, with several definitions of its flags."""
    source = Source("prod", found.provider, "https://x.example", Secret("k"))
    for flag in (None, {"variations": [1], "samplingRatio": 3}, {"samplingRatio": "x"}):
        api = providers.get(found.provider).usage()
        assert api is not None
        api.report(source, [found], Published(lambda _key, flag=flag: flag, {}))
    last_uses([found])


@pytest.mark.parametrize(("provider", "marker"), ENTRIES)
def test_exposures_and_events(provider: str, marker: str) -> None:
    """They are kept as printed; entries of another shape are left out."""
    entries = ENTRIES[provider, marker]
    bad = [entries[0][:-1], [*entries[0], 1], [1, *entries[0][1:]], [0, -1, *entries[0][2:]], "x"]
    bad += [[*entries[-1][:4], amount, *entries[-1][5:]] for amount in (10**400, -(10**400), [])]
    bad += [[0, AT, *[{} for _ in entries[-1][2:-1]], 0]]
    good = events(provider, marker, entries)
    (found,), malformed = read(json.dumps(events(provider, marker, [*entries, *bad])))
    assert (plain(found), malformed) == (good, 0)
    assert isinstance(found, EventLine)
    assert (found.first, found.last, found.total()) == (HOUR, HOUR, len(entries))
    posts(found)
    assert sum(map(len, found.flags.values())) == (len(entries) if last_uses([found]) else 0)
    made_up = {"key": "x", "anonymous": True, "_meta": {"redactedAttributes": 5}}
    odd = parse(events(provider, marker, entries, [made_up]))
    assert isinstance(odd, EventLine)
    posts(odd)
    assert parse(events(provider, marker, bad)) is None
    assert parse(events(provider, marker, entries, ["x"])) is None
    assert parse(events("unleash", marker, entries)) is None
    late = parse(events(provider, marker, [[0, 1, *entries[0][2:]]]), HOUR)
    assert late is not None
    assert late.first == HOUR - LATE_S


@given(data=st.data())
def test_no_made_up_event_does_harm(data: st.DataObject) -> None:
    """Whatever is accepted can be posted."""
    provider, marker = data.draw(st.sampled_from(sorted(ENTRIES)))
    (*_, entry) = ENTRIES[provider, marker]
    parts = [st.just(part) | VALUES for part in entry]
    made = data.draw(st.lists(st.tuples(*parts).map(list) | VALUES, max_size=3))
    contexts = data.draw(st.lists(st.dictionaries(st.text(), VALUES), min_size=1, max_size=2))
    parsed = parse(events(provider, marker, [entry, *made], contexts), HOUR)
    if isinstance(parsed, EventLine):
        assert parse(json.loads(json.dumps(parsed.to_json())), HOUR) == parsed
        posts(parsed)


@given(fields=st.dictionaries(NAMES, VALUES), flags=st.dictionaries(st.text(), VALUES))
def test_no_made_up_line_does_harm(fields: dict[str, Any], flags: dict[str, Any]) -> None:
    """Whatever is accepted has the shape of a line, is short, and survives a round trip."""
    for found in (changed(**fields), changed(**{**fields, "f": {**FLAGS, **flags}})):
        parsed = parse(found, HOUR)
        if parsed is not None:
            again = parsed.to_json()
            assert parse(json.loads(json.dumps(again)), HOUR) == parsed
            assert len(json.dumps(again, separators=(",", ":"))) <= MAX_LINE
            cells = [cell for cells in parsed.flags.values() for cell in cells]
            assert all(0 < cell.number <= 10**9 for cell in cells)


@given(st.text())
@example('{"flagstore.usage":')
@example('{"a":"{\\"flagstore.usage\\":1')
def test_no_message_is_an_error(text: str) -> None:
    for message in (text, text + RAW, RAW[:30] + text, json.dumps({"m": text + RAW})):
        read(message)
