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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from storesync.model import Json

MARKER = "flagstore.usage"
VERSION = 1
MAX_COUNT = 10**9
MAX_CHARS = 256
"""Maximum length of each name."""
MAX_APP_CHARS = 64
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

_LINE = re.compile(r'\{\s*"flagstore\.usage"\s*:')
_MENTION = re.compile(r'flagstore\.usage\\*"')
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
    unleash       1 or 0: enabled               variant; None: it was not asked
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
        return {MARKER: VERSION, "id": self.id, **names, "f": cells}


class Lines(NamedTuple):
    """The lines of one delivery."""

    found: list[Line]
    malformed: int
    """Number of lines that are cut off, damaged or of another version."""


def read_delivery(delivery: Json, own_log_group: str = "") -> Lines:
    """Return the usage lines in a delivery of CloudWatch Logs (``event["awslogs"]``).

    A delivery of *own_log_group* has none: the function must not process what it logs itself.

    Raises:
        ValueError: it is not such a delivery.
    """
    document = _inflated(delivery)
    if document.get("messageType") != "DATA_MESSAGE" or document.get("logGroup") == own_log_group:
        return Lines([], 0)
    checked: list[Line | None] = []
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
    """Yield what may be a line, wherever it is in a message; None for one that is damaged."""
    if not _MENTION.search(message):
        return
    starts = [match.start() for match in islice(_LINE.finditer(message), MAX_PER_MESSAGE)]
    if starts:
        yield from (_decoded(message[start : start + MAX_LINE]) for start in starts)
        return
    # A logger has put it into an object of its own: its fields, or as a string.
    for brace in islice(re.finditer("{", message), MAX_PER_MESSAGE):
        whole = _decoded(message[brace.start() :])
        if isinstance(whole, dict):
            yield from _within(whole, depth)
            return
    yield None


def _within(whole: dict[str, Any], depth: int) -> Iterator[Json]:
    if MARKER in whole:
        yield whole
        return
    for value in whole.values():
        if isinstance(value, str) and depth:
            yield from _candidates(value, depth - 1)
        elif isinstance(value, dict) and MARKER in value:
            yield value


def _decoded(text: str) -> Json:
    """Return the JSON that a text begins with, or None."""
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


# -- one line


def parse(found: Json, logged_at: int | None = None) -> Line | None:
    """Return a line from its JSON, or None if it is invalid. Invalid cells are left out.

    *logged_at*: time of its log event in seconds; its evaluations are moved close to it.
    """
    if not _is_line(found):
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
        *(found["id"], found["s"], provider, found["v"], found["n"][:MAX_APP_CHARS], first, last),
        tuple(kinds),
        {name: good for name, good in cells.items() if good},
    )
    return line if len(dumps(line.to_json())) <= MAX_LINE else None


def _is_line(found: Json) -> TypeGuard[dict[str, Any]]:
    """Return whether everything but the cells is valid."""
    if not isinstance(found, dict) or not _is_number(found.get(MARKER)):
        return False
    texts, numbers = ([found.get(name) for name in names] for names in (("id", *"spn"), "vab"))
    kinds = found.get("k", ["user"])
    if found[MARKER] != VERSION or not all(map(_is_name, texts)) or not isinstance(kinds, list):
        return False
    identifier, source, provider, _ = map(str, texts)
    return (
        bool(_ID.fullmatch(identifier) and _SOURCE.fullmatch(source))
        and provider in _CELLS
        and all(map(_is_number, numbers))
        and all(map(_is_name, kinds))
        and isinstance(found.get("f"), dict)
    )


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
    """Return whether a value is a name: text that UTF-8 can encode, of a reasonable length."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CHARS:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


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
