"""Unleash's own SDK on one read of the store. ``flagstore[unleash]``.

::

    unleash = SnapshotClient(flagstore.client("prod"), "shop", environment="production")
    unleash.is_enabled("new-checkout", {"userId": "ada"})

``UnleashClient`` 6.9 keeps its features in an engine of its own, which it fills from a cache.
:class:`SnapshotCache` is that cache, for clients of your own making; :class:`SnapshotClient` is an
``UnleashClient`` with it that looks for newer features when it is asked, not in a thread, which
Lambda would freeze.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from UnleashClient import (  # type: ignore[import-not-found] # an extra, not here for checks
    UnleashClient,
)
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
"""The SDK wants an address, and asks nothing there."""


class SnapshotCache(BaseCache):  # type: ignore[misc] # see above
    """A cache that holds the features of the client's flag set; what the SDK writes stays here.

    With ``bootstrapped`` an ``UnleashClient`` takes the features as it is made, and needs no
    ``initialize_client()``; it does not look again.
    """

    def __init__(self, client: Client, *, bootstrapped: bool = True) -> None:
        """Make the cache of a client; nothing is read yet."""
        self._client = client
        self._written: dict[str, Any] = {}
        self._document: tuple[Snapshot, str] | None = None
        self.bootstrapped = bootstrapped

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - the SDK's own
        """Return the features as the server would have sent them, or what the SDK wrote.

        Raises:
            NotLoadedError: nothing could be loaded yet, or a large segment cannot be read now.
            ConfigurationError: the flags are another provider's.
        """
        if key != FEATURES_URL:
            return self._written.get(key, default)
        snapshot = self._client.snapshot()
        made = self._document
        if made is None or made[0] is not snapshot:
            made = self._document = (snapshot, unleash_document(snapshot))
        return made[1]

    def set(self, key: str, value: Any) -> None:  # noqa: ANN401 - the SDK's own
        """Keep what the SDK notes; features come from the flag set alone."""
        self._written[key] = value

    def mset(self, data: Mapping[str, Any]) -> None:
        """Keep what the SDK notes."""
        self._written.update(data)

    def exists(self, key: str) -> bool:
        """Say whether there is something; there are always features."""
        return key == FEATURES_URL or key in self._written

    def destroy(self) -> None:
        """Forget what the SDK wrote. The client is the caller's, and stays as it is."""
        self._written.clear()


class SnapshotClient(UnleashClient):  # type: ignore[misc] # see above
    """An ``UnleashClient`` that has the features of the client's flag set, always the newest.

    Metrics and registration are off: there is no server to send them to.
    """

    def __init__(self, client: Client, app_name: str, **options: Any) -> None:  # noqa: ANN401 - the SDK's own
        """Make one; nothing is read yet.

        Args:
            client: the client of an Unleash source.
            app_name: what rules on ``appName`` compare with.
            options: as of ``UnleashClient``: ``environment``, ``custom_strategies``, …
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
        """Take newer features if there are any, and say whether there were; also at each question.

        Raises:
            NotLoadedError: nothing could be loaded yet, or a large segment cannot be read now.
            ConfigurationError: a setting is missing, or the flags are another provider's.
        """
        snapshot = self._flagstore.snapshot()
        if snapshot is self._taken:
            return False
        # One takes, and nobody waits for it who has features already.
        if not self._taking.acquire(timeout=0 if self._taken else FIRST_LOAD_S):
            return False
        try:
            snapshot = self._flagstore.snapshot()
            if snapshot is self._taken:
                return False
            if self._jobs.jobs:
                self._jobs.run()
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
        """Say whether a feature is on; without features, what the SDK says of an unknown one."""
        with contextlib.suppress(NotLoadedError):
            self.refresh()
        enabled: bool = super().is_enabled(feature_name, context, fallback_function)
        return enabled

    def get_variant(
        self, feature_name: str, context: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the variant of a feature; without features, the SDK's disabled one."""
        with contextlib.suppress(NotLoadedError):
            self.refresh()
        variant: dict[str, Any] = super().get_variant(feature_name, context)
        return variant

    def feature_definitions(self) -> dict[str, Any]:
        """Return what the SDK knows of its features."""
        with contextlib.suppress(NotLoadedError):
            self.refresh()
        known: dict[str, Any] = super().feature_definitions()
        return known


class _OnCall:
    """A scheduler, as far as the SDK uses one, whose jobs run when they are called for."""

    state = 0

    def __init__(self) -> None:
        self.jobs: list[Callable[[], Any]] = []

    def add_job(self, job: Callable[[], Any], **_when: Any) -> _OnCall:  # noqa: ANN401 - the SDK's own
        """Keep a job: with metrics and registration off, there is one, to load the cache."""
        self.jobs.append(job)
        return self

    def run(self) -> None:
        """Run the jobs."""
        for job in self.jobs:
            job()

    def remove(self) -> None:
        """Forget the job; the SDK's word for one."""
        self.jobs.clear()

    def remove_all_jobs(self) -> None:
        """Forget all jobs; the SDK's word at its end."""
        self.jobs.clear()

    def start(self) -> None:
        """Start nothing."""

    def shutdown(self, *, wait: bool = True) -> None:
        """Stop nothing."""
