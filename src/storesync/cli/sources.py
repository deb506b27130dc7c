"""Commands for sources: add, list, remove."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from storesync import providers
from storesync.cli import guidance, parameters
from storesync.cli.adding import Given, ask, compose
from storesync.cli.app import command, source
from storesync.cli.context import check_name
from storesync.cli.options import pairs_option, secret_option
from storesync.cli.preview import fetch
from storesync.cli.problems import Exit, Problem, judge
from storesync.cli.registration import Registrar, api_url
from storesync.cli.screen import table
from storesync.errors import ConfigurationError, ProviderError
from storesync.maintenance import mark_removed, restore_source
from storesync.parameters import Parameters
from storesync.sources import STORES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storesync.cli.context import Operator
    from storesync.model import Source, WebhookConfig


@command(source, "add")
@click.argument("name", metavar="SOURCE")
@click.option("--provider", type=click.Choice(providers.names()), help="Whose flags they are.")
@secret_option("--key-file", "key", "File with the provider's SDK key or token; - for stdin.")
@click.option(
    "--base-url", default="", metavar="URL", help="The provider's address, if not its usual one."
)
@pairs_option(
    "--option", "options", "Option of the source, such as filter=KEY; docs/configure.md has them."
)
@pairs_option(
    "--webhook-option", "webhook_options", "Option of its webhook, such as environment=NAME."
)
@click.option(
    "--method", default="", help="How its webhook is checked, where the provider has several ways."
)
@click.option("--header", default="", help="Header that has the secret, with --method header.")
@secret_option("--secret-file", "secret", "File with the webhook's secret, instead of one made up.")
@click.option(
    "--new-secret", is_flag=True, help="Rotate the webhook's secret; the old one stays valid."
)
@click.option(
    "--store", type=click.Choice(STORES), help="Where the flags go: dynamodb if not said."
)
@secret_option("--store-url-file", "store_url", "File with the URL of Redis, for --store redis.")
@click.option(
    "--rows/--no-rows", default=None, help="Write a row per flag as well: yes if not said."
)
@click.option("--allow-http", is_flag=True, help="Permit an address without TLS.")
@click.option(
    "--replace", is_flag=True, help="Change a source that is there; the rest of it stays."
)
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Try the key first, from this machine.",
)
@click.option("--register", is_flag=True, help="Make the webhook through the provider's API.")
@secret_option("--admin-token-file", "token", "File with an admin token, for --register.")
@click.option(
    "--api-url", default="", metavar="URL", help="Address of that API, without a new key."
)
def add(
    operator: Operator,
    *,
    name: str,
    replace: bool,
    check: bool,
    register: bool,
    token: str,
    **given: Any,  # noqa: ANN401 - the fields of Given
) -> None:
    """Configure a source, which is one provider environment.

    Asks for what it needs and is not given, tries the key, writes the parameters of
    docs/configure.md, and says what to click at the provider. With --replace, what is not given
    stays.
    """
    check_name(name)
    before = parameters.read(operator, name)
    if before.sources and not replace:
        what = f"there is a source {name!r} already"
        raise Problem(Exit.USAGE, what, "change it with --replace, or choose another name")
    api = given.pop("api_url")
    asked = ask(Given(**given), before, lively=sys.stdin.isatty() and not operator.screen.as_json)
    texts = compose(asked, before)
    with _nothing_written():
        made = texts.source(operator.deployment.prefix, name)
        webhook = texts.webhook(operator.deployment.prefix, name) if texts.webhooks else None
        base = (
            operator.deployment.needs("webhook_base_url", "the URL of webhooks") if webhook else ""
        )
        if register:
            api = api or (api_url(made.provider, made.base_url) if asked.key else "")
            _check_register(made, webhook, token, api)
        store = operator.open(made)
        counts = _try(operator, made) if check else None
    came_back = restore_source(name, store)
    parameters.write(operator, name, texts)
    done, failed = "", None
    if register and webhook:
        operator.screen.progress("making the webhook")
        done, failed = _register(Registrar(api, token), base, webhook)
    data = {
        "source": name,
        "provider": made.provider,
        "counts": counts,
        "came_back": came_back,
        "requested": operator.request(name),
        "webhook_url": guidance.webhook_url(base, webhook) if webhook else None,
        "webhook": done or None,
        "clicks": guidance.clicks(base, webhook) if webhook and not done else [],
        "notes": list(guidance.guide(made.provider).notes),
    }
    operator.screen.result(data, _add_lines(data))
    if failed:
        raise failed


@contextmanager
def _nothing_written() -> Iterator[None]:
    """Say of parameters that are wrong, or do not work, that they are not there yet."""
    try:
        yield
    except (ConfigurationError, ProviderError) as error:
        problem = judge(error)
        if problem is None or problem.code not in {Exit.CONFIGURATION, Exit.PROVIDER}:
            raise  # of AWS: appconfig is asked with the person's own credentials
        remedy = "nothing was written: correct the options (`storesync source add --help`)"
        if problem.code is Exit.PROVIDER:
            remedy += ", or leave the provider unasked with --no-check"
        raise Problem(problem.code, problem.what, remedy) from None


def _try(operator: Operator, made: Source) -> dict[str, int]:
    flag_set = fetch(operator, made)
    return {section: len(flag_set.keys(section)) for section in flag_set.sections}


def _register(
    registrar: Registrar, base: str, webhook: WebhookConfig
) -> tuple[str, Problem | None]:
    """Make the webhook; say which way, or what went wrong.

    That is said last: the source is configured by then, and the clicks are left.
    """
    try:
        return registrar.register(base, webhook), None
    except Problem as problem:
        return "", problem


def _check_register(made: Source, webhook: WebhookConfig | None, token: str, api: str) -> None:
    if webhook is None or not guidance.guide(made.provider).registers:
        what = f"{made.provider} has no API for webhooks"
        raise Problem(Exit.USAGE, what, "leave out --register, and follow the clicks")
    if not token:
        what = "--register needs a token that may manage webhooks"
        raise Problem(Exit.USAGE, what, "give it with --admin-token-file; it is not kept")
    if not api:
        what = "an admin token is sent only to an address that is given with it"
        known = api_url(made.provider, made.base_url)
        raise Problem(Exit.USAGE, what, f"add --api-url {known or 'URL'}")


def _add_lines(data: dict[str, Any]) -> Iterator[str]:
    name = data["source"]
    if data["counts"]:
        told = ", ".join(f"{number} {section}" for section, number in data["counts"].items())
        keyed = providers.get(data["provider"]).needs_key
        yield f"{'the key works' if keyed else 'it can be read from here'}: {told}"
    yield f"source {name} is configured" + (
        ", and a sync is requested: `storesync status` shows when it is published"
        if data["requested"]
        else f"; publish it with `storesync sync {name}`"
    )
    if data["webhook"]:
        yield f"the webhook was {data['webhook']} at the provider: nothing to click"
    elif data["clicks"]:
        yield "now the webhook, once:"
        yield from (f"  {number}. {text}" for number, text in enumerate(data["clicks"], 1))
    yield from (f"note: {text}" for text in data["notes"])


@command(source, "list")
def list_(operator: Operator) -> None:
    """List the sources. Shows and needs no secret."""
    path = f"{operator.deployment.prefix}/sources"
    ssm = operator.aws("ssm", attempts=1)  # Parameters tries again
    texts = Parameters(ssm, path, operator.clock).values()
    base = operator.deployment.webhook_base_url
    found = []
    for name, text in sorted(texts.items()):
        values = parameters.Texts(sources=text).values("sources")
        found.append(
            {
                "source": name,
                "provider": values.get("provider", "?"),
                "store": values.get("store", "dynamodb"),
                "rows": values.get("rows", True),
                "options": values.get("options", {}),
                "webhooks": f"{base}/{name}" if base else None,
            }
        )
    operator.screen.result({"sources": found}, _list_lines(found))


def _list_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    if not found:
        yield "no sources yet: `storesync source add NAME` makes one"
        return
    headers = ("SOURCE", "PROVIDER", "STORE", "ROWS", "OPTIONS", "WEBHOOKS")
    rows = [
        (
            each["source"],
            each["provider"],
            each["store"],
            {"True": "yes", "False": "no"}.get(str(each["rows"]), "?"),
            _options(each["options"]),
            each["webhooks"] or "",
        )
        for each in found
    ]
    yield from table(headers, rows)


def _options(options: object) -> str:
    """Return options as people write them; a question mark for what cannot be any."""
    if not isinstance(options, dict):
        return "?"
    return ", ".join(f"{name}={value}" for name, value in options.items())


@command(source, "remove")
@click.argument("name", metavar="SOURCE")
@click.option("--purge", is_flag=True, help="Delete its flags and its history as well.")
@click.option(
    "--forget", is_flag=True, help="Delete the parameters only, as where the store is lost."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def remove(operator: Operator, *, name: str, purge: bool, forget: bool, yes: bool) -> None:
    """Stop syncing a source. Its readers keep what they have.

    What was published stays readable, unless it is purged; in any case nothing can be published
    for this name until it is added again.
    """
    check_name(name)
    there = parameters.read(operator, name)
    if there == parameters.Texts():
        operator.source(name)  # raises, and names the sources that there are
    # Parameters without a source are what an interrupted command left.
    made = None if forget or not there.sources else _configured(operator, name)
    purge = purge and made is not None
    what = "its flags and history are deleted" if purge else "its flags stay readable"
    operator.screen.confirm(f"remove source {name}? {what}", yes=yes)
    parameters.remove(operator, name, "webhooks")
    token = None
    if made is not None:
        operator.screen.progress("leaving a tombstone")
        token = mark_removed(name, operator.open(made), operator.clock, purge=purge)
    for kind in ("sources", "credentials"):
        parameters.remove(operator, name, kind)
    data = {"source": name, "tombstone": token, "purged": purge}
    lines = [f"source {name} is removed; {what}" if made else f"source {name} is forgotten"]
    if made is None or providers.get(made.provider).needs_key:
        lines.append(
            "now delete its webhook at the provider, and revoke its key if nothing else uses it"
        )
    operator.screen.result(data, lines)


def _configured(operator: Operator, name: str) -> Source:
    try:
        return operator.source(name)
    except ConfigurationError as error:
        remedy = "--forget removes the parameters alone, and leaves the store as it is"
        raise Problem(Exit.CONFIGURATION, str(error), remedy) from None
