"""What a person is asked when a source is added, and what becomes of it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from storesync import providers
from storesync.cli.guidance import guide
from storesync.cli.parameters import Texts, to_text
from storesync.cli.problems import Exit, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECRET_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the command line says; empty or None: not said."""

    provider: str | None = None
    key: str = ""
    base_url: str = ""
    options: Mapping[str, str]
    webhook_options: Mapping[str, str]
    method: str = ""
    header: str = ""
    secret: str = ""
    new_secret: bool = False
    store: str | None = None
    store_url: str = ""
    rows: bool | None = None
    allow_http: bool = False


def ask(given: Given, before: Texts, *, lively: bool) -> Given:
    """Ask for what is needed and not known; where nobody can respond, say what is missing.

    Where a new key goes is said together with it: the provider, and the address unless it is the
    provider's usual one. What is stored says it only for the key that is stored.

    Raises:
        Problem: names the options to give.
    """
    given = replace(given, provider=_provider(given, before, lively=lively))
    before = before.fitting(str(given.provider), given.base_url)
    missing = list(_missing(given, before))
    if missing and not lively:
        raise _unanswered([field.option for field in missing])
    for field in missing:
        hidden = field.name != "base_url"
        response = click.prompt(field.text, default=field.stored, hide_input=hidden, err=True)
        given = replace(given, **{field.name: response.strip()})  # type: ignore[arg-type] # all are texts
    is_new = not before.text("sources", "provider")
    return _options(given, before) if lively and is_new else given


def _provider(given: Given, before: Texts, *, lively: bool) -> str:
    stored = before.text("sources", "provider")
    name = given.provider or ("" if given.key else stored)
    if not name and lively:
        default = stored if stored in providers.names() else None
        choice = click.Choice(providers.names())
        name = click.prompt("Provider", type=choice, default=default, err=True)
    if not name:
        raise _unanswered(["--provider"])
    return str(name)


class _Missing(NamedTuple):
    """A field that the operator has to give."""

    name: str
    option: str
    text: str
    stored: str | None = None
    """What is stored, to be confirmed."""


def _missing(given: Given, before: Texts) -> Iterator[_Missing]:
    """Yield what is needed beside what is given and what stays."""
    provider, about = providers.get(str(given.provider)), guide(str(given.provider))
    stored, usual = before.text("credentials", "base_url"), provider.default_base_url
    has_key = bool(given.key or before.text("credentials", "key"))
    is_new_key = provider.needs_key and bool(given.key or not has_key)
    is_usual = usual != "" and stored in {"", usual}
    if not given.base_url and not is_usual and (is_new_key or not stored):
        text = f"Address of your {provider.title} server"
        yield _Missing("base_url", "--base-url", text, stored or None)
    if provider.needs_key and not has_key:
        yield _Missing("key", "--key-file", about.key[0].upper() + about.key[1:])
    store = given.store or before.text("sources", "store")
    if store == "redis" and not (given.store_url or before.text("credentials", "store_url")):
        yield _Missing("store_url", "--store-url-file", "URL of Redis (rediss://…)")


def _unanswered(options: list[str]) -> Problem:
    what = f"{', '.join(options)} must be given where nobody can be asked"
    remedy = (
        "a key is used only with the provider and the address that are given with it: "
        "`storesync source add --help` has all options"
    )
    return Problem(Exit.USAGE, what, remedy)


def _options(given: Given, before: Texts) -> Given:
    """Ask for the options that a provider recommends and that are not known."""
    of_source, of_webhook = dict(given.options), dict(given.webhook_options)
    known = {**before.options("webhooks"), **of_source, **of_webhook}
    for question in guide(str(given.provider)).questions:
        if question.option in known:
            continue
        response = click.prompt(question.text, default="", show_default=False, err=True).strip()
        if response and question.of_source:
            of_source[question.option] = response
        if response and question.of_webhook:
            of_webhook[question.option] = response
    return replace(given, options=of_source, webhook_options=of_webhook)


def compose(given: Given, before: Texts) -> Texts:
    """Make the parameters' texts: what is given, over what was there."""
    provider = str(given.provider)
    moves = not before.has_key_of(provider, given.base_url)
    before = before.fitting(provider, given.base_url)
    source, credential = before.values("sources"), before.values("credentials")
    new_source = source | {"provider": given.provider}
    new_source |= _filled(store=given.store, rows=given.rows)
    new_source |= {"options": {**before.options("sources"), **given.options}}
    new_source |= _filled(allow_http=given.allow_http or None)
    new_credential = credential | _filled(
        key=given.key, base_url=given.base_url, store_url=given.store_url
    )
    if new_credential:
        new_credential["provider"] = given.provider
    webhook = _webhook(given, before, renew=moves or given.new_secret)
    return Texts(to_text(new_source), to_text(new_credential), to_text(webhook))


def _webhook(given: Given, there: Texts, *, renew: bool) -> dict[str, Any]:
    """Return the webhook's fields; none for a provider that has no webhooks."""
    methods = providers.get(str(given.provider)).methods
    if not methods:
        return {}
    before = there.values("webhooks")
    webhook = before | {"provider": given.provider}
    webhook |= {"method": given.method or before.get("method") or methods[0]}
    webhook |= _filled(header=given.header)
    webhook |= {"options": {**there.options("webhooks"), **given.webhook_options}}
    old = before.get("secrets")
    old = [text for text in old if isinstance(text, str)] if isinstance(old, list) else []
    if given.secret or renew or not old:
        # The one before stays valid until it is taken out: so no webhook is refused meanwhile.
        new = given.secret or secrets.token_urlsafe(SECRET_BYTES)
        old = [new, *(text for text in old[:1] if text != new)]
    return webhook | {"secrets": old}


def _filled(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in {None, ""}}
