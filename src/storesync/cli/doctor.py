"""The doctor command: check a deployment and its sources, and show how to fix what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from flagstore import keys
from storesync import providers, rows
from storesync.cli import parameters
from storesync.cli.app import command, secret_option, storesync
from storesync.cli.errors import Exit, to_error
from storesync.cli.inspect import problems
from storesync.cli.screen import duration
from storesync.cli.webhooks import REGISTERS, UNLEASH_EVENTS, Registrar, api_url
from storesync.errors import CorruptStoreError
from storesync.pipeline import MARGIN_MS
from storesync.published import PublishedReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from storesync.cli.context import Operator
    from storesync.model import Source

OK, WARNING, PROBLEM, SKIPPED = "ok", "warning", "problem", "skipped"
_COLORS = {OK: "green", WARNING: "yellow", PROBLEM: "red", SKIPPED: "bright_black"}
KEYS = {"namespace": "HASH", "key": "RANGE"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    level: str
    check: str
    message: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the finding as ``--json`` prints it."""
        found = {"level": self.level, "check": self.check, "message": self.message}
        return found | ({"remedy": self.remedy} if self.remedy else {})


@command(storesync, "doctor")
@click.argument("names", metavar="[SOURCE]...", nargs=-1)
@secret_option(
    "--admin-token-file", "token", "File with an admin token: check the webhook at the provider."
)
@click.option(
    "--api-url", "api", default="", metavar="URL", help="Address of its API, for that token."
)
def doctor(operator: Operator, *, names: tuple[str, ...], token: str, api: str) -> int:
    """Find problems and how to fix them.

    Checks credentials, clock, table, queues, parameters, keys and every published row. Changes
    nothing. Exits with 10 if there is a warning or a problem.
    """
    title = operator.deployment.name
    checks = {"credentials": check_credentials, "table": check_table, "queue": check_queues}
    found = {
        title: [
            finding
            for check, work in checks.items()
            for finding in _run(check, partial(work, operator), "SOURCE")
        ]
    }
    for name in operator.names(names):
        found[f"source {name}"] = _source(operator, name, token, api)
    data = {
        "deployment": [each.to_json() for each in found[title]],
        "sources": {
            group.removeprefix("source "): [each.to_json() for each in findings]
            for group, findings in found.items()
            if group != title
        },
    }
    operator.screen.result(data, _lines(found))
    levels = {each.level for findings in found.values() for each in findings}
    return Exit.FINDINGS if levels & {WARNING, PROBLEM} else Exit.OK


def _source(operator: Operator, name: str, token: str, api: str) -> list[Finding]:
    made: list[Source] = []

    def configured() -> Iterator[Finding]:
        made.append(operator.source(name))
        yield Finding(OK, "parameters", "complete")

    found = _run("parameters", configured, name)
    for source in made:
        for check, work in (
            ("provider", partial(check_provider, operator, source)),
            ("sync", partial(check_state, operator, source)),
            ("store", partial(check_store, operator, source)),
            ("webhook", partial(check_webhook, operator, source, token, api)),
        ):
            found += _run(check, work, name)
    return found


def _run(check: str, work: Callable[[], Iterable[Finding]], source: str) -> list[Finding]:
    """Run one check; an error is a finding, too."""
    try:
        return list(work())
    except Exception as error:
        known = to_error(error)
        if known is None:
            raise
        return [Finding(PROBLEM, check, known.message, known.about(source).remedy)]


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
    yield Finding(OK, "credentials", f"{response['Arn']}")
    date = response["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not date:
        yield Finding(SKIPPED, "clock", "the response from AWS has no date")
        return
    # The header has whole seconds, so half of one is added.
    skew = operator.clock.now() - parsedate_to_datetime(date).timestamp() - 0.5
    if abs(skew) * 1000 > MARGIN_MS:
        message = f"this machine's clock is {duration(abs(skew))} {'fast' if skew > 0 else 'slow'}"
        remedy = "synchronize it (NTP): sync requests and pins carry its time"
        yield Finding(WARNING, "clock", message, remedy)
    else:
        yield Finding(OK, "clock", "agrees with AWS")


def check_table(operator: Operator) -> Iterator[Finding]:
    """Check the table's keys and its TTL."""
    name, dynamodb = operator.deployment.table, operator.aws("dynamodb")
    found = dynamodb.describe_table(TableName=name)["Table"]
    key_types = {key["AttributeName"]: key["KeyType"] for key in found["KeySchema"]}
    if key_types != KEYS:
        message = f"{name} has the keys {', '.join(key_types)}"
        yield Finding(PROBLEM, "table", message, "not flagstore's table: check FLAGSTORE_TABLE")
        return
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
    size = len(stored.record.body) if stored.record else 0
    message = f"snapshot record and body match their digests ({size} bytes)"
    yield Finding(OK, "store", message)
    for number in range(1, operator.deployment.replicas):
        record = store.read(keys.snapshot_key(name, number)) or {}
        if record.get("token") != state.published:
            message = f"replica {number} of the snapshot record differs"
            yield Finding(PROBLEM, "store", message, remedy)
    plan = rows.plan(source, stored, None, store.scan, state.published)
    if plan.writes:
        message = f"{len(plan.writes)} rows differ from the snapshot"
        yield Finding(PROBLEM, "rows", message, remedy)
    elif source.rows:
        yield Finding(OK, "rows", "match the snapshot")
    else:
        yield Finding(SKIPPED, "rows", "disabled for this source")


def check_webhook(operator: Operator, source: Source, token: str, api: str) -> Iterator[Finding]:
    """Check the webhook's parameter, and with an admin token the webhook at the provider."""
    check, name = "webhook", source.name
    if not providers.get(source.provider).methods:
        return
    webhook = parameters.read(operator, name).webhook(operator.deployment.prefix, name)
    if webhook.provider != source.provider:
        message = f"its parameter is for {webhook.provider}, the source for {source.provider}"
        remedy = f"repeat the interrupted `storesync source add {name} --replace`"
        yield Finding(PROBLEM, check, message, remedy)
        return
    if not token or source.provider not in REGISTERS:
        message = "its parameter is complete"
        if source.provider in REGISTERS:
            message += "; to check it at the provider, add --admin-token-file and --api-url"
        yield Finding(OK, check, message)
        return
    known = api_url(source.provider, source.base_url)
    if not api:
        message = "not checked: an admin token is only sent to an address given in this command"
        yield Finding(WARNING, check, message, f"add --api-url {known or 'URL'}")
        return
    if known and known != api.rstrip("/"):
        yield Finding(SKIPPED, check, f"not checked: the API of this source is {known}")
        return
    there = Registrar(api, token).find(operator.deployment.require("webhook_base_url"), webhook)
    add = f"storesync source add {name} --replace --register"
    remedy = f"`{add} --admin-token-file FILE --api-url {api}`"
    if there is None:
        message = f"{source.provider} has no webhook for this deployment"
        yield Finding(PROBLEM, check, message, remedy)
    elif not there.get("enabled", there.get("on", False)):
        yield Finding(PROBLEM, check, "disabled at the provider", remedy)
    elif missing := _missing_events(there):
        message = f"does not cover {', '.join(missing[:5])}"
        yield Finding(WARNING, check, message, remedy)
    else:
        yield Finding(OK, check, "enabled at the provider")


def _missing_events(there: dict[str, Any]) -> list[str]:
    """Return the events that Unleash's webhook lacks, or the resources of LaunchDarkly's policy."""
    if "events" in there:
        return sorted(set(UNLEASH_EVENTS) - set(there["events"]))
    kinds = {"segment/": "segments", "aiconfig/": "AI Configs"}
    statements = str(there.get("statements", list(kinds)))
    return [title for kind, title in kinds.items() if kind not in statements]
