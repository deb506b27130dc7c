"""Serve Split's SDK from a client's flags. ``flagstore[split]``.

::

    from splitio import get_factory

    wrapper = SnapshotWrapper(flagstore.client("prod"))
    config = {"storageType": "pluggable", "storageWrapper": wrapper, "impressionsMode": "none"}
    split = get_factory("no-key", config=config).client()

With pluggable storage the SDK, splitio_client 10.7, reads flags, rule-based segments and segment
membership from its wrapper at each evaluation, and never contacts Split; this wrapper keeps the
flag set in memory. Its keys are those of Split's Redis layout, with any ``storagePrefix``.

The SDK's writes (impressions, events, telemetry) are dropped. To receive impressions, give the SDK
an ``impressionListener``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstore.errors import FlagNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flagstore.clients import Client
    from flagstore.codec import Json
    from flagstore.snapshot import Snapshot

ROOT = "SPLITIO."
SECTIONS = {"split": "flags", "rbsegment": "rule_based_segments", "segment": "segments"}
"""First part of a key after its root → section of a flag set."""


class SnapshotWrapper:
    """A read-only storage wrapper over the client's flag set; it returns copies.

    Its methods raise :class:`flagstore.NotLoadedError` if nothing has been loaded yet, or a large
    segment cannot be read: the SDK logs that and returns ``control``, or sees an empty segment.
    """

    def __init__(self, client: Client) -> None:
        """Wrap a client; nothing is read yet."""
        self._client = client
        self._view: _View | None = None

    def get(self, key: str) -> Any:
        """Return a flag or rule-based segment as in Split's response, a counter, or None."""
        return self._current().get(key)

    def get_many(self, keys: Iterable[str]) -> list[Any]:
        """Return those items that exist."""
        view = self._current()
        found = (view.get(key) for key in keys)
        return [item for item in found if item is not None]

    def get_keys_by_prefix(self, prefix: str) -> list[str]:
        """Return the sorted keys of all flags, segments or rule-based segments."""
        return self._current().keys(prefix)

    def item_contains(self, key: str, item: str) -> bool:
        """Return whether a segment has a key."""
        return item in self._current().members(key)

    def get_items(self, key: str) -> set[str]:
        """Return the keys of a segment."""
        return set(self._current().members(key))

    def get_items_count(self, key: str) -> int:
        """Return the number of keys of a segment."""
        return len(self._current().members(key))

    def _current(self) -> _View:
        snapshot = self._client.snapshot()
        view = self._view
        if view is None or view.snapshot is not snapshot:
            snapshot.check_provider("split", "Split")
            view = self._view = _View(snapshot)
        return view

    def _drop(self, key: str, value: object = None, *more: object) -> int:
        """Drop a write; return 0 as the length of the queue or the new count."""
        del key, value, more
        return 0

    set = delete = add_items = remove_items = _drop
    push_items = increment = decrement = expire = _drop


class _View:
    """One flag set under the SDK's keys; indexes are built on first use."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._members: dict[str, frozenset[str]] = {}
        self._sets: dict[str, list[str]] | None = None
        self._traffic_types: dict[str, int] = {}

    def get(self, key: str) -> Any:
        kind, _, name = key.partition(ROOT)[2].partition(".")
        if kind in {"split", "rbsegment"}:
            return self._item(SECTIONS[kind], name)
        if kind in {"splits", "rbsegments"} or (kind == "segment" and name.endswith(".till")):
            return self.snapshot.snapshot_record.revision
        if kind == "flagSet":
            return list(self._flag_sets().get(name, ())) or None
        if kind == "trafficType":
            self._flag_sets()
            return self._traffic_types.get(name)
        return None

    def keys(self, prefix: str) -> list[str]:
        before, root, rest = prefix.partition(ROOT)
        kind, _, start = rest.partition(".")
        section = SECTIONS.get(kind)
        if section is None:
            return []
        names = self.snapshot.keys(section)
        return [f"{before}{root}{kind}.{name}" for name in names if name.startswith(start)]

    def members(self, key: str) -> frozenset[str]:
        name = key.partition(f"{ROOT}segment.")[2]
        members = self._members.get(name)
        if members is None:
            try:
                found = self.snapshot.item("segments", name)["keys"]
            except FlagNotFoundError:
                return frozenset()  # not cached: callers may invent any number of names
            members = self._members[name] = frozenset(found)
        return members

    def _item(self, section: str, name: str) -> Json:
        try:
            item = self.snapshot.item(section, name)
        except FlagNotFoundError:
            return None
        for condition in item.get("conditions") or ():
            for matcher in (condition.get("matcherGroup") or {}).get("matchers") or ():
                selector = matcher.get("keySelector")
                # This SDK would look up an attribute named ""; Split's others treat it as unset.
                if isinstance(selector, dict) and selector.get("attribute") == "":
                    selector["attribute"] = None
        return item

    def _flag_sets(self) -> dict[str, list[str]]:
        """Return the flags of each of Split's flag sets; count those of each traffic type."""
        sets = self._sets
        if sets is None:
            sets = {}
            counts: dict[str, int] = {}
            for name in self.snapshot:
                flag = self.snapshot[name]
                for flag_set in flag.get("sets") or ():
                    sets.setdefault(flag_set, []).append(name)
                traffic_type = flag.get("trafficTypeName")
                counts[traffic_type] = counts.get(traffic_type, 0) + 1
            self._traffic_types, self._sets = counts, sets
        return sets
