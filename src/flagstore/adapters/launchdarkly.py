"""Serve LaunchDarkly's SDK from a client's flags. ``flagstore[launchdarkly]``.

::

    from ldclient import Config, LDClient

    store = SnapshotFeatureStore(flagstore.client("prod"))
    config = Config("no-key", feature_store=store, use_ldd=True, send_events=False)
    ld = LDClient(config, start_wait=0)

In daemon mode (``use_ldd``) the SDK, launchdarkly-server-sdk 9.18, reads flags from its store and
never contacts LaunchDarkly. This store keeps the flag set in memory, and refreshes it as
:class:`flagstore.Client` does. As with LaunchDarkly's stores, an evaluation during a change may
combine a new flag with an old prerequisite.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ldclient.interfaces import FeatureStore  # type: ignore[import-not-found] # optional, absent from mypy's venv

from flagstore.errors import FlagNotFoundError, FlagstoreError
from flagstore.flags import deep_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.clients import Client
    from flagstore.snapshot import Snapshot

SECTIONS = {"features": "flags", "segments": "segments"}
"""LaunchDarkly's kind of data → section of a flag set."""

_LOG = logging.getLogger("flagstore")


class SnapshotFeatureStore(FeatureStore):  # type: ignore[misc] # see above
    """A read-only feature store over the client's flag set. Thread-safe.

    Flags and segments are decoded into the SDK's objects on first use, once per flag set.
    Values are copies: changing one does not change the flag.
    """

    def __init__(self, client: Client) -> None:
        """Wrap a client; nothing is read yet."""
        self._client = client
        self._decoded: tuple[Snapshot, dict[tuple[str, str], Any], dict[str, Any]] | None = None

    def get(self, kind: Any, key: str, callback: Callable[[Any], Any] = lambda item: item) -> Any:
        """Return *callback* applied to a flag or segment, or to None.

        Raises:
            NotLoadedError: if nothing has been loaded yet, or a large segment cannot be read; the
                SDK then returns the default, with the reason ``EXCEPTION``.
            ConfigurationError: if the flags belong to another provider.
        """
        snapshot, items, _ = self._current()
        return callback(_item(snapshot, items, kind, key))

    def all(self, kind: Any, callback: Callable[[Any], Any] = lambda items: items) -> Any:
        """Return *callback* applied to all flags or segments by key; raises as :meth:`get` does.

        Items that the SDK cannot decode are logged and left out.
        """
        snapshot, items, whole = self._current()
        if kind.namespace not in whole:
            found = {}
            for key in snapshot.keys(SECTIONS[kind.namespace]):
                try:
                    item = _item(snapshot, items, kind, key)
                except (ValueError, TypeError) as error:
                    _LOG.warning("%s %r is malformed: %s", kind.namespace, key, error)
                    continue
                if item is not None:
                    found[key] = item
            whole[kind.namespace] = found
        return callback(dict(whole[kind.namespace]))

    def _current(self) -> tuple[Snapshot, dict[tuple[str, str], Any], dict[str, Any]]:
        snapshot = self._client.snapshot()
        decoded = self._decoded
        if decoded is None or decoded[0] is not snapshot:
            snapshot.check_provider("launchdarkly", "LaunchDarkly")
            decoded = self._decoded = (snapshot, {}, {})
        return decoded

    @property
    def initialized(self) -> bool:
        """Whether a flag set is loaded; if not, try to load it."""
        try:
            self._current()
        except FlagstoreError:
            return False
        return True

    def init(self, all_data: Mapping[Any, Mapping[str, Any]]) -> None:
        """Do nothing: SyncFunction writes the store."""

    def upsert(self, kind: Any, item: Mapping[str, Any]) -> None:
        """Do nothing."""

    def delete(self, kind: Any, key: str, version: int) -> None:
        """Do nothing."""


class _Variations(list[Any]):
    """The values of a flag, each returned as a copy."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        return deep_copy(super().__getitem__(index))

    def __iter__(self) -> Iterator[Any]:
        return map(deep_copy, super().__iter__())


def _item(snapshot: Snapshot, items: dict[tuple[str, str], Any], kind: Any, key: str) -> Any:
    """Return a flag or segment as the SDK's object, decoded once; None if there is none."""
    place = (kind.namespace, key)
    if place not in items:
        try:
            item = snapshot.item(SECTIONS[kind.namespace], key)
        except FlagNotFoundError:
            return None
        if item.get("deleted"):
            return None
        values = item.get("variations")
        if isinstance(values, list) and any(isinstance(value, (dict, list)) for value in values):
            item["variations"] = _Variations(values)
        items[place] = kind.decode(item)
    return items[place]
