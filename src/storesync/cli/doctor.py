"""The doctor command: check a deployment and its sources, and show how to fix what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flagserve.access import parse
from flagstore.codec import read_index
from storesync import providers, rows
from storesync.cli import clients, parameters
from storesync.cli.app import command, sources_argument, storesync
from storesync.cli.inspect import depth, problems
from storesync.cli.screen import Exit, to_error
from storesync.errors import CorruptStoreError
from storesync.published import PublishedReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flagstore.keys import SnapshotRecord
    from storesync.cli.app import Operator
    from storesync.model import Source

OK, PROBLEM, SKIPPED = "ok", "problem", "skipped"
_COLORS = {OK: "green", PROBLEM: "red", SKIPPED: "bright_black"}


_DEAD_LETTERS = "fix the cause and purge the queue (docs/runbook.md#there-are-dead-letters)"
_USAGE_DEAD_LETTERS = "fix the cause and redrive them (docs/runbook.md#usage-was-not-reported)"

type Finding = dict[str, str]


def _finding(level: str, check: str, message: str, remedy: str = "") -> Finding:
    found = {"level": level, "check": check, "message": message}
    return found | ({"remedy": remedy} if remedy else {})


@command(storesync, "doctor")
@sources_argument
def doctor(operator: Operator, *, names: tuple[str, ...]) -> int:
    """Find problems and how to fix them.

    Checks credentials, table, queues, clients, parameters, keys and every published row. Changes
    nothing. Exits with 10 if there is a problem.
    """
    deployment = [
        *_run("credentials", "SOURCE", _check_credentials, operator),
        *_run("table", "SOURCE", _check_table, operator),
        *_run("queue", "SOURCE", _check_queues, operator),
        *_run("clients", "SOURCE", _check_clients, operator),
    ]
    sources = {name: _source(operator, name) for name in operator.names(names)}
    titled = {f"source {name}": findings for name, findings in sources.items()}
    found = {operator.deployment.name: deployment, **titled}
    operator.screen.result({"deployment": deployment, "sources": sources}, _lines(found))
    levels = {each["level"] for findings in found.values() for each in findings}
    return Exit.FINDINGS if PROBLEM in levels else Exit.OK


def _source(operator: Operator, name: str) -> list[Finding]:
    found = _run("parameters", name, _check_parameters, operator, name)
    if found[0]["level"] == OK:
        source = operator.source(name)
        for check, work in (
            ("provider", _check_provider),
            ("sync", _check_state),
            ("store", _check_store),
            ("webhook", _check_webhook),
        ):
            found += _run(check, name, work, operator, source)
    return found


def _run(
    check: str, source: str, work: Callable[..., Iterable[Finding]], *arguments: object
) -> list[Finding]:
    """Run one check; an error is a finding, too."""
    try:
        return list(work(*arguments))
    except Exception as error:  # noqa: BLE001 - to_error raises bugs again
        known = to_error(error, source)
        return [_finding(PROBLEM, check, known.message, known.remedy)]


def _lines(found: dict[str, list[Finding]]) -> Iterator[str]:
    for title, findings in found.items():
        yield title
        for each in findings:
            level = click.style(each["level"].ljust(8), fg=_COLORS[each["level"]])
            yield f"  {level} {each['check']}: {each['message']}"
            if "remedy" in each:
                yield f"           fix: {each['remedy']}"


# -- the deployment -------------------------------------------------------------------------------


def _check_credentials(operator: Operator) -> Iterator[Finding]:
    yield _finding(OK, "credentials", operator.aws("sts").get_caller_identity()["Arn"])


def _check_table(operator: Operator) -> Iterator[Finding]:
    name, dynamodb = operator.deployment.table, operator.aws("dynamodb")
    ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    if ttl.get("AttributeName") == "expires_at":
        yield _finding(OK, "table", name)
    else:  # such as a table that was restored from a backup
        remedy = "enable TTL on expires_at: without it, old chunks of large sets are never deleted"
        yield _finding(PROBLEM, "table", f"{name} has no TTL", remedy)


def _check_queues(operator: Operator) -> Iterator[Finding]:
    """Check for messages that failed every time."""
    if operator.deployment.queue_url:
        number = depth(operator, operator.deployment.queue_url)["due"]
        yield _finding(OK, "queue", f"{number} waiting")
    for check, url, remedy in (
        ("dead letters", operator.deployment.dlq_url, _DEAD_LETTERS),
        ("usage's dead letters", operator.deployment.usage_dlq_url, _USAGE_DEAD_LETTERS),
    ):
        number = depth(operator, url)["due"] if url else 0
        if number:
            yield _finding(PROBLEM, check, f"{number} failed every time", remedy)
        elif url:
            yield _finding(OK, check, "0 waiting")


def _check_clients(operator: Operator) -> Iterator[Finding]:
    """Check the clients of ServeFunction, if there are any."""
    for name, text in clients.read(operator).items():
        yield from _run(f"client {name}", "SOURCE", _check_client, operator, name, text)


def _check_client(operator: Operator, name: str, text: str) -> Iterator[Finding]:
    key = parse(name, text)
    clients.source_of(operator, key)
    yield _finding(OK, f"client {name}", f"{key.kind} key of source {key.source}")


# -- a source -------------------------------------------------------------------------------------


def _check_parameters(operator: Operator, name: str) -> Iterator[Finding]:
    operator.source(name)
    yield _finding(OK, "parameters", "complete")


def _check_provider(operator: Operator, source: Source) -> Iterator[Finding]:
    """Fetch the provider's flag set from this machine."""
    flag_set = operator.fetch(source)
    counts = ", ".join(f"{number} {name}" for name, number in flag_set.counts().items())
    yield _finding(OK, "provider", f"{counts} from {source.base_url}")


def _check_state(operator: Operator, source: Source) -> Iterator[Finding]:
    """Report the problems that `status` shows."""
    state = operator.open(source).state(source.name)
    found = [
        _finding(PROBLEM, "sync", text.partition("; if that fails")[0])  # that names this command
        for _, text in problems(
            source.name, state, operator.now_ms(), operator.deployment.reconcile_minutes
        )
    ]
    yield from found or [_finding(OK, "sync", f"version {state.published} is published")]


def _compressed_bytes(record: SnapshotRecord) -> int:
    """Return the size of a set, also if its body is in chunks."""
    sections = read_index(record.index_data, record.index_digest)["sections"]
    blocks = sum(length for entries in sections.values() for _, _, length, _ in entries)
    return len(record.index_data) + int(blocks)


def _check_store(operator: Operator, source: Source) -> Iterator[Finding]:
    """Verify every digest of the snapshot and its body, and compare every row."""
    store, name = operator.open(source), source.name
    published = PublishedReader(name, store, operator.replicas(name, store))
    state = store.state(name)
    stored = published.current(state.published) if state.published else None
    if stored is None or stored.record is None:
        yield _finding(SKIPPED, "store", "nothing is published, or a new version just was")
        return
    published.verify_large(stored)
    size = _compressed_bytes(stored.record)
    yield _finding(OK, "store", f"snapshot record and body match their digests ({size:,} bytes)")
    remedy = f"`storesync sync {name} --verify` repairs it; while pinned, repeat the rollback"
    try:
        published.verify_replicas(stored.record)
    except CorruptStoreError as error:
        yield _finding(PROBLEM, "store", str(error), remedy)
    source = rows.source_as(source, stored.provider)
    plan = rows.plan(source, stored, None, store.at(source.rows_at), state.published)
    if plan.writes:
        message = f"{len(plan.writes)} rows differ from the snapshot"
        yield _finding(PROBLEM, "rows", message, remedy)
    elif source.rows:
        yield _finding(OK, "rows", "match the snapshot")
    else:
        yield _finding(SKIPPED, "rows", "disabled for this source")


def _check_webhook(operator: Operator, source: Source) -> Iterator[Finding]:
    name = source.name
    if not providers.get(source.provider).methods:
        return
    remedy = f"repeat the interrupted `storesync source add {name} --replace`"
    stored = parameters.read(operator, name)
    if not stored.webhooks:
        yield _finding(PROBLEM, "webhook", "its parameter is missing", remedy)
        return
    webhook = stored.webhook(operator.deployment.prefix)
    if webhook.provider != source.provider:
        message = f"its parameter is for {webhook.provider}, the source for {source.provider}"
        yield _finding(PROBLEM, "webhook", message, remedy)
    elif name not in webhook.sources:
        message = f"webhook {webhook.name!r} does not name this source"
        yield _finding(PROBLEM, "webhook", message, remedy)
    elif unknown := sorted(webhook.sources.keys() - {*operator.sources.names()}):
        message = f"webhook {webhook.name!r} names sources that do not exist: {', '.join(unknown)}"
        yield _finding(PROBLEM, "webhook", message, "add them, or remove them from its parameter")
    elif list(webhook.sources) == [webhook.name]:
        yield _finding(OK, "webhook", "its parameter is complete")
    else:
        message = f"{webhook.name!r} is complete, and covers {', '.join(webhook.sources)}"
        yield _finding(OK, "webhook", message)
