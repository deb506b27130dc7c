"""The doctor command: check a deployment and its sources, and show how to fix what is wrong."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

import click

from flagstore import keys
from storesync import providers, rows
from storesync.cli import parameters
from storesync.cli.app import command, storesync
from storesync.cli.errors import Exit, to_error
from storesync.cli.inspect import problems
from storesync.cli.screen import duration
from storesync.errors import CorruptStoreError
from storesync.pipeline import MARGIN_MS
from storesync.published import PublishedReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from storesync.cli.context import Operator
    from storesync.model import Source

OK, WARNING, PROBLEM, SKIPPED = "ok", "warning", "problem", "skipped"
_COLORS = {OK: "green", WARNING: "yellow", PROBLEM: "red", SKIPPED: "bright_black"}


class Finding(NamedTuple):
    """The result of one check."""

    level: str
    check: str
    message: str
    remedy: str = ""


@command(storesync, "doctor")
@click.argument("names", metavar="[SOURCE]...", nargs=-1)
def doctor(operator: Operator, *, names: tuple[str, ...]) -> int:
    """Find problems and how to fix them.

    Checks credentials, clock, table, queues, parameters, keys and every published row. Changes
    nothing. Exits with 10 if there is a warning or a problem.
    """
    deployment = [
        *_run("credentials", "SOURCE", check_credentials, operator),
        *_run("table", "SOURCE", check_table, operator),
        *_run("queue", "SOURCE", check_queues, operator),
    ]
    sources = {name: _source(operator, name) for name in operator.names(names)}
    data = {
        "deployment": _to_json(deployment),
        "sources": {name: _to_json(findings) for name, findings in sources.items()},
    }
    titled = {f"source {name}": findings for name, findings in sources.items()}
    operator.screen.result(data, _lines({operator.deployment.name: deployment, **titled}))
    found = (each for findings in (deployment, *sources.values()) for each in findings)
    return Exit.FINDINGS if any(each.level in {WARNING, PROBLEM} for each in found) else Exit.OK


def _to_json(findings: list[Finding]) -> list[dict[str, str]]:
    return [{field: text for field, text in each._asdict().items() if text} for each in findings]


def _source(operator: Operator, name: str) -> list[Finding]:
    found = _run("parameters", name, check_parameters, operator, name)
    if found[0].level != OK:
        return found
    source = operator.source(name)
    return [
        *found,
        *_run("provider", name, check_provider, operator, source),
        *_run("sync", name, check_state, operator, source),
        *_run("store", name, check_store, operator, source),
        *_run("webhook", name, check_webhook, operator, source),
    ]


def _run(
    check: str, source: str, work: Callable[..., Iterable[Finding]], *arguments: object
) -> list[Finding]:
    """Run one check; an error is a finding, too."""
    try:
        return list(work(*arguments))
    except Exception as error:  # noqa: BLE001 - to_error raises bugs again
        known = to_error(error).about(source)
        return [Finding(PROBLEM, check, known.message, known.remedy)]


def _lines(found: dict[str, list[Finding]]) -> Iterator[str]:
    for title, findings in found.items():
        yield title
        for each in findings:
            level = click.style(each.level.ljust(8), fg=_COLORS[each.level])
            yield f"  {level} {each.check}: {each.message}"
            if each.remedy:
                yield f"           fix: {each.remedy}"


# -- the deployment -------------------------------------------------------------------------------


def check_credentials(operator: Operator) -> Iterator[Finding]:
    """Check the credentials, and compare the clock with AWS's."""
    response = operator.aws("sts").get_caller_identity()
    yield Finding(OK, "credentials", response["Arn"])
    date = response["ResponseMetadata"]["HTTPHeaders"]["date"]
    # The header has whole seconds, so half of one is added.
    skew = operator.clock.now() - parsedate_to_datetime(date).timestamp() - 0.5
    if abs(skew) * 1000 > MARGIN_MS:
        message = f"this machine's clock is {duration(abs(skew))} {'fast' if skew > 0 else 'slow'}"
        remedy = "synchronize it (NTP): sync requests and pins carry its time"
        yield Finding(WARNING, "clock", message, remedy)
    else:
        yield Finding(OK, "clock", "agrees with AWS")


def check_table(operator: Operator) -> Iterator[Finding]:
    """Check that the table exists, and its TTL."""
    name, dynamodb = operator.deployment.table, operator.aws("dynamodb")
    ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    if ttl.get("AttributeName") != "expires_at":
        remedy = "enable TTL on expires_at: without it, old chunks of large sets are never deleted"
        yield Finding(WARNING, "table", f"{name} has no TTL", remedy)
    else:
        yield Finding(OK, "table", name)


def check_queues(operator: Operator) -> Iterator[Finding]:
    """Check for sync requests that failed."""
    for check, url in (
        ("queue", operator.deployment.queue_url),
        ("dead letters", operator.deployment.dlq_url),
    ):
        if not url:
            yield Finding(SKIPPED, check, "queue unknown: name the stack with --stack")
            continue
        name = "ApproximateNumberOfMessages"
        response = operator.aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        number = int(response["Attributes"][name])
        if number and check == "dead letters":
            remedy = "see SyncFunction's log for the cause, then redrive or purge this queue"
            yield Finding(PROBLEM, check, f"{number} sync requests failed on every try", remedy)
        else:
            yield Finding(OK, check, f"{number} waiting")


# -- a source -------------------------------------------------------------------------------------


def check_parameters(operator: Operator, name: str) -> Iterator[Finding]:
    """Check the parameters that SyncFunction reads."""
    operator.source(name)
    yield Finding(OK, "parameters", "complete")


def check_provider(operator: Operator, source: Source) -> Iterator[Finding]:
    """Fetch the provider's flag set from this machine."""
    flag_set = operator.fetch(source)
    counts = ", ".join(f"{len(flag_set.keys(name))} {name}" for name in flag_set.sections)
    yield Finding(OK, "provider", f"{counts} from {source.base_url}")


def check_state(operator: Operator, source: Source) -> Iterator[Finding]:
    """Report the problems that `status` shows."""
    state = operator.open(source).state(source.name)
    found = list(problems(source.name, state, operator.now_ms()))
    yield from (Finding(PROBLEM, "sync", text) for text in found)
    if not found:
        yield Finding(OK, "sync", f"version {state.published} is published")


def check_store(operator: Operator, source: Source) -> Iterator[Finding]:
    """Verify every digest of the snapshot and its body, and compare every row."""
    store, name = operator.open(source), source.name
    published, state = PublishedReader(name, store), store.state(name)
    if not state.published:
        yield Finding(SKIPPED, "store", "nothing is published")
        return
    remedy = f"`storesync sync {name} --verify` repairs it; while pinned, repeat the rollback"
    try:
        stored = published.current(state.published)
        if stored is None:
            yield Finding(SKIPPED, "store", "a new version was just published: try again")
            return
        published.verify_large(stored)
    except CorruptStoreError as error:
        yield Finding(PROBLEM, "store", str(error), remedy)
        return
    assert stored.record is not None  # noqa: S101 - it was read back
    size = len(stored.record.body)
    yield Finding(OK, "store", f"snapshot record and body match their digests ({size} bytes)")
    for number in range(1, operator.deployment.replicas):
        record = store.read(keys.snapshot_key(name, number)) or {}
        if record.get("token") != state.published:
            message = f"replica {number} of the snapshot record differs"
            yield Finding(PROBLEM, "store", message, remedy)
    plan = rows.plan(source, stored, None, store, state.published)
    if plan.writes:
        message = f"{len(plan.writes)} rows differ from the snapshot"
        yield Finding(PROBLEM, "rows", message, remedy)
    elif source.rows:
        yield Finding(OK, "rows", "match the snapshot")
    else:
        yield Finding(SKIPPED, "rows", "disabled for this source")


def check_webhook(operator: Operator, source: Source) -> Iterator[Finding]:
    """Check the webhook's parameter."""
    name = source.name
    if not providers.get(source.provider).methods:
        return
    webhook = parameters.read(operator, name).webhook(operator.deployment.prefix, name)
    if webhook.provider != source.provider:
        message = f"its parameter is for {webhook.provider}, the source for {source.provider}"
        remedy = f"repeat the interrupted `storesync source add {name} --replace`"
        yield Finding(PROBLEM, "webhook", message, remedy)
    else:
        yield Finding(OK, "webhook", "its parameter is complete")
