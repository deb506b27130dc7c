"""Commands that roll back and hold: rollback, unpin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from storesync.cli import differences
from storesync.cli.app import command, storesync
from storesync.cli.change import report_json
from storesync.cli.preview import published
from storesync.cli.screen import seconds_of, span
from storesync.cli.status import pin_text
from storesync.maintenance import FOREVER_MS, kept_version, roll_back
from storesync.maintenance import unpin as end_pin
from storesync.model import Changes

if TYPE_CHECKING:
    from storesync.cli.context import Operator
    from storesync.model import Source

FOREVER = "forever"


def _pin(_context: click.Context, _option: click.Parameter, text: str) -> float | None:
    """Return seconds; None for a pin without an end."""
    if text == FOREVER:
        return None
    try:
        return seconds_of(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or {FOREVER}") from None


@command(storesync, "rollback")
@click.argument("name", metavar="SOURCE")
@click.option(
    "--to", type=int, required=True, metavar="VERSION", help="Which one, as history shows it."
)
@click.option(
    "--for",
    "pin_s",
    default="1h",
    show_default=True,
    callback=_pin,
    metavar="TIME",
    help="How long the pin holds: 30m, 1h, 2d, or forever.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rollback(operator: Operator, *, name: str, to: int, pin_s: float | None, yes: bool) -> None:
    """Publish an old version again, and pin it.

    While the pin holds nothing new gets through, kill switches neither. At the pin's end, or with
    unpin, the next check brings what the provider has then.
    """
    source = operator.source(name)
    changes = _before(operator, source, to)
    held = "until you unpin it" if pin_s is None else f"for {span(pin_s)}"
    question = f"roll {name} back to {to}, and hold back everything new {held}?"
    operator.screen.confirm(question, yes=yes)
    operator.screen.progress("rolling back")
    until = FOREVER_MS if pin_s is None else operator.now_ms() + int(1000 * pin_s)
    report = roll_back(
        source,
        operator.open(source),
        operator.clock,
        to=to,
        pinned_until=until,
        replicas=operator.deployment.replicas,
    )
    data = report_json(report) | {"to": to, "pinned_until": until}
    lines = [
        f"{name} is back at version {to}, published as {report.token}: "
        + differences.summary(changes),
        f"{pin_text(until, operator.now_ms())}; `storesync unpin {name}` ends it",
    ]
    if report.rows_error:
        lines.append(f"the rows still show the set before: {report.rows_error}; roll back again")
    operator.screen.result(data, lines)


def _before(operator: Operator, source: Source, to: int) -> Changes:
    """Show what a rollback would change, and return it."""
    store = operator.open(source)
    state = store.state(source.name)
    kept = kept_version(source.name, store, state, to)
    current = published(source, store, state)
    if current is None:
        operator.screen.say("what is published now is damaged, and cannot be compared")
        return Changes()
    changes = Changes.between(current, kept)
    for line in differences.lines(current, kept, changes):
        operator.screen.say(line)
    return changes


@command(storesync, "unpin")
@click.argument("name", metavar="SOURCE")
def unpin(operator: Operator, *, name: str) -> None:
    """End a pin and publish what the provider has."""
    source = operator.source(name)
    was_pinned = end_pin(name, operator.open(source), operator.clock)
    requested = operator.request(name) if was_pinned else False
    text = (
        f"{name} was not pinned"
        if not was_pinned
        else f"{name} is no longer pinned; a sync is requested"
        if requested
        else f"{name} is no longer pinned; `storesync sync {name}` publishes what is new"
    )
    operator.screen.result(
        {"source": name, "was_pinned": was_pinned, "requested": requested}, [text]
    )
