"""Configuration: the functions' environment, and the sources in SSM parameters under one prefix.

``<prefix>/sources/<source>``      JSON, not secret: provider, options, rows, document, store,
                                   allow_http, rows_prefix, adopt, drain, webhook
``<prefix>/credentials/<source>``  SecureString, JSON: provider, key, base_url, store_url; for
                                   SyncFunction only; not needed if a provider accepts the
                                   function's own credentials. It states where the key may be sent,
                                   so nothing in the source's parameter can send it elsewhere
``<prefix>/webhooks/<webhook>``    SecureString, JSON: provider, method, secrets, header, and either
                                   options, for the source of that name, or sources, each with its
                                   options; for WebhookFunction only

All problems of a setting or parameter are reported together. Messages quote no values except
provider names, since most parameters hold secrets. A wrong parameter affects only its own source.
"""

from __future__ import annotations

import json
import random
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from flagstore import errors as reader_errors
from flagstore.keys import check_source
from storesync import providers
from storesync.errors import (
    ConfigurationError,
    OutOfTimeError,
    ParametersError,
    UnknownSourceError,
)
from storesync.model import NATIVE, PREFIX_BYTES, Secret, Source, WebhookConfig
from storesync.retry import Deadline
from storesync.telemetry import log, register_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_ssm.type_defs import (
        GetParametersByPathRequestTypeDef,
        GetParametersByPathResultTypeDef,
    )

    from storesync.model import Clock, ProviderEvent
    from storesync.providers.base import Provider

MAX_AGE_S = 30.0
"""Maximum age of parameters in memory."""
MISSING_AGE_S = 5.0
"""Maximum age before a missing name is looked up again."""
WEBHOOKS_AGE_S = 90.0
"""Maximum age for webhooks: WebhookFunction may have hundreds of processes, SyncFunction has few. A
missing name causes no earlier read: unauthenticated requests must not cause calls."""
INIT_LOAD_S, LOAD_S = 4.5, 3.0
"""How long to retry the first read, in INIT and in an event. Unleash waits 10 s for a response,
including INIT; the other providers do not document how long they wait."""
PAUSE_S = 5.0
"""Pause after a failed first read in an event."""
THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException"}
SERVER_ERROR = 500

SOURCE_FIELDS = (
    *("provider", "options", "rows", "document", "store", "allow_http"),
    *("rows_prefix", "adopt", "drain", "webhook"),
)
"""``webhook`` is for the command line: the webhook of the source, unless it has the same name."""
CREDENTIAL_FIELDS = ("provider", "key", "base_url", "store_url")
WEBHOOK_FIELDS = ("provider", "method", "secrets", "header", "options", "sources")
STORES = ("dynamodb", "redis")
_PREFIX = re.compile(rf"[A-Za-z0-9_.:{{}}-]{{0,{PREFIX_BYTES}}}")
MIN_SECRET = 16
"""Characters. A webhook's secret is all that protects the queue from the internet."""


# -- the environment


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Settings of WebhookFunction, which faces the internet: no table, no credentials."""

    parameter_prefix: str
    queue_url: str
    full_monitoring: bool = False
    """Whether to write all metrics, not only those of essential alarms."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> WebhookSettings:
        """Read the settings, or raise ConfigurationError with all that is missing or wrong."""
        env = _Environment(environ)
        settings = cls(env.prefix(), env.text("FLAGSTORE_QUEUE_URL"), env.full_monitoring())
        _check(env.problems)
        return settings


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Settings of SyncFunction."""

    parameter_prefix: str
    queue_url: str
    """If empty, as in a local run, sync requests are neither retried nor queued by the schedule."""
    table: str
    followup_s: int
    """Delay of the sync request that follows a webhook's check; 0: none."""
    snapshot_replicas: int
    reconcile_minutes: int = 5
    """Interval of the schedule."""
    full_monitoring: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> SyncSettings:
        """Read the settings, or raise ConfigurationError with all that is missing or wrong."""
        env = _Environment(environ)
        settings = cls(
            parameter_prefix=env.prefix(),
            queue_url=environ.get("FLAGSTORE_QUEUE_URL", ""),
            table=env.text("FLAGSTORE_TABLE"),
            followup_s=env.number("FLAGSTORE_FOLLOWUP_SYNC_SECONDS", 30, 0, 900),
            snapshot_replicas=env.number("FLAGSTORE_SNAPSHOT_REPLICAS", 1, 1, 5),
            reconcile_minutes=env.number("FLAGSTORE_RECONCILE_MINUTES", 5, 1, 360),
            full_monitoring=env.full_monitoring(),
        )
        _check(env.problems)
        return settings


@dataclass(frozen=True, slots=True)
class UsageSettings:
    """Settings of UsageFunction."""

    parameter_prefix: str
    queue_url: str
    """The queue of usage that could not be reported yet."""
    table: str
    snapshot_replicas: int
    events: bool
    """Whether exposures and events are reported, too: anyone who can write to a log can make them
    up, and providers bill by the keys in them."""
    full_monitoring: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> UsageSettings:
        """Read the settings, or raise ConfigurationError with all that is missing or wrong."""
        env = _Environment(environ)
        settings = cls(
            parameter_prefix=env.prefix(),
            queue_url=env.text("FLAGSTORE_QUEUE_URL"),
            table=env.text("FLAGSTORE_TABLE"),
            snapshot_replicas=env.number("FLAGSTORE_SNAPSHOT_REPLICAS", 1, 1, 5),
            events=environ.get("FLAGSTORE_COLLECT_USAGE", "") == "events",
            full_monitoring=env.full_monitoring(),
        )
        _check(env.problems)
        return settings


class _Environment:
    """Reads variables and collects their problems."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        value = self._environ.get(name, "")
        if not value:
            self.problems.append(f"{name} is not set")
        return value

    def prefix(self) -> str:
        name = "FLAGSTORE_PARAMETER_PREFIX"
        value = self.text(name)
        if value and (not value.startswith("/") or value.endswith("/")):
            self.problems.append(f"{name} must start with '/' and not end with it")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        text = self._environ.get(name, "") or str(default)
        if text.isdecimal() and low <= int(text) <= high:
            return int(text)
        self.problems.append(f"{name} must be a whole number from {low} to {high}")
        return default

    def full_monitoring(self) -> bool:
        name = "FLAGSTORE_MONITORING"
        value = self._environ.get(name, "essential")
        if value not in ("essential", "full"):
            self.problems.append(f"{name} must be essential or full")
        return value == "full"


def _check(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError("; ".join(problems))


# -- SSM


class Parameters:
    """The parameters of one path by name, cached.

    By default, SSM allows an account 40 calls of ``GetParametersByPath`` per second, of ten
    parameters each. A hundred receivers that start at once have to wait for their turn, and a
    thousand warm ones must not exhaust the quota. Each process therefore reads again after a random
    time between half the maximum age and the full one. If SSM fails, the parameters read before
    stay in use; until they have been read once, every method raises :class:`ParametersError`.
    """

    def __init__(
        self, client: SSMClient, path: str, clock: Clock, rng: random.Random | None = None
    ) -> None:
        self.path = path
        self._client = client
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._lock = Lock()
        self._values: dict[str, str] | None = None
        self._read_at = -inf
        self._age_factor = 1.0
        self._problem = ""
        """Why the last event could not read them."""

    def load(self) -> None:
        """Read the parameters during INIT; after any failure, the first event retries at once."""
        with self._lock:
            if self._values is None:
                self._load(INIT_LOAD_S)

    def values(self, max_age_s: float = MAX_AGE_S) -> Mapping[str, str]:
        """Return the value of each parameter by name, at most *max_age_s* old unless SSM fails."""
        with self._lock:
            is_first = self._values is None
            age_s = self._clock.monotonic() - self._read_at
            if is_first and self._problem and age_s < PAUSE_S:
                raise ParametersError(self._problem)
            if is_first or age_s >= max_age_s * self._age_factor:
                try:
                    self._load(LOAD_S if is_first else 0.0)
                except ParametersError as error:
                    self._problem = str(error)
                    if is_first:
                        raise
                    log.warning("keeping the parameters read before", problem=self._problem)
            return self._values or {}

    def get(self, name: str, *, fresh: bool) -> str | None:
        """Return the value of one parameter, reading again if it is missing: it may be new."""
        text = self.values(0.0 if fresh else MAX_AGE_S).get(name)
        return self.values(MISSING_AGE_S).get(name) if text is None else text

    def _load(self, within_s: float) -> None:
        deadline = Deadline(self._clock, self._rng, within_s)
        request: GetParametersByPathRequestTypeDef = {"Path": self.path, "WithDecryption": True}
        found: dict[str, str] = {}
        try:
            while True:
                page = self._page(request, deadline)
                for parameter in page["Parameters"]:
                    found[parameter["Name"].rpartition("/")[2]] = parameter["Value"]
                if not page.get("NextToken"):
                    break
                request["NextToken"] = page["NextToken"]
            self._values = found
        except (BotoCoreError, ClientError) as error:
            problem = f"cannot read the parameters under {self.path}: {error}"
            raise ParametersError(problem) from error
        finally:
            self._read_at = self._clock.monotonic()
            self._age_factor = self._rng.uniform(0.5, 1.0)

    def _page(
        self, request: GetParametersByPathRequestTypeDef, deadline: Deadline
    ) -> GetParametersByPathResultTypeDef:
        """Read one page. Only this method retries, so that retries do not multiply."""
        for attempt in count():
            try:
                return self._client.get_parameters_by_path(**request)
            except (BotoCoreError, ClientError) as error:
                if not _is_transient(error):
                    raise
                try:
                    deadline.back_off(attempt, base_s=0.2, cap_s=2.0, purpose="a retry")
                except OutOfTimeError:
                    raise error from None
        raise AssertionError


def _is_transient(error: BotoCoreError | ClientError) -> bool:
    """Return whether a retry may succeed: throttling, a broken connection, a 5xx."""
    if isinstance(error, BotoCoreError):
        return True
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return error.response["Error"]["Code"] in THROTTLED or status >= SERVER_ERROR


# -- sources and webhooks


class Sources:
    """All sources, for SyncFunction.

    Every method raises :class:`ParametersError` if the parameters have never been read.
    """

    def __init__(
        self, client: SSMClient, prefix: str, clock: Clock, rng: random.Random | None = None
    ) -> None:
        self._sources = Parameters(client, f"{prefix}/sources", clock, rng)
        self._credentials = Parameters(client, f"{prefix}/credentials", clock, rng)

    def load(self) -> None:
        """Read all parameters during INIT, and import the sources' providers."""
        self._sources.load()
        self._credentials.load()
        for name in self.names():
            with suppress(ConfigurationError):  # the source's own syncs report it
                self.get(name)

    def names(self) -> list[str]:
        """Return the names of all sources, sorted."""
        return sorted(self._sources.values())

    def get(self, name: str, *, fresh: bool = False) -> Source:
        """Return one source, after reading its parameters again if it must be *fresh*.

        Raises:
            UnknownSourceError: there is no source of that name.
            ConfigurationError: names the parameter, everything wrong with it, and the remedy.
        """
        source = self._parse(name, fresh=fresh)
        register_secret(source.credential, source.store_url)  # again, since the oldest are dropped
        if source.rows_prefix is not None:
            self.check_prefix(source)
        return source

    def check_prefix(self, source: Source) -> None:
        """Raise ConfigurationError if another source has its rows at the same place."""
        if other := self._other_at(source, source.rows_at):
            raise ConfigurationError(
                f"{self._sources.path}/{source.name}: source {other!r} stores its rows under the "
                'same prefix: choose another "rows_prefix"'
            )

    def _other_at(self, source: Source, rows_at: str) -> str:
        """Return the name of another source that has its rows at a place, or ``""``."""
        for name in self.names():
            with suppress(ConfigurationError):  # its own syncs report it
                other = self._parse(name, fresh=False)
                if name != source.name and _place(other, other.rows_at) == _place(source, rows_at):
                    return name
        return ""

    def _parse(self, name: str, *, fresh: bool) -> Source:
        where = f"{self._sources.path}/{name}"
        text = self._sources.get(name, fresh=fresh)
        if text is None:
            raise UnknownSourceError(f"no source {name!r}: {where} does not exist")
        secret_text = self._credentials.get(name, fresh=fresh)
        secret_where = f"{self._credentials.path}/{name}"
        return parse_source(name, where, text, secret_where, secret_text, self._other_at)

    def matching_sources(self, provider_event: ProviderEvent) -> list[str]:
        """Return the sorted names of the sources that an event concerns.

        A source with wrong parameters does not match; the schedule reports it.
        """
        found = []
        for name in self.names():
            with suppress(ConfigurationError):
                source = self.get(name)
                if source.provider == provider_event.provider and all(
                    source.options.get(option) == value
                    for option, value in provider_event.about.items()
                ):
                    found.append(name)
        return found


class WebhookConfigs:
    """The configuration of all webhooks, for WebhookFunction."""

    def __init__(
        self, client: SSMClient, prefix: str, clock: Clock, rng: random.Random | None = None
    ) -> None:
        self._webhooks = Parameters(client, f"{prefix}/webhooks", clock, rng)
        self.load = self._webhooks.load

    def get(self, name: str) -> WebhookConfig:
        """Return the webhook config of that name; raises as :meth:`Sources.get` does."""
        where = f"{self._webhooks.path}/{name}"
        text = self._webhooks.values(WEBHOOKS_AGE_S).get(name)
        if text is None:
            raise UnknownSourceError(f"no webhook {name!r}: {where} does not exist")
        webhook = parse_webhook(name, where, text)
        register_secret(*webhook.secrets)  # again, since the oldest are dropped
        return webhook


@lru_cache(1024)
def parse_source(
    name: str,
    where: str,
    text: str,
    secret_where: str,
    secret_text: str | None,
    other_at: Callable[[Source, str], str] | None = None,
) -> Source:
    """Build a source from its two parameters, or raise :class:`ConfigurationError`."""
    problems: list[str] = []
    public = _Fields(where, text, SOURCE_FIELDS, problems)
    provider = public.provider(name)
    store = public.one_of("store", STORES)
    keyless = provider is not None and not provider.needs_key
    if secret_text is None and provider and keyless and store == "dynamodb":
        secret_text = json.dumps({"provider": provider.name})
    secret = _Fields(secret_where, secret_text, CREDENTIAL_FIELDS, problems)
    # The two parameters are written separately, and the operator may be interrupted in between.
    meant = secret.text("provider", "the provider that the key belongs to, as in the source")
    if provider and meant and meant != provider.name:
        secret.problem(
            f'"provider" is not {provider.name}, which the source names: the key is not sent until '
            "both name the same provider"
        )
    allow_http = public.flag("allow_http", default=False)
    base_url = _base_url(secret, provider, allow_http=allow_http)
    key = secret.text("key", "" if keyless else "the provider's server-side SDK key or token")
    if keyless and key:
        secret.problem(
            '"key" must be removed: this provider accepts the role of SyncFunction instead'
        )
    url_form = "rediss://user:password@host:port/database" if store == "redis" else ""
    store_url = secret.text("store_url", url_form)
    source = Source(
        name=name,
        provider=provider.name if provider else "",
        base_url=base_url,
        credential=Secret(key),
        options=public.texts("options", provider.options if provider else None),
        rows=public.flag("rows", default=True),
        store=store,
        store_url=Secret(store_url),
        allow_http=allow_http,
        document=public.flag("document", default=False),
        rows_prefix=public.optional_text("rows_prefix"),
        adopt=public.flag("adopt", default=False),
        drain=public.flag("drain", default=False),
        other_at=other_at,
    )
    _check_rows_prefix(source, public)
    if source.document and provider and provider.name != "unleash":
        public.problem(
            '"document" is for Unleash only, whose SDKs take all flags as one document: '
            f"leave it out for {provider.title}"
        )
    if source.drain and provider and (provider.name, store) != ("split", "redis"):
        public.problem(
            '"drain" is for Split in Redis only, where its SDKs queue impressions: remove it'
        )
    _check(problems)
    register_secret(source.credential, source.store_url)
    return source


def _place(source: Source, rows_at: str) -> tuple[str, str]:
    """Return what no other source may share: where the rows are."""
    own = source.name if source.store == "redis" else f"launchdarkly {source.name}"
    server = source.store_url.reveal().partition("://")[2].rpartition("@")[2]  # of any user
    return server, rows_at or own


def _check_rows_prefix(source: Source, public: _Fields) -> None:
    prefix = source.rows_prefix
    if prefix is None:
        if source.adopt:
            public.problem('"adopt" is for rows under a "rows_prefix": set that too, or remove it')
    elif source.provider not in NATIVE or (source.provider, source.store) == ("split", "dynamodb"):
        public.problem(
            '"rows_prefix" is for SDKs that read rows of LaunchDarkly, or of Split in Redis: '
            "remove it"
        )
    elif not _PREFIX.fullmatch(prefix):
        public.problem(
            f'"rows_prefix" may have up to {PREFIX_BYTES} letters, digits and any of _ . : {{ }} -'
        )
    elif (source.provider, source.store, prefix) == ("launchdarkly", "redis", ""):
        public.problem(
            '"rows_prefix" is empty, which LaunchDarkly\'s SDKs replace with "launchdarkly" in '
            "Redis: set it to that"
        )


def _base_url(secret: _Fields, provider: Provider | None, *, allow_http: bool) -> str:
    """Return the address for the key, stored with the key so that both change together."""
    if provider is None:
        return ""
    default = provider.default_base_url
    url = secret.text("base_url", "" if default else f"the address of your {provider.title} server")
    url = url or default
    if url.startswith("http://") and not allow_http:
        secret.problem(
            '"base_url" is plain http: use https, or set "allow_http": true in the source'
        )
    elif url and not url.startswith(("https://", "http://")):
        secret.problem('"base_url" must start with https://')
    return url.rstrip("/")


@lru_cache(1024)
def parse_webhook(name: str, where: str, text: str) -> WebhookConfig:
    """Build a webhook config from its parameter, or raise :class:`ConfigurationError`."""
    problems: list[str] = []
    fields = _Fields(where, text, WEBHOOK_FIELDS, problems)
    provider = fields.provider(name)
    method = ""
    if provider and provider.methods:
        method = fields.one_of("method", provider.methods)
    elif provider:
        fields.problem(f"{provider.title} sends no webhooks: remove this parameter")
    meaning = "the name of the header that carries the secret" if method == "header" else ""
    webhook = WebhookConfig(
        name=name,
        provider=provider.name if provider else "",
        method=method,
        secrets=fields.secrets(),
        header=fields.text("header", meaning).lower(),
        sources=fields.sources(name, provider.webhook_options if provider else None),
    )
    _check(problems)
    register_secret(*webhook.secrets)
    return webhook


class _Fields:
    """The JSON object of one parameter; its problems are appended to *problems*."""

    def __init__(
        self, where: str, text: str | None, known: tuple[str, ...], problems: list[str]
    ) -> None:
        self._where = where
        self._problems = problems
        values = self._parse(text)
        self._broken = values is None
        self._values: dict[str, Any] = values or {}
        for field in sorted(self._values.keys() - set(known)):
            self.problem(f"{_shown(field, 'a field')} is unknown: use one of {', '.join(known)}")

    def _parse(self, text: str | None) -> dict[str, Any] | None:
        if text is None:
            example = '{"provider": "…", "key": "…", "base_url": "…"}'
            self.problem(f"is missing: create it as a SecureString with {example}")
            return None
        try:
            values = json.loads(text)
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            self.problem("holds a lone surrogate, which is not a character: write the secret again")
        except (ValueError, RecursionError):
            self.problem("is not JSON")
        else:
            if isinstance(values, dict):
                return values
            self.problem("must be a JSON object")
        return None

    def problem(self, text: str) -> None:
        self._problems.append(f"{self._where}: {text}")

    def provider(self, name: str) -> Provider | None:
        """Return the provider, after checking the source's name in the parameter's path."""
        try:
            check_source(name)
        except reader_errors.ConfigurationError as error:
            self.problem(str(error))
        if self._broken:
            return None
        try:
            return providers.get(self.text("provider"))
        except ConfigurationError as error:
            self.problem(f'"provider": {error}')
            return None

    def text(self, field: str, needed: str = "") -> str:
        """Return a string, stripped.

        If it is required, *needed* is its meaning, for the message.
        """
        value = self._values.get(field, "")
        if not isinstance(value, str):
            self.problem(f'"{field}" must be a string')
            return ""
        if needed and not value.strip() and not self._broken:
            self.problem(f'"{field}" is missing: {needed}')
        return value.strip()

    def optional_text(self, field: str) -> str | None:
        """Return a string, or None if it is missing: it may be empty."""
        return self.text(field) if field in self._values else None

    def one_of(self, field: str, known: tuple[str, ...]) -> str:
        """Return one of the known words; by default, the first."""
        value = self.text(field) or known[0]
        if value not in known:
            self.problem(f'"{field}" must be one of {", ".join(known)}')
        return value

    def flag(self, field: str, *, default: bool) -> bool:
        value = self._values.get(field, default)
        if isinstance(value, bool):
            return value
        self.problem(f'"{field}" must be true or false')
        return default

    def texts(self, field: str, known: tuple[str, ...] | None) -> dict[str, str]:
        """Return an object of strings; *known* is None if the provider is unknown.

        A misspelt name must not be ignored: a source without its filter has another flag set.
        """
        return self._texts(f'"{field}"', self._values.get(field, {}), known)

    def _texts(self, label: str, value: Any, known: tuple[str, ...] | None) -> dict[str, str]:  # noqa: ANN401 - JSON
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            self.problem(f"{label} must be an object of strings")
            return {}
        for name in sorted(value.keys() - set(value if known is None else known)):
            names = f"use one of {', '.join(known)}" if known else "none are supported"
            self.problem(f"{label}: {_shown(name, 'a name')} is unknown: {names}")
        return value

    def sources(self, name: str, known: tuple[str, ...] | None) -> dict[str, dict[str, str]]:
        """Return the options of each source that a webhook concerns; by default, of its own."""
        if "sources" not in self._values:
            return {name: self.texts("options", known)}
        if "options" in self._values:
            self.problem('"options" must be given for each source in "sources"')
        value = self._values["sources"]
        if not isinstance(value, dict) or not value:
            self.problem('"sources" must be an object: the options of each source by its name')
            return {}
        for source in value:
            try:
                check_source(source)
            except reader_errors.ConfigurationError:
                self.problem('"sources": a name is not a valid source name')
                return {}
        return {
            source: self._texts(f'the options of "{source}"', options, known)
            for source, options in value.items()
        }

    def secrets(self) -> tuple[Secret, ...]:
        if self._broken:
            return ()
        value = self._values.get("secrets")
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self.problem(
                '"secrets" must be a list: the current secret and, in a rotation, the previous one'
            )
            return ()
        if not value or any(len(text.strip()) < MIN_SECRET for text in value):
            self.problem(
                f'"secrets" must hold at least one, and none shorter than {MIN_SECRET} characters'
            )
        if any(text != text.strip() for text in value):
            self.problem('"secrets" must not begin or end with white space')
        return tuple(Secret(text) for text in value)


def _shown(name: str, otherwise: str) -> str:
    """Return a name for a message, unless it may be a secret in the wrong place."""
    return f'"{name}"' if name.isidentifier() and len(name) < MIN_SECRET else otherwise
