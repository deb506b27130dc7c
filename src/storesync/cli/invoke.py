"""The command that runs the functions here: invoke."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from flagstore.layout import Pulse, pulse_key
from storesync.cli.app import command, storesync
from storesync.cli.parameters import KINDS
from storesync.cli.problems import Exit, Problem
from storesync.cli.signing import signed
from storesync.events import Manual, parse
from storesync.observability import logger
from storesync.sources import parse_hook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from storesync.cli.operating import Operator

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
    help="Both: a webhook goes to WebhookFunction, the ring that it makes to SyncFunction.",
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
    from storesync.cli.here import Here, text  # noqa: PLC0415 - both functions: 100 ms

    given = _object(event, "EVENT")
    values = _parameters(config)
    is_webhook = "requestContext" in given and "Records" not in given
    if sign:
        name = (given.get("pathParameters") or {}).get("source", "")
        hook = values.get("webhooks", {}).get(name)
        if not (is_webhook and hook):
            what = "--sign needs the event of a webhook, and the webhook of its source in --config"
            raise Problem(Exit.USAGE, what)
        given = signed(given, parse_hook(name, f"--config: webhooks/{name}", text(hook)))
    logger().setLevel("INFO" if verbose else "CRITICAL")
    here = Here(values, sys.stderr if verbose else io.StringIO())
    done: dict[str, Any] = {}
    operator.screen.progress("running")
    if is_webhook and function != "sync":
        answer = here.webhook(given)
        done["webhook"] = {"status": answer["statusCode"], "body": json.loads(answer["body"])}
        done["rings"] = [json.loads(body) for body in here.queue.bodies]
        given = here.queue.batch()
    elif function == "webhook":
        what = "WebhookFunction answers requests of API Gateway, and this is none"
        raise Problem(Exit.USAGE, what, "leave out --function")
    if function != "webhook" and (not is_webhook or function == "sync" or here.queue.bodies):
        done["sync"] = here.sync(given)
        done["published"] = _published(here.stores.records, given)
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
    """Return what is published now of the sources that an event rang."""
    parsed = parse(event)
    if isinstance(parsed, Manual):
        names = {parsed.ring.source}
    elif not isinstance(parsed, tuple) or any(message.notice for message in parsed):
        # The schedule, or an event of AWS, which names no source.
        names = {key.namespace.partition(":")[0] for key in records}
    else:
        names = {message.ring.source for message in parsed if message.ring}
    pulses = {name: Pulse.from_record(records.get(pulse_key(name), {})) for name in sorted(names)}
    return {
        name: {"ticket": pulse.published, "digest": pulse.digest} for name, pulse in pulses.items()
    }


def _lines(done: dict[str, Any]) -> Iterator[str]:
    if "webhook" in done:
        yield f"WebhookFunction answered {_told(**done['webhook'])}"
        for ring in done["rings"]:
            wanted = f", to reach {', '.join(ring['wanted'])}" if ring["wanted"] else ""
            yield f"a ring for {ring['source']}{wanted}"
    if "sync" in done:
        yield f"SyncFunction answered {json.dumps(done['sync'], ensure_ascii=False)}"
        for name, pulse in done["published"].items():
            state = f"version {pulse['ticket']}" if pulse["ticket"] else "nothing"
            yield f"published for {name}: {state}"


def _told(status: int, body: dict[str, Any]) -> str:
    """Return a status and what the function says of it."""
    if status == NOT_FOUND:
        return f"{status}: the event's source has no webhook in --config"
    return f"{status}: {body['error']}" if "error" in body else str(status)


def _code(done: dict[str, Any]) -> int:
    if done.get("webhook", {}).get("status", 0) >= BAD_STATUS:
        return Exit.REFUSED
    answer = done.get("sync", {})
    outcomes = answer if isinstance(answer, list) else [answer]
    failed = any(each.get("outcome") == "failed" for each in outcomes)
    if failed or any(each.get("batchItemFailures") for each in outcomes):
        return Exit.PROVIDER
    if "sync" in done and not all(pulse["ticket"] for pulse in done["published"].values()):
        return Exit.PROVIDER  # refused keys and sets are acknowledged to the queue
    return Exit.OK
