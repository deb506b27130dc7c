"""Serve Unleash's SDK from a client's flags. ``flagstore[unleash]``.

::

    unleash = SnapshotClient(flagstore.client("prod"), "shop", environment="production")
    unleash.is_enabled("new-checkout", {"userId": "ada"})

``UnleashClient`` 6.9 loads its engine from a cache. :class:`SnapshotCache` is such a cache, for a
client that you create yourself; :class:`SnapshotClient` is an ``UnleashClient`` with that cache. It
checks for newer features when it is used: a background thread would be frozen by Lambda.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from UnleashClient import UnleashClient  # type: ignore[import-not-found] # optional, absent from mypy's venv
from UnleashClient.cache import BaseCache  # type: ignore[import-not-found]
from UnleashClient.constants import FEATURES_URL  # type: ignore[import-not-found]

from flagstore.cache import FIRST_LOAD_S
from flagstore.encode import unleash_document
from flagstore.errors import NotLoadedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.clients import Client
    from flagstore.snapshot import Snapshot

NO_SERVER = "http://127.0.0.1:9/api"
"""Required by the SDK, but never contacted."""


class SnapshotCache(BaseCache):  # type: ignore[misc] # see above
    """A cache with the features of the client's flag set, and the values that the SDK writes.

    With ``bootstrapped``, an ``UnleashClient`` loads the features when it is created, without
    ``initialize_client()``, and does not refresh them.
    """

    def __init__(self, client: Client, *, bootstrapped: bool = True) -> None:
        """Wrap a client; nothing is read yet."""
        self._client = client
        self._written: dict[str, Any] = {}
        self._document: tuple[Snapshot, str] | None = None
        self.bootstrapped = bootstrapped

    def get(self, key: str, default: Any = None) -> Any:
        """Return the features as the server sends them, or a value that the SDK wrote.

        Raises as :meth:`SnapshotClient.refresh` does.
        """
        if key != FEATURES_URL:
            return self._written.get(key, default)
        snapshot = self._client.snapshot()
        made = self._document
        if made is None or made[0] is not snapshot:
            made = self._document = (snapshot, unleash_document(snapshot))
        return made[1]

    def set(self, key: str, value: Any) -> None:
        """Store one of the SDK's values; features always come from the flag set."""
        self._written[key] = value

    def mset(self, data: Mapping[str, Any]) -> None:
        """Store several of the SDK's values."""
        self._written.update(data)

    def exists(self, key: str) -> bool:
        """Return whether a value exists; features always do."""
        return key == FEATURES_URL or key in self._written

    def destroy(self) -> None:
        """Drop the SDK's values. The client belongs to the caller and stays open."""
        self._written.clear()


class SnapshotClient(UnleashClient):  # type: ignore[misc] # see above
    """An ``UnleashClient`` that follows the client's flag set.

    Metrics and registration are off: there is no server to send them to.
    """

    def __init__(self, client: Client, app_name: str, **options: Any) -> None:
        """Wrap a client; nothing is read yet.

        Args:
            client: the client of an Unleash source.
            app_name: compared by rules on ``appName``.
            options: as for ``UnleashClient``: ``environment``, ``custom_strategies``, …
        """
        self._flagstore = client
        self._taken: Snapshot | None = None
        self._taking = threading.Lock()
        self._jobs = _OnCall()
        super().__init__(
            **{"url": NO_SERVER, "disable_metrics": True, "disable_registration": True, **options},
            app_name=app_name,
            cache=SnapshotCache(client, bootstrapped=False),
            scheduler=self._jobs,
            scheduler_executor="on call",
        )

    def refresh(self) -> bool:
        """Load newer features; return whether there were any. Every evaluation calls this.

        Raises:
            NotLoadedError: if nothing has been loaded yet, or a large segment cannot be read.
            ConfigurationError: if a setting is missing, or the flags belong to another provider.
        """
        snapshot = self._flagstore.snapshot()
        if snapshot is self._taken:
            return False
        # One thread loads them; the others wait only if they have none yet.
        if not self._taking.acquire(timeout=FIRST_LOAD_S if self._taken is None else 0):
            return False
        try:
            snapshot = self._flagstore.snapshot()
            if snapshot is self._taken:
                return False
            if self._jobs.jobs:
                for load in self._jobs.jobs:
                    load()
            else:
                self.initialize_client(fetch_toggles=False)
            self._taken = snapshot
            return True
        finally:
            self._taking.release()

    def is_enabled(
        self,
        feature_name: str,
        context: dict[str, Any] | None = None,
        fallback_function: Callable[..., bool] | None = None,
    ) -> bool:
        """Return whether a feature is on; until features are loaded, all are unknown."""
        with contextlib.suppress(NotLoadedError):
            self.refresh()
        enabled: bool = super().is_enabled(feature_name, context, fallback_function)
        return enabled

    def get_variant(
        self, feature_name: str, context: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the variant of a feature; until features are loaded, the disabled one."""
        with contextlib.suppress(NotLoadedError):
            self.refresh()
        variant: dict[str, Any] = super().get_variant(feature_name, context)
        return variant

    def feature_definitions(self) -> dict[str, Any]:
        """Return the SDK's definitions of its features."""
        with contextlib.suppress(NotLoadedError):
            self.refresh()
        known: dict[str, Any] = super().feature_definitions()
        return known


class _OnCall:
    """A scheduler that runs its only job, loading the cache, on demand."""

    state = 1
    """Running, so that the SDK does not start it."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], Any]] = []

    def add_job(self, job: Callable[[], Any], **_when: Any) -> _OnCall:
        self.jobs.append(job)
        return self

    def remove(self) -> None:
        self.jobs.clear()

    remove_all_jobs = remove

    def shutdown(self, *, wait: bool = True) -> None:
        """Do nothing."""
