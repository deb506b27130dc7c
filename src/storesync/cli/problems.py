"""What can go wrong for a person: what happened, what to do, and the exit code for scripts."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws

from flagstore import errors as reader_errors
from storesync import errors

if TYPE_CHECKING:
    from collections.abc import Iterator


class Exit(IntEnum):
    """The exit codes; docs/cli.md has the table. Numbers never change their meaning."""

    OK = 0
    BUG = 1
    """Unexpected: a fault of the command line itself."""
    USAGE = 2
    """The command line is wrong, or a question was not responded with yes."""
    NOT_FOUND = 3
    """The stack, source, flag or version that was named does not exist."""
    CONFIGURATION = 4
    """A setting or a parameter of the source is missing or wrong."""
    DENIED = 5
    """No AWS credentials, or none that may do this."""
    UNREACHABLE = 6
    """AWS or the store failed or cannot be reached: try again."""
    PROVIDER = 7
    """The provider gave no usable response."""
    REFUSED = 8
    """The guard refused the flag set; or WebhookFunction, under ``invoke``, the event."""
    HELD = 9
    """Nothing was done: the source is pinned, or somebody else was first."""
    FINDINGS = 10
    """It worked, and what was looked for is there: findings, differences."""
    INTERRUPTED = 130
    """Ctrl-C."""


class Problem(Exception):  # noqa: N818 - a problem of the person's, not of the program
    """What happened, and what to do about it."""

    def __init__(self, code: Exit, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.remedy = remedy

    def about(self, source: str) -> Problem:
        """Return the same of one source: its name stands where a remedy says SOURCE."""
        return Problem(self.code, self.what, self.remedy.replace("SOURCE", source))

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {"code": int(self.code), "kind": self.code.name.lower(), "what": self.what} | (
            {"remedy": self.remedy} if self.remedy else {}
        )


NO_CREDENTIALS = (
    "sign in to AWS: aws sso login, --profile NAME, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
RIGHTS = "ask for that right; docs/cli.md lists what each command needs"
AGAIN = "try again; `storesync doctor` tells more"
REFUSED = "`storesync allow SOURCE` shows what would be lost, and allows that very set"

_CREDENTIALS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.SSOError,
)
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_WRONG_KEYS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_MISSING = {"ResourceNotFoundException", "AWS.SimpleQueueService.NonExistentQueue"}

_REMEDIES: tuple[tuple[type[Exception], Exit, str], ...] = (
    (errors.UnknownSourceError, Exit.NOT_FOUND, "`storesync source list` shows those there are"),
    (
        errors.ConfigurationError,
        Exit.CONFIGURATION,
        "correct it with `storesync source add SOURCE --replace`; docs/configure.md has the fields",
    ),
    (errors.ParametersError, Exit.UNREACHABLE, AGAIN),
    (
        errors.CredentialsRefusedError,
        Exit.PROVIDER,
        "the key is wrong or was revoked: `storesync source add SOURCE --replace` with a new one",
    ),
    (errors.EndpointNotFoundError, Exit.PROVIDER, "check base_url and options of the source"),
    (errors.ProviderError, Exit.PROVIDER, "what is published stays; try again later"),
    (errors.RefusedSetError, Exit.REFUSED, REFUSED),
    (errors.NotKeptError, Exit.NOT_FOUND, "`storesync history SOURCE` shows the versions"),
    (errors.ConditionFailedError, Exit.HELD, "look at `storesync status`, then try again"),
    (
        errors.CorruptStoreError,
        Exit.UNREACHABLE,
        "`storesync sync SOURCE --verify` publishes anew what is damaged",
    ),
    (
        errors.StoreError,
        Exit.UNREACHABLE,
        "check that the store is up and can be reached from here",
    ),
    (errors.OutOfTimeError, Exit.UNREACHABLE, AGAIN),
    (errors.NotSettledError, Exit.HELD, "many checks at once: try again in a minute"),
    (errors.BadRequestError, Exit.USAGE, "events/README.md shows the events that there are"),
    (reader_errors.FlagNotFoundError, Exit.NOT_FOUND, ""),
    (
        reader_errors.NotPublishedError,
        Exit.NOT_FOUND,
        "`storesync sync SOURCE` publishes; `storesync doctor SOURCE` says why it did not yet",
    ),
    (reader_errors.NotLoadedError, Exit.UNREACHABLE, AGAIN),
    (reader_errors.ConfigurationError, Exit.CONFIGURATION, ""),
)


def refusal(error: errors.RefusedSetError) -> str:
    """Return why the guard refused, without what only SyncFunction's callers can do about it."""
    return str(error).partition("; what is published stays")[0]


def judge(error: Exception) -> Problem | None:
    """Turn an error into what a person reads; None for one that is a fault of this program."""
    for cause in _causes(error):
        if isinstance(cause, Problem):
            return cause
        problem = _aws(cause)
        if problem:
            return problem
    what = str(error)
    if isinstance(error, errors.RefusedSetError):
        what = f"{refusal(error)}; what is published stays"
    for kind, code, remedy in _REMEDIES:
        if isinstance(error, kind):
            return Problem(code, what, remedy)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _aws(error: BaseException) -> Problem | None:
    if isinstance(error, _CREDENTIALS):
        return Problem(Exit.DENIED, f"no AWS credentials: {error}", NO_CREDENTIALS)
    if isinstance(error, aws.ProfileNotFound):
        return Problem(Exit.DENIED, str(error), "`aws configure list-profiles` shows yours")
    if isinstance(error, aws.NoRegionError):
        return Problem(Exit.CONFIGURATION, "no AWS region", "add --region, or set AWS_REGION")
    if isinstance(error, aws.ClientError):
        return _response(error)
    if isinstance(error, aws.BotoCoreError):
        remedy = "check the network and the region (--region), then try again"
        return Problem(Exit.UNREACHABLE, f"AWS cannot be reached: {error}", remedy)
    return None


def _response(error: aws.ClientError) -> Problem | None:
    """Judge what AWS responded; a condition that did not hold is the condition's business."""
    code, operation = error.response["Error"]["Code"], error.operation_name
    text = error.response["Error"].get("Message", "")
    if code in _WRONG_KEYS:
        return Problem(Exit.DENIED, f"AWS does not accept the credentials: {code}", NO_CREDENTIALS)
    if code in _DENIED:
        return Problem(Exit.DENIED, f"your AWS credentials may not {operation}: {text}", RIGHTS)
    if code in _MISSING:
        remedy = "check --stack and --region, or FLAGSTORE_TABLE and FLAGSTORE_QUEUE_URL"
        return Problem(Exit.NOT_FOUND, f"{operation}: what it needs does not exist: {text}", remedy)
    if code in {"ConditionalCheckFailedException", "TransactionCanceledException"}:
        return None
    return Problem(Exit.UNREACHABLE, f"{operation}: AWS responded {code}: {text}", AGAIN)
