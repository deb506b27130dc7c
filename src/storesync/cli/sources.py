"""Commands for sources: add, list, remove."""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from storesync import providers
from storesync.cli import clients, parameters
from storesync.cli.app import SECRET, command, source, source_argument, source_name
from storesync.cli.parameters import AddOptions, SourceParameters, complete, compose
from storesync.cli.screen import CommandError, Exit, table, to_error
from storesync.cli.webhooks import Registrar, api_url, manual_steps, webhook_url
from storesync.config_json import STORES
from storesync.errors import ConfigurationError, ProviderError
from storesync.maintenance import mark_removed, restore_source
from storesync.stores.dynamodb import DynamoDBStore
from storesync.usage_records import delete_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from storesync.cli.app import Operator
    from storesync.model import Source


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter("write it as NAME=VALUE")
    return name, value


APPCONFIG_NOTE = "SyncFunction needs the stack's parameter AppConfigProfile: docs/configure.md"
DRAIN_NOTE = (
    "what SDKs queue is posted to Split, which may bill by users' keys; never run a Synchronizer "
    "beside it: docs/redis.md"
)
SETTINGS = ("rows_prefix", "adopt", "drain", "document")
"""Fields of a source's parameter that `source list` shows if they are there."""
_PAIRS: dict[str, Any] = {"type": _pair, "metavar": "NAME=VALUE", "multiple": True}


@command(source, "add")
@source_argument
@click.option("--provider", type=click.Choice(providers.names()), help="Provider of the flags.")
@click.option("--key-file", "key", help="File with the key or token; - is stdin.", **SECRET)
@click.option("--base-url", default="", metavar="URL", help="Provider's address, if not default.")
@click.option("--option", "options", help="Option of the source: docs/configure.md.", **_PAIRS)
@click.option("--webhook-option", "webhook_options", help="Option of its webhook.", **_PAIRS)
@click.option("--webhook", type=source_name, metavar="NAME", help="Webhook shared by sources.")
@click.option("--method", help="How to check webhooks, if there are several ways.")
@click.option("--header", help="Header with the secret, for --method header.")
@click.option("--new-secret", is_flag=True, help="Rotate the webhook's secret.")
@click.option("--store", type=click.Choice(STORES), help="Where to publish; default: dynamodb.")
@click.option("--store-url-file", "store_url", help="File with the URL of Redis.", **SECRET)
@click.option("--rows/--no-rows", default=None, help="Also write a row per flag; default: yes.")
@click.option("--rows-prefix", metavar="TEXT", help="Prefix of rows that SDKs are set to read.")
@click.option("--adopt/--no-adopt", default=None, help="Replace another program's rows there.")
@click.option("--drain/--no-drain", default=None, help="Post what Split's SDKs queue in Redis.")
@click.option("--allow-http", is_flag=True, help="Permit a provider's address without TLS.")
@click.option("--replace", is_flag=True, help="Change an existing source.")
@click.option("--check/--no-check", default=True, help="Test the key first; default: yes.")
@click.option("--register", is_flag=True, help="Create the webhook through the provider's API.")
@click.option("--admin-token-file", "token", help="File with a token, for --register.", **SECRET)
@click.option("--api-url", "api", metavar="URL", help="Address of that API.")
def add(  # noqa: PLR0913 - its options
    operator: Operator,
    *,
    name: str,
    replace: bool,
    check: bool,
    register: bool,
    token: str | None,
    api: str | None,
    webhook: str | None,
    **given: Any,  # noqa: ANN401 - the fields of AddOptions
) -> None:
    """Configure a source: one environment of a provider.

    Tests the key, writes the parameters (docs/configure.md), requests a sync and prints the steps
    to create the webhook. At a terminal, asks for missing secrets. With --replace, options that are
    left out stay as they are.
    """
    stored = parameters.read(operator, name)
    if stored.sources and not replace:
        remedy = "change it with --replace, or use another name"
        raise CommandError(Exit.USAGE, f"source {name!r} already exists", remedy)
    with _nothing_written():
        before = parameters.attach(operator, stored, webhook or stored.webhook_name)
    ask = partial(click.prompt, hide_input=True, err=True) if operator.screen.can_ask else None
    options = complete(AddOptions(**given), before, ask)
    if webhook and not providers.get(str(options.provider)).methods:
        raise CommandError(Exit.USAGE, f"{options.provider} sends no webhooks", "omit --webhook")
    new = compose(options, before)
    with _nothing_written():
        made = new.source(operator.deployment.prefix)
        operator.sources.check_prefix(made)
        config = new.webhook(operator.deployment.prefix) if new.webhooks else None
        base = operator.deployment.require("FLAGSTORE_WEBHOOK_BASE_URL") if config else ""
        registrar = _registrar(made, options, token, api) if register else None
        store = operator.open(made)
        flag_set = operator.fetch(made) if check else None
    restored = restore_source(name, store)
    parameters.write(operator, stored, new)
    registered, failed = None, None
    if registrar and config:
        try:
            registered = registrar.register(base, config)
        except CommandError as error:
            failed = error  # raised last: the source is configured, and the steps are printed
    data = {
        "source": name,
        "provider": made.provider,
        "counts": flag_set and flag_set.counts(),
        "restored": restored,
        "requested": operator.request_sync(name),
        "webhook_url": webhook_url(base, config) if config else None,
        "webhook": registered,
        "webhook_sources": list(config.sources) if config else [],
        "steps": manual_steps(base, config) if config and not registered else [],
        "notes": [
            *([APPCONFIG_NOTE] if made.provider == "appconfig" else []),
            *([DRAIN_NOTE] if made.drain else []),
        ],
    }
    operator.screen.result(data, _add_lines(data, again=stored.has_webhook))
    if failed:
        raise failed


@contextmanager
def _nothing_written() -> Iterator[None]:
    """Add to an error of the options or the provider that nothing was written."""
    try:
        yield
    except (ConfigurationError, ProviderError) as error:
        known = to_error(error)
        if known.code not in {Exit.CONFIGURATION, Exit.PROVIDER}:
            raise  # an error of AWS: AppConfig is called with the operator's credentials
        remedy = "nothing was written: correct the options (`storesync source add --help`)"
        if known.code is Exit.PROVIDER:
            remedy += ", or skip this check with --no-check"
        raise CommandError(known.code, known.message, remedy) from None


def _registrar(made: Source, given: AddOptions, token: str | None, api: str | None) -> Registrar:
    known = api_url(made.provider, made.base_url)
    if made.provider not in {"launchdarkly", "unleash"}:
        message = f"--register: {made.provider} has no API for webhooks"
        raise CommandError(Exit.USAGE, message, "omit it, and follow the steps that are printed")
    if not token:
        message = "--register needs a token that can manage webhooks"
        raise CommandError(Exit.USAGE, message, "add --admin-token-file; the token is not stored")
    if not (api or (known and given.key)):
        message = "an admin token is only sent to an address given in the same command"
        raise CommandError(Exit.USAGE, message, f"add --api-url {known or 'URL'}")
    return Registrar(api or known, token)


def _add_lines(data: dict[str, Any], *, again: bool) -> Iterator[str]:
    name = data["source"]
    if data["counts"]:
        counts = ", ".join(f"{number} {section}" for section, number in data["counts"].items())
        has_key = providers.get(data["provider"]).needs_key
        yield f"{'the key works' if has_key else 'the provider responds'}: {counts}"
    yield f"source {name} is configured" + (
        " and a sync is requested: `storesync status` shows the result"
        if data["requested"]
        else f"; publish it with `storesync sync {name}`"
    )
    if data["webhook"]:
        yield f"the webhook was {data['webhook']} at the provider"
    elif data["steps"]:
        names = data["webhook_sources"]
        what = "create or update" if again or len(names) > 1 else "create"
        yield f"{what} the webhook" + (f" for {', '.join(names)}:" if len(names) > 1 else ":")
        yield from (f"  {number}. {text}" for number, text in enumerate(data["steps"], 1))
    yield from (f"note: {text}" for text in data["notes"])


@command(source, "list")
def list_(operator: Operator) -> None:
    """List the sources. Reads and prints no secrets."""
    base = operator.deployment.webhook_base_url
    found = []
    for name, text in parameters.listed(operator, "sources").items():
        stored = SourceParameters(sources=text)
        values = stored.values("sources")
        methods = _methods(values.get("provider"))
        webhooks = f"{base}/{values.get('webhook') or name}" if base and methods else None
        found.append(
            {
                "source": name,
                "provider": values.get("provider", "?"),
                "store": values.get("store", "dynamodb"),
                "rows": values.get("rows", True),
                **{name: values[name] for name in SETTINGS if name in values},
                "options": stored.options("sources"),
                "webhooks": f"{webhooks}/<secret>" if methods == ("url",) else webhooks,
            }
        )
    operator.screen.result({"sources": found}, _list_lines(found))


def _options(each: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    yield from each["options"].items()
    yield from (
        (name, json.dumps(each[name])) for name in SETTINGS if each.get(name, False) is not False
    )


def _methods(provider: object) -> tuple[str, ...]:
    """Return how a provider's webhooks can be verified; nothing if it is unknown or sends none."""
    return providers.get(str(provider)).methods if provider in providers.names() else ()


def _list_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    if not found:
        yield "no sources yet: add one with `storesync source add NAME --provider PROVIDER`"
        return
    headers = ("SOURCE", "PROVIDER", "STORE", "ROWS", "OPTIONS", "WEBHOOKS")
    rows = [
        (
            each["source"],
            each["provider"],
            each["store"],
            "yes" if each["rows"] else "no",
            ", ".join(f"{name}={value}" for name, value in _options(each)),
            each["webhooks"] or "",
        )
        for each in found
    ]
    yield from table(headers, rows)


@command(source, "remove")
@source_argument
@click.option("--purge", is_flag=True, help="Also delete its flags, history and usage.")
@click.option("--forget", is_flag=True, help="Delete the parameters only; leave the store alone.")
@click.option("--yes", "-y", is_flag=True, help="Skip the confirmation.")
def remove(operator: Operator, *, name: str, purge: bool, forget: bool, yes: bool) -> None:
    """Stop syncing a source.

    Its published flags stay readable unless they are purged. Nothing more is published for this
    name until the source is added again.
    """
    if purge and forget:
        raise CommandError(Exit.USAGE, "--forget leaves the store alone, --purge empties it")
    there = parameters.read(operator, name)
    if not (there.sources or there.credentials or there.has_webhook):
        operator.source(name)  # raises an error that lists the sources
    # Parameters without a source are left over from an interrupted command.
    made = None
    if there.sources and not forget:
        try:
            made = operator.source(name)
        except ConfigurationError as error:
            remedy = "--forget deletes the parameters only, and leaves the store alone"
            raise CommandError(Exit.CONFIGURATION, str(error), remedy) from None
    purge = purge and made is not None
    served = clients.of_source(operator, name)
    effect = "its flags and history are deleted" if purge else "its flags stay readable"
    operator.screen.confirm(f"remove source {name}? {effect}", yes=yes)
    parameters.detach(operator, there)
    token = None
    if made is not None:
        token = mark_removed(made, operator.open(made), operator.clock, purge=purge)
    if purge:
        aws, deployment = operator.aws("dynamodb"), operator.deployment
        delete_records(name, DynamoDBStore(aws, deployment.table, operator.deadline()))
    parameters.remove(operator, name, "sources", "credentials")
    others = list(there.others)
    data = {
        "source": name,
        "tombstone": token,
        "purged": purge,
        "clients": served,
        "webhook_sources": others,
    }
    lines = [f"source {name} is removed; {effect}" if made else f"parameters of {name} are deleted"]
    if others:
        lines.append(f"webhook {there.webhook_name} stays, for {', '.join(others)}")
        lines.append("next: revoke its key if it is unused")
    elif made is None or providers.get(made.provider).needs_key:
        lines.append("next: delete its webhook at the provider, and revoke its key if it is unused")
    lines += [f"next: `storesync client remove {each}`: it reads these flags" for each in served]
    operator.screen.result(data, lines)
