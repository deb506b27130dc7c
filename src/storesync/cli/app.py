"""The ``storesync`` command: its groups, and the arguments and options that commands share."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import click

from flagstore.errors import ConfigurationError
from flagstore.keys import check_source
from storesync.cli.context import Operator
from storesync.cli.screen import Exit, Screen, to_error

if TYPE_CHECKING:
    from collections.abc import Callable

    type Body = Callable[..., int | None]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def storesync() -> None:
    """Operate a flagstore deployment: its sources, its published flags and their history.

    --stack (or FLAGSTORE_STACK) names the stack of the deployment. Without it, FLAGSTORE_TABLE,
    FLAGSTORE_PARAMETER_PREFIX and so on describe it, and without those it is the stack
    "flagstore". Options follow the command. See docs/cli.md for examples, exit codes and the AWS
    permissions of each command.

    Start with `storesync source add NAME`, then `storesync status`. If something is wrong,
    `storesync doctor` shows how to fix it.
    """


@storesync.group()
def source() -> None:
    """Add, list and remove sources."""


def command(group: click.Group, name: str) -> Callable[[Body], click.Command]:
    """Turn a function that takes an operator and returns an exit code or None into a command."""

    def make(body: Body) -> click.Command:
        @functools.wraps(body)
        def run(
            *,
            as_json: bool,
            stack: str | None,
            profile: str | None,
            region: str | None,
            **given: Any,  # noqa: ANN401 - options of the command
        ) -> None:
            screen = Screen(as_json=as_json)
            try:
                code = body(Operator(screen, stack, profile, region), **given)
            except (click.Abort, KeyboardInterrupt):
                screen.note("interrupted")
                code = Exit.INTERRUPTED
            except Exception as error:  # noqa: BLE001 - to_error raises bugs again
                known = to_error(error, str(given.get("name", "SOURCE")))
                screen.error(known)
                code = known.code
            sys.exit(code)

        shared = (
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
            click.option(
                "--stack",
                envvar="FLAGSTORE_STACK",
                metavar="NAME",
                help='Stack of the deployment; default: "flagstore".',
            ),
            click.option("--profile", metavar="NAME", help="Profile of your AWS credentials."),
            click.option("--region", metavar="NAME", help="AWS region of the deployment."),
        )
        for option in reversed(shared):
            run = option(run)
        return group.command(name)(run)

    return make


def _source_name(text: str) -> str:
    try:
        check_source(text)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from None
    return text


source_argument = click.argument("name", metavar="SOURCE", type=_source_name)
sources_argument = click.argument("names", metavar="[SOURCE]...", type=_source_name, nargs=-1)
