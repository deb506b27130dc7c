"""Commands for clients, which fetch flags from ServeFunction with a key: add, list, remove.

``flagserve.access`` describes the parameter of a client, and is the only place that validates one,
so that the command line and ServeFunction accept the same.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import click

from flagserve.access import BROWSER, SERVER, parse
from flagstore import errors as reader_errors
from storesync.cli import parameters
from storesync.cli.app import SECRET, client, command, source_name
from storesync.cli.screen import CommandError, Exit, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flagserve.access import ClientKey
    from storesync.cli.app import Operator
    from storesync.model import Source

KIND = "clients"
AT_MOST = "within a minute"
"""How soon ServeFunction sees a change of its clients."""
API = "/api"
"""The end of ServeBaseUrl, which Unleash's SDKs need."""
AUTHORIZATION = "API token (the header Authorization)"
STEPS = {
    ("unleash", SERVER): ("in the Unleash SDK of the service:", "/api", AUTHORIZATION),
    ("unleash", BROWSER): ("in the Unleash SDK of the page:", "/api/frontend", "clientKey"),
    ("launchdarkly", BROWSER): ("in the LaunchDarkly SDK of the page:", "", "client-side ID"),
}
"""Provider, kind → where the settings belong, the path after the API's URL, and the name of the
secret. For OFREP (docs/ofrep.md), see :data:`OFREP`."""
OFREP = ("in the OFREP provider:", "", AUTHORIZATION)

client_argument = click.argument("client_name", metavar="CLIENT", type=source_name)
_MANY: dict[str, Any] = {"multiple": True}


def read(operator: Operator) -> dict[str, str]:
    """Return the parameters of all clients by name, sorted."""
    return parameters.listed(operator, KIND)


def parsed(texts: Mapping[str, str]) -> Iterator[tuple[str, ClientKey | None]]:
    """Yield each client with its key, or with None if its parameter is invalid."""
    for name, text in texts.items():
        try:
            yield name, parse(name, text)
        except reader_errors.ConfigurationError:
            yield name, None


def of_source(operator: Operator, source: str) -> list[str]:
    """Return the names of the clients that fetch a source's flags."""
    return [name for name, key in parsed(read(operator)) if key and key.source == source]


def source_of(operator: Operator, key: ClientKey) -> Source:
    """Return a client's source; raise CommandError if ServeFunction cannot serve it."""
    source = operator.source(key.source)
    if bool(key.store_url) != (source.store == "redis"):
        message = f"source {source.name} is in {source.store}"
        remedy = "--store-url-file, the URL of Redis for readers, is for sources in Redis only"
        raise CommandError(Exit.USAGE, message, remedy)
    return source


@command(client, "add")
@client_argument
@click.option("--source", metavar="SOURCE", help="Source of its flags.")
@click.option("--kind", type=click.Choice((SERVER, BROWSER)), help="Where the key is kept.")
@click.option("--origin", "origins", help="Origin of pages that may use it; * for any.", **_MANY)
@click.option("--flag", "flags", help="Flag that it may see; *: any ending.", **_MANY)
@click.option("--secret-file", "given", help="File with its secret; - is stdin.", **SECRET)
@click.option("--store-url-file", "store_url", help="File with the Redis URL of readers.", **SECRET)
@click.option("--new-secret", is_flag=True, help="Rotate its secret.")
@click.option("--replace", is_flag=True, help="Change an existing client.")
def add(
    operator: Operator,
    *,
    client_name: str,
    given: str | None,
    new_secret: bool,
    replace: bool,
    **settings: Any,  # noqa: ANN401 - further fields of the parameter
) -> None:
    """Allow a client to fetch flags from ServeFunction.

    A server key gets all flags of a source: of Unleash's their rules, by OFREP their values. A
    browser key gets the values of the flags it names (of LaunchDarkly's, those marked for
    browsers), for pages of the origins it names; everyone who opens the page can read it.
    Generates a secret and prints it once, unless --secret-file has one, such as the Unleash token
    that an application already uses. With --replace, options that are left out stay as they are.
    """
    texts = read(operator)
    before = _before(client_name, texts, replace=replace)
    _check_settings(client_name, settings, before)
    values = {**before, **{field: value for field, value in settings.items() if value}}
    secret = given
    if not before or new_secret:
        secret = given or secrets.token_urlsafe()
    if secret:
        # The previous secret stays valid until the next rotation, so no client is refused.
        others = [each for each in before.get("secrets", ()) if each != secret]
        values["secrets"] = [secret, *others[:1]]
    text = json.dumps(values, ensure_ascii=False)
    key = parse(client_name, text)
    source = source_of(operator, key)
    _check_unique(key, texts)
    parameters.put(operator, KIND, client_name, text)
    base = operator.deployment.serve_base_url
    steps = STEPS.get((source.provider, key.kind), OFREP)
    data = {
        **_described(key),
        "url": base.removesuffix(API) + steps[1] if base else None,
        "secret": None if given else secret,
    }
    operator.screen.result(data, _add_lines(data, steps, "the given one" if given else "unchanged"))


def _before(name: str, texts: Mapping[str, str], *, replace: bool) -> dict[str, Any]:
    """Return the stored values of a client; empty if there is none."""
    if name not in texts:
        return {}
    if not replace:
        remedy = "change it with --replace, or use another name"
        raise CommandError(Exit.USAGE, f"client {name!r} already exists", remedy)
    try:
        parse(name, texts[name])
    except reader_errors.ConfigurationError as error:
        remedy = f"remove it with `storesync client remove {name}`, and add it again"
        raise CommandError(Exit.CONFIGURATION, str(error), remedy) from None
    values: dict[str, Any] = json.loads(texts[name])
    return values


def _check_settings(name: str, given: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raise CommandError if an option is missing, or would widen what the old secret reveals."""
    for field in ("source", "kind"):
        if not (given[field] or before):
            raise CommandError(Exit.USAGE, f"missing option: --{field}")
        if before and given[field] not in {None, before[field]}:
            message = f"client {name} is for {field} {before[field]}, which cannot change"
            raise CommandError(Exit.USAGE, message, "add another client, and remove this one later")
    is_browser = (given["kind"] or before["kind"]) == BROWSER
    if is_browser and not all(given[field] or before.get(field) for field in ("origins", "flags")):
        raise CommandError(Exit.USAGE, "--kind browser needs --origin and --flag")


def _check_unique(key: ClientKey, texts: Mapping[str, str]) -> None:
    for name, other in parsed(texts):
        if other and name != key.name and {*key.digests} & {*other.digests}:
            message = f"client {name} has the same secret"
            raise CommandError(Exit.USAGE, message, "use a different secret for each client")


def _described(key: ClientKey) -> dict[str, Any]:
    return {
        "client": key.name,
        "source": key.source,
        "kind": key.kind,
        "origins": list(key.origins),
        "flags": list(key.flags),
    }


def _add_lines(data: dict[str, Any], steps: tuple[str, str, str], otherwise: str) -> Iterator[str]:
    where, path, name = steps
    shown = f", shown only now: {data['secret']}" if data["secret"] else f": {otherwise}"
    yield f"client {data['client']} is configured: ServeFunction accepts it {AT_MOST}"
    yield where
    unknown = f"<ServeBaseUrl>{path.removeprefix(API)}" if path else f"<ServeBaseUrl> without {API}"
    yield f"  1. URL: {data['url'] or unknown}"
    yield f"  2. {name}{shown}"
    if not data["url"]:
        yield "note: no URL is known: deploy the stack with ServeFlags=true (docs/unleash-edge.md)"


@command(client, "list")
def list_(operator: Operator) -> None:
    """List the clients. Prints no secrets."""
    found = [
        _described(key) if key else {"client": name, "source": "?", "kind": "invalid"}
        for name, key in parsed(read(operator))
    ]
    operator.screen.result({"clients": found}, _list_lines(found))


def _list_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    if not found:
        yield "no clients yet: add one with `storesync client add NAME --source SOURCE --kind KIND`"
        return
    fields = ("client", "source", "kind", "origins", "flags")
    rows = [
        [
            ", ".join(value) if isinstance(value, list) else value
            for value in (each.get(field, "") for field in fields)
        ]
        for each in found
    ]
    yield from table([field.upper() for field in fields], rows)


@command(client, "remove")
@client_argument
@click.option("--yes", "-y", is_flag=True, help="Skip the confirmation.")
def remove(operator: Operator, *, client_name: str, yes: bool) -> None:
    """Remove a client: its requests then get a 401."""
    names = read(operator)
    if client_name not in names:
        known = f"the clients are {', '.join(names)}" if names else "there are no clients yet"
        raise CommandError(Exit.NOT_FOUND, f"no client {client_name!r}", known)
    operator.screen.confirm(f"remove client {client_name}? its requests get 401", yes=yes)
    parameters.remove(operator, client_name, KIND)
    line = f"client {client_name} is removed: ServeFunction refuses it {AT_MOST}"
    operator.screen.result({"client": client_name}, [line])
