"""Commands that publish: sync, allow."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from storesync.cli import differences
from storesync.cli.app import command, storesync
from storesync.cli.preview import Preview, preview
from storesync.cli.problems import Exit, Problem, judge
from storesync.cli.screen import short, table
from storesync.http import HttpClient
from storesync.model import SyncRequest
from storesync.pipeline import Sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storesync.cli.context import Operator
    from storesync.model import Report

# -- sync -----------------------------------------------------------------------------------------


@command(storesync, "sync")
@click.argument("names", metavar="[SOURCE]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only say what would be published.")
@click.option("--verify", is_flag=True, help="Read back everything, and mend what is damaged.")
@click.option("--remote", is_flag=True, help="Let SyncFunction do it, not this machine.")
def sync(
    operator: Operator, *, names: tuple[str, ...], dry_run: bool, verify: bool, remote: bool
) -> int:
    """Fetch and publish now.

    From this machine, and for all sources unless some are named.
    """
    if dry_run + verify + remote > 1:
        raise Problem(Exit.USAGE, "--dry-run, --verify and --remote exclude each other")
    step = _dry_run if dry_run else _remote if remote else partial(_sync, verify=verify)
    found = []
    code = 0
    for name in operator.names(names):
        try:
            done = step(operator, name)
        except Exception as error:  # one source's trouble must not stop the others
            problem = judge(error)
            if problem is None or problem.code is Exit.DENIED:
                raise
            problem = Problem(problem.code, f"{name}: {problem.what}", problem.remedy).about(name)
            operator.screen.problem(problem)
            done = {"source": name, "outcome": "failed", "error": problem.to_json()}
            code = max(code, problem.code)
        if done["outcome"] in {"pinned", "would be held back by a pin"}:
            code = max(code, Exit.HELD)
        if done["outcome"] == "would be refused":
            code = max(code, Exit.REFUSED)
        found.append(done)
    operator.screen.result({"sources": found}, _sync_lines(found))
    return code


def _sync(
    operator: Operator, name: str, *, allow_shrink: str = "", verify: bool = False
) -> dict[str, Any]:
    source = operator.source(name)
    provider = operator.provider(source)
    operator.screen.progress(f"{name}: fetching from {provider.title}, and publishing")
    work = Sync(
        source,
        provider,
        operator.open(source),
        http=HttpClient(),
        deadline=operator.deadline(),
        replicas=operator.deployment.replicas,
        allow_shrink=allow_shrink,
        verify=verify,
    )
    return report_json(work.run([SyncRequest(name, trigger="manual")]))


def report_json(report: Report) -> dict[str, Any]:
    """Return what ``--json`` prints of a report."""
    return {
        "source": report.source,
        "outcome": report.outcome,
        "token": report.token,
        "digest": report.digest,
        **report.changes.counts(),
        "skipped_rows": list(report.skipped_rows),
        "rows_error": report.rows_error or None,
    }


def _dry_run(operator: Operator, name: str) -> dict[str, Any]:
    found = preview(operator, operator.source(name))
    same = bool(found.stored) and found.digest == found.state.digest
    if found.state.is_pinned(operator.now_ms()):
        outcome = "would be held back by a pin"
    elif same:
        outcome = "unchanged"
    else:
        outcome = "would be refused" if found.refusal else "would be published"
    names = {word: list(names) for word, names in found.changes.lists().items()}
    return {
        "source": name,
        "outcome": outcome,
        "digest": found.digest,
        **found.changes.counts(),
        "names": names,
        "refusal": found.refusal or None,
    }


def _remote(operator: Operator, name: str) -> dict[str, Any]:
    function = operator.deployment.needs("sync_function", "the name of SyncFunction")
    operator.screen.progress(f"{name}: {function} is at it")
    response = operator.aws("lambda").invoke(
        FunctionName=function, Payload=json.dumps({"source": name}).encode()
    )
    done: dict[str, Any] = json.loads(response["Payload"].read())
    if "outcome" not in done or done["outcome"] == "failed":
        text = done.get("error") or done.get("errorMessage") or "no outcome"
        raise Problem(Exit.PROVIDER, f"{function}: {text}", "the log of SyncFunction says more")
    return done


def _sync_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    headers = ("SOURCE", "OUTCOME", "ADDED", "CHANGED", "REMOVED", "VERSION", "DIGEST")
    lines = [
        (
            each["source"],
            each["outcome"],
            each.get("added", ""),
            each.get("changed", ""),
            each.get("removed", ""),
            each.get("token", ""),
            short(each.get("digest", "")),
        )
        for each in found
    ]
    yield from table(headers, lines)
    for each in found:
        yield from _remarks(each)


def _remarks(each: dict[str, Any]) -> Iterator[str]:
    for word, sign in (("added", "+"), ("removed", "-"), ("changed", "~")):
        for name in each.get("names", {}).get(word, ()):
            yield f"{sign} {name}"
    if each.get("refusal"):
        yield f"{each['source']}: the guard would refuse it: {each['refusal']}"
    if each.get("rows_error"):
        yield f"{each['source']}: the rows trail: {each['rows_error']}; the next check does them"
    if each.get("skipped_rows"):
        yield f"{each['source']}: too large for a row: {', '.join(each['skipped_rows'])}"
    if each["outcome"] == "pinned":
        yield f"{each['source']}: `storesync unpin {each['source']}` ends the pin"


# -- allow ----------------------------------------------------------------------------------------


@command(storesync, "allow")
@click.argument("name", metavar="SOURCE")
@click.argument("digest", required=False)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def allow(operator: Operator, *, name: str, digest: str | None, yes: bool) -> None:
    """Publish a set that the guard refused.

    Shows first what would be lost. Allowed is that very set: the one of DIGEST (12 characters or
    more of it), or the one that was refused last. If the provider has another one by now, nothing
    is done.
    """
    found = preview(operator, operator.source(name))
    required = digest or found.state.refused
    if not found.refusal:
        what = f"the guard has nothing against what the provider of {name!r} has now"
        raise Problem(Exit.HELD, what, f"`storesync sync {name}` publishes it")
    if not _is_meant(found.digest, required, exact=not digest):
        expected = short(required) or "refused yet"
        what = f"the provider's set is {short(found.digest)} now, not {expected}"
        remedy = f"`storesync diff {name}` shows it; then name it: allow {name} {found.digest[:12]}"
        raise Problem(Exit.HELD, what, remedy)
    for line in _losses(found):
        operator.screen.say(line)
    operator.screen.confirm(f"publish this set for {name}?", yes=yes)
    done = _sync(operator, name, allow_shrink=found.digest)
    operator.screen.result(done, _sync_lines([done]))
    if done["outcome"] == "pinned":
        raise Problem(Exit.HELD, f"{name!r} is pinned", f"`storesync unpin {name}` first")


def _is_meant(digest: str, required: str, *, exact: bool) -> bool:
    if exact:
        return digest == required
    return len(required) >= len(short(digest)) and digest.startswith(required)


def _losses(found: Preview) -> Iterator[str]:
    yield f"{found.refusal}."
    for name in found.changes.removed:
        yield f"- {name}"
    yield differences.summary(found.changes)
