"""What several providers need: the fetch of one JSON document, checks of webhooks and shapes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlencode

from storesync.errors import ConfigurationError, MalformedResponseError, SignatureError
from storesync.responses import etag as etag_of
from storesync.responses import parse_object, raise_for_status
from storesync.signature import secret_matches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from storesync.http import HttpClient
    from storesync.model import Source, WebhookConfig, WebhookRequest

_NOT_MODIFIED = 304
_MAX_VERSION = 2**53
"""Beyond it JavaScript, and so every provider's own console, cannot count."""


def endpoint(source: Source, default: str, path: str, query: Mapping[str, str]) -> str:
    """Return the address of *path* below the source's base URL.

    Raises:
        ConfigurationError: there is no base URL, or one that paths cannot be added to.
    """
    base = (source.base_url or default).strip()
    if not base:
        message = (
            f"source {source.name!r} has no base_url: add it to the SSM parameter "
            f"<prefix>/credentials/{source.name}"
        )
        raise ConfigurationError(message)
    if re.search(r"[?#\s]", base):
        message = (
            f"base_url of source {source.name!r} must be an address without '?', '#' or spaces"
        )
        raise ConfigurationError(message)
    return base.rstrip("/") + path + ("?" + urlencode(query) if query else "")


def fetch_document(  # noqa: PLR0913 - keyword-only from the ETag on
    source: Source,
    http: HttpClient,
    url: str,
    headers: Mapping[str, str],
    *,
    etag: str,
    title: str,
    transient: Collection[int] = (),
) -> tuple[dict[str, Any] | None, str]:
    """Fetch one JSON object with the source's credential, in one attempt.

    Returns:
        The document, or None where the provider says that it is the one of *etag*; and its ETag.
    """
    sent = {"Authorization": source.credential.reveal(), **headers}
    if etag:
        sent["If-None-Match"] = etag
    response = http.get(url, sent, allow_http=source.allow_http)
    raise_for_status(response, source.name, title, transient=transient)
    if response.status == _NOT_MODIFIED:
        if not etag:
            message = f"{title} responded with 304 to a request without an ETag"
            raise MalformedResponseError(message)
        return None, etag
    return parse_object(response, title), etag_of(response)


def check_secret(
    given: Iterable[str | None], webhook: WebhookConfig, title: str, where: str
) -> None:
    """Raise unless one of the ways to read the given secret is one of the webhook's secrets."""
    candidates = [candidate for candidate in given if candidate]
    if not candidates:
        message = f"no secret in {where} of a webhook of {title}"
        raise SignatureError(message)
    if not any(secret_matches(candidate, webhook.secrets) for candidate in candidates):
        message = f"the secret in {where} is none of the active secrets"
        raise SignatureError(message)


def wrong_method(
    webhook: WebhookConfig, title: str, methods: Collection[str]
) -> ConfigurationError:
    """Return the error of a webhook config whose check the provider's webhooks can never pass."""
    return ConfigurationError(
        f"webhooks of {title} cannot be checked by {webhook.method!r}: set the method in the SSM "
        f"parameter <prefix>/webhooks/{webhook.source} to one of {', '.join(methods)}"
    )


def lenient_json(request: WebhookRequest) -> Any:  # noqa: ANN401 - any JSON
    """Parse a webhook's body.

    Raises:
        ValueError: it is no JSON, or none that can be parsed safely.
    """
    try:
        return json.loads(request.body.decode("utf-8"))
    except RecursionError:
        message = "nested too deeply"
        raise ValueError(message) from None


def is_version(value: object) -> TypeGuard[int]:
    """Say whether *value* can be a version or revision. JSON's ``true`` is no 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_VERSION


def is_key(value: object) -> TypeGuard[str]:
    """Say whether *value* can name an item in a store: a text that UTF-8 can carry."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects of a JSON array; an empty list for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(values: object) -> list[str]:
    """Return the items of a JSON array as texts; an empty list for anything else."""
    return [str(value) for value in values] if isinstance(values, list) else []
