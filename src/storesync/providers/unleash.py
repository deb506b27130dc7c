"""Unleash, open source or hosted: webhooks with a secret, and the document its SDKs poll."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from storesync.errors import CredentialsRefusedError, MalformedResponseError
from storesync.model import FetchResult, FlagSet, Verdict
from storesync.providers import base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flagstore.evaluation.base import Items
    from storesync.http import HttpClient
    from storesync.model import Json, Source, WebhookConfig, WebhookRequest

_HEADERS = {"Unleash-Client-Spec": "5.2.0", "unleash-appname": "flagstore"}
"""From 4.2.0 on, the server sends segments separately instead of copying them into strategies."""
_REQUIRED = re.compile(r"revision/([0-9]{1,16})")
_REVISED_BY = frozenset({"segment-updated", "features-imported", "feature-import"})
_NOT_REVISED_BY = re.compile(r"^change-|favou?rite|(^|-)link(-|$)")


class Unleash(base.Provider):
    """Unleash's webhooks and ``/api/client/features``.

    A required revision is written ``revision/<id>``.
    """

    name = "unleash"
    title = "Unleash"
    dependencies_nest = False
    methods = ("authorization", "header", "url")
    options = ("environment", "app_name")
    webhook_options = ("environment",)
    revisions_of = "queryHash"

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Compare the secret; Unleash signs nothing.

        Unleash sends the configured ``Authorization`` unchanged, so the secret is accepted with and
        without a leading ``Bearer``.
        """
        if webhook.method == "authorization":
            given = request.headers.get("authorization", "")
            bare = given.removeprefix("Bearer ")
            base.check_secret(webhook, self.title, "the header Authorization", given, bare)
        elif webhook.method == "header":
            given = request.headers.get(webhook.header.lower(), "")
            base.check_secret(webhook, self.title, "the configured header", given)
        else:
            base.check_secret(webhook, self.title, "the URL", request.token)

    def webhook_event(
        self, event: Mapping[str, Json], options: Mapping[str, str]
    ) -> base.WebhookEvent:
        """Accept any body: operators write its template, so no field is required.

        Only an event that names another environment is ignored. Events without one concern all.
        """
        number = event.get("id")
        delivery = str(number) if base.is_version(number) else ""
        expected, given = options.get("environment"), event.get("environment")
        if expected and isinstance(given, str) and given and given != expected:
            return base.WebhookEvent(None, delivery)
        revised = (given is None or given == expected) and _revises(event)
        return base.WebhookEvent((f"revision/{number}",) if revised else (), delivery)

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch features and segments of the environment that the token belongs to."""
        del unmet  # there is no cache in between
        # Operators copy the address from the browser, or from an SDK's settings, with /api.
        url = base.endpoint(source, self.default_base_url, "", {}).removesuffix("/api")
        url += "/api/client/features"
        document, etag = base.fetch_document(
            source, http, url, _HEADERS, etag=etag, title=self.title
        )
        if document is None:
            return FetchResult(None, etag)
        flag_set = _flag_set(document, source.options)
        _check_environment(source, flag_set.meta.get("query"))
        return FetchResult(flag_set, etag)

    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Json]) -> bool:
        """Compare revisions; a set from a server or Edge that sends none satisfies any."""
        del item  # Unleash numbers sets, not items
        number = _REQUIRED.fullmatch(required)
        return number is None or revision == 0 or revision >= int(number[1])

    def judge(self, items: Items) -> Callable[[str, str], Verdict]:
        """Judge items as the engine does."""
        from flagstore.evaluation import base as evaluation  # noqa: PLC0415 - as of Provider
        from flagstore.evaluation import unleash_operators as operators  # noqa: PLC0415
        from flagstore.evaluation.unleash import MALFORMED, UnleashEngine  # noqa: PLC0415

        engine = UnleashEngine(items, evaluation.EngineConfig(now=lambda: 0.0, random=lambda: 0.0))

        def judge(section: str, key: str) -> Verdict:
            try:
                engine.check(section, key)
            except (operators.UnknownOperatorError, evaluation.UnsupportedError):
                return Verdict.USABLE
            except operators.OffError:
                return Verdict.DAMAGED
            except MALFORMED:
                return Verdict.REFUSED
            return Verdict.USABLE

        return judge

    def references(self, section: str, item: Json) -> Iterator[tuple[str, str]]:
        """Yield the parents of a feature; a missing segment is refused while fetching."""
        if section == "flags":
            for parent in base.objects(item.get("dependencies")):
                yield "flags", str(parent.get("feature"))

    def members(self, segment: Json) -> frozenset[str]:
        """Return each value in a segment's constraints, with its field."""
        constraints = segment.get("constraints") if isinstance(segment, dict) else None
        return frozenset(
            f"{constraint.get('contextName')}={value}"
            for constraint in base.objects(constraints)
            for value in (
                *base.strings(constraint.get("values")),
                *([str(constraint["value"])] if "value" in constraint else []),
            )
        )

    def usage(self) -> base.UsageApi:
        """Return how it takes usage."""
        from storesync.providers.unleash_usage import UnleashUsage  # noqa: PLC0415

        return UnleashUsage()


def _revises(event: Mapping[str, Any]) -> bool:
    """Return whether an event raises ``meta.revisionId`` to its own number.

    As observed with servers 7.4.1 and 8.2.0: events of a feature do, except those about links,
    favorites and change requests; so does updating a segment, but neither creating nor deleting
    one.
    """
    kind = event.get("type")
    if not isinstance(kind, str) or not base.is_version(event.get("id")):
        return False
    if kind in _REVISED_BY:
        return True
    feature = event.get("featureName")
    return isinstance(feature, str) and bool(feature) and not _NOT_REVISED_BY.search(kind)


def _flag_set(document: Mapping[str, Any], options: Mapping[str, str]) -> FlagSet:
    segments = _by_name(document.get("segments", []), "id", "segment", "constraints")
    flags = _by_name(document.get("features"), "name", "feature", "strategies")
    for name, flag in flags.items():
        where = f"Unleash: feature {name[:64]!r}"
        for strategy in flag["strategies"]:
            named = strategy.get("segments") or [] if isinstance(strategy, dict) else None
            if not isinstance(named, list):
                raise MalformedResponseError(f"{where} has an invalid strategy")
            if any(str(identifier) not in segments for identifier in named):
                raise MalformedResponseError(f"{where} needs a segment that is not in the response")
    given = document.get("meta")
    given = given if isinstance(given, dict) else {}
    revision = given["revisionId"] if base.is_version(given.get("revisionId")) else 0
    # Neither the ETag nor the revision: both change with events that change no flag.
    meta = {key: document[key] for key in ("version", "query") if key in document}
    if "queryHash" in given:
        meta["queryHash"] = given["queryHash"]
    # An SDK's settings, for readers that evaluate; not part of the SDKs' document.
    names = {"app_name": "appName", "environment": "environment"}
    context = {field: options[option] for option, field in names.items() if options.get(option)}
    if context:
        meta["context"] = context
    return FlagSet(Unleash.name, {"flags": flags, "segments": segments}, meta, revision)


def _check_environment(source: Source, query: object) -> None:
    """Raise if the flags belong to another environment than the configured one.

    To an admin token, a server responds with the flags of its default environment, and with a query
    that names no environment. Unleash Edge and other proxies may omit the query.
    """
    if not isinstance(query, dict):
        return
    given, expected = query.get("environment"), source.options.get("environment")
    if not isinstance(given, str) or not given:
        problem = "a response that names no environment, as for an admin token"
        remedy = "use a backend (client) token of the environment"
    elif expected and given != expected:
        problem = f"the flags of environment {given[:64]!r} instead of {expected!r}"
        remedy = f"use a backend (client) token of {expected!r}, or correct the source's options"
    else:
        return
    raise CredentialsRefusedError(
        f"Unleash gave source {source.name!r} {problem}: {remedy} in the SSM parameter "
        f"<prefix>/credentials/{source.name}"
    )


def _by_name(items: object, key: str, kind: str, needs: str) -> dict[str, Any]:
    """Return a list's items by name, after checking the fields that all code relies on."""
    if not isinstance(items, list):
        raise MalformedResponseError(f"Unleash responded without a list of {kind}s: not a flag set")
    found: dict[str, Any] = {}
    for item in items:
        name = item.get(key) if isinstance(item, dict) else None
        if key == "id" and base.is_version(name):
            name = str(name)
        if not base.is_key(name):
            raise MalformedResponseError(f"Unleash responded with a {kind} without {key!r}")
        if name in found:
            raise MalformedResponseError(f"Unleash responded with {kind} {name[:64]!r} twice")
        if not isinstance(item.get(needs), list):
            raise MalformedResponseError(f"Unleash: {kind} {name[:64]!r} has no list of {needs}")
        found[name] = item
    return found
