"""A source and a webhook from the JSON of their SSM parameters, checked.

Messages quote no values except provider names, since most parameters hold secrets.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flagstore import errors as reader_errors
from flagstore.keys import check_source
from storesync import providers
from storesync.errors import ConfigurationError, check
from storesync.model import NATIVE, PREFIX_BYTES, Secret, Source, WebhookConfig
from storesync.telemetry import register_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from storesync.providers.base import Provider

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
    check(problems)
    register_secret(source.credential, source.store_url)
    return source


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
    check(problems)
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
