"""The command that looks at everything: doctor."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from storesync.cli import checks
from storesync.cli.app import command, storesync
from storesync.cli.checks import PROBLEM, SKIPPED, WARNING, Finding, guarded
from storesync.cli.options import secret_option
from storesync.cli.problems import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storesync.cli.context import Operator
    from storesync.model import Source

_COLORS = {PROBLEM: "red", WARNING: "yellow", SKIPPED: "bright_black"}


@command(storesync, "doctor")
@click.argument("names", metavar="[SOURCE]...", nargs=-1)
@click.option(
    "--probe/--no-probe",
    default=True,
    show_default=True,
    help="Send a signed webhook that requests no sync.",
)
@secret_option(
    "--admin-token-file", "token", "File with an admin token: look for the webhook at the provider."
)
@click.option(
    "--api-url", default="", metavar="URL", help="Address of that API: the token goes nowhere else."
)
def doctor(
    operator: Operator, *, names: tuple[str, ...], probe: bool, token: str, api_url: str
) -> int:
    """Check everything, and say what to do.

    From credentials and clock to the last row. Changes nothing. Exits with 10 if there is a
    warning or a problem.
    """
    operator.deployment  # noqa: B018 - without one there is nothing to look at
    found: dict[str, list[Finding]] = {"": []}
    for check, work in (
        ("credentials", checks.credentials),
        ("table", checks.table),
        ("queue", checks.queues),
    ):
        operator.screen.progress(f"looking at {check}")
        found[""] += guarded(check, partial(work, operator))
    for name in operator.names(names):
        found[name] = _source(operator, name, probe=probe, token=token, api=api_url)
    data: dict[str, Any] = {
        "deployment": [finding.to_json() for finding in found.pop("")],
        "sources": {name: [each.to_json() for each in those] for name, those in found.items()},
    }
    operator.screen.result(data, _lines(operator, data))
    every = [*data["deployment"], *(each for those in data["sources"].values() for each in those)]
    bad = any(each["level"] in {WARNING, PROBLEM} for each in every)
    return Exit.FINDINGS if bad else Exit.OK


def _source(operator: Operator, name: str, *, probe: bool, token: str, api: str) -> list[Finding]:
    found: list[Finding] = []
    made: list[Source] = []

    def configured() -> Iterator[Finding]:
        made.append(operator.source(name))
        yield Finding(checks.OK, "parameters", "complete")

    operator.screen.progress(f"looking at {name}")
    found += guarded("parameters", configured, name)
    for source in made:
        for check, work in (
            ("provider", partial(checks.of_provider, operator, source)),
            ("sync", partial(checks.of_state, operator, source)),
            ("store", partial(checks.of_store, operator, source)),
            ("webhook", partial(checks.of_webhook, operator, source, probe=probe)),
            ("registration", partial(checks.of_registration, operator, source, token, api)),
        ):
            operator.screen.progress(f"looking at {name}: {check}")
            found += guarded(check, work, name)
    return found


def _lines(operator: Operator, data: dict[str, Any]) -> Iterator[str]:
    groups = {operator.deployment.name: data["deployment"]} | {
        f"source {name}": those for name, those in data["sources"].items()
    }
    for title, those in groups.items():
        yield title
        for each in those:
            level = click.style(each["level"].ljust(8), fg=_COLORS.get(each["level"], "green"))
            yield f"  {level} {each['check']}: {each['what']}"
            if each.get("remedy"):
                yield f"           do: {each['remedy']}"
