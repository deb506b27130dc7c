"""An OpenFeature provider: flags by the interface that is no vendor's. ``flagstore[openfeature]``.

::

    from openfeature import api

    api.set_provider_and_wait(FlagstoreProvider(flagstore.client("prod")))

It has no thread, which Lambda would freeze: that flags became stale, are fresh again or changed is
noticed, and told to event handlers, by the first evaluation that could see it. Reasons and error
codes, those of OpenFeature's specification (openfeature-sdk 0.10), are listed in
:mod:`flagstore.adapters.openfeature_terms`. The flag metadata says:

``reason``
    Why, in a word of :mod:`flagstore.evaluation.base`.
``rule``, ``rule_index``, ``version``, ``config``, ``in_experiment``, ``age_s``, ``stale``
    As of :class:`flagstore.Detail`; left out where there is none. ``config`` is a text: where it is
    an object (the payload of an Unleash variant), as JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import Metadata

from flagstore.adapters.openfeature_events import EventfulProvider
from flagstore.adapters.openfeature_terms import (
    context_of,
    error_of,
    metadata_of,
    probe_of,
    reason_of,
)
from flagstore.errors import ConfigurationError, NotLoadedError
from flagstore.evaluation import base

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openfeature.evaluation_context import EvaluationContext
    from openfeature.flag_evaluation import FlagValueType

    from flagstore.flags import Detail

    Structure = Sequence[FlagValueType] | Mapping[str, FlagValueType]


class FlagstoreProvider(EventfulProvider):
    """Resolves flags of a client, a file or any other :class:`flagstore.Flags`.

    Safe under threads. The ``*_async`` methods wait for the store in a thread, so that the event
    loop does not; whatever is in memory is returned at once.
    """

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="flagstore")

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 - OpenFeature's signature
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Resolve a boolean: LaunchDarkly's, Split's on and off, whether Unleash's flag is on."""
        return self._resolve(flag_key, default_value, evaluation_context, bool)

    async def resolve_boolean_details_async(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001 - OpenFeature's signature
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Resolve a boolean."""
        return await self._resolve_async(flag_key, default_value, evaluation_context, bool)

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Resolve a string."""
        return self._resolve(flag_key, default_value, evaluation_context, str)

    async def resolve_string_details_async(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Resolve a string."""
        return await self._resolve_async(flag_key, default_value, evaluation_context, str)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Resolve an integer; a boolean is none."""
        return self._resolve(flag_key, default_value, evaluation_context, int)

    async def resolve_integer_details_async(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Resolve an integer."""
        return await self._resolve_async(flag_key, default_value, evaluation_context, int)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Resolve a float; an integer becomes one."""
        return self._resolve(flag_key, default_value, evaluation_context, float)

    async def resolve_float_details_async(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Resolve a float."""
        return await self._resolve_async(flag_key, default_value, evaluation_context, float)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Structure,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Structure]:
        """Resolve an object or a list, whichever the flag has."""
        return self._resolve(flag_key, default_value, evaluation_context, dict)

    async def resolve_object_details_async(
        self,
        flag_key: str,
        default_value: Structure,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Structure]:
        """Resolve an object or a list."""
        return await self._resolve_async(flag_key, default_value, evaluation_context, dict)

    async def _resolve_async(
        self,
        key: str,
        default: Any,  # noqa: ANN401 - any JSON
        given: EvaluationContext | None,
        kind: type,
    ) -> FlagResolutionDetails[Any]:
        try:
            waits = self._flags.may_block()
        except ConfigurationError:
            waits = False  # and what is missing is said below
        if waits:
            import asyncio  # noqa: PLC0415 - 15 ms that nobody else needs; a loop has it already

            return await asyncio.to_thread(self._resolve, key, default, given, kind)
        return self._resolve(key, default, given, kind)

    def _resolve(
        self,
        key: str,
        default: Any,  # noqa: ANN401 - any JSON
        given: EvaluationContext | None,
        kind: type,
    ) -> FlagResolutionDetails[Any]:
        try:
            probe = probe_of(default, kind)
            detail = self._detail(key, given, probe)
            value = float(detail.value) if kind is float else detail.value
        except NotLoadedError as error:
            return self._failed(default, ErrorCode.PROVIDER_NOT_READY, str(error))
        except ConfigurationError as error:
            return self._failed(default, ErrorCode.PROVIDER_FATAL, str(error))
        except (TypeError, OverflowError) as error:  # a whole number may be too large for a float
            return self._failed(default, ErrorCode.TYPE_MISMATCH, str(error))
        self._provider_event()
        if detail.error:
            code, message = error_of(detail.error)
            return FlagResolutionDetails(
                default, code, f"{key!r}: {message}", Reason.ERROR, None, metadata_of(detail)
            )
        return FlagResolutionDetails(
            default if kind is dict and value is probe else value,
            reason=reason_of(detail),
            variant=None if detail.variant is None else str(detail.variant),
            flag_metadata=metadata_of(detail),
        )

    def _detail(
        self,
        key: str,
        given: EvaluationContext | None,
        probe: Any,  # noqa: ANN401 - any JSON
    ) -> Detail:
        flags = self._flags.for_context(context_of(given))
        detail = flags.detail(key, default=probe)
        if detail.error == base.WRONG_TYPE and isinstance(probe, (dict, list)):
            # A structure is asked for, and to OpenFeature a list is one as well.
            return flags.detail(key, default=[] if isinstance(probe, dict) else {})
        return detail

    def _failed(
        self,
        default: Any,  # noqa: ANN401 - any JSON
        code: ErrorCode,
        message: str,
    ) -> FlagResolutionDetails[Any]:
        self._provider_event()
        return FlagResolutionDetails(default, code, message, Reason.ERROR)
