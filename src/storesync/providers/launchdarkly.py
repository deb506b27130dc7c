"""LaunchDarkly: signed webhooks, and the document that its server-side SDKs poll."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from storesync.errors import MalformedResponseError, SignatureError
from storesync.model import FetchResult, FlagSet, Verdict
from storesync.providers import base
from storesync.signature import SIGNATURE_HEADER, hmac_sha256_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from flagstore.evaluation.base import Items
    from storesync.http import HttpClient
    from storesync.model import Json, Source, WebhookConfig, WebhookRequest

_MAX_KEY = 256
"""Maximum characters of a key or id in a sync request; longer keys are not waited for."""
_MAX_REQUIRED = 10
"""Maximum number of flags to wait for per entry: a sync request must fit into an SQS message."""
_REQUIRED = re.compile(r"flag/(.*)@([0-9]{1,16})", re.DOTALL)
_TRANSIENT = frozenset({400})
"""LaunchDarkly's SDKs keep polling after 400, unlike after any other 4xx."""

_IRRELEVANT = frozenset({
    "account", "acct", "code-reference-repository", "custom-role", "destination",
    "domain-verification", "integration", "member", "metric", "metric-group",
    "relay-proxy-config", "role", "service-token", "team", "token", "webhook",
})  # fmt: skip
"""Kinds of audit log entries, and last parts of resources, that do not affect SDKs. All others may,
including future ones: SDKs evaluate AI Configs as flags."""


class LaunchDarkly(base.Provider):
    """LaunchDarkly's webhooks and ``/sdk/latest-all``.

    Required revisions are written ``flag/<key>@<version>`` (that version or a later one; the
    version comes last, so that any key works) and ``gone/<key>`` (deleted or archived).
    """

    name = "launchdarkly"
    title = "LaunchDarkly"
    methods = ("signature",)
    default_base_url = "https://sdk.launchdarkly.com"
    options = ("filter",)
    webhook_options = ("project", "environment", "filter")

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Check the signature: HMAC-SHA256 of the raw body (LaunchDarkly docs: webhooks)."""
        given = request.headers.get(SIGNATURE_HEADER.lower())
        if not given:
            raise SignatureError(
                f"no {SIGNATURE_HEADER}: select 'Sign this webhook' in LaunchDarkly"
            )
        if not hmac_sha256_matches(request.body, given, webhook.secrets):
            raise SignatureError(f"{SIGNATURE_HEADER} matches none of the active secrets")

    def webhook_event(
        self, event: Mapping[str, Json], options: Mapping[str, str]
    ) -> base.WebhookEvent:
        """Read the resources that an audit log entry touches, but not its action.

        The list of actions grows with LaunchDarkly's features, and an entry that changes nothing
        costs only one conditional request.
        """
        number = event.get("_id")
        delivery = number[:_MAX_KEY] if isinstance(number, str) else ""
        resources = [resource for resource in map(_parse_resource, _resources(event)) if resource]
        if not resources:
            return base.WebhookEvent(
                None if str(event.get("kind")) in _IRRELEVANT else (), delivery
            )
        matching = [each for each in resources if _touches(each, options)]
        required = _required(event, matching, options) if matching else None
        return base.WebhookEvent(required, delivery)

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch flags and segments of the environment that the SDK key belongs to."""
        del unmet  # the CDN cannot be bypassed
        query = {"filter": source.options["filter"]} if source.options.get("filter") else {}
        url = base.endpoint(source, self.default_base_url, "/sdk/latest-all", query)
        document, etag = base.fetch_document(
            source, http, url, {}, etag=etag, title=self.title, transient=_TRANSIENT
        )
        if document is None:
            return FetchResult(None, etag)
        sections = {name: _section(document, name) for name in ("flags", "segments")}
        return FetchResult(FlagSet(self.name, sections), etag)

    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Json]) -> bool:
        """Compare one flag's version, or check that the flag is gone."""
        del revision  # LaunchDarkly numbers items, not sets
        if required.startswith("gone/"):
            return item("flags", required.removeprefix("gone/")) is None
        match = _REQUIRED.fullmatch(required)
        if match is None:
            return True
        flag = item("flags", match[1])
        return flag is not None and flag["version"] >= int(match[2])

    def is_older(self, old: FlagSet, new: FlagSet) -> bool:
        """Return whether any item has a lower version than before.

        An item that was deleted and created again starts at version 1, with another salt.
        """
        return any(
            items[key]["version"] < before["version"]
            and items[key].get("salt") == before.get("salt")
            for section, items in new.sections.items()
            for key, before in old.sections.get(section, {}).items()
            if key in items
        )

    def judge(self, items: Items) -> Callable[[str, str], Verdict]:
        """Judge items as the engine does, and check that every variation of a flag exists."""
        from flagstore.evaluation.base import MalformedError, OutOfRangeError  # noqa: PLC0415
        from flagstore.evaluation.launchdarkly import LaunchDarklyEngine  # noqa: PLC0415

        engine = LaunchDarklyEngine(items)

        def judge(section: str, key: str) -> Verdict:
            try:
                engine.check(section, key)
            except OutOfRangeError:
                return Verdict.DAMAGED  # the SDK accepts any number
            except MalformedError:
                return Verdict.REFUSED
            whole = _is_whole(section, items.item(section, key))
            return Verdict.USABLE if whole else Verdict.DAMAGED

        return judge

    def references(self, section: str, item: Json) -> Iterator[tuple[str, str]]:
        """Yield the prerequisites of a flag and the segments in its rules."""
        del section
        for prerequisite in base.objects(item.get("prerequisites")):
            yield "flags", str(prerequisite.get("key"))
        for rule in base.objects(item.get("rules")):
            for clause in base.objects(rule.get("clauses")):
                if clause.get("op") == "segmentMatch":
                    yield from (("segments", name) for name in base.strings(clause.get("values")))

    def members(self, segment: Json) -> frozenset[str]:
        """Return all listed members, in or out: moving to the other list counts as lost."""
        if not isinstance(segment, dict):
            return frozenset()
        found: set[str] = set()
        for sign, field in (("+", "included"), ("-", "excluded")):
            everyone = {"values": segment.get(field)}
            for target in (everyone, *base.objects(segment.get(f"{field}Contexts"))):
                kind = target.get("contextKind", "user")
                found.update(f"{sign}{kind}:{name}" for name in base.strings(target.get("values")))
        return frozenset(found)

    def usage(self) -> base.UsageApi:
        """Return how it takes usage."""
        from storesync.providers.launchdarkly_usage import LaunchDarklyUsage  # noqa: PLC0415

        return LaunchDarklyUsage()


def _resources(event: Mapping[str, Any]) -> list[str]:
    """Return the resource strings: one for each environment that an entry touches."""
    target = event.get("target")
    found = [each.get("resource") for each in base.objects(event.get("accesses"))]
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
    """Return whether a resource can change flags of the webhook's project and environment."""
    if list(resource)[-1] in _IRRELEVANT:
        return False
    return all(
        not options.get(option) or resource.get(kind, "*") in {"*", options[option]}
        for kind, option in (("proj", "project"), ("env", "environment"))
    )


def _required(
    event: Mapping[str, Any], resources: Iterable[Mapping[str, str]], options: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the required revisions that the entry names.

    There are none without an environment, since each environment has its own versions, or with a
    payload filter, which may exclude the flag.
    """
    environment = options.get("environment")
    keys = sorted({resource.get("flag", "*") for resource in resources} - {"*"})
    if event.get("kind") != "flag" or not environment or options.get("filter"):
        return ()
    if len(keys) > _MAX_REQUIRED or any(len(key) > _MAX_KEY for key in keys):
        return ()
    if {each.get("action") for each in base.objects(event.get("accesses"))} == {"deleteFlag"}:
        return tuple(f"gone/{key}" for key in keys)
    current = event.get("currentVersion")
    if not isinstance(current, dict) or len(keys) != 1:
        return ()
    environments = current.get("environments")
    copy = environments.get(environment) if isinstance(environments, dict) else None
    here = copy if isinstance(copy, dict) else {}
    if current.get("archived") is True or here.get("archived") is True:
        return (f"gone/{keys[0]}",)
    return (f"flag/{keys[0]}@{here['version']}",) if base.is_version(here.get("version")) else ()


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one section after checking the fields that all code relies on."""
    items = document.get(name)
    if not isinstance(items, dict):
        raise MalformedResponseError(f"LaunchDarkly responded without {name!r}: no flag set")
    for key, item in items.items():
        if not isinstance(item, dict) or item.get("key") != key or not base.is_key(key):
            raise MalformedResponseError(f"LaunchDarkly: {name} {key[:64]!r} is not an item")
        if not base.is_version(item.get("version")):
            raise MalformedResponseError(f"LaunchDarkly: {name} {key[:64]!r} has no version")
    # Tombstones belong to streams; here, one means that the item was deleted.
    return {key: item for key, item in items.items() if item.get("deleted") is not True}


def _is_whole(section: str, item: Mapping[str, Any]) -> bool:
    """Return whether an item has all fields that LaunchDarkly always sends.

    The SDK accepts a flag with only a key and a version, and then always returns the default.
    """
    if section == "flags" and not (isinstance(item.get("on"), bool) and _has_choices(item)):
        return False
    clauses = [each for rule in item.get("rules") or [] for each in rule.get("clauses") or []]
    return all(clause["attribute"] or clause["op"] == "segmentMatch" for clause in clauses)


def _has_choices(flag: Mapping[str, Any]) -> bool:
    """Return whether all variations that a flag may choose exist."""
    choosing: list[Any] = [flag.get("fallthrough") or {}]
    for field in ("rules", "targets", "contextTargets"):
        choosing += flag.get(field) or []
    chosen = [flag["offVariation"]] if flag.get("offVariation") is not None else []
    for item in choosing:
        shares = (item.get("rollout") or {}).get("variations")
        if shares and item.get("variation") is None:
            chosen += [share["variation"] for share in shares]
        else:
            chosen.append(item.get("variation"))
    possible = range(len(flag.get("variations") or ()))
    return all(variation in possible for variation in chosen)
