"""The SSM parameters of a source: how `source add` composes, reads and writes them.

A key is sent only to the provider and address that it was stored with, even if a command is
interrupted between two writes. Several sources may share a webhook's parameter, which keeps what
belongs to the others.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from storesync import providers
from storesync.cli.screen import CommandError, Exit
from storesync.config import Parameters
from storesync.config_json import parse_source, parse_webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from storesync.cli.app import Operator
    from storesync.model import Source, WebhookConfig

KINDS = ("webhooks", "credentials", "sources")
MAX_BYTES = 4096
"""Of a parameter in SSM's standard tier."""
_VERIFIED_BY = ("provider", "method", "header")
PROMPTS = {
    "--key-file": ("key", "the provider's server-side SDK key or token"),
    "--store-url-file": ("store_url", "URL of Redis (rediss://…)"),
}
"""Option → its field in ``AddOptions``, and the question for it."""


@dataclass(frozen=True, slots=True)
class SourceParameters:
    """The parameters of one source as JSON strings; a missing one is empty."""

    sources: str = ""
    credentials: str = ""
    webhooks: str = ""
    name: str = ""
    """The source's name."""
    webhook_name: str = ""
    """The name of its webhook, or of the one that it is to have."""

    def values(self, kind: str) -> dict[str, Any]:
        """Return one parameter's object, or an empty one if it is invalid."""
        try:
            found = json.loads(getattr(self, kind) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def text(self, kind: str, field: str) -> str:
        """Return one field, or "" if it is missing."""
        return str(self.values(kind).get(field, ""))

    def options(self, kind: str) -> dict[str, Any]:
        """Return the options; empty if they are not an object."""
        value = self.values(kind).get("options")
        return value if isinstance(value, dict) else {}

    @property
    def own_webhook(self) -> str:
        """The name of the webhook that the stored source is attached to."""
        return self.text("sources", "webhook") or self.name

    @property
    def webhook_sources(self) -> dict[str, Any]:
        """The sources in the webhook's parameter, each with its options; empty if invalid."""
        values = self.values("webhooks")
        if "sources" not in values:
            return {self.webhook_name: self.options("webhooks")} if values else {}
        return values["sources"] if isinstance(values["sources"], dict) else {}

    @property
    def others(self) -> dict[str, Any]:
        """The other sources of the webhook, each with its options."""
        return {name: each for name, each in self.webhook_sources.items() if name != self.name}

    @property
    def has_webhook(self) -> bool:
        """Whether the webhook's parameter is this source's, at least in part."""
        return bool(self.webhooks) and (self.name in self.webhook_sources or not self.others)

    def has_key_of(self, provider: str, base_url: str = "") -> bool:
        """Return whether the stored key belongs to this provider and, if given, this address.

        Credentials without a source, or of another provider than the source's, are left over from
        an interrupted command and belong to neither.
        """
        if {self.text(kind, "provider") for kind in ("sources", "credentials")} != {provider}:
            return False
        usual = providers.get(provider).default_base_url
        address = (self.text("credentials", "base_url") or usual).rstrip("/")
        return address != "" and base_url.rstrip("/") in {"", address}

    def keep_for(self, provider: str, base_url: str = "") -> SourceParameters:
        """Return the parameters that stay valid for this provider and, if given, this address.

        The store is always kept, since readers keep reading there.
        """
        if not self.sources:
            return replace(self, credentials="", webhooks=self.webhooks if self.others else "")
        is_same = self.text("sources", "provider") == provider
        is_same_webhook = is_same and self.text("webhooks", "provider") == provider
        store = _pick(self.values("sources"), "store", "rows")
        store_url = _pick(self.values("credentials"), "store_url")
        return replace(
            self,
            sources=self.sources if is_same else store,
            credentials=self.credentials if self.has_key_of(provider, base_url) else store_url,
            webhooks=self.webhooks if is_same_webhook or self.others else "",
        )

    def source(self, prefix: str) -> Source:
        """Build the source. A ConfigurationError lists everything that is wrong."""
        where, secret_where = f"{prefix}/sources/{self.name}", f"{prefix}/credentials/{self.name}"
        return parse_source(self.name, where, self.sources, secret_where, self.credentials or None)

    def webhook(self, prefix: str) -> WebhookConfig:
        """Build the webhook's configuration. Raises as ``source`` does."""
        where = f"{prefix}/webhooks/{self.webhook_name}"
        return parse_webhook(self.webhook_name, where, self.webhooks)


def _to_text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) if values else ""


def _pick(values: Mapping[str, Any], *fields: str) -> str:
    return _to_text({field: values[field] for field in fields if field in values})


# -- composing ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AddOptions:
    """The options of `source add`. None or an empty string is an option that was left out."""

    provider: str | None = None
    key: str | None = None
    base_url: str = ""
    options: Iterable[tuple[str, str]] = ()
    webhook_options: Iterable[tuple[str, str]] = ()
    method: str | None = None
    header: str | None = None
    new_secret: bool = False
    store: str | None = None
    store_url: str | None = None
    rows: bool | None = None
    rows_prefix: str | None = None
    adopt: bool | None = None
    drain: bool | None = None
    allow_http: bool = False


def complete(
    given: AddOptions, before: SourceParameters, ask: Callable[[str], str] | None
) -> AddOptions:
    """Fill in the stored provider, and ask for missing secrets.

    A new key must come with its provider, and with its address unless that is the provider's
    default; stored values apply to the stored key only. Without a terminal, *ask* is None.

    Raises:
        CommandError: names the options that are missing.
    """
    provider = given.provider or ("" if given.key else before.text("sources", "provider"))
    given = replace(given, provider=provider)
    before = before.keep_for(provider, given.base_url)
    missing = list(_missing(given, before)) if provider else ["--provider"]
    unasked = [option for option in missing if not (ask and option in PROMPTS)]
    if unasked:
        remedy = "see `storesync source add --help`"
        if before.credentials:
            remedy += "; a key is only used with the provider and address that it was given with"
        raise CommandError(Exit.USAGE, f"missing options: {', '.join(unasked)}", remedy)
    if ask:
        for field, prompt in (PROMPTS[option] for option in missing):
            given = replace(given, **{field: ask(prompt).strip()})  # type: ignore[arg-type] # text
    return given


def _missing(given: AddOptions, before: SourceParameters) -> Iterator[str]:
    provider = providers.get(str(given.provider))
    stored, usual = before.text("credentials", "base_url"), provider.default_base_url
    has_key = bool(given.key or before.text("credentials", "key"))
    is_new_key = provider.needs_key and bool(given.key or not has_key)
    is_usual = usual != "" and stored in {"", usual}
    if not given.base_url and not is_usual and (is_new_key or not stored):
        yield "--base-url"
    if provider.needs_key and not has_key:
        yield "--key-file"
    store = given.store or before.text("sources", "store")
    if store == "redis" and not (given.store_url or before.text("credentials", "store_url")):
        yield "--store-url-file"


def compose(given: AddOptions, before: SourceParameters) -> SourceParameters:
    """Return the new parameters: the stored values that stay valid, updated by the options."""
    provider = str(given.provider)
    is_moving = not before.has_key_of(provider, given.base_url)
    is_known = before.sources != "" and before.webhook_name == before.own_webhook
    before = before.keep_for(provider, given.base_url)
    stored = before.values("sources")
    stored.pop("webhook", None)
    shared = before.webhook_name != before.name and providers.get(provider).methods
    source = {
        **stored,
        "provider": provider,
        **({"webhook": before.webhook_name} if shared else {}),
        **_filled(store=given.store, rows=given.rows, allow_http=given.allow_http or None),
        **_filled(adopt=given.adopt, drain=given.drain),
        **({} if given.rows_prefix is None else {"rows_prefix": given.rows_prefix}),
        "options": before.options("sources") | dict(given.options),
    }
    credential = before.values("credentials") | _filled(
        key=given.key, base_url=given.base_url, store_url=given.store_url
    )
    if credential:
        credential["provider"] = provider
    webhook = _to_text(_webhook(given, before, is_moving=is_moving, is_known=is_known))
    if len(webhook.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        message = f"webhook {before.webhook_name!r} has too many sources: SSM stores 4,096 bytes"
        raise CommandError(Exit.CONFIGURATION, message, "name another with --webhook")
    return replace(
        before, sources=_to_text(source), credentials=_to_text(credential), webhooks=webhook
    )


def _webhook(
    given: AddOptions, there: SourceParameters, *, is_moving: bool, is_known: bool
) -> dict[str, Any]:
    """Return the fields of the webhook.

    Its secret is for one address. A source that moves to another gets a new one, or leaves the
    webhook to the others.
    """
    methods = providers.get(str(given.provider)).methods
    if not methods:
        return {}
    before = there.values("webhooks")
    if there.others and (before.get("provider") != given.provider or (is_moving and is_known)):
        others = ", ".join(there.others)
        message = f"webhook {there.webhook_name!r} is for {others}, at another provider or address"
        raise CommandError(Exit.USAGE, message, "name another with --webhook")
    options = there.webhook_sources.get(there.name)
    options = (options if isinstance(options, dict) else {}) | dict(given.webhook_options)
    is_own = there.webhook_name == there.name and not there.others
    stored = before.get("secrets")
    valid = [each for each in stored if isinstance(each, str)] if isinstance(stored, list) else []
    if given.new_secret or (is_moving and not there.others) or not valid:
        # The previous secret stays valid until the next rotation, so no webhook is refused.
        valid = [secrets.token_urlsafe(), *valid[:1]]
    made = {
        **_with_sources(before, {**there.webhook_sources, there.name: options}),
        "provider": given.provider,
        "method": given.method or before.get("method") or methods[0],
        **_filled(header=given.header),
        "secrets": valid,
    }
    if is_own:
        made["options"] = made.pop("sources")[there.name]
    return made


def _with_sources(webhook: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, Any]:
    """Return a webhook's fields with other sources."""
    return {field: webhook[field] for field in webhook if field != "options"} | {"sources": sources}


def _filled(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in {None, ""}}


# -- SSM ------------------------------------------------------------------------------------------


def listed(operator: Operator, kind: str) -> dict[str, str]:
    """Return all parameters of a kind by name, sorted."""
    path = f"{operator.deployment.prefix}/{kind}"
    return dict(sorted(Parameters(operator.aws("ssm"), path, operator.clock).values().items()))


def read(operator: Operator, name: str) -> SourceParameters:
    """Read the parameters of a source, and of the webhook that it names."""
    there = SourceParameters(**_texts(operator, *((kind, name) for kind in KINDS)), name=name)
    there = replace(there, webhook_name=there.own_webhook)
    if there.webhook_name == name:
        return there
    found = _texts(operator, ("webhooks", there.webhook_name))
    return replace(there, webhooks=found.get("webhooks", ""))


def attach(operator: Operator, there: SourceParameters, webhook: str) -> SourceParameters:
    """Return the parameters with another webhook, which gets the source's options.

    Raises:
        ConfigurationError: the webhook's parameter is invalid.
    """
    if webhook == there.webhook_name:
        return there
    text = _texts(operator, ("webhooks", webhook)).get("webhooks", "")
    found = replace(there, webhook_name=webhook, webhooks=text)
    sources: dict[str, Any] = {}
    if text:
        found.webhook(operator.deployment.prefix)
        sources |= found.webhook_sources
    else:  # a new one, which gets a secret of its own
        found = replace(found, webhooks=_pick(there.values("webhooks"), *_VERIFIED_BY))
    is_same = found.text("webhooks", "provider") == there.text("webhooks", "provider")
    options = there.webhook_sources.get(there.name, {}) if is_same else {}
    sources.setdefault(there.name, options)  # unless an interrupted command has added it
    return replace(found, webhooks=_to_text(_with_sources(found.values("webhooks"), sources)))


def detach(operator: Operator, there: SourceParameters) -> None:
    """Remove a source from its webhook, and delete the webhook if it has no other source."""
    if there.others:
        text = _to_text(_with_sources(there.values("webhooks"), there.others))
        put(operator, "webhooks", there.webhook_name, text)
    elif there.webhook_name == there.name or there.name in there.webhook_sources:
        remove(operator, there.webhook_name, "webhooks")


def write(operator: Operator, before: SourceParameters, new: SourceParameters) -> None:
    """Write the parameters, and delete those that are empty; leave the webhook of *before*.

    A listed source is synced at once, so the source comes last. The webhook comes first: an
    interrupted move to a new address must leave a new secret.
    """
    if new.webhooks:
        put(operator, "webhooks", new.webhook_name, new.webhooks)
    else:
        detach(operator, before)
    if new.credentials:
        put(operator, "credentials", new.name, new.credentials)
    else:
        remove(operator, new.name, "credentials")
    if new.webhooks and new.webhook_name != before.webhook_name:
        detach(operator, before)  # if interrupted, the command can still be repeated
    put(operator, "sources", new.name, new.sources)


def remove(operator: Operator, name: str, *kinds: str) -> None:
    """Delete parameters if they exist."""
    operator.aws("ssm").delete_parameters(Names=[operator.path(kind, name) for kind in kinds])


def put(operator: Operator, kind: str, name: str, text: str) -> None:
    """Write a parameter. All but those of sources hold secrets."""
    operator.aws("ssm").put_parameter(
        Name=operator.path(kind, name),
        Value=text,
        Type="String" if kind == "sources" else "SecureString",
        Overwrite=True,
    )


def _texts(operator: Operator, *parameters: tuple[str, str]) -> dict[str, str]:
    """Read parameters, each given as kind and name; return kind → text of those that exist."""
    kinds = {operator.path(kind, name): kind for kind, name in parameters}
    found = operator.aws("ssm").get_parameters(Names=list(kinds), WithDecryption=True)
    return {kinds[each["Name"]]: each["Value"] for each in found["Parameters"]}
