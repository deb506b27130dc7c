"""Configuration: the functions' environment, and the sources in SSM parameters under one prefix.

``<prefix>/sources/<source>``      JSON, not secret: provider, options, rows, document, store,
                                   allow_http, rows_prefix, adopt, drain, webhook
``<prefix>/credentials/<source>``  SecureString, JSON: provider, key, base_url, store_url; not
                                   for WebhookFunction; not needed if a provider accepts the
                                   function's own credentials. It states where the key may be sent,
                                   so nothing in the source's parameter can send it elsewhere
``<prefix>/webhooks/<webhook>``    SecureString, JSON: provider, method, secrets, header, and either
                                   options, for the source of that name, or sources, each with its
                                   options; for WebhookFunction only

All problems of a setting or parameter are reported together. A wrong parameter affects only its own
source.
"""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from math import inf
from threading import Lock
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from storesync.config_json import parse_source, parse_webhook
from storesync.errors import (
    ConfigurationError,
    OutOfTimeError,
    ParametersError,
    UnknownSourceError,
    check,
)
from storesync.retry import Deadline
from storesync.telemetry import log, register_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_ssm.type_defs import (
        GetParametersByPathRequestTypeDef,
        GetParametersByPathResultTypeDef,
    )

    from storesync.model import Clock, ProviderEvent, Source, WebhookConfig

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
        check(env.problems)
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
        check(env.problems)
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
        check(env.problems)
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
    """All sources, for SyncFunction, UsageFunction and the command line.

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


def _place(source: Source, rows_at: str) -> tuple[str, str]:
    """Return what no other source may share: where the rows are."""
    own = source.name if source.store == "redis" else f"launchdarkly {source.name}"
    server = source.store_url.reveal().partition("://")[2].rpartition("@")[2]  # of any user
    return server, rows_at or own
