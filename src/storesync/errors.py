"""Errors raised when syncing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flagstore.keys import SourceState


class StoreSyncError(Exception):
    """Base class of storesync's errors."""

    retryable = False
    """Whether the same sync request should be retried later."""


def is_retryable(error: Exception) -> bool:
    """Return whether the same request should be retried later; after a bug, it should."""
    return getattr(error, "retryable", True)


class ConfigurationError(StoreSyncError):
    """A setting or an SSM parameter is missing or wrong; the message names it and the remedy."""


def check(problems: list[str]) -> None:
    """Raise a ConfigurationError with all *problems*, if there are any."""
    if problems:
        raise ConfigurationError("; ".join(problems))


class UnknownSourceError(ConfigurationError):
    """No source of that name is configured."""


class ParametersError(StoreSyncError):
    """The SSM parameters cannot be read now, and this process has none from before."""

    retryable = True


class WebhookError(StoreSyncError):
    """A webhook request is not accepted."""

    status = 400


class BadRequestError(WebhookError):
    """The request does not have this provider's format."""


class SignatureError(WebhookError):
    """The signature or secret is missing or wrong."""

    status = 401


class TooLargeError(WebhookError):
    """The body is larger than API Gateway can hand to a function."""

    status = 413


class ProviderError(StoreSyncError):
    """The provider did not give a usable response; the published set stays."""

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, in_doubt: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds that the provider asked to wait, if it did."""
        self.in_doubt = in_doubt
        """Whether the provider may have received the request and acted on it."""


class CredentialsRefusedError(ProviderError):
    """The credential is refused, or is for another environment: it must be replaced."""


class EndpointNotFoundError(ProviderError):
    """The provider gave a final response (404, another 4xx, a redirect): fix the source."""


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached in time, or is temporarily unavailable."""

    retryable = True


class MalformedResponseError(ProviderError):
    """The provider responded with something that is not a flag set."""

    retryable = True


class RefusedSetError(StoreSyncError):
    """The guard refused a flag set. An operator may allow exactly this digest."""

    def __init__(self, message: str, *, digest: str) -> None:
        super().__init__(message)
        self.digest = digest


class SuspectSetError(RefusedSetError):
    """A flag set that is older than the published one, or with dangling references.

    A scheduled check publishes it once it has persisted for minutes.
    """

    retryable = True


class StoreError(StoreSyncError):
    """The store failed; nothing half-written is visible to readers."""

    retryable = True


class ConditionFailedError(StoreError):
    """Another check completed since this fencing token was issued, or the source is pinned."""

    def __init__(self, state: SourceState) -> None:
        super().__init__(f"another check completed first (fencing token {state.token})")
        self.state = state
        """The source state when the condition failed."""


class CorruptStoreError(StoreError):
    """Stored data does not match its digests, or chunks of it are missing."""


class NotKeptError(StoreSyncError):
    """The history does not have this version, or its source was removed."""


class OutOfTimeError(StoreSyncError):
    """The deadline passed before the flag set could be published."""

    retryable = True


class NotSettledError(StoreSyncError):
    """Other checks completed first at every attempt."""

    retryable = True
