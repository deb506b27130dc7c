"""The command that runs the functions here: invoke."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from flagstore.keys import SourceState, state_key
from storesync.cli.app import command, storesync
from storesync.cli.parameters import KINDS
from storesync.cli.problems import Exit, Problem
from storesync.cli.signing import signed
from storesync.events import Manual, parse
from storesync.observability import logger
from storesync.sources import parse_webhook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from storesync.cli.context import Operator

BAD_STATUS, NOT_FOUND = 400, 404
SHAPE = "docs/cli.md shows such a file"


@command(storesync, "invoke")
@click.argument("event", type=click.File("r"), metavar="EVENT")
@click.option(
    "--config",
    type=click.File("r"),
    required=True,
    metavar="FILE",
    help='JSON: {"sources": {…}, "credentials": {…}, "webhooks": {…}}, each by name of source.',
)
@click.option(
    "--function",
    type=click.Choice(["both", "webhook", "sync"]),
    default="both",
    show_default=True,
    help="Both: a webhook goes to WebhookFunction, the sync request that it makes to SyncFunction.",
)
@click.option("--sign", is_flag=True, help="Sign the event with the source's secret.")
@click.option("--verbose", is_flag=True, help="Show the log and the metrics, on stderr.")
def invoke(
    operator: Operator,
    *,
    event: IO[str],
    config: IO[str],
    function: str,
    sign: bool,
    verbose: bool,
) -> int:
    """Run the functions here, on a sample EVENT.

    EVENT is a file, or - for stdin. Needs neither Docker nor AWS: sources come from a file, the
    flags go to memory. The provider is asked for real.
    """
    from storesync.cli.local import LocalDeployment, text  # noqa: PLC0415 - both functions: 100 ms

    given = _object(event, "EVENT")
    values = _parameters(config)
    is_webhook = "requestContext" in given and "Records" not in given
    if sign:
        name = (given.get("pathParameters") or {}).get("source", "")
        webhook_config = values.get("webhooks", {}).get(name)
        if not (is_webhook and webhook_config):
            what = "--sign needs the event of a webhook, and the webhook of its source in --config"
            raise Problem(Exit.USAGE, what)
        given = signed(
            given, parse_webhook(name, f"--config: webhooks/{name}", text(webhook_config))
        )
    logger().setLevel("INFO" if verbose else "CRITICAL")
    local = LocalDeployment(values, sys.stderr if verbose else io.StringIO())
    done: dict[str, Any] = {}
    operator.screen.progress("running")
    if is_webhook and function != "sync":
        response = local.webhook(given)
        done["webhook"] = {"status": response["statusCode"], "body": json.loads(response["body"])}
        done["requests"] = [json.loads(body) for body in local.queue.http_bodies]
        given = local.queue.batch()
    elif function == "webhook":
        what = "WebhookFunction responses requests of API Gateway, and this is none"
        raise Problem(Exit.USAGE, what, "leave out --function")
    if function != "webhook" and (not is_webhook or function == "sync" or local.queue.http_bodies):
        done["sync"] = local.sync(given)
        done["published"] = _published(local.stores.records, given)
    operator.screen.result(done, _lines(done))
    return _code(done)


def _object(file: IO[str], what: str) -> dict[str, Any]:
    try:
        found = json.load(file)
    except ValueError as error:
        raise Problem(Exit.USAGE, f"{what} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Problem(Exit.USAGE, f"{what} must be a JSON object")
    return found


def _parameters(config: IO[str]) -> dict[str, dict[str, Any]]:
    """Read the parameters of all sources: kind to name to value.

    Raises:
        Problem: it is not JSON, or has another shape.
    """
    values = _object(config, "--config")
    wrong = sorted(
        kind for kind, named in values.items() if kind not in KINDS or not isinstance(named, dict)
    )
    if wrong:
        what = f"--config takes {', '.join(sorted(KINDS))}, each an object by name of the source"
        raise Problem(Exit.USAGE, f"{what}: {', '.join(wrong)} is none of these", SHAPE)
    return values


def _published(records: Any, event: object) -> dict[str, Any]:  # noqa: ANN401 - of the memory
    """Return what is published now of the sources that an event is about."""
    parsed = parse(event)
    if isinstance(parsed, Manual):
        names = {parsed.request.source}
    elif not isinstance(parsed, tuple) or any(message.provider_event for message in parsed):
        # The schedule, or an event of AWS, which names no source.
        names = {key.namespace.partition(":")[0] for key in records}
    else:
        names = {message.request.source for message in parsed if message.request}
    states = {
        name: SourceState.from_record(records.get(state_key(name), {})) for name in sorted(names)
    }
    return {
        name: {"token": source_state.published, "digest": source_state.digest}
        for name, source_state in states.items()
    }


def _lines(done: dict[str, Any]) -> Iterator[str]:
    if "webhook" in done:
        yield f"WebhookFunction responded with {_told(**done['webhook'])}"
        for request in done["requests"]:
            required = f", to reach {', '.join(request['required'])}" if request["required"] else ""
            yield f"a sync request for {request['source']}{required}"
    if "sync" in done:
        yield f"SyncFunction returned {json.dumps(done['sync'], ensure_ascii=False)}"
        for name, source_state in done["published"].items():
            state = f"version {source_state['token']}" if source_state["token"] else "nothing"
            yield f"published for {name}: {state}"


def _told(status: int, body: dict[str, Any]) -> str:
    """Return a status and what the function says of it."""
    if status == NOT_FOUND:
        return f"{status}: the event's source has no webhook in --config"
    return f"{status}: {body['error']}" if "error" in body else str(status)


def _code(done: dict[str, Any]) -> int:
    if done.get("webhook", {}).get("status", 0) >= BAD_STATUS:
        return Exit.REFUSED
    response = done.get("sync", {})
    outcomes = response if isinstance(response, list) else [response]
    failed = any(each.get("outcome") == "failed" for each in outcomes)
    if failed or any(each.get("batchItemFailures") for each in outcomes):
        return Exit.PROVIDER
    if "sync" in done and not all(
        source_state["token"] for source_state in done["published"].values()
    ):
        return Exit.PROVIDER  # refused keys and sets are acknowledged to the queue
    return Exit.OK
