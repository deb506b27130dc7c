"""The command usage: when each flag was last used, and which are unused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from storesync.cli.app import command, source_argument, storesync
from storesync.cli.screen import duration, table, timestamp
from storesync.usage_records import DAY_S, UsageRecords

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flagstore.snapshot import Snapshot
    from storesync.cli.app import Operator
    from storesync.model import Json

USAGE = ("FLAG", "LAST USED", "VARIANTS")
DAYS = click.IntRange(1, 365)
VALUE_CHARS = 20
"""Of a variation's value, in the table."""


@command(storesync, "usage")
@source_argument
@click.option(
    "--days",
    type=DAYS,
    default=30,
    show_default=True,
    help="Also list the flags that were not used for this many days.",
)
def usage(operator: Operator, *, name: str, days: int) -> None:
    """Show when each flag and variant was last used, to the hour.

    It is based on what functions print, if usage is collected (docs/usage.md).
    """
    data, snapshot = usage_of(operator, name, days)
    now_s = operator.now_ms() // 1000
    lines = [usage_note(data, now_s)]
    if data["since"] is not None:
        unused = ", ".join(data["unused"]) or "none"
        used = table(USAGE, usage_rows(data, snapshot, now_s))
        lines = [*used, f"not used for {days} days: {unused}", *filter(None, lines)]
    operator.screen.result(data, lines)


def usage_of(operator: Operator, name: str, days: int) -> tuple[dict[str, Any], Snapshot]:
    """Return when each flag was last used, which were not for *days*, and the flags themselves."""
    snapshot = operator.reader(operator.source(name)).snapshot()
    aws, deployment = operator.aws("dynamodb"), operator.deployment
    uses = dict(UsageRecords(aws, deployment.table, operator.clock).uses(name))
    now_s = operator.now_ms() // 1000
    flags: list[dict[str, Any]] = []
    for key in snapshot.keys_of_versions():
        use = uses.get(key)
        variants = dict(sorted(use.variants.items())) if use else {}
        flags.append(
            {
                "key": key,
                "last_used": 1000 * use.last if use else None,
                "variants": {variant: 1000 * at for variant, at in variants.items()},
            }
        )
    since = 1000 * min((use.first for use in uses.values()), default=0) or None
    unused = [
        each["key"] for each in flags if (each["last_used"] or 0) < 1000 * (now_s - days * DAY_S)
    ]
    data = {"source": name, "days": days, "since": since, "flags": flags, "unused": unused}
    return data, snapshot


def usage_rows(data: Mapping[str, Any], snapshot: Snapshot, now_s: int) -> list[tuple[object, ...]]:
    """Return the cells of each flag, below the headers ``USAGE``."""

    def item(key: str) -> Any:  # noqa: ANN401 - JSON
        return snapshot.item(snapshot.section_of(key), key)

    return [
        (
            each["key"],
            _ago(each["last_used"], now_s),
            ", ".join(
                f"{_variant(name, item(each['key']))} {_ago(at, now_s)}"
                for name, at in each["variants"].items()
            ),
        )
        for each in data["flags"]
    ]


def usage_note(data: Mapping[str, Any], now_s: int) -> str:
    """Return whether the data suffices to call a flag unused; empty if it does."""
    if data["since"] is None:
        return f"no usage of {data['source']} has been collected; see docs/usage.md"
    if data["since"] > 1000 * (now_s - data["days"] * DAY_S):
        return f"usage is collected only since {timestamp(data['since'])}"
    return ""


def _ago(at_ms: int | None, now_s: int) -> str:
    return "never" if at_ms is None else f"{duration(max(0, now_s - at_ms // 1000))} ago"


def _variant(name: str, flag: Json) -> str:
    """Return a variant's name; with its value for LaunchDarkly, whose variations are numbers."""
    variations = flag.get("variations") if isinstance(flag, dict) else None  # freeform: any JSON
    if not isinstance(variations, list) or not name.isdecimal() or int(name) >= len(variations):
        return name
    value = json.dumps(variations[int(name)], ensure_ascii=False)
    return f"{name} ({value if len(value) <= VALUE_CHARS else value[:VALUE_CHARS] + '…'})"
