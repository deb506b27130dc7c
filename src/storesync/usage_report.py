"""Post usage lines of one source to its provider, and interpret the responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storesync.errors import (
    EndpointNotFoundError,
    ProviderError,
    ProviderUnavailableError,
    StoreSyncError,
)
from storesync.http import HttpLimits
from storesync.responses import retry_after_s
from storesync.telemetry import log

if TYPE_CHECKING:
    from storesync.http import HttpClient
    from storesync.model import Source
    from storesync.providers.base import Published, UsageApi, UsagePost
    from storesync.responses import HttpResponse
    from storesync.retry import Deadline
    from storesync.usage_lines import AnyLine

LIMITS = HttpLimits(connect_s=2.0, total_s=5.0)
PAUSE_S, MAX_PAUSE_S = 1.0, 5.0
"""Pause before the second attempt; if the provider asks for a longer one, the queue waits."""
ATTEMPT_S = 2 * LIMITS.total_s + MAX_PAUSE_S
"""Time that both attempts may take."""
_SUCCESS = range(200, 300)
_INVALID, _TOO_LARGE, _SERVER_ERROR = 400, 413, 500
_UNPROCESSED = {429, 500, 502, 503}
"""The provider has counted nothing, and may do so later."""
_IN_DOUBT = {408, 504}


class RefusedError(ProviderError):
    """The provider refuses all usage of this source, until an operator acts."""


class LostError(ProviderError):
    """The provider may have counted these lines, or never will."""


class TooLargeError(LostError):
    """The provider refused them because of the size of the request."""


@dataclass(slots=True)
class Reporter:
    """Posts lines until something fails; then everything is left for later."""

    http: HttpClient
    deadline: Deadline
    source: Source
    api: UsageApi
    published: Published
    reported: int = 0
    """Number of evaluations."""
    lost: int = 0
    """Number of evaluations."""
    error: StoreSyncError | None = None
    """Why nothing more is posted."""

    def post(self, lines: list[AnyLine]) -> list[AnyLine]:
        """Post lines as one request, or more if it is too large; return those left for later."""
        if not lines or self.error:
            return lines
        count = sum(line.total() for line in lines)
        try:
            request = self.api.report(self.source, lines, self.published)
            if request is None:
                return []
            if len(request.body) > self.api.max_bytes and len(lines) > 1:
                return self._halved(lines)
            self.send(request)
            self.reported += count
        except LostError as error:
            if isinstance(error, TooLargeError) and len(lines) > 1:
                return self._halved(lines)
            log.error("lost usage", source=self.source.name, count=count, problem=str(error))
            self.lost += count
        except StoreSyncError as error:
            self.error = error
            return lines
        return []

    def _halved(self, lines: list[AnyLine]) -> list[AnyLine]:
        middle = len(lines) // 2
        return self.post(lines[:middle]) + self.post(lines[middle:])

    def announce(self, app: str, now_s: int) -> None:
        """List an application at the provider; a failure is only logged."""
        try:
            request = self.api.announce(self.source, app, self.published, now_s)
            if request is not None:
                self.send(request)
        except StoreSyncError as error:
            problem = str(error)
            log.warning("cannot list an application", source=self.source.name, problem=problem)

    def send(self, request: UsagePost) -> None:
        """Send a request, twice if necessary.

        Raises:
            LostError: it may have been counted, or never will be.
            RefusedError: nothing of this source is accepted.
            ProviderError: nothing has been counted; the provider is unavailable.
            OutOfTimeError: there is no time for it.
        """
        self.deadline.require(ATTEMPT_S, "reporting usage")
        try:
            self._once(request)
        except ProviderError as error:
            pause_s = PAUSE_S if error.retry_after_s is None else error.retry_after_s
            if not error.retryable or pause_s > MAX_PAUSE_S:
                raise
            self.deadline.wait(pause_s, "reporting usage again")
            self._once(request, is_last=True)

    def _once(self, request: UsagePost, *, is_last: bool = False) -> None:
        authorization = self.api.authorization.format(self.source.credential.reveal())
        headers = {**request.headers, "Authorization": authorization}
        allow_http = self.source.allow_http
        try:
            response = self.http.post(request.url, headers, request.body, allow_http=allow_http)
        except EndpointNotFoundError as error:
            raise RefusedError(str(error)) from error
        except ProviderUnavailableError as error:
            if error.in_doubt and not self.api.repeatable:
                raise LostError(f"it may have been counted: {error}") from error
            raise
        if response.status not in _SUCCESS:
            raise self._to_error(response, is_last=is_last)

    def _to_error(self, response: HttpResponse, *, is_last: bool) -> ProviderError:
        name, status, repeatable = self.source.name, response.status, self.api.repeatable
        problem = f"the provider of source {name!r} responded with {status} to usage"
        if status == _TOO_LARGE:
            return TooLargeError(problem)
        # LaunchDarkly's SDKs send a payload once more after a 400.
        again = repeatable and (status in _IN_DOUBT or (status == _INVALID and not is_last))
        if again or status in _UNPROCESSED:
            return ProviderUnavailableError(problem, retry_after_s=retry_after_s(response))
        if status in {_INVALID, *_IN_DOUBT} or status >= _SERVER_ERROR:
            return LostError(problem)
        return RefusedError(
            f"{problem}: check key and base_url in the SSM parameter <prefix>/credentials/{name}"
        )
