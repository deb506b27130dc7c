"""A flag set in memory, as an evaluation engine reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Items:
    """The sections of a flag set; records reads, and raises an item that is an exception."""

    def __init__(self, meta: Mapping[str, Any] | None = None, /, **sections: Any) -> None:
        self.meta: Mapping[str, Any] = meta or {}
        self.sections = sections
        self.asked: list[tuple[str, str]] = []

    def item(self, section: str, key: str) -> Any:
        self.asked.append((section, key))
        item = self.sections.get(section, {}).get(key)
        if isinstance(item, Exception):
            raise item
        return item
