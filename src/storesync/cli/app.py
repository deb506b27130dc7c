"""The ``storesync`` command: its groups, the options of all commands, and its exit code."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import click

from storesync.cli.context import Operator
from storesync.cli.errors import Exit, to_error
from storesync.cli.screen import Screen
from storesync.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    type Body = Callable[..., int | None]
    type Decorator = Callable[[Body], Body]


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
            operator = Operator(screen, stack, profile, region)
            source = str(given.get("name", "SOURCE"))
            sys.exit(_exit_code(screen, source, lambda: body(operator, **given)))

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


def _exit_code(screen: Screen, source: str, work: Callable[[], int | None]) -> int:
    """Run a command for a source and return its exit code. Bugs raise."""
    try:
        return work() or Exit.OK
    except (click.Abort, KeyboardInterrupt):
        screen.note("interrupted")
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - to_error raises bugs again
        known = to_error(error).about(source)
        screen.error(known)
        return known.code


def main() -> None:
    """Run the command line. Log lines are for the functions: commands print what they find."""
    logger().setLevel("CRITICAL")
    storesync(prog_name="storesync")


# -- options that several commands have -----------------------------------------------------------


def secret_option(option: str, name: str, text: str) -> Decorator:
    """Return an option that names a file with a secret, since other users see command lines."""
    return click.option(
        option, name, type=click.File("r"), callback=_secret, metavar="FILE", help=text
    )


def pairs_option(option: str, name: str, text: str) -> Decorator:
    """Return an option that may be repeated and takes ``NAME=VALUE``."""
    return click.option(
        option, name, multiple=True, callback=_pairs, metavar="NAME=VALUE", help=text
    )


def _secret(_context: click.Context, _option: click.Parameter, file: IO[str] | None) -> str:
    """Read the file; return "" if the option is left out. A file without a text is an error."""
    if file is None:
        return ""
    try:
        with file:
            text = file.read().strip()
    except UnicodeDecodeError:
        text = ""
    if not text:
        message = f"{file.name} is empty or not a text file"
        raise click.BadParameter(message)
    return text


def _pairs(
    _context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if any(not (name and equals) for name, equals, _ in pairs):
        message = f"write it as {option.opts[0]} name=value"
        raise click.BadParameter(message)
    return {name: value for name, _, value in pairs}
