"""One HTTP request from a person's machine: to a provider's API, or to our own webhooks.

Not :mod:`storesync.http`, which guards a function in a VPC against addresses that somebody else
wrote: here a person names the address, and the methods are those of an API. As there, no redirect
is followed, since it would carry the secret elsewhere, and no ``.netrc`` replaces it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import requests

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 15.0
"""The longest silence; WebhookFunction may have to start first, which takes a second or two."""


class UnansweredError(Exception):
    """There was no response; the text says why by a name of an error, and quotes no secret."""


class Response(NamedTuple):
    """A status, and the body as it was sent."""

    status: int
    body: bytes


def send(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
    """Send one request, on a connection of its own: one that the server closed cannot be told.

    Raises:
        UnansweredError: the address or a header is none, or nobody responses.
    """
    try:
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(
                method, url, data=body, headers=headers, timeout=TIMEOUT_S, allow_redirects=False
            )
    except (requests.RequestException, UnicodeError) as error:
        raise UnansweredError(type(error).__name__) from None
    return Response(response.status_code, response.content)
