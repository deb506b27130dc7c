"""AWS AppConfig, without its agent: events of deployments, and the hosted document they deploy.

AppConfig sends no webhooks: EventBridge, SQS or SNS carry its events, and each is a sync request.
A flag set has two sections, each by key:

``flags``
    a profile of feature flags: ``values`` of the hosted document, with variants and their rules;
    a freeform profile: each top-level key
``definitions``
    ``flags`` of the document: names, constraints of attributes, deprecation; none of a freeform
    profile

``meta`` holds ``profile`` (application, environment and profile as configured), ``format``
(``feature-flags`` or ``freeform``) and ``plane``: ``control``, or ``data`` where the document came
from the data plane, which leaves all rules out.

What is live is the newest deployment that is ``COMPLETE``, or ``BAKING`` where the source counts
that. The revision is that of the newest deployment in whatever state: ten times its number, and
1 while it bakes, 2 when it is complete, 3 once it is rolled back or reverted. So it only rises,
also where a rollback makes an older version live.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from storesync.errors import (
    ConfigurationError,
    CredentialsRefusedError,
    EndpointNotFoundError,
    MalformedResponseError,
    SignatureError,
)
from storesync.model import FetchResult, FlagSet, ProviderEvent
from storesync.observability import logger
from storesync.providers import common

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from storesync.http import HttpClient
    from storesync.model import Source, WebhookConfig, WebhookRequest
    from storesync.providers.appconfig_api import AppConfigApi

FEATURE_FLAGS, FREEFORM = "feature-flags", "freeform"
LIVE = {"complete": frozenset({"COMPLETE"}), "baking": frozenset({"COMPLETE", "BAKING"})}
PHASES = {"baking": 1, "complete": 2, "undone": 3}
"""How far a deployment is, as part of the revision; before, it is 0."""

_STATES = {
    "BAKING": "baking",
    "COMPLETE": "complete",
    "ROLLING_BACK": "undone",
    "ROLLED_BACK": "undone",
    "REVERTED": "undone",
}
"""Phases by the states of ``DeploymentState`` in the API's model; the others come before."""
_TOLD = re.compile(r"On\s?Deployment\s?(Complete|Baking|Roll|Rev|Start|Step)?")
"""``OnDeploymentRolledBack`` and "On Deployment Rollback": AWS' pages spell it in two ways."""
_PHASES_TOLD = {"Complete": "complete", "Baking": "baking", "Roll": "undone", "Rev": "undone"}
_REQUIRED = re.compile(r"(baking|complete|undone)/([0-9]{1,12})")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]+")
_VERSION = re.compile(r"[0-9]{1,10}")

log = logger()


class Settings(NamedTuple):
    """The options of a source."""

    application: str
    environment: str
    profile: str
    region: str
    """Empty: that of the function."""
    live: frozenset[str]
    """States of a deployment that count."""
    form: str
    """``FEATURE_FLAGS`` or ``FREEFORM``: how its document is read."""
    fallback: bool
    """Whether the data plane, without rules, is better than nothing."""


class AppConfig:
    """One configuration profile in one environment.

    The revision to reach is written ``complete/<deployment>``, ``baking/<…>`` or ``undone/<…>``.
    """

    name = "appconfig"
    title = "AWS AppConfig"
    methods = ()
    accepted_status = 202
    default_base_url = "https://appconfig.{region}.amazonaws.com"
    options = ("application", "environment", "profile", "region", "live", "format", "fallback")
    webhook_options = ()
    needs_key = False

    def verify(self, request: WebhookRequest, webhook: WebhookConfig) -> None:
        """Refuse: whatever comes as a webhook is not from AppConfig."""
        del request
        message = f"{self.title} sends no webhooks: nothing for {webhook.source!r} can be genuine"
        raise SignatureError(message)

    def required_revisions(
        self, request: WebhookRequest, webhook: WebhookConfig
    ) -> tuple[str, ...] | None:
        """Return None: there are no webhooks."""
        del request, webhook
        return None

    def delivery(self, request: WebhookRequest) -> str:
        """Return an empty text: there are no webhooks."""
        del request
        return ""

    def provider_event(self, event: Mapping[str, Any]) -> ProviderEvent | None:
        """Read the event of a deployment: EventBridge's, or what the extension puts on SQS and SNS.

        Its ``ConfigurationVersion`` is not looked at: after a rollback it is the wrong one.
        """
        detail = event.get("detail") if event.get("source") == "aws.appconfig" else event
        if not isinstance(detail, dict):
            return None
        about = {
            option: _names(detail.get(field))
            for option, field in (
                ("application", "Application"),
                ("environment", "Environment"),
                ("profile", "ConfigurationProfile"),
            )
        }
        told = _TOLD.match(str(detail.get("Type") or event.get("detail-type")))
        if told is None or not all(about.values()):
            return None
        delivery = event.get("id") or detail.get("InvocationId")
        return ProviderEvent(
            self.name,
            about,
            _required(told[1], detail.get("DeploymentNumber")),
            delivery if isinstance(delivery, str) else "",
        )

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch the document of the live deployment, or with ``fallback`` what the data plane has.

        Raises:
            ConfigurationError: an option is missing or wrong.
            CredentialsRefusedError: the function's role may not read this profile.
            EndpointNotFoundError: there is no such profile, or nothing is deployed, or what is
                deployed is not in AppConfig's own store.
        """
        from storesync.providers.appconfig_api import AppConfigApi  # noqa: PLC0415 - not for webhooks

        del unmet  # no cache lies in between
        settings = options(source)
        api = AppConfigApi(source, http, settings, self.default_base_url)
        try:
            return _hosted(source, settings, api, etag)
        except (CredentialsRefusedError, EndpointNotFoundError) as error:
            if not settings.fallback:
                raise
            log.warning(
                "the data plane gives no rules of variants", source=source.name, problem=str(error)
            )
        document = api.latest()
        if settings.form == FEATURE_FLAGS:
            document = {"version": "1", "values": document}
        return FetchResult(_flag_set(settings, document, 0, "data"))

    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Any]) -> bool:
        """Compare revisions; the data plane tells none, so nothing can be waited for."""
        del item  # a deployment changes any of them, or none
        match = _REQUIRED.fullmatch(required)
        return match is None or revision == 0 or revision >= _revision(int(match[2]), match[1])

    def is_older(self, old: FlagSet, new: FlagSet) -> bool:
        """Compare revisions of the same profile."""
        same = old.meta.get("profile") == new.meta.get("profile")
        return same and 0 < new.revision < old.revision

    def references(self, section: str, item: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - provider JSON
        """Yield nothing: AppConfig's flags stand alone."""
        del section, item
        yield from ()

    def members(self, segment: Any) -> frozenset[str]:  # noqa: ANN401 - provider JSON
        """Return nobody: AppConfig has no segments."""
        del segment
        return frozenset()


def options(source: Source) -> Settings:
    """Return the options of a source, checked.

    Raises:
        ConfigurationError: names everything that is missing or wrong.
    """
    settings = Settings(
        application=source.options.get("application", ""),
        environment=source.options.get("environment", ""),
        profile=source.options.get("profile", ""),
        region=source.options.get("region", ""),
        live=LIVE.get(source.options.get("live", "complete"), frozenset()),
        form=source.options.get("format", FEATURE_FLAGS),
        fallback=source.options.get("fallback") == "data-plane",
    )
    problems = [
        f'"{option}" is missing'
        for option in ("application", "environment", "profile")
        if not source.options.get(option)
    ]
    if settings.region and not _REGION.fullmatch(settings.region):
        problems.append('"region" is no name of a region')
    if not settings.live:
        problems.append('"live" must be complete or baking')
    if settings.form not in {FEATURE_FLAGS, FREEFORM}:
        problems.append(f'"format" must be {FEATURE_FLAGS} or {FREEFORM}')
    if not settings.fallback and source.options.get("fallback"):
        problems.append('"fallback" must be data-plane, or left out')
    if problems:
        message = (
            f"options in the SSM parameter <prefix>/sources/{source.name}: {', '.join(problems)}"
        )
        raise ConfigurationError(message)
    return settings


def _hosted(source: Source, settings: Settings, api: AppConfigApi, etag: str) -> FetchResult:
    """Fetch the live version as it was written, unless the ETag says that it is there already."""
    newest, live = api.deployments(settings.live)
    if live is None:
        message = (
            f"no deployment of profile {settings.profile!r} of source {source.name!r} is "
            f"{' or '.join(sorted(settings.live)).lower()} yet: wait for it, or deploy it"
        )
        raise EndpointNotFoundError(message)
    version = str(live.get("ConfigurationVersion"))
    if not _VERSION.fullmatch(version):
        message = (
            f"what source {source.name!r} has deployed is no version in AppConfig's own store, "
            f'so its document cannot be read: set the option "fallback" to "data-plane"'
        )
        raise EndpointNotFoundError(message)
    revision = _revision(newest["DeploymentNumber"], _STATES.get(str(newest["State"]), ""))
    # A version is never written twice, so with the revision it says all.
    mine = f'"{revision}:{live["DeploymentNumber"]}:{version}"'
    if etag == mine:
        return FetchResult(None, mine)
    return FetchResult(_flag_set(settings, api.version(int(version)), revision, "control"), mine)


def _flag_set(
    settings: Settings, document: Mapping[str, Any], revision: int, plane: str
) -> FlagSet:
    if settings.form == FREEFORM:
        flags, definitions = dict(document), {}
    else:
        if document.get("version") != "1" or not _is_whole(document):
            message = (
                "AWS AppConfig: this is no document of feature flags. Is the profile freeform? "
                f'Then the source needs the option "format": "{FREEFORM}"'
            )
            raise MalformedResponseError(message)
        flags = _objects(document, "values")
        definitions = _objects(document, "flags")
    if not all(map(common.is_key, (*flags, *definitions))):
        message = "AWS AppConfig responded with a key that cannot be stored"
        raise MalformedResponseError(message)
    meta = {
        "profile": f"{settings.application}/{settings.environment}/{settings.profile}",
        "format": settings.form,
        "plane": plane,
    }
    sections = {"flags": flags, "definitions": definitions}
    return FlagSet(AppConfig.name, sections, meta, revision)


def _is_whole(document: Mapping[str, Any]) -> bool:
    """Say whether a document has sections of flags, or, without any flag, nothing else either."""
    return bool(document.keys() & {"flags", "values"}) or len(document) == 1


def _objects(document: Mapping[str, Any], section: str) -> dict[str, Any]:
    items = document.get(section, {})
    if not isinstance(items, dict) or not all(isinstance(item, dict) for item in items.values()):
        message = f"AWS AppConfig: {section!r} of the document is no object of objects"
        raise MalformedResponseError(message)
    return items


def _names(value: object) -> tuple[str, ...]:
    """Return id and name of an application, environment or profile: a source may have either."""
    named = value if isinstance(value, dict) else {}
    return tuple(text for text in (named.get("Id"), named.get("Name")) if isinstance(text, str))


def _required(told: str | None, number: object) -> tuple[str, ...] | None:
    """Return what to wait for. The start and the steps of a deployment make nothing live."""
    if told in {"Start", "Step"}:
        return None
    text = str(number)
    known = told in _PHASES_TOLD and text.isascii() and text.isdigit() and len(text) <= 12  # noqa: PLR2004
    return (f"{_PHASES_TOLD[str(told)]}/{int(text)}",) if known else ()


def _revision(number: int, phase: str) -> int:
    return 10 * number + PHASES.get(phase, 0)
