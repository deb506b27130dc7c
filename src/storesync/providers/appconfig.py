"""AWS AppConfig, without its agent: deployment events, and the hosted document they deploy.

AppConfig sends no webhooks: EventBridge carries its events, and each is a sync request. A flag set
has these sections, each by key:

``flags``
    for a profile of feature flags: ``values`` of the hosted document, with variants and their
    rules; for a freeform profile: each top-level key
``definitions``
    ``flags`` of the document: names, constraints of attributes, deprecation; empty for a freeform
    profile
``new_flags``, ``deployments``
    the new version while a gradual deployment is in progress, else empty: see
    :mod:`flagstore.rollout`

``meta`` holds ``profile`` (application, environment and profile as configured), ``format``, and
``split_hash`` if the source has that option.

The live version is that of the newest deployment that is ``COMPLETE``. The revision is that of the
newest deployment in any state: ten times its number, plus 1 while it bakes, 2 when it is complete,
3 once it is rolled back or reverted. So it only rises, even when a rollback makes an older version
live.

Requests are signed here and sent by flagstore's HTTP client, not by boto3's, so that one deadline
and its limits hold, as for any provider. Source: the API's model (``appconfig`` 2019-10-09).

- ``GET /applications/<A>/environments/<E>/deployments``, from the highest number down, in pages
- ``GET /applications/<A>/environments/<E>/deployments/<N>``, while it is in progress: its log has
  the times of its steps
- ``GET /applications/<A>/configurationprofiles/<P>/hostedconfigurationversions/<N>``: the document
  as it was written, with rules. Version numbers are never reused.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from storesync.errors import (
    ConfigurationError,
    CredentialsRefusedError,
    EndpointNotFoundError,
    MalformedResponseError,
    ProviderUnavailableError,
)
from storesync.model import FetchResult, FlagSet, ProviderEvent, Verdict
from storesync.providers.appconfig_deployments import BAKING, IN_PROGRESS, progress, sections
from storesync.providers.base import Provider, endpoint, is_key, is_version
from storesync.responses import parse_object, raise_for_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flagstore.evaluation.base import Items
    from storesync.http import HttpClient
    from storesync.model import Json, Source
    from storesync.responses import HttpResponse

TITLE = "AWS AppConfig"
FEATURE_FLAGS, FREEFORM = "feature-flags", "freeform"
SPLIT_HASH = "flagstore"
"""The only value of the option ``split_hash``."""
LIVE = "COMPLETE"
"""The state of a deployment that everybody has."""
PAGE = 50
"""Deployments per page: AppConfig's maximum."""
MAX_PAGES = 20
"""Deployments of all profiles in an environment are in one list: 1,000 of others may come first."""

_PROGRESS = {"BAKING": 1, "COMPLETE": 2, "ROLLING_BACK": 3, "ROLLED_BACK": 3, "REVERTED": 3}
"""A deployment's progress as part of the revision, by ``DeploymentState``; 0 before that."""
_UNDONE = 3
_REQUIRED = re.compile(r"(started|baking|complete|undone)/([0-9]{1,12})")
_REQUIRED_PROGRESS = {"started": 0, "baking": 1, "complete": 2, "undone": _UNDONE}
_EVENT = re.compile(r"On\s?Deployment\s?(Complete|Baking|Roll|Rev|Start|Step)?")
"""``OnDeploymentRolledBack`` and "On Deployment Rollback": AWS documents both spellings."""
_EVENT_PHASES = {
    "Start": "started",
    "Step": "started",
    "Baking": "baking",
    "Complete": "complete",
    "Roll": "undone",
    "Rev": "undone",
}
_EVENT_FIELDS = {
    "application": "Application",
    "environment": "Environment",
    "profile": "ConfigurationProfile",
}
"""Options that name a profile, and the fields of an event with their IDs."""
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]+")
_ERROR = re.compile(r"[A-Za-z]{1,60}")
_NUMBER = re.compile(r"[0-9]{1,12}")
_BAD_REQUEST, _NOT_FOUND = 400, 404
_REFUSED = frozenset({401, 403})


class AppConfig(Provider):
    """One configuration profile in one environment.

    A required revision is written ``started/<deployment>``, ``baking/<…>``, ``complete/<…>`` or
    ``undone/<…>``.
    """

    name = "appconfig"
    title = TITLE
    default_base_url = "https://appconfig.{region}.amazonaws.com"
    options = ("application", "environment", "profile", "region", "format", "split_hash")
    needs_key = False
    revisions_of = "profile"

    def provider_event(self, event: Mapping[str, Any]) -> ProviderEvent | None:
        """Read the event of a deployment.

        Its ``ConfigurationVersion`` is ignored: after a rollback it is the wrong one.
        """
        detail = event.get("detail")
        if not isinstance(detail, dict):
            return None
        about: dict[str, str] = {}
        for option, field in _EVENT_FIELDS.items():
            named = detail.get(field)
            if isinstance(named, dict) and isinstance(named.get("Id"), str):
                about[option] = named["Id"]
        kind = _EVENT.match(str(detail.get("Type") or event.get("detail-type")))
        if kind is None or len(about) < len(_EVENT_FIELDS):
            return None
        required: tuple[str, ...] = ()
        number = str(detail.get("DeploymentNumber"))
        if kind[1] in _EVENT_PHASES and _NUMBER.fullmatch(number):
            required = (f"{_EVENT_PHASES[kind[1]]}/{int(number)}",)
        delivery = event.get("id")
        return ProviderEvent(
            self.name, about, required, delivery if isinstance(delivery, str) else ""
        )

    def fetch(
        self, source: Source, http: HttpClient, etag: str, *, unmet: tuple[str, ...] = ()
    ) -> FetchResult:
        """Fetch the document of the live deployment, and of one that is in progress."""
        del unmet  # there is no cache in between
        _check_options(source)
        api = _Api(source, http, self.default_base_url)
        newest, live = api.deployments()
        new = newest if newest["State"] in IN_PROGRESS and not _is_unreadable(newest) else None
        state = _PROGRESS.get(newest["State"], 0)
        if not (live or new or state == _UNDONE):
            raise EndpointNotFoundError(
                f"no deployment of profile {source.options['profile']!r} of source "
                f"{source.name!r} has reached anybody yet: wait for it, or deploy it"
            )
        version, previous = _version(source, new), _version(source, live)
        revision = 10 * newest["DeploymentNumber"] + state
        # A version is never written twice, so together with the revision it identifies the set.
        tag = f'"{revision}:{previous}:{version}"'
        found = progress(api.with_log(new)) if new else None
        if etag == tag:
            return FetchResult(None, tag, found)
        form = source.options.get("format", FEATURE_FLAGS)
        flags, definitions = _content(api.document(previous), form) if previous else ({}, {})
        new_flags = _content(api.document(version), form)[0] if version else {}
        both = sections(new, flags, new_flags, version=version, previous_version=previous)
        meta = {"profile": "/".join(source.options[name] for name in _EVENT_FIELDS), "format": form}
        if "split_hash" in source.options:
            meta["split_hash"] = source.options["split_hash"]
        all_sections = {"flags": flags, "definitions": definitions, **both}
        return FetchResult(FlagSet(self.name, all_sections, meta, revision), tag, found)

    def satisfied(self, required: str, revision: int, item: Callable[[str, str], Json]) -> bool:
        """Compare revisions; a set without one satisfies any."""
        del item  # a deployment may change any item, or none
        match = _REQUIRED.fullmatch(required)
        return (
            match is None
            or revision == 0
            or revision >= 10 * int(match[2]) + _REQUIRED_PROGRESS[match[1]]
        )

    def judge(self, items: Items) -> Callable[[str, str], Verdict]:
        """Judge the flags of a profile of feature flags; freeform ones may be any JSON."""
        from flagstore.evaluation.appconfig import AppConfigEngine  # noqa: PLC0415 - as of Provider
        from flagstore.evaluation.base import EXCEPTION, MALFORMED_FLAG  # noqa: PLC0415

        engine = AppConfigEngine(items)
        freeform = items.meta.get("format") == FREEFORM

        def judge(section: str, key: str) -> Verdict:
            if section != "flags" or freeform:
                return Verdict.USABLE
            item: Any = items.item(section, key)
            whole = isinstance(item, dict) and item.keys() & {"enabled", "_variants", "_variant"}
            broken = engine.evaluate(key, {}).error in {EXCEPTION, MALFORMED_FLAG}
            return Verdict.USABLE if whole and not broken else Verdict.DAMAGED

        return judge


def _check_options(source: Source) -> None:
    """Raise :class:`ConfigurationError`, naming everything that is missing or wrong."""
    given = source.options
    problems = [f'"{name}" is missing' for name in _EVENT_FIELDS if not given.get(name)]
    if given.get("region") and not _REGION.fullmatch(given["region"]):
        problems.append('"region" is not an AWS region')
    if given.get("format", FEATURE_FLAGS) not in {FEATURE_FLAGS, FREEFORM}:
        problems.append(f'"format" must be {FEATURE_FLAGS} or {FREEFORM}')
    if given.get("split_hash", SPLIT_HASH) != SPLIT_HASH:
        problems.append(f'"split_hash" must be {SPLIT_HASH}; omit it to leave `split` unsupported')
    if problems:
        raise ConfigurationError(
            f"options in the SSM parameter <prefix>/sources/{source.name}: {', '.join(problems)}"
        )


def _version(source: Source, deployment: Mapping[str, Any] | None) -> int:
    """Return the configuration version of a deployment; 0 for none."""
    if deployment is None:
        return 0
    version = str(deployment.get("ConfigurationVersion"))
    if not _NUMBER.fullmatch(version):
        raise EndpointNotFoundError(
            f"source {source.name!r} has deployed a configuration that AppConfig does not "
            f"host, so it cannot be read: use a hosted configuration"
        )
    return int(version)


def _content(document: dict[str, Any], form: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return flags and definitions of a document."""
    flags: dict[str, Any] = document
    definitions: dict[str, Any] = {}
    if form == FEATURE_FLAGS:
        # A document without flags has only its version.
        whole = document.keys() & {"flags", "values"} or len(document) == 1
        if document.get("version") != "1" or not whole:
            raise MalformedResponseError(
                f"{TITLE}: this is not a document of feature flags. If the profile is freeform, "
                f'add the option "format": "{FREEFORM}" to the source'
            )
        flags, definitions = _section(document, "values"), _section(document, "flags")
    if not all(map(is_key, (*flags, *definitions))):
        raise MalformedResponseError(f"{TITLE} responded with a key that cannot be stored")
    return flags, definitions


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    items = document.get(name, {})
    if not isinstance(items, dict) or not all(isinstance(item, dict) for item in items.values()):
        raise MalformedResponseError(
            f"{TITLE}: {name!r} of the document is not an object of objects"
        )
    return items


class _Api:
    """The requests of one fetch, all within the client's deadline for a single request."""

    def __init__(self, source: Source, http: HttpClient, default_base_url: str) -> None:
        import boto3  # noqa: PLC0415 - not for webhooks
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        self._source = source
        self._http = http
        self._end = monotonic() + http.limits.total_s
        session = boto3.Session()
        self._region = source.options.get("region") or session.region_name or ""
        if not self._region:
            raise ConfigurationError(
                f'source {source.name!r} needs the option "region": none is configured here'
            )
        try:
            credentials = session.get_credentials()
            frozen = credentials.get_frozen_credentials() if credentials else None
        except BotoCoreError as error:
            raise ProviderUnavailableError(
                f"no AWS credentials for source {source.name!r}: {type(error).__name__}"
            ) from error
        if frozen is None:
            raise CredentialsRefusedError(
                f"no AWS credentials for source {source.name!r}: the function has no role"
            )
        self._credentials = frozen
        base = endpoint(source, default_base_url, "", {}).replace("{region}", self._region)
        self._base = f"{base}/applications/{self._quoted('application')}"

    def deployments(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the newest deployment of the profile and the newest live one, if any."""
        path = f"/environments/{self._quoted('environment')}/deployments"
        profile = self._source.options["profile"]
        newest: dict[str, Any] | None = None
        query = {"max_results": str(PAGE)}
        for _ in range(MAX_PAGES):
            response = self._get("ListDeployments", f"{path}?{urlencode(query, quote_via=quote)}")
            document = parse_object(response, TITLE)
            for item in _items(document):
                if item.get("ConfigurationProfileId") == profile:
                    newest = newest or item
                    if item["State"] == LIVE and not _is_unreadable(item):
                        return newest, item
            token = document.get("NextToken")
            if not token:
                break
            if not is_key(token):
                raise MalformedResponseError(f"{TITLE} responded with an invalid NextToken")
            query["next_token"] = token
        else:
            raise EndpointNotFoundError(
                f"{MAX_PAGES * PAGE} deployments of other profiles came before one of source "
                f"{self._source.name!r}: deploy it again, or use a separate environment"
            )
        if newest is None:
            raise EndpointNotFoundError(
                f"profile {profile[:64]!r} of source {self._source.name!r} was never deployed to "
                f"this environment: deploy it, or correct the options"
            )
        return newest, None

    def with_log(self, deployment: dict[str, Any]) -> dict[str, Any]:
        """Return a deployment with its log, unless everybody has it."""
        if deployment["State"] == BAKING:
            return deployment
        number = deployment["DeploymentNumber"]
        path = f"/environments/{self._quoted('environment')}/deployments/{number}"
        found = parse_object(self._get("GetDeployment", path), TITLE)
        if found.get("DeploymentNumber") != number:
            raise MalformedResponseError(f"{TITLE} responded with another deployment")
        return {**found, "State": deployment["State"]}

    def document(self, version: int) -> dict[str, Any]:
        """Return one version of the document, as it was written."""
        path = f"/configurationprofiles/{self._quoted('profile')}"
        path += f"/hostedconfigurationversions/{version}"
        response = self._get("GetHostedConfigurationVersion", path)
        # Any JSON can be a freeform profile; a proxy's login page has no such header.
        if response.headers.get("version-number") != str(version):
            raise MalformedResponseError(
                f"{TITLE} responded with something that is not version {version}"
            )
        return parse_object(response, TITLE)

    def _quoted(self, option: str) -> str:
        return quote(self._source.options[option], safe="")

    def _get(self, action: str, path: str) -> HttpResponse:
        """Sign and send one request; raise unless the response is 200."""
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - not for webhooks
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - the same

        request = AWSRequest("GET", self._base + path)
        # The signature covers the host and these headers, not those that the client adds.
        SigV4Auth(self._credentials, "appconfig", self._region).add_auth(request)
        signed = {name: str(value) for name, value in request.headers.items()}
        http = self._http.within(self._end - monotonic())
        response = http.get(self._base + path, signed, allow_http=self._source.allow_http)
        status, name = response.status, self._source.name
        found = _ERROR.match(response.headers.get("x-amzn-errortype", ""))
        error = found[0] if found else ""  # nothing else from a response may reach a terminal
        if status in _REFUSED:
            raise CredentialsRefusedError(
                f"AWS refused appconfig:{action} for source {name!r} with {status} {error}: "
                "SyncFunction needs the parameter AppConfigProfile (docs/configure.md)"
            )
        if status == _NOT_FOUND:
            raise EndpointNotFoundError(
                f"{TITLE} has no such application, environment, profile or version for source "
                f"{name!r} ({action}): check its options, and its region"
            )
        throttled = "Throttling" in error or "TooMany" in error
        raise_for_status(response, name, TITLE, transient={_BAD_REQUEST} if throttled else ())
        return response


def _is_unreadable(item: dict[str, Any]) -> bool:
    """Return whether this is an experiment's deployment, of a version that AppConfig does not host.

    What was deployed before it remains readable.
    """
    version = str(item.get("ConfigurationVersion"))
    return item.get("Type") == "MANAGED" and not _NUMBER.fullmatch(version)


def _items(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a page's deployments from the highest number down, after checking them."""
    items = document.get("Items")
    if not isinstance(items, list):
        raise MalformedResponseError(f"{TITLE} responded without a list of deployments")
    for item in items:
        fine = isinstance(item, dict) and is_version(item.get("DeploymentNumber"))
        if not fine or not isinstance(item.get("State"), str):
            raise MalformedResponseError(
                f"{TITLE} responded with a deployment without number or state"
            )
    return sorted(items, key=lambda item: -item["DeploymentNumber"])
