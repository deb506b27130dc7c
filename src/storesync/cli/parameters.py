"""The three SSM parameters of a source: how `source add` composes, reads and writes them.

A key is sent only to the provider and address that it was stored with, even if a command is
interrupted between two writes.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from storesync import providers
from storesync.cli.screen import CommandError, Exit
from storesync.config import parse_source, parse_webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from storesync.cli.app import Operator
    from storesync.model import Source, WebhookConfig

KINDS = {"webhooks": "SecureString", "credentials": "SecureString", "sources": "String"}
"""Kind → SSM type, in the order of writing. A listed source is synced at once, so the source comes
last. The webhook comes first: an interrupted move to a new address must leave a new secret."""
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
            return SourceParameters()
        is_same = self.text("sources", "provider") == provider
        is_same_webhook = is_same and self.text("webhooks", "provider") == provider
        store = _pick(self.values("sources"), "store", "rows")
        store_url = _pick(self.values("credentials"), "store_url")
        return SourceParameters(
            sources=self.sources if is_same else store,
            credentials=self.credentials if self.has_key_of(provider, base_url) else store_url,
            webhooks=self.webhooks if is_same_webhook else "",
        )

    def source(self, prefix: str, name: str) -> Source:
        """Build the source. A ConfigurationError lists everything that is wrong."""
        where, secret_where = f"{prefix}/sources/{name}", f"{prefix}/credentials/{name}"
        return parse_source(name, where, self.sources, secret_where, self.credentials or None)

    def webhook(self, prefix: str, name: str) -> WebhookConfig:
        """Build the webhook's configuration. Raises as ``source`` does."""
        return parse_webhook(name, f"{prefix}/webhooks/{name}", self.webhooks)


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
        remedy = (
            "a key is only used with the provider and address that it was given with; "
            "see `storesync source add --help`"
        )
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
    before = before.keep_for(provider, given.base_url)
    source = {
        **before.values("sources"),
        "provider": provider,
        **_filled(store=given.store, rows=given.rows, allow_http=given.allow_http or None),
        **({} if given.rows_prefix is None else {"rows_prefix": given.rows_prefix}),
        **({} if given.adopt is None else {"adopt": given.adopt}),
        **({} if given.drain is None else {"drain": given.drain}),
        "options": before.options("sources") | dict(given.options),
    }
    credential = before.values("credentials") | _filled(
        key=given.key, base_url=given.base_url, store_url=given.store_url
    )
    if credential:
        credential["provider"] = provider
    webhook = _webhook(given, before, new_secret=is_moving or given.new_secret)
    return SourceParameters(_to_text(source), _to_text(credential), _to_text(webhook))


def _webhook(given: AddOptions, there: SourceParameters, *, new_secret: bool) -> dict[str, Any]:
    methods = providers.get(str(given.provider)).methods
    if not methods:
        return {}
    before = there.values("webhooks")
    stored = before.get("secrets")
    valid = [each for each in stored if isinstance(each, str)] if isinstance(stored, list) else []
    if new_secret or not valid:
        # The previous secret stays valid until the next rotation, so no webhook is refused.
        valid = [secrets.token_urlsafe(), *valid[:1]]
    return {
        **before,
        "provider": given.provider,
        "method": given.method or before.get("method") or methods[0],
        **_filled(header=given.header),
        "options": there.options("webhooks") | dict(given.webhook_options),
        "secrets": valid,
    }


def _filled(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in {None, ""}}


# -- SSM ------------------------------------------------------------------------------------------


def read(operator: Operator, name: str) -> SourceParameters:
    """Read the parameters of a source."""
    kinds = {operator.path(kind, name): kind for kind in KINDS}
    found = operator.aws("ssm").get_parameters(Names=list(kinds), WithDecryption=True)
    return SourceParameters(**{kinds[each["Name"]]: each["Value"] for each in found["Parameters"]})


def write(operator: Operator, name: str, new: SourceParameters) -> None:
    """Write the parameters, and delete those that are empty."""
    ssm = operator.aws("ssm")
    for kind, ssm_type in KINDS.items():
        path, text = operator.path(kind, name), getattr(new, kind)
        if text:
            ssm.put_parameter(Name=path, Value=text, Type=ssm_type, Overwrite=True)
        else:
            remove(operator, name, kind)


def remove(operator: Operator, name: str, *kinds: str) -> None:
    """Delete parameters if they exist."""
    operator.aws("ssm").delete_parameters(Names=[operator.path(kind, name) for kind in kinds])
