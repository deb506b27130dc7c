"""Usage lines: how counts, exposures and tracked events pass through a function's log. Pure.

docs/usage.md has their format; ``storesync.usage_lines`` reads them.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Cell = tuple[Any, ...]
    """The flag's key and its result."""

COUNTS, EXPOSURE, EVENT = "flagstore.usage", "flagstore.exposure", "flagstore.event"
"""Markers: the first key of each line."""
LINE_BYTES = 4_000
"""Maximum size of a line. Pipes write up to 4,096 bytes at once; longer lines get mixed."""
ID_BYTES = 8
"""Random bytes of a line's id."""
APP_CHARS = 64
"""Maximum length of the application's name."""
MAX_COUNT = 10**9
"""Maximum of one count. Anyone who can write to the log can make one up."""


def line(marker: str, random: bytes, fields: Mapping[str, Any]) -> bytes:
    """Return a line with an id made of some *random* bytes."""
    name = b2a_base64(random, newline=False).decode().rstrip("=")
    name = name.replace("+", "-").replace("/", "_")
    return dumps({marker: 1, "id": name, **fields}).encode() + b"\n"


def parts(cells: Mapping[Cell, int], room: int) -> Iterator[dict[str, list[list[Any]]]]:
    """Yield all cells by flag, in parts whose JSON has at most *room* bytes."""
    flags: dict[str, list[list[Any]]] = {}
    left = room
    for (key, *result), count in list(cells.items()):  # a thread that had it before may add to it
        size = len(dumps(key)) + len(dumps([count, *result])) + len(":[],,")
        if size > room:
            continue  # no provider permits such a key
        if size > left:
            yield flags
            flags, left = {}, room
        flags.setdefault(key, []).append([count, *result])
        left -= size
    if flags:
        yield flags


def dumps(value: Any) -> str:  # noqa: ANN401 - JSON
    """Return compact ASCII JSON."""
    return json.dumps(value, separators=(",", ":"))
