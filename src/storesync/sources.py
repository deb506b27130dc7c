"""Sources and their webhooks, from SSM parameters under one prefix.

``<prefix>/sources/<source>``      JSON, not secret: provider, options, rows, document, store,
                                   allow_http
``<prefix>/credentials/<source>``  SecureString, JSON: provider, key, base_url, store_url; for
                                   SyncFunction only; not needed where a provider takes the
                                   function's own credentials. It says by itself where the key may
                                   go, so nothing in the source's parameter can send it elsewhere
``<prefix>/webhooks/<source>``     SecureString, JSON: provider, method, secrets, header, options;
                                   for WebhookFunction only

Each path is read in one go and kept; an SSM that fails leaves what was read last. A parameter that
is wrong stops its own source only.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from storesync.errors import ConfigurationError, UnknownSourceError
from storesync.fields import Fields
from storesync.model import Secret, Source, WebhookConfig
from storesync.parameters import MAX_AGE_S, Parameters
from storesync.redaction import register_secret

if TYPE_CHECKING:
    import random

    from mypy_boto3_ssm import SSMClient

    from storesync.model import Clock, ProviderEvent
    from storesync.providers.base import Provider

MISSING_AGE_S = 5.0
"""Of sources, until a missing name is looked for again."""
WEBHOOKS_AGE_S = 90.0
"""Of webhooks: WebhookFunction may have hundreds of processes, SyncFunction has few. Nothing else
makes it read them again: a stranger's request must not cost a call."""

SOURCE_FIELDS = (
    "provider",
    "options",
    "rows",
    "document",
    "store",
    "allow_http",
)
CREDENTIAL_FIELDS = ("provider", "key", "base_url", "store_url")
STORES = ("dynamodb", "redis")
WEBHOOK_FIELDS = ("provider", "method", "secrets", "header", "options")


class Sources:
    """All sources, for SyncFunction."""

    def __init__(
        self, client: SSMClient, prefix: str, clock: Clock, rng: random.Random | None = None
    ) -> None:
        self._sources = Parameters(client, f"{prefix}/sources", clock, rng)
        self._credentials = Parameters(client, f"{prefix}/credentials", clock, rng)

    def load(self) -> None:
        """Read all parameters during INIT, and import what their sources need.

        Raises:
            ParametersError: if they cannot be read in time.
        """
        self._sources.load()
        self._credentials.load()
        for name in self.names():
            with suppress(ConfigurationError):  # the source's own syncs report it
                self.get(name)

    def names(self) -> list[str]:
        """Return the names of all sources, sorted.

        Raises:
            ParametersError: if they could never be read.
        """
        return sorted(self._sources.values())

    def get(self, name: str, *, fresh: bool = False) -> Source:
        """Return one source; *fresh* for a person, who may have changed it a moment ago.

        Raises:
            UnknownSourceError: if there is none of that name.
            ConfigurationError: names the parameter, everything wrong with it, and the remedy.
            ParametersError: if the parameters could never be read.
        """
        where = f"{self._sources.path}/{name}"
        text = _newest(self._sources, name, fresh=fresh)
        if text is None:
            message = f"no source {name!r}: {where} does not exist"
            raise UnknownSourceError(message)
        secret_text = _newest(self._credentials, name, fresh=fresh)
        return parse_source(name, where, text, f"{self._credentials.path}/{name}", secret_text)

    def matching_sources(self, provider_event: ProviderEvent) -> list[str]:
        """Return the names of the sources that an event is about, sorted.

        A source whose parameters are wrong is none of them; the schedule says so.

        Raises:
            ParametersError: if the parameters could never be read.
        """
        found = []
        for name in self.names():
            with suppress(ConfigurationError):
                source = self.get(name)
                ours = source.provider == provider_event.provider and all(
                    source.options.get(option) in named
                    for option, named in provider_event.about.items()
                )
                found += [name] if ours else []
        return found


def _newest(parameters: Parameters, name: str, *, fresh: bool) -> str | None:
    """Return one parameter's text; one that is missing may be newer than the last reading."""
    text = parameters.values(0.0 if fresh else MAX_AGE_S).get(name)
    return parameters.values(MISSING_AGE_S).get(name) if text is None else text


class WebhookConfigs:
    """How webhooks are checked, for WebhookFunction."""

    def __init__(
        self, client: SSMClient, prefix: str, clock: Clock, rng: random.Random | None = None
    ) -> None:
        self._webhooks = Parameters(client, f"{prefix}/webhooks", clock, rng)

    def load(self) -> None:
        """Read all parameters during INIT.

        Raises:
            ParametersError: if they cannot be read in time.
        """
        self._webhooks.load()

    def get(self, name: str) -> WebhookConfig:
        """Return the webhook config of one source.

        Raises:
            UnknownSourceError: if there is none of that name.
            ConfigurationError: names the parameter, everything wrong with it, and the remedy.
            ParametersError: if the parameters could never be read.
        """
        where = f"{self._webhooks.path}/{name}"
        text = self._webhooks.values(WEBHOOKS_AGE_S).get(name)
        if text is None:
            message = f"no webhook for source {name!r}: {where} does not exist"
            raise UnknownSourceError(message)
        return parse_webhook(name, where, text)


def parse_source(
    name: str, where: str, text: str, secret_where: str, secret_text: str | None
) -> Source:
    """Build a source from its two parameters.

    Raises:
        ConfigurationError: names the parameters and everything wrong with them; no secret.
    """
    problems: list[str] = []
    public = Fields(where, text, SOURCE_FIELDS, problems)
    public.check_name(name)
    provider = public.provider()
    store = public.one_of("store", STORES)
    keyless = provider is not None and not provider.needs_key
    if secret_text is None and provider and keyless and store == STORES[0]:
        secret_text = json.dumps({"provider": provider.name})
    secret = Fields(secret_where, secret_text, CREDENTIAL_FIELDS, problems)
    _check_meant(secret, provider)
    allow_http = public.flag("allow_http", default=False)
    source = Source(
        name=name,
        provider=provider.name if provider else "",
        base_url=_base_url(secret, provider, allow_http=allow_http),
        credential=Secret(_key(secret, keyless=keyless)),
        options=public.texts("options", provider.options if provider else None),
        rows=public.flag("rows", default=True),
        store=store,
        store_url=Secret(secret.text("store_url")),
        allow_http=allow_http,
        document=public.flag("document", default=False),
    )
    if source.document and provider and provider.name != "unleash":
        public.problem(
            '"document" is for Unleash only, whose SDKs take all flags as one document: '
            f"leave it out for {provider.title}"
        )
    if source.store == "redis":
        secret.needed("store_url", "rediss://user:password@host:port/database")
    _check(problems)
    register_secret(source.credential.reveal())
    register_secret(source.store_url.reveal())
    return source


def _check_meant(secret: Fields, provider: Provider | None) -> None:
    """Refuse credentials that do not name the source's provider.

    The two parameters are written and read one after the other, and a person may stop in between.
    """
    meant = secret.needed("provider", "the one whose key this is, as in the source")
    if provider and meant and meant != provider.name:
        secret.problem(
            f'"provider" is not {provider.name}, as the source says: the key is sent nowhere until '
            "both say the same"
        )


def _key(secret: Fields, *, keyless: bool) -> str:
    if not keyless:
        return secret.needed("key", "the provider's server-side SDK key or token")
    if secret.text("key"):
        secret.problem(
            '"key" is not used: this provider takes the role of SyncFunction, so remove it'
        )
    return ""


def _base_url(secret: Fields, provider: Provider | None, *, allow_http: bool) -> str:
    """Return where the key may be sent to: it stands beside the key, so both change together."""
    if provider is None:
        return ""
    if provider.default_base_url:
        url = secret.text("base_url") or provider.default_base_url
    else:
        url = secret.needed("base_url", f"the address of your {provider.title} server")
    if url.startswith("http://") and not allow_http:
        secret.problem(
            '"base_url" is plain http: use https, or say "allow_http": true in the source'
        )
    elif url and not url.startswith(("https://", "http://")):
        secret.problem('"base_url" must start with https://')
    return url.rstrip("/")


def parse_webhook(name: str, where: str, text: str) -> WebhookConfig:
    """Build a webhook config from its parameter.

    Raises:
        ConfigurationError: names the parameter and everything wrong with it; no secret.
    """
    problems: list[str] = []
    fields = Fields(where, text, WEBHOOK_FIELDS, problems)
    fields.check_name(name)
    provider = fields.provider()
    method = fields.text("method")
    if provider and not provider.methods:
        fields.problem(f"{provider.title} sends no webhooks: remove this parameter")
    elif provider and not method:
        method = provider.methods[0]
    elif provider and method not in provider.methods:
        fields.problem(f'"method" must be one of {", ".join(provider.methods)}')
    header = fields.text("header").lower()
    if method == "header" and not header:
        fields.problem('"header" is missing: the name of the header that carries the secret')
    webhook = WebhookConfig(
        source=name,
        provider=provider.name if provider else "",
        method=method,
        secrets=fields.secrets(),
        header=header,
        options=fields.texts("options", provider.webhook_options if provider else None),
    )
    _check(problems)
    for each in webhook.secrets:
        register_secret(each.reveal())
    return webhook


def _check(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError("; ".join(problems))
