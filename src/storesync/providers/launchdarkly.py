"""LaunchDarkly: signed webhooks, and the document that its server-side SDKs poll."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from storesync.errors import BadRequestError, MalformedResponseError, SignatureError
from storesync.model import FetchResult, FlagSet
from storesync.providers import common
from storesync.signature import SIGNATURE_HEADER, hmac_sha256_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from storesync.http import HttpClient
    from storesync.model import ProviderEvent, Source, WebhookConfig, WebhookRequest

_MAX_KEY = 256
"""Characters of a key or an id that a sync request carries; what is longer is not waited for."""
_MAX_REQUIRED = 10
"""Flags of one entry that are waited for: a sync request has to fit into a message of SQS."""
_TRANSIENT = frozenset({400})
"""LaunchDarkly's SDKs poll on after 400, unlike after any other 4xx."""

_IRRELEVANT = frozenset({
    "account", "acct", "code-reference-repository", "custom-role", "destination",
    "domain-verification", "integration", "member", "metric", "metric-group",
    "relay-proxy-config", "role", "service-token", "team", "token", "webhook",
})  # fmt: skip
"""Kinds of audit log entries, and last parts of resources, that change nothing for an SDK. Whatever
else there is or will be may do so: SDKs evaluate AI Configs as flags."""


class LaunchDarkly:
    """LaunchDarkly's webhooks and ``/sdk/latest-all``.

    Revisions to reach are written ``flag/<key>@<version>`` (that version or a later one; the
    version comes last, so that any key works) and ``gone/<key>`` (deleted or archived).
    """

    name = "launchdarkly"
    title = "LaunchDarkly"
    methods = ("signature",)
    accepted_status = 202
    default_base_url = "https://sdk.launchdarkly.com"
    options = ("filter",)
    webhook_options = ("project", "environment")
    needs_key = True

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Check the signature: HMAC-SHA256 of the raw body (LaunchDarkly docs: webhooks)."""
        if webhook.method not in self.methods:
            raise common.wrong_method(webhook, self.title, self.methods)
        given = request.headers.get(SIGNATURE_HEADER.lower())
        if not given:
            message = f"no {SIGNATURE_HEADER}: tick 'Sign this webhook' in LaunchDarkly"
            raise SignatureError(message)
        if not hmac_sha256_matches(request.body, given, webhook.secrets):
            message = f"{SIGNATURE_HEADER} matches none of the active secrets"
            raise SignatureError(message)

    def required_revisions(
        self, request: WebhookRequest, webhook: WebhookConfig
    ) -> tuple[str, ...] | None:
        """Look at the resources that an audit log entry touches, never at its action.

        The list of actions grows with LaunchDarkly's features; an entry that changes nothing in
        the end costs one conditional request.
        """
        try:
            event = common.lenient_json(request)
        except ValueError:
            message = "the body of a LaunchDarkly webhook is JSON"
            raise BadRequestError(message) from None
        if not isinstance(event, dict):
            return ()
        resources = [r for r in map(_parse_resource, _resources(event)) if r]
        if not resources:
            kind = event.get("kind")
            return None if isinstance(kind, str) and kind in _IRRELEVANT else ()
        ours = [r for r in resources if _touches(r, webhook.options)]
        return _required(event, ours, webhook.options) if ours else None

    def delivery(self, request: WebhookRequest) -> str:
        """Return the id of the audit log entry."""
        try:
            event = common.lenient_json(request)
        except ValueError:
            return ""
        identifier = event.get("_id") if isinstance(event, dict) else None
        return identifier[:_MAX_KEY] if isinstance(identifier, str) else ""

    def provider_event(self, event: Mapping[str, Any]) -> ProviderEvent | None:
        """Return None: no event of AWS tells of LaunchDarkly."""
        del event
        return None

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch flags and segments of the environment that the SDK key belongs to."""
        del unmet  # there is no way past its CDN
        query = {"filter": source.options["filter"]} if source.options.get("filter") else {}
        url = common.endpoint(source, self.default_base_url, "/sdk/latest-all", query)
        document, etag = common.fetch_document(
            source, http, url, {}, etag=etag, title=self.title, transient=_TRANSIENT
        )
        if document is None:
            return FetchResult(None, etag)
        sections = {name: _section(document, name) for name in ("flags", "segments")}
        return FetchResult(FlagSet(self.name, sections), etag)

    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Any]) -> bool:
        """Compare one flag's version, or see that the flag is gone."""
        del revision  # LaunchDarkly numbers items, not sets.
        what, _, name = required.partition("/")
        if what == "gone":
            return item("flags", name) is None
        key, _, version = name.rpartition("@")
        if what != "flag" or not (version.isascii() and version.isdigit()):
            return True
        flag = item("flags", key)
        return flag is not None and flag["version"] >= int(version)

    def is_older(self, old: FlagSet, new: FlagSet) -> bool:
        """Return whether any item that both sets have went back.

        One that was deleted and created again starts at version 1, with another salt.
        """
        return any(
            items[key]["version"] < before["version"]
            and items[key].get("salt") == before.get("salt")
            for section, items in new.sections.items()
            for key, before in old.sections.get(section, {}).items()
            if key in items
        )

    def references(self, section: str, item: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - provider JSON
        """Yield the prerequisites of a flag, and the segments that rules ask for."""
        del section
        for prerequisite in common.objects(item.get("prerequisites")):
            yield "flags", str(prerequisite.get("key"))
        for rule in common.objects(item.get("rules")):
            for clause in common.objects(rule.get("clauses")):
                if clause.get("op") == "segmentMatch":
                    yield from (("segments", name) for name in common.texts(clause.get("values")))

    def members(self, segment: Any) -> frozenset[str]:  # noqa: ANN401 - provider JSON
        """Return who is named, in or out. Who left one list for the other counts as gone."""
        return frozenset(_members(segment)) if isinstance(segment, dict) else frozenset()


def _resources(event: Mapping[str, Any]) -> list[str]:
    """Return the resource strings: one for each environment that an entry touches."""
    accesses, target = event.get("accesses"), event.get("target")
    found = [a.get("resource") for a in common.objects(accesses)]
    if isinstance(target, dict) and isinstance(target.get("resources"), list):
        found += target["resources"]
    return [resource for resource in found if isinstance(resource, str)]


def _parse_resource(text: str) -> dict[str, str]:
    """Parse ``proj/P;tags:env/E;{critical:true}:flag/K`` into kinds and keys, in that order."""
    plain = re.sub(r"\{[^{}]*\}", "", text)
    if plain == "*":
        return {"proj": "*"}
    parts = [part.split(";")[0].partition("/") for part in plain.split(":")]
    return {kind: key for kind, slash, key in parts if slash and kind and key}


def _touches(resource: Mapping[str, str], options: Mapping[str, str]) -> bool:
    """Say whether a resource can change the flags of the webhook's project and environment."""
    if list(resource)[-1] in _IRRELEVANT:
        return False
    return all(
        not options.get(option) or resource.get(kind, "*") in {"*", options[option]}
        for kind, option in (("proj", "project"), ("env", "environment"))
    )


def _required(
    event: Mapping[str, Any], ours: Iterable[Mapping[str, str]], options: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the revisions to reach, as far as the entry tells them.

    None without an environment, since versions are counted per environment; and none with a
    payload filter, which may hide the flag from us for good.
    """
    environment = options.get("environment")
    keys = {r.get("flag", "*") for r in ours} - {"*"}
    if event.get("kind") != "flag" or not environment or options.get("filter"):
        return ()
    if len(keys) > _MAX_REQUIRED or any(len(key) > _MAX_KEY for key in keys):
        return ()
    deleted = {a.get("action") for a in common.objects(event.get("accesses"))} == {"deleteFlag"}
    if deleted:
        return tuple(f"gone/{key}" for key in sorted(keys))
    return _required_version(event.get("currentVersion"), keys, environment)


def _required_version(current: object, keys: set[str], environment: str) -> tuple[str, ...]:
    if not isinstance(current, dict) or len(keys) != 1:
        return ()
    (key,) = keys
    environments = current.get("environments")
    copy = environments.get(environment) if isinstance(environments, dict) else None
    archived = isinstance(copy, dict) and copy.get("archived") is True
    if archived or current.get("archived") is True:
        return (f"gone/{key}",)
    if isinstance(copy, dict) and common.is_version(copy.get("version")):
        return (f"flag/{key}@{copy['version']}",)
    return ()


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one section after checking what everything else relies on."""
    items = document.get(name)
    if not isinstance(items, dict):
        message = f"LaunchDarkly responded without {name!r}: no flag set"
        raise MalformedResponseError(message)
    for key, item in items.items():
        if not isinstance(item, dict) or item.get("key") != key or not common.is_key(key):
            message = f"LaunchDarkly: {name} {key[:64]!r} is not an item"
            raise MalformedResponseError(message)
        if not common.is_version(item.get("version")):
            message = f"LaunchDarkly: {name} {key[:64]!r} has no version"
            raise MalformedResponseError(message)
    # Tombstones belong to streams; should one ever appear here, it says that there is no such flag.
    return {key: item for key, item in items.items() if item.get("deleted") is not True}


def _members(segment: Mapping[str, Any]) -> Iterator[str]:
    for sign, single, by_kind in (
        ("+", "included", "includedContexts"),
        ("-", "excluded", "excludedContexts"),
    ):
        yield from (f"{sign}user:{value}" for value in common.texts(segment.get(single)))
        for target in common.objects(segment.get(by_kind)):
            kind = target.get("contextKind", "user")
            yield from (f"{sign}{kind}:{value}" for value in common.texts(target.get("values")))
