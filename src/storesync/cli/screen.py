"""Output: results on stdout, everything else on stderr. With ``--json``, one JSON document each.

Errors say what happened and how to fix it, and have an exit code for scripts.
"""

from __future__ import annotations

import json
import sys
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import click
from botocore import exceptions as aws

from flagstore import errors as reader_errors
from storesync import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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

    def to_json(self) -> dict[str, Any]:
        """Return the error as ``--json`` prints it."""
        found = {"code": int(self.code), "kind": self.code.name.lower(), "message": self.message}
        return found | ({"remedy": self.remedy} if self.remedy else {})


class Screen:
    """Prints text for a terminal, or JSON with *as_json*."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, data: Any, lines: Iterable[str]) -> None:  # noqa: ANN401 - any JSON
        """Print a result: *data* as JSON, or *lines*."""
        for line in [json.dumps(data, indent=2, ensure_ascii=False)] if self.as_json else lines:
            click.echo(line.encode("utf-8", "backslashreplace").decode())

    def note(self, text: str) -> None:
        """Print a line to stderr, separate from the result."""
        if not self.as_json:
            click.echo(text, err=True)

    def error(self, error: CommandError) -> None:
        """Print an error and its remedy."""
        if self.as_json:
            click.echo(json.dumps({"error": error.to_json()}, ensure_ascii=False), err=True)
            return
        click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True)
        if error.remedy:
            click.echo(f"  fix: {error.remedy}", err=True)

    @property
    def can_ask(self) -> bool:
        """Whether the operator can be asked: stdin is a terminal, and output is not JSON."""
        return not self.as_json and sys.stdin.isatty()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask for confirmation unless *yes* is given; CommandError if declined."""
        if yes:
            return
        if not self.can_ask:
            raise CommandError(Exit.USAGE, f"not confirmed: {question}", "add --yes")
        if not click.confirm(question, err=True):
            raise CommandError(Exit.USAGE, "nothing was done")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Format a table with columns as wide as their content and right-aligned numbers."""
    columns = []
    for header, *values in zip(headers, *rows, strict=True):
        cells = [header, *map(str, values)]
        width = max(map(len, cells))
        is_number = all(isinstance(value, int) or value == "" for value in values)
        cells.insert(1, "─" * width)
        columns.append([cell.rjust(width) if is_number else cell.ljust(width) for cell in cells])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def duration(seconds: float) -> str:
    """Format a duration in the largest unit that fits, such as ``90 min``."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit or (seconds >= unit and name == "min"):
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def timestamp(at_ms: int) -> str:
    """Format milliseconds since the epoch, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at_ms / 1000))


def short(digest: str) -> str:
    """Return the first 12 characters of a digest."""
    return digest[:12]


# -- errors ---------------------------------------------------------------------------------------

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
_CONDITION_FAILED = {"ConditionalCheckFailedException", "TransactionCanceledException"}

_SIGN_IN = (
    "sign in to AWS: aws sso login, --profile NAME, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
_CORRECT = (
    "correct that parameter in SSM (docs/configure.md#sources), or its options with "
    "`storesync source add SOURCE --replace`"
)
_NEW_KEY = (
    "if the key is wrong or revoked, set a new one: `storesync source add SOURCE --replace "
    "--provider PROVIDER --key-file FILE`, and --base-url unless it is the default"
)
_NO_KEY = "allow it to yourself, too (docs/cli.md#permissions)"
_TRY_AGAIN = "try again; `storesync doctor` may show the cause"

# The first class that matches counts, so subclasses come before their bases.
_REMEDIES: tuple[tuple[type[Exception], Exit, str], ...] = (
    (aws.NoCredentialsError, Exit.DENIED, _SIGN_IN),
    (aws.PartialCredentialsError, Exit.DENIED, _SIGN_IN),
    (aws.CredentialRetrievalError, Exit.DENIED, _SIGN_IN),
    (aws.TokenRetrievalError, Exit.DENIED, _SIGN_IN),
    (aws.SSOError, Exit.DENIED, _SIGN_IN),
    (aws.ProfileNotFound, Exit.DENIED, "list them with `aws configure list-profiles`"),
    (aws.NoRegionError, Exit.CONFIGURATION, "add --region, or set AWS_REGION"),
    (aws.BotoCoreError, Exit.UNREACHABLE, "check the network and --region, then try again"),
    (errors.UnknownSourceError, Exit.NOT_FOUND, "`storesync source list` lists the sources"),
    (errors.ConfigurationError, Exit.CONFIGURATION, _CORRECT),
    (errors.ParametersError, Exit.UNREACHABLE, _TRY_AGAIN),
    (errors.CredentialsRefusedError, Exit.PROVIDER, _NEW_KEY),
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
    (errors.CorruptStoreError, Exit.UNREACHABLE, "`storesync sync SOURCE --verify` repairs it"),
    (errors.StoreError, Exit.UNREACHABLE, "check that the store runs and is reachable from here"),
    (errors.OutOfTimeError, Exit.UNREACHABLE, _TRY_AGAIN),
    (errors.NotSettledError, Exit.HELD, "too many concurrent checks: try again in a minute"),
    (reader_errors.FlagNotFoundError, Exit.NOT_FOUND, ""),
    (
        reader_errors.NotPublishedError,
        Exit.NOT_FOUND,
        "publish it with `storesync sync SOURCE`; if that fails, run `storesync doctor SOURCE`",
    ),
    (reader_errors.NotLoadedError, Exit.UNREACHABLE, _TRY_AGAIN),
    (reader_errors.ConfigurationError, Exit.CONFIGURATION, ""),
)


def without_event(message: str) -> str:
    """Drop how a refused or suspect set is allowed by an event: operators have `allow`."""
    return message.partition(". If this is right")[0].partition("; to do so now")[0]


def to_error(error: Exception, source: str = "SOURCE") -> CommandError:
    """Convert an error about a source for the operator. Raises it again if it is a bug."""
    if isinstance(error, CommandError):
        return error
    shown: BaseException = error
    cause: BaseException | None = error
    while cause is not None:  # AWS's error says more than the store's
        if isinstance(cause, aws.BotoCoreError):
            shown = cause
        if isinstance(cause, aws.ClientError):
            found = _from_response(cause)
            if found:
                return found
        cause = cause.__cause__
    message = without_event(str(shown))
    for kind, code, remedy in _REMEDIES:
        if isinstance(shown, kind):
            # AppConfig's sources have no key: the caller's own credentials are used.
            fix = _NO_KEY if "AWS refused appconfig:" in message else remedy
            return CommandError(code, message, fix.replace("SOURCE", source))
    raise error


def _from_response(error: aws.ClientError) -> CommandError | None:
    """Convert an error response of AWS; None for a failed condition, which the store handles."""
    code, operation = error.response["Error"]["Code"], error.operation_name
    text = error.response["Error"].get("Message", "")
    if code in _CONDITION_FAILED:
        return None
    if code in _INVALID_CREDENTIALS:
        return CommandError(Exit.DENIED, f"AWS rejected the credentials: {code}", _SIGN_IN)
    if code in _DENIED:
        message = f"your AWS credentials do not allow {operation}: {text}"
        remedy = "ask for that permission; docs/cli.md lists the permissions of each command"
        return CommandError(Exit.DENIED, message, remedy)
    if code in _MISSING:
        remedy = "check --stack and --region, or FLAGSTORE_TABLE and FLAGSTORE_QUEUE_URL"
        return CommandError(Exit.NOT_FOUND, f"{operation}: resource not found: {text}", remedy)
    return CommandError(Exit.UNREACHABLE, f"{operation}: AWS error {code}: {text}", _TRY_AGAIN)
