"""An OpenFeature provider: flags through a vendor-neutral interface. ``flagstore[openfeature]``.

::

    from openfeature import api

    api.set_provider_and_wait(FlagstoreProvider(flagstore.client("prod")))

The flag metadata has:

``reason``
    The reason code from :mod:`flagstore.evaluation.base`.
``in_experiment``, ``age_s``, ``stale``
    As in :class:`flagstore.Detail`.
``rule``, ``rule_index``, ``version``, ``deployment``, ``config``
    The same, omitted if there is none. ``config`` is a string: an object (the payload of an Unleash
    variant) becomes JSON.

For openfeature-sdk 0.10.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderFatalError, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata, ProviderStatus

from flagstore import terms
from flagstore.errors import ConfigurationError, FlagstoreError, NotLoadedError
from flagstore.evaluation import base

if TYPE_CHECKING:
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.flag_evaluation import FlagMetadata
    from openfeature.track import TrackingEventDetails

    from flagstore.codec import Json
    from flagstore.flags import Detail, Flags
    from flagstore.snapshot import Snapshot

STATUSES = {"": ProviderStatus.READY, base.STALE: ProviderStatus.STALE}
"""A client's health → the provider's status. Anything else is ERROR."""
SILENT = {ProviderStatus.NOT_READY, ProviderStatus.FATAL}
"""Statuses without events."""


def _resolvers(kind: type) -> tuple[Any, Any]:
    """Return the synchronous and the async method that resolve flags of one type.

    ``bool`` is whether the flag is on. Ints count as floats, bools do not count as numbers, and
    ``dict`` includes lists.
    """

    def resolve(
        self: FlagstoreProvider,
        flag_key: str,
        default_value: Json,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Any]:
        return self._resolve(flag_key, default_value, evaluation_context, kind)

    async def resolve_async(
        self: FlagstoreProvider,
        flag_key: str,
        default_value: Json,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Any]:
        try:
            waits = self._flags.may_block()
        except ConfigurationError:
            waits = False  # the evaluation reports it
        if not waits:
            return resolve(self, flag_key, default_value, evaluation_context)
        import asyncio  # noqa: PLC0415 - 15 ms; an event loop has imported it already

        return await asyncio.to_thread(resolve, self, flag_key, default_value, evaluation_context)

    return resolve, resolve_async


class FlagstoreProvider(AbstractProvider):
    """Resolves flags of a client or any other :class:`flagstore.Flags`. Thread-safe.

    The ``*_async`` methods wait for the store in a thread, not in the event loop. There is no
    background thread, which Lambda would freeze: the first evaluation that finds flags stale, fresh
    again or changed sends the event.
    """

    def __init__(self, flags: Flags) -> None:
        """Wrap *flags*; nothing is read yet."""
        super().__init__()
        self._flags = flags
        self._status = ProviderStatus.NOT_READY
        self._seen: Snapshot | None = None
        self._reached = 0.0
        self._lock = threading.Lock()

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Load the flag set.

        Raises:
            ProviderFatalError: if a setting is missing or wrong; nothing will be evaluated.
            ProviderNotReadyError: if nothing has been loaded yet; evaluations retry.
        """
        del evaluation_context
        status, seen = ProviderStatus.FATAL, None
        try:
            self._flags.for_context(None)
            if self._flags.health() == base.NOT_LOADED:  # the client returns defaults until then
                raise NotLoadedError(_error(base.NOT_LOADED)[1])  # noqa: TRY301 - as the client's
            status, seen = ProviderStatus.READY, self._flags.current()
        except ConfigurationError as error:
            raise ProviderFatalError(str(error)) from error
        except NotLoadedError as error:
            status = ProviderStatus.ERROR
            raise ProviderNotReadyError(str(error)) from error
        finally:
            with self._lock:
                self._status, self._seen, self._reached = status, seen, self._percentage(seen)

    def shutdown(self) -> None:
        """Stop sending events. The client belongs to the caller and stays open."""
        with self._lock:
            self._status, self._seen = ProviderStatus.NOT_READY, None

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="flagstore")

    resolve_boolean_details, resolve_boolean_details_async = _resolvers(bool)
    resolve_string_details, resolve_string_details_async = _resolvers(str)
    resolve_integer_details, resolve_integer_details_async = _resolvers(int)
    resolve_float_details, resolve_float_details_async = _resolvers(float)
    resolve_object_details, resolve_object_details_async = _resolvers(dict)

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Record an event, if the client does: see :meth:`flagstore.Flags.track`."""
        details = tracking_event_details
        value = None if details is None else details.value
        data = None if details is None else _json(details.attributes) or None
        with suppress(FlagstoreError):  # nothing is loaded; evaluations report it
            self._flags.track(
                tracking_event_name, context_of(evaluation_context), value=value, data=data
            )

    def _resolve(
        self, key: str, default: Json, given: EvaluationContext | None, kind: type
    ) -> FlagResolutionDetails[Any]:
        try:
            probe = _probe(default, kind)
            detail = self._detail(key, given, probe)
            value = float(detail.value) if kind is float else detail.value
        except NotLoadedError as error:
            return self._failed(default, ErrorCode.PROVIDER_NOT_READY, str(error))
        except ConfigurationError as error:
            return self._failed(default, ErrorCode.PROVIDER_FATAL, str(error))
        except (TypeError, OverflowError) as error:  # an integer may be too large for a float
            return self._failed(default, ErrorCode.TYPE_MISMATCH, str(error))
        self._send_events()
        metadata = _metadata(detail)
        if detail.error:
            code, message = _error(detail.error)
            message = f"{key!r}: {message}"
            return FlagResolutionDetails(default, code, message, Reason.ERROR, None, metadata)
        return FlagResolutionDetails(
            default if kind is dict and value is probe else value,
            reason=_reason(detail),
            variant=None if detail.variant is None else str(detail.variant),
            flag_metadata=metadata,
        )

    def _detail(self, key: str, given: EvaluationContext | None, probe: Json) -> Detail:
        flags = self._flags.for_context(context_of(given))
        if isinstance(probe, (dict, list)):
            # OpenFeature's structures are objects and lists: try both, and count one evaluation.
            tried = flags._resolve(key, probe)  # noqa: SLF001 - as `detail`, but not observed
            if tried.error == base.WRONG_TYPE:
                probe = [] if isinstance(probe, dict) else {}
        return flags.detail(key, default=probe)

    def _failed(self, default: Json, code: ErrorCode, message: str) -> FlagResolutionDetails[Any]:
        self._send_events()
        return FlagResolutionDetails(default, code, message, Reason.ERROR)

    # -- events -----------------------------------------------------------------------------------

    def _send_events(self) -> None:
        """Send events for changes since the last one; reads nothing."""
        if self._status in SILENT or self._now() == (self._status, self._seen, self._reached):
            return
        with self._lock:  # each event once, and in order
            before, earlier, reached = self._status, self._seen, self._reached
            if before in SILENT:  # shut down meanwhile
                return
            self._status, self._seen, self._reached = self._now()
            if self._status is not before:
                self._send_status()
            seen = self._seen
            if seen is not None and earlier is not None and seen is not earlier:
                record = seen.snapshot_record
                details = ProviderEventDetails(
                    flags_changed=seen.changed_since(earlier),
                    metadata={"token": record.token, "digest": record.digest},
                )
                self.emit_provider_configuration_changed(details)
            elif self._reached != reached:
                self.emit_provider_configuration_changed(ProviderEventDetails())

    def _now(self) -> tuple[ProviderStatus, Snapshot | None, float]:
        status = STATUSES.get(self._flags.health(), ProviderStatus.ERROR)
        seen = self._flags.current()
        return status, seen, self._percentage(seen)

    def _percentage(self, seen: Snapshot | None) -> float:
        """Return how far a gradual deployment has come, if it chooses by context; else 0."""
        if seen is None or not seen.two_versions or not getattr(self._flags, "_rollout_by", ""):
            return 0.0
        deployment = self._flags.info().deployment  # type: ignore[attr-defined] # it is a client
        return deployment.percentage if deployment else 0.0

    def _send_status(self) -> None:
        if self._status is ProviderStatus.READY:
            self.emit_provider_ready(ProviderEventDetails(message="the flags are fresh"))
        elif self._status is ProviderStatus.STALE:
            message = "the store cannot be read; using the flags in memory"
            self.emit_provider_stale(ProviderEventDetails(message=message))
        else:
            code, message = _error(self._flags.health())
            self.emit_provider_error(ProviderEventDetails(message=message, error_code=code))


# -- OpenFeature's terms --------------------------------------------------------------------------


def _reason(detail: Detail) -> str:
    """Return the reason in OpenFeature's terms; overrides are never stale."""
    if detail.stale and detail.reason != base.OVERRIDE:
        return Reason.STALE
    return terms.reason(detail)


def _error(word: str) -> tuple[ErrorCode, str]:
    code, message = terms.error(word)
    return ErrorCode(code), message


def _metadata(detail: Detail) -> FlagMetadata:
    return {**terms.metadata(detail), "age_s": detail.age_s, "stale": detail.stale}


def _probe(default: Json, kind: type) -> Json:
    """Return the default, which may be of a subclass, as a plain instance of the requested type.

    Raises TypeError if it has another type, OverflowError if an int is too large for a float.
    """
    if kind is dict:
        if isinstance(default, Mapping):
            return dict(default)
        if isinstance(default, Sequence) and not isinstance(default, (str, bytes)):
            return list(default)
    elif isinstance(default, bool) is (kind is bool) and isinstance(
        default, (int, float) if kind is float else kind
    ):
        return kind(default)
    message = f"the default is a {type(default).__name__}, but a {kind.__name__} was requested"
    raise TypeError(message)


def context_of(given: EvaluationContext | None) -> dict[str, Any]:
    """Return the attributes, with the targeting key as :func:`flagstore.terms.keyed` puts it.

    Times become ISO 8601 strings, in UTC if they have no time zone.
    """
    if given is None:
        return {}
    context = {name: _json(value) for name, value in given.attributes.items()}
    return terms.keyed(context, given.targeting_key)


def _json(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, datetime):
        known = value if value.tzinfo else value.replace(tzinfo=UTC)
        return known.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {name: _json(member) for name, member in value.items()}
    return [_json(member) for member in value] if isinstance(value, Sequence) else value
