"""Errors as operators see them: what happened, how to fix it, and an exit code for scripts."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from botocore import exceptions as aws

from flagstore import errors as reader_errors
from storesync import errors


class Exit(IntEnum):
    """The exit codes, as in the table of docs/cli.md. Their meanings never change."""

    OK = 0
    BUG = 1
    USAGE = 2  # or a confirmation was declined
    NOT_FOUND = 3  # the stack, source, flag or version
    CONFIGURATION = 4  # a setting or a parameter of the source
    DENIED = 5  # no AWS credentials, or insufficient permissions
    UNREACHABLE = 6  # AWS or the store: try again
    PROVIDER = 7  # no usable response
    REFUSED = 8  # by the guard
    HELD = 9  # nothing was done: the source is pinned, or another operation came first
    FINDINGS = 10  # success, with problems or differences
    INTERRUPTED = 130  # Ctrl-C


class CommandError(Exception):
    """An error that the operator can act on, with its remedy and exit code."""

    def __init__(self, code: Exit, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy

    def about(self, source: str) -> CommandError:
        """Return the same error with the source's name in place of SOURCE in the remedy."""
        return CommandError(self.code, self.message, self.remedy.replace("SOURCE", source))

    def to_json(self) -> dict[str, Any]:
        """Return the error as ``--json`` prints it."""
        found = {"code": int(self.code), "kind": self.code.name.lower(), "message": self.message}
        return found | ({"remedy": self.remedy} if self.remedy else {})


NO_CREDENTIALS = (
    "sign in to AWS: aws sso login, --profile NAME, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
PERMISSIONS = "ask for that permission; docs/cli.md lists the permissions of each command"
TRY_AGAIN = "try again; `storesync doctor` may show the cause"

_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.SSOError,
)
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_INVALID_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_MISSING = {"ResourceNotFoundException", "AWS.SimpleQueueService.NonExistentQueue"}

# The first class that matches counts, so subclasses come before their bases.
_REMEDIES: tuple[tuple[type[Exception], Exit, str], ...] = (
    (errors.UnknownSourceError, Exit.NOT_FOUND, "`storesync source list` lists the sources"),
    (
        errors.ConfigurationError,
        Exit.CONFIGURATION,
        "correct it with `storesync source add SOURCE --replace`; see docs/configure.md",
    ),
    (errors.ParametersError, Exit.UNREACHABLE, TRY_AGAIN),
    (
        errors.CredentialsRefusedError,
        Exit.PROVIDER,
        "the key is wrong or revoked: set a new one with `storesync source add SOURCE --replace`",
    ),
    (errors.EndpointNotFoundError, Exit.PROVIDER, "check the source's base_url and options"),
    (errors.ProviderError, Exit.PROVIDER, "the published flags are unchanged; try again later"),
    (errors.SuspectSetError, Exit.REFUSED, "wait, or run `storesync allow SOURCE DIGEST`"),
    (
        errors.RefusedSetError,
        Exit.REFUSED,
        "`storesync allow SOURCE` shows what would be lost, and publishes this set",
    ),
    (errors.NotKeptError, Exit.NOT_FOUND, "`storesync history SOURCE` lists the versions"),
    (errors.ConditionFailedError, Exit.HELD, "check `storesync status`, then try again"),
    (
        errors.CorruptStoreError,
        Exit.UNREACHABLE,
        "`storesync sync SOURCE --verify` repairs damaged data",
    ),
    (
        errors.StoreError,
        Exit.UNREACHABLE,
        "check that the store is running and reachable from this machine",
    ),
    (errors.OutOfTimeError, Exit.UNREACHABLE, TRY_AGAIN),
    (errors.NotSettledError, Exit.HELD, "too many concurrent checks: try again in a minute"),
    (reader_errors.FlagNotFoundError, Exit.NOT_FOUND, ""),
    (
        reader_errors.NotPublishedError,
        Exit.NOT_FOUND,
        "publish it with `storesync sync SOURCE`; if that fails, run `storesync doctor SOURCE`",
    ),
    (reader_errors.NotLoadedError, Exit.UNREACHABLE, TRY_AGAIN),
    (reader_errors.ConfigurationError, Exit.CONFIGURATION, ""),
)


def to_error(error: Exception) -> CommandError:
    """Return an exception as the operator sees it. Raise it again if it is a bug."""
    cause: BaseException | None = error
    while cause is not None:
        found = cause if isinstance(cause, CommandError) else _from_aws(cause)
        if found:
            return found
        cause = cause.__cause__
    # The guard ends with how to allow a set through SyncFunction; operators have `allow`.
    message = str(error).partition(". If this is right")[0]
    for kind, code, remedy in _REMEDIES:
        if isinstance(error, kind):
            return CommandError(code, message, remedy)
    raise error


def _from_aws(error: BaseException) -> CommandError | None:
    if isinstance(error, _CREDENTIALS):
        return CommandError(Exit.DENIED, f"no AWS credentials: {error}", NO_CREDENTIALS)
    if isinstance(error, aws.ProfileNotFound):
        return CommandError(Exit.DENIED, str(error), "list them with `aws configure list-profiles`")
    if isinstance(error, aws.NoRegionError):
        return CommandError(Exit.CONFIGURATION, "no AWS region", "add --region, or set AWS_REGION")
    if isinstance(error, aws.ClientError):
        return _from_response(error)
    if isinstance(error, aws.BotoCoreError):
        remedy = "check the network and the region (--region), then try again"
        return CommandError(Exit.UNREACHABLE, f"AWS cannot be reached: {error}", remedy)
    return None


def _from_response(error: aws.ClientError) -> CommandError | None:
    """Return an error response of AWS, or None for a failed condition, which the store handles."""
    code, operation = error.response["Error"]["Code"], error.operation_name
    text = error.response["Error"].get("Message", "")
    if code in _INVALID_CREDENTIALS:
        return CommandError(Exit.DENIED, f"AWS rejected the credentials: {code}", NO_CREDENTIALS)
    if code in _DENIED:
        message = f"your AWS credentials do not allow {operation}: {text}"
        return CommandError(Exit.DENIED, message, PERMISSIONS)
    if code in _MISSING:
        remedy = "check --stack and --region, or FLAGSTORE_TABLE and FLAGSTORE_QUEUE_URL"
        return CommandError(Exit.NOT_FOUND, f"{operation}: resource not found: {text}", remedy)
    if code in {"ConditionalCheckFailedException", "TransactionCanceledException"}:
        return None
    return CommandError(Exit.UNREACHABLE, f"{operation}: AWS responded {code}: {text}", TRY_AGAIN)
