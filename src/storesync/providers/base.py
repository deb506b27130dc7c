"""The interface of a provider, and helpers that several providers share."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard
from urllib.parse import urlencode, urlsplit

from storesync.errors import ConfigurationError, SignatureError
from storesync.model import Verdict
from storesync.responses import etag as etag_of
from storesync.responses import parse_object, raise_for_status
from storesync.signature import secret_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from flagstore.evaluation.base import Items
    from storesync.http import HttpClient
    from storesync.model import (
        FetchResult,
        FlagSet,
        Json,
        ProviderEvent,
        Source,
        WebhookConfig,
        WebhookRequest,
    )
    from storesync.usage_lines import AnyLine

_NOT_MODIFIED = 304
_MAX_VERSION = 2**53
"""JavaScript, and so every provider's console, cannot represent larger integers."""


class WebhookEvent(NamedTuple):
    """The meaning of a verified webhook for one source."""

    required: tuple[str, ...] | None = ()
    """Required revisions. None: the event concerns no flags of this source: no sync request."""
    delivery: str = ""
    """The provider's id of this delivery, for the log; empty if it has none."""


class Published(NamedTuple):
    """What reports of usage need of the published set."""

    flag: Callable[[str], Json | None]
    """Returns a flag's JSON by its key; None if it is not known."""
    meta: Mapping[str, Json]


class UsagePost(NamedTuple):
    """A request that reports usage."""

    url: str
    headers: Mapping[str, str]
    """Without the credential."""
    body: bytes


class UsageApi(ABC):
    """A provider's API for usage. No I/O, no state; UsageFunction sends the posts."""

    max_lines: int
    """Maximum number of lines per post."""
    max_bytes: int
    """Maximum size of a post's body."""
    repeatable: bool = False
    """Whether the provider discards a post that it has received before."""
    announces: bool = False
    """Whether applications are listed by a separate post."""
    authorization: str = "{}"
    """The header, with the credential in place of the braces."""

    @abstractmethod
    def report(
        self, source: Source, lines: Sequence[AnyLine], published: Published
    ) -> UsagePost | None:
        """Return the post for some lines; None if there is nothing to report.

        A line of exposures or events comes alone.

        Raises:
            ConfigurationError: names what the source lacks.
        """

    def announce(
        self, source: Source, app: str, published: Published, now_s: int
    ) -> UsagePost | None:
        """Return the post that lists an application, sent once a day; None if there is none."""
        del source, app, published, now_s
        return None


class Provider(ABC):
    """One feature-flag provider. Instances hold no state.

    ``verify`` and ``webhook_event`` run in WebhookFunction, so a provider's module imports nothing
    heavy; ``fetch`` receives its HTTP client.
    """

    name: str
    """As in a source's ``provider``."""
    title: str
    """Its name in messages."""
    methods: tuple[str, ...] = ()
    """Ways to verify its webhooks, the recommended one first; empty if it sends none."""
    accepted_status: int = 202
    """The HTTP status that the provider accepts as delivered."""
    default_base_url: str = ""
    """Used if the credentials name none; empty if there is no sensible default."""
    needs_key: bool = True
    """Whether its credentials hold a key. If not, it accepts the function's AWS credentials."""
    options: tuple[str, ...] = ()
    """Names of the ``options`` of its sources."""
    webhook_options: tuple[str, ...] = ()
    """Names of the ``options`` of its webhooks."""
    dependencies_nest: bool = True
    """Whether dependencies of dependencies count: items in a circle cannot be evaluated then."""
    revisions_of: str = ""
    """Key in ``meta`` whose value two sets must share for their revisions to be comparable."""

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Raise :class:`~storesync.errors.SignatureError` unless the request is authentic."""
        del request, webhook
        raise SignatureError(f"{self.title} sends no webhooks")

    def webhook_event(self, event: Mapping[str, Json], options: Mapping[str, str]) -> WebhookEvent:
        """Return what a verified event means for a source with these webhook options.

        *event* is the body's JSON object, or empty. One of unknown shape still requests a sync.
        """
        del event, options
        return WebhookEvent()

    def provider_event(self, event: Mapping[str, Any]) -> ProviderEvent | None:
        """Parse an EventBridge event of this provider; None if it is about something else."""
        del event
        return None

    @abstractmethod
    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch the full flag set, in one attempt; the pipeline retries.

        Args:
            source: The source.
            http: Sends the requests.
            etag: Sent if not empty, so that an unchanged set costs little.
            unmet: Required revisions that this sync's last response had not reached, for a provider
                that can bypass its caches.

        Raises:
            ConfigurationError: the source's options or base URL are invalid.
            ProviderError: its subclass determines whether a retry may help.
        """

    @abstractmethod
    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Json]) -> bool:
        """Return whether a flag set has reached a required revision; True for unknown notations.

        *item* returns the JSON of an item by section and key, or None.
        """

    def is_older(self, old: FlagSet, new: FlagSet) -> bool:
        """Return whether *new* is known to be an earlier state of the provider than *old*."""
        comparable = old.meta.get(self.revisions_of) == new.meta.get(self.revisions_of)
        return comparable and 0 < new.revision < old.revision

    def judge(self, items: Items) -> Callable[[str, str], Verdict]:
        """Return the function that judges an item of a flag set by section and key.

        Engines are imported here, since WebhookFunction does not need them.
        """
        del items
        return lambda _section, _key: Verdict.USABLE

    def references(self, section: str, item: Json) -> Iterator[tuple[str, str]]:
        """Yield section and key of each segment and flag that an item needs."""
        del section, item
        yield from ()

    def members(self, segment: Json) -> frozenset[str]:
        """Return the members of a segment for the guard, each as a stable string."""
        del segment
        return frozenset()

    def usage(self) -> UsageApi | None:
        """Return the API for usage, for UsageFunction; None if the provider has none."""
        return None


def check_secret(webhook: WebhookConfig, title: str, where: str, *candidates: str | None) -> None:
    """Raise unless one of the candidates is one of the webhook's secrets."""
    given = [candidate for candidate in candidates if candidate]
    if not given:
        raise SignatureError(f"no secret in {where} of a webhook from {title}")
    if not any(secret_matches(candidate, webhook.secrets) for candidate in given):
        raise SignatureError(f"the secret in {where} matches none of the active secrets")


def json_object(body: bytes) -> dict[str, Json]:
    """Parse a webhook's body; return an empty object unless it is a JSON object."""
    try:
        parsed = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def endpoint(source: Source, default: str, path: str, query: Mapping[str, str]) -> str:
    """Return the URL of *path* below the source's base URL, which must not have a query."""
    base = (source.base_url or default).strip()
    if not base:
        raise ConfigurationError(
            f"source {source.name!r} has no base_url: add it to the SSM parameter "
            f"<prefix>/credentials/{source.name}"
        )
    if re.search(r"[?#\s]", base):
        raise ConfigurationError(
            f"base_url of source {source.name!r} must be an address without '?', '#' or spaces"
        )
    return base.rstrip("/") + path + ("?" + urlencode(query) if query else "")


def usage_endpoint(source: Source, hosts: Mapping[str, str], path: str) -> str:
    """Return the URL of *path* for usage.

    *hosts* names the vendor's hosts for flags and for usage; any other address takes both.
    """
    base = urlsplit(endpoint(source, "", "", {}))
    host = hosts.get(base.netloc, base.netloc) if base.scheme == "https" else base.netloc
    return base._replace(netloc=host, path=base.path + path).geturl()


def fetch_document(  # noqa: PLR0913 - keyword-only from the ETag on
    source: Source,
    http: HttpClient,
    url: str,
    headers: Mapping[str, str],
    *,
    etag: str,
    title: str,
    transient: Collection[int] = (),
) -> tuple[dict[str, Json] | None, str]:
    """Fetch one JSON object (None if it still matches *etag*) and its ETag."""
    sent = {"Authorization": source.credential.reveal(), **headers}
    if etag:
        sent["If-None-Match"] = etag
    response = http.get(url, sent, allow_http=source.allow_http)
    raise_for_status(response, source.name, title, etag=etag, transient=transient)
    if response.status == _NOT_MODIFIED:
        return None, etag
    return parse_object(response, title), etag_of(response)


def is_version(value: object) -> TypeGuard[int]:
    """Return whether *value* can be a version or revision. JSON's ``true`` is not 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_VERSION


def is_key(value: object) -> TypeGuard[str]:
    """Return whether *value* can be a key in a store: a non-empty string that UTF-8 can encode."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def objects(value: object) -> list[dict[str, Json]]:
    """Return the objects of a JSON array; an empty list for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings(values: object) -> list[str]:
    """Return the items of a JSON array as strings; an empty list for anything else."""
    return [str(value) for value in values] if isinstance(values, list) else []
