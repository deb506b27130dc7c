"""Commands for sources: add, list, remove."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from storesync import providers
from storesync.cli import guidance, parameters
from storesync.cli.adding import Given, ask, compose
from storesync.cli.app import command, source
from storesync.cli.operating import check_name
from storesync.cli.preview import fetch
from storesync.cli.problems import Exit, Problem
from storesync.cli.registration import Registrar, api_url
from storesync.cli.screen import table
from storesync.errors import ConfigurationError
from storesync.rollback import bury, revive
from storesync.sources import STORES, Parameters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from storesync.cli.operating import Operator
    from storesync.model import Hook, Source


def _pairs(
    _context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if any(not (name and equals) for name, equals, _ in pairs):
        message = f"write it as {option.opts[0]} name=value"
        raise click.BadParameter(message)
    return {name: value for name, _, value in pairs}


def secret_text(_context: click.Context, _option: click.Parameter, file: IO[str] | None) -> str:
    """Read a secret from a file: a command line can be seen by everybody on the machine.

    Raises:
        click.BadParameter: the file holds none, as where two options name the same stdin.
    """
    if file is None:
        return ""
    try:
        with file:
            text = file.read().strip()
    except UnicodeDecodeError:
        text = ""
    if not text:
        message = f"{file.name} is empty, or holds no text"
        raise click.BadParameter(message)
    return text


_FILE = click.File("r")


@command(source, "add")
@click.argument("name", metavar="SOURCE")
@click.option("--provider", type=click.Choice(providers.names()), help="Whose flags they are.")
@click.option("--key-file", "key", type=_FILE, callback=secret_text, help="The key; - for stdin.")
@click.option("--base-url", default="", help="Where the key may be sent to.")
@click.option("--option", "options", multiple=True, callback=_pairs, help="Of the source.")
@click.option(
    "--hook-option", "hook_options", multiple=True, callback=_pairs, help="Of its webhook."
)
@click.option("--method", default="", help="How the webhook is checked.")
@click.option("--header", default="", help="With --method header: which one has the secret.")
@click.option(
    "--secret-file", "secret", type=_FILE, callback=secret_text, help="Instead of a new one."
)
@click.option("--new-secret", is_flag=True, help="With --replace: rotate; the old one stays valid.")
@click.option("--store", type=click.Choice(STORES), help="Where the flags go.")
@click.option(
    "--store-url-file", "store_url", type=_FILE, callback=secret_text, help="URL of Redis."
)
@click.option("--rows/--no-rows", default=None, help="One row per flag as well.")
@click.option("--allow-http", is_flag=True, help="Permit a base URL without TLS.")
@click.option("--allow-private", is_flag=True, help="Permit a private address.")
@click.option("--replace", is_flag=True, help="Change a source that is there already.")
@click.option("--check/--no-check", default=True, help="Try the key first, from this machine.")
@click.option("--register", is_flag=True, help="Make the webhook through the provider's API.")
@click.option(
    "--admin-token-file", "token", type=_FILE, callback=secret_text, help="For --register."
)
@click.option("--api-url", default="", help="Of the provider's API, for --register.")
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
    """Configure a source: asks for what is needed, tries the key, and says what to click.

    Writes the parameters of docs/sources.md. With --replace, what is not given stays.
    """
    check_name(name)
    before = parameters.read(operator, name)
    if before.sources and not replace:
        what = f"there is a source {name!r} already"
        raise Problem(Exit.USAGE, what, "change it with --replace, or choose another name")
    api = given.pop("api_url")
    asked = ask(Given(**given), before, lively=sys.stdin.isatty() and not operator.screen.as_json)
    texts = compose(asked, before)
    made = texts.source(operator.deployment.prefix, name)
    hook = texts.hook(operator.deployment.prefix, name) if texts.webhooks else None
    base = operator.deployment.needs("webhook_base_url", "the URL of webhooks") if hook else ""
    counts = _try(operator, made) if check else None
    api = api or api_url(made.provider, made.base_url)
    if register:
        _check_register(made, hook, token, api)
    came_back = revive(name, operator.open(made))
    parameters.write(operator, name, texts)
    done, failed = "", None
    if register and hook:
        operator.screen.progress("making the webhook")
        try:
            done = Registrar(api, token).register(base, hook)
        except Problem as problem:
            failed = problem  # said last: the source is configured, and the clicks are left
    data = {
        "source": name,
        "provider": made.provider,
        "counts": counts,
        "came_back": came_back,
        "rang": operator.ring(name),
        "webhook_url": guidance.webhook_url(base, hook) if hook else None,
        "webhook": done or None,
        "clicks": guidance.clicks(base, hook) if hook and not done else [],
        "notes": list(guidance.guide(made.provider).notes),
    }
    operator.screen.result(data, _add_lines(data))
    if failed:
        raise failed


def _try(operator: Operator, made: Source) -> dict[str, int]:
    flag_set = fetch(operator, made)
    return {section: len(flag_set.keys(section)) for section in flag_set.sections}


def _check_register(made: Source, hook: Hook | None, token: str, api: str) -> None:
    if hook is None or not guidance.guide(made.provider).registers:
        what = f"{made.provider} has no API for webhooks"
        raise Problem(Exit.USAGE, what, "leave out --register, and follow the clicks")
    if not token:
        what = "--register needs a token that may manage webhooks"
        raise Problem(Exit.USAGE, what, "give it with --admin-token-file; it is not kept")
    if not api:
        what = "where the provider's API is cannot be told from its base URL"
        raise Problem(Exit.USAGE, what, "name it with --api-url")


def _add_lines(data: dict[str, Any]) -> Iterator[str]:
    name = data["source"]
    if data["counts"]:
        told = ", ".join(f"{number} {section}" for section, number in data["counts"].items())
        keyed = providers.get(data["provider"]).needs_key
        yield f"{'the key works' if keyed else 'it can be read from here'}: {told}"
    yield f"source {name} is configured" + (
        ", and was rung: `storesync status` shows when it is published"
        if data["rang"]
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
    texts = Parameters(operator.aws("ssm"), path, operator.clock).values()
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
            "yes" if each["rows"] else "no",
            ", ".join(f"{name}={value}" for name, value in each["options"].items()),
            each["webhooks"] or "",
        )
        for each in found
    ]
    yield from table(headers, rows)


@command(source, "remove")
@click.argument("name", metavar="SOURCE")
@click.option("--purge", is_flag=True, help="Delete its flags and its history as well.")
@click.option("--forget", is_flag=True, help="Leave the store alone, as where it is lost.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def remove(operator: Operator, *, name: str, purge: bool, forget: bool, yes: bool) -> None:
    """Stop syncing a source. Its readers keep what they have.

    What was published stays readable, unless it is purged; in any case nothing can be published
    for this name until it is added again.
    """
    made = None if forget else _configured(operator, name)
    what = "its flags and history are deleted" if purge else "its flags stay readable"
    operator.screen.confirm(f"remove source {name}? {what}", yes=yes)
    parameters.remove(operator, name, "webhooks")
    ticket = None
    if made is not None:
        operator.screen.progress("leaving a tombstone")
        ticket = bury(name, operator.open(made), operator.clock, purge=purge)
    gone = [parameters.remove(operator, name, kind) for kind in ("sources", "credentials")]
    if forget and not any(gone):
        operator.source(name)
    data = {"source": name, "tombstone": ticket, "purged": purge and not forget}
    lines = [
        f"source {name} is removed; {what}" if made else f"source {name} is forgotten",
        "now delete its webhook at the provider, and revoke its key if nothing else uses it",
    ]
    operator.screen.result(data, lines)


def _configured(operator: Operator, name: str) -> Source:
    try:
        return operator.source(name)
    except ConfigurationError as error:
        remedy = "--forget removes the parameters alone, and leaves the store as it is"
        raise Problem(Exit.CONFIGURATION, str(error), remedy) from None
