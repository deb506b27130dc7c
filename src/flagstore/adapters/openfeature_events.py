"""The status of an OpenFeature provider and its events: ready, stale, error, changed.

Source: OpenFeature's specification, "Providers" (initialization, shutdown) and "Events".
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from openfeature.event import ProviderEventDetails
from openfeature.exception import ProviderFatalError, ProviderNotReadyError
from openfeature.provider import AbstractProvider, ProviderStatus

from flagstore.adapters.openfeature_terms import error_of
from flagstore.errors import ConfigurationError, NotLoadedError
from flagstore.evaluation import base

if TYPE_CHECKING:
    from openfeature.evaluation_context import EvaluationContext

    from flagstore.flags import Flags
    from flagstore.snapshot import Snapshot

STATUSES = {
    "": ProviderStatus.READY,
    base.STALE: ProviderStatus.STALE,
}
"""What is wrong with the flags in hand → the provider's status. Anything else is ERROR."""

SILENT = {ProviderStatus.NOT_READY, ProviderStatus.FATAL}
"""Before, after and instead of anything that there could be to tell to event handlers."""


class EventfulProvider(AbstractProvider):
    """A provider that tells event handlers what becomes of its flags; it resolves none.

    It has no thread: ``_provider_event`` is to be called after each evaluation. Safe under threads.
    """

    def __init__(self, flags: Flags) -> None:
        """Wrap *flags*; nothing is read yet."""
        super().__init__()
        self._flags = flags
        self._status = ProviderStatus.NOT_READY
        self._seen: Snapshot | None = None
        self._lock = threading.Lock()

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Load the flag set.

        Raises:
            ProviderFatalError: a setting is missing or wrong; nothing will be evaluated.
            ProviderNotReadyError: nothing could be loaded yet; evaluations try again.
        """
        del evaluation_context
        status, seen = ProviderStatus.FATAL, None
        try:
            self._load()
            status, seen = ProviderStatus.READY, self._flags.current()
        except ConfigurationError as error:
            raise ProviderFatalError(str(error)) from error
        except NotLoadedError as error:
            status = ProviderStatus.ERROR
            raise ProviderNotReadyError(str(error)) from error
        finally:
            with self._lock:
                self._status, self._seen = status, seen

    def _load(self) -> None:
        self._flags.for_context(None)
        if self._flags.health() == base.NOT_LOADED:  # and the client gives defaults until then
            raise NotLoadedError(error_of(base.NOT_LOADED)[1])

    def shutdown(self) -> None:
        """Forget what was told to handlers. The client is the caller's, and stays as it is."""
        with self._lock:
            self._status, self._seen = ProviderStatus.NOT_READY, None

    def _provider_event(self) -> None:
        """Tell handlers what has become of the flags since they were last told; reads nothing."""
        if self._status in SILENT or self._news() == (self._status, self._seen):
            return
        with self._lock:  # once, and in order
            self._log_news(*self._news())

    def _log_news(self, status: ProviderStatus, seen: Snapshot | None) -> None:
        before, earlier = self._status, self._seen
        if before in SILENT:  # shut down meanwhile
            return
        self._status, self._seen = status, seen
        if status is not before:
            self._log_status(status)
        if seen is not None and earlier is not None and seen is not earlier:
            self._log_changes(earlier, seen)

    def _news(self) -> tuple[ProviderStatus, Snapshot | None]:
        status = STATUSES.get(self._flags.health(), ProviderStatus.ERROR)
        return status, self._flags.current()

    def _log_status(self, status: ProviderStatus) -> None:
        if status is ProviderStatus.READY:
            self.emit_provider_ready(ProviderEventDetails(message="the flags are fresh"))
        elif status is ProviderStatus.STALE:
            self.emit_provider_stale(
                ProviderEventDetails(message="the store cannot be read; flags in hand are used")
            )
        else:
            code, message = error_of(self._flags.health())
            self.emit_provider_error(ProviderEventDetails(message=message, error_code=code))

    def _log_changes(self, earlier: Snapshot, seen: Snapshot) -> None:
        self.emit_provider_configuration_changed(
            ProviderEventDetails(
                flags_changed=seen.changed_since(earlier),
                metadata={
                    "token": seen.snapshot_record.token,
                    "digest": seen.snapshot_record.digest,
                },
            )
        )
