"""Commands that change what is published: sync, allow, rollback, unpin."""

from __future__ import annotations

import json
import re
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from flagstore.encode import content_digest
from storesync import providers
from storesync.cli.app import command, source_argument, sources_argument, storesync
from storesync.cli.inspect import CHANGES, change_lines, pin_text, summary
from storesync.cli.screen import CommandError, Exit, short, table, to_error, without_event
from storesync.http import HttpClient
from storesync.maintenance import FOREVER_MS, kept_version, roll_back
from storesync.maintenance import unpin as end_pin
from storesync.model import Changes, SyncRequest
from storesync.pipeline import Sync
from storesync.published import PublishedReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storesync.cli.app import Operator
    from storesync.model import Report

# -- sync -----------------------------------------------------------------------------------------


@command(storesync, "sync")
@sources_argument
@click.option("--verify", is_flag=True, help="Read everything back, and repair damaged data.")
@click.option("--remote", is_flag=True, help="Invoke SyncFunction instead of syncing from here.")
def sync(operator: Operator, *, names: tuple[str, ...], verify: bool, remote: bool) -> int:
    """Fetch and publish now, from this machine.

    Syncs all sources unless you name some.
    """
    if verify and remote:
        raise CommandError(Exit.USAGE, "--verify and --remote cannot be combined")
    step = _sync_remotely if remote else partial(_sync, verify=verify)
    found = []
    code = 0
    for name in operator.names(names):
        try:
            done = step(operator, name)
        except Exception as error:  # the other sources are still synced
            known = to_error(error, name)
            if known.code is Exit.DENIED:
                raise
            known.message = f"{name}: {known.message}"
            operator.screen.error(known)
            done = {"source": name, "outcome": "failed", "error": known.to_json()}
            code = max(code, known.code)
        if done["outcome"] == "pinned":
            code = max(code, Exit.HELD)
        found.append(done)
    operator.screen.result({"sources": found}, _sync_lines(found))
    return code


def _sync(
    operator: Operator, name: str, *, allow_shrink: str = "", verify: bool = False
) -> dict[str, Any]:
    source = operator.source(name)
    store = operator.open(source)
    work = Sync(
        source,
        providers.get(source.provider),
        store,
        http=HttpClient(),
        deadline=operator.deadline(),
        replicas=operator.replicas(name, store),
        allow_shrink=allow_shrink,
        verify=verify,
        queue_check=partial(_queue_check, operator),
    )
    return _report(work.run([SyncRequest(name, trigger="manual")]))


def _queue_check(operator: Operator, source: str, due: int) -> bool:
    """Queue the next check of a gradual deployment; return whether that succeeded."""
    delay_s = ceil((due - operator.now_ms()) / 1000)
    try:
        return operator.queue(SyncRequest(source, (), due, "followup"), delay_s)
    except (BotoCoreError, ClientError) as error:
        problem = "no further check of a gradual deployment: the schedule will continue"
        operator.screen.note(f"{source}: {problem}: {error}")
        return False


def _report(report: Report) -> dict[str, Any]:
    return {
        "source": report.source,
        "outcome": report.outcome,
        "token": report.token,
        "digest": report.digest,
        **report.changes.counts(),
        "skipped_rows": list(report.skipped_rows),
        "rows_error": report.rows_error or None,
    }


def _sync_remotely(operator: Operator, name: str) -> dict[str, Any]:
    function = operator.deployment.require("FLAGSTORE_SYNC_FUNCTION")
    response = operator.aws("lambda").invoke(
        FunctionName=function, Payload=json.dumps({"source": name}).encode()
    )
    done: dict[str, Any] = json.loads(response["Payload"].read())
    if "outcome" not in done or done["outcome"] == "failed":
        text = done.get("error") or done.get("errorMessage") or "no outcome"
        if without_event(text) != text:  # refused; the store may be out of reach for `allow`
            raise CommandError(Exit.REFUSED, f"{function}: {text}")
        raise CommandError(Exit.PROVIDER, f"{function}: {text}", "see SyncFunction's log")
    return done


def _sync_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    headers = ("SOURCE", "OUTCOME", "ADDED", "CHANGED", "REMOVED", "VERSION", "DIGEST")
    lines = [
        (
            each["source"],
            each["outcome"],
            *(each.get(word, "") for word in CHANGES),
            each.get("token", ""),
            short(each.get("digest", "")),
        )
        for each in found
    ]
    yield from table(headers, lines)
    for each in found:
        name = each["source"]
        if each.get("rows_error"):
            yield f"{name}: the rows are behind: {each['rows_error']}; the next check tries again"
        if each.get("skipped_rows"):
            yield f"{name}: too large for a row: {', '.join(each['skipped_rows'])}"
        if each["outcome"] == "pinned":
            yield f"{name}: to end the pin, run `storesync unpin {name}`"


# -- allow ----------------------------------------------------------------------------------------


@command(storesync, "allow")
@source_argument
@click.argument("digest", required=False)
@click.option("--yes", "-y", is_flag=True, help="Skip the confirmation.")
def allow(operator: Operator, *, name: str, digest: str | None, yes: bool) -> int:
    """Publish a flag set that the guard refused.

    Takes the set that was refused last, or a suspect one by its DIGEST. First shows what would be
    lost. Does nothing if the provider's flags have changed since.
    """
    source, store, state = operator.look_up(name)
    wanted = digest or state.refused
    if not wanted:
        remedy = f"`storesync sync {name}` publishes or refuses the current set"
        raise CommandError(Exit.HELD, f"no refused flag set for {name!r}", remedy)
    new = operator.fetch(source)
    found = content_digest(new.sections, new.meta)
    if not found.startswith(wanted) or len(wanted) < len(short(found)):
        message = f"the provider's flag set is {short(found)}, not {short(wanted)}"
        remedy = f"check `storesync diff {name}`; `storesync sync {name}` publishes or refuses it"
        raise CommandError(Exit.HELD, message, remedy)
    old = PublishedReader(name, store).read(state).flag_set
    # Of a gradual deployment: what its new version changes.
    changes = Changes.between(old and old.versions()[0], new.versions()[-1])
    _note_changes(operator, changes)
    operator.screen.confirm(f"publish this flag set for {name}?", yes=yes)
    done = _sync(operator, name, allow_shrink=found)
    operator.screen.result(done, _sync_lines([done]))
    return Exit.HELD if done["outcome"] == "pinned" else Exit.OK


def _note_changes(operator: Operator, changes: Changes) -> None:
    for line in (*change_lines(changes), summary(changes)):
        operator.screen.note(line)


# -- rollback, unpin ------------------------------------------------------------------------------


def _pin_ms(text: str) -> int:
    if text == "forever":
        return FOREVER_MS
    found = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if not found:
        raise click.BadParameter(f"{text!r} is not a duration: use 30m, 1h, 2d, or forever")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[2]] * 1000


@command(storesync, "rollback")
@source_argument
@click.option("--to", type=int, required=True, metavar="VERSION", help="Version in the history.")
@click.option(
    "--for",
    "pin_ms",
    default="1h",
    show_default=True,
    type=_pin_ms,
    metavar="DURATION",
    help="Duration of the pin: 30m, 1h, 2d, or forever.",
)
@click.option("--yes", "-y", is_flag=True, help="Skip the confirmation.")
def rollback(operator: Operator, *, name: str, to: int, pin_ms: int, yes: bool) -> None:
    """Publish an old version and pin it.

    While pinned, no changes are published, including kill switches. When the pin ends, the next
    check publishes the provider's flags.
    """
    source, store, state = operator.look_up(name)
    kept = kept_version(name, store, state, to)
    current = PublishedReader(name, store).read(state).flag_set
    if current:
        _note_changes(operator, Changes.between(current, kept))
    else:
        operator.screen.note("the published version is damaged and cannot be compared")
    until = min(FOREVER_MS, operator.now_ms() + pin_ms)
    pinned = pin_text(until, operator.now_ms())
    question = f"roll {name} back to {to}, {pinned}, and publish no changes meanwhile?"
    operator.screen.confirm(question, yes=yes)
    store = operator.open(source)
    replicas = operator.replicas(name, store)
    report = roll_back(source, store, operator.clock, to=to, pinned_until=until, replicas=replicas)
    lines = [
        f"{name} is back at version {to}, published as {report.token}: {summary(report.changes)}",
        f"{pinned}; to end the pin, run `storesync unpin {name}`",
    ]
    if report.rows_error:
        lines.append(f"the rows are behind: {report.rows_error}; repeat the rollback")
    operator.screen.result(_report(report) | {"to": to, "pinned_until": until}, lines)


@command(storesync, "unpin")
@source_argument
def unpin(operator: Operator, *, name: str) -> None:
    """End a pin and request a sync."""
    source = operator.source(name)
    was_pinned = end_pin(name, operator.open(source), operator.clock)
    requested = was_pinned and operator.request_sync(name)
    text = f"{name} was not pinned"
    if was_pinned:
        follow = "a sync is requested" if requested else f"publish with `storesync sync {name}`"
        text = f"{name} is no longer pinned; {follow}"
    data = {"source": name, "was_pinned": was_pinned, "requested": requested}
    operator.screen.result(data, [text])
