"""The content of the ui command's page: the output of other commands, as JSON and as text."""

from __future__ import annotations

import json
from difflib import unified_diff
from typing import TYPE_CHECKING, Any

import click

from storesync.cli import inspect, usage
from storesync.cli.screen import CommandError, Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from storesync.cli.app import Operator

    type Given = Mapping[str, Any]
    type Shown = dict[str, Any]
    """Texts for the page, formatted as for the terminal."""
    type View = Callable[[Operator, Given], tuple[Any, Shown]]
    """Returns the document that a command prints with ``--json``, and its texts."""


def _sources(operator: Operator, _: Given) -> tuple[Any, Shown]:
    data = {"deployment": operator.deployment.name, "sources": operator.names(())}
    return data, {"headers": inspect.STATUS}


def _queues(operator: Operator, _: Given) -> tuple[Any, Shown]:
    depths = inspect.queues(operator)
    return depths, {"notes": list(inspect.queue_lines(depths))}


def _status(operator: Operator, given: Given) -> tuple[Any, Shown]:
    (name,) = operator.names((_text(given, "source"),))
    data = inspect.status_of(operator, name)
    notes = list(inspect.status_notes(data, operator.now_ms()))
    return data, {"row": inspect.status_row(data), "notes": notes}


def _flags(operator: Operator, given: Given) -> tuple[Any, Shown]:
    source = operator.source(_text(given, "source"))
    return {
        "source": source.name,
        "flags": operator.reader(source).snapshot().keys_of_versions(),
    }, {}


def _flag(operator: Operator, given: Given) -> tuple[Any, Shown]:
    return _flag_for(operator, given, None)


def _evaluated(operator: Operator, given: Given) -> tuple[Any, Shown]:
    context = inspect.context_argument(str(given.get("context", "")))
    data, shown = _flag_for(operator, given, context)
    return data, shown | {"value": _json(data["detail"]["value"])}


def _flag_for(
    operator: Operator, given: Given, context: dict[str, Any] | None
) -> tuple[Any, Shown]:
    name, key = _text(given, "source"), _text(given, "key")
    data = inspect.flag_of(operator, name, key, inspect.FLAGS, context)
    return data, {"item": _json(data["item"]), "origin": inspect.origin_line(data["origin"])}


def _history(operator: Operator, given: Given) -> tuple[Any, Shown]:
    data = inspect.history_of(operator, _text(given, "source"))
    notes = inspect.history_notes(data, operator.now_ms())
    rows = inspect.history_rows(data)
    return data, {"headers": inspect.HISTORY, "rows": rows, "notes": notes}


def _diff(operator: Operator, given: Given) -> tuple[Any, Shown]:
    """Compare a version in the history with another, or with the published one."""
    old, new = _number(given, "from"), _number(given, "to") if "to" in given else None
    data, changes = inspect.compared(operator, _text(given, "source"), old, new)
    lines = {name: _changed_lines(**both) for name, both in data["changed"].items()}
    return data, {"summary": inspect.summary(changes), "changed": lines}


def _usage(operator: Operator, given: Given) -> tuple[Any, Shown]:
    days = int(usage.DAYS(_text(given, "days")))
    data, snapshot = usage.usage_of(operator, _text(given, "source"), days)
    now_s = operator.now_ms() // 1000
    rows = usage.usage_rows(data, snapshot, now_s)
    return data, {"headers": usage.USAGE, "rows": rows, "note": usage.usage_note(data, now_s)}


VIEWS: dict[str, View] = {
    "GET /api/sources": _sources,
    "GET /api/queues": _queues,
    "GET /api/status": _status,
    "GET /api/flags": _flags,
    "GET /api/flag": _flag,
    "POST /api/evaluate": _evaluated,  # a context may be personal data: not in an address
    "GET /api/history": _history,
    "GET /api/diff": _diff,
    "GET /api/usage": _usage,
}


def _text(given: Given, name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise CommandError(Exit.USAGE, f"{name} is missing")
    return value


def _number(given: Given, name: str) -> int:
    return int(click.INT(_text(given, name)))


def _json(value: object) -> str:
    """Format JSON here, since a browser would round large numbers."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _changed_lines(before: object, after: object) -> list[str]:
    """Return the lines that differ, each with its sign, and three lines around them."""
    old, new = _json(before).splitlines(), _json(after).splitlines()
    return list(unified_diff(old, new, lineterm=""))[2:]
