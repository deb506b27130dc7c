"""What a person is asked when a source is added, and what becomes of it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from storesync import providers
from storesync.cli.guidance import guide
from storesync.cli.parameters import Texts, to_text
from storesync.cli.problems import Exit, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the command line says; empty or None: not said."""

    provider: str | None = None
    key: str = ""
    base_url: str = ""
    options: Mapping[str, str]
    hook_options: Mapping[str, str]
    method: str = ""
    header: str = ""
    secret: str = ""
    new_secret: bool = False
    store: str | None = None
    store_url: str = ""
    rows: bool | None = None
    allow_http: bool = False
    allow_private: bool = False


def ask(given: Given, before: Texts, *, lively: bool) -> Given:
    """Ask for what is needed and not known; where nobody can answer, say what is missing.

    Raises:
        Problem: names the options to give.
    """
    name = given.provider or before.values("sources").get("provider")
    if not name and lively:
        choice = click.Choice(providers.names())
        name = click.prompt("Provider", type=choice, err=True)
    if not name:
        raise _missing(["--provider"])
    given = replace(given, provider=name)
    before = before.fitting(str(name))
    is_new = "provider" not in before.values("sources")
    known = before.values("credentials")
    missing = []
    provider, about = providers.get(str(name)), guide(str(name))
    if not (given.base_url or known.get("base_url") or provider.default_base_url):
        missing.append(("base_url", "--base-url", f"Address of your {provider.title} server"))
    if provider.needs_key and not (given.key or known.get("key")):
        missing.append(("key", "--key-file", about.key[0].upper() + about.key[1:]))
    store = given.store or before.values("sources").get("store")
    if store == "redis" and not (given.store_url or known.get("store_url")):
        missing.append(("store_url", "--store-url-file", "URL of Redis (rediss://…)"))
    if missing and not lively:
        raise _missing([option for _, option, _ in missing])
    for field, _, text in missing:
        answer = click.prompt(text, hide_input=field != "base_url", err=True)
        given = replace(given, **{field: answer.strip()})  # type: ignore[arg-type] # all are texts
    return _options(given, before) if lively and is_new else given


def _missing(options: list[str]) -> Problem:
    what = f"{', '.join(options)} must be given where nobody can be asked"
    return Problem(Exit.USAGE, what, "`storesync source add --help` has all options")


def _options(given: Given, before: Texts) -> Given:
    """Ask for the options that a provider recommends and that are not known."""
    of_source, of_hook = dict(given.options), dict(given.hook_options)
    known = {**before.values("webhooks").get("options", {}), **of_source, **of_hook}
    for question in guide(str(given.provider)).questions:
        if question.option in known:
            continue
        answer = click.prompt(question.text, default="", show_default=False, err=True).strip()
        if answer and question.of_source:
            of_source[question.option] = answer
        if answer and question.of_hook:
            of_hook[question.option] = answer
    return replace(given, options=of_source, hook_options=of_hook)


def compose(given: Given, before: Texts) -> Texts:
    """Make the parameters' texts: what is given, over what was there."""
    before = before.fitting(str(given.provider))
    source, credential = before.values("sources"), before.values("credentials")
    new_source = source | {"provider": given.provider}
    new_source |= _filled(store=given.store, rows=given.rows)
    new_source |= {"options": {**source.get("options", {}), **given.options}}
    new_source |= _filled(
        allow_http=given.allow_http or None, allow_private=given.allow_private or None
    )
    new_credential = credential | _filled(
        key=given.key, base_url=given.base_url, store_url=given.store_url
    )
    if new_credential:
        new_credential["provider"] = given.provider
    hook = _hook(given, before.values("webhooks"))
    return Texts(to_text(new_source), to_text(new_credential), to_text(hook))


def _hook(given: Given, before: dict[str, Any]) -> dict[str, Any]:
    """Return the webhook's fields; none for a provider that has no webhooks."""
    methods = providers.get(str(given.provider)).methods
    if not methods:
        return {}
    hook = before | {"provider": given.provider}
    hook |= {"method": given.method or before.get("method") or methods[0]}
    hook |= _filled(header=given.header)
    hook |= {"options": {**before.get("options", {}), **given.hook_options}}
    old = [text for text in before.get("secrets", []) if isinstance(text, str)]
    if given.secret or given.new_secret or not old:
        # The one before stays valid until it is taken out: so no webhook is refused meanwhile.
        new = given.secret or secrets.token_urlsafe(SECRET_BYTES)
        old = [new, *(text for text in old[:1] if text != new)]
    return hook | {"secrets": old}


def _filled(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in {None, ""}}
