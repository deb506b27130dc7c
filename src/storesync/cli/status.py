"""The command that shows how the sources are: status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from flagstore import keys
from storesync.cli.app import command, storesync
from storesync.cli.problems import Exit, judge
from storesync.cli.screen import moment, short, span, table
from storesync.maintenance import FOREVER_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.keys import SourceState
    from storesync.cli.context import Operator

STALE_S = 900.0
"""Three times the default of ReconcileMinutes: from then on `status --check` minds."""


@command(storesync, "status")
@click.argument("names", metavar="[SOURCE]...", nargs=-1)
@click.option("--check", is_flag=True, help="Exit with 10 if anything needs a person.")
def status(operator: Operator, *, names: tuple[str, ...], check: bool) -> int:
    """Show how the sources are, and the queues.

    Age, what is published, failures, refusals and pins of each.
    """
    found = [_status(operator, name) for name in operator.names(names)]
    queues = {
        name: _depth(operator, url)
        for name, url in (
            ("queue", operator.deployment.queue_url),
            ("dlq", operator.deployment.dlq_url),
        )
        if url
    }
    data = {"deployment": operator.deployment.name, "sources": found, **queues}
    operator.screen.result(data, _status_lines(found, queues))
    bad = any(each["problems"] for each in found) or any(queues.get("dlq", {}).values())
    return Exit.FINDINGS if check and bad else Exit.OK


def _status(operator: Operator, name: str) -> dict[str, Any]:
    operator.screen.progress(f"looking at {name}")
    try:
        source = operator.source(name)
        store = operator.open(source)
        state = store.state(name)
        snapshot_record = store.read(keys.snapshot_key(name)) or {}
    except Exception as error:  # one source's trouble must not hide the others
        problem = judge(error)
        if problem is None or problem.code is Exit.DENIED:
            raise
        return {"source": name, "problems": [problem.what], "state": "cannot be read"}
    now = operator.now_ms()
    counts = json.loads(str(snapshot_record.get("counts", "{}"))) if state.published else {}
    return {
        "source": name,
        "provider": source.provider,
        "store": source.store,
        "age_s": max(0.0, (now - state.checked_at) / 1000) if state.checked_at else None,
        "token": state.token,
        "published": state.published,
        "published_at": snapshot_record.get("published_at"),
        "digest": state.digest,
        "counts": counts,
        "pinned_until": state.pinned if state.is_pinned(now) else None,
        "refused": state.refused or None,
        "error": _error(state),
        "rows_behind": state.rows_version != state.published,
        "problems": list(problems_of(name, state, now)),
        "state": _state(state, now),
    }


def _error(state: SourceState) -> dict[str, Any] | None:
    if not state.error:
        return None
    at, reason, text = json.loads(state.error)
    return {"at": at, "reason": reason, "text": text}


def _state(state: SourceState, now: int) -> str:
    if state.is_pinned(now):
        return "pinned"
    if state.refused:
        return "refused"
    if state.error:
        return "failing"
    return "ok" if state.published else "empty"


def pin_text(pinned: int, now: int) -> str:
    """Say until when a pin holds."""
    if pinned >= FOREVER_MS:
        return "pinned until somebody unpins it"
    return f"pinned until {moment(pinned)} ({span((pinned - now) / 1000)} left)"


def problems_of(name: str, state: SourceState, now: int) -> Iterator[str]:
    """Say what of a source needs a person, by its source state."""
    if not state.published:
        yield (
            f"nothing is published yet: `storesync sync {name}` does, `storesync doctor {name}` "
            "says why not"
        )
    if state.is_pinned(now):
        yield f"{pin_text(state.pinned, now)}: nothing new gets through, kill switches neither"
    if state.refused:
        yield f"the guard refused the set {short(state.refused)}: `storesync allow {name}` shows it"
    if state.error:
        error = _error(state) or {}
        ago = span(max(0.0, (now - error["at"]) / 1000))
        yield f"{ago} ago, {error['reason']}: {error['text']}"
    if state.published and now - state.checked_at > 1000 * STALE_S and not state.is_pinned(now):
        yield f"not checked for {span((now - state.checked_at) / 1000)}: does the schedule run?"


def _depth(operator: Operator, url: str) -> dict[str, int]:
    operator.screen.progress("looking at the queues")
    response = operator.aws("sqs").get_queue_attributes(
        QueueUrl=url,
        AttributeNames=[
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesNotVisible",
        ],
    )["Attributes"]
    return {
        "due": int(response["ApproximateNumberOfMessages"]),
        "delayed": int(response["ApproximateNumberOfMessagesDelayed"]),
        "in_flight": int(response["ApproximateNumberOfMessagesNotVisible"]),
    }


def _status_lines(found: list[dict[str, Any]], queues: dict[str, Any]) -> Iterator[str]:
    headers = ("SOURCE", "PROVIDER", "STORE", "CHECKED", "FLAGS", "SEGMENTS", "VERSION", "STATE")
    if not found:
        yield "no sources yet: `storesync source add NAME` makes one"
    else:
        yield from table(headers, [_row(each) for each in found])
    for each in found:
        for problem in each["problems"]:
            yield f"{each['source']}: {problem}"
    for name, depth in queues.items():
        told = ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in depth.items())
        remedy = ": sync requests that failed on every try; the log of SyncFunction says why"
        yield f"{name}: {told}" + (remedy if name == "dlq" and depth["due"] else "")


def _row(each: dict[str, Any]) -> tuple[object, ...]:
    age, counts = each.get("age_s"), each.get("counts", {})
    return (
        each["source"],
        each.get("provider", "?"),
        each.get("store", "?"),
        "never" if age is None else f"{span(age)} ago",
        counts.get("flags", ""),
        sum(number for section, number in counts.items() if section != "flags") if counts else "",
        each.get("published") or "",
        each["state"],
    )
