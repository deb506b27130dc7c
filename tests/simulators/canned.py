"""An HTTP client for providers that responds without a server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from storesync.http import HttpLimits
from storesync.responses import HttpResponse

if TYPE_CHECKING:
    from collections.abc import Callable


class Canned:
    """Responds with what a function of path and query returns, and records the requests.

    The path is without ``/api/``; a number is a status, anything else a document.
    """

    def __init__(self, response: Callable[[str, dict[str, str]], Any], **limits: Any) -> None:
        self.limits = HttpLimits(**limits)
        self.urls: list[str] = []
        self.headers: dict[str, str] = {}
        self.response = response

    def within(self, total_s: float) -> Canned:
        assert total_s > 0
        return self

    def get(self, url: str, headers: dict[str, str], *, allow_http: bool = False) -> HttpResponse:
        assert allow_http == url.startswith("http://")
        self.headers = headers
        self.urls.append(url)
        parts = urlsplit(url)
        path = unquote(parts.path).removeprefix("/api/")
        response = self.response(path, dict(parse_qsl(parts.query)))
        if isinstance(response, int):
            return HttpResponse(response, {}, b"")
        return HttpResponse(200, {}, json.dumps(response).encode())
