"""Unleash, open source or hosted: webhooks with a secret, and the document its SDKs poll."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from storesync.errors import ConfigurationError, CredentialsRefusedError, MalformedResponseError
from storesync.model import FetchResult, FlagSet
from storesync.providers import common

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from storesync.http import HttpClient
    from storesync.model import ProviderEvent, Source, WebhookConfig, WebhookRequest

CLIENT_SPEC = "5.2.0"
"""From 4.2.0 on the server sends segments apart instead of copying them into every strategy."""

_HEADERS = {"Unleash-Client-Spec": CLIENT_SPEC, "unleash-appname": "flagstore"}
_BEARER = "Bearer "
_REVISED_BY = frozenset({"segment-updated", "features-imported", "feature-import"})
_NOT_REVISED_BY = re.compile(r"^change-|favou?rite|(^|-)link(-|$)")


class Unleash:
    """Unleash's webhooks and ``/api/client/features``.

    The revision to reach is written ``revision/<id>``.
    """

    name = "unleash"
    title = "Unleash"
    methods = ("authorization", "header", "url")
    accepted_status = 202
    default_base_url = ""
    options = ("environment", "app_name")
    webhook_options = ("environment",)
    needs_key = True

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Compare the secret; Unleash signs nothing.

        The ``Authorization`` that one types into Unleash is sent as it is, so the secret passes
        with and without ``Bearer`` in front of it.
        """
        if webhook.method == "authorization":
            given = request.headers.get("authorization", "")
            both = (given, given.removeprefix(_BEARER))
            common.check_secret(both, webhook, self.title, "the header Authorization")
        elif webhook.method == "header":
            given = request.headers.get(_header_name(webhook), "")
            common.check_secret([given], webhook, self.title, "the configured header")
        elif webhook.method == "url":
            common.check_secret([request.token], webhook, self.title, "the URL")
        else:
            raise common.wrong_method(webhook, self.title, self.methods)

    def required_revisions(
        self, request: WebhookRequest, webhook: WebhookConfig
    ) -> tuple[str, ...] | None:
        """Accept any body: operators write templates for it, so nothing in it is required.

        Only an event that names another environment is left alone: it changes nothing in what
        this environment's token is served. Events without one concern every environment.
        """
        event = _event(request)
        ours = webhook.options.get("environment")
        theirs = event.get("environment")
        if ours and isinstance(theirs, str) and theirs and theirs != ours:
            return None
        known = theirs is None or theirs == ours
        return (f"revision/{event['id']}",) if known and _revises(event) else ()

    def delivery(self, request: WebhookRequest) -> str:
        """Return the event's number; Unleash has no id of a delivery."""
        number = _event(request).get("id")
        return str(number) if common.is_version(number) else ""

    def provider_event(self, event: Mapping[str, Any]) -> ProviderEvent | None:
        """Return None: no event of AWS tells of Unleash."""
        del event
        return None

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch features and segments of the environment that the token belongs to.

        Raises:
            CredentialsRefusedError: the token belongs to no environment, or to another one than
                the source's options name.
        """
        del unmet  # no cache lies in between
        path = "/api/client/features"
        url = common.endpoint(source, self.default_base_url, "", {})
        # People copy the address from their SDK, which wants /api, or from the browser.
        url = re.sub(r"/+api(/+client(/+features)?)?$", "", url).rstrip("/") + path
        document, etag = common.fetch_document(
            source, http, url, _HEADERS, etag=etag, title=self.title
        )
        if document is None:
            return FetchResult(None, etag)
        flag_set = _flag_set(document, source.options)
        _check_environment(source, flag_set.meta.get("query"))
        return FetchResult(flag_set, etag)

    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Any]) -> bool:
        """Compare revisions; a server or Edge that tells none cannot be waited for."""
        del item  # Unleash numbers sets, not items.
        what, _, number = required.partition("/")
        if what != "revision" or not (number.isascii() and number.isdigit()):
            return True
        return revision == 0 or revision >= int(number)

    def is_older(self, old: FlagSet, new: FlagSet) -> bool:
        """Compare revisions, as long as both count the same thing: the same query of a token."""
        same = old.meta.get("queryHash") == new.meta.get("queryHash")
        return same and 0 < new.revision < old.revision

    def references(self, section: str, item: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - provider JSON
        """Yield the parents of a feature; a segment that is missing is refused at once."""
        if section == "flags":
            for parent in common.objects(item.get("dependencies")):
                yield "flags", str(parent.get("feature"))

    def members(self, segment: Any) -> frozenset[str]:  # noqa: ANN401 - provider JSON
        """Return every value that a segment's constraints name, with what it is compared to."""
        constraints = segment.get("constraints") if isinstance(segment, dict) else None
        return frozenset(_members(constraints if isinstance(constraints, list) else []))


def _header_name(webhook: WebhookConfig) -> str:
    name = webhook.header.strip().lower()
    if not name:
        message = f"the SSM parameter <prefix>/webhooks/{webhook.source} names no header to look at"
        raise ConfigurationError(message)
    return name


def _event(request: WebhookRequest) -> dict[str, Any]:
    """Return the event, or an empty one where a template sends something else."""
    try:
        event = common.lenient_json(request)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _revises(event: Mapping[str, Any]) -> bool:
    """Say whether an event raises ``meta.revisionId`` to its own number.

    As observed with servers 7.4.1 and 8.2.0: events of a feature do, apart from those about
    links, favourites and change requests; so does the update of a segment, but neither its
    creation nor its deletion.
    """
    kind = event.get("type")
    if not isinstance(kind, str) or not common.is_version(event.get("id")):
        return False
    if kind in _REVISED_BY:
        return True
    feature = event.get("featureName")
    return isinstance(feature, str) and bool(feature) and not _NOT_REVISED_BY.search(kind)


def _flag_set(document: Mapping[str, Any], options: Mapping[str, str]) -> FlagSet:
    segments = _by_name(document.get("segments", []), "id", "segment", "constraints")
    flags = _by_name(document.get("features"), "name", "feature", "strategies")
    for name, flag in flags.items():
        for strategy in flag["strategies"]:
            _check_strategy(name, strategy, segments)
    told = document.get("meta")
    told = told if isinstance(told, dict) else {}
    revision = told.get("revisionId")
    meta = {key: document[key] for key in ("version", "query") if key in document}
    if "queryHash" in told:
        meta["queryHash"] = told["queryHash"]
    # What an SDK is configured with, for readers that evaluate; no part of the SDKs' document.
    names = {"app_name": "appName", "environment": "environment"}
    context = {theirs: options[ours] for ours, theirs in names.items() if options.get(ours)}
    if context:
        meta["context"] = context
    # Neither the ETag nor the revision: both change with events that change no flag.
    return FlagSet(
        Unleash.name,
        {"flags": flags, "segments": segments},
        meta,
        revision if common.is_version(revision) else 0,
    )


def _check_environment(source: Source, query: object) -> None:
    """Refuse the flags of an environment that nobody asked for.

    A server responses an admin token, too: with the flags of its default environment, as the one
    kind of token whose query names none. Unleash Edge and other proxies may pass no query on.
    """
    if not isinstance(query, dict):
        return
    theirs, ours = query.get("environment"), source.options.get("environment")
    if not isinstance(theirs, str) or not theirs:
        what = "a response that names no environment, as to an admin token"
        remedy = "use a backend (client) token of the environment"
    elif ours and theirs != ours:
        what = f"the flags of environment {theirs[:64]!r} instead of {ours!r}"
        remedy = f"use a backend (client) token of {ours!r}, or correct the source's options"
    else:
        return
    where = f"the SSM parameter <prefix>/credentials/{source.name}"
    raise CredentialsRefusedError(
        f"Unleash gave source {source.name!r} {what}: {remedy} in {where}"
    )


def _by_name(items: object, key: str, what: str, needs: str) -> dict[str, Any]:
    """Return a list's items by name, after checking what everything else relies on."""
    if not isinstance(items, list):
        message = f"Unleash responded without a list of {what}s: no flag set"
        raise MalformedResponseError(message)
    found: dict[str, Any] = {}
    for item in items:
        name = item.get(key) if isinstance(item, dict) else None
        if key == "id" and common.is_version(name):
            name = str(name)
        if not common.is_key(name):
            message = f"Unleash responded with a {what} without {key!r}"
            raise MalformedResponseError(message)
        if name in found:
            message = f"Unleash responded with {what} {name[:64]!r} twice"
            raise MalformedResponseError(message)
        if not isinstance(item.get(needs), list):
            message = f"Unleash: {what} {name[:64]!r} has no list of {needs}"
            raise MalformedResponseError(message)
        found[name] = item
    return found


def _check_strategy(flag: str, strategy: object, segments: Mapping[str, Any]) -> None:
    """Refuse a strategy that names a segment which is not there: it would turn the flag off."""
    if not isinstance(strategy, dict):
        message = f"Unleash: feature {flag[:64]!r} has a strategy that is none"
        raise MalformedResponseError(message)
    named = strategy.get("segments") or []
    if not isinstance(named, list):
        message = f"Unleash: feature {flag[:64]!r} has no list of segments"
        raise MalformedResponseError(message)
    for identifier in named:
        if str(identifier) not in segments:
            message = (
                f"Unleash: feature {flag[:64]!r} needs a segment that the response does not hold"
            )
            raise MalformedResponseError(message)


def _members(constraints: list[Any]) -> Iterator[str]:
    for constraint in constraints:
        if isinstance(constraint, dict):
            field = constraint.get("contextName")
            single = [constraint["value"]] if "value" in constraint else []
            for value in common.texts(constraint.get("values")) + common.texts(single):
                yield f"{field}={value}"
