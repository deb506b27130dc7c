"""Commands that change nothing: status, get, history, diff."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from flagstore import keys
from storesync.cli.app import command, source_argument, sources_argument, storesync
from storesync.cli.screen import CommandError, Exit, duration, short, table, timestamp, to_error
from storesync.maintenance import FOREVER_MS, kept_version
from storesync.model import DEPLOYMENT, Changes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flagstore.keys import SourceState
    from storesync.cli.app import Operator
    from storesync.store import Store

DEAD = {
    "dlq": "sync requests that failed every time; see SyncFunction's log",
    "usage_dlq": "usage that could not be reported; see UsageFunction's log",
}
"""Dead-letter queue → what its messages are."""
FLAGS = "flags"
CHANGES = ("added", "changed", "removed")
STATUS = ("SOURCE", "PROVIDER", "STORE", "CHECKED", "FLAGS", "SEGMENTS", "VERSION", "STATE")
HISTORY = ("VERSION", "PUBLISHED", "FLAGS", "ADDED", "CHANGED", "REMOVED", "DIGEST", "")


# -- status ---------------------------------------------------------------------------------------


@command(storesync, "status")
@sources_argument
@click.option("--check", is_flag=True, help="Exit with 10 if anything needs attention.")
def status(operator: Operator, *, names: tuple[str, ...], check: bool) -> int:
    """Show the state of sources and queues.

    Shows each source's age, published version, failures, refusals and pins.
    """
    found = [status_of(operator, name) for name in operator.names(names)]
    depths = queues(operator)
    data = {"deployment": operator.deployment.name, "sources": found, **depths}
    operator.screen.result(data, _status_lines(found, depths, operator.now_ms()))
    dead = (depths.get(name, {}) for name in DEAD)
    bad = any(each["problems"] for each in found) or any(any(each.values()) for each in dead)
    return Exit.FINDINGS if check and bad else Exit.OK


def status_of(operator: Operator, name: str) -> dict[str, Any]:
    """Return the state of a source; if it cannot be read, why, and the remedy.

    A missing permission is raised, since it concerns all sources.
    """
    try:
        source, store, state = operator.look_up(name)
        snapshot_record = store.read(keys.snapshot_key(name)) or {}
    except Exception as error:  # the other sources are still shown
        known = to_error(error, name)
        if known.code is Exit.DENIED:
            raise
        remedy = {"remedy": known.remedy} if known.remedy else {}
        return {"source": name, "problems": [known.message], "state": "unreadable", **remedy}
    now = operator.now_ms()
    counts = json.loads(str(snapshot_record.get("counts", "{}"))) if state.published else {}
    found = list(problems(name, state, now, operator.deployment.reconcile_minutes))
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
        "pinned_until": state.pinned if state.pinned > now else None,
        "refused": state.refused or None,
        "error": _last_error(state),
        "rows_behind": state.rows_version != state.published,
        "deployment": _deployment(state),
        "problems": [text for _, text in found],
        "state": found[0][0] if found else "ok",
    }


def _last_error(state: SourceState) -> dict[str, Any] | None:
    """Return the last failed check: ``at`` (milliseconds), ``reason`` and ``text``."""
    names = ("at", "reason", "text")
    return dict(zip(names, json.loads(state.error), strict=True)) if state.error else None


def _deployment(state: SourceState) -> dict[str, Any] | None:
    """Return the gradual deployment in progress, as AppConfig confirmed it last."""
    if not state.deployment:
        return None
    from flagstore.rollout import Progress  # noqa: PLC0415 - only AppConfig has them

    found = Progress.parse(state.deployment)
    return found._asdict() if found.number else None


def _deployment_line(each: Mapping[str, Any], now: int) -> str:
    """Describe it in a sentence."""
    found = f"deployment {each['number']} is {each['state'].lower()}, at {each['percentage']:g}%"
    if not each["next_at"]:
        return found
    in_s = max(0.0, (each["next_at"] - now) / 1000)
    return f"{found}; {each['next_percentage']:g}% expected in {duration(in_s)}"


def pin_text(pinned: int, now: int) -> str:
    """Describe how long a pin lasts."""
    if pinned >= FOREVER_MS:
        return "pinned until it is unpinned"
    return f"pinned until {timestamp(pinned)} ({duration((pinned - now) / 1000)} left)"


def problems(
    name: str, state: SourceState, now: int, reconcile_minutes: int
) -> Iterator[tuple[str, str]]:
    """Yield the problems in a source state, each as a word and a sentence."""
    if state.pinned > now:
        text = f"{pin_text(state.pinned, now)}: no changes are published, including kill switches"
        yield "pinned", text
    if state.refused:
        text = f"the guard refused the flag set {short(state.refused)}"
        yield "refused", f"{text}: `storesync allow {name}` shows what would be lost"
    error = _last_error(state)
    if error:
        ago = duration(max(0.0, (now - error["at"]) / 1000))
        yield "failing", f"{ago} ago, {error['reason']}: {error['text']}"
    age_s = (now - state.checked_at) / 1000
    if not state.published:
        text = f"nothing is published yet: run `storesync sync {name}`"
        yield "empty", f"{text}; if that fails, run `storesync doctor {name}`"
    elif age_s > 3 * 60 * reconcile_minutes and state.pinned <= now:  # as FreshnessAlarm
        text = f"not checked for {duration(age_s)}: make sure that the schedule is enabled"
        yield "ok", text
    if state.published and state.rows_version != state.published:
        text = f"the rows do not show version {state.published} yet, so SDKs that read them are"
        yield "ok", f"{text} behind: `storesync sync {name}` reports why"


def queues(operator: Operator) -> dict[str, dict[str, int]]:
    """Return the numbers of messages in the queues that are known, by name."""
    known = operator.deployment
    urls = {"queue": known.queue_url, "dlq": known.dlq_url, "usage_dlq": known.usage_dlq_url}
    return {name: depth(operator, url) for name, url in urls.items() if url}


def depth(operator: Operator, url: str) -> dict[str, int]:
    """Return the numbers of messages in a queue."""
    names = {
        "due": "ApproximateNumberOfMessages",
        "delayed": "ApproximateNumberOfMessagesDelayed",
        "in_flight": "ApproximateNumberOfMessagesNotVisible",
    }
    sqs = operator.aws("sqs")
    response = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names.values()))
    return {shown: int(response["Attributes"][name]) for shown, name in names.items()}


def _status_lines(found: list[dict[str, Any]], depths: dict[str, Any], now: int) -> Iterator[str]:
    if not found:
        yield "no sources yet: add one with `storesync source add NAME --provider PROVIDER`"
    else:
        yield from table(STATUS, [status_row(each) for each in found])
    for each in found:
        yield from (f"{each['source']}: {note}" for note in status_notes(each, now))
    yield from queue_lines(depths)


def status_row(each: dict[str, Any]) -> tuple[object, ...]:
    """Return the cells of a source, below the headers ``STATUS``."""
    age, counts = each.get("age_s"), each.get("counts", {})
    return (
        each["source"],
        each.get("provider", "?"),
        each.get("store", "?"),
        "never" if age is None else f"{duration(age)} ago",
        counts.get(FLAGS, ""),
        sum(counts[name] for name in counts if name not in {FLAGS, *DEPLOYMENT}) if counts else "",
        each.get("published") or "",
        each["state"],
    )


def status_notes(each: Mapping[str, Any], now: int) -> Iterator[str]:
    """Yield what the cells do not show: a gradual deployment, and problems with their remedy."""
    if each.get("deployment"):
        yield _deployment_line(each["deployment"], now)
    yield from each["problems"]
    if each.get("remedy"):
        yield f"fix: {each['remedy']}"


def queue_lines(depths: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield a line per queue."""
    for name, numbers in depths.items():
        counts = ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in numbers.items())
        yield f"{name.replace('_', ' ')}: {counts}" + (
            f": {DEAD[name]}" if name in DEAD and numbers["due"] else ""
        )


# -- get ------------------------------------------------------------------------------------------


def context_argument(text: str) -> dict[str, Any]:
    """Return the context that an operator typed; BadParameter if it is no JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter("""write it as JSON, such as '{"key": "ada"}'""")
    return found


@command(storesync, "get")
@source_argument
@click.argument("flag", metavar="FLAG")
@click.option("--section", default=FLAGS, show_default=True, help="Kind: flags, segments, …")
@click.option(
    "--context", type=context_argument, metavar="JSON", help="Also evaluate it for this context."
)
def get(
    operator: Operator, *, name: str, flag: str, section: str, context: dict[str, Any] | None
) -> None:
    """Show a flag as readers receive it, and its version.

    With --context, such as '{"key": "ada"}', also shows its value for that context and why.
    """
    if context is not None and section != FLAGS:
        raise CommandError(Exit.USAGE, f"--context evaluates flags, not --section {section}")
    data = flag_of(operator, name, flag, section, context)
    lines = [json.dumps(data["item"], indent=2, ensure_ascii=False), origin_line(data["origin"])]
    if "detail" in data:
        lines += _detail_lines(data["detail"])
    operator.screen.result(data, lines)


def flag_of(
    operator: Operator, name: str, flag: str, section: str, context: dict[str, Any] | None
) -> dict[str, Any]:
    """Return a flag as readers receive it, where it is from, and if *context* is given, its value.

    A new reader is used, so nothing is older than this call.
    """
    source = operator.source(name)
    flags = operator.reader(source)
    snapshot = flags.snapshot()
    if section not in snapshot.counts:
        message = f"no section {section!r} in source {name!r}"
        raise CommandError(Exit.NOT_FOUND, message, f"there are {', '.join(snapshot.counts)}")
    detail = None if context is None else flags.detail(flag, context)
    if section == FLAGS:
        section = snapshot.section_of(flag, detail.version if detail else None)
    item = snapshot.item(section, flag)
    info = flags.info()
    origin = {
        "source": info.source,
        "provider": info.provider,
        "store": source.store,
        "token": info.token,
        "digest": info.digest,
        "published_at": int(info.published_at * 1000),
        "checked_at": int(info.checked_at * 1000),
        "age_s": info.age_s,
    }
    data = {"key": flag, "item": item, "origin": origin}
    if detail is not None:
        data["detail"] = detail._asdict()
    return data


def origin_line(origin: Mapping[str, Any]) -> str:
    """Describe where a flag is from, and how fresh it is."""
    place = f"from {origin['source']} ({origin['provider']} in {origin['store']})"
    version = f"version {origin['token']} of {timestamp(origin['published_at'])}"
    return f"{place}, {version}, checked {duration(origin['age_s'])} ago"


def _detail_lines(detail: Mapping[str, Any]) -> list[str]:
    value, enabled = (json.dumps(detail[each], ensure_ascii=False) for each in ("value", "enabled"))
    reasons = (detail[each] for each in ("reason", "rule", "error", "deployment"))
    return [
        f"value: {value}, enabled: {enabled}, variant: {detail['variant']}",
        f"reason: {', '.join(reason for reason in reasons if reason)}",
    ]


# -- history --------------------------------------------------------------------------------------


@command(storesync, "history")
@source_argument
def history(operator: Operator, *, name: str) -> None:
    """List the versions in the history, newest first.

    Each of them can be the target of a rollback.
    """
    data = history_of(operator, name)
    rows = history_rows(data)
    lines = table(HISTORY, rows) if rows else ["nothing is published yet"]
    operator.screen.result(data, [*lines, *history_notes(data, operator.now_ms())])


def history_of(operator: Operator, name: str) -> dict[str, Any]:
    """Return the versions in the history of a source, newest first."""
    _, store, state = operator.look_up(name)
    found = [_version(store, name, version.token, state) for version in reversed(state.versions())]
    pinned = state.pinned if state.pinned > operator.now_ms() else None
    return {"source": name, "versions": found, "pinned_until": pinned}


def _version(store: Store, name: str, token: int, state: SourceState) -> dict[str, Any]:
    record = store.read(keys.history_key(name, token)) or {}
    return {
        "token": token,
        "published_at": record.get("published_at"),
        "provider": record.get("provider"),
        "digest": record.get("digest", ""),
        "counts": json.loads(str(record.get("counts", "{}"))),
        "changes": json.loads(str(record.get("changes", "{}"))),
        "current": token == state.published,
        "allowed": token == state.allowed,
    }


def history_rows(data: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """Return the cells of each version, below the headers ``HISTORY``."""
    return [
        (
            each["token"],
            timestamp(int(each["published_at"])) if each["published_at"] else "?",
            each["counts"].get(FLAGS, ""),
            *(each["changes"].get("counts", {}).get(word, "") for word in CHANGES),
            short(each["digest"]),
            ", ".join(word for word in ("current", "allowed") if each[word]),
        )
        for each in data["versions"]
    ]


def history_notes(data: Mapping[str, Any], now: int) -> list[str]:
    """Return what the cells do not show: a pin."""
    return [pin_text(data["pinned_until"], now)] if data["pinned_until"] else []


# -- diff -----------------------------------------------------------------------------------------


@command(storesync, "diff")
@source_argument
@click.option("--from", "old", type=int, metavar="VERSION", help="Old version; default: current.")
@click.option(
    "--to",
    "new",
    type=int,
    metavar="VERSION",
    help="New version; default: the provider's flags, or with --from the published version.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 10 if there is a difference.")
def diff(
    operator: Operator, *, name: str, old: int | None, new: int | None, exit_code: bool
) -> int:
    """Compare published flags with the provider's, or two versions.

    Lists what was added, removed and changed, with both versions of a changed item. With --from
    alone, compares that version with the published one.
    """
    data, changes = compared(operator, name, old, new)
    lines = [*change_lines(changes, data["changed"]), summary(changes)]
    operator.screen.result(data, lines)
    return Exit.FINDINGS if exit_code and changes else Exit.OK


def compared(
    operator: Operator, name: str, old: int | None, new: int | None
) -> tuple[dict[str, Any], Changes]:
    """Compare two versions of a source; without any, the published one with the provider's flags.

    A version that is None is the published one.
    """
    source, store, state = operator.look_up(name)
    if not state.published:
        remedy = f"publish it with `storesync sync {name}`"
        raise CommandError(Exit.NOT_FOUND, f"nothing is published for {name!r}", remedy)
    from_provider = old is None and new is None
    old, new = old or state.published, new or state.published
    before = kept_version(name, store, state, old)
    after = operator.fetch(source) if from_provider else kept_version(name, store, state, new)
    changes = Changes.between(before, after)
    both = {
        "/".join(place): {"before": before.item(*place), "after": after.item(*place)}
        for place in changes.changed
    }
    data = {
        "source": name,
        "from": old,
        "to": "provider" if from_provider else new,
        **changes.lists(),
        "changed": both,
    }
    return data, changes


def change_lines(
    changes: Changes, both: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[str]:
    """Yield a line per item (``+`` added, ``-`` removed, ``~`` changed), with *both* versions."""
    lists = changes.lists()
    for sign, word in (("+", "added"), ("-", "removed"), ("~", "changed")):
        for name in lists[word]:
            yield f"{sign} {name}"
            for side, item in (both or {}).get(name, {}).items():
                yield f"    {side}: {json.dumps(item, ensure_ascii=False)}"


def summary(changes: Changes) -> str:
    """Count the differences."""
    return ", ".join(f"{n} {word}" for word, n in changes.counts().items() if n) or "no difference"
