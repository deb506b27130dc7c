"""AppConfig's API: deployments and hosted versions (control plane), the data plane as a fallback.

Apart from :mod:`storesync.providers.appconfig`, since the function that faces the internet needs
none of it. The requests are signed here and sent by our own client, not by boto3's: so the
deadline holds over all of them, sizes have limits, and redirects are refused, as for any provider.
Sources: the API's models (``appconfig`` 2019-10-09, ``appconfigdata`` 2021-11-11).

- ``GET /applications/<A>/environments/<E>/deployments``, from the highest number down, in pages
- ``GET /applications/<A>/configurationprofiles/<P>/hostedconfigurationversions/<N>``: the document
  as it was written, with rules. A number is never given to another document.
- ``POST /configurationsessions`` and ``GET /configuration?configuration_token=…``: what an
  application without the agent is served. A token is good for one call, so each fetch has a session
  of its own, and no token is kept.
"""

from __future__ import annotations

import json
import re
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from storesync.errors import (
    ConfigurationError,
    CredentialsRefusedError,
    EndpointNotFoundError,
    MalformedResponseError,
    ProviderUnavailableError,
)
from storesync.providers import common
from storesync.responses import parse_object, raise_for_status

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

    from storesync.http import HttpClient
    from storesync.model import Source
    from storesync.providers.appconfig import Settings
    from storesync.responses import HttpResponse

TITLE = "AWS AppConfig"
PAGE = 50
"""Deployments of one page: the most that AppConfig gives."""
MAX_PAGES = 20
"""An environment's deployments of all profiles are one list: 1,000 of others may come first."""

_SERVICE = "appconfig"
_CREATED, _BAD_REQUEST, _NOT_MODIFIED = 201, 400, 304
_REFUSED, _NOT_FOUND = frozenset({401, 403}), 404
_ERROR = re.compile(r"[A-Za-z]{1,60}")


class AppConfigApi:
    """The requests of one fetch: together they take no longer than the client may for one."""

    def __init__(
        self, source: Source, http: HttpClient, settings: Settings, default_base_url: str
    ) -> None:
        self._source = source
        self._http = http
        self._settings = settings
        self._end = monotonic() + http.limits.total_s
        session = boto3.Session()
        self._region = settings.region or session.region_name or ""
        if not self._region:
            message = f'source {source.name!r} needs the option "region": none is configured here'
            raise ConfigurationError(message)
        base = common.endpoint(source, default_base_url, "", {})
        self._control = base.replace("{region}", self._region)
        self._data = self._control.replace("://appconfig.", "://appconfigdata.", 1)
        self._credentials = _credentials(session, source.name)

    def deployments(self, live: frozenset[str]) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the newest deployment of the profile and the newest that is live, if any.

        Raises:
            EndpointNotFoundError: there is none at all, or none in ``MAX_PAGES``.
            ProviderError: another one of its subclasses, by what a retry could change.
        """
        path = f"/applications/{_part(self._settings.application)}"
        path += f"/environments/{_part(self._settings.environment)}/deployments"
        newest: dict[str, Any] | None = None
        query = {"max_results": str(PAGE)}
        for _ in range(MAX_PAGES):
            document = parse_object(self._get("ListDeployments", path, query), TITLE)
            for item in _items(document):
                if self._is_ours(item):
                    newest = newest or item
                    if item["State"] in live:
                        return newest, item
            token = document.get("NextToken")
            if not token:
                break
            query["next_token"] = str(token)
        else:
            message = (
                f"{MAX_PAGES * PAGE} deployments of other profiles came before one of source "
                f"{self._source.name!r}: deploy it again, or give it an environment of its own"
            )
            raise EndpointNotFoundError(message)
        if newest is None:
            message = (
                f"profile {self._settings.profile[:64]!r} of source {self._source.name!r} was "
                f"never deployed to this environment: deploy it, or correct the options"
            )
            raise EndpointNotFoundError(message)
        return newest, None

    def _is_ours(self, item: dict[str, Any]) -> bool:
        named = (item.get("ConfigurationProfileId"), item.get("ConfigurationName"))
        return self._settings.profile in named  # no set: a damaged name may be of any type

    def version(self, number: int) -> dict[str, Any]:
        """Return one version of the document, as it was written.

        Raises:
            ProviderError: one of its subclasses, by what a retry could change.
        """
        path = f"/applications/{_part(self._settings.application)}"
        path += f"/configurationprofiles/{_part(self._settings.profile)}"
        path += f"/hostedconfigurationversions/{number}"
        response = self._get("GetHostedConfigurationVersion", path, {})
        # Any JSON can be a freeform profile; a proxy's login page has no such header.
        if response.headers.get("version-number") != str(number):
            message = f"{TITLE} responded with something that is not version {number}"
            raise MalformedResponseError(message)
        return parse_object(response, TITLE)

    def latest(self) -> dict[str, Any]:
        """Return what the data plane serves a session that begins now.

        Raises:
            ProviderError: one of its subclasses, by what a retry could change.
        """
        required = {
            "ApplicationIdentifier": self._settings.application,
            "EnvironmentIdentifier": self._settings.environment,
            "ConfigurationProfileIdentifier": self._settings.profile,
        }
        body = json.dumps(required).encode()
        action = "StartConfigurationSession"
        response = self._send(f"{self._data}/configurationsessions", body)
        if response.status != _CREATED:
            self._raise_for_status(response, action)
        token = parse_object(response, TITLE).get("InitialConfigurationToken")
        if not isinstance(token, str) or not token:
            message = f"{TITLE} responded without a token"
            raise MalformedResponseError(message)
        query = urlencode({"configuration_token": token}, quote_via=quote)
        action = "GetLatestConfiguration"
        response = self._send(f"{self._data}/configuration?{query}")
        self._raise_for_status(response, action)
        if "next-poll-configuration-token" not in response.headers:
            message = f"{TITLE} responded without the next token"
            raise MalformedResponseError(message)
        return parse_object(response, TITLE)

    # -- requests -------------------------------------------------------------------------------

    def _get(self, action: str, path: str, query: dict[str, str]) -> HttpResponse:
        url = self._control + path
        url += f"?{urlencode(query, quote_via=quote)}" if query else ""
        response = self._send(url)
        self._raise_for_status(response, action)
        return response

    def _send(self, url: str, body: bytes | None = None) -> HttpResponse:
        http = self._http.within(self._end - monotonic())
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = AWSRequest("GET" if body is None else "POST", url, headers, body or b"")
        # It signs the host and its own headers; those that our client adds are not signed.
        SigV4Auth(self._credentials, _SERVICE, self._region).add_auth(request)
        signed = {name: str(value) for name, value in request.headers.items()}
        if body is None:
            return http.get(url, signed, allow_http=self._source.allow_http)
        return http.post(url, signed, body, allow_http=self._source.allow_http)

    def _raise_for_status(self, response: HttpResponse, action: str) -> None:
        """Raise what a response means that is no 200."""
        status, name = response.status, self._source.name
        found = _ERROR.match(response.headers.get("x-amzn-errortype", ""))
        error = found[0] if found else ""
        if status in _REFUSED:
            message = (
                f"AWS refused appconfig:{action} for source {name!r} with {status} {error}: the "
                f"role of SyncFunction needs it for this profile (docs/appconfig.md)"
            )
            raise CredentialsRefusedError(message)
        if status == _BAD_REQUEST and ("Throttling" in error or "TooMany" in error):
            message = (
                f"{TITLE} responded with {status} {error}: it cannot serve source {name!r} now"
            )
            raise ProviderUnavailableError(message)
        if status == _NOT_FOUND:
            message = (
                f"{TITLE} knows no such application, environment, profile or version for source "
                f"{name!r} ({action}): check its options, and its region"
            )
            raise EndpointNotFoundError(message)
        raise_for_status(response, name, TITLE)
        if status == _NOT_MODIFIED:
            message = f"{TITLE} responded with 304 to a request without an ETag"
            raise MalformedResponseError(message)


def _credentials(session: boto3.Session, source: str) -> ReadOnlyCredentials:
    """Return the function's own credentials."""
    try:
        found = session.get_credentials()
        frozen = found.get_frozen_credentials() if found else None
    except BotoCoreError as error:
        message = f"no AWS credentials for source {source!r}: {type(error).__name__}"
        raise ProviderUnavailableError(message) from error
    if frozen is None:
        message = f"no AWS credentials for source {source!r}: the function has no role"
        raise CredentialsRefusedError(message)
    return frozen


def _part(text: str) -> str:
    return quote(text, safe="")


def _items(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a page's deployments from the highest number down, after checking what is read."""
    items = document.get("Items")
    if not isinstance(items, list):
        message = f"{TITLE} responded without a list of deployments"
        raise MalformedResponseError(message)
    for item in items:
        fine = isinstance(item, dict) and common.is_version(item.get("DeploymentNumber"))
        if not fine or not isinstance(item.get("State"), str):
            message = f"{TITLE} responded with a deployment without number or state"
            raise MalformedResponseError(message)
    return sorted(items, key=lambda item: -item["DeploymentNumber"])
