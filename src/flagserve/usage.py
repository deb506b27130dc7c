"""Usage of clients: the counts that Unleash's SDKs post, as the lines that readers print. Pure.

UsageFunction takes them from the log (docs/usage.md).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from flagstore.lines import APP_CHARS, COUNTS, ID_BYTES, LINE_BYTES, MAX_COUNT, line, parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.snapshot import Snapshot

MAX_LINES = 16
"""Per request. Anyone with a browser's key can send anything."""
NO_VARIANT = "disabled"


def lines(
    report: Mapping[str, Any],
    snapshot: Snapshot,
    sees: Callable[[str], bool],
    now_s: int,
    random: Callable[[int], bytes],
) -> Iterator[bytes]:
    """Yield the lines for a report that was checked.

    Args:
        report: the body of ``/api/client/metrics``.
        snapshot: the flag set; other flags are left out.
        sees: whether the client may know of a flag.
        now_s: seconds since the epoch. Clients' clocks may be wrong.
        random: returns random bytes, as ``os.urandom``.
    """
    head = {
        "s": snapshot.source,
        "p": "unleash",
        "v": snapshot.snapshot_record.token,
        "n": report["appName"][:APP_CHARS],
        "a": now_s,
        "b": now_s,
    }
    cells = {
        (name, *result): count
        for name, counts in report["bucket"]["toggles"].items()
        if sees(name) and name in snapshot
        for count, *result in _cells(counts)
    }
    room = LINE_BYTES - len(line(COUNTS, bytes(ID_BYTES), {**head, "f": {}}))
    for flags in islice(parts(cells, room), MAX_LINES):
        yield line(COUNTS, random(ID_BYTES), {**head, "f": flags})


def _cells(counts: Mapping[str, Any]) -> list[list[Any]]:
    """Return a flag's counts, each with whether it was enabled and its variant.

    An SDK counts each request for a variant twice: as yes or no, and by the variant's name.
    """
    left = [_whole(counts.get("no")), _whole(counts.get("yes"))]
    given = counts.get("variants")
    variants = given.items() if isinstance(given, dict) else ()
    cells: list[list[Any]] = []
    for name, count in variants:
        # A flag that is off has only this variant.
        for enabled in (0, 1) if name == NO_VARIANT else (1,):
            taken = min(_whole(count), left[enabled])
            left[enabled] -= taken
            count = _whole(count) - taken  # noqa: PLW2901 - what is left of it
            cells.append([taken, enabled, name])
    cells += [[left[1], 1], [left[0], 0]]
    return [cell for cell in cells if cell[0]]


def _whole(value: object) -> int:
    if not isinstance(value, (int, float)) or not value > 0:
        return 0
    return int(min(value, MAX_COUNT))
