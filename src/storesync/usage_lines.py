"""Usage lines: counts of evaluations that readers print, found in deliveries of CloudWatch Logs.

``{"flagstore.usage":1,"id":…,"s":source,"p":provider,"v":version,"n":app,"a":first,"b":last,
"k":[context kinds],"f":{flag:[[count,…],…]}}``; :class:`Cell` has the cells. Anyone who can write
to the log group can write such a line, so every part of it is checked and bounded.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from flagstore.codec import dumps
from flagstore.lines import APP_CHARS, COUNTS, EVENT, EXPOSURE, MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from storesync.model import Json

VERSION = 1
MAX_AMOUNT = 1e300
"""Of an event's value: integers may be too large for a float."""
MAX_CHARS = 256
"""Maximum length of each name."""
OTHERS = "*"
"""Stands for further unknown flags, which the reader does not name."""
MAX_LINE = 16_000
"""Characters. Readers print at most 4,000; others may reformat them."""
MAX_PER_MESSAGE = 16
"""Maximum number of lines in one log event: prints of several threads may be joined."""
MAX_BYTES = 16 * 1024 * 1024
"""Maximum size of a delivery, inflated."""
EARLY_S, LATE_S = 300, 48 * 3600
"""How far the time of an evaluation may be from that of its log event. Unleash shows 48 hours."""

_MARKERS = (COUNTS, EXPOSURE, EVENT)
_LINE = re.compile(r'\{\s*"flagstore\.(?:usage|exposure|event)"\s*:')
_MENTION = re.compile(r'flagstore\.(?:usage|exposure|event)\\*"')
_ID = re.compile(r"[A-Za-z0-9_-]{8,32}")
_SOURCE = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
_SAFE = 2**53
_GZIP = 31
"""Window of zlib for gzip's format."""


class Cell(NamedTuple):
    """One count of a flag.

    ============  ============================  ===============================
    provider      ``result``                    ``detail``
    ============  ============================  ===============================
    launchdarkly  variation, or None            version; None: an unknown flag
    split         treatment                     change number, or None
    unleash       1 or 0: enabled               variant; None: not requested
    appconfig     1 or 0: enabled               variant, or None
    ============  ============================  ===============================
    """

    number: int
    """How often."""
    result: Any
    detail: Any


class Line(NamedTuple):
    """One usage line, checked."""

    id: str
    source: str
    provider: str
    version: int
    """Token of the snapshot."""
    app: str
    first: int
    """Time of the first and last evaluation, in seconds since the epoch."""
    last: int
    kinds: tuple[str, ...]
    """Kinds of contexts, for LaunchDarkly."""
    flags: Mapping[str, tuple[Cell, ...]]

    def total(self) -> int:
        """Return the number of evaluations."""
        return sum(cell.number for cells in self.flags.values() for cell in cells)

    def to_json(self) -> dict[str, Json]:
        """Return the line as it was printed."""
        cells = {flag: [list(cell) for cell in cells] for flag, cells in self.flags.items()}
        names = dict(zip("spvnabk", self[1:8], strict=True))
        return {COUNTS: VERSION, "id": self.id, **names, "f": cells}


class EventLine(NamedTuple):
    """One line of exposures or tracked events, checked: the provider's file describes the entries.

    Only functions that have opted in print them, since they hold keys of contexts.
    """

    id: str
    source: str
    provider: str
    version: int
    app: str
    marker: str
    contexts: tuple[dict[str, Json], ...]
    entries: tuple[list[Json], ...]
    """Each begins with the number of its context and its time in milliseconds."""

    @property
    def first(self) -> int:
        """Time of the earliest entry, in seconds since the epoch."""
        return min(int(entry[1]) for entry in self.entries) // 1000

    @property
    def last(self) -> int:
        """Time of the latest entry."""
        return max(int(entry[1]) for entry in self.entries) // 1000

    @property
    def flags(self) -> Mapping[str, tuple[Cell, ...]]:
        """Evaluations that no line with counts has: Split's impressions."""
        if (self.provider, self.marker) != ("split", EXPOSURE):
            return {}
        flags: dict[str, tuple[Cell, ...]] = {}
        for entry in self.entries:
            flags[entry[2]] = (*flags.get(entry[2], ()), Cell(1, entry[3], entry[5]))
        return flags

    def total(self) -> int:
        """Return the number of entries."""
        return len(self.entries)

    def to_json(self) -> dict[str, Json]:
        """Return the line as it was printed."""
        names = dict(zip("spvn", self[1:5], strict=True))
        return {self.marker: VERSION, "id": self.id, **names, "c": self.contexts, "e": self.entries}


AnyLine = Line | EventLine


class Lines(NamedTuple):
    """The lines of one delivery."""

    found: list[AnyLine]
    malformed: int
    """Number of lines that are cut off, damaged or of another version."""


def read_delivery(delivery: Json, own_log_group: str = "") -> Lines:
    """Return the usage lines in a delivery of CloudWatch Logs (``event["awslogs"]``).

    A delivery of *own_log_group* has none: the function must not process its own log.

    Raises:
        ValueError: it is not such a delivery.
    """
    document = _inflated(delivery)
    if document.get("messageType") != "DATA_MESSAGE" or document.get("logGroup") == own_log_group:
        return Lines([], 0)
    checked: list[AnyLine | None] = []
    for event in document.get("logEvents", ()):
        try:
            message, logged_at = event["message"], event["timestamp"] // 1000
            checked += [parse(found, logged_at) for found in _candidates(message)]
        except (KeyError, TypeError) as error:
            raise ValueError("the delivery has an event without message or time") from error
    good = [line for line in checked if line]
    return Lines(good, len(checked) - len(good))


def _inflated(delivery: Json) -> dict[str, Any]:
    try:
        inflater = zlib.decompressobj(_GZIP)
        data = inflater.decompress(b64decode(delivery["data"], validate=True), MAX_BYTES)
        document = json.loads(data)
        if inflater.eof and isinstance(document, dict):
            return document
    except (KeyError, TypeError, ValueError, RecursionError, zlib.error) as error:
        raise ValueError("the delivery cannot be read") from error
    raise ValueError("the delivery is cut off, too large or not an object")


def _candidates(message: str, depth: int = 2) -> Iterator[Json]:
    """Yield possible lines, wherever they are in a message; None for a damaged one."""
    if not _MENTION.search(message):
        return
    starts = [match.start() for match in islice(_LINE.finditer(message), MAX_PER_MESSAGE)]
    if starts:
        yield from (_decoded(message[start : start + MAX_LINE]) for start in starts)
        return
    # A logger has wrapped it in another object, as fields or as a string.
    for brace in islice(re.finditer("{", message), MAX_PER_MESSAGE):
        whole = _decoded(message[brace.start() :])
        if isinstance(whole, dict):
            yield from _within(whole, depth)
            return
    yield None


def _within(whole: dict[str, Any], depth: int) -> Iterator[Json]:
    if not whole.keys().isdisjoint(_MARKERS):
        yield whole
        return
    for value in whole.values():
        if isinstance(value, str) and depth:
            yield from _candidates(value, depth - 1)
        elif isinstance(value, dict) and not value.keys().isdisjoint(_MARKERS):
            yield value


def _decoded(text: str) -> Json:
    """Return the JSON that a text begins with, or None."""
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


# -- one line


def parse(found: Json, logged_at: int | None = None) -> AnyLine | None:
    """Return a line from its JSON, or None if it is invalid. Invalid cells are left out.

    *logged_at*: time of its log event in seconds; its evaluations are moved close to it.
    """
    marker = _is_headed(found)
    if marker in {EXPOSURE, EVENT}:
        return _event_line(found, marker, logged_at)
    if not marker or not _is_counted(found):
        return None
    first, last = found["a"], found["b"]
    if logged_at is not None:
        earliest, latest = logged_at - LATE_S, logged_at + EARLY_S
        first, last = (min(max(time, earliest), latest) for time in (first, last))
    first = min(first, last)
    provider, kinds, flags = found["p"], found.get("k", ["user"]), found["f"]
    cells = {
        name: _cells(provider, given)
        for name, given in flags.items()
        if _is_name(name) and name != OTHERS
    }
    line = Line(
        *(found["id"], found["s"], provider, found["v"], found["n"][:APP_CHARS], first, last),
        tuple(kinds),
        {name: good for name, good in cells.items() if good},
    )
    return line if len(dumps(line.to_json())) <= MAX_LINE else None


def _is_headed(found: Json) -> str:
    """Return the marker of an object that begins as a line does, or an empty string."""
    if not isinstance(found, dict):
        return ""
    marker = next((name for name in _MARKERS if name in found), "")
    if not _is_number(found.get(marker)) or found[marker] != VERSION:
        return ""
    texts = [found.get(name) for name in ("id", *"spn")]
    if not all(map(_is_name, texts)) or not _is_number(found.get("v")):
        return ""
    identifier, source, provider, _ = map(str, texts)
    matches = _ID.fullmatch(identifier) and _SOURCE.fullmatch(source)
    return marker if matches and provider in _CELLS else ""


def _is_counted(found: dict[str, Any]) -> bool:
    """Return whether the times, kinds and flags of a line with counts are valid."""
    kinds = found.get("k", ["user"])
    numbers = all(map(_is_number, (found.get("a"), found.get("b"))))
    named = isinstance(kinds, list) and all(map(_is_name, kinds))
    return numbers and named and isinstance(found.get("f"), dict)


def _event_line(found: dict[str, Any], marker: str, logged_at: int | None) -> EventLine | None:
    contexts, entries = found.get("c"), found.get("e")
    known = (found["p"], marker) in _ENTRIES
    if not known or not _are_objects(contexts) or not isinstance(entries, list):
        return None
    good = []
    for entry in entries:
        if not isinstance(entry, list) or not all(map(_is_number, entry[:2])) or len(entry) < 3:  # noqa: PLR2004 - the shortest
            continue
        place, at, *rest = entry
        if place < len(contexts) and _fits(rest, _ENTRIES[found["p"], marker]):
            good.append([place, at if logged_at is None else _near(at, logged_at), *rest])
    head = (found["id"], found["s"], found["p"], found["v"], found["n"][:APP_CHARS])
    line = EventLine(*head, marker, tuple(contexts), tuple(good))
    try:
        is_short = len(dumps(line.to_json())) <= MAX_LINE
    except (ValueError, RecursionError):  # infinity, or too deep
        return None
    return line if good and is_short else None


def _near(milliseconds: int, logged_at: int) -> int:
    """Return a time that is close to that of its log event."""
    earliest, latest = logged_at - LATE_S, logged_at + EARLY_S
    return min(max(milliseconds, 1000 * earliest), 1000 * latest)


def _fits(rest: list[Json], checks: tuple[Callable[[object], bool], ...]) -> bool:
    """Return whether an entry's parts after the time are valid; LaunchDarkly's may be the first."""
    if len(rest) == 1 and checks[0] is _is_number:
        checks = checks[:1]
    return len(rest) == len(checks) and all(
        check(part) for check, part in zip(checks, rest, strict=True)
    )


def _are_objects(values: object) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _cells(provider: str, given: Json) -> tuple[Cell, ...]:
    if not isinstance(given, list):
        return ()
    is_result, is_detail = _CELLS[provider]
    found = []
    for cell in given:
        if not isinstance(cell, list) or not 0 < len(cell) <= len(Cell._fields):
            continue
        count, result, detail = [*cell, None, None][: len(Cell._fields)]
        if _is_number(count) and 0 < count <= MAX_COUNT and is_result(result) and is_detail(detail):
            found.append(Cell(count, result, detail))
    return tuple(found)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < _SAFE


def _is_name(value: object) -> bool:
    """Return whether a value is a name: text that every database takes, of a reasonable length.

    PostgreSQL, which Unleash uses, refuses all that it gets together with a NUL.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CHARS:
        return False
    return not any(character < " " or "\ud800" <= character <= "\udfff" for character in value)


def _is_bit(value: object) -> bool:
    return type(value) is int and value in {0, 1}


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


_CELLS: dict[str, tuple[Callable[[object], bool], Callable[[object], bool]]] = {
    "launchdarkly": (_or_none(_is_number), _or_none(_is_number)),
    "split": (_is_name, _or_none(_is_number)),
    "unleash": (_is_bit, _or_none(_is_name)),
    "appconfig": (_is_bit, _or_none(_is_name)),
}
"""Provider → checks of a cell's result and detail."""


def _is_text(value: object) -> bool:
    return value == "" or _is_name(value)


def _is_amount(value: object) -> bool:
    return type(value) in {int, float} and -MAX_AMOUNT <= value <= MAX_AMOUNT  # type: ignore[operator] # a number


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


_ENTRIES: dict[tuple[str, str], tuple[Callable[[object], bool], ...]] = {
    ("launchdarkly", EXPOSURE): (
        *(_is_number, _is_name, _or_none(_is_number), _or_none(_is_number)),
        *(_or_none(_is_object), _is_text),
    ),
    ("launchdarkly", EVENT): (_is_number, _is_name, _or_none(_is_amount), lambda _data: True),
    ("split", EXPOSURE): (
        *(_is_name, _is_name, _is_text, _or_none(_is_number), _or_none(_is_number)),
    ),
    ("split", EVENT): (_is_name, _is_name, _or_none(_is_amount), _or_none(_is_object)),
}
"""Provider and marker → checks of the parts after an entry's time (:mod:`flagstore.exposures`)."""
