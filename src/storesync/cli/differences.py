"""Two flag sets compared, field by field. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flagstore.encode import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storesync.model import Changes, FlagSet, Json

MAX_SHOWN = 60
"""Characters of one value that a person sees; ``--json`` has all of it."""
MAX_FIELDS = 20
"""Fields of one flag that a person sees."""

type Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One field that differs. What is not there at all is ``MISSING``."""

    path: Path
    before: Json
    after: Json

    @property
    def name(self) -> str:
        """The path as a person writes it: ``rules[0].variation``."""
        text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path)
        return text.removeprefix(".")

    def to_json(self) -> dict[str, Any]:
        """Return the field; ``before`` or ``after`` is left out where there was none."""
        sides = {"before": self.before, "after": self.after}
        return {"field": self.name} | {
            side: value for side, value in sides.items() if value is not MISSING
        }


class _Missing:
    """The value of a field that is not there, which null is not."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Json = _Missing()


def fields(before: Json, after: Json, path: Path = ()) -> Iterator[Field]:
    """Yield the fields that differ, in order of the documents."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            yield from fields(before.get(key, MISSING), after.get(key, MISSING), (*path, key))
    elif isinstance(before, list) and isinstance(after, list) and _by_place(before, after):
        for at in range(max(len(before), len(after))):
            old = before[at] if at < len(before) else MISSING
            new = after[at] if at < len(after) else MISSING
            yield from fields(old, new, (*path, at))
    elif MISSING in (before, after) or canonical(before) != canonical(after):
        yield Field(path, before, after)


def _by_place(before: list[Json], after: list[Json]) -> bool:
    """Compare item by item what holds objects; a list of keys is one value."""
    return any(isinstance(item, dict) for item in (*before, *after))


def to_json(old: FlagSet, new: FlagSet, changes: Changes) -> dict[str, Any]:
    """Return everything that differs."""
    return {
        "added": list(changes.added),
        "removed": list(changes.removed),
        "changed": {
            name: [field.to_json() for field in _fields_of(old, new, name)]
            for name in changes.changed
        },
    }


def lines(old: FlagSet, new: FlagSet, changes: Changes) -> Iterator[str]:
    """Say what differs: ``+`` added, ``-`` removed, ``~`` changed with its fields."""
    for name in changes.added:
        yield f"+ {name}"
    for name in changes.removed:
        yield f"- {name}"
    for name in changes.changed:
        yield f"~ {name}"
        found = _fields_of(old, new, name)
        for field in found[:MAX_FIELDS]:
            yield f"    {field.name}: {_change(field)}"
        if len(found) > MAX_FIELDS:
            yield f"    … and {len(found) - MAX_FIELDS} more fields"
    yield summary(changes)


def summary(changes: Changes) -> str:
    """Say how much differs."""
    if not changes:
        return "no difference"
    counted = (
        (len(changes.added), "added"),
        (len(changes.removed), "removed"),
        (len(changes.changed), "changed"),
    )
    return ", ".join(f"{number} {word}" for number, word in counted if number)


def _fields_of(old: FlagSet, new: FlagSet, name: str) -> list[Field]:
    section, _, key = name.partition("/")
    return list(fields(old.item(section, key), new.item(section, key)))


def _change(field: Field) -> str:
    before, after = field.before, field.after
    if isinstance(before, list) and isinstance(after, list):
        gone = [item for item in before if item not in after]
        come = [item for item in after if item not in before]
        if gone or come:
            told = [f"+ {_shown(item)}" for item in come] + [f"- {_shown(item)}" for item in gone]
            more = [f"… {len(told) - 5} more"] if len(told) > 5 else []  # noqa: PLR2004 - a line
            return ", ".join(told[:5] + more)
        return "in another order"
    return f"{_shown(before)} → {_shown(after)}"


def _shown(value: Json) -> str:
    if value is MISSING:
        return "(none)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
