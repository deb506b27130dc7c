"""Commands that only look: get, history, diff."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from flagstore import keys
from storesync.cli import differences, preview
from storesync.cli.app import command, storesync
from storesync.cli.problems import Exit, Problem
from storesync.cli.screen import moment, short, span, table
from storesync.cli.status import pin_text
from storesync.maintenance import kept_version
from storesync.model import Changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagstore.flags import Detail
    from flagstore.keys import SourceState
    from flagstore.snapshot import Info
    from storesync.cli.context import Operator
    from storesync.model import FlagSet, Source
    from storesync.store import Store


FLAGS = "flags"


# -- get ------------------------------------------------------------------------------------------


def _context(
    _context: click.Context, _option: click.Parameter, text: str | None
) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        message = """write it as JSON, such as '{"key": "ada"}'"""
        raise click.BadParameter(message)
    return found


@command(storesync, "get")
@click.argument("name", metavar="SOURCE")
@click.argument("flag", metavar="FLAG")
@click.option(
    "--section", default=FLAGS, show_default=True, help="Kind of item: flags, segments, …"
)
@click.option(
    "--context", callback=_context, metavar="JSON", help="Evaluate the flag for this context, too."
)
def get(
    operator: Operator, *, name: str, flag: str, section: str, context: dict[str, Any] | None
) -> None:
    """Show a flag as readers get it, and where it comes from.

    With --context, such as '{"key": "ada"}', also its value for that context, and why.
    """
    if context is not None and section != FLAGS:
        what = f"--context evaluates flags, and --section {section} has none"
        raise Problem(Exit.USAGE, what, "leave out one of them")
    source = operator.source(name)
    flags = operator.reader(source)
    item = flags.snapshot().item(section, flag)
    info = flags.info()
    origin = _origin(source, info)
    data = {"key": flag, "item": item, "origin": origin}
    lines = list(_get_lines(item, origin, info))
    if context is not None:
        detail = flags.detail(flag, context)
        data["detail"] = detail._asdict()
        lines += _detail_lines(detail)
    operator.screen.result(data, lines)


def _detail_lines(detail: Detail) -> Iterator[str]:
    value = json.dumps(detail.value, ensure_ascii=False)
    yield f"value: {value}, enabled: {json.dumps(detail.enabled)}, variant: {detail.variant}"
    why = [detail.reason, detail.rule, detail.error]
    yield f"why: {', '.join(word for word in why if word)}"


def _origin(source: Source, info: Info) -> dict[str, Any]:
    return {
        "source": info.source,
        "provider": info.provider,
        "store": source.store,
        "token": info.token,
        "digest": info.digest,
        "published_at": int(info.published_at * 1000),
        "checked_at": int(info.checked_at * 1000),
        "age_s": info.age_s,
    }


def _get_lines(item: Any, origin: dict[str, Any], info: Info) -> Iterator[str]:  # noqa: ANN401 - JSON
    yield json.dumps(item, indent=2, ensure_ascii=False)
    yield (
        f"from {origin['source']} ({origin['provider']} in {origin['store']}), version "
        f"{info.token} of {moment(origin['published_at'])}, checked {span(info.age_s)} ago"
    )


# -- history --------------------------------------------------------------------------------------


@command(storesync, "history")
@click.argument("name", metavar="SOURCE")
def history(operator: Operator, *, name: str) -> None:
    """List the versions that are kept.

    The newest comes first; each can be rolled back to.
    """
    source = operator.source(name)
    store = operator.open(source)
    state = store.state(name)
    operator.screen.progress("reading the history")
    found = [_version(store, name, version.token, state) for version in reversed(state.versions())]
    now = operator.now_ms()
    pinned = state.pinned if state.is_pinned(now) else None
    data = {"source": name, "versions": found, "pinned_until": pinned}
    operator.screen.result(data, _history_lines(found, state, now))


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


def _history_lines(found: list[dict[str, Any]], state: SourceState, now: int) -> Iterator[str]:
    if not found:
        yield "nothing has been published yet"
        return
    headers = ("VERSION", "PUBLISHED", "FLAGS", "ADDED", "CHANGED", "REMOVED", "DIGEST", "")
    lines = []
    for each in found:
        counts = each["changes"].get("counts", {})
        marks = [word for word in ("current", "allowed") if each[word]]
        lines.append(
            (
                each["token"],
                moment(int(each["published_at"])) if each["published_at"] else "?",
                each["counts"].get("flags", ""),
                *(counts.get(word, "") for word in ("added", "changed", "removed")),
                short(each["digest"]),
                ", ".join(marks),
            )
        )
    yield from table(headers, lines)
    if state.is_pinned(now):
        yield pin_text(state.pinned, now)


# -- diff -----------------------------------------------------------------------------------------


@command(storesync, "diff")
@click.argument("name", metavar="SOURCE")
@click.option(
    "--from",
    "old",
    type=int,
    metavar="VERSION",
    help="Old version; what is published, if not said.",
)
@click.option(
    "--to", "new", type=int, metavar="VERSION", help="New one; what the provider has, if not said."
)
@click.option("--exit-code", is_flag=True, help="Exit with 10 if there is a difference.")
def diff(
    operator: Operator, *, name: str, old: int | None, new: int | None, exit_code: bool
) -> int:
    """Compare what is published with the provider, or two versions.

    Field by field: added, removed, changed. With --from alone: that version with what is published.
    """
    source = operator.source(name)
    store = operator.open(source)
    state = store.state(name)
    if old is not None and new is None:
        new = state.published
    before = _set(source, store, state, state.published if old is None else old)
    after = preview.fetch(operator, source) if new is None else _set(source, store, state, new)
    operator.screen.progress("comparing")
    changes = Changes.between(before, after)
    data = {
        "source": name,
        "from": old or state.published,
        "to": "provider" if new is None else new,
        **differences.to_json(before, after, changes),
    }
    operator.screen.result(data, differences.lines(before, after, changes))
    return Exit.FINDINGS if exit_code and changes else Exit.OK


def _set(source: Source, store: Store, state: SourceState, token: int) -> FlagSet:
    if not state.published:
        what, remedy = f"nothing is published for {source.name!r}", "`storesync sync` publishes"
        raise Problem(Exit.NOT_FOUND, what, remedy)
    return kept_version(source.name, store, state, token)
